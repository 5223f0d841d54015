//! What signals do, as a user sends them.

// Between two signals nothing happens that could be waited for.
#![allow(clippy::disallowed_methods)]

mod support;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use support::clients::Btget;
use support::events::{is, is_fetched, summary};
use support::fixture::{Family, Fixture, Shape};
use support::process::{PATIENCE, wait_until};
use support::tracker::{Announce, Manners, Tracker};

/// Far more than the 5 s that a stop may take, far less than it takes if something is waited for without end.
const STOPPED_IN_TIME: Duration = Duration::from_secs(15);

/// Longer than the time in which two signals are taken for one request.
const SAME_REQUEST: Duration = Duration::from_millis(400);

/// A seed that gives a MiB a second, for a transfer that lasts.
fn slow_seed(tracker: &Tracker, fixture: &Fixture) -> Btget {
    let seed = Btget::tell(fixture, &fixture.full_folder("seed"), &["--max-upload-rate", "1M"]);
    wait_for(tracker, "the seed's announce", |announces| announces.iter().any(|a| a.left == 0));
    seed
}

fn wait_for(tracker: &Tracker, what: &str, is_so: impl Fn(&[Announce]) -> bool) {
    assert!(tracker.wait_for(PATIENCE, is_so), "no {what}; announced was {:#?}", tracker.announces());
}

fn is_state(event: &Value, to: &str) -> bool {
    is(event, "state_changed") && event["to"] == to
}

fn has_resume_data(folder: &std::path::Path) -> bool {
    let entries = std::fs::read_dir(folder.join("state")).map(|entries| entries.flatten().collect());
    let entries: Vec<_> = entries.unwrap_or_default();
    entries.iter().any(|entry| entry.path().extension().is_some_and(|e| e == "resume"))
}

#[test]
fn sigusr1_stops_all_requests_but_keeps_the_peers_and_sigusr2_goes_on() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 11);
    let _seed = slow_seed(&tracker, &fixture);
    let folder = fixture.empty_folder("leech");
    let mut leech = Btget::tell(&fixture, &folder, &["--events", "debug", "--no-seed"]);
    leech.wait_for_event("a piece", is_fetched);
    leech.signal(Signal::USR1);
    leech.wait_for_event("the pause", |event| is_state(event, "paused"));
    // While another one fetches everything, the paused one asks for nothing and gives nothing.
    let other = fixture.empty_folder("other");
    let mut witness = Btget::tell(&fixture, &other, &["--no-seed"]);
    witness.wait_for_success();
    leech.assert_alive();
    leech.signal(Signal::USR2);
    leech.wait_for_success();
    fixture.assert_complete(&folder);

    let events = leech.events();
    let paused = events.iter().position(|event| is_state(event, "paused")).unwrap();
    let started = events.iter().position(|event| is_state(event, "started")).unwrap();
    let seed_left = |event: &Value| is(event, "peer_disconnect") && event["reason"] != "stopped";
    let of_witness: Vec<&Value> =
        events[paused..started].iter().filter(|event| is(event, "peer_connect")).collect();
    assert!(!of_witness.is_empty(), "a paused torrent accepts peers");
    let first = events.iter().find(|event| is(event, "peer_connect")).unwrap();
    let lost = events[paused..started].iter().filter(|event| seed_left(event));
    let lost: Vec<_> = lost.filter(|event| event["address"] == first["address"]).collect();
    assert!(lost.is_empty(), "a pause keeps its peers: {lost:?}");
    // What the pause itself still sends is said before the event or right behind it: look at the rest.
    let asked = events[paused..started].iter().filter(|event| {
        is(event, "peer_packet_out") && (event["type"] == "request" || event["type"] == "piece")
    });
    assert_eq!(asked.count(), 0, "a paused torrent makes no request and fills none");
    let rates = |event: &Value| (event["down_rate"].as_u64().unwrap(), event["up_rate"].as_u64().unwrap());
    let told: Vec<&Value> = events[paused..started].iter().filter(|event| is(event, "progress")).collect();
    assert!(told.iter().all(|event| rates(event) == (0, 0) && event["eta"].is_null()), "{told:?}");
    let before = events[..paused].iter().rfind(|event| is(event, "progress"));
    assert!(before.is_none_or(|before| rates(before) == (0, 0)) || !told.is_empty(), "the last word is old");
    assert_eq!(summary(&leech)["uploaded"], 0);
}

