//! Piece layers that a torrent of version 2 lacks (BEP 52), from the files that are here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::reader::{Got, PieceReader};
use crate::hash::Sha256;
use crate::hash::merkle::{MerkleTree, block_hashes, piece_height, root_at};
use crate::layout::{FileIndex, PieceIndex};
use crate::metainfo::Metainfo;
use crate::storage::Storage;

/// The torrent with piece layers for all its files: those of the files that are here and lead to their roots. Of a file of which no copy
/// does, no piece can be known to be right; it gets a layer that no data have.
///
/// Reads files from the front until one is missing or ends too early, on this thread; ends soon once `keep_going` says no.
pub(super) fn with_layers_of_files(
    storage: &Storage,
    metainfo: &Metainfo,
    keep_going: &(dyn Fn() -> bool + Sync),
) -> Metainfo {
    let layout = &metainfo.layout;
    let Some(layers) = metainfo.piece_hashes.layers() else { return metainfo.clone() };
    let height = piece_height(layout.piece_length());
    let found: Vec<AtomicU64> = metainfo.files.iter().map(|_| AtomicU64::new(0)).collect();
    let faults = Mutex::new(BTreeMap::new());
    let mut reader = PieceReader::new(storage, &found, &faults, 1);
    let mut buffer = Vec::new();
    let mut read = |file: FileIndex| {
        let mut hashes: Vec<Sha256> = Vec::new();
        for piece in layout.pieces_of_file(file).map(PieceIndex) {
            buffer.resize(layout.piece_size(piece) as usize, 0);
            if !keep_going() || reader.read(layout, layout.piece_offset(piece), &mut buffer) != Got::All {
                return None;
            }
            hashes.push(root_at(&block_hashes(&buffer), 0, height));
        }
        Some(hashes)
    };
    let (mut known, mut unknown) = (Vec::new(), BTreeMap::new());
    let mut done = BTreeSet::new();
    for file in layers.missing(layout) {
        let Some(root) = layers.root(file).filter(|root| !done.contains(root)) else { continue };
        let tree = read(file).map(|hashes| MerkleTree::new(hashes, height));
        match tree.filter(|tree| tree.root() == root) {
            Some(tree) => {
                done.insert(root);
                known.push((root, tree));
            }
            None => {
                unknown.insert(root, layout.pieces_of_file(file).len());
            }
        }
    }
    let unknown = unknown.into_iter().filter(|(root, _)| !done.contains(root));
    known.extend(unknown.map(|(root, pieces)| (root, MerkleTree::new(vec![Sha256::ZERO; pieces], height))));
    let mut whole = metainfo.clone();
    whole.piece_hashes.fill(known, layout);
    whole
}
