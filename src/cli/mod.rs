//! The command line: options in, bars, lines, reports and exit codes out.
//!
//! The only room that prints. It knows the session, its torrents, their events and pictures of
//! them ([`crate::client`], [`crate::event`]), and no insides.

mod exit;
mod handles;
mod jobs;
pub mod manual;
pub mod options;
pub mod show;
mod signals;
#[cfg(test)]
mod testing;

use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::text;
pub use exit::Exit;
use options::args::Args;
use options::brief::brief_help;
use options::config::{Config, Surroundings};

/// The whole command, with the process's own arguments. `exit` ends the process at once: a second
/// Ctrl-C waits for nothing.
pub fn main(exit: fn(i32) -> !) -> Exit {
    handles::allow_many();
    let config = Args::try_parse().map_err(with_habits).and_then(|args| {
        Config::new(args, &Surroundings::of_process())
            .map_err(|error| Args::command().error(ErrorKind::ArgumentConflict, error))
    });
    match config {
        Ok(config) => jobs::run::run(&config, exit),
        Err(error)
            if error.kind() == ErrorKind::DisplayHelp && !std::env::args_os().any(|it| it == "--help") =>
        {
            // A reader that went away needs it no more.
            let _ = write!(std::io::stdout(), "{}", brief_help());
            Exit::Complete
        }
        Err(error) => {
            // Help and version go to stdout; a reader that went away needs neither.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Complete }
        }
    }
}

/// An option that other programs have, in words of our own: clap's tips would be about names that look alike.
fn with_habits(error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return error };
    match options::habits::instead_of(option).filter(|_| error.kind() == ErrorKind::UnknownArgument) {
        Some(tip) => {
            let text = format!("there is no option '{}'; {tip}", text::escape(option));
            Args::command().error(ErrorKind::UnknownArgument, text)
        }
        None => error,
    }
}
