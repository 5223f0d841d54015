//! One candidate for the metadata, as its pieces come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::ids::PeerKey;
use crate::wire::extended::METADATA_PIECE_LENGTH;

/// Bytes in a piece; the last one may have fewer.
pub(super) const PIECE_LENGTH: usize = METADATA_PIECE_LENGTH as usize;

/// If no more pieces than these are missing, one that is asked for already is asked of others too, so that a slow peer
/// does not hold up the end.
const ENDGAME: usize = 16;

/// Pieces in metadata of this size.
pub(super) fn num_pieces(size: u32) -> u32 {
    size.div_ceil(METADATA_PIECE_LENGTH)
}

/// Bytes in this piece of metadata of this size; `None`: there is no such piece.
pub(super) fn piece_length(size: u32, piece: u32) -> Option<usize> {
    let begin = piece.checked_mul(METADATA_PIECE_LENGTH).filter(|&begin| begin < size)?;
    Some((size - begin).min(METADATA_PIECE_LENGTH) as usize)
}

/// See the module's head. It takes memory for what has come, not for what is announced.
#[derive(Debug)]
pub(super) struct Assembly {
    /// Bytes in all; at least 1.
    pub(super) size: u32,
    /// What has come, and from whom.
    pieces: BTreeMap<u32, (Vec<u8>, PeerKey)>,
    /// How many peers each piece is asked of; without those that are asked of nobody.
    asked: BTreeMap<u32, u32>,
    /// No piece before this one is both missing and asked of nobody.
    first_unasked: u32,
    /// When it was begun.
    pub(super) since: Instant,
    /// When a piece last came.
    pub(super) last_piece: Instant,
}

impl Assembly {
    pub(super) fn new(now: Instant, size: u32) -> Assembly {
        Assembly {
            size,
            pieces: BTreeMap::new(),
            asked: BTreeMap::new(),
            first_unasked: 0,
            since: now,
            last_piece: now,
        }
    }

    /// Bytes that have come.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.values().map(|(data, _)| data.len() as u64).sum()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.pieces.len() == num_pieces(self.size) as usize
    }

    /// Takes a piece of the right length, if it is missing.
    pub(super) fn insert(&mut self, now: Instant, piece: u32, data: Vec<u8>, from: PeerKey) -> bool {
        if piece_length(self.size, piece) != Some(data.len()) || self.pieces.contains_key(&piece) {
            return false;
        }
        self.pieces.insert(piece, (data, from));
        self.last_piece = now;
        true
    }

    /// What this peer gave is missing again.
    pub(super) fn forget(&mut self, from: PeerKey) {
        self.pieces.retain(|_, (_, giver)| *giver != from);
        self.first_unasked = 0;
    }

    /// The piece is asked of one peer more.
    pub(super) fn ask(&mut self, piece: u32) {
        *self.asked.entry(piece).or_default() += 1;
    }

    /// The piece is asked of one peer less.
    pub(super) fn unask(&mut self, piece: u32) {
        let Some(number) = self.asked.get_mut(&piece) else { return };
        *number -= 1;
        if *number == 0 {
            self.asked.remove(&piece);
            self.first_unasked = self.first_unasked.min(piece);
        }
    }

    /// What to ask of a peer from which `in_flight` is under way.
    pub(super) fn pick(&mut self, in_flight: &BTreeSet<u32>) -> Option<u32> {
        let number = num_pieces(self.size);
        let settled = |piece: &u32| self.pieces.contains_key(piece) || self.asked.contains_key(piece);
        self.first_unasked = (self.first_unasked..number).find(|piece| !settled(piece)).unwrap_or(number);
        if self.first_unasked < number {
            return Some(self.first_unasked);
        }
        let missing = number as usize - self.pieces.len();
        if missing > ENDGAME {
            return None;
        }
        let askers = if missing == 1 { 3 } else { 2 };
        let open = self.asked.iter().filter(|(piece, asked)| {
            **asked < askers && !in_flight.contains(piece) && !self.pieces.contains_key(piece)
        });
        open.min_by_key(|&(&piece, &asked)| (asked, piece)).map(|(&piece, _)| piece)
    }

    /// All of it, and who gave each piece. It must be whole.
    pub(super) fn into_whole(self) -> (Arc<[u8]>, Vec<PeerKey>) {
        let mut sources = Vec::with_capacity(self.pieces.len());
        // Made in its place at once, and each piece let go as soon as it is copied: it may be large.
        let mut whole: Arc<[u8]> = std::iter::repeat_n(0, self.size as usize).collect();
        let mut rest = Arc::get_mut(&mut whole).expect("nobody else has it yet");
        for (data, from) in self.pieces.into_values() {
            let (place, others) = rest.split_at_mut(data.len());
            place.copy_from_slice(&data);
            rest = others;
            sources.push(from);
        }
        (whole, sources)
    }
}
