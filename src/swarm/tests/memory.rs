//! Torrents that share the memory for the pieces that they begin.

use std::time::Duration;

use super::super::{Input, MAX_KEPT_OUTPUTS, Output};
use super::table::Table;
use crate::budget::{Budget, MAX_IN_MEMORY};
use crate::event::State;
use crate::ids::{Counter, PeerKey};
use crate::layout::Block;
use crate::wire::Message;

/// Blocks of a piece: four such pieces are all that there is room for.
const BLOCKS: u32 = 512;

fn torrents<const N: usize>(budget: &Budget) -> [Table; N] {
    let mut counter = Counter::default();
    assert_eq!(MAX_IN_MEMORY, 4 * u64::from(BLOCKS) * 16384);
    std::array::from_fn(|_| {
        Table::with(8, BLOCKS, |config| config.memory = budget.share(counter.torrent(), Default::default()))
    })
}

/// Gives all that is asked for, as long as anything is.
fn give(table: &mut Table, peer: PeerKey, most: usize) -> usize {
    let mut given = 0;
    loop {
        let asked: Vec<Block> = table.requests_to(peer);
        if asked.is_empty() || given >= most {
            return given;
        }
        given += asked.len();
        for block in asked {
            table.block(peer, block);
        }
    }
}

#[test]
fn one_torrent_begins_no_more_than_fits_and_goes_on_as_pieces_are_written() {
    let budget = Budget::default();
    let [mut table] = torrents(&budget);
    table.passes = false;
    let peers: Vec<PeerKey> = (0..8).map(|_| table.giver()).collect();
    let mut asked: Vec<Vec<Block>> = vec![Vec::new(); peers.len()];
    for _ in 0..BLOCKS {
        for (&peer, asked) in peers.iter().zip(&mut asked) {
            asked.extend(table.requests_to(peer));
            let given: Vec<Block> = asked.drain(..asked.len().min(8)).collect();
            for block in given {
                table.block(peer, block);
            }
            assert!(table.swarm().pieces.len() + table.swarm().verifying.len() <= 4);
        }
    }
    assert!(asked.iter().all(Vec::is_empty));
    table.passes = true;
    let written: Vec<_> = table.swarm().verifying.keys().copied().collect();
    written.into_iter().for_each(|piece| table.input(Input::Passed { piece, digests: Vec::new() }));
    for _ in 0..100 {
        for &peer in &peers {
            give(&mut table, peer, usize::MAX);
        }
        table.wait(Duration::from_secs(1));
    }
    assert!(table.swarm().is_complete());
}

#[test]
fn who_holds_all_of_it_and_gets_nothing_gives_it_up_to_who_waits() {
    let budget = Budget::default();
    let [mut silent, mut quick] = torrents(&budget);
    // Four peers that begin a piece each, and send one block of it.
    for _ in 0..4 {
        let peer = silent.giver();
        let asked = silent.requests_to(peer);
        silent.block(peer, asked[0]);
    }
    while silent.swarm().pieces.len() < 4 {
        let peer = silent.giver();
        give(&mut silent, peer, 512);
    }
    let seed = quick.giver();
    assert_eq!(quick.requests_to(seed), []);
    assert_eq!(budget.asked_to_give_up().len(), 1);
    let gives_up = silent.transfer.deadline().unwrap() - silent.now;
    assert!(gives_up <= Duration::from_secs(30));
    silent.wait(Duration::from_secs(41));
    assert_eq!(silent.swarm().pieces.len(), 0);
    assert!(budget.next_turn().is_some());
    quick.input(Input::Memory);
    assert!(give(&mut quick, seed, 1) > 0);
}

#[test]
fn what_an_earlier_run_left_holds_memory_too() {
    let budget = Budget::default();
    let mut counter = Counter::default();
    let left = |config: &mut super::super::SwarmConfig| {
        config.memory = budget.share(counter.torrent(), Default::default());
        for piece in 0..5 {
            let mut blocks: Vec<_> = (0..BLOCKS).map(|_| None).collect();
            blocks[0] = Some(crate::blocks::BlockData::exact(0));
            config.partial.insert(crate::layout::PieceIndex(piece), blocks);
        }
    };
    let mut table = Table::with(8, BLOCKS, left);
    assert_eq!(table.swarm().config.memory.held(), MAX_IN_MEMORY / 4 * 5);
    let seed = table.giver();
    give(&mut table, seed, usize::MAX);
    table.wait(Duration::from_secs(60));
    give(&mut table, seed, usize::MAX);
    assert!(table.swarm().is_complete());
    table.transfer.take_partial_pieces();
    assert_eq!(table.swarm().config.memory.held(), 0);
}

#[test]
fn pieces_that_nobody_has_any_more_do_not_keep_a_torrent_from_the_others() {
    let [mut table] = torrents(&Budget::default());
    for piece in 0..4 {
        let peer = table.peer_with([piece]);
        table.say(peer, Message::Unchoke);
        let asked = table.requests_to(peer);
        assert!(table.block(peer, asked[0]));
        table.input(Input::Closed(peer));
    }
    assert_eq!(table.swarm().pieces.len(), 4);
    let others = table.peer_with(4..8);
    table.say(others, Message::Unchoke);
    assert_eq!(table.requests_to(others), [], "there is no room");
    for _ in 0..60 {
        give(&mut table, others, usize::MAX);
        table.say(others, Message::KeepAlive);
        table.wait(Duration::from_secs(1));
    }
    assert_eq!(table.swarm().have().count(), 4);
}

#[test]
fn a_torrent_with_nothing_to_do_keeps_no_room_for_what_it_did_at_once() {
    assert!(size_of::<Output>() <= 48, "{}", size_of::<Output>());
    let mut table = Table::new(64, 16);
    for _ in 0..16 {
        table.giver();
    }
    let at_once = |out: &[Output]| out.iter().filter(|out| matches!(out, Output::Send(..))).count();
    table.out.clear();
    table.input(Input::Enter(State::Paused));
    assert!(at_once(&table.out) > MAX_KEPT_OUTPUTS, "{}", at_once(&table.out));
    assert!(table.swarm().outputs.capacity() <= MAX_KEPT_OUTPUTS);
}
