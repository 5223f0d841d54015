//! Making a torrent's files ready for what is missing, and what is told about files.

use std::time::{Duration, Instant};

use super::{Engine, Notice};
use crate::disk::WriteJob;
use crate::event::{Kind, State};
use crate::metainfo::InfoHash;
use crate::storage::{Note, Storage, StorageError, StorageErrorKind};
use crate::swarm::Input;

/// Files that were not used for so long are closed, at the latest when as much has passed again.
const IDLE: Duration = Duration::from_secs(60);

impl Engine {
    /// Makes files ready, behind the writes that are under way. The torrent starts when they are.
    pub(super) fn prepare(&mut self, now: Instant, hash: InfoHash) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let (storage, whole) = (torrent.on_disk.storage.clone(), torrent.is_complete());
        let notify = self.notify.clone();
        let work = move || {
            let prepared = storage.take_in();
            let prepared = prepared.and_then(|()| match whole {
                true => storage.prepare_whole(),
                false => storage.prepare(),
            });
            // If nobody listens any more the session has ended.
            let _ = notify.send(Notice::Prepared(hash, prepared.err()));
        };
        if !self.disk.write(WriteJob::Then(Box::new(work))) {
            // Files are made as they are written to, too.
            self.on_prepared(now, hash, None);
        }
    }

    pub(super) fn on_prepared(&mut self, now: Instant, hash: InfoHash, error: Option<StorageError>) {
        self.tell_notes(hash);
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let complete = torrent.is_complete();
        match error {
            Some(error) if error.kind == StorageErrorKind::TooSmall => {
                self.tell_error(hash, &error);
                return self.begin_end(now, hash, 9, error.to_string());
            }
            // What has no bytes cannot be made; all else is there and can be shared.
            Some(error)
                if complete
                    && matches!(error.kind, StorageErrorKind::ReadOnly | StorageErrorKind::Denied) =>
            {
                let path = error.path.display().to_string();
                self.tell(hash, Kind::FileWarning { path, reason: error.to_string() });
            }
            Some(error) => return self.on_storage_error(now, hash, &error),
            None => {}
        }
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.prepared = true;
        let (state, name) = (torrent.state, torrent.on_disk.metainfo.name.clone());
        if torrent.ending.is_none() {
            self.input(now, hash, Input::Enter(state));
            if complete && state == State::Started {
                self.tell(hash, Kind::Seeding { name });
            }
        }
        self.touched.insert(hash);
    }

    /// The torrent is paused, keeps what it has, and goes on when it is started again.
    pub(super) fn on_storage_error(&mut self, now: Instant, hash: InfoHash, error: &StorageError) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.prepared = false;
        if torrent.error.is_some() || torrent.ending.is_some() {
            return;
        }
        self.tell_error(hash, error);
        if self.torrents.get(&hash).is_some_and(|torrent| torrent.state == State::Started) {
            self.enter(now, hash, State::Paused, &error.to_string());
        }
    }

    fn tell_error(&mut self, hash: InfoHash, error: &StorageError) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let (path, reason) = (error.path.display().to_string(), error.to_string());
        torrent.error = Some((super::torrent::exit_code_of(error), reason.clone()));
        self.tell(hash, Kind::FileError { path, reason });
    }

    /// Files are used: see to it that they are closed when they are not any more.
    pub(super) fn note_use(&mut self, now: Instant, hash: InfoHash) {
        if let Some(torrent) = self.torrents.get_mut(&hash) {
            torrent.next_close.get_or_insert(now + IDLE);
        }
    }

    /// If it is time, closes files that were not used since it was last.
    pub(super) fn close_idle(&mut self, now: Instant, hash: InfoHash) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        if torrent.next_close.is_none_or(|at| at > now) {
            return;
        }
        let storage = torrent.on_disk.storage.clone();
        torrent.next_close = storage.has_open_files().then(|| now + IDLE);
        if torrent.next_close.is_some() {
            // Closing may wait for a slow disk. If too much waits there, they are not idle.
            let _ = self.disk.write(WriteJob::Then(Box::new(move || storage.close_idle())));
        }
    }

    /// Tells what the storage has noted since the last call.
    pub(super) fn tell_notes(&mut self, hash: InfoHash) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let storage = torrent.on_disk.storage.clone();
        for note in storage.take_notes() {
            self.tell(hash, event_of(&storage, note));
        }
    }
}

fn event_of(storage: &Storage, note: Note) -> Kind {
    let path = |file| storage.path(file).display().to_string();
    match note {
        Note::Cut { file, from, to } => Kind::FileWarning {
            path: path(file),
            reason: format!("it was {from} bytes long and is cut to its {to}, now that it is written to"),
        },
        Note::NotPreallocated => Kind::FileWarning {
            path: storage.basedir().display().to_string(),
            reason: "this file system cannot reserve blocks; files are sparse instead".into(),
        },
        Note::LinkInTheWay(file) => Kind::FileWarning {
            path: path(file),
            reason:
                "the symbolic link is not made: something else is in its place, or the file system has none"
                    .into(),
        },
        Note::Opened { file, writable } => {
            Kind::FileOpen { path: path(file), mode: if writable { "write" } else { "read" } }
        }
        Note::Closed(file) => Kind::FileClose { path: path(file) },
    }
}
