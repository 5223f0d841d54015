//! What a torrent's transfer would do, found out without doing any of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::TorrentOptions;
use crate::bitfield::Bitfield;
use crate::check::{CheckOutcome, HashCheck};
use crate::event::Verdict;
use crate::layout::{FileIndex, Layout};
use crate::metainfo::Metainfo;
use crate::session::{verdict_of, wanted_pieces, web_seed_urls};
use crate::storage::claim::{Claim, Claims, Wanted};
use crate::storage::outlook::Outlook;
use crate::storage::resume::{self, PartialPiece, Vouched};
use crate::storage::{Operation, Preallocate, Storage, StorageError, StorageErrorKind, StorageOptions};
use crate::text::{Remedies, count, without_credentials};

/// Files that stand under another name than the torrent's and are told one by one.
const MAX_NOTES: usize = 50;

/// What a torrent's transfer would do; made by [`Planner::plan`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The torrent's folder, or its one file, as the options name it.
    pub path: PathBuf,
    /// The folder that its data live in would be made.
    pub makes_basedir: bool,
    /// Pieces that are there and right.
    pub have: Bitfield,
    /// Pieces of which something else is there: it would be written over.
    pub corrupt: Bitfield,
    /// Pieces that are wanted.
    pub wanted: Bitfield,
    /// Bytes of the pieces that are wanted.
    pub wanted_bytes: u64,
    /// Bytes of wanted pieces that are not there.
    pub missing_bytes: u64,
    /// Those of them that peers would be asked for: blocks of unfinished pieces are kept.
    pub bytes_to_fetch: u64,
    /// Bytes that would be taken on the disk.
    pub room_needed: u64,
    /// Bytes that this user may still write there, less what the plans before need; `None` if that cannot be known.
    pub room_free: Option<u64>,
    /// The files in order.
    pub files: Vec<PlannedFile>,
    /// Wanted files that are longer than the torrent says.
    pub too_long: Vec<LongFile>,
    /// The file that holds bytes of files that are not wanted.
    pub part_file: PathBuf,
    /// Bytes in it, if it is there.
    pub part_file_size: Option<u64>,
    /// Bytes that would be added to it.
    pub to_part_file: u64,
    /// What is changed about names and why (length, characters, case, normal form), and what was left out, for people; escape before
    /// printing.
    pub notes: Vec<String>,
    /// Tiers of the trackers that would be asked, with `***` for user names and passwords.
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19) that the torrent names, likewise.
    pub web_seeds: Vec<String>,
    /// Why it would end before all is there, and how, in the order in which it would meet it; empty: it can begin.
    pub obstacles: Vec<(Verdict, String)>,
}

/// A file of a torrent that is planned.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PlannedFile {
    /// Its path as it stands, or would stand.
    pub path: PathBuf,
    /// Length in bytes.
    pub length: u64,
    /// Whether it is wanted. Pad files (BEP 47) are not.
    pub wanted: bool,
    /// Bytes of it that are in pieces that are not there.
    pub missing: u64,
}

/// A file that is longer than the torrent says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LongFile {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// What it should be.
    pub length: u64,
    /// It would be cut; else it keeps its tail.
    pub cut: bool,
}

/// Plans torrents of one session, one after the other: none may write where another does, and they share the room on the disk.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let bytes = btget::metainfo::create::NewTorrent { name: "wanted.bin",
/// #     content: btget::metainfo::create::Content::File(7), piece_length: 16384,
/// #     piece_hashes: &[btget::metainfo::sha1(b"wanted!")], trackers: &[], private: false }.encode();
/// use btget::client::{Planner, Remedies, TorrentOptions};
/// use btget::metainfo::Metainfo;
///
/// let options = TorrentOptions { basedir: folder.path().join("new"), ..TorrentOptions::default() };
/// let plan = Planner::new(Remedies::default()).plan(&Metainfo::parse(&bytes)?, &options);
/// assert!(plan.obstacles.is_empty() && plan.makes_basedir);
/// assert_eq!((plan.missing_bytes, plan.bytes_to_fetch, plan.room_needed), (7, 7, 7));
/// assert!(!folder.path().join("new").exists());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Planner {
    remedies: Remedies,
    claims: Claims,
    /// What the torrents planned so far would write to.
    planned: Vec<Arc<Claim>>,
    /// Bytes that they would take, by device.
    taken: BTreeMap<u64, u64>,
}

