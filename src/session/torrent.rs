//! One torrent of a session: its swarm, its place on disk, the blocks that wait for their piece, and
//! when it is over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::options::{CachedPiece, Phase, Status, Tier, TorrentOptions, TrackerInfo};
use super::saving::Safety;
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::disk::OnDisk;
use crate::event::{State, Verdict};
use crate::ids::WireHash;
use crate::layout::{Block, Layout, PieceIndex};
use crate::storage::{StorageError, StorageErrorKind};
use crate::swarm::announce::TrackerStatus;
use crate::swarm::{Swarm, Totals};

use super::checking::Progress as CheckProgress;

/// For how long an ending torrent waits for its trackers and its data.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// What a torrent is at.
#[derive(Debug)]
pub enum Life {
    /// Reading what is on disk.
    Checking {
        /// Set to break it off.
        stop: Arc<AtomicBool>,
        /// How far it is.
        progress: Arc<CheckProgress>,
    },
    /// Transferring, or ready to.
    Running(Box<Swarm>),
}

/// Why and how a torrent ends.
#[derive(Clone, Debug)]
pub struct Ending {
    /// How it ends.
    pub verdict: Verdict,
    /// For people.
    pub reason: String,
    /// When it is over whatever is still under way.
    pub deadline: Instant,
    /// The last save is under way, or done.
    pub saving: bool,
    /// What is written has been synced and resume data saved.
    pub saved: bool,
}

/// A torrent.
#[derive(Debug)]
pub struct Torrent {
    /// Its hashes and files.
    pub on_disk: OnDisk,
    /// What it is to do.
    pub options: TorrentOptions,
    /// What it is at.
    pub life: Life,
    /// As asked for; entered once the check is done.
    pub state: State,
    /// Pieces that are wanted.
    pub wanted: Bitfield,
    /// What was there when the check ended, or what is known before it has.
    pub checked: Bitfield,
    /// Pieces that a check that was broken off did not come to.
    pub unchecked: Bitfield,
    /// Blocks that wait for the rest of their piece. The picker keeps these few.
    pub assembling: BTreeMap<PieceIndex, Vec<Option<BlockData>>>,
    /// Peers that the user has named while it was checked.
    pub named: Vec<SocketAddr>,
    /// Bytes of whole pieces that wait for the disk.
    pub unwritten: u64,
    /// When it was added.
    pub began: Instant,
    /// When everything wanted was there.
    pub completed: Option<Instant>,
    /// When something new was last verified, or the wait for it began.
    pub last_new: Instant,
    /// What stands in the way: how the torrent would end because of it, and for people.
    pub error: Option<(Verdict, String)>,
    /// While it ends.
    pub ending: Option<Ending>,
    /// Once it has ended.
    pub ended: Option<(Verdict, String)>,
    /// How safe its pieces are.
    pub safety: Safety,
    /// Which swarm this is, of those that it had one after another: answers to an earlier one are void.
    pub generation: u32,
    /// What an earlier swarm of this run had counted.
    pub counted: Option<Totals>,
}

impl Torrent {
    /// Whether peers of a swarm by this name are meant for it.
    pub fn is_called(&self, name: WireHash) -> bool {
        self.on_disk.metainfo.info_hash.wire_hashes().any(|ours| ours == name)
    }

    /// The swarm, once the check is done.
    pub fn swarm(&self) -> Option<&Swarm> {
        match &self.life {
            Life::Running(swarm) => Some(swarm),
            Life::Checking { .. } => None,
        }
    }

    /// The swarm, once the check is done.
    pub fn swarm_mut(&mut self) -> Option<&mut Swarm> {
        match &mut self.life {
            Life::Running(swarm) => Some(swarm),
            Life::Checking { .. } => None,
        }
    }

    /// Keeps a block until its piece is whole.
    pub fn keep(&mut self, block: Block, data: BlockData) {
        let layout = &self.on_disk.metainfo.layout;
        let Some(number) = layout.block_number(block) else { return };
        let count = layout.num_blocks(block.piece) as usize;
        let blocks = self.assembling.entry(block.piece).or_insert_with(|| {
            let mut blocks = Vec::new();
            blocks.resize_with(count, || None);
            blocks
        });
        blocks[number as usize] = Some(data);
    }

    /// The blocks of a whole piece.
    pub fn take_whole(&mut self, piece: PieceIndex) -> Vec<BlockData> {
        self.assembling.remove(&piece).unwrap_or_default().into_iter().flatten().collect()
    }

    /// Bytes that are wanted.
    pub fn wanted_bytes(&self) -> u64 {
        self.wanted.bytes(&self.on_disk.metainfo.layout)
    }

