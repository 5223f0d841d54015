//! The pure core of a torrent: what to ask of whom, whom to serve, whom to call, when to announce.
//!
//! [`Swarm`] owns all state of a torrent's transfer. It does no I/O, has no clock, no tasks and no
//! global randomness: [`Swarm::handle`] and [`Swarm::on_block`] take what happened and when,
//! [`Swarm::poll`] says what to do about it, [`Swarm::deadline`] when to ask again though nothing
//! happened. The same inputs with the same seed give the same outputs.

mod allowed_fast;
mod api;
mod begun;
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
mod slots;
mod superseed;
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
use std::time::Instant;

use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::budget::charge;
use crate::event::{Kind, Severity, State, WantedEvents};
use crate::fetch::MetadataServer;
use crate::finder::Parting;
use crate::ids::PeerKey;
use crate::layout::PieceIndex;
use crate::proofs::{BlockTrials, HashServer};
use crate::wire::Message;
use begun::BegunPieces;
use choker::Choker;
use order::OrderWindow;
use peer::Peer;
use picker::Picker;
use rate::RateMeter;
use superseed::SuperSeed;
use suspects::Suspects;
use verify::UnwrittenPiece;
use web::WebSeed;

pub use api::{Hello, Input, Output, PeerReport, SwarmConfig, Totals};
pub use choker::Contender;
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
    /// How many of them we have called.
    called: usize,
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
    /// What is hidden from whom while we are the only seed.
    super_seed: SuperSeed,
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
            called: 0,
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
            super_seed: SuperSeed::default(),
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
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.last_sent = now;
            self.outputs.extend(peer.take_haves());
        }
        self.outputs.push_back(Output::Send(peer, message));
    }
}
