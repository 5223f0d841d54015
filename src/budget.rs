//! Memory for the data of pieces that are not written yet, shared by all torrents of the process.
//!
//! A torrent takes room for a whole piece before it asks for its first block, and gives it back when the piece is written or
//! given up: so what waits in memory is bounded however many torrents there are and however long their pieces. While there
//! is no room, torrents wait in a row, and each that comes first begins one piece. A disk that stands still may hold all there is; so the
//! torrents of each lane of disks are sure of a part whatever others hold.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::ids::{DiskLane, TorrentId};

/// Pieces up to this length count for half. A fast peer, or one far away, is asked for several of them at a time, in order: while the data of one
/// come, the others have none yet. (Counted whole, they slow down a download over 100 ms by 7 %.)
const SHORT: u64 = 2 << 20;

/// What a piece of so many bytes counts for.
pub fn charge(piece: u64) -> u64 {
    if piece <= SHORT { piece / 2 } else { piece }
}

/// Bytes of pieces that are begun and not written, all torrents together; a piece that is longer is begun when nothing else
/// is.
pub const MAX_IN_MEMORY: u64 = 32 << 20;

/// Of these, the torrents of a lane may hold so many when others hold all, and one piece in any case: so much more may be held for each further lane.
const SURE: u64 = MAX_IN_MEMORY / 4;

/// What all torrents may hold together.
#[derive(Clone, Debug, Default)]
pub struct Budget(Rc<RefCell<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    held: u64,
    holders: BTreeSet<TorrentId>,
    /// Torrents that were refused room, the first in the row first.
    waiting: VecDeque<Waiting>,
    /// The same as a set.
    in_row: BTreeSet<TorrentId>,
    /// The same by lane.
    lanes: BTreeMap<DiskLane, LaneLedger>,
    /// The torrent that has been told that it is its turn.
    told: Option<TorrentId>,
    /// Somebody waits, and nobody of the lane did when that was last asked.
    news: bool,
}

/// A torrent that was refused room, and how much it wanted.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    torrent: TorrentId,
    lane: DiskLane,
    bytes: u64,
}

#[derive(Debug, Default)]
struct LaneLedger {
    held: u64,
    waiting: usize,
}

impl Ledger {
    /// What is left of the common part goes to the first of all, what a lane is sure of to its first.
    fn has_room(&self, wanted: Waiting) -> bool {
        let Waiting { torrent, lane, bytes } = wanted;
        let mut before = self.waiting.iter().take_while(|other| other.torrent != torrent);
        let held = self.lanes.get(&lane).map_or(0, |lane| lane.held);
        match before.next() {
            None if self.held + bytes <= MAX_IN_MEMORY => true,
            first => {
                let is_first_of_lane = first.into_iter().chain(before).all(|other| other.lane != lane);
                is_first_of_lane && (held == 0 || held + bytes <= SURE)
            }
        }
    }

    fn leave_row(&mut self, torrent: TorrentId) {
        self.told = self.told.filter(|&told| told != torrent);
        if self.in_row.remove(&torrent) {
            let place = self.waiting.iter().position(|other| other.torrent == torrent);
            let gone = place.and_then(|place| self.waiting.remove(place));
            gone.iter().for_each(|gone| self.lane(gone.lane).waiting -= 1);
        }
    }

    fn wait(&mut self, wanted: Waiting) {
        if self.in_row.insert(wanted.torrent) {
            let lane = self.lane(wanted.lane);
            lane.waiting += 1;
            self.news |= lane.waiting == 1;
            return self.waiting.push_back(wanted);
        }
        self.told = self.told.filter(|&told| told != wanted.torrent);
        self.waiting
            .iter_mut()
            .filter(|other| other.torrent == wanted.torrent)
            .for_each(|other| *other = wanted);
    }

    fn lane(&mut self, lane: DiskLane) -> &mut LaneLedger {
        self.lanes.entry(lane).or_default()
    }
}

