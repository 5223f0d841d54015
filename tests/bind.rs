//! `--bind`, on a machine with two ways to everybody: network namespaces of our own. Every packet on the other way is looked at.
//!
//! Has a main of its own, to report a machine that allows none of this as ignored.
//!
//! The test runs itself again as the outside world, in a namespace with trackers and peers at 10.9.0.9 and fd09::9. btget runs in another
//! one. Two cables join them, by each of which everybody can be reached: `i1`, which packets take unless something else is said, and `i2`, which
//! those from 10.2.0.1 and fd02::1 take. A cable is a program that carries packets between two tun devices, and tells of each.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};

use libtest_mimic::Arguments;
use rustix::process::Signal;
use support::clients::{Btget, is_in_path};
use support::fixture::Fixture;
use support::process::{Process, wait_until};
use support::proxy::{ProxyManners, TestProxy};
use support::system::{can_mount, trial};
use support::tls::{CERTIFICATE, server_config};
use support::tracker::{Manners, Tracker};
use support::web::web_server;

/// Set where the test is the outside world.
const WORLD: &str = "BTGET_TEST_WORLD";

fn main() -> ExitCode {
    if std::env::var_os(WORLD).is_some() {
        World::new().test();
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let mut trials = vec![trial(
        "nothing_leaves_by_another_way_than_that_of_the_local_address",
        can_have_networks(),
        || {
            let status = Command::new("unshare")
                .args(["--net", "--mount", "--propagation", "private"])
                .arg(std::env::current_exe().unwrap())
                .env(WORLD, "1")
                .status();
            assert!(status.unwrap().success());
        },
    )];
    trials.push(trial("what_is_not_there_is_refused_with_what_is", true, not_there));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn not_there() {
    let fixture = Fixture::single(1000, "http://127.0.0.1:1/announce", 9);
    let by_url = Path::new("http://127.0.0.1:1/a.torrent");
    let cases = [
        ("nosuch0", "interface", fixture.torrent()),
        ("203.0.113.77", "address", fixture.torrent()),
        ("nosuch1", "interface", by_url.to_owned()),
    ];
    for (absent, thing, torrent) in cases {
        let mut command = Btget::command();
        command.arg(torrent).arg("--basedir").arg(fixture.empty_folder(absent));
        let mut btget = Process::start("btget", command.args(["--state-dir", "", "--bind", absent]));
        assert_eq!(btget.wait_for_code(), Some(1), "{}", btget.story());
        let told = btget.lines().join("\n");
        assert!(
            told.contains(&format!("cannot bind to {absent}: there is no such {thing}; there are ")),
            "{told}"
        );
        assert!(told.contains("lo (127.0.0.1") && told.contains("with --bind"), "{told}");
    }
}

/// Whether we may have networks of our own, with IPv6.
fn can_have_networks() -> bool {
    let probe = "ip tuntap add a mode tun && ip -6 addr add fd00::1/64 dev a nodad \
                 && ip rule add from 10.0.0.1 table 7 && ip -6 rule add from fd00::1 table 7";
    can_mount()
        && ["ip", "nsenter", "python3"].iter().all(|tool| is_in_path(tool))
        && Command::new("unshare")
            .args(["--net", "sh", "-c", probe])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// In the world, where the cables end in `o1` and `o2`.
const OUTSIDE: &str = "
    ip link set lo up
    ip addr add 10.9.0.9/32 dev lo
    ip addr add 10.9.0.8/32 dev lo
    ip -6 addr add fd09::9/128 dev lo nodad
    for n in 1 2; do
        ip link set o$n up
        ip addr add 10.$n.0.2/24 dev o$n
        ip -6 addr add fd0$n::2/64 dev o$n nodad
    done";

const INSIDE: &str = "
    ip link set lo up
    for n in 1 2; do
        ip link set i$n up
        ip addr add 10.$n.0.1/24 dev i$n
        ip -6 addr add fd0$n::1/64 dev i$n nodad
    done
    ip route add default dev i1
    ip -6 route add default dev i1
    ip route add default dev i2 table 7
    ip -6 route add default dev i2 table 7
    ip rule add from 10.2.0.1 table 7
    ip -6 rule add from fd02::1 table 7
    ip route add default dev i2 metric 9000
    ip -6 route add default dev i2 metric 9000";

/// Inside: the second way goes, with all that belongs to it.
const GO: &str = "ip link set i2 down";

/// And comes back.
const COME: &str = "
    ip link set i2 up
    ip -6 addr replace fd02::1/64 dev i2 nodad
    ip route replace default dev i2 metric 9000
    ip -6 route replace default dev i2 metric 9000";

/// The cables, with the process of the other namespace as argument. Tells of each packet that comes out of there: interface, protocol, and to
/// whom. What the system says for itself is left out: ICMPv6 (routers and groups), which may stand behind hop-by-hop options, and resets and ICMP, which it
/// sends by its own routes to whoever goes on with a connection, or sends to a port, that nobody has any more.
const CABLES: &str = r"
import ctypes, fcntl, os, select, socket, struct, sys
def device(name):
    tun = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x1001))
    return tun
out = [device('o1'), device('o2')]
libc = ctypes.CDLL(None, use_errno=True)
if libc.setns(os.open('/proc/%s/ns/net' % sys.argv[1], os.O_RDONLY), 0): raise OSError(ctypes.get_errno(), 'setns')
into = [device('i1'), device('i2')]
other = dict(zip(out + into, into + out))
print('ready', flush=True)
while True:
    for tun in select.select(list(other), [], [])[0]:
        try:
            packet = os.read(tun, 65536)
            os.write(other[tun], packet)
        except OSError:
            continue
        if tun in out: continue
        six = packet[0] >> 4 == 6
        protocol = packet[6] if six else packet[9]
        if protocol in ((0, 58) if six else (1,)): continue
        head = 40 if six else 4 * (packet[0] & 15)
        # A reset for a connection that is no more.
        if protocol == 6 and packet[head + 13] & 4: continue
        to = socket.inet_ntop(socket.AF_INET6, packet[24:40]) if six else socket.inet_ntop(socket.AF_INET, packet[16:20])
        print('i%d %d %s' % (into.index(tun) + 1, protocol, to), flush=True)
";

/// Runs its arguments as a user without privileges, by whom nothing can be bound to an interface: `setsockopt` with `SO_BINDTODEVICE` fails with
/// `EPERM`, as it does for everybody without `CAP_NET_RAW` before Linux 5.7. Elsewhere than on x86-64 and ARM64 it is root as before.
const UNPRIVILEGED: &str = r"
import ctypes, os, platform, struct, sys
numbers = {'x86_64': 54, 'aarch64': 208}
number = numbers.get(platform.machine())
if number is not None:
    # Of BPF: the number of the call; its second and third argument; EPERM, or go on.
    program = [(0x20, 0, 0, 0), (0x15, 0, 5, number), (0x20, 0, 0, 24), (0x15, 0, 3, 1),
               (0x20, 0, 0, 32), (0x15, 0, 1, 25), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
    code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in program))
    head = ctypes.create_string_buffer(struct.pack('H6xQ', len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    if libc.prctl(38, 1, 0, 0, 0): raise OSError(ctypes.get_errno(), 'no_new_privs')
    if libc.prctl(22, 2, head, 0, 0): raise OSError(ctypes.get_errno(), 'seccomp')
os.execvp(sys.argv[1], sys.argv[1:])
";

/// Who runs btget inside.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    Root,
    /// Who may not bind to an interface by its name: its addresses have to do.
    Unprivileged,
}

/// Where data come from.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Tcp,
    Utp,
    Web,
}

