//! One swarm and peers that are played by hand.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Hello, Input, Output, Swarm, SwarmConfig};
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::event::{Direction, State};
use crate::finder::{DialEnd, Finder, FinderOutput, Origin, Rules};
use crate::ids::PeerKey;
use crate::layout::{BLOCK_LENGTH, Block, Layout, PieceIndex};
use crate::transfer::Transfer;
use crate::wire::extended::{self, ExtensionHandshake};
use crate::wire::{Message, PeerId, Reserved};

pub(super) struct Table {
    pub transfer: Transfer,
    pub now: Instant,
    pub layout: Arc<Layout>,
    /// Whole pieces pass at once.
    pub passes: bool,
    /// What came out since last asked.
    pub out: Vec<Output>,
    /// Addresses to call, likewise.
    pub calls: Vec<SocketAddr>,
    next: u64,
}

pub(super) fn pieces(of: &Layout, which: impl IntoIterator<Item = u32>) -> Bitfield {
    let mut set = Bitfield::new(of.num_pieces());
    for piece in which {
        set.insert(PieceIndex(piece));
    }
    set
}

impl Table {
    /// A started swarm that has nothing of `num` pieces of `blocks` blocks.
    pub(super) fn new(num: u32, blocks: u32) -> Table {
        Table::with(num, blocks, |_| {})
    }

    pub(super) fn seed(num: u32, blocks: u32) -> Table {
        Table::with(num, blocks, |config| config.have = config.wanted.clone())
    }

    pub(super) fn with(num: u32, blocks: u32, change: impl FnOnce(&mut SwarmConfig)) -> Table {
        let size = u64::from(num * blocks) * u64::from(BLOCK_LENGTH);
        let layout = Arc::new(Layout::new(blocks * BLOCK_LENGTH, [(size, false)]).unwrap());
        let mut config = SwarmConfig::for_tests(layout.clone());
        change(&mut config);
        let now = Instant::now();
        let finder = Finder::new(Vec::new(), Rules::default(), config.seed);
        let transfer = Transfer::new(Swarm::new(now, config), finder);
        let mut table =
            Table { transfer, now, layout, passes: true, out: Vec::new(), calls: Vec::new(), next: 0 };
        table.input(Input::Enter(State::Started));
        table
    }

    pub(super) fn input(&mut self, input: Input) {
        self.transfer.handle(self.now, input);
        self.drain();
    }

    pub(super) fn swarm(&self) -> &Swarm {
        self.transfer.swarm()
    }

    pub(super) fn dial_ended(&mut self, address: SocketAddr, how: DialEnd) {
        self.transfer.dial_ended(self.now, address, how);
        self.drain();
    }

    pub(super) fn displace(&mut self, peer: PeerKey) {
        self.transfer.displace(self.now, peer);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.transfer.poll(self.now) {
            if let (Output::Verify { piece, .. }, true) = (&output, self.passes) {
                let passed = Input::Passed { piece: *piece, digests: Vec::new() };
                self.transfer.handle(self.now, passed);
            }
            self.out.push(output);
        }
        while let Some(output) = self.transfer.poll_finder(self.now) {
            if let FinderOutput::Dial(address) = output {
                self.calls.push(address);
            }
        }
        super::check(self.swarm());
        assert!(self.transfer.deadline().is_none_or(|at| at > self.now), "woken at once, again and again");
    }

    /// Lets time pass, waking the swarm when it asks for it; says how often that was.
    pub(super) fn wait(&mut self, time: Duration) -> u32 {
        let end = self.now + time;
        let mut wakes = 0;
        while let Some(at) = self.transfer.deadline().filter(|&at| at <= end) {
            self.now = at;
            wakes += 1;
            self.drain();
        }
        self.now = end;
        wakes
    }

    pub(super) fn address(n: u64) -> SocketAddr {
        SocketAddr::from(([10, 9, (n >> 8) as u8, n as u8], 6881))
    }

    pub(super) fn hello(&mut self, direction: Direction, id: u8) -> Hello {
        let peer = PeerKey(self.next);
        self.next += 1;
        let mut address = Table::address(peer.0);
        if direction == Direction::In {
            address.set_port(40_000);
        }
        let mut peer_id = [id; 20];
        peer_id[12..].copy_from_slice(&peer.0.to_be_bytes());
        let reserved = Reserved::FAST.with(Reserved::EXTENSION);
        Hello {
            peer,
            address,
            direction,
            transport: "tcp",
            reserved,
            peer_id: PeerId(peer_id),
            encryption: Default::default(),
            was_greeted: false,
        }
    }

