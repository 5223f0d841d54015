//! The hash check: reads what is on the disk and says of each piece whether it is there and right.
//!
//! Owns the threads that read and hash, and the verdicts. Writes nothing, prints nothing, and
//! knows no peers.
//!
//! Threads take groups of up to [`LANES`] consecutive pieces from a counter and read them in file order
//! into buffers that are used again, so the disk sees few long streams and memory is bounded
//! whatever the piece length; large pieces are read and hashed chunk by chunk, side by side. What is not
//! in memory yet is read past the page cache (`direct`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::bitfield::Bitfield;
use crate::hash::LANES;
use crate::layout::{FileIndex, PieceIndex};
use crate::metainfo::Metainfo;
use crate::storage::{Storage, StorageErrorKind};

mod direct;
mod hashing;
mod reader;
mod report;
mod run;
mod unknown;

use direct::{Run, RunBuffers, RunFault};
use hashing::{LaneHashes, PieceDigest, Zeros};
pub(crate) use reader::must_wait;
use reader::{Got, PieceReader};
pub use report::FileReport;
pub use run::HashCheck;

/// Bytes in the buffers of all threads together, of what is in memory already: leaves room for the rest of a process that is to
/// stay under 24 MiB.
pub(crate) const MAX_BUFFERS: usize = 8 << 20;
/// The longest run of one piece that is read at once when many are read side by side. From 128 KiB
/// to 1 MiB the processor time is the same.
pub(crate) const MAX_CHUNK: usize = 256 << 10;
/// Bytes between the lanes' places: the caches keep few lines that lie at the same offset of a page, and
/// all lanes go forward together. On Zen 4 a check takes a fifth less time for it.
pub(crate) const STAGGER: usize = 192;
/// More threads would have too little buffer each, and this many outrun any disk.
const MAX_THREADS: usize = 8;

/// The verdict on a piece.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PieceResult {
    /// The piece is all there, and its hash is right.
    Ok,
    /// The piece is all there, and its hash is wrong.
    Corrupt,
    /// Not all there: a file is missing or short, or has holes, or nothing but zeros, where nothing was written yet.
    Missing,
    /// The system would not let us read it.
    Unreadable,
}

/// Which pieces a check reads, and how.
#[derive(Clone, Copy)]
pub struct CheckOptions<'a> {
    /// The pieces to check.
    pub pieces: &'a Bitfield,
    /// Threads; 0: one for each core. At most 8 are used.
    pub threads: usize,
    /// Asked often; once it says false the check ends.
    pub keep_going: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckOptions").field("pieces", self.pieces).field("threads", &self.threads).finish()
    }
}

/// What a check found. A piece is in at most one of the sets; one that is in none was not checked.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckOutcome {
    /// There and right.
    pub ok: Bitfield,
    /// There and wrong.
    pub corrupt: Bitfield,
    /// Pieces that are not all there.
    pub missing: Bitfield,
    /// Could not be read.
    pub unreadable: Bitfield,
    /// Whether all pieces that were asked for have a verdict.
    pub finished: bool,
    found: Vec<SeenFile>,
    faults: std::collections::BTreeMap<FileIndex, Fault>,
}

/// What is known of a file after the check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SeenFile {
    NotLookedAt,
    Missing,
    /// Length in bytes: the least that was seen.
    Size(u64),
}

/// Why a file could not be read.
#[derive(Clone, Copy, Debug)]
struct Fault {
    kind: StorageErrorKind,
    errno: Option<i32>,
}

/// What all threads of a check share.
struct CheckShared<'a> {
    storage: &'a Storage,
    metainfo: &'a Metainfo,
    options: CheckOptions<'a>,
    on_piece: &'a (dyn Fn(PieceIndex, PieceResult) + Sync),
    threads: usize,
    /// Pieces in a group.
    group: u32,
    /// The first piece that no thread has taken.
    next: Mutex<u32>,
    run_buffers: OnceLock<RunBuffers>,
    stopped: AtomicBool,
    results: Mutex<Results>,
    /// Per file: 0 not looked at, 1 missing, else its length plus 2.
    found: Vec<AtomicU64>,
    /// One entry for each file that cannot be read.
    faults: Mutex<std::collections::BTreeMap<FileIndex, Fault>>,
    zeros: Zeros,
}

struct Results {
    ok: Bitfield,
    corrupt: Bitfield,
    missing: Bitfield,
    unreadable: Bitfield,
}

