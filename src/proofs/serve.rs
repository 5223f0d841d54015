//! Giving hashes to peers that ask for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::trials::blocks_of;
use crate::hash::Sha256;
use crate::hash::merkle::{MerkleTree, piece_height};
use crate::ids::PeerKey;
use crate::layout::{FileIndex, Layout, PieceIndex};
use crate::metainfo::PieceLayers;
use crate::wire::{HashRange, MAX_HASHES, Message};

/// Answers with hashes that a peer gets in a second, beyond the first time that it gets all: 290 KB.
const SERVED_PER_SECOND: u32 = 16;

/// Pieces whose blocks are read and hashed for a peer in a second: as much work as to serve the piece.
const BLOCKS_PER_SECOND: u32 = 2;

/// Refusals that a peer gets in a second; what it asks beyond is not answered.
const REFUSED_PER_SECOND: u32 = 64;

/// Hashes of the blocks of a piece that a peer wants. The data are to be read for that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WantedBlocks {
    /// What it has asked for: all blocks of the piece.
    pub range: Box<HashRange>,
    /// The piece.
    pub piece: PieceIndex,
    /// What stands behind the hashes in the answer, to prove them.
    pub uncles: Vec<Sha256>,
}

/// Answers hash requests of one torrent's peers: from the piece layers on upwards by what is known, and of the blocks of a piece by what
/// is read.
///
/// A peer gets as many answers as all layers take without delay (16 at least), and 16 a second from then on; the rest of its requests
/// is refused.
#[derive(Debug, Default)]
pub struct HashServer {
    layers: Option<Arc<PieceLayers>>,
    layout: Option<Arc<Layout>>,
    /// The height of the piece layers.
    base: u32,
    /// A file of each root; files of the same content share it.
    files: HashMap<Sha256, FileIndex>,
    /// Those that have been asked for. Together they take twice the memory of the piece layers, which were loaded before.
    trees: HashMap<FileIndex, MerkleTree>,
    /// Answers that give all layers once.
    all: u32,
    /// Those that have asked for something; until [`HashServer::gone`].
    peers: BTreeMap<PeerKey, Allowance>,
}

/// What a peer may still have.
#[derive(Debug)]
struct Allowance {
    answers: u32,
    blocks: u32,
    refusals: u32,
    /// When it last grew.
    grown: Instant,
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
    }

    /// The answer to a peer that asks for hashes; `None`: it asks so much that it gets none.
    pub fn on_request(&mut self, now: Instant, peer: PeerKey, range: Box<HashRange>) -> Option<Message> {
        let allowance = self.allowance(now, peer);
        if allowance.answers > 0
            && range.is_valid()
            && let Some(hashes) = self.hashes(&range)
        {
            if let Some(allowance) = self.peers.get_mut(&peer) {
                allowance.answers -= 1;
            }
            return Some(Message::Hashes(range, hashes));
        }
        let allowance = self.peers.get_mut(&peer)?;
        allowance.refusals = allowance.refusals.checked_sub(1)?;
        Some(Message::HashReject(range))
    }

    /// Whether a peer asks for the hashes of all blocks of one piece, which it may have as often as that: whoever has the piece has to
    /// read it for that. Else [`HashServer::on_request`] knows.
    pub fn on_block_request(
        &mut self,
        now: Instant,
        peer: PeerKey,
        range: &HashRange,
    ) -> Option<WantedBlocks> {
        let (layers, layout) = (self.layers.clone()?, self.layout.clone()?);
        let file = *self.files.get(&range.root).filter(|_| range.base == 0 && range.is_valid())?;
        let pieces = layout.pieces_of_file(file);
        let piece = PieceIndex(pieces.start.checked_add(range.index / range.length)?);
        let whole = blocks_of(&layers, &layout, piece).filter(|_| pieces.contains(&piece.0))?;
        // A piece of one block is its hash.
        if (HashRange { proof_layers: whole.proof_layers, ..*range }) != whole || !self.may_read(now, peer) {
            return None;
        }
        let uncles =
            if pieces.len() == 1 { Vec::new() } else { self.uncles(file, piece, range.proof_layers)? };
        Some(WantedBlocks { range: Box::new(*range), piece, uncles })
    }

    fn may_read(&mut self, now: Instant, peer: PeerKey) -> bool {
        let allowance = self.allowance(now, peer);
        let may = allowance.blocks > 0;
        allowance.blocks = allowance.blocks.saturating_sub(1);
        may
    }

    /// What stands beside the way from a piece up to the root, as far as it is wanted above the blocks.
    fn uncles(&mut self, file: FileIndex, piece: PieceIndex, proof_layers: u32) -> Option<Vec<Sha256>> {
        let number = u64::from(piece.0 - self.layout.as_ref()?.pieces_of_file(file).start);
        let (base, tree) = (self.base, self.tree(file)?);
        let end = proof_layers.saturating_add(1).min(tree.height());
        (base..end).map(|layer| tree.hash(layer, number >> (layer - base) ^ 1)).collect()
    }

    fn allowance(&mut self, now: Instant, peer: PeerKey) -> &mut Allowance {
        let all = self.all;
        let allowance = self.peers.entry(peer).or_insert(Allowance {
            answers: all.max(SERVED_PER_SECOND),
            blocks: BLOCKS_PER_SECOND,
            refusals: REFUSED_PER_SECOND,
            grown: now,
        });
        if now.saturating_duration_since(allowance.grown) >= Duration::from_secs(1) {
            allowance.answers = allowance.answers.max(SERVED_PER_SECOND);
            (allowance.blocks, allowance.refusals) = (BLOCKS_PER_SECOND, REFUSED_PER_SECOND);
            allowance.grown = now;
        }
        allowance
    }

    fn tree(&mut self, file: FileIndex) -> Option<&MerkleTree> {
        let layer = self.layers.as_ref()?.layer(file)?;
        Some(self.trees.entry(file).or_insert_with(|| MerkleTree::new(layer.to_vec(), self.base)))
    }

    fn hashes(&mut self, range: &HashRange) -> Option<Vec<Sha256>> {
        let file = *self.files.get(&range.root)?;
        self.tree(file)?.answer(
            range.base,
            u64::from(range.index),
            u64::from(range.length),
            range.proof_layers,
        )
    }
}
