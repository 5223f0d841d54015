//! Whose turn it is to be checked, and the threads that check.
//!
//! On each device one torrent is checked at a time, on all cores: many at once would only make the disk seek, and cost threads and
//! buffers each. Those on other devices do not wait for it. So that a long check does not hold up those that need hardly any (resume data
//! vouch for them, or nothing is there yet), one more thread looks at the ones that wait, and checks those that have much less to read
//! than the one under way, which stands still meanwhile if the device seeks.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use crate::disk::Work;
use crate::ids::TorrentId;
use crate::storage::Device;

/// A check runs beside another if it has at most this part of its bytes to read.
const MUCH_LESS: u64 = 8;

/// Devices on which torrents are checked at a time; each check has up to 24 MiB of buffers.
const MAX_LINES: usize = 4;

/// Where a check runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// In the order in which they came, on all cores: one of the device's, on this of the lines.
    Main(Line),
    /// Beside such a one, on one core.
    Side,
}

/// One of [`MAX_LINES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line(usize);

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
            Lane::Main(_) => 0,
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
    /// One check of a device each.
    lines: [Option<(u64, Candidate)>; MAX_LINES],
    side: Option<(u64, Candidate)>,
    /// That one has seen what there is to read, and reads it.
    side_reads: bool,
    /// Something has changed since it was last looked for whose turn it is, which costs those that wait.
    changed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    torrent: TorrentId,
    /// Where its files are; those of which it is not known are taken for being on one.
    device: Option<Device>,
    /// Bytes of its pieces that are to be checked, at the most.
    size: u64,
    /// Bytes that it has to read, once that is known: none vouches for them, and they are there.
    to_read: Option<u64>,
}

impl CheckQueue {
    /// A torrent is to be checked, `size` bytes on this device at the most. If it has to wait: how many come before it.
    pub(super) fn join(&mut self, torrent: TorrentId, device: Option<Device>, size: u64) -> Option<usize> {
        let waiting = self.waiting.values().filter(|candidate| candidate.device == device).count();
        let under_way = self.main_of(device).is_some();
        let before = waiting + usize::from(under_way) + usize::from(self.side_is_on(device));
        let may_begin = match under_way {
            true => self.side.is_none(),
            false => self.lines.iter().any(Option::is_none),
        };
        self.arrivals += 1;
        self.changed = true;
        self.waiting.insert(self.arrivals, Candidate { torrent, device, size, to_read: None });
        (waiting > 0 || !may_begin).then_some(before)
    }

    /// The next whose turn it is; it has it until [`CheckQueue::end`] or [`CheckQueue::postpone`].
    pub(super) fn next(&mut self) -> Option<(TorrentId, Turn)> {
        if !self.changed {
            return None;
        }
        let next = self.begin_main().or_else(|| self.begin_side());
        self.changed = next.is_some();
        next
    }

    /// The first of those on whose device nothing is under way.
    fn begin_main(&mut self) -> Option<(TorrentId, Turn)> {
        let line = self.lines.iter().position(Option::is_none)?;
        let may_begin = |candidate: &Candidate| {
            let device = candidate.device;
            self.main_of(device).is_none() && !(self.side_reads && seeks(device) && self.side_is_on(device))
        };
        let (&number, &candidate) = self.waiting.iter().find(|(_, candidate)| may_begin(candidate))?;
        self.waiting.remove(&number);
        self.lines[line] = Some((number, candidate));
        Some((candidate.torrent, Turn { lane: Lane::Main(Line(line)), max_bytes: u64::MAX }))
    }

    /// The first that has much less to read than the one that is under way on its device.
    fn begin_side(&mut self) -> Option<(TorrentId, Turn)> {
        if self.side.is_some() {
            return None;
        }
        let fitting = |(&number, &candidate): (&u64, &Candidate)| {
            let main = self.main_of(candidate.device)?;
            let max_bytes = main.to_read.unwrap_or(main.size) / MUCH_LESS;
            (candidate.to_read.unwrap_or(0) <= max_bytes).then_some((number, candidate, max_bytes))
        };
        let (number, candidate, max_bytes) = self.waiting.iter().find_map(fitting)?;
        self.waiting.remove(&number);
        (self.side, self.side_reads) = (Some((number, candidate)), false);
        Some((candidate.torrent, Turn { lane: Lane::Side, max_bytes }))
    }

    /// What is under way on a device.
    fn main_of(&self, device: Option<Device>) -> Option<Candidate> {
        let mut under_way = self.lines.iter().flatten();
        under_way.find(|(_, candidate)| candidate.device == device).map(|&(_, candidate)| candidate)
    }

    fn side_is_on(&self, device: Option<Device>) -> bool {
        self.side.is_some_and(|(_, candidate)| candidate.device == device)
    }

