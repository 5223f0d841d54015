//! The distributed hash table (BEP 5): a machine for each family of addresses, at the session's UDP port, and what torrents want of them.
//!
//! A machine begins with the first torrent that may use it, and ends with the last: a session with nothing but private torrents (BEP 27)
//! sends no packet, nor does one whose torrents are stopped.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::names::addresses_of;
use super::{Notice, Torrent};
use crate::address::ListenPorts;
use crate::dht::{Dht, DhtAnnounce, DhtConfig, DhtInput, DhtNeed, DhtOutput, Family, SavedTable};
use crate::event::Kind;
use crate::filter::IpFilter;
use crate::ids::WireHash;
use crate::metainfo::PeerAddress;
use crate::net::udp::{Packet, UdpPort};
use crate::proxy::Target;
use crate::storage::nodes::{self, NodesFile};

/// Addresses of one name that are asked.
const MAX_OF_NAME: usize = 4;

/// Nodes of a .torrent (BEP 5 `nodes`) that are asked.
const MAX_NAMED: usize = 16;

/// Between two saves of the table while the session goes on.
const SAVE_INTERVAL: Duration = Duration::from_secs(30 * 60);

/// How a session takes part in the distributed hash table (BEP 5).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DhtOptions {
    /// Nodes to begin with where no others are known.
    pub bootstrap: Vec<PeerAddress>,
    /// Where the nodes that are known are kept for the next session; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Ask, but answer nobody and announce nothing (BEP 43).
    pub read_only: bool,
}

/// What the table has found or done.
#[derive(Debug)]
pub(super) enum DhtNews {
    /// Peers of a torrent.
    Peers(WireHash, Vec<SocketAddr>),
    /// Something to be told, about a torrent or the session.
    Event(Option<WireHash>, Box<Kind>),
}

/// The machines, and the socket that they share with nothing else yet.
#[derive(Debug)]
pub(super) struct DhtNetwork {
    options: DhtOptions,
    udp: UdpPort,
    /// Packets go out.
    is_open: bool,
    ports: ListenPorts,
    /// The transaction id of pings to nodes whose names the proxy looks up.
    mark: [u8; 8],
    /// Of which each machine gets a seed of its own, so that no two lives share a secret.
    rng: fastrand::Rng,
    notify: UnboundedSender<Notice>,
    /// Empty while no torrent may use them.
    machines: Vec<Machine>,
    /// What machines knew that have ended, until they begin again.
    ended: Vec<Known>,
    /// What is wanted for which torrent.
    followed: HashMap<WireHash, DhtNeed>,
    /// Addresses that are no nodes to us.
    filter: Option<IpFilter>,
    next_save: Option<Instant>,
}

#[derive(Debug)]
struct Machine {
    dht: Dht,
    /// Where packets come in.
    address: SocketAddr,
    file: Option<Arc<NodesFile>>,
}

/// What is wanted of a machine for a torrent, with how we can be called: gateways map ports of IPv4.
fn with_ports(need: DhtNeed, machine: SocketAddr, ports: ListenPorts) -> DhtNeed {
    let (tcp, udp) = if machine.is_ipv4() { (ports.tcp, ports.udp) } else { (None, None) };
    let announce = need.announce.map(|announce| DhtAnnounce {
        // Our packets come from the port outside that is mapped to theirs.
        implied_port: tcp.is_some() && tcp == udp,
        port: tcp.filter(|&port| port != ports.local),
        ..announce
    });
    DhtNeed { announce, ..need }
}

/// What a machine begins with.
#[derive(Debug)]
struct Known {
    family: Family,
    table: SavedTable,
    /// Where it is kept; `None`: nowhere.
    file: Option<Arc<NodesFile>>,
}

