//! Reads the files of a tree and hashes their pieces, on all cores.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Change, ObstacleKind, Obstacles, SourceTree};
use crate::bitfield::Bitfield;
use crate::check::{MAX_BUFFERS, MAX_CHUNK, STAGGER, group_for, must_wait, threads_for};
use crate::hash::merkle::{MERKLE_BLOCK, hash_each, root_at};
use crate::hash::{LANES, MultiSha1, Sha1, Sha256};
use crate::layout::{PieceIndex, Span};
use crate::metainfo::draft::{Draft, DraftHashes};
use crate::storage::{allowed_files, read_full};

/// Bytes, of all pieces that are read side by side, that are hashed by one version and then by the other, while they are in the cache: half of
/// what a core has for itself.
const BOTH: usize = 512 << 10;

/// Files held open by all threads together, where the system allows eight times as many.
const MAX_OPEN_FILES: usize = 32;

/// The files of a tree are being hashed: it can be watched and broken off while it runs on threads of its own.
#[derive(Debug)]
pub(crate) struct Hashing {
    stop: Arc<AtomicBool>,
    began: Instant,
    /// Bytes to do, and done.
    total: u64,
    done: AtomicU64,
    /// Pieces that are hashed. The lock is held for a bit at a time, by the threads that hash and by whoever wants a picture.
    hashed: Mutex<Bitfield>,
}

/// How the hashing ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum HashedTree {
    /// All pieces.
    Whole(DraftHashes),
    /// It was broken off.
    BrokenOff,
}

impl Hashing {
    /// Of what this draft is about; it is broken off once `stop` is set.
    pub(crate) fn new(now: Instant, draft: &Draft, stop: Arc<AtomicBool>) -> Hashing {
        Hashing {
            stop,
            began: now,
            total: draft.total(),
            done: AtomicU64::new(0),
            hashed: Mutex::new(Bitfield::new(draft.layout().num_pieces())),
        }
    }

    /// Bytes done, bytes to do, bytes a second.
    pub(crate) fn progress(&self, now: Instant) -> (u64, u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        let seconds = now.saturating_duration_since(self.began).as_secs_f64().max(0.001);
        (done, self.total, (done as f64 / seconds) as u64)
    }

    /// The pieces that are hashed.
    pub(crate) fn hashed(&self) -> Bitfield {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads and hashes all files of `tree`, of which `draft` was made, on so many threads (0: one for each core); blocks.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or is shorter than it was when the tree was walked. What else has changed meanwhile another walk shows.
    pub(crate) fn run(
        &self,
        tree: &SourceTree,
        draft: &Draft,
        threads: usize,
    ) -> Result<HashedTree, Obstacles> {
        let pieces = draft.layout().num_pieces();
        let threads = threads_for(threads, pieces);
        let of = |wanted: bool| if wanted { pieces as usize } else { 0 };
        let shared = HashingShared {
            hashing: self,
            tree,
            draft,
            threads,
            group: group_for(pieces, threads),
            next_group: AtomicU32::new(0),
            failed: AtomicBool::new(false),
            obstacles: Mutex::default(),
            hashes: Mutex::new(DraftHashes {
                v1: vec![Sha1([0; 20]); of(draft.format().has_v1())],
                v2: vec![Sha256([0; 32]); of(draft.format().has_v2())],
            }),
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                // Where no thread can be had, the others do its work.
                let _ = std::thread::Builder::new().spawn_scoped(scope, || shared.work());
            }
            shared.work();
        });
        let obstacles = shared.obstacles.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !obstacles.is_empty() {
            return Err(obstacles);
        }
        match self.stop.load(Ordering::Relaxed) {
            true => Ok(HashedTree::BrokenOff),
            false => {
                Ok(HashedTree::Whole(shared.hashes.into_inner().unwrap_or_else(PoisonError::into_inner)))
            }
        }
    }
}

/// What all threads share.
struct HashingShared<'a> {
    hashing: &'a Hashing,
    tree: &'a SourceTree,
    draft: &'a Draft,
    threads: usize,
    /// Pieces in a group.
    group: u32,
    next_group: AtomicU32,
    failed: AtomicBool,
    obstacles: Mutex<Obstacles>,
    hashes: Mutex<DraftHashes>,
}

/// A piece that is being hashed, and the place for its bytes.
struct HashingLane<'b> {
    piece: PieceIndex,
    buffer: &'b mut [u8],
    /// Bytes of this step, with those of pads; and without.
    length: usize,
    data: usize,
    /// Of its blocks so far.
    leaves: Vec<Sha256>,
}

/// A file could not be read as it was; who found it has noted that.
struct Unread;

