//! What can go wrong with files, in the words that a user reads.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::text::{Remedies, RoomNeeded, escape};

/// The causes that differ in what a user, or the program, can do about them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// No space, no quota, or a limit on the size of files: `ENOSPC`, `EDQUOT`, `EFBIG`.
    Full,
    /// [`Preallocate::Full`](super::Preallocate::Full) was refused: the disk has not the room.
    TooSmall,
    /// The file system cannot hold a file of this size: `EFBIG` without a limit of the process's own.
    TooLarge,
    /// `EACCES`, `EPERM`.
    Denied,
    /// `EROFS`.
    ReadOnly,
    /// There is no such file.
    Missing,
    /// The file ends before the bytes that were asked for.
    Short,
    /// What was there in this run is gone, or another file system stands in its place.
    Vanished,
    /// A folder, pipe, device or link stands where a file should be, or a file where a folder should be.
    NotAFile,
    /// A file that nothing shows to be the torrent's stands in the place of one of its files.
    Foreign,
    /// Somebody else writes to this path: [`StorageError::other`].
    Taken,
    /// `ENAMETOOLONG`.
    NameTooLong,
    /// Anything else, `EIO` first of all.
    Io,
}

/// What was being done with a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Making a file, link or folder, or giving it its size.
    Create,
    /// Reading.
    Read,
    /// Writing, or bringing what was written to the disk.
    Write,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Create => "create",
            Operation::Read => "read",
            Operation::Write => "write",
        })
    }
}

/// An error with a file of a torrent. `Display` says thing, cause and remedy:
/// `cannot write ./a.iso: disk full; free 3.0 GiB and start it again`.
#[derive(Debug)]
pub struct StorageError {
    /// The cause.
    pub kind: StorageErrorKind,
    /// What was being done with the file.
    pub operation: Operation,
    /// The file or folder, as the user can find it.
    pub path: PathBuf,
    /// With [`StorageErrorKind::Full`] or `TooSmall`: bytes to free, where that can be told.
    pub needed: Option<u64>,
    /// With [`StorageErrorKind::Taken`]: who writes to it, for people.
    pub other: Option<String>,
    /// The system's error.
    pub source: Option<io::Error>,
}

impl StorageError {
    /// An error without one of the system behind it.
    pub(crate) fn new(
        kind: StorageErrorKind,
        operation: Operation,
        path: impl Into<PathBuf>,
    ) -> StorageError {
        StorageError { kind, operation, path: path.into(), needed: None, other: None, source: None }
    }

    /// What the system's error means for the file at `path`.
    pub(crate) fn from_io(operation: Operation, path: impl Into<PathBuf>, source: io::Error) -> StorageError {
        let kind = kind_of(&source);
        StorageError { kind, operation, path: path.into(), needed: None, other: None, source: Some(source) }
    }
}

impl StorageError {
    /// Whether it goes away once there is room on the disk: no limit on the size of files does.
    pub(crate) fn is_for_want_of_room(&self) -> bool {
        let errno = self.source.as_ref().and_then(rustix::io::Errno::from_io_error);
        self.kind == StorageErrorKind::Full && errno != Some(rustix::io::Errno::FBIG)
    }

    fn has_errno(&self, errno: Errno) -> bool {
        self.source.as_ref().and_then(Errno::from_io_error) == Some(errno)
    }

    /// Whether the process has as many files open as it may.
    pub(crate) fn is_out_of_handles(&self) -> bool {
        self.has_errno(Errno::MFILE)
    }
}

/// Whether files of this process are limited in size (`ulimit -f`).
fn has_size_limit() -> bool {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current.is_some()
}

/// The kind of an error of the system.
pub(crate) fn kind_of(error: &io::Error) -> StorageErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::FBIG) if !has_size_limit() => StorageErrorKind::TooLarge,
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => StorageErrorKind::Full,
        Some(Errno::ACCESS | Errno::PERM) => StorageErrorKind::Denied,
        Some(Errno::ROFS) => StorageErrorKind::ReadOnly,
        Some(Errno::NOENT) => StorageErrorKind::Missing,
        // ENXIO: a pipe without a reader or a socket; ELOOP: a link that is not followed.
        Some(Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::NXIO | Errno::XDEV) => {
            StorageErrorKind::NotAFile
        }
        Some(Errno::NAMETOOLONG) => StorageErrorKind::NameTooLong,
        _ => StorageErrorKind::Io,
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(&Remedies::default()))
    }
}

