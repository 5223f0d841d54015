//! The threads that hash, write and read: the session gives them jobs and gets told of the results.
//!
//! Each device has threads of its own ([`lanes`]). One hashes and writes. It drains what waits, up to a batch that fills the hash's lanes, so that
//! a busy download is hashed many pieces at a time and a slow one without delay. Another brings what is
//! written to the disk while more comes, so that little is left to wait for at the end. Others read for the
//! peers that we serve. Knows pieces and files, never peers' wishes or messages.

mod lanes;

use std::io::{IoSlice, IoSliceMut};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::blocks::{BlockData, Run};
use crate::hash::merkle::hash_each;
use crate::hash::{self, LANES, Sha1, Sha256, sha1, sha1_many};
use crate::ids::{DiskLane, PeerKey, TorrentId};
use crate::layout::{Block, PieceIndex};
use crate::metainfo::{Metainfo, PieceHash};
use crate::storage::{Storage, StorageError};

pub(crate) use lanes::{Disk, MAX_LANES};

/// Pieces that follow one another more closely than this wait for more, and never longer: four side by side
/// are hashed in less than twice the time of one. Where they come more slowly none waits.
const LINGER: Duration = Duration::from_millis(8);

/// Bytes that are not kept waiting for more.
const ENOUGH: u64 = 8 << 20;

/// Pieces that are hashed about as fast as [`LANES`] of them: more of large ones only delay the first.
const MANY: usize = 8;

/// Pieces shorter than this that follow one another are written together: it is the size of a write of [`Storage::write_at`].
const SHORT_PIECE: u32 = 64 << 10;

/// Bytes of small pieces whose results are told together: each by itself would wake up the loop.
const TOLD_TOGETHER: u64 = 256 << 10;

/// A torrent, as the threads need it.
#[derive(Clone, Debug)]
pub(crate) struct OnDisk {
    /// The torrent in this process.
    pub torrent: TorrentId,
    /// The hashes that its pieces must have.
    pub metainfo: Arc<Metainfo>,
    /// The files that hold its bytes.
    pub storage: Arc<Storage>,
    /// The threads that see to it, always the same, for their order is to hold.
    pub lane: DiskLane,
}

/// A piece to hash and write.
#[derive(Debug)]
pub(crate) struct Verify {
    /// The torrent that the piece belongs to.
    pub torrent: OnDisk,
    /// The piece.
    pub piece: PieceIndex,
    /// The data of all its blocks, in order.
    pub blocks: Vec<BlockData>,
    /// Tell the digests of the blocks even if it passes.
    pub digests: bool,
}

/// Work for the thread that hashes and writes, in order.
pub(crate) enum WriteJob {
    /// Hash and write a piece.
    Verify(Verify),
    /// No piece follows: those before it are not to wait for more.
    Hurry,
    /// Anything that must come after the writes before it.
    Then(Work),
}

/// Work that may take long: syncing, resume data.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// Blocks to read.
#[derive(Debug)]
pub(crate) struct Read {
    /// The torrent that the blocks belong to.
    pub torrent: OnDisk,
    /// The connection that they are for.
    pub peer: PeerKey,
    /// The blocks, and the buffer that they are read into.
    pub run: Run,
}

/// What the threads that read have to do.
enum ReadJob {
    Blocks(Read),
    Then(Work),
}

/// The result of a job.
#[derive(Debug)]
pub(crate) enum Done {
    /// The piece matches its hash and is written.
    Passed { torrent: TorrentId, piece: PieceIndex, digests: Vec<Sha1>, buffers: Vec<BlockData> },
    /// The piece does not match its hash; nothing was written. In version 2 with the hashes of its blocks.
    Failed {
        torrent: TorrentId,
        piece: PieceIndex,
        digests: Vec<Sha1>,
        hashes: Vec<Sha256>,
        buffers: Vec<BlockData>,
    },
    /// The piece matches its hash and could not be written.
    NotWritten { torrent: TorrentId, piece: PieceIndex, error: StorageError, buffers: Vec<BlockData> },
    /// Ready to be sent.
    Read { torrent: TorrentId, peer: PeerKey, run: Run },
    /// The blocks could not be read.
    NotRead { torrent: TorrentId, peer: PeerKey, error: StorageError },
    /// A thread has ended in the middle of its work, by an error of this program: nothing more is to be had of it.
    Broken {
        /// What the thread was for.
        thread: &'static str,
    },
}

