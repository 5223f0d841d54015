//! Any inputs in any order: nothing panics, and what must hold holds.

use std::time::Duration;

use proptest::prelude::*;

use super::super::{Hello, Input, Order, Output};
use super::table::{Table, pieces};
use crate::event::{Direction, State};
use crate::finder::DialEnd;
use crate::hash::Sha1;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::wire::Message;

/// What to do, to which peer, with what number.
type Op = (u8, u64, u32);

fn play(table: &mut Table, (what, peer, number): Op) {
    let live = table.swarm().peers.len().max(1);
    let key = table.swarm().peers.keys().nth(peer as usize % live).copied().unwrap_or(PeerKey(peer));
    let piece = PieceIndex(number % 7);
    let block = table.layout.block(PieceIndex(number % 6), number / 6 % 3);
    let asked = |table: &Table| {
        let peer = table.swarm().peers.get(&key)?;
        peer.in_flight.get(number as usize % peer.in_flight.len().max(1)).map(|&(block, _)| block)
    };
    match what {
        0 => {
            table.giver();
        }
        1 => {
            table.taker();
        }
        2 => {
            let direction = if number.is_multiple_of(2) { Direction::Out } else { Direction::In };
            let hello = table.hello(direction, b'a' + (number % 26) as u8);
            let old = Hello { reserved: Default::default(), ..hello.clone() };
            table.input(Input::Connected(if number % 5 == 0 { old } else { hello }));
        }
        3 if number.is_multiple_of(4) => table.input(Input::Closed(key)),
        3 => table.input(Input::Closed(PeerKey(peer))),
        4 | 5 => table.say(key, Message::Unchoke),
        6 => table.say(key, Message::Choke),
        7 => table.say(key, Message::Interested),
        8 => table.say(key, Message::NotInterested),
        9 | 10 => table.say(key, Message::Have(PieceIndex(number % 6))),
        11 => table.say(key, Message::HaveAll),
        12 => {
            let set = pieces(&table.layout, (0..6).filter(|piece| number >> piece & 1 == 1));
            table.say(key, Message::Bitfield(set.to_wire()));
        }
        13 => table.say(key, Message::Request(block)),
        14 => table.say(key, Message::Cancel(block)),
        15 | 16 => {
            if let Some(block) = asked(table) {
                table.say(key, Message::Reject(block));
            }
        }
        17 => table.say(key, Message::Suggest(piece)),
        18 => table.say(key, Message::AllowedFast(piece)),
        19..=26 => {
            if let Some(block) = asked(table) {
                table.block(key, block);
            }
        }
        27 => {
            table.block(key, block);
        }
        28 => {
            table.block(key, Block { begin: number, ..block });
        }
        29 => {
            table.wait(Duration::from_millis(u64::from(number % 20_000)));
        }
        30 => table.input(Input::Sent(key, number)),
        31 => {
            let states = [State::Paused, State::Started, State::Started, State::Stopped];
            let state = states.get(number as usize % 12).copied();
            table.input(Input::Enter(state.unwrap_or(State::Started)));
        }
        32 => table.found([Table::address(peer), Table::address(u64::from(number % 500))]),
        33 => table.dial_ended(Table::address(peer), DialEnd::Failed),
        34 => table.displace(PeerKey(peer)),
        35 if number.is_multiple_of(4) => table.input(Input::Memory),
        35 => table.input(Input::Lost(piece)),
        36 | 37 => {
            let pieces_wanted = pieces(
                &table.layout,
                (0..table.layout.num_pieces()).filter(|n| (number >> (n % 16)) & 1 == 0),
            );
            let order = match number % 3 {
                0 => Order::Rarest,
                1 => Order::Sequential,
                _ => Order::Window { next: PieceIndex(number % 40), length: number % 7 },
            };
            table.input(Input::Want { wanted: pieces_wanted, weights: Vec::new(), order });
        }
        38 => table.loses(key, PieceIndex(number % 6)),
        _ => answer_verify(table, number),
    }
}

fn answer_verify(table: &mut Table, number: u32) {
    let at = table.out.iter().position(|output| matches!(output, Output::Verify { .. }));
    let Some(Output::Verify { piece, blocks: data, .. }) = at.map(|at| table.out.swap_remove(at)) else {
        return;
    };
    if number.is_multiple_of(5) {
        table.not_written(piece, data);
        return;
    }
    let blocks = table.layout.num_blocks(piece);
    let digests = (0..blocks).map(|block| Sha1([(number >> block & 1) as u8; 20])).collect();
    table.input(match number % 4 {
        0 => Input::Failed { piece, digests, hashes: Vec::new() },
        1 => Input::Lost(piece),
        _ => Input::Passed { piece, digests },
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_happens_in_whatever_order_the_parts_agree(
        ops in prop::collection::vec((0u8..42, 0u64..12, any::<u32>()), 0..1000),
        weighted: bool,
    ) {
        let mut table = Table::with(6, 3, |config| {
            config.max_peers = 8;
            if weighted {
                config.weights = vec![1, 5, 0, 1000, 1, 7];
            }
        });
        table.passes = false;
        for op in ops {
            play(&mut table, op);
        }
        end_well(&mut table);
    }
}

/// Whatever was before, and whoever is still connected and silent: with one honest seed all of it comes.
fn end_well(table: &mut Table) {
    let all = pieces(&table.layout, 0..table.layout.num_pieces());
    table.input(Input::Want { wanted: all, weights: Vec::new(), order: Order::Rarest });
    table.input(Input::Enter(State::Started));
    if let Some(&key) = table.swarm().peers.keys().next().filter(|_| table.swarm().room() == 0) {
        table.input(Input::Closed(key));
    }
    table.passes = true;
    let unanswered: Vec<PieceIndex> = table.swarm().verifying.keys().copied().collect();
    for piece in unanswered {
        let digests = vec![Sha1([0; 20]); table.layout.num_blocks(piece) as usize];
        table.input(Input::Passed { piece, digests });
    }
    // A number that none of the others has: they may be banned.
    let hello = Hello { address: Table::address(60_000), ..table.hello(Direction::Out, b'h') };
    let honest = hello.peer;
    table.input(Input::Connected(hello));
    table.say(honest, Message::HaveAll);
    table.say(honest, Message::Unchoke);
    for _ in 0..3600 {
        if table.swarm().is_complete() {
            return;
        }
        for block in table.requests_to(honest) {
            table.block(honest, block);
        }
        table.say(honest, Message::KeepAlive);
        table.wait(Duration::from_secs(1));
    }
    panic!(
        "an hour with an honest seed, and {:?} is missing",
        table.swarm().wanted().minus(table.swarm().have()).collect::<Vec<_>>()
    );
}
