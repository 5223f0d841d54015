//! What happens, as data: the events of Net::BitTorrent::Callbacks by their names.
//!
//! Plain values. Nothing here prints, stores or sends; whoever subscribes decides what becomes of
//! an event. `Serialize` gives the keys of the NDJSON stream (without `v`, `time`, `severity`,
//! `message` and `torrent`, which the writer adds). [`TABLE`] documents every event and key.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use serde::{Serialize, Serializer};

use crate::ids::InfoHashes;

mod describe;
mod table;
mod verdict;
mod wanted;

pub use table::{Row, TABLE};
pub use verdict::Verdict;
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

/// An event, and the torrent it is about, if it is about one.
#[derive(Clone, Debug)]
pub struct Event {
    /// The torrent.
    pub torrent: Option<InfoHashes>,
    /// What happened.
    pub kind: Kind,
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

/// `started`, `paused`, `stopped`: what each permits is in PRODUCT part 2 and the man page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Peers, requests, announces.
    Started,
    /// Peers and announces, but no request is made or filled.
    Paused,
    /// No peers; the tracker has been told.
    Stopped,
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

/// The events. Field units: bytes, bytes a second, seconds; indices from 0.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Kind {
    ListenSuccess {
        address: SocketAddr,
        port: u16,
        protocol: &'static str,
    },
    ListenFailure {
        address: String,
        ports: String,
        protocol: &'static str,
        reason: String,
    },
    IpFilter {
        address: SocketAddr,
        protocol: &'static str,
        rule: String,
    },
    TorrentAdded {
        name: String,
        size: u64,
        pieces: u32,
        files: usize,
    },
    TorrentRemoved {
        name: String,
    },
    StateChanged {
        from: State,
        to: State,
        reason: String,
    },
    HashcheckStarted {
        pieces: u32,
        bytes: u64,
    },
    HashcheckFinished {
        have: Pieces,
        missing: Pieces,
        have_count: u32,
        missing_count: u32,
        corrupt_count: u32,
    },
    FileReport {
        path: String,
        status: FileStatus,
        length: u64,
        pieces: Pieces,
        bytes: Vec<(u64, u64)>,
        shared: Pieces,
        reason: Option<String>,
    },
    PieceHashPassed {
        index: u32,
        peers: Vec<SocketAddr>,
    },
    PieceHashFailed {
        index: u32,
        peers: Vec<SocketAddr>,
    },
    TrackerAnnounce {
        url: String,
        tier: usize,
        announce: &'static str,
    },
    TrackerConnect {
        url: String,
        tier: usize,
    },
    TrackerDisconnect {
        url: String,
        tier: usize,
    },
    TrackerRead {
        url: String,
        tier: usize,
        length: usize,
    },
    TrackerWrite {
        url: String,
        tier: usize,
        length: usize,
    },
    TrackerSuccess {
        url: String,
        tier: usize,
        complete: Option<u32>,
        incomplete: Option<u32>,
        peers: usize,
        interval: u64,
        min_interval: Option<u64>,
    },
    TrackerFailure {
        url: String,
        tier: usize,
        reason: String,
        times_in_row: u32,
        status_code: u16,
    },
    TrackerWarning {
        url: String,
        tier: usize,
        reason: String,
    },
    PeerConnect {
        address: SocketAddr,
        direction: Direction,
        transport: &'static str,
    },
    PeerId {
        address: SocketAddr,
        peer_id: String,
        client: String,
    },
    PeerHandshakeComplete {
        address: SocketAddr,
        direction: Direction,
        peer_id: String,
        client: String,
    },
    PeerDisconnect {
        address: SocketAddr,
        reason: String,
    },
    PeerDataIn {
        address: SocketAddr,
        length: usize,
    },
    PeerDataOut {
        address: SocketAddr,
        length: usize,
    },
    PeerPacketIn {
        address: SocketAddr,
        #[serde(flatten)]
        packet: serde_json::Value,
    },
    PeerPacketOut {
        address: SocketAddr,
        #[serde(flatten)]
        packet: serde_json::Value,
    },
    PeerError {
        address: SocketAddr,
        peer_id: String,
        reason: String,
    },
    PeerBan {
        address: SocketAddr,
        peer_id: String,
        reason: String,
    },
    InvalidRequest {
        address: SocketAddr,
        peer_id: String,
        reason: String,
    },
    FileOpen {
        path: String,
        mode: &'static str,
    },
    FileClose {
        path: String,
    },
    FileRead {
        path: String,
        length: u64,
    },
    FileWrite {
        path: String,
        length: u64,
    },
    FileError {
        path: String,
        reason: String,
    },
    FileWarning {
        path: String,
        reason: String,
    },
    UrlSeed {
        url: String,
        reason: String,
    },
    Progress {
        done: u64,
        wanted: u64,
        left: u64,
        downloaded: u64,
        uploaded: u64,
        down_rate: u64,
        up_rate: u64,
        peers: usize,
        seeds: usize,
        eta: Option<u64>,
        have: Pieces,
        wanted_pieces: Pieces,
    },
    Complete {
        name: String,
        size: u64,
        elapsed: f64,
    },
    Seeding {
        name: String,
    },
    /// What a subscriber missed because its queue was full.
    EventsDropped {
        count: u64,
    },
    /// Always the last about a torrent.
    Summary {
        name: String,
        /// Not a key: the command line puts an exit code, made of it, in its place.
        #[serde(skip)]
        verdict: Verdict,
        reason: String,
        done: u64,
        wanted: u64,
        left: u64,
        downloaded: u64,
        uploaded: u64,
        wasted: u64,
        elapsed: f64,
        have: Pieces,
        wanted_pieces: Pieces,
    },
}
