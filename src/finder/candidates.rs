//! Addresses of peers, and when to call them. Owns the back-off, the bans, and the shares of the list that each origin has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Origin;
use crate::address::Machine;
use crate::ids::PeerKey;

/// Addresses kept; further ones are not taken.
pub(super) const MAX_CANDIDATES: usize = 2000;

/// Of these so many are kept for each origin that has as many to offer; what one origin does not use the others may.
const SHARE: usize = MAX_CANDIDATES / Origin::ALL.len();

/// Machines that are remembered as banned; of more, those that were banned last.
const MAX_BANNED: usize = 4000;

/// How long the first call of an address may take; twice as long with each that has failed, and no longer than a call may. Most
/// that answer at all do so at once, and the others are not waited for before everybody has been tried.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);

/// How long a call may take at the most.
const MAX_PATIENCE: Duration = Duration::from_secs(10);

/// Before a second attempt at an address that did not answer; doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// Before an address is called again at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// After a connection that worked has ended.
const AFTER_CONNECTION: Duration = Duration::from_secs(30);

/// Addresses that are remembered as our own.
pub(super) const MAX_OWN: usize = 64;

/// Peers that are remembered to have told of an address.
const MAX_INTRODUCERS: usize = 4;

#[derive(Clone, Debug)]
struct Candidate {
    /// Who told us of it first.
    origin: Origin,
    /// Calls in a row that came to nothing.
    failures: u32,
    /// Connections that ended because it broke the protocol.
    breaches: u32,
    /// Decides among those that are ready alike: the order of addresses would send everybody to the
    /// same few.
    ticket: u32,
    /// Others say that it speaks uTP (BEP 11).
    speaks_utp: bool,
    /// Connections whose peers have told of it, first those that say it can be met by a hole in its firewall (BEP 55); they may have ended. At
    /// most [`MAX_INTRODUCERS`].
    introducers: Vec<PeerKey>,
    /// Not before this; `None` while connected or being called.
    ready: Option<Instant>,
}

/// The addresses: see the module's head.
#[derive(Debug)]
pub(super) struct Candidates {
    all: BTreeMap<SocketAddr, Candidate>,
    /// Those with `ready`, by it and by ticket.
    waiting: BTreeSet<(Instant, u32, SocketAddr)>,
    /// Of these, those of which nothing came, or nothing but a breach of the protocol.
    doubtful: BTreeSet<(Instant, u32, SocketAddr)>,
    /// How many each origin has told us of.
    counts: [usize; Origin::ALL.len()],
    /// Banned machines, and until when; `None`: for good.
    banned: BTreeMap<Machine, Option<Instant>>,
    /// The same, in the order in which they were banned.
    bans: VecDeque<Machine>,
    /// Addresses that turned out to be our own.
    own: BTreeSet<SocketAddr>,
    rng: fastrand::Rng,
}

