//! One torrent of a session: sees to all of its own affairs, from its first check to its summary.
//!
//! Owns the transfer, what is known of its data on the disk, and where it stands in
//! its life. What it shares with other torrents it is handed as a [`Context`] with each call. The session's loop tells it what has
//! happened (`on_…`), then calls [`Torrent::advance`] once, and again when [`Torrent::deadline`] has come.

mod checks;
mod durability;
mod fetching;
mod greeting;
mod hashes;
mod life;
mod obstacles;
mod peers;
mod perform;
mod progress;
mod readers;
mod saving;
mod status;
mod table;
mod trackers;
mod turn;
mod webseeds;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::context::Context;
use super::options::TorrentOptions;
use super::selection::wanted_pieces;
use crate::bitfield::Bitfield;
use crate::disk::OnDisk;
use crate::event::{Kind, Severity, State, Verdict};
use crate::finder::Finder;
use crate::ids::{DiskLane, InfoHashes, Round, TorrentId};
use crate::layout::Layout;
use crate::lobby::Lobby;
use crate::metainfo::Metainfo;
use crate::storage::claim::Claim;
use crate::storage::{Device, Storage, StorageError, StorageErrorKind, StorageOptions};
use crate::swarm::Swarm;
use crate::transfer::Transfer;
use checks::Check;
use durability::{Durability, storage_options};
use fetching::Fetching;
use life::Life;
use obstacles::ErrorState;
use progress::{ProgressReports, RunCounters};
use readers::Readers;
use turn::Turn;

pub(super) use fetching::ReadMetadata;
pub(crate) use fetching::{choose, with_link};
pub(crate) use obstacles::verdict_of;
pub(crate) use readers::PieceAccess;
pub(super) use saving::{LastSaved, Synced, TakenSnapshot};
pub(crate) use webseeds::web_seed_urls;

/// A torrent.
#[derive(Debug)]
pub(crate) struct Torrent {
    /// The torrent's id in this process.
    pub id: TorrentId,
    /// Its hashes and files.
    on_disk: OnDisk,
    /// The hashes of the swarms in which it is found. Those of a hybrid that a link names by one are two from the moment that this is known.
    swarms: InfoHashes,
    /// The paths that no other torrent writes to; `None` once it has ended, or if they are another's.
    claim: Option<Arc<Claim>>,
    /// What the user asked of it.
    options: TorrentOptions,
    /// The state that the user asked for; entered once the check is done.
    state: State,
    /// Whether it is its turn to download.
    turn: Turn,
    /// Whether it is being checked or transferred.
    activity: Activity,
    /// Whether it goes on, ends, or has ended.
    life: Life,
    /// Pieces that the user wants.
    wanted: Bitfield,
    /// What stands in the way: how the torrent would end because of it, and the reason for people.
    obstacle: Option<(Verdict, String)>,
    /// What is remembered of errors of the disk.
    errors: ErrorState,
    /// When it was added.
    began: Instant,
    /// When everything wanted was there.
    completed: Option<Instant>,
    /// Whether what stands in the folder was found to be the torrent's.
    is_ours: bool,
    /// Something wanted was missing since it was last told that everything is there.
    was_incomplete: bool,
    /// While everything wanted is there and not yet safe: when it is told all the same.
    completing_until: Option<Instant>,
    /// When something new was last verified, or the wait for it began.
    last_new: Instant,
    /// When data last came, or the torrent began to download.
    last_data: Instant,
    /// How safe its pieces are on the disk.
    durability: Durability,
    /// Its `progress` events.
    progress: ProgressReports,
    /// What it has received and sent in this run.
    run: RunCounters,
    /// Who reads its files while they come.
    readers: Readers,
    /// The transfer has been told of something, and not been asked yet what to do about it.
    has_input: bool,
    /// Whether calls that are under way are to go on.
    calls_wanted: Rc<Cell<bool>>,
    /// How many nodes of the DHT are known, if the torrent is looked up there.
    dht_nodes: Option<usize>,
}

/// What a torrent does. An ending torrent does it still: a check has to be broken off, trackers are told.
#[derive(Debug)]
enum Activity {
    /// Asking peers what the torrent is: a magnet link has given its hash alone.
    Fetching(Fetching),
    /// Reading what is on disk.
    Checking(Check),
    /// Transferring, or ready to.
    Running {
        /// The check that it began with.
        round: Round,
        /// The connected peers, and whom to call.
        transfer: Box<Transfer>,
        /// Pieces that the check did not come to because it was broken off.
        unchecked: Bitfield,
    },
}

