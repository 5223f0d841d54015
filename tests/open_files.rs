//! Where few files may be open at once (`ulimit -n`): many torrents share what there is.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use btget::internals::hash::{Sha1, sha1};
use btget::metainfo::create::{Content, NewTorrent};
use tempfile::TempDir;

use support::clients::Btget;
use support::events::is;
use support::process::wait_until;
use support::tracker::Tracker;

const PIECE_LENGTH: usize = 16 << 10;

/// Runs it in a shell that has set limits.
fn limited(limits: &str, basedir: &Path, options: &[&str], torrents: &[String]) -> Btget {
    let plain = Btget::command();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} && exec \"$0\" \"$@\"")]).arg(Btget::program());
    command.args(plain.get_args()).args(["--json", "--progress", "none", "--bind", "127.0.0.1", "--basedir"]);
    command.arg(basedir).arg("--state-dir").arg(basedir.join("state")).args(options).args(torrents);
    Btget::run(&mut command)
}

/// Makes a torrent of a folder with so many files, all there, below `folder`.
fn torrent(folder: &Path, number: usize, files: usize, length: usize, tracker: &[&str]) -> String {
    let name = format!("data {number}");
    let mut data = vec![0; files * length];
    fastrand::Rng::with_seed(number as u64).fill(&mut data);
    let names: Vec<String> = (0..files).map(|file| format!("{}/{file}", file % 3)).collect();
    for (file, data) in names.iter().zip(data.chunks(length)) {
        let path = folder.join(&name).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
    let piece_hashes: Vec<Sha1> = data.chunks(PIECE_LENGTH).map(sha1).collect();
    let trackers: Vec<Vec<String>> = tracker.iter().map(|url| vec![url.to_string()]).collect();
    let content: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), length as u64)).collect();
    let torrent = NewTorrent {
        name: &name,
        content: Content::Folder(&content),
        piece_length: PIECE_LENGTH as u32,
        piece_hashes: &piece_hashes,
        trackers: &trackers,
        private: false,
    };
    let path = folder.join(format!("{number}.torrent"));
    fs::write(&path, torrent.encode()).unwrap();
    path.display().to_string()
}

fn wait_for_seeds(process: &Btget, count: usize) {
    let seeding = || process.events().iter().filter(|event| is(event, "seeding")).count() == count;
    wait_until("all to be seeded", || process.story(), || seeding().then_some(()));
}

#[test]
fn seeds_of_one_folder_need_no_more_handles_than_one() {
    let folder = TempDir::new().unwrap();
    let torrents: Vec<String> = (0..100).map(|number| torrent(folder.path(), number, 1, 100, &[])).collect();
    let process = limited("ulimit -n 64", folder.path(), &[], &torrents);
    wait_for_seeds(&process, torrents.len());
}

#[test]
fn downloads_of_many_files_share_the_handles_that_there_are() {
    let tracker = Tracker::start();
    let (folder, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let make = |number| torrent(folder.path(), number, 60, 5001, &[&tracker.url()]);
    let torrents: Vec<String> = (0..10).map(make).collect();
    let seed = limited("true", folder.path(), &[], &torrents);
    wait_for_seeds(&seed, torrents.len());
    let mut leech = limited("ulimit -n 110", target.path(), &["--no-seed"], &torrents);
    assert_eq!(leech.wait_for_code(), Some(0), "{}", leech.story());
}

#[test]
fn as_many_files_as_the_system_allows_may_be_open_and_hooks_have_the_limit_that_was_set() {
    let folder = TempDir::new().unwrap();
    let torrents = [torrent(folder.path(), 0, 1, 100, &[])];
    let told = folder.path().join("told");
    // Time enough for btget to set the limit of what it has started.
    let hook = format!("sh -c 'sleep 1; ulimit -Sn > {}'", told.display());
    let limits = "ulimit -Sn 120 && ulimit -Hn 900";
    let process = limited(limits, folder.path(), &["--on-complete", &hook], &torrents);
    wait_for_seeds(&process, 1);
    let pid = process.pid().as_raw_nonzero();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3..5], ["900", "900"]);
    let hook_has = || fs::read_to_string(&told).ok().filter(|text| text.ends_with('\n'));
    let limit = wait_until("the hook", || process.story(), hook_has);
    assert_eq!(limit, "120\n");
}
