//! What tests of the whole program share: torrents to test with, child processes, other clients.

// Each test crate uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod clients;
pub mod crafted;
pub mod events;
pub mod fixture;
pub mod hub;
pub mod networks;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod system;
pub mod terminal;
pub mod tls;
pub mod tracker;
pub mod version2;
pub mod web;