impl Candidates {
    /// With no address.
    pub(super) fn new(seed: u64) -> Candidates {
        Candidates {
            all: BTreeMap::new(),
            waiting: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            counts: [0; Origin::ALL.len()],
            banned: BTreeMap::new(),
            bans: VecDeque::new(),
            own: BTreeSet::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes an address, if it is new, neither banned nor our own, and there is room. Says whether it was taken.
    pub(super) fn add(&mut self, now: Instant, address: SocketAddr, origin: Origin) -> bool {
        if self.is_banned(now, address)
            || self.own.contains(&address)
            || self.all.contains_key(&address)
            || (self.all.len() >= MAX_CANDIDATES && !self.make_room(origin))
        {
            return false;
        }
        let ticket = self.rng.u32(..);
        let candidate = Candidate {
            origin,
            failures: 0,
            breaches: 0,
            ticket,
            speaks_utp: false,
            introducers: Vec::new(),
            ready: Some(now),
        };
        self.all.insert(address, candidate);
        self.waiting.insert((now, ticket, address));
        self.counts[origin as usize] += 1;
        true
    }

    /// Whether it is one of them.
    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        self.all.contains_key(&address)
    }

    /// Others say that it speaks uTP.
    pub(super) fn set_speaks_utp(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.all.get_mut(&address) {
            candidate.speaks_utp = true;
        }
    }

    /// Whether others say that it speaks uTP.
    pub(super) fn speaks_utp(&self, address: SocketAddr) -> bool {
        self.all.get(&address).is_some_and(|candidate| candidate.speaks_utp)
    }

    /// A peer has told of it, and says whether it can be met by a hole in its firewall.
    pub(super) fn introduce(&mut self, address: SocketAddr, peer: PeerKey, punches: bool) {
        let Some(candidate) = self.all.get_mut(&address) else { return };
        candidate.introducers.retain(|&other| other != peer);
        candidate.introducers.truncate(MAX_INTRODUCERS - 1);
        let place = if punches { 0 } else { candidate.introducers.len() };
        candidate.introducers.insert(place, peer);
    }

    /// A peer is not connected to it any more.
    pub(super) fn forget_introducer(&mut self, address: SocketAddr, peer: PeerKey) {
        if let Some(candidate) = self.all.get_mut(&address) {
            candidate.introducers.retain(|&other| other != peer);
        }
    }

    /// Those who have told of it, the best first.
    pub(super) fn introducers(&self, address: SocketAddr) -> &[PeerKey] {
        self.all.get(&address).map_or(&[], |candidate| &candidate.introducers)
    }

    /// The next address to call, which then counts as being called.
    pub(super) fn take(&mut self, now: Instant) -> Option<SocketAddr> {
        let address = self.first_ready(now)?;
        self.occupy(address);
        Some(address)
    }

    /// The address that [`Candidates::take`] would give.
    pub(super) fn first_ready(&self, now: Instant) -> Option<SocketAddr> {
        self.waiting.first().filter(|&&(ready, ..)| ready <= now).map(|&(.., address)| address)
    }

    /// Forgets the addresses of which this is not true, by who told us of them first.
    pub(super) fn retain(&mut self, is_kept: impl Fn(SocketAddr, Origin) -> bool) {
        let lost = self.all.iter().filter(|(address, candidate)| !is_kept(**address, candidate.origin));
        let lost: Vec<SocketAddr> = lost.map(|(&address, _)| address).collect();
        lost.into_iter().for_each(|address| self.forget(address));
    }

    /// How long a call of this address may take.
    pub(super) fn patience(&self, address: SocketAddr) -> Duration {
        let failures = self.all.get(&address).map_or(0, |candidate| candidate.failures.min(10));
        (FIRST_PATIENCE * 2u32.pow(failures)).min(MAX_PATIENCE)
    }

    /// When [`Candidates::take`] has something to give.
    pub(super) fn next_ready(&self) -> Option<Instant> {
        self.waiting.first().map(|&(ready, ..)| ready)
    }

    /// It is connected (it may have called us), so it need not be called.
    pub(super) fn occupy(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.all.get_mut(&address)
            && let Some(ready) = candidate.ready.take()
        {
            self.waiting.remove(&(ready, candidate.ticket, address));
            self.doubtful.remove(&(ready, candidate.ticket, address));
        }
    }

    /// A call was not answered, or not by a peer.
    pub(super) fn on_failure(&mut self, now: Instant, address: SocketAddr) {
        let Some(candidate) = self.all.get_mut(&address) else { return };
        candidate.failures += 1;
        let pause = FIRST_PAUSE * 2u32.pow(candidate.failures.min(10) - 1);
        self.wait_until(address, now + pause.min(LONGEST_PAUSE));
    }

    /// A connection that had worked has ended. `useless`: it had nothing for us (both complete).
    pub(super) fn on_disconnect(&mut self, now: Instant, address: SocketAddr, useless: bool) {
        let Some(candidate) = self.all.get_mut(&address) else { return };
        candidate.failures = 0;
        self.wait_until(address, now + if useless { LONGEST_PAUSE } else { AFTER_CONNECTION });
    }

    /// What everything leaves by works again, after it did not: connections that have ended lately may have ended for that, so whoever was
    /// connected is called at once.
    pub(super) fn way_is_back(&mut self, now: Instant) {
        let is_it = |address: &SocketAddr| {
            let candidate = self.all.get(address);
            candidate.is_some_and(|candidate| candidate.failures == 0 && candidate.breaches == 0)
        };
        let waiting = self.waiting.iter().skip_while(|&&(ready, ..)| ready <= now);
        let waiting = waiting.take_while(|&&(ready, ..)| ready <= now + AFTER_CONNECTION);
        let found: Vec<SocketAddr> = waiting.map(|&(.., address)| address).filter(is_it).collect();
        found.into_iter().for_each(|address| self.wait_until(address, now));
    }

    /// A connection has ended because the peer broke the protocol. It will do so again, whatever it has given before.
    pub(super) fn on_breach(&mut self, now: Instant, address: SocketAddr) {
        let Some(candidate) = self.all.get_mut(&address) else { return };
        candidate.breaches += 1;
        let pause = AFTER_CONNECTION * 2u32.pow(candidate.breaches.min(10));
        self.wait_until(address, now + pause.min(LONGEST_PAUSE));
    }

    /// It was called, and refused for reasons of our own (too many connections): soon again.
    pub(super) fn postpone(&mut self, now: Instant, address: SocketAddr) {
        self.wait_until(address, now + FIRST_PAUSE);
    }

    /// It is ourselves.
    pub(super) fn is_own(&mut self, address: SocketAddr) {
        self.forget(address);
        if self.own.len() < MAX_OWN {
            self.own.insert(address);
        }
    }

    /// Nothing at this address is called or let in any more, or for so long.
    pub(super) fn ban(&mut self, now: Instant, address: SocketAddr, pause: Option<Duration>) {
        let banned = Machine::at(address);
        let until = pause.map(|pause| now + pause);
        match self.banned.insert(banned, until) {
            None => self.bans.push_back(banned),
            // What was for good stays so.
            Some(None) => drop(self.banned.insert(banned, None)),
            Some(Some(_)) => {}
        }
        if self.bans.len() > MAX_BANNED
            && let Some(oldest) = self.bans.pop_front()
        {
            self.banned.remove(&oldest);
        }
        let there: Vec<SocketAddr> =
            self.all.keys().filter(|&&a| Machine::at(a) == banned).copied().collect();
        for address in there {
            match until {
                Some(until) => self.wait_until(address, until),
                None => self.forget(address),
            }
        }
    }

    /// Whether it was banned.
    pub(super) fn is_banned(&self, now: Instant, address: SocketAddr) -> bool {
        let until = self.banned.get(&Machine::at(address));
        until.is_some_and(|until| until.is_none_or(|until| now < until))
    }

    fn wait_until(&mut self, address: SocketAddr, ready: Instant) {
        self.occupy(address);
        let banned_until = self.banned.get(&Machine::at(address)).copied().flatten();
        let ready = banned_until.map_or(ready, |until| ready.max(until));
        if let Some(candidate) = self.all.get_mut(&address) {
            candidate.ready = Some(ready);
            self.waiting.insert((ready, candidate.ticket, address));
            if candidate.failures > 0 || candidate.breaches > 0 {
                self.doubtful.insert((ready, candidate.ticket, address));
            }
        }
    }

    fn forget(&mut self, address: SocketAddr) {
        self.occupy(address);
        if let Some(candidate) = self.all.remove(&address) {
            self.counts[candidate.origin as usize] -= 1;
        }
    }

    /// Room is made where an address has failed, or its peer has broken the protocol, the longest wait first. For an origin that has less than
    /// its share it is also made at the cost of the one that has most, where an address waits longest.
    fn make_room(&mut self, origin: Origin) -> bool {
        let doubtful = self.doubtful.last().map(|&(.., address)| address);
        let found = doubtful.or_else(|| {
            if self.counts[origin as usize] >= SHARE {
                return None;
            }
            let most = Origin::ALL.into_iter().max_by_key(|&origin| self.counts[origin as usize])?;
            let mut latest = self.waiting.iter().rev().map(|&(.., address)| address);
            latest.find(|address| self.all[address].origin == most)
        });
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
    fn who_was_connected_is_called_at_once_when_the_way_is_back_and_nobody_else() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        for n in 0..5 {
            candidates.add(now, address(n), Origin::Tracker);
        }
        while candidates.take(now).is_some() {}
        candidates.on_disconnect(now, address(0), false);
        candidates.on_disconnect(now, address(1), true);
        candidates.on_failure(now, address(2));
        candidates.on_breach(now, address(3));
        candidates.ban(now, address(4), Some(FIRST_PAUSE));
        let later = now + Duration::from_secs(1);
        assert_eq!(candidates.take(later), None);
        candidates.way_is_back(later);
        assert_eq!((candidates.take(later), candidates.take(later)), (Some(address(0)), None));
        // The ban has its own time.
        assert_eq!(candidates.take(now + FIRST_PAUSE), Some(address(4)));
    }

    #[test]
    fn own_and_banned_addresses_are_not_taken() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        candidates.add(now, address(1), Origin::Tracker);
        candidates.is_own(address(1));
        candidates.ban(now, address(2), None);
        assert!(!candidates.add(now, address(1), Origin::Tracker));
        assert!(!candidates.add(now, address(2), Origin::Tracker));
        assert_eq!(candidates.take(now), None);
    }

