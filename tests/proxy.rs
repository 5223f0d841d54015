//! Everything through a proxy (`--proxy`), and nothing past it: with a proxy of the test's own that alone knows the names, and keeps what it is
//! asked for.
//!
//! Has a main of its own, to report a proxy that is not installed as ignored.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::thread;

use libtest_mimic::Arguments;
use serde_json::Value;

use support::clients::{Btget, is_in_path};
use support::events::{is, summary};
use support::fixture::{Family, Fixture};
use support::process::{Process, wait_until};
use support::proxy::{ProxyManners, TestProxy};
use support::system::trial;
use support::tls::{CERTIFICATE, server_config};
use support::tracker::{Manners, Tracker};
use support::web::web_server;

fn main() -> ExitCode {
    let tests: [(&str, bool, fn()); 22] = [
        ("a_download_goes_through_a_socks5_proxy", true, a_download_goes_through_a_socks5_proxy),
        (
            "a_download_goes_through_a_socks5_proxy_that_drips_and_encrypted",
            true,
            a_download_goes_through_a_socks5_proxy_that_drips_and_encrypted,
        ),
        ("a_download_goes_through_an_http_proxy", true, a_download_goes_through_an_http_proxy),
        (
            "peers_of_the_user_are_told_to_the_proxy_by_their_names",
            true,
            peers_of_the_user_are_told_to_the_proxy_by_their_names,
        ),
        (
            "peers_that_a_tracker_names_are_told_to_the_proxy_by_their_names",
            true,
            peers_that_a_tracker_names_are_told_to_the_proxy_by_their_names,
        ),
        (
            "while_there_is_no_proxy_everything_waits_and_nobody_is_called_directly",
            true,
            while_there_is_no_proxy_everything_waits_and_nobody_is_called_directly,
        ),
        (
            "a_proxy_that_dies_in_the_middle_is_waited_for",
            true,
            a_proxy_that_dies_in_the_middle_is_waited_for,
        ),
        (
            "a_proxy_that_refuses_the_login_is_told_once_and_gone_past_by_nobody",
            true,
            a_proxy_that_refuses_the_login_is_told_once_and_gone_past_by_nobody,
        ),
        (
            "a_refusal_of_one_destination_is_that_peers_alone",
            true,
            a_refusal_of_one_destination_is_that_peers_alone,
        ),
        (
            "a_udp_tracker_is_asked_by_a_proxy_that_carries_packets",
            true,
            a_udp_tracker_is_asked_by_a_proxy_that_carries_packets,
        ),
        (
            "without_packets_udp_trackers_and_the_dht_are_off_and_it_is_said",
            true,
            without_packets_udp_trackers_and_the_dht_are_off_and_it_is_said,
        ),
        (
            "peers_are_found_in_the_dht_by_a_proxy_that_carries_packets",
            true,
            peers_are_found_in_the_dht_by_a_proxy_that_carries_packets,
        ),
        (
            "peers_are_found_in_the_dht_of_ipv6_by_a_proxy_that_carries_packets",
            Family::V6.is_available(),
            peers_are_found_in_the_dht_of_ipv6_by_a_proxy_that_carries_packets,
        ),
        (
            "the_dht_goes_on_when_a_proxy_that_was_gone_is_back",
            true,
            the_dht_goes_on_when_a_proxy_that_was_gone_is_back,
        ),
        (
            "a_node_that_is_refused_is_not_asked_by_the_proxy_either",
            true,
            a_node_that_is_refused_is_not_asked_by_the_proxy_either,
        ),
        (
            "peers_are_called_by_utp_through_a_proxy_that_carries_packets",
            true,
            peers_are_called_by_utp_through_a_proxy_that_carries_packets,
        ),
        (
            "who_calls_by_utp_where_the_proxy_sends_from_is_let_in",
            true,
            who_calls_by_utp_where_the_proxy_sends_from_is_let_in,
        ),
        (
            "a_call_by_utp_waits_for_a_proxy_that_is_not_there_and_ends_at_one_that_carries_no_packets",
            true,
            a_call_by_utp_waits_for_a_proxy_that_is_not_there_and_ends_at_one_that_carries_no_packets,
        ),
        (
            "a_torrent_by_its_url_and_a_web_seed_are_reached_through_the_proxy",
            true,
            a_torrent_by_its_url_and_a_web_seed_are_reached_through_the_proxy,
        ),
        (
            "an_https_tracker_is_spoken_to_by_tls_through_the_proxy",
            true,
            an_https_tracker_is_spoken_to_by_tls_through_the_proxy,
        ),
        (
            "the_proxy_of_the_environment_is_for_peers_only_if_the_user_says_so",
            true,
            the_proxy_of_the_environment_is_for_peers_only_if_the_user_says_so,
        ),
        ("microsocks_takes_a_download", is_in_path("microsocks"), microsocks_takes_a_download),
    ];
    let trials = tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

const LOGIN: (&str, &str) = ("user", "pass:word");

fn url(kind: &str, proxy: &TestProxy) -> String {
    format!("{kind}://user:pass%3Aword@{}", proxy.address())
}

/// The tracker's URL by a name that nobody but the proxy knows.
fn by_name(tracker: &Tracker) -> String {
    format!("http://tracker.invalid:{}/announce", tracker.address().port())
}

/// A seeder that has announced to the tracker, and where it listens.
fn seeder(fixture: &Fixture, tracker: &Tracker) -> (Btget, SocketAddr) {
    seeder_with(fixture, tracker, &[])
}

fn seeder_with(fixture: &Fixture, tracker: &Tracker, options: &[&str]) -> (Btget, SocketAddr) {
    let folder = fixture.full_folder("seeder");
    let mut seeder = Btget::tell(fixture, &folder, &[&["--tracker", &tracker.url()], options].concat());
    let told = seeder.wait_for_event("its port", |event| is(event, "listen_success"));
    wait_until("its announce", || seeder.story(), || (!tracker.announces().is_empty()).then_some(()));
    (seeder, told["address"].as_str().unwrap().parse().unwrap())
}

fn network(usable: bool) -> impl Fn(&Value) -> bool {
    move |event| is(event, "network") && event["usable"] == usable
}

fn assert_nothing_is_heard_of_the_password(btget: &Btget) {
    let told = btget.lines().join("\n");
    assert!(!told.contains("pass:word") && !told.contains("pass%3Aword"), "{told}");
}

fn download_through(kind: &str, manners: ProxyManners, options: &[&str]) {
    let proxy = TestProxy::start(ProxyManners { login: Some(LOGIN), ..manners });
    let tracker = Tracker::start();
    let fixture = Fixture::single(300_000, NOBODY, 31);
    let (_seeder, seed) = seeder(&fixture, &tracker);
    let before = tracker.connections();
    let folder = fixture.empty_folder("leech");
    let (through, name) = (url(kind, &proxy), by_name(&tracker));
    let line = ["--proxy", &through, "--tracker", &name, "--no-seed", "-vv", "--events", "debug"];
    let mut leech = Btget::tell(&fixture, &folder, &[&line, options].concat());
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    let expected =
        [format!("connect tracker.invalid:{}", tracker.address().port()), format!("connect {seed}")];
    assert!(expected.iter().all(|asked| proxy.has_been_asked(asked)), "{:?}", proxy.asked());
    // Each connection to the tracker is one of the proxy's.
    let by_proxy = proxy.asked().iter().filter(|asked| asked.contains("tracker.invalid")).count();
    assert_eq!(tracker.connections() - before, by_proxy);
    let heard = tracker.announces();
    assert!(heard.iter().skip(1).all(|heard| heard.address.port() == 1), "{heard:?}");
    let events = leech.events();
    assert!(!events.iter().any(|event| is(event, "listen_success")), "{}", leech.story());
    let begun = events.iter().find(|event| network(true)(event)).unwrap();
    assert_eq!(begun["via"], format!("{kind}://{}", proxy.address()));
    assert_nothing_is_heard_of_the_password(&leech);
}

fn a_download_goes_through_a_socks5_proxy() {
    download_through("socks5", ProxyManners::default(), &[]);
}

fn a_download_goes_through_a_socks5_proxy_that_drips_and_encrypted() {
    download_through(
        "socks5",
        ProxyManners { drips: true, ..ProxyManners::default() },
        &["--encryption", "require"],
    );
}

fn a_download_goes_through_an_http_proxy() {
    download_through("http", ProxyManners { http: true, ..ProxyManners::default() }, &[]);
}

fn peers_of_the_user_are_told_to_the_proxy_by_their_names() {
    let proxy = TestProxy::start(ProxyManners::default());
    let (fixture, tracker) = (Fixture::single(300_000, NOBODY, 32), Tracker::start());
    let (_seeder, seed) = seeder(&fixture, &tracker);
    let peer = format!("seed.invalid:{}", seed.port());
    let folder = fixture.empty_folder("leech");
    let through = format!("socks5://{}", proxy.address());
    Btget::tell(&fixture, &folder, &["--proxy", &through, "--peer", &peer, "--no-seed"]).wait_for_success();
    fixture.assert_complete(&folder);
    assert!(proxy.has_been_asked(&format!("connect {peer}")), "{:?}", proxy.asked());
}

fn peers_that_a_tracker_names_are_told_to_the_proxy_by_their_names() {
    let proxy = TestProxy::start(ProxyManners::default());
    let (fixture, tracker) = (Fixture::single(300_000, NOBODY, 44), Tracker::start());
    let (_seeder, seed) = seeder(&fixture, &tracker);
    let naming = Tracker::start();
    let answer = format!("d8:intervali1800e5:peersld2:ip12:seed.invalid4:porti{}eeee", seed.port());
    naming.set_manners(Manners::Body(answer.into_bytes()));
    let folder = fixture.empty_folder("leech");
    let (through, name) = (format!("socks5://{}", proxy.address()), by_name(&naming));
    Btget::tell(&fixture, &folder, &["--proxy", &through, "--tracker", &name, "--no-seed"])
        .wait_for_success();
    fixture.assert_complete(&folder);
    assert!(proxy.has_been_asked(&format!("connect seed.invalid:{}", seed.port())), "{:?}", proxy.asked());
}

fn while_there_is_no_proxy_everything_waits_and_nobody_is_called_directly() {
    let (fixture, tracker) = (Fixture::single(300_000, NOBODY, 33), Tracker::start());
    let (_seeder, seed) = seeder(&fixture, &tracker);
    let before = tracker.connections();
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let folder = fixture.empty_folder("leech");
    let (through, peer) = (format!("socks5://user:pass%3Aword@{address}"), seed.to_string());
    let name = by_name(&tracker);
    let line = ["--proxy", &through, "--peer", &peer, "--tracker", &name, "--no-seed", "--events", "debug"];
    let mut leech = Btget::tell(&fixture, &folder, &line);
    let failed = leech.wait_for_event("that the proxy does not work", network(false));
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("connection refused") && reason.contains("check that it runs"), "{reason}");
    let failed = leech.wait_for_event("that the tracker fails", |event| is(event, "tracker_failure"));
    let reason = failed["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&format!("by the proxy socks5://{address}: cannot connect to it")),
        "{reason}"
    );
    assert_eq!(tracker.connections(), before, "a call past the proxy");
    let _proxy = TestProxy::start_at(address, ProxyManners { login: Some(LOGIN), ..ProxyManners::default() });
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    let events = leech.events();
    assert_eq!(events.iter().filter(|event| network(false)(event)).count(), 1, "told once");
    assert!(events.iter().any(|event| network(true)(event) && event["reason"] == "the proxy works again"));
    // No peer was written off for it.
    let mut before_data = events.iter().take_while(|event| !is(event, "piece_hash_passed"));
    assert!(!before_data.any(|event| is(event, "peer_disconnect")), "{}", leech.story());
    assert_nothing_is_heard_of_the_password(&leech);
}

