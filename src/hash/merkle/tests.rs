use super::*;
use crate::hash::{Kernel, sha256};
use proptest::prelude::*;

/// As the standard words it: all leaves, padded with zeros to a power of two of `height` at least, and up. All layers.
fn naive(leaves: &[Sha256], height: u32) -> Vec<Vec<Sha256>> {
    let mut layer = leaves.to_vec();
    layer.resize(leaves.len().next_power_of_two().max(1 << height), Sha256([0; 32]));
    let mut layers = vec![layer];
    while layers[layers.len() - 1].len() > 1 {
        let pairs = layers[layers.len() - 1].chunks(2);
        let next = pairs.map(|pair| sha256(&[pair[0].0, pair[1].0].concat())).collect();
        layers.push(next);
    }
    layers
}

fn naive_root(leaves: &[Sha256], height: u32) -> Sha256 {
    naive(leaves, height).last().unwrap()[0]
}

fn leaves(count: usize, seed: u64) -> Vec<Sha256> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| Sha256(std::array::from_fn(|_| random.u8(..)))).collect()
}

#[test]
fn heights_are_those_of_the_next_power_of_two() {
    let heights = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 49, 49), ((1 << 49) + 1, 50)];
    for (hashes, height) in heights {
        assert_eq!(tree_height(hashes), height, "{hashes}");
    }
    assert_eq!(tree_height(u64::MAX), 64);
    assert_eq!([16 << 10, 32 << 10, 16 << 20].map(piece_height), [0, 1, 10]);
    let files = [1, 16_384, 16_385, 60_000, 65_536, 65_537, 1 << 40];
    assert_eq!(files.map(|length| root_height(length, 65_536)), [0, 0, 1, 2, 2, 2, 2]);
}

#[test]
fn what_is_missing_is_made_of_zeros() {
    assert_eq!(pad_hash(0), Sha256([0; 32]));
    for height in 0..8 {
        assert_eq!(pad_hash(height), naive_root(&[], height));
    }
    pad_hash(MAX_HEIGHT);
}

#[test]
fn blocks_are_hashed_one_by_one_and_the_last_may_be_short() {
    let data: Vec<u8> = (0..3 * MERKLE_BLOCK + 5).map(|i| (i / 7) as u8).collect();
    let expected: Vec<Sha256> = data.chunks(MERKLE_BLOCK).map(sha256).collect();
    assert_eq!(block_hashes(&data), expected);
    assert_eq!(block_hashes(&[]), []);
}

#[test]
fn every_kernel_hashes_any_number_of_pairs() {
    for kernels in Kernel::available().into_iter().filter_map(Kernels::only).chain([Kernels::detect()]) {
        for count in 0..=70 {
            let layer = leaves(count, 1);
            let pair = |pair: &[Sha256]| naive_root(pair, 1);
            let expected: Vec<Sha256> = layer.chunks(2).map(pair).collect();
            assert_eq!(parents_with(kernels, &layer, 0), expected, "{kernels:?}, {count} hashes");
        }
    }
}

#[test]
fn a_tree_of_one_block_is_its_hash() {
    let one = leaves(1, 2);
    assert_eq!(file_root(&one, 0), one[0]);
    assert_eq!(MerkleTree::new(one.clone(), 0).root(), one[0]);
    assert_eq!(root_of_proof(&one, 7, &[]), Some(one[0]));
}

#[test]
#[should_panic = "3 hashes of layer 1 below one of layer 2"]
fn more_hashes_than_stand_below_one_are_refused() {
    root_at(&leaves(3, 3), 1, 2);
}