    pub(super) fn connect(&mut self) -> PeerKey {
        let hello = self.hello(Direction::Out, b'p');
        let peer = hello.peer;
        self.input(Input::Connected(hello));
        peer
    }

    pub(super) fn connect_old(&mut self) -> PeerKey {
        let hello = Hello { reserved: Reserved::default(), ..self.hello(Direction::Out, b'p') };
        let peer = hello.peer;
        self.input(Input::Connected(hello));
        peer
    }

    /// A peer that has these pieces.
    pub(super) fn peer_with(&mut self, which: impl IntoIterator<Item = u32>) -> PeerKey {
        let peer = self.connect();
        let set = pieces(&self.layout, which);
        self.say(peer, Message::Bitfield(set.to_wire()));
        peer
    }

    /// A peer that has everything and unchokes us.
    pub(super) fn giver(&mut self) -> PeerKey {
        let peer = self.connect();
        self.say(peer, Message::HaveAll);
        self.say(peer, Message::Unchoke);
        peer
    }

    /// A peer that wants everything.
    pub(super) fn taker(&mut self) -> PeerKey {
        let peer = self.connect();
        self.say(peer, Message::HaveNone);
        self.say(peer, Message::Interested);
        peer
    }

    pub(super) fn reqq(&mut self, peer: PeerKey, reqq: u32) {
        let handshake = ExtensionHandshake { request_queue: Some(reqq), ..ExtensionHandshake::default() };
        let payload = handshake.encode();
        self.say(peer, Message::Extended { id: extended::HANDSHAKE_ID, payload });
    }

    /// The peer says that it has this piece no more (BEP 54).
    pub(super) fn loses(&mut self, peer: PeerKey, piece: PieceIndex) {
        let payload = extended::encode_dont_have(piece);
        self.say(peer, Message::Extended { id: extended::LT_DONTHAVE_ID, payload });
    }

    pub(super) fn say(&mut self, peer: PeerKey, message: Message) {
        self.input(Input::Message(peer, message));
    }

    pub(super) fn block(&mut self, peer: PeerKey, block: Block) -> bool {
        let unneeded = self.transfer.on_block(self.now, peer, block, BlockData::exact(0));
        self.drain();
        unneeded.is_none()
    }

    /// The disk had no room for a piece.
    pub(super) fn not_written(&mut self, piece: PieceIndex, blocks: Vec<BlockData>) -> bool {
        let unused = self.transfer.on_not_written(self.now, piece, blocks);
        self.drain();
        unused.is_none()
    }

    /// What was handed over to be verified since the last time anybody asked.
    pub(super) fn verifies(&mut self) -> Vec<(PieceIndex, Vec<BlockData>)> {
        let all = std::mem::take(&mut self.out);
        let mut found = Vec::new();
        for output in all {
            match output {
                Output::Verify { piece, blocks, .. } => found.push((piece, blocks)),
                output => self.out.push(output),
            }
        }
        found
    }

    pub(super) fn found(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.transfer.finder_mut().found(self.now, addresses, Origin::Tracker);
        self.drain();
    }

    /// What was said to a peer since the last time anybody asked.
    pub(super) fn said_to(&mut self, peer: PeerKey) -> Vec<Message> {
        let mut said = Vec::new();
        self.out.retain(|output| match output {
            Output::Send(to, message) if *to == peer => {
                said.push(message.clone());
                false
            }
            _ => true,
        });
        said
    }

    pub(super) fn requests_to(&mut self, peer: PeerKey) -> Vec<Block> {
        let block = |message| if let Message::Request(block) = message { Some(block) } else { None };
        self.said_to(peer).into_iter().filter_map(block).collect()
    }

    pub(super) fn served_to(&mut self, peer: PeerKey) -> Vec<Block> {
        let mut served = Vec::new();
        self.out.retain(|output| match output {
            Output::Serve(to, block) if *to == peer => {
                served.push(*block);
                false
            }
            _ => true,
        });
        served
    }

    pub(super) fn dials(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.calls)
    }

    pub(super) fn closed(&self) -> BTreeSet<PeerKey> {
        let close = |output: &Output| if let Output::Close(peer, _) = output { Some(*peer) } else { None };
        self.out.iter().filter_map(close).collect()
    }
}
