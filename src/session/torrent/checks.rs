//! A torrent's hash checks: begun, followed, and what becomes of what they find.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::{Activity, Torrent};
use crate::bitfield::Bitfield;
use crate::blocks::BlockData;
use crate::check::{HashCheck, PieceResult};
use crate::event::{Kind, Severity, State, Verdict};
use crate::finder::{Finder, Origin, Rules};
use crate::ids::{Round, TorrentId};
use crate::layout::{FileIndex, Layout, PieceIndex};
use crate::lobby::{Guest, Lobby};
use crate::proofs::{BlockTrials, HashServer};
use crate::session::Notice;
use crate::session::check_queue::{Lane, Turn};
use crate::session::checking::{self, Checked, MuchToRead, Plan};
use crate::session::context::Context;
use crate::session::options::CachedPiece;
use crate::session::selection::piece_weights;
use crate::session::thread::thread_gone;
use crate::storage::Preallocate;
use crate::storage::resume::Vouched;
use crate::swarm::{Input, Swarm, SwarmConfig};
use crate::text::count;
use crate::transfer::Transfer;

/// Files of which a check warns one by one.
const MAX_WARNINGS: usize = 8;

/// A check that waits for its turn, or is under way.
#[derive(Debug)]
pub(super) struct Check {
    /// Which check of this process.
    pub round: Round,
    /// How far it is.
    pub stage: CheckStage,
    /// The check itself; shared with its thread.
    pub hash_check: Arc<HashCheck>,
    /// Read every byte, whatever resume data vouch for.
    full: bool,
    /// Of a torrent that has been running: what is known, and what is to be read anew.
    again: Option<Vouched>,
    /// Pieces that were there when it began, as far as was known.
    pub known: Bitfield,
    /// Peers that the user has named meanwhile.
    pub named: Vec<SocketAddr>,
    /// Blocks of unfinished pieces that were here when it began.
    partial: BTreeMap<PieceIndex, Vec<Option<BlockData>>>,
    /// Bytes received and sent that an earlier swarm of this torrent had counted, if there was one.
    counted: Option<(u64, u64)>,
    /// Peers that gave us the metadata, or came meanwhile, and wait to be asked for data.
    pub lobby: Option<Box<Lobby>>,
}

/// How far a check is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CheckStage {
    /// Others come first.
    Waiting,
    /// A thread has it, and looks at how much there is to read.
    Looking,
    /// A thread reads.
    Reading,
}

impl Check {
    /// A check that waits for its turn.
    pub(super) fn new(now: Instant, round: Round, known: Bitfield) -> Check {
        Check {
            round,
            stage: CheckStage::Waiting,
            full: false,
            again: None,
            hash_check: Arc::new(HashCheck::new(now, known.len())),
            known,
            named: Vec::new(),
            partial: BTreeMap::new(),
            counted: None,
            lobby: None,
        }
    }

    /// Pieces and bytes that it is about.
    fn extent(&self, layout: &Layout) -> (u32, u64) {
        match &self.again {
            Some(again) => (again.to_check.count(), again.to_check.bytes(layout)),
            None => (layout.num_pieces(), layout.total()),
        }
    }
}

/// Tells the loop how a check has ended, in any case: a panic too.
struct CheckEnd {
    id: TorrentId,
    round: Round,
    lane: Lane,
    notify: UnboundedSender<Notice>,
    is_told: bool,
}

impl CheckEnd {
    fn tell(mut self, end: Result<Checked, MuchToRead>) {
        self.is_told = true;
        // The session may be over.
        let _ = self.notify.send(match end {
            Ok(checked) => Notice::Checked(self.id, self.round, self.lane, Some(Box::new(checked))),
            Err(MuchToRead(bytes)) => Notice::CheckPostponed(self.id, self.round, self.lane, bytes),
        });
    }
}

impl Drop for CheckEnd {
    fn drop(&mut self) {
        if !self.is_told {
            let _ = self.notify.send(Notice::Checked(self.id, self.round, self.lane, None));
        }
    }
}

