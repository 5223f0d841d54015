//! Who gives a place away, where all connections that there may be are taken and a seed waits for one.

use std::time::{Duration, Instant};

use super::{Connection, Doing, Fault, JobEnd, Place, WebKey, WebSeeds};

/// A connection to a seed that has not answered at all for so long gives its place to a seed that waits for one.
const SILENT: Duration = Duration::from_secs(5);

impl WebSeeds {
    /// A connection that makes a place for a seed that waits for one: one of a seed that is left alone for now, or has never answered.
    pub(super) fn useless(&self, now: Instant, waiting: usize, place: Place) -> Option<WebKey> {
        let is_useless = |connection: &Connection| {
            let seed = &self.seeds[connection.seed];
            let helps = match place {
                Place::Free | Place::NoWay => false,
                Place::HostTaken => seed.host == self.seeds[waiting].host,
                Place::AllTaken => true,
            };
            helps
                && match connection.doing {
                    Doing::Nothing { .. } => !seed.is_ready(now),
                    Doing::Job { since, has_brought, .. } => {
                        !has_brought && !seed.has_answered && since + SILENT <= now
                    }
                }
        };
        let others = self.connections.iter().filter(|(_, connection)| connection.seed != waiting);
        others.filter(|(_, connection)| is_useless(connection)).map(|(&key, _)| key).next()
    }

    /// This connection gives its place away.
    pub(super) fn give_way(&mut self, now: Instant, key: WebKey) {
        let fault = Fault::Slow("does not answer, and others wait for its place".to_owned());
        self.on_ended(now, key, &JobEnd::with(Some((None, fault))));
        self.close(key);
    }
}
