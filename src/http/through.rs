//! A request to the user's proxy, on the caller's thread.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::connect::connect_first;
use super::{Interrupt, is_to_be_repeated, resolve};
use crate::bind::Local;
use crate::proxy::{Proxy, ProxyDialogue, ProxyError, ProxyStep, Target};

/// Until a proxy says the next thing. It may need that long to reach a server.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a proxy has not done what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ThroughError {
    /// It cannot be reached, or is silent or gone in between: this, for people.
    #[error("{0}")]
    NotThere(String),
    /// What it says.
    #[error("{0}")]
    Said(#[from] ProxyError),
    /// No time is left for it, or the thread is needed elsewhere.
    #[error("no answer in time")]
    Late,
}

impl ThroughError {
    /// As ureq has it. No message holds more of the proxy's URL than its kind, host and port.
    pub(super) fn into_ureq(self, proxy: &Proxy, late: impl Fn(io::Error) -> ureq::Error) -> ureq::Error {
        match self {
            ThroughError::Late => late(ErrorKind::TimedOut.into()),
            error => ureq::Error::Other(error.of(proxy).into()),
        }
    }

    /// The whole of it, for people.
    pub(crate) fn of(&self, proxy: &Proxy) -> String {
        format!("by the proxy {proxy}: {self}")
    }
}

/// Connects to the proxy, with a receive buffer of so many bytes, and talks with it until `until`. Gives the connection, and what the proxy has named: of packets, where it takes them.
pub(crate) fn ask_proxy(
    proxy: &Proxy,
    mut dialogue: ProxyDialogue,
    local: &Local,
    receive_buffer: Option<u32>,
    until: Instant,
    interrupt: &Interrupt,
) -> Result<(TcpStream, Target), ThroughError> {
    let not_there = |reason: &str| ThroughError::NotThere(format!("cannot connect to it: {reason}"));
    // The proxy's own name is the one name that is looked up here.
    let addresses: Vec<SocketAddr> =
        resolve::look_up(proxy.host(), proxy.port(), local).map_err(|reason| not_there(&reason))?;
    let (stream, _) =
        connect_first(&addresses, local, receive_buffer, until.min(Instant::now() + PATIENCE), interrupt)
            .map_err(|error| match error.kind() {
                ErrorKind::TimedOut if Instant::now() >= until || interrupt.is_due() => ThroughError::Late,
                ErrorKind::TimedOut => not_there("no answer"),
                ErrorKind::ConnectionRefused => not_there("connection refused; check that it runs"),
                _ => not_there(&error.to_string()),
            })?;
    let mut bytes = Vec::new();
    loop {
        match dialogue.feed(&bytes)? {
            ProxyStep::Send(message) => {
                // A few hundred bytes, for which a new connection has room.
                (&stream).write_all(&message).map_err(|error| ThroughError::NotThere(error.to_string()))?;
                bytes.clear();
            }
            ProxyStep::Need(most) => {
                bytes.resize(most, 0);
                let count = read(&stream, &mut bytes, until, interrupt)?;
                bytes.truncate(count);
            }
            ProxyStep::Done(named) => return Ok((stream, named)),
        }
    }
}

fn read(
    mut stream: &TcpStream,
    bytes: &mut [u8],
    until: Instant,
    interrupt: &Interrupt,
) -> Result<usize, ThroughError> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let now = Instant::now();
        if now >= until || interrupt.is_due() {
            return Err(ThroughError::Late);
        }
        if now >= patience {
            return Err(ThroughError::NotThere(format!("no answer within {} s", PATIENCE.as_secs())));
        }
        let failed = |error: io::Error| ThroughError::NotThere(error.to_string());
        let slice = interrupt.slice(until.min(patience) - now);
        stream.set_read_timeout(Some(slice)).map_err(failed)?;
        match stream.read(bytes) {
            Ok(0) => return Err(ThroughError::NotThere("it closed the connection".to_owned())),
            Ok(count) => return Ok(count),
            Err(error) if is_to_be_repeated(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
