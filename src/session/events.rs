//! Tells the subscribers: builds the events that no other part of the session builds where it
//! happens, and none that nobody wants.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::options::Status;
use super::{Engine, Notice};
use crate::event::{Event, Kind, Pieces, Severity};
use crate::ids::InfoHashes;
use crate::tracker::{Step, Watch};
use crate::wire::extension::HANDSHAKE_ID;
use crate::wire::{ExtensionHandshake, Handshake, Message};

/// Between two `progress` events while something moves.
const PROGRESS: Duration = Duration::from_secs(1);

impl Engine {
    /// Tells of a torrent; nothing comes after its summary.
    pub(super) fn tell(&mut self, torrent: InfoHashes, kind: Kind) {
        if self.torrents.get(&torrent).is_none_or(|torrent| torrent.ended.is_none()) {
            self.subscribers.tell(Some(torrent), kind);
        }
    }

    /// Builds an event only if somebody wants one of this severity.
    pub(super) fn tell_if(
        &mut self,
        severity: Severity,
        torrent: impl Into<Option<InfoHashes>>,
        kind: impl FnOnce() -> Kind,
    ) {
        if self.subscribers.want(severity) {
            let kind = kind();
            debug_assert_eq!(kind.severity(), severity, "{kind:?}");
            match torrent.into() {
                Some(torrent) => self.tell(torrent, kind),
                None => self.subscribers.tell(None, kind),
            }
        }
    }

    /// What everyone is told first: what happened before anyone could listen.
    pub(super) fn news(&self) -> Vec<Event> {
        let listening = self.listening.iter().map(|&address| Kind::ListenSuccess {
            address,
            port: address.port(),
            protocol: protocol(address),
        });
        listening.map(|kind| Event { torrent: None, kind }).collect()
    }

    /// Those that build events themselves learn what is wanted, if that has changed.
    pub(super) fn pass_on_what_is_wanted(&mut self) {
        let least = self.subscribers.least();
        if std::mem::replace(&mut self.least, least) == least {
            return;
        }
        let debug = self.subscribers.want(Severity::Debug);
        for torrent in self.torrents.values_mut() {
            torrent.on_disk.storage.set_trace(debug);
            if let Some(swarm) = torrent.swarm_mut() {
                swarm.want_events(least);
            }
        }
    }

    /// What happened to a torrent's files.
    pub(super) fn tell_notes(&mut self, hash: InfoHashes) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let storage = torrent.on_disk.storage.clone();
        for note in storage.take_notes() {
            self.tell(hash, storage.event_of(note));
        }
    }

    /// Watches an announce, if somebody wants to know.
    pub(super) fn watch(&self, hash: InfoHashes, url: &str, tier: usize) -> Option<Watch> {
        if !self.subscribers.want(Severity::Debug) {
            return None;
        }
        let (notify, url) = (self.notify.clone(), url.to_owned());
        Some(Watch::new(move |step| {
            // The session may have ended; then nobody needs to know.
            let _ = notify.send(Notice::Told(hash, tracker_event(url.clone(), tier, step)));
        }))
    }

    /// A `progress` event for each torrent that moves, each second; none while all is still.
    pub(super) fn tell_progress(&mut self, now: Instant) {
        match self.next_progress {
            Some(at) if at <= now => {}
            Some(_) => return,
            None => {
                let due = self.moved && self.subscribers.want(Severity::Info);
                self.next_progress = due.then(|| now + PROGRESS);
                return;
            }
        }
        (self.next_progress, self.moved) = (None, false);
        let hashes: Vec<InfoHashes> = self.torrents.keys().copied().collect();
        for hash in hashes {
            let Some(torrent) = self.torrents.get(&hash) else { continue };
            let Some(swarm) = torrent.swarm().filter(|_| torrent.ended.is_none()) else { continue };
            let totals = swarm.totals(now);
            let before = self.last_totals.insert(hash, totals).unwrap_or_default();
            if (before.downloaded, before.uploaded) != (totals.downloaded, totals.uploaded) {
                let status = torrent.status(now);
                self.tell_if(Severity::Info, hash, || progress(&status));
            }
        }
    }
}

fn progress(status: &Status) -> Kind {
    Kind::Progress {
        done: status.wanted_bytes - status.left,
        wanted: status.wanted_bytes,
        left: status.left,
        downloaded: status.downloaded,
        uploaded: status.uploaded,
        down_rate: status.down_rate,
        up_rate: status.up_rate,
        peers: status.peers,
        seeds: status.seeds,
        eta: status.eta.map(|eta| eta.as_secs()),
        have: Pieces(status.have.ranges()),
        wanted_pieces: Pieces(status.wanted.ranges()),
    }
}

/// `tcp4` or `tcp6`.
pub(super) fn protocol(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "tcp4" } else { "tcp6" }
}

fn tracker_event(url: String, tier: usize, step: Step) -> Kind {
    match step {
        Step::Connected => Kind::TrackerConnect { url, tier },
        Step::Disconnected => Kind::TrackerDisconnect { url, tier },
        Step::Read(length) => Kind::TrackerRead { url, tier, length },
        Step::Wrote(length) => Kind::TrackerWrite { url, tier, length },
    }
}

