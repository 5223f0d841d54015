//! Calls to peers, calls from peers, and both sides of the handshake (BEP 3).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::link::Link;
use crate::wire::{HANDSHAKE_LENGTH, Handshake, ProtocolError};

/// Until a peer answers a call, at the most.
pub(crate) const MAX_CALL: Duration = Duration::from_secs(10);

/// Until a peer that has called us has said its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection whose peer has said its handshake, whoever called. What the peer sent behind it is still to be read.
#[derive(Debug)]
pub(crate) struct Established {
    /// The connection.
    pub link: Link,
    /// What the peer said.
    pub handshake: Handshake,
}

/// Why a call did not become a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// We are bound to an address of the other family, IPv4 or IPv6.
    #[error("not of the family that we are bound to")]
    OtherFamily,
    /// The peer speaks another protocol.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    /// The peer answers for a torrent that it was not asked for.
    #[error("answers for another torrent")]
    OtherTorrent,
    /// The socket failed, nobody answered in time, or the peer closed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl DialError {
    /// Whether the peer broke the protocol, as against not having been there.
    pub(crate) fn is_peers_fault(&self) -> bool {
        match self {
            DialError::Protocol(_) | DialError::OtherTorrent => true,
            DialError::OtherFamily | DialError::Io(_) => false,
        }
    }
}

/// How peers are called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialer {
    /// The local address that calls come from.
    pub bind: Option<IpAddr>,
}

impl Dialer {
    /// Calls `address`, which has so much time to answer, 10 s at the most; says our handshake and takes the peer's, for twice as long.
    pub(crate) async fn dial(
        self,
        address: SocketAddr,
        patience: Duration,
        ours: Handshake,
    ) -> Result<Established, DialError> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(bind) = self.bind {
            if bind.is_ipv4() != address.is_ipv4() {
                return Err(DialError::OtherFamily);
            }
            socket.bind(SocketAddr::new(bind, 0))?;
        }
        let patience = patience.min(MAX_CALL);
        let mut stream = within(patience, socket.connect(address)).await??;
        stream.set_nodelay(true)?;
        stream.write_all(&ours.encode()).await?;
        // Who takes calls and is silent holds a place hardly longer than who does not take them.
        let handshake = read_handshake(&mut stream, (2 * patience).min(HANDSHAKE)).await?;
        if handshake.info_hash != ours.info_hash {
            return Err(DialError::OtherTorrent);
        }
        Ok(Established { link: Link::Tcp(stream), handshake })
    }
}

/// Takes the handshake of a peer that called us. Ours is said by whoever knows the torrent.
pub(crate) async fn answer(link: Link) -> Result<Established, DialError> {
    let Link::Tcp(mut stream) = link;
    stream.set_nodelay(true)?;
    let handshake = read_handshake(&mut stream, HANDSHAKE).await?;
    Ok(Established { link: Link::Tcp(stream), handshake })
}

async fn read_handshake(stream: &mut TcpStream, patience: Duration) -> Result<Handshake, DialError> {
    let mut bytes = [0; HANDSHAKE_LENGTH];
    let mut count = 0;
    let read = async {
        loop {
            if let Some(handshake) = Handshake::decode(&bytes[..count])? {
                return Ok(handshake);
            }
            match stream.read(&mut bytes[count..]).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                more => count += more,
            }
        }
    };
    within(patience, read).await?
}

/// Waits so long for something, second by second: while the process is stopped one of them passes, and not the whole time.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> io::Result<T> {
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
    use crate::ids::{PeerId, WireHash};
    use crate::wire::Reserved;
    use std::time::Instant;

    #[tokio::test]
    async fn who_takes_a_call_and_is_silent_is_not_waited_for_longer_than_there_is_patience() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours =
            Handshake { reserved: Reserved::FAST, info_hash: WireHash([1; 20]), peer_id: PeerId([2; 20]) };
        let began = Instant::now();
        let patience = Duration::from_millis(50);
        let end = Dialer { bind: None }.dial(silent.local_addr().unwrap(), patience, ours).await;
        assert!(matches!(end, Err(DialError::Io(error)) if error.kind() == io::ErrorKind::TimedOut));
        assert!(began.elapsed() < HANDSHAKE / 2);
    }
}
