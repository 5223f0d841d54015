//! Who is told of events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::event::{Event, Kind, Severity};
use crate::ids::InfoHashes;

/// Memory that events may take, roughly, while they wait for one subscriber: 16,384 plain ones. What
/// a slower subscriber misses is counted.
pub(crate) const MAX_WAITING: usize = 8 << 20;

/// What a plain event counts for; lists count on top.
const WEIGHT: usize = 512;

/// Events of one subscriber. The queue is bounded: what a slow reader misses is counted. Summaries are
/// never missed.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use btget::client::{Session, SessionOptions};
/// use btget::event::{Kind, Severity};
/// use std::time::Duration;
///
/// let local = SessionOptions { bind: Some([127, 0, 0, 1].into()), ..SessionOptions::default() };
/// let session = Session::start(local)?;
/// let subscription = session.subscribe(Severity::Info)?;
/// // What happened before anybody could listen is told first: TCP and UDP listen.
/// for _ in 0..2 {
///     let event = subscription.recv().expect("the session runs");
///     assert!(matches!(event.kind, Kind::ListenSuccess { port, .. } if port == session.port()));
/// }
/// assert!(subscription.recv_timeout(Duration::from_millis(1)).is_err(), "nothing happens");
/// session.shutdown();
/// assert_eq!((subscription.iter().count(), subscription.take_dropped()), (0, 0));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Subscription {
    /// Bounded by `backlog`: the sender looks at it first.
    events: Receiver<Event>,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct Backlog {
    weight: AtomicUsize,
    dropped: AtomicU64,
}

impl Subscription {
    /// Waits for the next event; `None` once the session has ended and all have been taken.
    pub fn recv(&self) -> Option<Event> {
        self.events.recv().ok().map(|event| self.taken(event))
    }

    /// Waits for the next event for so long at the most.
    ///
    /// # Errors
    ///
    /// If no event came in time, or none will come any more.
    pub fn recv_timeout(&self, limit: Duration) -> Result<Event, RecvTimeoutError> {
        self.events.recv_timeout(limit).map(|event| self.taken(event))
    }

    /// The events, until the session has ended.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.recv())
    }

    /// How many events found the queue full since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.backlog.dropped.swap(0, Ordering::Relaxed)
    }

    fn taken(&self, event: Event) -> Event {
        self.backlog.weight.fetch_sub(weight(&event.kind), Ordering::Relaxed);
        event
    }
}

/// Which events a subscriber is interested in, beyond their severity.
pub(crate) type Interest = Box<dyn Fn(&Kind) -> bool + Send>;

struct Subscriber {
    least: Severity,
    interest: Interest,
    queue: Sender<Event>,
    backlog: Arc<Backlog>,
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber").field("least", &self.least).finish_non_exhaustive()
    }
}

impl Subscriber {
    fn wants(&self, kind: &Kind) -> bool {
        kind.severity() >= self.least && (self.interest)(kind)
    }

    /// False if nobody listens any more.
    fn tell(&self, event: Event) -> bool {
        let weight = weight(&event.kind);
        // Each torrent has one summary, and it is for every reader, however slow.
        let must_arrive = matches!(event.kind, Kind::Summary { .. });
        if self.backlog.weight.load(Ordering::Relaxed) + weight > MAX_WAITING && !must_arrive {
            self.backlog.dropped.fetch_add(1, Ordering::Relaxed);
            // Whether the reader is gone shows when it should have room again.
            return Arc::strong_count(&self.backlog) > 1;
        }
        self.backlog.weight.fetch_add(weight, Ordering::Relaxed);
        self.queue.send(event).is_ok()
    }
}

/// All subscribers of a session.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    all: Vec<Subscriber>,
}

impl Subscribers {
    /// A new one, for events of at least this severity that `interest` is true of; `first` are told to
    /// it alone. Others are not sent, so that nobody wakes up for them.
    pub(crate) fn add(
        &mut self,
        least: Severity,
        interest: Interest,
        first: impl IntoIterator<Item = Event>,
    ) -> Subscription {
        let (queue, events) = channel();
        let backlog = Arc::new(Backlog::default());
        let subscriber = Subscriber { least, interest, queue, backlog: backlog.clone() };
        first.into_iter().filter(|event| subscriber.wants(&event.kind)).for_each(|event| {
            subscriber.tell(event);
        });
        self.all.push(subscriber);
        Subscription { events, backlog }
    }

    /// Whether anybody wants events of this severity: if not, none is to be built.
    pub(crate) fn want(&self, severity: Severity) -> bool {
        self.all.iter().any(|subscriber| subscriber.least <= severity)
    }

    /// The least severity that anybody wants; `None`: nobody wants any.
    pub(crate) fn least(&self) -> Option<Severity> {
        self.all.iter().map(|subscriber| subscriber.least).min()
    }

    /// Tells everyone who wants to know. Never blocks.
    pub(crate) fn tell(&mut self, torrent: Option<InfoHashes>, kind: Kind) {
        let event = Event { torrent, kind };
        self.all.retain(|subscriber| !subscriber.wants(&event.kind) || subscriber.tell(event.clone()));
    }
}

