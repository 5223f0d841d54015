//! What is asked of web seeds (BEP 17, 19): runs of blocks that follow one another, not single blocks.
//!
//! A web seed is no peer: it does not choke, wants nothing, and says nothing about what it has; that is told by whoever knows its files.
//! It takes its runs when it has a connection for one ([`Swarm::take_run`]), and is one source however many connections it has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::begun::{Arrival, Sender};
use super::requests::END_GAME_GAIN;
use super::window::{Sent, Window};
use super::{MAX_UNWRITTEN, Swarm};
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::event::State;
use crate::ids::{PeerKey, Source};
use crate::layout::{BLOCK_LENGTH, Block, PieceIndex};

/// Bytes of a run, where so much that follows one another is missing: with less, the wait for the answers to the requests would tell.
pub(super) const RUN: u64 = 4 << 20;

/// Blocks that a web seed should send in a fraction of the time that others need for theirs, to be asked for what they owe.
const END_GAME_BLOCKS: f64 = 16.0;

/// A web seed that was asked for something and has brought nothing for so long is silent.
const SILENT: Duration = Duration::from_secs(2);

/// A web seed that is in use.
#[derive(Debug)]
pub(super) struct WebSeed {
    /// Its number among those of the torrent.
    number: u16,
    /// Pieces that it may be asked for.
    pieces: Bitfield,
    counted_as_seed: bool,
    /// What it was asked for and has not sent.
    pub in_flight: BTreeMap<Block, Sent>,
    /// How quickly it sends.
    window: Window,
    /// When a block last came, or it was asked for something while it owed nothing.
    waiting_since: Instant,
}

impl WebSeed {
    /// Whether it was asked for anything that has not come.
    pub(super) fn is_asked(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Seconds until this block, which is in flight, may be expected, as far as can be told.
    fn block_seconds(&self, now: Instant, block: Block) -> f64 {
        let bytes = self.in_flight.range(..=block).count() as f64 * f64::from(BLOCK_LENGTH);
        let silence = now.saturating_duration_since(self.waiting_since).as_secs_f64();
        (bytes / self.window.expected_rate()).max(silence / 2.0)
    }

    /// Seconds until the last block in flight may be expected, as far as can be told.
    pub(super) fn queue_seconds(&self, now: Instant) -> f64 {
        let bytes = self.in_flight.len() as f64 * f64::from(BLOCK_LENGTH);
        let oldest = self.in_flight.values().map(|sent| sent.at()).min();
        let age = oldest.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        (bytes / self.window.expected_rate()).max(age / 2.0)
    }
}

/// Which run a connection of a web seed would like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunWish {
    /// Where to look first: an offset in the torrent's stream.
    pub from: u64,
    /// Nothing before `from` will do, and nothing from this offset on.
    pub until: Option<u64>,
}

impl Swarm {
    /// The web seed of this name and number may be asked for these pieces from now on.
    pub fn set_web_seed(&mut self, now: Instant, key: PeerKey, number: u16, pieces: Bitfield) {
        let before = self.web_seeds.remove(&key);
        if let Some(seed) = &before {
            self.picker.on_leave(&seed.pieces, seed.counted_as_seed);
        }
        self.picker.on_join(&pieces);
        let (in_flight, window, waiting_since) = before.map_or_else(
            || (BTreeMap::new(), Window::new(now), now),
            |seed| (seed.in_flight, seed.window, seed.waiting_since),
        );
        let counted_as_seed = pieces.is_full();
        let seed = WebSeed { number, pieces, counted_as_seed, in_flight, window, waiting_since };
        self.web_seeds.insert(key, seed);
        // It may not be asked any more for a piece that it was to fill alone.
        self.pieces.release_exclusive(key);
        self.wake_idle();
    }

    /// The web seed is not in use any more.
    pub fn remove_web_seed(&mut self, key: PeerKey) {
        let Some(seed) = self.web_seeds.remove(&key) else { return };
        self.picker.on_leave(&seed.pieces, seed.counted_as_seed);
        for &block in seed.in_flight.keys() {
            self.pieces.give_back(&self.config.layout, block, key);
        }
        self.pieces.release_exclusive(key);
        self.wake_idle();
    }

