//! The ancestors' interface (AnyEvent::BitTorrent): a torrent as an object that is started, paused,
//! stopped and asked. The command line uses nothing else.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::bitfield::Bitfield;
use crate::event::{Event, Severity, State};
use crate::metainfo::{InfoHash, Metainfo};
use crate::storage::Preallocate;

/// What all torrents of a session share.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Ports to try, in order; 0 lets the system pick.
    pub ports: Vec<u16>,
    /// Local address for listening and for outgoing connections.
    pub bind: Option<IpAddr>,
    /// Connections, all torrents together.
    pub max_peers: usize,
    /// Bytes a second, all torrents together.
    pub max_download_rate: Option<u64>,
    /// Bytes a second, all torrents together.
    pub max_upload_rate: Option<u64>,
}

/// What one torrent is to do.
#[derive(Clone, Debug)]
pub struct TorrentOptions {
    /// Where data lives.
    pub basedir: PathBuf,
    /// Where resume data live; `None`: none are kept.
    pub state_dir: Option<PathBuf>,
    /// The state to begin with.
    pub state: State,
    /// Read every byte again, whatever the resume data vouch for.
    pub full_check: bool,
    /// Unchoked peers.
    pub upload_slots: usize,
    /// How files are made.
    pub preallocate: Preallocate,
    /// Weight of each file, in order; 0 = not wanted. Empty: all 1.
    pub priorities: Vec<u32>,
    /// Leave as soon as everything wanted is there.
    pub no_seed: bool,
    /// Leave when uploaded / size of what is wanted reaches this.
    pub seed_ratio: Option<f64>,
    /// Leave after seeding for so long.
    pub seed_time: Option<Duration>,
    /// Give up when no new data arrived for so long.
    pub stall_timeout: Option<Duration>,
}

/// What a torrent is doing, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Reading what is on disk.
    Checking,
    /// Something wanted is missing.
    Downloading,
    /// Everything wanted is there.
    Seeding,
    /// As the user said, or after a file error (see `Status::error`).
    Paused,
    /// Finished or told to stop.
    Stopped,
}

/// A picture of one torrent at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Identity.
    pub info_hash: InfoHash,
    /// As the torrent says it; escape before printing.
    pub name: String,
    /// As asked for.
    pub state: State,
    /// As it is.
    pub phase: Phase,
    /// Bytes in the torrent.
    pub total: u64,
    /// Bytes wanted.
    pub wanted_bytes: u64,
    /// Wanted bytes that are not there yet.
    pub left: u64,
    /// Payload bytes received, duplicates and corrupt ones included.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// Payload bytes received for nothing.
    pub wasted: u64,
    /// Payload bytes a second.
    pub down_rate: u64,
    /// Payload bytes a second.
    pub up_rate: u64,
    /// Connected peers.
    pub peers: usize,
    /// Those that have everything.
    pub seeds: usize,
    /// Time left, where it can be told.
    pub eta: Option<Duration>,
    /// Pieces that are verified and written.
    pub have: Bitfield,
    /// Pieces that are wanted.
    pub wanted: Bitfield,
    /// Pieces that are requested from peers now.
    pub in_flight: Bitfield,
    /// While checking: bytes done, bytes to do, bytes a second.
    pub check: Option<(u64, u64, u64)>,
    /// What stands in the way, as a user reads it (disk full, ...).
    pub error: Option<String>,
    /// Once it has ended: the exit code and the reason.
    pub ended: Option<(u8, String)>,
}

/// A running session: the listener, the limits and the torrents, on a thread of its own.
#[derive(Debug)]
pub struct Session {}

/// A handle to one torrent of a session.
#[derive(Clone, Debug)]
pub struct Client {}

/// Errors of the library's interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No port of the list could be listened on.
    #[error("{0}")]
    Listen(String),
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// Events of one subscriber. The queue is bounded: what a slow reader misses is counted.
#[derive(Debug)]
pub struct Subscription {
    /// The events.
    pub events: Receiver<Event>,
    dropped: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Subscription {
    /// How many events found the queue full since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, std::sync::atomic::Ordering::Relaxed)
    }
}

impl Session {
    /// Starts the thread and the listener.
    pub fn start(options: SessionOptions) -> Result<Session, Error> {
        let _ = options;
        Err(Error::Ended)
    }

    /// The events of at least this severity, from now on.
    pub fn subscribe(&self, least: Severity) -> Result<Subscription, Error> {
        let _ = least;
        Err(Error::Ended)
    }

    /// Adds a torrent; its check begins at once, and it goes on to `options.state`.
    pub fn add(&self, metainfo: Metainfo, options: TorrentOptions) -> Result<Client, Error> {
        let _ = (metainfo, options);
        Err(Error::Ended)
    }

    /// Stops every torrent (finish writing, sync, resume data, announce `stopped`; 5 s at the most)
    /// and ends the thread.
    pub fn shutdown(self) {}
}

impl Client {
    /// Peers, requests, announces.
    pub fn start(&self) {}
    /// No requests made or filled.
    pub fn pause(&self) {}
    /// No peers; the tracker is told.
    pub fn stop(&self) {}
    /// A picture of this moment; after the session's end, the last one.
    pub fn status(&self) -> Status {
        todo!()
    }
}
