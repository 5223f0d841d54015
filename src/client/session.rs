//! A running session.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::facts::Facts;
use super::{Client, Error, IpFilter, SessionOptions, Subscription, TorrentOptions};
use crate::event::{Kind, Severity, State};
use crate::ids::InfoHashes;
use crate::metainfo::{Magnet, Metainfo};
use crate::session::thread::{Commands, Started, Thread};
use crate::session::{Addition, Command, Known, NotStarted, choose, with_link};
use crate::storage::claim::{Claims, Wanted};
use crate::storage::{Device, kept};
use crate::wire::PeerId;

/// A running session: the listener, the limits and the torrents.
///
/// Dropping it stops every torrent as [`Session::shutdown`] does.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let new = |name| btget::metainfo::create::NewTorrent { name,
/// #     content: btget::metainfo::create::Content::File(7), piece_length: 16384,
/// #     piece_hashes: &[btget::metainfo::Sha1([7; 20])], trackers: &[], private: false }.encode();
/// # let (first, second) = (new("first"), new("second"));
/// use btget::client::{IpFilter, Session, SessionOptions, TorrentOptions};
/// use btget::event::{Kind, Severity};
/// use btget::metainfo::Metainfo;
///
/// let session = Session::start(SessionOptions {
///     bind: Some([127, 0, 0, 1].into()),
///     ip_filter: Some(IpFilter::new(|ip| (!ip.is_loopback()).then(|| "not from here".into()))),
///     ..SessionOptions::default()
/// })?;
/// assert_eq!(session.listening(), [([127, 0, 0, 1], session.port()).into()]);
/// assert!(session.peer_id().to_string().starts_with("-bg"));
///
/// let events = session.subscribe(Severity::Info)?;
/// let options = TorrentOptions { basedir: folder.path().into(), ..TorrentOptions::default() };
/// let one = session.add(Metainfo::parse(&first)?, options.clone())?;
/// let other = session.add(Metainfo::parse(&second)?, options)?;
/// assert_eq!(session.torrents()?.len(), 2);
/// session.remove(&one)?;
/// assert_eq!(session.torrents()?, [other.infohash()]);
/// one.start().expect_err("it has been removed");
///
/// session.shutdown();
/// assert!(events.iter().any(|event| matches!(event.kind, Kind::TorrentRemoved { .. })));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Session {
    /// `None` once it has ended.
    thread: Option<Thread>,
    started: Started,
    claims: Claims,
}

impl Session {
    /// Starts the thread and the listener.
    ///
    /// # Errors
    ///
    /// If none of the ports can be listened on, or a thread cannot be started.
    pub fn start(options: SessionOptions) -> Result<Session, Error> {
        let not_started = |NotStarted { message, event }| Error::Start { message, event };
        let (thread, started) = Thread::start(options).map_err(not_started)?;
        Ok(Session { thread: Some(thread), started, claims: Claims::default() })
    }

    /// Adds a torrent; its check begins at once, and it goes on to `options.state`. If another torrent, of this process or
    /// of another of this user's, writes to one of its paths, it ends at once with
    /// [`Verdict::PathTaken`](crate::event::Verdict::PathTaken).
    ///
    /// # Errors
    ///
    /// If it is there already, or the session has ended.
    pub fn add(&self, metainfo: Metainfo, options: TorrentOptions) -> Result<Client, Error> {
        let metainfo = match &options.state_dir {
            Some(state_dir) => Session::with_kept_layers(state_dir, metainfo),
            None => metainfo,
        };
        let info_hash = metainfo.info_hash;
        let facts = Facts::new(metainfo.name.clone(), &options);
        facts.learn(&metainfo, &options.priorities);
        let wanted =
            Wanted { metainfo: &metainfo, basedir: &options.basedir, priorities: &options.priorities };
        let claim = self.claims.claim(&wanted);
        self.add_known(info_hash, facts, Addition { known: Known::Metainfo(metainfo, claim), options })
    }

    /// What an earlier run has kept in `state_dir` of what a magnet link is. Needs no session.
    pub fn kept_metadata(state_dir: &Path, magnet: &Magnet) -> Option<Metainfo> {
        kept::load(state_dir, magnet.info_hash).map(|metainfo| with_link(metainfo, magnet))
    }

