//! A large network of which only the answers exist: each of its nodes knows what a node at its place would know, some are gone, some lie.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use bendy::encoding::Encoder;
use fastrand::Rng;

use super::*;
use crate::compact::write_address;
use crate::dht::message::{Ask, Body, Method, read_packet};

/// How a node lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lie {
    /// It and the nodes that it names have the asker's id.
    ClaimsYourId,
    /// It names one address many times, under ids close to the target.
    OneAddress,
    /// It names addresses of the world that exist, under ids close to the target that do not fit them.
    UnfitIds,
    /// It names nodes of one subnet only, which all answer as it does: a ring around the target.
    OneSubnet,
    /// It names thousands of peers that do not exist.
    ManyPeers,
    /// Its answers have another transaction id.
    WrongTransaction,
    /// Its answers come from another address.
    WrongAddress,
    /// It names nodes close to the target that fit their addresses and do not exist.
    Nowhere,
    /// It names only itself, under many ids.
    Itself,
    /// It names thousands of nodes that do not exist.
    ManyNodes,
}

pub(super) const LIES: [Lie; 10] = [
    Lie::ClaimsYourId,
    Lie::OneAddress,
    Lie::UnfitIds,
    Lie::OneSubnet,
    Lie::ManyPeers,
    Lie::WrongTransaction,
    Lie::WrongAddress,
    Lie::Nowhere,
    Lie::Itself,
    Lie::ManyNodes,
];

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) address: SocketAddr,
    pub(super) lie: Option<Lie>,
    /// It is there within this time after the start.
    pub(super) life: std::ops::Range<Duration>,
}

pub(super) struct Scripted {
    /// By id.
    pub(super) nodes: Vec<Node>,
    by_address: HashMap<SocketAddr, usize>,
    stored: HashMap<(usize, WireHash), BTreeSet<SocketAddr>>,
    /// Addresses where nobody is, by the first id that fits them: among so many, some fit any target.
    nowhere: Vec<(NodeId, SocketAddr)>,
    rng: Rng,
    /// Of a hundred queries that they get, after so many they ask something of the asker, too.
    pub(super) curiosity: u32,
}

pub(super) const FOREVER: std::ops::Range<Duration> = Duration::ZERO..Duration::MAX;

impl Scripted {
    /// So many nodes; of a hundred, `dead` are not there.
    pub(super) fn new(seed: u64, number: usize, dead: u32, lies: &[(Lie, u32)]) -> Scripted {
        let mut rng = Rng::with_seed(seed);
        let mut nodes = Vec::new();
        let mut ips = BTreeSet::new();
        while nodes.len() < number {
            let address = outer(&mut rng);
            if !ips.insert(address.ip()) {
                continue;
            }
            let life = if rng.u32(..100) < dead { Duration::ZERO..Duration::ZERO } else { FOREVER };
            let mut draw = rng.u32(..100);
            let lie = lies.iter().find_map(|&(lie, share)| {
                let is_it = draw < share;
                draw = draw.saturating_sub(share);
                is_it.then_some(lie)
            });
            nodes.push(Node { id: random_id(&mut rng).bound_to(address.ip()), address, lie, life });
        }
        Scripted::of(nodes, rng)
    }

    pub(super) fn of(mut nodes: Vec<Node>, rng: Rng) -> Scripted {
        nodes.sort_by_key(|node| node.id);
        let by_address = nodes.iter().enumerate().map(|(at, node)| (node.address, at)).collect();
        Scripted { nodes, by_address, stored: HashMap::new(), nowhere: Vec::new(), rng, curiosity: 0 }
    }

    pub(super) fn is_alive(&self, time: Duration, address: SocketAddr) -> bool {
        self.by_address.get(&address).is_some_and(|&at| self.nodes[at].life.contains(&time))
    }

