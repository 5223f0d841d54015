//! What the core costs for a block, and the wire for a message. The first must not depend on the number
//! of pieces.
//!
//!     cargo bench --bench core

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use btget::event::{Direction, State};
use btget::internals::bitfield::Bitfield;
use btget::internals::blocks::BlockData;
use btget::internals::ids::PeerKey;
use btget::internals::layout::{BLOCK_LENGTH, Block, Layout, PieceIndex};
use btget::internals::swarm::{Hello, Input, Output, Swarm, SwarmConfig};
use btget::internals::wire::extended::{self, ExtensionHandshake};
use btget::internals::wire::{Limits, Message, PeerId, Reserved, next_frame};

/// Blocks that are timed.
const BLOCKS: u32 = 200_000;

/// Blocks in a piece.
const PIECE: u32 = 16;

/// Pieces that are missing at the end of a torrent: more than the windows of 20 peers hold, so that it is picking that
/// is timed.
const LAST: u32 = 5_000;

fn main() {
    say("swarm: ns a block, from request to the request of the next; one thread, no I/O");
    for (what, least, missing) in
        [("all pieces are missing", 1_000, u32::MAX), ("5,000 pieces are missing", 10_000, LAST)]
    {
        say(what);
        say("   pieces   1 seed   20 seeds   20 peers with half");
        for pieces in [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|&pieces| pieces >= least) {
            let cost = |(peers, half)| download(pieces, peers, half, missing.min(pieces));
            let costs = [(1, false), (20, false), (20, true)].map(cost);
            say(&format!("{pieces:>9}   {:>6.0}   {:>8.0}   {:>18.0}", costs[0], costs[1], costs[2]));
        }
    }
    say("\nwire: ns a message");
    wire();
}

/// ns for each block of a download from some peers, that stops after `BLOCKS` blocks. So many pieces are `missing` when
/// it begins, spread evenly; if that is not all, it stops when half of them are there.
fn download(pieces: u32, peers: u64, half: bool, missing: u32) -> f64 {
    let piece_length = PIECE * BLOCK_LENGTH;
    let size = u64::from(pieces) * u64::from(piece_length);
    let layout = Arc::new(Layout::new(piece_length, [(size, false)]).expect("it is a torrent"));
    let mut have = Bitfield::full(pieces);
    (0..pieces).step_by((pieces / missing) as usize).for_each(|piece| {
        have.remove(PieceIndex(piece));
    });
    let mut now = Instant::now();
    let config =
        SwarmConfig { have, max_peers: 200, upload_slots: 8, ..SwarmConfig::for_tests(layout.clone()) };
    let mut swarm = Swarm::new(now, config);
    swarm.handle(now, Input::Enter(State::Started));
    for number in 1..=peers {
        join(&mut swarm, now, PeerKey(number), pieces, half.then_some(number as u32));
    }
    let mut asked: VecDeque<(PeerKey, Block)> = VecDeque::new();
    let (mut done, mut began) = (0, None);
    let most = if missing < pieces { missing / 2 } else { pieces };
    while done < BLOCKS.min(most * PIECE) {
        while let Some(output) = swarm.poll(now) {
            match output {
                Output::Send(peer, Message::Request(block)) => asked.push_back((peer, block)),
                Output::Verify { piece, .. } => {
                    swarm.handle(now, Input::Passed { piece, digests: Vec::new() });
                }
                _ => {}
            }
        }
        // The first thousand fill caches and windows.
        if done == 1_000 {
            began = Some(Instant::now());
        }
        let Some((peer, block)) = asked.pop_front() else { break };
        now += Duration::from_micros(10);
        black_box(swarm.on_block(now, peer, block, BlockData::exact(0)));
        done += 1;
    }
    began.map_or(0.0, |began: Instant| began.elapsed().as_nanos() as f64 / f64::from(done - 1_000))
}

fn join(swarm: &mut Swarm, now: Instant, peer: PeerKey, pieces: u32, half: Option<u32>) {
    let address = ([10, 0, 0, peer.0 as u8], 6881).into();
    let reserved = Reserved::EXTENSION.with(Reserved::FAST);
    let peer_id = PeerId([peer.0 as u8 + 10; 20]);
    swarm.handle(
        now,
        Input::Connected(Hello {
            peer,
            address,
            direction: Direction::In,
            transport: "tcp",
            reserved,
            peer_id,
            encryption: Default::default(),
            was_greeted: false,
        }),
    );
    let mut has = Bitfield::full(pieces);
    if let Some(number) = half {
        has = Bitfield::new(pieces);
        (0..pieces).filter(|piece| (piece / 7 + number) % 2 == 0).for_each(|piece| {
            has.insert(PieceIndex(piece));
        });
    }
    let theirs = ExtensionHandshake { request_queue: Some(500), ..ExtensionHandshake::default() };
    let payload = theirs.encode();
    swarm.handle(now, Input::Message(peer, Message::Bitfield(has.to_wire())));
    swarm.handle(now, Input::Message(peer, Message::Extended { id: extended::HANDSHAKE_ID, payload }));
    swarm.handle(now, Input::Message(peer, Message::Unchoke));
}

fn wire() {
    let block = Block { piece: PieceIndex(7), begin: 0, length: BLOCK_LENGTH };
    let limits = Limits { num_pieces: Some(1000) };
    for message in [Message::Have(PieceIndex(3)), Message::Request(block), Message::Bitfield(vec![255; 125])]
    {
        let mut bytes = Vec::new();
        message.encode_into(&mut bytes);
        let encode = time(|| {
            bytes.clear();
            message.encode_into(black_box(&mut bytes));
        });
        let decode = time(|| {
            black_box(next_frame(black_box(&bytes), &limits).is_ok());
        });
        say(&format!("{:>12}   encode {encode:>5.1}   decode {decode:>5.1}", message.name()));
    }
}

fn time(mut work: impl FnMut()) -> f64 {
    const TIMES: u32 = 1_000_000;
    let began = Instant::now();
    (0..TIMES).for_each(|_| work());
    began.elapsed().as_nanos() as f64 / f64::from(TIMES)
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
