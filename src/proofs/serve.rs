//! Giving hashes to peers that ask for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::bucket::TokenBucket;
use crate::hash::Sha256;
use crate::hash::merkle::{piece_height, root_at, tree_height};
use crate::ids::PeerKey;
use crate::layout::{BLOCK_LENGTH, FileIndex, Layout, PieceIndex};
use crate::metainfo::PieceLayers;
use crate::wire::{HashRange, MAX_HASHES, Message};

/// Answers with hashes that a peer gets in a second, beyond the first time that it gets all: 290 KB.
const ANSWERS_PER_SECOND: u64 = 16;

/// The same of all peers together, the first time included: 9 MB.
const ALL_ANSWERS_PER_SECOND: u64 = 512;

/// Blocks that are read and hashed for a peer in a second, 16 MiB; of pieces that are longer, one in so many seconds as it has times that.
const BLOCKS_PER_SECOND: u64 = 1024;

/// The same of all peers together.
const ALL_BLOCKS_PER_SECOND: u64 = 4 * BLOCKS_PER_SECOND;

/// As how many blocks a read counts at the least.
const LEAST_READ: u64 = 64;

/// Refusals that a peer gets in a second; what it asks beyond is not answered.
const REFUSED_PER_SECOND: u64 = 64;

/// Requests of all peers that may wait for what is being read.
const MAX_WAITING: usize = 256;

/// Pieces that follow one another in one file: what is to be read for a request for hashes of their blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PieceRun {
    /// The first of them.
    pub first: PieceIndex,
    /// How many there are, one at least.
    pub count: u32,
}

impl PieceRun {
    /// The pieces.
    pub fn pieces(self) -> impl Iterator<Item = PieceIndex> {
        (self.first.0..self.first.0 + self.count).map(PieceIndex)
    }
}

/// What becomes of a request for hashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashAnswer {
    /// Send this.
    Send(Message),
    /// Read these pieces and hash their blocks, then call [`HashServer::on_read`]; its answer is among those.
    Read(PieceRun),
    /// Its answer is among those of a read that is under way.
    Later,
    /// The peer asks so much that it gets none.
    Nothing,
}

/// Answers hash requests of one torrent's peers: for pieces by what is known, for blocks by what is read.
///
/// A peer gets as many answers as all piece layers take without delay (16 at least), and 16 a second from then on; the rest of its
/// requests is refused. So is what all peers together ask beyond their bounds: they may ask others, or again.
#[derive(Debug, Default)]
pub struct HashServer {
    layers: Option<Arc<PieceLayers>>,
    layout: Option<Arc<Layout>>,
    /// The height of the piece layers.
    base: u32,
    /// A file of each root; files of the same content share it.
    files: HashMap<Sha256, FileIndex>,
    /// Answers that give all layers once.
    all: u32,
    /// Those that have asked for something; until [`HashServer::gone`].
    peers: BTreeMap<PeerKey, Allowance>,
    /// What all peers together may still have.
    answers: Option<TokenBucket>,
    blocks: Option<TokenBucket>,
    /// What is being read, and who waits for it; [`MAX_WAITING`] requests at the most.
    reading: BTreeMap<PieceRun, Vec<(PeerKey, Box<HashRange>)>>,
    /// What was read last, with the hashes of its blocks: who asks for them part by part has it read once.
    last: Option<(PieceRun, Vec<Sha256>)>,
}

/// What a peer may still have.
#[derive(Debug)]
struct Allowance {
    answers: TokenBucket,
    /// Blocks that are read for it; overdrawn by a piece that has more of them.
    blocks: TokenBucket,
    refusals: TokenBucket,
}

impl HashServer {
    /// Gives what is known of these layers.
    pub fn new(layers: Arc<PieceLayers>, layout: &Arc<Layout>) -> HashServer {
        let files = (0..layout.files().len() as u32).map(FileIndex);
        let files: HashMap<Sha256, FileIndex> =
            files.filter_map(|file| Some((layers.root(file)?, file))).collect();
        let answers = |file: &FileIndex| {
            layers.layer(*file).map_or(0, |layer| (layer.len() as u32).div_ceil(MAX_HASHES))
        };
        let all = files.values().map(answers).sum();
        let base = piece_height(layout.piece_length());
        let layout = Some(layout.clone());
        HashServer { layers: Some(layers), layout, base, files, all, ..HashServer::default() }
    }

    /// The connection has ended.
    pub fn gone(&mut self, peer: PeerKey) {
        self.peers.remove(&peer);
        self.reading.values_mut().for_each(|waiting| waiting.retain(|(key, _)| *key != peer));
    }

    /// A peer asks for hashes; `has` says which pieces are here.
    pub fn on_request(
        &mut self,
        now: Instant,
        peer: PeerKey,
        range: Box<HashRange>,
        has: impl Fn(PieceIndex) -> bool,
    ) -> HashAnswer {
        let all = u64::from(self.all).max(ANSWERS_PER_SECOND);
        let allowance = self.peers.entry(peer).or_insert_with(|| Allowance {
            answers: TokenBucket::beginning_with(now, all, ANSWERS_PER_SECOND, ANSWERS_PER_SECOND),
            blocks: TokenBucket::new(now, BLOCKS_PER_SECOND, BLOCKS_PER_SECOND),
            refusals: TokenBucket::new(now, REFUSED_PER_SECOND, REFUSED_PER_SECOND),
        });
        let together = || TokenBucket::new(now, ALL_ANSWERS_PER_SECOND, ALL_ANSWERS_PER_SECOND);
        let together = self.answers.get_or_insert_with(together);
        let may_have = allowance.answers.has(now, 1) && together.has(now, 1);
        let answer = if may_have && range.is_valid() { self.answer(now, peer, &range, has) } else { None };
        let Some(allowance) = self.peers.get_mut(&peer) else { return HashAnswer::Nothing };
        match answer {
            Some(answer) => {
                allowance.answers.overdraw(1);
                self.answers.iter_mut().for_each(|together| together.overdraw(1));
                answer
            }
            None if allowance.refusals.take(now, 1) => HashAnswer::Send(Message::HashReject(range)),
            None => HashAnswer::Nothing,
        }
    }

