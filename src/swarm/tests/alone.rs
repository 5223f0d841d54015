//! One swarm, peers played by hand.

use std::time::Duration;

use super::super::{Hello, Input, Output};
use super::table::{Table, pieces};
use crate::event::{Direction, Kind, State};
use crate::finder::{DialEnd, MAX_HALF_OPEN};
use crate::hash::Sha1;
use crate::ids::PeerKey;
use crate::layout::{BLOCK_LENGTH, Block, PieceIndex};
use crate::wire::{Message, PeerId};

const SECOND: Duration = Duration::from_secs(1);

fn serve_count(table: &mut Table, peer: PeerKey) -> usize {
    table.served_to(peer).len()
}

#[test]
fn the_first_request_leaves_with_the_unchoke_and_waits_for_no_timer() {
    let mut table = Table::new(10, 4);
    let peer = table.connect();
    table.say(peer, Message::HaveAll);
    assert!(table.said_to(peer).contains(&Message::Interested));
    table.say(peer, Message::Unchoke);
    assert_eq!(table.requests_to(peer).len(), 16);
}

#[test]
fn a_free_slot_is_given_away_at_once_and_so_is_one_that_becomes_free() {
    let mut table = Table::seed(10, 4);
    let takers: Vec<PeerKey> = (0..5).map(|_| table.taker()).collect();
    for &taker in &takers[..4] {
        assert!(table.said_to(taker).contains(&Message::Unchoke));
    }
    assert!(!table.said_to(takers[4]).contains(&Message::Unchoke));
    table.input(Input::Closed(takers[0]));
    assert!(table.said_to(takers[4]).contains(&Message::Unchoke));
}

#[test]
fn have_goes_at_once_to_those_who_lack_the_piece_and_with_something_else_to_the_others() {
    let mut table = Table::new(4, 1);
    let (giver, lacking) = (table.giver(), table.peer_with([]));
    let blocks = table.requests_to(giver);
    let (&last, first) = blocks.split_last().unwrap();
    let haves = |said: Vec<Message>| {
        let piece = |message| if let Message::Have(piece) = message { Some(piece) } else { None };
        said.into_iter().filter_map(piece).collect::<Vec<PieceIndex>>()
    };
    first.iter().for_each(|&block| _ = table.block(giver, block));
    let pieces: Vec<PieceIndex> = first.iter().map(|block| block.piece).collect();
    assert_eq!(haves(table.said_to(lacking)), pieces);
    assert_eq!(haves(table.said_to(giver)), []);
    table.wait(SECOND);
    assert_eq!(haves(table.said_to(giver)), pieces);
    // A seed is to know at once that we are one, too.
    table.block(giver, last);
    assert_eq!(haves(table.said_to(giver)), [last.piece]);
}

#[test]
fn paused_nothing_is_asked_for_and_nothing_is_filled() {
    let mut table = Table::with(20, 4, |config| config.have = pieces(&config.layout, 0..10));
    let peer = table.giver();
    let asked = table.requests_to(peer);
    table.say(peer, Message::Interested);
    table.say(peer, Message::Request(table.layout.block(PieceIndex(0), 0)));
    assert_eq!(serve_count(&mut table, peer), 1);
    table.input(Input::Enter(State::Paused));
    let said = table.said_to(peer);
    assert!(said.contains(&Message::Choke));
    assert!(asked.iter().all(|&block| said.contains(&Message::Cancel(block))));
    for piece in 0..10 {
        table.say(peer, Message::Request(table.layout.block(PieceIndex(piece), 0)));
    }
    table.say(peer, Message::Choke);
    table.say(peer, Message::Unchoke);
    table.wait(60 * SECOND);
    assert_eq!(table.requests_to(peer), []);
    assert_eq!(serve_count(&mut table, peer), 0);
    table.input(Input::Enter(State::Started));
    assert!(!table.requests_to(peer).is_empty());
}

