//! SOCKS5, the client's side (RFC 1928), with user name and password (RFC 1929) or without.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::url::Credentials;
use super::{ProxyError, ProxyStep, Target, UDP};

const VERSION: u8 = 5;

/// The version of the exchange of user name and password (RFC 1929).
const LOGIN_VERSION: u8 = 1;

const NO_LOGIN: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;

/// What a proxy answers that takes none of the ways to log in.
const NO_METHOD: u8 = 0xff;

/// What is asked for, by its byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Connect = 1,
    Associate = 3,
}

/// What the next bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing is sent yet.
    Begin,
    Method,
    Login,
    Reply,
    Over,
}

/// A request to a proxy.
#[derive(Debug)]
pub(super) struct Socks5 {
    credentials: Option<Credentials>,
    command: Command,
    target: Target,
    state: State,
    /// Of the message that is coming, as far as it is here.
    received: Vec<u8>,
}

impl Socks5 {
    pub(super) fn new(credentials: Option<&Credentials>, command: Command, target: Target) -> Socks5 {
        Socks5 {
            credentials: credentials.cloned(),
            command,
            target,
            state: State::Begin,
            received: Vec::new(),
        }
    }

    pub(super) fn has_asked(&self) -> bool {
        self.state == State::Reply
    }

    /// See [`super::ProxyDialogue::feed`].
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<ProxyStep, ProxyError> {
        self.received.extend_from_slice(bytes);
        let state = std::mem::replace(&mut self.state, State::Over);
        match state {
            State::Begin => {
                let methods: &[u8] = match self.credentials {
                    Some(_) => &[VERSION, 2, NO_LOGIN, USER_AND_PASSWORD],
                    None => &[VERSION, 1, NO_LOGIN],
                };
                self.state = State::Method;
                Ok(ProxyStep::Send(methods.to_vec()))
            }
            State::Method => match *self.received.as_slice() {
                [] => self.wait(state, 2),
                [VERSION] => self.wait(state, 1),
                [VERSION, method, ..] => self.on_method(method),
                _ => Err(other_protocol()),
            },
            State::Login => match *self.received.as_slice() {
                [] => self.wait(state, 2),
                [LOGIN_VERSION] => self.wait(state, 1),
                [LOGIN_VERSION, 0, ..] => self.ask(),
                [LOGIN_VERSION, ..] => Err(ProxyError::BadLogin),
                _ => Err(other_protocol()),
            },
            State::Reply => self.on_reply(),
            State::Over => Err(other_protocol()),
        }
    }

    fn wait(&mut self, state: State, length: usize) -> Result<ProxyStep, ProxyError> {
        self.state = state;
        Ok(ProxyStep::Need(length))
    }

    fn on_method(&mut self, method: u8) -> Result<ProxyStep, ProxyError> {
        self.received.clear();
        match (method, &self.credentials) {
            (NO_LOGIN, _) => self.ask(),
            (USER_AND_PASSWORD, Some(Credentials { user, password })) => {
                let mut login = vec![LOGIN_VERSION, user.len() as u8];
                login.extend(user);
                login.push(password.len() as u8);
                login.extend(password);
                self.state = State::Login;
                Ok(ProxyStep::Send(login))
            }
            (NO_METHOD, None) => Err(ProxyError::WantsLogin("socks5")),
            (NO_METHOD, Some(_)) => Err(ProxyError::OtherLogin),
            _ => Err(other_protocol()),
        }
    }

    fn ask(&mut self) -> Result<ProxyStep, ProxyError> {
        self.received.clear();
        self.state = State::Reply;
        let mut request = vec![VERSION, self.command as u8, 0];
        write_target(&self.target, &mut request);
        Ok(ProxyStep::Send(request))
    }

