//! Errors of files that are none for the torrent.

use super::Engine;
use crate::event::Kind;
use crate::ids::InfoHashes;
use crate::storage::{StorageError, StorageErrorKind};

impl Engine {
    /// Takes an error for a warning, and tells it, if it only keeps what has no bytes from being made:
    /// a torrent whose data are all there can be shared from where nothing may be written.
    pub(super) fn put_up_with(&mut self, hash: InfoHashes, error: StorageError) -> Option<StorageError> {
        let complete = self.torrents.get(&hash).is_some_and(|torrent| torrent.is_complete());
        if !complete || !matches!(error.kind, StorageErrorKind::ReadOnly | StorageErrorKind::Denied) {
            return Some(error);
        }
        let path = error.path.display().to_string();
        self.tell(hash, Kind::FileWarning { path, reason: error.to_string() });
        None
    }
}
