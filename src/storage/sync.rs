//! Bringing what was written to the disk.

use super::pool::Handle;
use super::root::{self, Root};
use super::{Operation, Storage, StorageError, StorageErrorKind, Unsynced, lock};
use crate::layout::FileIndex;

/// With more files and folders than this to sync, the whole file system is synced in one call:
/// a journal commit for each would take minutes.
#[cfg(target_os = "linux")]
const MANY: usize = 64;

impl Storage {
    pub(super) fn mark_unsynced(&self, file: FileIndex, handle: &Handle) {
        if lock(&self.unsynced).files.contains_key(&file) {
            return;
        }
        let dev = root::found(&handle.file).map_or(0, |found| found.identity.dev());
        lock(&self.unsynced).files.insert(file, dev);
    }

    /// Returns once everything whose `write_at` had returned before this call is on the disk, with
    /// the folder entries that lead to it.
    ///
    /// After an error what was written since the last good sync may be lost, whatever later calls
    /// say: check those pieces again before they count.
    pub fn sync(&self) -> Result<(), StorageError> {
        let _one_at_a_time = lock(&self.syncing);
        let taken = std::mem::take(&mut *lock(&self.unsynced));
        let synced = self.sync_files(&taken).and_then(|()| self.sync_part());
        if synced.is_err() {
            let mut unsynced = lock(&self.unsynced);
            unsynced.files.extend(taken.files);
            unsynced.folders.extend(taken.folders);
        }
        synced
    }

    fn sync_part(&self) -> Result<(), StorageError> {
        match &mut *lock(&self.part) {
            Some(part) => part.sync().map_err(|error| self.part_error(Operation::Write, error)),
            None => Ok(()),
        }
    }

    fn sync_files(&self, unsynced: &Unsynced) -> Result<(), StorageError> {
        if unsynced.files.is_empty() && unsynced.folders.is_empty() {
            return Ok(());
        }
        let root = self.root(Operation::Write)?;
        let failed = |path: &std::path::Path, error| StorageError::from_io(Operation::Write, path, error);
        self.look_after_folders(&root)
            .map_err(|()| StorageError::new(StorageErrorKind::Vanished, Operation::Write, &self.basedir))?;
        let at_once = sync_at_once(&root, unsynced.files.len() + unsynced.folders.len())
            .map_err(|error| failed(&self.basedir, error))?;
        for (&file, &dev) in &unsynced.files {
            if at_once && dev == root.identity().dev() {
                continue;
            }
            let handle = self.readable(file)?;
            handle.file.sync_data().map_err(|error| self.io_error(Operation::Write, file, error))?;
        }
        for folder in unsynced.folders.iter().filter(|_| !at_once) {
            root.sync_folder(folder).map_err(|error| failed(&self.basedir.join(&**folder), error))?;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn sync_at_once(root: &Root, count: usize) -> std::io::Result<bool> {
    if count > MANY {
        root.sync_file_system()?;
    }
    Ok(count > MANY)
}

#[cfg(not(target_os = "linux"))]
fn sync_at_once(_: &Root, _: usize) -> std::io::Result<bool> {
    Ok(false)
}
