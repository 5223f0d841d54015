//! Holepunching (BEP 55): machines behind routers that let in nobody meet by way of one who knows both; also with libtorrent in each part.
//!
//! Has a main of its own, to report what this machine lacks as ignored.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::Arguments;
use serde_json::Value;

use btget::internals::wire::extended::{ExtensionHandshake, HolepunchMessage, UT_HOLEPUNCH, UT_PEX};
use btget::internals::wire::{Handshake, Message, PeerId, Reserved};
use btget::metainfo::Metainfo;
use support::clients::{Btget, Client, Libtorrent};
use support::events::is;
use support::fixture::{Family, Fixture};
use support::networks::{Router, World, can_have_networks};
use support::process::{PATIENCE, wait_until};
use support::system::trial;

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

/// The id under which btget wants messages of `ut_holepunch`.
const OUR_HOLEPUNCH: u64 = 4;

fn main() -> ExitCode {
    let networks = can_have_networks();
    let with_libtorrent = networks && Client::Libtorrent.is_installed();
    let tests: [(&str, bool, fn()); 5] = [
        ("two_behind_translating_routers_meet_and_transfer", networks, two_meet),
        ("without_it_they_do_not_meet", networks, without),
        ("two_meet_by_way_of_libtorrent", with_libtorrent, by_libtorrent),
        ("who_is_told_to_call_many_calls_ten_and_nobody_by_tcp", true, told_to_call_many),
        ("libtorrent_is_met_by_way_of_btget", with_libtorrent, with_libtorrent_behind),
    ];
    let trials = tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Starts a btget on the machine of this number with all events.
fn btget(world: &World, number: usize, fixture: &Fixture, folder: &Path, options: &[&str]) -> Btget {
    let mut command = world.machine(number).command(Btget::program());
    command.arg(fixture.torrent()).arg("--basedir").arg(folder);
    command.args(["--state-dir", "", "--port", "0", "--progress", "none", "--json", "--events", "debug"]);
    command.args(["--no-lsd", "--no-dht", "--no-port-map"]).args(options);
    Btget::run(&mut command)
}

/// Where a btget listens, once it takes who calls for the torrent: before it would close them.
fn listens(btget: &mut Btget) -> String {
    btget.wait_for_event("its start", |event| is(event, "tracker_announce"));
    let told = btget.wait_for_event("where it listens", |event| is(event, "listen_success"));
    told["address"].as_str().unwrap().to_owned()
}

/// Where a btget of the third machine can be called.
fn hub_address(hub: &mut Btget) -> String {
    format!("10.1.0.3:{}", listens(hub).rsplit(':').next().unwrap())
}

/// Whether it is a connection with the machine of this number.
fn is_with(event: &Value, number: usize) -> bool {
    let machine = format!("10.1.0.{number}:");
    is(event, "peer_handshake_complete") && event["address"].as_str().unwrap().starts_with(&machine)
}

/// Waits for a connection with the machine of this number.
fn wait_for(btget: &mut Btget, number: usize) -> Value {
    btget.wait_for_event("the connection", |event| is_with(event, number))
}

/// Whether it is a message of holepunching to btget.
fn is_holepunch_in(event: &Value) -> bool {
    is(event, "peer_packet_in") && event["type"] == "extended" && event["id"] == OUR_HOLEPUNCH
}

/// A file for the one that they meet by, and one for the other.
fn two_files() -> Fixture {
    let mut rng = fastrand::Rng::with_seed(55);
    let mut file = || (0..300_000).map(|_| rng.u8(..)).collect::<Vec<u8>>();
    Fixture::of("album", vec![("one.bin", file()), ("two.bin", file())], NOBODY)
}

/// The one that knows both has nothing that the other wants; and none has all, so that nobody leaves for that.
fn two_meet() {
    let (world, fixture) = (World::behind(Some(Router::Translating)), two_files());
    let mut hub = btget(&world, 3, &fixture, &fixture.empty_folder("hub"), &["--files", "*/one.bin"]);
    let hubs = hub_address(&mut hub);
    let folder = fixture.full_folder("seed");
    let damaged = folder.join("album/one.bin");
    let mut data = fs::read(&damaged).unwrap();
    data[0] ^= 1;
    fs::write(&damaged, data).unwrap();
    let mut seed = btget(&world, 1, &fixture, &folder, &["--transport", "utp", "--peer", &hubs]);
    wait_for(&mut seed, 3);
    let folder = fixture.empty_folder("leech");
    let options = ["--transport", "utp", "--peer", &hubs, "--files", "*/two.bin", "--no-seed"];
    let mut leech = btget(&world, 2, &fixture, &folder, &options);
    leech.wait_for_success();
    fixture.assert_there(&folder, &["album/two.bin"]);
    let met = leech.events().into_iter().find(|event| is_with(event, 1)).unwrap();
    assert_eq!(met["address"], "10.1.0.1:40000");
    assert!(leech.events().iter().any(is_holepunch_in), "{}", leech.story());
    assert!(seed.events().iter().any(|event| is_with(event, 2)), "{}", seed.story());
    assert!(
        world.connections_by("d1", "10.1.0.2").is_empty()
            && world.connections_by("d2", "10.1.0.1").is_empty()
    );
}

/// One of them has switched it off, and so the other is told that it cannot be met.
fn without() {
    let (world, fixture) = (World::behind(Some(Router::Translating)), two_files());
    let mut hub = btget(&world, 3, &fixture, &fixture.empty_folder("hub"), &[]);
    let hubs = hub_address(&mut hub);
    let options = ["--transport", "utp", "--peer", &hubs, "--no-pex"];
    let mut one = btget(&world, 1, &fixture, &fixture.empty_folder("one"), &options);
    wait_for(&mut one, 3);
    let mut other = btget(&world, 2, &fixture, &fixture.empty_folder("other"), &options[..4]);
    other.wait_for_event("the refusal", is_holepunch_in);
    assert!(!other.events().iter().any(|event| is_with(event, 1)), "{}", other.story());
    assert!(!one.events().iter().any(|event| is_with(event, 2)), "{}", one.story());
}

/// Both are told of one another, and call at the same time; by one packet each, they would not meet.
fn by_libtorrent() {
    let (world, fixture) = (World::behind(Some(Router::Wary)), two_files());
    let (torrent, folder) = (fixture.torrent(), fixture.empty_folder("hub"));
    let by = world.machine(3).command("env");
    let mut hub = Libtorrent::start_by(Some(by), torrent.to_str().unwrap(), "10.1.0.3", &folder, &["--utp"]);
    hub.wait_for_line(&["pieces "]);
    let hubs = format!("10.1.0.3:{}", hub.port());
    let options = ["--transport", "utp", "--peer", &hubs];
    let mut one = btget(&world, 1, &fixture, &fixture.empty_folder("one"), &options);
    let mut other = btget(&world, 2, &fixture, &fixture.empty_folder("other"), &options);
    wait_for(&mut one, 2);
    wait_for(&mut other, 1);
    for btget in [&one, &other] {
        assert!(btget.events().iter().any(is_holepunch_in), "{}", btget.story());
    }
}

fn with_libtorrent_behind() {
    let (world, fixture) = (World::behind(Some(Router::Translating)), two_files());
    let mut hub = btget(&world, 3, &fixture, &fixture.empty_folder("hub"), &[]);
    let hubs = hub_address(&mut hub);
    let (torrent, folder) = (fixture.torrent(), fixture.empty_folder("one"));
    let by = world.machine(1).command("env");
    let options = ["--utp", "--peer", "10.1.0.3", hubs.rsplit(':').next().unwrap()];
    let one = Libtorrent::start_by(Some(by), torrent.to_str().unwrap(), "10.1.0.1", &folder, &options);
    wait_for(&mut hub, 1);
    let options = ["--transport", "utp", "--peer", &hubs];
    let mut other = btget(&world, 2, &fixture, &fixture.empty_folder("other"), &options);
    let met = wait_for(&mut other, 1);
    assert_eq!(met["address"], "10.1.0.1:40000", "{}", other.story());
    assert!(other.events().iter().any(is_holepunch_in), "{}", other.story());
    let is_met = || one.lines().iter().any(|line| line.starts_with("peer 10.1.0.2 ")).then_some(());
    wait_until("the connection", || one.story(), is_met);
}

/// Somebody at an address, who listens by UDP and by TCP.
struct Victim {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Victim {
    fn new() -> Victim {
        loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                tcp.set_nonblocking(true).unwrap();
                udp.set_read_timeout(Some(PATIENCE)).unwrap();
                return Victim { udp, tcp };
            }
        }
    }

    fn address(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }
}

