//! btget against real clients, on loopback: each direction, one file and many, IPv4 and IPv6.
//!
//! A client or a family of addresses that this machine lacks makes its tests ignored, not passed;
//! tests/run installs the clients.
//!
//! The clients meet at a tracker. Who comes second to it learns of the first and dials; so the order
//! of the starts decides who dials whom.

mod support;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use support::clients::{Btget, Client, Node};
use support::fixture::{Family, Fixture, Shape};
use support::process::PATIENCE;
use support::tracker::{Announce, Tracker};

/// Who starts second, and so dials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialer {
    Btget,
    Client,
}

/// One test against a client.
#[derive(Clone, Copy, Debug)]
struct Case {
    client: Client,
    shape: Shape,
    family: Family,
    dialer: Dialer,
}

impl Case {
    /// Every case that the clients can do.
    fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        for client in Client::ALL {
            for shape in [Shape::Single, Shape::Multi] {
                for family in [Family::V4, Family::V6] {
                    for dialer in [Dialer::Btget, Dialer::Client] {
                        cases.push(Case { client, shape, family, dialer });
                    }
                }
            }
        }
        // transmission never dials a loopback address.
        cases.retain(|case| (case.client, case.dialer) != (Client::Transmission, Dialer::Client));
        cases
    }

    fn label(self, does: &str) -> String {
        let shape = match self.shape {
            Shape::Single => "a_single_file",
            Shape::Multi => "many_files",
        };
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        let dialer = match self.dialer {
            Dialer::Btget => "dialing_it",
            Dialer::Client => "dialed_by_it",
        };
        format!("btget_{does}_{}_{shape}_over_{family}_{dialer}", self.client.name())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        control(Client::Libtorrent, Client::Aria2, true),
        control(Client::Libtorrent, Client::Aria2, false),
        control(Client::Aria2, Client::Libtorrent, true),
        control(Client::Aria2, Client::Libtorrent, false),
        control(Client::Transmission, Client::Libtorrent, true),
        control(Client::Libtorrent, Client::Transmission, false),
    ];
    for case in Case::all() {
        let ignored = !case.client.is_installed() || !case.family.is_available();
        let downloads = case.label("downloads_from");
        trials.push(trial(downloads, move || btget_downloads(case)).with_ignored_flag(ignored));
        let seeds = case.label("seeds_to");
        trials.push(trial(seeds, move || btget_seeds(case)).with_ignored_flag(ignored));
    }
    for client in Client::ALL {
        let ignored = !client.is_installed();
        let name = format!("btget_downloads_selected_files_from_{}", client.name());
        trials.push(trial(name, move || btget_downloads_selected_files(client)).with_ignored_flag(ignored));
    }
    let ignored = !Client::Libtorrent.is_installed();
    let name = "btget_serves_the_pieces_of_selected_files_to_libtorrent".to_owned();
    trials.push(trial(name, btget_serves_selected_files).with_ignored_flag(ignored));
    trials.push(trial(
        "eight_leechers_finish_on_less_than_two_copies_from_a_slow_seed".to_owned(),
        eight_leechers,
    ));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: String, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}

/// Two other clients, without us, the second dialing the first: if this fails, it is the test bench
/// that is at fault.
fn control(seeder: Client, leecher: Client, seeder_is_first: bool) -> Trial {
    let ignored = !seeder.is_installed() || !leecher.is_installed();
    let dialer = if seeder_is_first { leecher } else { seeder };
    let name = format!("control_{}_seeds_to_{}_{}_dials", seeder.name(), leecher.name(), dialer.name());
    let run = move || {
        let rounds = [(Family::V4, Shape::Multi), (Family::V6, Shape::Single)];
        for (family, shape) in rounds.into_iter().filter(|(family, _)| family.is_available()) {
            let tracker = start_tracker(family);
            let fixture = Fixture::new(shape, &tracker.url(), 1);
            let folder = fixture.empty_folder("leech");
            let start_seed = || start_seed(seeder, &fixture, family, &tracker);
            let start_leech = || start_leech(leecher, &fixture, family, &tracker, &folder);
            let (_seed, mut leech) = if seeder_is_first {
                let seed = start_seed();
                (seed, start_leech())
            } else {
                let leech = start_leech();
                (start_seed(), leech)
            };
            leech.wait_until_complete();
            fixture.assert_data_complete(&folder);
        }
    };
    trial(name, run).with_ignored_flag(ignored)
}

/// Starts a client that has everything; gives it when the tracker knows it.
fn start_seed(client: Client, fixture: &Fixture, family: Family, tracker: &Tracker) -> Box<dyn Node> {
    let mut seed = client.start(fixture, family, &fixture.full_folder("seed"));
    seed.wait_until_complete();
    wait_for(tracker, "the seed's announce", |announces| announces.iter().any(|a| a.left == 0));
    seed
}

/// Starts a client that has nothing; gives it when the tracker knows it.
fn start_leech(
    client: Client,
    fixture: &Fixture,
    family: Family,
    tracker: &Tracker,
    folder: &Path,
) -> Box<dyn Node> {
    let leech = client.start(fixture, family, folder);
    wait_for(tracker, "the leecher's announce", |announces| announces.iter().any(|a| a.left > 0));
    leech
}

/// A tracker of this family. Its interval outlasts any test, so who was there first never asks again.
fn start_tracker(family: Family) -> Tracker {
    Tracker::start_on(family.loopback()).expect("loopback can be listened on")
}

