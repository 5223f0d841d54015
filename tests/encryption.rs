//! Encrypted connections (MSE) with real clients, under each policy of both sides, and with peers that do the handshake in odd ways.
//!
//! Has a main of its own, to report clients that are not installed as ignored.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use btget::internals::mse::{AnswerStep, Answerer, CallStep, Caller, Method, Methods, obscured};
use btget::internals::wire::{Handshake, PeerId, Reserved};
use btget::metainfo::{Metainfo, WireHash};

use support::clients::{Btget, Client, Libtorrent, Node, Transmission, is_in_path};
use support::events::is;
use support::fixture::{Family, Fixture, Shape};
use support::process::{PATIENCE, Process};
use support::system::trial;
use support::tracker::Tracker;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (ours, theirs, expected) in PAIRS {
        let name = format!("a_seed_that_says_{theirs}_and_a_leech_that_says_{ours}");
        trials.push(trial(&name, true, move || two_btgets(theirs, ours, expected)));
    }
    trials.extend(with_libtorrent());
    trials.extend(with_aria2());
    trials.extend(with_transmission());
    let tests: [(&str, fn()); 5] = [
        ("who_hangs_up_on_plaintext_is_called_encrypted_at_once", hangs_up_on_plaintext),
        ("who_hangs_up_on_encryption_is_called_in_plaintext_at_once", hangs_up_on_encryption),
        ("an_encrypted_call_for_another_torrent_is_closed_without_a_word", unknown_torrent),
        ("a_call_is_answered_however_it_is_cut_and_whatever_comes_along", cut_calls),
        ("not_one_byte_in_plaintext_is_taken_where_rc4_is_required", nothing_plain),
    ];
    trials.extend(tests.into_iter().map(|(name, run)| trial(name, true, run)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Policies of a leech and a seed, and how they are connected; `None`: not at all.
const PAIRS: [(&str, &str, Option<&str>); 10] = [
    ("off", "off", Some("none")),
    ("allow", "allow", Some("none")),
    ("allow", "require", Some("rc4")),
    ("allow", "off", Some("none")),
    ("prefer", "allow", Some("plaintext")),
    ("prefer", "prefer", Some("rc4")),
    ("prefer", "off", Some("none")),
    ("require", "allow", Some("rc4")),
    ("require", "require", Some("rc4")),
    ("require", "off", None),
];

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

fn fixture() -> Fixture {
    Fixture::new(Shape::Multi, NOBODY, 31)
}

fn seed(fixture: &Fixture, options: &[&str]) -> (Btget, SocketAddr) {
    let folder = fixture.full_folder("seed");
    let mut seed = Btget::start(fixture, Family::V4, &folder, &[&["--json"], options].concat());
    let told = seed.wait_for_event("where it listens", |event| is(event, "listen_success"));
    seed.wait_for_event("seeding", |event| is(event, "seeding"));
    (seed, told["address"].as_str().unwrap().parse().unwrap())
}

fn leech(fixture: &Fixture, folder: &Path, seed: SocketAddr, options: &[&str]) -> Btget {
    let call = ["--json", "--no-seed", "--peer", &seed.to_string()];
    Btget::start(fixture, Family::V4, folder, &[&call, options].concat())
}

/// How its first connection was protected.
fn protection(btget: &Btget) -> Option<String> {
    let events = btget.events();
    let complete = events.iter().find(|event| is(event, "peer_handshake_complete"))?;
    Some(complete["encryption"].as_str().unwrap().to_owned())
}

fn two_btgets(seeds: &str, leechs: &str, expected: Option<&str>) {
    let fixture = fixture();
    let (_seed, address) = seed(&fixture, &["--encryption", seeds]);
    let folder = fixture.empty_folder("target");
    match expected {
        Some(expected) => {
            let mut leech = leech(&fixture, &folder, address, &["--encryption", leechs]);
            leech.wait_for_success();
            fixture.assert_complete(&folder);
            assert_eq!(protection(&leech).as_deref(), Some(expected));
        }
        None => {
            let options = ["--encryption", leechs, "--stall-timeout", "2s"];
            let mut leech = leech(&fixture, &folder, address, &options);
            assert_eq!(leech.wait_for_code(), Some(5));
            assert_eq!(protection(&leech), None);
        }
    }
}

fn with_libtorrent() -> Vec<Trial> {
    let is_there = Client::Libtorrent.is_installed();
    let mut trials = Vec::new();
    // What libtorrent does, our policy, and how they are connected.
    for (theirs, ours, expected) in [
        ("--rc4", "allow", "rc4"),
        ("--rc4", "prefer", "rc4"),
        ("--rc4", "require", "rc4"),
        ("--encrypted", "allow", ""),
        ("--encrypted", "require", "rc4"),
        ("--plain", "allow", "none"),
        ("--plain", "prefer", "none"),
        ("--plain", "off", "none"),
    ] {
        let name = format!("btget_{ours}_downloads_from_libtorrent_{}", &theirs[2..]);
        trials.push(trial(&name, is_there, move || {
            let fixture = fixture();
            let torrent = fixture.torrent();
            let folder = fixture.full_folder("seed");
            let mut seed =
                Libtorrent::start_by(None, torrent.to_str().unwrap(), "127.0.0.1", &folder, &[theirs]);
            seed.wait_until_complete();
            let target = fixture.empty_folder("target");
            let address = ([127, 0, 0, 1], seed.port()).into();
            let mut leech = leech(&fixture, &target, address, &["--encryption", ours]);
            leech.wait_for_success();
            fixture.assert_complete(&target);
            let protection = protection(&leech).unwrap();
            assert!(protection == expected || (expected.is_empty() && protection != "none"), "{protection}");
        }));
        let name = format!("libtorrent_{}_downloads_from_btget_{ours}", &theirs[2..]);
        trials.push(trial(&name, is_there, move || {
            let fixture = fixture();
            let (seed, address) = seed(&fixture, &["--encryption", ours]);
            let target = fixture.empty_folder("target");
            let torrent = fixture.torrent();
            let port = address.port().to_string();
            let options = [theirs, "--peer", "127.0.0.1", &port];
            let torrent = torrent.to_str().unwrap();
            let mut leech = Libtorrent::start_by(None, torrent, "127.0.0.1", &target, &options);
            leech.wait_until_complete();
            let protection = protection(&seed).unwrap();
            assert!(protection == expected || (expected.is_empty() && protection != "none"), "{protection}");
        }));
    }
    trials
}

fn with_aria2() -> Vec<Trial> {
    let is_there = is_in_path("aria2c");
    let mut trials = Vec::new();
    for (name, options) in [
        ("required", &["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"][..]),
        ("forced", &["--bt-force-encryption=true"][..]),
        ("arc4", &["--bt-min-crypto-level=arc4"][..]),
    ] {
        for ours in ["allow", "prefer", "require"] {
            let down = format!("aria2c_{name}_downloads_from_btget_{ours}");
            trials.push(trial(&down, is_there, move || {
                let tracker = Tracker::start();
                let fixture = Fixture::new(Shape::Multi, &tracker.url(), 32);
                let (_seed, _) = seed(&fixture, &["--encryption", ours]);
                assert!(tracker.wait_for(PATIENCE, |announces| !announces.is_empty()));
                let target = fixture.empty_folder("target");
                let mut aria2 = aria2(&fixture, &target, options);
                aria2.wait_for_line(&["SEED(", "Download complete"]);
                fixture.assert_data_complete(&target);
            }));
            let up = format!("btget_{ours}_downloads_from_aria2c_{name}");
            trials.push(trial(&up, is_there, move || {
                let tracker = Tracker::start();
                let fixture = Fixture::new(Shape::Multi, &tracker.url(), 33);
                let _seed = aria2(&fixture, &fixture.full_folder("seed"), options);
                assert!(tracker.wait_for(PATIENCE, |announces| announces.iter().any(|it| it.left == 0)));
                let target = fixture.empty_folder("target");
                let options = ["--no-seed", "--json", "--encryption", ours];
                let mut leech = Btget::start(&fixture, Family::V4, &target, &options);
                leech.wait_for_success();
                fixture.assert_complete(&target);
                // A least level alone is about encrypted calls only.
                let is_needed = name != "arc4" || ours != "allow";
                assert!(protection(&leech).unwrap() != "none" || !is_needed);
            }));
        }
    }
    trials
}

/// How much transmission wants encryption and its option for that, our policy, and how they are connected (empty: either way will do). It never calls an
/// address of loopback, so it is always we who call.
const WITH_TRANSMISSION: [(u8, &str, &str, &str); 10] = [
    (2, "er", "allow", "rc4"),
    (2, "er", "prefer", "rc4"),
    (2, "er", "require", "rc4"),
    (1, "ep", "allow", "none"),
    (1, "ep", "prefer", "rc4"),
    (1, "ep", "require", "rc4"),
    (0, "et", "allow", "none"),
    (0, "et", "prefer", ""),
    (0, "et", "require", "rc4"),
    (0, "et", "off", "none"),
];

fn with_transmission() -> Vec<Trial> {
    let is_there = Client::Transmission.is_installed();
    let mut trials = Vec::new();
    for (level, option, ours, expected) in WITH_TRANSMISSION {
        let check = move |btget: &Btget| {
            let protection = protection(btget).unwrap();
            assert!(expected.is_empty() || protection == expected, "{protection}\n{}", btget.story());
        };
        let name = format!("btget_{ours}_downloads_from_transmission_{option}");
        trials.push(trial(&name, is_there, move || {
            let fixture = fixture();
            let (torrent, folder) = (fixture.torrent(), fixture.full_folder("seed"));
            let seed = Transmission::start_encrypting(torrent.to_str().unwrap(), &folder, level);
            let target = fixture.empty_folder("target");
            let address = ([127, 0, 0, 1], seed.peer_port()).into();
            let mut leech = leech(&fixture, &target, address, &["--encryption", ours]);
            leech.wait_for_success();
            fixture.assert_complete(&target);
            check(&leech);
        }));
        let name = format!("btget_{ours}_seeds_to_transmission_{option}");
        trials.push(trial(&name, is_there, move || {
            let fixture = fixture();
            let (torrent, target) = (fixture.torrent(), fixture.empty_folder("target"));
            let mut leech = Transmission::start_encrypting(torrent.to_str().unwrap(), &target, level);
            let address = format!("127.0.0.1:{}", leech.peer_port());
            let (seed, _) = seed(&fixture, &["--encryption", ours, "--peer", &address]);
            leech.wait_until_complete();
            fixture.assert_data_complete(&target);
            check(&seed);
        }));
    }
    trials
}

fn aria2(fixture: &Fixture, folder: &Path, options: &[&str]) -> Process {
    let torrent = fixture.torrent();
    let mut command = support::clients::aria2_command(torrent.to_str().unwrap(), Family::V4, folder);
    Process::start("aria2c", command.args(options))
}

fn wire_hash(fixture: &Fixture) -> WireHash {
    Metainfo::parse(&std::fs::read(fixture.torrent()).unwrap()).unwrap().info_hash.wire()
}

const BOTH: Methods = Methods { plaintext: true, preferred: Method::Plaintext };

/// What the first two calls begin with, of which the first is closed as soon as this is known.
fn first_bytes_of_two_calls(listener: &TcpListener) -> [u8; 2] {
    let mut firsts = [0; 2];
    for first in &mut firsts {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0; 20];
        stream.read_exact(&mut byte).unwrap();
        *first = u8::from(&byte == b"\x13BitTorrent protocol");
    }
    firsts
}

fn hangs_up_on_plaintext() {
    let fixture = fixture();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _leech = leech(&fixture, &fixture.empty_folder("target"), address, &[]);
    assert_eq!(first_bytes_of_two_calls(&listener), [1, 0]);
}

fn hangs_up_on_encryption() {
    let fixture = fixture();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _leech = leech(&fixture, &fixture.empty_folder("target"), address, &["--encryption", "prefer"]);
    assert_eq!(first_bytes_of_two_calls(&listener), [0, 1]);
}

/// Calls encrypted, in parts of so many bytes, and gives what comes back behind the encrypted handshake, deciphered, until there are so
/// many bytes of it; `None`: the other side has closed before.
fn call(
    address: SocketAddr,
    torrent: WireHash,
    initial: &[u8],
    (part, enough): (usize, usize),
    behind: &[u8],
) -> Option<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(part as u64);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let say =
        |stream: &mut TcpStream, bytes: &[u8]| bytes.chunks(part).all(|part| stream.write_all(part).is_ok());
    let (mut caller, first) = Caller::new(torrent, BOTH, initial.to_vec(), &mut rng);
    say(&mut stream, &first);
    let mut buffer = [0; 700];
    let mut count = 0;
    loop {
        match caller.feed(&buffer[..count]).unwrap() {
            CallStep::Send(bytes) => {
                say(&mut stream, &bytes);
                count = 0;
            }
            CallStep::Need => {
                count = stream.read(&mut buffer).unwrap_or(0);
                if count == 0 {
                    return None;
                }
            }
            CallStep::Done { mut ciphers, mut early } => {
                let mut behind = behind.to_vec();
                ciphers.iter_mut().for_each(|ciphers| ciphers.outgoing.apply(&mut behind));
                say(&mut stream, &behind);
                while early.len() < enough {
                    count = stream.read(&mut buffer).unwrap_or(0);
                    if count == 0 {
                        return None;
                    }
                    ciphers.iter_mut().for_each(|ciphers| ciphers.incoming.apply(&mut buffer[..count]));
                    early.extend_from_slice(&buffer[..count]);
                }
                return Some(early);
            }
        }
    }
}

