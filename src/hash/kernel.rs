//! Which SHA-1 kernels there are, which of them this processor has, and which is best for how many
//! messages.
//!
//! Owns the only way to a kernel: a [`Kernels`] value never holds one that the processor lacks.

#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{HashState, MessageBlock};
use std::sync::OnceLock;

/// A way to compute SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kernel {
    /// 8 or 16 messages side by side by AVX-512, in registers of 256 or 512 bits.
    Avx512,
    /// Up to 4 messages, interleaved, by the SHA instructions of x86.
    ShaNi,
    /// 8 messages side by side by AVX2.
    Avx2,
    /// One message at a time by the `sha1` crate, which itself uses the SHA instructions of x86
    /// and ARM where there are any.
    Plain,
}

impl Kernel {
    const ALL: [Kernel; 4] = [Kernel::Avx512, Kernel::ShaNi, Kernel::Avx2, Kernel::Plain];

    /// Those that this processor has.
    pub fn available() -> Vec<Kernel> {
        Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()).collect()
    }

    /// What `BTGET_SHA1` and the benchmark call it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Avx512 => "avx512",
            Kernel::Avx2 => "avx2",
            Kernel::ShaNi => "ni",
            Kernel::Plain => "plain",
        }
    }

    /// The kernel of that [`Kernel::name`].
    pub fn from_name(name: &str) -> Option<Kernel> {
        Kernel::ALL.into_iter().find(|kernel| kernel.name() == name)
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Kernel::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx2")
            }
            Kernel::Avx2 => is_x86_feature_detected!("avx2"),
            Kernel::ShaNi => is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1"),
            Kernel::Plain => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Kernel::Plain
    }
}

/// The [`Kernel::name`]s of those that this processor has, best first.
pub fn kernel_names() -> Vec<&'static str> {
    Kernel::available().into_iter().map(Kernel::name).collect()
}

/// The kernels to choose from for each number of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kernels {
    // Set only if the processor has it: `compress` relies on that for soundness.
    avx512: bool,
    avx2: bool,
    sha_ni: bool,
    plain: bool,
}

impl Kernels {
    /// All that this processor has.
    pub fn detect() -> Kernels {
        Kernels {
            avx512: Kernel::Avx512.is_available(),
            avx2: Kernel::Avx2.is_available(),
            sha_ni: Kernel::ShaNi.is_available(),
            plain: true,
        }
    }

    /// Just this one, whatever the number of messages; `None` if the processor lacks it.
    pub fn only(kernel: Kernel) -> Option<Kernels> {
        kernel.is_available().then_some(Kernels {
            avx512: kernel == Kernel::Avx512,
            avx2: kernel == Kernel::Avx2,
            sha_ni: kernel == Kernel::ShaNi,
            plain: kernel == Kernel::Plain,
        })
    }

    /// The one that `BTGET_SHA1` names, if the processor has it, else [`Kernels::detect`].
    pub fn chosen() -> Kernels {
        static CHOSEN: OnceLock<Kernels> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let name = std::env::var("BTGET_SHA1").unwrap_or_default();
            Kernel::from_name(&name).and_then(Kernels::only).unwrap_or_else(Kernels::detect)
        })
    }

    /// The kernel that gets through `messages` messages in the least time.
    ///
    /// The bounds are from `benches/hash.rs` on Zen 4 and Zen 5 (for 256-bit registers on Zen 4 alone): a
    /// wide kernel takes as long for one message as for all of its lanes, so with few it loses to SHA-NI,
    /// which takes what it is given.
    pub(super) fn best_for(self, messages: usize) -> Kernel {
        if self.plain && messages == 1 {
            Kernel::Plain
        } else if self.avx512 && (messages > 5 || !self.sha_ni) {
            Kernel::Avx512
        } else if self.sha_ni {
            Kernel::ShaNi
        } else if self.avx2 {
            Kernel::Avx2
        } else {
            Kernel::Plain
        }
    }

    /// How many of `messages` messages (at least 1) to give to [`Kernels::compress`] together.
    pub(super) fn group(self, messages: usize) -> usize {
        match self.best_for(messages) {
            // 8 and then up to 4 others are sooner done than 16 lanes that are not filled.
            Kernel::Avx512 => messages.min(if messages > 12 { 16 } else { 8 }),
            Kernel::Avx2 => messages.min(8),
            // Even groups, as 3 + 3 is faster than 4 + 2.
            Kernel::ShaNi => messages.div_ceil(messages.div_ceil(4)),
            Kernel::Plain => 1,
        }
    }

    /// Takes each state through as many blocks as the shortest run has, and returns how many these
    /// were. There is a run for each state, and no more of them than [`Kernels::group`] gives.
    pub(super) fn compress(self, states: &mut [HashState], runs: &[&[MessageBlock]]) -> usize {
        #[cfg(target_arch = "x86_64")]
        match self.best_for(states.len()) {
            Kernel::Avx512 if states.len() <= 8 => {
                // SAFETY: `avx512` is set only if the processor has AVX-512 F and VL, and AVX2.
                return padded(states, runs, |s, r| unsafe { x86::ymm::avx512(s, r) });
            }
            // SAFETY: `avx512` is set only if the processor has AVX-512 F and BW.
            Kernel::Avx512 => return padded(states, runs, |s, r| unsafe { x86::zmm::avx512(s, r) }),
            // SAFETY: `avx2` is set only if the processor has AVX2.
            Kernel::Avx2 => return padded(states, runs, |s, r| unsafe { x86::ymm::avx2(s, r) }),
            // SAFETY: `sha_ni` is set only if the processor has SHA and SSE4.1, which brings those before it.
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

/// Blocks in the shortest run.
pub(super) fn shortest(runs: &[&[MessageBlock]]) -> usize {
    runs.iter().map(|run| run.len()).min().unwrap_or(0)
}

/// Calls a kernel that has `N` lanes for up to `N` messages. Lanes without a message repeat the
/// first one, whose bytes are in the cache anyway.
#[cfg(target_arch = "x86_64")]
fn padded<const N: usize>(
    states: &mut [HashState],
    runs: &[&[MessageBlock]],
    kernel: impl Fn(&mut [HashState; N], &[&[MessageBlock]; N]) -> usize,
) -> usize {
    let lane = |index: usize| if index < states.len() { index } else { 0 };
    let mut all = std::array::from_fn(|index| states[lane(index)]);
    let blocks = kernel(&mut all, &std::array::from_fn(|index| runs[lane(index)]));
    states.copy_from_slice(&all[..states.len()]);
    blocks
}