impl HashingShared<'_> {
    fn work(&self) {
        let piece_length = self.draft.layout().piece_length() as usize;
        let chunk = whole_blocks(MAX_CHUNK.min(MAX_BUFFERS / LANES / self.threads)).min(piece_length);
        let mut buffer = Vec::new();
        let mut reader = SourceReader::new(self);
        let pieces = self.draft.layout().num_pieces();
        loop {
            let group = self.next_group.fetch_add(1, Ordering::Relaxed);
            if group >= pieces.div_ceil(self.group) || !self.goes_on() {
                return;
            }
            let first = group * self.group;
            let pieces: Vec<PieceIndex> = (first..pieces.min(first + self.group)).map(PieceIndex).collect();
            // Grows once, to what the largest group needs. Made anew, it costs nothing until it is read into.
            let needed = (chunk + STAGGER) * pieces.len();
            if buffer.len() < needed {
                buffer = vec![0; needed];
            }
            if self.hash_group(&pieces, &mut buffer, chunk, &mut reader).is_err() {
                self.failed.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    fn goes_on(&self) -> bool {
        !self.failed.load(Ordering::Relaxed) && !self.hashing.stop.load(Ordering::Relaxed)
    }

    /// Hashes the pieces of a group side by side if their data are in memory already. If they have to come from the disk, as
    /// many as fit whole: the hash is then fast enough, and the disk is read in one stream.
    fn hash_group(
        &self,
        pieces: &[PieceIndex],
        buffer: &mut [u8],
        chunk: usize,
        reader: &mut SourceReader<'_>,
    ) -> Result<(), Unread> {
        let piece_length = self.draft.layout().piece_length() as usize;
        let side_by_side = match pieces.last() {
            Some(&last) if chunk < piece_length => reader.is_cached(last)?,
            _ => true,
        };
        let (width, chunk) = if side_by_side {
            (pieces.len(), chunk)
        } else {
            let width = (buffer.len() / piece_length).clamp(1, pieces.len());
            (width, whole_blocks(buffer.len() / width - STAGGER).min(piece_length))
        };
        for pieces in pieces.chunks(width) {
            let lanes = pieces.iter().zip(buffer.chunks_mut(chunk + STAGGER));
            let lane =
                |(&piece, buffer)| HashingLane { piece, buffer, length: 0, data: 0, leaves: Vec::new() };
            let mut lanes: Vec<HashingLane<'_>> = lanes.map(lane).collect();
            if !self.hash_lanes(&mut lanes, chunk, reader)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hashes these pieces, `chunk` bytes of each at a time; false if it was broken off.
    fn hash_lanes(
        &self,
        lanes: &mut [HashingLane<'_>],
        chunk: usize,
        reader: &mut SourceReader<'_>,
    ) -> Result<bool, Unread> {
        let (layout, format) = (self.draft.layout(), self.draft.format());
        let mut sha1 = MultiSha1::new(if format.has_v1() { lanes.len() } else { 0 });
        let size_of = |piece| match format.has_v1() {
            true => layout.piece_size(piece),
            false => self.draft.data_in(piece),
        };
        let longest = lanes.iter().map(|lane| size_of(lane.piece)).max().unwrap_or(0) as usize;
        // One version alone goes through all of it at once.
        let step = match format.has_v1() && format.has_v2() {
            true => whole_blocks(BOTH / lanes.len()).min(chunk),
            false => chunk,
        };
        for begin in (0..longest).step_by(chunk) {
            if !self.goes_on() {
                return Ok(false);
            }
            for lane in &mut *lanes {
                lane.length = (size_of(lane.piece) as usize).saturating_sub(begin).min(chunk);
                let offset = layout.piece_offset(lane.piece) + begin as u64;
                lane.data = reader.read(offset, &mut lane.buffer[..lane.length])?;
                self.hashing.done.fetch_add(lane.data as u64, Ordering::Relaxed);
            }
            for at in (0..chunk).step_by(step) {
                if format.has_v1() {
                    let part = |lane: &HashingLane<'_>| lane.length.min(at)..lane.length.min(at + step);
                    let parts: Vec<&[u8]> = lanes.iter().map(|lane| &lane.buffer[part(lane)]).collect();
                    sha1.update(&parts);
                }
                if format.has_v2() {
                    hash_blocks(lanes, at, at + step);
                }
            }
        }
        self.keep(lanes, sha1.finish());
        Ok(true)
    }

    fn keep(&self, lanes: &[HashingLane<'_>], sha1: Vec<Sha1>) {
        let root = |lane: &HashingLane<'_>| root_at(&lane.leaves, 0, self.draft.root_height(lane.piece));
        let roots: Vec<Sha256> = match self.draft.format().has_v2() {
            true => lanes.iter().map(root).collect(),
            false => Vec::new(),
        };
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        for (lane, hash) in lanes.iter().zip(sha1) {
            hashes.v1[lane.piece.0 as usize] = hash;
        }
        for (lane, root) in lanes.iter().zip(roots) {
            hashes.v2[lane.piece.0 as usize] = root;
        }
        drop(hashes);
        let mut hashed = self.hashing.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().for_each(|lane| {
            hashed.insert(lane.piece);
        });
    }
}

/// Hashes the blocks that lie in these bytes of each lane, side by side across the lanes: they lie at different places of a page.
fn hash_blocks(lanes: &mut [HashingLane<'_>], from: usize, to: usize) {
    let mut blocks: Vec<&[u8]> = Vec::new();
    let mut of_lane = Vec::new();
    for at in (from..to).step_by(MERKLE_BLOCK) {
        for (number, lane) in lanes.iter().enumerate().filter(|(_, lane)| lane.data > at) {
            blocks.push(&lane.buffer[at..lane.data.min(at + MERKLE_BLOCK)]);
            of_lane.push(number);
        }
    }
    for (number, leaf) in of_lane.into_iter().zip(hash_each(blocks.into_iter())) {
        lanes[number].leaves.push(leaf);
    }
}

/// So many bytes at the most, in blocks of the merkle trees.
fn whole_blocks(bytes: usize) -> usize {
    (bytes / MERKLE_BLOCK * MERKLE_BLOCK).max(MERKLE_BLOCK)
}

/// One thread's view of the files.
struct SourceReader<'a> {
    shared: &'a HashingShared<'a>,
    /// The files used last, the newest at the front.
    open: VecDeque<(usize, File)>,
    capacity: usize,
}

impl<'a> SourceReader<'a> {
    fn new(shared: &'a HashingShared<'a>) -> SourceReader<'a> {
        let together = allowed_files(8).min(MAX_OPEN_FILES);
        let capacity = (together / shared.threads).clamp(1, LANES);
        SourceReader { shared, open: VecDeque::new(), capacity }
    }

    /// Fills `buffer` from the stream, pads by zeros; returns how many bytes are data, all of which come before any pad behind which
    /// nothing else comes.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, Unread> {
        let draft = self.shared.draft;
        let (mut rest, mut data) = (buffer, 0);
        for span in draft.layout().spans(offset, rest.len() as u64) {
            let (place, later) = rest.split_at_mut(span.length as usize);
            match draft.member(span.file) {
                Some(file) => {
                    self.read_span(file, span, place)?;
                    data += place.len();
                }
                None => place.fill(0),
            }
            rest = later;
        }
        Ok(data)
    }

    fn read_span(&mut self, file: usize, span: Span, place: &mut [u8]) -> Result<(), Unread> {
        let read = read_full(self.file(file)?, &mut [IoSliceMut::new(place)], span.offset);
        match read {
            Ok(count) if count == span.length => Ok(()),
            Ok(_) => Err(self.fails(file, ObstacleKind::Changed(Change::Changed))),
            Err(error) => Err(self.fails(file, ObstacleKind::Unreadable(error))),
        }
    }

    fn file(&mut self, file: usize) -> Result<&File, Unread> {
        match self.open.iter().position(|(other, _)| *other == file) {
            Some(0) => {}
            Some(place) => {
                let entry = self.open.remove(place).expect("the place is inside");
                self.open.push_front(entry);
            }
            None => {
                self.open.truncate(self.capacity - 1);
                let opened = match self.open(file) {
                    Err(error) if is_out_of_handles(&error) => {
                        self.open.clear();
                        self.open(file)
                    }
                    opened => opened,
                };
                let opened = opened.map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => self.fails(file, ObstacleKind::Changed(Change::Gone)),
                    _ => self.fails(file, ObstacleKind::Unreadable(error)),
                })?;
                self.open.push_front((file, opened));
            }
        }
        Ok(&self.open[0].1)
    }

    /// Never waits, should a pipe be in its place.
    fn open(&self, file: usize) -> io::Result<File> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let path = self.shared.tree.path_of(&self.shared.draft.files()[file]);
        OpenOptions::new().read(true).custom_flags(nonblocking).open(path)
    }

    /// Whether the end of the piece's data is in memory already, as far as the system tells. (The end: the beginning may have
    /// been read ahead.)
    fn is_cached(&mut self, piece: PieceIndex) -> Result<bool, Unread> {
        let draft = self.shared.draft;
        let of_file = |span: &Span| Some((draft.member(span.file)?, span.offset + span.length - 1));
        let last = draft.layout().spans_of_piece(piece).filter_map(|span| of_file(&span)).last();
        let Some((file, at)) = last else { return Ok(true) };
        Ok(!must_wait(self.file(file)?, at))
    }

    fn fails(&self, file: usize, kind: ObstacleKind) -> Unread {
        let path = self.shared.tree.path_of(&self.shared.draft.files()[file]);
        self.shared.obstacles.lock().unwrap_or_else(PoisonError::into_inner).add(path, kind);
        Unread
    }
}

fn is_out_of_handles(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}
