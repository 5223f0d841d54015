//! What connected peers say of themselves and of others, and what others are told of them (BEP 10, 11, 55).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::pex::PexNews;
use super::rules::Admission;
use super::{Finder, FinderOutput, Origin};
use crate::address::canonical;
use crate::event::{Direction, Kind, Severity};
use crate::ids::PeerKey;
use crate::wire::extended::{HolepunchMessage, PexFlags, PexMessage, UT_HOLEPUNCH, UT_PEX};

/// What a peer is told of others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exchange {
    /// Whom we are connected to (BEP 11).
    Peers(PexMessage),
    /// How to meet one of them (BEP 55).
    Holepunch(HolepunchMessage),
}

impl Exchange {
    /// The extension whose message it is.
    pub fn extension(&self) -> &'static str {
        match self {
            Exchange::Peers(_) => UT_PEX,
            Exchange::Holepunch(_) => UT_HOLEPUNCH,
        }
    }

    /// The payload of that message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Exchange::Peers(message) => message.encode(),
            Exchange::Holepunch(message) => message.encode(),
        }
    }
}

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
                for &(address, flags) in &message.added {
                    if flags.contains(PexFlags::UTP) {
                        self.candidates.set_speaks_utp(address);
                    }
                    self.candidates.introduce(address, peer, flags.contains(PexFlags::HOLEPUNCH));
                }
                message.dropped.iter().for_each(|&gone| self.candidates.forget_introducer(gone, peer));
                self.tell(Severity::Info, || Kind::PexPeers { address, added, dropped });
                true
            }
            PexNews::Ignored => true,
            PexNews::Flood => false,
        }
    }

    /// Whether a peer speaks `ut_holepunch` (BEP 55); others are told so.
    pub fn set_punches(&mut self, peer: PeerKey, punches: bool) {
        self.pex.set_flag(peer, PexFlags::HOLEPUNCH, punches);
    }

    /// A peer asks to be introduced to another one, or introduces us, or says why it does not (BEP 55).
    pub fn on_holepunch(&mut self, now: Instant, peer: PeerKey, message: HolepunchMessage) {
        match message {
            HolepunchMessage::Rendezvous(target) => {
                self.holepunch.introduce(now, peer, target, &self.pex);
            }
            HolepunchMessage::Connect(address) => self.on_introduced(now, peer, canonical(address)),
            HolepunchMessage::Error(address, error) => {
                let address = canonical(address);
                if self.holepunch.on_error(now, peer, address, error) {
                    self.candidates.forget_introducer(address, peer);
                    self.ask_for(now, address);
                }
            }
        }
    }

    /// A peer tells us to call an address, at which somebody calls us at the same time. It passes the gate as one that a peer has told us of, but
    /// is not kept: without the peer's word nobody can be reached there.
    fn on_introduced(&mut self, now: Instant, peer: PeerKey, address: SocketAddr) {
        if !self.holepunch.is_told(now, peer, address, &self.pex)
            || self.pex.is_ours(address)
            || self.candidates.is_banned(now, address)
        {
            return;
        }
        match self.rules.admit(address, Origin::PeerExchange) {
            Admission::Admitted => self.holepunch.call(now, address),
            Admission::Ignored => {}
            Admission::Filtered(reason) => self.outputs.push_back(FinderOutput::Filtered(address, reason)),
        }
    }

    /// Nobody could be reached at this address: a peer that has told of it is asked to introduce us (BEP 55).
    pub(super) fn ask_for(&mut self, now: Instant, address: SocketAddr) {
        self.holepunch.ask(now, address, self.candidates.introducers(address), &self.pex);
    }

    /// A call of [`FinderOutput::Punch`] has come to its end, by a connection or without.
    pub fn punch_ended(&mut self, address: SocketAddr) {
        self.holepunch.call_ended(address);
    }

    /// Whom to tell now of which others; `None`: nobody before [`Finder::deadline`].
    pub fn poll_exchange(&mut self, now: Instant) -> Option<(PeerKey, Exchange)> {
        let punch = self.holepunch.poll().map(|(peer, message)| (peer, Exchange::Holepunch(message)));
        punch.or_else(|| self.pex.poll(now).map(|(peer, message)| (peer, Exchange::Peers(message))))
    }
}