fn a_proxy_that_dies_in_the_middle_is_waited_for() {
    let (fixture, tracker) = (Fixture::single(1_000_000, NOBODY, 43), Tracker::start());
    // What is limited here may be on its way already.
    let (_seeder, seed) = seeder_with(&fixture, &tracker, &["--max-upload-rate", "200K"]);
    let proxy = TestProxy::start(ProxyManners { login: Some(LOGIN), ..ProxyManners::default() });
    let folder = fixture.empty_folder("leech");
    let (address, through, peer) = (proxy.address(), url("socks5", &proxy), seed.to_string());
    let line = ["--proxy", &through, "--peer", &peer, "--no-seed"];
    let mut leech = Btget::tell(&fixture, &folder, &line);
    leech.wait_for_event("a piece", |event| is(event, "piece_hash_passed"));
    let before = tracker.connections();
    proxy.end();
    leech.wait_for_event("that it does not work", network(false));
    assert!(!leech.events().iter().any(|event| is(event, "complete")), "it was too quick");
    assert_eq!(tracker.connections(), before, "a call past the proxy");
    let _proxy = TestProxy::start_at(address, ProxyManners { login: Some(LOGIN), ..ProxyManners::default() });
    leech.wait_for_success();
    fixture.assert_complete(&folder);
}

