//! Which proxy the user wants: its URL.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::MAX_NAME;

/// The port of a URL that names none, as curl has it for all kinds.
const DEFAULT_PORT: u16 = 1080;

/// Bytes of a user name, and of a password, at the most (RFC 1929).
const MAX_CREDENTIAL: usize = 255;

/// What a proxy speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProxyKind {
    /// SOCKS5 (RFC 1928).
    Socks5,
    /// HTTP, asked for tunnels (`CONNECT`).
    Http,
}

impl ProxyKind {
    /// The scheme of its URL.
    pub fn scheme(self) -> &'static str {
        match self {
            ProxyKind::Socks5 => "socks5",
            ProxyKind::Http => "http",
        }
    }
}

/// How to log in. Never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// 1 to 255 bytes.
    pub user: Vec<u8>,
    /// Up to 255 bytes.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A proxy, by its URL: `socks5://[user:password@]host[:port]`, or `http://…` for one that makes tunnels. What is percent-encoded in user name and
/// password is decoded; the port is 1080 if none is given. It is shown without user name and password.
///
/// ```
/// use btget::client::Proxy;
///
/// let proxy: Proxy = "socks5://me:se%3Acret@[2001:db8::1]:9050".parse()?;
/// assert_eq!(proxy.to_string(), "socks5://[2001:db8::1]:9050");
/// assert_eq!("http://proxy.example".parse::<Proxy>()?.to_string(), "http://proxy.example:1080");
/// # Ok::<(), btget::client::ProxyUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Proxy {
    kind: ProxyKind,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    credentials: Option<Credentials>,
}

/// Why a URL names no proxy: the cause alone, without anything of the URL, which may hold a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProxyUrlError(&'static str);

impl Proxy {
    /// What it speaks.
    pub(crate) fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// Whether a proxy of this kind can carry packets; whether this one does, it has to be asked.
    pub fn may_carry_packets(&self) -> bool {
        self.kind == ProxyKind::Socks5
    }

    /// Its name, or its address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proxy { kind, host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "{}://[{host}]:{port}", kind.scheme()),
            false => write!(f, "{}://{host}:{port}", kind.scheme()),
        }
    }
}

impl FromStr for Proxy {
    type Err = ProxyUrlError;

    fn from_str(url: &str) -> Result<Proxy, ProxyUrlError> {
        let fault = |reason| Err(ProxyUrlError(reason));
        let Some((scheme, rest)) = url.trim().split_once("://") else {
            return fault("it does not say what the proxy speaks");
        };
        let kind = match scheme.to_ascii_lowercase().as_str() {
            // With curl, the h says that the proxy looks up names, which it always does here.
            "socks5" | "socks5h" => ProxyKind::Socks5,
            "http" => ProxyKind::Http,
            "https" => return fault("proxies that are spoken to by TLS are not supported"),
            "socks4" | "socks4a" | "socks" => return fault("of SOCKS, version 5 alone is supported"),
            _ => return fault("that kind of proxy is not known"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return fault("more than host and port stand in it (a / in a password is written %2F)");
        }
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = host_and_port(place).ok_or(ProxyUrlError("its host or port is not one"))?;
        let credentials = match login.filter(|login| !login.is_empty()) {
            None => None,
            Some(login) => Some(read_login(login)?),
        };
        Ok(Proxy { kind, host, port, credentials })
    }
}

fn read_login(login: &str) -> Result<Credentials, ProxyUrlError> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let user: Vec<u8> = percent_decode_str(user).collect();
    let password: Vec<u8> = percent_decode_str(password).collect();
    match (user.len(), password.len()) {
        (0, _) => Err(ProxyUrlError("a password needs a user name")),
        (1..=MAX_CREDENTIAL, 0..=MAX_CREDENTIAL) => Ok(Credentials { user, password }),
        _ => Err(ProxyUrlError("its user name or password is longer than 255 bytes")),
    }
}

fn host_and_port(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            ip.parse::<std::net::Ipv6Addr>().ok()?;
            (ip, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let is_port = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => Some(port).filter(is_port)?.parse().ok().filter(|&port| port != 0)?,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_host =
        (1..=MAX_NAME).contains(&host.len()) && (host.parse::<IpAddr>().is_ok() || host.bytes().all(is_name));
    is_host.then(|| (host.to_owned(), port))
}
