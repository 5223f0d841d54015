//! The kernels for x86-64. Each takes states and runs of blocks, goes as far as the shortest run,
//! and returns how many blocks that was.
//!
//! In the wide ones, lane `i` of every register belongs to message `i`, so a round is written as for
//! one message; what is left to do is to bring word `t` of all messages into one
//! register, by transposing.

pub(super) mod ni;
pub(super) mod ni256;
pub(super) mod ymm;
pub(super) mod zmm;

/// The round constants of SHA-1, one for each 20 rounds (FIPS 180-4, 4.2.1).
const K: [i32; 4] = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc_u32 as i32, 0xca62c1d6_u32 as i32];

/// The round constants of SHA-256, one for each round (FIPS 180-4, 4.2.2).
#[rustfmt::skip]
const K256: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// For the byte shuffles: turns each four bytes around, as the words are big-endian. The high
/// and the low half of 128 bits.
const SWAP: (i64, i64) = (0x0c0d0e0f_08090a0b, 0x04050607_00010203);

/// The 80 rounds of SHA-1 (FIPS 180-4, 6.1.2) on a block of each lane. `$w` holds the message's words, its
/// last 16 at any time.
///
/// Sums are formed so that what the last two rounds gave (`a`, and `b` in the function) comes in
/// last: the rounds wait for one another as little as they can.
macro_rules! sha1_rounds {
    ($v:ident $w:ident ($set:ident, $add:ident, $rol:ident, $xor4:ident, $choose:ident, $parity:ident, $majority:ident)) => {
        let k = K.map(|k| $set(k));
        sha1_rounds!(@twenty $v $w $add $rol $xor4 $choose (k[0])
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
        sha1_rounds!(@twenty $v $w $add $rol $xor4 $parity (k[1])
            20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39);
        sha1_rounds!(@twenty $v $w $add $rol $xor4 $majority (k[2])
            40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59);
        sha1_rounds!(@twenty $v $w $add $rol $xor4 $parity (k[3])
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
use sha1_rounds;

/// The 64 rounds of SHA-256 (FIPS 180-4, 6.2.2) on a block of each lane; as [`sha1_rounds`]. Words are rotated to the left
/// by what is left of 32, as there the standard rotates to the right.
macro_rules! sha256_rounds {
    ($v:ident $w:ident $primitives:tt) => {
        sha256_rounds!(@rounds $v $w $primitives
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        sha256_rounds!(@rounds $v $w $primitives
            16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
        sha256_rounds!(@rounds $v $w $primitives
            32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47);
        sha256_rounds!(@rounds $v $w $primitives
            48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
    };
    (@rounds $v:ident $w:ident $primitives:tt $($t:literal)*) => {$(
        sha256_rounds!(@round $v $w $primitives $t);
    )*};
    (@round $v:ident $w:ident
     ($set:ident, $add:ident, $rol:ident, $shr:ident, $choose:ident, $parity:ident, $majority:ident) $t:literal) => {
        if $t >= 16 {
            let (far, near) = ($w[($t + 1) % 16], $w[($t + 14) % 16]);
            let far = $parity!($rol!(far, 25), $rol!(far, 14), $shr!(far, 3));
            let near = $parity!($rol!(near, 15), $rol!(near, 13), $shr!(near, 10));
            $w[$t % 16] = $add($add($add($w[$t % 16], $w[($t + 9) % 16]), far), near);
        }
        let [a, b, c, d, e, f, g, h] = $v;
        let early = $add($add(h, $set(K256[$t] as i32)), $w[$t % 16]);
        let first = $add($add(early, $choose!(e, f, g)), $parity!($rol!(e, 26), $rol!(e, 21), $rol!(e, 7)));
        let second = $add($parity!($rol!(a, 30), $rol!(a, 19), $rol!(a, 10)), $majority!(a, b, c));
        $v = [$add(first, second), a, b, c, $add(d, first), e, f, g];
    };
}
use sha256_rounds;

/// A kernel: `$lanes` messages side by side, a word of each in a `$register`. `$words` brings the 16 words of
/// a block of all of them, `$rounds` does the work by what `$primitives` names.
macro_rules! kernel {
    ($name:ident, $features:literal, $lanes:literal, $register:ty, $words:ident, $state:ty;
     $load:ident, $store:ident, $add:ident; $rounds:ident $primitives:tt) => {
        #[target_feature(enable = $features)]
        pub(in super::super) fn $name(states: &mut [$state; $lanes], runs: &[&[MessageBlock]; $lanes]) -> usize {
            const { assert!(size_of::<$register>() == size_of::<[u32; $lanes]>()) };
            let blocks = shortest(runs);
            let mut v: [$register; size_of::<$state>() / size_of::<u32>()] = std::array::from_fn(|word| {
                let column: [u32; $lanes] = std::array::from_fn(|lane| states[lane][word]);
                // SAFETY: reads as many bytes as the local array has; the load needs no alignment.
                unsafe { $load(column.as_ptr().cast()) }
            });
            for block in 0..blocks {
                let mut w = $words(runs, block);
                let before = v;
                $rounds!(v w $primitives);
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
