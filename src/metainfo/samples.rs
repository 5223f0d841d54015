//! Torrents of version 2 and hybrids for tests, made from data, with merkle trees by the plainest way there is.

use std::collections::BTreeMap;

use crate::hash::{Sha256, sha1, sha256};
use crate::layout::BLOCK_LENGTH;

/// What goes into one.
#[derive(Clone)]
pub(crate) struct Sample {
    /// Paths below the torrent's folder, and data. One file at a path of one component that is the name: a torrent of one file.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) piece_length: u32,
    /// Also as version 1.
    pub(crate) hybrid: bool,
    /// A pad behind the last file, where it does not end with a piece.
    pub(crate) pad_behind_last: bool,
    /// With `piece layers`.
    pub(crate) layers: bool,
}

pub(crate) const NAME: &str = "name";

impl Sample {
    /// Files of these lengths, each with bytes of its own.
    pub(crate) fn new(files: &[(&str, usize)], hybrid: bool) -> Sample {
        let data = |(index, length): (usize, usize)| {
            (0..length).map(|at| (at * 31 + at / 251 + index * 7 + 1) as u8).collect()
        };
        let files = files.iter().enumerate();
        let files = files.map(|(index, (path, length))| ((*path).to_owned(), data((index, *length))));
        Sample {
            files: files.collect(),
            piece_length: 2 * BLOCK_LENGTH,
            hybrid,
            pad_behind_last: true,
            layers: true,
        }
    }

    pub(crate) fn info(&self) -> Vec<u8> {
        let mut entries = vec![("file tree", self.tree())];
        if self.hybrid {
            entries.extend(self.version_1());
        }
        entries.push(("meta version", b"i2e".to_vec()));
        entries.push(("name", string(NAME.as_bytes())));
        entries.push(("piece length", number(u64::from(self.piece_length))));
        entries.sort();
        dict(&entries)
    }

    pub(crate) fn torrent(&self) -> Vec<u8> {
        let mut entries = vec![("info", self.info())];
        if self.layers {
            let layers: BTreeMap<Sha256, Vec<u8>> =
                self.files.iter().filter_map(|file| self.layer(file)).collect();
            let layers: Vec<u8> =
                layers.iter().flat_map(|(root, layer)| [string(&root.0), string(layer)].concat()).collect();
            entries.push(("piece layers", [b"d", &layers[..], b"e"].concat()));
        }
        dict(&entries)
    }

    fn layer(&self, (_, data): &(String, Vec<u8>)) -> Option<(Sha256, Vec<u8>)> {
        let width = self.piece_length / BLOCK_LENGTH;
        let pieces = data.chunks(self.piece_length as usize);
        let layer = pieces.flat_map(|piece| root(piece, width as usize).0).collect();
        (data.len() > self.piece_length as usize).then(|| (root(data, 1), layer))
    }

    fn tree(&self) -> Vec<u8> {
        let mut top = Node::default();
        for (path, data) in &self.files {
            let mut node = &mut top;
            for name in path.split('/') {
                node = node.0.entry(name.to_owned()).or_default();
            }
            let mut entries = vec![("length", number(data.len() as u64))];
            if !data.is_empty() {
                entries.push(("pieces root", string(&root(data, 1).0)));
            }
            node.1 = Some(dict(&entries));
        }
        top.encode()
    }

    fn version_1(&self) -> Vec<(&'static str, Vec<u8>)> {
        let single = matches!(&self.files[..], [(path, _)] if path == NAME);
        let (mut stream, mut list) = (Vec::new(), Vec::new());
        let mut files = self.files.clone();
        files.sort_by(|(one, _), (other, _)| one.split('/').cmp(other.split('/')));
        let last = files.iter().rposition(|(_, data)| !data.is_empty());
        for (index, (path, data)) in files.iter().enumerate() {
            stream.extend(data);
            let path: Vec<u8> = path.split('/').flat_map(|name| string(name.as_bytes())).collect();
            list.push(dict(&[
                ("length", number(data.len() as u64)),
                ("path", [b"l", &path[..], b"e"].concat()),
            ]));
            let pad = stream.len().next_multiple_of(self.piece_length as usize) - stream.len();
            if pad > 0 && !single && (Some(index) != last || self.pad_behind_last) {
                stream.resize(stream.len() + pad, 0);
                let path = [&b"l"[..], b"4:.pad", &string(pad.to_string().as_bytes()), b"e"].concat();
                list.push(dict(&[("attr", string(b"p")), ("length", number(pad as u64)), ("path", path)]));
            }
        }
        let hashes: Vec<u8> =
            stream.chunks(self.piece_length as usize).flat_map(|piece| sha1(piece).0).collect();
        let content = match single {
            true => ("length", number(stream.len() as u64)),
            false => ("files", [b"l", &list.concat()[..], b"e"].concat()),
        };
        vec![content, ("pieces", string(&hashes))]
    }
}

/// A folder, or the properties of a file.
#[derive(Default)]
struct Node(BTreeMap<String, Node>, Option<Vec<u8>>);

impl Node {
    fn encode(&self) -> Vec<u8> {
        let inside: Vec<u8> = self
            .0
            .iter()
            .flat_map(|(name, node)| [string(name.as_bytes()), node.encode()].concat())
            .collect();
        let file = self.1.as_ref().map_or(Vec::new(), |file| [&string(b"")[..], file].concat());
        [b"d", &file[..], &inside[..], b"e"].concat()
    }
}

/// The root over the blocks of `data`, and over so many leaves at least.
pub(crate) fn root(data: &[u8], least: usize) -> Sha256 {
    let leaves: Vec<Sha256> = data.chunks(BLOCK_LENGTH as usize).map(sha256).collect();
    let width = leaves.len().max(least).next_power_of_two();
    let mut nodes = [leaves.clone(), vec![Sha256::ZERO; width - leaves.len()]].concat();
    while nodes.len() > 1 {
        nodes = nodes.chunks(2).map(|pair| sha256(&[pair[0].0, pair[1].0].concat())).collect();
    }
    nodes[0]
}

pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

fn number(number: u64) -> Vec<u8> {
    format!("i{number}e").into_bytes()
}

fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.iter().flat_map(|(key, value)| [string(key.as_bytes()), value.clone()].concat()).collect();
    [b"d", &entries[..], b"e"].concat()
}
