//! Whole pieces: handed over to be hashed and written, and what comes of it.

use std::net::SocketAddr;
use std::time::Instant;

use super::begun::WholePiece;
use super::peer::MAX_UNTOLD;
use super::rate::RateMeter;
use super::suspects::Sentence;
use super::{Output, PeerReport, Swarm};
use crate::address::Machine;
use crate::blocks::BlockData;
use crate::event::{Kind, Severity, State};
use crate::hash::{Sha1, Sha256};
use crate::ids::{PeerKey, Source};
use crate::layout::PieceIndex;
use crate::wire::Message;

/// A whole piece that is not written yet. It holds its room in memory until it is, or is given up.
#[derive(Debug)]
pub(super) struct UnwrittenPiece {
    /// Who sent each of its blocks, in order.
    pub senders: Vec<Source>,
    /// What the rate of the download owes to it.
    pub rate: RateMeter,
    /// Its data, and since when they are here, if it could not be written: they wait for the next start.
    pub waiting: Option<(Instant, Vec<BlockData>)>,
}

impl Swarm {
    pub(super) fn verify_piece(&mut self, piece: PieceIndex) {
        let WholePiece { senders, blocks, rate } = self.pieces.take_whole(piece);
        self.verifying.insert(piece, UnwrittenPiece { senders, rate, waiting: None });
        self.hand_over(piece, blocks);
    }

    /// Whether more is to come: not all pieces that are missing wait for their hash.
    pub fn awaits_blocks(&self) -> bool {
        self.missing as usize > self.verifying.len()
    }

    fn hand_over(&mut self, piece: PieceIndex, blocks: Vec<BlockData>) {
        let digests = self.suspects.contains(piece);
        self.outputs.push_back(Output::Verify { piece, blocks, digests });
    }

    /// The piece matches its hash and could not be written. Its data wait for the next start, in the room that it has in memory; a
    /// started swarm tries again at once. Gives them back if they are of no use.
    pub fn on_not_written(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        blocks: Vec<BlockData>,
    ) -> Option<Vec<BlockData>> {
        let Some(unwritten) = self.verifying.get_mut(&piece) else { return Some(blocks) };
        match self.state {
            State::Started => self.hand_over(piece, blocks),
            State::Paused => unwritten.waiting = Some((now, blocks)),
            State::Stopped | State::Waiting => {
                self.on_lost(now, piece);
                return Some(blocks);
            }
        }
        None
    }

    /// Whether whole pieces wait in memory that could not be written.
    pub(super) fn holds_unwritten(&self) -> bool {
        self.verifying.values().any(|unwritten| unwritten.waiting.is_some())
    }

    /// There may be room on the disk again: what waits for it is written.
    pub(super) fn write_waiting(&mut self) {
        let waiting = self.verifying.iter_mut();
        let waiting = waiting.filter_map(|(&piece, unwritten)| Some((piece, unwritten.waiting.take()?.1)));
        let waiting: Vec<(PieceIndex, Vec<BlockData>)> = waiting.collect();
        waiting.into_iter().for_each(|(piece, blocks)| self.hand_over(piece, blocks));
    }

    /// Gives up whole pieces that have waited since before `then`: they are fetched again.
    pub(super) fn give_up_unwritten(&mut self, now: Instant, then: Instant) {
        let has_waited =
            |unwritten: &UnwrittenPiece| unwritten.waiting.as_ref().is_some_and(|&(since, _)| since <= then);
        let waiting = self.verifying.iter().filter(|(_, unwritten)| has_waited(unwritten));
        let waiting: Vec<PieceIndex> = waiting.map(|(&piece, _)| piece).collect();
        waiting.into_iter().for_each(|piece| self.on_lost(now, piece));
    }

