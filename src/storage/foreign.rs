//! Files that stand in the place of the torrent's files and may be somebody else's.

use std::io::IoSliceMut;

use super::part::PartFile;
use super::{Operation, Place, Storage, StorageError, StorageErrorKind};
use crate::layout::FileIndex;
use crate::storage::vectored::read_full;

/// Bytes that are read at a time to see whether a file is all zeros.
const CHUNK: usize = 256 << 10;

impl Storage {
    /// Whether the folder has bytes that only an earlier run of this torrent can have left there.
    pub(crate) fn has_part_file(&self) -> bool {
        let root = self.root(Operation::Read);
        root.is_ok_and(|root| root.find(&PartFile::name(self.info_hash)).is_ok())
    }

    /// Wanted files in whose place there is one of another length, unless it is empty, and its length in bytes. Whether it is
    /// the torrent's a check has to show before anything is written.
    pub(crate) fn files_of_other_lengths(&self) -> Vec<(FileIndex, u64)> {
        let mut found_other = Vec::new();
        let files = (0..self.slots.len() as u32).map(FileIndex);
        let wanted = files.filter(|&file| self.slot(file).place() == Place::File);
        self.find_each(wanted, |file, found| {
            if let Ok(found) = found
                && found.is_file
                && found.size > 0
                && found.size != self.layout.file(file).length
            {
                found_other.push((file, found.size));
            }
        });
        found_other
    }

    /// The error that says that one of these files is not the torrent's: the first that holds anything but zeros.
    pub(crate) fn refuse_foreign(&self, files: &[(FileIndex, u64)]) -> Option<StorageError> {
        let &(foreign, _) = files.iter().find(|(file, _)| !self.is_all_zeros(*file))?;
        Some(StorageError::new(StorageErrorKind::Foreign, Operation::Write, self.path(foreign)))
    }

    /// Whether the file holds nothing. One that cannot be read may hold anything.
    fn is_all_zeros(&self, file: FileIndex) -> bool {
        let Ok(opened) = self.open_unpooled(file) else { return false };
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < opened.size {
            match read_full(&opened.file, &mut [IoSliceMut::new(&mut buffer)], at) {
                Ok(0) => return true,
                Ok(count) if buffer[..count as usize].iter().all(|&byte| byte == 0) => at += count,
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }
}
