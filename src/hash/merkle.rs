//! Merkle trees of files (BEP 52): SHA-256 of blocks of 16 KiB at the bottom, of pairs of hashes above.
//!
//! A layer is named by its height: 0 has the hashes of blocks (the leaves), and a hash of layer `h` stands for `2^h` blocks. Where a
//! file ends before its tree does, the leaves that are missing are zeros, so what is missing in layer `h` is
//! [`pad_hash`]`(h)`. Layers are kept and sent without what is missing at their end.
//!
//! Nothing here knows how long a file is: what a stranger says is to be compared with that before it comes here.

use std::sync::OnceLock;

use super::digest::{Digest, MessageBlock};
use super::kernel::Kernels;
use super::{LANES, Sha256, sha256_many};

/// Bytes in a block, the unit of the trees; the last block of a file may have less.
pub const MERKLE_BLOCK: usize = 16 << 10;

/// Layers above the leaves, the most that there can be: a file has less than 2^63 bytes.
pub const MAX_HEIGHT: u32 = 50;

/// The height of the tree of a file of so many blocks, and of the tree over any layer of so many hashes; 0 for none and for one.
pub fn tree_height(hashes: u64) -> u32 {
    // Above 2^63 there is no power of two, and no file either.
    hashes.checked_next_power_of_two().map_or(64, u64::ilog2)
}

/// The height of the piece layer: of the hashes that stand for `piece_length` bytes, a power of two from [`MERKLE_BLOCK`] on.
pub fn piece_height(piece_length: u32) -> u32 {
    (piece_length / MERKLE_BLOCK as u32).max(1).ilog2()
}

/// The height of the tree over a piece's blocks, of a file of so many bytes: that of the piece layer, or, where the file is one piece, of the
/// file's own tree, which is only as high as it has to be.
pub fn root_height(file_length: u64, piece_length: u32) -> u32 {
    match file_length > u64::from(piece_length) {
        true => piece_height(piece_length),
        false => tree_height(file_length.div_ceil(MERKLE_BLOCK as u64)),
    }
}

/// The hash in layer `height` that stands for blocks which the file does not have.
///
/// # Panics
///
/// If `height` is above [`MAX_HEIGHT`].
pub fn pad_hash(height: u32) -> Sha256 {
    static PADS: OnceLock<Vec<Sha256>> = OnceLock::new();
    let pads = PADS.get_or_init(|| {
        let zero = Sha256([0; 32]);
        std::iter::successors(Some(zero), |&pad| Some(parent(pad, pad)))
            .take(MAX_HEIGHT as usize + 1)
            .collect()
    });
    pads[height as usize]
}

/// The hash of each block of `data`, which begins with a block; the last may be short.
pub fn block_hashes(data: &[u8]) -> Vec<Sha256> {
    hash_each(data.chunks(MERKLE_BLOCK))
}

/// The hash of each of these blocks, side by side.
pub fn hash_each<'a>(blocks: impl Iterator<Item = &'a [u8]>) -> Vec<Sha256> {
    let blocks: Vec<[&[u8]; 1]> = blocks.map(|block| [block]).collect();
    let messages: Vec<&[&[u8]]> = blocks.iter().map(|block| &block[..]).collect();
    sha256_many(&messages)
}

/// The layer above `layer`, which has the height `height`.
pub fn parents(layer: &[Sha256], height: u32) -> Vec<Sha256> {
    parents_with(Kernels::chosen(), layer, height)
}

fn parents_with(kernels: Kernels, layer: &[Sha256], height: u32) -> Vec<Sha256> {
    let pair = |pair: &[Sha256]| joined(pair[0], pair.get(1).copied().unwrap_or_else(|| pad_hash(height)));
    let pairs: Vec<MessageBlock> = layer.chunks(2).map(pair).collect();
    hash_pairs(kernels, &pairs)
}

/// The hash of layer `top` that stands for `hashes`, which are all there are of layer `height` below it.
///
/// # Panics
///
/// If there are more than stand below one hash, or `top` is above [`MAX_HEIGHT`].
pub fn root_at(hashes: &[Sha256], height: u32, top: u32) -> Sha256 {
    assert!(
        top <= MAX_HEIGHT && height <= top && tree_height(hashes.len() as u64) <= top - height,
        "{} hashes of layer {height} below one of layer {top}",
        hashes.len()
    );
    let mut layer = std::borrow::Cow::Borrowed(hashes);
    for height in height..top {
        layer = parents(&layer, height).into();
    }
    layer.first().copied().unwrap_or_else(|| pad_hash(top))
}