/// Checks pieces against what is on the disk. `on_piece` is called once for each, from several
/// threads at once and in no order; it should return soon.
///
/// Never fails: what cannot be read is a verdict. Bytes of unwanted files are looked for in the
/// part file too.
pub fn check(
    storage: &Storage,
    metainfo: &Metainfo,
    options: CheckOptions<'_>,
    on_piece: &(dyn Fn(PieceIndex, PieceResult) + Sync),
) -> CheckOutcome {
    let empty = || Bitfield::new(metainfo.layout.num_pieces());
    let threads = threads_for(options.threads, options.pieces.count());
    let shared = CheckShared {
        storage,
        metainfo,
        options,
        on_piece,
        group: group_for(options.pieces.count(), threads),
        threads,
        next: Mutex::new(0),
        run_buffers: OnceLock::new(),
        stopped: AtomicBool::new(false),
        results: Mutex::new(Results { ok: empty(), corrupt: empty(), missing: empty(), unreadable: empty() }),
        found: metainfo.files.iter().map(|_| AtomicU64::new(0)).collect(),
        faults: Mutex::default(),
        zeros: Zeros::default(),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where no thread can be had, the others do its work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || shared.work());
        }
        shared.work();
    });
    shared.look_at_the_rest();
    shared.outcome()
}

/// The fewest pieces that are worth a thread: so many are hashed side by side at a good speed.
const MIN_GROUP: usize = 4;

/// On how many threads so many pieces are hashed; `asked` 0: one for each core.
pub(crate) fn threads_for(asked: usize, pieces: u32) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let asked = if asked == 0 { cores() } else { asked };
    asked.min(MAX_THREADS).min((pieces as usize).div_ceil(MIN_GROUP)).max(1)
}

/// How many of so many pieces a thread takes at a time. Few large ones are dealt out so that no thread is left without.
pub(crate) fn group_for(pieces: u32, threads: usize) -> u32 {
    let share = (pieces as usize).div_ceil(2 * threads);
    share.clamp(MIN_GROUP, LANES) as u32
}

/// A piece that is being hashed, and the place for its bytes.
struct CheckLane<'b> {
    piece: PieceIndex,
    buffer: &'b mut [u8],
    /// Bytes of this step.
    length: usize,
    verdict: Option<PieceResult>,
}

