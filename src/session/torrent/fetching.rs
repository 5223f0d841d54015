//! From a magnet link to a torrent: peers are asked what the torrent is (BEP 9), and go on with it once that is known.

use std::cell::Cell;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::checks::Check;
use super::durability::{Durability, storage_options};
use super::{Activity, Torrent};
use crate::bitfield::Bitfield;
use crate::disk::OnDisk;
use crate::event::{Kind, Severity, Verdict};
use crate::fetch::Ticket;
use crate::hash::merkle::MerkleTree;
use crate::hash::{Sha256, sha256};
use crate::ids::{InfoHashes, Round, TorrentId};
use crate::lobby::{Lobby, LobbyConfig};
use crate::metainfo::{Magnet, Metainfo, sha1};
use crate::proofs::HashFetch;
use crate::session::Notice;
use crate::session::context::Context;
use crate::session::options::TorrentOptions;
use crate::session::selection::wanted_pieces;
use crate::storage::claim::{Claim, Claims, Wanted};
use crate::storage::{Storage, StorageError, StorageOptions, kept};
use crate::text::count;

/// A torrent of which nothing is known but what a magnet link says.
#[derive(Debug)]
pub(super) struct Fetching {
    /// What was asked of trackers in another one is void.
    pub round: Round,
    /// The peers, and what they have said of the metadata.
    pub lobby: Box<Lobby>,
    /// The files that the link selects (BEP 53).
    magnet: Magnet,
    /// Where the torrent's paths are claimed once they are known.
    claims: Claims,
    /// What it is, while peers are asked for its piece layers (BEP 52).
    described: Option<Box<Described>>,
}

impl Fetching {
    /// What the user wants of the files from now on; before they are known nothing can be said of them.
    pub(super) fn want(&mut self, priorities: Vec<u32>) {
        if let Some(described) = &mut self.described {
            described.priorities = Ok(priorities);
        }
    }
}

/// What became of metadata that peers gave.
pub(crate) struct ReadMetadata {
    round: Round,
    ticket: Ticket,
    read: Read,
}

enum Read {
    /// They do not match the hash: some peer lied.
    Wrong,
    /// They do, and are no torrent that we can deal with.
    Unusable(String),
    /// They do.
    Right(Box<Described>),
}

/// What a torrent turned out to be.
#[derive(Debug)]
pub(crate) struct Described {
    metainfo: Metainfo,
    /// The weights of its files, or why there are none to choose.
    priorities: Result<Vec<u32>, String>,
    /// Its paths; `None` if nothing is to be written.
    claim: Option<Result<Arc<Claim>, StorageError>>,
}

impl Torrent {
    /// A torrent that is about to be asked for.
    pub(crate) fn of_magnet(
        now: Instant,
        id: TorrentId,
        magnet: Magnet,
        options: TorrentOptions,
        claims: Claims,
        context: &mut Context,
    ) -> Torrent {
        let name = magnet.name_or_hash();
        let (trackers, web_seeds) = (magnet.trackers.clone(), magnet.web_seeds.clone());
        let unknown = Metainfo::unknown(magnet.info_hash, name, trackers, web_seeds);
        Torrent::in_lobby(now, id, unknown, magnet, options, claims, context)
    }

    /// A torrent of version 2 that lacks piece layers (BEP 52): peers are asked for them before anything else.
    pub(crate) fn without_layers(
        now: Instant,
        id: TorrentId,
        metainfo: Metainfo,
        options: TorrentOptions,
        claim: Result<Arc<Claim>, StorageError>,
        context: &mut Context,
    ) -> Torrent {
        let (name, trackers) = (metainfo.name.clone(), metainfo.trackers.clone());
        let unknown = Metainfo::unknown(metainfo.info_hash, name, trackers, metainfo.url_list.clone());
        let unknown = Metainfo { private: metainfo.private, ..unknown };
        let (magnet, priorities) = (Magnet::from(&metainfo), options.priorities.clone());
        let options = TorrentOptions { priorities: Vec::new(), ..options };
        let mut torrent = Torrent::in_lobby(now, id, unknown, magnet, options, Claims::default(), context);
        torrent.on_disk.lane = context.disk.lane_of(claim.as_ref().ok().and_then(|claim| claim.device()));
        let described = Described { metainfo, priorities: Ok(priorities), claim: Some(claim) };
        torrent.ask_for_layers(now, described);
        torrent
    }