impl Budget {
    /// The share of a torrent whose disk is of this lane: it holds nothing yet.
    pub fn share(&self, torrent: TorrentId, lane: DiskLane) -> Share {
        Share { budget: self.clone(), torrent, lane, held: 0 }
    }

    /// The torrent that may begin a piece now, having waited; it is told once, and goes to the end of the row if it has no
    /// use for it until this is asked again.
    pub fn next_turn(&self) -> Option<TorrentId> {
        let mut ledger = self.0.borrow_mut();
        if let Some(passed_by) = ledger.told {
            ledger.leave_row(passed_by);
        }
        // Only the first of each lane may have room.
        let (mut lanes, count) =
            (BTreeSet::new(), ledger.lanes.values().filter(|lane| lane.waiting > 0).count());
        let firsts = ledger.waiting.iter().filter(|waiting| lanes.insert(waiting.lane));
        let next =
            firsts.take(count).find(|waiting| ledger.has_room(**waiting)).map(|waiting| waiting.torrent);
        ledger.told = next;
        next
    }

    /// If torrents have begun to wait since the last call: those that hold something, and may have to give it up.
    pub fn asked_to_give_up(&self) -> Vec<TorrentId> {
        let mut ledger = self.0.borrow_mut();
        let holders = ledger.holders.iter().copied().collect();
        if std::mem::take(&mut ledger.news) { holders } else { Vec::new() }
    }
}

/// What one torrent holds; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    torrent: TorrentId,
    lane: DiskLane,
    held: u64,
}

impl Share {
    /// Takes room for a piece of so many bytes. False if there is none, or others have waited longer: the torrent waits
    /// then, and [`Budget::next_turn`] names it.
    pub fn take(&mut self, bytes: u64) -> bool {
        let mut ledger = self.budget.0.borrow_mut();
        let wanted = Waiting { torrent: self.torrent, lane: self.lane, bytes };
        if !ledger.has_room(wanted) {
            ledger.wait(wanted);
            return false;
        }
        ledger.leave_row(self.torrent);
        drop(ledger);
        self.take_anyway(bytes);
        true
    }

    /// Takes room for what is in memory already.
    pub fn take_anyway(&mut self, bytes: u64) {
        let mut ledger = self.budget.0.borrow_mut();
        ledger.held += bytes;
        ledger.lane(self.lane).held += bytes;
        ledger.holders.insert(self.torrent);
        self.held += bytes;
    }

    /// Gives back room for so many bytes.
    pub fn give_back(&mut self, bytes: u64) {
        let mut ledger = self.budget.0.borrow_mut();
        ledger.held -= bytes;
        ledger.lane(self.lane).held -= bytes;
        self.held -= bytes;
        if self.held == 0 {
            ledger.holders.remove(&self.torrent);
        }
    }

    /// Bytes that it holds.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Whether this torrent waits for room.
    pub fn waits(&self) -> bool {
        self.budget.0.borrow().in_row.contains(&self.torrent)
    }

