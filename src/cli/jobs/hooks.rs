//! `--on-complete` and `--on-error`: programs of the user's that are told how a torrent fares.
//!
//! No shell reads the commands: they were split into words once, and nothing a torrent says becomes
//! part of one. What is to be known comes as the summary event on standard input and as `BTGET_*` in
//! the environment. Hooks run beside the transfer and are waited for at the end.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::cli::jobs::load::cause;
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

/// What a hook's failure is called, as shells and timeout(1) number it.
const TIMED_OUT: u8 = 124;
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
    environment: Vec<(&'static str, String)>,
}

impl About {
    /// A torrent whose data are, or are to be, below `basedir`.
    pub(crate) fn torrent(metainfo: &Metainfo, basedir: &Path) -> About {
        let basedir = std::path::absolute(basedir).unwrap_or_else(|_| basedir.to_owned());
        // The torrent's own folder, or its one file.
        let first = metainfo.files.first().map_or("", |file| file.path.as_ref());
        let top = first.split('/').next().unwrap_or_default();
        let environment = vec![
            ("BTGET_TORRENT", metainfo.info_hash.to_string()),
            ("BTGET_PATH", basedir.join(top).display().to_string()),
            ("BTGET_BASEDIR", basedir.display().to_string()),
        ];
        About { info_hash: Some(metainfo.info_hash), environment }
    }

    /// Its info hash.
    pub(crate) fn info_hash(&self) -> Option<InfoHashes> {
        self.info_hash
    }
}

/// The hooks of a run.
pub(crate) struct Hooks {
    complete: Option<Program>,
    error: Option<Program>,
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
    /// As the options say.
    pub(crate) fn new(config: &Config) -> Hooks {
        Hooks { complete: config.on_complete.clone(), error: config.on_error.clone(), running: Vec::new() }
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
        let run = move || {
            let result = run_program(&program, environment, event, LONGEST);
            // Somebody waits until the end of the process.
            let _ = end.send(result.map_err(|failure| HookFailure {
                text: format!("{option} {}: {}", escape(&program.text), failure.text),
                ..failure
            }));
        };
        if let Err(error) = thread::Builder::new().name("hook".to_owned()).spawn(run) {
            let text = format!("{option}: cannot start a thread: {}", cause(&error));
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

fn environment(occasion: Occasion, about: &About, summary: &Kind) -> Vec<(&'static str, String)> {
    let mut environment = about.environment.clone();
    let occasion = if occasion == Occasion::Complete { "complete" } else { "error" };
    environment.push(("BTGET_EVENT", occasion.to_owned()));
    if let (Some(code), Kind::Summary { name, reason, done, wanted, left, downloaded, uploaded, .. }) =
        (exit_code(summary), summary)
    {
        environment.extend([
            // Escaped: a shell script is likely to print it, and a NUL would not go through.
            ("BTGET_NAME", escape(name).into_owned()),
            ("BTGET_EXIT_CODE", code.to_string()),
            ("BTGET_REASON", escape(reason).into_owned()),
            ("BTGET_DONE", done.to_string()),
            ("BTGET_WANTED", wanted.to_string()),
            ("BTGET_LEFT", left.to_string()),
            ("BTGET_DOWNLOADED", downloaded.to_string()),
            ("BTGET_UPLOADED", uploaded.to_string()),
        ]);
    }
    environment
}

fn run_program(
    program: &Program,
    environment: Vec<(&'static str, String)>,
    input: Vec<u8>,
    longest: Duration,
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
    if let Some(mut stdin) = child.stdin.take() {
        // On a thread of its own: a hook need not read. One that has ended did not want it.
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    judge(wait(child, longest), longest)
}

/// `None`: it took too long and was killed.
fn wait(mut child: Child, longest: Duration) -> io::Result<Option<ExitStatus>> {
    let group = Pid::from_child(&child);
    let (end, ended) = sync_channel(1);
    let wait = thread::spawn(move || {
        let status = child.wait();
        // Nobody listens any more if it took too long.
        let _ = end.send(());
        status
    });
    let in_time = ended.recv_timeout(longest) != Err(RecvTimeoutError::Timeout);
    if !in_time {
        // It has not been waited for, so the number is still its own.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = wait.join().expect("waiting does not panic")?;
    Ok(in_time.then_some(status))
}

fn judge(status: io::Result<Option<ExitStatus>>, longest: Duration) -> Result<(), HookFailure> {
    let failure = |code, text| Err(HookFailure { code, text });
    match status {
        Err(error) => failure(NOT_RUNNABLE, format!("cannot be waited for: {}", cause(&error))),
        Ok(None) => failure(TIMED_OUT, format!("killed after {} s", longest.as_secs_f32())),
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => match (status.code(), status.signal()) {
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
        run_program(&program, Vec::new(), b"{}\n".to_vec(), longest).map_err(|failure| failure.code)
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
    fn a_hook_need_not_read_however_long_the_event() {
        let program = values::program("true").unwrap();
        assert_eq!(run_program(&program, Vec::new(), vec![b' '; 1 << 20], LONGEST), Ok(()));
    }
}
