//! Whole pieces that the disk had no room for.

use std::time::Duration;

use super::super::Input;
use super::table::Table;
use crate::budget::{Budget, MAX_IN_MEMORY};
use crate::event::State;
use crate::ids::{Counter, PeerKey};
use crate::layout::PieceIndex;

/// Gives what is asked for until so many pieces are whole.
fn give(table: &mut Table, peer: PeerKey, pieces: usize) {
    while table.swarm().verifying.len() < pieces {
        let asked = table.requests_to(peer);
        assert!(!asked.is_empty());
        for block in asked {
            table.block(peer, block);
        }
    }
}

/// The disk is full: nothing that was handed over is written, and the torrent is paused.
fn fill_the_disk(table: &mut Table) -> Vec<PieceIndex> {
    table.input(Input::Enter(State::Paused));
    let mut kept = Vec::new();
    for (piece, blocks) in table.verifies() {
        assert!(table.not_written(piece, blocks));
        kept.push(piece);
    }
    kept.sort_unstable();
    kept
}

#[test]
fn what_the_disk_had_no_room_for_is_written_later_and_fetched_once() {
    let mut table = Table::new(12, 16);
    table.passes = false;
    let seed = table.giver();
    give(&mut table, seed, 8);
    let kept = fill_the_disk(&mut table);
    assert!(kept.len() >= 8);
    table.wait(Duration::from_secs(3600));
    assert!(table.verifies().is_empty() && table.swarm().have().is_empty(), "nothing is told to be there");
    // It was closed for its silence meanwhile.
    let seed = table.giver();
    table.input(Input::Enter(State::Started));
    let mut again: Vec<PieceIndex> = table.verifies().iter().map(|(piece, _)| *piece).collect();
    again.sort_unstable();
    assert_eq!(again, kept);
    table.passes = true;
    for &piece in &kept {
        table.input(Input::Passed { piece, digests: Vec::new() });
    }
    while !table.swarm().is_complete() {
        let asked = table.requests_to(seed);
        assert!(!asked.is_empty() && asked.iter().all(|block| !kept.contains(&block.piece)), "{asked:?}");
        for block in asked {
            table.block(seed, block);
        }
    }
    assert_eq!((table.swarm().wasted, table.swarm().downloaded), (0, table.layout.total()));
    assert_eq!(table.swarm().config.memory.held(), 0);
}

#[test]
fn a_started_torrent_tries_again_at_once_and_one_that_ends_keeps_nothing() {
    let mut table = Table::new(4, 16);
    table.passes = false;
    let seed = table.giver();
    give(&mut table, seed, 1);
    let (piece, blocks) = table.verifies().remove(0);
    assert!(table.not_written(piece, blocks));
    let (again, blocks) = table.verifies().remove(0);
    assert_eq!(again, piece);
    table.input(Input::Enter(State::Paused));
    assert!(table.not_written(piece, blocks));
    table.input(Input::Enter(State::Stopped));
    assert!(table.swarm().verifying.is_empty(), "it is given up");
}

#[test]
fn what_waits_for_the_disk_makes_room_for_another_torrent() {
    let budget = Budget::default();
    let mut counter = Counter::default();
    let [mut full, mut other] = [0; 2].map(|_| {
        Table::with(20, 512, |config| config.memory = budget.share(counter.torrent(), Default::default()))
    });
    full.passes = false;
    let seed = full.giver();
    give(&mut full, seed, 2);
    let mut busy = budget.share(counter.torrent(), Default::default());
    busy.take_anyway(MAX_IN_MEMORY - full.swarm().config.memory.held());
    let kept = fill_the_disk(&mut full);
    full.wait(Duration::from_secs(600));
    assert_eq!(full.swarm().verifying.len(), kept.len(), "nobody else needs the room");
    let seed = other.giver();
    assert_eq!(other.requests_to(seed), []);
    full.wait(Duration::from_secs(41));
    assert_eq!(full.swarm().config.memory.held(), 0);
    assert!(budget.next_turn().is_some());
}
