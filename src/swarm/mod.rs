//! The pure core of a torrent: what to ask of whom, whom to serve, whom to call, when to announce.
//!
//! [`Swarm`] owns all state of a torrent's transfer. It does no I/O, has no clock, no tasks and no
//! global randomness: [`Swarm::handle`] and [`Swarm::on_block`] take what happened and when,
//! [`Swarm::poll`] says what to do about it, [`Swarm::deadline`] when to ask again though nothing
//! happened. The same inputs with the same seed give the same outputs.

mod allowed_fast;
mod begun;
mod bidder;
mod choker;
mod connect;
mod download;
mod hashes;
mod order;
mod peer;
mod picker;
mod rate;
mod reassign;
mod requests;
mod suspects;
#[cfg(any(test, feature = "internals"))]
mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod upload;
mod verify;
mod want;
mod web;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::ListenPorts;
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::budget::{Share, charge};
use crate::event::{Direction, Encryption, Kind, Severity, State, WantedEvents};
use crate::fetch::MetadataServer;
use crate::finder::Parting;
use crate::hash::{Sha1, Sha256};
use crate::ids::{PeerKey, WireHash};
use crate::layout::{Block, Layout, PieceIndex};
use crate::pace::PaceShare;
use crate::proofs::{BlockTrials, HashServer, PieceRun};
use crate::wire::extended::{HolepunchMessage, PexMessage};
use crate::wire::{Message, PeerId, Reserved};
use begun::BegunPieces;
use choker::Choker;
use order::OrderWindow;
use peer::Peer;
use picker::Picker;

use rate::RateMeter;
use suspects::Suspects;
use verify::UnwrittenPiece;
use web::WebSeed;

pub use bidder::Bidder;
pub use connect::first_stays;
pub use order::{Order, window_length};
pub use peer::{Occupant, PeerFlags, PeerStatus};
pub use timers::{KEEP_ALIVE, SILENCE};
pub use web::RunWish;

/// Bytes of whole pieces that wait for their hash and write before no more is asked for: most of a
/// batch of large pieces, enough to keep the disk busy and little enough to hold in memory.
pub const MAX_UNWRITTEN: u64 = 16 << 20;

/// Room for so many outputs is kept while there are none. All requests of a full window take far more, for a moment.
const MAX_KEPT_OUTPUTS: usize = 64;

/// What a swarm needs to begin.
#[derive(Debug)]
pub struct SwarmConfig {
    /// The torrent.
    pub info_hash: WireHash,
    /// Its shape.
    pub layout: Arc<Layout>,
    /// Its `info` dictionary, for peers that know it by its hash alone (BEP 9); empty: they are not told.
    pub metadata: Arc<[u8]>,
    /// Our peer id.
    pub peer_id: PeerId,
    /// Where we can be called; told to peers (BEP 10 `p`).
    pub ports: ListenPorts,
    /// Pieces that are verified and on the disk.
    pub have: Bitfield,
    /// Pieces that the user wants.
    pub wanted: Bitfield,
    /// Weight of each piece; empty: all alike.
    pub weights: Vec<u32>,
    /// The order in which pieces are begun.
    pub order: Order,
    /// Blocks that an earlier run left of pieces that are not whole; `None` for those that are not here.
    pub partial: BTreeMap<PieceIndex, Vec<Option<BlockData>>>,
    /// The memory for pieces that are begun.
    pub memory: Share,
    /// How fast peers may be asked.
    pub pace: PaceShare,
    /// Bytes received so far, in earlier runs too.
    pub downloaded: u64,
    /// Bytes sent so far, in earlier runs too.
    pub uploaded: u64,
    /// Peers may tell us of others (BEP 11), and are told; never in a private torrent (BEP 27).
    pub peer_exchange: bool,
    /// Peers may introduce us to others, and are introduced (BEP 55); only with peer exchange, and where peers are called by uTP.
    pub holepunch: bool,
    /// Connections at the most.
    pub max_peers: usize,
    /// Unchoked peers at the most.
    pub upload_slots: usize,
    /// Seed of every random choice.
    pub seed: u64,
}

/// A connection whose handshakes are done.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The connection.
    pub peer: PeerKey,
    /// Its other end.
    pub address: SocketAddr,
    /// Which side opened the connection.
    pub direction: Direction,
    /// What carries it, for events: `tcp` or `utp`.
    pub transport: &'static str,
    /// The extensions that both sides speak.
    pub reserved: Reserved,
    /// The peer's id, as its handshake says.
    pub peer_id: PeerId,
    /// How the connection is protected.
    pub encryption: Encryption,
    /// It has been told already that we have nothing, and which extensions we speak: it was connected before it was known what the torrent is.
    pub was_greeted: bool,
}

