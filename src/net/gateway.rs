//! The sockets by which gateways are asked to map ports: one to each router, one for the search of UPnP on each network, and requests by HTTP on
//! blocking threads. What a gateway says is passed on and not understood.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use super::lan::{LocalAddress, address_or_interface, addresses};
use super::routes::routers;
use crate::address::is_inner;
use crate::bind::{Bind, Local};
use crate::http;
use crate::portmap::{
    DeviceAnswer, DeviceRequest, MAX_DEVICE_ANSWER, MAX_SSDP_ANSWER, Network, PortMapOutput, ROUTER_PORT,
    SSDP_GROUP,
};

/// Bytes of a packet from a router that are read: the longest of PCP, and one more, so that a longer one is seen to be.
const MAX_PACKET: usize = 1101;

/// How far searches go (UPnP Device Architecture 1.1).
const SEARCH_TTL: u32 = 2;

/// After this many packets of one socket each further one waits for [`PAUSE`].
const BURST: u32 = 64;

/// Between two packets of a socket that is flooded.
const PAUSE: Duration = Duration::from_millis(20);

/// An address far away that the system is asked for the way to; nothing is sent there (RFC 3849).
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// What gateways say.
#[derive(Debug)]
pub(crate) enum FromGateway {
    /// The router of a network has sent a packet.
    Packet(Network, Vec<u8>),
    /// The router of a network has nothing that listens.
    Unreachable(Network),
    /// Somebody on a network has answered the search.
    DeviceFound(Network, SocketAddrV4, Vec<u8>),
    /// A request to a device has ended.
    Answered(u64, Result<DeviceAnswer, String>),
}

/// Told of what gateways say, until it gives false.
type Tell = Arc<dyn Fn(FromGateway) -> bool + Send + Sync>;

/// A socket, and the task that reads from it.
#[derive(Debug)]
struct Open {
    network: Network,
    socket: Rc<UdpSocket>,
    reader: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The sockets.
pub(crate) struct Gateways {
    bind: Local,
    tell: Tell,
    /// The networks that were there at the last look.
    networks: Vec<(Network, LocalAddress)>,
    routers: Vec<Open>,
    searches: Vec<Open>,
}

impl fmt::Debug for Gateways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateways").field("networks", &self.networks).finish_non_exhaustive()
    }
}

impl Gateways {
    /// On the networks of what is bound to, or, if that is nothing, on all by which the world is reached. Opens nothing yet.
    pub(crate) fn new(bind: Local, tell: impl Fn(FromGateway) -> bool + Send + Sync + 'static) -> Gateways {
        let tell: Tell = Arc::new(tell);
        Gateways { bind, tell, networks: Vec::new(), routers: Vec::new(), searches: Vec::new() }
    }

    /// Looks which networks there are; what belongs to others is closed.
    pub(crate) fn look(&mut self) -> Vec<Network> {
        self.networks = networks(&addresses(), &self.bind);
        let networks: Vec<Network> = self.networks.iter().map(|(network, _)| *network).collect();
        self.routers.retain(|open| networks.contains(&open.network));
        self.searches.retain(|open| networks.contains(&open.network));
        networks
    }

