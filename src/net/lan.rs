//! The sockets of local service discovery (BEP 14): by multicast, on each interface that may be used.
//!
//! A socket of each family listens to its group, at a port that all clients of the machine share; what is sent goes out by a socket for each address.
//! Whatever of this the system refuses is left out: discovery is a help, and no need.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::bind::{Bind, Local, ip_of};
use crate::wire::lsd::{LSD_GROUPS, LSD_PORT, LsdAnnounce, MAX_LSD_READ};

/// Between two looks at which interfaces there are.
const LOOK: Duration = Duration::from_secs(60);

/// Addresses that are sent from.
const MAX_ADDRESSES: usize = 32;

/// An address of ours, and the network that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LocalAddress {
    pub(super) ip: IpAddr,
    pub(super) mask: IpAddr,
    /// Its interface, by number.
    pub(super) interface: u32,
    pub(super) loopback: bool,
}

impl LocalAddress {
    pub(super) fn has(&self, other: IpAddr) -> bool {
        match (self.ip, self.mask, other) {
            (IpAddr::V4(ip), IpAddr::V4(mask), IpAddr::V4(other)) => ip & mask == other & mask,
            (IpAddr::V6(ip), IpAddr::V6(mask), IpAddr::V6(other)) => ip & mask == other & mask,
            _ => false,
        }
    }

    /// Whether what comes from `source` comes from its network. Link-local addresses are alike on all interfaces, so theirs has to be the same:
    /// in IPv6 a socket that has joined a group on one interface also gets what others of the machine have joined it for on others.
    fn is_linked_to(&self, source: SocketAddr) -> bool {
        let by_it = match source {
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => v6.scope_id() == self.interface,
            _ => true,
        };
        by_it && self.has(source.ip())
    }
}

/// The sockets.
#[derive(Debug)]
pub(crate) struct Lan {
    local: Local,
    listening: Vec<Rc<UdpSocket>>,
    /// One for each address.
    sending: Vec<(LocalAddress, Socket)>,
    /// All networks that the interfaces are in by which is sent.
    networks: Vec<LocalAddress>,
    looked: Instant,
}

impl Lan {
    /// Opens what can be opened, on the interfaces that are bound to (on all but loopback if none is).
    pub(crate) fn open(now: Instant, local: Local) -> Lan {
        let mut lan =
            Lan { local, listening: Vec::new(), sending: Vec::new(), networks: Vec::new(), looked: now };
        let listening = LSD_GROUPS.iter().filter(|group| match lan.local.bind() {
            Some(Bind::Address(ip)) => ip.is_ipv4() == group.is_ipv4(),
            // What is sent there is heard on the interfaces on which the group is joined alone.
            None | Some(Bind::Interface(_)) => true,
        });
        lan.listening = listening.filter_map(|&group| listen(group).ok()).map(Rc::new).collect();
        lan.look();
        lan
    }

    /// Calls with each packet that comes, and where it comes from, for as long as the task of this is not ended.
    pub(crate) fn receive(&self, tell: impl Fn(Vec<u8>, SocketAddr) -> bool + Clone + 'static) {
        for socket in &self.listening {
            let (socket, tell) = (socket.clone(), tell.clone());
            tokio::task::spawn_local(async move {
                let mut packet = vec![0; MAX_LSD_READ];
                loop {
                    match socket.recv_from(&mut packet).await {
                        Ok((length, from)) if !tell(packet[..length].to_vec(), from) => return,
                        Ok(_) => {}
                        // What is wrong with a packet that was sent is told here too.
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                }
            });
        }
    }

    /// Sends a packet to the groups, by each interface. What cannot be sent is not.
    pub(crate) fn send(&mut self, now: Instant, announce: &LsdAnnounce) {
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.look();
        }
        for (local, socket) in &self.sending {
            let group = LSD_GROUPS[usize::from(local.ip.is_ipv6())];
            let _ = socket.send_to(&announce.encode(group), &group.into());
        }
    }

