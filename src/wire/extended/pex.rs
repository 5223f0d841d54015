//! `ut_pex` (BEP 11): peers tell one another whom they are connected to.
//!
//! Owns the shape of the message. What goes into one, and what is believed of one, is for `finder::pex` to say.

use std::net::SocketAddr;

use bendy::encoding::Encoder;

use super::super::ProtocolError;
use crate::{bencode, compact};

/// Peers that are taken from each list of a message.
pub const MAX_PEX_PEERS: usize = 50;

/// What is said of an added peer: bits of BEP 11. Those that we do not know are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct PexFlags(pub u8);

impl PexFlags {
    /// It prefers encrypted connections.
    pub const ENCRYPTION: PexFlags = PexFlags(0x01);
    /// It has everything, or wants nothing more (BEP 21).
    pub const SEED: PexFlags = PexFlags(0x02);
    /// It speaks uTP (BEP 29).
    pub const UTP: PexFlags = PexFlags(0x04);
    /// It can be met by holes in firewalls (BEP 55).
    pub const HOLEPUNCH: PexFlags = PexFlags(0x08);
    /// The sender has called it: it can be reached.
    pub const OUTGOING: PexFlags = PexFlags(0x10);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: PexFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the bits of `other` set or not.
    #[must_use]
    pub fn with(self, other: PexFlags, set: bool) -> PexFlags {
        PexFlags(if set { self.0 | other.0 } else { self.0 & !other.0 })
    }
}

/// A message of `ut_pex`. No port is 0; IPv4 addresses stand as such.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PexMessage {
    /// Peers that the sender is connected to, with what it knows of them. As decoded: at most [`MAX_PEX_PEERS`] of a
    /// family, IPv4 first.
    pub added: Vec<(SocketAddr, PexFlags)>,
    /// Peers that it is not connected to any more; bounded as `added`.
    pub dropped: Vec<SocketAddr>,
}

impl PexMessage {
    /// The payload that says this.
    pub fn encode(&self) -> Vec<u8> {
        let mut lists: [Vec<u8>; 6] = Default::default();
        let [added, flags, added6, flags6, dropped, dropped6] = &mut lists;
        for &(address, PexFlags(bits)) in &self.added {
            if write_address(address, added, added6) { flags6.push(bits) } else { flags.push(bits) }
        }
        for &address in &self.dropped {
            write_address(address, dropped, dropped6);
        }
        let keys: [&[u8]; 6] = [b"added", b"added.f", b"added6", b"added6.f", b"dropped", b"dropped6"];
        let mut encoder = Encoder::new();
        let encoded = encoder.emit_dict(|mut dict| {
            let mut entries = keys.iter().zip(&lists);
            entries.try_for_each(|(key, bytes)| dict.emit_pair_with(key, |value| value.emit_bytes(bytes)))
        });
        encoded.and_then(|()| encoder.get_output()).expect("the keys are sorted, distinct and shallow")
    }

    /// Reads a payload. A list that is missing is empty; a rest at its end that is no whole address is ignored, as are
    /// flags that are not exactly as many as the addresses, and addresses with port 0.
    ///
    /// # Errors
    ///
    /// If the payload is not a dictionary.
    pub fn decode(payload: &[u8]) -> Result<PexMessage, ProtocolError> {
        let malformed = |reason: String| ProtocolError::Malformed { message: "ut_pex", reason };
        let (value, _) = bencode::decode_prefix(payload).map_err(|error| malformed(error.to_string()))?;
        let dict = value.as_dict().ok_or_else(|| malformed(format!("{} is no dictionary", value.kind())))?;
        let mut lists: [&[u8]; 6] = [&[]; 6];
        let [added, flags, added6, flags6, dropped, dropped6] = &mut lists;
        for (key, value) in dict {
            let list = match key {
                b"added" => &mut *added,
                b"added.f" => &mut *flags,
                b"added6" => &mut *added6,
                b"added6.f" => &mut *flags6,
                b"dropped" => &mut *dropped,
                b"dropped6" => &mut *dropped6,
                _ => continue,
            };
            *list = value.as_bytes().unwrap_or_default();
        }
        let [added, flags, added6, flags6, dropped, dropped6] = lists;
        let usable = |address: &SocketAddr| address.port() != 0;
        let four = with_flags(addresses4(added), flags, added.len() / compact::LENGTH4);
        let six = with_flags(addresses6(added6), flags6, added6.len() / compact::LENGTH6);
        Ok(PexMessage {
            added: four.chain(six).filter(|(address, _)| usable(address)).collect(),
            dropped: addresses4(dropped).chain(addresses6(dropped6)).filter(usable).collect(),
        })
    }
}

/// Appends an address to the list of its family; returns whether it is that of IPv6.
fn write_address(address: SocketAddr, four: &mut Vec<u8>, six: &mut Vec<u8>) -> bool {
    compact::write_address(address, if address.is_ipv6() { six } else { four });
    address.is_ipv6()
}

fn addresses4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    compact::list4(bytes).take(MAX_PEX_PEERS)
}

fn addresses6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    compact::list6(bytes).take(MAX_PEX_PEERS).map(canonical)
}

