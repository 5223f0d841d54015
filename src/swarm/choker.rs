//! Whom to unchoke: tit-for-tat while downloading, where data flows while seeding (BEP 3,
//! "choking algorithm").
//!
//! Pure decisions over what the caller knows of each peer; keeps no state but who is the optimistic
//! one.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::ids::PeerKey;

/// Between two looks at all peers. BEP 3: long enough for a choice to show its effect.
pub(super) const RECHOKE: Duration = Duration::from_secs(10);

/// How long one peer keeps the optimistic slot, in rechokes.
const OPTIMISTIC_ROUNDS: u32 = 3;

/// A newly connected peer is this many times as likely to be the optimistic one.
const NEWCOMER_ODDS: usize = 3;

/// For how long a peer counts as newly connected.
const NEWCOMER: Duration = Duration::from_secs(60);

/// As a seed, how long a peer may keep its slot while others wait.
const TURN: Duration = Duration::from_secs(60);

/// As a seed, how long a peer that takes nothing keeps its slot while others wait.
const IDLE_TURN: Duration = Duration::from_secs(20);

/// A peer that wants something from us, and what it has to offer for an upload slot.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// The peer.
    pub peer: PeerKey,
    /// Bytes a second it sends us.
    pub down_rate: u64,
    /// Bytes a second we send it.
    pub up_rate: u64,
    /// We are waiting for blocks that it does not send.
    pub snubbed: bool,
    /// Whether we choke it now.
    pub am_choking: bool,
    /// When `am_choking` last changed, or when it connected.
    pub since: Instant,
    /// When it connected.
    pub connected: Instant,
}

impl Contender {
    /// Whether it sends us data.
    pub fn gives(&self) -> bool {
        self.down_rate > 0 && !self.snubbed
    }

    /// The least comes first: who gives us most (BEP 3), then as a seed ranks them.
    pub fn rank(&self, now: Instant) -> (u8, Reverse<u64>, Instant) {
        if self.gives() { (0, Reverse(self.down_rate), self.since) } else { self.seed_rank(now) }
    }

    /// In turn and taking data first, by how much; then those that wait, the longest first; then those whose turn is over.
    fn seed_rank(&self, now: Instant) -> (u8, Reverse<u64>, Instant) {
        let held = now.saturating_duration_since(self.since);
        let patience = if self.up_rate > 0 { TURN } else { IDLE_TURN };
        match self.am_choking {
            false if held < patience => (1, Reverse(self.up_rate), self.since),
            true => (2, Reverse(0), self.since),
            false => (3, Reverse(self.up_rate), self.since),
        }
    }
}

/// The choker.
#[derive(Debug)]
pub(super) struct Choker {
    optimistic: Option<PeerKey>,
    round: u32,
    rng: fastrand::Rng,
}

