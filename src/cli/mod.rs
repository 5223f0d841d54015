//! The command line: options in, bars, lines, reports and exit codes out.
//!
//! The only room that prints. It knows the session, its torrents, their events and pictures of
//! them ([`crate::client`], [`crate::event`]), and no insides.

pub mod args;
mod bar;
mod config;
mod exit;
mod json;
pub mod manual;
mod progress;
mod say;
mod select;
pub mod show;
mod signals;
#[cfg(test)]
mod testing;
mod values;

pub use exit::Exit;
