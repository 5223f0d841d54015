//! How many blocks to have in flight with one peer: its rate times its delay, and a little more.
//!
//! Every block that arrives samples the delivery rate: the bytes that came between its request and
//! its arrival, over that time. With W bytes in flight and a delay of T that is W/T, so a window of
//! rate x (T + [`SLACK`]) grows by (T + SLACK)/T each round trip as long as it is the window that
//! limits, and stands still when it is the path or the peer. The largest sample of the last
//! seconds counts, so noise does not shrink it. (The idea of a delivery-rate sample is BBR's.)

use std::time::{Duration, Instant};

use crate::layout::BLOCK_LENGTH;

/// What a peer should have queued beyond the delay of the path, so that it never runs dry between
/// two visits of ours.
pub const SLACK: Duration = Duration::from_millis(300);

/// The same until the rate has stopped growing from one round trip to the next: a long path opens
/// ten times as wide each round trip instead of four times.
pub const OPENING_SLACK: Duration = Duration::from_millis(900);

/// How much faster than the last a round trip must be to count as growth.
const STILL_GROWING: f64 = 1.25;

/// Blocks asked of a peer of which nothing is known yet.
pub const INITIAL: u32 = 16;

/// Blocks asked of the slowest peer: one on its way, one queued.
pub const LEAST: u32 = 2;

/// Requests that a peer takes until its extension handshake says otherwise (`reqq`, BEP 10);
/// libtorrent's default for others.
pub const DEFAULT_REQQ: u32 = 250;

/// Bytes a second expected of a peer of which nothing is known yet.
const UNKNOWN_RATE: f64 = 256.0 * 1024.0;

/// For how long the largest sample counts, at least.
const MEMORY: Duration = Duration::from_secs(3);

/// What has to be kept with a request to sample the rate when its block arrives.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    at: Instant,
    delivered: u64,
}

impl Sent {
    /// When the request was made.
    pub fn at(&self) -> Instant {
        self.at
    }
}

/// The window of one peer.
#[derive(Clone, Debug)]
pub struct Window {
    delivered: u64,
    least_delay: Option<Duration>,
    best: f64,
    best_before: f64,
    period_began: Instant,
    reqq: u32,
    /// `delivered` and the best rate when the current round trip began, until the rate stops growing.
    opening: Option<(u64, f64)>,
}

impl Window {
    /// The window of a peer of which nothing is known.
    pub fn new(now: Instant) -> Window {
        Window {
            delivered: 0,
            least_delay: None,
            best: 0.0,
            best_before: 0.0,
            period_began: now,
            reqq: DEFAULT_REQQ,
            opening: Some((0, 0.0)),
        }
    }

