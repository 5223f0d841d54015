//! Networks of our own: a namespace for each machine, and a program that carries packets from each to all others of its network and tells of
//! those by UDP. Nothing of it ever reaches a real network.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::clients::{Btget, is_in_path};
use super::process::{Process, wait_until};
use super::system::is_root;

/// Whether we may have networks of our own, with IPv6.
pub fn can_have_networks() -> bool {
    let probe = "ip tuntap add a mode tun && ip -6 addr add fe80::1/64 dev a nodad";
    is_root()
        && ["ip", "nsenter", "python3", "unshare"].iter().all(|tool| is_in_path(tool))
        && Command::new("unshare")
            .args(["--net", "sh", "-c", probe])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// Its arguments are the machines' devices: process of its namespace, name, network, and the router before it if there is one: see [`Router`]. Tells of each UDP packet from which device it
/// comes, from and to which address; and its TTL if it is to the port of local discovery, else to which port it is. Of connections it tells as much
/// when they are asked for.
const CABLES: &str = r"
import ctypes, fcntl, os, select, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
class Router:
    def __init__(self, translates, needed):
        self.translates, self.needed, self.ports, self.ends = translates, needed, {}, {}
    def ports_of(self, packet):
        start = (packet[0] & 15) * 4
        known = packet[0] >> 4 == 4 and packet[9] in (6, 17)
        return (start, *struct.unpack('>HH', packet[start:start + 4])) if known else None
    def changed(self, packet, start, ports):
        # Without a checksum, which IPv4 allows.
        rest = b'\0\0' + packet[start + 8:] if packet[9] == 17 else packet[start + 6:]
        return packet[:start] + struct.pack('>HH', *ports) + packet[start + 4:start + 6] + rest
    def outward(self, packet):
        if not self.ports_of(packet): return None
        start, here, there = self.ports_of(packet)
        outer = self.ports.setdefault(here, 40000 + len(self.ports)) if self.translates and packet[9] == 17 else here
        end = (packet[9], outer, packet[16:20], there)
        self.ends[end] = self.ends.get(end, 0) + 1
        return self.changed(packet, start, (outer, there)) if outer != here else packet
    def inward(self, packet):
        if not self.ports_of(packet): return None
        start, there, outer = self.ports_of(packet)
        end = (packet[9], outer, packet[12:16], there)
        if self.ends.get(end, 0) < (1 if packet[15] == 3 else self.needed): return None
        inner = [port for port in self.ports if self.ports[port] == outer and packet[9] == 17]
        return self.changed(packet, start, (there, inner[0])) if inner else packet
routers = {'translating': (True, 1), 'wary': (False, 2)}
networks, names, before = {}, {}, {}
for argument in sys.argv[1:]:
    process, name, network, router = argument.split(':')
    if libc.setns(os.open('/proc/%s/ns/net' % process, os.O_RDONLY), 0): raise OSError(ctypes.get_errno(), 'setns')
    tun = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', name.encode(), 0x1001))
    networks[tun], names[tun] = network, name
    if router: before[tun] = Router(*routers[router])
print('ready', flush=True)
while True:
    for tun in select.select(list(networks), [], [])[0]:
        try: packet = os.read(tun, 65536)
        except OSError: continue
        outside = before[tun].outward(packet) if tun in before else packet
        for other in networks:
            if outside and other != tun and networks[other] == networks[tun]:
                inside = before[other].inward(outside) if other in before else outside
                if not inside: continue
                try: os.write(other, inside)
                except OSError: pass
        six = packet[0] >> 4 == 6
        family, start, place = (socket.AF_INET6, 40, 8) if six else (socket.AF_INET, (packet[0] & 15) * 4, 12)
        length = 16 if six else 4
        if packet[6 if six else 9] == 17:
            ends = [socket.inet_ntop(family, packet[at:at + length]) for at in (place, place + length)]
            port = struct.unpack('>H', packet[start + 2:start + 4])[0]
            if port == 6771: print('packet %s %s %s %d' % (names[tun], *ends, packet[7 if six else 8]), flush=True)
            else: print('other %s %s %s %d' % (names[tun], *ends, port), flush=True)
        if packet[6 if six else 9] == 6 and packet[start + 13] & 18 == 2:
            ends = [socket.inet_ntop(family, packet[at:at + length]) for at in (place, place + length)]
            port = struct.unpack('>H', packet[start + 2:start + 4])[0]
            print('connection %s %s %s %d' % (names[tun], *ends, port), flush=True)
";

/// A machine: it is there as long as its namespace is held.
pub struct Machine(Child);

impl Machine {
    fn new() -> Machine {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let holder = Command::new("unshare").args(["--net", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let its = format!("/proc/{}/ns/net", holder.id());
        wait_until("a namespace", String::new, || fs::read_link(&its).ok().filter(|its| *its != own));
        Machine(holder)
    }

    /// A command in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(self.option()).arg(program);
        command
    }

    pub fn shell(&self, text: &str) {
        assert!(self.command("sh").args(["-ec", text]).status().unwrap().success(), "{text}");
    }

    /// The option of nsenter that goes there.
    pub fn option(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.0.id())
    }

    /// A btget with this torrent or link, these options and all events.
    pub fn btget(&self, torrent: impl AsRef<OsStr>, folder: &Path, options: &[&str]) -> Btget {
        let mut command = self.command(Btget::program());
        command.arg(torrent).arg("--basedir").arg(folder);
        command.args(["--state-dir", "", "--port", "0", "--json", "--transport", "tcp"]).args(options);
        Btget::run(&mut command)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What stands before a machine and lets in only who was sent to, by IPv4, TCP and UDP.
#[derive(Clone, Copy)]
pub enum Router {
    /// Packets of UDP that go out bear another port, 40000 or one of the next, the same for all from one port of the machine.
    Translating,
    /// The port stays the same; who is not the third machine is let in once two packets were sent to it.
    Wary,
}

impl Router {
    fn name(self) -> &'static str {
        match self {
            Router::Translating => "translating",
            Router::Wary => "wary",
        }
    }
}

/// Machines `1` to `3` on one network at 10.1.0.N and fe80::N by device `dN`; the first is also on another one, at 10.2.0.1 by `e1`, where
/// there is the fourth at 10.2.0.4 by `e4`.
pub struct World {
    machines: Vec<Machine>,
    pub cables: Process,
}

impl World {
    pub fn new() -> World {
        World::behind(None)
    }

    /// Before the first and the second machine there is a router each.
    pub fn behind(router: Option<Router>) -> World {
        let machines: Vec<Machine> = (0..4).map(|_| Machine::new()).collect();
        let pid = |number: usize| machines[number - 1].0.id();
        let mut command = Command::new("python3");
        command.args(["-c", CABLES]);
        let before = |number: usize| router.filter(|_| number < 3).map_or("", Router::name);
        command.args((1..=3).map(|number| format!("{}:d{number}:d:{}", pid(number), before(number))));
        command.args([1, 4].map(|number| format!("{}:e{number}:e:", pid(number))));
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

    pub fn machine(&self, number: usize) -> &Machine {
        &self.machines[number - 1]
    }

    /// Packets of discovery that this device has sent: from, to, TTL.
    pub fn sent_by(&self, device: &str) -> Vec<String> {
        let start = format!("packet {device} ");
        self.cables.lines().iter().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
    }

    /// UDP packets that this device has sent for anything but discovery: from, to, port.
    pub fn other_packets_by(&self, device: &str) -> Vec<String> {
        let start = format!("other {device} ");
        self.cables.lines().iter().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
    }

    /// Connections that this device has asked for to an address: from, to, port.
    pub fn connections_by(&self, device: &str, to: &str) -> Vec<String> {
        let (start, to) = (format!("connection {device} "), format!(" {to} "));
        let lines = self.cables.lines();
        let asked =
            lines.iter().filter_map(|line| line.strip_prefix(&start)).filter(|line| line.contains(&to));
        asked.map(str::to_owned).collect()
    }

    /// Waits until the device has sent so many.
    pub fn wait_for_packets(&self, device: &str, count: usize) {
        wait_until("packets", || self.cables.story(), || (self.sent_by(device).len() >= count).then_some(()));
    }
}
