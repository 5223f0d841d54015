//! Peer exchange (BEP 11) of one torrent: what we tell each peer of the others, and what we believe of what it tells.
//!
//! Owns who is connected, as far as others are told of it, and what each peer has been told. Pure. What each has been told
//! is not kept as a list: peers join a roster in the order of their numbers, those that go are noted in the order in which
//! they went, and a peer has been told everything up to a place in either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::candidates::MAX_OWN;
use crate::address::{canonical, is_callable, is_stand_in, may_name};
use crate::ids::PeerKey;
use crate::wire::extended::{MAX_PEX_PEERS, PexFlags, PexMessage};

/// How long after a peer's handshake, or after the first news since it was told the last, it is told: so that one message has
/// what comes together.
const GATHERING: Duration = Duration::from_secs(2);

/// From one message to the next to the same peer, and of the same peer to be believed (BEP 11).
const INTERVAL: Duration = Duration::from_secs(60);

/// A message may come so much too early: messages do not always travel equally fast. On average it is one a minute all the same.
const JITTER: Duration = Duration::from_secs(5);

/// So many messages in a minute are a flood.
const FLOOD: u32 = 20;

/// Departures that are remembered for those who have not been told yet. Beyond, the oldest are forgotten.
const MAX_DEPARTED: usize = 4096;

/// What is made of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PexNews {
    /// These addresses may be called; so many peers were dropped.
    Found {
        /// No inner addresses from peers outside, no more than one of a machine.
        added: Vec<SocketAddr>,
        /// Those of them that are said to prefer encrypted connections.
        encrypting: Vec<SocketAddr>,
        /// Peers that the sender is not connected to any more.
        dropped: usize,
    },
    /// It comes too soon after the one before, or on a torrent that keeps silent.
    Ignored,
    /// Close the connection: it sends far too many.
    Flood,
}

/// One connection.
#[derive(Debug)]
struct Link {
    /// Its other end.
    address: SocketAddr,
    /// Where the peer can be called, if we have done so or it has said.
    callable: Option<SocketAddr>,
    /// Where else it can be called, in the other family, as it has said.
    also_at: Option<SocketAddr>,
    flags: PexFlags,
    /// It wants messages.
    wants: bool,
    /// Not before this is it told anything.
    next_message: Instant,
    /// It has been told of all in the roster up to this number.
    told_joined: u64,
    /// It has been told of so many departures, counted from the first of all.
    told_departed: u64,
    /// It is in `Pex::due`.
    due: Option<Instant>,
    /// When its next message is due, if messages are a minute apart.
    believed_again: Option<Instant>,
    /// Messages since `counted_since`.
    messages: u32,
    counted_since: Instant,
}

/// Somebody who can be told of.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: PeerKey,
    address: SocketAddr,
    /// Its number in the roster.
    joined: u64,
}

/// Peer exchange of one torrent: see the module's head.
#[derive(Debug, Default)]
pub struct Pex {
    links: BTreeMap<PeerKey, Link>,
    /// By number, which grows with each.
    roster: BTreeMap<u64, Entry>,
    /// No address stands twice in the roster.
    numbers: BTreeMap<SocketAddr, u64>,
    last_number: u64,
    /// Those that went, in the order in which they went; at most [`MAX_DEPARTED`].
    departed: VecDeque<Entry>,
    /// Departures that are not in `departed` any more.
    forgotten: u64,
    /// Whom to tell when.
    due: BTreeSet<(Instant, PeerKey)>,
    own: BTreeSet<SocketAddr>,
    /// Nothing is sent or believed.
    silent: bool,
}

impl Pex {
    /// Knows nobody yet.
    pub fn new() -> Pex {
        Pex::default()
    }

