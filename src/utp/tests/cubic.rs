//! A TCP flow with CUBIC (RFC 9438) that always has something to send, as far as it matters to others at the bottleneck: when a segment of 1500
//! bytes goes out, and how many.

use std::collections::BTreeMap;
use std::time::Duration;

const C: f64 = 0.4;
const BETA: f64 = 0.7;
const TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Cubic {
    window: f64,
    threshold: f64,
    /// The window before the last loss, and when that was.
    most: f64,
    epoch: Option<Duration>,
    friendly: f64,
    /// Segments under way, and when they were sent.
    under_way: BTreeMap<u64, Duration>,
    next: u64,
    answered: u64,
    round_trip: f64,
    progress: Duration,
    /// Segments that have arrived.
    pub arrived: u64,
}

impl Cubic {
    pub(super) fn new(now: Duration) -> Cubic {
        Cubic {
            window: 10.0,
            threshold: f64::INFINITY,
            most: 0.0,
            epoch: None,
            friendly: 0.0,
            under_way: BTreeMap::new(),
            next: 1,
            answered: 0,
            round_trip: 0.1,
            progress: now,
            arrived: 0,
        }
    }

    pub(super) fn next_segment(&mut self, now: Duration) -> Option<u64> {
        if now >= self.progress + TIMEOUT && !self.under_way.is_empty() {
            self.under_way.clear();
            self.lose(now);
            (self.window, self.progress) = (2.0, now);
        }
        if self.under_way.len() as f64 + 1.0 > self.window {
            return None;
        }
        if self.under_way.is_empty() {
            self.progress = now;
        }
        self.under_way.insert(self.next, now);
        self.next += 1;
        Some(self.next - 1)
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        (!self.under_way.is_empty()).then(|| self.progress + TIMEOUT)
    }

    pub(super) fn on_ack(&mut self, now: Duration, number: u64) {
        let Some(sent) = self.under_way.remove(&number) else { return };
        self.arrived += 1;
        self.progress = now;
        self.round_trip += ((now - sent).as_secs_f64() - self.round_trip) / 8.0;
        let rest = self.under_way.split_off(&number.saturating_sub(3));
        let lost = std::mem::replace(&mut self.under_way, rest);
        if lost.keys().next_back().is_some_and(|&last| last >= self.answered) {
            self.lose(now);
            return;
        }
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let epoch = *self.epoch.get_or_insert(now);
        let time = (now - epoch).as_secs_f64() + self.round_trip;
        let to_most = (self.most * (1.0 - BETA) / C).cbrt();
        let target = (C * (time - to_most).powi(3) + self.most).clamp(self.window, self.window * 1.5);
        self.window += (target - self.window) / self.window;
        self.friendly += 3.0 * (1.0 - BETA) / (1.0 + BETA) / self.window;
        self.window = self.window.max(self.friendly);
    }

    fn lose(&mut self, now: Duration) {
        self.answered = self.next;
        self.most = if self.window < self.most { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(2.0);
        (self.threshold, self.friendly, self.epoch) = (self.window, self.window, Some(now));
    }
}
