//! What becomes of a torrent's data on the disk: made ready, synced, named by resume data, closed.
//!
//! Decides what may be vouched for. All that could block is done on the disk's threads. What is known is
//! looked at on the one that writes, so that no write comes in between; syncing and storing, which are
//! slow, are done beside the writes until the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checking;
use super::options::TorrentOptions;
use super::torrent::Torrent;
use super::{Engine, Notice};
use crate::bitfield::Bitfield;
use crate::disk::WriteJob;
use crate::event::{Kind, State};
use crate::ids::InfoHashes;
use crate::layout::PieceIndex;
use crate::storage::resume::{self, Resume};
use crate::storage::{Storage, StorageError, StorageErrorKind, StorageOptions};

/// How long verified pieces may wait until they are synced and named by resume data: what a kill
/// costs at the most to hash again.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// Bytes that are written before they are brought to the disk, beside further writes, so that little is
/// left to wait for at the end.
const FLUSH_EVERY: u64 = 32 << 20;

/// Files that were not used for this long are closed.
const IDLE: Duration = Duration::from_secs(60);

/// How safe the pieces of a torrent are, and when that is seen to.
#[derive(Debug)]
pub struct Safety {
    /// Handed to the disk's threads, and not heard of yet. Bounded by what the swarm hands out.
    pub writing: BTreeSet<PieceIndex>,
    /// On the disk for certain.
    synced: Bitfield,
    /// Written before a sync failed: the disk may not have them, whatever is read back.
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

impl Safety {
    /// Of a torrent that nothing is known of, with so many pieces.
    pub fn new(pieces: u32) -> Safety {
        Safety {
            writing: BTreeSet::new(),
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

    /// A check has ended: what resume data vouched for was synced in an earlier run. If it `read`
    /// anything, the next start is to be spared that.
    pub fn checked(&mut self, now: Instant, vouched: Bitfield, read: bool, prepared: bool) {
        self.doubtful = Bitfield::new(vouched.len());
        self.synced = vouched;
        self.prepared |= prepared;
        if read {
            self.save_soon(now);
        }
    }

    /// Those of these pieces that are on the disk for certain.
    pub fn synced_of(&self, pieces: &Bitfield) -> Bitfield {
        let mut synced = pieces.clone();
        synced.intersect_with(&self.synced);
        synced
    }

    /// There is something new to be saved.
    pub fn save_soon(&mut self, now: Instant) {
        self.next_save.get_or_insert(now + SAVE_EVERY);
    }

    /// Now is the time to save.
    pub fn save_now(&mut self, now: Instant) {
        self.next_save = Some(now);
    }

    /// Files are read or written now.
    pub fn use_files(&mut self, now: Instant) {
        self.used = true;
        self.next_idle.get_or_insert(now + IDLE);
    }

    /// When there is something to be done though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_save.into_iter().chain(self.next_idle).min()
    }
}

/// What a sync came to.
pub struct Synced {
    /// Of which swarm.
    generation: u32,
    /// Pieces that are on the disk now.
    safe: Result<Bitfield, StorageError>,
    /// Resume data are to be saved.
    save: bool,
}

impl Torrent {
    /// What may be vouched for, once all that was given to the thread that writes so far is done. What
    /// is there and not `safe`ly on the disk, or under way, is to be hashed again.
    fn resume(&self, safe: &Bitfield) -> Option<Resume> {
        let totals = self.swarm()?.totals(Instant::now());
        let mut unchecked = self.unchecked.clone();
        unchecked.extend(self.have().minus(safe).chain(self.safety.writing.iter().copied()));
        Some(Resume {
            have: safe.clone(),
            unchecked,
            partial: Vec::new(),
            uploaded: totals.uploaded,
            downloaded: totals.downloaded,
        })
    }