#[test]
fn proofs_of_what_is_not_aligned_are_none() {
    let (tree, some) = (MerkleTree::new(leaves(9, 4), 0), leaves(4, 4));
    assert_eq!(root_of_proof(&some, 2, &[]), None);
    assert_eq!(root_of_proof(&some[..3], 0, &[]), None);
    assert_eq!(root_of_proof(&[], 0, &[]), None);
    for (index, length) in [(0, 0), (0, 1), (0, 3), (2, 4), (16, 2), (0, 32), (u64::MAX - 1, 2)] {
        assert_eq!(tree.answer(index, length, 9), None, "{length} from {index}");
    }
    // All of a layer, and the pads behind it, need no uncle.
    assert_eq!(tree.answer(0, 16, u32::MAX - 9).map(|hashes| hashes.len()), Some(16));
}

proptest! {
    #[test]
    fn roots_and_piece_layers_are_those_of_the_naive_tree(count in 1usize..600, piece in 0u32..6, seed: u64) {
        let leaves = leaves(count, seed);
        prop_assert_eq!(file_root(&leaves, 0), naive_root(&leaves, 0));
        let pieces: Vec<Sha256> = leaves.chunks(1 << piece).map(|leaves| root_at(leaves, 0, piece)).collect();
        if pieces.len() > 1 {
            let layer = &naive(&leaves, 0)[piece as usize];
            prop_assert_eq!(&pieces[..], &layer[..pieces.len()]);
            prop_assert!(layer[pieces.len()..].iter().all(|&hash| hash == pad_hash(piece)));
            prop_assert_eq!(file_root(&pieces, piece), naive_root(&leaves, 0));
        }
    }

    #[test]
    fn every_hash_of_a_tree_is_that_of_the_naive_one(
        count in prop_oneof![1usize..40, 250usize..260, 500usize..520, 1000usize..1600], seed: u64
    ) {
        let layer = leaves(count, seed);
        let tree = MerkleTree::new(layer.clone(), 0);
        let naive = naive(&layer, 0);
        prop_assert_eq!(tree.height() as usize, naive.len() - 1);
        for (height, layer) in (0..).zip(&naive) {
            for (index, hash) in (0..).zip(layer) {
                prop_assert_eq!(tree.hash(height, index), Some(*hash), "{} of layer {}", index, height);
            }
            prop_assert_eq!(tree.hash(height, layer.len() as u64), None);
        }
        prop_assert_eq!(tree.hash(tree.height() + 1, 0), None);
        let spans: Vec<Sha256> = layer.chunks(512).map(|span| naive_root(span, 9)).collect();
        prop_assert_eq!(MerkleTree::with_spans(layer, 0, spans), tree);
    }

    #[test]
    fn what_a_tree_answers_is_proved_by_its_root_and_nothing_else_is(
        count in prop_oneof![2usize..300, 500usize..2000], base in 0u32..4, run in 1u32..6, at: u64, liar: prop::sample::Index, seed: u64
    ) {
        let layer = leaves(count, seed);
        let tree = MerkleTree::new(layer.clone(), base);
        prop_assert_eq!(tree.root(), file_root(&layer, base));
        let length = 1u64 << run.min(tree.height() - base);
        let index = at % ((1 << (tree.height() - base)) / length) * length;
        let proof_layers = tree.height() - base - 1;
        let answer = tree.answer(index, length, proof_layers).unwrap();
        let (hashes, uncles) = answer.split_at(length as usize);
        prop_assert_eq!(uncles_to(base, length, tree.height()), Some(uncles.len() as u32));
        prop_assert_eq!(root_of_proof(hashes, index, uncles), Some(tree.root()));
        // A part of the proof leads to the hash of the layer that it reaches.
        for proof_layers in 0..proof_layers {
            let part = tree.answer(index, length, proof_layers).unwrap();
            let uncles = &part[length as usize..];
            let reached = base + tree_height(length) + uncles.len() as u32;
            let known = tree.hash(reached, index >> (reached - base));
            prop_assert_eq!(root_of_proof(hashes, index, uncles), known);
        }
        let mut lie = answer.clone();
        let place = liar.index(lie.len());
        lie[place].0[at as usize % 32] ^= 1;
        let (hashes, uncles) = lie.split_at(length as usize);
        prop_assert_ne!(root_of_proof(hashes, index, uncles), Some(tree.root()));
    }
}
