//! What the swarm knows of one connected peer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::choker::Contender;
use super::rate::RateMeter;
use super::superseed::Shown;
use super::window::{Sent, Window};
use super::{Hello, Output};
use crate::bitfield::Bitfield;
use crate::event::Direction;
use crate::finder::Parting;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::proofs::MAX_OWED_HASHES;
use crate::wire::extended::PeerExtensions;
use crate::wire::{Message, PeerId, Reserved};

/// Requests that we take from one peer before we refuse more; told as `reqq` (BEP 10).
pub(super) const REQQ: usize = 2000;

/// Refused pieces that are remembered of one peer; one that refuses more is not asked for anything
/// until some are forgotten.
pub(super) const MAX_REFUSED: usize = 16;

/// Allowed-fast pieces that are remembered of one peer (BEP 6 lets us ignore any).
pub(super) const MAX_HINTS: usize = 32;

/// Suggested pieces that are remembered of one peer: the latest.
pub(super) const MAX_SUGGESTED: usize = 8;

/// Pieces that we have of which a peer that has them, too, was not told yet: 1 KiB of messages.
pub(super) const MAX_UNTOLD: usize = 128;

/// A picture of one peer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Its other end.
    pub address: SocketAddr,
    /// Which side opened the connection.
    pub direction: Direction,
    /// The peer's id, as its handshake says.
    pub peer_id: PeerId,
    /// Its software, as far as can be told; escape before printing.
    pub client: String,
    /// Who chokes whom and who wants something.
    pub flags: PeerFlags,
    /// Payload bytes a second that it sends us.
    pub down_rate: u64,
    /// Payload bytes a second that we send it.
    pub up_rate: u64,
    /// Payload bytes from it.
    pub downloaded: u64,
    /// Payload bytes to it.
    pub uploaded: u64,
    /// Pieces that it has.
    pub pieces: u32,
    /// The share of all pieces that it has, 0.0 to 1.0.
    pub progress: f64,
}

/// What a peer's place among the connections is worth.
#[derive(Clone, Copy, Debug)]
pub struct Occupant {
    /// The connection.
    pub peer: PeerKey,
    /// Its other end.
    pub address: SocketAddr,
    /// Since when there is a connection.
    pub connected: Instant,
    /// Since when it has had nothing that we lack, and has wanted nothing.
    pub useless_since: Option<Instant>,
    /// When it last sent a block that was kept.
    pub gave: Option<Instant>,
    /// Payload bytes a second that it sends us.
    pub down_rate: u64,
    /// Payload bytes a second that we send it.
    pub up_rate: u64,
}

