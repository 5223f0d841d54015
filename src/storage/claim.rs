//! Who writes to which path: two torrents never write to one, be it in this process or in two.
//!
//! A path is known by the folders that lead to it (device and inode of each that is there) and by the rest of the name, compared
//! as a file system does that ignores case and normal forms; a file that has several names, by itself. So it does not matter
//! how a folder was reached, nor which part of the way was there first.
//!
//! What a process claims stands in a file of its own in a folder of this user's, which is locked for as long as the process
//! lives: what a killed one leaves is nobody's. Checks claim nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use unicode_normalization::UnicodeNormalization;

use super::part::PartFile;
use super::{Operation, StorageError, StorageErrorKind, lock};
use crate::hash::sha1;
use crate::layout::{FileIndex, Layout};
use crate::metainfo::Metainfo;

/// Name and version of what is written. Another version is not read.
const MAGIC: &[u8; 16] = b"btget claims 001";

/// Folders above basedir by which a path is known too, for torrents whose basedir is one of these.
const MAX_ABOVE: usize = 4;

/// A claim file longer than this is none of ours: 16 keys for each of a million files.
const MAX_LENGTH: u64 = 256 << 20;

/// How often, and after how long, the turn to make a claim is asked for: 2 s in all.
const MAX_TRIES: u32 = 400;
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Eight bytes that stand for a path; the first is 0, or [`BY_ITSELF`] for a file that has several names.
type PathId = [u8; 8];

/// How the id of a file by its own number begins. Many names of one file are well, as long as all want the same of it.
const BY_ITSELF: u8 = 1;

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

/// What one torrent writes to, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Those of the whole session.
    all: Claims,
    name: String,
    files: SharedFiles,
    /// By path, which file it is and what is to be in it. A file has several: one for each folder above it.
    paths: Mutex<HashMap<PathId, (FileIndex, ContentId)>>,
    /// The weights of the files that it was last made for.
    weights: Mutex<Vec<u32>>,
    /// The file that tells other processes, locked; removed in the end.
    told: Mutex<Option<(PathBuf, File)>>,
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
        let claim = Arc::new(Claim {
            all: self.clone(),
            name: wanted.metainfo.name.clone(),
            files: SharedFiles::default(),
            paths: Mutex::default(),
            weights: Mutex::default(),
            told: Mutex::default(),
        });
        self.change(&claim, wanted)?;
        Ok(claim)
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
            for (path, &(file, content)) in &paths {
                match theirs.get(path) {
                    Some(&(their_file, same)) if same == content && content != ITS_OWN => {
                        shared.push((file, other.clone(), their_file));
                    }
                    Some(_) => return Err(taken(file, format!("the torrent '{}'", other.name))),
                    None => {}
                }
            }
        }
        let told = tell_other_processes(&claim.name, &paths, |path| {
            others().any(|other| lock(&other.told).as_ref().is_some_and(|(told, _)| told == path))
                || lock(&claim.told).as_ref().is_some_and(|(told, _)| told == path)
        });
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
    /// By path, which file it is and what is to be in it.
    fn paths(&self) -> HashMap<PathId, (FileIndex, ContentId)> {
        let mut paths = HashMap::new();
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
                let mut id = id_of(&[&found.dev().to_ne_bytes(), &found.ino().to_ne_bytes()]);
                id[0] = BY_ITSELF;
                paths.insert(id, (number, content));
            }
        }
        paths
    }

    fn path(&self, file: FileIndex) -> PathBuf {
        self.basedir.join(&*self.metainfo.files[file.0 as usize].path)
    }
}

/// The folders that lead to basedir, each with what is left of the way from there.
struct Ways {
    /// Device and inode, and the names below it that lead to basedir.
    folders: Vec<(u64, u64, String)>,
    basedir: PathBuf,
    /// Folders below basedir that were looked up: device and inode of those that are there. One entry for each folder of the torrent.
    below: HashMap<String, Option<(u64, u64)>>,
}

impl Ways {
    /// Of a folder that need not be there yet.
    fn to(basedir: &Path) -> Ways {
        let absolute = std::path::absolute(basedir).unwrap_or_else(|_| basedir.to_owned());
        // What is there of it, links resolved, and what is not.
        let mut there = absolute.clone();
        let mut rest = PathBuf::new();
        let resolved = loop {
            match fs::canonicalize(&there) {
                Ok(resolved) => break resolved,
                Err(_) => {
                    let Some(name) = there.file_name().map(ToOwned::to_owned) else { break there };
                    rest = Path::new(&name).join(&rest);
                    there.pop();
                }
            }
        };
        let basedir = resolved.join(&rest);
        let mut folders = Vec::new();
        for folder in resolved.ancestors().take(MAX_ABOVE + 1) {
            let Ok(found) = fs::metadata(folder) else { continue };
            let below = basedir.strip_prefix(folder).unwrap_or(Path::new(""));
            folders.push((found.dev(), found.ino(), folded(below)));
        }
        Ways { folders, basedir, below: HashMap::new() }
    }

