//! A node that asks, against hand-made answers.

use std::time::Duration;

use super::scripted::response;
use super::*;
use crate::dht::message::{Ask, Body, Method, Query, read_packet};
use crate::filter::IpFilter;

const SECOND: Duration = Duration::from_secs(1);

struct Asking {
    dht: Dht,
    now: Instant,
}

impl Asking {
    fn new(config: DhtConfig) -> Asking {
        let now = Instant::now();
        Asking { dht: Dht::new(now, config, SavedTable::default()), now }
    }

    fn tell(&mut self, input: DhtInput<'_>) -> Vec<DhtOutput> {
        self.dht.handle(self.now, input);
        outputs(&mut self.dht, self.now)
    }

    /// Everybody who is asked answers at once: they know no other nodes, and give a token. Returns all outputs but packets, and all packets.
    fn answer_all(
        &mut self,
        mut outputs: Vec<DhtOutput>,
        values: &[SocketAddr],
    ) -> (Vec<DhtOutput>, Vec<(SocketAddr, Vec<u8>)>) {
        let (mut others, mut sent) = (Vec::new(), Vec::new());
        while !outputs.is_empty() {
            let packets = packets(&outputs);
            others.extend(outputs.into_iter().filter(|output| !matches!(output, DhtOutput::Send { .. })));
            outputs = Vec::new();
            for (to, data) in packets {
                let id = node_at(to);
                let transaction_id = read_packet(&data).unwrap().transaction_id.to_vec();
                let answer =
                    response(id, &transaction_id, local(6881), Some(vec![]), values, Some(b"tok".to_vec()));
                outputs.extend(self.tell(DhtInput::Packet { from: to, data: &answer }));
                sent.push((to, data));
            }
        }
        (others, sent)
    }
}

fn node_at(address: SocketAddr) -> NodeId {
    NodeId::of(hash(u64::from(address.port())))
}

