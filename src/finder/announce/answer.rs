//! What goes between the announcer and whoever talks to trackers: plain data.

use std::net::SocketAddr;
use std::time::Duration;

/// The `event` of an announce (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AnnounceEvent {
    /// The first announce to this tracker.
    Started,
    /// The download has completed while this tracker knew us.
    Completed,
    /// We leave.
    Stopped,
    /// We want no more, and have not everything (BEP 21).
    Paused,
}

impl AnnounceEvent {
    /// The word of BEP 3.
    pub fn as_str(self) -> &'static str {
        match self {
            AnnounceEvent::Started => "started",
            AnnounceEvent::Completed => "completed",
            AnnounceEvent::Stopped => "stopped",
            AnnounceEvent::Paused => "paused",
        }
    }
}

/// What a tracker answered. Nothing in it is to be believed; strings are to be escaped before printing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Answer {
    /// Time to the next announce, as the tracker says it.
    pub interval: Option<Duration>,
    /// Least time to the next announce, as the tracker says it.
    pub min_interval: Option<Duration>,
    /// Seeds.
    pub complete: Option<u32>,
    /// Leechers.
    pub incomplete: Option<u32>,
    /// Downloads ever completed.
    pub downloaded: Option<u32>,
    /// Addresses, each once, none of port 0; bounded by whoever parsed them.
    pub peers: Vec<SocketAddr>,
    /// Peers by host name and port, of which a proxy knows the addresses; bounded likewise, and none where names are looked up here.
    pub named: Vec<(String, u16)>,
    /// To be given back in later announces.
    pub tracker_id: Option<Vec<u8>>,
    /// A word to the user that is no failure.
    pub warning: Option<String>,
}

/// When a tracker that refused wants to be asked again (BEP 31).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryIn {
    /// Not before this.
    After(Duration),
    /// Not in this run.
    Never,
}

/// An announce that came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnnounceFailure {
    /// Why, for a person; may quote the tracker, escape it before printing.
    pub reason: String,
    /// HTTP status; 0 = no answer, or one over UDP, which has none.
    pub status_code: u16,
    /// The tracker's own wish.
    pub retry_in: Option<RetryIn>,
}

impl AnnounceFailure {
    /// No answer came, for this reason.
    pub fn no_answer(reason: impl Into<String>) -> AnnounceFailure {
        AnnounceFailure { reason: reason.into(), status_code: 0, retry_in: None }
    }

    /// An answer came with this status, and is no use for this reason.
    pub fn with_status(status_code: u16, reason: impl Into<String>) -> AnnounceFailure {
        AnnounceFailure { reason: reason.into(), status_code, retry_in: None }
    }
}

/// What an announce came to, for events and candidates.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Outcome {
    /// The tracker answered. Intervals are those that will be kept, after clamping.
    Success {
        url: String,
        tier: usize,
        event: Option<AnnounceEvent>,
        complete: Option<u32>,
        incomplete: Option<u32>,
        interval: Duration,
        min_interval: Duration,
        warning: Option<String>,
        peers: Vec<SocketAddr>,
    },
    /// It did not, or refused.
    Failure {
        url: String,
        tier: usize,
        event: Option<AnnounceEvent>,
        reason: String,
        status_code: u16,
        times_in_row: u32,
    },
}

/// One tracker as it stands: a row of the ancestors' `trackers`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackerStatus<'a> {
    /// As the torrent gives it.
    pub url: &'a str,
    /// From 0.
    pub tier: usize,
    /// Seeds, as the last answer said.
    pub complete: Option<u32>,
    /// Leechers, as the last answer said.
    pub incomplete: Option<u32>,
    /// Downloads ever completed, as the last answer said.
    pub downloaded: Option<u32>,
    /// Failures since the last answer.
    pub failures_in_row: u32,
    /// IPv4 peers in the last answer that had any asked for.
    pub peers: usize,
    /// IPv6 peers in that answer.
    pub peers6: usize,
    /// Why the last announce failed; `None` after an answer.
    pub last_error: Option<&'a str>,
    /// Whether an announce is under way.
    pub is_announcing: bool,
}
