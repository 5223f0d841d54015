//! What a .torrent file says (BEP 3, 12, 27, 47, 52), or a magnet link (BEP 9, 53), parsed and checked.
//!
//! Owns the way from foreign bytes to a [`Metainfo`] that the rest may trust, and back for torrents
//! of our own (`create`). Never touches a file system, and never prints: what people should know
//! is in [`Metainfo::notes`].

mod announce;
mod byteset;
pub mod create;
pub mod draft;
mod error;
mod fetched;
mod info;
mod layers;
mod magnet;
mod names;
mod notes;
mod path;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
mod tree;
#[cfg(test)]
mod v2_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use announce::{is_torrent_url, tracker_url, web_seed_url};
pub use error::MetainfoError;
pub(crate) use layers::PieceHash;
pub use layers::{PieceHashes, PieceLayers};
pub use magnet::{InvalidPeerAddress, MAX_MAGNET_LENGTH, Magnet, MagnetError, PeerAddress, is_magnet};
pub use names::RawNames;
// What the types of this room are made of.
use crate::hash::sha256;
pub use crate::hash::{Sha1, Sha256, sha1};
pub use crate::ids::{InfoHashes, WireHash};
pub use crate::layout::{Block, Extent, FileIndex, Layout, PieceIndex, Span};

use crate::bencode;

/// Bytes in a .torrent that is read.
pub const MAX_LENGTH: usize = 64 << 20;

/// Pieces in a torrent that is read.
pub const MAX_PIECES: usize = 1 << 21;

/// Files in a torrent that is read.
pub const MAX_FILES: usize = 1_000_000;

/// Bytes in a piece: 256 MiB, the most that torrent makers offer (mktorrent's `-l 28`). A piece is
/// held in memory until it is verified, so this bounds what a stranger's torrent can ask of us;
/// and offsets inside a piece never come near the end of `u32`.
pub const MAX_PIECE_LENGTH: u32 = 1 << 28;