    fn in_lobby(
        now: Instant,
        id: TorrentId,
        unknown: Metainfo,
        magnet: Magnet,
        options: TorrentOptions,
        claims: Claims,
        context: &mut Context,
    ) -> Torrent {
        let peer_exchange = context.options.peer_exchange && !unknown.private;
        let holepunch = context.punches_holes() && !unknown.private;
        let mut torrent = Torrent::new(now, id, unknown, options, None, context);
        let config = LobbyConfig {
            peer_id: context.identity.peer_id,
            ports: context.identity.ports,
            peer_exchange,
            holepunch,
            max_peers: context.options.max_peers,
        };
        let mut lobby = Lobby::new(now, config, torrent.new_finder(context));
        lobby.want_events(context.subscribers.least());
        let round = context.counter.round();
        torrent.activity =
            Activity::Fetching(Fetching { round, lobby: Box::new(lobby), magnet, claims, described: None });
        torrent
    }

    /// Bytes that the torrent lacks, wanted or not, as trackers are told (BEP 3); some, while nobody knows how many there are.
    pub(super) fn lacks(&self) -> u64 {
        match &self.activity {
            Activity::Fetching(fetching) => fetching.magnet.length.unwrap_or(1).max(1),
            Activity::Checking(check) => self.layout().total() - check.known.bytes(self.layout()),
            Activity::Running { transfer, .. } => transfer.swarm().left(),
        }
    }

    /// The peers that wait, for whom the torrent does something else from now on.
    pub(super) fn take_lobby(&mut self) -> Option<Box<Lobby>> {
        self.check_mut()?.lobby.take()
    }

    /// Sees whether metadata are right, and what they say, beside the loop.
    pub(super) fn read_metadata(&self, ticket: Ticket, bytes: Arc<[u8]>, context: &Context) {
        let Activity::Fetching(fetching) = &self.activity else { return };
        let (magnet, claims) = (fetching.magnet.clone(), fetching.claims.clone());
        let (id, round, notify) = (self.id, fetching.round, context.notify.clone());
        let options = self.options.clone();
        let work = move || {
            let read = read(&bytes, &magnet, &options, &claims);
            let kept = match &read {
                Read::Right(described) => to_keep(described, &options),
                Read::Wrong | Read::Unusable(_) => None,
            };
            let _ = notify.send(Notice::Metadata(id, ReadMetadata { round, ticket, read }));
            if let Some((state_dir, metainfo)) = kept {
                // If that fails, the next start fetches them again.
                let _ = kept::keep(&state_dir, &metainfo);
            }
        };
        // A few at a time for a torrent: as many as the machine that collects them allows.
        context.disk.sync_queue(self.on_disk.lane).push(Box::new(work));
    }

    /// It is known whether metadata are right, and what they say.
    pub(crate) fn on_metadata(&mut self, now: Instant, read: ReadMetadata, context: &mut Context) {
        let Activity::Fetching(fetching) = &mut self.activity else { return };
        if fetching.round != read.round {
            return;
        }
        self.has_input = true;
        fetching.lobby.on_verified(now, read.ticket, !matches!(read.read, Read::Wrong));
        if let Read::Right(described) = &read.read {
            let v2 = described.metainfo.swarms().v2();
            fetching.lobby.judge_answers(now, v2.map(|hash| InfoHashes::V2(hash).wire()));
        }
        if !self.goes_on() {
            return;
        }
        match read.read {
            Read::Wrong => {}
            Read::Unusable(reason) => self.end_with(now, Verdict::NotATorrent, reason, context),
            Read::Right(described) => {
                let metainfo = &described.metainfo;
                if metainfo.private && !self.is_private() {
                    self.become_private(now, metainfo);
                }
                match metainfo.piece_hashes.are_known() {
                    true => self.on_described(now, *described, context),
                    false => self.ask_for_layers(now, *described),
                }
            }
        }
    }

