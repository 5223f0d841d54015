//! A finder alone, in virtual time.

use super::*;
use crate::event::Direction;
use crate::filter::IpFilter;
use crate::wire::extended::{PexFlags, PexMessage};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const ALL_WELCOME: Need = Need { connections: 50, addresses: true, urgent: true, is_partial_seed: false };

struct Bench {
    finder: Finder,
    now: Instant,
    need: Need,
    /// Outputs that were not asked for yet.
    out: Vec<FinderOutput>,
}

fn address(n: u32) -> SocketAddr {
    SocketAddr::from(([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 6881))
}

impl Bench {
    fn new(trackers: &[&str], rules: Rules) -> Bench {
        let trackers = trackers.iter().map(|url| vec![(*url).to_owned()]).collect();
        let mut finder = Finder::new(trackers, rules, 7);
        let now = Instant::now();
        finder.start(now);
        Bench { finder, now, need: ALL_WELCOME, out: Vec::new() }
    }

    fn found(&mut self, addresses: impl IntoIterator<Item = u32>, origin: Origin) {
        self.finder.found(self.now, addresses.into_iter().map(address), origin);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.finder.poll(self.now, self.need) {
            self.out.push(output);
        }
        let deadline = self.finder.deadline(self.need);
        assert!(deadline.is_none_or(|at| at > self.now), "woken at once, again and again");
    }

    /// Lets time pass, waking the finder when it asks for it.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.finder.deadline(self.need).filter(|&at| at <= end) {
            self.now = at;
            self.drain();
        }
        self.now = end;
    }

    fn dials(&mut self) -> Vec<SocketAddr> {
        let dialed = |output: &FinderOutput| match output {
            FinderOutput::Dial(address) => Some(*address),
            _ => None,
        };
        let dials = self.out.iter().filter_map(dialed).collect();
        self.out.retain(|output| dialed(output).is_none());
        dials
    }

    fn connect(&mut self, address: SocketAddr) {
        self.finder.connected(self.now, PeerKey(1), address, Direction::Out);
    }

    fn part(&mut self, address: SocketAddr, how: Parting) {
        self.finder.parted(self.now, PeerKey(1), Some(address), how);
    }

    fn end(&mut self, address: SocketAddr, how: DialEnd) {
        self.finder.dial_ended(self.now, address, how, false);
        self.drain();
    }
}

#[test]
fn few_calls_are_under_way_at_a_time_and_no_more_than_there_is_room_for() {
    let mut bench = Bench::new(&[], Rules::default());
    bench.need.connections = 200;
    bench.found(0..100, Origin::Tracker);
    let first = bench.dials();
    assert_eq!(first.len(), MAX_HALF_OPEN);
    bench.finder.dial_answered(first[0]);
    bench.connect(first[0]);
    bench.drain();
    assert_eq!(bench.dials().len(), 1, "the place of the one that answered");

    bench.need.connections = 3;
    first[1..].iter().for_each(|&address| bench.end(address, DialEnd::Failed));
    assert_eq!(bench.dials().len(), 2, "one is under way still");
    bench.need = Need::default();
    bench.wait(MINUTE * 60);
    assert_eq!(bench.dials(), []);
}

#[test]
fn those_that_were_of_use_are_called_again_before_those_that_never_answer() {
    let mut bench = Bench::new(&[], Rules::default());
    bench.found(0..4, Origin::Tracker);
    let dialed = bench.dials();
    let partings = [Parting::Useful, Parting::Useless, Parting::Fruitless];
    for (&address, how) in dialed.iter().zip(partings) {
        bench.finder.dial_answered(address);
        bench.connect(address);
        bench.part(address, how);
    }
    bench.finder.dial_answered(dialed[3]);
    bench.finder.refused(bench.now, dialed[3]);
    let mut calls = BTreeMap::new();
    let began = bench.now;
    while bench.now < began + MINUTE * 60 {
        bench.wait(Duration::from_secs(1));
        for address in bench.dials() {
            calls.entry(address).or_insert_with(Vec::new).push((bench.now - began).as_secs());
            bench.end(address, DialEnd::Failed);
        }
    }
    let first = |n: usize| calls[&dialed[n]][0];
    assert_eq!((first(0), first(1), first(2), first(3)), (30, 1800, 10, 10));
    assert!(calls[&dialed[2]].len() < 10, "less and less often: {calls:?}");
}