#[test]
fn stopping_closes_every_connection_and_takes_no_more() {
    let mut table = Table::new(10, 4);
    let peers = [table.giver(), table.taker()];
    table.input(Input::Enter(State::Stopped));
    assert_eq!(table.closed().into_iter().collect::<Vec<_>>(), peers);
    let late = table.connect();
    assert!(table.closed().contains(&late));
    assert_eq!(table.swarm().deadline(), None);
}

#[test]
fn of_two_connections_both_sides_keep_the_one_that_the_larger_id_opened() {
    for (id, kept) in [(b'a', Direction::Out), (b'z', Direction::In)] {
        for first in [Direction::Out, Direction::In] {
            let mut table = Table::new(10, 4);
            let other = if first == Direction::Out { Direction::In } else { Direction::Out };
            let one = table.hello(first, id);
            let two = Hello { peer_id: one.peer_id, ..table.hello(other, id) };
            table.input(Input::Connected(one.clone()));
            table.input(Input::Connected(two.clone()));
            let gone = if one.direction == kept { two.peer } else { one.peer };
            assert_eq!(table.closed().into_iter().collect::<Vec<_>>(), [gone]);
            assert_eq!(table.swarm().peers(table.now).len(), 1);
        }
    }
}

#[test]
fn a_client_that_is_connected_twice_is_not_called_again_while_it_is_connected() {
    for id in [b'a', b'z'] {
        let mut table = Table::new(10, 4);
        let incoming = table.hello(Direction::In, id);
        let outgoing = Hello { peer_id: incoming.peer_id, ..table.hello(Direction::Out, id) };
        table.found([outgoing.address]);
        table.input(Input::Connected(incoming.clone()));
        table.input(Input::Connected(outgoing.clone()));
        table.dials();
        let left = if table.closed().contains(&incoming.peer) { outgoing.peer } else { incoming.peer };
        for _ in 0..60 {
            table.wait(60 * SECOND);
            table.say(left, Message::KeepAlive);
            table.say(left, Message::Interested);
        }
        assert_eq!(table.dials(), []);
    }
}

#[test]
fn a_borrowed_peer_id_does_not_close_its_owner() {
    let mut table = Table::new(10, 4);
    let owner = table.hello(Direction::Out, b'z');
    table.input(Input::Connected(owner.clone()));
    table.wait(30 * SECOND);
    let stranger = table.hello(Direction::In, b'z');
    let elsewhere = std::net::SocketAddr::from(([127, 9, 9, 9], 1000));
    let stranger = Hello { peer_id: owner.peer_id, address: elsewhere, ..stranger };
    table.input(Input::Connected(stranger.clone()));
    assert_eq!(table.closed(), [stranger.peer].into());
}

#[test]
fn a_connection_to_ourselves_is_closed_and_its_address_never_called_again() {
    let mut table = Table::new(10, 4);
    let ours = Hello { peer_id: PeerId([b'm'; 20]), ..table.hello(Direction::Out, b'm') };
    table.found([ours.address]);
    assert_eq!(table.dials(), [ours.address]);
    let address = ours.address;
    table.input(Input::Connected(ours));
    assert_eq!(table.closed().len(), 1);
    table.found([address]);
    table.wait(7200 * SECOND);
    assert_eq!(table.dials(), []);
}

#[test]
fn dead_addresses_are_called_less_and_less_often_and_few_at_a_time() {
    let mut table = Table::new(10, 4);
    table.found((1000..1100).map(Table::address));
    let mut calls = std::collections::BTreeMap::new();
    for _ in 0..3600 {
        let dials = table.dials();
        assert!(dials.len() <= MAX_HALF_OPEN, "{} calls under way", dials.len());
        for address in dials {
            *calls.entry(address).or_insert(0) += 1;
            table.dial_ended(address, DialEnd::Failed);
            let again = table.dials();
            again.into_iter().for_each(|address| table.calls.push(address));
        }
        table.wait(SECOND);
    }
    assert_eq!(calls.len(), 100);
    assert!(calls.values().all(|&calls| (5..=10).contains(&calls)), "{calls:?}");
}

