//! Pictures of a torrent for whoever asks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::checks::CheckStage;
use super::life::Life;
use super::{Activity, Torrent};
use crate::bitfield::Bitfield;
use crate::event::State;
use crate::finder::announce::{NextAsk, TrackerStatus};
use crate::lobby::Lobby;
use crate::session::options::{CachedPiece, Phase, Status, Tier, TrackerInfo};
use crate::swarm::Swarm;
use crate::text::without_credentials;

impl Torrent {
    /// Bytes of the pieces that the user wants.
    pub(super) fn wanted_bytes(&self) -> u64 {
        self.wanted.bytes(self.layout())
    }

    /// What the torrent is doing, in one word.
    fn phase(&self) -> Phase {
        match (&self.life, &self.activity) {
            (Life::Ending(_) | Life::Ended { .. }, _) => Phase::Stopped,
            (Life::Going, Activity::Fetching(_) | Activity::Running { .. }) if self.waits_for_turn() => {
                Phase::Waiting
            }
            (Life::Going, Activity::Fetching(_)) if self.state == State::Started => Phase::Fetching,
            (Life::Going, Activity::Fetching(_)) if self.state == State::Paused => Phase::Paused,
            (Life::Going, Activity::Fetching(_)) => Phase::Stopped,
            (Life::Going, Activity::Checking(check)) if check.stage == CheckStage::Reading => Phase::Checking,
            (Life::Going, Activity::Checking(_)) => Phase::Queued,
            (Life::Going, Activity::Running { transfer, .. }) => match transfer.swarm().state() {
                State::Paused => Phase::Paused,
                // It had not begun to download when it was paused.
                State::Stopped | State::Waiting if self.state == State::Paused => Phase::Paused,
                State::Stopped | State::Waiting => Phase::Stopped,
                State::Started if self.is_complete() => Phase::Seeding,
                State::Started => Phase::Downloading,
            },
        }
    }

    /// A picture of this moment.
    pub(crate) fn status(&self, now: Instant) -> Status {
        let totals = self.swarm().map(|swarm| swarm.totals(now));
        let (downloaded, uploaded) = self.run.of(totals.as_ref());
        let totals = totals.unwrap_or_default();
        let left = match self.is_fetching() {
            true => self.lacks(),
            false => self.wanted.difference(self.have()).bytes(self.layout()),
        };
        let phase = self.phase();
        let eta = (phase == Phase::Downloading && totals.down_rate > 0)
            .then(|| Duration::from_secs(left.div_ceil(totals.down_rate)));
        let (check, have) = match &self.activity {
            Activity::Checking(check) if check.stage == CheckStage::Reading => {
                (Some(check.hash_check.progress(now)), check.hash_check.have())
            }
            Activity::Fetching(_) => (None, Bitfield::new(self.wanted.len())),
            Activity::Checking(check) => (None, check.known.clone()),
            Activity::Running { transfer, .. } => (None, transfer.swarm().have().clone()),
        };
        let (verdict, ended) = match &self.life {
            Life::Ended { verdict, reason, .. } => (*verdict, Some((*verdict, reason.clone()))),
            Life::Going | Life::Ending(_) => (self.verdict().0, None),
        };
        let metainfo = &self.on_disk.metainfo;
        Status {
            info_hash: metainfo.info_hash,
            name: metainfo.name.clone(),
            state: self.state,
            phase,
            total: metainfo.layout.total(),
            wanted_bytes: if self.is_fetching() { left } else { self.wanted_bytes() },
            left,
            downloaded,
            uploaded,
            total_downloaded: totals.downloaded,
            total_uploaded: totals.uploaded,
            wasted: totals.wasted,
            down_rate: totals.down_rate,
            up_rate: totals.up_rate,
            peers: totals.peers + self.lobby().map_or(0, Lobby::peers),
            seeds: totals.seeds,
            web_seeds: self.transfer().map_or(0, |transfer| transfer.web_seeds_in_use()),
            eta,
            peers_found: self.run.peers_found(self.finder()),
            dht_nodes: self.dht_nodes,
            next_ask: self.next_ask(now),
            have,
            wanted: self.wanted.clone(),
            in_flight: self.swarm().map_or_else(|| Bitfield::new(self.wanted.len()), Swarm::in_flight),
            check,
            metadata: self.lobby().filter(|_| self.is_fetching()).map(Lobby::progress),
            error: self.obstacle.as_ref().map(|(_, reason)| reason.clone()),
            ended,
            verdict,
        }
    }

    fn next_ask(&self, now: Instant) -> Option<NextAsk> {
        let state = self.lobby().map(Lobby::state).or_else(|| self.swarm().map(Swarm::state))?;
        let finder = self.finder().filter(|_| state == State::Started)?;
        Some(finder.announcer().next_ask(now))
    }

    /// The weight of each file, in order; empty: all 1.
    pub(crate) fn priorities(&self) -> &[u32] {
        &self.options.priorities
    }

    /// The trackers, by tier and in the order in which they are asked.
    pub(crate) fn trackers(&self) -> Vec<Tier> {
        let mut tiers: BTreeMap<usize, Tier> = BTreeMap::new();
        for tracker in self.finder().into_iter().flat_map(|finder| finder.announcer().trackers()) {
            let TrackerStatus { complete, incomplete, failures_in_row: failures, peers, peers6, .. } =
                tracker;
            let (url, number) = (without_credentials(tracker.url).into_owned(), tracker.tier);
            let first = || Tier {
                complete,
                incomplete,
                failures,
                peers,
                peers6,
                urls: Vec::new(),
                trackers: Vec::new(),
            };
            let tier = tiers.entry(number).or_insert_with(first);
            tier.urls.push(url.clone());
            tier.trackers.push(TrackerInfo {
                url,
                tier: number,
                complete,
                incomplete,
                failures,
                peers,
                peers6,
            });
        }
        tiers.into_values().collect()
    }

    /// The blocks that wait for the rest of their piece.
    pub(crate) fn piece_cache(&self) -> Vec<CachedPiece> {
        let pieces = self.swarm().into_iter().flat_map(|swarm| swarm.partial_pieces());
        let cached = pieces.map(|(piece, blocks)| {
            let blocks = blocks.map(|(number, data)| (number, data.as_slice().to_vec())).collect();
            CachedPiece { piece: piece.0, blocks }
        });
        cached.collect()
    }
}
