//! The connections to web seeds of all torrents.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use tokio::sync::mpsc;

use crate::ids::TorrentId;
use crate::net::web::{Access, FromWeb, WebLink};
use crate::net::{Gate, NetShared};
use crate::webseed::{Job, MAX_CONNECTIONS, Opening, Place, WebKey};

/// Connections to web seeds, all torrents together: each has a thread.
const MAX_WEB_CONNECTIONS: usize = 32;

/// What connections have read that may wait for the loop: each is up to a quarter of a MiB.
const MAX_FROM_WEB: usize = 16;

/// An open connection.
#[derive(Debug)]
struct WebConnection {
    /// The torrent that it is for.
    torrent: TorrentId,
    host: String,
    /// Dropping it closes the connection.
    link: WebLink,
}

/// The connections to web seeds of all torrents.
#[derive(Debug)]
pub(crate) struct WebConnections {
    all: BTreeMap<WebKey, WebConnection>,
    to_loop: mpsc::Sender<FromWeb>,
    shared: Rc<NetShared>,
}

impl WebConnections {
    /// Without any connection; what they bring comes through the receiver.
    pub(super) fn new(shared: Rc<NetShared>) -> (WebConnections, mpsc::Receiver<FromWeb>) {
        let (to_loop, from_web) = mpsc::channel(MAX_FROM_WEB);
        (WebConnections { all: BTreeMap::new(), to_loop, shared }, from_web)
    }

    /// Whether a further connection to this host may be opened.
    pub(super) fn place_at(&self, host: &str) -> Place {
        let to_host = self.all.values().filter(|connection| connection.host == host).count();
        match to_host < MAX_CONNECTIONS {
            false => Place::HostTaken,
            true if self.all.len() < MAX_WEB_CONNECTIONS => Place::Free,
            true => Place::AllTaken,
        }
    }

    /// Open connections.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Opens a connection, from which nothing is read while the gate is closed.
    ///
    /// # Errors
    ///
    /// If there is no thread to be had.
    pub(super) fn open(
        &mut self,
        key: WebKey,
        torrent: TorrentId,
        opening: Opening,
        access: Access,
        gate: Rc<Gate>,
    ) -> io::Result<()> {
        let link = WebLink::open(key, access, self.to_loop.clone(), gate, self.shared.clone())?;
        self.all.insert(key, WebConnection { torrent, host: opening.host, link });
        Ok(())
    }

    /// Gives a connection something to do, if it is open.
    pub(super) fn fetch(&self, key: WebKey, job: Job) {
        if let Some(connection) = self.all.get(&key) {
            let is_taken = connection.link.fetch(job);
            debug_assert!(is_taken, "one job at a time");
        }
    }

    /// Closes a connection.
    pub(super) fn close(&mut self, key: WebKey) {
        self.all.remove(&key);
    }

    /// The torrent that a connection is for, if it is open.
    pub(super) fn torrent_of(&self, key: WebKey) -> Option<TorrentId> {
        self.all.get(&key).map(|connection| connection.torrent)
    }

    /// Takes back what a connection has brought that is closed.
    pub(super) fn give_back(&self, event: FromWeb) {
        if let FromWeb::Blocks(_, blocks) = event {
            self.shared.pool.put(blocks.into_iter().map(|(_, data)| data));
        }
    }
}
