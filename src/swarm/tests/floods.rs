//! What a peer can send cheaply costs us little.

use std::time::Duration;

use super::super::peer::MAX_HINTS;
use super::super::{Hello, Input};
use super::table::Table;
use crate::event::Direction;
use crate::layout::{Block, PieceIndex};
use crate::wire::Message;

#[test]
fn short_blocks_that_nobody_asked_for_are_borne_by_their_number() {
    let mut table = Table::new(100, 16);
    let peer = table.peer_with(0..100);
    let short = Block { piece: PieceIndex(0), begin: 1, length: 1 };
    let sent = (1..).find(|_| {
        table.block(peer, short);
        table.closed().contains(&peer)
    });
    assert!(sent.is_some_and(|sent| (500..5000).contains(&sent)), "{sent:?}");
}

#[test]
fn what_crosses_with_our_cancels_is_forgiven_to_who_gives_more() {
    let mut table = Table::new(1000, 16);
    let peer = table.giver();
    for round in 0..400 {
        let asked = table.requests_to(peer);
        for &block in asked.iter().take(8) {
            assert!(table.block(peer, block));
        }
        // The same again, as if we had cancelled it too late.
        for &block in asked.iter().take(4) {
            table.block(peer, block);
        }
        assert!(!table.closed().contains(&peer), "round {round}");
        table.now += Duration::from_millis(10);
    }
}

#[test]
fn an_unasked_block_is_no_reason_to_call_again_soon_nor_to_ask_for_more() {
    let mut table = Table::new(100, 16);
    let peer = table.peer_with(0..100);
    table.block(peer, Block { piece: PieceIndex(0), begin: 1, length: 1 });
    assert_eq!(table.swarm().peers[&peer].useful, 0);
    assert!(table.swarm().may_have_room.is_empty());
}

#[test]
fn an_old_peer_that_chokes_again_and_again_without_giving_is_left_alone_for_a_while() {
    let mut table = Table::new(100, 16);
    let peer = table.connect_old();
    table.say(peer, Message::Bitfield(super::table::pieces(&table.layout, 0..100).to_wire()));
    let mut asked = 0;
    for _ in 0..1000 {
        table.say(peer, Message::Unchoke);
        asked += table.requests_to(peer).len();
        table.say(peer, Message::Choke);
    }
    assert!(asked < 100, "{asked} requests for 1000 chokes");
    // Then it is tried again, with one block.
    table.say(peer, Message::Unchoke);
    table.wait(Duration::from_secs(15));
    let probe = table.requests_to(peer);
    assert_eq!(probe.len(), 1);
    assert!(table.block(peer, probe[0]));
    assert!(table.requests_to(peer).len() > 1);
}

#[test]
fn who_changes_its_mind_about_interest_is_looked_at_alone() {
    let mut table = Table::with(100, 4, |config| {
        config.have = config.wanted.clone();
        config.max_peers = 400;
    });
    let peers: Vec<_> = (0..200).map(|_| table.taker()).collect();
    let last = peers[199];
    assert_eq!((table.swarm().served.len(), table.swarm().waiting.len()), (4, 196));
    table.out.clear();
    for _ in 0..100 {
        table.say(last, Message::NotInterested);
        table.say(last, Message::Interested);
    }
    assert_eq!(table.out.len(), 0, "a choked peer gets no answer");
    // One that has a slot loses it to somebody who waits, and waits then.
    let served = *table.swarm().served.first().unwrap();
    table.say(served, Message::NotInterested);
    table.say(served, Message::Interested);
    assert!(table.swarm().waiting.contains(&served));
    assert_eq!(table.swarm().served.len(), 4);
}

#[test]
fn hints_are_bounded() {
    let mut table = Table::new(4000, 1);
    let peer = table.connect();
    for number in 0..10_000u32 {
        table.say(peer, Message::AllowedFast(PieceIndex(number % 4000)));
        table.say(peer, Message::Suggest(PieceIndex(number % 4000)));
    }
    assert!(table.swarm().peers[&peer].allowed_fast.len() <= MAX_HINTS);
    assert!(table.swarm().peers[&peer].suggested.len() <= MAX_HINTS);
}

#[test]
fn who_breaks_the_protocol_is_called_again_later_each_time() {
    let mut table = Table::new(100, 16);
    let address = Table::address(700);
    table.found([address]);
    for (round, pause) in [0, 60, 120].into_iter().enumerate() {
        table.wait(Duration::from_secs(pause).saturating_sub(Duration::from_secs(1)));
        if round > 0 {
            assert_eq!(table.dials(), []);
        }
        table.wait(Duration::from_secs(1));
        assert_eq!(table.dials(), [address], "round {round}");
        let hello = Hello { address, ..table.hello(Direction::Out, b'u') };
        let peer = hello.peer;
        table.input(Input::Connected(hello));
        // Twice what is no piece of this torrent, once what is no message at all.
        if round == 1 {
            table.input(Input::Unruly(peer));
            table.input(Input::Closed(peer));
        } else {
            table.say(peer, Message::Have(PieceIndex(100)));
        }
    }
}
