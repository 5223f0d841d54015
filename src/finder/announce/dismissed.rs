//! Trackers that are the torrent's no more: they are told that we are gone, and nothing else.

use std::net::SocketAddr;
use std::time::Instant;

use super::tracker::Tracker;
use super::{Announce, AnnounceEvent, Announcer, AnnouncerPhase, Token};

impl Announcer {
    /// From now on only these trackers, of those that there are, are the torrent's. The others are told `stopped` if they know us, also if
    /// that turns out later; what they still answer is not believed. Those that stay and that need not be waited for are asked at once.
    /// Returns whether one that goes has ever named peers.
    pub fn keep_only(&mut self, now: Instant, kept: &[Vec<String>]) -> bool {
        self.now = Some(now);
        let mut has_named = false;
        for tracker in &mut self.trackers {
            if tracker.dismissed || kept.iter().flatten().any(|url| *url == tracker.url) {
                continue;
            }
            tracker.dismissed = true;
            tracker.owes_completed = false;
            // One that is being told so already need not be told again.
            let is_told = tracker.outstanding.is_some_and(|it| it.event == Some(AnnounceEvent::Stopped));
            tracker.owes_stopped = tracker.knows_us && !is_told;
            has_named |= tracker.has_named;
            // The round does not wait for it.
            let was_in_round =
                tracker.outstanding.as_mut().is_some_and(|it| std::mem::take(&mut it.in_round));
            if let Some(round) = self.round.as_mut().filter(|_| was_in_round) {
                round.waiting = round.waiting.saturating_sub(1);
                round.patience_ends = now;
            }
        }
        for tier in &mut self.tiers {
            tier.retain(|&index| !self.trackers[index].dismissed);
        }
        let is_between_rounds = self.round.is_none() && self.phase == AnnouncerPhase::Running;
        if is_between_rounds && self.trackers.iter().any(|tracker| tracker.dismissed) {
            // Whoever has answered for all of them may be gone.
            (self.next_round, self.early_round) = (Some(now), Some(now));
        }
        has_named
    }

    /// A tracker has named peers, and its answer to this announce is still waited for. Returns whether it is to be believed.
    pub fn on_named_early(&mut self, token: Token) -> bool {
        let Some(tracker) = self.trackers.get_mut(token.tracker) else { return false };
        let is_asked = tracker.outstanding.is_some_and(|it| it.serial == token.serial);
        let is_believed = is_asked && !tracker.dismissed;
        tracker.has_named |= is_believed;
        is_believed
    }

    /// The tracker of this URL has named peers, asked for another hash of the torrent than by announces of this machine. Returns whether it is to
    /// be believed.
    pub fn on_named_beside(&mut self, url: &str, peers: &[SocketAddr]) -> bool {
        let asked = self.trackers.iter_mut().find(|tracker| tracker.url == url && !tracker.dismissed);
        let Some(tracker) = asked else { return false };
        tracker.has_named |= !peers.is_empty();
        true
    }

    pub(super) fn poll_dismissed(&mut self) -> Option<Announce> {
        let index = self.trackers.iter().position(is_to_be_told)?;
        self.trackers[index].owes_stopped = false;
        Some(self.announce(index, Some(AnnounceEvent::Stopped), false))
    }

    pub(super) fn dismissed_deadline(&self) -> Option<Instant> {
        self.now.filter(|_| self.trackers.iter().any(is_to_be_told))
    }
}

fn is_to_be_told(tracker: &Tracker) -> bool {
    tracker.dismissed && tracker.has_last_words()
}