    /// It is known what the torrent is, and not what its pieces hash to: peers that speak version 2 know.
    fn ask_for_layers(&mut self, now: Instant, described: Described) {
        let Activity::Fetching(fetching) = &mut self.activity else { return };
        // Two peers may have given the same metadata.
        if fetching.described.is_some() {
            return;
        }
        let metainfo = &described.metainfo;
        if let Some(layers) = metainfo.piece_hashes.layers() {
            let hashes = HashFetch::new(layers, &metainfo.layout);
            fetching.lobby.ask_for_hashes(now, hashes, metainfo.info_bytes.clone());
        }
        fetching.described = Some(Box::new(described));
        self.has_input = true;
    }

    /// A link turns out to be private: from this moment on nobody is told of it but its own trackers, and nobody called whom others
    /// have named (BEP 27).
    fn become_private(&mut self, now: Instant, known: &Metainfo) {
        let trackers = known.trackers.clone();
        let private = Metainfo { private: true, trackers, ..(*self.on_disk.metainfo).clone() };
        self.on_disk.metainfo = Arc::new(private);
        self.calls_wanted.replace(false);
        self.calls_wanted = Rc::new(Cell::new(true));
        let own_trackers = self.tracker_tiers();
        if let Activity::Fetching(fetching) = &mut self.activity {
            fetching.lobby.become_private(now, &own_trackers);
        }
    }

    /// The piece layers have come.
    pub(super) fn on_layers(
        &mut self,
        now: Instant,
        layers: Vec<(Sha256, MerkleTree)>,
        context: &mut Context,
    ) {
        let Activity::Fetching(fetching) = &mut self.activity else { return };
        let Some(mut described) = fetching.described.take() else { return };
        let metainfo = &mut described.metainfo;
        metainfo.piece_hashes.fill(layers, &metainfo.layout);
        let are_known = metainfo.piece_hashes.are_known();
        if !self.goes_on() {
            return;
        }
        if !are_known {
            let reason = "two of its files have one hash and different lengths".to_owned();
            return self.end_with(now, Verdict::NotATorrent, reason, context);
        }
        if let Some((state_dir, metainfo)) = to_keep(&described, &self.options) {
            let work = move || drop(kept::keep(&state_dir, &metainfo));
            context.disk.sync_queue(self.on_disk.lane).push(Box::new(work));
        }
        self.on_described(now, *described, context);
    }

