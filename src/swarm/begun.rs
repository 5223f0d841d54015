//! Pieces that are begun: which of their blocks are here, with their data, asked for, or free.

mod piece;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use super::rate::RateMeter;
use crate::blocks::BlockData;
use crate::ids::{PeerKey, Source};
use crate::layout::{Block, Layout, PieceIndex};
use piece::{BegunPiece, BlockState};

/// Peers that may be asked for one block at the same time, in the end game; each is to be far quicker
/// than all before it.
const MAX_REQUESTERS: usize = 6;

/// Who has sent a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// The connection that it came over.
    pub peer: PeerKey,
    /// The same for when the connection is gone.
    pub source: Source,
    /// It may be asked for more of the piece.
    pub goes_on: bool,
}

/// What became of a block that arrived.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Not needed: here already, or its piece is not begun. The data are given back.
    Unneeded(BlockData),
    /// Its data wait for the rest of their piece now.
    Kept {
        /// Those who were asked for it too: to be sent a cancel.
        others: Vec<PeerKey>,
        /// All blocks of the piece are here.
        whole: bool,
    },
}

/// A begun piece of which all blocks are here.
#[derive(Debug, Default)]
pub(super) struct WholePiece {
    /// Who sent each of its blocks, in order.
    pub senders: Vec<Source>,
    /// The data of its blocks, in order.
    pub blocks: Vec<BlockData>,
    /// What the rate of the download owes to them.
    pub rate: RateMeter,
}

/// All pieces that are begun, each until its hash is known.
#[derive(Debug, Default)]
pub(super) struct BegunPieces {
    begun: BTreeMap<PieceIndex, BegunPiece>,
    /// The begun pieces that have a free block.
    open: BTreeSet<PieceIndex>,
    /// Begun pieces that failed their hash before: one peer alone is to fill each, so that it is known whom to blame
    /// if it fails again. The peer is named once it is asked for a block, and stays until it will not go on.
    alone: BTreeMap<PieceIndex, Option<PeerKey>>,
    /// The further requesters of a block, in the end game.
    extra: BTreeMap<Block, Vec<PeerKey>>,
    /// Who may still send a block though it was given back, for they were snubbed.
    late: BTreeMap<Block, Vec<PeerKey>>,
    free: u64,
    requested: u64,
    here: u64,
}

impl BegunPieces {
    /// Blocks that are asked for and not here.
    pub(super) fn requested_blocks(&self) -> u64 {
        self.requested
    }

    /// How many pieces are begun.
    pub(super) fn len(&self) -> usize {
        self.begun.len()
    }

