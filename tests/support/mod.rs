//! What tests of the whole program share: torrents to test with, child processes, other clients.

pub mod clients;
pub mod fixture;
pub mod process;
pub mod tracker;
