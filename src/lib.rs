//! btget: a torrent downloader that a script can trust, as a library.
//!
//! See ARCHITECTURE.md for the map.

mod disk;
mod net;
mod session;
mod text;

pub mod bitfield;
pub mod check;
pub mod cli;
pub mod client;
pub mod event;
pub mod hash;
pub mod layout;
pub mod metainfo;
pub mod storage;
pub mod swarm;
pub mod tracker;
pub mod wire;
