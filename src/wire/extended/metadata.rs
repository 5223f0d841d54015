//! `ut_metadata` (BEP 9): a torrent's `info` dictionary, passed on in pieces of 16 KiB.
//!
//! Owns the shape of the messages. Whether a piece was asked for, and whether it has the length that it must, is for
//! `fetch` to judge.

use bendy::encoding::Encoder;

use super::super::ProtocolError;
use crate::bencode;

/// Bytes in a piece of metadata; the last one may have fewer.
pub const METADATA_PIECE_LENGTH: u32 = 16 << 10;

/// The most bytes of metadata that are fetched: 30 MiB. A torrent with the most pieces that we read has 40 MiB of
/// hashes, but those that are passed on by links are far smaller, and what is announced here costs memory.
pub const MAX_METADATA_SIZE: u32 = 30 << 20;

/// Pieces in metadata of that size.
pub const MAX_METADATA_PIECES: u32 = MAX_METADATA_SIZE.div_ceil(METADATA_PIECE_LENGTH);

/// A size that a peer has told, if metadata can have it: 1 to [`MAX_METADATA_SIZE`] bytes.
pub fn usable_metadata_size(told: i64) -> Option<u32> {
    u32::try_from(told).ok().filter(|size| (1..=MAX_METADATA_SIZE).contains(size))
}

/// A message of `ut_metadata`. Piece numbers are below [`MAX_METADATA_PIECES`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataMessage {
    /// The sender asks for a piece.
    Request {
        /// Its number, from 0.
        piece: u32,
    },
    /// A piece.
    Data {
        /// Its number, from 0.
        piece: u32,
        /// Bytes of metadata in all, as the sender says, which can be anything; see [`usable_metadata_size`].
        /// `None`: not said.
        total_size: Option<i64>,
        /// All that follows the dictionary, so of any length.
        data: Vec<u8>,
    },
    /// The sender does not give this piece.
    Reject {
        /// Its number, from 0.
        piece: u32,
    },
}

