//! What becomes of a torrent's data on the disk: made ready, synced, named by resume data, closed.
//!
//! Decides what may be vouched for. All that could block is done on the disk's threads. What is known is
//! looked at on the one that writes, so that no write comes in between; syncing and storing, which are
//! slow, are done beside the writes until the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Activity, Torrent};
use crate::bitfield::Bitfield;
use crate::disk::WriteJob;
use crate::event::State;
use crate::ids::Round;
use crate::layout::PieceIndex;
use crate::session::context::Context;
use crate::session::options::TorrentOptions;
use crate::session::{Notice, checking};
use crate::storage::resume::{self, Resume};
use crate::storage::{Storage, StorageError, StorageErrorKind, StorageOptions};
use crate::transfer::Transfer;

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
    writing: BTreeSet<PieceIndex>,
    /// The bytes of those pieces.
    unwritten: u64,
    /// Pieces that are on the disk for certain.
    synced: Bitfield,
    /// Pieces that were written before a sync failed: the disk may not have them, whatever is read back.
    pub doubtful: Bitfield,
    /// What was known of the files is not true any more: look at them anew before going on.
    pub renew: bool,
    /// Files were made ready for what is missing.
    pub prepared: bool,
    /// Bytes that were written since the last sync was begun.
    unflushed: u64,
    /// When resume data are saved next.
    next_save: Option<Instant>,
    /// When files that were not used since the last time are closed.
    next_idle: Option<Instant>,
    /// Whether files were used since then.
    used: bool,
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
        }
    }

    /// A piece of so many bytes is handed to the disk's threads. False if it has been already.
    pub(super) fn begin_write(&mut self, piece: PieceIndex, bytes: u64) -> bool {
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

    /// Now is the time to save.
    pub(super) fn save_now(&mut self, now: Instant) {
        self.next_save = Some(now);
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

/// The result of a sync.
pub(crate) struct Synced {
    /// The round in which it was begun.
    round: Round,
    /// Pieces that are on the disk now.
    safe: Result<Bitfield, StorageError>,
    /// Resume data are to be stored.
    save: bool,
}

impl Torrent {
    /// What may be vouched for, once all that was given to the thread that writes so far is done. What
    /// is there and not `safe`ly on the disk, or under way, is to be hashed again.
    fn resume(&self, safe: &Bitfield) -> Option<Resume> {
        let Activity::Running { transfer, unchecked, .. } = &self.activity else { return None };
        let (totals, mut unchecked) = (transfer.swarm().totals(Instant::now()), unchecked.clone());
        unchecked.extend(self.have().minus(safe).chain(self.durability.writing.iter().copied()));
        Some(Resume {
            have: safe.clone(),
            unchecked,
            partial: Vec::new(),
            uploaded: totals.uploaded,
            downloaded: totals.downloaded,
        })
    }

    /// Files that know nothing of what was there before.
    pub(super) fn new_storage(&self) -> Arc<Storage> {
        let options = storage_options(&self.options);
        Arc::new(self.on_disk.storage.renewed(&self.on_disk.metainfo, options))
    }
}

impl Torrent {
    /// Makes files ready for what is missing, on the thread that will write them.
    pub(super) fn prepare(&self, context: &Context) {
        let (id, storage, notify) = (self.id, self.on_disk.storage.clone(), context.notify.clone());
        let priorities = self.options.priorities.clone();
        let work = move || {
            // An earlier attempt to move what has become wanted may have failed.
            let prepared = storage.set_wanted(&priorities).and_then(|()| storage.prepare());
            let _ = notify.send(Notice::Prepared(id, prepared));
        };
        // If too much waits there, each write makes what it needs.
        let _ = context.disk.write(WriteJob::Then(Box::new(work)));
    }

    /// Has the files hold what the user wants from now on, behind the writes that wait; while the torrent is not started,
    /// once it is.
    pub(super) fn set_wanted_files(&mut self, context: &Context) {
        self.durability.prepared = false;
        if self.state == State::Started {
            self.prepare(context);
        }
    }

    /// Files were made ready for what is missing, or not.
    pub(crate) fn on_prepared(
        &mut self,
        now: Instant,
        result: Result<(), StorageError>,
        context: &mut Context,
    ) {
        self.tell_notes(context);
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
            self.sync(false, context);
        }
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
            let _ = context.disk.write(WriteJob::Then(Box::new(move || storage.close_idle())));
        }
        if save {
            self.durability.next_save = None;
            self.sync(true, context);
        }
    }

    /// Closes all files behind the writes that wait.
    pub(super) fn close_files(&self, context: &Context) {
        let storage = self.on_disk.storage.clone();
        let _ = context.disk.write(WriteJob::Then(Box::new(move || storage.close_all())));
    }

    /// Syncs what is written so far beside further writes; then saves resume data, if they are due.
    fn sync(&mut self, save: bool, context: &Context) {
        self.durability.unflushed = 0;
        let (storage, have) = (self.on_disk.storage.clone(), self.have().clone());
        let (id, round, notify) = (self.id, self.round(), context.notify.clone());
        let work = move || {
            let safe = storage.sync().map(|()| have);
            let _ = notify.send(Notice::Synced(id, Synced { round, safe, save }));
        };
        // If too much waits there, the next one does it all.
        let _ = context.disk.sync(Box::new(work));
    }

    /// What was written before a sync is on the disk, or may be lost. What an earlier round began is void.
    pub(crate) fn on_synced(&mut self, now: Instant, synced: Synced, context: &mut Context) {
        if self.round() != synced.round {
            return;
        }
        match synced.safe {
            Err(error) => {
                self.distrust();
                self.on_storage_error(now, &error, context);
            }
            Ok(safe) => {
                self.durability.synced = safe;
                if synced.save {
                    self.take_snapshot(context);
                }
            }
        }
    }

    /// Looks at what is known, between two writes.
    fn take_snapshot(&self, context: &Context) {
        let (Some(_), Some(resume)) = (&self.options.state_dir, self.resume(&self.durability.synced)) else {
            return;
        };
        let (id, storage, notify) = (self.id, self.on_disk.storage.clone(), context.notify.clone());
        let work = move || {
            let _ = notify.send(Notice::Snapshot(id, resume::snapshot(&storage, &resume)));
        };
        let _ = context.disk.write(WriteJob::Then(Box::new(work)));
    }

    /// Stores resume data.
    pub(crate) fn on_snapshot(&self, snapshot: resume::Snapshot, context: &Context) {
        let (storage, state_dir) = (self.on_disk.storage.clone(), self.options.state_dir.clone());
        let work = move || {
            // Without resume data the next start reads everything: slower, and as right.
            let _ = state_dir.map(|state_dir| resume::store(&state_dir, &storage, &snapshot));
        };
        let _ = context.disk.sync(Box::new(work));
    }

    /// Behind the last writes: writes unfinished pieces, if this is the torrent's end, syncs all, saves
    /// resume data that name it, and closes the files.
    pub(super) fn save_all(&mut self, now: Instant, context: &mut Context) {
        self.durability.next_save = None;
        let (id, storage) = (self.id, self.on_disk.storage.clone());
        let state_dir = self.options.state_dir.clone();
        let is_last = self.is_ending();
        let unfinished = match is_last && self.obstacle.is_none() {
            true => self.transfer_mut().map(Transfer::take_partial_pieces).unwrap_or_default(),
            false => BTreeMap::new(),
        };
        let mut resume = self.resume(self.have());
        let notify = context.notify.clone();
        let work = move || {
            let partial = match state_dir.is_some() {
                true => checking::write_partial(&storage, unfinished).unwrap_or_default(),
                false => Vec::new(),
            };
            let synced = storage.sync();
            if let (Ok(()), Some(state_dir), Some(resume)) = (&synced, &state_dir, &mut resume) {
                resume.partial = partial;
                // Without resume data the next start reads everything: slower, and as right.
                let _ = resume::store(state_dir, &storage, &resume::snapshot(&storage, resume));
            }
            storage.close_all();
            let _ = notify.send(Notice::SavedAll { torrent: id, is_last, result: synced });
        };
        if !context.disk.write(WriteJob::Then(Box::new(work))) {
            self.on_saved_all(now, is_last, Ok(()), context);
        }
    }

    /// All is synced, resume data are stored, the files are closed; or it failed.
    pub(crate) fn on_saved_all(
        &mut self,
        now: Instant,
        is_last: bool,
        result: Result<(), StorageError>,
        context: &mut Context,
    ) {
        if is_last {
            self.end_last_save();
        }
        if let Err(error) = result {
            self.distrust();
            self.on_storage_error(now, &error, context);
        }
    }

    /// A sync has failed: what was written since the last good one may be lost.
    fn distrust(&mut self) {
        let lost = self.have().difference(&self.durability.synced);
        self.durability.doubtful.union_with(&lost);
        self.durability.renew = true;
    }
}

/// How files are treated.
pub(super) fn storage_options(options: &TorrentOptions) -> StorageOptions {
    StorageOptions {
        preallocate: options.preallocate,
        max_open_files: 0,
        priorities: options.priorities.clone(),
        trace: false,
    }
}