/// Roughly the bytes that an event takes.
fn weight(kind: &Kind) -> usize {
    const RANGE: usize = size_of::<std::ops::Range<u32>>();
    let ranges = |pieces: &crate::event::Pieces| pieces.0.len() * RANGE;
    let more = match kind {
        Kind::Progress { have, wanted_pieces, .. } | Kind::Summary { have, wanted_pieces, .. } => {
            ranges(have) + ranges(wanted_pieces)
        }
        Kind::HashcheckFinished { have, missing, corrupt, .. } => {
            ranges(have) + ranges(missing) + ranges(corrupt)
        }
        Kind::FileReport { pieces, bytes, shared, .. } => {
            ranges(pieces) + ranges(shared) + bytes.len() * size_of::<(u64, u64)>()
        }
        _ => 0,
    };
    WEIGHT + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Pieces;

    fn piece(index: u32) -> Kind {
        Kind::PieceHashPassed { index, peers: Vec::new() }
    }

    fn progress(ranges: u32) -> Kind {
        Kind::Progress {
            done: 0,
            wanted: 0,
            left: 0,
            downloaded: 0,
            uploaded: 0,
            total_downloaded: 0,
            total_uploaded: 0,
            down_rate: 0,
            up_rate: 0,
            peers: 0,
            seeds: 0,
            eta: None,
            have: Pieces((0..ranges).map(|n| 2 * n..2 * n + 1).collect()),
            wanted_pieces: Pieces(Vec::new()),
        }
    }

    fn summary() -> Kind {
        Kind::Summary {
            name: String::new(),
            verdict: crate::event::Verdict::Complete,
            reason: String::new(),
            done: 0,
            wanted: Some(0),
            left: Some(0),
            downloaded: 0,
            uploaded: 0,
            total_downloaded: 0,
            total_uploaded: 0,
            wasted: 0,
            peers_found: crate::event::PeersFound::default(),
            elapsed: 0.0,
            have: Pieces(Vec::new()),
            wanted_pieces: Pieces(Vec::new()),
        }
    }

    fn anything() -> Interest {
        Box::new(|_| true)
    }

    #[test]
    fn a_reader_that_takes_nothing_costs_bounded_memory_and_still_gets_the_summary() {
        let mut subscribers = Subscribers::default();
        let subscription = subscribers.add(Severity::Debug, anything(), []);
        (0..100_000).for_each(|index| subscribers.tell(None, piece(index)));
        (0..100).for_each(|_| subscribers.tell(None, progress(10_000)));
        subscribers.tell(None, summary());
        drop(subscribers);
        let taken: Vec<Event> = subscription.iter().collect();
        let size: usize = taken.iter().map(|event| weight(&event.kind)).sum();
        assert!(size <= MAX_WAITING + weight(&summary()), "{size}");
        assert_eq!(taken.len() as u64 + subscription.take_dropped(), 100_101);
        assert!(matches!(taken.last().unwrap().kind, Kind::Summary { .. }));
        assert_eq!(subscription.take_dropped(), 0);
    }

    #[test]
    fn what_is_of_no_interest_is_not_sent() {
        let mut subscribers = Subscribers::default();
        let first = [3, 7].map(|index| Event { torrent: None, kind: piece(index) });
        let seven = Box::new(|kind: &Kind| matches!(kind, Kind::PieceHashPassed { index: 7, .. }));
        let subscription = subscribers.add(Severity::Info, seven, first);
        (0..9).for_each(|index| subscribers.tell(None, piece(index)));
        drop(subscribers);
        let told =
            subscription.iter().filter(|event| matches!(event.kind, Kind::PieceHashPassed { index: 7, .. }));
        assert_eq!((told.count(), subscription.take_dropped()), (2, 0));
    }

    #[test]
    fn room_that_a_reader_makes_is_used_again() {
        let mut subscribers = Subscribers::default();
        let subscription = subscribers.add(Severity::Debug, anything(), []);
        (0..100_000).for_each(|index| {
            subscribers.tell(None, piece(index));
            assert!(subscription.recv().is_some());
        });
        assert_eq!(subscription.take_dropped(), 0);
    }

    #[test]
    fn nothing_is_told_below_the_severity_asked_for_and_nothing_wanted_once_all_have_gone() {
        let mut subscribers = Subscribers::default();
        assert_eq!(subscribers.least(), None);
        let first = [Event { torrent: None, kind: piece(7) }];
        let subscription = subscribers.add(Severity::Warning, anything(), first);
        assert!(subscribers.want(Severity::Warning) && !subscribers.want(Severity::Info));
        subscribers.tell(None, piece(1));
        subscribers.tell(None, Kind::EventsDropped { count: 3 });
        assert!(matches!(subscription.recv().unwrap().kind, Kind::EventsDropped { count: 3 }));
        drop(subscription);
        subscribers.tell(None, Kind::EventsDropped { count: 3 });
        assert!(!subscribers.want(Severity::Fatal));
    }
}