    /// Blocks for a connection of a web seed, each where the one before ends: of a piece that is begun, of pieces that nobody is at, and when there
    /// is neither, of those that others will take far longer for. Empty if there is nothing to ask for now.
    pub fn take_run(&mut self, now: Instant, key: PeerKey, wish: RunWish) -> Vec<Block> {
        let limit = MAX_UNWRITTEN.max(2 * u64::from(self.config.layout.piece_length()));
        if self.state != State::Started || self.is_complete() || self.unwritten() >= limit {
            return Vec::new();
        }
        let run = match wish.until {
            Some(until) => self.passing_run(now, key, wish.from..until),
            None => self.best_run(now, key, wish.from),
        };
        if let Some(seed) = self.web_seeds.get_mut(&key) {
            if seed.in_flight.is_empty() {
                seed.waiting_since = now;
            }
            let sent = seed.window.on_request(now);
            seed.in_flight.extend(run.iter().map(|&block| (block, sent)));
        }
        run
    }

    fn best_run(&mut self, now: Instant, key: PeerKey, from: u64) -> Vec<Block> {
        let mut run = self.urgent_run(now, key);
        if run.is_empty() {
            let begun = self.begun_start(key);
            let start = match self.prefers_begun() {
                true => begun.or_else(|| self.new_start(key, from)),
                false => self.new_start(key, from).or(begun),
            };
            run = start.map_or_else(Vec::new, |piece| self.run_from(now, key, piece));
        }
        if run.is_empty() { self.end_game_run(now, key) } else { run }
    }

    /// What comes by in an answer that goes on, and will not come by again: the first blocks that nobody was asked for, and before them those
    /// that others owe, for they are read anyway; if all are owed, those that will take their senders far longer.
    fn passing_run(&mut self, now: Instant, key: PeerKey, bytes: Range<u64>) -> Vec<Block> {
        let Some(seed) = self.web_seeds.get(&key) else { return Vec::new() };
        let layout = self.config.layout.clone();
        let piece_length = u64::from(layout.piece_length());
        let piece_at = |offset: u64| offset.min(layout.end()) / piece_length;
        let pieces = piece_at(bytes.start) as u32..bytes.end.min(layout.end()).div_ceil(piece_length) as u32;
        let has =
            |block: &Block| bytes.contains(&layout.block_offset(*block)) && seed.pieces.contains(block.piece);
        let begun = self.pieces.with_free_blocks_in(pieces.clone(), key);
        let begun = begun.filter_map(|piece| self.pieces.first_free(&layout, piece)).find(has);
        let whole = bytes.start.div_ceil(piece_length) as u32..pieces.end;
        let new = self.picker.first_open(&seed.pieces, whole).filter(|_| !self.is_crowded());
        let next = begun.into_iter().chain(new.map(|piece| layout.block(piece, 0))).filter(has).min();
        let owed = self.pieces.requested_in(&layout, pieces, usize::MAX).filter(has);
        let owed = owed.take_while(|block| next.is_none_or(|next| *block < next)).collect();
        let gain = if next.is_some() { f64::INFINITY } else { END_GAME_GAIN };
        let run = self.run_too(now, key, gain, owed);
        match next {
            Some(next) if run.is_empty() => self.run_from(now, key, next.piece),
            _ => run,
        }
    }

    /// Where there is an order: the free blocks of the first piece of its window that is begun, or blocks that hold up its first pieces
    /// though others were asked for them. Empty if a new piece comes before.
    fn urgent_run(&mut self, now: Instant, key: PeerKey) -> Vec<Block> {
        let window = self.window.range();
        let Some(seed) = self.web_seeds.get(&key).filter(|_| !window.is_empty()) else { return Vec::new() };
        let new = self.picker.first_open(&seed.pieces, window.clone()).filter(|_| !self.is_crowded());
        let before = window.start..new.map_or(window.end, |piece| piece.0);
        let mut begun = self.pieces.with_free_blocks_in(before, key);
        if let Some(piece) = begun.find(|&piece| seed.pieces.contains(piece)) {
            drop(begun);
            return self.run_from(now, key, piece);
        }
        drop(begun);
        let tries = self.urgent_blocks();
        self.run_too(now, key, END_GAME_GAIN, tries)
    }

