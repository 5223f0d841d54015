//! Many clients in one network.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::Input;
use super::sim::{Faults, Sim, Spec, address_of};
use crate::event::State;
use crate::finder::announce::AnnounceEvent;
use crate::layout::Layout;

const MIB: f64 = 1024.0 * 1024.0;
const PIECE: u32 = 256 << 10;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The least time in which fluid could reach the last of `leechers`.
fn fluid_bound(size: u64, seed_up: f64, leechers: &[f64]) -> f64 {
    let total = size as f64 * leechers.len() as f64;
    (size as f64 / seed_up).max(total / (seed_up + leechers.iter().sum::<f64>()))
}

fn crowd(seed: u64, size: u64, seed_up: f64, leechers: &[f64]) -> Sim {
    let mut sim = Sim::new(seed, PIECE, size);
    sim.add(Spec::seed(seed_up));
    for &up in leechers {
        sim.add(Spec::leecher(up));
    }
    sim
}

fn uploaded(sim: &Sim, node: usize) -> f64 {
    sim.nodes[node].swarm().uploaded as f64
}

/// What leechers got and did not need, of all they needed.
fn wasted(sim: &Sim) -> f64 {
    let wasted: u64 = sim.nodes.iter().map(|node| node.swarm().wasted).sum();
    let leechers = sim.nodes.iter().filter(|node| !node.spec.complete).count();
    wasted as f64 / leechers as f64 / sim.layout.total() as f64
}

