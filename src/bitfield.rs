//! A set of pieces, and its form on the wire (BEP 3: the high bit of the first byte is piece 0).

use std::ops::Range;

use crate::layout::{Layout, PieceIndex};

/// A set of the pieces `0..len`.
///
/// Kept as 64-bit words with piece 0 in the lowest bit of the first word, so that counting and
/// combining go a word at a time; [`Bitfield::to_wire`] gives the order of BEP 3. Invariant: bits
/// past `len` are 0.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    words: Vec<u64>,
    len: u32,
    ones: u32,
}

impl std::fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitfield({} of {})", self.ones, self.len)
    }
}

impl Bitfield {
    /// The empty set of `len` possible pieces.
    pub fn new(len: u32) -> Bitfield {
        Bitfield { words: vec![0; len.div_ceil(64) as usize], len, ones: 0 }
    }

    /// The set of all `len` pieces.
    pub fn full(len: u32) -> Bitfield {
        let mut all = Bitfield { words: vec![u64::MAX; len.div_ceil(64) as usize], len, ones: len };
        if let (Some(last), true) = (all.words.last_mut(), !len.is_multiple_of(64)) {
            *last = (1 << (len % 64)) - 1;
        }
        all
    }

    /// Reads the payload of a `bitfield` message. `None` if its length is not that of `len` bits
    /// or if a spare bit at the end is set (BEP 3 lets either close the connection).
    pub fn from_wire(len: u32, bytes: &[u8]) -> Option<Bitfield> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        let mut set = Bitfield::new(len);
        for (word, chunk) in set.words.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0u8; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(eight.map(u8::reverse_bits));
        }
        if !len.is_multiple_of(64) && set.words.last().is_some_and(|last| last >> (len % 64) != 0) {
            return None;
        }
        set.ones = set.words.iter().map(|word| word.count_ones()).sum();
        Some(set)
    }

    /// The payload of a `bitfield` message.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            self.words.iter().flat_map(|word| word.to_le_bytes().map(u8::reverse_bits)).collect();
        bytes.truncate(self.len.div_ceil(8) as usize);
        bytes
    }

    /// How many pieces the torrent has.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no piece is in the set.
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// Whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// How many pieces are in the set; costs nothing, it is kept.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether `piece` is in the set; false past the end.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.words.get((piece.0 / 64) as usize).is_some_and(|word| word >> (piece.0 % 64) & 1 == 1)
    }

    /// Adds `piece`; says whether it is new. A piece past the end is not added.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.len || self.contains(piece) {
            return false;
        }
        self.words[(piece.0 / 64) as usize] |= 1 << (piece.0 % 64);
        self.ones += 1;
        true
    }

    /// Takes `piece` out; says whether it was there.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        if !self.contains(piece) {
            return false;
        }
        self.words[(piece.0 / 64) as usize] &= !(1 << (piece.0 % 64));
        self.ones -= 1;
        true
    }

    /// Adds all pieces of a range.
    pub fn insert_range(&mut self, range: Range<u32>) {
        for index in range {
            self.insert(PieceIndex(index));
        }
    }

    /// Adds the pieces of `other`. Both must have the same length, here and below.
    pub fn union_with(&mut self, other: &Bitfield) {
        self.combine(other, |a, b| a | b);
    }

    /// Takes the pieces of `other` out.
    pub fn subtract(&mut self, other: &Bitfield) {
        self.combine(other, |a, b| a & !b);
    }

    /// Takes out the pieces that are not in `other`.
    pub fn intersect_with(&mut self, other: &Bitfield) {
        self.combine(other, |a, b| a & b);
    }

    fn combine(&mut self, other: &Bitfield, of_words: impl Fn(u64, u64) -> u64) {
        debug_assert_eq!(self.len, other.len);
        for (word, &other) in self.words.iter_mut().zip(&other.words) {
            *word = of_words(*word, other);
        }
        self.ones = self.words.iter().map(|word| word.count_ones()).sum();
    }

    /// The pieces that are in this set and not in `other`, as a set; see [`Bitfield::minus`].
    pub fn difference(&self, other: &Bitfield) -> Bitfield {
        let mut difference = self.clone();
        difference.subtract(other);
        difference
    }

    /// The pieces that are not in the set.
    pub fn complement(&self) -> Bitfield {
        Bitfield::full(self.len).difference(self)
    }

    /// The pieces in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.words.iter().enumerate().flat_map(|(number, &word)| ones(number, word))
    }

    /// The pieces that are in this set and not in `other`, ascending. Both must have the same length.
    pub fn minus<'a>(&'a self, other: &'a Bitfield) -> impl Iterator<Item = PieceIndex> + 'a {
        debug_assert_eq!(self.len, other.len);
        let words = self.words.iter().zip(&other.words).enumerate();
        words.flat_map(|(number, (a, b))| ones(number, a & !b))
    }

    /// The pieces that are in this set and in `other`, ascending. Both must have the same length.
    pub fn common<'a>(&'a self, other: &'a Bitfield) -> impl Iterator<Item = PieceIndex> + 'a {
        debug_assert_eq!(self.len, other.len);
        let words = self.words.iter().zip(&other.words).enumerate();
        words.flat_map(|(number, (a, b))| ones(number, a & b))
    }

    /// The first piece of `range` that is in both sets. O(range / 64). Both must have the same length.
    pub fn first_common(&self, other: &Bitfield, range: Range<u32>) -> Option<PieceIndex> {
        debug_assert_eq!(self.len, other.len);
        let end = range.end.min(self.len);
        let mut at = range.start;
        while at < end {
            let number = (at / 64) as usize;
            let word = (self.words[number] & other.words[number]) >> (at % 64);
            if word != 0 {
                at += word.trailing_zeros();
                return (at < end).then_some(PieceIndex(at));
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// How many pieces are in this set and not in `other`.
    pub fn count_minus(&self, other: &Bitfield) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & !b).count_ones()).sum()
    }

    /// How many pieces of `range` are in the set. O(range / 64).
    pub fn count_in(&self, range: Range<u32>) -> u32 {
        self.count_words_in(range, |number| self.words[number])
    }

    /// How many pieces of `range` are in this set and not in `other`. O(range / 64). Both must have
    /// the same length.
    pub fn count_minus_in(&self, other: &Bitfield, range: Range<u32>) -> u32 {
        debug_assert_eq!(self.len, other.len);
        self.count_words_in(range, |number| self.words[number] & !other.words[number])
    }

    fn count_words_in(&self, range: Range<u32>, word: impl Fn(usize) -> u64) -> u32 {
        let end = range.end.min(self.len);
        let mut count = 0;
        let mut at = range.start;
        while at < end {
            let stop = end.min((at / 64 + 1) * 64);
            let mut word = word((at / 64) as usize) >> (at % 64);
            if stop - at < 64 {
                word &= (1 << (stop - at)) - 1;
            }
            count += word.count_ones();
            at = stop;
        }
        count
    }

    /// Bytes of the pieces in the set, in a torrent of this shape; costs the same whatever their number.
    pub fn bytes(&self, layout: &Layout) -> u64 {
        debug_assert_eq!(self.len, layout.num_pieces());
        let whole = u64::from(self.ones) * u64::from(layout.piece_length());
        let short = layout.short_pieces().filter(|&piece| self.contains(piece));
        let lacking = short.map(|piece| u64::from(layout.piece_length() - layout.piece_size(piece)));
        whole - lacking.sum::<u64>()
    }

    /// The set as ascending, disjoint, non-touching ranges.
    pub fn ranges(&self) -> Vec<Range<u32>> {
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for PieceIndex(index) in self.iter() {
            match ranges.last_mut() {
                Some(last) if last.end == index => last.end += 1,
                _ => ranges.push(index..index + 1),
            }
        }
        ranges
    }
}

