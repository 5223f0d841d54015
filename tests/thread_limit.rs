//! Where no more threads can be had: in a container with a limit, under `ulimit -u`.
//!
//! Has a main of its own, to report what the machine does not let it do as ignored.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

use support::clients::Btget;
use support::events::is;
use support::fixture::{Fixture, Shape};
use support::system::{is_root, trial};

/// A user that nobody else is, so that the limit counts our threads alone.
const USER: u32 = 54_321;

fn main() -> ExitCode {
    let trials: Vec<Trial> = vec![
        trial("too_few_threads_for_a_transfer_are_told_and_are_1", is_root(), transfer),
        trial("too_few_threads_for_a_check_are_told_or_do_not_matter", is_root(), check),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A folder that anybody may write to, with a copy of the program that anybody may run.
fn open(place: &Path) {
    fs::copy(Btget::program(), place.join("btget")).unwrap();
    for path in [place.to_owned(), place.join("btget")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
}

/// Runs it with at most so many threads, until its end.
fn run(fixture: &Fixture, folder: &Path, threads: usize, options: &[&str]) -> (Btget, i32) {
    let place = fixture.torrent().parent().unwrap().to_owned();
    let mut command = Command::new("sh");
    let text = format!("ulimit -u {threads} 2>/dev/null || ulimit -p {threads}; exec \"$0\" \"$@\"");
    command.args(["-c", &text]).arg(place.join("btget")).arg(fixture.torrent());
    command
        .args(["--json", "--no-lsd", "--bind", "127.0.0.1", "--state-dir", "", "--basedir"])
        .arg(folder)
        .args(options);
    command.uid(USER).gid(USER).env_remove("HOME").env_remove("XDG_STATE_HOME").current_dir("/");
    let mut process = Btget::run(&mut command);
    let code = process.wait_for_code().expect("no signal ends it");
    (process, code)
}

/// All that it said is in order, whatever came of it.
fn assert_told(process: &Btget, code: i32) {
    assert!(!process.story().contains("panicked"), "{}", process.story());
    let summaries: Vec<_> = process.events().into_iter().filter(|event| is(event, "summary")).collect();
    assert_eq!(summaries.len(), 1, "{}", process.story());
    assert_eq!(summaries[0]["exit_code"], code, "{}", process.story());
    if code == 1 {
        let said = |line: &String| line.starts_with("error: ") && line.contains("cannot start a thread");
        assert!(process.lines().iter().any(said), "{}", process.story());
    }
}

fn transfer() {
    let fixture = Fixture::new(Shape::Single, "http://127.0.0.1:9/announce", 71);
    let folder = fixture.empty_folder("leech");
    open(fixture.torrent().parent().unwrap());
    open(&folder);
    for threads in 1..=9 {
        let (process, code) = run(&fixture, &folder, threads, &["--no-seed", "--stall-timeout", "1s"]);
        assert_eq!(code, 1, "{threads}: {}", process.story());
        assert_told(&process, code);
    }
}

fn check() {
    let fixture = Fixture::new(Shape::Single, "http://127.0.0.1:9/announce", 72);
    let folder = fixture.full_folder("full");
    open(fixture.torrent().parent().unwrap());
    open(&folder);
    for threads in 1..=6 {
        let (process, code) = run(&fixture, &folder, threads, &["--hashcheck-only"]);
        assert!([0, 1].contains(&code), "{threads}: {}", process.story());
        assert_told(&process, code);
    }
}
