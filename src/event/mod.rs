//! What happens, as data: the events of Net::BitTorrent::Callbacks by their names.
//!
//! Plain values. Nothing here prints, stores or sends; whoever subscribes decides what becomes of
//! an event. `Serialize` gives the keys of the NDJSON stream (without `v`, `time`, `severity`,
//! `message` and `torrent`, which the writer adds). [`TABLE`] documents every event and key.

use std::fmt;
use std::ops::Range;

use serde::{Serialize, Serializer};

use crate::ids::InfoHashes;

mod row;
mod table;
mod verdict;
mod wanted;
mod words;

pub use row::Row;
pub use table::{Kind, TABLE};
pub use verdict::{Unfetched, Verdict};
pub use wanted::WantedEvents;

/// How much an event matters; `Fatal` means that this torrent cannot go on by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Severity {
    Debug,
    Info,
    Warning,
    Critical,
    Fatal,
}

impl Severity {
    /// As it stands in the stream of events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Debug => "debug",
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
            Severity::Fatal => "fatal",
        }
    }
}

/// An event, and the torrent it is about, if it is about one.
#[derive(Clone, Debug)]
pub struct Event {
    /// The torrent.
    pub torrent: Option<InfoHashes>,
    /// What happened.
    pub kind: Kind,
}

/// Peers that were found, by who told of them first; incoming: those that called us.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[allow(missing_docs)]
pub struct PeersFound {
    pub tracker: u64,
    pub dht: u64,
    pub pex: u64,
    pub lsd: u64,
    pub user: u64,
    pub incoming: u64,
}

impl PeersFound {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: PeersFound) -> PeersFound {
        PeersFound {
            tracker: self.tracker + other.tracker,
            dht: self.dht + other.dht,
            pex: self.pex + other.pex,
            lsd: self.lsd + other.lsd,
            user: self.user + other.user,
            incoming: self.incoming + other.incoming,
        }
    }
}

/// How a connection is protected.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Not at all.
    #[default]
    None,
    /// By an encrypted handshake, and plaintext after it.
    Plaintext,
    /// RC4 for all of it.
    Rc4,
}

/// Piece ranges, printed as `["0-4","9"]` (inclusive, as people write them).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pieces(pub Vec<Range<u32>>);

impl fmt::Display for Pieces {
    /// `0-4, 9`, or `none`; of very many ranges the first few.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 8;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (number, range) in self.0.iter().take(MOST).enumerate() {
            f.write_str(if number > 0 { ", " } else { "" })?;
            match range.end - range.start {
                1 => write!(f, "{}", range.start)?,
                _ => write!(f, "{}-{}", range.start, range.end - 1)?,
            }
        }
        match self.0.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|range| match range.end - range.start {
            1 => range.start.to_string(),
            _ => format!("{}-{}", range.start, range.end - 1),
        }))
    }
}

/// What a torrent is to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Peers, requests, announces.
    Started,
    /// Peers and announces, but no request is made or filled.
    Paused,
    /// No peers; the tracker has been told.
    Stopped,
    /// Started, but it is not its turn to download: nothing of the torrent goes out or comes in until others have ended, or stand still. Nobody
    /// asks for it; where a state is asked for it is taken as `Started`.
    Waiting,
}

impl fmt::Display for FileStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FileStatus::Ok => "ok",
            FileStatus::Corrupt => "corrupt",
            FileStatus::Missing => "missing",
            FileStatus::Short => "short",
            FileStatus::Long => "long",
            FileStatus::Unreadable => "unreadable",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Started => "started",
            State::Paused => "paused",
            State::Stopped => "stopped",
            State::Waiting => "waiting",
        })
    }
}

/// How a file was found by a check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum FileStatus {
    Ok,
    Corrupt,
    Missing,
    Short,
    Long,
    Unreadable,
}

/// Who opened a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// They called.
    In,
    /// We called.
    Out,
}