#[test]
fn who_breaks_the_protocol_is_called_less_and_less_often_though_it_gives_data() {
    let mut bench = Bench::new(&[], Rules::default());
    bench.found(0..1, Origin::Tracker);
    let mut pauses = Vec::new();
    for round in 0..8 {
        let began = bench.now;
        let address = loop {
            if let Some(&address) = bench.dials().first() {
                break address;
            }
            bench.wait(Duration::from_secs(1));
        };
        pauses.push((bench.now - began).as_secs());
        bench.finder.dial_answered(address);
        bench.connect(address);
        if round == 3 {
            bench.part(address, Parting::Useful);
        } else {
            bench.part(address, Parting::Unruly);
        }
    }
    assert_eq!(pauses, [0, 60, 120, 240, 30, 480, 960, 1800]);
}

#[test]
fn neither_ourselves_nor_the_banned_are_called_again() {
    let mut bench = Bench::new(&[], Rules::default());
    bench.found(0..2, Origin::User);
    let dialed = bench.dials();
    bench.end(dialed[0], DialEnd::Own);
    bench.finder.ban(bench.now, dialed[1], None);
    assert!(bench.finder.is_banned(bench.now, dialed[1]));
    bench.found(0..2, Origin::Tracker);
    bench.wait(MINUTE * 600);
    assert_eq!(bench.dials(), []);
}

#[test]
fn what_the_filter_refuses_is_told_and_not_called_whoever_told_us() {
    let refused: IpAddr = address(1).ip();
    let filter = IpFilter::new(move |ip| (ip == refused).then(|| "no".to_owned()));
    let mut bench = Bench::new(&[], Rules { filter: Some(filter), ..Rules::default() });
    for origin in Origin::ALL {
        bench.found([1], origin);
        let told = std::mem::take(&mut bench.out);
        assert!(matches!(&told[..], [FinderOutput::Filtered(at, rule)] if *at == address(1) && rule == "no"));
    }
    bench.found([2], Origin::Tracker);
    assert_eq!(bench.dials(), [address(2)]);
}

#[test]
fn who_is_refused_by_another_filter_is_forgotten_and_can_be_told_of_again() {
    let mut bench = Bench::new(&[], Rules::default());
    bench.need.connections = 0;
    bench.found([1, 2], Origin::Tracker);
    let refused: IpAddr = address(1).ip();
    bench.finder.set_filter(Some(IpFilter::ranges([refused..=refused])));
    bench.need = ALL_WELCOME;
    bench.drain();
    assert_eq!(bench.dials(), [address(2)]);
    bench.finder.set_filter(None);
    assert_eq!(bench.dials(), []);
    bench.found([1], Origin::Tracker);
    assert_eq!(bench.dials(), [address(1)]);
}

#[test]
fn a_private_torrent_calls_nobody_that_other_peers_tell_of() {
    let mut bench = Bench::new(&[], Rules { private: true, ..Rules::default() });
    bench.found([1], Origin::PeerExchange);
    bench.found([2], Origin::LocalDiscovery);
    bench.found([3], Origin::Dht);
    assert_eq!(bench.dials(), []);
    bench.found([4], Origin::Tracker);
    bench.found([5], Origin::User);
    bench.found([6], Origin::Incoming);
    assert_eq!(bench.dials().len(), 3);
}

