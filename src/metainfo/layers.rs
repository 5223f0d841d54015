//! The hashes that pieces must have: SHA-1 of version 1 (BEP 3), merkle trees of version 2 (BEP 52).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::error::{MetainfoError, dict, string};
use super::notes::ParseNotes;
use crate::bencode::Value;
use crate::hash::merkle::{MerkleTree, piece_height, root_at, root_height, tree_height};
use crate::hash::{Sha1, Sha256};
use crate::layout::{FileIndex, Layout, PieceIndex};

const LAYERS: &str = "piece layers";

/// The hashes of all pieces of a torrent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PieceHashes {
    /// Version 1: the SHA-1 of each piece.
    V1(Arc<[Sha1]>),
    /// Version 2: a merkle tree for each file.
    V2(Arc<PieceLayers>),
    /// Both, of the same pieces.
    Hybrid(Arc<[Sha1]>, Arc<PieceLayers>),
}

/// The hash that one piece must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PieceHash {
    /// SHA-1 of its bytes and of so many zeros behind them, where a hybrid has a pad file.
    V1 {
        /// The hash.
        hash: Sha1,
        /// Zeros behind the bytes of the piece.
        zeros: u32,
    },
    /// The root of the merkle tree over its blocks.
    V2 {
        /// The root.
        root: Sha256,
        /// The height of the tree, with the blocks of the piece at the bottom.
        height: u32,
    },
}

impl PieceHash {
    /// Whether a piece whose blocks have these SHA-256 digests is the one.
    pub(crate) fn is_over(self, blocks: &[Sha256]) -> bool {
        match self {
            PieceHash::V1 { .. } => false,
            PieceHash::V2 { root, height } => {
                tree_height(blocks.len() as u64) <= height && root_at(blocks, 0, height) == root
            }
        }
    }
}

impl From<Vec<Sha1>> for PieceHashes {
    fn from(hashes: Vec<Sha1>) -> PieceHashes {
        PieceHashes::V1(hashes.into())
    }
}

impl FromIterator<Sha1> for PieceHashes {
    fn from_iter<I: IntoIterator<Item = Sha1>>(hashes: I) -> PieceHashes {
        PieceHashes::V1(hashes.into_iter().collect())
    }
}

impl PieceHashes {
    /// Those of version 1.
    pub(crate) fn v1(&self) -> Option<&[Sha1]> {
        match self {
            PieceHashes::V1(hashes) | PieceHashes::Hybrid(hashes, _) => Some(hashes),
            PieceHashes::V2(_) => None,
        }
    }

    /// Those of version 2.
    pub fn layers(&self) -> Option<&Arc<PieceLayers>> {
        match self {
            PieceHashes::V1(_) => None,
            PieceHashes::V2(layers) | PieceHashes::Hybrid(_, layers) => Some(layers),
        }
    }

    /// Takes piece layers that were missing; see [`PieceLayers::fill`].
    pub(crate) fn fill(&mut self, layers: Vec<(Sha256, MerkleTree)>, layout: &Layout) {
        match self {
            PieceHashes::V1(_) => {}
            PieceHashes::V2(known) | PieceHashes::Hybrid(_, known) => {
                Arc::make_mut(known).fill(layers, layout)
            }
        }
    }

    /// Whether pieces are verified by the trees of version 2: those of all files are known down to the pieces.
    pub(crate) fn are_trees(&self) -> bool {
        self.layers().is_some_and(|layers| layers.is_complete)
    }

    /// Whether it is known of each piece what it must hash to.
    pub(crate) fn are_known(&self) -> bool {
        self.v1().is_some() || self.are_trees()
    }

    /// The hash that `piece` must have: of version 2 if those of all pieces are known, else of version 1. `None` if
    /// the torrent is of version 2 alone, and not [`PieceHashes::are_known`].
    pub(crate) fn of_piece(&self, layout: &Layout, piece: PieceIndex) -> Option<PieceHash> {
        match self.are_trees() {
            true => self.layers()?.of_piece(layout, piece),
            false => {
                let hash = *self.v1()?.get(piece.0 as usize)?;
                Some(PieceHash::V1 { hash, zeros: layout.zeros_behind(piece) })
            }
        }
    }
}

