//! Framing: from a run of received bytes to messages, with every length checked against its type
//! before anything is stored (BEP 3, BEP 6, BEP 10).

use std::ops::RangeInclusive;

use super::ProtocolError;
use super::hashes::{HASH_RANGE_LENGTH, HashRange, MAX_HASHES_LENGTH};
use super::message::{Message, PIECE_HEADER_LENGTH, id};
use crate::hash::Sha256;
use crate::layout::{BLOCK_LENGTH, Block, PieceIndex};

/// The longest extension message taken, its two ids included. The greatest that a peer has reason
/// to send is a 16 KiB piece of metadata with its dictionary (BEP 9); peer exchange (BEP 11) and the
/// extension handshake stay far below. 128 KiB leaves room for odd ones and costs little.
pub const MAX_EXTENDED: u32 = 128 * 1024;

/// The longest message of an unknown type that is skipped; longer ones close the connection. As
/// much as an extension message: what is not known is not likely to be greater.
pub const MAX_UNKNOWN: u32 = MAX_EXTENDED;

/// The longest bitfield taken while it is not known how many pieces the torrent has: 2^21 of them.
pub const MAX_BITFIELD: u32 = 1 + (1 << 21) / 8;

/// What the lengths are checked against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How many pieces the torrent has; fixes the length of a bitfield. `None` while that is not known.
    pub num_pieces: Option<u32>,
}

impl Limits {
    /// The greatest length prefix that can be right.
    fn max_length(self) -> u32 {
        (*self.bitfield_lengths().end()).max(MAX_EXTENDED).max(MAX_UNKNOWN).max(9 + BLOCK_LENGTH)
    }

    fn bitfield_lengths(self) -> RangeInclusive<u32> {
        match self.num_pieces.map(|pieces| 1 + pieces.div_ceil(8)) {
            Some(length) => length..=length,
            None => 1..=MAX_BITFIELD,
        }
    }

    /// The most bytes that [`next_frame`] ever needs to see at once, length prefix included.
    pub fn max_buffered(self) -> usize {
        4 + self.max_length() as usize
    }
}

/// What stands at the front of the received bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A whole message and how many bytes it took. Never [`Message::Piece`].
    Message(Message, usize),
    /// The header of a block; its `length` bytes of data follow, and may not be there yet. Between
    /// 1 byte and [`BLOCK_LENGTH`], the most that we ask for.
    PieceHeader {
        /// What is delivered.
        block: Block,
        /// Bytes that the header took: [`PIECE_HEADER_LENGTH`].
        consumed: usize,
    },
}

/// Reads the frame at the front of `bytes`; `None` if more bytes are needed.
///
/// # Errors
///
/// A length that its type does not allow, as soon as the prefix and the type have come: nothing
/// needs to be kept for a message that will be refused.
pub fn next_frame(bytes: &[u8], limits: &Limits) -> Result<Option<Frame>, ProtocolError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix);
    if length == 0 {
        return Ok(Some(Frame::Message(Message::KeepAlive, 4)));
    }
    if length > limits.max_length() {
        return Err(ProtocolError::TooLong { length, limit: limits.max_length() });
    }
    let Some((&id, rest)) = rest.split_first() else {
        return Ok(None);
    };
    check_length(id, length, limits)?;
    if id == id::PIECE {
        return Ok(rest.first_chunk().map(|numbers| piece_frame(length, numbers)));
    }
    let Some(payload) = rest.get(..length as usize - 1) else {
        return Ok(None);
    };
    Ok(Some(Frame::Message(message(id, payload), 4 + length as usize)))
}

/// How many bytes there have to be before [`next_frame`] finds more in what begins with `bytes`, of which it has
/// found nothing: the prefix and the type first, then all of the message, or the header of a block.
pub fn frame_needs(bytes: &[u8]) -> usize {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return 4 };
    match rest.first() {
        None => 5,
        Some(&id::PIECE) => PIECE_HEADER_LENGTH,
        Some(_) => 4 + u32::from_be_bytes(*prefix) as usize,
    }
}

