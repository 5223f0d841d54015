//! Whose the files are: what stands in a torrent's place and is not its own, and what two torrents would both write.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;
use serde_json::Value;

use support::clients::Btget;
use support::crafted::{Bench, Item, info};
use support::events::{is, seed, summary};
use support::fixture::{Fixture, PIECE_LENGTH, Shape};
use support::process::Process;
use support::system::trial;
use support::tracker::Tracker;

const NOBODY: &str = "http://127.0.0.1:9/announce";

fn main() -> ExitCode {
    let trials: Vec<Trial> = vec![
        trial("a_file_of_the_users_own_is_not_written_over", true, foreign_file),
        trial(
            "a_check_that_is_broken_off_makes_no_file_the_torrents",
            true,
            foreign_file_and_a_broken_off_check,
        ),
        trial("a_damaged_copy_is_mended_and_told", true, damaged_copy),
        trial("what_is_known_as_the_torrents_own_is_mended_whatever_its_length", true, known_folder),
        trial("files_that_hold_nothing_are_nobodys", true, files_without_content),
        trial("with_overwrite_it_is_written_over_and_cut", true, overwrite),
        trial("a_file_that_is_too_long_is_warned_of_at_the_end_also_when_quiet", true, too_long),
        trial("of_two_torrents_that_own_one_path_the_later_is_refused", true, two_torrents),
        trial("torrents_with_the_same_content_share_their_files", true, same_content),
        trial("files_that_are_not_wanted_are_in_nobodys_way", true, selected_files),
        trial("names_that_some_file_systems_take_for_one_are_one_path", true, other_forms_of_a_name),
        trial("a_second_process_is_refused_and_the_first_not_disturbed", true, two_processes),
        trial("a_folder_is_the_same_however_it_is_reached", true, two_ways),
        trial("two_names_of_one_file_are_one_path_unless_their_content_is_the_same", true, hard_links),
        trial("what_a_killed_process_claimed_is_nobodys", true, killed_owner),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn reason(process: &Btget) -> String {
    summary(process)["reason"].as_str().unwrap().to_owned()
}

fn foreign_file() {
    let tracker = Tracker::start();
    for shape in [Shape::Single, Shape::Multi] {
        let fixture = Fixture::new(shape, &tracker.url(), 71);
        let seed = seed(&tracker, &fixture, "8M");
        let name = if shape == Shape::Single { "single file.bin" } else { "album/cover.jpg" };
        for preallocate in ["none", "sparse", "full"] {
            let folder = fixture.empty_folder(&format!("{shape:?}-{preallocate}"));
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "all:\n\tcc x.c\n").unwrap();
            let options = ["--no-seed", "--preallocate", preallocate];
            let mut leech = Btget::tell(&fixture, &folder, &options);
            assert_eq!(leech.wait_for_code(), Some(13), "{}", leech.story());
            let reason = reason(&leech);
            assert!(reason.contains(name) && reason.contains("--overwrite"), "{reason}");
            assert_eq!(fs::read(&path).unwrap(), b"all:\n\tcc x.c\n");
            let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
            assert_eq!(
                beside,
                if shape == Shape::Single { 1 + usize::from(folder.join("state").exists()) } else { 1 }
            );
            // Refused again: that it was tried does not make it the torrent's.
            let mut leech = Btget::tell(&fixture, &folder, &["--full-check", "--no-seed"]);
            assert_eq!(leech.wait_for_code(), Some(13), "{}", leech.story());
        }
        drop(seed);
    }
}

/// Not even half a check makes it the torrent's.
fn foreign_file_and_a_broken_off_check() {
    let fixture = Fixture::new(Shape::Multi, NOBODY, 79);
    let folder = fixture.full_folder("leech");
    for (path, length) in [("album/disc 1/01 - \u{f6}ffnung.flac", 900_000), ("album/cover.jpg", 7)] {
        fs::write(folder.join(path), vec![b'x'; length]).unwrap();
    }
    for path in ["README", "disc 1/02.flac", "disc 2/03.flac", "disc 2/deep/er/notes.txt"] {
        fs::remove_file(folder.join("album").join(path)).unwrap();
    }
    // Told to stop before it has begun to read, as a rule.
    let mut leech = Btget::tell(&fixture, &folder, &[]);
    leech.wait_for_event("the torrent", |event| is(event, "torrent_added"));
    // It may have been refused, and be gone, by now.
    let _ = rustix::process::kill_process(leech.pid(), Signal::TERM);
    let code = leech.wait_for_code();
    assert!(matches!(code, Some(7 | 13)), "{}", leech.story());
    let mut leech = Btget::tell(&fixture, &folder, &["--no-seed"]);
    assert_eq!(leech.wait_for_code(), Some(13), "{}", leech.story());
}

fn damaged_copy() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(10 * PIECE_LENGTH as usize, &tracker.url(), 72);
    let _seed = seed(&tracker, &fixture, "8M");
    let data = fs::read(fixture.full_folder("data").join("large.bin")).unwrap();
    let piece = PIECE_LENGTH as usize;
    let with = |start: usize, end: usize| {
        let mut data = data.clone();
        data[start..end].fill(b'x');
        data
    };
    for (what, content, wrong) in [
        ("of the same length, nothing right", with(0, 10 * piece), 10),
        ("three pieces wrong", with(3 * piece, 6 * piece), 3),
        ("short, one piece right", data[..piece + 9].to_vec(), 0),
        ("long, one piece wrong", [with(0, 9), b"tail".to_vec()].concat(), 1),
    ] {
        let folder = fixture.empty_folder(what);
        fs::write(folder.join("large.bin"), content).unwrap();
        let mut leech = Btget::tell(&fixture, &folder, &["--no-seed"]);
        leech.wait_for_success();
        fixture.assert_complete(&folder);
        let events = leech.events();
        let told = events.iter().filter(|event| is(event, "file_warning"));
        let told: Vec<&str> = told.filter_map(|event| event["reason"].as_str()).collect();
        let expected = format!("{wrong} of its 10 pieces are not this torrent's");
        assert_eq!(told.iter().any(|reason| reason.contains(&expected)), wrong > 0, "{what}: {told:?}");
    }
}

