//! How pieces are hashed side by side while they are read: whole by SHA-1 (BEP 3), or block by block by SHA-256, for
//! the merkle trees of version 2 (BEP 52).

use std::sync::OnceLock;

use crate::hash::merkle::hash_each;
use crate::hash::{self, MultiSha1, Sha1, Sha256, sha1_many};
use crate::layout::{BLOCK_LENGTH, PieceIndex};
use crate::metainfo::{Metainfo, PieceHash};

const BLOCK: usize = BLOCK_LENGTH as usize;
/// Bytes in a page of memory.
const PAGE: usize = 4096;

/// What is known of a piece once it has been read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PieceDigest {
    /// Of the whole piece.
    Sha1(Sha1),
    /// Of each of its blocks.
    Leaves(Vec<Sha256>),
}

impl PieceDigest {
    /// Whether `piece` has it.
    pub(super) fn is_of(&self, metainfo: &Metainfo, piece: PieceIndex) -> bool {
        match (self, metainfo.piece_hash(piece)) {
            (PieceDigest::Sha1(found), Some(PieceHash::V1 { hash, .. })) => *found == hash,
            (PieceDigest::Leaves(leaves), Some(hash @ PieceHash::V2 { .. })) => hash.is_over(leaves),
            _ => false,
        }
    }
}

/// The greatest number of bytes up to `most` that is read at once of each piece: whole pages, so that no lane is fed in
/// odd ends, and for trees whole blocks.
pub(super) fn step(most: usize, metainfo: &Metainfo) -> usize {
    match metainfo.piece_hashes.are_trees() {
        true => (most / BLOCK * BLOCK).max(BLOCK),
        false => most / PAGE * PAGE,
    }
}

/// Pieces of one torrent that are hashed side by side.
#[derive(Debug)]
pub(super) enum LaneHashes {
    Sha1(MultiSha1),
    Leaves(Vec<Vec<Sha256>>),
}

impl LaneHashes {
    pub(super) fn new(lanes: usize, metainfo: &Metainfo) -> LaneHashes {
        match metainfo.piece_hashes.are_trees() {
            true => LaneHashes::Leaves(vec![Vec::new(); lanes]),
            false => LaneHashes::Sha1(MultiSha1::new(lanes)),
        }
    }

    /// Takes the next bytes of each piece: for trees whole blocks, but at the end of the piece.
    pub(super) fn update(&mut self, chunks: &[&[u8]]) {
        let lanes = match self {
            LaneHashes::Sha1(hashes) => return hashes.update(chunks),
            LaneHashes::Leaves(lanes) => lanes,
        };
        let mut digests = hash_each(chunks.iter().flat_map(|chunk| chunk.chunks(BLOCK))).into_iter();
        for (lane, chunk) in lanes.iter_mut().zip(chunks) {
            lane.extend(digests.by_ref().take(chunk.len().div_ceil(BLOCK)));
        }
    }

    /// Ends all pieces, each followed by so many `zeros` where it is hashed whole.
    pub(super) fn finish(self, zeros: &[u32]) -> Vec<PieceDigest> {
        match self {
            LaneHashes::Sha1(mut hashes) => {
                let most = zeros.iter().max().map_or(0, |&most| most as usize);
                for begin in (0..most).step_by(BLOCK) {
                    let left = |all: &u32| (*all as usize).saturating_sub(begin).min(BLOCK);
                    let chunks: Vec<&[u8]> =
                        zeros.iter().map(|all| hash::zeros(left(all)).next().unwrap_or_default()).collect();
                    hashes.update(&chunks);
                }
                hashes.finish().into_iter().map(PieceDigest::Sha1).collect()
            }
            LaneHashes::Leaves(lanes) => lanes.into_iter().map(PieceDigest::Leaves).collect(),
        }
    }
}

/// The digest of pieces that are all zeros; that of a whole piece is kept.
#[derive(Debug, Default)]
pub(super) struct Zeros {
    whole: OnceLock<PieceDigest>,
}

impl Zeros {
    /// What the digest of `piece` would be if it were all zeros.
    pub(super) fn digest(&self, metainfo: &Metainfo, piece: PieceIndex) -> PieceDigest {
        let layout = &metainfo.layout;
        let (size, is_tree) = (layout.piece_size(piece), metainfo.piece_hashes.are_trees());
        // To SHA-1 the zeros behind the bytes are bytes.
        let size = if is_tree { size } else { size + layout.zeros_behind(piece) };
        match size == layout.piece_length() {
            true => self.whole.get_or_init(|| digest_of_zeros(size as usize, is_tree)).clone(),
            false => digest_of_zeros(size as usize, is_tree),
        }
    }
}

fn digest_of_zeros(length: usize, is_tree: bool) -> PieceDigest {
    if !is_tree {
        return PieceDigest::Sha1(sha1_many(&[&hash::zeros(length).collect::<Vec<_>>()])[0]);
    }
    let whole = hash_each(hash::zeros(BLOCK))[0];
    let mut leaves = vec![whole; length / BLOCK];
    leaves.extend(hash_each(hash::zeros(length % BLOCK)));
    PieceDigest::Leaves(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_the_hash_of_zeros() {
        for length in [0, 1, 16383, 16384, 16385, 100_000] {
            let zeros = vec![0; length];
            let whole = PieceDigest::Sha1(crate::hash::sha1(&zeros));
            assert_eq!(digest_of_zeros(length, false), whole);
            let leaves = zeros.chunks(BLOCK).map(crate::hash::sha256).collect();
            assert_eq!(digest_of_zeros(length, true), PieceDigest::Leaves(leaves));
        }
    }
}
