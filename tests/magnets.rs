//! Magnet links: metadata fetched from real clients and given to them, what a user sees of it, and peers that lie.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Arguments;
use rustix::process::Signal;

use btget::internals::wire::extended::{ExtensionHandshake, MetadataMessage, UT_METADATA};
use btget::internals::wire::{Frame, Handshake, Limits, Message, PeerId, Reserved, next_frame};
use btget::metainfo::{InfoHashes, Magnet, Metainfo, WireHash, sha1};

use support::clients::{Btget, Client};
use support::crafted::{dict, number, string};
use support::events::{is, summary};
use support::fixture::{Family, Fixture, Shape};
use support::system::trial;
use support::tracker::Tracker;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for client in Client::ALL {
        let name = client.name();
        let fetches = format!("btget_fetches_metadata_and_data_from_{name}");
        trials.push(trial(&fetches, client.is_installed(), move || fetches_from(client)));
        let gives = format!("btget_gives_metadata_and_data_to_{name}");
        trials.push(trial(&gives, client.is_installed(), move || gives_to(client)));
    }
    for (name, run) in TESTS {
        trials.push(trial(name, true, run));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

const TESTS: [(&str, fn()); 14] = [
    ("a_link_works_as_a_torrent_does", works_as_a_torrent_does),
    ("a_second_start_needs_nobody_for_the_metadata", second_start),
    ("killed_while_it_fetches_and_after_it_goes_on", killed),
    ("show_prints_what_the_torrent_file_shows", show),
    ("a_saved_torrent_is_the_torrent", saved),
    ("the_link_and_the_user_choose_files", chooses_files),
    ("a_bad_link_is_refused_by_its_part", bad_links),
    ("a_link_that_nobody_knows_stalls", stalls),
    ("a_link_is_paused_and_stopped_like_a_torrent", paused_and_stopped),
    ("liars_do_not_keep_it_from_the_metadata", liars),
    ("metadata_that_match_and_make_no_sense_end_it", senseless),
    ("data_that_are_there_are_found", data_are_there),
    ("a_link_and_its_torrent_file_are_one", link_and_file),
    ("what_peers_said_before_counts_without_another_call", peers_move_on),
];

fn metainfo(fixture: &Fixture) -> Metainfo {
    Metainfo::parse(&fs::read(fixture.torrent()).unwrap()).unwrap()
}

/// The link to it, with its tracker.
fn link(fixture: &Fixture) -> String {
    Magnet::from(&metainfo(fixture)).to_string()
}

fn fixture(tracker: &Tracker) -> Fixture {
    Fixture::new(Shape::Multi, &tracker.url(), 13)
}

/// A seed that the tracker knows of.
fn seed(tracker: &Tracker, fixture: &Fixture) -> Btget {
    let folder = fixture.full_folder("seed");
    let seed = Btget::start(fixture, Family::V4, &folder, &[]);
    assert!(tracker.wait_for(Duration::from_secs(30), |announces| !announces.is_empty()));
    seed
}

fn fetches_from(client: Client) {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let _seed = client.start(&fixture, Family::V4, &fixture.full_folder("seed"));
    assert!(tracker.wait_for(Duration::from_secs(30), |announces| announces.iter().any(|it| it.left == 0)));
    let target = fixture.empty_folder("target");
    Btget::magnet(&link(&fixture), &target, &["--no-seed"]).wait_for_success();
    fixture.assert_complete(&target);
    // Of a torrent of unknown size something is left.
    assert!(tracker.announces().iter().any(|it| it.event == "started" && it.left > 0));
}

fn gives_to(client: Client) {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let target = fixture.empty_folder("target");
    // transmission never dials a loopback address, so it comes first.
    if client == Client::Transmission {
        let mut node = client.start_with(&link(&fixture), Family::V4, &target);
        assert!(tracker.wait_for(Duration::from_secs(30), |announces| !announces.is_empty()));
        let _seed = Btget::start(&fixture, Family::V4, &fixture.full_folder("seed"), &[]);
        node.wait_until_complete();
    } else {
        let _seed = seed(&tracker, &fixture);
        client.start_with(&link(&fixture), Family::V4, &target).wait_until_complete();
    }
    fixture.assert_data_complete(&target);
}

fn works_as_a_torrent_does() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let _seed = seed(&tracker, &fixture);
    let target = fixture.empty_folder("target");
    let mut leech = Btget::magnet(&link(&fixture), &target, &["--no-seed", "--json"]);
    leech.wait_for_success();
    fixture.assert_complete(&target);
    let events = leech.events();
    let position =
        |name: &str| events.iter().position(|event| is(event, name)).unwrap_or_else(|| panic!("no {name}"));
    let order = [
        "torrent_added",
        "metadata_requested",
        "metadata_received",
        "hashcheck_finished",
        "complete",
        "summary",
    ];
    assert!(order.map(position).is_sorted(), "{events:#?}");
    let received = &events[position("metadata_received")];
    assert_eq!((&received["size"], &received["pieces"]), (&fixture.size().into(), &fixture.pieces().into()));
    assert_eq!((&received["files"], &received["private"]), (&7.into(), &false.into()));
    let summary = summary(&leech);
    assert_eq!((&summary["exit_code"], &summary["left"]), (&0.into(), &0.into()));
    // One connection for the metadata and for the data.
    assert_eq!(events.iter().filter(|event| is(event, "peer_handshake_complete")).count(), 1, "{events:#?}");
    let announces = tracker.announces();
    let leechs = announces.iter().filter(|it| it.event == "completed").count();
    assert_eq!(leechs, 1);
}

