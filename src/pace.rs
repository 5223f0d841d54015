//! How fast blocks are asked for under a limit on downloads, shared by all torrents of the process.
//!
//! What is asked for comes. A limit that only slowed down reading would be exceeded at the other end by what the kernel takes in beforehand, for
//! each connection anew; and a peer would be blamed for blocks that nobody reads. So no more is asked for than the limit lets in: each request waits
//! until the bytes of its block are due, and torrents take turns. Blocks that nobody sends, or that are cancelled, are made up for: while less is
//! read than the limit allows, a little more is asked for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::ids::TorrentId;
use crate::layout::BLOCK_LENGTH;

/// Bytes that may be due at the most, in seconds of the rate: a loop that is late by less loses nothing.
const MAX_DUE: f64 = 0.1;

/// Bytes that could have been read and were not, in seconds of the rate, from which on less comes than is due.
const UNUSED: f64 = 0.1;

/// Bytes beyond that which are remembered, in seconds of the rate, or two blocks if these are less: one block that has come does not mean that enough comes.
const MORE_UNUSED: f64 = 0.2;

/// What is asked for, as a share of the rate: a little less than is read, so that what waits in the buffers of the kernel becomes less in the long run.
const ASKED: f64 = 0.99;

/// The same while less comes than is due: so much more at the most can come at once what was late.
const ASKED_IF_UNUSED: f64 = 1.2;

/// A peer has so much in flight at the least, in seconds of the rate, as far as these are [`MAX_LEAST_BLOCKS`]: how fast it is does not show while it
/// is asked for little, and one that is busy for a moment must not hold up what is due.
const LEAST_IN_FLIGHT: f64 = 0.25;

/// Blocks of that at the most: a slow peer sits on them for long.
const MAX_LEAST_BLOCKS: f64 = 8.0;

/// Between two looks whether anything is due, in seconds of the rate: not to wake up for each block of a fast download.
const LOOK: f64 = 0.005;

/// The first in the row that has not asked for anything so long after it could have loses its place.
const GRACE: Duration = Duration::from_millis(20);

/// What all torrents ask for together.
#[derive(Clone, Debug)]
pub struct Pace(Option<Rc<RefCell<Schedule>>>);

#[derive(Debug)]
struct Schedule {
    /// Bytes a second.
    rate: f64,
    /// Bytes that may be asked for. Negative after a block: the next has to wait.
    due: f64,
    /// Bytes that the limit would let in now. Negative if more has come since `filled` than is due by then.
    unused: f64,
    /// When both were last reckoned.
    filled: Option<Instant>,
    /// Torrents that want to ask, the one that may first. Each stands there once.
    row: VecDeque<TorrentId>,
    /// The first in the row has asked for something: once nothing is due any more, its turn is over.
    has_asked: bool,
    /// When the first in the row was first waited for by another.
    held_up: Option<Instant>,
}

impl Schedule {
    fn fill(&mut self, now: Instant) {
        let passed = self.filled.map_or(0.0, |then| now.saturating_duration_since(then).as_secs_f64());
        self.filled = Some(self.filled.map_or(now, |then| then.max(now)));
        self.unused += self.rate * passed;
        let unused = self.rate * UNUSED;
        let asked = if self.unused >= unused { ASKED_IF_UNUSED } else { ASKED };
        let more = (self.rate * MORE_UNUSED).min(f64::from(2 * BLOCK_LENGTH));
        self.unused = self.unused.min(unused + more);
        self.due = (self.due + self.rate * asked * passed).min(self.rate * MAX_DUE);
    }

    fn first(&self) -> Option<TorrentId> {
        self.row.front().copied()
    }

    fn leave_row(&mut self, torrent: TorrentId) {
        if self.first() == Some(torrent) {
            (self.has_asked, self.held_up) = (false, None);
        }
        self.row.retain(|&other| other != torrent);
    }

    fn may_ask(&mut self, now: Instant, torrent: TorrentId) -> bool {
        self.fill(now);
        let is_over = self.due <= 0.0;
        if is_over && self.has_asked && self.first() == Some(torrent) {
            self.leave_row(torrent);
        }
        if !self.row.contains(&torrent) {
            self.row.push_back(torrent);
        }
        while !is_over && let Some(first) = self.first().filter(|&first| first != torrent) {
            let held_up = *self.held_up.get_or_insert(now);
            if now.saturating_duration_since(held_up) < GRACE {
                return false;
            }
            self.leave_row(first);
        }
        !is_over
    }