    /// The address of this machine in a network of IPv4, and its mask.
    pub(crate) fn near(&self, network: Network) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let (_, local) = self.networks.iter().find(|(known, _)| *known == network)?;
        match (local.ip, local.mask) {
            (IpAddr::V4(ip), IpAddr::V4(mask)) => Some((ip, mask)),
            _ => None,
        }
    }

    /// Nothing is to be heard of gateways any more.
    pub(crate) fn close(&mut self) {
        self.routers.clear();
        self.searches.clear();
    }

    /// Sends what is to be sent. What cannot be sent is not: that is as if nobody answered.
    pub(crate) fn perform(&mut self, output: PortMapOutput) {
        match output {
            PortMapOutput::Send { network, data } => {
                let Some(socket) = self.router(network) else { return };
                // Past the runtime, which does not know before its first turn that a new socket has room.
                let sent = SockRef::from(&*socket).send(&data);
                if sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                    (self.tell)(FromGateway::Unreachable(network));
                }
            }
            PortMapOutput::Search { network, data } => {
                if let Some(socket) = self.search(network) {
                    let _ = SockRef::from(&*socket).send_to(&data, &SocketAddr::V4(SSDP_GROUP).into());
                }
            }
            PortMapOutput::EndSearch(network) => self.searches.retain(|open| open.network != network),
            PortMapOutput::Ask { exchange, request } => self.ask(exchange, request),
            PortMapOutput::Mapped(_) | PortMapOutput::Failed { .. } => {}
        }
    }

    /// Asks a device on a thread. As many at a time as there are devices that the machine keeps.
    fn ask(&self, exchange: u64, request: DeviceRequest) {
        let tell = self.tell.clone();
        let DeviceRequest { from, to, path, call } = request;
        let local = match self.bind.bind() {
            Some(Bind::Interface(_)) => self.bind.clone(),
            Some(Bind::Address(_)) | None => Local::from(IpAddr::from(from)),
        };
        let work = move || {
            let soap = call.as_ref().map(|call| (call.action.as_str(), call.body.as_str()));
            let answer = http::ask_device(local, to.into(), &path, soap, MAX_DEVICE_ANSWER);
            let answer = answer.map(|(status, body)| DeviceAnswer { status, body });
            // The session may be over.
            tell(FromGateway::Answered(exchange, answer));
        };
        // That of the runtime would panic where there is no thread to be had.
        if let Err(error) = thread::Builder::new().name("btget-gateway".to_owned()).spawn(work) {
            (self.tell)(FromGateway::Answered(exchange, Err(format!("cannot start a thread: {error}"))));
        }
    }

    /// The socket to the router of a network: nobody else is heard by it.
    fn router(&mut self, network: Network) -> Option<Rc<UdpSocket>> {
        if let Some(open) = self.routers.iter().find(|open| open.network == network) {
            return Some(open.socket.clone());
        }
        let to = match network.router? {
            IpAddr::V6(v6) => SocketAddrV6::new(v6, ROUTER_PORT, 0, network.interface).into(),
            ip => SocketAddr::new(ip, ROUTER_PORT),
        };
        let socket = open(network.local, &self.bind).and_then(|socket| {
            socket.connect(&to.into())?;
            UdpSocket::from_std(socket.into())
        });
        let (socket, tell) = (Rc::new(socket.ok()?), self.tell.clone());
        let reading = socket.clone();
        let reader = tokio::task::spawn_local(async move {
            let mut packet = vec![0; MAX_PACKET];
            let mut count = 0;
            loop {
                let goes_on = match reading.recv(&mut packet).await {
                    Ok(length) => tell(FromGateway::Packet(network, packet[..length].to_vec())),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        tell(FromGateway::Unreachable(network))
                    }
                    Err(_) => true,
                };
                if !goes_on {
                    return;
                }
                pause(&mut count).await;
            }
        });
        self.routers.push(Open { network, socket: socket.clone(), reader: reader.abort_handle() });
        Some(socket)
    }

    /// The socket of the search on a network.
    fn search(&mut self, network: Network) -> Option<Rc<UdpSocket>> {
        if let Some(open) = self.searches.iter().find(|open| open.network == network) {
            return Some(open.socket.clone());
        }
        let IpAddr::V4(local) = network.local else { return None };
        let (_, near) = *self.networks.iter().find(|(known, _)| *known == network)?;
        let socket = open(network.local, &self.bind).and_then(|socket| {
            socket.set_multicast_if_v4(&local)?;
            socket.set_multicast_ttl_v4(SEARCH_TTL)?;
            UdpSocket::from_std(socket.into())
        });
        let (socket, tell) = (Rc::new(socket.ok()?), self.tell.clone());
        let reading = socket.clone();
        let reader = tokio::task::spawn_local(async move {
            let mut packet = vec![0; MAX_SSDP_ANSWER];
            let mut count = 0;
            loop {
                if let Ok((length, SocketAddr::V4(from))) = reading.recv_from(&mut packet).await {
                    let ip = IpAddr::V4(*from.ip());
                    // Whoever is farther away than the router is not ours to ask.
                    let is_ours = near.has(ip) || network.router == Some(ip);
                    let data = || packet[..length].to_vec();
                    if is_ours && !tell(FromGateway::DeviceFound(network, from, data())) {
                        return;
                    }
                }
                pause(&mut count).await;
            }
        });
        self.searches.push(Open { network, socket: socket.clone(), reader: reader.abort_handle() });
        Some(socket)
    }
}

/// Waits before the next packet of a socket is read, if there have been too many: the loop has others to hear.
async fn pause(count: &mut u32) {
    *count = count.saturating_add(1);
    if *count > BURST {
        tokio::time::sleep(PAUSE).await;
    }
}

/// A socket at this address, and a port that the system picks.
fn open(ip: IpAddr, bind: &Local) -> io::Result<Socket> {
    let address = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    bind.bind_at(&socket, address)?;
    Ok(socket)
}

/// The networks on which gateways are asked: those by which the world is reached, or those of what is bound to. Of IPv6 it is one, for
/// it is the addresses of this machine that are let through, and the system tells from which of them it speaks.
fn networks(all: &[LocalAddress], local: &Local) -> Vec<(Network, LocalAddress)> {
    let mut found = Vec::new();
    let (bind, only) = address_or_interface(local.bind());
    let is_bound = |local: &LocalAddress| only.is_none_or(|only| local.interface == only);
    let usable: Vec<LocalAddress> =
        all.iter().filter(|local| !local.loopback && is_bound(local)).copied().collect();
    let with_router = |local: LocalAddress, router: Option<IpAddr>| {
        (Network { local: local.ip, router, interface: local.interface }, local)
    };
    if bind.is_none_or(|ip| ip.is_ipv4()) {
        let routers = routers(true);
        let router_of = |local: &LocalAddress| {
            routers.iter().find(|(interface, _)| *interface == local.interface).map(|(_, router)| *router)
        };
        match bind {
            Some(ip) => {
                let local = usable.iter().find(|local| local.ip == ip);
                found.extend(local.map(|local| with_router(*local, router_of(local))));
            }
            None => {
                for (interface, router) in &routers {
                    let here =
                        || usable.iter().filter(|local| local.interface == *interface && local.ip.is_ipv4());
                    let local = here().find(|local| local.has(*router)).or_else(|| here().next());
                    found.extend(local.map(|local| with_router(*local, Some(*router))));
                }
            }
        }
    }
    if bind.is_none_or(|ip| ip.is_ipv6())
        && let Some(ip) = bind.or_else(|| own_ipv6(local))
        && let Some(local) = usable.iter().find(|local| local.ip == ip && !is_inner(ip))
    {
        let router = routers(false).into_iter().find(|(interface, _)| *interface == local.interface);
        found.extend(router.map(|(_, router)| with_router(*local, Some(router))));
    }
    found
}

/// The address from which this machine speaks to the world by IPv6.
fn own_ipv6(bind: &Local) -> Option<IpAddr> {
    let socket = open(Ipv6Addr::UNSPECIFIED.into(), bind).ok()?;
    socket.connect(&SocketAddr::new(FAR.into(), ROUTER_PORT).into()).ok()?;
    Some(socket.local_addr().ok()?.as_socket()?.ip())
}
