//! The event stream as programs read it: each event of the table where it belongs, with its keys,
//! and readers that are slow, gone or full.

#[path = "support/tracker.rs"]
mod tracker;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use btget::client::{IpFilter, Session, SessionOptions, TorrentOptions};
use btget::event::{Severity, TABLE};
use btget::internals::hash::sha1;
use btget::internals::ids::InfoHashes;
use btget::internals::wire::{Handshake, PeerId, Reserved};
use btget::metainfo::Metainfo;
use btget::metainfo::create::{Content, NewTorrent};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tracker::{Manners, Tracker};

/// How long anything is waited for: far more than it takes on a slow, busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const PIECE: u32 = 16384;

/// There are no gateways on loopback: tests/portmap.rs has these happen, on networks of its own.
const OF_GATEWAYS: [&str; 2] = ["port_map_success", "port_map_failure"];

/// A folder with `set.torrent` and, below `data`, what it describes.
struct Fixture {
    dir: TempDir,
    info_hash: InfoHashes,
}

impl Fixture {
    /// Two files that meet in a piece.
    fn new(trackers: &[Vec<String>]) -> Fixture {
        Fixture::of(&[("a.txt", 150_000), ("sub/b.bin", 300_000)], PIECE, trackers)
    }

    fn of(files: &[(&str, u64)], piece_length: u32, trackers: &[Vec<String>]) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut all = Vec::new();
        for (path, length) in files {
            let data: Vec<u8> = (0..*length).map(|_| rng.u8(..)).collect();
            let path = dir.path().join("data/set").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &data).unwrap();
            all.extend(data);
        }
        let hashes: Vec<btget::internals::hash::Sha1> = all.chunks(piece_length as usize).map(sha1).collect();
        let torrent = NewTorrent {
            name: "set",
            content: Content::Folder(files),
            piece_length,
            piece_hashes: &hashes,
            trackers,
            private: false,
        };
        let mut bytes = torrent.encode();
        // The last key of a dictionary whose keys are sorted.
        bytes.pop();
        bytes.extend(b"8:url-list23:http://127.0.0.1:1/seede");
        fs::write(dir.path().join("set.torrent"), &bytes).unwrap();
        let info_hash = Metainfo::parse(&bytes).unwrap().info_hash;
        Fixture { dir, info_hash }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn is_complete(&self, folder: &str) -> bool {
        ["a.txt", "sub/b.bin"].iter().all(|file| {
            let read = |folder: &str| fs::read(self.path().join(folder).join("set").join(file)).ok();
            read(folder) == read("data")
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
        command.current_dir(self.path()).arg("set.torrent").args(args);
        command.args(["--no-lsd", "--bind", "127.0.0.1", "--progress", "none", "--state-dir", ""]);
        for variable in ["http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null());
        command
    }
}

/// A running btget whose events are read as they come; ended when it goes out of scope.
struct Run {
    child: Child,
    coming: Receiver<Value>,
    seen: Vec<Value>,
}

impl Run {
    fn start(fixture: &Fixture, args: &[&str]) -> Run {
        Run::of(&mut fixture.command(&[&["--json"], args].concat()))
    }

    fn of(command: &mut Command) -> Run {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (send, coming) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let line = line.expect("events are UTF-8");
                let value: Value =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if send.send(value).is_err() {
                    return;
                }
            }
        });
        Run { child, coming, seen: Vec::new() }
    }

    /// Waits for an event that is like this.
    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let Ok(event) = self.coming.recv_timeout(PATIENCE) else {
                let names: Vec<String> = self.seen.iter().map(|event| event["message"].to_string()).collect();
                panic!("in vain; there were\n{}", names.join("\n"));
            };
            self.seen.push(event.clone());
            if is_it(&event) {
                return event;
            }
        }
    }

    fn until_event(&mut self, name: &str) -> Value {
        self.until(|event| event["event"] == name)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// All events, once it has ended; with its exit code.
    fn rest(mut self) -> (Vec<Value>, i32) {
        while let Ok(event) = self.coming.recv_timeout(PATIENCE) {
            self.seen.push(event);
        }
        let code = self.child.wait().unwrap().code().unwrap();
        (std::mem::take(&mut self.seen), code)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What every line must be.
fn assert_schema(event: &Value) {
    let object = event.as_object().expect("an event is an object");
    let name = event["event"].as_str().unwrap();
    let row = TABLE.iter().find(|row| row.event == name).unwrap_or_else(|| panic!("unknown event {name}"));
    assert_eq!(event["v"], 1);
    let time = event["time"].as_str().unwrap();
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let is_unusual =
        (name == "file_report" && event["status"] != "ok") || (name == "network" && event["usable"] == false);
    assert_eq!(event["severity"], if is_unusual { "warning" } else { row.severity }, "{name}");
    let message = event["message"].as_str().unwrap();
    assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
    if let Some(torrent) = object.get("torrent") {
        let torrent = torrent.as_str().unwrap();
        assert!(torrent.len() == 40 && torrent.bytes().all(|byte| byte.is_ascii_hexdigit()), "{torrent}");
    }
    let common = ["v", "time", "event", "severity", "message", "torrent"];
    let keys: BTreeSet<&str> =
        object.keys().map(String::as_str).filter(|key| !common.contains(key)).collect();
    match row.keys.strip_suffix(" and the fields of the message") {
        Some(keys_of_all) => assert!(keys_of_all.split(", ").all(|key| keys.contains(key)), "{event}"),
        None => {
            let mut expected: BTreeSet<&str> = row.keys.split(", ").collect();
            // Nobody knows how much of what is not known is wanted.
            if name == "summary" && event.get("wanted").is_none() {
                expected.retain(|key| *key != "wanted" && *key != "left");
                assert_eq!(event["wanted_pieces"], json!([]));
            }
            assert_eq!(keys, expected, "{name}");
        }
    }
}

/// What is so of every stream: the schema, and the summary last, with the exit code.
fn assert_stream(events: &[Value], code: i32) {
    events.iter().for_each(assert_schema);
    let summaries = events.iter().filter(|event| event["event"] == "summary").count();
    assert_eq!(summaries, 1);
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&json!("summary"), &json!(code)), "{last}");
}

