//! The node as a whole: alone against hand-made packets, many of them in a simulated network, and a few in a large network of scripted nodes.

mod alone;
mod hostile;
mod large;
mod many;
mod scripted;
mod serving;
mod sim;

use std::net::SocketAddr;
use std::time::Instant;

use super::*;

/// A port of the loopback address.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn config(seed: u64) -> DhtConfig {
    DhtConfig { family: Family::V4, read_only: false, port: 6881, bootstrap_wanted: true, seed }
}

fn hash(number: u64) -> WireHash {
    // Spread over the space, as hashes are.
    WireHash(crate::hash::sha1(&number.to_be_bytes()).0)
}

const FOR_PEERS: DhtNeed = DhtNeed { peers: DhtHurry::Urgent, announce: None };
const ANNOUNCED: DhtNeed = DhtNeed {
    peers: DhtHurry::Some,
    announce: Some(DhtAnnounce { seed: false, implied_port: false, port: None }),
};

/// All that a node has to say now.
fn outputs(dht: &mut Dht, now: Instant) -> Vec<DhtOutput> {
    std::iter::from_fn(|| dht.poll(now)).collect()
}

/// The packets among them.
fn packets(outputs: &[DhtOutput]) -> Vec<(SocketAddr, Vec<u8>)> {
    let packet = |output: &DhtOutput| match output {
        DhtOutput::Send { to, data } => Some((*to, data.clone())),
        _ => None,
    };
    outputs.iter().filter_map(packet).collect()
}
