//! A child process of a test: its output is kept line by line and can be waited for, it has a
//! deadline for everything, and it is killed, by its own id, when the test lets go of it.

// Other programs are waited for by looking at them again and again, up to a time limit.
#![allow(clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a test waits for anything: far more than it takes on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often something that cannot be waited for is looked at.
const POLL: Duration = Duration::from_millis(20);

/// The last lines of output that are kept.
const MAX_LINES: usize = 20_000;

/// Waits until `look` finds something; panics with `what` (and whatever `story` tells) if it does
/// not come in time.
pub fn wait_until<T>(what: &str, story: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}\n{}", story());
        thread::sleep(POLL);
    }
}

pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    /// Kept open while the process is to live: some children end when it closes.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts it, in an environment without proxies.
    pub fn start(name: &str, command: &mut Command) -> Process {
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            keep_lines(child.stdout.take().unwrap(), lines.clone()),
            keep_lines(child.stderr.take().unwrap(), lines.clone()),
        ];
        let stdin = child.stdin.take();
        Process { name: name.to_owned(), child, lines, readers, _stdin: stdin }
    }

    /// Everything it has said, for people who look for what went wrong.
    pub fn story(&self) -> String {
        let lines = self.lines.lock().unwrap();
        format!("--- {} (process {}) said:\n{}\n---", self.name, self.child.id(), lines.join("\n"))
    }

    /// Waits for a line that holds one of these.
    pub fn wait_for_line(&mut self, wanted: &[&str]) {
        let what = format!("{} to say one of {wanted:?}", self.name);
        let (lines, story) = (self.lines.clone(), self.story_later());
        wait_until(&what, story, || {
            let ended = self.ended();
            let said = lines.lock().unwrap().iter().any(|line| wanted.iter().any(|part| line.contains(part)));
            assert!(said || ended.is_none(), "{what}: it ended\n{}", self.story());
            said.then_some(())
        });
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let story = self.story_later();
        wait_until(&what, story, || self.ended())
    }

    /// Panics if it has ended.
    pub fn assert_alive(&mut self) {
        let ended = self.ended();
        assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.name, self.story());
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("our own child can be signalled until it is waited for");
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The lines it has said so far, of both outputs.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The events that a `btget --json` has told so far.
    pub fn events(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
    }

    /// Waits for an event that is as asked.
    pub fn wait_for_event(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let story = self.story_later();
        wait_until(what, story, || {
            let ended = self.ended();
            let found = self.events().into_iter().find(|event| is_it(event));
            assert!(found.is_some() || ended.is_none(), "{what}: it ended\n{}", self.story());
            found
        })
    }

    /// Waits for its end; gives its exit code, `None` if a signal ended it.
    pub fn wait_for_code(&mut self) -> Option<i32> {
        self.wait().code()
    }

    /// How it has ended, if it has: its exit code, `None` if a signal ended it.
    pub fn code_if_ended(&mut self) -> Option<Option<i32>> {
        self.ended().map(|status| status.code())
    }

    /// Waits for its end and asserts that it succeeded.
    pub fn wait_for_success(&mut self) {
        let status = self.wait();
        assert!(status.success(), "{} ended with {status}\n{}", self.name, self.story());
    }

    /// Its status if it has ended; then all that it said has been read.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap()?;
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Some(status)
    }

    fn story_later(&self) -> impl Fn() -> String + use<> {
        let (name, lines) = (self.name.clone(), self.lines.clone());
        move || format!("--- {name} said:\n{}\n---", lines.lock().unwrap().join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.story());
        }
    }
}

fn keep_lines(source: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n') {
            let Ok(line) = line else { return };
            let mut lines = lines.lock().unwrap();
            if lines.len() == MAX_LINES {
                lines.remove(0);
            }
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    })
}
