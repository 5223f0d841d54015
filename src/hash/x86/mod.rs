//! The kernels for x86-64. Each takes states and runs of blocks, goes as far as the shortest run,
//! and returns how many blocks that was.
//!
//! In the wide ones, lane `i` of every register belongs to message `i`, so a round of SHA-1 is
//! written as for one message; what is left to do is to bring word `t` of all messages into one
//! register, by transposing.

pub(super) mod ni;
pub(super) mod ymm;
pub(super) mod zmm;

/// The round constants, one for each 20 rounds (FIPS 180-4, 4.2.1).
const K: [i32; 4] = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc_u32 as i32, 0xca62c1d6_u32 as i32];

/// For the byte shuffles: turns each four bytes around, as SHA-1's words are big-endian. The high
/// and the low half of 128 bits.
const SWAP: (i64, i64) = (0x0c0d0e0f_08090a0b, 0x04050607_00010203);

/// The 80 rounds of FIPS 180-4, 6.1.2, on a block of each lane. `$w` holds the message's words, its
/// last 16 at any time.
///
/// Sums are formed so that what the last two rounds gave (`a`, and `b` in the function) comes in
/// last: the rounds wait for one another as little as they can.
macro_rules! rounds {
    ($v:ident, $w:ident, $k:ident; $add:ident, $rol:ident, $xor4:ident,
     $choose:ident, $parity:ident, $majority:ident) => {
        rounds!(@twenty $v $w $add $rol $xor4 $choose ($k[0])
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
        rounds!(@twenty $v $w $add $rol $xor4 $parity ($k[1])
            20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39);
        rounds!(@twenty $v $w $add $rol $xor4 $majority ($k[2])
            40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59);
        rounds!(@twenty $v $w $add $rol $xor4 $parity ($k[3])
            60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79);
    };
    (@twenty $v:ident $w:ident $add:ident $rol:ident $xor4:ident $f:ident ($k:expr) $($t:literal)*) => {$(
        if $t >= 16 {
            $w[$t % 16] = $rol!(
                $xor4!($w[($t + 13) % 16], $w[($t + 8) % 16], $w[($t + 2) % 16], $w[$t % 16]), 1
            );
        }
        let [a, b, c, d, e] = $v;
        let early = $add($add(e, $k), $w[$t % 16]);
        let sum = $add($rol!(a, 5), $add($f!(b, c, d), early));
        $v = [sum, a, $rol!(b, 30), c, d];
    )*};
}
use rounds;

/// A kernel: `$lanes` messages side by side, a word of each in a `$register`. `$words` brings the 16 words of
/// a block of all of them.
macro_rules! kernel {
    ($name:ident, $features:literal, $lanes:literal, $register:ty, $words:ident;
     $load:ident, $store:ident, $set:ident, $add:ident;
     $rol:ident, $xor4:ident, $choose:ident, $parity:ident, $majority:ident) => {
        #[target_feature(enable = $features)]
        pub(in super::super) fn $name(states: &mut [HashState; $lanes], runs: &[&[MessageBlock]; $lanes]) -> usize {
            const { assert!(size_of::<$register>() == size_of::<[u32; $lanes]>()) };
            let blocks = shortest(runs);
            let mut v: [$register; 5] = std::array::from_fn(|word| {
                let column: [u32; $lanes] = std::array::from_fn(|lane| states[lane][word]);
                // SAFETY: reads as many bytes as the local array has; the load needs no alignment.
                unsafe { $load(column.as_ptr().cast()) }
            });
            let k = K.map(|k| $set(k));
            for block in 0..blocks {
                let mut w = $words(runs, block);
                let before = v;
                rounds!(v, w, k; $add, $rol, $xor4, $choose, $parity, $majority);
                for (word, before) in v.iter_mut().zip(before) {
                    *word = $add(*word, before);
                }
            }
            for (word, register) in v.into_iter().enumerate() {
                let mut column = [0u32; $lanes];
                // SAFETY: writes as many bytes as the local array has; the store needs no alignment.
                unsafe { $store(column.as_mut_ptr().cast(), register) };
                for (state, value) in states.iter_mut().zip(column) {
                    state[word] = value;
                }
            }
            blocks
        }
    };
}
use kernel;
