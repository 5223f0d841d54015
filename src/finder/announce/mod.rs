//! When to announce, where, and what an answer means for the next time (BEP 3, 12, 31).
//!
//! Owns the tiers of a torrent's trackers, their order, intervals, back-off, events and counters. Never
//! talks to a tracker: [`Announcer::poll`] says what is to be asked, [`Announcer::on_answer`] takes what came
//! back, and time comes in as an argument. The caller owes one `on_answer` for each [`Announce`].
//!
//! The order is BEP 12's: trackers are shuffled within their tier once, one that answers first moves to the
//! front of its tier, and every round begins with the first tier again. Two things are ours, for the sake
//! of time to first peer: a tracker that has not answered after [`PATIENCE`] is not waited for, the next one
//! is asked beside it; and an answer without a single peer, while peers are wanted, does not end the
//! round: the next tracker is asked too.

mod answer;
mod dismissed;
mod outdated;
#[cfg(test)]
mod tests;
mod tracker;

use std::collections::HashSet;
use std::time::{Duration, Instant};

pub use answer::{AnnounceEvent, AnnounceFailure, Answer, Outcome, RetryIn, TrackerStatus};
use tracker::{Outstanding, Tracker};

/// Trackers kept of one torrent; a list longer than this is cut.
pub const MAX_TRACKERS: usize = 200;

/// Peers asked for in one announce; trackers cap it as they like, usually at 50 to 200.
pub const NUMWANT: u32 = 200;

/// How long one tracker is waited for before the next one is asked beside it.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// What a tracker says about its interval counts between these two; beyond them it lies or errs.
const INTERVAL: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(24 * 3600);

/// An interval is lengthened by up to this part of it, so that the torrents of one tracker do not come together.
const SPREAD: f64 = 0.05;

/// Time between announces where the tracker does not say.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1800);

/// Least time between announces where the tracker does not say and peers are missed.
const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(300);

/// What a torrent has to do with its trackers just now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AnnounceNeed {
    /// Further peers would be of use.
    pub peers: bool,
    /// They are missed: nobody is left to call. The next announce comes before its time, though never before the least
    /// that the tracker allows.
    pub soon: bool,
    /// Everything wanted is there, and not everything is wanted (BEP 21).
    pub is_partial_seed: bool,
}

/// Names one announce, for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    tracker: usize,
    serial: u64,
}

/// An announce to be made now. The caller adds what it knows (counters, port, peer id) and hands the result
/// to [`Announcer::on_answer`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announce {
    /// The tracker, as the torrent gives it.
    pub url: String,
    /// Its tier, from 0.
    pub tier: usize,
    /// What has happened; `None` for a regular announce.
    pub event: Option<AnnounceEvent>,
    /// Peers wanted; 0 where none are.
    pub numwant: u32,
    /// BEP 3 `trackerid` of an earlier answer, to be given back.
    pub tracker_id: Option<Vec<u8>>,
    /// For [`Announcer::on_answer`].
    pub token: Token,
}

