//! The `info` dictionary of a draft, and its piece layers, as bytes.

use super::super::fetched::{list, text};
use super::{Draft, DraftDetails, DraftFile, DraftHashes};
use crate::hash::Sha256;
use crate::hash::merkle;
use crate::metainfo::layers;

impl Draft {
    /// The tree of each file that has data, in the order of the files; none if there is no version 2.
    pub(super) fn trees<'a>(&self, hashes: &'a DraftHashes) -> Vec<FileTree<'a>> {
        let mut rest = &hashes.v2[..];
        let mut trees = Vec::new();
        if !self.format.has_v2() {
            return trees;
        }
        let piece_length = self.layout.piece_length();
        for file in self.files.iter().filter(|file| file.length > 0) {
            let pieces = file.length.div_ceil(u64::from(piece_length)) as usize;
            let (layer, behind) = rest.split_at(pieces);
            rest = behind;
            trees.push(match layer {
                [root] => FileTree { root: *root, layer: &[] },
                layer => {
                    FileTree { root: merkle::file_root(layer, merkle::piece_height(piece_length)), layer }
                }
            });
        }
        trees
    }

    /// The `info` dictionary.
    pub(super) fn info(
        &self,
        hashes: &DraftHashes,
        trees: &[FileTree<'_>],
        details: &DraftDetails,
    ) -> Vec<u8> {
        let mut bytes = b"d".to_vec();
        let only = if self.is_folder { None } else { self.files.first() };
        if let Some(file) = only.filter(|_| self.format.has_v1()) {
            encode_attr(&mut bytes, file);
        }
        if self.format.has_v2() {
            text(&mut bytes, "file tree");
            self.encode_tree(&mut bytes, trees);
        }
        if self.format.has_v1() {
            match only {
                Some(file) => {
                    text(&mut bytes, "length");
                    integer(&mut bytes, file.length);
                }
                None => {
                    text(&mut bytes, "files");
                    self.encode_files(&mut bytes);
                }
            }
        }
        if self.format.has_v2() {
            text(&mut bytes, "meta version");
            integer(&mut bytes, 2);
        }
        text(&mut bytes, "name");
        text(&mut bytes, &self.name);
        text(&mut bytes, "piece length");
        integer(&mut bytes, self.layout.piece_length());
        if self.format.has_v1() {
            text(&mut bytes, "pieces");
            string(&mut bytes, hashes.v1.iter().map(AsRef::as_ref));
        }
        if details.private {
            text(&mut bytes, "private");
            integer(&mut bytes, 1);
        }
        if let Some(source) = &details.source {
            text(&mut bytes, "source");
            text(&mut bytes, source);
        }
        bytes.push(b'e');
        bytes
    }

    /// `files` of version 1, pads among them.
    fn encode_files(&self, bytes: &mut Vec<u8>) {
        bytes.push(b'l');
        for (extent, member) in self.layout.files().iter().zip(&self.members) {
            bytes.push(b'd');
            match member.map(|index| &self.files[index as usize]) {
                Some(file) => {
                    encode_attr(bytes, file);
                    text(bytes, "length");
                    integer(bytes, file.length);
                    text(bytes, "path");
                    path(bytes, &file.path);
                    encode_symlink(bytes, file);
                }
                None => {
                    text(bytes, "attr");
                    text(bytes, "p");
                    text(bytes, "length");
                    integer(bytes, extent.length);
                    text(bytes, "path");
                    path(bytes, &format!(".pad/{}", extent.length));
                }
            }
            bytes.push(b'e');
        }
        bytes.push(b'e');
    }

    /// `file tree` of version 2: the order of the files is that of its keys.
    fn encode_tree(&self, bytes: &mut Vec<u8>, trees: &[FileTree<'_>]) {
        let mut trees = trees.iter();
        let mut open: Vec<&str> = Vec::new();
        bytes.push(b'd');
        for file in &self.files {
            let (folders, name) = match file.path.rsplit_once('/') {
                Some((folders, name)) => (folders.split('/').collect(), name),
                None => (Vec::new(), &*file.path),
            };
            let common = open.iter().zip(&folders).take_while(|(a, b)| a == b).count();
            bytes.extend(open.drain(common..).map(|_| b'e'));
            for folder in &folders[common..] {
                text(bytes, folder);
                bytes.push(b'd');
            }
            open.extend_from_slice(&folders[common..]);
            text(bytes, name);
            bytes.extend_from_slice(b"d0:d");
            encode_attr(bytes, file);
            // libtorrent gives links no length here; so the hashes are the same.
            if file.symlink.is_none() {
                text(bytes, "length");
                integer(bytes, file.length);
            }
            if let Some(tree) = (file.length > 0).then(|| trees.next()).flatten() {
                text(bytes, "pieces root");
                string(bytes, [tree.root.as_ref()].into_iter());
            }
            encode_symlink(bytes, file);
            bytes.extend_from_slice(b"ee");
        }
        bytes.extend(open.iter().map(|_| b'e'));
        bytes.push(b'e');
    }
}

/// The merkle tree of a file, as far as a torrent holds it.
pub(super) struct FileTree<'a> {
    root: Sha256,
    /// Empty for a file of one piece.
    layer: &'a [Sha256],
}

/// `piece layers`.
pub(super) fn encode_layers(bytes: &mut Vec<u8>, trees: &[FileTree<'_>]) {
    let layers = trees.iter().filter(|tree| !tree.layer.is_empty());
    layers::encode_layers(bytes, layers.map(|tree| (tree.root, tree.layer)));
}

fn encode_attr(bytes: &mut Vec<u8>, file: &DraftFile) {
    let attr = match (file.executable, &file.symlink) {
        (false, None) => return,
        (true, None) => "x",
        (false, Some(_)) => "l",
        (true, Some(_)) => "xl",
    };
    text(bytes, "attr");
    text(bytes, attr);
}

fn encode_symlink(bytes: &mut Vec<u8>, file: &DraftFile) {
    if let Some(target) = &file.symlink {
        text(bytes, "symlink path");
        path(bytes, target);
    }
}

/// The components of a path.
fn path(bytes: &mut Vec<u8>, path: &str) {
    list(bytes, &path.split('/').collect::<Vec<_>>(), |bytes, component| text(bytes, component));
}

/// One byte string of all parts, which are equally long.
fn string<'a>(bytes: &mut Vec<u8>, parts: impl ExactSizeIterator<Item = &'a [u8]> + Clone) {
    let length: usize = parts.clone().map(<[u8]>::len).sum();
    bytes.extend(format!("{length}:").bytes());
    parts.for_each(|part| bytes.extend_from_slice(part));
}

pub(super) fn integer(bytes: &mut Vec<u8>, value: impl std::fmt::Display) {
    bytes.extend(format!("i{value}e").bytes());
}
