//! What a check means for each file.

use std::io;
use std::ops::Range;

use super::{CheckOutcome, Fault, SeenFile};
use crate::bitfield::Bitfield;
use crate::event::{FileStatus, Pieces};
use crate::layout::{FileIndex, Layout, PieceIndex};
use crate::metainfo::Metainfo;
use crate::storage::StorageErrorKind;
use crate::text::escape;

/// The verdict on one file.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FileReport {
    /// The file.
    pub file: FileIndex,
    /// The worst that is known of it.
    pub status: FileStatus,
    /// Its pieces that are not right, or cannot be known to be.
    pub pieces: Pieces,
    /// Where those lie in the file: `(start, end)`, in bytes, `end` not included.
    pub bytes: Vec<(u64, u64)>,
    /// Those of its pieces that are not right and overlap another file too: whose fault that is the
    /// hash does not say.
    pub shared: Pieces,
    /// What there is to say beyond the status.
    pub reason: Option<String>,
}

impl CheckOutcome {
    /// Whether the check found everything it looked at right.
    pub fn is_ok(&self) -> bool {
        self.finished && self.corrupt.is_empty() && self.missing.is_empty() && self.unreadable.is_empty()
    }

    /// The pieces of `asked` that have no verdict, because the check was stopped before.
    pub fn unchecked(&self, asked: &Bitfield) -> Bitfield {
        let mut left = asked.clone();
        for verdict in [&self.ok, &self.corrupt, &self.missing, &self.unreadable] {
            left.subtract(verdict);
        }
        left
    }

    /// What is known of one file; `None` for pad files. Speaks of the pieces that were checked only.
    ///
    /// A file that is whole but shares a piece with one that is missing is `ok`: what can be
    /// known of it is right. The piece is in `shared`, and `reason` says why it is not known.
    pub fn report(&self, metainfo: &Metainfo, file: FileIndex) -> Option<FileReport> {
        let extent = metainfo.layout.file(file);
        if extent.pad {
            return None;
        }
        let judge = Judge { outcome: self, metainfo, file, range: metainfo.layout.pieces_of_file(file) };
        Some(judge.report())
    }
}

/// The file in question.
struct Judge<'a> {
    outcome: &'a CheckOutcome,
    metainfo: &'a Metainfo,
    file: FileIndex,
    range: Range<u32>,
}

