//! Pieces in order: the window that all peers keep full, and what they do beside it.

use std::time::Duration;

use super::super::{Input, Order};
use super::sim::{Sim, Spec};
use super::table::Table;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::wire::Message;

const WINDOW: Order = Order::Window { next: PieceIndex(10), length: 5 };

fn numbers(blocks: &[Block]) -> Vec<u32> {
    let mut pieces: Vec<u32> = blocks.iter().map(|block| block.piece.0).collect();
    pieces.dedup();
    pieces
}

#[test]
fn a_peer_that_has_nothing_of_the_window_is_asked_for_the_rarest() {
    let mut table = Table::with(100, 2, |config| config.order = WINDOW);
    let common = table.peer_with(50..60);
    let other = table.peer_with(50..61);
    table.say(other, Message::Unchoke);
    assert_eq!(table.swarm().have().count(), 0);
    // Random first pieces are meant for those who have something to trade, not for this.
    let asked = numbers(&table.requests_to(other));
    assert!(!asked.is_empty() && asked.iter().all(|piece| (50..61).contains(piece)), "{asked:?}");
    let both = table.peer_with(9..30);
    table.say(both, Message::Unchoke);
    let asked = numbers(&table.requests_to(both));
    assert!(asked.starts_with(&[10, 11]), "{asked:?}");
    assert!(table.requests_to(common).is_empty());
}

#[test]
fn a_window_that_moves_is_followed_at_once_even_in_the_middle_of_a_piece() {
    let mut table = Table::with(100, 64, |config| config.order = WINDOW);
    let peer = table.giver();
    table.reqq(peer, 4);
    let asked = table.requests_to(peer);
    assert_eq!(numbers(&asked), [10]);
    table.input(Input::Order(Order::Window { next: PieceIndex(70), length: 5 }));
    for block in asked {
        table.block(peer, block);
    }
    assert_eq!(numbers(&table.requests_to(peer)), [70]);
}

#[test]
fn what_a_choking_peer_gives_back_of_the_window_comes_before_new_pieces() {
    let mut table = Table::with(100, 64, |config| config.order = WINDOW);
    let (first, second) = (table.connect_old(), table.giver());
    table.say(first, Message::Bitfield(crate::bitfield::Bitfield::full(100).to_wire()));
    let held = table.requests_to(second);
    assert_eq!(numbers(&held), [10]);
    table.say(first, Message::Unchoke);
    let held_by_first = table.requests_to(first);
    assert!(numbers(&held_by_first).starts_with(&[10]), "{held_by_first:?}");
    table.say(first, Message::Choke);
    let begun = held.into_iter().next().unwrap();
    table.block(second, begun);
    assert_eq!(table.requests_to(second)[0], held_by_first[0]);
}

/// Gives back a peer's blocks, one every so many milliseconds, and notes what others are asked for meanwhile.
fn trickle(table: &mut Table, slow: PeerKey, blocks: &[Block], pause: Duration) {
    for &block in blocks {
        table.wait(pause);
        table.block(slow, block);
    }
}

#[test]
fn a_slow_peer_does_not_hold_up_the_first_piece_of_the_window() {
    let mut table = Table::with(1000, 4, |config| config.order = Order::Sequential);
    let slow = table.giver();
    let asked = table.requests_to(slow);
    // One block, after a long time: it is known now how slow it is.
    trickle(&mut table, slow, &asked[..1], Duration::from_secs(3));
    let late = asked[1];
    let quick = table.giver();
    let mut twice = false;
    for _ in 0..400 {
        let requests = table.requests_to(quick);
        twice |= requests.contains(&late);
        table.wait(Duration::from_millis(2));
        for block in requests {
            table.block(quick, block);
        }
    }
    assert!(twice, "{late:?} is never asked of the quick peer");
    let missing = (0..1000).find(|&piece| !table.swarm().have().contains(PieceIndex(piece)));
    assert!(missing.is_none_or(|piece| piece > 100), "piece {missing:?} is still missing");
}

#[test]
fn with_many_peers_pieces_come_nearly_in_order_and_about_as_fast_as_the_rarest_first() {
    let run = |order: Order| {
        let mut sim = Sim::new(5, 65_536, 200 * 65_536);
        for up in [100_000.0, 400_000.0, 50_000.0, 200_000.0] {
            sim.add(Spec::seed(up));
        }
        let spec = Spec { down: 1e7, ..Spec::leecher(10_000.0) };
        let reader = sim.add_with(spec, |config| config.order = order);
        let time = sim.run_to_the_end(Duration::from_secs(600));
        let passed: Vec<u32> = sim.nodes[reader].passed.iter().map(|piece| piece.0).collect();
        (time, passed)
    };
    let (any, _) = run(Order::Rarest);
    let (time, passed) = run(Order::Sequential);
    assert!(time < any.mul_f64(1.3), "{time:?} instead of {any:?}");
    for (place, &piece) in passed.iter().enumerate() {
        assert!((piece as usize).abs_diff(place) < 40, "piece {piece} came as number {place}: {passed:?}");
    }
}
