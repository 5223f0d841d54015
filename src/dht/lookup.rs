//! One look-up: the way to the nodes that are closest to a target (BEP 5).
//!
//! Owns who may be asked and what came of it; sends nothing. What answers name is believed little: see [`Lookup::add_named_nodes`] and
//! the constants.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use super::believable::is_believable;
use super::node_id::NodeId;
use crate::address::{Subnet, is_inner};
use crate::ids::WireHash;

/// A look-up in the life of this node; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct LookupId(pub(super) u64);

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LookupKind {
    /// The peers of a torrent, by `get_peers`.
    Peers(WireHash),
    /// The nodes around our own id, by `find_node`.
    Own,
    /// Nodes of a bucket, by `find_node`.
    Refresh,
}

/// Queries that a look-up sends, whatever the answers are.
pub(super) const MAX_QUERIES: usize = 200;

/// Nodes that are taken from an answer.
const MAX_NAMED_NODES: usize = 16;

/// Peers that are taken from an answer, and that are remembered of all answers.
const MAX_NAMED_PEERS: usize = 100;
const MAX_PEERS: usize = 1000;

/// Nodes that are remembered; the farthest are forgotten.
const MAX_CANDIDATES: usize = 128;

/// Nodes of one subnet; inner addresses have none.
const MAX_OF_SUBNET: usize = 3;

/// Nodes whose id does not fit their address (BEP 42) that are asked at all.
const MAX_UNFIT_ASKED: usize = 24;

/// A node is named in vain: when so many that the same node has named have failed, and none has answered, its others wait.
const MAX_NAMED_IN_VAIN: u8 = 3;

/// Nodes whose answers end the look-up, when none is left that is closer (`K` of BEP 5).
const WIDTH: usize = 8;

/// As long as nobody has named a peer and peers are needed.
const WIDTH_IN_NEED: usize = 16;

/// Queries under way at the same time, not counting slow ones: until somebody answers; then; and as long as one after the other
/// is slow.
const FIRST_PARALLEL: usize = 8;
const PARALLEL: usize = 4;
const MAX_PARALLEL: usize = 12;

/// As many answers show that a look-up can do without addresses whose id nobody has told.
const ENOUGH_ANSWERS: usize = 8;

/// Bytes by which a node knows us again (BEP 5).
pub(super) type Token = Box<[u8]>;

#[derive(Clone, Debug)]
enum Step {
    Fresh,
    Asked,
    /// Asked, but nothing came for long.
    Slow,
    Answered(Option<Token>),
    Failed,
}

#[derive(Clone, Debug)]
struct Candidate {
    distance: NodeId,
    id: NodeId,
    address: SocketAddr,
    step: Step,
    /// It has answered, and has been asked once more all the same.
    is_asked_again: bool,
    /// Its id may stand at its address (BEP 42).
    fits: bool,
    /// Who has named it: a place in `namers`. `None`: the routing table, or several.
    namer: Option<usize>,
}

impl Candidate {
    fn has_answered(&self) -> bool {
        matches!(self.step, Step::Answered(_))
    }
}

/// How a node fared that has named others.
#[derive(Clone, Copy, Default, Debug)]
struct Namer {
    failed: u8,
    answered: bool,
}

/// The course of a look-up.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) kind: LookupKind,
    pub(super) target: NodeId,
    pub(super) started_at: Instant,
    /// Queries sent.
    pub(super) asked: usize,
    /// Queries answered.
    pub(super) answers: usize,
    /// Something has happened since [`Lookup::next`] had nothing more to say.
    pub(super) is_stirred: bool,
    /// Those who have answered are asked once more, for too few have.
    is_repeating: bool,
    /// Peers are needed urgently.
    is_in_need: bool,
    /// Closest first; no address and no id twice; at most [`MAX_CANDIDATES`].
    candidates: Vec<Candidate>,
    /// Addresses that may be a node's, whose id is not known yet.
    unnamed: VecDeque<SocketAddr>,
    /// Those of them that have been asked.
    unnamed_asked: Vec<SocketAddr>,
    namers: Vec<Namer>,
    /// Queries under way, and how many of them are slow.
    in_flight: usize,
    slow: usize,
    /// Queries that have become slow since the last answer.
    slow_in_row: usize,
    unfit_asked: usize,
    /// At most [`MAX_PEERS`].
    peers: HashSet<SocketAddr>,
}