/// Bytes kept of `comment` and of `created by`.
const MAX_TEXT: usize = 64 << 10;

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
    /// Identity: both hashes of a hybrid, unless it is known by a link that names one of them.
    pub info_hash: InfoHashes,
    /// All hashes that [`Metainfo::info_bytes`] have, whatever it is known by.
    pub all_hashes: InfoHashes,
    /// The suggested name, decoded; may hold anything, escape it before printing.
    pub name: String,
    /// Sizes and places; `layout.files()` and `files` have the same order and length.
    pub layout: Arc<Layout>,
    /// What each piece must hash to.
    pub piece_hashes: PieceHashes,
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
    /// BEP 17 `httpseeds`.
    pub http_seeds: Vec<String>,
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
    /// Reads a .torrent.
    ///
    /// Refuses what is not one whole, consistent torrent of version 1, 2 or both within the bounds above; the error says
    /// which key is wrong and why. Mends names, leaves out unusable trackers and links, and says so in
    /// `notes`. Takes time and memory in proportion to `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        if bytes.len() > MAX_LENGTH {
            return Err(MetainfoError::TooLong);
        }
        if let Some(what) = foreign(bytes) {
            return Err(MetainfoError::Foreign(what));
        }
        let (value, behind) = bencode::decode_prefix(bytes)?;
        let top = error::dict("the top level", value)?;
        let [
            info,
            announce,
            announce_list,
            url_list,
            http_seeds,
            nodes,
            comment,
            comment_utf8,
            created_by,
            creation_date,
            piece_layers,
        ] = pick(
            top,
            [
                b"info",
                b"announce",
                b"announce-list",
                b"url-list",
                b"httpseeds",
                b"nodes",
                b"comment",
                b"comment.utf-8",
                b"created by",
                b"creation date",
                b"piece layers",
            ],
        );
        let info = info.ok_or_else(|| MetainfoError::missing("info"))?;
        let mut notes = notes::ParseNotes::default();
        // The info hash does not cover it: a line end, a form's leftovers.
        if !behind.is_empty() {
            let bytes = if behind.len() == 1 { "byte is" } else { "bytes are" };
            notes.add(|| format!("{} {bytes} behind the end of the torrent; ignored", behind.len()));
        }
        let parsed = info::parse(info, &mut notes)?;
        let (v1, v2) = (|| sha1(info.span()), || sha256(info.span()));
        let mut layers = |roots| {
            let mut layers = PieceLayers::new(roots, &parsed.layout);
            let mut read = |value| layers.read(value, &parsed.layout, &mut notes);
            let read = piece_layers.map_or(Ok(()), &mut read);
            read.map(|()| Arc::new(layers))
        };
        let (info_hash, piece_hashes) = match parsed.hashes {
            info::Hashes::V1(hashes) => (InfoHashes::V1(v1()), PieceHashes::V1(hashes)),
            info::Hashes::V2(roots) => (InfoHashes::V2(v2()), PieceHashes::V2(layers(roots)?)),
            info::Hashes::Hybrid(hashes, roots) => {
                (InfoHashes::Hybrid(v1(), v2()), PieceHashes::Hybrid(hashes, layers(roots)?))
            }
        };
        Ok(Metainfo {
            info_hash,
            all_hashes: info_hash,
            name: parsed.name,
            layout: parsed.layout,
            piece_hashes,
            files: parsed.files,
            private: parsed.private,
            trackers: announce::trackers(announce, announce_list, &mut notes),
            nodes: announce::nodes(nodes),
            url_list: announce::web_seeds("url-list", url_list, &mut notes),
            http_seeds: announce::web_seeds("httpseeds", http_seeds, &mut notes),
            comment: comment_utf8.and_then(text).or_else(|| comment.and_then(text)),
            created_by: created_by.and_then(text),
            creation_date: creation_date.and_then(|date| date.as_int()),
            notes: notes.into_lines(),
            info_bytes: info.span().into(),
        })
    }

    /// The hashes of the swarms in which it is found: both of a hybrid, also if a link names one of them.
    pub(crate) fn swarms(&self) -> InfoHashes {
        if self.all_hashes.include(self.info_hash) { self.all_hashes } else { self.info_hash }
    }

    /// Where its data are if they are below `basedir`: its own folder, or its one file.
    pub fn path_below(&self, basedir: &Path) -> PathBuf {
        let first = self.files.first().map_or("", |file| file.path.as_ref());
        basedir.join(first.split('/').next().unwrap_or_default())
    }

    /// The hash that `piece` must have, if it is known: of version 2, where there is one.
    pub(crate) fn piece_hash(&self, piece: PieceIndex) -> Option<PieceHash> {
        self.piece_hashes.of_piece(&self.layout, piece)
    }
}

/// The values of `keys` in one walk; of duplicate keys the first counts.
fn pick<'a, const N: usize>(dict: bencode::Dict<'a>, keys: [&[u8]; N]) -> [Option<bencode::Value<'a>>; N] {
    let mut values = [None; N];
    for (key, value) in dict {
        if let Some(at) = keys.iter().position(|wanted| *wanted == key) {
            values[at].get_or_insert(value);
        }
    }
    values
}

/// What this is, if it does not even begin like a .torrent.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("empty"),
        [b'd', ..] => None,
        [0x1f, 0x8b, ..] => Some("compressed by gzip; unpack it first"),
        [b'm', b'a', b'g', b'n', b'e', b't', b':', ..] => Some("holds a magnet link"),
        _ if bytes.trim_ascii_start().starts_with(b"<") => {
            Some("a web page; the link needs a log-in, or was not that of the torrent itself")
        }
        _ => Some("does not begin with a dictionary"),
    }
}

/// A text for people, invalid UTF-8 replaced, no more than [`MAX_TEXT`] bytes of it; `None` if empty.
fn text(value: bencode::Value<'_>) -> Option<String> {
    let bytes = value.as_bytes().filter(|bytes| !bytes.is_empty())?;
    Some(String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]).into_owned())
}
