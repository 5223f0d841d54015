//! Makes torrents of what is on the disk: finds the files of a tree, reads and hashes them on all cores, and sees to it that they are the same
//! files afterwards.
//!
//! Writes nothing, prints nothing, and knows nothing of how a torrent is encoded ([`crate::metainfo::draft`]). Data are read as a
//! hash check reads them ([`crate::check`]): groups of consecutive pieces, side by side where they are in memory already, in one long stream
//! where they have to come from the disk.

mod hashing;
mod links;
mod walk;

use std::fmt;
use std::path::PathBuf;

pub(crate) use hashing::{HashedTree, Hashing};
pub(crate) use walk::{SourceTree, walk};

/// What stands in the way of a torrent, in one place of the tree.
#[derive(Debug)]
pub(crate) struct Obstacle {
    /// The file or folder.
    pub(crate) path: PathBuf,
    /// What is the matter with it.
    pub(crate) kind: ObstacleKind,
}

/// Why a file or folder cannot be part of a torrent.
#[derive(Debug)]
pub(crate) enum ObstacleKind {
    /// The system does not let us read it.
    Unreadable(std::io::Error),
    /// A name that is no UTF-8.
    NotUtf8,
    /// No file and no folder: a pipe, a socket, a device.
    Special(&'static str),
    /// A symbolic link that leads out of the tree.
    OutsideLink,
    /// A symbolic link to nothing.
    DeadLink,
    /// A symbolic link that leads back to itself, or to a folder that it is in, at once or by other links.
    LinkLoop,
    /// A symbolic link to a folder without files, which a torrent cannot hold.
    EmptyFolderLink,
    /// The root of the file system: it has no name.
    Nameless,
    /// It was there, or was like this, when the tree was first seen.
    Changed(Change),
}

/// How a file is not what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Its bytes, length or attributes.
    Changed,
    /// It is there no more.
    Gone,
    /// It was not there.
    New,
}

impl fmt::Display for Obstacle {
    /// What is the matter, without the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ObstacleKind::Unreadable(error) => write!(f, "{error}"),
            ObstacleKind::NotUtf8 => f.write_str("its name is not valid UTF-8"),
            ObstacleKind::Special(what) => write!(f, "it is {what}, and no file"),
            ObstacleKind::OutsideLink => f.write_str("a symbolic link that leads out of what is shared"),
            ObstacleKind::DeadLink => f.write_str("a symbolic link to nothing"),
            ObstacleKind::LinkLoop => {
                f.write_str("a symbolic link that leads back to itself or to a folder it is in, at once or by other links")
            }
            ObstacleKind::EmptyFolderLink => {
                f.write_str("a symbolic link to a folder without files, which a torrent does not hold")
            }
            ObstacleKind::Nameless => f.write_str("the root of the file system, which has no name"),
            ObstacleKind::Changed(Change::Changed) => f.write_str("it changed while it was hashed"),
            ObstacleKind::Changed(Change::Gone) => f.write_str("it went away while the files were hashed"),
            ObstacleKind::Changed(Change::New) => f.write_str("it appeared while the files were hashed"),
        }
    }
}

/// The first obstacles of a tree, and how many more there are.
#[derive(Debug, Default)]
pub(crate) struct Obstacles {
    /// The first ones, at most [`MAX_OBSTACLES`].
    pub(crate) first: Vec<Obstacle>,
    /// How many were found beyond those.
    pub(crate) more: u64,
}

/// Obstacles that are kept to be told one by one.
const MAX_OBSTACLES: usize = 20;

impl Obstacles {
    fn add(&mut self, path: impl Into<PathBuf>, kind: ObstacleKind) {
        match self.first.len() < MAX_OBSTACLES {
            true => self.first.push(Obstacle { path: path.into(), kind }),
            false => self.more += 1,
        }
    }

    fn of(path: impl Into<PathBuf>, kind: ObstacleKind) -> Obstacles {
        let mut obstacles = Obstacles::default();
        obstacles.add(path, kind);
        obstacles
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

#[cfg(test)]
mod tests;
