//! What a session and its torrents are told, and what they tell: plain data.

use std::fmt;
use std::ops::{Range, RangeFull};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use super::dht::DhtOptions;
use crate::bind::Bind;
use crate::bitfield::Bitfield;
use crate::event::{Kind, PeersFound, Pieces, State, Verdict};
use crate::filter::IpFilter;
pub use crate::finder::announce::NextAsk;
use crate::ids::InfoHashes;
use crate::metainfo::{Metainfo, PeerAddress};
pub use crate::mse::EncryptionPolicy;
use crate::proxy::Proxy;
use crate::storage::Preallocate;
use crate::swarm::Order;
use crate::text::Remedies;
pub use crate::utp::TransportPolicy;

/// Options that all torrents of a session share.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Ports to try, in order; 0 lets the system pick.
    pub ports: Vec<u16>,
    /// What all sockets are bound to, those that listen and those that connect: a local address or a network interface.
    pub bind: Option<Bind>,
    /// Through which proxy peers, trackers, web seeds and packets are reached. Nothing goes past it: nobody can call us, the local network is not
    /// spoken to, and names are looked up by the proxy. `None`: none, and for trackers and web seeds those of the environment, as curl reads them.
    pub proxy: Option<Proxy>,
    /// Connections, all torrents together.
    pub max_peers: usize,
    /// Peers of all torrents that are sent data at the same time, unless the uplink takes more: then there are more.
    pub upload_slots: usize,
    /// Torrents that download at the same time, 1 at least; the others wait ([`Phase::Waiting`]), and begin in the order in which they were added. One
    /// that gets no data for a minute goes on, but does not count. Hash checks and seeds do not count, and a seed that is to fetch more begins at once; a magnet link that is asked about counts.
    pub max_downloads: usize,
    /// Peers tell one another of further peers (BEP 11), and where they are called by uTP have two of them meet that nobody can call (BEP 55), but
    /// those of private torrents.
    pub peer_exchange: bool,
    /// Torrents are announced on the local network (BEP 14), but private ones. Off unless asked for, unlike on the command line: not every program
    /// that embeds this may speak to a whole network.
    pub local_discovery: bool,
    /// Gateways are asked to let in those who call (UPnP, NAT-PMP, PCP), as long as a torrent is not stopped; not when bound to a loopback address.
    /// Off unless asked for, for the same reason.
    pub port_mapping: bool,
    /// When connections with peers are encrypted.
    pub encryption: EncryptionPolicy,
    /// By which transports peers are reached.
    pub transport: TransportPolicy,
    /// Peers are looked for in the distributed hash table (BEP 5), but not those of private torrents. `None`, unlike on the command line,
    /// for the same reason.
    pub dht: Option<DhtOptions>,
    /// Bytes a second, all torrents together.
    pub max_download_rate: Option<u64>,
    /// Bytes a second, all torrents together.
    pub max_upload_rate: Option<u64>,
    /// Peers and nodes of the DHT that are not dealt with. Trackers and web seeds are not asked about.
    pub ip_filter: Option<IpFilter>,
    /// What the user of this program is told to do about errors.
    pub remedies: Remedies,
}

