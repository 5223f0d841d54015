//! A torrent that is being made, of version 1, 2 or both (BEP 3, 12, 19, 27, 47, 52): the order of its files, what each piece
//! is made of, and, once that is hashed, its bytes.
//!
//! Pure: the caller reads and hashes. The same files give the same bytes, whatever their order was, and they are canonical. Files are
//! ordered by the components of their paths, as `file tree` has them; so the order is the same in every version.

mod encoding;

use super::fetched::{list, text};
use super::{MAX_FILES, MAX_LENGTH, MAX_PIECES};
use crate::bencode;
use crate::hash::merkle::root_height;
use crate::hash::{Sha1, Sha256};
use crate::layout::{FileIndex, Layout, PieceIndex};
use encoding::{encode_layers, integer};

/// By default there are at most so many pieces, and half as many at least.
const DEFAULT_PIECES: u64 = 2000;

/// Bounds of the piece length that is chosen by default, in bytes.
const DEFAULT_LENGTHS: std::ops::RangeInclusive<u32> = 16 << 10..=16 << 20;

/// Folders that a file may be below, the torrent's own not counted, where there is a file tree: each is a dictionary in the one before, as are
/// the torrent, `info`, the tree, the file and its properties. Those of a link have a list in them. One less than is read here, since
/// libtorrent, which has the same bound, counts what is in the innermost of them too.
const MAX_FOLDERS_ABOVE: usize = bencode::MAX_DEPTH as usize - 6;

/// As which versions a torrent can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Version 1 alone (BEP 3).
    V1,
    /// Version 2 alone (BEP 52).
    V2,
    /// Both.
    Hybrid,
}

impl Format {
    /// Whether pieces have SHA-1 hashes.
    pub fn has_v1(self) -> bool {
        self != Format::V2
    }

    /// Whether files have merkle trees.
    pub fn has_v2(self) -> bool {
        self != Format::V1
    }
}

/// A file of a torrent that is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DraftFile {
    /// Its path below the torrent's folder, `/` between components; of a torrent of one file without a folder, its name.
    pub path: Box<str>,
    /// Length in bytes; 0 for a link.
    pub length: u64,
    /// BEP 47 `attr` `x`.
    pub executable: bool,
    /// BEP 47 `attr` `l`: a symbolic link to this path below the torrent's folder.
    pub symlink: Option<Box<str>>,
}

/// What a torrent says besides what it shares.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DraftDetails {
    /// Tiers of tracker URLs (BEP 12); the first of all is also `announce`.
    pub trackers: Vec<Vec<String>>,
    /// BEP 19 `url-list`.
    pub web_seeds: Vec<String>,
    /// BEP 5 `nodes`.
    pub nodes: Vec<(String, u16)>,
    /// BEP 27. Part of what is hashed.
    pub private: bool,
    /// `source`, by which a tracker has torrents of its own. Part of what is hashed.
    pub source: Option<String>,
    /// `comment`.
    pub comment: Option<String>,
    /// `created by`.
    pub created_by: Option<String>,
    /// `creation date`, seconds since 1970.
    pub creation_date: Option<i64>,
}

/// The hashes of a draft's pieces, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DraftHashes {
    /// SHA-1 of each; none for version 2 alone.
    pub v1: Vec<Sha1>,
    /// The root of each piece's blocks, of the height that [`Draft::root_height`] says; none for version 1 alone.
    pub v2: Vec<Sha256>,
}

/// Why no torrent can be made of these files. It reads on after `cannot make a torrent of ..: `.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Nothing to share.
    #[error("it holds no data: a torrent needs one byte at least")]
    NoBytes,
    /// More than [`MAX_FILES`].
    #[error("more than {MAX_FILES} files: clients do not take such a torrent")]
    TooManyFiles,
    /// More pieces, or a larger .torrent, than is read. The piece length, in bytes.
    #[error("in pieces of {0} bytes the .torrent is larger than clients take")]
    TooManyPieces(u32),
    /// A file is below more folders than are read. Its path.
    #[error(
        "{0:?} is below more than {MAX_FOLDERS_ABOVE} folders: clients do not take such a torrent of version 2"
    )]
    TooDeep(Box<str>),
    /// The lengths do not fit 2^63.
    #[error("its files are larger than a torrent can be")]
    TooLarge,
}

/// A torrent of which all is known but the hashes.
#[derive(Clone, Debug)]
pub struct Draft {
    name: String,
    is_folder: bool,
    files: Vec<DraftFile>,
    format: Format,
    /// The stream of the pieces. Pads stand behind the files in it if there is a version 2; to that alone they are not data.
    layout: Layout,
    /// Of each extent of the layout, the file; `None` for a pad.
    members: Vec<Option<u32>>,
}

/// The piece length for so many bytes: the least power of two with which there are no more than 2,000 pieces, from 16 KiB to 16 MiB.
pub fn default_piece_length(total: u64) -> u32 {
    let mut length = *DEFAULT_LENGTHS.start();
    while length < *DEFAULT_LENGTHS.end() && total.div_ceil(u64::from(length)) > DEFAULT_PIECES {
        length *= 2;
    }
    length
}