fn a_proxy_that_refuses_the_login_is_told_once_and_gone_past_by_nobody() {
    let proxy = TestProxy::start(ProxyManners { login: Some(("other", "x")), ..ProxyManners::default() });
    let (fixture, tracker) = (Fixture::single(300_000, NOBODY, 34), Tracker::start());
    let (_seeder, seed) = seeder(&fixture, &tracker);
    let before = tracker.connections();
    let folder = fixture.empty_folder("leech");
    let (through, name, peer) = (url("socks5", &proxy), by_name(&tracker), seed.to_string());
    let line = ["--proxy", &through, "--tracker", &name, "--peer", &peer, "--stall-timeout", "3s"];
    let mut leech = Btget::tell(&fixture, &folder, &line);
    assert_eq!(leech.wait_for_code(), Some(5));
    let told: Vec<Value> = leech.events().into_iter().filter(network(false)).collect();
    assert_eq!(told.len(), 1, "{}", leech.story());
    assert!(told[0]["reason"].as_str().unwrap().contains("refuses the user name or the password"));
    assert_eq!((tracker.connections(), proxy.asked().len()), (before, 0));
    assert_nothing_is_heard_of_the_password(&leech);
}

fn a_refusal_of_one_destination_is_that_peers_alone() {
    for (kind, manners, said) in [
        ("socks5", ProxyManners { refusal: Some(5), ..ProxyManners::default() }, "connection refused"),
        ("http", ProxyManners { http: true, refusal: Some(503), ..ProxyManners::default() }, "503 Not today"),
    ] {
        let proxy = TestProxy::start(manners);
        let fixture = Fixture::single(300_000, NOBODY, 35);
        let folder = fixture.empty_folder("leech");
        let through = format!("{kind}://{}", proxy.address());
        let line = ["--proxy", &through, "--peer", "192.0.2.1:6881", "--events", "debug"];
        let mut leech = Btget::tell(&fixture, &folder, &line);
        let parted = leech.wait_for_event("the refusal", |event| is(event, "peer_disconnect"));
        let reason = parted["reason"].as_str().unwrap();
        assert!(reason.starts_with("the proxy says: ") && reason.contains(said), "{reason}");
        leech.terminate();
        leech.wait_for_code();
        assert!(!leech.events().iter().any(network(false)), "{}", leech.story());
    }
}

