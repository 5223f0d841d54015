//! Giving hashes to peers that ask for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hash::Sha256;
use crate::hash::merkle::{MerkleTree, piece_height};
use crate::ids::PeerKey;
use crate::layout::{FileIndex, Layout};
use crate::metainfo::PieceLayers;
use crate::wire::{HashRange, MAX_HASHES, Message};

/// Answers with hashes that a peer gets in a second, beyond the first time that it gets all: 290 KB.
const SERVED_PER_SECOND: u32 = 16;

/// Refusals that a peer gets in a second; what it asks beyond is not answered.
const REFUSED_PER_SECOND: u32 = 64;

/// Answers hash requests of one torrent's peers, from the piece layers on upwards; of files of one piece there is nothing to be had.
///
/// A peer gets as many answers as all layers take without delay (16 at least), and 16 a second from then on; the rest of its requests
/// is refused.
#[derive(Debug, Default)]
pub struct HashServer {
    layers: Option<Arc<PieceLayers>>,
    /// The height of the piece layers.
    base: u32,
    /// A file of each root that has a piece layer. Files of the same content share it.
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
    refusals: u32,
    /// When it last grew.
    grown: Instant,
}

impl HashServer {
    /// Gives what is known of these layers.
    pub fn new(layers: Arc<PieceLayers>, layout: &Layout) -> HashServer {
        let files = (0..layout.files().len() as u32).map(FileIndex);
        let of_root = |file| layers.layer(file).and_then(|_| Some((layers.root(file)?, file)));
        let files: HashMap<Sha256, FileIndex> = files.filter_map(of_root).collect();
        let answers = |file: &FileIndex| {
            layers.layer(*file).map_or(0, |layer| (layer.len() as u32).div_ceil(MAX_HASHES))
        };
        let all = files.values().map(answers).sum();
        let base = piece_height(layout.piece_length());
        HashServer { layers: Some(layers), base, files, all, ..HashServer::default() }
    }

    /// The connection has ended.
    pub fn gone(&mut self, peer: PeerKey) {
        self.peers.remove(&peer);
    }

    /// The answer to a peer that asks for hashes; `None`: it asks so much that it gets none.
    pub fn on_request(&mut self, now: Instant, peer: PeerKey, range: Box<HashRange>) -> Option<Message> {
        let all = self.all;
        let allowance = self.peers.entry(peer).or_insert(Allowance {
            answers: all.max(SERVED_PER_SECOND),
            refusals: REFUSED_PER_SECOND,
            grown: now,
        });
        if now.saturating_duration_since(allowance.grown) >= Duration::from_secs(1) {
            allowance.answers = allowance.answers.max(SERVED_PER_SECOND);
            allowance.refusals = REFUSED_PER_SECOND;
            allowance.grown = now;
        }
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

    fn hashes(&mut self, range: &HashRange) -> Option<Vec<Sha256>> {
        let file = *self.files.get(&range.root)?;
        let layer = self.layers.as_ref()?.layer(file)?;
        let tree = self.trees.entry(file).or_insert_with(|| MerkleTree::new(layer.to_vec(), self.base));
        tree.answer(range.base, u64::from(range.index), u64::from(range.length), range.proof_layers)
    }
}
