//! Callbacks: a thread for each, fed by a subscription of its own.

use std::thread;

use super::{Error, Subscription};
use crate::event::{Event, Kind, Severity};
use crate::ids::InfoHashes;

/// What is to be called, and from which severity on.
pub(super) struct Callback {
    pub least: Severity,
    pub tell: Box<dyn FnMut(&Event) + Send>,
}

impl Callback {
    pub(super) fn new(least: Severity, tell: impl FnMut(&Event) + Send + 'static) -> Callback {
        Callback { least, tell: Box::new(tell) }
    }

    /// Called with each event about this torrent or about none, until the session has ended.
    pub(super) fn spawn(mut self, torrent: InfoHashes, subscription: Subscription) -> Result<(), Error> {
        let run = move || {
            while let Some(event) = subscription.recv() {
                let dropped = subscription.take_dropped();
                if dropped > 0 {
                    (self.tell)(&Event { torrent: None, kind: Kind::EventsDropped { count: dropped } });
                }
                if event.torrent.is_none_or(|about| about == torrent) {
                    (self.tell)(&event);
                }
            }
        };
        thread::Builder::new().name("btget-callback".into()).spawn(run).map(drop).map_err(Error::Thread)
    }
}