    /// Whether pieces that were left unfinished come before new ones: there are too many of them, or they are so long that several
    /// connections share one, so that less is held in memory.
    fn prefers_begun(&self) -> bool {
        let is_long = u64::from(self.config.layout.piece_length()) > RUN;
        is_long || self.is_crowded() || self.pieces.open_count() > self.peers.len()
    }

    /// The first piece that is begun and has free blocks for a web seed.
    fn begun_start(&self, key: PeerKey) -> Option<PieceIndex> {
        let seed = self.web_seeds.get(&key)?;
        self.pieces.with_free_blocks(key).find(|&piece| seed.pieces.contains(piece))
    }

    /// The first of several pieces that nobody is at; looks behind this offset first.
    fn new_start(&mut self, key: PeerKey, from: u64) -> Option<PieceIndex> {
        if self.is_crowded() {
            return None;
        }
        let piece_length = u64::from(self.config.layout.piece_length());
        let from = from.div_ceil(piece_length).min(u64::from(self.have.len())) as u32;
        let pieces = (RUN.div_ceil(piece_length) as u32).max(1);
        let seed = self.web_seeds.get(&key)?;
        self.picker.run_start(&seed.pieces, from, pieces, self.window.range())
    }

    /// A run of free blocks that begins in this piece, and goes on as long as they follow one another.
    fn run_from(&mut self, now: Instant, key: PeerKey, first: PieceIndex) -> Vec<Block> {
        let layout = self.config.layout.clone();
        let end_of = |block: &Block| layout.block_offset(*block) + u64::from(block.length);
        let most = (RUN / u64::from(BLOCK_LENGTH)) as usize;
        let mut run: Vec<Block> = Vec::new();
        for piece in (first.0..self.have.len()).map(PieceIndex) {
            if !self.web_seeds.get(&key).is_some_and(|seed| seed.pieces.contains(piece)) {
                return run;
            }
            // Behind the end of a file there may be a gap.
            if run.last().is_some_and(|last| end_of(last) != layout.piece_offset(piece)) {
                return run;
            }
            if self.picker.contains(piece) {
                if !(run.is_empty() || self.picker.is_due(piece)) || !self.take_memory(piece) {
                    return run;
                }
                self.picker.close_piece(piece);
                self.pieces.begin(now, &layout, piece, self.suspects.contains(piece));
            }
            let before = run.len();
            while run.len() < most
                && let Some(block) = self.pieces.request(&layout, piece, key)
            {
                if run.last().is_some_and(|last| end_of(last) != layout.block_offset(block)) {
                    self.pieces.give_back(&layout, block, key);
                    return run;
                }
                run.push(block);
            }
            if run.len() == before || run.len() >= most {
                return run;
            }
        }
        run
    }

    /// A run of blocks that peers, or other web seeds, will take far longer for.
    fn end_game_run(&mut self, now: Instant, key: PeerKey) -> Vec<Block> {
        let Some(gain) = self.end_game_gain() else { return Vec::new() };
        let Some(seed) = self.web_seeds.get(&key) else { return Vec::new() };
        // What it is asked for besides comes over its other connections.
        let ours = f64::from(BLOCK_LENGTH) * END_GAME_BLOCKS / seed.window.expected_rate();
        let others = self.slower_sources(now, key, |seconds| ours < gain * seconds);
        // Each source's last blocks first: what it sends next comes from it anyway.
        let mut runs = others.into_iter().map(|other| {
            let owed = self.owed_by(other).collect();
            self.run_too(now, key, gain, owed)
        });
        runs.find(|run| !run.is_empty()).unwrap_or_default()
    }

    /// The first of these blocks that a web seed should have in a fraction of the time that all those need who were asked for it, and those
    /// after it as long as each touches the one before and that holds for the whole run: it is asked for them, too.
    fn run_too(&mut self, now: Instant, key: PeerKey, gain: f64, tries: Vec<Block>) -> Vec<Block> {
        let layout = self.config.layout.clone();
        let begin_of = |block: &Block| layout.block_offset(*block);
        let end_of = |block: &Block| begin_of(block) + u64::from(block.length);
        let most = (RUN / u64::from(BLOCK_LENGTH)) as usize;
        let mut run: Vec<Block> = Vec::new();
        for block in tries {
            let touches = |last: &Block| end_of(last) == begin_of(&block) || end_of(&block) == begin_of(last);
            let is_taken = run.len() < most
                && run.last().is_none_or(touches)
                && self.is_quicker(now, key, gain, block, run.len() + 1)
                && self.pieces.request_too(&layout, block, key, self.silent_at(now, block));
            match is_taken {
                true => run.push(block),
                false if run.is_empty() => {}
                false => break,
            }
        }
        run.sort_unstable();
        run
    }

