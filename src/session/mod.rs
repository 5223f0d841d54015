//! The session: the listener, the connections, the limits and the torrents, on one thread, in one loop that shows every
//! input there is.
//!
//! Decides nothing about a transfer (that is each torrent's [`Swarm`](crate::swarm::Swarm)) and does
//! nothing that could block (that is the disk's threads, and blocking threads for trackers). The [`Engine`] only routes: it
//! finds the torrent that something is about, and the [`Torrent`] sees to it.

pub(crate) mod options;
pub(crate) mod subscribers;
pub(crate) mod thread;

mod accept;
mod check_queue;
mod checking;
mod clock;
mod connections;
mod context;
mod dht;
mod downloads;
mod engine;
mod filtering;
mod local;
mod names;
mod not_started;
mod outage;
mod packets;
mod places;
mod portmap;
mod room;
mod routes;
mod schedule;
mod selection;
mod torrent;
mod uploads;
mod web;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use crate::bitfield::Bitfield;
use crate::check::PieceResult;
use crate::event::{Kind, Severity, State};
use crate::filter::IpFilter;
use crate::finder::announce::{AnnounceFailure, Answer, Token};
use crate::hash::Sha256;
use crate::ids::{InfoHashes, PeerKey, ReaderKey, Round, TorrentId};
use crate::layout::{FileIndex, PieceIndex};
use crate::metainfo::{Magnet, Metainfo};
use crate::net::dial::{DialError, Established};
use crate::net::egress::ProxyNews;
use crate::net::gateway::FromGateway;
use crate::net::link::Link;
use crate::net::relay::RelayNews;
use crate::proofs::PieceRun;
use crate::storage::claim::{Claim, Claims};
use crate::storage::{Device, StorageError};
use crate::swarm::Order;
use crate::utp::Transport;
use check_queue::Lane;
use checking::Checked;
use options::TorrentOptions;
use subscribers::{Interest, Subscription};
use torrent::{LastSaved, ReadMetadata, Synced, TakenSnapshot};

pub use crate::swarm::{PeerFlags, PeerStatus};
pub(crate) use engine::Engine;
pub(crate) use not_started::NotStarted;
pub(crate) use selection::wanted_pieces;
pub(crate) use torrent::{PieceAccess, Torrent, choose, verdict_of, web_seed_urls, with_link};

/// What is asked about a torrent that may or may not be there, and the session's time.
pub(crate) type Question = Box<dyn FnOnce(Instant, Option<&Torrent>) + Send>;

/// What the library's handles ask of the session. Each waits for its reply, so that there are at
/// most as many as there are threads that ask.
pub(crate) enum Command {
    /// Adds a torrent, unless it is there.
    Add(Box<Addition>, SyncSender<Option<TorrentId>>),
    /// Ends a torrent and forgets it.
    Remove(TorrentId, SyncSender<()>),
    /// Brings a torrent into this state.
    /// Like those below: false if it is not there.
    Enter(TorrentId, State, SyncSender<bool>),
    /// Brings all torrents into this state, as one: none begins because another was paused a moment before.
    EnterAll(State, SyncSender<()>),
    /// Checks again what is on disk of these pieces (`None`: all), whatever resume data say.
    Hashcheck(TorrentId, Option<Bitfield>, SyncSender<bool>),
    /// Calls the closure with the torrent.
    Ask(TorrentId, Question),
    /// Gives the identities of all torrents, in the order in which they were added.
    List(SyncSender<Vec<InfoHashes>>),
    /// Subscribes.
    Subscribe(Severity, Interest, SyncSender<Subscription>),
    /// What is wanted from now on: the weight of each file (as in `TorrentOptions::priorities`), if they change, and the order.
    Want(TorrentId, Option<Vec<u32>>, Option<Order>, SyncSender<bool>),
    /// Somebody is going to read this file. `None` if there is no such file.
    OpenReader(TorrentId, FileIndex, SyncSender<Option<ReaderKey>>),
    /// A reader needs this piece. No reply is sent if the torrent is not there.
    AwaitPiece(TorrentId, ReaderKey, PieceIndex, SyncSender<PieceAccess>),
    /// A reader goes on from this piece.
    MoveReader(TorrentId, ReaderKey, PieceIndex, SyncSender<bool>),
    /// A reader is gone; nobody waits for a reply.
    CloseReader(TorrentId, ReaderKey),
    /// A peer's address, from the user.
    AddPeer(TorrentId, SocketAddr, SyncSender<bool>),
    /// The addresses that are refused from now on.
    SetIpFilter(Option<IpFilter>, SyncSender<()>),
    /// Ends all torrents, then the session.
    Shutdown,
}