/// A tracker by UDP that knows of one peer.
fn udp_tracker(peer: SocketAddr) -> (u16, Arc<Mutex<usize>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (port, heard) = (socket.local_addr().unwrap().port(), Arc::new(Mutex::new(0)));
    let count = heard.clone();
    thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            *count.lock().unwrap() += 1;
            let is_connect = length == 16;
            let mut answer = u32::from(!is_connect).to_be_bytes().to_vec();
            answer.extend(&packet[12..16]);
            answer.extend(if is_connect { [7; 8].as_slice() } else { &[0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1] });
            if let (false, IpAddr::V4(ip)) = (is_connect, peer.ip()) {
                answer.extend(ip.octets());
                answer.extend(peer.port().to_be_bytes());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    (port, heard)
}

fn a_udp_tracker_is_asked_by_a_proxy_that_carries_packets() {
    let proxy = TestProxy::start(ProxyManners { udp: true, login: Some(LOGIN), ..ProxyManners::default() });
    let (fixture, tracker) = (Fixture::single(300_000, NOBODY, 36), Tracker::start());
    let (_seeder, seed) = seeder(&fixture, &tracker);
    let (port, _) = udp_tracker(seed);
    let folder = fixture.empty_folder("leech");
    let (through, name) = (url("socks5", &proxy), format!("udp://tracker.invalid:{port}/announce"));
    let mut leech = Btget::tell(&fixture, &folder, &["--proxy", &through, "--tracker", &name, "--no-seed"]);
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    assert!(proxy.has_been_asked(&format!("packet tracker.invalid:{port}")), "{:?}", proxy.asked());
}

fn without_packets_udp_trackers_and_the_dht_are_off_and_it_is_said() {
    for (kind, manners) in [
        ("socks5", ProxyManners::default()),
        ("http", ProxyManners { http: true, ..ProxyManners::default() }),
    ] {
        let proxy = TestProxy::start(manners);
        let fixture = Fixture::single(300_000, NOBODY, 37);
        let (port, heard) = udp_tracker(([127, 0, 0, 1], 9).into());
        let folder = fixture.empty_folder("leech");
        let through = format!("{kind}://{}", proxy.address());
        let name = format!("udp://127.0.0.1:{port}/announce");
        let mut command = Btget::command_with_dht();
        command.arg(fixture.torrent());
        Btget::on_loopback(&mut command, Family::V4, &folder);
        let node = format!("127.0.0.1:{port}");
        command.args(["--json", "--proxy", &through, "--tracker", &name, "--dht-bootstrap", &node]);
        let mut leech = Btget::run(&mut command);
        let failed = leech.wait_for_event("the tracker's failure", |event| {
            is(event, "tracker_failure") && event["url"] == name
        });
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains("it does not carry UDP"), "{reason}");
        leech.wait_for_event("that it is off", |event| is(event, "udp_off"));
        leech.terminate();
        leech.wait_for_code();
        let told = leech.events().into_iter().filter(|event| is(event, "udp_off")).count();
        assert_eq!((told, *heard.lock().unwrap()), (1, 0), "{}", leech.story());
    }
}