/// A seed and a leecher that meet at a tracker; the leecher is paused, started and stopped. It finds
/// a file that is longer than it should be, and wrong.
fn download() -> (Vec<Value>, Vec<Value>) {
    let tracker = Tracker::start();
    tracker.set_warning("be kind");
    let fixture = Fixture::new(&[vec![tracker.url()]]);
    fs::create_dir_all(fixture.path().join("new/set")).unwrap();
    fs::write(fixture.path().join("new/set/a.txt"), vec![1; 150_001]).unwrap();
    let mut seed = Run::start(&fixture, &["-d", "data", "--events", "debug"]);
    seed.until_event("tracker_success");
    let slowly = ["-d", "new", "--events", "debug", "--max-download-rate", "150K", "--overwrite"];
    let mut leech = Run::start(&fixture, &slowly);
    leech.until_event("seeding");
    tracker.set_manners(Manners::Status(503, b"gone".to_vec()));
    leech.signal(Signal::USR1);
    leech.until(|event| event["event"] == "state_changed" && event["to"] == "paused");
    leech.signal(Signal::USR2);
    leech.until(|event| event["event"] == "state_changed" && event["to"] == "started");
    leech.signal(Signal::TERM);
    let (leech, code) = leech.rest();
    assert_stream(&leech, code);
    assert_eq!(code, 0);
    assert!(fixture.is_complete("new"));
    seed.signal(Signal::INT);
    let (seed, code) = seed.rest();
    assert_stream(&seed, code);
    (leech, seed)
}

/// All is there, and more.
fn too_long() -> Vec<Value> {
    let fixture = Fixture::new(&[]);
    let path = fixture.path().join("data/set/a.txt");
    fs::write(&path, [fs::read(&path).unwrap(), b"tail".to_vec()].concat()).unwrap();
    let (events, code) = Run::start(&fixture, &["-d", "data", "--no-seed"]).rest();
    assert_stream(&events, code);
    assert_eq!(code, 0);
    events
}