    /// A torrent's check has seen what there is to read, and reads it.
    pub(super) fn begun(&mut self, torrent: TorrentId) {
        self.side_reads |= self.side.is_some_and(|(_, candidate)| candidate.torrent == torrent);
    }

    /// Whose check has to stand still, because another one reads from the same device, which seeks.
    pub(super) fn held(&self) -> Option<TorrentId> {
        let device = self.side.filter(|_| self.side_reads)?.1.device;
        self.main_of(device).filter(|_| seeks(device)).map(|main| main.torrent)
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
        let before = self.waiting.range(..number).filter(|(_, other)| other.device == candidate.device);
        before.count() + usize::from(self.main_of(candidate.device).is_some())
    }

    /// A torrent does not wait any more.
    pub(super) fn leave(&mut self, torrent: TorrentId) {
        self.waiting.retain(|_, candidate| candidate.torrent != torrent);
    }

    fn lane(&mut self, lane: Lane) -> &mut Option<(u64, Candidate)> {
        match lane {
            Lane::Main(Line(line)) => &mut self.lines[line],
            Lane::Side => &mut self.side,
        }
    }
}

/// Also of one that is not known.
fn seeks(device: Option<Device>) -> bool {
    device.is_none_or(|device| device.seeks)
}

/// The threads that check, one for each lane; those for further devices once they are needed. They end when this is dropped and their check is done.
#[derive(Debug)]
pub(super) struct CheckThreads {
    lines: [Option<SyncSender<Work>>; MAX_LINES],
    side: Option<SyncSender<Work>>,
}

impl CheckThreads {
    /// Starts those that every session needs.
    pub(super) fn start() -> io::Result<CheckThreads> {
        let mut lines = [const { None }; MAX_LINES];
        lines[0] = Some(start_thread()?);
        Ok(CheckThreads { lines, side: Some(start_thread()?) })
    }

    /// Threads that take their work from these channels.
    #[cfg(test)]
    pub(super) fn of(main: SyncSender<Work>, side: SyncSender<Work>) -> CheckThreads {
        let mut lines = [const { None }; MAX_LINES];
        lines[0] = Some(main);
        CheckThreads { lines, side: Some(side) }
    }

    /// Has a check run: by a new thread, if a check before it has brought down the lane's; if there is none to be had, by the first once that has done
    /// its own.
    pub(super) fn run(&mut self, lane: Lane, mut work: Work) {
        let thread = match lane {
            Lane::Main(Line(line)) => &mut self.lines[line],
            Lane::Side => &mut self.side,
        };
        for _ in 0..2 {
            if thread.is_none() {
                *thread = start_thread().ok();
            }
            let Some(running) = thread else { break };
            match running.try_send(work) {
                Ok(()) => return,
                Err(TrySendError::Disconnected(back)) => (*thread, work) = (None, back),
                Err(TrySendError::Full(back)) => {
                    work = back;
                    break;
                }
            }
        }
        if let Some(first) = &self.lines[0] {
            drop(first.try_send(work));
        }
    }
}

