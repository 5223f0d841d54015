//! Our queries that are under way, and the secrets by which their answers are known.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::api::Family;
use super::lookup::LookupId;
use super::node_id::NodeId;
use crate::hash::sha1;
use crate::ids::WireHash;

/// After so long at the most, and at the least, a look-up goes on without the answer; between them it depends on how fast others answer.
const MAX_SLOW: Duration = Duration::from_secs(1);
const MIN_SLOW: Duration = Duration::from_millis(200);

/// After so long an answer comes too late.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// A source of bytes that nobody can foretell who has seen others of it: transaction ids, ids, the secrets of tokens.
#[derive(Debug)]
pub(super) struct Secret {
    seed: u64,
    /// Two machines of one process have no secret in common, and so no id (BEP 45).
    family: Family,
    drawn: u64,
}

impl Secret {
    pub(super) fn new(seed: u64, family: Family) -> Secret {
        Secret { seed, family, drawn: 0 }
    }

    /// Twenty bytes.
    pub(super) fn draw(&mut self) -> NodeId {
        self.drawn += 1;
        let family = self.family.ip_length() as u64;
        let digest = sha1(&[self.seed, family, self.drawn].map(u64::to_be_bytes).concat());
        NodeId(digest.0)
    }

    /// A number.
    pub(super) fn number(&mut self) -> u64 {
        let NodeId(bytes) = self.draw();
        bytes.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

/// The transaction id of a query of ours: four bytes, so that an answer is hardly guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct TransactionId([u8; 4]);

impl TransactionId {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a query is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// A step of a look-up.
    Lookup(LookupId),
    /// To see whether the node is there.
    Check,
    /// An announce of this torrent.
    Announce(WireHash),
}

/// A query without an answer so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    pub(super) to: SocketAddr,
    /// The id that the node should have, if somebody has told it.
    pub(super) id: Option<NodeId>,
    pub(super) purpose: Purpose,
    pub(super) sent_at: Instant,
    /// Nodes of both families were asked for.
    pub(super) both: bool,
    /// It has been told of as [`Overdue::Slow`].
    pub(super) is_slow: bool,
}

/// How long answers take: the mean, and the mean deviation from it, as TCP keeps them (RFC 6298).
#[derive(Clone, Copy, Debug)]
struct Delay {
    mean: Duration,
    deviation: Duration,
}

impl Delay {
    fn after(self, delay: Duration) -> Delay {
        let deviation = (self.deviation * 3 + self.mean.abs_diff(delay)) / 4;
        Delay { mean: (self.mean * 7 + delay) / 8, deviation }
    }

    /// After so long an answer is not likely to come any more.
    fn limit(self) -> Duration {
        (self.mean + 4 * self.deviation).clamp(MIN_SLOW, MAX_SLOW)
    }
}

/// A query that has waited long.
#[derive(Debug)]
pub(super) enum Overdue {
    /// For longer than most answers take: it may still come.
    Slow(Query),
    /// For [`TIMEOUT`]: it is given up.
    Lost(Query),
}

/// The queries under way. Bounded by the budget of the node: what can be sent in [`TIMEOUT`].
#[derive(Debug, Default)]
pub(super) struct Queries {
    in_flight: HashMap<TransactionId, Query>,
    /// In the order in which they were sent; some have been answered since. First those of look-ups that are not slow yet, then all.
    fresh: VecDeque<(Instant, TransactionId)>,
    all: VecDeque<(Instant, TransactionId)>,
    delay: Option<Delay>,
}

impl Queries {
    /// A query begins; returns its transaction id.
    pub(super) fn begin(&mut self, query: Query, secret: &mut Secret) -> TransactionId {
        loop {
            let NodeId([a, b, c, d, ..]) = secret.draw();
            let transaction_id = TransactionId([a, b, c, d]);
            if let std::collections::hash_map::Entry::Vacant(entry) = self.in_flight.entry(transaction_id) {
                entry.insert(query);
                self.all.push_back((query.sent_at + TIMEOUT, transaction_id));
                // Nobody but a look-up goes on without an answer.
                if !matches!(query.purpose, Purpose::Lookup(_)) {
                    return transaction_id;
                }
                let slow_at = query.sent_at + self.delay.map_or(MAX_SLOW, Delay::limit);
                // In order, though answers may have become faster meanwhile.
                let slow_at = self.fresh.back().map_or(slow_at, |(last, _)| slow_at.max(*last));
                self.fresh.push_back((slow_at, transaction_id));
                return transaction_id;
            }
        }
    }

