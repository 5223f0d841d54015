//! What tests of the whole program share: torrents to test with, child processes, other clients.

// No test uses all of it.
#![allow(dead_code, unused_imports)]

pub mod clients;
pub mod crafted;
pub mod fixture;
pub mod process;
pub mod tracker;