fn second_start() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let seed = seed(&tracker, &fixture);
    let target = fixture.empty_folder("target");
    Btget::magnet(&link(&fixture), &target, &["--no-seed"]).wait_for_success();
    drop(seed);
    let mut again = Btget::magnet(&link(&fixture), &target, &["--no-seed", "--json"]);
    again.wait_for_success();
    assert!(!again.events().iter().any(|event| is(event, "metadata_requested")));
    let mut check = Btget::magnet(&link(&fixture), &target, &["--hashcheck-only"]);
    check.wait_for_success();
}

fn killed() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let target = fixture.empty_folder("target");
    let fetching = Btget::magnet(&link(&fixture), &target, &["--no-seed"]);
    assert!(tracker.wait_for(Duration::from_secs(30), |announces| !announces.is_empty()));
    fetching.signal(Signal::KILL);
    drop(fetching);
    // Somebody has been asked, and has given the first half of what is there.
    let metainfo = metainfo(&fixture);
    let (hash, large) = (metainfo.info_hash.wire(), 20_000);
    let half = Peer::start(hash, large, move |piece| match piece {
        0 => vec![data(piece, large, vec![7; 16_384])],
        _ => Vec::new(),
    });
    let link_to_half = format!("magnet:?xt=urn:btih:{}", metainfo.info_hash);
    let options = ["--no-seed", "--json", "--events", "debug", "--peer", &half.option()];
    let mut fetching = Btget::magnet(&link_to_half, &target, &options);
    fetching.wait_for_event("half of it", |event| {
        is(event, "peer_packet_in") && event["type"] == "extended" && event["id"] == 1
    });
    fetching.signal(Signal::KILL);
    drop(fetching);
    assert!(!target.join("album").exists());
    let folder = fixture.full_folder("seed");
    let _seed = Btget::start(&fixture, Family::V4, &folder, &["--max-upload-rate", "1M"]);
    let mut loading = Btget::magnet(&link(&fixture), &target, &["--no-seed", "--json"]);
    loading.wait_for_event("a piece", |event| is(event, "piece_hash_passed"));
    // Of what had come nothing was taken for the metadata.
    assert!(loading.events().iter().any(|event| is(event, "metadata_requested")));
    loading.signal(Signal::KILL);
    drop(loading);
    let mut last = Btget::magnet(&link(&fixture), &target, &["--no-seed", "--json"]);
    last.wait_for_success();
    assert!(!last.events().iter().any(|event| is(event, "metadata_requested")));
    fixture.assert_complete(&target);
}

