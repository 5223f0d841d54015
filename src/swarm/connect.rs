//! Who is connected: greetings, farewells, states.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::allowed_fast::{SET_SIZE, allowed_fast_set};
use super::peer::{Occupant, Peer, REQQ};
use super::{Hello, Output, PeerReport, Swarm};
use crate::address::ListenPorts;
use crate::event::{Direction, Kind, Severity, State};
use crate::finder::Parting;
use crate::ids::PeerKey;
use crate::layout::PieceIndex;
use crate::wire::extended::{self, ExtensionHandshake, Offer, UT_HOLEPUNCH, UT_PEX};
use crate::wire::{Message, PeerId, Reserved};

/// Two clients that call each other at the same time know of both connections within this.
const CROSSING: Duration = Duration::from_secs(10);

/// Whether, of two connections with one client, the first is kept, which was made then: with this address, in this direction.
///
/// Both sides keep the one that was opened by the larger peer id, so that they do not close both.
pub fn first_stays(
    now: Instant,
    ours: PeerId,
    (address, direction, connected): (SocketAddr, Direction, Instant),
    second: &Hello,
) -> bool {
    let keep = if ours > second.peer_id { Direction::Out } else { Direction::In };
    // Peer ids are no secret: whoever borrows one elsewhere must not have its owner closed.
    let settled = now.saturating_duration_since(connected) > CROSSING && address.ip() != second.address.ip();
    settled || direction == second.direction || second.direction != keep
}

/// Whoever may have no more connections than this may have called all of them.
const FEW_PLACES: usize = 20;

/// Of so many connections that a torrent may have, how many at the most are with peers that it has called. The rest is for those who call: where
/// many come at once, the first would call one another until they have no places left, and whoever comes later is let in by nobody.
fn places_for_calls(max_peers: usize) -> usize {
    max_peers.div_ceil(2).max(FEW_PLACES.min(max_peers))
}

impl Swarm {
    /// Whether addresses of more peers would help.
    pub fn wants_addresses(&self) -> bool {
        self.peers.len() < self.config.max_peers.div_ceil(2)
    }

    /// How many more connections there may be.
    pub fn room(&self) -> usize {
        self.config.max_peers.saturating_sub(self.peers.len())
    }

    /// How many more peers may be called, where there is room for them.
    pub fn calls_allowed(&self) -> usize {
        places_for_calls(self.config.max_peers).saturating_sub(self.called)
    }

    pub(super) fn enter(&mut self, now: Instant, state: State) {
        if state == self.state {
            return;
        }
        if self.state == State::Stopped {
            self.before = (self.downloaded, self.uploaded);
        }
        self.state = state;
        match state {
            State::Started => {
                (self.down_rate, self.up_rate) = Default::default();
                self.write_waiting();
                let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
                peers.into_iter().for_each(|peer| self.update_interest(now, peer));
                self.may_have_room.extend(self.peers.keys());
                self.fill_slots(now);
            }
            State::Paused => {
                let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
                for peer in peers {
                    self.cancel_all(now, peer);
                    self.set_choking(now, peer, true);
                    self.refuse_all(now, peer);
                    self.update_interest(now, peer);
                }
            }
            State::Stopped | State::Waiting => {
                let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
                peers.into_iter().for_each(|peer| self.close(now, peer, "stopped"));
                self.give_up_unwritten(now, now);
            }
        }
    }

    /// A connection's handshakes are done. One from a machine that is banned is refused.
    pub fn on_connected(&mut self, now: Instant, hello: Hello, is_banned: bool) {
        if let Some(reason) = self.refusal(now, &hello, is_banned) {
            self.outputs.push_back(Output::Close(hello.peer, reason.into()));
            if hello.direction == Direction::Out && !self.is_connected_to(hello.address) {
                self.reports.push(PeerReport::Refused(hello.address));
            }
            return;
        }
        // After the refusal, which may have closed another connection to it.
        self.reports.push(PeerReport::Connected(hello.peer, hello.address, hello.direction));
        let peer = Peer::new(now, &hello, self.have.len());
        if !hello.was_greeted {
            self.tell(Severity::Info, || Kind::PeerHandshakeComplete {
                address: hello.address,
                direction: hello.direction,
                transport: hello.transport,
                peer_id: hello.peer_id.to_string(),
                client: peer.client.clone(),
                encryption: hello.encryption,
            });
        }
        self.greet(now, peer, hello.was_greeted);
        if hello.reserved.has(Reserved::DHT) && !hello.was_greeted {
            self.send(now, hello.peer, Message::Port(self.config.ports.udp_for(hello.address.ip())));
        }
    }

