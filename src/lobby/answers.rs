//! Peers that were called by the one hash that a link names and have answered by another: by that of version 2, if the torrent is a hybrid
//! (BEP 52), or for another torrent. The metadata tell which.

use std::time::Instant;

use super::Lobby;
use crate::ids::{PeerKey, WireHash};
use crate::wire::Reserved;

impl Lobby {
    /// A peer that we called has answered by a hash of which nobody knows yet whether it is one of the torrent's.
    pub(crate) fn answered_by(&mut self, peer: PeerKey, hash: WireHash) {
        if let Some(waiting) = self.waiting.get_mut(&peer) {
            waiting.answered_by = Some(hash);
        }
    }

    /// The metadata are known, and by them the hash of version 2, if there is one: version 2 is spoken with those who have answered by it, and those
    /// who have answered by anything else are closed.
    pub(crate) fn judge_answers(&mut self, now: Instant, v2: Option<WireHash>) {
        let mut others = Vec::new();
        for (&peer, waiting) in &mut self.waiting {
            match waiting.answered_by.take() {
                Some(hash) if v2 == Some(hash) => {
                    waiting.hello.reserved = waiting.hello.reserved.with(Reserved::V2);
                }
                Some(_) => others.push(peer),
                None => {}
            }
        }
        others.into_iter().for_each(|peer| self.close_unruly(now, peer, "answers for another torrent"));
    }
}
