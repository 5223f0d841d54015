//! What all sockets of a session are bound to: a local address, a network interface, or nothing.
//!
//! Every socket that the process opens is bound by a [`Local`], so that what the user has said with `--bind` holds in one place. An interface is
//! bound by its name (`SO_BINDTODEVICE`, which Linux allows everybody since 5.7); where the system refuses that, its addresses are. Opens
//! no connection and decides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;
use socket2::{Domain, SockRef, Socket, Type};

/// Bytes of the name of an interface, at the most (`IFNAMSIZ` of Linux, without the zero).
const MAX_NAME: usize = 15;

/// What sockets are bound to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Bind {
    /// A local address: everything comes from it and goes over its family, IPv4 or IPv6, alone.
    Address(IpAddr),
    /// A network interface, by name, e.g. `tun0`: nothing leaves by another one. While it is gone everything waits.
    Interface(String),
}

impl Bind {
    /// Reads an address (an IPv6 one with or without brackets) or the name of an interface. `None` if it can be neither; whether it is there is
    /// not looked at.
    pub fn parse(text: &str) -> Option<Bind> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let is_name = || {
            let fits = !text.is_empty() && text.len() <= MAX_NAME && !matches!(text, "." | "..");
            fits && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '[' | ']'))
        };
        match bare.parse() {
            Ok(ip) => Some(Bind::Address(ip)),
            Err(_) => is_name().then(|| Bind::Interface(text.to_owned())),
        }
    }

    /// Looks whether it is there.
    ///
    /// # Errors
    ///
    /// That it is not, and which interfaces and addresses are, for people.
    pub fn check(&self) -> Result<(), String> {
        match Local(Some(self.clone())).presence() {
            Some(_) => Ok(()),
            None => {
                let cause = match self {
                    Bind::Address(_) => "there is no such address",
                    Bind::Interface(name) if interfaces().contains_key(name) => {
                        "it is down, or has no address"
                    }
                    Bind::Interface(_) => "there is no such interface",
                };
                Err(format!("cannot bind to {self}: {cause}; there are {}", available()))
            }
        }
    }

    /// Whether nothing but this machine can be reached from there.
    pub fn is_loopback(&self) -> bool {
        match self {
            Bind::Address(ip) => ip.is_loopback(),
            Bind::Interface(name) => interfaces().get(name).is_some_and(|interface| interface.loopback),
        }
    }
}

impl<T: Into<IpAddr>> From<T> for Bind {
    fn from(ip: T) -> Bind {
        Bind::Address(ip.into())
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Address(ip) => ip.fmt(f),
            Bind::Interface(name) => name.fmt(f),
        }
    }
}

/// What tells one presence of an interface or address from a later one, after it was gone: sockets that were bound to the former are of no use then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presence {
    /// The number of the interface; 0 of an address.
    index: u32,
    /// The addresses that sockets are bound to; none if they are bound to the interface itself.
    ips: Vec<IpAddr>,
}

/// The one policy by which all sockets are bound. The default binds none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Local(Option<Bind>);

impl From<Option<Bind>> for Local {
    fn from(bind: Option<Bind>) -> Local {
        Local(bind)
    }
}

impl From<IpAddr> for Local {
    fn from(ip: IpAddr) -> Local {
        Local(Some(Bind::Address(ip)))
    }
}

impl Local {
    /// What the user has bound to.
    pub fn bind(&self) -> Option<&Bind> {
        self.0.as_ref()
    }

    /// Whether an address of this family can be reached at all from what is bound to.
    pub fn reaches(&self, other: IpAddr) -> bool {
        match &self.0 {
            None => true,
            Some(Bind::Address(ip)) => ip.is_ipv4() == other.is_ipv4(),
            Some(Bind::Interface(name)) => address_of(name, other.is_ipv4()).is_some(),
        }
    }

