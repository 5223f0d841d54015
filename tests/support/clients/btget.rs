//! btget itself, as a user runs it.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;

use super::super::fixture::{Family, Fixture};
use super::super::process::Process;

pub struct Btget {
    process: Process,
}

impl Btget {
    /// Starts it on `folder`, with these options besides those that keep it to loopback.
    pub fn start(fixture: &Fixture, family: Family, folder: &Path, options: &[&str]) -> Btget {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
        command
            .arg(fixture.torrent())
            .arg("--basedir")
            .arg(folder)
            .arg("--state-dir")
            .arg(folder.join("state"))
            .args(["--port", "0", "--progress", "none", "--bind", &family.loopback().to_string()])
            .args(options);
        Btget { process: Process::start("btget", &mut command) }
    }
}

impl Deref for Btget {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Btget {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
