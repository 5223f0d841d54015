//! The thread of a connection: does one job after the other.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::request::{Access, Requests};
use super::{FromThread, ToThread};
use crate::blocks::BlockData;
use crate::http::{FIRST_SLICE, Interrupt};
use crate::layout::{Block, FileIndex};
use crate::webseed::{Fault, Get, Item, Job, JobEnd, Manner, Part, cut};

/// Blocks that are told of together.
const TOGETHER: usize = 16;

/// How long a block waits for others to be told of with: each time wakes up the session. The first wait for a server that is slower is longer
/// than that, and what waits is told of before the second.
const LINGER: Duration = FIRST_SLICE.saturating_sub(Duration::from_millis(1));

/// Bytes that were not asked for which are read before the driver is asked whether to go on.
const WASTE: usize = 64 * 1024;

/// Bytes of an answer that ends too early which are worth another request at once for those behind them: a server that closes before a whole block
/// has come would never give one otherwise.
const MIN_CUT: u64 = 4 * 1024;

/// The session has closed the connection.
pub(super) struct Closed;

/// Blocks that are filled and not told of yet, and the way to tell. Those that have waited for others are told of before the next wait for the
/// server, which happens deep inside ureq and is seen by the interrupt that it asks: hence the lock. Both are on the same thread, so nobody ever
/// waits for it.
#[derive(Clone)]
pub(super) struct Outbox {
    filled: Arc<Mutex<Filled>>,
    reports: Sender<FromThread>,
}

#[derive(Default)]
struct Filled {
    blocks: Vec<(Block, BlockData)>,
    /// When the first of them was filled.
    since: Option<Instant>,
}

impl Filled {
    fn take(&mut self) -> Vec<(Block, BlockData)> {
        self.since = None;
        std::mem::take(&mut self.blocks)
    }
}

impl Outbox {
    pub(super) fn new(reports: Sender<FromThread>) -> Outbox {
        Outbox { filled: Arc::default(), reports }
    }

    /// Tells of the blocks if they have waited, and the driver has taken what was told before.
    pub(super) fn flush_old(&self, now: Instant) {
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        if filled.since.is_some_and(|since| now.saturating_duration_since(since) >= LINGER)
            && let Ok(place) = self.reports.try_reserve()
        {
            place.send(FromThread::Blocks(filled.take()));
        }
    }

    /// A block is filled.
    fn push(&self, now: Instant, block: Block, data: BlockData) -> Result<(), Closed> {
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.blocks.push((block, data));
        filled.since.get_or_insert(now);
        let is_enough = filled.blocks.len() >= TOGETHER;
        drop(filled);
        if is_enough { self.flush() } else { Ok(()) }
    }

    fn flush(&self) -> Result<(), Closed> {
        let filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner).take();
        if filled.is_empty() {
            return Ok(());
        }
        self.tell(FromThread::Blocks(filled))
    }

    fn tell(&self, report: FromThread) -> Result<(), Closed> {
        self.reports.blocking_send(report).map_err(|_| Closed)
    }
}

/// Why a job ends before its end.
enum Stop {
    Closed,
    /// A whole file has begun to come, and somewhere in it was asked for: what lies before may be of use, too.
    FromStart,
    Fault(Option<Item>, Fault),
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Stop {
        Stop::Closed
    }
}

/// The answer that is read is a whole file, and goes on.
struct WholeFile {
    file: FileIndex,
    /// The next byte of it that comes.
    at: u64,
    size: u64,
}

pub(super) struct Fetcher {
    requests: Requests,
    interrupt: Interrupt,
    orders: Receiver<ToThread>,
    outbox: Outbox,
    spare: VecDeque<BlockData>,
    whole_file: Option<WholeFile>,
    ignores_ranges: bool,
    /// The longest range that the server is asked for: what it gave of a longer one.
    longest: u64,
    /// It has been told that the server knows ranges.
    has_told_ranges: bool,
    /// Under a limit of which a block takes long: blocks are read bit by bit.
    pace: Option<Pace>,
}

/// Bytes that are read at once, and the time that they take by the limit.
pub(super) type Pace = (usize, Duration);

/// What the limit on downloads means to a thread.
pub(super) struct Rhythm {
    pub pace: Option<Pace>,
    /// Bytes of answers that may be under way.
    pub max_ahead: u64,
}

/// The blocks of a job, as they are filled.
struct Filling {
    blocks: VecDeque<Block>,
    /// The first of them, and how many of its bytes are there.
    current: Option<(BlockData, usize)>,
    /// Bytes that have come, all in all.
    came: u64,
}

impl Fetcher {
    pub(super) fn new(
        access: Access,
        interrupt: Interrupt,
        orders: Receiver<ToThread>,
        outbox: Outbox,
        rhythm: Rhythm,
    ) -> Fetcher {
        let Rhythm { pace, max_ahead } = rhythm;
        Fetcher {
            requests: Requests::new(access, interrupt.clone(), max_ahead),
            interrupt,
            orders,
            outbox,
            spare: VecDeque::new(),
            whole_file: None,
            ignores_ranges: false,
            longest: u64::MAX,
            has_told_ranges: false,
            pace,
        }
    }