    /// Files that know nothing of what was there before.
    pub fn new_storage(&self) -> Arc<Storage> {
        let options = storage_options(&self.options);
        Arc::new(self.on_disk.storage.renewed(&self.on_disk.metainfo, options))
    }
}

/// How files are treated.
pub fn storage_options(options: &TorrentOptions) -> StorageOptions {
    StorageOptions {
        preallocate: options.preallocate,
        max_open_files: 0,
        priorities: options.priorities.clone(),
        trace: false,
    }
}

impl Engine {
    /// Makes files ready for what is missing, on the thread that will write them.
    pub(super) fn prepare(&mut self, hash: InfoHashes) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let (storage, notify) = (torrent.on_disk.storage.clone(), self.notify.clone());
        let work = move || {
            let _ = notify.send(Notice::Prepared(hash, storage.prepare()));
        };
        // If too much waits there, each write makes what it needs.
        let _ = self.disk.write(WriteJob::Then(Box::new(work)));
    }

    pub(super) fn on_prepared(&mut self, now: Instant, hash: InfoHashes, result: Result<(), StorageError>) {
        self.tell_notes(hash);
        match result.map_err(|error| self.put_up_with(hash, error)) {
            Err(Some(error)) if error.kind == StorageErrorKind::TooSmall => self.refuse(now, hash, &error),
            Err(Some(error)) => self.on_storage_error(now, hash, &error),
            Ok(()) | Err(None) => {
                if let Some(torrent) = self.torrents.get_mut(&hash) {
                    torrent.safety.prepared = true;
                }
            }
        }
    }

    /// There is no room for what is to be set aside: the torrent ends before it has begun.
    pub(super) fn refuse(&mut self, now: Instant, hash: InfoHashes, error: &StorageError) {
        self.on_storage_error(now, hash, error);
        self.begin_end(now, hash, super::torrent::verdict_of(error), error.to_string());
    }

    /// `piece` was written: now and then what is written is brought to the disk.
    pub(super) fn flush(&mut self, hash: InfoHashes, piece: PieceIndex) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.safety.unflushed += u64::from(torrent.on_disk.metainfo.layout.piece_size(piece));
        if torrent.safety.unflushed < FLUSH_EVERY {
            return;
        }
        self.sync(hash, false);
    }

    /// Saves what waits for it, closes files that nobody uses.
    pub(super) fn look_after_files(&mut self, now: Instant, hash: InfoHashes) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        if torrent.ending.is_some() || torrent.ended.is_some() {
            return;
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (save, close) = (due(torrent.safety.next_save), due(torrent.safety.next_idle));
        if save {
            torrent.safety.next_save = None;
        }
        if close {
            // One more time after the last use: then all that is left is closed.
            torrent.safety.next_idle = std::mem::take(&mut torrent.safety.used).then(|| now + IDLE);
            let storage = torrent.on_disk.storage.clone();
            let _ = self.disk.write(WriteJob::Then(Box::new(move || storage.close_idle())));
        }
        if save {
            self.sync(hash, true);
        }
    }

