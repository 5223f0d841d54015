//! How a torrent ended.

/// How a torrent ended, or would if it were stopped as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Everything wanted is there and verified, and was seeded as asked.
    Complete,
    /// Stopped, or checked, with wanted data missing, none of it corrupt.
    Incomplete,
    /// No new data came for longer than the stall timeout.
    Stalled,
    /// The disk is full, or too small for what is to be set aside.
    DiskFull,
    /// Data cannot be read or written.
    FileError,
    /// A hash check found data that are not the torrent's: corrupt, or longer than it says.
    Corrupt,
    /// Another process, or another torrent of this one, writes to the same path.
    PathTaken,
    /// A file that is not the torrent's stands in the place of one of its files.
    ForeignFile,
    /// It is not a valid torrent, and so was not begun.
    NotATorrent,
    /// The link is not a valid magnet link.
    NotAMagnet,
    /// The .torrent could not be had from its URL.
    NotFetched(Unfetched),
    /// What the user wants of its files cannot be: there are none such.
    NoSuchFile,
    /// It was not begun, or broken off, for a reason that is none of the above.
    Failed,
}

/// Why a .torrent could not be had from its URL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Unfetched {
    /// The server has none there.
    NotFound,
    /// The server could not be reached, or did not send all of it in time.
    Network,
    /// The name of the host is not known.
    UnknownHost,
    /// What came is not the answer of a sane HTTP server, or too long.
    BadAnswer,
    /// It was redirected too often.
    Redirects,
    /// The server does not give it to everybody.
    Denied,
}