    /// The begun pieces.
    pub(super) fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.begun.keys().copied()
    }

    /// Whether `piece` is begun.
    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.begun.contains_key(&piece)
    }

    /// Begins `piece`. `exclusive`: let one peer fill it alone (it failed its hash before).
    pub(super) fn begin(&mut self, now: Instant, layout: &Layout, piece: PieceIndex, exclusive: bool) {
        let begun = BegunPiece::new(now, layout.num_blocks(piece));
        self.free += u64::from(begun.free);
        self.begun.insert(piece, begun);
        self.open.insert(piece);
        if exclusive {
            self.alone.insert(piece, None);
        }
    }

    /// The begun pieces of which no block has come since `then`.
    pub(super) fn untouched_since(&self, then: Instant) -> Vec<PieceIndex> {
        self.begun.iter().filter(|(_, progress)| progress.touched <= then).map(|(&piece, _)| piece).collect()
    }

    /// Blocks of begun pieces that are here: what waits in memory.
    pub(super) fn blocks_waiting(&self) -> u64 {
        self.here
    }

    /// How many begun pieces have a free block.
    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The begun pieces that have a free block which `peer` may be asked for, oldest index first.
    pub(super) fn with_free_blocks(&self, peer: PeerKey) -> impl Iterator<Item = PieceIndex> + '_ {
        self.open.iter().copied().filter(move |&piece| self.is_open_to(piece, peer))
    }

    /// The same, of those of a range.
    pub(super) fn with_free_blocks_in(
        &self,
        range: Range<u32>,
        peer: PeerKey,
    ) -> impl Iterator<Item = PieceIndex> + '_ {
        let range = PieceIndex(range.start)..PieceIndex(range.end.max(range.start));
        self.open.range(range).copied().filter(move |&piece| self.is_open_to(piece, peer))
    }

    /// The blocks that are asked for of the first `pieces` begun pieces of a range, in order.
    pub(super) fn requested_in<'a>(
        &'a self,
        layout: &'a Layout,
        range: Range<u32>,
        pieces: usize,
    ) -> impl Iterator<Item = Block> + 'a {
        let range = PieceIndex(range.start)..PieceIndex(range.end.max(range.start));
        self.begun.range(range).take(pieces).flat_map(move |(&piece, progress)| {
            let numbered = (0..).zip(&progress.blocks);
            let requested = numbered.filter(|(_, state)| matches!(state, BlockState::Requested(_)));
            requested.map(move |(number, _)| layout.block(piece, number))
        })
    }

    /// The first free block of a begun piece.
    pub(super) fn first_free(&self, layout: &Layout, piece: PieceIndex) -> Option<Block> {
        Some(layout.block(piece, self.begun.get(&piece)?.first_free()?))
    }

    fn is_open_to(&self, piece: PieceIndex, peer: PeerKey) -> bool {
        self.alone.get(&piece).copied().flatten().is_none_or(|only| only == peer)
    }

    /// `peer` was asked for a block of `piece`, and nobody else is from now on if it is to be filled by one alone.
    fn take_alone(&mut self, piece: PieceIndex, peer: PeerKey) {
        if let Some(only) = self.alone.get_mut(&piece) {
            *only = Some(peer);
        }
    }

    /// The peer that fills `piece` alone owes no block of it and will not go on, or somebody else has sent one.
    fn leave_alone(&mut self, piece: PieceIndex) {
        let Some(only) = self.alone.get_mut(&piece) else { return };
        match self.begun.get(&piece) {
            Some(progress) if progress.here == 0 => *only = None,
            // What is here stays, and somebody else may go on.
            _ => drop(self.alone.remove(&piece)),
        }
    }

    /// Takes the first free block of `piece` for `peer`.
    pub(super) fn request(&mut self, layout: &Layout, piece: PieceIndex, peer: PeerKey) -> Option<Block> {
        if !self.is_open_to(piece, peer) {
            return None;
        }
        let progress = self.begun.get_mut(&piece).filter(|progress| progress.free > 0)?;
        let number = progress.first_free()?;
        progress.blocks[number as usize] = BlockState::Requested(peer);
        progress.cursor = number + 1;
        progress.free -= 1;
        self.free -= 1;
        self.requested += 1;
        if progress.free == 0 {
            self.open.remove(&piece);
        }
        self.take_alone(piece, peer);
        Some(layout.block(piece, number))
    }

    /// Asks `peer`, too, for a block that others were asked for (end game), of whom so many `silent` ones do not count. False if it may not be.
    pub(super) fn request_too(
        &mut self,
        layout: &Layout,
        block: Block,
        peer: PeerKey,
        silent: usize,
    ) -> bool {
        let Some(number) = layout.block_number(block) else { return false };
        let Some(progress) = self.begun.get(&block.piece) else { return false };
        let BlockState::Requested(first) = progress.blocks[number as usize] else { return false };
        if first == peer || self.alone.contains_key(&block.piece) {
            return false;
        }
        let extra = self.extra.entry(block).or_default();
        if extra.contains(&peer) || (extra.len() + 1).saturating_sub(silent) >= MAX_REQUESTERS {
            return false;
        }
        extra.push(peer);
        true
    }

    /// The peers that were asked for `block`.
    pub(super) fn requesters(&self, layout: &Layout, block: Block) -> impl Iterator<Item = PeerKey> + '_ {
        let state = layout
            .block_number(block)
            .and_then(|number| Some(&self.begun.get(&block.piece)?.blocks[number as usize]));
        let first = if let Some(&BlockState::Requested(first)) = state { Some(first) } else { None };
        first.into_iter().chain(self.extra.get(&block).into_iter().flatten().copied())
    }

    /// `peer` will not send `block`: rejected, choked, snubbed or gone.
    pub(super) fn give_back(&mut self, layout: &Layout, block: Block, peer: PeerKey) {
        let Some(number) = layout.block_number(block) else { return };
        let Some(progress) = self.begun.get_mut(&block.piece) else { return };
        let BlockState::Requested(first) = progress.blocks[number as usize] else { return };
        let mut heir = None;
        if let Some(extra) = self.extra.get_mut(&block) {
            if first == peer {
                heir = extra.pop();
            } else {
                extra.retain(|&other| other != peer);
                heir = Some(first);
            }
            if extra.is_empty() {
                self.extra.remove(&block);
            }
        } else if first != peer {
            return;
        }
        if let Some(heir) = heir {
            progress.blocks[number as usize] = BlockState::Requested(heir);
            return;
        }
        progress.blocks[number as usize] = BlockState::Free;
        progress.cursor = progress.cursor.min(number);
        progress.free += 1;
        self.free += 1;
        self.requested -= 1;
        self.open.insert(block.piece);
        if progress.owed() == 0 {
            self.leave_alone(block.piece);
        }
    }

    /// `peer` is too slow with `block`: others may be asked for it, and if it comes all the same it is
    /// kept.
    pub(super) fn give_up_waiting(&mut self, layout: &Layout, block: Block, peer: PeerKey) {
        self.give_back(layout, block, peer);
        self.late.entry(block).or_default().push(peer);
    }

    /// `block` is not late any more with `peer`. With `wait`, it is waited for again; false if it is
    /// here or somebody else was asked for it.
    pub(super) fn end_lateness(&mut self, layout: &Layout, block: Block, peer: PeerKey, wait: bool) -> bool {
        self.take_late(block, peer);
        let Some(number) = layout.block_number(block) else { return false };
        let is_open = self.is_open_to(block.piece, peer);
        let Some(progress) = self.begun.get_mut(&block.piece) else { return false };
        if !wait || !is_open || !progress.blocks[number as usize].is_free() {
            return false;
        }
        progress.blocks[number as usize] = BlockState::Requested(peer);
        progress.free -= 1;
        self.free -= 1;
        self.requested += 1;
        if progress.free == 0 {
            self.open.remove(&block.piece);
        }
        self.take_alone(block.piece, peer);
        true
    }

    /// `block` is not late with `peer` any more. False if it was not.
    fn take_late(&mut self, block: Block, peer: PeerKey) -> bool {
        let Some(late) = self.late.get_mut(&block) else { return false };
        let count = late.len();
        late.retain(|&other| other != peer);
        let was_late = late.len() < count;
        if late.is_empty() {
            self.late.remove(&block);
        }
        was_late
    }

    /// Whether `peer` was asked for `block` and may still send it, be it in time or late.
    pub(super) fn is_owed(&self, layout: &Layout, block: Block, peer: PeerKey) -> bool {
        self.requesters(layout, block).any(|other| other == peer)
            || self.late.get(&block).is_some_and(|late| late.contains(&peer))
    }

    /// `peer` will not go on with pieces that it fills alone and owes no block of: it chokes us, is too slow, or gone.
    pub(super) fn release_exclusive(&mut self, peer: PeerKey) {
        let is_left = |piece: &PieceIndex, only: Option<PeerKey>| {
            only == Some(peer) && self.begun.get(piece).is_none_or(|progress| progress.owed() == 0)
        };
        let left: Vec<PieceIndex> = self
            .alone
            .iter()
            .filter(|&(piece, &only)| is_left(piece, only))
            .map(|(&piece, _)| piece)
            .collect();
        left.into_iter().for_each(|piece| self.leave_alone(piece));
    }

    /// `block` arrived.
    ///
    /// A block that nobody asked for is taken, too, if it is needed, but not of a piece that one peer is to fill alone:
    /// whoever sends one could hold it for ever.
    pub(super) fn on_block(
        &mut self,
        now: Instant,
        layout: &Layout,
        block: Block,
        sender: Sender,
        data: BlockData,
    ) -> Arrival {
        let Sender { peer, source, goes_on } = sender;
        let was_late = self.take_late(block, peer);
        let Some(number) = layout.block_number(block) else { return Arrival::Unneeded(data) };
        let only = self.alone.get(&block.piece).copied();
        let Some(progress) = self.begun.get_mut(&block.piece) else { return Arrival::Unneeded(data) };
        let is_taken = match (only, &progress.blocks[number as usize]) {
            (None, _) => true,
            (Some(_), BlockState::Requested(first)) => *first == peer,
            (Some(only), _) => was_late && only.is_none_or(|only| only == peer),
        };
        if !is_taken {
            return Arrival::Unneeded(data);
        }
        let mut others = self.late.remove(&block).unwrap_or_default();
        match progress.blocks[number as usize] {
            BlockState::Here { .. } => return Arrival::Unneeded(data),
            BlockState::Free => {
                progress.free -= 1;
                self.free -= 1;
                if progress.free == 0 {
                    self.open.remove(&block.piece);
                }
            }
            BlockState::Requested(first) => {
                others.push(first);
                others.extend(self.extra.remove(&block).into_iter().flatten());
                self.requested -= 1;
            }
        }
        others.retain(|&other| other != peer);
        progress.rate.add(now, u64::from(block.length));
        progress.put(now, number, source, data);
        self.here += 1;
        let (owed, whole) = (progress.owed(), progress.here as usize == progress.blocks.len());
        match owed > 0 || goes_on {
            true => self.take_alone(block.piece, peer),
            false => self.leave_alone(block.piece),
        }
        Arrival::Kept { others, whole }
    }

    /// A block that an earlier run left on the disk.
    pub(super) fn restore(&mut self, layout: &Layout, block: Block, data: BlockData) {
        let Some(number) = layout.block_number(block) else { return };
        let Some(progress) = self.begun.get_mut(&block.piece) else { return };
        if progress.blocks[number as usize].is_free() {
            progress.free -= 1;
            self.free -= 1;
            if progress.free == 0 {
                self.open.remove(&block.piece);
            }
            progress.put(progress.touched, number, Source::Disk, data);
            self.here += 1;
        }
    }

    /// Ends a piece of which all blocks are here, and gives what it is made of.
    pub(super) fn take_whole(&mut self, piece: PieceIndex) -> WholePiece {
        let Some(progress) = self.end(piece) else { return WholePiece::default() };
        let mut whole = WholePiece { rate: progress.rate, ..WholePiece::default() };
        for block in progress.blocks {
            if let BlockState::Here { sender, data } = block {
                whole.senders.push(progress.senders[sender as usize]);
                whole.blocks.push(data);
            }
        }
        whole
    }

    /// Gives up a begun piece; returns the bytes of it that were here.
    pub(super) fn give_up(&mut self, piece: PieceIndex) -> u64 {
        let blocks = self.end(piece).into_iter().flat_map(|progress| progress.blocks);
        let length = |block| match block {
            BlockState::Here { data, .. } => data.as_slice().len() as u64,
            BlockState::Free | BlockState::Requested(_) => 0,
        };
        blocks.map(length).sum()
    }

    /// Ends all begun pieces, and gives the data of those that have any, each with `None` for a block that is not here.
    pub(super) fn take_all(&mut self) -> BTreeMap<PieceIndex, Vec<Option<BlockData>>> {
        let pieces: Vec<PieceIndex> = self.iter().collect();
        let ended = pieces.into_iter().filter_map(|piece| Some((piece, self.end(piece)?)));
        let with_data = ended.filter(|(_, progress)| progress.here > 0);
        let data = |block| if let BlockState::Here { data, .. } = block { Some(data) } else { None };
        with_data.map(|(piece, progress)| (piece, progress.blocks.into_iter().map(data).collect())).collect()
    }

    /// The data of begun pieces that are here, by the number of their block.
    pub(super) fn data(&self) -> impl Iterator<Item = (PieceIndex, impl Iterator<Item = (u32, &BlockData)>)> {
        self.begun.iter().filter(|(_, progress)| progress.here > 0).map(|(&piece, progress)| {
            let here = (0..).zip(&progress.blocks).filter_map(|(number, block)| match block {
                BlockState::Here { data, .. } => Some((number, data)),
                BlockState::Free | BlockState::Requested(_) => None,
            });
            (piece, here)
        })
    }

    /// `piece` is not begun any more.
    fn end(&mut self, piece: PieceIndex) -> Option<BegunPiece> {
        let progress = self.begun.remove(&piece)?;
        self.open.remove(&piece);
        self.alone.remove(&piece);
        self.free -= u64::from(progress.free);
        self.requested -= u64::from(progress.owed());
        self.here -= u64::from(progress.here);
        let (from, to) = (Block { piece, begin: 0, length: 0 }, PieceIndex(piece.0 + 1));
        let gone: Vec<Block> =
            self.extra.range(from..).map(|(&block, _)| block).take_while(|block| block.piece < to).collect();
        gone.iter().for_each(|block| {
            self.extra.remove(block);
        });
        Some(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: PeerKey = PeerKey(1);
    const B: PeerKey = PeerKey(2);

    fn source(peer: PeerKey) -> Source {
        Source::Peer(([10, 0, 0, peer.0 as u8], 6881).into())
    }

    fn sender(peer: PeerKey, goes_on: bool) -> Sender {
        Sender { peer, source: source(peer), goes_on }
    }

    fn data() -> BlockData {
        BlockData::exact(0)
    }

    fn layout() -> Layout {
        Layout::new(65536, [(150_000, false)]).unwrap()
    }

    #[test]
    fn a_block_given_back_is_the_next_to_be_asked_for() {
        let (layout, mut pieces) = (layout(), BegunPieces::default());
        let piece = PieceIndex(0);
        pieces.begin(Instant::now(), &layout, piece, false);
        let first = pieces.request(&layout, piece, A).unwrap();
        pieces.request(&layout, piece, A).unwrap();
        pieces.give_back(&layout, first, A);
        assert_eq!(pieces.request(&layout, piece, B), Some(first));
    }

    #[test]
    fn in_the_end_game_the_others_are_named_for_their_cancels() {
        let (layout, mut pieces) = (layout(), BegunPieces::default());
        let piece = PieceIndex(2);
        pieces.begin(Instant::now(), &layout, piece, false);
        let block = pieces.request(&layout, piece, A).unwrap();
        pieces.request(&layout, piece, A).unwrap();
        assert!(pieces.request_too(&layout, block, B, 0));
        assert!(!pieces.request_too(&layout, block, B, 0));
        let Arrival::Kept { others, whole } =
            pieces.on_block(Instant::now(), &layout, block, sender(B, true), data())
        else {
            panic!("it is needed")
        };
        assert_eq!((others, whole), (vec![A], false));
        assert!(matches!(
            pieces.on_block(Instant::now(), &layout, block, sender(A, true), data()),
            Arrival::Unneeded(_)
        ));
    }

    #[test]
    fn a_piece_that_failed_is_filled_by_one_peer_alone() {
        let (layout, mut pieces) = (layout(), BegunPieces::default());
        let piece = PieceIndex(0);
        pieces.begin(Instant::now(), &layout, piece, true);
        let block = pieces.request(&layout, piece, A).unwrap();
        assert_eq!(pieces.request(&layout, piece, B), None);
        assert!(!pieces.request_too(&layout, block, B, 0));
        pieces.give_back(&layout, block, A);
        assert_eq!(pieces.request(&layout, piece, B), Some(block));
        assert_eq!(pieces.request(&layout, piece, A), None);
    }

    #[test]
    fn who_owes_a_block_of_a_piece_goes_on_alone_and_who_owes_none_leaves_it() {
        let (layout, mut pieces) = (layout(), BegunPieces::default());
        let piece = PieceIndex(0);
        pieces.begin(Instant::now(), &layout, piece, true);
        let blocks: Vec<Block> = (0..3).filter_map(|_| pieces.request(&layout, piece, A)).collect();
        pieces.give_back(&layout, blocks[0], A);
        assert_eq!(pieces.request(&layout, piece, B), None, "it owes two more");
        pieces.release_exclusive(A);
        assert_eq!(pieces.request(&layout, piece, B), None, "it chokes, and may still send them");
        let last = |pieces: &mut BegunPieces, block| {
            pieces.on_block(Instant::now(), &layout, block, sender(A, false), data())
        };
        assert!(matches!(last(&mut pieces, blocks[1]), Arrival::Kept { .. }));
        assert_eq!(pieces.request(&layout, piece, B), None, "it owes one more");
        assert!(matches!(last(&mut pieces, blocks[2]), Arrival::Kept { .. }));
        assert_eq!(pieces.request(&layout, piece, B), Some(blocks[0]), "it will not go on");
    }

    #[test]
    fn a_block_that_nobody_asked_for_is_not_taken_of_a_piece_that_one_fills_alone() {
        let (layout, mut pieces) = (layout(), BegunPieces::default());
        let piece = PieceIndex(0);
        pieces.begin(Instant::now(), &layout, piece, true);
        let block = layout.block(piece, 1);
        let arrival = pieces.on_block(Instant::now(), &layout, block, sender(A, true), data());
        assert!(matches!(arrival, Arrival::Unneeded(_)), "nobody fills it yet");
        pieces.request(&layout, piece, A).unwrap();
        for peer in [A, B] {
            let arrival = pieces.on_block(Instant::now(), &layout, block, sender(peer, true), data());
            assert!(matches!(arrival, Arrival::Unneeded(_)), "{peer:?}");
        }
    }

    proptest! {
        #[test]
        fn the_counts_are_right_after_any_events(ops in prop::collection::vec((0u8..9, 0u32..3, 0u32..4, 1u64..4), 0..200)) {
            let (layout, mut pieces) = (layout(), BegunPieces::default());
            for (op, piece, number, peer) in ops {
                let (piece, peer) = (PieceIndex(piece), PeerKey(peer));
                let block = layout.block(piece, number.min(layout.num_blocks(piece) - 1));
                match op {
                    0 => if !pieces.contains(piece) { pieces.begin(Instant::now(), &layout, piece, number == 0) },
                    1 => drop(pieces.request(&layout, piece, peer)),
                    2 => drop(pieces.request_too(&layout, block, peer, 0)),
                    3 => pieces.give_back(&layout, block, peer),
                    4 => pieces.release_exclusive(peer),
                    5 => pieces.restore(&layout, block, data()),
                    6 => if pieces.requesters(&layout, block).any(|other| other == peer) {
                        pieces.give_up_waiting(&layout, block, peer);
                    },
                    7 => drop(pieces.end_lateness(&layout, block, peer, number < 2)),
                    _ => if let Arrival::Kept { whole: true, .. } = pieces.on_block(Instant::now(), &layout, block, sender(peer, number < 2), data()) {
                        let whole = pieces.take_whole(piece);
                        prop_assert_eq!(whole.senders.len(), layout.num_blocks(piece) as usize);
                        prop_assert_eq!(whole.blocks.len(), layout.num_blocks(piece) as usize);
                    },
                }
                let states = || pieces.begun.values().flat_map(|progress| &progress.blocks);
                prop_assert_eq!(pieces.free, states().filter(|s| s.is_free()).count() as u64);
                let requested = states().filter(|s| matches!(s, BlockState::Requested(_))).count();
                prop_assert_eq!(pieces.requested, requested as u64);
                let here = states().filter(|s| matches!(s, BlockState::Here { .. })).count();
                prop_assert_eq!(pieces.blocks_waiting(), here as u64);
                prop_assert!(pieces.extra.len() <= requested);
                let open = pieces.begun.iter().filter(|(_, progress)| progress.free > 0);
                prop_assert!(open.map(|(piece, _)| piece).eq(&pieces.open));
                for (piece, only) in &pieces.alone {
                    let progress = &pieces.begun[piece];
                    let asked = progress.blocks.iter().filter_map(|state| match state {
                        BlockState::Requested(peer) => Some(*peer),
                        _ => None,
                    });
                    prop_assert!(asked.into_iter().all(|peer| *only == Some(peer)));
                    prop_assert!(only.is_none() || progress.owed() + progress.here > 0);
                }
                for (piece, progress) in &pieces.begun {
                    let before = &progress.blocks[..progress.cursor as usize];
                    prop_assert!(!before.iter().any(BlockState::is_free), "{:?}", piece);
                }
            }
        }
    }
}
