//! Who sent the corrupt block, where several peers sent blocks of a piece that failed its hash.
//!
//! A piece that one peer sent alone convicts that peer at once. Otherwise the digests of its blocks
//! are kept; when the piece passes later, whoever sent a block that differs from the good one is
//! the culprit, and nobody else.
//!
//! A culprit is banned for good, as long as there are others: it lies again, or its memory is broken. Without the one peer that
//! nearly everything comes from a download would have no end; that one is left alone for a while, once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::address::Machine;
use crate::hash::Sha1;
use crate::ids::Source;
use crate::layout::PieceIndex;

/// Pieces that are remembered; the evidence of further ones is not kept.
const MAX_PIECES: usize = 64;

/// Failed attempts that are remembered of one piece.
const MAX_ATTEMPTS: usize = 4;

/// Pieces that passed last, by which the source of nearly everything is known.
const RECENT: usize = 32;

/// So many of them it has sent alone at the least: a piece that fails costs less than these were worth.
const MUCH: usize = 16;

/// How long it is left alone after the first time that it was convicted. There is no second: who lies again is a liar.
const PAUSE: Duration = Duration::from_secs(60);

/// Machines that are remembered as pardoned; of more, none is pardoned.
const MAX_PARDONED: usize = 64;

/// Machines that are remembered as banned for good; of more, some are told of again.
const MAX_BANNED: usize = 1000;

/// How a culprit is dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sentence {
    /// Not any more.
    ForGood,
    /// Not for so long.
    Pause(Duration),
    /// As before: it has had its sentence, and sent this before that.
    Known,
}

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
    /// Who sent the last [`RECENT`] pieces that passed, the newest last; `None`: more than one, or a web seed.
    recent: VecDeque<Option<Machine>>,
    /// Machines that are left alone until then, or were.
    pardoned: BTreeMap<Machine, Instant>,
    /// Machines that were banned for good.
    banned: BTreeSet<Machine>,
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
    ) -> Option<Source> {
        let first = *senders.first()?;
        if senders.iter().all(|&sender| sender == first) {
            return Some(first).filter(|&source| is_answerable(source));
        }
        if self.pieces.len() < MAX_PIECES || self.contains(piece) {
            let attempts = self.pieces.entry(piece).or_default();
            if attempts.len() < MAX_ATTEMPTS && digests.len() == senders.len() {
                attempts.push(Attempt { senders: senders.to_vec(), digests });
            }
        }
        None
    }

    /// A machine is convicted.
    pub(super) fn sentence(&mut self, now: Instant, machine: Machine) -> Sentence {
        let before = self.pardoned.get(&machine).copied();
        if before.is_some_and(|until| now < until) || self.banned.contains(&machine) {
            return Sentence::Known;
        }
        let alone = self.recent.iter().filter(|&&source| source == Some(machine)).count();
        let is_source = alone >= MUCH && alone * 10 >= self.recent.len() * 9;
        if before.is_some() || !is_source || self.pardoned.len() >= MAX_PARDONED {
            if self.banned.len() == MAX_BANNED {
                self.banned.pop_first();
            }
            self.banned.insert(machine);
            return Sentence::ForGood;
        }
        self.pardoned.insert(machine, now + PAUSE);
        Sentence::Pause(PAUSE)
    }

    fn note_source(&mut self, senders: &[Source]) {
        let mut machines =
            senders.iter().filter(|&&source| is_answerable(source)).map(|&source| machine(source));
        let Some(first) = machines.next() else { return };
        let alone = machines.all(|machine| machine == first);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(first.filter(|_| alone));
    }

    /// `piece` passed with blocks of these senders, and of these digests if an attempt before had failed: the culprits of those
    /// attempts.
    pub(super) fn on_passed(
        &mut self,
        piece: PieceIndex,
        senders: &[Source],
        digests: &[Sha1],
    ) -> Vec<Source> {
        self.note_source(senders);
        let attempts = self.pieces.remove(&piece).unwrap_or_default();
        let mut culprits = Vec::new();
        for attempt in attempts {
            for (number, good) in digests.iter().enumerate() {
                if attempt.digests.get(number).is_some_and(|digest| digest != good) {
                    culprits.extend(Some(attempt.senders[number]).filter(|&source| is_answerable(source)));
                }
            }
        }
        culprits.sort_unstable();
        culprits.dedup();
        culprits
    }
}

/// Whether it can be convicted: an earlier run of ours cannot.
fn is_answerable(source: Source) -> bool {
    source != Source::Disk
}