fn family(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

impl DhtNetwork {
    /// At these sockets, which have the local one of these ports. What `filter` refuses is neither asked nor answered. `seed` decides all random choices.
    pub(super) fn new(
        options: DhtOptions,
        udp: UdpPort,
        ports: ListenPorts,
        filter: Option<IpFilter>,
        seed: u64,
        notify: UnboundedSender<Notice>,
    ) -> DhtNetwork {
        let (machines, ended, followed) = (Vec::new(), Vec::new(), HashMap::new());
        let mut rng = fastrand::Rng::with_seed(seed);
        let mark = rng.u64(..).to_be_bytes();
        DhtNetwork {
            options,
            mark,
            udp,
            is_open: true,
            ports,
            rng,
            notify,
            machines,
            ended,
            followed,
            filter,
            next_save: None,
        }
    }

    /// These addresses are neither asked nor answered, from now on.
    pub(super) fn set_filter(&mut self, now: Instant, filter: Option<&IpFilter>) {
        self.filter = filter.cloned();
        for machine in &mut self.machines {
            machine.dht.handle(now, DhtInput::Filter(self.filter.clone()));
        }
    }

    /// Whether other nodes get answers, so that peers may be told of this one.
    pub(super) fn answers(&self) -> bool {
        !self.options.read_only
    }

    /// Packets do not go out any more: what is bound to is gone, or the proxy carries none. Nobody is asked, and what is known is kept: taken as
    /// silence, it would be forgotten node by node.
    pub(super) fn close(&mut self) {
        self.is_open = false;
        self.followed.clear();
        self.end();
    }

    /// Packets go out from now on. [`DhtNetwork::update`] is to be called for each torrent.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// What is wanted for a torrent may have changed.
    pub(super) fn update(&mut self, now: Instant, torrent: &Torrent) {
        torrent.swarms().wire_hashes().for_each(|name| self.update_name(now, torrent, name));
    }

    fn update_name(&mut self, now: Instant, torrent: &Torrent, name: WireHash) {
        let Some(need) = torrent.dht_need().filter(|_| self.is_open) else { return self.forget(now, name) };
        if self.followed.get(&name) == Some(&need) {
            return;
        }
        self.start(now);
        if self.followed.insert(name, need).is_none() {
            self.ask_named_nodes(torrent);
        }
        for machine in &mut self.machines {
            let need = with_ports(need, machine.address, self.ports);
            machine.dht.handle(now, DhtInput::Follow { hash: name, need });
        }
    }

    /// We can be called by these ports from now on.
    pub(super) fn set_ports(&mut self, now: Instant, ports: ListenPorts) {
        self.ports = ports;
        for machine in &mut self.machines {
            for (&hash, &need) in &self.followed {
                let need = with_ports(need, machine.address, ports);
                machine.dht.handle(now, DhtInput::Follow { hash, need });
            }
        }
    }

    /// A torrent is gone, or may not be looked up any more.
    pub(super) fn forget(&mut self, now: Instant, name: WireHash) {
        if self.followed.remove(&name).is_none() {
            return;
        }
        for machine in &mut self.machines {
            machine.dht.handle(now, DhtInput::Unfollow(name));
        }
        if self.followed.is_empty() {
            self.end();
        }
    }

    /// Nobody needs it: no node is asked or answered any more.
    fn end(&mut self) {
        self.ended.extend(self.machines.drain(..).map(|Machine { dht, address, file }| Known {
            family: family(address),
            table: dht.save(),
            file,
        }));
        self.next_save = None;
    }

    /// A packet has come.
    pub(super) fn on_packet(&mut self, now: Instant, packet: &Packet) {
        if self.answers_ping(packet) {
            return self.on_nodes(now, &[packet.from]);
        }
        if let Some(machine) = self.machine(packet.from) {
            machine.dht.handle(now, DhtInput::Packet { from: packet.from, data: &packet.data });
        }
    }

    /// Somebody says that there are nodes at these addresses.
    pub(super) fn on_nodes(&mut self, now: Instant, addresses: &[SocketAddr]) {
        for &address in addresses {
            if let Some(machine) = self.machine(address) {
                machine.dht.handle(now, DhtInput::Node(address));
            }
        }
    }

    /// The next thing that is found or done; sends what is to be sent before.
    pub(super) fn poll(&mut self, now: Instant) -> Option<DhtNews> {
        self.save_if_due(now);
        for index in 0..self.machines.len() {
            while let Some(output) = self.machines[index].dht.poll(now) {
                if let Some(news) = self.on_output(now, index, output) {
                    return Some(news);
                }
            }
        }
        None
    }

    fn on_output(&mut self, now: Instant, index: usize, output: DhtOutput) -> Option<DhtNews> {
        if matches!(output, DhtOutput::Started { .. } | DhtOutput::LookedUp { .. }) {
            self.introduce(now, index);
        }
        let tell = |about, kind| Some(DhtNews::Event(about, Box::new(kind)));
        match output {
            DhtOutput::Send { to, data } => {
                self.udp.send(to, &data);
                None
            }
            DhtOutput::Peers { hash, peers, .. } => Some(DhtNews::Peers(hash, peers)),
            DhtOutput::LookedUp { hash, peers, nodes_asked, took } => {
                let seconds = took.as_secs_f64();
                tell(Some(hash), Kind::DhtPeers { peers, nodes: nodes_asked, seconds })
            }
            DhtOutput::Announced { hash, nodes } => tell(Some(hash), Kind::DhtAnnounce { nodes }),
            DhtOutput::Started { nodes } => {
                let address = self.machines[index].address;
                tell(None, Kind::DhtStarted { address, nodes })
            }
            DhtOutput::Bootstrap => {
                self.look_up(self.options.bootstrap.clone());
                None
            }
            DhtOutput::OtherFamily(nodes) => {
                self.on_nodes(now, &nodes);
                None
            }
        }
    }

    /// The machine of the other family learns which nodes this one knows.
    fn introduce(&mut self, now: Instant, index: usize) {
        let nodes = self.machines[index].dht.good_nodes();
        let others = self.machines.iter_mut().enumerate().filter(|(other, _)| *other != index);
        others.for_each(|(_, other)| other.dht.handle(now, DhtInput::OtherFamilyNodes(&nodes)));
    }

    /// A peer says which address we have outside, or without `from` somebody who has to know it: the router.
    pub(super) fn on_external_address(&mut self, now: Instant, ip: IpAddr, from: Option<SocketAddr>) {
        if let Some(machine) = self.machine(SocketAddr::new(ip, 0)) {
            machine.dht.handle(now, DhtInput::ExternalAddress { ip, from });
        }
    }

    /// How many nodes are known, of both families; `None` if the torrent is not looked up. Costs a look at all of them.
    pub(super) fn nodes_for(&self, torrent: &Torrent) -> Option<usize> {
        let is_followed = self.followed.contains_key(&torrent.swarms().wire());
        is_followed.then(|| self.machines.iter().map(|machine| machine.dht.num_nodes()).sum())
    }

    /// When [`DhtNetwork::poll`] has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let machines = self.machines.iter().filter_map(|machine| machine.dht.deadline());
        machines.chain(self.next_save).min()
    }

    /// Keeps the nodes for the next session; blocks until they are written, a few KiB that are not synced.
    pub(super) fn save(&self) {
        let running = self.machines.iter().map(|Machine { dht, file, .. }| (file, dht.save()));
        let ended = self.ended.iter().map(|Known { table, file, .. }| (file, table.clone()));
        running.chain(ended).for_each(|(file, table)| save(file.as_deref(), &table));
    }

    fn save_if_due(&mut self, now: Instant) {
        if self.next_save.is_some_and(|due| due <= now) {
            self.next_save = Some(now + SAVE_INTERVAL);
            for Machine { dht, file, .. } in &self.machines {
                let (file, table) = (file.clone(), dht.save());
                tokio::task::spawn_blocking(move || save(file.as_deref(), &table));
            }
        }
    }

    fn machine(&mut self, address: SocketAddr) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|machine| machine.address.is_ipv4() == address.is_ipv4())
    }

    fn start(&mut self, now: Instant) {
        if !self.machines.is_empty() {
            return;
        }
        for address in self.udp.addresses() {
            let Known { family, table, file } = self.load(family(address));
            let config = DhtConfig {
                family,
                read_only: self.options.read_only,
                port: self.ports.local,
                bootstrap_wanted: !self.options.bootstrap.is_empty(),
                seed: self.rng.u64(..),
            };
            let mut dht = Dht::new(now, config, table);
            dht.handle(now, DhtInput::Filter(self.filter.clone()));
            self.machines.push(Machine { dht, address, file });
        }
        self.next_save = Some(now + SAVE_INTERVAL);
    }

    /// What the machine knew that has ended, or an earlier session has kept. One that runs beside another begins with the same nodes, but is
    /// one of its own, and keeps nothing.
    fn load(&mut self, family: Family) -> Known {
        if let Some(at) = self.ended.iter().position(|known| known.family == family) {
            return self.ended.swap_remove(at);
        }
        let Some(state_dir) = &self.options.state_dir else {
            return Known { family, table: SavedTable::default(), file: None };
        };
        let name = match family {
            Family::V4 => "dht4",
            Family::V6 => "dht6",
        };
        let table = SavedTable::decode(&nodes::read(state_dir, name), family);
        let file =
            if self.options.read_only { None } else { NodesFile::claim(state_dir, name).map(Arc::new) };
        match file {
            Some(_) => Known { family, table, file },
            None => Known { family, table: table.without_id(), file },
        }
    }

    fn ask_named_nodes(&self, torrent: &Torrent) {
        let named = torrent.dht_nodes().iter().take(MAX_NAMED);
        let named: Vec<PeerAddress> =
            named.filter_map(|(host, port)| PeerAddress::from_parts(host, *port)).collect();
        self.look_up(named);
    }

    /// Finds out the addresses of nodes by their names.
    fn look_up(&self, named: Vec<PeerAddress>) {
        if !self.udp.is_relayed() {
            return look_up(named, &self.notify);
        }
        for node in named {
            match node {
                PeerAddress::Ip(address) => drop(self.notify.send(Notice::Nodes(vec![address]))),
                // The proxy looks it up: the answer to a ping says where it is.
                PeerAddress::Name(host, port) => {
                    if let Some(target) = Target::new(&host, port) {
                        self.udp.send_through(&target, &self.ping());
                    }
                }
            }
        }
    }

    /// A ping (BEP 5) in the name of nobody, who answers none (BEP 43), whose answer is known by its transaction id.
    fn ping(&self) -> Vec<u8> {
        let id = self.mark.repeat(3);
        [b"d1:ad2:id20:", &id[..20], b"e1:q4:ping2:roi1e1:t8:", &self.mark, b"1:y1:qe"].concat()
    }

    /// Whether a packet answers a ping of ours to a node that we know by its name.
    fn answers_ping(&self, packet: &Packet) -> bool {
        if !self.udp.is_relayed() {
            return false;
        }
        let field = [b"1:t8:", &self.mark[..]].concat();
        packet.data.windows(field.len()).any(|window| window == field)
    }
}