/// Options of one torrent.
#[derive(Clone, Debug)]
pub struct TorrentOptions {
    /// The folder in which the torrent's files are made.
    pub basedir: PathBuf,
    /// Where resume data live; `None`: none are kept.
    pub state_dir: Option<PathBuf>,
    /// The state to begin with.
    pub state: State,
    /// Read every byte again, whatever the resume data vouch for.
    pub full_check: bool,
    /// Peers of this torrent that are sent data at the same time, at the most; see [`SessionOptions::upload_slots`].
    pub upload_slots: usize,
    /// How files are made.
    pub preallocate: Preallocate,
    /// Write over files that nothing shows to be the torrent's, and cut files that are too long.
    pub overwrite: bool,
    /// Weight of each file, in order; 0 = not wanted. Empty: all 1.
    pub priorities: Vec<u32>,
    /// The order in which pieces are begun.
    pub order: Order,
    /// Leave as soon as everything wanted is there.
    pub no_seed: bool,
    /// Leave when uploaded / size of what is wanted reaches this.
    pub seed_ratio: Option<f64>,
    /// Leave after seeding for so long.
    pub seed_time: Option<Duration>,
    /// Give up when no new data arrived for so long.
    pub stall_timeout: Option<Duration>,
    /// What an error of the disk does; `None`: end with `no_seed`, else pause.
    pub file_error: Option<FileErrorAction>,
    /// Further trackers, in tiers that come after the torrent's own; a private torrent (BEP 27) does not use them. They may lead anywhere,
    /// while the torrent's own are asked for nothing but announces where they lead to this machine or its local network.
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19) besides the torrent's own. They may lead anywhere, while the torrent's own lead to this machine or its local network only
    /// without a query.
    pub web_seeds: Vec<String>,
    /// Data are fetched from web seeds.
    pub use_web_seeds: bool,
    /// Peers to call.
    pub peers: Vec<PeerAddress>,
    /// Of a magnet link: gives `priorities`, once it is known which files there are. `None`: what the link itself selects (BEP 53).
    pub choice: Option<FileChoice>,
    /// Of a magnet link: end as soon as the metadata are there. Nobody is asked for data.
    pub metadata_only: bool,
    /// Blocks of unfinished pieces, as an earlier client's `piece_cache` gave them. They are hashed
    /// with the rest of their piece, so nothing is trusted; what does not fit the torrent is ignored.
    pub piece_cache: Vec<CachedPiece>,
}

/// Chooses among the files of a torrent of which a magnet link has given the hash alone, once they are known.
///
/// ```
/// use btget::client::{FileChoice, TorrentOptions};
///
/// let texts = FileChoice::new(|torrent| {
///     let weight = |file: &btget::metainfo::File| u32::from(file.path.ends_with(".txt"));
///     let weights: Vec<u32> = torrent.files.iter().map(weight).collect();
///     if weights.contains(&1) { Ok(weights) } else { Err("it has no text files".to_owned()) }
/// });
/// let options = TorrentOptions { choice: Some(texts), ..TorrentOptions::default() };
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct FileChoice(Arc<Choose>);

type Choose = dyn Fn(&Metainfo) -> Result<Vec<u32>, String> + Send + Sync;

impl FileChoice {
    /// `choose` gives the weights of the files, as in [`TorrentOptions::priorities`], or why there is nothing to choose: then the torrent ends
    /// with [`Verdict::NoSuchFile`]. It is called on a thread that others wait for.
    pub fn new(choose: impl Fn(&Metainfo) -> Result<Vec<u32>, String> + Send + Sync + 'static) -> FileChoice {
        FileChoice(Arc::new(choose))
    }

    pub(crate) fn choose(&self, metainfo: &Metainfo) -> Result<Vec<u32>, String> {
        (self.0)(metainfo)
    }
}

impl fmt::Debug for FileChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileChoice")
    }
}

/// What an error of the disk (full, read-only, something else in a file's place) does to a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileErrorAction {
    /// It is paused, and goes on when it is started again; after a full disk by itself, within half a minute after there is room
    /// for what is missing.
    Pause,
    /// It ends; what is verified is kept.
    End,
}

impl TorrentOptions {
    /// What an error of the disk does.
    pub(crate) fn file_error(&self) -> FileErrorAction {
        let by_itself = if self.no_seed { FileErrorAction::End } else { FileErrorAction::Pause };
        self.file_error.unwrap_or(by_itself)
    }
}

/// Blocks that are here of a piece that is not whole yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CachedPiece {
    /// Its index.
    pub piece: u32,
    /// The number of each block in the piece (they are 16 KiB each, the last may be shorter), and its data.
    pub blocks: Vec<(u32, Vec<u8>)>,
}

/// Which pieces a hash check is about: `..` for all, `7`, `0..5`, or a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// All pieces.
    All,
    /// These, by index.
    These(Vec<u32>),
}

impl From<RangeFull> for Which {
    fn from(_: RangeFull) -> Which {
        Which::All
    }
}

