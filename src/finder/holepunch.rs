//! Holepunching (BEP 55) of one torrent: two peers that nobody can call meet by calling one another at the same time, once a third one that is
//! connected to both has told them to.
//!
//! Owns whom we have asked for which peer, how often others have asked us or told us to call, and the calls that wait for that. Who is connected
//! stands in [`Pex`], and who has told of an address in `candidates`. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::pex::Pex;
use crate::address::is_callable;
use crate::ids::PeerKey;
use crate::wire::extended::{HolepunchError, HolepunchMessage};

/// How long a call may take to which a peer is told as well: two SYNs are sent.
pub const PUNCH_PATIENCE: Duration = Duration::from_secs(8);

/// What is taken of one peer, or asked of it, in a minute: of requests to introduce it, of calls that we are told to make, and of introductions.
const MAX_A_MINUTE: usize = 10;

const MINUTE: Duration = Duration::from_secs(60);

/// Before somebody is asked for the same address again.
const ASKED_AGAIN: Duration = Duration::from_secs(10 * 60);

/// The same where it is known to be in vain: the peer there does not speak `ut_holepunch`.
const REFUSED_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Before the same address is called again, whoever tells us to: nobody is to be flooded by us for others.
const CALLED_AGAIN: Duration = Duration::from_secs(60);

/// Calls that wait or are under way; we are told of more in vain.
const MAX_CALLS: usize = 16;

/// After so long, a call that has waited for a place is given up: the other side has stopped calling.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Addresses that are remembered as asked for, and as many as called; while there are as many, there is no further one.
const MAX_REMEMBERED: usize = 512;

/// What was done lately, at most [`MAX_A_MINUTE`] times.
#[derive(Debug, Default)]
struct Recent(VecDeque<Instant>);

impl Recent {
    /// Counts one more, if there is one more in this minute.
    fn take(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|&at| now.saturating_duration_since(at) >= MINUTE) {
            self.0.pop_front();
        }
        let is_free = self.0.len() < MAX_A_MINUTE;
        if is_free {
            self.0.push_back(now);
        }
        is_free
    }
}

/// What has come and gone between one peer and us.
#[derive(Debug, Default)]
struct Counts {
    /// It was asked by us.
    asked: Recent,
    /// It has asked us.
    asks: Recent,
    /// It has told us to call somebody.
    tells: Recent,
    /// It was told to call somebody who had asked us.
    told: Recent,
}

/// Somebody was asked for an address.
#[derive(Debug)]
struct Asked {
    /// Who; `None`: the answer is known.
    whom: Option<PeerKey>,
    /// Nobody is asked again before this.
    again: Instant,
}

/// Holepunching of one torrent: see the module's head.
#[derive(Debug, Default)]
pub(super) struct Holepunch {
    /// Nothing is asked, answered or believed.
    is_off: bool,
    /// By connection.
    counts: BTreeMap<PeerKey, Counts>,
    /// At most [`MAX_REMEMBERED`].
    asked: BTreeMap<SocketAddr, Asked>,
    /// When an address was called; at most [`MAX_REMEMBERED`].
    called: BTreeMap<SocketAddr, Instant>,
    /// Calls that wait for a place, and since when; at most [`MAX_CALLS`] with those under way.
    waiting: VecDeque<(Instant, SocketAddr)>,
    /// Calls under way.
    under_way: BTreeSet<SocketAddr>,
    /// Sent in the turn in which they were said.
    messages: VecDeque<(PeerKey, HolepunchMessage)>,
}

impl Holepunch {
    /// Nothing was asked yet. With `is_off`, nothing ever is.
    pub(super) fn new(is_off: bool) -> Holepunch {
        Holepunch { is_off, ..Holepunch::default() }
    }

    /// The torrent is private (BEP 27): nothing is asked, answered or believed any more. Calls under way come to their end.
    pub(super) fn silence(&mut self) {
        let under_way = std::mem::take(&mut self.under_way);
        *self = Holepunch { is_off: true, under_way, ..Holepunch::default() };
    }

