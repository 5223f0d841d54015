//! Whom to call, and when: finding peers for one torrent.
//!
//! Owns the addresses that are known and where they came from, the calls that are under way, the bans, and the trackers. It is the one
//! gate through which every address comes ([`Rules`]). Pure: no sockets, no clock, no randomness that is not seeded. It knows
//! nothing of pieces, so that it serves before anything is known of a torrent but its name.

pub mod announce;

mod candidates;
mod exchange;
mod holepunch;
mod lsd;
mod pex;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::event::{Kind, PeersFound, Severity, WantedEvents};
use crate::filter::IpFilter;
use crate::ids::PeerKey;
use crate::text::without_credentials;
use announce::{Announce, AnnounceFailure, AnnounceNeed, Announcer, Answer, Outcome, Token};
use candidates::Candidates;
use holepunch::Holepunch;
use rules::Admission;

pub use exchange::Exchange;
pub use holepunch::PUNCH_PATIENCE;
pub use lsd::LocalDiscovery;
pub use pex::{Pex, PexNews};
pub use rules::Rules;

/// Calls under way at the same time for one torrent; for the process there are as many as there may be connections. With
/// the patience of a first call, 193 addresses are tried within 5 s.
pub const MAX_HALF_OPEN: usize = 80;

/// Who told us of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// A tracker (BEP 3).
    Tracker,
    /// The peer itself: it called us, and its listening port came with its extension handshake (BEP 10).
    Incoming,
    /// The user.
    User,
    /// Another peer (BEP 11).
    PeerExchange,
    /// A peer on the local network (BEP 14).
    LocalDiscovery,
    /// The distributed hash table (BEP 5).
    Dht,
}

impl Origin {
    /// All of them, in the order of their declaration.
    pub const ALL: [Origin; 6] = [
        Origin::Tracker,
        Origin::Incoming,
        Origin::User,
        Origin::PeerExchange,
        Origin::LocalDiscovery,
        Origin::Dht,
    ];

    /// Whether peers may be known from it in a private torrent (BEP 27).
    fn counts_in_private(self) -> bool {
        match self {
            Origin::Tracker | Origin::Incoming | Origin::User => true,
            Origin::PeerExchange | Origin::LocalDiscovery | Origin::Dht => false,
        }
    }
}

/// How many peers would help.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Need {
    /// Connections for which there is room, calls under way included.
    pub connections: usize,
    /// Trackers should be asked for more addresses.
    pub addresses: bool,
    /// Without them the transfer stands or goes slowly: the trackers are asked as soon as nobody is left to call.
    pub urgent: bool,
    /// Everything wanted is there, and not everything is wanted (BEP 21).
    pub is_partial_seed: bool,
}

/// How a call of ours ended that did not become a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialEnd {
    /// Nobody answered at all.
    Unanswered,
    /// Who answered is not a peer of this torrent, or closed.
    Failed,
    /// We reached ourselves.
    Own,
}

/// How a connection ended, as far as it matters for calling again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// Data had come or gone.
    Useful,
    /// Both sides have everything: there is nothing to come back for.
    Useless,
    /// Nothing came of it: it may be one that hangs up on everybody, or on us.
    Fruitless,
    /// The peer broke the protocol.
    Unruly,
    /// Others needed the place more.
    Displaced,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum FinderOutput {
    /// Call this address.
    Dial(SocketAddr),
    /// Call this address by uTP and nothing else, from the port at which we listen: the peer there is calling us (BEP 55).
    Punch(SocketAddr),
    /// Ask a tracker.
    Announce(Announce),
    /// The user's filter refuses this address, for this reason.
    Filtered(SocketAddr, String),
    /// The peer at this address is said to prefer encrypted connections (BEP 11).
    PrefersEncryption(SocketAddr),
    /// Tell whoever wants to know.
    Event(Kind),
}

/// Finds peers for one torrent: see the module's head.
#[derive(Debug)]
pub struct Finder {
    rules: Rules,
    candidates: Candidates,
    /// Calls under way; at most [`MAX_HALF_OPEN`].
    half_open: BTreeSet<SocketAddr>,
    announcer: Announcer,
    pex: Pex,
    holepunch: Holepunch,
    outputs: VecDeque<FinderOutput>,
    wanted_events: WantedEvents,
    /// How many peers who has told us of first.
    found: PeersFound,
}

