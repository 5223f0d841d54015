//! Download and seed: a session, its events and the signals, until every torrent has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::cli::Exit;
use crate::cli::jobs::block_lists;
use crate::cli::jobs::cat::{Cat, CatEnd};
use crate::cli::jobs::folder::about_folder;
use crate::cli::jobs::hooks::{About, HookStop, Hooks, Occasion};
use crate::cli::jobs::load::Given;
use crate::cli::jobs::run::{Refusal, at_once, no_signals, no_thread, not_begun, not_started, save_torrent};
use crate::cli::jobs::wakes::{MAX_WAITING, Wake, changes_phase, subscribe};
use crate::cli::options::config::{Config, Verbosity};
use crate::cli::show::json::message;
use crate::cli::show::json::{self, EventWriter, Stream};
use crate::cli::show::say::{Mark, mark, outcome};
use crate::cli::show::screen::{Screen, message as message_to_people};
use crate::cli::signals::{self, Signal};
use crate::client::{Client, Error, IpFilterFiles, Session, SessionOptions, Status, TorrentOptions};
use crate::event::Verdict;
use crate::event::{Event, Kind, State};
use crate::ids::InfoHashes;
use crate::metainfo::Metainfo;
use crate::text::count;
use crate::text::escape;

/// One torrent of the session.
struct TorrentJob {
    client: Client,
    info_hash: InfoHashes,
    name: String,
    /// Seconds from its start until everything wanted was there.
    completed: Option<f64>,
    /// Where its data are, escaped; empty while that is not known.
    path: String,
    /// It is known what it is, and that has been told.
    is_described: bool,
    /// What a magnet link turned out to be.
    metainfo: Option<Arc<Metainfo>>,
    /// The last error of its disk that was said.
    error: Option<String>,
    /// Once its summary has come.
    exit: Option<Exit>,
    about: About,
    began: Instant,
    /// The hook for what is complete has been run.
    announced: bool,
    /// What the hook for errors was last run for.
    lamented: Option<Verdict>,
}

/// Runs the torrents, each by its options, until all have ended or a signal says so.
pub(crate) fn run(
    config: &Config,
    torrents: Vec<(Given, TorrentOptions)>,
    lists: Option<IpFilterFiles>,
    exit: fn(i32) -> !,
) -> Result<Exit, Refusal> {
    run_all(config, torrents, lists, exit).map(|(exit, _)| exit)
}

/// Asks peers what these magnet links are, and for nothing else: gives what came to be known, and the exit code of the worst of the others.
pub(crate) fn fetch_metadata(
    config: &Config,
    magnets: Vec<Given>,
    lists: Option<IpFilterFiles>,
    exit: fn(i32) -> !,
) -> Result<(Vec<Arc<Metainfo>>, Exit), Refusal> {
    let options = TorrentOptions { metadata_only: true, ..config.torrent.clone() };
    // What is made of them is told elsewhere.
    let config = Config {
        json: None,
        cat: None,
        on_complete: None,
        on_error: None,
        torrent: options,
        ..config.clone()
    };
    let torrents = magnets.into_iter().map(|magnet| (magnet, config.torrent.clone())).collect();
    let (exit, torrents) = run_all(&config, torrents, lists, exit)?;
    Ok((torrents.into_iter().filter_map(|torrent| torrent.metainfo).collect(), exit))
}

