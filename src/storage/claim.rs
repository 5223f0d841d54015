//! Who writes to which path: two torrents never write to one, be it in this process or in two.
//!
//! Paths are compared by the numbers that [`super::ways`] gives them.
//!
//! What a process claims stands in a file of its own in a folder of this user's, which is locked for as long as the process
//! lives: what a killed one leaves is nobody's. Checks claim nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use super::part::PartFile;
use super::ways::{BY_ITSELF, PathId, Ways, id_by_itself, id_of};
use super::{Operation, StorageError, StorageErrorKind, lock};
use crate::layout::{FileIndex, Layout};
use crate::metainfo::Metainfo;

/// Name and version of what is written. Another version is not read.
const MAGIC: &[u8; 16] = b"btget claims 002";

/// A claim file longer than this is none of ours: 16 keys for each of a million files.
const MAX_LENGTH: u64 = 256 << 20;

/// How often, and after how long, the turn to make a claim is asked for: 2 s in all.
const MAX_TRIES: u32 = 400;
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Eight bytes that stand for what is to be in a file: its length and the hashes of all pieces that it is in.
type ContentId = [u8; 8];

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

/// By path, which file it is and what is to be in it. A file has several: one for each folder above it.
#[derive(Debug, Default)]
struct Paths {
    all: Vec<(PathId, (FileIndex, ContentId))>,
    /// The same, made once somebody else may write to one of them.
    by_path: OnceLock<HashMap<PathId, (FileIndex, ContentId)>>,
}

impl Paths {
    fn get(&self, path: &PathId) -> Option<(FileIndex, ContentId)> {
        self.by_path.get_or_init(|| self.all.iter().copied().collect()).get(path).copied()
    }
}

/// What one torrent writes to, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Those of the whole session.
    all: Claims,
    name: String,
    files: SharedFiles,
    paths: Mutex<Paths>,
    /// The weights of the files that it was last made for.
    weights: Mutex<Vec<u32>>,
    /// The file that tells other processes, locked; removed in the end.
    told: Mutex<Option<(PathBuf, File)>>,
    /// Nobody is told, for nothing will be written.
    is_foreseen: bool,
}

impl Claim {
    /// Files that are shared with other torrents of the session.
    pub(crate) fn shared(&self) -> SharedFiles {
        self.files.clone()
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
        if let Some((path, _)) = lock(&self.told).take() {
            // If it cannot be removed, whoever claims next does it.
            let _ = fs::remove_file(path);
        }
    }
}

/// What the torrents of one session write to. The lock is held while a claim is made, which may wait for other processes that
/// make theirs; nothing else takes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<Vec<Weak<Claim>>>>);

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
            name: wanted.metainfo.name.clone(),
            files: SharedFiles::default(),
            paths: Mutex::default(),
            weights: Mutex::default(),
            told: Mutex::default(),
            is_foreseen,
        }
    }

    fn change(&self, claim: &Arc<Claim>, wanted: &Wanted<'_>) -> Result<(), StorageError> {
        let paths = wanted.paths();
        let mut ours = lock(&self.0);
        ours.retain(|other| other.strong_count() > 0);
        let others: Vec<Arc<Claim>> = ours.iter().filter_map(Weak::upgrade).collect();
        let others = || others.iter().filter(|other| !Arc::ptr_eq(other, claim));
        let taken = |file: FileIndex, other: String| {
            let path = wanted.path(file);
            let mut error = StorageError::new(StorageErrorKind::Taken, Operation::Write, path);
            error.other = Some(other);
            error
        };
        let mut shared = Vec::new();
        for other in others() {
            let theirs = lock(&other.paths);
            for (path, (file, content)) in &paths.all {
                let (file, content) = (*file, *content);
                match theirs.get(path) {
                    Some((their_file, same)) if same == content && content != ITS_OWN => {
                        shared.push((file, other.clone(), their_file));
                    }
                    Some(_) => return Err(taken(file, format!("the torrent '{}'", other.name))),
                    None => {}
                }
            }
        }
        let is_ours = |path: &Path| {
            others().any(|other| lock(&other.told).as_ref().is_some_and(|(told, _)| told == path))
                || lock(&claim.told).as_ref().is_some_and(|(told, _)| told == path)
        };
        let told = match claim.is_foreseen {
            true => see_other_processes(&paths).map(|()| None),
            false => tell_other_processes(&claim.name, &paths, is_ours),
        };
        let told = told.map_err(|(file, other)| taken(file, other))?;
        for (file, other, their_file) in shared {
            lock(&claim.files.0).insert(file);
            lock(&other.files.0).insert(their_file);
        }
        *lock(&claim.paths) = paths;
        *lock(&claim.weights) = wanted.priorities.to_vec();
        let before = std::mem::replace(&mut *lock(&claim.told), told);
        if let Some((path, _)) = before {
            let _ = fs::remove_file(path);
        }
        if !ours.iter().any(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(claim))) {
            ours.push(Arc::downgrade(claim));
        }
        Ok(())
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
        Paths { all: paths, by_path: OnceLock::new() }
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

