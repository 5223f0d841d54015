//! A torrent's connections: calls, handshakes, what peers send and what they are sent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Activity, Torrent};
use crate::address::ListenPorts;
use crate::event::{Direction, Encryption, Kind, Severity, State};
use crate::finder::{DialEnd, Finder, Origin, PUNCH_PATIENCE};
use crate::ids::PeerKey;
use crate::lobby::Lobby;
use crate::metainfo::PeerAddress;
use crate::mse::EncryptionPolicy;
use crate::net::dial::{Call, DialError, Established, MAX_CALL};
use crate::net::driver::{FromPeer, Incoming, Outgoing};
use crate::session::context::Context;
use crate::session::names::addresses_of;
use crate::session::packets::{handshake_packet, packet};
use crate::session::{Called, LinkNotice, Notice, tell_not_established};
use crate::swarm::{Hello, Input, Occupant, Swarm};
use crate::transfer::Transfer;
use crate::utp::Transport;
use crate::wire::{Handshake, Limits, Message};

/// Peers that the user names while a torrent is checked; further ones are forgotten.
const MAX_NAMED: usize = 200;

/// Addresses of one name that are called.
const MAX_OF_NAME: usize = 8;

impl Torrent {
    fn tell_call(&self, address: SocketAddr, transport: Transport, context: &mut Context) {
        let (direction, transport) = (Direction::Out, transport.name());
        self.tell_if(context, Severity::Debug, || Kind::PeerConnect { address, direction, transport });
    }

    /// Calls a peer.
    pub(super) fn dial(&mut self, address: SocketAddr, context: &mut Context) {
        if self.finder().is_some_and(|finder| finder.is_said_to_speak_utp(address)) {
            context.dialer.transports.speaks_utp(address);
        }
        let first = context.dialer.transports.first(address);
        let patience = self.finder().map_or(MAX_CALL, |finder| finder.patience(address));
        self.call(Called { address, first, is_punch: false }, patience, context);
    }

    /// Calls a peer that was told to call us at the same time (BEP 55).
    pub(super) fn punch(&mut self, address: SocketAddr, context: &mut Context) {
        self.call(Called { address, first: Transport::Utp, is_punch: true }, PUNCH_PATIENCE, context);
    }

    fn call(&mut self, called: Called, patience: Duration, context: &mut Context) {
        self.tell_call(called.address, called.first, context);
        let download = &context.connections.shared.download;
        let others = context.connections.count() + context.web.count();
        context.dialer.egress.set_receive_buffer(download.receive_buffer(others));
        context.connections.dialing += 1;
        let (id, notify, dialer) = (self.id, context.notify_link.clone(), context.dialer.clone());
        let ours = self.greeting(context);
        let is_wanted = self.calls_wanted.clone();
        let only = called.is_punch.then_some(called.first);
        let call = Call { address: called.address, patience, only };
        tokio::task::spawn_local(async move {
            let end = dialer.dial(call, ours, &is_wanted).await;
            let _ = notify.send(LinkNotice::Dialed(id, called, end));
        });
    }

    fn dial_ended(&mut self, now: Instant, called: Called, how: DialEnd) {
        let address = called.address;
        if called.is_punch && how != DialEnd::Own {
            return;
        }
        match self.lobby_mut() {
            Some(lobby) => {
                lobby.dial_ended(now, address, how);
                self.has_input = true;
            }
            None => self.with_transfer(|transfer| transfer.dial_ended(now, address, how)),
        }
    }

    /// What the place of each of its connections is worth.
    pub(crate) fn occupants(&self, now: Instant) -> impl Iterator<Item = Occupant> {
        let waiting = self.lobby().into_iter().flat_map(Lobby::occupants);
        waiting.chain(self.swarm().into_iter().flat_map(move |swarm| swarm.occupants(now)))
    }

    /// Calls under way.
    pub(crate) fn calls(&self) -> usize {
        self.finder().map_or(0, Finder::calls)
    }

    /// A peer that would be called at once if there were a place for it.
    pub(crate) fn wants_place(&self, now: Instant) -> Option<SocketAddr> {
        match self.lobby() {
            Some(lobby) => lobby.wants_place(now),
            None => self.transfer().and_then(|transfer| transfer.wants_place(now)),
        }
    }

    /// Whether a peer that calls us may be let in if there is a place for it.
    pub(crate) fn may_let_in(&self, now: Instant, address: SocketAddr) -> bool {
        self.is_entered() && self.finder().is_some_and(|finder| !finder.is_banned(now, address))
    }

