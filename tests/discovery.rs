//! Local discovery (BEP 14), on networks of our own: a namespace for each machine, and a program that carries packets from each to all
//! others of its network and tells of those for discovery. Nothing of it ever reaches a real network.
//!
//! Has a main of its own, to report a machine that allows none of this as ignored.

mod support;

use std::fs;
use std::process::{Child, Command, ExitCode, Stdio};

use libtest_mimic::Arguments;

use btget::metainfo::Metainfo;

use support::clients::{Btget, Client, Libtorrent, is_in_path};
use support::events::is;
use support::fixture::Fixture;
use support::process::{Process, wait_until};
use support::system::{is_root, trial};

fn main() -> ExitCode {
    let possible = can_have_networks();
    let with_libtorrent = possible && Client::Libtorrent.is_installed();
    let tests: [(&str, bool, fn()); 7] = [
        ("two_btgets_find_one_another", possible, two_btgets),
        ("btget_and_libtorrent_find_one_another", with_libtorrent, libtorrent),
        ("without_it_and_when_private_not_one_packet_is_sent", possible, silent),
        ("bound_to_an_address_only_its_interface_is_used", possible, bound),
        ("bound_to_loopback_nothing_leaves_the_machine", possible, loopback),
        ("a_taken_port_is_done_without", possible, taken_port),
        ("packets_from_elsewhere_and_our_own_are_ignored", possible, ignored),
    ];
    let trials = tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Whether we may have networks of our own, with IPv6.
fn can_have_networks() -> bool {
    let probe = "ip tuntap add a mode tun && ip -6 addr add fe80::1/64 dev a nodad";
    is_root()
        && ["ip", "nsenter", "python3", "unshare"].iter().all(|tool| is_in_path(tool))
        && Command::new("unshare")
            .args(["--net", "sh", "-c", probe])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// Its arguments are the machines' devices: process of its namespace, name, network. Tells of each UDP packet to the port of local discovery:
/// from which device, from and to which address, and its TTL.
const CABLES: &str = r"
import ctypes, fcntl, os, select, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
networks, names = {}, {}
for argument in sys.argv[1:]:
    process, name, network = argument.split(':')
    if libc.setns(os.open('/proc/%s/ns/net' % process, os.O_RDONLY), 0): raise OSError(ctypes.get_errno(), 'setns')
    tun = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x1001))
    networks[tun], names[tun] = network, name
print('ready', flush=True)
while True:
    for tun in select.select(list(networks), [], [])[0]:
        try: packet = os.read(tun, 65536)
        except OSError: continue
        for other in networks:
            if other != tun and networks[other] == networks[tun]:
                try: os.write(other, packet)
                except OSError: pass
        six = packet[0] >> 4 == 6
        family, start, place = (socket.AF_INET6, 40, 8) if six else (socket.AF_INET, (packet[0] & 15) * 4, 12)
        length = 16 if six else 4
        if packet[6 if six else 9] == 17 and packet[start + 2:start + 4] == struct.pack('>H', 6771):
            ends = [socket.inet_ntop(family, packet[at:at + length]) for at in (place, place + length)]
            print('packet %s %s %s %d' % (names[tun], *ends, packet[7 if six else 8]), flush=True)
";

/// A machine: it is there as long as its namespace is held.
struct Machine(Child);

impl Machine {
    fn new() -> Machine {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let holder = Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let its = format!("/proc/{}/ns/net", holder.id());
        wait_until("a namespace", String::new, || fs::read_link(&its).ok().filter(|its| *its != own));
        Machine(holder)
    }

