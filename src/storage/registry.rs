//! What the processes of a user tell one another of the paths that they write to.
//!
//! Each session of a process has one file in a folder of this user's, which is locked for as long as the session lives: what a killed one leaves
//! is nobody's. The file is a log: a record for each torrent that claims paths, and one when it gives them up. So to see what all others have
//! claimed costs as many files as there are sessions, however many torrents they have.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::claim::{ClaimedPath, Paths};
use super::lock;
use super::ways::BY_ITSELF;
use crate::layout::FileIndex;

/// Name and version of what is written. Another version is not read.
const MAGIC: &[u8; 16] = b"btget claims 003";

/// No more of a log is read: with 16 keys for each file, it is of a million files.
const MAX_LENGTH: u64 = 256 << 20;

/// How often, and after how long, the turn to make a claim is asked for: 2 s in all.
const MAX_TRIES: u32 = 400;
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// How often, and after how long, it is looked again whether somebody writes to the same path: half a second in all.
const MAX_LOOKS: u32 = 20;
const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// A log is written anew once it has that many bytes of what is not claimed any more, and more than of what is.
const MAX_STALE: u64 = 64 << 10;

/// Begins the record of a claim: number, length of the name, name, count of paths, paths and their contents.
const CLAIMED: u8 = b'C';

/// Begins the record that a claim, by its number, is given up.
const RELEASED: u8 = b'R';

/// The log of one session.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// Bytes in it.
    length: u64,
    /// Bytes of the records of each claim that holds.
    live: BTreeMap<u32, u64>,
}

impl Log {
    fn create(folder: &Path) -> io::Result<Log> {
        let pid = std::process::id();
        let mut number = 0;
        let (path, file) = loop {
            let path = folder.join(format!("{pid}-{number}.claim"));
            match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        };
        let mut log = Log { path, file, length: 0, live: BTreeMap::new() };
        // If that fails, it is removed as it is dropped.
        log.file.try_lock()?;
        log.append(&[MAGIC, &pid.to_be_bytes()[..]].concat())?;
        Ok(log)
    }

    /// Writes a record, whole or not at all.
    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(record) {
            self.file.set_len(self.length)?;
            self.file.seek(io::SeekFrom::End(0))?;
            return Err(error);
        }
        self.length += record.len() as u64;
        Ok(())
    }

    fn claim(&mut self, record: &Record<'_>) -> io::Result<()> {
        let bytes = record.encode();
        self.append(&bytes)?;
        self.live.insert(record.number, bytes.len() as u64);
        Ok(())
    }

    /// A claim is given up. False if none is left: then nobody needs the log.
    pub(super) fn release(&mut self, number: u32) -> bool {
        if self.live.remove(&number).is_some() && !self.live.is_empty() {
            // Who cannot be told takes it for claimed until the session ends.
            let _ = self.append(&[&[RELEASED][..], &number.to_be_bytes()].concat());
        }
        !self.live.is_empty()
    }

    fn is_mostly_stale(&self) -> bool {
        let live: u64 = self.live.values().sum();
        self.length.saturating_sub(live) > MAX_STALE.max(live)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // If it cannot be removed, whoever claims next does it.
        let _ = fs::remove_file(&self.path);
    }
}

/// What one torrent claims, as it is told.
pub(super) struct Record<'a> {
    /// Stands for the claim in this session.
    pub number: u32,
    /// The torrent's name.
    pub name: &'a str,
    /// Its paths.
    pub paths: &'a [ClaimedPath],
}

impl Record<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![CLAIMED];
        bytes.extend(self.number.to_be_bytes());
        bytes.extend((self.name.len() as u32).to_be_bytes());
        bytes.extend(self.name.as_bytes());
        bytes.extend((self.paths.len() as u32).to_be_bytes());
        for (path, (_, content)) in self.paths {
            bytes.extend(path);
            bytes.extend(content);
        }
        bytes
    }
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

/// A file of a torrent that another process writes to, and who that is.
pub(super) type Met = (FileIndex, String);

/// Looks whether another process has claimed any of these paths, and writes them down in the session's log if not; `claims` are those of the
/// session, for a log that is written anew. Without a place to do it, nothing is known of others. The log is locked only while it is written.
pub(super) fn tell_other_processes<'a>(
    log: &Mutex<Option<Log>>,
    record: &Record<'_>,
    paths: &Paths,
    claims: impl Iterator<Item = Record<'a>>,
) -> Result<(), Met> {
    let Ok(folder) = registry() else { return Ok(()) };
    // One at a time: who looks first writes first.
    let open = File::options().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
    let Ok(turn) = open else { return Ok(()) };
    if !take_turn(&turn) {
        return Ok(());
    }
    meet_others(&folder, path_of(log).as_deref(), paths, true)?;
    // What cannot be written is not told.
    let _ = write_down(&mut lock(log), &folder, record, claims);
    Ok(())
}