/// A node of the DHT, without local discovery, which speaks TCP alone to peers.
fn node(fixture: &Fixture, family: Family, folder: &Path, options: &[&str]) -> Btget {
    let mut command = Btget::command_with_dht();
    command.arg(fixture.torrent());
    Btget::on_loopback(&mut command, family, folder).args(["--json", "--transport", "tcp"]).args(options);
    Btget::run(&mut command)
}

/// A node that begins with nobody, and takes part in the torrent; and its address.
fn hub(fixture: &Fixture, family: Family, options: &[&str]) -> (Btget, String) {
    let alone = ["--dht-bootstrap", "none", "--state", "paused"];
    let mut hub = node(fixture, family, &fixture.full_folder("hub"), &[&alone, options].concat());
    let told = hub.wait_for_event("its port", |event| {
        is(event, "listen_success") && event["protocol"].as_str().is_some_and(|it| it.starts_with("udp"))
    });
    let address = told["address"].as_str().unwrap().to_owned();
    (hub, address)
}

/// A seeder that has announced itself in the DHT.
fn seeder_in_dht(fixture: &Fixture, family: Family, hub: &str) -> Btget {
    let mut seeder = node(fixture, family, &fixture.full_folder("seeder"), &["--dht-bootstrap", hub]);
    seeder.wait_for_event("its announce", |event| is(event, "dht_announce"));
    seeder
}

fn peers_are_found_in_the_dht_of_ipv6_by_a_proxy_that_carries_packets() {
    let fixture = Fixture::single(300_000, NOBODY, 45);
    let (_hub, hub_address) = hub(&fixture, Family::V6, &[]);
    let _seeder = seeder_in_dht(&fixture, Family::V6, &hub_address);
    let proxy = TestProxy::start(ProxyManners { udp: true, ..ProxyManners::default() });
    let folder = fixture.empty_folder("leech");
    let through = format!("socks5://{}", proxy.address());
    let line = ["--proxy", &through, "--dht-bootstrap", &hub_address, "--no-seed"];
    node(&fixture, Family::V4, &folder, &line).wait_for_success();
    fixture.assert_complete(&folder);
    assert!(proxy.has_been_asked(&format!("packet {hub_address}")), "{:?}", proxy.asked());
}

fn the_dht_goes_on_when_a_proxy_that_was_gone_is_back() {
    let fixture = Fixture::single(300_000, NOBODY, 46);
    let (_hub, hub_address) = hub(&fixture, Family::V4, &[]);
    let manners = ProxyManners { udp: true, ..ProxyManners::default() };
    let proxy = TestProxy::start(manners.clone());
    let (address, folder) = (proxy.address(), fixture.empty_folder("leech"));
    let through = format!("socks5://{address}");
    let line = ["--proxy", &through, "--dht-bootstrap", &hub_address, "--no-seed"];
    let mut leech = node(&fixture, Family::V4, &folder, &line);
    leech.wait_for_event("a node", |event| is(event, "dht_started"));
    proxy.end();
    leech.wait_for_event("that the proxy does not work", network(false));
    // What is found, is found after the outage.
    let _seeder = seeder_in_dht(&fixture, Family::V4, &hub_address);
    let _proxy = TestProxy::start_at(address, manners);
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    assert!(!leech.events().iter().any(|event| is(event, "udp_off")), "{}", leech.story());
}

