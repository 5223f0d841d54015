//! Who writes to which path: two torrents never write to one, be it in this process or in two.
//!
//! Paths are compared by the numbers that [`super::ways`] gives them. Other processes hear of them by [`super::registry`]. Checks claim nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::device::Device;
use super::part::PartFile;
use super::registry::{Log, Met, Record, see_other_processes, tell_other_processes, wait_for_the_dying};
use super::ways::{PathId, Ways, id_by_itself, id_of};
use super::{Operation, StorageError, StorageErrorKind, lock};
use crate::layout::{FileIndex, Layout};
use crate::metainfo::Metainfo;

/// Eight bytes that stand for what is to be in a file: its length and the hashes of all pieces that it is in.
pub(super) type ContentId = [u8; 8];

/// Of what no other torrent can have: never equal to another's.
const ITS_OWN: ContentId = [0; 8];

/// Files of a torrent that another one of this session has too, with the same content.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedFiles(Arc<Mutex<BTreeSet<FileIndex>>>);

impl SharedFiles {
    /// Whether the file is one of them.
    pub(crate) fn contains(&self, file: FileIndex) -> bool {
        lock(&self.0).contains(&file)
    }
}

/// A path, which file it is of, and what is to be in it.
pub(super) type ClaimedPath = (PathId, (FileIndex, ContentId));

/// By path, which file it is and what is to be in it. A file has several: one for each folder above it.
#[derive(Debug, Default)]
pub(super) struct Paths {
    all: Vec<ClaimedPath>,
    /// The same, made once somebody else may write to one of them.
    by_path: OnceLock<HashMap<PathId, (FileIndex, ContentId)>>,
}

impl Paths {
    pub(super) fn of(all: Vec<ClaimedPath>) -> Paths {
        Paths { all, by_path: OnceLock::new() }
    }

    pub(super) fn get(&self, path: &PathId) -> Option<(FileIndex, ContentId)> {
        self.by_path.get_or_init(|| self.all.iter().copied().collect()).get(path).copied()
    }
}

/// What one torrent writes to, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Those of the whole session.
    all: Claims,
    /// Stands for it in the session; never used again.
    number: u32,
    name: Arc<str>,
    files: SharedFiles,
    /// The weights of the files that it was last made for.
    weights: Mutex<Vec<u32>>,
    /// What the files are on; `None` if the system does not say.
    device: Option<Device>,
    /// Other processes are not told, for nothing will be written.
    is_foreseen: bool,
}

impl Claim {
    /// Files that are shared with other torrents of the session.
    pub(crate) fn shared(&self) -> SharedFiles {
        self.files.clone()
    }

    /// What its files are on, if that is known.
    pub(crate) fn device(&self) -> Option<Device> {
        self.device
    }

    /// Has it be about what is wanted now; blocks. If that fails, it is about what it was.
    ///
    /// # Errors
    ///
    /// As [`Claims::claim`].
    pub(crate) fn change(self: &Arc<Claim>, wanted: &Wanted<'_>) -> Result<(), StorageError> {
        if *lock(&self.weights) == wanted.priorities {
            return Ok(());
        }
        self.all.change(self, wanted)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.all.0.released).push(self.number);
        let mut log = lock(&self.all.0.log);
        if log.as_mut().is_some_and(|log| !log.release(self.number)) {
            *log = None;
        }
    }
}

/// What the torrents of one session write to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<SharedClaims>);

#[derive(Debug, Default)]
struct SharedClaims {
    /// How many have been made.
    made: AtomicU32,
    /// The lock is held while a claim is made, which may wait for other processes that make theirs; nothing else takes it.
    known: Mutex<KnownClaims>,
    /// Claims that are gone, and still stand in `known`. The lock is held for a moment.
    released: Mutex<Vec<u32>>,
    /// What other processes are told; `None` while nothing is claimed. The lock is held while a record is written.
    log: Mutex<Option<Log>>,
    /// Somebody who writes to the same path was waited for once: who is still there then stays.
    has_waited: AtomicBool,
}

