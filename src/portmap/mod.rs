//! Port mapping: gateways are asked to let in those who call, by UPnP (Internet Gateway Device 1 and 2), NAT-PMP (RFC 6886) and PCP (RFC 6887).
//!
//! Pure: packets and answers come in by [`PortMapper::handle`], what is to be sent goes out by [`PortMapper::poll`]; it opens no socket and reads no
//! clock. Owns what is mapped where. Gateways are strangers: of those that answer a search only the host that has answered is contacted, whatever
//! it says, nothing that it sends costs more than a bounded time and memory, and what goes wrong with one is told once and holds up nobody.

// Of the crates, igd-next brings a hundred others, takes one gateway, and cannot be held to a size of answers; crab_nat cannot be held to a local
// address.

mod api;
mod device;
mod lease;
mod natpmp;
mod pcp;
mod router;
mod search;
mod soap;
mod ssdp;
mod tries;
mod xml;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub use api::{
    DeviceAnswer, DeviceRequest, Mapping, Method, Network, PortMapInput, PortMapOutput, Protocol, SoapCall,
};
pub use natpmp::{NatPmpAbout, NatPmpAnswer};
pub use pcp::{PcpAnswer, PcpAsk, PcpMapping};
pub use soap::{Action, MAX_DEVICE_ANSWER, Service, SoapAnswer, read_description, read_soap_answer};
pub use ssdp::{MAX_SSDP_ANSWER, SSDP_GROUP, read_ssdp_answer};

use device::Device;
use router::{Hold, Router};
use search::Search;

/// Where routers take requests of PCP and NAT-PMP, by UDP (RFC 6886, 6887).
pub const ROUTER_PORT: u16 = 5351;

/// Networks on which gateways are asked.
pub const MAX_NETWORKS: usize = 8;

/// Gateways of UPnP that are asked, all networks together. The router of a network has a place even if all are taken.
const MAX_DEVICES: usize = 8;

/// Gateways of UPnP at one address.
const MAX_DEVICES_OF_HOST: usize = 2;

/// Failures that are remembered, so that none is told twice in a row.
const MAX_TOLD: usize = 32;

/// For how long the removal of mappings may take.
const FAREWELL: Duration = Duration::from_secs(4);

/// The ports by which this client can be called outside.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MappedPorts {
    /// By TCP.
    pub tcp: Option<u16>,
    /// By UDP.
    pub udp: Option<u16>,
    /// The network of the gateway that maps them.
    pub network: Option<Network>,
}

/// The mappings of one port of this machine, at all gateways.
#[derive(Debug)]
pub struct PortMapper {
    port: u16,
    protocols: &'static [Protocol],
    rng: fastrand::Rng,
    wanted: bool,
    /// When what has not been removed by then stays.
    farewell_ends: Option<Instant>,
    /// At most [`MAX_NETWORKS`].
    networks: Vec<Network>,
    /// One of each network that has one.
    routers: Vec<Router>,
    /// One of each network of IPv4.
    searches: Vec<Search>,
    /// At most [`MAX_DEVICES`], but for those of routers.
    devices: Vec<Device>,
    next_exchange: u64,
    outputs: VecDeque<PortMapOutput>,
    /// Failures that have been told, the latest in front; at most [`MAX_TOLD`].
    told: VecDeque<PortMapOutput>,
}

impl PortMapper {
    /// For what comes by these protocols to this port of this machine; callers come by the first of them. `seed` decides all random choices;
    /// whoever knows it can forge answers.
    pub fn new(port: u16, protocols: &'static [Protocol], seed: u64) -> PortMapper {
        PortMapper {
            port,
            protocols,
            rng: fastrand::Rng::with_seed(seed),
            wanted: false,
            farewell_ends: None,
            networks: Vec::new(),
            routers: Vec::new(),
            searches: Vec::new(),
            devices: Vec::new(),
            next_exchange: 0,
            outputs: VecDeque::new(),
            told: VecDeque::new(),
        }
    }

