//! uTP between two btgets and with real clients, also over a path that delays, loses, repeats and reorders.
//!
//! Has a main of its own, to report clients that are not installed as ignored.

mod support;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path as FilePath;
use std::process::{Command, ExitCode};
use std::time::Duration;

use libtest_mimic::Arguments;
use serde_json::Value;

use support::clients::{Btget, Client, Libtorrent, Node, Transmission};
use support::events::is;
use support::fixture::{Family, Fixture, Shape};
use support::relay::{Path, Relay};
use support::system::trial;

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

/// A long way on which packets are lost.
const BAD: Path =
    Path { delay: Duration::from_millis(15), jitter: Duration::from_millis(3), lost: 20, repeated: 10 };

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (seeds, leeches, expected) in [
        ("utp", "utp", Some("utp")),
        ("both", "both", Some("tcp")),
        ("utp", "both", Some("utp")),
        ("both", "utp", Some("utp")),
        ("tcp", "both", Some("tcp")),
        ("both", "tcp", Some("tcp")),
        ("tcp", "utp", None),
        ("utp", "tcp", None),
    ] {
        let name = format!("a_seed_that_says_{seeds}_and_a_leech_that_says_{leeches}");
        trials.push(trial(&name, true, move || two_btgets(seeds, leeches, expected)));
    }
    let has_libtorrent = Client::Libtorrent.is_installed();
    for (name, way, options, policy) in [
        ("by_utp", None, &["--utp"][..], "allow"),
        ("by_utp_encrypted", None, &["--utp", "--rc4"], "require"),
        ("by_utp_on_a_bad_path", Some(BAD), &["--utp"], "allow"),
    ] {
        let downloads = move || downloads_from_libtorrent(way, options, policy);
        trials.push(trial(&format!("btget_downloads_from_libtorrent_{name}"), has_libtorrent, downloads));
        let seeds = move || seeds_to_libtorrent(way, options, policy);
        trials.push(trial(&format!("libtorrent_downloads_from_btget_{name}"), has_libtorrent, seeds));
    }
    let has_transmission = Client::Transmission.is_installed();
    for (name, way) in [("by_utp", None), ("by_utp_on_a_bad_path", Some(BAD))] {
        let downloads = move || downloads_from_transmission(way);
        trials.push(trial(&format!("btget_downloads_from_transmission_{name}"), has_transmission, downloads));
        let seeds = move || seeds_to_transmission(way);
        trials.push(trial(&format!("btget_seeds_to_transmission_{name}"), has_transmission, seeds));
    }
    let tests: [(&str, bool, fn()); 6] = [
        ("ipv6_is_spoken_as_well", Family::V6.is_available(), over_ipv6),
        ("a_bad_path_between_two_btgets_costs_time_and_no_byte", true, bad_path),
        ("an_encrypted_connection_goes_by_utp_too", true, encrypted),
        ("what_is_told_of_ports_is_what_is_open", true, ports),
        ("a_limit_of_the_rate_holds", true, limited),
        ("packets_of_strangers_end_nothing", true, strangers),
    ];
    trials.extend(tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn fixture() -> Fixture {
    Fixture::new(Shape::Multi, NOBODY, 41)
}

/// Starts a btget by these transports, with all events.
fn btget(fixture: &Fixture, family: Family, folder: &FilePath, transport: &str, options: &[&str]) -> Btget {
    let options = [&["--json", "--events", "debug", "--transport", transport], options].concat();
    Btget::start_by(Btget::command_with_utp(), fixture, family, folder, &options)
}

fn seed(fixture: &Fixture, family: Family, transport: &str, options: &[&str]) -> (Btget, SocketAddr) {
    let folder = fixture.full_folder("seed");
    let mut seed = btget(fixture, family, &folder, transport, options);
    let told = seed.wait_for_event("where it listens", |event| is(event, "listen_success"));
    seed.wait_for_event("seeding", |event| is(event, "seeding"));
    (seed, told["address"].as_str().unwrap().parse().unwrap())
}

fn leech(fixture: &Fixture, folder: &FilePath, transport: &str, from: SocketAddr, options: &[&str]) -> Btget {
    let family = if from.is_ipv4() { Family::V4 } else { Family::V6 };
    let from = from.to_string();
    let options = [&["--no-seed", "--peer", &from], options].concat();
    btget(fixture, family, folder, transport, &options)
}

/// By what its first connection has come to be, as it has told with each event of it.
fn transport(btget: &Btget) -> Option<String> {
    let events = btget.events();
    let complete = events.iter().position(|event| is(event, "peer_handshake_complete"))?;
    let (address, transport) = (&events[complete]["address"], &events[complete]["transport"]);
    let of = |event: &&Value, name: &str| is(event, name) && event["address"] == *address;
    let call = events[..complete].iter().rfind(|event| of(event, "peer_connect"));
    let id = events[..complete].iter().rfind(|event| of(event, "peer_id"));
    let end = events[complete..].iter().find(|event| of(event, "peer_disconnect"));
    for event in call.into_iter().chain(id).chain(end) {
        assert_eq!(event["transport"], *transport, "{event}");
    }
    Some(transport.as_str().unwrap().to_owned())
}

fn two_btgets(seeds: &str, leeches: &str, expected: Option<&str>) {
    let fixture = fixture();
    let (seed, address) = seed(&fixture, Family::V4, seeds, &[]);
    let folder = fixture.empty_folder("target");
    match expected {
        Some(expected) => {
            let mut leech = leech(&fixture, &folder, leeches, address, &[]);
            leech.wait_for_success();
            fixture.assert_complete(&folder);
            assert_eq!(transport(&leech).as_deref(), Some(expected));
            assert_eq!(transport(&seed).as_deref(), Some(expected));
        }
        None => {
            let mut leech = leech(&fixture, &folder, leeches, address, &["--stall-timeout", "3s"]);
            assert_eq!(leech.wait_for_code(), Some(5));
            assert_eq!(transport(&leech), None);
        }
    }
}

fn over_ipv6() {
    let fixture = fixture();
    let (_seed, address) = seed(&fixture, Family::V6, "utp", &[]);
    let folder = fixture.empty_folder("target");
    leech(&fixture, &folder, "utp", address, &[]).wait_for_success();
    fixture.assert_complete(&folder);
}

fn bad_path() {
    let fixture = Fixture::single(2 << 20, NOBODY, 42);
    let (_seed, address) = seed(&fixture, Family::V4, "utp", &[]);
    let relay = Relay::start(address, BAD, 1);
    let folder = fixture.empty_folder("target");
    leech(&fixture, &folder, "utp", relay.address, &[]).wait_for_success();
    fixture.assert_complete(&folder);
}

fn encrypted() {
    let fixture = fixture();
    let (_seed, address) = seed(&fixture, Family::V4, "utp", &["--encryption", "require"]);
    let folder = fixture.empty_folder("target");
    // What begins in plaintext is closed, and called again.
    let mut leech = leech(&fixture, &folder, "both", address, &["--encryption", "allow"]);
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    let told = leech.wait_for_event("a handshake", |event| is(event, "peer_handshake_complete"));
    assert_eq!((told["encryption"].as_str(), transport(&leech).as_deref()), (Some("rc4"), Some("utp")));
}

fn ports() {
    for (transport, tcp, udp) in [("tcp", true, false), ("utp", false, true), ("both", true, true)] {
        let fixture = fixture();
        let (seed, address) = seed(&fixture, Family::V4, transport, &[]);
        let events = seed.events();
        let told = |protocol: &str| events.iter().any(|event| event["protocol"] == protocol);
        assert_eq!((told("tcp4"), told("udp4")), (tcp, udp), "{transport}");
        assert_eq!(TcpListener::bind(address).is_err(), tcp, "{transport}");
        assert_eq!(UdpSocket::bind(address).is_err(), udp, "{transport}");
    }
}

fn limited() {
    let fixture = Fixture::single(3 << 20, NOBODY, 43);
    let (_seed, address) = seed(&fixture, Family::V4, "utp", &["--max-upload-rate", "1M"]);
    let folder = fixture.empty_folder("target");
    let began = std::time::Instant::now();
    leech(&fixture, &folder, "utp", address, &[]).wait_for_success();
    fixture.assert_complete(&folder);
    assert!(began.elapsed() > Duration::from_secs(2));
}

fn strangers() {
    let fixture = Fixture::single(4 << 20, NOBODY, 44);
    let (_seed, address) = seed(&fixture, Family::V4, "utp", &["--max-upload-rate", "4M"]);
    let folder = fixture.empty_folder("target");
    let mut leech = leech(&fixture, &folder, "utp", address, &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..20_000 {
        // Types 0 to 4 of version 1, and what may follow.
        let mut packet: Vec<u8> = (0..rng.usize(1..60)).map(|_| rng.u8(..)).collect();
        packet[0] = rng.u8(0..5) << 4 | 1;
        let _ = socket.send_to(&packet, address);
    }
    leech.wait_for_success();
    fixture.assert_complete(&folder);
}

fn downloads_from_libtorrent(way: Option<Path>, options: &[&str], policy: &str) {
    let fixture = fixture();
    let (torrent, folder) = (fixture.torrent(), fixture.full_folder("seed"));
    let mut seed = Libtorrent::start_by(None, torrent.to_str().unwrap(), "127.0.0.1", &folder, options);
    seed.wait_until_complete();
    let address = SocketAddr::from(([127, 0, 0, 1], seed.port()));
    let relay = way.map(|way| Relay::start(address, way, 2));
    let address = relay.as_ref().map_or(address, |relay| relay.address);
    let target = fixture.empty_folder("target");
    let mut leech = leech(&fixture, &target, "utp", address, &["--encryption", policy]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
    assert_eq!(transport(&leech).as_deref(), Some("utp"));
}

fn seeds_to_libtorrent(way: Option<Path>, options: &[&str], policy: &str) {
    let fixture = fixture();
    let (seed, address) = seed(&fixture, Family::V4, "utp", &["--encryption", policy]);
    let relay = way.map(|way| Relay::start(address, way, 3));
    let address = relay.as_ref().map_or(address, |relay| relay.address);
    let target = fixture.empty_folder("target");
    let port = address.port().to_string();
    let options = [options, &["--peer", "127.0.0.1", &port]].concat();
    let torrent = fixture.torrent();
    let mut leech = Libtorrent::start_by(None, torrent.to_str().unwrap(), "127.0.0.1", &target, &options);
    leech.wait_until_complete();
    fixture.assert_data_complete(&target);
    assert_eq!(transport(&seed).as_deref(), Some("utp"));
}

fn downloads_from_transmission(way: Option<Path>) {
    let fixture = fixture();
    let (torrent, full) = (fixture.torrent(), fixture.full_folder("seed"));
    let seed = Transmission::start_taking_utp(torrent.to_str().unwrap(), &full);
    let address = SocketAddr::from(([127, 0, 0, 1], seed.peer_port()));
    let relay = way.map(|way| Relay::start(address, way, 4));
    let address = relay.as_ref().map_or(address, |relay| relay.address);
    let target = fixture.empty_folder("target");
    let mut leech = leech(&fixture, &target, "utp", address, &[]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
    assert_eq!(transport(&leech).as_deref(), Some("utp"));
}

/// It calls nobody on loopback, so it is called.
fn seeds_to_transmission(way: Option<Path>) {
    let fixture = fixture();
    let address = if way.is_some() { "127.0.0.42" } else { "127.0.0.41" };
    let folder = fixture.empty_folder("transmission");
    let _leech = Transmission::start_with_utp(Command::new("env"), &fixture.torrent(), address, &folder);
    let full = fixture.full_folder("seed");
    let peer: SocketAddr = format!("{address}:{}", support::clients::TRANSMISSION_PORT).parse().unwrap();
    let relay = way.map(|way| Relay::start(peer, way, 5));
    let peer = relay.as_ref().map_or(peer, |relay| relay.address).to_string();
    let mut seed = btget(&fixture, Family::V4, &full, "utp", &["--peer", &peer, "--seed-ratio", "1"]);
    seed.wait_for_success();
    assert_eq!(transport(&seed).as_deref(), Some("utp"));
}
