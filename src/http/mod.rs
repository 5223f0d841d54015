//! How HTTP and HTTPS servers are reached, for whoever asks them: with ureq, or its parts, on the caller's thread, from the local address that the user
//! wishes, by the proxies of the environment, over connections that are looked at before a byte is sent.
//!
//! Owns connections, proxies, certificates, names and the handling of URLs. Never decides what is asked, nor what an answer means.

mod agent;
mod chunks;
mod connect;
mod device;
mod download;
mod family;
mod head;
mod headers;
mod pipeline;
mod proxy;
mod reach;
pub(crate) mod resolve;
mod through;
mod tidied;
pub(crate) mod url;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use chunks::Dechunker;
pub use head::{Head, tidy};

pub(crate) use agent::{LARGE_BUFFER, Route, agent, explain, location_of};
pub(crate) use connect::{FIRST_SLICE, is_to_be_repeated};
pub(crate) use device::ask_device;
pub use download::{Download, DownloadError, DownloadOptions, download};
pub(crate) use family::Family;
pub(crate) use headers::{coding_of, length_of};
pub(crate) use pipeline::{Pipeline, Way};
pub(crate) use proxy::Detour;
pub use proxy::Proxies;
pub(crate) use reach::{LeadsInside, Reach};
pub(crate) use through::{ThroughError, ask_proxy};
pub(crate) use watch::Line;
pub use watch::{Step, Watch};

/// Redirects that are followed.
pub const MAX_REDIRECTS: usize = 5;

/// The longest that one wait for a server takes: for a connection, for the next bytes, for room to send.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);

/// PEM file of the authorities that the user trusts (`SSL_CERT_FILE`).
pub(crate) fn ca_file_from_env() -> Option<PathBuf> {
    std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What servers are told that we are.
pub(crate) const USER_AGENT: &str = concat!("btget/", env!("CARGO_PKG_VERSION"));

/// Asked, a few times a second while a request waits, whether it is to give its thread to something else. The default is never.
#[derive(Clone, Default)]
pub struct Interrupt(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Interrupt {
    /// `is_due` must not block.
    pub fn new(is_due: impl Fn() -> bool + Send + Sync + 'static) -> Interrupt {
        Interrupt(Some(Arc::new(is_due)))
    }

    pub(crate) fn is_due(&self) -> bool {
        self.0.as_ref().is_some_and(|is_due| is_due())
    }

    /// How much of the time `left` may be waited for at once; never 0, which would be no limit at all.
    pub(crate) fn slice(&self, left: Duration) -> Duration {
        self.slice_of(left, connect::SLICE)
    }

    fn slice_of(&self, left: Duration, slice: Duration) -> Duration {
        let most = if self.0.is_some() { slice } else { Duration::MAX };
        left.min(most).max(Duration::from_millis(1))
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}