/// A check that finds a file corrupt and one missing.
fn check() -> Vec<Value> {
    let fixture = Fixture::new(&[]);
    fs::write(fixture.path().join("data/set/a.txt"), vec![1; 150_000]).unwrap();
    fs::remove_file(fixture.path().join("data/set/sub/b.bin")).unwrap();
    let check = Run::start(&fixture, &["-d", "data", "--hashcheck-only", "--events", "debug"]);
    let (events, code) = check.rest();
    assert_stream(&events, code);
    assert_eq!(code, 32);
    events
}

/// Many torrents that are to be checked, so that one has to wait for another.
fn many() -> Vec<Value> {
    let fixture = Fixture::of(&[("a.txt", 8 << 20)], PIECE, &[]);
    let data = fs::read(fixture.path().join("data/set/a.txt")).unwrap();
    let hashes: Vec<btget::internals::hash::Sha1> = data.chunks(PIECE as usize).map(sha1).collect();
    let names: Vec<String> = (0..20).map(|number| format!("{number}")).collect();
    for name in &names {
        fs::hard_link(fixture.path().join("data/set/a.txt"), fixture.path().join("data").join(name)).unwrap();
        let content = Content::File(data.len() as u64);
        let torrent = NewTorrent {
            name,
            content,
            piece_length: PIECE,
            piece_hashes: &hashes,
            trackers: &[],
            private: false,
        };
        fs::write(fixture.path().join(format!("{name}.torrent")), torrent.encode()).unwrap();
    }
    let files: Vec<String> = names.iter().map(|name| format!("{name}.torrent")).collect();
    let args: Vec<&str> =
        ["-d", "data", "--no-seed"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let (events, code) = Run::start(&fixture, &args).rest();
    events.iter().for_each(assert_schema);
    assert_eq!(code, 0);
    events
}

/// A port that somebody else has.
fn no_port() -> Vec<Value> {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let fixture = Fixture::new(&[]);
    let (events, code) = Run::start(&fixture, &["-d", "new", "--port", &port]).rest();
    assert_stream(&events, code);
    assert_eq!((code, &events[0]["ports"]), (1, &json!(port)));
    events
}

/// A proxy that is not there, and could carry no packets if it were.
fn no_proxy() -> Vec<Value> {
    let fixture = Fixture::new(&[]);
    let mut run = Run::start(
        &fixture,
        &["-d", "new", "--proxy", "http://user:secret@127.0.0.1:1", "--peer", "127.0.0.1:9"],
    );
    run.until(|event| event["event"] == "network" && event["usable"] == false);
    run.signal(Signal::TERM);
    let (events, code) = run.rest();
    assert_stream(&events, code);
    assert!(!events.iter().any(|event| event.to_string().contains("secret")));
    events
}

/// A folder stands where a file should be.
fn no_file() -> Vec<Value> {
    let fixture = Fixture::new(&[]);
    fs::create_dir_all(fixture.path().join("new/set/a.txt")).unwrap();
    let mut run = Run::start(&fixture, &["-d", "new", "--preallocate", "full"]);
    run.until_event("file_error");
    run.until(|event| event["event"] == "state_changed" && event["to"] == "paused");
    run.signal(Signal::TERM);
    let (events, code) = run.rest();
    assert_stream(&events, code);
    assert_eq!(code, 17);
    events
}

/// What only a program can ask for: a filter, and to take a torrent out again.
fn library() -> Vec<Value> {
    let fixture = Fixture::new(&[]);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 1)).ip();
    let options = SessionOptions {
        bind: Some(loopback.into()),
        ip_filter: Some(IpFilter::ranges([loopback..=loopback])),
        ..SessionOptions::default()
    };
    let session = Session::start(options).unwrap();
    let subscription = session.subscribe(Severity::Debug).unwrap();
    let bytes = fs::read(fixture.path().join("set.torrent")).unwrap();
    let options = TorrentOptions { basedir: fixture.path().join("data"), ..TorrentOptions::default() };
    let client = session.add(Metainfo::parse(&bytes).unwrap(), options).unwrap();
    client.add_peer((loopback, 9).into()).unwrap();
    // Closed before a byte is sent.
    let mut call = TcpStream::connect((loopback, session.port())).unwrap();
    call.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(call.read(&mut [0; 68]).unwrap_or(0), 0);
    session.remove(&client).unwrap();
    session.shutdown();
    let event = |event: btget::event::Event| serde_json::to_value(&event.kind).unwrap();
    let events: Vec<Value> = subscription.iter().map(event).collect();
    let refused = events.iter().filter(|event| event["event"] == "ip_filter");
    assert_eq!(refused.count(), 2, "one that we would have called, and one that called");
    assert_eq!(events.last().unwrap()["event"], "summary");
    events
}