    /// A connection has ended.
    pub(super) fn gone(&mut self, peer: PeerKey) {
        self.counts.remove(&peer);
    }

    /// An address could not be reached: one of those who told of it is asked to introduce us, if nobody was asked lately.
    pub(super) fn ask(&mut self, now: Instant, address: SocketAddr, introducers: &[PeerKey], pex: &Pex) {
        self.asked.retain(|_, asked| asked.again > now);
        let is_new = !self.asked.contains_key(&address) && self.asked.len() < MAX_REMEMBERED;
        if self.is_off || !is_new || pex.peer_at(address).is_some() {
            return;
        }
        // Who knows us by an address of the other family has none of ours that the peer could call.
        let knows = |peer: &PeerKey| {
            pex.address_of(*peer).is_some_and(|source| source.is_ipv4() == address.is_ipv4())
                && pex.punches(*peer)
        };
        let introducer = introducers
            .iter()
            .copied()
            .filter(knows)
            .find(|peer| self.counts.entry(*peer).or_default().asked.take(now));
        let Some(introducer) = introducer else { return };
        self.asked.insert(address, Asked { whom: Some(introducer), again: now + ASKED_AGAIN });
        self.messages.push_back((introducer, HolepunchMessage::Rendezvous(address)));
    }

    /// A peer says why it does not introduce us. True if another one may be asked for the address.
    pub(super) fn on_error(
        &mut self,
        now: Instant,
        peer: PeerKey,
        address: SocketAddr,
        error: HolepunchError,
    ) -> bool {
        let Some(asked) = self.asked.get_mut(&address).filter(|asked| asked.whom == Some(peer)) else {
            return false;
        };
        match error {
            HolepunchError::NoSupport => {
                *asked = Asked { whom: None, again: now + REFUSED_AGAIN };
                false
            }
            HolepunchError::NoSuchPeer
            | HolepunchError::NotConnected
            | HolepunchError::NoSelf
            | HolepunchError::Other(_) => {
                self.asked.remove(&address);
                true
            }
        }
    }

    /// A peer asks to be introduced to the one at `target`. Both are told of one another, or the peer why not; beyond [`MAX_A_MINUTE`] of either
    /// nobody is told anything.
    pub(super) fn introduce(&mut self, now: Instant, peer: PeerKey, target: SocketAddr, pex: &Pex) {
        // Who does not speak it cannot be answered (BEP 55).
        if self.is_off || !pex.punches(peer) || !self.counts.entry(peer).or_default().asks.take(now) {
            return;
        }
        let answer = match meeting(peer, target, pex) {
            Err(error) => HolepunchMessage::Error(target, error),
            Ok(Meeting { other, ours, theirs }) => {
                if !self.counts.entry(other).or_default().told.take(now) {
                    return;
                }
                self.messages.push_back((other, HolepunchMessage::Connect(ours)));
                HolepunchMessage::Connect(theirs)
            }
        };
        self.messages.push_back((peer, answer));
    }

    /// A peer tells us to call an address. True if that is to be looked at further: it does not do so too often, is in a position to, and nobody is
    /// connected or was called there lately.
    pub(super) fn is_told(&mut self, now: Instant, peer: PeerKey, address: SocketAddr, pex: &Pex) -> bool {
        if self.is_off || !pex.punches(peer) {
            return false;
        }
        // What we have asked for is counted there.
        let asked = self.asked.get_mut(&address).and_then(|asked| asked.whom.take_if(|whom| *whom == peer));
        if asked.is_none() && !self.counts.entry(peer).or_default().tells.take(now) {
            return false;
        }
        self.drop_old(now);
        pex.may_name(peer, address)
            && pex.peer_at(address).is_none()
            && !self.called.contains_key(&address)
            && !self.under_way.contains(&address)
            && self.waiting.iter().all(|&(_, other)| other != address)
            && self.waiting.len() + self.under_way.len() < MAX_CALLS
            && self.called.len() < MAX_REMEMBERED
    }

