//! The peers of a torrent before it is known what it is, and what of it is there: they are asked for the metadata (BEP 9), and wait.
//!
//! Joins the machine that collects metadata and the finder of further peers, as [`transfer`](crate::transfer) joins swarm and finder later, and
//! has the same face. What peers say meanwhile of their pieces is kept, so that they move into the swarm as they are, without a new
//! call. Pure.

mod answers;
mod patrol;
mod said;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::ListenPorts;
use crate::event::{Direction, Kind, Severity, State, WantedEvents};
use crate::fetch::{Fetch, FetchInput, FetchOutput, MetadataServer, Ticket};
use crate::finder::{DialEnd, Finder, FinderOutput, Need, Parting};
use crate::hash::Sha256;
use crate::hash::merkle::MerkleTree;
use crate::ids::{PeerKey, WireHash};
use crate::proofs::{HashFetch, HashFetchInput, HashServer};
use crate::swarm::{Hello, Input, Occupant, first_stays};
use crate::wire::extended::{self, ExtensionHandshake, Offer, PeerExtensions, UT_METADATA};
use crate::wire::{Message, PeerId, Reserved};
use said::Said;

/// Between two looks at who is silent.
const PATROL: Duration = Duration::from_secs(10);

/// Who cannot give metadata makes room for others after this, when there is none.
const GRACE: Duration = Duration::from_secs(20);

/// Bytes that all peers together may say.
const MAX_SAID: usize = 16 << 20;

/// What a lobby needs to begin.
#[derive(Clone, Debug)]
pub(crate) struct LobbyConfig {
    /// Our peer id.
    pub peer_id: PeerId,
    /// Where we can be called; told to peers (BEP 10 `p`).
    pub ports: ListenPorts,
    /// Peers may tell us of others (BEP 11), and are told, until it is known that they must not.
    pub peer_exchange: bool,
    /// Peers may introduce us to others, and are introduced (BEP 55); only with peer exchange, and where peers are called by uTP.
    pub holepunch: bool,
    /// Connections at the most.
    pub max_peers: usize,
}

/// Something to be done.
#[derive(Debug)]
pub(crate) enum LobbyOutput {
    /// Say this.
    Send(PeerKey, Message),
    /// Close this connection, for this reason.
    Close(PeerKey, String),
    /// These may be the metadata: see whether their hash is right, and tell it by [`Lobby::on_verified`].
    Verify(Ticket, Arc<[u8]>),
    /// The piece layers that were asked for are there: roots, and the hashes below each.
    Layers(Vec<(Sha256, MerkleTree)>),
    /// Tell whoever wants to know.
    Event(Kind),
}

/// A peer that moves into the swarm.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Its connection.
    pub hello: Hello,
    /// What it has said, in an order in which it can be said again.
    pub said: Vec<Message>,
}

#[derive(Debug)]
struct Waiting {
    hello: Hello,
    connected: Instant,
    last_received: Instant,
    last_sent: Instant,
    /// Where it can be called, if that is known.
    callable: Option<SocketAddr>,
    extensions: PeerExtensions,
    said: Said,
    /// It has been told of as one that is asked.
    is_asked: bool,
    /// It broke the protocol, or lied.
    unruly: bool,
    /// The hash by which it has answered, if it is not known whether the torrent has it.
    answered_by: Option<WireHash>,
}

/// The peers that wait, and whom to call.
#[derive(Debug)]
pub(crate) struct Lobby {
    config: LobbyConfig,
    state: State,
    finder: Finder,
    /// `None` once the metadata are there.
    fetch: Option<Fetch>,
    /// Asks for piece layers (BEP 52), once it is known that some are missing.
    hash_fetch: Option<HashFetch>,
    /// Says to those who ask us for metadata that we have none, until we do.
    server: MetadataServer,
    /// Refuses what we are asked of hashes, as often as that is due.
    hash_server: HashServer,
    waiting: BTreeMap<PeerKey, Waiting>,
    /// Bytes that all of them together have said; between two messages at most [`MAX_SAID`].
    said: usize,
    /// Places for connections that nobody has, of this torrent or another.
    free_places: usize,
    next_patrol: Instant,
    outputs: VecDeque<LobbyOutput>,
    wanted_events: WantedEvents,
}

impl Lobby {
    /// Without peers, in state `Stopped`.
    pub(crate) fn new(now: Instant, config: LobbyConfig, finder: Finder) -> Lobby {
        Lobby {
            config,
            state: State::Stopped,
            finder,
            fetch: Some(Fetch::new()),
            hash_fetch: None,
            server: MetadataServer::new(None),
            hash_server: HashServer::default(),
            waiting: BTreeMap::new(),
            said: 0,
            free_places: usize::MAX,
            next_patrol: now + PATROL,
            outputs: VecDeque::new(),
            wanted_events: WantedEvents::default(),
        }
    }

