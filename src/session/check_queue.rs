//! Whose turn it is to be checked, and the threads that check.
//!
//! One torrent is checked at a time, on all cores: many at once would only make the disk seek, and cost threads and buffers each.
//! So that a long check does not hold up those that need hardly any (resume data vouch for them, or nothing is there yet), a second
//! thread looks at the ones that wait, and checks those that have much less to read than the one under way.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::disk::Work;
use crate::ids::TorrentId;

/// A check runs beside another if it has at most this part of its bytes to read.
const MUCH_LESS: u64 = 8;

/// Where a check runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// In the order in which they came, on all cores.
    Main,
    /// Beside it, on one core.
    Side,
}

/// The turn of a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    /// Where its check is to run.
    pub lane: Lane,
    /// If it finds more bytes to read than this, its turn comes later.
    pub max_bytes: u64,
}

impl Turn {
    /// Threads that may hash; 0: one for each core.
    pub(super) fn threads(self) -> usize {
        match self.lane {
            Lane::Main => 0,
            Lane::Side => 1,
        }
    }
}

/// The order of the checks. Pure. Holds at most one entry for each torrent of the session.
#[derive(Debug, Default)]
pub(super) struct CheckQueue {
    /// Those that wait, by the number of their arrival.
    waiting: BTreeMap<u64, Candidate>,
    /// The number of the last arrival.
    arrivals: u64,
    main: Option<(u64, Candidate)>,
    side: Option<(u64, Candidate)>,
    /// Something has changed since it was last looked for whose turn it is, which costs those that wait.
    changed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    torrent: TorrentId,
    /// Bytes of its pieces that are to be checked, at the most.
    size: u64,
    /// Bytes that it has to read, once that is known: none vouches for them, and they are there.
    to_read: Option<u64>,
}

impl CheckQueue {
    /// A torrent is to be checked, `size` bytes at the most. If it has to wait: how many come before it.
    pub(super) fn join(&mut self, torrent: TorrentId, size: u64) -> Option<usize> {
        let before = self.waiting.len() + usize::from(self.main.is_some()) + usize::from(self.side.is_some());
        let waits = !self.waiting.is_empty() || self.main.is_some() && self.side.is_some();
        self.arrivals += 1;
        self.changed = true;
        self.waiting.insert(self.arrivals, Candidate { torrent, size, to_read: None });
        waits.then_some(before)
    }

    /// The next whose turn it is; it has it until [`CheckQueue::end`] or [`CheckQueue::postpone`].
    pub(super) fn next(&mut self) -> Option<(TorrentId, Turn)> {
        if !self.changed {
            return None;
        }
        let next = self.find_next();
        self.changed = next.is_some();
        next
    }

    fn find_next(&mut self) -> Option<(TorrentId, Turn)> {
        if self.main.is_none() {
            let (number, candidate) = self.waiting.pop_first()?;
            self.main = Some((number, candidate));
            return Some((candidate.torrent, Turn { lane: Lane::Main, max_bytes: u64::MAX }));
        }
        let (None, Some((_, main))) = (self.side, self.main) else { return None };
        let max_bytes = main.to_read.unwrap_or(main.size) / MUCH_LESS;
        let mut fitting =
            self.waiting.iter().filter(|(_, candidate)| candidate.to_read.unwrap_or(0) <= max_bytes);
        let (&number, &candidate) = fitting.next()?;
        self.waiting.remove(&number);
        self.side = Some((number, candidate));
        Some((candidate.torrent, Turn { lane: Lane::Side, max_bytes }))
    }

    /// A turn is over.
    pub(super) fn end(&mut self, lane: Lane) {
        *self.lane(lane) = None;
        self.changed = true;
    }

    /// A turn is over, and the torrent has that many bytes to read: it waits on, where it stood. Gives how many come before it.
    pub(super) fn postpone(&mut self, lane: Lane, to_read: u64) -> usize {
        let Some((number, candidate)) = self.lane(lane).take() else { return 0 };
        self.changed = true;
        self.waiting.insert(number, Candidate { to_read: Some(to_read), ..candidate });
        self.waiting.range(..number).count() + usize::from(self.main.is_some())
    }

