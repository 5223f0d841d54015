//! How many bytes may be under way: LEDBAT (RFC 6817) with what LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus) has learned since.
//!
//! A queue before the bottleneck is kept, of [`TARGET`], and given up to whoever makes it longer. Beyond the target the window shrinks in
//! proportion to itself, so that two of these share evenly; from time to time it is nearly closed for two round trips, so that one that came
//! later sees how long the way is without the other's queue.

use std::time::{Duration, Instant};

use super::rtt::RoundTrip;

/// How long packets are to wait before the bottleneck.
pub(super) const TARGET: Duration = Duration::from_millis(60);

/// Packets under way at the beginning.
const FIRST_WINDOW: usize = 10;

/// Packets that may always be under way.
const MIN_WINDOW: f64 = 2.0;

/// Packets by which the window grows in a round trip; fewer where a round trip takes less than [`TARGET`].
const GAIN: f64 = 2.0;

/// While there is hardly a queue it grows by at least so much of itself, for else it would take minutes to fill a long and fast path again.
const SHARE_OF_WINDOW: f64 = 1.0 / 64.0;

/// What remains of the window after a loss with a short queue: most likely one of the radio.
const AFTER_ODD_LOSS: f64 = 0.7;

/// What remains of it after a loss with a queue.
const AFTER_LOSS: f64 = 0.5;

/// From one slowdown to the next: so many times as long as it took, so that it costs few of a hundred.
const SLOWDOWN_RATIO: u32 = 40;

/// From one slowdown to the next at least.
const MIN_BETWEEN_SLOWDOWNS: Duration = Duration::from_secs(15);

/// Where the window is in its cycle.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// It doubles in each round trip, until there is a queue or the threshold is reached. Since when, if after a slowdown.
    SlowStart(Option<Instant>),
    /// It keeps to the target; the next slowdown is due.
    Steady(Instant),
    /// It is nearly closed, since, until.
    Slowdown(Instant, Instant),
}

/// The window of one connection.
#[derive(Debug)]
pub(super) struct Congestion {
    /// Bytes.
    window: f64,
    /// Where slow start ends.
    threshold: f64,
    phase: Phase,
    /// Packets that were sent before this one, in the order of sending, are lost on account of what was answered already.
    answered: u64,
    /// The window and the threshold before the last loss.
    before_loss: Option<(f64, f64)>,
}

impl Congestion {
    /// For packets of so many bytes.
    pub(super) fn new(packet: usize) -> Congestion {
        Congestion {
            window: (FIRST_WINDOW * packet) as f64,
            threshold: f64::INFINITY,
            phase: Phase::SlowStart(None),
            answered: 0,
            before_loss: None,
        }
    }

    /// Bytes that may be under way.
    pub(super) fn window(&self) -> usize {
        self.window as usize
    }

