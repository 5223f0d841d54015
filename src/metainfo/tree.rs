//! The file tree of version 2 (BEP 52), and whether the list of files of a hybrid says the same.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::error::{MetainfoError, dict, length, list, string};
use super::info::{Attr, FileEntry, attr, entry, link};
use super::notes::{ParseNotes, quote};
use super::path::{MAX_FOLDERS, Mapper};
use super::{File, MAX_FILES};
use crate::bencode::{Dict, DictCursor, List, Value};
use crate::hash::Sha256;
use crate::layout::Layout;

const TREE: &str = "file tree";

/// What a file tree says.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    /// The merkle root of each file that has bytes.
    pub(super) roots: Vec<Option<Sha256>>,
    pub(super) layout: Layout,
}

/// What a hybrid says in version 1 of the files that its tree has.
#[derive(Clone, Copy, Debug)]
pub(super) enum ListedFiles<'a> {
    /// The torrent is of version 2 alone.
    None,
    /// One file of this many bytes, which has the torrent's name.
    One(u64),
    /// `files`.
    Several(Value<'a>),
}

/// Reads the tree of a torrent of this `name`, and compares it with what version 1 says. Errors name keys below `info`.
pub(super) fn parse<'a>(
    tree: Value<'a>,
    listed: ListedFiles<'a>,
    name: &'a [u8],
    piece_length: u32,
    notes: &mut ParseNotes,
) -> Result<Tree, MetainfoError> {
    let root = dict(TREE, tree)?;
    let single = only_file(root).filter(|_| !matches!(listed, ListedFiles::Several(_)));
    let mut mapper = Mapper::new(single.unwrap_or(name), notes);
    let mut walk = TreeWalk::of(tree);
    let mut list = ListWalk::new(listed, name)?;
    let (mut files, mut roots, mut offsets, mut links) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while let Some(properties) = walk.next_file()? {
        if files.len() == MAX_FILES {
            return Err(MetainfoError::at(TREE, format!("more than {MAX_FILES} files")));
        }
        let TreeFile { length, attr, symlink, root } =
            tree_file(properties).map_err(|error| error.inside(|| walk.key()))?;
        if let Some(list) = &mut list {
            offsets.push(list.next_is(files.len(), &walk.components, single.is_some(), length)?);
        }
        let path = match single {
            Some(_) => mapper.root().into(),
            None => mapper
                .add(&walk.components, false, notes)
                .map_err(|_| MetainfoError::at(TREE, format!("more than {MAX_FOLDERS} folders")))?,
        };
        if attr.symlink {
            links.push((files.len(), symlink));
        }
        files.push(File { path, length, pad: false, executable: attr.executable, symlink: None });
        roots.push(root);
    }
    if files.is_empty() {
        return Err(MetainfoError::at(TREE, "empty: a torrent of nothing"));
    }
    match (walk.unsorted.take(), &list) {
        (None, _) => {}
        // Whoever sorts what is read numbers the pieces in another way.
        (Some(key), None) => {
            let problem =
                "out of order, so clients do not agree which piece is whose; get a torrent made anew";
            return Err(MetainfoError::at(key, problem));
        }
        (Some(key), Some(_)) => notes.add(|| format!("{key}: out of order; the order of version 1 counts")),
    }
    // The height of a tree is not in its root: no file could be told from the other by what peers prove.
    let mut lengths_of = HashMap::new();
    for (file, root) in files.iter().zip(&roots) {
        if root.is_some_and(|root| *lengths_of.entry(root).or_insert(file.length) != file.length) {
            return Err(MetainfoError::at(TREE, "two of its files have one hash and different lengths"));
        }
    }
    if single.is_none() {
        link(&mut files, &links, &mut mapper, notes);
    }
    let lengths = || files.iter().map(|file| file.length);
    let too_large = || MetainfoError::at(TREE, "the sizes of its files are too large to be true");
    let layout = Layout::aligned(piece_length, lengths(), true).ok_or_else(too_large)?;
    let Some(list) = list else { return Ok(Tree { files, roots, layout }) };
    let end = list.end(files.len())?;
    let unaligned = layout
        .files()
        .iter()
        .zip(&offsets)
        .position(|(extent, &offset)| extent.length > 0 && extent.offset != offset);
    if let Some(file) = unaligned {
        let (here, there) = (offsets[file], layout.files()[file].offset);
        let problem = format!(
            "{} begins at byte {here} of version 1 and at byte {there} of version 2: a contradiction",
            quote(&files[file].path)
        );
        return Err(MetainfoError::at("files", problem));
    }
    let padded = layout.end().next_multiple_of(u64::from(piece_length));
    if end != layout.end() && end != padded {
        let there = layout.end();
        let problem = format!("{end} bytes in version 1, but {there} in version 2: a contradiction");
        return Err(MetainfoError::at("files", problem));
    }
    // libtorrent 2.0.0 to 2.0.7 left the pad behind the last file out.
    let layout = Layout::aligned(piece_length, lengths(), end == padded).ok_or_else(too_large)?;
    Ok(Tree { files, roots, layout })
}

