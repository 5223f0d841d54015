//! The exit codes, as a script sees them.

mod support;

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use btget::metainfo::create::{Content, NewTorrent};
use rustix::process::Signal;

use support::clients::Btget;
use support::fixture::{Fixture, Shape};
use support::tracker::Tracker;

/// A tracker that is not there: nobody comes.
const NOBODY: &str = "http://127.0.0.1:9/announce";

/// The options of every call: torrents, folder, and what keeps it to itself.
fn call(torrents: &[&Path], folder: &Path, options: &[&str]) -> Btget {
    let mut arguments: Vec<OsString> = torrents.iter().map(|path| path.into()).collect();
    arguments.extend(["--basedir".into(), folder.into()]);
    arguments.extend(["--state-dir", "", "--progress", "none"].map(OsString::from));
    arguments.extend(options.iter().map(OsString::from));
    Btget::with(arguments)
}

fn transfer(fixture: &Fixture, folder: &Path, options: &[&str]) -> Btget {
    call(&[&fixture.torrent()], folder, &[&["--no-lsd", "--bind", "127.0.0.1"], options].concat())
}

fn check(torrents: &[&Path], folder: &Path, options: &[&str]) -> Option<i32> {
    call(torrents, folder, &[&["--hashcheck-only"], options].concat()).wait_for_code()
}

fn fixture(shape: Shape) -> Fixture {
    Fixture::new(shape, NOBODY, 21)
}

#[track_caller]
fn assert_code(mut process: Btget, code: i32) {
    assert_eq!(process.wait_for_code(), Some(code), "{}", process.story());
}

#[test]
fn a_complete_torrent_is_0() {
    let fixture = fixture(Shape::Multi);
    let folder = fixture.full_folder("full");
    assert_eq!(check(&[&fixture.torrent()], &folder, &[]), Some(0));
    assert_code(transfer(&fixture, &folder, &["--no-seed"]), 0);
    assert_code(transfer(&fixture, &folder, &["--seed-time", "1s"]), 0);
    assert_code(transfer(&fixture, &folder, &["--seed-ratio", "0"]), 0);
}

#[test]
fn a_seed_leaves_with_0_once_it_has_given_as_much_as_asked() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 22);
    let seed = transfer(&fixture, &fixture.full_folder("seed"), &["--seed-ratio", "1"]);
    let folder = fixture.empty_folder("leech");
    assert_code(transfer(&fixture, &folder, &["--no-seed"]), 0);
    assert_code(seed, 0);
    fixture.assert_complete(&folder);
}

#[test]
fn a_seed_that_is_stopped_is_0() {
    let fixture = fixture(Shape::Single);
    let mut seed = transfer(&fixture, &fixture.full_folder("seed"), &["--json"]);
    seed.wait_for_event("seeding", |event| event["event"] == "seeding");
    seed.terminate();
    assert_code(seed, 0);
}

#[test]
fn a_port_in_use_is_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let fixture = fixture(Shape::Single);
    let folder = fixture.empty_folder("empty");
    let mut process = transfer(&fixture, &folder, &["--port", &port]);
    process.wait_for_code();
    assert!(process.story().contains("--port"), "the remedy is told: {}", process.story());
    assert_code(process, 1);
}

