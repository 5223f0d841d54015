//! Exit codes, and which of several wins.

use crate::event::{Unfetched, Verdict};

/// The exit codes. The numbers are from aria2c's list, but for usage; aria2c 1.36 itself gives others in some of these cases (5 is
/// its for a speed that is too low, and a stall ends it with 7; most .torrents that are none end it with 1 or 25).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Exit {
    /// Everything wanted is complete and verified, and seeded as asked.
    Complete,
    /// An error with no number of its own.
    Failure,
    /// Wrong options.
    Usage,
    /// No new data for longer than `--stall-timeout`.
    Stalled,
    /// Stopped, or checked, with wanted data missing, none of it corrupt.
    Incomplete,
    /// Disk full.
    DiskFull,
    /// Another btget, or another torrent of this run, writes to the same path.
    PathTaken,
    /// A file that is not the torrent's stands in its place.
    ForeignFile,
    /// Cannot read or write data.
    Data,
    /// Not a valid .torrent.
    Torrent,
    /// Not a valid magnet link.
    Magnet,
    /// The server has no .torrent at the URL.
    NotFound,
    /// The network failed on the way to the .torrent at a URL.
    Network,
    /// The host of the URL of a .torrent is not known.
    UnknownHost,
    /// What came from the URL of a .torrent is not a sane HTTP answer.
    BadAnswer,
    /// The URL of a .torrent leads through too many redirects.
    Redirects,
    /// The server does not give the .torrent at the URL to everybody.
    Denied,
    /// `--hashcheck-only` found data that are not the torrent's.
    Corrupt,
    /// A second Ctrl-C.
    Interrupted,
    /// A hook failed with this code: it takes the place of all others.
    Hook(u8),
}

impl Exit {
    /// Most serious first: what fails the data comes before what leaves them wanting, and the others stand where their cause
    /// does: what concerns the run as a whole comes before what concerns what it fetched.
    const BY_WEIGHT: [Exit; 19] = [
        Exit::Interrupted,
        Exit::Usage,
        Exit::Torrent,
        Exit::Magnet,
        Exit::NotFound,
        Exit::Denied,
        Exit::BadAnswer,
        Exit::Redirects,
        Exit::UnknownHost,
        Exit::Network,
        Exit::Data,
        Exit::DiskFull,
        Exit::ForeignFile,
        Exit::PathTaken,
        Exit::Corrupt,
        Exit::Failure,
        Exit::Stalled,
        Exit::Incomplete,
        Exit::Complete,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Complete => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Stalled => 5,
            Exit::Network => 6,
            Exit::Incomplete => 7,
            Exit::DiskFull => 9,
            Exit::PathTaken => 11,
            Exit::ForeignFile => 13,
            Exit::Data => 17,
            Exit::UnknownHost => 19,
            Exit::BadAnswer => 22,
            Exit::Redirects => 23,
            Exit::Denied => 24,
            Exit::Torrent => 26,
            Exit::Magnet => 27,
            Exit::Corrupt => 32,
            Exit::Interrupted => 130,
            Exit::Hook(code) => code,
        }
    }

    /// The more serious of two.
    #[must_use]
    pub fn worst(self, other: Exit) -> Exit {
        let is_one = |exit: &Exit| *exit == self || *exit == other;
        match (self, other) {
            (Exit::Hook(_), _) => self,
            (_, Exit::Hook(_)) => other,
            _ => Self::BY_WEIGHT.into_iter().find(is_one).expect("every other code has its weight"),
        }
    }
}

impl From<Verdict> for Exit {
    fn from(verdict: Verdict) -> Exit {
        match verdict {
            Verdict::Complete => Exit::Complete,
            Verdict::Incomplete => Exit::Incomplete,
            Verdict::Stalled => Exit::Stalled,
            Verdict::DiskFull => Exit::DiskFull,
            Verdict::PathTaken => Exit::PathTaken,
            Verdict::ForeignFile => Exit::ForeignFile,
            Verdict::FileError => Exit::Data,
            Verdict::Corrupt => Exit::Corrupt,
            Verdict::NotATorrent => Exit::Torrent,
            Verdict::NotAMagnet => Exit::Magnet,
            Verdict::NotFetched(Unfetched::NotFound) => Exit::NotFound,
            Verdict::NotFetched(Unfetched::Network) => Exit::Network,
            Verdict::NotFetched(Unfetched::UnknownHost) => Exit::UnknownHost,
            Verdict::NotFetched(Unfetched::BadAnswer) => Exit::BadAnswer,
            Verdict::NotFetched(Unfetched::Redirects) => Exit::Redirects,
            Verdict::NotFetched(Unfetched::Denied) => Exit::Denied,
            Verdict::NoSuchFile => Exit::Usage,
            Verdict::Failed => Exit::Failure,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_serious_cause_wins() {
        for (codes, winner) in [
            (&[0, 7, 32, 9, 17][..], 17),
            (&[32, 7, 9], 9),
            (&[7, 32, 0], 32),
            (&[7, 11, 32, 13], 13),
            (&[9, 13, 11], 9),
            (&[0, 7], 7),
            (&[5, 7], 5),
            (&[0, 0], 0),
            (&[], 0),
        ] {
            let with_code = |code: &u8| Exit::BY_WEIGHT.into_iter().find(|exit| exit.code() == *code);
            let all = codes.iter().map(|code| with_code(code).expect("a code of ours"));
            assert_eq!(all.fold(Exit::Complete, Exit::worst).code(), winner, "{codes:?}");
        }
    }

    #[test]
    fn a_hooks_failure_becomes_the_exit_code() {
        assert_eq!(Exit::Complete.worst(Exit::Hook(3)).code(), 3);
        assert_eq!(Exit::Hook(3).worst(Exit::DiskFull).code(), 3);
        assert_eq!(Exit::Hook(3).worst(Exit::Hook(4)).code(), 3);
    }

    #[test]
    fn every_code_has_its_weight() {
        for exit in Exit::BY_WEIGHT {
            assert_eq!(exit.worst(Exit::Complete), exit);
        }
    }
}
