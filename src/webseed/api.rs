//! The words in which web seeds are named, and in which the edges are told what to do.

use super::Job;
use crate::bitfield::Bitfield;
use crate::event::Kind;
use crate::ids::PeerKey;
use crate::layout::Block;
use crate::swarm::RunWish;

/// How a web seed is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SeedKind {
    /// For files (BEP 19).
    Files,
    /// For pieces (BEP 17).
    Pieces,
}

/// A web seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SeedUrl {
    /// Its URL.
    pub url: String,
    /// How it is asked.
    pub kind: SeedKind,
    /// The user has given it, so it may lead anywhere.
    pub is_users: bool,
}

/// The name of a connection to a web seed; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct WebKey {
    /// The web seed.
    pub seed: PeerKey,
    /// Which of its connections.
    pub number: u32,
}

/// Whether a further connection to a host may be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It may.
    Free,
    /// There are as many to this host as may be.
    HostTaken,
    /// There are as many to all hosts as may be.
    AllTaken,
    /// Nothing can be sent, whoever gives way.
    NoWay,
}

/// Something to be done.
#[derive(Debug)]
pub(crate) enum WebOutput {
    /// For the swarm: this web seed, of this number, may be asked for these pieces.
    Has(PeerKey, u16, Bitfield),
    /// For the swarm: this web seed is not in use any more.
    Leave(PeerKey),
    /// For the swarm: a connection of this web seed could fetch a run. [`WebSeeds::on_run`](super::WebSeeds::on_run) takes it.
    Want(WebKey, RunWish),
    /// For the swarm: this web seed will not send these blocks.
    GiveBack(PeerKey, Vec<Block>),
    /// A connection is to be opened, to this host, for this kind of URL. It gets its first job next.
    Open(WebKey, Opening),
    /// A connection is to do this.
    Fetch(WebKey, Job),
    /// A connection is to be closed; what it still brings is of no use.
    Close(WebKey),
    /// In a box, for it is rare.
    Event(Box<Kind>),
}

/// What there is to know about a connection before its first job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Opening {
    /// The host, by which connections are counted.
    pub host: String,
    /// The user has given the URL, so it may lead anywhere.
    pub is_users: bool,
    /// The URL has a query that is not ours.
    pub has_query: bool,
}
