//! What one peer has said about metadata, and what it owes us.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::FETCH_PATIENCE;

/// How long a peer is left alone after its first refusal or silence; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause is the first one doubled as often: 64 s.
const MAX_DOUBLINGS: u32 = 6;

#[derive(Debug)]
pub(super) struct Peer {
    /// It takes messages of `ut_metadata`.
    pub(super) offered: bool,
    /// It is asked no more.
    pub(super) barred: bool,
    /// The size that it tells; never one that metadata cannot have.
    pub(super) size: Option<u32>,
    /// Pieces that are asked of it, and counted upon.
    pub(super) in_flight: BTreeSet<u32>,
    /// How many answers it may still give for each piece: those in flight, and those that we have stopped waiting for.
    owed: BTreeMap<u32, u32>,
    /// Since when it has been silent while something was in flight.
    silent_since: Instant,
    /// Refusals and silences since it last gave a piece.
    pub(super) failures: u32,
    /// When it may be asked again.
    pub(super) next_ask: Instant,
    /// How often it has had its turn by itself in vain.
    pub(super) turns: u32,
}

impl Peer {
    pub(super) fn new(now: Instant) -> Peer {
        Peer {
            offered: false,
            barred: false,
            size: None,
            in_flight: BTreeSet::new(),
            owed: BTreeMap::new(),
            silent_since: now,
            failures: 0,
            next_ask: now,
            turns: 0,
        }
    }

    /// Whether it may be asked for anything at this time.
    pub(super) fn is_askable(&self, now: Instant) -> bool {
        self.offered && !self.barred && self.next_ask <= now
    }

    /// The piece is asked of it.
    pub(super) fn ask(&mut self, now: Instant, piece: u32) {
        if self.in_flight.is_empty() {
            self.silent_since = now;
        }
        self.in_flight.insert(piece);
        *self.owed.entry(piece).or_default() += 1;
    }

    /// It has answered for this piece; returns whether it was asked for it.
    pub(super) fn take_answer(&mut self, piece: u32) -> bool {
        match self.owed.get_mut(&piece) {
            None => false,
            Some(1) => self.owed.remove(&piece).is_some(),
            Some(more) => {
                *more -= 1;
                true
            }
        }
    }

    /// It has given a piece.
    pub(super) fn on_answer(&mut self, now: Instant) {
        self.silent_since = now;
        self.failures = 0;
    }

    /// It is left alone for a while. Several refusals of what was asked together are one.
    pub(super) fn pause(&mut self, now: Instant) {
        self.silent_since = now;
        if self.next_ask <= now {
            self.next_ask = now + FIRST_PAUSE * (1 << self.failures.min(MAX_DOUBLINGS));
            self.failures += 1;
        }
    }

    /// What it failed to give before does not count any more.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.failures = 0;
        self.next_ask = now;
    }

    /// When its silence has lasted too long.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        (!self.in_flight.is_empty()).then(|| self.silent_since + FETCH_PATIENCE)
    }
}
