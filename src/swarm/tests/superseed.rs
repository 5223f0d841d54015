//! A seed that is the only one tells leechers of one piece and another (BEP 16), and of everything once that is of use to nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::Input;
use super::table::Table;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::wire::Message;

const PIECES: u32 = 100;

/// What a leecher is told of, and whether it is told that we have everything.
#[derive(Default, Debug)]
struct Heard {
    pieces: Vec<u32>,
    everything: bool,
    requests: Vec<Block>,
}

fn hear(table: &mut Table, peer: PeerKey) -> Heard {
    let mut heard = Heard::default();
    for message in table.said_to(peer) {
        match message {
            Message::Have(piece) => heard.pieces.push(piece.0),
            Message::HaveAll | Message::Bitfield(_) => heard.everything = true,
            Message::Request(block) => heard.requests.push(block),
            _ => {}
        }
    }
    heard
}

/// A leecher that is interested as soon as it has been told of something.
fn leecher(table: &mut Table) -> (PeerKey, Heard) {
    let peer = table.connect();
    table.say(peer, Message::HaveNone);
    let first = hear(table, peer);
    table.say(peer, Message::Interested);
    let more = hear(table, peer);
    let everything = first.everything || more.everything;
    (peer, Heard { pieces: [first.pieces, more.pieces].concat(), everything, ..Heard::default() })
}

/// It fetches these pieces.
fn fetch(table: &mut Table, peer: PeerKey, pieces: &[u32]) {
    for &piece in pieces {
        let blocks = table.layout.num_blocks(PieceIndex(piece));
        for number in 0..blocks {
            let block = table.layout.block(PieceIndex(piece), number);
            table.say(peer, Message::Request(block));
            for served in table.served_to(peer) {
                table.input(Input::Sent(peer, served.length));
            }
        }
        table.wait(Duration::from_millis(50));
        table.say(peer, Message::Have(PieceIndex(piece)));
    }
}

/// A seed with one leecher, which came first and knows of everything.
fn seed(blocks: u32) -> Table {
    let mut table = Table::seed(PIECES, blocks);
    let first = table.taker();
    assert!(hear(&mut table, first).everything);
    // It is being sent something all the time.
    let wish = table.layout.block(PieceIndex(PIECES - 1), 0);
    table.say(first, Message::Request(wish));
    table
}

#[test]
fn of_those_who_come_before_anybody_has_said_anything_the_first_alone_is_told_of_everything() {
    let mut table = Table::seed(PIECES, 4);
    let peers: Vec<PeerKey> = (0..4).map(|_| table.connect()).collect();
    let told: Vec<bool> = peers.iter().map(|&peer| hear(&mut table, peer).everything).collect();
    assert_eq!(told, [true, false, false, false]);
    // One of them is a seed, and so nothing is worth hiding.
    table.say(peers[1], Message::HaveAll);
    table.wait(Duration::from_secs(11));
    assert!(peers[2..].iter().all(|&peer| hear(&mut table, peer).everything));
}

#[test]
fn a_leecher_to_whom_what_it_is_told_of_is_of_no_use_is_told_of_everything() {
    for slots in [4, 0] {
        let mut table = Table::with(PIECES, 4, |config| {
            (config.have, config.upload_slots) = (config.wanted.clone(), slots);
        });
        // One that says nothing, and wants nothing for all that is known.
        table.connect();
        let (peer, heard) = leecher(&mut table);
        assert!(!heard.everything);
        if slots > 0 {
            fetch(&mut table, peer, &heard.pieces);
        }
        table.say(peer, Message::NotInterested);
        assert!(!hear(&mut table, peer).everything);
        table.wait(Duration::from_secs(21));
        assert!(hear(&mut table, peer).everything, "{slots} slots");
    }
}

#[test]
fn who_does_not_want_what_it_is_told_of_is_told_of_everything_soon() {
    let mut table = seed(4);
    let averse = table.connect();
    table.say(averse, Message::HaveNone);
    let heard = hear(&mut table, averse);
    assert!(!heard.everything && !heard.pieces.is_empty());
    table.wait(Duration::from_millis(1500));
    assert!(!hear(&mut table, averse).everything, "it may be far away");
    table.wait(Duration::from_secs(3));
    assert!(hear(&mut table, averse).everything);
}

#[test]
fn who_is_quick_does_not_wait_for_what_a_slow_one_is_due() {
    let mut table = seed(4);
    let (slow, due) = leecher(&mut table);
    // It has asked for all of that, and takes hardly anything.
    for &piece in &due.pieces {
        let block = table.layout.block(PieceIndex(piece), 0);
        table.say(slow, Message::Request(block));
    }
    let (quick, heard) = leecher(&mut table);
    let (mut all, mut next) = (BTreeSet::new(), heard.pieces);
    while !next.is_empty() {
        all.extend(next.iter().copied());
        fetch(&mut table, quick, &next);
        next = hear(&mut table, quick).pieces;
    }
    // The first leecher has chosen one itself.
    assert!(all.len() as u32 >= PIECES - 1, "{} of {PIECES} pieces", all.len());
}