fn start_thread() -> io::Result<SyncSender<Work>> {
    // The queue gives a lane no check before the last one has ended.
    let (work, works) = sync_channel::<Work>(1);
    let run = move || works.iter().for_each(|work| work());
    std::thread::Builder::new().name("btget-check".into()).spawn(run).map(|_| work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    const GIB: u64 = 1 << 30;
    const MAIN: Lane = Lane::Main(Line(0));
    const DISK: Option<Device> = Some(Device { number: 8, seeks: false });

    #[test]
    fn a_check_that_panics_brings_down_no_other() {
        let mut threads = CheckThreads::start().unwrap();
        for lane in [MAIN, Lane::Main(Line(2)), Lane::Side] {
            let (told, hears) = sync_channel::<()>(1);
            let witness = told.clone();
            threads.run(
                lane,
                Box::new(move || {
                    let _witness = witness;
                    panic!("a check of this test");
                }),
            );
            drop(told);
            assert!(hears.recv().is_err(), "it is over, without a word");
            // Its thread may not have ended yet.
            let (told, hears) = sync_channel(1);
            let begin = std::time::Instant::now();
            while hears.try_recv().is_err() && begin.elapsed().as_secs() < 10 {
                let told = told.clone();
                threads.run(lane, Box::new(move || _ = told.try_send(())));
                std::thread::yield_now();
            }
            assert!(begin.elapsed().as_secs() < 10, "{lane:?}");
        }
    }

    #[test]
    fn checks_come_one_after_the_other_in_the_order_of_their_arrival() {
        let mut queue = CheckQueue::default();
        let all: [TorrentId; 5] = Counter::torrents();
        let mut ahead = Vec::new();
        let mut order = Vec::new();
        for torrent in all {
            ahead.push(queue.join(torrent, DISK, GIB));
            while let Some((torrent, turn)) = queue.next() {
                match turn.lane {
                    Lane::Main(_) => order.push(torrent),
                    Lane::Side => assert!(queue.postpone(Lane::Side, GIB) > 0),
                }
            }
        }
        assert_eq!(ahead, [None, None, Some(2), Some(3), Some(4)]);
        for _ in 1..all.len() {
            queue.end(MAIN);
            let (torrent, turn) = queue.next().unwrap();
            assert_eq!((turn.lane, turn.threads()), (MAIN, 0));
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
            queue.join(torrent, DISK, 800 * GIB);
        }
        assert_eq!(queue.next(), Some((large, Turn { lane: MAIN, max_bytes: u64::MAX })));
        let max_bytes = 100 * GIB;
        assert_eq!(queue.next(), Some((other, Turn { lane: Lane::Side, max_bytes })));
        assert_eq!(queue.next(), None);
        assert_eq!(queue.postpone(Lane::Side, 700 * GIB), 1);
        assert_eq!(queue.next(), Some((small, Turn { lane: Lane::Side, max_bytes })));
        assert_eq!(queue.postpone(Lane::Side, 100 * GIB), 2, "told again, it fits");
        assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(small));
        queue.end(Lane::Side);
        assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(vouched));
        queue.end(MAIN);
        assert_eq!(queue.next().map(|(torrent, turn)| (torrent, turn.lane)), Some((other, MAIN)));
    }

    #[test]
    fn who_leaves_is_not_waited_for() {
        let mut queue = CheckQueue::default();
        let [first, second, third] = Counter::torrents();
        for torrent in [first, second, third] {
            queue.join(torrent, DISK, GIB);
        }
        assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(first));
        queue.leave(second);
        queue.end(MAIN);
        assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(third));
        queue.leave(third);
        assert_eq!(queue.next(), None);
        queue.end(MAIN);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_check_on_one_device_does_not_wait_for_one_on_another() {
        let mut queue = CheckQueue::default();
        let device = |number| Some(Device { number, seeks: false });
        let all: [TorrentId; 8] = Counter::torrents();
        let [slow, behind, fast, next, third, fourth, fifth, unknown] = all;
        assert_eq!(queue.join(slow, device(1), GIB), None);
        assert_eq!(queue.join(behind, device(1), GIB), Some(1));
        assert_eq!(queue.join(fast, device(2), GIB), None, "nobody is before it on its device");
        assert_eq!(queue.join(next, device(2), GIB), Some(1));
        let line = |line| Lane::Main(Line(line));
        let mut begun = Vec::new();
        let mut begin = |queue: &mut CheckQueue| {
            begun.clear();
            while let Some((torrent, turn)) = queue.next() {
                match turn.lane {
                    Lane::Side => drop(queue.postpone(Lane::Side, GIB)),
                    lane => begun.push((torrent, lane)),
                }
            }
            begun.clone()
        };
        assert_eq!(begin(&mut queue), [(slow, line(0)), (fast, line(1))]);
        queue.end(line(1));
        assert_eq!(begin(&mut queue), [(next, line(1))], "the slow one goes on");
        for (torrent, number) in [(third, 3), (fourth, 4), (fifth, 5)] {
            let ahead = queue.join(torrent, device(number), GIB);
            assert_eq!(ahead, (number == 5).then_some(0), "four devices at a time");
            begin(&mut queue);
        }
        queue.join(unknown, None, GIB);
        queue.end(line(3));
        assert_eq!(begin(&mut queue), [(fifth, line(3))]);
        queue.end(line(0));
        assert_eq!(begin(&mut queue), [(behind, line(0))]);
        queue.end(line(2));
        assert_eq!(begin(&mut queue), [(unknown, line(2))]);
    }

    #[test]
    fn on_a_device_that_seeks_one_check_stands_still_while_another_reads_beside_it() {
        let [large, small, next] = Counter::torrents();
        for seeks in [true, false] {
            let mut queue = CheckQueue::default();
            let device = Some(Device { number: 1, seeks });
            for torrent in [large, small, next] {
                queue.join(torrent, device, 800 * GIB);
            }
            assert_eq!(queue.next().map(|(torrent, _)| torrent), Some(large));
            assert_eq!(queue.held(), None);
            assert_eq!(queue.next().map(|(torrent, turn)| (torrent, turn.lane)), Some((small, Lane::Side)));
            assert_eq!((queue.held(), queue.next()), (None, None), "it looks how much there is to read");
            queue.begun(small);
            assert_eq!(queue.held(), seeks.then_some(large));
            queue.end(MAIN);
            let begins = queue.next().map(|(torrent, _)| torrent);
            assert_eq!(begins, (!seeks).then_some(next), "not beside the small one, if that makes it seek");
            queue.end(Lane::Side);
            assert_eq!(queue.held(), None);
            assert_eq!(queue.next().map(|(torrent, _)| torrent), seeks.then_some(next));
        }
    }
}
