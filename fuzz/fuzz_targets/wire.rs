//! Anything a peer may send: handshake, then messages. Nothing panics, and what was read says again
//! the bytes it was read from.
#![no_main]

use btget::internals::wire::{ExtensionHandshake, Frame, Handshake, Limits, Message, PeerId, next_frame, piece_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, [u8; 20], &[u8])| {
    let (num_pieces, peer_id, mut bytes) = input;
    let limits = Limits { num_pieces: num_pieces % (1 << 21) };
    assert!(!PeerId(peer_id).client_name().chars().any(char::is_control));
    if let Ok(Some(handshake)) = Handshake::decode(bytes) {
        assert_eq!(handshake.encode()[..], bytes[..68]);
    }
    while let Ok(Some(frame)) = next_frame(bytes, &limits) {
        let mut again = Vec::new();
        let consumed = match &frame {
            Frame::PieceHeader { block, consumed } => {
                again.extend(piece_header(*block));
                assert_eq!(again, bytes[..*consumed]);
                (*consumed + block.length as usize).min(bytes.len())
            }
            Frame::Message(message, consumed) => {
                assert!(*consumed <= limits.max_buffered());
                assert_eq!(message.wire_length(), *consumed);
                message.encode_into(&mut again);
                if !matches!(message, Message::Unknown { .. }) {
                    assert_eq!(again, bytes[..*consumed]);
                }
                if let Message::Extended { payload, .. } = message {
                    extension_handshake(payload);
                }
                *consumed
            }
        };
        bytes = &bytes[consumed..];
    }
});

fn extension_handshake(payload: &[u8]) {
    if let Ok(handshake) = ExtensionHandshake::decode(payload) {
        let client = handshake.client.as_deref().unwrap_or_default();
        assert!(!client.chars().any(char::is_control));
        let _ = ExtensionHandshake::decode(&handshake.encode()).expect("what we write can be read");
    }
}