    /// Why a connection is not wanted.
    fn refusal(&mut self, now: Instant, hello: &Hello, is_banned: bool) -> Option<&'static str> {
        if self.state == State::Stopped {
            return Some("stopped");
        }
        if is_banned {
            return Some("banned");
        }
        if hello.peer_id == self.config.peer_id {
            if hello.direction == Direction::Out {
                self.reports.push(PeerReport::Own(hello.address));
            }
            return Some("connected to ourselves");
        }
        if let Some(twin) = self.peers.values().find(|peer| peer.peer_id == hello.peer_id) {
            let first = (twin.address, twin.direction, twin.connected);
            let stays = first_stays(now, self.config.peer_id, first, hello);
            let twin = twin.key;
            if stays {
                if let (Some(twin), Direction::Out) = (self.peers.get_mut(&twin), hello.direction) {
                    twin.callable = Some(hello.address);
                }
                return Some("connected twice");
            }
            self.close(now, twin, "connected twice");
        }
        (self.peers.len() >= self.config.max_peers).then_some("too many peers")
    }

    /// Whether there is a connection with the peer that can be called at this address.
    pub fn is_connected_to(&self, callable: SocketAddr) -> bool {
        self.peers.values().any(|peer| peer.callable == Some(callable))
    }

    fn greet(&mut self, now: Instant, peer: Peer, again: bool) {
        let (key, fast, extended, ip) = (peer.key, peer.fast, peer.extended, peer.address.ip());
        let hides = !again && self.hides_from(&peer);
        self.called += usize::from(peer.direction == Direction::Out);
        self.peers.insert(key, peer);
        let bitfield = match (fast, self.have.is_empty(), self.have.is_full()) {
            (_, true, _) if again => None,
            (true, true, _) => Some(Message::HaveNone),
            (true, ..) if hides => Some(Message::HaveNone),
            (true, _, true) if !again => Some(Message::HaveAll),
            (false, true, _) => None,
            // Said again it is against BEP 3, but taken by everybody, as aria2 sends it.
            _ => Some(Message::Bitfield(self.have.to_wire())),
        };
        if let Some(bitfield) = bitfield {
            self.send(now, key, bitfield);
        }
        if extended {
            let upload_only = self.is_partial_seed();
            let ours = ExtensionHandshake {
                extensions: self.offer().extensions(),
                metadata_size: self.server.size(),
                client: Some(extended::OUR_CLIENT.into()),
                port: Some(self.config.ports.tcp_for(ip)).filter(|&port| port != 0),
                request_queue: Some(REQQ as u32),
                upload_only: upload_only.then_some(true),
                your_ip: Some(ip),
                ..ExtensionHandshake::default()
            };
            self.send(now, key, Message::from(&ours));
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.told_upload_only = upload_only;
            }
        }
        if hides {
            self.hide_from(now, key);
        }
        // A seed's capacity goes where its slots are: all newcomers at once would fetch the same twice.
        if fast && !self.have.is_full() {
            let set = allowed_fast_set(ip, self.config.info_hash, self.have.len());
            // Only what we can fill.
            let granted: Vec<PieceIndex> =
                set.into_iter().filter(|&piece| self.have.contains(piece)).take(SET_SIZE).collect();
            for &piece in &granted {
                self.send(now, key, Message::AllowedFast(piece));
            }
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.granted_fast = granted;
            }
        }
    }

    /// The extensions that we want messages of.
    pub(super) fn offer(&self) -> Offer {
        let (pex, holepunch) = (self.config.peer_exchange, self.config.holepunch);
        Offer { metadata: self.server.size().is_some(), pex, dont_have: true, holepunch }
    }

    /// A peer tells us of others far too often.
    pub fn close_flooding(&mut self, now: Instant, key: PeerKey) {
        self.close_unruly(now, key, "far too many messages of peer exchange");
    }

    /// Tells a peer of others, by a message of this extension (BEP 11, 55), if it wants that.
    pub fn send_exchange(&mut self, now: Instant, key: PeerKey, extension: &str, payload: Vec<u8>) {
        if let Some(id) = self.peers.get(&key).and_then(|peer| peer.extensions.id_of(extension)) {
            self.send(now, key, Message::Extended { id, payload });
        }
    }

    /// Whether everything wanted is there, and not everything is wanted (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        self.is_complete() && !self.have.is_full()
    }

    /// Tells the peers whether we want nothing more, where that is news: what a seed wants they see by its pieces.
    pub(super) fn tell_upload_only(&mut self, now: Instant) {
        let upload_only = self.is_partial_seed();
        let news = |peer: &&mut Peer| peer.extended && peer.told_upload_only != upload_only;
        let ours = ExtensionHandshake { upload_only: Some(upload_only), ..ExtensionHandshake::default() };
        let mut told = Vec::new();
        for peer in self.peers.values_mut().filter(news) {
            peer.told_upload_only = upload_only;
            told.push(peer.key);
        }
        told.into_iter().for_each(|key| self.send(now, key, Message::from(&ours)));
    }

    /// We can be called by these ports from now on: peers are told to whom another one was told before.
    pub(super) fn set_ports(&mut self, now: Instant, ports: ListenPorts) {
        let before = std::mem::replace(&mut self.config.ports, ports);
        let news = |peer: &&Peer| {
            let ip = peer.address.ip();
            peer.extended && before.tcp_for(ip) != ports.tcp_for(ip)
        };
        let told: Vec<(PeerKey, u16)> = self
            .peers
            .values()
            .filter(news)
            .map(|peer| (peer.key, ports.tcp_for(peer.address.ip())))
            .collect();
        for (key, port) in told {
            let ours = ExtensionHandshake { port: Some(port), ..ExtensionHandshake::default() };
            self.send(now, key, Message::from(&ours));
        }
    }

    /// The peer's extension handshake (BEP 10).
    pub(super) fn on_extension_handshake(&mut self, now: Instant, key: PeerKey, theirs: ExtensionHandshake) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.extensions.update(&theirs);
        let other_ip = theirs.ip_beside(peer.address.ip());
        let wants = peer.extensions.id_of(UT_PEX).is_some();
        let punches = peer.extensions.id_of(UT_HOLEPUNCH).is_some();
        self.reports.push(PeerReport::Wants(key, wants));
        self.reports.push(PeerReport::Punches(key, punches));
        if let Some(reqq) = theirs.request_queue {
            peer.window.set_reqq(reqq);
        }
        if let Some(client) = theirs.client.filter(|client| !client.is_empty()) {
            peer.client = client;
        }
        // Once: each port would take a place among the candidates.
        if let (Some(port), Direction::In, None) = (theirs.port, peer.direction, peer.callable) {
            let mut callable = peer.address;
            callable.set_port(port);
            peer.callable = Some(callable);
            self.reports.push(PeerReport::Listens(key, callable));
        }
        self.reports.extend(other_ip.map(|ip| PeerReport::AlsoAt(key, ip)));
        self.may_have_room.insert(key);
        if let Some(upload_only) = theirs.upload_only {
            peer.upload_only = upload_only;
            self.report_seed(key);
            self.update_interest(now, key);
        }
    }

    /// A connection will have ended in this way, whatever came and went on it.
    pub(super) fn note_parting(&mut self, peer: PeerKey, how: Parting) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.parting = Some(how);
        }
    }

    pub(super) fn part(&mut self, now: Instant, peer: PeerKey, how: Parting, reason: impl Into<String>) {
        self.note_parting(peer, how);
        self.close(now, peer, reason);
    }

    /// Closes a connection because the peer broke the protocol: it is called again less and less often.
    pub(super) fn close_unruly(&mut self, now: Instant, peer: PeerKey, reason: impl Into<String>) {
        self.part(now, peer, Parting::Unruly, reason);
    }

    /// Closes a connection of ours and forgets the peer.
    pub(super) fn close(&mut self, now: Instant, peer: PeerKey, reason: impl Into<String>) {
        if self.peers.contains_key(&peer) {
            self.outputs.push_back(Output::Close(peer, reason.into()));
            self.on_closed(now, peer);
        }
    }

    pub(super) fn on_closed(&mut self, now: Instant, key: PeerKey) {
        let Some(mut peer) = self.peers.remove(&key) else { return };
        self.called -= usize::from(peer.direction == Direction::Out);
        if let Some(shown) = &mut peer.shown {
            self.return_shown(shown);
        }
        self.server.gone(key);
        self.hash_server.gone(key);
        self.trials.iter_mut().for_each(|trials| trials.gone(key));
        for &(block, _) in &peer.in_flight {
            self.pieces.give_back(&self.config.layout, block, key);
        }
        for &block in &peer.late {
            self.pieces.end_lateness(&self.config.layout, block, key, false);
        }
        self.pieces.release_exclusive(key);
        self.picker.on_leave(&peer.pieces, peer.counted_as_seed);
        let how = match peer.parting {
            Some(how) => how,
            None if peer.wants_nothing() && self.is_complete() => Parting::Useless,
            None if peer.useful + peer.uploaded > 0 => Parting::Useful,
            None => Parting::Fruitless,
        };
        self.reports.push(PeerReport::Parted(key, peer.callable, how));
        self.may_have_room.remove(&key);
        self.waiting.remove(&key);
        self.wake_idle();
        self.served.remove(&key);
        self.fill_slots(now);
    }

    /// What the place of each connection is worth.
    pub fn occupants(&self, now: Instant) -> impl Iterator<Item = Occupant> {
        self.peers.values().map(move |peer| peer.occupant(now))
    }

    /// Somebody else gets the place of this connection. The peer is not called again before others have been.
    pub fn displace(&mut self, now: Instant, key: PeerKey) {
        self.part(now, key, Parting::Displaced, "made room for others");
    }

    /// Blocks may have become free: those who have room are asked again.
    pub(super) fn wake_idle(&mut self) {
        let least = self.config.pace.least_blocks();
        let has_room = |peer: &Peer| (peer.in_flight.len() as u32) < peer.window.blocks_at_least(least);
        let idle = |peer: &&Peer| peer.am_interested && has_room(peer);
        self.may_have_room.extend(self.peers.values().filter(idle).map(|peer| peer.key));
    }

    /// The peer broke the protocol in a way that is not worth closing for.
    pub(super) fn peer_error(&mut self, key: PeerKey, reason: &str) {
        if let Some(peer) = self.peers.get(&key) {
            let (address, peer_id) = (peer.address, peer.peer_id);
            self.tell(Severity::Info, || Kind::PeerError {
                address,
                peer_id: peer_id.to_string(),
                reason: reason.into(),
            });
        }
    }
}