/// The root of the tree of a file, by all hashes of its layer `height`: at least two, unless `height` is 0.
pub fn file_root(layer: &[Sha256], height: u32) -> Sha256 {
    root_at(layer, height, height + tree_height(layer.len() as u64))
}

/// Where a proof leads: the hash that stands above `hashes` (their number a power of two, the first of them number `index` in their
/// layer, `index` a multiple of their number) if `uncles` stand beside the way, from the lowest up. It is proved if this is the
/// hash that was known of the layer so far up; for a root, compare the number of uncles with [`uncles_to`] first.
///
/// `None` if there is no such number of hashes, or `index` is no multiple of it.
pub fn root_of_proof(hashes: &[Sha256], index: u64, uncles: &[Sha256]) -> Option<Sha256> {
    let length = hashes.len() as u64;
    if !length.is_power_of_two() || !index.is_multiple_of(length) {
        return None;
    }
    // Hashes beyond the end of the file are sent too, so the height does not matter: nothing is padded.
    let top = root_at(hashes, 0, tree_height(length));
    let step = |(hash, index): (Sha256, u64), &uncle: &Sha256| {
        let pair = if index % 2 == 0 { parent(hash, uncle) } else { parent(uncle, hash) };
        (pair, index / 2)
    };
    Some(uncles.iter().fold((top, index / length), step).0)
}

/// How many uncles prove `length` hashes (a power of two) of layer `base` by a hash of layer `top`; `None` if it is not above them.
pub fn uncles_to(base: u32, length: u64, top: u32) -> Option<u32> {
    top.checked_sub(base)?.checked_sub(tree_height(length))
}

/// Layers above the lowest that a [`MerkleTree`] does not keep: 512 hashes stand below each one that it keeps of the next.
const NOT_KEPT: u32 = 9;

/// Hashes of the lowest layer that stand below one of [`MerkleTree`]'s upper ones.
pub const MERKLE_SPAN: usize = 1 << NOT_KEPT;

/// The tree over all hashes of one layer of a file, to prove them by. It takes the memory of that layer, and 2/512 of that: what stands
/// between is hashed when it is wanted, which is 512 hashes for a proof at the most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MerkleTree {
    base: u32,
    /// The lowest layer.
    layer: Vec<Sha256>,
    /// The layers from [`NOT_KEPT`] above that on, from the lowest up; the last has one hash, the root. None if the tree is lower.
    upper: Vec<Vec<Sha256>>,
}

impl MerkleTree {
    /// The tree over all hashes of a file's layer `base`; at least one.
    ///
    /// # Panics
    ///
    /// If there is none, or the layer is too high for so many.
    pub fn new(layer: Vec<Sha256>, base: u32) -> MerkleTree {
        let spans = match tree_height(layer.len() as u64) < NOT_KEPT {
            true => Vec::new(),
            false => layer.chunks(MERKLE_SPAN).map(|span| root_at(span, base, base + NOT_KEPT)).collect(),
        };
        MerkleTree::with_spans(layer, base, spans)
    }

    /// [`MerkleTree::new`] where it is known already what stands above each [`MERKLE_SPAN`] hashes; where there are so few that the tree is
    /// lower than that, it does not matter.
    pub fn with_spans(layer: Vec<Sha256>, base: u32, spans: Vec<Sha256>) -> MerkleTree {
        assert!(!layer.is_empty(), "a tree over nothing");
        let mut upper = Vec::new();
        if tree_height(layer.len() as u64) >= NOT_KEPT {
            upper.push(spans);
        }
        let mut height = base + NOT_KEPT;
        while let Some(last) = upper.last().filter(|last| last.len() > 1) {
            let next = parents(last, height);
            upper.push(next);
            height += 1;
        }
        MerkleTree { base, layer, upper }
    }

    /// All hashes of the lowest layer.
    pub fn lowest(&self) -> &[Sha256] {
        &self.layer
    }