fn known_folder() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(4 * PIECE_LENGTH as usize, &tracker.url(), 73);
    let _seed = seed(&tracker, &fixture, "8M");
    for preallocate in ["none", "sparse", "full"] {
        let folder = fixture.empty_folder(preallocate);
        let options = ["--no-seed", "--preallocate", preallocate];
        Btget::tell(&fixture, &folder, &options).wait_for_success();
        fs::write(folder.join("large.bin"), "cut, and nothing of it right").unwrap();
        Btget::tell(&fixture, &folder, &options).wait_for_success();
        fixture.assert_complete(&folder);
    }
}

fn files_without_content() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Multi, &tracker.url(), 74);
    let _seed = seed(&tracker, &fixture, "8M");
    let folder = fixture.empty_folder("leech");
    fs::create_dir_all(folder.join("album/disc 1")).unwrap();
    fs::write(folder.join("album/README"), "").unwrap();
    fs::write(folder.join("album/disc 1/02.flac"), vec![0; 700_000]).unwrap();
    // Not wanted, so in nobody's way.
    fs::write(folder.join("album/cover.jpg"), "the user's own").unwrap();
    let mut leech = Btget::tell(&fixture, &folder, &["--no-seed", "--priority", "cover.jpg=0"]);
    leech.wait_for_success();
    fixture.assert_there(&folder, &["album/README", "album/disc 1/02.flac", "album/disc 2/03.flac"]);
    assert_eq!(fs::read(folder.join("album/cover.jpg")).unwrap(), b"the user's own");
}

fn overwrite() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Multi, &tracker.url(), 75);
    let _seed = seed(&tracker, &fixture, "8M");
    let folder = fixture.empty_folder("leech");
    fs::create_dir(folder.join("album")).unwrap();
    fs::write(folder.join("album/cover.jpg"), "the user's own").unwrap();
    Btget::tell(&fixture, &folder, &["--no-seed", "--overwrite"]).wait_for_success();
    fixture.assert_complete(&folder);
    // Nothing is missing, so nothing is written; what is too long is cut all the same.
    let path = folder.join("album/README");
    let data = fs::read(&path).unwrap();
    fs::write(&path, [&data[..], b"tail"].concat()).unwrap();
    Btget::tell(&fixture, &folder, &["--no-seed", "--overwrite"]).wait_for_success();
    fixture.assert_complete(&folder);
}

