//! What becomes of a torrent's data on the disk: made ready, written, synced and saved in time, closed.
//!
//! Knows how safe each piece is, and when something is due. All that could block is done on the disk's threads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Torrent;
use super::saving::SyncAim;
use crate::bitfield::Bitfield;
use crate::disk::WriteJob;
use crate::event::State;
use crate::layout::PieceIndex;
use crate::session::Notice;
use crate::session::context::Context;
use crate::session::options::TorrentOptions;
use crate::storage::claim::{Claim, Wanted};
use crate::storage::{Storage, StorageError, StorageErrorKind, StorageOptions};

/// How long verified pieces may wait until they are synced and named by resume data: what a kill
/// costs at the most to hash again.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// Bytes that are written before they are brought to the disk, beside further writes, so that little is
/// left to wait for at the end.
const FLUSH_EVERY: u64 = 32 << 20;

/// Files that were not used for this long are closed.
const IDLE: Duration = Duration::from_secs(60);

/// How safe the pieces of a torrent are on the disk, and when something is done about it.
#[derive(Debug)]
pub(super) struct Durability {
    /// Pieces that were handed to the disk's threads, and not heard of yet. Bounded by what the swarm hands out.
    pub(super) writing: BTreeSet<PieceIndex>,
    /// The bytes of those pieces.
    unwritten: u64,
    /// Pieces that are on the disk for certain.
    pub(super) synced: Bitfield,
    /// Pieces that were written before a sync failed: the disk may not have them, whatever is read back.
    pub doubtful: Bitfield,
    /// What was known of the files is not true any more: look at them anew before going on.
    pub renew: bool,
    /// Files were made ready for what is missing.
    pub prepared: bool,
    /// Bytes that were written since the last sync was begun.
    pub(super) unflushed: u64,
    /// When resume data are saved next.
    pub(super) next_save: Option<Instant>,
    /// When files that were not used since the last time are closed.
    next_idle: Option<Instant>,
    /// Whether files were used since then.
    used: bool,
    /// How far what is complete has been made safe.
    pub(super) completion: Completion,
    /// How often files were checked again because another program had changed them.
    pub(super) rechecks: u32,
    /// People have been told of files that are too long.
    pub(super) told_too_long: bool,
}

/// From the last piece to resume data that name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Completion {
    /// Pieces are missing, or have been written since.
    Open,
    /// Everything wanted is written, and is being brought to the disk.
    Syncing,
    /// It is on the disk, and no file is open for writing.
    Safe,
    /// Resume data say so.
    Stored,
}

impl Durability {
    /// Of a torrent that nothing is known of, with so many pieces.
    pub(super) fn new(pieces: u32) -> Durability {
        Durability {
            writing: BTreeSet::new(),
            unwritten: 0,
            synced: Bitfield::new(pieces),
            doubtful: Bitfield::new(pieces),
            renew: false,
            prepared: false,
            unflushed: 0,
            next_save: None,
            next_idle: None,
            used: false,
            completion: Completion::Open,
            rechecks: 0,
            told_too_long: false,
        }
    }

    /// A piece of so many bytes is handed to the disk's threads. False if it has been already.
    pub(super) fn begin_write(&mut self, piece: PieceIndex, bytes: u64) -> bool {
        self.completion = Completion::Open;
        let is_new = self.writing.insert(piece);
        self.unwritten += if is_new { bytes } else { 0 };
        is_new
    }

    /// The disk's threads are done with a piece. False if they did not have it.
    pub(super) fn end_write(&mut self, piece: PieceIndex, bytes: u64) -> bool {
        let was_there = self.writing.remove(&piece);
        self.unwritten -= if was_there { bytes } else { 0 };
        was_there
    }

    /// The thread that has them is gone: no piece comes back. Gives the bytes that waited.
    pub(super) fn abandon_writes(&mut self) -> u64 {
        self.writing.clear();
        std::mem::take(&mut self.unwritten)
    }

    /// Whether all there is has been brought to the disk since everything wanted is there, and resume data name it, or will
    /// once [`Torrent::on_stored`] is told.
    pub(super) fn is_safe(&self) -> bool {
        matches!(self.completion, Completion::Safe | Completion::Stored)
    }

    /// Whether pieces wait for the disk.
    pub(super) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Bytes of the pieces that wait for the disk.
    pub(super) fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// An error that says that the files are not what they were taken for means that they are to be looked at anew; after
    /// any other it will do to try again.
    pub(super) fn on_error(&mut self, kind: StorageErrorKind) {
        use StorageErrorKind::{Denied, Full, NameTooLong, ReadOnly};
        self.renew |= !matches!(kind, Full | Denied | ReadOnly | NameTooLong);
    }

    /// A check has ended: what resume data vouched for was synced in an earlier run. If it `read`
    /// anything, the next start is to be spared that.
    pub(super) fn on_checked(&mut self, now: Instant, vouched: Bitfield, read: bool, prepared: bool) {
        self.doubtful = Bitfield::new(vouched.len());
        self.completion = Completion::Open;
        self.synced = vouched;
        self.prepared |= prepared;
        if read {
            self.save_soon(now);
        }
    }

    /// Those of these pieces that are on the disk for certain.
    pub(super) fn synced_of(&self, pieces: &Bitfield) -> Bitfield {
        let mut synced = pieces.clone();
        synced.intersect_with(&self.synced);
        synced
    }

