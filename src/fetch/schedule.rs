//! Which candidates are collected, and what is asked of whom.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::assembly::Assembly;
use super::{CandidateId, Fetch, FetchOutput, LARGE, MAX_CANDIDATES, MAX_LARGE, MAX_LARGE_BYTES};
use crate::ids::PeerKey;

/// Pieces in flight from one peer.
const MAX_IN_FLIGHT: usize = 8;

/// Peers asked at the same time for one candidate, and of those that have told no size.
const MAX_ASKED_PEERS: usize = 20;

/// A candidate of which nothing has come for so long gives its place to one that waits: a little more than a peer may
/// be silent.
const MAX_IDLE: Duration = Duration::from_secs(6);

/// How long a candidate may take while others wait for its place; twice as long each time that it was in vain. So those
/// who give a piece now and then, only to hold the place, do not keep it, and a slow honest peer has all the time that it
/// needs in the end.
const FIRST_TURN: Duration = Duration::from_secs(30);

/// What there is to ask for a candidate.
struct Askable {
    size: u32,
    /// When the first of its peers was there.
    since: Instant,
    /// Those that may be asked, best first once sorted: by failures, then by age.
    peers: Vec<(u32, PeerKey)>,
    members: usize,
    turns: u32,
}

impl Fetch {
    /// Gives up on the silent, gives places to candidates, and asks for what is missing.
    pub(super) fn schedule(&mut self, now: Instant) {
        self.scheduled_at = Some(now);
        let silent = |peer: &super::Peer| peer.patience_ends().is_some_and(|at| at <= now);
        let silent: Vec<PeerKey> =
            self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(&key, _)| key).collect();
        for key in silent {
            self.release(key);
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.pause(now);
            }
        }
        let candidates = self.candidates(now);
        self.give_places(now, &candidates);
        for (id, candidate) in candidates {
            if self.assemblies.contains_key(&id) {
                self.ask(now, id, candidate.peers);
            }
        }
        self.probe(now);
    }

    /// All candidates for which somebody can be asked now, those under way or not.
    fn candidates(&self, now: Instant) -> BTreeMap<CandidateId, Askable> {
        let mut candidates: BTreeMap<CandidateId, Askable> = BTreeMap::new();
        for (&key, peer) in self.peers.iter().filter(|(_, peer)| peer.is_askable(now)) {
            let (Some(id), Some(size)) = (self.candidate_of(key), peer.size) else { continue };
            let Some(group) = self.groups.get(&size) else { continue };
            if self.verifying.values().any(|verifying| verifying.id == id) {
                continue;
            }
            let (members, turns) = match id {
                CandidateId::Shared(_) => (group.members.len(), group.turns),
                CandidateId::Single(_) => (1, peer.turns),
            };
            let none = Askable { size, since: group.since, peers: Vec::new(), members, turns };
            candidates.entry(id).or_insert(none).peers.push((peer.failures, key));
        }
        candidates.values_mut().for_each(|candidate| candidate.peers.sort_unstable());
        candidates
    }

    /// Those that had the fewest turns get the places, of them those that most peers vouch for, and then those that were there first.
    fn give_places(&mut self, now: Instant, candidates: &BTreeMap<CandidateId, Askable>) {
        let mut waiting: Vec<(&CandidateId, &Askable)> =
            candidates.iter().filter(|(id, _)| !self.assemblies.contains_key(id)).collect();
        waiting.sort_by_key(|(id, candidate)| {
            (candidate.turns, std::cmp::Reverse(candidate.members), candidate.since, **id)
        });
        self.crowded = false;
        let mut large_wait = false;
        for (&id, candidate) in waiting {
            let is_large = candidate.size > LARGE;
            // One that needs much room gets it only if those that come after it do not take what becomes free.
            let has_to_wait = is_large && large_wait;
            let mut under_way = !has_to_wait && self.activate(now, id, candidate.size);
            while !under_way && !has_to_wait && self.end_a_turn(now, is_large) {
                under_way = self.activate(now, id, candidate.size);
            }
            self.crowded |= !under_way;
            large_wait |= is_large && !under_way;
        }
    }

    /// The sizes of those that are collected or verified.
    fn sizes(&self) -> impl Iterator<Item = u32> {
        let collected = self.assemblies.values().map(|assembly| assembly.size);
        collected.chain(self.verifying.values().map(|verifying| verifying.bytes.len() as u32))
    }

    fn has_room(&self, size: u32) -> bool {
        let (mut large, mut bytes) = (0, u64::from(size));
        for other in self.sizes().filter(|&other| other > LARGE) {
            (large, bytes) = (large + 1, bytes + u64::from(other));
        }
        let fits = size <= LARGE || large == 0 || (large < MAX_LARGE && bytes <= MAX_LARGE_BYTES);
        fits && self.sizes().count() < MAX_CANDIDATES
    }

    /// Begins a candidate, if there is room; whether it is under way.
    pub(super) fn activate(&mut self, now: Instant, id: CandidateId, size: u32) -> bool {
        if self.assemblies.contains_key(&id) {
            return true;
        }
        if self.verifying.values().any(|verifying| verifying.id == id) {
            return false;
        }
        let has_room = self.has_room(size);
        if has_room {
            self.assemblies.insert(id, Assembly::new(now, size));
        }
        has_room
    }

    /// When the candidate has to make room for others.
    fn turn_ends(&self, id: CandidateId, assembly: &Assembly) -> Instant {
        let turns = match id {
            CandidateId::Shared(size) => self.groups.get(&size).map(|group| group.turns),
            CandidateId::Single(key) => self.peers.get(&key).map(|peer| peer.turns),
        };
        let turn = FIRST_TURN * (1 << turns.unwrap_or_default().min(12));
        (assembly.since + turn).min(assembly.last_piece + MAX_IDLE)
    }

    /// Takes the place of a candidate that has had its time; returns whether there was one. If it is for a large one, that of a large one,
    /// unless there is none.
    fn end_a_turn(&mut self, now: Instant, for_large: bool) -> bool {
        let only_large = for_large && self.sizes().any(|size| size > LARGE);
        let may_go = self.assemblies.iter().filter(|(_, assembly)| !only_large || assembly.size > LARGE);
        let ends = may_go.map(|(&id, assembly)| (self.turn_ends(id, assembly), id));
        let Some((_, id)) = ends.min().filter(|&(at, _)| at <= now) else { return false };
        self.release_candidate(id);
        self.assemblies.remove(&id);
        let turns = match id {
            CandidateId::Shared(size) => self.groups.get_mut(&size).map(|group| &mut group.turns),
            CandidateId::Single(key) => self.peers.get_mut(&key).map(|peer| &mut peer.turns),
        };
        if let Some(turns) = turns {
            *turns += 1;
        }
        true
    }

    /// Asks for what is missing, a piece of each in turn, so that the work is shared.
    fn ask(&mut self, now: Instant, id: CandidateId, peers: Vec<(u32, PeerKey)>) {
        let Some(assembly) = self.assemblies.get_mut(&id) else { return };
        let is_busy = |key: &PeerKey| self.peers.get(key).is_some_and(|peer| !peer.in_flight.is_empty());
        let (mut chosen, idle): (Vec<PeerKey>, Vec<PeerKey>) =
            peers.into_iter().map(|(_, key)| key).partition(is_busy);
        let more = MAX_ASKED_PEERS.saturating_sub(chosen.len());
        chosen.extend(idle.into_iter().take(more));
        let mut asked = true;
        while asked {
            asked = false;
            for &key in &chosen {
                let Some(peer) = self.peers.get_mut(&key) else { continue };
                if peer.in_flight.len() >= MAX_IN_FLIGHT {
                    continue;
                }
                let Some(piece) = assembly.pick(&peer.in_flight) else { continue };
                assembly.ask(piece);
                peer.ask(now, piece);
                self.outputs.push_back(FetchOutput::Request { peer: key, piece });
                asked = true;
            }
        }
    }

    /// Asks those that tell no size for the first piece: its size comes with it.
    fn probe(&mut self, now: Instant) {
        let of_no_size = |peer: &&mut super::Peer| peer.size.is_none() && !peer.barred;
        let under_way = self.peers.values_mut().filter(of_no_size).filter(|peer| !peer.in_flight.is_empty());
        let mut room = MAX_ASKED_PEERS.saturating_sub(under_way.count());
        for (&key, peer) in &mut self.peers {
            if room == 0 {
                break;
            }
            if peer.size.is_none() && peer.in_flight.is_empty() && peer.is_askable(now) {
                peer.ask(now, 0);
                self.outputs.push_back(FetchOutput::Request { peer: key, piece: 0 });
                room -= 1;
            }
        }
    }

    /// When to call [`Fetch::poll`] though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        let believed = || self.peers.values().filter(|peer| peer.offered && !peer.barred);
        let patience = believed().filter_map(|peer| peer.patience_ends());
        // Those whose pause was over when it was last decided have nothing that could be asked of them.
        let news = |at: &Instant| self.scheduled_at.is_none_or(|then| *at > then);
        let pauses = believed().filter(|peer| peer.failures > 0).map(|peer| peer.next_ask).filter(news);
        let turns = self.assemblies.iter().filter(|_| self.crowded).map(|(&id, one)| self.turn_ends(id, one));
        // Nor is anybody helped by the place of one that had had its time then.
        patience.chain(pauses).chain(turns.filter(news)).min()
    }
}
