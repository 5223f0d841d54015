//! Who sent the corrupt block, where several peers sent blocks of a piece that failed its hash.
//!
//! A piece that one peer sent alone convicts that peer at once. Otherwise the digests of its blocks
//! are kept; when the piece passes later, whoever sent a block that differs from the good one is
//! the culprit, and nobody else.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::hash::Sha1;
use crate::ids::Source;
use crate::layout::PieceIndex;

/// Pieces that are remembered; the evidence of further ones is not kept.
const MAX_PIECES: usize = 64;

/// Failed attempts that are remembered of one piece.
const MAX_ATTEMPTS: usize = 4;

/// One attempt at a piece that failed: who sent each block, and its digest.
#[derive(Clone, Debug)]
struct Attempt {
    senders: Vec<Source>,
    digests: Vec<Sha1>,
}

/// The evidence.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    pieces: BTreeMap<PieceIndex, Vec<Attempt>>,
}

impl Suspects {
    /// Whether an attempt at `piece` has failed: its blocks' digests are of use when it passes.
    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.pieces.contains_key(&piece)
    }

    /// `piece` failed; `senders` and `digests` are those of its blocks, in order. Returns the culprit
    /// if only one can be it.
    pub(super) fn on_failed(
        &mut self,
        piece: PieceIndex,
        senders: &[Source],
        digests: Vec<Sha1>,
    ) -> Option<SocketAddr> {
        let first = *senders.first()?;
        if senders.iter().all(|&sender| sender == first) {
            return peer(first);
        }
        if self.pieces.len() < MAX_PIECES || self.contains(piece) {
            let attempts = self.pieces.entry(piece).or_default();
            if attempts.len() < MAX_ATTEMPTS && digests.len() == senders.len() {
                attempts.push(Attempt { senders: senders.to_vec(), digests });
            }
        }
        None
    }

    /// `piece` passed with blocks of these digests: the culprits of the attempts before.
    pub(super) fn on_passed(&mut self, piece: PieceIndex, digests: &[Sha1]) -> Vec<SocketAddr> {
        let attempts = self.pieces.remove(&piece).unwrap_or_default();
        let mut culprits = Vec::new();
        for attempt in attempts {
            for (number, good) in digests.iter().enumerate() {
                if attempt.digests.get(number).is_some_and(|digest| digest != good) {
                    culprits.extend(peer(attempt.senders[number]));
                }
            }
        }
        culprits.sort_unstable();
        culprits.dedup();
        culprits
    }
}

/// The peer that can be convicted: an earlier run of ours cannot.
fn peer(source: Source) -> Option<SocketAddr> {
    match source {
        Source::Peer(address) => Some(address),
        Source::Disk => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ([u8; 4], u16) = ([10, 0, 0, 1], 1);
    const B: ([u8; 4], u16) = ([10, 0, 0, 2], 1);

    fn peer(address: ([u8; 4], u16)) -> Source {
        Source::Peer(address.into())
    }

    #[test]
    fn the_one_sender_of_a_corrupt_piece_is_convicted_at_once() {
        let got = Suspects::default().on_failed(PieceIndex(0), &[peer(A), peer(A)], vec![Sha1([0; 20]); 2]);
        assert_eq!(got, Some(A.into()));
    }

    #[test]
    fn of_several_senders_exactly_the_liar_is_convicted_when_the_piece_passes() {
        let mut suspects = Suspects::default();
        let piece = PieceIndex(3);
        let senders = [peer(A), peer(B), peer(A)];
        assert_eq!(
            suspects.on_failed(piece, &senders, vec![Sha1([1; 20]), Sha1([9; 20]), Sha1([3; 20])]),
            None
        );
        assert!(suspects.contains(piece));
        assert_eq!(
            suspects.on_passed(piece, &[Sha1([1; 20]), Sha1([2; 20]), Sha1([3; 20])]),
            vec![SocketAddr::from(B)]
        );
        assert!(!suspects.contains(piece));
    }
}