fn run_all(
    config: &Config,
    torrents: Vec<(Given, TorrentOptions)>,
    lists: Option<IpFilterFiles>,
    exit: fn(i32) -> !,
) -> Result<(Exit, Vec<TorrentJob>), Refusal> {
    let (wake, wakes) = sync_channel(MAX_WAITING);
    let (signalled, hook_stop) = (wake.clone(), HookStop::default());
    let hooks = Hooks::new(config, hook_stop.clone());
    let on_signal = move |signal| {
        if signal == Signal::Stop {
            hook_stop.stop();
        }
        // Nobody listens any more only once the outcome is known.
        let _ = signalled.send(Wake::Signal(signal));
    };
    let refused = |(_, error): Refusal| {
        let torrents = torrents.iter().map(|(given, _)| given.clone());
        not_started(config, torrents, None, &format!("{error:#}"))
    };
    signals::listen(at_once(config, exit), on_signal).map_err(|error| refused(no_signals(error)))?;
    if config.verbosity > Verbosity::Quiet && !config.torrent.metadata_only {
        let known: Vec<&Metainfo> = torrents.iter().filter_map(|(given, _)| given.metainfo()).collect();
        let made = if known.is_empty() { "made once the metadata are there" } else { "made" };
        let said = about_folder(&config.torrent.basedir, known.into_iter(), made);
        said.iter().for_each(|text| message_to_people(Mark::Plain, text, config.color_stderr));
    }

    let ip_filter = lists.as_ref().map(IpFilterFiles::filter);
    let options = SessionOptions { ip_filter, ..config.session.clone() };
    let session = Session::start(options).map_err(|error| no_session(config, &torrents, error))?;
    let writer = subscribe(config, &session, wake.clone()).map_err(refused)?;
    let running = add(config, &session, torrents)?;
    let screen = Screen::new(config, running.len(), Instant::now());
    let cat = Cat::new(config.cat.is_some());
    let numbers = running.iter().enumerate().map(|(number, torrent)| (torrent.info_hash, number)).collect();
    let mut transfer = TransferJob {
        config,
        screen,
        torrents: running,
        numbers,
        wake,
        wakes,
        hooks,
        failed: Exit::Complete,
        cat,
        lists,
    };
    transfer.describe_all();
    transfer.begin_cat();
    transfer.until_over(&session);
    session.begin_shutdown();
    transfer.until_told();
    session.shutdown();
    transfer.screen.clear();
    let unsaid = writer.map_or(0, EventWriter::finish);
    if unsaid > 0 {
        let text = format!("{} could not be written to standard output", count(unsaid, "event"));
        transfer.say(Mark::Warning, &text);
    }
    transfer.tell_lost();
    transfer.tell_unwritten();
    let exit = transfer.exit();
    let failures = transfer.hooks.finish();
    failures.iter().for_each(|failure| transfer.screen.say(Mark::Error, &failure.text));
    let exit = failures.iter().fold(exit, |exit, failure| exit.worst(Exit::Hook(failure.code)));
    Ok((exit, transfer.torrents))
}

fn failure(error: Error) -> Refusal {
    (Exit::Failure, error.into())
}

/// Adds the torrents to the session; their checks begin at once.
fn add(
    config: &Config,
    session: &Session,
    torrents: Vec<(Given, TorrentOptions)>,
) -> Result<Vec<TorrentJob>, Refusal> {
    let start = |(given, options): (Given, TorrentOptions)| {
        let (info_hash, name) = (given.info_hash(), escape(&given.name()).into_owned());
        let about = About::given(&given, &config.torrent.basedir);
        let path = given.metainfo().map_or_else(String::new, |metainfo| path(config, metainfo));
        let is_described = given.metainfo().is_some();
        let client = match given {
            Given::Torrent(torrent) => session.add(torrent.metainfo, options),
            Given::Magnet(magnet) => session.add_magnet(*magnet, options),
        };
        Ok(TorrentJob {
            client: client.map_err(failure)?,
            info_hash,
            name,
            path,
            is_described,
            metainfo: None,
            completed: None,
            error: None,
            exit: None,
            about,
            began: Instant::now(),
            announced: false,
            lamented: None,
        })
    };
    torrents.into_iter().map(start).collect()
}

/// There is no session to say so.
fn no_session(config: &Config, torrents: &[(Given, TorrentOptions)], error: Error) -> Refusal {
    let text = error.to_string();
    let event = match error {
        Error::Start { event, .. } => event.map(|kind| *kind),
        _ => None,
    };
    not_started(config, torrents.iter().map(|(given, _)| given.clone()), event, &text)
}

