//! Announces against UDP trackers (BEP 15) that behave and such that do not.

use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use btget::internals::finder::announce::{AnnounceEvent, AnnounceFailure, Answer};
use btget::internals::ids::{PeerId, WireHash};
use btget::internals::tracker::{Options, Request, announce};

const TIME: Duration = Duration::from_secs(14);
const CONNECTION_ID: [u8; 8] = *b"connect!";

fn request(url: String) -> Request {
    Request {
        url,
        is_users: false,
        info_hash: WireHash([7; 20]),
        peer_id: PeerId(*b"-bg010U-abcdefghijkl"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Some(AnnounceEvent::Started),
        numwant: 50,
        key: 0xab,
        tracker_id: None,
    }
}

/// What a tracker sends for a packet, in order.
type Answers = Vec<Vec<u8>>;

/// A tracker that answers each packet by `answer` until it has answered one announce, or heard `limit`
/// packets; gives what it heard.
fn tracker(
    address: &str,
    limit: usize,
    mut answer: impl FnMut(&[u8]) -> Answers + Send + 'static,
) -> Option<(SocketAddr, JoinHandle<Vec<Vec<u8>>>)> {
    let socket = UdpSocket::bind(address).ok()?;
    let address = socket.local_addr().unwrap();
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut packet = [0; 4096];
        socket.set_read_timeout(Some(TIME)).unwrap();
        while heard.len() < limit {
            let Ok((length, from)) = socket.recv_from(&mut packet) else { break };
            heard.push(packet[..length].to_vec());
            let answers = answer(&packet[..length]);
            for answer in &answers {
                socket.send_to(answer, from).unwrap();
            }
            if length > 16 && !answers.is_empty() {
                break;
            }
        }
        heard
    });
    Some((address, heard))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn transaction(packet: &[u8]) -> Vec<u8> {
    packet[12..16].to_vec()
}

/// As BEP 15 has it, with these peers.
fn good(packet: &[u8], peers: &[u8]) -> Vec<u8> {
    let transaction = transaction(packet);
    match packet.len() {
        16 => [words(&[0]), transaction, CONNECTION_ID.to_vec()].concat(),
        _ => [words(&[1]), transaction, words(&[900, 5, 7]), peers.to_vec()].concat(),
    }
}

fn ask(address: SocketAddr) -> Result<Answer, AnnounceFailure> {
    let options = Options { timeout: TIME, ..Options::default() };
    announce(&request(format!("udp://{address}/announce?pass=key")), &options)
}

#[test]
fn a_tracker_hears_everything_and_tells_of_the_others() {
    let peers = b"\x01\x02\x03\x04\x1a\xe1\x01\x02\x03\x04\x00\x00";
    let (address, heard) = tracker("127.0.0.1:0", 2, |packet| vec![good(packet, peers)]).unwrap();
    let answer = ask(address).unwrap();
    assert_eq!(answer.peers, ["1.2.3.4:6881".parse().unwrap()]);
    assert_eq!((answer.incomplete, answer.complete), (Some(5), Some(7)));
    assert_eq!(answer.interval, Some(Duration::from_secs(900)));

    let heard = heard.join().unwrap();
    assert_eq!(heard[0][..12], [&0x0417_2710_1980_u64.to_be_bytes()[..], &words(&[0])].concat());
    let expected = [
        &CONNECTION_ID[..],
        &words(&[1]),
        &transaction(&heard[1]),
        &[7; 20],
        b"-bg010U-abcdefghijkl",
        &words(&[0, 2, 0, 3, 0, 1, 2, 0, 0xab, 50]),
        &6881_u16.to_be_bytes(),
        b"\x02\x12/announce?pass=key",
    ]
    .concat();
    assert_eq!(heard[1], expected);
}

#[test]
fn a_tracker_on_ipv6_gives_ipv6_peers() {
    let peers = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1";
    let Some((address, _)) = tracker("[::1]:0", 2, |packet| vec![good(packet, peers)]) else {
        eprintln!("this machine has no IPv6");
        return;
    };
    assert_eq!(ask(address).unwrap().peers, ["[2001:db8::1]:6881".parse().unwrap()]);
}

#[test]
fn packets_that_are_not_the_answer_are_ignored() {
    let answer = |packet: &[u8]| {
        let mut forged = good(packet, b"\x06\x06\x06\x06\0\x01");
        forged[7] ^= 1;
        let mut other_action = good(packet, b"");
        other_action[3] = 2;
        vec![b"short".to_vec(), vec![], forged, other_action, good(packet, b"\x01\x02\x03\x04\0\x01")]
    };
    let (address, _) = tracker("127.0.0.1:0", 2, answer).unwrap();
    assert_eq!(ask(address).unwrap().peers, ["1.2.3.4:1".parse().unwrap()]);
}

#[test]
fn a_lost_packet_is_sent_again() {
    let mut lost = 0;
    let answer = move |packet: &[u8]| {
        lost += 1;
        if lost == 1 { vec![] } else { vec![good(packet, b"")] }
    };
    let (address, heard) = tracker("127.0.0.1:0", 3, answer).unwrap();
    ask(address).unwrap();
    let heard = heard.join().unwrap();
    assert_eq!(heard[0], heard[1], "the same transaction");
}

#[test]
fn a_refusal_is_quoted() {
    let answer = |packet: &[u8]| vec![[words(&[3]), transaction(packet), b"not here".to_vec()].concat()];
    let (address, _) = tracker("127.0.0.1:0", 1, answer).unwrap();
    assert_eq!(ask(address).unwrap_err().reason, "not here");
}

#[test]
fn an_answer_that_is_too_short_is_a_failure() {
    let answer = |packet: &[u8]| vec![good(packet, b"")[..12].to_vec()];
    let (address, _) = tracker("127.0.0.1:0", 1, answer).unwrap();
    assert_eq!(ask(address).unwrap_err().reason, "the tracker's answer is too short");
}

#[test]
fn a_silent_tracker_is_left_in_time() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let options = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let began = Instant::now();
    assert_eq!(announce(&request(url), &options).unwrap_err().reason, "no answer to udp packets");
    assert!(began.elapsed() < TIME);
}

#[test]
fn a_port_where_nobody_listens_is_a_failure_at_once() {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(ask(free).unwrap_err().reason, "connection refused");
}

#[test]
fn a_url_without_a_port_is_a_failure() {
    let failure = announce(&request("udp://127.0.0.1/announce".into()), &Options::default()).unwrap_err();
    assert!(failure.reason.contains("needs a host and a port"), "{failure:?}");
}