    /// Whether another torrent waits for room that this one may have taken: one of its lane, for others are sure of theirs.
    pub fn is_waited_for(&self) -> bool {
        let ledger = self.budget.0.borrow();
        let waiting = ledger.lanes.get(&self.lane).map_or(0, |lane| lane.waiting);
        waiting > usize::from(ledger.in_row.contains(&self.torrent))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.held);
        self.budget.0.borrow_mut().leave_row(self.torrent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    const MIB: u64 = 1 << 20;

    fn shares<const N: usize>(budget: &Budget) -> [Share; N] {
        let mut counter = Counter::default();
        std::array::from_fn(|_| budget.share(counter.torrent(), DiskLane::default()))
    }

    #[test]
    fn nobody_gets_more_than_there_is_and_who_waits_longest_comes_first() {
        let budget = Budget::default();
        let [mut a, mut b, mut c] = shares(&budget);
        for _ in 0..4 {
            assert!(a.take(8 * MIB));
        }
        assert!(!b.take(8 * MIB));
        assert!(!c.take(MIB));
        assert_eq!(budget.next_turn(), None);
        a.give_back(8 * MIB);
        assert!(!a.take(8 * MIB), "others wait");
        assert!(!c.take(MIB), "b has waited longer");
        assert_eq!(budget.next_turn(), Some(b.torrent));
        assert!(b.take(8 * MIB));
        a.give_back(8 * MIB);
        assert_eq!(budget.next_turn(), Some(c.torrent));
        // It has no use for it any more.
        assert_eq!(budget.next_turn(), Some(a.torrent));
        assert_eq!(budget.next_turn(), None, "each has its turn once");
    }

    #[test]
    fn a_piece_longer_than_all_there_is_is_begun_alone() {
        let budget = Budget::default();
        let [mut a, mut b] = shares(&budget);
        assert!(a.take(256 * MIB));
        assert!(!b.take(1));
        assert_eq!(budget.asked_to_give_up(), [a.torrent]);
        assert_eq!(budget.asked_to_give_up(), []);
        assert!(a.is_waited_for() && b.waits() && !b.is_waited_for());
        drop(a);
        assert_eq!(budget.next_turn(), Some(b.torrent));
        assert!(b.take(256 * MIB));
    }

    #[test]
    fn who_is_gone_holds_nothing_and_does_not_wait() {
        let budget = Budget::default();
        let [mut a, mut b, mut c] = shares(&budget);
        a.take_anyway(50 * MIB);
        assert!(!b.take(MIB) && !c.take(MIB));
        drop(b);
        a.give_back(25 * MIB);
        assert_eq!(budget.next_turn(), Some(c.torrent));
        drop(a);
        assert!(c.take(32 * MIB));
        assert_eq!(c.held(), 32 * MIB);
    }

    #[test]
    fn a_disk_that_holds_all_there_is_leaves_those_on_others_a_part_of_their_own() {
        let budget = Budget::default();
        let mut counter = Counter::default();
        let mut share = |lane| budget.share(counter.torrent(), DiskLane(lane));
        let (mut hung, mut also_hung, mut other, mut its_like) = (share(0), share(0), share(1), share(1));
        (0..32).for_each(|_| assert!(hung.take(MIB)));
        assert!(!hung.take(MIB) && !also_hung.take(MIB));
        (0..8).for_each(|_| assert!(other.take(MIB), "whoever else waits"));
        assert!(!other.take(MIB) && !its_like.take(MIB));
        assert!(other.is_waited_for() && hung.is_waited_for());
        assert_eq!(budget.next_turn(), None);
        other.give_back(MIB);
        assert!(!its_like.take(MIB), "the other one has waited longer");
        assert_eq!(budget.next_turn(), Some(other.torrent));
        assert!(other.take(MIB));
        other.give_back(MIB);
        assert_eq!(budget.next_turn(), Some(its_like.torrent));
        assert!(its_like.take(MIB) && !other.waits() && !other.is_waited_for());
        // Where nobody stands still, what is left of the rest goes to whoever has waited longest.
        assert!(!other.take(MIB));
        hung.give_back(10 * MIB);
        assert_eq!(budget.next_turn(), Some(hung.torrent));
        assert!(!other.take(MIB));
        assert!(hung.take(MIB));
        assert_eq!(budget.next_turn(), Some(also_hung.torrent));
        assert_eq!(budget.next_turn(), Some(other.torrent), "the one before it has no use for its turn");
        assert!(other.take(MIB));
    }

    #[test]
    fn one_piece_on_each_disk_may_be_of_any_length() {
        let budget = Budget::default();
        let mut counter = Counter::default();
        let [mut long, mut other] = [0, 1].map(|lane| budget.share(counter.torrent(), DiskLane(lane)));
        assert!(long.take(64 * MIB));
        assert!(other.take(16 * MIB));
        assert!(!other.take(MIB) && !long.take(MIB));
        other.give_back(16 * MIB);
        assert_eq!(budget.next_turn(), Some(other.torrent));
    }
}
