//! What each file was when we last wrote it, or opened it to check it: resume data vouch for that, and for nothing that
//! another program has made of it since.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::ClockId;

use super::mixed::mixed;
use super::part::PartFile;
use super::root::{self, FoundEntry, Habits, PathFinder};
use super::{Operation, Place, Storage, lock};
use crate::bitfield::Bitfield;
use crate::layout::FileIndex;

/// Times that are kept in whole seconds are kept in steps of two on some file systems (FAT).
const COARSE: Duration = Duration::from_secs(2);

/// Eight bytes that change when a file does. All zeros: no file.
pub(super) type Fingerprint = [u8; 8];

/// No file: vouches for nothing.
pub(super) const NONE: Fingerprint = [0; 8];

/// What is known of one file.
#[derive(Debug, Default)]
pub(super) struct KnownFile {
    /// Its fingerprint; 0: it was not there, or nobody has looked.
    print: AtomicU64,
    /// Another program was seen to have changed it.
    changed: AtomicBool,
    /// We have written to it since all files were last looked at.
    written: AtomicBool,
}

impl KnownFile {
    fn print(&self) -> Fingerprint {
        self.print.load(Ordering::Acquire).to_ne_bytes()
    }

    /// This is how we have left it, or how we begin to read it.
    pub(super) fn set(&self, print: Fingerprint) {
        self.print.store(u64::from_ne_bytes(print), Ordering::Release);
    }

    /// The file as it is found: if it is not what it was, it stays suspicious until it is read again.
    pub(super) fn expect(&self, now: Fingerprint) {
        let known = self.print();
        if known == NONE {
            self.set(now);
        } else if known != now {
            self.changed.store(true, Ordering::Release);
        }
    }

    fn forget(&self) {
        self.set(NONE);
        self.changed.store(false, Ordering::Release);
    }
}

/// A file as it is found.
#[derive(Clone, Copy, Debug)]
struct FoundFile {
    entry: FoundEntry,
    /// Its bytes belong in it, and not in the part file.
    is_wanted: bool,
    /// Its fingerprint.
    print: Fingerprint,
    /// What resume data keep.
    kept: Fingerprint,
}

/// What a look at all files has shown.
#[derive(Default, Debug)]
pub(super) struct Look {
    /// One for each file and one for the part file, as they are now.
    pub prints: Vec<Fingerprint>,
    /// Files that cannot be vouched for; the number of files stands for the part file.
    pub doubtful: Vec<FileIndex>,
    /// Those among them that another program has changed.
    pub changed: Vec<FileIndex>,
    /// Wanted files that are longer than the torrent says, and their lengths in bytes.
    pub too_long: Vec<(FileIndex, u64)>,
    /// How long it is worth waiting until all that was written just now can be vouched for.
    youngest: Duration,
}

impl FoundEntry {
    /// The facts that a change of the file changes. Device numbers are given anew with each start of the system, and inode
    /// numbers, on some file systems, whenever a file is looked up.
    pub(super) fn fingerprint(&self, habits: Habits) -> Fingerprint {
        let inode = if habits.inodes_last { self.identity.ino() } else { 0 };
        // 64 bits of nanoseconds are 584 years.
        let facts = [u64::from(self.is_file), self.size, self.mtime as u64, inode];
        // Never NONE but once in 2^64 times, and then the file is hashed again.
        facts.into_iter().fold(0, mixed).to_ne_bytes()
    }

    /// For how long another write might still leave the file's time as it is; zero once it cannot.
    fn still_young(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
        let age = Duration::from_nanos(u64::try_from((now - self.mtime).abs()).unwrap_or(u64::MAX));
        let step = if self.has_coarse_time() { COARSE } else { Duration::ZERO };
        (step + 2 * clock_step()).saturating_sub(age)
    }

    /// How long it is worth waiting for that: a few steps of the clock, but not seconds.
    fn worth_waiting(&self) -> Duration {
        if self.has_coarse_time() { Duration::ZERO } else { self.still_young() }
    }

    fn has_coarse_time(&self) -> bool {
        self.mtime % 1_000_000_000 == 0
    }
}

/// The time between two steps of the clock that the system gives files their times by. The system is asked once: it is needed for each file.
fn clock_step() -> Duration {
    static STEP: OnceLock<Duration> = OnceLock::new();
    *STEP.get_or_init(|| {
        #[cfg(target_os = "linux")]
        let step = rustix::time::clock_getres(ClockId::RealtimeCoarse);
        #[cfg(not(target_os = "linux"))]
        let step = rustix::time::clock_getres(ClockId::Realtime);
        Duration::new(step.tv_sec.max(0) as u64, step.tv_nsec.clamp(0, 999_999_999) as u32)
    })
}

impl Storage {
    /// A file as a check finds it.
    pub(super) fn expect_file(&self, file: FileIndex, found: &FoundEntry) {
        self.slot(file).known.expect(found.fingerprint(self.habits()));
    }

    /// A file as it is before we write to it; on the thread that writes, so that it is as our last write has left it.
    pub(super) fn expect_unwritten(&self, file: FileIndex, found: &FoundEntry) {
        if self.habits().times_are_final {
            self.expect_file(file, found);
        }
    }