/// The merkle trees of the files, from their roots down to one hash a piece.
#[derive(Clone, Debug)]
pub struct PieceLayers {
    files: Vec<FileHashes>,
    /// Whether the hashes of all pieces are known.
    is_complete: bool,
}

/// The merkle tree of one file.
#[derive(Clone, Debug)]
struct FileHashes {
    /// `None`: the file is empty.
    root: Option<Sha256>,
    /// The hash of each of its pieces. `None` as long as it is not known, and of a file of one piece, where the root is the hash.
    layer: Option<Arc<MerkleTree>>,
}

impl PieceLayers {
    /// Those of files of which nothing but the roots is known.
    pub(super) fn new(roots: Vec<Option<Sha256>>, layout: &Layout) -> PieceLayers {
        let files = roots.into_iter().map(|root| FileHashes { root, layer: None }).collect();
        let mut layers = PieceLayers { files, is_complete: false };
        layers.look(layout);
        layers
    }

    /// Reads `piece layers`. What belongs to no file is passed over, with a note.
    pub(super) fn read(
        &mut self,
        value: Value<'_>,
        layout: &Layout,
        notes: &mut ParseNotes,
    ) -> Result<(), MetainfoError> {
        let roots: HashSet<Sha256> = self.files.iter().filter_map(|file| file.root).collect();
        let (mut found, mut unknown) = (HashMap::new(), 0);
        for (root, layer) in dict(LAYERS, value)? {
            match Sha256::of_bytes(root).filter(|root| roots.contains(root)) {
                Some(root) => drop(found.entry(root).or_insert(layer)),
                None => unknown += 1,
            }
        }
        if unknown > 0 {
            notes.add(|| format!("{LAYERS}: {} of them belong to no file; ignored", unknown));
        }
        // Files of the same content share a layer.
        let mut read: HashMap<Sha256, Arc<MerkleTree>> = HashMap::new();
        for index in 0..self.files.len() {
            let file = FileIndex(index as u32);
            let Some(root) = self.files[index].root else { continue };
            if !has_layer(layout, file) {
                if let Some(value) = found.get(&root) {
                    check_needless(root, *value, layout, file)?;
                }
                continue;
            }
            let pieces = layout.pieces_of_file(file).len();
            let layer = match (read.get(&root), found.get(&root)) {
                (Some(layer), _) if layer.lowest().len() == pieces => layer.clone(),
                (_, None) => continue,
                (_, Some(value)) => {
                    let key = || format!("{LAYERS}[{root}]");
                    let bytes = string(&key(), *value)?;
                    let hashes: Vec<Sha256> = bytes.chunks(32).filter_map(Sha256::of_bytes).collect();
                    if bytes.len() != 32 * pieces {
                        let problem = format!(
                            "{} bytes, but a file of {pieces} pieces needs {}",
                            bytes.len(),
                            32 * pieces
                        );
                        return Err(MetainfoError::at(key(), problem));
                    }
                    let tree = MerkleTree::new(hashes, piece_height(layout.piece_length()));
                    if tree.root() != root {
                        return Err(MetainfoError::at(key(), "its hashes do not lead to this root"));
                    }
                    Arc::new(tree)
                }
            };
            read.insert(root, layer.clone());
            self.files[index].layer = Some(layer);
        }
        self.look(layout);
        Ok(())
    }

    /// Takes the layers of these roots, which have been proved to lead to them.
    pub(crate) fn fill(&mut self, layers: Vec<(Sha256, MerkleTree)>, layout: &Layout) {
        let layers: HashMap<Sha256, Arc<MerkleTree>> =
            layers.into_iter().map(|(root, tree)| (root, Arc::new(tree))).collect();
        for index in 0..self.files.len() {
            let file = FileIndex(index as u32);
            let pieces = layout.pieces_of_file(file).len();
            let hashes = &mut self.files[index];
            let layer = hashes.root.and_then(|root| layers.get(&root));
            let layer = layer.filter(|layer| layer.lowest().len() == pieces);
            if let (None, Some(layer), true) = (&hashes.layer, layer, has_layer(layout, file)) {
                hashes.layer = Some(layer.clone());
            }
        }
        self.look(layout);
    }