struct World {
    /// Holds the other namespace.
    holder: Child,
    cables: Process,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl World {
    fn new() -> World {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let holder = Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let its = format!("/proc/{}/ns/net", holder.id());
        wait_until("a second namespace", String::new, || fs::read_link(&its).ok().filter(|its| *its != own));
        let mut cables = Process::start(
            "the cables",
            Command::new("python3").args(["-c", CABLES, &holder.id().to_string()]),
        );
        cables.wait_for_line(&["ready"]);
        let succeeds = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
        succeeds(Command::new("sh").args(["-ec", OUTSIDE]));
        succeeds(inside(&holder).args(["sh", "-ec", INSIDE]));
        let hosts = tempfile::NamedTempFile::new().unwrap();
        fs::write(hosts.path(), "fd09::9 localhost world\n10.9.0.9 localhost world\n").unwrap();
        fs::set_permissions(hosts.path(), fs::Permissions::from_mode(0o644)).unwrap();
        succeeds(Command::new("mount").arg("--bind").arg(hosts.path()).arg("/etc/hosts"));
        World { holder, cables }
    }

    /// Packets that have left by this interface.
    fn left_by(&self, interface: &str) -> Vec<String> {
        self.cables.lines().into_iter().filter(|line| line.starts_with(&format!("{interface} "))).collect()
    }

    fn test(self) {
        for (bind, outside) in [("10.2.0.1", "10.9.0.9"), ("fd02::1", "fd09::9")] {
            self.transfer(Some(bind), outside.parse().unwrap(), Who::Root);
            assert_eq!(self.left_by("i1"), Vec::<String>::new(), "bound to {bind}");
            // TCP and UDP.
            assert!(["6", "17"].iter().all(|protocol| {
                self.left_by("i2").iter().any(|line| *line == format!("i2 {protocol} {outside}"))
            }));
        }
        let before = self.left_by("i2").len();
        for outside in ["10.9.0.9", "fd09::9"] {
            self.transfer(Some("i2"), outside.parse().unwrap(), Who::Root);
            assert_eq!(self.left_by("i1"), Vec::<String>::new(), "bound to i2");
            assert!(["6", "17"].iter().all(|protocol| {
                self.left_by("i2")[before..].iter().any(|line| *line == format!("i2 {protocol} {outside}"))
            }));
        }
        // Where the system does not let it bind to an interface, as those before Linux 5.7.
        let before = self.left_by("i2").len();
        for outside in ["10.9.0.9", "fd09::9"] {
            self.transfer(Some("i2"), outside.parse().unwrap(), Who::Unprivileged);
            assert_eq!(self.left_by("i1"), Vec::<String>::new(), "bound to the addresses of i2");
            assert!(["6", "17"].iter().all(|protocol| {
                self.left_by("i2")[before..].iter().any(|line| *line == format!("i2 {protocol} {outside}"))
            }));
        }
        for way in [Way::Tcp, Way::Utp, Way::Web] {
            self.an_interface_goes_and_comes_back(way, Who::Root);
        }
        self.the_dht_that_is_wanted_while_the_interface_is_gone_begins_when_it_is_back();
        self.another_interface_of_the_same_name_is_taken();
        self.nothing_goes_past_a_proxy();
        // So that it is known that it would have been seen.
        self.transfer(None, "10.9.0.9".parse().unwrap(), Who::Root);
        assert!(!self.left_by("i1").is_empty());
        // What is under way leaves by the system's routes there until it is seen that the interface is gone.
        self.an_interface_goes_and_comes_back(Way::Tcp, Who::Unprivileged);
        self.announce_over_both_families();
    }

    /// While the interface that btget is bound to is gone nothing leaves by the other one, and it goes on when it is back: the download, the
    /// announces and the callers.
    fn an_interface_goes_and_comes_back(&self, way: Way, who: Who) {
        let outside: IpAddr = "10.9.0.9".parse().unwrap();
        let tracker = Tracker::start_on(outside).unwrap();
        let fixture = Fixture::single(1_500_000, &tracker.url(), 8);
        let transport = if way == Way::Utp { "utp" } else { "tcp" };
        let peer = |folder: &Path, options: &[&str]| {
            let mut command = Btget::command_with_utp();
            command.arg(fixture.torrent()).arg("--basedir").arg(folder).args(["--transport", transport]);
            command.args(["--state-dir", "", "--json", "--bind", "10.9.0.9"]).args(options);
            Process::start("peer", &mut command)
        };
        let full = fixture.full_folder("seeder");
        let seeder = (way != Way::Web).then(|| peer(&full, &["--max-upload-rate", "300K"]));
        if let Some(seeder) = &seeder {
            wait_until(
                "the seeder to announce",
                || seeder.story(),
                || (!tracker.announces().is_empty()).then_some(()),
            );
        }
        let folder = fixture.empty_folder("inside");
        let mut command = self.btget(who, &fixture, &folder);
        command.args(["--no-lsd", "--no-dht", "--no-port-map", "--bind", "i2", "--transport", transport]);
        if way == Way::Web {
            let port = web_server(outside, fs::read(full.join("large.bin")).unwrap());
            let url = format!("http://{outside}:{port}/large.bin");
            command.args(["--webseed", &url, "--max-download-rate", "300K"]);
        }
        let mut btget = Process::start("btget", &mut command);
        let passed = |event: &serde_json::Value| event["event"] == "piece_hash_passed";
        btget.wait_for_event("a first piece", passed);
        self.sh(GO);
        let network = |usable: bool| {
            move |event: &serde_json::Value| event["event"] == "network" && event["usable"] == usable
        };
        let gone = btget.wait_for_event("that it is gone", network(false));
        assert_eq!(gone["via"], "i2");
        assert!(!btget.events().iter().any(|event| event["event"] == "complete"), "it was too quick");
        let so_far = btget.events().iter().filter(|event| passed(event)).count();
        self.sh(COME);
        btget.wait_for_event("that it is back", network(true));
        btget.wait_for_event("the end of the download", |event| event["event"] == "complete");
        assert!(btget.events().iter().filter(|event| passed(event)).count() > so_far);
        fixture.assert_complete(&folder);
        seeder.iter().for_each(Process::terminate);
        drop(seeder);
        // It is called again.
        peer(&fixture.empty_folder("leecher"), &["--no-seed"]).wait_for_success();
        btget.terminate();
        btget.wait_for_success();
        if who == Who::Root {
            assert_eq!(self.left_by("i1"), Vec::<String>::new(), "by another way");
        }
    }

    /// A torrent that may be looked up for the first time while nothing can be sent is looked up as soon as something can.
    fn the_dht_that_is_wanted_while_the_interface_is_gone_begins_when_it_is_back(&self) {
        let fixture = Fixture::single(300_000, "http://10.9.0.9:1/announce", 12);
        let node = |name: &str, options: &[&str]| {
            let mut command = Btget::command_with_dht();
            command.arg(fixture.torrent()).arg("--basedir").arg(fixture.full_folder(name));
            command
                .args(["--state-dir", "", "--json", "--bind", "10.9.0.9", "--transport", "tcp"])
                .args(options);
            Process::start(name, &mut command)
        };
        let mut hub = node("hub", &["--dht-bootstrap", "none", "--state", "paused"]);
        let told = hub.wait_for_event("its port", |event| {
            event["event"] == "listen_success" && event["protocol"] == "udp4"
        });
        let hub_address = told["address"].as_str().unwrap().to_owned();
        let mut seeder = node("seeder", &["--dht-bootstrap", &hub_address]);
        seeder.wait_for_event("its announce", |event| event["event"] == "dht_announce");
        let folder = fixture.empty_folder("inside");
        let mut command = self.btget(Who::Root, &fixture, &folder);
        command.args(["--no-lsd", "--no-port-map", "--bind", "i2", "--dht-bootstrap", &hub_address]);
        let mut btget = Process::start("btget", command.args(["--no-seed", "--state", "stopped"]));
        btget.wait_for_event("its port", |event| event["event"] == "listen_success");
        self.sh(GO);
        btget.wait_for_event("that it is gone", |event| {
            event["event"] == "network" && event["usable"] == false
        });
        btget.signal(Signal::USR2);
        btget.wait_for_event("the start", |event| {
            event["event"] == "state_changed" && event["to"] == "started"
        });
        self.sh(COME);
        btget.wait_for_success();
        fixture.assert_complete(&folder);
        assert_eq!(self.left_by("i1"), Vec::<String>::new(), "by another way");
    }

    /// Inside, as this user, with this torrent and folder, and all events.
    fn btget(&self, who: Who, fixture: &Fixture, folder: &Path) -> Command {
        let mut command = inside(&self.holder);
        if who == Who::Unprivileged {
            command.args(["python3", "-c", UNPRIVILEGED]);
            let torrent = fixture.torrent();
            for path in [folder, torrent.parent().unwrap()] {
                fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
            }
        }
        command.arg(Btget::program()).arg(fixture.torrent()).arg("--basedir").arg(folder);
        command.args(["--state-dir", "", "--json"]);
        command
    }

    /// A script inside.
    fn sh(&self, script: &str) {
        let status = inside(&self.holder).args(["sh", "-ec", script]).status();
        assert!(status.unwrap().success(), "{script}");
    }

    /// An interface that is made anew, as that of a VPN is, is another one: what listened on the former is of no use.
    fn another_interface_of_the_same_name_is_taken(&self) {
        let sh = |script: &str| {
            let output = inside(&self.holder).args(["sh", "-ec", script]).output().unwrap();
            assert!(output.status.success(), "{script}");
            String::from_utf8(output.stdout).unwrap()
        };
        let make = "ip tuntap add w0 mode tun; ip addr add 10.5.0.1/24 dev w0; ip link set w0 up";
        sh(make);
        let fixture = Fixture::single(300_000, "http://127.0.0.1:1/announce", 11);
        let mut command = inside(&self.holder);
        command.arg(Btget::program()).arg("--no-dht").arg(fixture.torrent());
        command.arg("--basedir").arg(fixture.empty_folder("w0"));
        command.args(["--state-dir", "", "--json", "--bind", "w0"]);
        let mut btget = Process::start("btget", &mut command);
        let told = btget.wait_for_event("its port", |event| event["event"] == "listen_success");
        let place = format!(":{:04X} 00000000:0000 0A", told["port"].as_u64().unwrap());
        let listens = || sh("cat /proc/net/tcp").contains(&place);
        assert!(listens());
        let network = |usable: bool| {
            move |event: &serde_json::Value| event["event"] == "network" && event["usable"] == usable
        };
        sh("ip link del w0");
        btget.wait_for_event("that it is gone", network(false));
        wait_until("nobody to listen", || btget.story(), || (!listens()).then_some(()));
        sh(make);
        btget.wait_for_event("that it is back", network(true));
        wait_until("somebody to listen", || btget.story(), || listens().then_some(()));
        btget.terminate();
        btget.wait_for_code();
        sh("ip link del w0");
    }

    /// With all that finds peers, every packet goes to the proxy: none to a tracker, a peer, a node of the DHT, a name server or a group.
    fn nothing_goes_past_a_proxy(&self) {
        let outside: IpAddr = "10.9.0.9".parse().unwrap();
        let manners = ProxyManners { udp: true, names: Some(outside), ..ProxyManners::default() };
        let proxy = TestProxy::start_at("10.9.0.8:0".parse().unwrap(), manners);
        let tracker = Tracker::start_on(outside).unwrap();
        let udp = udp_tracker(outside);
        let fixture = Fixture::single(300_000, &udp, 10);
        let mut command = Btget::command();
        command.arg(fixture.torrent()).arg("--basedir").arg(fixture.full_folder("seeder"));
        command.args(["--state-dir", "", "--json", "--bind", "10.9.0.9", "--tracker", &tracker.url()]);
        let seeder = Process::start("peer", &mut command);
        wait_until(
            "the seeder to announce",
            || seeder.story(),
            || (!tracker.announces().is_empty()).then_some(()),
        );
        let before = self.cables.lines().len();
        let folder = fixture.empty_folder("inside");
        let mut command = inside(&self.holder);
        command.arg(Btget::program()).arg(fixture.torrent()).arg("--basedir").arg(&folder);
        command.args(["--state-dir", "", "--json", "--proxy", &format!("socks5://{}", proxy.address())]);
        let by_name = format!("http://tracker.invalid:{}/announce", tracker.address().port());
        command.args([
            "--tracker",
            &by_name,
            "--dht-bootstrap",
            "node.invalid:6881",
            "--peer",
            "peer.invalid:9",
        ]);
        let mut btget = Process::start("btget", &mut command);
        btget.wait_for_event("the end of the download", |event| event["event"] == "complete");
        fixture.assert_complete(&folder);
        let asked_for = |what: &str| proxy.asked().iter().any(|asked| asked.starts_with(what));
        let all = [
            "connect tracker.invalid:",
            "connect peer.invalid:9",
            "connect 10.9.0.9:",
            "packet world:",
            "packet node.invalid:6881",
        ];
        wait_until(
            "all to be asked for",
            || format!("{:?}\n{}", proxy.asked(), btget.story()),
            || all.iter().all(|what| asked_for(what)).then_some(()),
        );
        btget.terminate();
        btget.wait_for_success();
        let packets = self.cables.lines().split_off(before);
        assert!(packets.len() > 10);
        let past: Vec<&String> = packets.iter().filter(|line| !line.ends_with(" 10.9.0.8")).collect();
        assert!(past.is_empty(), "past the proxy: {past:?}");
    }

    /// A tracker that has addresses of both families hears of us from an address of each (BEP 7), to the end; of a family to which there is no way
    /// nothing is said.
    fn announce_over_both_families(&self) {
        let http = Tracker::start_on(Ipv6Addr::UNSPECIFIED.into()).unwrap();
        let (udp, heard_by_udp) = udp_tracker_of_both_families();
        let fixture = Fixture::single(100_000, &udp, 7);
        let by_name = format!("http://world:{}/announce", http.address().port());
        let start = |name: &str| {
            let mut command = inside(&self.holder);
            command.arg(Btget::program()).arg(fixture.torrent());
            command.arg("--basedir").arg(fixture.empty_folder(name)).args([
                "--state-dir",
                "",
                "--no-dht",
                "--json",
            ]);
            command.args(["--tracker", &by_name]);
            Process::start("btget", &mut command)
        };
        let are_from = |addresses: &[SocketAddr], families: &[bool]| {
            let has =
                |is_ipv4| addresses.iter().any(|address| address.ip().to_canonical().is_ipv4() == is_ipv4);
            [true, false].map(has) == [true, false].map(|is_ipv4| families.contains(&is_ipv4))
        };
        let by_http = |event: &str| -> Vec<SocketAddr> {
            let of_event = http.announces().into_iter().filter(|heard| heard.event == event);
            of_event.map(|heard| heard.address).collect()
        };
        let mut btget = start("both");
        wait_until(
            "announces from both families",
            || btget.story(),
            || {
                let by_udp = heard_by_udp.lock().unwrap().clone();
                let heard =
                    are_from(&by_http("started"), &[true, false]) && are_from(&by_udp, &[true, false]);
                heard.then_some(())
            },
        );
        btget.terminate();
        btget.wait_for_code();
        assert!(are_from(&by_http("stopped"), &[true, false]), "{:?}", http.announces());

        let no_way = [
            "sh",
            "-ec",
            "ip -6 route del default dev i1; ip -6 route del default dev i2; ip -6 route del fd01::/64 dev i1; ip -6 route del fd02::/64 dev i2",
        ];
        assert!(inside(&self.holder).args(no_way).status().unwrap().success());
        let before = (http.announces().len(), heard_by_udp.lock().unwrap().len());
        let mut btget = start("one");
        btget.wait_for_event("an answer", |event| {
            event["event"] == "tracker_success" && event["url"].as_str() == Some(&by_name)
        });
        btget.terminate();
        btget.wait_for_code();
        assert!(http.announces()[before.0..].iter().all(|heard| heard.address.ip().to_canonical().is_ipv4()));
        assert!(
            heard_by_udp.lock().unwrap()[before.1..].iter().all(|from| from.ip().to_canonical().is_ipv4())
        );
        let failed = |event: &serde_json::Value| event["event"] == "tracker_failure";
        assert!(!btget.events().iter().any(failed), "{}", btget.story());
    }

    /// Downloads from a peer that is called, then seeds to one that calls; each kind of tracker is asked on the way.
    fn transfer(&self, bind: Option<&str>, outside: IpAddr, who: Who) {
        let tracker = Tracker::start_on(outside).unwrap();
        let redirects = Tracker::start_on(outside).unwrap();
        redirects.set_manners(Manners::Redirect(format!("{}?{{query}}", tracker.url())));
        let by_name = format!("http://world:{}/announce", redirects.address().port());
        let fixture = Fixture::single(300_000, &udp_tracker(outside), 7);
        let peer = |folder: &Path, options: &[&str]| {
            let mut command = Btget::command();
            command.arg(fixture.torrent()).arg("--basedir").arg(folder).args([
                "--state-dir",
                "",
                "--no-dht",
                "--json",
            ]);
            command.args(["--bind", &outside.to_string(), "--tracker", &tracker.url()]).args(options);
            Process::start("peer", &mut command)
        };
        let seeder = peer(&fixture.full_folder("seeder"), &[]);
        wait_until(
            "the seeder to announce",
            || seeder.story(),
            || (!tracker.announces().is_empty()).then_some(()),
        );

        let folder = fixture.empty_folder("inside");
        let mut command = self.btget(who, &fixture, &folder);
        command.args(["--events", "debug"]);
        command
            .args(["--tracker", &https_tracker(outside), "--tracker", &by_name])
            .args(["--dht-bootstrap", &SocketAddr::new(outside, 6881).to_string()])
            .env("SSL_CERT_FILE", CERTIFICATE);
        command.args(bind.into_iter().flat_map(|bind| ["--bind", bind]));
        let mut btget = Process::start("btget", &mut command);
        btget.wait_for_event("the end of the download", |event| event["event"] == "complete");
        fixture.assert_complete(&folder);
        let events = btget.events();
        for scheme in ["udp://", "https://", "http://"] {
            let is_it = |url: &serde_json::Value| url.as_str().is_some_and(|url| url.starts_with(scheme));
            let answered =
                |event: &&serde_json::Value| event["event"] == "tracker_success" && is_it(&event["url"]);
            assert!(events.iter().any(|event| answered(&event)), "{scheme}: {}", btget.story());
        }
        seeder.terminate();
        drop(seeder);
        if let Some(bind) = bind {
            let ours = |ip: IpAddr| match bind {
                "i2" => ["10.2.0.1", "fd02::1"].contains(&ip.to_string().as_str()),
                address => ip.to_string() == address,
            };
            assert!(tracker.announces().iter().any(|heard| ours(heard.address.ip())), "{bind}");
            peer(&fixture.empty_folder("leecher"), &["--no-seed"]).wait_for_success();
        }
        btget.terminate();
        btget.wait_for_success();
    }
}

/// A command in the other namespace.
fn inside(holder: &Child) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", holder.id()));
    command
}

