//! One thread's view of the files: each opened once for the pieces that lie in it one after another.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Fault, LANES};
use crate::layout::{BLOCK_LENGTH, FileIndex, Layout, PieceIndex, Span};
use crate::storage::{self, InPlace, Note, Opened, Storage, StorageError, StorageErrorKind};

/// Files held open by all threads of a check together, where the system allows eight times as many.
const MAX_OPEN_FILES: usize = 32;

/// The result of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Got {
    All,
    Missing,
    Unreadable,
}

/// A file as it was found when this thread came to it.
enum OpenedState {
    Open(Opened),
    /// Unwanted: its bytes may be in the part file.
    Absent,
    Failed(Got),
}

struct OpenedFile {
    file: FileIndex,
    state: OpenedState,
    /// A run of the file that is known to be a hole.
    hole: Range<u64>,
    /// The same file, to be read past the page cache: opened when that is first wanted, and `None` if it can't be.
    direct: Option<Option<File>>,
}

pub(super) struct PieceReader<'a> {
    storage: &'a Storage,
    found: &'a [AtomicU64],
    faults: &'a Mutex<BTreeMap<FileIndex, Fault>>,
    /// The files used last, the newest at the front.
    entries: VecDeque<OpenedFile>,
    capacity: usize,
}

impl<'a> PieceReader<'a> {
    pub(super) fn new(
        storage: &'a Storage,
        found: &'a [AtomicU64],
        faults: &'a Mutex<BTreeMap<FileIndex, Fault>>,
        threads: usize,
    ) -> PieceReader<'a> {
        let together = storage::allowed_files(8).min(MAX_OPEN_FILES);
        let capacity = (together / threads).clamp(1, LANES);
        PieceReader { storage, found, faults, entries: VecDeque::new(), capacity }
    }

    /// Fills `buffer` from the stream; pad files read as zeros.
    pub(super) fn read(&mut self, layout: &Layout, offset: u64, buffer: &mut [u8]) -> Got {
        let (mut rest, mut at) = (buffer, offset);
        for span in layout.spans(offset, rest.len() as u64) {
            let (place, later) = rest.split_at_mut(span.length as usize);
            let got = if layout.file(span.file).pad {
                place.fill(0);
                Got::All
            } else {
                self.read_span(span, at, place)
            };
            if got != Got::All {
                return got;
            }
            (rest, at) = (later, at + span.length);
        }
        Got::All
    }

    fn read_span(&mut self, span: Span, in_stream: u64, place: &mut [u8]) -> Got {
        let entry = self.entry(span.file);
        match &entry.state {
            OpenedState::Failed(got) => *got,
            OpenedState::Absent => match self.storage.read_absent(span.file, span.offset, in_stream, place) {
                Ok(()) => Got::All,
                Err(error) => self.failed(span.file, &error),
            },
            OpenedState::Open(opened) if span.offset >= opened.size => Got::Missing,
            OpenedState::Open(opened) => {
                let mut places = [IoSliceMut::new(place)];
                match storage::read_full(&opened.file, &mut places, span.offset) {
                    Ok(count) if count == span.length => {
                        self.storage.trace(|| Note::Read { file: span.file, length: count });
                        Got::All
                    }
                    Ok(count) => {
                        // Short, or cut while we read.
                        self.found(span.file).fetch_min(span.offset + count + 2, Ordering::Relaxed);
                        Got::Missing
                    }
                    Err(error) => {
                        let path = self.storage.path(span.file);
                        let error = StorageError::from_io(storage::Operation::Read, path, error);
                        self.failed(span.file, &error)
                    }
                }
            }
        }
    }

    fn found(&self, file: FileIndex) -> &'a AtomicU64 {
        &self.found[file.0 as usize]
    }

    fn entry(&mut self, file: FileIndex) -> &mut OpenedFile {
        match self.entries.iter().position(|entry| entry.file == file) {
            Some(0) => {}
            Some(position) => {
                let entry = self.entries.remove(position).expect("position is inside");
                self.entries.push_front(entry);
            }
            None => {
                self.close_all_but(self.capacity - 1);
                let state = self.open(file);
                self.entries.push_front(OpenedFile { file, state, hole: 0..0, direct: None });
            }
        }
        &mut self.entries[0]
    }

    fn open(&mut self, file: FileIndex) -> OpenedState {
        if self.storage.is_absent(file) {
            self.storage.expect_absent(file);
            return OpenedState::Absent;
        }
        let mut opened = self.storage.open_to_check(file);
        if opened.as_ref().is_err_and(StorageError::is_out_of_handles) {
            self.close_all_but(0);
            opened = self.storage.open_to_check(file);
        }
        match opened {
            Ok(opened) => {
                self.saw(file, opened.size);
                self.storage.trace(|| Note::Opened { file, writable: false });
                storage::read_once(&opened.file);
                OpenedState::Open(opened)
            }
            Err(error) => OpenedState::Failed(self.failed(file, &error)),
        }
    }

    /// Lets go of the files used longest ago.
    fn close_all_but(&mut self, keep: usize) {
        for entry in self.entries.drain(keep.min(self.entries.len())..) {
            if let OpenedState::Open(_) = entry.state {
                self.storage.trace(|| Note::Closed(entry.file));
            }
        }
    }

    /// A file that another thread saw longer or shorter: the least counts.
    fn saw(&self, file: FileIndex, size: u64) {
        let size = size.min(u64::MAX - 2) + 2;
        let first = self.found(file).compare_exchange(0, size, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_err() {
            self.found(file).fetch_min(size, Ordering::Relaxed);
        }
    }

    fn failed(&self, file: FileIndex, error: &StorageError) -> Got {
        use StorageErrorKind::{Missing, Short, Vanished};
        if matches!(error.kind, Missing | Vanished | Short) {
            if error.kind != Short {
                self.found(file).store(1, Ordering::Relaxed);
            }
            return Got::Missing;
        }
        let fault =
            Fault { kind: error.kind, errno: error.source.as_ref().and_then(std::io::Error::raw_os_error) };
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).entry(file).or_insert(fault);
        Got::Unreadable
    }

    /// What is in the place of a file that is not read: a link, maybe.
    pub(super) fn look_at(&self, file: FileIndex, found: Result<InPlace, StorageError>, link: bool) {
        match found {
            Ok(found) if found.is_file || link => self.saw(file, if link { 0 } else { found.size }),
            Ok(_) => {
                let path = self.storage.path(file);
                let error = StorageError::new(StorageErrorKind::NotAFile, storage::Operation::Read, path);
                self.failed(file, &error);
            }
            Err(error) => {
                self.failed(file, &error);
            }
        }
    }

    /// Whether the whole piece lies in a hole of one file, so that its bytes need not be read.
    pub(super) fn is_hole(&mut self, layout: &Layout, piece: PieceIndex) -> bool {
        let mut spans = layout.spans_of_piece(piece);
        let (Some(span), None) = (spans.next(), spans.next()) else { return false };
        let entry = self.entry(span.file);
        let OpenedState::Open(opened) = &entry.state else { return false };
        let end = span.offset + span.length;
        if end > opened.size {
            return false;
        }
        if !entry.hole.contains(&span.offset) {
            match next_data(opened, span.offset) {
                Some(data) => entry.hole = span.offset..data,
                None => return false,
            }
        }
        entry.hole.contains(&span.offset) && entry.hole.end >= end
    }

    /// The file that holds all of the piece, if it is there and has all of its bytes.
    pub(super) fn single_file_of(&mut self, layout: &Layout, piece: PieceIndex) -> Option<FileIndex> {
        let mut spans = layout.spans_of_piece(piece);
        let (Some(span), None) = (spans.next(), spans.next()) else { return None };
        if layout.file(span.file).pad {
            return None;
        }
        let OpenedState::Open(opened) = &self.entry(span.file).state else { return None };
        (span.offset + span.length <= opened.size).then_some(span.file)
    }

    /// The piece behind the last one that lies in this file as a whole, and has all of its bytes.
    pub(super) fn end_in(&mut self, layout: &Layout, file: FileIndex) -> u32 {
        let OpenedState::Open(opened) = &self.entry(file).state else { return 0 };
        let extent = layout.file(file);
        let end = extent.offset + extent.length.min(opened.size);
        let last = PieceIndex((end / u64::from(layout.piece_length())) as u32);
        // The last piece of a file, or of all, may be shorter than the others.
        let is_whole =
            layout.contains(last) && layout.piece_offset(last) + u64::from(layout.piece_size(last)) <= end;
        last.0 + u32::from(is_whole)
    }

    /// A file that has so many bytes, past the page cache, if the system reads it so.
    pub(super) fn direct_up_to(&mut self, file: FileIndex, end: u64) -> Option<&File> {
        let OpenedState::Open(opened) = &self.entry(file).state else { return None };
        if end > opened.size {
            return None;
        }
        self.direct(file)
    }

    /// A file that is open, past the page cache, if the system reads it so.
    pub(super) fn direct(&mut self, file: FileIndex) -> Option<&File> {
        let entry = self.entry(file);
        let OpenedState::Open(opened) = &entry.state else { return None };
        entry.direct.get_or_insert_with(|| storage::open_direct(&opened.file)).as_ref()
    }

    /// Whether the end of the piece is in memory already, as far as the system tells. (The end:
    /// the beginning may have been read ahead.)
    pub(super) fn is_cached(&mut self, layout: &Layout, piece: PieceIndex) -> bool {
        let Some(span) = layout.spans_of_piece(piece).last() else { return true };
        match &self.entry(span.file).state {
            OpenedState::Open(opened) => storage::read_one_page(&opened.file, || {
                !must_wait(&opened.file, span.offset + span.length - 1)
            }),
            OpenedState::Absent | OpenedState::Failed(_) => true,
        }
    }

    /// Whether some block of the piece may never have been written. Blocks do not begin where the
    /// file system's do, so half of one in a hole is enough.
    pub(super) fn has_hole(&mut self, layout: &Layout, piece: PieceIndex) -> bool {
        layout.spans_of_piece(piece).any(|span| {
            let OpenedState::Open(opened) = &self.entry(span.file).state else { return false };
            // Blocks that are set aside are holes until somebody reads them, or the system does so ahead of
            // somebody: until then and, on most file systems, again when what was read is forgotten.
            has_hole_in(opened, span) || {
                storage::forget(
                    &opened.file,
                    span.offset.saturating_sub(READ_AHEAD),
                    span.length + 2 * READ_AHEAD,
                );
                has_hole_in(opened, span)
            }
        })
    }
}

