//! A piece that failed its hash is fetched again, by one peer alone: and nobody can keep it from being fetched.

use std::time::Duration;

use super::super::Input;
use super::table::Table;
use crate::hash::Sha1;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::wire::Message;

const PIECE: PieceIndex = PieceIndex(0);

/// A torrent of one piece of four blocks, to which two peers have given two blocks each.
fn given_by_two() -> (Table, PeerKey, PeerKey, Vec<Block>) {
    let mut table = Table::new(1, 4);
    table.passes = false;
    let (one, two) = (table.giver(), table.giver());
    let all: Vec<Block> = (0..4).map(|number| table.layout.block(PIECE, number)).collect();
    for (at, &block) in all.iter().enumerate() {
        table.block(if at % 2 == 0 { one } else { two }, block);
    }
    (table, one, two, all)
}

fn fails(table: &mut Table) {
    table.input(Input::Failed {
        piece: PIECE,
        digests: (1..5).map(|number| Sha1([number; 20])).collect(),
        hashes: Vec::new(),
    });
}

#[test]
fn an_unasked_block_does_not_lock_a_piece() {
    let (mut table, one, two, all) = given_by_two();
    // `two` chokes us from now on, `one` takes one request at a time.
    table.say(two, Message::Choke);
    table.reqq(one, 1);
    table.said_to(one);
    fails(&mut table);
    let mine = table.requests_to(one);
    assert_eq!(mine.len(), 1);
    table.say(one, Message::Reject(mine[0]));
    // Nobody is asked for anything; `two`, which chokes us, sends a block all the same.
    assert!(!table.block(two, all[0]), "it is kept");
    table.input(Input::Closed(one));
    let honest = table.giver();
    assert_eq!(table.requests_to(honest), all);
}

#[test]
fn who_chokes_after_it_has_sent_a_part_of_the_piece_leaves_it_to_others() {
    let (mut table, one, two, all) = given_by_two();
    table.say(two, Message::Choke);
    table.reqq(one, 2);
    table.said_to(one);
    fails(&mut table);
    assert_eq!(table.requests_to(one), all[..2]);
    // It speaks the fast extension: what it owes it sends or rejects, though it chokes.
    table.say(one, Message::Choke);
    let honest = table.giver();
    assert_eq!(table.requests_to(honest), []);
    assert!(table.block(one, all[0]));
    assert_eq!(table.requests_to(honest), []);
    assert!(table.block(one, all[1]));
    table.say(honest, Message::Unchoke);
    assert_eq!(table.requests_to(honest), all[2..]);
}

#[test]
fn a_piece_given_back_whole_is_still_for_one_peer_alone() {
    let (mut table, one, two, all) = given_by_two();
    table.say(two, Message::Choke);
    table.said_to(one);
    fails(&mut table);
    let (three, four) = (table.giver(), table.giver());
    for block in table.requests_to(one) {
        table.say(one, Message::Reject(block));
    }
    let asked: Vec<PeerKey> =
        [three, four].into_iter().filter(|&peer| !table.requests_to(peer).is_empty()).collect();
    assert_eq!(asked.len(), 1, "two peers fill it together again");
    let other = if asked[0] == three { four } else { three };
    assert!(!table.block(other, all[1]), "two peers fill it together again");
}

#[test]
fn a_late_block_of_the_only_peer_is_kept_though_it_is_alone_with_the_piece() {
    let (mut table, one, two, _) = given_by_two();
    table.input(Input::Closed(two));
    table.said_to(one);
    fails(&mut table);
    let asked = table.requests_to(one);
    assert!(!asked.is_empty(), "nobody else is left");
    table.wait(Duration::from_secs(40));
    assert!(table.block(one, asked[0]), "it is thrown away");
}