    /// The torrent with the piece layers that it lacks (BEP 52), if an earlier run got them from peers and has kept them in `state_dir`;
    /// else as it is. [`Session::add`] does so too. Needs no session.
    pub fn with_kept_layers(state_dir: &Path, metainfo: Metainfo) -> Metainfo {
        kept::with_layers(state_dir, metainfo)
    }

    /// The weights of the files of a torrent that its magnet link selects (BEP 53), as in [`TorrentOptions::priorities`]. The error says
    /// that it selects none that is there.
    pub fn selected_files(magnet: &Magnet, metainfo: &Metainfo) -> Result<Vec<u32>, String> {
        choose(metainfo, magnet, &TorrentOptions::default())
    }

    /// Adds a torrent of which a magnet link gives the hash. Peers are asked what it is, unless an earlier run has kept that in
    /// `options.state_dir`; then it goes on as [`Session::add`] does, with the files of `options.choice`. If that leaves nothing to
    /// choose, it ends with [`Verdict::NoSuchFile`](crate::event::Verdict::NoSuchFile).
    ///
    /// Until it is known what it is, its handle knows its hash and the name that the link gives: it has no files, no pieces and no
    /// [`metainfo`](Client::metainfo), and can be paused and started all the same. `metadata_received` tells of that moment.
    ///
    /// ```
    /// use btget::client::{Phase, Session, SessionOptions, TorrentOptions};
    /// use btget::metainfo::Magnet;
    ///
    /// # let loopback = Some(std::net::Ipv4Addr::LOCALHOST.into());
    /// let session = Session::start(SessionOptions { bind: loopback, ..SessionOptions::default() })?;
    /// let link = "magnet:?xt=urn:btih:dd722e3eb1443eb2394e610067f6038bde0c09e3&dn=a%20name";
    /// # let folder = std::env::temp_dir();
    /// let options = TorrentOptions { basedir: folder, ..TorrentOptions::default() };
    /// let torrent = session.add_magnet(Magnet::parse(link)?, options)?;
    /// assert_eq!((torrent.name(), torrent.size(), torrent.files().len()), ("a name", 0, 0));
    /// assert!(torrent.metainfo().is_none());
    /// let status = torrent.status().expect("the session goes on");
    /// assert_eq!((status.phase, status.metadata), (Phase::Fetching, Some((0, None))));
    /// torrent.pause()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use btget::metainfo::create::{Content, NewTorrent};
    /// # let folder = tempfile::tempdir()?;
    /// # std::fs::create_dir(folder.path().join("seed"))?;
    /// # std::fs::write(folder.path().join("seed/hello"), "Hello, swarm!")?;
    /// # let torrent = NewTorrent { name: "hello", content: Content::File(13), piece_length: 16384,
    /// #     piece_hashes: &[btget::metainfo::sha1(b"Hello, swarm!")], trackers: &[], private: false }.encode();
    /// use btget::client::{Session, SessionOptions, TorrentOptions};
    /// use btget::event::{Kind, Severity};
    /// use btget::metainfo::{Magnet, Metainfo, PeerAddress};
    ///
    /// let on_loopback = SessionOptions { bind: Some([127, 0, 0, 1].into()), ..SessionOptions::default() };
    /// let below = |name| TorrentOptions { basedir: folder.path().join(name), ..TorrentOptions::default() };
    ///
    /// // One session has the torrent, and seeds it.
    /// let other = Session::start(on_loopback.clone())?;
    /// let seeding = other.subscribe(Severity::Info)?;
    /// let metainfo = Metainfo::parse(&torrent)?;
    /// let link = Magnet::from(&metainfo).to_string();
    /// other.add(metainfo, below("seed"))?;
    /// assert!(seeding.iter().any(|event| matches!(event.kind, Kind::Seeding { .. })));
    ///
    /// // Another knows the link, and where to ask.
    /// let session = Session::start(on_loopback)?;
    /// let events = session.subscribe(Severity::Info)?;
    /// let peers = vec![PeerAddress::Ip(other.listening()[0])];
    /// let client = session.add_magnet(link.parse()?, TorrentOptions { peers, ..below("here") })?;
    /// assert!(events.iter().any(|event| matches!(event.kind, Kind::Complete { .. })));
    /// assert_eq!(client.metainfo().expect("its peer has said what it is").name, "hello");
    /// assert_eq!(std::fs::read(folder.path().join("here/hello"))?, b"Hello, swarm!");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If it is there already, or the session has ended.
    pub fn add_magnet(&self, magnet: Magnet, options: TorrentOptions) -> Result<Client, Error> {
        let mut options = options;
        options.peers.extend(magnet.peers.iter().cloned());
        let state_dir = options.state_dir.as_deref();
        if let Some(metainfo) = state_dir.and_then(|state_dir| Session::kept_metadata(state_dir, &magnet)) {
            return match choose(&metainfo, &magnet, &options) {
                Ok(priorities) => self.add(metainfo, TorrentOptions { priorities, ..options }),
                Err(_) if options.metadata_only => self.add(metainfo, options),
                Err(reason) => {
                    let facts = Facts::new(metainfo.name.clone(), &options);
                    facts.learn(&metainfo, &[]);
                    let known = Known::NothingChosen(metainfo, reason);
                    self.add_known(magnet.info_hash, facts, Addition { known, options })
                }
            };
        }
        let name = magnet.name_or_hash();
        let (info_hash, facts) = (magnet.info_hash, Facts::new(name, &options));
        let device = Device::of(&options.basedir);
        let known = Known::Magnet(magnet, self.claims.clone(), device);
        self.add_known(info_hash, facts, Addition { known, options })
    }