impl CheckShared<'_> {
    fn work(&self) {
        let piece_length = self.metainfo.layout.piece_length() as usize;
        let chunk =
            piece_length.min(hashing::step(MAX_CHUNK.min(MAX_BUFFERS / LANES / self.threads), self.metainfo));
        let mut buffer = Vec::new();
        let mut reader = PieceReader::new(self.storage, &self.found, &self.faults, self.threads);
        while !self.stopped.load(Ordering::Relaxed) {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(first) = self.first_asked(*next) else { return };
            let mut run = self.run_from(first, &mut reader);
            let pieces = run.as_ref().map_or(first.0..first.0.saturating_add(self.group), Run::pieces);
            *next = pieces.end;
            drop(next);
            let (mut left, mut goes_on) = (pieces, true);
            while goes_on && !left.is_empty() {
                let mut pieces = left.clone();
                if let Some(run) = &mut run {
                    run.set_pieces(left.clone());
                    match self.check_run(run, &mut reader) {
                        // Only the one behind those is to be read in another way.
                        Ok(done) => pieces = (left.start + done)..(left.start + done + 1).min(left.end),
                        Err(RunFault::Unread) => {}
                        Err(RunFault::Stopped) => {
                            goes_on = false;
                            break;
                        }
                    }
                }
                left.start = pieces.end;
                let asked = pieces.map(PieceIndex).filter(|&piece| self.options.pieces.contains(piece));
                let pieces: Vec<PieceIndex> = asked.collect();
                goes_on = pieces.chunks(self.group as usize).all(|pieces| {
                    // Grows once, to what the largest group needs. Made anew, it costs nothing until it is read into.
                    let needed = (chunk + STAGGER) * pieces.len();
                    if buffer.len() < needed {
                        buffer = vec![0; needed];
                    }
                    self.check_group(pieces, &mut buffer, chunk, &mut reader)
                });
            }
            if !goes_on {
                self.stopped.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The first piece from `from` on that is to be checked.
    fn first_asked(&self, from: u32) -> Option<PieceIndex> {
        let all = self.metainfo.layout.num_pieces();
        (from..all).map(PieceIndex).find(|&piece| self.options.pieces.contains(piece))
    }

    /// Checks the pieces of a group side by side if their data are in memory already. If they have
    /// to come from the disk, as many as fit whole: the hash is then fast enough, and the disk is
    /// read in one stream. False if the check was stopped before.
    fn check_group(
        &self,
        pieces: &[PieceIndex],
        buffer: &mut [u8],
        chunk: usize,
        reader: &mut PieceReader<'_>,
    ) -> bool {
        let layout = &self.metainfo.layout;
        let piece_length = layout.piece_length() as usize;
        let whole = chunk == piece_length;
        let (width, chunk) = if whole || pieces.last().is_none_or(|&last| reader.is_cached(layout, last)) {
            (pieces.len(), chunk)
        } else {
            let width = (buffer.len() / piece_length).clamp(1, pieces.len());
            (width, hashing::step(buffer.len() / width - STAGGER, self.metainfo).min(piece_length))
        };
        for pieces in pieces.chunks(width) {
            let lanes = pieces.iter().zip(buffer.chunks_mut(chunk + STAGGER));
            let lane = |(&piece, buffer)| CheckLane { piece, buffer, length: 0, verdict: None };
            let mut lanes: Vec<CheckLane<'_>> = lanes.map(lane).collect();
            if !self.check_lanes(&mut lanes, chunk, reader) {
                return false;
            }
            self.tell(&lanes.iter().filter_map(|lane| Some((lane.piece, lane.verdict?))).collect::<Vec<_>>());
        }
        true
    }

    /// Gives each lane its verdict; false if the check was stopped before.
    fn check_lanes(&self, lanes: &mut [CheckLane<'_>], chunk: usize, reader: &mut PieceReader<'_>) -> bool {
        let layout = &self.metainfo.layout;
        for lane in &mut *lanes {
            if reader.is_hole(layout, lane.piece) {
                lane.verdict = Some(self.verdict_on_zeros(lane.piece));
            }
        }
        let mut hashes = LaneHashes::new(lanes.len(), self.metainfo);
        let longest = lanes.iter().map(|lane| layout.piece_size(lane.piece)).max().unwrap_or(0);
        for begin in (0..longest as usize).step_by(chunk) {
            if !(self.options.keep_going)() {
                return false;
            }
            for lane in &mut *lanes {
                let left = (layout.piece_size(lane.piece) as usize).saturating_sub(begin);
                lane.length = if lane.verdict.is_some() { 0 } else { left.min(chunk) };
                let offset = layout.piece_offset(lane.piece) + begin as u64;
                match reader.read(layout, offset, &mut lane.buffer[..lane.length]) {
                    Got::All => {}
                    Got::Missing => lane.verdict = Some(PieceResult::Missing),
                    Got::Unreadable => lane.verdict = Some(PieceResult::Unreadable),
                }
                if lane.verdict.is_some() {
                    lane.length = 0;
                }
            }
            let chunks: Vec<&[u8]> = lanes.iter().map(|lane| &lane.buffer[..lane.length]).collect();
            hashes.update(&chunks);
        }
        let zeros: Vec<u32> = lanes.iter().map(|lane| layout.zeros_behind(lane.piece)).collect();
        for (lane, digest) in lanes.iter_mut().zip(hashes.finish(&zeros)) {
            lane.verdict.get_or_insert_with(|| self.verdict(lane.piece, &digest, reader));
        }
        true
    }

    /// What is wrong was never written if it is all zeros, whoever set the room aside, or has a hole.
    fn verdict(&self, piece: PieceIndex, digest: &PieceDigest, reader: &mut PieceReader<'_>) -> PieceResult {
        if digest.is_of(self.metainfo, piece) {
            PieceResult::Ok
        } else if *digest == self.zeros.digest(self.metainfo, piece)
            || reader.has_hole(&self.metainfo.layout, piece)
        {
            PieceResult::Missing
        } else {
            PieceResult::Corrupt
        }
    }

    /// A piece that lies in a hole reads as zeros: either that is what it is, or it was never written.
    fn verdict_on_zeros(&self, piece: PieceIndex) -> PieceResult {
        let is_right = self.zeros.digest(self.metainfo, piece).is_of(self.metainfo, piece);
        if is_right { PieceResult::Ok } else { PieceResult::Missing }
    }

    fn tell(&self, verdicts: &[(PieceIndex, PieceResult)]) {
        {
            let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
            for &(piece, verdict) in verdicts {
                match verdict {
                    PieceResult::Ok => results.ok.insert(piece),
                    PieceResult::Corrupt => results.corrupt.insert(piece),
                    PieceResult::Missing => results.missing.insert(piece),
                    PieceResult::Unreadable => results.unreadable.insert(piece),
                };
            }
        }
        for &(piece, verdict) in verdicts {
            (self.on_piece)(piece, verdict);
        }
    }

    /// Files without bytes, and files that no read came to because one before them in the piece was
    /// missing, are there or not all the same.
    fn look_at_the_rest(&self) {
        let reader = PieceReader::new(self.storage, &self.found, &self.faults, 1);
        let layout = &self.metainfo.layout;
        let unknown = layout.files().iter().enumerate().filter_map(|(index, extent)| {
            let file = FileIndex(index as u32);
            let asked = extent.length == 0 || self.options.pieces.count_in(layout.pieces_of_file(file)) > 0;
            let known = extent.pad || self.found[index].load(Ordering::Relaxed) != 0;
            (asked && !known).then_some(file)
        });
        self.storage.find_each(unknown, |file, found| {
            reader.look_at(file, found, self.metainfo.files[file.0 as usize].symlink.is_some());
        });
    }

    fn outcome(self) -> CheckOutcome {
        let results = self.results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let found = self.found.into_iter().map(|found| match found.into_inner() {
            0 => SeenFile::NotLookedAt,
            1 => SeenFile::Missing,
            size => SeenFile::Size(size - 2),
        });
        let checked =
            [&results.ok, &results.corrupt, &results.missing, &results.unreadable].map(Bitfield::count);
        CheckOutcome {
            finished: checked.iter().sum::<u32>() == self.options.pieces.count(),
            ok: results.ok,
            corrupt: results.corrupt,
            missing: results.missing,
            unreadable: results.unreadable,
            found: found.collect(),
            faults: self.faults.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod v2_tests;
