//! What a transfer would meet on the disk, seen without making or changing anything.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::open::parent;
use super::part::PartFile;
use super::root::{PathFinder, Root};
use super::{Operation, Place, Preallocate, Storage, StorageError, StorageErrorKind};
use crate::bitfield::Bitfield;
use crate::layout::{Extent, FileIndex};

/// Errors that are told one by one; of a million files nobody reads more.
const MAX_ERRORS: usize = 50;

/// What a transfer would meet.
#[derive(Debug, Default)]
pub(crate) struct Outlook {
    /// Bytes that it would take on the disk.
    pub needed: u64,
    /// Bytes that this user may still write there, and the device that they are on; `None` if that cannot be known.
    pub free: Option<(u64, u64)>,
    /// The folder is not there yet.
    pub makes_basedir: bool,
    /// Files that stand, or would stand, under another name than the torrent's, that name, below basedir, and why.
    pub renamed: Vec<(FileIndex, String, &'static str)>,
    /// Wanted files that are longer than the torrent says.
    pub too_long: Vec<FileTooLong>,
    /// Bytes of the part file, if there is one.
    pub part_file: Option<u64>,
    /// Bytes that would go to the part file.
    pub to_part_file: u64,
    /// What would keep it from going on: the first few.
    pub errors: Vec<StorageError>,
    /// How many errors there are besides.
    pub more_errors: usize,
}

/// A file that is longer than the torrent says.
#[derive(Debug)]
pub(crate) struct FileTooLong {
    /// The file.
    pub file: FileIndex,
    /// Its length in bytes.
    pub size: u64,
    /// It would be cut; else it keeps its tail.
    pub is_cut: bool,
}

impl Outlook {
    fn add(&mut self, error: StorageError) {
        match self.errors.len() < MAX_ERRORS {
            true => self.errors.push(error),
            false => self.more_errors += 1,
        }
    }
}

impl Storage {
    /// Where the part file is, or would be.
    pub(crate) fn part_path(&self) -> PathBuf {
        self.basedir.join(PartFile::name(self.info_hash))
    }

    /// Looks at what a transfer of these missing pieces would meet. Writes nothing.
    pub(crate) fn outlook(&self, missing: &Bitfield) -> Outlook {
        let mut outlook = Outlook::default();
        let root = match self.root(Operation::Read) {
            Ok(root) => Some(root),
            Err(error) if error.kind == StorageErrorKind::Missing => {
                outlook.makes_basedir = true;
                self.look_above(missing, &mut outlook);
                None
            }
            Err(error) => {
                outlook.add(error);
                None
            }
        };
        if let Some(root) = &root {
            outlook.free = root.free_bytes().ok().map(|free| (free, root.identity().dev()));
            let found = root.find(&PartFile::name(self.info_hash)).ok();
            outlook.part_file = found.filter(|found| found.is_file).map(|found| found.size);
        }
        let mut look = Look {
            storage: self,
            missing,
            finder: root.as_deref().map(PathFinder::new),
            folders: BTreeMap::new(),
            made: 0,
            outlook,
        };
        for (index, extent) in self.layout.files().iter().enumerate() {
            look.at(FileIndex(index as u32), extent);
        }
        look.at_part_file();
        look.at_entries();
        if missing.is_empty() {
            // What only keeps empty files from being made keeps nobody from sharing what is there.
            let is_tolerated = |error: &StorageError| {
                matches!(error.kind, StorageErrorKind::ReadOnly | StorageErrorKind::Denied)
            };
            look.outlook.errors.retain(|error| !is_tolerated(error));
        }
        look.outlook
    }

    /// basedir is not there: whether it can be made, and what there is room for.
    fn look_above(&self, missing: &Bitfield, outlook: &mut Outlook) {
        if self.basedir.symlink_metadata().is_ok() {
            // A link to nothing: no folder can be made in its place.
            let error = rustix::io::Errno::EXIST.into();
            return outlook.add(StorageError::from_io(Operation::Create, &self.basedir, error));
        }
        let basedir = std::path::absolute(&self.basedir).unwrap_or_else(|_| self.basedir.clone());
        let above = basedir.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok());
        let above = above.unwrap_or(Path::new("/"));
        let looked = Root::open(above).and_then(|root| {
            outlook.free = root.free_bytes().ok().map(|free| (free, root.identity().dev()));
            if missing.is_empty() { Ok(()) } else { root.may_write("") }
        });
        if let Err(error) = looked {
            outlook.add(StorageError::from_io(Operation::Create, &self.basedir, error));
        }
    }
}