/// Runs btget without a word about progress, and gives its exit code and what it wrote.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Btget::command();
    command.args(arguments).args([
        "--no-lsd",
        "--bind",
        "127.0.0.1",
        "--progress",
        "none",
        "--state-dir",
        "",
    ]);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn show() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let _seed = seed(&tracker, &fixture);
    let torrent = fixture.torrent();
    for options in [&["--show"][..], &["--show", "--json"]] {
        let of_file = run(&[&[torrent.to_str().unwrap()], options].concat());
        assert_eq!(run(&[&[link(&fixture).as_str()], options].concat()), of_file);
        assert_eq!((of_file.0, of_file.2), (Some(0), String::new()));
    }
    let announces = tracker.announces();
    let mut ours = announces.iter().filter(|it| it.peer_id != announces[0].peer_id).peekable();
    assert!(ours.peek().is_some() && ours.all(|it| it.event != "completed" && it.left > 0));
}

fn saved() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let _seed = seed(&tracker, &fixture);
    let place = fixture.empty_folder("place");
    let file = place.join("saved.torrent");
    let (code, _, error) = run(&[&link(&fixture), "--show", "--save-torrent", file.to_str().unwrap()]);
    assert_eq!((code, error), (Some(0), String::new()));
    let same = |bytes: &[u8]| {
        let (saved, original) = (Metainfo::parse(bytes).unwrap(), metainfo(&fixture));
        assert_eq!((saved.info_bytes, saved.trackers), (original.info_bytes, original.trackers));
    };
    same(&fs::read(&file).unwrap());
    let target = place.join("target");
    let arguments = [&link(&fixture), "--save-torrent", "-", "--no-seed", "-d", target.to_str().unwrap()];
    let mut command = Btget::command();
    let output = command
        .args(arguments)
        .args(["--no-lsd", "--bind", "127.0.0.1", "-q", "--state-dir", ""])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    same(&output.stdout);
    fixture.assert_complete(&target);
    let nowhere = place.join("no/such/folder");
    let (code, _, error) = run(&[&link(&fixture), "--show", "--save-torrent", nowhere.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(error.contains("cannot write"), "{error}");
}

fn chooses_files() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let _seed = seed(&tracker, &fixture);
    let names = ["album/disc 1/02.flac", "album/disc 2/deep/er/notes.txt"];
    let plain = link(&fixture);
    let selecting = format!("{plain}&so=2,5");
    for (number, (link, options)) in [
        (selecting.as_str(), &[][..]),
        (&plain, &["--files", "3,6"]),
        (&plain, &["--files", "3", "--files", "notes.txt"]),
    ]
    .into_iter()
    .enumerate()
    {
        let target = fixture.empty_folder(&format!("target-{number}"));
        Btget::magnet(link, &target, &[&["--no-seed"], options].concat()).wait_for_success();
        fixture.assert_just(&target, &names);
    }
    for (link, options) in [(plain.clone(), &["--files", "*.doc"][..]), (format!("{plain}&so=77"), &[])] {
        let target = fixture.empty_folder(&format!("none-{}", options.len()));
        let mut none = Btget::magnet(&link, &target, &[&["--no-seed", "--json"], options].concat());
        assert_eq!(none.wait_for_code(), Some(2), "{}", none.story());
        assert_eq!(summary(&none)["exit_code"], 2);
        assert!(fs::read_dir(&target).unwrap().all(|entry| entry.unwrap().file_name() == "state"));
    }
    // What was kept meanwhile changes nothing of that, nor for others that are given too.
    let target = fixture.empty_folder("kept");
    Btget::magnet(&plain, &target, &["--no-seed"]).wait_for_success();
    let other = format!("magnet:?xt=urn:btih:{}", "ab".repeat(20));
    let mut none = Btget::magnet(
        &plain,
        &target,
        &[&other, "--no-seed", "--json", "--files", "*.doc", "--stall-timeout", "1s"],
    );
    none.wait_for_code();
    let exits =
        |event: &serde_json::Value| is(event, "summary").then(|| event["exit_code"].as_u64().unwrap());
    let exits: BTreeSet<u64> = none.events().iter().filter_map(exits).collect();
    assert_eq!(exits, BTreeSet::from([2, 5]), "{}", none.story());
}

