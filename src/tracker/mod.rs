//! Talks to trackers: one announce, one answer, over HTTP(S) or UDP.
//!
//! [`announce`] blocks; it ends within [`Options::timeout`], whatever the tracker does, but for a name server that is slower than that.
//! [`AnnouncePool`] has the threads for it. Decides nothing: when and where to announce is [`crate::finder::announce`]'s, whose
//! [`Answer`] and [`AnnounceFailure`] it fills.

pub mod answer;
mod families;
mod http;
mod names;
mod pool;
mod queue;
mod udp;
mod url;

use std::path::PathBuf;
use std::time::Duration;

pub use families::Early;
pub use pool::AnnouncePool;

use crate::bind::Local;
use crate::http::ca_file_from_env;
pub use crate::http::{Interrupt, MAX_REDIRECTS, Proxies, Step, Watch};

use crate::finder::announce::{AnnounceEvent, AnnounceFailure, Answer};
use crate::ids::{PeerId, WireHash};

/// What a UDP tracker's answer says behind action and transaction id, if it is one; for fuzzers.
#[cfg(feature = "internals")]
pub fn parse_udp(body: &[u8], is_ipv6: bool) -> Option<Answer> {
    udp::read_answer(body, is_ipv6).ok()
}

/// Peers kept of one answer.
pub const MAX_PEERS: usize = 1000;

/// Bytes of an HTTP answer after inflating; a larger one is a failure.
pub const MAX_BODY: usize = 1024 * 1024;

/// The longest that one announce takes, all in all.
pub const TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
impl Request {
    /// What a test asks where hardly anything of it matters.
    fn to(url: impl Into<String>) -> Request {
        Request {
            url: url.into(),
            is_users: false,
            info_hash: WireHash([7; 20]),
            peer_id: PeerId(*b"-bg010U-abcdefghijkl"),
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            event: None,
            numwant: 0,
            key: 0,
            tracker_id: None,
        }
    }
}

/// What a tracker is told.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tracker's URL, as the torrent or the user gives it.
    pub url: String,
    /// The user has given the URL, so it may lead anywhere; a torrent's leads inside only for an announce.
    pub is_users: bool,
    /// Which torrent.
    pub info_hash: WireHash,
    /// Who we are to peers.
    pub peer_id: PeerId,
    /// Where we listen. The address is that of the connection.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes of the torrent that are not there yet, wanted or not.
    pub left: u64,
    /// What has happened, if anything.
    pub event: Option<AnnounceEvent>,
    /// Peers wanted.
    pub numwant: u32,
    /// Tells the tracker that it is us though our address changes; the same for a whole run, unknown to peers.
    pub key: u32,
    /// BEP 3 `trackerid` of an earlier answer.
    pub tracker_id: Option<Vec<u8>>,
}

/// How trackers are reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest that an announce takes, name lookup, redirects and all. UDP takes 15 s at the most.
    pub timeout: Duration,
    /// What all connections and packets are bound to, those to proxies too: of an address, only its family is used.
    pub local: Local,
    /// Proxies for HTTP; the default is none, see [`Proxies::from_env`].
    pub proxies: Proxies,
    /// PEM file of the authorities that sign trackers' certificates, instead of the bundled ones (Mozilla's).
    pub ca_file: Option<PathBuf>,
    /// Who is told of connections and lengths.
    pub watch: Option<Watch>,
    /// Whether the thread is needed elsewhere.
    pub interrupt: Interrupt,
    /// Who is told of peers while more may come.
    pub early: Early,
}

impl Options {
    /// The defaults, with what the user has set in the environment: proxies, and `SSL_CERT_FILE`.
    pub fn from_env() -> Options {
        let ca_file = ca_file_from_env();
        Options { proxies: Proxies::from_env(), ca_file, ..Options::default() }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: TIMEOUT,
            local: Local::default(),
            proxies: Proxies::default(),
            ca_file: None,
            watch: None,
            interrupt: Interrupt::default(),
            early: Early::default(),
        }
    }
}

/// Announces to the tracker of `request.url`, over each family of addresses that it has and that we have (BEP 7), and waits for its
/// answer; blocks.
///
/// # Errors
///
/// Whatever keeps it from an answer is a [`AnnounceFailure`] that says why, and so is a refusal of the tracker.
pub fn announce(request: &Request, options: &Options) -> Result<Answer, AnnounceFailure> {
    let scheme = request.url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "https" => http::announce(request, options),
        "udp" => udp::announce(request, options),
        _ => Err(AnnounceFailure::no_answer("only http, https and udp trackers are supported")),
    }
}
