//! `--hashcheck-only`: reads, reports, and leaves everything as it was.
//!
//! Writes nothing but the report and opens no socket. Resume data are neither read nor made: every
//! byte that was asked for is read.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use crate::bitfield::Bitfield;
use crate::cli::Exit;
use crate::cli::jobs::beside::beside_telling;
use crate::cli::jobs::folder::about_folder;
use crate::cli::jobs::hooks::{About, Hooks, Occasion};
use crate::cli::jobs::load::Loaded;
use crate::cli::jobs::run::not_begun;
use crate::cli::options::config::{Config, Verbosity};
use crate::cli::show::json::Stream;
use crate::cli::show::report::{Report, Table};
use crate::cli::show::say::Mark;
use crate::cli::show::screen::Screen;
use crate::client::{CheckOutcome, HashCheck, PieceResult};
use crate::client::{Phase, Status};
use crate::event::Verdict;
use crate::event::{Event, Kind, Severity};
use crate::layout::{FileIndex, PieceIndex};
use crate::metainfo::Metainfo;
use crate::storage::{Storage, StorageOptions};
use crate::text::count;
use crate::text::escape;
use anyhow::bail;

/// One torrent to check.
pub(crate) struct Job {
    /// The torrent.
    pub torrent: Loaded,
    /// Weight of each file; what weighs 0 is not reported on.
    pub priorities: Vec<u32>,
    /// The pieces to check.
    pub pieces: Bitfield,
    /// Certain pieces were asked for, so files without any are of no interest.
    only_pieces: bool,
}

impl Job {
    /// What `--files`, `--priority` and `--pieces` leave to check. The error is a whole message.
    pub(crate) fn new(
        torrent: Loaded,
        priorities: Vec<u32>,
        asked: &[std::ops::Range<u32>],
    ) -> anyhow::Result<Job> {
        let layout = &torrent.metainfo.layout;
        let number = layout.num_pieces();
        let mut pieces = Bitfield::new(number);
        for (index, _) in priorities.iter().enumerate().filter(|(_, weight)| **weight > 0) {
            pieces.insert_range(layout.pieces_of_file(FileIndex(index as u32)));
        }
        if let Some(range) = asked.iter().find(|range| range.end > number) {
            bail!(
                "--pieces: there is no piece {}: {} has {}, numbered from 0",
                range.end - 1,
                escape(&torrent.metainfo.name),
                count(number, "piece")
            );
        }
        if !asked.is_empty() {
            let mut chosen = Bitfield::new(number);
            asked.iter().for_each(|range| chosen.insert_range(range.clone()));
            pieces.intersect_with(&chosen);
        }
        Ok(Job { torrent, priorities, pieces, only_pieces: !asked.is_empty() })
    }

    /// Whether a report on this file was asked for: it is wanted, and pieces of it are checked, or
    /// it has none.
    fn reports_on(&self, file: FileIndex) -> bool {
        let pieces = self.torrent.metainfo.layout.pieces_of_file(file);
        let wanted = self.priorities[file.0 as usize] > 0;
        wanted && (pieces.is_empty() && !self.only_pieces || self.pieces.count_in(pieces) > 0)
    }
}

/// Checks torrent after torrent, writes the reports to `out`, and says how it went. `stop` ends it
/// early.
pub(crate) fn run_check(
    config: &Config,
    jobs: &[Job],
    mut hooks: Hooks,
    out: &mut impl Write,
    stop: &Arc<AtomicBool>,
) -> Exit {
    let mut screen = Screen::new(config, jobs.len(), Instant::now());
    if config.verbosity > Verbosity::Quiet {
        let torrents = jobs.iter().map(|job| &job.torrent.metainfo);
        let said = about_folder(&config.torrent.basedir, torrents, "not made by a check: all is missing");
        said.iter().for_each(|text| screen.say(Mark::Plain, text));
    }
    let mut exit = Exit::Complete;
    let mut sink = match config.json {
        Some(least) => ReportSink::Json(Stream::new(out, least)),
        None => ReportSink::Table(Table::new(out, config.color_stdout, config.verbosity)),
    };
    for (number, job) in jobs.iter().enumerate() {
        match check_one(config, job, number, &mut screen, &mut sink, stop) {
            Ok((one, summary)) => {
                let seen =
                    config.stdout_terminal && config.json.is_none() && config.verbosity > Verbosity::Quiet;
                if let (Kind::Summary { name, reason, .. }, false) = (&summary, one == Exit::Complete || seen)
                {
                    let (name, reason) = (escape(name), escape(reason));
                    screen.say(Mark::Plain, &format!("{name}: {reason} (exit code {})", one.code()));
                }
                let occasion = if one == Exit::Complete { Occasion::Complete } else { Occasion::Error };
                let about = About::torrent(&job.torrent.metainfo, &config.torrent.basedir);
                hooks.run(occasion, &about, summary);
                exit = exit.worst(one);
            }
            Err(message) => {
                let reason = format!("{message:#}");
                screen.say(Mark::Error, &reason);
                let metainfo = &job.torrent.metainfo;
                let summary = not_begun(metainfo.name.clone(), Some(metainfo), Verdict::Failed, &reason);
                // What cannot be written has been said.
                let _ = sink.summary(metainfo, &summary);
                let about = About::torrent(metainfo, &config.torrent.basedir);
                hooks.run(Occasion::Error, &about, summary);
                exit = exit.worst(Exit::Failure);
            }
        }
    }
    screen.clear();
    if let ReportSink::Json(stream) = sink {
        let unsaid = stream.finish();
        if unsaid > 0 {
            let text = format!("{} could not be written to standard output", count(unsaid, "event"));
            screen.say(Mark::Warning, &text);
        }
    }
    for failure in hooks.finish() {
        screen.say(Mark::Error, &failure.text);
        exit = exit.worst(Exit::Hook(failure.code));
    }
    exit
}

