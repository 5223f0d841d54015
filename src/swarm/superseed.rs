//! Super-seeding (BEP 16): while we alone have everything, everything is sent once before anything is sent twice.
//!
//! A leecher that comes then is told that we have nothing, and after that of one piece and another, each of them of those that were told to nobody
//! yet. BEP 16 tells of the next piece once somebody else has the last one. That leaves our uplink idle, so
//! here it is as soon as the leecher has that one, and sooner if that keeps it busy.
//!
//! It is over as soon as all pieces are somewhere else, or as it costs anybody time: then all are told that we have everything. While pieces are
//! nowhere else, it begins anew with who comes after that.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Swarm;
use super::peer::Peer;
use crate::bitfield::Bitfield;
use crate::event::State;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::wire::Message;

/// Torrents of fewer pieces are not worth it: each leecher is told of a few at a time.
const MIN_PIECES: u32 = 16;

/// Pieces that a served leecher knows of and lacks, at the least: what it asks for at first, and until we hear that it has them. Of long pieces,
/// as many bytes: others wait for what it is to have.
const LEAST_AHEAD: std::ops::RangeInclusive<usize> = 2..=4;
const LEAST_BYTES_AHEAD: u32 = 4 << 20;

/// And beyond those, what it takes in so many seconds.
const AHEAD: f64 = 1.0;

/// A peer that has been interested in nothing for so long may be a seed that hides from us as well, or want other files than those that it was told
/// of: it is told of everything.
const MAX_UNINTERESTED: Duration = Duration::from_secs(10);

/// The same while it lacks something that it was told of: it does not want that.
const MAX_AVERSE: Duration = Duration::from_secs(2);

/// Who takes so many times as much a second as another that is due pieces does not wait for that one to have them.
const FAR_QUICKER: u64 = 4;

/// Told and lacked pieces at the most, however little of them is asked for.
const MAX_AHEAD: usize = 64;

/// Our uplink may be idle for so long while leechers lack something.
const MAX_IDLE: Duration = Duration::from_secs(2);

/// Pieces that are looked at to find one that others have and a leecher lacks.
const MAX_LOOKED_AT: u32 = 512;

/// What a leecher has been told of.
#[derive(Debug)]
pub(super) struct Shown {
    /// All that it has been told of.
    told: Bitfield,
    /// Of these, what was told to it to be fetched from us and it does not have; and whether it has asked for any of it.
    due: Vec<(PieceIndex, bool)>,
    /// At the last look it asked for nothing.
    waited: bool,
    /// Since when it is interested in nothing though it lacks something that it was told of.
    averse_since: Option<Instant>,
}

/// Which pieces have been told to somebody. Empty as long as there was nothing to hide.
#[derive(Debug, Default)]
pub(super) struct SuperSeed {
    /// Peers from whom something is hidden. When there are none any more, all this begins anew.
    hidden: usize,
    /// The next piece that was told to nobody.
    next: u32,
    /// Pieces before it that nobody may have any more, or that nobody may fetch.
    returned: Vec<PieceIndex>,
    /// Pieces that those asked for from whom nothing is hidden.
    chosen: BTreeSet<PieceIndex>,
    /// All have been told to somebody, and those of them have been returned that nobody is fetching.
    all_told: bool,
    /// Since when nothing has been asked of us, as far as is known.
    idle_since: Option<Instant>,
}

impl Peer {
    /// Whether something is hidden from it, and what it was told of is not what it wants.
    fn has_no_use_for_shown(&mut self, now: Instant) -> bool {
        let Some(shown) = &mut self.shown else { return false };
        if self.peer_interested {
            shown.averse_since = None;
            return false;
        }
        let lacks_some = shown.told.minus(&self.pieces).next().is_some();
        let since = shown.averse_since.unwrap_or(now);
        shown.averse_since = lacks_some.then_some(since);
        now.saturating_duration_since(since) >= MAX_AVERSE
            || now.saturating_duration_since(self.choke_changed) >= MAX_UNINTERESTED
    }
}

impl Swarm {
    /// Whether pieces are hidden from a peer that has just come, and is not among the others yet: for a single leecher it would be no use.
    pub(super) fn hides_from(&self, newcomer: &Peer) -> bool {
        newcomer.fast
            && self.state == State::Started
            && self.have.is_full()
            && self.have.len() >= MIN_PIECES
            && self.peers.values().any(|peer| !peer.wants_nothing())
            && !self.is_spread()
    }

    /// Whether others have all pieces, one of them or all together.
    fn is_spread(&self) -> bool {
        self.picker.has_seeds()
            || !(0..self.have.len()).any(|piece| self.picker.only_seeds_have(PieceIndex(piece)))
    }

    /// Whether anything is hidden from anybody.
    pub(super) fn hides(&self) -> bool {
        self.super_seed.hidden > 0
    }

    /// Nothing is hidden any more from so many of those from whom something was.
    fn count_out(&mut self, peers: usize) {
        self.super_seed.hidden -= peers;
        if !self.hides() {
            self.super_seed = SuperSeed::default();
        }
    }