/// A peer that would have others flooded by us.
fn told_to_call_many() {
    let fixture = two_files();
    let folder = fixture.empty_folder("target");
    let options = ["--json", "--events", "debug", "--transport", "both"];
    let mut btget = Btget::start_by(Btget::command_with_utp(), &fixture, Family::V4, &folder, &options);
    let address = listens(&mut btget);
    let mut peer = TcpStream::connect(&address).unwrap();
    let info_hash = Metainfo::parse(&fs::read(fixture.torrent()).unwrap()).unwrap().info_hash.wire();
    let ours = Handshake { reserved: Reserved::EXTENSION, info_hash, peer_id: PeerId([b'x'; 20]) };
    peer.write_all(&ours.encode()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.read_exact(&mut [0; 68]).unwrap();
    let extensions = vec![(UT_PEX.to_owned(), 1), (UT_HOLEPUNCH.to_owned(), 2)];
    let mut said = Vec::new();
    Message::from(&ExtensionHandshake { extensions, ..ExtensionHandshake::default() }).encode_into(&mut said);
    let victims: Vec<Victim> = (0..30).map(|_| Victim::new()).collect();
    for victim in &victims {
        let payload = HolepunchMessage::Connect(victim.address()).encode();
        Message::Extended { id: OUR_HOLEPUNCH as u8, payload }.encode_into(&mut said);
    }
    peer.write_all(&said).unwrap();
    let (called, spared) = victims.split_at(10);
    for victim in called {
        let mut packet = [0; 100];
        let (_, from) = victim.udp.recv_from(&mut packet).unwrap_or_else(|_| panic!("{}", btget.story()));
        assert_eq!((packet[0] >> 4, from.to_string()), (4, address.clone()));
    }
    for victim in spared {
        victim.udp.set_nonblocking(true).unwrap();
        assert_eq!(victim.udp.recv(&mut [0; 100]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    for victim in &victims {
        assert_eq!(victim.tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
