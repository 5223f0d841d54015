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

use crate::hash::Sha256;
use crate::hash::merkle::{root_of_proof, uncles_to};
use crate::wire::HashRange;
pub use fetch::{HashFetch, HashFetchInput, HashFetchOutput, MAX_OWED_HASHES};
pub use serve::{HashAnswer, HashServer, PieceRun};
pub use trials::{BlockTrials, TrialEnd};

/// Of an answer, the hashes that were asked for, if the uncles behind them prove them by the root. The range reaches up to the root.
fn proved<'a>(range: &HashRange, hashes: &'a [Sha256]) -> Option<&'a [Sha256]> {
    let (asked, uncles) = hashes.split_at_checked(range.length as usize)?;
    let is_whole = uncles_to(0, range.length.into(), range.proof_layers + 1) == Some(uncles.len() as u32);
    (is_whole && root_of_proof(asked, range.index.into(), uncles) == Some(range.root)).then_some(asked)
}
