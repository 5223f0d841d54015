//! The side that is called.

use super::key::PrivateKey;
use super::{
    Ciphers, KEY_LENGTH, MAX_INITIAL, MAX_PAD, Method, Methods, MseError, ciphers, find_sign, hash_of, pad,
};
use crate::hash::Sha1;
use crate::ids::WireHash;

/// What to do next.
#[derive(Debug)]
pub enum AnswerStep {
    /// Send this, then go on with [`Answerer::feed`].
    Send(Vec<u8>),
    /// Read on.
    Need,
    /// Find out which torrent this is about, and go on with [`Answerer::resume`].
    Which(Asked),
    /// Send the answer; then it is done.
    Done {
        /// The answer, the last bytes of the handshake.
        answer: Vec<u8>,
        /// The torrent that the caller asks for.
        torrent: WireHash,
        /// For the rest of the connection; `None`: it goes on in plaintext.
        ciphers: Option<Ciphers>,
        /// What came with the handshake and behind it, deciphered: it begins with the caller's BitTorrent handshake, as far as it is here.
        early: Vec<u8>,
    },
}

/// The torrent that a caller asks for: the one of which [`obscured`](super::obscured) is this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked(pub Sha1);

/// What is known once the torrent is.
struct Known {
    torrent: WireHash,
    ciphers: Ciphers,
}

enum State {
    /// Until the caller's key is here.
    Key(PrivateKey),
    /// Until the sign is found behind the caller's padding, and the torrent's name behind that.
    Sign([u8; KEY_LENGTH]),
    /// Until it is known which torrent it is.
    Named([u8; KEY_LENGTH]),
    /// Until the methods are here that the caller takes, and how long its padding is.
    Offer(Known),
    /// Until the padding is, and how long the first payload is.
    Pad { known: Known, method: Method, pad: usize },
    /// Until the first payload is.
    Initial { known: Known, method: Method, length: usize },
    /// It is over, well or not.
    Over,
}

/// A call that is being answered.
pub struct Answerer {
    methods: Methods,
    received: Vec<u8>,
    rng: fastrand::Rng,
    state: State,
}

impl Answerer {
    /// Of a call that takes these methods. All random choices are of `rng`.
    pub fn new(methods: Methods, mut rng: fastrand::Rng) -> Answerer {
        let key = PrivateKey::new(&mut rng);
        Answerer { methods, received: Vec::new(), rng, state: State::Key(key) }
    }

    /// These bytes have come. What they are not enough for waits for the next ones; call again with none after [`AnswerStep::Send`].
    ///
    /// # Errors
    ///
    /// If this is no handshake, or the caller takes none of our methods. Then it is over.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<AnswerStep, MseError> {
        self.received.extend_from_slice(bytes);
        match std::mem::replace(&mut self.state, State::Over) {
            State::Key(key) => {
                let Some(theirs) = self.received.first_chunk::<KEY_LENGTH>() else {
                    return Ok(self.wait(State::Key(key)));
                };
                let secret = key.secret(theirs)?;
                self.received.drain(..KEY_LENGTH);
                let mut ours = key.public().to_vec();
                ours.extend(pad(&mut self.rng));
                self.state = State::Sign(secret);
                Ok(AnswerStep::Send(ours))
            }
            State::Sign(secret) => {
                let sign = hash_of(&[b"req1", &secret]);
                let found = find_sign(&self.received, &sign.0)?;
                let name = found.and_then(|at| self.received.get(at + 20..at + 40));
                let Some((at, name)) = found.zip(name) else { return Ok(self.wait(State::Sign(secret))) };
                let mask = hash_of(&[b"req3", &secret]);
                let mut asked = mask;
                asked.0.iter_mut().zip(name).for_each(|(mask, name)| *mask ^= name);
                self.received.drain(..at + 40);
                self.state = State::Named(secret);
                Ok(AnswerStep::Which(Asked(asked)))
            }
            State::Named(secret) => Ok(self.wait(State::Named(secret))),
            State::Offer(mut known) => {
                let Some((offer, rest)) = self.received.split_first_chunk::<14>() else {
                    return Ok(self.wait(State::Offer(known)));
                };
                let (mut offer, rest) = (*offer, rest.to_vec());
                known.ciphers.incoming.apply(&mut offer);
                self.received = rest;
                if offer[..8] != super::VERIFICATION {
                    return Err(MseError::Malformed);
                }
                let offered = u32::from_be_bytes([offer[8], offer[9], offer[10], offer[11]]);
                let pad = usize::from(u16::from_be_bytes([offer[12], offer[13]]));
                if pad > MAX_PAD {
                    return Err(MseError::Malformed);
                }
                let method = self.methods.choose(offered).ok_or(MseError::NoMethod)?;
                self.state = State::Pad { known, method, pad };
                self.feed(&[])
            }
            State::Pad { mut known, method, pad } => {
                if self.received.len() < pad + 2 {
                    return Ok(self.wait(State::Pad { known, method, pad }));
                }
                let rest = self.received.split_off(pad + 2);
                known.ciphers.incoming.apply(&mut self.received);
                let length = usize::from(u16::from_be_bytes([self.received[pad], self.received[pad + 1]]));
                self.received = rest;
                if length > MAX_INITIAL {
                    return Err(MseError::Malformed);
                }
                self.state = State::Initial { known, method, length };
                self.feed(&[])
            }
            State::Initial { known, method, length } if self.received.len() < length => {
                Ok(self.wait(State::Initial { known, method, length }))
            }
            State::Initial { known, method, length } => Ok(self.finish(known, method, length)),
            State::Over => Err(MseError::Malformed),
        }
    }

    /// The torrent that was asked for is this one; `None`: it is not here.
    ///
    /// # Errors
    ///
    /// As [`Answerer::feed`], and if the torrent is not here.
    pub fn resume(&mut self, torrent: Option<WireHash>) -> Result<AnswerStep, MseError> {
        let State::Named(secret) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(MseError::Malformed);
        };
        let torrent = torrent.ok_or(MseError::UnknownTorrent)?;
        let [incoming, outgoing] = ciphers(&secret, torrent);
        let ciphers = Ciphers { incoming, outgoing };
        self.state = State::Offer(Known { torrent, ciphers });
        self.feed(&[])
    }

    fn wait(&mut self, state: State) -> AnswerStep {
        self.state = state;
        AnswerStep::Need
    }

    fn finish(&mut self, known: Known, method: Method, length: usize) -> AnswerStep {
        let Known { torrent, mut ciphers } = known;
        let mut answer = super::VERIFICATION.to_vec();
        let pad = pad(&mut self.rng);
        answer.extend(method.bit().to_be_bytes());
        answer.extend((pad.len() as u16).to_be_bytes());
        answer.extend(pad);
        ciphers.outgoing.apply(&mut answer);
        // The first payload is enciphered whatever follows.
        let mut early = std::mem::take(&mut self.received);
        let enciphered = if method == Method::Rc4 { early.len() } else { length };
        ciphers.incoming.apply(&mut early[..enciphered]);
        let ciphers = (method == Method::Rc4).then_some(ciphers);
        AnswerStep::Done { answer, torrent, ciphers, early }
    }
}