struct Look<'a> {
    storage: &'a Storage,
    missing: &'a Bitfield,
    /// `None`: there is no basedir.
    finder: Option<PathFinder<'a>>,
    /// Whether entries may be made in these folders: the last that were looked at.
    folders: BTreeMap<String, Result<(), i32>>,
    /// Files that would be made.
    made: u64,
    outlook: Outlook,
}

impl Look<'_> {
    fn at(&mut self, file: FileIndex, extent: &Extent) {
        let slot = self.storage.slot(file);
        let lacks = match extent.pad {
            true => 0,
            false => self.storage.layout.bytes_of_file_in(file, |piece| self.missing.contains(piece)),
        };
        match slot.place() {
            Place::File => self.at_wanted(file, extent.length, lacks),
            Place::Absent => {
                self.outlook.needed += lacks;
                self.outlook.to_part_file += lacks;
            }
            Place::Pad | Place::Link => {}
        }
        let name = self.storage.name(slot);
        if *name != *slot.path && slot.place() != Place::Pad {
            let reason = match slot.plain.as_deref() == Some(name) {
                true => "the file system refuses characters of it",
                false => "it stands there in its other normal form (NFC or NFD)",
            };
            self.outlook.renamed.push((file, name.to_owned(), reason));
        }
    }

    fn at_wanted(&mut self, file: FileIndex, length: u64, lacks: u64) {
        let path = self.storage.name_of(file);
        let found = match &mut self.finder {
            Some(finder) => finder.find(path),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let is_made = lacks > 0 || length == 0;
        let (mut allocated, mut obstacle) = (0, None);
        match found {
            Ok(found) if !found.is_file => {
                obstacle = Some((Operation::Write, rustix::io::Errno::ISDIR.into()));
            }
            Ok(found) => {
                allocated = found.allocated;
                if found.size > length {
                    let is_cut = lacks > 0 || self.storage.overwrite;
                    self.outlook.too_long.push(FileTooLong { file, size: found.size, is_cut });
                }
                let root = self.finder.as_ref().map(PathFinder::root).filter(|_| lacks > 0);
                let may_write = root.map_or(Ok(()), |root| root.may_write(path));
                obstacle = may_write.err().map(|error| (Operation::Write, error));
            }
            // What else would be made there is said of basedir.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_made => {
                self.made += 1;
                obstacle = self.may_make_in(parent(path)).err().map(|error| (Operation::Create, error));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => obstacle = Some((Operation::Create, error)),
        }
        let whole = length.saturating_sub(allocated);
        self.outlook.needed +=
            if self.storage.preallocate == Preallocate::Full { whole } else { whole.min(lacks) };
        if let Some((operation, error)) = obstacle {
            self.outlook.add(StorageError::from_io(operation, self.storage.path(file), error));
        }
    }

    /// The part file takes what is not wanted of pieces that are; it is read wherever there may be such bytes.
    fn at_part_file(&mut self) {
        let storage = self.storage;
        let Some(root) = self.finder.as_ref().map(PathFinder::root) else { return };
        let name = PartFile::name(storage.info_hash);
        let adds = self.outlook.to_part_file > 0;
        let obstacle = match root.find(&name) {
            Ok(found) if !found.is_file => {
                let is_read = storage.slots.iter().any(|slot| slot.place() == Place::Absent);
                is_read.then(|| (Operation::Read, rustix::io::Errno::ISDIR.into()))
            }
            Ok(_) if adds => root.may_write(&name).err().map(|error| (Operation::Write, error)),
            Err(error) if adds && error.kind() == io::ErrorKind::NotFound => {
                root.may_write("").err().map(|error| (Operation::Write, error))
            }
            _ => None,
        };
        if let Some((operation, error)) = obstacle {
            self.outlook.add(StorageError::from_io(operation, storage.part_path(), error));
        }
    }

    /// File systems that have room for so many files alone.
    fn at_entries(&mut self) {
        let free = self.finder.as_ref().and_then(|finder| finder.root().free_entries().ok().flatten());
        if free.is_some_and(|free| free < self.made) {
            let error = rustix::io::Errno::NOSPC.into();
            self.outlook.add(StorageError::from_io(Operation::Create, &self.storage.basedir, error));
        }
    }

    /// Whether an entry may be made in a folder, or in the one above that is there; as the system has it, without trying.
    fn may_make_in(&mut self, folder: &str) -> io::Result<()> {
        let Some(finder) = &self.finder else { return Ok(()) };
        let root = finder.root();
        if let Some(known) = self.folders.get(folder) {
            return known.map_err(io::Error::from_raw_os_error);
        }
        let mut at = folder;
        let allowed = loop {
            match root.may_write(at) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !at.is_empty() => at = parent(at),
                allowed => break allowed,
            }
        };
        let known = allowed.as_ref().copied().map_err(|error| error.raw_os_error().unwrap_or(0));
        // Files of one folder mostly follow one another.
        self.folders = BTreeMap::from([(folder.to_owned(), known)]);
        allowed
    }
}

