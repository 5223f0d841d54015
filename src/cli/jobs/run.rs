//! What the command does, step by step: read the torrents, then show, check, or transfer.

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::anyhow;

use crate::cli::Exit;
use crate::cli::jobs::block_lists;
use crate::cli::jobs::check::{Job, run_check};
use crate::cli::jobs::create::run_create;
use crate::cli::jobs::hooks::{About, HookStop, Hooks, Occasion};

use crate::cli::jobs::load::{Given, Loaded, cause, load};
use crate::cli::jobs::plan::run_plan;
use crate::cli::jobs::transfer;
use crate::cli::options::config::{Config, Mode, Progress, TorrentSource, Verbosity};
use crate::cli::options::select::{self, Selector};
use crate::cli::options::values::Weighted;
use crate::cli::show::json;
use crate::cli::show::json::Stream;
use crate::cli::show::say::Mark;
use crate::cli::show::screen::{message, message_if_read};
use crate::cli::show::torrent::{show, show_json};
use crate::cli::signals;
use crate::client::{Bind, FileChoice, IpFilterFiles, Session, TorrentOptions};
use crate::event::{Event, Kind, PeersFound, Pieces, Verdict};
use crate::metainfo::{Magnet, Metainfo};
use crate::text::escape;

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
    let is_magnet = |source: &TorrentSource| matches!(source, TorrentSource::Magnet(_));
    if !matches!(config.mode, Mode::Show) || config.sources.iter().any(is_magnet) {
        signals::hold().map_err(no_signals)?;
    }
    let is_url = |source: &TorrentSource| matches!(source, TorrentSource::Url(_));
    // Before anything is opened; a session looks at it itself.
    if config.sources.iter().any(is_url)
        && let Some(Err(reason)) = config.session.bind.as_ref().map(Bind::check)
    {
        let text = format!("{reason}; {}", config.session.remedies.change_address);
        return Err(not_started(config, std::iter::empty(), None, &text));
    }
    // Before anything is fetched. A check, and a look at what is known, call nobody.
    let lists = match config.mode {
        Mode::Transfer => block_lists::load(config)?,
        Mode::Show | Mode::Plan if config.sources.iter().any(is_magnet) => block_lists::load(config)?,
        Mode::Show | Mode::Plan | Mode::Check(_) | Mode::Create(_) => None,
    };
    let (given, unread) = torrents(config)?;
    let given = match config.mode {
        Mode::Transfer | Mode::Create(_) => given,
        // What is known needs no session.
        Mode::Show | Mode::Plan | Mode::Check(_) => {
            given.into_iter().map(|given| kept(config, given)).collect()
        }
    };
    save_given(config, &given)?;
    let exit_code = match &config.mode {
        Mode::Show => {
            let (torrents, unknown) = all_known(config, given, lists, exit)?;
            show_all(config, &torrents).map(|()| unknown)
        }
        Mode::Plan => {
            let (torrents, unknown) = all_known(config, given, lists, exit)?;
            run_plan(config, planned(config, torrents)?).map(|exit| exit.worst(unknown))
        }
        Mode::Check(pieces) => {
            let (torrents, unknown) = known_to_check(config, given)?;
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
            signals::listen_to_stop(at_once(config, exit), stop_it).map_err(|error| {
                let torrents = jobs.iter().map(|job| Given::Torrent(Box::new(job.torrent.clone())));
                not_started(config, torrents, None, &format!("{:#}", no_signals(error).1))
            })?;
            let mut out = json::stdout().map_err(no_stdout)?;
            Ok(run_check(config, &jobs, hooks, &mut out, &stop).worst(unknown))
        }
        Mode::Transfer => transfer::run(config, weighed(config, given)?, lists, exit),
        Mode::Create(options) => run_create(config, options, exit),
    };
    exit_code.map(|exit| exit.worst(unread))
}

