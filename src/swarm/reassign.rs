//! What is taken back from a peer before it has sent it: because it was asked for more than it is good for, or because another peer can
//! give it far sooner.
//!
//! Only peers that speak the fast extension (BEP 6) lose anything so: they answer a cancel with a reject, or with the block, which
//! is taken then. Pieces that failed their hash once stay with whom they were given to.

use std::time::Instant;

use super::Swarm;
use crate::ids::PeerKey;
use crate::layout::{BLOCK_LENGTH, Block, PieceIndex};
use crate::wire::{Message, PeerId};

/// What is expected within so many seconds is not taken back.
const SOON: f64 = 0.1;

/// Another peer should have a block in this fraction of the time that it is taken back from one that was asked for it.
const SOONER: f64 = 0.5;

/// Blocks beyond twice its window that a peer may have in flight before any is taken back: what a few samples more or less make.
const TOLERANCE: usize = 32;

/// Numbers that are drawn to find the piece that falls to us most: one for each peer and piece.
const MAX_DRAWN: usize = 8192;

/// Peers among whom what a seed alone has is shared out.
const MAX_SHARERS: usize = 64;

impl Swarm {
    /// Takes back the last of what a peer was asked for, if its window has turned out to be far smaller: some give what is due for half
    /// a second at once, and nothing in between.
    pub(super) fn take_back_excess(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.fast && !peer.snubbed) else { return };
        let room = peer.window.blocks() as usize;
        if peer.in_flight.len() > 2 * room + TOLERANCE {
            let excess = peer.in_flight.split_off(room).into_iter().map(|(block, _)| block).collect();
            self.cancel_late(now, key, excess);
        }
    }

    /// A peer that is no seed has a begun piece, and lets us ask for it: seeds of which it was asked need not give it, as long as there is anything
    /// that they alone have. What they would send soon is left to them.
    pub(super) fn take_back_for(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get(&key).filter(|peer| !peer.snubbed && !peer.counted_as_seed) else {
            return;
        };
        let may = self.pieces.contains(piece) && !self.suspects.contains(piece) && self.lacks_scarce();
        if !may || peer.peer_choking || !peer.may_be_asked_for(piece) {
            return;
        }
        let least = (peer.queue_seconds_with_one_more() / SOONER).max(SOON);
        let seeds = self.peers.values().filter(|seed| {
            seed.counted_as_seed && seed.fast && !seed.snubbed && seed.queue_seconds(now) > least
        });
        let slow = seeds.filter_map(|seed| {
            let before = seed.in_flight.iter().position(|(block, _)| block.piece == piece)?;
            // One that is being sent already is not interrupted.
            let is_late = before as f64 * f64::from(BLOCK_LENGTH) / seed.window.expected_rate() > least;
            is_late.then_some(seed.key)
        });
        for key in slow.collect::<Vec<_>>() {
            let Some(seed) = self.peers.get_mut(&key) else { continue };
            let owed = seed.in_flight.iter().map(|&(block, _)| block).filter(|block| block.piece == piece);
            let owed = owed.collect();
            seed.in_flight.retain(|(block, _)| block.piece != piece);
            seed.current = seed.current.filter(|&current| current != piece);
            self.cancel_late(now, key, owed);
        }
    }

    /// Whether there is a piece that seeds alone have, be it begun or not.
    fn lacks_scarce(&self) -> bool {
        self.picker.has_scarce() || self.pieces.iter().any(|piece| self.picker.only_seeds_have(piece))
    }

    /// These are not in flight with a peer any more.
    fn cancel_late(&mut self, now: Instant, key: PeerKey, blocks: Vec<Block>) {
        for block in blocks {
            self.make_late(key, block);
            self.send(now, key, Message::Cancel(block));
        }
        self.wake_idle();
    }

    /// How what seeds alone have is shared out at this moment.
    pub(super) fn shares(&self) -> Shares {
        let sharers = self.peers.values().filter(|peer| !peer.wants_nothing()).take(MAX_SHARERS);
        Shares { own: fold(self.config.peer_id), others: sharers.map(|peer| fold(peer.peer_id)).collect() }
    }
}

/// Who takes which of the pieces that seeds alone have: of all who are connected and lack pieces, each takes those first for which it draws the
/// highest number, then those for which one other draws a higher one, and so on; all draw alike from the peer ids. So those who do
/// not know of one another's choices fetch different pieces, and then have something to give to one another. Who does not play along does no harm.
pub(super) struct Shares {
    own: u64,
    others: Vec<u64>,
}

impl Shares {
    /// How many pieces to look at.
    pub(super) fn pieces_to_look_at(&self) -> usize {
        MAX_DRAWN / (self.others.len() + 1)
    }

    /// How many others this piece, or row of pieces, falls to rather than to us; and, among those of which this is the same, when its turn is.
    /// Each takes those first for which it draws the highest number. Of what falls to others we take that first which they take last, so that
    /// we meet them as late as can be.
    pub(super) fn turn(&self, number: u32) -> (usize, u64) {
        let own = draw(self.own, number);
        let higher = self.others.iter().map(|&other| draw(other, number)).filter(|&drawn| drawn > own);
        let (rank, highest) = higher.fold((0, 0), |(count, highest), drawn| (count + 1, drawn.max(highest)));
        (rank, if rank == 0 { u64::MAX - own } else { highest })
    }
}

/// A number that is as good as random, the same for everybody: the last bytes of a peer id are, and the finaliser of MurmurHash3 mixes them
/// with the piece.
fn draw(id: u64, number: u32) -> u64 {
    let mut bits = id ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        bits = (bits ^ (bits >> 33)).wrapping_mul(factor);
    }
    bits ^ (bits >> 33)
}

/// A peer id as one number.
fn fold(id: PeerId) -> u64 {
    id.0.iter().fold(0, |sum: u64, &byte| sum.rotate_left(7) ^ u64::from(byte))
}
