//! 16 messages side by side in 512-bit registers, by AVX-512 F and BW.

use super::super::digest::{MessageBlock, Sha1State, Sha256State, shortest};
use super::{K, K256, SWAP, kernel, sha1_rounds, sha256_rounds};
use std::arch::x86_64::*;

/// How far ahead of the block in work to ask for memory, in bytes. The processor fetches ahead by
/// itself too, but not well enough for 16 streams: without this, measured on Zen 5, 1 to 3 % of the
/// time is lost with data in the cache, and up to half with data in memory.
const AHEAD: usize = 512;

macro_rules! rol {
    ($x:expr, $by:literal) => {
        _mm512_rol_epi32::<$by>($x)
    };
}
macro_rules! shr {
    ($x:expr, $by:literal) => {
        _mm512_srli_epi32::<$by>($x)
    };
}
// The constants are truth tables: bit `4x + 2y + z` is the result for bits x, y, z.
macro_rules! choose {
    ($x:expr, $y:expr, $z:expr) => {
        _mm512_ternarylogic_epi32::<0xca>($x, $y, $z)
    };
}
macro_rules! parity {
    ($x:expr, $y:expr, $z:expr) => {
        _mm512_ternarylogic_epi32::<0x96>($x, $y, $z)
    };
}
macro_rules! majority {
    ($x:expr, $y:expr, $z:expr) => {
        _mm512_ternarylogic_epi32::<0xe8>($x, $y, $z)
    };
}
macro_rules! xor4 {
    ($p:expr, $q:expr, $r:expr, $s:expr) => {
        _mm512_xor_si512(parity!($q, $r, $s), $p)
    };
}

kernel!(
    avx512, "avx512f,avx512bw", 16, __m512i, words, Sha1State;
    _mm512_loadu_si512, _mm512_storeu_si512, _mm512_add_epi32;
    sha1_rounds (_mm512_set1_epi32, _mm512_add_epi32, rol, xor4, choose, parity, majority)
);
kernel!(
    sha256_avx512, "avx512f,avx512bw", 16, __m512i, words, Sha256State;
    _mm512_loadu_si512, _mm512_storeu_si512, _mm512_add_epi32;
    sha256_rounds (_mm512_set1_epi32, _mm512_add_epi32, rol, shr, choose, parity, majority)
);

/// The words of the `block`th block of all runs: register `t` has word `t` of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn words(runs: &[&[MessageBlock]; 16], block: usize) -> [__m512i; 16] {
    let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(SWAP.0, SWAP.1));
    let rows: [__m512i; 16] = std::array::from_fn(|lane| {
        let row = runs[lane][block].as_ptr();
        #[allow(unused_unsafe, reason = "newer compilers count it as safe, the oldest we take does not")]
        // SAFETY: a hint; it reads nothing, so the address may lie behind the run.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(AHEAD).cast())
        };
        // SAFETY: reads 64 bytes of a block, which has as many; the load needs no alignment.
        unsafe { _mm512_loadu_si512(row.cast()) }
    });
    // Four rows at a time: after this, quarter `q` of `quads[i][j]` has word `4q + j` of rows 4i to 4i + 3.
    let quads: [[__m512i; 4]; 4] = std::array::from_fn(|i| {
        let [r0, r1, r2, r3] = std::array::from_fn(|j| _mm512_shuffle_epi8(rows[4 * i + j], swap));
        let (low01, high01) = (_mm512_unpacklo_epi32(r0, r1), _mm512_unpackhi_epi32(r0, r1));
        let (low23, high23) = (_mm512_unpacklo_epi32(r2, r3), _mm512_unpackhi_epi32(r2, r3));
        [
            _mm512_unpacklo_epi64(low01, low23),
            _mm512_unpackhi_epi64(low01, low23),
            _mm512_unpacklo_epi64(high01, high23),
            _mm512_unpackhi_epi64(high01, high23),
        ]
    });
    // Then the same with quarters for words.
    let mut w = [_mm512_setzero_si512(); 16];
    for j in 0..4 {
        let [q0, q1, q2, q3] = [quads[0][j], quads[1][j], quads[2][j], quads[3][j]];
        let (even01, odd01) = (_mm512_shuffle_i32x4::<0x88>(q0, q1), _mm512_shuffle_i32x4::<0xdd>(q0, q1));
        let (even23, odd23) = (_mm512_shuffle_i32x4::<0x88>(q2, q3), _mm512_shuffle_i32x4::<0xdd>(q2, q3));
        w[j] = _mm512_shuffle_i32x4::<0x88>(even01, even23);
        w[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd01, odd23);
        w[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even01, even23);
        w[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd01, odd23);
    }
    w
}