impl Judge<'_> {
    fn report(&self) -> FileReport {
        let layout = &self.metainfo.layout;
        let corrupt = self.among(&self.outcome.corrupt);
        let missing = self.among(&self.outcome.missing);
        let unreadable = self.among(&self.outcome.unreadable);
        let (elsewhere, missing): (Vec<u32>, Vec<u32>) =
            missing.into_iter().chain(unreadable).partition(|&piece| self.is_fault_of_another(piece));
        let mut bad = [corrupt.as_slice(), &missing].concat();
        bad.sort_unstable();
        let mut shared: Vec<u32> = bad.iter().chain(&elsewhere).copied().collect();
        shared.sort_unstable();
        shared.retain(|&piece| self.others(piece).next().is_some());
        let (status, reason) = self.status(!corrupt.is_empty(), !missing.is_empty(), &elsewhere, &shared);
        let bytes = ranges(&bad).into_iter().map(|pieces| bytes_in(layout, self.file, pieces)).collect();
        FileReport {
            file: self.file,
            status,
            bytes,
            pieces: Pieces(ranges(&bad)),
            shared: Pieces(ranges(&shared)),
            reason,
        }
    }

    fn among(&self, set: &Bitfield) -> Vec<u32> {
        self.range.clone().filter(|&piece| set.contains(PieceIndex(piece))).collect()
    }

    /// The other files that have bytes in a piece; pad files cannot be wrong.
    fn others(&self, piece: u32) -> impl Iterator<Item = FileIndex> + '_ {
        let layout = &self.metainfo.layout;
        let spans = layout.spans_of_piece(PieceIndex(piece));
        spans.map(|span| span.file).filter(|&file| file != self.file && !layout.file(file).pad)
    }

    /// Whether this file has all its bytes of a piece, and another one has not.
    fn is_fault_of_another(&self, piece: u32) -> bool {
        !self.lacks(self.file, piece) && self.others(piece).any(|other| self.lacks(other, piece))
    }

    fn lacks(&self, file: FileIndex, piece: u32) -> bool {
        let layout = &self.metainfo.layout;
        let mut spans = layout.spans_of_piece(PieceIndex(piece)).filter(|span| span.file == file);
        let end = spans.next().map_or(0, |span| span.offset + span.length);
        match self.outcome.found[file.0 as usize] {
            _ if self.outcome.faults.contains_key(&file) => true,
            SeenFile::Missing => true,
            SeenFile::Size(size) => size < end,
            // In none of the pieces that were checked.
            SeenFile::NotLookedAt => false,
        }
    }

    fn status(
        &self,
        corrupt: bool,
        missing: bool,
        elsewhere: &[u32],
        shared: &[u32],
    ) -> (FileStatus, Option<String>) {
        let length = self.metainfo.layout.file(self.file).length;
        let found = self.outcome.found[self.file.0 as usize];
        if let Some(fault) = self.outcome.faults.get(&self.file) {
            return (FileStatus::Unreadable, Some(reason(fault)));
        }
        let size = match found {
            SeenFile::Missing => return (FileStatus::Missing, None),
            SeenFile::Size(size) => Some(size).filter(|&size| size != length),
            SeenFile::NotLookedAt => None,
        };
        let size_said = size.map(|size| format!("it has {size} bytes instead of {length}"));
        if corrupt {
            return (FileStatus::Corrupt, size_said.or_else(|| self.said_of_shared(shared)));
        }
        match size {
            Some(size) if size < length => (FileStatus::Short, size_said),
            Some(_) => (FileStatus::Long, size_said),
            None if missing => (FileStatus::Missing, Some("parts of it were never written".into())),
            None => (FileStatus::Ok, self.said_of_elsewhere(elsewhere)),
        }
    }

    fn said_of_shared(&self, shared: &[u32]) -> Option<String> {
        let piece = *shared.first()?;
        let other = self.name_of(self.others(piece).next()?);
        Some(format!("piece {piece} is shared with {other}: which of them is at fault cannot be told"))
    }

    fn said_of_elsewhere(&self, elsewhere: &[u32]) -> Option<String> {
        let piece = *elsewhere.first()?;
        let other = self.name_of(self.others(piece).find(|&other| self.lacks(other, piece))?);
        Some(format!("piece {piece} is shared with {other}, which is not all there, and cannot be verified"))
    }

    fn name_of(&self, file: FileIndex) -> String {
        escape(&self.metainfo.files[file.0 as usize].path).into_owned()
    }
}

fn reason(fault: &Fault) -> String {
    match (fault.kind, fault.errno) {
        (StorageErrorKind::NotAFile, _) => "a folder, link or device is in its place".into(),
        (StorageErrorKind::Denied, _) => "no permission".into(),
        (_, Some(errno)) => io::Error::from_raw_os_error(errno).to_string(),
        _ => "it cannot be read".into(),
    }
}

/// Ascending numbers as ranges.
fn ranges(numbers: &[u32]) -> Vec<Range<u32>> {
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => ranges.push(number..number + 1),
        }
    }
    ranges
}

/// The bytes of `file` that lie in `pieces`.
fn bytes_in(layout: &Layout, file: FileIndex, pieces: Range<u32>) -> (u64, u64) {
    let extent = layout.file(file);
    let length = u64::from(layout.piece_length());
    let start = (u64::from(pieces.start) * length).max(extent.offset);
    let end = (u64::from(pieces.end) * length).min(extent.end());
    (start - extent.offset, end - extent.offset)
}
