//! Who is told of events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::event::{Event, Kind, Severity};
use crate::metainfo::InfoHash;

/// Events that wait for one subscriber; what a slower one misses is counted.
pub const MOST_WAITING: usize = 16 * 1024;

/// Events of one subscriber. The queue is bounded: what a slow reader misses is counted.
#[derive(Debug)]
pub struct Subscription {
    /// The events; ends with the session.
    pub events: Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl Subscription {
    /// How many events found the queue full since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Subscriber {
    least: Severity,
    queue: SyncSender<Event>,
    dropped: Arc<AtomicU64>,
}

/// All subscribers.
#[derive(Debug, Default)]
pub struct Subscribers {
    all: Vec<Subscriber>,
}

impl Subscribers {
    /// A new one, for events of at least this severity.
    pub fn add(&mut self, least: Severity) -> Subscription {
        let (queue, events) = sync_channel(MOST_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        self.all.push(Subscriber { least, queue, dropped: dropped.clone() });
        Subscription { events, dropped }
    }

    /// Whether anybody wants events of this severity: if not, none is to be built.
    pub fn want(&self, severity: Severity) -> bool {
        self.all.iter().any(|subscriber| subscriber.least <= severity)
    }

    /// Tells everyone who wants to know. Never blocks.
    pub fn tell(&mut self, torrent: Option<InfoHash>, kind: Kind) {
        let severity = kind.severity();
        let event = Event { torrent, kind };
        self.all.retain(|subscriber| {
            if severity < subscriber.least {
                return true;
            }
            match subscriber.queue.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.dropped.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
    }
}
