//! What is said between the peers that wait and us, and between us and the machine that collects the metadata.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Lobby, LobbyOutput, MAX_SAID};
use crate::event::{Direction, Kind};
use crate::fetch::{FetchInput, FetchOutput, PeerMetadata};
use crate::ids::PeerKey;
use crate::proofs::{HashAnswer, HashFetchInput, HashFetchOutput};
use crate::wire::extended::{
    Extended, ExtensionHandshake, MetadataMessage, UT_HOLEPUNCH, UT_METADATA, UT_PEX,
};
use crate::wire::{Message, Reserved};

impl Lobby {
    pub(super) fn on_message(&mut self, now: Instant, peer: PeerKey, message: Message) {
        let Some(waiting) = self.waiting.get_mut(&peer) else { return };
        waiting.last_received = now;
        let refuses = waiting.hello.reserved.has(Reserved::FAST);
        let speaks_v2 = waiting.hello.reserved.has(Reserved::V2);
        match message {
            Message::Extended { id, payload } if waiting.hello.reserved.has(Reserved::EXTENSION) => {
                self.on_extended(now, peer, id, payload);
            }
            Message::Extended { .. } => {}
            // We have nothing.
            Message::Request(block) if refuses => self.send(now, peer, Message::Reject(block)),
            // No layer is here.
            Message::HashRequest(range) if speaks_v2 => {
                if let HashAnswer::Send(refusal) = self.hash_server.on_request(now, peer, range, |_| false) {
                    self.send(now, peer, refusal);
                }
            }
            Message::Hashes(range, hashes) if speaks_v2 => {
                self.tell_hash_fetch(now, HashFetchInput::Hashes(peer, *range, hashes));
            }
            Message::HashReject(range) if speaks_v2 => {
                self.tell_hash_fetch(now, HashFetchInput::Reject(peer, *range));
            }
            Message::HashRequest(_) | Message::Hashes(..) | Message::HashReject(_) => {
                self.close_unruly(now, peer, "speaks of hashes without version 2");
            }
            message => self.keep(now, peer, message),
        }
    }

    /// Keeps what a peer says for later.
    fn keep(&mut self, now: Instant, peer: PeerKey, message: Message) {
        let Some(waiting) = self.waiting.get_mut(&peer) else { return };
        let before = waiting.said.size();
        let fits = waiting.said.note(message).is_ok();
        self.said += waiting.said.size().saturating_sub(before);
        let reason = "says more than can be kept while it is not known what the torrent is";
        if !fits {
            self.close(now, peer, reason);
        }
        // Whoever says most goes, and not who speaks last: else a few that say much would keep all others out.
        while self.said > MAX_SAID
            && let Some((&most, _)) = self.waiting.iter().max_by_key(|(_, waiting)| waiting.said.size())
        {
            self.close(now, most, reason);
        }
    }

    fn on_extended(&mut self, now: Instant, peer: PeerKey, id: u8, payload: Vec<u8>) {
        match self.offer().decode(id, &payload) {
            Ok(Extended::Handshake(theirs)) => {
                self.on_handshake(now, peer, &theirs);
                self.keep(now, peer, Message::Extended { id, payload });
            }
            Ok(Extended::Metadata(MetadataMessage::Request { piece })) => {
                if let Some(answer) = self.server.on_request(now, peer, piece) {
                    self.send_metadata(now, peer, &answer);
                }
            }
            Ok(Extended::Metadata(message)) => {
                self.tell_fetch(now, FetchInput::Message(peer, message));
            }
            Ok(Extended::Pex(message)) => {
                let Some(waiting) = self.waiting.get(&peer) else { return };
                if !self.finder.exchanged(now, peer, waiting.hello.address, &message) {
                    self.close_unruly(now, peer, "far too many messages of peer exchange");
                }
            }
            Ok(Extended::Holepunch(message)) => self.finder.on_holepunch(now, peer, message),
            Ok(Extended::DontHave(_)) => self.keep(now, peer, Message::Extended { id, payload }),
            Ok(Extended::Unknown(_)) => {}
            Err(error) => self.close_unruly(now, peer, &error.to_string()),
        }
    }