/// Answers announces with nobody; gives its URL.
fn udp_tracker(address: IpAddr) -> String {
    udp_tracker_at(UdpSocket::bind((address, 0)).unwrap(), |_| {})
}

/// The same, at one port of both addresses; who has announced is noted.
fn udp_tracker_of_both_families() -> (String, Arc<Mutex<Vec<SocketAddr>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let v4 = UdpSocket::bind("10.9.0.9:0").unwrap();
    let v6 = UdpSocket::bind(("fd09::9", v4.local_addr().unwrap().port())).unwrap();
    let mut urls = [v4, v6].map(|socket| {
        let tell = heard.clone();
        udp_tracker_at(socket, move |from| tell.lock().unwrap().push(from))
    });
    (std::mem::take(&mut urls[0]), heard)
}

fn udp_tracker_at(socket: UdpSocket, announced: impl Fn(SocketAddr) + Send + 'static) -> String {
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let is_connect = length == 16;
            if !is_connect {
                announced(from);
            }
            let mut answer = u32::from(!is_connect).to_be_bytes().to_vec();
            answer.extend(&packet[12..16]);
            answer.extend(if is_connect { [7; 8].as_slice() } else { &[0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0] });
            let _ = socket.send_to(&answer, from);
        }
    });
    format!("udp://world:{port}/announce")
}

/// Answers one announce with nobody; gives its URL.
fn https_tracker(address: IpAddr) -> String {
    let config = server_config();
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let mut heard = Vec::new();
            let mut part = [0; 1024];
            while !heard.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(length @ 1..) => heard.extend(&part[..length]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nd5:peers0:e");
        }
    });
    format!("https://localhost:{port}/announce")
}
