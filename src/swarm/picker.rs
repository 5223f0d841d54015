//! Which piece to begin next: rarest first and random among equals, or the first of a range.
//!
//! Owns the availability of every piece and the order of those that are wanted and not begun. The
//! cost of a change is constant: pieces lie in buckets by weight class and availability, each bucket
//! in random order, each piece knowing its place. A peer that has everything is a counter.

use std::ops::Range;

use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;

const OUT: u32 = u32::MAX;

/// Looking through the buckets for a piece that the peer has stops being quicker than looking
/// through the peer's own pieces when these are fewer than one in so many of those that may be picked.
const SPARSE: u32 = 32;

/// A piece that weighs so many times less than another does not come before it, unless the peer has
/// nothing heavier.
const FAR: u64 = 1000;

/// Odds of one piece at the most: with as many pieces as a torrent can have, their sum fits 64 bits.
const MAX_ODDS: u64 = 1 << 40;

/// The pieces that are wanted and not begun.
#[derive(Debug)]
pub(super) struct Picker {
    /// The pieces that may be picked.
    open_set: Bitfield,
    /// Peers that have each piece, peers that have everything not counted.
    availability: Vec<u16>,
    /// Place in its bucket; `OUT`: not to be picked.
    place: Vec<u32>,
    class: Vec<u8>,
    /// `buckets[class][availability]`.
    buckets: Vec<Vec<Vec<u32>>>,
    /// Weight of each class, descending.
    weights: Vec<u32>,
    /// Pieces that may be picked, of each class.
    open_in: Vec<u32>,
    open: u32,
    seeds: u32,
    rng: fastrand::Rng,
    looked: Looked,
}

