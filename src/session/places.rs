//! Who gives its place to another when as many are connected as may be. Pure.
//!
//! A place is taken from nobody while one is free. When none is, it goes first to whom it is of use, then to who has fewer of
//! them already: a network that has come with a hundred connections, or a torrent that was first, cannot keep the others out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::address::{Machine, Subnet};
use crate::ids::{PeerKey, TorrentId};
use crate::swarm::Occupant;

/// A peer of which nothing is known to come of use, and which asks for nothing, may have its place so long all the same: to say what it has.
const GRACE: Duration = Duration::from_secs(20);

/// Who has sent something of use in so long is not sent away for the sake of another network.
const GRATITUDE: Duration = Duration::from_secs(300);

/// A connection of one of the session's torrents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The torrent that it serves.
    pub torrent: TorrentId,
    /// The peer that has it.
    pub by: Occupant,
}

/// Whoever would like a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    /// The torrent that it is for.
    pub torrent: TorrentId,
    /// The peer's address.
    pub address: SocketAddr,
    /// Calls of the torrent that are under way: each has a place.
    pub calls: usize,
}

/// How many places somebody has.
#[derive(Debug, Default)]
struct Crowds {
    subnets: BTreeMap<Subnet, usize>,
    machines: BTreeMap<Machine, usize>,
}

impl Crowds {
    fn of(places: &[Place]) -> Crowds {
        let mut crowds = Crowds::default();
        for place in places {
            let Some(subnet) = Subnet::at(place.by.address) else { continue };
            *crowds.subnets.entry(subnet).or_default() += 1;
            *crowds.machines.entry(Machine::at(place.by.address)).or_default() += 1;
        }
        crowds
    }

    /// How many places the subnet and the machine at this address have. Inner addresses, which many share that have
    /// nothing to do with one another, count as nobody's.
    fn at(&self, address: SocketAddr) -> (usize, usize) {
        let Some(subnet) = Subnet::at(address) else { return (0, 0) };
        let count = |count: Option<&usize>| count.copied().unwrap_or(0);
        (count(self.subnets.get(&subnet)), count(self.machines.get(&Machine::at(address))))
    }
}

/// Who goes for the newcomer's sake, if anybody has to:
/// - of those that are of no use to us, nor we to them, who has been so longest;
/// - of those that have given nothing lately, one of the subnet, and there of the machine, that has most places, if that are
///   more than the newcomer's would have; first who takes nothing from us, then who came last;
/// - of the torrent that has most places, if that are more than the newcomer's would have, who gives and takes least.
pub(super) fn who_goes(now: Instant, places: &[Place], newcomer: &Newcomer) -> Option<(TorrentId, PeerKey)> {
    let found = longest_useless(now, places)
        .or_else(|| most_crowded(now, places, newcomer.address))
        .or_else(|| least_of_the_largest(places, newcomer));
    found.map(|place| (place.torrent, place.by.peer))
}

fn longest_useless(now: Instant, places: &[Place]) -> Option<&Place> {
    let useless = places.iter().filter_map(|place| {
        let since = place.by.useless_since?;
        (now.saturating_duration_since(since) >= GRACE).then_some((since, place))
    });
    useless.min_by_key(|&(since, _)| since).map(|(_, place)| place)
}

fn most_crowded(now: Instant, places: &[Place], newcomer: SocketAddr) -> Option<&Place> {
    let crowds = Crowds::of(places);
    let gives = |by: &Occupant| by.gave.is_some_and(|at| now.saturating_duration_since(at) < GRATITUDE);
    let candidates = places.iter().filter(|place| !gives(&place.by));
    let crowded = candidates.max_by_key(|place| {
        (crowds.at(place.by.address), Reverse(place.by.up_rate), place.by.connected, place.by.peer)
    })?;
    let (subnet, machine) = crowds.at(newcomer);
    // Its subnet would have one more, unless the place comes from there.
    let is_neighbour = Subnet::at(crowded.by.address) == Subnet::at(newcomer);
    let with_it = (subnet + usize::from(!is_neighbour), machine + 1);
    (crowds.at(crowded.by.address) > with_it).then_some(crowded)
}

