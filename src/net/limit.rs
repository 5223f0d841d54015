//! A rate limit that all connections share: a bucket of bytes that fills at the rate.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What the bucket holds at the most, in seconds of its rate: short, so that the limit holds over
/// any second.
const DEPTH: f64 = 0.1;

/// The bucket holds at least this much, so that a slow limit does not mean tiny reads.
const LEAST_DEPTH: f64 = 4096.0;

/// A limit on bytes a second.
#[derive(Debug)]
pub struct Limit {
    rate: Option<f64>,
    tokens: Cell<f64>,
    filled: Cell<Option<Instant>>,
}

impl Limit {
    /// `None`: no limit.
    pub fn new(rate: Option<u64>) -> Limit {
        Limit { rate: rate.map(|rate| rate.max(1) as f64), tokens: Cell::new(0.0), filled: Cell::new(None) }
    }

    /// Bytes that may go now: 0 if none, `usize::MAX` without a limit.
    pub fn allowance(&self) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let now = Instant::now();
        let passed = self.filled.replace(Some(now)).map_or(DEPTH, |at| (now - at).as_secs_f64());
        let depth = (rate * DEPTH).max(LEAST_DEPTH);
        self.tokens.set((self.tokens.get() + rate * passed).min(depth));
        self.tokens.get().max(0.0) as usize
    }

    /// So many bytes went; a few more than the allowance may, they are paid back by waiting.
    pub fn spend(&self, bytes: usize) {
        if self.rate.is_some() {
            self.tokens.set(self.tokens.get() - bytes as f64);
        }
    }

    /// Until something may go again: a fraction of the depth, so that waiters do not spin.
    pub async fn wait(&self) {
        let Some(rate) = self.rate else { return };
        let missing = (rate * DEPTH).clamp(1024.0, LEAST_DEPTH * 4.0) - self.tokens.get();
        if missing > 0.0 {
            sleep_until(Instant::now() + Duration::from_secs_f64((missing / rate).clamp(0.001, 5.0))).await;
        }
    }
}