/// Where its data are, escaped.
fn path(config: &Config, metainfo: &Metainfo) -> String {
    escape(&metainfo.path_below(&config.torrent.basedir).to_string_lossy()).into_owned()
}

struct TransferJob<'a> {
    config: &'a Config,
    screen: Screen,
    torrents: Vec<TorrentJob>,
    /// Where in `torrents` which one stands.
    numbers: HashMap<InfoHashes, usize>,
    wake: SyncSender<Wake>,
    wakes: Receiver<Wake>,
    hooks: Hooks,
    /// What went wrong beside the torrents.
    failed: Exit,
    cat: Cat,
    lists: Option<IpFilterFiles>,
}

impl TransferJob<'_> {
    /// Until every torrent has ended and what `--cat` asks for is written, or a signal says stop, or the session is gone.
    fn until_over(&mut self, session: &Session) {
        while self.cat.is_writing() || self.torrents.iter().any(|torrent| torrent.exit.is_none()) {
            match self.next(None) {
                Some(Wake::Signal(Signal::Stop)) => {
                    let text = "stopping; Ctrl-C again exits at once; the same command goes on from here";
                    self.say(Mark::Plain, text);
                    return;
                }
                // An error means that the session has ended, and that comes as an event.
                Some(Wake::Signal(Signal::Pause)) => drop(session.pause_all()),
                Some(Wake::Signal(Signal::Start)) => {
                    self.renew_lists(session);
                    drop(session.start_all());
                }
                Some(Wake::Event(event)) => self.on_event(&event),
                Some(Wake::Cat(end)) => {
                    self.on_cat_end(end);
                    // Where the torrent has stopped it, that says why.
                    if self.failed != Exit::Complete || !self.cat.is_unwritten() {
                        return;
                    }
                }
                Some(Wake::Ended) => return,
                None => {}
            }
        }
    }

    /// Begins to write what `--cat` asks for, once it is known which file that is.
    fn begin_cat(&mut self) {
        let Some(client) = self.torrents.first().map(|torrent| torrent.client.clone()) else { return };
        let wake = self.wake.clone();
        // Nobody listens any more only once the outcome is known.
        if let Err(error) = self.cat.begin(client, move |end| drop(wake.send(Wake::Cat(end)))) {
            self.on_cat_end(CatEnd::Failed(Exit::Failure, no_thread(&error)));
        }
    }

    fn on_cat_end(&mut self, end: CatEnd) {
        if let Some((exit, text)) = self.cat.on_end(end) {
            self.screen.say(Mark::Error, &text);
            self.failed = self.failed.worst(exit);
        }
    }

    /// Says so if all is there, and not all of it is written.
    fn tell_unwritten(&mut self) {
        let is_there = self.torrents.iter().all(|torrent| torrent.exit == Some(Exit::Complete));
        if is_there && self.failed == Exit::Complete && self.cat.is_unwritten() {
            self.failed = Exit::Incomplete;
            let code = self.failed.code();
            let text = format!("stopped before all was written to standard output (exit code {code})");
            self.screen.say(Mark::Error, &text);
        }
    }

    /// The session is stopping: until every torrent has told how it ended. The session itself sees
    /// to it that this takes 5 s at the most.
    fn until_told(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.torrents.iter().any(|torrent| torrent.exit.is_none()) && Instant::now() < deadline {
            match self.next(Some(deadline)) {
                Some(Wake::Event(event)) => self.on_event(&event),
                Some(Wake::Cat(end)) => self.on_cat_end(end),
                Some(Wake::Ended) => return,
                Some(Wake::Signal(_)) | None => {}
            }
        }
    }

    /// Draws what is due and waits for what comes next; `None`: time to draw again, or `deadline`.
    fn next(&mut self, deadline: Option<Instant>) -> Option<Wake> {
        let now = Instant::now();
        let torrents = &self.torrents;
        self.screen.draw(now, |number| {
            let torrent = &torrents[number];
            if torrent.exit.is_none() { torrent.client.status() } else { None }
        });
        let until = match (self.screen.deadline(), deadline) {
            (Some(a), Some(b)) => a.min(b),
            (Some(one), None) | (None, Some(one)) => one,
            // Nothing is drawn: only events and signals count.
            (None, None) => return self.wakes.recv().ok(),
        };
        match self.wakes.recv_timeout(until.saturating_duration_since(now)) {
            Ok(wake) => Some(wake),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Wake::Ended),
        }
    }

    /// Block lists that have changed hold from now on.
    fn renew_lists(&mut self, session: &Session) {
        let lists = self.lists.as_mut();
        let said = lists.map(|lists| block_lists::renew(lists, session, self.config));
        said.into_iter().flatten().for_each(|(mark, text)| self.screen.say(mark, &text));
    }

    fn on_event(&mut self, event: &Event) {
        let number = event.torrent.and_then(|torrent| self.numbers.get(&torrent)).copied();
        if self.cat.is_closed() {
            // Who has read enough wants to hear nothing of the rest.
            if let (Kind::Summary { .. }, Some(number)) = (&event.kind, number) {
                self.torrents[number].exit = Some(Exit::Complete);
            }
            return;
        }
        let said = match (&event.kind, number) {
            // The last line says it.
            (Kind::Complete { .. }, _) => self.config.torrent.no_seed,
            // The error that was the reason has said it.
            (Kind::StateChanged { to: State::Paused, reason, .. }, Some(number)) => {
                let status = self.torrents[number].client.status();
                status.and_then(|status| status.error).as_ref() == Some(reason)
            }
            _ => false,
        };
        if let (Some(mark), false) = (mark(&event.kind, self.config.verbosity), said) {
            self.screen.say(mark, &self.with_name(number, message(&event.kind)));
        }
        let Some(number) = number else { return };
        if let Kind::MetadataReceived { .. } = event.kind {
            self.describe(number);
            self.begin_cat();
        }
        self.run_hooks(number, &event.kind);
        let torrent = &mut self.torrents[number];
        match &event.kind {
            Kind::Complete { elapsed, .. } => torrent.completed = Some(*elapsed),
            Kind::FileError { reason, .. } => torrent.error = Some(reason.clone()),
            Kind::Summary { verdict, reason, .. } => {
                torrent.exit = Some(Exit::from(*verdict));
                // What was asked for is said to be there, or why it is not.
                let is_done = self.config.torrent.metadata_only && *verdict == Verdict::Complete;
                if is_done || self.cat.has_failed() {
                    return self.screen.hide(number);
                }
                let is_said = torrent.error.as_ref() == Some(reason);
                if let Some(line) = outcome(&event.kind, &torrent.path, torrent.completed, is_said) {
                    // Who is quiet about success is not about the rest, unless an error has been said.
                    let is_news = *verdict != Verdict::Complete && !is_said;
                    self.screen.finish(number, &line, is_news);
                }
                return;
            }
            _ => {}
        }
        if changes_phase(&event.kind) {
            let client = &self.torrents[number].client;
            self.screen.phase_changed(number, Instant::now(), || client.status());
        }
    }

    /// Magnet links of which an earlier run has kept what they are.
    fn describe_all(&mut self) {
        (0..self.torrents.len()).for_each(|number| self.describe(number));
    }

    /// It may be known now what a magnet link is.
    fn describe(&mut self, number: usize) {
        let torrent = &mut self.torrents[number];
        let metainfo = if torrent.is_described { None } else { torrent.client.metainfo() };
        let Some(metainfo) = metainfo else { return };
        torrent.is_described = true;
        torrent.name = escape(&metainfo.name).into_owned();
        torrent.path = path(self.config, &metainfo);
        torrent.about = About::torrent(&metainfo, &self.config.torrent.basedir);
        torrent.metainfo = Some(metainfo.clone());
        for note in &metainfo.notes {
            self.say(Mark::Warning, &format!("{}: {}", escape(&metainfo.name), escape(note)));
        }
        if let Err((exit, error)) = save_torrent(self.config, &metainfo) {
            self.screen.say(Mark::Error, &format!("{error:#}"));
            self.failed = self.failed.worst(exit);
        }
    }

    fn run_hooks(&mut self, number: usize, kind: &Kind) {
        let torrent = &mut self.torrents[number];
        let elapsed = torrent.began.elapsed().as_secs_f64();
        let summary = match kind {
            Kind::Summary { .. } => kind.clone(),
            Kind::Complete { .. } | Kind::HashcheckFinished { .. } | Kind::FileError { .. } => {
                let Some(status) = torrent.client.status() else { return };
                let reason = match &status.error {
                    Some(error) => error.clone(),
                    None if status.left == 0 => "complete".to_owned(),
                    // The check was not the end of it.
                    None => return,
                };
                status.summary(status.verdict, reason, elapsed)
            }
            _ => return,
        };
        let Kind::Summary { verdict, .. } = summary else { return };
        if verdict == Verdict::Complete && !std::mem::replace(&mut torrent.announced, true) {
            self.hooks.run(Occasion::Complete, &torrent.about, summary);
        } else if verdict != Verdict::Complete && torrent.lamented.replace(verdict) != Some(verdict) {
            self.hooks.run(Occasion::Error, &torrent.about, summary);
        }
    }

    /// Among several torrents, a message says which it is about, unless it does already.
    fn with_name(&self, number: Option<usize>, message: String) -> String {
        match number.map(|number| &self.torrents[number].name) {
            Some(name) if self.torrents.len() > 1 && !message.contains(name.as_str()) => {
                format!("{name}: {message}")
            }
            _ => message,
        }
    }

    /// Torrents that nothing was told of when the session ended: it has ended by an error of its own.
    fn tell_lost(&mut self) {
        let reason = "an error in this program has ended the session; report it, and start again";
        let lost: Vec<&mut TorrentJob> =
            self.torrents.iter_mut().filter(|torrent| torrent.exit.is_none()).collect();
        if lost.is_empty() {
            return;
        }
        self.screen.say(Mark::Error, reason);
        let stdout = self.config.json.and_then(|least| Some(Stream::new(json::stdout().ok()?, least)));
        let mut stream = stdout;
        for torrent in lost {
            torrent.exit = Some(Exit::Failure);
            let elapsed = torrent.began.elapsed().as_secs_f64();
            let summary = match torrent.client.status() {
                Some(status) => status.summary(Verdict::Failed, reason.to_owned(), elapsed),
                None => not_begun(torrent.name.clone(), None, Verdict::Failed, reason),
            };
            if let Some(stream) = &mut stream {
                stream.write(&Event { torrent: Some(torrent.info_hash), kind: summary.clone() });
            }
            self.hooks.run(Occasion::Error, &torrent.about, summary);
        }
    }

    fn say(&self, mark: Mark, text: &str) {
        if self.config.verbosity > Verbosity::Quiet {
            self.screen.say(mark, text);
        }
    }

    /// The most serious of all. A torrent that could not tell is judged by what is there.
    fn exit(&self) -> Exit {
        if self.cat.is_closed() {
            return self.failed;
        }
        let one = |torrent: &TorrentJob| {
            torrent.exit.unwrap_or_else(|| match torrent.client.status() {
                Some(Status { ended: Some((verdict, _)), .. }) => Exit::from(verdict),
                Some(Status { left: 0, .. }) => Exit::Complete,
                Some(_) => Exit::Incomplete,
                None => Exit::Failure,
            })
        };
        self.torrents.iter().map(one).fold(self.failed, Exit::worst)
    }
}
