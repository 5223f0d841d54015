//! Announces against HTTP trackers that behave and such that do not: each ends within its bounds.

#[path = "support/tracker.rs"]
mod tracker;

#[path = "support/tls.rs"]
mod tls;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use btget::internals::finder::announce::{
    AnnounceEvent, AnnounceFailure, AnnounceNeed, Announcer, Answer, RetryIn,
};
use btget::internals::ids::{PeerId, WireHash};
use btget::internals::tracker::{MAX_BODY, Options, Proxies, Request, announce};
use flate2::{Compression, write::GzEncoder};
use tls::{CERTIFICATE, server_config};
use tracker::{Manners, Tracker};

const HASH: [u8; 20] = *b"\x00 &=?/%+ABCDEFGHIJ\xfe\xff";
const PEER_ID: [u8; 20] = *b"-bg010U-abcdefghijkl";

/// Far more than anything on loopback takes, far less than the test may.
const TIME: Duration = Duration::from_secs(20);

/// For trackers that never finish.
const SHORT: Duration = Duration::from_millis(400);

fn request(url: &str) -> Request {
    Request {
        url: url.into(),
        is_users: false,
        info_hash: WireHash(HASH),
        peer_id: PeerId(PEER_ID),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Some(AnnounceEvent::Started),
        numwant: 50,
        key: 0xab,
        tracker_id: None,
    }
}

fn options(timeout: Duration) -> Options {
    Options { timeout, ..Options::default() }
}

fn ask(url: &str) -> Result<Answer, AnnounceFailure> {
    announce(&request(url), &options(TIME))
}

/// The failure of a tracker of these manners.
fn fails(manners: Manners) -> AnnounceFailure {
    let tracker = Tracker::start();
    tracker.set_manners(manners);
    ask(&tracker.url()).expect_err("it misbehaves")
}

/// The same, for manners that last: it must end when its time does.
fn ends_in_time(manners: Manners) -> AnnounceFailure {
    let tracker = Tracker::start();
    tracker.set_manners(manners);
    let began = Instant::now();
    let failure = announce(&request(&tracker.url()), &options(SHORT)).expect_err("it misbehaves");
    assert!(began.elapsed() < TIME, "{failure:?}");
    failure
}