    /// There is a connection; one that is known already goes on. `callable`: where the peer can be called, if it is us who called.
    pub fn connected(
        &mut self,
        now: Instant,
        peer: PeerKey,
        address: SocketAddr,
        callable: Option<SocketAddr>,
    ) {
        let link = Link {
            address,
            callable: None,
            also_at: None,
            flags: PexFlags::default(),
            wants: false,
            next_message: now,
            told_joined: 0,
            told_departed: self.forgotten + self.departed.len() as u64,
            due: None,
            believed_again: None,
            messages: 0,
            counted_since: now,
        };
        self.links.entry(peer).or_insert(link);
        if let Some(callable) = callable {
            self.listens(now, peer, callable);
            self.set_flag(peer, PexFlags::OUTGOING, true);
        }
    }

    /// The peer has said where it listens (BEP 10 `p`), or was called there. Only the first time counts.
    pub fn listens(&mut self, now: Instant, peer: PeerKey, callable: SocketAddr) {
        let Some(link) = self.links.get_mut(&peer).filter(|link| link.callable.is_none()) else { return };
        if callable.port() != 0 {
            link.callable = Some(callable);
            self.join(now, peer, callable);
        }
    }

    /// The peer says that it listens at this address, too, which is of the other family. Gives where to call it; `None`: the port is not
    /// known, it is not the first such address, it makes no sense, or nothing is to be believed.
    pub fn also_at(&mut self, peer: PeerKey, ip: IpAddr) -> Option<SocketAddr> {
        let link = self.links.get_mut(&peer).filter(|link| !self.silent && link.also_at.is_none())?;
        let address = canonical(SocketAddr::new(ip, link.callable?.port()));
        let source = link.address.ip().to_canonical();
        let is_other = address.is_ipv4() != source.is_ipv4() && !self.own.contains(&address);
        link.also_at = Some(address).filter(|&address| is_other && may_tell(source, address));
        link.also_at
    }