impl MetadataMessage {
    /// The payload that says this.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, piece, total_size, data) = match self {
            MetadataMessage::Request { piece } => (0, piece, None, &[][..]),
            MetadataMessage::Data { piece, total_size, data } => (1, piece, *total_size, &data[..]),
            MetadataMessage::Reject { piece } => (2, piece, None, &[][..]),
        };
        let mut encoder = Encoder::new();
        let encoded = encoder.emit_dict(|mut dict| {
            dict.emit_pair(b"msg_type", kind)?;
            dict.emit_pair(b"piece", piece)?;
            total_size.map_or(Ok(()), |size| dict.emit_pair(b"total_size", size))
        });
        let mut payload =
            encoded.and_then(|()| encoder.get_output()).expect("the keys are sorted, distinct and shallow");
        payload.extend_from_slice(data);
        payload
    }

    /// Reads a payload; `None` if it is of a type that we do not know, which BEP 9 wants ignored. What follows the
    /// dictionary of a request or a reject is ignored.
    ///
    /// # Errors
    ///
    /// If it has no type, or no number of a piece that metadata can have.
    pub fn decode(payload: &[u8]) -> Result<Option<MetadataMessage>, ProtocolError> {
        let malformed = |reason: String| ProtocolError::Malformed { message: "ut_metadata", reason };
        let (value, data) = bencode::decode_prefix(payload).map_err(|error| malformed(error.to_string()))?;
        let dict = value.as_dict().ok_or_else(|| malformed(format!("{} is no dictionary", value.kind())))?;
        let [mut kind, mut piece, mut total_size] = [None; 3];
        for (key, value) in dict {
            let wanted = match key {
                b"msg_type" => &mut kind,
                b"piece" => &mut piece,
                b"total_size" => &mut total_size,
                _ => continue,
            };
            *wanted = wanted.or(super::integer(value));
        }
        let kind = kind.ok_or_else(|| malformed("it has no msg_type".into()))?;
        if !(0..=2).contains(&kind) {
            return Ok(None);
        }
        let piece =
            piece.and_then(|piece| u32::try_from(piece).ok()).filter(|&piece| piece < MAX_METADATA_PIECES);
        let piece = piece.ok_or_else(|| malformed("it has no piece that there can be".into()))?;
        Ok(Some(match kind {
            0 => MetadataMessage::Request { piece },
            1 => MetadataMessage::Data { piece, total_size, data: data.to_vec() },
            _ => MetadataMessage::Reject { piece },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = MetadataMessage> {
        let piece = 0..MAX_METADATA_PIECES;
        prop_oneof![
            piece.clone().prop_map(|piece| MetadataMessage::Request { piece }),
            piece.clone().prop_map(|piece| MetadataMessage::Reject { piece }),
            (piece, any::<Option<i64>>(), prop::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(piece, total_size, data)| MetadataMessage::Data { piece, total_size, data }),
        ]
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(message in messages()) {
            prop_assert_eq!(MetadataMessage::decode(&message.encode()), Ok(Some(message)));
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            text in "d8:msg_typei[0-9-]{1,21}e5:piecei[0-9-]{1,21}e(10:total_sizei[0-9-]{1,21}e)?e[a-z]{0,5}",
        ) {
            let _ = MetadataMessage::decode(&bytes);
            if let Ok(Some(message)) = MetadataMessage::decode(text.as_bytes()) {
                prop_assert_eq!(MetadataMessage::decode(&message.encode()), Ok(Some(message)));
            }
        }
    }

    #[test]
    fn the_examples_of_bep_9_are_understood() {
        let data = MetadataMessage::Data { piece: 0, total_size: Some(34256), data: b"xxxxxxxx".to_vec() };
        for (payload, message) in [
            (&b"d8:msg_typei0e5:piecei0ee"[..], MetadataMessage::Request { piece: 0 }),
            (b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx", data),
            (b"d8:msg_typei2e5:piecei0ee", MetadataMessage::Reject { piece: 0 }),
        ] {
            assert_eq!(MetadataMessage::decode(payload).unwrap().as_ref(), Some(&message));
            assert_eq!(message.encode(), payload);
        }
    }

    #[test]
    fn a_type_that_we_do_not_know_is_no_error() {
        for kind in ["3", "-1", "256", "4294967296", "99999999999999999999"] {
            let payload = format!("d8:msg_typei{kind}ee");
            assert_eq!(MetadataMessage::decode(payload.as_bytes()), Ok(None), "{kind}");
        }
    }

    #[test]
    fn numbers_are_checked_before_they_are_cut() {
        for piece in ["-1", "1920", "4294967296", "18446744073709551616", "-18446744073709551616"] {
            let payload = format!("d8:msg_typei0e5:piecei{piece}ee");
            assert!(MetadataMessage::decode(payload.as_bytes()).is_err(), "{piece}");
        }
        assert!(MetadataMessage::decode(b"d8:msg_typei0e5:piecei1919ee").unwrap().is_some());
        for payload in ["le", "", "d5:piecei0ee", "d8:msg_typei0ee", "d8:msg_type1:05:piecei0ee"] {
            assert!(MetadataMessage::decode(payload.as_bytes()).is_err(), "{payload}");
        }
        let sizes = [1, 31_457_280].map(|size| usable_metadata_size(size).map(i64::from));
        assert_eq!(sizes, [Some(1), Some(31_457_280)]);
        for size in [0, -1, 31_457_281, 1 << 32, (1 << 32) + 5, i64::MAX, i64::MIN] {
            assert_eq!(usable_metadata_size(size), None, "{size}");
        }
    }

    #[test]
    fn a_size_beyond_64_bits_is_no_missing_one() {
        let payload = b"d8:msg_typei1e5:piecei0e10:total_sizei99999999999999999999eex";
        let Ok(Some(MetadataMessage::Data { total_size, .. })) = MetadataMessage::decode(payload) else {
            panic!("it is data")
        };
        assert_eq!(total_size, Some(i64::MAX));
    }
}
