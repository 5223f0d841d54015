//! Which block to ask a peer for next.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{MAX_UNWRITTEN, Swarm};
use crate::ids::PeerKey;
use crate::layout::{BLOCK_LENGTH, Block, PieceIndex};

/// Until so many pieces are here, new pieces are chosen at random (BEP 3, "random first piece").
const RANDOM_FIRST: u32 = 4;

/// Blocks in flight with a peer that is called fast: a MiB.
const FAST: u32 = 64;

/// Bytes of unfinished pieces that are here beyond which further ones are begun only if there is nothing
/// else to ask for; and those of so many whole pieces, where pieces are large.
const MAX_UNFINISHED: u64 = 16 << 20;
const MAX_UNFINISHED_PIECES: u64 = 4;

/// Pieces shorter than this are begun beside one another: each by itself costs the disk as much as one of this size.
const SHORT_PIECE: u32 = 64 << 10;

/// Bytes of short pieces that a peer is asked for in a row, as far as they are as rare as one another: as much as a piece often has.
const ROW: u32 = 256 << 10;

/// In the end game a block is asked of a second peer if that one should have it in this fraction
/// of the time that the first one needs.
pub(super) const END_GAME_GAIN: f64 = 0.5;

/// The same while pieces are missing that nobody has yet: it is not the end, and nothing hurries.
const WAITING_GAIN: f64 = 0.1;

/// And only of whom needs more seconds than this for what it was asked for.
const WAITING_PATIENCE: f64 = 2.0;

impl Swarm {
    /// The next block to ask a peer for: of the window, if there is an order; of the piece it is at, of a piece that is begun, of a
    /// new piece, of somebody else in the end game.
    pub(super) fn next_block(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let peer = self.peers.get(&key)?;
        if peer.peer_choking && peer.allowed_fast.is_empty() {
            return None;
        }
        if let Some(block) = self.next_in_window(now, key) {
            return Some(block);
        }
        let peer = self.peers.get(&key)?;
        let current = peer.current.filter(|&piece| peer.may_be_asked_for(piece));
        let layout = &self.config.layout;
        if let Some(block) = current.and_then(|piece| self.pieces.request(layout, piece, key)) {
            return Some(block);
        }
        let crowded = self.is_crowded();
        let alone = !crowded && self.takes_whole_pieces(key);
        let mut piece = if alone { self.new_piece(key) } else { self.scarce_piece(key) };
        piece = piece.filter(|&piece| self.take_memory(piece));
        if piece.is_none() {
            let (peer, layout) = (self.peers.get(&key)?, &self.config.layout);
            let begun = self.pieces.with_free_blocks(key).find(|&piece| peer.may_be_asked_for(piece));
            if let Some(block) = begun.and_then(|piece| self.pieces.request(layout, piece, key)) {
                return Some(block);
            }
            if crowded && let Some(block) = self.end_game_block(now, key) {
                return Some(block);
            }
            let further = if alone { None } else { self.new_piece(key) };
            piece = further.filter(|&piece| self.take_memory(piece));
        }
        match piece {
            Some(piece) => self.begin_piece(now, piece, key),
            None => self.end_game_block(now, key),
        }
    }

    /// Begins a piece with a peer: the first block to ask it for.
    pub(super) fn begin_piece(&mut self, now: Instant, piece: PieceIndex, key: PeerKey) -> Option<Block> {
        self.picker.close_piece(piece);
        self.pieces.begin(now, &self.config.layout, piece, self.suspects.contains(piece));
        self.pieces.request(&self.config.layout, piece, key)
    }

    /// So much of unfinished pieces waits in memory that what holds them up is better asked of others than
    /// more begun.
    pub(super) fn is_crowded(&self) -> bool {
        let most = MAX_UNFINISHED_PIECES * u64::from(self.config.layout.piece_length());
        self.pieces.blocks_waiting() * u64::from(BLOCK_LENGTH) >= most.max(MAX_UNFINISHED)
    }

    /// A fast peer whose window holds a whole piece gets one of its own: what several fast peers
    /// share waits in memory for the last of them. But pieces that were left unfinished come first
    /// once there are more of them than peers who could be at one.
    fn takes_whole_pieces(&self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get(&key) else { return false };
        let blocks = self.config.layout.piece_length().div_ceil(BLOCK_LENGTH);
        peer.window.blocks() >= blocks.max(FAST) && self.pieces.open_count() <= self.peers.len()
    }

    /// A seed is asked for what only seeds have, and another peer for what it alone has, before anything that others could give: as long as
    /// the pieces begun, which wait in memory, are few. So a seed that tells of one piece after another (BEP 16) is asked for those.
    fn scarce_piece(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let peer = self.peers.get(&key)?;
        let begun = self.pieces.len() as u64 * u64::from(self.config.layout.piece_length());
        if peer.peer_choking || begun >= MAX_UNWRITTEN {
            return None;
        }
        let is_seed = peer.counted_as_seed;
        if !is_seed && self.picker.has_seeds() {
            return None;
        }
        let piece = self.new_piece(key)?;
        let is_scarce =
            if is_seed { self.picker.only_seeds_have(piece) } else { self.picker.only_one_has(piece) };
        is_scarce.then_some(piece)
    }

