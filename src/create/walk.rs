//! Which files a torrent is made of, and what they were like when they were found.
//!
//! Every file below a folder is part of it, hidden ones too; other file systems that are mounted there as well. Symbolic links are not
//! followed, but for the path that the user names.

use std::ffi::OsString;
use std::fs::{self, FileType, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::links::{LinkTarget, resolve, without_empty_folders, without_rounds};
use super::{Change, ObstacleKind, Obstacles};
use crate::metainfo::MAX_FILES;
use crate::metainfo::draft::DraftFile;

/// What a file was when it was looked at. Equal: nobody has written to it, as far as the file system tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Seen {
    pub(super) fn of(found: &Metadata) -> Seen {
        Seen {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// A file, or a symbolic link, of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SourceFile {
    /// As it goes into the torrent.
    pub(crate) entry: DraftFile,
    pub(super) seen: Seen,
}

/// What a torrent is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SourceTree {
    /// What the torrent is called: as the file or folder is.
    pub(crate) name: String,
    /// The folder, or the file.
    pub(crate) path: PathBuf,
    /// Whether it is a folder.
    pub(crate) is_folder: bool,
    /// Its files and links, in the order of the torrent.
    pub(crate) files: Vec<SourceFile>,
    /// Paths below the folder of those without anything in them; a torrent cannot hold them.
    pub(crate) empty_folders: Vec<String>,
}

impl SourceTree {
    /// Where one of its files is on the disk.
    pub(crate) fn path_of(&self, file: &DraftFile) -> PathBuf {
        if self.is_folder { self.path.join(&*file.path) } else { self.path.clone() }
    }

    /// Whether a file of the tree is this one.
    pub(crate) fn contains(&self, found: &Metadata) -> bool {
        self.files.iter().any(|file| (file.seen.device, file.seen.inode) == (found.dev(), found.ino()))
    }

    /// What is not as it was in `before`, the same tree at an earlier time.
    ///
    /// # Errors
    ///
    /// If anything is.
    pub(crate) fn compare(&self, before: &SourceTree) -> Result<(), Obstacles> {
        let mut obstacles = Obstacles::default();
        let (mut old, mut new) = (before.files.iter().peekable(), self.files.iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(old), Some(new)) => old.entry.path.split('/').cmp(new.entry.path.split('/')),
            };
            let (file, change) = match order {
                std::cmp::Ordering::Less => (old.next(), Change::Gone),
                std::cmp::Ordering::Greater => (new.next(), Change::New),
                std::cmp::Ordering::Equal => match (old.next(), new.next()) {
                    (old, new) if old == new => continue,
                    (_, new) => (new, Change::Changed),
                },
            };
            if let Some(file) = file {
                obstacles.add(self.path_of(&file.entry), ObstacleKind::Changed(change));
            }
        }
        if obstacles.is_empty() { Ok(()) } else { Err(obstacles) }
    }
}

/// Finds the files at `path`, which may be a symbolic link to them. Reads no data. `keep_going` is asked often; once it says false, what was
/// found so far is returned.
///
/// # Errors
///
/// If anything is there that cannot be read or cannot be part of a torrent.
pub(crate) fn walk(path: &Path, keep_going: &dyn Fn() -> bool) -> Result<SourceTree, Obstacles> {
    let unreadable = |error| Obstacles::of(path, ObstacleKind::Unreadable(error));
    let found = fs::metadata(path).map_err(unreadable)?;
    let root = fs::canonicalize(path).map_err(unreadable)?;
    // `.` and `..` have the name of the folder that they are.
    let name = path.file_name().or(root.file_name());
    let Some(name) = name else { return Err(Obstacles::of(path, ObstacleKind::Nameless)) };
    let Some(name) = name.to_str() else { return Err(Obstacles::of(path, ObstacleKind::NotUtf8)) };
    let mut walk = Walk {
        root: &root,
        tree: SourceTree {
            name: name.to_owned(),
            path: path.to_owned(),
            is_folder: found.is_dir(),
            files: Vec::new(),
            empty_folders: Vec::new(),
        },
        obstacles: Obstacles::default(),
        keep_going,
    };
    if found.is_dir() {
        walk.enter(path, "");
        without_empty_folders(&walk.tree, &mut walk.obstacles);
        without_rounds(&walk.tree, &mut walk.obstacles);
    } else if found.is_file() {
        walk.add_file(path.to_owned(), name.into(), &found);
    } else {
        walk.obstacles.add(path, ObstacleKind::Special(what_it_is(found.file_type())));
    }
    if walk.obstacles.is_empty() { Ok(walk.tree) } else { Err(walk.obstacles) }
}

struct Walk<'a> {
    /// Without symbolic links.
    root: &'a Path,
    tree: SourceTree,
    obstacles: Obstacles,
    keep_going: &'a dyn Fn() -> bool,
}

impl Walk<'_> {
    /// Takes in what is in a folder; `below` is its path below the root, with a `/` behind each component. As deep as the system takes
    /// paths (4 KiB).
    fn enter(&mut self, folder: &Path, below: &str) {
        if !(self.keep_going)() {
            return;
        }
        let names = fs::read_dir(folder).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<OsString>, _>>()
        });
        let mut names = match names {
            Ok(names) => names,
            Err(error) => return self.obstacles.add(folder, ObstacleKind::Unreadable(error)),
        };
        if names.is_empty() {
            self.tree.empty_folders.push(below.trim_end_matches('/').to_owned());
        }
        // So the whole is in the order of the torrent: what is in a folder stands where its name does.
        names.sort();
        for name in names {
            if self.tree.files.len() > MAX_FILES {
                // More would be refused anyway.
                return;
            }
            let path = folder.join(&name);
            match name.to_str() {
                Some(name) => self.add(path, format!("{below}{name}")),
                None => self.obstacles.add(path, ObstacleKind::NotUtf8),
            }
        }
    }

    fn add(&mut self, path: PathBuf, below: String) {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) => return self.obstacles.add(path, ObstacleKind::Unreadable(error)),
        };
        if found.is_dir() {
            self.enter(&path, &format!("{below}/"));
        } else if found.is_file() {
            self.add_file(path, below.into(), &found);
        } else if found.is_symlink() {
            match resolve(&path, self.root) {
                Ok(LinkTarget(target)) => {
                    let entry = DraftFile {
                        path: below.into(),
                        length: 0,
                        executable: is_executable(&found),
                        symlink: Some(target.into()),
                    };
                    self.tree.files.push(SourceFile { entry, seen: Seen::of(&found) });
                }
                Err(kind) => self.obstacles.add(path, kind),
            }
        } else {
            self.obstacles.add(path, ObstacleKind::Special(what_it_is(found.file_type())));
        }
    }

    fn add_file(&mut self, path: PathBuf, below: Box<str>, found: &Metadata) {
        // Said now, and not after an hour of hashing. What all may read needs no question.
        if found.mode() & 0o444 != 0o444
            && let Err(error) = accessat(CWD, &path, Access::READ_OK, AtFlags::EACCESS)
        {
            return self.obstacles.add(path, ObstacleKind::Unreadable(error.into()));
        }
        let entry =
            DraftFile { path: below, length: found.len(), executable: is_executable(found), symlink: None };
        self.tree.files.push(SourceFile { entry, seen: Seen::of(found) });
    }
}

/// As libtorrent has it, so that the hashes are the same: the owner's right counts, and of links the link's own.
fn is_executable(found: &Metadata) -> bool {
    found.mode() & 0o100 != 0
}

fn what_it_is(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "of an unknown kind"
    }
}