    /// Bytes that are wanted and not there.
    pub fn left(&self) -> u64 {
        let layout = &self.on_disk.metainfo.layout;
        self.wanted.minus(self.have()).map(|piece| u64::from(layout.piece_size(piece))).sum()
    }

    /// What is verified and there.
    pub fn have(&self) -> &Bitfield {
        self.swarm().map_or(&self.checked, Swarm::have)
    }

    /// Whether everything wanted is there and that is known.
    pub fn is_complete(&self) -> bool {
        self.swarm().is_some_and(Swarm::is_complete)
    }

    /// What it does, in one word.
    pub fn phase(&self) -> Phase {
        let state = self.swarm().map_or(self.state, Swarm::state);
        match (&self.life, state) {
            _ if self.ended.is_some() || self.ending.is_some() => Phase::Stopped,
            (Life::Checking { .. }, _) => Phase::Checking,
            (_, State::Stopped) => Phase::Stopped,
            (_, State::Paused) => Phase::Paused,
            (Life::Running(swarm), State::Started) if swarm.is_complete() => Phase::Seeding,
            (_, State::Started) => Phase::Downloading,
        }
    }

    /// A picture of this moment.
    pub fn status(&self, now: Instant) -> Status {
        let totals = self.swarm().map(|swarm| swarm.totals(now)).unwrap_or_default();
        let left = self.left();
        let phase = self.phase();
        let eta = (phase == Phase::Downloading && totals.down_rate > 0)
            .then(|| Duration::from_secs(left.div_ceil(totals.down_rate)));
        let check = match &self.life {
            Life::Checking { progress, .. } => Some(progress.get(now)),
            Life::Running(_) => None,
        };
        Status {
            info_hash: self.on_disk.metainfo.info_hash,
            name: self.on_disk.metainfo.name.clone(),
            state: self.state,
            phase,
            total: self.on_disk.metainfo.layout.total(),
            wanted_bytes: self.wanted_bytes(),
            left,
            downloaded: totals.downloaded,
            uploaded: totals.uploaded,
            wasted: totals.wasted,
            down_rate: totals.down_rate,
            up_rate: totals.up_rate,
            peers: totals.peers,
            seeds: totals.seeds,
            eta,
            have: match &self.life {
                Life::Checking { progress, .. } => progress.have(),
                Life::Running(swarm) => swarm.have().clone(),
            },
            wanted: self.wanted.clone(),
            in_flight: self.swarm().map_or_else(|| Bitfield::new(self.wanted.len()), Swarm::in_flight),
            check,
            error: self.error.as_ref().map(|(_, error)| error.clone()),
            ended: self.ended.clone(),
            verdict: self.ended.as_ref().map_or_else(|| self.verdict().0, |&(verdict, _)| verdict),
        }
    }

    /// The trackers, by tier and in the order in which they are asked.
    pub fn trackers(&self) -> Vec<Tier> {
        let mut tiers: BTreeMap<usize, Tier> = BTreeMap::new();
        for tracker in self.swarm().into_iter().flat_map(|swarm| swarm.announcer().trackers()) {
            let TrackerStatus { complete, incomplete, failures_in_row: failures, peers, peers6, .. } =
                tracker;
            let (url, number) = (tracker.url.to_owned(), tracker.tier);
            let first = || Tier {
                complete,
                incomplete,
                failures,
                peers,
                peers6,
                urls: Vec::new(),
                trackers: Vec::new(),
            };
            let tier = tiers.entry(number).or_insert_with(first);
            tier.urls.push(url.clone());
            tier.trackers.push(TrackerInfo {
                url,
                tier: number,
                complete,
                incomplete,
                failures,
                peers,
                peers6,
            });
        }
        tiers.into_values().collect()
    }

    /// The blocks that wait for the rest of their piece.
    pub fn piece_cache(&self) -> Vec<CachedPiece> {
        let cached = |(piece, blocks): (&PieceIndex, &Vec<Option<BlockData>>)| {
            let here = (0..).zip(blocks).filter_map(|(number, data)| Some((number, data.as_ref()?)));
            let blocks = here.map(|(number, data)| (number, data.as_slice().to_vec())).collect();
            CachedPiece { piece: piece.0, blocks }
        };
        self.assembling.iter().map(cached).collect()
    }

