//! btget: a torrent downloader that a script can trust, as a library.
//!
//! See ARCHITECTURE.md for the map.

// The house rules that clippy can see while one types; tests/architecture.rs knows them all. Only
// the rooms below that say so may read the clock or wait; nobody but `cli` prints, and no room exits.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

pub mod bencode;
pub mod bitfield;
pub mod blocks;
pub mod check;
#[allow(clippy::disallowed_methods, reason = "draws in time")]
pub mod cli;
#[allow(clippy::disallowed_methods, reason = "waits for whom it is asked to")]
pub mod client;
#[allow(clippy::disallowed_methods, reason = "waits for what follows close behind, not longer")]
mod disk;
pub mod event;
pub mod finder;
pub mod hash;
pub mod ids;
pub mod layout;
pub mod metainfo;
mod net;
#[allow(clippy::disallowed_methods, reason = "drives the core by the clock")]
mod session;
pub mod storage;
pub mod swarm;
pub mod text;
#[allow(clippy::disallowed_methods, reason = "limits how long an announce takes")]
pub mod tracker;
mod transfer;
pub mod wire;