#[test]
fn int_term_and_hup_stop_and_keep_what_is_there() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 12);
    let _seed = slow_seed(&tracker, &fixture);
    let folder = fixture.empty_folder("leech");
    let mut have = 0;
    for (number, signal) in [Signal::INT, Signal::TERM, Signal::HUP].into_iter().enumerate() {
        let mut leech = Btget::tell(&fixture, &folder, &[]);
        leech.wait_for_event("a piece", is_fetched);
        let told = Instant::now();
        leech.signal(signal);
        assert_eq!(leech.wait_for_code(), Some(7), "{signal:?}\n{}", leech.story());
        assert!(told.elapsed() < STOPPED_IN_TIME, "{signal:?}");
        assert!(leech.events().iter().any(|event| is_state(event, "stopped")));
        let stopped = |announces: &[Announce]| announces.iter().filter(|a| a.event == "stopped").count();
        assert_eq!(stopped(&tracker.announces()), number + 1);
        assert!(has_resume_data(&folder));
        // The resume data name all that was fetched, and it is there.
        let found = leech.wait_for_event_of_check();
        assert_eq!(found, have, "what was there before {signal:?}");
        have = fixture.right_pieces(&folder).iter().filter(|right| **right).count() as u64;
        assert!(have > found);
    }
    let mut last = Btget::tell(&fixture, &folder, &["--no-seed"]);
    last.wait_for_success();
    assert_eq!(last.wait_for_event_of_check(), have);
    fixture.assert_complete(&folder);
}

trait OfCheck {
    /// How many pieces the check at the start found.
    fn wait_for_event_of_check(&mut self) -> u64;
}

impl OfCheck for Btget {
    fn wait_for_event_of_check(&mut self) -> u64 {
        let finished = self.wait_for_event("the check", |event| is(event, "hashcheck_finished"));
        finished["have_count"].as_u64().unwrap()
    }
}

#[test]
fn a_tracker_that_hangs_is_not_waited_for_at_the_end() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 13);
    let mut seed = Btget::tell(&fixture, &fixture.full_folder("seed"), &[]);
    wait_for(&tracker, "announce", |announces| !announces.is_empty());
    seed.wait_for_event("the answer", |event| is(event, "tracker_success"));
    tracker.set_manners(Manners::Hang);
    let told = Instant::now();
    seed.terminate();
    assert_eq!(seed.wait_for_code(), Some(0), "{}", seed.story());
    assert!(told.elapsed() < STOPPED_IN_TIME);
    wait_for(&tracker, "stopped", |announces| announces.last().is_some_and(|a| a.event == "stopped"));
}

#[test]
fn a_second_signal_ends_it_at_once_with_130() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::HUP, Signal::INT)]
    {
        let tracker = Tracker::start();
        let fixture = Fixture::new(Shape::Single, &tracker.url(), 14);
        let mut seed = Btget::tell(&fixture, &fixture.full_folder("seed"), &["-q"]);
        seed.wait_for_event("the answer", |event| is(event, "tracker_success"));
        tracker.set_manners(Manners::Hang);
        seed.signal(first);
        seed.wait_for_event("the stop", |event| is_state(event, "stopped"));
        thread::sleep(SAME_REQUEST);
        seed.signal(second);
        assert_eq!(seed.wait_for_code(), Some(130), "{}", seed.story());
        let lines = seed.lines();
        let said: Vec<_> = lines.iter().filter(|line| !line.starts_with('{')).collect();
        assert_eq!(said, [EXITED], "{}", seed.story());
    }
}

/// What a second signal leaves on standard error, however quiet.
const EXITED: &str = "error: exited at once, by a second signal to stop (exit code 130); the next start checks what was under way";

#[test]
fn a_second_signal_waits_for_nobody_who_reads_what_is_said() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 27);
    let (_reader, mut full) = std::io::pipe().unwrap();
    // As much as a pipe of Linux holds; elsewhere there is room for a line, which is no harm.
    full.write_all(&[b'\n'; 64 << 10]).unwrap();
    let mut seed = Command::new(Btget::program());
    seed.arg(fixture.torrent()).arg("-d").arg(fixture.full_folder("seed")).stdin(Stdio::null()).stderr(full);
    seed.args(["-q", "--state-dir", "", "--no-lsd", "--bind", "127.0.0.1"]);
    let mut seed = seed.spawn().unwrap();
    wait_for(&tracker, "announce", |announces| !announces.is_empty());
    tracker.set_manners(Manners::Hang);
    let pid = rustix::process::Pid::from_child(&seed);
    let stopped = |announces: &[Announce]| announces.last().is_some_and(|a| a.event == "stopped");
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    wait_for(&tracker, "stopped", stopped);
    thread::sleep(SAME_REQUEST);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let ended = wait_until("its end", String::new, || seed.try_wait().unwrap());
    assert_eq!(ended.code(), Some(130));
}