/// Where this user's processes tell one another. The place is the same for all of them, whatever their environment says.
fn registry() -> io::Result<PathBuf> {
    let folder = place_of_registry();
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    check_registry(folder)
}

fn place_of_registry() -> PathBuf {
    PathBuf::from(format!("/tmp/btget-{}", rustix::process::geteuid().as_raw()))
}

fn check_registry(folder: PathBuf) -> io::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let found = fs::symlink_metadata(&folder)?;
    // Another user's folder in its place could keep us from working.
    match found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 {
        true => Ok(folder),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

type Told = Option<(PathBuf, File)>;

/// Looks whether another process has claimed any of these paths, and writes them down if not. `is_ours` is true of the files that
/// this session has written. The error is the file, and whose it is. Without a place to do it, nothing is known of others.
fn tell_other_processes(
    name: &str,
    paths: &Paths,
    is_ours: impl Fn(&Path) -> bool,
) -> Result<Told, (FileIndex, String)> {
    let Ok(folder) = registry() else { return Ok(None) };
    // One at a time: who looks first writes first.
    let open = File::options().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
    let Ok(turn) = open else { return Ok(None) };
    if !take_turn(&turn) {
        return Ok(None);
    }
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "claim") || is_ours(&path) {
            continue;
        }
        let Ok(mut file) = File::options().read(true).write(true).open(&path) else { continue };
        match file.try_lock() {
            // Who wrote it is not there any more.
            Ok(()) => drop(fs::remove_file(&path)),
            Err(TryLockError::WouldBlock) => {
                if let Some((file, other)) = read_claim(&mut file).and_then(|theirs| theirs.meets(paths)) {
                    return Err((file, other));
                }
            }
            Err(TryLockError::Error(_)) => {}
        }
    }
    Ok(write_claim(&folder, name, paths).ok())
}

/// Looks whether another process has claimed any of these paths, and writes nothing.
fn see_other_processes(paths: &Paths) -> Result<(), (FileIndex, String)> {
    let Ok(folder) = check_registry(place_of_registry()) else { return Ok(()) };
    // While a claim that nobody holds is tried, nobody else may take it for one that is held.
    let Ok(turn) = File::open(folder.join("lock")) else { return Ok(()) };
    if !take_turn(&turn) {
        return Ok(());
    }
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "claim") {
            continue;
        }
        let Ok(mut file) = File::open(&path) else { continue };
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock))
            && let Some(met) = read_claim(&mut file).and_then(|theirs| theirs.meets(paths))
        {
            return Err(met);
        }
    }
    Ok(())
}

/// Waits for others to be done; not for one that is stopped in the middle.
#[allow(clippy::disallowed_methods, reason = "the system's own way to wait for a lock has no end")]
fn take_turn(turn: &File) -> bool {
    (0..MAX_TRIES).any(|_| match turn.try_lock() {
        Ok(()) => true,
        Err(_) => {
            std::thread::sleep(TRY_AGAIN);
            false
        }
    })
}

fn write_claim(folder: &Path, name: &str, paths: &Paths) -> io::Result<(PathBuf, File)> {
    let pid = std::process::id();
    let mut number = 0;
    let (path, mut file) = loop {
        let path = folder.join(format!("{pid}-{number}.claim"));
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => break (path, file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    };
    let mut bytes = MAGIC.to_vec();
    bytes.extend(pid.to_be_bytes());
    bytes.extend((name.len() as u32).to_be_bytes());
    bytes.extend(name.as_bytes());
    for (path, (_, content)) in &paths.all {
        bytes.extend(path);
        bytes.extend(content);
    }
    let written = file.try_lock().map_err(io::Error::from).and_then(|()| file.write_all(&bytes));
    match written {
        Ok(()) => Ok((path, file)),
        Err(error) => {
            let _ = fs::remove_file(&path);
            Err(error)
        }
    }
}

/// What another process has claimed.
struct OtherClaim {
    pid: u32,
    name: String,
    paths: Vec<(PathId, ContentId)>,
}

impl OtherClaim {
    /// The file that both write to, and who the other is.
    fn meets(&self, paths: &Paths) -> Option<(FileIndex, String)> {
        let file = self.paths.iter().find_map(|(path, theirs)| {
            let (file, content) = paths.get(path)?;
            (path[0] != BY_ITSELF || *theirs != content).then_some(file)
        });
        Some((file?, format!("another btget (process {}, torrent '{}')", self.pid, self.name)))
    }
}

/// `None` for anything but what [`write_claim`] writes.
fn read_claim(file: &mut File) -> Option<OtherClaim> {
    let mut bytes = Vec::new();
    file.rewind().ok()?;
    file.take(MAX_LENGTH).read_to_end(&mut bytes).ok()?;
    let rest = bytes.strip_prefix(MAGIC)?;
    let (pid, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (entries, _) = rest.as_chunks::<16>();
    let split = |entry: &[u8; 16]| {
        let (path, content) = entry.split_at(8);
        (path.try_into().expect("eight bytes"), content.try_into().expect("eight bytes"))
    };
    Some(OtherClaim {
        pid: u32::from_be_bytes(*pid),
        name: String::from_utf8_lossy(name).into_owned(),
        paths: entries.iter().map(split).collect(),
    })
}
