//! Opening files: each for what it is, made where it is missing, given its size.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;

use super::handles::{self, Handle, allowed_files};
use super::part::PartFile;
use super::root::{self, FileIdentity, FoundEntry, PathFinder, Root};
use super::{Note, Operation, Place, Preallocate, Storage, StorageError, StorageErrorKind, lock};
use crate::bitfield::Bitfield;
use crate::layout::{FileIndex, Span};

/// Files held open by one torrent at the most, where the system allows more; of all together see [`handles::excess`].
const MAX_OPEN_FILES: usize = 256;

/// How often, and for how long at a time, [`Storage::close_written`] waits for whoever reads.
const MAX_WAITS: u32 = 500;
const WAIT: std::time::Duration = std::time::Duration::from_millis(2);

/// How many handles a pool may keep: what was asked for, else a quarter of what the process may have.
pub(super) fn pool_limit(asked: usize) -> usize {
    if asked > 0 { asked } else { allowed_files(4).min(MAX_OPEN_FILES) }
}

/// A file opened for the check, past the pool.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The file.
    pub file: File,
    /// Its length in bytes when it was opened.
    pub size: u64,
    /// The device that it is on.
    pub dev: u64,
}

impl Storage {
    /// basedir; opened and remembered on first use.
    pub(super) fn root(&self, operation: Operation) -> Result<Arc<Root>, StorageError> {
        if let Some(root) = &lock(&self.base).root {
            return Ok(root.clone());
        }
        let opened = Root::shared(&self.basedir);
        let mut base = lock(&self.base);
        let vanished = || StorageError::new(StorageErrorKind::Vanished, operation, &self.basedir);
        match opened {
            Ok(root) if base.identity.is_some_and(|known| !root.is_same(known, root.identity())) => {
                Err(vanished())
            }
            Ok(root) => {
                base.identity = Some(root.identity());
                let root = base.root.get_or_insert(root).clone();
                drop(base);
                self.settle_names(&root);
                Ok(root)
            }
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && (base.identity.is_some() || base.before.is_some()) =>
            {
                Err(vanished())
            }
            Err(error) => Err(StorageError::from_io(operation, &self.basedir, error)),
        }
    }

    /// basedir, after a look whether it and the torrent's own folder are still what they were: an
    /// empty mount point must not be filled.
    pub(super) fn root_for_writing(&self, file: FileIndex) -> Result<Arc<Root>, StorageError> {
        let root = self.root(Operation::Write)?;
        self.check_folder_identity(&root).map_err(|()| self.vanished(file))?;
        Ok(root)
    }

    fn vanished(&self, file: FileIndex) -> StorageError {
        StorageError::new(StorageErrorKind::Vanished, Operation::Write, self.path(file))
    }

    pub(super) fn check_folder_identity(&self, root: &Root) -> Result<(), ()> {
        if !FileIdentity::at(&self.basedir).is_ok_and(|now| root.is_same(now, root.identity())) {
            return Err(());
        }
        let Some(top) = self.top() else { return Ok(()) };
        let now = root.find(top).ok().map(|found| found.identity);
        let mut base = lock(&self.base);
        match (base.top, now) {
            (Some(before), now) if !now.is_some_and(|now| root.is_same(now, before)) => Err(()),
            (_, now) => {
                base.top = now;
                Ok(())
            }
        }
    }

    /// A handle to read from.
    pub(super) fn readable(&self, file: FileIndex) -> Result<Arc<Handle>, StorageError> {
        if let Some(handle) = lock(&self.pool).get(file, false) {
            return Ok(handle);
        }
        let Opened { file: opened, dev, .. } = self.open_unpooled(file)?;
        let handle = Arc::new(Handle::new(opened, false, dev));
        self.keep(file, &handle);
        Ok(handle)
    }

    /// Opens a file for reading, past the pool.
    pub(crate) fn open_unpooled(&self, file: FileIndex) -> Result<Opened, StorageError> {
        let root = self.root(Operation::Read)?;
        match self.open_below(&root, file, OFlags::RDONLY, 0) {
            Ok((opened, found)) => {
                self.see(file);
                Ok(Opened { file: opened, size: found.size, dev: found.identity.dev() })
            }
            Err(error) => Err(self.open_error(Operation::Read, file, error)),
        }
    }