/// The claims of a session.
#[derive(Debug, Default)]
struct KnownClaims {
    claims: BTreeMap<u32, KnownClaim>,
    /// Who claims each path, and what is to be in it; empty as long as there is one claim alone.
    by_path: BTreeMap<(PathId, u32), (FileIndex, ContentId)>,
}

#[derive(Debug)]
struct KnownClaim {
    claim: Weak<Claim>,
    name: Arc<str>,
    paths: Vec<ClaimedPath>,
}

impl KnownClaims {
    /// Forgets a claim.
    fn remove(&mut self, number: u32) {
        let Some(entry) = self.claims.remove(&number) else { return };
        if self.claims.len() < 2 {
            return self.by_path.clear();
        }
        for (path, _) in entry.paths {
            self.by_path.remove(&(path, number));
        }
    }

    fn insert(&mut self, claim: &Arc<Claim>, paths: Vec<ClaimedPath>) {
        self.remove(claim.number);
        self.index();
        if !self.claims.is_empty() {
            self.by_path.extend(by_path(claim.number, &paths));
        }
        let entry = KnownClaim { claim: Arc::downgrade(claim), name: claim.name.clone(), paths };
        self.claims.insert(claim.number, entry);
    }

    /// From now on there are, or may be, two claims.
    fn index(&mut self) {
        if let (1, true) = (self.claims.len(), self.by_path.is_empty()) {
            let first = self.claims.iter().flat_map(|(&number, entry)| by_path(number, &entry.paths));
            self.by_path = first.collect();
        }
    }

    /// The other claims of a path.
    fn others(&self, path: PathId, than: u32) -> impl Iterator<Item = (&Weak<Claim>, FileIndex, ContentId)> {
        let those = self.by_path.range((path, 0)..=(path, u32::MAX));
        those.filter(move |((_, number), _)| *number != than).filter_map(|((_, number), &(file, content))| {
            Some((&self.claims.get(number)?.claim, file, content))
        })
    }
}

fn by_path(
    number: u32,
    paths: &[ClaimedPath],
) -> impl Iterator<Item = ((PathId, u32), (FileIndex, ContentId))> {
    paths.iter().map(move |&(path, what)| ((path, number), what))
}

/// What is to be claimed.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// The torrent.
    pub metainfo: &'a Metainfo,
    /// The folder in which its files are made.
    pub basedir: &'a Path,
    /// Weight of each file, in order; what weighs 0 is not written. Empty: all are.
    pub priorities: &'a [u32],
}

impl Claims {
    /// Claims all files that are wanted; blocks. Files that another torrent of this session has, with the same content, are
    /// shared.
    ///
    /// # Errors
    ///
    /// [`StorageErrorKind::Taken`], which names the other, if a path is another's.
    pub(crate) fn claim(&self, wanted: &Wanted<'_>) -> Result<Arc<Claim>, StorageError> {
        let claim = Arc::new(self.nothing(wanted, false));
        self.change(&claim, wanted)?;
        Ok(claim)
    }

    /// As [`Claims::claim`], for whoever only wants to know whether it can be done: other torrents of this session hear of it, other
    /// processes do not, and nothing is written.
    pub(crate) fn foresee(&self, wanted: &Wanted<'_>) -> Result<Arc<Claim>, StorageError> {
        let claim = Arc::new(self.nothing(wanted, true));
        self.change(&claim, wanted)?;
        Ok(claim)
    }

    fn nothing(&self, wanted: &Wanted<'_>, is_foreseen: bool) -> Claim {
        Claim {
            all: self.clone(),
            number: self.0.made.fetch_add(1, Ordering::Relaxed) + 1,
            name: wanted.metainfo.name.as_str().into(),
            files: SharedFiles::default(),
            weights: Mutex::default(),
            device: Device::of(&wanted.metainfo.path_below(wanted.basedir)),
            is_foreseen,
        }
    }