    /// From now on, events of at least this severity are told; `None`: none are.
    pub(crate) fn want_events(&mut self, least: Option<Severity>) {
        self.wanted_events = WantedEvents(least);
        self.finder.want_events(WantedEvents(least));
    }

    /// Whom to call.
    pub(crate) fn finder(&self) -> &Finder {
        &self.finder
    }

    /// Whom to call; see [`Lobby::finder`].
    pub(crate) fn finder_mut(&mut self) -> &mut Finder {
        &mut self.finder
    }

    /// What the user or an error wants.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Connected peers.
    pub(crate) fn peers(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of the metadata, or of the piece layers, that are here, and of how many, once a peer has said so.
    pub(crate) fn progress(&self) -> (u64, Option<u64>) {
        match &self.hash_fetch {
            Some(hashes) => (hashes.progress().0, Some(hashes.progress().1)),
            None => self.fetch.as_ref().map_or((0, None), Fetch::progress),
        }
    }

    /// The metadata are known, and peers are asked for the piece layers that are missing. Whoever asks for metadata gets them.
    pub(crate) fn ask_for_hashes(&mut self, now: Instant, mut hashes: HashFetch, metadata: Arc<[u8]>) {
        self.fetch = None;
        self.server.set(metadata);
        for (&peer, _) in self.waiting.iter().filter(|(_, waiting)| waiting.hello.reserved.has(Reserved::V2))
        {
            hashes.handle(now, HashFetchInput::Joined(peer));
        }
        self.hash_fetch = Some(hashes);
    }

    /// What the place of each connection is worth.
    pub(crate) fn occupants(&self) -> impl Iterator<Item = Occupant> {
        self.waiting.iter().map(|(&peer, waiting)| Occupant {
            peer,
            address: waiting.hello.address,
            connected: waiting.connected,
            useless_since: self.is_hopeless(peer).then_some(waiting.connected),
            gave: None,
            down_rate: 0,
            up_rate: 0,
        })
    }

    /// Whether it is the metadata or piece layers that are wanted, and this peer will hardly give any.
    fn is_hopeless(&self, peer: PeerKey) -> bool {
        if let Some(hashes) = &self.hash_fetch {
            return hashes.is_hopeless(peer);
        }
        self.fetch.as_ref().is_some_and(|fetch| fetch.is_hopeless(peer))
    }

    /// Takes what happened to the connected peers; of data nothing is known. Call the two `poll`s afterwards.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Enter(state) => self.enter(now, state),
            Input::Connected(hello) => self.on_connected(now, hello),
            Input::Closed(peer) => self.on_closed(now, peer),
            Input::Unruly(peer) => {
                if let Some(waiting) = self.waiting.get_mut(&peer) {
                    waiting.unruly = true;
                }
            }
            Input::Message(peer, message) => self.on_message(now, peer, message),
            // Whoever is here is told again once it is known what there is to transfer.
            Input::Ports(ports) => self.config.ports = ports,
            Input::Want { .. }
            | Input::Order(_)
            | Input::Sent(..)
            | Input::Passed { .. }
            | Input::Failed { .. }
            | Input::Lost(_)
            | Input::BlocksHashed(..)
            | Input::Memory => {}
        }
    }

    fn enter(&mut self, now: Instant, state: State) {
        if std::mem::replace(&mut self.state, state) == state {
            return;
        }
        match state {
            State::Started | State::Paused => self.finder.start(now),
            State::Stopped | State::Waiting => {
                self.finder.stop(now);
                let all: Vec<PeerKey> = self.waiting.keys().copied().collect();
                all.into_iter().for_each(|peer| self.close(now, peer, "stopped"));
            }
        }
    }

    fn on_connected(&mut self, now: Instant, hello: Hello) {
        let (peer, address, direction) = (hello.peer, hello.address, hello.direction);
        self.finder.dial_answered(address);
        if let Some(reason) = self.refusal(now, &hello) {
            self.outputs.push_back(LobbyOutput::Close(peer, reason.into()));
            if direction == Direction::Out && !self.is_connected_to(address) {
                self.finder.refused(now, address);
            }
            return;
        }
        self.finder.connected(now, peer, address, direction);
        self.tell(|| Kind::PeerHandshakeComplete {
            address,
            direction,
            transport: hello.transport,
            peer_id: hello.peer_id.to_string(),
            client: hello.peer_id.client_name(),
            encryption: hello.encryption,
        });
        let reserved = hello.reserved;
        let callable = (direction == Direction::Out).then_some(address);
        self.waiting.insert(
            peer,
            Waiting {
                hello,
                connected: now,
                last_received: now,
                last_sent: now,
                callable,
                extensions: PeerExtensions::default(),
                said: Said::default(),
                is_asked: false,
                unruly: false,
                answered_by: None,
            },
        );
        if reserved.has(Reserved::V2) {
            self.tell_hash_fetch(now, HashFetchInput::Joined(peer));
        }
        if reserved.has(Reserved::FAST) {
            self.send(now, peer, Message::HaveNone);
        }
        if reserved.has(Reserved::DHT) {
            self.send(now, peer, Message::Port(self.config.ports.udp_for(address.ip())));
        }
        if reserved.has(Reserved::EXTENSION) {
            let ours = ExtensionHandshake {
                extensions: self.offer().extensions(),
                client: Some(extended::OUR_CLIENT.into()),
                port: Some(self.config.ports.tcp_for(address.ip())).filter(|&port| port != 0),
                your_ip: Some(address.ip()),
                ..ExtensionHandshake::default()
            };
            self.send(now, peer, Message::from(&ours));
        }
    }

    fn offer(&self) -> Offer {
        let (pex, holepunch) = (self.config.peer_exchange, self.config.holepunch);
        Offer { metadata: true, pex, dont_have: true, holepunch }
    }

    /// Why a connection is not wanted.
    fn refusal(&mut self, now: Instant, hello: &Hello) -> Option<&'static str> {
        if self.state == State::Stopped {
            return Some("stopped");
        }
        if self.finder.is_banned(now, hello.address) {
            return Some("banned");
        }
        if hello.peer_id == self.config.peer_id {
            if hello.direction == Direction::Out {
                self.finder.is_own(now, hello.address);
            }
            return Some("connected to ourselves");
        }
        let twin = self.waiting.iter_mut().find(|(_, waiting)| waiting.hello.peer_id == hello.peer_id);
        if let Some((&twin, waiting)) = twin {
            let first = (waiting.hello.address, waiting.hello.direction, waiting.connected);
            if first_stays(now, self.config.peer_id, first, hello) {
                if hello.direction == Direction::Out {
                    waiting.callable = Some(hello.address);
                }
                return Some("connected twice");
            }
            self.close(now, twin, "connected twice");
        }
        (self.waiting.len() >= self.config.max_peers).then_some("too many peers")
    }

    fn is_connected_to(&self, callable: SocketAddr) -> bool {
        self.waiting.values().any(|waiting| waiting.callable == Some(callable))
    }

    fn on_closed(&mut self, now: Instant, peer: PeerKey) {
        let Some(waiting) = self.waiting.remove(&peer) else { return };
        self.said -= waiting.said.size();
        self.server.gone(peer);
        self.hash_server.gone(peer);
        self.tell_fetch(now, FetchInput::Gone(peer));
        self.tell_hash_fetch(now, HashFetchInput::Gone(peer));
        let how = match waiting.unruly {
            true => Parting::Unruly,
            false if waiting.extensions.id_of(UT_METADATA).is_some() => Parting::Useful,
            false => Parting::Fruitless,
        };
        self.finder.parted(now, peer, waiting.callable, how);
    }

    fn send(&mut self, now: Instant, peer: PeerKey, message: Message) {
        if let Some(waiting) = self.waiting.get_mut(&peer) {
            waiting.last_sent = now;
            self.outputs.push_back(LobbyOutput::Send(peer, message));
        }
    }

    fn close(&mut self, now: Instant, peer: PeerKey, reason: &str) {
        if self.waiting.contains_key(&peer) {
            self.outputs.push_back(LobbyOutput::Close(peer, reason.to_owned()));
            self.on_closed(now, peer);
        }
    }

    fn close_unruly(&mut self, now: Instant, peer: PeerKey, reason: &str) {
        if let Some(waiting) = self.waiting.get_mut(&peer) {
            waiting.unruly = true;
            let (address, peer_id) = (waiting.hello.address, waiting.hello.peer_id.to_string());
            self.tell(|| Kind::PeerError { address, peer_id, reason: reason.to_owned() });
            self.close(now, peer, reason);
        }
    }

    /// Somebody else gets the place of this connection.
    pub(crate) fn displace(&mut self, now: Instant, peer: PeerKey) {
        self.close(now, peer, "made room for others");
    }

    /// A call of ours came to nothing.
    pub(crate) fn dial_ended(&mut self, now: Instant, address: SocketAddr, how: DialEnd) {
        let is_connected = self.is_connected_to(address);
        self.finder.dial_ended(now, address, how, is_connected);
    }

    /// It is known whether the metadata of a [`LobbyOutput::Verify`] were right. If they were, nothing more is asked.
    pub(crate) fn on_verified(&mut self, now: Instant, ticket: Ticket, is_right: bool) {
        self.tell_fetch(now, FetchInput::Verdict(ticket, is_right));
        if let Some(mut fetch) = self.fetch.take_if(|_| is_right) {
            while let Some(output) = fetch.poll(now) {
                if let FetchOutput::Done(metadata) = output {
                    self.server.set(metadata);
                }
            }
        }
    }

    /// The torrent turned out to be private (BEP 27), and these to be its own trackers: see [`Finder::become_private`]. Those who are connected
    /// stay.
    pub(crate) fn become_private(&mut self, now: Instant, trackers: &[Vec<String>]) {
        self.finder.become_private(now, trackers);
        let before = self.offer();
        (self.config.peer_exchange, self.config.holepunch) = (false, false);
        let extensions = self.offer().changes_since(before);
        if extensions.is_empty() {
            return;
        }
        let taken_back = ExtensionHandshake { extensions, ..ExtensionHandshake::default() };
        let told = self.waiting.iter().filter(|(_, waiting)| waiting.hello.reserved.has(Reserved::EXTENSION));
        let told: Vec<PeerKey> = told.map(|(&peer, _)| peer).collect();
        told.into_iter().for_each(|peer| self.send(now, peer, Message::from(&taken_back)));
    }

    /// From now on there are so many places for connections that nobody has, of this torrent or another.
    pub(crate) fn set_free_places(&mut self, free: usize) {
        self.free_places = free;
    }

    /// A peer that would be called at once if there were a place for it.
    pub(crate) fn wants_place(&self, now: Instant) -> Option<SocketAddr> {
        self.finder.would_call(now).filter(|_| self.state != State::Stopped)
    }

    /// The next thing to do about the peers; `None`: nothing before [`Lobby::deadline`] or the next input.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<LobbyOutput> {
        if self.next_patrol <= now {
            self.next_patrol = now + PATROL;
            self.patrol(now);
        }
        while self.outputs.is_empty() && self.state == State::Started {
            let Some(output) = self.fetch.as_mut().and_then(|fetch| fetch.poll(now)) else { break };
            self.on_fetch(now, output);
        }
        while self.outputs.is_empty() && self.state == State::Started {
            let Some(output) = self.hash_fetch.as_mut().and_then(|hashes| hashes.poll(now)) else { break };
            self.on_hash_fetch(now, output);
        }
        while self.outputs.is_empty()
            && let Some((peer, message)) = self.finder.poll_exchange(now)
        {
            let id =
                self.waiting.get(&peer).and_then(|waiting| waiting.extensions.id_of(message.extension()));
            if let Some(id) = id {
                self.send(now, peer, Message::Extended { id, payload: message.encode() });
            }
        }
        self.outputs.pop_front()
    }

    /// The next thing to do about finding more; `None`: nothing before [`Lobby::deadline`] or the next input.
    pub(crate) fn poll_finder(&mut self, now: Instant) -> Option<FinderOutput> {
        self.finder.poll(now, self.need())
    }

    /// When to call the two `poll`s though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let is_started = self.state == State::Started;
        let patrol = (!self.waiting.is_empty()).then_some(self.next_patrol);
        let fetch = self.fetch.as_ref().filter(|_| is_started).and_then(Fetch::deadline);
        let hashes = self.hash_fetch.as_ref().filter(|_| is_started).and_then(HashFetch::deadline);
        [patrol, fetch, hashes, self.finder.deadline(self.need())].into_iter().flatten().min()
    }

    /// How many more peers would help.
    pub(crate) fn need(&self) -> Need {
        if self.state == State::Stopped {
            return Need::default();
        }
        let room = self.config.max_peers.saturating_sub(self.waiting.len());
        let addresses = self.waiting.len() < self.config.max_peers.div_ceil(2);
        Need {
            connections: self.finder.room_for_calls(room, self.free_places),
            addresses,
            urgent: addresses && self.state == State::Started,
            is_partial_seed: false,
        }
    }

    /// Gives the finder, and the peers with what they have said.
    pub(crate) fn into_parts(self) -> (Finder, Vec<Guest>) {
        let guest = |waiting: Waiting| Guest {
            hello: Hello { was_greeted: true, ..waiting.hello },
            said: waiting.said.into_messages(),
        };
        (self.finder, self.waiting.into_values().map(guest).collect())
    }

    fn tell(&mut self, kind: impl FnOnce() -> Kind) {
        let event = self.wanted_events.build(Severity::Info, kind);
        self.outputs.extend(event.map(LobbyOutput::Event));
    }
}
