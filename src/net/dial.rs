//! Calls to peers, calls from peers, and both sides of the handshake (BEP 3).

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::egress::Egress;
use super::link::Link;
use super::secure::{self, CallFailed, Secrecy, Secured};
use super::transport::Transports;
use crate::event::Encryption;
use crate::ids::WireHash;
use crate::mse::{Ciphers, MseError, Way};
use crate::proxy::ProxyError;
use crate::utp::Transport;
use crate::wire::{HANDSHAKE_LENGTH, Handshake, ProtocolError};

/// Until a peer answers a call, at the most.
pub(crate) const MAX_CALL: Duration = Duration::from_secs(10);

/// What a BitTorrent handshake begins with (BEP 3).
const PROTOCOL: &[u8] = b"\x13BitTorrent protocol";

/// What strangers say who take us for a web server.
const HTTP_METHODS: [&[u8]; 4] = [b"GET ", b"POST", b"HEAD", b"OPTI"];

/// Until a peer that has called us has said its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection whose peer has said its handshake, whoever called.
#[derive(Debug)]
pub(crate) struct Established {
    /// The connection.
    pub link: Link,
    /// What the peer said.
    pub handshake: Handshake,
    /// For the rest of the connection, if it is enciphered.
    pub ciphers: Option<Ciphers>,
    /// What the peer sent behind its handshake and is read already, deciphered.
    pub early: Vec<u8>,
    /// How it is protected, for people.
    pub encryption: Encryption,
}

/// Why a call did not become a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The peer speaks another protocol.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    /// The peer answers for a torrent that it was not asked for.
    #[error("answers for another torrent")]
    OtherTorrent,
    /// The encrypted handshake has failed.
    #[error("{0}")]
    Encryption(MseError),
    /// The user wants encrypted connections alone, or none, and the peer calls otherwise.
    #[error("{0}")]
    Unwanted(&'static str),
    /// The proxy works, and cannot or will not reach the peer.
    #[error("{0}")]
    NotReached(ProxyError),
    /// More encrypted calls than are answered.
    #[error("called encrypted too often")]
    TooMany,
    /// The socket failed, nobody answered in time, or the peer closed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl DialError {
    /// Whether the peer broke the protocol, as against not having been there.
    pub(crate) fn is_peers_fault(&self) -> bool {
        match self {
            DialError::Protocol(_) | DialError::OtherTorrent => true,
            // Those who speak something else are told as such.
            DialError::Encryption(error) => *error != MseError::UnknownTorrent,
            DialError::NotReached(_) | DialError::Unwanted(_) | DialError::TooMany | DialError::Io(_) => {
                false
            }
        }
    }

    /// Whether nobody has taken the call, as far as can be told: what keeps it out may let in who is called at the same time (BEP 55).
    pub(crate) fn is_unanswered(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
        match self {
            DialError::Io(error) => {
                matches!(error.kind(), TimedOut | ConnectionRefused | HostUnreachable | NetworkUnreachable)
            }
            _ => false,
        }
    }

    /// Whether the peer took the call and closed without a word.
    fn is_closed(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match self {
            DialError::Io(error) => {
                matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
            }
            _ => false,
        }
    }

    /// Whether the peer may do better if it is called in another way: it took the call, and then closed, was silent, or was not understood.
    fn may_want_another_way(&self) -> bool {
        match self {
            DialError::Encryption(_) | DialError::Io(_) => true,
            DialError::Protocol(_)
            | DialError::OtherTorrent
            | DialError::NotReached(_)
            | DialError::Unwanted(_)
            | DialError::TooMany => false,
        }
    }
}

/// What a peer that is called is told of a torrent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Greeting {
    /// What is said first.
    pub first: Handshake,
    /// Of a hybrid: the handshake of version 2 (BEP 52). A peer may answer the first by its hash, and one that closes at the first is called
    /// again with it.
    pub second: Option<Handshake>,
    /// Whether it may answer by any other hash too: not all that the torrent has are known.
    pub takes_any_answer: bool,
}

impl Greeting {
    fn is_answered_by(&self, hash: WireHash) -> bool {
        self.takes_any_answer
            || [Some(self.first), self.second].into_iter().flatten().any(|ours| ours.info_hash == hash)
    }
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Of whom.
    pub address: SocketAddr,
    /// How much time there is to answer.
    pub patience: Duration,
    /// The transport by which it goes; `None`: by whichever answers.
    pub only: Option<Transport>,
}

/// How peers are called.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    /// The way of calls out of this machine.
    pub egress: Rc<Egress>,
    /// What carries a connection, and where calls come from.
    pub transports: Rc<Transports>,
    /// Whether calls are encrypted.
    pub secrecy: Rc<Secrecy>,
}

