//! What is taken back from a peer before it has sent it.

use std::time::Duration;

use super::table::Table;
use crate::ids::PeerKey;
use crate::layout::Block;
use crate::wire::Message;

fn cancels(said: &[Message]) -> Vec<Block> {
    let cancel = |message: &Message| if let Message::Cancel(block) = message { Some(*block) } else { None };
    said.iter().filter_map(cancel).collect()
}

/// Gives the first of these blocks, so many of them, and keeps the book of what is asked for.
fn give(table: &mut Table, peer: PeerKey, asked: &mut Vec<Block>, count: usize) {
    for block in asked.drain(..count.min(asked.len())).collect::<Vec<_>>() {
        assert!(table.block(peer, block));
    }
    for message in table.said_to(peer) {
        match message {
            Message::Request(block) => asked.push(block),
            Message::Cancel(block) => asked.retain(|&other| other != block),
            _ => {}
        }
    }
}

#[test]
fn a_peer_that_gives_at_once_what_is_due_for_half_a_second_is_not_left_with_what_it_needs_many_seconds_for() {
    let mut table = Table::new(64, 16);
    let seed = table.giver();
    table.reqq(seed, 2000);
    let mut asked = table.requests_to(seed);
    for _ in 0..8 {
        table.wait(Duration::from_millis(1));
        give(&mut table, seed, &mut asked, 5);
    }
    let at_first = asked.len();
    for _ in 0..6 {
        table.wait(Duration::from_millis(500));
        give(&mut table, seed, &mut asked, 40);
    }
    assert!(at_first > 200, "{at_first}: it looked fast");
    assert!(asked.len() < 150, "{} blocks are queued, and 40 come in half a second", asked.len());
    // What comes all the same is taken.
    let count = table.swarm().pieces.requested_blocks();
    assert_eq!(count as usize, asked.len());
}

/// A seed that gives a megabyte a second, half a second at a time, and has done so for a while; and what it was asked for and still owes.
fn giver_in_pulses() -> (Table, PeerKey, Vec<Block>) {
    let mut table = Table::new(400, 4);
    let seed = table.giver();
    table.reqq(seed, 2000);
    let mut asked = table.requests_to(seed);
    for _ in 0..8 {
        table.wait(Duration::from_millis(500));
        give(&mut table, seed, &mut asked, 32);
    }
    (table, seed, asked)
}

#[test]
fn what_others_have_need_not_come_from_a_seed_as_long_as_it_alone_has_something_else() {
    let (mut table, seed, asked) = giver_in_pulses();
    let (first, last) = (asked[0], *asked.last().unwrap());
    assert_ne!(first.piece, last.piece);
    let other = table.peer_with([]);
    table.say(other, Message::Unchoke);
    table.wait(Duration::from_millis(50));
    table.said_to(seed);
    table.say(other, Message::Have(first.piece));
    assert_eq!(cancels(&table.said_to(seed)), [], "it is being sent");
    table.say(other, Message::Have(last.piece));
    let back = cancels(&table.said_to(seed));
    assert!(back.contains(&last) && back.iter().all(|block| block.piece == last.piece), "{back:?}");
    let of_other = table.requests_to(other);
    assert!(back.iter().all(|block| of_other.contains(block)), "{back:?} {of_other:?}");
    // Its reject is no refusal, and a block that comes all the same is taken.
    table.say(seed, Message::Reject(back[0]));
    assert!(table.swarm().peers[&seed].refused.is_empty());
    if let Some(&crossed) = back.get(1) {
        assert!(table.block(seed, crossed));
    }
}

#[test]
fn the_answer_to_a_cancel_does_not_end_what_was_asked_for_anew_meanwhile() {
    let (mut table, seed, mut asked) = giver_in_pulses();
    let last = *asked.last().unwrap();
    let other = table.peer_with([]);
    table.say(other, Message::Unchoke);
    table.wait(Duration::from_millis(50));
    table.said_to(seed);
    table.say(other, Message::Have(last.piece));
    let back = cancels(&table.said_to(seed));
    assert!(!back.is_empty());
    asked.retain(|block| !back.contains(block));
    // The other one changes its mind before the seed has answered.
    for block in table.requests_to(other) {
        table.say(other, Message::Reject(block));
    }
    table.say(other, Message::Choke);
    let anew = (0..200).find_map(|_| {
        table.wait(Duration::from_millis(500));
        give(&mut table, seed, &mut asked, 32);
        back.iter().copied().find(|block| asked.contains(block))
    });
    let anew = anew.expect("the seed is asked for it again");
    table.say(seed, Message::Reject(anew));
    let peer = &table.swarm().peers[&seed];
    assert!(peer.refused.is_empty(), "{:?}", peer.refused);
    assert!(peer.in_flight.iter().any(|(block, _)| *block == anew), "{anew:?}");
    assert!(table.block(seed, anew));
}
