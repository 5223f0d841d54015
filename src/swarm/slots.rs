//! The peers of a torrent that want data from us, for whoever compares those of several torrents.

use std::time::Instant;

use super::Swarm;
use super::choker::Contender;
use crate::event::State;

impl Swarm {
    /// Peers that have an upload slot, and peers that want one.
    pub fn upload_demand(&self) -> (usize, usize) {
        match self.state {
            State::Started => (self.served.len(), self.waiting.len()),
            State::Paused | State::Stopped | State::Waiting => (0, 0),
        }
    }

    /// Both, for a comparison.
    pub fn all_contenders(&self, now: Instant) -> impl Iterator<Item = Contender> {
        let is_started = self.state == State::Started;
        let keys = self.served.iter().chain(&self.waiting).filter(move |_| is_started);
        keys.filter_map(|key| self.peers.get(key)).map(move |peer| peer.contender(now))
    }

    /// How many peers may have an upload slot.
    pub fn upload_slots(&self) -> usize {
        self.config.upload_slots
    }

    /// From now on so many may: free ones are given away at once, and of too many the choker takes some back.
    pub fn set_upload_slots(&mut self, now: Instant, slots: usize) {
        self.config.upload_slots = slots;
        match self.served.len() > slots {
            true => self.rechoke(now),
            false => self.fill_slots(now),
        }
    }
}
