//! A torrent's way through a session: added, checked, started, complete, ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::checking::{self, Checked, Plan, Progress};
use super::options::TorrentOptions;
use super::saving::{Safety, storage_options};
use super::selection::{piece_weights, wanted_pieces};
use super::torrent::{Ending, FAREWELL, Life, Torrent, cached_blocks};
use super::{Engine, Notice};
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::check::PieceResult;
use crate::disk::OnDisk;
use crate::event::{Kind, Pieces, Severity, State, Verdict};
use crate::ids::InfoHashes;
use crate::layout::PieceIndex;
use crate::metainfo::Metainfo;
use crate::storage::resume::Vouched;
use crate::storage::{Preallocate, Storage, StorageOptions};
use crate::swarm::{Config, Input, Origin, Swarm};

impl Engine {
    /// False if it is there already.
    pub(super) fn add(&mut self, now: Instant, metainfo: Metainfo, options: TorrentOptions) -> bool {
        let hash = metainfo.info_hash;
        let full_check = options.full_check;
        if self.torrents.contains_key(&hash) || self.shutting_down {
            return false;
        }
        let layout = metainfo.layout.clone();
        let storage_options =
            StorageOptions { trace: self.subscribers.want(Severity::Debug), ..storage_options(&options) };
        let storage = Arc::new(Storage::new(&metainfo, &options.basedir, storage_options));
        let added = Kind::TorrentAdded {
            name: metainfo.name.clone(),
            size: layout.total(),
            pieces: layout.num_pieces(),
            files: metainfo.files.len(),
        };
        let web_seeds = metainfo.url_list.clone();
        let on_disk = OnDisk { metainfo: Arc::new(metainfo), storage };
        self.generations += 1;
        let torrent = Torrent {
            wanted: wanted_pieces(&layout, &options.priorities),
            checked: Bitfield::new(layout.num_pieces()),
            life: Life::Checking {
                stop: Arc::new(AtomicBool::new(false)),
                progress: Arc::new(Progress::new(now, layout.num_pieces())),
            },
            on_disk,
            state: options.state,
            assembling: Default::default(),
            named: Vec::new(),
            options,
            unwritten: 0,
            began: now,
            completed: None,
            last_new: now,
            error: None,
            unchecked: Bitfield::new(layout.num_pieces()),
            ending: None,
            ended: None,
            safety: Safety::new(layout.num_pieces()),
            generation: self.generations,
            counted: None,
        };
        self.torrents.insert(hash, torrent);
        self.tell(hash, added);
        for url in web_seeds {
            let reason = "not used: web seeds are not supported yet".to_owned();
            self.tell_if(Severity::Info, hash, || Kind::UrlSeed { url, reason });
        }
        self.begin_check(now, hash, full_check, None);
        true
    }

    fn begin_check(&mut self, now: Instant, hash: InfoHashes, full: bool, again: Option<Vouched>) {
        let tell_pieces = self.subscribers.want(Severity::Info);
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let layout = &torrent.on_disk.metainfo.layout;
        let (pieces, bytes) = match &again {
            Some(again) => (again.to_check.count(), again.to_check.bytes(layout)),
            None => (layout.num_pieces(), layout.total()),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Progress::new(now, layout.num_pieces()));
        torrent.counted = torrent.swarm().map(|swarm| swarm.totals(now)).or(torrent.counted);
        torrent.life = Life::Checking { stop: stop.clone(), progress: progress.clone() };
        if again.is_none() {
            torrent.assembling.clear();
        }
        let plan = Plan {
            on_disk: torrent.on_disk.clone(),
            state_dir: torrent.options.state_dir.clone(),
            full,
            again,
            prepare: torrent.state == State::Started,
            all_or_nothing: torrent.options.preallocate == Preallocate::Full,
            doubtful: torrent.safety.doubtful.clone(),
        };
        let notify = self.notify.clone();
        tokio::task::spawn_blocking(move || {
            let on_piece = |piece, result| {
                if tell_pieces && result != PieceResult::Missing {
                    let _ = notify.send(Notice::PieceChecked(hash, piece, result));
                }
            };
            let checked = checking::check(&plan, &progress, &stop, &on_piece);
            let _ = notify.send(Notice::Checked(Box::new(checked)));
        });
        self.tell(hash, Kind::HashcheckStarted { pieces, bytes });
    }

