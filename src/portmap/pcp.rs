//! The packets of the Port Control Protocol (RFC 6887): requests to map a port, and their answers. All numbers are in network order.

use std::net::{IpAddr, Ipv6Addr};

use super::api::Protocol;
use super::natpmp::Fields;

/// The first byte of each packet.
const PCP_VERSION: u8 = 2;

/// The opcode of mappings (RFC 6887, 11).
const MAP: u8 = 1;

/// Set in the second byte of what a gateway sends.
const ANSWER: u8 = 128;

/// The longest packet there is (7).
const MAX_PACKET: usize = 1100;

/// Result code: another version of the protocol is spoken here (7.4).
pub(super) const UNSUPPORTED_VERSION: u8 = 1;

/// By which an answer shows that it is one (11.1): nobody who has not seen the request knows it.
pub(super) type Nonce = [u8; 12];

/// A request for a mapping, or with 0 seconds for its end (15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcpAsk {
    /// The address that the request is sent from (8.1).
    pub client: IpAddr,
    /// How long the mapping is to last.
    pub seconds: u32,
    /// The same for each request about a mapping.
    pub nonce: Nonce,
    /// What is let through.
    pub protocol: Protocol,
    /// The port here.
    pub internal: u16,
    /// The port outside that is wished for; 0: any.
    pub external: u16,
}

impl PcpAsk {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut packet = vec![PCP_VERSION, MAP, 0, 0];
        packet.extend(self.seconds.to_be_bytes());
        packet.extend(wide(self.client).octets());
        packet.extend(self.nonce);
        packet.extend([number(self.protocol), 0, 0, 0]);
        packet.extend(self.internal.to_be_bytes());
        packet.extend(self.external.to_be_bytes());
        // Any address outside, of the family of the client's (11.1).
        let any: IpAddr = if self.client.is_ipv4() { [0; 4].into() } else { [0u8; 16].into() };
        packet.extend(wide(any).octets());
        packet
    }
}

/// The number of a protocol (IANA).
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// All addresses have 16 bytes here (5).
fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// What a gateway answers to a request for a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcpAnswer {
    /// 0 is success.
    pub result: u8,
    /// How long the mapping lasts; in a refusal, how long it is likely to hold.
    pub seconds: u32,
    /// Seconds since the gateway has lost what it knew of mappings.
    pub epoch: u32,
    /// What is mapped; `None` where a gateway that does not speak this version cannot tell.
    pub mapping: Option<PcpMapping>,
}

/// What an answer says of a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PcpMapping {
    /// That of the request.
    pub nonce: Nonce,
    /// What is let through.
    pub protocol: Protocol,
    /// The port here.
    pub internal: u16,
    /// The port outside.
    pub external: u16,
    /// The address outside, canonical.
    pub external_ip: IpAddr,
}

impl PcpAnswer {
    /// Reads an answer; `None`: it is none. Options that follow are ignored, as are none that a client must understand (7.3).
    pub fn decode(packet: &[u8]) -> Option<PcpAnswer> {
        let mut fields = Fields(packet);
        let [version, opcode, _, result] = fields.take()?;
        let (seconds, epoch) = (u32::from_be_bytes(fields.take()?), u32::from_be_bytes(fields.take()?));
        let is_other_version = result == UNSUPPORTED_VERSION;
        if packet.len() > MAX_PACKET || opcode != ANSWER | MAP {
            return None;
        }
        if is_other_version && version != 0 {
            return Some(PcpAnswer { result, seconds, epoch, mapping: None });
        }
        if version != PCP_VERSION || !packet.len().is_multiple_of(4) {
            return None;
        }
        let _reserved: [u8; 12] = fields.take()?;
        let nonce = fields.take()?;
        let [protocol, _, _, _] = fields.take()?;
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|&known| number(known) == protocol)?;
        let (internal, external) = (u16::from_be_bytes(fields.take()?), u16::from_be_bytes(fields.take()?));
        let external_ip = IpAddr::from(fields.take::<16>()?).to_canonical();
        let mapping = Some(PcpMapping { nonce, protocol, internal, external, external_ip });
        Some(PcpAnswer { result, seconds, epoch, mapping })
    }
}

/// What a result code means (7.4).
pub(super) fn explain(result: u8) -> String {
    let meaning = match result {
        UNSUPPORTED_VERSION => "it does not speak this version",
        2 => "it is not allowed there",
        3 => "it does not understand the request",
        4 | 5 | 9 => "it cannot do that",
        7 => "the gateway has no address itself",
        8 => "the gateway has no port left",
        10 => "this machine has too many mappings",
        11 => "the port or address outside is not to be had",
        12 => "there is another address translation on the way",
        _ => return format!("result code {result}"),
    };
    format!("{meaning} (result code {result})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> PcpAsk {
        PcpAsk {
            client: IpAddr::from([192, 168, 1, 7]),
            seconds: 3600,
            nonce: [9; 12],
            protocol: Protocol::Tcp,
            internal: 6881,
            external: 6881,
        }
    }

    /// The answer of a gateway to this request.
    fn answer(result: u8) -> Vec<u8> {
        let mut packet = ask().encode();
        (packet[1], packet[3]) = (0x81, result);
        packet[8..12].copy_from_slice(&[0, 0, 0, 7]);
        packet[12..24].fill(0);
        packet[42..44].copy_from_slice(&6882u16.to_be_bytes());
        packet[56..60].copy_from_slice(&[203, 0, 113, 9]);
        packet
    }

    #[test]
    fn a_request_is_as_the_rfc_draws_it() {
        let packet = ask().encode();
        assert_eq!(packet.len(), 60);
        assert_eq!(packet[..8], [2, 1, 0, 0, 0, 0, 0x0e, 0x10]);
        assert_eq!(packet[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 7]);
        assert_eq!(packet[24..36], [9; 12]);
        assert_eq!(packet[36..44], [6, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe1]);
        assert_eq!(packet[44..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        let v6 = PcpAsk { client: "2001:db8::7".parse().unwrap(), ..ask() }.encode();
        assert_eq!(v6[44..], [0; 16]);
    }

    #[test]
    fn answers_are_read_and_nothing_else() {
        let read = PcpAnswer::decode(&answer(0)).unwrap();
        assert_eq!((read.result, read.seconds, read.epoch), (0, 3600, 7));
        let mapping = read.mapping.unwrap();
        assert_eq!((mapping.nonce, mapping.internal, mapping.external), ([9; 12], 6881, 6882));
        assert_eq!(mapping.external_ip, IpAddr::from([203, 0, 113, 9]));
        for length in 0..60 {
            assert_eq!(PcpAnswer::decode(&answer(0)[..length]), None, "{length}");
        }
        // Options may follow, in whole words.
        assert!(PcpAnswer::decode(&[answer(0), vec![200, 0, 0, 0]].concat()).is_some());
        assert!(PcpAnswer::decode(&[answer(0), vec![0; 2000]].concat()).is_none());
        assert!(PcpAnswer::decode(&ask().encode()).is_none(), "a request is no answer");
    }

    #[test]
    fn a_gateway_of_another_version_says_so_in_a_few_bytes() {
        let mut short = answer(UNSUPPORTED_VERSION)[..24].to_vec();
        short[0] = 1;
        let read = PcpAnswer::decode(&short).unwrap();
        assert_eq!((read.result, read.mapping), (UNSUPPORTED_VERSION, None));
    }
}
