//! Which addresses are believed that somebody names.

use std::net::{IpAddr, SocketAddr};

use crate::address::may_name;

/// Whether an address that somebody names can be somebody else's whom we may send to: of a port, of one machine, and not of an inner
/// network that the one who names it is outside of.
pub(super) fn is_believable(address: SocketAddr, from: SocketAddr) -> bool {
    is_reachable(address) && may_name(from.ip(), address.ip())
}

/// Whether anybody can be at the address.
pub(super) fn is_reachable(address: SocketAddr) -> bool {
    let is_one_machine = match address.ip() {
        IpAddr::V4(v4) => !matches!(v4.octets(), [0 | 224..=255, ..]),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified() && v6.to_ipv4_mapped().is_none(),
    };
    is_one_machine && address.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_names_addresses_of_networks_that_they_are_outside_of() {
        let believable =
            |address: &str, from: &str| is_believable(address.parse().unwrap(), from.parse().unwrap());
        for (address, from) in [
            ("9.9.9.9:1", "8.8.8.8:1"),
            ("9.9.9.9:1", "127.0.0.1:1"),
            ("127.0.0.1:2", "127.0.0.1:1"),
            ("10.0.0.2:1", "192.168.0.1:1"),
            ("10.0.0.2:1", "127.0.0.1:1"),
            ("[2001:db8::1]:1", "[2001:db8::2]:1"),
            ("[::1]:2", "[::1]:1"),
        ] {
            assert!(believable(address, from), "{address} from {from}");
        }
        for (address, from) in [
            ("9.9.9.9:0", "8.8.8.8:1"),
            ("127.0.0.1:1", "8.8.8.8:1"),
            ("10.0.0.1:1", "8.8.8.8:1"),
            ("127.0.0.1:1", "10.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("255.255.255.255:1", "127.0.0.1:1"),
            ("224.0.0.1:1", "127.0.0.1:1"),
            ("[ff02::1]:1", "[::1]:1"),
            ("[::]:1", "[::1]:1"),
            ("[::ffff:9.9.9.9]:1", "[2001:db8::2]:1"),
            ("[fe80::1]:1", "[2001:db8::2]:1"),
        ] {
            assert!(!believable(address, from), "{address} from {from}");
        }
    }
}