/// A handshake as the keys of an event.
pub(super) fn handshake_packet(handshake: &Handshake) -> serde_json::Value {
    let reserved: String = handshake.reserved.0.iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!({
        "type": "handshake",
        "reserved": reserved,
        "info_hash": handshake.info_hash.to_string(),
        "peer_id": handshake.peer_id.to_string(),
    })
}

/// A message as the keys of an event; never a block's data.
pub(super) fn packet(message: &Message) -> serde_json::Value {
    use serde_json::json;
    let kind = message.name();
    match message {
        Message::KeepAlive
        | Message::Choke
        | Message::Unchoke
        | Message::Interested
        | Message::NotInterested
        | Message::HaveAll
        | Message::HaveNone => json!({ "type": kind }),
        Message::Have(piece) | Message::Suggest(piece) | Message::AllowedFast(piece) => {
            json!({ "type": kind, "index": piece.0 })
        }
        Message::Bitfield(bytes) => json!({ "type": kind, "length": bytes.len() }),
        Message::Request(block) | Message::Piece(block) | Message::Cancel(block) | Message::Reject(block) => {
            json!({ "type": kind, "index": block.piece.0, "begin": block.begin, "length": block.length })
        }
        Message::Port(port) => json!({ "type": kind, "port": port }),
        Message::Extended { id, payload } => extended(kind, *id, payload),
        Message::Unknown { id, length } => json!({ "type": kind, "id": id, "length": length }),
    }
}

/// Of the extension handshake (BEP 10), what it says. Not by BEP 10's names: every event has a `v`.
fn extended(kind: &str, id: u8, payload: &[u8]) -> serde_json::Value {
    let mut packet = serde_json::json!({ "type": kind, "id": id, "length": payload.len() });
    if id == HANDSHAKE_ID
        && let Ok(handshake) = ExtensionHandshake::decode(payload)
    {
        packet["extensions"] = handshake.extensions.into_iter().collect();
        packet["client"] = handshake.client.into();
        packet["port"] = handshake.port.into();
        packet["request_queue"] = handshake.request_queue.into();
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::WireHash;
    use crate::layout::{Block, PieceIndex};
    use crate::wire::{PeerId, Reserved};
    use serde_json::json;

    #[test]
    fn every_message_becomes_its_type_and_its_fields() {
        let piece = PieceIndex(7);
        let block = Block { piece, begin: 16384, length: 99 };
        let of_block = |name: &str| json!({ "type": name, "index": 7, "begin": 16384, "length": 99 });
        let of_piece = |name: &str| json!({ "type": name, "index": 7 });
        let plain = |name: &str| json!({ "type": name });
        let hello = ExtensionHandshake {
            extensions: vec![("ut_pex".into(), 1)],
            client: Some("x".into()),
            port: Some(6881),
            request_queue: Some(250),
            your_ip: None,
        };
        let payload = hello.encode();
        let extended = json!({ "type": "extended", "id": 0, "length": payload.len(),
            "extensions": { "ut_pex": 1 }, "client": "x", "port": 6881, "request_queue": 250 });
        for (message, expected) in [
            (Message::KeepAlive, plain("keep_alive")),
            (Message::Choke, plain("choke")),
            (Message::Unchoke, plain("unchoke")),
            (Message::Interested, plain("interested")),
            (Message::NotInterested, plain("not_interested")),
            (Message::HaveAll, plain("have_all")),
            (Message::HaveNone, plain("have_none")),
            (Message::Have(piece), of_piece("have")),
            (Message::Suggest(piece), of_piece("suggest")),
            (Message::AllowedFast(piece), of_piece("allowed_fast")),
            (Message::Bitfield(vec![0xff; 3]), json!({ "type": "bitfield", "length": 3 })),
            (Message::Request(block), of_block("request")),
            (Message::Piece(block), of_block("piece")),
            (Message::Cancel(block), of_block("cancel")),
            (Message::Reject(block), of_block("reject")),
            (Message::Port(6881), json!({ "type": "port", "port": 6881 })),
            (Message::Extended { id: 0, payload }, extended),
            (
                Message::Extended { id: 3, payload: vec![1, 2] },
                json!({ "type": "extended", "id": 3, "length": 2 }),
            ),
            (Message::Unknown { id: 99, length: 5 }, json!({ "type": "unknown", "id": 99, "length": 5 })),
        ] {
            assert_eq!(packet(&message), expected);
        }
        let handshake = Handshake {
            reserved: Reserved::FAST,
            info_hash: WireHash([0xab; 20]),
            peer_id: PeerId(*b"-bg010U-abcdefghijkl"),
        };
        let expected = json!({ "type": "handshake", "reserved": "0000000000000004",
            "info_hash": "ab".repeat(20), "peer_id": "-bg010U-abcdefghijkl" });
        assert_eq!(handshake_packet(&handshake), expected);
    }
}
