//! Names as a torrent gives them, for the URLs of web seeds: those on the disk may have been mended.

use std::sync::Arc;

use super::info::{name, path_value};
use super::tree::TreeWalk;
use super::{Metainfo, pick};
use crate::bencode;
use crate::layout::FileIndex;

/// The names of a torrent's files as they stand in its `info` dictionary.
#[derive(Clone, Debug)]
pub struct RawNames {
    info: Arc<[u8]>,
    name: Vec<u8>,
    paths: RawPaths,
}

#[derive(Clone, Debug)]
enum RawPaths {
    /// There is one file, and the name is its.
    Single,
    /// Where the path of each file begins in `info`: a list of strings.
    Listed(Vec<u32>),
    /// The components of each file's path.
    Tree(Vec<Box<[Box<[u8]>]>>),
}

impl Metainfo {
    /// The names of its files as it gives them. Takes time and memory in proportion to their number.
    pub fn raw_names(&self) -> RawNames {
        let info = self.info_bytes.clone();
        let dict = bencode::decode(&info).ok().and_then(|info| info.as_dict());
        let [name, name_utf8, files, tree] = match dict {
            Some(dict) => pick(dict, [b"name", b"name.utf-8", b"files", b"file tree"]),
            None => [None; 4],
        };
        let name = self::name(name, name_utf8).unwrap_or_default().to_vec();
        if let Some(tree) = tree.filter(|_| self.piece_hashes.layers().is_some()) {
            return RawNames { paths: paths_of_tree(tree, &name, files.is_some()), name, info };
        }
        let start = |file: bencode::Value<'_>| {
            let [path, path_utf8] = pick(file.as_dict()?, [b"path", b"path.utf-8"]);
            let span = path_value(path, path_utf8)?.span();
            u32::try_from(span.as_ptr() as usize - info.as_ptr() as usize).ok()
        };
        let paths = match files.and_then(|files| files.as_list()) {
            Some(files) => RawPaths::Listed(files.map(|file| start(file).unwrap_or(u32::MAX)).collect()),
            None => RawPaths::Single,
        };
        RawNames { name, paths, info }
    }
}

/// The paths in a file tree. One file that has the torrent's name is that name.
fn paths_of_tree(tree: bencode::Value<'_>, name: &[u8], is_listed: bool) -> RawPaths {
    let mut walk = TreeWalk::of(tree);
    let mut paths: Vec<Box<[Box<[u8]>]>> = Vec::new();
    while let Ok(Some(_)) = walk.next_file() {
        paths.push(walk.components().iter().map(|&component| component.into()).collect());
    }
    match paths.as_slice() {
        [only] if !is_listed && matches!(&**only, [file] if **file == *name) => RawPaths::Single,
        _ => RawPaths::Tree(paths),
    }
}

impl RawNames {
    /// The name of the torrent.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether it is a torrent of one file, which has the torrent's name.
    pub fn is_single(&self) -> bool {
        matches!(self.paths, RawPaths::Single)
    }

    /// The components of a file's path below the folder of the torrent's name; none of a single file, or of one that does not exist.
    pub fn path(&self, file: FileIndex) -> Vec<&[u8]> {
        let start = match &self.paths {
            RawPaths::Single => None,
            RawPaths::Listed(starts) => starts.get(file.0 as usize),
            RawPaths::Tree(paths) => {
                let path = paths.get(file.0 as usize);
                return path.into_iter().flatten().map(|component| &**component).collect();
            }
        };
        let bytes = start.and_then(|&start| self.info.get(start as usize..)).unwrap_or_default();
        let Ok((path, _)) = bencode::decode_prefix(bytes) else { return Vec::new() };
        path.as_list().into_iter().flatten().filter_map(|component| component.as_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn torrent(info: &[u8]) -> RawNames {
        Metainfo::parse(&[b"d4:info", info, b"e"].concat()).unwrap().raw_names()
    }

    #[test]
    fn the_names_are_those_of_the_torrent_whatever_the_disk_makes_of_them() {
        let hash = [b"6:pieces20:".as_slice(), &[0; 20]].concat();
        let files =
            b"d5:filesld6:lengthi1e4:pathl1:a3:..\\eed6:lengthi1e4:pathl1:\xffe10:path.utf-8l2:\xc3\xa4ee\
            d6:lengthi1e4:pathl1:be10:path.utf-8l1:\xffeee4:name2:CO12:piece lengthi16384e";
        let names = torrent(&[files.as_slice(), &hash, b"e"].concat());
        assert_eq!((names.name(), names.is_single()), (b"CO".as_slice(), false));
        assert_eq!(names.path(FileIndex(0)), [b"a".as_slice(), b"..\\"]);
        assert_eq!(names.path(FileIndex(1)), ["ä".as_bytes()]);
        assert_eq!(names.path(FileIndex(2)), [b"b".as_slice()]);
        assert!(names.path(FileIndex(3)).is_empty());
        let single = b"d6:lengthi1e4:name3:a/b12:piece lengthi16384e";
        let names = torrent(&[single.as_slice(), &hash, b"e"].concat());
        assert_eq!((names.name(), names.is_single()), (b"a/b".as_slice(), true));
        assert!(names.path(FileIndex(0)).is_empty());
    }
}