impl Dialer {
    /// Calls a peer, which has 10 s to answer at the most; says our handshake and takes the peer's, for as long again (twice as long if there
    /// is one way only). A peer that takes the call and then closes or is silent is called once more, in another way, if the
    /// user allows both and `is_wanted` still holds.
    pub(crate) async fn dial(
        &self,
        call: Call,
        ours: Greeting,
        is_wanted: &Cell<bool>,
    ) -> Result<Established, DialError> {
        let call = Call { patience: self.egress.patience(call.patience.min(MAX_CALL)), ..call };
        let Call { address, patience, .. } = call;
        // Who takes calls and is silent holds a place hardly longer than who does not take them.
        let (first, second) = self.secrecy.ways(address);
        let link = self.transports.connect(call, is_wanted).await?;
        let limit = if second.is_some() { patience } else { 2 * patience };
        let mut attempt = self.shake_hands(link, first, limit, &ours).await;
        let mut way = first;
        if let (Err(failed), Some(second)) = (&attempt, second)
            && failed.error.may_want_another_way()
        {
            let link = self.transports.connect(call, is_wanted).await?;
            attempt = self.shake_hands(link, second, patience, &ours).await;
            way = second;
        }
        if let Err(CallFailed { again: true, .. }) = &attempt {
            let link = self.transports.connect(call, is_wanted).await?;
            attempt = self.shake_hands(link, way, patience, &ours).await;
        }
        // Who does not know a hybrid by its hash of version 1 closes, as it does to strangers.
        if let (Err(failed), Some(handshake)) = (&attempt, ours.second)
            && failed.error.is_closed()
        {
            let link = self.transports.connect(call, is_wanted).await?;
            way = first;
            let greeting = Greeting { first: handshake, second: None, ..ours };
            attempt = self.shake_hands(link, way, patience, &greeting).await;
        }
        let established = attempt.map_err(|failed| failed.error)?;
        self.secrecy.has_worked(address, way);
        self.transports.has_worked(address, established.link.transport());
        Ok(established)
    }

    async fn shake_hands(
        &self,
        link: Link,
        way: Way,
        limit: Duration,
        greeting: &Greeting,
    ) -> Result<Established, CallFailed> {
        let (ours, mut again) = (greeting.first, false);
        let shaken = within(limit.min(HANDSHAKE), async {
            let secured = match way {
                Way::Plain => {
                    link.write_all(&ours.encode()).await?;
                    None
                }
                Way::Encrypted => {
                    let methods = self.secrecy.policy().methods();
                    let initial = ours.encode().to_vec();
                    let called =
                        secure::call(&link, ours.info_hash, methods, initial, self.secrecy.rng()).await;
                    Some(called.map_err(|failed| {
                        again = failed.again;
                        failed.error
                    })?)
                }
            };
            let read = read_handshake(&link, secured).await?;
            if !greeting.is_answered_by(read.handshake.info_hash) {
                return Err(DialError::OtherTorrent);
            }
            Ok(read)
        })
        .await;
        let read = shaken.map_err(DialError::from).and_then(|read| read);
        read.map(|read| read.on(link)).map_err(|error| CallFailed { error, again })
    }
}

/// Takes the handshake of a peer that called us from `address`. Ours is said by whoever knows the torrent.
pub(crate) async fn answer(
    link: Link,
    address: SocketAddr,
    secrecy: &Secrecy,
) -> Result<Established, DialError> {
    link.set_nodelay()?;
    let read = within(HANDSHAKE, async {
        // As much as tells a BitTorrent handshake from a key.
        let mut begun = [0; PROTOCOL.len()];
        let mut count = 0;
        while count < begun.len() && begun[..count] == PROTOCOL[..count] {
            count += read_some(&link, &mut begun[count..]).await?;
        }
        // Of a key, one in four billion begins like a request of HTTP.
        let is_http = HTTP_METHODS.iter().any(|method| begun[..count].starts_with(method));
        let way = if is_http || begun[..count] == PROTOCOL[..count] { Way::Plain } else { Way::Encrypted };
        let policy = secrecy.policy();
        match way {
            Way::Plain if !policy.takes(way) => Err(DialError::Unwanted("calls without encryption")),
            Way::Encrypted if policy.takes(way) => {
                let secured = secure::answer(&link, address, &begun[..count], secrecy).await?;
                read_handshake(&link, Some(secured)).await
            }
            // What calls encrypted though it is not wanted is told as anything else that is no handshake.
            Way::Plain | Way::Encrypted => {
                read_rest(&link, begun[..count].to_vec(), None, Encryption::None).await
            }
        }
    })
    .await??;
    Ok(read.on(link))
}

/// The peer's handshake, and what else is known then.
struct ReadHandshake {
    handshake: Handshake,
    ciphers: Option<Ciphers>,
    early: Vec<u8>,
    encryption: Encryption,
}