/// When trackers are asked for peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NextAsk {
    /// There is none that may be asked.
    Never,
    /// One is being asked.
    Now,
    /// After so long.
    In(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AnnouncerPhase {
    /// Before `start`, and once everybody has been told of the end.
    Idle,
    Running,
    /// `stopped` is on its way.
    Stopping,
}

/// A walk along the tiers that ends with an answer, or with the last tracker.
#[derive(Clone, Debug)]
struct AnnounceRound {
    /// Trackers asked so far in this round.
    asked: Vec<usize>,
    /// When the next one is asked though the last has not answered.
    patience_ends: Instant,
    /// Trackers of this round that have not answered.
    waiting: usize,
}

/// The trackers of one torrent: see the module's head.
#[derive(Clone, Debug)]
pub struct Announcer {
    trackers: Vec<Tracker>,
    /// Indices of `trackers`; the order within a tier changes.
    tiers: Vec<Vec<usize>>,
    rng: fastrand::Rng,
    phase: AnnouncerPhase,
    round: Option<AnnounceRound>,
    /// When the next round begins, at the latest when the first of those that know us expects to hear of us again; `None` where no
    /// tracker may be asked.
    next_round: Option<Instant>,
    /// When the next round may begin if peers are wanted.
    early_round: Option<Instant>,
    /// [`complete`](Self::complete) has been called.
    has_completed: bool,
    /// As the last `poll` said.
    need: AnnounceNeed,
    /// See [`SPREAD`].
    spread: f64,
    /// As the last call said.
    now: Option<Instant>,
    serial: u64,
}

impl Announcer {
    /// Shuffles each tier (BEP 12) by a generator with this seed. A URL that stands twice counts once;
    /// trackers of a scheme that is not spoken are listed with an error and never asked. Nothing is due
    /// before [`start`](Self::start).
    pub fn new(tiers: Vec<Vec<String>>, rng_seed: u64) -> Announcer {
        let mut rng = fastrand::Rng::with_seed(rng_seed);
        let mut trackers: Vec<Tracker> = Vec::new();
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        for urls in tiers {
            let mut tier = Vec::new();
            for url in urls {
                if trackers.len() < MAX_TRACKERS && seen.insert(url.clone()) {
                    tier.push(trackers.len());
                    trackers.push(Tracker::new(url, order.len()));
                }
            }
            if !tier.is_empty() {
                rng.shuffle(&mut tier);
                order.push(tier);
            }
        }
        Announcer {
            trackers,
            tiers: order,
            rng,
            phase: AnnouncerPhase::Idle,
            round: None,
            next_round: None,
            early_round: None,
            has_completed: false,
            need: AnnounceNeed { peers: true, soon: true, is_partial_seed: false },
            spread: SPREAD,
            now: None,
            serial: 0,
        }
    }

    /// Announces from now on; what failed before may be asked at once, for a person asked for it.
    pub fn start(&mut self, now: Instant) {
        self.now = Some(now);
        if self.phase == AnnouncerPhase::Running {
            return;
        }
        self.phase = AnnouncerPhase::Running;
        self.round = None;
        self.next_round = Some(now);
        self.early_round = Some(now);
        for tracker in &mut self.trackers {
            tracker.reset();
        }
    }

    /// The download has completed in this run: `completed` is due to each tracker that knows us as a
    /// downloader, once: later calls do nothing, should more be wanted and completed. Not to be called for a torrent that was complete from the start (BEP 3).
    pub fn complete(&mut self, now: Instant) {
        self.now = Some(now);
        if std::mem::replace(&mut self.has_completed, true) {
            return;
        }
        for tracker in self.trackers.iter_mut().filter(|tracker| !tracker.dismissed) {
            let started = tracker.outstanding.is_some_and(|o| o.event == Some(AnnounceEvent::Started));
            tracker.owes_completed = tracker.knows_us || started;
        }
    }

    /// Announces no more; `stopped` is due at once to each tracker that knows us. One that has not yet
    /// answered its last announce is told when it has.
    pub fn stop(&mut self, now: Instant) {
        self.now = Some(now);
        if self.phase != AnnouncerPhase::Running {
            return;
        }
        self.phase = AnnouncerPhase::Stopping;
        self.round = None;
        self.next_round = None;
        self.early_round = None;
        for tracker in self.trackers.iter_mut().filter(|tracker| !tracker.dismissed) {
            tracker.owes_stopped = tracker.knows_us;
        }
        self.end_if_all_told();
    }

    /// Whether nothing is under way and no tracker is still to be told of the end.
    pub fn is_stopped(&self) -> bool {
        self.phase == AnnouncerPhase::Idle
    }

    /// The next announce that is due; to be called until it gives `None`, after every other call, at the
    /// [`deadline`](Self::deadline), and when the `need` has changed.
    pub fn poll(&mut self, now: Instant, need: AnnounceNeed) -> Option<Announce> {
        self.now = Some(now);
        self.need = need;
        match self.phase {
            AnnouncerPhase::Idle => None,
            AnnouncerPhase::Stopping => self.poll_stopping(),
            AnnouncerPhase::Running => {
                let event = self.poll_completed(now).or_else(|| self.poll_dismissed());
                event.or_else(|| self.poll_round(now))
            }
        }
    }

    /// When [`poll`](Self::poll) is to be called again if nothing else happens, with the need as it was.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            AnnouncerPhase::Idle => None,
            AnnouncerPhase::Stopping => {
                self.now.filter(|_| self.trackers.iter().any(Tracker::has_last_words))
            }
            AnnouncerPhase::Running => {
                let completed = self.trackers.iter().filter(|tracker| tracker.may_complete());
                let completed = completed.filter_map(|tracker| tracker.back_off_ends.max(self.now));
                completed.chain(self.dismissed_deadline()).chain(self.round_deadline()).min()
            }
        }
    }

    /// When trackers are asked for peers next.
    pub fn next_ask(&self, now: Instant) -> NextAsk {
        if self.is_busy() {
            return NextAsk::Now;
        }
        match self.round_deadline() {
            Some(at) => NextAsk::In(at.saturating_duration_since(now)),
            None => NextAsk::Never,
        }
    }

    /// Takes the answer to one announce, and says what it came to; `None` for a token that is not waited for.
    pub fn on_answer(
        &mut self,
        now: Instant,
        token: Token,
        result: Result<Answer, AnnounceFailure>,
    ) -> Option<Outcome> {
        self.now = Some(now);
        let tracker = self.trackers.get_mut(token.tracker)?;
        let outstanding = tracker.outstanding.take_if(|outstanding| outstanding.serial == token.serial)?;
        let outcome = match result {
            Ok(answer) => self.on_success(now, token.tracker, outstanding, answer),
            Err(failure) => self.on_failure(now, token.tracker, outstanding, failure),
        };
        self.end_if_all_told();
        Some(outcome)
    }

    /// The trackers, by tier and in the order in which they are asked.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        self.tiers.iter().flatten().map(|&index| self.trackers[index].status())
    }

    fn announce(&mut self, index: usize, event: Option<AnnounceEvent>, in_round: bool) -> Announce {
        self.serial += 1;
        let leaves = self.phase != AnnouncerPhase::Running || self.trackers[index].dismissed;
        let wanted_peers = self.need.peers && !leaves;
        // BEP 21 has a partial seed say so with every announce that has no other event.
        let event = event.or(self.need.is_partial_seed.then_some(AnnounceEvent::Paused));
        let tracker = &mut self.trackers[index];
        tracker.outdated = false;
        tracker.outstanding = Some(Outstanding { serial: self.serial, event, in_round, wanted_peers });
        Announce {
            url: tracker.url.clone(),
            tier: tracker.tier,
            event,
            numwant: if wanted_peers { NUMWANT } else { 0 },
            tracker_id: tracker.tracker_id.clone(),
            token: Token { tracker: index, serial: self.serial },
        }
    }

    fn poll_stopping(&mut self) -> Option<Announce> {
        let index = self.trackers.iter().position(Tracker::has_last_words)?;
        let tracker = &mut self.trackers[index];
        // A download whose end ends the program counts as well: `completed` goes first.
        let event = if std::mem::take(&mut tracker.owes_completed) {
            AnnounceEvent::Completed
        } else {
            tracker.owes_stopped = false;
            AnnounceEvent::Stopped
        };
        Some(self.announce(index, Some(event), false))
    }

    fn poll_completed(&mut self, now: Instant) -> Option<Announce> {
        let is_due = |tracker: &Tracker| tracker.may_complete() && tracker.back_off_ends <= Some(now);
        let index = self.trackers.iter().position(is_due)?;
        Some(self.announce(index, Some(AnnounceEvent::Completed), false))
    }

    fn poll_round(&mut self, now: Instant) -> Option<Announce> {
        if self.round.is_none() {
            if self.is_busy() || self.round_begins().is_none_or(|at| at > now) {
                return None;
            }
            self.round = Some(AnnounceRound { asked: Vec::new(), patience_ends: now, waiting: 0 });
        }
        let index = self.next_in_round(now);
        let round = self.round.as_mut()?;
        if round.waiting > 0 && now < round.patience_ends {
            return None;
        }
        let Some(index) = index else {
            self.end_exhausted_round(now);
            return None;
        };
        round.asked.push(index);
        round.patience_ends = now + PATIENCE;
        round.waiting += 1;
        let event = (!self.trackers[index].knows_us).then_some(AnnounceEvent::Started);
        Some(self.announce(index, event, true))
    }

    fn round_begins(&self) -> Option<Instant> {
        let early = self.early_round.filter(|_| self.need.soon);
        early.into_iter().chain(self.next_round).min()
    }

    fn round_deadline(&self) -> Option<Instant> {
        match &self.round {
            Some(round) if round.waiting == 0 => self.now,
            Some(round) => self.next_in_round(self.now?).map(|_| round.patience_ends),
            None if self.is_busy() => None,
            None => self.round_begins(),
        }
    }

    /// The first tracker in order that may be asked now and that this round has not asked.
    fn next_in_round(&self, now: Instant) -> Option<usize> {
        let round = self.round.as_ref()?;
        self.tiers.iter().flatten().copied().find(|index| {
            let tracker = &self.trackers[*index];
            let is_free = tracker.outstanding.is_none() && !tracker.barred;
            is_free && tracker.regular_at(self.need.soon) <= Some(now) && !round.asked.contains(index)
        })
    }

    /// Ends a round in which nobody is left to ask or to wait for.
    fn end_exhausted_round(&mut self, now: Instant) {
        let is_waiting = self.round.as_ref().is_none_or(|round| round.waiting > 0);
        if is_waiting || self.next_in_round(now).is_some() {
            return;
        }
        self.round = None;
        let usable = self.trackers.iter().filter(|tracker| !tracker.barred && !tracker.dismissed);
        let retry = |soon| {
            let at = usable.clone().filter_map(|tracker| tracker.regular_at(soon));
            at.filter(|&at| at > now).min()
        };
        let is_over = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        if is_over(self.next_round) {
            self.next_round = retry(false);
        }
        if is_over(self.early_round) {
            self.early_round = retry(true);
        }
    }

    fn on_success(
        &mut self,
        now: Instant,
        index: usize,
        outstanding: Outstanding,
        answer: Answer,
    ) -> Outcome {
        let interval = clamp(answer.interval.unwrap_or(DEFAULT_INTERVAL));
        let min_interval = answer.min_interval.map_or(DEFAULT_MIN_INTERVAL.min(interval), clamp);
        let interval = interval.max(min_interval);
        let spread = interval.mul_f64(self.spread * self.rng.f64());
        let is_stopping = self.phase == AnnouncerPhase::Stopping;
        let tracker = &mut self.trackers[index];
        tracker.on_success(outstanding.event, &answer, now + min_interval..now + interval + spread);
        // It heard of us only after the end, and nobody else will tell it.
        tracker.owes_stopped |=
            (is_stopping || tracker.dismissed) && outstanding.event == Some(AnnounceEvent::Started);
        let outcome = Outcome::Success {
            url: tracker.url.clone(),
            tier: tracker.tier,
            event: outstanding.event,
            complete: answer.complete,
            incomplete: answer.incomplete,
            interval,
            min_interval,
            warning: answer.warning,
            peers: if tracker.dismissed { Vec::new() } else { answer.peers },
        };
        let is_dismissed = tracker.dismissed;
        let helped = matches!(&outcome, Outcome::Success { peers, .. } if !peers.is_empty());
        let in_round = outstanding.in_round && self.round.is_some();
        let is_regular = in_round || (outstanding.event == Some(AnnounceEvent::Completed) && !is_stopping);
        if is_regular && !is_dismissed {
            self.next_round = self.trackers.iter().filter_map(Tracker::expects_us_at).min();
            self.early_round = Some(now + min_interval);
        }
        if in_round {
            self.prefer(index);
            self.on_round_answer(now, !is_dismissed && (helped || !outstanding.wanted_peers));
        }
        outcome
    }

    fn on_failure(
        &mut self,
        now: Instant,
        index: usize,
        outstanding: Outstanding,
        failure: AnnounceFailure,
    ) -> Outcome {
        let jitter = 0.75 + 0.5 * self.rng.f64();
        let tracker = &mut self.trackers[index];
        tracker.on_failure(outstanding.event, &failure, now, jitter);
        let outcome = Outcome::Failure {
            url: tracker.url.clone(),
            tier: tracker.tier,
            event: outstanding.event,
            reason: failure.reason,
            status_code: failure.status_code,
            times_in_row: tracker.failures_in_row,
        };
        if outstanding.in_round {
            self.on_round_answer(now, false);
        }
        outcome
    }

    fn on_round_answer(&mut self, now: Instant, ends_round: bool) {
        let Some(round) = &mut self.round else { return };
        round.waiting = round.waiting.saturating_sub(1);
        // Whoever is next need not wait for the patience with this one to end.
        round.patience_ends = now;
        if ends_round {
            self.round = None;
        }
        self.end_exhausted_round(now);
    }

    /// BEP 12: a tracker that answers moves to the front of its tier.
    fn prefer(&mut self, index: usize) {
        let tier = &mut self.tiers[self.trackers[index].tier];
        if let Some(place) = tier.iter().position(|&other| other == index) {
            tier[..=place].rotate_right(1);
        }
    }

    fn is_busy(&self) -> bool {
        self.trackers.iter().any(|tracker| tracker.outstanding.is_some() && !tracker.dismissed)
    }

    fn end_if_all_told(&mut self) {
        let is_told = |tracker: &Tracker| tracker.outstanding.is_none() && !tracker.owes_stopped;
        let is_done = self.trackers.iter().all(is_told);
        if self.phase == AnnouncerPhase::Stopping && is_done {
            self.phase = AnnouncerPhase::Idle;
        }
    }
}

fn clamp(interval: Duration) -> Duration {
    interval.clamp(*INTERVAL.start(), *INTERVAL.end())
}