fn least_of_the_largest<'a>(places: &'a [Place], newcomer: &Newcomer) -> Option<&'a Place> {
    let mut by_torrent: BTreeMap<TorrentId, usize> = BTreeMap::new();
    places.iter().for_each(|place| *by_torrent.entry(place.torrent).or_default() += 1);
    let has = by_torrent.get(&newcomer.torrent).copied().unwrap_or(0) + newcomer.calls;
    let (largest, most) = by_torrent.into_iter().max_by_key(|&(_, count)| count)?;
    let of_largest = places.iter().filter(|place| place.torrent == largest);
    let least = of_largest.min_by_key(|place| {
        (place.by.down_rate.max(place.by.up_rate), Reverse(place.by.connected), place.by.peer)
    });
    least.filter(|_| most > has + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    struct Full {
        now: Instant,
        counter: Counter,
        torrent: TorrentId,
        places: Vec<Place>,
    }

    impl Full {
        fn new() -> Full {
            let mut counter = Counter::default();
            let torrent = counter.torrent();
            Full { now: Instant::now() + Duration::from_secs(3600), counter, torrent, places: Vec::new() }
        }

        /// One more connection, which asks for something and gives nothing; made earlier than those that follow.
        fn add(&mut self, address: &str) -> &mut Place {
            let peer = self.counter.peer();
            let connected = self.now - Duration::from_secs(1000) + Duration::from_secs(peer.0);
            let by = Occupant {
                peer,
                address: address.parse().unwrap(),
                connected,
                useless_since: None,
                gave: None,
                down_rate: 0,
                up_rate: 0,
            };
            self.places.push(Place { torrent: self.torrent, by });
            self.places.last_mut().unwrap()
        }

        fn newcomer(&self, address: &str) -> Newcomer {
            Newcomer { torrent: self.torrent, address: address.parse().unwrap(), calls: 0 }
        }

        fn who_goes(&self, address: &str) -> Option<PeerKey> {
            who_goes(self.now, &self.places, &self.newcomer(address)).map(|(_, peer)| peer)
        }
    }

    #[test]
    fn who_is_of_no_use_goes_first_and_the_longest_useless_before_the_others() {
        let mut full = Full::new();
        (1..=5).for_each(|n| {
            full.add(&format!("198.51.100.7:{n}"));
        });
        let ago = |seconds| Some(full.now - Duration::from_secs(seconds));
        let (new, old, older) = (ago(19), ago(20), ago(21));
        full.add("192.0.2.1:1").by.useless_since = new;
        assert_ne!(
            full.who_goes("203.0.113.1:1"),
            Some(full.places[5].by.peer),
            "it may yet say what it has"
        );
        full.add("192.0.2.2:1").by.useless_since = old;
        full.add("192.0.2.3:1").by.useless_since = older;
        assert_eq!(full.who_goes("203.0.113.1:1"), Some(full.places[7].by.peer));
    }

    #[test]
    fn one_address_or_subnet_does_not_hold_every_place() {
        for crowd in ["198.51.100.7:N", "198.51.100.N:6881", "[2001:db8:1::N]:1", "[2001:db8:1:N::1]:1"] {
            let mut full = Full::new();
            for n in 1..=50 {
                full.add(&crowd.replace('N', &n.to_string()));
            }
            let mut let_in = 0;
            while let Some(goes) = full.who_goes(&format!("203.0.{let_in}.1:1")) {
                full.places.retain(|place| place.by.peer != goes);
                full.add(&format!("203.0.{let_in}.1:1"));
                let_in += 1;
            }
            assert_eq!(let_in, 49, "{crowd}");
            assert_eq!(full.who_goes(&crowd.replace('N', "60")), None, "{crowd}: one of many");
        }
    }

    #[test]
    fn nor_does_one_address_hold_every_place_of_its_subnet() {
        let mut full = Full::new();
        for n in 1..=5 {
            full.add(&format!("198.51.100.7:{n}"));
        }
        assert_eq!(full.who_goes("198.51.100.8:1"), Some(full.places[4].by.peer));
        assert_eq!(full.who_goes("198.51.100.7:9"), None);
    }

    #[test]
    fn who_gives_stays_and_of_a_crowd_who_takes_nothing_or_came_last_goes() {
        let mut full = Full::new();
        let peers: Vec<PeerKey> =
            (0..4).map(|n| full.add(&format!("198.51.100.7:{}", n + 1)).by.peer).collect();
        assert_eq!(full.who_goes("192.0.2.1:1"), Some(peers[3]));
        full.places[3].by.up_rate = 1000;
        assert_eq!(full.who_goes("192.0.2.1:1"), Some(peers[2]));
        full.places[2].by.gave = Some(full.now - Duration::from_secs(1));
        assert_eq!(full.who_goes("192.0.2.1:1"), Some(peers[1]));
        full.places.iter_mut().for_each(|place| place.by.gave = Some(full.now - Duration::from_secs(299)));
        assert_eq!(full.who_goes("192.0.2.1:1"), None);
        full.now += Duration::from_secs(1);
        assert!(full.who_goes("192.0.2.1:1").is_some(), "nobody gives for ever");
    }

    #[test]
    fn neighbours_behind_inner_addresses_are_nobody_to_one_another() {
        for crowd in ["127.0.0.1:N", "10.0.0.1:N", "192.168.1.N:1", "[fd00::1]:N", "100.64.0.1:N"] {
            let mut full = Full::new();
            for n in 1..=50 {
                full.add(&crowd.replace('N', &n.to_string()));
            }
            assert_eq!(full.who_goes("192.0.2.1:1"), None, "{crowd}");
        }
    }

    #[test]
    fn a_torrent_that_came_later_gets_its_share_from_the_largest() {
        let mut full = Full::new();
        let later = full.counter.torrent();
        for n in 1..=40 {
            let place = full.add(&format!("10.0.0.{n}:1"));
            place.by.down_rate = 1000 - n;
        }
        full.places[7].by.down_rate = 3;
        let slowest = full.places[7].by.peer;
        let mut newcomer = full.newcomer("10.0.1.1:1");
        assert_eq!(who_goes(full.now, &full.places, &newcomer), None, "its own has places enough");
        newcomer.torrent = later;
        assert_eq!(who_goes(full.now, &full.places, &newcomer), Some((full.torrent, slowest)));
        newcomer.calls = 39;
        assert_eq!(who_goes(full.now, &full.places, &newcomer), None, "its calls have places too");
        newcomer.calls = 0;
        let mut got = 0;
        while let Some((_, goes)) = who_goes(full.now, &full.places, &newcomer) {
            full.places.retain(|place| place.by.peer != goes);
            full.add(&format!("10.0.1.{got}:1")).torrent = later;
            got += 1;
        }
        assert_eq!(got, 20);
    }

    #[test]
    fn nobody_goes_where_nobody_is() {
        let full = Full::new();
        assert_eq!(full.who_goes("192.0.2.1:1"), None);
    }
}