    /// The peer says how many requests it takes.
    pub fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq.max(1);
    }

    /// A request goes out; what is returned comes back with [`Window::on_block`].
    pub fn on_request(&self, now: Instant) -> Sent {
        Sent { at: now, delivered: self.delivered }
    }

    /// The block of a request arrived.
    pub fn on_block(&mut self, now: Instant, sent: Sent, bytes: u32) {
        self.delivered += u64::from(bytes);
        let delay = now.saturating_duration_since(sent.at);
        self.least_delay = Some(self.least_delay.map_or(delay, |least| least.min(delay)));
        if now.saturating_duration_since(self.period_began) > MEMORY.max(delay * 4) {
            self.best_before = std::mem::replace(&mut self.best, 0.0);
            self.period_began = now;
        }
        // A millisecond at the least: on loopback whole batches arrive in no time at all.
        let seconds = delay.as_secs_f64().max(1e-3);
        self.best = self.best.max((self.delivered - sent.delivered) as f64 / seconds);
        // A round trip is over when what was asked for after its beginning arrives.
        if let Some((began, rate)) = self.opening
            && sent.delivered > began
        {
            self.opening = (self.best > rate * STILL_GROWING).then_some((self.delivered, self.best));
        }
    }

    /// How long a block may take before something is wrong: several times what this peer needs for
    /// all that is asked of it.
    pub fn patience(&self, in_flight: usize) -> Duration {
        let (least, most) = (Duration::from_secs(4), Duration::from_secs(30));
        let Some(delay) = self.least_delay else { return Duration::from_secs(10) };
        let rate = self.best.max(self.best_before).max(1.0);
        let queue = in_flight as f64 * f64::from(BLOCK_LENGTH) / rate;
        ((delay + Duration::from_secs_f64(queue.min(30.0))) * 4).clamp(least, most)
    }

    /// Blocks to have in flight.
    pub fn blocks(&self) -> u32 {
        let Some(delay) = self.least_delay else { return INITIAL.min(self.reqq) };
        let rate = self.best.max(self.best_before);
        let slack = if self.opening.is_some() { OPENING_SLACK } else { SLACK };
        let bytes = rate * (delay + slack).as_secs_f64();
        ((bytes / f64::from(BLOCK_LENGTH)).ceil() as u32).clamp(LEAST, self.reqq.max(LEAST)).min(self.reqq)
    }

    /// Bytes a second that may be expected of this peer: what it has shown lately.
    pub fn expected_rate(&self) -> f64 {
        self.least_delay.map_or(UNKNOWN_RATE, |_| self.best.max(self.best_before).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A peer behind a path: it answers in order at `rate` bytes a second, each answer `delay` after
    /// it was asked for at the earliest. Returns (window at the end, seconds until 90 % of the rate).
    fn run(rate: f64, delay: f64, reqq: u32, seconds: f64) -> (u32, Option<f64>) {
        let start = Instant::now();
        let at = |t: f64| start + Duration::from_secs_f64(t);
        let mut window = Window::new(start);
        window.set_reqq(reqq);
        let (mut now, mut free, mut reached) = (0.0, 0.0f64, None);
        let mut queue: VecDeque<(f64, Sent)> = VecDeque::new();
        let mut times = VecDeque::new();
        while now < seconds {
            while queue.len() < window.blocks() as usize {
                free = free.max(now + delay) + f64::from(BLOCK_LENGTH) / rate;
                queue.push_back((free, window.on_request(at(now))));
            }
            let (arrival, sent) = queue.pop_front().unwrap();
            now = arrival;
            window.on_block(at(now), sent, BLOCK_LENGTH);
            times.push_back(now);
            while times.front().is_some_and(|&t| t < now - 0.1) {
                times.pop_front();
            }
            if times.len() as f64 * f64::from(BLOCK_LENGTH) / 0.1 > 0.9 * rate {
                reached.get_or_insert(now);
            }
        }
        (window.blocks(), reached)
    }

    #[test]
    fn a_long_fat_path_is_filled_in_a_few_round_trips() {
        let (blocks, reached) = run(125e6, 0.1, 2000, 5.0);
        assert!(blocks >= 763, "{blocks} blocks do not fill 1 Gbit/s at 100 ms");
        assert!(reached.unwrap() < 0.7, "full rate only after {reached:?} s");
    }

    #[test]
    fn a_slow_peer_holds_few_blocks() {
        let (blocks, _) = run(20e3, 0.05, 2000, 60.0);
        assert!(blocks <= 3, "{blocks}");
    }

    #[test]
    fn the_peers_own_limit_is_never_exceeded() {
        assert_eq!(run(1e9, 0.1, 250, 3.0).0, 250);
        assert_eq!(run(1e9, 0.1, 1, 3.0).0, 1);
    }

    #[test]
    fn the_window_does_not_run_away_when_the_peer_is_what_limits() {
        let (short, _) = run(5e6, 0.02, 100_000, 5.0);
        let (long, _) = run(5e6, 0.02, 100_000, 60.0);
        assert!(long <= short + short / 4, "{short} -> {long}");
        assert!(f64::from(long) * 16384.0 < 5e6, "more than a second's worth: {long}");
    }
}
