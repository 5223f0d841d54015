//! The hash check that a torrent begins with, on a thread of its own: what resume data vouch for is
//! not read again.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::check::{self, CheckOptions, CheckOutcome, PieceResult};
use crate::disk::OnDisk;
use crate::layout::PieceIndex;
use crate::storage::resume::{self, Partial, Vouched};
use crate::storage::{Storage, StorageError, StorageErrorKind};

/// How far a check is; shared with its thread.
#[derive(Debug)]
pub struct Progress {
    total: AtomicU64,
    done: AtomicU64,
    began: Instant,
    /// What was found good so far. The lock is held for a bit at a time, by the threads that check
    /// and by whoever wants a picture.
    have: Mutex<Bitfield>,
}

impl Progress {
    /// Of a check that has just begun.
    pub fn new(now: Instant, pieces: u32) -> Progress {
        Progress {
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            began: now,
            have: Mutex::new(Bitfield::new(pieces)),
        }
    }

    /// Bytes done, bytes to do, bytes a second.
    pub fn get(&self, now: Instant) -> (u64, u64, u64) {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        let seconds = now.saturating_duration_since(self.began).as_secs_f64().max(0.001);
        (done, total, (done as f64 / seconds) as u64)
    }

    /// What was found good so far.
    pub fn have(&self) -> Bitfield {
        self.have.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is to be checked, and how.
#[derive(Debug)]
pub struct Plan {
    /// The torrent.
    pub on_disk: OnDisk,
    /// Where its resume data are; `None`: there are none.
    pub state_dir: Option<PathBuf>,
    /// Read every byte, whatever the resume data vouch for.
    pub full: bool,
    /// A check of a torrent that has been running: what it knows, and what is to be read again.
    pub again: Option<Vouched>,
    /// Make files ready for what is missing.
    pub prepare: bool,
    /// All blocks are to be set aside: without the room for them nothing is begun.
    pub all_or_nothing: bool,
    /// Pieces that the disk may not have though they can be read.
    pub doubtful: Bitfield,
}

/// What a check came to.
#[derive(Debug)]
pub struct Checked {
    /// What is there and good.
    pub have: Bitfield,
    /// Pieces that resume data vouched for, or, checked `again`, that were there and not asked for.
    pub vouched: Bitfield,
    /// Of a torrent that had been running.
    pub again: bool,
    /// Whether anything was read.
    pub read: bool,
    /// Files were made ready for what is missing.
    pub prepared: bool,
    /// The disk is too small for what is to be set aside, so nothing was begun.
    pub refused: bool,
    /// Pieces whose data are all there and wrong.
    pub corrupt: u32,
    /// Pieces that it did not come to, because it was broken off.
    pub unchecked: Bitfield,
    /// Blocks of unfinished pieces that a clean stop had left on disk.
    pub partial: BTreeMap<PieceIndex, Vec<Option<BlockData>>>,
    /// Payload bytes sent in earlier runs.
    pub uploaded: u64,
    /// Payload bytes received in earlier runs.
    pub downloaded: u64,
    /// Files could not be made ready for what is missing.
    pub error: Option<StorageError>,
}

/// Checks; blocks. `on_piece` is told of each piece that was read.
pub fn check(
    plan: &Plan,
    progress: &Progress,
    stop: &AtomicBool,
    on_piece: &(dyn Fn(PieceIndex, PieceResult) + Sync),
) -> Checked {
    let Plan { on_disk, state_dir, full, again, prepare, all_or_nothing, doubtful } = plan;
    let (storage, layout) = (&*on_disk.storage, &on_disk.metainfo.layout);
    // Before anything is looked at: what moves out of the part file is to be checked too.
    let moved = storage.move_parts_into_files();
    let vouched = match (again, state_dir) {
        (Some(again), _) => again.clone(),
        (None, Some(state_dir)) if !full => resume::load(state_dir, storage),
        _ => nothing_vouched(layout.num_pieces()),
    };
    progress.have.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&vouched.have);
    progress.total.store(vouched.to_check.bytes(layout), Ordering::Relaxed);
    let note = |piece: PieceIndex, result: PieceResult| {
        progress.done.fetch_add(u64::from(layout.piece_size(piece)), Ordering::Relaxed);
        if result == PieceResult::Ok {
            progress.have.lock().unwrap_or_else(PoisonError::into_inner).insert(piece);
        }
        on_piece(piece, result);
    };
    let error = moved.and_then(|()| if *prepare { storage.prepare() } else { Ok(()) }).err();
    let is_full = |error: &StorageError| match error.kind {
        StorageErrorKind::TooSmall => true,
        kind => *all_or_nothing && kind == StorageErrorKind::Full,
    };
    let refused = error.as_ref().is_some_and(is_full);
    storage.drop_caches(doubtful);
    let is_gone = error.as_ref().is_some_and(|error| error.kind == StorageErrorKind::Vanished);
    let keep_going = || !refused && !is_gone && !stop.load(Ordering::Relaxed);
    let options = CheckOptions { pieces: &vouched.to_check, threads: 0, keep_going: &keep_going };
    let outcome = check::check(storage, &on_disk.metainfo, options, &note);
    // It may have come from memory alone: an earlier run was killed, or another program has just made it.
    storage.mark_read(&outcome.ok);
    if is_gone {
        // Held open, what is in the folder's place could not be unmounted to make way for it.
        storage.close_all();
    }
    let have = progress.have();
    Checked {
        corrupt: outcome.corrupt.count(),
        unchecked: unchecked(&vouched.to_check, &outcome),
        partial: vouched.partial.iter().filter_map(|partial| read_partial(on_disk, partial)).collect(),
        uploaded: vouched.uploaded,
        downloaded: vouched.downloaded,
        read: !outcome.ok.is_empty(),
        prepared: *prepare && error.is_none(),
        refused,
        vouched: vouched.have,
        again: again.is_some(),
        have,
        error,
    }
}

fn nothing_vouched(pieces: u32) -> Vouched {
    Vouched {
        have: Bitfield::new(pieces),
        to_check: Bitfield::full(pieces),
        partial: Vec::new(),
        uploaded: 0,
        downloaded: 0,
    }
}

fn unchecked(asked: &Bitfield, outcome: &CheckOutcome) -> Bitfield {
    let mut rest = Bitfield::new(asked.len());
    if !outcome.finished {
        let verdicts = [&outcome.ok, &outcome.corrupt, &outcome.missing, &outcome.unreadable];
        for piece in asked.iter().filter(|&piece| verdicts.iter().all(|set| !set.contains(piece))) {
            rest.insert(piece);
        }
    }
    rest
}

/// The blocks of an unfinished piece. They are hashed with the rest of it, so nothing is trusted here.
fn read_partial(on_disk: &OnDisk, partial: &Partial) -> Option<(PieceIndex, Vec<Option<BlockData>>)> {
    let layout = &on_disk.metainfo.layout;
    let there = |number: u32| {
        partial.blocks.get((number / 8) as usize).is_some_and(|byte| byte << (number % 8) & 0x80 != 0)
    };
    let read = |number: u32| {
        let block = layout.block(partial.piece, number);
        let mut data = BlockData::new(block.length);
        let place = &mut [IoSliceMut::new(data.as_mut_slice())];
        on_disk.storage.read_at(layout.block_offset(block), place).ok()?;
        Some(data)
    };
    let numbers = 0..layout.num_blocks(partial.piece);
    let blocks: Vec<_> = numbers.map(|number| there(number).then(|| read(number)).flatten()).collect();
    // A piece that is whole would have been hashed; do not trust that it was.
    let useful = blocks.iter().any(Option::is_some) && blocks.iter().any(Option::is_none);
    useful.then_some((partial.piece, blocks))
}

/// Writes the blocks of unfinished pieces to their places in the files, for a later run.
pub fn write_partial(
    storage: &Storage,
    pieces: BTreeMap<PieceIndex, Vec<Option<BlockData>>>,
) -> Result<Vec<Partial>, StorageError> {
    let mut partial = Vec::new();
    for (piece, blocks) in pieces {
        let mut bits = vec![0u8; blocks.len().div_ceil(8)];
        for (number, data) in blocks.iter().enumerate() {
            let Some(data) = data else { continue };
            let block = storage.layout().block(piece, number as u32);
            storage
                .write_at(storage.layout().block_offset(block), &[std::io::IoSlice::new(data.as_slice())])?;
            bits[number / 8] |= 0x80 >> (number % 8);
        }
        partial.push(Partial { piece, blocks: bits });
    }
    Ok(partial)
}