#[test]
fn two_signals_in_one_breath_are_one_request_as_timeout_sends_them() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 18);
    let _seed = slow_seed(&tracker, &fixture);
    let folder = fixture.empty_folder("leech");
    let mut leech = Btget::tell(&fixture, &folder, &["--no-seed"]);
    leech.wait_for_event("a piece", is_fetched);
    for signal in [Signal::TERM, Signal::TERM, Signal::HUP] {
        leech.signal(signal);
    }
    assert_eq!(leech.wait_for_code(), Some(7), "{}", leech.story());
    assert_eq!(summary(&leech)["exit_code"], 7);
    assert!(has_resume_data(&folder));
}

#[test]
fn a_hangup_that_is_ignored_from_the_start_stays_ignored_as_under_nohup() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 19);
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" HUP; exec "$@""#, "sh", Btget::program()]);
    let folder = fixture.full_folder("seed");
    let mut seed = Btget::start_by(command, &fixture, Family::V4, &folder, &["--json"]);
    seed.wait_for_event("the seeding", |event| is(event, "seeding"));
    seed.signal(Signal::HUP);
    // The next signal would come after it.
    seed.signal(Signal::USR1);
    seed.wait_for_event("the pause", |event| is_state(event, "paused"));
    thread::sleep(SAME_REQUEST);
    seed.terminate();
    assert_eq!(seed.wait_for_code(), Some(0), "{}", seed.story());
}

/// Enough to hash for a signal to come in between.
fn large() -> (Fixture, PathBuf) {
    let fixture = Fixture::single(96 * 1024 * 1024, "http://127.0.0.1:9/announce", 15);
    let folder = fixture.full_folder("seed");
    (fixture, folder)
}

#[test]
fn a_check_that_is_stopped_goes_on_where_it_was() {
    let (fixture, folder) = large();
    let passed = |process: &Btget| {
        let events = process.events();
        events.iter().filter(|event| is(event, "piece_hash_passed")).count()
    };
    let mut stopped = Btget::tell(&fixture, &folder, &[]);
    stopped.wait_for_event("a piece", |event| is(event, "piece_hash_passed"));
    stopped.terminate();
    let code = stopped.wait_for_code();
    let first = passed(&stopped);
    // On a very fast machine it may have been done; then all of it is vouched for.
    assert_eq!(code, Some(if first == fixture.pieces() { 0 } else { 7 }), "{}", stopped.story());
    assert!(first > 0);
    let mut again = Btget::tell(&fixture, &folder, &["--no-seed"]);
    again.wait_for_success();
    assert_eq!(first + passed(&again), fixture.pieces(), "each piece is read once in both runs");
}

#[test]
fn a_pause_during_the_check_counts_after_it() {
    let (fixture, folder) = large();
    let mut paused = Btget::tell(&fixture, &folder, &[]);
    paused.wait_for_event("the check", |event| is(event, "hashcheck_started"));
    paused.signal(Signal::USR1);
    paused.wait_for_event("the pause", |event| is_state(event, "paused"));
    paused.wait_for_event("the end of the check", |event| is(event, "hashcheck_finished"));
    let announces = |process: &Btget| process.events().iter().any(|event| is(event, "tracker_announce"));
    wait_until("an announce, as in any state but stopped", String::new, || announces(&paused).then_some(()));
    paused.signal(Signal::USR2);
    paused.wait_for_event("the start", |event| is_state(event, "started"));
    paused.terminate();
    assert_eq!(paused.wait_for_code(), Some(0), "{}", paused.story());
}

#[test]
fn a_torrent_that_begins_paused_or_stopped_waits_for_sigusr2() {
    for state in ["paused", "stopped"] {
        let tracker = Tracker::start();
        let fixture = Fixture::new(Shape::Multi, &tracker.url(), 16);
        let folder = fixture.empty_folder("leech");
        let mut leech = Btget::tell(&fixture, &folder, &["--state", state, "--no-seed"]);
        leech.wait_for_event("the check", |event| is(event, "hashcheck_finished"));
        let _seed = slow_seed(&tracker, &fixture);
        if state == "paused" {
            leech.wait_for_event("the seed", |event| is(event, "peer_handshake_complete"));
        } else {
            assert_eq!(tracker.announces().len(), 1, "a stopped torrent does not announce itself");
        }
        assert!(!leech.events().iter().any(is_fetched));
        leech.signal(Signal::USR2);
        leech.wait_for_success();
        fixture.assert_complete(&folder);
    }
}