/// In tests, how many pieces were looked at in order to pick.
#[derive(Debug, Default)]
struct Looked(#[cfg(test)] std::cell::Cell<u32>);

impl Looked {
    fn add(&self, _pieces: u32) {
        #[cfg(test)]
        self.0.set(self.0.get() + _pieces);
    }
}

impl Picker {
    /// All of `wanted` that is not in `have` may be picked. `weights` gives a weight for each piece
    /// (0 counts as 1); empty: all alike. More than 255 different weights are told apart coarsely.
    pub(super) fn new(wanted: &Bitfield, have: &Bitfield, weights: &[u32], seed: u64) -> Picker {
        let pieces = wanted.len();
        let mut picker = Picker {
            open_set: Bitfield::new(pieces),
            availability: vec![0; pieces as usize],
            place: vec![OUT; pieces as usize],
            class: Vec::new(),
            buckets: Vec::new(),
            open_in: Vec::new(),
            weights: Vec::new(),
            open: 0,
            seeds: 0,
            rng: fastrand::Rng::with_seed(seed),
            looked: Looked::default(),
        };
        picker.set_wanted(&wanted.difference(have), weights);
        picker
    }

    /// From now on, these pieces may be picked, with these weights as in [`Picker::new`]. What peers have stays known.
    pub(super) fn set_wanted(&mut self, open: &Bitfield, weights: &[u32]) {
        let mut classes: Vec<u32> = weights.iter().map(|&weight| weight.max(1)).collect();
        classes.sort_unstable_by(|a, b| b.cmp(a));
        classes.dedup();
        if classes.is_empty() {
            classes.push(1);
        }
        let stride = classes.len().div_ceil(255);
        let class_of =
            |weight: u32| (classes.partition_point(|&other| other > weight.max(1)) / stride).min(254) as u8;
        let pieces = self.place.len();
        self.class = (0..pieces).map(|i| weights.get(i).map_or(0, |&weight| class_of(weight))).collect();
        self.weights = classes.into_iter().step_by(stride).collect();
        self.buckets = vec![vec![Vec::new()]; self.weights.len()];
        self.open_in = vec![0; self.weights.len()];
        self.open = 0;
        self.open_set = Bitfield::new(pieces as u32);
        self.place.fill(OUT);
        open.iter().for_each(|piece| self.open_piece(piece));
    }

    /// The first piece of `range` that may be picked and that the peer has.
    pub(super) fn first_open(&self, pieces: &Bitfield, range: Range<u32>) -> Option<PieceIndex> {
        self.open_set.first_common(pieces, range)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u32 {
        self.open
    }

    /// Whether none may be picked.
    pub(super) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Whether no piece may be picked that anybody has.
    pub(super) fn is_exhausted(&self) -> bool {
        let unavailable: usize = self.buckets.iter().filter_map(|class| class.first()).map(Vec::len).sum();
        self.open == 0 || (self.seeds == 0 && unavailable == self.open as usize)
    }

    /// Whether `piece` may be picked.
    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.place[piece.0 as usize] != OUT
    }

    /// Whether `piece` may be picked, and no piece that is [`FAR`] heavier.
    pub(super) fn is_due(&self, piece: PieceIndex) -> bool {
        let weight = self.weights[usize::from(self.class[piece.0 as usize])];
        self.contains(piece) && u64::from(weight) * FAR > self.heaviest()
    }

    /// The weight of the heaviest pieces that may be picked.
    fn heaviest(&self) -> u64 {
        let class = self.open_in.iter().position(|&open| open > 0);
        class.map_or(0, |class| u64::from(self.weights[class]))
    }

    #[cfg(test)]
    pub(super) fn availability(&self, piece: PieceIndex) -> u32 {
        u32::from(self.availability[piece.0 as usize]) + self.seeds
    }

    /// Whether nobody but the counted seeds has `piece`.
    pub(super) fn only_seeds_have(&self, piece: PieceIndex) -> bool {
        self.availability[piece.0 as usize] == 0
    }

    /// Whether one peer alone has `piece`, counted seeds left out.
    pub(super) fn only_one_has(&self, piece: PieceIndex) -> bool {
        self.availability[piece.0 as usize] == 1
    }

    /// Whether any peer is counted as one that has everything.
    pub(super) fn has_seeds(&self) -> bool {
        self.seeds > 0
    }

    /// Whether there is a piece that may be picked and that seeds alone have.
    pub(super) fn has_scarce(&self) -> bool {
        self.seeds > 0 && self.buckets.iter().filter_map(|class| class.first()).any(|level| !level.is_empty())
    }

    /// Whether `piece` may be picked and none that may weighs more.
    pub(super) fn weighs_most(&self, piece: PieceIndex) -> bool {
        let heavier = &self.open_in[..usize::from(self.class[piece.0 as usize])];
        self.contains(piece) && heavier.iter().all(|&open| open == 0)
    }

    /// `piece` may be picked (again).
    pub(super) fn open_piece(&mut self, piece: PieceIndex) {
        let index = piece.0 as usize;
        if self.place[index] != OUT {
            return;
        }
        self.open += 1;
        self.open_set.insert(piece);
        self.open_in[usize::from(self.class[index])] += 1;
        let level = usize::from(self.availability[index]);
        let class = &mut self.buckets[usize::from(self.class[index])];
        if class.len() <= level {
            class.resize_with(level + 1, Vec::new);
        }
        let bucket = &mut class[level];
        // A random place keeps the bucket shuffled whatever the order of arrivals.
        let at = self.rng.usize(..=bucket.len());
        bucket.push(piece.0);
        let last = bucket.len() - 1;
        bucket.swap(at, last);
        self.place[bucket[last] as usize] = last as u32;
        self.place[bucket[at] as usize] = at as u32;
    }

    /// `piece` is begun, or not wanted any more.
    pub(super) fn close_piece(&mut self, piece: PieceIndex) {
        let index = piece.0 as usize;
        let at = std::mem::replace(&mut self.place[index], OUT);
        if at == OUT {
            return;
        }
        self.open -= 1;
        self.open_set.remove(piece);
        self.open_in[usize::from(self.class[index])] -= 1;
        let bucket = &mut self.buckets[usize::from(self.class[index])][usize::from(self.availability[index])];
        bucket.swap_remove(at as usize);
        if let Some(&moved) = bucket.get(at as usize) {
            self.place[moved as usize] = at;
        }
    }

    /// A peer has `piece` now.
    pub(super) fn on_have(&mut self, piece: PieceIndex) {
        self.shift(piece, |availability| availability.saturating_add(1));
    }

    /// A peer that is not counted as one that has everything has `piece` no more.
    pub(super) fn on_lost(&mut self, piece: PieceIndex) {
        self.shift(piece, |availability| availability.saturating_sub(1));
    }

    /// A peer that has `pieces` came.
    pub(super) fn on_join(&mut self, pieces: &Bitfield) {
        if pieces.is_full() {
            self.seeds += 1;
        } else {
            pieces.iter().for_each(|piece| self.on_have(piece));
        }
    }

    /// A peer left; `pieces` and `joined_full` as they were counted.
    pub(super) fn on_leave(&mut self, pieces: &Bitfield, counted_as_seed: bool) {
        if counted_as_seed {
            self.seeds = self.seeds.saturating_sub(1);
        } else {
            pieces.iter().for_each(|piece| self.on_lost(piece));
        }
    }

    fn shift(&mut self, piece: PieceIndex, change: impl Fn(u16) -> u16) {
        let index = piece.0 as usize;
        let open = self.contains(piece);
        self.close_piece(piece);
        self.availability[index] = change(self.availability[index]);
        if open {
            self.open_piece(piece);
        }
    }

    /// The piece to begin with a peer that has `pieces`: a weight class drawn with odds that grow
    /// with the number of its pieces and the square of their weight (a class that is [`FAR`] lighter
    /// than another has none), then the rarest in it. It is not taken out.
    ///
    /// `interesting` is how many of the peer's pieces may be of use: it decides how to look.
    pub(super) fn rarest(&mut self, pieces: &Bitfield, interesting: u32) -> Option<PieceIndex> {
        if self.open == 0 {
            return None;
        }
        if interesting < self.open / SPARSE {
            return self.rarest_of_few(pieces);
        }
        // What nobody but the counted seeds has, a peer that is none of them does not have.
        let least = usize::from(!pieces.is_full());
        let first = self.draw_class();
        let rest = (0..self.buckets.len()).filter(|&class| class != first);
        std::iter::once(first).chain(rest).find_map(|class| {
            let levels = self.buckets[class].iter().skip(least);
            let candidates = levels.flatten().map(|&index| PieceIndex(index));
            candidates.inspect(|_| self.looked.add(1)).find(|&piece| pieces.contains(piece))
        })
    }

    /// A piece that nobody but the counted seeds has, of a class drawn as in [`Picker::rarest`]: of the first `most` the one of the least `turn`.
    pub(super) fn scarcest<T: Ord>(
        &mut self,
        pieces: &Bitfield,
        most: usize,
        turn: impl Fn(PieceIndex) -> T,
    ) -> Option<PieceIndex> {
        if self.open == 0 {
            return None;
        }
        let class = self.draw_class();
        let scarce = self.buckets[class].first()?.iter().map(|&index| PieceIndex(index));
        scarce.filter(|&piece| pieces.contains(piece)).take(most).min_by_key(|&piece| turn(piece))
    }

    /// The first of the pieces that may be picked, of `pieces`, each the next of the one before: of `most` of them, or the most that there are in
    /// a row. Looks from `from` on, and from the beginning after that. The first one of `window` comes before.
    pub(super) fn run_start(
        &mut self,
        pieces: &Bitfield,
        from: u32,
        most: u32,
        window: Range<u32>,
    ) -> Option<PieceIndex> {
        let end = pieces.len();
        if let Some(first) = self.first_open(pieces, window) {
            return Some(first);
        }
        let class = self.draw_class() as u8;
        let is_of_class = |picker: &Picker, piece: u32| picker.class[piece as usize] == class;
        let behind = self.longest_row(pieces, from..end, most, |piece| is_of_class(self, piece));
        let before = match &behind {
            Some(row) if row.len() as u32 >= most => None,
            _ => self.longest_row(pieces, 0..from.min(end), most, |piece| is_of_class(self, piece)),
        };
        let row = behind.into_iter().chain(before).max_by_key(|row| row.len());
        // The class that was drawn has nothing for this web seed: whatever there is.
        row.or_else(|| self.longest_row(pieces, from..end, most, |_| true))
            .or_else(|| self.longest_row(pieces, 0..end, most, |_| true))
            .map(|row| PieceIndex(row.start))
    }

    /// The first row of `most` such pieces in `range`, or the longest.
    fn longest_row(
        &self,
        pieces: &Bitfield,
        range: Range<u32>,
        most: u32,
        may: impl Fn(u32) -> bool,
    ) -> Option<Range<u32>> {
        let mut longest: Option<Range<u32>> = None;
        let mut at = range.start;
        while let Some(PieceIndex(first)) = self.open_set.first_common(pieces, at..range.end) {
            let row = self.row_at(first, pieces, range.end, most, &may);
            at = row.end.max(first + 1);
            if longest.as_ref().is_none_or(|longest| row.len() > longest.len()) && !row.is_empty() {
                longest = Some(row);
            }
            if longest.as_ref().is_some_and(|longest| longest.len() as u32 >= most) {
                break;
            }
        }
        longest
    }

    /// The pieces in a row from `first` on that may be picked: `most` at the most.
    fn row_at(
        &self,
        first: u32,
        pieces: &Bitfield,
        end: u32,
        most: u32,
        may: impl Fn(u32) -> bool,
    ) -> Range<u32> {
        let is_open = |&piece: &u32| self.contains(PieceIndex(piece)) && pieces.contains(PieceIndex(piece));
        let row =
            (first..end.min(first.saturating_add(most))).take_while(|piece| is_open(piece) && may(*piece));
        first..first + row.count() as u32
    }

    /// Any piece that the peer has, each with the same odds: for the first pieces, when having
    /// something to trade soon matters more than its rarity.
    pub(super) fn random(&mut self, pieces: &Bitfield) -> Option<PieceIndex> {
        let first = self.draw_class();
        let rest = (0..self.buckets.len()).filter(|&class| class != first);
        std::iter::once(first).chain(rest).find_map(|class| {
            let level_count = self.buckets[class].len();
            let start = self.rng.usize(..level_count);
            (0..level_count).find_map(|step| {
                let bucket = &self.buckets[class][(start + step) % level_count];
                bucket.iter().map(|&index| PieceIndex(index)).find(|&piece| pieces.contains(piece))
            })
        })
    }

    /// A piece that is as good to begin as `picked`, with the peer that has `pieces`, and lies beside others that are begun now: the
    /// one after `last`, in the same group of `group` pieces; else the first of the row of such pieces that ends with `picked`, in
    /// its group. As good is what weighs as much, and what as many peers have.
    pub(super) fn beside(
        &self,
        pieces: &Bitfield,
        picked: PieceIndex,
        last: Option<PieceIndex>,
        group: u32,
    ) -> PieceIndex {
        let key = |piece: u32| (self.class[piece as usize], self.availability[piece as usize]);
        let is_as_good = |&piece: &u32| {
            let index = PieceIndex(piece);
            pieces.contains(index) && self.contains(index) && key(piece) == key(picked.0)
        };
        let next = last.map(|last| last.0 + 1).filter(|next| *next < pieces.len() && next % group != 0);
        let first = || (picked.0 / group * group..picked.0).rev().take_while(is_as_good).last();
        PieceIndex(next.filter(is_as_good).or_else(first).unwrap_or(picked.0))
    }

    fn rarest_of_few(&mut self, pieces: &Bitfield) -> Option<PieceIndex> {
        let candidates = self.open_set.common(pieces).inspect(|_| self.looked.add(1));
        let key = |piece: PieceIndex| {
            let index = piece.0 as usize;
            (self.class[index], self.availability[index], self.place[index])
        };
        candidates.min_by_key(|&piece| key(piece))
    }

    fn draw_class(&mut self) -> usize {
        if self.buckets.len() == 1 {
            return 0;
        }
        let heaviest = self.heaviest();
        let odds = |class: usize| {
            let weight = u64::from(self.weights[class]);
            let odds = u64::from(self.open_in[class]) * weight.pow(2).min(MAX_ODDS);
            if weight * FAR > heaviest { odds } else { 0 }
        };
        let odds: Vec<u64> = (0..self.weights.len()).map(odds).collect();
        let mut ticket = self.rng.u64(..odds.iter().sum::<u64>().max(1));
        for (class, odds) in odds.into_iter().enumerate() {
            if ticket < odds {
                return class;
            }
            ticket -= odds;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(len: u32, pieces: impl IntoIterator<Item = u32>) -> Bitfield {
        let mut set = Bitfield::new(len);
        pieces.into_iter().for_each(|piece| {
            set.insert(PieceIndex(piece));
        });
        set
    }

    fn picker(len: u32, seed: u64) -> Picker {
        Picker::new(&Bitfield::full(len), &Bitfield::new(len), &[], seed)
    }

    #[test]
    fn the_rarest_piece_that_the_peer_has_comes_first() {
        let mut picker = picker(10, 1);
        picker.on_join(&set(10, [0, 1, 2, 3, 4]));
        picker.on_join(&set(10, [0, 1, 2, 3]));
        picker.on_join(&Bitfield::full(10));
        let peer = set(10, [0, 1, 2, 3, 4]);
        assert_eq!(picker.rarest(&peer, 5), Some(PieceIndex(4)));
        picker.close_piece(PieceIndex(4));
        assert!(picker.rarest(&peer, 4).is_some_and(|piece| piece.0 < 4));
        assert_eq!(picker.availability(PieceIndex(0)), 3);
    }

    #[test]
    fn ties_are_broken_differently_by_different_seeds() {
        let all = Bitfield::full(1000);
        let firsts: std::collections::BTreeSet<_> =
            (0..50).map(|seed| picker(1000, seed).rarest(&all, 1000).unwrap()).collect();
        assert!(firsts.len() > 40, "{firsts:?}");
    }

    #[test]
    fn few_and_many_interesting_pieces_give_equally_rare_ones() {
        let mut picker = picker(1000, 3);
        picker.on_join(&set(1000, 0..999));
        let peer = set(1000, [5, 999]);
        picker.on_join(&peer);
        assert_eq!(picker.rarest(&peer, 2), Some(PieceIndex(999)));
        assert_eq!(picker.rarest(&peer, 1000), Some(PieceIndex(999)));
    }

    #[test]
    fn pieces_that_are_as_rare_are_begun_in_rows_of_a_group() {
        for seed in 0..50 {
            let mut picker = picker(100, seed);
            let all = Bitfield::full(100);
            picker.on_join(&all);
            // One is rarer, and two are commoner.
            picker.on_join(&set(100, (0..100).filter(|&piece| piece != 37)));
            picker.on_join(&set(100, [50, 99]));
            let (mut picks, mut last) = (Vec::new(), None);
            while let Some(picked) = picker.rarest(&all, 100) {
                let piece = picker.beside(&all, picked, last, 16);
                assert_eq!(picker.availability(piece), picker.availability(picked), "seed {seed}");
                picker.close_piece(piece);
                picks.push(piece.0);
                last = Some(piece);
            }
            assert_eq!((picks.len(), picks[0]), (100, 37), "seed {seed}");
            assert!(picks[98..].iter().all(|piece| [50, 99].contains(piece)), "seed {seed}: {picks:?}");
            // What comes after the rarer one goes on from there; the rows are those of the groups, broken by what is not as rare.
            let rows = picks.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() + 1;
            assert!(rows <= 7 + 4, "seed {seed}: {rows} rows in {picks:?}");
        }
    }

    #[test]
    fn a_row_goes_by_what_the_peer_has_and_what_is_open() {
        let mut picker = picker(64, 1);
        let pieces = set(64, (0..64).filter(|&piece| piece != 18));
        picker.on_join(&Bitfield::full(64));
        let beside = |picker: &Picker, picked, last: Option<u32>| {
            picker.beside(&pieces, PieceIndex(picked), last.map(PieceIndex), 16).0
        };
        assert_eq!(beside(&picker, 22, None), 19);
        assert_eq!(beside(&picker, 5, None), 0);
        assert_eq!(beside(&picker, 5, Some(40)), 41);
        assert_eq!(beside(&picker, 5, Some(17)), 0, "the peer has not the next one");
        assert_eq!(beside(&picker, 5, Some(47)), 0, "the next one is of another group");
        assert_eq!(beside(&picker, 63, Some(63)), 48, "there is no next one");
        picker.close_piece(PieceIndex(41));
        assert_eq!(beside(&picker, 45, Some(40)), 42);
    }

    #[test]
    fn a_pick_at_the_end_is_as_much_work_as_one_at_the_beginning() {
        for pieces in [10_000u32, 100_000, 1_000_000] {
            let all = Bitfield::full(pieces);
            let half = set(pieces, (0..pieces).filter(|piece| piece / 40 % 2 == 0));
            let few = set(pieces, (0..pieces).filter(|piece| piece % 4000 == 0));
            let missing = set(pieces, (0..pieces).filter(|piece| piece % 40 == 0));
            let mut picker = Picker::new(&missing, &Bitfield::new(pieces), &[], 1);
            [&all, &half, &few].into_iter().for_each(|peer| picker.on_join(peer));
            for (peer, most) in [(&all, 1), (&half, 20), (&few, pieces.div_ceil(4000))] {
                let interesting = missing.common(peer).count() as u32;
                for _ in 0..20.min(interesting) {
                    picker.looked = Looked::default();
                    let piece = picker.rarest(peer, interesting).unwrap();
                    let looked = picker.looked.0.get();
                    assert!(looked <= most, "{looked} of {pieces} pieces looked at");
                    picker.close_piece(piece);
                }
            }
        }
    }

    #[test]
    fn the_first_of_a_range_is_found_also_after_pieces_came_back() {
        let mut picker = picker(300, 1);
        let all = Bitfield::full(300);
        for piece in 0..200 {
            assert_eq!(picker.first_open(&all, 0..300), Some(PieceIndex(piece)));
            picker.close_piece(PieceIndex(piece));
        }
        assert_eq!(picker.first_open(&set(300, [0, 250]), 0..300), Some(PieceIndex(250)));
        assert_eq!(picker.first_open(&set(300, [0, 250]), 0..250), None);
        picker.open_piece(PieceIndex(70));
        assert_eq!(picker.first_open(&all, 0..300), Some(PieceIndex(70)));
        assert_eq!(picker.first_open(&all, 71..300), Some(PieceIndex(200)));
    }

    /// What is picked of all that a seed has, in order.
    fn all_picks(weights: &[u32], seed: u64) -> Vec<u32> {
        let pieces = weights.len() as u32;
        let all = Bitfield::full(pieces);
        let mut picker = Picker::new(&all, &Bitfield::new(pieces), weights, seed);
        picker.on_join(&all);
        let next = || {
            let piece = picker.rarest(&all, pieces)?;
            picker.close_piece(piece);
            Some(piece.0)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_far_heavier_piece_always_comes_first() {
        let weights: Vec<u32> = (0..3000).map(|piece| if piece % 100 == 7 { 1000 } else { 1 }).collect();
        for seed in 0..20 {
            let picks = all_picks(&weights, seed);
            assert!(picks.len() == 3000 && picks[..30].iter().all(|piece| piece % 100 == 7), "seed {seed}");
        }
    }

    #[test]
    fn the_odds_of_a_piece_grow_with_its_weight_however_many_weigh_the_same() {
        // One piece of weight 1, two of 3, forty of 2.
        let weights: Vec<u32> = [1, 3, 3].into_iter().chain([2; 40]).collect();
        let mut firsts = [0; 4];
        for seed in 0..4000 {
            firsts[weights[all_picks(&weights, seed)[0] as usize] as usize] += 1;
        }
        let each = [f64::from(firsts[1]), f64::from(firsts[2]) / 40.0, f64::from(firsts[3]) / 2.0];
        assert!(2.0 * each[0] < each[1] && 1.5 * each[1] < each[2], "{each:?}");
    }

    #[test]
    fn among_pieces_of_one_weight_the_rarest_comes_first() {
        let weights: Vec<u32> = (0..200).map(|piece| if piece < 100 { 5000 } else { 2 }).collect();
        let all = Bitfield::full(200);
        let mut picker = Picker::new(&all, &Bitfield::new(200), &weights, 5);
        picker.on_join(&all);
        // Whole tens are rare, the heavy ones too.
        picker.on_join(&set(200, (0..200).filter(|piece| piece % 10 != 0)));
        let mut picks = Vec::new();
        while let Some(piece) = picker.rarest(&all, 200) {
            picker.close_piece(piece);
            picks.push(piece.0);
        }
        for (part, heavy) in [(&picks[..100], true), (&picks[100..], false)] {
            assert!(part.iter().all(|&piece| (piece < 100) == heavy));
            assert!(part[..10].iter().all(|piece| piece % 10 == 0), "{part:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_right_after_any_changes(ops in prop::collection::vec((0u8..4, 0u32..40), 0..200), seed: u64) {
            let mut picker = picker(40, seed);
            let mut counts = [0u16; 40];
            let mut open = std::collections::BTreeSet::from_iter(0..40u32);
            let mut peers: Vec<Bitfield> = Vec::new();
            for (op, piece) in ops {
                match op {
                    0 => { picker.open_piece(PieceIndex(piece)); open.insert(piece); }
                    1 => { picker.close_piece(PieceIndex(piece)); open.remove(&piece); }
                    2 => { picker.on_have(PieceIndex(piece)); counts[piece as usize] += 1; }
                    _ if piece % 2 == 0 => {
                        let pieces = set(40, (piece..40).step_by(3));
                        picker.on_join(&pieces);
                        pieces.iter().for_each(|p| counts[p.0 as usize] += 1);
                        peers.push(pieces);
                    }
                    _ => if let Some(pieces) = peers.pop() {
                        picker.on_leave(&pieces, false);
                        pieces.iter().for_each(|p| counts[p.0 as usize] -= 1);
                    }
                }
                let least = open.iter().map(|&p| counts[p as usize]).min();
                for interesting in [0, 40] {
                    let got = picker.rarest(&Bitfield::full(40), interesting);
                    prop_assert_eq!(got.map(|p| counts[p.0 as usize]), least);
                }
                prop_assert_eq!(picker.random(&Bitfield::full(40)).is_some(), !open.is_empty());
                prop_assert_eq!(picker.len() as usize, open.len());
            }
        }
    }
}