/// The state of a connection (BEP 3), and whether the peer sends what it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
#[non_exhaustive]
pub struct PeerFlags {
    pub am_choking: bool,
    pub am_interested: bool,
    pub peer_choking: bool,
    pub peer_interested: bool,
    pub snubbed: bool,
}

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// This connection.
    pub key: PeerKey,
    /// The peer's end of the connection.
    pub address: SocketAddr,
    /// Where it can be called: what we called, or what its extension handshake says.
    pub callable: Option<SocketAddr>,
    /// Which side opened the connection.
    pub direction: Direction,
    /// The peer's id, as its handshake says.
    pub peer_id: PeerId,
    /// What its extension handshake calls itself, or what its peer id stands for.
    pub client: String,
    /// Both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub extended: bool,
    /// It speaks version 2 (BEP 52): of hashes too.
    pub v2: bool,
    /// Answers that may still come to what it was asked for before it came here.
    pub late_hashes: u32,
    /// Hash requests of ours that it has not answered.
    pub owed_hashes: u32,
    /// How it numbers its extensions.
    pub extensions: PeerExtensions,
    /// We choke it.
    pub am_choking: bool,
    /// It has pieces that we want, and we have told it so.
    pub am_interested: bool,
    /// It chokes us.
    pub peer_choking: bool,
    /// It wants pieces of ours.
    pub peer_interested: bool,
    /// It has said that it wants nothing more (BEP 21).
    pub upload_only: bool,
    /// We have told it that we want nothing more.
    pub told_upload_only: bool,
    /// Pieces that it has.
    pub pieces: Bitfield,
    /// Pieces that we have now, as it has had before: it is told with whatever it is told next. At most [`MAX_UNTOLD`].
    pub untold: Vec<PieceIndex>,
    /// The picker counts it as one that has everything.
    pub counted_as_seed: bool,
    /// It has had pieces that it had no more later.
    pub has_lost: bool,
    /// Whether it may still send a bitfield: nothing but extensions has come yet.
    pub may_send_bitfield: bool,
    /// Pieces that it has, that are wanted, and that we do not have.
    pub interesting: u32,
    /// Asked for and not here, in the order asked.
    pub in_flight: VecDeque<(Block, Sent)>,
    /// How many of them to have.
    pub window: Window,
    /// The piece that its last request was for.
    pub current: Option<PieceIndex>,
    /// It lets us ask for these though it chokes us; at most `MAX_HINTS`.
    pub allowed_fast: Vec<PieceIndex>,
    /// It would like us to ask for these; at most `MAX_SUGGESTED`.
    pub suggested: VecDeque<PieceIndex>,
    /// We let it ask for these though we choke it, as long as it is a newcomer.
    pub granted_fast: Vec<PieceIndex>,
    /// What it has been told of, while we hide from it that we have everything (BEP 16).
    pub shown: Option<Box<Shown>>,
    /// Pieces of which it refused a block though it does not choke us, and until when it is not asked
    /// for them; at most `MAX_REFUSED`.
    pub refused: Vec<(PieceIndex, Instant)>,
    /// How often it has refused since it last sent a block.
    pub refusals: u32,
    /// How often it has choked us while it owed blocks since it last sent one.
    pub barren_chokes: u32,
    /// How the connection will have ended, where what came and went on it does not say it.
    pub parting: Option<Parting>,
    /// It does not send what it was asked for.
    pub snubbed: bool,
    /// Times in a row that it was snubbed.
    pub snubs: u32,
    /// While snubbed: when it is given another chance.
    pub probe_at: Instant,
    /// Asked for before it was snubbed, free for others since, and neither here nor cancelled.
    pub late: VecDeque<Block>,
    /// Since when something has been in flight without a block having come.
    pub waiting_since: Instant,
    /// What it asks for and has not been handed on; at most [`REQQ`].
    pub upload_queue: VecDeque<Block>,
    /// Bytes handed on to be read and sent, and not sent yet.
    pub serving: u64,
    /// Payload bytes from it.
    pub down_rate: RateMeter,
    /// Payload bytes to it.
    pub up_rate: RateMeter,
    /// Payload bytes from it, in all.
    pub downloaded: u64,
    /// Payload bytes to it, in all.
    pub uploaded: u64,
    /// Payload bytes from it that were kept.
    pub useful: u64,
    /// When the last of them came.
    pub gave: Option<Instant>,
    /// What it has sent that nobody had asked for and that was of no use: payload bytes, and a charge for each block.
    pub unasked: u64,
    /// When it last sent anything.
    pub last_received: Instant,
    /// When anything was last sent to it.
    pub last_sent: Instant,
    /// When one of the two sides was last interested in the other.
    pub last_useful: Instant,
    /// When it connected.
    pub connected: Instant,
    /// When `am_choking` last changed.
    pub choke_changed: Instant,
}

impl Peer {
    /// Tells it what we have that it has, too. It does not need to know, and nothing is sent for it alone before a second has passed; but seeds
    /// show their users how far others are, and some take one that says nothing for a liar.
    pub(super) fn take_haves(&mut self) -> impl Iterator<Item = Output> {
        let key = self.key;
        self.untold.drain(..).map(move |piece| Output::Send(key, Message::Have(piece)))
    }

    /// A peer as its handshake leaves it (BEP 3: choked and not interested, both ways).
    pub(super) fn new(now: Instant, hello: &Hello, num_pieces: u32) -> Peer {
        Peer {
            key: hello.peer,
            address: hello.address,
            callable: (hello.direction == Direction::Out).then_some(hello.address),
            direction: hello.direction,
            peer_id: hello.peer_id,
            client: hello.peer_id.client_name(),
            fast: hello.reserved.has(Reserved::FAST),
            extended: hello.reserved.has(Reserved::EXTENSION),
            v2: hello.reserved.has(Reserved::V2),
            late_hashes: if hello.was_greeted { MAX_OWED_HASHES } else { 0 },
            owed_hashes: 0,
            extensions: PeerExtensions::default(),
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            pieces: Bitfield::new(num_pieces),
            untold: Vec::new(),
            counted_as_seed: false,
            has_lost: false,
            may_send_bitfield: true,
            interesting: 0,
            in_flight: VecDeque::new(),
            window: Window::new(now),
            current: None,
            allowed_fast: Vec::new(),
            suggested: VecDeque::new(),
            upload_only: false,
            told_upload_only: false,
            granted_fast: Vec::new(),
            shown: None,
            refused: Vec::new(),
            refusals: 0,
            barren_chokes: 0,
            parting: None,
            snubbed: false,
            snubs: 0,
            probe_at: now,
            late: VecDeque::new(),
            waiting_since: now,
            upload_queue: VecDeque::new(),
            serving: 0,
            down_rate: RateMeter::new(),
            up_rate: RateMeter::new(),
            downloaded: 0,
            uploaded: 0,
            useful: 0,
            gave: None,
            unasked: 0,
            last_received: now,
            last_sent: now,
            last_useful: now,
            connected: now,
            choke_changed: now,
        }
    }

