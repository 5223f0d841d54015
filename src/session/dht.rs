//! The distributed hash table (BEP 5): a machine for each family of addresses, at the session's UDP port, and what torrents want of them.
//!
//! A machine begins with the first torrent that may use it, and ends with the last: a session with nothing but private torrents (BEP 27)
//! sends no packet, nor does one whose torrents are stopped.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use super::{Notice, Torrent};
use crate::dht::{Dht, DhtConfig, DhtInput, DhtNeed, DhtOutput, Family, SavedTable};
use crate::event::Kind;
use crate::ids::WireHash;
use crate::metainfo::PeerAddress;
use crate::net::udp::{Packet, UdpPort};
use crate::storage::nodes::{self, NodesFile};

/// How long the name of a node may be looked up.
const LOOK_UP: Duration = Duration::from_secs(10);

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
    port: u16,
    seed: u64,
    notify: UnboundedSender<Notice>,
    /// Empty while no torrent may use them.
    machines: Vec<Machine>,
    /// What the machines knew that have ended.
    ended: Vec<(Family, SavedTable)>,
    /// What is wanted for which torrent.
    followed: HashMap<WireHash, DhtNeed>,
    next_save: Option<Instant>,
}

#[derive(Debug)]
struct Machine {
    dht: Dht,
    family: Family,
    address: SocketAddr,
    file: Option<Arc<NodesFile>>,
}

impl DhtNetwork {
    /// At these sockets, which have this port. `seed` decides all random choices.
    pub(super) fn new(
        options: DhtOptions,
        udp: UdpPort,
        port: u16,
        seed: u64,
        notify: UnboundedSender<Notice>,
    ) -> DhtNetwork {
        let (machines, ended, followed) = (Vec::new(), Vec::new(), HashMap::new());
        DhtNetwork { options, udp, port, seed, notify, machines, ended, followed, next_save: None }
    }

    /// Whether other nodes get answers, so that peers may be told of this one.
    pub(super) fn answers(&self) -> bool {
        !self.options.read_only
    }