    /// Version, reply, a reserved byte, and an address. A refusal is one as soon as its code is here: some proxies send no more.
    fn on_reply(&mut self) -> Result<ProxyStep, ProxyError> {
        if self.received.first().is_some_and(|&version| version != VERSION) {
            return Err(other_protocol());
        }
        if let Some(&code) = self.received.get(1).filter(|&&code| code != 0) {
            return Err(self.refusal(code));
        }
        match read_target(self.received.get(3..).unwrap_or_default()) {
            // There is nothing to send packets to.
            Ok((bound, _)) if self.command == Command::Associate && bound.port() == 0 => {
                Err(ProxyError::Unsupported(UDP))
            }
            Ok((bound, _)) => Ok(ProxyStep::Done(bound)),
            Err(TargetError::Short(missing)) => {
                let of_head = 3usize.saturating_sub(self.received.len());
                self.wait(State::Reply, of_head + missing)
            }
            Err(TargetError::Unknown) => Err(other_protocol()),
        }
    }

    /// What a reply's code says (RFC 1928, 6).
    fn refusal(&self, code: u8) -> ProxyError {
        let reason = match code {
            1 => "general failure",
            2 => "not allowed by its rules",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            6 => "TTL expired",
            7 if self.command == Command::Associate => return ProxyError::Unsupported(UDP),
            7 => return ProxyError::Unsupported("connections"),
            8 => "it does not know this kind of address",
            code => return ProxyError::NotReached(format!("error {code}")),
        };
        match (self.command, code) {
            // Of packets nothing is the fault of a target, for none is named yet. The other codes tell of now, and not of ever.
            (Command::Associate, 2 | 8) => ProxyError::Unsupported(UDP),
            _ => ProxyError::NotReached(reason.to_owned()),
        }
    }
}

fn other_protocol() -> ProxyError {
    ProxyError::OtherProtocol("a SOCKS5 proxy")
}

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// `ATYP`, `DST.ADDR` and `DST.PORT` (RFC 1928, 5).
pub(super) fn write_target(target: &Target, out: &mut Vec<u8>) {
    match target {
        Target::Address(address) => match address.ip() {
            IpAddr::V4(v4) => {
                out.push(IPV4);
                out.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                out.push(IPV6);
                out.extend(v6.octets());
            }
        },
        Target::Name(name, _) => {
            out.extend([NAME, name.len() as u8]);
            out.extend(name.bytes());
        }
    }
    out.extend(target.port().to_be_bytes());
}

/// Why there is no target in some bytes.
pub(super) enum TargetError {
    /// So many bytes are missing, at the least.
    Short(usize),
    /// It is of a kind that does not exist.
    Unknown,
}

/// Reads what [`write_target`] writes, and gives the bytes behind it. A name that is none is a host that nobody knows; an IPv4 address in the form
/// of one of IPv6, as servers with one socket for both have it, is one of IPv4.
pub(super) fn read_target(bytes: &[u8]) -> Result<(Target, &[u8]), TargetError> {
    let short = |length: usize| TargetError::Short(length - bytes.len());
    // The shortest is an empty name.
    let Some((&kind, rest)) = bytes.split_first() else { return Err(TargetError::Short(4)) };
    let (length, begin) = match kind {
        IPV4 => (4, 1),
        IPV6 => (16, 1),
        NAME => (usize::from(*rest.first().ok_or_else(|| short(4))?), 2),
        _ => return Err(TargetError::Unknown),
    };
    let end = begin + length + 2;
    let whole = bytes.get(begin..end).ok_or_else(|| short(end))?;
    let (host, port) = whole.split_at(length);
    let port = u16::from_be_bytes([port[0], port[1]]);
    let target = match (kind, <[u8; 4]>::try_from(host), <[u8; 16]>::try_from(host)) {
        (IPV4, Ok(v4), _) => Target::Address(SocketAddr::new(Ipv4Addr::from(v4).into(), port)),
        (IPV6, _, Ok(v6)) => Target::Address(SocketAddr::new(Ipv6Addr::from(v6).to_canonical(), port)),
        _ => {
            let name = std::str::from_utf8(host).ok();
            name.and_then(|name| Target::new(name, port)).unwrap_or(Target::Name("?".to_owned(), port))
        }
    };
    Ok((target, &bytes[end..]))
}