impl Torrent {
    /// Has the torrent checked, once it is its turn; `again` is what a torrent that has been running knows, and what is to be
    /// read anew.
    pub(super) fn begin_check(
        &mut self,
        now: Instant,
        full: bool,
        again: Option<Vouched>,
        context: &mut Context,
    ) {
        // With its peers a torrent goes on in the round in which it found them: trackers still answer to that.
        let lobby = self.take_lobby();
        let round = if lobby.is_some() { self.round() } else { context.counter.round() };
        let mut check = Check::new(now, round, self.have().clone());
        check.lobby = lobby;
        // Some are named before it is the turn of the first check.
        check.named = self.check_mut().map(|before| std::mem::take(&mut before.named)).unwrap_or_default();
        let totals = self.swarm().map(|swarm| swarm.totals(now));
        totals.iter().for_each(|totals| self.run.swarm_ends(totals));
        let finder = self.transfer().map(Transfer::finder).map(Finder::peers_found);
        finder.iter().for_each(|found| self.run.finder_ends(*found));
        check.counted = totals.map(|totals| (totals.downloaded, totals.uploaded));
        // What was made of the files before is not true any more, unless this only looks at some of it again.
        if again.is_some() {
            check.partial = self.transfer_mut().map(Transfer::take_partial_pieces).unwrap_or_default();
        }
        (check.full, check.again) = (full, again);
        let (_, bytes) = check.extent(self.layout());
        let device = self.claim.as_ref().and_then(|claim| claim.device());
        self.activity = Activity::Checking(check);
        if let Some(ahead) = context.check_queue.join(self.id, device, bytes) {
            self.tell(context, Kind::HashcheckQueued { ahead });
        }
    }

    /// It is the torrent's turn to be checked.
    pub(crate) fn start_check(&mut self, now: Instant, turn: Turn, context: &mut Context) {
        let prepare = self.state == State::Started;
        let Activity::Checking(check) = &mut self.activity else { return context.check_queue.end(turn.lane) };
        check.stage = CheckStage::Looking;
        check.hash_check = Arc::new(HashCheck::new(now, check.known.len()));
        let plan = Plan {
            on_disk: self.on_disk.clone(),
            state_dir: self.options.state_dir.clone(),
            full: check.full,
            again: check.again.clone(),
            prepare,
            all_or_nothing: self.options.preallocate == Preallocate::Full,
            doubtful: self.durability.doubtful.clone(),
            max_bytes: turn.max_bytes,
            threads: turn.threads(),
            overwrite: self.options.overwrite,
        };
        let (id, round, notify) = (self.id, check.round, context.notify.clone());
        let hash_check = check.hash_check.clone();
        let tell_pieces = context.subscribers.want(Severity::Info);
        let is_read = self.readers.is_any();
        let end = CheckEnd { id, round, lane: turn.lane, notify: notify.clone(), is_told: false };
        let work = move || {
            let begun = || drop(notify.send(Notice::CheckBegun(id, round)));
            let on_piece = |piece, result| {
                // Before a download most pieces are missing, and that is no news.
                let is_awaited = is_read.load(Ordering::Relaxed) && result == PieceResult::Ok;
                if is_awaited || tell_pieces && result != PieceResult::Missing {
                    let _ = notify.send(Notice::PieceChecked(id, piece, result));
                }
            };
            end.tell(checking::check(&plan, &hash_check, &begun, &on_piece));
        };
        // If the thread is gone, the work's end is told when it is dropped.
        context.check_threads.run(turn.lane, Box::new(work));
    }

    /// The check has to stand still for now, or may go on.
    pub(crate) fn hold_check(&mut self, hold: bool) {
        if let Some(check) = self.check_mut() {
            check.hash_check.hold(hold);
        }
    }

    /// A check has seen what there is to read, and reads it.
    pub(crate) fn on_check_begun(&mut self, round: Round, context: &mut Context) {
        let Some(check) = self.check_mut().filter(|check| check.round == round) else { return };
        check.stage = CheckStage::Reading;
        if let Activity::Checking(check) = &self.activity {
            let (pieces, bytes) = check.extent(self.layout());
            self.tell(context, Kind::HashcheckStarted { pieces, bytes });
        }
    }