impl Root {
    /// Whether this user may write to the file at `path`, or make entries in the folder there (`""` is this one).
    pub(super) fn may_write(&self, path: &str) -> io::Result<()> {
        let path = if path.is_empty() { "." } else { path };
        Ok(rustix::fs::accessat(self, path, Access::WRITE_OK, rustix::fs::AtFlags::empty())?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::FileIdentity;
    use super::*;
    use crate::layout::PieceIndex;
    use crate::storage::StorageOptions;
    use crate::storage::tests::{stream, torrent};

    const FILES: [(&str, u64); 4] = [("t/a", 40_000), ("t/b", 100), ("t/deep/c", 30_000), ("t/empty", 0)];

    fn outlook(folder: &Path, priorities: &[u32], have: &[u32], overwrite: bool) -> Outlook {
        let data = stream(70_100);
        let metainfo = torrent(16_384, &FILES, &data);
        let options = StorageOptions { priorities: priorities.to_vec(), overwrite, ..Default::default() };
        let storage = Storage::new(&metainfo, folder, options);
        let mut missing = Bitfield::full(5);
        for &piece in have {
            missing.remove(PieceIndex(piece));
        }
        storage.outlook(&missing)
    }

    #[test]
    fn what_is_needed_is_what_is_missing_and_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = outlook(&folder.path().join("x/y"), &[], &[], false);
        assert_eq!((nothing.needed, nothing.makes_basedir), (70_100, true));
        assert_eq!(nothing.free.unwrap().1, FileIdentity::at(folder.path()).unwrap().dev());
        assert!(nothing.errors.is_empty() && nothing.part_file.is_none());

        std::fs::create_dir(folder.path().join("t")).unwrap();
        std::fs::write(folder.path().join("t/a"), vec![1; 40_000]).unwrap();
        let some = outlook(folder.path(), &[], &[0, 1], false);
        assert_eq!(some.needed, 30_100, "t/a has its blocks");
        let selected = outlook(folder.path(), &[1, 0, 0, 0], &[0, 1, 3, 4], false);
        assert_eq!((selected.needed, selected.to_part_file), (9152, 9152), "what it shares with others");
        assert!(!folder.path().join("t/deep").exists());
    }

    #[test]
    fn what_stands_in_the_way_and_what_would_be_cut_are_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("t/b")).unwrap();
        std::fs::write(folder.path().join("t/a"), vec![1; 40_001]).unwrap();
        std::fs::write(folder.path().join("t/deep"), "").unwrap();
        let found = outlook(folder.path(), &[], &[], false);
        let paths: Vec<&Path> = found.errors.iter().map(|error| error.path.as_path()).collect();
        assert_eq!(paths, [folder.path().join("t/b"), folder.path().join("t/deep/c")]);
        assert!(found.errors.iter().all(|error| error.kind == StorageErrorKind::NotAFile));
        assert!(matches!(found.too_long[..], [FileTooLong { size: 40_001, is_cut: true, .. }]));
        let whole = |overwrite| outlook(folder.path(), &[1, 0, 0, 0], &[0, 1, 2, 3, 4], overwrite);
        assert!(matches!(whole(false).too_long[..], [FileTooLong { is_cut: false, .. }]));
        assert!(matches!(whole(true).too_long[..], [FileTooLong { is_cut: true, .. }]));
        assert!(whole(false).errors.is_empty() && whole(false).needed == 0);
    }
}
