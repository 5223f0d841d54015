//! Answers to the queries of others, cut to the size that they may have.

use std::net::SocketAddr;

use bendy::encoding::{Encoder, Error, SingleItemEncoder};

use super::api::write_node;
use super::items::Item;
use super::message::{Refusal, finish, write_canonical};
use super::node_id::NodeId;
use super::store::{BloomFilter, Sample};
use crate::bencode;
use crate::compact::write_address;
use crate::ids::WireHash;

/// Peers in an answer.
pub(super) const MAX_VALUES: usize = 100;

/// What an answer says besides our id. What there is no room for is left out, see [`Reply::encode`].
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) token: Option<[u8; 8]>,
    /// Nodes of IPv4 and of IPv6, closest first; `None`: not asked for.
    pub(super) nodes: [Option<Vec<(NodeId, SocketAddr)>>; 2],
    pub(super) values: Vec<SocketAddr>,
    /// Seeds and other peers, counted (BEP 33).
    pub(super) filters: Option<[BloomFilter; 2]>,
    pub(super) item: Option<Item>,
    /// Of the item only the sequence number is told: the asker has its value.
    pub(super) is_value_known: bool,
    pub(super) sample: Option<Sample>,
}

impl Reply {
    /// The packet, of at most `limit` bytes; `None` if not even our id fits. There is no room for all: then nodes of the other family go
    /// first, then part of the sample or of the peers, the farthest nodes, the rest of the peers, the filters, the item, the token.
    pub(super) fn encode(
        mut self,
        own: NodeId,
        transaction_id: &[u8],
        to: SocketAddr,
        limit: usize,
    ) -> Option<Vec<u8>> {
        self.values.truncate(MAX_VALUES);
        loop {
            let packet = self.encode_whole(own, transaction_id, to);
            match packet.len().checked_sub(limit) {
                None | Some(0) => return Some(packet),
                Some(excess) => self.shrink(excess, limit, to.is_ipv6()).then_some(())?,
            }
        }
    }

    /// Leaves something out, about so many bytes of it; `false` if nothing is left that could be.
    fn shrink(&mut self, excess: usize, limit: usize, is_v6: bool) -> bool {
        let [of_own, of_other] = match &mut self.nodes {
            [four, six] if is_v6 => [six, four],
            [four, six] => [four, six],
        };
        let (value_length, node_length) = if is_v6 { (21, 38) } else { (8, 26) };
        let enough_values = limit / 3 / value_length;
        let cut = |length: usize, least: usize, each: usize| {
            length.saturating_sub(excess.div_ceil(each)).max(least)
        };
        let hashes =
            self.sample.as_mut().map(|sample| &mut sample.hashes).filter(|hashes| !hashes.is_empty());
        if of_other.as_ref().is_some_and(|nodes| !nodes.is_empty()) {
            *of_other = Some(Vec::new());
        } else if let Some(hashes) = hashes {
            hashes.truncate(cut(hashes.len(), 0, NodeId::LENGTH));
        } else if self.values.len() > enough_values {
            self.values.truncate(cut(self.values.len(), enough_values, value_length));
        } else if let Some(nodes) = of_own.as_mut().filter(|nodes| !nodes.is_empty()) {
            nodes.truncate(cut(nodes.len(), 0, node_length));
        } else if !self.values.is_empty() {
            self.values.truncate(cut(self.values.len(), 0, value_length));
        } else if self.filters.is_some() {
            self.filters = None;
        } else if self.item.is_some() {
            self.item = None;
        } else if self.token.is_some() {
            self.token = None;
        } else {
            return false;
        }
        true
    }

    fn encode_whole(&self, own: NodeId, transaction_id: &[u8], to: SocketAddr) -> Vec<u8> {
        let mut encoder = Encoder::new();
        let encoded = encoder.emit_dict(|mut dict| {
            dict.emit_pair_with(b"ip", |value| value.emit_bytes(&compact([to])))?;
            dict.emit_pair_with(b"r", |value| self.encode_values(own, value))?;
            dict.emit_pair_with(b"t", |value| value.emit_bytes(transaction_id))?;
            dict.emit_pair_with(b"y", |value| value.emit_bytes(b"r"))
        });
        finish(encoder, encoded)
    }

