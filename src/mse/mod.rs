//! Message stream encryption (MSE, also called PE): the handshake by which two peers hide from others what they speak, as pure machines for
//! both sides, and the cipher that may follow.
//!
//! It has no BEP; the description is that of the Azureus and µTorrent developers ("Message Stream Encryption", 2006). It obscures
//! a connection and keeps nobody out: whoever knows the info hash can take part, and neither side is authenticated.
//!
//! Pure: bytes in, bytes out. No sockets, no clock; randomness is handed in.

mod answerer;
mod caller;
mod key;
mod policy;
mod rc4;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::hash::{Sha1, sha1};
use crate::ids::WireHash;
use rc4::Rc4;

pub use answerer::{AnswerStep, Answerer, Asked};
pub use caller::{CallStep, Caller};
pub use policy::{EncryptionPolicy, Way};

/// Bytes of padding that a side may put where the protocol allows it.
pub const MAX_PAD: usize = 512;

/// Bytes of a public key.
pub const KEY_LENGTH: usize = 96;

/// The longest first payload that a caller may put into the handshake. Clients put their BitTorrent handshake there, of 68 bytes.
pub const MAX_INITIAL: usize = 4096;

/// Bytes of a cipher's stream that both sides throw away.
const DISCARDED: usize = 1024;

/// Proof that a side has the right keys: eight zeros, enciphered.
const VERIFICATION: [u8; 8] = [0; 8];

/// What follows the handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Method {
    /// The plain protocol: only the handshake was hidden.
    Plaintext,
    /// All of it enciphered.
    Rc4,
}

impl Method {
    /// Its bit in `crypto_provide` and `crypto_select`.
    fn bit(self) -> u32 {
        match self {
            Method::Plaintext => 1,
            Method::Rc4 => 2,
        }
    }
}

/// Which methods a side takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Methods {
    /// Whether the plain protocol may follow.
    pub plaintext: bool,
    /// Of both, the one that is chosen.
    pub preferred: Method,
}

impl Methods {
    fn bits(self) -> u32 {
        Method::Rc4.bit() | if self.plaintext { Method::Plaintext.bit() } else { 0 }
    }

    fn takes(self, method: Method) -> bool {
        self.bits() & method.bit() != 0
    }

    /// What to choose of `offered`.
    fn choose(self, offered: u32) -> Option<Method> {
        let other = if self.preferred == Method::Rc4 { Method::Plaintext } else { Method::Rc4 };
        [self.preferred, other].into_iter().find(|&method| self.takes(method) && offered & method.bit() != 0)
    }
}

/// Why a handshake has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MseError {
    /// Whoever sends such a key would know the secret without taking part.
    #[error("an encryption key that is none")]
    BadKey,
    /// More padding than is allowed, or other keys: the two cannot be told apart.
    #[error("no sign of an encrypted handshake")]
    NoSign,
    /// Of what follows the sign, something is not as it has to be.
    #[error("a bad encrypted handshake")]
    Malformed,
    /// The other side takes none of the methods that we do.
    #[error("no encryption that both sides take")]
    NoMethod,
    /// Nobody here has the torrent.
    #[error("asks for a torrent that is not here, encrypted")]
    UnknownTorrent,
}

/// RC4 in one direction of a connection.
pub struct Cipher(Box<Rc4>);

impl Cipher {
    /// By this key, the first kilobyte of the stream thrown away.
    fn new(key: &Sha1) -> Cipher {
        let mut cipher = Cipher(Box::new(Rc4::new(&key.0)));
        cipher.apply(&mut [0; DISCARDED]);
        cipher
    }

    /// Enciphers, or deciphers, what comes next.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.apply(bytes);
    }

    /// The verification constant, enciphered; takes it out of the stream.
    fn verification(&mut self) -> [u8; 8] {
        let mut bytes = VERIFICATION;
        self.apply(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

/// The ciphers of a connection that goes on enciphered.
#[derive(Debug)]
pub struct Ciphers {
    /// For what comes.
    pub incoming: Cipher,
    /// For what goes out.
    pub outgoing: Cipher,
}

/// The ciphers that a secret and a torrent make: for what the caller says, and for what the other side says.
fn ciphers(secret: &[u8; KEY_LENGTH], torrent: WireHash) -> [Cipher; 2] {
    [b"keyA", b"keyB"].map(|side| Cipher::new(&hash_of(&[side, secret, &torrent.0])))
}

fn hash_of(parts: &[&[u8]]) -> Sha1 {
    sha1(&parts.concat())
}

/// What stands in an encrypted handshake for a torrent; whoever does not know the info hash learns nothing by it.
pub fn obscured(torrent: WireHash) -> Sha1 {
    hash_of(&[b"req2", &torrent.0])
}

/// How far into `bytes` the sign stands, which may come behind padding. `Ok(None)`: more bytes are needed.
fn find_sign(bytes: &[u8], sign: &[u8]) -> Result<Option<usize>, MseError> {
    let reach = &bytes[..bytes.len().min(MAX_PAD + sign.len())];
    match reach.windows(sign.len()).position(|window| window == sign) {
        Some(at) => Ok(Some(at)),
        None if reach.len() == MAX_PAD + sign.len() => Err(MseError::NoSign),
        None => Ok(None),
    }
}

fn pad(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut pad = vec![0; rng.usize(..=MAX_PAD)];
    rng.fill(&mut pad);
    pad
}
