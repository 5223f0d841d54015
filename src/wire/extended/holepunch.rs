//! `ut_holepunch` (BEP 55): two peers that cannot call one another are told, by one that is connected to both, to call at the same time.
//!
//! Owns the shape of the message. Who is asked, whom we introduce and what is believed is for `finder::holepunch` to say.

use std::net::SocketAddr;

use super::super::ProtocolError;
use crate::compact;

/// Why a rendezvous cannot take place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HolepunchError {
    /// The address is none that a peer could have.
    NoSuchPeer,
    /// Who was asked is not connected to it.
    NotConnected,
    /// The peer there does not speak `ut_holepunch`.
    NoSupport,
    /// It is the address of who was asked.
    NoSelf,
    /// A code that BEP 55 does not know.
    Other(u32),
}

impl HolepunchError {
    fn code(self) -> u32 {
        match self {
            HolepunchError::NoSuchPeer => 1,
            HolepunchError::NotConnected => 2,
            HolepunchError::NoSupport => 3,
            HolepunchError::NoSelf => 4,
            HolepunchError::Other(code) => code,
        }
    }

    fn of_code(code: u32) -> HolepunchError {
        match code {
            1 => HolepunchError::NoSuchPeer,
            2 => HolepunchError::NotConnected,
            3 => HolepunchError::NoSupport,
            4 => HolepunchError::NoSelf,
            other => HolepunchError::Other(other),
        }
    }
}

/// A message of `ut_holepunch`. Addresses can be anything, and stand as they were said: one of IPv4 may be that of IPv6 which stands for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HolepunchMessage {
    /// Introduce me to the peer at this address.
    Rendezvous(SocketAddr),
    /// Call this address by uTP: the peer there is calling you.
    Connect(SocketAddr),
    /// The rendezvous with this address cannot take place.
    Error(SocketAddr, HolepunchError),
}

impl HolepunchMessage {
    /// The payload that says this.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, address, code) = match self {
            HolepunchMessage::Rendezvous(address) => (0, address, 0),
            HolepunchMessage::Connect(address) => (1, address, 0),
            HolepunchMessage::Error(address, error) => (2, address, error.code()),
        };
        let mut payload = vec![kind, u8::from(address.is_ipv6())];
        compact::write_address(*address, &mut payload);
        payload.extend(code.to_be_bytes());
        payload
    }

    /// Reads a payload. `None`: a message or an address of a kind that BEP 55 does not know, to be ignored. The code may be missing where there
    /// is no error, as libtorrent leaves it out; bytes behind it are ignored.
    ///
    /// # Errors
    ///
    /// If the payload is too short for what it says it is.
    pub fn decode(payload: &[u8]) -> Result<Option<HolepunchMessage>, ProtocolError> {
        let too_short = || ProtocolError::Malformed {
            message: "ut_holepunch",
            reason: format!("{} bytes are too few", payload.len()),
        };
        let (&[kind, family], rest) = payload.split_first_chunk().ok_or_else(too_short)?;
        let length = match family {
            0 => compact::LENGTH4,
            1 => compact::LENGTH6,
            _ => return Ok(None),
        };
        let (address, rest) = rest.split_at_checked(length).ok_or_else(too_short)?;
        let address = compact::read_address(address).ok_or_else(too_short)?;
        match kind {
            0 => Ok(Some(HolepunchMessage::Rendezvous(address))),
            1 => Ok(Some(HolepunchMessage::Connect(address))),
            2 => {
                let &code = rest.first_chunk().ok_or_else(too_short)?;
                let error = HolepunchError::of_code(u32::from_be_bytes(code));
                Ok(Some(HolepunchMessage::Error(address, error)))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn addresses() -> impl Strategy<Value = SocketAddr> {
        let ip =
            prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
        (ip, any::<u16>()).prop_map(SocketAddr::from)
    }

    fn messages() -> impl Strategy<Value = HolepunchMessage> {
        prop_oneof![
            addresses().prop_map(HolepunchMessage::Rendezvous),
            addresses().prop_map(HolepunchMessage::Connect),
            (addresses(), 0u32..7)
                .prop_map(|(address, code)| HolepunchMessage::Error(address, HolepunchError::of_code(code))),
        ]
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(message in messages(), behind in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut payload = message.encode();
            payload.extend(behind);
            prop_assert_eq!(HolepunchMessage::decode(&payload), Ok(Some(message)));
        }

        #[test]
        fn random_bytes_never_panic_and_what_is_cut_is_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            message in messages(),
        ) {
            let _ = HolepunchMessage::decode(&bytes);
            let payload = message.encode();
            let code = if matches!(message, HolepunchMessage::Error(..)) { 0 } else { 4 };
            for length in 0..payload.len() {
                let is_enough = length + code >= payload.len();
                prop_assert_eq!(HolepunchMessage::decode(&payload[..length]).is_ok(), is_enough);
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_bep_55() {
        let (four, six) = ("1.2.3.4:258".parse().unwrap(), "[2001:db8::5]:258".parse().unwrap());
        for (message, bytes) in [
            (HolepunchMessage::Rendezvous(four), &b"\0\0\x01\x02\x03\x04\x01\x02\0\0\0\0"[..]),
            (
                HolepunchMessage::Connect(six),
                b"\x01\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x05\x01\x02\0\0\0\0",
            ),
            (
                HolepunchMessage::Error(four, HolepunchError::NoSuchPeer),
                b"\x02\0\x01\x02\x03\x04\x01\x02\0\0\0\x01",
            ),
            (
                HolepunchMessage::Error(four, HolepunchError::NotConnected),
                b"\x02\0\x01\x02\x03\x04\x01\x02\0\0\0\x02",
            ),
            (
                HolepunchMessage::Error(four, HolepunchError::NoSupport),
                b"\x02\0\x01\x02\x03\x04\x01\x02\0\0\0\x03",
            ),
            (
                HolepunchMessage::Error(four, HolepunchError::NoSelf),
                b"\x02\0\x01\x02\x03\x04\x01\x02\0\0\0\x04",
            ),
        ] {
            assert_eq!(message.encode(), bytes, "{message:?}");
            assert_eq!(HolepunchMessage::decode(bytes), Ok(Some(message)));
        }
        assert_eq!(
            HolepunchMessage::decode(b"\x01\0\x01\x02\x03\x04\x01\x02"),
            Ok(Some(HolepunchMessage::Connect(four)))
        );
    }

    #[test]
    fn what_the_bep_does_not_know_is_ignored() {
        for payload in [&b"\x03\0\x01\x02\x03\x04\x01\x02\0\0\0\0"[..], b"\0\x02whatever"] {
            assert_eq!(HolepunchMessage::decode(payload), Ok(None));
        }
        let unknown = b"\x02\0\x01\x02\x03\x04\x01\x02\0\0\0\x09";
        let address = "1.2.3.4:258".parse().unwrap();
        let expected = HolepunchMessage::Error(address, HolepunchError::Other(9));
        assert_eq!(HolepunchMessage::decode(unknown), Ok(Some(expected)));
    }
}
