//! A torrent's connections: calls, handshakes, what peers send and what they are sent.

use std::net::SocketAddr;
use std::time::Instant;

use super::Torrent;
use crate::event::{Direction, Kind, Severity};
use crate::ids::PeerKey;
use crate::net::connection::{FromPeer, Incoming, Outgoing};
use crate::net::dial::{self, Met};
use crate::session::context::Context;
use crate::session::packets::{handshake_packet, packet};
use crate::session::{Notice, tell_not_met};
use crate::swarm::{Hello, Input, Origin};
use crate::wire::{Handshake, Limits, Message, Reserved};

/// Peers that the user names while a torrent is checked; further ones are forgotten.
const MAX_NAMED: usize = 200;

/// What we offer peers: the fast extension (BEP 6) and the extension protocol (BEP 10).
fn our_reserved() -> Reserved {
    Reserved::EXTENSION.with(Reserved::FAST)
}

impl Torrent {
    fn handshake(&self, context: &Context) -> Handshake {
        let (info_hash, peer_id) = (self.info_hash().wire(), context.identity.peer_id);
        Handshake { reserved: our_reserved(), info_hash, peer_id }
    }

    /// Calls a peer.
    pub(super) fn dial(&mut self, now: Instant, address: SocketAddr, context: &mut Context) {
        if context.connections.count() >= context.options.max_peers {
            return self.input(now, Input::DialPostponed(address));
        }
        self.tell_if(context, Severity::Debug, || Kind::PeerConnect {
            address,
            direction: Direction::Out,
            transport: "tcp",
        });
        context.connections.dialing += 1;
        let (id, notify, bind) = (self.id, context.notify.clone(), context.options.bind);
        let ours = self.handshake(context);
        tokio::task::spawn_local(async move {
            let met = dial::dial(address, bind, ours).await;
            let _ = notify.send(Notice::Dialed(id, address, met));
        });
    }

    /// A call has been answered, or not.
    pub fn on_dialed(
        &mut self,
        now: Instant,
        address: SocketAddr,
        met: std::io::Result<Met>,
        context: &mut Context,
    ) {
        if let Ok(met) = &met
            && context.subscribers.want(Severity::Debug)
        {
            let (ours, theirs) = (self.handshake(context), &met.handshake);
            self.tell(context, Kind::PeerPacketOut { address, packet: handshake_packet(&ours) });
            self.tell(context, Kind::PeerPacketIn { address, packet: handshake_packet(theirs) });
        }
        match met {
            Ok(met) if met.handshake.peer_id == context.identity.peer_id => {
                let reason = "it is ourselves".to_owned();
                self.tell_if(context, Severity::Info, || Kind::PeerDisconnect { address, reason });
                self.input(now, Input::DialedSelf(address));
            }
            Ok(met) => self.open(now, address, Direction::Out, met, Vec::new(), context),
            Err(error) => {
                tell_not_met(&error, address, |kind| self.tell_if(context, Severity::Info, || kind));
                self.input(now, Input::DialFailed(address));
            }
        }
    }

    /// A peer has called us and asked for this torrent.
    pub fn on_answered(&mut self, now: Instant, address: SocketAddr, met: Met, context: &mut Context) {
        let ours = self.handshake(context);
        self.tell_if(context, Severity::Debug, || Kind::PeerPacketIn {
            address,
            packet: handshake_packet(&met.handshake),
        });
        self.tell_if(context, Severity::Debug, || Kind::PeerPacketOut {
            address,
            packet: handshake_packet(&ours),
        });
        self.open(now, address, Direction::In, met, ours.encode().to_vec(), context);
    }

    fn open(
        &mut self,
        now: Instant,
        address: SocketAddr,
        direction: Direction,
        met: Met,
        first: Vec<u8>,
        context: &mut Context,
    ) {
        // While it is checked again there is no swarm that would ever close it.
        if !self.is_running() {
            return;
        }
        let limits = Limits { num_pieces: self.wanted.len() };
        let (peer, theirs) = (context.counter.peer(), met.handshake);
        context.connections.open(peer, self.id, address, met, first, limits);
        let peer_id = theirs.peer_id;
        self.tell_if(context, Severity::Debug, || Kind::PeerId {
            address,
            peer_id: peer_id.to_string(),
            client: peer_id.client_name(),
        });
        let reserved = Reserved(std::array::from_fn(|i| theirs.reserved.0[i] & our_reserved().0[i]));
        self.input(now, Input::Connected(Hello { peer, address, direction, reserved, peer_id }));
    }

    /// The user names a peer. Nobody is called before it is known what is missing.
    pub fn add_peer(&mut self, now: Instant, address: SocketAddr, context: &mut Context) {
        if context.is_filtered(address) {
            return;
        }
        if let Some(check) = self.check_mut() {
            let room = check.named.len() < MAX_NAMED;
            return check.named.extend(room.then_some(address));
        }
        self.input(now, Input::Found { addresses: vec![address], origin: Origin::User });
    }

    /// What a connection of this torrent has to say.
    pub fn on_peer(&mut self, now: Instant, event: FromPeer, context: &mut Context) {
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
            FromPeer::Failed(peer, reason) => {
                if let Some(connection) = context.connections.get(peer) {
                    let (address, peer_id) = (connection.address, connection.peer_id);
                    self.tell_if(context, Severity::Info, || Kind::PeerError {
                        address,
                        peer_id: peer_id.to_string(),
                        reason: reason.clone(),
                    });
                }
                self.on_closed(now, peer, reason, context);
            }
            FromPeer::Closed(peer, reason) => self.on_closed(now, peer, reason, context),
        }
    }

    /// A connection has ended, or is ended here without the swarm having said so.
    pub(super) fn on_closed(&mut self, now: Instant, peer: PeerKey, reason: String, context: &mut Context) {
        if let Some(connection) = context.connections.close(peer) {
            let address = connection.address;
            self.tell_if(context, Severity::Info, || Kind::PeerDisconnect { address, reason });
            self.input(now, Input::Closed(peer));
        }
    }

    fn on_received(&mut self, now: Instant, peer: PeerKey, batch: Vec<Incoming>, context: &mut Context) {
        let Some(connection) = context.connections.get(peer) else { return };
        self.tell_incoming(connection.address, &batch, context);
        for incoming in batch {
            let Some(swarm) = self.swarm_mut() else { return };
            match incoming {
                Incoming::Message(message) => swarm.handle(now, Input::Message(peer, message)),
                Incoming::Block(block, data) => {
                    if swarm.on_block(now, peer, block) {
                        self.keep(block, data);
                    } else {
                        context.connections.shared.pool.put([data]);
                    }
                    self.progress.moved = true;
                }
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