/// Reads all torrents before anything is done with one: a script learns of a bad one at once. It stops none of the others; the
/// exit code is what becomes of it. One that is given twice is told and taken once.
fn torrents(config: &Config) -> Result<(Vec<Given>, Exit), Refusal> {
    let mut torrents: Vec<Given> = Vec::new();
    let (mut errors, mut worst) = (Vec::new(), Exit::Complete);
    for source in &config.sources {
        let torrent = match load(source, &config.session) {
            Ok(torrent) => torrent,
            Err((verdict, error)) => {
                let summary = not_begun(source.name(), None, verdict, &format!("{error:#}"));
                let exit =
                    tell_not_begun(config, None, vec![(About::default(), summary)], Exit::from(verdict));
                worst = worst.worst(exit);
                errors.push(error);
                continue;
            }
        };
        match torrents.iter_mut().find(|other| other.info_hash() == torrent.info_hash()) {
            Some(same) => {
                let (from, others) = (torrent.from(), same.from());
                let text = match from == others {
                    true => format!("{from} is given twice; it is taken once"),
                    false => format!("{from} is the same torrent as {others}; it is taken once"),
                };
                warn(config, &text);
                // Of a .torrent it is known what it is.
                if same.metainfo().is_none() && torrent.metainfo().is_some() {
                    *same = torrent;
                }
            }
            None => torrents.push(torrent),
        }
    }
    // Where nothing is left to do, whoever is told of the refusal says the last one.
    let refusal = if torrents.is_empty() { errors.pop() } else { None };
    errors.iter().for_each(|error| message(Mark::Error, &format!("{error:#}"), config.color_stderr));
    refusal.map_or(Ok((torrents, worst)), |error| Err((worst, error)))
}

/// The weight of each file of each torrent that is planned: as a transfer would have it.
fn planned(config: &Config, torrents: Vec<Loaded>) -> Result<Vec<(Loaded, Vec<u32>)>, Refusal> {
    let metainfos: Vec<&Metainfo> = torrents.iter().map(|torrent| &torrent.metainfo).collect();
    let priorities = priorities(config, &metainfos)?;
    let by_link = |(torrent, priorities): (Loaded, Vec<u32>)| {
        let link = torrent.link.as_ref().filter(|_| choice(config).is_none());
        let selected = link.map(|link| Session::selected_files(link, &torrent.metainfo));
        let selected = selected.transpose().map_err(|reason| usage(anyhow!(reason)))?;
        // A link that selects nothing in particular wants all.
        let priorities = selected.filter(|weights| !weights.is_empty()).unwrap_or(priorities);
        Ok((torrent, priorities))
    };
    torrents.into_iter().zip(priorities).map(by_link).collect()
}

/// The weight of each file of each torrent. Says, once, what was changed about names.
fn wanted(config: &Config, torrents: Vec<Loaded>) -> Result<Vec<(Loaded, Vec<u32>)>, Refusal> {
    let metainfos: Vec<&Metainfo> = torrents.iter().map(|torrent| &torrent.metainfo).collect();
    let priorities = priorities(config, &metainfos)?;
    metainfos.iter().for_each(|metainfo| tell_notes(config, &metainfo.name, &metainfo.notes));
    Ok(torrents.into_iter().zip(priorities).collect())
}

/// The weight of each file of each of these torrents.
fn priorities(config: &Config, torrents: &[&Metainfo]) -> Result<Vec<Vec<u32>>, Refusal> {
    match torrents {
        // There is nothing in which a choice could be wrong.
        [] => Ok(Vec::new()),
        _ => chosen(torrents, config.cat.as_ref(), &config.files, &config.weights).map_err(usage),
    }
}

/// The weight of each file of each torrent that is known, and how to choose those of the others. Says, once, what was changed about names.
fn weighed(config: &Config, given: Vec<Given>) -> Result<Vec<(Given, TorrentOptions)>, Refusal> {
    let known: Vec<&Metainfo> = given.iter().filter_map(Given::metainfo).collect();
    let mut priorities = priorities(config, &known)?.into_iter();
    given.iter().for_each(|given| tell_notes(config, &given.name(), given.notes()));
    let options = given.into_iter().map(|given| {
        let options = match &given {
            Given::Torrent(_) => {
                TorrentOptions { priorities: priorities.next().unwrap_or_default(), ..config.torrent.clone() }
            }
            Given::Magnet(_) => TorrentOptions { choice: choice(config), ..config.torrent.clone() },
        };
        (given, options)
    });
    Ok(options.collect())
}