    /// How it would end if it were stopped as it is now, and why.
    pub fn verdict(&self) -> (Verdict, String) {
        match &self.error {
            Some((verdict, error)) => (*verdict, error.clone()),
            None if self.is_complete() => (Verdict::Complete, "complete".into()),
            None if self.swarm().is_none() || !self.unchecked.is_empty() => {
                (Verdict::Incomplete, "stopped before the check was done".into())
            }
            None => (Verdict::Incomplete, "stopped with wanted data missing".into()),
        }
    }

    /// As [`Torrent::verdict`], of a torrent whose end is over: what went wrong, or right, since it began counts.
    pub fn last_verdict(&self, ending: &Ending) -> (Verdict, String) {
        match ending.verdict == Verdict::Incomplete || self.error.is_some() {
            true => self.verdict(),
            false => (ending.verdict, ending.reason.clone()),
        }
    }

    /// The policies that end a torrent: why it should end now, if it should.
    pub fn due_to_end(&self, now: Instant) -> Option<(Verdict, String)> {
        if self.ending.is_some() || self.ended.is_some() {
            return None;
        }
        if let Some(timeout) = self.options.stall_timeout
            && self.may_stall()
            && !self.is_complete()
            && self.swarm().is_some()
            && now.saturating_duration_since(self.last_new) >= timeout
        {
            let (verdict, reason) = match &self.error {
                Some((verdict, error)) => (*verdict, error.clone()),
                None => (Verdict::Stalled, format!("no new data for {} s", timeout.as_secs())),
            };
            return Some((verdict, reason));
        }
        if !self.is_complete() || self.unwritten > 0 || self.state != State::Started {
            return None;
        }
        if self.options.no_seed {
            return Some((Verdict::Complete, "complete".into()));
        }
        let uploaded = self.swarm().map_or(0, |swarm| swarm.totals(now).uploaded);
        if let Some(ratio) = self.options.seed_ratio
            && uploaded as f64 >= ratio * self.wanted_bytes() as f64
        {
            return Some((Verdict::Complete, format!("complete, and uploaded {ratio} times its size")));
        }
        let seeded = self.completed.map(|at| now.saturating_duration_since(at));
        if let (Some(time), Some(seeded)) = (self.options.seed_time, seeded)
            && seeded >= time
        {
            return Some((Verdict::Complete, format!("complete, and seeded for {} s", time.as_secs())));
        }
        None
    }

    /// When [`Torrent::due_to_end`] may change though nothing happens.
    pub fn policy_deadline(&self) -> Option<Instant> {
        if let Some(ending) = &self.ending {
            return Some(ending.deadline).filter(|_| self.ended.is_none());
        }
        if self.ended.is_some() || self.swarm().is_none() {
            return None;
        }
        let timeout = match self.is_complete() {
            true if self.state != State::Started || self.unwritten > 0 => None,
            true => self.options.seed_time.and_then(|time| Some(self.completed? + time)),
            false => {
                self.options.stall_timeout.filter(|_| self.may_stall()).map(|timeout| self.last_new + timeout)
            }
        };
        timeout.into_iter().chain(self.safety.deadline()).min()
    }

    /// Whether time without new data counts: not while the user has paused, but after an error that did.
    fn may_stall(&self) -> bool {
        self.state == State::Started || (self.state == State::Paused && self.error.is_some())
    }
}

/// Blocks of an earlier `piece_cache`, those that fit.
pub fn cached_blocks(
    layout: &Layout,
    cache: Vec<CachedPiece>,
) -> BTreeMap<PieceIndex, Vec<Option<BlockData>>> {
    let mut assembling = BTreeMap::new();
    for cached in cache.into_iter().filter(|cached| cached.piece < layout.num_pieces()) {
        let piece = PieceIndex(cached.piece);
        let mut blocks = Vec::new();
        blocks.resize_with(layout.num_blocks(piece) as usize, || None);
        for (number, bytes) in cached.blocks {
            let Some(place) = blocks.get_mut(number as usize) else { continue };
            let length = layout.block(piece, number).length;
            if bytes.len() == length as usize {
                let mut data = BlockData::new(length);
                data.as_mut_slice().copy_from_slice(&bytes);
                *place = Some(data);
            }
        }
        // The core hashes a piece when its last block comes, so a whole one leaves one to come.
        if blocks.iter().all(Option::is_some) {
            blocks[0] = None;
        }
        if blocks.iter().any(Option::is_some) {
            assembling.insert(piece, blocks);
        }
    }
    assembling
}

/// How a torrent ends that cannot go on because of this failure of the disk.
pub fn verdict_of(error: &StorageError) -> Verdict {
    match error.kind {
        StorageErrorKind::Full | StorageErrorKind::TooSmall => Verdict::DiskFull,
        _ => Verdict::FileError,
    }
}
