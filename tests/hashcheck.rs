//! What `--hashcheck-only` reports, and that it leaves everything as it was.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use support::clients::Btget;
use support::fixture::{Fixture, PIECE_LENGTH, Shape};
use support::system::{assert_reads_alone, can_mount, can_trace, child_of, is_root, script, trial};

const NOBODY: &str = "http://127.0.0.1:9/announce";

fn main() -> ExitCode {
    let trials: Vec<Trial> = vec![
        trial("each_fault_is_called_by_its_name", true, each_fault),
        trial("the_table_says_the_same_to_people", true, the_table),
        trial("the_check_before_a_transfer_counts_as_the_check_alone_does", true, counts_alike),
        trial("pieces_and_files_limit_check_report_and_exit_code", true, limits),
        trial("what_a_selective_download_left_is_right", true, selective),
        trial("what_a_stop_left_unwritten_is_missing_and_a_flipped_bit_is_corrupt", true, stopped_download),
        trial("a_file_that_is_too_long_is_told_by_the_exit_code", true, too_long),
        trial("it_writes_nothing_and_opens_no_socket", can_trace(), traced),
        trial("a_disk_that_fails_during_the_check_is_unreadable", can_trace(), failing_disk),
        trial("a_file_that_shrinks_during_the_check_is_short", can_trace(), shrinking_file),
        trial("it_can_be_stopped_and_is_not_paused", can_trace(), stopped),
        trial("it_works_on_a_read_only_mount", can_mount(), read_only_mount),
        trial("it_works_as_a_user_who_may_only_read", is_root(), as_another_user),
        trial("a_file_without_permission_is_unreadable", is_root(), no_permission),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Files of three pieces each, at piece borders, one for each fault.
const NAMES: [&str; 9] =
    ["ok", "corrupt", "missing", "short", "long", "folder", "pipe", "dangling", "cut to nothing"];

fn faulty() -> (Fixture, PathBuf) {
    let length = 3 * PIECE_LENGTH as usize;
    let mut rng = fastrand::Rng::with_seed(31);
    let mut random = || {
        let mut data = vec![0; length];
        rng.fill(&mut data);
        data
    };
    let files = NAMES.map(|name| (name, random()));
    let fixture = Fixture::of("faults", files.to_vec(), NOBODY);
    let folder = fixture.full_folder("faulty");
    let path = |name: &str| folder.join("faults").join(name);
    let mut data = fs::read(path("corrupt")).unwrap();
    data[length / 2] ^= 1;
    fs::write(path("corrupt"), &data).unwrap();
    for name in ["missing", "folder", "pipe", "dangling"] {
        fs::remove_file(path(name)).unwrap();
    }
    let data = fs::read(path("short")).unwrap();
    fs::write(path("short"), &data[..length - 10]).unwrap();
    let data = fs::read(path("long")).unwrap();
    fs::write(path("long"), [data, vec![1; 10]].concat()).unwrap();
    fs::write(path("cut to nothing"), "").unwrap();
    fs::create_dir(path("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    symlink("nowhere", path("dangling")).unwrap();
    (fixture, folder)
}

fn check(fixture: &Fixture, folder: &Path, options: &[&str]) -> Btget {
    let mut command = Btget::command();
    command.arg(fixture.torrent()).arg("--hashcheck-only").arg("--basedir").arg(folder).args(options);
    Btget::run(&mut command)
}

fn reports(process: &Btget) -> Vec<Value> {
    process.events().into_iter().filter(|event| event["event"] == "file_report").collect()
}

fn each_fault() {
    let (fixture, folder) = faulty();
    let mut process = check(&fixture, &folder, &["--json"]);
    assert_eq!(process.wait_for_code(), Some(17), "{}", process.story());
    let reports = reports(&process);
    let found: Vec<(&str, &str)> = reports
        .iter()
        .map(|report| (report["path"].as_str().unwrap(), report["status"].as_str().unwrap()))
        .collect();
    let expected = [
        ("faults/ok", "ok"),
        ("faults/corrupt", "corrupt"),
        ("faults/missing", "missing"),
        ("faults/short", "short"),
        ("faults/long", "long"),
        ("faults/folder", "unreadable"),
        ("faults/pipe", "unreadable"),
        ("faults/dangling", "unreadable"),
        ("faults/cut to nothing", "short"),
    ];
    assert_eq!(found, expected);
    let piece = u64::from(PIECE_LENGTH);
    assert_eq!(reports[1]["pieces"], serde_json::json!(["4"]));
    assert_eq!(reports[1]["bytes"], serde_json::json!([[piece, 2 * piece]]));
    assert_eq!(reports[2]["pieces"], serde_json::json!(["6-8"]));
    assert_eq!(reports[3]["pieces"], serde_json::json!(["11"]));
    assert_eq!(reports[4]["pieces"], serde_json::json!([]));
    let events = process.events();
    let passed = events.iter().filter(|event| event["event"] == "piece_hash_passed").count();
    let failed = events.iter().filter(|event| event["event"] == "piece_hash_failed").count();
    assert_eq!((passed, passed + failed), (3 + 2 + 2 + 3, fixture.pieces()));
    assert_eq!(events.last().unwrap()["event"], "summary");
    assert_eq!(events.last().unwrap()["exit_code"], 17);
}

fn counts_alike() {
    let fixture = Fixture::single(12 * PIECE_LENGTH as usize, NOBODY, 34);
    let folder = fixture.full_folder("some of it");
    let path = folder.join("large.bin");
    let length = PIECE_LENGTH as usize;
    let mut data = fs::read(&path).unwrap();
    (data[2 * length + 9], data[7 * length]) = (!data[2 * length + 9], !data[7 * length]);
    data[4 * length..6 * length].fill(0);
    fs::write(&path, &data[..11 * length]).unwrap();
    let finished = |process: &Btget| -> Value {
        let events = process.events();
        let found = events.into_iter().find(|event| event["event"] == "hashcheck_finished");
        let mut found = found.unwrap_or_else(|| panic!("{}", process.story()));
        found.as_object_mut().unwrap().remove("time");
        found
    };
    let mut alone = check(&fixture, &folder, &["--json"]);
    assert_eq!(alone.wait_for_code(), Some(32), "{}", alone.story());
    let alone = finished(&alone);
    let mut before = Btget::tell(&fixture, &folder, &["--state", "paused"]);
    before.wait_for_event("the end of the check", |event| event["event"] == "hashcheck_finished");
    assert_eq!(finished(&before), alone);
    for (key, ranges, count) in [
        ("have", serde_json::json!(["0-1", "3", "6", "8-10"]), 7),
        ("missing", serde_json::json!(["4-5", "11"]), 3),
        ("corrupt", serde_json::json!(["2", "7"]), 2),
    ] {
        assert_eq!(alone[key], ranges, "{key}");
        assert_eq!(alone[format!("{key}_count")], count, "{key}");
    }
}

fn the_table() {
    let (fixture, folder) = faulty();
    let mut process = check(&fixture, &folder, &["--color", "never", "--progress", "none"]);
    assert_eq!(process.wait_for_code(), Some(17), "{}", process.story());
    let lines = process.lines();
    for (name, status) in NAMES.iter().zip([
        "ok",
        "corrupt",
        "missing",
        "short",
        "long",
        "unreadable",
        "unreadable",
        "unreadable",
        "short",
    ]) {
        let row = lines.iter().find(|line| line.contains(&format!("faults/{name}")));
        assert!(row.is_some_and(|row| row.starts_with(status)), "{name}: {row:?}\n{}", process.story());
    }
    assert!(lines.last().unwrap().starts_with("faults: "), "the sum comes last: {}", process.story());
}

fn limits() {
    let (fixture, folder) = faulty();
    for (options, code, files) in [
        (&["--files", "1"][..], 0, 1),
        (&["--files", "1-2"], 32, 2),
        (&["--files", "ok", "--files", "missing"], 7, 2),
        (&["--pieces", "0-3,5"], 0, 2),
        (&["--pieces", "4"], 32, 1),
        (&["--pieces", "6"], 7, 1),
        (&["--files", "1", "--pieces", "0"], 0, 1),
    ] {
        let mut process = check(&fixture, &folder, &[&["--json"], options].concat());
        assert_eq!(process.wait_for_code(), Some(code), "{options:?}\n{}", process.story());
        assert_eq!(reports(&process).len(), files, "{options:?}\n{}", process.story());
    }
}

/// The wanted file shares its first and last piece with files that are not wanted.
fn selective() {
    let tracker = support::tracker::Tracker::start();
    let fixture = Fixture::new(Shape::Multi, &tracker.url(), 32);
    let _seed = Btget::tell(&fixture, &fixture.full_folder("seed"), &[]);
    let folder = fixture.empty_folder("leech");
    let mut leech = Btget::tell(&fixture, &folder, &["--files", "3", "--no-seed"]);
    leech.wait_for_success();
    let mut process = check(&fixture, &folder, &["--files", "3", "--json"]);
    assert_eq!(process.wait_for_code(), Some(0), "{}", process.story());
    assert_eq!(check(&fixture, &folder, &[]).wait_for_code(), Some(7));
}

/// Bases on file systems that set room aside and show holes in their own ways.
fn bases() -> Vec<tempfile::TempDir> {
    let here = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").ok();
    std::iter::once(here).chain(memory).collect()
}

fn stopped_download() {
    let tracker = support::tracker::Tracker::start();
    let fixture = Fixture::single(40 * PIECE_LENGTH as usize, &tracker.url(), 33);
    let _seed = support::events::seed(&tracker, &fixture, "1M");
    for base in bases() {
        for preallocate in ["none", "sparse", "full"] {
            let folder = base.path().join(preallocate);
            fs::create_dir(&folder).unwrap();
            for round in 0..3 {
                let options = ["--no-seed", "--preallocate", preallocate, "--events", "debug"];
                let mut leech = Btget::tell(&fixture, &folder, &options);
                let is_block = |event: &Value| event["event"] == "peer_packet_in" && event["type"] == "piece";
                leech.wait_for_event("a block", is_block);
                // After some pieces, and some way into the next.
                let blocks = 5 + 7 * round;
                support::process::wait_until(
                    "a few blocks",
                    || leech.story(),
                    || {
                        (leech.events().iter().filter(|event| is_block(event)).count() >= blocks)
                            .then_some(())
                    },
                );
                leech.terminate();
                assert_eq!(leech.wait_for_code(), Some(7), "{}", leech.story());
                // What is read once looks like data the next time, where room was set aside.
                for _ in 0..2 {
                    let mut process = check(&fixture, &folder, &["--json"]);
                    assert_eq!(process.wait_for_code(), Some(7), "{folder:?}\n{}", process.story());
                }
            }
            let path = folder.join("large.bin");
            let right = fixture.right_pieces(&folder).iter().position(|right| *right).unwrap();
            let file = fs::File::options().read(true).write(true).open(&path).unwrap();
            let copied =
                Command::new("cp").arg("--sparse=always").arg(&path).arg(folder.join("copy")).status();
            assert!(copied.unwrap().success());
            let (mut byte, at) = ([0], right as u64 * u64::from(PIECE_LENGTH) + 9);
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[!byte[0]], at).unwrap();
            assert_eq!(check(&fixture, &folder, &[]).wait_for_code(), Some(32), "{folder:?}");
            fs::rename(folder.join("copy"), &path).unwrap();
            assert_eq!(check(&fixture, &folder, &[]).wait_for_code(), Some(7), "{folder:?}");
        }
    }
}

fn too_long() {
    let fixture = Fixture::new(Shape::Single, NOBODY, 34);
    let folder = fixture.full_folder("full");
    let path = folder.join("single file.bin");
    let mut data = fs::read(&path).unwrap();
    data.extend(b"tail");
    fs::write(&path, &data).unwrap();
    let mut process = check(&fixture, &folder, &["--json"]);
    assert_eq!(process.wait_for_code(), Some(32), "{}", process.story());
    assert_eq!(reports(&process)[0]["status"], "long");
    let events = process.events();
    let summary = events.last().unwrap();
    assert_eq!(summary["reason"], "every piece is right, but a file is longer than it should be");
    assert_eq!(fs::read(&path).unwrap(), data, "it is as it was");
}

fn traced() {
    let (fixture, folder) = faulty();
    let trace = fixture.empty_folder("trace").join("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=%file,%network,%desc", "-o"]).arg(&trace);
    command.arg(Btget::program()).arg(fixture.torrent());
    command.arg("--hashcheck-only").arg("--basedir").arg(&folder);
    let mut process = Btget::run(&mut command);
    assert_eq!(process.wait_for_code(), Some(17), "{}", process.story());
    let calls = fs::read_to_string(trace).unwrap();
    assert!(calls.contains("faults/corrupt"), "the trace shows what it does");
    assert_reads_alone(&calls);
    assert!(!calls.contains("flock("), "it locks something");
}

/// A check of a whole torrent in which something happens to the calls that read one file: what is
/// reported of that file, and the exit code.
fn with_fault(fault: &str) -> (Value, Option<i32>) {
    let fixture = Fixture::new(Shape::Multi, NOBODY, 35);
    let folder = fixture.full_folder("full");
    let file = folder.join("album/disc 2/03.flac");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject=preadv,pread64,preadv2:{fault}"));
    command.arg("-P").arg(&file).arg(Btget::program()).arg(fixture.torrent());
    command.args(["--hashcheck-only", "--json", "--basedir"]).arg(&folder);
    let mut process = Btget::run(&mut command);
    let code = process.wait_for_code();
    let reports = reports(&process);
    let others = reports.iter().filter(|report| !report["path"].as_str().unwrap().ends_with("03.flac"));
    assert!(others.clone().all(|report| report["status"] == "ok"), "{}", process.story());
    (reports[4].clone(), code)
}

fn failing_disk() {
    let (report, code) = with_fault("error=EIO");
    assert_eq!((report["status"].as_str(), code), (Some("unreadable"), Some(17)), "{report}");
    assert!(report["reason"].as_str().unwrap().contains("Input/output error"));
}

fn shrinking_file() {
    let (report, code) = with_fault("retval=0");
    assert_eq!((report["status"].as_str(), code), (Some("short"), Some(7)), "{report}");
}

fn stopped() {
    let fixture = Fixture::single(8 * 1024 * 1024, NOBODY, 36);
    let folder = fixture.full_folder("full");
    let mut command = Command::new("strace");
    // Slow enough for a signal to come in between.
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=preadv:delay_exit=200000"]);
    command.arg(Btget::program()).arg(fixture.torrent());
    command.args(["--hashcheck-only", "--json", "--basedir"]).arg(&folder);
    let mut process = Btget::run(&mut command);
    process.wait_for_event("a piece", |event| event["event"] == "piece_hash_passed");
    for signal in [Signal::USR1, Signal::USR2, Signal::TERM] {
        kill_process(child_of(process.pid()), signal).unwrap();
    }
    assert_eq!(process.wait_for_code(), Some(7), "{}", process.story());
    let events = process.events();
    assert!(!events.iter().any(|event| event["event"] == "hashcheck_finished"));
    assert!(reports(&process).is_empty(), "what is not known of a file is not said");
    assert_eq!(events.last().unwrap()["exit_code"], 7);
}

fn read_only_mount() {
    let (fixture, folder) = faulty();
    let text = r#"mount --bind "$2" "$2"; mount -o remount,ro,bind "$2"
        ! touch "$2/something" 2>/dev/null
        exec "$btget" "$1" --hashcheck-only --json --basedir "$2" --state-dir "$2/state""#;
    let mut process = Btget::run(&mut script(text, &[&fixture.torrent(), &folder]));
    assert_eq!(process.wait_for_code(), Some(17), "{}", process.story());
    assert_eq!(reports(&process).len(), NAMES.len());
    let full = fixture.full_folder("full");
    let mut process = Btget::run(&mut script(text, &[&fixture.torrent(), &full]));
    assert_eq!(process.wait_for_code(), Some(0), "{}", process.story());
}

/// Lets everybody read, and nobody write.
fn open_to_read(path: &Path) {
    let is_folder = fs::symlink_metadata(path).unwrap().is_dir();
    fs::set_permissions(path, fs::Permissions::from_mode(if is_folder { 0o555 } else { 0o444 })).unwrap();
    if is_folder {
        fs::read_dir(path).unwrap().for_each(|entry| open_to_read(&entry.unwrap().path()));
    }
}

/// A command run by a user without any rights, of a copy of the program that anybody may run.
fn as_nobody(place: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let program = place.join("btget");
    fs::copy(Btget::program(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    command.uid(65534).gid(65534).env_remove("HOME").env_remove("XDG_STATE_HOME").current_dir("/");
    command
}

fn check_as_nobody(fixture: &Fixture, folder: &Path) -> Btget {
    let torrent = fixture.torrent();
    let mut command = as_nobody(torrent.parent().unwrap());
    command.arg(&torrent).args(["--hashcheck-only", "--json", "--basedir"]).arg(folder);
    Btget::run(&mut command)
}

fn as_another_user() {
    let fixture = Fixture::new(Shape::Multi, NOBODY, 33);
    let folder = fixture.full_folder("full");
    open_to_read(&folder);
    let mut process = check_as_nobody(&fixture, &folder);
    assert_eq!(process.wait_for_code(), Some(0), "{}", process.story());
}

fn no_permission() {
    let fixture = Fixture::new(Shape::Multi, NOBODY, 34);
    let folder = fixture.full_folder("full");
    open_to_read(&folder);
    fs::set_permissions(folder.join("album/disc 2/03.flac"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut process = check_as_nobody(&fixture, &folder);
    assert_eq!(process.wait_for_code(), Some(17), "{}", process.story());
    let reports = reports(&process);
    let bad: Vec<&Value> = reports.iter().filter(|report| report["status"] != "ok").collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert_eq!(bad[0]["status"], "unreadable");
    assert!(bad[0]["reason"].as_str().unwrap().contains("permission"));
}
