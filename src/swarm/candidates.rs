//! Addresses of peers that we are not connected to, and when to call them.
//!
//! The one gate through which every address comes, whatever told us of it. Owns the back-off.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Addresses kept; further ones are not taken.
pub const MOST_CANDIDATES: usize = 2000;

/// Addresses that are remembered as banned.
const MOST_BANNED: usize = 4000;

/// Before a second attempt at an address that did not answer; doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// Before an address is called again at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// After a connection that worked has ended.
const AFTER_CONNECTION: Duration = Duration::from_secs(30);

/// After so many failures in a row an address makes room when room is needed.
const HOPELESS: u32 = 4;

/// Who told us of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// A tracker.
    Tracker,
    /// It called us; its listening port came with its extension handshake.
    Incoming,
    /// The user.
    User,
}

#[derive(Clone, Debug)]
struct Candidate {
    failures: u32,
    /// Decides among those that are ready alike: the order of addresses would send everybody to the
    /// same few.
    ticket: u32,
    /// Not before this; `None` while connected or being called.
    ready: Option<Instant>,
}

/// What a ban covers: the machine, but on loopback, where many clients share one address, the port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Banned(IpAddr, u16);

impl Banned {
    fn of(address: SocketAddr) -> Banned {
        let ip = address.ip().to_canonical();
        Banned(ip, if ip.is_loopback() { address.port() } else { 0 })
    }
}

/// The addresses.
#[derive(Debug)]
pub struct Candidates {
    all: BTreeMap<SocketAddr, Candidate>,
    /// Those with `ready`, by it and by ticket.
    waiting: BTreeSet<(Instant, u32, SocketAddr)>,
    banned: BTreeSet<Banned>,
    /// Addresses that turned out to be our own.
    own: BTreeSet<SocketAddr>,
    rng: fastrand::Rng,
}

