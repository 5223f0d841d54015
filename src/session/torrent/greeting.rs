//! By which hash a torrent and its peers greet one another, and what they speak then (BEP 3, 10, 52).

use super::Torrent;
use crate::ids::{InfoHashes, PeerKey, WireHash};
use crate::net::dial::{DialError, Established, Greeting};
use crate::session::context::Context;
use crate::session::dht::DhtNetwork;
use crate::wire::{Handshake, Reserved};

impl Torrent {
    /// What we offer the peers of this torrent: the fast extension (BEP 6), the extension protocol (BEP 10), and a node of the DHT (BEP 5).
    fn offer(&self, context: &Context) -> Reserved {
        let offer = Reserved::EXTENSION.with(Reserved::FAST);
        match context.dht.as_ref().is_some_and(DhtNetwork::answers) && !self.is_private() {
            true => offer.with(Reserved::DHT),
            false => offer,
        }
    }

    /// What peers are greeted with: a hybrid's hash of version 1 and the bit that offers version 2, and else its own hash.
    pub(super) fn greeting(&self, context: &Context) -> Greeting {
        let (peer_id, reserved) = (context.identity.peer_id, self.offer(context));
        let mut handshakes =
            self.swarms().wire_hashes().map(|info_hash| Handshake { reserved, info_hash, peer_id });
        let first = handshakes.next().expect("a torrent has a hash");
        let second = handshakes.next();
        let offered = if second.is_some() { Reserved::V2 } else { Reserved::default() };
        let first = Handshake { reserved: reserved.with(offered), ..first };
        Greeting { first, second, takes_any_answer: self.takes_any_answer() }
    }

    /// The answer to a peer that calls: by the hash that it has said, and of a hybrid by that of version 2 where it offers that (BEP 52).
    pub(super) fn answer(&self, theirs: &Handshake, context: &Context) -> Handshake {
        let Greeting { first, second, .. } = self.greeting(context);
        let is_upgraded =
            |second: &Handshake| theirs.info_hash == second.info_hash || theirs.reserved.has(Reserved::V2);
        second.filter(is_upgraded).unwrap_or(first)
    }

    /// What both sides speak on a connection of this hash: the extensions that both have offered, and version 2 by its hash.
    pub(super) fn spoken(&self, theirs: Reserved, agreed: WireHash, context: &Context) -> Reserved {
        let is_v2 = self.swarms().v2().is_some_and(|hash| InfoHashes::V2(hash).wire() == agreed);
        let shared = theirs.shared_with(self.offer(context));
        if is_v2 { shared.with(Reserved::V2) } else { shared }
    }

    /// Whether whom we call may answer by any hash. That there is a version 2 too, and which hash it has, is not known of a link by the hash of
    /// version 1; and libtorrent answers by that hash if whoever calls has spoken version 2 before, though it does not offer that now. What such a
    /// peer gives is proved by the hash that is known.
    fn takes_any_answer(&self) -> bool {
        self.is_fetching() && matches!(self.swarms(), InfoHashes::V1(_))
    }

    /// The answer of a peer that we called, unless it is for another torrent: what this one is may have become known meanwhile.
    pub(super) fn if_answered(&self, established: Established) -> Result<Established, DialError> {
        let hash = established.handshake.info_hash;
        match self.takes_any_answer() || self.possible_swarms().wire_hashes().any(|ours| ours == hash) {
            true => Ok(established),
            false => Err(DialError::OtherTorrent),
        }
    }

    /// Keeps by which hash this peer has answered, if nobody knows yet whether it is one of the torrent's.
    pub(super) fn keep_answer(&mut self, peer: PeerKey, hash: WireHash) {
        let is_known = self.swarms().wire_hashes().any(|ours| ours == hash);
        if self.takes_any_answer()
            && !is_known
            && let Some(lobby) = self.lobby_mut()
        {
            lobby.answered_by(peer, hash);
        }
    }
}