    /// There is too much to read for this turn: the torrent waits on.
    pub(crate) fn on_check_postponed(
        &mut self,
        now: Instant,
        round: Round,
        ahead: usize,
        context: &mut Context,
    ) {
        let Some(check) = self.check_mut().filter(|check| check.round == round) else { return };
        check.stage = CheckStage::Waiting;
        match self.goes_on() {
            true => self.tell(context, Kind::HashcheckQueued { ahead }),
            false => self.leave_check_queue(now, context),
        }
    }

    /// A torrent that ends does not wait for its check: of what it would have read nothing is known. If it has been running,
    /// what it knows is saved.
    pub(super) fn leave_check_queue(&mut self, now: Instant, context: &mut Context) {
        context.check_queue.leave(self.id);
        let Some(check) = self.check_mut() else { return };
        let partial = std::mem::take(&mut check.partial);
        let Some(Vouched { have, to_check, uploaded, downloaded, .. }) = check.again.take() else {
            // What resume data say still holds.
            return self.end_last_save();
        };
        let synced = self.durability.synced_of(&have);
        self.durability.on_checked(now, synced, false, false);
        self.begin_transfer(now, have, to_check, partial, (downloaded, uploaded), context);
    }

    /// The check cannot be done: its thread is gone.
    fn fail_check(&mut self, now: Instant, context: &mut Context) {
        if let Some(check) = self.check_mut() {
            check.stage = CheckStage::Waiting;
        }
        match self.goes_on() {
            true => {
                let reason = thread_gone("check");
                self.obstacle = Some((Verdict::Failed, reason.clone()));
                self.begin_end(now, Verdict::Failed, reason, context);
            }
            false => self.leave_check_queue(now, context),
        }
    }

    /// A check has come to a verdict on a piece.
    pub(crate) fn on_piece_checked(&self, piece: PieceIndex, result: PieceResult, context: &mut Context) {
        self.tell(context, result.event(piece));
    }

    /// Checks again what is on disk of these pieces, all if `None`: the connections are closed, and
    /// made anew afterwards. Does nothing while a check is under way, or once the torrent ends.
    pub(crate) fn check_again(&mut self, now: Instant, pieces: Option<Bitfield>, context: &mut Context) {
        let Some(swarm) = self.swarm().filter(|_| self.goes_on()) else { return };
        let totals = swarm.totals(now);
        let mut to_check = pieces.unwrap_or_else(|| Bitfield::full(swarm.have().len()));
        to_check.union_with(&self.durability.doubtful);
        let have = swarm.have().difference(&to_check);
        let (uploaded, downloaded) = (totals.uploaded, totals.downloaded);
        let again =
            Vouched { have, to_check, partial: Vec::new(), uploaded, downloaded, is_ours: self.is_ours };
        self.input(now, Input::Enter(State::Stopped));
        self.perform(now, context);
        self.begin_check(now, true, Some(again), context);
    }

    /// After an error that says that the files are not what they were taken for: looks at them anew,
    /// with nothing held open and nothing remembered but resume data.
    pub(super) fn check_renewed(&mut self, now: Instant, context: &mut Context) {
        self.input(now, Input::Enter(State::Stopped));
        self.perform(now, context);
        self.on_disk.storage = self.new_storage();
        self.on_disk.storage.set_trace(context.subscribers.want(Severity::Debug));
        self.durability.renew = false;
        self.durability.prepared = false;
        self.begin_check(now, false, None, context);
    }

