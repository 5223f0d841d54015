//! Asking peers for the piece layers that are missing.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::proved;
use crate::hash::Sha256;
use crate::hash::merkle::{MERKLE_SPAN, MerkleTree, piece_height, root_at, tree_height};
use crate::ids::PeerKey;
use crate::layout::Layout;
use crate::metainfo::PieceLayers;
use crate::wire::{HashRange, MAX_HASHES};

/// How long a peer may owe an answer before others are asked for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a peer that refused or was silent is not asked; each time in a row twice as long, up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(5);

/// See [`PAUSE`].
const MAX_PAUSE: Duration = Duration::from_secs(160);

/// Requests that one peer has at a time.
const IN_FLIGHT: usize = 4;

/// Requests of which the answer of one peer may still come after others were asked, or is taken though it comes late.
const MAX_LATE: usize = 64;

/// Answers that one peer may owe when all layers are there.
pub const MAX_OWED_HASHES: u32 = (IN_FLIGHT + MAX_LATE) as u32;

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum HashFetchInput {
    /// There is a connection with a peer that speaks version 2.
    Joined(PeerKey),
    /// A peer has sent hashes.
    Hashes(PeerKey, HashRange, Vec<Sha256>),
    /// A peer refuses.
    Reject(PeerKey, HashRange),
    /// The connection has ended.
    Gone(PeerKey),
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HashFetchOutput {
    /// Ask the peer for these hashes.
    Request(PeerKey, HashRange),
    /// Close the connection: the peer has broken the protocol, or has lied.
    Close {
        /// Whose.
        peer: PeerKey,
        /// Why, for people.
        why: &'static str,
    },
    /// All are there: roots, and the tree over the hashes of the pieces below each. Nothing follows.
    Done(Vec<(Sha256, MerkleTree)>),
}

/// One file's layer that is missing, of which some may have come.
#[derive(Debug)]
struct MissingLayer {
    root: Sha256,
    /// Room for all; what has not come is zeros.
    hashes: Vec<Sha256>,
    /// What stands above each part of them, by which the tree over them is made in no time.
    spans: Vec<Sha256>,
}

// A part of a layer is what stands below one hash that a tree keeps.
const _: () = assert!(MAX_HASHES as usize == MERKLE_SPAN);

/// Which part of which layer: the number of the layer, and of the first hash.
type Part = (usize, u32);

#[derive(Debug, Default)]
struct HashPeer {
    /// What it has been asked for, since when.
    in_flight: BTreeMap<Part, Instant>,
    /// What it was asked for, and others after it.
    late: BTreeSet<Part>,
    /// Refusals and silences in a row.
    failures: u32,
    /// Nothing is asked of it before then.
    paused_until: Option<Instant>,
}

/// Fetches the piece layers of one torrent. Bounded by what the torrent says of its size: 32 bytes a piece.
#[derive(Debug)]
pub struct HashFetch {
    layers: Vec<MissingLayer>,
    /// The number of the layer of each root.
    numbers: HashMap<Sha256, usize>,
    /// The height of the piece layers.
    base: u32,
    /// Parts that nobody has been asked for.
    open: BTreeSet<Part>,
    /// Parts that are not there.
    missing: BTreeSet<Part>,
    peers: BTreeMap<PeerKey, HashPeer>,
    outputs: VecDeque<HashFetchOutput>,
    total: u64,
    done: bool,
}

impl HashFetch {
    /// For what is missing of these layers.
    pub fn new(layers: &PieceLayers, layout: &Layout) -> HashFetch {
        let mut numbers = HashMap::new();
        let mut missing = Vec::new();
        for file in layers.missing(layout) {
            let Some(root) = layers.root(file) else { continue };
            // Files of the same content share a layer.
            if let Entry::Vacant(entry) = numbers.entry(root) {
                entry.insert(missing.len());
                let pieces = layout.pieces_of_file(file).len();
                let spans = vec![Sha256::ZERO; pieces.div_ceil(MERKLE_SPAN)];
                missing.push(MissingLayer { root, hashes: vec![Sha256::ZERO; pieces], spans });
            }
        }
        let parts = |(number, layer): (usize, &MissingLayer)| {
            (0..layer.hashes.len() as u32).step_by(MAX_HASHES as usize).map(move |index| (number, index))
        };
        let open: BTreeSet<Part> = missing.iter().enumerate().flat_map(parts).collect();
        HashFetch {
            total: missing.iter().map(|layer| layer.hashes.len() as u64).sum(),
            layers: missing,
            numbers,
            base: piece_height(layout.piece_length()),
            missing: open.clone(),
            open,
            peers: BTreeMap::new(),
            outputs: VecDeque::new(),
            done: false,
        }
    }

    /// Bytes that are here, and bytes in all.
    pub fn progress(&self) -> (u64, u64) {
        let length = |&(number, index): &Part| {
            u64::from(MAX_HASHES).min(self.layers[number].hashes.len() as u64 - u64::from(index))
        };
        let missing: u64 = self.missing.iter().map(length).sum();
        (32 * (self.total - missing), 32 * self.total)
    }

    /// Whether hardly anything will come of a peer: it is not known, or has refused or been silent again and again.
    pub fn is_hopeless(&self, peer: PeerKey) -> bool {
        self.peers.get(&peer).is_none_or(|peer| peer.failures > 2)
    }

    /// Takes what happened. Call [`HashFetch::poll`] until it gives `None` afterwards.
    pub fn handle(&mut self, now: Instant, input: HashFetchInput) {
        if self.done {
            return;
        }
        match input {
            HashFetchInput::Joined(peer) => drop(self.peers.entry(peer).or_default()),
            HashFetchInput::Hashes(peer, range, hashes) => self.on_hashes(peer, &range, &hashes),
            HashFetchInput::Reject(peer, range) => self.on_reject(now, peer, &range),
            HashFetchInput::Gone(peer) => self.forget(peer),
        }
    }

    /// The next thing to do; `None`: nothing before [`HashFetch::deadline`] or the next input.
    pub fn poll(&mut self, now: Instant) -> Option<HashFetchOutput> {
        if self.outputs.is_empty() && !self.done {
            if self.missing.is_empty() {
                self.done = true;
                self.peers.clear();
                let layers = std::mem::take(&mut self.layers);
                let tree = |MissingLayer { root, hashes, spans }| {
                    (root, MerkleTree::with_spans(hashes, self.base, spans))
                };
                let layers = layers.into_iter().map(tree).collect();
                return Some(HashFetchOutput::Done(layers));
            }
            self.give_up_waiting(now);
            self.ask(now);
        }
        self.outputs.pop_front()
    }

    /// When to call [`HashFetch::poll`] though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        let owed =
            self.peers.values().flat_map(|peer| peer.in_flight.values().map(|&asked| asked + PATIENCE));
        let paused =
            self.peers.values().filter_map(|peer| peer.paused_until).filter(|_| !self.open.is_empty());
        owed.chain(paused).min()
    }

    /// What a part is called on the wire.
    fn range(&self, (number, index): Part) -> HashRange {
        let layer = &self.layers[number];
        let height = tree_height(layer.hashes.len() as u64);
        let length = MAX_HASHES.min(1 << height.min(9));
        // All layers up to the one below the root; those within the hashes count, though nothing is sent for them.
        HashRange { root: layer.root, base: self.base, index, length, proof_layers: height - 1 }
    }

    fn part(&self, range: &HashRange) -> Option<Part> {
        let number = *self.numbers.get(&range.root)?;
        let part = (number, range.index);
        let exists = (range.index as usize) < self.layers[number].hashes.len()
            && range.index.is_multiple_of(MAX_HASHES)
            && self.range(part) == *range;
        exists.then_some(part)
    }

    fn on_hashes(&mut self, key: PeerKey, range: &HashRange, hashes: &[Sha256]) {
        let part = self.part(range);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let asked = part.filter(|part| peer.in_flight.remove(part).is_some() || peer.late.remove(part));
        let Some(part) = asked else {
            return self.convict(key, "sent hashes that nobody asked for");
        };
        (peer.failures, peer.paused_until) = (0, None);
        if !self.missing.contains(&part) {
            return; // late, and somebody else has given them
        }
        let Some(of_layer) = proved(range, hashes) else {
            self.reopen(part);
            return self.convict(key, "sent hashes that do not lead to their root");
        };
        let layer = &mut self.layers[part.0];
        layer.spans[part.1 as usize / MERKLE_SPAN] = root_at(of_layer, 0, tree_height(of_layer.len() as u64));
        let places = layer.hashes[part.1 as usize..].iter_mut();
        places.zip(of_layer).for_each(|(place, hash)| *place = *hash);
        self.missing.remove(&part);
        self.open.remove(&part);
    }

    fn on_reject(&mut self, now: Instant, key: PeerKey, range: &HashRange) {
        let part = self.part(range);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(part) = part.filter(|part| peer.in_flight.remove(part).is_some()) else { return };
        peer.pause(now);
        self.reopen(part);
    }

    fn convict(&mut self, key: PeerKey, why: &'static str) {
        self.forget(key);
        self.outputs.push_back(HashFetchOutput::Close { peer: key, why });
    }

    fn forget(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.remove(&key) else { return };
        peer.in_flight.into_keys().for_each(|part| self.reopen(part));
    }

    /// Somebody else is to be asked for a part.
    fn reopen(&mut self, part: Part) {
        if self.missing.contains(&part) {
            self.open.insert(part);
        }
    }

    fn give_up_waiting(&mut self, now: Instant) {
        let mut given_up = Vec::new();
        for peer in self.peers.values_mut() {
            peer.paused_until = peer.paused_until.filter(|&until| until > now);
            let is_late = |asked: Instant| now.saturating_duration_since(asked) >= PATIENCE;
            let late: Vec<Part> =
                peer.in_flight.iter().filter(|(_, asked)| is_late(**asked)).map(|(&part, _)| part).collect();
            if late.is_empty() {
                continue;
            }
            peer.pause(now);
            for part in late {
                peer.in_flight.remove(&part);
                peer.late.insert(part);
                given_up.push(part);
            }
            while peer.late.len() > MAX_LATE {
                peer.late.pop_first();
            }
        }
        given_up.into_iter().for_each(|part| self.reopen(part));
    }

    /// Asks for the first parts that nobody owes: the peer that owes least.
    fn ask(&mut self, now: Instant) {
        while let Some(&part) = self.open.first() {
            let may_be_asked =
                |peer: &HashPeer| peer.in_flight.len() < IN_FLIGHT && peer.paused_until.is_none();
            let free = self.peers.iter_mut().filter(|(_, peer)| may_be_asked(peer));
            let Some((&key, peer)) = free.min_by_key(|(_, peer)| (peer.in_flight.len(), peer.failures))
            else {
                return;
            };
            peer.in_flight.insert(part, now);
            self.open.remove(&part);
            self.outputs.push_back(HashFetchOutput::Request(key, self.range(part)));
        }
    }
}

impl HashPeer {
    fn pause(&mut self, now: Instant) {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(5)).min(MAX_PAUSE);
        self.failures += 1;
        self.paused_until = Some(now + pause);
    }
}
