//! A disk that hangs holds up its own torrents only: one of two torrents is on a file system of its own, which is frozen meanwhile.
//!
//! Has a main of its own, to report a machine that allows no such file systems as ignored. Each test runs itself again where mounts are its own.

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::Arguments;
use serde_json::Value;
use tempfile::TempDir;

use support::clients::{Btget, is_in_path};
use support::events::{is, is_fetched, read_and_right, seed};
use support::fixture::{Family, Fixture};
use support::process::wait_until;
use support::system::{is_root, script, trial};
use support::tracker::Tracker;

/// Set to the name of a test where that has mounts of its own.
const OWN_MOUNTS: &str = "BTGET_TEST_OWN_MOUNTS";

const TESTS: [(&str, fn()); 2] = [
    ("a_disk_that_hangs_holds_up_no_torrent_on_another", others_go_on),
    ("what_is_not_on_a_disk_that_hangs_is_ended_and_saved", others_end),
];

fn main() -> ExitCode {
    if let Some(wanted) = std::env::var_os(OWN_MOUNTS) {
        TESTS.iter().filter(|(name, _)| *name == wanted).for_each(|(_, test)| test());
        return ExitCode::SUCCESS;
    }
    let possible = can_freeze();
    let trials = TESTS.map(|(name, _)| {
        trial(name, possible, move || {
            let mut again = Command::new("unshare");
            again.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
            assert!(again.env(OWN_MOUNTS, name).status().unwrap().success());
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

/// Whether we may mount a file system out of a file, and freeze it.
fn can_freeze() -> bool {
    let tools = ["unshare", "mkfs.ext4", "mount", "fsfreeze", "umount"];
    let probe = r#"cd "$1"; truncate -s 8M image; mkfs.ext4 -q -F image; mkdir disk; mount -o loop image disk
        fsfreeze -f disk; fsfreeze -u disk; umount disk"#;
    let folder = TempDir::new().unwrap();
    is_root()
        && tools.iter().all(|tool| is_in_path(tool))
        && script(probe, &[folder.path()]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn runs(program: &str, arguments: &[&str], path: &Path) -> bool {
    Command::new(program).args(arguments).arg(path).status().is_ok_and(|status| status.success())
}

/// A file system of its own; unmounted when this is dropped, for which nobody may use it any more.
struct Disk {
    at: PathBuf,
    _image: TempDir,
}

impl Disk {
    fn mount(at: PathBuf) -> Disk {
        let folder = TempDir::new().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        assert!(runs("mkfs.ext4", &["-q", "-F"], &image));
        fs::create_dir(&at).unwrap();
        assert!(runs("mount", &["-o", "loop", image.to_str().unwrap()], &at));
        Disk { at, _image: folder }
    }

    /// From now on whoever writes waits.
    fn freeze(&self) -> Frozen<'_> {
        assert!(runs("fsfreeze", &["-f"], &self.at));
        Frozen(self)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(runs("umount", &[], &self.at) || std::thread::panicking());
    }
}

/// Thaws when it is dropped: before the processes that wait for that, so it is to be made after them.
struct Frozen<'a>(&'a Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        assert!(runs("fsfreeze", &["-u"], &self.0.at) || std::thread::panicking());
    }
}

/// Two torrents, and a seed of each.
struct Bench {
    slow: Fixture,
    fast: Fixture,
    seeds: [Btget; 2],
    tracker: Tracker,
}

const MIB: usize = 1 << 20;

impl Bench {
    fn start() -> Bench {
        let tracker = Tracker::start();
        let mut data = vec![0; 60 * MIB];
        fastrand::Rng::with_seed(91).fill(&mut data);
        let slow =
            Fixture::of("slow", vec![("a", data.clone()), ("b", data[..1000].to_vec())], &tracker.url());
        let fast = Fixture::single(30 * MIB, &tracker.url(), 92);
        // Far more of the slow one than may wait for its disk comes while the fast one does.
        let seeds = [seed(&tracker, &slow, "10M"), seed(&tracker, &fast, "5M")];
        Bench { slow, fast, seeds, tracker }
    }

    /// A folder for both, with the disk that the slow one's files are on.
    fn folder(&self) -> (PathBuf, Disk) {
        let folder = self.slow.empty_folder("leech");
        let disk = Disk::mount(folder.join("slow"));
        (folder, disk)
    }

    /// Downloads both; something of each is written.
    fn leech(&self, folder: &Path) -> Btget {
        let mut command = Btget::command();
        command.arg(self.fast.torrent());
        let mut leech = Btget::start_by(command, &self.slow, Family::V4, folder, &["--json"]);
        for fixture in [&self.slow, &self.fast] {
            let hash = hash_of(&leech, fixture);
            leech.wait_for_event("a piece of each", |event| is_fetched(event) && event["torrent"] == hash);
        }
        leech
    }
}

/// The hash by which events name this torrent.
fn hash_of(leech: &Btget, fixture: &Fixture) -> Value {
    let added = || {
        let events = leech.events().into_iter();
        let mut added = events.filter(|event| is(event, "torrent_added"));
        added.find(|event| event["size"] == fixture.size()).map(|event| event["torrent"].clone())
    };
    wait_until("the torrent", || leech.story(), added)
}

fn others_go_on() {
    let bench = Bench::start();
    let (folder, disk) = bench.folder();
    let mut leech = bench.leech(&folder);
    let [slow, fast] = [&bench.slow, &bench.fast].map(|fixture| hash_of(&leech, fixture));
    let frozen = disk.freeze();
    leech
        .wait_for_event("the end of the fast one", |event| is(event, "complete") && event["torrent"] == fast);
    bench.fast.assert_complete(&folder);
    // It is served, too, and by nobody else.
    let Bench { seeds: [_slow_seed, mut fast_seed], fast: fixture, slow: slow_fixture, tracker: _tracker } =
        bench;
    fast_seed.terminate();
    assert_eq!(fast_seed.wait_for_code(), Some(0), "{}", fast_seed.story());
    let other = fixture.empty_folder("other");
    Btget::tell(&fixture, &other, &["--no-seed"]).wait_for_success();
    fixture.assert_complete(&other);
    let is_whole = |event: &Value| is(event, "complete") && event["torrent"] == slow;
    assert!(!leech.events().iter().any(is_whole));
    drop(frozen);
    leech.wait_for_event("the end of the slow one", is_whole);
    slow_fixture.assert_complete(&folder);
    leech.terminate();
    assert_eq!(leech.wait_for_code(), Some(0), "{}", leech.story());
}

fn others_end() {
    let bench = Bench::start();
    let (folder, disk) = bench.folder();
    let mut leech = bench.leech(&folder);
    let [slow, fast] = [&bench.slow, &bench.fast].map(|fixture| hash_of(&leech, fixture));
    let frozen = disk.freeze();
    leech
        .wait_for_event("the end of the fast one", |event| is(event, "complete") && event["torrent"] == fast);
    leech.terminate();
    for torrent in [fast, slow] {
        let is_summary = |event: &Value| is(event, "summary") && event["torrent"] == torrent;
        wait_until("a summary", || leech.story(), || leech.events().iter().any(is_summary).then_some(()));
    }
    // The system does not let it go before.
    drop(frozen);
    assert_eq!(leech.wait_for_code(), Some(7), "{}", leech.story());
    let mut next = Btget::tell(&bench.fast, &folder, &["--no-seed"]);
    next.wait_for_success();
    assert_eq!(read_and_right(&next), 0, "{}", next.story());
}