fn bad_links() {
    for (link, part) in [
        ("magnet:?dn=x", "xt"),
        ("magnet:?xt=urn:btih:123", "xt"),
        ("MAGNET:?xt=urn:sha1:ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "xt"),
        ("magnet:?xt=urn:btih:dd722e3eb1443eb2394e610067f6038bde0c09e3&so=a", "so"),
        ("magnet:xt=urn:btih:dd722e3eb1443eb2394e610067f6038bde0c09e3", "magnet:?"),
    ] {
        let (code, stdout, stderr) = run(&[link, "--json"]);
        assert_eq!(code, Some(27), "{link}");
        assert!(
            stderr.contains(part) && stderr.contains("magnet link") && stderr.lines().count() == 1,
            "{stderr}"
        );
        assert!(stdout.contains("\"exit_code\":27"), "{stdout}");
    }
}

fn stalls() {
    let place = tempfile::tempdir().unwrap();
    let link = format!("magnet:?xt=urn:btih:{}", "ab".repeat(20));
    let told = place.path().join("told");
    let hook = format!(
        "sh -c 'echo $BTGET_EVENT [$BTGET_WANTED] [$BTGET_LEFT] $BTGET_EXIT_CODE ${{BTGET_PATH-unset}} >> {}'",
        told.display()
    );
    let target = place.path().join("target");
    let options = ["--stall-timeout", "1s", "--json", "--on-error", &hook];
    let mut leech = Btget::magnet(&link, &target, &options);
    assert_eq!(leech.wait_for_code(), Some(5));
    assert!(leech.story().contains("it is made once the metadata are there"), "{}", leech.story());
    let summary = summary(&leech);
    assert_eq!(summary["reason"], "no metadata for 1 s");
    // Nothing is said of what nobody knows.
    let keys = ["left", "wanted"].map(|key| summary.get(key).is_some());
    assert_eq!((keys, &summary["done"]), ([false, false], &0.into()));
    let told = std::fs::read_to_string(&told).unwrap();
    assert_eq!(told, "error [] [] 5 unset\n");
}

fn paused_and_stopped() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let target = fixture.empty_folder("target");
    let mut leech = Btget::magnet(&link(&fixture), &target, &["--no-seed", "--json"]);
    leech.wait_for_event("an answer", |event| is(event, "tracker_success"));
    leech.signal(Signal::USR1);
    leech.wait_for_event("the pause", |event| is(event, "state_changed") && event["to"] == "paused");
    let _seed = Btget::start(&fixture, Family::V4, &fixture.full_folder("seed"), &[]);
    // The seed calls, and is not asked.
    leech.wait_for_event("the seed", |event| is(event, "peer_handshake_complete"));
    thread::sleep(Duration::from_millis(300));
    assert!(!leech.events().iter().any(|event| is(event, "metadata_requested")));
    leech.signal(Signal::INT);
    assert_eq!(leech.wait_for_code(), Some(7));
    let events = leech.events();
    assert_eq!(events.iter().filter(|event| is(event, "summary")).count(), 1);
    let mut again = Btget::magnet(&link(&fixture), &target, &["--no-seed", "--state", "paused", "--json"]);
    again.wait_for_event("the seed", |event| is(event, "peer_handshake_complete"));
    again.signal(Signal::USR2);
    again.wait_for_success();
    fixture.assert_complete(&target);
}

/// A peer of our own making that says how long the metadata are, and answers requests for them.
struct Peer {
    address: SocketAddr,
}

impl Peer {
    fn start(
        info_hash: WireHash,
        size: i64,
        answer: impl Fn(u32) -> Vec<Message> + Send + Clone + 'static,
    ) -> Peer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let answer = answer.clone();
                // Whoever hangs up on it does.
                thread::spawn(move || talk(&mut stream.unwrap(), info_hash, size, answer));
            }
        });
        Peer { address }
    }

    fn option(&self) -> String {
        self.address.to_string()
    }
}

