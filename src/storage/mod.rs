//! The files of a torrent on the disk: finding, making, reading, writing, syncing them, and the
//! part file and resume data that go with them.
//!
//! Knows pieces, bytes and files; never peers or messages, and no sockets, tasks or clocks. Every
//! call may block: call from threads that may.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::WireHash;
use crate::layout::{FileIndex, Layout, Span};
use crate::metainfo::{File, Metainfo};

mod advice;
pub(crate) mod claim;
#[cfg(feature = "internals")]
pub(crate) mod damage;
mod device;
mod error;
mod foreign;
mod handles;
pub(crate) mod kept;
mod mixed;
mod names;
pub(crate) mod nodes;
mod note;
mod open;
pub(crate) mod outlook;
mod part;
mod pool;
mod prepare;
mod registry;
mod reserve;
pub(crate) mod resume;
mod root;
#[allow(clippy::disallowed_methods, reason = "asks the clock how old a file is, and waits for its next step")]
mod stamp;
mod sync;
mod vectored;
mod ways;
mod whole;

pub(crate) use advice::{open_direct, read_once, read_one_page};
pub(crate) use device::Device;
pub(crate) use error::{Operation, StorageError, StorageErrorKind};
pub(crate) use handles::allowed_files;
pub(crate) use note::Note;
pub(crate) use open::Opened;
pub(crate) use root::FoundEntry as InPlace;
pub(crate) use sync::forget;
pub(crate) use vectored::read_full;
pub(crate) use whole::publish;

/// How files are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Preallocate {
    /// Files grow as pieces are written.
    None,
    /// Files get their full size, and blocks as they are written; on ext4 a stretch at a time.
    #[default]
    Sparse,
    /// Files get their blocks; refused before anything is written when the disk is too small.
    Full,
}

/// How [`Storage`] treats the files of one torrent.
#[derive(Clone, Debug, Default)]
pub struct StorageOptions {
    /// How files are made.
    pub preallocate: Preallocate,
    /// Whether files that are too long are cut before anything is written to them.
    pub overwrite: bool,
    /// Files held open at once; 0: 256 at most. All torrents together have a quarter of what the system allows this process.
    pub max_open_files: usize,
    /// Weight of each file, in order; 0: not wanted, never made. Empty: all are wanted.
    pub priorities: Vec<u32>,
    /// Whether opening, closing, reading and writing are told ([`Storage::set_trace`]).
    pub trace: bool,
    /// Files that other torrents of this session write too, and the same bytes.
    pub(crate) shared: claim::SharedFiles,
}

/// Bytes in one write call. Measured on ext4 with 1 GiB into a new file: from 16 KiB to 64 KiB the processor
/// time falls by a quarter, beyond that by nothing; with 1 MiB it is many times as much, because the page
/// cache then takes large fresh folios. (On a virtual machine whose host takes back free memory, fresh
/// pages cost so much that even 128 KiB at times takes twice as long.)
const WRITE_UNIT: u64 = 64 * 1024;

/// What becomes of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// A plain file.
    File,
    /// BEP 47: zeros, nowhere.
    Pad,
    /// BEP 47: a symbolic link, without bytes.
    Link,
    /// Not wanted: the part file. What an earlier run left in the file itself may be read.
    Absent,
}

impl Place {
    const ALL: [Place; 4] = [Place::File, Place::Pad, Place::Link, Place::Absent];
}

#[derive(Debug)]
struct Slot {
    path: Box<str>,
    /// What stands for the path where the file system refuses it, if some do.
    plain: Option<Box<str>>,
    /// The same path in the other normal form, if there are two.
    other_form: Option<Box<str>>,
    /// What becomes of the file's bytes if it is wanted.
    when_wanted: Place,
    /// What becomes of them now: a [`Place`] as a number.
    place: AtomicU8,
    executable: bool,
    /// Whether the file was there in this run; if it is not there later, it has vanished.
    seen: AtomicBool,
    /// What it was when we last wrote it, or opened it to read it.
    known: stamp::KnownFile,
}