    /// A check has ended: the torrent goes on with a new transfer. What another than the last one says is void.
    pub(crate) fn on_checked(
        &mut self,
        now: Instant,
        round: Round,
        checked: Option<Box<Checked>>,
        context: &mut Context,
    ) {
        let (named, before) = match &mut self.activity {
            Activity::Checking(check) if check.round == round => {
                (std::mem::take(&mut check.named), std::mem::take(&mut check.partial))
            }
            Activity::Fetching(_) | Activity::Checking(_) | Activity::Running { .. } => return,
        };
        let Some(checked) = checked else { return self.fail_check(now, context) };
        let Checked {
            have,
            vouched,
            again,
            read,
            prepared,
            refused,
            finished,
            unchecked,
            partial,
            error,
            uploaded,
            downloaded,
            corrupt,
            is_ours,
        } = *checked;
        let is_new = !std::mem::replace(&mut self.is_ours, is_ours);
        let synced = if again { self.durability.synced_of(&vouched) } else { vouched };
        self.durability.on_checked(now, synced, read, prepared);
        self.last_new = now;
        let cache = std::mem::take(&mut self.options.piece_cache);
        let mut blocks = cached_blocks(self.layout(), cache);
        blocks.extend(partial);
        blocks.extend(before);
        // What a check that was broken off did not come to is not missing: nobody knows.
        let all_known = unchecked.is_empty();
        let guests = self.begin_transfer(now, have, unchecked, blocks, (downloaded, uploaded), context);
        self.completing_until = None;
        self.was_incomplete |= !self.is_complete();
        self.completed = (self.is_complete() && !self.was_incomplete).then_some(now);
        if all_known {
            self.tell(context, finished);
        }
        if error.is_none() && !corrupt.is_empty() {
            self.tell_corrupt(&corrupt, context);
        }
        self.tell_notes(context);
        match error.and_then(|error| self.tolerate(error, context)) {
            Some(error) if refused => self.refuse(now, &error, context),
            Some(error) => self.on_storage_error(now, &error, context),
            None if !self.goes_on() => {}
            None => {
                self.go_on(now, named, prepared, context);
                // A run that is killed leaves files that grow half-grown: the next one is to know whose they are.
                if is_new && self.options.preallocate == Preallocate::None {
                    self.save_first(context);
                }
            }
        }
        self.with_transfer(|transfer| transfer.welcome(now, guests));
        if self.goes_on() {
            self.complete_if_all_is_there(now, context);
        }
    }

    /// Tells how much of the files was not the torrent's, and will be written over.
    fn tell_corrupt(&self, corrupt: &Bitfield, context: &mut Context) {
        let files = (0..self.layout().files().len() as u32).map(FileIndex);
        let wrong = |file: &FileIndex| corrupt.count_in(self.layout().pieces_of_file(*file));
        let mut wrong = files.map(|file| (file, wrong(&file))).filter(|(_, wrong)| *wrong > 0);
        for (file, wrong) in wrong.by_ref().take(MAX_WARNINGS) {
            let path = self.on_disk.storage.path(file).display().to_string();
            let all = self.layout().pieces_of_file(file).len();
            let reason = format!("{wrong} of its {all} pieces are not this torrent's and are fetched anew");
            self.tell(context, Kind::FileWarning { path, reason });
        }
        let more = wrong.count();
        if more > 0 {
            let path = self.on_disk.storage.basedir().display().to_string();
            let reason =
                format!("pieces of {} are not this torrent's either", count(more as u64, "more file"));
            self.tell(context, Kind::FileWarning { path, reason });
        }
    }

