//! In which order pieces are begun, and the window of those that somebody waits for.
//!
//! All peers keep the window full, each block asked of whoever can be asked for it, the first piece first. What holds up its first
//! pieces is asked of a second peer as in the end game, though the end is far. Everything outside of it is rarest first, by those
//! peers that have nothing of the window to give.

use std::ops::Range;
use std::time::Instant;

use super::Swarm;
use super::requests::END_GAME_GAIN;
use crate::bitfield::Bitfield;
use crate::ids::PeerKey;
use crate::layout::{Block, Layout, PieceIndex};

/// Bytes of the window: more than the fastest peers are asked for at a time (8 MiB each), so that they go on in order.
const WINDOW: u64 = 64 << 20;

/// Pieces of the window at the least, where pieces are very large.
const MIN_WINDOW: u32 = 4;

/// Bytes at the beginning of the window that are asked of a second peer if the first is too slow; a piece at the least.
const URGENT: u64 = 1 << 20;

/// Blocks of urgent pieces that are looked at to find one that is late.
const MAX_LOOKED_AT: usize = 64;

/// In which order pieces are begun.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Order {
    /// Those first that the fewest peers have: best for the swarm, and what to use if nobody waits for certain bytes.
    #[default]
    Rarest,
    /// From the first piece to the last: those of a window of 64 MiB (or 4 pieces) that begins with the first one missing are begun
    /// first, in their order, and the rarest by peers that have none of them to give.
    Sequential,
    /// Those of a window first, in their order, and the rarest while none of them can be begun: for somebody who reads.
    Window {
        /// The first piece of the window.
        next: PieceIndex,
        /// How many pieces it has.
        length: u32,
    },
}

/// How many pieces a window has, for somebody who reads in order.
pub fn window_length(layout: &Layout) -> u32 {
    let pieces = WINDOW / u64::from(layout.piece_length().max(1));
    u32::try_from(pieces).unwrap_or(u32::MAX).max(MIN_WINDOW)
}

/// The pieces that come first.
#[derive(Debug, Default)]
pub(super) struct OrderWindow {
    order: Order,
    /// Empty where there is no order.
    range: Range<u32>,
}

impl OrderWindow {
    /// From now on, pieces are begun in this order.
    pub(super) fn set(&mut self, order: Order, wanted: &Bitfield, have: &Bitfield, layout: &Layout) {
        self.order = order;
        self.range = match order {
            Order::Rarest => 0..0,
            Order::Window { next, length } => {
                next.0.min(wanted.len())..next.0.saturating_add(length).min(wanted.len())
            }
            Order::Sequential => {
                let length = window_length(layout);
                0..(0..length).fold(0, |end, _| after_next(wanted, end))
            }
        };
        self.follow(wanted, have);
    }

    /// Of a sequence, the window begins with the first piece that is missing, and has the same number of wanted pieces until the end
    /// is reached. Each piece is looked at twice in all.
    pub(super) fn follow(&mut self, wanted: &Bitfield, have: &Bitfield) {
        if self.order != Order::Sequential {
            return;
        }
        while let Some(first) = self.range.clone().next().map(PieceIndex)
            && (!wanted.contains(first) || have.contains(first))
        {
            self.range.start += 1;
            if wanted.contains(first) {
                self.range.end = after_next(wanted, self.range.end);
            }
        }
    }

    /// The pieces that come first, wanted or not, there or not.
    pub(super) fn range(&self) -> Range<u32> {
        self.range.clone()
    }
}

/// The piece after the next one from `from` on that is wanted; the end if there is none.
fn after_next(wanted: &Bitfield, from: u32) -> u32 {
    let next = wanted.first_common(wanted, from..wanted.len());
    next.map_or(wanted.len(), |piece| piece.0 + 1)
}

impl Swarm {
    /// From now on, pieces are begun in this order. What is asked for already stays asked for.
    pub(super) fn set_order(&mut self, order: Order) {
        self.window.set(order, &self.wanted, &self.have, &self.config.layout);
        self.wake_idle();
    }

    /// The first block of the window that a peer can be asked for: of a piece that is begun, or else of a new one; before a new one,
    /// one of the first pieces that somebody else is far too slow with.
    pub(super) fn next_in_window(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let window = self.window.range();
        // Nobody is to wait for whom it is not known of whether it sends anything.
        let peer = self.peers.get(&key).filter(|peer| !window.is_empty() && !peer.snubbed)?;
        let may_begin = !peer.peer_choking && !self.is_crowded();
        let new = if may_begin { self.picker.first_open(&peer.pieces, window.clone()) } else { None };
        let before = window.start..new.map_or(window.end, |piece| piece.0);
        let begun = self.pieces.with_free_blocks_in(before, key).find(|&piece| peer.may_be_asked_for(piece));
        let block = begun.and_then(|piece| self.pieces.request(&self.config.layout, piece, key));
        if let Some(block) = block.or_else(|| self.late_block(now, key)) {
            return Some(block);
        }
        let piece = new.filter(|&piece| self.take_memory(piece))?;
        self.begin_piece(now, piece, key)
    }

    /// A block of the first pieces that are missing of the window, if this peer should have it in a fraction of the time that those
    /// need who were asked for it.
    fn late_block(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let tries = self.urgent_blocks();
        self.ask_too(now, key, END_GAME_GAIN, tries.into_iter())
    }

    /// The first blocks of the window that are asked for and not here.
    pub(super) fn urgent_blocks(&self) -> Vec<Block> {
        let pieces = (URGENT / u64::from(self.config.layout.piece_length())).max(1) as usize;
        let requested = self.pieces.requested_in(&self.config.layout, self.window.range(), pieces);
        requested.take(MAX_LOOKED_AT).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::BLOCK_LENGTH;

    fn set(len: u32, pieces: impl IntoIterator<Item = u32>) -> Bitfield {
        let mut set = Bitfield::new(len);
        set.extend(pieces.into_iter().map(PieceIndex));
        set
    }

    /// Pieces of 16 MiB, of which a window has four.
    fn layout(pieces: u32) -> Layout {
        Layout::new(16 << 20, [(u64::from(pieces) << 24, false)]).unwrap()
    }

    #[test]
    fn a_sequence_has_a_window_of_wanted_pieces_that_begins_with_the_first_one_missing() {
        let layout = layout(20);
        let wanted = set(20, [0, 1, 2, 6, 7, 8, 9, 19]);
        let mut have = set(20, [0]);
        let mut window = OrderWindow::default();
        window.set(Order::Sequential, &wanted, &have, &layout);
        assert_eq!(window.range(), 1..8);
        for (piece, range) in
            [(7, 1..8), (1, 2..9), (2, 6..10), (6, 8..20), (19, 8..20), (8, 9..20), (9, 20..20)]
        {
            have.insert(PieceIndex(piece));
            window.follow(&wanted, &have);
            assert_eq!(window.range(), range, "{piece}");
        }
        window.set(Order::Window { next: PieceIndex(18), length: 7 }, &wanted, &have, &layout);
        window.follow(&wanted, &have);
        assert_eq!(window.range(), 18..20);
        window.set(Order::Window { next: PieceIndex(u32::MAX), length: 7 }, &wanted, &have, &layout);
        assert!(window.range().is_empty());
    }

    #[test]
    fn a_window_has_64_mib_and_four_pieces_at_the_least() {
        assert_eq!(window_length(&layout(1)), 4);
        assert_eq!(window_length(&Layout::new(BLOCK_LENGTH, [(1, false)]).unwrap()), 4096);
        assert_eq!(window_length(&Layout::new(64 << 20, [(1, false)]).unwrap()), 4);
    }
}
