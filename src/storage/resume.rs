//! Resume data: what is known of a torrent's data in one folder, so that the next start need not
//! read everything again.
//!
//! One file for each torrent and folder, replaced as a whole. It is never trusted further than it
//! can vouch: it carries a checksum over itself, and a fingerprint of every file it speaks of. A
//! piece counts only while all its files are what they were when we last wrote or checked them; anything odd means that pieces
//! are hashed again, and never an error.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::part::PartFile;
use super::stamp::{Fingerprint, NONE};
use super::{Operation, Place, Storage, StorageError, lock, whole};
use crate::bitfield::Bitfield;
use crate::hash::{Sha1, sha1};
use crate::layout::{FileIndex, Layout, PieceIndex};

/// Name and version of the format. Another version is read as if there were nothing.
const MAGIC: &[u8; 16] = b"btget resume 002";

/// PartialPiece pieces that are remembered; the blocks of more would be fetched again.
pub(crate) const MAX_PARTIAL: usize = 4096;

/// A piece of which some blocks are on the disk, in their places, not verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PartialPiece {
    /// The piece.
    pub piece: PieceIndex,
    /// Which of its blocks are there, the first in the high bit of the first byte.
    pub blocks: Vec<u8>,
}

impl PartialPiece {
    /// Whether the block of this number is there.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.blocks.get((number / 8) as usize).is_some_and(|byte| byte << (number % 8) & 0x80 != 0)
    }
}

/// What a later run is to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resume {
    /// Pieces that are verified, written and synced. Call [`Storage::sync`] before they are named here.
    pub have: Bitfield,
    /// Pieces that a check has still to look at: all that an interrupted check left.
    pub unchecked: Bitfield,
    /// Blocks that were written and synced at a clean stop; [`MAX_PARTIAL`] at the most are kept.
    pub partial: Vec<PartialPiece>,
    /// Payload bytes sent, all runs together.
    pub uploaded: u64,
    /// Payload bytes received, all runs together.
    pub downloaded: u64,
    /// Whether what stands in the folder is the torrent's: a check has come to its end and found nothing against it.
    pub is_ours: bool,
}

/// What of the resume data is still true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Vouched {
    /// Pieces that need not be read again.
    pub have: Bitfield,
    /// Pieces to hash before anything is known of them. What is neither here nor in `have` is
    /// known not to be there.
    pub to_check: Bitfield,
    /// Blocks that are there, of pieces that are in neither set.
    pub partial: Vec<PartialPiece>,
    /// Payload bytes sent in earlier runs.
    pub uploaded: u64,
    /// Payload bytes received in earlier runs.
    pub downloaded: u64,
    /// Whether an earlier run has found that what stands in the folder is the torrent's.
    pub is_ours: bool,
}

impl Vouched {
    /// Nothing is known of so many pieces, so that all are to be checked.
    pub(crate) fn nothing(pieces: u32) -> Vouched {
        Vouched {
            have: Bitfield::new(pieces),
            to_check: Bitfield::full(pieces),
            partial: Vec::new(),
            uploaded: 0,
            downloaded: 0,
            is_ours: false,
        }
    }
}