impl Lookup {
    pub(super) fn new(now: Instant, kind: LookupKind, target: NodeId, is_in_need: bool) -> Lookup {
        Lookup {
            kind,
            target,
            started_at: now,
            asked: 0,
            answers: 0,
            is_stirred: true,
            is_repeating: false,
            is_in_need,
            candidates: Vec::new(),
            unnamed: VecDeque::new(),
            unnamed_asked: Vec::new(),
            namers: Vec::new(),
            in_flight: 0,
            slow: 0,
            slow_in_row: 0,
            unfit_asked: 0,
            peers: HashSet::new(),
        }
    }

    /// Nodes of our own to begin with.
    pub(super) fn begin_with(&mut self, nodes: impl IntoIterator<Item = (NodeId, SocketAddr)>) {
        for (id, address) in nodes {
            self.add(id, address, None);
        }
    }

    /// Somebody may be at this address.
    pub(super) fn add_unnamed(&mut self, address: SocketAddr) {
        if !self.knows(address) {
            self.unnamed.push_back(address);
            self.is_stirred = true;
        }
    }

    /// Addresses that were not needed.
    pub(super) fn take_unnamed(&mut self) -> VecDeque<SocketAddr> {
        std::mem::take(&mut self.unnamed)
    }

    /// Whether more addresses would help.
    pub(super) fn is_hungry(&self) -> bool {
        self.answers < ENOUGH_ANSWERS
    }

    fn knows(&self, address: SocketAddr) -> bool {
        self.unnamed.contains(&address)
            || self.unnamed_asked.contains(&address)
            || self.candidates.iter().any(|candidate| candidate.address == address)
    }

    /// Remembers a node, unless its address or its id is known, or its subnet is there often enough. Who was named first counts, but where one
    /// name fits its address and the other does not (BEP 42).
    fn add(&mut self, id: NodeId, address: SocketAddr, namer: Option<usize>) {
        let same = |other: &Candidate| other.id == id && other.address == address;
        if let Some(known) = self.candidates.iter_mut().find(|other| same(other)) {
            if known.namer != namer {
                known.namer = None;
            }
            return;
        }
        let is_outer = !is_inner(address.ip());
        let clashes = |other: &Candidate| {
            other.id == id || other.address == address || is_outer && other.address.ip() == address.ip()
        };
        if self.unnamed_asked.contains(&address) {
            return;
        }
        let fits = id.fits(address.ip());
        // Whose id fits its address takes the place of false names for either, as long as they have not been asked.
        let is_false = |other: &Candidate| fits && !other.fits && matches!(other.step, Step::Fresh);
        if self.candidates.iter().any(|other| clashes(other) && !is_false(other)) {
            return;
        }
        self.candidates.retain(|other| !clashes(other));
        if let Some(subnet) = Subnet::at(address) {
            let of_subnet = |other: &&Candidate| Subnet::at(other.address) == Some(subnet);
            if self.candidates.iter().filter(of_subnet).count() >= MAX_OF_SUBNET {
                return;
            }
        }
        self.insert(Candidate {
            distance: id.distance(&self.target),
            id,
            address,
            step: Step::Fresh,
            is_asked_again: false,
            fits,
            namer,
        });
        // Somebody has told its id: it need not be asked under no name.
        self.unnamed.retain(|other| *other != address);
    }

    fn insert(&mut self, candidate: Candidate) {
        let at = self.candidates.partition_point(|other| other.distance < candidate.distance);
        if at >= MAX_CANDIDATES {
            return;
        }
        self.candidates.insert(at, candidate);
        if self.candidates.len() > MAX_CANDIDATES {
            let farthest = self.candidates.iter().rposition(|other| matches!(other.step, Step::Fresh));
            self.candidates.remove(farthest.unwrap_or(MAX_CANDIDATES));
        }
        self.is_stirred = true;
    }

    /// The next node to ask, if another query may go out now; it counts as asked.
    pub(super) fn next(&mut self) -> Option<(Option<NodeId>, SocketAddr)> {
        let asked = self.choose();
        match asked {
            Some((id, address)) => {
                self.asked += 1;
                self.in_flight += 1;
                match id {
                    None => {
                        self.unnamed.retain(|other| *other != address);
                        self.unnamed_asked.push(address);
                    }
                    Some(_) => {
                        let candidates = &mut self.candidates;
                        if let Some(candidate) = candidates.iter_mut().find(|other| other.address == address)
                        {
                            if let Step::Answered(_) = candidate.step {
                                candidate.is_asked_again = true;
                                self.is_repeating = true;
                            } else {
                                candidate.step = Step::Asked;
                                self.unfit_asked += usize::from(!candidate.fits);
                            }
                        }
                    }
                }
            }
            None => self.is_stirred = false,
        }
        asked
    }