fn a_node_that_is_refused_is_not_asked_by_the_proxy_either() {
    let fixture = Fixture::single(300_000, NOBODY, 47);
    let (_hub, hub_address) = hub(&fixture, Family::V4, &[]);
    let _seeder = seeder_in_dht(&fixture, Family::V4, &hub_address);
    let refused = UdpSocket::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let list = fixture.empty_folder("lists").join("list.p2p");
    fs::write(&list, "nobody:127.0.0.2-127.0.0.2\n").unwrap();
    let proxy = TestProxy::start(ProxyManners { udp: true, ..ProxyManners::default() });
    let folder = fixture.empty_folder("leech");
    let (through, refused) = (format!("socks5://{}", proxy.address()), refused.to_string());
    let line = ["--proxy", &through, "--ip-filter", list.to_str().unwrap(), "--no-seed"];
    let nodes = ["--dht-bootstrap", &refused, "--dht-bootstrap", &hub_address];
    node(&fixture, Family::V4, &folder, &[&line[..], &nodes].concat()).wait_for_success();
    fixture.assert_complete(&folder);
    assert!(!proxy.has_been_asked(&format!("packet {refused}")), "{:?}", proxy.asked());
    assert!(proxy.has_been_asked(&format!("packet {hub_address}")), "{:?}", proxy.asked());
}

/// A btget by uTP alone.
fn by_utp(fixture: &Fixture, folder: &Path, options: &[&str]) -> Btget {
    let mut command = Btget::command_with_utp();
    command.arg(fixture.torrent()).args(["--transport", "utp", "--json", "--events", "debug"]);
    Btget::run(Btget::on_loopback(&mut command, Family::V4, folder).args(options))
}

/// A seeder by uTP alone, and where it listens.
fn utp_seeder(fixture: &Fixture) -> (Btget, String) {
    let mut seeder = by_utp(fixture, &fixture.full_folder("seeder"), &[]);
    let told = seeder.wait_for_event("its port", |event| is(event, "listen_success"));
    seeder.wait_for_event("its torrent", |event| is(event, "seeding"));
    let address = told["address"].as_str().unwrap().to_owned();
    (seeder, address)
}

fn peers_are_called_by_utp_through_a_proxy_that_carries_packets() {
    let fixture = Fixture::single(1_000_000, NOBODY, 48);
    let (_seeder, seed) = utp_seeder(&fixture);
    // Who takes no calls by TCP is called by uTP as well where both are allowed.
    for (name, options) in [
        ("utp", ["--transport", "utp", "--encryption", "require"]),
        ("both", ["--transport", "both", "--encryption", "allow"]),
    ] {
        let proxy =
            TestProxy::start(ProxyManners { udp: true, login: Some(LOGIN), ..ProxyManners::default() });
        let folder = fixture.empty_folder(name);
        let (through, line) = (url("socks5", &proxy), ["--peer", &seed, "--no-seed"]);
        let mut command = Btget::command_with_utp();
        command.arg(fixture.torrent()).args(["--json", "--events", "debug", "--proxy", &through]).args(line);
        let mut leech = Btget::run(Btget::on_loopback(&mut command, Family::V4, &folder).args(options));
        leech.wait_for_success();
        fixture.assert_complete(&folder);
        assert!(proxy.has_been_asked(&format!("packet {seed}")), "{:?}", proxy.asked());
        let connected = proxy.has_been_asked(&format!("connect {seed}"));
        assert_eq!(connected, name == "both", "{:?}", proxy.asked());
        let events = leech.events();
        assert!(!events.iter().any(|event| is(event, "udp_off") || is(event, "listen_success")));
        assert_nothing_is_heard_of_the_password(&leech);
    }
}

fn who_calls_by_utp_where_the_proxy_sends_from_is_let_in() {
    let fixture = Fixture::single(300_000, NOBODY, 49);
    let proxy = TestProxy::start(ProxyManners { udp: true, ..ProxyManners::default() });
    // A proxy learns where its client is by a packet of it.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (through, peer) =
        (format!("socks5://{}", proxy.address()), stranger.local_addr().unwrap().to_string());
    let mut seeder =
        by_utp(&fixture, &fixture.full_folder("seeder"), &["--proxy", &through, "--peer", &peer]);
    let (asked, packet) = (|| format!("{:?}", proxy.asked()), format!("packet {peer}"));
    wait_until("a call by the proxy", asked, || proxy.has_been_asked(&packet).then_some(()));
    let folder = fixture.empty_folder("leech");
    by_utp(&fixture, &folder, &["--peer", &proxy.outside().to_string(), "--no-seed"]).wait_for_success();
    fixture.assert_complete(&folder);
    seeder.wait_for_event("the caller", |event| {
        is(event, "peer_connect") && event["direction"] == "in" && event["transport"] == "utp"
    });
}

