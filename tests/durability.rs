//! What a full disk, a failing sync and a vanished file may cost, and what resume
//! data may and may not say.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use rustix::process::{Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;

use support::clients::Btget;
use support::events::{fetched, is, is_fetched, read_and_right, seed, summary};
use support::fixture::{Fixture, PIECE_LENGTH, Shape};
use support::process::wait_until;
use support::system::{can_mount, can_trace, child_of, script, shell, trial};
use support::tracker::Tracker;

const NOBODY: &str = "http://127.0.0.1:9/announce";

/// The options of a call that a shell makes: `$1` is the .torrent, `$2` the folder, `$3` for the state.
const CALL: &str =
    r#"exec "$btget" "$1" --basedir "$2" --state-dir "$3" --bind 127.0.0.1 --json --progress none"#;

fn main() -> ExitCode {
    let trials: Vec<Trial> = vec![
        trial("unfinished_pieces_survive_a_clean_stop", true, partial_pieces),
        trial("the_next_start_reads_only_what_is_not_vouched_for", true, vouching),
        trial("damaged_resume_data_are_never_believed", true, damaged_resume_data),
        trial("data_are_synced_before_resume_data_name_them", can_trace(), sync_comes_first),
        trial(
            "data_found_after_a_kill_are_synced_before_resume_data_name_them",
            can_trace(),
            sync_after_a_kill,
        ),
        trial("a_complete_torrent_is_saved_at_once_and_not_at_the_end_only", can_trace(), saved_at_once),
        trial("a_disk_that_hangs_is_not_waited_for_at_the_end", can_trace(), hanging_disk),
        trial("a_file_system_that_cannot_sync_can_be_seeded_from", can_trace(), no_sync),
        trial("what_a_failed_sync_was_to_bring_to_the_disk_is_not_vouched_for", can_trace(), failed_sync),
        trial("a_torrent_goes_on_after_a_failed_sync_when_it_is_started", can_trace(), sync_that_fails_once),
        trial("a_full_disk_pauses_and_it_goes_on_when_there_is_space", can_mount(), full_disk),
        trial("a_full_disk_is_9_if_it_is_stopped_instead", can_mount(), full_disk_stopped),
        trial("after_a_full_disk_it_goes_on_by_itself_when_there_is_space", can_mount(), full_disk_with_room),
        trial("a_full_disk_ends_it_at_once_if_it_is_not_to_seed", can_mount(), full_disk_no_seed),
        trial("a_limit_on_the_size_of_files_pauses_and_it_goes_on_when_it_is_raised", true, file_size_limit),
        trial("a_file_removed_during_the_run_is_fetched_again_when_it_is_started", true, removed_file),
        trial(
            "a_file_changed_while_it_is_seeded_is_neither_called_complete_nor_vouched_for",
            true,
            changed_seed,
        ),
        trial("a_file_changed_while_it_is_paused_is_not_vouched_for", true, changed_while_paused),
        trial("a_file_changed_during_a_download_is_right_in_the_end", true, changed_download),
        trial("what_was_uploaded_of_data_that_are_gone_counts_no_more", true, uploaded_before),
        trial("what_is_complete_is_open_for_writing_no_more", true, closed_when_complete),
        trial("a_file_moved_away_during_the_run_is_not_called_complete", true, moved_file),
        trial("a_basedir_moved_away_during_the_run_is_not_made_anew", true, moved_basedir),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn partial_pieces() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(1024 * 1024, &tracker.url(), 51);
    let _seed = seed(&tracker, &fixture, "512K");
    let folder = fixture.empty_folder("leech");
    let mut stops = 0;
    let downloaded = loop {
        let mut leech = Btget::tell(&fixture, &folder, &["--no-seed", "--events", "debug"]);
        // A block that does not end a piece.
        let is_block = |event: &Value| is(event, "peer_packet_in") && event["type"] == "piece";
        let story = leech.story();
        wait_until(
            "three blocks, or the end",
            || story.clone(),
            || {
                let events = leech.events();
                let blocks = events.iter().filter(|event| is_block(event)).count();
                (blocks >= 3 || events.iter().any(|event| is(event, "summary"))).then_some(())
            },
        );
        if !leech.events().iter().any(|event| is(event, "summary")) {
            leech.terminate();
        }
        let code = leech.wait_for_code();
        let downloaded = summary(&leech)["total_downloaded"].as_u64().unwrap();
        if code == Some(0) {
            break downloaded;
        }
        assert_eq!(code, Some(7), "{}", leech.story());
        stops += 1;
    };
    fixture.assert_complete(&folder);
    assert!(stops >= 3, "it was stopped in between");
    assert_eq!(downloaded, fixture.size(), "no block is fetched twice in {stops} stops");
}

/// Runs it on a complete folder until it leaves; gives how many pieces it read.
fn read_at_start(fixture: &Fixture, folder: &Path, options: &[&str]) -> usize {
    let mut process = Btget::tell(fixture, folder, &[&["--no-seed"], options].concat());
    process.wait_for_success();
    read_and_right(&process)
}

fn vouching() {
    let fixture = Fixture::new(Shape::Multi, NOBODY, 52);
    let folder = fixture.full_folder("full");
    let all = fixture.pieces();
    assert_eq!(read_at_start(&fixture, &folder, &[]), all);
    assert_eq!(read_at_start(&fixture, &folder, &[]), 0, "all is vouched for");
    assert_eq!(read_at_start(&fixture, &folder, &["--full-check"]), all);
    let path = folder.join("album/disc 1/02.flac");
    // One file of a piece's length, across a border: two pieces.
    let touched = fs::File::options().write(true).open(&path).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(read_at_start(&fixture, &folder, &[]), 2, "another time");
    fs::copy(&path, folder.join("copy")).unwrap();
    let copy = fs::File::options().write(true).open(folder.join("copy")).unwrap();
    copy.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::rename(folder.join("copy"), &path).unwrap();
    assert_eq!(read_at_start(&fixture, &folder, &[]), 2, "another inode");
    let data = fs::read(&path).unwrap();
    fs::write(&path, [&data[..], b"tail"].concat()).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(read_at_start(&fixture, &folder, &[]), 2, "another size");
    // A file that is gone is known to be gone.
    fs::remove_file(&path).unwrap();
    let mut process = Btget::tell(&fixture, &folder, &[]);
    let finished = process.wait_for_event("the check", |event| is(event, "hashcheck_finished"));
    assert_eq!(finished["missing_count"], 2);
    process.terminate();
    assert_eq!(process.wait_for_code(), Some(7));
}

fn resume_file(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder.join("state")).ok()?.map(|entry| entry.unwrap().path());
    let mut found = entries.filter(|path| path.extension().is_some_and(|end| end == "resume"));
    found.next()
}

