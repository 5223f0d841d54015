//! What peers and strangers send who want no good.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::flow::{Flow, run};
use super::net::{Net, Wire};
use super::{ms, seconds};
use crate::utp::half_open::MAX_HALF_OPEN;
use crate::utp::{Header, Packet, PacketKind, UtpEndpoint, UtpKey};

fn header(kind: PacketKind, connection_id: u16, seq_nr: u16, ack_nr: u16) -> Header {
    Header { kind, connection_id, timestamp: 1, timestamp_difference: 0, wnd_size: 1 << 20, seq_nr, ack_nr }
}

fn bytes(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.encode_into(&[], &mut bytes);
    [&bytes, payload].concat()
}

fn stranger(number: u32) -> SocketAddr {
    SocketAddr::from((number.to_be_bytes(), 6881))
}

/// All that it sends now: to whom, and what.
fn sent(endpoint: &mut UtpEndpoint, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let mut out = Vec::new();
        let Some(packet) = endpoint.poll_packet(now, &mut out) else { return all };
        all.push((packet.to, out));
    }
}

/// Makes a connection with a caller that has the number 7; gives it, and the number of the first packet that it expects.
fn connected(endpoint: &mut UtpEndpoint, now: Instant, from: SocketAddr) -> (UtpKey, u16) {
    endpoint.on_datagram(now, from, &bytes(header(PacketKind::Syn, 7, 100, 0), &[]));
    let answer = sent(endpoint, now).remove(0).1;
    let ours = Packet::decode(&answer).unwrap().header.seq_nr;
    endpoint.on_datagram(now, from, &bytes(header(PacketKind::Data, 8, 101, ours.wrapping_sub(1)), b"hello"));
    (endpoint.accept().unwrap().0, ours)
}

#[test]
fn a_flood_of_syns_costs_bounded_memory_and_never_more_bytes_than_it_brings() {
    let (start, mut endpoint) = (Instant::now(), UtpEndpoint::new(Instant::now(), 1));
    let (mut brought, mut answered) = (0, 0);
    for number in 0..100_000u32 {
        let now = start + Duration::from_micros(u64::from(number) * 10);
        let syn = bytes(header(PacketKind::Syn, number as u16, 1, 0), &[]);
        brought += syn.len();
        endpoint.on_datagram(now, stranger(number), &syn);
        answered += sent(&mut endpoint, now).iter().map(|(_, data)| data.len()).sum::<usize>();
        assert!(endpoint.num_half_open() <= MAX_HALF_OPEN);
    }
    assert!(answered <= brought / 10, "{answered} of {brought}");
    assert_eq!(endpoint.accept(), None, "nobody has confirmed");
    assert!(sent(&mut endpoint, start + seconds(100)).is_empty(), "nothing is sent again to strangers");
}

#[test]
fn who_confirms_in_masses_gets_no_more_connections_than_there_may_be() {
    let (now, mut endpoint) = (Instant::now(), UtpEndpoint::new(Instant::now(), 1));
    for number in 0..3000 {
        let from = stranger(number);
        endpoint.on_datagram(now, from, &bytes(header(PacketKind::Syn, 7, 100, 0), &[]));
        for (_, answer) in sent(&mut endpoint, now) {
            let ack_nr = Packet::decode(&answer).unwrap().header.seq_nr.wrapping_sub(1);
            endpoint.on_datagram(now, from, &bytes(header(PacketKind::Data, 8, 101, ack_nr), b"x"));
        }
    }
    assert_eq!(std::iter::from_fn(|| endpoint.accept()).count(), 64);
}

#[test]
fn the_same_syn_meets_the_same_connection_and_the_first_data_bear_the_number_of_the_answer() {
    let (now, mut endpoint) = (Instant::now(), UtpEndpoint::new(Instant::now(), 1));
    let (from, syn) = (stranger(1), bytes(header(PacketKind::Syn, 7, 100, 0), &[]));
    let answers: Vec<u16> = (0..3)
        .map(|_| {
            endpoint.on_datagram(now, from, &syn);
            Packet::decode(&sent(&mut endpoint, now)[0].1).unwrap().header.seq_nr
        })
        .collect();
    assert!(answers.iter().all(|seq_nr| *seq_nr == answers[0]));
    let (key, ours) = connected(&mut endpoint, now, from);
    assert_eq!(ours, answers[0]);
    sent(&mut endpoint, now);
    endpoint.on_datagram(now, from, &syn);
    assert_eq!(endpoint.accept(), None);
    let answer = sent(&mut endpoint, now);
    assert_eq!(Packet::decode(&answer[0].1).unwrap().header.kind, PacketKind::State);
    endpoint.write(key, b"world").unwrap();
    let data = sent(&mut endpoint, now);
    let packet = Packet::decode(&data[0].1).unwrap();
    assert_eq!(
        (packet.header.kind, packet.header.seq_nr, packet.payload),
        (PacketKind::Data, ours, &b"world"[..])
    );
    assert_eq!(packet.header.connection_id, 7);
}

