//! Handshakes and messages as the keys of an event.

use crate::wire::extended::HANDSHAKE_ID;
use crate::wire::{ExtensionHandshake, Handshake, HashRange, Message};

/// A handshake as the keys of an event.
pub(super) fn handshake_packet(handshake: &Handshake) -> serde_json::Value {
    let reserved: String = handshake.reserved.0.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({
        "type": "handshake",
        "reserved": reserved,
        "info_hash": handshake.info_hash.to_string(),
        "peer_id": handshake.peer_id.to_string(),
    })
}

/// A message as the keys of an event; never a block's data.
pub(super) fn packet(message: &Message) -> serde_json::Value {
    use serde_json::json;
    let kind = message.name();
    match message {
        Message::KeepAlive
        | Message::Choke
        | Message::Unchoke
        | Message::Interested
        | Message::NotInterested
        | Message::HaveAll
        | Message::HaveNone => json!({ "type": kind }),
        Message::Have(piece) | Message::Suggest(piece) | Message::AllowedFast(piece) => {
            json!({ "type": kind, "index": piece.0 })
        }
        Message::Bitfield(bytes) => json!({ "type": kind, "length": bytes.len() }),
        Message::Request(block) | Message::Piece(block) | Message::Cancel(block) | Message::Reject(block) => {
            json!({ "type": kind, "index": block.piece.0, "begin": block.begin, "length": block.length })
        }
        Message::Port(port) => json!({ "type": kind, "port": port }),
        Message::Extended { id, payload } => extended(kind, *id, payload),
        Message::HashRequest(range) | Message::HashReject(range) => of_hashes(kind, range, None),
        Message::Hashes(range, hashes) => of_hashes(kind, range, Some(hashes.len())),
        Message::Unknown { id, length } => json!({ "type": kind, "id": id, "length": length }),
    }
}

/// Which hashes, and how many came; never the hashes.
fn of_hashes(kind: &str, range: &HashRange, hashes: Option<usize>) -> serde_json::Value {
    let mut packet = serde_json::json!({
        "type": kind, "root": range.root.to_string(), "base": range.base, "index": range.index,
        "length": range.length, "proof_layers": range.proof_layers,
    });
    if let Some(hashes) = hashes {
        packet["hashes"] = hashes.into();
    }
    packet
}

/// Of the extension handshake (BEP 10), what it says. Not by BEP 10's names: every event has a `v`.
fn extended(kind: &str, id: u8, payload: &[u8]) -> serde_json::Value {
    let mut packet = serde_json::json!({ "type": kind, "id": id, "length": payload.len() });
    if id == HANDSHAKE_ID
        && let Ok(handshake) = ExtensionHandshake::decode(payload)
    {
        packet["extensions"] = handshake.extensions.into_iter().collect();
        packet["client"] = handshake.client.into();
        packet["port"] = handshake.port.into();
        packet["request_queue"] = handshake.request_queue.into();
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Sha256;
    use crate::ids::WireHash;
    use crate::layout::{Block, PieceIndex};
    use crate::wire::{PeerId, Reserved};
    use serde_json::json;

    #[test]
    fn every_message_becomes_its_type_and_its_fields() {
        let piece = PieceIndex(7);
        let block = Block { piece, begin: 16384, length: 99 };
        let of_block = |name: &str| json!({ "type": name, "index": 7, "begin": 16384, "length": 99 });
        let of_piece = |name: &str| json!({ "type": name, "index": 7 });
        let plain = |name: &str| json!({ "type": name });
        let hello = ExtensionHandshake {
            extensions: vec![("ut_pex".into(), 1)],
            client: Some("x".into()),
            port: Some(6881),
            request_queue: Some(250),
            ..ExtensionHandshake::default()
        };
        let payload = hello.encode();
        let root = Sha256([7; 32]);
        let range = Box::new(HashRange { root, base: 1, index: 4, length: 2, proof_layers: 3 });
        let of_hashes = json!({ "type": "hash_request", "root": "07".repeat(32), "base": 1, "index": 4,
            "length": 2, "proof_layers": 3 });
        let mut hashes = of_hashes.clone();
        hashes["type"] = "hashes".into();
        hashes["hashes"] = 7.into();
        let extended = json!({ "type": "extended", "id": 0, "length": payload.len(),
            "extensions": { "ut_pex": 1 }, "client": "x", "port": 6881, "request_queue": 250 });
        for (message, expected) in [
            (Message::KeepAlive, plain("keep_alive")),
            (Message::Choke, plain("choke")),
            (Message::Unchoke, plain("unchoke")),
            (Message::Interested, plain("interested")),
            (Message::NotInterested, plain("not_interested")),
            (Message::HaveAll, plain("have_all")),
            (Message::HaveNone, plain("have_none")),
            (Message::Have(piece), of_piece("have")),
            (Message::Suggest(piece), of_piece("suggest")),
            (Message::AllowedFast(piece), of_piece("allowed_fast")),
            (Message::Bitfield(vec![0xff; 3]), json!({ "type": "bitfield", "length": 3 })),
            (Message::Request(block), of_block("request")),
            (Message::Piece(block), of_block("piece")),
            (Message::Cancel(block), of_block("cancel")),
            (Message::Reject(block), of_block("reject")),
            (Message::Port(6881), json!({ "type": "port", "port": 6881 })),
            (Message::Extended { id: 0, payload }, extended),
            (
                Message::Extended { id: 3, payload: vec![1, 2] },
                json!({ "type": "extended", "id": 3, "length": 2 }),
            ),
            (Message::HashRequest(range.clone()), of_hashes.clone()),
            (Message::Hashes(range, vec![Sha256([1; 32]); 7]), hashes),
            (Message::Unknown { id: 99, length: 5 }, json!({ "type": "unknown", "id": 99, "length": 5 })),
        ] {
            assert_eq!(packet(&message), expected);
        }
        let handshake = Handshake {
            reserved: Reserved::FAST,
            info_hash: WireHash([0xab; 20]),
            peer_id: PeerId(*b"-bg010U-abcdefghijkl"),
        };
        let expected = json!({ "type": "handshake", "reserved": "0000000000000004",
            "info_hash": "ab".repeat(20), "peer_id": "-bg010U-abcdefghijkl" });
        assert_eq!(handshake_packet(&handshake), expected);
    }
}