    /// The root.
    pub fn root(&self) -> Sha256 {
        match self.upper.last() {
            Some(top) => top[0],
            None => file_root(&self.layer, self.base),
        }
    }

    /// The height of the root.
    pub fn height(&self) -> u32 {
        self.base + tree_height(self.layer.len() as u64)
    }

    /// The hash number `index` of layer `height`; what stands for no data where the file is shorter. `None` outside of the tree.
    pub fn hash(&self, height: u32, index: u64) -> Option<Sha256> {
        let above = height.checked_sub(self.base).filter(|_| height <= self.height())?;
        if index >= 1 << (self.height() - height) {
            return None;
        }
        let index = usize::try_from(index).ok()?;
        if above >= NOT_KEPT {
            let layer = self.upper.get((above - NOT_KEPT) as usize)?;
            return Some(layer.get(index).copied().unwrap_or_else(|| pad_hash(height)));
        }
        let (begin, end) = (index << above, (index + 1) << above);
        let below = self.layer.get(begin..end.min(self.layer.len())).unwrap_or_default();
        Some(root_at(below, self.base, height))
    }

    /// What answers a request for hashes of the lowest layer (BEP 52): `length` of them from `index` on, and after them the uncles that
    /// prove them. Of `proof_layers` ancestor layers those below the first uncle count too, though nothing is sent for them.
    ///
    /// `None` if they are not in the tree, `length` is no power of two from 2 on, or `index` no multiple of it. (Bound `length`
    /// before: as many hashes are made.)
    pub fn answer(&self, index: u64, length: u64, proof_layers: u32) -> Option<Vec<Sha256>> {
        if length < 2 || !length.is_power_of_two() || !index.is_multiple_of(length) {
            return None;
        }
        let mut hashes = (index..index.checked_add(length)?)
            .map(|at| self.hash(self.base, at))
            .collect::<Option<Vec<_>>>()?;
        hashes.extend(self.uncles(
            self.base + tree_height(length),
            index / length,
            proof_layers_end(self.base, proof_layers),
        )?);
        Some(hashes)
    }

    /// What stands beside the way up from the hash number `index` of layer `height`, below layer `end`.
    pub fn uncles(&self, height: u32, index: u64, end: u32) -> Option<Vec<Sha256>> {
        (height..end.min(self.height()))
            .map(|layer| self.hash(layer, index >> (layer - height) ^ 1))
            .collect()
    }
}

/// The layer at which a proof ends that begins with hashes of layer `base`.
fn proof_layers_end(base: u32, proof_layers: u32) -> u32 {
    base.saturating_add(proof_layers).saturating_add(1)
}

/// Two hashes side by side: what the one above them is the hash of.
fn joined(left: Sha256, right: Sha256) -> MessageBlock {
    let mut pair = [0; 64];
    pair[..32].copy_from_slice(&left.0);
    pair[32..].copy_from_slice(&right.0);
    pair
}

fn parent(left: Sha256, right: Sha256) -> Sha256 {
    super::sha256(&joined(left, right))
}

/// The hash of each pair.
fn hash_pairs(kernels: Kernels, mut pairs: &[MessageBlock]) -> Vec<Sha256> {
    // What ends every message of 64 bytes (FIPS 180-4, 5.1.1): a bit, and the length in bits.
    const PADDING: [MessageBlock; 1] = {
        let mut block = [0; 64];
        block[0] = 0x80;
        block[62] = 2;
        [block]
    };
    let mut hashes = Vec::with_capacity(pairs.len());
    while !pairs.is_empty() {
        let (group, others) = pairs.split_at(Sha256::group(kernels, pairs.len().min(LANES)));
        let mut states = [Sha256::INITIAL; LANES];
        let states = &mut states[..group.len()];
        let mut runs: [&[MessageBlock]; LANES] = [&PADDING; LANES];
        for (run, pair) in runs.iter_mut().zip(group) {
            *run = std::slice::from_ref(pair);
        }
        Sha256::compress(kernels, states, &runs[..group.len()]);
        Sha256::compress(kernels, states, &[&PADDING[..]; LANES][..group.len()]);
        hashes.extend(states.iter().map(Sha256::from_state));
        pairs = others;
    }
    hashes
}

#[cfg(test)]
mod tests;