    fn encode_values(&self, own: NodeId, encoder: SingleItemEncoder<'_>) -> Result<(), Error> {
        let proof = self.item.as_ref().and_then(|item| item.proof.as_ref());
        let shown = self.item.as_ref().filter(|_| !self.is_value_known);
        encoder.emit_dict(|mut dict| {
            if let Some([seeds, others]) = &self.filters {
                dict.emit_pair_with(b"BFpe", |value| value.emit_bytes(&others.0))?;
                dict.emit_pair_with(b"BFsd", |value| value.emit_bytes(&seeds.0))?;
            }
            dict.emit_pair_with(b"id", |value| value.emit_bytes(&own.0))?;
            if let Some(sample) = &self.sample {
                dict.emit_pair(b"interval", sample.interval.as_secs())?;
            }
            if let Some(proof) = proof.filter(|_| shown.is_some()) {
                dict.emit_pair_with(b"k", |value| value.emit_bytes(&proof.key))?;
            }
            let keys: [&[u8]; 2] = [b"nodes", b"nodes6"];
            for (key, nodes) in keys.into_iter().zip(&self.nodes) {
                if let Some(nodes) = nodes {
                    dict.emit_pair_with(key, |value| value.emit_bytes(&compact_nodes(nodes)))?;
                }
            }
            if let Some(sample) = &self.sample {
                dict.emit_pair(b"num", sample.total)?;
                let hashes: Vec<u8> = sample.hashes.iter().flat_map(|WireHash(hash)| *hash).collect();
                dict.emit_pair_with(b"samples", |value| value.emit_bytes(&hashes))?;
            }
            if let Some(proof) = proof {
                dict.emit_pair(b"seq", proof.seq)?;
                if shown.is_some() {
                    dict.emit_pair_with(b"sig", |value| value.emit_bytes(&proof.signature))?;
                }
            }
            if let Some(token) = &self.token {
                dict.emit_pair_with(b"token", |value| value.emit_bytes(token))?;
            }
            // What is stored has been checked, so it can be read.
            if let Some(value) = shown.and_then(|item| bencode::decode(&item.value).ok()) {
                dict.emit_pair_with(b"v", |encoder| write_canonical(value, encoder))?;
            }
            if !self.values.is_empty() {
                dict.emit_pair_with(b"values", |list| {
                    list.emit_list(|list| {
                        let mut peers = self.values.iter();
                        peers.try_for_each(|&peer| list.emit_with(|value| value.emit_bytes(&compact([peer]))))
                    })
                })?;
            }
            Ok(())
        })
    }
}

/// The packet that refuses a query, of at most `limit` bytes; `None` if it has more.
pub(super) fn encode_refusal(refusal: Refusal, transaction_id: &[u8], limit: usize) -> Option<Vec<u8>> {
    let encode = |reason: &str| {
        let mut encoder = Encoder::new();
        let encoded = encoder.emit_dict(|mut dict| {
            dict.emit_pair_with(b"e", |value| {
                value.emit_list(|list| {
                    list.emit_int(refusal.code)?;
                    list.emit_str(reason)
                })
            })?;
            dict.emit_pair_with(b"t", |value| value.emit_bytes(transaction_id))?;
            dict.emit_pair_with(b"y", |value| value.emit_bytes(b"e"))
        });
        Some(finish(encoder, encoded)).filter(|packet| packet.len() <= limit)
    };
    encode(refusal.reason).or_else(|| encode(""))
}

fn compact(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<u8> {
    let mut bytes = Vec::new();
    addresses.into_iter().for_each(|address| write_address(address, &mut bytes));
    bytes
}

fn compact_nodes(nodes: &[(NodeId, SocketAddr)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    nodes.iter().for_each(|node| write_node(node, &mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::Family;
    use crate::dht::message::{Body, read_packet};
    use proptest::prelude::*;
    use std::time::Duration;

    fn address(family: Family, number: usize) -> SocketAddr {
        let port = 1 + number as u16;
        match family {
            Family::V4 => SocketAddr::from(([9, 9, 9, 9], port)),
            Family::V6 => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port)),
        }
    }

    fn nodes(family: Family) -> Vec<(NodeId, SocketAddr)> {
        (0..8).map(|number| (NodeId([number; 20]), address(family, usize::from(number)))).collect()
    }

    proptest! {
        #[test]
        fn a_reply_is_never_too_long_and_can_be_read(
            limit in 0..1500usize,
            values in 0..300usize,
            v6: bool,
            both: bool,
            filters: bool,
            samples in prop::option::of(0..60usize),
            transaction_id in prop::collection::vec(any::<u8>(), 0..=64),
        ) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let wanted = |other: Family| (both || other == family).then(|| nodes(other));
            let reply = Reply {
                token: Some([7; 8]),
                nodes: [wanted(Family::V4), wanted(Family::V6)],
                values: (0..values).map(|number| address(family, number)).collect(),
                filters: filters.then_some([BloomFilter([1; 256]), BloomFilter([2; 256])]),
                sample: samples.map(|number| Sample {
                    hashes: vec![WireHash([3; 20]); number],
                    total: 100,
                    interval: Duration::from_secs(9),
                }),
                ..Reply::default()
            };
            match reply.encode(NodeId([1; 20]), &transaction_id, address(family, 0), limit) {
                None => prop_assert!(limit < 60 + transaction_id.len() + 200, "{limit}"),
                Some(packet) => {
                    prop_assert!(packet.len() <= limit);
                    let read = read_packet(&packet).unwrap();
                    prop_assert_eq!(read.transaction_id, &transaction_id[..]);
                    let Body::Response(response) = read.body else { panic!() };
                    if limit >= 1400 && !filters && samples.is_none() {
                        prop_assert_eq!(response.nodes(family).count(), 8);
                        prop_assert!(response.values(family).count() >= values.min(20));
                    }
                }
            }
        }
    }

    #[test]
    fn a_refusal_loses_its_words_before_it_is_left_out() {
        let encode = |limit| encode_refusal(Refusal::UNKNOWN_METHOD, b"aa", limit);
        assert_eq!(encode(100).unwrap(), b"d1:eli204e14:unknown methode1:t2:aa1:y1:ee");
        assert_eq!(encode(30).unwrap(), b"d1:eli204e0:e1:t2:aa1:y1:ee");
        assert_eq!(encode(20), None);
    }
}
