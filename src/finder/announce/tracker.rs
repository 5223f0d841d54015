//! One tracker: what it knows of us, what it is owed, when it may be asked.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{AnnounceEvent, AnnounceFailure, Answer, RetryIn, TrackerStatus};

/// Schemes that are spoken.
const SCHEMES: [&str; 3] = ["http", "https", "udp"];

/// The wait after a first failure; it doubles with each further one in a row.
const BACK_OFF: Duration = Duration::from_secs(15);

/// The longest wait after failures, before jitter: no tracker is ever given up.
const MAX_BACK_OFF: Duration = Duration::from_secs(1800);

/// The longest wait that a tracker can ask for by `retry in` (BEP 31).
const MAX_RETRY_IN: Duration = Duration::from_secs(24 * 3600);

/// Bytes of a tracker id; a longer one is not kept, for it travels in every URL.
const MAX_TRACKER_ID: usize = 256;

/// An announce that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub serial: u64,
    pub event: Option<AnnounceEvent>,
    pub in_round: bool,
    pub wanted_peers: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Tracker {
    pub url: String,
    pub tier: usize,
    pub outstanding: Option<Outstanding>,
    /// It has answered a `started` that no `stopped` followed.
    pub knows_us: bool,
    pub owes_completed: bool,
    pub owes_stopped: bool,
    /// It is none of the torrent's any more: asked for nothing, and not believed. It stands in no tier.
    pub dismissed: bool,
    /// What it knows of us is not so any more: it is told as soon as it may be asked.
    pub outdated: bool,
    /// The last announce to it was not answered.
    pub is_unreached: bool,
    /// It has ever named a peer.
    pub has_named: bool,
    /// Never asked: for its scheme, or by its own word (BEP 31).
    pub barred: bool,
    /// Before this, only events.
    pub min_interval_ends: Option<Instant>,
    /// Before this, only if peers are needed soon. Then it expects to hear of us again.
    pub interval_ends: Option<Instant>,
    /// Before this, only `stopped`.
    pub back_off_ends: Option<Instant>,
    pub tracker_id: Option<Vec<u8>>,
    pub failures_in_row: u32,
    complete: Option<u32>,
    incomplete: Option<u32>,
    downloaded: Option<u32>,
    peers: usize,
    peers6: usize,
    last_error: Option<String>,
}

impl Tracker {
    pub(super) fn new(url: String, tier: usize) -> Tracker {
        let last_error = match scheme(&url) {
            Some(scheme) if is_spoken(scheme) => None,
            Some(scheme) => Some(format!("{scheme} trackers are not supported")),
            None => Some("not a URL".to_owned()),
        };
        Tracker {
            url,
            tier,
            outstanding: None,
            knows_us: false,
            owes_completed: false,
            owes_stopped: false,
            dismissed: false,
            outdated: false,
            is_unreached: false,
            has_named: false,
            barred: last_error.is_some(),
            min_interval_ends: None,
            interval_ends: None,
            back_off_ends: None,
            tracker_id: None,
            failures_in_row: 0,
            complete: None,
            incomplete: None,
            downloaded: None,
            peers: 0,
            peers6: 0,
            last_error,
        }
    }

    /// A new beginning: what failed before may be asked at once.
    pub(super) fn reset(&mut self) {
        if self.dismissed {
            return;
        }
        self.owes_stopped = false;
        self.min_interval_ends = None;
        self.interval_ends = None;
        self.back_off_ends = None;
        self.barred = !scheme(&self.url).is_some_and(is_spoken);
    }

    /// Whether `completed` may be sent once the back-off has ended.
    pub(super) fn may_complete(&self) -> bool {
        self.owes_completed && self.knows_us && self.outstanding.is_none() && !self.barred
    }

    /// Whether it is still to be told of the end, and is not busy.
    pub(super) fn has_last_words(&self) -> bool {
        self.owes_stopped && self.outstanding.is_none()
    }

