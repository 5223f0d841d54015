//! What a torrent's files have to tell besides errors.

use super::Engine;
use crate::event::Kind;
use crate::metainfo::InfoHash;
use crate::storage::{Note, Storage, StorageError, StorageErrorKind};

impl Engine {
    /// Tells what the storage has noted since the last call.
    pub(super) fn tell_notes(&mut self, hash: InfoHash) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let storage = torrent.on_disk.storage.clone();
        for note in storage.take_notes() {
            self.tell(hash, event_of(&storage, note));
        }
    }

    /// Takes an error for a warning, and tells it, if it only keeps what has no bytes from being made:
    /// a torrent whose data are all there can be shared from where nothing may be written.
    pub(super) fn put_up_with(&mut self, hash: InfoHash, error: StorageError) -> Option<StorageError> {
        let complete = self.torrents.get(&hash).is_some_and(|torrent| torrent.is_complete());
        if !complete || !matches!(error.kind, StorageErrorKind::ReadOnly | StorageErrorKind::Denied) {
            return Some(error);
        }
        let path = error.path.display().to_string();
        self.tell(hash, Kind::FileWarning { path, reason: error.to_string() });
        None
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