impl Candidates {
    /// With no address.
    pub fn new(seed: u64) -> Candidates {
        Candidates {
            all: BTreeMap::new(),
            waiting: BTreeSet::new(),
            banned: BTreeSet::new(),
            own: BTreeSet::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes an address, if it is new, can be called, and there is room. Says whether it was taken.
    pub fn add(&mut self, now: Instant, address: SocketAddr, _origin: Origin) -> bool {
        let ip = address.ip();
        let callable = address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast();
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if !callable
            || broadcast
            || self.is_banned(address)
            || self.own.contains(&address)
            || self.all.contains_key(&address)
            || (self.all.len() >= MOST_CANDIDATES && !self.make_room())
        {
            return false;
        }
        let ticket = self.rng.u32(..);
        self.all.insert(address, Candidate { failures: 0, ticket, ready: Some(now) });
        self.waiting.insert((now, ticket, address));
        true
    }

    /// The next address to call, which then counts as being called.
    pub fn take(&mut self, now: Instant) -> Option<SocketAddr> {
        let &(ready, _, address) = self.waiting.first()?;
        if ready > now {
            return None;
        }
        self.occupy(address);
        Some(address)
    }

    /// When [`Candidates::take`] has something to give.
    pub fn next_ready(&self) -> Option<Instant> {
        self.waiting.first().map(|&(ready, ..)| ready)
    }

    /// It is connected (it may have called us), so it need not be called.
    pub fn occupy(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.all.get_mut(&address)
            && let Some(ready) = candidate.ready.take()
        {
            self.waiting.remove(&(ready, candidate.ticket, address));
        }
    }

    /// A call was not answered, or not by a peer.
    pub fn on_failure(&mut self, now: Instant, address: SocketAddr) {
        let Some(candidate) = self.all.get_mut(&address) else { return };
        candidate.failures += 1;
        let pause = FIRST_PAUSE * 2u32.pow(candidate.failures.min(10) - 1);
        self.wait_until(address, now + pause.min(LONGEST_PAUSE));
    }

    /// A connection that had worked has ended. `useless`: it had nothing for us (both complete).
    pub fn on_disconnect(&mut self, now: Instant, address: SocketAddr, useless: bool) {
        let Some(candidate) = self.all.get_mut(&address) else { return };
        candidate.failures = 0;
        self.wait_until(address, now + if useless { LONGEST_PAUSE } else { AFTER_CONNECTION });
    }

    /// It could not be called for reasons of our own (too many connections): soon again.
    pub fn postpone(&mut self, now: Instant, address: SocketAddr) {
        self.wait_until(address, now + FIRST_PAUSE);
    }

    /// It is ourselves.
    pub fn is_own(&mut self, address: SocketAddr) {
        self.forget(address);
        if self.own.len() < 64 {
            self.own.insert(address);
        }
    }

    /// Nothing at this address is called or let in any more.
    pub fn ban(&mut self, address: SocketAddr) {
        let banned = Banned::of(address);
        if self.banned.len() < MOST_BANNED {
            self.banned.insert(banned);
        }
        let gone: Vec<SocketAddr> = self.all.keys().filter(|&&a| Banned::of(a) == banned).copied().collect();
        gone.into_iter().for_each(|address| self.forget(address));
    }

    /// Whether it was banned.
    pub fn is_banned(&self, address: SocketAddr) -> bool {
        self.banned.contains(&Banned::of(address))
    }

    fn wait_until(&mut self, address: SocketAddr, ready: Instant) {
        self.occupy(address);
        if let Some(candidate) = self.all.get_mut(&address) {
            candidate.ready = Some(ready);
            self.waiting.insert((ready, candidate.ticket, address));
        }
    }

    fn forget(&mut self, address: SocketAddr) {
        self.occupy(address);
        self.all.remove(&address);
    }

    /// Room is made where an address has failed often, the longest wait first.
    fn make_room(&mut self) -> bool {
        let hopeless = |address: &SocketAddr| self.all[address].failures >= HOPELESS;
        let found = self.waiting.iter().rev().map(|&(.., address)| address).find(hopeless);
        found.inspect(|&address| self.forget(address)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881))
    }

    #[test]
    fn a_failing_address_is_called_less_and_less_often() {
        let (mut now, mut candidates) = (Instant::now(), Candidates::new(1));
        assert!(candidates.add(now, address(1), Origin::Tracker));
        assert!(!candidates.add(now, address(1), Origin::Tracker));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(candidates.take(now), Some(address(1)));
            assert_eq!(candidates.take(now), None);
            candidates.on_failure(now, address(1));
            let ready = candidates.next_ready().unwrap();
            pauses.push((ready - now).as_secs());
            now = ready;
        }
        assert_eq!(pauses[..4], [10, 20, 40, 80]);
        assert_eq!(*pauses.last().unwrap(), 1800);
    }

    #[test]
    fn impossible_own_and_banned_addresses_are_not_taken() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        for bad in ["0.0.0.0:1", "1.2.3.4:0", "224.0.0.1:5", "255.255.255.255:9", "[::]:7", "[ff02::1]:7"] {
            assert!(!candidates.add(now, bad.parse().unwrap(), Origin::Tracker), "{bad}");
        }
        candidates.add(now, address(1), Origin::Tracker);
        candidates.is_own(address(1));
        candidates.ban(address(2));
        assert!(!candidates.add(now, address(1), Origin::Tracker));
        assert!(!candidates.add(now, address(2), Origin::Tracker));
        assert_eq!(candidates.take(now), None);
    }

    #[test]
    fn the_list_is_bounded_and_makes_room_only_for_the_hopeless() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        for n in 0..3000 {
            candidates.add(now, address(n), Origin::Tracker);
        }
        assert_eq!(candidates.all.len(), MOST_CANDIDATES);
        for _ in 0..HOPELESS {
            candidates.on_failure(now, address(7));
        }
        assert!(candidates.add(now, address(2999), Origin::Tracker));
        assert!(!candidates.all.contains_key(&address(7)));
    }
}