/// A peer of the test's own.
struct Peer(TcpStream);

impl Peer {
    fn connect(port: u16, info_hash: InfoHashes, number: u8) -> Peer {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let peer_id = PeerId(*b"-XX0001-00000000000\0").0.map(|byte| if byte == 0 { number } else { byte });
        let reserved = Reserved::EXTENSION.with(Reserved::FAST);
        let ours = Handshake { reserved, info_hash: info_hash.wire(), peer_id: PeerId(peer_id) };
        stream.write_all(&ours.encode()).unwrap();
        stream.read_exact(&mut [0; 68]).unwrap();
        Peer(stream)
    }

    /// A message: type and what follows, in words.
    fn say(&mut self, kind: u8, words: &[u32]) {
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        self.say_bytes(kind, &payload);
    }

    fn say_bytes(&mut self, kind: u8, payload: &[u8]) {
        let mut message = (payload.len() as u32 + 1).to_be_bytes().to_vec();
        message.push(kind);
        message.extend(payload);
        // It may have hung up already.
        let _ = self.0.write_all(&message);
    }

    /// Fills every request with zeros until it is hung up on.
    fn lie(&mut self) {
        let mut length = [0; 4];
        while self.0.read_exact(&mut length).is_ok() {
            let mut message = vec![0; u32::from_be_bytes(length) as usize];
            if self.0.read_exact(&mut message).is_err() {
                return;
            }
            if let Some((6, request)) = message.split_first() {
                let length = u32::from_be_bytes(request[8..12].try_into().unwrap());
                let piece = [&request[..8], &vec![0; length as usize]].concat();
                self.say_bytes(7, &piece);
            }
        }
    }
}

/// Strangers: one that is no peer, one that says everything there is and asks for nonsense, one
/// that lies.
fn strangers() -> Vec<Value> {
    let fixture = Fixture::new(&[]);
    let mut run = Run::start(&fixture, &["-d", "new", "--events", "debug"]);
    let port = run.until_event("listen_success")["port"].as_u64().unwrap() as u16;
    run.until_event("hashcheck_finished");

    let mut nobody = TcpStream::connect(("127.0.0.1", port)).unwrap();
    nobody.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    run.until_event("peer_error");

    let mut talker = Peer::connect(port, fixture.info_hash, b'1');
    talker.say(5, &[0]); // bitfield: 28 pieces, none
    talker.0.write_all(&[0; 4]).unwrap(); // keep alive
    for kind in [1, 0, 2, 3] {
        talker.say(kind, &[]); // unchoke, choke, interested, not interested
    }
    talker.say(4, &[3]); // have
    talker.say(8, &[0, 0, PIECE]); // cancel
    talker.say_bytes(9, &6881u16.to_be_bytes()); // port
    talker.say(13, &[3]); // suggest
    talker.say(17, &[3]); // allowed fast
    talker.say_bytes(20, b"\0d1:v4:teste"); // extended
    talker.say(6, &[0, 100_000, PIECE]); // request
    run.until_event("invalid_request");
    drop(talker);

    let mut liar = Peer::connect(port, fixture.info_hash, b'2');
    liar.say_bytes(14, &[]); // have all
    liar.say(1, &[]); // unchoke
    liar.lie();
    run.until_event("peer_ban");
    run.signal(Signal::INT);
    let (events, code) = run.rest();
    assert_stream(&events, code);
    assert_eq!(code, 7);
    events
}