    /// A command in it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg(program);
        command
    }

    fn shell(&self, text: &str) {
        assert!(self.command("sh").args(["-ec", text]).status().unwrap().success(), "{text}");
    }

    /// A btget without a tracker that answers, with these options and all events.
    fn btget(&self, fixture: &Fixture, folder: &std::path::Path, options: &[&str]) -> Btget {
        let mut command = self.command(Btget::program());
        command.arg(fixture.torrent()).arg("--basedir").arg(folder);
        command.args(["--state-dir", "", "--port", "0", "--json", "--no-pex", "--no-dht"]).args(options);
        Btget::run(&mut command)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Machines `1` to `3` on one network at 10.1.0.N and fe80::N by device `dN`; the first is also on another one, at 10.2.0.1 by `e1`, where
/// there is the fourth at 10.2.0.4 by `e4`.
struct World {
    machines: Vec<Machine>,
    cables: Process,
}

impl World {
    fn new() -> World {
        let machines: Vec<Machine> = (0..4).map(|_| Machine::new()).collect();
        let pid = |number: usize| machines[number - 1].0.id();
        let mut command = Command::new("python3");
        command.args(["-c", CABLES]);
        command.args((1..=3).map(|number| format!("{}:d{number}:d", pid(number))));
        command.args([1, 4].map(|number| format!("{}:e{number}:e", pid(number))));
        let mut cables = Process::start("the cables", &mut command);
        cables.wait_for_line(&["ready"]);
        let world = World { machines, cables };
        let address = |net: u8, device: &str, number: usize| {
            format!(
                "ip link set lo up; ip link set {device}{number} up; ip addr add 10.{net}.0.{number}/24 dev {device}{number};
                 ip -6 addr add fe80::{number}/64 dev {device}{number} nodad;"
            )
        };
        (1..=3).for_each(|number| world.machine(number).shell(&address(1, "d", number)));
        [1, 4].iter().for_each(|&number| world.machine(number).shell(&address(2, "e", number)));
        world
    }

    fn machine(&self, number: usize) -> &Machine {
        &self.machines[number - 1]
    }

    /// Packets of discovery that this device has sent: from, to, TTL.
    fn sent_by(&self, device: &str) -> Vec<String> {
        let start = format!("packet {device} ");
        self.cables.lines().iter().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
    }

    /// Waits until the device has sent so many.
    fn wait_for_packets(&self, device: &str, count: usize) {
        wait_until("packets", || self.cables.story(), || (self.sent_by(device).len() >= count).then_some(()));
    }
}

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

const V4_GROUP: &str = "239.192.152.143";
const V6_GROUP: &str = "ff15::efc0:988f";

fn fixture() -> Fixture {
    Fixture::single(300_000, NOBODY, 14)
}

fn two_btgets() {
    let (world, fixture) = (World::new(), fixture());
    let seed = world.machine(1).btget(&fixture, &fixture.full_folder("seed"), &[]);
    let target = fixture.empty_folder("target");
    let mut leech = world.machine(2).btget(&fixture, &target, &["--no-seed"]);
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
    let start = |world: &World, address: &str, folder: &std::path::Path| {
        // The program itself comes after what is to run it.
        let mut by = Command::new("nsenter");
        by.arg(format!("--net=/proc/{}/ns/net", world.machine(2).0.id()));
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
        let mut leech = world.machine(1).btget(&fixture, &target, &["--no-seed"]);
        leech.wait_for_event("libtorrent", |event| {
            is(event, "lsd_peer") && event["address"].as_str().unwrap().contains(from)
        });
        leech.wait_for_success();
        fixture.assert_complete(&target);
    }
    let world = World::new();
    let target = fixture.empty_folder("libtorrent");
    let _seed = world.machine(1).btget(&fixture, &fixture.full_folder("seed"), &["--bind", "10.1.0.1"]);
    let mut libtorrent = start(&world, "10.1.0.2", &target);
    libtorrent.wait_for_line(&["complete"]);
    fixture.assert_data_complete(&target);
}

fn silent() {
    let plain = fixture();
    for (fixture, options) in [(plain, &["--no-lsd"][..]), (Fixture::private(300_000, NOBODY, 15), &[])] {
        let world = World::new();
        let seed = world.machine(1).btget(&fixture, &fixture.full_folder("seed"), options);
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
        let mut leech = world.machine(2).btget(&fixture, &target, &[&slowly, options].concat());
        leech.wait_for_success();
        fixture.assert_complete(&target);
        for device in ["d1", "e1", "d2"] {
            assert_eq!(world.sent_by(device), Vec::<String>::new(), "{options:?}");
        }
    }
}

fn bound() {
    let (world, fixture) = (World::new(), fixture());
    let seed = world.machine(1).btget(&fixture, &fixture.full_folder("seed"), &["--bind", "10.2.0.1"]);
    let there = fixture.empty_folder("there");
    world.machine(4).btget(&fixture, &there, &["--no-seed"]).wait_for_success();
    fixture.assert_complete(&there);
    world.wait_for_packets("e1", 2);
    assert_eq!(world.sent_by("d1"), Vec::<String>::new());
    assert!(world.sent_by("e1").iter().all(|packet| *packet == format!("10.2.0.1 {V4_GROUP} 1")));
    // Nor is anybody on the other network heard.
    let _other = world.machine(2).btget(&fixture, &fixture.empty_folder("other"), &[]);
    world.wait_for_packets("d2", 4);
    let heard = |event: &serde_json::Value| {
        is(event, "lsd_peer") && !event["address"].as_str().unwrap().starts_with("10.2.0.4")
    };
    assert!(!seed.events().iter().any(heard), "{}", seed.story());
}

fn loopback() {
    let (world, fixture) = (World::new(), fixture());
    let bind = ["--bind", "127.0.0.1"];
    let _seed = world.machine(1).btget(&fixture, &fixture.full_folder("seed"), &bind);
    let target = fixture.empty_folder("target");
    let mut leech = world.machine(1).btget(&fixture, &target, &[&["--no-seed"], &bind[..]].concat());
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
    let mut seed = world.machine(1).btget(&fixture, &fixture.full_folder("seed"), &[]);
    let target = fixture.empty_folder("target");
    // It is still told of us.
    let mut leech = world.machine(2).btget(&fixture, &target, &["--no-seed"]);
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
    let mut seed = world.machine(1).btget(&fixture, &fixture.full_folder("seed"), &[]);
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
