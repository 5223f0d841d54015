//! Fetching a torrent's metadata from its peers (BEP 9), when there is nothing but its info hash; and giving them to others.
//!
//! Owns what is asked of whom, what has come, and who is not believed any more. Pure: no sockets, no clock, no hashing, for
//! that of 30 MiB takes its time: whatever is whole goes out as [`FetchOutput::Verify`], and the verdict comes back. It never
//! looks into the metadata.
//!
//! Nothing but the hash of the whole tells a right piece from a wrong one. So pieces are collected for each size that peers
//! announce, from all that announce it; and once a candidate that has several sources proves wrong, from each peer of that
//! size by itself: then a wrong candidate convicts its only source, and a right one is not disturbed by anybody. Liars can
//! cost time, but as long as one honest peer stays they cannot prevent the end.

mod assembly;
mod peer;
mod schedule;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::PeerKey;
use crate::wire::extended::{MetadataMessage, usable_metadata_size};
use assembly::{Assembly, num_pieces, piece_length};
use peer::Peer;

pub use serve::MetadataServer;

/// How long a peer that owes us pieces may be silent before others are asked for them.
pub const FETCH_PATIENCE: Duration = Duration::from_secs(5);

/// Bytes in all large candidates that are collected or verified at the same time, as their sizes are announced, unless there is but
/// one. What is really held is what has come of them.
pub const MAX_LARGE_BYTES: u64 = 12 << 20;

/// Candidates of more bytes are large. Nearly all torrents have smaller metadata: these have places that the large ones cannot take.
pub const LARGE: u32 = 1 << 20;

/// Candidates that are collected or verified at the same time.
pub const MAX_CANDIDATES: usize = 8;

/// Of these, large ones.
pub const MAX_LARGE: usize = 4;

/// Refusals and silences in a row after which little is expected of a peer.
const HOPELESS: u32 = 3;

/// What a peer's extension handshakes say about metadata.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PeerMetadata {
    /// It takes messages of `ut_metadata`.
    pub offered: bool,
    /// The `metadata_size` of this handshake, if it has one; see [`crate::wire::ExtensionHandshake`].
    pub size: Option<i64>,
}

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum FetchInput {
    /// An extension handshake of a peer, the first one or a later one.
    Handshake(PeerKey, PeerMetadata),
    /// A message of `ut_metadata`. Requests are not for this machine, but for [`MetadataServer`].
    Message(PeerKey, MetadataMessage),
    /// The connection has ended.
    Gone(PeerKey),
    /// Whether the candidate with this ticket has the info hash.
    Verdict(Ticket, bool),
}

/// Which candidate a verdict is about; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(u64);

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchOutput {
    /// Ask the peer for this piece of metadata.
    Request {
        /// Whom.
        peer: PeerKey,
        /// The number of the piece, from 0.
        piece: u32,
    },
    /// The peer is asked for metadata no more, but may be good for other things.
    NotAsked {
        /// Which peer.
        peer: PeerKey,
        /// Why, for people.
        why: &'static str,
    },
    /// Close the connection: the peer has broken the protocol, or has lied.
    Close {
        /// Whose.
        peer: PeerKey,
        /// Why, for people.
        why: &'static str,
    },
    /// Hash this, and say by [`FetchInput::Verdict`] whether it has the info hash.
    Verify(Ticket, Arc<[u8]>),
    /// These are the metadata. Nothing follows.
    Done(Arc<[u8]>),
}

/// What is collected together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum CandidateId {
    /// Metadata of this size, from all peers that announce it.
    Shared(u32),
    /// What this peer alone gives.
    Single(PeerKey),
}

/// The peers that announce one size.
#[derive(Debug)]
struct Group {
    /// When the first of them was there.
    since: Instant,
    members: BTreeSet<PeerKey>,
    /// A candidate with several sources has proved wrong: from now on each peer has to give all.
    single: bool,
    /// How often it has had its turn in vain.
    turns: u32,
}

/// A candidate whose hash is not known yet.
#[derive(Debug)]
struct Verifying {
    id: CandidateId,
    bytes: Arc<[u8]>,
    /// Who gave each piece.
    sources: Vec<PeerKey>,
}

/// Fetches the metadata of one torrent: see the module's head.
#[derive(Debug, Default)]
pub struct Fetch {
    peers: BTreeMap<PeerKey, Peer>,
    /// By size; each has a member.
    groups: BTreeMap<u32, Group>,
    /// What is being collected; bounded by [`MAX_CANDIDATES`], [`MAX_LARGE`] and [`MAX_LARGE_BYTES`].
    assemblies: BTreeMap<CandidateId, Assembly>,
    /// Bounded together with `assemblies`.
    verifying: BTreeMap<Ticket, Verifying>,
    last_ticket: u64,
    outputs: VecDeque<FetchOutput>,
    /// Something has happened since it was last decided what to ask.
    changed: bool,
    /// Candidates wait for the places of others.
    crowded: bool,
    /// When it was last decided what to ask.
    scheduled_at: Option<Instant>,
    done: bool,
}

