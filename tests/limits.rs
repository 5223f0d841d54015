//! Limits on rates, in a real process with peers that count.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use btget::metainfo::Metainfo;
use support::clients::Btget;
use support::events::is;
use support::fixture::{Family, Fixture};
use support::process::PATIENCE;
use support::relay::{Path, Relay};

/// The limit, in bytes a second.
const RATE: usize = 200 * 1024;

/// Bytes to download: what takes two seconds.
const SIZE: usize = 2 * RATE;

/// What all peers together were asked for.
struct Asked {
    since: Instant,
    bytes: usize,
    /// The first time that more was asked for than was due: after how many seconds, and how many bytes.
    too_much: Option<(f64, usize)>,
}

impl Asked {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        let seconds = self.since.elapsed().as_secs_f64();
        // A fifth more while less comes than is due, what is due for a tenth of a second, and a block.
        let due = RATE as f64 * (seconds * 1.2 + 0.1) + 16384.0;
        if self.bytes as f64 > due {
            self.too_much.get_or_insert((seconds, self.bytes));
        }
    }
}

/// A peer that has everything, and sends what it is asked for at once, until it is closed.
fn serve(mut stream: TcpStream, info_hash: [u8; 20], data: &[u8], asked: &Mutex<Asked>) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.read_exact(&mut [0; 68]).ok()?;
    let mut greeting = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
    greeting.extend(info_hash);
    greeting.extend(b"-XX0001-000000000009");
    // Have all, and unchoke (BEP 6, BEP 3).
    greeting.extend([0, 0, 0, 1, 14, 0, 0, 0, 1, 1]);
    stream.write_all(&greeting).ok()?;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut message).ok()?;
        if let [6, block @ ..] = &message[..] {
            let number = |at: usize| u32::from_be_bytes(block[at..at + 4].try_into().unwrap());
            let begin = number(0) as usize * support::fixture::PIECE_LENGTH as usize + number(4) as usize;
            let length = number(8) as usize;
            asked.lock().unwrap().add(length);
            let mut answer = (length as u32 + 9).to_be_bytes().to_vec();
            answer.push(7);
            answer.extend(&block[..8]);
            answer.extend(&data[begin..begin + length]);
            stream.write_all(&answer).ok()?;
        }
    }
}

#[test]
fn a_limited_download_asks_its_peers_for_no_more_than_the_limit_lets_in() {
    let fixture = Fixture::single(SIZE, "http://127.0.0.1:1/announce", 16);
    let info_hash = Metainfo::parse(&std::fs::read(fixture.torrent()).unwrap()).unwrap().info_hash.wire().0;
    let data = Arc::new(std::fs::read(fixture.full_folder("seed").join("large.bin")).unwrap());
    let listeners: Vec<TcpListener> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> =
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let asked = Arc::new(Mutex::new(Asked { since: Instant::now(), bytes: 0, too_much: None }));
    for listener in listeners {
        let (data, asked) = (data.clone(), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, info_hash, &data, &asked);
            }
        });
    }
    let limit = (RATE / 1024).to_string() + "K";
    let mut options = vec!["--no-seed", "--transport", "tcp", "--max-download-rate", &limit];
    options.extend(addresses.iter().flat_map(|address| ["--peer", address]));
    let folder = fixture.empty_folder("target");
    let mut leech = Btget::start(&fixture, Family::V4, &folder, &options);
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.too_much, None, "seconds, and bytes that were asked for until then");
    assert!(asked.bytes >= SIZE);
}

/// Five seconds' worth comes by uTP, under a limit of so many KiB/s on what the leecher or the seed does, and is looked at while it comes.
fn in_time_by_utp(rate: usize, limit: &str, is_seeds: bool) {
    let bytes_a_second = rate * 1024;
    let fixture = Fixture::single(5 * bytes_a_second, "http://127.0.0.1:1/announce", 17);
    let by_utp = |folder: &std::path::Path, options: &[&str]| {
        let options = [&["--json", "--transport", "utp"], options].concat();
        Btget::start_by(Btget::command_with_utp(), &fixture, Family::V4, folder, &options)
    };
    let limited = [limit, &format!("{rate}K")];
    let (of_seed, of_leech) = if is_seeds { (&limited[..], &[][..]) } else { (&[][..], &limited[..]) };
    let mut seed = by_utp(&fixture.full_folder("seed"), of_seed);
    let told = seed.wait_for_event("where it listens", |event| is(event, "listen_success"));
    seed.wait_for_event("seeding", |event| is(event, "seeding"));
    // It takes as long as the path to the other end of a country, and loses nothing.
    let path = Path { delay: Duration::from_millis(10), jitter: Duration::ZERO, lost: 0, repeated: 0 };
    let relay = Relay::start(told["address"].as_str().unwrap().parse().unwrap(), path, 1);
    let (folder, address) = (fixture.empty_folder("target"), relay.address.to_string());
    let options = [&["--no-seed", "--peer", &address], of_leech].concat();
    let mut leech = by_utp(&folder, &options);
    let (mut since, mut too_much) = (None, None);
    while leech.code_if_ended().is_none() {
        // Looked at in this order, a delay between the two is time in which more is due.
        let bytes = relay.brought();
        if bytes > 0 {
            let seconds = since.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
            // 1.3 times the rate in the first second; handshakes and the like are not data.
            if bytes as f64 > bytes_a_second as f64 * (1.05 * seconds + 0.25) + 300.0 {
                too_much.get_or_insert((seconds, bytes));
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    assert_eq!(too_much, None, "seconds, and bytes that had come until then");
    assert!(relay.brought() >= 5 * bytes_a_second);
}

#[test]
fn what_comes_by_utp_under_a_low_limit_comes_when_it_is_due() {
    in_time_by_utp(10, "--max-download-rate", false);
}

#[test]
fn what_is_sent_by_utp_is_sent_when_it_is_due() {
    for rate in [10, 100, 2048] {
        in_time_by_utp(rate, "--max-upload-rate", true);
    }
}