/// Where the resume data of a torrent lie: named by its info hash and by the folder, links resolved.
pub(crate) fn path(state_dir: &Path, storage: &Storage) -> PathBuf {
    let basedir = basedir_digest(storage.basedir());
    let folder: String = basedir.0[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    state_dir.join(format!("{}-{folder}.resume", storage.info_hash))
}

/// What resume data say of a torrent at one moment, ready to be stored.
#[derive(Debug)]
pub(crate) struct Snapshot {
    bytes: Vec<u8>,
    number: u64,
    /// What another program has done to the files.
    pub changed: ChangedFiles,
    /// Wanted files that are longer than the torrent says, and their lengths in bytes.
    pub too_long: Vec<(FileIndex, u64)>,
}

/// Files that another program has changed since we wrote or checked them, and their pieces.
#[derive(Clone, Debug)]
pub(crate) struct ChangedFiles {
    /// The paths of the files; of very many the first few.
    pub paths: Vec<PathBuf>,
    /// All pieces that have bytes in any of them.
    pub pieces: Bitfield,
}

/// Paths in [`ChangedFiles`].
const MAX_PATHS: usize = 8;

/// Compares the files as they are now with what we know of them: what `resume` says holds as long as they do not change from
/// now on. What has changed already is to be hashed again, and so is what was written only just now, for another write
/// might leave no trace; with `patience` a few milliseconds are waited for that. No write may be under way that `resume` does
/// not know of.
pub(crate) fn snapshot(storage: &Storage, mut resume: Resume, patience: bool) -> Snapshot {
    let number = storage.snapshots.fetch_add(1, Ordering::Relaxed) + 1;
    let look = storage.look(patience);
    let pieces_of = |files: &[FileIndex]| {
        let mut pieces = Bitfield::new(storage.layout.num_pieces());
        files.iter().for_each(|&file| pieces.extend(storage.pieces_of(file)));
        pieces
    };
    let doubtful = pieces_of(&look.doubtful);
    let mut was_there = resume.have.clone();
    was_there.extend(resume.partial.iter().map(|partial| partial.piece));
    was_there.intersect_with(&doubtful);
    let changed = ChangedFiles {
        paths: look.changed.iter().take(MAX_PATHS).map(|&file| storage.path_or_part(file)).collect(),
        pieces: pieces_of(&look.changed),
    };
    // Who has changed a file may have brought what was missing, too.
    resume.unchecked.union_with(&was_there);
    resume.unchecked.union_with(&changed.pieces);
    resume.have.subtract(&doubtful);
    Snapshot { bytes: encode(storage, &resume, &look.prints), number, changed, too_long: look.too_long }
}

/// Writes resume data: a new file, synced, then renamed over the old one, so there is always one
/// that is whole. Makes `state_dir` if it is missing. If a newer snapshot was stored, does nothing; nor if the same stands there already: of
/// thousands of seeds that end together, hardly any has news, and each sync takes milliseconds.
pub(crate) fn store(state_dir: &Path, storage: &Storage, snapshot: &Snapshot) -> Result<(), StorageError> {
    let mut stored = lock(&storage.stored);
    if *stored > snapshot.number {
        return Ok(());
    }
    let path = path(state_dir, storage);
    if whole::read_bounded(&path, max_length(storage)).is_some_and(|bytes| bytes == snapshot.bytes) {
        *stored = snapshot.number;
        return Ok(());
    }
    if *stored == 0 {
        whole::sweep(&path);
    }
    let written = whole::replace(state_dir, &path, &snapshot.bytes);
    written
        .map(|()| *stored = snapshot.number)
        .map_err(|error| StorageError::from_io(Operation::Write, path, error))
}

/// Reads resume data and compares them with what is on the disk. Writes nothing. Without data, or
/// with data that cannot be believed, everything is to be checked.
pub(crate) fn load(state_dir: &Path, storage: &Storage) -> Vouched {
    let nothing = Vouched::nothing(storage.layout.num_pieces());
    let decoded = whole::read_bounded(&path(state_dir, storage), max_length(storage));
    decoded.and_then(|bytes| decode(storage, &bytes)).map_or(nothing, |saved| saved.vouch(storage))
}

fn max_length(storage: &Storage) -> u64 {
    let layout = &storage.layout;
    let bits = u64::from(layout.num_pieces().div_ceil(8));
    let blocks = u64::from(layout.piece_length().div_ceil(crate::layout::BLOCK_LENGTH).div_ceil(8));
    1024 + 2 * bits + 8 * (layout.files().len() as u64 + 1) + MAX_PARTIAL as u64 * (4 + blocks)
}

/// Which torrent and folder these data are about.
fn header(storage: &Storage) -> Vec<u8> {
    let layout = &storage.layout;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(storage.info_hash.0);
    bytes.extend(basedir_digest(storage.basedir()).0);
    bytes.extend(layout.total().to_be_bytes());
    bytes.extend(layout.piece_length().to_be_bytes());
    bytes.extend((layout.files().len() as u32).to_be_bytes());
    bytes
}

fn encode(storage: &Storage, resume: &Resume, prints: &[Fingerprint]) -> Vec<u8> {
    let mut bytes = header(storage);
    bytes.extend(resume.uploaded.to_be_bytes());
    bytes.extend(resume.downloaded.to_be_bytes());
    bytes.push(u8::from(resume.is_ours));
    bytes.extend(resume.have.to_wire());
    bytes.extend(resume.unchecked.to_wire());
    bytes.extend(prints.iter().flatten());
    let partial = &resume.partial[..resume.partial.len().min(MAX_PARTIAL)];
    bytes.extend((partial.len() as u32).to_be_bytes());
    for partial in partial {
        bytes.extend(partial.piece.0.to_be_bytes());
        let mut blocks = partial.blocks.clone();
        blocks.resize(bitmap_length(&storage.layout, partial.piece), 0);
        bytes.extend(blocks);
    }
    let checksum = sha1(&bytes);
    bytes.extend(checksum.0);
    bytes
}

fn bitmap_length(layout: &Layout, piece: PieceIndex) -> usize {
    layout.num_blocks(piece).div_ceil(8) as usize
}

/// What a resume file says, before it is compared with the disk.
struct Saved {
    resume: Resume,
    /// One for each file and one for the part file.
    fingerprints: Vec<Fingerprint>,
}

/// `None` for anything but exactly what [`encode`] writes for this torrent and folder.
fn decode(storage: &Storage, bytes: &[u8]) -> Option<Saved> {
    let layout = &storage.layout;
    let (body, checksum) = bytes.split_last_chunk::<20>()?;
    if sha1(body) != Sha1(*checksum) {
        return None;
    }
    let mut rest = body.strip_prefix(header(storage).as_slice())?;
    let uploaded = u64::from_be_bytes(*take(&mut rest)?);
    let downloaded = u64::from_be_bytes(*take(&mut rest)?);
    let is_ours = take::<1>(&mut rest)? == &[1];
    let bits = layout.num_pieces().div_ceil(8) as usize;
    let have = Bitfield::from_wire(layout.num_pieces(), take_slice(&mut rest, bits)?)?;
    let unchecked = Bitfield::from_wire(layout.num_pieces(), take_slice(&mut rest, bits)?)?;
    let stamps = take_slice(&mut rest, (layout.files().len() + 1) * 8)?;
    let fingerprints = stamps.chunks_exact(8).map(|stamp| stamp.try_into().expect("eight bytes")).collect();
    let count = u32::from_be_bytes(*take(&mut rest)?) as usize;
    let mut partial = Vec::new();
    for _ in 0..count.min(MAX_PARTIAL) {
        let piece = PieceIndex(u32::from_be_bytes(*take(&mut rest)?));
        if !layout.contains(piece) {
            return None;
        }
        let blocks = take_slice(&mut rest, bitmap_length(layout, piece))?.to_vec();
        partial.push(PartialPiece { piece, blocks });
    }
    let resume = Resume { have, unchecked, partial, uploaded, downloaded, is_ours };
    rest.is_empty().then_some(Saved { resume, fingerprints })
}

/// Reads what stands between header and checksum: whether it says anything. Then it can be written, and reads the same.
#[cfg(feature = "internals")]
pub(super) fn read_payload(storage: &Storage, payload: &[u8]) -> bool {
    let mut bytes = header(storage);
    bytes.extend(payload);
    bytes.extend(sha1(&bytes).0);
    let Some(saved) = decode(storage, &bytes) else { return false };
    let again = encode(storage, &saved.resume, &saved.fingerprints);
    let same = decode(storage, &again).expect("what we write can be read");
    assert_eq!((&same.resume.have, same.fingerprints), (&saved.resume.have, saved.fingerprints));
    true
}

fn take<'b, const N: usize>(rest: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (taken, later) = rest.split_first_chunk()?;
    *rest = later;
    Some(taken)
}