    /// Whether this holds of the peer, for others.
    pub fn set_flag(&mut self, peer: PeerKey, flag: PexFlags, is_set: bool) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.flags = link.flags.with(flag, is_set);
        }
    }

    /// An extension handshake of the peer says whether it wants messages: whether it has an id for `ut_pex`.
    pub fn wants(&mut self, now: Instant, peer: PeerKey, wants: bool) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if wants && !link.wants {
            link.next_message = link.next_message.max(now + GATHERING);
        }
        link.wants = wants;
        self.plan(now, peer);
    }

    /// The connection has ended. Gives what [`Pex::also_at`] gave of this peer.
    pub fn gone(&mut self, now: Instant, peer: PeerKey) -> Option<SocketAddr> {
        let link = self.links.remove(&peer)?;
        let also_at = link.also_at;
        self.leave(now, peer, link);
        also_at
    }

    fn leave(&mut self, now: Instant, peer: PeerKey, link: Link) {
        if let Some(due) = link.due {
            self.due.remove(&(due, peer));
        }
        let number = link.callable.and_then(|address| self.numbers.get(&address)).copied();
        let Some(entry) = number.and_then(|number| self.roster.get(&number)).copied() else { return };
        if entry.key != peer {
            return;
        }
        self.depart(now, entry);
        // It may have been connected twice.
        let twin =
            self.links.iter().find(|(_, link)| link.callable == Some(entry.address)).map(|(&key, _)| key);
        if let Some(twin) = twin {
            self.join(now, twin, entry.address);
        }
    }

    /// This address is our own: nobody is told of it, and we do not believe it of others.
    pub fn is_own(&mut self, now: Instant, address: SocketAddr) {
        if self.own.len() < MAX_OWN {
            self.own.insert(address);
        }
        if let Some(entry) = self.numbers.get(&address).and_then(|number| self.roster.get(number)).copied() {
            self.depart(now, entry);
        }
    }

    /// Whether this address is our own, as far as is known.
    pub(super) fn is_ours(&self, address: SocketAddr) -> bool {
        self.own.contains(&canonical(address))
    }

    /// The other end of a connection.
    pub(super) fn address_of(&self, peer: PeerKey) -> Option<SocketAddr> {
        self.links.get(&peer).map(|link| link.address)
    }

    /// Who is connected from this address, or can be called there.
    pub(super) fn peer_at(&self, address: SocketAddr) -> Option<PeerKey> {
        let address = Some(canonical(address));
        let is_there = |link: &Link| [Some(link.address), link.callable, link.also_at].contains(&address);
        self.links.iter().find(|(_, link)| is_there(link)).map(|(&peer, _)| peer)
    }

    /// Whether a peer wants to be told of others, and speaks `ut_holepunch` (BEP 55).
    pub(super) fn punches(&self, peer: PeerKey) -> bool {
        let link = self.links.get(&peer);
        link.is_some_and(|link| link.wants && link.flags.contains(PexFlags::HOLEPUNCH))
    }

    /// Whether a peer can know of somebody at this address whom we could call.
    pub(super) fn may_name(&self, peer: PeerKey, address: SocketAddr) -> bool {
        self.address_of(peer).is_some_and(|source| may_tell(source.ip(), address))
    }

    /// Where two peers can call one another by uTP, the address of the first one first. One that is connected by uTP is called where it comes from,
    /// for that is what its address is translated to; one by TCP where it listens. `None`: there are no such addresses of one family.
    pub(super) fn meeting(&self, one: PeerKey, other: PeerKey) -> Option<(SocketAddr, SocketAddr)> {
        let ends = |link: &Link| {
            let is_utp = link.flags.contains(PexFlags::UTP);
            [if is_utp { Some(link.address) } else { link.callable }, link.also_at].into_iter().flatten()
        };
        let (one, other) = (self.links.get(&one)?, self.links.get(&other)?);
        ends(other).find_map(|theirs| {
            let fits = |ours: &SocketAddr| {
                ours.is_ipv4() == theirs.is_ipv4()
                    && may_tell(ours.ip(), theirs)
                    && may_tell(theirs.ip(), *ours)
            };
            ends(one).find(fits).map(|ours| (ours, theirs))
        })
    }

    /// The torrent is private (BEP 27), or the user wants no peer exchange: nothing is sent or believed any more.
    pub fn silence(&mut self) {
        *self = Pex { silent: true, ..Pex::default() };
    }

    fn join(&mut self, now: Instant, key: PeerKey, address: SocketAddr) {
        if self.silent || self.own.contains(&address) || self.numbers.contains_key(&address) {
            return;
        }
        self.last_number += 1;
        self.roster.insert(self.last_number, Entry { key, address, joined: self.last_number });
        self.numbers.insert(address, self.last_number);
        self.plan_all(now);
    }

    fn depart(&mut self, now: Instant, entry: Entry) {
        self.roster.remove(&entry.joined);
        self.numbers.remove(&entry.address);
        self.departed.push_back(entry);
        // Who has not been told of anybody need not hear who has gone.
        let told =
            self.links.values().filter(|link| link.told_joined > 0).map(|link| link.told_departed).min();
        let all = self.forgotten + self.departed.len() as u64;
        let needed = all.saturating_sub(told.unwrap_or(all)).min(MAX_DEPARTED as u64) as usize;
        let surplus = self.departed.len().saturating_sub(needed);
        self.departed.drain(..surplus);
        self.forgotten += surplus as u64;
        self.plan_all(now);
    }

    fn plan_all(&mut self, now: Instant) {
        let undecided: Vec<PeerKey> = self
            .links
            .iter()
            .filter(|(_, link)| link.wants && link.due.is_none())
            .map(|(&key, _)| key)
            .collect();
        undecided.into_iter().for_each(|key| self.plan(now, key));
    }

    /// Decides when a peer is told next, if there is something to tell.
    fn plan(&mut self, now: Instant, key: PeerKey) {
        if self.silent {
            return;
        }
        let all_departed = self.forgotten + self.departed.len() as u64;
        let Some(link) = self.links.get_mut(&key) else { return };
        let news = link.told_joined < self.last_number || link.told_departed < all_departed;
        let due = (link.wants && news).then(|| link.due.unwrap_or(link.next_message.max(now + GATHERING)));
        if link.due != due {
            link.due.into_iter().for_each(|at| {
                self.due.remove(&(at, key));
            });
            self.due.extend(due.map(|at| (at, key)));
            link.due = due;
        }
    }

    /// A message to send now; `None`: nothing before [`Pex::deadline`] or the next input.
    pub fn poll(&mut self, now: Instant) -> Option<(PeerKey, PexMessage)> {
        while let Some(&(at, key)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, key));
            let message = self.message_for(key);
            let Some(link) = self.links.get_mut(&key) else { continue };
            link.due = None;
            let is_empty = message.added.is_empty() && message.dropped.is_empty();
            if !is_empty {
                link.next_message = now + INTERVAL;
            }
            self.plan(now, key);
            if !is_empty {
                return Some((key, message));
            }
        }
        None
    }

    /// When to call [`Pex::poll`] though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// What a peer has not been told yet, as much of it as goes into one message.
    fn message_for(&mut self, key: PeerKey) -> PexMessage {
        let Some(link) = self.links.get(&key) else { return PexMessage::default() };
        let (mut told_joined, mut told_departed) = (link.told_joined, link.told_departed.max(self.forgotten));
        let is_itself = |entry: &Entry| {
            entry.key == key || entry.address == link.address || Some(entry.address) == link.callable
        };
        let mut message = PexMessage::default();
        for (&number, entry) in self.roster.range(told_joined + 1..) {
            if message.added.len() == MAX_PEX_PEERS {
                break;
            }
            told_joined = number;
            if !is_itself(entry) {
                let flags = self.links.get(&entry.key).map_or(PexFlags::default(), |link| link.flags);
                message.added.push((entry.address, flags));
            }
        }
        for entry in self.departed.iter().skip((told_departed - self.forgotten) as usize) {
            if message.dropped.len() == MAX_PEX_PEERS {
                break;
            }
            told_departed += 1;
            let was_told = entry.joined <= link.told_joined && !is_itself(entry);
            let is_back = self.numbers.get(&entry.address).is_some_and(|number| *number <= link.told_joined);
            if was_told && !is_back && !message.dropped.contains(&entry.address) {
                message.dropped.push(entry.address);
            }
        }
        // Who went and is back has been told of, and stays so.
        let back: BTreeSet<SocketAddr> = message.added.iter().map(|(address, _)| *address).collect();
        let (back, dropped) = message.dropped.into_iter().partition(|address| back.contains(address));
        let back: Vec<SocketAddr> = back;
        message.dropped = dropped;
        message.added.retain(|(address, _)| !back.contains(address) && !is_stand_in(*address));
        message.dropped.retain(|address| !is_stand_in(*address));
        if self.roster.range(told_joined + 1..).next().is_none() {
            told_joined = self.last_number;
        }
        if let Some(link) = self.links.get_mut(&key) {
            (link.told_joined, link.told_departed) = (told_joined, told_departed);
        }
        message
    }

    /// What to make of a message that a peer has sent.
    pub fn on_message(&mut self, now: Instant, peer: PeerKey, message: &PexMessage) -> PexNews {
        let Some(link) = self.links.get_mut(&peer).filter(|_| !self.silent) else { return PexNews::Ignored };
        if now.saturating_duration_since(link.counted_since) >= INTERVAL {
            (link.counted_since, link.messages) = (now, 0);
        }
        link.messages += 1;
        if link.messages > FLOOD {
            return PexNews::Flood;
        }
        if link.believed_again.is_some_and(|at| now + JITTER < at) {
            return PexNews::Ignored;
        }
        link.believed_again = Some(link.believed_again.unwrap_or(now).max(now) + INTERVAL);
        let (source, callable) = (link.address, link.callable);
        let mut machines = BTreeSet::new();
        let mut is_usable = |address: &SocketAddr| {
            let itself = *address == source || Some(*address) == callable;
            may_tell(source.ip(), *address)
                && !itself
                && !self.own.contains(address)
                && (address.ip().is_loopback() || machines.insert(address.ip()))
        };
        let usable = |(address, _): &&(SocketAddr, PexFlags)| is_usable(address);
        let believed: Vec<(SocketAddr, PexFlags)> = message.added.iter().filter(usable).copied().collect();
        let encrypting = believed.iter().filter(|(_, flags)| flags.contains(PexFlags::ENCRYPTION));
        PexNews::Found {
            added: believed.iter().map(|(address, _)| *address).collect(),
            encrypting: encrypting.map(|(address, _)| *address).collect(),
            dropped: message.dropped.len(),
        }
    }
}

