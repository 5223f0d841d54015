//! Which extensions we want messages of: the `m` of our extension handshakes, and what comes in by it.

use super::{Extended, ExtensionHandshake, HANDSHAKE_ID, HolepunchMessage, MetadataMessage, PexMessage};
use crate::layout::PieceIndex;
use crate::wire::ProtocolError;

/// BEP 9.
pub const UT_METADATA: &str = "ut_metadata";

/// BEP 11.
pub const UT_PEX: &str = "ut_pex";

/// BEP 54.
pub const LT_DONTHAVE: &str = "lt_donthave";

/// BEP 55.
pub const UT_HOLEPUNCH: &str = "ut_holepunch";

const UT_METADATA_ID: u8 = 1;
const UT_PEX_ID: u8 = 2;
/// The id under which we want messages of `lt_donthave`.
pub(crate) const LT_DONTHAVE_ID: u8 = 3;
const UT_HOLEPUNCH_ID: u8 = 4;

/// The extensions that a connection of ours offers; by default none. Our ids for them are always the same.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Offer {
    /// `ut_metadata` (BEP 9): we answer requests for metadata, or ask for them.
    pub metadata: bool,
    /// `ut_pex` (BEP 11): we take peers from this peer. Never in a private torrent (BEP 27).
    pub pex: bool,
    /// `lt_donthave` (BEP 54): we understand that a peer has lost a piece.
    pub dont_have: bool,
    /// `ut_holepunch` (BEP 55): we are introduced to peers, and introduce them to one another. Only where peers are called by uTP, and never in
    /// a private torrent.
    pub holepunch: bool,
}

impl Offer {
    /// The `m` that offers this.
    pub fn extensions(self) -> Vec<(String, u8)> {
        let named = |(name, id): (&str, u8)| (name.to_owned(), id);
        self.entries().filter(|&(_, _, offered)| offered).map(|(name, id, _)| named((name, id))).collect()
    }

    /// The `m` by which a connection that has offered `before` offers this: what is new, and 0 for what is taken back.
    pub fn changes_since(self, before: Offer) -> Vec<(String, u8)> {
        let changed = self.entries().zip(before.entries()).filter(|(now, then)| now.2 != then.2);
        changed.map(|((name, id, offered), _)| (name.to_owned(), if offered { id } else { 0 })).collect()
    }

    fn entries(self) -> impl Iterator<Item = (&'static str, u8, bool)> {
        [
            (UT_METADATA, UT_METADATA_ID, self.metadata),
            (UT_PEX, UT_PEX_ID, self.pex),
            (LT_DONTHAVE, LT_DONTHAVE_ID, self.dont_have),
            (UT_HOLEPUNCH, UT_HOLEPUNCH_ID, self.holepunch),
        ]
        .into_iter()
    }

    /// Reads a message that has come in on a connection that offers this.
    ///
    /// # Errors
    ///
    /// If its payload is not what its extension says it is.
    pub fn decode(self, id: u8, payload: &[u8]) -> Result<Extended, ProtocolError> {
        match id {
            HANDSHAKE_ID => ExtensionHandshake::decode(payload).map(Extended::Handshake),
            UT_METADATA_ID if self.metadata => {
                let message = MetadataMessage::decode(payload)?;
                Ok(message.map_or(Extended::Unknown(id), Extended::Metadata))
            }
            UT_PEX_ID if self.pex => PexMessage::decode(payload).map(Extended::Pex),
            UT_HOLEPUNCH_ID if self.holepunch => {
                let message = HolepunchMessage::decode(payload)?;
                Ok(message.map_or(Extended::Unknown(id), Extended::Holepunch))
            }
            LT_DONTHAVE_ID if self.dont_have => {
                let bytes = payload.try_into().map_err(|_| ProtocolError::Malformed {
                    message: LT_DONTHAVE,
                    reason: format!("it has {} bytes, 4 expected", payload.len()),
                })?;
                Ok(Extended::DontHave(PieceIndex(u32::from_be_bytes(bytes))))
            }
            _ => Ok(Extended::Unknown(id)),
        }
    }
}

/// The payload of a message of `lt_donthave` (BEP 54): its sender has this piece no more.
pub fn encode_dont_have(piece: PieceIndex) -> Vec<u8> {
    piece.0.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Offer = Offer { metadata: true, pex: true, dont_have: true, holepunch: true };

    #[test]
    fn what_is_offered_is_understood_and_nothing_else() {
        let piece = PieceIndex(0x0102_0304);
        let punch = HolepunchMessage::Rendezvous(([10, 0, 0, 7], 6881).into());
        let messages = [
            (UT_METADATA_ID, MetadataMessage::Request { piece: 3 }.encode()),
            (UT_PEX_ID, PexMessage::default().encode()),
            (LT_DONTHAVE_ID, encode_dont_have(piece)),
            (UT_HOLEPUNCH_ID, punch.encode()),
        ];
        let read = messages.each_ref().map(|(id, payload)| ALL.decode(*id, payload).unwrap());
        let expected = [
            Extended::Metadata(MetadataMessage::Request { piece: 3 }),
            Extended::Pex(PexMessage::default()),
            Extended::DontHave(piece),
            Extended::Holepunch(punch),
        ];
        assert_eq!(read, expected);
        for (id, payload) in messages {
            assert_eq!(Offer::default().decode(id, &payload), Ok(Extended::Unknown(id)));
            assert_eq!(Offer::default().decode(id, b"anything"), Ok(Extended::Unknown(id)));
        }
        assert_eq!(ALL.decode(9, b"anything"), Ok(Extended::Unknown(9)));
        assert_eq!(ALL.decode(UT_METADATA_ID, b"d8:msg_typei7ee"), Ok(Extended::Unknown(UT_METADATA_ID)));
    }

    #[test]
    fn a_message_that_is_not_what_it_says_is_an_error() {
        for (id, payload) in [
            (UT_METADATA_ID, &b"le"[..]),
            (UT_PEX_ID, b"le"),
            (LT_DONTHAVE_ID, b"\0\0\0"),
            (LT_DONTHAVE_ID, b"\0\0\0\0\0"),
            (UT_HOLEPUNCH_ID, b"\0\0\x01"),
        ] {
            assert!(ALL.decode(id, payload).is_err(), "{id}");
        }
    }

    #[test]
    fn an_offer_names_its_ids_and_is_taken_back_by_a_0() {
        let named = |list: &[(&str, u8)]| -> Vec<_> {
            list.iter().map(|&(name, id)| (name.to_owned(), id)).collect()
        };
        assert_eq!(Offer::default().extensions(), named(&[]));
        assert_eq!(
            ALL.extensions(),
            named(&[(UT_METADATA, 1), (UT_PEX, 2), (LT_DONTHAVE, 3), (UT_HOLEPUNCH, 4)])
        );
        let private = Offer { pex: false, holepunch: false, ..ALL };
        assert_eq!(private.changes_since(ALL), named(&[(UT_PEX, 0), (UT_HOLEPUNCH, 0)]));
        assert_eq!(ALL.changes_since(private), named(&[(UT_PEX, 2), (UT_HOLEPUNCH, 4)]));
        assert_eq!(ALL.changes_since(ALL), named(&[]));
    }

    proptest! {
        #[test]
        fn random_payloads_never_panic(id in 0u8..6, payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = ALL.decode(id, &payload);
        }
    }
}
