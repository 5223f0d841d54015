//! A rate limit that all connections share: a bucket of bytes that fills at the rate.
//!
//! Connections take turns in the order in which they asked, so that none of them, and no torrent,
//! takes all of it.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// What the bucket holds at the most, in seconds of its rate: short, so that the limit holds over
/// any second.
const DEPTH: f64 = 0.1;

/// Bytes of one turn: small enough to share a slow limit, large enough not to wake for little.
const TURN: f64 = 64.0 * 1024.0;

/// Bytes of one turn at the least.
const LEAST_TURN: f64 = 1024.0;

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
        self.rate.map_or(usize::MAX, |rate| (rate * DEPTH).clamp(LEAST_TURN, TURN) as usize)
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
        if self.tokens.get() <= 0.0 {
            let missing = self.turn() as f64 - self.tokens.get();
            sleep(Duration::from_secs_f64((missing / rate).clamp(0.001, 60.0))).await;
            self.fill(rate);
        }
    }

    fn fill(&self, rate: f64) {
        let now = Instant::now();
        let passed = self.filled.replace(Some(now)).map_or(0.0, |at| (now - at).as_secs_f64());
        let depth = (rate * DEPTH).max(LEAST_TURN);
        self.tokens.set((self.tokens.get() + rate * passed).min(depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_rate_holds_and_everybody_gets_a_share() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime.unwrap(), async {
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
}
