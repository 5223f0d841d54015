//! What we ask for, and what becomes of it.

use std::collections::VecDeque;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::begun::{Arrival, Sender};
use super::peer::{MAX_HINTS, MAX_REFUSED, MAX_SUGGESTED};
use super::{MAX_UNWRITTEN, PeerReport, Swarm};
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::event::State;
use crate::ids::{PeerKey, Source};
use crate::layout::{Block, PieceIndex};
use crate::wire::extended::{LT_DONTHAVE, MetadataMessage, UT_METADATA};
use crate::wire::{Extended, Message, PIECE_HEADER_LENGTH};

/// After a peer has refused a block, so long it is not asked for any of that piece; doubled with each
/// further refusal without a block in between, up to 16 times. Some refuse what is beyond their queue
/// by one, and take it the next second.
const REFUSED: Duration = Duration::from_secs(1);

/// After a peer was snubbed, it is asked for one block after so long; doubles each time.
const FIRST_PROBE: Duration = Duration::from_secs(10);

/// A peer that sends more than this unasked, and more than it sends of use, is closed.
const MAX_UNASKED: u64 = 2 << 20;

/// What a block that nobody asked for counts for beyond its data: a short one is as much work as a long one.
const UNASKED_FRAME: u64 = 1 << 10;

/// A peer that chokes us so often in a row without having sent any of what it was asked for is not asked for more
/// for a while.
const MAX_BARREN_CHOKES: u32 = 3;