impl From<u32> for Which {
    fn from(piece: u32) -> Which {
        Which::These(vec![piece])
    }
}

impl From<Range<u32>> for Which {
    fn from(pieces: Range<u32>) -> Which {
        Which::These(pieces.collect())
    }
}

impl From<&[u32]> for Which {
    fn from(pieces: &[u32]) -> Which {
        Which::These(pieces.to_vec())
    }
}

impl<const N: usize> From<[u32; N]> for Which {
    fn from(pieces: [u32; N]) -> Which {
        Which::These(pieces.to_vec())
    }
}

/// What a torrent is doing, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Asking peers what the torrent is: a magnet link has given its hash alone.
    Fetching,
    /// Waiting until it is its turn to be checked.
    Queued,
    /// Reading what is on disk.
    Checking,
    /// Reading what a new torrent is made of.
    Hashing,
    /// Waiting until it is its turn to download.
    Waiting,
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
#[non_exhaustive]
pub struct Status {
    /// The identity of the torrent's content.
    pub info_hash: InfoHashes,
    /// As the torrent says it; escape before printing.
    pub name: String,
    /// The state that the user asked for.
    pub state: State,
    /// What the torrent is doing now.
    pub phase: Phase,
    /// Bytes in the torrent.
    pub total: u64,
    /// Bytes of the pieces that the user wants. While it is not known what the torrent is, this and what is left are the size that its link tells,
    /// or 1.
    pub wanted_bytes: u64,
    /// Wanted bytes that are not there yet.
    pub left: u64,
    /// Payload bytes received in this run, duplicates and corrupt ones included.
    pub downloaded: u64,
    /// Payload bytes sent in this run.
    pub uploaded: u64,
    /// Payload bytes received for the data that are there, in earlier runs too.
    pub total_downloaded: u64,
    /// Payload bytes sent of the data that are there, in earlier runs too: what counts for the ratio.
    pub total_uploaded: u64,
    /// Payload bytes received for nothing.
    pub wasted: u64,
    /// Payload bytes a second.
    pub down_rate: u64,
    /// Payload bytes a second.
    pub up_rate: u64,
    /// Connected peers.
    pub peers: usize,
    /// Connected peers that have every piece.
    pub seeds: usize,
    /// Web seeds that data are being fetched from; they are not among the peers.
    pub web_seeds: usize,
    /// Time left, where it can be told.
    pub eta: Option<Duration>,
    /// Peers that were found, by who told of them.
    pub peers_found: PeersFound,
    /// How many nodes of the DHT are known, if peers are looked for there.
    pub dht_nodes: Option<usize>,
    /// When trackers are asked for peers, unless it is being checked, stopped or paused.
    pub next_ask: Option<NextAsk>,
    /// Pieces that are verified and written.
    pub have: Bitfield,
    /// Pieces that are wanted.
    pub wanted: Bitfield,
    /// Pieces that are requested from peers now.
    pub in_flight: Bitfield,
    /// While checking: bytes done, bytes to do, bytes a second.
    pub check: Option<(u64, u64, u64)>,
    /// While it is not known what the torrent is: bytes of the metadata that are here, and of how many, once a peer has said so.
    pub metadata: Option<(u64, Option<u64>)>,
    /// What stands in the way, as a user reads it (disk full, ...).
    pub error: Option<String>,
    /// Once it has ended: how, and the reason for people.
    pub ended: Option<(Verdict, String)>,
    /// How it ended, or would if it were stopped now.
    pub verdict: Verdict,
}

impl Status {
    /// Of a torrent of `total` bytes in so many pieces, all wanted, of which nothing is there and nobody known.
    pub(crate) fn with_nothing(
        info_hash: InfoHashes,
        name: String,
        phase: Phase,
        total: u64,
        pieces: u32,
    ) -> Status {
        Status {
            info_hash,
            name,
            state: State::Stopped,
            phase,
            total,
            wanted_bytes: total,
            left: total,
            downloaded: 0,
            uploaded: 0,
            total_downloaded: 0,
            total_uploaded: 0,
            wasted: 0,
            down_rate: 0,
            up_rate: 0,
            peers: 0,
            seeds: 0,
            web_seeds: 0,
            eta: None,
            peers_found: PeersFound::default(),
            dht_nodes: None,
            next_ask: None,
            have: Bitfield::new(pieces),
            wanted: Bitfield::full(pieces),
            in_flight: Bitfield::new(pieces),
            check: None,
            metadata: None,
            error: None,
            ended: None,
            verdict: Verdict::Incomplete,
        }
    }

