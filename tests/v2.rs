//! Torrents of version 2 and hybrids (BEP 52) as a user has them: shown, checked, downloaded and seeded, between btgets and with libtorrent.
//!
//! Who downloads is told by `--peer` whom to call, so no tracker is needed.

mod support;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;
use serde_json::Value;

use btget::client::{Session, SessionOptions, TorrentOptions};
use btget::event::{self, Severity};
use btget::metainfo::{Magnet, Metainfo};
use support::clients::{Btget, Client, Libtorrent, Node};
use support::events::{is, summary};
use support::fixture::Family;
use support::process::{PATIENCE, Process, wait_until};
use support::system::trial;
use support::tracker::Tracker;
use support::version2::{Album, NAME, PIECE};

/// How a torrent is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    V2,
    /// A .torrent of version 2 without piece layers.
    V2Bare,
    V2Link,
    Hybrid,
    /// A link to a hybrid by both hashes, by that of version 1, by that of version 2.
    HybridLink,
    HybridLinkV1,
    HybridLinkV2,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::V2,
        Kind::V2Bare,
        Kind::V2Link,
        Kind::Hybrid,
        Kind::HybridLink,
        Kind::HybridLinkV1,
        Kind::HybridLinkV2,
    ];

    fn is_hybrid(self) -> bool {
        !matches!(self, Kind::V2 | Kind::V2Bare | Kind::V2Link)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::V2 => "version_2",
            Kind::V2Bare => "version_2_without_layers",
            Kind::V2Link => "a_link_of_version_2",
            Kind::Hybrid => "a_hybrid",
            Kind::HybridLink => "a_link_by_both_hashes",
            Kind::HybridLinkV1 => "a_link_to_a_hybrid_by_version_1",
            Kind::HybridLinkV2 => "a_link_to_a_hybrid_by_version_2",
        }
    }

    /// What is given to a client.
    fn source(self, album: &Album) -> String {
        let link = |keep: &[&str]| {
            let torrent = Metainfo::parse(&fs::read(album.torrent(self.is_hybrid(), true)).unwrap()).unwrap();
            let link = Magnet::from(&torrent).to_uri();
            let (begin, parameters) = link.split_once('?').unwrap();
            let kept =
                parameters.split('&').filter(|parameter| keep.iter().any(|key| parameter.contains(key)));
            format!("{begin}?{}", kept.collect::<Vec<_>>().join("&"))
        };
        match self {
            Kind::V2 | Kind::Hybrid => path(&album.torrent(self.is_hybrid(), true)),
            Kind::V2Bare => path(&album.torrent(false, false)),
            Kind::V2Link | Kind::HybridLinkV2 => link(&["btmh"]),
            Kind::HybridLink => link(&["btih", "btmh"]),
            Kind::HybridLinkV1 => link(&["btih"]),
        }
    }
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn main() -> ExitCode {
    let has_libtorrent = Client::Libtorrent.is_installed();
    let mut trials: Vec<Trial> = [
        ("torrents_of_version_2_are_shown_with_both_hashes_and_without_pads", shown as fn()),
        ("a_check_finds_the_piece_of_a_flipped_bit", checked),
        ("a_check_without_piece_layers_goes_by_the_roots_of_the_files", checked_without_layers),
        ("a_download_of_version_2_goes_on_where_it_was_killed", resumed),
        ("a_plan_counts_no_pads", planned),
        ("piece_layers_that_peers_gave_are_not_asked_for_again", kept_layers),
        ("files_that_are_chosen_while_piece_layers_are_fetched_are_the_ones_that_come", chosen_meanwhile),
        ("a_torrent_without_piece_layers_that_writes_where_another_does_is_refused_at_once", claimed),
        ("a_link_by_one_hash_of_a_hybrid_is_found_by_the_other_too", found_by_both),
        ("a_hybrid_is_announced_by_both_hashes_and_finds_peers_of_either", announced),
    ]
    .into_iter()
    .map(|(name, run)| trial(name, true, run))
    .collect();
    for kind in Kind::ALL {
        let name = format!("btget_downloads_{}_from_btget", kind.name());
        trials.push(trial(&name, true, move || between_btgets(kind)));
        let name = format!("btget_downloads_{}_from_libtorrent", kind.name());
        trials.push(trial(&name, has_libtorrent, move || from_libtorrent(kind)));
        // libtorrent takes no .torrent that lacks its layers for whole.
        if kind != Kind::V2Bare {
            let name = format!("libtorrent_downloads_{}_from_btget", kind.name());
            trials.push(trial(&name, has_libtorrent, move || to_libtorrent(kind)));
        }
    }
    for kind in Kind::ALL {
        let name = format!("{}_from_libtorrent_goes_on_where_btget_was_killed", kind.name());
        trials.push(trial(&name, has_libtorrent, move || killed_leech(kind)));
    }
    for hybrid in [false, true] {
        let kind = if hybrid { "a_hybrid" } else { "version_2" };
        let name = format!("libtorrent_goes_on_with_{kind}_where_its_seed_was_killed");
        trials.push(trial(&name, has_libtorrent, move || killed_seed(hybrid)));
        let name = format!("btgets_and_libtorrents_with_{kind}_by_file_and_by_link_are_one_swarm");
        trials.push(trial(&name, has_libtorrent, move || mixed(hybrid)));
    }
    let name = "libtorrent_that_remembers_version_2_of_an_address_is_a_seed_for_a_link_by_version_1";
    trials.push(trial(name, has_libtorrent, remembered));
    let name = "libtorrent_that_calls_a_hybrid_is_answered_by_version_2";
    trials.push(trial(name, has_libtorrent, upgraded));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn start(source: &str, folder: &Path, options: &[&str]) -> Btget {
    let mut command = Btget::command();
    command.arg(source);
    Btget::run(
        Btget::on_loopback(&mut command, Family::V4, folder)
            .args(["--json", "--events", "debug"])
            .args(options),
    )
}

fn seed(album: &Album, hybrid: bool, options: &[&str]) -> (Btget, String) {
    let torrent = album.torrent(hybrid, true);
    let mut seed = start(&path(&torrent), &album.full_folder("seed"), options);
    let listening = seed.wait_for_event("where it listens", |event| is(event, "listen_success"));
    seed.wait_for_event("its check", |event| is(event, "hashcheck_finished"));
    let address = listening["address"].as_str().unwrap().to_owned();
    (seed, address)
}

fn between_btgets(kind: Kind) {
    let album = Album::new();
    let (mut seed, address) = seed(&album, kind.is_hybrid(), &[]);
    let folder = album.empty_folder("leech");
    let mut leech = start(&kind.source(&album), &folder, &["--no-seed", "--peer", &address]);
    leech.wait_for_success();
    album.assert_complete(&folder);
    assert_eq!(summary(&leech)["downloaded"], album.size(), "no pad is fetched");
    seed.terminate();
    seed.wait_for_success();
}

/// A libtorrent that has everything.
fn libtorrent_seed(album: &Album, kind: Kind) -> Libtorrent {
    let torrent = path(&album.torrent(kind.is_hybrid(), true));
    let full = album.full_folder("seed");
    let mut node = Libtorrent::start_by(None, &torrent, "127.0.0.1", &full, &[]);
    node.wait_until_complete();
    node
}

fn from_libtorrent(kind: Kind) {
    let album = Album::new();
    let node = libtorrent_seed(&album, kind);
    let folder = album.empty_folder("leech");
    let peer = format!("127.0.0.1:{}", node.port());
    let mut leech = start(&kind.source(&album), &folder, &["--no-seed", "--peer", &peer]);
    leech.wait_for_success();
    album.assert_complete(&folder);
}

/// Waits until a libtorrent has everything. It says so before it has written what it has verified.
fn wait_for_files(node: &mut Libtorrent, album: &Album, folder: &Path) {
    node.wait_until_complete();
    let story = || format!("in {}", folder.display());
    wait_until("its files to be written", story, || album.is_complete(folder).then_some(()));
    album.assert_complete(folder);
}

fn to_libtorrent(kind: Kind) {
    let album = Album::new();
    let (mut seed, address) = seed(&album, kind.is_hybrid(), &[]);
    let (host, port) = address.rsplit_once(':').unwrap();
    let folder = album.empty_folder("leech");
    let peer = ["--peer", host, port];
    let mut node = Libtorrent::start_by(None, &kind.source(&album), "127.0.0.1", &folder, &peer);
    wait_for_files(&mut node, &album, &folder);
    seed.terminate();
    seed.wait_for_success();
}

fn killed_leech(kind: Kind) {
    let album = Album::new();
    let node = libtorrent_seed(&album, kind);
    let folder = album.empty_folder("leech");
    let peer = format!("127.0.0.1:{}", node.port());
    let source = kind.source(&album);
    // So slow that it is killed long before the end.
    let mut leech = start(&source, &folder, &["--no-seed", "--peer", &peer, "--max-download-rate", "100k"]);
    leech.wait_for_event("a piece", |event| is(event, "piece_hash_passed"));
    leech.signal(Signal::KILL);
    leech.wait();
    start(&source, &folder, &["--no-seed", "--peer", &peer]).wait_for_success();
    album.assert_complete(&folder);
}

fn killed_seed(hybrid: bool) {
    let album = Album::new();
    let torrent = path(&album.torrent(hybrid, true));
    let (mut first, address) = seed(&album, hybrid, &["--max-upload-rate", "100k"]);
    let (host, port) = address.rsplit_once(':').unwrap();
    let folder = album.empty_folder("leech");
    let peer = ["--peer", host, port];
    let mut node = Libtorrent::start_by(None, &torrent, "127.0.0.1", &folder, &peer);
    // One piece at least.
    let some = (1..10).map(|digit| format!("pieces {digit}")).collect::<Vec<_>>();
    node.wait_for_line(&some.iter().map(String::as_str).collect::<Vec<_>>());
    first.signal(Signal::KILL);
    first.wait();
    // Another time it is the seed that calls.
    let peer = format!("127.0.0.1:{}", node.port());
    let mut second = start(&torrent, &album.folder.path().join("seed"), &["--peer", &peer]);
    wait_for_files(&mut node, &album, &folder);
    second.terminate();
    second.wait_for_success();
}

/// Two btgets and three libtorrents, of which one has everything; each calls those before it.
fn mixed(hybrid: bool) {
    let kinds = match hybrid {
        true => [Kind::HybridLinkV1, Kind::Hybrid, Kind::HybridLinkV2, Kind::HybridLinkV1],
        false => [Kind::V2Bare, Kind::V2, Kind::V2Link, Kind::V2],
    };
    for is_first_btget in [true, false] {
        let album = Album::new();
        let torrent = path(&album.torrent(hybrid, true));
        let full = album.full_folder("full");
        let (mut peers, mut nodes, mut btgets) = (Vec::new(), Vec::new(), Vec::new());
        if is_first_btget {
            let mut first = start(&torrent, &full, &[]);
            let listening = first.wait_for_event("where it listens", |event| is(event, "listen_success"));
            peers.push(listening["address"].as_str().unwrap().to_owned());
            btgets.push(first);
        } else {
            let node = Libtorrent::start_by(None, &torrent, "127.0.0.1", &full, &[]);
            peers.push(format!("127.0.0.1:{}", node.port()));
            nodes.push(node);
        }
        let mut folders = Vec::new();
        for (number, kind) in kinds.into_iter().enumerate() {
            let folder = album.empty_folder(&format!("leech-{number}"));
            if number % 2 == 0 {
                let options: Vec<&str> = peers.iter().flat_map(|peer| ["--peer", peer]).collect();
                let mut leech = start(&kind.source(&album), &folder, &options);
                let listening = leech.wait_for_event("where it listens", |event| is(event, "listen_success"));
                peers.push(listening["address"].as_str().unwrap().to_owned());
                btgets.push(leech);
            } else {
                let places = peers.iter().map(|peer| peer.rsplit_once(':').unwrap());
                let options: Vec<&str> = places.flat_map(|(host, port)| ["--peer", host, port]).collect();
                let node = Libtorrent::start_by(None, &kind.source(&album), "127.0.0.1", &folder, &options);
                peers.push(format!("127.0.0.1:{}", node.port()));
                nodes.push(node);
            }
            folders.push(folder);
        }
        nodes.iter_mut().for_each(Node::wait_until_complete);
        for btget in &mut btgets {
            btget.wait_for_event("everything", |event| is(event, "complete") || is(event, "seeding"));
        }
        for folder in &folders {
            let story = || format!("in {}", folder.display());
            wait_until("the files to be written", story, || album.is_complete(folder).then_some(()));
            album.assert_complete(folder);
        }
        for mut btget in btgets {
            btget.terminate();
            btget.wait_for_success();
        }
    }
}

fn found_by_both() {
    for (one, other) in [(Kind::HybridLinkV1, Kind::HybridLinkV2), (Kind::HybridLinkV2, Kind::HybridLinkV1)] {
        let album = Album::new();
        let (_seed, address) = seed(&album, true, &[]);
        let mut first = start(&one.source(&album), &album.empty_folder("first"), &["--peer", &address]);
        first.wait_for_event("everything", |event| is(event, "complete"));
        let listening = first.wait_for_event("where it listens", |event| is(event, "listen_success"));
        // It knows nobody but the first one, and that by the hash that this was not given.
        let folder = album.empty_folder("second");
        let peer = listening["address"].as_str().unwrap();
        start(&other.source(&album), &folder, &["--no-seed", "--peer", peer]).wait_for_success();
        album.assert_complete(&folder);
    }
}

fn handshakes(process: &Process, event: &str) -> Vec<Value> {
    process.events().into_iter().filter(|found| is(found, event) && found["type"] == "handshake").collect()
}

fn upgraded() {
    let album = Album::new();
    let torrent = Metainfo::parse(&fs::read(album.torrent(true, true)).unwrap()).unwrap();
    let hashes: Vec<String> = torrent.info_hash.wire_hashes().map(|hash| hash.to_string()).collect();
    let (seed, address) = seed(&album, true, &[]);
    let (host, port) = address.rsplit_once(':').unwrap();
    let folder = album.empty_folder("leech");
    let source = path(&album.torrent(true, true));
    let mut node = Libtorrent::start_by(None, &source, "127.0.0.1", &folder, &["--peer", host, port]);
    node.wait_until_complete();
    let (theirs, ours) = (handshakes(&seed, "peer_packet_in"), handshakes(&seed, "peer_packet_out"));
    assert_eq!(theirs[0]["info_hash"], *hashes[0], "{}", seed.story());
    assert_eq!(ours[0]["info_hash"], *hashes[1], "{}", seed.story());
}

fn remembered() {
    let album = Album::new();
    let torrent = path(&album.torrent(true, true));
    let full = album.full_folder("seed");
    let mut node = Libtorrent::start_by(None, &torrent, "127.0.0.1", &full, &["--one-per-address"]);
    node.wait_until_complete();
    let peer = format!("127.0.0.1:{}", node.port());
    // The first has the bit of version 2 in its handshake; the second does not know that there is one.
    for kind in [Kind::Hybrid, Kind::HybridLinkV1] {
        let folder = album.empty_folder(kind.name());
        start(&kind.source(&album), &folder, &["--no-seed", "--peer", &peer]).wait_for_success();
        album.assert_complete(&folder);
    }
}

fn resumed() {
    let album = Album::new();
    let (_seed, address) = seed(&album, false, &["--max-upload-rate", "400k"]);
    let folder = album.empty_folder("leech");
    let source = Kind::V2Link.source(&album);
    let mut leech = start(&source, &folder, &["--no-seed", "--peer", &address]);
    leech.wait_for_event("a piece", |event| is(event, "piece_hash_passed"));
    leech.signal(Signal::KILL);
    leech.wait();
    // What it is, is known by now: nobody has to be asked.
    let mut again = start(&source, &folder, &["--no-seed", "--peer", &address]);
    again.wait_for_success();
    assert!(!again.events().iter().any(|event| is(event, "metadata_requested")), "{}", again.story());
    album.assert_complete(&folder);
}

fn kept_layers() {
    let album = Album::new();
    let (mut seed, address) = seed(&album, false, &[]);
    let folder = album.empty_folder("leech");
    let bare = Kind::V2Bare.source(&album);
    start(&bare, &folder, &["--no-seed", "--peer", &address]).wait_for_success();
    seed.terminate();
    seed.wait_for_success();
    // Nobody is there to be asked.
    start(&bare, &folder, &["--no-seed"]).wait_for_success();
    album.assert_complete(&folder);
}

fn chosen_meanwhile() {
    let album = Album::new();
    let (_seed, address) = seed(&album, false, &[]);
    let bare = Metainfo::parse(&fs::read(album.torrent(false, false)).unwrap()).unwrap();
    let folder = album.empty_folder("leech");
    let loopback = SessionOptions { bind: Some([127, 0, 0, 1].into()), ..SessionOptions::default() };
    let alone = SessionOptions { dht: None, local_discovery: false, port_mapping: false, ..loopback };
    let session = Session::start(alone).unwrap();
    let events = session.subscribe(Severity::Info).unwrap();
    let options = TorrentOptions { basedir: folder.clone(), ..TorrentOptions::default() };
    let torrent = session.add(bare, options).unwrap();
    torrent.set_priorities(vec![0, 1, 1, 1, 0, 0]).unwrap();
    torrent.add_peer(address.parse().unwrap()).unwrap();
    assert!(events.iter().any(|event| matches!(event.kind, event::Kind::Complete { .. })));
    session.shutdown();
    let there = |name: &str| folder.join(NAME).join(name).exists();
    assert_eq!(["a.bin", "b/c", "b.e", "z/same", "z/short"].map(there), [false, true, true, false, false]);
}

fn claimed() {
    let album = Album::new();
    let (seed, _) = seed(&album, true, &[]);
    let folder = album.folder.path().join("seed");
    let mut other = start(&Kind::V2Bare.source(&album), &folder, &["--no-seed"]);
    assert_eq!(other.wait_for_code(), Some(11), "{}", other.story());
    drop(seed);
}

fn announced() {
    let album = Album::new();
    let tracker = Tracker::start_on(Family::V4.loopback()).unwrap();
    let info = Metainfo::parse(&fs::read(album.torrent(true, true)).unwrap()).unwrap();
    let mut hashes: Vec<Vec<u8>> = info.info_hash.wire_hashes().map(|hash| hash.0.to_vec()).collect();
    let url = tracker.url();
    let (_seed, _) = seed(&album, true, &["--tracker", &url]);
    let known = tracker.wait_for(PATIENCE, |announces| {
        hashes.iter().all(|hash| announces.iter().any(|announce| announce.info_hash == *hash))
    });
    assert!(known, "{:#?}", tracker.announces());
    // Whoever knows but one of the hashes finds it.
    for kind in [Kind::HybridLinkV1, Kind::HybridLinkV2] {
        let folder = album.empty_folder(kind.name());
        let mut leech = start(&kind.source(&album), &folder, &["--no-seed", "--tracker", &url]);
        leech.wait_for_success();
        album.assert_complete(&folder);
    }
    let mut announced: Vec<Vec<u8>> =
        tracker.announces().into_iter().map(|announce| announce.info_hash).collect();
    announced.sort();
    announced.dedup();
    hashes.sort();
    assert_eq!(announced, hashes);
}

fn output(arguments: &[&str]) -> Value {
    let mut command = Btget::command();
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn shown() {
    let album = Album::new();
    for hybrid in [false, true] {
        let torrent = path(&album.torrent(hybrid, true));
        let shown = output(&["--show", "--json", &torrent]);
        assert_eq!(shown["total_size"], album.size());
        assert_eq!(shown["num_pieces"], album.pieces());
        assert_eq!(shown["num_files"], album.items.len());
        assert_eq!(shown["info_hash"].as_str().unwrap().len(), if hybrid { 40 } else { 64 });
        assert_eq!(shown["info_hash_v2"].as_str().unwrap().len(), 64);
        let paths: Vec<&str> =
            shown["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
        assert_eq!(
            paths,
            ["album/a.bin", "album/b/c", "album/b/empty", "album/b.e", "album/z/same", "album/z/short"]
        );
    }
}

fn planned() {
    let album = Album::new();
    let folder = path(&album.empty_folder("nothing"));
    for hybrid in [false, true] {
        let torrent = path(&album.torrent(hybrid, true));
        let plan = output(&["--plan", "--json", "--basedir", &folder, &torrent]);
        assert_eq!(
            (&plan["total_size"], &plan["bytes_to_fetch"]),
            (&album.size().into(), &album.size().into())
        );
    }
    // Without piece layers it is the roots of the files that say what is right.
    let full = path(&album.full_folder("full"));
    for layers in [true, false] {
        let torrent = path(&album.torrent(false, layers));
        let plan = output(&["--plan", "--json", "--basedir", &full, &torrent]);
        assert_eq!(plan["bytes_to_fetch"], 0, "{plan}");
    }
}

fn check(torrent: &str, folder: &Path) -> Btget {
    let mut command = Btget::command();
    Btget::run(command.args(["--hashcheck-only", "--json", torrent, "--basedir"]).arg(folder))
}

fn checked() {
    let album = Album::new();
    let folder = album.full_folder("full");
    let file = folder.join(NAME).join("z/same");
    for hybrid in [false, true] {
        let torrent = path(&album.torrent(hybrid, true));
        let mut whole = check(&torrent, &folder);
        whole.wait_for_success();
        let mut data = fs::read(&file).unwrap();
        data[PIECE] ^= 1;
        fs::write(&file, &data).unwrap();
        let mut harmed = check(&torrent, &folder);
        assert_eq!(harmed.wait_for_code(), Some(32), "{}", harmed.story());
        let events = harmed.events();
        let bad: Vec<&Value> =
            events.iter().filter(|event| is(event, "file_report") && event["status"] != "ok").collect();
        // The first file has the same root, and is right.
        let [report] = bad[..] else { panic!("{}", harmed.story()) };
        assert_eq!((&report["status"], &report["path"]), (&"corrupt".into(), &"album/z/same".into()));
        data[PIECE] ^= 1;
        fs::write(&file, &data).unwrap();
    }
}

fn checked_without_layers() {
    let album = Album::new();
    let (torrent, folder) = (path(&album.torrent(false, false)), album.full_folder("full"));
    check(&torrent, &folder).wait_for_success();
    let flip = |name: &str| {
        let file = folder.join(NAME).join(name);
        let mut data = fs::read(&file).unwrap();
        data[PIECE] ^= 1;
        fs::write(&file, &data).unwrap();
    };
    let bad = || {
        let mut harmed = check(&torrent, &folder);
        assert_eq!(harmed.wait_for_code(), Some(32), "{}", harmed.story());
        let events = harmed.events();
        let bad = events.iter().filter(|event| is(event, "file_report") && event["status"] != "ok");
        bad.map(|event| (event["path"].clone(), event["pieces"].clone())).collect::<Vec<_>>()
    };
    // There is another file of the same content, by which the hashes of its pieces are known.
    flip("z/same");
    assert_eq!(bad(), [("album/z/same".into(), serde_json::json!(["34"]))]);
    flip("a.bin");
    let all = [
        ("album/a.bin".into(), serde_json::json!(["0-30"])),
        ("album/z/same".into(), serde_json::json!(["33-63"])),
    ];
    assert_eq!(bad(), all);
}