/// Where the report goes.
enum ReportSink<W> {
    Json(Stream<W>),
    Table(Table<W>),
}

impl<W: Write> ReportSink<W> {
    /// Tells programs how it ended.
    fn summary(&mut self, metainfo: &Metainfo, summary: &Kind) -> anyhow::Result<()> {
        match self {
            ReportSink::Table(_) => Ok(()),
            ReportSink::Json(_) => self.event(metainfo, summary.clone()),
        }
    }

    fn event(&mut self, metainfo: &Metainfo, kind: Kind) -> anyhow::Result<()> {
        match self {
            ReportSink::Table(table) => table.row(&kind),
            ReportSink::Json(stream) => {
                stream.write(&Event { torrent: Some(metainfo.info_hash), kind });
                Ok(())
            }
        }
    }
}

fn check_one(
    config: &Config,
    job: &Job,
    number: usize,
    screen: &mut Screen,
    sink: &mut ReportSink<impl Write>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<(Exit, Kind)> {
    let metainfo = &job.torrent.metainfo;
    let started = Instant::now();
    let bytes = job.pieces.bytes(&metainfo.layout);
    sink.event(metainfo, Kind::HashcheckStarted { pieces: job.pieces.count(), bytes })?;

    // Bytes of unwanted files that share a piece with wanted ones may be in the part file.
    let options = StorageOptions {
        priorities: job.priorities.clone(),
        trace: config.json == Some(Severity::Debug),
        ..StorageOptions::default()
    };
    let storage = Storage::new(metainfo, &config.torrent.basedir, options);
    let check = HashCheck::stopped_by(started, metainfo.layout.num_pieces(), stop.clone());
    check.plan(metainfo, &Bitfield::new(job.pieces.len()), &job.pieces);
    let outcome = check_beside(job, number, &storage, &check, screen, sink)?;
    screen.hide(number);

    let mut report = Report::new(metainfo.layout.num_pieces());
    for kind in findings(job, &outcome) {
        report.take(&kind);
        sink.event(metainfo, kind)?;
    }
    if !outcome.unreadable.is_empty() {
        report.take_unreadable();
    }
    let elapsed = started.elapsed().as_secs_f64();
    let summary = report.summary(metainfo, elapsed);
    match sink {
        ReportSink::Table(table) => table.summary(&report, metainfo, elapsed)?,
        ReportSink::Json(_) => sink.event(metainfo, summary.clone())?,
    }
    Ok((report.verdict().into(), summary))
}

/// Checks beside this thread, and passes verdicts on.
fn check_beside(
    job: &Job,
    number: usize,
    storage: &Storage,
    check: &HashCheck,
    screen: &mut Screen,
    sink: &mut ReportSink<impl Write>,
) -> anyhow::Result<CheckOutcome> {
    let metainfo = &job.torrent.metainfo;
    let work = |verdicts: SyncSender<(PieceIndex, PieceResult)>| {
        check.run(storage, metainfo, &job.pieces, 0, true, &|piece, result| {
            // Nobody listens any more only if the report could not be written; the check ends soon then.
            let _ = verdicts.send((piece, result));
        })
    };
    let status = |other, now| (other == number).then(|| check_status(metainfo, &job.pieces, check, now));
    let take = |(piece, result): (PieceIndex, PieceResult)| {
        tell_notes(metainfo, storage, sink)
            .and_then(|()| sink.event(metainfo, result.event(piece)))
            .inspect_err(|_| check.break_off())
    };
    let outcome = beside_telling(screen, "check", work, status, take)?;
    tell_notes(metainfo, storage, sink)?;
    Ok(outcome)
}

/// The picture of a torrent that is only checked, as far as these pieces go.
pub(super) fn check_status(
    metainfo: &Metainfo,
    pieces: &Bitfield,
    check: &HashCheck,
    now: Instant,
) -> Status {
    let (have, layout) = (check.have(), &metainfo.layout);
    let nothing = Status::with_nothing(
        metainfo.info_hash,
        metainfo.name.clone(),
        Phase::Checking,
        layout.total(),
        layout.num_pieces(),
    );
    Status {
        wanted_bytes: pieces.bytes(layout),
        left: pieces.difference(&have).bytes(layout),
        have,
        wanted: pieces.clone(),
        check: Some(check.progress(now)),
        ..nothing
    }
}

/// What happened to the files.
fn tell_notes(
    metainfo: &Metainfo,
    storage: &Storage,
    sink: &mut ReportSink<impl Write>,
) -> anyhow::Result<()> {
    let notes = storage.take_notes();
    notes.into_iter().try_for_each(|note| sink.event(metainfo, storage.event_of(note)))
}

/// The events that say what was found: a report for each file, and the sum, unless the check was
/// stopped before it was done.
fn findings<'a>(job: &'a Job, outcome: &'a CheckOutcome) -> impl Iterator<Item = Kind> + 'a {
    let metainfo = &job.torrent.metainfo;
    let files = (0..metainfo.files.len() as u32).map(FileIndex).filter(|file| job.reports_on(*file));
    let reports = files.filter_map(move |file| {
        let report = outcome.report(metainfo, file)?;
        Some(Kind::FileReport {
            path: metainfo.files[file.0 as usize].path.to_string(),
            status: report.status,
            length: metainfo.layout.file(file).length,
            pieces: report.pieces,
            bytes: report.bytes,
            shared: report.shared,
            reason: report.reason,
        })
    });
    let finished = outcome.finished.then(|| outcome.finished_event(&outcome.ok, &job.pieces));
    let reports = outcome.finished.then_some(reports);
    reports.into_iter().flatten().chain(finished)
}
