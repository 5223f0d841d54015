//! How many blocks to have in flight with one peer: its rate times its delay, and a little more.
//!
//! Every block that arrives samples the delivery rate: the bytes that came between its request and
//! its arrival, over that time. With W bytes in flight and a delay of T that is W/T, so a window of
//! rate x (T + slack) grows by (T + slack)/T each round trip as long as it is the window that
//! limits, and stands still when it is the path or the peer. The largest sample of the last
//! seconds counts, so noise does not shrink it. (The idea of a delivery-rate sample is BBR's.)
//!
//! A peer whose rate limiter lets go twice a second what is due until the next time looks very fast meanwhile. So
//! no sample is taken over less than two of its silences: what counts is what it gives in the long run.

use std::time::{Duration, Instant};

use crate::layout::BLOCK_LENGTH;

/// What a peer should have queued beyond the delay of the path, so that it never runs dry: twice the
/// longest silence between two of its blocks lately, and this much at the least. A peer that serves in
/// pulses, as some clients do each half second, has enough to do until the next; one that sends
/// steadily is not burdened with a long queue, which costs some clients dear.
pub(super) const LEAST_SLACK: Duration = Duration::from_millis(10);

/// And this much at the most.
pub(super) const MAX_SLACK: Duration = Duration::from_millis(600);

/// Bytes that a near peer has queued at the most beyond what is on the path. Some clients look through
/// their queue for each request, and a machine that is busy otherwise makes silences that look like pulses.
pub(super) const MAX_QUEUE: f64 = 8.0 * 1024.0 * 1024.0;

/// The same until the rate has stopped growing from one round trip to the next: a long path opens
/// ten times as wide each round trip instead of four times.
pub(super) const OPENING_SLACK: Duration = Duration::from_millis(900);

/// How much wider the window opens in a round trip at the most, beyond [`MAX_QUEUE`].
const OPENING_GAIN: f64 = 9.0;

/// How much faster than the last a round trip must be to count as growth.
const STILL_GROWING: f64 = 1.25;

/// Blocks asked of a peer of which nothing is known yet.
pub(super) const INITIAL: u32 = 16;

/// Blocks asked of the slowest peer: one on its way, one queued.
pub(super) const LEAST: u32 = 2;

/// Requests that a peer takes until its extension handshake says otherwise (`reqq`, BEP 10);
/// libtorrent's default for others.
pub(super) const DEFAULT_REQQ: u32 = 250;

/// Bytes a second expected of a peer of which nothing is known yet.
const UNKNOWN_RATE: f64 = 256.0 * 1024.0;

/// For how long the largest sample counts, at least.
const MEMORY: Duration = Duration::from_secs(3);

/// A sample is taken over so long at the least, and over so long at the most for the sake of a peer that serves in pulses.
const LEAST_SAMPLE: Duration = Duration::from_millis(50);
const MAX_PULSE: Duration = Duration::from_secs(1);

/// What has to be kept with a request to sample the rate when its block arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    at: Instant,
    delivered: u64,
}

impl Sent {
    /// When the request was made.
    pub(super) fn at(&self) -> Instant {
        self.at
    }
}

/// The window of one peer.
#[derive(Clone, Debug)]
pub(super) struct Window {
    delivered: u64,
    least_delay: Option<Duration>,
    best: f64,
    best_before: f64,
    last_block: Option<Instant>,
    /// The longest silence while something was asked for, in this period and in the one before.
    silence: Duration,
    silence_before: Duration,
    period_began: Instant,
    /// For how long something was asked for and not here, all in all.
    busy: Duration,
    /// `busy` and `delivered` at two moments that lie as far apart as a sample is long.
    marks: [(Duration, u64); 2],
    reqq: u32,
    /// `delivered` and the best rate when the current round trip began, until the rate stops growing.
    opening: Option<(u64, f64)>,
}

impl Window {
    /// The window of a peer of which nothing is known.
    pub(super) fn new(now: Instant) -> Window {
        Window {
            delivered: 0,
            least_delay: None,
            best: 0.0,
            best_before: 0.0,
            last_block: None,
            silence: Duration::ZERO,
            silence_before: Duration::ZERO,
            period_began: now,
            busy: Duration::ZERO,
            marks: [(Duration::ZERO, 0); 2],
            reqq: DEFAULT_REQQ,
            opening: Some((0, 0.0)),
        }
    }