/// A torrent that is to be added.
pub(crate) struct Addition {
    /// What is known of it.
    pub known: Known,
    /// What the user asks of it.
    pub options: TorrentOptions,
}

/// What is known of a torrent that is to be added.
pub(crate) enum Known {
    /// What the .torrent says; and the paths that it writes to, or why it must not.
    Metainfo(Metainfo, Result<Arc<Claim>, StorageError>),
    /// What an earlier run has kept of a magnet link; and why none of its files can be chosen.
    NothingChosen(Metainfo, String),
    /// What a magnet link says; where its paths are to be claimed once they are known, and which device its folder is on.
    Magnet(Magnet, Claims, Option<Device>),
}

impl Known {
    fn info_hash(&self) -> InfoHashes {
        match self {
            Known::Metainfo(metainfo, _) | Known::NothingChosen(metainfo, _) => metainfo.info_hash,
            Known::Magnet(magnet, ..) => magnet.info_hash,
        }
    }
}

/// What tasks of the session's thread tell the loop of links, which do not leave it.
pub(crate) enum LinkNotice {
    /// A peer calls us.
    Accepted(Link, SocketAddr),
    /// A peer that called us has said its handshake, or not.
    Answered(PeerKey, SocketAddr, Result<Established, DialError>),
    /// A peer that we called has said its handshake, or not.
    Dialed(TorrentId, Called, Result<Established, DialError>),
}

/// A call of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called {
    /// Of whom.
    pub address: SocketAddr,
    /// The transport by which it began.
    pub first: Transport,
    /// The peer was told to call us at the same time (BEP 55).
    pub is_punch: bool,
}

/// What tasks and threads of the session tell the loop, beside the connections and the disk.
pub(crate) enum Notice {
    /// A peer that the user or a magnet link names has this address.
    Named(TorrentId, SocketAddr),
    /// Nodes of the DHT have these addresses, as their names say.
    Nodes(Vec<SocketAddr>),
    /// A packet of local discovery has come.
    Heard(Vec<u8>, SocketAddr),
    /// A gateway has said something.
    Gateway(FromGateway),
    /// A tracker has answered, or not, what was asked in a round.
    Announced(TorrentId, Round, Token, Result<Answer, AnnounceFailure>),
    /// A tracker has named these peers in a round, and more may come.
    FoundEarly(TorrentId, Round, Token, Vec<SocketAddr>),
    /// A tracker has named these peers of a hybrid's version 2 in a round.
    FoundBeside(TorrentId, Round, String, Answer),
    /// It is known whether the metadata that peers gave are right, and what they say.
    Metadata(TorrentId, ReadMetadata),
    /// A check has come to a verdict on a piece.
    PieceChecked(TorrentId, PieceIndex, PieceResult),
    /// A check has begun to look at what is on the disk.
    CheckBegun(TorrentId, Round),
    /// A check has found more to read than it may in this turn: so many bytes.
    CheckPostponed(TorrentId, Round, Lane, u64),
    /// A check has ended, or could not be done at all.
    Checked(TorrentId, Round, Lane, Option<Box<Checked>>),
    /// Files were made ready for what is missing, or not; begun after so many starts after an error.
    Prepared(TorrentId, u64, Result<(), StorageError>),
    /// A full disk has room again, seen after so many starts after an error.
    Room(TorrentId, u64),
    /// What was written is on the disk, or may be lost.
    Synced(TorrentId, Synced),
    /// Resume data to be stored.
    Snapshot(TorrentId, TakenSnapshot),
    /// Resume data are stored.
    Stored(TorrentId),
    /// All is synced, resume data are stored, files are closed.
    LastSaved(TorrentId, LastSaved),
    /// What is bound to is gone, or back.
    Presence(bool),
    /// The sockets at which we are reached could not be opened anew.
    ListenAgain,
    /// The proxy carries packets from now on, or does not any more.
    Relay(RelayNews),
    /// The proxy has stopped working, or works again.
    Proxy(ProxyNews),
    /// These pieces were read for peers that ask for hashes of their blocks: the hashes, if they could be had.
    Hashed(TorrentId, PieceRun, Option<Vec<Sha256>>),
    /// Something happened beside the loop that subscribers want to know.
    Told(TorrentId, Kind),
}

/// Tells that a peer has not said its handshake, or not one that will do. Both events are of severity info.
fn tell_not_established(
    error: &DialError,
    address: SocketAddr,
    transport: Transport,
    mut tell: impl FnMut(Kind),
) {
    if error.is_peers_fault() {
        tell(Kind::PeerError { address, peer_id: String::new(), reason: error.to_string() });
    }
    tell(Kind::PeerDisconnect { address, transport: transport.name(), reason: error.to_string() });
}
