//! Swarms of a torrent of version 2 (BEP 52), in which some send bad blocks and others lie about hashes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::sim::{Faults, HashManner, Sim, Spec, address_of};

const MIB: f64 = 1024.0 * 1024.0;
const PIECE: u32 = 256 << 10;
const UNPROVED: &str = "sent hashes that do not lead to their root";

/// What the nodes are.
struct Crowd {
    sim: Sim,
    honest: Vec<usize>,
    /// They send bad blocks.
    spoilers: BTreeSet<IpAddr>,
    /// They send hashes that are wrong.
    liars: BTreeSet<usize>,
}

fn crowd(mut sim: Sim, spoilers: u32) -> Crowd {
    let mut honest = vec![sim.add(Spec::seed(4.0 * MIB))];
    honest.extend((0..30).map(|number| {
        let joins = Duration::from_millis(200 * number);
        sim.add(Spec { joins, ..Spec::leecher(MIB) })
    }));
    let mut add = |faults: Faults| sim.add(Spec { faults, ..Spec::seed(MIB) });
    let spoilers =
        (0..spoilers).map(|_| address_of(add(Faults { corrupt: 30, ..Faults::default() })).ip()).collect();
    let mut with = |hashes: HashManner| add(Faults { hashes, ..Faults::default() });
    let liars = (0..6).map(|_| with(HashManner::Lies)).collect();
    for manner in [HashManner::Refuses, HashManner::Silent, HashManner::Repeats] {
        (0..2).for_each(|_| _ = with(manner));
    }
    Crowd { sim, honest, spoilers, liars }
}

#[test]
fn who_sends_bad_blocks_is_found_at_once_and_who_lies_about_hashes_is_closed_and_believed_nothing() {
    let (mut at_once, mut lies, mut wasted) = (0, 0, [0, 0]);
    for seed in 700..712 {
        let mut crowd = crowd(Sim::of_version_2(seed, PIECE, 32 << 20), 3);
        crowd.sim.run_to_the_end(Duration::from_secs(600));
        for node in crowd.honest.iter().map(|&node| &crowd.sim.nodes[node]) {
            let mut banned = node.bans.iter().map(|address| address.ip());
            assert!(banned.all(|address| crowd.spoilers.contains(&address)), "seed {seed}: {:?}", node.bans);
            at_once += node.bans.len();
            for (other, reason) in node.closed.iter().filter(|(_, reason)| reason == UNPROVED) {
                assert!(crowd.liars.contains(other), "seed {seed}: {other} {reason}");
                lies += 1;
            }
            wasted[0] += node.swarm().wasted;
        }
        // The same without trees.
        let mut crowd = self::crowd(Sim::new(seed, PIECE, 32 << 20), 3);
        crowd.sim.run_to_the_end(Duration::from_secs(600));
        wasted[1] += crowd.honest.iter().map(|&node| crowd.sim.nodes[node].swarm().wasted).sum::<u64>();
    }
    println!("{at_once} bans, {lies} lies found, wasted {wasted:?}");
    assert!(at_once > 100 && lies > 10 && wasted[0] <= wasted[1]);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut crowd = crowd(Sim::of_version_2(720, PIECE, 8 << 20), 3);
        crowd.sim.run_to_the_end(Duration::from_secs(600));
        (crowd.sim.trace, crowd.sim.events)
    };
    assert_eq!(run(), run());
}