fn take_slice<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, later) = rest.split_at_checked(length)?;
    *rest = later;
    Some(taken)
}

impl Saved {
    fn vouch(self, storage: &Storage) -> Vouched {
        let Resume { mut have, unchecked, mut partial, uploaded, downloaded, is_ours } = self.resume;
        let mut to_check = unchecked;
        let now = storage.believe(|file, now| self.fingerprints.get(file.0 as usize) == Some(&now));
        for (index, (then, now)) in self.fingerprints.iter().zip(now).enumerate() {
            let file = FileIndex(index as u32);
            if *then != now {
                to_check.extend(storage.pieces_of(file));
            } else if now == NONE
                && index < storage.slots.len()
                && storage.slots[index].place() == Place::File
            {
                // It is not there and was not: no piece of it can be ours, whatever is said.
                to_check.extend(storage.pieces_of(file).filter(|&piece| have.contains(piece)));
            }
        }
        have.subtract(&to_check);
        partial.retain(|partial| !to_check.contains(partial.piece) && !have.contains(partial.piece));
        Vouched { have, to_check, partial, uploaded, downloaded, is_ours }
    }
}

impl Storage {
    /// The path of a file; past the last file: of the part file.
    fn path_or_part(&self, file: FileIndex) -> PathBuf {
        match (file.0 as usize) < self.slots.len() {
            true => self.path(file),
            false => self.basedir.join(PartFile::name(self.info_hash)),
        }
    }

