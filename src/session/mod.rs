//! The session: owns the listener, the connections, the limits and the torrents, on one thread, in
//! one loop that shows every input there is.
//!
//! Decides nothing about a transfer (that is each torrent's [`Swarm`](crate::swarm::Swarm)) and does
//! nothing that could block (that is the disk's threads, and blocking threads for trackers).

pub mod options;
pub mod subscribers;
pub mod thread;

mod checking;
mod connections;
mod events;
mod lifecycle;
mod notes;
mod outputs;
mod saving;
mod selection;
pub mod torrent;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::bitfield::Bitfield;
use crate::check::PieceResult;
use crate::disk::{Disk, Done};
use crate::event::{Kind, Severity, State};
use crate::ids::InfoHashes;
use crate::ids::PeerKey;
use crate::layout::PieceIndex;
use crate::metainfo::Metainfo;
use crate::net::Shared;
use crate::net::connection::FromPeer;
use crate::net::dial::Met;
use crate::storage::{StorageError, resume};
use crate::swarm::Totals;
use crate::swarm::announce::{Answer, Failure, Token};

pub use crate::swarm::{PeerFlags, PeerStatus};
use crate::tracker;
use crate::wire::PeerId;
use checking::Checked;
use connections::Connections;
use options::{SessionOptions, TorrentOptions};
use saving::Synced;
use subscribers::{Interest, Subscribers, Subscription};
use torrent::Torrent;

/// Reads of all connections that may wait for the loop. Each is up to half a MiB of blocks, so this
/// is memory; it is enough to take several connections' at a time.
const MOST_FROM_PEERS: usize = 8;

/// Inputs of one kind that are taken before the swarms are asked what to do about them.
const BATCH: usize = 64;

/// What is asked about a torrent that may or may not be there.
pub type Question = Box<dyn FnOnce(Option<&Torrent>) + Send>;

/// What the library's handles ask of the session. Each waits for its reply, so that there are at
/// most as many as there are threads that ask.
pub enum Command {
    /// Adds a torrent, unless it is there.
    Add(Box<Metainfo>, TorrentOptions, SyncSender<bool>),
    /// Ends a torrent and forgets it.
    Remove(InfoHashes, SyncSender<()>),
    /// To be in this state.
    /// Like those below: false if it is not there.
    Enter(InfoHashes, State, SyncSender<bool>),
    /// Checks again what is on disk of these pieces (`None`: all), whatever resume data say.
    Hashcheck(InfoHashes, Option<Bitfield>, SyncSender<bool>),
    /// Calls the closure with the torrent.
    Ask(InfoHashes, Question),
    /// The torrents.
    List(SyncSender<Vec<InfoHashes>>),
    /// Subscribes.
    Subscribe(Severity, Interest, SyncSender<Subscription>),
    /// A peer's address, from the user.
    AddPeer(InfoHashes, SocketAddr, SyncSender<bool>),
    /// Ends all torrents, then the session.
    Shutdown,
}

/// What tasks and threads of the session tell the loop, beside the connections and the disk.
pub(crate) enum Notice {
    Accepted(TcpStream, SocketAddr),
    /// A peer that called us has said its handshake, or not.
    Answered(SocketAddr, std::io::Result<Met>),
    Dialed(InfoHashes, SocketAddr, std::io::Result<Met>),
    /// With the number of the swarm that asked.
    Announced(InfoHashes, u32, Token, Result<Answer, Failure>),
    PieceChecked(InfoHashes, PieceIndex, PieceResult),
    Checked(Box<Checked>),
    Prepared(InfoHashes, Result<(), StorageError>),
    Synced(InfoHashes, Synced),
    /// Resume data to be stored.
    Snapshot(InfoHashes, resume::Snapshot),
    /// All is synced, resume data are stored, files are closed.
    SavedAll(InfoHashes, Result<(), StorageError>),
    Told(InfoHashes, Kind),
}

