//! The messages and how they are written (BEP 3, BEP 6, BEP 10, BEP 52). Reading them is in `decode`.

use super::hashes::{HASH_RANGE_LENGTH, HashRange};
use crate::hash::Sha256;
use crate::layout::{Block, PieceIndex};

/// Bytes that stand before the data of a block: length prefix, id, index, begin.
pub const PIECE_HEADER_LENGTH: usize = 13;

/// One message. Block data are not part of it: they travel beside it, in buffers of their owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Nothing but a sign of life: a length prefix of 0.
    KeepAlive,
    /// The sender fills no requests.
    Choke,
    /// The sender fills requests.
    Unchoke,
    /// The sender wants something that we have.
    Interested,
    /// The sender wants nothing that we have.
    NotInterested,
    /// The sender has one more piece.
    Have(PieceIndex),
    /// The pieces that the sender has, high bit first; only as the first message.
    Bitfield(Vec<u8>),
    /// The sender asks for a block.
    Request(Block),
    /// The header of a block that is delivered; `length` bytes of data follow.
    Piece(Block),
    /// The sender does not need the block any more.
    Cancel(Block),
    /// The UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// The sender advises to take this piece (BEP 6).
    Suggest(PieceIndex),
    /// Instead of a bitfield with every bit set (BEP 6).
    HaveAll,
    /// Instead of a bitfield with no bit set (BEP 6).
    HaveNone,
    /// The request will not be filled (BEP 6).
    Reject(Block),
    /// The piece may be requested while choked (BEP 6).
    AllowedFast(PieceIndex),
    /// An extension message (BEP 10); id 0 is the extension handshake.
    Extended {
        /// As the receiver numbered it in its extension handshake.
        id: u8,
        /// What stands after the id.
        payload: Vec<u8>,
    },
    /// The sender asks for hashes of a merkle tree (BEP 52). In a box: it is rare, and longer than most.
    HashRequest(Box<HashRange>),
    /// The hashes that were asked for, and behind them those that prove them (BEP 52).
    Hashes(Box<HashRange>, Vec<Sha256>),
    /// The hashes will not be sent (BEP 52).
    HashReject(Box<HashRange>),
    /// A message of a type that we do not know; its payload was skipped.
    Unknown {
        /// The type.
        id: u8,
        /// Bytes of payload, without the byte of the type.
        length: u32,
    },
}

/// The bytes of the message types.
pub(crate) mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const NOT_INTERESTED: u8 = 3;
    pub(crate) const HAVE: u8 = 4;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
    pub(crate) const CANCEL: u8 = 8;
    pub(crate) const PORT: u8 = 9;
    pub(crate) const SUGGEST: u8 = 13;
    pub(crate) const HAVE_ALL: u8 = 14;
    pub(crate) const HAVE_NONE: u8 = 15;
    pub(crate) const REJECT: u8 = 16;
    pub(crate) const ALLOWED_FAST: u8 = 17;
    pub(crate) const EXTENDED: u8 = 20;
    pub(crate) const HASH_REQUEST: u8 = 21;
    pub(crate) const HASHES: u8 = 22;
    pub(crate) const HASH_REJECT: u8 = 23;
}