/// Runs btget with these signals ignored, as a shell starts it.
fn ignoring(signals: &str, fixture: &Fixture, folder: &std::path::Path, options: &[&str]) -> Btget {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' {signals}; exec \"$0\" \"$@\""), Btget::program()]);
    Btget::start_by(command, fixture, Family::V4, folder, &[&["--json"], options].concat())
}

#[test]
fn signals_that_are_ignored_at_the_start_stay_ignored() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 18);
    for (ignored, others) in [("INT QUIT", [Signal::TERM, Signal::HUP]), ("TERM HUP", [Signal::INT; 2])] {
        for (number, other) in others.into_iter().enumerate() {
            let mut leech = ignoring(
                ignored,
                &fixture,
                &fixture.empty_folder(&format!("{ignored} {other:?} {number}")),
                &[],
            );
            leech.wait_for_event("the check", |event| is(event, "hashcheck_finished"));
            let signals =
                if ignored == "INT QUIT" { [Signal::INT, Signal::QUIT] } else { [Signal::TERM, Signal::HUP] };
            signals.into_iter().for_each(|signal| leech.signal(signal));
            // Later signals are heard, and these were not.
            leech.signal(Signal::USR1);
            leech.wait_for_event("the pause", |event| is_state(event, "paused"));
            assert!(!leech.events().iter().any(|event| is_state(event, "stopped")), "{}", leech.story());
            leech.signal(other);
            assert_eq!(leech.wait_for_code(), Some(7), "{}", leech.story());
        }
    }
    let mut leech = ignoring("USR1", &fixture, &fixture.empty_folder("usr1"), &["--state", "stopped"]);
    leech.wait_for_event("the check", |event| is(event, "hashcheck_finished"));
    leech.signal(Signal::USR1);
    leech.signal(Signal::USR2);
    leech.wait_for_event("the start", |event| is_state(event, "started"));
    assert!(!leech.events().iter().any(|event| is_state(event, "paused")), "{}", leech.story());
}

#[test]
fn a_process_that_was_stopped_has_not_waited_for_data() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 19);
    let _seed = slow_seed(&tracker, &fixture);
    let folder = fixture.empty_folder("leech");
    let mut leech = Btget::tell(&fixture, &folder, &["--no-seed", "--stall-timeout", "4s"]);
    leech.wait_for_event("a piece", is_fetched);
    leech.signal(Signal::STOP);
    // Longer than it would wait for data.
    thread::sleep(Duration::from_secs(7));
    leech.signal(Signal::CONT);
    leech.wait_for_success();
    fixture.assert_complete(&folder);
}

#[test]
fn a_hook_is_not_waited_for_without_end_after_a_signal() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 20);
    // While torrents are there, and after the last has ended.
    for options in [&[][..], &["--no-seed"], &["--hashcheck-only"]] {
        let folder = fixture.full_folder(&format!("full {}", options.concat()));
        let begun = folder.join("begun");
        let hook = format!("sh -c 'touch {}; sleep 1000'", begun.display().to_string().replace(' ', "\\ "));
        let mut process = Btget::tell(&fixture, &folder, &[options, &["--on-complete", &hook]].concat());
        wait_until("the hook", || process.story(), || begun.exists().then_some(()));
        process.terminate();
        let asked = Instant::now();
        assert_eq!(process.wait_for_code(), Some(143), "{}", process.story());
        assert!(asked.elapsed() < STOPPED_IN_TIME, "{:?}", asked.elapsed());
    }
}

#[test]
fn a_reader_that_went_away_is_no_reason_to_end() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 17);
    let _seed = slow_seed(&tracker, &fixture);
    let folder = fixture.empty_folder("leech");
    let text = r#"set -o pipefail 2>/dev/null || exit 0
        "$btget" "$1" --basedir "$2" --state-dir '' --bind 127.0.0.1 --no-seed --json --progress none | true"#;
    let mut command = std::process::Command::new("bash");
    command.args(["-ec", text, "bash"]).arg(fixture.torrent()).arg(&folder).env("btget", Btget::program());
    let mut leech = Btget::run(&mut command);
    leech.wait_for_success();
    fixture.assert_complete(&folder);
}
