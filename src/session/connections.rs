//! The connections of all torrents: how they come, what they bring, how they go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::events::{handshake_packet, packet, protocol};
use super::{Engine, Keys, Notice};
use crate::blocks::{BlockData, Run};
use crate::event::{Direction, Kind, Severity};
use crate::ids::InfoHashes;
use crate::ids::PeerKey;
use crate::net::connection::{self, FromPeer, Incoming, OUTBOX, Opening, Outgoing};
use crate::net::dial::{self, Met};
use crate::swarm::{Hello, Input, Origin};
use crate::wire::{Handshake, Limits, Message, PeerId, Reserved};

/// Peers that called us and have not said their handshake yet; further ones are closed.
const MOST_UNANSWERED: usize = 64;

/// Peers that the user names while a torrent is checked; further ones are forgotten.
const MOST_NAMED: usize = 200;

/// Buffers for serving that are kept for later.
const MOST_SPARE: usize = 8;

/// What both sides have to have for it to count: BEP 6 and BEP 10.
fn our_reserved() -> Reserved {
    Reserved::EXTENSION.with(Reserved::FAST)
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Whose it is.
    pub torrent: InfoHashes,
    /// Dropping it closes the connection.
    pub outbox: mpsc::Sender<Outgoing>,
    /// The other end.
    pub address: SocketAddr,
    /// As its handshake says.
    pub peer_id: PeerId,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Connections {
    all: BTreeMap<PeerKey, Connection>,
    keys: Keys,
    /// Calls under way.
    pub dialing: usize,
    unanswered: usize,
    spare: Vec<Run>,
}

impl Connections {
    /// One of them.
    pub fn get(&self, peer: PeerKey) -> Option<&Connection> {
        self.all.get(&peer)
    }

    /// Closes one.
    pub fn remove(&mut self, peer: PeerKey) -> Option<Connection> {
        self.all.remove(&peer)
    }

    /// Open connections and calls under way.
    pub fn count(&self) -> usize {
        self.all.len() + self.dialing
    }

    /// A buffer to serve from.
    pub fn take_buffer(&mut self) -> Run {
        self.spare.pop().unwrap_or_default()
    }
}

impl Engine {
    pub(super) fn accept_from(&mut self, socket: TcpListener) {
        let notify = self.notify.clone();
        tokio::task::spawn_local(async move {
            loop {
                match socket.accept().await {
                    Ok((stream, address)) => {
                        if notify.send(Notice::Accepted(stream, address)).is_err() {
                            return;
                        }
                    }
                    // Out of file handles, or the peer is gone already: others may still come.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                }
            }
        });
    }

    pub(super) fn on_accepted(&mut self, stream: tokio::net::TcpStream, address: SocketAddr) {
        if self.is_filtered(address) {
            return; // dropped, and so closed
        }
        let full = self.connections.count() >= self.options.max_peers;
        if full || self.connections.unanswered >= MOST_UNANSWERED || self.shutting_down {
            return; // dropped, and so closed
        }
        self.tell_if(Severity::Debug, None, || Kind::PeerConnect {
            address,
            direction: Direction::In,
            transport: "tcp",
        });
        self.connections.unanswered += 1;
        let notify = self.notify.clone();
        tokio::task::spawn_local(async move {
            let met = dial::answer(stream).await;
            let _ = notify.send(Notice::Answered(address, met));
        });
    }

    pub(super) fn on_answered(&mut self, now: Instant, address: SocketAddr, met: std::io::Result<Met>) {
        self.connections.unanswered -= 1;
        let met = match met {
            Ok(met) => met,
            Err(error) => return self.tell_not_met(None, address, &error),
        };
        let asked_for = met.handshake.info_hash;
        let is_meant =
            |torrent: &&super::torrent::Torrent| torrent.swarm().is_some() && torrent.is_called(asked_for);
        let about = self.torrents.values().find(is_meant).map(|torrent| torrent.on_disk.metainfo.info_hash);
        self.tell_if(Severity::Debug, about, || Kind::PeerPacketIn {
            address,
            packet: handshake_packet(&met.handshake),
        });
        let Some(torrent) = about else {
            let reason = "asks for a torrent that is not here".to_owned();
            return self.tell_if(Severity::Info, None, || Kind::PeerDisconnect { address, reason });
        };
        let ours = self.handshake(torrent);
        self.tell_if(Severity::Debug, torrent, || Kind::PeerPacketOut {
            address,
            packet: handshake_packet(&ours),
        });
        self.open(now, torrent, address, Direction::In, met, ours.encode().to_vec());
    }

    /// A peer has not said its handshake, or not one that will do.
    fn tell_not_met(&mut self, torrent: Option<InfoHashes>, address: SocketAddr, error: &std::io::Error) {
        if error.kind() == std::io::ErrorKind::InvalidData {
            self.tell_if(Severity::Info, torrent, || Kind::PeerError {
                address,
                peer_id: String::new(),
                reason: error.to_string(),
            });
        }
        self.tell_if(Severity::Info, torrent, || Kind::PeerDisconnect { address, reason: error.to_string() });
    }

    /// Whether the filter refuses a peer; if so, that is told.
    pub(super) fn is_filtered(&mut self, address: SocketAddr) -> bool {
        let filter = self.options.ip_filter.as_ref();
        let Some(rule) = filter.and_then(|filter| filter.refusal(address.ip())) else { return false };
        self.tell_if(Severity::Info, None, || Kind::IpFilter { address, protocol: protocol(address), rule });
        true
    }

    pub(super) fn dial(&mut self, now: Instant, torrent: InfoHashes, address: SocketAddr) {
        if self.connections.count() >= self.options.max_peers {
            return self.input(now, torrent, Input::DialPostponed(address));
        }
        self.tell_if(Severity::Debug, torrent, || Kind::PeerConnect {
            address,
            direction: Direction::Out,
            transport: "tcp",
        });
        self.connections.dialing += 1;
        let (notify, bind, ours) = (self.notify.clone(), self.options.bind, self.handshake(torrent));
        tokio::task::spawn_local(async move {
            let met = dial::dial(address, bind, ours).await;
            let _ = notify.send(Notice::Dialed(torrent, address, met));
        });
    }

    pub(super) fn on_dialed(
        &mut self,
        now: Instant,
        torrent: InfoHashes,
        address: SocketAddr,
        met: std::io::Result<Met>,
    ) {
        self.connections.dialing -= 1;
        if let Ok(met) = &met
            && self.subscribers.want(Severity::Debug)
        {
            let (ours, theirs) = (self.handshake(torrent), &met.handshake);
            self.tell(torrent, Kind::PeerPacketOut { address, packet: handshake_packet(&ours) });
            self.tell(torrent, Kind::PeerPacketIn { address, packet: handshake_packet(theirs) });
        }
        match met {
            Ok(met) if met.handshake.peer_id == self.peer_id => {
                let reason = "it is ourselves".to_owned();
                self.tell_if(Severity::Info, torrent, || Kind::PeerDisconnect { address, reason });
                self.input(now, torrent, Input::DialedSelf(address));
            }
            Ok(met) => self.open(now, torrent, address, Direction::Out, met, Vec::new()),
            Err(error) => {
                self.tell_not_met(Some(torrent), address, &error);
                self.input(now, torrent, Input::DialFailed(address));
            }
        }
    }

    fn handshake(&self, torrent: InfoHashes) -> Handshake {
        Handshake { reserved: our_reserved(), info_hash: torrent.wire(), peer_id: self.peer_id }
    }

    fn open(
        &mut self,
        now: Instant,
        info_hash: InfoHashes,
        address: SocketAddr,
        direction: Direction,
        met: Met,
        send: Vec<u8>,
    ) {
        // While it is checked again there is no swarm that would ever close it.
        let there = |torrent: &&super::torrent::Torrent| torrent.swarm().is_some();
        let Some(torrent) = self.torrents.get(&info_hash).filter(there) else { return };
        let limits = Limits { num_pieces: torrent.wanted.len() };
        let peer = self.connections.keys.next();
        let (outbox, from_loop) = mpsc::channel(OUTBOX);
        let peer_id = met.handshake.peer_id;
        self.connections.all.insert(peer, Connection { torrent: info_hash, outbox, address, peer_id });
        let opening = Opening { peer, stream: met.stream, send, received: Vec::new(), limits };
        tokio::task::spawn_local(connection::drive(
            opening,
            from_loop,
            self.to_loop.clone(),
            self.shared.clone(),
        ));
        self.tell_if(Severity::Debug, info_hash, || Kind::PeerId {
            address,
            peer_id: peer_id.to_string(),
            client: peer_id.client_name(),
        });
        let reserved = Reserved(std::array::from_fn(|i| met.handshake.reserved.0[i] & our_reserved().0[i]));
        let hello = Hello { peer, address, direction, reserved, peer_id };
        self.input(now, info_hash, Input::Connected(hello));
    }

    /// Gives a swarm an input; what it says about it is done when the loop settles.
    pub(super) fn input(&mut self, now: Instant, torrent: InfoHashes, input: Input) {
        if let Some(swarm) = self.torrents.get_mut(&torrent).and_then(|torrent| torrent.swarm_mut()) {
            swarm.handle(now, input);
            self.touched.insert(torrent);
        }
    }

    pub(super) fn add_peer(&mut self, now: Instant, torrent: InfoHashes, address: SocketAddr) {
        if self.is_filtered(address) {
            return;
        }
        let Some(owner) = self.torrents.get_mut(&torrent) else { return };
        if owner.swarm().is_none() {
            // Nobody is called before it is known what is missing.
            let room = owner.named.len() < MOST_NAMED;
            return owner.named.extend(room.then_some(address));
        }
        self.input(now, torrent, Input::Found { addresses: vec![address], origin: Origin::User });
    }

    pub(super) fn on_peer(&mut self, now: Instant, event: FromPeer) {
        match event {
            FromPeer::Received(peer, batch) => self.on_received(now, peer, batch),
            FromPeer::Sent(peer, bytes, done) => {
                let room = MOST_SPARE.saturating_sub(self.connections.spare.len());
                self.connections.spare.extend(done.into_iter().take(room));
                if let Some(connection) = self.connections.get(peer) {
                    let (torrent, address) = (connection.torrent, connection.address);
                    if bytes > 0 {
                        self.moved = true;
                        self.tell_if(Severity::Debug, torrent, || Kind::PeerDataOut {
                            address,
                            length: bytes as usize,
                        });
                    }
                    self.input(now, torrent, Input::Sent(peer, bytes));
                }
            }
            FromPeer::Failed(peer, reason) => {
                if let Some(connection) = self.connections.get(peer) {
                    let Connection { torrent, address, peer_id, .. } = *connection;
                    self.tell_if(Severity::Info, torrent, || Kind::PeerError {
                        address,
                        peer_id: peer_id.to_string(),
                        reason: reason.clone(),
                    });
                }
                self.on_peer(now, FromPeer::Closed(peer, reason));
            }
            FromPeer::Closed(peer, reason) => {
                if let Some(Connection { torrent, address, .. }) = self.connections.remove(peer) {
                    self.tell_if(Severity::Info, torrent, || Kind::PeerDisconnect { address, reason });
                    self.input(now, torrent, Input::Closed(peer));
                }
            }
        }
    }

    fn on_received(&mut self, now: Instant, peer: PeerKey, batch: Vec<Incoming>) {
        let Some(connection) = self.connections.get(peer) else {
            return self.shared.pool.put(batch.into_iter().filter_map(data_of));
        };
        let (info_hash, address) = (connection.torrent, connection.address);
        self.touched.insert(info_hash);
        self.tell_incoming(info_hash, address, &batch);
        for incoming in batch {
            let Some(torrent) = self.torrents.get_mut(&info_hash) else { return };
            let Some(swarm) = torrent.swarm_mut() else { return };
            match incoming {
                Incoming::Message(message) => swarm.handle(now, Input::Message(peer, message)),
                Incoming::Block(block, data) => {
                    self.moved = true;
                    if swarm.on_block(now, peer, block) {
                        torrent.keep(block, data);
                    } else {
                        self.shared.pool.put([data]);
                    }
                }
            }
        }
    }

    fn tell_incoming(&mut self, torrent: InfoHashes, address: SocketAddr, batch: &[Incoming]) {
        if !self.subscribers.want(Severity::Debug) {
            return;
        }
        let data = batch.iter().map(|incoming| match incoming {
            Incoming::Message(_) => 0,
            Incoming::Block(block, _) => block.length as usize,
        });
        let length = data.sum();
        if length > 0 {
            self.tell(torrent, Kind::PeerDataIn { address, length });
        }
        for incoming in batch {
            let packet = match incoming {
                Incoming::Message(message) => packet(message),
                Incoming::Block(block, _) => packet(&Message::Piece(*block)),
            };
            self.tell(torrent, Kind::PeerPacketIn { address, packet });
        }
    }

    fn tell_outgoing(&mut self, torrent: InfoHashes, address: SocketAddr, outgoing: &Outgoing) {
        if !self.subscribers.want(Severity::Debug) {
            return;
        }
        match outgoing {
            Outgoing::Message(message) => {
                self.tell(torrent, Kind::PeerPacketOut { address, packet: packet(message) });
            }
            Outgoing::Blocks(run) => {
                for &(_, block) in &run.places {
                    let packet = packet(&Message::Piece(block));
                    self.tell(torrent, Kind::PeerPacketOut { address, packet });
                }
            }
        }
    }

    /// Queues a message; a peer that lets too many pile up is closed.
    pub(super) fn send(&mut self, now: Instant, peer: PeerKey, outgoing: Outgoing) {
        let Some(&Connection { torrent, address, .. }) = self.connections.get(peer) else { return };
        self.tell_outgoing(torrent, address, &outgoing);
        let Some(connection) = self.connections.get(peer) else { return };
        if connection.outbox.try_send(outgoing).is_err() {
            self.on_peer(now, FromPeer::Closed(peer, "does not take what we send".into()));
        }
    }
}

fn data_of(incoming: Incoming) -> Option<BlockData> {
    match incoming {
        Incoming::Block(_, data) => Some(data),
        Incoming::Message(_) => None,
    }
}
