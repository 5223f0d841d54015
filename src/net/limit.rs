//! A rate limit that all connections share: a bucket of bytes that fills at the rate.
//!
//! Connections take turns in the order in which they asked, so that none of them, and no torrent,
//! takes all of it.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// What the bucket holds at the most, in seconds of its rate: a loop that is late by less loses nothing, and with what the smallest buffers take in
/// beforehand any second has at most 1.3 times the rate.
const DEPTH: f64 = 0.1;

/// A turn, in seconds of the rate: short enough that many share a slow limit.
const TURN_SECONDS: f64 = 0.02;

/// Bytes of one turn at the most and at the least: not to wake up for little.
const MAX_TURN: f64 = 512.0 * 1024.0;
const MIN_TURN: f64 = 512.0;

/// What the kernel may take in of the first connection before its turn, in seconds of the rate: a peer so far away can still use all of it.
const RECEIVE_SECONDS: f64 = 0.125;

/// The second connection gets half of that, the third a third, and so on, so that all together do not take in several seconds' bytes; but each this
/// much, in seconds of the rate, for it may be the last that is left.
const LEAST_RECEIVE_SECONDS: f64 = RECEIVE_SECONDS / 4.0;

/// Bytes of a receive buffer at the least: with less, TCP falls back on timers.
const MIN_RECEIVE_BUFFER: f64 = 2048.0;

/// From so many bytes on it is left to the kernel, which begins with about as much, and does not grant much more to those who ask.
const FREE_RECEIVE_BUFFER: f64 = 192.0 * 1024.0;

/// A limit on bytes a second.
#[derive(Debug)]
pub(crate) struct Limit {
    rate: Option<f64>,
    /// Negative: spent in advance, and waited for before the next turn.
    tokens: Cell<f64>,
    filled: Cell<Option<Instant>>,
    /// Who holds it waits for its turn; the others wait for it in order.
    queue: Mutex<()>,
}

impl Limit {
    /// `None`: no limit.
    pub(crate) fn new(rate: Option<u64>) -> Limit {
        Limit {
            rate: rate.map(|rate| rate.max(1) as f64),
            tokens: Cell::new(0.0),
            filled: Cell::new(None),
            queue: Mutex::new(()),
        }
    }

    /// Whether there is a limit.
    pub(crate) fn is_set(&self) -> bool {
        self.rate.is_some()
    }

    /// Bytes that go in one turn.
    pub(crate) fn turn(&self) -> usize {
        self.rate.map_or(usize::MAX, |rate| (rate * TURN_SECONDS).clamp(MIN_TURN, MAX_TURN) as usize)
    }

    /// Bytes that the receive buffer of a connection should have, beside so many others, so that what is not due stays with its sender; `None`: as
    /// many as there would be without a limit. The kernel doubles it, and offers about half.
    pub(crate) fn receive_buffer(&self, others: usize) -> Option<u32> {
        let seconds = (RECEIVE_SECONDS / (others + 1) as f64).max(LEAST_RECEIVE_SECONDS);
        let bytes = (self.rate? * seconds).max(MIN_RECEIVE_BUFFER);
        (bytes < FREE_RECEIVE_BUFFER).then_some(bytes as u32)
    }

