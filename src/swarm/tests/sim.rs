//! Many swarms in one simulated network, in virtual time.
//!
//! Nodes have an uplink that sends one block at a time, its connections in turn, and a downlink; each
//! connection has a latency and a bounded number of bytes under way. A tracker knows who has
//! announced. Everything happens in order of (time, sequence), all chance comes from one seed: the
//! same seed gives the same run, and `trace` is the proof.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Hello, Input, Output, Swarm, SwarmConfig};
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::event::{Direction, Kind, State};
use crate::finder::announce::{AnnounceEvent, Answer, Token};
use crate::finder::{DialEnd, Finder, FinderOutput, Rules};
use crate::hash::merkle::block_hashes;
use crate::hash::{Sha1, Sha256};
use crate::ids::PeerKey;
use crate::layout::{Block, Layout, PieceIndex};
use crate::metainfo::samples::Sample;
use crate::metainfo::{Metainfo, PieceLayers};
use crate::proofs::{BlockTrials, HashServer, PieceRun};
use crate::transfer::Transfer;
use crate::wire::{HashRange, Message, PeerId, Reserved};

/// What is wrong with a node.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Faults {
    /// Of a thousand blocks that it sends, so many are not what they should be.
    pub corrupt: u32,
    /// This one of the blocks that it sends, counted from 1, is not what it should be.
    pub bad_block: u32,
    /// It never sends a block.
    pub silent: bool,
    /// It refuses every request, though it unchokes.
    pub refuses: bool,
    /// With each block it sends another one that nobody asked for.
    pub unasked: bool,
    /// How it answers who asks for hashes.
    pub hashes: HashManner,
}

/// How a node of version 2 answers who asks for hashes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum HashManner {
    #[default]
    Honest,
    /// One of those that it sends is wrong.
    Lies,
    Refuses,
    Silent,
    /// It sends them twice.
    Repeats,
}

/// The merkle trees of a torrent of version 2, and what is below them.
pub(super) struct Trees {
    layers: Arc<PieceLayers>,
    /// The hashes of the right blocks, by piece.
    blocks: Vec<Vec<Sha256>>,
}

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Bytes a second.
    pub up: f64,
    /// Bytes a second.
    pub down: f64,
    pub complete: bool,
    pub slots: usize,
    pub max_peers: usize,
    pub faults: Faults,
    /// Between a whole piece and the word that it is written.
    pub disk: Duration,
    pub joins: Duration,
    /// It vanishes then, without a word.
    pub leaves: Option<Duration>,
    /// It vanishes as soon as it has everything.
    pub leaves_when_done: bool,
    /// It vanishes once it has sent so many blocks.
    pub leaves_after: Option<u32>,
    /// It speaks BEP 6 and BEP 10.
    pub modern: bool,
    /// It is a seed that hides nothing, as most clients are.
    pub tells_all: bool,
    /// Its rate limiter lets go, so often, at once what is due for this time (libtorrent: 500 ms).
    pub quantum: Option<Duration>,
}

impl Spec {
    pub(super) fn leecher(up: f64) -> Spec {
        Spec {
            up,
            down: 8.0 * up,
            complete: false,
            slots: 8,
            max_peers: 40,
            faults: Faults::default(),
            disk: Duration::from_millis(5),
            joins: Duration::ZERO,
            leaves: None,
            leaves_when_done: false,
            leaves_after: None,
            modern: true,
            tells_all: false,
            quantum: None,
        }
    }

    pub(super) fn seed(up: f64) -> Spec {
        Spec { complete: true, ..Spec::leecher(up) }
    }
}

#[derive(Debug)]
enum Item {
    Message(Message),
    /// And what is in it: 0 is right.
    Block(Block, u32),
}

