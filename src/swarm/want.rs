//! What is wanted changes while the transfer goes on.

use std::time::Instant;

use super::{Order, Swarm};
use crate::bitfield::Bitfield;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::wire::Message;

impl Swarm {
    /// From now on, these pieces are wanted, with these weights and in this order. Begun pieces that are not wanted any more are
    /// given up; whole ones that wait for their hash are not.
    pub(super) fn want(&mut self, now: Instant, wanted: Bitfield, weights: &[u32], order: Order) {
        let unwanted: Vec<PieceIndex> = self.pieces.iter().filter(|&piece| !wanted.contains(piece)).collect();
        self.give_up_pieces(now, &unwanted);
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        self.missing = wanted.count_minus(&self.have);
        self.wanted = wanted;
        let mut open = self.wanted.difference(&self.have);
        open.subtract(&self.in_flight());
        self.picker.set_wanted(&open, weights);
        self.window.set(order, &self.wanted, &self.have, &self.config.layout);
        for &key in &keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            let useful = |&piece: &PieceIndex| self.wanted.contains(piece) && !self.have.contains(piece);
            peer.interesting = peer.pieces.iter().filter(useful).count() as u32;
            self.update_interest(now, key);
        }
        self.tell_upload_only(now);
        self.wake_idle();
        if self.is_complete() {
            self.fill_slots(now);
        }
    }

    /// Gives up pieces that are begun: what was asked for of them is taken back, what is here of them is lost.
    pub(super) fn give_up_pieces(&mut self, now: Instant, pieces: &[PieceIndex]) {
        if pieces.is_empty() {
            return;
        }
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.cancel_requests(now, key, pieces);
        }
        for seed in self.web_seeds.values_mut() {
            seed.in_flight.retain(|block, _| pieces.binary_search(&block.piece).is_err());
        }
        for &piece in pieces {
            self.wasted += self.pieces.give_up(piece);
            self.free_memory(piece);
        }
    }

    /// Takes back what a peer was asked for of these pieces (in ascending order).
    pub(super) fn cancel_requests(&mut self, now: Instant, key: PeerKey, pieces: &[PieceIndex]) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let in_flight = peer.in_flight.iter().map(|(block, _)| *block);
        let late = peer.late.iter().copied();
        let is_among = |block: &Block| pieces.binary_search(&block.piece).is_ok();
        let unwanted: Vec<Block> = in_flight.chain(late).filter(is_among).collect();
        for block in unwanted {
            let Some(peer) = self.peers.get_mut(&key) else { return };
            if peer.take_late(block) {
                self.pieces.end_lateness(&self.config.layout, block, key, false);
            } else if peer.take_in_flight(block).is_some() {
                self.pieces.give_back(&self.config.layout, block, key);
                self.send(now, key, Message::Cancel(block));
            }
        }
    }
}