fn query(data: &[u8]) -> Query<'_> {
    match read_packet(data).unwrap().body {
        Body::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

fn announces(sent: &[(SocketAddr, Vec<u8>)]) -> Vec<(Option<u16>, bool)> {
    let announce = |(_, data): &(SocketAddr, Vec<u8>)| match query(data).method {
        Method::AnnouncePeer { port, seed, .. } => Some((port, seed)),
        _ => None,
    };
    sent.iter().filter_map(announce).collect()
}

#[test]
fn the_first_node_that_is_named_is_asked_for_the_torrent_and_not_pinged_first() {
    let mut asking = Asking::new(config(1));
    let first = outputs(&mut asking.dht, asking.now);
    assert_eq!(first, [DhtOutput::Bootstrap]);
    let waiting = asking.tell(DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    assert!(waiting.is_empty());
    let sent = packets(&asking.tell(DhtInput::Node(local(1))));
    assert_eq!(sent.len(), 1);
    assert!(matches!(query(&sent[0].1).method, Method::GetPeers { hash: wanted, .. } if wanted == hash(1)));
    // As is the next, as long as there are few answers.
    let sent = packets(&asking.tell(DhtInput::Node(local(2))));
    assert!(matches!(query(&sent[0].1).method, Method::GetPeers { .. }));
    assert!(asking.tell(DhtInput::Node(local(2))).is_empty(), "it is being asked");
}

#[test]
fn without_bootstrap_nodes_none_are_asked_for() {
    let mut asking = Asking::new(DhtConfig { bootstrap_wanted: false, ..config(1) });
    asking.tell(DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    for _ in 0..5 {
        let due = asking.dht.deadline().unwrap();
        asking.now = due;
        assert!(outputs(&mut asking.dht, due).is_empty());
    }
}

#[test]
fn a_torrent_is_announced_only_when_its_metadata_are_known_and_then_at_once() {
    let mut asking = Asking::new(config(1));
    asking.tell(DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    let first = asking.tell(DhtInput::Node(local(1)));
    let (others, sent) = asking.answer_all(first, &[local(77)]);
    assert!(announces(&sent).is_empty());
    let peers = DhtOutput::Peers { hash: hash(1), peers: vec![local(77)], from: local(1) };
    assert!(others.contains(&peers), "{others:?}");
    assert!(others.contains(&DhtOutput::Started { nodes: 1 }));
    // It is the only one, and is asked once more whether it knows others.
    let looked_up = DhtOutput::LookedUp { hash: hash(1), peers: 1, nodes_asked: 2, took: Duration::ZERO };
    assert!(others.contains(&looked_up));
    let announce = Some(DhtAnnounce { seed: true, implied_port: true, port: None });
    asking.now += SECOND;
    let next = asking.tell(DhtInput::Follow { hash: hash(1), need: DhtNeed { announce, ..FOR_PEERS } });
    let (others, sent) = asking.answer_all(next, &[]);
    assert_eq!(announces(&sent), [(None, true)]);
    assert!(others.contains(&DhtOutput::Announced { hash: hash(1), nodes: 1 }));
}

#[test]
fn a_read_only_node_says_so_and_announces_nothing() {
    let mut asking = Asking::new(DhtConfig { read_only: true, ..config(1) });
    asking.tell(DhtInput::Follow { hash: hash(1), need: ANNOUNCED });
    let first = asking.tell(DhtInput::Node(local(1)));
    let (_, sent) = asking.answer_all(first, &[]);
    assert!(!sent.is_empty() && announces(&sent).is_empty());
    assert!(sent.iter().all(|(_, data)| query(data).read_only));
}

#[test]
fn a_port_that_is_not_mapped_is_told_as_it_is() {
    let mut asking = Asking::new(config(1));
    asking.tell(DhtInput::Follow { hash: hash(1), need: ANNOUNCED });
    let first = asking.tell(DhtInput::Node(local(1)));
    let (_, sent) = asking.answer_all(first, &[]);
    assert_eq!(announces(&sent), [(Some(6881), false)]);
}

#[test]
fn a_look_up_without_answers_is_repeated_right_after_the_first_answer() {
    let mut asking = Asking::new(config(1));
    asking.tell(DhtInput::Follow { hash: hash(1), need: ANNOUNCED });
    asking.tell(DhtInput::Node(local(1)));
    for _ in 0..30 {
        asking.now = asking.dht.deadline().unwrap();
        let said = outputs(&mut asking.dht, asking.now);
        assert!(!said.iter().any(|output| matches!(output, DhtOutput::LookedUp { .. })));
    }
    let answered_at = asking.now;
    let mut said = asking.tell(DhtInput::Node(local(2)));
    let is_looked_up = |output: &DhtOutput| matches!(output, DhtOutput::LookedUp { .. });
    loop {
        let (others, _) = asking.answer_all(said, &[local(77)]);
        if others.iter().any(is_looked_up) {
            break;
        }
        asking.now = asking.dht.deadline().unwrap();
        said = outputs(&mut asking.dht, asking.now);
    }
    assert!(asking.now - answered_at <= 5 * SECOND, "it waits for nobody longer than for an answer");
}

#[test]
fn a_look_up_of_a_torrent_that_is_not_followed_any_more_ends_without_a_word() {
    let mut asking = Asking::new(config(1));
    asking.tell(DhtInput::Follow { hash: hash(1), need: ANNOUNCED });
    let first = asking.tell(DhtInput::Node(local(1)));
    assert!(asking.tell(DhtInput::Unfollow(hash(1))).is_empty());
    let (others, sent) = asking.answer_all(first, &[local(77)]);
    assert!(announces(&sent).is_empty());
    assert!(
        !others.iter().any(|output| matches!(output, DhtOutput::Peers { .. } | DhtOutput::LookedUp { .. }))
    );
    assert_eq!(asking.dht.num_nodes(), 1, "who has answered is known all the same");
}

#[test]
fn the_id_follows_the_address_that_others_see_and_is_kept_with_the_table() {
    let mut asking = Asking::new(config(1));
    let before = asking.dht.id();
    let seen = SocketAddr::from(([5, 6, 7, 8], 6881));
    for subnet in 0..12 {
        let from = SocketAddr::from(([9, 9, subnet, 1], 1));
        let id = NodeId([subnet; 20]).bound_to(from.ip());
        let mut sent = packets(&asking.tell(DhtInput::Node(from)));
        while let Some((to, data)) = sent.pop() {
            let transaction_id = read_packet(&data).unwrap().transaction_id.to_vec();
            let answer = response(id, &transaction_id, seen, None, &[], None);
            sent.extend(packets(&asking.tell(DhtInput::Packet { from: to, data: &answer })));
        }
    }
    let after = asking.dht.id();
    assert!(before != after && after.fits(seen.ip()));
    assert!(asking.dht.num_nodes() >= 10, "the others are still known");
    let saved = SavedTable::decode(&asking.dht.save().encode(), Family::V4);
    let again = Dht::new(asking.now, config(2), saved);
    assert_eq!((again.id(), again.vote.address()), (after, Some(seen.ip())));
    // A port mapping that knows better is believed at once.
    let told = "8.7.6.5".parse().unwrap();
    asking.tell(DhtInput::ExternalAddress { ip: told, from: None });
    assert!(asking.dht.id().fits(told));
}

#[test]
fn nodes_of_the_other_family_are_asked_for_at_the_beginning_and_passed_on() {
    let mut asking = Asking::new(config(1));
    let sent = packets(&asking.tell(DhtInput::Node(local(1))));
    assert_eq!(query(&sent[0].1).want, Some([true, true]));
    let transaction_id = read_packet(&sent[0].1).unwrap().transaction_id.to_vec();
    let mut answer = b"d1:rd2:id20:mnopqrstuvwxyz1234566:nodes638:".to_vec();
    answer.extend([7; 20]);
    answer.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x1a, 0xe1]);
    answer
        .extend([format!("e1:t{}:", transaction_id.len()).as_bytes(), &transaction_id, b"1:y1:re"].concat());
    let said = asking.tell(DhtInput::Packet { from: local(1), data: &answer });
    let node = "[2001:db8::9]:6881".parse().unwrap();
    assert!(said.contains(&DhtOutput::OtherFamily(vec![node])), "{said:?}");
}

#[test]
fn the_machine_of_ipv6_finds_peers_of_ipv6() {
    let mut asking = Asking::new(DhtConfig { family: Family::V6, ..config(1) });
    let node: SocketAddr = "[::1]:1".parse().unwrap();
    let peer: SocketAddr = "[::1]:2".parse().unwrap();
    asking.tell(DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    assert!(asking.tell(DhtInput::Node(local(1))).is_empty(), "that is a node of the other family");
    let sent = packets(&asking.tell(DhtInput::Node(node)));
    let transaction_id = read_packet(&sent[0].1).unwrap().transaction_id.to_vec();
    let answer = response(NodeId([7; 20]), &transaction_id, node, None, &[peer, local(3)], None);
    let said = asking.tell(DhtInput::Packet { from: node, data: &answer });
    assert!(said.contains(&DhtOutput::Peers { hash: hash(1), peers: vec![peer], from: node }), "{said:?}");
}

/// A filter that refuses this address alone.
fn refusing(address: SocketAddr) -> DhtInput<'static> {
    DhtInput::Filter(Some(IpFilter::ranges([address.ip()..=address.ip()])))
}

#[test]
fn who_is_refused_is_neither_asked_whoever_names_them_nor_answered() {
    let mut asking = Asking::new(config(1));
    let refused: SocketAddr = "127.0.0.2:6881".parse().unwrap();
    asking.tell(refusing(refused));
    asking.tell(DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    assert!(packets(&asking.tell(DhtInput::Node(refused))).is_empty(), "somebody says that it is a node");
    let ping = Ask::Ping.encode(node_at(refused), b"aa", false);
    let said = asking.tell(DhtInput::Packet { from: refused, data: &ping });
    assert!(packets(&said).is_empty(), "it asks us");
    // A node that answers names it, and one that may be asked.
    let sent = packets(&asking.tell(DhtInput::Node(local(1))));
    let transaction_id = read_packet(&sent[0].1).unwrap().transaction_id.to_vec();
    let named = vec![(node_at(local(9)), refused), (node_at(local(2)), local(2))];
    let answer = response(node_at(local(1)), &transaction_id, local(6881), Some(named), &[], None);
    let sent = packets(&asking.tell(DhtInput::Packet { from: local(1), data: &answer }));
    assert!(sent.iter().any(|(to, _)| *to == local(2)), "{sent:?}");
    assert!(sent.iter().all(|(to, _)| *to != refused), "{sent:?}");
    for _ in 0..20 {
        asking.now = asking.dht.deadline().unwrap();
        let sent = packets(&outputs(&mut asking.dht, asking.now));
        assert!(sent.iter().all(|(to, _)| *to != refused), "{sent:?}");
    }
}

#[test]
fn who_is_refused_later_loses_the_place_in_the_table_and_hears_no_more() {
    let mut asking = Asking::new(config(1));
    let refused: SocketAddr = "127.0.0.2:6881".parse().unwrap();
    asking.tell(DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    let first = asking.tell(DhtInput::Node(refused));
    asking.answer_all(first, &[]);
    let other = asking.tell(DhtInput::Node(local(1)));
    asking.answer_all(other, &[]);
    assert_eq!(asking.dht.num_nodes(), 2);
    // A query to it is under way, and its answer comes too late.
    asking.tell(DhtInput::Follow { hash: hash(2), need: FOR_PEERS });
    asking.tell(refusing(refused));
    assert_eq!(asking.dht.num_nodes(), 1);
    assert_eq!(asking.dht.save().nodes.len(), 1);
    for _ in 0..50 {
        asking.now = asking.dht.deadline().unwrap();
        let sent = packets(&outputs(&mut asking.dht, asking.now));
        assert!(sent.iter().all(|(to, _)| *to != refused), "{sent:?}");
    }
    // Until what was under way to it has been given up.
    asking.now += 600 * SECOND;
    asking.tell(DhtInput::Filter(None));
    let sent = packets(&asking.tell(DhtInput::Node(refused)));
    assert!(sent.iter().any(|(to, _)| *to == refused), "it is welcome again");
}