    /// Opens a file for a check of its pieces: what it is now is what its pieces are found right in.
    pub(crate) fn open_to_check(&self, file: FileIndex) -> Result<Opened, StorageError> {
        let opened = self.open_unpooled(file)?;
        let found = root::found(&opened.file).map_err(|error| self.io_error(Operation::Read, file, error))?;
        Storage::wait_until_times_tell(&found);
        self.expect_file(file, &found);
        Ok(Opened { size: found.size, ..opened })
    }

    /// An unwanted file is about to be read for a check, if it is there.
    pub(crate) fn expect_absent(&self, file: FileIndex) {
        let root = self.root(Operation::Read);
        if let Some(found) = root.ok().and_then(|root| root.find(self.name_of(file)).ok()) {
            Storage::wait_until_times_tell(&found);
            self.expect_file(file, &found);
        }
    }

    /// Opens a file.
    fn open_below(
        &self,
        root: &Root,
        file: FileIndex,
        flags: OFlags,
        mode: u32,
    ) -> io::Result<(File, FoundEntry)> {
        root.open_file(self.name_of(file), flags, mode)
    }

    /// What is in the files' places, one after the other.
    pub(crate) fn find_each(
        &self,
        files: impl Iterator<Item = FileIndex>,
        mut tell: impl FnMut(FileIndex, Result<FoundEntry, StorageError>),
    ) {
        let root = self.root(Operation::Read).ok();
        let mut finder = root.as_deref().map(PathFinder::new);
        for file in files {
            let path = self.name_of(file);
            let found = match &mut finder {
                Some(finder) => Ok(finder.find(path)),
                None => self.root(Operation::Read).map(|root| root.find(path)),
            };
            let failed = |error| StorageError::from_io(Operation::Read, self.path(file), error);
            tell(file, found.and_then(|found| found.map_err(failed)));
        }
    }

    /// A handle to write the bytes of `span` to. `root` is basedir, once it was looked at for this piece.
    pub(super) fn writable(
        &self,
        span: Span,
        root: &mut Option<Arc<Root>>,
    ) -> Result<Arc<Handle>, StorageError> {
        let file = span.file;
        let pooled = lock(&self.pool).get(file, true);
        if let Some(handle) = pooled {
            let found = root::found(&handle.file);
            let found = found.map_err(|error| self.io_error(Operation::Write, file, error))?;
            // What is written to a file without a name is lost when it closes.
            if found.links > 0 {
                self.expect_unwritten(file, &found);
                if found.size > self.layout.file(file).length {
                    self.give_size(span, &handle.file, found.size)
                        .map_err(|error| self.io_error(Operation::Write, file, error))?;
                }
                return Ok(handle);
            }
            lock(&self.pool).remove(file);
            return Err(self.vanished(file));
        }
        let root = match root {
            Some(root) => root,
            None => root.insert(self.root_for_writing(file)?),
        };
        let (opened, found) = self.open_for_writing(root, file)?;
        self.open_witness(root, file, found.identity.dev());
        self.expect_unwritten(file, &found);
        self.give_size(span, &opened, found.size)
            .map_err(|error| self.io_error(Operation::Create, file, error))?;
        let handle = Arc::new(Handle::new(opened, true, found.identity.dev()));
        self.keep(file, &handle);
        Ok(handle)
    }

    /// Opens a file for reading and writing; makes it, and its folders, if it never was there.
    /// `root` is from [`Storage::root_for_writing`], a short time ago.
    pub(super) fn open_for_writing(
        &self,
        root: &Root,
        file: FileIndex,
    ) -> Result<(File, FoundEntry), StorageError> {
        let slot = self.slot(file);
        let opened = match slot.seen.load(Ordering::Relaxed) {
            true => {
                let opened = self.open_below(root, file, OFlags::RDWR, 0);
                opened.map_err(|error| self.open_error(Operation::Write, file, error))?
            }
            false => self.make_file(root, file)?,
        };
        self.see(file);
        Ok(opened)
    }

