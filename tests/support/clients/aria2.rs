//! aria2c, by its command line.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::super::fixture::Family;
use super::super::process::Process;
use super::{Node, free_port};

pub struct Aria2 {
    process: Process,
    /// What says that it has everything: of a magnet link, the metadata are a download of their own.
    done: &'static [&'static str],
}

/// One that finds peers by a DHT alone, which it enters by this node.
pub fn with_dht(link: &str, folder: &Path, node: SocketAddr) -> Command {
    let mut command = command(link, Family::V4, folder);
    command
        .args(["--enable-dht=true", &format!("--dht-entry-point={node}")])
        .arg(format!("--dht-listen-port={}", free_port()))
        .arg(format!("--dht-file-path={}", folder.join("dht.dat").display()));
    command
}

impl Aria2 {
    pub fn start(torrent: &str, family: Family, folder: &Path) -> Aria2 {
        let done: &[&str] =
            if torrent.starts_with("magnet:") { &["SEED("] } else { &["SEED(", "Download complete"] };
        Aria2 { process: Process::start("aria2c", &mut command(torrent, family, folder)), done }
    }
}

/// One that takes part in this torrent, with no more than it needs.
pub fn command(torrent: &str, family: Family, folder: &Path) -> Command {
    let mut command = Command::new("aria2c");
    command
        .arg("--no-conf")
        .arg(format!("--dir={}", folder.display()))
        .arg(format!("--interface={}", family.loopback()))
        .arg(format!("--disable-ipv6={}", family == Family::V4))
        .arg(format!("--listen-port={}", free_port()))
        .arg(format!("--stop-with-process={}", std::process::id()))
        .args(["--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"])
        .args(["--enable-peer-exchange=false", "--async-dns=false"])
        // What lies there is checked, then seeded for ever.
        .args(["--check-integrity=true", "--allow-overwrite=true", "--seed-ratio=0.0"])
        .args(["--file-allocation=none", "--enable-color=false", "--show-console-readout=false"])
        .args(["--console-log-level=notice", "--summary-interval=1"])
        .arg(torrent);
    command
}

impl Node for Aria2 {
    fn wait_until_complete(&mut self) {
        self.process.wait_for_line(self.done);
    }
}
