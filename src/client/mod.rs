//! The ancestors' interface (AnyEvent::BitTorrent): a torrent as an object that is started, paused,
//! stopped and asked. The command line uses nothing else.
//!
//! A [`Session`] runs on a thread of its own and owns everything; these are handles that send it
//! commands and wait for its replies, microseconds at most. Use them from any thread.

mod builder;
mod session;
mod torrent;

use std::path::PathBuf;

use crate::metainfo::{InfoHash, MetainfoError};

pub use crate::check::{self, CheckOptions, CheckOutcome, PieceResult};
pub use crate::session::PeerStatus;
pub use crate::session::options::{FileInfo, Phase, SessionOptions, Status, TorrentOptions, TrackerInfo};
pub use crate::session::subscribers::Subscription;
pub use builder::ClientBuilder;
pub use session::Session;
pub use torrent::Client;

/// Errors of the library's interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No port of the list could be listened on, or a thread could not be started.
    #[error("{0}")]
    Start(String),
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// The torrent is in the session already.
    #[error("torrent {0} is there already")]
    Twice(InfoHash),
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
