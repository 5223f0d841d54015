//! The session's state, with its clock and its threads in the hands of the test: what the loop would receive is passed on by hand.

mod downloads;
mod room;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::check_queue::CheckThreads;
use super::options::{FileErrorAction, Phase, SessionOptions, Status, TorrentOptions};
use super::subscribers::Subscription;
use super::*;
use crate::disk::{Done, Work, WriteJob};
use crate::event::Verdict;
use crate::hash::Sha1;
use crate::storage::tests::{stream, torrent};
use crate::storage::{Operation, resume};

/// A session whose checks run when the test says so.
struct Bench {
    engine: Engine,
    now: Instant,
    /// Work that was given to the threads that check.
    checks: [Receiver<Work>; 2],
    events: Subscription,
    folder: TempDir,
    _commands: UnboundedSender<Command>,
}

/// Runs the test inside a runtime, as the session's thread does. Tasks do not run.
fn on_session_thread(test: impl FnOnce(Bench)) {
    with_options(SessionOptions::default(), test);
}

fn with_options(options: SessionOptions, test: impl FnOnce(Bench)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let _inside = (runtime.enter(), tasks.enter());
    test(Bench::new(options));
}

impl Bench {
    fn new(options: SessionOptions) -> Bench {
        let (commands, received) = unbounded_channel();
        let options = SessionOptions { bind: Some([127, 0, 0, 1].into()), ..options };
        let mut engine = Engine::start(options, received).unwrap();
        let ((main, main_work), (side, side_work)) = (sync_channel(1), sync_channel(1));
        engine.context.check_threads = CheckThreads::of(main, side);
        let (reply, events) = sync_channel(1);
        let now = Instant::now();
        engine.on_command(now, Command::Subscribe(Severity::Info, Box::new(|_| true), reply));
        Bench {
            engine,
            now,
            checks: [main_work, side_work],
            events: events.recv().unwrap(),
            folder: TempDir::new().unwrap(),
            _commands: commands,
        }
    }

    fn options(&self) -> TorrentOptions {
        let state_dir = Some(self.folder.path().join("state"));
        TorrentOptions { basedir: self.folder.path().into(), state_dir, ..TorrentOptions::default() }
    }

    /// Adds a torrent of one file, whose data are there.
    fn add(&mut self, name: &'static str, length: u64) -> TorrentId {
        std::fs::write(self.folder.path().join(name), stream(length)).unwrap();
        self.add_missing(name, length)
    }

    /// Adds a torrent of one file, with nothing there yet.
    fn add_missing(&mut self, name: &'static str, length: u64) -> TorrentId {
        self.add_with(name, length, self.options())
    }

    fn add_with(&mut self, name: &'static str, length: u64, options: TorrentOptions) -> TorrentId {
        let data = stream(length);
        let mut metainfo = torrent(16384, &[(name, length)], &data);
        metainfo.info_hash = InfoHashes::V1(Sha1(crate::hash::sha1(name.as_bytes()).0));
        let (reply, added) = sync_channel(1);
        let wanted = crate::storage::claim::Wanted {
            metainfo: &metainfo,
            basedir: &options.basedir,
            priorities: &options.priorities,
        };
        let claim = crate::storage::claim::Claims::default().claim(&wanted);
        self.command(Command::Add(
            Box::new(Addition { known: super::Known::Metainfo(metainfo, claim), options }),
            reply,
        ));
        added.recv().unwrap().unwrap()
    }

    fn command(&mut self, command: Command) {
        self.engine.on_command(self.now, command);
        self.engine.end_turn(self.now);
    }

    /// Has the check run that one of the threads was given, and passes on what it tells.
    fn run_check(&mut self, thread: usize) {
        let work = self.checks[thread].try_recv().expect("a check was given to this thread");
        work();
        let mut told = VecDeque::new();
        while let Ok(notice) = self.engine.notices.try_recv() {
            told.push_back(notice);
        }
        for notice in told {
            self.engine.on_notice(self.now, notice);
            self.engine.end_turn(self.now);
        }
    }

    /// Lets time pass, in which nothing happens but what is due then.
    fn pass_time(&mut self, time: Duration) {
        self.now += time;
        self.engine.take_due(self.now);
        self.engine.end_turn(self.now);
    }

    /// Waits for what the disk's threads tell, and passes it on.
    fn pass_on(&mut self) {
        let notice = self.engine.notices.blocking_recv().expect("the session holds a sender");
        self.engine.on_notice(self.now, notice);
        self.engine.end_turn(self.now);
    }

    fn status(&self, torrent: TorrentId) -> Status {
        self.engine.torrents[&torrent].status(self.now)
    }