#[test]
fn a_peer_that_hangs_up_on_us_is_called_less_and_less_often() {
    let mut table = Table::new(10, 4);
    let address = Table::address(77);
    table.found([address]);
    let mut calls = 0;
    for _ in 0..3600 {
        for address in table.dials() {
            calls += 1;
            let hello = Hello { address, ..table.hello(Direction::Out, b'h') };
            let peer = hello.peer;
            table.input(Input::Connected(hello));
            table.input(Input::Closed(peer));
        }
        table.wait(SECOND);
    }
    assert!((5..=10).contains(&calls), "{calls}");
}

#[test]
fn allowed_fast_pieces_are_asked_for_while_choked_and_no_others() {
    let mut table = Table::new(20, 4);
    let peer = table.connect();
    table.say(peer, Message::HaveAll);
    table.say(peer, Message::AllowedFast(PieceIndex(7)));
    let asked = table.requests_to(peer);
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|block| block.piece == PieceIndex(7)));
}

#[test]
fn a_newcomer_gets_its_allowed_fast_pieces_while_choked_until_it_has_one() {
    let mut table = Table::with(20, 1, |config| {
        config.have = pieces(&config.layout, 0..19);
        config.upload_slots = 0;
    });
    let peer = table.taker();
    let said = table.said_to(peer);
    let granted: Vec<PieceIndex> =
        said.iter().filter_map(|m| if let Message::AllowedFast(p) = m { Some(*p) } else { None }).collect();
    assert!(granted.len() >= 9 && !granted.contains(&PieceIndex(19)));
    let block = |piece| Block { piece, begin: 0, length: BLOCK_LENGTH };
    let other = (0..19).map(PieceIndex).find(|piece| !granted.contains(piece)).unwrap();
    table.say(peer, Message::Request(block(granted[0])));
    table.say(peer, Message::Request(block(other)));
    assert_eq!(table.served_to(peer), [block(granted[0])]);
    assert_eq!(table.said_to(peer), [Message::Reject(block(other))]);
    table.say(peer, Message::Have(granted[0]));
    table.say(peer, Message::Request(block(granted[1])));
    assert_eq!(table.said_to(peer), [Message::Reject(block(granted[1]))]);
}

#[test]
fn requests_beyond_our_reqq_are_refused() {
    let mut table = Table::seed(300, 16);
    let peer = table.taker();
    table.said_to(peer);
    for piece in 0..200 {
        for number in 0..16 {
            table.say(peer, Message::Request(table.layout.block(PieceIndex(piece), number)));
        }
    }
    let served = serve_count(&mut table, peer);
    let refused = table.said_to(peer).iter().filter(|m| matches!(m, Message::Reject(_))).count();
    assert!((1..=64).contains(&served), "{served}");
    assert_eq!(served + refused + super::super::peer::REQQ, 3200);
}

#[test]
fn requests_are_filled_in_batches_and_never_stall() {
    let mut table = Table::seed(100, 16);
    let peer = table.taker();
    for piece in 0..100 {
        for number in 0..16 {
            table.say(peer, Message::Request(table.layout.block(PieceIndex(piece), number)));
        }
    }
    let (mut sent, mut batches, mut queue) = (0, 0, table.served_to(peer));
    while let Some(block) = queue.pop() {
        table.now += Duration::from_micros(100);
        table.input(Input::Sent(peer, block.length));
        sent += 1;
        let more = table.served_to(peer);
        batches += u32::from(!more.is_empty());
        queue.extend(more);
    }
    assert_eq!(sent, 1600);
    assert!(batches < 100, "{batches} batches");
}