    /// Binds a socket that is going to connect, or send, to `to`.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if what is bound to is not there (any more), or has no address of the family; the socket must not be used then.
    pub fn bind_to_reach(&self, socket: &impl AsFd, to: IpAddr) -> io::Result<()> {
        match &self.0 {
            None => Ok(()),
            Some(Bind::Address(ip)) if ip.is_ipv4() == to.is_ipv4() => {
                SockRef::from(socket).bind(&SocketAddr::new(*ip, 0).into())
            }
            Some(bind @ Bind::Address(_)) => Err(other_family(bind, to)),
            Some(bind @ Bind::Interface(name)) => match bind_device(socket, name)? {
                true => Ok(()),
                false => {
                    let ip = address_of(name, to.is_ipv4()).ok_or_else(|| other_family(bind, to))?;
                    SockRef::from(socket).bind(&SocketAddr::new(ip, 0).into())
                }
            },
        }
    }

    /// Where to listen, one address for each family: not more than the user has bound to.
    ///
    /// # Errors
    ///
    /// `AddrNotAvailable` if what is bound to is not there.
    pub fn listening_ips(&self) -> io::Result<Vec<IpAddr>> {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        match &self.0 {
            None => Ok(all.to_vec()),
            Some(Bind::Address(ip)) => Ok(vec![*ip]),
            Some(Bind::Interface(name)) => {
                if binds_by_name(name)? {
                    return Ok(all.to_vec());
                }
                let ips = interfaces().remove(name).map_or_else(Vec::new, |interface| interface.far_ips());
                if ips.is_empty() { Err(gone(name)) } else { Ok(ips) }
            }
        }
    }

    /// Binds a socket to one of the addresses of [`Local::listening_ips`] and a port, or to any address that the socket needs for itself (of a
    /// multicast group), on the interface alone.
    pub fn bind_at(&self, socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
        if let Some(Bind::Interface(name)) = &self.0 {
            bind_device(socket, name)?;
        }
        SockRef::from(socket).bind(&address.into())
    }

    /// Whether what is bound to is there, and which. What binds nothing is always there.
    pub fn presence(&self) -> Option<Presence> {
        match &self.0 {
            None => Some(Presence { index: 0, ips: Vec::new() }),
            Some(Bind::Address(ip)) => {
                let probe = Socket::new(Domain::for_address(SocketAddr::new(*ip, 0)), Type::DGRAM, None);
                let is_there = probe.and_then(|probe| probe.bind(&SocketAddr::new(*ip, 0).into())).is_ok();
                is_there.then(|| Presence { index: 0, ips: vec![*ip] })
            }
            Some(Bind::Interface(name)) => {
                let interface = interfaces().remove(name).filter(|interface| interface.up)?;
                let index = if_nametoindex(name.as_str()).ok()?;
                // Without an address nothing can be sent: a VPN gets its own a moment after its interface.
                let ips = Some(interface.far_ips()).filter(|ips| !ips.is_empty())?;
                let by_name = binds_by_name(name).ok()?;
                Some(Presence { index, ips: if by_name { Vec::new() } else { ips } })
            }
        }
    }
}

/// An interface of this machine.
#[derive(Debug, Default)]
struct Interface {
    up: bool,
    loopback: bool,
    /// In order.
    ips: Vec<IpAddr>,
}

impl Interface {
    /// An address of each family, IPv4 first, from which it can be reached beyond the link.
    fn far_ips(&self) -> Vec<IpAddr> {
        let is_far = |ip: &&IpAddr| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let of_family = |is_ipv4| self.ips.iter().filter(is_far).find(|ip| ip.is_ipv4() == is_ipv4).copied();
        [true, false].into_iter().filter_map(of_family).collect()
    }
}

/// Whether the system lets us bind to an interface by its name.
fn binds_by_name(name: &str) -> io::Result<bool> {
    bind_device(&Socket::new(Domain::IPV4, Type::DGRAM, None)?, name)
}

fn interfaces() -> BTreeMap<String, Interface> {
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    for entry in getifaddrs().into_iter().flatten() {
        let ip = entry.address.as_ref().and_then(ip_of);
        let interface = found.entry(entry.interface_name).or_default();
        interface.up |= entry.flags.contains(InterfaceFlags::IFF_UP);
        interface.loopback |= entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        interface.ips.extend(ip);
    }
    found.values_mut().for_each(|interface| interface.ips.sort());
    found
}

