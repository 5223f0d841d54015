use std::io::Write;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::layout::PieceIndex;
use crate::wire::piece_header;

const LENGTH: u32 = 16384;

/// The `number`th block of a torrent whose every 11th block is short.
fn block(number: u32) -> Block {
    let length = if number % 11 == 10 { 7000 } else { LENGTH };
    Block { piece: PieceIndex(number / 16), begin: number % 16 * LENGTH, length }
}

fn data(block: Block) -> Vec<u8> {
    let first = block.piece.0 * 16 + block.begin / LENGTH;
    (0..block.length).map(|at| (first * 31 + at / 5) as u8).collect()
}

fn wire(block: Block) -> Vec<u8> {
    [&piece_header(block)[..], &data(block)].concat()
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode_into(&mut bytes);
    bytes
}

/// What a reader that asked for `expected` makes of `bytes` that come in parts of these lengths, the last of
/// them again and again; the blocks are compared with what they should be.
fn read_all(
    expected: &[Block],
    bytes: &[u8],
    parts: &[usize],
    shared: &Rc<NetShared>,
) -> Vec<Result<Block, Message>> {
    read_all_by(expected, bytes, parts, 1 << 19, shared)
}

/// The same with reads of at most so many bytes.
fn read_all_by(
    expected: &[Block],
    bytes: &[u8],
    parts: &[usize],
    most: usize,
    shared: &Rc<NetShared>,
) -> Vec<Result<Block, Message>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let link = Link::Tcp(tokio::net::TcpStream::from_std(stream).unwrap());
        let mut reader = MessageReader::new(Limits { num_pieces: Some(100) }, None);
        expected.iter().for_each(|&block| reader.on_sent(&Message::Request(block)));
        let (mut sent, mut received, mut came) = (0, 0, Vec::new());
        let mut parts = parts.iter().copied();
        let mut part = 1;
        while received < bytes.len() {
            part = parts.next().unwrap_or(part);
            let end = bytes.len().min(sent + part);
            peer.write_all(&bytes[sent..end]).unwrap();
            sent = end;
            while received < sent {
                link.readable().await.unwrap();
                match reader.read(&link, shared, most, &mut came) {
                    Ok(count) => {
                        assert!(count <= most, "{count} bytes instead of {most}");
                        received += count;
                    }
                    Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let outcome = |incoming| match incoming {
            Incoming::Message(message) => Err(message),
            Incoming::Block(block, bytes) => {
                assert!(bytes.as_slice() == data(block), "{block:?}");
                shared.pool.put([bytes]);
                Ok(block)
            }
        };
        came.into_iter().map(outcome).collect()
    })
}

#[test]
fn a_block_that_nobody_asked_for_keeps_no_full_buffer() {
    let shared = NetShared::new(None, None);
    let short = Block { length: 1, ..block(7) };
    let bytes = [wire(block(0)), [&piece_header(short)[..], b"x"].concat(), wire(block(1))].concat();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.write_all(&bytes).unwrap();
    let mut came = Vec::new();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let link = Link::Tcp(tokio::net::TcpStream::from_std(stream).unwrap());
        let mut reader = MessageReader::new(Limits { num_pieces: Some(100) }, None);
        [block(0), block(1)].into_iter().for_each(|block| reader.on_sent(&Message::Request(block)));
        while came.len() < 3 {
            link.readable().await.unwrap();
            let _ = reader.read(&link, &shared, 1 << 19, &mut came);
        }
    });
    let blocks: Vec<(Block, BlockData)> = came
        .into_iter()
        .map(|incoming| match incoming {
            Incoming::Block(block, data) => (block, data),
            Incoming::Message(message) => panic!("{message:?}"),
        })
        .collect();
    assert_eq!(blocks.iter().map(|(block, _)| *block).collect::<Vec<_>>(), [block(0), short, block(1)]);
    assert_eq!(blocks[1].1.capacity(), 1);
    assert!(blocks[2].1.as_slice() == data(block(1)));
}

#[test]
fn a_long_message_in_single_bytes_is_copied_as_often_as_a_buffer_grows() {
    let shared = NetShared::new(None, None);
    let mut reader = MessageReader::new(Limits { num_pieces: Some(100) }, None);
    let message = Message::Extended { id: 9, payload: vec![0; 131_000] };
    let (mut out, mut places) = (Vec::new(), std::collections::BTreeSet::new());
    for byte in encoded(&message) {
        reader.feed(&[byte], &shared, &mut out).unwrap();
        places.insert((reader.carry.as_ptr() as usize, reader.carry.capacity()));
    }
    assert!(places.len() < 40, "moved {} times", places.len());
    let [Incoming::Message(came)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(*came, message);
}

#[test]
fn what_is_expected_is_known_as_a_set_too_whatever_was_asked_taken_back_and_came() {
    let shared = NetShared::new(None, None);
    let mut reader = MessageReader::new(Limits { num_pieces: Some(100) }, None);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut out = Vec::new();
    for _ in 0..20_000 {
        let block = block(rng.u32(..1000));
        match rng.u32(..4) {
            0 | 1 => reader.on_sent(&Message::Request(block)),
            2 => reader.on_sent(&Message::Cancel(block)),
            _ => reader.feed(&wire(block), &shared, &mut out).unwrap(),
        }
        shared.pool.put(out.drain(..).filter_map(Incoming::into_data));
        assert_eq!(reader.expected.len(), reader.is_expected.len());
    }
    assert!(reader.expected.iter().all(|block| reader.is_expected.contains(block)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// However the bytes are cut, and whatever comes between the blocks in whatever order, nothing is lost,
    /// changed or put in another order.
    #[test]
    fn what_was_sent_is_what_comes(
        order in Just((0..40u32).collect::<Vec<_>>()).prop_shuffle(),
        sorted in 0..40usize,
        asked in 0..40usize,
        between in prop::collection::vec((0..40usize, 0..3u8), 0..6),
        parts in prop::collection::vec(prop_oneof![1..20usize, 1..20_000usize, 10_000..200_000usize], 1..12),
        most in prop_oneof![500..3000usize, 1024..40_000usize],
    ) {
        // Partly in order, partly not; partly asked for, partly not.
        let mut order = order;
        order[..sorted].sort_unstable();
        let expected: Vec<Block> = (0..40).take(asked).map(block).collect();
        let mut sent = Vec::new();
        let mut bytes = Vec::new();
        for (at, &number) in order.iter().enumerate() {
            for &(_, kind) in between.iter().filter(|(place, _)| *place == at) {
                let message = match kind {
                    0 => Message::Have(PieceIndex(3)),
                    1 => Message::Choke,
                    _ => Message::AllowedFast(PieceIndex(9)),
                };
                bytes.extend(encoded(&message));
                sent.push(Err(message));
            }
            bytes.extend(wire(block(number)));
            sent.push(Ok(block(number)));
        }
        // Small parts only at first: each is a round.
        let parts: Vec<usize> = parts.into_iter().chain([200_000]).collect();
        prop_assert_eq!(read_all(&expected, &bytes, &parts, &NetShared::new(None, None)), &sent[..]);
        let few = read_all_by(&expected, &bytes, &parts, most, &NetShared::new(None, None));
        prop_assert_eq!(few, sent);
    }
}