#[test]
fn a_request_for_what_does_not_exist_closes_the_connection() {
    let mut table = Table::seed(2, 4);
    let bad = [(2, 0, 1), (0, 65536, 1), (0, 65535, 2), (0, 0, 0), (1, u32::MAX, u32::MAX), (0, 0, 200_000)];
    for (piece, begin, length) in bad {
        let peer = table.taker();
        table.say(peer, Message::Request(Block { piece: PieceIndex(piece), begin, length }));
        assert!(table.closed().contains(&peer), "{piece} {begin} {length}");
    }
}

#[test]
fn a_peer_that_refuses_is_not_asked_for_the_same_again_and_again() {
    let mut table = Table::new(200, 4);
    let peer = table.giver();
    let mut refused = 0;
    for _ in 0..100 {
        for block in table.requests_to(peer) {
            refused += 1;
            table.say(peer, Message::Reject(block));
        }
        table.wait(SECOND / 10);
    }
    assert!(refused < 200, "asked {refused} times in ten seconds");
    let honest = table.giver();
    let mut here = 0;
    while here < 800 {
        let asked = table.requests_to(honest);
        assert!(!asked.is_empty(), "{here} of 800");
        table.now += Duration::from_millis(1);
        for block in asked {
            here += usize::from(table.block(honest, block));
        }
    }
    assert!(table.swarm().is_complete());
}

#[test]
fn a_silent_peer_loses_its_blocks_to_others_and_is_asked_for_little_after() {
    let mut table = Table::new(20, 4);
    let silent = table.giver();
    let held = table.requests_to(silent);
    assert!(!held.is_empty());
    let mut asked = 0;
    for _ in 0..300 {
        table.say(silent, Message::KeepAlive);
        table.wait(SECOND);
        asked += table.requests_to(silent).len();
    }
    assert!((1..10).contains(&asked), "asked for {asked} blocks in five minutes");
    let honest = table.giver();
    let mut here = 0;
    loop {
        let asked = table.requests_to(honest);
        if asked.is_empty() {
            break;
        }
        table.now += Duration::from_millis(1);
        for block in asked {
            here += u32::from(table.block(honest, block));
        }
    }
    assert_eq!(here, 80);
    assert!(table.swarm().is_complete());
}

#[test]
fn the_blocks_of_a_snubbed_peer_that_wakes_up_are_kept_and_not_asked_for_twice() {
    let mut table = Table::new(20, 4);
    let slow = table.giver();
    let held = table.requests_to(slow);
    for _ in 0..15 {
        table.say(slow, Message::KeepAlive);
        table.wait(SECOND);
    }
    let mut asked = held.clone();
    asked.extend(table.requests_to(slow));
    for &block in &held {
        assert!(table.block(slow, block));
        asked.extend(table.requests_to(slow));
    }
    let unique: std::collections::BTreeSet<Block> = asked.iter().copied().collect();
    // The probe alone may have been asked for twice.
    assert!(asked.len() <= unique.len() + 1, "{} of {}", unique.len(), asked.len());
    assert_eq!(table.swarm().totals(table.now).wasted, 0);
}

#[test]
fn what_a_snubbed_peer_owes_is_cancelled_when_another_sends_it() {
    let mut table = Table::new(4, 4);
    let slow = table.giver();
    let held = table.requests_to(slow);
    for _ in 0..12 {
        table.say(slow, Message::KeepAlive);
        table.wait(SECOND);
    }
    table.said_to(slow);
    let quick = table.giver();
    let asked = table.requests_to(quick);
    assert!(held.iter().all(|block| asked.contains(block)));
    for block in asked {
        table.block(quick, block);
    }
    let said = table.said_to(slow);
    assert!(held.iter().all(|&block| said.contains(&Message::Cancel(block))), "{said:?}");
}