/// The session's state: see the module's head.
pub struct Engine {
    options: SessionOptions,
    peer_id: PeerId,
    port: u16,
    /// Where connections are accepted.
    listening: Vec<SocketAddr>,
    key: u32,
    torrents: BTreeMap<InfoHashes, Torrent>,
    /// Torrents whose swarm may have something to say.
    touched: BTreeSet<InfoHashes>,
    connections: Connections,
    shared: Rc<Shared>,
    disk: Disk,
    subscribers: Subscribers,
    /// What the subscribers wanted when those that build events were last told.
    least: Option<Severity>,
    /// Whether any data came or went since the last `progress`.
    moved: bool,
    rng: fastrand::Rng,
    commands: mpsc::UnboundedReceiver<Command>,
    from_peers: mpsc::Receiver<FromPeer>,
    to_loop: mpsc::Sender<FromPeer>,
    done: mpsc::UnboundedReceiver<Done>,
    notices: mpsc::UnboundedReceiver<Notice>,
    /// Bounded by what is under way: calls, handshakes, announces and checks each end in one.
    notify: mpsc::UnboundedSender<Notice>,
    tracker_options: Arc<tracker::Options>,
    next_progress: Option<Instant>,
    last_totals: BTreeMap<InfoHashes, Totals>,
    shutting_down: bool,
    /// Counts swarms, of all torrents alike, so that no answer is taken for another's.
    generations: u32,
}

impl Engine {
    /// On the session's thread, inside its runtime: listens, starts the disk's threads.
    pub fn start(
        options: SessionOptions,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Engine, NotStarted> {
        let listeners = crate::net::listen::listen(&options.ports, options.bind)
            .map_err(|error| not_listening(&options, &error))?;
        let mut rng = fastrand::Rng::new();
        let (to_loop, from_peers) = mpsc::channel(MOST_FROM_PEERS);
        let (notify, notices) = mpsc::unbounded_channel();
        let (to_done, done) = mpsc::unbounded_channel();
        let disk = Disk::start(to_done).map_err(|error| format!("cannot start a thread: {error}"))?;
        let mut engine = Engine {
            peer_id: PeerId::generate(&mut rng),
            port: listeners.port,
            listening: listeners.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect(),
            key: rng.u32(..),
            torrents: BTreeMap::new(),
            touched: BTreeSet::new(),
            connections: Connections::default(),
            shared: Shared::new(options.max_download_rate, options.max_upload_rate),
            disk,
            subscribers: Subscribers::default(),
            least: None,
            moved: false,
            rng,
            commands,
            from_peers,
            to_loop,
            done,
            notices,
            notify,
            tracker_options: Arc::new(tracker::Options {
                bind: options.bind,
                ..tracker::Options::from_env()
            }),
            next_progress: None,
            last_totals: BTreeMap::new(),
            shutting_down: false,
            generations: 0,
            options,
        };
        for socket in listeners.sockets {
            engine.accept_from(socket);
        }
        Ok(engine)
    }

    /// Our peer id.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where connections are accepted.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// The loop; ends after `Command::Shutdown`, or when nobody can send commands any more, once all
    /// torrents have ended.
    pub async fn run(mut self) {
        let far = Duration::from_secs(3600);
        let timer = sleep_until((Instant::now() + far).into());
        tokio::pin!(timer);
        while !(self.shutting_down && self.all_ended()) {
            let deadline = self.deadline().unwrap_or_else(|| Instant::now() + far);
            if timer.deadline() != deadline.into() {
                timer.as_mut().reset(deadline.into());
            }
            tokio::select! {
                Some(event) = self.from_peers.recv() => {
                    self.on_peers(event);
                }
                Some(done) = self.done.recv() => {
                    let now = Instant::now();
                    self.on_done(now, done);
                    for _ in 0..BATCH {
                        let Ok(done) = self.done.try_recv() else { break };
                        self.on_done(now, done);
                    }
                }
                Some(notice) = self.notices.recv() => self.on_notice(Instant::now(), notice),
                command = self.commands.recv(), if !self.shutting_down => match command {
                    Some(command) => self.on_command(Instant::now(), command),
                    None => self.shut_down(Instant::now()),
                },
                () = &mut timer => {
                    let due = self.torrents.keys().copied();
                    self.touched.extend(due);
                }
            }
            self.settle(Instant::now());
        }
        // Whoever was too slow to be saved in time is not waited for: what is on the disk is consistent.
        let saved = |torrent: &Torrent| torrent.ending.as_ref().is_some_and(|ending| ending.saved);
        if self.torrents.values().all(saved) {
            self.disk.finish();
        }
    }

    fn on_peers(&mut self, first: FromPeer) {
        let now = Instant::now();
        self.on_peer(now, first);
        for _ in 0..BATCH {
            let Ok(event) = self.from_peers.try_recv() else { break };
            self.on_peer(now, event);
        }
    }

    /// Asks the swarms what to do until none has anything to say, then sees to what is due.
    fn settle(&mut self, now: Instant) {
        self.pass_on_what_is_wanted();
        while let Some(torrent) = self.touched.pop_first() {
            self.perform(now, torrent);
            self.tell_notes(torrent);
            self.see_to_the_end(now, torrent);
        }
        self.tell_progress(now);
    }

    fn deadline(&self) -> Option<Instant> {
        let of_torrent = |torrent: &Torrent| {
            let swarm = torrent.swarm().and_then(|swarm| swarm.deadline());
            swarm.into_iter().chain(torrent.policy_deadline()).min()
        };
        self.torrents.values().filter_map(of_torrent).chain(self.next_progress).min()
    }

    fn all_ended(&self) -> bool {
        self.torrents.values().all(|torrent| torrent.ended.is_some())
    }

    fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Add(metainfo, options, reply) => {
                let _ = reply.send(self.add(now, *metainfo, options));
            }
            Command::Remove(torrent, reply) => {
                self.remove(now, torrent);
                let _ = reply.send(());
            }
            Command::Enter(torrent, state, reply) => {
                self.enter(now, torrent, state, "asked for");
                let _ = reply.send(self.torrents.contains_key(&torrent));
            }
            Command::Hashcheck(torrent, pieces, reply) => {
                self.check_again(now, torrent, pieces);
                let _ = reply.send(self.torrents.contains_key(&torrent));
            }
            Command::Ask(torrent, question) => question(self.torrents.get(&torrent)),
            Command::List(reply) => {
                let _ = reply.send(self.torrents.keys().copied().collect());
            }
            Command::Subscribe(least, interest, reply) => {
                let subscription = self.subscribers.add(least, interest, self.news());
                let _ = reply.send(subscription);
            }
            Command::AddPeer(torrent, address, reply) => {
                self.add_peer(now, torrent, address);
                let _ = reply.send(self.torrents.contains_key(&torrent));
            }
            Command::Shutdown => self.shut_down(now),
        }
    }

    fn on_notice(&mut self, now: Instant, notice: Notice) {
        match notice {
            Notice::Accepted(stream, address) => self.on_accepted(stream, address),
            Notice::Answered(address, met) => self.on_answered(now, address, met),
            Notice::Dialed(torrent, address, met) => self.on_dialed(now, torrent, address, met),
            Notice::Announced(torrent, generation, token, result) => {
                self.on_announced(now, torrent, generation, token, result)
            }
            Notice::Checked(checked) => self.on_checked(now, *checked),
            Notice::Prepared(torrent, result) => self.on_prepared(now, torrent, result),
            Notice::Synced(torrent, synced) => self.on_synced(now, torrent, synced),
            Notice::Snapshot(torrent, snapshot) => self.on_snapshot(torrent, snapshot),
            Notice::SavedAll(torrent, result) => self.on_saved_all(now, torrent, result),
            Notice::Told(torrent, kind) => self.tell(torrent, kind),
            Notice::PieceChecked(torrent, piece, result) => self.on_piece_checked(torrent, piece, result),
        }
    }
}

