//! When which torrent is looked up and announced.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::api::{DhtAnnounce, DhtHurry, DhtNeed};
use super::node_id::NodeId;
use crate::bucket::TokenBucket;
use crate::ids::WireHash;

const MINUTE: Duration = Duration::from_secs(60);

/// From one look-up to the next at most, where peers are needed at all.
const MAX_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// From one announce to the next: nodes forget peers after half an hour.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(25 * 60);

/// After an announce that nobody has acknowledged.
const ANNOUNCE_RETRY: Duration = Duration::from_secs(2 * 60);

/// After a look-up that nobody has answered; doubled each time, up to a minute.
const UNANSWERED_RETRY: Duration = Duration::from_secs(8);

/// After a look-up that found fewer than [`ENOUGH_NODES`]: so the node has just begun, and will know more soon, or the network is small. So it is
/// repeated, and announced, after these times.
const THIN_RETRIES: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(60)];
const ENOUGH_NODES: usize = 8;

/// Look-ups that may begin at once, and, in thousandths, in a second: 1,500 torrents take 12 minutes.
const START_BURST: u64 = 16;
const STARTS_A_SECOND: u64 = 2;
const THOUSAND: u64 = 1000;

/// A torrent that is looked up now and then.
#[derive(Debug)]
struct Followed {
    need: DhtNeed,
    /// When it is to be looked up; `None`: not before something changes, or it is being looked up.
    due: Option<Instant>,
    /// When its last look-up that was answered ended.
    looked_up: Option<Instant>,
    /// When it was announced.
    announced: Option<Instant>,
    /// When an announce that nobody has acknowledged is to be repeated.
    announce_again: Option<Instant>,
    /// Look-ups in a row after which peers were needed as before.
    in_row: u8,
    /// Look-ups in a row that nobody has answered.
    unanswered: u8,
    /// Look-ups in a row that found few nodes.
    thin: usize,
    is_running: bool,
    /// The closest nodes of the last look-up, at most eight: the next one begins with them.
    closest: Box<[(NodeId, SocketAddr)]>,
}

impl Followed {
    /// The interval after which peers are looked for again.
    fn interval(&self) -> Option<Duration> {
        match self.need.peers {
            // 1, 1, 2, 2, 4, 4 and so on: who has found nobody 10 times hardly does the next time.
            DhtHurry::Urgent => Some(MINUTE * (1 << (self.in_row.saturating_sub(1) / 2).min(4))),
            DhtHurry::Some => Some(5 * MINUTE * u32::from(self.in_row.clamp(1, 3))),
            DhtHurry::None => None,
        }
        .map(|interval| interval.min(MAX_INTERVAL))
    }

    fn next_announce(&self, now: Instant) -> Option<Instant> {
        self.need.announce?;
        let regular = self.announced.map_or(now, |at| at + ANNOUNCE_INTERVAL);
        Some(self.announce_again.unwrap_or(regular))
    }

    fn next_lookup(&self, now: Instant) -> Option<Instant> {
        let for_peers = self.interval().map(|interval| self.looked_up.map_or(now, |at| at + interval));
        for_peers.into_iter().chain(self.next_announce(now)).min()
    }
}

/// All torrents that are followed, and when each is due.
#[derive(Debug)]
pub(super) struct Schedule {
    torrents: HashMap<WireHash, Followed>,
    /// Those that are due at some time, by how urgently they need peers.
    due: [BTreeSet<(Instant, WireHash)>; 3],
    starts: TokenBucket,
}

/// A torrent that has not been looked up for so long is looked up anew, as at the beginning, when it needs peers more than before.
const RESTED: Duration = Duration::from_secs(5 * 60);

/// By so much a torrent of each class gives precedence to those of the first: they come in turn, too, when there are many.
const PRECEDENCE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(60), Duration::from_secs(120)];

fn class(need: &DhtNeed) -> usize {
    match need.peers {
        DhtHurry::Urgent => 0,
        DhtHurry::Some => 1,
        DhtHurry::None => 2,
    }
}