    /// Whether a packet comes from a network that one of the interfaces is in.
    pub(crate) fn is_on_link(&self, source: SocketAddr) -> bool {
        self.networks.iter().any(|local| local.is_linked_to(source))
    }

    /// Looks at which interfaces there are, and joins the groups on those that are new.
    fn look(&mut self) {
        let all = addresses();
        let found = to_send_from(&all, self.local.bind());
        let is_by_same = |local: &LocalAddress, sender: &LocalAddress| {
            local.interface == sender.interface && local.ip.is_ipv4() == sender.ip.is_ipv4()
        };
        self.networks =
            all.into_iter().filter(|local| found.iter().any(|sender| is_by_same(local, sender))).collect();
        self.sending.retain(|(local, _)| found.contains(local));
        for local in found {
            if self.sending.iter().any(|(known, _)| *known == local) {
                continue;
            }
            for socket in &self.listening {
                // It may have been joined for another address of the interface.
                let _ = join(socket, &local);
            }
            self.sending.extend(sender(&local, &self.local).ok().map(|socket| (local, socket)));
        }
    }
}

/// All addresses at which packets to a group may be sent or heard.
pub(super) fn addresses() -> Vec<LocalAddress> {
    let local = |entry: InterfaceAddress| {
        let loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let usable = entry.flags.contains(InterfaceFlags::IFF_UP)
            && (loopback || entry.flags.contains(InterfaceFlags::IFF_MULTICAST));
        let ip = entry.address.as_ref().and_then(ip_of).filter(|_| usable)?;
        let interface = if_nametoindex(entry.interface_name.as_str()).ok().filter(|&number| number != 0)?;
        let mask = entry.netmask.as_ref().and_then(ip_of).unwrap_or(match ip {
            IpAddr::V4(_) => Ipv4Addr::BROADCAST.into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(u128::MAX).into(),
        });
        Some(LocalAddress { ip, mask, interface, loopback })
    };
    getifaddrs().into_iter().flatten().filter_map(local).collect()
}

/// The address that is bound to, or the number of the interface; one that is gone has none, which is 0.
pub(super) fn address_or_interface(bind: Option<&Bind>) -> (Option<IpAddr>, Option<u32>) {
    match bind {
        None => (None, None),
        Some(Bind::Address(ip)) => (Some(*ip), None),
        Some(Bind::Interface(name)) => (None, Some(if_nametoindex(name.as_str()).unwrap_or(0))),
    }
}

/// Those of them to send from: the one that is bound to, or its likes on loopback; else of each interface but loopback, or of the one that is bound
/// to, one of each family.
fn to_send_from(all: &[LocalAddress], bind: Option<&Bind>) -> Vec<LocalAddress> {
    let mut found: Vec<LocalAddress> = Vec::new();
    let (bind, only) = address_or_interface(bind);
    for &local in all {
        let is_same_family = |other: IpAddr| other.is_ipv4() == local.ip.is_ipv4();
        let wanted = match bind {
            Some(bind) => bind == local.ip || (bind.is_loopback() && local.loopback && is_same_family(bind)),
            None => {
                let is_known =
                    |known: &LocalAddress| known.interface == local.interface && is_same_family(known.ip);
                // In IPv6 that of the link, so that it is the same for all.
                let far = matches!(local.ip, IpAddr::V6(v6) if !v6.is_unicast_link_local());
                let may = match only {
                    Some(number) => local.interface == number && (!far || local.loopback),
                    None => !local.loopback && !far,
                };
                may && !found.iter().any(is_known)
            }
        };
        if wanted && found.len() < MAX_ADDRESSES {
            found.push(local);
        }
    }
    found
}

/// A socket that hears what is sent to the group, and shares its port with the other clients of this machine.
fn listen(group: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if group.is_ipv6() {
        socket.set_only_v6(true)?;
        // Else it hears what others of this machine have joined on other interfaces. Linux has it since 4.20.
        let _ = socket.set_multicast_all_v6(false);
        socket.bind(&SocketAddr::new(group.ip(), LSD_PORT).into())?;
    } else {
        socket.set_multicast_all_v4(false)?;
        socket.bind(&group.into())?;
    }
    UdpSocket::from_std(socket.into())
}

