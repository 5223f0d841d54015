//! The connections of all torrents: how they come, what they bring, how they go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Engine, Keys, Notice};
use crate::blocks::{BlockData, Run};
use crate::event::{Direction, Kind, Severity};
use crate::metainfo::InfoHash;
use crate::net::connection::{self, FromPeer, Incoming, OUTBOX, Opening, Outgoing};
use crate::net::dial::{self, Met};
use crate::swarm::{Hello, Input, Origin, PeerKey};
use crate::wire::{Handshake, Limits, Message, Reserved};

/// Peers that called us and have not said their handshake yet; further ones are closed.
const MOST_UNANSWERED: usize = 64;

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
    pub torrent: InfoHash,
    /// Dropping it closes the connection.
    pub outbox: mpsc::Sender<Outgoing>,
    /// The other end.
    pub address: SocketAddr,
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
        let full = self.connections.count() >= self.options.max_peers;
        if full || self.connections.unanswered >= MOST_UNANSWERED || self.shutting_down {
            return; // dropped, and so closed
        }
        self.connections.unanswered += 1;
        let notify = self.notify.clone();
        tokio::task::spawn_local(async move {
            let met = dial::answer(stream).await;
            let _ = notify.send(Notice::Answered(address, met));
        });
    }

    pub(super) fn on_answered(&mut self, now: Instant, address: SocketAddr, met: std::io::Result<Met>) {
        self.connections.unanswered -= 1;
        let Ok(met) = met else { return };
        let torrent = met.handshake.info_hash;
        let ours = self.handshake(torrent);
        let known = self.torrents.get(&torrent).is_some_and(|torrent| torrent.swarm().is_some());
        if known {
            self.tell_if(Severity::Debug, torrent, || Kind::PeerConnect {
                address,
                direction: Direction::In,
                transport: "tcp",
            });
            self.open(now, torrent, address, Direction::In, met, ours.encode().to_vec());
        }
    }

    pub(super) fn dial(&mut self, now: Instant, torrent: InfoHash, address: SocketAddr) {
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
        torrent: InfoHash,
        address: SocketAddr,
        met: std::io::Result<Met>,
    ) {
        self.connections.dialing -= 1;
        match met {
            Ok(met) if met.handshake.peer_id == self.peer_id => {
                self.input(now, torrent, Input::DialedSelf(address));
            }
            Ok(met) => self.open(now, torrent, address, Direction::Out, met, Vec::new()),
            Err(error) => {
                self.tell_if(Severity::Debug, torrent, || Kind::PeerDisconnect {
                    address,
                    reason: error.to_string(),
                });
                self.input(now, torrent, Input::DialFailed(address));
            }
        }
    }

    fn handshake(&self, info_hash: InfoHash) -> Handshake {
        Handshake { reserved: our_reserved(), info_hash, peer_id: self.peer_id }
    }

    fn open(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        address: SocketAddr,
        direction: Direction,
        met: Met,
        send: Vec<u8>,
    ) {
        let Some(torrent) = self.torrents.get(&info_hash) else { return };
        let limits = Limits { num_pieces: torrent.wanted.len() };
        let peer = self.connections.keys.next();
        let (outbox, from_loop) = mpsc::channel(OUTBOX);
        self.connections.all.insert(peer, Connection { torrent: info_hash, outbox, address });
        let opening = Opening { peer, stream: met.stream, send, received: Vec::new(), limits };
        tokio::task::spawn_local(connection::drive(
            opening,
            from_loop,
            self.to_loop.clone(),
            self.shared.clone(),
        ));
        let peer_id = met.handshake.peer_id;
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
    pub(super) fn input(&mut self, now: Instant, torrent: InfoHash, input: Input) {
        if let Some(swarm) = self.torrents.get_mut(&torrent).and_then(|torrent| torrent.swarm_mut()) {
            swarm.handle(now, input);
            self.touched.insert(torrent);
        }
    }

    pub(super) fn add_peer(&mut self, now: Instant, torrent: InfoHash, address: SocketAddr) {
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
                    self.tell_if(Severity::Debug, torrent, || Kind::PeerDataOut {
                        address,
                        length: bytes as usize,
                    });
                    self.input(now, torrent, Input::Sent(peer, bytes));
                }
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
        let debug = self.subscribers.want(Severity::Debug);
        for incoming in batch {
            if debug {
                self.tell_incoming(info_hash, address, &incoming);
            }
            let Some(torrent) = self.torrents.get_mut(&info_hash) else { return };
            let Some(swarm) = torrent.swarm_mut() else { return };
            match incoming {
                Incoming::Message(message) => swarm.handle(now, Input::Message(peer, message)),
                Incoming::Block(block, data) => {
                    if swarm.on_block(now, peer, block) {
                        torrent.keep(block, data);
                    } else {
                        self.shared.pool.put([data]);
                    }
                }
            }
        }
    }

    fn tell_incoming(&mut self, torrent: InfoHash, address: SocketAddr, incoming: &Incoming) {
        let packet = match incoming {
            Incoming::Message(message) => packet(message),
            Incoming::Block(block, _) => packet(&Message::Piece(*block)),
        };
        if let Incoming::Block(block, _) = incoming {
            self.tell(torrent, Kind::PeerDataIn { address, length: block.length as usize });
        }
        self.tell(torrent, Kind::PeerPacketIn { address, packet });
    }

    /// Queues a message; a peer that lets too many pile up is closed.
    pub(super) fn send(&mut self, now: Instant, peer: PeerKey, outgoing: Outgoing) {
        let Some(connection) = self.connections.get(peer) else { return };
        if self.subscribers.want(Severity::Debug)
            && let Outgoing::Message(message) = &outgoing
        {
            let (torrent, address) = (connection.torrent, connection.address);
            let packet = packet(message);
            self.tell(torrent, Kind::PeerPacketOut { address, packet });
        }
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

/// A message as the keys of an event; never a block's data.
fn packet(message: &Message) -> serde_json::Value {
    use serde_json::json;
    let kind = message.name();
    match message {
        Message::KeepAlive
        | Message::Choke
        | Message::Unchoke
        | Message::Interested
        | Message::NotInterested
        | Message::HaveAll
        | Message::HaveNone => json!({ "type": kind }),
        Message::Have(piece) | Message::Suggest(piece) | Message::AllowedFast(piece) => {
            json!({ "type": kind, "index": piece.0 })
        }
        Message::Bitfield(bytes) => json!({ "type": kind, "length": bytes.len() }),
        Message::Request(block) | Message::Piece(block) | Message::Cancel(block) | Message::Reject(block) => {
            json!({ "type": kind, "index": block.piece.0, "begin": block.begin, "length": block.length })
        }
        Message::Port(port) => json!({ "type": kind, "port": port }),
        Message::Extended { id, payload } => json!({ "type": kind, "id": id, "length": payload.len() }),
        Message::Unknown { id, length } => json!({ "type": kind, "id": id, "length": length }),
    }
}
