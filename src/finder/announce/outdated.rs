//! Trackers that know something of us that is not so any more.

use std::time::Instant;

use super::tracker::Tracker;
use super::{Announcer, AnnouncerPhase};

impl Announcer {
    /// By what port we can be called has changed: each tracker that knows us, or is being told of us, is told as soon as it may be asked.
    pub fn announce_again(&mut self, now: Instant) {
        self.now = Some(now);
        let knows = |tracker: &&mut Tracker| tracker.knows_us || tracker.outstanding.is_some();
        self.trackers.iter_mut().filter(knows).for_each(|tracker| tracker.outdated = true);
        if self.phase == AnnouncerPhase::Running && self.round.is_none() {
            let expected = self.trackers.iter().filter_map(Tracker::expects_us_at).min();
            self.next_round = expected.or(self.next_round);
        }
    }
}
