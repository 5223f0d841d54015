//! Bringing what was written to the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::{Arc, Weak};

use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::error::kind_of;
use super::handles::Handle;
use super::open::parent;
use super::root::{self, PathFinder, Root};
use super::{Operation, Place, Storage, StorageError, StorageErrorKind, Unsynced, lock};
use crate::bitfield::Bitfield;
use crate::layout::FileIndex;

/// With more files and folders than this to sync, the whole file system is synced in one call:
/// a journal commit for each would take minutes.
#[cfg(target_os = "linux")]
const MANY: usize = 64;

/// A file that is to be brought to the disk.
#[derive(Debug)]
pub(super) struct UnsyncedFile {
    /// The device that it is on.
    dev: u64,
    written: Written,
}

/// How a file was written since the last sync. An error of writing back is told to those descriptors that were open when it
/// happened; one that is opened later is told of it only if nobody has been, and the system still knows.
#[derive(Debug)]
enum Written {
    /// It was not: only read, and may be in memory only.
    Not,
    /// Through this one, which is asked as long as it is open.
    Through(Weak<Handle>),
    /// Through several, of which all but the last are closed: the [`Witnesses`] are asked.
    ThroughSeveral,
}

/// A descriptor of each file system that is written to, opened before the first write and open until all is synced, whatever
/// becomes of the files' own: the pool closes those when it needs room.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// By device. As many as file systems are mounted in the torrent's folder.
    by_dev: BTreeMap<u64, Arc<OwnedFd>>,
    /// They are to be closed as soon as nothing is unsynced: see [`Storage::close_all`].
    release: bool,
    /// A sync has failed: there is nothing more to be learned from them.
    spent: bool,
}

impl Storage {
    /// A file was written through this handle.
    pub(super) fn mark_unsynced(&self, file: FileIndex, handle: &Arc<Handle>) {
        let through = || UnsyncedFile { dev: handle.dev, written: Written::Through(Arc::downgrade(handle)) };
        let mut unsynced = lock(&self.unsynced);
        let known = unsynced.files.entry(file).or_insert_with(through);
        match &known.written {
            Written::Through(before) if before.as_ptr() == Arc::as_ptr(handle) => {}
            Written::Not => *known = through(),
            Written::Through(_) | Written::ThroughSeveral => known.written = Written::ThroughSeveral,
        }
    }

    /// Before `file`, on this device, is written to through a handle that is new.
    pub(super) fn open_witness(&self, root: &Root, file: FileIndex, dev: u64) {
        {
            let mut witnesses = lock(&self.witnesses);
            witnesses.release = false;
            if witnesses.by_dev.contains_key(&dev) {
                return;
            }
        }
        let name = self.name_of(file);
        // A folder that we may write to and not read, or one that is mounted itself: the file will do.
        let folder = root.open_folder(parent(name)).ok();
        let folder = folder.filter(|folder| root::device(folder).is_ok_and(|found| found == dev));
        if let Some(opened) = folder.or_else(|| root.open_below(name, OFlags::RDONLY, 0).ok()) {
            lock(&self.witnesses).by_dev.insert(dev, Arc::new(opened));
        }
    }

    /// Closes the descriptors that are told of errors, now or as soon as nothing is unsynced.
    pub(super) fn release_witnesses(&self) {
        let is_unsynced = self.has_unsynced_files();
        let mut witnesses = lock(&self.witnesses);
        witnesses.release = is_unsynced && !witnesses.spent;
        if !witnesses.release {
            witnesses.by_dev.clear();
        }
    }

    fn has_unsynced_files(&self) -> bool {
        let unsynced = lock(&self.unsynced);
        !unsynced.files.is_empty() || !unsynced.folders.is_empty()
    }

    /// Whether something is to be brought to the disk.
    pub fn is_unsynced(&self) -> bool {
        self.has_unsynced_files() || lock(&self.part).as_ref().is_some_and(super::part::PartFile::is_unsynced)
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
                let dev = found.identity.dev();
                unsynced.files.entry(file).or_insert(UnsyncedFile { dev, written: Written::Not });
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
            lock(&self.witnesses).spent = true;
        }
        // The files were closed meanwhile, and this has opened some again.
        if std::mem::take(&mut lock(&self.witnesses).release) {
            self.close_all();
        }
        synced
    }

    /// What was written to a file that was moved away since is not where it belongs.
    fn look_after_file(&self, finder: &mut PathFinder<'_>, file: FileIndex) -> Result<(), StorageError> {
        let Some(handle) = lock(&self.pool).get(file, false) else { return Ok(()) };
        let ours = root::found(&handle.file).map_err(|error| self.io_error(Operation::Write, file, error))?;
        match finder.find(self.name_of(file)) {
            Ok(found) if finder.root().is_same(found.identity, ours.identity) => Ok(()),
            // Whether it is there is not known: that says nothing of where it is.
            Err(error) if matches!(kind_of(&error), StorageErrorKind::Io | StorageErrorKind::Denied) => {
                Err(self.io_error(Operation::Write, file, error))
            }
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
        let here = root.identity().dev();
        let at_once = self
            .sync_at_once(&root, unsynced.files.len() + unsynced.folders.len())
            .map_err(|error| failed(&self.basedir, error))?;
        let mut finder = PathFinder::new(&root);
        // Devices of files that nobody but the witnesses can speak for.
        let mut to_ask = BTreeSet::new();
        for (&file, UnsyncedFile { dev, written }) in &unsynced.files {
            self.look_after_file(&mut finder, file)?;
            if at_once && *dev == here {
                continue;
            }
            let through = if let Written::Through(handle) = written { handle.upgrade() } else { None };
            if through.is_none() && !matches!(written, Written::Not) {
                to_ask.insert(*dev);
            }
            let handle = through.map_or_else(|| self.readable(file), Ok)?;
            as_far_as_can_be(handle.file.sync_data())
                .map_err(|error| self.io_error(Operation::Write, file, error))?;
        }
        for dev in to_ask {
            let witness = lock(&self.witnesses).by_dev.get(&dev).cloned();
            witness
                .map_or(Ok(()), |witness| as_far_as_can_be(sync_file_system(&witness)))
                .map_err(|error| failed(&self.basedir, error))?;
        }
        for folder in unsynced.folders.iter().filter(|_| !at_once) {
            as_far_as_can_be(root.sync_folder(folder))
                .map_err(|error| failed(&self.basedir.join(&**folder), error))?;
        }
        Ok(())
    }
}

