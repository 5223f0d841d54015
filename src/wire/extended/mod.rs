//! The extension protocol (BEP 10): messages whose ids each side chooses for itself.
//!
//! Owns what the ids mean. What comes in bears the ids that our handshake gives ([`Offer`]); what goes out bears those
//! of the peer's handshakes ([`PeerExtensions`]).

mod handshake;
mod holepunch;
mod metadata;
mod offer;
mod pex;

use super::{Message, ProtocolError};
use crate::bencode::{Value, ValueKind};
use crate::layout::PieceIndex;

pub use handshake::{
    DEFAULT_REQUEST_QUEUE, ExtensionHandshake, MAX_CLIENT_NAME, MAX_EXTENSION_NAME, MAX_EXTENSIONS,
    MAX_REQUEST_QUEUE, OUR_CLIENT,
};
pub use holepunch::{HolepunchError, HolepunchMessage};
pub use metadata::{
    MAX_METADATA_PIECES, MAX_METADATA_SIZE, METADATA_PIECE_LENGTH, MetadataMessage, usable_metadata_size,
};
pub(crate) use offer::LT_DONTHAVE_ID;
pub use offer::{LT_DONTHAVE, Offer, UT_HOLEPUNCH, UT_METADATA, UT_PEX, encode_dont_have};
pub use pex::{MAX_PEX_PEERS, PexFlags, PexMessage};

/// The id of the extension handshake, the same for both sides.
pub const HANDSHAKE_ID: u8 = 0;

/// An extension message that has come in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extended {
    /// The peer says how it numbers its extensions; it may say so again later.
    Handshake(ExtensionHandshake),
    /// Metadata are asked for, given or refused (BEP 9).
    Metadata(MetadataMessage),
    /// The peer says whom it is connected to (BEP 11).
    Pex(PexMessage),
    /// The peer asks to be introduced to another one, or introduces us, or says why it does not (BEP 55).
    Holepunch(HolepunchMessage),
    /// The peer has this piece no more (BEP 54). Any number; the torrent need not have such a piece.
    DontHave(PieceIndex),
    /// A message with an id that our handshake did not give, or of a type that we do not know: to be ignored.
    Unknown(u8),
}

impl Extended {
    /// Reads a message on a connection that offers no extension; see [`Offer::decode`].
    ///
    /// # Errors
    ///
    /// If its payload is not what its extension says it is.
    pub fn decode(id: u8, payload: &[u8]) -> Result<Extended, ProtocolError> {
        Offer::default().decode(id, payload)
    }
}

/// An integer; one beyond 64 bits as the greatest there is, so that it is not taken for one that is missing.
fn integer(value: Value<'_>) -> Option<i64> {
    match (value.kind(), value.as_int()) {
        (ValueKind::Integer, None) => Some(i64::MAX),
        (_, number) => number,
    }
}

impl From<&ExtensionHandshake> for Message {
    /// The message that says this.
    fn from(handshake: &ExtensionHandshake) -> Message {
        Message::Extended { id: HANDSHAKE_ID, payload: handshake.encode() }
    }
}

/// The ids under which a peer wants messages of extensions. At most [`MAX_EXTENSIONS`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerExtensions {
    ids: Vec<(String, u8)>,
}

impl PeerExtensions {
    /// Takes what a handshake says: a later one adds to the earlier ones, and an id of 0 turns an extension off.
    pub fn update(&mut self, handshake: &ExtensionHandshake) {
        for (name, id) in &handshake.extensions {
            match self.ids.iter().position(|(known, _)| known == name) {
                Some(place) => self.ids[place].1 = *id,
                None if self.ids.len() < MAX_EXTENSIONS => self.ids.push((name.clone(), *id)),
                None => {}
            }
        }
    }

    /// The id under which the peer wants messages of this extension, if it wants them.
    pub fn id_of(&self, name: &str) -> Option<u8> {
        self.ids.iter().find(|(known, _)| known == name).map(|&(_, id)| id).filter(|&id| id != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naming(extensions: &[(&str, u8)]) -> ExtensionHandshake {
        let extensions = extensions.iter().map(|&(name, id)| (name.to_owned(), id)).collect();
        ExtensionHandshake { extensions, ..ExtensionHandshake::default() }
    }

    #[test]
    fn a_later_handshake_adds_changes_and_turns_off() {
        let mut theirs = PeerExtensions::default();
        theirs.update(&naming(&[("ut_pex", 1), ("ut_metadata", 2)]));
        theirs.update(&naming(&[("ut_pex", 0), ("lt_donthave", 7)]));
        theirs.update(&naming(&[("ut_metadata", 9)]));
        let ids = ["ut_pex", "ut_metadata", "lt_donthave", "x"].map(|name| theirs.id_of(name));
        assert_eq!(ids, [None, Some(9), Some(7), None]);
    }

    #[test]
    fn a_peer_that_names_ever_new_extensions_fills_no_memory() {
        let mut theirs = PeerExtensions::default();
        for number in 0..1000 {
            theirs.update(&naming(&[(&format!("x{number}"), 1)]));
        }
        assert_eq!(theirs.ids.len(), MAX_EXTENSIONS);
    }

    #[test]
    fn an_id_beyond_a_byte_is_none_and_not_its_last_byte() {
        let mut theirs = PeerExtensions::default();
        theirs.update(&ExtensionHandshake::decode(b"d1:md6:ut_pexi3eee").unwrap());
        let odd = b"d1:md11:lt_donthavei-1e11:ut_metadatai300e6:ut_pexi4294967300eee";
        theirs.update(&ExtensionHandshake::decode(odd).unwrap());
        let ids = [UT_PEX, UT_METADATA, LT_DONTHAVE].map(|name| theirs.id_of(name));
        assert_eq!(ids, [Some(3), None, None]);
    }

    #[test]
    fn only_our_ids_mean_something() {
        let handshake = naming(&[("ut_pex", 1)]);
        let Message::Extended { id, payload } = Message::from(&handshake) else { panic!("it is one") };
        assert_eq!(Extended::decode(id, &payload), Ok(Extended::Handshake(handshake)));
        assert_eq!(Extended::decode(1, b"anything"), Ok(Extended::Unknown(1)));
        assert!(Extended::decode(HANDSHAKE_ID, b"le").is_err());
    }

    proptest! {
        #[test]
        fn random_payloads_never_panic(id: u8, payload in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Extended::decode(id, &payload);
        }
    }
}
