//! The side that calls.

use super::key::PrivateKey;
use super::{
    Ciphers, KEY_LENGTH, MAX_PAD, Method, Methods, MseError, ciphers, find_sign, hash_of, obscured, pad,
};
use crate::ids::WireHash;

/// What to do next.
#[derive(Debug)]
pub enum CallStep {
    /// Send this, then read on.
    Send(Vec<u8>),
    /// Read on.
    Need,
    /// It is done.
    Done {
        /// For the rest of the connection; `None`: it goes on in plaintext.
        ciphers: Option<Ciphers>,
        /// What came behind the handshake, deciphered.
        early: Vec<u8>,
    },
}

enum State {
    /// Until the other side's key is here.
    Key(PrivateKey),
    /// Until the sign is found behind the other side's padding.
    Sign { ciphers: Ciphers, sign: [u8; 8] },
    /// Until the method that it has chosen is here, and its padding, of which so many bytes are known.
    Answer { ciphers: Ciphers, method: Option<(Method, usize)> },
    /// It is over, well or not.
    Over,
}

/// A call under way.
pub struct Caller {
    torrent: WireHash,
    methods: Methods,
    /// The first payload.
    initial: Vec<u8>,
    received: Vec<u8>,
    pad: Vec<u8>,
    state: State,
    /// The secret begins with a zero.
    has_short_secret: bool,
}

impl Caller {
    /// A call for this torrent, and what to send first. `initial` is sent along with the handshake: the BitTorrent handshake, for some
    /// clients expect neither less there nor more.
    pub fn new(
        torrent: WireHash,
        methods: Methods,
        initial: Vec<u8>,
        rng: &mut fastrand::Rng,
    ) -> (Caller, Vec<u8>) {
        let key = PrivateKey::new(rng);
        let mut first = key.public().to_vec();
        first.extend(pad(rng));
        let pad = pad(rng);
        let caller = Caller {
            torrent,
            methods,
            initial,
            received: Vec::new(),
            pad,
            state: State::Key(key),
            has_short_secret: false,
        };
        (caller, first)
    }

    /// These bytes have come. What they are not enough for waits for the next ones; call again with none after [`CallStep::Send`].
    ///
    /// # Errors
    ///
    /// If this is no handshake of the same torrent, or the other side takes none of our methods. Then it is over.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<CallStep, MseError> {
        self.received.extend_from_slice(bytes);
        match std::mem::replace(&mut self.state, State::Over) {
            State::Key(key) => match self.received.first_chunk::<KEY_LENGTH>() {
                None => {
                    self.state = State::Key(key);
                    Ok(CallStep::Need)
                }
                Some(theirs) => {
                    let secret = key.secret(theirs)?;
                    self.received.drain(..KEY_LENGTH);
                    Ok(CallStep::Send(self.ask(&secret)))
                }
            },
            State::Sign { ciphers, sign } => match find_sign(&self.received, &sign)? {
                None => {
                    self.state = State::Sign { ciphers, sign };
                    Ok(CallStep::Need)
                }
                Some(at) => {
                    self.received.drain(..at + sign.len());
                    self.state = State::Answer { ciphers, method: None };
                    self.feed(&[])
                }
            },
            State::Answer { mut ciphers, method: None } => {
                let Some((answer, rest)) = self.received.split_first_chunk::<6>() else {
                    self.state = State::Answer { ciphers, method: None };
                    return Ok(CallStep::Need);
                };
                let (mut answer, rest) = (*answer, rest.to_vec());
                ciphers.incoming.apply(&mut answer);
                let [a, b, c, d, e, f] = answer;
                let chosen = u32::from_be_bytes([a, b, c, d]);
                let known =
                    [Method::Plaintext, Method::Rc4].into_iter().find(|method| method.bit() == chosen);
                let method = known.filter(|&method| self.methods.takes(method)).ok_or(MseError::NoMethod)?;
                let pad = usize::from(u16::from_be_bytes([e, f]));
                if pad > MAX_PAD {
                    return Err(MseError::Malformed);
                }
                self.received = rest;
                self.state = State::Answer { ciphers, method: Some((method, pad)) };
                self.feed(&[])
            }
            State::Answer { mut ciphers, method: Some((method, pad)) } => {
                if self.received.len() < pad {
                    self.state = State::Answer { ciphers, method: Some((method, pad)) };
                    return Ok(CallStep::Need);
                }
                ciphers.incoming.apply(&mut self.received[..pad]);
                let mut early = self.received.split_off(pad);
                let ciphers = (method == Method::Rc4).then_some(ciphers).map(|mut ciphers| {
                    ciphers.incoming.apply(&mut early);
                    ciphers
                });
                Ok(CallStep::Done { ciphers, early })
            }
            State::Over => Err(MseError::Malformed),
        }
    }

    /// Whether the other side may have reckoned with other keys, so that another call is worth while: some clients (rtorrent) leave out
    /// zeros at the beginning of the secret, which one in 256 has.
    pub fn may_be_misunderstood(&self) -> bool {
        self.has_short_secret
    }

    /// Says which torrent it is about, which methods we take, and the first payload.
    fn ask(&mut self, secret: &[u8; KEY_LENGTH]) -> Vec<u8> {
        self.has_short_secret = secret[0] == 0;
        let [outgoing, incoming] = ciphers(secret, self.torrent);
        let mut ciphers = Ciphers { incoming, outgoing };
        let mut message = hash_of(&[b"req1", secret]).0.to_vec();
        let name = obscured(self.torrent);
        let mask = hash_of(&[b"req3", secret]);
        message.extend(name.0.iter().zip(mask.0).map(|(name, mask)| name ^ mask));
        let start = message.len();
        message.extend(super::VERIFICATION);
        message.extend(self.methods.bits().to_be_bytes());
        message.extend((self.pad.len() as u16).to_be_bytes());
        message.append(&mut self.pad);
        message.extend((self.initial.len() as u16).to_be_bytes());
        message.append(&mut self.initial);
        ciphers.outgoing.apply(&mut message[start..]);
        let sign = ciphers.incoming.verification();
        self.state = State::Sign { ciphers, sign };
        message
    }
}