    /// When it may be asked for a regular announce, which is earlier if peers are needed `soon`; `None`: at any time.
    pub(super) fn regular_at(&self, soon: bool) -> Option<Instant> {
        let interval_ends = if soon || self.outdated { self.min_interval_ends } else { self.interval_ends };
        interval_ends.max(self.back_off_ends)
    }

    /// When it expects to hear of us again, if it knows us.
    pub(super) fn expects_us_at(&self) -> Option<Instant> {
        self.regular_at(false).filter(|_| self.knows_us && !self.barred && !self.dismissed)
    }

    /// `intervals_end`: the least and the usual interval until it is asked again.
    pub(super) fn on_success(
        &mut self,
        event: Option<AnnounceEvent>,
        answer: &Answer,
        intervals_end: Range<Instant>,
    ) {
        (self.failures_in_row, self.is_unreached) = (0, false);
        self.last_error = None;
        self.back_off_ends = None;
        self.knows_us = event != Some(AnnounceEvent::Stopped);
        match event {
            Some(AnnounceEvent::Stopped) => {
                // What it says of a swarm that we have left is no news.
                self.forget();
                return;
            }
            Some(AnnounceEvent::Completed) => self.owes_completed = false,
            Some(AnnounceEvent::Started | AnnounceEvent::Paused) | None => {}
        }
        self.min_interval_ends = Some(intervals_end.start);
        self.interval_ends = Some(intervals_end.end);
        self.complete = answer.complete.or(self.complete);
        self.incomplete = answer.incomplete.or(self.incomplete);
        self.downloaded = answer.downloaded.or(self.downloaded);
        self.peers6 = answer.peers.iter().filter(|peer| peer.is_ipv6()).count();
        self.peers = answer.peers.len() - self.peers6;
        self.has_named |= !answer.peers.is_empty();
        let is_short = |id: &Vec<u8>| id.len() <= MAX_TRACKER_ID;
        // BEP 3: an id that is not repeated still holds.
        if let Some(id) = answer.tracker_id.clone().filter(is_short) {
            self.tracker_id = Some(id);
        }
    }

    /// `jitter` spreads what failed together: it scales the wait.
    pub(super) fn on_failure(
        &mut self,
        event: Option<AnnounceEvent>,
        failure: &AnnounceFailure,
        now: Instant,
        jitter: f64,
    ) {
        match event {
            Some(AnnounceEvent::Started) => self.owes_completed = false,
            Some(AnnounceEvent::Stopped) => self.forget(),
            Some(AnnounceEvent::Completed | AnnounceEvent::Paused) | None => {}
        }
        // What it was to be told it may not have heard.
        self.outdated |= self.knows_us;
        self.is_unreached = failure.status_code == 0 && failure.retry_in.is_none();
        let doublings = self.failures_in_row.min(16);
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let back_off = BACK_OFF.saturating_mul(1 << doublings).min(MAX_BACK_OFF).mul_f64(jitter);
        let wait = match failure.retry_in {
            Some(RetryIn::After(wait)) => wait.min(MAX_RETRY_IN).max(back_off),
            Some(RetryIn::Never) => {
                self.barred = true;
                back_off
            }
            None => back_off,
        };
        self.back_off_ends = Some(now + wait);
        self.last_error = Some(failure.reason.clone());
    }

    pub(super) fn status(&self) -> TrackerStatus<'_> {
        TrackerStatus {
            url: &self.url,
            tier: self.tier,
            complete: self.complete,
            incomplete: self.incomplete,
            downloaded: self.downloaded,
            failures_in_row: self.failures_in_row,
            peers: self.peers,
            peers6: self.peers6,
            last_error: self.last_error.as_deref(),
            is_announcing: self.outstanding.is_some(),
        }
    }

    fn forget(&mut self) {
        self.knows_us = false;
        self.owes_completed = false;
        self.tracker_id = None;
    }
}

fn scheme(url: &str) -> Option<&str> {
    url.split_once("://").map(|(scheme, _)| scheme)
}

fn is_spoken(scheme: &str) -> bool {
    SCHEMES.iter().any(|spoken| spoken.eq_ignore_ascii_case(scheme))
}