    /// Whether it wants nothing, as far as is known.
    pub(super) fn wants_nothing(&self) -> bool {
        self.upload_only || self.is_seed()
    }

    /// Whether it has everything.
    pub(super) fn is_seed(&self) -> bool {
        self.pieces.is_full() && !self.pieces.is_empty()
    }

    /// A picture of this moment.
    pub(super) fn status(&self, now: Instant) -> PeerStatus {
        PeerStatus {
            address: self.address,
            direction: self.direction,
            peer_id: self.peer_id,
            client: self.client.clone(),
            flags: PeerFlags {
                am_choking: self.am_choking,
                am_interested: self.am_interested,
                peer_choking: self.peer_choking,
                peer_interested: self.peer_interested,
                snubbed: self.snubbed,
            },
            down_rate: self.down_rate.get(now),
            up_rate: self.up_rate.get(now),
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            pieces: self.pieces.count(),
            progress: f64::from(self.pieces.count()) / f64::from(self.pieces.len().max(1)),
        }
    }

    /// What its place is worth. Whoever is paused is not interested in what he will be.
    pub(super) fn occupant(&self, now: Instant) -> Occupant {
        let is_useless = self.interesting == 0 && !self.peer_interested;
        Occupant {
            peer: self.key,
            address: self.address,
            connected: self.connected,
            useless_since: is_useless.then_some(self.last_useful),
            gave: self.gave,
            down_rate: self.down_rate.get(now),
            up_rate: self.up_rate.get(now),
        }
    }

    /// The facts that the choker decides by.
    pub(super) fn contender(&self, now: Instant) -> Contender {
        Contender {
            peer: self.key,
            down_rate: self.down_rate.get(now),
            up_rate: self.up_rate.get(now),
            snubbed: self.snubbed,
            am_choking: self.am_choking,
            since: self.choke_changed,
            connected: self.connected,
        }
    }

    /// Whether it may be asked for `piece` now.
    pub(super) fn may_be_asked_for(&self, piece: PieceIndex) -> bool {
        let refused = self.refused.iter().any(|&(other, _)| other == piece);
        self.pieces.contains(piece) && !refused && (!self.peer_choking || self.allowed_fast.contains(&piece))
    }

    /// Whether we fill requests for `piece` though we choke it. BEP 6 leaves it to us to stop: what is
    /// meant to give a newcomer something to trade would else be a second slot for everybody.
    pub(super) fn is_granted(&self, piece: PieceIndex) -> bool {
        self.pieces.is_empty() && self.granted_fast.contains(&piece)
    }

    /// Takes a block out of what is in flight; it is nearly always the first.
    pub(super) fn take_in_flight(&mut self, block: Block) -> Option<Sent> {
        let at = self.in_flight.iter().position(|&(other, _)| other == block)?;
        self.in_flight.remove(at).map(|(_, sent)| sent)
    }

    /// Takes a block out of what is late.
    pub(super) fn take_late(&mut self, block: Block) -> bool {
        let at = self.late.iter().position(|&other| other == block);
        at.is_some_and(|at| self.late.remove(at).is_some())
    }

    /// Seconds until one more block may be expected, if it is asked for now.
    pub(super) fn queue_seconds_with_one_more(&self) -> f64 {
        let bytes = (self.in_flight.len() + 1) as f64 * f64::from(crate::layout::BLOCK_LENGTH);
        bytes / self.window.expected_rate()
    }

    /// Seconds until this block, which is in flight, may be expected, as far as can be told.
    pub(super) fn block_seconds(&self, now: Instant, block: Block) -> f64 {
        let before = self.in_flight.iter().take_while(|&&(other, _)| other != block).count();
        let bytes = (before + 1) as f64 * f64::from(crate::layout::BLOCK_LENGTH);
        let silence = now.saturating_duration_since(self.waiting_since).as_secs_f64();
        (bytes / self.window.expected_rate()).max(silence / 2.0)
    }

    /// Seconds until the last block in flight may be expected, as far as can be told.
    pub(super) fn queue_seconds(&self, now: Instant) -> f64 {
        let bytes: f64 = self.in_flight.len() as f64 * f64::from(crate::layout::BLOCK_LENGTH);
        let age = self.in_flight.front().map_or(0.0, |(_, sent)| (now - sent.at()).as_secs_f64());
        (bytes / self.window.expected_rate()).max(age / 2.0)
    }
}