#[test]
fn each_leecher_of_an_only_seed_is_told_of_other_pieces_and_of_more_as_it_has_them() {
    let mut table = seed(4);
    let mut all = BTreeSet::new();
    for _ in 0..3 {
        let (peer, heard) = leecher(&mut table);
        assert!(!heard.everything && !heard.pieces.is_empty(), "{heard:?}");
        assert!(heard.pieces.iter().all(|&piece| all.insert(piece)), "{heard:?} {all:?}");
        fetch(&mut table, peer, &heard.pieces);
        let next = hear(&mut table, peer).pieces;
        assert!(!next.is_empty() && next.iter().all(|&piece| all.insert(piece)), "{next:?} {all:?}");
    }
}

#[test]
fn nothing_is_hidden_once_all_pieces_are_elsewhere() {
    let mut table = seed(1);
    let mut leechers: Vec<(PeerKey, Vec<u32>)> =
        (0..3).map(|_| leecher(&mut table)).map(|(peer, heard)| (peer, heard.pieces)).collect();
    let mut sent = 0;
    for round in 0.. {
        assert!(round < 1000, "{sent} pieces were sent");
        let (peer, mut told) = leechers.remove(0);
        if !table.swarm().peers[&peer].am_choking && !told.is_empty() {
            let piece = told.remove(0);
            fetch(&mut table, peer, &[piece]);
            sent += 1;
        }
        let heard = hear(&mut table, peer);
        if heard.everything {
            break;
        }
        told.extend(heard.pieces);
        leechers.push((peer, told));
    }
    assert!((PIECES..=PIECES + 4).contains(&sent), "{sent} pieces were sent, of {PIECES}");
    for (peer, _) in leechers {
        assert!(hear(&mut table, peer).everything);
    }
}

#[test]
fn what_a_leecher_leaves_behind_is_told_to_others() {
    let mut table = seed(4);
    let (first, told) = leecher(&mut table);
    let (second, heard) = leecher(&mut table);
    table.input(Input::Closed(first));
    let mut next = heard.pieces;
    let mut all = BTreeSet::new();
    while !next.is_empty() {
        all.extend(next.iter().copied());
        fetch(&mut table, second, &next);
        next = hear(&mut table, second).pieces;
    }
    assert!(told.pieces.iter().all(|piece| all.contains(piece)), "{told:?} {all:?}");
}

#[test]
fn nothing_is_hidden_while_that_leaves_our_uplink_idle() {
    let mut table = Table::seed(PIECES, 4);
    table.taker();
    let (first, _) = leecher(&mut table);
    let (second, _) = leecher(&mut table);
    table.wait(Duration::from_secs(8));
    assert!(hear(&mut table, first).everything && hear(&mut table, second).everything);
}

#[test]
fn a_leecher_that_is_left_alone_is_told_of_everything() {
    let mut table = Table::seed(PIECES, 4);
    let first = table.taker();
    let (second, heard) = leecher(&mut table);
    assert!(hear(&mut table, first).everything && !heard.everything);
    table.input(Input::Closed(first));
    table.wait(Duration::from_secs(2));
    assert!(hear(&mut table, second).everything);
}

#[test]
fn a_seed_that_hides_as_we_do_is_told_of_everything() {
    let mut table = Table::seed(PIECES, 4);
    table.taker();
    let other = table.connect();
    table.say(other, Message::HaveNone);
    assert!(!hear(&mut table, other).everything);
    for second in 0..12 {
        table.say(other, Message::Have(PieceIndex(second)));
        let (taker, wish) = (PeerKey(0), table.layout.block(PieceIndex(second), 0));
        table.say(taker, Message::Request(wish));
        table.wait(Duration::from_secs(1));
    }
    assert!(hear(&mut table, other).everything);
}

#[test]
fn nothing_is_hidden_from_those_who_come_beside_another_seed_or_speak_no_fast_extension() {
    let mut table = seed(4);
    let old = table.connect_old();
    assert!(hear(&mut table, old).everything);
    let (first, heard) = leecher(&mut table);
    assert!(!heard.everything);
    let other = table.connect();
    table.say(other, Message::HaveAll);
    table.wait(Duration::from_secs(2));
    assert!(hear(&mut table, first).everything);
}

#[test]
fn a_peer_that_alone_has_a_piece_is_asked_for_it_before_what_others_have_too() {
    let mut table = Table::new(40, 64);
    let slow = table.peer_with(0..39);
    table.say(slow, Message::Unchoke);
    let begun: BTreeSet<u32> = table.requests_to(slow).iter().map(|block| block.piece.0).collect();
    assert!(!begun.is_empty());
    let mut of_seed: Vec<u32> = begun.iter().copied().collect();
    of_seed.push(39);
    let seed = table.peer_with(of_seed);
    table.say(seed, Message::Unchoke);
    let asked = table.requests_to(seed);
    assert!(!asked.is_empty() && asked.iter().all(|block| block.piece.0 == 39), "{asked:?}");
}