fn damaged_resume_data() {
    let fixture = Fixture::new(Shape::Single, NOBODY, 53);
    let folder = fixture.full_folder("full");
    let all = fixture.pieces();
    read_at_start(&fixture, &folder, &[]);
    let path = resume_file(&folder).unwrap();
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    let other = fixture.full_folder("another folder");
    read_at_start(&fixture, &other, &[]);
    let foreign = fs::read(resume_file(&other).unwrap()).unwrap();
    let damages = [
        ("flipped", flipped),
        ("cut", good[..good.len() - 1].to_vec()),
        ("empty", Vec::new()),
        ("long", [&good[..], b"x"].concat()),
        ("foreign", foreign),
        ("endless", vec![0; 10 << 20]),
    ];
    for (what, bytes) in damages {
        fs::write(&path, bytes).unwrap();
        assert_eq!(read_at_start(&fixture, &folder, &[]), all, "{what}");
        assert_eq!(read_at_start(&fixture, &folder, &[]), 0, "{what}: made anew");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(read_at_start(&fixture, &folder, &[]), all, "a folder in its place");
}

/// btget on a folder under strace; `calls` are the calls that are written down, with paths.
fn traced(fixture: &Fixture, folder: &Path, calls: &str, options: &[&str]) -> (Btget, PathBuf) {
    let trace = fixture.empty_folder(&format!("trace {}", fastrand::u64(..))).join("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-y", "-e", calls, "-o"]).arg(&trace);
    command.arg(Btget::program()).arg(fixture.torrent()).arg("--basedir").arg(folder);
    command.arg("--state-dir").arg(folder.join("state"));
    command.args(["--no-lsd", "--bind", "127.0.0.1", "--json", "--progress", "none"]).args(options);
    (Btget::run(&mut command), trace)
}

