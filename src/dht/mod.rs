//! A node of the distributed hash table: one machine for each family of addresses (BEP 5, 32, 33, 42, 43, 44, 45, 51).
//!
//! Owns what a node knows and does: its routing table, the look-ups of the torrents that are followed, and what it keeps for others.
//! Pure: packets come in by [`Dht::handle`] and go out by [`Dht::poll`]; it opens no socket, resolves no name, reads no clock.

mod api;
mod node_id;
mod saved;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

pub use api::{DhtAnnounce, DhtConfig, DhtHurry, DhtInput, DhtNeed, DhtOutput, Family};
pub use node_id::NodeId;
pub use saved::SavedTable;

/// A node.
#[derive(Debug)]
pub struct Dht {
    config: DhtConfig,
    outputs: VecDeque<DhtOutput>,
}

impl Dht {
    /// A node that begins with what an earlier run has saved.
    pub fn new(_now: Instant, config: DhtConfig, _saved: SavedTable) -> Dht {
        Dht { config, outputs: VecDeque::new() }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, _now: Instant, _input: DhtInput<'_>) {}

    /// The next thing to do; `None`: nothing before [`Dht::deadline`] or the next input.
    pub fn poll(&mut self, _now: Instant) -> Option<DhtOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Dht::poll`] though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// What the next run should begin with.
    pub fn save(&self) -> SavedTable {
        SavedTable::default()
    }

    /// Nodes in the routing table that are not known to be gone: good and questionable ones (BEP 5).
    pub fn num_nodes(&self) -> usize {
        0
    }

    /// Good nodes, for the machine of the other family ([`DhtInput::OtherFamilyNodes`]); at most 300.
    pub fn good_nodes(&self) -> Vec<(NodeId, SocketAddr)> {
        Vec::new()
    }
}
