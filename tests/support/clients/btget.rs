//! btget itself, as a user runs it.

use std::ffi::OsStr;
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
        Btget::start_by(Btget::command(), fixture, family, folder, options)
    }

    /// By a command that runs btget with the arguments that it is given: see [`Btget::program`].
    pub fn start_by(
        mut command: Command,
        fixture: &Fixture,
        family: Family,
        folder: &Path,
        options: &[&str],
    ) -> Btget {
        command.arg(fixture.torrent());
        Btget::run(Btget::on_loopback(&mut command, family, folder).args(options))
    }

    /// With a magnet link instead.
    pub fn magnet(link: &str, folder: &Path, options: &[&str]) -> Btget {
        let mut command = Btget::command();
        command.arg(link);
        Btget::run(Btget::on_loopback(&mut command, Family::V4, folder).args(options))
    }

    /// Keeps it to loopback, this folder and no progress.
    pub fn on_loopback<'c>(command: &'c mut Command, family: Family, folder: &Path) -> &'c mut Command {
        command.arg("--basedir").arg(folder).arg("--state-dir").arg(folder.join("state")).args([
            "--port",
            "0",
            "--progress",
            "none",
            "--bind",
            &family.loopback().to_string(),
        ])
    }

    /// Over IPv4 and with all events.
    pub fn tell(fixture: &Fixture, folder: &Path, options: &[&str]) -> Btget {
        Btget::start(fixture, Family::V4, folder, &[&["--json"], options].concat())
    }

    /// With these arguments and nothing else.
    pub fn with(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Btget {
        Btget::run(Btget::command().args(arguments))
    }

    /// Runs a command that ends in running btget: see [`Btget::program`].
    pub fn run(command: &mut Command) -> Btget {
        Btget { process: Process::start("btget", command) }
    }

    /// To be given arguments. Those who have the same torrent in other tests are not found, and peers are called by TCP.
    pub fn command() -> Command {
        let mut command = Btget::command_with_utp();
        command.args(["--transport", "tcp"]);
        command
    }

    /// The same, by which transports is left to be said.
    pub fn command_with_utp() -> Command {
        let mut command = Command::new(Btget::program());
        command.args(["--no-lsd", "--no-dht", "--no-port-map"]);
        command
    }

    /// The same, as a node of a DHT: which nodes it begins with has to be said.
    pub fn command_with_dht() -> Command {
        let mut command = Command::new(Btget::program());
        command.args(["--no-lsd", "--no-port-map"]);
        command
    }

    /// The binary.
    pub fn program() -> &'static str {
        env!("CARGO_BIN_EXE_btget")
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