    #[test]
    fn an_origin_that_floods_leaves_the_others_their_share() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        let count = |candidates: &Candidates, origin| {
            candidates.all.values().filter(|candidate| candidate.origin == origin).count()
        };
        (0..60_000).for_each(|n| {
            candidates.add(now, address(n), Origin::PeerExchange);
        });
        assert_eq!(count(&candidates, Origin::PeerExchange), MAX_CANDIDATES);
        // The others get their share and no more, the flood keeps what they do not use.
        (60_000..61_000).for_each(|n| {
            candidates.add(now, address(n), Origin::Tracker);
        });
        assert!(candidates.add(now, address(65_000), Origin::User));
        assert_eq!(candidates.all.len(), MAX_CANDIDATES);
        assert_eq!((count(&candidates, Origin::Tracker), count(&candidates, Origin::User)), (SHARE, 1));
        (61_000..62_000).for_each(|n| {
            candidates.add(now, address(n), Origin::PeerExchange);
        });
        assert_eq!((count(&candidates, Origin::Tracker), count(&candidates, Origin::User)), (SHARE, 1));
    }

    #[test]
    fn the_list_is_bounded_and_makes_room_where_a_call_has_failed() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        for n in 0..3000 {
            candidates.add(now, address(n), Origin::Tracker);
        }
        assert_eq!(candidates.all.len(), MAX_CANDIDATES);
        candidates.on_failure(now, address(7));
        assert!(candidates.add(now, address(2999), Origin::Tracker));
        assert!(!candidates.all.contains_key(&address(7)));
    }

    #[test]
    fn who_breaks_the_protocol_holds_no_place_that_others_could_have() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        for n in 0..2000 {
            candidates.add(now, address(n), Origin::Tracker);
        }
        let called = candidates.take(now).unwrap();
        candidates.on_breach(now, called);
        assert!(candidates.add(now, address(2999), Origin::Tracker));
        assert!(!candidates.all.contains_key(&called) && candidates.doubtful.is_empty());
    }

    #[test]
    fn one_source_of_dead_addresses_does_not_keep_the_others_out() {
        let (start, mut candidates) = (Instant::now(), Candidates::new(1));
        for n in 0..2000 {
            candidates.add(start, address(n), Origin::Tracker);
        }
        let honest: SocketAddr = "192.0.2.1:6881".parse().unwrap();
        assert!(!candidates.add(start, honest, Origin::Tracker));
        let later = start + FIRST_PATIENCE;
        let called = candidates.take(start).unwrap();
        candidates.on_failure(later, called);
        assert!(candidates.add(later, honest, Origin::Tracker), "whoever has failed makes room");
    }

    #[test]
    fn of_very_many_bans_the_oldest_are_forgotten() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        let far = |n: usize| SocketAddr::from(([11, (n >> 16) as u8, (n >> 8) as u8, n as u8], 6881));
        (0..=MAX_BANNED).for_each(|n| candidates.ban(now, far(n), None));
        assert!(!candidates.is_banned(now, far(0)) && candidates.is_banned(now, far(1)));
        assert!(candidates.is_banned(now, far(MAX_BANNED)));
        candidates.ban(now, far(MAX_BANNED), None);
        assert!(candidates.is_banned(now, far(1)), "one that is banned already takes no place");
    }

    #[test]
    fn a_ban_with_an_end_keeps_the_address_and_calls_it_then() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        let pause = Duration::from_secs(60);
        candidates.add(now, address(1), Origin::Tracker);
        candidates.take(now);
        candidates.ban(now, address(1), Some(pause));
        candidates.on_disconnect(now, address(1), false);
        assert!(candidates.is_banned(now, address(1)));
        assert_eq!(candidates.next_ready(), Some(now + pause), "and not after half of it");
        assert!(!candidates.is_banned(now + pause, address(1)));
        assert_eq!(candidates.take(now + pause), Some(address(1)));

        candidates.ban(now, address(1), None);
        candidates.ban(now, address(1), Some(pause));
        assert!(candidates.is_banned(now + 2 * pause, address(1)), "for good is for good");
        assert!(!candidates.add(now + 2 * pause, address(1), Origin::Tracker));
    }

    #[test]
    fn a_call_that_failed_may_take_longer_the_next_time() {
        let (now, mut candidates) = (Instant::now(), Candidates::new(1));
        candidates.add(now, address(1), Origin::Tracker);
        let patience: Vec<u64> = (0..5)
            .map(|_| {
                let patience = candidates.patience(address(1)).as_secs();
                candidates.on_failure(now, address(1));
                patience
            })
            .collect();
        assert_eq!(patience, [2, 4, 8, 10, 10]);
    }
}
