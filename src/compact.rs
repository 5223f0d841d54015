//! Addresses as the BEPs write them in few bytes ("compact", BEP 5, 7, 10, 11, 23, 32, 55): 4 of IPv4 or 16 of IPv6, and 2 of the port, the high ones first.
//!
//! Which of them can be anybody's is not looked at here.

use std::net::{IpAddr, SocketAddr};

/// Bytes of an address of IPv4 with its port.
pub(crate) const LENGTH4: usize = 6;

/// Bytes of an address of IPv6 with its port.
pub(crate) const LENGTH6: usize = 18;

/// Appends the bytes of an address without its port.
pub(crate) fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
}

/// Appends the bytes of an address and its port.
pub(crate) fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    write_ip(address.ip(), out);
    out.extend(address.port().to_be_bytes());
}

/// Reads an address without its port; its family shows by how many bytes there are. `None`: neither 4 nor 16.
pub(crate) fn read_ip(bytes: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    four().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

/// Reads an address and its port. `None`: neither [`LENGTH4`] nor [`LENGTH6`] bytes.
pub(crate) fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk()?;
    Some(SocketAddr::new(read_ip(ip)?, u16::from_be_bytes(*port)))
}

/// The addresses of IPv4 in a list; what is left behind the last whole one is ignored.
pub(crate) fn list4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    bytes.chunks_exact(LENGTH4).filter_map(read_address)
}

/// The addresses of IPv6 in a list, likewise.
pub(crate) fn list6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    bytes.chunks_exact(LENGTH6).filter_map(read_address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_are_read_as_they_were_written(
            four in prop::collection::vec(any::<([u8; 4], u16)>(), 0..5),
            six in prop::collection::vec(any::<([u8; 16], u16)>(), 0..5),
            rest in 0..LENGTH4,
        ) {
            let four: Vec<SocketAddr> = four.into_iter().map(SocketAddr::from).collect();
            let six: Vec<SocketAddr> = six.into_iter().map(SocketAddr::from).collect();
            let written = |addresses: &[SocketAddr]| {
                let mut bytes = Vec::new();
                addresses.iter().for_each(|&address| write_address(address, &mut bytes));
                bytes.resize(bytes.len() + rest, 7);
                bytes
            };
            prop_assert_eq!(list4(&written(&four)).collect::<Vec<_>>(), four);
            prop_assert_eq!(list6(&written(&six)).collect::<Vec<_>>(), six);
        }
    }

    #[test]
    fn the_port_stands_behind_the_address_with_its_high_byte_first() {
        assert_eq!(read_address(&[192, 0, 2, 1, 0x1a, 0xe1]), Some("192.0.2.1:6881".parse().unwrap()));
        for length in (0..40).filter(|length| ![LENGTH4, LENGTH6].contains(length)) {
            assert_eq!(read_address(&vec![1; length]), None, "{length}");
        }
    }
}