    /// Does jobs until the session closes the connection.
    pub(super) fn run(mut self) {
        while let Ok(order) = self.orders.recv() {
            match order {
                ToThread::Job(job) => {
                    let fault = match self.fetch(job) {
                        Ok(()) | Err(Stop::FromStart) => None,
                        Err(Stop::Closed) => return,
                        Err(Stop::Fault(item, fault)) => Some((item, fault)),
                    };
                    if self.outbox.flush().is_err() {
                        return;
                    }
                    let goes_on_at = self.whole_file.as_ref().map(|whole| (whole.file, whole.at));
                    let end = JobEnd { fault, ignores_ranges: self.ignores_ranges, goes_on_at };
                    let spare = std::mem::take(&mut self.spare).into();
                    if self.outbox.tell(FromThread::Ended(end, spare)).is_err() {
                        return;
                    }
                }
                // Too late for the job that they were for.
                ToThread::Buffers(buffers) => drop(buffers),
                ToThread::GoOn => {}
            }
        }
    }

    fn fetch(&mut self, job: Job) -> Result<(), Stop> {
        let mut filling = Filling { blocks: job.blocks.into(), current: None, came: 0 };
        let result = self.fetch_parts(&mut filling, &job.parts);
        self.spare.extend(filling.current.map(|(data, _)| data));
        result
    }

    fn fetch_parts(&mut self, filling: &mut Filling, parts: &[Part]) -> Result<(), Stop> {
        let (mut parts, mut next) = (cut(parts, self.longest), 0);
        while let Some((part, following)) = parts[next..].split_first() {
            next += 1;
            match part {
                Part::Zeros(count) => self.fill(filling, *count, |_, into| {
                    into.fill(0);
                    Ok(into.len())
                })?,
                Part::Get(get) => {
                    let end = self.get(filling, get, following)?;
                    if end < get.range.end {
                        let rest = [&[Part::Get(get.rest(end))], following].concat();
                        (parts, next) = (cut(&rest, self.longest), 0);
                    }
                }
            }
        }
        Ok(())
    }

    /// Fills blocks with the bytes of a request; `following` may be asked for meanwhile. Says up to where they have come: what is left of them may be
    /// asked for at once.
    fn get(&mut self, filling: &mut Filling, get: &Get, following: &[Part]) -> Result<u64, Stop> {
        let going_on = self
            .whole_file
            .take()
            .filter(|whole| Item::File(whole.file) == get.item && whole.at <= get.range.start);
        let mut whole = match going_on {
            Some(whole) => whole,
            None => {
                let accepted =
                    self.requests.open(get, following).map_err(|fault| Stop::Fault(Some(get.item), fault))?;
                if self.requests.says_ranges() && !std::mem::replace(&mut self.has_told_ranges, true) {
                    self.outbox.tell(FromThread::SaysRanges)?;
                }
                let (Item::File(file), true) = (get.item, accepted.is_whole) else {
                    return self.fill_part(filling, get, accepted.end, following);
                };
                if !std::mem::replace(&mut self.ignores_ranges, true) {
                    // Before any block, so that nobody opens further connections for the same file.
                    self.report_waste(0)?;
                    if get.range.start > 0 {
                        self.whole_file = Some(WholeFile { file, at: 0, size: get.size });
                        return Err(Stop::FromStart);
                    }
                }
                WholeFile { file, at: 0, size: get.size }
            }
        };
        let skip = get.range.start - whole.at;
        self.waste(get, skip)?;
        self.fill_from(filling, get, get.range.end, &[])?;
        whole.at = get.range.end;
        if whole.at < whole.size {
            self.whole_file = Some(whole);
        } else {
            self.requests.finish();
        }
        Ok(get.range.end)
    }

    /// Fills blocks with the bytes of an answer that ends at `end`; says up to where they have come.
    fn fill_part(
        &mut self,
        filling: &mut Filling,
        get: &Get,
        end: u64,
        following: &[Part],
    ) -> Result<u64, Stop> {
        let is_part = end < get.range.end;
        if is_part {
            self.longest = self.longest.min(end - get.range.start);
        }
        let before = filling.came;
        // Behind a part its rest comes first.
        let result = self.fill_from(filling, get, end, if is_part { &[] } else { following });
        let came = filling.came - before;
        match result {
            Ok(()) => {
                self.requests.finish();
                Ok(end)
            }
            Err(Stop::Fault(..))
                if self.requests.is_cut() && came >= MIN_CUT && get.manner != Manner::RangeInUrl =>
            {
                Ok(get.range.start + came)
            }
            Err(stop) => Err(stop),
        }
    }

