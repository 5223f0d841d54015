//! What happens to files, for whoever asks later: kept as values, told as events.

use std::sync::atomic::Ordering;

use super::{Storage, lock};
use crate::event::Kind;
use crate::layout::FileIndex;

/// Something about files that is worth telling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A file was longer than the torrent says and has lost its tail, because it is written to now.
    Cut {
        /// The file.
        file: FileIndex,
        /// Its length before, in bytes.
        from: u64,
        /// Its length now.
        to: u64,
    },
    /// The file system refuses names: others stand for so many of them.
    NamesReplaced {
        /// Names of files.
        count: u64,
    },
    /// The file system cannot set blocks aside; files are sparse instead.
    NotPreallocated,
    /// A symbolic link of the torrent was not made: something else is in its place, or the file
    /// system has no links.
    LinkInTheWay(FileIndex),
    /// A file was opened ([`StorageOptions::trace`](super::StorageOptions::trace)).
    Opened {
        /// The file.
        file: FileIndex,
        /// Whether it was opened for writing too.
        writable: bool,
    },
    /// A file was closed ([`StorageOptions::trace`](super::StorageOptions::trace)).
    Closed(FileIndex),
    /// So many bytes of a file were read ([`StorageOptions::trace`](super::StorageOptions::trace)).
    Read {
        /// The file.
        file: FileIndex,
        /// Bytes that were read.
        length: u64,
    },
    /// So many bytes were written to a file ([`StorageOptions::trace`](super::StorageOptions::trace)).
    Written {
        /// The file.
        file: FileIndex,
        /// Bytes that were written.
        length: u64,
    },
    /// How many notes found no room.
    Missed(u64),
}

/// StorageNotes kept until [`Storage::take_notes`]; those that come after that many are only counted.
const MAX_NOTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct StorageNotes {
    kept: Vec<Note>,
    missed: u64,
}

impl Storage {
    /// Takes what has happened since the last call.
    pub fn take_notes(&self) -> Vec<Note> {
        let StorageNotes { mut kept, missed } = std::mem::take(&mut *lock(&self.notes));
        if missed > 0 {
            kept.push(Note::Missed(missed));
        }
        kept
    }

    /// Whether opening, closing, reading and writing are told from now on.
    pub fn set_trace(&self, trace: bool) {
        self.trace.store(trace, Ordering::Relaxed);
    }

    pub(super) fn note(&self, note: Note) {
        let mut notes = lock(&self.notes);
        match notes.kept.len() < MAX_NOTES {
            true => notes.kept.push(note),
            false => notes.missed += 1,
        }
    }

    /// Builds a note only if such are wanted.
    pub(crate) fn trace(&self, note: impl FnOnce() -> Note) {
        if self.trace.load(Ordering::Relaxed) {
            self.note(note());
        }
    }

    /// A note as an event.
    pub fn event_of(&self, note: Note) -> Kind {
        let path = |file| self.path(file).display().to_string();
        match note {
            Note::Opened { file, writable } => {
                Kind::FileOpen { path: path(file), mode: if writable { "write" } else { "read" } }
            }
            Note::Closed(file) => Kind::FileClose { path: path(file) },
            Note::Read { file, length } => Kind::FileRead { path: path(file), length },
            Note::Written { file, length } => Kind::FileWrite { path: path(file), length },
            Note::Cut { file, from, to } => Kind::FileWarning {
                path: path(file),
                reason: format!("it was {from} bytes long and is cut to its {to}"),
            },
            Note::NamesReplaced { count } => Kind::FileWarning {
                path: self.basedir().display().to_string(),
                reason: format!(
                    "this file system refuses some characters (: ? * and others); _ stands for them in {}",
                    crate::text::count(count, "name")
                ),
            },
            Note::NotPreallocated => Kind::FileWarning {
                path: self.basedir().display().to_string(),
                reason: "this file system cannot reserve blocks; files are sparse instead".to_owned(),
            },
            Note::LinkInTheWay(file) => Kind::FileWarning {
                path: path(file),
                reason: "the symbolic link is not made: something else is in its place, or the file system \
                         has none"
                    .to_owned(),
            },
            Note::Missed(count) => Kind::EventsDropped { count },
        }
    }
}
