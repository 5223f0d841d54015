//! Pieces that have to come from a device: read in one stream, past the page cache, and hashed side by side.
//!
//! The system's pages would cost more of the processor than the hash does, and what others use would be pushed out for them. Runs are read in the
//! order of the pieces: on a device that seeks two at a time, so that it never waits for the next.

use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::sync::{Condvar, Mutex, PoisonError};

use super::reader::PieceReader;
use super::{CheckShared, LANES, LaneHashes, PieceResult, hashing};
use crate::layout::PieceIndex;
use crate::metainfo::Metainfo;
use crate::storage::{Device, Note, Storage};

/// Bytes that all threads together read into: a megabyte at a time would leave fast devices idle between two reads.
const MAX_BYTES: usize = 16 << 20;
/// The most bytes that are read at once.
const MAX_RUN: usize = 8 << 20;
/// Shorter pieces are read into whole groups as it is.
const MIN_PIECE: u32 = 128 << 10;
/// What goes past the page cache begins and ends with a page, in memory and in the file.
const PAGE: usize = 4096;

/// The places that runs of pieces are read into. Whoever wants one waits until one is free.
pub(super) struct RunBuffers {
    /// Bytes in each.
    bytes: usize,
    free: Mutex<Free>,
    returned: Condvar,
}

struct Free {
    buffers: Vec<PageBuffer>,
    /// So many more may be made.
    unmade: usize,
}

/// One of them; goes back when it is dropped.
struct Lent<'a> {
    from: &'a RunBuffers,
    buffer: PageBuffer,
}

/// Memory that begins with a page.
struct PageBuffer {
    bytes: Vec<u8>,
    start: usize,
}

/// Consecutive pieces in one file that are read together: all of each, or so many bytes of each at a time.
pub(super) struct Run {
    pieces: Range<u32>,
    chunk: usize,
}

impl Run {
    pub(super) fn pieces(&self) -> Range<u32> {
        self.pieces.clone()
    }
}

impl RunBuffers {
    pub(super) fn new(metainfo: &Metainfo, storage: &Storage, threads: usize) -> RunBuffers {
        // The torrent's own folder may be a mount.
        let device = Device::of(&metainfo.path_below(storage.basedir()));
        let seeks = device.is_none_or(|device| device.seeks);
        // Two that follow each other are still read in order, by the system's own queue: one alone would leave the device idle after each.
        let count = threads.min(if seeks { 2 } else { 4 });
        RunBuffers {
            bytes: (MAX_BYTES / count).min(MAX_RUN),
            free: Mutex::new(Free { buffers: Vec::new(), unmade: count }),
            returned: Condvar::new(),
        }
    }

    fn lend(&self) -> Lent<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(buffer) = free.buffers.pop() {
                return Lent { from: self, buffer };
            }
            if free.unmade > 0 {
                free.unmade -= 1;
                // Made anew, it costs nothing until it is read into.
                return Lent { from: self, buffer: PageBuffer::new(self.bytes + 2 * PAGE) };
            }
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let buffer = std::mem::replace(&mut self.buffer, PageBuffer { bytes: Vec::new(), start: 0 });
        self.from.free.lock().unwrap_or_else(PoisonError::into_inner).buffers.push(buffer);
        self.from.returned.notify_one();
    }
}

impl PageBuffer {
    fn new(bytes: usize) -> PageBuffer {
        let bytes = vec![0; bytes + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        // Where the place of a byte is not told, nothing can be read past the page cache.
        PageBuffer { start: start.min(PAGE), bytes }
    }

    /// From the page that begins `pages` pages behind the first.
    fn at_page(&mut self, pages: usize) -> &mut [u8] {
        &mut self.bytes[self.start + pages * PAGE..]
    }
}

impl CheckShared<'_> {
    /// The pieces from `first` on that are best read in one go: those that lie in one file, in no hole, and not in memory yet.
    pub(super) fn run_from(&self, first: PieceIndex, reader: &mut PieceReader<'_>) -> Option<Run> {
        let layout = &self.metainfo.layout;
        if !cfg!(target_os = "linux") || layout.piece_length() < MIN_PIECE {
            return None;
        }
        let file = reader.single_file_of(layout, first)?;
        let length = layout.piece_length() as usize;
        let fits = self.runs().bytes / length;
        let (most, chunk) = match fits {
            0 | 1 => (2, hashing::step(self.runs().bytes / 2, self.metainfo).min(length)),
            fits => (fits as u32, length),
        };
        let end = first.0.saturating_add(most).min(layout.num_pieces());
        let belongs = |&piece: &u32| {
            self.options.pieces.contains(PieceIndex(piece))
                && reader.single_file_of(layout, PieceIndex(piece)) == Some(file)
        };
        let count = (first.0..end).take_while(belongs).count() as u32;
        let last = PieceIndex(first.0 + count.checked_sub(1)?);
        if reader.is_cached(layout, last) || reader.direct(file).is_none() {
            return None;
        }
        let has_data = |&piece: &u32| !reader.is_hole(layout, PieceIndex(piece));
        let count = (first.0..=last.0).take_while(has_data).count() as u32;
        (count > 0).then_some(Run { pieces: first.0..first.0 + count, chunk })
    }

