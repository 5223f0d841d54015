//! Many torrents in one process: what they cost together.

mod support;

use std::fs;
use std::path::Path;

use btget::internals::hash::{Sha1, sha1};
use btget::metainfo::create::{Content, NewTorrent};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use support::clients::Btget;
use support::events::is;
use support::process::wait_until;
use support::tracker::Tracker;

const TORRENTS: usize = 60;
const PIECE_LENGTH: usize = 256 << 10;
/// Bytes of each torrent: enough for the buffers of a check to be in full use.
const LENGTH: usize = 48 * PIECE_LENGTH;

/// Makes `count` of them of the same data, all there, and gives the names of the .torrents.
fn torrents(
    folder: &Path,
    count: usize,
    length: usize,
    piece_length: usize,
    tracker: &[&str],
) -> Vec<String> {
    let mut data = vec![0; length];
    fastrand::Rng::with_seed(60).fill(&mut data);
    let piece_hashes: Vec<Sha1> = data.chunks(piece_length).map(sha1).collect();
    let trackers: Vec<Vec<String>> = tracker.iter().map(|url| vec![url.to_string()]).collect();
    let make = |number: usize| {
        let name = format!("data {number}");
        match number {
            0 => fs::write(folder.join(&name), &data).unwrap(),
            _ => fs::hard_link(folder.join("data 0"), folder.join(&name)).unwrap(),
        }
        let torrent = NewTorrent {
            name: &name,
            content: Content::File(length as u64),
            piece_length: piece_length as u32,
            piece_hashes: &piece_hashes,
            trackers: &trackers,
            private: false,
        };
        let path = folder.join(format!("{number}.torrent"));
        fs::write(&path, torrent.encode()).unwrap();
        path.display().to_string()
    };
    (0..count).map(make).collect()
}