impl Fetch {
    /// Knows nobody yet.
    pub fn new() -> Fetch {
        Fetch::default()
    }

    /// Takes what happened. Call [`Fetch::poll`] until it gives `None` afterwards; several inputs may be handled before.
    pub fn handle(&mut self, now: Instant, input: FetchInput) {
        if self.done {
            return;
        }
        self.changed = true;
        match input {
            FetchInput::Handshake(peer, told) => self.on_handshake(now, peer, told),
            FetchInput::Message(peer, MetadataMessage::Data { piece, total_size, data }) => {
                self.on_data(now, peer, piece, total_size, data);
            }
            FetchInput::Message(peer, MetadataMessage::Reject { piece }) => self.on_reject(now, peer, piece),
            FetchInput::Message(_, MetadataMessage::Request { .. }) => {}
            FetchInput::Gone(peer) => self.on_gone(peer),
            FetchInput::Verdict(ticket, passed) => self.on_verdict(now, ticket, passed),
        }
    }

    /// The next thing to do; `None`: nothing before [`Fetch::deadline`] or the next input.
    pub fn poll(&mut self, now: Instant) -> Option<FetchOutput> {
        if self.outputs.is_empty()
            && !self.done
            && (self.changed || self.deadline().is_some_and(|at| at <= now))
        {
            self.changed = false;
            self.schedule(now);
        }
        self.outputs.pop_front()
    }

    /// Bytes that have come of the candidate that is nearest its end, and how many there are in all, as far as anybody has
    /// said; for people, for neither is certain.
    pub fn progress(&self) -> (u64, Option<u64>) {
        let verifying = self.verifying.values().map(|whole| whole.bytes.len() as u64);
        let collecting =
            self.assemblies.values().map(|assembly| (assembly.bytes(), u64::from(assembly.size)));
        let furthest = verifying.map(|bytes| (bytes, bytes)).chain(collecting).max_by_key(|&(have, _)| have);
        let likely = || self.groups.iter().max_by_key(|(_, group)| group.members.len());
        match furthest {
            Some((have, total)) => (have, Some(total)),
            None => (0, likely().map(|(&size, _)| u64::from(size))),
        }
    }

    /// Whether hardly anything will come of a peer: it takes no requests, is not believed, or has refused or been silent again and
    /// again.
    pub fn is_hopeless(&self, peer: PeerKey) -> bool {
        let gives = |peer: &Peer| peer.offered && !peer.barred && peer.failures < HOPELESS;
        !self.peers.get(&peer).is_some_and(gives)
    }

    fn on_handshake(&mut self, now: Instant, key: PeerKey, told: PeerMetadata) {
        let peer = self.peers.entry(key).or_insert_with(|| Peer::new(now));
        peer.offered = told.offered;
        if !told.offered {
            self.release(key);
        }
        let Some(size) = told.size else { return };
        self.on_size(now, key, size);
    }