/// The id under which a peer of ours wants messages of `ut_metadata`.
const THEIR_ID: u8 = 9;

fn talk(
    stream: &mut TcpStream,
    info_hash: WireHash,
    size: i64,
    answer: impl Fn(u32) -> Vec<Message>,
) -> Option<()> {
    let mut handshake = [0; 68];
    stream.read_exact(&mut handshake).ok()?;
    let mut peer_id = [b'l'; 20];
    fastrand::Rng::new().fill(&mut peer_id[8..]);
    let reserved = Reserved::EXTENSION;
    stream.write_all(&Handshake { reserved, info_hash, peer_id: PeerId(peer_id) }.encode()).ok()?;
    let ours = ExtensionHandshake {
        extensions: vec![(UT_METADATA.to_owned(), THEIR_ID)],
        metadata_size: Some(size),
        ..ExtensionHandshake::default()
    };
    stream.write_all(&encoded(&Message::from(&ours))).ok()?;
    let (mut bytes, mut their_id) = (Vec::new(), 0);
    loop {
        while let Some(Frame::Message(message, length)) =
            next_frame(&bytes, &Limits { num_pieces: None }).ok()?
        {
            bytes.drain(..length);
            let Message::Extended { id, payload } = message else { continue };
            if id == 0 {
                let theirs = ExtensionHandshake::decode(&payload).ok()?;
                let named = theirs.extensions.iter().find(|(name, _)| name == UT_METADATA);
                their_id = named.map_or(their_id, |(_, id)| *id);
            } else if let Ok(Some(MetadataMessage::Request { piece })) = MetadataMessage::decode(&payload) {
                for message in answer(piece) {
                    let message = match message {
                        Message::Extended { payload, .. } => Message::Extended { id: their_id, payload },
                        other => other,
                    };
                    stream.write_all(&encoded(&message)).ok()?;
                }
            }
        }
        let mut some = [0; 4096];
        match stream.read(&mut some).ok()? {
            0 => return None,
            length => bytes.extend_from_slice(&some[..length]),
        }
    }
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode_into(&mut bytes);
    bytes
}

fn data(piece: u32, size: i64, bytes: Vec<u8>) -> Message {
    let message = MetadataMessage::Data { piece, total_size: Some(size), data: bytes };
    Message::Extended { id: 0, payload: message.encode() }
}