impl Torrent {
    /// A torrent that is about to be checked for the first time.
    pub(crate) fn new(
        now: Instant,
        id: TorrentId,
        metainfo: Metainfo,
        options: TorrentOptions,
        claim: Option<Arc<Claim>>,
        context: &mut Context,
    ) -> Torrent {
        let layout = metainfo.layout.clone();
        let trace = context.subscribers.want(Severity::Debug);
        let storage_options = StorageOptions { trace, ..storage_options(&options, claim.as_deref()) };
        let storage = Arc::new(Storage::new(&metainfo, &options.basedir, storage_options));
        let nothing = Bitfield::new(layout.num_pieces());
        let lane = context.disk.lane_of(claim.as_ref().and_then(|claim| claim.device()));
        Torrent {
            id,
            swarms: metainfo.info_hash,
            on_disk: OnDisk { torrent: id, metainfo: Arc::new(metainfo), storage, lane },
            claim,
            state: if options.state == State::Waiting { State::Started } else { options.state },
            turn: Turn::default(),
            activity: Activity::Checking(Check::new(now, context.counter.round(), nothing)),
            life: Life::Going,
            wanted: wanted_pieces(&layout, &options.priorities),
            obstacle: None,
            errors: ErrorState::default(),
            began: now,
            completed: None,
            is_ours: false,
            was_incomplete: false,
            completing_until: None,
            last_new: now,
            last_data: now,
            durability: Durability::new(layout.num_pieces()),
            progress: ProgressReports::default(),
            run: RunCounters::default(),
            readers: Readers::default(),
            has_input: false,
            calls_wanted: Rc::new(Cell::new(true)),
            dht_nodes: None,
            options,
        }
    }

    /// The same, whose files will be on this device, as far as is known.
    pub(crate) fn on_device(mut self, device: Option<Device>, context: &mut Context) -> Torrent {
        self.on_disk.lane = context.disk.lane_of(device);
        self
    }

    /// Which of the disk's threads see to it.
    pub(crate) fn lane(&self) -> DiskLane {
        self.on_disk.lane
    }

    /// Tells that it was added, and begins its first check, unless there is a reason to refuse it.
    pub(crate) fn begin(&mut self, now: Instant, refusal: Option<&StorageError>, context: &mut Context) {
        self.tell_added(context);
        self.call_named_peers(now, context);
        match self.is_fetching() {
            true => self.enter_asked_state(now, context),
            false => self.begin_with_data(now, refusal, context),
        }
    }

    fn tell_added(&self, context: &mut Context) {
        let metainfo = &self.on_disk.metainfo;
        let added = Kind::TorrentAdded {
            name: metainfo.name.clone(),
            size: metainfo.layout.total(),
            pieces: metainfo.layout.num_pieces(),
            files: metainfo.files.len(),
        };
        self.tell(context, added);
    }

    /// Tells that it was added, and ends it: none of its files can be chosen, for this reason.
    pub(crate) fn begin_in_vain(&mut self, now: Instant, reason: String, context: &mut Context) {
        self.tell_added(context);
        self.end_without_files(now, reason, context);
    }

    /// It is known what the torrent is: begins its first check, unless there is a reason to refuse it.
    fn begin_with_data(&mut self, now: Instant, refusal: Option<&StorageError>, context: &mut Context) {
        self.tell_unused_trackers(context);
        if self.options.metadata_only {
            return self.end_unchecked(now, Verdict::Complete, "the metadata are there".to_owned(), context);
        }
        match refusal {
            Some(error) => self.refuse_to_begin(now, error, context),
            None => self.begin_check(now, self.options.full_check, None, context),
        }
    }

    /// Does what is due: all that the transfer has to say, the events, the next step of an end. Call it after each turn in
    /// which something has happened.
    pub(crate) fn advance(&mut self, now: Instant, context: &mut Context) {
        loop {
            self.perform(now, context);
            self.tell_notes(context);
            self.end_if_due(now, context);
            self.save_and_close_if_due(now, context);
            self.look_for_room(now, context);
            self.advance_ending(now, context);
            if !self.has_input {
                break;
            }
        }
        self.answer_readers(now);
        self.tell_progress(now, context);
    }

