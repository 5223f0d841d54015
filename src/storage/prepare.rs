//! What is made before the first byte is written: only what no write will make.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::open::parent;
use super::part::PartFile;
use super::root::{PathFinder, Root};
use super::{Note, Operation, Place, Preallocate, Storage, StorageError, StorageErrorKind, lock};
use crate::layout::FileIndex;

impl Storage {
    /// Makes basedir if it is missing, empty files, symbolic links, and with
    /// [`Preallocate::Full`] all files with their blocks; moves bytes of files that have become
    /// wanted out of the part file; where that is allowed, cuts files that are too long. All else is made when it is written to.
    ///
    /// With too small a disk [`Preallocate::Full`] fails with [`StorageErrorKind::TooSmall`] and
    /// says how much is missing, before anything is made.
    pub fn prepare(&self) -> Result<(), StorageError> {
        let root = self.make_basedir()?;
        if self.preallocate == Preallocate::Full {
            self.refuse_too_small_a_disk(&root)?;
        }
        if self.overwrite {
            self.cut_files_too_long()?;
        }
        self.make_empty_files(&root)?;
        self.make_links(&root)?;
        if self.preallocate == Preallocate::Full {
            self.allocate(&root)?;
        }
        self.empty_part_file(&root)
    }

    /// Moves bytes of files that have become wanted out of the part file, if there is one, and
    /// removes it once nothing needs it. Call before the check: what was moved is to be checked.
    pub fn move_parts_into_files(&self) -> Result<(), StorageError> {
        match self.root(Operation::Read) {
            Ok(root) => self.empty_part_file(&root),
            Err(error) if error.kind == StorageErrorKind::Missing => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn make_basedir(&self) -> Result<Arc<Root>, StorageError> {
        let is_known = {
            let base = lock(&self.base);
            base.identity.is_some() || base.before.is_some()
        };
        if !is_known {
            std::fs::create_dir_all(&self.basedir)
                .map_err(|error| StorageError::from_io(Operation::Create, &self.basedir, error))?;
        }
        let vanished = || StorageError::new(StorageErrorKind::Vanished, Operation::Create, &self.basedir);
        let root = self.root(Operation::Create)?;
        self.check_folder_identity(&root).map_err(|()| vanished())?;
        let is_emptied = self.is_emptied(&root);
        let mut base = lock(&self.base);
        if is_emptied {
            // Held open, it could not be unmounted to make way for the right one.
            base.root = None;
            return Err(vanished());
        }
        base.before = None;
        drop(base);
        Ok(root)
    }

    /// Whether another folder is where this torrent's files were before, and none of them is there.
    fn is_emptied(&self, root: &Root) -> bool {
        let Some((basedir, top)) = lock(&self.base).before else { return false };
        let top_now = self.top().and_then(|top| Some(root.find(top).ok()?.identity));
        let is_other = |one, other| !root.is_same(one, other);
        let is_another = is_other(basedir, root.identity())
            || top.zip(top_now).is_some_and(|(before, now)| is_other(before, now));
        let mut files = self.slots.iter().filter(|slot| slot.place() == Place::File);
        let mut finder = PathFinder::new(root);
        is_another && !files.any(|slot| finder.find(self.name(slot)).is_ok())
    }

    fn files(&self) -> impl Iterator<Item = (FileIndex, &super::Slot)> {
        self.slots.iter().enumerate().map(|(index, slot)| (FileIndex(index as u32), slot))
    }

    fn refuse_too_small_a_disk(&self, root: &Root) -> Result<(), StorageError> {
        let free = root
            .free_bytes()
            .map_err(|error| StorageError::from_io(Operation::Create, &self.basedir, error))?;
        let lacking = self.bytes_to_allocate(root).saturating_sub(free);
        if lacking == 0 {
            return Ok(());
        }
        let mut error = StorageError::new(StorageErrorKind::TooSmall, Operation::Create, &self.basedir);
        error.needed = Some(lacking);
        Err(error)
    }

    fn cut_files_too_long(&self) -> Result<(), StorageError> {
        for (file, from) in self.files_of_other_lengths() {
            let to = self.layout.file(file).length;
            if from < to {
                continue;
            }
            let (opened, _) = self.open_for_writing(&*self.root_for_writing(file)?, file)?;
            opened.set_len(to).map_err(|error| self.io_error(Operation::Write, file, error))?;
            self.know_file(file, &opened);
            self.note(Note::Cut { file, from, to });
        }
        Ok(())
    }

    fn make_empty_files(&self, root: &Root) -> Result<(), StorageError> {
        let mut finder = PathFinder::new(root);
        for (file, slot) in self.files() {
            // What is there is not opened: it may lie on a read-only file system, and need no more.
            let mut is_there = || finder.find(self.name(slot)).is_ok_and(|found| found.is_file);
            if slot.place() == Place::File && self.layout.file(file).length == 0 && !is_there() {
                let (made, _) = self.open_for_writing(&*self.root_for_writing(file)?, file)?;
                self.know_file(file, &made);
            }
        }
        Ok(())
    }

    fn make_links(&self, root: &Root) -> Result<(), StorageError> {
        let wanted = self.links.iter().filter(|(file, _)| self.slot(*file).place() == Place::Link);
        for (file, target) in wanted {
            let path = self.name_of(*file);
            let target = relative(path, target);
            let made = self.make_folders(root, path).and_then(|()| root.make_link(path, &target));
            match made {
                Ok(()) => {
                    lock(&self.unsynced).folders.insert(parent(path).into());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if root.read_link(path).ok().as_deref() != Some(target.as_bytes()) {
                        self.note(Note::LinkInTheWay(*file));
                    }
                }
                // Some file systems have no links or are read-only; the torrent is whole without.
                Err(error) if is_unable(&error) => self.note(Note::LinkInTheWay(*file)),
                Err(error) => return Err(self.io_error(Operation::Create, *file, error)),
            }
        }
        Ok(())
    }

    fn allocate(&self, root: &Root) -> Result<(), StorageError> {
        let mut told = false;
        let mut finder = PathFinder::new(root);
        for (file, slot) in self.files() {
            let length = self.layout.file(file).length;
            let mut whole = || {
                finder
                    .find(self.name(slot))
                    .is_ok_and(|found| found.allocated >= length && found.size >= length)
            };
            if slot.place() != Place::File || length == 0 || whole() {
                continue;
            }
            let (opened, found) = self.open_for_writing(&*self.root_for_writing(file)?, file)?;
            let allocated = rustix::fs::fallocate(&opened, FallocateFlags::empty(), 0, length);
            let allocated = match allocated {
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    if !std::mem::replace(&mut told, true) {
                        self.note(Note::NotPreallocated);
                    }
                    if found.size < length { opened.set_len(length) } else { Ok(()) }
                }
                other => other.map_err(io::Error::from),
            };
            self.know_file(file, &opened);
            allocated.map_err(|error| self.io_error(Operation::Create, file, error))?;
        }
        Ok(())
    }

    /// Moves bytes of wanted files out of the part file, and removes it when nothing is left.
    /// The bytes are on the disk in their file before the part file loses them.
    fn empty_part_file(&self, root: &Root) -> Result<(), StorageError> {
        let file = match root.find(&PartFile::name(self.info_hash)) {
            Ok(_) => self.copy_from_part_file(|file| self.slot(file).place())?,
            Err(_) => return Ok(()),
        };
        if file.is_empty() && lock(&self.part).as_ref().is_none_or(|part| !part.is_empty()) {
            return Ok(());
        }
        self.sync()?;
        self.forget_in_part_file(root, file)
    }

    fn forget_in_part_file(&self, root: &Root, ranges: Vec<Range<u64>>) -> Result<(), StorageError> {
        let mut part = self.part(Operation::Write)?;
        let part = part.as_mut().expect("loaded by part()");
        ranges.into_iter().for_each(|range| part.forget(range));
        let rewritten = part.rewrite(root);
        self.know_part_file(part);
        rewritten.map_err(|error| self.part_error(Operation::Write, error))
    }

    /// Changes which files are wanted, by their weights as in [`StorageOptions::priorities`](super::StorageOptions). Bytes of
    /// files that become wanted are moved out of the part file, and can be read all the while; what is in files that are not
    /// wanted any more stays there. Call it in order with the writes, and [`Storage::prepare`] afterwards.
    pub fn set_wanted(&self, priorities: &[u32]) -> Result<(), StorageError> {
        let place_of = |file: FileIndex| {
            let wanted = priorities.get(file.0 as usize).is_none_or(|&weight| weight > 0);
            self.slot(file).place_if(wanted)
        };
        let root = match self.root(Operation::Read) {
            Ok(root) => Some(root),
            Err(error) if error.kind == StorageErrorKind::Missing => None,
            Err(error) => return Err(error),
        };
        let has_part = root.as_ref().is_some_and(|root| root.find(&PartFile::name(self.info_hash)).is_ok());
        // As long as a file is not wanted it is read from the part file first: so the bytes are copied, then
        // the file is wanted, and only then are they forgotten there.
        let copied = if has_part { self.copy_from_part_file(place_of)? } else { Vec::new() };
        self.files().for_each(|(file, slot)| slot.set_place(place_of(file)));
        self.reserve.set_wanted(self.bytes_in_files());
        match root.filter(|_| !copied.is_empty()) {
            Some(root) => {
                self.sync()?;
                self.forget_in_part_file(&root, copied)
            }
            None => Ok(()),
        }
    }

    /// Writes kept bytes to the files that have, by `place_of`, a place of their own; returns which runs of the stream need no
    /// longer be kept.
    fn copy_from_part_file(
        &self,
        place_of: impl Fn(FileIndex) -> Place,
    ) -> Result<Vec<Range<u64>>, StorageError> {
        let kept =
            self.part(Operation::Read)?.as_ref().map_or(Vec::new(), |part| part.kept(0..self.layout.end()));
        let mut moved = Vec::new();
        let mut buffer = Vec::new();
        for range in kept {
            for span in self.layout.spans(range.start, range.end - range.start) {
                let start = self.layout.file(span.file).offset + span.offset;
                let here = start..start + span.length;
                match place_of(span.file) {
                    Place::Absent => continue,
                    Place::Pad | Place::Link => {}
                    Place::File => {
                        buffer.resize(span.length as usize, 0);
                        let read = self.part(Operation::Read)?;
                        let read = read.as_ref().map_or(Ok(()), |part| part.read(here.start, &mut buffer));
                        read.map_err(|error| self.part_error(Operation::Read, error))?;
                        self.write_span(span, &[&buffer], &mut None)?;
                    }
                }
                moved.push(here);
            }
        }
        Ok(moved)
    }
}

fn is_unable(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::OPNOTSUPP | Errno::ROFS))
}

/// `target` as a link at `path` must say it: both are paths below basedir.
fn relative(path: &str, target: &str) -> String {
    let from: Vec<&str> = parent(path).split('/').filter(|component| !component.is_empty()).collect();
    let to: Vec<&str> = target.split('/').collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - common);
    up.chain(to[common..].iter().copied()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    #[test]
    fn links_are_relative_to_their_folder() {
        assert_eq!(super::relative("t/a/link", "t/b/file"), "../b/file");
        assert_eq!(super::relative("t/link", "t/b/file"), "b/file");
        assert_eq!(super::relative("link", "file"), "file");
    }
}