#[test]
fn choke_gives_the_blocks_of_an_old_client_to_others_at_once() {
    let mut table = Table::new(2, 4);
    let old = table.connect_old();
    table.say(old, Message::Bitfield(vec![0b1100_0000]));
    table.say(old, Message::Unchoke);
    let held = table.requests_to(old);
    assert_eq!(held.len(), 8);
    let other = table.giver();
    let mut asked = table.requests_to(other);
    assert!(asked.len() < 8);
    table.say(old, Message::Choke);
    asked.extend(table.requests_to(other));
    asked.sort_unstable();
    assert_eq!(asked, held);
}

#[test]
fn a_piece_that_failed_is_not_held_by_a_peer_that_chokes() {
    let mut table = Table::new(1, 4);
    table.passes = false;
    let (one, two) = (table.giver(), table.giver());
    let all: Vec<Block> = (0..4).map(|number| table.layout.block(PieceIndex(0), number)).collect();
    table.block(one, all[0]);
    table.block(two, all[1]);
    table.block(one, all[2]);
    table.block(two, all[3]);
    table.said_to(one);
    table.said_to(two);
    table.input(Input::Failed {
        piece: PieceIndex(0),
        digests: vec![Sha1([1; 20]), Sha1([2; 20]), Sha1([3; 20]), Sha1([4; 20])],
        hashes: Vec::new(),
    });
    let (mine, yours) = (table.requests_to(one), table.requests_to(two));
    assert!(mine.is_empty() != yours.is_empty(), "one of them fills it alone");
    let (holder, other) = if mine.is_empty() { (two, one) } else { (one, two) };
    table.block(holder, all[0]);
    table.say(holder, Message::Choke);
    for &block in &all[1..] {
        table.say(holder, Message::Reject(block));
    }
    assert_eq!(table.requests_to(other).len(), 3);
}

#[test]
fn the_end_game_asks_a_quick_peer_too_and_cancels_with_the_slow_one() {
    let mut table = Table::new(2, 16);
    let slow = table.giver();
    let held = table.requests_to(slow);
    assert_eq!(held.len(), 16);
    table.wait(2 * SECOND);
    let quick = table.giver();
    let mut asked = table.requests_to(quick);
    while let Some(block) = asked.pop() {
        table.now += Duration::from_millis(2);
        table.block(quick, block);
        asked.extend(table.requests_to(quick));
    }
    assert!(table.swarm().is_complete(), "it waits for the slow peer");
    let said = table.said_to(slow);
    assert!(held.iter().all(|&block| said.contains(&Message::Cancel(block))));
}

#[test]
fn two_that_are_complete_part_in_whatever_order_they_learn_of_it() {
    // It has everything when we become complete.
    let mut table = Table::new(1, 1);
    let giver = table.giver();
    let block = table.requests_to(giver)[0];
    table.block(giver, block);
    assert!(table.closed().contains(&giver));
    // Its last `have` comes when we are complete.
    let late = table.peer_with([]);
    assert!(!table.closed().contains(&late));
    table.say(late, Message::Have(PieceIndex(0)));
    assert!(table.closed().contains(&late));
    // Both were complete from the start.
    let seed = table.connect();
    table.say(seed, Message::HaveAll);
    assert!(table.closed().contains(&seed));
}

#[test]
fn a_peer_that_its_haves_make_complete_is_counted_once() {
    let mut table = Table::new(3, 1);
    let peer = table.peer_with([]);
    for piece in [0, 1, 1, 2, 0] {
        table.say(peer, Message::Have(PieceIndex(piece)));
    }
    assert_eq!(table.swarm().totals(table.now).seeds, 1);
    table.input(Input::Closed(peer));
    assert_eq!(table.swarm().picker.availability(PieceIndex(1)), 0);
}