#[test]
fn wrong_options_are_2_and_nothing_is_made() {
    let fixture = fixture(Shape::Single);
    let folder = fixture.empty_folder("empty");
    for options in [
        &["--max-peers", "none"][..],
        &["--seed-ratio", "-1"],
        &["--no-such-option"],
        &["--files", "99"],
        &["--pieces", "1"],
        &["--hashcheck-only", "--pieces", "1-100000"],
    ] {
        assert_code(transfer(&fixture, &folder, options), 2);
    }
    assert_code(Btget::with(&[] as &[&str]), 2);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn no_new_data_for_too_long_is_5() {
    let fixture = fixture(Shape::Single);
    assert_code(transfer(&fixture, &fixture.empty_folder("empty"), &["--stall-timeout", "1s"]), 5);
}

#[test]
fn missing_data_are_7() {
    let fixture = fixture(Shape::Single);
    let folder = fixture.empty_folder("empty");
    assert_eq!(check(&[&fixture.torrent()], &folder, &[]), Some(7));
    let mut process = transfer(&fixture, &folder, &["--json"]);
    process.wait_for_event("the check", |event| event["event"] == "hashcheck_finished");
    process.terminate();
    assert_code(process, 7);
}

#[test]
fn a_missing_empty_file_is_7_until_it_is_made() {
    let fixture = fixture(Shape::Multi);
    let folder = fixture.full_folder("full");
    fs::remove_file(folder.join("album/disc 2/empty")).unwrap();
    assert_eq!(check(&[&fixture.torrent()], &folder, &[]), Some(7));
    assert_eq!(check(&[&fixture.torrent()], &folder, &["--pieces", "0-3"]), Some(0));
    assert_code(transfer(&fixture, &folder, &["--no-seed"]), 0);
    assert_eq!(check(&[&fixture.torrent()], &folder, &[]), Some(0));
}

/// A torrent of one file that no disk holds.
fn enormous(folder: &Path) -> std::path::PathBuf {
    const PIECE: u32 = 64 << 20;
    let pieces = 1 << 18;
    let torrent = NewTorrent {
        name: "enormous.bin",
        content: Content::File(u64::from(PIECE) * pieces as u64),
        piece_length: PIECE,
        piece_hashes: &vec![btget::internals::hash::Sha1([7; 20]); pieces],
        trackers: &[],
        private: false,
    };
    let path = folder.join("enormous.torrent");
    fs::write(&path, torrent.encode()).unwrap();
    path
}

#[test]
fn a_disk_too_small_to_set_all_aside_is_9_before_anything_is_made() {
    let place = tempfile::tempdir().unwrap();
    let torrent = enormous(place.path());
    let folder = place.path().join("data");
    let process = call(&[&torrent], &folder, &["--preallocate", "full", "--no-lsd", "--bind", "127.0.0.1"]);
    assert_code(process, 9);
    assert!(!folder.join("enormous.bin").exists());
}

#[test]
fn something_else_in_a_files_place_is_17() {
    let fixture = fixture(Shape::Single);
    let folder = fixture.empty_folder("strange");
    fs::create_dir(folder.join("single file.bin")).unwrap();
    assert_eq!(check(&[&fixture.torrent()], &folder, &[]), Some(17));

    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 23);
    let _seed = transfer(&fixture, &fixture.full_folder("seed"), &[]);
    let folder = fixture.empty_folder("strange too");
    fs::create_dir(folder.join("single file.bin")).unwrap();
    let mut process = transfer(&fixture, &folder, &["--json"]);
    let error = process.wait_for_event("the error", |event| event["event"] == "file_error");
    assert_eq!(error["severity"], "fatal");
    process.wait_for_event("the pause", |event| event["to"] == "paused");
    process.signal(Signal::INT);
    assert_code(process, 17);
}

#[test]
fn a_file_as_basedir_is_17() {
    let fixture = fixture(Shape::Single);
    let folder = fixture.empty_folder("odd");
    let file = folder.join("a file");
    fs::write(&file, "").unwrap();
    assert_eq!(check(&[&fixture.torrent()], &file, &[]), Some(17));
    let mut process = transfer(&fixture, &file, &["--json"]);
    process.wait_for_event("the error", |event| event["event"] == "file_error");
    process.terminate();
    assert_code(process, 17);
}

/// Lines for people that say this.
fn said(process: &Btget, words: &str) -> usize {
    let lines = process.lines();
    lines.iter().filter(|line| !line.starts_with('{') && line.contains(words)).count()
}

