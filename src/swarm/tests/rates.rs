//! What the rates say of what is of no use, and of what does not move.

use std::time::Duration;

use super::super::{Input, Totals};
use super::table::Table;
use crate::event::State;
use crate::hash::Sha1;
use crate::ids::PeerKey;
use crate::layout::Block;

fn totals(table: &Table) -> Totals {
    table.swarm().totals(table.now)
}

/// Gives so many blocks of what is asked for, one each 100 ms.
fn give(table: &mut Table, peer: PeerKey, blocks: usize) {
    for _ in 0..blocks {
        table.wait(Duration::from_millis(100));
        let first = table.swarm().peers[&peer].in_flight[0].0;
        assert!(table.block(peer, first));
    }
}

#[test]
fn what_fails_its_hash_is_taken_out_of_the_rate_and_nothing_else_is() {
    let mut table = Table::new(100, 8);
    table.passes = false;
    let (liar, honest) = (table.giver(), table.giver());
    give(&mut table, honest, 40);
    let before = totals(&table).down_rate;
    assert!((140_000..190_000).contains(&before), "{before}");
    let mut all: Vec<Block> = table.requests_to(liar);
    let piece = all[0].piece;
    all.retain(|block| block.piece == piece);
    for &block in &all {
        table.block(liar, block);
    }
    assert!(totals(&table).down_rate > before, "blocks count as they come");
    if table.swarm().verifying.contains_key(&piece) {
        table.input(Input::Failed { piece, digests: vec![Sha1([1; 20]); 8], hashes: Vec::new() });
    }
    assert!(totals(&table).down_rate.abs_diff(before) < 2, "{} {before}", totals(&table).down_rate);
}

#[test]
fn a_long_piece_does_not_make_the_rate_jump() {
    let mut table = Table::new(4, 512);
    let seed = table.giver();
    give(&mut table, seed, 30);
    for _ in 0..500 {
        give(&mut table, seed, 1);
        let rate = totals(&table).down_rate;
        assert!((140_000..190_000).contains(&rate), "{rate}");
    }
    assert!(table.swarm().have().count() > 0);
}

#[test]
fn while_nothing_can_move_the_rates_are_0() {
    let mut table = Table::new(100, 8);
    let seed = table.giver();
    give(&mut table, seed, 30);
    assert!(totals(&table).down_rate > 0);
    table.input(Input::Enter(State::Paused));
    assert_eq!(totals(&table).down_rate, 0, "paused");
    table.input(Input::Enter(State::Started));
    assert_eq!(totals(&table).down_rate, 0, "what was before the pause is over");
    give(&mut table, seed, 30);
    assert!(totals(&table).down_rate > 0);
    table.input(Input::Closed(seed));
    assert_eq!(totals(&table).down_rate, 0, "no peers");

    let seed = table.giver();
    give(&mut table, seed, 10);
    table.wait(Duration::from_secs(20));
    assert_eq!(totals(&table).down_rate, 0, "silent peers");
    let seed = table.giver();
    while !table.swarm().is_complete() {
        give(&mut table, seed, 1);
    }
    assert_eq!(totals(&table).down_rate, 0, "complete");
}