fn path_of(log: &Mutex<Option<Log>>) -> Option<PathBuf> {
    lock(log).as_ref().map(|log| log.path.clone())
}

fn write_down<'a>(
    log: &mut Option<Log>,
    folder: &Path,
    record: &Record<'_>,
    claims: impl Iterator<Item = Record<'a>>,
) -> io::Result<()> {
    if let Some(stale) = log.as_ref().filter(|log| log.is_mostly_stale()) {
        // The old one goes last: nothing is unclaimed for a moment.
        let mut anew = Log::create(folder)?;
        let mut others = claims.filter(|other| stale.live.contains_key(&other.number));
        others.try_for_each(|other| anew.claim(&other))?;
        *log = Some(anew);
    }
    match log {
        Some(log) => log.claim(record),
        None => log.insert(Log::create(folder)?).claim(record),
    }
}

/// Looks whether another process has claimed any of these paths, and writes nothing.
pub(super) fn see_other_processes(log: &Mutex<Option<Log>>, paths: &Paths) -> Result<(), Met> {
    let Ok(folder) = check_registry(place_of_registry()) else { return Ok(()) };
    // While a log that nobody holds is tried, nobody else may take it for one that is held.
    let Ok(turn) = File::open(folder.join("lock")) else { return Ok(()) };
    if !take_turn(&turn) {
        return Ok(());
    }
    meet_others(&folder, path_of(log).as_deref(), paths, false)
}

fn logs(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "claim"))
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

/// Looks again, as long as somebody is met who may be about to end: a process that was killed holds its lock until the system is done with it, and
/// scripts start the next one at once.
#[allow(clippy::disallowed_methods, reason = "nobody tells when a process is gone that is none of ours")]
pub(super) fn wait_for_the_dying(mut look: impl FnMut() -> Result<(), Met>) -> Result<(), Met> {
    for _ in 0..MAX_LOOKS {
        std::thread::sleep(LOOK_AGAIN);
        if look().is_ok() {
            return Ok(());
        }
    }
    look()
}

/// Looks into the logs of a folder, but for `ours`. With `removes`, those go that nobody holds any more.
fn meet_others(folder: &Path, ours: Option<&Path>, paths: &Paths, removes: bool) -> Result<(), Met> {
    for path in logs(folder).filter(|path| Some(path.as_path()) != ours) {
        let Ok(mut file) = File::options().read(true).write(removes).open(&path) else { continue };
        match file.try_lock() {
            Ok(()) if removes => drop(fs::remove_file(&path)),
            Err(TryLockError::WouldBlock) => meet(&mut file, paths)?,
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}

/// The error is the file that somebody else writes to as well, and who.
fn meet(file: &mut File, paths: &Paths) -> Result<(), Met> {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(MAX_LENGTH).read_to_end(&mut bytes));
    match read.ok().and_then(|_| find(&bytes, paths)) {
        Some(met) => Err(met),
        None => Ok(()),
    }
}

/// Finds among the claims of a log one of these paths. `None`, too, for anything but what [`Log`] writes; of a record that is not whole yet
/// nothing is read.
fn find(bytes: &[u8], paths: &Paths) -> Option<Met> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (pid, mut rest) = rest.split_first_chunk::<4>()?;
    let mut claims: BTreeMap<u32, ReadClaim<'_>> = BTreeMap::new();
    while let Some((kind, number, record)) = begin_record(rest) {
        rest = match kind {
            CLAIMED => {
                let Some((claim, after)) = read_claim(record) else { break };
                claims.insert(number, claim);
                after
            }
            RELEASED => {
                claims.remove(&number);
                record
            }
            _ => break,
        };
    }
    claims.into_values().find_map(|ReadClaim { name, entries }| {
        let file = entries.iter().find_map(|entry| {
            let (path, theirs) = entry.split_at(8);
            let (file, content) = paths.get(path.try_into().expect("eight bytes"))?;
            (path[0] != BY_ITSELF || theirs != content).then_some(file)
        });
        let (pid, name) = (u32::from_be_bytes(*pid), String::from_utf8_lossy(name));
        Some((file?, format!("another btget (process {pid}, torrent '{name}')")))
    })
}