/// Bytes of a message about hashes before the hashes, the byte of the type included.
const HASHES_BEGIN: u32 = 1 + HASH_RANGE_LENGTH as u32;

/// Whether a message of this type may have this length (the byte of the type included).
fn check_length(id: u8, length: u32, limits: &Limits) -> Result<(), ProtocolError> {
    let (message, allowed) = match id {
        id::CHOKE => ("choke", 1..=1),
        id::UNCHOKE => ("unchoke", 1..=1),
        id::INTERESTED => ("interested", 1..=1),
        id::NOT_INTERESTED => ("not interested", 1..=1),
        id::HAVE => ("have", 5..=5),
        id::BITFIELD => ("bitfield", limits.bitfield_lengths()),
        id::REQUEST => ("request", 13..=13),
        id::PIECE => ("piece", 10..=9 + BLOCK_LENGTH),
        id::CANCEL => ("cancel", 13..=13),
        id::PORT => ("port", 3..=3),
        id::SUGGEST => ("suggest piece", 5..=5),
        id::HAVE_ALL => ("have all", 1..=1),
        id::HAVE_NONE => ("have none", 1..=1),
        id::REJECT => ("reject request", 13..=13),
        id::ALLOWED_FAST => ("allowed fast", 5..=5),
        id::EXTENDED => ("extended", 2..=MAX_EXTENDED),
        id::HASH_REQUEST => ("hash request", HASHES_BEGIN..=HASHES_BEGIN),
        id::HASHES => ("hashes", HASHES_BEGIN..=MAX_HASHES_LENGTH),
        id::HASH_REJECT => ("hash reject", HASHES_BEGIN..=HASHES_BEGIN),
        _ => ("unknown", 1..=MAX_UNKNOWN),
    };
    let is_whole = id != id::HASHES || length.wrapping_sub(HASHES_BEGIN).is_multiple_of(32);
    if allowed.contains(&length) && is_whole {
        return Ok(());
    }
    let (least, most) = allowed.into_inner();
    let expected = if least == most { least.to_string() } else { format!("{least} to {most}") };
    Err(ProtocolError::WrongLength { message, length, expected })
}

fn piece_frame(length: u32, numbers: &[u8; 8]) -> Frame {
    let block =
        Block { piece: PieceIndex(number(numbers, 0)), begin: number(numbers, 1), length: length - 9 };
    Frame::PieceHeader { block, consumed: PIECE_HEADER_LENGTH }
}

/// A message whose length has been checked.
fn message(id: u8, payload: &[u8]) -> Message {
    let piece = || PieceIndex(number(payload, 0));
    let block = || Block { piece: piece(), begin: number(payload, 1), length: number(payload, 2) };
    match id {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have(piece()),
        id::BITFIELD => Message::Bitfield(payload.to_vec()),
        id::REQUEST => Message::Request(block()),
        id::CANCEL => Message::Cancel(block()),
        id::PORT => Message::Port(u16::from_be_bytes([payload[0], payload[1]])),
        id::SUGGEST => Message::Suggest(piece()),
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject(block()),
        id::ALLOWED_FAST => Message::AllowedFast(piece()),
        id::EXTENDED => Message::Extended { id: payload[0], payload: payload[1..].to_vec() },
        id::HASH_REQUEST | id::HASHES | id::HASH_REJECT => about_hashes(id, payload),
        id => Message::Unknown { id, length: payload.len() as u32 },
    }
}

/// A message about hashes whose length has been checked.
fn about_hashes(id: u8, payload: &[u8]) -> Message {
    let Some(range) = HashRange::decode(payload).map(Box::new) else {
        return Message::Unknown { id, length: payload.len() as u32 };
    };
    match id {
        id::HASH_REQUEST => Message::HashRequest(range),
        id::HASH_REJECT => Message::HashReject(range),
        _ => {
            let hashes = payload[HASH_RANGE_LENGTH..].chunks(32).filter_map(Sha256::of_bytes).collect();
            Message::Hashes(range, hashes)
        }
    }
}