const SYNCS: &str = "trace=pwrite64,pwritev,pwritev2,fdatasync,fsync,syncfs,rename,renameat,renameat2";

/// Goes through the calls: at each rename of resume data, all data must have been synced since they were
/// last written. Gives how often resume data were put in their place.
fn assert_synced_first(trace: &Path, written_before: bool) -> usize {
    let (mut dirty, mut renames, mut writes) = (written_before, 0, 0);
    let mut begun = false;
    for line in fs::read_to_string(trace).unwrap().lines() {
        let is_data = line.contains("large.bin>");
        if line.contains(" pwrite") && is_data {
            (dirty, begun, writes) = (true, false, writes + 1);
        } else if line.contains("fdatasync(") && is_data {
            begun = line.contains("<unfinished");
            dirty &= begun;
        } else if line.contains("fdatasync resumed") {
            dirty &= !std::mem::take(&mut begun);
        } else if line.contains(" rename") && line.contains(".resume") {
            assert!(!dirty, "resume data come before the sync: {line}");
            renames += 1;
        }
    }
    assert!(writes > 0 || written_before, "the trace shows writes");
    renames
}

fn sync_comes_first() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(2 * 1024 * 1024, &tracker.url(), 54);
    let _seed = seed(&tracker, &fixture, "8M");
    let folder = fixture.empty_folder("leech");
    let (mut leech, trace) = traced(&fixture, &folder, SYNCS, &["--no-seed"]);
    leech.wait_for_success();
    assert!(assert_synced_first(&trace, false) > 0);
}

fn sync_after_a_kill() {
    let fixture = Fixture::single(2 * 1024 * 1024, NOBODY, 55);
    // As another process left it: in memory, for all that is known.
    let folder = fixture.full_folder("killed");
    let (mut again, trace) = traced(&fixture, &folder, SYNCS, &["--no-seed"]);
    again.wait_for_success();
    assert!(assert_synced_first(&trace, true) > 0);
}

fn saved_at_once() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(2 * 1024 * 1024, &tracker.url(), 64);
    let _seed = seed(&tracker, &fixture, "8M");
    let folder = fixture.empty_folder("leech");
    let (leech, trace) = traced(&fixture, &folder, SYNCS, &[]);
    let story = leech.story();
    wait_until("resume data", || story.clone(), || resume_file(&folder));
    kill_process(child_of(leech.pid()), Signal::KILL).unwrap();
    drop(leech);
    assert_eq!(assert_synced_first(&trace, false), 1);
    assert_eq!(read_at_start(&fixture, &folder, &[]), 0, "all is vouched for");
}