    pub(super) fn on_passed(&mut self, now: Instant, piece: PieceIndex, digests: &[Sha1]) {
        let Some(UnwrittenPiece { senders, .. }) = self.verifying.remove(&piece) else { return };
        self.free_memory(piece);
        self.have.insert(piece);
        self.missing -= u32::from(self.wanted.contains(piece));
        self.window.follow(&self.wanted, &self.have);
        self.trials.iter_mut().for_each(|trials| trials.on_passed(piece));
        let culprits = self.suspects.on_passed(piece, &senders, digests);
        culprits.into_iter().for_each(|culprit| self.convict(now, culprit, piece));
        self.tell(Severity::Info, || Kind::PieceHashPassed { index: piece.0, peers: peers_of(&senders) });
        let complete = self.is_complete();
        let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in peers {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            if !peer.pieces.contains(piece) {
                self.send(now, key, Message::Have(piece));
                continue;
            }
            peer.untold.push(piece);
            // Who knows that we are complete may be left at once.
            if complete || peer.untold.len() >= MAX_UNTOLD {
                peer.last_sent = now;
                self.outputs.extend(peer.take_haves());
            }
            if self.wanted.contains(piece) {
                peer.interesting -= 1;
                if peer.interesting == 0 {
                    self.update_interest(now, key);
                }
            }
        }
        self.wake_idle();
        if complete {
            self.tell_upload_only(now);
            self.fill_slots(now);
        }
    }

    pub(super) fn on_failed(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        digests: Vec<Sha1>,
        hashes: Vec<Sha256>,
    ) {
        let Some(UnwrittenPiece { senders, rate, .. }) = self.verifying.remove(&piece) else { return };
        self.free_memory(piece);
        self.down_rate.take_back(now, &rate);
        self.wasted += u64::from(self.config.layout.piece_size(piece));
        if let Some(trials) = &mut self.trials {
            trials.on_failed(piece, &senders, hashes);
        }
        let culprit = self.suspects.on_failed(piece, &senders, digests);
        self.tell(Severity::Warning, || Kind::PieceHashFailed { index: piece.0, peers: peers_of(&senders) });
        if self.wanted.contains(piece) {
            self.picker.open_piece(piece);
        }
        if let Some(culprit) = culprit {
            self.convict(now, culprit, piece);
        }
        self.ask_for_hashes(now);
        self.wake_idle();
    }

    pub(super) fn on_lost(&mut self, now: Instant, piece: PieceIndex) {
        if let Some(UnwrittenPiece { rate, .. }) = self.verifying.remove(&piece) {
            self.free_memory(piece);
            self.down_rate.take_back(now, &rate);
            self.wasted += u64::from(self.config.layout.piece_size(piece));
            if self.wanted.contains(piece) {
                self.picker.open_piece(piece);
            }
        }
        self.wake_idle();
    }

    /// It is known who has sent corrupt data of a piece.
    pub(super) fn convict(&mut self, now: Instant, culprit: Source, piece: PieceIndex) {
        match culprit {
            Source::Peer(address) => self.ban(now, address, piece),
            Source::Web(seed) => self.reports.push(PeerReport::CorruptWebSeed(seed, piece)),
            Source::Disk => {}
        }
    }

    /// A peer has sent corrupt data of a piece.
    fn ban(&mut self, now: Instant, address: SocketAddr, piece: PieceIndex) {
        let machine = Machine::at(address);
        let mut reason = format!("sent corrupt data of piece {}", piece.0);
        let is_here = self.peers.values().any(|peer| Machine::at(peer.address) == machine);
        let pause = match self.suspects.sentence(now, machine) {
            Sentence::Known if !is_here => return,
            Sentence::Known | Sentence::ForGood => None,
            Sentence::Pause(pause) => {
                let minutes = pause.as_secs() / 60;
                reason += &format!("; nearly everything comes from it, so it may come back in {minutes} min");
                Some(pause)
            }
        };
        self.reports.push(PeerReport::Banned(address, pause));
        let found: Vec<(PeerKey, String)> = self
            .peers
            .values()
            .filter(|peer| Machine::at(peer.address) == machine)
            .map(|peer| (peer.key, peer.peer_id.to_string()))
            .collect();
        let peer_id = found.first().map_or(String::new(), |(_, peer_id)| peer_id.clone());
        self.tell(Severity::Warning, || Kind::PeerBan { address, peer_id, reason: reason.clone() });
        for (key, _) in found {
            self.close(now, key, reason.clone());
        }
    }

    /// Bytes of the whole pieces that are not written yet.
    pub(super) fn unwritten(&self) -> u64 {
        self.verifying.len() as u64 * u64::from(self.config.layout.piece_length())
    }
}

/// The peers among those who sent a piece, each once.
fn peers_of(senders: &[Source]) -> Vec<SocketAddr> {
    let peer = |source: &Source| match source {
        Source::Peer(address) => Some(*address),
        Source::Web(_) | Source::Disk => None,
    };
    let mut addresses: Vec<SocketAddr> = senders.iter().filter_map(peer).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
