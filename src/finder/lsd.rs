//! Local service discovery (BEP 14) of all torrents of a session: when each is announced, and what is believed of others.
//!
//! Owns whose turn it is. Pure: which interfaces there are, and which addresses belong to them, the caller knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::ids::WireHash;
use crate::wire::lsd::{LsdAnnounce, MAX_LSD_HASHES};

/// A torrent is announced at once, and again after so long, for packets are lost.
const AGAIN: Duration = Duration::from_secs(5);

/// From then on it is announced so often (BEP 14).
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// A torrent that has been announced twice is not announced again before.
const LEAST_INTERVAL: Duration = Duration::from_secs(60);

/// From one packet to the next, so that a thousand torrents are no storm.
const PACKET_INTERVAL: Duration = Duration::from_millis(100);

/// Addresses that are believed in a second, all torrents together.
const MAX_FOUND_PER_SECOND: usize = 50;

#[derive(Clone, Copy, Debug)]
struct Turn {
    /// When it is announced next.
    due: Instant,
    /// When it was announced last.
    last: Option<Instant>,
    /// How often it has been announced; no further than 2.
    times: u8,
}

/// Local service discovery: see the module's head.
#[derive(Debug)]
pub struct LocalDiscovery {
    torrents: BTreeMap<WireHash, Turn>,
    /// The same, by when they are due.
    due: BTreeSet<(Instant, WireHash)>,
    /// When torrents that are not here any more were announced last; of those for which that is less than a minute ago.
    departed: BTreeMap<WireHash, Instant>,
    /// Torrents that are known to be private; never announced again.
    private: BTreeSet<WireHash>,
    cookie: String,
    /// No packet before this.
    next_packet: Option<Instant>,
    /// Since when `found` addresses have been believed.
    counted_since: Option<Instant>,
    found: usize,
}

impl LocalDiscovery {
    /// Without any torrent. `seed` makes the cookie by which we know our own packets.
    pub fn new(seed: u64) -> LocalDiscovery {
        LocalDiscovery {
            torrents: BTreeMap::new(),
            due: BTreeSet::new(),
            departed: BTreeMap::new(),
            private: BTreeSet::new(),
            cookie: format!("btget-{:016x}", fastrand::Rng::with_seed(seed).u64(..)),
            next_packet: None,
            counted_since: None,
            found: 0,
        }
    }

    /// The torrent is announced from now on, unless it is known to be private. One that is there already, or that was there
    /// less than a minute ago, is not announced more often for it.
    pub fn add(&mut self, now: Instant, torrent: WireHash) {
        if !self.private.contains(&torrent) && !self.torrents.contains_key(&torrent) {
            let last = self.departed.remove(&torrent);
            let due = last.map_or(now, |last| now.max(last + LEAST_INTERVAL));
            // One that comes back has had its start.
            self.put(torrent, Turn { due, last, times: u8::from(last.is_some()) });
        }
    }

    /// The torrent is announced no more.
    pub fn remove(&mut self, now: Instant, torrent: WireHash) {
        let Some(turn) = self.torrents.remove(&torrent) else { return };
        self.due.remove(&(turn.due, torrent));
        self.departed.extend(turn.last.map(|last| (torrent, last)));
        self.departed.retain(|_, last| now.saturating_duration_since(*last) < LEAST_INTERVAL);
    }

    /// The torrent is private (BEP 27): it is announced no more, and never again.
    pub fn set_private(&mut self, now: Instant, torrent: WireHash) {
        self.remove(now, torrent);
        self.private.insert(torrent);
    }

    /// The torrent needs peers, or there is a new interface: it is announced as soon as it may be.
    pub fn hurry(&mut self, now: Instant, torrent: WireHash) {
        let Some(&turn) = self.torrents.get(&torrent) else { return };
        let earliest = turn.last.map_or(now, |last| now.max(last + LEAST_INTERVAL));
        if earliest < turn.due {
            self.put(torrent, Turn { due: earliest, ..turn });
        }
    }

    fn put(&mut self, torrent: WireHash, turn: Turn) {
        if let Some(before) = self.torrents.insert(torrent, turn) {
            self.due.remove(&(before.due, torrent));
        }
        self.due.insert((turn.due, torrent));
    }

