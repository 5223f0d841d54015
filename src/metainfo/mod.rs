//! What a .torrent file says (BEP 3, 12, 27, 47), parsed and checked.

use std::sync::Arc;

use crate::hash::Digest;
use crate::layout::{Layout, PieceIndex};

/// SHA-1 of the `info` dictionary over the bytes as they stand: the torrent's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

impl std::fmt::Display for InfoHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// One file of a torrent.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it will stand below basedir: safe components joined by `/`, the torrent's own folder
    /// included where it has one. No component is empty, `.`, `..`, or holds a separator or a
    /// control character; none is over 255 bytes; no two files have the same path.
    pub path: Box<str>,
    /// Length in bytes.
    pub length: u64,
    /// A pad file (BEP 47): zeros, never on disk.
    pub pad: bool,
    /// BEP 47 `attr` `x`.
    pub executable: bool,
    /// BEP 47 `attr` `l`: a symbolic link to this path (below basedir, safe, inside the torrent's folder).
    pub symlink: Option<Box<str>>,
}

/// A parsed, checked torrent.
#[derive(Clone, Debug)]
pub struct Metainfo {
    /// Identity.
    pub info_hash: InfoHash,
    /// The suggested name, decoded; may hold anything, escape it before printing.
    pub name: String,
    /// Sizes and places; `layout.files()` and `files` have the same order and length.
    pub layout: Arc<Layout>,
    /// SHA-1 of each piece.
    pub piece_hashes: Arc<[Digest]>,
    /// The files, in order.
    pub files: Vec<File>,
    /// BEP 27: use the torrent's own trackers alone.
    pub private: bool,
    /// Tiers of tracker URLs (BEP 12), or one tier of the one `announce`.
    pub trackers: Vec<Vec<String>>,
    /// BEP 5 `nodes`.
    pub nodes: Vec<(String, u16)>,
    /// BEP 19 `url-list`.
    pub url_list: Vec<String>,
    /// `comment`.
    pub comment: Option<String>,
    /// `created by`.
    pub created_by: Option<String>,
    /// `creation date`, seconds since 1970.
    pub creation_date: Option<i64>,
    /// What was changed about names and what was left out, for people, once.
    pub notes: Vec<String>,
    /// The `info` dictionary as it stands in the file.
    pub info_bytes: Arc<[u8]>,
}

impl Metainfo {
    /// The hash that `piece` must have.
    pub fn piece_hash(&self, piece: PieceIndex) -> Digest {
        self.piece_hashes[piece.0 as usize]
    }
}
