//! Packets that a SOCKS5 proxy carries: their header (RFC 1928, 7).

use std::net::SocketAddr;

use super::socks5::{read_target, write_target};
use super::{MAX_NAME, Target};

/// Bytes of a header, at the most.
pub const MAX_DATAGRAM_HEADER: usize = 3 + 2 + MAX_NAME + 2;

/// A packet for the target, as it is sent to the proxy.
pub fn wrap_datagram(target: &Target, data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(MAX_DATAGRAM_HEADER + data.len());
    packet.extend([0; 3]);
    write_target(target, &mut packet);
    packet.extend_from_slice(data);
    packet
}

/// Where the proxy takes packets, as its reply names it; `proxy` is where the connection to it leads. An address of no host, or a name, means
/// the proxy's own address.
pub fn relay_address(named: &Target, proxy: SocketAddr) -> SocketAddr {
    match *named {
        Target::Address(address) if !address.ip().is_unspecified() => address,
        Target::Address(address) => SocketAddr::new(proxy.ip(), address.port()),
        Target::Name(_, port) => SocketAddr::new(proxy.ip(), port),
    }
}

/// Who has sent what the proxy brings, and what it is. `None` if it is no such packet, or a fragment of one: nobody sends those, and RFC 1928
/// lets them be dropped.
pub fn unwrap_datagram(packet: &[u8]) -> Option<(Target, &[u8])> {
    let rest = packet.strip_prefix(&[0; 3])?;
    read_target(rest).ok()
}
