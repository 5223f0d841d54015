//! What the command does, step by step: read the torrents, then show, check, or transfer.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;

use crate::cli::Exit;
use crate::cli::jobs::check::{Job, run_check};
use crate::cli::jobs::hooks::{About, HookStop, Hooks, Occasion};
use crate::cli::jobs::load::{Loaded, cause, load};
use crate::cli::jobs::transfer;
use crate::cli::options::config::{Config, Mode, Verbosity};
use crate::cli::options::select;
use crate::cli::show::json;
use crate::cli::show::json::Stream;
use crate::cli::show::say::Mark;
use crate::cli::show::screen::message;
use crate::cli::show::torrent::{show, show_json};
use crate::cli::signals;
use crate::event::{Event, Kind, Pieces, Verdict};
use crate::metainfo::Metainfo;
use crate::text::escape;

/// Why nothing was done: the exit code, and the message.
/// Why nothing, or nothing more, is done, and the exit code for it.
pub(super) type Refusal = (Exit, anyhow::Error);

/// Does what the options say. `exit` ends the process at once.
pub(crate) fn run(config: &Config, exit: fn(i32) -> !) -> Exit {
    outcome(config, exit).unwrap_or_else(|(exit, error)| {
        message(Mark::Error, &format!("{error:#}"), config.color_stderr);
        exit
    })
}

fn outcome(config: &Config, exit: fn(i32) -> !) -> Result<Exit, Refusal> {
    if !matches!(config.mode, Mode::Show) {
        signals::hold().map_err(no_signals)?;
    }
    let (torrents, unread) = torrents(config)?;
    let exit_code = match &config.mode {
        Mode::Show => show_all(config, &torrents).map(|()| Exit::Complete),
        Mode::Check(pieces) => {
            let job = |(torrent, priorities)| Job::new(torrent, priorities, pieces).map_err(usage);
            let jobs: Vec<Job> = wanted(config, torrents)?.into_iter().map(job).collect::<Result<_, _>>()?;
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stop);
            let hook_stop = HookStop::default();
            let hooks = Hooks::new(config, hook_stop.clone());
            let stop_it = move || {
                stopped.store(true, Ordering::Relaxed);
                hook_stop.stop();
            };
            signals::listen_to_stop(exit, stop_it).map_err(|error| {
                let torrents = jobs.iter().map(|job| &job.torrent.metainfo);
                not_started(config, torrents, None, &format!("{:#}", no_signals(error).1))
            })?;
            let mut out = json::stdout().map_err(no_stdout)?;
            Ok(run_check(config, &jobs, hooks, &mut out, &stop))
        }
        Mode::Transfer => transfer::run(config, wanted(config, torrents)?, exit),
    };
    exit_code.map(|exit| exit.worst(unread))
}

/// Reads all torrents before anything is done with one: a script learns of a bad one at once. It stops none of the others; the
/// exit code is what becomes of it. One that is given twice is told and taken once.
fn torrents(config: &Config) -> Result<(Vec<Loaded>, Exit), Refusal> {
    let mut torrents: Vec<Loaded> = Vec::new();
    let (mut errors, mut worst) = (Vec::new(), Exit::Complete);
    for source in &config.sources {
        let torrent = match load(source) {
            Ok(torrent) => torrent,
            Err(error) => {
                let summary = not_begun(source.name(), None, Verdict::NotATorrent, &format!("{error:#}"));
                let exit = tell_not_begun(config, None, vec![(About::default(), summary)], Exit::Torrent);
                worst = worst.worst(exit);
                errors.push(error);
                continue;
            }
        };
        let same = torrents.iter().find(|other| other.metainfo.info_hash == torrent.metainfo.info_hash);
        match same {
            Some(same) => {
                let text = format!("{} is the same torrent as {}; it is taken once", torrent.from, same.from);
                warn(config, &text);
            }
            None => torrents.push(torrent),
        }
    }
    // Where nothing is left to do, whoever is told of the refusal says the last one.
    let refusal = if torrents.is_empty() { errors.pop() } else { None };
    errors.iter().for_each(|error| message(Mark::Error, &format!("{error:#}"), config.color_stderr));
    refusal.map_or(Ok((torrents, worst)), |error| Err((worst, error)))
}