fn liars() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let metainfo = metainfo(&fixture);
    let (hash, size) = (metainfo.info_hash.wire(), metainfo.info_bytes.len() as i64);
    let length = metainfo.info_bytes.len();
    let payload = |message: MetadataMessage| vec![Message::Extended { id: 0, payload: message.encode() }];
    let peers = [
        // Of the right size, and wrong.
        Peer::start(hash, size, move |piece| vec![data(piece, size, vec![7; length])]),
        Peer::start(hash, size, move |piece| vec![data(piece, size, vec![8; length])]),
        // Of another size; much too large; negative; none.
        Peer::start(hash, size + 5, move |piece| vec![data(piece, size + 5, vec![0; length + 5])]),
        Peer::start(hash, 30 << 20, move |piece| vec![data(piece, 30 << 20, vec![0; 16384])]),
        Peer::start(hash, i64::MAX, |_| Vec::new()),
        Peer::start(hash, -1, |_| Vec::new()),
        // Silent; refusing; another piece than was asked for; too short; ever another size.
        Peer::start(hash, size, |_| Vec::new()),
        Peer::start(hash, size, move |piece| payload(MetadataMessage::Reject { piece })),
        Peer::start(hash, size, move |piece| vec![data(piece + 1, size, vec![0; length])]),
        Peer::start(hash, size, move |piece| vec![data(piece, size, vec![0; length - 1])]),
        Peer::start(hash, size, move |piece| vec![data(piece, size + 1 + i64::from(piece), vec![0; length])]),
    ];
    let target = fixture.empty_folder("target");
    let mut options = vec!["--no-seed".to_owned(), "--json".to_owned()];
    for peer in &peers {
        options.extend(["--peer".to_owned(), peer.option()]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut leech = Btget::magnet(&link(&fixture), &target, &options);
    leech.wait_for_event("a lie", |event| is(event, "metadata_failed"));
    let began = Instant::now();
    let _seed = seed(&tracker, &fixture);
    leech.wait_for_success();
    assert!(began.elapsed() < Duration::from_secs(30));
    fixture.assert_complete(&target);
}

fn senseless() {
    for info in [
        dict(&[
            ("length", number(5)),
            ("name", string(b"x")),
            ("piece length", number(0)),
            ("pieces", string(&[0; 20])),
        ]),
        b"le".to_vec(),
        b"garbage".to_vec(),
        [dict(&[("a", number(1))]), b"8:announce3:abc".to_vec()].concat(),
    ] {
        let hash = InfoHashes::V1(sha1(&info));
        let (size, bytes) = (info.len() as i64, info.clone());
        let peer = Peer::start(hash.wire(), size, move |piece| vec![data(piece, size, bytes.clone())]);
        let place = tempfile::tempdir().unwrap();
        let link = format!("magnet:?xt=urn:btih:{hash}&x.pe={}", peer.address);
        let mut leech = Btget::magnet(&link, place.path(), &["--no-seed", "--json"]);
        assert_eq!(leech.wait_for_code(), Some(26), "{}", leech.story());
        let reason = summary(&leech)["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("metadata"), "{reason}");
        assert_eq!(leech.events().iter().filter(|event| is(event, "metadata_requested")).count(), 1);
    }
}

fn data_are_there() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let _seed = seed(&tracker, &fixture);
    let full = fixture.full_folder("there");
    let mut leech = Btget::magnet(&link(&fixture), &full, &["--no-seed", "--json"]);
    leech.wait_for_success();
    assert_eq!(summary(&leech)["downloaded"], 0);
    // Half of it, so that those who came before hear what there is.
    let half = fixture.full_folder("half");
    fs::write(half.join("album/disc 2/03.flac"), "").unwrap();
    let mut leech = Btget::magnet(&link(&fixture), &half, &["--no-seed", "--json", "--overwrite"]);
    leech.wait_for_success();
    let downloaded = summary(&leech)["downloaded"].as_u64().unwrap();
    assert!((1_500_000..1_900_000).contains(&downloaded), "{downloaded}");
    fixture.assert_complete(&half);
}

fn link_and_file() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let full = fixture.full_folder("there");
    let (link, torrent) = (link(&fixture), fixture.torrent());
    let file = torrent.to_str().unwrap();
    // Nobody is there to be asked.
    for given in [[link.as_str(), file], [file, &link]] {
        let (code, _, stderr) = run(&[&given[..], &["-d", full.to_str().unwrap(), "--no-seed"]].concat());
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("is the same torrent as"), "{stderr}");
    }
    let (_, _, stderr) = run(&[&link, &link, "--stall-timeout", "1s", "-d", full.to_str().unwrap()]);
    assert!(stderr.contains("the magnet link is given twice; it is taken once"), "{stderr}");
}

fn peers_move_on() {
    let tracker = Tracker::start();
    let fixture = fixture(&tracker);
    let metainfo = metainfo(&fixture);
    let size = metainfo.info_bytes.len() as i64;
    let bytes = metainfo.info_bytes.to_vec();
    // It has one piece, says so in between, and unchokes at once.
    let have = Message::Have(btget::metainfo::PieceIndex(3));
    let peer = Peer::start(metainfo.info_hash.wire(), size, move |piece| {
        vec![have.clone(), Message::Unchoke, data(piece, size, bytes.clone())]
    });
    let target = fixture.empty_folder("target");
    let options = ["--json", "--events", "debug", "--peer", &peer.option(), "--stall-timeout", "20s"];
    let mut leech = Btget::magnet(&link(&fixture), &target, &options);
    let asked =
        leech.wait_for_event("a request", |event| is(event, "peer_packet_out") && event["type"] == "request");
    assert_eq!((&asked["index"], &asked["address"]), (&3.into(), &peer.option().into()));
}
