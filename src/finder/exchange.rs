//! What connected peers say of themselves and of others, and what others are told of them (BEP 10, 11).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::pex::PexNews;
use super::{Finder, FinderOutput, Origin};
use crate::event::{Direction, Kind, Severity};
use crate::ids::PeerKey;
use crate::wire::extended::{PexFlags, PexMessage};

impl Finder {
    /// There is a connection with the peer at this address, so it need not be called.
    pub fn connected(&mut self, now: Instant, peer: PeerKey, address: SocketAddr, direction: Direction) {
        self.candidates.occupy(address);
        self.found.incoming += u64::from(direction == Direction::In);
        let callable = (direction == Direction::Out).then_some(address);
        self.pex.connected(now, peer, address, callable);
    }

    /// A peer that called us says that it can be called at this address (BEP 10 `p`).
    pub fn listens(&mut self, now: Instant, peer: PeerKey, callable: SocketAddr) {
        self.found(now, [callable], Origin::Incoming);
        self.candidates.occupy(callable);
        self.pex.listens(now, peer, callable);
    }

    /// Whether a peer wants nothing more; others are told so.
    pub fn set_seed(&mut self, peer: PeerKey, is_seed: bool) {
        self.pex.set_flag(peer, PexFlags::SEED, is_seed);
    }

    /// A peer is connected by uTP; others are told so.
    pub fn speaks_utp(&mut self, peer: PeerKey) {
        self.pex.set_flag(peer, PexFlags::UTP, true);
    }

    /// Whether the peer at this address speaks uTP, as others say.
    pub fn is_said_to_speak_utp(&self, address: SocketAddr) -> bool {
        self.candidates.speaks_utp(address)
    }

    /// A peer prefers encrypted connections; others are told so (BEP 11).
    pub fn prefers_encryption(&mut self, peer: PeerKey) {
        self.pex.set_flag(peer, PexFlags::ENCRYPTION, true);
    }

    /// A peer says that it can be reached at this address of the other family, too (BEP 10 `ipv4`, `ipv6`). That it is the peer's own
    /// nobody knows, so it counts as one that a peer has told us of; it is not called while there is the connection.
    pub fn also_at(&mut self, now: Instant, peer: PeerKey, ip: IpAddr) {
        if let Some(address) = self.pex.also_at(peer, ip) {
            self.found(now, [address], Origin::PeerExchange);
            self.candidates.occupy(address);
        }
    }

    /// Whether a peer wants to be told of others (BEP 11).
    pub fn wants_exchange(&mut self, now: Instant, peer: PeerKey, wants: bool) {
        self.pex.wants(now, peer, wants);
    }

    /// A peer at `address` tells us of others. False if it does so far too often, so that it has to be closed.
    pub fn exchanged(
        &mut self,
        now: Instant,
        peer: PeerKey,
        address: SocketAddr,
        message: &PexMessage,
    ) -> bool {
        match self.pex.on_message(now, peer, message) {
            PexNews::Found { added, encrypting, dropped } => {
                self.outputs.extend(encrypting.into_iter().map(FinderOutput::PrefersEncryption));
                let added = self.found(now, added, Origin::PeerExchange);
                let speakers = message.added.iter().filter(|(_, flags)| flags.contains(PexFlags::UTP));
                speakers.for_each(|&(address, _)| self.candidates.set_speaks_utp(address));
                self.tell(Severity::Info, || Kind::PexPeers { address, added, dropped });
                true
            }
            PexNews::Ignored => true,
            PexNews::Flood => false,
        }
    }

    /// Whom to tell now of which others; `None`: nobody before [`Finder::deadline`].
    pub fn poll_exchange(&mut self, now: Instant) -> Option<(PeerKey, PexMessage)> {
        self.pex.poll(now)
    }
}