    /// So many bytes were acknowledged of `under_way`; packets have `packet` bytes, and wait so long in queues.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        acked: usize,
        under_way: usize,
        packet: usize,
        round_trip: &RoundTrip,
        queuing: Option<Duration>,
    ) {
        let (acked, packet) = (acked as f64, packet as f64);
        let queue = queuing.unwrap_or(Duration::ZERO).as_secs_f64() / TARGET.as_secs_f64();
        // A window that is not used says nothing about the path.
        let is_used = under_way as f64 + 2.0 * packet >= self.window;
        match self.phase {
            Phase::SlowStart(since) => {
                // A packet that found a queue was sent a round trip ago: the window has doubled since.
                if queue > 0.5 || self.window >= self.threshold {
                    self.end_slow_start(now, since, round_trip);
                } else if is_used || under_way as f64 >= self.window / 2.0 {
                    self.window = (self.window + acked).min(self.threshold);
                }
            }
            Phase::Steady(due) if now >= due => {
                // Without a queue the least delay has just been seen.
                if queue < 0.25 {
                    self.phase = Phase::Steady(now + MIN_BETWEEN_SLOWDOWNS);
                } else {
                    self.phase = Phase::Slowdown(now, now + 2 * round_trip.smoothed());
                    self.threshold = self.window;
                    self.window = MIN_WINDOW * packet;
                }
            }
            Phase::Steady(_) => self.keep_to_target(acked, is_used, packet, round_trip, queue),
            Phase::Slowdown(since, until) => {
                if now >= until {
                    self.phase = Phase::SlowStart(Some(since));
                }
            }
        }
        self.window = self.window.max(MIN_WINDOW * packet);
    }

    fn end_slow_start(&mut self, now: Instant, since: Option<Instant>, round_trip: &RoundTrip) {
        let wait = match since {
            // What the queue was made of may have been there before us.
            None => 2 * round_trip.smoothed(),
            Some(since) => (now.saturating_duration_since(since) * SLOWDOWN_RATIO).max(MIN_BETWEEN_SLOWDOWNS),
        };
        self.phase = Phase::Steady(now + wait);
    }

    fn keep_to_target(&mut self, acked: f64, is_used: bool, packet: f64, round_trip: &RoundTrip, queue: f64) {
        let of_a_round_trip = acked / self.window;
        let way = round_trip.least().unwrap_or(TARGET).as_secs_f64() / TARGET.as_secs_f64();
        let mut gain = if is_used { GAIN * packet * way.clamp(0.125, 1.0) } else { 0.0 };
        if queue > 1.0 {
            // As much for everybody, while each gives in proportion to what it has: so their shares become even.
            gain -= self.window * (queue - 1.0);
        } else if queue < 0.25 && is_used {
            gain = gain.max(self.window * SHARE_OF_WINDOW);
        }
        self.window += gain.max(-self.window / 2.0) * of_a_round_trip;
    }

    /// The packet that was sent as number `order` is lost; `next_order` is sent next. Of what is lost in one round trip the first counts.
    pub(super) fn on_loss(
        &mut self,
        now: Instant,
        order: u64,
        next_order: u64,
        packet: usize,
        round_trip: &RoundTrip,
        queuing: Option<Duration>,
    ) {
        if order < self.answered {
            return;
        }
        self.answered = next_order;
        self.before_loss = Some((self.window, self.threshold));
        let has_queue = queuing.is_some_and(|queuing| queuing > TARGET / 4);
        let share = if has_queue { AFTER_LOSS } else { AFTER_ODD_LOSS };
        match self.phase {
            Phase::Slowdown(..) => self.threshold = (self.threshold * share).max(self.window),
            Phase::SlowStart(_) | Phase::Steady(_) => {
                self.window = (self.window * share).max(MIN_WINDOW * packet as f64);
                self.threshold = self.window;
            }
        }
        if let Phase::SlowStart(since) = self.phase {
            self.end_slow_start(now, since, round_trip);
        }
    }

    /// What counted as lost was late.
    pub(super) fn undo_loss(&mut self) {
        if let Some((window, threshold)) = self.before_loss.take() {
            self.window = self.window.max(window);
            self.threshold = self.threshold.max(threshold);
        }
    }

    /// Nothing has been acknowledged for long, of `under_way` bytes.
    pub(super) fn on_timeout(&mut self, under_way: usize, next_order: u64, packet: usize) {
        let least = MIN_WINDOW * packet as f64;
        self.answered = next_order;
        self.before_loss = None;
        self.threshold = (under_way as f64 * AFTER_LOSS).max(least);
        self.window = least;
        self.phase = Phase::SlowStart(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 1000;

    struct Flow {
        now: Instant,
        congestion: Congestion,
        round_trip: RoundTrip,
    }

    impl Flow {
        fn new(rtt: Duration) -> Flow {
            let mut round_trip = RoundTrip::default();
            round_trip.on_sample(rtt);
            Flow { now: Instant::now(), congestion: Congestion::new(PACKET), round_trip }
        }

        /// A full window is acknowledged, with so long a queue.
        fn round(&mut self, queue_ms: u64) -> usize {
            let window = self.congestion.window();
            let steps = window.div_ceil(PACKET);
            for _ in 0..steps {
                self.now += self.round_trip.smoothed() / steps as u32;
                let under_way = self.congestion.window();
                let queuing = Some(Duration::from_millis(queue_ms));
                self.congestion.on_ack(self.now, PACKET, under_way, PACKET, &self.round_trip, queuing);
            }
            self.congestion.window()
        }

        fn lose(&mut self, order: u64, next: u64, queue_ms: u64) -> usize {
            let queuing = Some(Duration::from_millis(queue_ms));
            self.congestion.on_loss(self.now, order, next, PACKET, &self.round_trip, queuing);
            self.congestion.window()
        }
    }

    #[test]
    fn it_doubles_until_there_is_a_queue() {
        let mut flow = Flow::new(Duration::from_millis(100));
        assert_eq!([flow.round(0), flow.round(0), flow.round(5)], [20_000, 40_000, 80_000]);
        let ended = flow.round(40);
        assert!((80_000..84_000).contains(&ended), "{ended}");
        let steady = flow.round(0);
        assert!(steady > ended && steady < ended + 4 * PACKET, "{steady}");
    }

    #[test]
    fn beyond_the_target_it_shrinks_and_to_two_packets_at_the_least() {
        let mut flow = Flow::new(Duration::from_millis(100));
        (0..4).for_each(|_| _ = flow.round(0));
        let before = flow.lose(0, 1, 0);
        let after = flow.round(75);
        assert!(after < before, "{after}");
        (0..100).for_each(|_| _ = flow.round(500));
        assert_eq!(flow.congestion.window(), 2 * PACKET);
    }

    #[test]
    fn losses_of_one_round_trip_count_once_and_what_was_late_counts_not_at_all() {
        let mut flow = Flow::new(Duration::from_millis(100));
        (0..5).for_each(|_| _ = flow.round(0));
        let before = flow.congestion.window();
        let halved = flow.lose(100, 400, 40);
        assert_eq!(halved, before / 2);
        assert_eq!(flow.lose(300, 500, 40), halved);
        flow.congestion.undo_loss();
        assert_eq!(flow.congestion.window(), before);
        assert_eq!(flow.lose(500, 600, 0), (before as f64 * AFTER_ODD_LOSS) as usize);
    }

    #[test]
    fn it_slows_down_now_and_then_where_there_is_a_queue() {
        let mut flow = Flow::new(Duration::from_millis(100));
        flow.round(0);
        flow.round(40);
        let began = flow.now;
        while flow.round(40) > 2 * PACKET {
            assert!(flow.now < began + Duration::from_secs(1));
        }
        let slow = flow.now;
        while flow.round(0) < 15 * PACKET {}
        assert!(flow.now < slow + Duration::from_secs(2));
        let back = flow.now;
        while flow.round(50) > 2 * PACKET {}
        assert!(flow.now >= back + MIN_BETWEEN_SLOWDOWNS);
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut flow = Flow::new(Duration::from_millis(100));
        for _ in 0..100 {
            flow.congestion.on_ack(flow.now, PACKET, PACKET, PACKET, &flow.round_trip, Some(Duration::ZERO));
        }
        assert_eq!(flow.congestion.window(), 10 * PACKET);
    }
}