/// Each address with its flags, if there are as many flags as there were addresses, `number`; else with none.
fn with_flags<'a>(
    addresses: impl Iterator<Item = SocketAddr> + 'a,
    flags: &'a [u8],
    number: usize,
) -> impl Iterator<Item = (SocketAddr, PexFlags)> + 'a {
    let flags = if flags.len() == number { flags } else { &[] };
    let flags = flags.iter().copied().chain(std::iter::repeat(0));
    addresses.zip(flags.map(PexFlags))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    fn four() -> impl Strategy<Value = SocketAddr> {
        (any::<[u8; 4]>(), 1u16..).prop_map(SocketAddr::from)
    }

    fn six() -> impl Strategy<Value = SocketAddr> {
        let plain = |(ip, _): &([u8; 16], u16)| Ipv6Addr::from(*ip).to_ipv4_mapped().is_none();
        (any::<[u8; 16]>(), 1u16..).prop_filter("is IPv6", plain).prop_map(SocketAddr::from)
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(
            added in prop::collection::vec((four(), any::<u8>().prop_map(PexFlags)), 0..50),
            added6 in prop::collection::vec((six(), any::<u8>().prop_map(PexFlags)), 0..50),
            dropped in prop::collection::vec(four(), 0..50),
            dropped6 in prop::collection::vec(six(), 0..50),
        ) {
            let message = PexMessage { added: [added, added6].concat(), dropped: [dropped, dropped6].concat() };
            prop_assert_eq!(PexMessage::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn random_bytes_never_panic_and_the_bounds_hold(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            list in prop::collection::vec(any::<u8>(), 0..2000),
            key in "added6?(\\.f)?|dropped6?",
        ) {
            let _ = PexMessage::decode(&bytes);
            let mut payload = format!("d{}:{key}{}:", key.len(), list.len()).into_bytes();
            payload.extend(&list);
            payload.push(b'e');
            let read = PexMessage::decode(&payload).unwrap();
            prop_assert!(read.added.len() <= MAX_PEX_PEERS && read.dropped.len() <= MAX_PEX_PEERS);
            prop_assert!(read.added.iter().all(|(address, _)| address.port() != 0));
        }
    }

    #[test]
    fn flags_that_are_missing_or_too_few_do_not_void_the_peers() {
        let expected = |bits: [u8; 2]| {
            let at = |text: &str, bits| (text.parse().unwrap(), PexFlags(bits));
            vec![at("1.2.3.4:256", bits[0]), at("5.6.7.8:2", bits[1])]
        };
        let list = b"5:added12:\x01\x02\x03\x04\x01\x00\x05\x06\x07\x08\x00\x02";
        for (flags, bits) in [
            (&b""[..], [0, 0]),
            (b"7:added.f2:\x12\x01", [0x12, 1]),
            (b"7:added.f1:\x12", [0, 0]),
            (b"7:added.f3:\x12\x01\x01", [0, 0]),
            (b"7:added.fi3e", [0, 0]),
        ] {
            let payload = [b"d", &list[..], flags, b"e"].concat();
            assert_eq!(PexMessage::decode(&payload).unwrap().added, expected(bits));
        }
    }

    #[test]
    fn a_port_of_0_takes_no_flags_from_the_next_and_a_torn_address_is_ignored() {
        let payload = b"d5:added13:\x01\x02\x03\x04\x00\x00\x05\x06\x07\x08\x00\x02\x097:added.f2:\x01\x02e";
        let read = PexMessage::decode(payload).unwrap();
        assert_eq!(read.added, [("5.6.7.8:2".parse().unwrap(), PexFlags::SEED)]);
    }

    #[test]
    fn at_most_fifty_of_each_list_are_taken() {
        let address = |number: u16| SocketAddr::from(([10, 0, 0, 1], number));
        let address6 = |number: u16| SocketAddr::from(([0x2001, 0, 0, 0, 0, 0, 0, 1], number));
        let added = (1..=80).map(address).chain((1..=80).map(address6)).map(|at| (at, PexFlags(2))).collect();
        let dropped = (1..=80).map(address).collect();
        let read = PexMessage::decode(&PexMessage { added, dropped }.encode()).unwrap();
        assert_eq!((read.added.len(), read.dropped.len()), (100, 50));
        assert!(read.added.iter().all(|(_, flags)| flags.contains(PexFlags::SEED)));
        assert_eq!(read.added[50].0, address6(1));
    }

    #[test]
    fn an_ipv4_address_in_the_clothes_of_ipv6_is_known_as_such() {
        let mut payload = b"d6:added618:".to_vec();
        payload.extend("::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
        payload.extend(b"\x1a\xe1e");
        let read = PexMessage::decode(&payload).unwrap();
        assert_eq!(read.added, [("192.0.2.1:6881".parse().unwrap(), PexFlags(0))]);
    }

    #[test]
    fn flags_are_those_of_bep_11() {
        let flags = PexFlags::default().with(PexFlags::SEED, true).with(PexFlags::OUTGOING, true);
        assert_eq!(flags.with(PexFlags::UTP, false), PexFlags(0x12));
        assert!(flags.contains(PexFlags::SEED) && !flags.contains(PexFlags::ENCRYPTION));
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        for payload in [&b""[..], b"le", b"i1e"] {
            assert!(PexMessage::decode(payload).is_err());
        }
        assert_eq!(PexMessage::decode(b"de"), Ok(PexMessage::default()));
    }
}
