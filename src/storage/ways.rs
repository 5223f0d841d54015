//! By which numbers a path is known, whoever names it: by each of the folders that lead to it (device and inode of those that are there) with
//! the rest of the name, compared as a file system does that ignores case and normal forms; a file that has several names, also by
//! itself. So it does not matter how a folder was reached, nor which part of the way was there first.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::mixed::mixed;
use crate::hash::sha1;

/// Folders above basedir by which a path is known too, for torrents whose basedir is one of these.
const MAX_ABOVE: usize = 4;

/// Eight bytes that stand for a path; the first is 0, or [`BY_ITSELF`] for a file that has several names.
pub(super) type PathId = [u8; 8];

/// How the id of a file by its own number begins. Many names of one file are well, as long as all want the same of it.
pub(super) const BY_ITSELF: u8 = 1;

/// The folders that lead to basedir, each with what is left of the way from there.
pub(super) struct Ways {
    /// Device and inode, and the names below it that lead to basedir; the nearest folder first.
    folders: Vec<(u64, u64, Vec<NameId>)>,
    basedir: PathBuf,
    /// Folders below basedir that were looked up. One entry for each folder of the torrent.
    below: HashMap<String, Folder>,
}

/// A folder of the torrent.
#[derive(Clone, Copy)]
struct Folder {
    /// Its own name.
    name: NameId,
    /// Device and inode, if it is there.
    identity: Option<(u64, u64)>,
}

impl Ways {
    /// Of a folder that need not be there yet.
    pub(super) fn to(basedir: &Path) -> Ways {
        let absolute = std::path::absolute(basedir).unwrap_or_else(|_| basedir.to_owned());
        // What is there of it, links resolved, and what is not.
        let mut there = absolute.clone();
        let mut rest = PathBuf::new();
        let resolved = loop {
            match fs::canonicalize(&there) {
                Ok(resolved) => break resolved,
                Err(_) => {
                    let Some(name) = there.file_name().map(ToOwned::to_owned) else { break there };
                    rest = Path::new(&name).join(&rest);
                    there.pop();
                }
            }
        };
        let basedir = resolved.join(&rest);
        let mut folders = Vec::new();
        for folder in resolved.ancestors().take(MAX_ABOVE + 1) {
            let Ok(found) = fs::metadata(folder) else { continue };
            let below = basedir.strip_prefix(folder).unwrap_or(Path::new(""));
            folders.push((found.dev(), found.ino(), below.iter().map(name_id).collect()));
        }
        Ways { folders, basedir, below: HashMap::new() }
    }

    /// A folder below basedir; looked up once.
    fn folder(&mut self, path: &str) -> Folder {
        if let Some(known) = self.below.get(path) {
            return *known;
        }
        let (above, name) = path.rsplit_once('/').map_or((None, path), |(above, name)| (Some(above), name));
        // What is in a folder that is not there is not there.
        let may_be_there = above.is_none_or(|above| self.folder(above).identity.is_some());
        let look = || fs::symlink_metadata(self.basedir.join(path)).ok().filter(fs::Metadata::is_dir);
        let found = if may_be_there { look() } else { None };
        let identity = found.map(|found| (found.dev(), found.ino()));
        let folder = Folder { name: name_id(OsStr::new(name)), identity };
        self.below.insert(path.to_owned(), folder);
        folder
    }

    /// The file at a path below basedir, if it is there.
    pub(super) fn found(&mut self, path: &str) -> Option<fs::Metadata> {
        let above = path.rsplit_once('/').map(|(above, _)| above);
        let may_be_there = above.is_none_or(|above| self.folder(above).identity.is_some());
        if may_be_there { fs::symlink_metadata(self.basedir.join(path)).ok() } else { None }
    }

    /// Every id of a path below basedir: by each folder on the way to it that is there, and by each above basedir.
    pub(super) fn ids(&mut self, path: &str) -> Vec<PathId> {
        let (mut above, name) =
            path.rsplit_once('/').map_or((None, path), |(above, name)| (Some(above), name));
        let mut rest = Rest::NOTHING.below(name_id(OsStr::new(name)));
        let mut ids = Vec::with_capacity(self.folders.len() + 2);
        while let Some(path) = above {
            let Folder { name, identity } = self.folder(path);
            ids.extend(identity.map(|folder| rest.from(folder)));
            rest = rest.below(name);
            above = path.rsplit_once('/').map(|(above, _)| above);
        }
        ids.extend(self.folders.iter().map(|(dev, ino, below)| {
            let rest = below.iter().rev().fold(rest, |rest, &name| rest.below(name));
            rest.from((*dev, *ino))
        }));
        ids
    }
}

/// Eight bytes that stand for a name, as a file system sees it that ignores case and normal forms.
type NameId = u64;

fn name_id(name: &OsStr) -> NameId {
    u64::from_ne_bytes(match name.to_str() {
        Some(name) if name.is_ascii() => id_of(name.to_ascii_lowercase().as_bytes()),
        Some(name) => {
            let folded: String = name.nfd().flat_map(char::to_lowercase).nfd().collect();
            id_of(folded.as_bytes())
        }
        None => id_of(name.as_bytes()),
    })
}

/// What is left of the way to a file from one of the folders on it: the names from there on. Made from the end, so that each folder adds
/// one name; a torrent has many files.
#[derive(Clone, Copy)]
struct Rest(u64);

impl Rest {
    const NOTHING: Rest = Rest(0);

    /// The way from one folder higher: this is the name of the one that it was from.
    fn below(self, name: NameId) -> Rest {
        Rest(mixed(self.0, name))
    }

    fn from(self, (dev, ino): (u64, u64)) -> PathId {
        let mut id = mixed(mixed(self.0, dev), ino).to_ne_bytes();
        id[0] = 0;
        id
    }
}

/// The id of a file that has several names.
pub(super) fn id_by_itself(found: &fs::Metadata) -> PathId {
    let mut id = Rest::NOTHING.from((found.dev(), found.ino()));
    id[0] = BY_ITSELF;
    id
}

/// Eight bytes that stand for facts of any length.
pub(super) fn id_of(facts: &[u8]) -> [u8; 8] {
    sha1(facts).0[..8].try_into().expect("a digest has 20 bytes")
}