impl Draft {
    /// A torrent called `name` of these files, which are below a folder of that name unless `is_folder` is false: then there is one, called as
    /// the torrent is. Their paths differ, none leads through another, and none has an empty component. `piece_length` is a power of two
    /// from 16 KiB on.
    ///
    /// # Errors
    ///
    /// If there is nothing in them, or more than is read.
    pub fn new(
        name: String,
        is_folder: bool,
        mut files: Vec<DraftFile>,
        format: Format,
        piece_length: u32,
    ) -> Result<Draft, DraftError> {
        if files.len() > MAX_FILES {
            return Err(DraftError::TooManyFiles);
        }
        files.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        if files.iter().all(|file| file.length == 0) {
            return Err(DraftError::NoBytes);
        }
        let levels = |file: &DraftFile| file.path.matches('/').count() + usize::from(file.symlink.is_some());
        if format.has_v2()
            && let Some(deep) = files.iter().find(|file| levels(file) > MAX_FOLDERS_ABOVE)
        {
            return Err(DraftError::TooDeep(deep.path.clone()));
        }
        // libtorrent pads behind each file that needs it, the last included, unless it is the only one; so the hashes are the same.
        let are_padded = format.has_v2() && files.len() > 1;
        let mut extents = Vec::new();
        let mut members = Vec::new();
        for (index, file) in (0u32..).zip(&files) {
            extents.push((file.length, false));
            members.push(Some(index));
            let behind = file.length % u64::from(piece_length);
            if are_padded && behind > 0 {
                extents.push((u64::from(piece_length) - behind, true));
                members.push(None);
            }
        }
        let layout = Layout::new(piece_length, extents).filter(|layout| layout.total() < 1 << 63);
        let Some(layout) = layout else {
            let total = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.length));
            return Err(match total {
                Some(total) if total < 1 << 62 => DraftError::TooManyPieces(piece_length),
                _ => DraftError::TooLarge,
            });
        };
        let bytes_of_hashes = if format.has_v1() { 20 } else { 0 } + if format.has_v2() { 32 } else { 0 };
        let pieces = layout.num_pieces() as usize;
        if pieces > MAX_PIECES || pieces * bytes_of_hashes > MAX_LENGTH {
            return Err(DraftError::TooManyPieces(piece_length));
        }
        Ok(Draft { name, is_folder, files, format, layout, members })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its files are below a folder.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// As which versions it can be read.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The files, in their order, without pads.
    pub fn files(&self) -> &[DraftFile] {
        &self.files
    }

    /// Whether readers put its one file where its folder should be: version 2 alone writes a folder with one file in it as that file
    /// (BEP 52, "a single-file torrent").
    pub fn loses_folder(&self) -> bool {
        let only = matches!(&self.files[..], [file] if !file.path.contains('/'));
        self.format == Format::V2 && self.is_folder && only
    }

    /// Bytes in its files, pads not counted.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// The stream of its pieces, with pads. To version 2 a piece ends where the pad begins.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Which of [`Draft::files`] stands there in the layout; `None` for a pad.
    pub fn member(&self, extent: FileIndex) -> Option<usize> {
        self.members[extent.0 as usize].map(|index| index as usize)
    }

    /// Bytes of a file in a piece, of a torrent that has a version 2.
    pub fn data_in(&self, piece: PieceIndex) -> u32 {
        let span = self.layout.spans_of_piece(piece).next();
        span.map_or(0, |span| span.length as u32)
    }

    /// The height of the tree over a piece's blocks, of a torrent that has a version 2: that of the piece layer, or, for a file of one
    /// piece, of the file's own tree.
    pub fn root_height(&self, piece: PieceIndex) -> u32 {
        let file = self.layout.spans_of_piece(piece).next().map(|span| self.layout.file(span.file));
        root_height(file.map_or(0, |file| file.length), self.layout.piece_length())
    }

    /// The torrent.
    ///
    /// # Errors
    ///
    /// If it is larger than what is read.
    ///
    /// # Panics
    ///
    /// If there is not one hash for each piece.
    pub fn finish(&self, hashes: &DraftHashes, details: &DraftDetails) -> Result<Vec<u8>, DraftError> {
        let pieces = self.layout.num_pieces() as usize;
        assert_eq!(
            hashes.v1.len(),
            if self.format.has_v1() { pieces } else { 0 },
            "one SHA-1 for each piece"
        );
        assert_eq!(hashes.v2.len(), if self.format.has_v2() { pieces } else { 0 }, "one root for each piece");
        let trees = self.trees(hashes);
        let info = self.info(hashes, &trees, details);
        let mut bytes = b"d".to_vec();
        if let Some(first) = details.trackers.iter().flatten().next() {
            text(&mut bytes, "announce");
            text(&mut bytes, first);
        }
        if details.trackers.iter().flatten().count() > 1 {
            text(&mut bytes, "announce-list");
            list(&mut bytes, &details.trackers, |bytes, tier| {
                list(bytes, tier, |bytes, url| text(bytes, url))
            });
        }
        for (key, value) in [("comment", &details.comment), ("created by", &details.created_by)] {
            if let Some(value) = value {
                text(&mut bytes, key);
                text(&mut bytes, value);
            }
        }
        if let Some(date) = details.creation_date {
            text(&mut bytes, "creation date");
            integer(&mut bytes, date);
        }
        text(&mut bytes, "info");
        bytes.extend_from_slice(&info);
        if !details.nodes.is_empty() {
            text(&mut bytes, "nodes");
            list(&mut bytes, &details.nodes, |bytes, (host, port)| {
                bytes.push(b'l');
                text(bytes, host);
                integer(bytes, *port);
                bytes.push(b'e');
            });
        }
        if self.format.has_v2() {
            text(&mut bytes, "piece layers");
            encode_layers(&mut bytes, &trees);
        }
        if !details.web_seeds.is_empty() {
            text(&mut bytes, "url-list");
            list(&mut bytes, &details.web_seeds, |bytes, url| text(bytes, url));
        }
        bytes.push(b'e');
        if bytes.len() > MAX_LENGTH {
            return Err(DraftError::TooManyPieces(self.layout.piece_length()));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