/// The name of the one entry of the tree, if it is a file.
fn only_file(mut root: Dict<'_>) -> Option<&[u8]> {
    let (name, node) = root.next()?;
    let is_file = node.as_dict()?.next().is_some_and(|(key, _)| key.is_empty());
    (is_file && root.next().is_none()).then_some(name)
}

/// The files of a tree in its order. Bounded by the depth of nesting that `bencode` reads, and takes time in proportion to the bytes, however
/// deep they are.
#[derive(Default, Debug)]
pub(super) struct TreeWalk<'a> {
    /// What has not been looked at.
    rest: DictCursor<'a>,
    /// Of each folder that leads here, the innermost last, the name in it that was looked at last.
    open: Vec<Option<&'a [u8]>>,
    /// The first place where a name does not come behind the one before it.
    unsorted: Option<String>,
    /// The names of the file that was found last, or of the folder in which the next one is looked for.
    components: Vec<&'a [u8]>,
}

impl<'a> TreeWalk<'a> {
    /// Walks a tree that has been read before; what is wrong with it ends the walk.
    pub(super) fn of(tree: Value<'a>) -> TreeWalk<'a> {
        let rest = tree.as_dict().map(Dict::cursor);
        let open = if rest.is_some() { vec![None] } else { Vec::new() };
        TreeWalk { rest: rest.unwrap_or_default(), open, ..TreeWalk::default() }
    }

    /// The names of the file that was found last, from the root of the tree on.
    pub(super) fn components(&self) -> &[&'a [u8]] {
        &self.components
    }

    /// The properties of the next file.
    pub(super) fn next_file(&mut self) -> Result<Option<Dict<'a>>, MetainfoError> {
        while let Some(last) = self.open.last_mut() {
            let Some(name) = self.rest.next_key() else {
                self.open.pop();
                continue;
            };
            let last = last.replace(name);
            self.components.truncate(self.open.len() - 1);
            if name.is_empty() {
                let problem = match self.components.is_empty() {
                    true => "the tree itself is a file",
                    false => "a file and a folder at once",
                };
                return Err(MetainfoError::at(self.key(), problem));
            }
            self.components.push(name);
            match last.map_or(Ordering::Less, |last| last.cmp(name)) {
                Ordering::Less => {}
                Ordering::Equal => return Err(MetainfoError::at(self.key(), "twice in one folder")),
                Ordering::Greater if self.unsorted.is_some() => {}
                Ordering::Greater => self.unsorted = Some(self.key()),
            }
            if !self.rest.enter() {
                return Err(MetainfoError::at(self.key(), "not a dictionary"));
            }
            let mut inside = self.rest;
            if inside.next_key() != Some(&b""[..]) {
                self.open.push(None);
                continue;
            }
            let properties = inside.value();
            if inside.next_key().is_some() {
                return Err(MetainfoError::at(self.key(), "a file and a folder at once"));
            }
            self.rest = inside;
            let wrong = || MetainfoError::at(self.key(), "its properties are not a dictionary");
            return properties.and_then(|value| value.as_dict()).ok_or_else(wrong).map(Some);
        }
        Ok(None)
    }

    /// What an error calls this place.
    fn key(&self) -> String {
        format!("{TREE}[{}]", quote(&shown(&self.components)))
    }
}

fn shown(components: &[&[u8]]) -> String {
    let names: Vec<_> = components.iter().map(|name| String::from_utf8_lossy(name)).collect();
    names.join("/")
}

struct TreeFile<'a> {
    length: u64,
    attr: Attr,
    symlink: List<'a>,
    root: Option<Sha256>,
}