impl Slot {
    fn new(file: &File, wanted: bool) -> Slot {
        let when_wanted = match &file.symlink {
            _ if file.pad => Place::Pad,
            Some(_) if file.length == 0 => Place::Link,
            // A link that has bytes of its own cannot be made.
            Some(_) => Place::Absent,
            None => Place::File,
        };
        let slot = Slot {
            path: file.path.clone(),
            plain: None,
            other_form: None,
            when_wanted,
            place: AtomicU8::new(0),
            executable: file.executable,
            seen: AtomicBool::new(false),
            known: stamp::KnownFile::default(),
        };
        slot.set_place(slot.place_if(wanted));
        slot
    }

    /// What becomes of the file's bytes if it is wanted, or if it is not.
    fn place_if(&self, wanted: bool) -> Place {
        match self.when_wanted {
            Place::Pad => Place::Pad,
            place if wanted => place,
            _ => Place::Absent,
        }
    }

    fn place(&self) -> Place {
        Place::ALL[usize::from(self.place.load(Ordering::Acquire))]
    }

    fn set_place(&self, place: Place) {
        self.place.store(place as u8, Ordering::Release);
    }
}

/// basedir as it was found first, and as it is held open.
#[derive(Debug, Default)]
struct Base {
    root: Option<Arc<root::Root>>,
    identity: Option<root::FileIdentity>,
    /// The torrent's own folder, once it is there.
    top: Option<root::FileIdentity>,
    /// What both were for the [`Storage`] before this one, until they are found to be right.
    before: Option<(root::FileIdentity, Option<root::FileIdentity>)>,
}

/// What was written and made since the last sync. Bounded by the number of files and folders.
#[derive(Debug, Default)]
struct Unsynced {
    files: BTreeMap<FileIndex, sync::UnsyncedFile>,
    /// Folders with new entries; `""` is basedir.
    folders: BTreeSet<Box<str>>,
}

/// The files of one torrent. Shared by the threads that write, read and check.
///
/// Six locks, each held for a few lookups in memory and never while a file is read, written or
/// synced: whoever needs a file takes a counted handle out and lets the lock go. The exception is
/// `part`, held while the part file is read, written or synced, because its records follow one another;
/// few pieces go there. No two are held at once, but for `part`, which is always the first of them.
/// `syncing` and `stored` see to it that one thread at a time syncs, and stores resume data; nothing else
/// waits for them, and they come before all others.
///
/// basedir is remembered from its first use on. If another folder stands in its place later (an
/// unmounted disk, above all), every call that would write fails with
/// [`StorageErrorKind::Vanished`]; to go on, make a new one with [`Storage::renewed`] and check again.
#[derive(Debug)]
pub struct Storage {
    basedir: PathBuf,
    info_hash: WireHash,
    layout: Arc<Layout>,
    slots: Vec<Slot>,
    /// Symbolic links and where they point.
    links: Vec<(FileIndex, Box<str>)>,
    /// Whether the file system refuses names, so that others stand for them.
    plain_names: AtomicBool,
    /// The torrent's files stand under the other normal form of their names.
    other_form: AtomicBool,
    preallocate: Preallocate,
    overwrite: bool,
    shared: claim::SharedFiles,
    reserve: reserve::Reserve,
    trace: AtomicBool,
    base: Mutex<Base>,
    pool: Arc<Mutex<pool::FilePool>>,
    unsynced: Mutex<Unsynced>,
    witnesses: Mutex<sync::Witnesses>,
    /// Held while syncing, so that a sync also waits for what an earlier one has begun to bring to the
    /// disk. What failed, and where, once something has.
    syncing: Mutex<Option<(StorageErrorKind, PathBuf)>>,
    /// Snapshots for resume data that were taken.
    snapshots: AtomicU64,
    /// The newest of them that was stored. Held while one is stored, so that no older one comes after it.
    stored: Mutex<u64>,
    /// Read on first use.
    part: Mutex<Option<part::PartFile>>,
    /// What the part file was when we last wrote or read it.
    known_part: stamp::KnownFile,
    notes: Mutex<note::StorageNotes>,
}

