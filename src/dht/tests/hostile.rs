//! What strangers may do to a node, whatever it is.

use std::time::Duration;

use super::scripted::{outer, random_id, response};
use super::*;
use crate::dht::message::{Ask, read_packet};

/// A node that has just asked somebody.
fn asked() -> (Dht, Instant, SocketAddr, Vec<u8>) {
    let now = Instant::now();
    let mut dht = Dht::new(now, config(1), SavedTable::default());
    dht.handle(now, DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    let node = SocketAddr::from(([9, 9, 9, 9], 9));
    dht.handle(now, DhtInput::Node(node));
    let sent = packets(&outputs(&mut dht, now));
    let transaction_id = read_packet(&sent[0].1).unwrap().transaction_id.to_vec();
    (dht, now, node, transaction_id)
}

#[test]
fn an_answer_from_elsewhere_or_to_another_question_or_under_our_id_changes_nothing() {
    let (mut dht, now, node, transaction_id) = asked();
    let id = NodeId([1; 20]).bound_to(node.ip());
    let named = Some(vec![(NodeId([2; 20]), SocketAddr::from(([8, 8, 8, 8], 8)))]);
    let peers = [SocketAddr::from(([7, 7, 7, 7], 7))];
    let answer = |id, transaction_id: &[u8]| response(id, transaction_id, node, named.clone(), &peers, None);
    let own = dht.id();
    let mut other_id = transaction_id.clone();
    other_id[0] ^= 1;
    for (from, data) in [
        (SocketAddr::from(([9, 9, 9, 9], 10)), answer(id, &transaction_id)),
        (SocketAddr::from(([9, 9, 9, 8], 9)), answer(id, &transaction_id)),
        (node, answer(id, &other_id)),
        (node, answer(id, b"")),
        (node, answer(own, &transaction_id)),
        // By then the question has been answered.
        (node, answer(id, &transaction_id)),
    ] {
        dht.handle(now, DhtInput::Packet { from, data: &data });
        let said = outputs(&mut dht, now);
        assert!(!said.iter().any(|output| matches!(output, DhtOutput::Peers { .. })), "{said:?}");
        assert!(packets(&said).is_empty(), "{said:?}");
        assert_eq!(dht.num_nodes(), 0);
    }
}

#[test]
fn what_an_answer_names_is_taken_in_small_numbers() {
    let (mut dht, now, node, transaction_id) = asked();
    let mut rng = Rng::with_seed(1);
    let nodes: Vec<_> = (0..2000).map(|_| (random_id(&mut rng), outer(&mut rng))).collect();
    let peers: Vec<_> = (0..3000).map(|_| outer(&mut rng)).collect();
    let id = NodeId([1; 20]).bound_to(node.ip());
    let data = response(id, &transaction_id, node, Some(nodes), &peers, None);
    dht.handle(now, DhtInput::Packet { from: node, data: &data });
    let said = outputs(&mut dht, now);
    let named: usize = said
        .iter()
        .map(|output| if let DhtOutput::Peers { peers, .. } = output { peers.len() } else { 0 })
        .sum();
    assert_eq!(named, 100);
    assert!(packets(&said).len() <= 16);
}

#[test]
fn a_storm_of_packets_and_inputs_costs_bounded_work_and_breaks_nothing() {
    for seed in 0..8 {
        let mut rng = Rng::with_seed(seed);
        let start = Instant::now();
        let mut now = start;
        let family = if seed % 2 == 0 { Family::V4 } else { Family::V6 };
        let mut dht = Dht::new(now, DhtConfig { family, ..config(seed) }, SavedTable::default());
        let mut asked: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        let (mut bytes_in, mut bytes_out) = (0usize, 0usize);
        for _ in 0..6000 {
            let address = some_address(&mut rng, family);
            let torrent = hash(rng.u64(..40));
            match rng.u32(..12) {
                0 => dht.handle(now, DhtInput::Node(address)),
                1 => {
                    let need = if rng.bool() { FOR_PEERS } else { ANNOUNCED };
                    dht.handle(now, DhtInput::Follow { hash: torrent, need });
                }
                2 => dht.handle(now, DhtInput::Unfollow(torrent)),
                3 => {
                    let from = rng.bool().then_some(address);
                    dht.handle(
                        now,
                        DhtInput::ExternalAddress { ip: some_address(&mut rng, family).ip(), from },
                    );
                }
                4..=7 if !asked.is_empty() => {
                    let (from, query) = asked.swap_remove(rng.usize(..asked.len()));
                    let transaction_id = read_packet(&query).unwrap().transaction_id.to_vec();
                    let nodes =
                        (0..rng.usize(..40)).map(|_| (random_id(&mut rng), some_address(&mut rng, family)));
                    let nodes: Vec<_> = nodes.collect();
                    let peers: Vec<_> =
                        (0..rng.usize(..200)).map(|_| some_address(&mut rng, family)).collect();
                    let token = rng.bool().then(|| vec![7; rng.usize(..100)]);
                    let id = if rng.u8(..8) == 0 { dht.id() } else { random_id(&mut rng) };
                    let mut data = response(id, &transaction_id, from, Some(nodes), &peers, token);
                    if rng.u8(..10) == 0 {
                        let at = rng.usize(..data.len());
                        data[at] ^= 1 << rng.u8(..8);
                    }
                    dht.handle(now, DhtInput::Packet { from, data: &data });
                }
                8..=9 => {
                    let ask = match rng.u32(..3) {
                        0 => Ask::Ping,
                        1 => Ask::FindNode { target: random_id(&mut rng), both: rng.bool() },
                        _ => Ask::GetPeers { hash: torrent },
                    };
                    let data = ask.encode(random_id(&mut rng), b"abcd", rng.bool());
                    bytes_in += data.len();
                    dht.handle(now, DhtInput::Packet { from: address, data: &data });
                }
                _ => now += Duration::from_millis(rng.u64(..3000)),
            }
            for output in outputs(&mut dht, now) {
                if let DhtOutput::Send { to, data } = output {
                    assert!(data.len() <= 1400 && to.port() != 0, "seed {seed}");
                    bytes_out += data.len();
                    if asked.len() < 200
                        && read_packet(&data).is_some_and(|packet| packet.transaction_id.len() == 4)
                    {
                        asked.push((to, data));
                    }
                }
            }
            assert!(
                dht.deadline().is_none_or(|at| at > now),
                "seed {seed}: it wants to be called at once, for nothing"
            );
            assert!(dht.lookups.len() <= 16 && dht.num_nodes() <= 160 * 8, "seed {seed}");
        }
        let seconds = (now - start).as_secs() as usize;
        let allowed = (QUERY_BURST + QUERY_RATE * seconds as u64) as usize
            + 2 * bytes_in
            + (1 << 20) * (1 + seconds / 60);
        assert!(bytes_out <= allowed, "seed {seed}: {bytes_out} bytes in {seconds} s");
        let saved = SavedTable::decode(&dht.save().encode(), family);
        assert_eq!(saved, dht.save(), "seed {seed}");
    }
}

fn some_address(rng: &mut Rng, family: Family) -> SocketAddr {
    let port = if rng.u8(..20) == 0 { 0 } else { rng.u16(..) };
    match (family, rng.u8(..4)) {
        (Family::V4, 0) => SocketAddr::from(([127, 0, 0, 1], port)),
        (Family::V4, 1) => SocketAddr::from(([66, 66, 66, rng.u8(..)], port)),
        (Family::V4, _) => SocketAddr::from((rng.u32(..).to_be_bytes(), port)),
        (Family::V6, 0) => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)),
        (Family::V6, _) => SocketAddr::from((std::net::Ipv6Addr::from_bits(rng.u128(..)), port)),
    }
}
