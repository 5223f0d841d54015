//! The pure core: what a torrent decides, without I/O, clock, tasks or global randomness.

pub mod announce;