impl Done {
    /// The torrent that the job was for, if it was for one.
    pub(crate) fn torrent(&self) -> Option<TorrentId> {
        match *self {
            Done::Passed { torrent, .. }
            | Done::Failed { torrent, .. }
            | Done::NotWritten { torrent, .. }
            | Done::Read { torrent, .. }
            | Done::NotRead { torrent, .. } => Some(torrent),
            Done::Broken { .. } => None,
        }
    }
}

/// A way to queue work beside the writes, for whoever is on a thread of the disk already.
#[derive(Clone, Debug)]
pub(crate) struct SyncQueue(SyncSender<Work>);

impl SyncQueue {
    /// Queues work; where too much waits, or nobody is there to do it, does it at once.
    pub(crate) fn push(&self, work: Work) {
        if let Err(TrySendError::Full(work) | TrySendError::Disconnected(work)) = self.0.try_send(work) {
            work();
        }
    }
}

fn write_loop(jobs: &Receiver<WriteJob>, done: &UnboundedSender<Done>) {
    let mut batch = Batch::default();
    while let Ok(first) = jobs.recv() {
        batch.begin(Instant::now());
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                WriteJob::Verify(piece) => batch.add(Instant::now(), piece),
                WriteJob::Hurry => break,
                WriteJob::Then(work) => {
                    hash_and_write(&mut batch.pieces, done);
                    work();
                    break;
                }
            }
            if !batch.is_full() {
                let later = || jobs.recv_timeout(batch.patience(Instant::now())?).ok();
                next = jobs.try_recv().ok().or_else(later);
            }
        }
        hash_and_write(&mut batch.pieces, done);
    }
}

/// Pieces that are hashed together.
#[derive(Default)]
struct Batch {
    pieces: Vec<Verify>,
    bytes: u64,
    /// When the last piece came, of this batch or of one before.
    last: Option<Instant>,
    /// If pieces follow close upon each other: until when this batch waits for more.
    until: Option<Instant>,
}

impl Batch {
    fn begin(&mut self, now: Instant) {
        let follows = self.last.is_some_and(|last| now.saturating_duration_since(last) < LINGER);
        self.until = follows.then(|| now + LINGER);
        self.bytes = 0;
    }

    fn add(&mut self, now: Instant, piece: Verify) {
        self.last = Some(now);
        self.bytes += piece.blocks.iter().map(|block| block.as_slice().len() as u64).sum::<u64>();
        self.pieces.push(piece);
    }

    fn is_full(&self) -> bool {
        self.pieces.len() >= LANES || self.pieces.len() >= MANY && self.bytes >= ENOUGH
    }

    /// How long to wait for one more piece; `None` if what is here is to be hashed.
    fn patience(&self, now: Instant) -> Option<Duration> {
        self.until.filter(|_| self.bytes < ENOUGH)?.checked_duration_since(now)
    }
}

fn hash_and_write(batch: &mut Vec<Verify>, done: &UnboundedSender<Done>) {
    // Neighbours stand side by side, to be written together.
    batch.sort_by_key(|job| (job.torrent.torrent, job.piece));
    let right = right_ones(batch);
    let checked = batch.drain(..).zip(right).map(|(job, found)| Checked { job, found });
    let mut checked = checked.peekable();
    let (mut untold, mut bytes) = (Vec::new(), 0);
    while let Some(first) = checked.next() {
        let mut row = vec![first];
        while let Some(next) = checked.next_if(|next| row.last().is_some_and(|last| last.is_before(next))) {
            row.push(next);
        }
        bytes += row.iter().map(Checked::bytes).sum::<u64>();
        write_if_right(row, &mut untold);
        if bytes >= TOLD_TOGETHER {
            bytes = 0;
            tell(&mut untold, done);
        }
    }
    tell(&mut untold, done);
}

/// Of a piece that has the hash that it must have, nothing; of one of version 2 that has not, the hashes of its blocks.
type Found = Result<(), Vec<Sha256>>;

