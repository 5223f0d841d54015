//! Weights of pieces: heavy before light, rare before common among equals.

use std::time::Duration;

use super::super::SwarmConfig;
use super::sim::{Sim, Spec};
use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;

const MIB: f64 = 1024.0 * 1024.0;

/// A seed, four that have all but whole multiples of `rare`, and a leecher whose pieces weigh
/// `weights`: what it verified, in order.
fn weighted_download(seed: u64, weights: Vec<u32>, rare: u32) -> Vec<u32> {
    let pieces = weights.len() as u32;
    let mut sim = Sim::new(seed, 64 << 10, u64::from(pieces) * (64 << 10));
    sim.add(Spec::seed(MIB));
    for _ in 0..4 {
        let common = move |config: &mut SwarmConfig| {
            let mut have = Bitfield::full(pieces);
            (0..pieces).filter(|piece| piece % rare == 0).for_each(|piece| {
                have.remove(PieceIndex(piece));
            });
            config.wanted = have.clone();
            config.have = have;
        };
        sim.add_with(Spec::leecher(MIB), common);
    }
    let late = Spec { joins: Duration::from_secs(5), down: 2.0 * MIB, ..Spec::leecher(MIB) };
    let leecher = sim.add_with(late, |config| config.weights = weights);
    sim.run_until(Duration::from_secs(600), |sim| sim.nodes[leecher].done_at.is_some());
    sim.nodes[leecher].passed.iter().map(|piece| piece.0).collect()
}

/// The average place of some among `order`, as a part of the whole.
fn place_of(order: &[u32], is_meant: impl Fn(u32) -> bool) -> f64 {
    let places: Vec<usize> = (0..order.len()).filter(|&place| is_meant(order[place])).collect();
    places.iter().sum::<usize>() as f64 / places.len() as f64 / order.len() as f64
}

#[test]
fn a_file_that_weighs_a_thousand_times_more_is_there_before_the_others_begin() {
    for seed in 0..5 {
        let weights: Vec<u32> = (0..1600).map(|piece| if piece >= 1000 { 1000 } else { 1 }).collect();
        let order = weighted_download(seed, weights, 1600);
        let heavy_first = order.iter().take_while(|&&piece| piece >= 1000).count();
        // The last heavy ones are under way while the first of the others are.
        assert!(heavy_first >= 570, "seed {seed}: {heavy_first} of 600");
    }
}

#[test]
fn among_pieces_of_one_weight_the_rarest_come_first() {
    for seed in 0..5 {
        let weights: Vec<u32> = (0..800).map(|piece| if piece >= 400 { 1000 } else { 1 }).collect();
        let order = weighted_download(seed, weights, 20);
        for is_heavy in [true, false] {
            let alike: Vec<u32> = order.iter().copied().filter(|&piece| (piece >= 400) == is_heavy).collect();
            let place = place_of(&alike, |piece| piece % 20 == 0);
            assert!(place < 0.25, "seed {seed}: heavy {is_heavy}: {place:.2}");
        }
    }
}