    fn change(&self, claim: &Arc<Claim>, wanted: &Wanted<'_>) -> Result<(), StorageError> {
        let paths = wanted.paths();
        let mut known = lock(&self.0.known);
        let released = std::mem::take(&mut *lock(&self.0.released));
        released.into_iter().for_each(|number| known.remove(number));
        if known.claims.keys().any(|&number| number != claim.number) {
            known.index();
        }
        let taken = |file: FileIndex, other: String| {
            let path = wanted.path(file);
            let mut error = StorageError::new(StorageErrorKind::Taken, Operation::Write, path);
            error.other = Some(other);
            error
        };
        let mut shared = Vec::new();
        for &(path, (file, content)) in &paths.all {
            for (other, their_file, same) in known.others(path, claim.number) {
                // Who is about to go claims nothing.
                let Some(other) = other.upgrade() else { continue };
                match same == content && content != ITS_OWN {
                    true => shared.push((file, other, their_file)),
                    false => return Err(taken(file, format!("the torrent '{}'", other.name))),
                }
            }
        }
        let told = self.tell(claim, &paths, &known).or_else(|met| {
            match self.0.has_waited.swap(true, Ordering::Relaxed) {
                true => Err(met),
                false => wait_for_the_dying(|| self.tell(claim, &paths, &known)),
            }
        });
        told.map_err(|(file, other)| taken(file, other))?;
        for (file, other, their_file) in shared {
            lock(&claim.files.0).insert(file);
            lock(&other.files.0).insert(their_file);
        }
        known.insert(claim, paths.all);
        *lock(&claim.weights) = wanted.priorities.to_vec();
        Ok(())
    }

    /// Looks what other processes have claimed, and tells them, unless nothing is to be written.
    fn tell(&self, claim: &Claim, paths: &Paths, known: &KnownClaims) -> Result<(), Met> {
        if claim.is_foreseen {
            return see_other_processes(&self.0.log, paths);
        }
        let records = known.claims.iter().map(|(&number, entry)| Record {
            number,
            name: &entry.name,
            paths: &entry.paths,
        });
        let record = Record { number: claim.number, name: &claim.name, paths: &paths.all };
        tell_other_processes(&self.0.log, &record, paths, records)
    }
}

impl Wanted<'_> {
    fn paths(&self) -> Paths {
        let mut paths = Vec::new();
        let layout = &self.metainfo.layout;
        let mut ways = Ways::to(self.basedir);
        let part_file = PartFile::name(self.metainfo.info_hash.wire());
        paths.extend(ways.ids(&part_file).into_iter().map(|id| (id, (FileIndex(0), ITS_OWN))));
        for (index, file) in self.metainfo.files.iter().enumerate() {
            let number = FileIndex(index as u32);
            let is_wanted = self.priorities.get(index).is_none_or(|&weight| weight > 0);
            // What has no bytes is the same for all.
            if !is_wanted || file.pad || file.symlink.is_some() || layout.file(number).length == 0 {
                continue;
            }
            let content = content_of(self.metainfo, layout, number);
            paths.extend(ways.ids(&file.path).into_iter().map(|id| (id, (number, content))));
            // Another name of the same file leads to it, too.
            if let Some(found) = ways.found(&file.path)
                && found.is_file()
                && found.nlink() > 1
            {
                paths.push((id_by_itself(&found), (number, content)));
            }
        }
        Paths::of(paths)
    }

    fn path(&self, file: FileIndex) -> PathBuf {
        self.basedir.join(&*self.metainfo.files[file.0 as usize].path)
    }
}

fn content_of(metainfo: &Metainfo, layout: &Layout, file: FileIndex) -> ContentId {
    let extent = layout.file(file);
    // In version 2 a file's root says what is in it, whatever the length of the pieces.
    if let Some(root) = metainfo.piece_hashes.layers().and_then(|layers| layers.root(file)) {
        return id_of(&[&extent.length.to_ne_bytes()[..], &root.0].concat());
    }
    let within = extent.offset % u64::from(layout.piece_length());
    let mut facts: Vec<u8> = Vec::new();
    facts.extend(extent.length.to_ne_bytes());
    facts.extend(layout.piece_length().to_ne_bytes());
    facts.extend(within.to_ne_bytes());
    let hashes = metainfo.piece_hashes.v1().unwrap_or_default();
    for piece in layout.pieces_of_file(file) {
        facts.extend(hashes[piece as usize].0);
    }
    id_of(&facts)
}