/// Something that has happened.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Input {
    /// The user wants this state from now on.
    Enter(State),
    /// What is wanted from now on, with the weight of each piece (empty: all alike), and in which order.
    Want {
        wanted: Bitfield,
        weights: Vec<u32>,
        order: Order,
    },
    /// Pieces are begun in this order from now on.
    Order(Order),
    Connected(Hello),
    Closed(PeerKey),
    /// The peer sent what is no message; `Closed` follows.
    Unruly(PeerKey),
    /// Any message but a block.
    Message(PeerKey, Message),
    /// So many payload bytes of blocks were sent.
    Sent(PeerKey, u32),
    /// The piece matches its hash and is written. `digests` of its blocks, if they were asked for.
    Passed {
        piece: PieceIndex,
        digests: Vec<Sha1>,
    },
    /// The piece does not match its hash. `digests` of its blocks, and, of one of version 2 (BEP 52), their `hashes`.
    Failed {
        piece: PieceIndex,
        digests: Vec<Sha1>,
        hashes: Vec<Sha256>,
    },
    /// The piece could not be written, its data are gone.
    Lost(PieceIndex),
    /// These pieces were read for [`Output::HashBlocks`]: the hashes of their blocks; `None` if they could not be had.
    BlocksHashed(PieceRun, Option<Vec<Sha256>>),
    /// There is room in memory for a further piece.
    Memory,
    /// We can be called by these ports from now on.
    Ports(ListenPorts),
}

/// Something to be done.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Output {
    Send(PeerKey, Message),
    /// Read this block and send it.
    Serve(PeerKey, Block),
    /// Read these pieces, and tell the hashes of their blocks by [`Input::BlocksHashed`].
    HashBlocks(PieceRun),
    Close(PeerKey, String),
    /// All blocks of the piece are here, in order: hash and write them. With `digests`, tell the digests of
    /// the blocks even if it passes.
    Verify {
        piece: PieceIndex,
        blocks: Vec<BlockData>,
        digests: bool,
    },
    /// In a box, for it is rare and several times as long as the others.
    Event(Box<Kind>),
}

/// What has become of a connection, for whoever decides whom to call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerReport {
    /// There is a connection with this address, opened by us or by the peer.
    Connected(PeerKey, SocketAddr, Direction),
    /// We called this address, and refused the connection for the time being.
    Refused(SocketAddr),
    /// We called this address, and reached ourselves.
    Own(SocketAddr),
    /// A peer that called us can be called at this address (BEP 10 `p`).
    Listens(PeerKey, SocketAddr),
    /// A peer wants to be told of others, or does not any more (BEP 11).
    Wants(PeerKey, bool),
    /// A peer at this address tells of others.
    Tells(PeerKey, SocketAddr, PexMessage),
    /// Whether a peer speaks `ut_holepunch` (BEP 55).
    Punches(PeerKey, bool),
    /// A peer asks to be introduced to another one, or introduces us, or says why it does not.
    Holepunch(PeerKey, HolepunchMessage),
    /// Whether a peer wants nothing more: it has everything, or says so (BEP 21).
    Seed(PeerKey, bool),
    /// A peer says that it can be reached at this address of the other family, too (BEP 10 `ipv4`, `ipv6`).
    AlsoAt(PeerKey, IpAddr),
    /// A connection has ended, with a peer that can be called at this address, if that is known.
    Parted(PeerKey, Option<SocketAddr>, Parting),
    /// The web seed of this number has sent corrupt data of this piece.
    CorruptWebSeed(u16, PieceIndex),
    /// The machine at this address has sent corrupt data: nobody there is to be dealt with any more, or for so long.
    Banned(SocketAddr, Option<Duration>),
}

/// Counters of a swarm; bytes and bytes a second.
#[derive(Clone, Copy, Default, Debug)]
#[allow(missing_docs)]
pub struct Totals {
    pub downloaded: u64,
    pub uploaded: u64,
    pub wasted: u64,
    /// Of what is of use: blocks count as they come, so that long pieces do not make it jump, and are taken back if their
    /// piece turns out corrupt.
    pub down_rate: u64,
    pub up_rate: u64,
    pub peers: usize,
    pub seeds: usize,
}