fn handshake(torrent: WireHash) -> Vec<u8> {
    let peer_id = PeerId(*b"-XX0001-000000000009");
    Handshake { reserved: Reserved::FAST, info_hash: torrent, peer_id }.encode().to_vec()
}

fn unknown_torrent() {
    let fixture = fixture();
    let (mut seed, address) = seed(&fixture, &[]);
    let torrent = WireHash([9; 20]);
    assert_eq!(call(address, torrent, &handshake(torrent), (1000, 68), b""), None);
    seed.wait_for_event("that it is told", |event| is(event, "peer_disconnect"));
    assert!(!seed.events().iter().any(|event| is(event, "peer_handshake_complete")));
}

fn cut_calls() {
    let fixture = fixture();
    let torrent = wire_hash(&fixture);
    let handshake = handshake(torrent);
    // Behind it: interested.
    let interested = [0, 0, 0, 1, 2];
    for ours in ["allow", "prefer", "require"] {
        let fixture = Fixture::new(Shape::Multi, NOBODY, 31);
        let (seed, address) = seed(&fixture, &["--encryption", ours]);
        for (part, split) in [(1, 0), (7, 30), (96, 68), (1000, 0), (1000, 73), (50, 68)] {
            let all = [&handshake[..], &interested].concat();
            let (initial, behind) = all.split_at(split);
            let answer = call(address, torrent, initial, (part, 68), behind);
            let answer = answer.unwrap_or_else(|| panic!("{part} {split}\n{}", seed.story()));
            assert_eq!(&answer[..20], b"\x13BitTorrent protocol");
            assert_eq!(answer[28..48], torrent.0);
        }
    }
}

