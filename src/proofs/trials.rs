//! Who sent the bad blocks of a piece, by the hashes of its blocks (layer 0), which peers that have the piece can prove.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::proved;
use crate::hash::Sha256;
use crate::hash::merkle::{piece_height, tree_height};
use crate::ids::{PeerKey, Source};
use crate::layout::{Layout, PieceIndex};
use crate::metainfo::PieceLayers;
use crate::wire::HashRange;

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

/// One piece that does not match its hash.
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
    open: BTreeMap<PieceIndex, Trial>,
}

/// What a request for the hashes of a piece's blocks is called, with all that proves them.
pub(super) fn blocks_of(layers: &PieceLayers, layout: &Layout, piece: PieceIndex) -> Option<HashRange> {
    let file = layout.file_of_piece(piece)?;
    let pieces = layout.pieces_of_file(file);
    let top = tree_height(layout.file(file).length.div_ceil(u64::from(crate::layout::BLOCK_LENGTH)));
    // The tree of a file of one piece is only as high as it has to be.
    let height = if pieces.len() == 1 { top } else { piece_height(layout.piece_length()) };
    let length = 1u32.checked_shl(height)?;
    let index = (piece.0 - pieces.start).checked_mul(length)?;
    let range =
        HashRange { root: layers.root(file)?, base: 0, index, length, proof_layers: top.checked_sub(1)? };
    range.is_valid().then_some(range)
}

impl BlockTrials {
    /// For a torrent of this shape.
    pub fn new(layers: Arc<PieceLayers>, layout: Arc<Layout>) -> BlockTrials {
        BlockTrials { layers, layout, open: BTreeMap::new() }
    }

    /// A piece does not match its hash: who sent each block, and the hashes of the blocks. If it was one alone there is nothing to find out.
    pub fn on_failed(&mut self, piece: PieceIndex, senders: &[Source], hashes: Vec<Sha256>) {
        let several = senders.iter().any(|sender| Some(sender) != senders.first());
        if !several || senders.len() != hashes.len() || self.open.len() >= MAX_TRIALS {
            return;
        }
        let Some(range) = blocks_of(&self.layers, &self.layout, piece) else { return };
        let blocks = hashes.into_iter().zip(senders.iter().copied()).collect();
        // Of several attempts the first is tried.
        self.open.entry(piece).or_insert(Trial { range, blocks, asked: None, tried: BTreeSet::new() });
    }

    /// A piece has passed: it is known now which blocks were bad.
    pub fn on_passed(&mut self, piece: PieceIndex) {
        self.open.remove(&piece);
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
        self.open.iter_mut().filter(|(_, trial)| trial.asked.is_none()).find_map(|(&piece, trial)| {
            let peer = choose(piece, &trial.tried)?;
            trial.tried.insert(peer);
            trial.asked = Some((peer, now));
            Some((peer, trial.range))
        })
    }

    /// A peer has sent hashes, late or not.
    pub fn on_hashes(&mut self, peer: PeerKey, range: &HashRange, hashes: &[Sha256]) -> TrialEnd {
        let found = self.open.iter().find(|(_, trial)| trial.range == *range && trial.tried.contains(&peer));
        let Some((&piece, _)) = found else { return TrialEnd::Nothing };
        let Some(leaves) = proved(range, hashes) else {
            self.reopen(peer, range);
            return TrialEnd::Unproved;
        };
        let Some(trial) = self.open.remove(&piece) else { return TrialEnd::Nothing };
        let bad = trial.blocks.iter().zip(leaves).filter(|((hash, _), leaf)| hash != *leaf);
        let mut culprits: Vec<Source> = bad.map(|((_, sender), _)| *sender).collect();
        // What an earlier run left is nobody's fault that is here.
        culprits.retain(|&culprit| culprit != Source::Disk);
        culprits.sort_unstable();
        culprits.dedup();
        TrialEnd::Culprits(piece, culprits)
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
