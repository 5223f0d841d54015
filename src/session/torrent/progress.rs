//! A torrent's `progress` events: one a second while data come or go, none while all is still.

use std::time::{Duration, Instant};

use super::Torrent;
use crate::event::{Kind, Pieces, Severity};
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
    /// The totals at the last event.
    last: Totals,
}

impl ProgressReports {
    /// When [`Torrent::tell_progress`] has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl Torrent {
    /// Tells of progress, a second after something moved.
    pub(super) fn tell_progress(&mut self, now: Instant, context: &mut Context) {
        match self.progress.next {
            Some(at) if at <= now => {}
            Some(_) => return,
            None => {
                let due =
                    self.progress.moved && context.subscribers.want(Severity::Info) && !self.has_ended();
                self.progress.next = due.then(|| now + PROGRESS);
                return;
            }
        }
        (self.progress.next, self.progress.moved) = (None, false);
        let Some(totals) = self.swarm().map(|swarm| swarm.totals(now)) else { return };
        let before = std::mem::replace(&mut self.progress.last, totals);
        if (before.downloaded, before.uploaded) != (totals.downloaded, totals.uploaded) {
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
        down_rate: status.down_rate,
        up_rate: status.up_rate,
        peers: status.peers,
        seeds: status.seeds,
        eta: status.eta.map(|eta| eta.as_secs()),
        have: Pieces(status.have.ranges()),
        wanted_pieces: Pieces(status.wanted.ranges()),
    }
}