    /// A file as we have just left it.
    pub(super) fn know_file(&self, file: FileIndex, opened: &std::fs::File) {
        // Where it fails, what was known does not fit any more: nothing is vouched for.
        if let Ok(found) = root::found(opened) {
            let known = &self.slot(file).known;
            known.set(found.fingerprint(self.habits()));
            known.written.store(true, Ordering::Release);
        }
    }

    /// The part file as we have just left it, or begin to use it.
    pub(super) fn know_part_file(&self, part: &PartFile) {
        self.known_part.set(part.found().map_or(NONE, |found| found.fingerprint(self.habits())));
    }

    /// These pieces are about to be read again: what a file that they are all of was before does not matter any more.
    pub(crate) fn forget_files_of(&self, pieces: &Bitfield) {
        for (index, slot) in self.slots.iter().enumerate() {
            let range = self.layout.pieces_of_file(FileIndex(index as u32));
            if pieces.count_in(range.clone()) as usize == range.len() {
                slot.known.forget();
            }
        }
    }

    /// Waits until another write to a file that is found so would show; not where times are in whole seconds.
    pub(super) fn wait_until_times_tell(found: &FoundEntry) {
        thread::sleep(found.worth_waiting());
    }

    /// Compares all files with what is known of them. With `patience`, waits a few milliseconds for those that were written
    /// just now, so that they can be vouched for.
    pub(super) fn look(&self, patience: bool) -> Look {
        let look = self.look_once();
        if !patience || look.youngest.is_zero() {
            return look;
        }
        thread::sleep(look.youngest);
        self.look_once()
    }

    fn look_once(&self) -> Look {
        let mut look = Look::default();
        self.find_all(|file, found| {
            let known = self.known(file);
            look.prints.push(found.map_or(NONE, |found| found.kept));
            if let Some(FoundFile { entry, is_wanted: true, .. }) = found
                && entry.is_file
                && entry.size > self.layout.file(file).length
            {
                look.too_long.push((file, entry.size));
            }
            let now = found.map_or(NONE, |found| found.print);
            // A server says the final time only after the sync that came before this.
            if known.written.swap(false, Ordering::AcqRel) && !self.habits().times_are_final {
                known.set(now);
            }
            let is_known = known.print() != NONE;
            let changed = known.changed.load(Ordering::Acquire) || (is_known && known.print() != now);
            let young = found.map_or(Duration::ZERO, |found| found.entry.still_young());
            let has_fine_time = found.is_some_and(|found| !found.entry.has_coarse_time());
            look.youngest = look.youngest.max(if has_fine_time { young } else { Duration::ZERO });
            if changed || !young.is_zero() || (!is_known && now != NONE) {
                look.doubtful.push(file);
            }
            // Another torrent of ours writes what we would: no news, but not to be vouched for either.
            if changed && !self.shared.contains(file) {
                look.changed.push(file);
            }
        });
        look
    }

    /// What resume data would keep of all files as they are now. Those of which `is_right` is true are what they were.
    pub(super) fn believe(&self, is_right: impl Fn(FileIndex, Fingerprint) -> bool) -> Vec<Fingerprint> {
        let mut prints = Vec::with_capacity(self.slots.len() + 1);
        self.find_all(|file, found| {
            prints.push(found.map_or(NONE, |found| found.kept));
            if let Some(found) = found.filter(|found| is_right(file, found.kept)) {
                self.known(file).set(found.print);
            }
        });
        prints
    }

    /// What is known of a file; past the last file: of the part file.
    fn known(&self, file: FileIndex) -> &KnownFile {
        self.slots.get(file.0 as usize).map_or(&self.known_part, |slot| &slot.known)
    }

    /// Looks up each file and, last, the part file.
    fn find_all(&self, mut tell: impl FnMut(FileIndex, Option<FoundFile>)) {
        let root = self.root(Operation::Read).ok();
        let habits = root.as_ref().map_or(Habits::default(), |root| root.habits());
        let mut finder = root.as_deref().map(PathFinder::new);
        let mut find = |path: &str, kind: u8| {
            let entry = finder.as_mut()?.find(path).ok()?;
            let print = entry.fingerprint(habits);
            // Selected or not is part of what a file is: its bytes are looked for elsewhere.
            let kept = mixed(u64::from_ne_bytes(print), kind.into()).to_ne_bytes();
            Some(FoundFile { entry, is_wanted: kind == b'f', print, kept })
        };
        for (index, slot) in self.slots.iter().enumerate() {
            let found = match slot.place() {
                Place::File => find(self.name(slot), b'f'),
                Place::Absent => find(self.name(slot), b'a'),
                Place::Pad | Place::Link => None,
            };
            tell(FileIndex(index as u32), found);
        }
        tell(FileIndex(self.slots.len() as u32), find(&PartFile::name(self.info_hash), b'p'));
    }

    /// What basedir's file system does with numbers and times.
    pub(super) fn habits(&self) -> Habits {
        lock(&self.base).root.as_ref().map_or(Habits::default(), |root| root.habits())
    }
}
