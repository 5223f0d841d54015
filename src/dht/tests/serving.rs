//! A node that is asked, by hand-made packets.

use std::time::Duration;

use super::*;
use crate::bencode::{Value, decode};
use crate::dht::message::{Ask, Body, read_packet};

const ME: NodeId = NodeId([0x11; 20]);

struct Served {
    dht: Dht,
    now: Instant,
}

impl Served {
    fn new() -> Served {
        let now = Instant::now();
        let config = DhtConfig { bootstrap_wanted: false, ..config(1) };
        Served { dht: Dht::new(now, config, SavedTable::default()), now }
    }

    /// What the node sends to the asker: answers, then queries of its own.
    fn send(&mut self, from: SocketAddr, data: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        self.dht.handle(self.now, DhtInput::Packet { from, data });
        let sent = packets(&outputs(&mut self.dht, self.now));
        assert!(sent.iter().all(|(to, _)| *to == from));
        let is_query = |data: &Vec<u8>| matches!(read_packet(data).unwrap().body, Body::Query(_));
        let (queries, answers) = sent.into_iter().map(|(_, data)| data).partition(is_query);
        (answers, queries)
    }

    fn answer(&mut self, from: SocketAddr, data: &[u8]) -> Vec<u8> {
        let (answers, _) = self.send(from, data);
        assert_eq!(answers.len(), 1, "{}", data.escape_ascii());
        answers.into_iter().next().unwrap()
    }

    fn code(&mut self, from: SocketAddr, data: &[u8]) -> i64 {
        let answer = self.answer(from, data);
        let answer = decode(&answer).unwrap();
        assert_eq!(answer.get(b"y").unwrap().as_bytes(), Some(&b"e"[..]));
        answer.get(b"e").unwrap().as_list().unwrap().next().unwrap().as_int().unwrap()
    }

    /// A node that answers pings, and so is in the table and known to be where it is.
    fn befriend(&mut self, from: SocketAddr, id: NodeId) {
        let ask = Ask::FindNode { target: id, both: false }.encode(id, b"aa", false);
        let (_, queries) = self.send(from, &ask);
        for query in queries {
            let query = read_packet(&query).unwrap();
            let answer = super::scripted::response(id, query.transaction_id, from, None, &[], None);
            self.send(from, &answer);
        }
    }

    fn token(&mut self, from: SocketAddr) -> Vec<u8> {
        let answer = self.answer(from, &Ask::GetPeers { hash: hash(1) }.encode(ME, b"aa", true));
        result(&answer, b"token").as_bytes().unwrap().to_vec()
    }
}

fn result<'a>(answer: &'a [u8], key: &[u8]) -> Value<'a> {
    decode(answer).unwrap().get(b"r").unwrap().get(key).unwrap()
}

fn query(method: &str, arguments: &[u8]) -> Vec<u8> {
    let head = [b"d1:ad2:id20:".as_slice(), &ME.0].concat();
    [&head, arguments, format!("e1:q{}:{method}2:roi1e1:t2:aa1:y1:qe", method.len()).as_bytes()].concat()
}

fn get_peers(hash: WireHash) -> Vec<u8> {
    query("get_peers", &[b"9:info_hash20:".as_slice(), &hash.0].concat())
}

fn announce(hash: WireHash, port: u16, token: &[u8]) -> Vec<u8> {
    Ask::AnnouncePeer { hash, port, implied_port: false, seed: false, token }.encode(ME, b"aa", true)
}

fn outer(last: u8) -> SocketAddr {
    SocketAddr::from(([9, 9, last, 9], 999))
}

#[test]
fn transaction_ids_of_any_length_up_to_64_are_echoed() {
    let mut served = Served::new();
    for length in 0..=64u8 {
        let transaction_id = vec![b'x'; usize::from(length)];
        let ping = Ask::Ping.encode(ME, &transaction_id, true);
        let answer = served.answer(outer(length), &ping);
        assert_eq!(read_packet(&answer).unwrap().transaction_id, transaction_id);
        let own = served.dht.id();
        assert!(matches!(read_packet(&answer).unwrap().body, Body::Response(response) if response.id == own));
    }
    assert_eq!(served.send(outer(99), &Ask::Ping.encode(ME, &[b'x'; 65], true)), (vec![], vec![]));
}

