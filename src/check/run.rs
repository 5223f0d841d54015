//! One hash check from its start to its events, for all who need one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::unknown::with_layers_of_files;
use super::{CheckOptions, CheckOutcome, PieceResult, check};
use crate::bitfield::Bitfield;
use crate::event::{Kind, Pieces};
use crate::layout::PieceIndex;
use crate::metainfo::Metainfo;
use crate::storage::Storage;

/// A hash check that can be watched and broken off while it runs on threads of its own.
#[derive(Debug)]
pub struct HashCheck {
    stop: Arc<AtomicBool>,
    began: Instant,
    /// Bytes to do, and done.
    total: AtomicU64,
    done: AtomicU64,
    /// Pieces that are known to be right so far. The lock is held for a bit at a time, by the threads that check
    /// and by whoever wants a picture.
    have: Mutex<Bitfield>,
    /// Whether it stands still for now. The lock is held for a look, and given back while it does.
    held: Mutex<bool>,
    /// Told when that changes.
    released: Condvar,
}

/// How often a check that stands still looks whether it is to end.
const HELD_LOOK: Duration = Duration::from_millis(50);

impl HashCheck {
    /// A check of a torrent of so many pieces, of which nothing is known yet.
    pub fn new(now: Instant, pieces: u32) -> HashCheck {
        HashCheck::stopped_by(now, pieces, Arc::default())
    }

    /// One that is broken off once `stop` is set, too.
    pub fn stopped_by(now: Instant, pieces: u32, stop: Arc<AtomicBool>) -> HashCheck {
        HashCheck {
            stop,
            began: now,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            have: Mutex::new(Bitfield::new(pieces)),
            held: Mutex::new(false),
            released: Condvar::new(),
        }
    }

    /// Has it stand still, or go on.
    pub(crate) fn hold(&self, hold: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = hold;
        self.released.notify_all();
    }

    /// Returns once it may go on, or is to end.
    fn wait_while_held(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while *held && !self.is_broken_off() {
            let waited = self.released.wait_timeout(held, HELD_LOOK);
            held = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells it to end soon; what it has not come to by then has no verdict.
    pub fn break_off(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it has been told to end.
    pub fn is_broken_off(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Bytes done, bytes to do, bytes a second.
    pub fn progress(&self, now: Instant) -> (u64, u64, u64) {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let seconds = now.saturating_duration_since(self.began).as_secs_f64().max(0.001);
        (done, total, (done as f64 / seconds) as u64)
    }

    /// Pieces that are known to be right so far.
    pub fn have(&self) -> Bitfield {
        self.have.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a piece is known to be right.
    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        self.have.lock().unwrap_or_else(PoisonError::into_inner).contains(piece)
    }

    /// Says what is to come, before the check is run: what is `known` to be right, and the pieces to be read.
    pub fn plan(&self, metainfo: &Metainfo, known: &Bitfield, pieces: &Bitfield) {
        self.have.lock().unwrap_or_else(PoisonError::into_inner).clone_from(known);
        self.total.store(pieces.bytes(&metainfo.layout), Ordering::Relaxed);
    }

    /// Reads and hashes `pieces` on so many threads (0: one for each core); blocks until all have a verdict, it is broken off, or
    /// `goes_on` says no. `on_piece` is called
    /// once for each, from several threads at once and in no order; it should return soon.
    pub fn run(
        &self,
        storage: &Storage,
        metainfo: &Metainfo,
        pieces: &Bitfield,
        threads: usize,
        goes_on: bool,
        on_piece: &(dyn Fn(PieceIndex, PieceResult) + Sync),
    ) -> CheckOutcome {
        let keep_going = || {
            self.wait_while_held();
            goes_on && !self.is_broken_off()
        };
        // A torrent may lack the hashes of its pieces (BEP 52), but not those of its files.
        let lacks = !metainfo.piece_hashes.are_known();
        let whole = lacks.then(|| with_layers_of_files(storage, metainfo, &keep_going));
        let metainfo = whole.as_ref().unwrap_or(metainfo);
        let options = CheckOptions { pieces, threads, keep_going: &keep_going };
        check(storage, metainfo, options, &|piece, result| {
            self.done.fetch_add(u64::from(metainfo.layout.piece_size(piece)), Ordering::Relaxed);
            if result == PieceResult::Ok {
                self.have.lock().unwrap_or_else(PoisonError::into_inner).insert(piece);
            }
            on_piece(piece, result);
        })
    }
}

impl PieceResult {
    /// The event that says so.
    pub fn event(self, PieceIndex(index): PieceIndex) -> Kind {
        let peers = Vec::new();
        match self {
            PieceResult::Ok => Kind::PieceHashPassed { index, peers },
            PieceResult::Corrupt | PieceResult::Missing | PieceResult::Unreadable => {
                Kind::PieceHashFailed { index, peers }
            }
        }
    }
}

impl CheckOutcome {
    /// The event that sums it up: of `wanted` pieces, `have` are there and right. What is corrupt is not missing as well.
    pub fn finished_event(&self, have: &Bitfield, wanted: &Bitfield) -> Kind {
        let missing = wanted.difference(have).difference(&self.corrupt);
        Kind::HashcheckFinished {
            have: Pieces(have.ranges()),
            missing: Pieces(missing.ranges()),
            corrupt: Pieces(self.corrupt.ranges()),
            have_count: have.count(),
            missing_count: missing.count(),
            corrupt_count: self.corrupt.count(),
        }
    }
}