    /// Something has happened.
    pub fn handle(&mut self, now: Instant, input: PortMapInput<'_>) {
        match input {
            PortMapInput::Want(wanted) if wanted == self.wanted => {}
            PortMapInput::Want(true) => self.begin(now),
            PortMapInput::Want(false) => self.end(now),
            PortMapInput::Networks(networks) => self.set_networks(now, networks),
            PortMapInput::Packet { network, data } => {
                let router = self.routers.iter_mut().find(|router| router.network == network);
                if let Some(router) = router {
                    router.on_packet(now, data, &mut self.outputs);
                }
            }
            PortMapInput::Unreachable(network) => {
                let router = self.routers.iter_mut().find(|router| router.network == network);
                if let Some(router) = router {
                    router.on_unreachable(now, &mut self.outputs);
                }
            }
            PortMapInput::DeviceFound { network, from, data } => {
                if let Some(place) = read_ssdp_answer(data) {
                    self.on_device(now, network, *from.ip(), place);
                }
            }
            PortMapInput::Answered { exchange, answer } => {
                for device in &mut self.devices {
                    if device.on_answered(now, exchange, &answer, &mut self.rng, &mut self.outputs) {
                        break;
                    }
                }
            }
        }
    }

    /// The next thing to do; `None`: nothing before [`PortMapper::deadline`] or the next input.
    pub fn poll(&mut self, now: Instant) -> Option<PortMapOutput> {
        if self.farewell_ends.is_some_and(|end| end <= now) {
            self.routers.clear();
            self.devices.clear();
            self.farewell_ends = None;
        }
        loop {
            if self.outputs.is_empty() {
                self.advance(now);
            }
            let output = self.outputs.pop_front()?;
            if self.is_news(&output) {
                return Some(output);
            }
        }
    }

    /// Has all that is due done.
    fn advance(&mut self, now: Instant) {
        for router in &mut self.routers {
            router.poll(now, &mut self.outputs);
        }
        for search in &mut self.searches {
            let was_on = search.is_on();
            search.poll(now, &mut self.outputs);
            let network = search.network;
            if search.is_on() && !was_on {
                self.devices.retain(|device| device.network != network || !device.is_useless());
            }
            if !self.devices.iter().any(|device| device.network == network && !device.is_useless()) {
                search.search_again(now);
            }
        }
        for index in 0..self.devices.len() {
            let is_held = match self.hold(&self.devices[index]) {
                Some(Hold::Mapped) => true,
                Some(Hold::Until(end)) => now < end,
                None => false,
            };
            if !is_held {
                self.devices[index].poll(&mut self.next_exchange, now, &mut self.outputs);
            }
        }
        if !self.wanted {
            self.routers.retain(|router| !router.has_ended());
            self.devices.retain(|device| !device.has_ended());
            if self.routers.is_empty() && self.devices.is_empty() {
                self.farewell_ends = None;
            }
        }
    }

    /// What keeps a gateway of UPnP from being asked: its host takes other requests, or may do so yet.
    fn hold(&self, device: &Device) -> Option<Hold> {
        let is_its = |router: &&Router| router.network == device.network && router.ip == device.host;
        self.routers.iter().find(is_its).filter(|_| device.is_unasked())?.hold()
    }

    /// Whether it has to be done, or is worth telling: a failure is, once, until a mapping succeeds.
    fn is_news(&mut self, output: &PortMapOutput) -> bool {
        match output {
            PortMapOutput::Failed { .. } => {
                let is_news = !self.told.contains(output);
                if is_news {
                    self.told.truncate(MAX_TOLD - 1);
                    self.told.push_front(output.clone());
                }
                is_news
            }
            PortMapOutput::Mapped(mapping) => {
                self.told.retain(|told| match told {
                    PortMapOutput::Failed { protocol, method, gateway, .. } => {
                        let is_other = protocol.is_some_and(|protocol| protocol != mapping.protocol);
                        *method != mapping.method
                            || gateway.is_some_and(|ip| ip != mapping.gateway)
                            || is_other
                    }
                    _ => false,
                });
                true
            }
            _ => true,
        }
    }

