//! Many clients in one network.

use std::time::Duration;

use super::sim::{Sim, Spec};
use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;
use crate::swarm::Config;

const MIB: f64 = 1024.0 * 1024.0;

/// The least time in which fluid could reach the last of `leechers`.
fn fluid_bound(size: u64, seed_up: f64, leechers: &[f64]) -> f64 {
    let total = size as f64 * leechers.len() as f64;
    (size as f64 / seed_up).max(total / (seed_up + leechers.iter().sum::<f64>()))
}

fn crowd(seed: u64, size: u64, seed_up: f64, leechers: &[f64]) -> Sim {
    let mut sim = Sim::new(seed, 256 << 10, size);
    sim.add(Spec::seed(seed_up));
    for &up in leechers {
        sim.add(Spec::leecher(up));
    }
    sim
}

fn assert_near_the_bound(seed: u64, size: u64, seed_up: f64, leechers: &[f64]) {
    let mut sim = crowd(seed, size, seed_up, leechers);
    let bound = fluid_bound(size, seed_up, leechers);
    let last = sim.run_to_the_end(Duration::from_secs_f64(bound * 4.0)).as_secs_f64();
    let mut done: Vec<f64> =
        sim.nodes.iter().skip(1).map(|node| node.done_at.unwrap().as_secs_f64()).collect();
    done.sort_by(f64::total_cmp);
    let wasted: u64 = sim.nodes.iter().map(|node| node.swarm.totals(std::time::Instant::now()).wasted).sum();
    eprintln!(
        "seed {seed}: bound {bound:.1} first {:.1} median {:.1} last {last:.1} ratio {:.2}, {} events, wasted {:.4}, seed up {:.2}",
        done[0],
        done[done.len() / 2],
        last / bound,
        sim.events,
        wasted as f64 / size as f64 / leechers.len() as f64,
        sim.nodes[0].swarm.uploaded as f64 / size as f64,
    );
    assert!(last <= 1.5 * bound, "seed {seed}: {last:.1} s, the bound is {bound:.1} s");
}

#[test]
fn two_hundred_alike_finish_near_the_fluid_bound() {
    assert_near_the_bound(1, 64 << 20, 8.0 * MIB, &[MIB; 200]);
}

#[test]
fn two_hundred_of_all_speeds_finish_near_the_fluid_bound() {
    let speeds: Vec<f64> = (0..200).map(|i| MIB * [0.25, 0.5, 1.0, 2.25][i % 4]).collect();
    assert_near_the_bound(2, 64 << 20, 4.0 * MIB, &speeds);
}

#[test]
fn two_hundred_behind_a_slow_seed_finish_near_the_fluid_bound() {
    assert_near_the_bound(3, 64 << 20, 0.75 * MIB, &[MIB; 200]);
}

/// Three seeds, a leecher whose pieces weigh `weights`, and what it verified, in order.
fn weighted_download(seed: u64, weights: Vec<u32>, rare: u32) -> Vec<u32> {
    let pieces = weights.len() as u32;
    let mut sim = Sim::new(seed, 64 << 10, u64::from(pieces) * (64 << 10));
    sim.add(Spec::seed(MIB));
    for _ in 0..4 {
        // What is not a multiple of `rare`, everybody has.
        let common = move |config: &mut Config| {
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
