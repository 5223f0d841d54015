//! The report of a hash check: a table for people, events for programs, and the exit code that
//! follows.
//!
//! Reads plain events; knows nothing of how files are read.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;

use crate::cli::jobs::load::cause;
use crate::cli::options::config::Verbosity;
use crate::event::Verdict;
use crate::event::{FileStatus, Kind, PeersFound, Pieces};
use crate::metainfo::{Metainfo, PieceIndex};
use crate::text::escape;
use crate::text::{Size, count, percent};
use anyhow::anyhow;

/// Byte ranges that are listed of one file before the rest is counted.
const MAX_RANGES: usize = 6;

/// Gathers what a check found about one torrent.
#[derive(Debug)]
pub(crate) struct Report {
    /// Of the torrent, checked or not.
    pieces: u32,
    files: u64,
    /// By [`FileStatus`], in its order.
    found: [u64; 6],
    /// The outcome, once the check has told.
    finished: Option<Finished>,
    /// Something could not be read.
    unreadable: bool,
    /// A file without bytes is not there.
    empty_missing: bool,
}

#[derive(Debug)]
struct Finished {
    have: Pieces,
    missing: Pieces,
    corrupt: Pieces,
    missing_count: u32,
    corrupt_count: u32,
}

const STATUSES: [FileStatus; 6] = [
    FileStatus::Ok,
    FileStatus::Corrupt,
    FileStatus::Missing,
    FileStatus::Short,
    FileStatus::Long,
    FileStatus::Unreadable,
];

impl Finished {
    /// The pieces that were checked.
    fn all(&self) -> impl Iterator<Item = &Range<u32>> {
        self.have.0.iter().chain(&self.missing.0).chain(&self.corrupt.0)
    }

    /// How many pieces were checked.
    fn checked(&self) -> u32 {
        self.all().map(|range| range.end - range.start).sum()
    }
}

impl Report {
    /// Nothing found yet, of a torrent of so many pieces.
    pub(crate) fn new(pieces: u32) -> Report {
        Report { pieces, files: 0, found: [0; 6], finished: None, unreadable: false, empty_missing: false }
    }

    /// Takes note of an event of the check.
    pub(crate) fn take(&mut self, kind: &Kind) {
        match kind {
            Kind::FileReport { status, length, .. } => {
                self.files += 1;
                // It has no piece that could be missing.
                self.empty_missing |= *status == FileStatus::Missing && *length == 0;
                let place = STATUSES.iter().position(|s| s == status).expect("all are listed");
                self.found[place] += 1;
                self.unreadable |= *status == FileStatus::Unreadable;
            }
            Kind::FileError { .. } => self.unreadable = true,
            Kind::HashcheckFinished { have, missing, corrupt, missing_count, corrupt_count, .. } => {
                self.finished = Some(Finished {
                    have: have.clone(),
                    missing: missing.clone(),
                    corrupt: corrupt.clone(),
                    missing_count: *missing_count,
                    corrupt_count: *corrupt_count,
                });
            }
            _ => {}
        }
    }

    /// Something could not be read, though no file that was asked for is to blame.
    pub(crate) fn take_unreadable(&mut self) {
        self.unreadable = true;
    }

    /// The worst that was found.
    pub(crate) fn verdict(&self) -> Verdict {
        match &self.finished {
            _ if self.unreadable => Verdict::FileError,
            None => Verdict::Incomplete,
            Some(finished) if finished.corrupt_count > 0 || self.count_of(FileStatus::Long) > 0 => {
                Verdict::Corrupt
            }
            Some(finished) if finished.missing_count > 0 || self.empty_missing => Verdict::Incomplete,
            Some(_) => Verdict::Complete,
        }
    }

