//! What SHA-1 and SHA-256 have of their own: where a computation begins, which kernel is best for how many messages,
//! and how it is called.
//!
//! They share what is around that: blocks of 64 bytes, padding, and a state of big-endian words (FIPS 180-4).

use super::kernel::{Kernel, Kernels};
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{Sha1, Sha256};

/// What one step of a computation takes in.
pub(super) type MessageBlock = [u8; 64];

/// The words that a SHA-1 computation hands on from block to block (FIPS 180-4, 6.1).
pub(super) type Sha1State = [u32; 5];

/// The words that a SHA-256 computation hands on from block to block (FIPS 180-4, 6.2).
pub(super) type Sha256State = [u32; 8];

/// A digest, and how it is computed.
pub(super) trait Digest: Copy {
    /// The words that a computation hands on from block to block.
    type State: Copy + std::fmt::Debug;

    /// The start of every computation.
    const INITIAL: Self::State;

    /// The digest of a message that led to this state, padding included.
    fn from_state(state: &Self::State) -> Self;

    /// With up to so many messages SHA-NI is sooner done than AVX-512. A wide kernel takes as long for one message as for all of its
    /// lanes, so with few it loses to SHA-NI, which takes what it is given.
    const FEW: usize;

    /// Messages that SHA-NI takes through its units at a time.
    const INTERLEAVED: usize;

    /// The kernel that gets through `messages` messages in the least time.
    fn best_for(kernels: Kernels, messages: usize) -> Kernel {
        if kernels.has(Kernel::Plain) && messages == 1 {
            Kernel::Plain
        } else if kernels.has(Kernel::Avx512) && (messages > Self::FEW || !kernels.has(Kernel::ShaNi)) {
            Kernel::Avx512
        } else if kernels.has(Kernel::ShaNi) {
            Kernel::ShaNi
        } else if kernels.has(Kernel::Avx2) {
            Kernel::Avx2
        } else {
            Kernel::Plain
        }
    }

    /// How many of `messages` messages (at least 1) to give to [`Digest::compress`] together; at most
    /// [`super::LANES`].
    fn group(kernels: Kernels, messages: usize) -> usize {
        match Self::best_for(kernels, messages) {
            // 8 and then up to 4 others are sooner done than 16 lanes that are not filled.
            Kernel::Avx512 => messages.min(if messages > 12 { 16 } else { 8 }),
            Kernel::Avx2 => messages.min(8),
            Kernel::ShaNi => even_group(messages, Self::INTERLEAVED),
            Kernel::Plain => 1,
        }
    }

    /// Takes each state through as many blocks as the shortest run has, and returns how many these
    /// were. There is a run for each state, and no more of them than [`Digest::group`] gives.
    fn compress(kernels: Kernels, states: &mut [Self::State], runs: &[&[MessageBlock]]) -> usize;
}

impl Digest for Sha1 {
    type State = Sha1State;

    // FIPS 180-4, 5.3.1.
    const INITIAL: Sha1State = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];

    fn from_state(state: &Sha1State) -> Sha1 {
        Sha1(bytes_of(state))
    }

    // From `benches/hash.rs` on Zen 4 and Zen 5 (for 256-bit registers on Zen 4 alone).
    const FEW: usize = 5;
    const INTERLEAVED: usize = 4;

    fn compress(kernels: Kernels, states: &mut [Sha1State], runs: &[&[MessageBlock]]) -> usize {
        #[cfg(target_arch = "x86_64")]
        match Self::best_for(kernels, states.len()) {
            Kernel::Avx512 if states.len() <= 8 => {
                // SAFETY: `Kernels` has it only if the processor has AVX-512 F and VL, and AVX2.
                return padded(states, runs, |s, r| unsafe { x86::ymm::avx512(s, r) });
            }
            // SAFETY: `Kernels` has it only if the processor has AVX-512 F and BW.
            Kernel::Avx512 => return padded(states, runs, |s, r| unsafe { x86::zmm::avx512(s, r) }),
            // SAFETY: `Kernels` has it only if the processor has AVX2.
            Kernel::Avx2 => return padded(states, runs, |s, r| unsafe { x86::ymm::avx2(s, r) }),
            // SAFETY: `Kernels` has it only if the processor has SHA and SSE4.1, which brings those before it.
            Kernel::ShaNi => return unsafe { x86::ni::compress(states, runs) },
            Kernel::Plain => {}
        }
        let blocks = shortest(runs);
        for (state, run) in states.iter_mut().zip(runs) {
            sha1::block_api::compress(state, &run[..blocks]);
        }
        blocks
    }
}

