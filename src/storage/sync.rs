//! Bringing what was written to the disk.

use std::num::NonZeroU64;

use super::pool::Handle;
use super::root::{self, PathFinder, Root};
use super::{Operation, Place, Storage, StorageError, StorageErrorKind, Unsynced, lock};
use crate::bitfield::Bitfield;
use crate::layout::FileIndex;

/// With more files and folders than this to sync, the whole file system is synced in one call:
/// a journal commit for each would take minutes.
#[cfg(target_os = "linux")]
const MANY: usize = 64;

impl Storage {
    pub(super) fn mark_unsynced(&self, file: FileIndex, handle: &Handle) {
        lock(&self.unsynced).files.insert(file, handle.dev);
    }

    /// Has the next [`Storage::sync`] bring these pieces to the disk too: they were read, and may be
    /// in memory only.
    pub fn mark_read(&self, pieces: &Bitfield) {
        let Ok(root) = self.root(Operation::Read) else { return };
        let mut finder = PathFinder::new(&root);
        for (index, slot) in self.slots.iter().enumerate() {
            let file = FileIndex(index as u32);
            if slot.place() != Place::File || pieces.count_in(self.layout.pieces_of_file(file)) == 0 {
                continue;
            }
            if let Ok(found) = finder.find(self.name(slot)) {
                let mut unsynced = lock(&self.unsynced);
                unsynced.files.insert(file, found.identity.dev());
                let path = self.name(slot);
                let above = path.match_indices('/').map(|(end, _)| &path[..end]);
                std::iter::once("").chain(above).for_each(|folder| {
                    unsynced.folders.insert(folder.into());
                });
            }
        }
        if let Some(part) = &mut *lock(&self.part) {
            part.mark_read();
        }
    }

    /// Has the system forget what it keeps in memory of the files of these pieces, so that the next
    /// read shows what the disk has. A request, not an order.
    pub fn drop_caches(&self, pieces: &Bitfield) {
        for index in 0..self.slots.len() as u32 {
            let file = FileIndex(index);
            if pieces.count_in(self.layout.pieces_of_file(file)) > 0
                && let Ok(opened) = self.open_unpooled(file)
            {
                forget(&opened.file, 0, self.layout.file(file).length);
            }
        }
    }

    /// Returns once everything whose `write_at` had returned before this call is on the disk, with
    /// the folder entries that lead to it.
    ///
    /// After an error what was written since the last good sync may be lost: check those pieces again, with
    /// a new `Storage`, before they count. The system tells of it once, so all later calls repeat it.
    pub fn sync(&self) -> Result<(), StorageError> {
        let mut failed = lock(&self.syncing);
        if let Some((kind, path)) = &*failed {
            return Err(StorageError::new(*kind, Operation::Write, path));
        }
        let taken = std::mem::take(&mut *lock(&self.unsynced));
        let synced = self.sync_files(&taken).and_then(|()| self.sync_part());
        if let Err(error) = &synced {
            *failed = Some((error.kind, error.path.clone()));
        }
        synced
    }

    /// What was written to a file that was moved away since is not where it belongs.
    fn look_after_file(&self, finder: &mut PathFinder<'_>, file: FileIndex) -> Result<(), StorageError> {
        let Some(handle) = lock(&self.pool).get(file, false) else { return Ok(()) };
        let ours = root::found(&handle.file).map_err(|error| self.io_error(Operation::Write, file, error))?;
        match finder.find(self.name_of(file)) {
            Ok(found) if finder.root().is_same(found.identity, ours.identity) => Ok(()),
            _ => Err(StorageError::new(StorageErrorKind::Vanished, Operation::Write, self.path(file))),
        }
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
        self.check_folder_identity(&root)
            .map_err(|()| StorageError::new(StorageErrorKind::Vanished, Operation::Write, &self.basedir))?;
        let at_once = sync_at_once(&root, unsynced.files.len() + unsynced.folders.len())
            .map_err(|error| failed(&self.basedir, error))?;
        let mut finder = PathFinder::new(&root);
        for (&file, &dev) in &unsynced.files {
            self.look_after_file(&mut finder, file)?;
            if at_once && dev == root.identity().dev() {
                continue;
            }
            let handle = self.readable(file)?;
            as_far_as_can_be(handle.file.sync_data())
                .map_err(|error| self.io_error(Operation::Write, file, error))?;
        }
        for folder in unsynced.folders.iter().filter(|_| !at_once) {
            as_far_as_can_be(root.sync_folder(folder))
                .map_err(|error| failed(&self.basedir.join(&**folder), error))?;
        }
        Ok(())
    }
}

/// Read-only file systems have nothing to bring to the disk, and some say so; a folder that we may not
/// read is none of ours.
fn as_far_as_can_be(synced: std::io::Result<()>) -> std::io::Result<()> {
    use rustix::io::Errno;
    match &synced {
        Err(error)
            if matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::ROFS | Errno::ACCESS)) =>
        {
            Ok(())
        }
        _ => synced,
    }
}

/// Has the system forget what it keeps in memory of so many bytes of a file. A request, not an order.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
pub(crate) fn forget(file: &std::fs::File, offset: u64, length: u64) {
    // Where it is refused, what is read later is no worse than it was.
    let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(length), rustix::fs::Advice::DontNeed);
}

/// Has the system forget what it keeps in memory of so many bytes of a file. Here it cannot be asked.
#[cfg(any(target_os = "macos", target_os = "ios"))]
pub(crate) fn forget(_: &std::fs::File, _: u64, _: u64) {}

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