    fn runs(&self) -> &RunBuffers {
        self.run_buffers.get_or_init(|| RunBuffers::new(self.metainfo, self.storage, self.threads))
    }

    /// Checks a run.
    pub(super) fn check_run(&self, run: &Run, reader: &mut PieceReader<'_>) -> Result<(), RunFault> {
        let layout = &self.metainfo.layout;
        let mut lent = self.runs().lend();
        let buffer = &mut lent.buffer;
        let pieces: Vec<PieceIndex> = run.pieces.clone().map(PieceIndex).collect();
        let whole = layout.piece_length() as usize;
        let mut verdicts = Vec::new();
        if run.chunk == whole {
            let bytes = pieces.iter().map(|&piece| layout.piece_size(piece) as usize).sum();
            let read = self.read(reader, pieces[0], 0, buffer.at_page(0), bytes)?;
            let all = &buffer.at_page(0)[read];
            for (pieces, data) in pieces.chunks(LANES).zip(all.chunks(LANES * whole)) {
                if !(self.options.keep_going)() {
                    return Err(RunFault::Stopped);
                }
                let mut hashes = LaneHashes::new(pieces.len(), self.metainfo);
                hashes.update(&data.chunks(whole).collect::<Vec<_>>());
                self.judge(pieces, hashes, reader, &mut verdicts);
            }
        } else {
            let mut hashes = LaneHashes::new(pieces.len(), self.metainfo);
            let longest = pieces.iter().map(|&piece| layout.piece_size(piece) as usize).max().unwrap_or(0);
            let pages = (run.chunk / PAGE) + 1;
            for begin in (0..longest).step_by(run.chunk) {
                if !(self.options.keep_going)() {
                    return Err(RunFault::Stopped);
                }
                let mut places = Vec::new();
                for (lane, &piece) in pieces.iter().enumerate() {
                    let left = (layout.piece_size(piece) as usize).saturating_sub(begin).min(run.chunk);
                    let place = buffer.at_page(lane * pages);
                    places.push(self.read(reader, piece, begin, place, left)?);
                }
                let all = buffer.at_page(0);
                let chunk = |(lane, place): (usize, Range<usize>)| {
                    &all[lane * pages * PAGE + place.start..lane * pages * PAGE + place.end]
                };
                hashes.update(&places.into_iter().enumerate().map(chunk).collect::<Vec<_>>());
            }
            self.judge(&pieces, hashes, reader, &mut verdicts);
        }
        drop(lent);
        self.tell(&verdicts);
        Ok(())
    }

    fn judge(
        &self,
        pieces: &[PieceIndex],
        hashes: LaneHashes,
        reader: &mut PieceReader<'_>,
        verdicts: &mut Vec<(PieceIndex, PieceResult)>,
    ) {
        let zeros: Vec<u32> = pieces.iter().map(|&piece| self.metainfo.layout.zeros_behind(piece)).collect();
        let digests = hashes.finish(&zeros);
        verdicts.extend(
            pieces.iter().zip(&digests).map(|(&piece, digest)| (piece, self.verdict(piece, digest, reader))),
        );
    }

    /// Reads `length` bytes of a file from byte `begin` of a piece on, and tells where in `place` they are.
    fn read(
        &self,
        reader: &mut PieceReader<'_>,
        piece: PieceIndex,
        begin: usize,
        place: &mut [u8],
        length: usize,
    ) -> Result<Range<usize>, RunFault> {
        let span = self.metainfo.layout.spans_of_piece(piece).next().ok_or(RunFault::Unread)?;
        let file = reader.direct(span.file).ok_or(RunFault::Unread)?;
        let read = read_pages(file, span.offset + begin as u64, place, length).ok_or(RunFault::Unread)?;
        self.storage.trace(|| Note::Read { file: span.file, length: length as u64 });
        Ok(read)
    }
}

/// Why a run has no verdicts.
pub(super) enum RunFault {
    /// It is to be read in another way, which tells what is wrong.
    Unread,
    /// Nobody wants to know any more.
    Stopped,
}

