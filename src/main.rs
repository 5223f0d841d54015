//! The `btget` command: turns the outcome of the command line into an exit code.

use std::process::{ExitCode, exit};

fn main() -> ExitCode {
    btget::command_line(exit).into()
}
