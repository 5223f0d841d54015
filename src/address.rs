//! What an address tells of who is behind it, and from where it can be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// By which ports this client can be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenPorts {
    /// The port that is listened on; 0: none.
    pub local: u16,
    /// The port outside, by IPv4, that a gateway maps to it for connections.
    pub tcp: Option<u16>,
    /// The same for packets.
    pub udp: Option<u16>,
    /// The network on our side of that gateway: an address of it, and its mask.
    pub near: Option<(Ipv4Addr, Ipv4Addr)>,
}

impl ListenPorts {
    /// Those of a client for which no gateway maps anything.
    pub fn unmapped(local: u16) -> ListenPorts {
        ListenPorts { local, tcp: None, udp: None, near: None }
    }

    /// The port for connections, as it is told to somebody who may be anywhere.
    pub(crate) fn outside(self) -> u16 {
        self.tcp.unwrap_or(self.local)
    }

    /// The port at which somebody at this address can connect to us.
    pub(crate) fn tcp_for(self, ip: IpAddr) -> u16 {
        self.tcp.filter(|_| self.is_outside(ip)).unwrap_or(self.local)
    }

    /// The port to which somebody at this address can send packets.
    pub(crate) fn udp_for(self, ip: IpAddr) -> u16 {
        self.udp.filter(|_| self.is_outside(ip)).unwrap_or(self.local)
    }

    /// Whether somebody at this address reaches us by way of the gateway.
    fn is_outside(self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(v4) => {
                let is_near = self.near.is_some_and(|(ours, mask)| ours & mask == v4 & mask);
                !is_near && !v4.is_loopback() && !v4.is_link_local()
            }
            IpAddr::V6(_) => false,
        }
    }
}

/// The address that a host is by its writing alone, without a name server: also as 2130706433, 0x7f.1 and the like, which the
/// system's look-up takes for addresses.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    host.parse().ok().or_else(|| by_numbers(host.trim_end_matches('.')).map(IpAddr::V4))
}

/// One to four numbers, decimal, octal (`0…`) or hexadecimal (`0x…`), of which the last stands for all bytes that are left, as `inet_aton` reads
/// them. The system is not asked: what it does not take for an address it looks up, e.g. 256.1.1.1.
fn by_numbers(host: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| {
        let (digits, radix) = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if part.len() > 1 && part.starts_with('0') => (part, 8),
            None => (part, 10),
        };
        // A sign is none of it.
        u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
    };
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (&last, bytes) = numbers.split_last().filter(|(_, bytes)| bytes.len() < 4)?;
    let room = 32 - 8 * bytes.len() as u32;
    if u64::from(last) >> room != 0 || bytes.iter().any(|&byte| byte > 255) {
        return None;
    }
    let begin = bytes.iter().rev().fold(0u64, |bits, &byte| (bits | u64::from(byte) << 32) >> 8);
    Some(Ipv4Addr::from_bits(begin as u32 | last))
}

/// A machine, as far as its address tells: the address without its port, but on loopback, where many clients share one
/// address, with it. An IPv4 address counts as such also behind an IPv6 socket; of an IPv6 address the first half does, for
/// whoever has one has all of the other half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Machine(IpAddr, u16);

impl Machine {
    /// The machine at this address.
    pub(crate) fn at(address: SocketAddr) -> Machine {
        let ip = address.ip().to_canonical();
        match ip {
            ip if ip.is_loopback() => Machine(ip, address.port()),
            IpAddr::V4(_) => Machine(ip, 0),
            // All machines of a link share that network: here the address is the machine.
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Machine(ip, 0),
            IpAddr::V6(v6) => Machine(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(), 0),
        }
    }
}

/// Machines that are likely to be one person's: the first 24 bits of an IPv4 address, the first 48 of an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Subnet(IpAddr);

impl Subnet {
    /// The subnet of this address. `None` for inner addresses: what is said of the world's does not hold for them.
    pub(crate) fn at(address: SocketAddr) -> Option<Subnet> {
        match address.ip().to_canonical() {
            ip if is_inner(ip) => None,
            IpAddr::V4(v4) => Some(Subnet(Ipv4Addr::from_bits(v4.to_bits() >> 8 << 8).into())),
            IpAddr::V6(v6) => Some(Subnet(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into())),
        }
    }
}

/// The address in the clothes of its own family.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether somebody at `source` can know of a machine at `ip`, both canonical: inner addresses mean something to those who are inside alone,
/// and those of a machine to itself. Else a stranger could have us call into our own network.
pub(crate) fn may_name(source: IpAddr, ip: IpAddr) -> bool {
    if ip.is_loopback() { source.is_loopback() } else { !is_inner(ip) || is_inner(source) }
}

/// What the addresses begin with that stand for names.
const STAND_INS: [u16; 2] = [0x3fff, 0xf00];

/// The address that stands for the machine of this number, of which only the name is known here, each in a network of its own: of a prefix
/// that is for documents alone (RFC 9637).
pub(crate) fn stand_in(number: u16, port: u16) -> SocketAddr {
    let [a, b] = STAND_INS;
    SocketAddr::new(Ipv6Addr::new(a, b, number, 0, 0, 0, 0, 1).into(), port)
}

/// Whether it is an address of [`stand_in`], which means nothing to anybody else.
pub(crate) fn is_stand_in(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(v6) if v6.segments()[..2] == STAND_INS)
}

/// Whether a client can be called there: a port of one machine.
pub(crate) fn is_callable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast
}

