//! Torrents of version 2 and hybrids (BEP 52), made byte by byte, with merkle trees by the plainest way there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use btget::internals::hash::{Sha256, sha256};
use tempfile::TempDir;

use super::crafted::{Item, dict, hashes, list, names, number, string};

const BLOCK: usize = 16 * 1024;

/// The torrent's name.
pub const NAME: &str = "album";

/// Bytes in a piece.
pub const PIECE: usize = 2 * BLOCK;

/// Files, and the folders of those who share them.
pub struct Album {
    pub folder: TempDir,
    pub items: Vec<Item>,
}

impl Album {
    /// Files that end with a piece, within one and within a block; two of the same content; one that is empty. Sorted as a tree is.
    pub fn new() -> Album {
        let mut items = vec![
            Item::new("a.bin", 1_000_003),
            Item::new("b/c", PIECE),
            Item::new("b/empty", 0),
            Item::new("b.e", 1),
            Item::new("z/same", 0),
            Item::new("z/short", 20_000),
        ];
        items[4].data = items[0].data.clone();
        Album { folder: TempDir::new().unwrap(), items }
    }

    /// A .torrent, of version 1 too where it is a `hybrid`, with the piece layers or without.
    pub fn torrent(&self, hybrid: bool, layers: bool) -> PathBuf {
        let path = self.folder.path().join(format!("{hybrid}-{layers}.torrent"));
        let mut entries = vec![("info", self.info(hybrid))];
        if layers {
            let layers: BTreeMap<Sha256, Vec<u8>> = self.items.iter().filter_map(layer).collect();
            let layers = layers.iter().flat_map(|(root, layer)| [string(&root.0), string(layer)].concat());
            entries.push(("piece layers", [b"d", &layers.collect::<Vec<u8>>()[..], b"e"].concat()));
        }
        fs::write(&path, dict(&entries)).unwrap();
        path
    }

    /// The `info` dictionary.
    pub fn info(&self, hybrid: bool) -> Vec<u8> {
        let mut entries = vec![
            ("file tree", self.tree()),
            ("meta version", number(2)),
            ("name", string(NAME.as_bytes())),
            ("piece length", number(PIECE as u64)),
        ];
        if hybrid {
            let (mut stream, mut files) = (Vec::new(), Vec::new());
            for item in &self.items {
                stream.extend(&item.data);
                files.push(dict(&[("length", number(item.data.len() as u64)), ("path", names(&item.path))]));
                let pad = stream.len().next_multiple_of(PIECE) - stream.len();
                if pad > 0 {
                    stream.resize(stream.len() + pad, 0);
                    let path = names(&Item::pad(pad).path);
                    let entries = [("attr", string(b"p")), ("length", number(pad as u64)), ("path", path)];
                    files.push(dict(&entries));
                }
            }
            entries.push(("files", list(&files)));
            entries.push(("pieces", string(&hashes(&stream, PIECE))));
        }
        entries.sort();
        dict(&entries)
    }

    fn tree(&self) -> Vec<u8> {
        let mut top = Node::default();
        for item in &self.items {
            let mut node = &mut top;
            for name in &item.path {
                node = node.inside.entry(name.clone()).or_default();
            }
            let mut entries = vec![("length", number(item.data.len() as u64))];
            if !item.data.is_empty() {
                entries.push(("pieces root", string(&root(&item.data, 1).0)));
            }
            node.file = Some(dict(&entries));
        }
        top.encode()
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.items.iter().map(|item| item.data.len() as u64).sum()
    }

    /// Pieces of all files.
    pub fn pieces(&self) -> usize {
        self.items.iter().map(|item| item.data.len().div_ceil(PIECE)).sum()
    }

    /// A new, empty folder; gone with the album.
    pub fn empty_folder(&self, label: &str) -> PathBuf {
        let folder = self.folder.path().join(label);
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// A new folder with everything in it.
    pub fn full_folder(&self, label: &str) -> PathBuf {
        let folder = self.empty_folder(label);
        for item in &self.items {
            let path = path(&folder, item);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &item.data).unwrap();
        }
        folder
    }

    /// Whether every file that has bytes is below this folder.
    pub fn is_complete(&self, folder: &Path) -> bool {
        let mut items = self.items.iter().filter(|item| !item.data.is_empty());
        items.all(|item| fs::read(path(folder, item)).is_ok_and(|found| found == item.data))
    }

    /// Asserts that every file that has bytes is below this folder, and no other but of the program's own.
    pub fn assert_complete(&self, folder: &Path) {
        for item in self.items.iter().filter(|item| !item.data.is_empty()) {
            let path = path(folder, item);
            let found = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(found == item.data, "{} differs", path.display());
        }
        assert!(!folder.join(NAME).join(".pad").exists(), "a pad file is made");
    }
}

fn path(folder: &Path, item: &Item) -> PathBuf {
    let names = item.path.iter().map(|name| String::from_utf8(name.clone()).unwrap());
    names.fold(folder.join(NAME), |path, name| path.join(name))
}

fn layer(item: &Item) -> Option<(Sha256, Vec<u8>)> {
    let layer = item.data.chunks(PIECE).flat_map(|piece| root(piece, PIECE / BLOCK).0).collect();
    (item.data.len() > PIECE).then(|| (root(&item.data, 1), layer))
}

/// A folder, or the properties of a file.
#[derive(Default)]
struct Node {
    inside: BTreeMap<Vec<u8>, Node>,
    file: Option<Vec<u8>>,
}

impl Node {
    fn encode(&self) -> Vec<u8> {
        let inside = self.inside.iter().flat_map(|(name, node)| [string(name), node.encode()].concat());
        let file = self.file.as_ref().map_or(Vec::new(), |file| [&string(b"")[..], file].concat());
        [b"d", &file[..], &inside.collect::<Vec<u8>>()[..], b"e"].concat()
    }
}

/// The root over the blocks of `data`, and over so many leaves at least.
fn root(data: &[u8], least: usize) -> Sha256 {
    let leaves: Vec<Sha256> = data.chunks(BLOCK).map(sha256).collect();
    let width = leaves.len().max(least).next_power_of_two();
    let mut nodes = [leaves.clone(), vec![Sha256([0; 32]); width - leaves.len()]].concat();
    while nodes.len() > 1 {
        nodes = nodes.chunks(2).map(|pair| sha256(&[pair[0].0, pair[1].0].concat())).collect();
    }
    nodes[0]
}