#[test]
fn requests_stop_while_too_much_is_unwritten_and_go_on_with_everybody() {
    let mut table = Table::new(64, 64);
    table.passes = false;
    let peers = [table.giver(), table.giver()];
    let mut whole = 0;
    for _ in 0..200 {
        for peer in peers {
            for block in table.requests_to(peer) {
                table.now += Duration::from_micros(200);
                table.block(peer, block);
            }
        }
    }
    let mut unwritten = Vec::new();
    for output in &table.out {
        if let Output::Verify { piece, .. } = output {
            unwritten.push(*piece);
            whole += 1;
        }
    }
    // 16 MiB, and what was in flight.
    assert!((16..=30).contains(&whole), "{whole} MiB unwritten");
    unwritten.into_iter().for_each(|piece| table.input(Input::Passed { piece, digests: Vec::new() }));
    for peer in peers {
        assert!(!table.requests_to(peer).is_empty(), "{peer:?} was forgotten");
    }
}

#[test]
fn blocks_that_nobody_asked_for_are_not_kept_and_not_borne_for_ever() {
    let mut table = Table::new(100, 16);
    let peer = table.peer_with(0..100);
    let mut sent = 0;
    while !table.closed().contains(&peer) {
        let block = table.layout.block(PieceIndex(sent % 100), sent / 100 % 16);
        assert!(!table.block(peer, block));
        sent += 1;
        assert!(sent < 1000);
    }
}

#[test]
fn nonsense_closes_the_connection_and_nothing_else() {
    let mut table = Table::new(10, 4);
    let honest = table.giver();
    let wrong = [
        vec![Message::Have(PieceIndex(10))],
        vec![Message::Bitfield(vec![0])],
        vec![Message::Bitfield(vec![0, 1])],
        vec![Message::HaveNone, Message::HaveAll],
        vec![Message::Have(PieceIndex(0)), Message::HaveAll],
    ];
    for messages in wrong {
        let peer = table.connect();
        messages.iter().for_each(|message| table.say(peer, message.clone()));
        assert!(table.closed().contains(&peer), "{messages:?}");
    }
    let old = table.connect_old();
    table.say(old, Message::HaveAll);
    assert!(table.closed().contains(&old));
    assert!(!table.closed().contains(&honest));
}

#[test]
fn a_bitfield_that_comes_late_adds_to_what_the_peer_has() {
    // aria2 sends one in place of many haves.
    let mut table = Table::new(10, 4);
    let peer = table.connect();
    table.say(peer, Message::Have(PieceIndex(9)));
    table.say(peer, Message::Bitfield(vec![0b1000_0000, 0]));
    table.say(peer, Message::Unchoke);
    assert!(!table.closed().contains(&peer));
    let mut asked: Vec<u32> = table.requests_to(peer).iter().map(|block| block.piece.0).collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, [0, 9]);
}

#[test]
fn a_block_that_a_silent_peer_refuses_at_last_is_asked_for_again_soon() {
    // Transmission loses a request now and then, and refuses it ten seconds later.
    let mut table = Table::new(1, 2);
    let peer = table.giver();
    let blocks = table.requests_to(peer);
    table.block(peer, blocks[0]);
    table.wait(Duration::from_secs(12));
    table.said_to(peer);
    table.say(peer, Message::Reject(blocks[1]));
    table.wait(Duration::from_secs(3));
    assert!(table.requests_to(peer).contains(&blocks[1]), "not within three seconds");
}

#[test]
fn a_silent_peer_is_asked_again_though_nothing_else_happens() {
    let mut table = Table::new(1, 2);
    let peer = table.giver();
    let blocks = table.requests_to(peer);
    table.wait(Duration::from_secs(32));
    assert!(table.requests_to(peer).iter().any(|block| blocks.contains(block)));
}

#[test]
fn chatter_does_not_keep_a_block_that_never_comes() {
    let mut table = Table::new(2, 4);
    let liar = table.giver();
    let held = table.requests_to(liar);
    let honest = table.giver();
    let mut asked = table.requests_to(honest);
    for _ in 0..70 {
        table.wait(Duration::from_secs(2));
        table.say(liar, Message::Unchoke);
        asked.extend(table.requests_to(honest));
    }
    assert!(held.iter().all(|block| asked.contains(block)), "some of {held:?} were never asked of another");
}

