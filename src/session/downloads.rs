//! Whose turn it is to download. Pure.
//!
//! So many torrents download at the same time; the others wait, and begin in the order in which they were added. A torrent that gets
//! nothing for some time keeps its turn, for somebody may come who has its data, but it does not count, so that the next begins. Nobody
//! who has begun is sent back: if such a torrent gets data again, there are more than so many for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ids::TorrentId;

/// A torrent that has got no data for so long does not count.
pub(super) const QUIET: Duration = Duration::from_secs(60);

/// For so long a place is kept for a torrent that was added and is still being checked: most checks of what is not there yet, or what resume
/// data vouch for, are over by then, in any order.
const CHECKED_SOON: Duration = Duration::from_secs(1);

/// The torrents that download, and those that wait for it. Holds at most one entry for each torrent of the session.
#[derive(Debug)]
pub(super) struct DownloadQueue {
    /// Torrents that may count at the same time.
    max: usize,
    /// Those that wait: the first added comes first.
    waiting: BTreeSet<TorrentId>,
    /// Those that count, and until when if no data come.
    counting: BTreeMap<TorrentId, Instant>,
    /// Those that are expected to ask, and until when a place is kept for each.
    expected: BTreeMap<TorrentId, Instant>,
}

impl DownloadQueue {
    /// Nobody downloads or waits; `max` may download at the same time, one at least.
    pub(super) fn new(max: usize) -> DownloadQueue {
        DownloadQueue {
            max: max.max(1),
            waiting: BTreeSet::new(),
            counting: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }

    /// A torrent was added that will ask once it has been checked: for a while a place is kept for it, against those that were added later.
    pub(super) fn expect(&mut self, now: Instant, torrent: TorrentId) {
        self.expected.insert(torrent, now + CHECKED_SOON);
    }

    /// A torrent wants to download. True if it is its turn at once; else it waits, and [`DownloadQueue::next`] names it.
    pub(super) fn ask(&mut self, now: Instant, torrent: TorrentId) -> bool {
        self.expected.remove(&torrent);
        self.waiting.insert(torrent);
        if self.waiting.first() != Some(&torrent) || !self.has_room(now, torrent) {
            return false;
        }
        self.begin(now, torrent);
        true
    }

    /// The next whose turn it is; it counts from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<TorrentId> {
        let &torrent = self.waiting.first()?;
        if !self.has_room(now, torrent) {
            return None;
        }
        self.begin(now, torrent);
        Some(torrent)
    }

    /// A torrent counts until then, unless this is called again; `None`: it does not count.
    pub(super) fn set(&mut self, now: Instant, torrent: TorrentId, until: Option<Instant>) {
        match until.filter(|&until| until > now) {
            Some(until) => drop(self.counting.insert(torrent, until)),
            None => drop(self.counting.remove(&torrent)),
        }
    }

    /// A torrent does not wait any more.
    pub(super) fn leave(&mut self, torrent: TorrentId) {
        self.waiting.remove(&torrent);
        self.expected.remove(&torrent);
    }

    /// A torrent is not there any more.
    pub(super) fn forget(&mut self, torrent: TorrentId) {
        self.leave(torrent);
        self.counting.remove(&torrent);
    }

    /// Whether others than this one count.
    pub(super) fn are_others(&self, than: TorrentId) -> bool {
        self.counting.keys().any(|&torrent| torrent != than)
    }

    /// When it may be the turn of the next though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let first = self.waiting.first()?;
        self.counting.values().chain(self.expected.range(..first).map(|(_, until)| until)).copied().min()
    }

    fn begin(&mut self, now: Instant, torrent: TorrentId) {
        self.waiting.remove(&torrent);
        self.counting.insert(torrent, now + QUIET);
    }

    fn has_room(&mut self, now: Instant, torrent: TorrentId) -> bool {
        self.expected.retain(|_, until| *until > now);
        if self.counting.len() >= self.max {
            self.counting.retain(|_, until| *until > now);
        }
        self.counting.len() + self.expected.range(..torrent).count() < self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    #[test]
    fn so_many_download_and_the_others_begin_in_the_order_in_which_they_were_added() {
        let (mut queue, now, all) = (DownloadQueue::new(2), Instant::now(), Counter::torrents::<5>());
        let [a, b, c, d, e] = all;
        assert_eq!([a, b, e, d, c].map(|torrent| queue.ask(now, torrent)), [true, true, false, false, false]);
        assert_eq!(queue.next(now), None);
        queue.set(now, b, None);
        assert_eq!(queue.next(now), Some(c));
        assert_eq!(queue.next(now), None);
        queue.set(now, a, None);
        queue.set(now, c, None);
        assert_eq!([queue.next(now), queue.next(now), queue.next(now)], [Some(d), Some(e), None]);
        assert_eq!(queue.deadline(), None, "nobody waits");
    }

    #[test]
    fn who_gets_no_data_for_a_minute_does_not_count_and_who_gets_some_does() {
        let (mut queue, start, [a, b, c]) = (DownloadQueue::new(1), Instant::now(), Counter::torrents());
        assert_eq!([a, b, c].map(|torrent| queue.ask(start, torrent)), [true, false, false]);
        let data = start + Duration::from_secs(40);
        queue.set(data, a, Some(data + QUIET));
        assert_eq!(queue.deadline(), Some(data + QUIET));
        assert_eq!(queue.next(data + QUIET - Duration::from_millis(1)), None);
        assert_eq!(queue.next(data + QUIET), Some(b));
        // It has got some again: nobody is sent back, but the next has to wait for both.
        let later = data + QUIET + Duration::from_secs(1);
        queue.set(later, a, Some(later + QUIET));
        queue.set(later, b, None);
        assert_eq!(queue.next(later), None);
        queue.forget(a);
        assert_eq!(queue.next(later), Some(c));
    }

    #[test]
    fn whose_check_ends_first_does_not_matter_as_long_as_none_takes_long() {
        let (mut queue, now, [a, b, c, d]) = (DownloadQueue::new(2), Instant::now(), Counter::torrents());
        [a, b, c, d].into_iter().for_each(|torrent| queue.expect(now, torrent));
        let later = now + Duration::from_millis(100);
        assert_eq!([d, b, c].map(|torrent| queue.ask(later, torrent)), [false, true, false]);
        assert!(queue.ask(later, a));
        assert_eq!(queue.next(later), None);
        queue.set(later, b, None);
        assert_eq!(queue.next(later), Some(c));
        // One that is complete, or has failed, leaves; one whose check takes long is not waited for.
        let mut queue = DownloadQueue::new(1);
        [a, b].into_iter().for_each(|torrent| queue.expect(now, torrent));
        assert_eq!([c, d].map(|torrent| queue.ask(later, torrent)), [false, false]);
        queue.leave(a);
        assert_eq!(queue.next(later), None);
        assert_eq!(queue.deadline(), Some(now + CHECKED_SOON));
        assert_eq!(queue.next(now + CHECKED_SOON), Some(c));
        assert!(!queue.ask(now + CHECKED_SOON, b));
    }

    #[test]
    fn who_was_added_earlier_and_waits_comes_before_who_asks_now() {
        let (mut queue, now, [a, b, c]) = (DownloadQueue::new(1), Instant::now(), Counter::torrents());
        assert!(queue.ask(now, b));
        assert!(!queue.ask(now, a));
        queue.set(now, b, None);
        assert!(!queue.ask(now, c), "another waits");
        assert_eq!(queue.next(now), Some(a));
        queue.leave(c);
        queue.set(now, a, None);
        assert_eq!(queue.next(now), None);
    }
}