/// A magnet link, of which one peer tells nonsense, and that another one of the local network knows.
fn linked() -> Vec<Value> {
    // Nobody else of this machine has it.
    let length = 150_000 + u64::from(std::process::id());
    let fixture = Fixture::of(&[("a.txt", length), ("sub/b.bin", 300_000)], PIECE, &[]);
    let local = ["--bind", "127.0.0.1", "--progress", "none", "--state-dir", ""];
    let link = format!("magnet:?xt=urn:btih:{}&dn=set", fixture.info_hash);
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    command.current_dir(fixture.path()).arg(link).args(["-d", "new", "--json", "--no-seed"]).args(local);
    let mut run = Run::of(&mut command);
    let port = run.until_event("listen_success")["port"].as_u64().unwrap() as u16;
    let mut talker = Peer::connect(port, fixture.info_hash, b'3');
    talker.say_bytes(20, b"\0d1:md11:ut_metadatai9e6:ut_pexi8ee13:metadata_sizei-1ee");
    run.until_event("metadata_failed");
    talker.say_bytes(20, b"\x02d5:added6:\x7f\0\0\x01\0\x097:dropped6:\x7f\0\0\x01\0\x0ae");
    run.until_event("pex_peers");
    let mut seed = Command::new(env!("CARGO_BIN_EXE_btget"));
    seed.current_dir(fixture.path()).args(["set.torrent", "-d", "data", "-q"]).args(local);
    let mut seed = seed.stdin(Stdio::null()).spawn().unwrap();
    let (events, code) = run.rest();
    kill_process(Pid::from_child(&seed), Signal::TERM).unwrap();
    seed.wait().unwrap();
    assert_stream(&events, code);
    assert_eq!(code, 0);
    events
}

/// A reader that takes nothing until the check is done; there are more pieces than events can wait.
fn sleepy_reader() -> Vec<Value> {
    let fixture = Fixture::of(&[("a.txt", 40_000 * 16)], 16, &[]);
    let args = ["-d", "data", "--json", "-v"];
    let mut command = fixture.command(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("seeding") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0);
    }
    // Its last events are for a reader that has woken up.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let events: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let code = child.wait().unwrap().code().unwrap();
    assert_stream(&events, code);
    let passed = events.iter().filter(|event| event["event"] == "piece_hash_passed").count() as u64;
    let dropped: u64 = events.iter().filter_map(|event| event["count"].as_u64()).sum();
    assert!(passed + dropped >= 40_000, "{passed} told, {dropped} dropped");
    events
}

/// Where each event occurs, and what is so of one such event.
type Row<'a> = (&'a str, &'a [Value], &'a dyn Fn(&Value) -> bool);

