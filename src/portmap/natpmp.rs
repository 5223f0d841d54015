//! The packets of NAT-PMP (RFC 6886), all numbers in network order.

use std::net::Ipv4Addr;

use super::api::Protocol;

/// The first byte of each packet.
pub(super) const NAT_PMP_VERSION: u8 = 0;

/// Set in the second byte of what a gateway sends.
const ANSWER: u8 = 128;

/// Result code: another version of the protocol is spoken here (RFC 6886, 3.5).
pub(super) const UNSUPPORTED_VERSION: u16 = 1;

/// Asks for the address outside (3.2).
pub(super) fn ask_address() -> Vec<u8> {
    vec![NAT_PMP_VERSION, 0]
}

/// Asks for a mapping (3.3), or with 0 seconds for its end (3.4), for which the external port has to be 0 too.
pub(super) fn ask_mapping(protocol: Protocol, internal: u16, external: u16, seconds: u32) -> Vec<u8> {
    let mut packet = vec![NAT_PMP_VERSION, opcode(protocol), 0, 0];
    packet.extend(internal.to_be_bytes());
    packet.extend(external.to_be_bytes());
    packet.extend(seconds.to_be_bytes());
    packet
}

fn opcode(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Udp => 1,
        Protocol::Tcp => 2,
    }
}

/// What a gateway answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NatPmpAnswer {
    /// 0 is success.
    pub result: u16,
    /// Seconds since the gateway has lost what it knew of mappings; 0 in a refusal that does not tell it.
    pub epoch: u32,
    /// What is answered.
    pub about: NatPmpAbout,
}

/// What an answer is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatPmpAbout {
    /// The address outside; in a refusal 0.0.0.0.
    Address(Ipv4Addr),
    /// A mapping.
    Mapping {
        /// What it lets through.
        protocol: Protocol,
        /// The port here.
        internal: u16,
        /// The port outside.
        external: u16,
        /// How long it lasts.
        seconds: u32,
    },
    /// Something that we never ask; only of use if the version is refused.
    Other,
}

impl NatPmpAnswer {
    /// Reads an answer; `None`: it is none. Bytes that follow are ignored.
    pub fn decode(packet: &[u8]) -> Option<NatPmpAnswer> {
        let mut numbers = Fields(packet);
        let [version, opcode] = numbers.take()?;
        if version != NAT_PMP_VERSION || opcode & ANSWER == 0 {
            return None;
        }
        let result = u16::from_be_bytes(numbers.take()?);
        let is_refusal = result != 0;
        // A refusal may end here.
        let epoch = numbers.take().map(u32::from_be_bytes);
        let about = match opcode & !ANSWER {
            0 => numbers.take::<4>().map(|ip| NatPmpAbout::Address(ip.into())),
            code @ (1 | 2) => (|| {
                Some(NatPmpAbout::Mapping {
                    protocol: if code == 1 { Protocol::Udp } else { Protocol::Tcp },
                    internal: u16::from_be_bytes(numbers.take()?),
                    external: u16::from_be_bytes(numbers.take()?),
                    seconds: u32::from_be_bytes(numbers.take()?),
                })
            })(),
            _ => Some(NatPmpAbout::Other),
        };
        match (epoch, about) {
            (Some(epoch), Some(about)) => Some(NatPmpAnswer { result, epoch, about }),
            _ if is_refusal => {
                Some(NatPmpAnswer { result, epoch: epoch.unwrap_or(0), about: NatPmpAbout::Other })
            }
            _ => None,
        }
    }
}

/// What a result code means (3.5).
pub(super) fn explain(result: u16) -> String {
    let meaning = match result {
        UNSUPPORTED_VERSION => "it does not speak this version",
        2 => "it is not allowed there",
        3 => "the gateway has no address itself",
        4 => "the gateway has no port left",
        5 => "it cannot do that",
        _ => return format!("result code {result}"),
    };
    format!("{meaning} (result code {result})")
}

/// What is left to read of a packet.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// The next bytes; `None`: there are not as many.
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_the_rfc_draws_them() {
        assert_eq!(ask_address(), [0, 0]);
        let ask = ask_mapping(Protocol::Tcp, 6881, 6882, 3600);
        assert_eq!(ask, [0, 2, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 0x0e, 0x10]);
        assert_eq!(ask_mapping(Protocol::Udp, 1, 0, 0), [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn answers_are_read_and_nothing_else() {
        let address = [0, 128, 0, 0, 0, 0, 0, 7, 203, 0, 113, 9];
        let about = NatPmpAbout::Address([203, 0, 113, 9].into());
        assert_eq!(NatPmpAnswer::decode(&address), Some(NatPmpAnswer { result: 0, epoch: 7, about }));
        let mapping = [0, 130, 0, 0, 0, 0, 0, 7, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 0x0e, 0x10];
        let about =
            NatPmpAbout::Mapping { protocol: Protocol::Tcp, internal: 6881, external: 6882, seconds: 3600 };
        assert_eq!(NatPmpAnswer::decode(&mapping), Some(NatPmpAnswer { result: 0, epoch: 7, about }));
        for length in 0..mapping.len() {
            assert_eq!(NatPmpAnswer::decode(&mapping[..length]), None, "{length}");
        }
        // A refusal is one however short it is.
        let short = NatPmpAnswer::decode(&[0, 129, 0, 2]).unwrap();
        assert_eq!((short.result, short.about), (2, NatPmpAbout::Other));
        for wrong in [&[0, 2, 0, 0, 0, 0, 0, 7, 1, 1, 1, 1][..], &[1, 128, 0, 2], &[2, 129, 0, 2], &[]] {
            assert_eq!(NatPmpAnswer::decode(wrong), None, "{wrong:?}");
        }
    }
}
