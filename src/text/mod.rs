//! How things are written for people.
//!
//! Pure formatting, known to all rooms. Nothing here prints, and nothing here is meant to be parsed again.

pub(crate) mod format;

mod credentials;
mod escape;
mod remedies;

pub use credentials::{credentials, without_any_credentials, without_credentials};
pub use escape::{escape, is_plain_ascii, is_unprintable};
pub(crate) use format::{Moment, Rate, RoomNeeded, Short, Size, Time, count, percent};
pub use remedies::Remedies;