    /// What to announce now, on every interface and to the group of each family; `None`: nothing before
    /// [`LocalDiscovery::deadline`]. `port` is where we listen.
    pub fn poll(&mut self, now: Instant, port: u16) -> Option<LsdAnnounce> {
        if port == 0 || self.next_packet.is_some_and(|at| at > now) {
            return None;
        }
        let ready = self.due.iter().take_while(|(due, _)| *due <= now).take(MAX_LSD_HASHES);
        let info_hashes: Vec<WireHash> = ready.map(|&(_, torrent)| torrent).collect();
        if info_hashes.is_empty() {
            return None;
        }
        for &torrent in &info_hashes {
            let times = self.torrents.get(&torrent).map_or(0, |turn| turn.times);
            let wait = if times == 0 { AGAIN } else { INTERVAL };
            self.put(torrent, Turn { due: now + wait, last: Some(now), times: (times + 1).min(2) });
        }
        self.next_packet = Some(now + PACKET_INTERVAL);
        Some(LsdAnnounce { port, info_hashes, cookie: Some(self.cookie.clone()) })
    }

    /// When to call [`LocalDiscovery::poll`] though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|&(due, _)| self.next_packet.map_or(due, |at| at.max(due)))
    }

    /// Where peers of our torrents can be called, by a packet that came from `source`. `on_link`: whether that is an address
    /// of the network of the interface that it came in by; another one is not local, and may be anybody's.
    pub fn on_packet(
        &mut self,
        now: Instant,
        announce: &LsdAnnounce,
        source: SocketAddr,
        on_link: bool,
    ) -> Vec<(WireHash, SocketAddr)> {
        let ip = source.ip().to_canonical();
        let is_ours = announce.cookie.as_ref() == Some(&self.cookie);
        if is_ours || !on_link || ip.is_multicast() || ip.is_unspecified() {
            return Vec::new();
        }
        if self
            .counted_since
            .is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1))
        {
            (self.counted_since, self.found) = (Some(now), 0);
        }
        // A link-local address means nothing without its interface, so the address stays as it is.
        let mut address = if ip.is_ipv4() { SocketAddr::new(ip, 0) } else { source };
        address.set_port(announce.port);
        let named: BTreeSet<WireHash> = announce.info_hashes.iter().copied().collect();
        let known = named.into_iter().filter(|torrent| self.torrents.contains_key(torrent));
        let found: Vec<_> =
            known.take(MAX_FOUND_PER_SECOND - self.found).map(|torrent| (torrent, address)).collect();
        self.found += found.len();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PORT: u16 = 6881;
    const A: WireHash = WireHash([1; 20]);

    /// Every announce until then: seconds after `start`, and how many torrents.
    fn run(discovery: &mut LocalDiscovery, start: Instant, until: u64) -> Vec<(u64, usize)> {
        let mut announced = Vec::new();
        while let Some(at) = discovery.deadline().filter(|&at| at <= start + Duration::from_secs(until)) {
            let announce = discovery.poll(at, PORT).expect("the deadline is for something");
            announced.push(((at - start).as_secs(), announce.info_hashes.len()));
        }
        announced
    }

    fn announce(info_hashes: &[WireHash], cookie: Option<&str>) -> LsdAnnounce {
        LsdAnnounce { port: 7000, info_hashes: info_hashes.to_vec(), cookie: cookie.map(str::to_owned) }
    }

    #[test]
    fn a_torrent_is_announced_at_once_after_5_s_and_every_five_minutes() {
        let (mut discovery, start) = (LocalDiscovery::new(1), Instant::now());
        assert_eq!(discovery.deadline(), None);
        discovery.add(start, A);
        discovery.add(start, A);
        assert_eq!(run(&mut discovery, start, 1000), [(0, 1), (5, 1), (305, 1), (605, 1), (905, 1)]);
        discovery.remove(start, A);
        assert_eq!(discovery.deadline(), None);
    }

    #[test]
    fn one_in_a_hurry_is_announced_once_a_minute() {
        let (mut discovery, start) = (LocalDiscovery::new(1), Instant::now());
        discovery.add(start, A);
        let mut announced = run(&mut discovery, start, 6);
        for second in 6..300 {
            discovery.hurry(start + Duration::from_secs(second), A);
            announced.extend(run(&mut discovery, start, second));
        }
        assert_eq!(announced, [(0, 1), (5, 1), (65, 1), (125, 1), (185, 1), (245, 1)]);
    }

    #[test]
    fn many_torrents_share_packets_that_come_one_after_the_other() {
        let (mut discovery, start) = (LocalDiscovery::new(1), Instant::now());
        (0..50).for_each(|number| discovery.add(start, WireHash([number; 20])));
        assert_eq!(run(&mut discovery, start, 4), [(0, 24), (0, 24), (0, 2)]);
        assert_eq!(run(&mut discovery, start, 9), [(5, 24), (5, 24), (5, 2)]);
    }

    #[test]
    fn without_a_port_nothing_is_announced() {
        let (mut discovery, start) = (LocalDiscovery::new(1), Instant::now());
        discovery.add(start, A);
        assert_eq!(discovery.poll(start, 0), None);
        assert!(discovery.poll(start, PORT).is_some());
    }

    #[test]
    fn a_private_torrent_is_never_announced_and_nobody_is_found_for_it() {
        let (mut discovery, start) = (LocalDiscovery::new(1), Instant::now());
        discovery.add(start, A);
        discovery.set_private(start, A);
        discovery.add(start, A);
        discovery.hurry(start, A);
        assert_eq!((discovery.deadline(), discovery.poll(start, PORT)), (None, None));
        let source = "192.0.2.7:6771".parse().unwrap();
        assert_eq!(discovery.on_packet(start, &announce(&[A], None), source, true), []);
    }

    #[test]
    fn a_peer_is_where_its_packet_came_from_at_the_port_that_it_says() {
        let (mut discovery, start) = (LocalDiscovery::new(1), Instant::now());
        discovery.add(start, A);
        let packet = announce(&[WireHash([9; 20]), A, A], Some("x"));
        for (source, expected) in [
            ("192.0.2.7:6771", "192.0.2.7:7000"),
            ("[::ffff:192.0.2.7]:6771", "192.0.2.7:7000"),
            ("[2001:db8::7]:1", "[2001:db8::7]:7000"),
        ] {
            let found = discovery.on_packet(start, &packet, source.parse().unwrap(), true);
            assert_eq!(found, [(A, expected.parse().unwrap())]);
        }
        let source = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 6771, 0, 3).into();
        let found = discovery.on_packet(start, &packet, source, true);
        assert!(matches!(found[..], [(A, SocketAddr::V6(address))] if address.scope_id() == 3));
    }

    #[test]
    fn our_own_packets_and_those_from_elsewhere_are_ignored() {
        let (mut discovery, start) = (LocalDiscovery::new(1), Instant::now());
        discovery.add(start, A);
        let own = discovery.poll(start, PORT).unwrap();
        let source = "192.0.2.7:6771".parse().unwrap();
        assert_eq!(discovery.on_packet(start, &own, source, true), []);
        let mut other = LocalDiscovery::new(2);
        other.add(start, A);
        assert_eq!(other.on_packet(start, &own, source, true).len(), 1);
        assert_eq!(other.on_packet(start, &own, source, false), []);
        for odd in ["239.192.152.143:6771", "0.0.0.0:6771", "[ff15::efc0:988f]:6771"] {
            assert_eq!(other.on_packet(start, &own, odd.parse().unwrap(), true), [], "{odd}");
        }
    }

    #[test]
    fn a_flood_of_packets_finds_no_more_than_fifty_a_second() {
        let (mut discovery, start) = (LocalDiscovery::new(1), Instant::now());
        discovery.add(start, A);
        let flood = |discovery: &mut LocalDiscovery, now| {
            let sources = (0..1000u16).map(|port| SocketAddr::from(([192, 0, 2, 7], port)));
            sources
                .map(|source| discovery.on_packet(now, &announce(&[A], None), source, true).len())
                .sum::<usize>()
        };
        assert_eq!(flood(&mut discovery, start), 50);
        assert_eq!(flood(&mut discovery, start + Duration::from_secs(1)), 50);
    }

    proptest! {
        #[test]
        fn no_torrent_is_announced_more_than_once_a_minute_after_its_start(
            steps in prop::collection::vec((0u8..5, 0u8..4, 0u64..40), 0..200),
        ) {
            let (mut discovery, mut now) = (LocalDiscovery::new(1), Instant::now());
            let mut announced: BTreeMap<WireHash, Vec<Instant>> = BTreeMap::new();
            for (number, what, wait) in steps {
                let torrent = WireHash([number; 20]);
                match what {
                    0 => discovery.add(now, torrent),
                    1 => discovery.remove(now, torrent),
                    _ => discovery.hurry(now, torrent),
                }
                now += Duration::from_secs(wait);
                while let Some(at) = discovery.deadline().filter(|&at| at <= now) {
                    let packet = discovery.poll(at, PORT).unwrap();
                    packet.info_hashes.into_iter().for_each(|hash| announced.entry(hash).or_default().push(at));
                }
            }
            // But for the second one of each start.
            for times in announced.values() {
                prop_assert!(times.windows(3).all(|three| three[2] - three[0] >= LEAST_INTERVAL));
            }
        }
    }
}