fn ok_with(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes(), body].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_tracker_hears_everything_and_tells_of_the_others() {
    let tracker = Tracker::start();
    let seed: SocketAddr = "10.1.2.3:4000".parse().unwrap();
    let seed6: SocketAddr = "[2001:db8::1]:4001".parse().unwrap();
    tracker.add_peer(&HASH, &[b's'; 20], seed, 0);
    tracker.add_peer(&HASH, &[b't'; 20], seed6, 0);
    tracker.set_interval(900, Some(90));
    tracker.set_tracker_id(b"id");
    tracker.set_warning("be brief");

    let answer = ask(&tracker.url()).unwrap();
    assert_eq!(answer.peers, [seed, seed6]);
    assert_eq!((answer.complete, answer.incomplete), (Some(2), Some(1)));
    assert_eq!(answer.interval, Some(Duration::from_secs(900)));
    assert_eq!(answer.min_interval, Some(Duration::from_secs(90)));
    assert_eq!(answer.tracker_id.as_deref(), Some(&b"id"[..]));
    assert_eq!(answer.warning.as_deref(), Some("be brief"));

    let heard = tracker.announces().remove(0);
    assert_eq!((heard.info_hash.as_slice(), heard.peer_id.as_slice()), (&HASH[..], &PEER_ID[..]));
    assert_eq!(heard.address, "127.0.0.1:6881".parse().unwrap());
    assert_eq!((heard.uploaded, heard.downloaded, heard.left), (1, 2, 3));
    assert_eq!((heard.event.as_str(), heard.numwant, heard.compact), ("started", Some(50), true));
    assert_eq!((heard.key.as_deref(), heard.tracker_id), (Some("000000ab"), None));
    assert_eq!(heard.headers["user-agent"], format!("btget/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(heard.headers["accept-encoding"], "gzip");
}

#[test]
fn a_tracker_on_ipv6_is_reached() {
    let Ok(tracker) = Tracker::start_v6() else {
        eprintln!("this machine has no IPv6");
        return;
    };
    ask(&tracker.url()).unwrap();
    assert_eq!(tracker.announces()[0].address, "[::1]:6881".parse().unwrap());
}

#[test]
fn the_family_of_a_bound_address_is_kept_to() {
    let tracker = Tracker::start();
    let options = Options { local: IpAddr::V6(Ipv6Addr::LOCALHOST).into(), ..options(TIME) };
    assert!(announce(&request(&tracker.url()), &options).is_err());
    assert_eq!(tracker.connections(), 0);
}

#[test]
fn the_query_of_the_trackers_own_url_arrives() {
    let tracker = Tracker::start();
    ask(&format!("{}?passkey=a%2Fb", tracker.url())).unwrap();
    assert!(tracker.announces()[0].target.starts_with("/announce?passkey=a%2Fb&info_hash="));
}

#[test]
fn user_and_password_of_the_url_are_sent() {
    let tracker = Tracker::start();
    ask(&format!("http://user:word@{}/announce", tracker.address())).unwrap();
    assert_eq!(tracker.announces()[0].headers["authorization"], "Basic dXNlcjp3b3Jk");
}

#[test]
fn a_gzipped_answer_is_inflated() {
    let tracker = Tracker::start();
    let body = gzip(b"d8:intervali60e5:peers6:\x01\x02\x03\x04\0\x01e");
    tracker.set_manners(Manners::Raw(ok_with("Content-Encoding: gzip\r\n", &body)));
    assert_eq!(ask(&tracker.url()).unwrap().peers, ["1.2.3.4:1".parse().unwrap()]);
}

#[test]
fn chunked_and_http_1_0_answers_are_read() {
    let tracker = Tracker::start();
    let body = b"9\r\nd5:peers0\r\n2\r\n:e\r\n0\r\n\r\n";
    tracker.set_manners(Manners::Raw(ok_with("Transfer-Encoding: chunked\r\n", body)));
    ask(&tracker.url()).unwrap();
    tracker.set_manners(Manners::Raw(b"HTTP/1.0 200 OK\r\n\r\nd5:peers0:e".to_vec()));
    ask(&tracker.url()).unwrap();
}

#[test]
fn all_that_http_allows_is_read() {
    let tracker = Tracker::start();
    let body = b"d5:peers0:e";
    let chunk = |extension: &str| format!("9;{extension}\r\nd5:peers0\r\n2\r\n:e\r\n0\r\nX: y\r\n\r\n");
    let many = "X-Y: z\r\n".repeat(1000);
    for (headers, body) in [
        ("Transfer-Encoding: chunked\r\n", chunk(&"e".repeat(1000)).as_bytes()),
        ("X: one\r\n two\r\n\tthree\r\nContent-Length:\r\n 11\r\n", body),
        ("X : y\r\nContent-Length : 11\r\n", body),
        (&many, body),
    ] {
        tracker.set_manners(Manners::Raw(ok_with(headers, body)));
        ask(&tracker.url()).unwrap_or_else(|failure| panic!("{headers:.99}: {failure:?}"));
    }
    let interim = b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 103 Hints\r\nLink: <z>\r\n\r\n";
    tracker.set_manners(Manners::Raw([interim, &*ok_with("Content-Length: 11\r\n", body)].concat()));
    ask(&tracker.url()).unwrap();
    // The last chunk, and nothing behind it.
    tracker
        .set_manners(Manners::Raw(ok_with("Transfer-Encoding: chunked\r\n", b"b\r\nd5:peers0:e\r\n0\r\n")));
    ask(&tracker.url()).unwrap();
    let cut = fails(Manners::Raw(ok_with("Transfer-Encoding: chunked\r\n", b"b;x\r\nd5:peers0:e\r\n")));
    assert!(cut.reason.contains("closed before"), "{cut:?}");
    assert!(fails(Manners::Raw(b"SSH-2.0-x\r\n".to_vec())).reason.contains("not HTTP"));
}

#[test]
fn a_refusal_is_quoted() {
    let failure = fails(Manners::Refuse("unregistered torrent".into()));
    assert_eq!((failure.reason.as_str(), failure.status_code), ("unregistered torrent", 200));
}

#[test]
fn an_error_status_is_told_and_its_reason_quoted() {
    let failure = fails(Manners::Status(404, b"<html>".to_vec()));
    assert_eq!((failure.reason.as_str(), failure.status_code), ("HTTP status 404 Not Found", 404));
    let failure = fails(Manners::Status(503, b"d14:failure reason4:busy8:retry ini5ee".to_vec()));
    assert_eq!((failure.reason.as_str(), failure.status_code), ("busy", 503));
    assert!(failure.retry_in.is_some());
}

#[test]
fn a_tracker_says_when_it_is_to_be_asked_again_in_the_head_too() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let head = format!("HTTP/1.1 {status}\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n");
        let failure = fails(Manners::Raw(head.into_bytes()));
        assert_eq!(failure.retry_in, Some(RetryIn::After(Duration::from_secs(600))), "{status}");
    }
}