#[test]
fn whom_trackers_named_for_the_other_hash_of_a_hybrid_is_forgotten_where_they_turn_out_not_to_count() {
    for others in ["http://other/", "http://own/"] {
        let mut bench = Bench::new(&["http://own/", "http://other/"], Rules::default());
        bench.finder.found_beside(bench.now, others, vec![address(1)]);
        bench.finder.become_private(bench.now, &[vec!["http://own/".to_owned()]]);
        bench.finder.found_beside(bench.now, "http://other/", vec![address(2)]);
        bench.finder.found_beside(bench.now, "http://own/", vec![address(3)]);
        bench.drain();
        let called = bench.dials();
        assert!(called.contains(&address(3)) && !called.contains(&address(2)), "{called:?}");
        // Where no other tracker has named anybody, all that are known count.
        assert_eq!(called.contains(&address(1)), others == "http://own/", "{called:?}");
    }
}

#[test]
fn a_flood_of_addresses_does_not_keep_out_what_the_trackers_say() {
    let mut bench = Bench::new(&[], Rules::default());
    bench.need.connections = 0;
    bench.found(0..100_000, Origin::PeerExchange);
    bench.found(200_000..200_100, Origin::Tracker);
    bench.need = ALL_WELCOME;
    let mut called = BTreeMap::new();
    bench.drain();
    while let dials = bench.dials()
        && !dials.is_empty()
    {
        for address in dials {
            *called.entry(address).or_insert(0) += 1;
            bench.end(address, DialEnd::Failed);
        }
    }
    assert!((200_000..200_100).all(|n| called.contains_key(&address(n))));
}

#[test]
fn what_a_tracker_answers_is_told_and_called() {
    let mut bench = Bench::new(&["http://a.test/"], Rules::default());
    bench.drain();
    let [FinderOutput::Event(Kind::TrackerAnnounce { .. }), FinderOutput::Announce(announce)] =
        &bench.out[..]
    else {
        panic!("{:?}", bench.out)
    };
    let token = announce.token;
    bench.out.clear();
    let answer = Answer { peers: vec![address(1), address(2)], ..Answer::default() };
    bench.finder.announced(bench.now, token, Ok(answer));
    bench.drain();
    assert!(matches!(bench.out[0], FinderOutput::Event(Kind::TrackerSuccess { peers: 2, .. })));
    assert_eq!(bench.dials().len(), 2);
    bench.finder.want_events(WantedEvents(None));
    bench.finder.stop(bench.now);
    bench.need = Need::default();
    bench.out.clear();
    bench.drain();
    assert!(matches!(&bench.out[..], [FinderOutput::Announce(last)] if last.event.is_some()));
}

impl Bench {
    /// When the tracker is asked within so much time, if it says half an hour, 5 minutes at least, and tells of no peer. Calls that
    /// are made come to nothing.
    fn announces_within(&mut self, time: Duration) -> Vec<Duration> {
        let (start, mut times) = (self.now, Vec::new());
        self.drain();
        while self.now < start + time {
            for output in std::mem::take(&mut self.out) {
                match output {
                    FinderOutput::Announce(announce) => {
                        times.push(self.now - start);
                        let interval = Some(30 * MINUTE);
                        let answer = Answer { interval, min_interval: Some(5 * MINUTE), ..Answer::default() };
                        self.finder.announced(self.now, announce.token, Ok(answer));
                    }
                    FinderOutput::Dial(address) => {
                        self.finder.dial_ended(self.now, address, DialEnd::Failed, false);
                    }
                    FinderOutput::Punch(_)
                    | FinderOutput::Filtered(..)
                    | FinderOutput::PrefersEncryption(_)
                    | FinderOutput::Event(_) => {}
                }
            }
            self.drain();
            if self.out.is_empty() {
                self.wait(Duration::from_secs(10));
            }
        }
        times
    }
}