    /// This address is to be called as soon as there is a place.
    pub(super) fn call(&mut self, now: Instant, address: SocketAddr) {
        self.waiting.push_back((now, address));
    }

    fn drop_old(&mut self, now: Instant) {
        self.waiting.retain(|&(since, _)| now.saturating_duration_since(since) < MAX_WAIT);
        self.called.retain(|_, at| now.saturating_duration_since(*at) < CALLED_AGAIN);
    }

    /// The next address to call, which then counts as being called.
    pub(super) fn take_call(&mut self, now: Instant, pex: &Pex) -> Option<SocketAddr> {
        if self.waiting.is_empty() {
            return None;
        }
        self.drop_old(now);
        loop {
            let (_, address) = self.waiting.pop_front()?;
            // The peer there may have called us meanwhile.
            if pex.peer_at(address).is_none() {
                self.called.insert(address, now);
                self.under_way.insert(address);
                return Some(address);
            }
        }
    }

    /// Forgets the calls that wait of which this is not true.
    pub(super) fn retain(&mut self, is_kept: impl Fn(SocketAddr) -> bool) {
        self.waiting.retain(|&(_, address)| is_kept(address));
    }

    /// A call has come to its end.
    pub(super) fn call_ended(&mut self, address: SocketAddr) {
        self.under_way.remove(&address);
    }

    /// Calls under way.
    pub(super) fn calls(&self) -> usize {
        self.under_way.len()
    }

    /// What to say to whom.
    pub(super) fn poll(&mut self) -> Option<(PeerKey, HolepunchMessage)> {
        self.messages.pop_front()
    }
}

/// Two peers that are told of one another.
struct Meeting {
    /// The one that did not ask.
    other: PeerKey,
    /// Where the one that asked can be called.
    ours: SocketAddr,
    /// Where the other one can.
    theirs: SocketAddr,
}

/// Whom a peer meets that asks for the one at `target`.
fn meeting(peer: PeerKey, target: SocketAddr, pex: &Pex) -> Result<Meeting, HolepunchError> {
    if !is_callable(target) {
        return Err(HolepunchError::NoSuchPeer);
    }
    if pex.is_ours(target) {
        return Err(HolepunchError::NoSelf);
    }
    let other = pex.peer_at(target).ok_or(HolepunchError::NotConnected)?;
    if other == peer {
        return Err(HolepunchError::NoSuchPeer);
    }
    if !pex.punches(other) {
        return Err(HolepunchError::NoSupport);
    }
    let (ours, theirs) = pex.meeting(peer, other).ok_or(HolepunchError::NoSuchPeer)?;
    Ok(Meeting { other, ours, theirs })
}

#[cfg(test)]
mod tests {
    use super::super::{DialEnd, Exchange, Finder, FinderOutput, Need, Origin, Parting, Rules};
    use super::*;
    use crate::event::Direction;
    use crate::filter::IpFilter;
    use crate::wire::extended::{PexFlags, PexMessage};
    use std::net::IpAddr;

    /// The finders of clients that are connected to one another, in virtual time. Each knows the others by their numbers.
    struct World {
        finders: Vec<Finder>,
        now: Instant,
        /// Messages of `ut_holepunch` that were sent: from whom, to whom.
        said: Vec<(u64, u64, HolepunchMessage)>,
    }