    /// When to call [`PortMapper::poll`] though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let routers = self.routers.iter().filter_map(Router::deadline);
        let searches = self.searches.iter().filter_map(Search::deadline);
        let devices = self.devices.iter().filter_map(|device| match self.hold(device) {
            Some(Hold::Until(end)) => Some(end),
            _ => device.deadline(),
        });
        routers.chain(searches).chain(devices).chain(self.farewell_ends).min()
    }

    /// Whether nothing is mapped, as far as it can be known, nor wished for.
    pub fn has_ended(&self) -> bool {
        !self.wanted && self.farewell_ends.is_none()
    }

    /// By which ports this client can be called outside, by IPv4: those of the first gateway that lets in callers.
    pub fn mapped_ports(&self) -> MappedPorts {
        if !self.wanted {
            return MappedPorts::default();
        }
        let routers = self.routers.iter().filter(|router| router.ip.is_ipv4());
        let routers = routers.map(|router| (router.network, router.mapped().collect::<Vec<_>>()));
        let devices = self.devices.iter().map(|device| (device.network, device.mapped().collect()));
        for (network, mapped) in routers.chain(devices) {
            let mut ports = MappedPorts { network: Some(network), ..MappedPorts::default() };
            for (protocol, port) in mapped {
                match protocol {
                    Protocol::Tcp => ports.tcp = Some(port),
                    Protocol::Udp => ports.udp = Some(port),
                }
            }
            let callers = match self.protocols.first() {
                Some(Protocol::Udp) => ports.udp,
                Some(Protocol::Tcp) | None => ports.tcp,
            };
            if callers.is_some() {
                return ports;
            }
        }
        MappedPorts::default()
    }

    fn begin(&mut self, now: Instant) {
        (self.wanted, self.farewell_ends) = (true, None);
        // What they have mapped is mapped anew.
        self.devices.clear();
        self.routers.iter_mut().for_each(|router| router.want(now, true));
        self.networks.clone().into_iter().for_each(|network| self.ask_at(now, network));
    }

    fn end(&mut self, now: Instant) {
        (self.wanted, self.farewell_ends) = (false, Some(now + FAREWELL));
        let on = self.searches.drain(..).filter(Search::is_on);
        self.outputs.extend(on.map(|search| PortMapOutput::EndSearch(search.network)));
        self.routers.iter_mut().for_each(|router| router.want(now, false));
        self.devices.iter_mut().for_each(Device::end);
    }

    fn set_networks(&mut self, now: Instant, networks: &[Network]) {
        let networks = &networks[..networks.len().min(MAX_NETWORKS)];
        if self.networks == networks {
            return;
        }
        self.networks = networks.to_vec();
        self.routers.retain(|router| networks.contains(&router.network));
        self.devices.retain(|device| networks.contains(&device.network));
        let gone = self.searches.extract_if(.., |search| !networks.contains(&search.network));
        let gone = gone.filter(Search::is_on).map(|search| PortMapOutput::EndSearch(search.network));
        self.outputs.extend(gone);
        if self.wanted {
            networks.iter().for_each(|&network| self.ask_at(now, network));
        }
    }

    /// Begins with what has not been begun on a network.
    fn ask_at(&mut self, now: Instant, network: Network) {
        if !self.routers.iter().any(|router| router.network == network) {
            self.routers.extend(Router::new(now, network, self.port, self.protocols, &mut self.rng));
        }
        if !self.searches.iter().any(|search| search.network == network) {
            self.searches.extend(Search::new(now, network));
        }
    }

    /// A host has answered a search: it describes itself at this port and path.
    fn on_device(&mut self, now: Instant, network: Network, host: Ipv4Addr, place: (u16, String)) {
        let search = self.searches.iter_mut().find(|search| search.network == network && search.is_on());
        let Some(search) = search else { return };
        let has_same =
            |device: &Device| device.network == network && device.host == host && device.place == place;
        if self.devices.iter().any(has_same) {
            return;
        }
        let of_host = self.devices.iter().filter(|device| device.host == host).count();
        let is_full = self.devices.len() >= MAX_DEVICES && network.router != Some(host.into());
        let is_no_host = host.is_unspecified() || host.is_multicast() || host.is_broadcast();
        if is_full || of_host >= MAX_DEVICES_OF_HOST || is_no_host {
            return;
        }
        search.on_found();
        self.devices.extend(Device::new(now, network, host, place, self.port, self.protocols));
    }
}