    /// The summary event of a torrent that ends like this, or did; `elapsed` in seconds.
    pub fn summary(&self, verdict: Verdict, reason: String, elapsed: f64) -> Kind {
        // Before that, its sizes are guesses.
        let is_known = self.metadata.is_none();
        Kind::Summary {
            name: self.name.clone(),
            verdict,
            reason,
            done: self.wanted_bytes - self.left,
            wanted: is_known.then_some(self.wanted_bytes),
            left: is_known.then_some(self.left),
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            total_downloaded: self.total_downloaded,
            total_uploaded: self.total_uploaded,
            wasted: self.wasted,
            peers_found: self.peers_found,
            elapsed,
            have: Pieces(self.have.ranges()),
            wanted_pieces: Pieces(self.wanted.ranges()),
        }
    }
}

impl Default for SessionOptions {
    /// The defaults of the command line.
    fn default() -> SessionOptions {
        SessionOptions {
            ports: vec![0],
            bind: None,
            proxy: None,
            max_peers: 200,
            upload_slots: 8,
            max_downloads: 8,
            peer_exchange: true,
            local_discovery: false,
            port_mapping: false,
            encryption: EncryptionPolicy::default(),
            transport: TransportPolicy::default(),
            dht: None,
            max_download_rate: None,
            max_upload_rate: None,
            ip_filter: None,
            remedies: Remedies::default(),
        }
    }
}

impl Default for TorrentOptions {
    /// The defaults of the command line, but that no resume data are kept.
    fn default() -> TorrentOptions {
        TorrentOptions {
            basedir: PathBuf::from("."),
            state_dir: None,
            state: State::Started,
            full_check: false,
            upload_slots: usize::MAX,
            preallocate: Preallocate::Sparse,
            overwrite: false,
            priorities: Vec::new(),
            order: Order::default(),
            no_seed: false,
            seed_ratio: None,
            seed_time: None,
            stall_timeout: None,
            file_error: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            use_web_seeds: true,
            peers: Vec::new(),
            choice: None,
            metadata_only: false,
            piece_cache: Vec::new(),
        }
    }
}

/// One file of a torrent (the ancestors' `files`).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FileInfo {
    /// The file's absolute path, whether it is there yet or not.
    pub path: PathBuf,
    /// Length in bytes.
    pub length: u64,
    /// Weight; 0: not wanted.
    pub priority: u32,
}

/// A tier of trackers (the ancestors' `trackers`). Its counters are those of the tracker that is asked
/// first: the one that answered last, where any has (BEP 12).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Tier {
    /// Seeds, as the last answer said.
    pub complete: Option<u32>,
    /// Leechers, as the last answer said.
    pub incomplete: Option<u32>,
    /// Announces that came to nothing since the last that did not.
    pub failures: u32,
    /// IPv4 peers in the last answer.
    pub peers: usize,
    /// IPv6 peers in the last answer.
    pub peers6: usize,
    /// The URLs, in the order in which they are asked, with `***` for user names and passwords.
    pub urls: Vec<String>,
    /// Each of the trackers, in the same order.
    pub trackers: Vec<TrackerInfo>,
}

/// One tracker of a torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TrackerInfo {
    /// The URL as the torrent gives it, with `***` for user name and password.
    pub url: String,
    /// The number of its tier, from 0.
    pub tier: usize,
    /// Seeds, as the last answer said.
    pub complete: Option<u32>,
    /// Leechers, as the last answer said.
    pub incomplete: Option<u32>,
    /// Announces that came to nothing since the last that did not.
    pub failures: u32,
    /// IPv4 peers in the last answer.
    pub peers: usize,
    /// IPv6 peers in the last answer.
    pub peers6: usize,
}
