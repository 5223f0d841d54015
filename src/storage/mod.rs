//! The files of a torrent.

/// How files are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Preallocate {
    /// Files grow as pieces are written.
    None,
    /// Files get their full size, without blocks.
    #[default]
    Sparse,
    /// Files get their blocks; refused before anything is written when the disk is too small.
    Full,
}
