//! A client with a session of its own.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Client, Error, Session, SessionOptions, TorrentOptions};
use crate::event::State;
use crate::metainfo::Metainfo;

/// Makes a [`Client`] with a session of its own.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    path: PathBuf,
    session: SessionOptions,
    torrent: TorrentOptions,
}

impl ClientBuilder {
    pub(super) fn new(path: PathBuf) -> ClientBuilder {
        ClientBuilder { path, session: SessionOptions::default(), torrent: TorrentOptions::default() }
    }

    /// Where data live; default: the current folder.
    pub fn basedir(mut self, basedir: impl Into<PathBuf>) -> Self {
        self.torrent.basedir = basedir.into();
        self
    }

    /// The state to begin with; default: started.
    pub fn state(mut self, state: State) -> Self {
        self.torrent.state = state;
        self
    }

    /// Ports to listen on, tried in order, 0 for any; default: any.
    pub fn port(mut self, ports: impl Into<Vec<u16>>) -> Self {
        self.session.ports = ports.into();
        self
    }

    /// All that can be said of the session.
    pub fn session_options(mut self, options: SessionOptions) -> Self {
        self.session = options;
        self
    }

    /// All that can be said of the torrent.
    pub fn torrent_options(mut self, options: TorrentOptions) -> Self {
        self.torrent = options;
        self
    }

    /// Reads the .torrent, starts the session and adds the torrent to it.
    ///
    /// # Errors
    ///
    /// If the .torrent cannot be read or is not valid, or no port can be listened on.
    pub fn build(self) -> Result<Client, Error> {
        let read = std::fs::read(&self.path);
        let bytes = read.map_err(|source| Error::Read { path: self.path.clone(), source })?;
        let metainfo = Metainfo::parse(&bytes)?;
        let session = Session::start(self.session)?;
        let mut client = session.add(metainfo, self.torrent)?;
        client.session = Some(Arc::new(session));
        Ok(client)
    }
}