    /// Pieces were read: the hashes of their blocks in order, or `None` if they could not be had. Gives the answers for all who wait for it.
    pub fn on_read(&mut self, run: PieceRun, hashes: Option<Vec<Sha256>>) -> Vec<(PeerKey, Message)> {
        let Some(waiting) = self.reading.remove(&run) else { return Vec::new() };
        self.last = hashes.map(|hashes| (run, hashes));
        let answer = |(peer, range): (PeerKey, Box<HashRange>)| match self.hashes_of_blocks(run, &range) {
            Some(hashes) => (peer, Message::Hashes(range, hashes)),
            None => (peer, Message::HashReject(range)),
        };
        waiting.into_iter().map(answer).collect()
    }

    /// What becomes of a request that may be answered; `None`: it cannot be.
    fn answer(
        &mut self,
        now: Instant,
        peer: PeerKey,
        range: &HashRange,
        has: impl Fn(PieceIndex) -> bool,
    ) -> Option<HashAnswer> {
        let file = *self.files.get(&range.root)?;
        let tree = self.layers.as_ref()?.tree(file);
        // Other layers nobody has to know (BEP 52).
        if let Some(tree) = tree.filter(|_| range.base == self.base) {
            let hashes = tree.answer(range.index.into(), range.length.into(), range.proof_layers)?;
            return Some(HashAnswer::Send(Message::Hashes(Box::new(*range), hashes)));
        }
        let run = self.run_of(file, range).filter(|run| run.pieces().all(has))?;
        if self.last.as_ref().is_some_and(|(last, _)| *last == run) {
            let hashes = self.hashes_of_blocks(run, range)?;
            return Some(HashAnswer::Send(Message::Hashes(Box::new(*range), hashes)));
        }
        if self.reading.values().map(Vec::len).sum::<usize>() >= MAX_WAITING {
            return None;
        }
        if let Some(waiting) = self.reading.get_mut(&run) {
            waiting.push((peer, Box::new(*range)));
            return Some(HashAnswer::Later);
        }
        let layout = self.layout.as_ref()?;
        let blocks: u32 = run.pieces().map(|piece| layout.num_blocks(piece)).sum();
        let own = &mut self.peers.get_mut(&peer)?.blocks;
        let together = || TokenBucket::new(now, ALL_BLOCKS_PER_SECOND, ALL_BLOCKS_PER_SECOND);
        let together = self.blocks.get_or_insert_with(together);
        if !own.has(now, 1) || !together.has(now, 1) {
            return None;
        }
        let cost = u64::from(blocks).max(LEAST_READ);
        own.overdraw(cost);
        together.overdraw(cost);
        self.reading.insert(run, vec![(peer, Box::new(*range))]);
        Some(HashAnswer::Read(run))
    }

    /// The pieces that have the blocks of a range; `None` if it is not about blocks of this file.
    fn run_of(&self, file: FileIndex, range: &HashRange) -> Option<PieceRun> {
        let layout = self.layout.as_ref()?;
        let pieces = layout.pieces_of_file(file);
        let blocks = layout.file(file).length.div_ceil(u64::from(BLOCK_LENGTH));
        let lacks_tree = pieces.len() > 1 && self.layers.as_ref()?.tree(file).is_none();
        let end = u64::from(range.index) + u64::from(range.length);
        if range.base != 0 || lacks_tree || end > 1 << tree_height(blocks) {
            return None;
        }
        let (first, count) = (range.index >> self.base, (range.length >> self.base).max(1));
        let left = (pieces.len() as u32).checked_sub(first).filter(|&left| left > 0)?;
        Some(PieceRun { first: PieceIndex(pieces.start + first), count: count.min(left) })
    }

    /// What answers a request for hashes of blocks of what was read last: those behind the end of the file are zeros.
    fn hashes_of_blocks(&self, run: PieceRun, range: &HashRange) -> Option<Vec<Sha256>> {
        let (layout, (_, blocks)) =
            (self.layout.as_ref()?, self.last.as_ref().filter(|(last, _)| *last == run)?);
        let file = layout.file_of_piece(run.first)?;
        let number = run.first.0 - layout.pieces_of_file(file).start;
        let begin = u64::from(number) << self.base;
        // What stands above a place in the blocks that were read.
        let above = |height: u32, index: u64| {
            let (from, to) = (index << height, (index + 1) << height);
            let place = |at: u64| (at.saturating_sub(begin) as usize).min(blocks.len());
            root_at(&blocks[place(from)..place(to)], 0, height)
        };
        let (index, length) = (u64::from(range.index), u64::from(range.length));
        let mut hashes: Vec<Sha256> = (index..index + length).map(|at| above(0, at)).collect();
        let (first, end) = (tree_height(length), range.proof_layers.saturating_add(1));
        let Some(tree) = self.layers.as_ref()?.tree(file) else {
            // All blocks of a file of one piece.
            let top = tree_height(blocks.len() as u64);
            hashes.extend((first..end.min(top)).map(|height| above(height, index >> height ^ 1)));
            return (layout.pieces_of_file(file).len() == 1).then_some(hashes);
        };
        hashes.extend((first..end.min(self.base)).map(|height| above(height, index >> height ^ 1)));
        let first = first.max(self.base);
        hashes.extend(tree.uncles(first, index >> first, end)?);
        Some(hashes)
    }
}