/// A number that the system knows of the process.
fn status(process: &Btget, key: &str) -> u64 {
    let pid = process.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    value.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn sixty_torrents_are_checked_in_turn_with_few_threads_and_little_memory() {
    let folder = TempDir::new().unwrap();
    let torrents = torrents(folder.path(), TORRENTS, LENGTH, PIECE_LENGTH, &[]);
    let state_dir = folder.path().join("state");
    let mut arguments = vec!["--json", "--progress", "none", "--no-lsd", "--bind", "127.0.0.1", "--basedir"];
    arguments.extend([folder.path().to_str().unwrap(), "--state-dir", state_dir.to_str().unwrap()]);
    arguments.extend(torrents.iter().map(String::as_str));
    let process = Btget::with(arguments);
    let mut threads = 0;
    let seeding = |events: &[Value]| events.iter().filter(|event| is(event, "seeding")).count() == TORRENTS;
    wait_until(
        "all to be checked",
        || process.story(),
        || {
            threads = threads.max(status(&process, "Threads"));
            seeding(&process.events()).then_some(())
        },
    );
    assert!(threads <= 20, "{threads} threads");
    let memory = status(&process, "VmHWM");
    assert!(memory <= 40 << 10, "{memory} KiB");
    let mut running: Vec<Value> = Vec::new();
    for event in process.events() {
        if is(&event, "hashcheck_started") {
            running.push(event["torrent"].clone());
            assert!(running.len() <= 2, "{}", process.story());
        } else if is(&event, "hashcheck_finished") {
            running.retain(|torrent| *torrent != event["torrent"]);
        }
    }
    let waited = process.events().iter().filter(|event| is(event, "hashcheck_queued")).count();
    assert!(waited >= TORRENTS / 2, "{waited} said that they wait");
}

#[test]
fn torrents_of_long_pieces_share_the_memory_for_them() {
    const COUNT: usize = 24;
    let tracker = Tracker::start();
    let (folder, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let torrents = torrents(folder.path(), COUNT, 16 << 20, 16 << 20, &[&tracker.url()]);
    let start = |basedir: &Path| {
        let state_dir = basedir.join("state");
        let mut arguments =
            vec!["--json", "--progress", "none", "--no-lsd", "--bind", "127.0.0.1", "--basedir"];
        arguments.extend([basedir.to_str().unwrap(), "--state-dir", state_dir.to_str().unwrap()]);
        arguments.extend(torrents.iter().map(String::as_str));
        Btget::with(arguments)
    };
    let wait_for_all = |process: &Btget| {
        let seeding = || process.events().iter().filter(|event| is(event, "seeding")).count() == COUNT;
        wait_until("all to be there", || process.story(), || seeding().then_some(()));
    };
    let seed = start(folder.path());
    wait_for_all(&seed);
    let process = start(target.path());
    wait_for_all(&process);
    let memory = status(&process, "VmHWM");
    assert!(memory <= 96 << 10, "{memory} KiB");
}

#[test]
fn no_more_torrents_download_at_the_same_time_than_was_asked_for() {
    const COUNT: usize = 10;
    let tracker = Tracker::start();
    let (folder, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let torrents = torrents(folder.path(), COUNT, PIECE_LENGTH, PIECE_LENGTH, &[&tracker.url()]);
    let start = |basedir: &Path, options: &[&str]| {
        let state_dir = basedir.join("state");
        let mut arguments =
            vec!["--json", "--progress", "none", "--no-lsd", "--bind", "127.0.0.1", "--basedir"];
        arguments.extend([basedir.to_str().unwrap(), "--state-dir", state_dir.to_str().unwrap()]);
        arguments.extend(options);
        arguments.extend(torrents.iter().map(String::as_str));
        Btget::with(arguments)
    };
    let seed = start(folder.path(), &[]);
    let seeding = || seed.events().iter().filter(|event| is(event, "seeding")).count() == COUNT;
    wait_until("all to be seeded", || seed.story(), || seeding().then_some(()));
    let mut leech = start(target.path(), &["--max-downloads", "2", "--no-seed"]);
    assert_eq!(leech.wait_for_code(), Some(0), "{}", leech.story());
    // Who has announced itself and lacks its only piece downloads.
    let (mut downloading, mut waited) = (Vec::new(), Vec::new());
    for event in leech.events() {
        let torrent = event["torrent"].clone();
        if is(&event, "tracker_announce") && event["announce"] == "started" {
            downloading.push(torrent);
            assert!(downloading.len() <= 2, "{}", leech.story());
        } else if is(&event, "piece_hash_passed") {
            downloading.retain(|other| *other != torrent);
        } else if is(&event, "state_changed") && event["to"] == "waiting" {
            waited.push(torrent);
        }
    }
    assert!(!waited.is_empty(), "{}", leech.story());
    for number in 0..COUNT {
        let name = format!("data {number}");
        let there = fs::read(target.path().join(&name)).unwrap();
        assert!(there == fs::read(folder.path().join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn turns_come_in_the_order_given_and_a_pause_gives_none() {
    const COUNT: usize = 12;
    let (folder, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let torrents = torrents(folder.path(), COUNT, PIECE_LENGTH, PIECE_LENGTH, &[]);
    let state_dir = target.path().join("state");
    let mut arguments = vec!["--json", "--progress", "none", "--no-lsd", "--bind", "127.0.0.1", "--basedir"];
    arguments.extend([target.path().to_str().unwrap(), "--state-dir", state_dir.to_str().unwrap()]);
    arguments.extend(["--max-downloads", "3"]);
    arguments.extend(torrents.iter().map(String::as_str));
    let process = Btget::with(arguments);
    let changes = |to: &str| {
        let events = process.events().into_iter();
        events.filter(|event| is(event, "state_changed") && event["to"] == to).collect::<Vec<Value>>()
    };
    wait_until(
        "all others to wait",
        || process.story(),
        || (changes("waiting").len() == COUNT - 3).then_some(()),
    );
    let added = process.events().into_iter().filter(|event| is(event, "torrent_added"));
    let first: Vec<Value> = added.map(|event| event["torrent"].clone()).take(3).collect();
    let waits = |event: &Value| first.contains(&event["torrent"]);
    assert!(!changes("waiting").iter().any(waits), "{}", process.story());
    let started = changes("started").len();
    process.signal(Signal::USR1);
    wait_until("all to be paused", || process.story(), || (changes("paused").len() == COUNT).then_some(()));
    assert_eq!(changes("started").len(), started, "{}", process.story());
    process.signal(Signal::USR2);
    let all_wait = || (changes("waiting").len() == 2 * (COUNT - 3)).then_some(());
    wait_until("all others to wait again", || process.story(), all_wait);
    assert!(!changes("waiting").iter().any(waits), "{}", process.story());
}