    fn address(number: u64) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, number as u8], 6881))
    }

    /// The address from which a client's packets seem to come that is behind a translating router.
    fn translated(number: u64) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, number as u8], 40000))
    }

    const NEED: Need = Need { connections: 50, addresses: false, urgent: false, is_partial_seed: false };

    impl World {
        fn new(count: usize) -> World {
            let finders =
                (0..count).map(|seed| Finder::new(Vec::new(), Rules::default(), seed as u64)).collect();
            World { finders, now: Instant::now(), said: Vec::new() }
        }

        fn finder(&mut self, number: u64) -> &mut Finder {
            &mut self.finders[number as usize]
        }

        /// The first has called the second, whom it knows by `to`, and is seen at `from`; both speak all extensions.
        fn connect(&mut self, (one, from): (u64, SocketAddr), (other, to): (u64, SocketAddr), by_utp: bool) {
            let now = self.now;
            self.finder(one).connected(now, PeerKey(other), to, Direction::Out);
            self.finder(other).connected(now, PeerKey(one), from, Direction::In);
            self.finder(other).listens(now, PeerKey(one), SocketAddr::new(from.ip(), address(one).port()));
            for (ours, theirs) in [(one, other), (other, one)] {
                let finder = self.finder(ours);
                if by_utp {
                    finder.speaks_utp(PeerKey(theirs));
                }
                finder.wants_exchange(now, PeerKey(theirs), true);
                finder.set_punches(PeerKey(theirs), true);
            }
        }

        /// All have called client 0.
        fn star(count: u64) -> World {
            let mut world = World::new(count as usize);
            (1..count).for_each(|one| world.connect((one, address(one)), (0, address(0)), true));
            world
        }

        /// Delivers what all have to say, until nobody has anything more.
        fn deliver(&mut self) {
            let mut is_quiet = false;
            while !std::mem::replace(&mut is_quiet, true) {
                for from in 0..self.finders.len() as u64 {
                    while let Some((PeerKey(to), message)) =
                        self.finders[from as usize].poll_exchange(self.now)
                    {
                        is_quiet = false;
                        if let Exchange::Holepunch(message) = message {
                            self.said.push((from, to, message));
                        }
                        self.give(from, to, &message);
                    }
                }
            }
        }

        fn give(&mut self, from: u64, to: u64, message: &Exchange) {
            // The test plays a part itself.
            if to as usize >= self.finders.len() {
                return;
            }
            let (now, peer) = (self.now, PeerKey(from));
            let finder = self.finder(to);
            match message {
                Exchange::Peers(message) => drop(finder.exchanged(now, peer, address(from), message)),
                Exchange::Holepunch(message) => finder.on_holepunch(now, peer, *message),
            }
        }

        /// What is called: ordinary calls, and those with a hole.
        fn calls(&mut self, number: u64) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
            let (mut dials, mut punches) = (Vec::new(), Vec::new());
            let now = self.now;
            while let Some(output) = self.finder(number).poll(now, NEED) {
                match output {
                    FinderOutput::Dial(address) => dials.push(address),
                    FinderOutput::Punch(address) => punches.push(address),
                    FinderOutput::Announce(_)
                    | FinderOutput::Filtered(..)
                    | FinderOutput::PrefersEncryption(_)
                    | FinderOutput::Event(_) => {}
                }
            }
            (dials, punches)
        }

        /// Time passes; calls that nobody answers end.
        fn wait(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            self.deliver();
        }

        /// All are told of one another, and nobody reaches anybody by calling.
        fn meet_in_vain(&mut self) {
            self.wait(3);
            for number in 0..self.finders.len() as u64 {
                let (dials, _) = self.calls(number);
                let now = self.now;
                dials.into_iter().for_each(|at| {
                    self.finder(number).dial_ended(now, at, DialEnd::Unanswered, false);
                });
            }
        }

        /// What `from`, a peer of client 0, says to it.
        fn say(&mut self, from: u64, message: HolepunchMessage) {
            let now = self.now;
            self.finder(0).on_holepunch(now, PeerKey(from), message);
            self.deliver();
        }
    }

    #[test]
    fn who_cannot_be_called_is_met_by_way_of_one_who_knows_both() {
        let mut world = World::star(3);
        world.meet_in_vain();
        world.deliver();
        use HolepunchMessage::{Connect, Rendezvous};
        let said: Vec<_> = world.said.iter().take(3).copied().collect();
        assert_eq!(said[0], (1, 0, Rendezvous(address(2))));
        assert_eq!(said[1], (2, 0, Rendezvous(address(1))));
        assert!(world.said.contains(&(0, 1, Connect(address(2)))), "{:?}", world.said);
        assert!(world.said.contains(&(0, 2, Connect(address(1)))), "{:?}", world.said);
        // Both have asked, and each calls once.
        assert_eq!(world.calls(1), (vec![], vec![address(2)]));
        assert_eq!(world.calls(2), (vec![], vec![address(1)]));
        assert_eq!(world.calls(0), (vec![], vec![]));
        assert_eq!(world.finder(1).calls(), 1);
        world.finder(1).punch_ended(address(2));
        assert_eq!(world.finder(1).calls(), 0);
    }

    #[test]
    fn behind_translation_a_peer_is_called_where_its_packets_come_from() {
        for (by_utp, expected) in [(true, translated as fn(u64) -> SocketAddr), (false, address)] {
            let mut world = World::new(3);
            (1..3).for_each(|one| world.connect((one, translated(one)), (0, address(0)), by_utp));
            world.meet_in_vain();
            world.deliver();
            assert_eq!(world.calls(1).1, [expected(2)]);
            assert_eq!(world.calls(2).1, [expected(1)]);
        }
    }

    #[test]
    fn nobody_is_asked_about_a_peer_that_has_answered_or_of_which_nobody_has_told() {
        let mut world = World::star(3);
        world.wait(3);
        let now = world.now;
        assert_eq!(world.calls(1).0, [address(2)]);
        world.finder(1).dial_ended(now, address(2), DialEnd::Failed, false);
        world.finder(2).found(now, [address(99)], Origin::Tracker);
        world.finder(2).dial_ended(now, address(99), DialEnd::Unanswered, false);
        world.finder(2).dial_ended(now, address(1), DialEnd::Unanswered, true);
        world.deliver();
        assert_eq!(world.said, []);
    }

    #[test]
    fn an_address_is_asked_for_once_in_ten_minutes_and_a_peer_ten_times_in_one() {
        let mut world = World::new(1);
        world.connect_by_hand(1);
        let added = (10..40).map(|number| (address(number), PexFlags::HOLEPUNCH)).collect();
        let message = PexMessage { added, dropped: Vec::new() };
        world.give(1, 0, &Exchange::Peers(message));
        let mut asked = Vec::new();
        for _ in 0..9 * 6 {
            for at in world.calls(0).0 {
                let now = world.now;
                world.finder(0).dial_ended(now, at, DialEnd::Unanswered, false);
            }
            let before = world.said.len();
            world.wait(10);
            asked.push(world.said.len() - before);
        }
        assert!(asked.windows(6).all(|minute| minute.iter().sum::<usize>() <= MAX_A_MINUTE), "{asked:?}");
        let mut addresses: Vec<_> = world.said.iter().map(|(_, _, message)| format!("{message:?}")).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!((addresses.len(), world.said.len()), (30, 30));
        world.wait(60 * 60);
        assert_eq!(world.calls(0).0.len(), 30);
        let now = world.now;
        world.finder(0).dial_ended(now, address(10), DialEnd::Unanswered, false);
        world.deliver();
        assert_eq!(world.said.len(), 31);
    }

    impl World {
        /// Client 0 has called a peer that the test plays.
        fn connect_by_hand(&mut self, peer: u64) {
            let now = self.now;
            let finder = self.finder(0);
            finder.connected(now, PeerKey(peer), address(peer), Direction::Out);
            finder.wants_exchange(now, PeerKey(peer), true);
            finder.set_punches(PeerKey(peer), true);
        }

        /// What client 0 has said to a peer that the test plays.
        fn heard(&mut self, peer: u64) -> Vec<HolepunchMessage> {
            self.deliver();
            let said = std::mem::take(&mut self.said);
            let (heard, said) = said.into_iter().partition(|&(_, to, _)| to == peer);
            self.said = said;
            let heard: Vec<(u64, u64, HolepunchMessage)> = heard;
            heard.into_iter().map(|(_, _, message)| message).collect()
        }
    }

    #[test]
    fn who_cannot_be_introduced_hears_why() {
        let mut world = World::new(1);
        (1..5).for_each(|peer| world.connect_by_hand(peer));
        let now = world.now;
        world.finder(0).set_punches(PeerKey(3), false);
        world.finder(0).wants_exchange(now, PeerKey(4), false);
        world.finder(0).is_own(now, address(50));
        // Its call has come from a port at which nobody listens.
        world.finder(0).connected(now, PeerKey(5), translated(5), Direction::In);
        world.finder(0).wants_exchange(now, PeerKey(5), true);
        world.finder(0).set_punches(PeerKey(5), true);
        use HolepunchError::{NoSelf, NoSuchPeer, NoSupport, NotConnected};
        for (target, expected) in [
            (address(3), NoSupport),
            (address(4), NoSupport),
            (address(9), NotConnected),
            (address(50), NoSelf),
            (address(1), NoSuchPeer),
            (translated(5), NoSuchPeer),
            ("0.0.0.0:7".parse().unwrap(), NoSuchPeer),
            ("224.0.0.1:7".parse().unwrap(), NoSuchPeer),
            (SocketAddr::new(address(2).ip(), 0), NoSuchPeer),
        ] {
            world.say(1, HolepunchMessage::Rendezvous(target));
            assert_eq!(world.heard(1), [HolepunchMessage::Error(target, expected)], "{target}");
            world.wait(61);
        }
        // In whatever clothes; and the answer has the address in the same ones.
        let clothed: SocketAddr = "[::ffff:203.0.113.2]:6881".parse().unwrap();
        world.say(1, HolepunchMessage::Rendezvous(clothed));
        assert_eq!(world.heard(1), [HolepunchMessage::Connect(address(2))]);
        let clothed: SocketAddr = "[::ffff:203.0.113.3]:6881".parse().unwrap();
        world.say(1, HolepunchMessage::Rendezvous(clothed));
        assert_eq!(world.heard(1), [HolepunchMessage::Error(clothed, NoSupport)]);
        // Who does not speak it is not answered.
        world.say(3, HolepunchMessage::Rendezvous(address(1)));
        world.say(4, HolepunchMessage::Rendezvous(address(1)));
        assert_eq!((world.heard(3), world.heard(4)), (vec![], vec![]));
    }

    #[test]
    fn inner_addresses_are_told_to_inner_peers_alone_and_none_of_the_other_family() {
        let (outside, inside, six): (SocketAddr, SocketAddr, SocketAddr) =
            (address(1), "192.168.0.9:6881".parse().unwrap(), "[2001:db8::9]:6881".parse().unwrap());
        for (target, second_family, is_told) in
            [(inside, None, false), (six, None, false), (six, Some(address(7).ip()), true)]
        {
            let mut world = World::new(1);
            let now = world.now;
            world.connect_by_hand(1);
            world.finder(0).connected(now, PeerKey(2), target, Direction::Out);
            world.finder(0).wants_exchange(now, PeerKey(2), true);
            world.finder(0).set_punches(PeerKey(2), true);
            if let Some(ip) = second_family {
                world.finder(0).also_at(now, PeerKey(2), ip);
            }
            world.say(1, HolepunchMessage::Rendezvous(target));
            match is_told {
                true => {
                    assert_eq!(world.heard(1), [HolepunchMessage::Connect(address(7))]);
                    assert_eq!(world.heard(2), [HolepunchMessage::Connect(outside)]);
                }
                false => {
                    let error = HolepunchMessage::Error(target, HolepunchError::NoSuchPeer);
                    assert_eq!((world.heard(1), world.heard(2)), (vec![error], vec![]));
                }
            }
        }
    }

    #[test]
    fn ten_a_minute_are_introduced_of_one_peer_or_to_it_and_the_others_hear_nothing() {
        let mut world = World::new(1);
        (1..40).for_each(|peer| world.connect_by_hand(peer));
        for _ in 0..3 {
            for target in 2..40 {
                world.say(1, HolepunchMessage::Rendezvous(address(target)));
            }
            assert_eq!(world.heard(1).len(), MAX_A_MINUTE);
            for asker in 2..40 {
                world.say(asker, HolepunchMessage::Rendezvous(address(1)));
            }
            // Those that it has met and those that have met it are bounded apart.
            assert_eq!(world.heard(1).len(), MAX_A_MINUTE);
            world.said.clear();
            world.wait(61);
        }
    }

    #[test]
    fn we_are_told_to_call_ordinary_addresses_alone_and_not_too_many() {
        let mut world = World::new(1);
        (1..4).for_each(|peer| world.connect_by_hand(peer));
        let now = world.now;
        let first: IpAddr = [198, 51, 100, 0].into();
        let filter = IpFilter::ranges([first..=[198, 51, 100, 255].into()]);
        world.finder(0).set_filter(Some(filter));
        world.finder(0).ban(now, address(60), None);
        world.finder(0).is_own(now, address(61));
        let mut sent = 0;
        for bad in [
            "198.51.100.7:1",
            "203.0.113.60:9",
            "203.0.113.61:6881",
            "203.0.113.2:6881",
            "[::ffff:203.0.113.2]:6881",
            "10.0.0.1:6881",
            "127.0.0.1:6881",
            "[::1]:6881",
            "[fe80::1]:6881",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "203.0.113.9:0",
            "0.0.0.0:5",
        ] {
            sent += 1;
            if sent % MAX_A_MINUTE == 0 {
                world.wait(61);
            }
            world.say(1, HolepunchMessage::Connect(bad.parse().unwrap()));
            assert_eq!(world.calls(0).1, [], "{bad}");
        }
        world.wait(61);
        // Ten of one peer; an address once in a minute, whoever tells; and sixteen at a time.
        for number in 100..130 {
            world.say(1, HolepunchMessage::Connect(address(number)));
        }
        assert_eq!(world.calls(0).1, (100..110).map(address).collect::<Vec<_>>());
        (100..110).for_each(|number| world.finder(0).punch_ended(address(number)));
        for number in 106..115 {
            world.say(2, HolepunchMessage::Connect(address(number)));
        }
        assert_eq!(world.calls(0).1, (110..115).map(address).collect::<Vec<_>>());
        for number in 120..130 {
            world.say(3, HolepunchMessage::Connect(address(number)));
        }
        assert_eq!(world.calls(0).1.len(), 10);
        for number in 140..150 {
            world.wait(61);
            world.say(3, HolepunchMessage::Connect(address(number)));
        }
        assert_eq!((world.calls(0).1.len(), world.finder(0).calls()), (1, MAX_CALLS));
    }

    #[test]
    fn a_call_that_found_no_place_in_time_is_not_made_nor_one_to_a_peer_that_has_come_itself() {
        let mut world = World::new(1);
        (1..3).for_each(|peer| world.connect_by_hand(peer));
        for number in 100..103 {
            world.say(1, HolepunchMessage::Connect(address(number)));
        }
        let now = world.now;
        let full = Need { connections: 0, ..NEED };
        assert!(world.finder(0).poll(now, full).is_none());
        world.finder(0).connected(now, PeerKey(5), address(101), Direction::In);
        assert_eq!(world.calls(0).1, [address(100), address(102)]);
        world.say(2, HolepunchMessage::Connect(address(104)));
        world.now += MAX_WAIT;
        assert_eq!(world.calls(0).1, []);
    }

    #[test]
    fn an_error_is_remembered_and_another_peer_asked_where_that_may_help() {
        use HolepunchError::{NoSelf, NoSuchPeer, NoSupport, NotConnected, Other};
        for (error, asks_another) in
            [(NoSupport, false), (NotConnected, true), (NoSuchPeer, true), (NoSelf, true), (Other(77), true)]
        {
            let mut world = World::new(1);
            (1..4).for_each(|peer| world.connect_by_hand(peer));
            for peer in 1..3 {
                let added = vec![(address(9), PexFlags::default().with(PexFlags::HOLEPUNCH, peer == 2))];
                world.give(peer, 0, &Exchange::Peers(PexMessage { added, dropped: Vec::new() }));
            }
            assert_eq!(world.calls(0).0, [address(9)]);
            let now = world.now;
            world.finder(0).dial_ended(now, address(9), DialEnd::Unanswered, false);
            let asked = HolepunchMessage::Rendezvous(address(9));
            let error = HolepunchMessage::Error(address(9), error);
            // The one that says that it can be met is asked first.
            assert_eq!((world.heard(2), world.heard(1)), (vec![asked], vec![]));
            // What others say of it does not count.
            world.say(1, error);
            world.say(3, error);
            assert_eq!((world.heard(1), world.heard(3)), (vec![], vec![]));
            world.say(2, error);
            assert_eq!(world.heard(1), if asks_another { vec![asked] } else { vec![] });
            // And then nobody is left, however often they say so.
            (0..50).for_each(|_| (1..3).for_each(|peer| world.say(peer, error)));
            world.wait(601);
            assert_eq!(world.calls(0).0, [address(9)]);
            let now = world.now;
            world.finder(0).dial_ended(now, address(9), DialEnd::Unanswered, false);
            world.deliver();
            assert_eq!(world.said, [], "{error:?}");
        }
    }

    #[test]
    fn who_has_gone_or_dropped_the_peer_is_not_asked() {
        let mut world = World::new(1);
        (1..3).for_each(|peer| world.connect_by_hand(peer));
        let added = vec![(address(9), PexFlags::HOLEPUNCH)];
        for peer in 1..3 {
            world.give(peer, 0, &Exchange::Peers(PexMessage { added: added.clone(), dropped: Vec::new() }));
        }
        let now = world.now;
        world.finder(0).parted(now, PeerKey(2), Some(address(2)), Parting::Useful);
        world.wait(61);
        world.give(1, 0, &Exchange::Peers(PexMessage { added: Vec::new(), dropped: vec![address(9)] }));
        let now = world.now;
        world.finder(0).dial_ended(now, address(9), DialEnd::Unanswered, false);
        world.deliver();
        assert_eq!(world.said, []);
    }

    #[test]
    fn where_it_is_off_and_once_the_torrent_is_private_nothing_is_asked_answered_or_believed() {
        let off = [
            Rules { no_holepunch: true, ..Rules::default() },
            Rules { no_peer_exchange: true, ..Rules::default() },
            Rules { private: true, ..Rules::default() },
            Rules::default(),
        ];
        for rules in off {
            let becomes_private = !(rules.no_holepunch || rules.no_peer_exchange || rules.private);
            let mut world = World::new(1);
            world.finders[0] = Finder::new(Vec::new(), rules, 1);
            (1..4).for_each(|peer| world.connect_by_hand(peer));
            if becomes_private {
                world.say(3, HolepunchMessage::Connect(address(8)));
                let now = world.now;
                world.finder(0).become_private(now, &[]);
            }
            let added = vec![(address(9), PexFlags::HOLEPUNCH)];
            world.give(1, 0, &Exchange::Peers(PexMessage { added, dropped: Vec::new() }));
            let now = world.now;
            world.finder(0).found(now, [address(9)], Origin::User);
            world.finder(0).dial_ended(now, address(9), DialEnd::Unanswered, false);
            world.say(1, HolepunchMessage::Rendezvous(address(2)));
            world.say(1, HolepunchMessage::Connect(address(7)));
            assert_eq!((world.calls(0).1, world.said), (vec![], vec![]));
        }
    }
}
