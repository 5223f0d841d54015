//! What a peer that wants data from us has to offer for an upload slot, for whoever compares the peers of several torrents.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::Swarm;
use super::choker::{Contender, IDLE_TURN, TURN};
use crate::event::State;

/// A peer that wants data from us.
#[derive(Clone, Copy, Debug)]
pub struct Bidder {
    /// Bytes a second it sends us.
    pub down_rate: u64,
    /// Bytes a second we send it.
    pub up_rate: u64,
    /// We are waiting for blocks that it does not send.
    pub snubbed: bool,
    /// Whether we choke it now.
    pub am_choking: bool,
    /// When `am_choking` last changed, or when it connected.
    pub since: Instant,
}

impl Bidder {
    /// Whether it sends us data.
    pub fn gives(&self) -> bool {
        self.down_rate > 0 && !self.snubbed
    }

    /// The least comes first: who gives us most (BEP 3); who takes data in its turn, by how much; who waits longest; and those whose turn is over.
    pub fn rank(&self, now: Instant) -> (u8, Reverse<u64>, Instant) {
        let held = now.saturating_duration_since(self.since);
        let patience: Duration = if self.up_rate > 0 { TURN } else { IDLE_TURN };
        match self.am_choking {
            _ if self.gives() => (0, Reverse(self.down_rate), self.since),
            false if held < patience => (1, Reverse(self.up_rate), self.since),
            true => (2, Reverse(0), self.since),
            false => (3, Reverse(self.up_rate), self.since),
        }
    }
}

impl Swarm {
    /// Peers that have an upload slot, and peers that want one.
    pub fn upload_demand(&self) -> (usize, usize) {
        match self.state {
            State::Started => (self.served.len(), self.waiting.len()),
            State::Paused | State::Stopped | State::Waiting => (0, 0),
        }
    }

    /// Both, for a comparison.
    pub fn bidders(&self, now: Instant) -> impl Iterator<Item = Bidder> {
        let is_started = self.state == State::Started;
        let keys = self.served.iter().chain(&self.waiting).filter(move |_| is_started);
        keys.filter_map(|key| self.peers.get(key)).map(move |peer| {
            let Contender { down_rate, up_rate, snubbed, am_choking, since, .. } = peer.contender(now);
            Bidder { down_rate, up_rate, snubbed, am_choking, since }
        })
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