#[derive(Debug)]
enum Happening {
    Join(usize),
    Leave(usize),
    Wake(usize),
    Reach { from: usize, to: usize, latency: u64 },
    DialEnds { node: usize, address: SocketAddr, conn: Option<usize> },
    Arrive { conn: usize, to: usize, item: Item },
    Deliver { conn: usize, to: usize, item: Item },
    Gone { conn: usize, to: usize },
    UplinkFree(usize),
    Quantum(usize),
    Verified { node: usize, piece: PieceIndex, digests: bool },
    Hashed { node: usize, run: PieceRun },
    Answer { node: usize, token: Token },
}

struct Entry(u64, u64, Happening);

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// One direction of a connection.
#[derive(Default, Debug)]
struct Line {
    queue: VecDeque<Item>,
    /// In the uplink's turn.
    waiting: bool,
    under_way: u64,
}

#[derive(Debug)]
struct Conn {
    nodes: [usize; 2],
    keys: [PeerKey; 2],
    open: [bool; 2],
    latency: u64,
    lines: [Line; 2],
}

pub(super) struct Node {
    pub spec: Spec,
    pub transfer: Transfer,
    pub alive: bool,
    pub done_at: Option<Duration>,
    pub wakes: u64,
    pub bans: BTreeSet<SocketAddr>,
    pub dials: Vec<(Duration, SocketAddr)>,
    pub closes: BTreeMap<String, u32>,
    /// Whose connections it has closed, and why.
    pub closed: BTreeSet<(usize, String)>,
    pub passed: Vec<PieceIndex>,
    pub announces: Vec<Option<AnnounceEvent>>,
    /// Blocks that it has handed on to be sent.
    sent: u32,
    /// Blocks that have left it.
    gone: u32,
    /// Bytes that its rate limiter lets go now, if it has one.
    allowance: f64,
    conns: Vec<(usize, usize)>,
    wake_at: u64,
    turn: VecDeque<(usize, usize)>,
    sending: Option<(usize, usize)>,
    down_free: u64,
    kept: BTreeMap<PieceIndex, Vec<u32>>,
}

impl Node {
    pub(super) fn swarm(&self) -> &Swarm {
        self.transfer.swarm()
    }
}

pub(super) struct Sim {
    pub seed: u64,
    pub layout: Arc<Layout>,
    /// Of version 2: all nodes speak it.
    pub trees: Option<Trees>,
    pub nodes: Vec<Node>,
    pub trace: u64,
    pub events: u64,
    /// Bytes of one connection that the network holds.
    pub tcp_window: u64,
    /// Least and most of a path, one way, in milliseconds.
    pub latency: (u64, u64),
    /// Addresses at which nobody is that the tracker gives as well.
    pub dead: Vec<SocketAddr>,
    base: Instant,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    conns: Vec<Conn>,
    announced: BTreeSet<usize>,
    rng: fastrand::Rng,
}

const SECOND: f64 = 1e9;

/// Bytes a second of an uplink that nothing but its rate limiter slows.
const UNLIMITED: f64 = 1e9;

pub(super) fn address_of(node: usize) -> SocketAddr {
    SocketAddr::from(([10, (node >> 8) as u8, node as u8, 1], 6881))
}