/// The transfer of one torrent.
#[derive(Debug)]
pub struct Swarm {
    config: SwarmConfig,
    state: State,
    /// Verified and written.
    have: Bitfield,
    wanted: Bitfield,
    /// How many pieces are wanted and not there.
    missing: u32,
    peers: BTreeMap<PeerKey, Peer>,
    /// The web seeds that are in use; at most as many as a torrent may have.
    web_seeds: BTreeMap<PeerKey, WebSeed>,
    picker: Picker,
    window: OrderWindow,
    pieces: BegunPieces,
    /// Whole pieces that are not written yet: their hash is not known, or there was no room on the disk.
    verifying: BTreeMap<PieceIndex, UnwrittenPiece>,
    suspects: Suspects,
    choker: Choker,
    /// Peers that want something from us and that we choke.
    waiting: BTreeSet<PeerKey>,
    /// Peers that we do not choke; each wants something.
    served: BTreeSet<PeerKey>,
    /// Peers whose window may have room.
    may_have_room: BTreeSet<PeerKey>,
    /// Under a limit: peers that may be asked when it is their turn, and whom was asked last.
    asking: BTreeSet<PeerKey>,
    asked_last: Option<PeerKey>,
    /// Since when what peers send is read; `None`: it is not.
    listens_since: Option<Instant>,
    /// Gives the metadata to peers.
    server: MetadataServer,
    /// Gives hashes of merkle trees to peers.
    hash_server: HashServer,
    /// Finds out who sent bad blocks, in version 2.
    trials: Option<BlockTrials>,
    outputs: VecDeque<Output>,
    /// See [`Swarm::take_reports`].
    reports: Vec<PeerReport>,
    wanted_events: WantedEvents,
    downloaded: u64,
    uploaded: u64,
    /// Both when the trackers were last told `started`.
    before: (u64, u64),
    wasted: u64,
    /// Of blocks that were of use, less those that have turned out corrupt.
    down_rate: RateMeter,
    up_rate: RateMeter,
    /// When the choker looks next; `None` while nobody is interested.
    next_rechoke: Option<Instant>,
    /// When silent and slow peers are looked for next.
    next_patrol: Instant,
    /// When begun pieces were last looked at for those of which nothing comes.
    looked_at: Instant,
}

impl Swarm {
    /// A swarm without peers, in state `Stopped`.
    pub fn new(now: Instant, mut config: SwarmConfig) -> Swarm {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut picker = Picker::new(&config.wanted, &config.have, &config.weights, rng.u64(..));
        let mut window = OrderWindow::default();
        window.set(config.order, &config.wanted, &config.have, &config.layout);
        let mut pieces = BegunPieces::default();
        for (piece, blocks) in std::mem::take(&mut config.partial) {
            if picker.contains(piece) {
                picker.close_piece(piece);
                pieces.begin(now, &config.layout, piece, false);
                config.memory.take_anyway(charge(u64::from(config.layout.piece_size(piece))));
                for (number, data) in (0..).zip(blocks) {
                    let Some(data) = data else { continue };
                    pieces.restore(&config.layout, config.layout.block(piece, number), data);
                }
            }
        }
        Swarm {
            state: State::Stopped,
            have: config.have.clone(),
            wanted: config.wanted.clone(),
            missing: config.wanted.count_minus(&config.have),
            peers: BTreeMap::new(),
            web_seeds: BTreeMap::new(),
            picker,
            window,
            pieces,
            verifying: BTreeMap::new(),
            suspects: Suspects::default(),
            choker: Choker::new(rng.u64(..)),
            waiting: BTreeSet::new(),
            served: BTreeSet::new(),
            may_have_room: BTreeSet::new(),
            asking: BTreeSet::new(),
            asked_last: None,
            listens_since: Some(now),
            server: MetadataServer::new(Some(config.metadata.clone()).filter(|bytes| !bytes.is_empty())),
            hash_server: HashServer::default(),
            trials: None,
            outputs: VecDeque::new(),
            reports: Vec::new(),
            wanted_events: WantedEvents::default(),
            before: (config.downloaded, config.uploaded),
            downloaded: config.downloaded,
            uploaded: config.uploaded,
            wasted: 0,
            down_rate: RateMeter::new(),
            up_rate: RateMeter::new(),
            next_rechoke: None,
            next_patrol: now,
            looked_at: now,
            config,
        }
    }