    /// Somebody else gets the place of this connection, which is free at once.
    pub(crate) fn displace(&mut self, now: Instant, peer: PeerKey, context: &mut Context) {
        match self.lobby_mut() {
            Some(lobby) => lobby.displace(now, peer),
            None => self.with_transfer(|transfer| transfer.displace(now, peer)),
        }
        self.perform_lobby(now, context);
        self.perform_swarm(now, context);
    }

    /// A call has been answered, or not.
    pub(crate) fn on_dialed(
        &mut self,
        now: Instant,
        called: Called,
        end: Result<Established, DialError>,
        context: &mut Context,
    ) {
        let address = called.address;
        if called.is_punch {
            self.with_finder(|finder| finder.punch_ended(address));
        }
        if let Ok(established) = &end
            && established.link.transport() != called.first
        {
            self.tell_call(address, called.first.other(), context);
        }
        if let Ok(established) = &end
            && context.subscribers.want(Severity::Debug)
        {
            let (ours, theirs) = (self.greeting(context).first, &established.handshake);
            self.tell(context, Kind::PeerPacketOut { address, packet: handshake_packet(&ours) });
            self.tell(context, Kind::PeerPacketIn { address, packet: handshake_packet(theirs) });
        }
        match end.and_then(|established| self.if_answered(established)) {
            Ok(established) if established.handshake.peer_id == context.identity.peer_id => {
                let (transport, reason) = (established.link.transport().name(), "it is ourselves".to_owned());
                self.tell_if(context, Severity::Info, || Kind::PeerDisconnect { address, transport, reason });
                self.dial_ended(now, called, DialEnd::Own);
            }
            // It was being called when the torrent turned out to be private (BEP 27), and who has named it does not count any more.
            Ok(established)
                if self.is_private() && !self.finder().is_some_and(|finder| finder.knows(address)) =>
            {
                let reason = "known from nobody who counts in a private torrent".to_owned();
                let transport = established.link.transport().name();
                self.tell_if(context, Severity::Info, || Kind::PeerDisconnect { address, transport, reason });
                self.dial_ended(now, called, DialEnd::Failed);
            }
            // The filter has changed since it was called.
            Ok(_) if context.is_filtered(address) => self.dial_ended(now, called, DialEnd::Failed),
            Ok(established) => self.open(now, address, Direction::Out, established, Vec::new(), context),
            Err(error) => {
                tell_not_established(&error, address, called.first, |kind| {
                    self.tell_if(context, Severity::Info, || kind)
                });
                let how = if error.is_unanswered() { DialEnd::Unanswered } else { DialEnd::Failed };
                self.dial_ended(now, called, how);
            }
        }
    }

    /// A peer has called us and asked for this torrent.
    pub(crate) fn on_answered(
        &mut self,
        now: Instant,
        address: SocketAddr,
        established: Established,
        context: &mut Context,
    ) {
        let ours = self.answer(&established.handshake, context);
        self.tell_if(context, Severity::Debug, || Kind::PeerPacketIn {
            address,
            packet: handshake_packet(&established.handshake),
        });
        self.tell_if(context, Severity::Debug, || Kind::PeerPacketOut {
            address,
            packet: handshake_packet(&ours),
        });
        let agreed = ours.info_hash;
        let established = Established {
            handshake: Handshake { info_hash: agreed, ..established.handshake },
            ..established
        };
        self.open(now, address, Direction::In, established, ours.encode().to_vec(), context);
    }

    fn open(
        &mut self,
        now: Instant,
        address: SocketAddr,
        direction: Direction,
        established: Established,
        first: Vec<u8>,
        context: &mut Context,
    ) {
        // While it is checked again there is no transfer that would ever close it.
        if !self.takes_peers() {
            return;
        }
        let limits = Limits { num_pieces: (!self.is_fetching()).then_some(self.wanted.len()) };
        let (peer, theirs, encryption) =
            (context.counter.peer(), established.handshake, established.encryption);
        let transport = established.link.transport();
        let gate = context.budget.gate(self.on_disk.lane);
        context.connections.open(peer, (self.id, gate), address, established, first, limits);
        let peer_id = theirs.peer_id;
        self.tell_if(context, Severity::Debug, || Kind::PeerId {
            address,
            transport: transport.name(),
            peer_id: peer_id.to_string(),
            client: peer_id.client_name(),
        });
        let reserved = self.spoken(theirs.reserved, theirs.info_hash, context);
        let was_greeted = false;
        let hello = Hello {
            peer,
            address,
            direction,
            transport: transport.name(),
            reserved,
            peer_id,
            encryption,
            was_greeted,
        };
        self.input(now, Input::Connected(hello));
        self.keep_answer(peer, theirs.info_hash);
        if transport == Transport::Utp {
            self.with_finder(|finder| finder.speaks_utp(peer));
        }
        // Who calls encrypted prefers it; and where we begin in plaintext, who is met encrypted does not take that, or is said to prefer it.
        let begins_plain = context.options.encryption == EncryptionPolicy::Allow;
        if encryption != Encryption::None && (direction == Direction::In || begins_plain) {
            self.with_finder(|finder| finder.prefers_encryption(peer));
        }
    }

