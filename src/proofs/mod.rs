//! Hashes of merkle trees between peers (BEP 52): asking for the piece layers that a torrent of version 2 lacks, and for the blocks of
//! pieces that fail; and giving those that are here.
//!
//! Owns what is asked of whom, and what is answered. Pure: no sockets, no clock; what it hashes is a few hundred pairs at a time.
//! Every answer proves itself by the root that it is about, so nothing wrong is ever kept, and who sends it is found at once.

mod fetch;
mod serve;
#[cfg(test)]
mod tests;
mod trials;

pub use fetch::{HashFetch, HashFetchInput, HashFetchOutput};
pub use serve::{HashServer, WantedBlocks};
pub use trials::{BlockTrials, TrialEnd};
