//! Peers that call us: until their handshake has said which torrent they are about.

use std::net::SocketAddr;
use std::time::Instant;

use super::packets::handshake_packet;
use super::{Engine, Notice, tell_not_established};
use crate::event::{Direction, Kind, Severity};
use crate::net::dial::{self, DialError, Established};
use crate::net::link::Link;

/// Peers that called us and have not said their handshake yet; further ones are closed.
const MAX_PENDING_HANDSHAKES: usize = 64;

impl Engine {
    pub(super) fn on_accepted(&mut self, link: Link, address: SocketAddr) {
        let context = &mut self.context;
        if context.is_filtered(address) {
            return; // dropped, and so closed
        }
        let full = context.connections.count() >= context.options.max_peers;
        if full || context.connections.pending_handshakes >= MAX_PENDING_HANDSHAKES || self.shutting_down {
            return; // dropped, and so closed
        }
        context.tell_if(Severity::Debug, || Kind::PeerConnect {
            address,
            direction: Direction::In,
            transport: "tcp",
        });
        context.connections.pending_handshakes += 1;
        let notify = context.notify.clone();
        tokio::task::spawn_local(async move {
            let end = dial::answer(link).await;
            let _ = notify.send(Notice::Answered(address, end));
        });
    }

    pub(super) fn on_answered(
        &mut self,
        now: Instant,
        address: SocketAddr,
        end: Result<Established, DialError>,
    ) {
        self.context.connections.pending_handshakes -= 1;
        let established = match end {
            Ok(established) => established,
            Err(error) => {
                let tell = |kind| self.context.tell_if(Severity::Info, || kind);
                return tell_not_established(&error, address, tell);
            }
        };
        let asked_for = self.by_hash.get(&established.handshake.info_hash).copied();
        let torrent =
            asked_for.and_then(|id| self.torrents.get_mut(&id)).filter(|torrent| torrent.is_running());
        let Some(torrent) = torrent else {
            self.context.tell_if(Severity::Debug, || Kind::PeerPacketIn {
                address,
                packet: handshake_packet(&established.handshake),
            });
            let reason = "asks for a torrent that is not here".to_owned();
            return self.context.tell_if(Severity::Info, || Kind::PeerDisconnect { address, reason });
        };
        torrent.on_answered(now, address, established, &mut self.context);
        self.touched.insert(torrent.id);
    }
}