/// Bytes on both sides of a piece that the system may keep in one page with its ends.
const READ_AHEAD: u64 = 2 << 20;

fn has_hole_in(opened: &Opened, span: Span) -> bool {
    let (mut at, end) = (span.offset, span.offset + span.length);
    let enough = u64::from(BLOCK_LENGTH / 2).min(span.length);
    while let Some(start) = next_hole(opened, at).filter(|&start| start < end) {
        let stop = next_data(opened, start).unwrap_or(start).min(end);
        if stop - start >= enough {
            return true;
        }
        // Only the end of the file is a hole without length.
        at = if stop > start { stop } else { return false };
    }
    false
}

impl Drop for PieceReader<'_> {
    fn drop(&mut self) {
        self.close_all_but(0);
    }
}

/// Where data begin at or after `offset`; the end of the file if there are none.
#[cfg(target_os = "linux")]
fn next_data(opened: &Opened, offset: u64) -> Option<u64> {
    match rustix::fs::seek(&opened.file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(data) => Some(data),
        Err(rustix::io::Errno::NXIO) => Some(opened.size),
        Err(_) => None,
    }
}

#[cfg(target_os = "linux")]
fn next_hole(opened: &Opened, offset: u64) -> Option<u64> {
    rustix::fs::seek(&opened.file, rustix::fs::SeekFrom::Hole(offset)).ok()
}

/// Whether reading the byte at `offset` would wait for the disk.
#[cfg(target_os = "linux")]
pub(crate) fn must_wait(file: &File, offset: u64) -> bool {
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    let mut byte = [0];
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, flags);
    read == Err(rustix::io::Errno::AGAIN)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn must_wait(_: &File, _: u64) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn next_data(_: &Opened, _: u64) -> Option<u64> {
    None
}

#[cfg(not(target_os = "linux"))]
fn next_hole(_: &Opened, _: u64) -> Option<u64> {
    None
}