    /// Whether peers may be connected, to be asked for data or for metadata, or to wait for either.
    pub(crate) fn takes_peers(&self) -> bool {
        self.finder().is_some()
    }

    /// The user names a peer. Nobody is called before it is known what is missing.
    pub(crate) fn add_peer(&mut self, now: Instant, address: SocketAddr, context: &mut Context) {
        if let Some(check) = self.check_mut().filter(|check| check.lobby.is_none()) {
            // The finder's gate comes later; that the filter refuses it is told now.
            let is_kept = check.named.len() < MAX_NAMED && !context.is_filtered(address);
            return check.named.extend(is_kept.then_some(address));
        }
        self.with_finder(|finder| finder.found(now, [address], Origin::User));
    }

    /// The session's filter has changed. Those who are being called, and those who call us, are looked at when they have answered.
    pub(crate) fn on_other_filter(&mut self, now: Instant, context: &mut Context) {
        let filter = context.options.ip_filter.clone();
        self.with_finder(|finder| finder.set_filter(filter));
        let peers: Vec<_> = context.connections.peers_of(self.id).collect();
        for (peer, address) in peers {
            if context.is_filtered(address) {
                self.on_closed(now, peer, "refused by the IP filter".to_owned(), context);
            }
        }
    }

    /// Whether others than its trackers may be told of it, if that is wanted at all: it is neither private (BEP 27) nor stopped.
    pub(crate) fn is_told_of_openly(&self) -> bool {
        self.goes_on() && !self.is_private() && self.is_entered()
    }

    /// Whether others may call us for its data: it is not stopped, and wants more than to know what it is.
    pub(crate) fn takes_callers(&self) -> bool {
        self.goes_on() && !self.options.metadata_only && self.is_entered()
    }

    /// Whether it deals with peers: it is neither stopped nor only checked.
    fn is_entered(&self) -> bool {
        let state = self.lobby().map(Lobby::state).or_else(|| self.swarm().map(Swarm::state));
        state.is_some_and(|state| state != State::Stopped)
    }

    /// We can be called by these ports from now on.
    pub(crate) fn set_ports(&mut self, now: Instant, before: ListenPorts, ports: ListenPorts) {
        self.input(now, Input::Ports(ports));
        if before.outside() != ports.outside() {
            self.with_finder(|finder| finder.announce_again(now));
        }
    }

    /// What everything leaves by works again, after it did not: whom that has kept from answering is asked at once.
    pub(crate) fn on_way_back(&mut self, now: Instant) {
        self.with_finder(|finder| finder.way_is_back(now));
        self.with_transfer(Transfer::way_is_back);
    }

    /// Whether it is known to be private (BEP 27).
    pub(crate) fn is_private(&self) -> bool {
        self.on_disk.metainfo.private
    }

    /// A peer of the local network takes part in it.
    pub(crate) fn on_local_peer(&mut self, now: Instant, address: SocketAddr, context: &mut Context) {
        self.with_finder(|finder| finder.found(now, [address], Origin::LocalDiscovery));
        self.tell_if(context, Severity::Info, || Kind::LsdPeer { address });
    }

    /// Calls the peers that the user or a magnet link names, once their names are looked up.
    pub(super) fn call_named_peers(&mut self, now: Instant, context: &mut Context) {
        let mut names = Vec::new();
        for peer in std::mem::take(&mut self.options.peers) {
            match peer {
                PeerAddress::Ip(address) => self.add_peer(now, address, context),
                // A proxy looks names up itself.
                PeerAddress::Name(host, port) if context.options.proxy.is_some() => {
                    if let Some(address) = context.dialer.egress.stand_in(&host, port, true) {
                        self.add_peer(now, address, context);
                    }
                }
                PeerAddress::Name(host, port) => names.push((host, port)),
            }
        }
        if names.is_empty() {
            return;
        }
        let (id, notify) = (self.id, context.notify.clone());
        // One after the other: a link may name a hundred.
        tokio::task::spawn_local(async move {
            for (host, port) in names.into_iter().take(MAX_NAMED) {
                for address in addresses_of(host, port, MAX_OF_NAME).await {
                    // The session may be over.
                    let _ = notify.send(Notice::Named(id, address));
                }
            }
        });
    }

