//! The session's state and its loop.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::check_queue::{CheckQueue, CheckThreads};
use super::clock::{Clock, used_by_thread};
use super::connections::Connections;
use super::context::{Context, Identity, WriteBudget, protocol, udp_protocol};
use super::dht::DhtNetwork;
use super::downloads::DownloadQueue;
use super::local::LocalNetwork;
use super::not_started::{NotStarted, not_bound, not_listening};
use super::options::SessionOptions;
use super::outage::watch_presence;
use super::portmap::PortMapping;
use super::room::Crowded;
use super::schedule::Schedule;
use super::subscribers::Subscribers;
use super::thread::no_thread;
use super::uploads::UploadSlots;
use super::web::WebConnections;
use super::{Command, LinkNotice, Notice, Torrent};
use crate::address::ListenPorts;
use crate::bind::{Bind, Local};
use crate::budget::Budget;
use crate::disk::{Disk, Done};
use crate::event::{Event, Kind, Severity};
use crate::ids::{Counter, DiskLane, TorrentId, WireHash};
use crate::net::NetShared;
use crate::net::dial::Dialer;
use crate::net::driver::FromPeer;
use crate::net::egress::Egress;
use crate::net::listen::{Listeners, listen};
use crate::net::secure::Secrecy;
use crate::net::transport::Transports;
use crate::net::udp::{MAX_QUEUED_PACKETS, Packet, UdpPort, UdpReaders};
use crate::net::utp::UtpPort;
use crate::net::web::FromWeb;
use crate::tracker::{self, AnnouncePool};
use crate::utp::Transport;
use crate::wire::PeerId;

/// Inputs of one kind that are taken before the torrents are asked what to do about them.
const BATCH: usize = 64;

/// How long the loop sleeps if nothing is due at all.
const FAR: Duration = Duration::from_secs(3600);

/// Turns that tasks get after the loop has ended.
const LAST_TURNS: usize = 4;

/// How long it sleeps at the most while a torrent is to end for want of new data: if the process is stopped meanwhile, that much
/// may be taken for silence of the peers.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// The session's state: what is about a torrent goes to that torrent.
pub(crate) struct Engine {
    /// All torrents, in the order in which they were added.
    pub(super) torrents: BTreeMap<TorrentId, Torrent>,
    /// The torrents by the names that peers call them by.
    pub(super) by_hash: HashMap<WireHash, TorrentId>,
    /// What time it is for the torrents.
    clock: Clock,
    /// When which torrent has something to do though nothing happens.
    schedule: Schedule,
    /// Whether all places for connections are taken, and who waits for one.
    pub(super) crowded: Crowded,
    /// Torrents to which something has happened in this turn of the loop.
    pub(super) touched: BTreeSet<TorrentId>,
    /// Local discovery, if the user wants it.
    pub(super) local: Option<LocalNetwork>,
    /// Port mapping, if the user wants it.
    pub(super) mapping: Option<PortMapping>,
    /// What all torrents share.
    pub(super) context: Context,
    /// Local addresses at which connections are accepted.
    pub(super) listening: Vec<SocketAddr>,
    /// Where packets are received, if at all.
    pub(super) udp: Option<UdpPort>,
    /// Why the proxy carries no packets, if it does not.
    pub(super) udp_off: Option<String>,
    /// Why the proxy does not work at the moment, as it was told.
    pub(super) proxy_failure: Option<String>,
    /// The tasks that accept connections.
    pub(super) accepting: Vec<AbortHandle>,
    /// The least severity that any subscriber wanted when the torrents were last told.
    least: Option<Severity>,
    /// The torrent whose check stands still for now.
    held_check: Option<TorrentId>,
    commands: mpsc::UnboundedReceiver<Command>,
    from_peers: mpsc::Receiver<FromPeer>,
    packets: mpsc::Receiver<Packet>,
    from_web: mpsc::Receiver<FromWeb>,
    pub(super) done: mpsc::UnboundedReceiver<Done>,
    pub(super) notices: mpsc::UnboundedReceiver<Notice>,
    link_notices: mpsc::UnboundedReceiver<LinkNotice>,
    pub(super) shutting_down: bool,
}

