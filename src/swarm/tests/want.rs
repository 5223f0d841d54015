//! What is wanted, and in which order, changes while the transfer goes on.

use std::time::Duration;

use super::super::{Input, Order};
use super::sim::{Sim, Spec};
use super::table::{Table, pieces};
use crate::bitfield::Bitfield;
use crate::event::State;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::wire::Message;
use crate::wire::extended::ExtensionHandshake;

fn want(table: &mut Table, which: impl IntoIterator<Item = u32>, order: Order) {
    let wanted = pieces(&table.layout, which);
    table.input(Input::Want { wanted, weights: Vec::new(), order });
}

/// Sends a peer's blocks until it is not asked for any more, and gives the pieces in the order in which they were begun.
fn serve(table: &mut Table, peer: PeerKey) -> Vec<u32> {
    let mut begun = Vec::new();
    loop {
        let requests = table.requests_to(peer);
        if requests.is_empty() {
            return begun;
        }
        for block in requests {
            if !begun.contains(&block.piece.0) {
                begun.push(block.piece.0);
            }
            table.block(peer, block);
        }
    }
}

#[test]
fn in_sequence_pieces_are_begun_in_ascending_order() {
    let mut table = Table::with(50, 2, |config| config.order = Order::Sequential);
    let peer = table.giver();
    let begun = serve(&mut table, peer);
    assert_eq!(begun, (0..50).collect::<Vec<_>>());
    assert!(table.swarm().is_complete());
}

#[test]
fn a_window_comes_first_and_in_order_and_then_all_else() {
    let mut table = Table::with(200, 2, |config| {
        config.order = Order::Window { next: PieceIndex(120), length: 10 };
    });
    let peer = table.giver();
    let begun = serve(&mut table, peer);
    assert_eq!(begun[..10], (120..130).collect::<Vec<_>>());
    assert_eq!(begun.len(), 200);
    assert!(!begun[10..].is_sorted());
}

#[test]
fn a_window_that_moves_on_is_followed() {
    let mut table = Table::with(200, 2, |config| {
        config.order = Order::Window { next: PieceIndex(0), length: 5 };
    });
    let peer = table.giver();
    table.reqq(peer, 4);
    let first = table.requests_to(peer);
    assert_eq!(first.first().map(|block| block.piece), Some(PieceIndex(0)));
    want(&mut table, 0..200, Order::Window { next: PieceIndex(60), length: 5 });
    first.into_iter().for_each(|block| {
        table.block(peer, block);
    });
    let begun = serve(&mut table, peer);
    let at = |piece: u32| begun.iter().position(|&begun| begun == piece).unwrap();
    assert!((60..65).map(at).is_sorted() && at(64) < 20, "{begun:?}");
}

#[test]
fn what_is_not_wanted_any_more_is_cancelled_and_not_asked_for() {
    let mut table = Table::new(10, 4);
    let peer = table.giver();
    let asked = table.requests_to(peer);
    table.block(peer, asked[0]);
    want(&mut table, [9], Order::Rarest);
    let said = table.said_to(peer);
    for block in asked[1..].iter().filter(|block| block.piece.0 != 9) {
        assert!(said.contains(&Message::Cancel(*block)), "{block:?}");
    }
    let in_flight = &table.swarm().peers[&peer].in_flight;
    assert!(in_flight.iter().all(|(block, _)| block.piece.0 == 9), "{in_flight:?}");
    let wanted: Vec<Block> = in_flight.iter().map(|(block, _)| *block).collect();
    assert!(
        !table.block(peer, asked[1]) || asked[1].piece.0 == 9,
        "what crossed with the cancel is of no use"
    );
    wanted.into_iter().for_each(|block| {
        table.block(peer, block);
    });
    serve(&mut table, peer);
    assert!(table.swarm().is_complete());
    assert_eq!(table.swarm().have(), &pieces(&table.layout, [9]));
    assert_eq!(table.swarm().left(), 9 * u64::from(table.layout.piece_length()), "what the torrent lacks");
}

#[test]
fn when_more_is_wanted_the_peers_that_have_it_are_of_interest_again() {
    let mut table = Table::with(10, 1, |config| config.wanted = Bitfield::new(10));
    let peer = table.peer_with(0..9);
    table.say(peer, Message::Unchoke);
    assert!(table.said_to(peer).iter().all(|message| !matches!(message, Message::Interested)));
    want(&mut table, [3, 5], Order::Rarest);
    let said = table.said_to(peer);
    assert!(said.contains(&Message::Interested), "{said:?}");
    assert!(!table.swarm().is_complete());
    for block in said.into_iter().filter_map(|message| match message {
        Message::Request(block) => Some(block),
        _ => None,
    }) {
        table.block(peer, block);
    }
    assert!(table.swarm().is_complete());
    assert!(table.said_to(peer).contains(&Message::NotInterested));
    want(&mut table, [3], Order::Rarest);
    assert!(table.swarm().is_complete());
}

