//! The hash check that a torrent begins with, on a thread of its own: what resume data vouch for is
//! not read again.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::path::PathBuf;

use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::check::{HashCheck, PieceResult};
use crate::disk::OnDisk;
use crate::event::Kind;
use crate::layout::{Block, PieceIndex};
use crate::storage::resume::{self, PartialPiece, Vouched};
use crate::storage::{Storage, StorageError, StorageErrorKind};

/// What a check of a torrent is to do.
#[derive(Debug)]
pub(super) struct Plan {
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
    /// If more bytes than this are to be read, nothing is begun.
    pub max_bytes: u64,
    /// Threads that may hash; 0: one for each core.
    pub threads: usize,
    /// Files may be written over that nothing shows to be the torrent's.
    pub overwrite: bool,
}

/// The check was not begun: so many bytes are to be read, more than it may.
#[derive(Debug)]
pub(super) struct MuchToRead(pub u64);

/// The result of a check.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Pieces that are there and right.
    pub have: Bitfield,
    /// Pieces that resume data vouched for, or, checked `again`, that were there and not asked for.
    pub vouched: Bitfield,
    /// Whether the torrent had been running before.
    pub again: bool,
    /// Whether anything was read.
    pub read: bool,
    /// Files were made ready for what is missing.
    pub prepared: bool,
    /// The disk is too small for what is to be set aside, so nothing was begun.
    pub refused: bool,
    /// The event that sums it up.
    pub finished: Kind,
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
    /// Pieces of which something else is there.
    pub corrupt: Bitfield,
    /// What stands in the folder is the torrent's: that is known, or the check has come to its end and found nothing against it.
    pub is_ours: bool,
}

/// Checks; blocks. Calls `begun` once it is known what there is to read, and `on_piece` with each piece that was read.
pub(super) fn check(
    plan: &Plan,
    hash_check: &HashCheck,
    begun: &dyn Fn(),
    on_piece: &(dyn Fn(PieceIndex, PieceResult) + Sync),
) -> Result<Checked, MuchToRead> {
    let (storage, metainfo) = (&*plan.on_disk.storage, &*plan.on_disk.metainfo);
    // Before anything is looked at: what moves out of the part file is to be checked too.
    let moved = storage.move_parts_into_files();
    let vouched = plan.vouched();
    if plan.max_bytes < u64::MAX && !hash_check.is_broken_off() {
        let to_read = storage.bytes_there(&vouched.to_check);
        if to_read > plan.max_bytes {
            return Err(MuchToRead(to_read));
        }
    }
    begun();
    storage.forget_files_of(&vouched.to_check);
    hash_check.plan(metainfo, &vouched.have, &vouched.to_check);
    let suspects = match plan.overwrite || vouched.is_ours {
        true => Vec::new(),
        false => storage.files_of_other_lengths(),
    };
    // Where the files may be somebody else's they are read before anything is made of them.
    let prepare_first = plan.prepare && suspects.is_empty();
    let mut error = moved.and_then(|()| if prepare_first { storage.prepare() } else { Ok(()) }).err();
    let mut refused = error.as_ref().is_some_and(|error| plan.is_refused_by(error));
    storage.drop_caches(&plan.doubtful);
    let is_gone = error.as_ref().is_some_and(|error| error.kind == StorageErrorKind::Vanished);
    let may_read = !refused && !is_gone;
    let outcome = hash_check.run(storage, metainfo, &vouched.to_check, plan.threads, may_read, on_piece);
    if !suspects.is_empty() && error.is_none() && outcome.finished {
        error = if hash_check.have().is_empty() { storage.refuse_foreign(&suspects) } else { None };
        refused = error.is_some();
        if plan.prepare && !refused {
            error = storage.prepare().err();
            refused = error.as_ref().is_some_and(|error| plan.is_refused_by(error));
        }
    }
    // It may have come from memory alone: an earlier run was killed, or another program has just made it.
    storage.mark_read(&outcome.ok);
    if is_gone {
        // Held open, what is in the folder's place could not be unmounted to make way for it.
        storage.close_all();
    }
    let is_foreign = error.as_ref().is_some_and(|error| error.kind == StorageErrorKind::Foreign);
    let have = hash_check.have();
    Ok(Checked {
        finished: outcome.finished_event(&have, &Bitfield::full(have.len())),
        unchecked: outcome.unchecked(&vouched.to_check),
        partial: vouched.partial.iter().filter_map(|partial| read_partial(&plan.on_disk, partial)).collect(),
        uploaded: vouched.uploaded,
        downloaded: vouched.downloaded,
        read: !outcome.ok.is_empty(),
        prepared: plan.prepare && error.is_none() && (prepare_first || outcome.finished),
        is_ours: vouched.is_ours || (outcome.finished && !is_foreign),
        corrupt: outcome.corrupt,
        refused,
        vouched: vouched.have,
        again: plan.again.is_some(),
        have,
        error,
    })
}