/// Waits until what was announced is as asked.
fn wait_for(tracker: &Tracker, what: &str, is_so: impl Fn(&[Announce]) -> bool) {
    let came = tracker.wait_for(PATIENCE, is_so);
    assert!(came, "waited {PATIENCE:?} in vain for {what}; announced was {:#?}", tracker.announces());
}

fn btget_downloads(case: Case) {
    let Case { client, shape, family, dialer } = case;
    let tracker = start_tracker(family);
    let fixture = Fixture::new(shape, &tracker.url(), 2);
    let folder = fixture.empty_folder("leech");
    let start_seed = || start_seed(client, &fixture, family, &tracker);
    let start_btget = || {
        let btget = Btget::start(&fixture, family, &folder, &["--no-seed"]);
        wait_for(&tracker, "btget's announce", |announces| announces.iter().any(|a| a.left > 0));
        btget
    };
    let (_seed, mut btget) = match dialer {
        Dialer::Btget => {
            let seed = start_seed();
            (seed, start_btget())
        }
        Dialer::Client => {
            let btget = start_btget();
            (start_seed(), btget)
        }
    };
    btget.wait_for_success();
    fixture.assert_complete(&folder);
}

fn btget_seeds(case: Case) {
    let Case { client, shape, family, dialer } = case;
    let tracker = start_tracker(family);
    let fixture = Fixture::new(shape, &tracker.url(), 3);
    let folder = fixture.empty_folder("leech");
    let start_leech = || start_leech(client, &fixture, family, &tracker, &folder);
    let start_btget = || {
        let btget = Btget::start(&fixture, family, &fixture.full_folder("seed"), &[]);
        wait_for(&tracker, "btget's announce", |announces| announces.iter().any(|a| a.left == 0));
        btget
    };
    let (mut leech, mut btget) = match dialer {
        Dialer::Btget => {
            let leech = start_leech();
            (leech, start_btget())
        }
        Dialer::Client => {
            let btget = start_btget();
            (start_leech(), btget)
        }
    };
    leech.wait_until_complete();
    fixture.assert_data_complete(&folder);
    btget.terminate();
    btget.wait_for_success();
}

/// Files 2 and 7 of the album; their 18 pieces hold all of 1 and 6 and parts of 3 and 5, too.
const SELECTED: [&str; 2] = ["album/disc 1/01 - \u{f6}ffnung.flac", "album/cover.jpg"];

fn btget_downloads_selected_files(client: Client) {
    let tracker = start_tracker(Family::V4);
    let fixture = Fixture::new(Shape::Multi, &tracker.url(), 5);
    let folder = fixture.empty_folder("leech");
    let _seed = start_seed(client, &fixture, Family::V4, &tracker);
    let mut btget = Btget::start(&fixture, Family::V4, &folder, &["--files", "2,7", "--no-seed"]);
    btget.wait_for_success();
    fixture.assert_just(&folder, &SELECTED);
    // The same folder, and all of it now.
    let mut btget = Btget::start(&fixture, Family::V4, &folder, &["--no-seed"]);
    btget.wait_for_success();
    fixture.assert_complete(&folder);
}

fn btget_serves_selected_files() {
    let tracker = start_tracker(Family::V4);
    let fixture = Fixture::new(Shape::Multi, &tracker.url(), 6);
    let folder = fixture.empty_folder("partial");
    {
        let _seed = start_seed(Client::Libtorrent, &fixture, Family::V4, &tracker);
        let mut btget = Btget::start(&fixture, Family::V4, &folder, &["--files", "2,7", "--no-seed"]);
        btget.wait_for_success();
    }
    let announced = tracker.announces().len();
    let mut btget = Btget::start(&fixture, Family::V4, &folder, &["--files", "2,7", "--json"]);
    wait_for(&tracker, "btget's announce", |announces| {
        announces[announced..].iter().any(|a| a.event == "started")
    });
    let libtorrent = fixture.empty_folder("leech");
    let mut leech = Client::Libtorrent.start(&fixture, Family::V4, &libtorrent);
    leech.wait_until_it_has(18);
    fixture.assert_there(&libtorrent, &SELECTED);
    btget.terminate();
    btget.wait_for_success();
}

/// The seed's link is the bottleneck, so the copies have to come from the leechers.
fn eight_leechers() {
    const LEECHERS: usize = 8;
    let family = Family::V4;
    let tracker = start_tracker(family);
    let fixture = Fixture::single(16 * 1024 * 1024, &tracker.url(), 4);
    let mut seed = Btget::start(&fixture, family, &fixture.full_folder("seed"), &["--max-upload-rate", "4M"]);
    wait_for(&tracker, "the seed's announce", |announces| announces.iter().any(|a| a.left == 0));
    let seed_address = tracker.announces()[0].address;
    let folders: Vec<_> =
        (0..LEECHERS).map(|number| fixture.empty_folder(&format!("leech {number}"))).collect();
    let mut leechers: Vec<Btget> =
        folders.iter().map(|folder| Btget::start(&fixture, family, folder, &[])).collect();
    wait_for(&tracker, "all leechers to complete", |announces| {
        announces.iter().filter(|a| a.event == "completed").count() == LEECHERS
    });
    for leecher in &mut leechers {
        leecher.terminate();
        leecher.wait_for_success();
    }
    seed.terminate();
    seed.wait_for_success();
    for folder in &folders {
        fixture.assert_complete(folder);
    }
    let announces = tracker.announces();
    let last = announces.iter().rfind(|a| a.address == seed_address && a.event == "stopped").unwrap();
    let copies = last.uploaded as f64 / fixture.size() as f64;
    assert!((1.0..2.0).contains(&copies), "the seed uploaded {copies:.2} copies");
}
