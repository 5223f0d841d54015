//! Whom we serve, and what with.

use std::collections::BTreeSet;
use std::time::Instant;

use super::choker::{Contender, RECHOKE};
use super::peer::REQQ;
use super::{Output, Swarm};
use crate::event::{Kind, Severity, State};
use crate::ids::PeerKey;
use crate::layout::Block;
use crate::wire::Message;

/// The longest block that we fill; BEP 3's clients ask for 16 KiB, a few old ones for more.
const LONGEST_REQUEST: u32 = 128 * 1024;

/// Bytes of one peer that are read and queued for its connection at the most: what keeps the fastest
/// connection busy while the next are read. Requests beyond it can still be cancelled.
const MAX_AHEAD: u64 = 1 << 20;

/// The same for the slowest: what we say to it has to wait behind them.
const LEAST_AHEAD: u64 = 32 << 10;

/// Between the two, as many bytes as it takes in so much time.
const AHEAD: f64 = 0.5;

impl Swarm {
    pub(super) fn on_interested(&mut self, now: Instant, key: PeerKey, interested: bool) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.peer_interested == interested {
            return;
        }
        peer.peer_interested = interested;
        peer.last_useful = now;
        if interested {
            if peer.am_choking {
                peer.choke_changed = now;
            }
            self.waiting.insert(key);
        } else {
            self.waiting.remove(&key);
            self.note_satisfied(key);
            self.set_choking(now, key, true);
        }
        self.fill_slots(now);
    }

    fn contenders(&self, now: Instant, among: &BTreeSet<PeerKey>) -> Vec<Contender> {
        among.iter().filter_map(|key| self.peers.get(key)).map(|peer| peer.contender(now)).collect()
    }

    /// A slot that is free is given away now; nobody waits for the next look at all peers. Peers may change their mind
    /// with every message, so that nothing but those who wait is looked at, and only if there is something for them.
    pub(super) fn fill_slots(&mut self, now: Instant) {
        let nobody = self.waiting.is_empty() && self.served.is_empty();
        self.next_rechoke = if nobody { None } else { Some(self.next_rechoke.unwrap_or(now + RECHOKE)) };
        if self.state != State::Started || self.served.len() >= self.config.upload_slots {
            return;
        }
        let mut waiting = self.contenders(now, &self.waiting);
        while self.served.len() < self.config.upload_slots
            && let Some(peer) = self.choker.next(&waiting)
        {
            waiting.retain(|contender| contender.peer != peer);
            self.set_choking(now, peer, false);
        }
    }

    pub(super) fn rechoke(&mut self, now: Instant) {
        let contenders = self.contenders(now, &self.waiting.union(&self.served).copied().collect());
        self.next_rechoke = (!contenders.is_empty()).then(|| now + RECHOKE);
        if self.state != State::Started {
            return;
        }
        let slots = self.config.upload_slots;
        let chosen = self.choker.rechoke(now, self.is_complete(), slots, &contenders);
        for contender in &contenders {
            self.set_choking(now, contender.peer, !chosen.contains(&contender.peer));
        }
    }

    pub(super) fn set_choking(&mut self, now: Instant, key: PeerKey, choke: bool) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.am_choking != choke) else { return };
        peer.am_choking = choke;
        peer.choke_changed = now;
        let (from, to) = match choke {
            true => (&mut self.served, &mut self.waiting),
            false => (&mut self.waiting, &mut self.served),
        };
        from.remove(&key);
        if peer.peer_interested {
            to.insert(key);
        }
        if !choke {
            self.send(now, key, Message::Unchoke);
            return self.show_more(now, key, false);
        }
        let fast = peer.fast;
        let queue = std::mem::take(&mut peer.upload_queue);
        let keep = |block: &Block| fast && self.state == State::Started && peer.is_granted(block.piece);
        let (kept, dropped): (Vec<Block>, Vec<Block>) = queue.into_iter().partition(keep);
        peer.upload_queue = kept.into();
        self.send(now, key, Message::Choke);
        if fast {
            // BEP 6: a choke no longer means that requests are dropped, each is refused.
            for &block in &dropped {
                self.send(now, key, Message::Reject(block));
            }
        }
        self.show_to_others(now, key, &dropped);
    }

    pub(super) fn on_request(&mut self, now: Instant, key: PeerKey, block: Block) {
        let valid = self.config.layout.is_valid_request(block) && block.length <= LONGEST_REQUEST;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if !valid {
            let reason =
                format!("asks for {} bytes at {} of piece {}", block.length, block.begin, block.piece.0);
            let (address, peer_id) = (peer.address, peer.peer_id);
            self.tell(Severity::Info, || Kind::InvalidRequest {
                address,
                peer_id: peer_id.to_string(),
                reason: reason.clone(),
            });
            return self.close_unruly(now, key, reason);
        }
        let allowed = !peer.am_choking || peer.is_granted(block.piece);
        if self.state == State::Started
            && allowed
            && self.have.contains(block.piece)
            && peer.upload_queue.len() < REQQ
        {
            peer.upload_queue.push_back(block);
            self.note_request(key, block.piece);
            self.serve(now, key);
        } else if peer.fast {
            self.send(now, key, Message::Reject(block));
        }
    }

    pub(super) fn on_cancel(&mut self, now: Instant, key: PeerKey, block: Block) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(at) = peer.upload_queue.iter().position(|&queued| queued == block) else { return };
        peer.upload_queue.remove(at);
        if peer.fast {
            self.send(now, key, Message::Reject(block));
        }
    }

    /// Drops what a peer asked for, granted pieces too.
    pub(super) fn refuse_all(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let fast = peer.fast;
        for block in std::mem::take(&mut peer.upload_queue) {
            if fast {
                self.send(now, key, Message::Reject(block));
            }
        }
    }

    /// Hands requests on to be read, in batches: the next ones when half of the last are sent. It does
    /// not stall, for what keeps it from handing on is what will be sent.
    fn serve(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.upload_queue.is_empty()) else {
            return;
        };
        let ahead = ((peer.up_rate.get(now) as f64 * AHEAD) as u64).clamp(LEAST_AHEAD, MAX_AHEAD);
        if peer.serving > ahead / 2 {
            return;
        }
        while peer.serving < ahead
            && let Some(block) = peer.upload_queue.pop_front()
        {
            peer.serving += u64::from(block.length);
            self.outputs.push_back(Output::Serve(key, block));
        }
    }

    pub(super) fn on_sent(&mut self, now: Instant, key: PeerKey, bytes: u32) {
        self.uploaded += u64::from(bytes);
        self.up_rate.add(now, u64::from(bytes));
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.serving = peer.serving.saturating_sub(u64::from(bytes));
        peer.uploaded += u64::from(bytes);
        peer.up_rate.add(now, u64::from(bytes));
        peer.last_sent = now;
        peer.last_useful = now;
        self.serve(now, key);
    }
}
