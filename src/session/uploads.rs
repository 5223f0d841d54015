//! Whom of all torrents' peers we send data to at the same time: the upload slots of the process, and which torrent has how many of them. Pure.
//!
//! A slot that is free goes to whoever asks first. While none is, the peers of all torrents are compared every [`LOOK`], and each torrent gets as many
//! slots as it has peers among the best; its own choker says which of them have one. There are more slots than the user asked
//! for as long as more of them bring more: while the uplink is not full.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ids::TorrentId;
use crate::swarm::Contender;

/// Between two comparisons of all peers. BEP 3: long enough for a choice to show its effect.
const LOOK: Duration = Duration::from_secs(10);

/// Of so many slots one goes to who has given nothing yet, so that newcomers have a chance to.
const OPTIMISTIC: usize = 4;

/// A further slot has brought more if the rate is now this many times what it was.
const GAIN: f64 = 1.05;

/// The uplink is full if so much of the user's limit is used.
const FULL: f64 = 0.9;

/// After further slots have brought nothing, they are tried again after so many looks.
const PATIENCE: u32 = 6;

/// Slots are never more than this many times as many as the user asked for.
const MAX_GROWTH: usize = 8;

/// The slots of a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Demand {
    /// Peers that have one.
    pub served: usize,
    /// Peers that want data from us, and have none.
    pub waiting: usize,
    /// How many it may have, if that was ever limited by itself.
    pub max: usize,
}

impl Demand {
    /// Slots that would be used.
    fn wanted(self) -> usize {
        (self.served + self.waiting).min(self.max)
    }
}

/// The slots of the process. Holds at most one entry for each torrent of the session.
#[derive(Debug)]
pub(super) struct UploadSlots {
    /// As many as the user asked for.
    base: usize,
    /// Slots beyond these.
    extra: usize,
    /// Bytes a second that the user allows.
    max_rate: Option<u64>,
    /// Slots of each torrent that has any, or wants some.
    torrents: BTreeMap<TorrentId, (Demand, usize)>,
    /// Slots of all of them.
    given: usize,
    /// A torrent has given some back.
    has_freed: bool,
    /// When all peers are compared next; `None` while nobody waits for a slot.
    next_look: Option<Instant>,
    /// Slots that were added at the last look, to see whether they bring more, and the rate before.
    trial: usize,
    rate_before: u64,
    /// Looks until further slots are tried again.
    pause: u32,
}

impl UploadSlots {
    /// `base` slots, of which nobody has one; bytes a second, if they are limited.
    pub(super) fn new(base: usize, max_rate: Option<u64>) -> UploadSlots {
        UploadSlots {
            base,
            extra: 0,
            max_rate,
            torrents: BTreeMap::new(),
            given: 0,
            has_freed: false,
            next_look: None,
            trial: 0,
            rate_before: 0,
            pause: 0,
        }
    }

    /// What a torrent has and wants now. Gives how many slots it has from now on: what it does not use it gives back, and what is free it gets.
    pub(super) fn set(&mut self, now: Instant, torrent: TorrentId, demand: Demand) -> usize {
        let before = self.torrents.remove(&torrent).map_or(0, |(_, slots)| slots);
        self.given -= before;
        let wanted = demand.wanted();
        let free = self.all().saturating_sub(self.given);
        // What is taken away by a comparison stays taken away.
        let slots = wanted.min(free).max(demand.served.min(before));
        self.given += slots;
        self.has_freed |= slots < before;
        if demand.served > 0 || demand.waiting > 0 {
            self.torrents.insert(torrent, (demand, slots));
        }
        if wanted > slots {
            self.next_look.get_or_insert(now + LOOK);
        }
        slots
    }

    /// Who wants more slots than it has, if some were given back since the last call: it is to ask again.
    pub(super) fn take_unmet(&mut self) -> Vec<TorrentId> {
        if !std::mem::take(&mut self.has_freed) {
            return Vec::new();
        }
        let unmet = self.torrents.iter().filter(|(_, (demand, slots))| demand.wanted() > *slots);
        unmet.map(|(&torrent, _)| torrent).collect()
    }