    /// Queries under way that are not slow yet.
    fn on_time(&self) -> usize {
        self.in_flight.saturating_sub(self.slow)
    }

    fn parallel(&self) -> usize {
        let base = if self.answers == 0 { FIRST_PARALLEL } else { PARALLEL };
        (base + self.slow_in_row).min(MAX_PARALLEL)
    }

    fn choose(&self) -> Option<(Option<NodeId>, SocketAddr)> {
        if self.asked >= MAX_QUERIES || self.on_time() >= self.parallel() {
            return None;
        }
        let unnamed = self.unnamed.front().map(|&address| (None, address));
        // Whoever was named to us by a person is asked first: they may be the only ones who are there.
        if unnamed.is_some() && self.candidates.len() < WIDTH {
            return unnamed;
        }
        let named = self.closest_fresh(false);
        // Those that are named in vain have their turn if the others are not enough, and nothing else can be waited for.
        let is_short = || self.on_time() == 0 && self.num_answered() < WIDTH;
        let named = named.or_else(|| is_short().then(|| self.closest_fresh(true)).flatten());
        let named = named.map(|candidate| (Some(candidate.id), candidate.address));
        let first_time = named.or_else(|| unnamed.filter(|_| self.is_hungry()));
        first_time.or_else(|| (self.is_repeating || is_short()).then(|| self.closest_to_repeat()).flatten())
    }

    /// Where too few have answered, they are asked once more: whoever did not know us named few others at first, as we do.
    fn closest_to_repeat(&self) -> Option<(Option<NodeId>, SocketAddr)> {
        let is_new = |candidate: &&Candidate| candidate.has_answered() && !candidate.is_asked_again;
        let candidate = self.candidates.iter().filter(|_| self.num_answered() < WIDTH).find(is_new)?;
        Some((Some(candidate.id), candidate.address))
    }

    fn width(&self) -> usize {
        if self.is_in_need && self.peers.is_empty() { WIDTH_IN_NEED } else { WIDTH }
    }

    fn is_named_in_vain(&self, candidate: &Candidate) -> bool {
        let namer = candidate.namer.and_then(|at| self.namers.get(at));
        namer.is_some_and(|namer| !namer.answered && namer.failed >= MAX_NAMED_IN_VAIN)
    }

    /// The closest node that has not been asked, as long as not enough closer ones have answered or may answer at any moment.
    fn closest_fresh(&self, in_vain_too: bool) -> Option<&Candidate> {
        let mut closer = 0;
        for candidate in &self.candidates {
            match candidate.step {
                Step::Fresh => {
                    let is_eligible = candidate.fits || self.unfit_asked < MAX_UNFIT_ASKED;
                    if is_eligible && (in_vain_too || !self.is_named_in_vain(candidate)) {
                        return Some(candidate);
                    }
                }
                // Who has not the id of its address does not count (BEP 42).
                Step::Asked | Step::Answered(_) => closer += usize::from(candidate.fits),
                Step::Slow | Step::Failed => {}
            }
            if closer == self.width() {
                return None;
            }
        }
        None
    }

    /// Whether nothing more will come of it.
    pub(super) fn is_done(&self) -> bool {
        if self.on_time() > 0 || self.choose().is_some() {
            return false;
        }
        // Whoever is slow is waited for only if not enough others have answered.
        self.slow == 0 || self.num_answered() >= WIDTH
    }

    /// Nodes that have answered, and whose id may stand at their address.
    fn num_answered(&self) -> usize {
        let answered = |candidate: &&Candidate| candidate.fits && candidate.has_answered();
        self.candidates.iter().filter(answered).count()
    }

