//! What a swarm is told, and what it says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::order::Order;
use crate::address::ListenPorts;
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::budget::Share;
use crate::event::{Direction, Encryption, Kind, State};
use crate::finder::Parting;
use crate::hash::{Sha1, Sha256};
use crate::ids::{PeerKey, WireHash};
use crate::layout::{Block, Layout, PieceIndex};
use crate::pace::PaceShare;
use crate::proofs::PieceRun;
use crate::wire::extended::{HolepunchMessage, PexMessage};
use crate::wire::{Message, PeerId, Reserved};

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
