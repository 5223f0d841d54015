//! Drivers of real clients, all of them kept to loopback and to plain TCP peers from a tracker: no
//! DHT, local discovery, peer exchange, port mapping, uTP. What is not installed is told so.

mod aria2;
mod btget;
mod libtorrent;
mod transmission;

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;

pub use self::aria2::{command as aria2_command, with_dht as aria2_with_dht};
pub use self::btget::Btget;
pub use self::libtorrent::{Libtorrent, ltmake};
pub use self::transmission::{PEER_PORT as TRANSMISSION_PORT, Transmission};
use super::fixture::{Family, Fixture};

/// A real client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    Libtorrent,
    Aria2,
    Transmission,
}

/// A running client with one torrent.
pub trait Node {
    /// Waits until it says that it has every piece.
    fn wait_until_complete(&mut self);

    /// Waits until it has this many pieces, where it tells.
    fn wait_until_it_has(&mut self, pieces: usize) {
        unimplemented!("this client does not tell when it has {pieces} pieces");
    }
}

impl Client {
    pub const ALL: [Client; 3] = [Client::Libtorrent, Client::Aria2, Client::Transmission];

    pub fn name(self) -> &'static str {
        match self {
            Client::Libtorrent => "libtorrent",
            Client::Aria2 => "aria2",
            Client::Transmission => "transmission",
        }
    }

    /// Whether it is installed.
    pub fn is_installed(self) -> bool {
        match self {
            Client::Libtorrent => libtorrent::is_installed(),
            Client::Aria2 => is_in_path("aria2c"),
            Client::Transmission => is_in_path("transmission-daemon"),
        }
    }

    /// Starts it on `folder`: to seed what is there, or to download what is not.
    pub fn start(self, fixture: &Fixture, family: Family, folder: &Path) -> Box<dyn Node> {
        self.start_with(fixture.torrent().to_str().unwrap(), family, folder)
    }

    /// The same with the path of a .torrent or a magnet link.
    pub fn start_with(self, torrent: &str, family: Family, folder: &Path) -> Box<dyn Node> {
        match self {
            Client::Libtorrent => Box::new(libtorrent::Libtorrent::start(torrent, family, folder)),
            Client::Aria2 => Box::new(aria2::Aria2::start(torrent, family, folder)),
            Client::Transmission => Box::new(transmission::Transmission::start(torrent, family, folder)),
        }
    }
}

pub fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A TCP port that nobody listens on now, in either family. Only for clients that cannot be told
/// to take any port and say which.
fn free_port() -> u16 {
    loop {
        let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = v4.local_addr().unwrap().port();
        drop(v4);
        if !Family::V6.is_available() || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}