impl Storage {
    /// Lays out what would be where. Opens nothing and makes nothing.
    pub fn new(metainfo: &Metainfo, basedir: &Path, options: StorageOptions) -> Storage {
        let wanted = |index: usize| options.priorities.get(index).is_none_or(|&weight| weight > 0);
        let slots = metainfo.files.iter().enumerate().map(|(index, file)| Slot::new(file, wanted(index)));
        let mut slots: Vec<Slot> = slots.collect();
        names::give_plain_names(&mut slots);
        names::give_other_forms(&mut slots);
        let links = metainfo.files.iter().enumerate();
        let links = links.filter_map(|(index, file)| Some((FileIndex(index as u32), file.symlink.clone()?)));
        let storage = Storage {
            basedir: basedir.to_owned(),
            info_hash: metainfo.info_hash.wire(),
            layout: metainfo.layout.clone(),
            links: links.collect(),
            slots,
            plain_names: AtomicBool::new(false),
            other_form: AtomicBool::new(false),
            preallocate: options.preallocate,
            overwrite: options.overwrite,
            shared: options.shared,
            reserve: reserve::Reserve::new(0),
            trace: AtomicBool::new(options.trace),
            base: Mutex::default(),
            pool: handles::pool(open::pool_limit(options.max_open_files)),
            unsynced: Mutex::default(),
            witnesses: Mutex::default(),
            syncing: Mutex::default(),
            snapshots: AtomicU64::new(0),
            stored: Mutex::default(),
            part: Mutex::default(),
            known_part: stamp::KnownFile::default(),
            notes: Mutex::default(),
        };
        storage.reserve.set_wanted(storage.bytes_in_files());
        storage
    }

    fn bytes_in_files(&self) -> u64 {
        let files = self.slots.iter().zip(self.layout.files());
        let lengths = files.filter(|(slot, _)| slot.place() == Place::File).map(|(_, extent)| extent.length);
        lengths.fold(0, u64::saturating_add)
    }

    /// One for the same folder that remembers nothing but which folder that was: if another one without
    /// any file of this torrent is in its place, it is not filled.
    pub fn renewed(&self, metainfo: &Metainfo, options: StorageOptions) -> Storage {
        let storage = Storage::new(metainfo, &self.basedir, options);
        let known = lock(&self.base);
        lock(&storage.base).before = known.before.or(known.identity.map(|identity| (identity, known.top)));
        drop(known);
        storage
    }

    /// The folder that the torrent lives in.
    pub fn basedir(&self) -> &Path {
        &self.basedir
    }

    /// Sizes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The path of a file, whether it is there yet or not.
    pub fn path(&self, file: FileIndex) -> PathBuf {
        self.basedir.join(self.name_of(file))
    }

    /// Whether the file's bytes go to a part file instead of the file.
    pub(crate) fn is_absent(&self, file: FileIndex) -> bool {
        self.slot(file).place() == Place::Absent
    }