    /// When [`UploadSlots::compare`] has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_look
    }

    /// Whether all peers are to be compared.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_look.is_some_and(|at| at <= now)
    }

    /// Compares all peers that want data from us; `rate` is what we send to all of them, in bytes a second. Gives the slots of each torrent that has
    /// other ones now.
    pub(super) fn compare(
        &mut self,
        now: Instant,
        rate: u64,
        mut contenders: Vec<(TorrentId, Contender)>,
    ) -> Vec<(TorrentId, usize)> {
        self.next_look = None;
        let waiting = contenders.iter().filter(|(_, contender)| contender.am_choking).count();
        self.grow(rate, contenders.len(), waiting);
        if waiting > 0 {
            self.next_look = Some(now + LOOK);
        }
        contenders.sort_by_key(|(_, contender)| contender.rank(now));
        let all = self.all();
        let givers = contenders.iter().take_while(|(_, contender)| contender.gives()).count();
        let newcomers = (contenders.len() - givers).min(all.div_ceil(OPTIMISTIC));
        let regular = givers.min(all - newcomers);
        // Those who give and are not among the first come last.
        let chosen =
            contenders[..regular].iter().chain(&contenders[givers..]).chain(&contenders[regular..givers]);
        let mut slots: BTreeMap<TorrentId, usize> = BTreeMap::new();
        let mut left = all;
        for (torrent, _) in chosen {
            let max = self.torrents.get(torrent).map_or(0, |(demand, _)| demand.max);
            let slots = slots.entry(*torrent).or_default();
            if left > 0 && *slots < max {
                (*slots, left) = (*slots + 1, left - 1);
            }
        }
        let mut changed = Vec::new();
        for (&torrent, (_, before)) in &mut self.torrents {
            let now = slots.get(&torrent).copied().unwrap_or(0);
            self.given = self.given - *before + now;
            if std::mem::replace(before, now) != now {
                changed.push((torrent, now));
            }
        }
        changed
    }

    fn all(&self) -> usize {
        self.base + self.extra
    }

    fn grow(&mut self, rate: u64, contenders: usize, waiting: usize) {
        let trial = std::mem::take(&mut self.trial);
        if waiting == 0 {
            self.extra = contenders.saturating_sub(self.base).min(self.extra);
            return;
        }
        if self.max_rate.is_some_and(|max| rate as f64 >= max as f64 * FULL) {
            self.extra = self.extra.saturating_sub(1);
            return;
        }
        if trial > 0 && (rate as f64) < self.rate_before as f64 * GAIN {
            (self.extra, self.pause) = (self.extra - trial, PATIENCE);
            return;
        }
        if trial == 0 && self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let most = self.base * (MAX_GROWTH - 1);
        (self.trial, self.rate_before) = (self.all().div_ceil(4).min(most - self.extra.min(most)), rate);
        self.extra += self.trial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    fn demand(served: usize, waiting: usize) -> Demand {
        Demand { served, waiting, max: usize::MAX }
    }

    fn contender(start: Instant) -> Contender {
        let (peer, am_choking, snubbed) = (Counter::default().peer(), true, false);
        Contender { peer, down_rate: 0, up_rate: 0, snubbed, am_choking, since: start, connected: start }
    }

    #[test]
    fn a_slot_that_is_free_goes_to_whoever_asks_and_what_is_given_back_is_free() {
        let (mut slots, now, [a, b, c]) = (UploadSlots::new(4, None), Instant::now(), Counter::torrents());
        assert_eq!(slots.set(now, a, demand(0, 3)), 3);
        assert_eq!(slots.set(now, a, demand(3, 0)), 3);
        assert_eq!(slots.deadline(), None, "nobody waits");
        assert_eq!(slots.set(now, b, demand(0, 3)), 1);
        assert_eq!(slots.set(now, b, demand(1, 2)), 1);
        assert_eq!(slots.deadline(), Some(now + LOOK));
        assert_eq!(slots.set(now, c, demand(0, 1)), 0);
        assert_eq!(slots.set(now, a, demand(1, 0)), 1);
        assert_eq!(slots.set(now, b, demand(1, 2)), 3);
        assert_eq!(slots.set(now, c, demand(0, 1)), 0);
        assert_eq!(slots.set(now, a, Demand::default()), 0);
        assert_eq!(slots.set(now, c, demand(0, 1)), 1);
    }

    #[test]
    fn who_waits_asks_again_as_soon_as_another_gives_back() {
        let (mut slots, now, [a, b, c]) = (UploadSlots::new(2, None), Instant::now(), Counter::torrents());
        assert_eq!([slots.set(now, a, demand(0, 2)), slots.set(now, b, demand(0, 1))], [2, 0]);
        assert_eq!(slots.set(now, c, demand(0, 0)), 0);
        assert_eq!(slots.take_unmet(), []);
        assert_eq!(slots.set(now, a, demand(1, 0)), 1);
        assert_eq!(slots.take_unmet(), [b]);
        assert_eq!((slots.set(now, b, demand(0, 1)), slots.take_unmet()), (1, vec![]));
    }

    #[test]
    fn the_slots_go_to_those_of_all_torrents_who_give_most_and_some_to_newcomers() {
        let (mut slots, start, [a, b]) =
            (UploadSlots::new(8, Some(1000)), Instant::now(), Counter::torrents());
        slots.set(start, a, demand(0, 10));
        slots.set(start, b, demand(0, 10));
        // All of b's peers give more than any of a's.
        let of_a = (0..10).map(|n| (a, Contender { down_rate: n, am_choking: n > 7, ..contender(start) }));
        let of_b = (0..10).map(|n| (b, Contender { down_rate: 100 + n, ..contender(start) }));
        let changed = slots.compare(start + LOOK, 1000, of_a.chain(of_b).collect());
        assert_eq!(changed, [(a, 1), (b, 7)]);
        // Newcomers of a third torrent get their part all the same.
        let [_, _, c] = Counter::torrents();
        slots.set(start, c, demand(0, 10));
        let of_b =
            (0..10).map(|n| (b, Contender { down_rate: 100 + n, am_choking: n > 7, ..contender(start) }));
        let of_c = (0..10).map(|_| (c, contender(start)));
        let changed = slots.compare(start + LOOK, 1000, of_b.chain(of_c).collect());
        assert_eq!(changed, [(a, 0), (b, 6), (c, 2)]);
    }

    #[test]
    fn every_torrent_comes_in_its_turn_where_there_are_more_than_slots() {
        let (mut slots, start, all) =
            (UploadSlots::new(2, Some(1000)), Instant::now(), Counter::torrents::<6>());
        let mut contenders = all.map(|torrent| (torrent, contender(start)));
        let mut looks = [0; 6];
        for look in 1..=60 {
            let now = start + LOOK * look;
            for (torrent, contender) in &contenders {
                let served = usize::from(!contender.am_choking);
                slots.set(now, *torrent, demand(served, 1 - served));
            }
            slots.compare(now, 1000, contenders.to_vec());
            for (n, (torrent, contender)) in contenders.iter_mut().enumerate() {
                let is_served = slots.torrents[torrent].1 > 0;
                looks[n] += u32::from(is_served);
                if contender.am_choking == is_served {
                    (contender.am_choking, contender.since) = (!is_served, now);
                }
                contender.up_rate = if is_served { 500 } else { 0 };
            }
        }
        assert!(looks.iter().all(|&looks| looks >= 12), "{looks:?}");
    }

    #[test]
    fn there_are_more_slots_as_long_as_more_bring_more() {
        let (mut slots, start, [a]) = (UploadSlots::new(4, None), Instant::now(), Counter::torrents());
        let peers = |served: usize| {
            (0..100).map(move |n| (a, Contender { am_choking: n >= served, ..contender(start) }))
        };
        let mut served = slots.set(start, a, demand(0, 100));
        // The uplink takes what 20 peers take.
        for look in 1..30 {
            slots.compare(start + LOOK * look, 1000 * served.min(20) as u64, peers(served).collect());
            served = slots.set(start + LOOK * look, a, demand(served, 100 - served));
        }
        assert!((20..32).contains(&served), "{served}");
        // With a limit, which is reached, there are as many as the user asked for.
        let mut slots = UploadSlots::new(4, Some(4000));
        let mut served = slots.set(start, a, demand(0, 100));
        for look in 1..30 {
            slots.compare(start + LOOK * look, 4000, peers(served).collect());
            served = slots.set(start + LOOK * look, a, demand(served, 100 - served));
        }
        assert_eq!(served, 4);
    }
}