impl Planner {
    /// Nothing is planned yet. Errors are worded with these remedies.
    pub fn new(remedies: Remedies) -> Planner {
        Planner { remedies, claims: Claims::default(), planned: Vec::new(), taken: BTreeMap::new() }
    }

    /// What a transfer with these options would do. Reads what its hash check would read, and so takes as long: what resume data
    /// vouch for is not read again, unless `full_check` is set. Writes nothing, makes nothing, opens no socket; blocks.
    pub fn plan(&mut self, metainfo: &Metainfo, options: &TorrentOptions) -> Plan {
        self.plan_by(metainfo, options, &HashCheck::new(Instant::now(), metainfo.layout.num_pieces()))
    }

    /// The same by this check, a new one: another thread that has it sees how far it is ([`HashCheck::progress`]).
    pub fn plan_by(&mut self, metainfo: &Metainfo, options: &TorrentOptions, check: &HashCheck) -> Plan {
        let wanted = wanted_pieces(&metainfo.layout, &options.priorities);
        let storage_options = StorageOptions {
            preallocate: options.preallocate,
            overwrite: options.overwrite,
            priorities: options.priorities.clone(),
            ..StorageOptions::default()
        };
        let storage = Storage::new(metainfo, &options.basedir, storage_options.clone());
        let has_part_file = storage.has_part_file();
        let nothing = || Vouched::nothing(metainfo.layout.num_pieces());
        let saved = options.state_dir.as_ref().map_or_else(nothing, |dir| resume::load(dir, &storage));
        let is_ours = saved.is_ours || has_part_file;
        let vouched = if options.full_check { nothing() } else { saved };
        let suspects = match options.overwrite || is_ours {
            true => Vec::new(),
            false => storage.files_of_other_lengths(),
        };
        // A transfer moves what is in the part file to its place before it checks: here it is read where it is.
        let absent = has_part_file.then(|| {
            let priorities = vec![0; metainfo.files.len()];
            Storage::new(metainfo, &options.basedir, StorageOptions { priorities, ..storage_options })
        });
        let checked = absent.as_ref().unwrap_or(&storage);
        check.plan(metainfo, &vouched.have, &vouched.to_check);
        let outcome = check.run(checked, metainfo, &vouched.to_check, 0, true, &|_, _| {});
        let have = check.have();
        let missing = wanted.difference(&have);
        let outlook = storage.outlook(&missing);
        let foreign = if have.is_empty() { storage.refuse_foreign(&suspects) } else { None };
        let room_free = self.room_left(&outlook);
        let no_room = no_room(&outlook, room_free, options);
        let (too_small, full) = match options.preallocate {
            Preallocate::Full => (no_room, None),
            Preallocate::None | Preallocate::Sparse => (None, no_room),
        };
        let claimed = Wanted { metainfo, basedir: &options.basedir, priorities: &options.priorities };
        let claim = self.claims.foresee(&claimed);
        let first = claim.as_ref().err().into_iter().chain(&foreign).chain(&too_small);
        let told = |error: &StorageError| (verdict_of(error), error.message(&self.remedies));
        let mut obstacles: Vec<(Verdict, String)> =
            first.chain(&outlook.errors).map(told).chain(further(&outlook, &outcome, &missing)).collect();
        obstacles.extend(full.as_ref().map(told));
        if let (true, Some((_, device))) = (obstacles.is_empty(), outlook.free) {
            *self.taken.entry(device).or_default() += outlook.needed;
        }
        self.planned.extend(claim.ok());
        let users: &[Vec<String>] = if metainfo.private { &[] } else { &options.trackers };
        let shown = |url: &String| without_credentials(url).into_owned();
        Plan {
            path: metainfo.path_below(&options.basedir),
            makes_basedir: outlook.makes_basedir,
            corrupt: outcome.corrupt.clone(),
            wanted_bytes: wanted.bytes(&metainfo.layout),
            missing_bytes: missing.bytes(&metainfo.layout),
            bytes_to_fetch: missing.bytes(&metainfo.layout)
                - bytes_kept(&metainfo.layout, &vouched.partial, &missing),
            room_needed: outlook.needed,
            room_free,
            files: files(&storage, metainfo, options, &missing),
            too_long: too_long(&storage, &outlook),
            part_file: storage.part_path(),
            part_file_size: outlook.part_file,
            to_part_file: outlook.to_part_file,
            notes: notes(metainfo, &outlook),
            trackers: metainfo
                .trackers
                .iter()
                .chain(users)
                .map(|tier| tier.iter().map(shown).collect())
                .collect(),
            web_seeds: web_seed_urls(metainfo, options).iter().map(|seed| shown(&seed.url)).collect(),
            obstacles,
            have,
            wanted,
        }
    }