#[test]
fn each_event_of_the_table_occurs_where_it_should_with_the_right_keys() {
    let (leech, seed) = download();
    let (check, no_port, no_file, library) = (check(), no_port(), no_file(), library());
    let (strangers, sleepy, many, too_long) = (strangers(), sleepy_reader(), many(), too_long());
    let (linked, no_proxy) = (linked(), no_proxy());
    let peers = |event: &Value| event["peers"].as_array().unwrap().len();
    let is_url =
        |event: &Value| event["url"].as_str().unwrap().starts_with("http://127.0.0.1:") && event["tier"] == 1;
    let moves = |event: &Value| event["length"].as_u64().unwrap() > 0;
    let below_new = |event: &Value| event["path"].as_str().unwrap().contains("new/set/");
    let here = |event: &Value| event["address"].as_str().unwrap().starts_with("127.0.0.1:");
    let rows: &[Row] = &[
        ("listen_success", &leech, &|e| e["protocol"] == "tcp4" && e["port"].as_u64().unwrap() > 0),
        ("listen_failure", &no_port, &|e| e["address"] == "127.0.0.1" && e["protocol"] == "tcp4"),
        ("network", &no_proxy, &|e| e["via"] == "http://127.0.0.1:1" && e["usable"].is_boolean()),
        ("udp_off", &no_proxy, &|e| e["proxy"] == "http://127.0.0.1:1" && e["reason"].is_string()),
        ("ip_filter", &library, &|e| e["rule"] == "in 127.0.0.1-127.0.0.1" && e["protocol"] == "tcp4"),
        ("dht_started", &leech, &|e| here(e) && e["nodes"] == 1),
        ("dht_peers", &leech, &|e| e["nodes"].as_u64().unwrap() > 0 && e["seconds"].as_f64().unwrap() < 60.0),
        ("dht_announce", &leech, &|e| e["nodes"] == 1),
        ("torrent_added", &leech, &|e| {
            (&e["name"], &e["size"], &e["pieces"], &e["files"])
                == (&json!("set"), &json!(450_000), &json!(28), &json!(2))
        }),
        ("metadata_requested", &linked, &|e| here(e) && e["size"].as_u64().unwrap() > 100),
        ("metadata_received", &linked, &|e| e["name"] == "set" && e["files"] == 2 && e["private"] == false),
        ("metadata_failed", &linked, &|e| here(e) && e["reason"] != ""),
        ("torrent_removed", &library, &|e| e["name"] == "set"),
        ("state_changed", &leech, &|e| e["from"] == "started" && e["to"] == "paused"),
        ("hashcheck_queued", &many, &|e| e["ahead"].as_u64().unwrap() > 0),
        ("hashcheck_started", &leech, &|e| e["pieces"] == 28 && e["bytes"] == 450_000),
        ("hashcheck_finished", &leech, &|e| {
            let ranges = (&e["have"], &e["missing"], &e["corrupt"]);
            ranges == (&json!([]), &json!(["9-27"]), &json!(["0-8"])) && e["missing_count"] == 19
        }),
        ("file_report", &check, &|e| e["path"] == "set/a.txt" && e["status"] == "corrupt"),
        ("piece_hash_passed", &leech, &|e| peers(e) == 1),
        ("piece_hash_failed", &strangers, &|e| peers(e) == 1),
        ("tracker_announce", &leech, &|e| is_url(e) && e["announce"] == "completed"),
        ("tracker_connect", &leech, &is_url),
        ("tracker_disconnect", &leech, &is_url),
        ("tracker_read", &leech, &|e| is_url(e) && moves(e)),
        ("tracker_write", &leech, &|e| is_url(e) && moves(e)),
        ("tracker_success", &leech, &|e| is_url(e) && e["peers"] == 1 && e["interval"] == 1800),
        ("tracker_failure", &leech, &|e| e["status_code"] == 503 && e["times_in_row"] == 1),
        ("tracker_warning", &leech, &|e| e["reason"] == "be kind"),
        ("peer_connect", &leech, &|e| here(e) && e["direction"] == "out" && e["transport"] == "tcp"),
        ("peer_id", &seed, &|e| e["peer_id"].as_str().unwrap().starts_with("-bg") && e["transport"] == "tcp"),
        ("peer_handshake_complete", &seed, &|e| {
            e["direction"] == "in" && e["transport"] == "tcp" && e["encryption"] == "none" && here(e)
        }),
        ("peer_disconnect", &seed, &|e| here(e) && e["transport"] == "tcp" && e["reason"] != ""),
        ("peer_data_in", &leech, &|e| here(e) && moves(e)),
        ("peer_data_out", &seed, &|e| here(e) && moves(e)),
        ("peer_packet_in", &leech, &|e| e["type"] == "piece" && e["length"] == PIECE && here(e)),
        ("peer_packet_out", &leech, &|e| e["type"] == "request" && e["begin"] == 0),
        ("peer_error", &strangers, &|e| e["reason"].as_str().unwrap().contains("not a BitTorrent handshake")),
        ("peer_ban", &strangers, &|e| e["peer_id"] == "-XX0001-000000000002" && here(e)),
        ("pex_peers", &linked, &|e| here(e) && e["added"] == 1 && e["dropped"] == 1),
        ("lsd_peer", &linked, &here),
        ("invalid_request", &strangers, &|e| e["peer_id"] == "-XX0001-000000000001"),
        ("file_open", &leech, &|e| below_new(e) && e["mode"] == "write"),
        ("file_close", &leech, &below_new),
        ("file_read", &seed, &|e| moves(e) && e["path"].as_str().unwrap().ends_with("data/set/sub/b.bin")),
        ("file_write", &leech, &|e| below_new(e) && moves(e)),
        ("file_error", &no_file, &|e| e["path"].as_str().unwrap().ends_with("new/set/a.txt")),
        ("file_too_long", &too_long, &|e| e["length"] == 150_000 && e["size"] == 150_004),
        ("file_warning", &leech, &|e| e["reason"].as_str().unwrap().contains("was 150001 bytes long")),
        ("url_seed", &leech, &|e| e["url"] == "http://127.0.0.1:1/seed"),
        ("progress", &leech, &|e| {
            let number = |key: &str| e[key].as_u64().unwrap();
            number("done") + number("left") == 450_000 && number("peers") == 1 && number("downloaded") > 0
        }),
        ("complete", &leech, &|e| e["name"] == "set" && e["size"] == 450_000),
        ("seeding", &leech, &|e| e["name"] == "set"),
        ("events_dropped", &sleepy, &|e| e["count"].as_u64().unwrap() > 0),
        ("summary", &leech, &|e| e["have"] == json!(["0-27"]) && e["wanted_pieces"] == json!(["0-27"])),
    ];
    let completes = leech.iter().position(|event| event["event"] == "complete").expect("it completes");
    let last =
        leech[..completes].iter().rfind(|event| event["event"] == "progress").expect("it tells of progress");
    assert_eq!((&last["left"], &last["done"]), (&json!(0), &json!(450_000)), "before complete, all is there");
    assert_eq!((&last["down_rate"], &last["eta"]), (&json!(0), &json!(null)), "nothing comes any more");
    let named: Vec<&str> = rows.iter().map(|(name, ..)| *name).collect();
    let here = TABLE.iter().map(|row| row.event).filter(|event| !OF_GATEWAYS.contains(event));
    assert_eq!(named, here.collect::<Vec<_>>(), "one row for each event");
    assert!(OF_GATEWAYS.iter().all(|event| include_str!("portmap.rs").contains(event)));
    for (name, events, is_right) in rows {
        let mut found = events.iter().filter(|event| event["event"] == *name).peekable();
        assert!(found.peek().is_some(), "{name} does not occur");
        assert!(found.any(is_right), "{name} occurs, but not as it should");
    }
    assert_messages(&leech, &seed, &strangers);
    assert_order(&leech);
    assert_checks_files(&check);
}

