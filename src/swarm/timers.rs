//! What is due though nothing happened: the choker's rounds, silent peers, slow peers.
//!
//! No timer runs while it has nothing to watch: a swarm without peers never wakes, a seed with idle peers every [`PATROL_IDLE`].

use std::time::{Duration, Instant};

use super::Swarm;
use crate::ids::PeerKey;
use crate::layout::BLOCK_LENGTH;
use crate::wire::Message;

/// Between two looks for slow peers while something is in flight.
const PATROL: Duration = Duration::from_secs(1);

/// Between two looks at silent peers while nothing is.
const PATROL_IDLE: Duration = Duration::from_secs(20);

/// After so long without a word we send a keep-alive; BEP 3 lets peers close after two minutes.
pub const KEEP_ALIVE: Duration = Duration::from_secs(90);

/// A peer that sends nothing for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(150);

/// A connection of which neither side wants anything for so long makes room.
const USELESS: Duration = Duration::from_secs(600);

/// A block may be in flight for so long, whatever else its peer sends meanwhile.
const OVERDUE: Duration = Duration::from_secs(120);

/// Under a limit, what is asked of several peers comes at a time: as long as so many blocks take, a peer has more time than otherwise.
const SHARED_BLOCKS: u32 = 8;

/// A begun piece of which no block has come for so long is given up if a torrent, this one or another, waits for memory; and a
/// whole one that could not be written, if another does.
const STALE: Duration = Duration::from_secs(30);

/// Between two looks for such pieces.
const LOOK: Duration = Duration::from_secs(10);

impl Swarm {
    /// When to call [`Swarm::poll`] though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let patrol = (!self.peers.is_empty()).then_some(self.next_patrol);
        let turn = if self.asking.is_empty() { None } else { self.config.pace.next_look() };
        [patrol, self.next_rechoke, self.next_look(), turn].into_iter().flatten().min()
    }

    /// When to look for begun pieces that do nothing but hold memory.
    fn next_look(&self) -> Option<Instant> {
        let memory = &self.config.memory;
        let is_due = self.pieces.len() > 0 && (memory.is_waited_for() || memory.waits())
            || memory.is_waited_for() && self.holds_unwritten();
        is_due.then(|| self.looked_at + LOOK)
    }

    /// What nobody sends any more, because it left or chokes us, must not keep us, or others, from what comes.
    fn give_up_stale(&mut self, now: Instant) {
        self.looked_at = now;
        let Some(then) = now.checked_sub(STALE) else { return };
        if self.config.memory.is_waited_for() {
            self.give_up_unwritten(now, then);
        }
        let stale = self.pieces.untouched_since(then);
        self.give_up_pieces(now, &stale);
        let wanted = stale.into_iter().filter(|&piece| self.wanted.contains(piece));
        wanted.for_each(|piece| self.picker.open_piece(piece));
        self.wake_idle();
    }

    pub(super) fn run_timers(&mut self, now: Instant) {
        if self.next_rechoke.is_some_and(|at| at <= now) {
            self.rechoke(now);
        }
        if self.next_look().is_some_and(|at| at <= now) {
            self.give_up_stale(now);
        }
        // Something may have come into flight since an idle patrol was set.
        let in_flight = self.pieces.requested_blocks() > 0;
        let busy = in_flight || self.hides() || self.peers.values().any(|peer| !peer.refused.is_empty());
        if busy {
            self.next_patrol = self.next_patrol.min(now + PATROL);
        }
        if self.next_patrol <= now && !self.peers.is_empty() {
            self.next_patrol = now + if busy { PATROL } else { PATROL_IDLE };
            self.patrol(now);
            self.ask_for_hashes(now);
        }
        // After the look, for this may be what the next one is for.
        if !in_flight {
            let silent = self.peers.values().filter(|peer| peer.snubbed && peer.am_interested);
            let probe = silent.map(|peer| peer.probe_at).filter(|&at| at > now).min();
            self.next_patrol = self.next_patrol.min(probe.unwrap_or(self.next_patrol));
        }
    }

    /// From now on, what peers send is read, or left where it is.
    pub fn set_listening(&mut self, now: Instant, listens: bool) {
        if !listens {
            self.listens_since = None;
        } else if self.listens_since.is_none() {
            self.listens_since = Some(now);
        }
    }

    fn patrol(&mut self, now: Instant) {
        let listens_since = self.listens_since;
        // A low limit takes longer than any peer.
        let of_limit = self.config.pace.time_of(SHARED_BLOCKS * BLOCK_LENGTH);
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            let since = |then: Instant| now.saturating_duration_since(then);
            // What a peer did not send while nobody listened does not count.
            let silence =
                |then: Instant| listens_since.map_or(Duration::ZERO, |start| since(then.max(start)));
            if silence(peer.last_received) > SILENCE {
                self.close(now, key, "sent nothing for too long");
            // Whoever is paused is not interested in what he will be.
            } else if silence(peer.last_useful) > USELESS && peer.interesting == 0 && !peer.peer_interested {
                self.close(now, key, "neither side wanted anything for too long");
            } else {
                if !peer.untold.is_empty() {
                    peer.last_sent = now;
                    self.outputs.extend(peer.take_haves());
                }
                if since(peer.last_sent) > KEEP_ALIVE {
                    self.send(now, key, Message::KeepAlive);
                }
                let Some(peer) = self.peers.get_mut(&key) else { continue };
                peer.refused.retain(|&(_, until)| until > now);
                let patience = peer.window.patience(peer.in_flight.len()) + of_limit;
                let oldest = peer.in_flight.front().map_or(Duration::ZERO, |(_, sent)| silence(sent.at()));
                if !peer.in_flight.is_empty()
                    && (silence(peer.waiting_since) > patience || oldest > OVERDUE + of_limit)
                {
                    self.snub(now, key);
                }
            }
        }
        self.review_super_seeding(now);
        self.wake_idle();
    }
}