    /// The peer says, by a handshake or beside a piece, how large the metadata are. Returns whether it is still believed.
    fn on_size(&mut self, now: Instant, key: PeerKey, told: i64) -> bool {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.barred) else { return false };
        let Some(size) = usable_metadata_size(told) else {
            self.bar(
                key,
                FetchOutput::NotAsked { peer: key, why: "tells an impossible size of the metadata" },
            );
            return false;
        };
        match peer.size {
            Some(known) if known != size => {
                self.bar(key, FetchOutput::NotAsked { peer: key, why: "changes the size of the metadata" });
                return false;
            }
            Some(_) => {}
            None => {
                peer.size = Some(size);
                // It has just got them, it seems: what it refused before it may have now.
                peer.forgive(now);
                let first = Group { since: now, members: BTreeSet::new(), single: false, turns: 0 };
                self.groups.entry(size).or_insert(first).members.insert(key);
            }
        }
        true
    }

    fn on_data(&mut self, now: Instant, key: PeerKey, piece: u32, total_size: Option<i64>, data: Vec<u8>) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.barred) else { return };
        if !peer.take_answer(piece) {
            self.bar(key, FetchOutput::Close { peer: key, why: "sent metadata that nobody asked for" });
            return;
        }
        self.unask(key, piece);
        if total_size.is_some_and(|told| !self.on_size(now, key, told)) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(size) = peer.size else {
            self.bar(key, FetchOutput::NotAsked { peer: key, why: "does not tell the size of the metadata" });
            return;
        };
        if piece_length(size, piece) != Some(data.len()) {
            self.bar(
                key,
                FetchOutput::Close { peer: key, why: "sent a piece of metadata of a wrong length" },
            );
            return;
        }
        peer.on_answer(now);
        let Some(id) = self.candidate_of(key) else { return };
        // The answer of a peer of which no size was known, or one that came late. It does not overtake those that wait for room.
        let may_overtake = size <= LARGE || !self.crowded;
        if may_overtake && !self.assemblies.contains_key(&id) {
            self.activate(now, id, size);
        }
        let Some(assembly) = self.assemblies.get_mut(&id) else { return };
        if assembly.insert(now, piece, data, key) {
            self.verify_if_whole(id);
        }
    }

    /// If all of a candidate is there, it is to be hashed.
    fn verify_if_whole(&mut self, id: CandidateId) {
        if !self.assemblies.get(&id).is_some_and(Assembly::is_whole) {
            return;
        }
        let Some(assembly) = self.assemblies.remove(&id) else { return };
        let (bytes, sources) = assembly.into_whole();
        self.release_candidate(id);
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.outputs.push_back(FetchOutput::Verify(ticket, Arc::clone(&bytes)));
        self.verifying.insert(ticket, Verifying { id, bytes, sources });
    }

    fn on_verdict(&mut self, now: Instant, ticket: Ticket, passed: bool) {
        let Some(Verifying { id, bytes, sources }) = self.verifying.remove(&ticket) else { return };
        if passed {
            *self = Fetch { done: true, ..Fetch::default() };
            self.outputs.push_back(FetchOutput::Done(bytes));
            return;
        }
        let mut givers: BTreeMap<PeerKey, usize> = BTreeMap::new();
        sources.iter().for_each(|&giver| *givers.entry(giver).or_default() += 1);
        if let (1, Some((&liar, _))) = (givers.len(), givers.first_key_value()) {
            self.bar(liar, FetchOutput::Close { peer: liar, why: "sent metadata of another torrent" });
            return;
        }
        let size = bytes.len() as u32;
        if let CandidateId::Shared(_) = id
            && let Some(group) = self.groups.get_mut(&size)
        {
            group.single = true;
        }
        // Those who gave most begin with what they gave, as far as there is room.
        let mut givers: Vec<(PeerKey, usize)> = givers.into_iter().collect();
        givers.sort_by_key(|&(giver, pieces)| (std::cmp::Reverse(pieces), giver));
        for (giver, _) in givers {
            let id = CandidateId::Single(giver);
            if self.candidate_of(giver) != Some(id) || !self.activate(now, id, size) {
                continue;
            }
            let Some(assembly) = self.assemblies.get_mut(&id) else { continue };
            for piece in (0..num_pieces(size)).filter(|&piece| sources[piece as usize] == giver) {
                let begin = piece as usize * assembly::PIECE_LENGTH;
                let end = bytes.len().min(begin + assembly::PIECE_LENGTH);
                assembly.insert(now, piece, bytes[begin..end].to_vec(), giver);
            }
        }
    }

    fn on_reject(&mut self, now: Instant, key: PeerKey, piece: u32) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.take_answer(piece) {
            peer.pause(now);
            self.unask(key, piece);
        }
    }

    fn on_gone(&mut self, key: PeerKey) {
        self.release(key);
        self.leave_group(key);
        self.peers.remove(&key);
        self.assemblies.remove(&CandidateId::Single(key));
    }

    /// The peer is asked no more; what it gave is not used.
    fn bar(&mut self, key: PeerKey, output: FetchOutput) {
        self.release(key);
        self.leave_group(key);
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.barred) else { return };
        peer.barred = true;
        if let Some(assembly) = peer.size.and_then(|size| self.assemblies.get_mut(&CandidateId::Shared(size)))
        {
            assembly.forget(key);
        }
        self.assemblies.remove(&CandidateId::Single(key));
        self.outputs.push_back(output);
    }

    fn leave_group(&mut self, key: PeerKey) {
        let Some(size) = self.peers.get(&key).and_then(|peer| peer.size) else { return };
        if let Some(group) = self.groups.get_mut(&size) {
            group.members.remove(&key);
            if group.members.is_empty() {
                self.groups.remove(&size);
                self.assemblies.remove(&CandidateId::Shared(size));
            }
        }
    }

    /// To which candidate the answers of this peer go; `None` while its size is not known, or if it is not believed.
    fn candidate_of(&self, key: PeerKey) -> Option<CandidateId> {
        let peer = self.peers.get(&key).filter(|peer| !peer.barred)?;
        let size = peer.size?;
        let single = self.groups.get(&size).is_some_and(|group| group.single);
        Some(if single { CandidateId::Single(key) } else { CandidateId::Shared(size) })
    }

    /// The piece is not under way from this peer any more.
    fn unask(&mut self, key: PeerKey, piece: u32) {
        let id = self.candidate_of(key);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.in_flight.remove(&piece)
            && let Some(assembly) = id.and_then(|id| self.assemblies.get_mut(&id))
        {
            assembly.unask(piece);
        }
    }

    /// Nothing is under way from this peer any more. What it still sends is not held against it.
    fn release(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else { return };
        let pieces: Vec<u32> = peer.in_flight.iter().copied().collect();
        pieces.into_iter().for_each(|piece| self.unask(key, piece));
    }

    /// Nothing is under way for this candidate any more.
    fn release_candidate(&mut self, id: CandidateId) {
        let members: Vec<PeerKey> = match id {
            CandidateId::Single(key) => vec![key],
            CandidateId::Shared(size) => self
                .groups
                .get(&size)
                .map(|group| group.members.iter().copied().collect())
                .unwrap_or_default(),
        };
        members.into_iter().for_each(|key| self.release(key));
    }
}
