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
use crate::layout::{PieceIndex, Span};
use crate::metainfo::Metainfo;
use crate::storage::{Device, Note, Storage};

/// Bytes that all threads together read into: a megabyte at a time would leave fast devices idle between two reads.
const MAX_BYTES: usize = 16 << 20;
/// The most bytes that are read at once.
const MAX_RUN: usize = 8 << 20;
/// Shorter pieces are read into whole groups as it is.
const MIN_PIECE: u32 = 16 << 10;
/// How far apart it is asked whether a file has a hole: to read shorter ones costs less than to ask.
const HOLE_STEP: u32 = 128 << 10;
/// What is lost of a buffer, at the most, where the bytes of another file begin.
const SEAM: usize = 2 * PAGE;
/// Seams that there is room for in half a buffer, whatever the files: bytes in front of one are moved on only if they are
/// fewer than those behind it, and so twice as many before the next.
const SEAMS: usize = 24;
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

/// Consecutive pieces that are read together: all of each, or so many bytes of each at a time.
pub(super) struct Run {
    pieces: Range<u32>,
    chunk: usize,
    /// It was seen that they lie in one file, and have to come from a device.
    is_seen: bool,
}

impl Run {
    pub(super) fn pieces(&self) -> Range<u32> {
        self.pieces.clone()
    }