    fn fill_from(
        &mut self,
        filling: &mut Filling,
        get: &Get,
        end: u64,
        following: &[Part],
    ) -> Result<(), Stop> {
        let (pace, count) = (self.pace, end - get.range.start);
        self.fill(filling, count, |requests, into| {
            let into = match pace {
                Some((most, time)) => {
                    thread::sleep(time);
                    let most = into.len().min(most);
                    &mut into[..most]
                }
                None => into,
            };
            requests.read(into, following).map_err(|fault| Stop::Fault(Some(get.item), fault))
        })
    }

    /// Reads bytes that nobody has asked for.
    fn waste(&mut self, get: &Get, count: u64) -> Result<(), Stop> {
        let mut left = count;
        let mut scratch = vec![0; WASTE.min(left as usize)];
        while left > 0 {
            let mut chunk = 0;
            while chunk < scratch.len().min(left as usize) {
                let most = scratch.len().min(left as usize);
                let came = self.requests.read(&mut scratch[chunk..most], &[]);
                chunk += came.map_err(|fault| Stop::Fault(Some(get.item), fault))?;
            }
            left -= chunk as u64;
            self.outbox.flush()?;
            self.report_waste(chunk as u64)?;
        }
        Ok(())
    }

    /// Tells of bytes that nobody has asked for, and waits until it may go on.
    fn report_waste(&mut self, bytes: u64) -> Result<(), Closed> {
        self.outbox.tell(FromThread::Waste(bytes))?;
        loop {
            match self.orders.recv().map_err(|_| Closed)? {
                ToThread::GoOn => return Ok(()),
                ToThread::Buffers(buffers) => self.spare.extend(buffers),
                ToThread::Job(_) => {}
            }
        }
    }

    /// Fills blocks with so many bytes; `read` gives some at a time, of an answer or of its own.
    fn fill(
        &mut self,
        filling: &mut Filling,
        count: u64,
        mut read: impl FnMut(&mut Requests, &mut [u8]) -> Result<usize, Stop>,
    ) -> Result<(), Stop> {
        let mut left = count;
        while left > 0 {
            let Some(&block) = filling.blocks.front() else { return Ok(()) };
            let (mut data, filled) = match filling.current.take() {
                Some(current) => current,
                None => (self.buffer(block)?, 0),
            };
            let most = (data.as_slice().len() - filled).min(usize::try_from(left).unwrap_or(usize::MAX));
            let result = read(&mut self.requests, &mut data.as_mut_slice()[filled..filled + most]);
            let came = match result {
                Ok(came) => came,
                Err(stop) => {
                    filling.current = Some((data, filled));
                    return Err(stop);
                }
            };
            left -= came as u64;
            filling.came += came as u64;
            if filled + came < data.as_slice().len() {
                filling.current = Some((data, filled + came));
                continue;
            }
            filling.blocks.pop_front();
            self.outbox.push(Instant::now(), block, data)?;
        }
        Ok(())
    }

    /// A buffer for a block; waits until there is one.
    fn buffer(&mut self, block: Block) -> Result<BlockData, Stop> {
        loop {
            if self.interrupt.is_due() {
                return Err(Stop::Closed);
            }
            if let Some(mut data) = self.spare.pop_front() {
                data.set_length(block.length);
                return Ok(data);
            }
            // What is filled brings new ones.
            let next = match self.orders.try_recv() {
                Ok(next) => next,
                Err(_) => {
                    self.outbox.flush()?;
                    self.orders.recv().map_err(|_| Closed)?
                }
            };
            if let ToThread::Buffers(buffers) = next {
                self.spare.extend(buffers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{BLOCK_LENGTH, PieceIndex};

    fn told(reports: &mut tokio::sync::mpsc::Receiver<FromThread>) -> usize {
        match reports.try_recv() {
            Ok(FromThread::Blocks(blocks)) => blocks.len(),
            Ok(_) => panic!("no blocks"),
            Err(_) => 0,
        }
    }

    #[test]
    fn blocks_are_told_of_together_and_none_waits_for_long() {
        let (reports, mut received) = tokio::sync::mpsc::channel(4);
        let outbox = Outbox::new(reports);
        let begin = Instant::now();
        let fill = |now, number| {
            let block = Block { piece: PieceIndex(number), begin: 0, length: BLOCK_LENGTH };
            assert!(outbox.push(now, block, BlockData::exact(0)).is_ok());
        };
        fill(begin, 0);
        fill(begin + LINGER / 2, 1);
        outbox.flush_old(begin + LINGER / 2);
        assert_eq!(told(&mut received), 0);
        outbox.flush_old(begin + LINGER);
        assert_eq!(told(&mut received), 2);
        outbox.flush_old(begin + 2 * LINGER);
        assert_eq!(told(&mut received), 0, "nothing has waited since");
        (0..TOGETHER as u32).for_each(|number| fill(begin + 2 * LINGER, number));
        assert_eq!(told(&mut received), TOGETHER);
        fill(begin + 3 * LINGER, 0);
        outbox.flush_old(begin + 3 * LINGER);
        assert_eq!(told(&mut received), 0, "its own time counts");
    }
}
