//! The command line: options in, bars, lines, reports and exit codes out.
//!
//! The only room that prints. It knows the session, its torrents, their events and pictures of
//! them ([`crate::client`], [`crate::event`]), and no insides.

// The one place where printing and reading the clock for display are at home.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod args;
mod config;
mod exit;
pub mod manual;
mod select;
#[cfg(test)]
mod testing;
mod values;

pub use exit::Exit;

/// The whole command: parses the process's arguments, does what they say.
pub fn main() -> Exit {
    use clap::Parser;
    match args::Args::try_parse() {
        Ok(_) => Exit::Failure,
        Err(error) => {
            let _ = error.print();
            Exit::from_code(error.exit_code() as u8)
        }
    }
}