#[test]
fn what_is_no_answer_is_a_failure() {
    for body in [&b""[..], b"<html>hello</html>", b"d5:peersi1ee", b"i5e", b"d8:intervali60e5:peers5:12"] {
        let failure = fails(Manners::Body(body.to_vec()));
        assert_eq!(failure.status_code, 200);
        assert!(failure.reason.starts_with("the answer is not a tracker's"), "{failure:?}");
    }
    for bytes in [&b"\0\x01\x02garbage\r\n\r\n"[..], b"HTTP/1.1 2", b"220 ftp ready\r\n\r\n", b""] {
        assert_eq!(fails(Manners::Raw(bytes.to_vec())).status_code, 0);
    }
}

#[test]
fn an_answer_that_ends_too_early_is_a_failure() {
    let failure = fails(Manners::Raw(ok_with("Content-Length: 100\r\n", b"d5:peers0:e")));
    assert_eq!(failure.status_code, 200);
    assert!(failure.reason.contains("closed before"), "{failure:?}");
}

#[test]
fn a_stopped_needs_no_answer_worth_the_name() {
    let tracker = Tracker::start();
    tracker.set_manners(Manners::Body(Vec::new()));
    let stopped = Request { event: Some(AnnounceEvent::Stopped), ..request(&tracker.url()) };
    assert_eq!(announce(&stopped, &options(TIME)), Ok(Answer::default()));
}

#[test]
fn a_tracker_that_hangs_is_left_in_time() {
    let failure = ends_in_time(Manners::Hang);
    assert_eq!((failure.reason.as_str(), failure.status_code), ("no complete answer within 0.4 s", 0));
}

#[test]
fn a_tracker_that_closes_is_a_failure() {
    assert_eq!(fails(Manners::Close).status_code, 0);
}

#[test]
fn a_dripping_tracker_is_left_in_time() {
    let status_code = |manners| ends_in_time(manners).status_code;
    assert_eq!(status_code(Manners::Drip(Vec::new())), 0);
    assert_eq!(status_code(Manners::Drip(b"HTTP/1.1 200 OK\r\nX: ".to_vec())), 0);
    assert_eq!(status_code(Manners::Drip(ok_with("", b"d5:peers999999:"))), 200);
    assert_eq!(status_code(Manners::Drip(b"HTTP/1.1 404 -\r\n\r\n".to_vec())), 404);
}

#[test]
fn a_head_or_body_without_end_is_cut() {
    fails(Manners::Flood(b"HTTP/1.1 200 OK\r\nX: ".to_vec()));
    let failure = fails(Manners::Flood(ok_with("", b"d5:peers")));
    assert_eq!(failure.reason, "the answer is larger than 1 MiB");
    assert_eq!(fails(Manners::Flood(b"HTTP/1.1 500 -\r\n\r\n".to_vec())).status_code, 500);
}

#[test]
fn a_gzip_bomb_is_cut() {
    let bomb = gzip(&vec![b'x'; 64 * MAX_BODY]);
    assert!(bomb.len() < MAX_BODY, "only inflating makes it large");
    let failure = fails(Manners::Raw(ok_with("Content-Encoding: gzip\r\n", &bomb)));
    assert_eq!(failure.reason, "the answer is larger than 1 MiB");
}