impl Finder {
    /// Without any address, and with these tiers of trackers (BEP 12); `seed` decides all random choices.
    pub fn new(trackers: Vec<Vec<String>>, rules: Rules, seed: u64) -> Finder {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pex = Pex::new();
        let is_silent = rules.private || rules.no_peer_exchange;
        if is_silent {
            pex.silence();
        }
        let holepunch = Holepunch::new(is_silent || rules.no_holepunch);
        Finder {
            rules,
            pex,
            holepunch,
            candidates: Candidates::new(rng.u64(..)),
            half_open: BTreeSet::new(),
            announcer: Announcer::new(trackers, rng.u64(..)),
            outputs: VecDeque::new(),
            wanted_events: WantedEvents::default(),
            found: PeersFound::default(),
        }
    }

    /// From now on, these events are told by [`FinderOutput::Event`].
    pub fn want_events(&mut self, wanted: WantedEvents) {
        self.wanted_events = wanted;
    }

    /// The trackers are told that we are here. Connections that have ended lately may have ended because we stopped.
    pub fn start(&mut self, now: Instant) {
        self.announcer.start(now);
        self.candidates.way_is_back(now);
    }

    /// The trackers are told that we are gone. Nobody is to be called any more: ask with no [`Need`].
    pub fn stop(&mut self, now: Instant) {
        self.announcer.stop(now);
    }

    /// The trackers are told that we have the whole torrent; see [`Announcer::complete`].
    pub fn complete(&mut self, now: Instant) {
        self.announcer.complete(now);
    }

    /// The trackers are told that we can be called elsewhere; see [`Announcer::announce_again`].
    pub fn announce_again(&mut self, now: Instant) {
        self.announcer.announce_again(now);
    }

    /// What everything leaves by works again, after it did not: see [`Announcer::way_is_back`], and the same holds for peers.
    pub fn way_is_back(&mut self, now: Instant) {
        self.announcer.way_is_back(now);
        self.candidates.way_is_back(now);
    }

    /// Somebody told us of addresses. Returns how many of them the filter lets through.
    pub fn found(
        &mut self,
        now: Instant,
        addresses: impl IntoIterator<Item = SocketAddr>,
        origin: Origin,
    ) -> usize {
        let mut unfiltered = 0;
        for address in addresses {
            match self.rules.admit(address, origin) {
                Admission::Admitted => {
                    unfiltered += 1;
                    if self.candidates.add(now, address, origin) {
                        self.count(origin);
                    }
                }
                Admission::Ignored => unfiltered += 1,
                Admission::Filtered(reason) => {
                    self.outputs.push_back(FinderOutput::Filtered(address, reason));
                }
            }
        }
        unfiltered
    }

    fn count(&mut self, origin: Origin) {
        let counter = match origin {
            Origin::Tracker => &mut self.found.tracker,
            // They are counted when they call, whether they tell their port or not.
            Origin::Incoming => return,
            Origin::User => &mut self.found.user,
            Origin::PeerExchange => &mut self.found.pex,
            Origin::LocalDiscovery => &mut self.found.lsd,
            Origin::Dht => &mut self.found.dht,
        };
        *counter += 1;
    }

    /// How many peers were found, by who told of them first.
    pub fn peers_found(&self) -> PeersFound {
        self.found
    }

    /// The user refuses other addresses than before: those that are refused now are not called any more.
    pub fn set_filter(&mut self, filter: Option<IpFilter>) {
        self.rules.filter = filter;
        let rules = &self.rules;
        self.candidates.retain(|address, origin| rules.admit(address, origin) == Admission::Admitted);
        self.holepunch.retain(|address| rules.admit(address, Origin::PeerExchange) == Admission::Admitted);
    }

