//! A handle to one torrent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::callbacks::Callback;
use super::facts::{Facts, KnownFacts};
use super::{CachedPiece, ClientBuilder, Error, FileInfo, PeerStatus, Phase, Session, Status, Tier, Which};
use crate::bitfield::Bitfield;
use crate::event::{Event, Severity, State};
use crate::ids::{InfoHashes, TorrentId};
use crate::layout::PieceIndex;
use crate::metainfo::Metainfo;
use crate::session::Command;
use crate::session::Torrent;
use crate::session::thread::Commands;
use crate::swarm::Order;
use crate::wire::PeerId;

/// A handle to one torrent; clones are handles to the same.
///
/// Getters that the running session answers give the last known value once it has ended.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let data = b"what everybody wants".repeat(5000);
/// # let hashes: Vec<_> = data.chunks(16384).map(btget::metainfo::sha1).collect();
/// # let torrent = btget::metainfo::create::NewTorrent { name: "wanted.bin",
/// #     content: btget::metainfo::create::Content::File(data.len() as u64), piece_length: 16384,
/// #     piece_hashes: &hashes, trackers: &[], private: false }.encode();
/// # std::fs::write(folder.path().join("wanted.torrent"), torrent)?;
/// # std::fs::create_dir(folder.path().join("seed"))?;
/// # std::fs::write(folder.path().join("seed/wanted.bin"), &data)?;
/// use btget::client::{Client, SessionOptions};
/// use std::time::Duration;
///
/// let local = SessionOptions { bind: Some([127, 0, 0, 1].into()), ..SessionOptions::default() };
/// let seed = Client::builder(folder.path().join("wanted.torrent"))
///     .basedir(folder.path().join("seed"))
///     .session_options(local.clone())
///     .build()?;
/// let client = Client::builder(folder.path().join("wanted.torrent"))
///     .basedir(folder.path().join("here"))
///     .session_options(local)
///     .build()?;
/// assert!(seed.wait_checked(Duration::from_secs(20)));
/// client.add_peer(([127, 0, 0, 1], seed.port()).into())?;
/// assert!(client.wait_complete(Duration::from_secs(20)));
/// assert_eq!(std::fs::read(folder.path().join("here/wanted.bin"))?, data);
/// assert!(client.seed() && client.complete() && client.left() == 0);
///
/// assert_eq!((client.name(), client.size(), client.piece_length()), ("wanted.bin", 100_000, 16384));
/// assert_eq!(client.infohash(), seed.infohash());
/// assert!(client.peerid() != seed.peerid() && client.port() != seed.port());
/// assert!(client.downloaded() >= 100_000 && client.uploaded() == 0);
/// assert_eq!((client.bitfield().count(), client.wanted().count()), (7, 7));
/// assert_eq!(client.path(), Some(folder.path().join("wanted.torrent").as_path()));
/// let files = client.files();
/// let file = &files[0];
/// assert_eq!((&file.path, file.length, file.priority), (&client.basedir().join("wanted.bin"), 100_000, 1));
/// for peer in seed.peers() {
///     println!("{} {} {:.0}%", peer.address, peer.client, peer.progress * 100.0);
///     println!("{} B/s, {} B/s, choked: {}", peer.down_rate, peer.up_rate, peer.flags.am_choking);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) commands: Commands,
    pub(super) id: TorrentId,
    pub(super) info_hash: InfoHashes,
    pub(super) facts: Arc<Facts>,
    pub(super) peer_id: PeerId,
    pub(super) port: u16,
    pub(super) path: Option<Arc<Path>>,
    /// With a session of its own: kept as long as there is a handle.
    pub(super) session: Option<Arc<Session>>,
}

impl Client {
    /// A client for the .torrent at `path`, with a session of its own.
    pub fn builder(path: impl Into<PathBuf>) -> ClientBuilder {
        ClientBuilder::new(path.into())
    }