#[test]
fn what_is_announced_with_a_token_is_told_to_others() {
    let mut served = Served::new();
    let token = served.token(outer(1));
    served.answer(outer(1), &announce(hash(1), 4000, &token));
    assert_eq!(served.code(outer(2), &announce(hash(1), 4000, &token)), 203, "it is bound to the address");
    assert_eq!(served.code(outer(1), &announce(hash(1), 4000, b"")), 203);
    assert_eq!(served.code(outer(1), &announce(hash(1), 0, &token)), 203);
    let answer = served.answer(outer(3), &get_peers(hash(1)));
    let values: Vec<_> = result(&answer, b"values").as_list().unwrap().collect();
    assert_eq!(values.len(), 1);
    assert_eq!(values[0].as_bytes(), Some(&[9, 9, 1, 9, 0x0f, 0xa0][..]));
    let answer = served.answer(outer(3), &get_peers(hash(2)));
    assert!(decode(&answer).unwrap().get(b"r").unwrap().get(b"values").is_none());
    assert_eq!(decode(&answer).unwrap().get(b"ip").unwrap().as_bytes(), Some(&[9, 9, 3, 9, 0x03, 0xe7][..]));
}

#[test]
fn a_token_is_good_for_five_minutes_at_least_and_ten_at_most() {
    let mut served = Served::new();
    let mut token = served.token(outer(1));
    for (minutes, is_good) in [(5, true), (10, true), (11, false), (60, false)] {
        served.now += Duration::from_secs(minutes * 60) - Duration::from_secs(1);
        let (answers, _) = served.send(outer(1), &announce(hash(1), 4000, &token));
        let is_taken = matches!(read_packet(&answers[0]).unwrap().body, Body::Response(_));
        assert_eq!(is_taken, is_good, "after {minutes} minutes");
        served.now += Duration::from_secs(1);
        token = served.token(outer(1));
    }
}

#[test]
fn unknown_queries_are_204_and_malformed_ones_203() {
    let mut served = Served::new();
    assert_eq!(served.code(outer(1), &query("vote", b"")), 204);
    assert_eq!(served.code(outer(1), &query("find_node", b"6:target3:abc")), 203);
    assert_eq!(served.code(outer(1), &query("get_peers", b"")), 203);
    assert_eq!(served.send(outer(1), b"d1:eli201e1:xe1:t2:aa1:y1:ee"), (vec![], vec![]));
    assert_eq!(served.send(outer(1), b"nonsense"), (vec![], vec![]));
}

#[test]
fn who_has_not_shown_that_the_address_is_theirs_gets_no_more_than_twice_what_they_sent() {
    let mut served = Served::new();
    for last in 1..=40 {
        served.befriend(local(1000 + last), NodeId([last as u8; 20]));
    }
    assert!(served.dht.num_nodes() >= 8);
    let token = served.token(outer(200));
    (1..=60).for_each(|last| {
        let from = outer(last);
        let token = served.token(from);
        served.answer(from, &announce(hash(1), 4000, &token));
    });
    let fresh = |method: &str, arguments: &[u8]| {
        let whole = query(method, arguments);
        // Not read-only: then they are also asked who they are.
        String::from_utf8_lossy(&whole).find("2:roi1e").map(|_| ()).expect("it is there");
        let at = whole.windows(7).position(|window| window == b"2:roi1e").unwrap();
        [&whole[..at], &whole[at + 7..]].concat()
    };
    let target = [b"6:target20:".as_slice(), &[0x40; 20]].concat();
    let info_hash = [b"9:info_hash20:".as_slice(), &hash(1).0].concat();
    let scrape = [&info_hash[..], b"6:scrapei1e"].concat();
    for (at, (method, arguments)) in [
        ("ping", &b""[..]),
        ("find_node", &target),
        ("get_peers", &info_hash),
        ("get_peers", &scrape),
        ("get", &target),
        ("sample_infohashes", &target),
        ("nonsense", b""),
        ("get", b""),
    ]
    .into_iter()
    .enumerate()
    {
        for packet in [fresh(method, arguments), query(method, arguments)] {
            let (answers, queries) = served.send(outer(100 + at as u8), &packet);
            let sent: usize = answers.iter().chain(&queries).map(Vec::len).sum();
            assert!(sent > 0 && sent <= 2 * packet.len(), "{method}: {sent} for {}", packet.len());
        }
    }
    // With a token it is shown, and then there is room for all.
    let from = outer(200);
    served.answer(from, &announce(hash(2), 4000, &token));
    let answer = served.answer(from, &query("get_peers", &scrape));
    assert!(answer.len() <= 1400);
    assert_eq!(result(&answer, b"nodes").as_bytes().unwrap().len(), 8 * 26);
    assert_eq!(result(&answer, b"BFpe").as_bytes().unwrap().len(), 256);
    assert!(result(&answer, b"values").as_list().unwrap().count() >= 40);
}

#[test]
fn an_address_gets_ten_answers_in_a_second() {
    let mut served = Served::new();
    let ping = query("ping", b"");
    let answered = (0..50).filter(|_| !served.send(outer(1), &ping).0.is_empty()).count();
    assert_eq!(answered, 10);
    served.now += Duration::from_secs(1);
    assert!(!served.send(outer(1), &ping).0.is_empty());
}

