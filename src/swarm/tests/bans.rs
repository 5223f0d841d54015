//! Who is banned, and for how long.

use std::time::Duration;

use super::super::{Input, Output};
use super::sim::{Faults, Sim, Spec, address_of};
use super::table::Table;
use crate::blocks::BlockData;
use crate::event::Kind;
use crate::hash::Sha1;
use crate::layout::{Block, PieceIndex};

const MIB: f64 = 1024.0 * 1024.0;
const PIECE: u32 = 256 << 10;

/// One seed with these faults, and one leecher.
fn alone_with(seed: u64, faults: Faults) -> Sim {
    let mut sim = Sim::new(seed, PIECE, 64 << 20);
    sim.add(Spec { faults, ..Spec::seed(4.0 * MIB) });
    sim.add(Spec::leecher(MIB));
    sim
}

/// Pieces that came to nothing.
fn wasted(sim: &Sim) -> f64 {
    sim.nodes[1].swarm().wasted as f64 / f64::from(PIECE)
}

#[test]
fn one_bad_block_of_the_only_seed_does_not_end_the_download() {
    for (seed, bad_block) in [(90, 300), (91, 1000), (92, 4000)] {
        let mut sim = alone_with(seed, Faults { bad_block, ..Faults::default() });
        let end = sim.run_to_the_end(Duration::from_secs(300)).as_secs_f64();
        assert_eq!(sim.nodes[1].bans.len(), 1, "seed {seed}: it is left alone for a while");
        assert!((60.0..110.0).contains(&end), "seed {seed}: {end}");
        assert!(wasted(&sim) < 4.0, "seed {seed}: {}", wasted(&sim));
    }
}

#[test]
fn a_block_that_is_bad_before_much_was_good_is_a_liar_s() {
    let mut sim = alone_with(93, Faults { bad_block: 40, ..Faults::default() });
    sim.run_for(Duration::from_secs(3600));
    assert!(sim.is_banned_for_good(1, address_of(0)) && !sim.nodes[1].swarm().is_complete());
}

#[test]
fn an_only_seed_that_lies_now_and_then_is_borne_once_and_no_more() {
    for seed in 94..100 {
        // About each sixtieth piece.
        let mut sim = alone_with(seed, Faults { corrupt: 1, ..Faults::default() });
        sim.run_for(Duration::from_secs(1700));
        let is_complete = sim.nodes[1].swarm().is_complete();
        assert!(is_complete || sim.is_banned_for_good(1, address_of(0)), "seed {seed}");
        assert!(wasted(&sim) < 10.0, "seed {seed}: {}", wasted(&sim));
        assert!(sim.nodes[1].dials.len() <= 3, "seed {seed}: {} calls", sim.nodes[1].dials.len());
    }
}

#[test]
fn a_bad_block_of_an_earlier_run_is_nobody_s_fault() {
    let mut table = Table::with(2, 4, |config| {
        let mut blocks: Vec<Option<BlockData>> = (0..4).map(|_| None).collect();
        blocks[1] = Some(BlockData::exact(0));
        config.partial.insert(PieceIndex(0), blocks);
    });
    table.passes = false;
    let is_ban =
        |output: &Output| matches!(output, Output::Event(kind) if matches!(**kind, Kind::PeerBan { .. }));
    let (one, two) = (table.giver(), table.giver());
    let all: Vec<Block> = (0..4).map(|number| table.layout.block(PieceIndex(0), number)).collect();
    for (block, peer) in [(all[0], one), (all[2], two), (all[3], one)] {
        assert!(table.block(peer, block));
    }
    // What was left on the disk is bad.
    let digests = |bad: u8| [1, bad, 3, 4].map(|number| Sha1([number; 20])).to_vec();
    table.input(Input::Failed { piece: PieceIndex(0), digests: digests(99), hashes: Vec::new() });
    assert!(!table.out.iter().any(is_ban) && table.closed().is_empty());
    for &block in &all {
        assert!(table.block(one, block) || table.block(two, block));
    }
    table.input(Input::Passed { piece: PieceIndex(0), digests: digests(2) });
    assert!(table.swarm().have().contains(PieceIndex(0)));
    assert!(!table.out.iter().any(is_ban) && table.closed().is_empty(), "the honest stay");
}
