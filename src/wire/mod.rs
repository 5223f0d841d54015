//! The peer wire protocol as bytes: handshake, messages, framing (BEP 3, 6, 10, 52); and the packets of local discovery (BEP 14).
//!
//! Owns the shape of what goes over a connection and every check that needs no knowledge of the
//! swarm: exact lengths, bounds. Never reads or writes a socket, and never judges whether a
//! message makes sense now; that is the swarm's business.

pub mod decode;
pub mod extended;
pub mod handshake;
pub mod hashes;
pub mod lsd;
pub mod message;
pub mod peer_id;

pub use decode::{Frame, Limits, frame_needs, next_frame};
pub use extended::{Extended, ExtensionHandshake};
pub use handshake::{HANDSHAKE_LENGTH, Handshake, Reserved};
pub use hashes::{HashRange, MAX_HASHES};
pub use message::{Message, PIECE_HEADER_LENGTH, piece_header};
pub use peer_id::PeerId;

/// What a peer did that the protocol does not allow. The connection is closed with this as the
/// reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The first bytes are not those of BEP 3's handshake.
    #[error("not a BitTorrent handshake: it begins with {0}")]
    NotBitTorrent(String),
    /// A length prefix beyond anything that we take; nothing was read or stored for it.
    #[error("message of {length} bytes is too long: at most {limit} are allowed")]
    TooLong {
        /// As the peer gave it.
        length: u32,
        /// The greatest length that could have been right.
        limit: u32,
    },
    /// A message whose length does not fit its type.
    #[error("{message} message of {length} bytes has the wrong length: {expected} expected")]
    WrongLength {
        /// The message's name in the BEPs.
        message: &'static str,
        /// As the peer gave it, the byte of the type included.
        length: u32,
        /// What would have been right, for people.
        expected: String,
    },
    /// The payload of an extension message cannot be read.
    #[error("{message} message is malformed: {reason}")]
    Malformed {
        /// The message's name in the BEPs.
        message: &'static str,
        /// Why.
        reason: String,
    },
}
