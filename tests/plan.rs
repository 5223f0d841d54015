//! `--plan`: what it says of what would be done, its exit codes, and that it does nothing of it.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, ExitCode};

use btget::internals::hash::sha1;
use libtest_mimic::Arguments;
use serde_json::{Value, json};

use support::crafted::{Bench, Item, dict, info, tree};
use support::system::{assert_reads_alone, can_mount, can_trace, script, trial};

fn main() -> ExitCode {
    let tests: [(&str, bool, fn()); 9] = [
        ("what_is_there_is_counted_and_nothing_is_made", true, counted),
        ("the_same_is_told_to_people", true, told_to_people),
        ("what_resume_data_vouch_for_is_not_read_again", true, resumed),
        ("it_ends_as_the_transfer_would", true, ends_alike),
        ("names_that_are_changed_are_told_with_the_reason", true, names_changed),
        ("two_torrents_that_write_to_one_path_are_told", true, taken),
        ("of_a_magnet_link_peers_are_asked_what_it_is", true, of_magnet),
        ("a_disk_that_is_too_small_is_told_before_it_is_full", can_mount(), too_small),
        ("it_writes_nothing_and_opens_no_socket", can_trace(), traced),
    ];
    let trials = tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

const PIECE: usize = 16 * 1024;

/// Files at piece borders and not.
fn bench() -> Bench {
    Bench::of(PIECE, &[Item::new("a", 4 * PIECE), Item::new("b", 3 * PIECE + 100), Item::new("c", PIECE)])
}

/// What `--plan --json` says, and the exit code.
fn plan(bench: &Bench, folder: &Path, options: &[&str]) -> (Value, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    command.args(bench.arguments(folder, &[&["--plan", "--json"], options].concat()));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let plan = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let code = output.status.code().unwrap();
    assert_eq!(code == 0, said.is_empty(), "any exit but 0 leaves a line: {said}");
    (plan, code)
}

fn counted() {
    let bench = bench();
    let (nothing, code) = plan(&bench, &bench.place("new/deep"), &[]);
    assert_eq!((code, &nothing["makes_basedir"]), (0, &json!(true)));
    assert_eq!(nothing["bytes_to_fetch"], json!(8 * PIECE + 100));
    assert_eq!(nothing["room_needed"], nothing["bytes_to_fetch"]);
    assert!(!bench.place("new").exists());

    let folder = bench.full_folder("here");
    let mut data = bench.data(1).to_vec();
    data[PIECE] ^= 1;
    fs::write(bench.path(&folder, 1), &data).unwrap();
    fs::remove_file(bench.path(&folder, 3)).unwrap();
    fs::write(bench.path(&folder, 2), [bench.data(2), b"a tail"].concat()).unwrap();
    let before = tree(&folder);
    let (some, code) = plan(&bench, &folder, &["--overwrite"]);
    assert_eq!(code, 0, "{some}");
    assert_eq!((&some["have"], &some["corrupt"]), (&json!(["0", "2-6"]), &json!(["1"])));
    // The last 100 bytes of b share a piece with c, and are there.
    assert_eq!(some["missing"], json!(["1", "7-8"]));
    assert_eq!(some["files"][1]["missing"], json!(100));
    assert_eq!(
        some["files"][2],
        json!({
            "number": 3, "path": bench.path(&folder, 3), "length": PIECE, "wanted": true, "missing": PIECE
        })
    );
    assert_eq!(some["too_long"][0]["size"], json!(3 * PIECE + 106));
    assert_eq!(some["too_long"][0]["cut"], json!(true));

    let (selected, _) = plan(&bench, &folder, &["--files", "3", "--overwrite"]);
    assert_eq!(selected["bytes_to_fetch"], json!(PIECE + 100));
    assert_eq!(
        (&selected["part_file"]["added"], &selected["part_file"]["size"]),
        (&json!(100), &json!(null))
    );
    assert_eq!(selected["files"][0]["wanted"], json!(false));
    assert_eq!(tree(&folder), before);
    assert!(!bench.place("here.state").exists());
}

fn told_to_people() {
    let bench = bench();
    let folder = bench.empty_folder("here");
    fs::create_dir_all(bench.path(&folder, 2)).unwrap();
    let (code, said) = bench.run(&folder, &["--plan", "--tracker", "http://me:secret@tracker.test/x"]);
    assert_eq!(code, 17, "{said}");
    for line in [
        "missing     128 KiB (131172 bytes)",
        "in the way  cannot write ",
        "result      it cannot come to its end (exit code 17)",
        "tracker     tier 2: http://***@tracker.test/x",
        "files       3 wanted, of which 3 lack data",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("t: cannot write ") && !said.contains("secret"), "{said}");
}

fn resumed() {
    let bench = bench();
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("here");
    let (code, said) = bench.run(&folder, &["--no-seed", "--files", "1-2"]);
    assert_eq!(code, 0, "{said}");
    let before = tree(&folder);
    // Of pieces that nobody reads a changed byte is not seen; that of a piece that is read is.
    let (vouched, code) = plan(&bench, &folder, &[]);
    assert_eq!((code, &vouched["missing"]), (0, &json!(["8"])), "{vouched}");
    assert!(vouched["part_file"]["size"].as_u64().unwrap() > 0);
    assert_eq!(vouched["bytes_to_fetch"], json!(100));
    let (read, _) = plan(&bench, &folder, &["--full-check", "--state-dir", ""]);
    assert_eq!(read["missing"], json!(["8"]), "the part file is read, too");
    assert_eq!(tree(&folder), before);
}

/// A plan and a transfer of the same end alike.
fn ends_alike() {
    let bench = bench();
    let _seed = bench.seed(&[]);
    type Spoil = fn(&Bench, &Path);
    let cases: [(&str, i32, Spoil); 6] = [
        ("foreign", 13, |bench, folder| {
            fs::create_dir_all(folder.join("t")).unwrap();
            fs::write(bench.path(folder, 1), "somebody's diary").unwrap();
        }),
        ("folder", 17, |bench, folder| fs::create_dir_all(bench.path(folder, 3)).unwrap()),
        ("link", 17, |_, folder| symlink("/nowhere", folder.join("t")).unwrap()),
        ("a file where the folder belongs", 17, |_, folder| fs::write(folder.join("t"), "").unwrap()),
        ("some", 17, |bench, folder| {
            let hash = sha1(&bench.metainfo().info_bytes);
            fs::create_dir(folder.join(format!(".{hash}.parts"))).unwrap();
        }),
        ("a basedir that leads nowhere", 17, |_, folder| {
            fs::remove_dir(folder).unwrap();
            symlink("nowhere", folder).unwrap();
        }),
    ];
    for (label, code, spoil) in cases {
        let folder = bench.empty_folder(label);
        spoil(&bench, &folder);
        let look = || folder.exists().then(|| tree(&folder));
        let before = look();
        // What is not wanted of a piece that is goes to the part file.
        let options = if label == "some" { &["--no-seed", "--files", "2"][..] } else { &["--no-seed"] };
        let (planned, planned_code) = plan(&bench, &folder, options);
        assert_eq!((planned_code, &planned["exit_code"]), (code, &json!(code)), "{label}: {planned}");
        assert_eq!(look(), before, "{label}");
        let (found, said) = bench.run(&folder, options);
        assert_eq!(found, code, "{label}: {said}");
        // Of several the transfer meets any first.
        let reasons =
            planned["obstacles"].as_array().unwrap().iter().map(|it| it["reason"].as_str().unwrap());
        assert!(reasons.clone().any(|reason| said.contains(reason)), "{label}: {planned}: {said}");
    }
}

fn names_changed() {
    let long = format!("{}.txt", "n".repeat(300));
    let paths = ["One", "one", "a\u{1b}b", &long, "fr\u{e9}", "fre\u{301}"];
    let items: Vec<Item> = paths.iter().map(|path| Item::new(path, 100)).collect();
    let bench = Bench::of(PIECE, &items);
    let (planned, code) = plan(&bench, &bench.place("here"), &[]);
    assert_eq!(code, 0, "{planned}");
    let notes: Vec<&str> =
        planned["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    for reason in ["differs only in case", "cannot be in a file name", "longer than 255 bytes"] {
        assert!(notes.iter().any(|note| note.contains(reason)), "{reason}: {notes:?}");
    }
    assert_eq!(notes.len(), 4, "{notes:?}");

    // What stands there in the other normal form is used as it stands.
    let bench = Bench::of(PIECE, &[Item::new("fr\u{e9}", 100)]);
    let folder = bench.empty_folder("other form");
    fs::create_dir(folder.join("t")).unwrap();
    fs::write(folder.join("t/fre\u{301}"), bench.data(1)).unwrap();
    let (planned, _) = plan(&bench, &folder, &[]);
    assert_eq!(planned["missing_size"], json!(0), "{planned}");
    assert!(planned["notes"][0].as_str().unwrap().contains("other normal form"), "{planned}");
}

fn taken() {
    let bench = bench();
    let folder = bench.empty_folder("here");
    // Another torrent, with a file of the same name.
    let items = [Item::new("a", 5 * PIECE)];
    let other = dict(&[("info", info(b"t", PIECE, &items, false))]);
    fs::write(bench.place("other.torrent"), other).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    command.args(bench.arguments(&folder, &["--plan", "--json"])).arg(bench.place("other.torrent"));
    let output = command.output().unwrap();
    let plans: Vec<Value> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().map(Result::unwrap).collect();
    assert_eq!(output.status.code(), Some(11));
    assert_eq!((&plans[0]["exit_code"], &plans[1]["exit_code"]), (&json!(0), &json!(11)));

    // Another process has it.
    let mut holder = bench.btget(&folder, &["--state", "paused", "--json"]);
    holder.wait_for_event("the end of the check", |event| event["event"] == "hashcheck_finished");
    let (planned, code) = plan(&bench, &folder, &[]);
    assert_eq!(code, 11, "{planned}");
    holder.assert_alive();
    drop(holder);
    let (planned, code) = plan(&bench, &folder, &[]);
    assert_eq!(code, 0, "what a killed one leaves is of no account: {planned}");
}

fn of_magnet() {
    let bench = bench();
    let mut seed = bench.seed(&["--json"]);
    let told = seed.wait_for_event("where it listens", |event| event["event"] == "listen_success");
    let link = format!(
        "magnet:?xt=urn:btih:{}&x.pe={}&so=1",
        bench.metainfo().info_hash,
        told["address"].as_str().unwrap()
    );
    let mut arguments = bench.arguments(&bench.place("here"), &["--plan", "--json"]);
    arguments[0] = link;
    let output = Command::new(env!("CARGO_BIN_EXE_btget")).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let planned: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(planned["bytes_to_fetch"], json!(4 * PIECE + 100 - 100));
    assert_eq!(planned["files"][1]["wanted"], json!(true));
    assert!(!bench.place("here").exists() && !bench.place("here.state").exists());
}

fn too_small() {
    let bench = Bench::of(PIECE, &[Item::new("a", 2_000_000), Item::new("b", 500_000)]);
    let mount = bench.empty_folder("mount");
    let script = script(
        "mount -t tmpfs -o size=1m tmpfs \"$1\"; run() { code=0; \"$btget\" \"$@\" --plan --json || code=$?; echo $code; }
         run \"$2\" -d \"$1\" --state-dir '' >> \"$3\"; run \"$2\" -d \"$1\" --state-dir '' --files 2 >> \"$3\"; ls -A \"$1\" >> \"$3\"
         mount -t tmpfs -o nr_inodes=2 tmpfs \"$1\"; run \"$2\" -d \"$1\" --state-dir '' >> \"$3\"",
        &[&mount, &bench.torrent(), &bench.place("told")],
    )
    .output()
    .unwrap();
    let said = String::from_utf8_lossy(&script.stderr);
    let told = fs::read_to_string(bench.place("told")).unwrap();
    let codes: Vec<&str> = told.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(codes, ["9", "0", "9"], "{told}{said}");
    assert!(said.contains("disk full; free "), "{said}");
}

fn traced() {
    let bench = bench();
    let folder = bench.full_folder("here");
    fs::remove_file(bench.path(&folder, 1)).unwrap();
    // Resume data and another process's claims are there to be read.
    let (code, said) = bench.run(&folder, &["--no-seed", "--files", "2-3"]);
    assert_eq!(code, 0, "{said}");
    let trace = bench.place("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=%file,%network,%desc", "-o"]).arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_btget")).args(bench.arguments(&folder, &["--plan"]));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = fs::read_to_string(trace).unwrap();
    assert!(calls.contains("t/b") && calls.contains(".resume"), "the trace shows what it does");
    assert_reads_alone(&calls);
}