/// Reads the pages that `length` bytes from `offset` on lie in; `place` begins with a page.
fn read_pages(file: &File, offset: u64, place: &mut [u8], length: usize) -> Option<Range<usize>> {
    let skip = (offset % PAGE as u64) as usize;
    let (needed, whole) = (skip + length, (skip + length).next_multiple_of(PAGE));
    let mut done = 0;
    while done < needed {
        let mut places = [IoSliceMut::new(&mut place[done..whole])];
        match rustix::io::preadv(file, &mut places, offset - skip as u64 + done as u64) {
            Ok(count) if count % PAGE == 0 && count > 0 => done += count,
            // The end of the file.
            Ok(count) if done + count >= needed => done += count,
            Err(rustix::io::Errno::INTR) => {}
            _ => return None,
        }
    }
    Some(skip..needed)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::tests::{lay_out_files, numbers, run};
    use super::*;
    use crate::check::must_wait;
    use crate::storage::tests::{stream, torrent};

    /// Beside the program, which is on a disk more often than the folder for what is temporary.
    fn folder() -> tempfile::TempDir {
        tempfile::tempdir_in("target").or_else(|_| tempfile::tempdir()).unwrap()
    }

    /// The data leave the system's memory, as far as it lets go of them.
    fn let_go(files: &[File]) {
        for file in files {
            file.sync_all().unwrap();
            crate::storage::forget(file, 0, 0);
        }
    }

    #[test]
    fn what_is_not_in_memory_is_checked_past_the_page_cache_with_the_same_verdicts() {
        const LENGTHS: [u64; 4] = [12_345_678, 300_000, 9 << 20, 4_000_001];
        let names = ["t/a", "t/b", "t/c", "t/d"];
        let data = stream(LENGTHS.iter().sum());
        for piece_length in [128 << 10, 300_001, 1 << 20, 3 << 20, 5 << 20, 9 << 20] {
            let dir = folder();
            let metainfo = torrent(piece_length, &names.into_iter().zip(LENGTHS).collect::<Vec<_>>(), &data);
            let mut rest = &data[..];
            let parts = LENGTHS.map(|length| {
                let (part, later) = rest.split_at(length as usize);
                rest = later;
                part.to_vec()
            });
            lay_out_files(dir.path(), &metainfo, &parts);
            let path = |name| dir.path().join(name);
            let files = names.map(|name| File::options().read(true).write(true).open(path(name)).unwrap());
            let verdicts = || {
                [1, 2, 5].map(|threads| {
                    let_go(&files);
                    // To ask has the system read the page that was asked for.
                    let is_cold = must_wait(&files[0], 3_000_000);
                    let outcome = run(dir.path(), &metainfo, threads);
                    // A piece of two files is read as ever, and the system reads on behind it.
                    let stays_cold = must_wait(&files[0], 6_000_000);
                    assert_eq!(is_cold, stays_cold, "{piece_length} {threads}");
                    [outcome.ok, outcome.corrupt, outcome.missing, outcome.unreadable]
                        .map(|set| numbers(&set))
                })
            };
            let all: Vec<u32> = (0..metainfo.layout.num_pieces()).collect();
            for [ok, ..] in verdicts() {
                assert_eq!(ok, all, "{piece_length}");
            }
            // A wrong byte in three places, one file too short and a hole in another.
            for (file, at) in [(0, 5), (0, 12_345_677), (2, 5_000_000)] {
                let mut byte = [0];
                files[file].read_exact_at(&mut byte, at).unwrap();
                files[file].write_all_at(&[byte[0] ^ 4], at).unwrap();
            }
            files[3].set_len(3_999_000).unwrap();
            files[2].set_len(7 << 20).unwrap();
            files[2].set_len(9 << 20).unwrap();
            let [one, two, five] = verdicts();
            // Now in memory, and one file after the other.
            names.iter().for_each(|name| drop(std::fs::read(path(name)).unwrap()));
            let warm = run(dir.path(), &metainfo, 2);
            let warm = [warm.ok, warm.corrupt, warm.missing, warm.unreadable].map(|set| numbers(&set));
            assert!(!warm[1].is_empty() && !warm[2].is_empty());
            assert_eq!([&one, &two, &five], [&warm; 3], "{piece_length}");
        }
    }

    #[test]
    fn what_ends_within_a_page_is_read_to_its_end_and_no_further() {
        let dir = folder();
        let data = stream(20_000);
        std::fs::write(dir.path().join("a"), &data).unwrap();
        let file = File::open(dir.path().join("a")).unwrap();
        file.sync_all().unwrap();
        let Some(direct) = crate::storage::open_direct(&file) else { return };
        let mut buffer = PageBuffer::new(6 * PAGE);
        for (offset, length) in [(0, 20_000), (1, 19_999), (4096, 4096), (5000, 3), (19_999, 1)] {
            let place = read_pages(&direct, offset, buffer.at_page(0), length).unwrap();
            assert_eq!(buffer.at_page(0)[place], data[offset as usize..offset as usize + length]);
        }
        assert_eq!(read_pages(&direct, 0, buffer.at_page(0), 20_001), None);
        assert_eq!(read_pages(&direct, 30_000, buffer.at_page(0), 1), None);
    }
}
