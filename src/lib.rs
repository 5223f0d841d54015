//! btget: a torrent downloader that a script can trust, as a library.
//!
//! See ARCHITECTURE.md for the map.

pub mod bitfield;
pub mod check;
pub mod cli;
pub mod client;
mod disk;
pub mod event;
pub mod hash;
pub mod layout;
pub mod metainfo;
mod net;
mod session;
pub mod storage;
pub mod swarm;
pub mod text;
pub mod tracker;
pub mod wire;