/// The machine of a peer.
fn machine(source: Source) -> Option<Machine> {
    match source {
        Source::Peer(address) => Some(Machine::at(address)),
        Source::Web(_) | Source::Disk => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Source = Source::Web(3);
    const A: ([u8; 4], u16) = ([10, 0, 0, 1], 1);
    const B: ([u8; 4], u16) = ([10, 0, 0, 2], 1);

    fn peer(address: ([u8; 4], u16)) -> Source {
        Source::Peer(address.into())
    }

    #[test]
    fn the_one_sender_of_a_corrupt_piece_is_convicted_at_once() {
        let got = Suspects::default().on_failed(PieceIndex(0), &[peer(A), peer(A)], vec![Sha1([0; 20]); 2]);
        assert_eq!(got, Some(peer(A)));
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
            suspects.on_passed(piece, &senders, &[Sha1([1; 20]), Sha1([2; 20]), Sha1([3; 20])]),
            vec![peer(B)]
        );
        assert!(!suspects.contains(piece));
    }

    #[test]
    fn a_web_seed_is_convicted_as_a_peer_is() {
        let mut suspects = Suspects::default();
        assert_eq!(suspects.on_failed(PieceIndex(0), &[WEB, WEB], vec![Sha1([0; 20]); 2]), Some(WEB));
        let senders = [peer(A), WEB];
        assert_eq!(suspects.on_failed(PieceIndex(1), &senders, vec![Sha1([1; 20]), Sha1([9; 20])]), None);
        let good = [Sha1([1; 20]), Sha1([2; 20])];
        assert_eq!(suspects.on_passed(PieceIndex(1), &[peer(A), peer(A)], &good), vec![WEB]);
        let disk = [Source::Disk; 2];
        assert_eq!(suspects.on_failed(PieceIndex(2), &disk, vec![Sha1([0; 20]); 2]), None);
    }

    #[test]
    fn who_is_beside_a_web_seed_is_not_the_source_of_nearly_everything() {
        let (now, mut suspects) = (Instant::now(), Suspects::default());
        give(&mut suspects, A, MUCH);
        (0..MUCH).for_each(|_| drop(suspects.on_passed(PieceIndex(9), &[WEB; 4], &[])));
        assert_eq!(suspects.sentence(now, machine(A)), Sentence::ForGood);
    }

    /// So many pieces passed that this peer had sent alone.
    fn give(suspects: &mut Suspects, from: ([u8; 4], u16), pieces: usize) {
        (0..pieces).for_each(|_| drop(suspects.on_passed(PieceIndex(9), &[peer(from); 4], &[])));
    }

    fn machine(address: ([u8; 4], u16)) -> Machine {
        Machine::at(address.into())
    }

    #[test]
    fn the_source_of_nearly_everything_is_pardoned_once_whatever_it_gives_after_that() {
        let (now, mut suspects) = (Instant::now(), Suspects::default());
        give(&mut suspects, A, MUCH);
        assert_eq!(suspects.sentence(now, machine(A)), Sentence::Pause(PAUSE));
        assert_eq!(suspects.sentence(now + PAUSE / 2, machine(A)), Sentence::Known, "sent before");
        give(&mut suspects, A, 1000);
        assert_eq!(suspects.sentence(now + PAUSE, machine(A)), Sentence::ForGood);
        assert_eq!(suspects.sentence(now + PAUSE, machine(A)), Sentence::Known, "one ban is told once");
    }

    #[test]
    fn who_gave_little_or_is_one_of_several_is_not_pardoned() {
        let (now, mut suspects) = (Instant::now(), Suspects::default());
        give(&mut suspects, A, MUCH - 1);
        assert_eq!(suspects.sentence(now, machine(A)), Sentence::ForGood, "little");

        let mut suspects = Suspects::default();
        give(&mut suspects, A, RECENT);
        give(&mut suspects, B, RECENT / 8);
        assert_eq!(suspects.sentence(now, machine(A)), Sentence::ForGood, "one of several");
        suspects.banned.clear();
        // What others gave long ago does not help whom nobody is left but this one.
        give(&mut suspects, A, RECENT);
        assert_eq!(suspects.sentence(now, machine(A)), Sentence::Pause(PAUSE));

        let mut suspects = Suspects::default();
        (0..RECENT).for_each(|_| drop(suspects.on_passed(PieceIndex(9), &[peer(A), peer(B)], &[])));
        assert_eq!(suspects.sentence(now, machine(A)), Sentence::ForGood, "never alone");
    }
}