/// It is a help to the next session, and no need.
fn save(file: Option<&NodesFile>, table: &SavedTable) {
    if let Some(file) = file.filter(|_| !table.is_empty()) {
        let _ = file.replace(&table.encode());
    }
}

/// Looks the names up beside the loop, all at once, and tells it what they mean.
fn look_up(named: Vec<PeerAddress>, notify: &UnboundedSender<Notice>) {
    for node in named {
        let notify = notify.clone();
        tokio::task::spawn_local(async move {
            let addresses = match node {
                PeerAddress::Ip(address) => vec![address],
                PeerAddress::Name(host, port) => addresses_of(host, port, MAX_OF_NAME).await,
            };
            // The session may be over.
            let _ = notify.send(Notice::Nodes(addresses));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::DhtHurry;

    #[test]
    fn nodes_are_told_the_port_outside_where_there_is_one() {
        let announce = DhtAnnounce { seed: true, implied_port: false, port: None };
        let need = DhtNeed { peers: DhtHurry::Some, announce: Some(announce) };
        let at = |machine: &str, tcp, udp| {
            let ports = ListenPorts { tcp, udp, ..ListenPorts::unmapped(6881) };
            let announce = with_ports(need, machine.parse().unwrap(), ports).announce.unwrap();
            assert!(announce.seed);
            (announce.implied_port, announce.port)
        };
        assert_eq!(at("0.0.0.0:6881", None, None), (false, None));
        assert_eq!(at("0.0.0.0:6881", Some(6881), Some(6881)), (true, None));
        assert_eq!(at("0.0.0.0:6881", Some(7001), Some(7001)), (true, Some(7001)));
        assert_eq!(at("0.0.0.0:6881", Some(7001), Some(7002)), (false, Some(7001)));
        assert_eq!(at("0.0.0.0:6881", Some(7001), None), (false, Some(7001)));
        assert_eq!(at("[::]:6881", Some(7001), Some(7001)), (false, None));
        let silent = DhtNeed { announce: None, ..need };
        assert_eq!(with_ports(silent, "0.0.0.0:1".parse().unwrap(), ListenPorts::unmapped(1)), silent);
    }
}