    /// What those planned so far leave of the room on the disk.
    fn room_left(&self, outlook: &Outlook) -> Option<u64> {
        let (free, device) = outlook.free?;
        Some(free.saturating_sub(self.taken.get(&device).copied().unwrap_or(0)))
    }
}

/// The disk is too small for what would be taken.
fn no_room(outlook: &Outlook, room_free: Option<u64>, options: &TorrentOptions) -> Option<StorageError> {
    let lacks = outlook.needed.saturating_sub(room_free?);
    let kind = match options.preallocate {
        Preallocate::Full => StorageErrorKind::TooSmall,
        Preallocate::None | Preallocate::Sparse => StorageErrorKind::Full,
    };
    let mut error = StorageError::new(kind, Operation::Write, &options.basedir);
    error.needed = Some(lacks);
    Some(error).filter(|_| lacks > 0)
}

/// What would keep the transfer from its end besides the first errors of the disk.
fn further(outlook: &Outlook, outcome: &CheckOutcome, missing: &Bitfield) -> Option<(Verdict, String)> {
    let more = outlook.more_errors;
    let unreadable = missing.common(&outcome.unreadable).count();
    let text = match (more, unreadable) {
        (1.., _) => format!("{} besides, likewise", count(more as u64, "file")),
        (0, 1..) if outlook.errors.is_empty() => {
            format!("{} cannot be read; look after the disk", count(unreadable as u64, "piece"))
        }
        _ => return None,
    };
    Some((Verdict::FileError, text))
}

/// Bytes of missing pieces that an earlier run has left.
fn bytes_kept(layout: &Layout, partial: &[PartialPiece], missing: &Bitfield) -> u64 {
    let kept = partial.iter().filter(|partial| missing.contains(partial.piece));
    let of_piece = |partial: &PartialPiece| -> u64 {
        let there = (0..layout.num_blocks(partial.piece)).filter(|&number| partial.has(number));
        there.map(|number| u64::from(layout.block(partial.piece, number).length)).sum()
    };
    kept.map(of_piece).sum()
}

fn files(
    storage: &Storage,
    metainfo: &Metainfo,
    options: &TorrentOptions,
    missing: &Bitfield,
) -> Vec<PlannedFile> {
    let layout = &metainfo.layout;
    let file = |(index, file): (usize, &crate::metainfo::File)| {
        let number = FileIndex(index as u32);
        PlannedFile {
            path: storage.path(number),
            length: file.length,
            wanted: !file.pad && options.priorities.get(index).is_none_or(|&weight| weight > 0),
            missing: layout.bytes_of_file_in(number, |piece| missing.contains(piece)),
        }
    };
    metainfo.files.iter().enumerate().map(file).collect()
}

fn too_long(storage: &Storage, outlook: &Outlook) -> Vec<LongFile> {
    let long = outlook.too_long.iter().map(|found| LongFile {
        path: storage.path(found.file),
        size: found.size,
        length: storage.layout().file(found.file).length,
        cut: found.is_cut,
    });
    long.collect()
}

/// What people are told of names: what the torrent's became on any disk, and what this one makes of them.
fn notes(metainfo: &Metainfo, outlook: &Outlook) -> Vec<String> {
    let renamed = outlook.renamed.iter().map(|(file, name, why)| {
        let path = &metainfo.files[file.0 as usize].path;
        format!("\"{name}\" stands for \"{path}\": {why}")
    });
    let more = renamed.len().saturating_sub(MAX_NOTES);
    let more = (more > 0).then(|| format!("{more} more notes like these"));
    let renamed = renamed.take(MAX_NOTES).chain(more);
    metainfo.notes.iter().cloned().chain(renamed).collect()
}