    fn candidate(&mut self, address: SocketAddr) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.address == address)
    }

    /// A query has been under way for long.
    pub(super) fn on_slow(&mut self, address: SocketAddr) {
        self.is_stirred = true;
        self.slow += 1;
        self.slow_in_row += 1;
        if let Some(candidate) = self.candidate(address).filter(|candidate| !candidate.has_answered()) {
            candidate.step = Step::Slow;
        }
        self.count_failure(address);
    }

    /// The namer of a node that does not answer is less believed.
    fn count_failure(&mut self, address: SocketAddr) {
        let namer = self.candidate(address).and_then(|candidate| candidate.namer);
        if let Some(namer) = namer.and_then(|at| self.namers.get_mut(at)) {
            namer.failed = namer.failed.saturating_add(1);
        }
    }

    fn ended(&mut self, was_slow: bool) {
        self.is_stirred = true;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.slow -= usize::from(was_slow && self.slow > 0);
    }

    /// A query has failed: there was no answer, or one that is of no use.
    pub(super) fn on_failed(&mut self, address: SocketAddr, was_slow: bool) {
        self.ended(was_slow);
        if !was_slow {
            self.count_failure(address);
        }
        if let Some(candidate) = self.candidate(address).filter(|candidate| !candidate.has_answered()) {
            candidate.step = Step::Failed;
        }
    }

    /// A node has answered, with its id; nodes that it names are given to [`Lookup::add_named_nodes`], with what this returns.
    pub(super) fn on_answered(
        &mut self,
        id: NodeId,
        address: SocketAddr,
        token: Option<&[u8]>,
        was_slow: bool,
    ) -> usize {
        self.ended(was_slow);
        self.answers += 1;
        self.slow_in_row = 0;
        let step = Step::Answered(token.map(Token::from));
        // Who goes by another name than it was given answers for itself; whoever gave it the name was wrong.
        if self.candidate(address).is_some_and(|candidate| candidate.id != id) {
            self.count_failure(address);
            self.candidates.retain(|other| other.address != address);
        }
        match self.candidate(address) {
            Some(candidate) => {
                candidate.step = step;
                let namer = candidate.namer;
                if let Some(namer) = namer.and_then(|at| self.namers.get_mut(at)) {
                    namer.answered = true;
                }
            }
            // It was asked under no name, or a false one. If somebody else has its id in the meantime, it has not.
            None => {
                if !self.candidates.iter().any(|other| other.id == id) {
                    let (distance, fits) = (id.distance(&self.target), id.fits(address.ip()));
                    let is_asked_again = false;
                    self.insert(Candidate { distance, id, address, step, is_asked_again, fits, namer: None });
                }
            }
        }
        self.namers.push(Namer::default());
        self.namers.len() - 1
    }

    /// Nodes that an answer names. Taken are at most [`MAX_NAMED_NODES`] that are not `own`, can be reached, and are no inner addresses of
    /// somebody outside.
    pub(super) fn add_named_nodes(
        &mut self,
        namer: usize,
        from: SocketAddr,
        own: NodeId,
        nodes: impl Iterator<Item = (NodeId, SocketAddr)>,
    ) {
        for (id, address) in nodes.take(MAX_NAMED_NODES) {
            if id != own && is_believable(address, from) {
                self.add(id, address, Some(namer));
            }
        }
    }

    /// Peers that an answer names: those that this look-up has not heard of yet.
    pub(super) fn add_peers(
        &mut self,
        from: SocketAddr,
        peers: impl Iterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        let believed = peers.take(MAX_NAMED_PEERS).filter(|&peer| is_believable(peer, from));
        let mut new = Vec::new();
        for peer in believed {
            if self.peers.len() < MAX_PEERS && self.peers.insert(peer) {
                new.push(peer);
            }
        }
        new
    }

    /// How many different peers have been named.
    pub(super) fn num_peers(&self) -> usize {
        self.peers.len()
    }

    /// The closest nodes that have answered, those whose id fits their address before others.
    fn answered(&self) -> impl Iterator<Item = (&Candidate, Option<&Token>)> {
        let of = |fits: bool| self.candidates.iter().filter(move |candidate| candidate.fits == fits);
        of(true).chain(of(false)).filter_map(|candidate| match &candidate.step {
            Step::Answered(token) => Some((candidate, token.as_ref())),
            Step::Fresh | Step::Asked | Step::Slow | Step::Failed => None,
        })
    }

    /// Where to announce: the eight closest nodes that have given a token (BEP 5, BEP 33).
    pub(super) fn announce_to(&self) -> Vec<(NodeId, SocketAddr, Token)> {
        let with_token = self
            .answered()
            .filter_map(|(candidate, token)| Some((candidate.id, candidate.address, token?.clone())));
        with_token.take(WIDTH).collect()
    }

    /// The eight closest nodes that have answered.
    pub(super) fn closest(&self) -> Vec<(NodeId, SocketAddr)> {
        self.answered().map(|(candidate, _)| (candidate.id, candidate.address)).take(WIDTH).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: NodeId = NodeId([0; 20]);

    fn id(bits: usize) -> NodeId {
        TARGET.near(bits, NodeId([0x55; 20]))
    }

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn lookup() -> Lookup {
        Lookup::new(Instant::now(), LookupKind::Own, TARGET, false)
    }

    #[test]
    fn it_ends_with_the_answers_of_the_eight_closest() {
        let mut lookup = lookup();
        lookup.begin_with((1..=40).map(|bits| (id(bits), local(bits as u16))));
        let mut asked = Vec::new();
        while let Some((Some(node), address)) = lookup.next() {
            asked.push(address.port());
            lookup.on_answered(node, address, Some(b"token"), false);
        }
        assert!(lookup.is_done());
        assert_eq!(asked, [40, 39, 38, 37, 36, 35, 34, 33]);
        assert_eq!(lookup.closest().len(), 8);
        assert_eq!(lookup.announce_to()[0], (id(40), local(40), Token::from(&b"token"[..])));
    }

    #[test]
    fn who_fails_is_replaced_by_the_next_and_who_is_slow_is_not_waited_for() {
        let mut lookup = lookup();
        lookup.begin_with((1..=20).map(|bits| (id(bits), local(bits as u16))));
        let first: Vec<_> = std::iter::from_fn(|| lookup.next()).collect();
        assert_eq!(first.len(), FIRST_PARALLEL);
        assert!(!lookup.is_done());
        lookup.on_failed(first[0].1, false);
        lookup.on_slow(first[1].1);
        assert_eq!(lookup.next().unwrap().1, local(12));
        assert_eq!(lookup.next().unwrap().1, local(11));
        for port in [18, 17, 16, 15, 14, 13, 12] {
            lookup.on_answered(id(usize::from(port)), local(port), None, false);
        }
        assert!(!lookup.is_done());
        lookup.on_answered(id(11), local(11), None, false);
        assert!(lookup.is_done());
        assert!(lookup.announce_to().is_empty(), "nobody has given a token");
    }

    #[test]
    fn nodes_that_name_thousands_cost_bounded_queries() {
        let mut lookup = lookup();
        lookup.begin_with([(id(0), local(1))]);
        let mut port = 1;
        while let Some((Some(node), address)) = lookup.next() {
            let namer = lookup.on_answered(node, address, None, false);
            // Each names thousands that are closer than all before.
            let nearer = (0..5000u16).map(|number| {
                let mut near = id((node.shared_bits(&TARGET) + 1).min(159));
                near.0[18] ^= (number >> 8) as u8;
                near.0[19] ^= number as u8;
                (near, local(2 + port * 16 + number % 16))
            });
            lookup.add_named_nodes(namer, address, NodeId([9; 20]), nearer);
            port += 1;
            assert!(lookup.candidates.len() <= MAX_CANDIDATES);
        }
        assert!(lookup.asked <= MAX_QUERIES && lookup.is_done(), "{}", lookup.asked);
    }

    #[test]
    fn who_names_only_dead_nodes_is_not_believed_for_long() {
        let mut lookup = lookup();
        lookup.begin_with((0..10).map(|bits| (id(bits), local(1 + bits as u16))));
        let (node, address) = lookup.next().unwrap();
        let namer = lookup.on_answered(node.unwrap(), address, None, false);
        lookup.add_named_nodes(
            namer,
            address,
            NodeId([9; 20]),
            (100..116).map(|bits| (id(bits), local(1000 + bits as u16))),
        );
        let mut dead = 0;
        while let Some((node, address)) = lookup.next() {
            if address.port() > 1000 {
                dead += 1;
                lookup.on_failed(address, false);
            } else {
                lookup.on_answered(node.unwrap(), address, None, false);
            }
        }
        assert_eq!(dead, 3, "the honest ones have answered first");
        assert!(lookup.is_done() && lookup.answers >= 8);
    }

    #[test]
    fn of_a_subnet_three_are_taken_and_of_an_address_one() {
        let mut lookup = lookup();
        let from = SocketAddr::from(([8, 8, 8, 8], 1));
        let namer = lookup.on_answered(id(1), from, None, false);
        let near = |bits: usize, ip: [u8; 4], port: u16| (id(bits), SocketAddr::from((ip, port)));
        let own = NodeId([9; 20]);
        lookup.add_named_nodes(namer, from, own, (2..12).map(|at| near(at, [9, 9, 9, at as u8], 1)));
        assert_eq!(lookup.candidates.len(), 1 + MAX_OF_SUBNET);
        lookup.add_named_nodes(namer, from, own, (20..30).map(|at| near(at, [7, 7, 7, 7], at as u16)));
        assert_eq!(lookup.candidates.len(), 1 + MAX_OF_SUBNET + 1);
        // A false name of an address gives way to one that fits it.
        let address = SocketAddr::from(([5, 5, 5, 5], 1));
        let right = id(3).bound_to(address.ip());
        lookup.add_named_nodes(
            namer,
            from,
            own,
            [(id(50), address), (right, address), (id(51), address)].into_iter(),
        );
        assert!(lookup.candidates.iter().any(|candidate| candidate.id == right));
        lookup.candidates.retain(|candidate| candidate.id != right);
        let useless = [
            near(40, [8, 8, 8, 8], 1),
            near(41, [127, 0, 0, 1], 1),
            near(42, [192, 168, 0, 1], 1),
            near(43, [5, 5, 5, 5], 0),
            near(44, [224, 0, 0, 1], 1),
            near(45, [0, 0, 0, 0], 1),
            near(20, [6, 6, 6, 6], 1),
            (own, SocketAddr::from(([6, 6, 6, 7], 1))),
        ];
        lookup.add_named_nodes(namer, from, own, useless.into_iter());
        assert_eq!(lookup.candidates.len(), 1 + MAX_OF_SUBNET + 1);
    }

    #[test]
    fn of_an_answer_sixteen_nodes_and_a_hundred_peers_are_taken() {
        let mut lookup = lookup();
        let namer = lookup.on_answered(id(1), local(1), None, false);
        lookup.add_named_nodes(
            namer,
            local(1),
            NodeId([9; 20]),
            (2..102).map(|at| (id(at), local(at as u16))),
        );
        assert_eq!(lookup.candidates.len(), 17);
        assert_eq!(lookup.add_peers(local(1), (0..5000).map(local)).len(), 99, "port 0 is none");
        assert!(lookup.add_peers(local(1), (0..90).map(local)).is_empty());
        for start in 1..50 {
            lookup.add_peers(local(1), (0..100).map(|port| local(start * 100 + port)));
        }
        assert_eq!(lookup.num_peers(), MAX_PEERS);
    }

    #[test]
    fn nodes_without_the_id_of_their_address_do_not_end_a_look_up_and_are_asked_a_few_times_only() {
        let mut lookup = lookup();
        let outer = |at: usize| SocketAddr::from(([9, at as u8, 9, 9], 1));
        // Ids that fit differ from the target in the first bits; those that do not fit are close to it.
        lookup.begin_with((0..30).map(|at| (id(at).bound_to(outer(at).ip()), outer(at))));
        lookup.begin_with((60..120).map(|at| (id(at), outer(at))));
        let mut unfit = 0;
        while let Some((Some(node), address)) = lookup.next() {
            unfit += usize::from(!node.fits(address.ip()));
            lookup.on_answered(node, address, Some(b"x"), false);
        }
        assert_eq!(unfit, MAX_UNFIT_ASKED);
        assert!(lookup.is_done());
        assert!(lookup.announce_to().iter().all(|(id, address, _)| id.fits(address.ip())));
        assert_eq!(lookup.announce_to().len(), 8);
    }

    #[test]
    fn where_few_have_answered_they_are_asked_once_more() {
        let mut lookup = lookup();
        lookup.begin_with([(id(1), local(1)), (id(2), local(2))]);
        let ask = |lookup: &mut Lookup| lookup.next().map(|(node, address)| (node.unwrap(), address));
        let (first, second) = (ask(&mut lookup).unwrap(), ask(&mut lookup).unwrap());
        assert_eq!(ask(&mut lookup), None);
        lookup.on_answered(first.0, first.1, Some(b"one"), false);
        assert_eq!(ask(&mut lookup), None, "the other may still answer");
        lookup.on_failed(second.1, false);
        assert!(!lookup.is_done());
        assert_eq!(ask(&mut lookup), Some(first));
        lookup.on_failed(first.1, false);
        assert!(lookup.is_done() && ask(&mut lookup).is_none());
        assert_eq!(lookup.announce_to().len(), 1, "it has answered once, after all");
    }
}