/// Why there is no session.
#[derive(Debug)]
pub struct NotStarted {
    /// As a user reads it.
    pub message: String,
    /// What its subscribers would have been told.
    pub event: Option<Box<Kind>>,
}

impl From<String> for NotStarted {
    fn from(message: String) -> NotStarted {
        NotStarted { message, event: None }
    }
}

fn not_listening(options: &SessionOptions, error: &std::io::Error) -> NotStarted {
    let ports: Vec<String> = options.ports.iter().take(8).map(u16::to_string).collect();
    let ports = ports.join(", ");
    let at = options.bind.map_or(String::new(), |ip: IpAddr| format!("{ip} "));
    let message = format!("cannot listen on {at}port {ports}: {error}; choose others with --port");
    let event = Kind::ListenFailure {
        address: options.bind.unwrap_or(IpAddr::from([0; 4])).to_string(),
        ports,
        protocol: if options.bind.is_some_and(|ip| ip.is_ipv6()) { "tcp6" } else { "tcp4" },
        reason: error.to_string(),
    };
    NotStarted { message, event: Some(Box::new(event)) }
}

/// Names connections.
#[derive(Debug, Default)]
pub(crate) struct Keys(u64);

impl Keys {
    fn next(&mut self) -> PeerKey {
        self.0 += 1;
        PeerKey(self.0)
    }
}