impl Digest for Sha256 {
    type State = Sha256State;

    // FIPS 180-4, 5.3.3.
    const INITIAL: Sha256State =
        [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

    fn from_state(state: &Sha256State) -> Sha256 {
        Sha256(bytes_of(state))
    }

    // From `benches/hash.rs` on Zen 4, where 8 lanes and 16 do as much a second, a quarter more than SHA-NI; and on Zen 3, where 2 messages
    // interleaved do 2.05 GiB/s and 3 do 1.93.
    const FEW: usize = 6;
    const INTERLEAVED: usize = 2;

    fn compress(kernels: Kernels, states: &mut [Sha256State], runs: &[&[MessageBlock]]) -> usize {
        #[cfg(target_arch = "x86_64")]
        match Self::best_for(kernels, states.len()) {
            Kernel::Avx512 if states.len() <= 8 => {
                // SAFETY: `Kernels` has it only if the processor has AVX-512 F and VL, and AVX2.
                return padded(states, runs, |s, r| unsafe { x86::ymm::sha256_avx512(s, r) });
            }
            // SAFETY: `Kernels` has it only if the processor has AVX-512 F and BW.
            Kernel::Avx512 => return padded(states, runs, |s, r| unsafe { x86::zmm::sha256_avx512(s, r) }),
            // SAFETY: `Kernels` has it only if the processor has AVX2.
            Kernel::Avx2 => return padded(states, runs, |s, r| unsafe { x86::ymm::sha256_avx2(s, r) }),
            // SAFETY: `Kernels` has it only if the processor has SHA and SSE4.1, which brings those before it.
            Kernel::ShaNi => return unsafe { x86::ni256::compress(states, runs) },
            Kernel::Plain => {}
        }
        let blocks = shortest(runs);
        for (state, run) in states.iter_mut().zip(runs) {
            sha2::block_api::compress256(state, &run[..blocks]);
        }
        blocks
    }
}

/// The first of groups of up to `most` messages that differ by one at the most: 3 + 3 are faster than 4 + 2.
fn even_group(messages: usize, most: usize) -> usize {
    messages.div_ceil(messages.div_ceil(most))
}

/// The words of a state, big-endian.
fn bytes_of<const WORDS: usize, const BYTES: usize>(state: &[u32; WORDS]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

/// Blocks in the shortest run.
pub(super) fn shortest(runs: &[&[MessageBlock]]) -> usize {
    runs.iter().map(|run| run.len()).min().unwrap_or(0)
}

/// Calls a kernel that has `N` lanes for up to `N` messages. Lanes without a message repeat the
/// first one, whose bytes are in the cache anyway.
#[cfg(target_arch = "x86_64")]
fn padded<State: Copy, const N: usize>(
    states: &mut [State],
    runs: &[&[MessageBlock]],
    kernel: impl Fn(&mut [State; N], &[&[MessageBlock]; N]) -> usize,
) -> usize {
    let lane = |index: usize| if index < states.len() { index } else { 0 };
    let mut all = std::array::from_fn(|index| states[lane(index)]);
    let blocks = kernel(&mut all, &std::array::from_fn(|index| runs[lane(index)]));
    states.copy_from_slice(&all[..states.len()]);
    blocks
}
