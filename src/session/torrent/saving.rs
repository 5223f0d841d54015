//! A torrent's data brought to the disk, named by resume data, and what comes of changes by other programs.
//!
//! What is known is looked at on the thread that writes, so that no write comes in between; syncing and storing, which are slow,
//! are done beside the writes, which may be another torrent's.

use std::collections::BTreeMap;
use std::time::Instant;

use super::durability::Completion;
use super::{Activity, Torrent};
use crate::bitfield::Bitfield;
use crate::disk::WriteJob;
use crate::event::{Kind, Verdict};
use crate::ids::Round;
use crate::layout::FileIndex;
use crate::session::context::Context;
use crate::session::{Notice, checking};
use crate::storage::resume::{self, ChangedFiles, Resume};
use crate::storage::{Operation, StorageError, StorageErrorKind};
use crate::text::escape;
use crate::transfer::Transfer;

/// Files that are too long of which people are told.
const MAX_TOO_LONG: usize = 8;

/// How often files that another program changes are checked again in one run: who changes them all the time is not outrun.
const MAX_RECHECKS: u32 = 3;

/// The result of a sync.
pub(crate) struct Synced {
    /// The round in which it was begun.
    round: Round,
    /// Pieces that are on the disk now.
    safe: Result<Bitfield, StorageError>,
    /// What it was done for.
    aim: SyncAim,
}

/// What a sync is done for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SyncAim {
    /// Little is to be left for the end.
    Flush,
    /// Resume data are to be stored.
    Save,
    /// Everything wanted is there: files are to be closed, and resume data stored.
    Complete,
}

/// What is to be stored.
pub(crate) struct TakenSnapshot {
    /// The round in which it was taken.
    round: Round,
    snapshot: resume::Snapshot,
    /// It was taken of what is complete.
    is_complete: bool,
}