#[test]
fn gzip_that_is_none_is_a_failure() {
    assert_eq!(fails(Manners::Raw(ok_with("Content-Encoding: gzip\r\n", b"d5:peers0:e"))).status_code, 200);
}

#[test]
fn redirects_are_followed() {
    let tracker = Tracker::start();
    let first = Tracker::start();
    first.set_manners(Manners::Redirect(format!("{}?{{query}}", tracker.url())));
    ask(&first.url()).unwrap();
    assert_eq!(tracker.announces()[0].info_hash, HASH);
}

#[test]
fn a_redirect_loop_ends_after_five() {
    let tracker = Tracker::start();
    tracker.set_manners(Manners::Redirect("/announce?{query}".into()));
    assert_eq!(ask(&tracker.url()).unwrap_err().reason, "more than 5 redirects");
    assert_eq!(tracker.connections(), 6);
}

#[test]
fn a_redirect_to_another_scheme_is_refused() {
    for location in ["magnet:?xt=urn:btih:0", "ftp://127.0.0.1/", "file:///etc/passwd", "gopher:x", "http://"]
    {
        let failure = fails(Manners::Redirect(location.into()));
        assert_eq!(failure.reason, "redirected to something that is not an http URL", "{location}");
    }
}

#[test]
fn a_port_where_nobody_listens_is_a_failure() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = ask(&format!("http://{free}/announce")).unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.status_code), ("connection refused", 0));
}

#[test]
fn a_url_that_is_none_is_a_failure() {
    for url in
        ["http://", "http:///announce", "http://[::1/announce", "http://a:99999/", "ftp://a/", "nonsense", ""]
    {
        assert_eq!(ask(url).unwrap_err().status_code, 0, "{url}");
    }
}

/// A server that takes one connection, reads its head, and says `answer`.
fn once(answer: &'static [u8]) -> (SocketAddr, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        stream.write_all(answer).unwrap();
        head.into_iter().next().unwrap_or_default()
    });
    (address, heard)
}

/// An https tracker that takes one connection; gives its URL.
fn https() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = rustls::ServerConnection::new(server_config()).unwrap();
        let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
        // A client that does not trust us leaves before it says a line.
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|length| length > 2) {
            line.clear();
        }
        let _ = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nd5:peers0:e");
    });
    format!("https://{address}/announce")
}

#[test]
fn an_https_tracker_of_a_trusted_authority_is_asked() {
    let options = Options { ca_file: Some(CERTIFICATE.into()), ..options(TIME) };
    assert_eq!(announce(&request(&https()), &options), Ok(Answer::default()));
    let by_name = https().replace("127.0.0.1", "localhost");
    let options = Options { local: IpAddr::from([127, 0, 0, 1]).into(), ..options };
    assert_eq!(announce(&request(&by_name), &options), Ok(Answer::default()));
}

#[test]
fn a_certificate_of_nobody_is_a_failure() {
    let failure = ask(&https()).unwrap_err();
    assert!(failure.reason.starts_with("TLS: invalid peer certificate"), "{failure:?}");
}

#[test]
fn a_certificate_file_that_holds_none_is_named() {
    for path in ["/nowhere/ca.pem", "/dev/null"] {
        let options = Options { ca_file: Some(path.into()), ..options(TIME) };
        let failure = announce(&request("https://127.0.0.1:1/"), &options).unwrap_err();
        assert!(failure.reason.contains(path) && failure.reason.contains("SSL_CERT_FILE"), "{failure:?}");
    }
}

#[test]
fn a_tracker_that_does_not_speak_tls_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/announce", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Until the other side has had enough.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let failure = ask(&url).unwrap_err();
    assert!(failure.reason.starts_with("TLS: "), "{failure:?}");
    server.join().unwrap();
}

