//! The 68 bytes that each side sends first (BEP 3), and the reserved bits in them.

use super::{PeerId, ProtocolError};
use crate::ids::WireHash;

/// Bytes in a handshake.
pub const HANDSHAKE_LENGTH: usize = 68;

/// What every handshake begins with: the length of the protocol's name, and the name.
pub const PROTOCOL: &[u8] = b"\x13BitTorrent protocol";

/// The eight reserved bytes: what the sender can do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// Extension protocol (BEP 10): bit 20 from the right.
    pub const EXTENSION: Reserved = Reserved([0, 0, 0, 0, 0, 0x10, 0, 0]);
    /// Fast extension (BEP 6): the third least significant bit of the last byte.
    pub const FAST: Reserved = Reserved([0, 0, 0, 0, 0, 0, 0, 0x04]);
    /// DHT (BEP 5): the last bit.
    pub const DHT: Reserved = Reserved([0, 0, 0, 0, 0, 0, 0, 0x01]);
    /// Version 2 (BEP 52), said beside the hash of version 1 of a hybrid: the fourth most significant bit of the last byte.
    pub const V2: Reserved = Reserved([0, 0, 0, 0, 0, 0, 0, 0x10]);

    /// These bits and those.
    #[must_use]
    pub const fn with(self, other: Reserved) -> Reserved {
        Reserved((u64::from_be_bytes(self.0) | u64::from_be_bytes(other.0)).to_be_bytes())
    }

    /// The bits that both sides have set: what counts between them.
    #[must_use]
    pub const fn shared_with(self, other: Reserved) -> Reserved {
        Reserved((u64::from_be_bytes(self.0) & u64::from_be_bytes(other.0)).to_be_bytes())
    }

    /// Whether all of these bits are set.
    pub fn has(self, bits: Reserved) -> bool {
        u64::from_be_bytes(self.0) & u64::from_be_bytes(bits.0) == u64::from_be_bytes(bits.0)
    }
}

/// A handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// What the sender can do.
    pub reserved: Reserved,
    /// The torrent that this connection is about.
    pub info_hash: WireHash,
    /// Who the sender says it is.
    pub peer_id: PeerId,
}

impl Handshake {
    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; HANDSHAKE_LENGTH] {
        let mut bytes = [0; HANDSHAKE_LENGTH];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Reads the handshake at the front of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::NotBitTorrent`] at the first byte that cannot belong to a handshake.
    pub fn decode(bytes: &[u8]) -> Result<Option<Handshake>, ProtocolError> {
        let begin = &bytes[..bytes.len().min(PROTOCOL.len())];
        if !PROTOCOL.starts_with(begin) {
            return Err(ProtocolError::NotBitTorrent(format!("\"{}\"", begin.escape_ascii())));
        }
        let Some(bytes) = bytes.first_chunk::<HANDSHAKE_LENGTH>() else {
            return Ok(None);
        };
        let (mut reserved, mut info_hash, mut peer_id) = ([0; 8], [0; 20], [0; 20]);
        reserved.copy_from_slice(&bytes[20..28]);
        info_hash.copy_from_slice(&bytes[28..48]);
        peer_id.copy_from_slice(&bytes[48..]);
        Ok(Some(Handshake {
            reserved: Reserved(reserved),
            info_hash: WireHash(info_hash),
            peer_id: PeerId(peer_id),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_handshake_is_read_as_it_was_written(
            reserved: [u8; 8], info_hash: [u8; 20], peer_id: [u8; 20], tail: [u8; 5],
        ) {
            let handshake = Handshake {
                reserved: Reserved(reserved), info_hash: WireHash(info_hash), peer_id: PeerId(peer_id),
            };
            let bytes = [&handshake.encode()[..], &tail].concat();
            for end in 0..HANDSHAKE_LENGTH {
                prop_assert_eq!(Handshake::decode(&bytes[..end]), Ok(None));
            }
            prop_assert_eq!(Handshake::decode(&bytes), Ok(Some(handshake)));
        }

        #[test]
        fn random_bytes_are_no_handshake(bytes in prop::collection::vec(any::<u8>(), 20..100)) {
            prop_assert!(Handshake::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_stranger_is_known_by_its_first_byte() {
        let error = Handshake::decode(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"not a BitTorrent handshake: it begins with "GET / HTTP/1.1\r\n\r\n""#
        );
        assert!(Handshake::decode(b"G").is_err());
    }

    #[test]
    fn reserved_bits_stand_where_the_beps_put_them() {
        let ours = Reserved::EXTENSION.with(Reserved::FAST);
        assert_eq!(ours.0, [0, 0, 0, 0, 0, 0x10, 0, 4]);
        assert!(ours.has(Reserved::EXTENSION) && ours.has(Reserved::FAST) && !ours.has(Reserved::DHT));
        assert!(!Reserved::default().has(Reserved::FAST));
        assert_eq!(ours.shared_with(Reserved::FAST.with(Reserved::DHT)), Reserved::FAST);
    }
}
