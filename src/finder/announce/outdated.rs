//! Trackers that know something of us that is not so any more, or that could not be told.

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

    /// What everything leaves by works again, after it did not: trackers of which nothing was heard meanwhile may be asked at once.
    pub fn way_is_back(&mut self, now: Instant) {
        self.now = Some(now);
        let unreached = self.trackers.iter_mut().filter(|tracker| tracker.is_unreached && !tracker.dismissed);
        let may_be_asked = unreached.map(|tracker| tracker.back_off_ends = None).count() > 0;
        if may_be_asked && self.phase == AnnouncerPhase::Running && self.round.is_none() {
            (self.next_round, self.early_round) = (Some(now), Some(now));
        }
    }
}
