//! Port mapping, on networks of our own: the first machine is a gateway between the network of the second and the third, and that of the fourth.
//! A program on it (tests/support/gateway.py) speaks what a test wishes, and passes on connections by the mappings that it has made. Every packet is
//! looked at; nothing of it ever reaches a real network.
//!
//! Has a main of its own, to report a machine that allows none of this as ignored.

mod support;

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use libtest_mimic::Arguments;
use serde_json::Value;

use support::clients::Btget;
use support::events::is;
use support::fixture::Fixture;
use support::networks::{World, can_have_networks};
use support::process::{Process, wait_until};
use support::system::trial;

fn main() -> ExitCode {
    let possible = can_have_networks();
    let tests: [(&str, fn()); 9] = [
        ("by_each_protocol_a_peer_outside_is_let_in_and_the_end_removes_it", each_protocol),
        ("another_port_outside_is_what_the_tracker_is_told", other_port),
        ("only_the_host_that_has_answered_is_contacted", only_who_answered),
        ("a_gateway_that_misbehaves_costs_an_event", misbehaving),
        ("a_gateway_that_refuses_or_knows_no_leases", refusals),
        ("switched_off_or_of_no_use_not_one_packet_is_sent", silent),
        ("bound_to_an_address_only_the_gateway_of_its_network_is_asked", bound),
        ("a_router_of_ipv6_is_asked_to_let_in_our_address", ipv6),
        ("a_kill_leaves_the_mapping_to_its_lease_and_a_stop_takes_at_most_five_seconds", ends),
    ];
    let trials = tests.into_iter().map(|(name, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The tracker that the gateway is too.
const TRACKER: &str = "http://10.1.0.1:8000/announce";

const GATEWAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/gateway.py");

/// The ports of PCP and NAT-PMP, and of the search of UPnP.
const PORTS: [&str; 2] = ["5351", "1900"];

fn world() -> World {
    let world = World::new();
    for number in [2, 3] {
        world.machine(number).shell("ip route add default via 10.1.0.1");
    }
    world
}

/// A gateway on the first machine that is as these words say.
fn gateway(world: &World, words: &[&str]) -> Process {
    let mut command = world.machine(1).command("python3");
    command.args([GATEWAY, "10.1.0.1", "10.2.0.1"]).args(words);
    let mut gateway = Process::start("the gateway", &mut command);
    gateway.wait_for_line(&["ready"]);
    gateway
}

/// A btget on the second machine that has the whole torrent.
fn seed(world: &World, fixture: &Fixture, options: &[&str]) -> Btget {
    let quiet = ["--no-lsd", "--dht-bootstrap", "none", "--no-pex", "--max-peers", "5"];
    static SEEDS: AtomicUsize = AtomicUsize::new(0);
    let folder = fixture.full_folder(&format!("seed-{}", SEEDS.fetch_add(1, Ordering::Relaxed)));
    world.machine(2).btget(fixture.torrent(), &folder, &[&quiet, options].concat())
}

fn fixture() -> Fixture {
    Fixture::single(300_000, TRACKER, 16)
}

/// Lines of the gateway that begin like this.
fn said(gateway: &Process, begin: &str) -> Vec<String> {
    gateway.lines().into_iter().filter(|line| line.starts_with(begin)).collect()
}

fn mapped(btget: &mut Btget, protocol: &str) -> Value {
    btget.wait_for_event("a mapping", |event| is(event, "port_map_success") && event["protocol"] == protocol)
}

fn failed(btget: &mut Btget, method: &str) -> String {
    let event =
        btget.wait_for_event("a failure", |event| is(event, "port_map_failure") && event["method"] == method);
    event["reason"].as_str().unwrap().to_owned()
}

fn each_protocol() {
    let fixture = fixture();
    for (method, words) in [
        ("pcp", &["pcp"][..]),
        ("nat-pmp", &["nat-pmp"]),
        ("upnp", &["upnp"]),
        // Whatever else it sends.
        ("pcp", &["pcp", "garbage"]),
        // The router answers by PCP, so UPnP is not needed.
        ("pcp", &["pcp", "nat-pmp", "upnp"]),
    ] {
        let world = world();
        let gateway = gateway(&world, words);
        let mut seed = seed(&world, &fixture, &[]);
        let event = mapped(&mut seed, "tcp4");
        let story = || format!("{}\n{}", seed.story(), gateway.story());
        assert_eq!(
            (&event["method"], &event["address"], &event["gateway"], &event["lifetime"]),
            (&method.into(), &"10.2.0.1".into(), &"10.1.0.1".into(), &3600.into()),
            "{}",
            story()
        );
        let target = fixture.empty_folder(&format!("target-{}", words.join("-")));
        let peer = format!("10.2.0.1:{}", event["port"]);
        let alone = ["--no-lsd", "--no-dht", "--no-port-map", "--no-seed", "--peer", &peer];
        world.machine(4).btget(fixture.torrent(), &target, &alone).wait_for_success();
        fixture.assert_complete(&target);
        seed.terminate();
        seed.wait_for_success();
        assert_eq!(said(&gateway, "unmap").len(), said(&gateway, "map").len(), "{}", gateway.story());
        assert!(said(&gateway, "get").is_empty() || words == ["upnp"], "{}", gateway.story());
        // Besides the tracker's nothing has left but what the gateway was asked.
        for packet in world.other_packets_by("d2") {
            assert!(
                ["10.1.0.2 10.1.0.1 5351", "10.1.0.2 239.255.255.250 1900"].contains(&packet.as_str()),
                "{packet}"
            );
        }
    }
}

fn other_port() {
    let fixture = fixture();
    for words in [["pcp", "taken"], ["nat-pmp", "taken"], ["upnp", "taken"]] {
        let world = world();
        let gateway = gateway(&world, &words);
        let mut seed = seed(&world, &fixture, &["--port", "6881"]);
        let port = mapped(&mut seed, "tcp4")["port"].as_u64().unwrap();
        assert_ne!(port, 6881);
        assert_eq!(mapped(&mut seed, "udp4")["port"].as_u64(), Some(port), "{}", gateway.story());
        seed.terminate();
        seed.wait_for_success();
        // Before, it was told what was known then; again it may be told after a minute only.
        let told = said(&gateway, "announce");
        assert_eq!(told.last(), Some(&format!("announce {port} stopped")), "{}", gateway.story());
        // What was another's is not removed.
        let foreign = |line: &&String| line.ends_with(" 6881");
        assert!(!said(&gateway, "unmap").iter().any(|line| foreign(&line)), "{}", gateway.story());
    }
}

fn only_who_answered() {
    let fixture = fixture();
    let world = world();
    // Somebody who would answer stands there.
    let mut command = world.machine(3).command("python3");
    command.args([GATEWAY, "10.1.0.3", "10.1.0.3"]);
    let mut victim = Process::start("the victim", &mut command);
    victim.wait_for_line(&["ready"]);
    let location = "location=http://10.1.0.3:8000/reboot?now";
    let gateway = gateway(&world, &["upnp", location]);
    let mut seed = seed(&world, &fixture, &[]);
    mapped(&mut seed, "tcp4");
    assert_eq!(said(&gateway, "get"), ["get 10.1.0.1:8000 /reboot?now"]);
    seed.terminate();
    seed.wait_for_success();
    assert!(said(&victim, "get").is_empty());
    assert_eq!(world.connections_by("d2", "10.1.0.3"), Vec::<String>::new());
}

fn misbehaving() {
    let fixture = fixture();
    for (words, expected) in [
        ("bomb", "larger than 128 KiB"),
        ("gzip", "larger than 128 KiB"),
        ("header", "head is too large"),
        ("drip", "within 5 s"),
        ("hang", "within 5 s"),
        ("garbage", "does not say where it maps ports"),
        ("redirect=http://10.1.0.3:8000/x", "HTTP status 302"),
    ] {
        let world = world();
        let gateway = gateway(&world, &["upnp", words]);
        let mut seed = seed(&world, &fixture, &[]);
        let reason = failed(&mut seed, "upnp");
        assert!(reason.contains(expected), "{words}: {reason}\n{}", gateway.story());
        let asked = || Some(said(&gateway, "get").len()).filter(|&asked| asked > 0);
        let times = wait_until("what it was asked", || gateway.story(), asked);
        assert_eq!(times, 1, "it is asked once: {}", gateway.story());
        assert_eq!(world.connections_by("d2", "10.1.0.3"), Vec::<String>::new());
        let status = fs::read_to_string(format!("/proc/{}/status", seed.pid().as_raw_nonzero())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < 100_000, "{words}: {peak} KiB");
        seed.terminate();
        seed.wait_for_success();
    }
}

fn refusals() {
    let fixture = fixture();
    for (words, method, expected) in [
        (["pcp", "refuse=2"], "pcp", "it is not allowed there (result code 2)"),
        (["nat-pmp", "refuse=4"], "nat-pmp", "the gateway has no port left (result code 4)"),
        (["upnp", "refuse=606"], "upnp", "it refuses: error 606"),
        (["upnp", "refuse=501"], "upnp", "it refuses: error 501"),
    ] {
        let world = world();
        let gateway = gateway(&world, &words);
        let mut seed = seed(&world, &fixture, &[]);
        assert_eq!(failed(&mut seed, method), expected, "{}", gateway.story());
        seed.terminate();
        seed.wait_for_success();
    }
    let world = world();
    let gateway = gateway(&world, &["upnp", "endless"]);
    let mut seed = seed(&world, &fixture, &[]);
    assert_eq!(mapped(&mut seed, "udp4")["lifetime"], Value::Null);
    seed.terminate();
    seed.wait_for_success();
    assert_eq!(said(&gateway, "map").len(), 2);
    assert_eq!(said(&gateway, "unmap").len(), 2);
}

fn silent() {
    let fixture = fixture();
    for options in [&["--no-port-map"][..], &["--bind", "127.0.0.1"], &["--state", "stopped"]] {
        let world = world();
        let gateway = gateway(&world, &["pcp", "upnp"]);
        let mut seed = seed(&world, &fixture, options);
        seed.wait_for_event("the end of the check", |event| is(event, "hashcheck_finished"));
        seed.terminate();
        seed.wait();
        assert!(said(&gateway, "map").is_empty() && said(&gateway, "search").is_empty(), "{options:?}");
        let asked = |packet: &String| PORTS.iter().any(|port| packet.ends_with(port));
        assert!(!world.other_packets_by("d2").iter().any(asked), "{options:?}");
    }
    // Who only wants to know what a torrent is takes no callers.
    let world = world();
    let gateway = gateway(&world, &["pcp", "upnp"]);
    let mut command = world.machine(2).command(Btget::program());
    let link = format!("magnet:?xt=urn:btih:{}&tr={TRACKER}", "7".repeat(40));
    command.args([&link, "--show", "--no-lsd", "--no-dht", "--stall-timeout", "3s", "--state-dir", ""]);
    let mut show = Process::start("btget", &mut command);
    show.wait();
    assert_eq!(said(&gateway, "announce").len(), 2, "{}\n{}", show.story(), gateway.story());
    assert!(said(&gateway, "map").is_empty() && said(&gateway, "search").is_empty());
}

fn bound() {
    let fixture = fixture();
    let world = world();
    world.machine(1).shell("ip route add default via 10.1.0.2");
    let mut command = world.machine(4).command("python3");
    command.args([GATEWAY, "10.2.0.4", "10.2.0.4", "upnp", "deaf"]);
    let mut gateway = Process::start("the gateway", &mut command);
    gateway.wait_for_line(&["ready"]);
    let folder = fixture.full_folder("bound");
    let options = ["--no-lsd", "--no-dht", "--bind", "10.2.0.1"];
    let mut seed = world.machine(1).btget(fixture.torrent(), &folder, &options);
    let event = mapped(&mut seed, "tcp4");
    assert_eq!(event["gateway"], "10.2.0.4");
    assert!(said(&gateway, "map")[0].starts_with("map upnp tcp 10.2.0.1:"), "{}", gateway.story());
    seed.terminate();
    seed.wait_for_success();
    assert_eq!(world.other_packets_by("d1"), Vec::<String>::new());
}

fn ipv6() {
    let fixture = fixture();
    let world = world();
    world
        .machine(2)
        .shell("ip -6 addr add 2001:db8:1::2/64 dev d2 nodad; ip -6 route add default via fe80::1 dev d2");
    // So that the router has a way back.
    world.machine(1).shell("ip -6 addr add 2001:db8:1::1/64 dev d1 nodad");
    let gateway = gateway(&world, &["pcp", "six"]);
    let mut seed = seed(&world, &fixture, &[]);
    let event = mapped(&mut seed, "tcp6");
    assert_eq!((&event["method"], &event["address"]), (&"pcp".into(), &"2001:db8:1::2".into()));
    assert_eq!(event["gateway"], "fe80::1");
    mapped(&mut seed, "tcp4");
    seed.terminate();
    seed.wait_for_success();
    assert_eq!(said(&gateway, "unmap").len(), said(&gateway, "map").len(), "{}", gateway.story());
}

fn ends() {
    let fixture = fixture();
    let world = world();
    let gateway = gateway(&world, &["nat-pmp"]);
    let mut killed = seed(&world, &fixture, &["--port", "6881"]);
    mapped(&mut killed, "tcp4");
    killed.signal(rustix::process::Signal::KILL);
    killed.wait();
    assert!(said(&gateway, "unmap").is_empty());
    // The next run finds its own mapping, and has it.
    let mut next = seed(&world, &fixture, &["--port", "6881"]);
    assert_eq!(mapped(&mut next, "tcp4")["port"], 6881);
    mapped(&mut next, "udp4");
    // The gateway is gone.
    drop(gateway);
    world.machine(1).shell("ip link set d1 down");
    let begun = Instant::now();
    next.terminate();
    next.wait();
    assert!(begun.elapsed().as_secs() < 10, "it waits for nobody for longer than 5 s, and a busy machine");
}