    /// The torrent turns out to be private (BEP 27), and `trackers` to be its own: from now on they alone are asked, the others are told that
    /// we are gone, peers are not told of one another, and whatever we have been told by others than the own trackers, the peers themselves
    /// and the user is forgotten.
    pub fn become_private(&mut self, now: Instant, trackers: &[Vec<String>]) {
        self.rules.private = true;
        self.pex.silence();
        self.holepunch.silence();
        let others_named = self.announcer.keep_only(now, trackers);
        let rules = &self.rules;
        // Which of the trackers has named an address is not known.
        let is_kept = |address, origin| {
            !(others_named && origin == Origin::Tracker)
                && rules.admit(address, origin) == Admission::Admitted
        };
        self.candidates.retain(is_kept);
    }

    /// A tracker has named peers of one family of addresses, and is still asked for those of the other.
    pub fn found_early(&mut self, now: Instant, token: Token, peers: Vec<SocketAddr>) {
        if self.announcer.on_named_early(token) {
            self.found(now, peers, Origin::Tracker);
        }
    }

    /// The tracker of this URL has named peers of a hybrid's version 2, for which it is asked beside the other.
    pub fn found_beside(&mut self, now: Instant, url: &str, peers: Vec<SocketAddr>) {
        if self.announcer.on_named_beside(url, &peers) {
            self.found(now, peers, Origin::Tracker);
        }
    }