impl ReadHandshake {
    fn on(self, link: Link) -> Established {
        let ReadHandshake { handshake, ciphers, early, encryption } = self;
        Established { link, handshake, ciphers, early, encryption }
    }
}

async fn read_handshake(link: &Link, secured: Option<Secured>) -> Result<ReadHandshake, DialError> {
    match secured {
        None => read_rest(link, Vec::new(), None, Encryption::None).await,
        Some(Secured { ciphers, early }) => {
            let encryption = if ciphers.is_some() { Encryption::Rc4 } else { Encryption::Plaintext };
            read_rest(link, early, ciphers, encryption).await
        }
    }
}

/// Reads until the whole handshake is there, of which these bytes are here.
async fn read_rest(
    link: &Link,
    mut bytes: Vec<u8>,
    mut ciphers: Option<Ciphers>,
    encryption: Encryption,
) -> Result<ReadHandshake, DialError> {
    loop {
        if let Some(handshake) = Handshake::decode(&bytes[..bytes.len().min(HANDSHAKE_LENGTH)])? {
            let early = bytes.split_off(HANDSHAKE_LENGTH);
            return Ok(ReadHandshake { handshake, ciphers, early, encryption });
        }
        let mut rest = [0; HANDSHAKE_LENGTH];
        // Not beyond it: what follows is read straight to where it belongs.
        let missing = HANDSHAKE_LENGTH - bytes.len();
        let count = read_some(link, &mut rest[..missing]).await?;
        if let Some(ciphers) = &mut ciphers {
            ciphers.incoming.apply(&mut rest[..count]);
        }
        bytes.extend_from_slice(&rest[..count]);
    }
}

/// One read; an error if the other side has closed.
pub(super) async fn read_some(link: &Link, buffer: &mut [u8]) -> Result<usize, DialError> {
    match link.read(buffer).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        count => Ok(count),
    }
}

/// Waits so long for something, second by second: while the process is stopped one of them passes, and not the whole time.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> io::Result<T> {
    const STEP: Duration = Duration::from_secs(1);
    tokio::pin!(work);
    let mut left = limit;
    while !left.is_zero() {
        let step = left.min(STEP);
        if let Ok(done) = timeout(step, &mut work).await {
            return Ok(done);
        }
        left -= step;
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::Local;
    use crate::ids::{PeerId, WireHash};
    use crate::mse::EncryptionPolicy;
    use crate::utp::TransportPolicy;
    use crate::wire::Reserved;
    use std::time::Instant;

    fn dialer() -> Dialer {
        let egress = Rc::new(Egress::new(Local::default(), None, |_| ()));
        let transports = Rc::new(Transports::new(TransportPolicy::Tcp, egress.clone(), None));
        Dialer { egress, transports, secrecy: Rc::new(Secrecy::new(EncryptionPolicy::Off, 1)) }
    }

    #[tokio::test]
    async fn another_hash_is_an_answer_only_where_not_all_hashes_are_known() {
        let handshake = |hash: u8| Handshake {
            reserved: Reserved::FAST,
            info_hash: WireHash([hash; 20]),
            peer_id: PeerId([hash; 20]),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            for _ in 0..2 {
                let (mut socket, _) = listener.accept().await.unwrap();
                socket.read_exact(&mut [0; HANDSHAKE_LENGTH]).await.unwrap();
                socket.write_all(&handshake(9).encode()).await.unwrap();
            }
        };
        let calls = async {
            let mut ends = Vec::new();
            for takes_any_answer in [false, true] {
                let call = Call { address, patience: MAX_CALL, only: None };
                let ours = Greeting { first: handshake(1), second: None, takes_any_answer };
                ends.push(dialer().dial(call, ours, &Cell::new(true)).await);
            }
            ends
        };
        let ((), ends) = tokio::join!(peer, calls);
        assert!(matches!(ends[0], Err(DialError::OtherTorrent)));
        assert_eq!(ends[1].as_ref().unwrap().handshake.info_hash, WireHash([9; 20]));
    }

    #[tokio::test]
    async fn who_takes_a_call_and_is_silent_is_not_waited_for_longer_than_there_is_patience() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours =
            Handshake { reserved: Reserved::FAST, info_hash: WireHash([1; 20]), peer_id: PeerId([2; 20]) };
        let began = Instant::now();
        let patience = Duration::from_millis(50);
        let end = dialer()
            .dial(
                Call { address: silent.local_addr().unwrap(), patience, only: None },
                Greeting { first: ours, second: None, takes_any_answer: false },
                &Cell::new(true),
            )
            .await;
        assert!(matches!(end, Err(DialError::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert!(began.elapsed() < HANDSHAKE / 2);
    }
}
