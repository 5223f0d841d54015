//! Hashes of merkle trees (BEP 52): peers get them, and are asked for those of the blocks of a piece that failed.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Output, Swarm};
use crate::hash::Sha256;
use crate::ids::PeerKey;
use crate::layout::PieceIndex;
use crate::proofs::{BlockTrials, HashAnswer, HashServer, PieceRun, TrialEnd};
use crate::wire::{HashRange, Message};

impl Swarm {
    /// Peers that speak version 2 get hashes from `server` on, and are asked who sent bad blocks by `trials`.
    pub fn use_trees(&mut self, server: HashServer, trials: BlockTrials) {
        (self.hash_server, self.trials) = (server, Some(trials));
    }

    pub(super) fn on_hash_request(&mut self, now: Instant, key: PeerKey, range: Box<HashRange>) {
        match self.hash_server.on_request(now, key, range, |piece| self.have.contains(piece)) {
            HashAnswer::Send(answer) => self.send(now, key, answer),
            HashAnswer::Read(run) => self.outputs.push_back(Output::HashBlocks(run)),
            HashAnswer::Later | HashAnswer::Nothing => {}
        }
    }

    pub(super) fn on_blocks_hashed(&mut self, now: Instant, run: PieceRun, hashes: Option<Vec<Sha256>>) {
        for (key, answer) in self.hash_server.on_read(run, hashes) {
            self.send(now, key, answer);
        }
    }

    pub(super) fn on_hash_reject(&mut self, now: Instant, key: PeerKey, range: &HashRange) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.owed_hashes = peer.owed_hashes.saturating_sub(1);
        self.trials.iter_mut().for_each(|trials| trials.on_reject(key, range));
        self.ask_for_hashes(now);
    }

    pub(super) fn on_hashes(&mut self, now: Instant, key: PeerKey, range: &HashRange, hashes: &[Sha256]) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.owed_hashes == 0 {
            // What was asked while it was not known what the torrent is may have come from others.
            match peer.late_hashes.checked_sub(1) {
                Some(left) => peer.late_hashes = left,
                None => self.close_unruly(now, key, "sent hashes that nobody asked for"),
            }
            return;
        }
        peer.owed_hashes -= 1;
        let end =
            self.trials.as_mut().map_or(TrialEnd::Nothing, |trials| trials.on_hashes(key, range, hashes));
        match end {
            TrialEnd::Nothing => {}
            TrialEnd::Unproved => {
                self.close_unruly(now, key, "sent hashes that do not lead to their root");
            }
            TrialEnd::Culprits(piece, culprits) => {
                culprits.into_iter().for_each(|culprit| self.convict(now, culprit, piece));
            }
        }
        self.ask_for_hashes(now);
    }

    /// Asks peers that have pieces which failed here for the hashes of their blocks.
    pub(super) fn ask_for_hashes(&mut self, now: Instant) {
        let Some(mut trials) = self.trials.take() else { return };
        let peers = &self.peers;
        let knows = |piece: PieceIndex, tried: &BTreeSet<PeerKey>| {
            let mut able = peers.values().filter(|peer| peer.v2 && peer.pieces.contains(piece));
            able.find(|peer| !tried.contains(&peer.key)).map(|peer| peer.key)
        };
        let mut asked = Vec::new();
        while let Some(request) = trials.next_request(now, knows) {
            asked.push(request);
        }
        self.trials = Some(trials);
        for (key, range) in asked {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.owed_hashes += 1;
            }
            self.send(now, key, Message::HashRequest(Box::new(range)));
        }
    }
}
