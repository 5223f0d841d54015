//! What a kill may cost. It is sent at random moments of downloads, and of the ends of
//! downloads; each life is then compared with what is on the disk.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use support::clients::Btget;
use support::events::{claimed, fetched, is, is_fetched, seed};
use support::fixture::{Fixture, Shape};
use support::process::wait_until;
use support::tracker::Tracker;

/// As many kills as in `BTGET_KILLS`, in all.
#[test]
fn a_kill_at_any_moment_costs_no_verified_piece() {
    const RUNS: u64 = 4;
    let all: u64 = std::env::var("BTGET_KILLS").map_or(56, |kills| kills.parse().expect("a number"));
    let runs: Vec<_> =
        (0..RUNS).map(|number| thread::spawn(move || kill_often(number, all.div_ceil(RUNS)))).collect();
    for run in runs {
        run.join().expect("each run holds");
    }
}

/// What is downloaded while it is killed.
struct Target {
    fixture: Fixture,
    options: &'static [&'static str],
    /// Pieces that lie in wanted files alone: of others, bytes are kept elsewhere.
    in_files: Vec<bool>,
}

impl Target {
    fn new(number: u64, tracker: &Tracker) -> Target {
        if number.is_multiple_of(2) {
            let fixture = Fixture::single(6 * 1024 * 1024 + 777, &tracker.url(), 40 + number);
            let in_files = vec![true; fixture.pieces()];
            return Target { fixture, options: &[], in_files };
        }
        let fixture = Fixture::new(Shape::Multi, &tracker.url(), 40 + number);
        let wanted = fixture.full_folder("only wanted files");
        for unwanted in ["README", "disc 1/02.flac", "disc 2/deep/er/notes.txt", "cover.jpg"] {
            fs::remove_file(wanted.join("album").join(unwanted)).unwrap();
        }
        let in_files = fixture.right_pieces(&wanted);
        Target { fixture, options: &["--files", "2,5"], in_files }
    }

    fn start(&self, folder: &Path, more: &[&str]) -> Btget {
        Btget::tell(&self.fixture, folder, &[self.options, more].concat())
    }

    /// What was ever verified is there and claimed, what is claimed is there, and nothing is fetched twice.
    fn assert_life(&self, folder: &Path, leech: &Btget, known: BTreeSet<usize>) -> BTreeSet<usize> {
        let right = self.fixture.right_pieces(folder);
        let fetched = fetched(leech);
        let Some(claimed) = claimed(leech) else {
            assert!(fetched.is_empty());
            return known;
        };
        for &piece in claimed.iter().chain(&fetched).chain(&known).filter(|piece| self.in_files[**piece]) {
            assert!(right[piece], "piece {piece} counts and is not right\n{}", leech.story());
        }
        let lost: Vec<_> = known.difference(&claimed).collect();
        assert!(lost.is_empty(), "verified before the kill, not known after it: {lost:?}\n{}", leech.story());
        let mut now = claimed;
        for piece in fetched {
            assert!(now.insert(piece), "piece {piece} was there and is fetched again\n{}", leech.story());
        }
        now
    }
}

fn kill_often(number: u64, kills: u64) {
    let mut rng = fastrand::Rng::with_seed(number);
    let tracker = Tracker::start();
    let target = Target::new(number, &tracker);
    let fixture = &target.fixture;
    let _seed = seed(&tracker, fixture, "2M");
    let mut folder = fixture.empty_folder("leech 0");
    let mut known = BTreeSet::new();
    for kill in 0..kills {
        let mut leech = target.start(&folder, &[]);
        kill_at_random(&mut leech, &mut rng);
        known = target.assert_life(&folder, &leech, known);
        if leech.events().iter().any(|event| is(event, "seeding")) {
            folder = fixture.empty_folder(&format!("leech {}", kill + 1));
            known.clear();
        }
    }
    let mut last = target.start(&folder, &["--no-seed"]);
    last.wait_for_success();
    target.assert_life(&folder, &last, known);
    // By the program's own word; and where it can be seen from outside, byte by byte.
    target.start(&folder, &["--hashcheck-only"]).wait_for_success();
    let right = fixture.right_pieces(&folder);
    assert!(right.iter().zip(&target.in_files).all(|(right, in_files)| *right || !in_files));
}

fn kill_at_random(leech: &mut Btget, rng: &mut fastrand::Rng) {
    let pieces = rng.usize(0..10);
    if pieces > 0 {
        let what = format!("{pieces} pieces, or all");
        let story = leech.story();
        wait_until(
            &what,
            || story.clone(),
            || {
                leech.assert_alive();
                let events = leech.events();
                let enough = events.iter().filter(|event| is_fetched(event)).count() >= pieces;
                (enough || events.iter().any(|event| is(event, "seeding"))).then_some(())
            },
        );
    }
    thread::sleep(Duration::from_micros(rng.u64(0..60_000)));
    if rng.u8(0..3) == 0 {
        // In the middle of a clean stop, while all is saved.
        leech.terminate();
        thread::sleep(Duration::from_micros(rng.u64(0..12_000)));
    }
    leech.signal(Signal::KILL);
    leech.wait();
}