/// The IP address of an interface's address.
pub(crate) fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// An address of an interface from which the family can be reached, beyond the link.
fn address_of(name: &str, is_ipv4: bool) -> Option<IpAddr> {
    interfaces().remove(name)?.far_ips().into_iter().find(|ip| ip.is_ipv4() == is_ipv4)
}

/// What can be bound to, for people.
fn available() -> String {
    let of_one = |(name, interface): (String, Interface)| {
        let ips: Vec<String> = interface.ips.iter().map(IpAddr::to_string).collect();
        if ips.is_empty() { name } else { format!("{name} ({})", ips.join(", ")) }
    };
    let all: Vec<String> = interfaces().into_iter().map(of_one).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Binds to an interface. `Ok(false)`: the system does not allow it, so its address has to do.
fn bind_device(socket: &impl AsFd, name: &str) -> io::Result<bool> {
    match SockRef::from(socket).bind_device(Some(name.as_bytes())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) => Err(gone(name)),
        Err(error) => Err(error),
    }
}

fn gone(name: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrNotAvailable, format!("the interface {name} is not there"))
}

fn other_family(bind: &Bind, to: IpAddr) -> io::Error {
    let family = if to.is_ipv4() { "IPv4" } else { "IPv6" };
    io::Error::new(ErrorKind::AddrNotAvailable, format!("{bind} has no {family} address to reach {to} from"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn an_address_or_a_name_is_taken_and_nothing_else() {
        for (text, ip) in [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", "2001:db8::7"), ("[::1]", "::1")] {
            assert_eq!(Bind::parse(text), Some(Bind::Address(ip.parse().unwrap())));
        }
        for name in ["lo", "eth0", "wg-home_1", "enp0s31f6.7", "123456789012345"] {
            assert_eq!(Bind::parse(name), Some(Bind::Interface(name.to_owned())));
        }
        for wrong in
            ["", ".", "..", "a b", "eth0:1", "192.0.2.7:80", "a/b", "1234567890123456", "[lo]", "\u{e9}th"]
        {
            assert_eq!(Bind::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        assert_eq!(Bind::from([127, 0, 0, 9]).check(), Ok(()));
        for (absent, thing) in
            [(Bind::from([203, 0, 113, 77]), "address"), (Bind::Interface("nosuch0".into()), "interface")]
        {
            let message = absent.check().unwrap_err();
            let begins = format!("cannot bind to {absent}: there is no such {thing}; there are ");
            assert!(message.starts_with(&begins) && message.contains("lo (127.0.0.1"), "{message}");
        }
    }

    #[test]
    fn on_the_loopback_interface_loopback_is_reached_and_nothing_else() {
        let local = Local::from(Some(Bind::Interface("lo".to_owned())));
        assert!(local.bind().unwrap().is_loopback());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        local.bind_to_reach(&socket, to.ip()).unwrap();
        socket.connect(&to.into()).unwrap();
        assert_eq!(TcpStream::from(socket).peer_addr().unwrap(), to);
        let away = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        local.bind_to_reach(&away, [192, 0, 2, 1].into()).unwrap();
        let sent = away.send_to(b"x", &SocketAddr::from(([192, 0, 2, 1], 9)).into());
        assert!(sent.is_err() || away.device().unwrap().is_some(), "by another interface");
    }

    #[test]
    fn an_interface_that_is_gone_keeps_everything_back() {
        let local = Local::from(Some(Bind::Interface("nosuch0".to_owned())));
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let error = local.bind_to_reach(&socket, [127, 0, 0, 1].into()).unwrap_err();
        assert_eq!(error.to_string(), "the interface nosuch0 is not there");
        assert!(local.listening_ips().is_err() && local.presence().is_none());
        assert!(!local.reaches([127, 0, 0, 1].into()));
    }

    #[test]
    fn only_the_family_of_the_local_address_is_reached() {
        let local = Local::from(IpAddr::from([127, 0, 0, 1]));
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        let error = local.bind_to_reach(&socket, Ipv6Addr::LOCALHOST.into()).unwrap_err();
        assert_eq!(error.to_string(), "127.0.0.1 has no IPv6 address to reach ::1 from");
        assert!(local.reaches([192, 0, 2, 1].into()) && !local.reaches(Ipv6Addr::LOCALHOST.into()));
    }
}