impl Extend<PieceIndex> for Bitfield {
    /// Adds pieces; those past the end are left out.
    fn extend<T: IntoIterator<Item = PieceIndex>>(&mut self, pieces: T) {
        for piece in pieces {
            self.insert(piece);
        }
    }
}

fn ones(number: usize, word: u64) -> impl Iterator<Item = PieceIndex> {
    let next = |word: &u64| Some(word & (word - 1)).filter(|&rest| rest != 0);
    let words = std::iter::successors(Some(word).filter(|&word| word != 0), next);
    words.map(move |word| PieceIndex(number as u32 * 64 + word.trailing_zeros()))
}

/// The same numbers in ranges that ascend and do not touch.
pub(crate) fn merged(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(len in 1u32..300, picks in prop::collection::vec((0u32..310, any::<bool>()), 0..200)) {
            let (mut set, mut plain) = (Bitfield::new(len), BTreeSet::new());
            for (index, add) in picks {
                let piece = PieceIndex(index);
                if add {
                    prop_assert_eq!(set.insert(piece), index < len && plain.insert(index));
                } else {
                    prop_assert_eq!(set.remove(piece), plain.remove(&index));
                }
            }
            prop_assert_eq!(set.count() as usize, plain.len());
            prop_assert_eq!(set.iter().map(|p| p.0).collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.ranges().into_iter().flatten().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(Bitfield::from_wire(len, &set.to_wire()), Some(set.clone()));
            for start in [0, 1, 63, 64, 65, 130] {
                let range = start..start + 77;
                prop_assert_eq!(set.count_in(range.clone()) as usize, plain.range(range).count());
            }
            let full = Bitfield::full(len);
            prop_assert_eq!(full.count_minus(&set), len - set.count());
            for start in [0, 63, 130] {
                let range = start..start + 77;
                let inside = range.end.min(len).saturating_sub(start);
                prop_assert_eq!(full.count_minus_in(&set, range.clone()), inside - set.count_in(range));
            }
            prop_assert_eq!(full.minus(&set).count() as u32, len - set.count());
        }
    }

    proptest! {
        #[test]
        fn the_algebra_agrees_with_that_of_plain_sets(
            len in 1u32..200, a in prop::collection::btree_set(0u32..200, 0..100),
            b in prop::collection::btree_set(0u32..200, 0..100),
        ) {
            let of = |indices: &BTreeSet<u32>| {
                let mut set = Bitfield::new(len);
                set.extend(indices.iter().copied().map(PieceIndex));
                set
            };
            let inside = |indices: &BTreeSet<u32>| indices.range(..len).copied().collect::<BTreeSet<u32>>();
            let (set, other, a, b) = (of(&a), of(&b), inside(&a), inside(&b));
            let plain = |set: &Bitfield| set.iter().map(|piece| piece.0).collect::<BTreeSet<u32>>();
            let (mut union, mut both) = (set.clone(), set.clone());
            union.union_with(&other);
            both.intersect_with(&other);
            let difference = set.difference(&other);
            prop_assert_eq!(plain(&union), &a | &b);
            prop_assert_eq!(plain(&both), &a & &b);
            prop_assert_eq!(plain(&difference), &a - &b);
            for range in [0..len, 3..77, 64..128, 100..u32::MAX] {
                let first = both.iter().find(|piece| range.contains(&piece.0));
                prop_assert_eq!(set.first_common(&other, range), first);
            }
            prop_assert_eq!(plain(&set.complement()), &(0..len).collect::<BTreeSet<u32>>() - &a);
            for result in [&union, &both, &difference] {
                prop_assert_eq!(result.count() as usize, plain(result).len());
            }
        }
    }

    #[test]
    fn the_bytes_of_a_set_are_those_of_its_pieces() {
        let layout = Layout::new(1000, [(4_321, false)]).unwrap();
        let mut set = Bitfield::new(5);
        for piece in [1, 4, 3] {
            set.insert(PieceIndex(piece));
            let plain: u64 = set.iter().map(|piece| u64::from(layout.piece_size(piece))).sum();
            assert_eq!(set.bytes(&layout), plain);
        }
        assert_eq!(Bitfield::full(5).bytes(&layout), 4_321);
        assert_eq!(Bitfield::new(0).bytes(&Layout::new(1, []).unwrap()), 0);
    }

    #[test]
    fn the_first_piece_is_the_high_bit_of_the_first_byte() {
        let mut set = Bitfield::new(10);
        set.insert(PieceIndex(0));
        set.insert(PieceIndex(9));
        assert_eq!(set.to_wire(), [0b1000_0000, 0b0100_0000]);
    }

    #[test]
    fn wrong_lengths_and_spare_bits_are_refused() {
        assert_eq!(Bitfield::from_wire(10, &[0]), None);
        assert_eq!(Bitfield::from_wire(10, &[0, 0, 0]), None);
        assert_eq!(Bitfield::from_wire(10, &[0, 0b0010_0000]), None);
        assert!(Bitfield::from_wire(64, &[255; 8]).is_some_and(|set| set.is_full()));
    }
}
