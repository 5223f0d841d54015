//! What a torrent wants of the distributed hash table (BEP 5), and what it gets.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Activity, Torrent};
use crate::dht::{DhtAnnounce, DhtHurry, DhtNeed};
use crate::finder::{Need, Origin};
use crate::ids::PeerKey;
use crate::lobby::Lobby;
use crate::session::context::Context;
use crate::transfer::Transfer;
use crate::wire::Message;
use crate::wire::extended::{ExtensionHandshake, HANDSHAKE_ID};

impl Torrent {
    /// What is wanted of the table; `None`: nothing, because the torrent is private (BEP 27), stopped, or being checked without peers. By which
    /// port we can be called [`DhtNetwork`](crate::session::dht::DhtNetwork) adds.
    pub(crate) fn dht_need(&self) -> Option<DhtNeed> {
        if !self.is_told_of_openly() {
            return None;
        }
        // While it is not known what the torrent is, it may be private; and who wants no more than that has nothing to offer.
        let is_announced = !self.options.metadata_only && !self.is_fetching();
        let is_seed =
            matches!(&self.activity, Activity::Running { transfer, .. } if transfer.swarm().have().is_full());
        let announce = is_announced.then_some(DhtAnnounce { seed: is_seed, implied_port: false, port: None });
        let need = self.lobby().map(Lobby::need).or_else(|| self.transfer().map(Transfer::need));
        let peers = match need {
            Some(Need { urgent: true, .. }) => DhtHurry::Urgent,
            Some(Need { addresses: true, .. }) => DhtHurry::Some,
            _ => DhtHurry::None,
        };
        Some(DhtNeed { peers, announce })
    }

    /// So many nodes are known; `None`: the torrent is not looked up.
    pub(crate) fn set_dht_nodes(&mut self, nodes: Option<usize>) {
        self.dht_nodes = nodes;
    }

    /// Nodes that the .torrent names (BEP 5).
    pub(crate) fn dht_nodes(&self) -> &[(String, u16)] {
        &self.on_disk.metainfo.nodes
    }

    /// Nodes have named peers.
    pub(crate) fn on_dht_peers(&mut self, now: Instant, peers: Vec<SocketAddr>) {
        if !self.is_private() {
            self.with_finder(|finder| finder.found(now, peers, Origin::Dht));
        }
    }

    /// What a peer says that is of use to the table: at which port its node is (BEP 5 `port`), and at which address it sees us (BEP 10
    /// `yourip`).
    pub(super) fn read_for_dht(&self, now: Instant, peer: PeerKey, message: &Message, context: &mut Context) {
        let Context { dht: Some(dht), connections, .. } = context else { return };
        match message {
            Message::Port(port) if *port != 0 && !self.is_private() => {
                let node = connections.named_node(peer, *port);
                dht.on_nodes(now, node.as_slice());
            }
            Message::Extended { id: HANDSHAKE_ID, payload } => {
                let theirs = ExtensionHandshake::decode(payload).ok();
                let sees = theirs.and_then(|handshake| handshake.your_ip);
                if let (Some(ip), Some(connection)) = (sees, connections.get(peer)) {
                    dht.on_external_address(now, ip, Some(connection.address));
                }
            }
            _ => {}
        }
    }
}