    /// The session, if it is this client's own.
    pub fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// Peers, requests, announces. After a file error: tries again.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let data = b"what everybody wants".repeat(5000);
    /// # let hashes: Vec<_> = data.chunks(32768).map(btget::metainfo::sha1).collect();
    /// # let bytes = btget::metainfo::create::NewTorrent { name: "wanted.bin",
    /// #     content: btget::metainfo::create::Content::File(data.len() as u64), piece_length: 32768,
    /// #     piece_hashes: &hashes, trackers: &[vec!["udp://127.0.0.1:9".into()]], private: false }.encode();
    /// # let torrent = folder.path().join("wanted.torrent");
    /// # std::fs::write(&torrent, bytes)?;
    /// # let local = btget::client::SessionOptions { bind: Some([127, 0, 0, 1].into()), ..Default::default() };
    /// use btget::client::Client;
    /// use btget::event::State;
    ///
    /// let client = Client::builder(&torrent)
    ///     .basedir(folder.path())
    ///     .session_options(local)
    ///     .state(State::Paused)
    ///     .build()?;
    /// assert_eq!(client.state(), State::Paused);
    /// client.start()?;
    /// assert_eq!(client.state(), State::Started);
    /// client.pause()?;
    /// client.stop()?;
    /// assert_eq!(client.state(), State::Stopped);
    /// client.session().expect("it has its own").begin_shutdown();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If the torrent has been removed or the session has ended, like all commands below.
    pub fn start(&self) -> Result<(), Error> {
        self.enter(State::Started)
    }