fn assert_near_the_bound(seed: u64, size: u64, seed_up: f64, leechers: &[f64]) {
    let mut sim = crowd(seed, size, seed_up, leechers);
    let bound = fluid_bound(size, seed_up, leechers);
    let last = sim.run_to_the_end(Duration::from_secs_f64(bound * 4.0)).as_secs_f64();
    assert!(last <= 1.5 * bound, "seed {seed}: {last:.1} s, the bound is {bound:.1} s");
    assert!(wasted(&sim) < 0.04, "seed {seed}: {:.3} wasted", wasted(&sim));
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

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed| {
        let mut sim = crowd(seed, 8 << 20, MIB, &[MIB; 20]);
        sim.nodes[7].spec.faults.corrupt = 50;
        let end = sim.run_to_the_end(seconds(300));
        (sim.trace, sim.events, end)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

#[test]
fn a_limited_seed_with_eight_leechers_uploads_less_than_twice_the_data() {
    for seed in 10..14 {
        let size = 64 << 20;
        let mut sim = crowd(seed, size, 2.0 * MIB, &[20.0 * MIB; 8]);
        let end = sim.run_to_the_end(seconds(300));
        let copies = uploaded(&sim, 0) / size as f64;
        assert!(copies < 1.7, "seed {seed}: {copies:.2} copies in {end:?}");
    }
}

#[test]
fn leavers_and_joiners_do_not_keep_the_others_from_finishing() {
    for seed in 20..23 {
        let mut sim = crowd(seed, 32 << 20, 2.0 * MIB, &[MIB; 30]);
        for i in 0..30 {
            let joins = seconds(i);
            let leaves = Some(seconds(5 + 2 * i));
            sim.add(Spec { joins, leaves, ..Spec::leecher(MIB) });
            sim.add(Spec { joins, ..Spec::leecher(0.5 * MIB) });
        }
        sim.run_to_the_end(seconds(300));
    }
}

#[test]
fn liars_are_banned_and_nobody_else_is() {
    for seed in 30..33 {
        let mut sim = crowd(seed, 16 << 20, 2.0 * MIB, &[MIB; 20]);
        let mut liars: BTreeSet<usize> = BTreeSet::new();
        for corrupt in [1000, 300, 30] {
            let faults = Faults { corrupt, ..Faults::default() };
            liars.insert(sim.add(Spec { faults, ..Spec::seed(2.0 * MIB) }));
        }
        let end = sim.run_to_the_end(seconds(300)).as_secs_f64();
        let machines: BTreeSet<_> = liars.iter().map(|&liar| address_of(liar).ip()).collect();
        let banned: BTreeSet<_> = sim.nodes.iter().flat_map(|node| &node.bans).map(SocketAddr::ip).collect();
        assert_eq!(banned, machines, "seed {seed}");
        for (number, node) in sim.nodes.iter().enumerate() {
            let for_good = |&liar: &SocketAddr| sim.is_banned_for_good(number, liar);
            assert!(node.bans.iter().all(for_good), "seed {seed}: there are others");
        }
        assert!(end < 60.0, "seed {seed}: {end}");
    }
}

#[test]
fn peers_that_are_silent_refuse_choke_or_babble_cost_little() {
    let plain = |seed| crowd(seed, 32 << 20, 2.0 * MIB, &[MIB; 12]);
    for seed in 40..42 {
        let alone = plain(seed).run_to_the_end(seconds(300)).as_secs_f64();
        let mut sim = plain(seed);
        for _ in 0..4 {
            for faults in [
                Faults { silent: true, ..Faults::default() },
                Faults { refuses: true, ..Faults::default() },
                Faults { unasked: true, ..Faults::default() },
            ] {
                sim.add(Spec { faults, ..Spec::seed(0.2 * MIB) });
            }
            sim.add(Spec { slots: 0, ..Spec::seed(MIB) });
        }
        let end = sim.run_to_the_end(seconds(300)).as_secs_f64();
        assert!(end < 1.15 * alone + 3.0, "seed {seed}: {end:.1} s, alone {alone:.1} s");
        assert!(sim.nodes.iter().all(|node| node.bans.is_empty()), "seed {seed}");
    }
}

#[test]
fn one_far_seed_fills_a_fast_path() {
    let mut sim = Sim::new(50, 1 << 20, 1 << 30);
    (sim.latency, sim.tcp_window) = ((50, 50), 64 << 20);
    sim.add(Spec::seed(125e6));
    let disk = Duration::from_millis(2);
    sim.add(Spec { disk, ..Spec::leecher(125e6) });
    let end = sim.run_to_the_end(seconds(60)).as_secs_f64();
    let best = sim.layout.total() as f64 / 125e6;
    assert!(end < best + 1.5, "{end:.2} s, at full rate it is {best:.2} s");
    assert!(wasted(&sim) < 0.001);
}

#[test]
fn a_slow_disk_slows_the_download_to_its_pace_and_no_more() {
    let mut sim = Sim::new(51, 1 << 20, 128 << 20);
    sim.tcp_window = 16 << 20;
    sim.add(Spec::seed(125e6));
    let disk = Duration::from_millis(400);
    sim.add(Spec { disk, ..Spec::leecher(125e6) });
    let end = sim.run_to_the_end(seconds(60)).as_secs_f64();
    // Sixteen pieces at a time, 0.4 s each time.
    assert!(end < 8.0 * 0.4 + 1.5, "{end:.2} s");
}

#[test]
fn the_end_does_not_wait_for_slow_peers() {
    for seed in 60..63 {
        let mut sim = Sim::new(seed, PIECE, 32 << 20);
        for _ in 0..4 {
            sim.add(Spec::seed(MIB));
        }
        for _ in 0..10 {
            sim.add(Spec::seed(4096.0));
        }
        sim.add(Spec { down: 40.0 * MIB, ..Spec::leecher(MIB) });
        let end = sim.run_to_the_end(seconds(100)).as_secs_f64();
        assert!(end < 10.0, "seed {seed}: {end:.1} s instead of 8");
        assert!(wasted(&sim) < 0.03, "seed {seed}: {:.3} wasted", wasted(&sim));
    }
}

#[test]
fn old_clients_without_extensions_are_peers_like_others() {
    let mut sim = crowd(70, 16 << 20, 2.0 * MIB, &[MIB; 10]);
    for _ in 0..10 {
        sim.add(Spec { modern: false, ..Spec::leecher(MIB) });
    }
    let end = sim.run_to_the_end(seconds(100)).as_secs_f64();
    assert!(end < 32.0, "{end}");
}

#[test]
fn dead_addresses_do_not_keep_us_from_the_living() {
    let mut sim = crowd(71, 16 << 20, 4.0 * MIB, &[MIB; 4]);
    sim.dead = (0..60).map(|n| SocketAddr::from(([172, 16, 0, n], 6881))).collect();
    let end = sim.run_to_the_end(seconds(100)).as_secs_f64();
    assert!(end < 32.0, "{end}");
    for node in &sim.nodes {
        let dead = node.dials.iter().filter(|(_, address)| sim.dead.contains(address));
        assert!(dead.count() <= 60 * 3);
    }
}

#[test]
fn a_stopped_swarm_has_told_everybody_and_one_that_was_paused_goes_on() {
    let mut sim = crowd(72, 16 << 20, 4.0 * MIB, &[MIB; 4]);
    sim.run_for(seconds(3));
    sim.input(2, Input::Enter(State::Paused));
    sim.run_for(seconds(2));
    let before = sim.nodes[2].passed.len();
    sim.run_for(seconds(20));
    assert_eq!(sim.nodes[2].passed.len(), before);
    assert!(!sim.nodes[2].swarm().is_complete());
    sim.input(2, Input::Enter(State::Started));
    sim.run_to_the_end(seconds(100));
    for node in 0..5 {
        sim.input(node, Input::Enter(State::Stopped));
    }
    sim.run_for(seconds(5));
    for node in &sim.nodes {
        assert_eq!(node.announces.first(), Some(&Some(AnnounceEvent::Started)));
        assert_eq!(node.announces.last(), Some(&Some(AnnounceEvent::Stopped)));
        let completed = node.announces.contains(&Some(AnnounceEvent::Completed));
        assert_eq!(completed, !node.spec.complete);
        assert!(node.transfer.finder().announcer().is_stopped() && node.transfer.deadline().is_none());
    }
}

#[test]
fn seeds_among_themselves_part_and_sleep() {
    let mut sim = Sim::new(73, PIECE, 16 << 20);
    for _ in 0..30 {
        sim.add(Spec::seed(MIB));
    }
    sim.run_for(seconds(3600));
    for node in &sim.nodes {
        assert!(node.dials.len() <= 30 * 4, "{} calls in an hour", node.dials.len());
        assert!(node.wakes < 400, "{} wakes in an hour", node.wakes);
    }
}

#[test]
fn rare_pieces_spread_before_their_one_owner_has_given_all() {
    // Half of what the seed gives early must be new to the swarm.
    let mut sim = crowd(74, 32 << 20, 0.5 * MIB, &[MIB; 30]);
    sim.run_for(seconds(40));
    let mut there = crate::bitfield::Bitfield::new(sim.layout.num_pieces());
    for node in &sim.nodes[1..] {
        for piece in node.swarm().have().iter() {
            there.insert(piece);
        }
    }
    let copies = uploaded(&sim, 0) / (f64::from(there.count()) * f64::from(PIECE));
    assert!(copies < 2.0, "{copies:.2} copies of {} pieces", there.count());
}

#[test]
fn behind_a_slow_seed_the_last_is_done_soon_after_the_seed_has_given_all_once() {
    for (seed, seed_up, up, leechers) in [(80, 1.0, 1.0, 50), (81, 2.0, 2.0, 20), (82, 0.5, 2.0, 60)] {
        assert_near_the_bound(seed, 48 << 20, seed_up * MIB, &vec![up * MIB; leechers]);
    }
}

#[test]
fn a_torrent_whose_files_have_pieces_of_their_own_reaches_everybody_near_the_fluid_bound() {
    // As in version 2: most pieces are short, and behind each file is a gap.
    let mut rng = fastrand::Rng::with_seed(52);
    let lengths: Vec<u64> = (0..300).map(|_| rng.u64(0..3 * u64::from(PIECE) / 2)).collect();
    let layout = Arc::new(Layout::aligned(PIECE, lengths, true).unwrap());
    let (size, ups) = (layout.total(), [MIB; 30]);
    let mut sim = Sim::new(52, PIECE, size);
    sim.layout = layout;
    sim.add(Spec::seed(4.0 * MIB));
    for up in ups {
        sim.add(Spec::leecher(up));
    }
    let bound = fluid_bound(size, 4.0 * MIB, &ups);
    let last = sim.run_to_the_end(Duration::from_secs_f64(bound * 4.0)).as_secs_f64();
    assert!(last <= 1.5 * bound, "{last:.1} s, the bound is {bound:.1} s");
    assert!(wasted(&sim) < 0.04, "{:.3} wasted", wasted(&sim));
}

/// As `swarm-16` of the benchmark: so many alike on one machine, behind this seed.
fn behind_a_limited_seed(seed: u64, of: Spec, leechers: usize) -> Sim {
    let mut sim = Sim::new(seed, PIECE, 64 << 20);
    sim.latency = (0, 1);
    sim.add(of);
    for i in 0..leechers {
        let joins = Duration::from_millis(10 * i as u64);
        sim.add(Spec { joins, ..Spec::leecher(60.0 * MIB) });
    }
    sim
}

#[test]
fn behind_a_seed_that_gives_in_quanta_the_last_is_done_soon_after_it_has_given_all_once() {
    for seed in 90..94 {
        let quantum = Some(Duration::from_millis(500));
        let libtorrent = Spec { quantum, slots: 1000, tells_all: true, ..Spec::seed(20.0 * MIB) };
        let mut sim = behind_a_limited_seed(seed, libtorrent, 16);
        let bound = 64.0 / 20.0;
        let end = sim.run_to_the_end(seconds(100)).as_secs_f64();
        let copies = uploaded(&sim, 0) / (64.0 * MIB);
        // A quantum more or less is 0.16 of the bound.
        assert!(end <= 1.6 * bound, "seed {seed}: {:.2} of the bound", end / bound);
        assert!(copies <= 1.75, "seed {seed}: {copies:.2} copies");
        assert!(wasted(&sim) < 0.1, "seed {seed}: {:.3} wasted", wasted(&sim));
    }
}

#[test]
fn behind_an_only_seed_of_our_kind_the_last_is_done_as_soon_as_it_has_given_all_once() {
    for seed in 90..94 {
        let mut sim = behind_a_limited_seed(seed, Spec::seed(20.0 * MIB), 16);
        let bound = 64.0 / 20.0;
        let end = sim.run_to_the_end(seconds(100)).as_secs_f64();
        let copies = uploaded(&sim, 0) / (64.0 * MIB);
        assert!(end <= 1.3 * bound, "seed {seed}: {:.2} of the bound", end / bound);
        assert!(copies <= 1.25, "seed {seed}: {copies:.2} copies");
        assert!(wasted(&sim) < 0.1, "seed {seed}: {:.3} wasted", wasted(&sim));
    }
}
