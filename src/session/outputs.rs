//! Does what the swarms say, and tells them what became of it.

use std::time::Instant;

use super::{Engine, Notice};
use crate::disk::{Done, Read, Verify, WriteJob};
use crate::event::{Kind, Severity};
use crate::ids::InfoHashes;
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::net::connection::{self, FromPeer, Outgoing};
use crate::swarm::announce::{Announce, Answer, Failure, Token};
use crate::swarm::{Input, MOST_UNWRITTEN, Output};
use crate::tracker;

/// While more than this waits for the disk nothing is read from any socket. The swarms stop
/// asking earlier; the difference is for what was asked for before.
const MOST_WAITING: u64 = MOST_UNWRITTEN + (2 << 20);

/// Bytes that are read for a peer in one go.
const READ_TOGETHER: usize = 512 * 1024;

impl Engine {
    /// Does all that the swarm of a torrent has to say.
    pub(super) fn perform(&mut self, now: Instant, torrent: InfoHashes) {
        let mut serving: Option<(PeerKey, Vec<Block>)> = None;
        while let Some(output) = self.next_output(now, torrent) {
            if let Output::Serve(peer, block) = output {
                match &mut serving {
                    Some((same, blocks)) if *same == peer && length(blocks) < READ_TOGETHER => {
                        blocks.push(block)
                    }
                    _ => {
                        let before = serving.replace((peer, vec![block]));
                        self.serve(now, torrent, before);
                    }
                }
                continue;
            }
            // The order among the messages to a peer matters, also with its blocks.
            match output {
                Output::Send(peer, message) => self.send(now, peer, Outgoing::Message(message)),
                Output::Close(peer, reason) => self.close(torrent, peer, reason),
                Output::Dial(address) => self.dial(now, torrent, address),
                Output::Verify { piece, digests } => self.verify(now, torrent, piece, digests),
                Output::Announce(announce) => self.announce(torrent, announce),
                Output::Event(kind) => self.tell(torrent, kind),
                Output::Serve(..) => {}
            }
        }
        self.serve(now, torrent, serving);
    }

    fn next_output(&mut self, now: Instant, torrent: InfoHashes) -> Option<Output> {
        self.torrents.get_mut(&torrent)?.swarm_mut()?.poll(now)
    }

    fn close(&mut self, torrent: InfoHashes, peer: PeerKey, reason: String) {
        if let Some(connection) = self.connections.remove(peer) {
            let address = connection.address;
            self.tell_if(Severity::Info, torrent, || Kind::PeerDisconnect { address, reason });
        }
    }

    fn serve(&mut self, now: Instant, torrent: InfoHashes, blocks: Option<(PeerKey, Vec<Block>)>) {
        let Some((peer, blocks)) = blocks else { return };
        let Some(owner) = self.torrents.get_mut(&torrent) else { return };
        owner.safety.use_files(now);
        let torrent = owner.on_disk.clone();
        let mut run = self.connections.take_buffer();
        connection::lay_out(&blocks, &mut run);
        if !self.disk.read(Read { torrent, tag: peer.0, run }) {
            self.on_peer(now, FromPeer::Closed(peer, "the disk cannot keep up".into()));
        }
    }

    fn verify(&mut self, now: Instant, hash: InfoHashes, piece: PieceIndex, digests: bool) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let blocks = torrent.take_whole(piece);
        if torrent.safety.writing.insert(piece) {
            torrent.unwritten += u64::from(torrent.on_disk.metainfo.layout.piece_size(piece));
        }
        torrent.safety.use_files(now);
        let job = Verify { torrent: torrent.on_disk.clone(), piece, blocks, digests };
        if !self.disk.write(WriteJob::Verify(job)) {
            self.written(hash, piece);
            self.input(now, hash, Input::Lost(piece));
        }
        self.set_gate();
    }

    /// A piece does not wait for the disk any more.
    fn written(&mut self, hash: InfoHashes, piece: PieceIndex) {
        if let Some(torrent) = self.torrents.get_mut(&hash) {
            // Not of one that was removed and added again.
            if torrent.safety.writing.remove(&piece) {
                torrent.unwritten -= u64::from(torrent.on_disk.metainfo.layout.piece_size(piece));
            }
        }
        self.set_gate();
    }

    fn set_gate(&self) {
        let waiting: u64 = self.torrents.values().map(|torrent| torrent.unwritten).sum();
        let longest =
            self.torrents.values().map(|torrent| torrent.on_disk.metainfo.layout.piece_length()).max();
        self.shared.gate.set_closed(waiting > MOST_WAITING.max(4 * u64::from(longest.unwrap_or(0))));
    }

    fn announce(&mut self, hash: InfoHashes, announce: Announce) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let (Some(swarm), generation) = (torrent.swarm(), torrent.generation) else { return };
        let (downloaded, uploaded) = swarm.since_started();
        let Announce { url, tier, event, numwant, tracker_id, token, .. } = announce;
        let watch = self.watch(hash, &url, tier);
        let request = tracker::Request {
            url,
            info_hash: hash.wire(),
            peer_id: self.peer_id.0,
            port: self.port,
            uploaded,
            downloaded,
            left: swarm.left(),
            event,
            numwant,
            key: self.key,
            tracker_id,
        };
        let notify = self.notify.clone();
        let options = tracker::Options { watch, ..(*self.tracker_options).clone() };
        tokio::task::spawn_blocking(move || {
            let result = tracker::announce(&request, &options);
            let _ = notify.send(Notice::Announced(hash, generation, token, result));
        });
    }

    pub(super) fn on_announced(
        &mut self,
        now: Instant,
        torrent: InfoHashes,
        generation: u32,
        token: Token,
        mut result: Result<Answer, Failure>,
    ) {
        if self.torrents.get(&torrent).is_none_or(|torrent| torrent.generation != generation) {
            return;
        }
        if let Ok(answer) = &mut result
            && self.options.ip_filter.is_some()
        {
            answer.peers.retain(|&peer| !self.is_filtered(peer));
        }
        self.input(now, torrent, Input::Announced { token, result });
    }

    pub(super) fn on_done(&mut self, now: Instant, done: Done) {
        match done {
            Done::Passed { torrent, piece, digests, buffers } => {
                self.shared.pool.put(buffers);
                self.written(torrent, piece);
                self.tell_notes(torrent);
                self.input(now, torrent, Input::Passed { piece, digests });
                self.on_progress(now, torrent, piece);
            }
            Done::Failed { torrent, piece, digests, buffers } => {
                self.shared.pool.put(buffers);
                self.written(torrent, piece);
                self.input(now, torrent, Input::Failed { piece, digests });
            }
            Done::NotWritten { torrent, piece, error, buffers } => {
                self.shared.pool.put(buffers);
                self.written(torrent, piece);
                self.input(now, torrent, Input::Lost(piece));
                self.on_storage_error(now, torrent, &error);
            }
            Done::Read { tag, run } => self.send(now, PeerKey(tag), Outgoing::Blocks(run)),
            Done::NotRead { torrent, tag, error } => {
                self.on_peer(now, FromPeer::Closed(PeerKey(tag), error.to_string()));
                self.on_storage_error(now, torrent, &error);
            }
        }
    }
}

fn length(blocks: &[Block]) -> usize {
    blocks.iter().map(|block| block.length as usize).sum()
}