/// Whether a peer at `source` can know of a peer at `address` that we could call.
fn may_tell(source: IpAddr, address: SocketAddr) -> bool {
    let address = canonical(address);
    is_callable(address) && may_name(source.to_canonical(), address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(number: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, (number % 250) as u8], 1000 + number))
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// Connects peers that we have called; `at(number)` is where.
    fn with_peers(now: Instant, numbers: impl IntoIterator<Item = u16>) -> Pex {
        let mut pex = Pex::new();
        numbers.into_iter().for_each(|number| join(&mut pex, now, number));
        pex
    }

    fn join(pex: &mut Pex, now: Instant, number: u16) {
        pex.connected(now, PeerKey(number.into()), at(number), Some(at(number)));
    }

    /// All messages until then, and when.
    fn run(pex: &mut Pex, now: Instant, until: Instant) -> Vec<(Duration, PeerKey, PexMessage)> {
        let mut messages = Vec::new();
        while let Some(due) = pex.deadline().filter(|&due| due <= until) {
            messages.extend(pex.poll(due).map(|(key, message)| (due - now, key, message)));
            assert!(pex.deadline() > Some(due) || pex.deadline().is_none() || !messages.is_empty());
        }
        messages
    }

    fn added(message: &PexMessage) -> Vec<SocketAddr> {
        message.added.iter().map(|(address, _)| *address).collect()
    }

    #[test]
    fn the_first_message_comes_within_5_s_and_the_next_a_minute_later() {
        let now = Instant::now();
        let mut pex = with_peers(now, 1..4);
        pex.wants(now, PeerKey(1), true);
        let first = run(&mut pex, now, now + seconds(30));
        assert_eq!(first.len(), 1);
        let (when, key, message) = &first[0];
        assert!(*when <= seconds(5));
        assert_eq!((*key, added(message)), (PeerKey(1), vec![at(2), at(3)]), "not itself");
        join(&mut pex, now + seconds(30), 4);
        pex.gone(now + seconds(31), PeerKey(2));
        let next = run(&mut pex, now, now + seconds(300));
        assert_eq!(next.len(), 1);
        assert!(next[0].0 >= *when + INTERVAL);
        assert_eq!((added(&next[0].2), &next[0].2.dropped), (vec![at(4)], &vec![at(2)]));
        assert_eq!(pex.deadline(), None);
    }

    #[test]
    fn who_is_not_known_to_listen_is_not_told_of() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1]);
        pex.connected(now, PeerKey(2), at(2), None);
        pex.wants(now, PeerKey(1), true);
        assert_eq!(run(&mut pex, now, now + seconds(100)), []);
        let listening = SocketAddr::new(at(2).ip(), 6881);
        pex.listens(now + seconds(100), PeerKey(2), SocketAddr::new(at(2).ip(), 0));
        pex.listens(now + seconds(100), PeerKey(2), listening);
        pex.listens(now + seconds(100), PeerKey(2), at(9));
        pex.set_flag(PeerKey(2), PexFlags::SEED, true);
        let messages = run(&mut pex, now, now + seconds(200));
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].2.added, [(listening, PexFlags::SEED)]);
    }

    #[test]
    fn flags_say_whom_we_have_called() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1, 2]);
        pex.set_flag(PeerKey(2), PexFlags::UTP, true);
        pex.set_flag(PeerKey(2), PexFlags::SEED, false);
        pex.wants(now, PeerKey(1), true);
        let messages = run(&mut pex, now, now + seconds(9));
        assert_eq!(messages[0].2.added, [(at(2), PexFlags(0x14))]);
    }

    #[test]
    fn who_prefers_encryption_is_told_as_such_and_believed() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1, 2]);
        pex.set_flag(PeerKey(2), PexFlags::ENCRYPTION, true);
        pex.set_flag(PeerKey(2), PexFlags::SEED, true);
        pex.wants(now, PeerKey(1), true);
        let messages = run(&mut pex, now, now + seconds(9));
        assert_eq!(messages[0].2.added, [(at(2), PexFlags(0x13))]);
        let added = vec![
            (at(7), PexFlags(0x13)),
            (at(8), PexFlags::SEED),
            ("127.0.0.1:9".parse().unwrap(), PexFlags(1)),
        ];
        let news = pex.on_message(now, PeerKey(1), &PexMessage { added, dropped: vec![] });
        assert_eq!(news, PexNews::Found { added: vec![at(7), at(8)], encrypting: vec![at(7)], dropped: 0 });
    }

    #[test]
    fn fifty_go_into_a_message_and_the_rest_into_the_next() {
        let now = Instant::now();
        let mut pex = with_peers(now, 1..=121);
        pex.wants(now, PeerKey(1), true);
        let messages = run(&mut pex, now, now + seconds(1000));
        let numbers: Vec<_> = messages.iter().map(|(_, _, message)| message.added.len()).collect();
        assert_eq!(numbers, [50, 50, 20]);
        for number in 2..=121 {
            pex.gone(now + seconds(1000), PeerKey(number));
        }
        let numbers: Vec<_> = run(&mut pex, now, now + seconds(2000))
            .iter()
            .map(|(_, _, message)| message.dropped.len())
            .collect();
        assert_eq!(numbers, [50, 50, 20]);
    }

    #[test]
    fn who_comes_and_goes_between_two_messages_is_not_told_of() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1, 2]);
        pex.wants(now, PeerKey(1), true);
        run(&mut pex, now, now + seconds(9));
        join(&mut pex, now + seconds(10), 3);
        pex.gone(now + seconds(11), PeerKey(3));
        pex.gone(now + seconds(12), PeerKey(2));
        pex.connected(now + seconds(13), PeerKey(22), at(2), Some(at(2)));
        assert_eq!(run(&mut pex, now, now + seconds(500)), []);
    }

    #[test]
    fn one_that_is_connected_twice_is_dropped_when_both_are_gone() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1, 2]);
        pex.connected(now, PeerKey(22), at(77), None);
        pex.listens(now, PeerKey(22), at(2));
        pex.wants(now, PeerKey(1), true);
        assert_eq!(added(&run(&mut pex, now, now + seconds(9))[0].2), [at(2)]);
        pex.gone(now + seconds(9), PeerKey(2));
        assert_eq!(run(&mut pex, now, now + seconds(500)), []);
        pex.gone(now + seconds(500), PeerKey(22));
        assert_eq!(run(&mut pex, now, now + seconds(900))[0].2.dropped, [at(2)]);
    }

    #[test]
    fn nobody_is_told_of_us_and_we_believe_nobody_who_names_us() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1, 2, 3]);
        pex.is_own(now, at(2));
        pex.wants(now, PeerKey(1), true);
        assert_eq!(added(&run(&mut pex, now, now + seconds(9))[0].2), [at(3)]);
        let message = PexMessage {
            added: [1, 2, 5].map(|number| (at(number), PexFlags(0))).into(),
            dropped: vec![at(6)],
        };
        assert_eq!(
            pex.on_message(now, PeerKey(1), &message),
            PexNews::Found { added: vec![at(5)], encrypting: vec![], dropped: 1 }
        );
    }

    #[test]
    fn who_does_not_want_messages_gets_none() {
        let now = Instant::now();
        let mut pex = with_peers(now, 1..4);
        assert_eq!(run(&mut pex, now, now + seconds(100)), []);
        pex.wants(now, PeerKey(1), true);
        pex.wants(now, PeerKey(1), false);
        assert_eq!(run(&mut pex, now, now + seconds(100)), []);
    }

    #[test]
    fn a_private_torrent_keeps_silent_from_the_moment_that_it_is_known() {
        let now = Instant::now();
        let mut pex = with_peers(now, 1..4);
        pex.wants(now, PeerKey(1), true);
        pex.silence();
        join(&mut pex, now, 5);
        join(&mut pex, now, 6);
        pex.wants(now, PeerKey(5), true);
        assert_eq!((pex.deadline(), run(&mut pex, now, now + seconds(100))), (None, vec![]));
        let message = PexMessage { added: vec![(at(7), PexFlags(0))], dropped: vec![] };
        assert_eq!(pex.on_message(now, PeerKey(1), &message), PexNews::Ignored);
        assert_eq!(pex.on_message(now, PeerKey(5), &message), PexNews::Ignored);
    }

    #[test]
    fn one_message_a_minute_is_believed_and_a_flood_is_refused() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1]);
        let message = PexMessage { added: vec![(at(7), PexFlags(0))], dropped: vec![] };
        let mut believed = |after: u64| {
            matches!(pex.on_message(now + seconds(after), PeerKey(1), &message), PexNews::Found { .. })
        };
        let times: Vec<u64> = (0..400).step_by(10).filter(|&after| believed(after)).collect();
        assert_eq!(times, [0, 60, 120, 180, 240, 300, 360]);
        let answers: Vec<_> =
            (0..100).map(|_| pex.on_message(now + seconds(1000), PeerKey(1), &message)).collect();
        assert_eq!(answers.iter().position(|answer| *answer == PexNews::Flood), Some(20));
        assert_eq!(answers.iter().filter(|answer| matches!(answer, PexNews::Found { .. })).count(), 1);
    }

    #[test]
    fn a_message_a_little_too_early_counts_but_not_more_of_them() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1]);
        let message = PexMessage::default();
        let believed = (0..20)
            .map(|number| now + Duration::from_secs(56) * number)
            .filter(|&when| matches!(pex.on_message(when, PeerKey(1), &message), PexNews::Found { .. }));
        assert!(believed.count() <= 1 + 19 * 56 / 60 + 1);
    }

    #[test]
    fn inner_addresses_are_believed_of_inner_peers_alone() {
        let taken = |source: &str, told: &str| {
            let (now, mut pex) = (Instant::now(), Pex::new());
            pex.connected(now, PeerKey(1), source.parse().unwrap(), None);
            let message = PexMessage { added: vec![(told.parse().unwrap(), PexFlags(0))], dropped: vec![] };
            pex.on_message(now, PeerKey(1), &message)
                != PexNews::Found { added: vec![], encrypting: vec![], dropped: 0 }
        };
        let (outside, inside, here) = ("203.0.113.5:1", "192.168.0.5:1", "127.0.0.1:1");
        assert!(taken(outside, "198.51.100.1:5") && taken(outside, "[2001:db8::1]:5"));
        for told in ["127.0.0.1:5", "10.0.0.1:5", "[::1]:5", "[fe80::1]:5", "192.168.0.1:80"] {
            assert!(!taken(outside, told), "{told}");
        }
        assert!(
            taken(inside, "192.168.0.9:5") && taken(here, "127.0.0.1:5") && taken("[::1]:1", "127.0.0.1:5")
        );
        assert!(!taken(inside, "127.0.0.1:5"));
        for told in
            ["224.0.0.1:5", "0.0.0.0:5", "255.255.255.255:5", "[ff02::1]:5", "198.51.100.1:0", "[::]:1"]
        {
            assert!(!taken(outside, told) && !taken(inside, told) && !taken(here, told), "{told}");
        }
    }

    #[test]
    fn one_address_of_a_machine_is_taken_from_a_message() {
        let now = Instant::now();
        let mut pex = with_peers(now, [1]);
        let ports = (1..40).map(|port| (SocketAddr::from(([198, 51, 100, 1], port)), PexFlags(0)));
        let message = PexMessage { added: ports.collect(), dropped: vec![] };
        let PexNews::Found { added, .. } = pex.on_message(now, PeerKey(1), &message) else {
            panic!("believed")
        };
        assert_eq!(added.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(u16),
        Gone(u16),
        Wants(u16, bool),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u16..90).prop_map(Step::Join),
            3 => (0u16..90).prop_map(Step::Gone),
            2 => (0u16..9, prop::bool::weighted(0.9)).prop_map(|(number, wants)| Step::Wants(number, wants)),
            2 => (0u64..100).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whoever wants messages knows in the end exactly who is connected, and each message keeps the rules of BEP 11.
        #[test]
        fn what_is_told_adds_up_to_who_is_connected(steps in prop::collection::vec(steps(), 0..300)) {
            let mut now = Instant::now();
            let mut pex = Pex::new();
            let mut connected: BTreeMap<u16, u64> = BTreeMap::new();
            let mut known: BTreeMap<PeerKey, (Option<Instant>, BTreeSet<SocketAddr>)> = BTreeMap::new();
            let mut wanting = BTreeSet::new();
            let mut next_key = 1000;
            // Long enough for all news to get out in the end.
            let all = steps.into_iter().chain((0..30).map(|_| Step::Wait(61)));
            for step in all {
                match step {
                    Step::Join(number) => if let std::collections::btree_map::Entry::Vacant(place) = connected.entry(number) {
                        next_key += 1;
                        pex.connected(now, PeerKey(next_key), at(number), Some(at(number)));
                        place.insert(next_key);
                    },
                    Step::Gone(number) => if let Some(key) = connected.remove(&number) {
                        pex.gone(now, PeerKey(key));
                        wanting.remove(&PeerKey(key));
                        known.remove(&PeerKey(key));
                    },
                    Step::Wants(number, wants) => if let Some(&key) = connected.get(&number) {
                        pex.wants(now, PeerKey(key), wants);
                        if wants { wanting.insert(PeerKey(key)); } else { wanting.remove(&PeerKey(key)); }
                    },
                    Step::Wait(seconds) => {
                        let until = now + Duration::from_secs(seconds);
                        while let Some(due) = pex.deadline().filter(|&due| due <= until) {
                            now = due.max(now);
                            let Some((key, message)) = pex.poll(now) else { continue };
                            prop_assert!(wanting.contains(&key));
                            let (last, told) = known.entry(key).or_default();
                            prop_assert!(last.is_none_or(|last| now >= last + INTERVAL));
                            *last = Some(now);
                            prop_assert!(message.added.len() <= 50 && message.dropped.len() <= 50);
                            for (address, _) in &message.added {
                                prop_assert!(told.insert(*address), "added twice");
                            }
                            for address in &message.dropped {
                                prop_assert!(told.remove(address), "dropped without having been added");
                                prop_assert!(!message.added.iter().any(|(added, _)| added == address));
                            }
                        }
                        now = until;
                    }
                }
            }
            for key in wanting {
                let (_, told) = known.remove(&key).unwrap_or_default();
                let others: BTreeSet<SocketAddr> =
                    connected.iter().filter(|(_, other)| PeerKey(**other) != key).map(|(number, _)| at(*number)).collect();
                prop_assert_eq!(told, others);
            }
        }
    }
}
