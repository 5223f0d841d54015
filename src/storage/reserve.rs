//! Blocks on the disk, set aside for a stretch of a file before the first write to it.
//!
//! On ext4 a write then finds its blocks, instead of counting free ones page by page and looking for a place
//! when it is flushed: a tenth of the processor time of a download. And pieces that come in random order lie
//! in their file's order: half as many extents. Nowhere else is it known to pay.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock;

/// Bytes of a stretch.
const STRETCH: u64 = 16 << 20;

/// How much of a torrent was set aside: of what is wanted, so that no disk is filled by what is not yet
/// there unless it has room for all.
#[derive(Debug)]
pub(super) struct Reserve {
    wanted: u64,
    done: AtomicU64,
}

/// The stretches of one open file for which it was tried. Bounded by the length of the file.
#[derive(Debug, Default)]
pub(crate) struct Stretches(Mutex<BTreeSet<u64>>);

impl Stretches {
    /// For a file on which it pays.
    #[cfg(target_os = "linux")]
    pub(super) fn of(file: &File) -> Option<Stretches> {
        /// ext2, ext3 and ext4 alike, from statfs(2).
        const EXT4: i128 = 0xef53;
        let system = rustix::fs::fstatfs(file).ok()?;
        (i128::from(system.f_type) == EXT4).then(Stretches::default)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_: &File) -> Option<Stretches> {
        None
    }
}

impl Reserve {
    /// For a torrent of which `wanted` bytes go to files.
    pub(super) fn new(wanted: u64) -> Reserve {
        Reserve { wanted, done: AtomicU64::new(0) }
    }

    /// Before bytes from `offset` on are written to a file of `size` bytes. Where it fails, the write says why.
    pub(super) fn make(&self, file: &File, stretches: &Stretches, offset: u64, length: u64, size: u64) {
        for stretch in offset / STRETCH..(offset + length).div_ceil(STRETCH) {
            if !lock(&stretches.0).insert(stretch) {
                continue;
            }
            let start = stretch * STRETCH;
            let length = STRETCH.min(size.saturating_sub(start));
            if length > 0 && self.has_room(file) && set_aside(file, start, length) {
                self.done.fetch_add(length, Ordering::Relaxed);
            }
        }
    }

    fn has_room(&self, file: &File) -> bool {
        let left = self.wanted.saturating_sub(self.done.load(Ordering::Relaxed));
        rustix::fs::fstatvfs(file).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= left)
    }
}

/// The file grows by writes alone.
#[cfg(target_os = "linux")]
fn set_aside(file: &File, offset: u64, length: u64) -> bool {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn set_aside(_: &File, _: u64, _: u64) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn allocated(file: &File) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512
    }

    #[test]
    fn a_stretch_is_set_aside_once_up_to_the_end_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        let size = STRETCH + 100_000;
        let (reserve, stretches) = (Reserve::new(size), Stretches::default());
        reserve.make(&file, &stretches, STRETCH - 10, 20, size);
        reserve.make(&file, &stretches, STRETCH + 50, 20, size);
        if allocated(&file) == 0 {
            // A file system without fallocate(2).
            return;
        }
        assert_eq!(reserve.done.load(Ordering::Relaxed), size);
        assert!((size..size + 65_536).contains(&allocated(&file)), "{}", allocated(&file));
        assert_eq!(file.metadata().unwrap().len(), 0, "the file grows by writes alone");
    }

    #[test]
    fn nothing_is_set_aside_on_a_disk_without_room_for_all() {
        let file = tempfile::tempfile().unwrap();
        let reserve = Reserve::new(u64::MAX);
        reserve.make(&file, &Stretches::default(), 0, 20, STRETCH);
        assert_eq!((reserve.done.load(Ordering::Relaxed), allocated(&file)), (0, 0));
    }
}