fn hanging_disk() {
    let fixture = Fixture::single(1024 * 1024, NOBODY, 65);
    let folder = fixture.full_folder("full");
    let hang = "inject=fdatasync:delay_enter=40000000";
    let (mut seed, trace) = traced(&fixture, &folder, hang, &[]);
    seed.wait_for_event("seeding", |event| is(event, "seeding"));
    let told = Instant::now();
    kill_process(child_of(seed.pid()), Signal::TERM).unwrap();
    seed.wait_for_event("the end", |event| is(event, "summary"));
    // strace itself lets nothing go before the delay is over.
    let exits = || fs::read_to_string(&trace).is_ok_and(|calls| calls.contains("exit_group("));
    wait_until("the exit", String::new, || exits().then_some(()));
    // 5 s are allowed, 40 s it would take.
    assert!(told.elapsed() < Duration::from_secs(20));
    assert!(resume_file(&folder).is_none());
}

/// As squashfs and ISO 9660 do.
fn no_sync() {
    let fixture = Fixture::new(Shape::Multi, NOBODY, 66);
    let folder = fixture.full_folder("full");
    let (mut seed, _) = traced(&fixture, &folder, "inject=fdatasync:error=EINVAL", &["--no-seed"]);
    seed.wait_for_success();
    assert_eq!(read_at_start(&fixture, &folder, &[]), 0);
}

fn failed_sync() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(2 * 1024 * 1024, &tracker.url(), 56);
    let _seed = seed(&tracker, &fixture, "8M");
    let folder = fixture.empty_folder("leech");
    let (mut leech, _) = traced(&fixture, &folder, "inject=fdatasync:error=EIO", &["--no-seed"]);
    assert_eq!(leech.wait_for_code(), Some(17), "{}", leech.story());
    assert!(resume_file(&folder).is_none());
    assert_eq!(read_at_start(&fixture, &folder, &[]), fixture.pieces());
}

fn sync_that_fails_once() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(2 * 1024 * 1024, &tracker.url(), 57);
    let _seed = seed(&tracker, &fixture, "8M");
    let folder = fixture.empty_folder("leech");
    let (mut leech, _) = traced(&fixture, &folder, "inject=fdatasync:error=EIO:when=1", &[]);
    leech.wait_for_event("the error", |event| is(event, "file_error"));
    leech.wait_for_event("the pause", |event| event["to"] == "paused");
    let pid = child_of(leech.pid());
    kill_process(pid, Signal::USR2).unwrap();
    let checks =
        |process: &Btget| process.events().iter().filter(|event| is(event, "hashcheck_finished")).count();
    let story = leech.story();
    wait_until("another check", || story.clone(), || (checks(&leech) == 2).then_some(()));
    assert_eq!(read_and_right(&leech), fixture.pieces(), "all that was not synced is read again");
    // Only what is on the disk is called complete.
    leech.wait_for_event("everything", |event| is(event, "complete"));
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(leech.wait_for_code(), Some(0), "{}", leech.story());
    assert_eq!(read_at_start(&fixture, &folder, &[]), 0, "all is vouched for");
}

/// A leech on a disk of 4 MiB, half of it filled: `/proc/PID/root` is how to get there.
fn on_full_disk(fixture: &Fixture) -> (Btget, PathBuf) {
    let (mut leech, inside) = meets_full_disk(fixture, "");
    leech.wait_for_event("the pause", |event| event["to"] == "paused");
    (leech, inside)
}

fn meets_full_disk(fixture: &Fixture, options: &str) -> (Btget, PathBuf) {
    let folder = fixture.empty_folder("small");
    let state = fixture.empty_folder("state");
    let text = format!(
        "mount -t tmpfs -o size=4m tmpfs \"$2\"; dd if=/dev/zero of=\"$2/filler\" bs=1M count=2 2>/dev/null; {CALL} {options}"
    );
    let mut leech = Btget::run(&mut script(&text, &[&fixture.torrent(), &folder, &state]));
    let error = leech.wait_for_event("the error", |event| is(event, "file_error"));
    assert_eq!(error["severity"], "fatal");
    assert!(error["reason"].as_str().unwrap().contains("disk full"), "{error}");
    let inside = format!("/proc/{}/root{}", leech.pid().as_raw_nonzero(), folder.display());
    (leech, inside.into())
}

