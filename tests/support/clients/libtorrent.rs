//! libtorrent, by a small Python program.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::super::fixture::Family;
use super::super::process::Process;
use super::Node;

pub struct Libtorrent {
    process: Process,
}

/// A Python that has libtorrent: the one that tests/run found, its own environment, or the system's.
fn python() -> Option<&'static str> {
    static PYTHON: OnceLock<Option<String>> = OnceLock::new();
    let found = PYTHON.get_or_init(|| {
        let told = std::env::var("BTGET_PYTHON").ok().filter(|python| !python.is_empty());
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients/bin/python3");
        let known = [own, "python3", "/usr/bin/python3"].map(str::to_owned);
        told.into_iter().chain(known).find(|python| has_libtorrent(python))
    });
    found.as_deref()
}

fn has_libtorrent(python: &str) -> bool {
    let mut command = Command::new(python);
    command
        .args(["-c", "import libtorrent"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub fn is_installed() -> bool {
    python().is_some()
}

/// What libtorrent makes or reads: the lines that `ltmake.py` prints with these arguments.
pub fn ltmake(arguments: &[&str]) -> Vec<String> {
    let python = python().expect("only called where libtorrent is installed");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/ltmake.py");
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

impl Libtorrent {
    pub fn start(torrent: &str, family: Family, folder: &Path) -> Libtorrent {
        Libtorrent::start_by(None, torrent, &family.loopback().to_string(), folder, &[])
    }

    /// By a command that runs the one that it is given, at this address, with further options of the program.
    pub fn start_by(
        by: Option<Command>,
        torrent: &str,
        address: &str,
        folder: &Path,
        options: &[&str],
    ) -> Libtorrent {
        let python = python().expect("only called where libtorrent is installed");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/ltnode.py");
        let mut command = by.map_or_else(
            || Command::new(python),
            |mut by| {
                by.arg(python);
                by
            },
        );
        command.arg(script).arg(torrent).arg(folder).arg(address).args(options);
        let mut process = Process::start("libtorrent", &mut command);
        process.wait_for_line(&["listening "]);
        Libtorrent { process }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        let lines = self.process.lines();
        let port = lines.iter().find_map(|line| line.strip_prefix("listening ")).unwrap();
        port.parse().unwrap()
    }
}

impl Deref for Libtorrent {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Libtorrent {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Node for Libtorrent {
    fn wait_until_complete(&mut self) {
        self.process.wait_for_line(&["complete"]);
    }

    fn wait_until_it_has(&mut self, pieces: usize) {
        self.process.wait_for_line(&[&format!("pieces {pieces} ")]);
    }
}
