//! What a `btget --json` tells, and what that means.

use std::collections::BTreeSet;

use serde_json::Value;

use super::clients::Btget;
use super::fixture::Fixture;
use super::process::PATIENCE;
use super::tracker::Tracker;

/// Whether it is an event of this name.
pub fn is(event: &Value, name: &str) -> bool {
    event["event"] == name
}

/// Whether it is a piece that came from a peer.
pub fn is_fetched(event: &Value) -> bool {
    is(event, "piece_hash_passed") && event["peers"].as_array().is_some_and(|peers| !peers.is_empty())
}

/// Pieces that came from peers.
pub fn fetched(process: &Btget) -> Vec<usize> {
    let events = process.events();
    events
        .iter()
        .filter(|event| is_fetched(event))
        .map(|event| event["index"].as_u64().unwrap() as usize)
        .collect()
}

/// Pieces that the check at the start read and found right.
pub fn read_and_right(process: &Btget) -> usize {
    let events = process.events();
    events.iter().filter(|event| is(event, "piece_hash_passed") && !is_fetched(event)).count()
}

/// `["0-4","9"]` as numbers.
fn numbers(ranges: &Value) -> BTreeSet<usize> {
    let ranges = ranges.as_array().unwrap().iter().map(|range| range.as_str().unwrap());
    let bounds = ranges.map(|range| range.split_once('-').unwrap_or((range, range)));
    bounds.flat_map(|(from, to)| from.parse::<usize>().unwrap()..=to.parse().unwrap()).collect()
}

/// What the check at the start said is there; `None` if it did not come to that.
pub fn claimed(process: &Btget) -> Option<BTreeSet<usize>> {
    let events = process.events();
    let finished = events.iter().find(|event| is(event, "hashcheck_finished"))?;
    Some(numbers(&finished["have"]))
}

/// How it ended.
pub fn summary(process: &Btget) -> Value {
    process.events().into_iter().find(|event| is(event, "summary")).expect("a summary is always told")
}

/// A seed of this rate that the tracker knows.
pub fn seed(tracker: &Tracker, fixture: &Fixture, rate: &str) -> Btget {
    let seed = Btget::tell(fixture, &fixture.full_folder("seed"), &["--max-upload-rate", rate]);
    let known = tracker.wait_for(PATIENCE, |announces| announces.iter().any(|announce| announce.left == 0));
    assert!(known, "the seed announces itself");
    seed
}