impl StorageError {
    /// Thing, cause and remedy in one sentence, the remedy as this program's user can follow it.
    pub fn message(&self, remedies: &Remedies) -> String {
        let thing = self.path.to_string_lossy();
        format!("cannot {} {}: {}", self.operation, escape(&thing), self.cause_and_remedy(remedies))
    }

    fn cause_and_remedy(&self, remedies: &Remedies) -> Cow<'static, str> {
        let Remedies { start_again, after_room, allocate_less, shorten_path, overwrite, elsewhere, .. } =
            remedies;
        let text = match self.kind {
            StorageErrorKind::Full => return self.full(after_room),
            StorageErrorKind::TooSmall => {
                let missing = RoomNeeded(self.needed.unwrap_or(0));
                format!("the disk lacks {missing} for all of it; free that or {allocate_less}")
            }
            StorageErrorKind::TooLarge => {
                format!("this file system does not take a file of its size; {elsewhere}, on another disk")
            }
            StorageErrorKind::Denied => format!("no permission; allow it to this user and {start_again}"),
            StorageErrorKind::ReadOnly => {
                format!("the file system is read-only; mount it writable and {start_again}")
            }
            StorageErrorKind::Missing => return "there is no such file; check again to fetch it anew".into(),
            StorageErrorKind::Short => return "it is shorter than it should be; check again".into(),
            StorageErrorKind::Vanished => {
                return "it was there and is gone; mount or restore its folder and start again".into();
            }
            StorageErrorKind::NotAFile => {
                return "something that is not a file or folder of this torrent is in its place; move it away".into();
            }
            StorageErrorKind::Foreign => {
                format!(
                    "a file is there of which nothing is this torrent's; move it away, {elsewhere} or {overwrite}"
                )
            }
            StorageErrorKind::Taken => {
                let other = self.other.as_deref().map_or(Cow::Borrowed("another program"), escape);
                format!("{other} writes to it; {elsewhere} or leave this file out")
            }
            StorageErrorKind::NameTooLong => {
                format!("the name is too long for this file system; {shorten_path} or another disk")
            }
            StorageErrorKind::Io if self.is_out_of_handles() => {
                return "too many open files; raise the limit (ulimit -n) and start again".into();
            }
            StorageErrorKind::Io if self.operation == Operation::Create && self.has_errno(Errno::INVAL) => {
                format!("this file system does not take its name; {elsewhere}, on another disk")
            }
            StorageErrorKind::Io => match &self.source {
                Some(source) => format!("{source}; look after the disk and {start_again}"),
                None => format!("the disk does not do it; look after it and {start_again}"),
            },
        };
        text.into()
    }

    fn full(&self, after_room: &str) -> Cow<'static, str> {
        let errno = self.source.as_ref().and_then(Errno::from_io_error);
        if errno == Some(Errno::FBIG) {
            return "a limit on the size of files is reached; raise it (ulimit -f) and start again".into();
        }
        let cause = if errno == Some(Errno::DQUOT) { "quota used up" } else { "disk full" };
        match self.needed {
            Some(bytes) => format!("{cause}; free {} and {after_room}", RoomNeeded(bytes)).into(),
            None => format!("{cause}; free some space and {after_room}").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn message(errno: Errno, needed: Option<u64>) -> String {
        let mut error = StorageError::from_io(Operation::Write, "./a.iso", errno.into());
        error.needed = needed;
        error.message(&Remedies { after_room: "it goes on by itself", ..Remedies::default() })
    }

    #[test]
    fn each_error_says_thing_cause_and_remedy() {
        assert_eq!(
            message(Errno::NOSPC, Some(3 << 30)),
            "cannot write ./a.iso: disk full; free 3.0 GiB and it goes on by itself"
        );
        assert_eq!(
            message(Errno::DQUOT, None),
            "cannot write ./a.iso: quota used up; free some space and it goes on by itself"
        );
        // The tests run without a limit of their own.
        assert!(message(Errno::FBIG, None).contains("on another disk"));
        assert!(message(Errno::ROFS, None).contains("read-only"));
        assert!(message(Errno::ACCESS, None).contains("no permission"));
        assert!(message(Errno::IO, None).contains("Input/output error"));
        assert!(message(Errno::NAMETOOLONG, None).contains("too long"));
    }

    #[test]
    fn a_name_with_control_characters_is_escaped() {
        let error = StorageError::new(StorageErrorKind::Missing, Operation::Read, "./a\x1b[2J\u{202e}b");
        assert!(error.to_string().starts_with("cannot read ./a\\u{1b}[2J\\u{202e}b: "), "{error}");
    }
}
