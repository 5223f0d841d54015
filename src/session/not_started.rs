//! Why there is no session: what its user and its subscribers are told.

use std::net::{IpAddr, SocketAddr};

use super::context::{protocol, udp_protocol};
use super::options::SessionOptions;
use crate::bind::Bind;
use crate::event::Kind;
use crate::net::listen::ListenError;

/// Why there is no session.
#[derive(Debug)]
pub(crate) struct NotStarted {
    /// The error for the user: thing, cause and remedy.
    pub message: String,
    /// What its subscribers would have been told.
    pub event: Option<Box<Kind>>,
}

impl From<String> for NotStarted {
    fn from(message: String) -> NotStarted {
        NotStarted { message, event: None }
    }
}

/// Nothing can listen at the ports that the user wishes.
pub(super) fn not_listening(options: &SessionOptions, error: &ListenError) -> NotStarted {
    let ListenError { error, is_udp } = error;
    let ports = ports_of(options);
    let at = options.bind.as_ref().map_or(String::new(), |bind| format!("{bind} "));
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => options.remedies.change_address,
        _ => options.remedies.change_port,
    };
    let udp = if *is_udp { "UDP " } else { "" };
    let message = format!("cannot listen on {at}{udp}port {ports}: {error}; {remedy}");
    let ip = match options.bind {
        Some(Bind::Address(ip)) => ip,
        Some(Bind::Interface(_)) | None => IpAddr::from([0; 4]),
    };
    let event = Kind::ListenFailure {
        address: options.bind.as_ref().map_or(ip.to_string(), Bind::to_string),
        ports,
        protocol: match ip {
            ip if *is_udp => udp_protocol(SocketAddr::new(ip, 0)),
            ip => protocol(SocketAddr::new(ip, 0)),
        },
        reason: error.to_string(),
    };
    NotStarted { message, event: Some(Box::new(event)) }
}

/// What the user wants to bind to is not there.
pub(super) fn not_bound(options: &SessionOptions, error: &str) -> NotStarted {
    let message = format!("{error}; {}", options.remedies.change_address);
    let address = options.bind.as_ref().map_or(String::new(), Bind::to_string);
    let ports = ports_of(options);
    let event = Kind::ListenFailure { address, ports, protocol: "tcp4", reason: error.to_owned() };
    NotStarted { message, event: Some(Box::new(event)) }
}

/// The first ports that the user wishes.
fn ports_of(options: &SessionOptions) -> String {
    let ports: Vec<String> = options.ports.iter().take(8).map(u16::to_string).collect();
    ports.join(", ")
}
