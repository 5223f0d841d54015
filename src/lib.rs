//! btget: a torrent downloader that a script can trust, as a library.
//!
//! See ARCHITECTURE.md for the map.

pub mod bitfield;
pub mod client;
mod disk;
pub mod event;
pub mod hash;
pub mod layout;
pub mod metainfo;
pub mod net;
pub mod storage;
pub mod swarm;
pub mod wire;