    /// A torrent does not wait any more.
    pub(super) fn leave(&mut self, torrent: TorrentId) {
        self.waiting.retain(|_, candidate| candidate.torrent != torrent);
    }

    fn lane(&mut self, lane: Lane) -> &mut Option<(u64, Candidate)> {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Side => &mut self.side,
        }
    }
}

/// The threads that check, one for each lane. They end when this is dropped and their check is done.
#[derive(Debug)]
pub(super) struct CheckThreads {
    main: SyncSender<Work>,
    side: SyncSender<Work>,
}

impl CheckThreads {
    /// Starts them.
    pub(super) fn start() -> io::Result<CheckThreads> {
        let start = || {
            // The queue gives a lane no check before the last one has ended.
            let (work, works) = sync_channel::<Work>(1);
            let run = move || works.iter().for_each(|work| work());
            std::thread::Builder::new().name("btget-check".into()).spawn(run).map(|_| work)
        };
        Ok(CheckThreads { main: start()?, side: start()? })
    }

    /// Threads that take their work from these channels.
    #[cfg(test)]
    pub(super) fn of(main: SyncSender<Work>, side: SyncSender<Work>) -> CheckThreads {
        CheckThreads { main, side }
    }

    /// Has a check run. Without its thread, the work is dropped.
    pub(super) fn run(&self, lane: Lane, work: Work) {
        let thread = match lane {
            Lane::Main => &self.main,
            Lane::Side => &self.side,
        };
        drop(thread.try_send(work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    const GIB: u64 = 1 << 30;

    #[test]
    fn checks_come_one_after_the_other_in_the_order_of_their_arrival() {
        let mut queue = CheckQueue::default();
        let all: [TorrentId; 5] = Counter::torrents();
        let mut ahead = Vec::new();
        let mut order = Vec::new();
        for torrent in all {
            ahead.push(queue.join(torrent, GIB));
            while let Some((torrent, turn)) = queue.next() {
                match turn.lane {
                    Lane::Main => order.push(torrent),
                    Lane::Side => assert!(queue.postpone(Lane::Side, GIB) > 0),
                }
            }
        }
        assert_eq!(ahead, [None, None, Some(2), Some(3), Some(4)]);
        for _ in 1..all.len() {
            queue.end(Lane::Main);
            let (torrent, turn) = queue.next().unwrap();
            assert_eq!((turn.lane, turn.threads()), (Lane::Main, 0));
            order.push(torrent);
            assert_eq!(
                queue.next(),
                None,
                "as many bytes as the one under way are too many to be read beside it"
            );
        }
        assert_eq!(order, all);
    }

    #[test]
    fn what_is_small_does_not_wait_for_what_is_large() {
        let mut queue = CheckQueue::default();
        let [large, other, small, vouched] = Counter::torrents();
        for torrent in [large, other, small, vouched] {
            queue.join(torrent, 800 * GIB);
        }
        assert_eq!(queue.next(), Some((large, Turn { lane: Lane::Main, max_bytes: u64::MAX })));
        let max_bytes = 100 * GIB;
        assert_eq!(queue.next(), Some((other, Turn { lane: Lane::Side, max_bytes })));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.postpone(Lane::Side, 700 * GIB), 1);
        assert_eq!(queue.next(), Some((small, Turn { lane: Lane::Side, max_bytes })));
        assert_eq!(queue.postpone(Lane::Side, 100 * GIB), 2, "told again, it fits");
        assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(small));
        queue.end(Lane::Side);
        assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(vouched));
        queue.end(Lane::Main);
        assert_eq!(queue.next().map(|(torrent, turn)| (torrent, turn.lane)), Some((other, Lane::Main)));
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let mut queue = CheckQueue::default();
        let [first, second, third] = Counter::torrents();
        for torrent in [first, second, third] {
            queue.join(torrent, GIB);
        }
        assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(first));
        queue.leave(second);
        queue.end(Lane::Main);
        assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(third));
        queue.leave(third);
        assert_eq!(queue.next(), None);
        queue.end(Lane::Main);
        assert_eq!(queue.next(), None);
    }
}
