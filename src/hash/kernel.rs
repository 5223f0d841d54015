//! Which kernels there are, and which of them this processor has.
//!
//! A [`Kernels`] value never holds one that the processor lacks. Which is best for how many messages, and how it
//! is called, says [`super::digest`].

use std::sync::OnceLock;

/// A way to compute SHA-1 and SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kernel {
    /// 8 or 16 messages side by side by AVX-512, in registers of 256 or 512 bits.
    Avx512,
    /// Up to 4 messages, of SHA-256 up to 2, interleaved, by the SHA instructions of x86.
    ShaNi,
    /// 8 messages side by side by AVX2.
    Avx2,
    /// One message at a time by the crates `sha1` and `sha2`, which themselves use the SHA instructions of
    /// x86 and ARM where there are any.
    Plain,
}

impl Kernel {
    const ALL: [Kernel; 4] = [Kernel::Avx512, Kernel::ShaNi, Kernel::Avx2, Kernel::Plain];

    /// Those that this processor has.
    pub fn available() -> Vec<Kernel> {
        Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()).collect()
    }

    /// What `BTGET_HASH_KERNEL` and the benchmark call it.
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
    // Set only if the processor has it: `Digest::compress` relies on that for soundness.
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

    /// The one that `BTGET_HASH_KERNEL` names, if the processor has it, else [`Kernels::detect`].
    pub fn chosen() -> Kernels {
        static CHOSEN: OnceLock<Kernels> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let name = std::env::var("BTGET_HASH_KERNEL").unwrap_or_default();
            Kernel::from_name(&name).and_then(Kernels::only).unwrap_or_else(Kernels::detect)
        })
    }

    /// Whether this one is to be used; never of one that the processor lacks.
    pub(super) fn has(self, kernel: Kernel) -> bool {
        match kernel {
            Kernel::Avx512 => self.avx512,
            Kernel::ShaNi => self.sha_ni,
            Kernel::Avx2 => self.avx2,
            Kernel::Plain => self.plain,
        }
    }
}