/// The weight of each file of each torrent. Says, once, what was changed about names.
fn wanted(config: &Config, torrents: Vec<Loaded>) -> Result<Vec<(Loaded, Vec<u32>)>, Refusal> {
    let metainfos: Vec<&Metainfo> = torrents.iter().map(|torrent| &torrent.metainfo).collect();
    let priorities = select::priorities(&metainfos, &config.files, &config.weights).map_err(usage)?;
    for metainfo in metainfos {
        for note in &metainfo.notes {
            warn(config, &format!("{}: {}", escape(&metainfo.name), escape(note)));
        }
    }
    Ok(torrents.into_iter().zip(priorities).collect())
}

/// The summary of a torrent of which nothing was done.
pub(crate) fn not_begun(name: String, metainfo: Option<&Metainfo>, verdict: Verdict, reason: &str) -> Kind {
    let size = metainfo.map_or(0, |metainfo| metainfo.layout.total());
    let pieces = metainfo.map(|metainfo| 0..metainfo.layout.num_pieces()).into_iter().collect();
    Kind::Summary {
        name,
        verdict,
        reason: reason.to_owned(),
        done: 0,
        wanted: size,
        left: size,
        downloaded: 0,
        uploaded: 0,
        total_downloaded: 0,
        total_uploaded: 0,
        wasted: 0,
        elapsed: 0.0,
        have: Pieces(Vec::new()),
        wanted_pieces: Pieces(pieces),
    }
}

/// Nothing was done: tells programs that and, by `event`, why, and runs the hooks. The exit code is
/// `exit`, or a hook's.
pub(crate) fn tell_not_begun(
    config: &Config,
    event: Option<Kind>,
    summaries: Vec<(About, Kind)>,
    exit: Exit,
) -> Exit {
    if config.mode == Mode::Show {
        return exit;
    }
    if let (Some(least), Ok(out)) = (config.json, json::stdout()) {
        let mut stream = Stream::new(out, least);
        let events = event.into_iter().map(|kind| Event { torrent: None, kind });
        events.for_each(|event| stream.write(&event));
        for (about, kind) in &summaries {
            stream.write(&Event { torrent: about.info_hash(), kind: kind.clone() });
        }
    }
    let mut hooks = Hooks::new(config, HookStop::default());
    for (about, summary) in summaries {
        hooks.run(Occasion::Error, &about, summary);
    }
    let failures = hooks.finish();
    failures.iter().for_each(|failure| message(Mark::Error, &failure.text, config.color_stderr));
    failures.iter().fold(exit, |exit, failure| exit.worst(Exit::Hook(failure.code)))
}

/// No torrent has been begun: tells that, and why.
pub(crate) fn not_started<'t>(
    config: &Config,
    torrents: impl Iterator<Item = &'t Metainfo>,
    event: Option<Kind>,
    text: &str,
) -> Refusal {
    let summary = |metainfo: &Metainfo| {
        let about = About::torrent(metainfo, &config.torrent.basedir);
        (about, not_begun(metainfo.name.clone(), Some(metainfo), Verdict::Failed, text))
    };
    let summaries = torrents.map(summary).collect();
    (tell_not_begun(config, event, summaries, Exit::Failure), anyhow!(text.to_owned()))
}

fn show_all(config: &Config, torrents: &[Loaded]) -> Result<(), Refusal> {
    let mut out = io::stdout().lock();
    for (number, torrent) in torrents.iter().enumerate() {
        let shown = match config.json {
            Some(_) => show_json(&torrent.metainfo, &mut out),
            None if number > 0 => out.write_all(b"\n").and_then(|()| show(&torrent.metainfo, &mut out)),
            None => show(&torrent.metainfo, &mut out),
        };
        match shown {
            // `btget --show x.torrent | head` has all it wants.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other.map_err(no_stdout)?,
        }
    }
    Ok(())
}

fn warn(config: &Config, text: &str) {
    if config.verbosity > Verbosity::Quiet {
        message(Mark::Warning, text, config.color_stderr);
    }
}

fn usage(error: anyhow::Error) -> Refusal {
    (Exit::Usage, error)
}

/// Why a thread cannot be started, and what to do about it.
pub(crate) fn no_thread(error: &io::Error) -> String {
    format!(
        "cannot start a thread: {}; allow more of them (ulimit -u, or the container's limit)",
        cause(error)
    )
}

pub(crate) fn no_signals(error: io::Error) -> Refusal {
    // EAGAIN is what starting a thread says.
    if error.kind() == io::ErrorKind::WouldBlock {
        return (Exit::Failure, anyhow!(no_thread(&error)));
    }
    (Exit::Failure, anyhow!("cannot listen for signals: {}", cause(&error)))
}

pub(crate) fn no_stdout(error: io::Error) -> Refusal {
    (Exit::Failure, anyhow!("cannot write to standard output: {}", cause(&error)))
}
