//! Many clients in one network.

use std::time::Duration;

use super::sim::{Sim, Spec};

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