#[test]
fn an_idle_seed_with_fifty_peers_hardly_wakes() {
    let mut table = Table::seed(10, 4);
    let peers: Vec<PeerKey> = (0..50).map(|_| table.peer_with([0])).collect();
    let mut wakes = 0;
    for _ in 0..10 {
        wakes += table.wait(60 * SECOND);
        peers.iter().for_each(|&peer| table.say(peer, Message::KeepAlive));
    }
    assert!(wakes <= 60, "{wakes} times in ten minutes");
    assert_eq!(table.swarm().peers(table.now).len(), 50);
}

#[test]
fn a_busy_download_wakes_by_itself_no_more_than_about_once_a_second() {
    let mut table = Table::new(100, 16);
    let peers: Vec<PeerKey> = (0..50).map(|_| table.giver()).collect();
    for _ in 0..10 {
        peers.iter().for_each(|&peer| table.say(peer, Message::KeepAlive));
        let wakes = table.wait(10 * SECOND);
        assert!(wakes <= 12, "{wakes} in ten seconds");
    }
}

#[test]
fn a_silent_connection_gets_keep_alives_and_is_closed_when_it_stays_silent() {
    let mut table = Table::new(10, 4);
    let peer = table.peer_with([]);
    table.wait(119 * SECOND);
    assert!(table.said_to(peer).contains(&Message::KeepAlive));
    assert!(table.closed().is_empty());
    table.wait(60 * SECOND);
    assert!(table.closed().contains(&peer));
}

#[test]
fn the_rarest_piece_is_begun_first_once_there_is_something_to_trade() {
    let mut table = Table::with(20, 1, |config| config.have = pieces(&config.layout, 0..4));
    for _ in 0..3 {
        table.peer_with(4..19);
    }
    let peer = table.giver();
    assert_eq!(table.requests_to(peer)[0].piece, PieceIndex(19));
}

#[test]
fn a_far_heavier_file_is_finished_before_the_others_begin() {
    let mut table = Table::with(100, 4, |config| {
        config.weights = (0..100).map(|piece| if piece < 50 { 1 } else { 1000 }).collect();
    });
    let peer = table.giver();
    let mut first_light = None;
    let mut count = 0;
    loop {
        let asked = table.requests_to(peer);
        if asked.is_empty() {
            break;
        }
        table.now += Duration::from_millis(5);
        for block in asked {
            count += 1;
            if block.piece.0 < 50 {
                first_light.get_or_insert(count);
            }
            table.block(peer, block);
        }
    }
    assert!(table.swarm().is_complete());
    assert_eq!(first_light, Some(201));
}

#[test]
fn a_suggested_piece_comes_first_unless_others_weigh_more() {
    let mut table = Table::new(50, 16);
    let peer = table.connect();
    table.say(peer, Message::HaveAll);
    table.say(peer, Message::Suggest(PieceIndex(33)));
    table.say(peer, Message::Unchoke);
    assert_eq!(table.requests_to(peer)[0].piece, PieceIndex(33));

    let mut table = Table::with(50, 16, |config| {
        config.weights = (0..50).map(|piece| if piece == 40 { 1000 } else { 1 }).collect();
    });
    let peer = table.connect();
    table.say(peer, Message::HaveAll);
    table.say(peer, Message::Suggest(PieceIndex(33)));
    table.say(peer, Message::Unchoke);
    assert_eq!(table.requests_to(peer)[0].piece, PieceIndex(40));
}

