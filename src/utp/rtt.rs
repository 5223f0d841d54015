//! How long it takes until a packet is acknowledged, and how long to wait for that (RFC 6298).

use std::time::Duration;

/// How long to wait before anything has been measured.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait at least: a packet may be held up by a burst of others.
const MIN_TIMEOUT: Duration = Duration::from_millis(500);

/// How long to wait at the most, after many attempts.
const MAX_TIMEOUT: Duration = Duration::from_secs(15);

/// What was measured of one connection.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    least: Option<Duration>,
    /// Timeouts since anything was acknowledged.
    timeouts: u32,
}

impl RoundTrip {
    /// A packet that was sent once was acknowledged after so long.
    pub(super) fn on_sample(&mut self, sample: Duration) {
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(sample), sample / 2),
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    /// Something new was acknowledged.
    pub(super) fn on_progress(&mut self) {
        self.timeouts = 0;
    }

    /// Nothing was acknowledged for as long as [`RoundTrip::timeout`].
    pub(super) fn on_timeout(&mut self) {
        self.timeouts += 1;
    }

    /// Timeouts since anything was acknowledged.
    pub(super) fn timeouts(&self) -> u32 {
        self.timeouts
    }

    /// The mean of late, or what is assumed of it.
    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(FIRST_TIMEOUT / 2)
    }

    /// The least that was measured.
    pub(super) fn least(&self) -> Option<Duration> {
        self.least
    }

    /// After how long without an acknowledgement all that is under way counts as lost.
    pub(super) fn timeout(&self) -> Duration {
        let measured = self.smoothed.map_or(FIRST_TIMEOUT, |smoothed| smoothed + self.variation * 4);
        (measured.max(MIN_TIMEOUT) * 2u32.pow(self.timeouts.min(6))).min(MAX_TIMEOUT)
    }

    /// After how long without an acknowledgement the last packet is sent again, for its acknowledgement says what else is lost (RFC 8985,
    /// tail loss probe). `None`: not before the timeout.
    pub(super) fn probe_timeout(&self) -> Option<Duration> {
        let smoothed = self.smoothed.filter(|_| self.timeouts == 0)?;
        let probe = smoothed * 2 + Duration::from_millis(10);
        (probe < self.timeout()).then_some(probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn the_timeout_follows_what_was_measured_and_doubles_with_each_that_passes() {
        let mut round_trip = RoundTrip::default();
        assert_eq!((round_trip.timeout(), round_trip.probe_timeout()), (ms(1000), None));
        (0..50).for_each(|_| round_trip.on_sample(ms(300)));
        assert!(round_trip.timeout() >= MIN_TIMEOUT && round_trip.timeout() < ms(600));
        assert_eq!((round_trip.smoothed(), round_trip.least()), (ms(300), Some(ms(300))));
        let before = round_trip.timeout();
        round_trip.on_timeout();
        assert_eq!((round_trip.timeout(), round_trip.probe_timeout()), (before * 2, None));
        (0..40).for_each(|_| round_trip.on_timeout());
        assert_eq!(round_trip.timeout(), MAX_TIMEOUT);
        round_trip.on_progress();
        assert_eq!(round_trip.timeout(), before);
    }

    #[test]
    fn a_path_that_varies_is_waited_for_longer() {
        let (mut steady, mut varying) = (RoundTrip::default(), RoundTrip::default());
        for number in 0..100 {
            steady.on_sample(ms(400));
            varying.on_sample(ms(if number % 2 == 0 { 100 } else { 700 }));
        }
        assert!(varying.timeout() > steady.timeout() + ms(500));
    }
}