    /// Takes what happened. Call [`Swarm::poll`] until it gives `None` afterwards; several inputs may be handled before.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Enter(state) => self.enter(now, state),
            Input::Want { wanted, weights, order } => self.want(now, wanted, &weights, order),
            Input::Order(order) => self.set_order(order),
            Input::Connected(hello) => self.on_connected(now, hello, false),
            Input::Closed(peer) => self.on_closed(now, peer),
            Input::Unruly(peer) => self.note_parting(peer, Parting::Unruly),
            Input::Message(peer, message) => self.on_message(now, peer, message),
            Input::Sent(peer, bytes) => self.on_sent(now, peer, bytes),
            Input::Passed { piece, digests } => self.on_passed(now, piece, &digests),
            Input::BlocksHashed(run, hashes) => self.on_blocks_hashed(now, run, hashes),
            Input::Failed { piece, digests, hashes } => self.on_failed(now, piece, digests, hashes),
            Input::Lost(piece) => self.on_lost(now, piece),
            Input::Memory => self.wake_idle(),
            Input::Ports(ports) => self.set_ports(now, ports),
        }
    }

    /// The next thing to do; `None`: nothing before [`Swarm::deadline`] or the next input.
    pub fn poll(&mut self, now: Instant) -> Option<Output> {
        if self.outputs.is_empty() {
            self.run_due(now);
        }
        let next = self.outputs.pop_front();
        if next.is_none() {
            self.outputs.shrink_to(MAX_KEPT_OUTPUTS);
        }
        next
    }

    fn run_due(&mut self, now: Instant) {
        self.run_timers(now);
        while let Some(peer) = self.may_have_room.pop_first() {
            self.fill_window(now, peer);
        }
        self.ask_in_turn(now);
    }

    /// What has become of connections since the last call.
    pub fn take_reports(&mut self) -> Vec<PeerReport> {
        std::mem::take(&mut self.reports)
    }

    /// From now on, these events are told by [`Output::Event`].
    pub fn want_events(&mut self, wanted: WantedEvents) {
        self.wanted_events = wanted;
    }

    /// Builds an event if one of this severity is wanted.
    fn tell(&mut self, severity: Severity, kind: impl FnOnce() -> Kind) {
        let event = self.wanted_events.build(severity, kind);
        self.outputs.extend(event.map(|kind| Output::Event(Box::new(kind))));
    }

    /// Pieces that are verified and written.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Pieces that the user wants.
    pub fn wanted(&self) -> &Bitfield {
        &self.wanted
    }

    /// Whether all that is wanted is there.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The state that was entered last.
    pub fn state(&self) -> State {
        self.state
    }

    /// The pieces of which blocks are asked for or here.
    pub fn in_flight(&self) -> Bitfield {
        let mut set = Bitfield::new(self.have.len());
        set.extend(self.pieces.iter().chain(self.verifying.keys().copied()));
        set
    }

    /// Bytes of the torrent that are not there, be they wanted or not: the tracker's `left` (BEP 3).
    pub fn left(&self) -> u64 {
        self.have.complement().bytes(&self.config.layout)
    }

    /// Payload bytes received and sent since the trackers were told `started` (BEP 3).
    pub fn since_started(&self) -> (u64, u64) {
        (self.downloaded - self.before.0, self.uploaded - self.before.1)
    }

    /// The counters. While nothing can come or go, the rates are 0, whatever was measured before.
    pub fn totals(&self, now: Instant) -> Totals {
        let has_sources = !self.peers.is_empty() || self.web_seeds.values().any(WebSeed::is_asked);
        let can_move = self.state == State::Started && has_sources;
        Totals {
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            wasted: self.wasted,
            down_rate: if can_move && !self.is_complete() { self.down_rate.get(now) } else { 0 },
            up_rate: if can_move { self.up_rate.get(now) } else { 0 },
            peers: self.peers.len(),
            seeds: self.peers.values().filter(|peer| peer.is_seed()).count(),
        }
    }

    /// The peers.
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        self.peers.values().map(|peer| peer.status(now)).collect()
    }

    /// Gives up all begun pieces, and gives the data of those that have any, each with `None` for a block that is not
    /// here: what a clean stop saves. For a swarm that downloads no more.
    pub fn take_partial_pieces(&mut self) -> BTreeMap<PieceIndex, Vec<Option<BlockData>>> {
        let begun: Vec<PieceIndex> = self.pieces.iter().collect();
        begun.into_iter().for_each(|piece| self.free_memory(piece));
        self.pieces.take_all()
    }

    /// Takes room in memory for a piece. False if it has to wait.
    fn take_memory(&mut self, piece: PieceIndex) -> bool {
        self.config.memory.take(charge(u64::from(self.config.layout.piece_size(piece))))
    }

    /// A begun piece is written, or given up.
    fn free_memory(&mut self, piece: PieceIndex) {
        self.config.memory.give_back(charge(u64::from(self.config.layout.piece_size(piece))));
    }

    /// The data of begun pieces that are here, by the number of their block.
    pub fn partial_pieces(
        &self,
    ) -> impl Iterator<Item = (PieceIndex, impl Iterator<Item = (u32, &BlockData)>)> {
        self.pieces.data()
    }

    fn send(&mut self, now: Instant, peer: PeerKey, message: Message) {
        self.tell_haves(now, peer);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.last_sent = now;
        }
        self.outputs.push_back(Output::Send(peer, message));
    }
}