    /// What is wanted for a torrent may have changed; it learns how many nodes there are to ask.
    pub(super) fn update(&mut self, now: Instant, torrent: &mut Torrent) {
        let name = torrent.info_hash().wire();
        let need = torrent.dht_need(self.options.read_only);
        torrent.set_dht_nodes(need.map(|_| self.num_nodes()));
        let Some(need) = need else { return self.forget(now, name) };
        if self.followed.get(&name) == Some(&need) {
            return;
        }
        self.start(now);
        if self.followed.insert(name, need).is_none() {
            self.ask_named_nodes(torrent);
        }
        for machine in &mut self.machines {
            machine.dht.handle(now, DhtInput::Follow { hash: name, need });
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
        self.save_beside();
        let ended = self.machines.drain(..).map(|machine| (machine.family, machine.dht.save()));
        self.ended.extend(ended);
        self.next_save = None;
    }

    /// A packet has come.
    pub(super) fn on_packet(&mut self, now: Instant, packet: &Packet) {
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

    /// None of the nodes to begin with has an address that can be reached.
    pub(super) fn on_bootstrap_failed(&mut self, now: Instant) {
        for machine in &mut self.machines {
            machine.dht.handle(now, DhtInput::BootstrapFailed);
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
                self.look_up_bootstrap();
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

    /// A peer says which address we have outside.
    pub(super) fn on_external_address(&mut self, now: Instant, ip: IpAddr, from: SocketAddr) {
        if let Some(machine) = self.machine(SocketAddr::new(ip, 0)) {
            machine.dht.handle(now, DhtInput::ExternalAddress { ip, from: Some(from) });
        }
    }

    /// Nodes that are known, of both families.
    fn num_nodes(&self) -> usize {
        self.machines.iter().map(|machine| machine.dht.num_nodes()).sum()
    }

    /// When [`DhtNetwork::poll`] has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let machines = self.machines.iter().filter_map(|machine| machine.dht.deadline());
        machines.chain(self.next_save).min()
    }

    /// Keeps the nodes for the next session; blocks until they are written, a few KiB that are not synced.
    pub(super) fn save(&self) {
        self.to_save().for_each(|(file, bytes)| save(&file, &bytes));
    }

    /// The same beside the loop.
    fn save_beside(&self) {
        for (file, bytes) in self.to_save() {
            tokio::task::spawn_blocking(move || save(&file, &bytes));
        }
    }

    fn to_save(&self) -> impl Iterator<Item = (Arc<NodesFile>, Vec<u8>)> {
        let known = self.machines.iter().filter(|machine| machine.dht.num_nodes() > 0);
        known.filter_map(|Machine { dht, file, .. }| Some((file.clone()?, dht.save().encode())))
    }

    fn save_if_due(&mut self, now: Instant) {
        if self.next_save.is_some_and(|due| due <= now) {
            self.next_save = Some(now + SAVE_INTERVAL);
            self.save_beside();
        }
    }

    fn machine(&mut self, address: SocketAddr) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|machine| machine.address.is_ipv4() == address.is_ipv4())
    }

    fn start(&mut self, now: Instant) {
        if !self.machines.is_empty() {
            return;
        }
        for (count, address) in self.udp.addresses().into_iter().enumerate() {
            let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
            let (file, saved) = self.load(family);
            let config = DhtConfig {
                family,
                read_only: self.options.read_only,
                port: self.port,
                bootstrap_wanted: !self.options.bootstrap.is_empty(),
                seed: self.seed.wrapping_add(count as u64),
            };
            self.machines.push(Machine { dht: Dht::new(now, config, saved), family, address, file });
        }
        // No two lives share a secret.
        self.seed = fastrand::Rng::with_seed(self.seed).u64(..);
        self.next_save = Some(now + SAVE_INTERVAL);
    }

    /// What an earlier session has kept. One that runs beside another begins with the same nodes, but is one of its own, and keeps nothing.
    fn load(&mut self, family: Family) -> (Option<Arc<NodesFile>>, SavedTable) {
        let before = self.ended.iter().position(|(ended, _)| *ended == family);
        let before = before.map(|at| self.ended.swap_remove(at).1);
        let Some(state_dir) = &self.options.state_dir else { return (None, before.unwrap_or_default()) };
        let name = match family {
            Family::V4 => "dht4",
            Family::V6 => "dht6",
        };
        let mut saved = before.unwrap_or_else(|| SavedTable::decode(&nodes::read(state_dir, name), family));
        if self.options.read_only {
            return (None, saved.without_id());
        }
        let file = NodesFile::claim(state_dir, name).map(Arc::new);
        if file.is_none() {
            saved = saved.without_id();
        }
        (file, saved)
    }

    fn look_up_bootstrap(&self) {
        look_up(self.options.bootstrap.clone(), self.notify.clone(), true);
    }

    fn ask_named_nodes(&self, torrent: &Torrent) {
        let named = torrent.dht_nodes().iter().take(MAX_NAMED);
        let named: Vec<PeerAddress> =
            named.filter_map(|(host, port)| PeerAddress::from_parts(host, *port)).collect();
        if !named.is_empty() {
            look_up(named, self.notify.clone(), false);
        }
    }
}

fn save(file: &NodesFile, bytes: &[u8]) {
    // It is a help to the next session, and no need.
    let _ = file.replace(bytes);
}

/// Looks the names up beside the loop, all at once, and tells it what they mean.
fn look_up(named: Vec<PeerAddress>, notify: UnboundedSender<Notice>, is_bootstrap: bool) {
    tokio::task::spawn_local(async move {
        let mut tasks = Vec::new();
        for node in named {
            match node {
                PeerAddress::Ip(address) => tasks.push(Err(vec![address])),
                PeerAddress::Name(host, port) => tasks.push(Ok(tokio::task::spawn_local(async move {
                    match timeout(LOOK_UP, lookup_host((host, port))).await {
                        Ok(Ok(addresses)) => addresses.take(MAX_OF_NAME).collect(),
                        _ => Vec::new(),
                    }
                }))),
            }
        }
        let mut is_any = false;
        for task in tasks {
            let addresses = match task {
                Ok(task) => task.await.unwrap_or_default(),
                Err(addresses) => addresses,
            };
            is_any |= !addresses.is_empty();
            // The session may be over.
            let _ = notify.send(Notice::Nodes(addresses));
        }
        if is_bootstrap && !is_any {
            let _ = notify.send(Notice::BootstrapFailed);
        }
    });
}