    /// Device and inode of a folder below basedir, if it is there; looked up once.
    fn folder(&mut self, path: &str) -> Option<(u64, u64)> {
        if let Some(known) = self.below.get(path) {
            return *known;
        }
        // What is in a folder that is not there is not there.
        let above = path.rsplit_once('/').is_none_or(|(above, _)| self.folder(above).is_some());
        let look = || fs::symlink_metadata(self.basedir.join(path)).ok().filter(|found| found.is_dir());
        let found = if above { look().map(|found| (found.dev(), found.ino())) } else { None };
        self.below.insert(path.to_owned(), found);
        found
    }

    /// The file at a path below basedir, if it is there.
    fn found(&mut self, path: &str) -> Option<fs::Metadata> {
        let is_there = path.rsplit_once('/').is_none_or(|(folder, _)| self.folder(folder).is_some());
        if is_there { fs::symlink_metadata(self.basedir.join(path)).ok() } else { None }
    }

    /// Every id of a path below basedir: by each folder above it, and by each on the way to it that is there.
    fn ids(&mut self, path: &str) -> Vec<PathId> {
        let file = folded(Path::new(path));
        let from_above = self.folders.iter().map(|(dev, ino, below)| match below.is_empty() {
            true => path_id(*dev, *ino, &file),
            false => path_id(*dev, *ino, &format!("{below}/{file}")),
        });
        let mut ids: Vec<PathId> = from_above.collect();
        ids.extend(path.match_indices('/').filter_map(|(end, _)| {
            let (dev, ino) = self.folder(&path[..end])?;
            Some(path_id(dev, ino, &folded(Path::new(&path[end + 1..]))))
        }));
        ids
    }
}

fn path_id(dev: u64, ino: u64, name: &str) -> PathId {
    let mut id = id_of(&[&dev.to_ne_bytes(), &ino.to_ne_bytes(), name.as_bytes()]);
    id[0] = 0;
    id
}

/// As a file system sees it that ignores case and normal forms.
fn folded(path: &Path) -> String {
    let mut text = String::new();
    for component in path.components() {
        if let Component::Normal(name) = component {
            text += if text.is_empty() { "" } else { "/" };
            match name.to_str() {
                Some(name) => text.extend(name.nfd().flat_map(char::to_lowercase).nfd()),
                None => name.as_bytes().iter().for_each(|byte| text += &format!("\\{byte:02x}")),
            }
        }
    }
    text
}

fn content_of(metainfo: &Metainfo, layout: &Layout, file: FileIndex) -> ContentId {
    let extent = layout.file(file);
    let within = extent.offset % u64::from(layout.piece_length());
    let mut facts: Vec<u8> = Vec::new();
    facts.extend(extent.length.to_ne_bytes());
    facts.extend(layout.piece_length().to_ne_bytes());
    facts.extend(within.to_ne_bytes());
    for piece in layout.pieces_of_file(file) {
        facts.extend(metainfo.piece_hash(crate::layout::PieceIndex(piece)).0);
    }
    id_of(&[&facts])
}

fn id_of(facts: &[&[u8]]) -> [u8; 8] {
    sha1(&facts.concat()).0[..8].try_into().expect("a digest has 20 bytes")
}

/// Where this user's processes tell one another. The place is the same for all of them, whatever their environment says.
fn registry() -> io::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let folder = PathBuf::from(format!("/tmp/btget-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
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
    paths: &HashMap<PathId, (FileIndex, ContentId)>,
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

fn write_claim(
    folder: &Path,
    name: &str,
    paths: &HashMap<PathId, (FileIndex, ContentId)>,
) -> io::Result<(PathBuf, File)> {
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
    for (path, (_, content)) in paths {
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
    paths: HashMap<PathId, ContentId>,
}

impl OtherClaim {
    /// The file that both write to, and who the other is.
    fn meets(&self, paths: &HashMap<PathId, (FileIndex, ContentId)>) -> Option<(FileIndex, String)> {
        let meets = |(path, (_, content)): &(&PathId, &(FileIndex, ContentId))| {
            self.paths.get(*path).is_some_and(|theirs| path[0] != BY_ITSELF || theirs != content)
        };
        let (_, (file, _)) = paths.iter().find(meets)?;
        Some((*file, format!("another btget (process {}, torrent '{}')", self.pid, self.name)))
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