/// A piece that has been hashed.
struct Checked {
    job: Verify,
    found: Found,
}

impl Checked {
    fn bytes(&self) -> u64 {
        u64::from(self.job.torrent.metainfo.layout.piece_size(self.job.piece))
    }

    /// Whether `next` is the piece behind it, and both are to be written in one go.
    fn is_before(&self, next: &Checked) -> bool {
        let (this, that) = (&self.job, &next.job);
        let is_short = this.torrent.metainfo.layout.piece_length() < SHORT_PIECE;
        let is_same_place = Arc::ptr_eq(&this.torrent.storage, &that.torrent.storage);
        let layout = &this.torrent.metainfo.layout;
        let end = layout.piece_offset(this.piece) + u64::from(layout.piece_size(this.piece));
        let follows = this.piece.0 + 1 == that.piece.0 && end == layout.piece_offset(that.piece);
        self.found.is_ok() && next.found.is_ok() && is_short && is_same_place && follows
    }

    /// What is told of it: it is written, or not right.
    fn done(self) -> Done {
        let Checked { job: Verify { torrent, piece, blocks: buffers, digests }, found } = self;
        let torrent = torrent.torrent;
        let digests = match digests || found.is_err() {
            true => buffers.iter().map(|block| sha1(block.as_slice())).collect(),
            false => Vec::new(),
        };
        match found {
            Ok(()) => Done::Passed { torrent, piece, digests, buffers },
            Err(hashes) => Done::Failed { torrent, piece, digests, hashes, buffers },
        }
    }

    fn not_written(self, error: StorageError) -> Done {
        let Verify { torrent, piece, blocks: buffers, .. } = self.job;
        Done::NotWritten { torrent: torrent.torrent, piece, error, buffers }
    }
}

/// Which of the pieces have the hash that they must have: those of version 1 are hashed side by side, and the
/// blocks of those of version 2.
fn right_ones(batch: &[Verify]) -> Vec<Found> {
    let mut right = vec![Err(Vec::new()); batch.len()];
    let (mut whole, mut in_blocks) = (Vec::new(), Vec::new());
    for (index, job) in batch.iter().enumerate() {
        match job.torrent.metainfo.piece_hash(job.piece) {
            Some(PieceHash::V1 { hash, zeros }) => {
                let mut segments: Vec<&[u8]> = job.blocks.iter().map(BlockData::as_slice).collect();
                hash::zeros(zeros as usize).for_each(|zeros| segments.push(zeros));
                whole.push((index, hash, segments));
            }
            Some(hash @ PieceHash::V2 { .. }) => in_blocks.push((index, hash)),
            None => {}
        }
    }
    let messages: Vec<&[&[u8]]> = whole.iter().map(|(_, _, segments)| segments.as_slice()).collect();
    for ((index, expected, _), found) in whole.iter().zip(sha1_many(&messages)) {
        if *expected == found {
            right[*index] = Ok(());
        }
    }
    let blocks = in_blocks.iter().flat_map(|(index, _)| &batch[*index].blocks);
    let mut leaves = &hash_each(blocks.map(BlockData::as_slice))[..];
    for (index, hash) in in_blocks {
        let (of_piece, rest) = leaves.split_at(batch[index].blocks.len());
        right[index] = if hash.is_over(of_piece) { Ok(()) } else { Err(of_piece.to_vec()) };
        leaves = rest;
    }
    right
}

fn tell(results: &mut Vec<Done>, done: &UnboundedSender<Done>) {
    for result in results.drain(..) {
        // Nobody listens any more only once the session has ended.
        let _ = done.send(result);
    }
}

/// Writes a piece if it is right, or several that are and follow one another.
fn write_if_right(mut row: Vec<Checked>, results: &mut Vec<Done>) {
    let is_right = row.iter().all(|piece| piece.found.is_ok());
    match if is_right { write(&row) } else { Ok(()) } {
        Ok(()) => results.extend(row.into_iter().map(Checked::done)),
        // Each by itself: some may be written all the same.
        Err(_) if row.len() > 1 => row.into_iter().for_each(|piece| write_if_right(vec![piece], results)),
        Err(error) => results.extend(row.pop().map(|piece| piece.not_written(error))),
    }
}

