//! Peer exchange (BEP 11) between btget and real clients: of three, one knows both others, which find one another by what it tells them.
//!
//! Nobody has any data, so that nobody leaves for having all of it, but where it says otherwise.

mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use libtest_mimic::Arguments;
use serde_json::Value;

use btget::metainfo::Magnet;
use btget::metainfo::Metainfo;

use support::clients::{Btget, Client, Libtorrent, TRANSMISSION_PORT, Transmission};
use support::events::is;
use support::fixture::{Family, Fixture};
use support::networks::{Machine, World, can_have_networks};
use support::process::{Process, wait_until};
use support::system::trial;

fn main() -> ExitCode {
    let has_libtorrent = Client::Libtorrent.is_installed();
    let has_transmission = Client::Transmission.is_installed() && can_have_networks();
    let tests: [(&str, bool, fn()); 8] = [
        ("three_btgets_find_one_another", true, three),
        ("btget_and_libtorrent_find_one_another_by_btget", has_libtorrent, by_btget),
        ("btget_and_btget_find_one_another_by_libtorrent", has_libtorrent, by_libtorrent),
        ("btget_and_transmission_find_one_another_by_btget", has_transmission, transmission_by_btget),
        ("btget_and_btget_find_one_another_by_transmission", has_transmission, by_transmission),
        ("without_peer_exchange_they_do_not", true, without),
        ("a_private_torrent_has_not_one_message", has_libtorrent, private),
        ("a_link_that_turns_out_private_has_none_from_then_on", has_libtorrent, turns_out_private),
    ];
    let trials = tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The first message comes 5 s after the handshake at the latest, and another is on its way.
const TOLD_BY_NOW: Duration = Duration::from_secs(7);

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

fn fixture() -> Fixture {
    Fixture::single(300_000, NOBODY, 11)
}

fn btget(fixture: &Fixture, label: &str, options: &[&str]) -> Btget {
    let folder = fixture.empty_folder(label);
    Btget::start(fixture, Family::V4, &folder, &[&["--json", "--events", "debug"], options].concat())
}

fn libtorrent(fixture: &Fixture, label: &str, options: &[&str]) -> Libtorrent {
    let torrent = fixture.torrent();
    let folder = fixture.empty_folder(label);
    Libtorrent::start_by(None, torrent.to_str().unwrap(), "127.0.0.1", &folder, options)
}

/// Where it listens.
fn address_of(btget: &mut Btget) -> String {
    let told = btget.wait_for_event("where it listens", |event| is(event, "listen_success"));
    told["address"].as_str().unwrap().to_owned()
}

fn is_from(event: &Value, address: &str) -> bool {
    event["address"] == address
}

/// Waits until it is connected to somebody who is called there, by a call of its own or of theirs.
fn wait_for_connection(btget: &mut Btget, other: &mut Btget) {
    let (ours, theirs) = (address_of(btget), address_of(other));
    let called = |of: &Btget, address: &str| {
        let is_it = |event: &Value| {
            is(event, "peer_handshake_complete") && event["direction"] == "out" && is_from(event, address)
        };
        of.events().iter().any(is_it)
    };
    wait_until(
        "a connection",
        || format!("{}\n{}", btget.story(), other.story()),
        || (called(btget, &theirs) || called(other, &ours)).then_some(()),
    );
}

fn wait_for_peer(btget: &mut Btget, address: &str) {
    btget.wait_for_event("the connection", |event| {
        is(event, "peer_handshake_complete") && is_from(event, address)
    });
}

/// Messages of peer exchange that it sends and gets: those that bear the id that the other side has told for them.
fn exchanged(events: &[Value]) -> (usize, usize) {
    let mut ids: BTreeMap<(String, bool), u64> = BTreeMap::new();
    let (mut sent, mut got) = (0, 0);
    for event in events {
        let out = is(event, "peer_packet_out");
        if !(out || is(event, "peer_packet_in")) || event["type"] != "extended" {
            continue;
        }
        let address = event["address"].as_str().unwrap().to_owned();
        if event["id"] == 0 {
            if let Some(id) = event["extensions"]["ut_pex"].as_u64() {
                ids.insert((address, !out), id);
            }
        } else if ids.get(&(address, out)).copied() == event["id"].as_u64() {
            *(if out { &mut sent } else { &mut got }) += 1;
        }
    }
    (sent, got)
}

/// Whether any of its extension handshakes offers peer exchange.
fn offers(events: &[Value]) -> bool {
    events.iter().any(|event| {
        is(event, "peer_packet_out") && event["extensions"]["ut_pex"].as_u64().is_some_and(|id| id != 0)
    })
}

fn three() {
    let fixture = fixture();
    let mut hub = btget(&fixture, "hub", &[]);
    let hubs = address_of(&mut hub);
    let mut one = btget(&fixture, "one", &["--peer", &hubs]);
    wait_for_peer(&mut one, &hubs);
    let mut other = btget(&fixture, "other", &["--peer", &hubs]);
    wait_for_connection(&mut one, &mut other);
    for leaf in [&mut one, &mut other] {
        let told = leaf.wait_for_event("what it is told", |event| is(event, "pex_peers"));
        assert_eq!(
            (&told["address"], &told["added"], &told["dropped"]),
            (&hubs.as_str().into(), &1.into(), &0.into())
        );
    }
    // Each was told once, of the other one.
    assert_eq!(exchanged(&hub.events()).0, 2, "{}", hub.story());
}

fn by_btget() {
    let fixture = fixture();
    let mut hub = btget(&fixture, "hub", &[]);
    let hubs = address_of(&mut hub);
    let hub_port = hubs.rsplit(':').next().unwrap();
    // This one is told of nobody, so it is libtorrent that has to find it.
    let mut found = btget(&fixture, "found", &["--peer", &hubs, "--no-pex"]);
    let founds = address_of(&mut found);
    wait_for_peer(&mut found, &hubs);
    let mut libtorrent = libtorrent(&fixture, "libtorrent", &["--peer", "127.0.0.1", hub_port]);
    let port = founds.rsplit(':').next().unwrap();
    libtorrent.wait_for_line(&[&format!("peer 127.0.0.1 {port} pex")]);
    assert_eq!(exchanged(&found.events()), (0, 0));
    assert!(!offers(&found.events()));

    let mut finds = btget(&fixture, "finds", &["--peer", &hubs]);
    let told = finds.wait_for_event("what it is told", |event| is(event, "pex_peers"));
    assert_eq!((&told["address"], &told["added"]), (&hubs.as_str().into(), &2.into()));
    wait_for_peer(&mut finds, &format!("127.0.0.1:{}", libtorrent.port()));
    wait_for_connection(&mut finds, &mut found);
}

fn by_libtorrent() {
    let fixture = fixture();
    let mut hub = libtorrent(&fixture, "hub", &["--log-pex"]);
    let hubs = format!("127.0.0.1:{}", hub.port());
    let mut one = btget(&fixture, "one", &["--peer", &hubs]);
    wait_for_peer(&mut one, &hubs);
    let mut other = btget(&fixture, "other", &["--peer", &hubs]);
    let told = other.wait_for_event("what it is told", |event| is(event, "pex_peers"));
    // It tells everybody of themselves too.
    assert!(is_from(&told, &hubs) && told["added"].as_u64().unwrap() >= 1, "{told}");
    wait_for_connection(&mut other, &mut one);
    // It understands what we tell it in turn.
    hub.wait_for_line(&["<== PEX"]);
}

/// On the second of these machines: it neither calls nor believes addresses of loopback.
fn transmission(world: &World, fixture: &Fixture) -> Process {
    let mut by = std::process::Command::new("nsenter");
    by.arg(world.machine(2).option());
    let folder = fixture.empty_folder("transmission");
    let transmission = Transmission::start_by(by, &fixture.torrent(), "10.1.0.2", &folder);
    wait_until(
        "transmission to listen",
        || transmission.story(),
        || {
            let look = "import socket; socket.create_connection(('10.1.0.2', 51413), 1)";
            let mut command = world.machine(2).command("python3");
            let seen = command.args(["-c", look]).stderr(std::process::Stdio::null()).status().unwrap();
            seen.success().then_some(())
        },
    );
    transmission
}

fn quiet_btget(machine: &Machine, fixture: &Fixture, label: &str, options: &[&str]) -> Btget {
    let folder = fixture.empty_folder(label);
    let options = [&["--no-lsd", "--no-dht", "--events", "debug"], options].concat();
    machine.btget(fixture.torrent(), &folder, &options)
}

/// transmission is told of somebody whom it does not know, and calls.
fn transmission_by_btget() {
    let (world, fixture) = (World::new(), fixture());
    let _transmission = transmission(&world, &fixture);
    let theirs = format!("10.1.0.2:{TRANSMISSION_PORT}");
    let mut hub = quiet_btget(world.machine(1), &fixture, "hub", &["--peer", &theirs]);
    wait_for_peer(&mut hub, &theirs);
    let port = address_of(&mut hub).rsplit(':').next().unwrap().to_owned();
    let hubs = format!("10.1.0.1:{port}");
    let mut found = quiet_btget(world.machine(3), &fixture, "found", &["--no-pex", "--peer", &hubs]);
    wait_for_peer(&mut found, &hubs);
    found.wait_for_event("a call of transmission", |event| {
        is(event, "peer_handshake_complete")
            && event["direction"] == "in"
            && event["address"].as_str().unwrap().starts_with("10.1.0.2:")
    });
}

/// transmission may take 90 s to tell of others.
fn by_transmission() {
    let (world, fixture) = (World::new(), fixture());
    let _transmission = transmission(&world, &fixture);
    let theirs = format!("10.1.0.2:{TRANSMISSION_PORT}");
    let mut one = quiet_btget(world.machine(1), &fixture, "one", &["--peer", &theirs]);
    wait_for_peer(&mut one, &theirs);
    let mut other = quiet_btget(world.machine(3), &fixture, "other", &["--peer", &theirs]);
    wait_for_peer(&mut other, &theirs);
    let is_from_it = |event: &Value| is(event, "pex_peers") && is_from(event, &theirs);
    let told = |btget: &Btget| btget.events().iter().any(is_from_it);
    let deadline = std::time::Instant::now() + Duration::from_secs(150);
    while !(told(&one) || told(&other)) {
        assert!(std::time::Instant::now() < deadline, "{}\n{}", one.story(), other.story());
        thread::sleep(Duration::from_millis(100));
    }
    let connected = |btget: &Btget, to: &str| {
        let is_it = |event: &Value| {
            is(event, "peer_handshake_complete") && event["address"].as_str().unwrap().starts_with(to)
        };
        btget.events().iter().any(is_it)
    };
    wait_until(
        "a connection",
        || format!("{}\n{}", one.story(), other.story()),
        || (connected(&one, "10.1.0.3:") && connected(&other, "10.1.0.1:")).then_some(()),
    );
}

fn without() {
    let fixture = fixture();
    let mut hub = btget(&fixture, "hub", &["--no-pex"]);
    let hubs = address_of(&mut hub);
    let mut one = btget(&fixture, "one", &["--peer", &hubs]);
    wait_for_peer(&mut one, &hubs);
    let mut other = btget(&fixture, "other", &["--peer", &hubs]);
    wait_for_peer(&mut other, &hubs);
    thread::sleep(TOLD_BY_NOW);
    assert!(!offers(&hub.events()));
    for btget in [&hub, &one, &other] {
        assert_eq!(exchanged(&btget.events()), (0, 0), "{}", btget.story());
    }
    let handshakes = |of: &Btget| of.events().iter().filter(|it| is(it, "peer_handshake_complete")).count();
    assert_eq!((handshakes(&one), handshakes(&other)), (1, 1));
}

fn private() {
    let fixture = Fixture::private(600_000, NOBODY, 11);
    let seed = fixture.full_folder("seed");
    let slowly = ["--json", "--events", "debug", "--max-upload-rate", "100K"];
    let mut hub = Btget::start(&fixture, Family::V4, &seed, &slowly);
    let hubs = address_of(&mut hub);
    let hub_port = hubs.rsplit(':').next().unwrap();
    let libtorrent = libtorrent(&fixture, "libtorrent", &["--log-pex", "--peer", "127.0.0.1", hub_port]);
    let lt = format!("127.0.0.1:{}", libtorrent.port());
    let mut one = btget(&fixture, "one", &["--peer", &hubs, "--peer", &lt]);
    wait_for_peer(&mut one, &hubs);
    let mut other = btget(&fixture, "other", &["--peer", &hubs]);
    wait_for_peer(&mut other, &hubs);
    thread::sleep(TOLD_BY_NOW);
    for btget in [&mut one, &mut other] {
        btget.wait_for_event("everything", |event| is(event, "complete"));
    }
    for btget in [&hub, &one, &other] {
        let events = btget.events();
        assert!(!offers(&events) && exchanged(&events) == (0, 0), "{}", btget.story());
        assert!(!events.iter().any(|event| is(event, "pex_peers")));
    }
    assert!(!libtorrent.lines().iter().any(|line| line.starts_with("pex ")), "{}", libtorrent.story());
}

/// A fetching btget and its peers tell one another of others, as long as nobody knows better.
fn turns_out_private() {
    let fixture = Fixture::private(600_000, NOBODY, 11);
    let metainfo = Metainfo::parse(&std::fs::read(fixture.torrent()).unwrap()).unwrap();
    let link = Magnet::from(&metainfo).to_string();
    let options = |more: &[&str]| -> Vec<String> {
        [&["--json", "--events", "debug", "--no-seed"], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    };
    let magnet = |label: &str, more: &[&str]| {
        let folder = fixture.empty_folder(label);
        let options = options(more);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Btget::magnet(&link, &folder, &options)
    };
    let folder = fixture.empty_folder("libtorrent");
    let libtorrent = Libtorrent::start_by(None, &link, "127.0.0.1", &folder, &["--log-pex"]);
    let lt = format!("127.0.0.1:{}", libtorrent.port());
    let mut hub = magnet("hub", &["--peer", &lt]);
    let hubs = address_of(&mut hub);
    let other = magnet("other", &["--peer", &hubs]);
    // So that it is known that there would be something to see.
    wait_until("peer exchange", || hub.story(), || (exchanged(&hub.events()).0 > 0).then_some(()));

    let seed = fixture.full_folder("seed");
    let seed = Btget::start(&fixture, Family::V4, &seed, &["--peer", &hubs, "--max-upload-rate", "100K"]);
    hub.wait_for_success();
    drop((seed, other, libtorrent));
    let events = hub.events();
    let known = events.iter().position(|event| is(event, "metadata_received")).unwrap();
    assert_eq!(events[known]["private"], true);
    let (before, after) = (exchanged(&events[..known]).0, exchanged(&events).0);
    assert_eq!(before, after, "sent: {}", hub.story());
    assert!(!events[known..].iter().any(|event| is(event, "pex_peers")));
    // It is taken back on the connections that there were, and not offered again.
    let told = |id: u64| {
        let told = events[known..].iter().filter(|event| is(event, "peer_packet_out"));
        told.filter(|event| event["extensions"]["ut_pex"].as_u64() == Some(id)).count()
    };
    assert!(told(0) >= 2 && !offers(&events[known..]), "{}", hub.story());
}
