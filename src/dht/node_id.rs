//! Node ids: their distance (BEP 5), and their bond to an address (BEP 42).

use std::net::IpAddr;

use crate::address::is_inner;
pub use crate::ids::NodeId;
use crate::ids::WireHash;

impl NodeId {
    /// Bytes of an id.
    pub const LENGTH: usize = 20;

    /// Bits of an id.
    pub(super) const BITS: usize = 160;

    /// Reads an id.
    pub(super) fn read(bytes: &[u8]) -> Option<NodeId> {
        bytes.try_into().ok().map(NodeId)
    }

    /// The id that stands for the same point as the torrent.
    pub fn of(hash: WireHash) -> NodeId {
        NodeId(hash.0)
    }

    /// The torrent that stands for the same point as the id.
    pub(super) fn hash(&self) -> WireHash {
        WireHash(self.0)
    }

    /// The exclusive or of two ids, which orders nodes by their nearness to a target (BEP 5).
    pub fn distance(&self, other: &NodeId) -> NodeId {
        NodeId(std::array::from_fn(|at| self.0[at] ^ other.0[at]))
    }

    /// How many leading bits two ids share: 0 to 160.
    pub(super) fn shared_bits(&self, other: &NodeId) -> usize {
        let NodeId(distance) = self.distance(other);
        match distance.iter().position(|&byte| byte != 0) {
            Some(at) => 8 * at + distance[at].leading_zeros() as usize,
            None => NodeId::BITS,
        }
    }

    /// An id that shares exactly `bits` leading bits with this one and is that of `random` beyond; with 160, this one.
    pub(super) fn near(&self, bits: usize, random: NodeId) -> NodeId {
        let mut near = NodeId(std::array::from_fn(|at| {
            let own = match bits.saturating_sub(8 * at) {
                0 => 0,
                bits @ 1..8 => 0xff << (8 - bits),
                _ => 0xff,
            };
            self.0[at] & own | random.0[at] & !own
        }));
        if bits < NodeId::BITS {
            let bit = 0x80 >> (bits % 8);
            near.0[bits / 8] = near.0[bits / 8] & !bit | (self.0[bits / 8] ^ bit) & bit;
        }
        near
    }

    /// Makes this id one that a node at the address may have (BEP 42); its own bits stand wherever the rule leaves them free.
    pub fn bound_to(mut self, ip: IpAddr) -> NodeId {
        let crc = prefix(ip, self.0[19]).to_be_bytes();
        self.0[0] = crc[0];
        self.0[1] = crc[1];
        self.0[2] = crc[2] & 0xf8 | self.0[2] & 0x07;
        self
    }

    /// Whether a node at the address may have this id (BEP 42): 21 bits follow from the address and from the last byte of the id.
    /// Inner addresses are exempt: many nodes may share them, and behind a translation they are not what the node knows.
    pub fn fits(&self, ip: IpAddr) -> bool {
        is_inner(ip) || *self == self.bound_to(ip)
    }
}

/// The checksum whose first 21 bits an id has (BEP 42): over the address, masked, with three random bits in front. Of an IPv6 address the first
/// half counts.
fn prefix(ip: IpAddr, random: u8) -> u32 {
    let random = random & 0x07;
    match ip.to_canonical() {
        IpAddr::V4(v4) => crc32c(&(v4.to_bits() & 0x030f_3fff | u32::from(random) << 29).to_be_bytes()),
        IpAddr::V6(v6) => {
            let half = (v6.to_bits() >> 64) as u64;
            crc32c(&(half & 0x0103_070f_1f3f_7fff | u64::from(random) << 61).to_be_bytes())
        }
    }
}

/// CRC-32C (Castagnoli; RFC 3720, B.4), bit by bit: it is taken of eight bytes at the most.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(hex: &str) -> NodeId {
        NodeId::of(hex.parse().unwrap())
    }

    #[test]
    fn ids_fit_the_addresses_of_the_examples_in_bep_42_and_no_others() {
        let examples = [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ];
        for (ip, hex) in examples {
            let own = ip.parse().unwrap();
            assert!(id(hex).fits(own), "{ip}");
            assert_eq!(id(hex).bound_to(own), id(hex));
            for (other, _) in examples.iter().filter(|(other, _)| *other != ip) {
                assert!(!id(hex).fits(other.parse().unwrap()), "{hex} at {other}");
            }
        }
    }

    #[test]
    fn inner_addresses_may_have_any_id() {
        for inner in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fe80::1", "fd00::1"] {
            assert!(id("5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401").fits(inner.parse().unwrap()), "{inner}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn an_id_that_is_bound_fits_and_keeps_what_is_free(bytes: [u8; 20], v4: u32, v6: u128) {
            for ip in [IpAddr::from(std::net::Ipv4Addr::from(v4)), std::net::Ipv6Addr::from(v6).into()] {
                let bound = NodeId(bytes).bound_to(ip);
                prop_assert!(bound.fits(ip));
                prop_assert_eq!(&bound.0[3..], &bytes[3..]);
            }
        }

        #[test]
        fn a_near_id_shares_exactly_as_many_bits_as_it_should(own: [u8; 20], random: [u8; 20], bits in 0..=160usize) {
            prop_assert_eq!(NodeId(own).near(bits, NodeId(random)).shared_bits(&NodeId(own)), bits);
        }
    }
}