    /// Nodes that are there and do not lie.
    pub(super) fn some_alive(&mut self, time: Duration, number: usize) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        while found.len() < number {
            let node = &self.nodes[self.rng.usize(..self.nodes.len())];
            if node.life.contains(&time) && node.lie.is_none() {
                found.push(node.address);
            }
        }
        found
    }

    /// All that share more than `bits` bits with the target.
    fn subtree(&self, target: &NodeId, bits: usize) -> std::ops::Range<usize> {
        let shares = |node: &Node| node.id.shared_bits(target) > bits;
        let first = self.nodes.partition_point(|node| node.id < *target && !shares(node));
        let after = self.nodes.partition_point(|node| node.id < *target || shares(node));
        first..after
    }

    /// The closest nodes of all that there are, or were.
    fn closest(&self, target: &NodeId, number: usize, filter: impl Fn(&Node) -> bool) -> Vec<usize> {
        for bits in (0..=24).rev().map(Some).chain([None]) {
            let range = bits.map_or(0..self.nodes.len(), |bits| self.subtree(target, bits));
            let mut near: Vec<usize> = range.filter(|&at| filter(&self.nodes[at])).collect();
            if near.len() >= number || bits.is_none() {
                near.sort_by_key(|&at| self.nodes[at].id.distance(target));
                near.truncate(number);
                return near;
            }
        }
        Vec::new()
    }

    /// The peers announce themselves as they should: to the eight closest who are there, and have the id of their address.
    pub(super) fn announce(&mut self, time: Duration, hash: WireHash, peers: &[SocketAddr]) {
        for at in self.closest(&NodeId::of(hash), 8, |node| {
            node.life.contains(&time) && node.id.fits(node.address.ip())
        }) {
            self.stored.entry((at, hash)).or_default().extend(peers);
        }
    }

    /// Where peers of a torrent are stored, with one of them.
    pub(super) fn has_stored(&self, hash: WireHash, peer: SocketAddr) -> usize {
        self.stored.iter().filter(|((_, other), peers)| *other == hash && peers.contains(&peer)).count()
    }

    /// What a node at this place knows of the way to a target: of the part of the space that the target is in, and it is not, eight; all if they
    /// are few. Nodes that have gone are known for a quarter of an hour, and those that were never there for ever.
    fn known(&mut self, time: Duration, at: usize, target: &NodeId) -> Vec<(NodeId, SocketAddr)> {
        const REMEMBERED: Duration = Duration::from_secs(15 * 60);
        let is_known = |node: &Node| {
            node.life.is_empty() || node.life.start <= time && time < node.life.end.saturating_add(REMEMBERED)
        };
        let range = self.subtree(target, self.nodes[at].id.shared_bits(target));
        let chosen: Vec<usize> = if range.len() <= 40 {
            self.closest(target, 8, is_known)
        } else {
            // The same eight as long as they are there, as a table has them.
            let mut rng = Rng::with_seed(at as u64 ^ (range.start as u64) << 32 ^ range.end as u64);
            let draws = std::iter::repeat_with(|| rng.usize(range.clone())).take(200);
            draws.filter(|&at| is_known(&self.nodes[at])).take(8).collect()
        };
        chosen.into_iter().map(|at| (self.nodes[at].id, self.nodes[at].address)).collect()
    }

    /// What a liar names.
    fn lies(
        &mut self,
        time: Duration,
        lie: Lie,
        at: usize,
        target: &NodeId,
        asker: NodeId,
    ) -> Vec<(NodeId, SocketAddr)> {
        let rng = &mut self.rng;
        let node = &self.nodes[at];
        let near = |rng: &mut Rng| target.near(100 + rng.usize(..50), random_id(rng));
        match lie {
            Lie::ClaimsYourId => (0..8).map(|_| (asker, outer(rng))).collect(),
            Lie::OneAddress => {
                let address = outer(rng);
                (0..8).map(|_| (near(rng), address)).collect()
            }
            Lie::UnfitIds => {
                (0..8).map(|_| (near(rng), self.nodes[rng.usize(..self.nodes.len())].address)).collect()
            }
            Lie::OneSubnet => (0..8)
                .map(|_| {
                    let address = ring(rng.u8(1..255));
                    // The best of many tries that fits.
                    let tries = (0..200).map(|_| near(rng).bound_to(address.ip()));
                    let best = tries.min_by_key(|id| id.distance(target));
                    (best.unwrap_or(*target), address)
                })
                .collect(),
            Lie::Nowhere | Lie::ManyNodes => {
                if self.nowhere.is_empty() {
                    let mut some = || {
                        let address = outer(rng);
                        (random_id(rng).bound_to(address.ip()), address)
                    };
                    self.nowhere = (0..100_000).map(|_| some()).collect();
                    self.nowhere.sort();
                }
                let at = self.nowhere.partition_point(|(id, _)| id < target);
                let start = at.saturating_sub(8).min(self.nowhere.len() - 16);
                // Beyond the bits that follow from the address the ids are as close as they like.
                let close = |(id, address): &(NodeId, SocketAddr)| {
                    let mut close = near(rng);
                    close.0[..3].copy_from_slice(&id.0[..3]);
                    close.0[19] = id.0[19];
                    (close, *address)
                };
                let known: Vec<_> = self.nowhere[start..start + 16].iter().map(close).collect();
                let many = if lie == Lie::ManyNodes { 2000 } else { 0 };
                let mut nodes = known.clone();
                nodes.extend((0..many).map(|_| (near(rng), outer(rng))));
                nodes
            }
            Lie::Itself => {
                (0..8).map(|_| (near(rng), node.address)).chain([(node.id, node.address)]).collect()
            }
            Lie::ManyPeers | Lie::WrongTransaction | Lie::WrongAddress => self.known(time, at, target),
        }
    }

    /// A packet comes to a node; what is sent, by whom and to whom.
    pub(super) fn receive(
        &mut self,
        time: Duration,
        to: SocketAddr,
        from: SocketAddr,
        data: &[u8],
    ) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let is_of_ring = to.ip() == ring(0).ip()
            || matches!((to.ip(), ring(1).ip()), (std::net::IpAddr::V4(one), std::net::IpAddr::V4(other)) if one.octets()[..3] == other.octets()[..3]);
        let at = self.by_address.get(&to).copied().filter(|&at| self.nodes[at].life.contains(&time));
        let Some(at) = at.or(is_of_ring.then_some(0)) else { return Vec::new() };
        let Some(packet) = read_packet(data) else { return Vec::new() };
        let Body::Query(query) = packet.body else { return Vec::new() };
        let lie = if is_of_ring { Some(Lie::OneSubnet) } else { self.nodes[at].lie };
        let mut values = Vec::new();
        let target = match query.method {
            Method::FindNode { target } => Some(target),
            Method::GetPeers { hash, .. } => {
                values.extend(self.stored.get(&(at, hash)).into_iter().flatten().copied());
                if lie == Some(Lie::ManyPeers) {
                    values.extend((0..3000).map(|_| outer(&mut self.rng)));
                }
                Some(NodeId::of(hash))
            }
            Method::AnnouncePeer { hash, port, token, .. } => {
                if token == token_of(at) && lie.is_none() {
                    let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
                    self.stored.entry((at, hash)).or_default().insert(peer);
                }
                None
            }
            Method::Ping | Method::Get { .. } | Method::Put(_) | Method::SampleInfohashes { .. } => None,
        };
        let nodes = target.map(|target| match lie {
            Some(lie) => self.lies(time, lie, at, &target, query.id),
            None => self.known(time, at, &target),
        });
        let id = match lie {
            Some(Lie::ClaimsYourId) => query.id,
            _ if is_of_ring => target.unwrap_or(query.id).bound_to(to.ip()),
            _ => self.nodes[at].id,
        };
        let answerer = if lie == Some(Lie::WrongAddress) { outer(&mut self.rng) } else { to };
        let mut transaction_id = packet.transaction_id.to_vec();
        if lie == Some(Lie::WrongTransaction) {
            transaction_id[0] ^= 1;
        }
        let token = target.map(|_| token_of(at));
        let mut sent = vec![(answerer, from, response(id, &transaction_id, from, nodes, &values, token))];
        if lie.is_none() && self.rng.u32(..100) < self.curiosity {
            let ask = Ask::FindNode { target: random_id(&mut self.rng), both: false };
            sent.push((to, from, ask.encode(id, b"curi", false)));
        }
        sent
    }
}