    /// How long so many bytes take by the limit; no time without one.
    pub(crate) fn time_of(&self, bytes: usize) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate))
    }

    /// Bytes a second, if there is a limit.
    pub(crate) fn bytes_a_second(&self) -> Option<usize> {
        self.rate.map(|rate| rate as usize)
    }

    /// So many bytes went.
    pub(crate) fn spend(&self, bytes: usize) {
        if self.rate.is_some() {
            self.tokens.set(self.tokens.get() - bytes as f64);
        }
    }

    /// So many bytes that were spent in advance did not go after all.
    pub(crate) fn refund(&self, bytes: usize) {
        if self.rate.is_some() {
            self.tokens.set(self.tokens.get() + bytes as f64);
        }
    }

    /// Waits for a turn. May be given up at any time.
    pub(crate) async fn wait(&self) {
        let Some(rate) = self.rate else { return };
        let _turn = self.queue.lock().await;
        self.fill(rate);
        while self.tokens.get() <= 0.0 {
            let missing = self.turn() as f64 - self.tokens.get();
            sleep(Duration::from_secs_f64((missing / rate).clamp(0.001, 60.0))).await;
            self.fill(rate);
        }
    }

    fn fill(&self, rate: f64) {
        let now = Instant::now();
        let passed = self.filled.replace(Some(now)).map_or(0.0, |at| (now - at).as_secs_f64());
        let depth = (rate * DEPTH).max(MIN_TURN);
        self.tokens.set((self.tokens.get() + rate * passed).min(depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn in_virtual_time(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
    }

    #[test]
    fn the_rate_holds_and_everybody_gets_a_share() {
        in_virtual_time(async {
            let limit = Rc::new(Limit::new(Some(1_000_000)));
            let shares = Rc::new([const { Cell::new(0usize) }; 5]);
            for number in 0..5 {
                let (limit, shares) = (limit.clone(), shares.clone());
                tokio::task::spawn_local(async move {
                    loop {
                        limit.wait().await;
                        // The greedy one takes more in a turn than it should.
                        let bytes = limit.turn() * if number == 0 { 2 } else { 1 };
                        limit.spend(bytes);
                        shares[number].set(shares[number].get() + bytes);
                    }
                });
            }
            sleep(Duration::from_secs(20)).await;
            let sum: usize = shares.iter().map(Cell::get).sum();
            assert!((19_000_000..21_000_000).contains(&sum), "{sum} bytes in 20 s");
            assert!(shares.iter().all(|share| share.get() > sum / 8), "{shares:?}");
        });
    }

    /// What goes by when `peers` take turns at `rate`, each after a pause of up to so long: when, and how many bytes.
    fn flow(rate: u64, peers: u64, pause: Duration) -> Vec<(Duration, usize)> {
        let gone = Rc::new(RefCell::new(Vec::new()));
        let result = gone.clone();
        in_virtual_time(async move {
            let (limit, begin) = (Rc::new(Limit::new(Some(rate))), Instant::now());
            for number in 0..peers {
                let (limit, gone) = (limit.clone(), gone.clone());
                tokio::task::spawn_local(async move {
                    let mut rng = fastrand::Rng::with_seed(number);
                    loop {
                        sleep(pause.mul_f64(rng.f64())).await;
                        limit.wait().await;
                        // Now and then there is less than a turn.
                        let bytes = if rng.bool() { limit.turn() } else { rng.usize(1..=limit.turn()) };
                        limit.spend(bytes);
                        gone.borrow_mut().push((begin.elapsed(), bytes));
                    }
                });
            }
            sleep(Duration::from_secs(13)).await;
        });
        result.take()
    }

    #[test]
    fn over_ten_seconds_it_is_the_rate_and_in_no_second_a_third_more() {
        let second = Duration::from_secs(1);
        for rate in [10 << 10, 100 << 10, 1 << 20, 10 << 20, 50 << 20] {
            for peers in [1, 10, 50] {
                // One alone must not be slower by itself.
                let gone = flow(rate, peers, Duration::from_millis(if peers == 1 { 5 } else { 50 }));
                let between = |from: Duration, to: Duration| -> f64 {
                    let inside = gone.iter().filter(|(at, _)| (from..to).contains(at));
                    inside.map(|&(_, bytes)| bytes).sum::<usize>() as f64
                };
                let ratio = between(2 * second, 12 * second) / (10 * rate) as f64;
                assert!((0.95..=1.05).contains(&ratio), "{ratio} of {rate} with {peers} peers");
                for &(from, _) in gone.iter().step_by(1 + gone.len() / 500) {
                    let ratio = between(from, from + second) / rate as f64;
                    assert!(ratio <= 1.3, "{ratio} of {rate} in the second from {from:?} with {peers} peers");
                }
            }
        }
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        in_virtual_time(async {
            let (limit, begin) = (Limit::new(Some(100_000)), Instant::now());
            sleep(Duration::from_secs(60)).await;
            let mut bytes = 0;
            while begin.elapsed() < Duration::from_secs(61) {
                limit.wait().await;
                limit.spend(limit.turn());
                bytes += limit.turn();
            }
            assert!((95_000..=125_000).contains(&bytes), "{bytes} bytes in a second after a pause");
        });
    }

    #[test]
    fn receive_buffers_are_small_while_the_limit_is_low() {
        let buffer = |rate, others| Limit::new(rate).receive_buffer(others);
        assert_eq!(
            (buffer(None, 0), buffer(Some(50 << 20), 50), buffer(Some(2 << 20), 0)),
            (None, None, None)
        );
        let of_100_k = [0, 1, 3, 50].map(|others| buffer(Some(100 << 10), others));
        assert_eq!(of_100_k, [Some(12_800), Some(6400), Some(3200), Some(3200)]);
        assert_eq!(buffer(Some(1024), 0), Some(2048));
    }
}