fn tree_file(properties: Dict<'_>) -> Result<TreeFile<'_>, MetainfoError> {
    const ROOT: &str = "pieces root";
    let [size, letters, symlink, root] =
        super::pick(properties, [b"length", b"attr", b"symlink path", b"pieces root"]);
    let attr = attr(letters);
    if attr.pad {
        return Err(MetainfoError::at("attr", "a pad file, which has no place in a file tree"));
    }
    let length = match size {
        Some(size) => length("length", size)?,
        // BEP 47: a link has no data.
        None if attr.symlink => 0,
        None => return Err(MetainfoError::missing("length")),
    };
    let hash = |root| {
        let bytes = string(ROOT, root)?;
        Sha256::of_bytes(bytes)
            .ok_or_else(|| MetainfoError::at(ROOT, format!("{} bytes, should be 32", bytes.len())))
    };
    let root = match (length, root.map(hash).transpose()?) {
        // It says nothing.
        (0, _) => None,
        (_, None) => return Err(MetainfoError::missing(ROOT)),
        (_, Some(Sha256::ZERO)) => return Err(MetainfoError::at(ROOT, "all zeros, which no file has")),
        (_, root) => root,
    };
    let symlink = symlink.and_then(|target| target.as_list()).unwrap_or_default();
    Ok(TreeFile { length, attr, symlink, root })
}

/// The files of version 1 that are no pads, compared one by one with those of a tree.
struct ListWalk<'a> {
    /// `None`: there is one file, which has this name and has not been compared yet.
    files: List<'a>,
    only: Option<(&'a [u8], u64)>,
    /// Files read, pads among them.
    read: usize,
    /// Bytes of the files read.
    offset: u64,
    components: Vec<&'a [u8]>,
}

impl<'a> ListWalk<'a> {
    fn new(listed: ListedFiles<'a>, name: &'a [u8]) -> Result<Option<ListWalk<'a>>, MetainfoError> {
        let (files, only) = match listed {
            ListedFiles::None => return Ok(None),
            ListedFiles::One(length) => (List::default(), Some((name, length))),
            ListedFiles::Several(files) => (list("files", files)?, None),
        };
        Ok(Some(ListWalk { files, only, read: 0, offset: 0, components: Vec::new() }))
    }

    /// The next file that is no pad, its names in `components`: its offset and its length.
    fn next_real(&mut self) -> Result<Option<(u64, u64)>, MetainfoError> {
        if let Some((name, length)) = self.only.take() {
            self.components = vec![name];
            self.offset = length;
            return Ok(Some((0, length)));
        }
        for file in self.files.by_ref() {
            let number = self.read;
            // As many pads as files.
            if number == 2 * MAX_FILES {
                return Err(MetainfoError::at("files", format!("more than {}", 2 * MAX_FILES)));
            }
            self.read += 1;
            let at = || format!("files[{number}]");
            let file = file.as_dict().ok_or_else(|| MetainfoError::at(at(), "not a dictionary"))?;
            let FileEntry { length, attr, .. } =
                entry(file, &mut self.components).map_err(|error| error.inside(at))?;
            let offset = self.offset;
            self.offset = offset
                .checked_add(length)
                .ok_or_else(|| MetainfoError::at("files", "their sizes are too large to be true"))?;
            if !attr.pad {
                return Ok(Some((offset, length)));
            }
        }
        Ok(None)
    }

    /// Compares the next file with the `number`th of the tree, from 0; gives its offset.
    fn next_is(
        &mut self,
        number: usize,
        components: &[&[u8]],
        single: bool,
        length: u64,
    ) -> Result<u64, MetainfoError> {
        let found = self.next_real()?;
        let name = quote(&shown(components));
        let number = number + 1;
        let problem = match found {
            None => format!("file {number} is {name} in version 2 and missing in version 1: a contradiction"),
            Some((offset, found)) if self.components == components && found == length => return Ok(offset),
            Some(_) if self.components != components => {
                let other = quote(&shown(&self.components));
                format!("file {number} is {other} in version 1 and {name} in version 2: a contradiction")
            }
            Some((_, found)) => {
                format!("{name} has {found} bytes in version 1 and {length} in version 2: a contradiction")
            }
        };
        Err(MetainfoError::at(if single { "name" } else { "files" }, problem))
    }

    /// Bytes of all files of version 1, of which `files` of version 2 have been compared.
    fn end(mut self, files: usize) -> Result<u64, MetainfoError> {
        match self.next_real()? {
            None => Ok(self.offset),
            Some(_) => {
                let name = quote(&shown(&self.components));
                let problem = format!("{name} is in version 1 alone; version 2 has {files}: a contradiction");
                Err(MetainfoError::at("files", problem))
            }
        }
    }
}
