//! btget: a torrent downloader that a script can trust, as a library.
//!
//! What the library promises is [`client`] (sessions and torrents), [`event`] (what happens, as data) and [`metainfo`] (what a
//! .torrent or a magnet link says). See ARCHITECTURE.md for the map of the rest.

// The house rules that clippy can see while one types; tests/architecture.rs knows them all. Only
// the rooms below that say so may read the clock or wait; nobody but `cli` prints, and no room exits.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]
// With `internals` all that anybody outside reaches is public; what is public beyond that need not be.
#![cfg_attr(feature = "internals", warn(unreachable_pub))]
// Without, what is there for tests, benches and the man page alone has no user.
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))]

#[allow(clippy::disallowed_methods, reason = "waits for whom it is asked to")]
pub mod client;
pub mod event;
pub mod metainfo;

mod address;
mod bencode;
mod bind;
mod bitfield;
mod blocks;
mod bucket;
mod budget;
mod check;
#[allow(clippy::disallowed_methods, reason = "draws in time")]
mod cli;
mod compact;
mod create;
mod dht;
#[allow(clippy::disallowed_methods, reason = "waits for what follows close behind, not longer")]
mod disk;
mod fetch;
mod filter;
mod finder;
mod hash;
#[allow(clippy::disallowed_methods, reason = "limits how long a server takes")]
mod http;
mod ids;
mod layout;
mod lobby;
mod mse;
#[allow(
    clippy::disallowed_methods,
    reason = "reckons from now what a web server gives as a date, and how long a block has waited"
)]
mod net;
mod pace;
mod portmap;
mod proofs;
mod proxy;
#[allow(clippy::disallowed_methods, reason = "drives the core by the clock")]
mod session;
mod storage;
mod swarm;
mod text;
#[allow(clippy::disallowed_methods, reason = "limits how long an announce takes")]
mod tracker;
mod transfer;
mod utp;
mod webseed;
mod wire;

/// The command line, for `main.rs`, which is a crate of its own.
#[doc(hidden)]
pub use cli::main as command_line;

/// The inside, for the tests, benches and fuzzers of this repository: nothing is promised about any of it.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub mod address {
        pub use crate::address::ListenPorts;
    }
    pub mod bencode {
        pub use crate::bencode::*;
    }
    pub mod bind {
        pub use crate::bind::*;
    }
    pub mod bitfield {
        pub use crate::bitfield::*;
    }
    pub mod blocks {
        pub use crate::blocks::*;
    }
    pub mod budget {
        pub use crate::budget::*;
    }
    pub mod cli {
        pub use crate::cli::*;
    }
    pub mod dht {
        pub use crate::dht::*;
    }
    pub mod fetch {
        pub use crate::fetch::*;
    }
    pub mod filter {
        pub use crate::filter::*;
    }
    pub mod finder {
        pub use crate::finder::*;
    }
    pub mod hash {
        pub use crate::hash::*;
    }
    pub mod ids {
        pub use crate::ids::*;
    }
    pub mod layout {
        pub use crate::layout::*;
    }
    pub mod mse {
        pub use crate::mse::*;
    }
    pub mod proxy {
        pub use crate::proxy::*;
    }
    pub mod pace {
        pub use crate::pace::*;
    }
    pub mod portmap {
        pub use crate::portmap::*;
    }
    pub mod proofs {
        pub use crate::proofs::*;
    }
    pub mod storage {
        pub use crate::storage::damage::*;
    }
    pub mod swarm {
        pub use crate::swarm::*;
    }
    pub mod text {
        pub use crate::text::*;
    }
    pub mod http {
        pub use crate::http::{Dechunker, DownloadOptions, Head, download, tidy};
    }
    pub mod tracker {
        pub use crate::tracker::*;
    }
    pub mod utp {
        pub use crate::utp::*;
    }
    pub mod wire {
        pub use crate::wire::*;
    }
}
