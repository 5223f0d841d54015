//! `--on-complete` and `--on-error`: programs of the user's that are told how a torrent fares.
//!
//! No shell reads the commands: they were split into words once, and nothing a torrent says becomes
//! part of one. What is to be known comes as the summary event on standard input and as `BTGET_*` in
//! the environment. Hooks run beside the transfer and are waited for at the end.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::cli::handles::as_before;
use crate::cli::jobs::load::{Given, cause};
use crate::cli::jobs::run::no_thread;
use crate::cli::options::config::Config;
use crate::cli::options::values::Program;
use crate::cli::show::json;
use crate::cli::show::json::exit_code;
use crate::event::{Event, Kind};
use crate::ids::InfoHashes;
use crate::metainfo::Metainfo;
use crate::text::escape;

/// How long a hook may take; then it is killed, with what it started.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// How long hooks are waited for after a signal has said stop; then they are told to end (SIGTERM), and nobody waits for that.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a hook has at the least that begins after the stop.
const LEAST: Duration = Duration::from_secs(1);

/// What a hook's failure is called, as shells and timeout(1) number it.
const TIMED_OUT: u8 = 124;
const TERMINATED: u8 = 128 + 15;
const NOT_RUNNABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Occasion {
    /// Everything wanted is there and verified.
    Complete,
    /// A torrent cannot go on, or has ended with another exit code than 0.
    Error,
}

/// Which torrent it is about, as far as that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    info_hash: Option<InfoHashes>,
    environment: Environment,
}

/// What a hook is told by its environment. Paths are bytes.
type Environment = Vec<(&'static str, OsString)>;

impl About {
    /// A torrent whose data are, or are to be, below `basedir`.
    pub(crate) fn torrent(metainfo: &Metainfo, basedir: &Path) -> About {
        let basedir = std::path::absolute(basedir).unwrap_or_else(|_| basedir.to_owned());
        let environment = vec![
            ("BTGET_TORRENT", metainfo.info_hash.to_string().into()),
            ("BTGET_PATH", metainfo.path_below(&basedir).into_os_string()),
            ("BTGET_BASEDIR", basedir.into_os_string()),
        ];
        About { info_hash: Some(metainfo.info_hash), environment }
    }

    /// A torrent of which it is not known yet what it is.
    pub(crate) fn unknown(info_hash: InfoHashes, basedir: &Path) -> About {
        let basedir = std::path::absolute(basedir).unwrap_or_else(|_| basedir.to_owned());
        let environment = vec![
            ("BTGET_TORRENT", info_hash.to_string().into()),
            ("BTGET_BASEDIR", basedir.into_os_string()),
        ];
        About { info_hash: Some(info_hash), environment }
    }

    /// What is given.
    pub(crate) fn given(given: &Given, basedir: &Path) -> About {
        match given.metainfo() {
            Some(metainfo) => About::torrent(metainfo, basedir),
            None => About::unknown(given.info_hash(), basedir),
        }
    }

    /// Its info hash.
    pub(crate) fn info_hash(&self) -> Option<InfoHashes> {
        self.info_hash
    }
}

/// Tells the hooks of a run that a signal has said stop.
///
/// The lock is held to add a hook or to tell all of them: the one is done by whoever runs the torrents, the other by a thread
/// that waits for signals.
#[derive(Clone, Default)]
pub(crate) struct HookStop(Arc<Mutex<StopState>>);

#[derive(Default)]
struct StopState {
    asked: Option<Instant>,
    /// One for each hook of the run.
    running: Vec<SyncSender<HookNews>>,
}

/// What a hook that runs is waited for with.
#[derive(Clone, Copy)]
enum HookNews {
    Ended,
    /// A signal said stop, then.
    Stop(Instant),
}

impl HookStop {
    /// A signal has said stop.
    pub(crate) fn stop(&self) {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked.get_or_insert(now);
        for hook in state.running.drain(..) {
            // One that has ended does not listen any more.
            let _ = hook.try_send(HookNews::Stop(now));
        }
    }

    fn add(&self, hook: SyncSender<HookNews>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.asked {
            Some(at) => drop(hook.try_send(HookNews::Stop(at))),
            None => state.running.push(hook),
        }
    }
}

/// The hooks of a run.
pub(crate) struct Hooks {
    complete: Option<Program>,
    error: Option<Program>,
    stop: HookStop,
    /// At most three for each torrent.
    running: Vec<Receiver<Result<(), HookFailure>>>,
}

/// Why a hook has failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HookFailure {
    /// What becomes btget's exit code.
    pub code: u8,
    /// For people.
    pub text: String,
}

