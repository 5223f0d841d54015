//! The distributed hash table (BEP 5) as users have it: torrents without any tracker, between btgets and with real clients, and what is
//! never asked of it.

mod support;

use std::fs;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::Arguments;
use serde_json::Value;

use btget::metainfo::{Magnet, Metainfo};

use support::clients::{Btget, Client, Libtorrent, TRANSMISSION_PORT, Transmission, is_in_path};
use support::events::{is, summary};
use support::fixture::{Family, Fixture};
use support::hub::Hub;
use support::networks::{World, can_have_networks};
use support::process::{Process, wait_until};
use support::system::trial;

fn main() -> ExitCode {
    let has_libtorrent = Client::Libtorrent.is_installed();
    let has_v6 = Family::V6.is_available();
    let tests: [(&str, bool, fn()); 14] = [
        ("two_btgets_find_one_another_by_the_table_alone", true, || two(Family::V4)),
        ("and_over_ipv6", has_v6, || two(Family::V6)),
        ("btget_finds_libtorrent", has_libtorrent, || finds_libtorrent(Family::V4)),
        ("btget_finds_libtorrent_over_ipv6", has_libtorrent && has_v6, || finds_libtorrent(Family::V6)),
        ("libtorrent_finds_btget", has_libtorrent, || found_by_libtorrent(Family::V4)),
        ("libtorrent_finds_btget_over_ipv6", has_libtorrent && has_v6, || found_by_libtorrent(Family::V6)),
        ("libtorrent_is_all_that_btgets_have_for_a_table", has_libtorrent, libtorrent_is_the_table),
        ("aria2c_finds_btget", is_in_path("aria2c"), found_by_aria2),
        ("a_private_torrent_sends_no_packet", true, private),
        ("show_asks_and_announces_nothing", true, show),
        ("the_next_start_needs_no_node_to_begin_with", true, second_start),
        ("two_at_a_time_are_two_nodes", true, two_at_a_time),
        ("a_peer_tells_where_its_node_is", true, port_message),
        ("without_the_table_no_packet_port_is_open", true, without),
    ];
    let mut trials: Vec<_> =
        tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)).collect();
    let with_aria2 = is_in_path("aria2c");
    trials.push(trial("btget_finds_aria2c", with_aria2, finds_aria2));
    let with_transmission = can_have_networks() && Client::Transmission.is_installed();
    trials.push(trial(
        "transmission_is_all_that_btgets_have_for_a_table",
        with_transmission,
        by_transmission,
    ));
    trials.push(trial("btget_finds_transmission", with_transmission, finds_transmission));
    trials.push(trial("garbage_does_no_harm", true, garbage));
    trials.push(trial("nodes_of_the_torrent_are_asked", true, nodes_of_the_torrent));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

fn fixture() -> Fixture {
    Fixture::single(300_000, NOBODY, 21)
}

/// The link to it, without any tracker.
fn link(fixture: &Fixture) -> String {
    let metainfo = Metainfo::parse(&fs::read(fixture.torrent()).unwrap()).unwrap();
    Magnet::new(metainfo.info_hash).to_string()
}

/// A btget that begins with these nodes, and tells.
fn btget(torrent: &str, family: Family, folder: &Path, nodes: &[SocketAddr], options: &[&str]) -> Btget {
    let mut command = Btget::command_with_dht();
    command.arg(torrent);
    if nodes.is_empty() {
        command.args(["--dht-bootstrap", "none"]);
    }
    nodes.iter().for_each(|node| _ = command.args(["--dht-bootstrap", &node.to_string()]));
    Btget::run(Btget::on_loopback(&mut command, family, folder).arg("--json").args(options))
}

fn seed(fixture: &Fixture, family: Family, nodes: &[SocketAddr]) -> Btget {
    let folder = fixture.full_folder("seed");
    btget(fixture.torrent().to_str().unwrap(), family, &folder, nodes, &[])
}

/// Waits until nodes have taken note of it.
fn wait_for_announce(btget: &mut Btget) -> Value {
    btget.wait_for_event("an announce", |event| is(event, "dht_announce") && event["nodes"] != 0)
}

/// Where it is called and, by UDP, asked.
fn address_of(btget: &mut Btget) -> SocketAddr {
    let told = btget.wait_for_event("where it listens", |event| is(event, "listen_success"));
    told["address"].as_str().unwrap().parse().unwrap()
}

