//! The part file: one hidden file for each torrent that keeps the bytes of unwanted files which
//! belong to pieces that are wanted all the same.
//!
//! A log of records, each with its own checksum, so it needs no index on the disk that could
//! disagree with the data, and a crash costs at most what was not yet synced: reading stops at the
//! first record that is not whole, and writing goes on from there. Later records win over earlier
//! ones. What its bytes mean is not its business: they count only once their piece's hash passed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;

use super::root::{self, FoundEntry, Root};
use crate::hash;
use crate::ids::WireHash;
use crate::layout::Layout;

/// "btget", version 1.
const MAGIC: [u8; 8] = *b"btgprt\x001";
/// Magic, info hash, total length, piece length.
const HEADER: u64 = 8 + 20 + 8 + 4;
/// Checksum (8), offset in the stream (8), length (4).
const RECORD: u64 = 8 + 8 + 4;
/// The longest record, in bytes of data: bounds what reading takes in memory.
const MAX_RECORD: usize = 256 * 1024;

/// Where bytes of the stream lie in the part file.
#[derive(Clone, Copy, Debug)]
struct Piece {
    length: u64,
    at: u64,
}

/// The part file of one torrent. Its index holds one entry for each record that still counts, so
/// it is bounded by the size of the file.
#[derive(Debug)]
pub(crate) struct PartFile {
    name: String,
    header: [u8; HEADER as usize],
    total: u64,
    /// By offset in the stream; the entries do not overlap.
    index: BTreeMap<u64, Piece>,
    file: Option<File>,
    writable: bool,
    /// The offset at which the next record is written.
    end: u64,
    unsynced: bool,
}

impl PartFile {
    /// The name below basedir. It holds the info hash, so it cannot be the name of one of the torrent's files.
    pub(crate) fn name(info_hash: WireHash) -> String {
        format!(".{info_hash}.parts")
    }

    /// Reads the part file, if there is one. Makes nothing and writes nothing.
    pub(crate) fn load(root: &Root, info_hash: WireHash, layout: &Layout) -> io::Result<PartFile> {
        let mut part = PartFile::empty(PartFile::name(info_hash), info_hash, layout);
        match root.open_file(&part.name, OFlags::RDONLY, 0) {
            Ok((file, _)) => {
                part.scan(&file)?;
                part.file = Some(file);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(part)
    }

    fn empty(name: String, info_hash: WireHash, layout: &Layout) -> PartFile {
        let mut header = [0; HEADER as usize];
        header[..8].copy_from_slice(&MAGIC);
        header[8..28].copy_from_slice(&info_hash.0);
        header[28..36].copy_from_slice(&layout.end().to_be_bytes());
        header[36..].copy_from_slice(&layout.piece_length().to_be_bytes());
        let total = layout.end();
        PartFile {
            name,
            header,
            total,
            index: BTreeMap::new(),
            file: None,
            writable: false,
            end: 0,
            unsynced: false,
        }
    }

    fn scan(&mut self, file: &File) -> io::Result<()> {
        let mut header = [0; HEADER as usize];
        if read_up_to(file, &mut header, 0)? != header.len() || header != self.header {
            return Ok(()); // Foreign or damaged: as if it were empty.
        }
        self.end = HEADER;
        let mut data = Vec::new();
        loop {
            let mut head = [0; RECORD as usize];
            if read_up_to(file, &mut head, self.end)? != head.len() {
                return Ok(());
            }
            let offset = u64::from_be_bytes(head[8..16].try_into().expect("eight bytes"));
            let length = u32::from_be_bytes(head[16..].try_into().expect("four bytes")) as usize;
            let inside = offset.checked_add(length as u64).is_some_and(|end| end <= self.total);
            if length == 0 || length > MAX_RECORD || !inside {
                return Ok(());
            }
            data.resize(length, 0);
            if read_up_to(file, &mut data, self.end + RECORD)? != length
                || head[..8] != checksum(&head[8..], &[&data])
            {
                return Ok(());
            }
            self.add(offset, Piece { length: length as u64, at: self.end + RECORD });
            self.end += RECORD + length as u64;
        }
    }

    /// The facts about the file, if there is one.
    pub(crate) fn found(&self) -> Option<FoundEntry> {
        root::found(self.file.as_ref()?).ok()
    }

    /// Whether no byte is kept.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The runs of the stream inside `range` that are kept.
    pub(crate) fn kept(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.overlapping(range.clone())
            .map(|(offset, piece)| offset.max(range.start)..(offset + piece.length).min(range.end))
            .collect()
    }

    fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Piece)> + '_ {
        let before = self.index.range(..range.start).next_back();
        let before = before.filter(|(offset, piece)| *offset + piece.length > range.start);
        let rest = self.index.range(range.start..range.end.max(range.start));
        before.into_iter().chain(rest).map(|(&offset, &piece)| (offset, piece))
    }