impl Hooks {
    /// As the options say; `stop` tells when a signal says stop.
    pub(crate) fn new(config: &Config, stop: HookStop) -> Hooks {
        Hooks {
            complete: config.on_complete.clone(),
            error: config.on_error.clone(),
            stop,
            running: Vec::new(),
        }
    }

    /// Starts the hook for this occasion, if there is one. `summary` is the event that it is given.
    pub(crate) fn run(&mut self, occasion: Occasion, about: &About, summary: Kind) {
        let (program, option) = match occasion {
            Occasion::Complete => (&self.complete, "--on-complete"),
            Occasion::Error => (&self.error, "--on-error"),
        };
        let Some(program) = program.clone() else { return };
        let environment = environment(occasion, about, &summary);
        let event = json::line(&Event { torrent: about.info_hash, kind: summary }, SystemTime::now());
        let (end, ended) = sync_channel(1);
        let stop = self.stop.clone();
        let run = move || {
            let result = run_program(&program, environment, event, LONGEST, &stop);
            // Somebody waits until the end of the process.
            let _ = end.send(result.map_err(|failure| HookFailure {
                text: format!("{option} {}: {}", escape(&program.text), failure.text),
                ..failure
            }));
        };
        if let Err(error) = thread::Builder::new().name("hook".to_owned()).spawn(run) {
            let text = format!("{option}: {}", no_thread(&error));
            let (end, ended) = sync_channel(1);
            let _ = end.send(Err(HookFailure { code: NOT_RUNNABLE, text }));
            self.running.push(ended);
            return;
        }
        self.running.push(ended);
    }

    /// Waits until all have ended, and gives those that failed.
    pub(crate) fn finish(self) -> Vec<HookFailure> {
        self.running.into_iter().filter_map(|ended| ended.recv().ok()?.err()).collect()
    }
}

fn environment(occasion: Occasion, about: &About, summary: &Kind) -> Environment {
    let mut environment = about.environment.clone();
    let occasion = if occasion == Occasion::Complete { "complete" } else { "error" };
    let known = |bytes: &Option<u64>| bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
    environment.push(("BTGET_EVENT", occasion.into()));
    if let (Some(code), Kind::Summary { name, reason, done, wanted, left, downloaded, uploaded, .. }) =
        (exit_code(summary), summary)
    {
        environment.extend([
            // Escaped: a shell script is likely to print it, and a NUL would not go through.
            ("BTGET_NAME", escape(name).into_owned().into()),
            ("BTGET_EXIT_CODE", code.to_string().into()),
            ("BTGET_REASON", escape(reason).into_owned().into()),
            ("BTGET_DONE", done.to_string().into()),
            ("BTGET_WANTED", known(wanted).into()),
            ("BTGET_LEFT", known(left).into()),
            ("BTGET_DOWNLOADED", downloaded.to_string().into()),
            ("BTGET_UPLOADED", uploaded.to_string().into()),
        ]);
    }
    environment
}

fn run_program(
    program: &Program,
    environment: Environment,
    input: Vec<u8>,
    longest: Duration,
    stop: &HookStop,
) -> Result<(), HookFailure> {
    // Stdout carries what was asked for and nothing else, so what a hook says goes to stderr.
    let stderr = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
    let spawn = || {
        Command::new(&program.words[0])
            .args(&program.words[1..])
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(stderr()?)
            // A group of its own: the terminal's Ctrl-C is ours, and so is killing all of it.
            .process_group(0)
            .spawn()
    };
    let mut child = spawn().map_err(|error| HookFailure {
        code: if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE },
        text: format!("cannot be started: {}", cause(&error)),
    })?;
    as_before(&child);
    if let Some(mut stdin) = child.stdin.take() {
        // On a thread of its own: a hook need not read. One that has ended did not want it, and without a thread it
        // learns what the environment says.
        let write = move || drop(stdin.write_all(&input));
        let _ = thread::Builder::new().name("hook-input".to_owned()).spawn(write);
    }
    judge(wait(child, longest, stop), longest)
}

/// How a hook came to its end.
enum HookEnd {
    Exited(ExitStatus),
    /// It took too long, and was killed.
    Killed,
    /// It was told to end, because btget was.
    Stopped,
}