/// The log of two processes, for the case that it goes wrong.
fn two(family: Family) {
    let fixture = fixture();
    let hub = Hub::start(family, &[]);
    let mut seed = seed(&fixture, family, &[hub.address]);
    wait_for_announce(&mut seed);
    let started = seed.wait_for_event("the start", |event| is(event, "dht_started"));
    assert_eq!(started["nodes"], 1);
    let target = fixture.empty_folder("target");
    let mut leech = btget(&link(&fixture), family, &target, &[hub.address], &["--no-seed"]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
    assert_eq!(summary(&leech)["peers_found"]["dht"], 1);
    assert_eq!(summary(&leech)["peers_found"]["tracker"], 0);
    let found = leech.events().into_iter().find(|event| is(event, "dht_peers"));
    if let Some(found) = found {
        assert_eq!(found["peers"], 1, "{found}");
    }
    assert!(!seed.events().iter().any(|event| is(event, "dht_peers") && event["peers"] != 0));
}

fn libtorrent(fixture: &Fixture, torrent: &str, label: &str, family: Family, node: SocketAddr) -> Libtorrent {
    let folder = if label == "seed" { fixture.full_folder(label) } else { fixture.empty_folder(label) };
    let address = family.loopback().to_string();
    Libtorrent::start_by(None, torrent, &address, &folder, &["--dht", &node.to_string()])
}

fn finds_libtorrent(family: Family) {
    let fixture = fixture();
    let hub = Hub::start(family, &[]);
    let torrent = fixture.torrent();
    let _seed = libtorrent(&fixture, torrent.to_str().unwrap(), "seed", family, hub.address);
    wait_until("libtorrent to announce", String::new, || {
        (!hub.queries("announce_peer").is_empty()).then_some(())
    });
    let target = fixture.empty_folder("target");
    let mut leech = btget(&link(&fixture), family, &target, &[hub.address], &["--no-seed"]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
}

fn found_by_libtorrent(family: Family) {
    use support::clients::Node;
    let fixture = fixture();
    let hub = Hub::start(family, &[]);
    let mut seed = seed(&fixture, family, &[hub.address]);
    wait_for_announce(&mut seed);
    let mut leech = libtorrent(&fixture, &link(&fixture), "target", family, hub.address);
    leech.wait_until_complete();
}

/// Both btgets know nobody but a libtorrent node.
fn libtorrent_is_the_table() {
    let (fixture, other) = (fixture(), Fixture::single(20_000, NOBODY, 22));
    let hub = Hub::start(Family::V4, &[]);
    let torrent = other.torrent();
    let node = libtorrent(&other, torrent.to_str().unwrap(), "seed", Family::V4, hub.address);
    let node: SocketAddr = ([127, 0, 0, 1], node.port()).into();
    let mut seed = seed(&fixture, Family::V4, &[node]);
    wait_for_announce(&mut seed);
    let target = fixture.empty_folder("target");
    let mut leech = btget(&link(&fixture), Family::V4, &target, &[node], &["--no-seed"]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
}

fn found_by_aria2() {
    let fixture = fixture();
    let hub = Hub::start(Family::V4, &[]);
    let mut seed = seed(&fixture, Family::V4, &[hub.address]);
    wait_for_announce(&mut seed);
    let target = fixture.empty_folder("target");
    let mut command = support::clients::aria2_with_dht(&link(&fixture), &target, hub.address);
    let mut aria2 = Process::start("aria2c", &mut command);
    aria2.wait_for_line(&["SEED("]);
    fixture.assert_data_complete(&target);
}

fn finds_aria2() {
    let fixture = fixture();
    let hub = Hub::start(Family::V4, &[]);
    let torrent = fixture.torrent();
    let folder = fixture.full_folder("seed");
    let mut command = support::clients::aria2_with_dht(torrent.to_str().unwrap(), &folder, hub.address);
    let aria2 = Process::start("aria2c", &mut command);
    wait_until(
        "aria2c to announce",
        || aria2.story(),
        || (!hub.queries("announce_peer").is_empty()).then_some(()),
    );
    let target = fixture.empty_folder("target");
    let mut leech = btget(&link(&fixture), Family::V4, &target, &[hub.address], &["--no-seed"]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
}

/// On the second machine, which enters the DHT by this node: it takes no address of loopback for one.
fn transmission_on(world: &World, fixture: &Fixture, node: &str) -> Process {
    let mut by = std::process::Command::new("nsenter");
    by.arg(world.machine(2).option());
    let folder = fixture.empty_folder("transmission");
    Transmission::start_with_dht(by, &fixture.torrent(), "10.1.0.2", &folder, node)
}

/// It answers though it knows too few nodes to announce anything itself.
fn by_transmission() {
    let (world, fixture) = (World::new(), fixture());
    let other = Fixture::single(20_000, NOBODY, 25);
    let _transmission = transmission_on(&world, &other, "10.1.0.1 6881");
    let folder = fixture.full_folder("seed");
    let node = format!("10.1.0.2:{TRANSMISSION_PORT}");
    let options = ["--no-lsd", "--port", "6881", "--dht-bootstrap", &node];
    let mut seed = world.machine(1).btget(fixture.torrent(), &folder, &options);
    wait_for_announce(&mut seed);
    let target = fixture.empty_folder("target");
    let options = ["--no-lsd", "--no-seed", "--dht-bootstrap", &node];
    let mut leech = world.machine(3).btget(link(&fixture), &target, &options);
    leech.wait_for_success();
    fixture.assert_complete(&target);
}

/// It announces itself in a network of ten btgets, and is found by another.
fn finds_transmission() {
    let (world, fixture) = (World::new(), fixture());
    let other = Fixture::single(20_000, NOBODY, 26);
    let nodes: Vec<SocketAddrV4> =
        (7001..=7010).map(|port| SocketAddrV4::new([10, 1, 0, 1].into(), port)).collect();
    let first = nodes[0].to_string();
    let start = |node: &SocketAddrV4| {
        let port = node.port().to_string();
        let options = ["--no-lsd", "--no-port-map", "--port", &port, "--dht-bootstrap", &first];
        world.machine(1).btget(other.torrent(), &other.empty_folder(&port), &options)
    };
    let _nodes: Vec<Btget> = nodes.iter().map(start).collect();
    let mut by = std::process::Command::new("nsenter");
    by.arg(world.machine(2).option());
    let folder = fixture.full_folder("transmission");
    let mut transmission =
        Transmission::start_with_table(by, &fixture.torrent(), "10.1.0.2", &folder, &nodes);
    transmission.wait_for_line(&["Got reply to announce_peer"]);
    let target = fixture.empty_folder("target");
    let options = ["--no-lsd", "--no-port-map", "--no-seed", "--dht-bootstrap", &first];
    let mut leech = world.machine(3).btget(link(&fixture), &target, &options);
    leech.wait_for_success();
    fixture.assert_complete(&target);
}

/// Whoever has nothing but private torrents asks nobody, and answers nobody.
fn private() {
    let fixture = Fixture::private(300_000, NOBODY, 23);
    let hub = Hub::start(Family::V4, &[]);
    let mut seed = seed(&fixture, Family::V4, &[hub.address]);
    let address = address_of(&mut seed);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = fixture.empty_folder("target");
    let options = ["--no-seed", "--peer", &address.to_string(), "--events", "debug"];
    let torrent = fixture.torrent();
    let mut leech = btget(torrent.to_str().unwrap(), Family::V4, &target, &[hub.address], &options);
    socket.send_to(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", address).unwrap();
    leech.wait_for_success();
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv_from(&mut [0; 100]).is_err(), "an answer");
    assert_eq!(hub.packets(), Vec::<Vec<u8>>::new());
    let events = leech.events();
    assert!(!events.iter().any(|event| event["type"] == "port"), "{events:#?}");
}

fn show() {
    let fixture = fixture();
    let hub = Hub::start(Family::V4, &[]);
    let mut seed = seed(&fixture, Family::V4, &[hub.address]);
    wait_for_announce(&mut seed);
    let announces = hub.queries("announce_peer").len();
    let before = hub.packets().len();
    let target = fixture.empty_folder("target");
    let mut shown = btget(&link(&fixture), Family::V4, &target, &[hub.address], &["--show"]);
    shown.wait_for_success();
    let asked: Vec<Vec<u8>> = hub.packets().split_off(before);
    let is_read_only = |packet: &Vec<u8>| packet.windows(7).any(|window| window == b"2:roi1e");
    assert!(asked.iter().any(is_read_only), "{asked:?}");
    assert_eq!(hub.queries("announce_peer").len(), announces);
    assert!(!target.join("state").exists(), "it keeps nothing");
}

fn second_start() {
    let fixture = fixture();
    let hub = Hub::start(Family::V4, &[]);
    let folder = fixture.full_folder("seed");
    let torrent = fixture.torrent();
    let torrent = torrent.to_str().unwrap();
    let mut first = btget(torrent, Family::V4, &folder, &[hub.address], &[]);
    wait_for_announce(&mut first);
    first.terminate();
    first.wait_for_success();
    assert!(folder.join("state/dht4").is_file());
    let mut second = btget(torrent, Family::V4, &folder, &[], &[]);
    wait_for_announce(&mut second);
    // What is damaged is as good as nothing.
    second.terminate();
    second.wait_for_success();
    for damaged in [&b""[..], b"btget dht 1\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &[0xff; 70_000]] {
        fs::write(folder.join("state/dht4"), damaged).unwrap();
        let mut third = btget(torrent, Family::V4, &folder, &[hub.address], &[]);
        wait_for_announce(&mut third);
        third.terminate();
        third.wait_for_success();
    }
}

/// The id that a process asks with.
fn ids(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let id = |packet: &Vec<u8>| {
        let at = packet.windows(7).position(|window| window == b"2:id20:")?;
        Some(packet[at + 7..at + 27].to_vec())
    };
    let mut ids: Vec<Vec<u8>> = packets.iter().filter_map(id).collect();
    ids.sort();
    ids.dedup();
    ids
}

fn two_at_a_time() {
    let fixture = fixture();
    let hub = Hub::start(Family::V4, &[]);
    let folder = fixture.full_folder("seed");
    let torrent = fixture.torrent();
    let torrent = torrent.to_str().unwrap();
    let other = Fixture::single(20_000, NOBODY, 24);
    let mut first = btget(torrent, Family::V4, &folder, &[hub.address], &[]);
    wait_for_announce(&mut first);
    first.terminate();
    first.wait_for_success();
    assert_eq!(ids(&hub.packets()).len(), 1);
    // The same state folder, the same id: but only for one of them at a time.
    let mut second = btget(torrent, Family::V4, &folder, &[hub.address], &[]);
    wait_for_announce(&mut second);
    assert_eq!(ids(&hub.packets()).len(), 1);
    let state = folder.join("state");
    let options = ["--state-dir", state.to_str().unwrap()];
    let others = other.full_folder("seed");
    let mut beside = btget(other.torrent().to_str().unwrap(), Family::V4, &others, &[hub.address], &options);
    wait_for_announce(&mut beside);
    assert_eq!(ids(&hub.packets()).len(), 2);
}

fn port_message() {
    let fixture = fixture();
    let hub = Hub::start(Family::V4, &[]);
    let mut seed = seed(&fixture, Family::V4, &[hub.address]);
    wait_for_announce(&mut seed);
    let address = address_of(&mut seed);
    let target = fixture.empty_folder("target");
    let torrent = fixture.torrent();
    let mut leech =
        btget(torrent.to_str().unwrap(), Family::V4, &target, &[], &["--peer", &address.to_string()]);
    // By the seed's node it finds the hub, and announces to both.
    leech.wait_for_event("both nodes", |event| is(event, "dht_announce") && event["nodes"] == 2);
}

fn without() {
    let fixture = fixture();
    let folder = fixture.full_folder("seed");
    let mut quiet = Btget::start(&fixture, Family::V4, &folder, &["--json"]);
    let address = address_of(&mut quiet);
    quiet.wait_for_event("seeding", |event| is(event, "seeding"));
    assert!(quiet.events().iter().all(|event| event["protocol"] != "udp4"));
    UdpSocket::bind(address).unwrap();
    // With the table, packets are taken at the port of connections.
    let folder = fixture.full_folder("other");
    let mut open = btget(fixture.torrent().to_str().unwrap(), Family::V4, &folder, &[], &[]);
    let address = address_of(&mut open);
    open.wait_for_event("the UDP port", |event| event["protocol"] == "udp4");
    assert!(UdpSocket::bind(address).is_err());
}

fn garbage() {
    let fixture = fixture();
    let hub = Hub::start(Family::V4, &[]);
    let mut seed = seed(&fixture, Family::V4, &[hub.address]);
    wait_for_announce(&mut seed);
    let address = address_of(&mut seed);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let query =
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe";
    for _ in 0..20_000 {
        let mut packet = query.to_vec();
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..packet.len());
            packet[at] = rng.u8(..);
        }
        packet.truncate(rng.usize(0..=packet.len()));
        // The system's buffer may be full.
        let _ = socket.send_to(&packet, address);
    }
    let target = fixture.empty_folder("target");
    let mut leech = btget(&link(&fixture), Family::V4, &target, &[hub.address], &["--no-seed"]);
    leech.wait_for_success();
    seed.assert_alive();
}

fn nodes_of_the_torrent() {
    let fixture = fixture();
    let hub = Hub::start(Family::V4, &[]);
    let folder = fixture.full_folder("seed");
    let torrent = fs::read(fixture.torrent()).unwrap();
    let nodes = format!("5:nodesll9:127.0.0.1i{}eee", hub.address.port());
    // After `info`, and before nothing.
    let with_nodes = [&torrent[..torrent.len() - 1], nodes.as_bytes(), b"e"].concat();
    let path = folder.join("nodes.torrent");
    fs::write(&path, with_nodes).unwrap();
    let mut seed = btget(path.to_str().unwrap(), Family::V4, &folder, &[], &[]);
    wait_for_announce(&mut seed);
}