impl Engine {
    /// On the session's thread, inside its runtime: listens, starts the disk's threads.
    pub(crate) fn start(
        options: SessionOptions,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Engine, NotStarted> {
        let local = Local::from(options.bind.clone());
        options.bind.as_ref().map_or(Ok(()), Bind::check).map_err(|error| not_bound(&options, &error))?;
        let takes_utp = options.transport.takes(Transport::Utp);
        let wants_udp = options.dht.is_some() || takes_utp;
        let listeners = match options.proxy {
            // A socket that listens would be a way past it.
            Some(_) => Ok(Listeners::none()),
            None => listen(&options.ports, &local, wants_udp),
        };
        let listeners = listeners.map_err(|error| not_listening(&options, &error))?;
        let mut rng = fastrand::Rng::new();
        let (notify, notices) = mpsc::unbounded_channel();
        let (notify_link, link_notices) = mpsc::unbounded_channel();
        let (to_done, done) = mpsc::unbounded_channel();
        let disk = Disk::start(to_done).map_err(|error| no_thread(&error))?;
        let check_threads = CheckThreads::start().map_err(|error| no_thread(&error))?;
        let shared = NetShared::new(options.max_download_rate, options.max_upload_rate);
        let (web, from_web) = WebConnections::new(shared.clone());
        let (connections, from_peers) = Connections::new(shared);
        let identity = Identity {
            peer_id: PeerId::generate(&mut rng),
            ports: ListenPorts::unmapped(listeners.port),
            key: rng.u32(..),
        };
        let mut tracker_options = tracker::Options { local: local.clone(), ..tracker::Options::from_env() };
        tracker_options.proxies.chosen = options.proxy.clone();
        let tracker_options = Arc::new(tracker_options);
        let local_network = (options.local_discovery && options.proxy.is_none()).then(|| {
            let now = Instant::now();
            LocalNetwork::open(now, local.clone(), listeners.port, rng.u64(..), notify.clone())
        });
        let (to_loop, packets) = mpsc::channel(MAX_QUEUED_PACKETS);
        let udp = match options.proxy {
            Some(_) => wants_udp.then(UdpPort::relayed),
            None => listeners.udp.clone(),
        };
        let utp = udp.clone().filter(|_| takes_utp).map(|udp| {
            let notify = notify_link.clone();
            UtpPort::start(udp, rng.u64(..), move |link, address| {
                // The session may have ended.
                let _ = notify.send(LinkNotice::Accepted(link, address));
            })
        });
        if let (Some(utp), Some(rate)) = (&utp, connections.shared.download.bytes_a_second()) {
            utp.set_rate(rate);
        }
        let dht = options.dht.clone().zip(listeners.udp.clone()).map(|(dht_options, udp)| {
            let (ports, filter) = (identity.ports, options.ip_filter.clone());
            DhtNetwork::new(dht_options, udp, ports, filter, rng.u64(..), notify.clone())
        });
        let readers = UdpReaders { dht: options.dht.is_some().then_some(to_loop), utp: utp.clone() };
        if let Some(udp) = &listeners.udp {
            udp.receive(&readers);
        }
        watch_presence(local.clone(), notify.clone());
        let tell = notify.clone();
        let egress = Rc::new(Egress::new(local, options.proxy.clone(), move |news| {
            // The session may be over.
            let _ = tell.send(Notice::Proxy(news));
        }));
        let mapping = PortMapping::of(&options, &listeners, rng.u64(..), notify.clone());
        let context = Context {
            dialer: Dialer {
                transports: Rc::new(Transports::new(options.transport, egress.clone(), utp)),
                egress,
                secrecy: Rc::new(Secrecy::new(options.encryption, rng.u64(..))),
            },
            downloads: DownloadQueue::new(options.max_downloads),
            uploads: UploadSlots::new(options.upload_slots, options.max_upload_rate),
            options,
            identity,
            disk,
            disk_broken: None,
            check_queue: CheckQueue::default(),
            check_threads,
            notify,
            notify_link,
            subscribers: Subscribers::default(),
            connections,
            web,
            budget: WriteBudget::default(),
            memory: Budget::default(),
            counter: Counter::default(),
            rng,
            tracker_options,
            watches_stall: false,
            announces: AnnouncePool::default(),
            kept_announces: Vec::new(),
            dht,
        };
        let mut engine = Engine {
            torrents: BTreeMap::new(),
            by_hash: HashMap::new(),
            clock: Clock::new(Instant::now(), used_by_thread()),
            schedule: Schedule::default(),
            crowded: Crowded::default(),
            touched: BTreeSet::new(),
            local: local_network,
            mapping,
            context,
            listening: listeners.addresses(),
            udp,
            accepting: Vec::new(),
            udp_off: None,
            proxy_failure: None,
            least: None,
            held_check: None,
            commands,
            from_peers,
            packets,
            from_web,
            done,
            notices,
            link_notices,
            shutting_down: false,
        };
        engine.relay_packets(readers);
        engine.accept_from(listeners);
        Ok(engine)
    }

    /// Our peer id, port and tracker key.
    pub(crate) fn identity(&self) -> Identity {
        self.context.identity
    }

    /// Local addresses at which connections are accepted.
    pub(crate) fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// The loop; ends after `Command::Shutdown`, or when nobody can send commands any more, once all
    /// torrents have ended.
    pub(crate) async fn run(mut self) {
        let timer = sleep_until((Instant::now() + FAR).into());
        tokio::pin!(timer);
        while !(self.shutting_down && self.has_ended()) {
            let deadline = self.sleep();
            if timer.deadline() != deadline.into() {
                timer.as_mut().reset(deadline.into());
            }
            tokio::select! {
                Some(event) = self.from_peers.recv() => {
                    let now = self.awake();
                    self.on_peer(now, event);
                    for _ in 0..BATCH {
                        let Ok(event) = self.from_peers.try_recv() else { break };
                        self.on_peer(now, event);
                    }
                }
                Some(packet) = self.packets.recv() => {
                    let now = self.awake();
                    self.on_packet(now, &packet);
                    for _ in 0..BATCH {
                        let Ok(packet) = self.packets.try_recv() else { break };
                        self.on_packet(now, &packet);
                    }
                }
                Some(event) = self.from_web.recv() => {
                    let now = self.awake();
                    self.on_web(now, event);
                    for _ in 0..BATCH {
                        let Ok(event) = self.from_web.try_recv() else { break };
                        self.on_web(now, event);
                    }
                }
                Some(done) = self.done.recv() => {
                    let now = self.awake();
                    self.on_done(now, done);
                    for _ in 0..BATCH {
                        let Ok(done) = self.done.try_recv() else { break };
                        self.on_done(now, done);
                    }
                }
                Some(notice) = self.notices.recv() => {
                    let now = self.awake();
                    self.on_notice(now, notice);
                }
                Some(notice) = self.link_notices.recv() => {
                    let now = self.awake();
                    self.on_link_notice(now, notice);
                }
                command = self.commands.recv(), if !self.shutting_down => {
                    let now = self.awake();
                    match command {
                        Some(command) => self.on_command(now, command),
                        None => self.shut_down(now),
                    }
                }
                () = &mut timer => {
                    let now = self.awake();
                    self.take_due(now);
                }
            }
            let now = self.awake();
            self.end_turn(now);
        }
        if let Some(dht) = &self.context.dht {
            dht.save();
        }
        self.leave_connections().await;
        // Whoever was too slow to be saved in time is not waited for, nor those on the same device: what is on the disk is consistent.
        let late = self.torrents.values().filter(|torrent| !torrent.is_saved());
        let late: BTreeSet<DiskLane> = late.map(Torrent::lane).collect();
        self.context.disk.finish(|lane| !late.contains(&lane));
    }

    /// Nobody is left to send anything after the loop: what connections by uTP have to say last goes now.
    async fn leave_connections(&mut self) {
        self.context.connections.close_all();
        // The task of each connection drops it in its next turn.
        for _ in 0..LAST_TURNS {
            tokio::task::yield_now().await;
        }
        self.context.dialer.transports.utp().into_iter().for_each(UtpPort::flush_last);
        self.udp.iter().for_each(UdpPort::end);
    }

    /// Whether all torrents have ended, and nothing is mapped any more.
    fn has_ended(&self) -> bool {
        self.torrents.values().all(Torrent::has_ended)
            && self.mapping.as_ref().is_none_or(PortMapping::has_ended)
    }

    /// The loop goes to sleep: until when, by the system's time, if nothing happens.
    fn sleep(&mut self) -> Instant {
        let mut wait = FAR;
        if self.context.watches_stall {
            wait = HEARTBEAT;
        }
        let latest = self.clock.now() + wait;
        let local = self.local.as_ref().and_then(LocalNetwork::deadline);
        let dht = self.context.dht.as_ref().and_then(DhtNetwork::deadline);
        let mapping = self.mapping.as_ref().and_then(PortMapping::deadline);
        let due = self.schedule.next().into_iter().chain(self.crowded.deadline());
        let due = due.chain(local).chain(dht).chain(mapping).chain(self.context.downloads.deadline());
        let due = due.chain(self.context.uploads.deadline());
        let deadline = self.clock.to_system(due.fold(latest, Instant::min));
        self.clock.sleep(deadline);
        deadline
    }

    /// The loop runs: what time it is in the session.
    fn awake(&mut self) -> Instant {
        self.clock.run(Instant::now(), used_by_thread)
    }

    /// Notes the torrents that have something to do now though nothing has happened.
    pub(super) fn take_due(&mut self, now: Instant) {
        self.touched.extend(self.schedule.due(now));
    }

    /// Has each torrent to which something has happened do what is due.
    pub(super) fn end_turn(&mut self, now: Instant) {
        self.tell_what_is_wanted();
        self.start_checks(now);
        loop {
            while let Some(id) = self.touched.pop_first() {
                let Some(torrent) = self.torrents.get_mut(&id) else { continue };
                torrent.advance(now, &mut self.context);
                self.context.downloads.set(now, id, torrent.counts_until());
                let slots = self.context.uploads.set(now, id, torrent.upload_demand());
                if torrent.set_upload_slots(now, slots) {
                    self.touched.insert(id);
                }
                self.touched.extend(self.context.uploads.take_unmet());
                self.schedule.set(id, torrent.deadline());
                if let Some(local) = &mut self.local {
                    local.update(now, torrent);
                }
                if let Some(dht) = &mut self.context.dht {
                    dht.update(now, torrent);
                }
                if let Some(mapping) = &mut self.mapping {
                    mapping.update(now, id, torrent.takes_callers());
                }
                self.start_checks(now);
            }
            self.advance_mapping(now);
            self.advance_dht(now);
            if let Some(id) = self.context.downloads.next(now) {
                self.with(id, |torrent, context| torrent.begin_turn(now, context));
            }
            self.compare_contenders(now);
            self.touched.extend(self.context.memory.asked_to_give_up());
            if let Some(id) = self.context.memory.next_turn() {
                self.with(id, |torrent, _| torrent.on_memory(now));
            }
            if self.touched.is_empty() {
                self.make_room(now);
            }
            if self.touched.is_empty() {
                break;
            }
        }
        if let Some(local) = &mut self.local {
            local.announce(now);
        }
    }

    /// The DHT's packets are dictionaries (BEP 5); what else comes by UDP and is no packet of uTP is nothing to us.
    fn on_packet(&mut self, now: Instant, packet: &Packet) {
        if let Some(dht) = self.context.dht.as_mut().filter(|_| packet.data.first() == Some(&b'd')) {
            dht.on_packet(now, packet);
        }
    }

    /// Begins the checks whose turn it is.
    fn start_checks(&mut self, now: Instant) {
        while let Some((id, turn)) = self.context.check_queue.next() {
            if self.with(id, |torrent, context| torrent.start_check(now, turn, context)).is_none() {
                self.context.check_queue.end(turn.lane);
            }
        }
        let held = self.context.check_queue.held();
        let before = std::mem::replace(&mut self.held_check, held);
        if held == before {
            return;
        }
        if let Some(id) = before {
            self.with(id, |torrent, _| torrent.hold_check(false));
        }
        if let Some(id) = held {
            self.with(id, |torrent, _| torrent.hold_check(true));
        }
    }

    /// Those that build events themselves learn what is wanted, if that has changed.
    fn tell_what_is_wanted(&mut self) {
        let least = self.context.subscribers.least();
        if std::mem::replace(&mut self.least, least) == least {
            return;
        }
        let trace = self.context.subscribers.want(Severity::Debug);
        self.torrents.values_mut().for_each(|torrent| torrent.want_events(least, trace));
    }

    /// Lets a torrent see to something, if it is there: the one place where torrents are looked up.
    pub(super) fn with<T>(
        &mut self,
        id: TorrentId,
        act: impl FnOnce(&mut Torrent, &mut Context) -> T,
    ) -> Option<T> {
        let torrent = self.torrents.get_mut(&id)?;
        self.touched.insert(id);
        Some(act(torrent, &mut self.context))
    }

    /// Forgets when a torrent that is not there any more was due.
    pub(super) fn unschedule(&mut self, id: TorrentId) {
        self.schedule.set(id, None);
    }

    /// What everyone is told first: what happened before anyone could listen.
    pub(super) fn news(&self) -> Vec<Event> {
        let tell =
            |address: SocketAddr, protocol| Kind::ListenSuccess { address, port: address.port(), protocol };
        let listening = self.listening.iter().flat_map(|&address| {
            let udp = self.udp.is_some().then(|| tell(address, udp_protocol(address)));
            let tcp = self.context.options.transport.takes(Transport::Tcp);
            tcp.then(|| tell(address, protocol(address))).into_iter().chain(udp)
        });
        let listening = listening.map(|kind| Event { torrent: None, kind });
        listening.chain(self.network_news()).collect()
    }
}
