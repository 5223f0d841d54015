//! An allowance that grows with time up to a bound: how much others may make us do is kept within limits by it.

use std::time::{Duration, Instant};

const BILLION: i128 = 1_000_000_000;

/// So much at once, and so much a second from then on.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    /// What time adds up to; it may have begun with more.
    capacity: u64,
    /// What is added in a second.
    rate: u64,
    /// What is there, in billionths. Negative after [`TokenBucket::overdraw`].
    level: i128,
    at: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn new(now: Instant, capacity: u64, rate: u64) -> TokenBucket {
        TokenBucket::beginning_with(now, capacity, capacity, rate)
    }

    /// One in which there is `level` at first, be it more than time adds up to.
    pub(crate) fn beginning_with(now: Instant, level: u64, capacity: u64, rate: u64) -> TokenBucket {
        TokenBucket { capacity, rate, level: i128::from(level) * BILLION, at: now }
    }

    /// Adds what is due; never beyond the capacity.
    fn add(&mut self, billionths: i128) {
        let grown = self.level.saturating_add(billionths).min(i128::from(self.capacity) * BILLION);
        self.level = self.level.max(grown);
    }

    fn fill(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.at).as_nanos() as i128;
        self.add(i128::from(self.rate).saturating_mul(nanos));
        self.at = self.at.max(now);
    }

    /// Takes so much, if it is there.
    pub(crate) fn take(&mut self, now: Instant, amount: u64) -> bool {
        let is_there = self.has(now, amount);
        if is_there {
            self.overdraw(amount);
        }
        is_there
    }

    /// Whether so much is there.
    pub(crate) fn has(&mut self, now: Instant, amount: u64) -> bool {
        self.fill(now);
        i128::from(amount) * BILLION <= self.level
    }

    /// Takes so much, whether it is there or not: what is missing is made up for by time.
    pub(crate) fn overdraw(&mut self, amount: u64) {
        self.level -= i128::from(amount) * BILLION;
    }

    /// Puts back what was taken and not used.
    pub(crate) fn give_back(&mut self, amount: u64) {
        self.add(i128::from(amount) * BILLION);
    }

    /// When so much will be there; at most the capacity may be asked for.
    pub(crate) fn ready(&self, amount: u64) -> Instant {
        let missing = (i128::from(amount) * BILLION - self.level).max(0);
        let nanos = missing.unsigned_abs().div_ceil(u128::from(self.rate.max(1)));
        self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_capacity_at_once_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 10, 4);
        assert!(bucket.take(start, 7) && bucket.take(start, 3) && !bucket.take(start, 1));
        assert_eq!(bucket.ready(1), start + Duration::from_millis(250));
        assert!(!bucket.take(start + Duration::from_millis(249), 1));
        assert!(bucket.take(bucket.ready(1), 1));
        let later = start + Duration::from_secs(100);
        assert!(bucket.take(later, 10) && !bucket.take(later, 1));
    }

    #[test]
    fn what_is_there_at_first_may_be_more_and_a_debt_is_paid_by_time() {
        let start = Instant::now();
        let mut bucket = TokenBucket::beginning_with(start, 30, 10, 10);
        let later = start + Duration::from_secs(100);
        assert!(
            bucket.has(later, 30) && !bucket.has(later, 31),
            "time adds nothing to more than the capacity, and takes nothing"
        );
        bucket.overdraw(50);
        bucket.give_back(5);
        assert_eq!(bucket.ready(5), later + Duration::from_secs(2));
        assert!(
            !bucket.has(later + Duration::from_millis(1999), 5)
                && bucket.take(later + Duration::from_secs(2), 5)
        );
    }
}
