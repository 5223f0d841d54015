//! The swarm as a whole: alone against a hand-made peer, and many of them in a simulated network.

mod alone;
mod bans;
mod crowds;
mod failed;
mod floods;
mod lost;
mod many;
mod memory;
mod order;
mod paced;
mod ports;
mod rates;
mod reassign;
mod sim;
mod storm;
mod superseed;
mod table;
mod trees;
mod unwritten;
mod want;
mod weights;

use std::collections::BTreeMap;

use super::Swarm;

/// What must hold between the parts of a swarm after any input.
fn check(swarm: &Swarm) {
    assert_eq!(swarm.missing, swarm.wanted.count_minus(&swarm.have));
    let called = swarm.peers.values().filter(|peer| peer.direction == crate::event::Direction::Out);
    assert_eq!(called.count(), swarm.called);
    let mut requested = BTreeMap::new();
    for (key, peer) in &swarm.peers {
        assert_eq!(*key, peer.key);
        let useful = |&piece: &_| swarm.wanted.contains(piece) && !swarm.have.contains(piece);
        assert_eq!(peer.interesting as usize, peer.pieces.iter().filter(useful).count(), "{key:?}");
        let is_started = swarm.state == crate::event::State::Started;
        assert_eq!(peer.am_interested, is_started && peer.interesting > 0, "{key:?}");
        for (block, _) in &peer.in_flight {
            *requested.entry(*block).or_insert(0) += 1;
        }
    }
    assert_eq!(requested.len() as u64, swarm.pieces.requested_blocks());
    let in_memory = swarm.pieces.iter().chain(swarm.verifying.keys().copied());
    let bytes: u64 =
        in_memory.map(|piece| crate::budget::charge(u64::from(swarm.config.layout.piece_size(piece)))).sum();
    assert_eq!(swarm.config.memory.held(), bytes);
    assert!(!swarm.holds_unwritten() || swarm.state == crate::event::State::Paused);
    let interested = |choked: bool| {
        swarm.peers.values().filter(move |peer| peer.peer_interested && peer.am_choking == choked)
    };
    assert!(interested(true).map(|peer| &peer.key).eq(&swarm.waiting));
    assert!(interested(false).map(|peer| &peer.key).eq(&swarm.served));
    assert!(swarm.peers.values().all(|peer| peer.am_choking || peer.peer_interested));
    for piece in swarm.wanted.minus(&swarm.have) {
        let places = [
            swarm.picker.contains(piece),
            swarm.pieces.contains(piece),
            swarm.verifying.contains_key(&piece),
        ];
        assert_eq!(places.iter().filter(|&&here| here).count(), 1, "{piece:?} {places:?}");
    }
    let count = |piece| swarm.peers.values().filter(|peer| peer.pieces.contains(piece)).count();
    for piece in swarm.wanted.iter() {
        assert_eq!(swarm.picker.availability(piece) as usize, count(piece), "{piece:?}");
    }
}
