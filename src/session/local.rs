//! Local service discovery (BEP 14): the session's torrents are announced on the local network, and peers found there.

use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::{Notice, Torrent};
use crate::bind::Local;
use crate::finder::LocalDiscovery;
use crate::ids::WireHash;
use crate::net::lan::Lan;
use crate::wire::lsd::LsdAnnounce;

/// Whose turn it is to be announced, and the sockets.
#[derive(Debug)]
pub(super) struct LocalNetwork {
    discovery: LocalDiscovery,
    lan: Lan,
    /// Where we listen.
    port: u16,
}

impl LocalNetwork {
    /// On the interfaces that are bound to (on all if none is). `seed` decides all random choices.
    pub(super) fn open(
        now: Instant,
        local: Local,
        port: u16,
        seed: u64,
        notify: UnboundedSender<Notice>,
    ) -> LocalNetwork {
        let lan = Lan::open(now, local);
        lan.receive(move |packet, source| notify.send(Notice::Heard(packet, source)).is_ok());
        LocalNetwork { discovery: LocalDiscovery::new(seed), lan, port }
    }

    /// A torrent may be announced now, or not any more.
    pub(super) fn update(&mut self, now: Instant, torrent: &Torrent) {
        for name in torrent.swarms().wire_hashes() {
            match torrent.is_told_of_openly() {
                _ if torrent.is_private() => self.discovery.set_private(now, name),
                true => self.discovery.add(now, name),
                false => self.discovery.remove(now, name),
            }
        }
    }

    /// A torrent is gone.
    pub(super) fn forget(&mut self, now: Instant, name: WireHash) {
        self.discovery.remove(now, name);
    }

    /// Announces what is due.
    pub(super) fn announce(&mut self, now: Instant) {
        while let Some(announce) = self.discovery.poll(now, self.port) {
            self.lan.send(now, &announce);
        }
    }

    /// When [`LocalNetwork::announce`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.discovery.deadline()
    }

    /// Which torrents are found where, by a packet.
    pub(super) fn on_packet(
        &mut self,
        now: Instant,
        packet: &[u8],
        source: SocketAddr,
    ) -> Vec<(WireHash, SocketAddr)> {
        let Some(announce) = LsdAnnounce::decode(packet) else { return Vec::new() };
        let on_link = self.lan.is_on_link(source);
        self.discovery.on_packet(now, &announce, source, on_link)
    }
}