    /// Begins the transfer of what a check has not found. `counted` are the bytes received and sent in earlier runs, for the
    /// case that no earlier swarm of this run has counted on from there. Gives the peers that have waited for it.
    fn begin_transfer(
        &mut self,
        now: Instant,
        have: Bitfield,
        unchecked: Bitfield,
        partial: BTreeMap<PieceIndex, Vec<Option<BlockData>>>,
        counted: (u64, u64),
        context: &mut Context,
    ) -> Vec<Guest> {
        let counted_before = self.check_mut().and_then(|check| check.counted);
        // What counts belongs to the data that are there: where nothing is there, all begins anew.
        let (downloaded, uploaded) = match have.is_empty() && unchecked.is_empty() && partial.is_empty() {
            true => (0, 0),
            false => counted_before.unwrap_or(counted),
        };
        self.run.swarm_begins(downloaded, uploaded);
        let metainfo = &self.on_disk.metainfo;
        let config = SwarmConfig {
            info_hash: metainfo.info_hash.wire(),
            layout: metainfo.layout.clone(),
            metadata: metainfo.info_bytes.clone(),
            peer_id: context.identity.peer_id,
            ports: context.identity.ports,
            have,
            wanted: self.wanted.clone(),
            weights: piece_weights(&metainfo.layout, &self.options.priorities),
            order: self.order(),
            partial,
            memory: context.memory.share(self.id, self.on_disk.lane),
            pace: context.connections.shared.pace.share(self.id),
            downloaded,
            uploaded,
            peer_exchange: context.options.peer_exchange && !metainfo.private,
            holepunch: context.punches_holes() && !metainfo.private,
            max_peers: context.options.max_peers,
            // It is given some when somebody wants one.
            upload_slots: 0,
            seed: context.rng.u64(..),
        };
        let lobby = self.take_lobby().map(|lobby| lobby.into_parts());
        let (finder, guests) = lobby.unwrap_or_else(|| (self.new_finder(context), Vec::new()));
        let mut swarm = Swarm::new(now, config);
        if let Some(layers) = self.on_disk.metainfo.piece_hashes.layers() {
            let layout = &self.on_disk.metainfo.layout;
            let trials = BlockTrials::new(layers.clone(), layout.clone());
            swarm.use_trees(HashServer::new(layers.clone(), layout), trials);
        }
        let mut transfer = Transfer::new(swarm, finder);
        if let Some(seeds) = self.new_web_seeds(context) {
            transfer.set_web_seeds(seeds);
        }
        transfer.want_events(context.subscribers.least());
        self.activity = Activity::Running { round: self.round(), transfer: Box::new(transfer), unchecked };
        guests
    }

    /// A finder that knows nobody yet.
    pub(super) fn new_finder(&self, context: &mut Context) -> Finder {
        let rules = Rules {
            private: self.on_disk.metainfo.private,
            no_peer_exchange: !context.options.peer_exchange,
            no_holepunch: !context.punches_holes(),
            filter: context.options.ip_filter.clone(),
        };
        Finder::new(self.tracker_tiers(), rules, context.rng.u64(..))
    }

    /// Goes into the state that the user asked for.
    fn go_on(&mut self, now: Instant, named: Vec<SocketAddr>, prepared: bool, context: &mut Context) {
        self.with_finder(|finder| finder.found(now, named, Origin::User));
        self.enter_asked_state(now, context);
        if self.state != State::Started || self.waits_for_turn() {
            return;
        }
        if !prepared {
            self.prepare(context);
        }
        if self.completed.is_some() && !self.options.no_seed {
            let name = self.on_disk.metainfo.name.clone();
            self.tell(context, Kind::Seeding { name });
        }
    }
}

/// Blocks of an earlier `piece_cache`, those that fit.
fn cached_blocks(layout: &Layout, cache: Vec<CachedPiece>) -> BTreeMap<PieceIndex, Vec<Option<BlockData>>> {
    let mut assembling = BTreeMap::new();
    for cached in cache.into_iter().filter(|cached| cached.piece < layout.num_pieces()) {
        let piece = PieceIndex(cached.piece);
        let mut blocks = Vec::new();
        blocks.resize_with(layout.num_blocks(piece) as usize, || None);
        for (number, bytes) in cached.blocks {
            let Some(place) = blocks.get_mut(number as usize) else { continue };
            let length = layout.block(piece, number).length;
            if bytes.len() == length as usize {
                let mut data = BlockData::new(length);
                data.as_mut_slice().copy_from_slice(&bytes);
                *place = Some(data);
            }
        }
        // The core hashes a piece when its last block comes, so a whole one leaves one to come.
        if blocks.iter().all(Option::is_some) {
            blocks[0] = None;
        }
        if blocks.iter().any(Option::is_some) {
            assembling.insert(piece, blocks);
        }
    }
    assembling
}