    /// The piece to begin with a peer.
    fn new_piece(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let peer = self.peers.get(&key)?;
        if peer.peer_choking {
            return peer
                .allowed_fast
                .iter()
                .copied()
                .find(|&p| peer.pieces.contains(p) && self.picker.is_due(p));
        }
        let first =
            if peer.snubbed { None } else { self.picker.first_open(&peer.pieces, self.window.range()) };
        if first.is_some() {
            return first;
        }
        let may_begin = |piece: &&PieceIndex| peer.pieces.contains(**piece) && self.picker.contains(**piece);
        let suggested = peer.suggested.iter().find(may_begin).copied();
        if let Some(piece) = suggested.filter(|&piece| self.picker.weighs_most(piece)) {
            return Some(piece);
        }
        let length = self.config.layout.piece_length();
        let row = if length < SHORT_PIECE { ROW / length } else { 1 };
        let scarce = match peer.counted_as_seed && self.picker.has_scarce() {
            true => {
                let shares = self.shares();
                let most = shares.pieces_to_look_at();
                self.picker.scarcest(&peer.pieces, most, |piece| shares.turn(piece.0 / row))
            }
            false => None,
        };
        let picked = match self.have.count() < RANDOM_FIRST {
            _ if scarce.is_some() => scarce,
            true => self.picker.random(&peer.pieces),
            false => self.picker.rarest(&peer.pieces, peer.interesting),
        }?;
        Some(match row > 1 {
            true => self.picker.beside(&peer.pieces, picked, peer.current, row),
            false => picked,
        })
    }

    /// When no piece is left to begin, and no free block that this peer has: one that another peer
    /// will take far longer for.
    fn end_game_block(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let gain = self.end_game_gain()?;
        let peer = self.peers.get(&key).filter(|peer| !peer.snubbed && !peer.peer_choking)?;
        let ours = peer.queue_seconds_with_one_more();
        let least = if gain < END_GAME_GAIN { WAITING_PATIENCE } else { 0.0 };
        let others = self.slower_sources(now, key, |seconds| ours < gain * seconds && least <= seconds);
        let owed = others.into_iter().flat_map(|other| self.owed_by(other));
        let tries: Vec<Block> = owed.filter(|block| peer.pieces.contains(block.piece)).take(64).collect();
        self.ask_too(now, key, gain, tries.into_iter())
    }

    /// Whether blocks may be asked for that others were asked for already, and if so, in what fraction of the time that the others need
    /// they should come.
    pub(super) fn end_game_gain(&self) -> Option<f64> {
        let crowded = self.is_crowded();
        // While there is no memory for more, too, but then it is only worth while with those who hold everybody up.
        if !crowded && !self.config.memory.waits() && !self.picker.is_exhausted() {
            return None;
        }
        Some(if crowded || self.picker.is_empty() { END_GAME_GAIN } else { WAITING_GAIN })
    }

    /// Peers and web seeds, but `key`, that owe us something, the slowest first: of those whose time for all of it is slow enough.
    pub(super) fn slower_sources(
        &self,
        now: Instant,
        key: PeerKey,
        is_slower: impl Fn(f64) -> bool,
    ) -> Vec<PeerKey> {
        let peers = self.peers.values().filter(|other| other.key != key && !other.in_flight.is_empty());
        let peers = peers.map(|other| (other.key, other.queue_seconds(now)));
        let seeds = self.web_seeds.iter().filter(|&(&other, seed)| other != key && seed.is_asked());
        let seeds = seeds.map(|(&other, seed)| (other, seed.queue_seconds(now)));
        let mut others: Vec<_> = peers.chain(seeds).filter(|&(_, seconds)| is_slower(seconds)).collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1));
        others.into_iter().map(|(key, _)| key).collect()
    }

    /// The blocks that a peer or a web seed was asked for, from the last to the first.
    pub(super) fn owed_by(&self, source: PeerKey) -> impl Iterator<Item = Block> {
        let peer = self.peers.get(&source).into_iter();
        let seed = self.web_seeds.get(&source).into_iter();
        let of_peer = peer.flat_map(|peer| peer.in_flight.iter().rev().map(|&(block, _)| block));
        of_peer.chain(seed.flat_map(|seed| seed.in_flight.keys().rev().copied()))
    }

    /// The first of these blocks that a peer should have in a fraction of the time that all those need who were asked for it: it is
    /// asked for it, too.
    pub(super) fn ask_too(
        &mut self,
        now: Instant,
        key: PeerKey,
        gain: f64,
        mut tries: impl Iterator<Item = Block>,
    ) -> Option<Block> {
        let peer = self.peers.get(&key).filter(|peer| !peer.snubbed && !peer.peer_choking)?;
        let ours = peer.queue_seconds_with_one_more();
        // Of a web seed it takes a look at all that it owes: once for all the blocks.
        let mut of_seeds = BTreeMap::new();
        let mut is_slower = |other| {
            let seconds = match self.peers.get(&other) {
                Some(peer) => Some(peer.queue_seconds(now)),
                None => *of_seeds
                    .entry(other)
                    .or_insert_with(|| self.web_seeds.get(&other).map(|seed| seed.queue_seconds(now))),
            };
            other != key && seconds.is_none_or(|seconds| ours < gain * seconds)
        };
        let layout = &self.config.layout;
        tries.find(|&block| {
            peer.pieces.contains(block.piece)
                && self.pieces.requesters(layout, block).all(&mut is_slower)
                && self.pieces.request_too(layout, block, key, 0)
        })
    }
}