#[test]
fn a_whole_piece_that_waits_for_its_hash_counts_though_it_is_not_wanted_any_more() {
    let mut table = Table::new(4, 1);
    table.passes = false;
    let peer = table.giver();
    let blocks: Vec<Block> = table.requests_to(peer);
    blocks.into_iter().for_each(|block| {
        table.block(peer, block);
    });
    want(&mut table, [0], Order::Rarest);
    (0..4).for_each(|n| table.input(Input::Passed { piece: PieceIndex(n), digests: Vec::new() }));
    assert!(table.swarm().have().is_full() && table.swarm().is_complete());
}

#[test]
fn a_crowd_whose_wishes_change_all_the_time_finishes() {
    for seed in 0..4 {
        let mut sim = Sim::new(seed, 65_536, 60 * 65_536);
        sim.add(Spec::seed(100_000.0));
        let clients: Vec<usize> = (0..6).map(|_| sim.add(Spec::leecher(50_000.0))).collect();
        let mut rng = fastrand::Rng::with_seed(seed);
        let all = sim.layout.num_pieces();
        for _ in 0..40 {
            sim.run_for(Duration::from_millis(500));
            for &node in &clients {
                let wanted = pieces(&sim.layout, (0..all).filter(|_| rng.bool()));
                let order = match rng.u8(..3) {
                    0 => Order::Rarest,
                    1 => Order::Sequential,
                    _ => Order::Window { next: PieceIndex(rng.u32(..all)), length: rng.u32(..9) },
                };
                sim.input(node, Input::Want { wanted, weights: Vec::new(), order });
            }
        }
        for &node in &clients {
            let wanted = Bitfield::full(all);
            sim.input(node, Input::Want { wanted, weights: Vec::new(), order: Order::Rarest });
        }
        sim.run_to_the_end(Duration::from_secs(600));
    }
}

/// What `upload_only` was told to a peer (BEP 21).
fn told_upload_only(table: &mut Table, peer: PeerKey) -> Vec<bool> {
    let payload = |message: Message| match message {
        Message::Extended { payload, .. } => ExtensionHandshake::decode(&payload).unwrap().upload_only,
        _ => None,
    };
    table.said_to(peer).into_iter().filter_map(payload).collect()
}

#[test]
fn a_partial_seed_says_that_it_wants_nothing_more_and_when_it_does_again() {
    let mut table = Table::with(10, 2, |config| config.wanted = pieces(&config.layout, [3]));
    let (peer, other) = (table.giver(), table.connect());
    assert_eq!(told_upload_only(&mut table, other), [false; 0]);
    serve(&mut table, peer);
    assert!(table.swarm().is_partial_seed());
    assert_eq!(told_upload_only(&mut table, other), [true]);
    let late = table.connect();
    assert_eq!(told_upload_only(&mut table, late), [true]);
    want(&mut table, 0..10, Order::default());
    assert_eq!(told_upload_only(&mut table, other), [false]);
}

#[test]
fn two_who_want_nothing_part() {
    let mut table = Table::seed(10, 2);
    let peer = table.peer_with(0..5);
    assert!(!table.closed().contains(&peer));
    let theirs = ExtensionHandshake { upload_only: Some(true), ..ExtensionHandshake::default() };
    table.say(peer, Message::from(&theirs));
    assert!(table.closed().contains(&peer));
}

#[test]
fn who_is_paused_is_not_interested() {
    let mut table = Table::new(10, 2);
    let peer = table.giver();
    let interest = |table: &mut Table, peer| -> Vec<bool> {
        let said = table.said_to(peer).into_iter();
        said.filter_map(|message| match message {
            Message::Interested => Some(true),
            Message::NotInterested => Some(false),
            _ => None,
        })
        .collect()
    };
    assert_eq!(interest(&mut table, peer), [true]);
    table.input(Input::Enter(State::Paused));
    assert_eq!(interest(&mut table, peer), [false]);
    let late = table.giver();
    assert_eq!(interest(&mut table, late), [false; 0]);
    table.input(Input::Enter(State::Started));
    assert_eq!((interest(&mut table, peer), interest(&mut table, late)), (vec![true], vec![true]));
}