fn full_disk() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 58);
    let _seed = seed(&tracker, &fixture, "4M");
    let (mut leech, inside) = on_full_disk(&fixture);
    let right = fixture.right_pieces(&inside);
    let before = fetched(&leech);
    assert!(!before.is_empty());
    assert!(before.iter().all(|&piece| right[piece]), "what is verified is there");
    fs::remove_file(inside.join("filler")).unwrap();
    leech.signal(Signal::USR2);
    leech.wait_for_event("everything", |event| is(event, "complete"));
    fixture.assert_complete(&inside);
    let mut pieces = fetched(&leech);
    pieces.sort_unstable();
    assert_eq!(pieces, (0..fixture.pieces()).collect::<Vec<_>>(), "each piece is verified once");
    leech.terminate();
    assert_eq!(leech.wait_for_code(), Some(0), "{}", leech.story());
}

fn full_disk_with_room() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 62);
    let _seed = seed(&tracker, &fixture, "4M");
    let (mut leech, inside) = on_full_disk(&fixture);
    fs::remove_file(inside.join("filler")).unwrap();
    leech.wait_for_event("the start", |event| event["reason"] == "the disk has room again");
    leech.wait_for_event("everything", |event| is(event, "complete"));
    fixture.assert_complete(&inside);
    leech.terminate();
    assert_eq!(leech.wait_for_code(), Some(0), "{}", leech.story());
    // What had come when the disk was full has waited in memory, what came after that too.
    let downloaded = summary(&leech)["downloaded"].as_u64().unwrap();
    assert!(downloaded < fixture.size() + u64::from(PIECE_LENGTH), "{downloaded} of {}", fixture.size());
}

fn full_disk_no_seed() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 63);
    let _seed = seed(&tracker, &fixture, "4M");
    let (mut leech, _) = meets_full_disk(&fixture, "--no-seed");
    assert_eq!(leech.wait_for_code(), Some(9), "{}", leech.story());
    let said = |line: &&String| !line.starts_with('{') && line.contains("disk full");
    assert_eq!(leech.lines().iter().filter(said).count(), 1, "{}", leech.story());
    assert!(!fetched(&leech).is_empty());
}

fn full_disk_stopped() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 59);
    let _seed = seed(&tracker, &fixture, "4M");
    let (mut leech, _) = on_full_disk(&fixture);
    leech.terminate();
    assert_eq!(leech.wait_for_code(), Some(9), "{}", leech.story());
    // When it happens, and not as the reason of the pause too.
    let said = |line: &&String| !line.starts_with('{') && line.contains("disk full");
    assert_eq!(leech.lines().iter().filter(said).count(), 1, "{}", leech.story());
}

fn file_size_limit() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Multi, &tracker.url(), 60);
    let _seed = seed(&tracker, &fixture, "8M");
    let (folder, state) = (fixture.empty_folder("leech"), fixture.empty_folder("state"));
    // Of each file, half a MiB or a MiB: shells differ in their unit.
    let text = format!("ulimit -S -f 1024; {CALL}");
    let mut leech = Btget::run(&mut shell(&text, &[&fixture.torrent(), &folder, &state]));
    let error = leech.wait_for_event("the error", |event| is(event, "file_error"));
    assert!(error["reason"].as_str().unwrap().contains("ulimit -f"), "{error}");
    leech.wait_for_event("the pause", |event| event["to"] == "paused");
    prlimit(Some(leech.pid()), Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    leech.signal(Signal::USR2);
    leech.wait_for_event("everything", |event| is(event, "complete"));
    leech.terminate();
    assert_eq!(leech.wait_for_code(), Some(0), "{}", leech.story());
    fixture.assert_complete(&folder);
}

/// A leech that has some pieces, and will not be done soon.
fn leech_at_work(fixture: &Fixture, folder: &Path) -> Btget {
    let mut leech = Btget::tell(fixture, folder, &[]);
    leech.wait_for_event("a piece", is_fetched);
    leech
}

