//! SHA-256 of up to 2 messages, interleaved, by the SHA instructions.
//!
//! These do two rounds of one message at a time, and each pair of rounds waits for the one before: the work of another
//! message goes in between. Each message takes six registers of sixteen, so a third would be in memory part of the time.

use super::super::digest::{MessageBlock, Sha256State, shortest};
use super::{K256, SWAP};
use std::arch::x86_64::*;

/// For 1 or 2 messages.
#[target_feature(enable = "sha,sse4.1,ssse3,sse2")]
pub(in super::super) fn compress(states: &mut [Sha256State], runs: &[&[MessageBlock]]) -> usize {
    match (states, runs) {
        ([a], [p]) => interleaved([a], [p]),
        ([a, b], [p, q]) => interleaved([a, b], [p, q]),
        (states, runs) => unreachable!("{} states and {} runs in a group of 2", states.len(), runs.len()),
    }
}

#[target_feature(enable = "sha,sse4.1,ssse3,sse2")]
fn interleaved<const N: usize>(states: [&mut Sha256State; N], runs: [&[MessageBlock]; N]) -> usize {
    let blocks = shortest(&runs);
    let swap = _mm_set_epi64x(SWAP.0, SWAP.1);
    // The instructions want the words of a state in two registers, in this order, from the highest quarter down.
    let mut abef: [__m128i; N] = std::array::from_fn(|i| {
        let [a, b, _, _, e, f, _, _] = states[i].map(|word| word as i32);
        _mm_set_epi32(a, b, e, f)
    });
    let mut cdgh: [__m128i; N] = std::array::from_fn(|i| {
        let [_, _, c, d, _, _, g, h] = states[i].map(|word| word as i32);
        _mm_set_epi32(c, d, g, h)
    });
    for block in 0..blocks {
        let taken: [&MessageBlock; N] = runs.map(|run| &run[block]);
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut w: [[__m128i; N]; 4] = std::array::from_fn(|quarter| {
            std::array::from_fn(|i| {
                let (quarters, _) = taken[i].as_chunks::<16>();
                // SAFETY: reads 16 bytes of an array of that size; the load needs no alignment.
                let words = unsafe { _mm_loadu_si128(quarters[quarter].as_ptr().cast()) };
                _mm_shuffle_epi8(words, swap)
            })
        });
        // Four rounds of every message.
        macro_rules! four_rounds {
            ($($group:literal)*) => {$(
                let [k0, k1, k2, k3]: [i32; 4] = std::array::from_fn(|i| K256[4 * $group + i] as i32);
                let k = _mm_set_epi32(k3, k2, k1, k0);
                for i in 0..N {
                    if $group >= 4 {
                        let last = w[($group + 3) % 4][i];
                        let mixed = _mm_sha256msg1_epu32(w[$group % 4][i], w[($group + 1) % 4][i]);
                        let mixed = _mm_add_epi32(mixed, _mm_alignr_epi8::<4>(last, w[($group + 2) % 4][i]));
                        w[$group % 4][i] = _mm_sha256msg2_epu32(mixed, last);
                    }
                    let sum = _mm_add_epi32(w[$group % 4][i], k);
                    cdgh[i] = _mm_sha256rnds2_epu32(cdgh[i], abef[i], sum);
                    // The instruction takes the lower two words.
                    abef[i] = _mm_sha256rnds2_epu32(abef[i], cdgh[i], _mm_shuffle_epi32::<0x0e>(sum));
                }
            )*};
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for i in 0..N {
            abef[i] = _mm_add_epi32(abef[i], abef_before[i]);
            cdgh[i] = _mm_add_epi32(cdgh[i], cdgh_before[i]);
        }
    }
    for (i, state) in states.into_iter().enumerate() {
        let words = [
            _mm_extract_epi32::<3>(abef[i]),
            _mm_extract_epi32::<2>(abef[i]),
            _mm_extract_epi32::<3>(cdgh[i]),
            _mm_extract_epi32::<2>(cdgh[i]),
            _mm_extract_epi32::<1>(abef[i]),
            _mm_extract_epi32::<0>(abef[i]),
            _mm_extract_epi32::<1>(cdgh[i]),
            _mm_extract_epi32::<0>(cdgh[i]),
        ];
        *state = words.map(|word| word as u32);
    }
    blocks
}