    /// When [`Torrent::advance`] has something to do though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let transfer = self.transfer().and_then(Transfer::deadline);
        let lobby = self.lobby().and_then(Lobby::deadline);
        [transfer, lobby, self.policy_deadline(), self.progress.deadline()].into_iter().flatten().min()
    }

    /// The identity of its content.
    pub(crate) fn info_hash(&self) -> InfoHashes {
        self.on_disk.metainfo.info_hash
    }

    /// The hashes by which peers find it.
    pub(crate) fn swarms(&self) -> InfoHashes {
        self.swarms
    }

    /// The hashes by which peers could find it, as far as is known.
    pub(crate) fn possible_swarms(&self) -> InfoHashes {
        self.on_disk.metainfo.swarms()
    }

    /// Peers find it by these hashes from now on: its trackers are told.
    pub(crate) fn enter_swarms(&mut self, now: Instant, swarms: InfoHashes) {
        self.swarms = swarms;
        self.with_finder(|finder| finder.announce_again(now));
    }

    /// Bytes in its pieces but for short ones.
    pub(crate) fn piece_length(&self) -> u32 {
        self.layout().piece_length()
    }

    fn layout(&self) -> &Layout {
        &self.on_disk.metainfo.layout
    }

    fn round(&self) -> Round {
        match &self.activity {
            Activity::Fetching(fetching) => fetching.round,
            Activity::Checking(check) => check.round,
            Activity::Running { round, .. } => *round,
        }
    }

    /// Whether the check is done, so that there is a transfer.
    pub(crate) fn is_running(&self) -> bool {
        self.transfer().is_some()
    }

    /// The transfer, once the check is done.
    fn transfer(&self) -> Option<&Transfer> {
        match &self.activity {
            Activity::Running { transfer, .. } => Some(transfer),
            Activity::Fetching(_) | Activity::Checking(_) => None,
        }
    }

    fn transfer_mut(&mut self) -> Option<&mut Transfer> {
        match &mut self.activity {
            Activity::Running { transfer, .. } => Some(transfer),
            Activity::Fetching(_) | Activity::Checking(_) => None,
        }
    }

    /// The peers that wait until it is known what the torrent is and what of it is there.
    fn lobby(&self) -> Option<&Lobby> {
        match &self.activity {
            Activity::Fetching(fetching) => Some(&fetching.lobby),
            Activity::Checking(check) => check.lobby.as_deref(),
            Activity::Running { .. } => None,
        }
    }

    fn lobby_mut(&mut self) -> Option<&mut Lobby> {
        match &mut self.activity {
            Activity::Fetching(fetching) => Some(&mut fetching.lobby),
            Activity::Checking(check) => check.lobby.as_deref_mut(),
            Activity::Running { .. } => None,
        }
    }

    /// Whom to call, unless the torrent is being checked without any peer.
    fn finder(&self) -> Option<&Finder> {
        self.lobby().map(Lobby::finder).or_else(|| self.transfer().map(Transfer::finder))
    }

    /// Whether it is not known yet what the torrent is.
    fn is_fetching(&self) -> bool {
        matches!(self.activity, Activity::Fetching(_))
    }

    /// The connected peers, once the check is done.
    pub(crate) fn swarm(&self) -> Option<&Swarm> {
        self.transfer().map(Transfer::swarm)
    }

    fn check_mut(&mut self) -> Option<&mut Check> {
        match &mut self.activity {
            Activity::Checking(check) => Some(check),
            Activity::Fetching(_) | Activity::Running { .. } => None,
        }
    }

    /// Pieces that are verified and there, as far as is known.
    fn have(&self) -> &Bitfield {
        match &self.activity {
            // It has no pieces yet, and so wants all that there are.
            Activity::Fetching(_) => &self.wanted,
            Activity::Checking(check) => &check.known,
            Activity::Running { transfer, .. } => transfer.swarm().have(),
        }
    }

    /// Whether everything wanted is there and that is known.
    fn is_complete(&self) -> bool {
        self.swarm().is_some_and(Swarm::is_complete)
    }

    /// Tells of the torrent; nothing comes after its summary.
    pub(crate) fn tell(&self, context: &mut Context, kind: Kind) {
        if !self.has_ended() {
            context.subscribers.tell(Some(self.info_hash()), kind);
        }
    }

    /// Builds an event only if somebody wants one of this severity.
    fn tell_if(&self, context: &mut Context, severity: Severity, kind: impl FnOnce() -> Kind) {
        if context.subscribers.want(severity) {
            let kind = kind();
            debug_assert_eq!(kind.severity(), severity, "{kind:?}");
            self.tell(context, kind);
        }
    }

    /// Tells what happened to the torrent's files.
    fn tell_notes(&self, context: &mut Context) {
        let storage = &self.on_disk.storage;
        for note in storage.take_notes() {
            self.tell(context, storage.event_of(note));
        }
    }

    /// Those that build events themselves learn what is wanted.
    pub(crate) fn want_events(&mut self, least: Option<Severity>, trace: bool) {
        self.on_disk.storage.set_trace(trace);
        if let Some(transfer) = self.transfer_mut() {
            transfer.want_events(least);
        }
        if let Some(lobby) = self.lobby_mut() {
            lobby.want_events(least);
        }
    }

    /// Takes an error for a warning, and tells it, if it only keeps what has no bytes from being made:
    /// a torrent whose data are all there can be shared from where nothing may be written.
    fn tolerate(&self, error: StorageError, context: &mut Context) -> Option<StorageError> {
        if !self.is_complete() || !matches!(error.kind, StorageErrorKind::ReadOnly | StorageErrorKind::Denied)
        {
            return Some(error);
        }
        let path = error.path.display().to_string();
        let reason = error.message(&context.options.remedies);
        self.tell(context, Kind::FileWarning { path, reason });
        None
    }
}
