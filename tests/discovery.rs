//! Local discovery (BEP 14), on networks of our own: a namespace for each machine, and a program that carries packets from each to all
//! others of its network and tells of those for discovery. Nothing of it ever reaches a real network.
//!
//! Has a main of its own, to report a machine that allows none of this as ignored.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::Arguments;

use btget::metainfo::Metainfo;

use support::clients::{Btget, Client, Libtorrent};
use support::events::is;
use support::fixture::Fixture;
use support::networks::{Machine, World, can_have_networks};
use support::process::{Process, wait_until};
use support::system::trial;

fn main() -> ExitCode {
    let possible = can_have_networks();
    let with_libtorrent = possible && Client::Libtorrent.is_installed();
    let tests: [(&str, bool, fn()); 8] = [
        ("two_btgets_find_one_another", possible, two_btgets),
        ("btget_and_libtorrent_find_one_another", with_libtorrent, libtorrent),
        ("without_it_and_when_private_not_one_packet_is_sent", possible, silent),
        ("bound_to_an_address_only_its_interface_is_used", possible, bound),
        ("bound_to_loopback_nothing_leaves_the_machine", possible, loopback),
        ("a_taken_port_is_done_without", possible, taken_port),
        ("packets_from_elsewhere_and_our_own_are_ignored", possible, ignored),
        ("what_others_of_the_machine_hear_on_other_interfaces_is_not_heard", possible, others_groups),
    ];
    let trials = tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

const V4_GROUP: &str = "239.192.152.143";
const V6_GROUP: &str = "ff15::efc0:988f";

/// A btget without a tracker that answers, with these options and all events.
fn btget(machine: &Machine, fixture: &Fixture, folder: &Path, options: &[&str]) -> Btget {
    machine.btget(fixture.torrent(), folder, &[&["--no-pex", "--no-dht"], options].concat())
}

fn fixture() -> Fixture {
    Fixture::single(300_000, NOBODY, 14)
}

fn two_btgets() {
    let (world, fixture) = (World::new(), fixture());
    let seed = btget(world.machine(1), &fixture, &fixture.full_folder("seed"), &[]);
    let target = fixture.empty_folder("target");
    let mut leech = btget(world.machine(2), &fixture, &target, &["--no-seed"]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
    let local = leech.events().into_iter().chain(seed.events()).any(|event| is(&event, "lsd_peer"));
    assert!(local, "{}\n{}", leech.story(), seed.story());
    // On each network, to each group: at once, and again after 5 s; no farther than the next router.
    world.wait_for_packets("d1", 4);
    let expected = [format!("10.1.0.1 {V4_GROUP} 1"), format!("fe80::1 {V6_GROUP} 1")];
    for packets in world.sent_by("d1").chunks(2) {
        assert_eq!(packets, expected);
    }
    world.wait_for_packets("e1", 4);
    assert!(world.sent_by("d1").len() == 4 && world.sent_by("e1").len() == 4, "{}", world.cables.story());
}

fn libtorrent() {
    let fixture = fixture();
    let torrent = fixture.torrent();
    let torrent = torrent.to_str().unwrap();
    let start = |world: &World, address: &str, folder: &Path| {
        // The program itself comes after what is to run it.
        let mut by = Command::new("nsenter");
        by.arg(world.machine(2).option());
        Libtorrent::start_by(Some(by), torrent, address, folder, &["--lsd"])
    };
    for (round, address, from) in [(1, "10.1.0.2", "10.1.0.2"), (2, "fd01::2", "fd01::2")] {
        let world = World::new();
        if round == 2 {
            // libtorrent's packets come from the address at which it listens, which need not be that of the link.
            world.machine(1).shell("ip addr flush dev e1; ip -6 addr add fd01::1/64 dev d1 nodad; ip addr del 10.1.0.1/24 dev d1");
            world.machine(2).shell("ip -6 addr add fd01::2/64 dev d2 nodad");
        }
        let target = fixture.empty_folder(&format!("target-{round}"));
        let _libtorrent = start(&world, address, &fixture.full_folder(&format!("libtorrent-{round}")));
        let mut leech = btget(world.machine(1), &fixture, &target, &["--no-seed"]);
        leech.wait_for_event("libtorrent", |event| {
            is(event, "lsd_peer") && event["address"].as_str().unwrap().contains(from)
        });
        leech.wait_for_success();
        fixture.assert_complete(&target);
    }
    let world = World::new();
    let target = fixture.empty_folder("libtorrent");
    let _seed = btget(world.machine(1), &fixture, &fixture.full_folder("seed"), &["--bind", "10.1.0.1"]);
    let mut libtorrent = start(&world, "10.1.0.2", &target);
    libtorrent.wait_for_line(&["complete"]);
    fixture.assert_data_complete(&target);
}

fn silent() {
    let plain = fixture();
    for (fixture, options) in [(plain, &["--no-lsd"][..]), (Fixture::private(300_000, NOBODY, 15), &[])] {
        let world = World::new();
        let seed = btget(world.machine(1), &fixture, &fixture.full_folder("seed"), options);
        let port = wait_until(
            "where it listens",
            || seed.story(),
            || {
                let events = seed.events();
                let told = events.iter().find(|event| is(event, "listen_success"));
                told.and_then(|event| event["port"].as_u64())
            },
        );
        let target = fixture.empty_folder("target");
        let peer = format!("10.1.0.1:{port}");
        let slowly = ["--no-seed", "--peer", &peer, "--max-download-rate", "50K"];
        let mut leech = btget(world.machine(2), &fixture, &target, &[&slowly, options].concat());
        leech.wait_for_success();
        fixture.assert_complete(&target);
        for device in ["d1", "e1", "d2"] {
            assert_eq!(world.sent_by(device), Vec::<String>::new(), "{options:?}");
        }
    }
}

fn bound() {
    let (world, fixture) = (World::new(), fixture());
    let seed = btget(world.machine(1), &fixture, &fixture.full_folder("seed"), &["--bind", "10.2.0.1"]);
    let there = fixture.empty_folder("there");
    btget(world.machine(4), &fixture, &there, &["--no-seed"]).wait_for_success();
    fixture.assert_complete(&there);
    world.wait_for_packets("e1", 2);
    assert_eq!(world.sent_by("d1"), Vec::<String>::new());
    assert!(world.sent_by("e1").iter().all(|packet| *packet == format!("10.2.0.1 {V4_GROUP} 1")));
    // Nor is anybody on the other network heard.
    let _other = btget(world.machine(2), &fixture, &fixture.empty_folder("other"), &[]);
    world.wait_for_packets("d2", 4);
    let heard = |event: &serde_json::Value| {
        is(event, "lsd_peer") && !event["address"].as_str().unwrap().starts_with("10.2.0.4")
    };
    assert!(!seed.events().iter().any(heard), "{}", seed.story());
}

fn loopback() {
    let (world, fixture) = (World::new(), fixture());
    let bind = ["--bind", "127.0.0.1"];
    let _seed = btget(world.machine(1), &fixture, &fixture.full_folder("seed"), &bind);
    let target = fixture.empty_folder("target");
    let mut leech = btget(world.machine(1), &fixture, &target, &[&["--no-seed"], &bind[..]].concat());
    leech.wait_for_success();
    fixture.assert_complete(&target);
    for device in ["d1", "e1"] {
        assert_eq!(world.sent_by(device), Vec::<String>::new());
    }
}

fn taken_port() {
    let (world, fixture) = (World::new(), fixture());
    let taken = "import socket, time
for family, ip in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    one = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6: one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1); v6 = one
    else: v4 = one
    one.bind((ip, 6771))
print('taken', flush=True)
time.sleep(600)";
    let mut rude = Process::start("whoever is rude", world.machine(1).command("python3").args(["-c", taken]));
    rude.wait_for_line(&["taken"]);
    let mut seed = btget(world.machine(1), &fixture, &fixture.full_folder("seed"), &[]);
    let target = fixture.empty_folder("target");
    // It is still told of us.
    let mut leech = btget(world.machine(2), &fixture, &target, &["--no-seed"]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
    seed.terminate();
    seed.wait_for_success();
}

fn ignored() {
    let (world, fixture) = (World::new(), fixture());
    world.machine(3).shell("ip addr add 172.16.0.9/32 dev d3");
    // So that the system lets the packets in.
    world.machine(1).shell("ip route add 172.16.0.0/24 dev d1");
    let mut seed = btget(world.machine(1), &fixture, &fixture.full_folder("seed"), &[]);
    world.wait_for_packets("d1", 4);
    let hash = Metainfo::parse(&fs::read(fixture.torrent()).unwrap()).unwrap().info_hash;
    let search = format!(
        "import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind((sys.argv[1], 0))
one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
one.sendto(b'BT-SEARCH * HTTP/1.1\\r\\nHost: 239.192.152.143:6771\\r\\nPort: 7777\\r\\nInfohash: {hash}\\r\\n\\r\\n\\r\\n', ('{V4_GROUP}', 6771))"
    );
    for from in ["172.16.0.9", "10.1.0.3"] {
        assert!(world.machine(3).command("python3").args(["-c", &search, from]).status().unwrap().success());
    }
    let found = seed.wait_for_event("the one on the link", |event| is(event, "lsd_peer"));
    assert_eq!(found["address"], "10.1.0.3:7777");
    assert_eq!(seed.events().iter().filter(|event| is(event, "lsd_peer")).count(), 1, "{}", seed.story());
    assert_eq!(world.sent_by("d3").len(), 2);
}

/// A socket gets, unless it says that it does not want to, what comes for any group that any other socket of the machine has joined, by any
/// interface.
fn others_groups() {
    let (world, fixture) = (World::new(), fixture());
    let rude = format!(
        "import socket, struct, time
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
four.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('{V4_GROUP}') + socket.inet_aton('10.2.0.1'))
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
    socket.inet_pton(socket.AF_INET6, '{V6_GROUP}') + struct.pack('@I', socket.if_nametoindex('e1')))
print('joined', flush=True)
time.sleep(600)"
    );
    let one = world.machine(1);
    one.shell("ip -6 addr add fd01::1/64 dev d1 nodad");
    let mut other = Process::start("somebody else", one.command("python3").args(["-c", &rude]));
    other.wait_for_line(&["joined"]);
    let listening = |bind: &'static str| {
        btget(one, &fixture, &fixture.empty_folder(&bind.replace([':', '.'], "-")), &["--bind", bind])
    };
    let mut bound = [listening("10.1.0.1"), listening("fd01::1")];
    let hash = Metainfo::parse(&fs::read(fixture.torrent()).unwrap()).unwrap().info_hash;
    let search = format!(
        "import socket, sys
group, device, port, six = sys.argv[1], sys.argv[2], sys.argv[3], ':' in sys.argv[1]
one = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
if six: one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(device))
else: one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[4]))
text = 'BT-SEARCH * HTTP/1.1\\r\\nHost: ' + group + ':6771\\r\\nPort: ' + port + '\\r\\nInfohash: {hash}\\r\\n\\r\\n\\r\\n'
one.sendto(text.encode(), (group, 6771))"
    );
    // One there that must not be heard, then one that must be: of a link-local address, as both networks have them.
    for (number, device, port, address) in [(4, "e4", "7001", "10.2.0.4"), (2, "d2", "7002", "10.1.0.2")] {
        for group in [V4_GROUP, V6_GROUP] {
            let mut python = world.machine(number).command("python3");
            assert!(python.args(["-c", &search, group, device, port, address]).status().unwrap().success());
        }
        // So that the first has had its time on its way.
        wait_until("packets", || world.cables.story(), || (world.sent_by(device).len() >= 2).then_some(()));
    }
    for listening in &mut bound {
        let is_at = |event: &serde_json::Value, port: &str| {
            is(event, "lsd_peer") && event["address"].as_str().unwrap().ends_with(port)
        };
        listening.wait_for_event("the one on the link", |event| is_at(event, ":7002"));
        let is_other = |event: &serde_json::Value| is_at(event, ":7001");
        assert!(!listening.events().iter().any(is_other), "{}", listening.story());
    }
}