fn nothing_plain() {
    let fixture = fixture();
    let (mut seed, address) = seed(&fixture, &["--encryption", "require"]);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&handshake(wire_hash(&fixture))).unwrap();
    assert_eq!(stream.read(&mut [0; 100]).unwrap_or(0), 0);
    seed.wait_for_event("why", |event| {
        is(event, "peer_disconnect") && event["reason"].as_str().unwrap().contains("without encryption")
    });
    // Whoever answers a call of ours with plaintext for the rest gets nothing either.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = listener.local_addr().unwrap();
    let target = fixture.empty_folder("target");
    let torrent = wire_hash(&fixture);
    let mut leech = leech(&fixture, &target, ours, &["--encryption", "require"]);
    let (mut stream, _) = listener.accept().unwrap();
    thread::spawn(move || {
        let plain = Methods { plaintext: true, preferred: Method::Plaintext };
        let mut answerer = Answerer::new(plain, fastrand::Rng::with_seed(1));
        let mut buffer = [0; 2000];
        let mut step = AnswerStep::Need;
        loop {
            step = match step {
                AnswerStep::Need => {
                    let count = stream.read(&mut buffer).unwrap_or(0);
                    if count == 0 {
                        return;
                    }
                    answerer.feed(&buffer[..count]).unwrap()
                }
                AnswerStep::Send(bytes) => {
                    stream.write_all(&bytes).unwrap();
                    answerer.feed(&[]).unwrap()
                }
                AnswerStep::Which(asked) => {
                    answerer.resume((asked.0 == obscured(torrent)).then_some(torrent)).unwrap()
                }
                AnswerStep::Done { answer, ciphers, .. } => {
                    assert!(ciphers.is_some(), "nothing but RC4 was offered");
                    stream.write_all(&answer).unwrap();
                    // In plaintext what should be enciphered.
                    let _ = stream.write_all(&handshake(torrent));
                    thread::sleep(Duration::from_secs(1));
                    return;
                }
            };
        }
    });
    leech.wait_for_event("that it is refused", |event| is(event, "peer_error"));
    assert!(!leech.events().iter().any(|event| is(event, "peer_handshake_complete")));
}