    /// It is known what the torrent is.
    fn on_described(&mut self, now: Instant, described: Described, context: &mut Context) {
        let Described { metainfo, priorities, claim } = described;
        (self.last_new, self.last_data) = (now, now);
        let round = self.round();
        let pieces = metainfo.layout.num_pieces();
        let nothing = Check::new(now, round, Bitfield::new(pieces));
        let (claim, refusal) = match claim {
            Some(Ok(claim)) => (Some(claim), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        self.options.priorities = priorities.clone().unwrap_or_default();
        let trace = context.subscribers.want(Severity::Debug);
        let storage_options = StorageOptions { trace, ..storage_options(&self.options, claim.as_deref()) };
        let storage = Arc::new(Storage::new(&metainfo, &self.options.basedir, storage_options));
        self.wanted = wanted_pieces(&metainfo.layout, &self.options.priorities);
        self.durability = Durability::new(pieces);
        // What came before was not about its files, which may be on another device than the folder around them. (Peers that are connected keep the
        // gate that they have: a closed one only makes them wait.)
        let lane = claim.as_ref().map_or(self.on_disk.lane, |claim| context.disk.lane_of(claim.device()));
        self.claim = claim;
        self.on_disk = OnDisk { torrent: self.id, metainfo: Arc::new(metainfo), storage, lane };
        let before = std::mem::replace(&mut self.activity, Activity::Checking(nothing));
        let lobby = if let Activity::Fetching(fetching) = before { Some(fetching.lobby) } else { None };
        let metainfo = &self.on_disk.metainfo;
        let told = Kind::MetadataReceived {
            name: metainfo.name.clone(),
            size: metainfo.layout.total(),
            pieces,
            files: metainfo.files.len(),
            private: metainfo.private,
        };
        self.tell(context, told);
        if let (Some(lobby), Some(check)) = (lobby, self.check_mut()) {
            check.lobby = Some(lobby);
        }
        match priorities {
            Err(reason) if !self.options.metadata_only => self.end_without_files(now, reason, context),
            _ => self.begin_with_data(now, refusal.as_ref(), context),
        }
    }

    /// Ends because none of its files can be chosen.
    pub(super) fn end_without_files(&mut self, now: Instant, reason: String, context: &mut Context) {
        self.obstacle = Some((Verdict::NoSuchFile, reason.clone()));
        self.end_unchecked(now, Verdict::NoSuchFile, reason, context);
    }

    /// Ends before anything of the disk has been looked at: there is nothing to be saved.
    pub(super) fn end_unchecked(
        &mut self,
        now: Instant,
        verdict: Verdict,
        reason: String,
        context: &mut Context,
    ) {
        self.begin_end(now, verdict, reason, context);
        self.end_last_save();
    }

    fn end_with(&mut self, now: Instant, verdict: Verdict, reason: String, context: &mut Context) {
        self.obstacle = Some((verdict, reason.clone()));
        self.begin_end(now, verdict, reason, context);
    }

    /// What is known of the torrent; `None` while that is its hash alone.
    pub(crate) fn metainfo(&self) -> Option<Arc<Metainfo>> {
        (!self.is_fetching()).then(|| self.on_disk.metainfo.clone())
    }
}

/// Where which metadata are to be kept for the next start.
fn to_keep(described: &Described, options: &TorrentOptions) -> Option<(PathBuf, Metainfo)> {
    if !described.metainfo.piece_hashes.are_known() {
        return None;
    }
    let state_dir = options.state_dir.clone().filter(|_| !options.metadata_only)?;
    Some((state_dir, described.metainfo.clone()))
}

/// Hashes and reads metadata, and claims the paths that they name. Blocks.
fn read(bytes: &[u8], magnet: &Magnet, options: &TorrentOptions, claims: &Claims) -> Read {
    let is_v1 = magnet.info_hash.v1().is_none_or(|hash| hash == sha1(bytes));
    let is_v2 = magnet.info_hash.v2().is_none_or(|hash| hash == sha256(bytes));
    if !is_v1 || !is_v2 {
        return Read::Wrong;
    }
    let metainfo = match Metainfo::of_info(bytes) {
        Ok(metainfo) => with_link(metainfo, magnet),
        Err(error) => {
            return Read::Unusable(format!("the metadata are no torrent that btget can read: {error}"));
        }
    };
    let priorities = choose(&metainfo, magnet, options);
    let wanted = |priorities| Wanted { metainfo: &metainfo, basedir: &options.basedir, priorities };
    let claim = match &priorities {
        Ok(priorities) if !options.metadata_only => Some(claims.claim(&wanted(priorities))),
        _ => None,
    };
    Read::Right(Box::new(Described { metainfo, priorities, claim }))
}

/// The torrent with the trackers and web seeds of its link, known by the hash that this names.
pub(crate) fn with_link(metainfo: Metainfo, magnet: &Magnet) -> Metainfo {
    Metainfo {
        info_hash: magnet.info_hash,
        trackers: magnet.trackers.clone(),
        url_list: magnet.web_seeds.clone(),
        ..metainfo
    }
}

/// The weights of the files: as the user has it, else as the link selects.
///
/// # Errors
///
/// If there is nothing to choose; for people.
pub(crate) fn choose(
    metainfo: &Metainfo,
    magnet: &Magnet,
    options: &TorrentOptions,
) -> Result<Vec<u32>, String> {
    match &options.choice {
        Some(choice) => choice.choose(metainfo),
        None => selected(metainfo, magnet.select_only.as_deref()),
    }
}

/// The weights of the files that a link selects by their numbers (BEP 53); of those that there are not, it does not matter.
fn selected(metainfo: &Metainfo, ranges: Option<&[Range<u32>]>) -> Result<Vec<u32>, String> {
    let Some(ranges) = ranges else { return Ok(Vec::new()) };
    let mut weights = vec![0; metainfo.files.len()];
    for range in ranges {
        let range = range.start.min(weights.len() as u32)..range.end.min(weights.len() as u32);
        weights[range.start as usize..range.end as usize].fill(1);
    }
    let is_any = metainfo.files.iter().zip(&weights).any(|(file, &weight)| weight > 0 && !file.pad);
    let files = count(metainfo.files.len() as u64, "file");
    is_any.then_some(weights).ok_or_else(|| {
        format!(
            "the magnet link selects (so=) no file that is there: the torrent has {files}; choose by --files"
        )
    })
}
