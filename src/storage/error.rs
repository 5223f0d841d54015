//! What can go wrong with files, in the words that a user reads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The causes that differ in what a user, or the program, can do about them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// No space, no quota, or a limit on the size of files: `ENOSPC`, `EDQUOT`, `EFBIG`.
    Full,
    /// [`Preallocate::Full`](super::Preallocate::Full) was refused: the disk has not the room.
    TooSmall,
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
    /// `ENAMETOOLONG`.
    NameTooLong,
    /// Anything else, `EIO` first of all.
    Io,
}

/// What was being done.
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
/// `cannot write ./a.iso: disk full; free 3.0 GiB and send SIGUSR2`.
#[derive(Debug)]
pub struct StorageError {
    /// The cause.
    pub kind: StorageErrorKind,
    /// What was being done.
    pub operation: Operation,
    /// The file or folder, as the user can find it.
    pub path: PathBuf,
    /// With [`StorageErrorKind::Full`] or `TooSmall`: bytes to free, where that can be told.
    pub needed: Option<u64>,
    /// What the system said.
    pub source: Option<io::Error>,
}

impl StorageError {
    /// An error without one of the system behind it.
    pub(crate) fn new(
        kind: StorageErrorKind,
        operation: Operation,
        path: impl Into<PathBuf>,
    ) -> StorageError {
        StorageError { kind, operation, path: path.into(), needed: None, source: None }
    }

    /// What the system's error means for the file at `path`.
    pub(crate) fn from_io(operation: Operation, path: impl Into<PathBuf>, source: io::Error) -> StorageError {
        let kind = kind_of(&source);
        StorageError { kind, operation, path: path.into(), needed: None, source: Some(source) }
    }
}

impl StorageError {
    /// Whether the process has as many files open as it may.
    pub(crate) fn is_out_of_handles(&self) -> bool {
        let errno = self.source.as_ref().and_then(rustix::io::Errno::from_io_error);
        errno == Some(rustix::io::Errno::MFILE)
    }
}

/// The kind of an error of the system.
pub(crate) fn kind_of(error: &io::Error) -> StorageErrorKind {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
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
        write!(f, "cannot {} {}: ", self.operation, escaped(&self.path))?;
        let errno = self.source.as_ref().and_then(rustix::io::Errno::from_io_error);
        match self.kind {
            StorageErrorKind::Full => self.fmt_full(f, errno),
            StorageErrorKind::TooSmall => {
                let missing = human(self.needed.unwrap_or(0));
                write!(f, "the disk lacks {missing} for all of it; free that or use --preallocate sparse")
            }
            StorageErrorKind::Denied => f.write_str("no permission; allow it to this user and send SIGUSR2"),
            StorageErrorKind::ReadOnly => {
                f.write_str("the file system is read-only; mount it writable and send SIGUSR2")
            }
            StorageErrorKind::Missing => f.write_str("there is no such file; check again to fetch it anew"),
            StorageErrorKind::Short => f.write_str("it is shorter than it should be; check again"),
            StorageErrorKind::Vanished => {
                f.write_str("it was there and is gone; mount or restore its folder and start again")
            }
            StorageErrorKind::NotAFile => f.write_str(
                "something that is not a file or folder of this torrent is in its place; move it away",
            ),
            StorageErrorKind::NameTooLong => f.write_str(
                "the name is too long for this file system; choose a shorter --basedir or another disk",
            ),
            StorageErrorKind::Io if self.is_out_of_handles() => {
                f.write_str("too many open files; raise the limit (ulimit -n) and start again")
            }
            StorageErrorKind::Io => match &self.source {
                Some(source) => write!(f, "{source}; look after the disk and send SIGUSR2"),
                None => f.write_str("the disk does not do it; look after it and send SIGUSR2"),
            },
        }
    }
}

impl StorageError {
    fn fmt_full(&self, f: &mut fmt::Formatter<'_>, errno: Option<rustix::io::Errno>) -> fmt::Result {
        if errno == Some(rustix::io::Errno::FBIG) {
            return f
                .write_str("a limit on the size of files is reached; raise it (ulimit -f) and start again");
        }
        let cause = if errno == Some(rustix::io::Errno::DQUOT) { "quota used up" } else { "disk full" };
        match self.needed {
            Some(bytes) => write!(f, "{cause}; free {} and send SIGUSR2", human(bytes)),
            None => write!(f, "{cause}; free some space and send SIGUSR2"),
        }
    }
}

/// A size for people, rounded up: to free that much is enough.
fn human(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 1u64 << 10;
    let mut name = 0;
    while name + 1 < units.len() && bytes >= unit << 10 {
        unit <<= 10;
        name += 1;
    }
    let tenths = (u128::from(bytes) * 10).div_ceil(u128::from(unit)).max(1);
    format!("{}.{} {}", tenths / 10, tenths % 10, units[name])
}

/// A path for people: names come from strangers, so what a terminal might obey is escaped.
pub(crate) fn escaped(path: &Path) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        if hidden(c) { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn message(errno: Errno, needed: Option<u64>) -> String {
        let mut error = StorageError::from_io(Operation::Write, "./a.iso", errno.into());
        error.needed = needed;
        error.to_string()
    }

    #[test]
    fn each_error_says_thing_cause_and_remedy() {
        assert_eq!(
            message(Errno::NOSPC, Some(3 << 30)),
            "cannot write ./a.iso: disk full; free 3.0 GiB and send SIGUSR2"
        );
        assert_eq!(
            message(Errno::DQUOT, None),
            "cannot write ./a.iso: quota used up; free some space and send SIGUSR2"
        );
        assert!(message(Errno::FBIG, None).contains("ulimit -f"));
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

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!(human(1), "0.1 KiB");
        assert_eq!(human((3 << 30) + 1), "3.1 GiB");
        assert_eq!(human(u64::MAX), "16.0 EiB");
    }
}