impl Swarm {
    pub(super) fn on_message(&mut self, now: Instant, key: PeerKey, message: Message) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.last_received = now;
        let first = peer.may_send_bitfield;
        peer.may_send_bitfield = first && is_no_word_on_pieces(&message);
        let fast = peer.fast;
        match message {
            Message::KeepAlive | Message::Port(_) | Message::Unknown { .. } | Message::Piece(_) => {}
            Message::Choke => self.on_choke(now, key),
            Message::Unchoke => {
                if std::mem::replace(&mut peer.peer_choking, false) {
                    peer.waiting_since = now;
                }
                peer.refused.clear();
                self.may_have_room.insert(key);
            }
            Message::Interested => self.on_interested(now, key, true),
            Message::NotInterested => self.on_interested(now, key, false),
            Message::Have(piece) => self.on_have(now, key, piece),
            Message::HaveAll | Message::HaveNone if !first => {
                self.close_unruly(now, key, format!("{} is not the first message", message.name()));
            }
            // A later one is taken too, against BEP 3: aria2 sends it instead of many haves.
            Message::Bitfield(bytes) => match Bitfield::from_wire(self.have.len(), &bytes) {
                Some(pieces) => self.on_pieces(now, key, pieces),
                None => self.close_unruly(now, key, "bitfield of a wrong length or with spare bits set"),
            },
            Message::HaveAll if fast => self.on_pieces(now, key, Bitfield::full(self.have.len())),
            Message::HaveNone if fast => {}
            Message::Request(block) => self.on_request(now, key, block),
            Message::Cancel(block) => self.on_cancel(now, key, block),
            Message::Reject(block) if fast => self.on_reject(now, key, block),
            Message::Suggest(piece) if fast => {
                if self.have.len() > piece.0 {
                    peer.suggested.truncate(MAX_SUGGESTED - 1);
                    peer.suggested.push_front(piece);
                }
            }
            Message::AllowedFast(piece) if fast => {
                if self.have.len() > piece.0 && peer.allowed_fast.len() < MAX_HINTS {
                    peer.allowed_fast.push(piece);
                    self.may_have_room.insert(key);
                }
            }
            Message::Extended { id, payload } if peer.extended => self.on_extended(now, key, id, &payload),
            Message::Extended { .. } => {}
            Message::HashRequest(range) if peer.v2 => self.on_hash_request(now, key, range),
            Message::HashReject(range) if peer.v2 => self.on_hash_reject(now, key, &range),
            Message::Hashes(range, hashes) if peer.v2 => self.on_hashes(now, key, &range, &hashes),
            Message::HashRequest(_) | Message::Hashes(..) | Message::HashReject(_) => {
                self.close_unruly(now, key, "speaks of hashes without version 2");
            }
            Message::HaveAll
            | Message::HaveNone
            | Message::Reject(_)
            | Message::Suggest(_)
            | Message::AllowedFast(_) => {
                self.close_unruly(now, key, format!("{} without the fast extension", message.name()));
            }
        }
    }

    fn on_extended(&mut self, now: Instant, key: PeerKey, id: u8, payload: &[u8]) {
        match self.offer().decode(id, payload) {
            Ok(Extended::Handshake(theirs)) => self.on_extension_handshake(now, key, theirs),
            Ok(Extended::Metadata(MetadataMessage::Request { piece })) => {
                let theirs = self.peers.get(&key).and_then(|peer| peer.extensions.id_of(UT_METADATA));
                let answer = self.server.on_request(now, key, piece);
                if let (Some(id), Some(answer)) = (theirs, answer) {
                    self.send(now, key, Message::Extended { id, payload: answer.encode() });
                }
            }
            Ok(Extended::Pex(message)) => {
                if let Some(peer) = self.peers.get(&key) {
                    self.reports.push(PeerReport::Tells(key, peer.address, message));
                }
            }
            Ok(Extended::Holepunch(message)) => self.reports.push(PeerReport::Holepunch(key, message)),
            Ok(Extended::DontHave(piece)) => self.on_dont_have(now, key, piece),
            // Nothing is asked of anybody, and nothing else is offered.
            Ok(Extended::Metadata(_) | Extended::Unknown(_)) => {}
            Err(error) => {
                let reason = error.to_string();
                self.peer_error(key, &reason);
                self.close_unruly(now, key, reason);
            }
        }
    }

    /// The peer has these pieces, besides those that it has said before.
    fn on_pieces(&mut self, now: Instant, key: PeerKey, pieces: Bitfield) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if !peer.pieces.is_empty() && (!pieces.is_full() || peer.has_lost) {
            // Not the first: only what it adds costs anything, or who loses and regains a piece again and again would cost much.
            let news: Vec<PieceIndex> = pieces.minus(&peer.pieces).collect();
            return news.into_iter().for_each(|piece| self.on_have(now, key, piece));
        }
        self.picker.on_leave(&peer.pieces, peer.counted_as_seed);
        peer.counted_as_seed = pieces.is_full();
        self.picker.on_join(&pieces);
        peer.interesting =
            pieces.iter().filter(|&p| self.wanted.contains(p) && !self.have.contains(p)).count() as u32;
        let has_all = pieces.is_full();
        peer.pieces = pieces;
        if has_all {
            self.show_everything(now);
        }
        self.report_seed(key);
        self.update_interest(now, key);
    }

    fn on_have(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        if !self.config.layout.contains(piece) {
            return self.close_unruly(now, key, format!("have of piece {}, which does not exist", piece.0));
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if !peer.pieces.insert(piece) {
            return;
        }
        if peer.is_seed() {
            self.reports.push(PeerReport::Seed(key, true));
        }
        self.picker.on_have(piece);
        if self.have.contains(piece) {
            self.note_spread(now, key, piece);
        } else if self.wanted.contains(piece) {
            peer.interesting += 1;
            self.may_have_room.insert(key);
            self.take_back_for(now, key, piece);
        }
        self.update_interest(now, key);
    }

    /// The peer has lost this piece (BEP 54).
    fn on_dont_have(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        if !self.config.layout.contains(piece) {
            let reason = format!("{LT_DONTHAVE} of piece {}, which does not exist", piece.0);
            return self.close_unruly(now, key, reason);
        }
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.pieces.contains(piece)) else { return };
        peer.has_lost = true;
        if std::mem::replace(&mut peer.counted_as_seed, false) {
            // It is counted piece by piece from now on.
            self.picker.on_leave(&peer.pieces, true);
            peer.pieces.remove(piece);
            self.picker.on_join(&peer.pieces);
        } else {
            peer.pieces.remove(piece);
            self.picker.on_lost(piece);
        }
        if self.wanted.contains(piece) && !self.have.contains(piece) {
            peer.interesting -= 1;
        }
        peer.allowed_fast.retain(|&allowed| allowed != piece);
        peer.current = peer.current.filter(|&current| current != piece);
        // It could not send them.
        self.cancel_requests(now, key, &[piece]);
        self.report_seed(key);
        self.update_interest(now, key);
        self.wake_idle();
    }

    /// Others may be told whether the peer wants nothing (BEP 11).
    pub(super) fn report_seed(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get(&key) {
            self.reports.push(PeerReport::Seed(key, peer.wants_nothing()));
        }
    }

    pub(super) fn update_interest(&mut self, now: Instant, key: PeerKey) {
        let complete = self.is_complete();
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if complete && peer.wants_nothing() {
            return self.close(now, key, "both complete");
        }
        // Whoever is paused asks for nothing: a slot that others could use is not to be kept.
        let interested = peer.interesting > 0 && self.state == State::Started;
        if interested != peer.am_interested {
            peer.am_interested = interested;
            peer.last_useful = now;
            let message = if interested { Message::Interested } else { Message::NotInterested };
            self.send(now, key, message);
            self.may_have_room.insert(key);
        }
    }

    fn on_choke(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if std::mem::replace(&mut peer.peer_choking, true) {
            return;
        }
        // With BEP 6 each request is answered even then; without it they are all gone.
        let gone = if peer.fast { VecDeque::new() } else { std::mem::take(&mut peer.in_flight) };
        let late = if peer.fast { VecDeque::new() } else { std::mem::take(&mut peer.late) };
        for &block in &late {
            self.pieces.end_lateness(&self.config.layout, block, key, false);
        }
        for (block, _) in &gone {
            self.pieces.give_back(&self.config.layout, *block, key);
        }
        self.pieces.release_exclusive(key);
        if gone.is_empty() {
            return;
        }
        peer.barren_chokes += 1;
        if peer.barren_chokes >= MAX_BARREN_CHOKES {
            self.snub(now, key);
        }
        self.wake_idle();
    }

    fn on_reject(&mut self, now: Instant, key: PeerKey, block: Block) {
        let is_owed = self.pieces.is_owed(&self.config.layout, block, key);
        let Some(peer) = self.peers.get_mut(&key).filter(|_| is_owed) else {
            return; // cancelled a moment ago
        };
        if !peer.snubbed && peer.take_late(block) {
            // It was taken back, and may have been asked for anew since.
            self.pieces.end_lateness(&self.config.layout, block, key, false);
            return;
        }
        if peer.take_in_flight(block).is_none() {
            peer.take_late(block);
            self.pieces.end_lateness(&self.config.layout, block, key, false);
            // No block, but an answer: it is not silent.
            self.end_snub(now, key);
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.waiting_since = now;
        peer.allowed_fast.retain(|&piece| piece != block.piece);
        if !peer.peer_choking && peer.may_be_asked_for(block.piece) {
            // Asked again at once, it would refuse again at once.
            let pause = REFUSED * 2u32.pow(peer.refusals.min(4));
            peer.refusals += 1;
            peer.refused.push((block.piece, now + pause));
        }
        self.pieces.give_back(&self.config.layout, block, key);
        self.wake_idle();
    }

    /// The data of `block` have come. Gives them back if they are of no use.
    pub fn on_block(
        &mut self,
        now: Instant,
        key: PeerKey,
        block: Block,
        data: BlockData,
    ) -> Option<BlockData> {
        // Known without a look at all that it was asked for: who sends what nobody asked for costs little.
        let asked = self.pieces.is_owed(&self.config.layout, block, key);
        let Some(peer) = self.peers.get_mut(&key) else { return Some(data) };
        let address = peer.address;
        let length = u64::from(block.length);
        peer.last_received = now;
        peer.may_send_bitfield = false;
        peer.downloaded += length;
        peer.down_rate.add(now, length);
        self.downloaded += length;
        if let Some(sent) = if asked { peer.take_in_flight(block) } else { None } {
            peer.window.on_block(now, sent, block.length);
            peer.refusals = 0;
            peer.waiting_since = now;
        }
        if asked {
            peer.take_late(block);
            peer.barren_chokes = 0;
            peer.last_useful = now;
            self.end_snub(now, key);
            self.may_have_room.insert(key);
        }
        let goes_on =
            self.peers.get(&key).is_some_and(|peer| !peer.snubbed && peer.may_be_asked_for(block.piece));
        let sender = Sender { peer: key, source: Source::Peer(address), goes_on };
        match self.pieces.on_block(now, &self.config.layout, block, sender, data) {
            Arrival::Unneeded(data) => {
                self.wasted += length;
                if !asked {
                    self.on_unasked(now, key, length);
                }
                Some(data)
            }
            Arrival::Kept { others, whole } => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    peer.useful += length;
                    peer.gave = Some(now);
                }
                self.down_rate.add(now, length);
                others.into_iter().for_each(|other| self.cancel(now, other, block));
                if whole {
                    self.verify_piece(block.piece);
                }
                None
            }
        }
    }

    /// Tells a peer that it need not send a block any more, if it was asked for it.
    pub(super) fn cancel(&mut self, now: Instant, key: PeerKey, block: Block) {
        if self.cancel_web(key, block) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&key)
            && (peer.take_in_flight(block).is_some() || peer.take_late(block))
        {
            self.send(now, key, Message::Cancel(block));
            self.may_have_room.insert(key);
        }
    }

    /// A block that is of no use and that was not asked for; what crossed with our cancel is one, too.
    fn on_unasked(&mut self, now: Instant, key: PeerKey, length: u64) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.unasked += length + UNASKED_FRAME;
        if peer.unasked > MAX_UNASKED && peer.unasked > peer.useful {
            self.close_unruly(now, key, "sends blocks that nobody asked for");
        }
    }

    /// Takes back all that was asked of a peer.
    pub(super) fn cancel_all(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        for block in std::mem::take(&mut peer.late) {
            self.pieces.end_lateness(&self.config.layout, block, key, false);
        }
        for (block, _) in std::mem::take(&mut peer.in_flight) {
            self.pieces.give_back(&self.config.layout, block, key);
            self.send(now, key, Message::Cancel(block));
        }
    }

    /// A peer does not send what it was asked for: others may, at once; what still comes is taken.
    pub(super) fn snub(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.snubbed = true;
        peer.probe_at = now + FIRST_PROBE * 2u32.pow(peer.snubs.min(4));
        peer.snubs += 1;
        for (block, _) in std::mem::take(&mut peer.in_flight) {
            self.make_late(key, block);
        }
        self.pieces.release_exclusive(key);
        self.wake_idle();
    }

    /// Others may send a block that is not in flight with a peer any more; if it comes from that all the same it is taken.
    pub(super) fn make_late(&mut self, key: PeerKey, block: Block) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        // It was asked for again after it had become late.
        if peer.late.contains(&block) {
            return self.pieces.give_back(&self.config.layout, block, key);
        }
        peer.late.push_back(block);
        self.pieces.give_up_waiting(&self.config.layout, block, key);
    }

    /// It sends after all: what nobody else was asked for is left to it, the rest is cancelled.
    fn end_snub(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.snubbed) else { return };
        (peer.snubbed, peer.snubs, peer.waiting_since) = (false, 0, now);
        let mut given_up = Vec::new();
        for block in std::mem::take(&mut peer.late) {
            if self.pieces.end_lateness(&self.config.layout, block, key, true) {
                peer.in_flight.push_back((block, peer.window.on_request(now)));
            } else {
                given_up.push(block);
            }
        }
        given_up.into_iter().for_each(|block| self.send(now, key, Message::Cancel(block)));
    }

    /// Asks a peer for as much as its window has room for.
    pub(super) fn fill_window(&mut self, now: Instant, key: PeerKey) {
        self.take_back_excess(now, key);
        if self.config.pace.is_set() {
            self.asking.insert(key);
            return;
        }
        while self.ask(now, key) {}
    }

    /// Under a limit: asks the peers that may have room for a block each, in turn, as far as the limit lets in what they send.
    pub(super) fn ask_in_turn(&mut self, now: Instant) {
        while !self.asking.is_empty() && self.config.pace.may_ask(now) {
            let behind = |last| self.asking.range((Bound::Excluded(last), Bound::Unbounded)).next();
            let next = self.asked_last.and_then(behind).or_else(|| self.asking.first());
            let Some(&key) = next else { break };
            self.asked_last = Some(key);
            if !self.ask(now, key) {
                self.asking.remove(&key);
            }
        }
        if self.asking.is_empty() {
            self.config.pace.leave_row();
        }
    }

    /// Asks a peer for one block more, if its window has room for it and there is one. Says whether it was asked.
    fn ask(&mut self, now: Instant, key: PeerKey) -> bool {
        let limit = MAX_UNWRITTEN.max(2 * u64::from(self.config.layout.piece_length()));
        if self.state != State::Started || self.unwritten() >= limit {
            return false;
        }
        let Some(peer) = self.peers.get(&key) else { return false };
        let room = match peer.snubbed {
            true => u32::from(now >= peer.probe_at),
            false => peer.window.blocks_at_least(self.config.pace.least_blocks()),
        };
        if !peer.am_interested || peer.in_flight.len() as u32 >= room || peer.refused.len() >= MAX_REFUSED {
            return false;
        }
        let Some(block) = self.next_block(now, key) else { return false };
        let Some(peer) = self.peers.get_mut(&key) else { return false };
        if peer.in_flight.is_empty() {
            peer.waiting_since = now;
        }
        peer.current = Some(block.piece);
        peer.in_flight.push_back((block, peer.window.on_request(now)));
        self.config.pace.on_request(PIECE_HEADER_LENGTH + block.length as usize);
        self.send(now, key, Message::Request(block));
        true
    }
}

/// Whether a bitfield may still follow: BEP 3 wants it first, but clients greet with these, too.
fn is_no_word_on_pieces(message: &Message) -> bool {
    use Message::{Extended, KeepAlive, Port, Unknown};
    matches!(message, Extended { .. } | KeepAlive | Port(_) | Unknown { .. })
}
