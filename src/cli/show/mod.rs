//! What people and programs see: bars, lines, reports, `--show`, and the stream of events.

pub(super) mod bar;
pub(super) mod created;
mod frame;
pub(super) mod json;
pub(super) mod plan;
pub(super) mod report;
pub(super) mod say;
pub(super) mod screen;
mod terminal;
pub mod torrent;