/// Writes pieces that follow one another.
fn write(row: &[Checked]) -> Result<(), StorageError> {
    let Some(OnDisk { metainfo, storage, .. }) = row.first().map(|first| &first.job.torrent) else {
        return Ok(());
    };
    let blocks = row.iter().flat_map(|piece| &piece.job.blocks);
    let slices: Vec<IoSlice<'_>> = blocks.map(|block| IoSlice::new(block.as_slice())).collect();
    storage.write_at(metainfo.layout.piece_offset(row[0].job.piece), &slices)
}

fn read_loop(jobs: &Mutex<Receiver<ReadJob>>, done: &UnboundedSender<Done>) {
    loop {
        let job = match jobs.lock() {
            Ok(jobs) => jobs.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
        match job {
            ReadJob::Blocks(job) => drop(done.send(read(job))),
            ReadJob::Then(work) => work(),
        }
    }
}

/// Reads blocks to their places. Those that follow one another in the torrent are read in one call.
fn read(job: Read) -> Done {
    let Read { torrent, peer, mut run } = job;
    let layout = &torrent.metainfo.layout;
    let mut rest = &mut run.bytes[..];
    let mut behind = 0;
    let mut slices: Vec<(Block, IoSliceMut<'_>)> = Vec::with_capacity(run.places.len());
    for &(place, block) in &run.places {
        let (_, from_place) = rest.split_at_mut(place - behind);
        let (data, from_next) = from_place.split_at_mut(block.length as usize);
        slices.push((block, IoSliceMut::new(data)));
        rest = from_next;
        behind = place + block.length as usize;
    }
    let mut slices = &mut slices[..];
    while let Some(start) = slices.first().map(|(block, _)| layout.block_offset(*block)) {
        let mut end = start;
        let follows = |(block, _): &&(Block, IoSliceMut<'_>)| {
            let follows = layout.block_offset(*block) == end;
            end += u64::from(block.length);
            follows
        };
        let count = slices.iter().take_while(follows).count();
        let (now, later) = slices.split_at_mut(count);
        let mut now: Vec<IoSliceMut<'_>> = now.iter_mut().map(|(_, data)| IoSliceMut::new(data)).collect();
        if let Err(error) = torrent.storage.read_at(start, &mut now) {
            return Done::NotRead { torrent: torrent.torrent, peer, error };
        }
        slices = later;
    }
    Done::Read { torrent: torrent.torrent, peer, run }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(2);

    fn piece(blocks: usize) -> Verify {
        let metainfo = crate::storage::tests::torrent(16, &[("file", 100)], &[0; 100]);
        let storage = Storage::new(&metainfo, std::path::Path::new("."), Default::default());
        let torrent = OnDisk {
            torrent: crate::ids::Counter::default().torrent(),
            metainfo: Arc::new(metainfo),
            storage: Arc::new(storage),
            lane: DiskLane::default(),
        };
        let blocks = (0..blocks).map(|_| BlockData::new(crate::layout::BLOCK_LENGTH)).collect();
        Verify { torrent, piece: PieceIndex(0), blocks, digests: false }
    }

    #[test]
    fn a_piece_waits_for_more_only_close_behind_another_and_not_for_long() {
        let start = Instant::now();
        let mut batch = Batch::default();
        batch.begin(start);
        batch.add(start, piece(1));
        assert_eq!(batch.patience(start), None, "the first waits for none");
        batch.pieces.clear();

        let next = start + STEP;
        batch.begin(next);
        batch.add(next, piece(1));
        assert_eq!(batch.patience(next + STEP), Some(LINGER - STEP));
        assert_eq!(batch.patience(next + LINGER + STEP), None);
        batch.pieces.clear();

        let late = next + LINGER;
        batch.begin(late);
        batch.add(late, piece(1));
        assert_eq!(batch.patience(late), None, "pieces come too slowly");
    }

    #[test]
    fn a_batch_is_full_with_many_large_pieces_or_as_many_as_there_are_lanes() {
        let now = Instant::now();
        let mut batch = Batch::default();
        batch.begin(now);
        (0..MANY - 1).for_each(|_| batch.add(now, piece(128)));
        assert!(!batch.is_full());
        batch.add(now, piece(128));
        assert!(batch.is_full());

        batch.pieces.clear();
        batch.begin(now);
        (0..LANES - 1).for_each(|_| batch.add(now, piece(1)));
        assert!(!batch.is_full());
        batch.add(now, piece(1));
        assert!(batch.is_full());
    }

    /// A torrent of pieces of 16 bytes in two files of 64, below `dir`, and its pieces in any order.
    fn short_pieces(dir: &std::path::Path) -> (OnDisk, Vec<Verify>) {
        let data = crate::storage::tests::stream(128);
        let metainfo = crate::storage::tests::torrent(16, &[("t/a", 64), ("t/b", 64)], &data);
        let storage = Storage::new(&metainfo, dir, Default::default());
        storage.set_trace(true);
        let torrent = OnDisk {
            torrent: crate::ids::Counter::default().torrent(),
            metainfo: Arc::new(metainfo),
            storage: Arc::new(storage),
            lane: DiskLane::default(),
        };
        let piece = |index: u32| {
            let mut block = BlockData::new(16);
            block.as_mut_slice().copy_from_slice(&data[16 * index as usize..][..16]);
            Verify { torrent: torrent.clone(), piece: PieceIndex(index), blocks: vec![block], digests: false }
        };
        let pieces = [5, 2, 0, 7, 1, 3, 6].map(piece);
        (torrent.clone(), pieces.into())
    }

    /// What became of each piece: written, wrong, or neither.
    fn outcomes(mut batch: Vec<Verify>) -> Vec<(u32, char)> {
        let (done, mut received) = tokio::sync::mpsc::unbounded_channel();
        hash_and_write(&mut batch, &done);
        let mut outcomes = Vec::new();
        while let Ok(result) = received.try_recv() {
            outcomes.push(match result {
                Done::Passed { piece, .. } => (piece.0, 'p'),
                Done::Failed { piece, .. } => (piece.0, 'f'),
                Done::NotWritten { piece, .. } => (piece.0, 'n'),
                other => panic!("{other:?}"),
            });
        }
        outcomes
    }

    #[test]
    fn short_pieces_that_follow_one_another_are_written_together_and_told_each() {
        use crate::layout::FileIndex;
        use crate::storage::Note;
        let dir = tempfile::tempdir().unwrap();
        let (torrent, mut pieces) = short_pieces(dir.path());
        // Of 0 to 3 and 5 to 7, number 2 is wrong.
        pieces[1].blocks[0].as_mut_slice()[0] ^= 1;
        let outcome = outcomes(pieces);
        assert_eq!(outcome, [(0, 'p'), (1, 'p'), (2, 'f'), (3, 'p'), (5, 'p'), (6, 'p'), (7, 'p')]);
        let writes: Vec<(FileIndex, u64)> = torrent
            .storage
            .take_notes()
            .into_iter()
            .filter_map(|note| match note {
                Note::Written { file, length } => Some((file, length)),
                _ => None,
            })
            .collect();
        assert_eq!(writes, [(FileIndex(0), 32), (FileIndex(0), 16), (FileIndex(1), 48)]);
        let written = std::fs::read(dir.path().join("t/b")).unwrap();
        assert_eq!(written[16..], crate::storage::tests::stream(128)[80..]);
    }

    #[test]
    fn of_short_pieces_only_those_that_cannot_be_written_are_told_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("t/b")).unwrap();
        let (_, pieces) = short_pieces(dir.path());
        let outcome = outcomes(pieces);
        assert_eq!(outcome, [(0, 'p'), (1, 'p'), (2, 'p'), (3, 'p'), (5, 'n'), (6, 'n'), (7, 'n')]);
    }

    #[test]
    fn many_bytes_wait_for_none() {
        let start = Instant::now();
        let mut batch = Batch::default();
        batch.add(start, piece(1));
        batch.begin(start);
        batch.add(start, piece(1));
        assert!(batch.patience(start).is_some());
        batch.add(start, piece(512));
        assert_eq!(batch.patience(start), None);
    }
}