    /// The peer says how many requests it takes.
    pub(super) fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq.max(1);
    }

    /// A request goes out; what is returned comes back with [`Window::on_block`].
    pub(super) fn on_request(&self, now: Instant) -> Sent {
        Sent { at: now, delivered: self.delivered }
    }

    /// The block of a request arrived.
    pub(super) fn on_block(&mut self, now: Instant, sent: Sent, bytes: u32) {
        self.delivered += u64::from(bytes);
        let delay = now.saturating_duration_since(sent.at);
        self.least_delay = Some(self.least_delay.map_or(delay, |least| least.min(delay)));
        let path = self.least_delay.unwrap_or(delay);
        if now.saturating_duration_since(self.period_began) > MEMORY.max(path * 4) {
            self.best_before = std::mem::replace(&mut self.best, 0.0);
            self.silence_before = std::mem::take(&mut self.silence);
            self.period_began = now;
        }
        let since = self.last_block.map_or(sent.at, |last| last.max(sent.at));
        let silence = now.saturating_duration_since(since);
        self.last_block = Some(now);
        self.busy += silence;
        if silence > self.longest_silence() && silence * 2 > LEAST_SAMPLE {
            // What was sampled until now was sampled between two pulses.
            (self.best, self.best_before) = (0.0, 0.0);
        }
        self.silence = self.silence.max(silence);
        self.best = self.best.max(self.sample(delay, sent));
        // A round trip is over when what was asked for after its beginning arrives.
        if let Some((began, rate)) = self.opening
            && sent.delivered > began
        {
            self.opening = (self.best > rate * STILL_GROWING).then_some((self.delivered, self.best));
        }
    }

    /// Bytes a second: since the block that has come was asked for, or over a longer time.
    fn sample(&mut self, delay: Duration, sent: Sent) -> f64 {
        let length = (self.longest_silence() * 2).clamp(LEAST_SAMPLE, MAX_PULSE);
        if self.busy - self.marks[1].0 >= length {
            self.marks = [self.marks[1], (self.busy, self.delivered)];
        }
        let [(busy, delivered), _] = self.marks;
        // The first block after the longest silence has waited for as long: what comes behind it may be one pulse too many, not this one.
        let is_first = self.best == 0.0 && self.best_before == 0.0 && delay >= LEAST_SAMPLE;
        match delay >= length || is_first {
            true => (self.delivered - sent.delivered) as f64 / delay.as_secs_f64(),
            false => (self.delivered - delivered) as f64 / (self.busy - busy).max(length).as_secs_f64(),
        }
    }

    fn longest_silence(&self) -> Duration {
        self.silence.max(self.silence_before)
    }

    /// How long a block may take before something is wrong: several times what this peer needs for
    /// all that is asked of it.
    pub(super) fn patience(&self, in_flight: usize) -> Duration {
        let (least, most) = (Duration::from_secs(4), Duration::from_secs(30));
        let Some(delay) = self.least_delay else { return Duration::from_secs(10) };
        let rate = self.best.max(self.best_before).max(1.0);
        let queue = in_flight as f64 * f64::from(BLOCK_LENGTH) / rate;
        ((delay + Duration::from_secs_f64(queue.min(30.0))) * 4).clamp(least, most)
    }

    /// Blocks to have in flight.
    pub(super) fn blocks(&self) -> u32 {
        let Some(delay) = self.least_delay else { return INITIAL.min(self.reqq) };
        let rate = self.best.max(self.best_before);
        let path = rate * delay.as_secs_f64();
        let (slack, most) = match self.opening {
            Some(_) => (OPENING_SLACK, path * OPENING_GAIN),
            None => (self.slack(delay), path),
        };
        let bytes = path + (rate * slack.as_secs_f64()).min(most.max(MAX_QUEUE));
        ((bytes / f64::from(BLOCK_LENGTH)).ceil() as u32).clamp(LEAST, self.reqq.max(LEAST)).min(self.reqq)
    }

    /// The same, but at least so many, if the peer takes them.
    pub(super) fn blocks_at_least(&self, least: u32) -> u32 {
        self.blocks().max(least.min(self.reqq))
    }

    fn slack(&self, delay: Duration) -> Duration {
        (self.longest_silence() * 2).max(delay / 2).clamp(LEAST_SLACK, MAX_SLACK)
    }

    /// Bytes a second that may be expected of this peer: what it has shown lately.
    pub(super) fn expected_rate(&self) -> f64 {
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
    fn a_peer_that_serves_in_pulses_has_enough_to_do_until_the_next() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.set_reqq(2000);
        // One quick answer, then everything that waits, 100 blocks at the most, every half second.
        let sent = window.on_request(start);
        window.on_block(start + Duration::from_millis(1), sent, BLOCK_LENGTH);
        let mut queue: VecDeque<Sent> = VecDeque::new();
        for pulse in 0..60u32 {
            let now = start + Duration::from_millis(500) * pulse + Duration::from_millis(2);
            while queue.len() < window.blocks() as usize {
                queue.push_back(window.on_request(now));
            }
            let served: Vec<Sent> = queue.drain(..queue.len().min(100)).collect();
            assert!(pulse < 20 || served.len() == 100, "only {} blocks in pulse {pulse}", served.len());
            let then = now + Duration::from_millis(498);
            served.into_iter().for_each(|sent| window.on_block(then, sent, BLOCK_LENGTH));
        }
    }

    #[test]
    fn a_near_and_fast_peer_is_not_burdened_with_a_long_queue() {
        let (blocks, _) = run(500e6, 0.0005, 2000, 20.0);
        assert!(blocks < 600, "{blocks}");
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