    /// The outcome in words.
    fn reason(&self) -> String {
        match (&self.finished, self.verdict()) {
            (None, Verdict::Incomplete) => "stopped before the check was done".to_owned(),
            (Some(finished), Verdict::Complete) if finished.checked() < self.pieces => {
                let (checked, all) = (finished.checked(), count(self.pieces, "piece"));
                format!("every piece that was checked is right ({checked} of {all})")
            }
            (_, Verdict::Complete) => "every piece is right".to_owned(),
            (_, Verdict::FileError) => "some data cannot be read".to_owned(),
            (Some(Finished { corrupt_count: 0, missing_count: 0, .. }), Verdict::Corrupt) => {
                format!("every piece is right, but {}", self.said_of_long())
            }
            (Some(Finished { corrupt_count: 0, .. }), Verdict::Corrupt) => {
                format!("some data are missing, and {}", self.said_of_long())
            }
            (_, Verdict::Corrupt) => "some data are corrupt".to_owned(),
            (..) => "some data are missing".to_owned(),
        }
    }

    fn count_of(&self, status: FileStatus) -> u64 {
        STATUSES.iter().position(|&other| other == status).map_or(0, |place| self.found[place])
    }

    fn said_of_long(&self) -> &'static str {
        match self.count_of(FileStatus::Long) {
            1 => "a file is longer than it should be",
            _ => "some files are longer than they should be",
        }
    }

    /// Bytes that are right, and that were asked for: the pieces the check was about.
    fn bytes(&self, metainfo: &Metainfo) -> (u64, u64) {
        let layout = &metainfo.layout;
        let length = |range: &Range<u32>| -> u64 {
            let pieces = range.clone().map(PieceIndex);
            pieces.map(|piece| u64::from(layout.piece_size(piece))).sum()
        };
        match &self.finished {
            None => (0, layout.total()),
            Some(finished) => (finished.have.0.iter().map(length).sum(), finished.all().map(length).sum()),
        }
    }

    /// The summary event.
    pub(crate) fn summary(&self, metainfo: &Metainfo, elapsed: f64) -> Kind {
        let (done, wanted) = self.bytes(metainfo);
        let none = || Pieces(Vec::new());
        let have = self.finished.as_ref().map_or_else(none, |finished| finished.have.clone());
        let mut wanted_pieces: Vec<_> = self.finished.iter().flat_map(Finished::all).cloned().collect();
        wanted_pieces.sort_by_key(|range| range.start);
        wanted_pieces.dedup_by(|next, range| {
            let touching = range.end == next.start;
            if touching {
                range.end = next.end;
            }
            touching
        });
        Kind::Summary {
            name: metainfo.name.clone(),
            verdict: self.verdict(),
            reason: self.reason(),
            done,
            wanted: Some(wanted),
            left: Some(wanted - done),
            downloaded: 0,
            uploaded: 0,
            total_downloaded: 0,
            total_uploaded: 0,
            wasted: 0,
            peers_found: PeersFound::default(),
            elapsed,
            have,
            wanted_pieces: Pieces(wanted_pieces),
        }
    }
}

/// Writes the report for people.
pub(crate) struct Table<W> {
    out: W,
    color: bool,
    verbosity: Verbosity,
}

impl<W: Write> Table<W> {
    /// A table on `out`. The quiet get only what is not as it should be, and no summary.
    pub(crate) fn new(out: W, color: bool, verbosity: Verbosity) -> Table<W> {
        Table { out, color, verbosity }
    }

    /// A row, if the event is a file's. A reader that went away is no error.
    pub(crate) fn row(&mut self, kind: &Kind) -> anyhow::Result<()> {
        let Kind::FileReport { path, status, length, pieces, bytes, shared, reason } = kind else {
            return Ok(());
        };
        if *status == FileStatus::Ok && self.verbosity == Verbosity::Quiet {
            return Ok(());
        }
        let status_text = self.paint(*status, &format!("{status:<10}"));
        let mut row = format!("{status_text}  {:>8}  {}", Size(*length).to_string(), escape(path));
        if let Some(reason) = reason {
            let _ = write!(row, ": {}", escape(reason));
        }
        if !pieces.0.is_empty() {
            let _ = write!(row, "\n{:22}pieces {pieces}{}", "", byte_ranges(bytes));
        }
        // A file that is missing or short is to blame, whoever else is.
        if *status == FileStatus::Corrupt && !shared.0.is_empty() && reason.is_none() {
            let _ = write!(row, "\n{:22}in pieces {shared} a neighbour may be at fault instead", "");
        }
        self.line(&row)
    }

