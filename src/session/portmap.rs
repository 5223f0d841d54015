//! Port mapping: as long as a torrent takes callers, the gateways of this machine's networks are asked to let them in.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::Notice;
use super::options::SessionOptions;
use crate::address::ListenPorts;
use crate::bind::{Bind, Local};
use crate::event::Kind;
use crate::ids::TorrentId;
use crate::net::gateway::{FromGateway, Gateways};
use crate::net::listen::Listeners;
use crate::portmap::{MappedPorts, Mapping, PortMapInput, PortMapOutput, PortMapper, Protocol};
use crate::utp::{Transport, TransportPolicy};

/// Between two looks at which networks there are.
const LOOK: Duration = Duration::from_secs(60);

/// What gateways have done.
#[derive(Debug)]
pub(super) enum MappingNews {
    /// Something to be told, about no torrent.
    Event(Box<Kind>),
    /// A gateway says which address we have outside; `None`: it is the router, which has to know.
    ExternalAddress(IpAddr, Option<SocketAddr>),
    /// We can be called by these ports from now on.
    Ports(ListenPorts),
}

/// The mappings, and the sockets to gateways.
#[derive(Debug)]
pub(super) struct PortMapping {
    mapper: PortMapper,
    gateways: Gateways,
    /// Whether callers come by TCP; if not, by uTP.
    takes_tcp: bool,
    /// What has been told of the ports.
    ports: ListenPorts,
    /// Torrents that take callers.
    torrents: HashSet<TorrentId>,
    /// When it is looked which networks there are; `None` while no torrent takes callers.
    next_look: Option<Instant>,
    /// What a gateway says of the address outside, after the event.
    address: Option<(IpAddr, Option<SocketAddr>)>,
    /// Something has happened since nothing was to be done.
    has_input: bool,
    /// When something is to be done though nothing happens; found when something changes, not in each turn of the loop.
    due: Option<Instant>,
}

impl PortMapping {
    /// `None` where gateways are not to be asked: the user does not wish it, or nobody can call us by way of one.
    pub(super) fn of(
        options: &SessionOptions,
        listeners: &Listeners,
        seed: u64,
        notify: UnboundedSender<Notice>,
    ) -> Option<PortMapping> {
        let is_local = options.bind.as_ref().is_some_and(Bind::is_loopback);
        // Through a proxy nobody can call.
        if !options.port_mapping || is_local || options.proxy.is_some() {
            return None;
        }
        let tell = move |news| notify.send(Notice::Gateway(news)).is_ok();
        Some(PortMapping {
            mapper: PortMapper::new(
                listeners.port,
                protocols(options.transport, listeners.udp.is_some()),
                seed,
            ),
            takes_tcp: options.transport.takes(Transport::Tcp),
            gateways: Gateways::new(Local::from(options.bind.clone()), tell),
            ports: ListenPorts::unmapped(listeners.port),
            torrents: HashSet::new(),
            next_look: None,
            address: None,
            has_input: false,
            due: None,
        })
    }

    /// Whether a torrent takes callers may have changed.
    pub(super) fn update(&mut self, now: Instant, torrent: TorrentId, takes_callers: bool) {
        let changes = match takes_callers {
            true => self.torrents.insert(torrent),
            false => self.torrents.remove(&torrent),
        };
        if !changes || self.torrents.len() != usize::from(takes_callers) {
            return;
        }
        // The first one, or the last.
        self.has_input = true;
        self.next_look = takes_callers.then_some(now);
        self.mapper.handle(now, PortMapInput::Want(takes_callers));
    }

    /// A gateway has said something.
    pub(super) fn on_news(&mut self, now: Instant, news: FromGateway) {
        self.has_input = true;
        match news {
            FromGateway::Packet(network, data) => {
                self.mapper.handle(now, PortMapInput::Packet { network, data: &data });
            }
            FromGateway::Unreachable(network) => {
                self.mapper.handle(now, PortMapInput::Unreachable(network));
            }
            FromGateway::DeviceFound(network, from, data) => {
                self.mapper.handle(now, PortMapInput::DeviceFound { network, from, data: &data });
            }
            FromGateway::Answered(exchange, answer) => {
                self.mapper.handle(now, PortMapInput::Answered { exchange, answer });
            }
        }
    }