    fn add_known(&self, info_hash: InfoHashes, facts: Facts, addition: Addition) -> Result<Client, Error> {
        let (commands, facts) = (self.commands()?.clone(), Arc::new(facts));
        let add = |reply| Command::Add(Box::new(addition), reply);
        let added = commands.ask(add).ok_or(Error::Ended)?;
        let id = added.ok_or(Error::Twice(info_hash))?;
        let Started { peer_id, port, .. } = self.started;
        Ok(Client { commands, id, info_hash, facts, peer_id, port, path: None, session: None })
    }

    /// Ends a torrent and takes it out; its files stay.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn remove(&self, torrent: &Client) -> Result<(), Error> {
        self.ask(|reply| Command::Remove(torrent.id, reply))
    }

    /// The info hashes of all torrents, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn torrents(&self) -> Result<Vec<InfoHashes>, Error> {
        self.ask(Command::List)
    }

    /// The events of at least this severity, from now on.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn subscribe(&self, least: Severity) -> Result<Subscription, Error> {
        self.subscribe_to(least, |_| true)
    }

    /// [`Session::subscribe`] for those events alone that `interest` is true of: for others no thread wakes up.
    /// It is asked on the session's own thread, so it must be quick.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn subscribe_to(
        &self,
        least: Severity,
        interest: impl Fn(&Kind) -> bool + Send + 'static,
    ) -> Result<Subscription, Error> {
        self.ask(|reply| Command::Subscribe(least, Box::new(interest), reply))
    }

    /// Pauses all torrents at once, and none gets its turn to download because another was paused: see [`Client::pause`].
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn pause_all(&self) -> Result<(), Error> {
        self.ask(|reply| Command::EnterAll(State::Paused, reply))
    }

    /// Starts all torrents again, those that had their turn to download before those that waited for it: see [`Client::start`].
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn start_all(&self) -> Result<(), Error> {
        self.ask(|reply| Command::EnterAll(State::Started, reply))
    }

    /// From now on these addresses are refused, and no others (`None`: all are welcome). Connections with peers that are refused are closed.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn set_ip_filter(&self, filter: Option<IpFilter>) -> Result<(), Error> {
        self.ask(|reply| Command::SetIpFilter(filter, reply))
    }

    /// Our peer id, the same for all torrents.
    pub fn peer_id(&self) -> PeerId {
        self.started.peer_id
    }

    /// The port that is listened on; 0 if nobody can call, as through a proxy.
    pub fn port(&self) -> u16 {
        self.started.port
    }

    /// Where connections are accepted: one address, or one of each family.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.started.listening
    }

    /// Tells every torrent to stop (finish writing, sync, save resume data, announce `stopped`; 5 s
    /// at the most), without waiting for it.
    pub fn begin_shutdown(&self) {
        if let Some(thread) = &self.thread {
            thread.commands().shut_down();
        }
    }

    /// Stops every torrent and waits until the thread has ended.
    pub fn shutdown(self) {
        drop(self);
    }

    fn commands(&self) -> Result<&Commands, Error> {
        self.thread.as_ref().map(Thread::commands).ok_or(Error::Ended)
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, Error> {
        self.commands()?.ask(command).ok_or(Error::Ended)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.end();
        }
    }
}