fn a_call_by_utp_waits_for_a_proxy_that_is_not_there_and_ends_at_one_that_carries_no_packets() {
    let fixture = Fixture::single(300_000, NOBODY, 50);
    let (_seeder, seed) = utp_seeder(&fixture);
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let folder = fixture.empty_folder("leech");
    let through = format!("socks5://{address}");
    let line = ["--proxy", &through, "--peer", &seed, "--no-seed"];
    let mut leech = by_utp(&fixture, &folder, &line);
    leech.wait_for_event("that the proxy does not work", network(false));
    assert!(!leech.events().iter().any(|event| is(event, "peer_disconnect")), "{}", leech.story());
    let with_udp = TestProxy::start_at(address, ProxyManners { udp: true, ..ProxyManners::default() });
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    with_udp.end();
    let without = TestProxy::start(ProxyManners::default());
    let through = format!("socks5://{}", without.address());
    let mut leech =
        by_utp(&fixture, &fixture.empty_folder("in vain"), &["--proxy", &through, "--peer", &seed]);
    leech.wait_for_event("that UDP is off", |event| is(event, "udp_off"));
    let end = leech.wait_for_event("the end of the call", |event| is(event, "peer_disconnect"));
    assert!(end["reason"].as_str().unwrap().contains("the proxy does not carry UDP"), "{end}");
    leech.terminate();
    leech.wait_for_code();
    assert_eq!(leech.events().iter().filter(|event| is(event, "udp_off")).count(), 1);
    assert!(!without.asked().iter().any(|asked| asked.contains(&seed)), "{:?}", without.asked());
}

fn peers_are_found_in_the_dht_by_a_proxy_that_carries_packets() {
    let fixture = Fixture::single(300_000, NOBODY, 38);
    let (_hub, hub_address) = hub(&fixture, Family::V4, &[]);
    let _seeder = seeder_in_dht(&fixture, Family::V4, &hub_address);
    let proxy = TestProxy::start(ProxyManners { udp: true, login: Some(LOGIN), ..ProxyManners::default() });
    let folder = fixture.empty_folder("leech");
    let (through, port) = (url("socks5", &proxy), hub_address.rsplit_once(':').unwrap().1);
    let by_name = format!("hub.invalid:{port}");
    let line = ["--proxy", &through, "--dht-bootstrap", &by_name, "--no-seed"];
    let mut leech = node(&fixture, Family::V4, &folder, &line);
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    assert!(proxy.has_been_asked(&format!("packet hub.invalid:{port}")), "{:?}", proxy.asked());
    assert!(!leech.events().iter().any(|event| is(event, "dht_announce") || is(event, "listen_success")));
    assert_eq!(summary(&leech)["exit_code"], 0);
}

fn a_torrent_by_its_url_and_a_web_seed_are_reached_through_the_proxy() {
    let fixture = Fixture::single(300_000, NOBODY, 39);
    let torrent = web_server(LOOPBACK, fs::read(fixture.torrent()).unwrap());
    let data = fs::read(fixture.full_folder("full").join("large.bin")).unwrap();
    let seed = web_server(LOOPBACK, data);
    for (kind, http) in [("socks5", false), ("http", true)] {
        let proxy = TestProxy::start(ProxyManners { http, login: Some(LOGIN), ..ProxyManners::default() });
        let folder = fixture.empty_folder(kind);
        let (from, through) = (format!("http://web.invalid:{torrent}/a.torrent"), url(kind, &proxy));
        let web = format!("http://mirror.invalid:{seed}/large.bin");
        let mut command = Btget::command();
        command.arg(from);
        Btget::on_loopback(&mut command, Family::V4, &folder);
        command.args(["--json", "--no-seed", "--proxy", &through, "--webseed", &web]);
        let mut leech = Btget::run(&mut command);
        leech.wait_for_success();
        fixture.assert_complete(&folder);
        for port in [format!("connect web.invalid:{torrent}"), format!("connect mirror.invalid:{seed}")] {
            assert!(proxy.has_been_asked(&port), "{:?}", proxy.asked());
        }
        assert_nothing_is_heard_of_the_password(&leech);
    }
}

