//! The encrypted handshake (MSE) on a socket, and what is remembered of it: who takes which way, and how much work strangers have caused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::dial::{DialError, read_some};
use super::link::Link;
use super::remembered::Remembered;
use crate::address::Machine;
use crate::hash::Sha1;
use crate::ids::WireHash;
use crate::mse::{
    AnswerStep, Answerer, CallStep, Caller, Ciphers, EncryptionPolicy, Methods, MseError, Way, obscured,
};

/// Encrypted calls of one machine that are answered in a second: each costs two powers of 768 bits, 0.12 ms.
const MAX_ANSWERS_OF_ONE: u32 = 10;

/// Encrypted calls of all machines that are answered in a second.
const MAX_ANSWERS: u32 = 200;

/// Bytes that are read at a time.
const READ: usize = 2048;

/// What all connections share about encryption.
#[derive(Debug)]
pub(crate) struct Secrecy {
    policy: EncryptionPolicy,
    /// The torrents that may be asked for, by what stands for them in an encrypted handshake.
    torrents: RefCell<HashMap<Sha1, WireHash>>,
    /// Which way has worked with whom.
    ways: RefCell<Remembered<Way>>,
    answers: RefCell<Answers>,
    rng: RefCell<fastrand::Rng>,
}

impl Secrecy {
    /// As the user wants it. `seed` decides all random choices.
    pub(crate) fn new(policy: EncryptionPolicy, seed: u64) -> Secrecy {
        Secrecy {
            policy,
            torrents: RefCell::default(),
            ways: RefCell::default(),
            answers: RefCell::default(),
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// What a handshake takes its keys and padding from.
    pub(super) fn rng(&self) -> fastrand::Rng {
        self.rng.borrow_mut().fork()
    }

    pub(super) fn policy(&self) -> EncryptionPolicy {
        self.policy
    }

    /// A torrent may be asked for from now on.
    pub(crate) fn add(&self, torrent: WireHash) {
        self.torrents.borrow_mut().insert(obscured(torrent), torrent);
    }

    /// A torrent may not be asked for any more.
    pub(crate) fn remove(&self, torrent: WireHash) {
        self.torrents.borrow_mut().remove(&obscured(torrent));
    }

    /// How to call a peer: first, and if that fails.
    pub(super) fn ways(&self, address: SocketAddr) -> (Way, Option<Way>) {
        self.policy.ways(self.ways.borrow().get(address))
    }

    /// A call has become a connection in this way.
    pub(super) fn has_worked(&self, address: SocketAddr, way: Way) {
        self.ways.borrow_mut().set(address, way);
    }

    /// Others say that this peer prefers encryption: it is called so first, unless it is known what works with it.
    pub(crate) fn prefers(&self, address: SocketAddr) {
        self.ways.borrow_mut().set_if_unknown(address, Way::Encrypted);
    }

    /// Whether one more encrypted call may be answered now.
    fn may_answer(&self, now: Instant, address: SocketAddr) -> bool {
        self.answers.borrow_mut().take(now, Machine::at(address))
    }
}

/// What was answered in this second.
#[derive(Debug, Default)]
struct Answers {
    since: Option<Instant>,
    all: u32,
    /// At most [`MAX_ANSWERS`].
    by_machine: HashMap<Machine, u32>,
}

impl Answers {
    fn take(&mut self, now: Instant, machine: Machine) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.all) = (Some(now), 0);
            self.by_machine.clear();
        }
        if self.all >= MAX_ANSWERS {
            return false;
        }
        let count = self.by_machine.entry(machine).or_default();
        if *count >= MAX_ANSWERS_OF_ONE {
            return false;
        }
        *count += 1;
        self.all += 1;
        true
    }
}

/// What an encrypted handshake has come to.
pub(super) struct Secured {
    /// For the rest of the connection; `None`: it goes on in plaintext.
    pub ciphers: Option<Ciphers>,
    /// What came behind the handshake, deciphered.
    pub early: Vec<u8>,
}

