//! The `btget` command: turns the outcome of the command line into an exit code.

fn main() {}
