//! Peers that call us: until their handshake has said which torrent they are about.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::task::AbortHandle;

use super::packets::handshake_packet;
use super::{Engine, LinkNotice, tell_not_established};
use crate::address::Machine;
use crate::event::{Direction, Kind, Severity};
use crate::ids::PeerKey;
use crate::net::dial::{self, DialError, Established};
use crate::net::link::Link;
use crate::utp::Transport;

/// Peers that called us and have not said their handshake yet. Of more, one goes: see [`PendingHandshakes::who_goes`].
const MAX_PENDING_HANDSHAKES: usize = 64;

/// Peers that called us and have not said their handshake yet, by the key that stands for the call: the oldest first.
#[derive(Debug, Default)]
pub(crate) struct PendingHandshakes(BTreeMap<PeerKey, PendingHandshake>);

/// A peer that called us: from where, by what, and the task that waits for its handshake.
type PendingHandshake = (SocketAddr, Transport, Option<AbortHandle>);

impl PendingHandshakes {
    /// A peer has called. If there are too many, one that has said nothing yet is closed for it, and named.
    fn add(&mut self, call: PeerKey, pending: PendingHandshake) -> Option<(SocketAddr, Transport)> {
        let is_full = self.0.len() >= MAX_PENDING_HANDSHAKES;
        let goes = if is_full { self.who_goes() } else { None };
        self.0.insert(call, pending);
        let (address, transport, task) = self.0.remove(&goes?)?;
        task.inspect(AbortHandle::abort);
        Some((address, transport))
    }

    /// Closes all of them.
    pub(super) fn end_all(&mut self) {
        let calls = std::mem::take(&mut self.0).into_values();
        calls.filter_map(|(_, _, task)| task).for_each(|task| task.abort());
    }

    /// It is known how the call has ended: what it came by. `None` if it was closed before.
    fn end(&mut self, call: PeerKey) -> Option<Transport> {
        self.0.remove(&call).map(|(_, transport, _)| transport)
    }

    /// The oldest call of the machine that has most of them; among machines that have as many, the oldest call of all. So who
    /// opens connections and is silent takes the places of its own, and no place for longer than it takes others to come.
    fn who_goes(&self) -> Option<PeerKey> {
        let mut calls: BTreeMap<Machine, (usize, PeerKey)> = BTreeMap::new();
        for (&call, &(address, ..)) in &self.0 {
            calls.entry(Machine::at(address)).or_insert((0, call)).0 += 1;
        }
        let first = |&(count, call): &(usize, PeerKey)| (count, std::cmp::Reverse(call));
        calls.into_values().max_by_key(first).map(|(_, call)| call)
    }
}

impl Engine {
    pub(super) fn on_accepted(&mut self, link: Link, address: SocketAddr) {
        let context = &mut self.context;
        if context.is_filtered(address) {
            return; // dropped, and so closed
        }
        if self.shutting_down {
            return; // dropped, and so closed
        }
        let transport = link.transport();
        context.tell_if(Severity::Debug, || Kind::PeerConnect {
            address,
            direction: Direction::In,
            transport: transport.name(),
        });
        let (call, notify) = (context.counter.peer(), context.notify_link.clone());
        let secrecy = context.dialer.secrecy.clone();
        let task = tokio::task::spawn_local(async move {
            let end = dial::answer(link, address, &secrecy).await;
            let _ = notify.send(LinkNotice::Answered(call, address, end));
        });
        let pending = (address, transport, Some(task.abort_handle()));
        if let Some((address, transport)) = context.connections.pending.add(call, pending) {
            let (transport, reason) = (transport.name(), "said nothing while others called".to_owned());
            context.tell_if(Severity::Info, || Kind::PeerDisconnect { address, transport, reason });
        }
    }

    pub(super) fn on_answered(
        &mut self,
        now: Instant,
        call: PeerKey,
        address: SocketAddr,
        end: Result<Established, DialError>,
    ) {
        let Some(transport) = self.context.connections.pending.end(call) else {
            return; // it was closed while this was on its way
        };
        let established = match end {
            Ok(established) => established,
            Err(error) => {
                let tell = |kind| self.context.tell_if(Severity::Info, || kind);
                return tell_not_established(&error, address, transport, tell);
            }
        };
        self.let_in(now, address, established);
    }

    /// A peer that called us has said for which torrent.
    pub(super) fn let_in(&mut self, now: Instant, address: SocketAddr, established: Established) {
        // The filter may have changed since it called.
        if self.context.is_filtered(address) {
            return; // dropped, and so closed
        }
        let asked_for = self.by_hash.get(&established.handshake.info_hash).copied();
        let torrent = asked_for.and_then(|id| self.torrents.get(&id)).filter(|torrent| torrent.takes_peers());
        let refused = match torrent.map(|torrent| (torrent.id, torrent.may_let_in(now, address))) {
            None => "asks for a torrent that is not here",
            Some((id, true)) if !self.find_place(now, id, address) => "too many peers",
            Some((id, _)) => {
                self.with(id, |torrent, context| torrent.on_answered(now, address, established, context));
                return;
            }
        };
        let packet = || handshake_packet(&established.handshake);
        self.context.tell_if(Severity::Debug, || Kind::PeerPacketIn { address, packet: packet() });
        let (transport, reason) = (established.link.transport().name(), refused.to_owned());
        self.context.tell_if(Severity::Info, || Kind::PeerDisconnect { address, transport, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    #[test]
    fn who_has_most_silent_calls_gives_way_and_else_the_oldest() {
        let (mut counter, mut pending) = (Counter::default(), PendingHandshakes::default());
        let at = |address: &str| -> PendingHandshake { (address.parse().unwrap(), Transport::Tcp, None) };
        let honest = counter.peer();
        pending.add(honest, at("192.0.2.1:1"));
        for port in 0..1000 {
            pending.add(counter.peer(), at(&format!("198.51.100.7:{port}")));
        }
        assert_eq!(pending.0.len(), MAX_PENDING_HANDSHAKES);
        assert!(pending.end(honest).is_some(), "one machine took the places of another");
        assert!(pending.end(honest).is_none());
        // On loopback each port is somebody else.
        let first = counter.peer();
        let mut pending = PendingHandshakes::default();
        pending.add(first, at("127.0.0.1:1"));
        for port in 2..=MAX_PENDING_HANDSHAKES {
            pending.add(counter.peer(), at(&format!("127.0.0.1:{port}")));
        }
        assert_eq!(pending.who_goes(), Some(first));
    }
}