fn join(socket: &UdpSocket, local: &LocalAddress) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    match (LSD_GROUPS[usize::from(local.ip.is_ipv6())].ip(), socket.local_addr()?.is_ipv6()) {
        (IpAddr::V4(group), false) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(local.interface))
        }
        (IpAddr::V6(group), true) => socket.join_multicast_v6(&group, local.interface),
        _ => Ok(()),
    }
}

/// A socket that sends from this address, no farther than the next router.
fn sender(local: &LocalAddress, policy: &Local) -> io::Result<Socket> {
    let any_port = match local.ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddr::V6(std::net::SocketAddrV6::new(v6, 0, 0, local.interface))
        }
        ip => SocketAddr::new(ip, 0),
    };
    let socket = Socket::new(Domain::for_address(any_port), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    policy.bind_at(&socket, any_port)?;
    match local.ip {
        IpAddr::V4(v4) => {
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(true)?;
            socket.set_multicast_if_v4(&v4)?;
        }
        IpAddr::V6(_) => {
            socket.set_multicast_hops_v6(1)?;
            socket.set_multicast_loop_v6(true)?;
            socket.set_multicast_if_v6(local.interface)?;
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_link_is_told_by_the_mask() {
        let local = |ip: &str, mask: &str| LocalAddress {
            ip: ip.parse().unwrap(),
            mask: mask.parse().unwrap(),
            interface: 1,
            loopback: false,
        };
        let has = |local: LocalAddress, ip: &str| local.has(ip.parse().unwrap());
        let lan = local("192.168.7.9", "255.255.255.0");
        assert!(has(lan, "192.168.7.200") && !has(lan, "192.168.8.9") && !has(lan, "fe80::1"));
        let link = local("fe80::9", "ffff:ffff:ffff:ffff::");
        assert!(has(link, "fe80::1:2") && !has(link, "2001:db8::1"));
        let linked = |local: LocalAddress, source: &str| local.is_linked_to(source.parse().unwrap());
        assert!(linked(link, "[fe80::1:2%1]:6771") && !linked(link, "[fe80::1:2%2]:6771"));
        assert!(linked(lan, "192.168.7.200:6771"));
    }

    #[test]
    fn what_is_sent_from_depends_on_what_is_bound_to() {
        let local = |ip: &str, interface| LocalAddress {
            ip: ip.parse().unwrap(),
            mask: Ipv4Addr::BROADCAST.into(),
            interface,
            loopback: interface == 1,
        };
        let all = [
            local("127.0.0.1", 1),
            local("::1", 1),
            local("192.0.2.1", 2),
            local("198.51.100.1", 2),
            local("2001:db8::1", 2),
            local("fe80::1", 2),
            local("192.0.2.9", 3),
        ];
        let sent_from = |bind: Option<&str>| -> Vec<String> {
            let found = to_send_from(&all, bind.and_then(Bind::parse).as_ref());
            found.iter().map(|local| local.ip.to_string()).collect()
        };
        assert_eq!(sent_from(None), ["192.0.2.1", "fe80::1", "192.0.2.9"]);
        assert_eq!(sent_from(Some("127.0.0.9")), ["127.0.0.1"]);
        assert_eq!(sent_from(Some("::1")), ["::1"]);
        // The number of loopback is 1 in every network namespace.
        assert_eq!(sent_from(Some("lo")), ["127.0.0.1", "::1"]);
        assert!(sent_from(Some("nosuch0")).is_empty());
        for bound in ["198.51.100.1", "2001:db8::1", "192.0.2.9"] {
            assert_eq!(sent_from(Some(bound)), [bound]);
        }
        assert!(sent_from(Some("203.0.113.1")).is_empty());
    }
}
