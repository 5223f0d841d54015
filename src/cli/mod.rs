//! The command line: options in, bars, lines, reports and exit codes out.
//!
//! The only room that prints. It knows the session, its torrents, their events and pictures of
//! them ([`crate::client`], [`crate::event`]), and no insides.

pub mod args;
mod bar;
mod check;
mod config;
mod exit;
mod hooks;
mod json;
mod load;
pub mod manual;
mod progress;
mod report;
mod run;
mod say;
mod select;
pub mod show;
mod signals;
#[cfg(test)]
mod testing;
mod transfer;
mod values;

use clap::{CommandFactory, Parser, error::ErrorKind};

use args::Args;
use config::{Config, Surroundings};
pub use exit::Exit;

/// The whole command, with the process's own arguments. `exit` ends the process at once: a second
/// Ctrl-C waits for nothing.
pub fn main(exit: fn(i32) -> !) -> Exit {
    let config = Args::try_parse().and_then(|args| {
        Config::new(args, &Surroundings::of_process())
            .map_err(|message| Args::command().error(ErrorKind::ArgumentConflict, message))
    });
    match config {
        Ok(config) => run::run(&config, exit),
        Err(error) => {
            // Help and version go to stdout; a reader that went away needs neither.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Complete }
        }
    }
}