#[test]
fn a_caller_whose_window_is_closed_is_not_shut_out() {
    let (now, mut endpoint) = (Instant::now(), UtpEndpoint::new(Instant::now(), 1));
    let syn = Header { wnd_size: 0, ..header(PacketKind::Syn, 7, 100, 0) };
    endpoint.on_datagram(now, stranger(1), &bytes(syn, &[]));
    assert_eq!(sent(&mut endpoint, now).len(), 1);
}

#[test]
fn a_reset_counts_only_from_the_peer_with_the_number_and_what_it_can_know() {
    let now = Instant::now();
    let from = stranger(1);
    let is_over = |who: SocketAddr, connection_id: u16, ahead: u16| {
        let mut endpoint = UtpEndpoint::new(now, 1);
        let (key, ours) = connected(&mut endpoint, now, from);
        endpoint.write(key, b"world").unwrap();
        sent(&mut endpoint, now);
        let reset = header(PacketKind::Reset, connection_id, 5, ours.wrapping_add(ahead));
        endpoint.on_datagram(now, who, &bytes(reset, &[]));
        endpoint.get(key).unwrap().end().is_some()
    };
    assert!(is_over(from, 7, 0) && is_over(from, 8, 0), "the number of either side's packets");
    assert!(!is_over(stranger(2), 7, 0) && !is_over(from, 9, 0) && !is_over(from, 6, 0));
    assert!(!is_over(SocketAddr::new(from.ip(), 1), 7, 0));
    assert!(!is_over(from, 7, 1), "that packet was never sent");
    assert!(!is_over(from, 7, 40_000));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_changes_nothing() {
    let now = Instant::now();
    let (mut endpoint, from) = (UtpEndpoint::new(now, 1), stranger(1));
    let (key, ours) = connected(&mut endpoint, now, from);
    endpoint.write(key, &[1; 1000]).unwrap();
    sent(&mut endpoint, now);
    for ahead in [2, 100, 30_000, 40_000, 60_000] {
        let state = header(PacketKind::State, 8, 102, ours.wrapping_add(ahead));
        endpoint.on_datagram(now, from, &bytes(state, &[]));
        let data = header(PacketKind::Data, 8, 102, ours.wrapping_add(ahead));
        endpoint.on_datagram(now, from, &bytes(data, b"wrong"));
    }
    assert!(sent(&mut endpoint, now).is_empty());
    let mut buffer = [0; 100];
    assert_eq!(endpoint.read(now, key, &mut buffer), Ok(Some(5)));
    assert_eq!(endpoint.read(now, key, &mut buffer), Ok(None));
    let again = sent(&mut endpoint, now + seconds(2));
    assert!(again.iter().any(|(_, data)| Packet::decode(data).unwrap().payload.starts_with(&[1; 500])));
}

#[test]
fn packets_of_nobody_are_reset_and_resets_are_not_answered() {
    let (now, mut endpoint) = (Instant::now(), UtpEndpoint::new(Instant::now(), 1));
    endpoint.on_datagram(now, stranger(1), &bytes(header(PacketKind::Data, 9, 50, 3), b"x"));
    let answers = sent(&mut endpoint, now);
    let reset = Packet::decode(&answers[0].1).unwrap().header;
    assert_eq!((reset.kind, reset.connection_id, reset.ack_nr), (PacketKind::Reset, 9, 50));
    endpoint.on_datagram(now, stranger(1), &bytes(reset, &[]));
    assert!(sent(&mut endpoint, now).is_empty());
    for number in 0..100_000 {
        endpoint.on_datagram(now, stranger(number), &bytes(header(PacketKind::Data, 9, 50, 3), b"x"));
    }
    assert!(sent(&mut endpoint, now).len() <= 128);
}

#[test]
fn garbage_in_between_breaks_nothing() {
    for seed in 0..60 {
        let mut net = Net::new(seed, 2, [Wire::new(20.0, 10, 200), Wire::new(20.0, 10, 200)]);
        let mut flows = [Flow::call(&mut net, 0, 1, 400_000)];
        let mut at = ms(0);
        while !flows[0].is_done() && at < seconds(120) {
            at += ms(5);
            run(&mut net, &mut flows, at);
            for _ in 0..3 {
                // A header with right numbers now and then, from a stranger behind the same address.
                let kind = [PacketKind::Data, PacketKind::State, PacketKind::Fin, PacketKind::Syn]
                    [net.rng.usize(..4)];
                let (id, seq, ack) = (net.rng.u16(..), net.rng.u16(..), net.rng.u16(..));
                let mut data = bytes(header(kind, id, seq, ack), &[0xaa; 20]);
                let cut = net.rng.usize(..=data.len());
                data.truncate(cut);
                let (from, to) = if net.rng.bool() { (0, 1) } else { (1, 0) };
                net.send(from, to, &data, false);
            }
        }
        assert!(flows[0].is_done(), "seed {seed}: {} {:?}", flows[0].read, flows[0].ends);
    }
}
