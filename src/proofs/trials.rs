//! Who sent the bad blocks of a piece, by the hashes of its blocks (layer 0), which peers that have the piece can prove.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::proved;
use crate::hash::Sha256;
use crate::hash::merkle::{root_height, tree_height};
use crate::ids::{PeerKey, Source};
use crate::layout::{BLOCK_LENGTH, Layout, PieceIndex};
use crate::metainfo::PieceLayers;
use crate::wire::{HashRange, MAX_HASHES};

/// Pieces that are tried at the same time; of further ones it is seen later who was at fault, when they pass.
const MAX_TRIALS: usize = 16;

/// Peers that are asked for the hashes of one piece, one after the other.
const MAX_ASKED: usize = 4;

/// How long one of them may owe them.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an answer has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrialEnd {
    /// It is about no trial, or one that is over.
    Nothing,
    /// The hashes do not lead to the root of their file.
    Unproved,
    /// These have sent bad blocks of the piece, each once, ascending.
    Culprits(PieceIndex, Vec<Source>),
}

/// Blocks of a piece that does not match its hash, as many as are asked for at a time: all of a piece of 8 MiB.
#[derive(Debug)]
struct Trial {
    range: HashRange,
    /// The hashes of the blocks as they came, and who sent them.
    blocks: Vec<(Sha256, Source)>,
    asked: Option<(PeerKey, Instant)>,
    tried: BTreeSet<PeerKey>,
}

/// The trials of one torrent. Each is bounded by the number of blocks in a piece.
#[derive(Debug)]
pub struct BlockTrials {
    layers: Arc<PieceLayers>,
    layout: Arc<Layout>,
    /// By piece and part of it.
    open: BTreeMap<(PieceIndex, usize), Trial>,
}

/// The requests for the hashes of a piece's blocks, with all that proves them.
fn ranges_of(layers: &PieceLayers, layout: &Layout, piece: PieceIndex) -> Option<Vec<HashRange>> {
    let file = layout.file_of_piece(piece)?;
    let length = layout.file(file).length;
    let top = tree_height(length.div_ceil(u64::from(BLOCK_LENGTH)));
    let width = 1u32.checked_shl(root_height(length, layout.piece_length()))?;
    let first = (piece.0 - layout.pieces_of_file(file).start).checked_mul(width)?;
    let range = HashRange {
        root: layers.root(file)?,
        base: 0,
        index: first,
        length: width.min(MAX_HASHES),
        proof_layers: top.checked_sub(1)?,
    };
    let begins = (0..layout.num_blocks(piece)).step_by(MAX_HASHES as usize);
    let ranges = begins.map(|begin| Some(HashRange { index: first.checked_add(begin)?, ..range }));
    ranges.map(|range| range.filter(HashRange::is_valid)).collect()
}

impl BlockTrials {
    /// For a torrent of this shape.
    pub fn new(layers: Arc<PieceLayers>, layout: Arc<Layout>) -> BlockTrials {
        BlockTrials { layers, layout, open: BTreeMap::new() }
    }

    /// A piece does not match its hash: who sent each block, and the hashes of the blocks. If it was one alone there is nothing to find out.
    pub fn on_failed(&mut self, piece: PieceIndex, senders: &[Source], hashes: Vec<Sha256>) {
        let several = senders.iter().any(|sender| Some(sender) != senders.first());
        // Of several attempts the first is tried.
        let pieces: BTreeSet<PieceIndex> = self.open.keys().map(|&(piece, _)| piece).collect();
        if !several || senders.len() != hashes.len() || pieces.len() >= MAX_TRIALS || pieces.contains(&piece)
        {
            return;
        }
        let Some(ranges) = ranges_of(&self.layers, &self.layout, piece) else { return };
        let mut blocks = hashes.into_iter().zip(senders.iter().copied());
        for (part, range) in ranges.into_iter().enumerate() {
            let blocks = blocks.by_ref().take(MAX_HASHES as usize).collect();
            self.open.insert((piece, part), Trial { range, blocks, asked: None, tried: BTreeSet::new() });
        }
    }

    /// A piece has passed: it is known now which blocks were bad.
    pub fn on_passed(&mut self, piece: PieceIndex) {
        self.open.retain(|&(open, _), _| open != piece);
    }

    /// The next peer to ask, and for what: of those that have not been asked, `choose` finds one that has the piece.
    pub fn next_request(
        &mut self,
        now: Instant,
        mut choose: impl FnMut(PieceIndex, &BTreeSet<PeerKey>) -> Option<PeerKey>,
    ) -> Option<(PeerKey, HashRange)> {
        self.open.retain(|_, trial| {
            let is_owed = trial.asked.is_some_and(|(_, at)| now.saturating_duration_since(at) < PATIENCE);
            trial.asked = trial.asked.filter(|_| is_owed);
            is_owed || trial.tried.len() < MAX_ASKED
        });
        self.open.iter_mut().filter(|(_, trial)| trial.asked.is_none()).find_map(|(&(piece, _), trial)| {
            let peer = choose(piece, &trial.tried)?;
            trial.tried.insert(peer);
            trial.asked = Some((peer, now));
            Some((peer, trial.range))
        })
    }

    /// A peer has sent hashes, late or not.
    pub fn on_hashes(&mut self, peer: PeerKey, range: &HashRange, hashes: &[Sha256]) -> TrialEnd {
        let found = self.open.iter().find(|(_, trial)| trial.range == *range && trial.tried.contains(&peer));
        let Some((&part, _)) = found else { return TrialEnd::Nothing };
        let Some(leaves) = proved(range, hashes) else {
            self.reopen(peer, range);
            return TrialEnd::Unproved;
        };
        let Some(trial) = self.open.remove(&part) else { return TrialEnd::Nothing };
        let bad = trial.blocks.iter().zip(leaves).filter(|((hash, _), leaf)| hash != *leaf);
        let mut culprits: Vec<Source> = bad.map(|((_, sender), _)| *sender).collect();
        // What an earlier run left is nobody's fault that is here.
        culprits.retain(|&culprit| culprit != Source::Disk);
        culprits.sort_unstable();
        culprits.dedup();
        TrialEnd::Culprits(part.0, culprits)
    }

    /// A peer refuses: others may know.
    pub fn on_reject(&mut self, peer: PeerKey, range: &HashRange) {
        self.reopen(peer, range);
    }

    /// The connection has ended.
    pub fn gone(&mut self, peer: PeerKey) {
        let asked = self.open.values_mut().filter(|trial| trial.asked.is_some_and(|(key, _)| key == peer));
        asked.for_each(|trial| trial.asked = None);
    }

    fn reopen(&mut self, peer: PeerKey, range: &HashRange) {
        let is_it =
            |trial: &&mut Trial| trial.range == *range && trial.asked.is_some_and(|(key, _)| key == peer);
        self.open.values_mut().filter(is_it).for_each(|trial| trial.asked = None);
    }
}
