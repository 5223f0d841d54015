//! 8 messages side by side in 256-bit registers, by AVX2 alone or with what AVX-512 VL adds: words are
//! rotated and three of them combined in one instruction each, instead of three and two to four.

use super::super::digest::{MessageBlock, Sha1State, Sha256State, shortest};
use super::{K, K256, SWAP, kernel, sha1_rounds, sha256_rounds};
use std::arch::x86_64::*;

macro_rules! rol {
    ($x:expr, $by:literal) => {{
        let x = $x;
        _mm256_or_si256(_mm256_slli_epi32::<$by>(x), _mm256_srli_epi32::<{ 32 - $by }>(x))
    }};
}
macro_rules! shr {
    ($x:expr, $by:literal) => {
        _mm256_srli_epi32::<$by>($x)
    };
}
macro_rules! choose {
    ($x:expr, $y:expr, $z:expr) => {
        _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256($y, $z), $x), $z)
    };
}
macro_rules! parity {
    ($x:expr, $y:expr, $z:expr) => {
        _mm256_xor_si256(_mm256_xor_si256($y, $z), $x)
    };
}
macro_rules! majority {
    ($x:expr, $y:expr, $z:expr) => {
        _mm256_or_si256(_mm256_and_si256(_mm256_or_si256($y, $z), $x), _mm256_and_si256($y, $z))
    };
}
macro_rules! xor4 {
    ($p:expr, $q:expr, $r:expr, $s:expr) => {
        _mm256_xor_si256(parity!($q, $r, $s), $p)
    };
}
kernel!(
    avx2, "avx2", 8, __m256i, words, Sha1State;
    _mm256_loadu_si256, _mm256_storeu_si256, _mm256_add_epi32;
    sha1_rounds (_mm256_set1_epi32, _mm256_add_epi32, rol, xor4, choose, parity, majority)
);
kernel!(
    sha256_avx2, "avx2", 8, __m256i, words, Sha256State;
    _mm256_loadu_si256, _mm256_storeu_si256, _mm256_add_epi32;
    sha256_rounds (_mm256_set1_epi32, _mm256_add_epi32, rol, shr, choose, parity, majority)
);

macro_rules! rol_vl {
    ($x:expr, $by:literal) => {
        _mm256_rol_epi32::<$by>($x)
    };
}
// The constants are truth tables: bit `4x + 2y + z` is the result for bits x, y, z.
macro_rules! choose_vl {
    ($x:expr, $y:expr, $z:expr) => {
        _mm256_ternarylogic_epi32::<0xca>($x, $y, $z)
    };
}
macro_rules! parity_vl {
    ($x:expr, $y:expr, $z:expr) => {
        _mm256_ternarylogic_epi32::<0x96>($x, $y, $z)
    };
}
macro_rules! majority_vl {
    ($x:expr, $y:expr, $z:expr) => {
        _mm256_ternarylogic_epi32::<0xe8>($x, $y, $z)
    };
}
macro_rules! xor4_vl {
    ($p:expr, $q:expr, $r:expr, $s:expr) => {
        _mm256_xor_si256(parity_vl!($q, $r, $s), $p)
    };
}
kernel!(
    avx512, "avx2,avx512f,avx512vl", 8, __m256i, words, Sha1State;
    _mm256_loadu_si256, _mm256_storeu_si256, _mm256_add_epi32;
    sha1_rounds (_mm256_set1_epi32, _mm256_add_epi32, rol_vl, xor4_vl, choose_vl, parity_vl, majority_vl)
);
kernel!(
    sha256_avx512, "avx2,avx512f,avx512vl", 8, __m256i, words, Sha256State;
    _mm256_loadu_si256, _mm256_storeu_si256, _mm256_add_epi32;
    sha256_rounds (_mm256_set1_epi32, _mm256_add_epi32, rol_vl, shr, choose_vl, parity_vl, majority_vl)
);

/// The words of the `block`th block of all runs: register `t` has word `t` of each.
#[inline]
#[target_feature(enable = "avx2")]
fn words(runs: &[&[MessageBlock]; 8], block: usize) -> [__m256i; 16] {
    let [low, high] = [load(runs, block, 0), load(runs, block, 1)];
    std::array::from_fn(|t| if t < 8 { low[t] } else { high[t - 8] })
}

/// Words 0 to 7, or for `half` 1 words 8 to 15, of the `block`th block of all runs: register `t` has
/// the `t`th of them of each.
#[inline]
#[target_feature(enable = "avx2")]
fn load(runs: &[&[MessageBlock]; 8], block: usize, half: usize) -> [__m256i; 8] {
    let swap = _mm256_set_epi64x(SWAP.0, SWAP.1, SWAP.0, SWAP.1);
    let rows: [__m256i; 8] = std::array::from_fn(|lane| {
        let (halves, _) = runs[lane][block].as_chunks::<32>();
        // SAFETY: reads 32 bytes of an array of that size; the load needs no alignment.
        unsafe { _mm256_loadu_si256(halves[half].as_ptr().cast()) }
    });
    // Four rows at a time: after this, half `h` of `quads[i][j]` has word `4h + j` of rows 4i to 4i + 3.
    let quads: [[__m256i; 4]; 2] = std::array::from_fn(|i| {
        let [r0, r1, r2, r3] = std::array::from_fn(|j| _mm256_shuffle_epi8(rows[4 * i + j], swap));
        let (low01, high01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
        let (low23, high23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
        [
            _mm256_unpacklo_epi64(low01, low23),
            _mm256_unpackhi_epi64(low01, low23),
            _mm256_unpacklo_epi64(high01, high23),
            _mm256_unpackhi_epi64(high01, high23),
        ]
    });
    std::array::from_fn(|t| {
        let [upper, lower] = [quads[0][t % 4], quads[1][t % 4]];
        if t < 4 {
            _mm256_permute2x128_si256::<0x20>(upper, lower)
        } else {
            _mm256_permute2x128_si256::<0x31>(upper, lower)
        }
    })
}
