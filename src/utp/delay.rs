//! How much of a packet's way is spent in queues: its delay, less the least delay of late.
//!
//! The two clocks differ by an unknown amount, so a delay means nothing by itself; all arithmetic is modulo 2^32 microseconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Of each of so many minutes the least delay is remembered (RFC 6817 `BASE_HISTORY`).
const MINUTES: usize = 10;

/// Of these the last, where the other direction corrects no drift: a clock that runs slower by 100 millionths makes a queue of 12 ms of nothing
/// meanwhile.
const FEW_MINUTES: usize = 2;

/// As long as one of them.
const MINUTE: Duration = Duration::from_secs(60);

/// The queue counts as long as the least of so many delays says (RFC 6817 `CURRENT_FILTER`): one packet may have waited for a processor.
const CURRENT: usize = 4;

/// The base of the other direction falls by so much at once if the clocks drift; by more only if the path has changed. Microseconds.
const MAX_DRIFT: u32 = 10_000;

/// Whether delay `a` is less than `b`.
fn is_less(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

fn lesser(a: u32, b: u32) -> u32 {
    if is_less(a, b) { a } else { b }
}

/// Delays of one direction.
#[derive(Debug, Default)]
pub(super) struct Delays {
    /// The least delay of each minute, the newest last; at most [`MINUTES`].
    base: VecDeque<u32>,
    minute_ends: Option<Instant>,
    /// The last ones; at most [`CURRENT`].
    current: VecDeque<u32>,
}

impl Delays {
    /// A packet was under way for so long. Gives by how much the base has fallen, in microseconds.
    pub(super) fn on_sample(&mut self, now: Instant, delay: u32) -> u32 {
        let before = self.base();
        if self.minute_ends.is_none_or(|ends| now >= ends) {
            self.minute_ends = Some(now + MINUTE);
            if self.base.len() == MINUTES {
                self.base.pop_front();
            }
            self.base.push_back(delay);
        }
        if let Some(newest) = self.base.back_mut() {
            *newest = lesser(*newest, delay);
        }
        if self.current.len() == CURRENT {
            self.current.pop_front();
        }
        self.current.push_back(delay);
        match (before, self.base()) {
            (Some(before), Some(base)) if is_less(base, before) => before.wrapping_sub(base),
            _ => 0,
        }
    }

    fn base(&self) -> Option<u32> {
        self.base.iter().copied().reduce(lesser)
    }

    /// How long packets wait in queues now.
    pub(super) fn queuing(&self) -> Option<Duration> {
        self.queuing_beyond(self.base()?)
    }

    /// The same, measured against the last minutes alone.
    pub(super) fn queuing_of_late(&self) -> Option<Duration> {
        self.queuing_beyond(self.base.iter().rev().take(FEW_MINUTES).copied().reduce(lesser)?)
    }

    fn queuing_beyond(&self, base: u32) -> Option<Duration> {
        let current = self.current.iter().copied().reduce(lesser)?;
        let waits = current.wrapping_sub(base) as i32;
        Some(Duration::from_micros(waits.max(0).unsigned_abs().into()))
    }

    /// The delays of the other direction have shown that the clocks drift: the base of this one grows by so much. What was measured by another
    /// path is no drift.
    pub(super) fn correct_drift(&mut self, by: u32) {
        if by <= MAX_DRIFT {
            self.base.iter_mut().for_each(|base| *base = base.wrapping_add(by));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queuing(delays: &Delays) -> u128 {
        delays.queuing().unwrap().as_micros()
    }

    #[test]
    fn what_is_above_the_least_delay_is_the_queue_wherever_the_clocks_stand() {
        for offset in [0u32, 1 << 31, u32::MAX - 5_000, u32::MAX - 40_000] {
            let (now, mut delays) = (Instant::now(), Delays::default());
            assert_eq!(delays.queuing(), None);
            for delay in [20_000u32, 10_000, 50_000, 60_000, 70_000, 55_000] {
                delays.on_sample(now, offset.wrapping_add(delay));
            }
            assert_eq!(queuing(&delays), 40_000);
        }
    }

    #[test]
    fn the_least_delay_is_forgotten_after_ten_minutes() {
        let (start, mut delays) = (Instant::now(), Delays::default());
        delays.on_sample(start, 1000);
        for minute in 1..=12 {
            (0..5).for_each(|_| _ = delays.on_sample(start + MINUTE * minute, 9000));
            assert_eq!(queuing(&delays), if minute < 10 { 8000 } else { 0 }, "{minute}");
        }
    }

    #[test]
    fn a_clock_that_runs_slower_makes_no_queue_of_late() {
        let (start, mut delays) = (Instant::now(), Delays::default());
        for second in 0..1200u32 {
            delays.on_sample(start + Duration::from_secs(second.into()), 7_000_000 + second * 100);
            assert!(delays.queuing_of_late().unwrap().as_micros() <= 12_500, "{second}");
        }
    }

    #[test]
    fn a_clock_that_runs_faster_is_noticed_by_the_other_direction() {
        let now = Instant::now();
        let (mut ours, mut theirs) = (Delays::default(), Delays::default());
        for second in 0..500u32 {
            // 100 millionths: 50 ms in the end.
            let drift = second * 100;
            ours.on_sample(now, 7_000_000 + drift);
            let fallen = theirs.on_sample(now, 9_000_000 - drift);
            ours.correct_drift(fallen);
            assert!(queuing(&ours) <= 500, "{second}");
        }
    }
}