/// How a look-up of a torrent begins.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) hash: WireHash,
    /// Peers are needed urgently.
    pub(super) is_urgent: bool,
    /// Nodes that were closest the last time.
    pub(super) closest: Box<[(NodeId, SocketAddr)]>,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Schedule {
        Schedule {
            torrents: HashMap::new(),
            due: Default::default(),
            starts: TokenBucket::new(now, START_BURST * THOUSAND, STARTS_A_SECOND * THOUSAND),
        }
    }

    fn set_due(&mut self, hash: WireHash, due: Option<Instant>) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let queue = &mut self.due[class(&torrent.need)];
        if let Some(old) = torrent.due {
            queue.remove(&(old, hash));
        }
        torrent.due = due;
        if let Some(due) = due {
            queue.insert((due, hash));
        }
    }

    /// A torrent is to be looked up from now on, or what is wanted for it has changed.
    pub(super) fn follow(&mut self, now: Instant, hash: WireHash, need: DhtNeed) {
        let before = self.torrents.get(&hash).and_then(|torrent| torrent.due);
        self.set_due(hash, None);
        let torrent = self.torrents.entry(hash).or_insert_with(|| Followed {
            need,
            due: None,
            looked_up: None,
            announced: None,
            announce_again: None,
            in_row: 0,
            unanswered: 0,
            thin: 0,
            is_running: false,
            closest: Box::default(),
        });
        // A need that comes and goes does not have it looked up more often than one that stays.
        let is_rested = torrent.looked_up.is_none_or(|at| now.saturating_duration_since(at) >= RESTED);
        if need.peers < torrent.need.peers && is_rested {
            torrent.in_row = torrent.in_row.min(1);
        }
        let is_announced_anew = torrent.need.announce.is_none() && need.announce.is_some();
        if let (Some(before), Some(announce)) = (torrent.need.announce, need.announce)
            && before.port != announce.port
        {
            // What was announced leads nowhere any more.
            torrent.announce_again = torrent.announced.map(|_| now);
        }
        torrent.need = need;
        let is_to_be_repeated = (torrent.unanswered > 0 || torrent.thin > 0) && !is_announced_anew;
        let due = match before.filter(|_| is_to_be_repeated) {
            _ if torrent.is_running => None,
            Some(before) => Some(before),
            None => torrent.next_lookup(now),
        };
        self.set_due(hash, due);
    }

    pub(super) fn follows(&self, hash: WireHash) -> bool {
        self.torrents.contains_key(&hash)
    }

    pub(super) fn unfollow(&mut self, hash: WireHash) {
        self.set_due(hash, None);
        self.torrents.remove(&hash);
    }

    /// The torrent that is looked up next, if one may be now; it counts as being looked up.
    pub(super) fn start(&mut self, now: Instant) -> Option<Start> {
        let first = |(class, queue): (usize, &BTreeSet<(Instant, WireHash)>)| {
            let &(due, hash) = queue.first()?;
            (due <= now).then_some((due + PRECEDENCE[class], hash))
        };
        let (_, hash) = self.due.iter().enumerate().filter_map(first).min()?;
        if !self.starts.take(now, THOUSAND) {
            return None;
        }
        self.set_due(hash, None);
        let torrent = self.torrents.get_mut(&hash)?;
        torrent.is_running = true;
        let is_urgent = torrent.need.peers == DhtHurry::Urgent;
        Some(Start { hash, is_urgent, closest: torrent.closest.clone() })
    }

    /// Whether a torrent is due that has not begun.
    pub(super) fn has_due(&self, now: Instant) -> bool {
        self.due.iter().any(|queue| queue.first().is_some_and(|(due, _)| *due <= now))
    }

    /// When the next look-up may begin.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.due.iter().filter_map(|queue| queue.first()).map(|(due, _)| *due).min()?;
        Some(due.max(self.starts.ready(THOUSAND)))
    }

    /// A look-up has ended. Returns how the torrent is to be announced now, if it is.
    pub(super) fn looked_up(
        &mut self,
        now: Instant,
        hash: WireHash,
        closest: Vec<(NodeId, SocketAddr)>,
    ) -> Option<DhtAnnounce> {
        let torrent = self.torrents.get_mut(&hash)?;
        torrent.is_running = false;
        if closest.is_empty() {
            let wait = UNANSWERED_RETRY * (1 << torrent.unanswered.min(3));
            torrent.unanswered = torrent.unanswered.saturating_add(1);
            self.set_due(hash, Some(now + wait.min(MINUTE)));
            return None;
        }
        let retry = THIN_RETRIES.get(torrent.thin).filter(|_| closest.len() < ENOUGH_NODES);
        torrent.thin = if closest.len() < ENOUGH_NODES { torrent.thin.saturating_add(1) } else { 0 };
        torrent.closest = closest.into();
        torrent.unanswered = 0;
        torrent.in_row = torrent.in_row.saturating_add(1);
        torrent.looked_up = Some(now);
        let is_due = torrent.next_announce(now).is_some_and(|at| at <= now);
        let announce = torrent.need.announce.filter(|_| is_due);
        if announce.is_some() {
            // Should nobody acknowledge it, `announced` says so.
            torrent.announced = Some(now);
            torrent.announce_again = None;
        }
        if let Some(&retry) = retry {
            torrent.announce_again = torrent.need.announce.map(|_| now + retry);
        }
        let due = torrent.next_lookup(now);
        let due = retry.map(|&retry| now + retry).filter(|_| due.is_some()).or(due);
        self.set_due(hash, due);
        announce
    }

    /// The announces of a torrent have ended: so many nodes have acknowledged them.
    pub(super) fn announced(&mut self, now: Instant, hash: WireHash, nodes: usize) {
        if let Some(torrent) = self.torrents.get_mut(&hash).filter(|_| nodes == 0) {
            torrent.announce_again = Some(now + ANNOUNCE_RETRY);
            let due = if torrent.is_running { None } else { torrent.next_lookup(now) };
            self.set_due(hash, due);
        }
    }

    /// Somebody answers again: torrents whose look-ups nobody had answered are due at once.
    pub(super) fn wake(&mut self, now: Instant) {
        let asleep = |torrent: &Followed| torrent.unanswered > 0 && !torrent.is_running;
        let hashes: Vec<WireHash> =
            self.torrents.iter().filter(|(_, torrent)| asleep(torrent)).map(|(hash, _)| *hash).collect();
        for hash in hashes {
            if let Some(torrent) = self.torrents.get_mut(&hash) {
                torrent.unanswered = 0;
            }
            self.set_due(hash, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNOUNCE: Option<DhtAnnounce> = Some(DhtAnnounce { seed: false, implied_port: false, port: None });

    fn hash(number: u16) -> WireHash {
        let mut hash = WireHash([0; 20]);
        hash.0[..2].copy_from_slice(&number.to_be_bytes());
        hash
    }

    fn found() -> Vec<(NodeId, SocketAddr)> {
        vec![(NodeId([1; 20]), "127.0.0.1:1".parse().unwrap()); ENOUGH_NODES]
    }

    fn next(schedule: &mut Schedule, now: &mut Instant) -> Option<WireHash> {
        *now = (*now).max(schedule.next_due()?);
        schedule.start(*now).map(|start| start.hash)
    }

    /// The minutes at which a torrent with this need is looked up, and whether it is announced then.
    fn minutes(need: DhtNeed, number: usize) -> Vec<(u64, bool)> {
        let start = Instant::now();
        let (mut schedule, mut now) = (Schedule::new(start), start);
        schedule.follow(now, hash(1), need);
        let mut minutes = Vec::new();
        for _ in 0..number {
            next(&mut schedule, &mut now).unwrap();
            let announce = schedule.looked_up(now, hash(1), found()).is_some();
            minutes.push(((now - start).as_secs() / 60, announce));
        }
        minutes
    }

    #[test]
    fn look_ups_are_from_one_minute_to_fifteen_apart_by_need_and_announces_25() {
        let need = |peers, announce| DhtNeed { peers, announce };
        let urgent = minutes(need(DhtHurry::Urgent, None), 12);
        assert_eq!(urgent.map_minutes(), [0, 1, 2, 4, 6, 10, 14, 22, 30, 45, 60, 75]);
        let some = minutes(need(DhtHurry::Some, None), 5);
        assert_eq!(some.map_minutes(), [0, 5, 15, 30, 45]);
        let none = minutes(need(DhtHurry::None, ANNOUNCE), 3);
        assert_eq!(none, [(0, true), (25, true), (50, true)]);
        let both = minutes(need(DhtHurry::Some, ANNOUNCE), 5);
        assert_eq!(both, [(0, true), (5, false), (15, false), (25, true), (40, false)]);
    }

    #[test]
    fn a_port_that_has_changed_is_announced_at_once_and_how_it_is_told_is_not() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        let need = |port, implied_port| {
            let announce = Some(DhtAnnounce { seed: false, implied_port, port });
            DhtNeed { peers: DhtHurry::None, announce }
        };
        schedule.follow(now, hash(1), need(None, false));
        schedule.start(now).unwrap();
        assert!(schedule.looked_up(now, hash(1), found()).is_some());
        let later = now + Duration::from_secs(60);
        schedule.follow(later, hash(1), need(None, true));
        assert!(schedule.next_due() > Some(later));
        schedule.follow(later, hash(1), need(Some(7001), true));
        assert_eq!(schedule.next_due(), Some(later));
        schedule.start(later).unwrap();
        let announce = schedule.looked_up(later, hash(1), found()).unwrap();
        assert_eq!(announce.port, Some(7001));
    }

    trait Minutes {
        fn map_minutes(&self) -> Vec<u64>;
    }

    impl Minutes for Vec<(u64, bool)> {
        fn map_minutes(&self) -> Vec<u64> {
            self.iter().map(|(minute, _)| *minute).collect()
        }
    }

    #[test]
    fn a_torrent_that_needs_nothing_is_left_alone_and_one_that_begins_to_is_looked_up_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.follow(now, hash(1), DhtNeed { peers: DhtHurry::None, announce: None });
        assert_eq!(schedule.next_due(), None);
        schedule.follow(now, hash(1), DhtNeed { peers: DhtHurry::Urgent, announce: None });
        assert_eq!(schedule.start(now).unwrap().hash, hash(1));
        // The metadata come while it is being looked up.
        schedule.follow(now, hash(1), DhtNeed { peers: DhtHurry::Urgent, announce: ANNOUNCE });
        assert!(schedule.start(now).is_none());
        assert_eq!(schedule.looked_up(now, hash(1), found()), ANNOUNCE);
        schedule.unfollow(hash(1));
        assert!(schedule.next_due().is_none() && schedule.looked_up(now, hash(1), found()).is_none());
    }

    #[test]
    fn what_nobody_has_answered_is_repeated_soon_and_at_once_when_somebody_does() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.follow(now, hash(1), DhtNeed { peers: DhtHurry::Some, announce: None });
        for seconds in [8, 16, 32, 60, 60] {
            schedule.start(now).unwrap();
            schedule.looked_up(now, hash(1), Vec::new());
            assert_eq!(schedule.next_due(), Some(now + Duration::from_secs(seconds)));
            now += Duration::from_secs(seconds);
        }
        schedule.start(now).unwrap();
        schedule.looked_up(now, hash(1), Vec::new());
        schedule.wake(now);
        assert!(schedule.start(now).is_some());
    }

    #[test]
    fn what_found_few_nodes_is_repeated_twice() {
        let start = Instant::now();
        let (mut schedule, mut now) = (Schedule::new(start), start);
        schedule.follow(now, hash(1), DhtNeed { peers: DhtHurry::None, announce: ANNOUNCE });
        let mut seconds = Vec::new();
        for _ in 0..4 {
            next(&mut schedule, &mut now).unwrap();
            assert!(schedule.looked_up(now, hash(1), found().split_off(1)).is_some());
            seconds.push((now - start).as_secs());
        }
        assert_eq!(seconds, [0, 15, 75, 75 + 25 * 60]);
    }

    #[test]
    fn an_announce_that_nobody_acknowledges_is_repeated_soon() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.follow(now, hash(1), DhtNeed { peers: DhtHurry::None, announce: ANNOUNCE });
        schedule.start(now).unwrap();
        assert!(schedule.looked_up(now, hash(1), found()).is_some());
        schedule.announced(now, hash(1), 0);
        assert_eq!(schedule.next_due(), Some(now + ANNOUNCE_RETRY));
        now += ANNOUNCE_RETRY;
        schedule.start(now).unwrap();
        assert!(schedule.looked_up(now, hash(1), found()).is_some());
        schedule.announced(now, hash(1), 3);
        assert_eq!(schedule.next_due(), Some(now + ANNOUNCE_INTERVAL));
    }

    #[test]
    fn a_torrent_costs_less_than_a_kibibyte_of_memory() {
        let entries = size_of::<(WireHash, Followed)>() + size_of::<(Instant, WireHash)>();
        assert!(2 * entries + 8 * size_of::<(NodeId, SocketAddr)>() < 1024);
    }

    #[test]
    fn many_torrents_come_in_turn_the_urgent_ones_first() {
        let start = Instant::now();
        let (mut schedule, mut now) = (Schedule::new(start), start);
        for number in 0..1500 {
            let peers = if number % 3 == 0 { DhtHurry::Urgent } else { DhtHurry::None };
            schedule.follow(now, hash(number), DhtNeed { peers, announce: ANNOUNCE });
        }
        let mut seen = BTreeSet::new();
        let mut urgent_at_first = 0;
        while seen.len() < 1500 {
            let hash = next(&mut schedule, &mut now).expect("all are due");
            schedule.looked_up(now, hash, found());
            seen.insert(hash);
            if seen.len() == 500 {
                urgent_at_first = (0..1500).step_by(3).filter(|&n| seen.contains(&self::hash(n))).count();
            }
        }
        assert!(urgent_at_first > 200, "{urgent_at_first}");
        assert!(now - start < 30 * MINUTE, "{:?}", now - start);
    }
}