/// The `index`th 32-bit number of a payload whose length has been checked.
fn number(payload: &[u8], index: usize) -> u32 {
    let at = index * 4;
    u32::from_be_bytes([payload[at], payload[at + 1], payload[at + 2], payload[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NUM_PIECES: u32 = 77;
    const LIMITS: Limits = Limits { num_pieces: Some(NUM_PIECES) };

    fn blocks() -> impl Strategy<Value = Block> {
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, length)| Block {
            piece: PieceIndex(piece),
            begin,
            length,
        })
    }

    fn ranges() -> impl Strategy<Value = Box<HashRange>> {
        (any::<[u8; 32]>(), any::<[u32; 4]>()).prop_map(|(root, [base, index, length, proof_layers])| {
            Box::new(HashRange { root: Sha256(root), base, index, length, proof_layers })
        })
    }

    fn messages() -> impl Strategy<Value = Message> {
        let pieces = || any::<u32>().prop_map(PieceIndex);
        let delivered = (blocks(), 1..=BLOCK_LENGTH).prop_map(|(block, length)| Block { length, ..block });
        let bits = prop::collection::vec(any::<u8>(), NUM_PIECES.div_ceil(8) as usize);
        let payload = prop::collection::vec(any::<u8>(), 0..300);
        let unknown = prop_oneof![10u8..=12, 18u8..=19, 24u8..=255];
        let hashes = prop::collection::vec(any::<[u8; 32]>().prop_map(Sha256), 0..20);
        prop_oneof![
            Just(Message::KeepAlive),
            Just(Message::Choke),
            Just(Message::Unchoke),
            Just(Message::Interested),
            Just(Message::NotInterested),
            pieces().prop_map(Message::Have),
            bits.prop_map(Message::Bitfield),
            blocks().prop_map(Message::Request),
            delivered.prop_map(Message::Piece),
            blocks().prop_map(Message::Cancel),
            any::<u16>().prop_map(Message::Port),
            pieces().prop_map(Message::Suggest),
            Just(Message::HaveAll),
            Just(Message::HaveNone),
            blocks().prop_map(Message::Reject),
            pieces().prop_map(Message::AllowedFast),
            (any::<u8>(), payload).prop_map(|(id, payload)| Message::Extended { id, payload }),
            ranges().prop_map(Message::HashRequest),
            (ranges(), hashes).prop_map(|(range, hashes)| Message::Hashes(range, hashes)),
            ranges().prop_map(Message::HashReject),
            (unknown, 0u32..300).prop_map(|(id, length)| Message::Unknown { id, length }),
        ]
    }

    /// The stream that sends these messages, blocks filled with bytes that look like messages.
    fn stream(messages: &[Message]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            let start = out.len();
            message.encode_into(&mut out);
            if let Message::Piece(block) = message {
                out.extend((0..block.length).map(|at| (at % 5) as u8));
            }
            assert_eq!(out.len() - start, message.wire_length());
        }
        out
    }

    /// Receives `bytes` in runs of the given lengths (over and over), as a connection would, and
    /// never holds more than the limits allow.
    fn receive(bytes: &[u8], runs: &[usize]) -> Result<Vec<Message>, ProtocolError> {
        let mut buffer: Vec<u8> = Vec::new();
        let mut messages = Vec::new();
        let (mut at, mut data) = (0, 0);
        for run in runs.iter().cycle() {
            if at == bytes.len() {
                break;
            }
            let end = bytes.len().min(at + run);
            buffer.extend(&bytes[at..end]);
            at = end;
            loop {
                let skipped = buffer.len().min(data);
                buffer.drain(..skipped);
                data -= skipped;
                if data > 0 {
                    break;
                }
                match next_frame(&buffer, &LIMITS)? {
                    None => break,
                    Some(Frame::Message(message, consumed)) => {
                        assert!(!matches!(message, Message::Piece(_)));
                        buffer.drain(..consumed);
                        messages.push(message);
                    }
                    Some(Frame::PieceHeader { block, consumed }) => {
                        buffer.drain(..consumed);
                        data = block.length as usize;
                        messages.push(Message::Piece(block));
                    }
                }
            }
            assert!(buffer.len() < LIMITS.max_buffered());
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received_wherever_the_stream_is_cut(
            sent in prop::collection::vec(messages(), 0..12),
            runs in prop::collection::vec(1usize..5000, 1..8),
        ) {
            let bytes = stream(&sent);
            prop_assert_eq!(receive(&bytes, &runs), Ok(sent.clone()));
            prop_assert_eq!(receive(&bytes, &[bytes.len().max(1)]), Ok(sent));
        }

        #[test]
        fn random_bytes_never_panic_and_never_need_more_than_the_limits(
            bytes in prop::collection::vec(prop_oneof![3 => 0u8..24, 1 => any::<u8>()], 0..4000),
        ) {
            let _ = receive(&bytes, &[bytes.len().max(1)]);
            let _ = receive(&bytes, &[1, 7]);
        }

        #[test]
        fn a_frame_that_is_not_whole_yet_is_waited_for(message in messages()) {
            let mut bytes = Vec::new();
            message.encode_into(&mut bytes);
            for end in 0..bytes.len() {
                prop_assert_eq!(next_frame(&bytes[..end], &LIMITS), Ok(None));
            }
        }

        #[test]
        fn every_type_takes_its_own_lengths_alone(id in any::<u8>(), length in 1u32..70_000) {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.push(id);
            let right = match id {
                0..=3 | 14 | 15 => length == 1,
                4 | 13 | 17 => length == 5,
                5 => length == 1 + 10,
                6 | 8 | 16 => length == 13,
                7 => length > 9 && length <= 9 + 16384,
                9 => length == 3,
                20 => length >= 2,
                21 | 23 => length == 49,
                22 => (49..=49 + 32 * 562).contains(&length) && (length - 49) % 32 == 0,
                _ => true,
            };
            prop_assert_eq!(next_frame(&bytes, &LIMITS).is_ok(), right);
        }
    }

    #[test]
    fn a_length_beyond_the_limits_is_refused_by_its_prefix_alone() {
        for length in [u32::MAX, 1 << 31, MAX_EXTENDED + 1] {
            let error = next_frame(&length.to_be_bytes(), &LIMITS).unwrap_err();
            assert_eq!(error, ProtocolError::TooLong { length, limit: MAX_EXTENDED });
        }
        assert_eq!(
            next_frame(&u32::MAX.to_be_bytes(), &LIMITS).unwrap_err().to_string(),
            "message of 4294967295 bytes is too long: at most 131072 are allowed"
        );
    }

    #[test]
    fn a_wrong_length_is_refused_before_the_payload_comes() {
        let error = next_frame(&[0, 0, 0, 13, 4], &LIMITS).unwrap_err();
        assert_eq!(error.to_string(), "have message of 13 bytes has the wrong length: 5 expected");
        let error = next_frame(&[0, 0, 0x80, 0, 7], &LIMITS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "piece message of 32768 bytes has the wrong length: 10 to 16393 expected"
        );
    }

    #[test]
    fn a_bitfield_of_the_largest_torrent_fits_its_limits() {
        let limits = Limits { num_pieces: Some(1 << 21) };
        let mut bytes = Vec::new();
        Message::Bitfield(vec![0xff; 1 << 18]).encode_into(&mut bytes);
        assert_eq!(limits.max_buffered(), bytes.len());
        let frame = next_frame(&bytes, &limits).unwrap().unwrap();
        assert_eq!(frame, Frame::Message(Message::Bitfield(vec![0xff; 1 << 18]), bytes.len()));
    }
}