    /// The next thing that is done; sends what is to be sent before.
    pub(super) fn poll(&mut self, now: Instant) -> Option<MappingNews> {
        if !self.has_input && self.due.is_none_or(|due| due > now) {
            return None;
        }
        let news = self.advance(now);
        self.has_input = news.is_some();
        self.due = self.mapper.deadline().into_iter().chain(self.next_look).min();
        news
    }

    fn advance(&mut self, now: Instant) -> Option<MappingNews> {
        if self.next_look.is_some_and(|due| due <= now) {
            self.next_look = Some(now + LOOK);
            let networks = self.gateways.look();
            self.mapper.handle(now, PortMapInput::Networks(&networks));
        }
        if let Some((ip, from)) = self.address.take() {
            return Some(MappingNews::ExternalAddress(ip, from));
        }
        while let Some(output) = self.mapper.poll(now) {
            match output {
                PortMapOutput::Mapped(mapping) => {
                    let teller = (!mapping.is_router).then(|| SocketAddr::new(mapping.gateway, 0));
                    self.address = mapping.external_ip.map(|ip| (ip, teller));
                    return Some(MappingNews::Event(Box::new(mapped(&mapping))));
                }
                PortMapOutput::Failed { protocol, method, gateway, reason } => {
                    let is_ipv4 = gateway.is_none_or(|ip| ip.is_ipv4());
                    let protocol = protocol.map(|protocol| name(protocol, is_ipv4));
                    let method = method.name();
                    return Some(MappingNews::Event(Box::new(Kind::PortMapFailure {
                        protocol,
                        method,
                        gateway,
                        reason,
                    })));
                }
                other => self.gateways.perform(other),
            }
        }
        if self.mapper.has_ended() {
            self.gateways.close();
        }
        self.changed_ports()
    }

    /// By which ports we can be called, if that has changed.
    fn changed_ports(&mut self) -> Option<MappingNews> {
        let MappedPorts { tcp, udp, network } = self.mapper.mapped_ports();
        // Where nobody is listened to by TCP, peers call at the port for packets.
        let tcp = if self.takes_tcp { tcp } else { udp };
        let near = network.and_then(|network| self.gateways.near(network));
        let ports = ListenPorts { tcp, udp, near, ..self.ports };
        let before = std::mem::replace(&mut self.ports, ports);
        (before != ports).then_some(MappingNews::Ports(ports))
    }

    /// When [`PortMapping::poll`] has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether nothing is mapped, as far as it can be known, nor wished for.
    pub(super) fn has_ended(&self) -> bool {
        self.mapper.has_ended()
    }
}

/// By which protocols others are to come in, callers by the first of them.
fn protocols(transport: TransportPolicy, has_udp: bool) -> &'static [Protocol] {
    match (transport.takes(Transport::Tcp), has_udp) {
        (true, true) => &[Protocol::Tcp, Protocol::Udp],
        (true, false) => &[Protocol::Tcp],
        (false, _) => &[Protocol::Udp],
    }
}

fn mapped(mapping: &Mapping) -> Kind {
    Kind::PortMapSuccess {
        protocol: name(mapping.protocol, mapping.gateway.is_ipv4()),
        method: mapping.method.name(),
        address: mapping.external_ip,
        port: mapping.external_port,
        gateway: mapping.gateway,
        lifetime: mapping.lifetime.map(|lifetime| lifetime.as_secs()),
    }
}

/// As events name what is listened for.
fn name(protocol: Protocol, is_ipv4: bool) -> &'static str {
    match (protocol, is_ipv4) {
        (Protocol::Tcp, true) => "tcp4",
        (Protocol::Tcp, false) => "tcp6",
        (Protocol::Udp, true) => "udp4",
        (Protocol::Udp, false) => "udp6",
    }
}