/// Messages of every type, both ways. (The types that a test cannot make happen in time, such as a
/// keep-alive of ours after two minutes, are in the unit test of the packets.)
fn assert_messages(leech: &[Value], seed: &[Value], strangers: &[Value]) {
    let types = |events: &[Value], name: &str| -> BTreeSet<String> {
        let packets = events.iter().filter(|event| event["event"] == name);
        packets.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    let all = |found: &BTreeSet<String>, wanted: &[&str]| {
        for kind in wanted {
            assert!(found.contains(*kind), "no {kind} in {found:?}");
        }
    };
    let out = ["handshake", "extended", "have_none", "interested", "request"];
    all(&types(leech, "peer_packet_out"), &out);
    all(&types(seed, "peer_packet_in"), &out);
    let back = ["handshake", "extended", "unchoke", "piece"];
    all(&types(seed, "peer_packet_out"), &back);
    all(&types(leech, "peer_packet_in"), &back);
    let everything = [
        "handshake",
        "bitfield",
        "keep_alive",
        "unchoke",
        "choke",
        "interested",
        "not_interested",
        "have",
        "cancel",
        "port",
        "suggest",
        "allowed_fast",
        "extended",
        "request",
        "have_all",
        "piece",
    ];
    all(&types(strangers, "peer_packet_in"), &everything);
    let sum = |events: &[Value], name: &str| -> u64 {
        let data = events.iter().filter(|event| event["event"] == name);
        data.map(|event| event["length"].as_u64().unwrap()).sum()
    };
    assert_eq!((sum(leech, "peer_data_in"), sum(seed, "peer_data_out")), (450_000, 450_000));
    assert_eq!(sum(leech, "file_write"), 450_000);
}

/// What must come before what.
fn assert_order(leech: &[Value]) {
    let place = |name: &str| leech.iter().position(|event| event["event"] == name).unwrap();
    let order = [
        "torrent_added",
        "hashcheck_started",
        "hashcheck_finished",
        "tracker_announce",
        "tracker_success",
        "peer_connect",
        "peer_id",
        "peer_handshake_complete",
        "complete",
        "seeding",
        "state_changed",
        "summary",
    ];
    assert!(order.map(place).is_sorted(), "{:?}", order.map(place));
    let last = leech.iter().rposition(|event| event["event"] == "piece_hash_passed").unwrap();
    assert!(last < place("complete"));
}

fn assert_checks_files(check: &[Value]) {
    for name in ["file_open", "file_read", "file_close"] {
        assert!(check.iter().any(|event| event["event"] == name), "{name}");
    }
    let status = |path: &str| check.iter().find(|event| event["path"] == path).map(|event| &event["status"]);
    assert_eq!(status("set/sub/b.bin"), Some(&json!("missing")));
}

/// A session that has everything and that the tracker knows.
fn seed(fixture: &Fixture, tracker: &Tracker) -> Session {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 1)).ip();
    let session =
        Session::start(SessionOptions { bind: Some(loopback.into()), ..SessionOptions::default() }).unwrap();
    let mut metainfo = Metainfo::parse(&fs::read(fixture.path().join("set.torrent")).unwrap()).unwrap();
    metainfo.trackers.clear();
    let options = TorrentOptions { basedir: fixture.path().join("data"), ..TorrentOptions::default() };
    let client = session.add(metainfo, options).unwrap();
    assert!(client.wait_complete(PATIENCE));
    tracker.add_peer(&fixture.info_hash.wire().0, &session.peer_id().0, (loopback, session.port()).into(), 0);
    session
}