/// The weight of each file of each torrent: that of `--cat`, or what `--files` and `--priority` say.
fn chosen(
    torrents: &[&Metainfo],
    cat: Option<&Selector>,
    files: &[Selector],
    weights: &[Weighted],
) -> anyhow::Result<Vec<Vec<u32>>> {
    match cat {
        Some(cat) => torrents.iter().map(|torrent| select::only(torrent, cat)).collect(),
        None => select::priorities(torrents, files, weights),
    }
}

/// How to choose among the files of a magnet link; `None`: as the link itself says.
fn choice(config: &Config) -> Option<FileChoice> {
    if config.cat.is_none() && config.files.is_empty() && config.weights.is_empty() {
        return None;
    }
    let (cat, files, weights) = (config.cat.clone(), config.files.clone(), config.weights.clone());
    Some(FileChoice::new(move |metainfo| {
        let chosen = chosen(&[metainfo], cat.as_ref(), &files, &weights);
        let mut chosen = chosen.map_err(|error| format!("{error:#}"))?;
        Ok(chosen.pop().unwrap_or_default())
    }))
}

/// Says, once, what was changed about names and what was left out.
pub(super) fn tell_notes(config: &Config, name: &str, notes: &[String]) {
    for note in notes {
        warn(config, &format!("{}: {}", escape(name), escape(note)));
    }
}

/// All torrents; peers are asked what the magnet links are, and nothing else. Those of which that does not come to be known are told, with the exit
/// code of the worst.
fn all_known(
    config: &Config,
    given: Vec<Given>,
    lists: Option<IpFilterFiles>,
    exit: fn(i32) -> !,
) -> Result<(Vec<Loaded>, Exit), Refusal> {
    let magnets: Vec<Given> = given.iter().filter(|given| given.metainfo().is_none()).cloned().collect();
    let (mut fetched, unknown) = match magnets.is_empty() {
        true => (Vec::new(), Exit::Complete),
        false => transfer::fetch_metadata(config, magnets, lists, exit)?,
    };
    let mut known = Vec::new();
    for given in given {
        match given {
            Given::Torrent(torrent) => known.push(*torrent),
            Given::Magnet(magnet) => {
                let place = fetched.iter().position(|metainfo| metainfo.info_hash == magnet.info_hash);
                known.extend(place.map(|place| Loaded {
                    from: "the magnet link".to_owned(),
                    metainfo: Metainfo::clone(&fetched.swap_remove(place)),
                    link: Some(magnet),
                    fetched: None,
                }));
            }
        }
    }
    Ok((known, unknown))
}

/// The torrents that can be checked: a check opens no socket, so nobody is asked what a magnet link is. Those of which that is not known are told, with
/// their exit code.
fn known_to_check(config: &Config, given: Vec<Given>) -> Result<(Vec<Loaded>, Exit), Refusal> {
    let (mut known, mut errors, mut worst) = (Vec::new(), Vec::new(), Exit::Complete);
    for given in given {
        let Given::Torrent(torrent) = given else {
            let name = given.name();
            let text = format!(
                "cannot check {}: it is not known yet what the magnet link is, and a check asks no peers; get the .torrent first, e.g. btget --show LINK --save-torrent some.torrent",
                escape(&name)
            );
            let about = About::given(&given, &config.torrent.basedir);
            let summary = not_begun(name, None, Verdict::Failed, &text);
            worst = worst.worst(tell_not_begun(config, None, vec![(about, summary)], Exit::Failure));
            errors.push(anyhow!(text));
            continue;
        };
        known.push(*torrent);
    }
    // Where nothing is left to check, whoever is told of the refusal says the last one.
    let refusal = if known.is_empty() { errors.pop() } else { None };
    errors.iter().for_each(|error| message(Mark::Error, &format!("{error:#}"), config.color_stderr));
    refusal.map_or(Ok((known, worst)), |error| Err((worst, error)))
}