fn wait(mut child: Child, longest: Duration, stop: &HookStop) -> io::Result<HookEnd> {
    let group = Pid::from_child(&child);
    // Two may come: a stop, and the end.
    let (news, told) = sync_channel(2);
    stop.add(news.clone());
    let wait = move || {
        let status = child.wait();
        // Nobody listens any more if it took too long.
        let _ = news.try_send(HookNews::Ended);
        status
    };
    let began = Instant::now();
    let wait = match thread::Builder::new().name("hook-wait".to_owned()).spawn(wait) {
        Ok(wait) => wait,
        Err(error) => {
            // The child went with the thread; it is not to run on unseen.
            let _ = kill_process_group(group, Signal::KILL);
            return Err(error);
        }
    };
    let (mut deadline, mut signal) = (began + longest, Signal::KILL);
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(HookNews::Stop(at)) => {
                deadline = deadline.min((at + FAREWELL).max(began + LEAST));
                signal = Signal::TERM;
            }
            Ok(HookNews::Ended) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                // It has not been waited for, so the number is still its own.
                let _ = kill_process_group(group, signal);
                if signal == Signal::TERM {
                    return Ok(HookEnd::Stopped);
                }
                let _ = wait.join().expect("waiting does not panic")?;
                return Ok(HookEnd::Killed);
            }
        }
    }
    wait.join().expect("waiting does not panic").map(HookEnd::Exited)
}

fn judge(end: io::Result<HookEnd>, longest: Duration) -> Result<(), HookFailure> {
    let failure = |code, text| Err(HookFailure { code, text });
    match end {
        Err(error) => failure(NOT_RUNNABLE, format!("cannot be waited for: {}", cause(&error))),
        Ok(HookEnd::Killed) => failure(TIMED_OUT, format!("killed after {} s", longest.as_secs_f32())),
        Ok(HookEnd::Stopped) => failure(TERMINATED, "told to end, because btget was".to_owned()),
        Ok(HookEnd::Exited(status)) if status.success() => Ok(()),
        Ok(HookEnd::Exited(status)) => match (status.code(), status.signal()) {
            (Some(code), _) => failure(code.clamp(1, 255) as u8, format!("exit code {code}")),
            (None, Some(signal)) => failure(128 + signal as u8, format!("killed by signal {signal}")),
            (None, None) => failure(NOT_RUNNABLE, "ended in no known way".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::values;

    fn ran(command: &str, longest: Duration) -> Result<(), u8> {
        let program = values::program(command).unwrap();
        let stop = HookStop::default();
        run_program(&program, Vec::new(), b"{}\n".to_vec(), longest, &stop).map_err(|failure| failure.code)
    }

    #[test]
    fn a_hooks_failure_is_its_exit_code_or_what_a_shell_would_call_it() {
        let minute = Duration::from_secs(60);
        for (command, outcome) in [
            ("true", Ok(())),
            ("sh -c 'exit 3'", Err(3)),
            ("sh -c 'kill -9 $$'", Err(137)),
            ("/no/such/program", Err(127)),
            ("/", Err(126)),
            ("sh -c 'read line && test \"$line\" = \"{}\"'", Ok(())),
        ] {
            assert_eq!(ran(command, minute), outcome, "{command}");
        }
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed_with_what_it_started() {
        assert_eq!(ran("sh -c 'sleep 1000 & wait'", Duration::from_millis(50)), Err(TIMED_OUT));
    }

    #[test]
    fn a_hook_is_told_to_end_some_time_after_a_signal_has_said_stop() {
        let told = tempfile::NamedTempFile::new().unwrap();
        let script = "trap 'echo told > \"$0\"' TERM; while ! test -s \"$0\"; do sleep 0.01; done";
        let words = ["sh", "-c", script, told.path().to_str().unwrap()].map(str::to_owned);
        let program = Program { text: "a script".to_owned(), words: words.into() };
        let stop = HookStop::default();
        stop.0.lock().unwrap().asked = Some(Instant::now());
        let end = run_program(&program, Vec::new(), Vec::new(), LONGEST, &stop);
        assert_eq!(end.unwrap_err().code, TERMINATED);
        while std::fs::read(told.path()).unwrap().is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_hook_that_ends_in_time_after_a_stop_is_judged_as_any() {
        let program = values::program("sh -c 'exit 3'").unwrap();
        let stop = HookStop::default();
        stop.stop();
        let end = run_program(&program, Vec::new(), Vec::new(), LONGEST, &stop);
        assert_eq!(end.unwrap_err().code, 3);
    }

    #[test]
    fn a_hook_need_not_read_however_long_the_event() {
        let program = values::program("true").unwrap();
        let stop = HookStop::default();
        assert_eq!(run_program(&program, Vec::new(), vec![b' '; 1 << 20], LONGEST, &stop), Ok(()));
    }
}
