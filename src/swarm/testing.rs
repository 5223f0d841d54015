//! What tests and benches begin a swarm with.

use std::sync::Arc;

use super::SwarmConfig;
use crate::bitfield::Bitfield;
use crate::budget::Budget;
use crate::ids::{Counter, PeerId, WireHash};
use crate::layout::Layout;
use crate::pace::Pace;

impl SwarmConfig {
    /// All of a torrent of this shape is wanted, and nothing of it is there. Up to 50 peers, of which 4 are unchoked, with as much memory as one
    /// process has; no metadata and no peer exchange. Whoever is about something else changes it.
    pub fn for_tests(layout: Arc<Layout>) -> SwarmConfig {
        let pieces = layout.num_pieces();
        SwarmConfig {
            info_hash: WireHash([7; 20]),
            layout,
            metadata: Arc::default(),
            peer_id: PeerId([b'm'; 20]),
            ports: crate::address::ListenPorts::unmapped(6881),
            have: Bitfield::new(pieces),
            wanted: Bitfield::full(pieces),
            weights: Vec::new(),
            order: Default::default(),
            partial: Default::default(),
            memory: Budget::default().share(Counter::default().torrent(), Default::default()),
            pace: Pace::new(None).share(Counter::default().torrent()),
            downloaded: 0,
            uploaded: 0,
            peer_exchange: false,
            holepunch: false,
            max_peers: 50,
            upload_slots: 4,
            seed: 1,
        }
    }
}