#[test]
fn a_transfer_goes_on_whatever_becomes_of_the_reader() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(&[vec![tracker.url()]]);
    let _seed = seed(&fixture, &tracker);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let readers: [(&str, &dyn Fn() -> Stdio); 3] =
        [("asleep", &Stdio::piped), ("gone", &Stdio::piped), ("full", &full)];
    for (name, stdout) in readers {
        let args = ["-d", name, "--json", "--events", "debug", "--no-seed"];
        let mut child = fixture.command(&args).stdout(stdout()).stderr(Stdio::piped()).spawn().unwrap();
        if name == "gone" {
            drop(child.stdout.take());
        }
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}: {said}");
        assert!(fixture.is_complete(name), "{name}");
        assert_eq!(said.contains("could not be written to standard output"), name == "full", "{said}");
    }
}

#[test]
fn what_cannot_begin_is_summed_up_too() {
    let fixture = Fixture::new(&[]);
    fs::write(fixture.path().join("set.torrent"), "no torrent").unwrap();
    let (events, code) = Run::start(&fixture, &[]).rest();
    assert_stream(&events, code);
    assert_eq!((code, &events[0]["name"]), (26, &json!("set.torrent")));
}

#[test]
fn a_check_that_is_stopped_is_summed_up_too() {
    let fixture = Fixture::of(&[("a.txt", 40_000 * 16)], 16, &[]);
    let mut check = Run::start(&fixture, &["-d", "data", "--hashcheck-only"]);
    check.until_event("piece_hash_passed");
    check.signal(Signal::INT);
    let (events, code) = check.rest();
    assert_stream(&events, code);
    // It may have been done by then.
    assert!(code == 7 || code == 0, "{code}");
}
