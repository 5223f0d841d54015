//! Memory for the data of pieces that are not written yet, shared by all torrents of the process.
//!
//! A torrent takes room for a whole piece before it asks for its first block, and gives it back when the piece is written or
//! given up: so what waits in memory is bounded however many torrents there are and however long their pieces. While there
//! is no room, torrents wait in a row, and each that comes first begins one piece.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use crate::ids::TorrentId;

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

/// What all torrents may hold together.
#[derive(Clone, Debug, Default)]
pub struct Budget(Rc<RefCell<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    held: u64,
    holders: BTreeSet<TorrentId>,
    /// Torrents that were refused room, the first in the row first, and how much they wanted.
    waiting: VecDeque<(TorrentId, u64)>,
    /// The same as a set.
    in_row: BTreeSet<TorrentId>,
    /// The first in the row has been told that it is its turn.
    told: bool,
    /// Somebody waits, and nobody did when that was last asked.
    news: bool,
}

impl Ledger {
    fn has_room(&self, bytes: u64) -> bool {
        self.held == 0 || self.held + bytes <= MAX_IN_MEMORY
    }

    fn leave_row(&mut self, torrent: TorrentId) {
        if self.waiting.front().is_some_and(|&(first, _)| first == torrent) {
            self.told = false;
        }
        if self.in_row.remove(&torrent) {
            self.waiting.retain(|&(other, _)| other != torrent);
        }
    }

    fn wait(&mut self, torrent: TorrentId, bytes: u64) {
        if self.in_row.insert(torrent) {
            self.news |= self.waiting.is_empty();
            return self.waiting.push_back((torrent, bytes));
        }
        let is_first = self.waiting.front().is_some_and(|&(first, _)| first == torrent);
        self.told &= !is_first;
        for (_, wanted) in self.waiting.iter_mut().filter(|(other, _)| *other == torrent) {
            *wanted = bytes;
        }
    }
}

impl Budget {
    /// The share of a torrent: it holds nothing yet.
    pub fn share(&self, torrent: TorrentId) -> Share {
        Share { budget: self.clone(), torrent, held: 0 }
    }

    /// The torrent that may begin a piece now, having waited; it is told once, and goes to the end of the row if it has no
    /// use for it until this is asked again.
    pub fn next_turn(&self) -> Option<TorrentId> {
        let mut ledger = self.0.borrow_mut();
        if std::mem::take(&mut ledger.told) {
            let passed_by = ledger.waiting.pop_front();
            passed_by.map(|(torrent, _)| ledger.in_row.remove(&torrent));
        }
        let &(torrent, bytes) = ledger.waiting.front()?;
        ledger.told = ledger.has_room(bytes);
        ledger.told.then_some(torrent)
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
    held: u64,
}

impl Share {
    /// Takes room for a piece of so many bytes. False if there is none, or others have waited longer: the torrent waits
    /// then, and [`Budget::next_turn`] names it.
    pub fn take(&mut self, bytes: u64) -> bool {
        let mut ledger = self.budget.0.borrow_mut();
        let is_first = ledger.waiting.front().is_none_or(|&(first, _)| first == self.torrent);
        if !is_first || !ledger.has_room(bytes) {
            ledger.wait(self.torrent, bytes);
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
        ledger.holders.insert(self.torrent);
        self.held += bytes;
    }

    /// Gives back room for so many bytes.
    pub fn give_back(&mut self, bytes: u64) {
        let mut ledger = self.budget.0.borrow_mut();
        ledger.held -= bytes;
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

    /// Whether another torrent waits for room.
    pub fn is_waited_for(&self) -> bool {
        let ledger = self.budget.0.borrow();
        ledger.in_row.len() > usize::from(ledger.in_row.contains(&self.torrent))
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
        std::array::from_fn(|_| budget.share(counter.torrent()))
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
}