    /// What is left of it.
    pub(super) fn set_pieces(&mut self, pieces: Range<u32>) {
        self.pieces = pieces;
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
    /// The pieces from `first` on that are best read in one go: those that lie in one file, in no hole, and not in memory yet; or
    /// if the first lies in several, as many as there is room for, without a look at their files.
    pub(super) fn run_from(&self, first: PieceIndex, reader: &mut PieceReader<'_>) -> Option<Run> {
        let layout = &self.metainfo.layout;
        if !cfg!(target_os = "linux") || layout.piece_length() < MIN_PIECE {
            return None;
        }
        let length = layout.piece_length() as usize;
        if layout.spans_of_piece(first).nth(1).is_some() {
            return Some(self.spanning_run(first));
        }
        let file = reader.single_file_of(layout, first)?;
        let fits = self.runs().bytes / length;
        let (most, chunk) = match fits {
            0 | 1 => (2, hashing::step(self.runs().bytes / 2, self.metainfo).min(length)),
            fits => (fits as u32, length),
        };
        let end = first.0.saturating_add(most).min(reader.end_in(layout, file));
        let is_asked = |&piece: &u32| self.options.pieces.contains(PieceIndex(piece));
        let count = (first.0..end).take_while(is_asked).count() as u32;
        let last = PieceIndex(first.0 + count.checked_sub(1)?);
        if reader.is_cached(layout, last) || reader.direct(file).is_none() {
            return None;
        }
        let step = (HOLE_STEP / layout.piece_length()).max(1);
        let has_data = |&piece: &u32| {
            !(piece - first.0).is_multiple_of(step) || !reader.is_hole(layout, PieceIndex(piece))
        };
        let count = (first.0..=last.0).take_while(has_data).count() as u32;
        (count > 0).then_some(Run { pieces: first.0..first.0 + count, chunk, is_seen: true })
    }

    /// As many pieces as there is room for.
    fn spanning_run(&self, first: PieceIndex) -> Run {
        let layout = &self.metainfo.layout;
        let whole = layout.piece_length() as usize;
        let (mut bytes, mut file, mut end) = (0, None, first.0);
        while end < layout.num_pieces() && self.options.pieces.contains(PieceIndex(end)) {
            for span in layout.spans_of_piece(PieceIndex(end)) {
                bytes +=
                    span.length as usize + if file.replace(span.file) == Some(span.file) { 0 } else { SEAM };
            }
            if bytes > self.runs().bytes {
                break;
            }
            end += 1;
        }
        let is_asked = |&piece: &u32| self.options.pieces.contains(PieceIndex(piece));
        match end - first.0 {
            0 | 1 => {
                let most = first.0.saturating_add(2).min(layout.num_pieces());
                let count = (first.0..most).take_while(is_asked).count() as u32;
                Run { pieces: first.0..first.0 + count, chunk: self.chunk(), is_seen: false }
            }
            _ => Run { pieces: first.0..end, chunk: whole, is_seen: false },
        }
    }

    /// So many bytes of each of two pieces are read at a time if there is no room for both.
    fn chunk(&self) -> usize {
        let room = self.runs().bytes / 2 - SEAMS * SEAM;
        hashing::step(room, self.metainfo).min(self.metainfo.layout.piece_length() as usize)
    }

    fn runs(&self) -> &RunBuffers {
        self.run_buffers.get_or_init(|| RunBuffers::new(self.metainfo, self.storage, self.threads))
    }

    /// Checks a run, or as many of its first pieces as can be read so; gives their number.
    pub(super) fn check_run(&self, run: &Run, reader: &mut PieceReader<'_>) -> Result<u32, RunFault> {
        let layout = &self.metainfo.layout;
        let last = PieceIndex(run.pieces.end - 1);
        if !run.is_seen && reader.is_cached(layout, last) {
            return Err(RunFault::Unread);
        }
        let mut lent = self.runs().lend();
        let buffer = &mut lent.buffer;
        let pieces: Vec<PieceIndex> = run.pieces.clone().map(PieceIndex).collect();
        let whole = layout.piece_length() as usize;
        let bytes_of = |piece: PieceIndex, begin: usize, most: usize| {
            let left = (layout.piece_size(piece) as usize).saturating_sub(begin).min(most) as u64;
            let start = layout.piece_offset(piece) + begin as u64;
            start..start + left
        };
        let mut verdicts = Vec::new();
        if run.chunk == whole {
            let ranges: Vec<_> = pieces.iter().map(|&piece| bytes_of(piece, 0, whole)).collect();
            let places = self.gather(reader, &ranges, buffer.at_page(0));
            if places.is_empty() {
                return Err(RunFault::Unread);
            }
            let all = buffer.at_page(0);
            let pieces = &pieces[..places.len()];
            for (pieces, places) in pieces.chunks(LANES).zip(places.chunks(LANES)) {
                if !(self.options.keep_going)() {
                    return Err(RunFault::Stopped);
                }
                let mut hashes = LaneHashes::new(pieces.len(), self.metainfo);
                hashes.update(&places.iter().map(|place| &all[place.clone()]).collect::<Vec<_>>());
                self.judge(pieces, hashes, reader, &mut verdicts);
            }
        } else {
            let mut hashes = LaneHashes::new(pieces.len(), self.metainfo);
            let longest = pieces.iter().map(|&piece| layout.piece_size(piece) as usize).max().unwrap_or(0);
            let lane_bytes = (self.runs().bytes / 2 / PAGE + 1) * PAGE;
            for begin in (0..longest).step_by(run.chunk) {
                if !(self.options.keep_going)() {
                    return Err(RunFault::Stopped);
                }
                let mut places = Vec::new();
                for (lane, &piece) in pieces.iter().enumerate() {
                    let place = &mut buffer.at_page(lane * lane_bytes / PAGE)[..lane_bytes];
                    let range = bytes_of(piece, begin, run.chunk);
                    let found = self.gather(reader, &[range], place).pop().ok_or(RunFault::Unread)?;
                    places.push(lane * lane_bytes + found.start..lane * lane_bytes + found.end);
                }
                let all = buffer.at_page(0);
                hashes.update(&places.into_iter().map(|place| &all[place]).collect::<Vec<_>>());
            }
            self.judge(&pieces, hashes, reader, &mut verdicts);
        }
        drop(lent);
        self.tell(&verdicts);
        Ok(verdicts.len() as u32)
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

    /// Reads these ranges of the stream, which follow one another, and tells where in `room` each is in one piece. `room` begins with a
    /// page. What lies in one file is read in one go; what goes past the page cache stands as far into a page as it does in its file, so
    /// where one file follows another the shorter end is moved to the other. Ends before the first range that cannot be read.
    fn gather(
        &self,
        reader: &mut PieceReader<'_>,
        ranges: &[Range<u64>],
        room: &mut [u8],
    ) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
        let ranges_with_bytes = ranges.iter().enumerate().filter(|(_, range)| !range.is_empty());
        let mut spans = ranges_with_bytes.flat_map(|(number, range)| {
            let spans = self.metainfo.layout.spans(range.start, range.end - range.start);
            spans.map(move |span| (number, span))
        });
        let mut next = spans.next();
        // The end of what was read.
        let mut filled = 0;
        while let Some((number, first)) = next {
            // All that follows in the same file.
            let mut part = vec![(number, first.length as usize)];
            let mut length = first.length;
            next = spans.next();
            while let Some((number, span)) = next.as_ref()
                && span.file == first.file
                && span.offset == first.offset + length
            {
                part.push((*number, span.length as usize));
                length += span.length;
                next = spans.next();
            }
            // What there is already of the first range.
            let before = places.get(number).map_or(filled..filled, Range::clone);
            let Some(found) = self.read_part(reader, first, length as usize, room, filled) else {
                places.truncate(number);
                return places;
            };
            let mut at = if found.start == filled {
                filled
            } else if found.len() <= before.len() {
                room.copy_within(found.clone(), filled);
                filled
            } else {
                room.copy_within(before.clone(), found.start - before.len());
                if let Some(place) = places.get_mut(number) {
                    *place = found.start - before.len()..found.start;
                }
                found.start
            };
            for (number, length) in part {
                match places.get_mut(number) {
                    Some(place) => place.end += length,
                    None => {
                        // Ranges without bytes stand where they are.
                        places.resize(number, at..at);
                        places.push(at..at + length);
                    }
                }
                at += length;
            }
            filled = at;
        }
        places.resize(ranges.len(), filled..filled);
        places
    }

    /// Reads so many bytes of a file to where they fit behind the first `filled` ones.
    fn read_part(
        &self,
        reader: &mut PieceReader<'_>,
        first: Span,
        length: usize,
        room: &mut [u8],
        filled: usize,
    ) -> Option<Range<usize>> {
        if self.metainfo.layout.file(first.file).pad {
            room.get_mut(filled..filled + length)?.fill(0);
            return Some(filled..filled + length);
        }
        let file = reader.direct_up_to(first.file, first.offset + length as u64)?;
        let start = filled.next_multiple_of(PAGE);
        let read = read_pages(file, first.offset, room.get_mut(start..)?, length)?;
        self.storage.trace(|| Note::Read { file: first.file, length: length as u64 });
        Some(start + read.start..start + read.end)
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
    if whole > place.len() {
        return None;
    }
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
mod tests;