    /// The last line.
    pub(crate) fn summary(
        &mut self,
        report: &Report,
        metainfo: &Metainfo,
        elapsed: f64,
    ) -> anyhow::Result<()> {
        if self.verbosity == Verbosity::Quiet {
            return Ok(());
        }
        let (done, wanted) = report.bytes(metainfo);
        let mut parts = Vec::new();
        for (status, found) in STATUSES.iter().zip(report.found) {
            if found > 0 {
                parts.push(format!("{found} {status}"));
            }
        }
        let status = if report.verdict() == Verdict::Complete { FileStatus::Ok } else { FileStatus::Corrupt };
        let line = format!(
            "{}: {}; {}: {}; {:.1}% of {} is right ({elapsed:.1}s)",
            escape(&metainfo.name),
            self.paint(status, &report.reason()),
            count(report.files, "file"),
            if parts.is_empty() { "none checked".to_owned() } else { parts.join(", ") },
            percent(done, wanted),
            Size(wanted)
        );
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        match writeln!(self.out, "{line}").and_then(|()| self.out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(anyhow!("cannot write the report: {}", cause(&error)))
            }
            _ => Ok(()),
        }
    }

    fn paint(&self, status: FileStatus, text: &str) -> String {
        let color = match status {
            FileStatus::Ok => "32",
            FileStatus::Missing | FileStatus::Short => "33",
            FileStatus::Corrupt | FileStatus::Long | FileStatus::Unreadable => "31",
        };
        match self.color {
            true => format!("\x1b[{color}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// `(first, past the last)` as people write them: both ends included.
fn byte_ranges(bytes: &[(u64, u64)]) -> String {
    let mut text = String::new();
    for (number, (start, end)) in bytes.iter().take(MAX_RANGES).enumerate() {
        text += if number == 0 { "; bytes " } else { ", " };
        let _ = write!(text, "{start}-{}", end.saturating_sub(1));
    }
    match bytes.len().saturating_sub(MAX_RANGES) {
        0 => {}
        more => {
            let _ = write!(text, " and {more} more");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exit;
    use crate::cli::testing::metainfo;

    fn file(path: &str, status: FileStatus, bad: &[std::ops::Range<u32>]) -> Kind {
        let clean = bad.is_empty();
        Kind::FileReport {
            path: path.into(),
            status,
            length: 100,
            pieces: Pieces(bad.to_vec()),
            bytes: if clean { vec![] } else { vec![(0, 64), (90, 100)] },
            shared: Pieces(bad.iter().skip(1).cloned().collect()),
            reason: (status == FileStatus::Unreadable).then(|| "permission denied".into()),
        }
    }

    /// A check that found these pieces and lacks those; so many of these, the first, because they are corrupt.
    fn finished(have: &[std::ops::Range<u32>], missing: &[std::ops::Range<u32>], corrupt: u32) -> Kind {
        let number = |ranges: &[std::ops::Range<u32>]| ranges.iter().map(|range| range.len() as u32).sum();
        let lacking: Vec<u32> = missing.iter().cloned().flatten().collect();
        let (first, rest) = lacking.split_at(corrupt as usize);
        let pieces = |indices: &[u32]| Pieces(indices.iter().map(|&index| index..index + 1).collect());
        Kind::HashcheckFinished {
            have: Pieces(have.to_vec()),
            missing: pieces(rest),
            corrupt: pieces(first),
            have_count: number(have),
            missing_count: rest.len() as u32,
            corrupt_count: corrupt,
        }
    }

    fn report(events: &[Kind]) -> Report {
        let mut report = Report::new(4);
        events.iter().for_each(|kind| report.take(kind));
        report
    }

    #[test]
    fn the_exit_code_follows_from_the_worst_that_was_found() {
        let unreadable = file("a", FileStatus::Unreadable, &[0..1]);
        for (events, exit) in [
            (&[finished(&[0..4], &[], 0)][..], Exit::Complete),
            (&[finished(&[0..3], &[3..4], 0)], Exit::Incomplete),
            (&[finished(&[0..3], &[3..4], 1)], Exit::Corrupt),
            (&[finished(&[0..2], &[2..4], 1)], Exit::Corrupt),
            (&[unreadable.clone(), finished(&[0..2], &[2..4], 1)], Exit::Data),
            (&[unreadable], Exit::Data),
            (&[file("a", FileStatus::Long, &[]), finished(&[0..4], &[], 0)], Exit::Corrupt),
            (&[file("a", FileStatus::Long, &[3..4]), finished(&[0..3], &[3..4], 0)], Exit::Corrupt),
            (&[], Exit::Incomplete),
        ] {
            assert_eq!(Exit::from(report(events).verdict()), exit, "{events:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_the_reason() {
        let long = file("a", FileStatus::Long, &[]);
        let reason = |events: &[Kind]| report(events).reason();
        assert_eq!(
            reason(&[long.clone(), finished(&[0..4], &[], 0)]),
            "every piece is right, but a file is longer than it should be"
        );
        assert_eq!(
            reason(&[long.clone(), long.clone(), finished(&[0..3], &[3..4], 0)]),
            "some data are missing, and some files are longer than they should be"
        );
        assert_eq!(reason(&[long, finished(&[0..3], &[3..4], 1)]), "some data are corrupt");
    }

    #[test]
    fn people_get_a_table_with_the_summary_last() {
        let torrent = metainfo("T", &["T/a", "T/b\x1b[2J", "T/c"]);
        let events = [
            file("T/a", FileStatus::Ok, &[]),
            file("T/b\x1b[2J", FileStatus::Corrupt, &[1..2, 3..4]),
            file("T/c", FileStatus::Unreadable, &[]),
            finished(&[0..1, 2..3, 4..5], &[1..2, 3..4], 2),
        ];
        let report = report(&events);
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, false, Verbosity::Normal);
        events.iter().for_each(|kind| table.row(kind).unwrap());
        table.summary(&report, &torrent, 1.25).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ok             100 B  T/a\n\
             corrupt        100 B  T/b\\u{1b}[2J\n\
             \x20                     pieces 1, 3; bytes 0-63, 90-99\n\
             \x20                     in pieces 3 a neighbour may be at fault instead\n\
             unreadable     100 B  T/c: permission denied\n\
             T: some data cannot be read; 3 files: 1 ok, 1 corrupt, 1 unreadable; 57.3% of 300 B is right (1.2s)\n"
        );
    }

    #[test]
    fn the_quiet_see_only_what_is_wrong() {
        let torrent = metainfo("T", &["T/a"]);
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, true, Verbosity::Quiet);
        table.row(&file("T/a", FileStatus::Ok, &[])).unwrap();
        table.row(&file("T/b", FileStatus::Missing, &[])).unwrap();
        table.summary(&Report::new(1), &torrent, 0.0).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[33mmissing   \x1b[0m     100 B  T/b\n");
    }

    #[test]
    fn the_summary_event_counts_the_pieces_that_were_asked_for() {
        let torrent = metainfo("T", &["T/a", "T/b", "T/c"]);
        let report = report(&[finished(&[0..1], &[1..2, 4..5], 0)]);
        let Kind::Summary { verdict, done, wanted, left, wanted_pieces, .. } = report.summary(&torrent, 1.0)
        else {
            panic!("a summary is a summary")
        };
        assert_eq!((Exit::from(verdict).code(), done, wanted, left), (7, 64, Some(64 + 64 + 44), Some(108)));
        assert_eq!(wanted_pieces, Pieces(vec![0..2, 4..5]));
    }
}
