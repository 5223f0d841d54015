//! Blocks on the disk, set aside for a stretch of a file before the first write to it, and given back.
//!
//! On ext4 a write then finds its blocks, instead of counting free ones page by page and looking for a place
//! when it is flushed: a tenth of the processor time of a download. And pieces that come in random order lie
//! in their file's order: half as many extents. Nowhere else is it known to pay.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::IoSliceMut;
use std::sync::Mutex;

use super::{Place, Storage, StorageError, StorageErrorKind, lock};
use crate::layout::{Extent, Span};

/// Bytes that are set aside at a time.
const STRETCH: u64 = 16 << 20;

/// What was set aside of the files of one torrent.
#[derive(Debug)]
pub(super) struct Reserve {
    state: Mutex<ReserveState>,
}

#[derive(Debug, Default)]
struct ReserveState {
    /// Bytes of all files: no disk is filled by what is not yet there unless it has room for all.
    wanted: u64,
    /// Where in the torrent the stretches begin that it was tried for. One for each file and each
    /// [`STRETCH`] of it, at the most.
    tried: BTreeSet<u64>,
    /// Bytes that have been set aside.
    done: u64,
}

impl Reserve {
    /// For a torrent of which `wanted` bytes go to files.
    pub(super) fn new(wanted: u64) -> Reserve {
        Reserve { state: Mutex::new(ReserveState { wanted, ..ReserveState::default() }) }
    }

    /// From now on, so many bytes go to files.
    pub(super) fn set_wanted(&self, wanted: u64) {
        lock(&self.state).wanted = wanted;
    }

    /// Before `span` is written to `file`, which lies in the torrent as `extent` says. Where it fails, the
    /// write says why.
    pub(super) fn make(&self, file: &File, extent: &Extent, span: Span) {
        for stretch in span.offset / STRETCH..(span.offset + span.length).div_ceil(STRETCH) {
            let start = stretch * STRETCH;
            let (is_new, left) = {
                let mut state = lock(&self.state);
                (state.tried.insert(extent.offset + start), state.wanted.saturating_sub(state.done))
            };
            let length = STRETCH.min(extent.length.saturating_sub(start));
            if is_new && length > 0 && set_aside(file, start, length, left) {
                lock(&self.state).done += length;
            }
        }
    }
}

impl Storage {
    /// Sees to it that bytes of the stream that nobody has written can be told from bytes that are zeros: what reads as
    /// zeros becomes a hole. False if the file system has none, so that the zeros stay.
    pub(crate) fn make_holes(&self, offset: u64, length: u64) -> Result<bool, StorageError> {
        let (mut buffer, mut told_apart) = (Vec::new(), true);
        for span in self.layout.spans(offset, length) {
            if self.slot(span.file).place() != Place::File {
                continue;
            }
            buffer.resize(span.length as usize, 0);
            match self.read_span(span, &mut [IoSliceMut::new(&mut buffer)]) {
                Ok(()) if buffer.iter().any(|&byte| byte != 0) => {}
                Ok(()) => {
                    let handle = self.writable(span, &mut None)?;
                    told_apart &= punch(&handle.file, span);
                    self.mark_unsynced(span.file, &handle);
                    self.know_file(span.file, &handle.file);
                }
                // What is not there is no zeros.
                Err(error) if matches!(error.kind, StorageErrorKind::Short | StorageErrorKind::Missing) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(told_apart)
    }
}

#[cfg(target_os = "linux")]
fn punch(file: &File, span: Span) -> bool {
    use rustix::fs::FallocateFlags;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, flags, span.offset, span.length).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn punch(_: &File, _: Span) -> bool {
    false
}

/// Sets blocks aside if the file system is one where it pays, and has room for `left` bytes. The file
/// grows by writes alone.
#[cfg(target_os = "linux")]
fn set_aside(file: &File, offset: u64, length: u64, left: u64) -> bool {
    /// ext2, ext3 and ext4 alike, from statfs(2).
    const EXT4: i128 = 0xef53;
    let Ok(system) = rustix::fs::fstatfs(file) else { return false };
    let free = i128::from(system.f_bavail) * i128::from(system.f_bsize);
    i128::from(system.f_type) == EXT4
        && free >= i128::from(left)
        && rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn set_aside(_: &File, _: u64, _: u64, _: u64) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::layout::FileIndex;

    const SIZE: u64 = STRETCH + 100_000;

    fn allocated(file: &File) -> u64 {
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512
    }

    fn make(reserve: &Reserve, file: &File, offset: u64) {
        let extent = Extent { offset: 1000, length: SIZE, pad: false };
        reserve.make(file, &extent, Span { file: FileIndex(0), offset, length: 20 });
    }

    #[test]
    fn a_stretch_is_set_aside_once_up_to_the_end_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        let reserve = Reserve::new(SIZE);
        make(&reserve, &file, STRETCH - 10);
        if allocated(&file) == 0 {
            // Not ext4.
            return;
        }
        assert!((SIZE..SIZE + 65_536).contains(&allocated(&file)), "{}", allocated(&file));
        assert_eq!(file.metadata().unwrap().len(), 0, "the file grows by writes alone");
        // Also if it was closed and opened again.
        make(&reserve, &file.try_clone().unwrap(), STRETCH + 50);
        assert_eq!(lock(&reserve.state).done, SIZE);
    }

    #[test]
    fn nothing_is_set_aside_on_a_disk_without_room_for_all() {
        let file = tempfile::tempfile().unwrap();
        let reserve = Reserve::new(u64::MAX);
        make(&reserve, &file, 0);
        assert_eq!((lock(&reserve.state).done, allocated(&file)), (0, 0));
    }
}