    fn on_handshake(&mut self, now: Instant, peer: PeerKey, theirs: &ExtensionHandshake) {
        let Some(waiting) = self.waiting.get_mut(&peer) else { return };
        waiting.extensions.update(theirs);
        // Once: each port would take a place among the candidates.
        if let (Some(port), Direction::In, None) = (theirs.port, waiting.hello.direction, waiting.callable) {
            let callable = SocketAddr::new(waiting.hello.address.ip(), port);
            waiting.callable = Some(callable);
            self.finder.listens(now, peer, callable);
        }
        if let Some(ip) = theirs.ip_beside(waiting.hello.address.ip()) {
            self.finder.also_at(now, peer, ip);
        }
        self.finder.wants_exchange(now, peer, waiting.extensions.id_of(UT_PEX).is_some());
        self.finder.set_punches(peer, waiting.extensions.id_of(UT_HOLEPUNCH).is_some());
        let offered = waiting.extensions.id_of(UT_METADATA).is_some();
        let about = PeerMetadata { offered, size: theirs.metadata_size };
        self.tell_fetch(now, FetchInput::Handshake(peer, about));
    }

    pub(super) fn tell_fetch(&mut self, now: Instant, input: FetchInput) {
        if let Some(fetch) = &mut self.fetch {
            fetch.handle(now, input);
        }
    }

    pub(super) fn tell_hash_fetch(&mut self, now: Instant, input: HashFetchInput) {
        if let Some(hashes) = &mut self.hash_fetch {
            hashes.handle(now, input);
        }
    }

    pub(super) fn on_hash_fetch(&mut self, now: Instant, output: HashFetchOutput) {
        match output {
            HashFetchOutput::Request(peer, range) => {
                self.send(now, peer, Message::HashRequest(Box::new(range)))
            }
            HashFetchOutput::Close { peer, why } => self.close_unruly(now, peer, why),
            HashFetchOutput::Done(layers) => {
                self.hash_fetch = None;
                self.outputs.push_back(LobbyOutput::Layers(layers));
            }
        }
    }

    fn send_metadata(&mut self, now: Instant, peer: PeerKey, message: &MetadataMessage) {
        let id = self.waiting.get(&peer).and_then(|waiting| waiting.extensions.id_of(UT_METADATA));
        if let Some(id) = id {
            self.send(now, peer, Message::Extended { id, payload: message.encode() });
        }
    }

    pub(super) fn on_fetch(&mut self, now: Instant, output: FetchOutput) {
        match output {
            FetchOutput::Request { peer, piece } => {
                let Some(waiting) = self.waiting.get_mut(&peer) else { return };
                if !std::mem::replace(&mut waiting.is_asked, true) {
                    let (address, size) = (waiting.hello.address, self.progress().1);
                    self.tell(|| Kind::MetadataRequested { address, size });
                }
                self.send_metadata(now, peer, &MetadataMessage::Request { piece });
            }
            FetchOutput::Verify(ticket, metadata) => {
                self.outputs.push_back(LobbyOutput::Verify(ticket, metadata));
            }
            FetchOutput::NotAsked { peer, why } => self.tell_failed(peer, why),
            FetchOutput::Close { peer, why } => {
                self.tell_failed(peer, why);
                self.close_unruly(now, peer, why);
            }
            // It is the verdict that ends it, which has come through here.
            FetchOutput::Done(_) => {}
        }
    }

    fn tell_failed(&mut self, peer: PeerKey, why: &str) {
        if let Some(waiting) = self.waiting.get(&peer) {
            let address = waiting.hello.address;
            self.tell(|| Kind::MetadataFailed { address, reason: why.to_owned() });
        }
    }
}