    /// Reads kept bytes; `range` must lie in what [`PartFile::kept`] returns.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let end = offset + buffer.len() as u64;
        for (start, piece) in self.overlapping(offset..end) {
            let (from, to) = (start.max(offset), (start + piece.length).min(end));
            let place = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            file.read_exact_at(place, piece.at + (from - start))?;
        }
        Ok(())
    }

    /// Appends bytes of the stream. What a failed call leaves behind is written over by the next.
    /// Says whether the file was made.
    pub(crate) fn write(&mut self, root: &Root, offset: u64, data: &[&[u8]]) -> io::Result<bool> {
        let made = self.open_for_writing(root)?;
        let mut offset = offset;
        let mut record: Vec<&[u8]> = Vec::new();
        let mut length = 0;
        for slice in data.iter().flat_map(|slice| slice.chunks(MAX_RECORD)) {
            if length + slice.len() > MAX_RECORD {
                self.append(offset, length, &record)?;
                offset += length as u64;
                record.clear();
                length = 0;
            }
            record.push(slice);
            length += slice.len();
        }
        if length > 0 {
            self.append(offset, length, &record)?;
        }
        Ok(made)
    }

    fn open_for_writing(&mut self, root: &Root) -> io::Result<bool> {
        if let (true, Some(file)) = (self.writable, &self.file) {
            // What is written to a file without a name is lost when it closes.
            return if root::found(file)?.links == 0 {
                Err(io::ErrorKind::NotFound.into())
            } else {
                Ok(false)
            };
        }
        let made = self.file.is_none();
        let (file, _) = root.open_file(&self.name, OFlags::RDWR | OFlags::CREATE, 0o666)?;
        file.set_len(self.end)?;
        if self.end == 0 {
            file.write_all_at(&self.header, 0)?;
            self.end = HEADER;
        }
        (self.file, self.writable) = (Some(file), true);
        Ok(made)
    }

    fn append(&mut self, offset: u64, length: usize, data: &[&[u8]]) -> io::Result<()> {
        let mut head = [0; RECORD as usize];
        head[8..16].copy_from_slice(&offset.to_be_bytes());
        head[16..].copy_from_slice(&(length as u32).to_be_bytes());
        let sum = checksum(&head[8..], data);
        head[..8].copy_from_slice(&sum);
        let file = self.file.as_ref().expect("opened by write");
        let mut slices: Vec<IoSlice<'_>> =
            std::iter::once(&head[..]).chain(data.iter().copied()).map(IoSlice::new).collect();
        super::vectored::write_all(file, &mut slices, self.end)?;
        self.unsynced = true;
        self.add(offset, Piece { length: length as u64, at: self.end + RECORD });
        self.end += RECORD + length as u64;
        Ok(())
    }

    fn add(&mut self, offset: u64, piece: Piece) {
        let end = offset + piece.length;
        self.forget(offset..end);
        self.index.insert(offset, piece);
    }

    /// Drops a run of the stream from the index, cutting entries that stick out.
    pub(crate) fn forget(&mut self, range: Range<u64>) {
        let old: Vec<_> = self.overlapping(range.clone()).collect();
        for (start, piece) in old {
            self.index.remove(&start);
            let end = start + piece.length;
            if start < range.start {
                self.index.insert(start, Piece { length: range.start - start, at: piece.at });
            }
            if end > range.end {
                let skipped = range.end - start;
                self.index.insert(range.end, Piece { length: end - range.end, at: piece.at + skipped });
            }
        }
    }

    /// Has the next sync bring what was read to the disk: it may be in memory only.
    pub(crate) fn mark_read(&mut self) {
        self.unsynced |= self.file.is_some() && !self.index.is_empty();
    }

    /// Brings what was written to the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if let (true, Some(file)) = (self.unsynced, &self.file) {
            file.sync_data()?;
        }
        self.unsynced = false;
        Ok(())
    }

    /// Whether something written is not on the disk yet.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Writes the file anew with nothing but what is kept, or removes it if that is nothing. The
    /// old one stays whole until the new one is on the disk.
    pub(crate) fn rewrite(&mut self, root: &Root) -> io::Result<()> {
        if self.index.is_empty() {
            (self.file, self.writable, self.end, self.unsynced) = (None, false, 0, false);
            match root.remove(&self.name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => return root.sync_folder(""),
            }
        }
        let mut new = PartFile {
            name: format!("{}.new", self.name),
            header: self.header,
            total: self.total,
            index: BTreeMap::new(),
            file: None,
            writable: false,
            end: 0,
            unsynced: false,
        };
        let mut buffer = vec![0; MAX_RECORD];
        for (&start, piece) in &self.index {
            for skip in (0..piece.length).step_by(MAX_RECORD) {
                let data = &mut buffer[..(piece.length - skip).min(MAX_RECORD as u64) as usize];
                self.read(start + skip, data)?;
                new.write(root, start + skip, &[data])?;
            }
        }
        new.sync()?;
        root.rename(&new.name, &self.name)?;
        root.sync_folder("")?;
        new.name = std::mem::take(&mut self.name);
        *self = new;
        Ok(())
    }
}