/// The kind of a record, the number of its claim, and what follows.
fn begin_record(bytes: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (number, rest) = rest.split_first_chunk::<4>()?;
    Some((kind, u32::from_be_bytes(*number), rest))
}

/// A claim as its record has it.
struct ReadClaim<'a> {
    /// The torrent's name.
    name: &'a [u8],
    /// Paths, each with its content.
    entries: &'a [[u8; 16]],
}

/// What the record of a claim holds, and what follows it.
fn read_claim(bytes: &[u8]) -> Option<(ReadClaim<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (entries, after) = rest.split_at_checked((u32::from_be_bytes(*count) as usize).checked_mul(16)?)?;
    Some((ReadClaim { name, entries: entries.as_chunks::<16>().0 }, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn paths(numbers: &[u8]) -> Vec<ClaimedPath> {
        (0..)
            .map(FileIndex)
            .zip(numbers)
            .map(|(file, &n)| ([0, 0, 0, 0, 0, 0, 0, n], (file, [n; 8])))
            .collect()
    }

    fn record(number: u32, paths: &[ClaimedPath]) -> Record<'_> {
        Record { number, name: "a torrent", paths }
    }

    fn written(log: &Log) -> Vec<u8> {
        fs::read(&log.path).unwrap()
    }

    fn meets(bytes: &[u8], number: u8) -> bool {
        find(bytes, &Paths::of(paths(&[number]))).is_some()
    }

    #[test]
    fn who_goes_on_is_met_and_who_is_about_to_end_is_not() {
        let folder = TempDir::new().unwrap();
        let mut log = Log::create(folder.path()).unwrap();
        log.claim(&record(1, &paths(&[1]))).unwrap();
        let claimed = Paths::of(paths(&[1]));
        let look = || meet_others(folder.path(), None, &claimed, false);
        assert!(wait_for_the_dying(look).is_err());
        std::thread::scope(|scope| {
            scope.spawn(move || drop(log));
            assert!(wait_for_the_dying(look).is_ok());
        });
    }

    #[test]
    fn a_log_tells_what_is_claimed_and_not_given_up() {
        let folder = TempDir::new().unwrap();
        let mut log = Log::create(folder.path()).unwrap();
        log.claim(&record(1, &paths(&[1, 2]))).unwrap();
        log.claim(&record(2, &paths(&[3]))).unwrap();
        let (file, who) = find(&written(&log), &Paths::of(paths(&[9, 2]))).unwrap();
        assert_eq!(file, FileIndex(1));
        let pid = std::process::id();
        assert_eq!(who, format!("another btget (process {pid}, torrent 'a torrent')"));
        assert!(log.release(1));
        assert_eq!([1, 2, 3].map(|n| meets(&written(&log), n)), [false, false, true]);
        // A claim that changes is written again.
        log.claim(&record(2, &paths(&[4]))).unwrap();
        assert_eq!([3, 4].map(|n| meets(&written(&log), n)), [false, true]);
        assert!(!log.release(2), "nobody needs it any more");
        let path = log.path.clone();
        drop(log);
        assert!(!path.exists());
    }

    #[test]
    fn a_log_that_is_mostly_of_what_was_is_written_anew() {
        let folder = TempDir::new().unwrap();
        let (kept, many) = (paths(&[1]), paths(&[7; 100]));
        let mut log = None;
        write_down(&mut log, folder.path(), &record(0, &kept), std::iter::empty()).unwrap();
        for number in 1..200 {
            write_down(&mut log, folder.path(), &record(number, &many), [record(0, &kept)].into_iter())
                .unwrap();
            assert!(log.as_mut().unwrap().release(number));
        }
        let log = log.unwrap();
        assert!(log.length < 2 * MAX_STALE, "{}", log.length);
        assert_eq!([1, 7].map(|n| meets(&written(&log), n)), [true, false]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the old ones are gone");
    }

    #[test]
    fn what_is_no_log_or_not_whole_claims_nothing_and_does_no_harm() {
        let folder = TempDir::new().unwrap();
        let mut log = Log::create(folder.path()).unwrap();
        log.claim(&record(1, &paths(&[1]))).unwrap();
        log.claim(&record(2, &paths(&[2]))).unwrap();
        let whole = written(&log);
        for length in 0..whole.len() {
            assert!(!meets(&whole[..length], 2), "{length}");
        }
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
            meets(&bytes, 2);
        }
    }
}
