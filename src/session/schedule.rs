//! When which torrent has something to do though nothing happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::ids::TorrentId;

/// The next deadline of each torrent, ordered by time, so that a turn of the loop costs the torrents that are due and not
/// all of them.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    due: BTreeSet<(Instant, TorrentId)>,
    /// The same deadlines, by torrent.
    deadlines: BTreeMap<TorrentId, Instant>,
}

impl Schedule {
    /// Sets the deadline of a torrent; `None` if it has none any more.
    pub(super) fn set(&mut self, torrent: TorrentId, deadline: Option<Instant>) {
        let before = match deadline {
            Some(at) => self.deadlines.insert(torrent, at),
            None => self.deadlines.remove(&torrent),
        };
        if before == deadline {
            return;
        }
        if let Some(at) = before {
            self.due.remove(&(at, torrent));
        }
        if let Some(at) = deadline {
            self.due.insert((at, torrent));
        }
    }

    /// The earliest deadline of all.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// The torrents whose deadline has come, earliest first. They keep it until it is set anew.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = TorrentId> {
        self.due.iter().take_while(move |&&(at, _)| at <= now).map(|&(_, torrent)| torrent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;
    use std::time::Duration;

    #[test]
    fn those_that_are_due_are_found_in_the_order_of_their_time() {
        let (mut counter, mut schedule, start) = (Counter::default(), Schedule::default(), Instant::now());
        let torrents: Vec<TorrentId> = (0..4).map(|_| counter.torrent()).collect();
        let after = |seconds| start + Duration::from_secs(seconds);
        let due = |schedule: &Schedule, now| schedule.due(now).collect::<Vec<_>>();
        for (&torrent, seconds) in torrents.iter().zip([30, 10, 20, 40]) {
            schedule.set(torrent, Some(after(seconds)));
        }
        assert_eq!(schedule.next(), Some(after(10)));
        assert_eq!(due(&schedule, after(9)), []);
        assert_eq!(due(&schedule, after(30)), [torrents[1], torrents[2], torrents[0]]);

        schedule.set(torrents[1], Some(after(35)));
        schedule.set(torrents[2], None);
        assert_eq!(schedule.next(), Some(after(30)));
        assert_eq!(due(&schedule, after(35)), [torrents[0], torrents[1]]);
        torrents.iter().for_each(|&torrent| schedule.set(torrent, None));
        assert_eq!((schedule.next(), due(&schedule, after(99))), (None, vec![]));
    }
}
