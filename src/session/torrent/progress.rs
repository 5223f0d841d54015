//! A torrent's `progress` events: one a second while data come or go, one when all has become still, none while it is.

use std::time::{Duration, Instant};

use super::Torrent;
use crate::event::{Kind, PeersFound, Pieces, Severity};
use crate::finder::Finder;
use crate::session::context::Context;
use crate::session::options::Status;
use crate::swarm::Totals;

/// Between two `progress` events while something moves.
const PROGRESS: Duration = Duration::from_secs(1);

/// When the next `progress` event is due.
#[derive(Debug, Default)]
pub(super) struct ProgressReports {
    /// Whether any data came or went since the last event.
    pub moved: bool,
    next: Option<Instant>,
    /// The totals when it was last looked at.
    last: Totals,
    /// The last event has told of a rate: another one is to say that nothing moves any more.
    has_told_a_rate: bool,
}

impl ProgressReports {
    /// When [`Torrent::tell_progress`] has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }
}

/// Payload bytes received and sent in this run. A swarm counts on from earlier runs, and a torrent that is checked again has
/// several swarms.
#[derive(Debug, Default)]
pub(super) struct RunCounters {
    /// By swarms that are no more.
    before: (u64, u64),
    /// What the swarm has counted on from.
    base: (u64, u64),
    /// Peers that finders have found which are no more.
    found_before: PeersFound,
}

impl RunCounters {
    /// A swarm begins that counts on from so many bytes received and sent.
    pub(super) fn swarm_begins(&mut self, downloaded: u64, uploaded: u64) {
        self.base = (downloaded, uploaded);
    }

    /// A swarm ends, with these totals.
    pub(super) fn swarm_ends(&mut self, totals: &Totals) {
        self.before = self.of(Some(totals));
    }

    /// A finder ends.
    pub(super) fn finder_ends(&mut self, found: PeersFound) {
        self.found_before = self.found_before.plus(found);
    }

    /// Peers that were found, by the finder that there is too.
    pub(super) fn peers_found(&self, finder: Option<&Finder>) -> PeersFound {
        self.found_before.plus(finder.map(Finder::peers_found).unwrap_or_default())
    }

    /// Bytes received and sent, with those of the swarm that there is.
    pub(super) fn of(&self, totals: Option<&Totals>) -> (u64, u64) {
        let (down, up) =
            totals.map_or((0, 0), |totals| (totals.downloaded - self.base.0, totals.uploaded - self.base.1));
        (self.before.0 + down, self.before.1 + up)
    }
}

impl Torrent {
    /// Before it is told that all is there: how it stands, unless nothing came.
    pub(super) fn tell_last_progress(&mut self, now: Instant, context: &mut Context) {
        if self.run.of(self.swarm().map(|swarm| swarm.totals(now)).as_ref()).0 > 0 {
            self.tell_if(context, Severity::Info, || progress(&self.status(now)));
        }
    }

    /// Tells of progress, a second after something moved.
    pub(super) fn tell_progress(&mut self, now: Instant, context: &mut Context) {
        match self.progress.next {
            Some(at) if at <= now => {}
            Some(_) => return,
            None => {
                let due = self.progress.moved || self.progress.has_told_a_rate;
                let due = due && context.subscribers.want(Severity::Info) && !self.has_ended();
                self.progress.next = due.then(|| now + PROGRESS);
                return;
            }
        }
        (self.progress.next, self.progress.moved) = (None, false);
        let told_a_rate = std::mem::take(&mut self.progress.has_told_a_rate);
        let Some(totals) = self.swarm().map(|swarm| swarm.totals(now)) else { return };
        let before = std::mem::replace(&mut self.progress.last, totals);
        let is_still = totals.down_rate == 0 && totals.up_rate == 0;
        let has_moved = (before.downloaded, before.uploaded) != (totals.downloaded, totals.uploaded);
        self.progress.has_told_a_rate = !is_still && (has_moved || told_a_rate);
        if has_moved || (told_a_rate && is_still) {
            self.tell_if(context, Severity::Info, || progress(&self.status(now)));
        }
    }
}

fn progress(status: &Status) -> Kind {
    Kind::Progress {
        done: status.wanted_bytes - status.left,
        wanted: status.wanted_bytes,
        left: status.left,
        downloaded: status.downloaded,
        uploaded: status.uploaded,
        total_downloaded: status.total_downloaded,
        total_uploaded: status.total_uploaded,
        down_rate: status.down_rate,
        up_rate: status.up_rate,
        peers: status.peers,
        seeds: status.seeds,
        eta: status.eta.map(|eta| eta.as_secs()),
        have: Pieces(status.have.ranges()),
        wanted_pieces: Pieces(status.wanted.ranges()),
    }
}