impl Choker {
    /// With nobody chosen.
    pub(super) fn new(seed: u64) -> Choker {
        Choker { optimistic: None, round: 0, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The peers to be unchoked from now on, `slots` at the most; all others are choked.
    pub(super) fn rechoke(
        &mut self,
        now: Instant,
        seeding: bool,
        slots: usize,
        of: &[Contender],
    ) -> Vec<PeerKey> {
        let mut order = of.to_vec();
        self.rng.shuffle(&mut order);
        if seeding {
            order.sort_by_key(|contender| contender.seed_rank(now));
            return order.iter().take(slots).map(|contender| contender.peer).collect();
        }
        // Reciprocation first; who already has a slot keeps it among equals.
        order.sort_by_key(|c| (c.snubbed, Reverse(c.down_rate), c.am_choking));
        self.round += 1;
        // Of a torrent that has one slot alone, who gives and the others have it in turn.
        let is_givers =
            !self.round.is_multiple_of(OPTIMISTIC_ROUNDS) && order.first().is_some_and(Contender::gives);
        let regular = if slots == 1 && is_givers { 1 } else { slots.saturating_sub(1) };
        let mut chosen: Vec<PeerKey> = order.iter().take(regular).map(|c| c.peer).collect();
        // Who is drawn gets the slot: otherwise it would be one that has had its turn.
        if slots > regular {
            let rest = &order[chosen.len()..];
            let kept = self.optimistic.filter(|&peer| rest.iter().any(|c| c.peer == peer));
            self.optimistic = match kept {
                Some(peer) if !self.round.is_multiple_of(OPTIMISTIC_ROUNDS) => Some(peer),
                _ => self.draw(now, rest, kept),
            };
            chosen.extend(self.optimistic);
        }
        chosen
    }

    /// Who gets a slot that is free right now: the one that waits longest.
    pub(super) fn next(&self, waiting: &[Contender]) -> Option<PeerKey> {
        waiting.iter().filter(|c| c.am_choking).min_by_key(|c| (c.snubbed, c.since)).map(|c| c.peer)
    }

    fn draw(&mut self, now: Instant, from: &[Contender], before: Option<PeerKey>) -> Option<PeerKey> {
        let others = || from.iter().filter(|c| Some(c.peer) != before || from.len() == 1);
        let odds = |c: &Contender| if now - c.connected < NEWCOMER { NEWCOMER_ODDS } else { 1 };
        let sum: usize = others().map(odds).sum();
        let mut ticket = self.rng.usize(..sum.max(1));
        for contender in others() {
            match ticket.checked_sub(odds(contender)) {
                None => return Some(contender.peer),
                Some(rest) => ticket = rest,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contenders(start: Instant, n: u64) -> Vec<Contender> {
        (0..n)
            .map(|i| Contender {
                peer: PeerKey(i),
                down_rate: i * 1000,
                up_rate: 0,
                snubbed: false,
                am_choking: true,
                since: start,
                connected: start,
            })
            .collect()
    }

    #[test]
    fn those_who_give_most_get_the_regular_slots_and_one_slot_goes_round() {
        let start = Instant::now();
        let mut choker = Choker::new(1);
        let mut peers = contenders(start, 20);
        peers[19].snubbed = true;
        let mut lucky = std::collections::BTreeSet::new();
        for round in 0..90u32 {
            let now = start + RECHOKE * round;
            let chosen = choker.rechoke(now, false, 4, &peers);
            assert_eq!(chosen[..3], [PeerKey(18), PeerKey(17), PeerKey(16)]);
            lucky.insert(chosen[3].0);
        }
        assert!(lucky.len() > 8, "the optimistic slot went to {lucky:?} only");
    }

    #[test]
    fn a_seed_serves_everybody_in_turn_and_drops_who_takes_nothing() {
        let start = Instant::now();
        let mut choker = Choker::new(1);
        let mut peers = contenders(start, 10);
        let mut served = [0u32; 10];
        for round in 0..60u32 {
            let now = start + RECHOKE * round;
            let chosen = choker.rechoke(now, true, 4, &peers);
            assert_eq!(chosen.len(), 4);
            for c in &mut peers {
                let choke = !chosen.contains(&c.peer);
                if choke != c.am_choking {
                    (c.am_choking, c.since) = (choke, now);
                }
                c.up_rate = if choke || c.peer.0 == 9 { 0 } else { 1000 };
                served[c.peer.0 as usize] += u32::from(!choke);
            }
        }
        assert!(served[..9].iter().all(|&rounds| rounds >= 18), "{served:?}");
        assert!(served[9] < served[0], "an idle peer kept its slot: {served:?}");
    }

    #[test]
    fn the_only_slot_goes_to_who_gives_most_and_now_and_then_to_another() {
        let start = Instant::now();
        let (mut choker, peers) = (Choker::new(1), contenders(start, 5));
        let chosen = |round| choker.rechoke(start + RECHOKE * round, false, 1, &peers);
        let chosen: Vec<Vec<PeerKey>> = (0..90).map(chosen).collect();
        assert!(chosen.iter().all(|chosen| chosen.len() == 1));
        let of_best = chosen.iter().filter(|chosen| chosen[0] == PeerKey(4)).count();
        assert!((60..80).contains(&of_best), "{of_best}");
    }

    #[test]
    fn of_two_the_one_that_gives_less_has_the_only_slot_in_its_turn() {
        let start = Instant::now();
        let (mut choker, peers) = (Choker::new(1), contenders(start, 2));
        let chosen = (0..90).map(|round| choker.rechoke(start + RECHOKE * round, false, 1, &peers));
        let of_other = chosen.filter(|chosen| chosen[..] == [PeerKey(0)]).count();
        assert!((10..=30).contains(&of_other), "{of_other}");
    }

    #[test]
    fn no_slots_means_nobody() {
        let peers = contenders(Instant::now(), 3);
        assert!(Choker::new(1).rechoke(Instant::now(), false, 0, &peers).is_empty());
        assert!(Choker::new(1).rechoke(Instant::now(), true, 0, &peers).is_empty());
    }
}
