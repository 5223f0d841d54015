//! Trackers, through the binary: those that the user gives, and what is said of them.

mod support;

use btget::metainfo::create::{Content, NewTorrent};
use support::clients::Btget;
use support::fixture::{Family, Fixture, PIECE_LENGTH};
use support::process::PATIENCE;
use support::tracker::{Manners, Tracker};

#[test]
fn further_trackers_are_asked_after_the_torrents_own() {
    let (own, first, second) = (Tracker::start(), Tracker::start(), Tracker::start());
    own.set_manners(Manners::Close);
    first.set_manners(Manners::Refuse("not here".into()));
    let fixture = Fixture::single(200_000, &own.url(), 1);
    let tier = format!("{},http://127.0.0.1:1/announce", second.url());
    let folder = fixture.full_folder("seed");
    let mut btget = Btget::tell(&fixture, &folder, &["--tracker", &first.url(), "--tracker", &tier]);
    btget.wait_for_event("an answer of the last tier", |event| {
        event["event"] == "tracker_success" && event["tier"] == 3 && event["url"] == second.url().as_str()
    });
    assert_eq!((own.announces().len(), first.announces().len()), (1, 1));
    btget.terminate();
    btget.wait_for_success();
    assert!(second.wait_for(PATIENCE, |heard| heard.iter().any(|announce| announce.event == "stopped")));
}

#[test]
fn a_private_torrent_keeps_to_its_own_trackers_and_says_so() {
    let (own, further) = (Tracker::start(), Tracker::start());
    let fixture = Fixture::single(100_000, &own.url(), 2);
    let folder = fixture.full_folder("seed");
    let data = std::fs::read(folder.join("large.bin")).unwrap();
    let hashes: Vec<_> = data.chunks(PIECE_LENGTH as usize).map(btget::metainfo::sha1).collect();
    let torrent = NewTorrent {
        name: "large.bin",
        content: Content::File(data.len() as u64),
        piece_length: PIECE_LENGTH,
        piece_hashes: &hashes,
        trackers: &[vec![own.url()]],
        private: true,
    };
    std::fs::write(fixture.torrent(), torrent.encode()).unwrap();
    let mut btget = Btget::tell(&fixture, &folder, &["--tracker", &further.url()]);
    let warning = btget.wait_for_event("a word about it", |event| event["event"] == "tracker_warning");
    assert!(warning["message"].as_str().unwrap().contains("the torrent is private"), "{warning}");
    btget.wait_for_event("an answer", |event| event["event"] == "tracker_success");
    btget.terminate();
    btget.wait_for_success();
    assert_eq!(further.connections(), 0);
}

#[test]
fn passwords_of_trackers_are_shown_nowhere() {
    let (good, bad) = (Tracker::start(), Tracker::start());
    bad.set_manners(Manners::Refuse("no".into()));
    let with_password = |tracker: &Tracker| tracker.url().replace("http://", "http://me:geheim%21@");
    let fixture = Fixture::single(100_000, &with_password(&bad), 3);
    let folder = fixture.full_folder("seed");
    let further = with_password(&good);
    let options = ["--json", "--events", "debug", "-vv", "--tracker", &further];
    let mut btget = Btget::start(&fixture, Family::V4, &folder, &options);
    btget.wait_for_event("an answer", |event| event["event"] == "tracker_success");
    btget.terminate();
    btget.wait_for_success();
    let story = btget.lines().join("\n");
    assert!(story.contains("http://***@") && story.contains("tracker_disconnect"), "{story}");
    assert!(!story.contains("geheim"), "{story}");
    assert!(good.announces()[0].headers["authorization"].starts_with("Basic "));
    for options in [&["--show"][..], &["--show", "--json"]] {
        let output = Btget::command().arg(fixture.torrent()).args(options).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains("http://***@") && !shown.contains("geheim"), "{shown}");
    }
}

#[test]
fn a_tracker_that_is_none_is_refused_before_anything_is_opened() {
    let fixture = Fixture::single(100_000, "http://127.0.0.1:1/announce", 4);
    let output = Btget::command().args(["--tracker", "ftp://x/"]).arg(fixture.torrent()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("'ftp://x/'") && said.contains("http, https or udp"), "{said}");
}

#[test]
fn what_a_torrent_must_not_ask_is_told_as_a_failure_of_its_tracker() {
    let inside = Tracker::start();
    let fixture = Fixture::single(100_000, &inside.url().replace("/announce", "/admin/reboot"), 5);
    let folder = fixture.full_folder("seed");
    let mut btget = Btget::tell(&fixture, &folder, &[]);
    let failure = btget.wait_for_event("a failure", |event| event["event"] == "tracker_failure");
    assert!(
        failure["reason"].as_str().unwrap().contains("where nothing is asked for a torrent"),
        "{failure}"
    );
    btget.terminate();
    btget.wait_for_success();
    assert_eq!(inside.connections(), 0);
}