impl Plan {
    /// What need not be read, and what is to be.
    fn vouched(&self) -> Vouched {
        if let Some(again) = &self.again {
            return again.clone();
        }
        let storage = &self.on_disk.storage;
        let nothing = || Vouched::nothing(storage.layout().num_pieces());
        let saved = self.state_dir.as_ref().map_or_else(nothing, |dir| resume::load(dir, storage));
        let is_ours = saved.is_ours || storage.has_part_file();
        Vouched { is_ours, ..if self.full { nothing() } else { saved } }
    }

    /// Whether it means that the disk is too small, so that nothing is to be begun.
    fn is_refused_by(&self, error: &StorageError) -> bool {
        match error.kind {
            StorageErrorKind::TooSmall => true,
            kind => self.all_or_nothing && kind == StorageErrorKind::Full,
        }
    }
}

/// The blocks of an unfinished piece. They are hashed with the rest of it, so nothing is trusted here.
fn read_partial(on_disk: &OnDisk, partial: &PartialPiece) -> Option<(PieceIndex, Vec<Option<BlockData>>)> {
    let layout = &on_disk.metainfo.layout;
    let read = |number: u32| {
        let block = layout.block(partial.piece, number);
        let mut data = BlockData::new(block.length);
        let place = &mut [IoSliceMut::new(data.as_mut_slice())];
        on_disk.storage.read_at(layout.block_offset(block), place).ok()?;
        Some(data)
    };
    let numbers = 0..layout.num_blocks(partial.piece);
    let blocks: Vec<_> = numbers.map(|number| partial.has(number).then(|| read(number)).flatten()).collect();
    // A piece that is whole would have been hashed; do not trust that it was.
    let useful = blocks.iter().any(Option::is_some) && blocks.iter().any(Option::is_none);
    useful.then_some((partial.piece, blocks))
}

/// Writes the blocks of unfinished pieces to their places in the files, for a later run. What of a piece is not there yet
/// must not look like data: where the file system cannot have it so, the blocks are not kept.
pub(super) fn write_partial(
    storage: &Storage,
    pieces: BTreeMap<PieceIndex, Vec<Option<BlockData>>>,
) -> Result<Vec<PartialPiece>, StorageError> {
    let layout = storage.layout().clone();
    let write =
        |block: Block, data: &[u8]| storage.write_at(layout.block_offset(block), &[IoSlice::new(data)]);
    let mut partial = Vec::new();
    for (piece, blocks) in pieces {
        let mut bits = vec![0u8; blocks.len().div_ceil(8)];
        let block = |number: usize| layout.block(piece, number as u32);
        for (number, data) in blocks.iter().enumerate() {
            let Some(data) = data else { continue };
            write(block(number), data.as_slice())?;
            bits[number / 8] |= 0x80 >> (number % 8);
        }
        let mut told_apart = true;
        for (number, _) in blocks.iter().enumerate().filter(|(_, data)| data.is_none()) {
            let block = block(number);
            told_apart &= storage.make_holes(layout.block_offset(block), u64::from(block.length))?;
        }
        if told_apart {
            partial.push(PartialPiece { piece, blocks: bits });
            continue;
        }
        for (number, data) in blocks.iter().enumerate() {
            let Some(data) = data else { continue };
            write(block(number), &vec![0; data.as_slice().len()])?;
        }
    }
    Ok(partial)
}