    /// Peers and announces go on; no request is made or filled.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn pause(&self) -> Result<(), Error> {
        self.enter(State::Paused)
    }

    /// No peers; the trackers are told; files are synced and closed. It can be started again.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn stop(&self) -> Result<(), Error> {
        self.enter(State::Stopped)
    }

    /// Reads and hashes again what is on disk: `..` for all, one piece, a range or a list. Connections
    /// are closed for it and made anew. It goes on in the background: see [`Client::wait_checked`].
    /// While an earlier check is under way, nothing happens.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let data = b"what everybody wants".repeat(5000);
    /// # let hashes: Vec<_> = data.chunks(32768).map(btget::metainfo::sha1).collect();
    /// # let bytes = btget::metainfo::create::NewTorrent { name: "wanted.bin",
    /// #     content: btget::metainfo::create::Content::File(data.len() as u64), piece_length: 32768,
    /// #     piece_hashes: &hashes, trackers: &[vec!["udp://127.0.0.1:9".into()]], private: false }.encode();
    /// # let torrent = folder.path().join("wanted.torrent");
    /// # std::fs::write(&torrent, bytes)?;
    /// # let local = btget::client::SessionOptions { bind: Some([127, 0, 0, 1].into()), ..Default::default() };
    /// # std::fs::write(folder.path().join("wanted.bin"), &data)?;
    /// use btget::client::Client;
    /// use std::time::Duration;
    ///
    /// let limit = Duration::from_secs(20);
    /// let client = Client::builder(&torrent).basedir(folder.path()).session_options(local).build()?;
    /// assert!(client.wait_checked(limit));
    /// assert!(client.seed());
    ///
    /// std::fs::write(folder.path().join("wanted.bin"), vec![0; 100_000])?;
    /// client.hashcheck(2)?; // one
    /// assert!(client.wait_checked(limit));
    /// assert_eq!(client.bitfield().ranges(), [0..2, 3..4]);
    /// client.hashcheck([0, 3])?; // a list; ranges do as well
    /// assert!(client.wait_checked(limit));
    /// assert_eq!(client.bitfield().ranges(), [1..2]);
    /// client.hashcheck(..)?; // all
    /// assert!(client.wait_checked(limit));
    /// assert_eq!(client.bitfield().count(), 0);
    /// assert!(client.hashcheck(4).is_err(), "there are only four");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no such piece, or the session has ended.
    pub fn hashcheck(&self, pieces: impl Into<Which>) -> Result<(), Error> {
        let count = self.known().map_or(0, |known| known.pieces);
        let pieces = match pieces.into() {
            Which::All => None,
            Which::These(list) => {
                let mut set = Bitfield::new(count);
                for piece in list {
                    if piece >= count {
                        return Err(Error::NoPiece { piece, pieces: count });
                    }
                    set.insert(PieceIndex(piece));
                }
                Some(set)
            }
        };
        self.command(|reply| Command::Hashcheck(self.id, pieces, reply))
    }

    /// Changes which files are wanted, and how much each weighs, as [`TorrentOptions::priorities`] does at the start. What
    /// becomes wanted is fetched, and told by a further `complete` once it is there; what is not wanted any more stays on
    /// the disk as far as it is there.
    ///
    /// # Errors
    ///
    /// If the torrent has been removed or the session has ended.
    pub fn set_priorities(&self, priorities: Vec<u32>) -> Result<(), Error> {
        self.command(|reply| Command::Want(self.id, Some(priorities), None, reply))
    }

    /// Changes the order in which pieces are begun, as [`TorrentOptions::order`] does at the start.
    ///
    /// # Errors
    ///
    /// If the torrent has been removed or the session has ended.
    pub fn set_order(&self, order: Order) -> Result<(), Error> {
        self.command(|reply| Command::Want(self.id, None, Some(order), reply))
    }

    /// Waits until no check is under way; false if `limit` passes first.
    pub fn wait_checked(&self, limit: Duration) -> bool {
        self.wait(limit, |status| (!matches!(status.phase, Phase::Queued | Phase::Checking)).then_some(()))
            .is_some()
    }

    /// Tells the torrent of a peer.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn add_peer(&self, address: SocketAddr) -> Result<(), Error> {
        self.command(|reply| Command::AddPeer(self.id, address, reply))
    }

    fn enter(&self, state: State) -> Result<(), Error> {
        self.command(|reply| Command::Enter(self.id, state, reply))
    }

    fn command(&self, command: impl FnOnce(SyncSender<bool>) -> Command) -> Result<(), Error> {
        match self.commands.ask(command).ok_or(Error::Ended)? {
            true => Ok(()),
            false => Err(Error::Removed(self.info_hash)),
        }
    }

    /// Asks the session about the torrent, with the session's time; `None` once either has ended.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(Instant, &Torrent) -> T + Send + 'static,
    ) -> Option<T> {
        let question = |reply: SyncSender<Option<T>>| {
            let question = move |now, torrent: Option<&Torrent>| {
                drop(reply.send(torrent.map(|torrent| question(now, torrent))));
            };
            Command::Ask(self.id, Box::new(question))
        };
        self.commands.ask(question).flatten()
    }

    /// A picture of this moment; after the session's end, the last one that was asked for.
    pub fn status(&self) -> Option<Status> {
        let status = self.ask(|now, torrent| torrent.status(now));
        let mut last = self.facts.last.lock().unwrap_or_else(PoisonError::into_inner);
        if status.is_some() {
            last.clone_from(&status);
        }
        last.clone()
    }

    /// Waits until everything wanted is there; false if `limit` passes first or the torrent ends.
    pub fn wait_complete(&self, limit: Duration) -> bool {
        let over = |status: &Status| matches!(status.phase, Phase::Seeding | Phase::Stopped);
        let left = self.wait(limit, |status| over(status).then_some(status.left));
        left == Some(0)
    }

    fn wait<T>(&self, limit: Duration, look: impl Fn(&Status) -> Option<T>) -> Option<T> {
        let until = Instant::now() + limit;
        loop {
            if let Some(found) = look(&self.status()?) {
                return Some(found);
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Calls with each event of at least this severity that is about this torrent or about none, from
    /// now on until the session ends; from a thread made for that. What a slow callback misses is
    /// told by an `events_dropped`. [`ClientBuilder::on_event`] hears of the first events too.
    ///
    /// # Errors
    ///
    /// If the session has ended, or a thread cannot be started.
    pub fn on_event(&self, least: Severity, tell: impl FnMut(&Event) + Send + 'static) -> Result<(), Error> {
        let subscription = self
            .commands
            .ask(|reply| Command::Subscribe(least, Box::new(|_| true), reply))
            .ok_or(Error::Ended)?;
        Callback::new(least, tell).spawn(self.info_hash, subscription)
    }

    /// The .torrent that it was built from.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// SHA-1 of the info dictionary.
    pub fn infohash(&self) -> InfoHashes {
        self.info_hash
    }

    /// Our peer id.
    pub fn peerid(&self) -> PeerId {
        self.peer_id
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the torrent is; `None` while nothing is known but what a magnet link says.
    pub fn metainfo(&self) -> Option<Arc<Metainfo>> {
        self.ask(|_, torrent| torrent.metainfo()).flatten()
    }

    fn known(&self) -> Option<&KnownFacts> {
        if self.facts.known().is_none()
            && let Some(metainfo) = self.metainfo()
        {
            self.facts.learn(&metainfo, &[]);
        }
        self.facts.known()
    }

    /// Bytes in the torrent; 0 while that is not known, as of the pieces and the files below.
    pub fn size(&self) -> u64 {
        self.known().map_or(0, |known| known.size)
    }

    /// As the torrent says it; escape before printing.
    pub fn name(&self) -> &str {
        self.known();
        self.facts.name()
    }

    /// Bytes in each piece but the last.
    pub fn piece_length(&self) -> u32 {
        self.known().map_or(0, |known| known.piece_length)
    }

    /// The folder that its data live in, absolute.
    pub fn basedir(&self) -> &Path {
        &self.facts.basedir
    }

    /// The files: length in bytes, absolute path, priority.
    pub fn files(&self) -> Vec<FileInfo> {
        let mut files = self.known().map(|known| known.files.clone()).unwrap_or_default();
        let priorities = self.ask(|_, torrent| torrent.priorities().to_vec()).unwrap_or_default();
        files.iter_mut().zip(priorities).for_each(|(file, priority)| file.priority = priority);
        files
    }

    /// Payload bytes sent.
    pub fn uploaded(&self) -> u64 {
        self.status().map_or(0, |status| status.uploaded)
    }

    /// Payload bytes received, useful or not.
    pub fn downloaded(&self) -> u64 {
        self.status().map_or(0, |status| status.downloaded)
    }

    /// Wanted bytes that are not there.
    pub fn left(&self) -> u64 {
        self.status().map_or(0, |status| status.left)
    }

    /// Pieces that are verified and written.
    pub fn bitfield(&self) -> Bitfield {
        self.status().map_or_else(|| Bitfield::new(0), |status| status.have)
    }

    /// Pieces that are wanted.
    pub fn wanted(&self) -> Bitfield {
        self.status().map_or_else(|| Bitfield::new(0), |status| status.wanted)
    }

    /// Whether all that is wanted is there.
    pub fn complete(&self) -> bool {
        self.status().is_some_and(|status| status.left == 0)
    }

    /// Whether all there is is there.
    pub fn seed(&self) -> bool {
        self.status().is_some_and(|status| status.have.is_full())
    }

    /// The state that was asked for.
    pub fn state(&self) -> State {
        self.status().map_or(State::Stopped, |status| status.state)
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let peers = |now, torrent: &Torrent| torrent.swarm().map(|swarm| swarm.peers(now));
        self.ask(peers).flatten().unwrap_or_default()
    }

    /// The tiers of trackers, in the order in which they are asked.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let data = b"what everybody wants".repeat(5000);
    /// # let hashes: Vec<_> = data.chunks(32768).map(btget::metainfo::sha1).collect();
    /// # let bytes = btget::metainfo::create::NewTorrent { name: "wanted.bin",
    /// #     content: btget::metainfo::create::Content::File(data.len() as u64), piece_length: 32768,
    /// #     piece_hashes: &hashes, trackers: &[vec!["udp://127.0.0.1:9".into()]], private: false }.encode();
    /// # let torrent = folder.path().join("wanted.torrent");
    /// # std::fs::write(&torrent, bytes)?;
    /// # let local = btget::client::SessionOptions { bind: Some([127, 0, 0, 1].into()), ..Default::default() };
    /// use btget::client::Client;
    /// use std::time::Duration;
    ///
    /// let client = Client::builder(&torrent).basedir(folder.path()).session_options(local).build()?;
    /// assert!(client.wait_checked(Duration::from_secs(20)));
    /// let tier = &client.trackers()[0];
    /// assert_eq!(tier.urls, ["udp://127.0.0.1:9"]);
    /// assert_eq!((tier.complete, tier.incomplete, tier.peers, tier.peers6), (None, None, 0, 0));
    /// println!("failed {} times in a row", tier.failures);
    /// # Ok(()) }
    /// ```
    pub fn trackers(&self) -> Vec<Tier> {
        self.ask(|_, torrent| torrent.trackers()).unwrap_or_default()
    }

    /// Blocks that are kept in memory until their piece is whole, with copies of their data: what
    /// [`ClientBuilder::piece_cache`] takes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let data = b"what everybody wants".repeat(5000);
    /// # let hashes: Vec<_> = data.chunks(32768).map(btget::metainfo::sha1).collect();
    /// # let bytes = btget::metainfo::create::NewTorrent { name: "wanted.bin",
    /// #     content: btget::metainfo::create::Content::File(data.len() as u64), piece_length: 32768,
    /// #     piece_hashes: &hashes, trackers: &[vec!["udp://127.0.0.1:9".into()]], private: false }.encode();
    /// # let torrent = folder.path().join("wanted.torrent");
    /// # std::fs::write(&torrent, bytes)?;
    /// # let local = btget::client::SessionOptions { bind: Some([127, 0, 0, 1].into()), ..Default::default() };
    /// use btget::client::{CachedPiece, Client};
    /// use std::time::Duration;
    ///
    /// // The first 16 KiB of piece 1.
    /// let cache = vec![CachedPiece { piece: 1, blocks: vec![(0, data[32768..49152].to_vec())] }];
    /// let client = Client::builder(&torrent)
    ///     .basedir(folder.path())
    ///     .session_options(local)
    ///     .piece_cache(cache.clone())
    ///     .build()?;
    /// assert!(client.wait_checked(Duration::from_secs(20)));
    /// assert_eq!(client.piece_cache(), cache);
    /// # Ok(()) }
    /// ```
    pub fn piece_cache(&self) -> Vec<CachedPiece> {
        self.ask(|_, torrent| torrent.piece_cache()).unwrap_or_default()
    }
}
