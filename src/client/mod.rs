//! The ancestors' interface (AnyEvent::BitTorrent): a torrent as an object that is started, paused,
//! stopped and asked. The command line uses nothing else.
//!
//! A [`Session`] runs on a thread of its own and owns everything; these are handles that send it
//! commands and wait for its replies, microseconds at most. Use them from any thread.

mod builder;
mod callbacks;
mod facts;
mod ip_filter_files;
mod plan;
mod reader;
mod session;
mod torrent;
mod torrent_url;

use std::path::PathBuf;

use crate::event::Kind;
use crate::ids::InfoHashes;
use crate::metainfo::MetainfoError;

pub use crate::bind::Bind;
pub use crate::bitfield::Bitfield;
pub use crate::check::{CheckOptions, CheckOutcome, FileReport, HashCheck, PieceResult, check};
pub use crate::filter::{IpFilter, ListReport};
pub use crate::http::{Download, DownloadError};
pub use crate::proxy::{Proxy, ProxyUrlError};
pub use crate::session::options::{
    CachedPiece, DhtOptions, EncryptionPolicy, FileChoice, FileErrorAction, FileInfo, NextAsk, Phase,
    SessionOptions, Status, Tier, TorrentOptions, TrackerInfo, TransportPolicy, Which,
};
pub use crate::session::subscribers::Subscription;
pub use crate::session::{PeerFlags, PeerStatus};
pub use crate::storage::Preallocate;
pub use crate::swarm::Order;
pub use crate::text::Remedies;
pub use crate::wire::PeerId;
pub use builder::ClientBuilder;
pub use ip_filter_files::{IpFilterError, IpFilterFiles, IpFilterProblem};
pub use plan::{LongFile, Plan, PlannedFile, Planner};
pub use reader::Reader;
pub use session::Session;
pub use torrent::Client;
pub use torrent_url::download_torrent;

/// Errors of the library's interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No port of the list could be listened on, or a thread could not be started.
    #[error("{message}")]
    Start {
        /// The error for the user: thing, cause and remedy.
        message: String,
        /// What the session's subscribers would have been told: a `listen_failure`.
        event: Option<Box<Kind>>,
    },
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// The torrent is in the session already.
    #[error("torrent {0} is there already")]
    Twice(InfoHashes),
    /// The torrent has been taken out of the session.
    #[error("torrent {0} has been removed")]
    Removed(InfoHashes),
    /// The torrent has no piece with this index.
    #[error("there is no piece {piece}: the torrent has {pieces}, numbered from 0")]
    NoPiece {
        /// The piece that was asked for.
        piece: u32,
        /// How many there are.
        pieces: u32,
    },
    /// The torrent has no file with this index.
    #[error("there is no file {file}: {files} are known, numbered from 0")]
    NoFile {
        /// The file that was asked for.
        file: usize,
        /// How many there are; 0 while only a magnet link is known.
        files: usize,
    },
    /// A file that was to be read is not wanted, so that its data do not come.
    #[error("a file that is not wanted is not there to be read; give it a weight")]
    NotWanted,
    /// A torrent of which a file was to be read has ended before the data were there, for this reason.
    #[error("the torrent has ended: {0}")]
    Stopped(String),
    /// A thread for a callback could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The .torrent could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The .torrent.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a valid .torrent.
    #[error("{0}")]
    Metainfo(#[from] MetainfoError),
}