    fn next_look(&self, torrent: TorrentId) -> Option<Instant> {
        let missing = self.rate * LOOK - self.due;
        let seconds = (missing / (self.rate * ASKED)).clamp(0.0, 3600.0);
        let grace = if self.first() == Some(torrent) { Duration::ZERO } else { GRACE };
        Some(self.filled? + Duration::from_secs_f64(seconds) + grace)
    }
}

impl Pace {
    /// Of a limit of so many bytes a second; `None`: as fast as anybody likes.
    pub fn new(rate: Option<u64>) -> Pace {
        let schedule = |rate: u64| Schedule {
            rate: rate.max(1) as f64,
            due: 0.0,
            unused: 0.0,
            filled: None,
            row: VecDeque::new(),
            has_asked: false,
            held_up: None,
        };
        Pace(rate.map(|rate| Rc::new(RefCell::new(schedule(rate)))))
    }

    /// Whether there is a limit.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// The turns of a torrent.
    pub fn share(&self, torrent: TorrentId) -> PaceShare {
        PaceShare { pace: self.clone(), torrent }
    }

    /// So many bytes were read, of which so many need no turn any more: blocks that peers were asked for, and all that web seeds send.
    pub fn on_read(&self, bytes: usize, of_blocks: usize) {
        if let Some(schedule) = &self.0 {
            let mut schedule = schedule.borrow_mut();
            schedule.unused -= bytes as f64;
            schedule.due -= bytes as f64 - of_blocks as f64;
        }
    }
}

/// The turns of one torrent; it leaves the row when this is dropped.
#[derive(Debug)]
pub struct PaceShare {
    pace: Pace,
    torrent: TorrentId,
}

impl PaceShare {
    /// Whether there is a limit.
    pub fn is_set(&self) -> bool {
        self.pace.is_set()
    }

    /// Whether a block may be asked for now. If not, the torrent stands in the row, and [`PaceShare::next_look`] says when to ask again.
    pub fn may_ask(&self, now: Instant) -> bool {
        self.pace.0.as_ref().is_none_or(|schedule| schedule.borrow_mut().may_ask(now, self.torrent))
    }

    /// A block was asked for that takes so many bytes.
    pub fn on_request(&self, bytes: usize) {
        if let Some(schedule) = &self.pace.0 {
            let mut schedule = schedule.borrow_mut();
            schedule.due -= bytes as f64;
            schedule.has_asked = true;
        }
    }

    /// When something may be due that may not be asked for yet.
    pub fn next_look(&self) -> Option<Instant> {
        self.pace.0.as_ref()?.borrow().next_look(self.torrent)
    }

    /// There is nothing to ask for.
    pub fn leave_row(&self) {
        if let Some(schedule) = &self.pace.0 {
            schedule.borrow_mut().leave_row(self.torrent);
        }
    }

    /// Blocks that a peer may have in flight whatever it has shown of its speed; 0 without a limit.
    pub fn least_blocks(&self) -> u32 {
        let Some(schedule) = &self.pace.0 else { return 0 };
        let bytes = schedule.borrow().rate * LEAST_IN_FLIGHT;
        (bytes / f64::from(BLOCK_LENGTH)).min(MAX_LEAST_BLOCKS) as u32
    }

    /// How long so many bytes take by the limit; no time without one.
    pub fn time_of(&self, bytes: u32) -> Duration {
        let Some(schedule) = &self.pace.0 else { return Duration::ZERO };
        Duration::from_secs_f64(f64::from(bytes) / schedule.borrow().rate)
    }
}

