//! What the documents show is run as it stands there: each command of README.md, of docs/, of `--help` and of the man page, in
//! a folder with the torrents that it names, a tracker and a seed on loopback.
//!
//! A magnet link of which a document shows the beginning ([`LINK`]) becomes that of a torrent that there is.
//!
//! A command that cannot be run here stands in [`NOT_RUN`], with the reason; any other is run, and has to end with 0. One that
//! seeds gets its Ctrl-C once everything is there. Where jq is missing these are reported as ignored; tests/run installs it.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use btget::internals::cli::manual;
use btget::metainfo::{Magnet, Metainfo};
use libtest_mimic::{Arguments, Trial};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use support::clients::{Btget, is_in_path};
use support::fixture::{Family, Fixture, PIECE_LENGTH};
use support::process::{PATIENCE, Process, wait_until};
use support::system::trial;
use support::tracker::{Announce, Manners, Tracker};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// How a command begins that is not run, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo install", "it builds the program anew, with what it needs from the internet"),
    ("cargo run --release --example quickstart", "it builds the program anew"),
    ("tests/run", "it runs this test"),
    (
        "kill -USR1 $(pidof btget)",
        "it would pause every btget of this machine, those of other tests among them",
    ),
    ("btget https://example.org/", "it asks the internet; tests/url.rs has .torrents at URLs"),
    ("fpath=", "zsh reads it in its own file; tests/shells.rs has the completions in zsh"),
    ("autoload", "the same"),
];

/// How the documents write a magnet link.
const LINK: &str = "magnet:?xt=urn:btih:...";

/// Whose link it is then.
const LINKED: &str = "some";

/// The torrents that the documents name. Each has the files of [`FILES`], and its own data.
const TORRENTS: [&str; 9] = ["some", "debian", "album", "a", "b", "c", "release", "x", "data"];

const FILES: [&str; 8] =
    ["01.flac", "02.flac", "03.flac", "04.flac", "cd2/05.flac", "cd2/06.flac", "cover.jpg", "notes.txt"];

/// Bytes of each file: a piece.
const LENGTH: usize = PIECE_LENGTH as usize;

/// Programs that the documents name and that stand for whatever a reader has: each writes what it was called with, and what it
/// was told, to `said` in its folder. `curl` gives the file that the URL ends in, from its folder.
const STAND_INS: [&str; 3] = ["publish", "mail", "notify-send"];

/// Torrents, their seed and their tracker, and the programs of the documents in one folder.
struct World {
    /// They end first: a folder that goes before its seed may lend its inode to another's, who is then told that somebody writes there.
    _seeds: Vec<Btget>,
    tracker: Tracker,
    fixtures: Vec<Fixture>,
    programs: TempDir,
}

impl World {
    fn new() -> World {
        let tracker = Tracker::start();
        let fixture = |(number, name): (usize, &&'static str)| {
            let mut random = fastrand::Rng::with_seed(number as u64);
            let files = FILES.map(|path| {
                let mut data = vec![0; LENGTH];
                random.fill(&mut data);
                (path, data)
            });
            Fixture::of(name, files.to_vec(), &tracker.url())
        };
        let fixtures: Vec<Fixture> = TORRENTS.iter().enumerate().map(fixture).collect();
        let seed =
            |fixture: &Fixture| Btget::start(fixture, Family::V4, &fixture.full_folder("seed"), &["-q"]);
        let seeds = fixtures.iter().map(seed).collect();
        let is_known = |all: &[Announce]| all.len() >= TORRENTS.len();
        assert!(tracker.wait_for(PATIENCE, is_known), "the seeds announce themselves");
        World { _seeds: seeds, tracker, fixtures, programs: programs() }
    }

    fn fixture(&self, name: &str) -> &Fixture {
        let number = TORRENTS.iter().position(|torrent| *torrent == name).unwrap();
        &self.fixtures[number]
    }