/// A magnet link of which an earlier run has kept what it is, and a torrent of which it has kept the piece layers, needs no peer for that.
fn kept(config: &Config, given: Given) -> Given {
    let Some(state_dir) = config.torrent.state_dir.as_deref() else { return given };
    let magnet = match given {
        Given::Torrent(mut torrent) => {
            torrent.metainfo = Session::with_kept_layers(state_dir, torrent.metainfo);
            return Given::Torrent(torrent);
        }
        Given::Magnet(magnet) => magnet,
    };
    match Session::kept_metadata(state_dir, &magnet) {
        Some(metainfo) => Given::Torrent(Box::new(Loaded {
            from: "the magnet link".to_owned(),
            metainfo,
            link: Some(magnet),
            fetched: None,
        })),
        None => Given::Magnet(magnet),
    }
}

/// `--save-torrent` of what is known at once.
fn save_given(config: &Config, given: &[Given]) -> Result<(), Refusal> {
    match given.first() {
        Some(Given::Torrent(torrent)) => match &torrent.fetched {
            Some(bytes) => save(config, bytes),
            None => save_torrent(config, &torrent.metainfo),
        },
        Some(Given::Magnet(_)) | None => Ok(()),
    }
}

/// `--save-torrent`, if it is asked for.
pub(super) fn save_torrent(config: &Config, metainfo: &Metainfo) -> Result<(), Refusal> {
    match config.save_torrent {
        Some(_) => save(config, &metainfo.encode()),
        None => Ok(()),
    }
}

fn save(config: &Config, bytes: &[u8]) -> Result<(), Refusal> {
    let Some(path) = &config.save_torrent else { return Ok(()) };
    if path.as_os_str() == "-" {
        return io::stdout().lock().write_all(bytes).map_err(no_stdout);
    }
    fs::write(path, bytes).map_err(|error| {
        let path = path.to_string_lossy();
        (Exit::Failure, anyhow!("cannot write {}: {}; choose another file", escape(&path), cause(&error)))
    })
}

/// The summary of a torrent of which nothing was done.
pub(crate) fn not_begun(name: String, metainfo: Option<&Metainfo>, verdict: Verdict, reason: &str) -> Kind {
    let size = metainfo.map(|metainfo| metainfo.layout.total());
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
        peers_found: PeersFound::default(),
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
    if matches!(config.mode, Mode::Show | Mode::Plan) {
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
pub(crate) fn not_started(
    config: &Config,
    torrents: impl Iterator<Item = Given>,
    event: Option<Kind>,
    text: &str,
) -> Refusal {
    let summary = |given: Given| {
        let about = About::given(&given, &config.torrent.basedir);
        (about, not_begun(given.name(), given.metainfo(), Verdict::Failed, text))
    };
    let summaries = torrents.map(summary).collect();
    (tell_not_begun(config, event, summaries, Exit::Failure), anyhow!(text.to_owned()))
}

fn show_all(config: &Config, torrents: &[Loaded]) -> Result<(), Refusal> {
    let mut out = io::stdout().lock();
    for (number, torrent) in torrents.iter().enumerate() {
        let shown = match config.json {
            _ if config.magnet => writeln!(out, "{}", Magnet::from(&torrent.metainfo)),
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

/// What a second request to stop does: it says so and ends the process, and waits for nobody.
pub(super) fn at_once(config: &Config, exit: fn(i32) -> !) -> impl Fn() + Clone + Send + 'static {
    let code = Exit::Interrupted.code();
    let remedy = match config.mode {
        Mode::Check(_) => "run the check again for a whole report",
        Mode::Create(_) => "nothing was written",
        Mode::Transfer | Mode::Show | Mode::Plan => "the next start checks what was under way",
    };
    let text = format!("exited at once, by a second signal to stop (exit code {code}); {remedy}");
    let (is_below_bars, color) = (config.progress == Progress::Bars, config.color_stderr);
    move || {
        message_if_read(Mark::Error, &text, is_below_bars, color);
        exit(i32::from(code))
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