#[test]
fn a_proxy_that_is_set_is_used_for_what_is_out_there() {
    let (address, heard) = once(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    let proxies = Proxies { http: Some(format!("http://{address}")), ..Proxies::default() };
    let options = Options { proxies, ..options(TIME) };
    let failure = announce(&request("http://tracker.invalid:6969/announce"), &options).unwrap_err();
    assert!(failure.reason.starts_with("the proxy refused"), "{failure:?}");
    assert_eq!(heard.join().unwrap(), "CONNECT tracker.invalid:6969 HTTP/1.1");
}

#[test]
fn loopback_is_never_reached_through_a_proxy() {
    let nobody = Some("http://127.0.0.1:1".to_owned());
    let proxies = Proxies { http: nobody.clone(), https: nobody, ..Proxies::default() };
    let options = Options { proxies, ..options(TIME) };
    let tracker = Tracker::start();
    announce(&request(&tracker.url()), &options).unwrap();
    let by_name = tracker.url().replace("127.0.0.1", "localhost");
    announce(&request(&by_name), &options).unwrap();
}

/// Makes every announce that is due, one after the other, as a session does.
fn run(announcer: &mut Announcer, now: Instant, left: u64) {
    let need = AnnounceNeed { peers: left > 0, soon: left > 0, is_partial_seed: false };
    while let Some(due) = announcer.poll(now, need) {
        let (event, numwant, tracker_id) = (due.event, due.numwant, due.tracker_id);
        let request = Request { event, numwant, tracker_id, left, ..request(&due.url) };
        announcer.on_answer(now, due.token, announce(&request, &options(TIME)));
    }
}

#[test]
fn a_whole_run_is_heard_as_started_completed_stopped() {
    let good = Tracker::start();
    good.set_tracker_id(b"id");
    good.add_peer(&HASH, &[b's'; 20], "10.1.2.3:4000".parse().unwrap(), 0);
    let bad = Tracker::start();
    bad.set_manners(Manners::Close);
    let mut announcer = Announcer::new(vec![vec![bad.url()], vec![good.url()]], 1);
    let mut now = Instant::now();
    announcer.start(now);
    run(&mut announcer, now, 10);
    announcer.complete(now);
    run(&mut announcer, now, 0);
    now = announcer.deadline().unwrap();
    bad.set_manners(Manners::Refuse("still not".into()));
    run(&mut announcer, now, 0);
    announcer.stop(now);
    run(&mut announcer, now, 0);

    assert!(announcer.is_stopped());
    let events = |tracker: &Tracker| {
        tracker.announces().into_iter().map(|heard| (heard.event, heard.left)).collect::<Vec<_>>()
    };
    let said = |event: &str, left| (event.to_owned(), left);
    assert_eq!(events(&bad), [said("started", 10), said("started", 0)]);
    assert_eq!(events(&good), [said("started", 10), said("completed", 0), said("", 0), said("stopped", 0)]);
    let ids: Vec<_> = good.announces().into_iter().map(|heard| heard.tracker_id.is_some()).collect();
    assert_eq!(ids, [false, true, true, true]);
    assert_eq!(announcer.trackers().next().unwrap().last_error, Some("still not"));
}

#[test]
fn an_announce_leaves_from_the_local_address_that_is_wished_also_to_redirects_and_proxies() {
    let bind: IpAddr = [127, 0, 0, 9].into();
    let options = Options { local: bind.into(), ..options(TIME) };
    let tracker = Tracker::start();
    let first = Tracker::start();
    first.set_manners(Manners::Redirect(format!("{}?{{query}}", tracker.url())));
    announce(&request(&first.url()), &options).unwrap();
    assert_eq!((first.announces()[0].address.ip(), tracker.announces()[0].address.ip()), (bind, bind));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Some(format!("http://{}", listener.local_addr().unwrap()));
    let caller = std::thread::spawn(move || listener.accept().unwrap().1.ip());
    let options = Options { proxies: Proxies { http: proxy, ..Proxies::default() }, ..options };
    announce(&request("http://tracker.invalid/announce"), &options).unwrap_err();
    assert_eq!(caller.join().unwrap(), bind);
}

#[test]
fn a_torrent_gets_nothing_but_announces_out_of_this_machine() {
    let tracker = Tracker::start();
    let origin = format!("http://{}", tracker.address());
    let by_number = origin.replace("127.0.0.1", "2130706433");
    for url in [
        format!("{origin}/admin?do=reboot"),
        format!("{origin}/admin?x=/announce"),
        format!("{origin}/admin#/announce"),
        format!("{origin}/do.cgi/announce"),
        format!("{origin}/announce/../admin"),
        format!("{by_number}/admin"),
        format!("{}/admin", origin.replace("127.0.0.1", "localhost")),
        format!("{}/admin", origin.replace("127.0.0.1", "[::ffff:127.0.0.1]")),
        origin.replace("127.0.0.1", "0.0.0.0"),
    ] {
        let failure = ask(&url).unwrap_err();
        assert!(failure.reason.contains("where nothing is asked for a torrent but"), "{url}: {failure:?}");
    }
    assert_eq!(tracker.connections(), 0);
    // This tracker knows /announce alone; that it is asked is what counts.
    assert_eq!(ask(&format!("{by_number}/announce.php?passkey=1")).unwrap_err().status_code, 404);
    // Who gives a tracker knows where it is.
    let users = Request { is_users: true, ..request(&format!("{origin}/tracker")) };
    assert_eq!(announce(&users, &options(TIME)).unwrap_err().status_code, 404);
    assert_eq!(tracker.connections(), 2);
}

#[test]
fn a_redirect_leads_to_nothing_but_announces_of_this_machine_either() {
    let (tracker, other) = (Tracker::start(), Tracker::start());
    for location in ["/admin?{query}".to_owned(), format!("http://{}/admin", other.address())] {
        tracker.set_manners(Manners::Redirect(location.clone()));
        let failure = ask(&tracker.url()).unwrap_err();
        assert!(failure.reason.contains("where nothing is asked"), "{location}: {failure:?}");
    }
    // Nor of another server though the user trusts the one that redirects.
    let users = Request { is_users: true, ..request(&tracker.url()) };
    assert!(announce(&users, &options(TIME)).unwrap_err().reason.contains("where nothing is asked"));
    assert_eq!(other.connections(), 0);
}

#[test]
fn inner_addresses_are_no_better_reached_through_a_proxy() {
    let nobody = Some("http://127.0.0.1:1".to_owned());
    let proxies = Proxies { http: nobody, ..Proxies::default() };
    let options = Options { proxies, ..options(TIME) };
    for host in ["192.168.1.1", "3232235777", "[fd00::1]"] {
        let failure = announce(&request(&format!("http://{host}/admin")), &options).unwrap_err();
        assert!(failure.reason.contains("where nothing is asked"), "{host}: {failure:?}");
    }
}

#[test]
fn user_and_password_are_decoded_and_said_to_nobody_else() {
    let (tracker, other) = (Tracker::start(), Tracker::start());
    tracker.set_manners(Manners::Redirect(format!("{}?{{query}}", other.url())));
    ask(&tracker.url().replace("http://", "http://us%40er:p%3Aa%2Fs%20s@")).unwrap();
    // `us@er:p:a/s s`.
    assert_eq!(tracker.announces()[0].headers["authorization"], "Basic dXNAZXI6cDphL3Mgcw==");
    assert_eq!(other.announces()[0].headers.get("authorization"), None);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [&format!("http://u:secret@{free}/announce"), "http://u:secret@:1/", "http://u:secret@a b/"] {
        let failure = ask(url).unwrap_err();
        assert!(!failure.reason.contains("secret"), "{failure:?}");
    }
}

#[test]
fn a_peer_that_has_a_name_instead_of_an_address_is_looked_up() {
    let tracker = Tracker::start();
    tracker.set_manners(Manners::Body(
        b"d5:peersld2:ip9:localhost4:porti7eed2:ip8:10.0.0.14:porti1eeee".to_vec(),
    ));
    let peers = ask(&tracker.url()).unwrap().peers;
    assert_eq!(peers[0], "10.0.0.1:1".parse().unwrap());
    assert!(peers.contains(&"127.0.0.1:7".parse().unwrap()), "{peers:?}");
}
