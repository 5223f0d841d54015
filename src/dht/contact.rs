//! How contact with the network is made, and made again when it is lost.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Addresses that somebody has named and that are remembered: the latest.
const MAX_NAMED: usize = 64;

/// Nodes of a saved table have so long to answer before bootstrap nodes are asked for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts while nobody answers; doubled each time, up to the maximum.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const MAX_RETRY: Duration = Duration::from_secs(5 * 60);

/// Contact is lost when so many queries in a row were in vain, and nobody has answered for so long.
const LOST_IN_ROW: u32 = 3;
const SILENCE: Duration = Duration::from_secs(30);

/// Whom to ask when nobody is known, and when.
#[derive(Debug)]
pub(super) struct Contact {
    /// Addresses that have been named and are to be asked.
    pub(super) to_ask: VecDeque<SocketAddr>,
    /// Addresses that have been named at some time, the latest last: asked again when contact is lost.
    named: VecDeque<SocketAddr>,
    /// When somebody answered last.
    last_answer: Option<Instant>,
    /// Queries in vain since.
    lost_in_row: u32,
    /// When the next attempt is due; `None`: there is contact.
    attempt_at: Option<Instant>,
    retry: Duration,
    /// [`super::DhtOutput::Started`] has been said.
    pub(super) is_started: bool,
}

impl Contact {
    pub(super) fn new(now: Instant, has_saved_nodes: bool) -> Contact {
        let patience = if has_saved_nodes { PATIENCE } else { Duration::ZERO };
        Contact {
            to_ask: VecDeque::new(),
            named: VecDeque::new(),
            last_answer: None,
            lost_in_row: 0,
            attempt_at: Some(now + patience),
            retry: FIRST_RETRY,
            is_started: false,
        }
    }

    /// Somebody said that a node may be here.
    pub(super) fn hear_of(&mut self, address: SocketAddr) {
        push_bounded(&mut self.to_ask, address);
        push_bounded(&mut self.named, address);
    }

    /// Forgets the addresses of which this is not true.
    pub(super) fn retain(&mut self, is_kept: impl Fn(SocketAddr) -> bool) {
        self.to_ask.retain(|&address| is_kept(address));
        self.named.retain(|&address| is_kept(address));
    }

    /// An address is still to be asked.
    pub(super) fn ask_later(&mut self, address: SocketAddr) {
        push_bounded(&mut self.to_ask, address);
    }

    /// Somebody has answered. Returns whether nobody had for long.
    pub(super) fn on_answer(&mut self, now: Instant) -> bool {
        self.last_answer = Some(now);
        self.lost_in_row = 0;
        self.retry = FIRST_RETRY;
        self.attempt_at.take().is_some()
    }

    /// A query has been in vain.
    pub(super) fn on_lost(&mut self, now: Instant) {
        self.lost_in_row = self.lost_in_row.saturating_add(1);
        let is_silent = self.last_answer.is_none_or(|at| at + SILENCE <= now);
        if is_silent && self.lost_in_row >= LOST_IN_ROW && self.attempt_at.is_none() {
            self.attempt_at = Some(now);
        }
    }

    /// Whether somebody has answered since; a query that others' answers have overtaken has failed by itself.
    pub(super) fn has_answered_since(&self, sent_at: Instant) -> bool {
        self.last_answer.is_some_and(|at| at >= sent_at)
    }

    /// Whether nobody has ever answered, or nobody does any more.
    pub(super) fn is_alone(&self) -> bool {
        self.attempt_at.is_some()
    }

    /// Whether another attempt is due; it counts as made, and all that were ever named are to be asked again.
    pub(super) fn attempt(&mut self, now: Instant) -> bool {
        if self.attempt_at.is_none_or(|at| at > now) {
            return false;
        }
        self.attempt_at = Some(now + self.retry);
        self.retry = (self.retry * 2).min(MAX_RETRY);
        for address in self.named.clone() {
            push_bounded(&mut self.to_ask, address);
        }
        true
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.attempt_at
    }
}

fn push_bounded(queue: &mut VecDeque<SocketAddr>, address: SocketAddr) {
    if !queue.contains(&address) {
        if queue.len() == MAX_NAMED {
            queue.pop_front();
        }
        queue.push_back(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_at_longer_and_longer_intervals_until_somebody_answers() {
        let start = Instant::now();
        let mut contact = Contact::new(start, false);
        let mut waits = Vec::new();
        let mut now = start;
        for _ in 0..9 {
            let due = contact.next_due().unwrap();
            waits.push((due - now).as_secs());
            now = due;
            assert!(contact.attempt(now) && !contact.attempt(now));
        }
        assert_eq!(waits, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
        assert!(contact.on_answer(now) && !contact.on_answer(now) && !contact.is_alone());
        (0..2).for_each(|_| contact.on_lost(now + SILENCE / 2));
        contact.on_lost(now + SILENCE / 2);
        assert_eq!(contact.next_due(), None, "others have answered just now");
        contact.on_lost(now + SILENCE);
        assert!(contact.attempt(now + SILENCE));
        assert_eq!(contact.next_due(), Some(now + SILENCE + FIRST_RETRY));
    }

    #[test]
    fn who_was_named_is_asked_again_and_the_latest_are_remembered() {
        let now = Instant::now();
        let mut contact = Contact::new(now, true);
        assert!(!contact.attempt(now), "saved nodes come first");
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (1..=100).chain(90..=100).for_each(|port| contact.hear_of(address(port)));
        assert!(contact.to_ask.drain(..).eq((37..=100).map(address)));
        assert!(contact.attempt(now + PATIENCE));
        assert_eq!(contact.to_ask.len(), MAX_NAMED);
    }
}
