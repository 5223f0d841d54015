//! Peers that lose pieces (BEP 54), and what they say of themselves by later extension handshakes.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::super::{Input, Output};
use super::table::Table;
use crate::ids::PeerKey;
use crate::layout::PieceIndex;
use crate::wire::Message;
use crate::wire::extended::{ExtensionHandshake, UT_PEX};

fn has_asked_for(table: &mut Table, peer: PeerKey, piece: u32) -> bool {
    table.requests_to(peer).iter().any(|block| block.piece == PieceIndex(piece))
}

#[test]
fn a_piece_that_a_peer_has_lost_is_taken_back_and_asked_of_others() {
    for is_seed in [true, false] {
        let mut table = Table::new(3, 2);
        let loser = if is_seed { table.giver() } else { table.peer_with([0, 1]) };
        table.say(loser, Message::Unchoke);
        assert!(has_asked_for(&mut table, loser, 1));
        table.out.clear();
        table.loses(loser, PieceIndex(1));
        let said = table.said_to(loser);
        let cancelled = said.iter().filter(|it| matches!(it, Message::Cancel(block) if block.piece.0 == 1));
        assert_eq!(cancelled.count(), 2, "{said:?}");
        table.wait(Duration::from_secs(2));
        assert!(!has_asked_for(&mut table, loser, 1));
        let other = table.peer_with([1]);
        table.say(other, Message::Unchoke);
        assert!(has_asked_for(&mut table, other, 1));
        // It has it again, and says so in one way or the other.
        table.input(Input::Closed(other));
        let again = if is_seed { Message::Bitfield(vec![0xe0]) } else { Message::Have(PieceIndex(1)) };
        table.say(loser, again);
        assert!(has_asked_for(&mut table, loser, 1));
    }
}

#[test]
fn who_has_lost_all_that_we_want_is_of_no_interest() {
    let mut table = Table::new(3, 1);
    let peer = table.peer_with([2]);
    assert_eq!(table.said_to(peer).last(), Some(&Message::Interested));
    table.out.clear();
    table.loses(peer, PieceIndex(0));
    assert_eq!(table.said_to(peer), []);
    table.loses(peer, PieceIndex(2));
    assert_eq!(table.said_to(peer), [Message::NotInterested]);
    table.loses(peer, PieceIndex(3));
    assert!(table.closed().contains(&peer), "there is no such piece");
}

#[test]
fn others_are_told_whether_a_peer_wants_nothing_as_it_is_now() {
    let handshake = |upload_only| {
        let extensions = vec![(UT_PEX.to_owned(), 9)];
        let theirs = ExtensionHandshake { extensions, upload_only, ..ExtensionHandshake::default() };
        Message::from(&theirs)
    };
    let cases = [(false, false, None, 0x12), (true, false, None, 0x10), (true, false, Some(true), 0x12)];
    for (lost, regained, upload_only, flags) in cases.into_iter().chain([(true, true, None, 0x12)]) {
        let mut table = Table::with(3, 1, |config| config.peer_exchange = true);
        let seed = table.peer_with([0, 1, 2]);
        table.say(seed, handshake(upload_only));
        if lost {
            table.loses(seed, PieceIndex(1));
        }
        if regained {
            table.say(seed, Message::Have(PieceIndex(1)));
        }
        let told = table.connect();
        table.say(told, handshake(None));
        table.wait(Duration::from_secs(5));
        let said = table.said_to(told);
        let pex = said.iter().find_map(|it| match it {
            Message::Extended { id: 9, payload } => Some(payload.clone()),
            _ => None,
        });
        let expected = [b"7:added.f1:".as_slice(), &[flags]].concat();
        let pex = pex.expect("it is told of the other one");
        assert!(pex.windows(expected.len()).any(|it| it == expected), "{lost} {upload_only:?} {pex:?}");
    }
}

#[test]
fn an_address_of_the_other_family_is_called_once_the_connection_has_ended() {
    let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    let mut table = Table::new(3, 1);
    let peer = table.connect();
    let theirs = ExtensionHandshake {
        ipv6: Some(ip),
        // Of the family by which it is connected: nothing new.
        ipv4: Some([203, 0, 113, 9].into()),
        ..ExtensionHandshake::default()
    };
    table.say(peer, Message::from(&theirs));
    // The first counts.
    let other = ExtensionHandshake { ipv6: Some(Ipv6Addr::LOCALHOST), ..theirs.clone() };
    table.say(peer, Message::from(&other));
    table.say(peer, Message::from(&ExtensionHandshake { ipv6: Some(Ipv6Addr::from(9)), ..theirs }));
    table.wait(Duration::from_secs(60));
    assert_eq!(table.dials(), []);
    table.input(Input::Closed(peer));
    table.wait(Duration::from_secs(60));
    let ips: Vec<IpAddr> = table.dials().iter().map(|address| address.ip()).collect();
    assert_eq!(ips, [IpAddr::from(ip)]);
    assert!(!table.out.iter().any(|output| matches!(output, Output::Close(..))));
}