fn removed_file() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(4 * 1024 * 1024, &tracker.url(), 61);
    let _seed = seed(&tracker, &fixture, "2M");
    let folder = fixture.empty_folder("leech");
    let mut leech = leech_at_work(&fixture, &folder);
    fs::remove_file(folder.join("large.bin")).unwrap();
    leech.wait_for_event("the error", |event| is(event, "file_error"));
    leech.wait_for_event("the pause", |event| event["to"] == "paused");
    assert!(!folder.join("large.bin").exists(), "it is not made anew behind the user's back");
    leech.signal(Signal::USR2);
    leech.wait_for_event("everything", |event| is(event, "complete"));
    fixture.assert_complete(&folder);
    leech.terminate();
    assert_eq!(leech.wait_for_code(), Some(0), "{}", leech.story());
}

/// What another program may do to a file, and what that is called.
type Change = (&'static str, fn(&Path));

fn changes() -> [Change; 5] {
    [
        ("changed", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"another program", 70_000).unwrap();
        }),
        ("cut", |path| fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap()),
        ("lengthened", |path| {
            let mut file = fs::File::options().append(true).open(path).unwrap();
            std::io::Write::write_all(&mut file, b"another program").unwrap();
        }),
        ("replaced", |path| {
            let length = fs::metadata(path).unwrap().len() as usize;
            fs::write(path.with_extension("new"), vec![7; length]).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("touched", |path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }),
    ]
}

fn changed_seed() {
    let fixture = Fixture::single(1024 * 1024, NOBODY, 67);
    for (what, change) in changes() {
        let folder = fixture.full_folder(what);
        let mut seed = Btget::tell(&fixture, &folder, &[]);
        seed.wait_for_event("seeding", |event| is(event, "seeding"));
        change(&folder.join("large.bin"));
        seed.terminate();
        assert_eq!(seed.wait_for_code(), Some(7), "{what}: {}", seed.story());
        let reason = summary(&seed)["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("large.bin was changed by another program"), "{what}: {reason}");
        let right = fixture.right_pieces(&folder).iter().filter(|right| **right).count();
        let mut next = Btget::tell(&fixture, &folder, &["--stall-timeout", "1s", "--no-seed"]);
        let code = if right == fixture.pieces() { 0 } else { 5 };
        assert_eq!(next.wait_for_code(), Some(code), "{what}: {}", next.story());
        assert_eq!(read_and_right(&next), right, "{what}: {}", next.story());
    }
}

fn changed_while_paused() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(2 * 1024 * 1024, &tracker.url(), 68);
    let _seed = seed(&tracker, &fixture, "1M");
    for (what, change) in changes() {
        let folder = fixture.empty_folder(what);
        let mut leech = leech_at_work(&fixture, &folder);
        leech.signal(Signal::USR1);
        leech.wait_for_event("the pause", |event| event["to"] == "paused");
        change(&folder.join("large.bin"));
        leech.terminate();
        let code = leech.wait_for_code();
        // What was written to a file that is not there any more is lost, unless it was synced before.
        let is_lost = what == "replaced" && code == Some(17);
        assert!(code == Some(7) || is_lost, "{what}: {}", leech.story());
        let right = fixture.right_pieces(&folder).iter().filter(|right| **right).count();
        let mut next = Btget::tell(&fixture, &folder, &["--no-seed"]);
        assert_eq!(next.wait_for_code(), Some(0), "{what}: {}", next.story());
        assert_eq!(read_and_right(&next), right, "{what}: {}", next.story());
        fixture.assert_complete(&folder);
    }
}