    /// Syncs what is written so far beside further writes; then saves resume data, if they are due.
    pub(super) fn sync(&mut self, hash: InfoHashes, save: bool) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.safety.unflushed = 0;
        let (storage, have) = (torrent.on_disk.storage.clone(), torrent.have().clone());
        let (generation, notify) = (torrent.generation, self.notify.clone());
        let work = move || {
            let safe = storage.sync().map(|()| have);
            let _ = notify.send(Notice::Synced(hash, Synced { generation, safe, save }));
        };
        // If too much waits there, the next one does it all.
        let _ = self.disk.sync(Box::new(work));
    }

    pub(super) fn on_synced(&mut self, now: Instant, hash: InfoHashes, synced: Synced) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        if torrent.generation != synced.generation {
            return;
        }
        match synced.safe {
            Err(error) => {
                torrent.distrust();
                self.on_storage_error(now, hash, &error);
            }
            Ok(safe) => {
                torrent.safety.synced = safe;
                if synced.save {
                    self.take_snapshot(hash);
                }
            }
        }
        self.touched.insert(hash);
    }

    /// Looks at what is known, between two writes.
    fn take_snapshot(&mut self, hash: InfoHashes) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let storage = torrent.on_disk.storage.clone();
        let (Some(_), Some(resume)) = (&torrent.options.state_dir, torrent.resume(&torrent.safety.synced))
        else {
            return;
        };
        let notify = self.notify.clone();
        let work = move || {
            let _ = notify.send(Notice::Snapshot(hash, resume::snapshot(&storage, &resume)));
        };
        let _ = self.disk.write(WriteJob::Then(Box::new(work)));
    }

    pub(super) fn on_snapshot(&mut self, hash: InfoHashes, snapshot: resume::Snapshot) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let (storage, state_dir) = (torrent.on_disk.storage.clone(), torrent.options.state_dir.clone());
        let work = move || {
            // Without resume data the next start reads everything: slower, and as right.
            let _ = state_dir.map(|state_dir| resume::store(&state_dir, &storage, &snapshot));
        };
        let _ = self.disk.sync(Box::new(work));
    }

    /// Behind the last writes: writes unfinished pieces, if this is the torrent's end, syncs all, saves
    /// resume data that name it, and closes the files.
    pub(super) fn save_all(&mut self, hash: InfoHashes) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.safety.next_save = None;
        let storage = torrent.on_disk.storage.clone();
        let state_dir = torrent.options.state_dir.clone();
        let unfinished = match torrent.ending.is_some() && torrent.error.is_none() {
            true => std::mem::take(&mut torrent.assembling),
            false => Default::default(),
        };
        let mut resume = torrent.resume(torrent.have());
        let notify = self.notify.clone();
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
            let _ = notify.send(Notice::SavedAll(hash, synced));
        };
        if !self.disk.write(WriteJob::Then(Box::new(work))) {
            self.on_saved_all(Instant::now(), hash, Ok(()));
        }
    }

    pub(super) fn on_saved_all(&mut self, now: Instant, hash: InfoHashes, result: Result<(), StorageError>) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        if let Some(ending) = torrent.ending.as_mut() {
            ending.saved = ending.saving;
        }
        if let Err(error) = result {
            torrent.distrust();
            self.on_storage_error(now, hash, &error);
        }
        self.touched.insert(hash);
    }

    /// The torrent is paused, keeps what it has, and goes on when it is started again.
    pub(super) fn on_storage_error(&mut self, now: Instant, hash: InfoHashes, error: &StorageError) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.safety.renew |= is_news(error.kind);
        if torrent.error.is_some() || torrent.ended.is_some() {
            return;
        }
        let reason = error.to_string();
        torrent.error = Some((super::torrent::verdict_of(error), reason.clone()));
        let (state, ending) = (torrent.state, torrent.ending.is_some());
        let (path, storage) = (error.path.display().to_string(), torrent.on_disk.storage.clone());
        self.tell(hash, Kind::FileError { path, reason: reason.clone() });
        if state == State::Started && !ending {
            self.enter(now, hash, State::Paused, &reason);
            // Whoever mends it may have to unmount the disk.
            self.disk.write(WriteJob::Then(Box::new(move || storage.close_all())));
        }
    }
}

impl Torrent {
    /// A sync has failed: what was written since the last good one may be lost.
    fn distrust(&mut self) {
        let lost = self.have().difference(&self.safety.synced);
        self.safety.doubtful.union_with(&lost);
        self.safety.renew = true;
    }
}

/// Whether an error says that the files are not what they were taken for. If not, it will do to try again.
fn is_news(kind: StorageErrorKind) -> bool {
    use StorageErrorKind::{Denied, Full, NameTooLong, ReadOnly};
    !matches!(kind, Full | Denied | ReadOnly | NameTooLong)
}