    /// Web seeds that were asked for this block and have brought nothing for a while: they keep no other from being asked.
    fn silent_at(&self, now: Instant, block: Block) -> usize {
        let seeds = self.pieces.requesters(&self.config.layout, block);
        let seeds = seeds.filter_map(|key| self.web_seeds.get(&key));
        seeds.filter(|seed| seed.waiting_since + SILENT <= now).count()
    }

    /// Whether a web seed should have this block, with a run of so many, in a fraction of the time that those need who were asked for it.
    fn is_quicker(&self, now: Instant, key: PeerKey, gain: f64, block: Block, blocks: usize) -> bool {
        let Some(seed) = self.web_seeds.get(&key) else { return false };
        let blocks = END_GAME_BLOCKS.max(blocks as f64);
        let seconds = f64::from(BLOCK_LENGTH) * blocks / seed.window.expected_rate();
        let is_slower = |other| {
            let theirs = self.peers.get(&other).map(|peer| peer.block_seconds(now, block));
            let theirs =
                theirs.or_else(|| self.web_seeds.get(&other).map(|seed| seed.block_seconds(now, block)));
            other != key && theirs.is_none_or(|theirs| seconds < gain * theirs)
        };
        seed.pieces.contains(block.piece)
            && !seed.in_flight.contains_key(&block)
            && self.pieces.requesters(&self.config.layout, block).all(is_slower)
    }

    /// The data of `block` have come from a web seed. Gives them back if they are of no use.
    pub fn on_web_block(
        &mut self,
        now: Instant,
        key: PeerKey,
        block: Block,
        data: BlockData,
    ) -> Option<BlockData> {
        // Nobody sends the zeros of pad files.
        let length = u64::from(block.length) - self.config.layout.pad_bytes(block);
        let Some(seed) = self.web_seeds.get_mut(&key) else { return Some(data) };
        if let Some(sent) = seed.in_flight.remove(&block) {
            seed.waiting_since = now;
            seed.window.on_block(now, sent, block.length);
        }
        let goes_on = seed.pieces.contains(block.piece);
        self.downloaded += length;
        let sender = Sender { peer: key, source: Source::Web(seed.number), goes_on };
        match self.pieces.on_block(now, &self.config.layout, block, sender, data) {
            Arrival::Unneeded(data) => {
                self.wasted += length;
                Some(data)
            }
            Arrival::Kept { others, whole } => {
                self.down_rate.add(now, length);
                others.into_iter().for_each(|other| self.cancel(now, other, block));
                if whole {
                    self.verify_piece(block.piece);
                }
                None
            }
        }
    }

    /// So many bytes have come from web seeds that are of no use.
    pub fn on_web_waste(&mut self, bytes: u64) {
        self.downloaded += bytes;
        self.wasted += bytes;
    }

    /// A web seed will not send these blocks.
    pub fn give_back_run(&mut self, key: PeerKey, blocks: &[Block]) {
        let Some(seed) = self.web_seeds.get_mut(&key) else { return };
        for &block in blocks {
            if seed.in_flight.remove(&block).is_some() {
                self.pieces.give_back(&self.config.layout, block, key);
            }
        }
        self.pieces.release_exclusive(key);
        self.wake_idle();
    }

    /// Whether any of these blocks is still awaited of a web seed.
    pub fn awaits_any(&self, key: PeerKey, mut blocks: impl Iterator<Item = Block>) -> bool {
        let seed = self.web_seeds.get(&key);
        seed.is_some_and(|seed| blocks.any(|block| seed.in_flight.contains_key(&block)))
    }

    /// A web seed need not send this block any more. False if it was not asked for it.
    pub(super) fn cancel_web(&mut self, key: PeerKey, block: Block) -> bool {
        self.web_seeds.get_mut(&key).is_some_and(|seed| seed.in_flight.remove(&block).is_some())
    }
}