impl Storage {
    /// With very much to sync, syncs basedir's file system as a whole; false if that was not done.
    #[cfg(target_os = "linux")]
    fn sync_at_once(&self, root: &Root, count: usize) -> std::io::Result<bool> {
        if count <= MANY {
            return Ok(false);
        }
        let witness = lock(&self.witnesses).by_dev.get(&root.identity().dev()).cloned();
        match witness.map_or_else(|| root.open_folder("").map(Arc::new), Ok) {
            Ok(witness) => sync_file_system(&witness).map(|()| true),
            // Nothing was written, and the folder may not be read.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::ACCESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_at_once(&self, _: &Root, _: usize) -> std::io::Result<bool> {
        Ok(false)
    }
}

/// Brings everything of the descriptor's file system to the disk, and says whether it was told of an error since it was opened, or
/// last asked (Linux 5.8).
#[cfg(target_os = "linux")]
fn sync_file_system(witness: &OwnedFd) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(witness)?)
}

/// There is no such call here: each file was asked.
#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &OwnedFd) -> std::io::Result<()> {
    Ok(())
}

/// Read-only file systems have nothing to bring to the disk, and some say so; a folder that we may not
/// read is none of ours.
fn as_far_as_can_be(synced: std::io::Result<()>) -> std::io::Result<()> {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::IoSlice;

    use tempfile::TempDir;

    use super::super::StorageOptions;
    use super::super::tests::{stream, torrent};
    use super::*;

    /// A torrent of so many files, of which two may be open at once, all written and not synced.
    fn written(dir: &TempDir, files: u64) -> Storage {
        let names: Vec<String> = (0..files).map(|n| format!("t/{n}")).collect();
        let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 10)).collect();
        let data = stream(10 * files.len() as u64);
        let options = StorageOptions { max_open_files: 2, ..Default::default() };
        let storage = Storage::new(&torrent(64, &files, &data), dir.path(), options);
        storage.write_at(0, &[IoSlice::new(&data)]).unwrap();
        storage
    }

    fn witnesses(storage: &Storage) -> Vec<Arc<OwnedFd>> {
        lock(&storage.witnesses).by_dev.values().cloned().collect()
    }

    /// From now on, who asks a descriptor that was open before the write hears of an error. (One of a kind that no file system
    /// answers stands for it.)
    fn tell_of_an_error(storage: &Storage, dir: &TempDir) {
        let deaf = rustix::fs::open(dir.path(), OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        let deaf = Arc::new(deaf);
        lock(&storage.witnesses).by_dev.values_mut().for_each(|witness| *witness = deaf.clone());
    }

    #[test]
    fn an_error_of_files_that_were_closed_before_the_sync_is_not_missed() {
        for files in [3, MANY as u64 + 1] {
            let dir = tempfile::tempdir().unwrap();
            let storage = written(&dir, files);
            assert_eq!(witnesses(&storage).len(), 1, "opened before the first write");
            tell_of_an_error(&storage, &dir);
            assert!(storage.sync().is_err(), "{files} files: it asked one that was opened after the error");
            assert!(storage.sync().is_err(), "the system tells of it once");
        }
    }

    #[test]
    fn files_that_are_still_open_are_asked_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let storage = written(&dir, 2);
        tell_of_an_error(&storage, &dir);
        storage.sync().unwrap();
    }

    #[test]
    fn closing_all_files_waits_for_the_sync_with_the_descriptor_that_is_told_of_errors() {
        let dir = tempfile::tempdir().unwrap();
        let storage = written(&dir, 2);
        let before = witnesses(&storage);
        storage.close_all();
        assert!(storage.is_unsynced());
        assert!(Arc::ptr_eq(&before[0], &witnesses(&storage)[0]), "the one that was there before the write");
        storage.sync().unwrap();
        assert!(!storage.is_unsynced() && witnesses(&storage).is_empty());
        assert!(lock(&storage.base).root.is_none(), "the disk can be unmounted");

        let storage = written(&dir, 2);
        storage.close_all();
        tell_of_an_error(&storage, &dir);
        storage.sync().unwrap_err();
        assert!(witnesses(&storage).is_empty() && lock(&storage.base).root.is_none());
    }

    #[test]
    fn whoever_writes_again_after_all_was_closed_keeps_the_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let storage = written(&dir, 2);
        storage.close_all();
        storage.write_at(0, &[IoSlice::new(&[1; 10])]).unwrap();
        let before = witnesses(&storage);
        storage.sync().unwrap();
        assert!(Arc::ptr_eq(&before[0], &witnesses(&storage)[0]));
        storage.close_all();
        assert!(witnesses(&storage).is_empty());
    }
}
