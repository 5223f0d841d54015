//! Sees to it that whoever needs a place among the connections most gets one, when all are taken, and likewise an upload slot.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Engine;
use super::places::{Newcomer, Place, who_goes};
use crate::ids::TorrentId;

/// Between two looks for peers that would be called if there were a place, while some were found.
const SOON: Duration = Duration::from_millis(500);

/// The same, while none were found or nobody went for them.
const LATER: Duration = Duration::from_secs(5);

/// When to look for those who wait for a place. No place was free when the loop last looked, or there is nothing to wait for.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Crowded {
    next_look: Option<Instant>,
}

impl Crowded {
    /// When [`Engine::make_room`] has something to do though nothing happens.
    pub(super) fn deadline(self) -> Option<Instant> {
        self.next_look
    }
}

impl Engine {
    /// Whether there is a place for a connection of the torrent with this peer, be it that somebody has to go.
    pub(super) fn find_place(&mut self, now: Instant, torrent: TorrentId, address: SocketAddr) -> bool {
        self.context.free_places() > 0 || self.displace_for(now, torrent, address)
    }

    /// While all places are taken, gives one to each torrent that has somebody to call and may have it. When places have
    /// become free, all torrents are to be asked whom to call.
    pub(super) fn make_room(&mut self, now: Instant) {
        if self.context.free_places() > 0 {
            if self.crowded.next_look.take().is_some() {
                self.touched.extend(self.torrents.keys());
            }
            return;
        }
        let look = self.crowded.next_look.get_or_insert(now + SOON);
        if *look > now {
            return;
        }
        let wants = |torrent: &super::Torrent| Some((torrent.id, torrent.wants_place(now)?));
        let waiting: Vec<_> = self.torrents.values().filter_map(wants).collect();
        let mut found = false;
        for (torrent, address) in waiting {
            if self.find_place(now, torrent, address) {
                found = true;
                // At once, before another takes it.
                self.with(torrent, |torrent, context| torrent.advance(now, context));
            }
        }
        self.crowded.next_look = Some(now + if found { SOON } else { LATER });
    }

    fn displace_for(&mut self, now: Instant, torrent: TorrentId, address: SocketAddr) -> bool {
        let place = |torrent, by| Place { torrent, by };
        let places: Vec<Place> = self
            .torrents
            .values()
            .flat_map(|torrent| torrent.occupants(now).map(|by| place(torrent.id, by)))
            .collect();
        let calls = self.torrents.get(&torrent).map_or(0, super::Torrent::calls);
        let Some((from, peer)) = who_goes(now, &places, &Newcomer { torrent, address, calls }) else {
            return false;
        };
        self.with(from, |torrent, context| torrent.displace(now, peer, context));
        self.context.free_places() > 0
    }

    /// Shares the upload slots out among all peers that want data from us, if that is due.
    pub(super) fn compare_contenders(&mut self, now: Instant) {
        if !self.context.uploads.is_due(now) {
            return;
        }
        let swarms = || self.torrents.values().filter_map(|torrent| Some((torrent.id, torrent.swarm()?)));
        let contenders =
            swarms().flat_map(|(id, swarm)| swarm.all_contenders(now).map(move |contender| (id, contender)));
        let rate = swarms().map(|(_, swarm)| swarm.totals(now).up_rate).sum();
        for (id, slots) in self.context.uploads.compare(now, rate, contenders.collect()) {
            self.with(id, |torrent, _| torrent.set_upload_slots(now, slots));
        }
    }
}