    /// Whether somebody who counts has told us of this address.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.candidates.knows(address)
    }

    /// A call came to nothing. `is_connected`: the peer there has called us meanwhile, so that our call has failed says nothing about it.
    pub fn dial_ended(&mut self, now: Instant, address: SocketAddr, how: DialEnd, is_connected: bool) {
        self.half_open.remove(&address);
        match how {
            DialEnd::Unanswered | DialEnd::Failed if is_connected => {}
            DialEnd::Unanswered => {
                self.candidates.on_failure(now, address);
                self.ask_for(now, address);
            }
            DialEnd::Failed => self.candidates.on_failure(now, address),
            DialEnd::Own => self.is_own(now, address),
        }
    }

    /// A call has become a connection, which may yet be refused.
    pub fn dial_answered(&mut self, address: SocketAddr) {
        self.half_open.remove(&address);
    }

    /// A connection was refused for the time being.
    pub fn refused(&mut self, now: Instant, address: SocketAddr) {
        self.candidates.postpone(now, address);
    }

    /// This address is our own.
    pub fn is_own(&mut self, now: Instant, address: SocketAddr) {
        self.candidates.is_own(address);
        self.pex.is_own(now, address);
    }

    /// A connection has ended, with a peer that can be called at this address, if that is known.
    pub fn parted(&mut self, now: Instant, peer: PeerKey, callable: Option<SocketAddr>, how: Parting) {
        let also_at = self.pex.gone(now, peer);
        self.holepunch.gone(peer);
        for address in callable.into_iter().chain(also_at) {
            match how {
                Parting::Useful => self.candidates.on_disconnect(now, address, false),
                Parting::Useless => self.candidates.on_disconnect(now, address, true),
                // Nor is it to take the place back before the others have had their turn.
                Parting::Fruitless | Parting::Displaced => self.candidates.on_failure(now, address),
                Parting::Unruly => self.candidates.on_breach(now, address),
            }
        }
    }

    /// The machine at this address is neither called nor let in any more, or for so long.
    pub fn ban(&mut self, now: Instant, address: SocketAddr, pause: Option<Duration>) {
        self.candidates.ban(now, address, pause);
    }

    /// Whether the machine at this address is banned.
    pub fn is_banned(&self, now: Instant, address: SocketAddr) -> bool {
        self.candidates.is_banned(now, address)
    }

    /// The answer to an announce, or why there is none.
    pub fn announced(&mut self, now: Instant, token: Token, result: Result<Answer, AnnounceFailure>) {
        match self.announcer.on_answer(now, token, result) {
            None => {}
            Some(Outcome::Success {
                url,
                tier,
                complete,
                incomplete,
                interval,
                min_interval,
                warning,
                peers,
                ..
            }) => {
                let peers = self.found(now, peers, Origin::Tracker);
                let url = without_credentials(&url).into_owned();
                // People count from 1.
                let tier = tier + 1;
                if let Some(reason) = warning {
                    let url = url.clone();
                    self.tell(Severity::Warning, || Kind::TrackerWarning { url, tier, reason });
                }
                self.tell(Severity::Info, || Kind::TrackerSuccess {
                    url,
                    tier,
                    complete,
                    incomplete,
                    peers,
                    interval: interval.as_secs(),
                    min_interval: Some(min_interval.as_secs()),
                });
            }
            Some(Outcome::Failure { url, tier, reason, status_code, times_in_row, .. }) => {
                self.tell(Severity::Warning, || Kind::TrackerFailure {
                    url: without_credentials(&url).into_owned(),
                    tier: tier + 1,
                    reason,
                    times_in_row,
                    status_code,
                });
            }
        }
    }

    /// The next thing to do; `None`: nothing before [`Finder::deadline`], the next call, or another need.
    pub fn poll(&mut self, now: Instant, need: Need) -> Option<FinderOutput> {
        self.outputs.pop_front().or_else(|| {
            // Nobody who has us call others keeps us from calling whom we want.
            let may_punch = self.has_room(need) && self.holepunch.calls() < need.connections.div_ceil(2);
            let punch = if may_punch { self.holepunch.take_call(now, &self.pex) } else { None };
            let dial = punch.map(FinderOutput::Punch);
            let dial = dial.or_else(|| self.next_dial(now, need).map(FinderOutput::Dial));
            dial.or_else(|| self.next_announce(now, need))
        })
    }

    /// How long a call of this address may take.
    pub fn patience(&self, address: SocketAddr) -> Duration {
        self.candidates.patience(address)
    }

    /// For how many connections there is room, calls under way included, where the torrent may call `room` more peers and nobody has so many
    /// places of the session.
    pub fn room_for_calls(&self, room: usize, free_places: usize) -> usize {
        room.min(free_places.saturating_add(self.calls()))
    }

    /// Calls under way.
    pub fn calls(&self) -> usize {
        self.half_open.len() + self.holepunch.calls()
    }

    /// The address that would be called now if there were a place for it.
    pub fn would_call(&self, now: Instant) -> Option<SocketAddr> {
        self.candidates.first_ready(now).filter(|_| self.calls() < MAX_HALF_OPEN)
    }

    fn has_room(&self, need: Need) -> bool {
        self.calls() < need.connections.min(MAX_HALF_OPEN)
    }

    fn next_dial(&mut self, now: Instant, need: Need) -> Option<SocketAddr> {
        let address = if self.has_room(need) { self.candidates.take(now) } else { None };
        self.half_open.extend(address);
        address
    }

    fn next_announce(&mut self, now: Instant, need: Need) -> Option<FinderOutput> {
        let nobody_left = self.half_open.is_empty() && self.candidates.next_ready().is_none_or(|at| at > now);
        let need = AnnounceNeed {
            peers: need.addresses,
            soon: need.urgent && nobody_left,
            is_partial_seed: need.is_partial_seed,
        };
        let announce = self.announcer.poll(now, need)?;
        let Announce { url, tier, event, .. } = &announce;
        let told = self.wanted_events.build(Severity::Info, || Kind::TrackerAnnounce {
            url: without_credentials(url).into_owned(),
            tier: *tier + 1,
            announce: event.map_or("", |event| event.as_str()),
        });
        match told {
            Some(kind) => {
                self.outputs.push_back(FinderOutput::Announce(announce));
                Some(FinderOutput::Event(kind))
            }
            None => Some(FinderOutput::Announce(announce)),
        }
    }

    /// When to call [`Finder::poll`] though nothing happens.
    pub fn deadline(&self, need: Need) -> Option<Instant> {
        let dial = if self.has_room(need) { self.candidates.next_ready() } else { None };
        [dial, self.announcer.deadline(), self.pex.deadline()].into_iter().flatten().min()
    }

    /// The trackers.
    pub fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    fn tell(&mut self, severity: Severity, kind: impl FnOnce() -> Kind) {
        let event = self.wanted_events.build(severity, kind);
        self.outputs.extend(event.map(FinderOutput::Event));
    }
}