    /// A folder with the torrents, and what the documents install.
    fn folder(&self) -> TempDir {
        let folder = TempDir::new().unwrap();
        for (fixture, name) in self.fixtures.iter().zip(TORRENTS) {
            fs::copy(fixture.torrent(), folder.path().join(format!("{name}.torrent"))).unwrap();
        }
        // What a torrent is made of.
        fs::create_dir(folder.path().join("photos")).unwrap();
        fs::write(folder.path().join("photos/cat.jpg"), "a cat").unwrap();
        for of_project in ["man", "completions"] {
            symlink(Path::new(ROOT).join(of_project), folder.path().join(of_project)).unwrap();
        }
        folder
    }

    fn metainfo(&self, name: &str) -> Metainfo {
        Metainfo::parse(&fs::read(self.fixture(name).torrent()).unwrap()).unwrap()
    }

    /// Runs a command in `folder`, which is its home too, to its end. A seed is stopped by Ctrl-C once all it was given is there.
    fn run(&self, command: &str, folder: &Path) -> Run {
        let (said, complete) = (folder.join("said"), folder.join("complete"));
        let _ = fs::remove_file(&said);
        let _ = fs::remove_file(&complete);
        let path = format!("{}:{}", self.programs.path().display(), std::env::var("PATH").unwrap());
        let link = Magnet::from(&self.metainfo(LINKED)).to_string();
        let mut shell = Command::new("sh");
        shell.args(["-c", &command.replace(LINK, &link)]).current_dir(folder);
        shell.env("PATH", path).env("HOME", folder).env("FOLDER", folder).env_remove("XDG_STATE_HOME");
        let mut process = Process::start(command, &mut shell);
        let torrents = command.split_whitespace().filter(|word| word.ends_with(".torrent")).count().max(1);
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let mut is_left_alone = ["--no-seed", "--cat"].iter().any(|option| command.contains(option));
        let what = format!("the end of: {command}");
        let code = wait_until(&what, String::new, || {
            if let Some(code) = process.code_if_ended() {
                return Some(code);
            }
            if !is_left_alone && read(&complete).lines().count() >= torrents {
                let pid = read(&folder.join("pid")).trim().parse().ok().and_then(Pid::from_raw);
                // It may have ended meanwhile.
                let _ = kill_process(pid.expect("it runs"), Signal::INT);
                is_left_alone = true;
            }
            None
        });
        Run { code, said: process.lines().join("\n"), told: read(&said) }
    }
}

/// A folder with `btget`, kept to loopback, and stand-ins for other programs.
fn programs() -> TempDir {
    let folder = TempDir::new().unwrap();
    let program = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    // What the command says itself comes last and wins. A list option would add up. The seeds of other tests have the same
    // torrents, and must not be found on the local network.
    let btget = format!(
        "case \" $* \" in *' --show '* | *' --create '*) exec '{program}' --bind 127.0.0.1 --no-lsd --no-port-map \"$@\" ;; esac\n\
         echo $$ > \"$FOLDER/pid\"\n\
         exec '{program}' --bind 127.0.0.1 --no-lsd --no-port-map --on-complete 'sh -c \"echo >> $FOLDER/complete\"' \"$@\"",
        program = Btget::program()
    );
    program("btget", &btget);
    for name in STAND_INS {
        let input = if name == "mail" { "; cat >> \"$FOLDER/said\"" } else { "" };
        program(
            name,
            &format!("echo {name} \"$@\" >> \"$FOLDER/said\"{input}; echo >> \"$FOLDER/complete\""),
        );
    }
    program("mpv", "cat > /dev/null");
    program("curl", "for last; do :; done; cat \"$FOLDER/${last##*/}\"");
    folder
}

/// How a command ended.
struct Run {
    code: Option<i32>,
    /// On standard output and standard error.
    said: String,
    /// What the stand-ins were called with.
    told: String,
}