fn token_of(at: usize) -> Vec<u8> {
    (at as u32 ^ 0x5555_5555).to_be_bytes().to_vec()
}

/// A member of the ring around whatever is looked for.
fn ring(last: u8) -> SocketAddr {
    SocketAddr::from(([66, 66, 66, last], 6666))
}

/// An address of the world.
pub(super) fn outer(rng: &mut Rng) -> SocketAddr {
    loop {
        let address = SocketAddr::from((rng.u32(..).to_be_bytes(), rng.u16(1024..)));
        if !crate::address::is_inner(address.ip()) {
            return address;
        }
    }
}

pub(super) fn random_id(rng: &mut Rng) -> NodeId {
    NodeId(std::array::from_fn(|_| rng.u8(..)))
}

/// A response as a node of another client might write it.
pub(super) fn response(
    id: NodeId,
    transaction_id: &[u8],
    to: SocketAddr,
    nodes: Option<Vec<(NodeId, SocketAddr)>>,
    values: &[SocketAddr],
    token: Option<Vec<u8>>,
) -> Vec<u8> {
    let compact = |address: SocketAddr| {
        let mut bytes = Vec::new();
        write_address(address, &mut bytes);
        bytes
    };
    let mut encoder = Encoder::new();
    let encoded = encoder.emit_dict(|mut dict| {
        dict.emit_pair_with(b"ip", |value| value.emit_bytes(&compact(to)))?;
        dict.emit_pair_with(b"r", |value| {
            value.emit_dict(|mut dict| {
                dict.emit_pair_with(b"id", |value| value.emit_bytes(&id.0))?;
                if let Some(nodes) = &nodes {
                    let all: Vec<u8> =
                        nodes.iter().flat_map(|(id, at)| [id.0.to_vec(), compact(*at)].concat()).collect();
                    dict.emit_pair_with(b"nodes", |value| value.emit_bytes(&all))?;
                }
                if let Some(token) = &token {
                    dict.emit_pair_with(b"token", |value| value.emit_bytes(token))?;
                }
                if !values.is_empty() {
                    dict.emit_pair_with(b"values", |value| {
                        value.emit_list(|list| {
                            let mut peers = values.iter();
                            peers.try_for_each(|&peer| {
                                list.emit_with(|value| value.emit_bytes(&compact(peer)))
                            })
                        })
                    })?;
                }
                Ok(())
            })
        })?;
        dict.emit_pair_with(b"t", |value| value.emit_bytes(transaction_id))?;
        dict.emit_pair_with(b"y", |value| value.emit_bytes(b"r"))
    });
    encoded.and_then(|()| encoder.get_output()).unwrap()
}
