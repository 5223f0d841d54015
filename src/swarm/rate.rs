//! How fast bytes go by.

use std::time::{Duration, Instant};

/// A byte rate, averaged with exponential decay: what lies [`RateMeter::HORIZON`] back counts 1/e.
///
/// Costs nothing while nothing happens; needs no timer.
#[derive(Clone, Debug)]
pub(super) struct RateMeter {
    weight: f64,
    /// When `weight` was worked out.
    at: Option<Instant>,
    /// When the first bytes went by.
    since: Option<Instant>,
    /// When the last did.
    last: Option<Instant>,
}

impl RateMeter {
    /// The time over which the rate is averaged: long enough for a choker that looks every 10 s,
    /// short enough for a person who watches a bar.
    pub(super) const HORIZON: Duration = Duration::from_secs(5);

    /// After so long without a byte the rate is 0, and not a small number that nobody is served by.
    const SILENCE: Duration = Duration::from_secs(20);

    /// A rate of 0.
    pub(super) fn new() -> RateMeter {
        RateMeter { weight: 0.0, at: None, since: None, last: None }
    }

    /// `bytes` went by.
    pub(super) fn add(&mut self, now: Instant, bytes: u64) {
        self.weight = self.decayed(now) + bytes as f64;
        (self.at, self.last) = (Some(now), Some(now));
        self.since.get_or_insert(now);
    }

    /// Some of the bytes do not count after all: `part` has measured them, and them alone.
    pub(super) fn take_back(&mut self, now: Instant, part: &RateMeter) {
        if self.at.is_some() {
            self.weight = (self.decayed(now) - part.decayed(now)).max(0.0);
            self.at = self.at.max(Some(now));
        }
    }

    /// Bytes a second. While less than the horizon has been seen, the mean of what was.
    pub(super) fn get(&self, now: Instant) -> u64 {
        let (Some(since), Some(last)) = (self.since, self.last) else { return 0 };
        if now.saturating_duration_since(last) >= RateMeter::SILENCE {
            return 0;
        }
        let seen = now.saturating_duration_since(since).as_secs_f64().max(0.25);
        let horizon = RateMeter::HORIZON.as_secs_f64();
        // The decayed sum over `seen` seconds of a steady rate r is r·h·(1 - e^(-seen/h)).
        (self.decayed(now) / (horizon * (1.0 - (-seen / horizon).exp()))) as u64
    }

    fn decayed(&self, now: Instant) -> f64 {
        match self.at {
            Some(at) if now > at => {
                self.weight * (-(now - at).as_secs_f64() / RateMeter::HORIZON.as_secs_f64()).exp()
            }
            _ => self.weight,
        }
    }
}

impl Default for RateMeter {
    fn default() -> RateMeter {
        RateMeter::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_measured_from_the_first_second_and_forgotten_when_it_stops() {
        let start = Instant::now();
        let mut rate = RateMeter::new();
        for tick in 0..200u32 {
            let now = start + Duration::from_millis(100) * tick;
            rate.add(now, 100_000);
            if tick >= 10 {
                let got = rate.get(now) as f64;
                assert!((0.85e6..1.15e6).contains(&got), "{got} at {tick}");
            }
        }
        assert!(rate.get(start + Duration::from_secs(80)) < 100);
    }
}