/// The blocks of a document in this language.
fn blocks(document: &str, languages: &[&str]) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```").filter(|it| !it.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if languages.contains(&language) {
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// The commands of a block, each as whole as a shell wants it. A script is one.
fn commands(block: &str) -> Vec<String> {
    if block.starts_with("#!") {
        return vec![block.to_owned()];
    }
    let mut commands = Vec::new();
    let mut command = String::new();
    for line in block.lines() {
        if command.is_empty() && (line.trim().is_empty() || line.starts_with('#')) {
            continue;
        }
        command += line;
        let goes_on = line.ends_with('\\') || !is_whole(&command);
        match goes_on {
            true => command.push('\n'),
            false => commands.push(std::mem::take(&mut command)),
        }
    }
    assert!(command.is_empty(), "no whole command: {command}");
    commands
}

fn is_whole(command: &str) -> bool {
    Command::new("bash").args(["-n", "-c", command]).output().unwrap().status.success()
}

fn is_run(command: &str) -> bool {
    !NOT_RUN.iter().any(|(beginning, _)| command.starts_with(beginning))
}

/// Runs these one after the other, each in a folder of its own; a check looks at what the one before it has made.
fn run_all(world: &World, commands: &[String]) {
    let mut folder = world.folder();
    for command in commands.iter().filter(|command| is_run(command)) {
        if !command.contains("--hashcheck-only") {
            folder = world.folder();
        }
        let run = world.run(command, folder.path());
        assert_eq!(run.code, Some(0), "{command}\nsaid:\n{}", run.said);
        look_closer(world, command, &run, folder.path());
    }
}

/// What else is told of some of them, by a part that is theirs alone.
fn look_closer(world: &World, command: &str, run: &Run, folder: &Path) {
    let published = run.told.starts_with("publish ./storage\n");
    let complete = |name: &str, below: &str| world.fixture(name).assert_complete(&folder.join(below));
    match command {
        it if it.contains("publish") => assert!(published, "{it}: {}", run.told),
        it if it.contains("--save-torrent new.torrent") || it.contains("--save-torrent some.torrent") => {
            let name = it.rsplit(' ').find(|word| word.ends_with(".torrent")).unwrap();
            let saved = Metainfo::parse(&fs::read(folder.join(name)).unwrap()).unwrap();
            let original = world.metainfo(LINKED);
            assert_eq!((saved.info_bytes, saved.trackers), (original.info_bytes, original.trackers), "{it}");
        }
        it if it.contains(LINK) && it.contains("--show") => {
            assert!(run.said.contains("8    64.0 KiB  some/notes.txt"), "{}", run.said);
        }
        it if it.contains(LINK) => {
            let below = if it.contains("~/Downloads") { "Downloads" } else { "storage" };
            complete(LINKED, below);
        }
        it if it.contains("--create") => {
            assert!(run.said.contains("magnet:?xt=urn:btih:"), "{}", run.said);
            assert!(folder.join("photos.torrent").exists(), "{}", run.said);
        }
        it if it.contains("debian.torrent") => complete("debian", "Downloads"),
        it if it.contains("--show album") => assert!(run.said.contains("8    64.0 KiB  album/notes.txt")),
        it if it.contains("1,4-7") => {
            let paths = [0, 3, 4, 5, 6].map(|number| format!("album/{}", FILES[number]));
            world.fixture("album").assert_just(folder, &paths.each_ref().map(String::as_str));
        }
        it if it.contains("a.torrent b.torrent") => {
            ["a", "b", "c"].iter().for_each(|name| complete(name, "."))
        }
        it if it.contains("\"progress\"") => assert!(run.said.contains("100.0%"), "{}", run.said),
        it if it.contains("peer_data_in") => {
            let (bytes, address) = run.said.split_once('\t').expect(it);
            assert!(
                bytes.parse::<usize>().unwrap() >= FILES.len() * LENGTH && address.starts_with("127.0.0.1:")
            );
        }
        it if it.contains("{exit_code, reason, downloaded}") => {
            assert!(run.said.contains("\"exit_code\": 0"), "{}", run.said);
        }
        it if it.starts_with("install ") => {
            let mut words = it.split(' ').rev();
            let (to, from) = (words.next().unwrap().trim_start_matches("~/"), words.next().unwrap());
            assert_eq!(fs::read(folder.join(to)).unwrap(), fs::read(folder.join(from)).unwrap(), "{it}");
        }
        _ => {}
    }
}

/// README.md and what is in docs/, by name.
fn documents() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let paths =
        ["README.md", "ARCHITECTURE.md"].map(|name| Path::new(ROOT).join(name)).into_iter().chain(docs);
    paths.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

const SHELL: [&str; 5] = ["sh", "bash", "zsh", "shell", "console"];

fn commands_of_the_documents_do_what_they_say() {
    let world = World::new();
    let mut all = Vec::new();
    for (_, text) in documents() {
        for block in blocks(&text, &SHELL) {
            let commands = commands(&block);
            run_all(&world, &commands);
            all.extend(commands);
        }
    }
    assert!(all.len() > 20, "{all:#?}");
    for (beginning, _) in NOT_RUN.iter().filter(|(beginning, _)| !beginning.starts_with("kill")) {
        assert!(all.iter().any(|it| it.starts_with(beginning)), "nothing begins with {beginning} any more");
    }
}

/// Languages in which a document may show something that is not run: what looks like a command to a reader has to be marked as one.
fn blocks_are_of_kinds_that_are_tested() {
    for (path, text) in documents() {
        let fences = text.lines().filter_map(|line| line.strip_prefix("```"));
        for language in fences.step_by(2) {
            let is_known =
                SHELL.contains(&language) || ["text", "crontab", "ini", "yaml"].contains(&language);
            assert!(is_known, "{}: a block of '{language}'", path.display());
        }
    }
}

