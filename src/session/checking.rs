//! The hash check that a torrent begins with, on a thread of its own.

use std::io::IoSliceMut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::bitfield::Bitfield;
use crate::disk::OnDisk;
use crate::hash::sha1;
use crate::layout::PieceIndex;
use crate::metainfo::InfoHash;
use crate::storage::StorageError;

/// How far a check is; shared with its thread.
#[derive(Debug)]
pub struct Progress {
    total: u64,
    done: AtomicU64,
    began: Instant,
    /// What was found good so far. The lock is held for a bit at a time, by the thread that checks
    /// and by whoever wants a picture.
    have: Mutex<Bitfield>,
}

impl Progress {
    /// Of a check of so many bytes in so many pieces.
    pub fn new(now: Instant, total: u64, pieces: u32) -> Progress {
        Progress { total, done: AtomicU64::new(0), began: now, have: Mutex::new(Bitfield::new(pieces)) }
    }

    /// Bytes done, bytes to do, bytes a second.
    pub fn get(&self, now: Instant) -> (u64, u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        let seconds = now.saturating_duration_since(self.began).as_secs_f64().max(0.001);
        (done, self.total, (done as f64 / seconds) as u64)
    }

    /// What was found good so far.
    pub fn have(&self) -> Bitfield {
        self.have.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a check came to.
#[derive(Debug)]
pub struct Checked {
    /// Whose.
    pub torrent: InfoHash,
    /// What is there and good.
    pub have: Bitfield,
    /// Files could not be made ready for what is missing.
    pub error: Option<StorageError>,
    /// It was broken off.
    pub stopped: bool,
}

/// Checks, and makes files ready if something is missing and `prepare` says so; blocks.
pub fn check(on_disk: &OnDisk, progress: &Progress, stop: &AtomicBool, prepare: bool) -> Checked {
    let layout = &on_disk.metainfo.layout;
    let mut buffer = vec![0; layout.piece_length() as usize];
    for index in 0..layout.num_pieces() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let piece = PieceIndex(index);
        let size = layout.piece_size(piece) as usize;
        let read =
            on_disk.storage.read_at(layout.piece_offset(piece), &mut [IoSliceMut::new(&mut buffer[..size])]);
        if read.is_ok() && sha1(&buffer[..size]) == on_disk.metainfo.piece_hash(piece) {
            progress.have.lock().unwrap_or_else(PoisonError::into_inner).insert(piece);
        }
        progress.done.fetch_add(size as u64, Ordering::Relaxed);
    }
    let have = progress.have();
    let error = if prepare && !have.is_full() { on_disk.storage.prepare().err() } else { None };
    Checked { torrent: on_disk.metainfo.info_hash, have, error, stopped: stop.load(Ordering::Relaxed) }
}