    /// There is something new to be saved.
    pub(super) fn save_soon(&mut self, now: Instant) {
        self.next_save.get_or_insert(now + SAVE_EVERY);
    }

    /// Files are read or written now.
    pub(super) fn use_files(&mut self, now: Instant) {
        self.used = true;
        self.next_idle.get_or_insert(now + IDLE);
    }

    /// When there is something to be done though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_save.into_iter().chain(self.next_idle).min()
    }
}

impl Torrent {
    /// Files that know nothing of what was there before.
    pub(crate) fn new_storage(&self) -> Arc<Storage> {
        let options = storage_options(&self.options, self.claim.as_deref());
        Arc::new(self.on_disk.storage.renewed(&self.on_disk.metainfo, options))
    }
}

impl Torrent {
    /// Makes files ready for what is missing, on the thread that will write them.
    pub(super) fn prepare(&self, context: &Context) {
        let (id, storage, notify) = (self.id, self.on_disk.storage.clone(), context.notify.clone());
        let starts = self.errors.starts();
        let priorities = self.options.priorities.clone();
        let (claim, metainfo) = (self.claim.clone(), self.on_disk.metainfo.clone());
        let work = move || {
            let wanted = Wanted { metainfo: &metainfo, basedir: storage.basedir(), priorities: &priorities };
            let claimed = claim.map_or(Ok(()), |claim| claim.change(&wanted));
            // An earlier attempt to move what has become wanted may have failed.
            let wanted = claimed.and_then(|()| storage.set_wanted(&priorities));
            let prepared = wanted.and_then(|()| storage.prepare());
            let _ = notify.send(Notice::Prepared(id, starts, prepared));
        };
        // If too much waits there, each write makes what it needs.
        let _ = context.disk.write(self.on_disk.lane, WriteJob::Then(Box::new(work)));
    }

    /// Has the files hold what the user wants from now on, behind the writes that wait; while the torrent is not started,
    /// once it is.
    pub(super) fn set_wanted_files(&mut self, context: &Context) {
        self.durability.prepared = false;
        if self.state == State::Started {
            self.prepare(context);
        }
    }

    /// Files were made ready for what is missing, or not. What was begun before the last start after an error is void.
    pub(crate) fn on_prepared(
        &mut self,
        now: Instant,
        starts: u64,
        result: Result<(), StorageError>,
        context: &mut Context,
    ) {
        self.tell_notes(context);
        if self.errors.starts() != starts {
            return;
        }
        match result.map_err(|error| self.tolerate(error, context)) {
            Err(Some(error)) if error.kind == StorageErrorKind::TooSmall => self.refuse(now, &error, context),
            Err(Some(error)) => self.on_storage_error(now, &error, context),
            Ok(()) | Err(None) => self.durability.prepared = true,
        }
    }

    /// `piece` was written: now and then what is written is brought to the disk.
    pub(super) fn flush(&mut self, piece: PieceIndex, context: &Context) {
        self.durability.unflushed += u64::from(self.layout().piece_size(piece));
        if self.durability.unflushed >= FLUSH_EVERY {
            self.sync(SyncAim::Flush, context);
        }
    }

    /// Everything wanted is written: before anybody is told so it is brought to the disk, and closed.
    pub(super) fn make_complete_safe(&mut self, context: &Context) {
        self.durability.next_save = None;
        self.durability.completion = Completion::Syncing;
        self.sync(SyncAim::Complete, context);
    }

    /// Saves what waits for it, closes files that nobody uses.
    pub(super) fn save_and_close_if_due(&mut self, now: Instant, context: &Context) {
        if !self.goes_on() {
            return;
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (save, close) = (due(self.durability.next_save), due(self.durability.next_idle));
        if close {
            // One more time after the last use: then all that is left is closed.
            self.durability.next_idle = std::mem::take(&mut self.durability.used).then(|| now + IDLE);
            let storage = self.on_disk.storage.clone();
            let _ =
                context.disk.write(self.on_disk.lane, WriteJob::Then(Box::new(move || storage.close_idle())));
        }
        if save {
            self.durability.next_save = None;
            self.sync(SyncAim::Save, context);
        }
    }

    /// Closes all files behind the writes that wait. What is not synced yet is: until then something stays open that is told of
    /// its errors, and whoever wants to unmount the disk waits.
    pub(super) fn close_files(&self, context: &Context) {
        let (storage, syncs) = (self.on_disk.storage.clone(), context.disk.sync_queue(self.on_disk.lane));
        let work = move || {
            storage.close_all();
            if storage.is_unsynced() {
                // Each later sync repeats its error.
                syncs.push(Box::new(move || drop(storage.sync())));
            }
        };
        let _ = context.disk.write(self.on_disk.lane, WriteJob::Then(Box::new(work)));
    }
}

/// How files are treated.
pub(super) fn storage_options(options: &TorrentOptions, claim: Option<&Claim>) -> StorageOptions {
    StorageOptions {
        shared: claim.map(Claim::shared).unwrap_or_default(),
        preallocate: options.preallocate,
        overwrite: options.overwrite,
        max_open_files: 0,
        priorities: options.priorities.clone(),
        trace: false,
    }
}