    /// Pieces that have bytes in a file; past the last file: those that have bytes in the part file.
    fn pieces_of(&self, file: FileIndex) -> Box<dyn Iterator<Item = PieceIndex> + '_> {
        if (file.0 as usize) < self.slots.len() {
            return Box::new(self.layout.pieces_of_file(file).map(PieceIndex));
        }
        let absent = (0..self.slots.len() as u32).map(FileIndex).filter(|&file| self.is_absent(file));
        Box::new(absent.flat_map(|file| self.layout.pieces_of_file(file)).map(PieceIndex))
    }
}

/// The folder's name with links resolved, as far as it is there.
fn basedir_digest(basedir: &Path) -> Sha1 {
    let absolute = fs::canonicalize(basedir).or_else(|_| std::path::absolute(basedir));
    sha1(absolute.unwrap_or_else(|_| basedir.to_owned()).as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InfoHashes;
    use crate::metainfo::Metainfo;
    use crate::storage::StorageOptions;
    use crate::storage::tests::{stream, torrent};
    use proptest::prelude::*;
    use std::io::IoSlice;
    use std::os::unix::fs::FileExt;

    /// As after a check that has read all files.
    fn save(state_dir: &Path, storage: &Storage, resume: &Resume) -> Result<(), StorageError> {
        storage.believe(|_, _| true);
        store(state_dir, storage, &snapshot(storage, resume.clone(), true))
    }

    #[test]
    fn what_a_killed_run_left_half_written_is_removed() {
        let place = Place::new();
        let storage = place.storage(&[]);
        let path = path(&place.state(), &storage);
        fs::create_dir_all(place.state()).unwrap();
        fs::write(path.with_extension("1.new"), "half").unwrap();
        fs::write(place.state().join("another.2.new"), "of another torrent").unwrap();
        save(&place.state(), &storage, &resume()).unwrap();
        assert!(path.exists() && !path.with_extension("1.new").exists());
        assert!(place.state().join("another.2.new").exists());
    }

    #[test]
    fn an_older_snapshot_never_replaces_a_newer_one() {
        let place = Place::new();
        let storage = place.storage(&[]);
        storage.believe(|_, _| true);
        let older = snapshot(&storage, Resume { have: Bitfield::new(5), ..resume() }, true);
        let newer = snapshot(&storage, resume(), true);
        store(&place.state(), &storage, &newer).unwrap();
        store(&place.state(), &storage, &older).unwrap();
        assert_eq!(load(&place.state(), &storage).have, resume().have);
    }

    #[test]
    fn what_stands_there_already_is_not_written_again() {
        use std::os::unix::fs::MetadataExt;
        let place = Place::new();
        let inode = || fs::metadata(place.resume_file()).unwrap().ino();
        place.save(&resume());
        // Kept, so that its number is not used again.
        let first = fs::File::open(place.resume_file()).unwrap();
        place.save(&resume());
        assert_eq!(inode(), first.metadata().unwrap().ino());
        place.save(&Resume { uploaded: resume().uploaded + 1, ..resume() });
        assert_ne!(inode(), first.metadata().unwrap().ino());
        assert_eq!(place.load().uploaded, resume().uploaded + 1);
    }

    struct Place {
        dir: tempfile::TempDir,
        metainfo: Metainfo,
    }

    impl Place {
        /// Three files of 100 bytes in pieces of 64: 0 | 0,1 shared | 1 | 1,2 shared (3) | 2.
        fn new() -> Place {
            let dir = tempfile::tempdir().unwrap();
            let data = stream(300);
            let metainfo = torrent(64, &[("t/a", 100), ("t/b", 100), ("t/c", 100)], &data);
            let place = Place { dir, metainfo };
            fs::create_dir(place.dir.path().join("base")).unwrap();
            place.storage(&[1, 1, 1]).write_at(0, &[IoSlice::new(&data)]).unwrap();
            place
        }

        fn storage(&self, priorities: &[u32]) -> Storage {
            let options = StorageOptions { priorities: priorities.to_vec(), ..Default::default() };
            Storage::new(&self.metainfo, &self.dir.path().join("base"), options)
        }

        fn state(&self) -> PathBuf {
            self.dir.path().join("state/btget")
        }

        fn save(&self, resume: &Resume) {
            save(&self.state(), &self.storage(&[]), resume).unwrap();
        }

        fn load(&self) -> Vouched {
            load(&self.state(), &self.storage(&[]))
        }

        fn file(&self, name: &str) -> PathBuf {
            self.dir.path().join("base/t").join(name)
        }

        fn resume_file(&self) -> PathBuf {
            path(&self.state(), &self.storage(&[]))
        }
    }

    fn set(pieces: &[u32]) -> Bitfield {
        let mut set = Bitfield::new(5);
        pieces.iter().for_each(|&piece| {
            set.insert(PieceIndex(piece));
        });
        set
    }

    fn resume() -> Resume {
        let partial = vec![PartialPiece { piece: PieceIndex(4), blocks: vec![0x80] }];
        let (have, unchecked) = (set(&[0, 1, 2]), set(&[]));
        Resume { have, unchecked, partial, uploaded: 7, downloaded: 9, is_ours: true }
    }

    fn everything_again(vouched: &Vouched) -> bool {
        vouched.have.is_empty() && vouched.to_check.is_full() && vouched.partial.is_empty()
    }

    #[test]
    fn what_was_saved_is_vouched_for_while_nothing_changes() {
        let place = Place::new();
        place.save(&resume());
        let vouched = place.load();
        assert_eq!((vouched.have, vouched.to_check), (set(&[0, 1, 2]), set(&[])));
        assert_eq!(vouched.partial, resume().partial);
        assert_eq!((vouched.uploaded, vouched.downloaded), (7, 9));
        assert_eq!(fs::read_dir(place.state()).unwrap().count(), 1);
    }

    #[test]
    fn without_resume_data_everything_is_checked() {
        let place = Place::new();
        assert!(everything_again(&place.load()));
        assert!(!place.state().exists());
    }

    #[test]
    fn pieces_of_a_file_that_changed_are_hashed_again() {
        type Change = fn(&Path);
        let touch: Change = |path| {
            fs::File::options().write(true).open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        let grow: Change = |path| fs::File::options().write(true).open(path).unwrap().set_len(101).unwrap();
        let remove: Change = |path| fs::remove_file(path).unwrap();
        let replace: Change = |path| {
            let found = fs::metadata(path).unwrap();
            fs::copy(path, path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(found.modified().unwrap()).unwrap();
        };
        for change in [touch, grow, remove, replace] {
            let place = Place::new();
            place.save(&resume());
            change(&place.file("b"));
            let vouched = place.load();
            assert_eq!((vouched.have, vouched.to_check), (set(&[0]), set(&[1, 2, 3])));
            assert_eq!(vouched.partial.len(), 1);
            change(&place.file("c"));
            assert!(place.load().partial.is_empty());
        }
    }

    /// What another program may do to a file, and what that is called.
    type Change = (&'static str, fn(&Path));

    fn changes() -> [Change; 6] {
        [
            ("touched", |path| {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }),
            ("changed", |path| {
                // The clock of the file system may tick seldom: write until it has.
                let file = fs::File::options().write(true).open(path).unwrap();
                let before = file.metadata().unwrap().modified().unwrap();
                while file.metadata().unwrap().modified().unwrap() == before {
                    file.write_all_at(b"!", 9).unwrap();
                }
            }),
            ("cut", |path| fs::File::options().write(true).open(path).unwrap().set_len(7).unwrap()),
            ("lengthened", |path| fs::File::options().write(true).open(path).unwrap().set_len(101).unwrap()),
            ("removed", |path| fs::remove_file(path).unwrap()),
            ("replaced", |path| {
                let found = fs::metadata(path).unwrap();
                fs::write(path.with_extension("new"), stream(100)).unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(found.modified().unwrap()).unwrap();
            }),
        ]
    }

    #[test]
    fn what_another_program_does_to_a_file_while_we_run_is_never_vouched_for() {
        for (what, change) in changes() {
            for write_again in [false, true] {
                let place = Place::new();
                let storage = place.storage(&[]);
                storage.write_at(0, &[IoSlice::new(&stream(300))]).unwrap();
                change(&place.file("b"));
                if write_again && what != "removed" && what != "replaced" {
                    // Our own write leaves the file with a new time.
                    storage.write_at(150, &[IoSlice::new(&stream(300)[150..160])]).unwrap();
                }
                let snapshot = snapshot(&storage, Resume { have: Bitfield::full(5), ..resume() }, true);
                assert_eq!(snapshot.changed.paths, [place.file("b")], "{what}, {write_again}");
                assert_eq!(snapshot.changed.pieces, set(&[1, 2, 3]), "{what}");
                store(&place.state(), &storage, &snapshot).unwrap();
                let vouched = place.load();
                assert_eq!((vouched.have, vouched.to_check), (set(&[0, 4]), set(&[1, 2, 3])), "{what}");
            }
        }
    }

    #[test]
    fn what_a_check_has_read_is_vouched_for_as_it_was_then() {
        for (what, change) in changes() {
            let place = Place::new();
            let storage = place.storage(&[]);
            (0..3).for_each(|file| drop(storage.open_to_check(FileIndex(file)).unwrap()));
            change(&place.file("b"));
            let snapshot = snapshot(&storage, Resume { have: Bitfield::full(5), ..resume() }, true);
            assert_eq!(snapshot.changed.paths, [place.file("b")], "{what}");
            // Once it is read again it is what it is.
            storage.forget_files_of(&set(&[1, 2, 3]));
            if storage.open_to_check(FileIndex(1)).is_ok() {
                let changed = super::snapshot(&storage, resume(), true).changed;
                assert_eq!(changed.paths, Vec::<PathBuf>::new(), "{what}");
            }
        }
    }

    #[test]
    fn a_file_written_this_moment_is_vouched_for_only_when_another_write_would_show() {
        let place = Place::new();
        let storage = place.storage(&[]);
        storage.write_at(0, &[IoSlice::new(&stream(300))]).unwrap();
        let all = || Resume { have: Bitfield::full(5), ..resume() };
        let hasty = snapshot(&storage, all(), false);
        assert!(hasty.changed.pieces.is_empty());
        store(&place.state(), &storage, &snapshot(&storage, all(), true)).unwrap();
        assert_eq!(place.load().have, Bitfield::full(5));
        // Where times are in whole seconds, not for some time.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let second = std::time::UNIX_EPOCH + std::time::Duration::from_secs(now);
        let file = fs::File::options().write(true).open(place.file("b")).unwrap();
        file.set_modified(second).unwrap();
        storage.forget_files_of(&Bitfield::full(5));
        (0..3).for_each(|file| drop(storage.open_to_check(FileIndex(file)).unwrap()));
        store(&place.state(), &storage, &snapshot(&storage, all(), true)).unwrap();
        assert_eq!(place.load().to_check, set(&[1, 2, 3]));
    }

    #[test]
    fn a_part_file_that_another_program_cuts_is_not_vouched_for() {
        let dir = tempfile::tempdir().unwrap();
        let data = stream(300);
        let metainfo = torrent(64, &[("t/a", 100), ("t/b", 100), ("t/c", 100)], &data);
        let options = StorageOptions { priorities: vec![1, 0, 1], ..Default::default() };
        let storage = Storage::new(&metainfo, dir.path(), options);
        storage.write_at(0, &[IoSlice::new(&data[..128])]).unwrap();
        let part = dir.path().join(PartFile::name(metainfo.info_hash.wire()));
        fs::File::options().write(true).open(&part).unwrap().set_len(50).unwrap();
        let snapshot = snapshot(&storage, Resume { have: set(&[0, 1]), ..resume() }, true);
        assert_eq!(snapshot.changed.paths, [part]);
        assert_eq!(snapshot.changed.pieces, set(&[1, 2, 3]));
    }

    #[test]
    fn inode_numbers_count_where_they_last_and_device_numbers_never() {
        let place = Place::new();
        let root = super::super::root::Root::open(&place.dir.path().join("base")).unwrap();
        let found = root.find("t/a").unwrap();
        let other = super::super::InPlace { identity: root.find("t/b").unwrap().identity, ..found };
        let lasting = super::super::root::Habits::default();
        let anew = super::super::root::Habits { inodes_last: false, ..lasting };
        assert_ne!(found.fingerprint(lasting), other.fingerprint(lasting));
        assert_eq!(found.fingerprint(anew), other.fingerprint(anew));
    }

    #[test]
    fn an_interrupted_check_goes_on_where_it_was() {
        let place = Place::new();
        place.save(&Resume { have: set(&[0]), unchecked: set(&[2, 3, 4]), ..resume() });
        let vouched = place.load();
        assert_eq!((vouched.have, vouched.to_check), (set(&[0]), set(&[2, 3, 4])));
        assert!(vouched.partial.is_empty());
    }

    #[test]
    fn pieces_of_a_file_that_is_not_there_are_never_ours() {
        let place = Place::new();
        fs::remove_file(place.file("c")).unwrap();
        place.save(&Resume { have: Bitfield::full(5), ..resume() });
        let vouched = place.load();
        assert_eq!((vouched.have, vouched.to_check), (set(&[0, 1, 2]), set(&[3, 4])));
    }

    #[test]
    fn a_change_of_the_selection_has_the_files_pieces_hashed_again() {
        let place = Place::new();
        place.save(&resume());
        let vouched = load(&place.state(), &place.storage(&[1, 1, 0]));
        assert_eq!(vouched.to_check, set(&[3, 4]));
    }

    #[test]
    fn pieces_in_the_part_file_are_vouched_for_while_it_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let data = stream(300);
        let metainfo = torrent(64, &[("t/a", 100), ("t/b", 100), ("t/c", 100)], &data);
        let options = || StorageOptions { priorities: vec![1, 0, 1], ..Default::default() };
        let storage = Storage::new(&metainfo, dir.path(), options());
        storage.write_at(0, &[IoSlice::new(&data[..128])]).unwrap();
        let state = dir.path().join("state");
        save(&state, &storage, &Resume { have: set(&[0, 1]), partial: Vec::new(), ..resume() }).unwrap();
        let fresh = Storage::new(&metainfo, dir.path(), options());
        assert_eq!(load(&state, &fresh).have, set(&[0, 1]));
        fs::remove_file(dir.path().join(PartFile::name(metainfo.info_hash.wire()))).unwrap();
        assert_eq!(load(&state, &fresh).have, set(&[0]));
    }

    #[test]
    fn resume_data_of_another_folder_or_torrent_say_nothing() {
        let place = Place::new();
        place.save(&resume());
        let bytes = fs::read(place.resume_file()).unwrap();
        let other = Place::new();
        fs::create_dir_all(other.state()).unwrap();
        fs::write(other.resume_file(), &bytes).unwrap();
        assert!(everything_again(&other.load()));
        let mut metainfo = place.metainfo.clone();
        metainfo.info_hash = InfoHashes::V1(Sha1([0xaa; 20]));
        let storage = Storage::new(&metainfo, &place.dir.path().join("base"), StorageOptions::default());
        fs::write(path(&place.state(), &storage), &bytes).unwrap();
        assert!(everything_again(&load(&place.state(), &storage)));
    }

    #[test]
    fn a_link_to_the_folder_finds_the_same_resume_data() {
        let place = Place::new();
        let link = place.dir.path().join("link");
        std::os::unix::fs::symlink(place.dir.path().join("base"), &link).unwrap();
        let storage = Storage::new(&place.metainfo, &link, StorageOptions::default());
        assert_eq!(path(&place.state(), &storage), place.resume_file());
    }

    #[test]
    fn a_folder_a_pipe_or_a_giant_in_the_files_place_says_nothing() {
        let place = Place::new();
        fs::create_dir_all(place.resume_file()).unwrap();
        assert!(everything_again(&place.load()));
        assert!(save(&place.state(), &place.storage(&[]), &resume()).is_err());
        assert_eq!(fs::read_dir(place.state()).unwrap().count(), 1);
        fs::remove_dir(place.resume_file()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, place.resume_file(), fifo, mode, 0).unwrap();
        assert!(everything_again(&place.load()));
        fs::remove_file(place.resume_file()).unwrap();
        fs::File::create(place.resume_file()).unwrap().set_len(1 << 40).unwrap();
        assert!(everything_again(&place.load()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn damaged_data_say_nothing(at in any::<prop::sample::Index>(), flip in 1u8.., cut in 0usize..3) {
            let place = Place::new();
            place.save(&resume());
            let mut bytes = fs::read(place.resume_file()).unwrap();
            let at = at.index(bytes.len());
            match cut {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, flip),
                _ => bytes[at] ^= flip,
            }
            fs::write(place.resume_file(), bytes).unwrap();
            prop_assert!(everything_again(&place.load()));
        }

        #[test]
        fn forged_data_with_a_right_checksum_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let place = Place::new();
            let storage = place.storage(&[]);
            let mut bytes = encode(&storage, &resume(), &storage.believe(|_, _| false));
            bytes.truncate(bytes.len() - 20);
            let body = header(&storage).len();
            for (at, byte) in changes {
                let at = body + at.index(bytes.len() - body);
                bytes[at] = byte;
            }
            if cut.index(3) == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            let sum = sha1(&bytes);
            bytes.extend(sum.0);
            if let Some(saved) = decode(&storage, &bytes) {
                let vouched = saved.vouch(&storage);
                prop_assert!(vouched.have.iter().all(|piece| !vouched.to_check.contains(piece)));
            }
        }
    }

    #[test]
    fn a_write_after_the_save_is_noticed() {
        let place = Place::new();
        place.save(&resume());
        let file = fs::File::options().write(true).open(place.file("a")).unwrap();
        // The clock of the file system may tick seldom: write until it has.
        let before = file.metadata().unwrap().modified().unwrap();
        while file.metadata().unwrap().modified().unwrap() == before {
            file.write_all_at(b"x", 0).unwrap();
        }
        assert_eq!(place.load().to_check, set(&[0, 1]));
    }
}