/// Whether an address is of this machine or of a network that the outside does not reach, in whatever clothes it comes.
pub(crate) fn is_inner(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_inner4(address),
        IpAddr::V6(address) => is_inner6(address),
    }
}

/// By the registry of special addresses (RFC 6890): this host, private use, behind a provider's translation (RFC 6598), link-local, loopback,
/// protocol assignments, benchmarks, multicast, reserved.
fn is_inner4(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127, ..] | [169, 254, ..] | [192, 168, ..] | [192, 0, 0, _] | [224..=255, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        [172, second, ..] => (16..32).contains(&second),
        [198, second, ..] => (18..20).contains(&second),
        _ => false,
    }
}

fn is_inner6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_inner4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        // Unspecified, loopback, IPv4-compatible and IPv4-mapped ones.
        (0, 0, 0, 0, 0, 0 | 0xffff) => embedded(g, h),
        // Translated: RFC 6052, RFC 8215 (always local), and 6to4.
        (0x64, 0xff9b, 0, 0, 0, 0) => embedded(g, h),
        (0x64, 0xff9b, 1, ..) => true,
        (0x2002, high, low, ..) => embedded(high, low),
        // Unique local, link-local and site-local, multicast.
        _ => (a & 0xfe00) == 0xfc00 || (a & 0xff80) == 0xfe80 || a >= 0xff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_on_our_side_of_the_gateway_calls_the_port_here() {
        let near = Some(([10, 1, 0, 7].into(), [255, 255, 255, 0].into()));
        let ports = ListenPorts { local: 6881, tcp: Some(7001), udp: Some(7002), near };
        let told = |ip: &str| (ports.tcp_for(ip.parse().unwrap()), ports.udp_for(ip.parse().unwrap()));
        for outside in ["203.0.113.9", "10.2.0.1", "::ffff:203.0.113.9"] {
            assert_eq!(told(outside), (7001, 7002), "{outside}");
        }
        for near in ["10.1.0.9", "127.0.0.1", "169.254.1.1", "::1", "2001:db8::9", "::ffff:10.1.0.9"] {
            assert_eq!(told(near), (6881, 6881), "{near}");
        }
        assert_eq!(ListenPorts::unmapped(6881).tcp_for([203, 0, 113, 9].into()), 6881);
    }

    #[test]
    fn a_machine_with_ipv6_is_all_of_its_network() {
        let at = |address: &str| Machine::at(address.parse().unwrap());
        assert_eq!(at("[2001:db8::1]:1"), at("[2001:db8::ffff:2]:9"));
        assert_ne!(at("[2001:db8:0:1::1]:1"), at("[2001:db8:0:2::1]:1"));
        assert_eq!(at("[::ffff:192.0.2.1]:1"), at("192.0.2.1:9"));
        assert_ne!(at("192.0.2.1:1"), at("192.0.2.2:1"));
        assert_ne!(at("[::1]:1"), at("[::1]:2"));
        assert_ne!(at("[fe80::1]:1"), at("[fe80::2]:1"));
        assert_eq!(at("[fe80::1]:1"), at("[fe80::1]:2"));
    }

    #[test]
    fn what_stands_for_a_name_is_a_machine_of_its_own_and_nobody_elses_address() {
        let (first, second) = (stand_in(1, 7), stand_in(2, 7));
        assert!(is_stand_in(first) && is_stand_in(second) && is_callable(first));
        assert_ne!((Machine::at(first), Subnet::at(first)), (Machine::at(second), Subnet::at(second)));
        assert_ne!(Machine::at(first), Machine::at(second));
        assert!(
            !is_stand_in("[2001:db8::1]:7".parse().unwrap()) && !is_stand_in("192.0.2.1:7".parse().unwrap())
        );
    }

    #[test]
    fn a_machine_is_its_address_and_on_loopback_its_port_too() {
        let machine = |address: &str| Machine::at(address.parse().unwrap());
        assert_eq!(machine("192.0.2.1:1"), machine("[::ffff:192.0.2.1]:2"));
        assert_ne!(machine("192.0.2.1:1"), machine("192.0.2.2:1"));
        assert_ne!(machine("127.0.0.1:1"), machine("127.0.0.1:2"));
    }

    #[test]
    fn a_subnet_is_24_bits_or_48_and_inner_addresses_have_none() {
        let at = |address: &str| Subnet::at(address.parse().unwrap());
        assert_eq!(at("192.0.2.1:1"), at("[::ffff:192.0.2.200]:9"));
        assert_ne!(at("192.0.2.1:1"), at("192.0.3.1:1"));
        assert_eq!(at("[2001:db8:1:2::1]:1"), at("[2001:db8:1:3::1]:1"));
        assert_ne!(at("[2001:db8:1:2::1]:1"), at("[2001:db8:2:2::1]:1"));
        assert!(
            ["127.0.0.1:1", "10.0.0.1:1", "[::1]:1", "[fe80::1]:1"].iter().all(|inner| at(inner).is_none())
        );
    }

    #[test]
    fn inner_addresses_are_known_in_all_their_clothes() {
        for inner in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.1.1",
            "::127.0.0.1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
        ] {
            assert!(is_inner(inner.parse().unwrap()), "{inner}");
        }
        for outside in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "198.20.0.1",
            "9.9.9.9",
            "2001:db8::1",
            "2606:4700::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(!is_inner(outside.parse().unwrap()), "{outside}");
        }
    }
}