#[test]
fn a_liar_that_left_is_still_banned_when_the_hash_is_known() {
    let mut table = Table::new(1, 4);
    table.passes = false;
    let liar = table.giver();
    for block in table.requests_to(liar) {
        table.block(liar, block);
    }
    table.input(Input::Closed(liar));
    table.input(Input::Failed { piece: PieceIndex(0), digests: vec![Sha1([0; 20]); 4], hashes: Vec::new() });
    let banned = table.out.iter().any(
        |output| matches!(output, Output::Event(kind) if matches!(&**kind, Kind::PeerBan { address, .. } if *address == Table::address(0))),
    );
    assert!(banned);
}

#[test]
fn a_liar_is_told_of_once_however_much_of_what_it_sent_turns_out_bad() {
    let mut table = Table::new(6, 4);
    table.passes = false;
    let liar = table.giver();
    for block in table.requests_to(liar) {
        table.block(liar, block);
    }
    for piece in 0..6 {
        table.input(Input::Failed {
            piece: PieceIndex(piece),
            digests: vec![Sha1([0; 20]); 4],
            hashes: Vec::new(),
        });
    }
    let is_ban =
        |output: &&Output| matches!(output, Output::Event(kind) if matches!(**kind, Kind::PeerBan { .. }));
    assert_eq!(table.out.iter().filter(is_ban).count(), 1);
}

#[test]
fn the_announced_queue_of_a_peer_is_never_exceeded() {
    for reqq in [1, 5, 300, 2000] {
        let mut table = Table::new(1000, 64);
        let peer = table.giver();
        table.reqq(peer, reqq);
        let mut queue: std::collections::VecDeque<Block> = table.requests_to(peer).into();
        if reqq < 16 {
            continue; // sixteen were asked for before it said so
        }
        for _ in 0..20_000 {
            table.now += Duration::from_micros(20);
            let block = queue.pop_front().unwrap();
            let _ = table.transfer.on_block(table.now, peer, block, crate::blocks::BlockData::exact(0));
            while let Some(output) = table.transfer.poll(table.now) {
                match output {
                    Output::Send(_, Message::Request(block)) => queue.push_back(block),
                    Output::Verify { piece, .. } => {
                        table.transfer.handle(table.now, Input::Passed { piece, digests: Vec::new() });
                    }
                    _ => {}
                }
            }
            assert!(queue.len() <= reqq as usize, "{} of {reqq}", queue.len());
        }
    }
}

#[test]
fn what_a_peer_sent_while_nobody_listened_is_no_silence() {
    let mut table = Table::new(10, 4);
    let peer = table.peer_with([]);
    let giver = table.giver();
    table.transfer.set_listening(table.now, false);
    table.wait(1000 * SECOND);
    assert!(table.closed().is_empty());
    assert!(table.said_to(peer).contains(&Message::KeepAlive));
    assert!(!table.swarm().peers[&giver].snubbed);
    table.transfer.set_listening(table.now, true);
    table.wait(140 * SECOND);
    assert!(table.closed().is_empty());
    table.wait(40 * SECOND);
    assert!(table.closed().contains(&peer));
}

#[test]
fn half_of_many_places_is_for_those_who_call() {
    for (max_peers, called) in [(1, 1), (10, 10), (20, 20), (40, 20), (200, 80)] {
        let mut table = Table::with(4, 1, |config| config.max_peers = max_peers);
        table.found((1000..1300).map(Table::address));
        // As many as may be called at the same time.
        assert_eq!(table.dials().len(), called, "{max_peers}");
    }
    // Those who call keep us from nobody whom we would call, as long as there are places.
    for (callers, called) in [(15, 20), (30, 10), (40, 0)] {
        let mut table = Table::with(4, 1, |config| config.max_peers = 40);
        for _ in 0..callers {
            let hello = table.hello(Direction::In, b'c');
            table.input(Input::Connected(hello));
        }
        assert_eq!(table.swarm().peers.len(), callers);
        table.found((1000..1300).map(Table::address));
        assert_eq!(table.dials().len(), called, "{callers} have called");
    }
}