impl Drop for PaceShare {
    fn drop(&mut self) {
        self.leave_row();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    /// Bytes that one block takes, with its header.
    const BLOCK: usize = 16397;

    fn shares<const N: usize>(pace: &Pace) -> [PaceShare; N] {
        let mut counter = Counter::default();
        std::array::from_fn(|_| pace.share(counter.torrent()))
    }

    /// What torrents that always want more ask for in so many seconds, looking each 2 ms; of it comes what `answers` says, at once. The bytes that each
    /// asked for, and the most bytes that were asked for in a second.
    fn asked<const N: usize>(
        rate: u64,
        seconds: u64,
        answers: impl Fn(usize) -> bool,
    ) -> ([usize; N], usize) {
        let pace = Pace::new(Some(rate));
        let (shares, start) = (shares::<N>(&pace), Instant::now());
        let (mut sums, mut times) = ([0; N], VecDeque::new());
        let (mut fullest, mut count) = (0, 0);
        for tick in 0..seconds * 500 {
            let now = start + Duration::from_millis(2 * tick);
            for (share, sum) in shares.iter().zip(&mut sums) {
                while share.may_ask(now) {
                    share.on_request(BLOCK);
                    *sum += BLOCK;
                    times.push_back(now);
                    count += 1;
                    if answers(count) {
                        pace.on_read(BLOCK, BLOCK);
                    }
                }
            }
            while times.front().is_some_and(|&then| now - then >= Duration::from_secs(1)) {
                times.pop_front();
            }
            fullest = fullest.max(times.len() * BLOCK);
        }
        (sums, fullest)
    }

    #[test]
    fn what_is_asked_for_is_the_rate_and_torrents_share_it() {
        for rate in [10 << 10, 100 << 10, 1 << 20, 50 << 20] {
            let (sums, fullest) = asked::<3>(rate, 40, |_| true);
            let ratio = sums.iter().sum::<usize>() as f64 / (40 * rate) as f64;
            assert!((0.96..=1.04).contains(&ratio), "{ratio} of {rate}: {sums:?}");
            let (least, most) = (sums.iter().min().unwrap(), sums.iter().max().unwrap());
            assert!(most - least <= (most / 5).max(2 * BLOCK), "{sums:?} of {rate}");
            let allowed = (rate as usize * 6 / 5).max(2 * BLOCK);
            assert!(fullest <= allowed, "{fullest} in a second at {rate}");
        }
    }

    #[test]
    fn what_nobody_sends_is_made_up_for_up_to_a_fifth() {
        const RATE: u64 = 1 << 20;
        // Each tenth block does not come.
        let (sums, _) = asked::<1>(RATE, 40, |count| count % 10 != 0);
        let came = sums[0] as f64 * 0.9 / (40 * RATE) as f64;
        assert!((0.96..=1.03).contains(&came), "{came}");
        let (sums, fullest) = asked::<1>(RATE, 40, |_| false);
        assert!(sums[0] as u64 <= 40 * RATE * 5 / 4 && fullest <= 4 << 20, "{sums:?} {fullest}");
    }

    #[test]
    fn one_that_does_not_come_for_its_turn_holds_nobody_up() {
        let pace = Pace::new(Some(100_000));
        let ([a, b, c], start) = (shares(&pace), Instant::now());
        assert!(!a.may_ask(start) && !b.may_ask(start) && !c.may_ask(start), "nothing is due yet");
        drop(a);
        let later = start + Duration::from_secs(1);
        assert!(!c.may_ask(later), "b has waited as long, and stands before it");
        let at = c.next_look().unwrap();
        assert!(at > later && at <= later + GRACE, "{:?}", at - later);
        assert!(c.may_ask(at));
        c.on_request(BLOCK);
        assert!(!c.may_ask(at + Duration::from_millis(1)));
        b.leave_row();
    }

    #[test]
    fn a_pause_is_not_made_up_for_and_other_messages_count() {
        let pace = Pace::new(Some(1 << 20));
        let ([share], start) = (shares(&pace), Instant::now());
        assert!(!share.may_ask(start));
        let later = start + Duration::from_secs(60);
        let mut count = 0;
        while share.may_ask(later) {
            share.on_request(BLOCK);
            count += 1;
        }
        assert_eq!(count, (f64::from(1 << 20) * MAX_DUE / BLOCK as f64).ceil() as usize);
        pace.on_read(1 << 20, 0);
        assert!(!share.may_ask(later + Duration::from_millis(900)));
        assert!(share.may_ask(later + Duration::from_millis(1100)));
        assert_eq!(share.time_of(2 << 20), Duration::from_secs(2));
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let pace = Pace::new(None);
        let ([share], now) = (shares(&pace), Instant::now());
        pace.on_read(1 << 30, 0);
        for _ in 0..10_000 {
            assert!(share.may_ask(now));
            share.on_request(BLOCK);
        }
        assert_eq!(share.least_blocks(), 0);
        assert!(!share.is_set() && share.next_look().is_none() && share.time_of(1) == Duration::ZERO);
    }
}
