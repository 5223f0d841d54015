//! What becomes of a torrent's data on the disk: made ready, synced, named by resume data, closed.
//!
//! Decides what may be vouched for. All that could block is done on the disk's threads: on the one that
//! writes, behind the writes before it, or beside it, where only what is written already matters.

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
use crate::layout::PieceIndex;
use crate::metainfo::InfoHash;
use crate::storage::resume::{self, Resume};
use crate::storage::{Storage, StorageError, StorageErrorKind, StorageOptions};
use crate::swarm::Totals;

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

impl Torrent {
    /// What may be vouched for once all that was given to the disk's thread so far is done and synced.
    fn resume(&self, totals: &Totals) -> Resume {
        let (mut have, mut unchecked) = (self.have().clone(), self.unchecked.clone());
        for piece in self.safety.doubtful.iter() {
            have.remove(piece);
            unchecked.insert(piece);
        }
        // They may be written before what is saved is looked at, and nobody has said yet how it went.
        for &piece in &self.safety.writing {
            unchecked.insert(piece);
        }
        Resume {
            have,
            unchecked,
            partial: Vec::new(),
            uploaded: totals.uploaded,
            downloaded: totals.downloaded,
        }
    }

    /// Files that know nothing of what was there before.
    pub fn new_storage(&self) -> Arc<Storage> {
        let options = storage_options(&self.options);
        Arc::new(Storage::new(&self.on_disk.metainfo, &self.options.basedir, options))
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
    pub(super) fn prepare(&mut self, hash: InfoHash) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let (storage, notify) = (torrent.on_disk.storage.clone(), self.notify.clone());
        let work = move || {
            let _ = notify.send(Notice::Prepared(hash, storage.prepare()));
        };
        // If too much waits there, each write makes what it needs.
        let _ = self.disk.write(WriteJob::Then(Box::new(work)));
    }

    pub(super) fn on_prepared(&mut self, now: Instant, hash: InfoHash, result: Result<(), StorageError>) {
        match (result, self.torrents.get_mut(&hash)) {
            (Ok(()), Some(torrent)) => torrent.safety.prepared = true,
            (Err(error), _) => self.on_storage_error(now, hash, &error),
            (Ok(()), None) => {}
        }
    }

    /// `piece` was written: now and then what is written is brought to the disk.
    pub(super) fn flush(&mut self, hash: InfoHash, piece: PieceIndex) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.safety.unflushed += u64::from(torrent.on_disk.metainfo.layout.piece_size(piece));
        if torrent.safety.unflushed < FLUSH_EVERY {
            return;
        }
        torrent.safety.unflushed = 0;
        let (storage, notify) = (torrent.on_disk.storage.clone(), self.notify.clone());
        self.disk.sync(Box::new(move || {
            if storage.sync().is_err() {
                let _ = notify.send(Notice::NotFlushed(hash));
            }
        }));
    }

    /// Saving says what is wrong: a storage that could not be synced once never can be.
    pub(super) fn on_not_flushed(&mut self, now: Instant, hash: InfoHash) {
        if let Some(torrent) = self.torrents.get_mut(&hash) {
            torrent.safety.save_now(now);
            self.touched.insert(hash);
        }
    }

    /// Saves what waits for it, closes files that nobody uses.
    pub(super) fn look_after_files(&mut self, now: Instant, hash: InfoHash) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        if torrent.ending.is_some() || torrent.ended.is_some() {
            return;
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (save, close) = (due(torrent.safety.next_save), due(torrent.safety.next_idle));
        if close {
            // One more time after the last use: then all that is left is closed.
            torrent.safety.next_idle = std::mem::take(&mut torrent.safety.used).then(|| now + IDLE);
            let storage = torrent.on_disk.storage.clone();
            let _ = self.disk.write(WriteJob::Then(Box::new(move || storage.close_idle())));
        }
        if save {
            self.save(hash, false);
        }
    }

    /// Syncs what is written and saves resume data that name it. At a torrent's end (`last`) that is behind
    /// the writes that are under way, unfinished pieces are written too, and files are closed.
    pub(super) fn save(&mut self, hash: InfoHash, last: bool) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.safety.next_save = None;
        let storage = torrent.on_disk.storage.clone();
        let state_dir = torrent.options.state_dir.clone();
        let unfinished = match last && torrent.ending.is_some() && torrent.error.is_none() {
            true => std::mem::take(&mut torrent.assembling),
            false => Default::default(),
        };
        let totals = torrent.swarm().map(|swarm| swarm.totals(Instant::now()));
        let mut resume = totals.map(|totals| torrent.resume(&totals));
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
                let _ = resume::save(state_dir, &storage, resume);
            }
            if last {
                storage.close_all();
            }
            let safe = synced.map(|()| resume.map(|resume| resume.have));
            let _ = notify.send(Notice::Saved(hash, safe));
        };
        // The last words come behind the last writes. What is saved before them has been written already.
        let work = Box::new(work);
        let queued = if last { self.disk.write(WriteJob::Then(work)) } else { self.disk.sync(work) };
        if !queued {
            self.on_saved(Instant::now(), hash, Ok(None));
        }
    }

    /// `safe` are pieces that are on the disk now.
    pub(super) fn on_saved(
        &mut self,
        now: Instant,
        hash: InfoHash,
        safe: Result<Option<Bitfield>, StorageError>,
    ) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let error = match safe {
            Ok(safe) => {
                safe.iter().flat_map(Bitfield::iter).for_each(|piece| {
                    torrent.safety.synced.insert(piece);
                });
                None
            }
            Err(error) => {
                torrent.distrust();
                Some(error)
            }
        };
        if let Some(ending) = torrent.ending.as_mut() {
            ending.saved = true;
        }
        if let Some(error) = error {
            self.on_storage_error(now, hash, &error);
        }
        self.touched.insert(hash);
    }

    /// The torrent is paused, keeps what it has, and goes on when it is started again.
    pub(super) fn on_storage_error(&mut self, now: Instant, hash: InfoHash, error: &StorageError) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.safety.renew |= is_news(error.kind);
        if torrent.error.is_some() || torrent.ended.is_some() {
            return;
        }
        let reason = error.to_string();
        torrent.error = Some((super::torrent::exit_code_of(error), reason.clone()));
        let (state, ending) = (torrent.state, torrent.ending.is_some());
        let path = error.path.display().to_string();
        self.tell(hash, Kind::FileError { path, reason: reason.clone() });
        if state == State::Started && !ending {
            self.enter(now, hash, State::Paused, &reason);
        }
    }
}

impl Torrent {
    /// A sync has failed: what was written since the last good one may be lost.
    fn distrust(&mut self) {
        let mut doubtful = std::mem::replace(&mut self.safety.doubtful, Bitfield::new(0));
        let lost: Vec<PieceIndex> = self.have().minus(&self.safety.synced).collect();
        lost.into_iter().for_each(|piece| {
            doubtful.insert(piece);
        });
        self.safety.doubtful = doubtful;
        self.safety.renew = true;
    }
}

/// Whether an error says that the files are not what they were taken for. If not, it will do to try again.
fn is_news(kind: StorageErrorKind) -> bool {
    use StorageErrorKind::{Denied, Full, NameTooLong, ReadOnly};
    !matches!(kind, Full | Denied | ReadOnly | NameTooLong)
}