#[test]
fn a_read_only_node_answers_nothing_and_one_that_asks_never_enters_the_table() {
    let mut served = Served::new();
    let ask = |read_only| Ask::FindNode { target: ME, both: false }.encode(ME, b"aa", read_only);
    let (answers, queries) = served.send(outer(1), &ask(true));
    assert_eq!((answers.len(), queries.len()), (1, 0));
    let (answers, queries) = served.send(outer(1), &ask(false));
    assert_eq!((answers.len(), queries.len()), (1, 1), "it is asked whether it is there");
    assert_eq!(queries[0].len(), crate::dht::incoming::PING_LENGTH);
    served.dht.config.read_only = true;
    for packet in [ask(false), query("ping", b""), query("nonsense", b"")] {
        assert_eq!(served.send(outer(2), &packet), (vec![], vec![]));
    }
}

#[test]
fn nodes_of_both_families_are_named_to_those_who_want_both() {
    let mut served = Served::new();
    (1..=8).for_each(|last| served.befriend(local(last), NodeId([last as u8; 20])));
    let others: Vec<(NodeId, SocketAddr)> = (0..20)
        .map(|at| (NodeId([at as u8; 20]), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, at], 1))))
        .collect();
    served.dht.handle(served.now, DhtInput::OtherFamilyNodes(&others));
    let from = local(1);
    let target = [b"6:target20:".as_slice(), &[3; 20]].concat();
    let lengths = |served: &mut Served, want: &[u8]| {
        let answer = served.answer(from, &query("find_node", &[&target, want].concat()));
        let answer = decode(&answer).unwrap().get(b"r").unwrap();
        [b"nodes".as_slice(), b"nodes6"]
            .map(|key| answer.get(key).map(|nodes| nodes.as_bytes().unwrap().len()))
    };
    assert_eq!(lengths(&mut served, b""), [Some(7 * 26), None], "the asker is not told of itself");
    assert_eq!(lengths(&mut served, b"4:wantl2:n4e"), [Some(7 * 26), None]);
    assert_eq!(lengths(&mut served, b"4:wantl2:n62:xye"), [None, Some(8 * 38)]);
    assert_eq!(lengths(&mut served, b"4:wantl2:n42:n6e"), [Some(7 * 26), Some(8 * 38)]);
}

#[test]
fn items_are_stored_and_given_to_who_asks() {
    let mut served = Served::new();
    let from = outer(1);
    let token = served.token(from);
    let put = |token: &[u8]| {
        let token = [format!("5:token{}:", token.len()).as_bytes(), token].concat();
        query("put", &[&token[..], b"1:v12:Hello World!"].concat())
    };
    assert_eq!(served.code(from, &put(b"wrong")), 203);
    served.answer(from, &put(&token));
    let target = crate::hash::sha1(b"12:Hello World!").0;
    let get = query("get", &[b"6:target20:".as_slice(), &target].concat());
    let answer = served.answer(from, &get);
    assert_eq!(result(&answer, b"v").as_bytes(), Some(&b"Hello World!"[..]));
    assert_eq!(result(&answer, b"token").as_bytes(), Some(&token[..]));
    assert!(result(&answer, b"nodes").as_bytes().is_some());
}

#[test]
fn a_sample_of_the_torrents_is_told() {
    let mut served = Served::new();
    let token = served.token(outer(1));
    (0..8).for_each(|number| {
        served.answer(outer(1), &announce(hash(number), 4000, &token));
    });
    let target = [b"6:target20:".as_slice(), &[3; 20]].concat();
    served.now += Duration::from_secs(1);
    let answer = served.answer(outer(1), &query("sample_infohashes", &target));
    assert_eq!(result(&answer, b"samples").as_bytes().unwrap().len(), 8 * 20);
    assert_eq!(result(&answer, b"num").as_int(), Some(8));
    assert_eq!(result(&answer, b"interval").as_int(), Some(300));
}

#[test]
fn who_announces_a_torrent_that_we_follow_is_called_at_once() {
    let mut served = Served::new();
    let token = served.token(outer(1));
    served.answer(outer(1), &announce(hash(1), 4000, &token));
    served.dht.handle(served.now, DhtInput::Follow { hash: hash(1), need: FOR_PEERS });
    let peers = |outputs: Vec<DhtOutput>| {
        let peers = outputs.into_iter().filter_map(|output| match output {
            DhtOutput::Peers { peers, .. } => Some(peers),
            _ => None,
        });
        peers.flatten().collect::<Vec<_>>()
    };
    assert_eq!(peers(outputs(&mut served.dht, served.now)), [SocketAddr::new(outer(1).ip(), 4000)]);
    let data = announce(hash(1), 5000, &token);
    served.dht.handle(served.now, DhtInput::Packet { from: outer(1), data: &data });
    assert_eq!(peers(outputs(&mut served.dht, served.now)), [SocketAddr::new(outer(1).ip(), 5000)]);
}