impl Message {
    /// Appends the message as it goes over the wire, length prefix included. Of a `Piece` this is
    /// the header alone, and the caller sends the data after it; an `Unknown`, which we never send,
    /// gets a payload of zeros.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Message::KeepAlive => out.extend([0; 4]),
            Message::Choke => plain(out, id::CHOKE),
            Message::Unchoke => plain(out, id::UNCHOKE),
            Message::Interested => plain(out, id::INTERESTED),
            Message::NotInterested => plain(out, id::NOT_INTERESTED),
            Message::Have(piece) => with_piece(out, id::HAVE, *piece),
            Message::Bitfield(bits) => with_payload(out, &[id::BITFIELD], bits),
            Message::Request(block) => with_block(out, id::REQUEST, *block),
            Message::Piece(block) => out.extend(piece_header(*block)),
            Message::Cancel(block) => with_block(out, id::CANCEL, *block),
            Message::Port(port) => with_payload(out, &[id::PORT], &port.to_be_bytes()),
            Message::Suggest(piece) => with_piece(out, id::SUGGEST, *piece),
            Message::HaveAll => plain(out, id::HAVE_ALL),
            Message::HaveNone => plain(out, id::HAVE_NONE),
            Message::Reject(block) => with_block(out, id::REJECT, *block),
            Message::AllowedFast(piece) => with_piece(out, id::ALLOWED_FAST, *piece),
            Message::Extended { id, payload } => with_payload(out, &[id::EXTENDED, *id], payload),
            Message::HashRequest(range) => with_hashes(out, id::HASH_REQUEST, range, &[]),
            Message::Hashes(range, hashes) => with_hashes(out, id::HASHES, range, hashes),
            Message::HashReject(range) => with_hashes(out, id::HASH_REJECT, range, &[]),
            Message::Unknown { id, length } => with_payload(out, &[*id], &vec![0; *length as usize]),
        }
    }

    /// The message's name, for events: the BEPs' words, in snake case.
    pub fn name(&self) -> &'static str {
        match self {
            Message::KeepAlive => "keep_alive",
            Message::Choke => "choke",
            Message::Unchoke => "unchoke",
            Message::Interested => "interested",
            Message::NotInterested => "not_interested",
            Message::Have(_) => "have",
            Message::Bitfield(_) => "bitfield",
            Message::Request(_) => "request",
            Message::Piece(_) => "piece",
            Message::Cancel(_) => "cancel",
            Message::Port(_) => "port",
            Message::Suggest(_) => "suggest",
            Message::HaveAll => "have_all",
            Message::HaveNone => "have_none",
            Message::Reject(_) => "reject",
            Message::AllowedFast(_) => "allowed_fast",
            Message::Extended { .. } => "extended",
            Message::HashRequest(_) => "hash_request",
            Message::Hashes(..) => "hashes",
            Message::HashReject(_) => "hash_reject",
            Message::Unknown { .. } => "unknown",
        }
    }

    /// Bytes that the message takes on the wire; of a `Piece`, the data included.
    pub fn wire_length(&self) -> usize {
        match self {
            Message::KeepAlive => 4,
            Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested
            | Message::HaveAll
            | Message::HaveNone => 5,
            Message::Have(_) | Message::Suggest(_) | Message::AllowedFast(_) => 9,
            Message::Request(_) | Message::Cancel(_) | Message::Reject(_) => 17,
            Message::Port(_) => 7,
            Message::Bitfield(bits) => 5 + bits.len(),
            Message::Piece(block) => PIECE_HEADER_LENGTH + block.length as usize,
            Message::Extended { payload, .. } => 6 + payload.len(),
            Message::HashRequest(_) | Message::HashReject(_) => 5 + HASH_RANGE_LENGTH,
            Message::Hashes(_, hashes) => 5 + HASH_RANGE_LENGTH + 32 * hashes.len(),
            Message::Unknown { length, .. } => 5 + *length as usize,
        }
    }
}

/// The bytes before the data of `block`, whose `length` is that of the data.
pub fn piece_header(block: Block) -> [u8; PIECE_HEADER_LENGTH] {
    let mut header = [0; PIECE_HEADER_LENGTH];
    header[0..4].copy_from_slice(&block.length.saturating_add(9).to_be_bytes());
    header[4] = id::PIECE;
    header[5..9].copy_from_slice(&block.piece.0.to_be_bytes());
    header[9..13].copy_from_slice(&block.begin.to_be_bytes());
    header
}

fn plain(out: &mut Vec<u8>, id: u8) {
    out.extend([0, 0, 0, 1, id]);
}

fn with_piece(out: &mut Vec<u8>, id: u8, piece: PieceIndex) {
    with_payload(out, &[id], &piece.0.to_be_bytes());
}