    /// Writes bytes of the stream, from `offset` on, to the files they belong to. The bytes must
    /// lie inside the torrent; bytes of pad files are passed over. Folders and files are made as
    /// they are needed. After an error some of the bytes may have been written.
    pub fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), StorageError> {
        let length = data.iter().map(|slice| slice.len() as u64).sum();
        debug_assert!(offset + length <= self.layout.end(), "bytes past the end of the torrent");
        let mut source = vectored::ByteSource::new(data);
        let (mut at, mut root) = (offset, None);
        for span in self.layout.spans(offset, length) {
            let bytes = source.take(span.length);
            match self.slot(span.file).place() {
                Place::File => self.write_span(span, &bytes, &mut root)?,
                Place::Absent => self.write_part(span.file, at, &bytes)?,
                Place::Pad | Place::Link => {}
            }
            at += span.length;
        }
        Ok(())
    }

    fn write_span(
        &self,
        span: Span,
        bytes: &[&[u8]],
        root: &mut Option<Arc<root::Root>>,
    ) -> Result<(), StorageError> {
        let handle = self.writable(span, root)?;
        let extent = self.layout.file(span.file);
        // Files of a block or two gain nothing.
        if self.preallocate == Preallocate::Sparse && extent.length > WRITE_UNIT {
            self.reserve.make(&handle.file, &extent, span);
        }
        let slices: Vec<IoSlice<'_>> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
        let mut source = vectored::ByteSource::new(&slices);
        let mut written = Ok(());
        for skip in (0..span.length).step_by(WRITE_UNIT as usize) {
            let mut unit: Vec<IoSlice<'_>> = source.take(WRITE_UNIT).into_iter().map(IoSlice::new).collect();
            written = vectored::write_all(&handle.file, &mut unit, span.offset + skip);
            if written.is_err() {
                break;
            }
        }
        // After the write: a sync that runs meanwhile must not take the mark away. And after a
        // failed one: some of it may be there.
        self.mark_unsynced(span.file, &handle);
        self.know_file(span.file, &handle.file);
        if written.is_ok() {
            self.trace(|| Note::Written { file: span.file, length: span.length });
        }
        written.map_err(|error| self.io_error(Operation::Write, span.file, error))
    }

    /// Reads bytes of the stream, from `offset` on; pad files, and gaps behind files, read as zeros. The bytes must lie
    /// in pieces of the torrent. A file that is not there or too short is an error, never zeros.
    pub fn read_at(&self, offset: u64, places: &mut [IoSliceMut<'_>]) -> Result<(), StorageError> {
        let length = places.iter().map(|slice| slice.len() as u64).sum();
        let limit = self.layout.end().next_multiple_of(u64::from(self.layout.piece_length()));
        debug_assert!(offset + length <= limit, "bytes past the end of the torrent");
        let mut sink = vectored::ByteSink::new(places);
        let mut at = offset;
        for span in self.layout.spans(offset, length) {
            let start = self.layout.file(span.file).offset + span.offset;
            sink.take(start - at).iter_mut().for_each(|place| place.fill(0));
            at = start;
            let mut places = sink.take(span.length);
            match self.slot(span.file).place() {
                Place::File => self.read_span(span, &mut places)?,
                Place::Absent => {
                    let mut skip = 0;
                    for place in &mut places {
                        self.read_absent(span.file, span.offset + skip, at + skip, place)?;
                        skip += place.len() as u64;
                    }
                }
                Place::Pad | Place::Link => places.iter_mut().for_each(|place| place.fill(0)),
            }
            at += span.length;
        }
        sink.take(offset + length - at).iter_mut().for_each(|place| place.fill(0));
        Ok(())
    }

    fn read_span(&self, span: Span, places: &mut [IoSliceMut<'_>]) -> Result<(), StorageError> {
        let handle = self.readable(span.file)?;
        match vectored::read_full(&handle.file, places, span.offset) {
            Ok(count) if count == span.length => {
                self.trace(|| Note::Read { file: span.file, length: count });
                Ok(())
            }
            Ok(_) => Err(StorageError::new(StorageErrorKind::Short, Operation::Read, self.path(span.file))),
            Err(error) => Err(self.io_error(Operation::Read, span.file, error)),
        }
    }

    fn write_part(&self, file: FileIndex, offset: u64, data: &[&[u8]]) -> Result<(), StorageError> {
        let mut part = self.part(Operation::Write)?;
        let root = self.root_for_writing(file)?;
        let part = part.as_mut().expect("loaded by part()");
        let made = part.write(&root, offset, data);
        self.know_part_file(part);
        if made.map_err(|error| self.part_error(Operation::Write, error))? {
            lock(&self.unsynced).folders.insert("".into());
        }
        Ok(())
    }

    /// Reads bytes of an unwanted file: from the part file, and the rest from the file itself, if
    /// an earlier run made it.
    pub(crate) fn read_absent(
        &self,
        file: FileIndex,
        in_file: u64,
        in_stream: u64,
        place: &mut [u8],
    ) -> Result<(), StorageError> {
        let mut at = 0;
        let mut gaps = Vec::new();
        {
            let part = self.part(Operation::Read)?;
            let part = part.as_ref().expect("loaded by part()");
            for range in part.kept(in_stream..in_stream + place.len() as u64) {
                let (start, end) = ((range.start - in_stream) as usize, (range.end - in_stream) as usize);
                let read = part.read(range.start, &mut place[start..end]);
                read.map_err(|error| self.part_error(Operation::Read, error))?;
                gaps.push(at..start);
                at = end;
            }
        }
        gaps.push(at..place.len());
        for gap in gaps.into_iter().filter(|gap| !gap.is_empty()) {
            let span = Span { file, offset: in_file + gap.start as u64, length: gap.len() as u64 };
            self.read_span(span, &mut [IoSliceMut::new(&mut place[gap])])?;
        }
        Ok(())
    }

    fn slot(&self, file: FileIndex) -> &Slot {
        &self.slots[file.0 as usize]
    }

    fn see(&self, file: FileIndex) {
        self.slot(file).seen.store(true, Ordering::Relaxed);
    }
}

/// Nothing that these locks guard is left half-changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod wanted_tests;
