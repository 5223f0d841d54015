//! A client with a session of its own.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::callbacks::Callback;
use super::{CachedPiece, Client, Error, FileErrorAction, Session, SessionOptions, TorrentOptions};
use crate::event::{Event, Kind, Severity, State};
use crate::metainfo::Metainfo;

/// Makes a [`Client`] with a session of its own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let data = b"what everybody wants".repeat(5000);
/// # let hashes: Vec<_> = data.chunks(32768).map(btget::metainfo::sha1).collect();
/// # let bytes = btget::metainfo::create::NewTorrent { name: "wanted.bin",
/// #     content: btget::metainfo::create::Content::File(data.len() as u64), piece_length: 32768,
/// #     piece_hashes: &hashes, trackers: &[vec!["udp://127.0.0.1:9".into()]], private: false }.encode();
/// # let torrent = folder.path().join("wanted.torrent");
/// # std::fs::write(&torrent, bytes)?;
/// # let local = btget::client::SessionOptions { bind: Some([127, 0, 0, 1].into()), ..Default::default() };
/// # std::fs::write(folder.path().join("wanted.bin"), [&data[..40000], &[7; 60000]].concat())?;
/// use btget::client::{Client, TorrentOptions};
/// use btget::event::{Severity, State};
/// use std::sync::mpsc::channel;
/// use std::time::Duration;
///
/// let (passed, failed, messages) = (channel(), channel(), channel());
/// let client = Client::builder(&torrent)
///     .session_options(local)
///     .port([6952, 6881, 0])
///     .torrent_options(TorrentOptions { upload_slots: 4, ..TorrentOptions::default() })
///     .basedir(folder.path())
///     .state(State::Stopped)
///     .on_hash_pass(move |piece| drop(passed.0.send(piece)))
///     .on_hash_fail(move |piece| drop(failed.0.send(piece)))
///     .on_event(Severity::Info, move |event| drop(messages.0.send(event.kind.message())))
///     .build()?;
/// assert!(client.wait_checked(Duration::from_secs(20)));
/// client.on_event(Severity::Fatal, |event| eprintln!("{}", event.kind.message()))?;
/// drop(client);
/// assert_eq!(passed.1.iter().collect::<Vec<_>>(), [0]);
/// assert_eq!(failed.1.iter().count(), 3);
/// assert!(messages.1.iter().any(|message| message.starts_with("listening on 127.0.0.1:")));
/// # Ok(()) }
/// ```
pub struct ClientBuilder {
    path: PathBuf,
    session: SessionOptions,
    torrent: TorrentOptions,
    callbacks: Vec<Callback>,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientBuilder { path, session, torrent, callbacks } = self;
        f.debug_struct("ClientBuilder")
            .field("path", path)
            .field("session", session)
            .field("torrent", torrent)
            .field("callbacks", &callbacks.len())
            .finish()
    }
}

impl ClientBuilder {
    pub(super) fn new(path: PathBuf) -> ClientBuilder {
        ClientBuilder {
            path,
            session: SessionOptions::default(),
            torrent: TorrentOptions::default(),
            callbacks: Vec::new(),
        }
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

    /// What an error of the disk does; default: pause, or end with `no_seed`.
    pub fn file_error(mut self, action: FileErrorAction) -> Self {
        self.torrent.file_error = Some(action);
        self
    }

    /// Ports to listen on, tried in order, 0 for any; default: any.
    pub fn port(mut self, ports: impl Into<Vec<u16>>) -> Self {
        self.session.ports = ports.into();
        self
    }

    /// Further tiers of trackers, as URLs (http, https or udp), after the torrent's own; a private torrent does not use them.
    /// Default: none.
    pub fn trackers(mut self, tiers: impl Into<Vec<Vec<String>>>) -> Self {
        self.torrent.trackers = tiers.into();
        self
    }

    /// Blocks of unfinished pieces from an earlier [`Client::piece_cache`]; default: none.
    pub fn piece_cache(mut self, cache: impl Into<Vec<CachedPiece>>) -> Self {
        self.torrent.piece_cache = cache.into();
        self
    }

    /// Calls with the index of each piece whose hash is right, downloaded or found on disk; from a
    /// thread made for that.
    pub fn on_hash_pass(self, mut tell: impl FnMut(u32) + Send + 'static) -> Self {
        self.on_event(Severity::Info, move |event| {
            if let Kind::PieceHashPassed { index, .. } = event.kind {
                tell(index);
            }
        })
    }

    /// The same for pieces whose hash is wrong.
    pub fn on_hash_fail(self, mut tell: impl FnMut(u32) + Send + 'static) -> Self {
        self.on_event(Severity::Warning, move |event| {
            if let Kind::PieceHashFailed { index, .. } = event.kind {
                tell(index);
            }
        })
    }

    /// Calls with each event of at least this severity, from the first on; from a thread made for
    /// that. What a slow callback misses is told by an `events_dropped`.
    pub fn on_event(mut self, least: Severity, tell: impl FnMut(&Event) + Send + 'static) -> Self {
        self.callbacks.push(Callback::new(least, tell));
        self
    }

    /// Sets all options of the session.
    pub fn session_options(mut self, options: SessionOptions) -> Self {
        self.session = options;
        self
    }

    /// Sets all options of the torrent.
    pub fn torrent_options(mut self, options: TorrentOptions) -> Self {
        self.torrent = options;
        self
    }

    /// Reads the .torrent, starts the session and adds the torrent to it.
    ///
    /// # Errors
    ///
    /// If the .torrent cannot be read or is not valid, no port can be listened on, or a thread cannot
    /// be started.
    pub fn build(self) -> Result<Client, Error> {
        let read = std::fs::read(&self.path);
        let bytes = read.map_err(|source| Error::Read { path: self.path.clone(), source })?;
        let metainfo = Metainfo::parse(&bytes)?;
        let session = Session::start(self.session)?;
        for callback in self.callbacks {
            let subscription = session.subscribe(callback.least)?;
            callback.spawn(metainfo.info_hash, subscription)?;
        }
        let mut client = session.add(metainfo, self.torrent)?;
        client.path = Some(self.path.into());
        client.session = Some(Arc::new(session));
        Ok(client)
    }
}