    /// From now on, what we have is told to this peer piece by piece.
    pub(super) fn hide_from(&mut self, now: Instant, key: PeerKey) {
        let pieces = self.have.len();
        if let Some(peer) = self.peers.get_mut(&key) {
            self.super_seed.hidden += 1;
            let shown =
                Shown { told: Bitfield::new(pieces), due: Vec::new(), waited: false, averse_since: None };
            peer.shown = Some(Box::new(shown));
        }
        self.show_more(now, key, false);
    }

    /// Tells a leecher of as many pieces as keep it busy, and, if it `waits` and there are no others, of what others have; of one, for the sake of its
    /// interest, while we choke it.
    pub(super) fn show_more(&mut self, now: Instant, key: PeerKey, waits: bool) {
        while let Some(piece) = self.next_to_show(now, key, waits) {
            let Some(shown) = self.peers.get_mut(&key).and_then(|peer| peer.shown.as_mut()) else { return };
            shown.told.insert(piece);
            shown.due.push((piece, false));
            self.send(now, key, Message::Have(piece));
        }
    }

    fn next_to_show(&mut self, now: Instant, key: PeerKey, waits: bool) -> Option<PieceIndex> {
        let peer = self.peers.get(&key)?;
        let shown = peer.shown.as_ref()?;
        if peer.am_choking && shown.told.minus(&peer.pieces).next().is_some() {
            return None;
        }
        let length = self.config.layout.piece_length();
        let by_rate = (peer.up_rate.get(now) as f64 * AHEAD / f64::from(length)) as usize;
        let least = ((LEAST_BYTES_AHEAD / length) as usize).clamp(*LEAST_AHEAD.start(), *LEAST_AHEAD.end());
        let ahead = (least + by_rate).min(MAX_AHEAD);
        if shown.due.len() >= ahead {
            return None;
        }
        self.new_to_show(key)
            .or_else(|| self.common_piece(key).filter(|_| waits))
            .or_else(|| self.late_piece(now, key, waits))
    }

    /// A piece that another leecher is due and will have late, for one that has nothing else to fetch from us: of the slowest; if this one does not
    /// `wait`, of a far slower one.
    fn late_piece(&self, now: Instant, key: PeerKey, waits: bool) -> Option<PieceIndex> {
        let peer = self.peers.get(&key)?;
        let shown = peer.shown.as_ref().filter(|shown| shown.due.is_empty() && !peer.am_choking)?;
        let rate = peer.up_rate.get(now);
        let is_slow = |other: &&Peer| waits || other.up_rate.get(now) < rate / FAR_QUICKER;
        let others = self.peers.values().filter(|other| other.key != key).filter(is_slow);
        let late = others.flat_map(|other| {
            let due = other.shown.iter().flat_map(|shown| shown.due.iter().rev());
            due.map(|&(piece, _)| (other.up_rate.get(now), piece))
        });
        let of_use = late.filter(|(_, piece)| !shown.told.contains(*piece) && !peer.pieces.contains(*piece));
        of_use.min_by_key(|&(rate, _)| rate).map(|(_, piece)| piece)
    }

    /// A piece that was told to nobody, or to nobody who will fetch it.
    fn new_to_show(&mut self, key: PeerKey) -> Option<PieceIndex> {
        if self.super_seed.next >= self.have.len() && !std::mem::replace(&mut self.super_seed.all_told, true)
        {
            let served = self.served.iter().filter_map(|key| self.peers.get(key)?.shown.as_ref());
            let due: BTreeSet<PieceIndex> =
                served.flat_map(|shown| shown.due.iter().map(|&(piece, _)| piece)).collect();
            let all = (0..self.have.len()).map(PieceIndex);
            self.super_seed.returned = all.filter(|piece| !due.contains(piece)).collect();
        }
        let shown = self.peers.get(&key)?.shown.as_ref()?;
        let picker = &self.picker;
        self.super_seed.returned.retain(|&piece| picker.only_seeds_have(piece));
        let returned = self.super_seed.returned.iter().position(|&piece| !shown.told.contains(piece));
        if let Some(at) = returned {
            return Some(self.super_seed.returned.swap_remove(at));
        }
        let is_new =
            |piece: PieceIndex| picker.only_seeds_have(piece) && !self.super_seed.chosen.contains(&piece);
        let next = (self.super_seed.next..self.have.len()).find(|&piece| is_new(PieceIndex(piece)));
        self.super_seed.next = next.map_or(self.have.len(), |piece| piece + 1);
        next.map(PieceIndex)
    }

    /// A piece that others have and that this leecher lacks and has not been told of.
    fn common_piece(&self, key: PeerKey) -> Option<PieceIndex> {
        let peer = self.peers.get(&key)?;
        let shown = peer.shown.as_ref()?;
        let from = (key.0 as u32).wrapping_mul(0x9e37_79b9) % self.have.len();
        let all = (from..self.have.len()).chain(0..from).map(PieceIndex).take(MAX_LOOKED_AT as usize);
        let is_common = |piece: &PieceIndex| {
            !self.picker.only_seeds_have(*piece)
                && !peer.pieces.contains(*piece)
                && !shown.told.contains(*piece)
        };
        all.into_iter().find(is_common)
    }