#[test]
fn a_tracker_is_asked_at_its_interval_where_peers_are_not_missed() {
    for urgent in [false, true] {
        let mut bench = Bench::new(&["http://a.test/"], Rules::default());
        bench.need.urgent = urgent;
        let times = bench.announces_within(120 * MINUTE);
        match urgent {
            false => assert_eq!(times.len(), 4, "{times:?}"),
            true => assert!(times.windows(2).all(|two| two[1] - two[0] >= 5 * MINUTE), "{times:?}"),
        }
        assert!(urgent == (times.len() > 20), "{times:?}");
    }
}

#[test]
fn a_tracker_is_not_asked_early_while_somebody_is_left_to_call() {
    let mut bench = Bench::new(&["http://a.test/"], Rules::default());
    bench.drain();
    // More than can be called at a time, and none of them answers.
    bench.found(0..100, Origin::PeerExchange);
    let first = bench.out.iter().find_map(|output| match output {
        FinderOutput::Announce(announce) => Some(announce.token),
        _ => None,
    });
    let interval = Some(30 * MINUTE);
    let answer = Answer { interval, min_interval: Some(MINUTE), ..Answer::default() };
    bench.finder.announced(bench.now, first.unwrap(), Ok(answer));
    bench.out.clear();
    bench.wait(29 * MINUTE);
    assert!(!bench.out.iter().any(|output| matches!(output, FinderOutput::Announce(_))));
}

#[test]
fn few_that_live_among_many_that_do_not_are_found_within_5_s() {
    for seed in 0..20 {
        let mut bench = Bench::new(&[], Rules::default());
        bench.finder = Finder::new(Vec::new(), Rules::default(), seed);
        bench.need.connections = 150;
        bench.found(0..193, Origin::Tracker);
        let start = bench.now;
        let mut living: BTreeMap<SocketAddr, ()> = [3, 90, 170].map(|n| (address(n), ())).into();
        let mut ends: Vec<(Instant, SocketAddr)> = Vec::new();
        while !living.is_empty() {
            for called in bench.dials() {
                match living.remove(&called) {
                    Some(()) => bench.finder.dial_answered(called),
                    None => ends.push((bench.now + bench.finder.patience(called), called)),
                }
            }
            if living.is_empty() {
                break;
            }
            ends.sort();
            bench.now = ends.first().expect("somebody is being called").0;
            let over = ends.iter().take_while(|(at, _)| *at <= bench.now).count();
            let over: Vec<SocketAddr> = ends.drain(..over).map(|(_, address)| address).collect();
            over.into_iter()
                .for_each(|address| bench.finder.dial_ended(bench.now, address, DialEnd::Failed, false));
            bench.drain();
        }
        assert!(bench.now - start <= Duration::from_secs(5), "{:?}", bench.now - start);
        let called = ends.len();
        assert!(called <= MAX_HALF_OPEN);
    }
}

#[test]
fn who_is_said_to_speak_utp_is_known_for_it_and_told_on_as_such() {
    let now = Instant::now();
    let mut finder = Finder::new(Vec::new(), Rules::default(), 1);
    let at = |port: u16| SocketAddr::from(([203, 0, 113, port as u8], port));
    finder.connected(now, PeerKey(1), at(1000), Direction::Out);
    let added = vec![(at(1001), PexFlags::UTP), (at(1002), PexFlags::SEED)];
    assert!(finder.exchanged(now, PeerKey(1), at(1000), &PexMessage { added, dropped: Vec::new() }));
    let said = [1001, 1002, 1003].map(|port| finder.is_said_to_speak_utp(at(port)));
    assert_eq!(said, [true, false, false]);
    finder.connected(now, PeerKey(2), at(1004), Direction::Out);
    finder.speaks_utp(PeerKey(2));
    finder.set_seed(PeerKey(2), true);
    finder.wants_exchange(now, PeerKey(1), true);
    let Some((_, Exchange::Peers(message))) = finder.poll_exchange(now + Duration::from_secs(10)) else {
        panic!("it is told of the other one")
    };
    let flags = PexFlags::UTP.with(PexFlags::SEED, true).with(PexFlags::OUTGOING, true);
    assert_eq!(message.added, [(at(1004), flags)]);
}