#[test]
fn an_error_of_the_disk_ends_a_torrent_that_is_not_to_seed_and_no_other_and_is_said_once() {
    let tracker = Tracker::start();
    let (bad, good) =
        (Fixture::new(Shape::Single, &tracker.url(), 24), Fixture::new(Shape::Multi, &tracker.url(), 25));
    let _seeds = [&bad, &good].map(|fixture| transfer(fixture, &fixture.full_folder("seed"), &[]));
    let folder = good.empty_folder("leech");
    fs::create_dir(folder.join("single file.bin")).unwrap();
    let options = [
        "--no-seed",
        "--no-lsd",
        "--bind",
        "127.0.0.1",
        "--progress",
        "lines",
        "--state-dir",
        "",
        "--basedir",
    ];
    let mut arguments: Vec<OsString> = options.map(OsString::from).into();
    arguments.extend([folder.clone().into(), bad.torrent().into(), good.torrent().into()]);
    let mut process = Btget::with(arguments);
    process.wait_for_code();
    assert_eq!(said(&process, "is in its place"), 1, "{}", process.story());
    assert_eq!(said(&process, "ended by the error above (exit code 17)"), 1, "{}", process.story());
    assert_code(process, 17);
    good.assert_complete(&folder);
}

#[test]
fn a_file_as_basedir_ends_it_at_once_where_that_is_wanted() {
    let fixture = fixture(Shape::Single);
    let file = fixture.empty_folder("odd").join("a file");
    fs::write(&file, "").unwrap();
    assert_code(transfer(&fixture, &file, &["--no-seed"]), 17);
    assert_code(transfer(&fixture, &file, &["--file-error", "exit"]), 17);
    let mut process = transfer(&fixture, &file, &["--no-seed", "--file-error", "pause", "--json"]);
    process.wait_for_event("the pause", |event| event["to"] == "paused");
    process.terminate();
    assert_code(process, 17);
}

#[test]
fn no_torrent_is_26() {
    let place = tempfile::tempdir().unwrap();
    let garbage = place.path().join("garbage.torrent");
    fs::write(&garbage, "d8:announce").unwrap();
    for path in [&garbage, &place.path().join("missing.torrent"), &place.path().to_owned()] {
        assert_eq!(check(&[path], place.path(), &[]), Some(26), "{path:?}");
        assert_code(Btget::with([path.as_os_str(), "--show".as_ref()]), 26);
        assert_code(call(&[path], place.path(), &["--no-lsd", "--bind", "127.0.0.1"]), 26);
    }
}

/// A folder with a wrong byte in the first piece.
fn corrupt_folder(fixture: &Fixture, label: &str) -> std::path::PathBuf {
    let folder = fixture.full_folder(label);
    let path = folder.join("single file.bin");
    let mut data = fs::read(&path).unwrap();
    data[1000] ^= 1;
    fs::write(path, data).unwrap();
    folder
}

#[test]
fn corrupt_data_are_32() {
    let fixture = fixture(Shape::Single);
    let folder = corrupt_folder(&fixture, "corrupt");
    assert_eq!(check(&[&fixture.torrent()], &folder, &[]), Some(32));
    assert_eq!(check(&[&fixture.torrent()], &folder, &["--json"]), Some(32));
    assert_eq!(check(&[&fixture.torrent()], &folder, &["--pieces", "1-5"]), Some(0));
}

#[test]
fn of_several_torrents_the_most_serious_cause_wins() {
    let (single, multi) = (fixture(Shape::Single), fixture(Shape::Multi));
    let torrents = [single.torrent(), multi.torrent()];
    let torrents = [torrents[0].as_path(), torrents[1].as_path()];
    let folder = corrupt_folder(&single, "both");
    assert_eq!(check(&torrents, &folder, &[]), Some(32), "corrupt before missing");
    fs::create_dir_all(folder.join("album/README")).unwrap();
    assert_eq!(check(&torrents, &folder, &[]), Some(17), "unreadable before corrupt");
    let full = single.full_folder("one of two");
    assert_eq!(check(&torrents, &full, &[]), Some(7), "missing before complete");
}

/// An address for documents (RFC 5737): no machine has it.
const NOT_OURS: &str = "203.0.113.7";