fn changed_download() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(2 * 1024 * 1024, &tracker.url(), 69);
    let _seed = seed(&tracker, &fixture, "1M");
    for (what, change) in changes() {
        let folder = fixture.empty_folder(what);
        let mut leech = leech_at_work(&fixture, &folder);
        change(&folder.join("large.bin"));
        if what == "replaced" {
            // What is written to the file that was there would be lost.
            leech.wait_for_event("the error", |event| is(event, "file_error"));
            leech.signal(Signal::USR2);
        } else {
            leech.wait_for_event("a warning", |event| is(event, "file_warning"));
        }
        leech.wait_for_event("everything", |event| is(event, "complete"));
        leech.terminate();
        assert_eq!(leech.wait_for_code(), Some(0), "{what}: {}", leech.story());
        let events = leech.events();
        assert_eq!(events.iter().filter(|event| is(event, "complete")).count(), 1, "{what}");
        fixture.assert_complete(&folder);
    }
}

fn uploaded_before() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(512 * 1024, &tracker.url(), 70);
    let folder = fixture.full_folder("first");
    let mut seed = Btget::tell(&fixture, &folder, &[]);
    seed.wait_for_event("the tracker", |event| is(event, "tracker_success"));
    Btget::tell(&fixture, &fixture.empty_folder("leech"), &["--no-seed"]).wait_for_success();
    seed.terminate();
    assert_eq!(seed.wait_for_code(), Some(0), "{}", seed.story());
    assert!(summary(&seed)["uploaded"].as_u64().unwrap() >= fixture.size());
    let uploaded = |code| {
        let mut next = Btget::tell(&fixture, &folder, &["--stall-timeout", "1s", "--no-seed"]);
        assert_eq!(next.wait_for_code(), Some(code), "{}", next.story());
        assert_eq!(summary(&next)["uploaded"], 0, "in this run");
        summary(&next)["total_uploaded"].as_u64().unwrap()
    };
    assert!(uploaded(0) >= fixture.size(), "it goes on from what was");
    fs::remove_file(folder.join("large.bin")).unwrap();
    assert_eq!(uploaded(5), 0);
}

fn closed_when_complete() {
    let tracker = Tracker::start();
    let program = [b"#!/bin/sh\nexit 0\n".as_slice(), &vec![b'#'; 300_000]].concat();
    let fixture = Fixture::of("program", vec![("", program)], &tracker.url());
    let _seed = seed(&tracker, &fixture, "8M");
    let folder = fixture.empty_folder("leech");
    let mut leech = Btget::tell(&fixture, &folder, &[]);
    leech.wait_for_event("everything", |event| is(event, "complete"));
    let path = folder.join("program");
    let mut mode = fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    fs::set_permissions(&path, mode).unwrap();
    assert!(Command::new(&path).status().unwrap().success());
}

fn moved_file() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(4 * 1024 * 1024, &tracker.url(), 62);
    let _seed = seed(&tracker, &fixture, "2M");
    let folder = fixture.empty_folder("leech");
    let mut leech = Btget::tell(&fixture, &folder, &["--no-seed"]);
    leech.wait_for_event("a piece", is_fetched);
    fs::rename(folder.join("large.bin"), folder.join("moved")).unwrap();
    fs::create_dir(folder.join("large.bin")).unwrap();
    assert_eq!(leech.wait_for_code(), Some(17), "{}", leech.story());
    assert!(resume_file(&folder).is_none());
    assert!(fs::metadata(folder.join("large.bin")).unwrap().is_dir());
}

fn moved_basedir() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(4 * 1024 * 1024, &tracker.url(), 63);
    let _seed = seed(&tracker, &fixture, "2M");
    let above = fixture.empty_folder("above");
    let folder = above.join("leech");
    fs::create_dir(&folder).unwrap();
    let mut leech = Btget::tell(&fixture, &folder, &["--no-seed"]);
    leech.wait_for_event("a piece", is_fetched);
    fs::rename(&folder, above.join("moved")).unwrap();
    assert_eq!(leech.wait_for_code(), Some(17), "{}", leech.story());
    assert!(!folder.join("large.bin").exists());
}
