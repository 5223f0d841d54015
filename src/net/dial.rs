//! Calls to peers, and both sides of the handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::wire::{HANDSHAKE_LENGTH, Handshake};

/// Until a peer answers a call.
const CONNECT: Duration = Duration::from_secs(10);

/// Until a connected peer has said its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection whose peer has said its handshake.
#[derive(Debug)]
pub struct Met {
    /// The socket.
    pub stream: TcpStream,
    /// What the peer said.
    pub handshake: Handshake,
}

/// Calls `address`, says our handshake and takes the peer's.
pub async fn dial(address: SocketAddr, bind: Option<IpAddr>, ours: Handshake) -> io::Result<Met> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bind) = bind {
        if bind.is_ipv4() != address.is_ipv4() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "not of the family that we are bound to"));
        }
        socket.bind(SocketAddr::new(bind, 0))?;
    }
    let mut stream = in_time(CONNECT, socket.connect(address)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&ours.encode()).await?;
    let handshake = hear(&mut stream).await?;
    if handshake.info_hash != ours.info_hash {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "answers for another torrent"));
    }
    Ok(Met { stream, handshake })
}

/// Takes the handshake of a peer that called us. Ours is said by whoever knows the torrent.
pub async fn answer(mut stream: TcpStream) -> io::Result<Met> {
    stream.set_nodelay(true)?;
    let handshake = hear(&mut stream).await?;
    Ok(Met { stream, handshake })
}

async fn hear(stream: &mut TcpStream) -> io::Result<Handshake> {
    let mut bytes = [0; HANDSHAKE_LENGTH];
    let mut count = 0;
    let read = async {
        loop {
            match Handshake::decode(&bytes[..count]) {
                Ok(Some(handshake)) => return Ok(handshake),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
            }
            match stream.read(&mut bytes[count..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => count += more,
            }
        }
    };
    in_time(HANDSHAKE, read).await
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
