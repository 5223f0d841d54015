//! What the user said: options, their values, and their checked form.

pub mod args;
pub(super) mod brief;
mod choices;
pub(super) mod config;
pub(super) mod habits;
pub mod making;
pub(super) mod select;
mod urls;
pub(super) mod values;