fn readme() -> String {
    fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

/// The command of README.md that holds `part`.
fn command_of_readme(part: &str) -> String {
    let blocks = blocks(&readme(), &SHELL);
    blocks.iter().flat_map(|block| commands(block)).find(|it| it.contains(part)).expect(part)
}

/// The script, where nobody has the torrent.
fn readme_script_says_that_nobody_has_it() {
    let world = World::new();
    world.tracker.set_manners(Manners::Refuse("no".to_owned()));
    let script = command_of_readme("#!/bin/sh");
    let run = world.run(&script.replace("10m", "1s"), world.folder().path());
    assert_eq!((run.code, run.told.as_str()), (Some(0), ""), "{}", run.said);
    assert!(run.said.contains("nobody has it at the moment"), "{}", run.said);
}

/// The reports of files that are damaged, by the command that README.md has for it.
fn readme_tells_of_damaged_files() {
    let world = World::new();
    let folder = world.folder();
    world.run("btget x.torrent some.torrent -d storage --no-seed", folder.path());
    fs::write(folder.path().join("storage/x/01.flac"), vec![1; LENGTH]).unwrap();
    let run = world.run(&command_of_readme("file_report"), folder.path());
    let corrupt: Vec<&str> = run.said.lines().filter(|line| line.starts_with("corrupt\t")).collect();
    assert_eq!(corrupt, ["corrupt\tx/01.flac"], "{}", run.said);
    fs::write(folder.path().join("storage/some/01.flac"), vec![1; LENGTH]).unwrap();
    let run = world.run(&command_of_readme("&& publish"), folder.path());
    assert_eq!((run.code, run.told.as_str()), (Some(32), ""), "{}", run.said);
}

/// The command of cron's line, below a folder of the test in place of /srv.
fn readme_in_cron_says_nothing_unless_something_is_wrong() {
    let world = World::new();
    let folder = world.folder();
    let block = blocks(&readme(), &["crontab"]).concat();
    let line = block.lines().find(|line| !line.starts_with('#')).unwrap();
    let command =
        line.splitn(6, ' ').last().unwrap().trim().replace("/srv/", &format!("{}/", folder.path().display()));
    let mirror = folder.path().join("mirror");
    fs::create_dir(&mirror).unwrap();
    for name in ["a.torrent", "b.torrent"] {
        fs::rename(folder.path().join(name), mirror.join(name)).unwrap();
    }
    world.run("btget mirror/*.torrent -d mirror --no-seed", folder.path());
    let well = world.run(&command, folder.path());
    assert_eq!((well.code, well.said.as_str()), (Some(0), ""));
    fs::remove_file(mirror.join("a/01.flac")).unwrap();
    let wrong = world.run(&command, folder.path());
    assert_eq!(wrong.code, Some(7));
    assert!(wrong.said.contains("missing") && wrong.said.contains("a/01.flac"), "{}", wrong.said);
}

/// The lines of the unit that hold, and its command.
fn readme_as_a_service_seeds_until_it_is_stopped() {
    let world = World::new();
    let folder = world.folder();
    let unit = blocks(&readme(), &["ini"]).concat();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let program = start.split(' ').next().unwrap();
    assert_eq!(
        program, "%h/.local/bin/btget",
        "where README.md installs it: systemd does not look into $PATH"
    );
    let command = start.replace(program, "btget").replace("%h", ".").replace("%i", "debian.torrent");
    fs::create_dir(folder.path().join("torrents")).unwrap();
    fs::rename(folder.path().join("debian.torrent"), folder.path().join("torrents/debian.torrent")).unwrap();
    let run = world.run(&command, folder.path());
    assert_eq!(run.code, Some(0), "{}", run.said);
    world.fixture("debian").assert_complete(&folder.path().join("storage"));
}

/// The steps of the CI job, by the shell that runs them there: with data that are there, and with nobody who has them.
fn readme_in_ci_fails_with_a_reason() {
    let world = World::new();
    let folder = world.folder();
    let block = blocks(&readme(), &["yaml"]).concat();
    let steps: Vec<String> = block.split("run: ").skip(1).map(step).collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    let run =
        |step: &String| world.run(&format!("bash -e -c '{}'", step.replace('\'', r"'\''")), folder.path());
    let nothing = run(&steps[1]);
    assert_eq!(nothing.code, Some(7), "{}", nothing.said);
    let fetched = run(&steps[0]);
    assert!(fetched.code == Some(0) && fetched.said.starts_with("data: "), "{}", fetched.said);
    assert_eq!(run(&steps[1]).code, Some(0));
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    world.tracker.set_manners(Manners::Refuse("no".to_owned()));
    let alone = run(&steps[0].replace("5m", "1s"));
    assert!(alone.code == Some(5) && alone.said.contains("no new data"), "{:?} {}", alone.code, alone.said);
}

/// What stands behind `run: `, without the marker of a block and its indentation.
fn step(text: &str) -> String {
    let lines = text.lines().skip_while(|line| *line == "|").take_while(|line| !line.starts_with('-'));
    lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
}

fn examples_of_help_and_man_page_do_what_they_say() {
    let world = World::new();
    let help = Btget::command().arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let (_, examples) = help.split_once("Examples:\n").unwrap();
    let of_help: Vec<&str> = examples.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let (_, roff) = manual::SECTIONS.iter().find(|(heading, _)| *heading == "EXAMPLES").unwrap();
    let roff = roff.replace(r"\-", "-").replace(r"\(dq", "\"").replace(r"\e", "\\");
    let of_man: Vec<&str> = roff.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    for block in [of_help.join("\n"), of_man.join("\n")] {
        let commands = commands(&block);
        assert!(commands.len() >= 5, "{commands:#?}");
        run_all(&world, &commands);
    }
}

fn main() -> ExitCode {
    let possible = is_in_path("jq") && is_in_path("bash") && Path::new("/bin/sh").exists();
    let trial = |name: &str, run: fn()| trial(name, possible, run);
    let trials: Vec<Trial> = vec![
        trial("commands_of_the_documents_do_what_they_say", commands_of_the_documents_do_what_they_say),
        trial("blocks_are_of_kinds_that_are_tested", blocks_are_of_kinds_that_are_tested),
        trial("readme_script_says_that_nobody_has_it", readme_script_says_that_nobody_has_it),
        trial("readme_tells_of_damaged_files", readme_tells_of_damaged_files),
        trial(
            "readme_in_cron_says_nothing_unless_something_is_wrong",
            readme_in_cron_says_nothing_unless_something_is_wrong,
        ),
        trial("readme_as_a_service_seeds_until_it_is_stopped", readme_as_a_service_seeds_until_it_is_stopped),
        trial("readme_in_ci_fails_with_a_reason", readme_in_ci_fails_with_a_reason),
        trial(
            "examples_of_help_and_man_page_do_what_they_say",
            examples_of_help_and_man_page_do_what_they_say,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