/// As cron runs it: nearly no environment, no terminal, and whatever is said is mailed to somebody.
fn by_cron(torrent: &Path, folder: &Path, options: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", r#""$0" "$@""#, Btget::program()]).arg(torrent).arg("-d").arg(folder).arg("-q");
    command.args(options).env_clear();
    command.env("HOME", folder.parent().unwrap()).env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh");
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn cron_has_nothing_to_mail_when_all_is_well() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Multi, &tracker.url(), 26);
    let folder = fixture.full_folder("full");
    let _seed = transfer(&fixture, &folder, &[]);
    let new = fixture.empty_folder("new");
    let local = ["--no-lsd", "--bind", "127.0.0.1"];
    for (folder, options) in [
        (&folder, &["--hashcheck-only"][..]),
        (&new, &[&local[..], &["--no-seed"]].concat()),
        (&new, &[&local[..], &["--seed-time", "1s"]].concat()),
        (&new, &["--hashcheck-only", "--on-complete", "true", "--on-error", "echo trouble"]),
    ] {
        let output = by_cron(&fixture.torrent(), folder, options);
        assert!(output.status.success() && output.stdout.is_empty(), "{options:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{options:?}: {output:?}");
    }
    fixture.assert_complete(&new);
}

#[test]
fn cron_has_one_line_to_mail_when_something_is_wrong() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let fixture = fixture(Shape::Single);
    let torrent = fixture.torrent();
    let (empty, corrupt) = (fixture.empty_folder("empty"), corrupt_folder(&fixture, "corrupt"));
    let (strange, foreign) = (fixture.empty_folder("strange"), fixture.empty_folder("foreign"));
    fs::create_dir(strange.join("single file.bin")).unwrap();
    fs::write(foreign.join("single file.bin"), "a diary").unwrap();
    let a_file = foreign.join("single file.bin");
    let garbage = empty.with_file_name("garbage.torrent");
    fs::write(&garbage, "d8:announce").unwrap();
    let enormous = enormous(&empty);
    let cases: [(&PathBuf, &PathBuf, &[&str], i32); 12] = [
        (&torrent, &empty, &["--no-seed", "--port", &port], 1),
        (&torrent, &empty, &["--no-seed", "--bind", NOT_OURS], 1),
        (&torrent, &empty, &["--stall-timeout", "1s"], 5),
        (&torrent, &empty, &["--hashcheck-only"], 7),
        (&enormous, &empty, &["--preallocate", "full", "--no-seed"], 9),
        (&torrent, &foreign, &["--no-seed"], 13),
        (&torrent, &a_file, &["--no-seed"], 17),
        (&torrent, &strange, &["--hashcheck-only"], 17),
        (&garbage, &empty, &["--no-seed"], 26),
        (&garbage, &empty, &["--show"], 26),
        (&torrent, &corrupt, &["--hashcheck-only"], 32),
        (&torrent, &corrupt, &["--hashcheck-only", "--on-error", "false"], 1),
    ];
    for (torrent, folder, options, code) in cases {
        let is_check = options.iter().any(|option| ["--hashcheck-only", "--show"].contains(option));
        let local = if is_check { &[][..] } else { &["--no-lsd", "--bind", "127.0.0.1"] };
        // The last of two counts.
        let output = by_cron(torrent, folder, &[local, options].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{options:?}: {said}");
        // A hook that fails has a line of its own.
        let lines = if options.contains(&"--on-error") { 2 } else { 1 };
        assert_eq!(said.lines().count(), lines, "{options:?}: {said}");
        // Of a check, standard output has the report on files that are not as they should be.
        if options.contains(&NOT_OURS) {
            assert!(said.contains("--bind"), "the remedy is told: {said}");
        }
        let report = String::from_utf8(output.stdout).unwrap();
        let is_reported = options.contains(&"--hashcheck-only");
        assert_eq!(report.contains("single file.bin"), is_reported, "{options:?}: {report}");
        assert!(is_reported || report.is_empty(), "{options:?}: {report}");
    }
    let mut stopped = transfer(&fixture, &empty, &["-q", "--json"]);
    stopped.wait_for_event("the check", |event| event["event"] == "hashcheck_finished");
    stopped.terminate();
    assert_eq!((stopped.wait_for_code(), said(&stopped, "")), (Some(7), 1), "{}", stopped.story());
}