/// The last that is done for a torrent's data.
pub(crate) struct LastSaved {
    /// Whether everything is on the disk.
    synced: Result<(), StorageError>,
    /// Files that another program was found to have changed.
    changed: Option<ChangedFiles>,
    /// Wanted files that are too long, and their lengths.
    too_long: Vec<(FileIndex, u64)>,
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
            is_ours: self.is_ours,
        })
    }

    /// Syncs what is written so far beside further writes.
    pub(super) fn sync(&mut self, aim: SyncAim, context: &Context) {
        self.durability.unflushed = 0;
        let (storage, have) = (self.on_disk.storage.clone(), self.have().clone());
        let (id, round, notify) = (self.id, self.round(), context.notify.clone());
        let work = move || {
            let safe = storage.sync().map(|()| have);
            let _ = notify.send(Notice::Synced(id, Synced { round, safe, aim }));
        };
        // If too much waits there, the next one does it all.
        let _ = context.disk.sync(self.on_disk.lane, Box::new(work));
    }

    /// What was written before a sync is on the disk, or may be lost. What an earlier round began is void.
    pub(crate) fn on_synced(&mut self, now: Instant, synced: Synced, context: &mut Context) {
        if self.round() != synced.round {
            return;
        }
        match synced.safe {
            Err(error) => {
                self.completing_until = None;
                self.distrust();
                self.on_storage_error(now, &error, context);
                if synced.aim == SyncAim::Complete && self.options.no_seed {
                    self.stop_for_good(now, context);
                }
            }
            Ok(safe) => {
                self.durability.synced = safe;
                let is_complete = synced.aim == SyncAim::Complete && self.is_completing();
                if is_complete || synced.aim != SyncAim::Flush {
                    self.take_snapshot(is_complete, context);
                }
            }
        }
    }

    /// Has resume data say at least whose the files are.
    pub(super) fn save_first(&self, context: &Context) {
        self.take_snapshot(false, context);
    }

    /// Whether what is complete is being made safe.
    pub(super) fn is_completing(&self) -> bool {
        self.durability.completion == Completion::Syncing
    }

    /// Looks at what is known, between two writes, and closes what is complete.
    fn take_snapshot(&self, is_complete: bool, context: &Context) {
        let Some(resume) = self.resume(&self.durability.synced) else { return };
        let (id, storage, notify) = (self.id, self.on_disk.storage.clone(), context.notify.clone());
        let round = self.round();
        let work = move || {
            if is_complete {
                storage.close_written();
            }
            let snapshot = resume::snapshot(&storage, resume, is_complete);
            let _ = notify.send(Notice::Snapshot(id, TakenSnapshot { round, snapshot, is_complete }));
        };
        let _ = context.disk.write(self.on_disk.lane, WriteJob::Then(Box::new(work)));
    }

    /// Stores resume data, and sees to what other programs have changed.
    pub(crate) fn on_snapshot(&mut self, now: Instant, taken: TakenSnapshot, context: &mut Context) {
        if self.round() != taken.round {
            return;
        }
        let TakenSnapshot { snapshot, is_complete, .. } = taken;
        let changed = snapshot.changed.clone();
        let too_long = if is_complete { snapshot.too_long.clone() } else { Vec::new() };
        let (id, storage, state_dir) =
            (self.id, self.on_disk.storage.clone(), self.options.state_dir.clone());
        let notify = context.notify.clone();
        let work = move || {
            // Without resume data the next start reads everything: slower, and as right.
            let _ = state_dir.map(|state_dir| resume::store(&state_dir, &storage, &snapshot));
            let _ = notify.send(Notice::Stored(id));
        };
        let _ = context.disk.sync(self.on_disk.lane, Box::new(work));
        if !changed.pieces.is_empty() {
            return self.on_changed(now, &changed, context);
        }
        // Whoever ends meanwhile has a last save under way.
        if is_complete && self.is_completing() && self.goes_on() {
            self.durability.completion = Completion::Safe;
            self.tell_complete(now, context);
            self.tell_too_long(&too_long, context);
        }
    }

    /// Resume data are stored.
    pub(crate) fn on_stored(&mut self) {
        if self.durability.completion == Completion::Safe {
            self.durability.completion = Completion::Stored;
            self.end_if_stored();
        }
    }

    /// Whoever leaves at once when it is complete has been saved by then.
    pub(super) fn end_if_stored(&mut self) {
        if self.options.no_seed && self.durability.completion == Completion::Stored {
            self.end_last_save();
        }
    }

    /// Another program has changed files since we wrote or checked them: what they hold is read again.
    fn on_changed(&mut self, now: Instant, changed: &ChangedFiles, context: &mut Context) {
        if self.durability.rechecks >= MAX_RECHECKS || !self.goes_on() {
            self.completing_until = None;
            self.doubt(changed);
            return if self.options.no_seed {
                self.stop_for_good(now, context)
            };
        }
        self.durability.rechecks += 1;
        for path in &changed.paths {
            let reason = "another program has changed it; its pieces are checked again".to_owned();
            self.tell(context, Kind::FileWarning { path: path.display().to_string(), reason });
        }
        self.check_again(now, Some(changed.pieces.clone()), context);
    }

    /// Warns, once, of files that end with something that is not the torrent's.
    fn tell_too_long(&mut self, files: &[(FileIndex, u64)], context: &mut Context) {
        if files.is_empty() || std::mem::replace(&mut self.durability.told_too_long, true) {
            return;
        }
        for &(file, size) in files.iter().take(MAX_TOO_LONG) {
            let path = self.on_disk.storage.path(file).display().to_string();
            let (length, remedy) = (self.layout().file(file).length, context.options.remedies.overwrite);
            let reason = format!(
                "it is complete, and {} bytes longer than it should be; to cut it, {remedy}",
                size - length
            );
            self.tell(context, Kind::FileTooLong { path, length, size, reason });
        }
    }

    /// What is in these files is not known any more.
    fn doubt(&mut self, changed: &ChangedFiles) {
        let Some(path) = changed.paths.first() else { return };
        let path = path.display().to_string();
        let reason = format!("{} was changed by another program; start again to check it", escape(&path));
        self.obstacle.get_or_insert((Verdict::Incomplete, reason));
    }

    /// Behind the last writes: writes unfinished pieces, syncs all, saves resume data that name it, and closes the files. Only
    /// what is to come before other writes is done on the thread that writes.
    pub(super) fn save_last(&mut self, now: Instant, context: &mut Context) {
        self.durability.next_save = None;
        let (id, storage) = (self.id, self.on_disk.storage.clone());
        let state_dir = self.options.state_dir.clone();
        let unfinished = match self.obstacle.is_none() && state_dir.is_some() {
            true => self.transfer_mut().map(Transfer::take_partial_pieces).unwrap_or_default(),
            false => BTreeMap::new(),
        };
        let resume = self.resume(self.have());
        let (notify, syncs) = (context.notify.clone(), context.disk.sync_queue(self.on_disk.lane));
        let work = move || {
            let partial = checking::write_partial(&storage, unfinished).unwrap_or_default();
            syncs.push(Box::new(move || {
                let synced = storage.sync();
                let resume = resume.map(|resume| Resume { partial, ..resume });
                let snapshot = resume.map(|resume| resume::snapshot(&storage, resume, true));
                if let (Ok(()), Some(state_dir), Some(snapshot)) = (&synced, &state_dir, &snapshot) {
                    // Without resume data the next start reads everything: slower, and as right.
                    let _ = resume::store(state_dir, &storage, snapshot);
                }
                storage.close_all();
                let (changed, too_long) =
                    snapshot.map(|snapshot| (snapshot.changed, snapshot.too_long)).unzip();
                let too_long = too_long.unwrap_or_default();
                let _ = notify.send(Notice::LastSaved(id, LastSaved { synced, changed, too_long }));
            }));
        };
        if !context.disk.write(self.on_disk.lane, WriteJob::Then(Box::new(work))) {
            let path = self.on_disk.storage.basedir().to_owned();
            let error = StorageError::new(StorageErrorKind::Io, Operation::Write, path);
            self.on_last_saved(
                now,
                LastSaved { synced: Err(error), changed: None, too_long: Vec::new() },
                context,
            );
        }
    }

    /// All is synced, resume data are stored, the files are closed; or it failed.
    pub(crate) fn on_last_saved(&mut self, now: Instant, saved: LastSaved, context: &mut Context) {
        self.end_last_save();
        if let Err(error) = saved.synced {
            self.distrust();
            self.on_storage_error(now, &error, context);
        }
        if self.is_complete() {
            self.tell_too_long(&saved.too_long, context);
        }
        if let Some(changed) = saved.changed.filter(|changed| !changed.pieces.is_empty()) {
            self.doubt(&changed);
        }
    }

    /// The torrent is stopped and may be started again: all is synced and saved, and the files are closed.
    pub(super) fn save_and_close(&mut self, context: &Context) {
        self.durability.next_save = None;
        self.sync(SyncAim::Save, context);
        self.close_files(context);
    }

    /// A sync has failed: what was written since the last good one may be lost.
    fn distrust(&mut self) {
        let lost = self.have().difference(&self.durability.synced);
        self.durability.doubtful.union_with(&lost);
        self.durability.renew = true;
    }
}