    /// What a connection of this torrent has to say.
    pub(crate) fn on_peer(&mut self, now: Instant, event: FromPeer, context: &mut Context) {
        match event {
            FromPeer::Received(peer, batch) => self.on_received(now, peer, batch, context),
            FromPeer::Sent(peer, bytes, buffers) => {
                context.connections.give_back_buffers(buffers);
                let Some(connection) = context.connections.get(peer) else { return };
                let address = connection.address;
                if bytes > 0 {
                    self.progress.moved = true;
                    let length = bytes as usize;
                    self.tell_if(context, Severity::Debug, || Kind::PeerDataOut { address, length });
                }
                self.input(now, Input::Sent(peer, bytes));
            }
            FromPeer::Failed(peer, ref reason) | FromPeer::Unruly(peer, ref reason) => {
                if let Some(connection) = context.connections.get(peer) {
                    let (address, peer_id) = (connection.address, connection.peer_id);
                    self.tell_if(context, Severity::Info, || Kind::PeerError {
                        address,
                        peer_id: peer_id.to_string(),
                        reason: reason.clone(),
                    });
                }
                if matches!(event, FromPeer::Unruly(..)) {
                    self.input(now, Input::Unruly(peer));
                }
                self.on_closed(now, peer, reason.clone(), context);
            }
            FromPeer::Closed(peer, reason) => {
                context.dialer.egress.look_at_proxy();
                self.on_closed(now, peer, reason, context);
            }
        }
    }

    /// A connection has ended, or is ended here without the swarm having said so.
    pub(super) fn on_closed(&mut self, now: Instant, peer: PeerKey, reason: String, context: &mut Context) {
        if let Some(connection) = context.connections.close(peer) {
            let (address, transport) = (connection.address, connection.transport.name());
            self.tell_if(context, Severity::Info, || Kind::PeerDisconnect { address, transport, reason });
            self.input(now, Input::Closed(peer));
        }
    }

    fn on_received(&mut self, now: Instant, peer: PeerKey, batch: Vec<Incoming>, context: &mut Context) {
        let Some(connection) = context.connections.get(peer) else { return };
        self.tell_incoming(connection.address, &batch, context);
        for incoming in batch {
            if let Incoming::Message(message) = &incoming {
                self.read_for_dht(now, peer, message, context);
            }
            match (incoming, &mut self.activity) {
                (Incoming::Block(block, data), Activity::Running { transfer, .. }) => {
                    let unneeded = transfer.on_block(now, peer, block, data);
                    if unneeded.is_none() {
                        self.last_data = now;
                    }
                    context.connections.shared.pool.put(unneeded);
                    self.progress.moved = true;
                }
                // Nobody has asked for it.
                (Incoming::Block(_, data), _) => context.connections.shared.pool.put([data]),
                (Incoming::Message(message), Activity::Running { transfer, .. }) => {
                    transfer.handle(now, Input::Message(peer, message));
                }
                (Incoming::Message(message), _) => self.input(now, Input::Message(peer, message)),
            }
        }
    }

    fn tell_incoming(&self, address: SocketAddr, batch: &[Incoming], context: &mut Context) {
        if !context.subscribers.want(Severity::Debug) {
            return;
        }
        let data = batch.iter().map(|incoming| match incoming {
            Incoming::Message(_) => 0,
            Incoming::Block(block, _) => block.length as usize,
        });
        let length = data.sum();
        if length > 0 {
            self.tell(context, Kind::PeerDataIn { address, length });
        }
        for incoming in batch {
            let packet = match incoming {
                Incoming::Message(message) => packet(message),
                Incoming::Block(block, _) => packet(&Message::Piece(*block)),
            };
            self.tell(context, Kind::PeerPacketIn { address, packet });
        }
    }

    /// Queues something for a peer; one that lets too much pile up is closed.
    pub(super) fn send(&mut self, now: Instant, peer: PeerKey, outgoing: Outgoing, context: &mut Context) {
        self.tell_outgoing(peer, &outgoing, context);
        if !context.connections.send(peer, outgoing) {
            self.on_closed(now, peer, "does not take what we send".into(), context);
        }
    }

    fn tell_outgoing(&self, peer: PeerKey, outgoing: &Outgoing, context: &mut Context) {
        if !context.subscribers.want(Severity::Debug) {
            return;
        }
        let Some(connection) = context.connections.get(peer) else { return };
        let address = connection.address;
        match outgoing {
            Outgoing::Message(message) => {
                self.tell(context, Kind::PeerPacketOut { address, packet: packet(message) });
            }
            Outgoing::Blocks(run) => {
                for &(_, block) in &run.places {
                    let packet = packet(&Message::Piece(block));
                    self.tell(context, Kind::PeerPacketOut { address, packet });
                }
            }
        }
    }
}
