//! `--ip-filter`: who is refused, and how lists are read again.

mod support;

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::Signal;
use serde_json::Value;

use support::clients::Btget;
use support::events::{is, is_fetched, seed};
use support::fixture::{Fixture, Shape};
use support::tracker::Tracker;

/// Where those are who are refused.
const OTHER: &str = "127.0.0.2";

fn is_refused(event: &Value, ip: &str) -> bool {
    is(event, "ip_filter") && event["address"].as_str().is_some_and(|address| address.starts_with(ip))
}

fn option(list: &Path) -> [&str; 2] {
    ["--ip-filter", list.to_str().unwrap()]
}

#[test]
fn peers_in_a_list_are_not_called_while_trackers_in_it_are_asked() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 51);
    let _seed = seed(&tracker, &fixture, "1M");
    let list = fixture.empty_folder("lists").join("level1.gz");
    let mut packed = GzEncoder::new(fs::File::create(&list).unwrap(), Compression::fast());
    packed.write_all(b"# made up\nThis machine: all of it:127.0.0.0-127.255.255.255\n").unwrap();
    packed.finish().unwrap();
    let folder = fixture.empty_folder("leech");
    let options = [&option(&list)[..], &["--no-seed", "--stall-timeout", "2", "--events", "debug"]].concat();
    let mut leech = Btget::tell(&fixture, &folder, &options);
    let refused = leech.wait_for_event("the refusal", |event| is_refused(event, "127.0.0.1"));
    let rule = format!("in 127.0.0.0-127.255.255.255, line 2 of {}", list.display());
    assert_eq!(refused["rule"], rule);
    assert_eq!(leech.wait_for_code(), Some(5), "{}", leech.story());
    let events = leech.events();
    assert!(events.iter().any(|event| is(event, "tracker_success")));
    assert!(!events.iter().any(|event| is(event, "peer_connect")), "{}", leech.story());
}

#[test]
fn a_list_that_has_changed_holds_from_sigusr2_on_for_those_who_are_connected_too() {
    let tracker = Tracker::start();
    let fixture = Fixture::new(Shape::Single, &tracker.url(), 52);
    let list = fixture.empty_folder("lists").join("list.dat");
    fs::write(&list, "127.000.000.002 - 127.000.000.002 , 200 , allowed\r\n").unwrap();
    let mut options = option(&list).to_vec();
    options.extend(["--max-upload-rate", "200K", "--max-download-rate", "1M"]);
    let mut seed = Btget::tell(&fixture, &fixture.full_folder("seed"), &options);
    seed.wait_for_event("the announce", |event| is(event, "tracker_success"));
    let folder = fixture.empty_folder("leech");
    let mut leech = Btget::tell(&fixture, &folder, &["--bind", OTHER]);
    leech.wait_for_event("a piece", is_fetched);

    fs::write(&list, "127.0.0.2/32\nthis is no address\n").unwrap();
    seed.signal(Signal::USR2);
    seed.wait_for_event("the end of the connection", |event| {
        is(event, "peer_disconnect") && event["reason"] == "refused by the IP filter"
    });
    assert!(seed.events().iter().any(|event| is_refused(event, OTHER)), "{}", seed.story());
    leech.wait_for_event("the other end of it", |event| is(event, "peer_disconnect"));
    // It has pieces, and would give them to those who are refused.
    drop(leech);
    // Who calls now is refused as well, and who is somewhere else is not.
    let mut refused = Btget::tell(&fixture, &fixture.empty_folder("refused"), &["--bind", OTHER]);
    refused.wait_for_event("a call in vain", |event| is(event, "peer_disconnect"));
    assert!(!refused.events().iter().any(is_fetched), "{}", refused.story());

    // What cannot be read changes nothing.
    fs::write(&list, "<html>the list has moved</html>\n").unwrap();
    seed.signal(Signal::USR2);
    seed.wait_for_line(&["cannot read the block list", "none of its lines", "stay refused"]);
    let mut refused = Btget::tell(&fixture, &fixture.empty_folder("refused-2"), &["--bind", OTHER]);
    refused.wait_for_event("a call in vain", |event| is(event, "peer_disconnect"));

    fs::write(&list, "# nobody\n").unwrap();
    seed.signal(Signal::USR2);
    let mut welcome = Btget::tell(&fixture, &fixture.empty_folder("welcome"), &["--bind", OTHER]);
    welcome.wait_for_event("a piece", is_fetched);
}

#[test]
fn lists_that_cannot_be_read_are_refused_before_anything_is_done() {
    let fixture = Fixture::new(Shape::Single, "http://127.0.0.1:9/announce", 53);
    let folder = fixture.empty_folder("lists");
    let page = folder.join("page.html");
    fs::write(&page, "<!doctype html>\n<p>no list</p>\n").unwrap();
    let cut = folder.join("cut.gz");
    fs::write(&cut, [0x1f, 0x8b, 8, 0]).unwrap();
    for (number, (list, why)) in [
        (folder.join("none.p2p"), "no such file"),
        (folder.clone(), "is a directory"),
        (page, "none of its lines names addresses"),
        (cut, "cannot read the block list"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = fixture.empty_folder(&format!("data-{number}"));
        let mut btget = Btget::tell(&fixture, &data, &option(&list));
        assert_eq!(btget.wait_for_code(), Some(2), "{}", btget.story());
        btget.wait_for_line(&["error", "cannot read the block list", why]);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    }
}

#[test]
fn bad_lines_are_counted_and_told_once() {
    let fixture = Fixture::new(Shape::Single, "http://127.0.0.1:9/announce", 54);
    let list = fixture.empty_folder("lists").join("list");
    fs::write(&list, b"\xef\xbb\xbfcaf\xe9:192.0.2.0-192.0.2.9\r\nwhat?\r\n\r\n192.0.2.300\r\n").unwrap();
    let folder = fixture.full_folder("data");
    let mut command = Btget::command();
    command.arg(fixture.torrent()).args(option(&list)).arg("--no-seed");
    let mut btget =
        Btget::run(Btget::on_loopback(&mut command, support::fixture::Family::V4, &folder).arg("-v"));
    btget.wait_for_success();
    let story = btget.story();
    assert_eq!(
        story.matches("2 lines name no addresses and were passed over, line 2 the first").count(),
        1,
        "{story}"
    );
    assert!(story.contains("1 range of addresses"), "{story}");
}