    fn told(&self) -> Vec<(Option<InfoHashes>, Kind)> {
        let next = || self.events.recv_timeout(Duration::ZERO).ok();
        std::iter::from_fn(next).map(|event| (event.torrent, event.kind)).collect()
    }
}

#[test]
fn torrents_are_checked_one_after_the_other_and_say_that_they_wait() {
    on_session_thread(|mut bench| {
        let all = ["a", "b", "c"].map(|name| bench.add(name, 100_000));
        // Beside the first one the others are looked at, and have as much to read.
        bench.run_check(1);
        bench.run_check(1);
        assert_eq!(all.map(|id| bench.status(id).phase), [Phase::Queued; 3]);
        let queued = |kind: &Kind| matches!(kind, Kind::HashcheckQueued { ahead: 1 | 2 });
        let told = bench.told();
        assert_eq!(told.iter().filter(|(_, kind)| queued(kind)).count(), 3, "{told:?}");
        assert!(!told.iter().any(|(_, kind)| matches!(kind, Kind::HashcheckStarted { .. })));
        for done in 1..=3 {
            bench.run_check(0);
            assert!(bench.checks[1].try_recv().is_err(), "a second check runs");
            assert_eq!(all.iter().filter(|id| bench.status(**id).left == 0).count(), done);
        }
        let told = bench.told();
        let begun = told.iter().filter(|(_, kind)| matches!(kind, Kind::HashcheckStarted { .. }));
        assert_eq!(begun.count(), 3, "{told:?}");
    });
}

#[test]
fn a_small_torrent_is_checked_beside_a_large_one() {
    on_session_thread(|mut bench| {
        bench.add("large", 1_000_000);
        let other = bench.add("other", 900_000);
        bench.run_check(1);
        let small = bench.add("small", 50_000);
        bench.run_check(1);
        assert_eq!([other, small].map(|id| bench.status(id).phase), [Phase::Queued, Phase::Seeding]);
    });
}

#[test]
fn a_torrent_ends_at_once_while_it_waits_for_its_check() {
    on_session_thread(|mut bench| {
        let [_, _, third] = ["a", "b", "c"].map(|name| bench.add(name, 100_000));
        let (reply, removed) = sync_channel(1);
        bench.command(Command::Remove(third, reply));
        removed.recv().unwrap();
        assert!(bench.told().iter().any(|(_, kind)| matches!(kind, Kind::Summary { .. })));
        let fourth = bench.add("d", 100_000);
        bench.command(Command::Shutdown);
        let torrent = &bench.engine.torrents[&fourth];
        assert!(torrent.has_ended() && torrent.is_saved());
        let (verdict, reason) = bench.status(fourth).ended.unwrap();
        assert_eq!((verdict, reason.as_str()), (Verdict::Incomplete, "stopped before the check was done"));
        // Those that a thread has been given are broken off; the last one is not given to any.
        bench.run_check(0);
        bench.run_check(1);
        assert!(bench.checks.iter().all(|checks| checks.try_recv().is_err()));
        while !bench.engine.torrents.values().all(Torrent::has_ended) {
            bench.pass_on();
        }
    });
}

#[test]
fn a_torrent_that_is_to_be_checked_again_keeps_what_it_knows_if_it_ends_while_it_waits() {
    on_session_thread(|mut bench| {
        let known = bench.add("known", 100_000);
        bench.run_check(0);
        let [_, _] = ["a", "b"].map(|name| bench.add(name, 100_000));
        let pieces = Bitfield::full(7);
        let (reply, asked) = sync_channel(1);
        let mut some = pieces.clone();
        some.remove(PieceIndex(6));
        bench.command(Command::Hashcheck(known, Some(some), reply));
        assert!(asked.recv().unwrap());
        assert_eq!(bench.status(known).phase, Phase::Queued);
        assert_eq!(bench.status(known).have, pieces);
        bench.command(Command::Shutdown);
        while !bench.engine.torrents[&known].is_saved() {
            bench.pass_on();
        }
        let vouched =
            resume::load(&bench.folder.path().join("state"), &bench.engine.torrents[&known].new_storage());
        assert_eq!((vouched.have.count(), vouched.to_check.count()), (1, 6));
    });
}

#[test]
fn a_check_that_comes_to_nothing_fails_its_torrent_and_a_new_thread_does_the_next() {
    on_session_thread(|mut bench| {
        let first = bench.add("a", 100_000);
        drop(bench.checks[0].try_recv().unwrap());
        let notice = bench.engine.notices.blocking_recv().unwrap();
        let (main, side) = (sync_channel(1).0, sync_channel(1).0);
        bench.engine.context.check_threads = CheckThreads::of(main, side);
        bench.engine.on_notice(bench.now, notice);
        bench.engine.end_turn(bench.now);
        assert_eq!(bench.status(first).ended.unwrap().0, Verdict::Failed);
        let second = bench.add("b", 100_000);
        while !bench.status(second).have.is_full() {
            assert_eq!(bench.status(second).ended, None);
            bench.pass_on();
        }
    });
}