/// Why an encrypted call has failed, and whether the same call is worth another attempt: see [`Caller::may_be_misunderstood`].
pub(super) struct CallFailed {
    pub error: DialError,
    pub again: bool,
}

/// Calls: says what torrent it is about, and `initial` along with it.
pub(super) async fn call(
    link: &Link,
    torrent: WireHash,
    methods: Methods,
    initial: Vec<u8>,
    mut rng: fastrand::Rng,
) -> Result<Secured, CallFailed> {
    let (mut caller, first) = Caller::new(torrent, methods, initial, &mut rng);
    let done = call_by(link, &mut caller, &first).await;
    done.map_err(|error| CallFailed { error, again: caller.may_be_misunderstood() })
}

async fn call_by(link: &Link, caller: &mut Caller, first: &[u8]) -> Result<Secured, DialError> {
    link.write_all(first).await?;
    let mut buffer = [0; READ];
    let mut count = 0;
    loop {
        match caller.feed(&buffer[..count])? {
            CallStep::Send(bytes) => {
                link.write_all(&bytes).await?;
                count = 0;
            }
            CallStep::Need => count = read_some(link, &mut buffer).await?,
            CallStep::Done { ciphers, early } => return Ok(Secured { ciphers, early }),
        }
    }
}

/// Answers a call that began with these bytes.
pub(super) async fn answer(
    link: &Link,
    address: SocketAddr,
    begun: &[u8],
    secrecy: &Secrecy,
) -> Result<Secured, DialError> {
    if !secrecy.may_answer(tokio::time::Instant::now().into_std(), address) {
        return Err(DialError::TooMany);
    }
    let mut answerer = Answerer::new(secrecy.policy.methods(), secrecy.rng());
    let mut step = answerer.feed(begun)?;
    let mut buffer = [0; READ];
    loop {
        step = match step {
            AnswerStep::Send(bytes) => {
                link.write_all(&bytes).await?;
                answerer.feed(&[])?
            }
            AnswerStep::Need => {
                let count = read_some(link, &mut buffer).await?;
                answerer.feed(&buffer[..count])?
            }
            AnswerStep::Which(asked) => {
                let torrent = secrecy.torrents.borrow().get(&asked.0).copied();
                answerer.resume(torrent)?
            }
            AnswerStep::Done { answer, ciphers, early, .. } => {
                link.write_all(&answer).await?;
                return Ok(Secured { ciphers, early });
            }
        };
    }
}

impl From<MseError> for DialError {
    fn from(error: MseError) -> DialError {
        DialError::Encryption(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_does_not_have_us_reckon_all_day() {
        let (now, mut answers) = (Instant::now(), Answers::default());
        let machine = |last: u8| Machine::at(SocketAddr::from(([192, 0, 2, last], 1)));
        let taken = (0..50).filter(|_| answers.take(now, machine(1))).count();
        assert_eq!(taken, MAX_ANSWERS_OF_ONE as usize);
        assert!(answers.take(now, machine(2)));
        for last in 3..=255 {
            (0..5).for_each(|_| _ = answers.take(now, machine(last)));
        }
        assert_eq!(answers.all, MAX_ANSWERS);
        assert!(answers.by_machine.len() <= MAX_ANSWERS as usize);
        assert!(answers.take(now + Duration::from_secs(1), machine(1)));
    }

    #[test]
    fn who_is_said_to_prefer_encryption_is_called_so_unless_something_else_has_worked() {
        let secrecy = Secrecy::new(EncryptionPolicy::Allow, 1);
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        secrecy.has_worked(other, Way::Plain);
        [one, other].into_iter().for_each(|address| secrecy.prefers(address));
        assert_eq!(secrecy.ways(one), (Way::Encrypted, Some(Way::Plain)));
        assert_eq!(secrecy.ways(other), (Way::Plain, Some(Way::Encrypted)));
        let never = Secrecy::new(EncryptionPolicy::Off, 1);
        never.prefers(one);
        assert_eq!(never.ways(one), (Way::Plain, None));
    }
}