fn with_block(out: &mut Vec<u8>, id: u8, block: Block) {
    out.extend([0, 0, 0, 13, id]);
    for number in [block.piece.0, block.begin, block.length] {
        out.extend(number.to_be_bytes());
    }
}

fn with_hashes(out: &mut Vec<u8>, id: u8, range: &HashRange, hashes: &[Sha256]) {
    let length = 1 + HASH_RANGE_LENGTH + 32 * hashes.len();
    out.extend(u32::try_from(length).expect("what we send is far below 4 GiB").to_be_bytes());
    out.push(id);
    range.encode_into(out);
    hashes.iter().for_each(|hash| out.extend(hash.0));
}

fn with_payload(out: &mut Vec<u8>, ids: &[u8], payload: &[u8]) {
    let length = u32::try_from(ids.len() + payload.len()).expect("what we send is far below 4 GiB");
    out.extend(length.to_be_bytes());
    out.extend(ids);
    out.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode_into(&mut out);
        out
    }

    #[test]
    fn messages_have_the_bytes_that_the_beps_give_them() {
        let block = Block { piece: PieceIndex(0x0102_0304), begin: 0x4000, length: 0x1000 };
        let block_bytes = [1, 2, 3, 4, 0, 0, 0x40, 0, 0, 0, 0x10, 0];
        let numbered = |id: u8| [&[0, 0, 0, 13, id][..], &block_bytes].concat();
        let piece = PieceIndex(7);
        let range = HashRange { root: Sha256([9; 32]), base: 3, index: 0x200, length: 4, proof_layers: 5 };
        let numbers = [0, 0, 0, 3, 0, 0, 2, 0, 0, 0, 0, 4, 0, 0, 0, 5];
        let (range, range_bytes) = (Box::new(range), [&[9; 32][..], &numbers].concat());
        for (message, bytes) in [
            (Message::KeepAlive, vec![0, 0, 0, 0]),
            (Message::Choke, vec![0, 0, 0, 1, 0]),
            (Message::Unchoke, vec![0, 0, 0, 1, 1]),
            (Message::Interested, vec![0, 0, 0, 1, 2]),
            (Message::NotInterested, vec![0, 0, 0, 1, 3]),
            (Message::Have(piece), vec![0, 0, 0, 5, 4, 0, 0, 0, 7]),
            (Message::Bitfield(vec![0x80, 1]), vec![0, 0, 0, 3, 5, 0x80, 1]),
            (Message::Request(block), numbered(6)),
            (Message::Piece(block), vec![0, 0, 0x10, 9, 7, 1, 2, 3, 4, 0, 0, 0x40, 0]),
            (Message::Cancel(block), numbered(8)),
            (Message::Port(6881), vec![0, 0, 0, 3, 9, 0x1a, 0xe1]),
            (Message::Suggest(piece), vec![0, 0, 0, 5, 0x0d, 0, 0, 0, 7]),
            (Message::HaveAll, vec![0, 0, 0, 1, 0x0e]),
            (Message::HaveNone, vec![0, 0, 0, 1, 0x0f]),
            (Message::Reject(block), numbered(0x10)),
            (Message::AllowedFast(piece), vec![0, 0, 0, 5, 0x11, 0, 0, 0, 7]),
            (Message::Extended { id: 3, payload: vec![9] }, vec![0, 0, 0, 3, 20, 3, 9]),
            (Message::HashRequest(range.clone()), [&[0, 0, 0, 49, 21][..], &range_bytes].concat()),
            (Message::HashReject(range.clone()), [&[0, 0, 0, 49, 23][..], &range_bytes].concat()),
            (
                Message::Hashes(range, vec![Sha256([8; 32])]),
                [&[0, 0, 0, 81, 22][..], &range_bytes, &[8; 32]].concat(),
            ),
        ] {
            assert_eq!(encoded(&message), bytes, "{message:?}");
        }
    }
}