impl Sim {
    pub(super) fn new(seed: u64, piece_length: u32, size: u64) -> Sim {
        Sim {
            seed,
            layout: Arc::new(Layout::new(piece_length, [(size, false)]).unwrap()),
            trees: None,
            nodes: Vec::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            events: 0,
            tcp_window: 256 << 10,
            latency: (5, 60),
            dead: Vec::new(),
            base: Instant::now(),
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            conns: Vec::new(),
            announced: BTreeSet::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// With a torrent of version 2 of one file.
    pub(super) fn of_version_2(seed: u64, piece_length: u32, size: usize) -> Sim {
        let sample = Sample { piece_length, ..Sample::new(&[("file", size)], false) };
        let metainfo = Metainfo::parse(&sample.torrent()).unwrap();
        let layout = metainfo.layout.clone();
        let (_, data) = &sample.files[0];
        let pieces = data.chunks(piece_length as usize).map(block_hashes).collect();
        let trees = Trees { layers: metainfo.piece_hashes.layers().unwrap().clone(), blocks: pieces };
        Sim { layout, trees: Some(trees), ..Sim::new(seed, piece_length, size as u64) }
    }

    pub(super) fn now(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    pub(super) fn add(&mut self, spec: Spec) -> usize {
        self.add_with(spec, |_| {})
    }

    pub(super) fn add_with(&mut self, spec: Spec, change: impl FnOnce(&mut SwarmConfig)) -> usize {
        let node = self.nodes.len();
        let pieces = self.layout.num_pieces();
        let mut peer_id = [b'x'; 20];
        peer_id[..8].copy_from_slice(&self.rng.u64(..).to_le_bytes());
        let mut config = SwarmConfig {
            peer_id: PeerId(peer_id),
            have: if spec.complete { Bitfield::full(pieces) } else { Bitfield::new(pieces) },
            max_peers: spec.max_peers,
            upload_slots: spec.slots,
            seed: self.rng.u64(..),
            ..SwarmConfig::for_tests(self.layout.clone())
        };
        change(&mut config);
        let trackers = vec![vec!["http://tracker.test/announce".into()]];
        let finder = Finder::new(trackers, Rules::default(), config.seed);
        self.push(spec.joins.as_nanos() as u64, Happening::Join(node));
        if let Some(leaves) = spec.leaves {
            self.push(leaves.as_nanos() as u64, Happening::Leave(node));
        }
        let mut swarm = Swarm::new(self.base, config);
        if let Some(Trees { layers, .. }) = &self.trees {
            let trials = BlockTrials::new(layers.clone(), self.layout.clone());
            swarm.use_trees(HashServer::new(layers.clone(), &self.layout), trials);
        }
        self.nodes.push(Node {
            transfer: Transfer::new(swarm, finder),
            spec,
            alive: false,
            done_at: None,
            wakes: 0,
            bans: BTreeSet::new(),
            dials: Vec::new(),
            closes: BTreeMap::new(),
            closed: BTreeSet::new(),
            passed: Vec::new(),
            announces: Vec::new(),
            sent: 0,
            gone: 0,
            allowance: 0.0,
            conns: Vec::new(),
            wake_at: u64::MAX,
            turn: VecDeque::new(),
            sending: None,
            down_free: 0,
            kept: BTreeMap::new(),
        });
        node
    }

    /// Runs until `done` says so, asked once for each event; fails after `limit` of virtual time.
    pub(super) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Sim) -> bool) {
        while !done(self) {
            assert!(self.now() < limit, "seed {}: not done after {limit:?}: {}", self.seed, self.describe());
            assert!(self.step(), "seed {}: nothing happens any more: {}", self.seed, self.describe());
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time.as_nanos() as u64;
        while self.queue.peek().is_some_and(|Reverse(entry)| entry.0 <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Until everybody who stays and is honest has everything; says when the last of all had.
    pub(super) fn run_to_the_end(&mut self, limit: Duration) -> Duration {
        let stays = |node: &Node| node.spec.leaves.is_none() && node.spec.faults.corrupt == 0;
        let waits_for = |node: &Node| stays(node) && node.done_at.is_none();
        let mut left: Vec<usize> =
            (0..self.nodes.len()).filter(|&node| waits_for(&self.nodes[node])).collect();
        self.run_until(limit, |sim| {
            while left.last().is_some_and(|&node| sim.nodes[node].done_at.is_some()) {
                left.pop();
            }
            left.is_empty()
        });
        self.nodes.iter().filter_map(|node| node.done_at).max().unwrap_or_default()
    }

    /// Whether a node will never again deal with an address.
    pub(super) fn is_banned_for_good(&self, node: usize, address: SocketAddr) -> bool {
        let far = self.base + Duration::from_secs(10_000_000);
        self.nodes[node].transfer.finder().is_banned(far, address)
    }

    fn describe(&self) -> String {
        let missing = |(n, node): (usize, &Node)| {
            let left = node.swarm().wanted().count_minus(node.swarm().have());
            (left > 0 && node.alive)
                .then(|| format!("{n}: {left} pieces, {} peers", node.swarm().peers.len()))
        };
        let lines: Vec<String> = self.nodes.iter().enumerate().filter_map(missing).take(10).collect();
        lines.join("; ")
    }

    pub(super) fn input(&mut self, node: usize, input: Input) {
        let now = self.instant();
        self.tell(node, |transfer| transfer.handle(now, input));
    }

    fn tell(&mut self, node: usize, what: impl FnOnce(&mut Transfer)) {
        if self.nodes[node].alive {
            what(&mut self.nodes[node].transfer);
            self.drain(node);
        }
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.now)
    }

    fn push(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse(Entry(at, self.sequence, happening)));
    }

    fn step(&mut self) -> bool {
        let Some(Reverse(Entry(at, _, happening))) = self.queue.pop() else { return false };
        self.now = at;
        self.events += 1;
        match happening {
            Happening::Join(node) => {
                self.nodes[node].alive = true;
                self.begin_quantum(node);
                if self.nodes[node].swarm().is_complete() {
                    self.nodes[node].done_at = Some(self.now());
                }
                self.input(node, Input::Enter(State::Started));
            }
            Happening::Leave(node) => self.leave(node),
            Happening::Wake(node) => {
                if self.nodes[node].wake_at == at {
                    self.nodes[node].wake_at = u64::MAX;
                    self.nodes[node].wakes += 1;
                    self.drain(node);
                }
            }
            Happening::Reach { from, to, latency } => self.reach(from, to, latency),
            Happening::DialEnds { node, address, conn } => self.dial_ends(node, address, conn),
            Happening::Arrive { conn, to, item } => self.arrive(conn, to, item),
            Happening::Deliver { conn, to, item } => self.deliver(conn, to, item),
            Happening::Gone { conn, to } => {
                let node = self.conns[conn].nodes[to];
                if std::mem::take(&mut self.conns[conn].open[to]) {
                    self.conns[conn].lines[to].queue.clear();
                    self.input(node, Input::Closed(self.conns[conn].keys[to]));
                }
            }
            Happening::UplinkFree(node) => self.uplink_free(node),
            Happening::Quantum(node) => self.begin_quantum(node),
            Happening::Verified { node, piece, digests } => self.verified(node, piece, digests),
            Happening::Hashed { node, run } => {
                let of = |piece: PieceIndex| {
                    self.hashes_of(piece, &vec![0; self.layout.num_blocks(piece) as usize])
                };
                let hashes = run.pieces().flat_map(of).collect();
                self.input(node, Input::BlocksHashed(run, Some(hashes)));
            }
            Happening::Answer { node, token } => self.answer(node, token),
        }
        true
    }

    fn leave(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.announced.remove(&node);
        for (conn, side) in self.nodes[node].conns.clone() {
            self.hang_up(conn, side);
        }
    }

    fn hang_up(&mut self, conn: usize, side: usize) {
        if std::mem::take(&mut self.conns[conn].open[side]) {
            self.conns[conn].lines[side].queue.clear();
            let at = self.now + self.conns[conn].latency;
            self.push(at, Happening::Gone { conn, to: 1 - side });
        }
    }

    fn reach(&mut self, from: usize, to: usize, latency: u64) {
        let back = self.now + latency;
        let address = address_of(to);
        if !self.nodes[to].alive {
            return self.push(back, Happening::DialEnds { node: from, address, conn: None });
        }
        let conn = self.conns.len();
        let key = PeerKey(self.nodes[to].conns.len() as u64);
        self.nodes[to].conns.push((conn, 1));
        self.conns.push(Conn {
            nodes: [from, to],
            keys: [PeerKey(u64::MAX), key],
            open: [true, true],
            latency,
            lines: Default::default(),
        });
        self.push(back, Happening::DialEnds { node: from, address, conn: Some(conn) });
        let mut address = address_of(from);
        address.set_port(10_000 + (conn % 50_000) as u16);
        let hello = self.hello(from, to, key, address, Direction::In);
        self.input(to, Input::Connected(hello));
    }

    fn hello(&self, of: usize, to: usize, peer: PeerKey, address: SocketAddr, direction: Direction) -> Hello {
        let both = Reserved::FAST.with(Reserved::EXTENSION);
        let modern = self.nodes[of].spec.modern && self.nodes[to].spec.modern;
        let reserved = if modern { both } else { Reserved::default() };
        let reserved = if self.trees.is_some() { reserved.with(Reserved::V2) } else { reserved };
        Hello {
            peer,
            address,
            direction,
            transport: "tcp",
            reserved,
            peer_id: self.nodes[of].swarm().config.peer_id,
            encryption: Default::default(),
            was_greeted: false,
        }
    }

    fn dial_ends(&mut self, node: usize, address: SocketAddr, conn: Option<usize>) {
        let Some(conn) = conn else {
            return self.dial_ended(node, address, DialEnd::Failed);
        };
        let key = PeerKey(self.nodes[node].conns.len() as u64);
        self.nodes[node].conns.push((conn, 0));
        self.conns[conn].keys[0] = key;
        if !self.nodes[node].alive {
            return self.hang_up(conn, 0);
        }
        let hello = self.hello(self.conns[conn].nodes[1], node, key, address, Direction::Out);
        self.input(node, Input::Connected(hello));
    }

    fn verified(&mut self, node: usize, piece: PieceIndex, digests: bool) {
        let bad = self.nodes[node].kept.remove(&piece).unwrap_or_default();
        let passed = bad.iter().all(|&bad| bad == 0);
        let digest = |bad: &u32| -> Sha1 {
            let mut digest = [0; 20];
            digest[..4].copy_from_slice(&bad.to_le_bytes());
            Sha1(digest)
        };
        let all: Vec<Sha1> = bad.iter().map(digest).collect();
        if passed {
            self.nodes[node].passed.push(piece);
            self.input(node, Input::Passed { piece, digests: if digests { all } else { Vec::new() } });
        } else {
            let hashes = self.hashes_of(piece, &bad);
            self.input(node, Input::Failed { piece, digests: all, hashes });
        }
        if self.nodes[node].done_at.is_none() && self.nodes[node].swarm().is_complete() {
            self.nodes[node].done_at = Some(self.now());
            if self.nodes[node].spec.leaves_when_done {
                self.leave(node);
            }
        }
    }

    /// The hashes of the blocks of a piece, each spoiled by whoever has spoiled the block; none of version 1.
    fn hashes_of(&self, piece: PieceIndex, bad: &[u32]) -> Vec<Sha256> {
        let right = self.trees.iter().flat_map(|trees| &trees.blocks[piece.0 as usize]);
        let spoiled = |(&Sha256(mut hash), bad): (&Sha256, &u32)| {
            hash.iter_mut().zip(bad.to_le_bytes()).for_each(|(byte, bad)| *byte ^= bad);
            Sha256(hash)
        };
        right.zip(bad).map(spoiled).collect()
    }

    fn answer(&mut self, node: usize, token: Token) {
        let mut peers: Vec<SocketAddr> = self.announced.iter().map(|&other| address_of(other)).collect();
        peers.extend(&self.dead);
        self.rng.shuffle(&mut peers);
        peers.truncate(100);
        let interval = Some(Duration::from_secs(1800));
        let min_interval = Some(Duration::from_secs(60));
        let answer = Answer { interval, min_interval, peers, ..Answer::default() };
        let now = self.instant();
        self.tell(node, |transfer| transfer.finder_mut().announced(now, token, Ok(answer)));
    }

    fn drain(&mut self, node: usize) {
        let now = self.instant();
        while let Some(output) = self.nodes[node].transfer.poll(now) {
            self.note(node, &output);
            self.output(node, output);
        }
        while let Some(output) = self.nodes[node].transfer.poll_finder(now) {
            self.finder_output(node, output);
        }
        if self.events.is_multiple_of(4096) {
            super::check(self.nodes[node].swarm());
        }
        let Some(deadline) = self.nodes[node].transfer.deadline() else { return };
        assert!(deadline > now, "seed {}: node {node} would be woken at once, again and again", self.seed);
        let at = (deadline - self.base).as_nanos() as u64;
        if at < self.nodes[node].wake_at {
            self.nodes[node].wake_at = at;
            self.push(at, Happening::Wake(node));
        }
    }

    fn note(&mut self, node: usize, output: &Output) {
        let (kind, a, b) = match output {
            Output::Send(peer, Message::Have(piece)) => (9, peer.0, u64::from(piece.0)),
            Output::Send(peer, message) => {
                let mut bytes = Vec::new();
                message.encode_into(&mut bytes);
                let sum = bytes.iter().fold(1, |sum: u64, &byte| sum.wrapping_mul(31) + u64::from(byte));
                (1, peer.0, sum)
            }
            Output::Serve(peer, block) => {
                (2, peer.0, u64::from(block.piece.0) << 32 | u64::from(block.begin))
            }
            Output::Close(peer, reason) => (4, peer.0, reason.len() as u64),
            Output::Verify { piece, digests, .. } => (5, u64::from(piece.0), u64::from(*digests)),
            Output::HashBlocks(run) => (8, u64::from(run.first.0), u64::from(run.count)),
            Output::Event(_) => (7, 0, 0),
        };
        self.trace_words(node, kind, a, b);
    }

    fn trace_words(&mut self, node: usize, kind: u64, a: u64, b: u64) {
        for word in [self.now, node as u64, kind, a, b] {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }

    fn output(&mut self, node: usize, output: Output) {
        let faults = self.nodes[node].spec.faults;
        match output {
            Output::Send(peer, Message::HaveNone) if self.nodes[node].spec.tells_all => {
                self.send(node, peer, Item::Message(Message::HaveAll));
            }
            Output::Send(_, Message::Have(_) | Message::Bitfield(_)) if self.nodes[node].spec.tells_all => {}
            Output::Send(peer, Message::Hashes(range, hashes)) if faults.hashes != HashManner::Honest => {
                self.send_hashes(node, peer, range, hashes);
            }
            Output::Send(peer, message) => self.send(node, peer, Item::Message(message)),
            Output::Serve(peer, block) if faults.refuses => {
                self.send(node, peer, Item::Message(Message::Reject(block)));
            }
            Output::Serve(..) if faults.silent => {}
            Output::Serve(peer, block) => {
                self.nodes[node].sent += 1;
                let lies = self.rng.u32(..1000) < faults.corrupt || self.nodes[node].sent == faults.bad_block;
                self.send(node, peer, Item::Block(block, if lies { node as u32 + 1 } else { 0 }));
                if faults.unasked {
                    let piece = PieceIndex(self.rng.u32(..self.layout.num_pieces()));
                    self.send(node, peer, Item::Block(self.layout.block(piece, 0), 0));
                }
            }
            Output::HashBlocks(run) => {
                let at = self.now + self.nodes[node].spec.disk.as_nanos() as u64;
                self.push(at, Happening::Hashed { node, run });
            }
            Output::Close(peer, reason) => {
                let (conn, side) = self.nodes[node].conns[peer.0 as usize];
                let other = self.conns[conn].nodes[1 - side];
                self.nodes[node].closed.insert((other, reason.clone()));
                *self.nodes[node].closes.entry(reason).or_default() += 1;
                self.hang_up(conn, side);
            }
            Output::Verify { piece, blocks, digests } => {
                let bad = |data: &BlockData| u32::from_le_bytes(data.as_slice().try_into().unwrap());
                self.nodes[node].kept.insert(piece, blocks.iter().map(bad).collect());
                let at = self.now + self.nodes[node].spec.disk.as_nanos() as u64;
                self.push(at, Happening::Verified { node, piece, digests });
            }
            Output::Event(kind) => {
                if let Kind::PeerBan { address, .. } = *kind {
                    self.nodes[node].bans.insert(address);
                }
            }
        }
    }

    fn send_hashes(&mut self, node: usize, peer: PeerKey, range: Box<HashRange>, mut hashes: Vec<Sha256>) {
        match self.nodes[node].spec.faults.hashes {
            HashManner::Silent => return,
            HashManner::Refuses => return self.send(node, peer, Item::Message(Message::HashReject(range))),
            HashManner::Lies => {
                let place = self.rng.usize(..hashes.len());
                hashes[place].0[5] ^= 1;
            }
            HashManner::Repeats => {
                self.send(node, peer, Item::Message(Message::Hashes(range.clone(), hashes.clone())));
            }
            HashManner::Honest => {}
        }
        self.send(node, peer, Item::Message(Message::Hashes(range, hashes)));
    }

    fn finder_output(&mut self, node: usize, output: FinderOutput) {
        match output {
            FinderOutput::Dial(address) => {
                self.trace_words(node, 3, u64::from(address.port()), 0);
                self.dial(node, address);
            }
            FinderOutput::Announce(announce) => {
                self.trace_words(node, 6, 0, 0);
                self.nodes[node].announces.push(announce.event);
                match announce.event {
                    Some(AnnounceEvent::Stopped) => self.announced.remove(&node),
                    _ => self.announced.insert(node),
                };
                self.push(self.now + 50_000_000, Happening::Answer { node, token: announce.token });
            }
            FinderOutput::Punch(_)
            | FinderOutput::Filtered(..)
            | FinderOutput::PrefersEncryption(_)
            | FinderOutput::Event(_) => {}
        }
    }

    fn dial_ended(&mut self, node: usize, address: SocketAddr, how: DialEnd) {
        let now = self.instant();
        self.tell(node, |transfer| transfer.dial_ended(now, address, how));
    }

    fn dial(&mut self, node: usize, address: SocketAddr) {
        let (now, instant) = (self.now(), self.instant());
        self.nodes[node].dials.push((now, address));
        match self.node_at(address) {
            Some(to) if to == node => self.nodes[node].transfer.dial_ended(instant, address, DialEnd::Own),
            Some(to) => {
                let latency = self.rng.u64(self.latency.0..=self.latency.1) * 1_000_000;
                self.push(self.now + 3 * latency, Happening::Reach { from: node, to, latency });
            }
            None => {
                let at = self.now + 3_000_000_000;
                self.push(at, Happening::DialEnds { node, address, conn: None });
            }
        }
    }

    fn node_at(&self, address: SocketAddr) -> Option<usize> {
        let std::net::IpAddr::V4(ip) = address.ip() else { return None };
        let [_, high, low, _] = ip.octets();
        let node = usize::from(high) << 8 | usize::from(low);
        Some(node).filter(|&node| node < self.nodes.len() && address_of(node) == address)
    }

    fn send(&mut self, node: usize, peer: PeerKey, item: Item) {
        let (conn, side) = self.nodes[node].conns[peer.0 as usize];
        if !self.conns[conn].open[side] {
            return;
        }
        let line = &mut self.conns[conn].lines[side];
        line.queue.push_back(item);
        if !line.waiting && line.under_way < self.tcp_window {
            line.waiting = true;
            self.nodes[node].turn.push_back((conn, side));
            self.pump(node);
        }
    }

    /// The rate limiter lets go what is due until the next time. Nothing is saved up.
    fn begin_quantum(&mut self, node: usize) {
        let Some(quantum) = self.nodes[node].spec.quantum else { return };
        self.nodes[node].allowance = self.nodes[node].spec.up * quantum.as_secs_f64();
        self.push(self.now + quantum.as_nanos() as u64, Happening::Quantum(node));
        self.pump(node);
    }

    /// Lets the next connection send: messages at once, a block as fast as the uplink is, or as its rate limiter lets it go.
    fn pump(&mut self, node: usize) {
        while self.nodes[node].sending.is_none()
            && let Some((conn, side)) = self.nodes[node].turn.pop_front()
        {
            let latency = self.conns[conn].latency;
            loop {
                let line = &mut self.conns[conn].lines[side];
                match line.queue.front() {
                    None => {
                        line.waiting = false;
                        break;
                    }
                    Some(Item::Block(..))
                        if self.nodes[node].spec.quantum.is_some() && self.nodes[node].allowance <= 0.0 =>
                    {
                        return self.nodes[node].turn.push_front((conn, side));
                    }
                    Some(Item::Block(block, _)) => {
                        let limited = self.nodes[node].spec.quantum.is_some();
                        let rate = if limited { UNLIMITED } else { self.nodes[node].spec.up };
                        self.nodes[node].allowance -= f64::from(block.length);
                        let time = f64::from(block.length) / rate * SECOND;
                        self.nodes[node].sending = Some((conn, side));
                        self.push(self.now + time as u64, Happening::UplinkFree(node));
                        break;
                    }
                    Some(Item::Message(_)) => {
                        let item = line.queue.pop_front().unwrap();
                        self.push(self.now + latency, Happening::Arrive { conn, to: 1 - side, item });
                    }
                }
            }
        }
    }

    fn uplink_free(&mut self, node: usize) {
        let Some((conn, side)) = self.nodes[node].sending.take() else { return };
        let latency = self.conns[conn].latency;
        let open = self.conns[conn].open[side];
        let line = &mut self.conns[conn].lines[side];
        let item = if open { line.queue.pop_front() } else { None };
        if let Some(Item::Block(block, _)) = item {
            line.under_way += u64::from(block.length);
        }
        line.waiting = !line.queue.is_empty() && line.under_way < self.tcp_window;
        if line.waiting {
            self.nodes[node].turn.push_back((conn, side));
        }
        if let Some(item) = item {
            let bytes = if let Item::Block(block, _) = &item { block.length } else { 0 };
            self.push(self.now + latency, Happening::Arrive { conn, to: 1 - side, item });
            self.input(node, Input::Sent(self.conns[conn].keys[side], bytes));
            self.nodes[node].gone += u32::from(bytes > 0);
            if self.nodes[node].spec.leaves_after.is_some_and(|blocks| self.nodes[node].gone >= blocks) {
                self.leave(node);
            }
        }
        self.pump(node);
    }

    fn arrive(&mut self, conn: usize, to: usize, item: Item) {
        let node = self.conns[conn].nodes[to];
        let bytes = if let Item::Block(block, _) = &item { block.length } else { 0 };
        if bytes == 0 && self.nodes[node].down_free <= self.now {
            return self.deliver(conn, to, item);
        }
        let time = f64::from(bytes) / self.nodes[node].spec.down * SECOND;
        let free = &mut self.nodes[node].down_free;
        // What comes behind a block on a slow downlink waits with it, messages too.
        *free = (*free).max(self.now) + time as u64;
        let at = *free;
        self.push(at, Happening::Deliver { conn, to, item });
    }

    fn deliver(&mut self, conn: usize, to: usize, item: Item) {
        let [from_node, node] = [self.conns[conn].nodes[1 - to], self.conns[conn].nodes[to]];
        if let Item::Block(block, _) = &item {
            let line = &mut self.conns[conn].lines[1 - to];
            line.under_way -= u64::from(block.length);
            if !line.waiting && !line.queue.is_empty() && line.under_way < self.tcp_window {
                line.waiting = true;
                self.nodes[from_node].turn.push_back((conn, 1 - to));
                self.pump(from_node);
            }
        }
        if !self.conns[conn].open[to] || !self.nodes[node].alive {
            return;
        }
        let key = self.conns[conn].keys[to];
        match item {
            Item::Message(message) => self.input(node, Input::Message(key, message)),
            Item::Block(block, bad) => {
                let now = self.instant();
                // All that matters of its data is who has spoiled them, if anybody has.
                let mut data = BlockData::exact(4);
                data.as_mut_slice().copy_from_slice(&bad.to_le_bytes());
                self.nodes[node].transfer.on_block(now, key, block, data);
                self.drain(node);
            }
        }
    }
}
