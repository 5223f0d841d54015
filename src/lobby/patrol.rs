//! A look at all who wait, now and then: who is silent is closed, who hears nothing is told that we are there, and who keeps others out goes.

use std::time::Instant;

use super::{GRACE, Lobby, Waiting};
use crate::ids::PeerKey;
use crate::swarm::{KEEP_ALIVE, SILENCE};
use crate::wire::Message;

impl Lobby {
    /// Has that look.
    pub(super) fn patrol(&mut self, now: Instant) {
        let since = |then: Instant| now.saturating_duration_since(then);
        let silent = self.waiting.iter().filter(|(_, waiting)| since(waiting.last_received) > SILENCE);
        let silent: Vec<PeerKey> = silent.map(|(&peer, _)| peer).collect();
        silent.into_iter().for_each(|peer| self.close(now, peer, "sent nothing for too long"));
        let quiet = self.waiting.iter().filter(|(_, waiting)| since(waiting.last_sent) > KEEP_ALIVE);
        let quiet: Vec<PeerKey> = quiet.map(|(&peer, _)| peer).collect();
        quiet.into_iter().for_each(|peer| self.send(now, peer, Message::KeepAlive));
        if self.waiting.len() >= self.config.max_peers {
            let hopeless = |(peer, waiting): &(&PeerKey, &Waiting)| {
                since(waiting.connected) > GRACE && self.is_hopeless(**peer)
            };
            let longest = self.waiting.iter().filter(hopeless).min_by_key(|(_, waiting)| waiting.connected);
            if let Some((&peer, _)) = longest {
                self.close(now, peer, "does not give the metadata, and others may");
            }
        }
    }
}
