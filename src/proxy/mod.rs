//! What is said to a proxy, as pure machines: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110, 9.3.6); and the headers of packets that a
//! SOCKS5 proxy carries.
//!
//! Names are said as names, so that the proxy looks them up. Bytes in, bytes out: no sockets, no clock. What is read is bounded, and nothing is
//! read that belongs to what follows.

mod datagram;
mod http;
mod socks5;
#[cfg(test)]
mod tests;
mod url;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use datagram::{MAX_DATAGRAM_HEADER, relay_address, unwrap_datagram, wrap_datagram};
pub use url::{Credentials, Proxy, ProxyKind, ProxyUrlError};

use http::HttpConnect;
use socks5::{Command, Socks5};

/// Bytes of a name, at the most: what the one byte of its length allows (RFC 1928), and more than any host name has.
const MAX_NAME: usize = 255;

/// What a proxy may not carry.
pub const UDP: &str = "UDP";

/// Where a connection or a packet is to go.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A host that the proxy looks up: 1 to 255 visible ASCII characters; and a port.
    Name(String, u16),
}

impl Target {
    /// A host, by name or address (an IPv6 one with or without brackets). `None` if it can be neither.
    pub fn new(host: &str, port: u16) -> Option<Target> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Target::Address(SocketAddr::new(ip, port)));
        }
        let is_name =
            (1..=MAX_NAME).contains(&host.len()) && host.bytes().all(|byte| byte.is_ascii_graphic());
        is_name.then(|| Target::Name(host.to_owned(), port))
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Target::Address(address) => address.port(),
            Target::Name(_, port) => *port,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Why a proxy does not do what it is asked for. The messages go on after the proxy's name and a colon.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyError {
    /// What it says is not its protocol.
    #[error("it does not answer as {0}; check the kind and the port in its URL")]
    OtherProtocol(&'static str),
    /// It takes nobody who does not log in.
    #[error("it wants a user name and a password; give them in its URL, e.g. {0}://user:password@host:port")]
    WantsLogin(&'static str),
    /// It takes none of our ways to log in.
    #[error("it takes no user name and password, nor anybody without; choose another proxy")]
    OtherLogin,
    /// It does not know user name and password.
    #[error("it refuses the user name or the password; correct them in its URL")]
    BadLogin,
    /// It does not do this for anybody.
    #[error("it does not carry {0}; choose another proxy")]
    Unsupported(&'static str),
    /// It cannot, or will not, reach what it is asked for.
    #[error("the proxy says: {0}")]
    NotReached(String),
}

impl ProxyError {
    /// Whether it is about what was asked for alone: the proxy itself works.
    pub fn is_of_target(&self) -> bool {
        matches!(self, ProxyError::NotReached(_))
    }
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProxyStep {
    /// Send this; then call again with no bytes.
    Send(Vec<u8>),
    /// Read on, so many bytes at the most: a further one might belong to what follows.
    Need(usize),
    /// It is done: what is sent and read from now on is the target's. Of packets: where the proxy takes them.
    Done(Target),
}

/// A request to a proxy, under way.
#[derive(Debug)]
pub struct ProxyDialogue(Dialogue);

#[derive(Debug)]
enum Dialogue {
    Socks5(Socks5),
    Http(HttpConnect),
}

impl ProxyDialogue {
    /// Asks for a connection to the target. Call [`ProxyDialogue::feed`] with no bytes for the first step.
    pub fn connect(proxy: &Proxy, target: &Target) -> ProxyDialogue {
        ProxyDialogue(match proxy.kind() {
            ProxyKind::Socks5 => {
                Dialogue::Socks5(Socks5::new(proxy.credentials(), Command::Connect, target.clone()))
            }
            ProxyKind::Http => Dialogue::Http(HttpConnect::new(proxy.credentials(), target)),
        })
    }

    /// Asks for packets to be carried (`UDP ASSOCIATE`), from whatever address they come to the proxy.
    ///
    /// # Errors
    ///
    /// If it is a proxy that can carry none.
    pub fn associate(proxy: &Proxy) -> Result<ProxyDialogue, ProxyError> {
        match proxy.kind() {
            ProxyKind::Socks5 => {
                let any = Target::Address(SocketAddr::from(([0; 4], 0)));
                Ok(ProxyDialogue(Dialogue::Socks5(Socks5::new(proxy.credentials(), Command::Associate, any))))
            }
            ProxyKind::Http => Err(ProxyError::Unsupported(UDP)),
        }
    }

    /// These bytes have come.
    ///
    /// # Errors
    ///
    /// Then it is over, and the connection to the proxy is of no use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<ProxyStep, ProxyError> {
        match &mut self.0 {
            Dialogue::Socks5(socks5) => socks5.feed(bytes),
            Dialogue::Http(http) => http.feed(bytes),
        }
    }

    /// Whether the proxy has taken us, and what is left is its way to the target: silence from now on may be the target's.
    pub fn waits_for_target(&self) -> bool {
        match &self.0 {
            Dialogue::Socks5(socks5) => socks5.has_asked(),
            Dialogue::Http(http) => http.has_asked(),
        }
    }
}