    fn look(&mut self, layout: &Layout) {
        let is_complete = self.missing(layout).next().is_none();
        self.is_complete = is_complete;
    }

    /// Writes what is known of `piece layers`, in the order of the roots.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let known = self.files.iter().filter_map(|file| Some((file.root?, file.layer.as_ref()?)));
        encode_layers(bytes, known.map(|(root, layer)| (root, layer.lowest())));
    }

    /// The root of a file's merkle tree; `None` of an empty one.
    pub fn root(&self, file: FileIndex) -> Option<Sha256> {
        self.files.get(file.0 as usize)?.root
    }

    /// The hashes of the pieces of a file that has several, if they are known.
    pub fn layer(&self, file: FileIndex) -> Option<&[Sha256]> {
        self.tree(file).map(MerkleTree::lowest)
    }

    /// The tree over the hashes of a file's pieces, of which it has several, if these are known.
    pub(crate) fn tree(&self, file: FileIndex) -> Option<&MerkleTree> {
        self.files.get(file.0 as usize)?.layer.as_deref()
    }

    /// Files of several pieces whose hashes are not known.
    pub(crate) fn missing<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = FileIndex> + 'a {
        let files = self.files.iter().enumerate().map(|(index, hashes)| (FileIndex(index as u32), hashes));
        files
            .filter(|(file, hashes)| hashes.layer.is_none() && has_layer(layout, *file))
            .map(|(file, _)| file)
    }

    fn of_piece(&self, layout: &Layout, piece: PieceIndex) -> Option<PieceHash> {
        let file = layout.file_of_piece(piece)?;
        let hashes = self.files.get(file.0 as usize)?;
        let height = root_height(layout.file(file).length, layout.piece_length());
        if !has_layer(layout, file) {
            return Some(PieceHash::V2 { root: hashes.root?, height });
        }
        let number = piece.0 - layout.pieces_of_file(file).start;
        let root = *hashes.layer.as_ref()?.lowest().get(number as usize)?;
        Some(PieceHash::V2 { root, height })
    }
}

/// Refuses a layer of a file of one piece, which needs none, unless it is what the layer would be: the root itself, or that raised to the height
/// of a whole piece, as zeros behind the file would have it.
fn check_needless(
    root: Sha256,
    value: Value<'_>,
    layout: &Layout,
    file: FileIndex,
) -> Result<(), MetainfoError> {
    let key = || format!("{LAYERS}[{root}]");
    let hash = Sha256::of_bytes(string(&key(), value)?);
    let height = root_height(layout.file(file).length, layout.piece_length());
    let raised = root_at(&[root], height, piece_height(layout.piece_length()));
    match hash == Some(root) || hash == Some(raised) {
        true => Ok(()),
        false => Err(MetainfoError::at(key(), "not the hash of the one piece that the file has")),
    }
}

/// Whether a file has more than one piece, so that the root alone does not tell them apart.
fn has_layer(layout: &Layout, file: FileIndex) -> bool {
    layout.file(file).length > u64::from(layout.piece_length())
}

/// Writes `piece layers` (BEP 52), by root: files of the same content share one.
pub(super) fn encode_layers<'a>(bytes: &mut Vec<u8>, layers: impl Iterator<Item = (Sha256, &'a [Sha256])>) {
    let sorted: BTreeMap<Sha256, &[Sha256]> = layers.collect();
    bytes.push(b'd');
    for (root, layer) in sorted {
        bytes.extend(b"32:");
        bytes.extend(root.0);
        bytes.extend(format!("{}:", 32 * layer.len()).bytes());
        layer.iter().for_each(|hash| bytes.extend(hash.0));
    }
    bytes.push(b'e');
}
