//! SHA-1 of up to 4 messages, interleaved, by the SHA instructions.
//!
//! These do four rounds of one message at a time and take several cycles for it, in which they can
//! begin others: so the work of up to four messages is dealt out in turns. More than four give
//! nothing, since the 16 registers that the instructions can name are used up.

use super::super::digest::{MessageBlock, Sha1State, shortest};
use std::arch::x86_64::*;

/// For 1 to 4 messages.
#[target_feature(enable = "sha,sse4.1,ssse3,sse2")]
pub(in super::super) fn compress(states: &mut [Sha1State], runs: &[&[MessageBlock]]) -> usize {
    match (states, runs) {
        ([a], [p]) => interleaved([a], [p]),
        ([a, b], [p, q]) => interleaved([a, b], [p, q]),
        ([a, b, c], [p, q, r]) => interleaved([a, b, c], [p, q, r]),
        ([a, b, c, d], [p, q, r, s]) => interleaved([a, b, c, d], [p, q, r, s]),
        (states, runs) => unreachable!("{} states and {} runs in a group of 4", states.len(), runs.len()),
    }
}

#[target_feature(enable = "sha,sse4.1,ssse3,sse2")]
fn interleaved<const N: usize>(states: [&mut Sha1State; N], runs: [&[MessageBlock]; N]) -> usize {
    let blocks = shortest(&runs);
    // Word 0 goes to the highest quarter of a register, as the instructions want it, and each word is
    // big-endian in the message: together that turns all 16 bytes around.
    let swap = _mm_set_epi64x(0x00010203_04050607, 0x08090a0b_0c0d0e0f);
    let mut abcd: [__m128i; N] = std::array::from_fn(|i| {
        let [a, b, c, d, _] = states[i].map(|word| word as i32);
        _mm_set_epi32(a, b, c, d)
    });
    let mut e: [__m128i; N] = std::array::from_fn(|i| _mm_set_epi32(states[i][4] as i32, 0, 0, 0));
    for block in 0..blocks {
        let taken: [&MessageBlock; N] = runs.map(|run| &run[block]);
        let (abcd_before, e_before) = (abcd, e);
        let mut w: [[__m128i; N]; 4] = std::array::from_fn(|quarter| {
            std::array::from_fn(|i| {
                let (quarters, _) = taken[i].as_chunks::<16>();
                // SAFETY: reads 16 bytes of an array of that size; the load needs no alignment.
                let words = unsafe { _mm_loadu_si128(quarters[quarter].as_ptr().cast()) };
                _mm_shuffle_epi8(words, swap)
            })
        });
        // Four rounds of every message; `e` turns from what goes in into what the next four need.
        macro_rules! four_rounds {
            ($($group:literal)*) => {$(
                for i in 0..N {
                    if $group >= 4 {
                        let mixed = _mm_sha1msg1_epu32(w[$group % 4][i], w[($group + 1) % 4][i]);
                        let mixed = _mm_xor_si128(mixed, w[($group + 2) % 4][i]);
                        w[$group % 4][i] = _mm_sha1msg2_epu32(mixed, w[($group + 3) % 4][i]);
                    }
                    let sum = if $group == 0 {
                        _mm_add_epi32(e[i], w[0][i])
                    } else {
                        _mm_sha1nexte_epu32(e[i], w[$group % 4][i])
                    };
                    e[i] = abcd[i];
                    abcd[i] = _mm_sha1rnds4_epu32::<{ $group / 5 }>(abcd[i], sum);
                }
            )*};
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
        for i in 0..N {
            e[i] = _mm_sha1nexte_epu32(e[i], e_before[i]);
            abcd[i] = _mm_add_epi32(abcd[i], abcd_before[i]);
        }
    }
    for (i, state) in states.into_iter().enumerate() {
        let words = [
            _mm_extract_epi32::<3>(abcd[i]),
            _mm_extract_epi32::<2>(abcd[i]),
            _mm_extract_epi32::<1>(abcd[i]),
            _mm_extract_epi32::<0>(abcd[i]),
            _mm_extract_epi32::<3>(e[i]),
        ];
        *state = words.map(|word| word as u32);
    }
    blocks
}