    /// A leecher asks for a block of a piece. What it chose itself need not be told to others.
    pub(super) fn note_request(&mut self, key: PeerKey, piece: PieceIndex) {
        let Some(shown) = self.peers.get_mut(&key).and_then(|peer| peer.shown.as_mut()) else {
            if self.hides() {
                self.super_seed.chosen.insert(piece);
            }
            return;
        };
        shown.waited = false;
        let due = shown.due.iter_mut().find(|(due, _)| *due == piece);
        due.into_iter().for_each(|(_, asked)| *asked = true);
    }

    /// A leecher has all that it was told of, though we may not have heard of all.
    pub(super) fn note_satisfied(&mut self, key: PeerKey) {
        let shown = self.peers.get_mut(&key).and_then(|peer| peer.shown.as_mut());
        shown.into_iter().for_each(|shown| shown.due.clear());
    }

    /// A peer has got a piece.
    pub(super) fn note_spread(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        if !self.hides() {
            return;
        }
        let shown = self.peers.get_mut(&key).and_then(|peer| peer.shown.as_mut());
        shown.into_iter().for_each(|shown| shown.due.retain(|&(due, _)| due != piece));
        let has_all = self.peers.get(&key).is_some_and(Peer::is_seed);
        if has_all || self.super_seed.all_told && self.is_spread() {
            return self.show_everything(now);
        }
        self.show_more(now, key, false);
    }

    /// A peer is gone: others may be told of what it does not have, as far as is known.
    pub(super) fn return_shown(&mut self, shown: &mut Shown) {
        self.super_seed.returned.extend(shown.due.drain(..).map(|(piece, _)| piece));
        self.count_out(1);
    }

    /// A leecher fetches nothing from us now: others may fetch what it was told of and has not asked for, or will not get of what it has asked for;
    /// all of it, once there is nothing else to tell of.
    pub(super) fn show_to_others(&mut self, now: Instant, key: PeerKey, dropped: &[Block]) {
        let Some(shown) = self.peers.get_mut(&key).and_then(|peer| peer.shown.as_mut()) else { return };
        for (piece, asked) in shown.due.drain(..) {
            if !asked || self.super_seed.all_told || dropped.iter().any(|block| block.piece == piece) {
                self.super_seed.returned.push(piece);
            }
        }
        self.show_more(now, key, true);
    }

    /// Somebody has come who has everything, or our uplink is idle though there is somebody who lacks something: nothing is hidden any more.
    pub(super) fn review_super_seeding(&mut self, now: Instant) {
        if !self.hides() {
            return;
        }
        // Who asks for nothing has what it was told of under way from others.
        let waits = |peer: &&Peer| peer.serving == 0 && peer.upload_queue.is_empty();
        let waiting = self.served.iter().filter_map(|key| self.peers.get(key)).filter(waits);
        for key in waiting.map(|peer| peer.key).collect::<Vec<_>>() {
            let shown = self.peers.get_mut(&key).and_then(|peer| peer.shown.as_mut());
            if shown.is_some_and(|shown| std::mem::replace(&mut shown.waited, true)) {
                self.show_to_others(now, key, &[]);
            }
        }
        let choked = self.peers.values().filter(|peer| peer.am_choking && peer.shown.is_some());
        for key in choked.map(|peer| peer.key).collect::<Vec<_>>() {
            self.show_more(now, key, false);
        }
        let busy = self.served.iter().filter_map(|key| self.peers.get(key)).any(|peer| peer.serving > 0);
        let lacks = |peer: &Peer| peer.shown.is_some() && !peer.pieces.is_full();
        // A torrent without upload slots waits for those of others.
        let waits_for_slots = self.config.upload_slots == 0 && !self.waiting.is_empty();
        let idle_since = match busy || waits_for_slots || !self.peers.values().any(lacks) {
            true => None,
            false => Some(self.super_seed.idle_since.unwrap_or(now)),
        };
        self.super_seed.idle_since = idle_since;
        let is_idle = idle_since.is_some_and(|since| now.saturating_duration_since(since) >= MAX_IDLE);
        let alone = self.peers.values().filter(|peer| !peer.wants_nothing()).count() == 1;
        if is_idle || alone || self.picker.has_seeds() {
            return self.show_everything(now);
        }
        let mut strange = Vec::new();
        for peer in self.peers.values_mut() {
            if peer.has_no_use_for_shown(now) {
                peer.shown = None;
                strange.push(peer.key);
            }
        }
        self.count_out(strange.len());
        for key in strange {
            self.send(now, key, Message::Bitfield(self.have.to_wire()));
        }
    }

    /// All know that we have everything. A bitfield that is not the first message is against BEP 3, but taken by all clients, as aria2 sends it
    /// instead of many haves.
    pub(super) fn show_everything(&mut self, now: Instant) {
        if !self.hides() {
            return;
        }
        self.super_seed = SuperSeed::default();
        let hidden = self.peers.values_mut().filter_map(|peer| peer.shown.take().map(|_| peer.key));
        for key in hidden.collect::<Vec<_>>() {
            self.send(now, key, Message::Bitfield(self.have.to_wire()));
        }
    }
}
