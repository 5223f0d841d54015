//! When a request that nobody answers is sent again.

use std::time::{Duration, Instant};

/// From the first try to the second; each further wait is twice as long (RFC 6886, 3.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// How often a request is sent before the other side counts as silent (RFC 6886, 3.1): for 128 s in all.
pub(super) const MAX_TRIES: u32 = 9;

/// The tries of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tries {
    sent: u32,
    next: Instant,
}

impl Tries {
    /// The first is due now.
    pub(super) fn new(now: Instant) -> Tries {
        Tries { sent: 0, next: now }
    }

    /// How often it has been sent.
    pub(super) fn sent(&self) -> u32 {
        self.sent
    }

    /// When it is sent again, or was sent in vain.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// It is sent now.
    pub(super) fn send(&mut self, now: Instant) {
        self.next = now + FIRST_WAIT * 2u32.pow(self.sent.min(16));
        self.sent += 1;
    }
}