    /// Opens a file that may not be there yet.
    fn make_file(&self, root: &Root, file: FileIndex) -> Result<(File, FoundEntry), StorageError> {
        let slot = self.slot(file);
        let mode = if slot.executable { 0o777 } else { 0o666 };
        let open = || self.open_below(root, file, OFlags::RDWR | OFlags::CREATE, mode);
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_folder_identity(root).map_err(|()| self.vanished(file))?;
                self.make_folders(root, self.name(slot)).and_then(|()| open())
            }
            opened => opened,
        };
        if let Err(error) = &opened
            && self.has_other_name(file, error)
        {
            return self.make_file(root, file);
        }
        let opened = opened.map_err(|error| {
            let is_there = root.find(self.name(slot)).is_ok();
            self.io_error(if is_there { Operation::Write } else { Operation::Create }, file, error)
        })?;
        let (folder, folders) = (parent(self.name(slot)), &mut lock(&self.unsynced).folders);
        if !folders.contains(folder) {
            folders.insert(folder.into());
        }
        Ok(opened)
    }

    /// Makes the folders above `path` and remembers to sync the entries.
    pub(super) fn make_folders(&self, root: &Root, path: &str) -> io::Result<()> {
        let made = root.make_parents(path)?;
        if made.is_empty() {
            return Ok(());
        }
        if let Some(top) = self.top().filter(|top| made.iter().any(|made| **made == **top)) {
            lock(&self.base).top = Some(root.find(top)?.identity);
        }
        lock(&self.unsynced).folders.extend(made.iter().map(|made| parent(made).into()));
        Ok(())
    }

    /// Cuts a file that is too long, now that it is written to, and stretches one that is too
    /// short, unless this very write gives it its size.
    fn give_size(&self, span: Span, file: &File, size: u64) -> io::Result<()> {
        let length = self.layout.file(span.file).length;
        if size > length {
            file.set_len(length)?;
            self.note(Note::Cut { file: span.file, from: size, to: length });
        } else if size < length && self.preallocate != Preallocate::None && span.offset + span.length < length
        {
            file.set_len(length)?;
        }
        Ok(())
    }

    fn keep(&self, file: FileIndex, handle: &Arc<Handle>) {
        let excess = handles::excess();
        let (given_up, gone) = {
            let mut pool = lock(&self.pool);
            (pool.given_up(), pool.put(file, handle.clone(), excess))
        };
        // It may be among them.
        given_up.for_each(|file| self.trace(|| Note::Closed(file)));
        self.trace(|| Note::Opened { file, writable: handle.writable });
        self.closed(gone);
    }

    fn closed(&self, gone: Vec<(FileIndex, Arc<Handle>)>) {
        gone.iter().for_each(|(file, _)| self.trace(|| Note::Closed(*file)));
    }

    /// Closes what was not used since the last call.
    pub fn close_idle(&self) {
        let gone = lock(&self.pool).take_idle();
        self.closed(gone);
    }

    /// Closes the files that are open for writing, so that programs among them can be run. Who reads by such a handle just
    /// now is waited for, for a second at the most.
    #[allow(clippy::disallowed_methods, reason = "nothing tells that a handle is let go of")]
    pub(crate) fn close_written(&self) {
        let gone = lock(&self.pool).take_writable();
        for (_, handle) in &gone {
            for _ in 0..MAX_WAITS {
                if Arc::strong_count(handle) == 1 {
                    break;
                }
                std::thread::sleep(WAIT);
            }
        }
        self.closed(gone);
    }

    /// Closes all files and lets go of basedir, so that its disk can be unmounted. What basedir was
    /// stays known. What was written and not synced stays so: the next [`Storage::sync`] opens it again, and until then what is
    /// told of its errors stays open.
    pub fn close_all(&self) {
        self.release_witnesses();
        self.close_handles();
    }

    pub(super) fn close_handles(&self) {
        let (given_up, gone) = {
            let mut pool = lock(&self.pool);
            (pool.given_up(), pool.take_all())
        };
        given_up.for_each(|file| self.trace(|| Note::Closed(file)));
        self.closed(gone);
        let mut part = lock(&self.part);
        if part.as_ref().is_some_and(|part| !part.is_unsynced()) {
            *part = None;
        }
        lock(&self.base).root = None;
    }

    /// The part file, read if it was not yet.
    pub(super) fn part(
        &self,
        operation: Operation,
    ) -> Result<MutexGuard<'_, Option<PartFile>>, StorageError> {
        let mut part = lock(&self.part);
        if part.is_none() {
            let root = self.root(operation)?;
            let loaded = PartFile::load(&root, self.info_hash, &self.layout);
            let loaded = loaded.map_err(|error| self.part_error(operation, error))?;
            if let Some(found) = loaded.found() {
                self.known_part.expect(found.fingerprint(root.habits()));
            }
            *part = Some(loaded);
        }
        Ok(part)
    }

    pub(super) fn part_error(&self, operation: Operation, error: io::Error) -> StorageError {
        let path = self.basedir.join(PartFile::name(self.info_hash));
        self.with_needed(StorageError::from_io(operation, path, error))
    }

    fn open_error(&self, operation: Operation, file: FileIndex, error: io::Error) -> StorageError {
        let seen = self.slot(file).seen.load(Ordering::Relaxed);
        if seen && error.kind() == io::ErrorKind::NotFound {
            return StorageError::new(StorageErrorKind::Vanished, operation, self.path(file));
        }
        self.io_error(operation, file, error)
    }

    pub(super) fn io_error(&self, operation: Operation, file: FileIndex, error: io::Error) -> StorageError {
        self.with_needed(StorageError::from_io(operation, self.path(file), error))
    }

    /// With a full disk, says how much is to be freed: what the wanted files still lack, less what
    /// is free.
    fn with_needed(&self, mut error: StorageError) -> StorageError {
        if error.kind == StorageErrorKind::Full
            && let Ok(root) = self.root(error.operation)
            && let Ok(free) = root.free_bytes()
        {
            error.needed =
                Some(self.bytes_to_allocate(&root).saturating_sub(free)).filter(|&bytes| bytes > 0);
        }
        error
    }

    /// Bytes that a check of these pieces would have to read, roughly: what the files that they lie in have on the disk.
    pub(crate) fn bytes_there(&self, pieces: &Bitfield) -> u64 {
        let layout = &self.layout;
        let files = layout.files().iter().enumerate().filter_map(|(index, extent)| {
            let file = FileIndex(index as u32);
            let asked = extent.length > 0 && pieces.count_in(layout.pieces_of_file(file)) > 0;
            (asked && !extent.pad).then_some(file)
        });
        let mut bytes = 0;
        self.find_each(files, |file, found| {
            // What cannot be looked at cannot be read.
            bytes += found.map_or(0, |found| found.allocated.min(layout.file(file).length));
        });
        bytes.min(pieces.bytes(layout))
    }

    /// Whether the disk has room for what is missing, as far as can be seen.
    pub(crate) fn has_room(&self) -> bool {
        let Ok(root) = self.root(Operation::Write) else { return false };
        root.free_bytes().is_ok_and(|free| free > 0 && free >= self.bytes_to_allocate(&root))
    }

    /// Bytes of the wanted files that have no blocks on the disk yet.
    pub(super) fn bytes_to_allocate(&self, root: &Root) -> u64 {
        let mut finder = PathFinder::new(root);
        let lacking = |(slot, extent): (&super::Slot, &crate::layout::Extent)| {
            let wanted = slot.place() == Place::File && extent.length > 0;
            let mut there = || finder.find(self.name(slot)).map_or(0, |found| found.allocated);
            if wanted { extent.length.saturating_sub(there()) } else { 0 }
        };
        self.slots.iter().zip(self.layout.files()).map(lacking).sum()
    }
}

/// The folder that holds `path`; `""` is basedir.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