/// Answers announces by HTTPS with nobody; gives its port.
fn https_tracker() -> u16 {
    let (config, listener) = (server_config(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nd5:peers0:e");
        }
    });
    port
}

fn an_https_tracker_is_spoken_to_by_tls_through_the_proxy() {
    let (fixture, port) = (Fixture::single(300_000, NOBODY, 41), https_tracker());
    for (kind, http) in [("socks5", false), ("http", true)] {
        let proxy = TestProxy::start(ProxyManners { http, ..ProxyManners::default() });
        let (through, name) =
            (format!("{kind}://{}", proxy.address()), format!("https://localhost:{port}/announce"));
        let mut command = Btget::command();
        command.arg(fixture.torrent()).env("SSL_CERT_FILE", CERTIFICATE);
        Btget::on_loopback(&mut command, Family::V4, &fixture.empty_folder(kind));
        let mut leech = Btget::run(command.args(["--json", "--proxy", &through, "--tracker", &name]));
        leech.wait_for_event("its answer", |event| is(event, "tracker_success") && event["url"] == name);
        leech.terminate();
        leech.wait_for_code();
        assert!(proxy.has_been_asked(&format!("connect localhost:{port}")), "{:?}", proxy.asked());
    }
}

fn the_proxy_of_the_environment_is_for_peers_only_if_the_user_says_so() {
    let (fixture, tracker) = (Fixture::single(300_000, NOBODY, 40), Tracker::start());
    let (_seeder, seed) = seeder(&fixture, &tracker);
    let proxy = TestProxy::start(ProxyManners { login: Some(LOGIN), ..ProxyManners::default() });
    let variable = format!("all_proxy={}", url("socks5h", &proxy));
    for (name, options, asked) in [("without", &[][..], false), ("with", &["--proxy", "env"], true)] {
        let folder = fixture.empty_folder(name);
        // Processes of tests are started without proxies in their environment.
        let mut command = Command::new("env");
        command.arg(&variable).arg(Btget::program()).args(["--no-lsd", "--no-dht"]).arg(fixture.torrent());
        Btget::on_loopback(&mut command, Family::V4, &folder);
        command.args(["--json", "--no-seed", "--peer", &seed.to_string()]).args(options);
        Btget::run(&mut command).wait_for_success();
        fixture.assert_complete(&folder);
        assert_eq!(proxy.has_been_asked(&format!("connect {seed}")), asked, "{name}: {:?}", proxy.asked());
    }
}

/// A proxy that others use.
fn microsocks_takes_a_download() {
    let (fixture, tracker) = (Fixture::single(300_000, NOBODY, 42), Tracker::start());
    let (_seeder, seed) = seeder(&fixture, &tracker);
    // It says nothing of a port that it picks.
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = place.local_addr().unwrap().port();
    drop(place);
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-u", LOGIN.0, "-P", LOGIN.1]);
    let mut proxy = Process::start("microsocks", &mut command);
    let folder = fixture.empty_folder("leech");
    let through = format!("socks5://user:pass%3Aword@127.0.0.1:{port}");
    // It knows names as the system does.
    let (name, peer) = (format!("http://localhost:{}/announce", tracker.address().port()), seed.to_string());
    let dead = "127.0.0.1:1";
    let peers = ["--peer", &peer, "--peer", dead];
    let line = ["--proxy", &through, "--tracker", &name, "--no-seed", "--max-download-rate", "300K"];
    // By uTP too if it carried packets, which it does not.
    let mut command = Btget::command_with_utp();
    command.arg(fixture.torrent()).arg("--json").args(line).args(peers);
    let mut leech = Btget::run(Btget::on_loopback(&mut command, Family::V4, &folder));
    leech.wait_for_event("that UDP is off", |event| is(event, "udp_off"));
    let refused = leech.wait_for_event("that nobody is there", |event| {
        is(event, "peer_disconnect") && event["address"] == dead
    });
    assert!(refused["reason"].as_str().unwrap().starts_with("the proxy says: "), "{refused}");
    leech.wait_for_success();
    fixture.assert_complete(&folder);
    proxy.assert_alive();
    assert!(tracker.announces().len() > 1);
}