    /// The query that is answered under this transaction id, from the address that it went to; it has ended.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        transaction_id: &[u8],
    ) -> Option<Query> {
        let transaction_id = TransactionId(transaction_id.try_into().ok()?);
        self.in_flight.get(&transaction_id).filter(|query| query.to == from)?;
        let query = self.in_flight.remove(&transaction_id)?;
        self.skip_answered();
        let delay = now.saturating_duration_since(query.sent_at);
        let first = Delay { mean: delay, deviation: delay / 2 };
        self.delay = Some(self.delay.map_or(first, |before| before.after(delay)));
        Some(query)
    }

    fn skip_answered(&mut self) {
        for queue in [&mut self.fresh, &mut self.all] {
            while queue.front().is_some_and(|(_, id)| !self.in_flight.contains_key(id)) {
                queue.pop_front();
            }
        }
    }

    /// The next query that has waited too long, each once as slow and once as lost.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Overdue> {
        self.skip_answered();
        let due =
            |queue: &VecDeque<(Instant, TransactionId)>| queue.front().is_some_and(|(at, _)| *at <= now);
        if due(&self.fresh) {
            let (_, id) = self.fresh.pop_front()?;
            let query = self.in_flight.get_mut(&id)?;
            query.is_slow = true;
            return Some(Overdue::Slow(*query));
        }
        if due(&self.all) {
            let (_, id) = self.all.pop_front()?;
            return self.in_flight.remove(&id).map(Overdue::Lost);
        }
        None
    }

    /// When the next one has waited too long.
    pub(super) fn next_due(&self) -> Option<Instant> {
        [&self.fresh, &self.all].into_iter().filter_map(|queue| queue.front()).map(|(at, _)| *at).min()
    }

    /// Whether a query to this address is under way.
    pub(super) fn is_asking(&self, address: SocketAddr) -> bool {
        self.in_flight.values().any(|query| query.to == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(now: Instant, to: SocketAddr) -> Query {
        let purpose = Purpose::Lookup(LookupId(1));
        Query { to, id: None, purpose, sent_at: now, both: false, is_slow: false }
    }

    #[test]
    fn an_answer_counts_once_and_only_from_who_was_asked() {
        let now = Instant::now();
        let (mut queries, mut secret) = (Queries::default(), Secret::new(1, Family::V4));
        let (to, other): (SocketAddr, SocketAddr) =
            ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let id = queries.begin(query(now, to), &mut secret);
        assert!(queries.answered(now, other, id.bytes()).is_none());
        assert!(queries.answered(now, to, b"xxxx").is_none() && queries.answered(now, to, b"x").is_none());
        assert!(queries.is_asking(to) && !queries.is_asking(other));
        assert!(queries.answered(now, to, id.bytes()).is_some());
        assert!(queries.answered(now, to, id.bytes()).is_none());
        assert_eq!(queries.next_due(), None);
    }

    #[test]
    fn a_query_is_slow_after_a_second_at_the_most_and_lost_after_five() {
        let now = Instant::now();
        let (mut queries, mut secret) = (Queries::default(), Secret::new(1, Family::V4));
        let to = "127.0.0.1:1".parse().unwrap();
        let id = queries.begin(query(now, to), &mut secret);
        assert_eq!(queries.next_due(), Some(now + MAX_SLOW));
        assert!(queries.overdue(now).is_none());
        assert!(matches!(queries.overdue(now + MAX_SLOW), Some(Overdue::Slow(_))));
        assert!(queries.overdue(now + MAX_SLOW).is_none());
        assert_eq!(queries.next_due(), Some(now + TIMEOUT));
        assert!(matches!(queries.overdue(now + TIMEOUT), Some(Overdue::Lost(_))));
        assert!(queries.answered(now, to, id.bytes()).is_none());
        assert_eq!(queries.next_due(), None);
    }

    #[test]
    fn where_answers_are_fast_a_query_is_slow_sooner() {
        let mut now = Instant::now();
        let (mut queries, mut secret) = (Queries::default(), Secret::new(1, Family::V4));
        let to = "127.0.0.1:1".parse().unwrap();
        for _ in 0..30 {
            let id = queries.begin(query(now, to), &mut secret);
            now += Duration::from_millis(100);
            queries.answered(now, to, id.bytes()).unwrap();
        }
        queries.begin(query(now, to), &mut secret);
        assert_eq!(queries.next_due(), Some(now + MIN_SLOW));
    }
}