/// The first eight bytes of the SHA-1: this guards against torn writes, not against people.
fn checksum(head: &[u8], data: &[&[u8]]) -> [u8; 8] {
    let message: Vec<&[u8]> = std::iter::once(head).chain(data.iter().copied()).collect();
    let digest = hash::sha1_many(&[&message]);
    digest[0].0[..8].try_into().expect("a digest has 20 bytes")
}

/// A part file that holds these records, and behind them any bytes.
#[cfg(feature = "internals")]
pub(super) fn file_of(
    info_hash: WireHash,
    layout: &Layout,
    records: &[(u64, &[u8])],
    behind: &[u8],
) -> Vec<u8> {
    let mut bytes = PartFile::empty(String::new(), info_hash, layout).header.to_vec();
    for (offset, data) in records {
        let head = [&offset.to_be_bytes()[..], &(data.len() as u32).to_be_bytes()].concat();
        bytes.extend(checksum(&head, &[data]));
        bytes.extend(head);
        bytes.extend(*data);
    }
    bytes.extend(behind);
    bytes
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: WireHash = WireHash([7; 20]);

    fn setup(total: u64) -> (tempfile::TempDir, Root, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root, Layout::new(1000, [(total, false)]).unwrap())
    }

    fn check(part: &PartFile, model: &[Option<u8>]) {
        let mut kept = vec![false; model.len()];
        for range in part.kept(0..model.len() as u64) {
            let mut data = vec![0; (range.end - range.start) as usize];
            part.read(range.start, &mut data).unwrap();
            for (byte, at) in data.iter().zip(range) {
                assert_eq!(Some(*byte), model[at as usize]);
                kept[at as usize] = true;
            }
        }
        assert!(kept.iter().zip(model).all(|(kept, byte)| *kept == byte.is_some()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_keeps_what_a_plain_array_keeps_across_restarts(
            steps in prop::collection::vec((0u64..4000, 1usize..900, any::<u8>(), 0u8..8), 1..20),
        ) {
            let (_dir, root, layout) = setup(4000);
            let mut part = PartFile::load(&root, HASH, &layout).unwrap();
            let mut model = vec![None; 4000];
            for (offset, length, byte, what) in steps {
                let end = (offset as usize + length).min(4000);
                let data = vec![byte; end - offset as usize];
                match what {
                    0 => part = PartFile::load(&root, HASH, &layout).unwrap(),
                    1 => {
                        part.forget(offset..end as u64);
                        model[offset as usize..end].fill(None);
                        part.rewrite(&root).unwrap();
                    }
                    _ => {
                        let (a, b) = data.split_at(data.len() / 2);
                        part.write(&root, offset, &[a, b]).unwrap();
                        model[offset as usize..end].fill(Some(byte));
                    }
                }
                check(&part, &model);
            }
            check(&PartFile::load(&root, HASH, &layout).unwrap(), &model);
        }

        #[test]
        fn a_damaged_file_never_gives_wrong_bytes(at in 0usize..700, flip in 1u8.., cut in 0u64..700) {
            let (dir, root, layout) = setup(4000);
            let mut part = PartFile::load(&root, HASH, &layout).unwrap();
            let mut model = vec![None; 4000];
            for (offset, byte) in [(0u64, 1u8), (100, 2), (2000, 3)] {
                part.write(&root, offset, &[&[byte; 200]]).unwrap();
                model[offset as usize..offset as usize + 200].fill(Some(byte));
            }
            let path = dir.path().join(PartFile::name(HASH));
            let mut bytes = std::fs::read(&path).unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
            bytes.truncate(bytes.len() - (cut as usize).min(bytes.len()));
            std::fs::write(&path, bytes).unwrap();
            let mut part = PartFile::load(&root, HASH, &layout).unwrap();
            for range in part.kept(0..4000) {
                let mut data = vec![0; (range.end - range.start) as usize];
                part.read(range.start, &mut data).unwrap();
                // An earlier record may show through where a later one is lost.
                prop_assert!(data.iter().all(|byte| (1..=3).contains(byte)));
            }
            part.write(&root, 50, &[&[9; 10]]).unwrap();
            let again = PartFile::load(&root, HASH, &layout).unwrap();
            let mut data = [0; 10];
            again.read(50, &mut data).unwrap();
            prop_assert_eq!(data, [9; 10]);
        }
    }

    #[test]
    fn it_goes_when_nothing_is_kept() {
        let (dir, root, layout) = setup(4000);
        let mut part = PartFile::load(&root, HASH, &layout).unwrap();
        part.write(&root, 5, &[b"bytes"]).unwrap();
        assert!(!part.is_empty());
        part.forget(0..4000);
        part.rewrite(&root).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn long_data_are_kept_in_several_records() {
        let (_dir, root, layout) = setup(3_000_000);
        let mut part = PartFile::load(&root, HASH, &layout).unwrap();
        let data: Vec<u8> = (0..2_000_000u32).map(|n| n as u8).collect();
        part.write(&root, 1000, &[&data[..700_000], &data[700_000..]]).unwrap();
        let again = PartFile::load(&root, HASH, &layout).unwrap();
        let mut back = vec![0; data.len()];
        again.read(1000, &mut back).unwrap();
        assert!(back == data);
    }
}