fn too_long() {
    let fixture = Fixture::new(Shape::Single, NOBODY, 76);
    let folder = fixture.full_folder("full");
    let path = folder.join("single file.bin");
    let data = [&fs::read(&path).unwrap()[..], b"tail"].concat();
    fs::write(&path, &data).unwrap();
    for options in [&["--no-seed", "-q"][..], &["--no-seed"]] {
        let mut process = Btget::start(&fixture, support::fixture::Family::V4, &folder, options);
        process.wait_for_success();
        let story = process.story();
        assert!(
            story.contains("4 bytes longer than it should be") && story.contains("--overwrite"),
            "{story}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), data, "it keeps its tail");
}

/// A torrent of these files in a folder `t`, made different from others of the same files by their seeds.
fn bench(files: &[(&str, usize, u64)]) -> Bench {
    Bench::of(16 << 10, &items(files))
}

fn items(files: &[(&str, usize, u64)]) -> Vec<Item> {
    let item = |&(path, length, seed): &(&str, usize, u64)| {
        let mut data = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut data);
        Item { data, ..Item::new(path, length) }
    };
    files.iter().map(item).collect()
}

/// Runs these torrents together on `folder`; gives the exit code, and the summary of each by its order.
fn run_together(benches: &[&Bench], folder: &Path, options: &[&str]) -> (i32, Vec<Value>) {
    let more: Vec<String> =
        benches[1..].iter().map(|bench| bench.torrent().to_str().unwrap().to_owned()).collect();
    let more = more.iter().map(String::as_str);
    let all: Vec<&str> =
        ["--no-seed", "--json"].into_iter().chain(options.iter().copied()).chain(more).collect();
    let mut process = benches[0].btget(folder, &all);
    let code = process.wait().code().unwrap_or_else(|| panic!("{}", process.story()));
    let events = process.events();
    let one = |bench: &&Bench| {
        let hash = bench.metainfo().info_hash.to_string();
        let summary = events.iter().find(|event| is(event, "summary") && event["torrent"] == hash);
        summary.unwrap_or_else(|| panic!("{}", process.story())).clone()
    };
    (code, benches.iter().map(one).collect())
}

fn codes(summaries: &[Value]) -> Vec<u64> {
    summaries.iter().map(|summary| summary["exit_code"].as_u64().unwrap()).collect()
}

fn two_torrents() {
    let one = bench(&[("a", 50_000, 1), ("sub/b", 50_000, 2)]);
    let two = bench(&[("sub/b", 50_000, 3), ("c", 50_000, 4)]);
    let three = bench(&[("d", 50_000, 5)]);
    let _seeds: Vec<Process> = [&one, &two, &three].map(|bench| bench.seed(&[])).into();
    let folder = one.empty_folder("leech");
    let (code, summaries) = run_together(&[&one, &two, &three], &folder, &[]);
    assert_eq!((code, codes(&summaries)), (11, vec![0, 11, 0]), "{summaries:?}");
    let reason = summaries[1]["reason"].as_str().unwrap();
    assert!(reason.contains("t/sub/b") && reason.contains("the torrent 't'"), "{reason}");
    assert!(reason.contains("--basedir"), "{reason}");
    one.assert_just(&folder, &[1, 2]);
    three.assert_just(&folder, &[1]);
    assert!(!folder.join("t/c").exists(), "nothing of the other was made");
}

fn same_content() {
    let files = [("a", 50_000, 1), ("sub/b", 50_000, 2)];
    let one = bench(&files);
    let stream: Vec<u8> = items(&files).into_iter().flat_map(|item| item.data).collect();
    // Another torrent by its info hash alone.
    let of_one = info(b"t", 16 << 10, &items(&files), false);
    let two = Bench::new(&[&of_one[..of_one.len() - 1], b"1:xi1ee"].concat(), stream);
    assert_ne!(one.metainfo().info_hash, two.metainfo().info_hash);
    let _seeds: Vec<Process> = [&one, &two].map(|bench| bench.seed(&[])).into();
    let folder = one.empty_folder("leech");
    let (code, summaries) = run_together(&[&one, &two], &folder, &[]);
    assert_eq!((code, codes(&summaries)), (0, vec![0, 0]), "{summaries:?}");
    one.assert_just(&folder, &[1, 2]);
}

fn selected_files() {
    let one = bench(&[("a", 48 << 10, 1), ("b", 48 << 10, 2)]);
    let two = bench(&[("b", 48 << 10, 3), ("c", 48 << 10, 4)]);
    let _seeds: Vec<Process> = [&one, &two].map(|bench| bench.seed(&[])).into();
    let folder = one.empty_folder("leech");
    let (code, summaries) = run_together(&[&one, &two], &folder, &["--priority", "b=0"]);
    assert_eq!((code, codes(&summaries)), (0, vec![0, 0]), "{summaries:?}");
    one.assert_just(&folder, &[1]);
    two.assert_just(&folder, &[2]);
}

fn other_forms_of_a_name() {
    for (one, two) in
        [("Disc.iso", "disc.ISO"), ("Fr\u{e9}d\u{e9}ric", "Fre\u{301}de\u{301}ric"), ("Dir/a", "dir/A")]
    {
        let (one, two) = (bench(&[(one, 50_000, 1)]), bench(&[(two, 50_000, 2)]));
        let _seeds: Vec<Process> = [&one, &two].map(|bench| bench.seed(&[])).into();
        let folder = one.empty_folder("leech");
        let (_, summaries) = run_together(&[&one, &two], &folder, &[]);
        assert_eq!(codes(&summaries), [0, 11], "{summaries:?}");
        one.assert_just(&folder, &[1]);
    }
}

fn two_processes() {
    let tracker = Tracker::start();
    let fixture = Fixture::single(2 * 1024 * 1024, &tracker.url(), 77);
    let _seed = seed(&tracker, &fixture, "1M");
    let folder = fixture.empty_folder("leech");
    let mut first = Btget::tell(&fixture, &folder, &[]);
    first.wait_for_event("a piece", support::events::is_fetched);
    // Neither the place of the resume data nor the selection makes it another's.
    let state = fixture.empty_folder("other state");
    let start = || {
        let mut command = Btget::command();
        command.arg(fixture.torrent()).arg("-d").arg(&folder).arg("--state-dir").arg(&state);
        command.args(["--no-lsd", "--bind", "127.0.0.1", "--json", "--progress", "none", "--no-seed"]);
        command
    };
    let mut second = Btget::run(&mut start());
    assert_eq!(second.wait_for_code(), Some(11), "{}", second.story());
    let said = reason(&second);
    assert!(
        said.contains("another btget") && said.contains(&first.pid().as_raw_nonzero().to_string()),
        "{said}"
    );
    assert!(said.contains("large.bin"), "{said}");
    // A check is not locked out, and locks nobody out.
    let mut check = Btget::with([
        fixture.torrent().to_str().unwrap(),
        "--hashcheck-only",
        "-d",
        folder.to_str().unwrap(),
    ]);
    let code = check.wait_for_code();
    assert!(matches!(code, Some(0 | 7)), "{}", check.story());
    first.wait_for_event("everything", |event| is(event, "complete"));
    fixture.assert_complete(&folder);
    first.terminate();
    assert_eq!(first.wait_for_code(), Some(0), "{}", first.story());
    Btget::run(&mut start()).wait_for_success();
}

fn two_ways() {
    let one = bench(&[("sub/b", 50_000, 1)]);
    let two = Bench::new(
        &info(b"b", 16 << 10, &items(&[("b", 50_000, 2)]), true),
        items(&[("b", 50_000, 2)])[0].data.clone(),
    );
    let base = one.empty_folder("base");
    let first = one.btget(&base, &["--json", "--state", "paused"]);
    let story = first.story();
    support::process::wait_until(
        "the check",
        || story.clone(),
        || first.events().iter().any(|event| is(event, "hashcheck_finished")).then_some(()),
    );
    symlink(&base, one.place("link")).unwrap();
    // The torrent's own folder, not made yet, made, and reached by a link.
    for (made, folder) in
        [(false, base.join("t/sub")), (true, base.join("t/sub")), (true, one.place("link").join("t/sub"))]
    {
        if made {
            fs::create_dir_all(base.join("t/sub")).unwrap();
        }
        let (code, story) = two.run(&folder, &["--no-seed", "--stall-timeout", "2s", "--json"]);
        assert_eq!(code, 11, "{folder:?}\n{story}");
        assert!(!folder.join("b").exists());
    }
    // Beside it there is room.
    let (code, story) = two.run(&base, &["--no-seed", "--stall-timeout", "2s", "--json"]);
    assert_eq!(code, 5, "{story}");
}

fn hard_links() {
    let one = bench(&[("a", 50_000, 1)]);
    let stream = |seed| items(&[("b", 50_000, seed)])[0].data.clone();
    let other = Bench::new(&info(b"b", 16 << 10, &items(&[("b", 50_000, 2)]), true), stream(2));
    let same = Bench::new(&info(b"b", 16 << 10, &items(&[("b", 50_000, 1)]), true), stream(1));
    let base = one.full_folder("base");
    fs::hard_link(base.join("t/a"), base.join("b")).unwrap();
    let first = one.btget(&base, &["--json"]);
    let story = first.story();
    support::process::wait_until(
        "seeding",
        || story.clone(),
        || first.events().iter().any(|event| is(event, "seeding")).then_some(()),
    );
    let (code, story) = other.run(&base, &["--no-seed", "--json", "--overwrite", "--stall-timeout", "2s"]);
    assert_eq!(code, 11, "{story}");
    let (code, story) = same.run(&base, &["--no-seed", "--json", "--stall-timeout", "2s"]);
    assert_eq!(code, 0, "{story}");
    one.assert_just(&base, &[1]);
}

fn killed_owner() {
    let fixture = Fixture::new(Shape::Single, NOBODY, 78);
    let folder = fixture.full_folder("full");
    let mut first = Btget::tell(&fixture, &folder, &[]);
    first.wait_for_event("seeding", |event| is(event, "seeding"));
    first.signal(Signal::KILL);
    let _ = first.wait_for_code();
    Btget::tell(&fixture, &folder, &["--no-seed"]).wait_for_success();
}