    pub(super) fn on_piece_checked(&mut self, hash: InfoHashes, piece: PieceIndex, result: PieceResult) {
        let (index, peers) = (piece.0, Vec::new());
        match result {
            PieceResult::Ok => self.tell(hash, Kind::PieceHashPassed { index, peers }),
            PieceResult::Corrupt | PieceResult::Unreadable => {
                self.tell(hash, Kind::PieceHashFailed { index, peers });
            }
            // There was nothing to hash.
            PieceResult::Missing => {}
        }
        self.touched.insert(hash);
    }

    /// Checks again what is on disk of these pieces, all if `None`: the connections are closed, and
    /// made anew afterwards.
    pub(super) fn check_again(&mut self, now: Instant, hash: InfoHashes, pieces: Option<Bitfield>) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let ends = torrent.ending.is_some() || torrent.ended.is_some();
        let Some(swarm) = torrent.swarm().filter(|_| !ends) else { return };
        let totals = swarm.totals(now);
        let mut to_check = pieces.unwrap_or_else(|| Bitfield::full(swarm.have().len()));
        to_check.union_with(&torrent.safety.doubtful);
        let have = swarm.have().difference(&to_check);
        let (uploaded, downloaded) = (totals.uploaded, totals.downloaded);
        let again = Vouched { have, to_check, partial: Vec::new(), uploaded, downloaded };
        self.input(now, hash, Input::Enter(State::Stopped));
        self.perform(now, hash);
        self.begin_check(now, hash, true, Some(again));
    }

    /// After an error that says that the files are not what they were taken for: looks at them anew,
    /// with nothing held open and nothing remembered but resume data.
    fn check_renewed(&mut self, now: Instant, hash: InfoHashes) {
        let trace = self.subscribers.want(Severity::Debug);
        self.input(now, hash, Input::Enter(State::Stopped));
        self.perform(now, hash);
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.on_disk.storage = torrent.new_storage();
        torrent.on_disk.storage.set_trace(trace);
        torrent.safety.renew = false;
        torrent.safety.prepared = false;
        self.begin_check(now, hash, false, None);
    }

    pub(super) fn on_checked(&mut self, now: Instant, checked: Checked) {
        let hash = checked.torrent;
        self.generations += 1;
        let generation = self.generations;
        let is_meant = |torrent: &&mut Torrent| Arc::ptr_eq(&torrent.on_disk.storage, &checked.storage);
        let Some(torrent) = self.torrents.get_mut(&hash).filter(is_meant) else { return };
        torrent.checked = checked.have;
        torrent.generation = generation;
        let synced = match checked.again {
            true => torrent.safety.synced_of(&checked.vouched),
            false => checked.vouched,
        };
        torrent.safety.checked(now, synced, checked.read, checked.prepared);
        let totals = torrent.counted.map(|totals| (totals.downloaded, totals.uploaded));
        let (downloaded, uploaded) = totals.unwrap_or((checked.downloaded, checked.uploaded));
        torrent.last_new = now;
        torrent.unchecked = checked.unchecked;
        let cache = std::mem::take(&mut torrent.options.piece_cache);
        let cached = cached_blocks(&torrent.on_disk.metainfo.layout, cache);
        for (piece, blocks) in checked.partial.into_iter().chain(cached) {
            torrent.assembling.entry(piece).or_insert(blocks);
        }
        let have = &torrent.checked;
        torrent.assembling.retain(|&piece, _| !have.contains(piece));
        let here = |blocks: &Vec<Option<BlockData>>| {
            let numbers = (0u32..).zip(blocks).filter(|(_, block)| block.is_some());
            numbers.map(|(number, _)| number).collect()
        };
        let config = Config {
            info_hash: hash.wire(),
            layout: torrent.on_disk.metainfo.layout.clone(),
            trackers: torrent.on_disk.metainfo.trackers.clone(),
            peer_id: self.peer_id,
            port: self.port,
            have: torrent.checked.clone(),
            wanted: torrent.wanted.clone(),
            weights: piece_weights(&torrent.on_disk.metainfo.layout, &torrent.options.priorities),
            partial: torrent.assembling.iter().map(|(&piece, blocks)| (piece, here(blocks))).collect(),
            downloaded,
            uploaded,
            max_peers: self.options.max_peers,
            upload_slots: torrent.options.upload_slots,
            seed: self.rng.u64(..),
        };
        let mut swarm = Swarm::new(now, config);
        swarm.want_events(self.subscribers.least());
        let complete = swarm.is_complete();
        let missing = torrent.checked.complement();
        let finished = Kind::HashcheckFinished {
            have: Pieces(torrent.checked.ranges()),
            missing: Pieces(missing.ranges()),
            have_count: torrent.checked.count(),
            missing_count: missing.count(),
            corrupt_count: checked.corrupt,
        };
        let all_known = torrent.unchecked.is_empty();
        torrent.life = Life::Running(Box::new(swarm));
        torrent.completed = complete.then_some(now);
        let (state, name) = (torrent.state, torrent.on_disk.metainfo.name.clone());
        let named = std::mem::take(&mut torrent.named);
        let (ending, no_seed) = (torrent.ending.is_some(), torrent.options.no_seed);
        // What a check that was broken off did not come to is not missing: nobody knows.
        if all_known {
            self.tell(hash, finished);
        }
        self.tell_notes(hash);
        let error = checked.error.and_then(|error| self.put_up_with(hash, error));
        if let Some(error) = error {
            match checked.refused {
                true => self.refuse(now, hash, &error),
                false => self.on_storage_error(now, hash, &error),
            }
        } else if !ending {
            self.input(now, hash, Input::Found { addresses: named, origin: Origin::User });
            self.input(now, hash, Input::Enter(state));
            if !checked.prepared && state == State::Started {
                self.prepare(hash);
            }
            if complete && state == State::Started && !no_seed {
                self.tell(hash, Kind::Seeding { name });
            }
        }
        self.touched.insert(hash);
    }

    /// Something new was verified and written.
    pub(super) fn on_progress(&mut self, now: Instant, hash: InfoHashes, piece: PieceIndex) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        torrent.last_new = now;
        torrent.safety.save_soon(now);
        self.flush(hash, piece);
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        if torrent.completed.is_some() || !torrent.is_complete() {
            return;
        }
        torrent.completed = Some(now);
        torrent.safety.save_now(now);
        let name = torrent.on_disk.metainfo.name.clone();
        let elapsed = now.saturating_duration_since(torrent.began).as_secs_f64();
        let size = torrent.wanted_bytes();
        let seeds = !torrent.options.no_seed;
        // The last piece is told before what it completes.
        self.perform(now, hash);
        self.tell(hash, Kind::Complete { name: name.clone(), size, elapsed });
        // Seeding needs none of them; whoever still downloads makes its own again.
        self.shared.pool.clear();
        if seeds {
            self.tell(hash, Kind::Seeding { name });
        }
    }

    pub(super) fn enter(&mut self, now: Instant, hash: InfoHashes, state: State, reason: &str) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        if torrent.state == state || torrent.ending.is_some() || torrent.ended.is_some() {
            return;
        }
        let from = std::mem::replace(&mut torrent.state, state);
        if state == State::Started {
            torrent.error = None;
            torrent.last_new = now;
        }
        let (renew, prepared) = (torrent.safety.renew, torrent.safety.prepared);
        let checking = torrent.swarm().is_none();
        self.tell(hash, Kind::StateChanged { from, to: state, reason: reason.to_owned() });
        if state == State::Started && renew && !checking {
            return self.check_renewed(now, hash);
        }
        self.input(now, hash, Input::Enter(state));
        if state == State::Started && !prepared && !checking {
            self.prepare(hash);
        }
        if state == State::Stopped {
            self.perform(now, hash);
            self.save_all(hash);
        }
    }

    pub(super) fn shut_down(&mut self, now: Instant) {
        self.shutting_down = true;
        let hashes: Vec<InfoHashes> = self.torrents.keys().copied().collect();
        for hash in hashes {
            let verdict = self.torrents.get(&hash).map(Torrent::verdict);
            if let Some((verdict, reason)) = verdict {
                self.begin_end(now, hash, verdict, reason);
            }
            self.touched.insert(hash);
        }
    }

    pub(super) fn remove(&mut self, now: Instant, hash: InfoHashes) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        let name = torrent.on_disk.metainfo.name.clone();
        let (verdict, reason) = torrent.verdict();
        self.begin_end(now, hash, verdict, reason.clone());
        self.save_last(hash);
        self.tell_notes(hash);
        self.last_totals.remove(&hash);
        let Some(torrent) = self.torrents.remove(&hash) else { return };
        self.subscribers.tell(Some(hash), Kind::TorrentRemoved { name });
        if torrent.ended.is_none() {
            let elapsed = now.saturating_duration_since(torrent.began).as_secs_f64();
            let summary = torrent.status(now).summary(verdict, reason, elapsed);
            self.subscribers.tell(Some(hash), summary);
        }
    }

    /// No new work; what is written is finished and synced, the tracker is told.
    pub(super) fn begin_end(&mut self, now: Instant, hash: InfoHashes, verdict: Verdict, reason: String) {
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        if torrent.ending.is_some() || torrent.ended.is_some() {
            return;
        }
        if let Life::Checking { stop, .. } = &torrent.life {
            stop.store(true, Ordering::Relaxed);
        }
        torrent.ending = Some(Ending {
            verdict,
            reason: reason.clone(),
            deadline: now + FAREWELL,
            saving: false,
            saved: false,
        });
        let from = std::mem::replace(&mut torrent.state, State::Stopped);
        if from != State::Stopped {
            self.tell(hash, Kind::StateChanged { from, to: State::Stopped, reason });
        }
        self.input(now, hash, Input::Enter(State::Stopped));
        self.perform(now, hash);
        self.touched.insert(hash);
    }

    /// Saves for the last time.
    fn save_last(&mut self, hash: InfoHashes) {
        let ending = self.torrents.get_mut(&hash).and_then(|torrent| torrent.ending.as_mut());
        if ending.is_some_and(|ending| !std::mem::replace(&mut ending.saving, true)) {
            self.save_all(hash);
        }
    }

    /// Ends a torrent whose time has come, and concludes one whose end has been waited for.
    pub(super) fn see_to_the_end(&mut self, now: Instant, hash: InfoHashes) {
        let Some(torrent) = self.torrents.get(&hash) else { return };
        if let Some((verdict, reason)) = torrent.due_to_end(now) {
            self.begin_end(now, hash, verdict, reason);
        }
        self.look_after_files(now, hash);
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let Some(ending) = &torrent.ending else { return };
        // What is verified already is written, and what a check has found is known, before all is saved.
        if torrent.swarm().is_some() && torrent.safety.writing.is_empty() && !ending.saving {
            self.save_last(hash);
        }
        let Some(torrent) = self.torrents.get_mut(&hash) else { return };
        let Some(ending) = &torrent.ending else { return };
        let told = torrent.swarm().is_none_or(|swarm| swarm.announcer().is_stopped());
        if torrent.ended.is_some() || (now < ending.deadline && !(ending.saved && told)) {
            return;
        }
        let (verdict, reason) = torrent.last_verdict(ending);
        torrent.ended = Some((verdict, reason.clone()));
        let elapsed = now.saturating_duration_since(torrent.began).as_secs_f64();
        let summary = torrent.status(now).summary(verdict, reason, elapsed);
        self.subscribers.tell(Some(hash), summary);
    }
}
