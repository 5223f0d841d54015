//! `--create`: what it makes, what it refuses, and that other makers of torrents make the same.

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use libtest_mimic::Arguments;
use serde_json::{Value, json};
use tempfile::TempDir;

use support::clients::{Btget, Client, is_in_path, ltmake};
use support::process::wait_until;
use support::system::{can_trace, is_root, trial};

fn main() -> ExitCode {
    let libtorrent = Client::Libtorrent.is_installed();
    let tests: [(&str, bool, fn()); 17] = [
        ("what_is_made_is_shown_and_found_right", true, made_and_checked),
        ("the_same_tree_gives_the_same_torrent", true, reproducible),
        ("all_that_is_asked_for_stands_in_it", true, details),
        ("a_torrent_on_standard_output_leaves_the_link_on_standard_error", true, to_stdout),
        ("json_is_one_object", true, as_json),
        ("nothing_that_is_there_is_written_over_unless_told", true, not_over),
        ("the_folder_here_has_its_own_name", true, here),
        ("what_cannot_be_shared_is_refused_with_the_way_out", true, refused),
        ("wrong_options_are_refused_before_anything_is_opened", true, wrong_options),
        ("empty_folders_and_lost_ones_are_told", true, told),
        ("the_magnet_link_of_any_torrent_is_shown", true, shown_magnet),
        ("what_this_user_cannot_read_is_told_before_anything_is_hashed", is_root(), unreadable),
        ("a_file_that_changes_meanwhile_is_told_and_nothing_is_written", can_trace(), changed),
        ("it_stops_when_told_and_writes_nothing", can_trace(), stopped),
        ("libtorrent_makes_the_same_of_odd_trees", libtorrent, as_libtorrent),
        ("libtorrent_loads_what_is_made_and_finds_it_right", libtorrent, for_libtorrent),
        ("mktorrent_makes_the_same", is_in_path("mktorrent"), as_mktorrent),
    ];
    let trials = tests.into_iter().map(|(name, possible, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

const PIECE: usize = 16 * 1024;

fn put(folder: &Path, path: &str, data: &[u8]) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, data).unwrap();
}

/// Bytes that no two places have alike.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

/// A folder `set` with files of all kinds of lengths and names.
fn odd_tree() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let set = dir.path().join("set");
    for (seed, (path, length)) in (0..).zip([
        ("a", 3 * PIECE),
        ("b", 5 * PIECE + 1),
        ("c/empty", 0),
        ("c/one", 1),
        ("c/sub/deep/er", 2 * PIECE - 1),
        ("c d", PIECE),
        (".hidden", 100),
        ("é", 7 * PIECE + 300),
        ("Zz", 40 * PIECE),
    ]) {
        put(&set, path, &noise(length, seed));
    }
    fs::copy(set.join("b"), set.join("twin of b")).unwrap();
    fs::set_permissions(set.join("c/one"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("sub/deep/er", set.join("c/link")).unwrap();
    symlink("c/sub", set.join("to folder")).unwrap();
    (dir, set)
}

/// Runs btget in a folder.
fn btget(folder: &Path, arguments: &[&str]) -> Output {
    Btget::command().current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes a torrent that must succeed; what it says on standard output.
fn create(folder: &Path, arguments: &[&str]) -> String {
    let output = btget(folder, &[&["--create"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Fails to make one; what it says on standard error, and the exit code. Nothing is left in the folder that was not there.
fn fails(folder: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let output = btget(folder, &[&["--create"], arguments].concat());
    let said = text(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {said}");
    assert_eq!(names(), before, "{arguments:?}: {said}");
    (said, output.status.code())
}

fn shown(folder: &Path, torrent: &str) -> Value {
    let output = btget(folder, &["--show", "--json", torrent]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn made_and_checked() {
    let (dir, _set) = odd_tree();
    for format in ["v1", "v2", "hybrid"] {
        let file = format!("{format}.torrent");
        let link = create(dir.path(), &["set", "-o", &file, "--format", format, "--piece-length", "16K"]);
        let torrent = shown(dir.path(), &file);
        let first = torrent["info_hash"].as_str().filter(|_| format != "v2");
        let second = torrent["info_hash_v2"].as_str().filter(|_| format != "v1");
        let hashes =
            [first.map(|hash| format!("btih:{hash}")), second.map(|hash| format!("btmh:1220{hash}"))];
        let topics: Vec<String> = hashes.iter().flatten().map(|hash| format!("xt=urn:{hash}")).collect();
        assert_eq!(topics.len(), 1 + usize::from(format == "hybrid"), "{torrent}");
        assert!(link.starts_with(&format!("magnet:?{}&", topics.join("&"))), "{link}");
        assert_eq!(link.lines().count(), 1);
        let check = btget(dir.path(), &["--hashcheck-only", &file]);
        assert!(check.status.success(), "{format}: {}{}", text(&check.stdout), text(&check.stderr));
    }
    // One file, without a name for the .torrent.
    let link = create(dir.path(), &["set/Zz"]);
    assert!(link.contains("&dn=Zz&xl=655360"), "{link}");
    let check = btget(dir.path(), &["--hashcheck-only", "Zz.torrent", "-d", "set"]);
    assert!(check.status.success(), "{}", text(&check.stderr));
}

fn reproducible() {
    let (dir, set) = odd_tree();
    let (other, copy) = odd_tree();
    // The same files, made in another order and at another time.
    fs::rename(copy.join("a"), other.path().join("aside")).unwrap();
    fs::rename(copy.join("c"), copy.join("d")).unwrap();
    fs::rename(copy.join("d"), copy.join("c")).unwrap();
    fs::rename(other.path().join("aside"), copy.join("a")).unwrap();
    for format in ["v1", "v2", "hybrid"] {
        create(dir.path(), &["set", "-o", format, "--format", format]);
        create(other.path(), &["./set/", "-o", format, "--format", format]);
        let bytes = fs::read(dir.path().join(format)).unwrap();
        assert!(bytes == fs::read(other.path().join(format)).unwrap(), "{format}");
        for key in ["created by", "creation date", "private", "mtime"] {
            assert!(!text(&bytes).contains(key), "{format}: {key}");
        }
    }
    put(&set, "new", b"x");
    create(dir.path(), &["set", "-o", "other"]);
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("other") != read("hybrid"));
}

fn details() {
    let (dir, _set) = odd_tree();
    let options = [
        "set",
        "-o",
        "x",
        "--format",
        "v1",
        "--tracker",
        "http://a.test/x,udp://b.test:1",
        "--tracker",
        "http://c.test/",
        "--webseed",
        "http://d.test/pub/",
        "--private",
        "--comment",
        "of a cat",
        "--source",
        "S",
        "--date",
        "@7",
        "--piece-length",
        "1M",
    ];
    let link = create(dir.path(), &options);
    let torrent = shown(dir.path(), "x");
    assert_eq!(torrent["trackers"], json!([["http://a.test/x", "udp://b.test:1"], ["http://c.test/"]]));
    assert_eq!(torrent["webseeds"], json!(["http://d.test/pub/"]));
    assert_eq!((&torrent["private"], &torrent["comment"]), (&json!(true), &json!("of a cat")));
    assert_eq!((&torrent["creation_date"], &torrent["piece_length"]), (&json!(7), &json!(1 << 20)));
    assert!(torrent["created_by"].as_str().unwrap().starts_with("btget/"), "{torrent}");
    assert!(link.contains("&tr=http%3A%2F%2Fa.test%2Fx&tr=udp") && link.contains("&ws=http%3A"), "{link}");
    create(
        dir.path(),
        &["set", "-o", "y", "--node", "[2001:db8::1]:6881", "--node", "router.test:1", "--date"],
    );
    let text = text(&btget(dir.path(), &["--show", "y"]).stdout);
    for part in ["node        2001:db8::1 port 6881", "node        router.test port 1", "created     20"] {
        assert!(text.contains(part), "{text}");
    }
}

fn to_stdout() {
    let (dir, _set) = odd_tree();
    let output = btget(dir.path(), &["--create", "set", "-o", "-"]);
    create(dir.path(), &["set"]);
    assert!(output.stdout == fs::read(dir.path().join("set.torrent")).unwrap(), "they differ");
    assert!(text(&output.stderr).contains("\nmagnet:?xt=urn:btih:"), "{}", text(&output.stderr));
    let quiet = btget(dir.path(), &["--create", "set", "-o", "-", "-q"]);
    assert!(quiet.stdout == output.stdout && quiet.stderr.is_empty(), "{}", text(&quiet.stderr));
}

fn as_json() {
    let (dir, _set) = odd_tree();
    let made: Value =
        serde_json::from_str(&create(dir.path(), &["set", "--json", "--piece-length", "16K"])).unwrap();
    assert_eq!(made["name"], "set");
    assert_eq!(made["file"], "set.torrent");
    assert_eq!(made["piece_length"], PIECE);
    assert_eq!(
        made["total_size"],
        3 * PIECE + 2 * (5 * PIECE + 1) + 1 + 2 * PIECE - 1 + PIECE + 100 + 7 * PIECE + 300 + 40 * PIECE
    );
    assert_eq!(made["num_files"], 12);
    assert_eq!(made["num_pieces"], 3 + 6 + 6 + 1 + 2 + 1 + 1 + 8 + 40);
    assert_eq!(made["info_hash"].as_str().unwrap().len(), 40);
    assert_eq!(made["info_hash_v2"].as_str().unwrap().len(), 64);
    assert!(made["magnet"].as_str().unwrap().contains(made["info_hash_v2"].as_str().unwrap()), "{made}");
    let v2: Value =
        serde_json::from_str(&create(dir.path(), &["set", "-o", "2", "--format", "v2", "--json"])).unwrap();
    assert_eq!(v2["info_hash"], v2["info_hash_v2"]);
}

fn not_over() {
    let (dir, set) = odd_tree();
    fs::write(dir.path().join("set.torrent"), "mine").unwrap();
    let (said, code) = fails(dir.path(), &["set"]);
    assert_eq!(code, Some(13), "{said}");
    assert!(said.contains("set.torrent is there already; give --overwrite"), "{said}");
    assert_eq!(fs::read(dir.path().join("set.torrent")).unwrap(), b"mine");
    create(dir.path(), &["set", "--overwrite"]);
    assert!(fs::read(dir.path().join("set.torrent")).unwrap().starts_with(b"d"));
    // In the tree, it would be one of the files that it is about.
    fs::write(set.join("set.torrent"), "mine").unwrap();
    let (said, code) = fails(&set, &[".", "--overwrite"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("among the files"), "{said}");
    let (said, code) = fails(dir.path(), &["set", "-o", "no/such/folder"]);
    assert_eq!(code, Some(17), "{said}");
    let (said, code) = fails(dir.path(), &["set", "-o", "set"]);
    assert_eq!(code, Some(17), "{said}");
    assert!(said.contains("it is a folder"), "{said}");
    // What stands in the way is told before it is that there are too many pieces, and so before anything is hashed.
    let huge = fs::File::create(set.join("huge")).unwrap();
    huge.set_len(40 << 30).unwrap();
    symlink("nothing", dir.path().join("dangling")).unwrap();
    let name = "n".repeat(256);
    let hard_to_write = ["set", "--piece-length", "16K", "--format", "v1", "-o"];
    for (target, expected, part) in [
        ("dangling", Some(13), "is there already"),
        (&*name, Some(17), "choose another"),
        ("new/", Some(17), "it is a folder"),
        ("set/huge/x", Some(17), "choose another"),
    ] {
        let (said, code) = fails(dir.path(), &[&hard_to_write[..], &[target]].concat());
        assert!(code == expected && said.contains(part), "{target} {code:?}: {said}");
    }
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o555)).unwrap();
    // To the superuser nothing is closed.
    if fs::write(closed.join("probe"), b"").is_err() {
        let (said, code) = fails(dir.path(), &[&hard_to_write[..], &["closed/x"]].concat());
        assert!(code == Some(17) && said.contains("writable"), "{code:?}: {said}");
    }
    fs::remove_file(set.join("huge")).unwrap();
    // Nor may standard output be one of the files.
    let out = fs::File::create(set.join("out")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    let output = command.args(["--create", "set", "-o", "-"]).current_dir(dir.path()).stdout(out).output();
    let output = output.unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("standard output"), "{said}");
    fs::remove_file(set.join("out")).unwrap();
    // What is no file is written to as it is.
    create(dir.path(), &["set", "-o", "/dev/null"]);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

fn here() {
    let (dir, set) = odd_tree();
    create(&set, &[".", "-o", "../dot"]);
    create(&set.join("c"), &["..", "-o", "../../dots"]);
    create(dir.path(), &["set", "-o", "named"]);
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("dot") == read("named") && read("dots") == read("named"));
    // Here is inside of what is shared; the next time it is one of the files.
    create(&set, &["."]);
    assert!(set.join("set.torrent").exists());
}

fn refused() {
    let dir = TempDir::new().unwrap();
    let case = |name: &str, make: &dyn Fn(&Path)| {
        let folder = dir.path().join(name);
        put(&folder, "file", b"data");
        make(&folder);
        fails(dir.path(), &[name])
    };
    let fifo = |folder: &Path| {
        let status = Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap();
        assert!(status.success());
    };
    let link = |folder: &Path, target: &str| symlink(target, folder.join("link")).unwrap();
    for ((said, code), parts) in [
        (case("pipe", &fifo), &["pipe/pipe", "named pipe", "move it elsewhere"][..]),
        (case("out", &|folder| link(folder, "../pipe/file")), &["out/link", "leads out", "a copy"]),
        (case("dead", &|folder| link(folder, "nothing")), &["dead/link", "to nothing", "remove it"]),
        (case("loop", &|folder| link(folder, "link")), &["loop/link", "back to itself"]),
        (case("around", &|folder| link(folder, ".")), &["around/link", "a folder it is in"]),
    ] {
        assert_eq!(code, Some(1), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
    }
}

fn wrong_options() {
    let dir = TempDir::new().unwrap();
    for (arguments, parts) in [
        (&["x", "--format", "v3"][..], &["'v3'", "--format", "v1", "hybrid"][..]),
        (&["x", "--piece-length", "18"], &["'18'", "--piece-length", "16K to 256M", "e.g. 256K"]),
        (&["x", "--tracker", "ftp://x"], &["ftp://x", "--tracker"]),
        (&["x", "--webseed", "x"], &["'x'", "--webseed"]),
        (&["x", "--node", "x"], &["'x'", "--node", "host:port"]),
        (&["x", "--node", "h:1", "--private"], &["--node", "--private"]),
        (&["x", "--date", "soon"], &["'soon'", "--date", "2026-11-30"]),
        (&["x", "--comment", ""], &["--comment", "e.g."]),
        (&["x", "some.torrent"], &["--create", "TORRENT"]),
        (&["x", "--show"], &["--create", "--show"]),
        (&["x", "--no-seed"], &["--create", "--no-seed", "leave one of them out"]),
        (&["x", "-o", "-", "--json"], &["-o -", "--json"]),
    ] {
        let (said, code) = fails(dir.path(), arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}, {parts:?}: {said}");
    }
    for option in
        ["--format=v1", "--piece-length=1M", "--node=h:1", "--private", "--comment=c", "--source=s", "--date"]
    {
        for mode in ["--show", "--hashcheck-only", "--plan", "--no-seed"] {
            let output = btget(dir.path(), &["x.torrent", mode, option]);
            let said = text(&output.stderr);
            assert!(output.status.code() == Some(2) && said.contains("--create"), "{mode} {option}: {said}");
        }
    }
    let (said, code) = fails(dir.path(), &["nothing"]);
    assert_eq!(code, Some(17), "{said}");
    assert!(said.contains("cannot read nothing: no such file or directory; check the path"), "{said}");
}

fn told() {
    let dir = TempDir::new().unwrap();
    let set = dir.path().join("set");
    put(&set, "file", b"data");
    fs::create_dir_all(set.join("hollow\x1b[2J")).unwrap();
    let output = btget(dir.path(), &["--create", "set", "--format", "v2"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("warning: set/hollow\\u{1b}[2J has nothing in it and is left out"), "{said}");
    assert!(said.contains("others will put file by itself"), "{said}");
    assert!(said.contains("written to set.torrent"), "{said}");
    let output = btget(
        dir.path(),
        &["--create", "set", "-o", "y", "--json", "--private", "--webseed", "http://a:b@s.test/pub"],
    );
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let notes: Vec<&str> =
        made["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    assert_eq!((notes.len(), output.stderr.len()), (3, 0), "{notes:?}");
    assert!(notes[0].contains("has nothing in it") && notes[1].contains("--tracker"), "{notes:?}");
    assert!(notes[2].contains("http://***@s.test/pub: of a folder"), "{notes:?}");
    put(dir.path(), "void/empty", b"");
    let (said, code) = fails(dir.path(), &["void"]);
    assert!(code == Some(1) && said.contains("it holds no data"), "{said}");
    put(dir.path(), "names/a\\b", b"data");
    let output = btget(dir.path(), &["--create", "names", "--format", "v1"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("characters that cannot be in a file name"), "{said}");
    let odd = std::ffi::OsStr::from_bytes(b"latin1-\xe9");
    fs::write(dir.path().join("names").join(odd), b"data").unwrap();
    let (said, code) = fails(dir.path(), &["names"]);
    assert!(code == Some(1) && said.contains("not valid UTF-8") && said.contains("convmv"), "{said}");
    let (said, code) = fails(dir.path(), &["/"]);
    assert!(code == Some(1) && said.contains("no name"), "{said}");
}

fn shown_magnet() {
    let (dir, _set) = odd_tree();
    let link = create(dir.path(), &["set", "--format", "v1", "--tracker", "http://a.test/x"]);
    let output = btget(dir.path(), &["--show", "--magnet", "set.torrent"]);
    assert_eq!(text(&output.stdout), link, "{}", text(&output.stderr));
    let output = btget(dir.path(), &["--magnet", "set.torrent"]);
    assert_eq!(output.status.code(), Some(2));
}

fn unreadable() {
    use std::os::unix::process::CommandExt;
    let (dir, set) = odd_tree();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("btget");
    fs::copy(env!("CARGO_BIN_EXE_btget"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(set.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(set.join("c"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new(program);
    command.uid(65534).gid(65534).current_dir(dir.path()).args(["--create", "set", "-o", "-"]);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(17), 0), "{said}");
    for path in ["set/a", "set/c"] {
        assert!(said.contains(&format!("cannot read {path}: permission denied; make it readable")), "{said}");
    }
}

/// A command that reads so slowly that something can happen meanwhile, and what strace has seen of it.
fn slow(folder: &Path, arguments: &[&str]) -> (std::process::Child, PathBuf) {
    let trace = folder.with_extension("trace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-e", "trace=preadv", "-e", "inject=preadv:delay_exit=100000", "-o"])
        .arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_btget")).args(arguments).current_dir(folder);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until("the first read", String::new, || {
        fs::read_to_string(&trace).ok().filter(|calls| calls.contains("preadv("))
    });
    (child, trace)
}

fn changed() {
    let (dir, set) = odd_tree();
    let (child, trace) = slow(dir.path(), &["--create", "set", "--piece-length", "16K"]);
    let mut data = fs::read(set.join("Zz")).unwrap();
    data[30 * PIECE] ^= 1;
    fs::write(set.join("Zz"), data).unwrap();
    let output = child.wait_with_output().unwrap();
    fs::remove_file(trace).unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(17), "{said}");
    assert!(said.contains("set/Zz: it changed while it was hashed; nothing is written"), "{said}");
    assert!(!dir.path().join("set.torrent").exists());
}

fn stopped() {
    let (dir, _set) = odd_tree();
    let (child, trace) = slow(dir.path(), &["--create", "set", "--piece-length", "16K"]);
    // Of the two the traced one is ours, and strace passes on nothing.
    let calls = fs::read_to_string(&trace).unwrap();
    let pid: i32 = calls.split_whitespace().next().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    fs::remove_file(trace).unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("stopped before the torrent was made; nothing is written"), "{said}");
    assert!(!dir.path().join("set.torrent").exists());
}

/// The hashes that libtorrent sees.
fn hashes_for_libtorrent(torrent: &Path) -> Vec<String> {
    let lines = ltmake(&["load", torrent.to_str().unwrap()]);
    lines.into_iter().filter(|line| line.starts_with("v1 ") || line.starts_with("v2 ")).collect()
}

fn as_libtorrent() {
    let (dir, set) = odd_tree();
    // libtorrent 2.1 puts this before what is in `c`, in the list but not in the tree, and does not load what it made.
    fs::rename(set.join("c d"), set.join("cd")).unwrap();
    put(dir.path(), "one/file", &noise(100_000, 20));
    put(dir.path(), "small/file", &noise(5, 21));
    put(dir.path(), "deep/a/b/c/d", &noise(40_000, 22));
    put(dir.path(), "deep/a/b/e", &noise(16384, 23));
    for path in ["set", "set/Zz", "set/c/one", "one", "one/file", "small/file", "deep"] {
        for format in ["v1", "v2", "hybrid"] {
            for (length, option) in [("16384", "16K"), ("65536", "64K"), ("1048576", "1M")] {
                let theirs = dir.path().join("theirs.torrent");
                let full = dir.path().join(path);
                ltmake(&["make", full.to_str().unwrap(), theirs.to_str().unwrap(), format, length]);
                create(
                    dir.path(),
                    &[
                        path,
                        "-o",
                        "ours.torrent",
                        "--overwrite",
                        "--format",
                        format,
                        "--piece-length",
                        option,
                    ],
                );
                let ours = hashes_for_libtorrent(&dir.path().join("ours.torrent"));
                assert_eq!(ours, hashes_for_libtorrent(&theirs), "{path} as {format} in pieces of {option}");
                assert_eq!(ours.len(), if format == "hybrid" { 2 } else { 1 });
            }
        }
    }
    // Private, on which the hash depends too.
    let theirs = dir.path().join("theirs.torrent");
    ltmake(&["make", set.to_str().unwrap(), theirs.to_str().unwrap(), "hybrid", "16384", "private"]);
    create(dir.path(), &["set", "-o", "ours.torrent", "--overwrite", "--piece-length", "16K", "--private"]);
    assert_eq!(hashes_for_libtorrent(&dir.path().join("ours.torrent")), hashes_for_libtorrent(&theirs));
}

fn for_libtorrent() {
    use support::fixture::Family;
    let (dir, set) = odd_tree();
    // libtorrent's own maker puts these in another order.
    put(&set, "c.e", &noise(50_000, 30));
    for format in ["v1", "v2", "hybrid"] {
        let file = format!("{format}.torrent");
        create(dir.path(), &["set", "-o", &file, "--format", format, "--piece-length", "16K"]);
        let torrent = dir.path().join(&file);
        let lines = ltmake(&["load", torrent.to_str().unwrap()]);
        let files = lines.iter().filter(|line| line.starts_with("file ")).count();
        assert_eq!((files, lines.contains(&"name set".to_owned())), (13, true), "{format}: {lines:?}");
        let mut node = Client::Libtorrent.start_with(torrent.to_str().unwrap(), Family::V4, dir.path());
        node.wait_until_complete();
    }
}

fn as_mktorrent() {
    let dir = TempDir::new().unwrap();
    for (seed, (path, length)) in
        (0..).zip([("set/a", 100_000), ("set/b", 0), ("set/c/d", 50_000), ("set/e", 16384)])
    {
        put(dir.path(), path, &noise(length, seed));
    }
    for (path, power, option) in [("set", "15", "32K"), ("set/a", "16", "64K"), ("set", "20", "1M")] {
        let theirs = dir.path().join("theirs.torrent");
        let _ = fs::remove_file(&theirs);
        let made = Command::new("mktorrent")
            .args(["-l", power, "-o"])
            .arg(&theirs)
            .arg(dir.path().join(path))
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        create(
            dir.path(),
            &[path, "-o", "ours.torrent", "--overwrite", "--format", "v1", "--piece-length", option],
        );
        let ours = shown(dir.path(), "ours.torrent")["info_hash"].clone();
        assert_eq!(ours, shown(dir.path(), "theirs.torrent")["info_hash"], "{path} in pieces of {option}");
    }
}
