//! The connections of all torrents: the registry, and the buffers that they share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::mpsc::{self, error::TrySendError};

use super::accept::PendingHandshakes;

use crate::blocks::Run;
use crate::ids::{PeerKey, TorrentId};
use crate::net::dial::Established;
use crate::net::driver::{self, FromPeer, Incoming, OUTBOX, Opening, Outgoing};
use crate::net::{Gate, NetShared};
use crate::utp::Transport;
use crate::wire::{Limits, PeerId};

/// Reads of all connections that may wait for the loop. Each is up to half a MiB of blocks, so this
/// is memory; it is enough to take several connections' at a time.
const MAX_FROM_PEERS: usize = 8;

/// Buffers for serving that are kept for later.
const MAX_SPARE: usize = 8;

/// One open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The torrent that it serves.
    pub torrent: TorrentId,
    /// Dropping it closes the connection.
    outbox: mpsc::Sender<Outgoing>,
    /// The other end.
    pub address: SocketAddr,
    /// What carries it.
    pub transport: Transport,
    /// The peer's id, as its handshake says.
    pub peer_id: PeerId,
    /// It has said at which port its node of the DHT is (BEP 5).
    has_named_node: bool,
}

/// The open connections of all torrents.
#[derive(Debug)]
pub(crate) struct Connections {
    all: BTreeMap<PeerKey, Connection>,
    /// Our calls that are under way.
    pub dialing: usize,
    /// Peers that called us and have not said their handshake yet.
    pub pending: PendingHandshakes,
    spare: Vec<Run>,
    to_loop: mpsc::Sender<FromPeer>,
    /// Buffers and limits, which the connections' tasks share.
    pub shared: Rc<NetShared>,
}

impl Connections {
    /// Without any connection; what the peers send comes through the receiver.
    pub(crate) fn new(shared: Rc<NetShared>) -> (Connections, mpsc::Receiver<FromPeer>) {
        let (to_loop, from_peers) = mpsc::channel(MAX_FROM_PEERS);
        let connections = Connections {
            all: BTreeMap::new(),
            dialing: 0,
            pending: PendingHandshakes::default(),
            spare: Vec::new(),
            to_loop,
            shared,
        };
        (connections, from_peers)
    }

    /// Begins to drive a connection of a torrent whose handshakes are done, by the gate of its disk; `first` goes out before anything else.
    pub(crate) fn open(
        &mut self,
        peer: PeerKey,
        (torrent, gate): (TorrentId, Rc<Gate>),
        address: SocketAddr,
        established: Established,
        first: Vec<u8>,
        limits: Limits,
    ) {
        let (outbox, from_loop) = mpsc::channel(OUTBOX);
        let Established { link, handshake, ciphers, early, .. } = established;
        self.all.insert(
            peer,
            Connection {
                torrent,
                outbox,
                address,
                transport: link.transport(),
                peer_id: handshake.peer_id,
                has_named_node: false,
            },
        );
        let opening = Opening { peer, link, early, ciphers, first, limits, gate };
        let driver = driver::drive(opening, from_loop, self.to_loop.clone(), self.shared.clone());
        tokio::task::spawn_local(driver);
    }

    /// The connection of this name, unless it is closed.
    pub(crate) fn get(&self, peer: PeerKey) -> Option<&Connection> {
        self.all.get(&peer)
    }

    /// The open connections of a torrent, and their other ends.
    pub(crate) fn peers_of(&self, torrent: TorrentId) -> impl Iterator<Item = (PeerKey, SocketAddr)> {
        let is_of = move |(_, connection): &(&PeerKey, &Connection)| connection.torrent == torrent;
        self.all.iter().filter(is_of).map(|(&peer, connection)| (peer, connection.address))
    }

    /// Where the node of a peer is (BEP 5) that says that it is at this port; of what it says later nothing is believed, or one connection
    /// could have us ask all ports of its machine.
    pub(crate) fn named_node(&mut self, peer: PeerKey, port: u16) -> Option<SocketAddr> {
        let connection = self.all.get_mut(&peer)?;
        let is_first = !std::mem::replace(&mut connection.has_named_node, true);
        is_first.then(|| SocketAddr::new(connection.address.ip(), port))
    }

    /// Queues something for a peer. False if it does not take what was queued before, and has to be closed; one that has ended
    /// will say so, and why.
    pub(crate) fn send(&self, peer: PeerKey, outgoing: Outgoing) -> bool {
        let Some(connection) = self.all.get(&peer) else { return true };
        !matches!(connection.outbox.try_send(outgoing), Err(TrySendError::Full(_)))
    }

    /// All that are open.
    pub(crate) fn keys(&self) -> Vec<PeerKey> {
        self.all.keys().copied().collect()
    }

    /// Closes one.
    pub(crate) fn close(&mut self, peer: PeerKey) -> Option<Connection> {
        self.all.remove(&peer)
    }

    /// Closes all that are open, and all calls from peers.
    pub(crate) fn close_all(&mut self) {
        self.all.clear();
        self.pending.end_all();
    }

    /// Open connections and calls under way.
    pub(crate) fn count(&self) -> usize {
        self.all.len() + self.dialing
    }

    /// A buffer to serve from.
    pub(crate) fn take_buffer(&mut self) -> Run {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes the buffers out of what a connection brought that is closed already.
    pub(crate) fn give_back(&mut self, event: FromPeer) {
        match event {
            FromPeer::Received(_, batch) => {
                self.shared.pool.put(batch.into_iter().filter_map(Incoming::into_data))
            }
            FromPeer::Sent(_, _, buffers) => self.give_back_buffers(buffers),
            FromPeer::Closed(..) | FromPeer::Failed(..) | FromPeer::Unruly(..) => {}
        }
    }

    /// Keeps a few buffers that have been sent for later.
    pub(crate) fn give_back_buffers(&mut self, buffers: Vec<Run>) {
        let room = MAX_SPARE.saturating_sub(self.spare.len());
        self.spare.extend(buffers.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;
    use crate::wire::Message;

    #[test]
    fn only_who_lets_too_much_pile_up_is_to_be_closed_for_it() {
        let (mut connections, _from_peers) = Connections::new(NetShared::new(None, None));
        let (outbox, from_loop) = mpsc::channel(1);
        let torrent = Counter::default().torrent();
        let (address, peer_id) = (([127, 0, 0, 1], 1).into(), PeerId([0; 20]));
        let transport = Transport::Tcp;
        connections.all.insert(
            PeerKey(1),
            Connection { torrent, outbox, address, transport, peer_id, has_named_node: false },
        );
        let send =
            |connections: &Connections| connections.send(PeerKey(1), Outgoing::Message(Message::KeepAlive));
        assert!(send(&connections));
        assert!(!send(&connections), "the first one waits still");
        drop(from_loop);
        assert!(send(&connections), "it has ended by itself, and says why");
    }
}