#[test]
fn a_thread_of_the_disk_that_is_gone_ends_all_torrents_with_an_error() {
    on_session_thread(|mut bench| {
        let checked = bench.add_missing("a", 100_000);
        bench.run_check(0);
        let [waiting, _] = ["b", "c"].map(|name| bench.add(name, 100_000));
        let work = WriteJob::Then(Box::new(|| panic!("an error of this program")));
        assert!(bench.engine.context.disk.write(Default::default(), work));
        while !bench.engine.torrents[&checked].has_ended() {
            let done = bench.engine.done.blocking_recv().expect("the disk holds a sender");
            bench.engine.on_done(bench.now, done);
            bench.engine.end_turn(bench.now);
        }
        let late = bench.add("d", 100_000);
        for torrent in [checked, waiting, late] {
            let (verdict, reason) =
                bench.status(torrent).ended.unwrap_or((bench.status(torrent).verdict, String::new()));
            assert_eq!(verdict, Verdict::Failed, "{reason}");
        }
    });
}

/// The disk is full when piece 0 is to be written.
fn fill_disk(bench: &mut Bench, torrent: TorrentId) {
    let full = std::io::Error::from(rustix::io::Errno::NOSPC);
    let error = StorageError::from_io(Operation::Write, "t", full);
    let done = Done::NotWritten { torrent, piece: PieceIndex(0), error, buffers: Vec::new() };
    bench.engine.on_done(bench.now, done);
    bench.engine.end_turn(bench.now);
}

#[test]
fn after_a_full_disk_a_torrent_goes_on_by_itself_when_there_is_room() {
    on_session_thread(|mut bench| {
        let torrent = bench.add_missing("a", 100_000);
        bench.run_check(0);
        fill_disk(&mut bench, torrent);
        assert_eq!(bench.status(torrent).phase, Phase::Paused);
        let full = bench.status(torrent).error.unwrap();
        assert!(full.contains("disk full"), "{full}");
        bench.told();
        bench.pass_time(Duration::from_secs(29));
        assert_eq!(bench.status(torrent).phase, Phase::Paused);
        bench.pass_time(Duration::from_secs(1));
        while bench.status(torrent).phase == Phase::Paused {
            bench.pass_on();
        }
        assert_eq!(bench.status(torrent).error, None);
        let goes_on = |kind: &Kind| {
            matches!(kind, Kind::StateChanged { from: State::Paused, to: State::Started, reason }
                if reason == "the disk has room again")
        };
        let told = bench.told();
        assert!(told.iter().any(|(_, kind)| goes_on(kind)), "{told:?}");
    });
}

#[test]
fn who_pauses_a_torrent_after_an_error_finds_it_paused() {
    on_session_thread(|mut bench| {
        let torrent = bench.add_missing("a", 100_000);
        bench.run_check(0);
        fill_disk(&mut bench, torrent);
        let (reply, _paused) = sync_channel(1);
        bench.command(Command::Enter(torrent, State::Paused, reply));
        assert_eq!(bench.engine.torrents[&torrent].deadline(), None, "nothing is looked at");
    });
}

#[test]
fn a_full_disk_ends_one_torrent_and_no_other_if_that_is_wanted() {
    on_session_thread(|mut bench| {
        let file_error = Some(FileErrorAction::End);
        let options = TorrentOptions { file_error, ..bench.options() };
        let torrent = bench.add_with("a", 100_000, options.clone());
        let other =
            bench.add_with("b", 100_000, TorrentOptions { no_seed: true, file_error: None, ..options });
        bench.run_check(0);
        bench.run_check(1);
        fill_disk(&mut bench, torrent);
        while !bench.engine.torrents[&torrent].has_ended() {
            bench.pass_on();
        }
        assert_eq!(bench.status(torrent).ended.unwrap().0, Verdict::DiskFull);
        assert_eq!(bench.status(other).phase, Phase::Downloading);
        let told = bench.told();
        let errors = told.iter().filter(|(_, kind)| matches!(kind, Kind::FileError { .. }));
        assert_eq!(errors.count(), 1, "{told:?}");
        // So it is by itself where nobody is to seed.
        fill_disk(&mut bench, other);
        assert_eq!(bench.status(other).phase, Phase::Stopped);
    });
}
