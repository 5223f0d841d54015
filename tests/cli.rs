//! The command as people and scripts meet it: options, messages, reports, signals, exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use btget::internals::hash::sha1;
use btget::metainfo::create::{Content, NewTorrent};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PIECE: u32 = 16384;

fn btget(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    // Other tests seed the same torrent.
    command.args(["--no-lsd", "--no-dht", "--no-port-map"]);
    command.current_dir(dir).args(args).env("XDG_STATE_HOME", dir.join("state")).env("NO_COLOR", "1");
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    btget(dir, args).output().expect("btget runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the output is UTF-8")
}

/// Writes `data/set/a.txt`, `data/set/sub/b.bin` and `set.torrent`; the files meet in piece 3.
fn torrent(dir: &Path, trackers: &[Vec<String>]) {
    let files = [("a.txt", vec![b'a'; 50_000]), ("sub/b.bin", vec![b'b'; 60_000])];
    let all: Vec<u8> = files.iter().flat_map(|(_, data)| data.clone()).collect();
    let hashes: Vec<btget::internals::hash::Sha1> = all.chunks(PIECE as usize).map(sha1).collect();
    for (path, data) in &files {
        let path = dir.join("data/set").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
    let torrent = NewTorrent {
        name: "set",
        content: Content::Folder(&[("a.txt", 50_000), ("sub/b.bin", 60_000)]),
        piece_length: PIECE,
        piece_hashes: &hashes,
        trackers,
        private: false,
    };
    fs::write(dir.join("set.torrent"), torrent.encode()).unwrap();
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    torrent(dir.path(), &[]);
    dir
}

#[test]
fn help_and_version_go_to_stdout() {
    let dir = folder();
    for (args, part) in [
        (["--help"], "Exit codes:"),
        (["-h"], "--help"),
        (["--version"], concat!("btget ", env!("CARGO_PKG_VERSION"))),
        (["-V"], "btget"),
    ] {
        let output = run(dir.path(), &args);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(part) && output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn wrong_options_are_refused_before_anything_is_opened() {
    let dir = folder();
    for (args, parts) in [
        (&[][..], &["TORRENT"][..]),
        (&["--nonsense", "x"], &["--nonsense"]),
        (&["--port", "70000", "x"], &["'70000'", "--port", "0 to 65535", "e.g. 6952"]),
        (&["--max-download-rate", "fast", "x"], &["'fast'", "e.g. 500K"]),
        (&["--stall-timeout", "soon", "x"], &["'soon'", "10m"]),
        (&["--priority", "1=many", "x"], &["'many'", "e.g. 3=10"]),
        (&["--dir=data", "x"], &["'--dir'", "-d DIR"]),
        (&["-o", "name", "x"], &["'-o'", "-d DIR"]),
        (&["--list", "x"], &["'--list'", "--show"]),
        (&["x", "--verify"], &["'--verify'", "--hashcheck-only"]),
        (
            &["--hashcheck-only", "--no-seed", "x"],
            &["--hashcheck-only", "--no-seed", "leave one of them out"],
        ),
        (&["--pieces", "1", "x"], &["--hashcheck-only"]),
        (&["-", "-"], &["'-'", "twice"]),
        (&["set.torrent", "--files", "9"], &["no file 9", "2 files", "--show"]),
        (&["set.torrent", "--files", "*.iso", "--show"], &[]),
        (&["set.torrent", "--hashcheck-only", "--pieces", "7"], &["no piece 7", "7 pieces"]),
    ] {
        let output = run(dir.path(), args);
        // `--show` shows all there is.
        let code = if args.contains(&"--show") { 0 } else { 2 };
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        for part in parts {
            assert!(text(&output.stderr).contains(part), "{args:?}: {}", text(&output.stderr));
        }
        assert!(code == 0 || output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn what_is_no_torrent_is_refused_with_its_name_and_the_reason() {
    let dir = folder();
    let valid = fs::read(dir.path().join("set.torrent")).unwrap();
    fs::write(dir.path().join("cut.torrent"), &valid[..valid.len() - 3]).unwrap();
    fs::write(dir.path().join("evil\x1b[2J.torrent"), "hello").unwrap();
    fs::write(dir.path().join("key.torrent"), "d4:infod6:lengthi-1e4:name1:a12:piece lengthi1e6:pieces0:ee")
        .unwrap();
    for (name, parts) in [
        ("cut.torrent", &["cannot read cut.torrent: damaged: ", "; fetch it again\n"][..]),
        ("evil\x1b[2J.torrent", &["evil\\u{1b}[2J.torrent"]),
        ("key.torrent", &["key.torrent", "length", "negative"]),
        ("nowhere.torrent", &["nowhere.torrent: no such file"]),
        ("data", &["data: it is a folder"]),
        ("/dev/zero", &["/dev/zero"]),
    ] {
        // A valid one beside it is seen to all the same.
        let args = [name, "set.torrent", "-d", "data", "--no-seed", "--no-lsd", "--bind", "127.0.0.1"];
        let output = run(dir.path(), &args);
        assert_eq!(output.status.code(), Some(26), "{name}");
        assert!(parts.iter().all(|part| text(&output.stderr).contains(part)), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains('\x1b') && output.stdout.is_empty());
        assert!(text(&output.stderr).contains("set  already there"), "{}", text(&output.stderr));
        let alone = run(dir.path(), &[name, "-d", "new"]);
        assert_eq!(alone.status.code(), Some(26), "{name}");
        assert!(!dir.path().join("new").exists());
    }
}

#[test]
fn a_torrent_can_come_from_standard_input() {
    let dir = folder();
    let mut child = btget(dir.path(), &["-", "--show", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(dir.path().join("set.torrent")).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["name"], &shown["num_files"]), (&"set".into(), &2.into()));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_check_says_by_report_and_exit_code_what_is_wrong() {
    let dir = folder();
    let check = |args: &[&str]| {
        let output = run(dir.path(), &[&["set.torrent", "-d", "data", "--hashcheck-only"], args].concat());
        (output.status.code(), text(&output.stdout).to_owned())
    };
    let (code, report) = check(&[]);
    assert_eq!(code, Some(0));
    assert!(report.starts_with("ok ") && report.lines().last().unwrap().contains("2 ok"), "{report}");

    fs::remove_file(dir.path().join("data/set/sub/b.bin")).unwrap();
    let (code, report) = check(&[]);
    assert_eq!(code, Some(7));
    assert!(report.contains("missing"), "{report}");
    assert_eq!(check(&["--pieces", "0-2"]).0, Some(0));

    let mut data = vec![b'a'; 50_000];
    data[20_000] = b'x';
    fs::write(dir.path().join("data/set/a.txt"), data).unwrap();
    let (code, report) = check(&[]);
    assert_eq!(code, Some(32));
    assert!(report.contains("corrupt") && report.contains("bytes 16384-32767"), "{report}");
    assert_eq!(check(&["--files", "b.bin"]).0, Some(7));
    assert!(!dir.path().join("state").exists(), "a check leaves nothing behind");
    assert!(!dir.path().join("data/set/sub/b.bin").exists());
}

#[test]
fn the_check_as_json_is_events_alone_with_the_summary_last() {
    let dir = folder();
    let output = run(dir.path(), &["set.torrent", "-d", "data", "--hashcheck-only", "--json"]);
    let events: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(events.iter().all(|e| e["v"] == 1 && e["time"].is_string() && e["message"].is_string()));
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    let counts = ["hashcheck_started", "piece_hash_passed", "file_report", "hashcheck_finished"].map(named);
    assert_eq!(counts, [1, 7, 2, 1]);
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["exit_code"], &last["left"]),
        (&"summary".into(), &0.into(), &0.into())
    );
    assert_eq!(last["have"], serde_json::json!(["0-6"]));
}

/// A running btget; ended when it goes out of scope.
struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(dir: &Path, args: &[&str]) -> Running {
        let local = ["set.torrent", "--no-lsd", "--bind", "127.0.0.1", "--progress", "lines"];
        let mut command = btget(dir, &[&local[..], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running { child, stderr }
    }

    /// Reads lines until one holds `part`; the test hangs and is ended from outside if none does.
    fn wait_for(&mut self, part: &str) -> String {
        let mut all = String::new();
        loop {
            let start = all.len();
            assert!(self.stderr.read_line(&mut all).unwrap() > 0, "no '{part}' in:\n{all}");
            if all[start..].contains(part) {
                return all;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends a signal and waits for the end: exit code, stdout, and what is left of stderr.
    fn end_by(mut self, signal: Signal) -> (Option<i32>, String, String) {
        self.signal(signal);
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stderr.read_to_string(&mut stderr).unwrap();
        if let Some(mut out) = self.child.stdout.take() {
            out.read_to_string(&mut stdout).unwrap();
        }
        (self.child.wait().unwrap().code(), stdout, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn signals_pause_start_and_stop() {
    let dir = folder();
    for (signal, data, code, last) in [
        (Signal::INT, "data", 0, "set  already there and verified, 107 KiB"),
        (Signal::TERM, "new", 7, "set  0.0% of 107 KiB there"),
        (Signal::HUP, "data", 0, "set  already there and verified, 107 KiB"),
    ] {
        let mut running = Running::start(dir.path(), &["-d", data]);
        running.wait_for(if code == 0 { "set: seeding" } else { "set: downloading" });
        running.signal(Signal::USR1);
        running.wait_for("paused");
        running.signal(Signal::USR2);
        running.wait_for("started");
        let (exit, stdout, stderr) = running.end_by(signal);
        assert_eq!((exit, stdout.as_str()), (Some(code), ""), "{stderr}");
        assert!(stderr.contains(last), "{stderr}");
    }
}

#[test]
fn what_is_complete_leaves_at_once_if_told_so() {
    let dir = folder();
    let args = ["set.torrent", "set.torrent", "--no-lsd", "--bind", "127.0.0.1", "-d", "data", "--no-seed"];
    let output = run(dir.path(), &args);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stderr).contains("set.torrent is given twice; it is taken once"),
        "{}",
        text(&output.stderr)
    );
    assert!(
        text(&output.stderr).contains("set  already there and verified, 107 KiB"),
        "{}",
        text(&output.stderr)
    );
    let quiet = run(dir.path(), &[&args[1..], &["-q"]].concat());
    assert_eq!((quiet.status.code(), text(&quiet.stderr)), (Some(0), ""));
}

#[test]
fn the_last_of_repeated_options_wins() {
    let dir = folder();
    let check = |args: &[&str]| {
        let output = run(dir.path(), &[&["--hashcheck-only", "set.torrent"], args].concat());
        (output.status.code(), text(&output.stdout).to_owned())
    };
    let (code, quiet) =
        check(&["-d", "nowhere", "-d", "data", "-v", "-q", "-q", "--color", "always", "--color", "never"]);
    assert_eq!((code, quiet.as_str()), (Some(0), ""));
    let (code, verbose) = check(&["-d", "data", "-qv"]);
    assert!(code == Some(0) && verbose.contains("every piece is right"), "{verbose}");
    // Lists are added up.
    let (_, both) =
        check(&["-d", "data", "--files", "1", "--files", "2", "--pieces", "0", "--pieces", "0-6"]);
    assert!(both.contains("a.txt") && both.contains("b.bin"), "{both}");
    let args =
        ["set.torrent", "-d", "data", "--no-lsd", "--bind", "127.0.0.1", "--seed-time", "1h", "--no-seed"];
    assert_eq!(run(dir.path(), &args).status.code(), Some(0));
}

#[test]
fn whatever_does_not_end_well_leaves_one_line_however_quiet() {
    let dir = folder();
    let output = run(dir.path(), &["--hashcheck-only", "set.torrent", "-d", ".", "-q"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(7), "set: some data are missing (exit code 7)\n")
    );
    let args = ["set.torrent", "--no-lsd", "--bind", "127.0.0.1", "-d", "new", "--stall-timeout", "1s", "-q"];
    let output = run(dir.path(), &args);
    assert_eq!(output.status.code(), Some(5));
    let said = text(&output.stderr);
    assert!(said.lines().count() == 1 && said.contains("no new data for 1 s (exit code 5)"), "{said}");
    let none = run(dir.path(), &[&args[..8], &["--progress", "none"]].concat());
    assert!(text(&none.stderr).contains("(exit code 5)"), "{}", text(&none.stderr));
}

/// A check opens no socket, so it asks nobody what a magnet link is.
#[test]
fn a_link_is_not_checked_before_it_is_known_what_it_is() {
    let dir = folder();
    let link = format!("magnet:?xt=urn:btih:{}", "ab".repeat(20));
    let output = run(dir.path(), &["--hashcheck-only", &link, "-d", "data"]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("cannot check abab") && said.contains("--save-torrent"), "{said}");
    // The others are.
    let output = run(dir.path(), &["--hashcheck-only", &link, "set.torrent", "-d", "data"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("set: every piece is right"), "{}", text(&output.stdout));
    assert!(!dir.path().join("state").exists());
}

#[test]
fn with_json_nothing_but_errors_is_said_beside_it() {
    let dir = folder();
    let args = ["set.torrent", "--no-lsd", "--bind", "127.0.0.1", "-d", "data", "--no-seed", "--json"];
    let output = run(dir.path(), &args);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert!(text(&output.stdout).lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn a_bad_torrent_stops_none_of_the_others() {
    let dir = folder();
    fs::write(dir.path().join("bad.torrent"), "d4:infodee").unwrap();
    let all = ["bad.torrent", "set.torrent", "nowhere.torrent", "-d", "data"];
    for mode in [&["--hashcheck-only"][..], &["--no-seed", "--no-lsd", "--bind", "127.0.0.1"], &["--show"]] {
        let output = run(dir.path(), &[mode, if mode == ["--show"] { &all[..3] } else { &all }].concat());
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(26), "{mode:?}: {stderr}");
        for bad in ["error: cannot read bad.torrent: ", "error: cannot read nowhere.torrent: "] {
            assert_eq!(stderr.matches(bad).count(), 1, "{mode:?}: {stderr}");
        }
        let done = ["every piece is right", "already there and verified", "info hash"];
        assert!(
            done.iter().any(|done| stdout.contains(done) || stderr.contains(done)),
            "{mode:?}: {stdout}{stderr}"
        );
    }
}

#[test]
fn a_mistaken_folder_is_told() {
    let dir = folder();
    let output = run(dir.path(), &["--hashcheck-only", "set.torrent", "-d", "dta"]);
    assert!(text(&output.stderr).contains("there is no folder dta"), "{}", text(&output.stderr));
    assert!(!dir.path().join("dta").exists());
    let output = run(dir.path(), &["--hashcheck-only", "set.torrent", "-d", "data/set"]);
    assert!(text(&output.stderr).contains("give the one above: -d "), "{}", text(&output.stderr));
    let args = ["set.torrent", "--no-lsd", "--bind", "127.0.0.1", "-d", "dta", "--stall-timeout", "1s"];
    let said = run(dir.path(), &args).stderr;
    assert!(text(&said).contains("there is no folder dta; it is made"), "{}", text(&said));
}

#[test]
fn a_check_of_some_pieces_does_not_speak_of_all() {
    let dir = folder();
    let output = run(dir.path(), &["--hashcheck-only", "set.torrent", "-d", "data", "--pieces", "0-2"]);
    let said = text(&output.stdout);
    assert!(said.contains("every piece that was checked is right (3 of 7 pieces)"), "{said}");
}

#[test]
fn events_end_with_the_summary_also_after_a_signal() {
    let dir = folder();
    let mut running =
        Running::start(dir.path(), &["-d", "data", "--json", "--events", "fatal", "--progress", "lines"]);
    running.wait_for("set: seeding");
    let (code, stdout, _) = running.end_by(Signal::TERM);
    assert_eq!(code, Some(0));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (stdout.lines().count(), &last["event"], &last["exit_code"]),
        (1, &"summary".into(), &0.into())
    );
}

#[test]
fn a_reader_that_goes_away_does_not_end_the_transfer() {
    let dir = folder();
    let mut running =
        Running::start(dir.path(), &["-d", "data", "--json", "--events", "debug", "--progress", "lines"]);
    drop(running.child.stdout.take());
    running.wait_for("set: seeding");
    running.signal(Signal::USR1);
    running.wait_for("paused");
    assert_eq!(running.end_by(Signal::INT).0, Some(0));
}

#[test]
fn the_same_signal_again_exits_at_once() {
    // A tracker that takes calls and says nothing, so that stopping takes its time.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = folder();
    torrent(dir.path(), &[vec![format!("http://{}/announce", silent.local_addr().unwrap())]]);
    let mut running = Running::start(dir.path(), &["-d", "data"]);
    running.wait_for("set: seeding");
    let (_call, _) = silent.accept().unwrap();
    running.signal(Signal::INT);
    running.wait_for("again exits at once");
    // Sooner, it would be the same request.
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert_eq!(running.end_by(Signal::INT).0, Some(130));
}

/// A program for hooks: writes what it gets to `FILE`, then ends with `CODE`.
fn hook(file: &str, code: u8) -> String {
    format!(
        "sh -c 'cat > \"$1\" && env | grep ^BTGET_ >> \"$1\"; printf \"%s\\n\" \"$2\" >> \"$1\"; exit {code}' hook {file} '$(touch owned) ; x'"
    )
}

#[test]
fn hooks_are_told_all_and_their_failure_becomes_the_exit_code() {
    let dir = folder();
    let (complete, error) = (hook("complete.txt", 0), hook("error.txt", 3));
    let hooks = ["--on-complete", &complete, "--on-error", &error];
    let hooks = [&["set.torrent", "--no-lsd", "--bind", "127.0.0.1"], &hooks[..]].concat();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();

    let output = run(dir.path(), &[&hooks[..], &["-d", "data", "--no-seed"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = read("complete.txt").expect("it was complete");
    let mut lines = said.lines();
    let summary: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!((&summary["event"], &summary["exit_code"]), (&"summary".into(), &0.into()));
    let path = fs::canonicalize(dir.path()).unwrap().join("data/set");
    let variables: Vec<&str> = lines.collect();
    for variable in [
        "BTGET_EVENT=complete",
        "BTGET_NAME=set",
        "BTGET_EXIT_CODE=0",
        "BTGET_DONE=110000",
        "BTGET_LEFT=0",
        &format!("BTGET_PATH={}", path.display()),
        &format!("BTGET_TORRENT={}", summary["torrent"].as_str().unwrap()),
    ] {
        assert!(variables.contains(&variable), "no {variable} in {variables:?}");
    }
    assert!(variables.contains(&"$(touch owned) ; x") && read("owned").is_none(), "no shell read it again");
    assert!(read("error.txt").is_none());

    fs::remove_file(dir.path().join("data/set/a.txt")).unwrap();
    let output = run(dir.path(), &[&hooks[..], &["-d", "data", "--hashcheck-only", "--json"]].concat());
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("--on-error"), "{}", text(&output.stderr));
    assert!(read("error.txt").unwrap().contains("BTGET_EXIT_CODE=7\n"));
    let last: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(last["exit_code"], 7, "the torrent's own");

    fs::write(dir.path().join("bad.torrent"), "no torrent").unwrap();
    let output = run(dir.path(), &["bad.torrent", "--on-error", "sh -c 'jq . > /dev/null 2>&1; exit 9'"]);
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
    let output = run(dir.path(), &["bad.torrent", "--on-error", "true"]);
    assert_eq!(output.status.code(), Some(26), "{}", text(&output.stderr));
}

#[test]
fn a_hook_learns_at_once_of_an_error_that_only_pauses() {
    let dir = folder();
    fs::create_dir_all(dir.path().join("new/set/a.txt")).unwrap();
    let mut running = Running::start(
        dir.path(),
        &["-d", "new", "--preallocate", "full", "--on-error", "sh -c 'echo hook $BTGET_EXIT_CODE'"],
    );
    running.wait_for("hook 17");
    assert_eq!(running.end_by(Signal::INT).0, Some(17));
}

/// The file under tests/snapshots with this name; written anew where `UPDATE_SNAPSHOTS` is set.
fn assert_snapshot(name: &str, output: &Output) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &output.stdout).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text(&output.stdout),
        "{} differs; if that is meant, run `UPDATE_SNAPSHOTS=1 cargo test --test cli` and commit it. It is now:\n{}",
        path.display(),
        text(&output.stdout)
    );
}

#[test]
fn short_help_fits_a_screen() {
    for args in [&["-h"][..], &["x.torrent", "--no-seed", "-h"]] {
        let help = run(folder().path(), args).stdout;
        let help = String::from_utf8(help).unwrap();
        assert!(help.starts_with("Download a torrent") && help.lines().count() <= 23, "{help}");
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    }
}

#[test]
fn help_and_show_are_as_committed() {
    let dir = folder();
    torrent(dir.path(), &[vec!["http://a.example/announce".into()], vec!["udp://b.example:80".into()]]);
    for (name, args) in [
        ("help.txt", &["--help"][..]),
        ("help_short.txt", &["-h"]),
        ("show.txt", &["--show", "set.torrent"]),
        ("show.json", &["--show", "--json", "set.torrent"]),
    ] {
        assert_snapshot(name, &run(dir.path(), args));
    }
}
