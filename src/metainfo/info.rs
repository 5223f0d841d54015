//! The `info` dictionary (BEP 3, 27, 47, 52): what is shared. Everything here is needed to tell good
//! data from bad, so what is wrong is refused; only names are mended (see `path`).

use std::collections::HashSet;
use std::sync::Arc;

use super::error::{MetainfoError, dict, integer, length, list, string};
use super::notes::{ParseNotes, quote};
use super::path::{MAX_FOLDERS, Mapper, TooManyFolders};
use super::tree::{self, ListedFiles, Tree};
use super::{File, MAX_FILES, MAX_PIECE_LENGTH, MAX_PIECES, pick};
use crate::bencode::{Dict, List, Value};
use crate::hash::{Sha1, Sha256};
use crate::layout::{BLOCK_LENGTH, Layout};

/// Components of one path that are looked at; disks take far fewer.
const MAX_COMPONENTS: usize = 1000;

/// Bytes of the torrent's name that are kept for people; it stands in every event and bar.
const MAX_NAME_SHOWN: usize = 1024;

/// What the `info` dictionary says.
#[derive(Debug)]
pub(super) struct Info {
    pub(super) name: String,
    pub(super) layout: Arc<Layout>,
    pub(super) hashes: Hashes,
    pub(super) files: Vec<File>,
    pub(super) private: bool,
}

/// The hashes in the `info` dictionary: of pieces in version 1, of files in version 2 (`None` of an empty one).
#[derive(Debug)]
pub(super) enum Hashes {
    V1(Arc<[Sha1]>),
    V2(Vec<Option<Sha256>>),
    Hybrid(Arc<[Sha1]>, Vec<Option<Sha256>>),
}

/// A file as the list of version 1 has it.
#[derive(Debug)]
pub(super) struct FileEntry<'a> {
    pub(super) length: u64,
    path: List<'a>,
    pub(super) attr: Attr,
    symlink: List<'a>,
}

/// BEP 47 `attr`; `h` (hidden) means nothing here, and unknown letters are to be ignored.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Attr {
    pub(super) pad: bool,
    pub(super) executable: bool,
    pub(super) symlink: bool,
}

/// Reads `info`. Errors name keys below `info`.
pub(super) fn parse(info: Value<'_>, notes: &mut ParseNotes) -> Result<Info, MetainfoError> {
    let [name, name_utf8, piece_length, pieces, length, files, private, attr, file_tree, meta_version] = pick(
        dict("info", info)?,
        [
            b"name",
            b"name.utf-8",
            b"piece length",
            b"pieces",
            b"length",
            b"files",
            b"private",
            b"attr",
            b"file tree",
            b"meta version",
        ],
    );
    let below = |error: MetainfoError| error.inside(|| "info".to_owned());
    // BEP 52: before anything else is looked at.
    let has_tree = has_tree(meta_version, file_tree, pieces.is_some()).map_err(below)?;
    let name = self::name(name, name_utf8).map_err(below)?;
    let piece_length = self::piece_length(piece_length, has_tree).map_err(below)?;
    let private = private.is_some_and(|private| private.as_int() != Some(0));
    if has_tree {
        let listed = match (pieces, length, files) {
            (None, ..) => ListedFiles::None,
            (Some(_), Some(_), Some(_)) => {
                return Err(MetainfoError::at("info", "both length and files: a contradiction"));
            }
            (Some(_), None, None) => return Err(MetainfoError::at("info", "neither length nor files")),
            (Some(_), Some(length), None) => ListedFiles::One(self::length("info.length", length)?),
            (Some(_), None, Some(files)) => ListedFiles::Several(files),
        };
        let hashes = pieces.map(|pieces| piece_hashes(Some(pieces))).transpose().map_err(below)?;
        let tree = file_tree.ok_or_else(|| MetainfoError::missing("file tree")).map_err(below)?;
        let Tree { files, roots, layout } =
            tree::parse(tree, listed, name, piece_length, notes).map_err(below)?;
        if layout.num_pieces() as usize > MAX_PIECES {
            let problem = format!("{} pieces; up to {MAX_PIECES} can be handled", layout.num_pieces());
            return Err(MetainfoError::at("info.file tree", problem));
        }
        let hashes = match hashes {
            None => Hashes::V2(roots),
            Some(hashes) => {
                check_count(&layout, hashes.len()).map_err(below)?;
                Hashes::Hybrid(hashes, roots)
            }
        };
        return Ok(Info { name: shown_name(name), layout: Arc::new(layout), hashes, files, private });
    }
    let hashes = piece_hashes(pieces).map_err(below)?;
    let mut mapper = Mapper::new(name, notes);
    let files = match (length, files) {
        (Some(_), Some(_)) => {
            return Err(MetainfoError::at("info", "both length and files: a contradiction"));
        }
        (None, None) => return Err(MetainfoError::at("info", "neither length nor files")),
        (Some(length), None) => vec![File {
            path: mapper.root().into(),
            length: self::length("info.length", length)?,
            pad: false,
            executable: self::attr(attr).executable,
            symlink: None,
        }],
        (None, Some(files)) => self::files(files, &mut mapper, notes).map_err(below)?,
    };
    let layout = lay_out(piece_length, &files, hashes.len()).map_err(below)?;
    Ok(Info { name: shown_name(name), layout: Arc::new(layout), hashes: Hashes::V1(hashes), files, private })
}

fn shown_name(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(MAX_NAME_SHOWN)]).into_owned()
}

/// Whether the torrent is of version 2, be it of version 1 as well. Numbers that are not assigned say nothing in a
/// torrent that can be read as version 1.
fn has_tree(
    version: Option<Value<'_>>,
    tree: Option<Value<'_>>,
    has_pieces: bool,
) -> Result<bool, MetainfoError> {
    const KEY: &str = "meta version";
    let Some(version) = version else {
        return match tree.is_some() && !has_pieces {
            true => Err(MetainfoError::missing(KEY)),
            false => Ok(false),
        };
    };
    match integer(KEY, version)? {
        2 => Ok(true),
        newer @ 3.. => Err(MetainfoError::at(
            KEY,
            format!("{newer}; torrents of version 1 and 2 can be read; get one of these, or a newer btget"),
        )),
        _ if has_pieces => Ok(false),
        unassigned => Err(MetainfoError::at(KEY, format!("{unassigned}, should be 2"))),
    }
}

/// The name; `name.utf-8`, where it is what it says, over a `name` in some older encoding.
pub(super) fn name<'a>(
    name: Option<Value<'a>>,
    name_utf8: Option<Value<'a>>,
) -> Result<&'a [u8], MetainfoError> {
    match name_utf8.and_then(|name| name.as_str()) {
        Some(name) => Ok(name.as_bytes()),
        None => string("name", name.ok_or_else(|| MetainfoError::missing("name"))?),
    }
}

/// In version 2 a power of two that is a block at least (BEP 52).
fn piece_length(value: Option<Value<'_>>, has_tree: bool) -> Result<u32, MetainfoError> {
    const KEY: &str = "piece length";
    let value = length(KEY, value.ok_or_else(|| MetainfoError::missing(KEY))?)?;
    match u32::try_from(value) {
        Ok(0) => Err(MetainfoError::at(KEY, "0")),
        Ok(length) if has_tree && (length < BLOCK_LENGTH || !length.is_power_of_two()) => {
            let problem = format!("{length}; in version 2 it is a power of two, and {BLOCK_LENGTH} at least");
            Err(MetainfoError::at(KEY, problem))
        }
        Ok(length) if length <= MAX_PIECE_LENGTH => Ok(length),
        _ => Err(MetainfoError::at(KEY, format!("{value} bytes; up to {MAX_PIECE_LENGTH} can be handled"))),
    }
}

fn piece_hashes(pieces: Option<Value<'_>>) -> Result<Arc<[Sha1]>, MetainfoError> {
    let pieces = string("pieces", pieces.ok_or_else(|| MetainfoError::missing("pieces"))?)?;
    let (hashes, rest) = pieces.as_chunks();
    if !rest.is_empty() {
        return Err(MetainfoError::at("pieces", format!("{} bytes, not a multiple of 20", pieces.len())));
    }
    if hashes.len() > MAX_PIECES {
        let problem = format!("{} pieces; up to {MAX_PIECES} can be handled", hashes.len());
        return Err(MetainfoError::at("pieces", problem));
    }
    Ok(hashes.iter().copied().map(Sha1).collect())
}

fn lay_out(piece_length: u32, files: &[File], hashes: usize) -> Result<Layout, MetainfoError> {
    let layout = Layout::new(piece_length, files.iter().map(|file| (file.length, file.pad)))
        .ok_or_else(|| MetainfoError::at("files", "their sizes are too large to be true"))?;
    check_count(&layout, hashes)?;
    Ok(layout)
}

/// Whether there is a hash for each piece.
fn check_count(layout: &Layout, hashes: usize) -> Result<(), MetainfoError> {
    let (total, piece_length, need) = (layout.end(), layout.piece_length(), layout.num_pieces());
    if need as usize == hashes {
        return Ok(());
    }
    let problem = format!(
        "{hashes} hashes, but {total} bytes in pieces of {piece_length} bytes need {need}: a contradiction"
    );
    Err(MetainfoError::at("pieces", problem))
}

/// The list of files, each with its place. Pad files get theirs after the others, so that they never
/// take a name that somebody sees (torrents give all of them the same).
fn files<'a>(
    value: Value<'a>,
    mapper: &mut Mapper<'a>,
    notes: &mut ParseNotes,
) -> Result<Vec<File>, MetainfoError> {
    let too_many = |TooManyFolders| MetainfoError::at("files", format!("in more than {MAX_FOLDERS} folders"));
    let mut files = Vec::new();
    let mut pads = Vec::new();
    let mut links = Vec::new();
    let mut components = Vec::new();
    for (index, file) in list("files", value)?.enumerate() {
        if index == MAX_FILES {
            return Err(MetainfoError::at("files", format!("more than {MAX_FILES}")));
        }
        let at = || format!("files[{index}]");
        let file = file.as_dict().ok_or_else(|| MetainfoError::at(at(), "not a dictionary"))?;
        let FileEntry { length, path, attr, symlink } =
            entry(file, &mut components).map_err(|error| error.inside(at))?;
        let path = if attr.pad {
            pads.push((index, path));
            Box::default()
        } else {
            mapper.add(&components, false, notes).map_err(too_many)?
        };
        if attr.symlink && !attr.pad {
            links.push((index, symlink));
        }
        files.push(File { path, length, pad: attr.pad, executable: attr.executable, symlink: None });
    }
    if files.is_empty() {
        return Err(MetainfoError::at("files", "empty: a torrent of nothing"));
    }
    for (index, path) in pads {
        components.clear();
        components.extend(path.filter_map(|component| component.as_bytes()));
        if components.is_empty() {
            components.extend([b".pad".as_slice(), b"0"]);
        }
        files[index].path = mapper.add(&components, true, notes).map_err(too_many)?;
    }
    link(&mut files, &links, mapper, notes);
    Ok(files)
}

/// One item of the list of files, and the components of its path.
pub(super) fn entry<'a>(
    file: Dict<'a>,
    components: &mut Vec<&'a [u8]>,
) -> Result<FileEntry<'a>, MetainfoError> {
    let [length, path, path_utf8, attr, symlink] =
        pick(file, [b"length", b"path", b"path.utf-8", b"attr", b"symlink path"]);
    let attr = self::attr(attr);
    let length = match length {
        Some(length) => self::length("length", length)?,
        // BEP 47: a link has no data.
        None if attr.symlink => 0,
        None => return Err(MetainfoError::missing("length")),
    };
    let path = match path_value(path, path_utf8) {
        Some(path) => list("path", path)?,
        // Nobody sees it, and some makers leave it out.
        None if attr.pad => List::default(),
        None => return Err(MetainfoError::missing("path")),
    };
    components.clear();
    for component in path {
        if components.len() == MAX_COMPONENTS {
            return Err(MetainfoError::at("path", format!("more than {MAX_COMPONENTS} components")));
        }
        components.push(string("path", component)?);
    }
    if components.is_empty() && !attr.pad {
        return Err(MetainfoError::at("path", "empty: a file without a name"));
    }
    let symlink = symlink.and_then(|target| target.as_list()).unwrap_or_default();
    Ok(FileEntry { length, path, attr, symlink })
}

/// The path of a file; `path.utf-8`, where it is what it says, over a `path` in some older encoding.
pub(super) fn path_value<'a>(path: Option<Value<'a>>, path_utf8: Option<Value<'a>>) -> Option<Value<'a>> {
    let is_utf8 = |path: List<'_>| path.into_iter().all(|component| component.as_str().is_some());
    path_utf8.filter(|path| path.as_list().is_some_and(is_utf8)).or(path)
}

pub(super) fn attr(value: Option<Value<'_>>) -> Attr {
    let letters = value.and_then(|value| value.as_bytes()).unwrap_or_default();
    let has = |letter: u8| letters.contains(&letter);
    Attr { pad: has(b'p'), executable: has(b'x'), symlink: has(b'l') }
}

/// Sets the target of each symbolic link that leads to a file or folder of this torrent. The rest
/// are left out, with a note: what they point at was not named by these rules and is not ours.
pub(super) fn link(
    files: &mut [File],
    links: &[(usize, List<'_>)],
    mapper: &mut Mapper<'_>,
    notes: &mut ParseNotes,
) {
    if links.is_empty() {
        return;
    }
    let on_disk = files.iter().filter(|file| !file.pad);
    let known: HashSet<Box<str>> = on_disk.map(|file| file.path.clone()).collect();
    for (index, target) in links {
        let file = &mut files[*index];
        if file.length > 0 {
            notes.add(|| format!("{}: a symbolic link with data; it is made a file", quote(&file.path)));
            continue;
        }
        // What is no string cannot be a name, and the empty one that stands for it leads nowhere.
        let bytes = target.take(MAX_COMPONENTS).map(|component| component.as_bytes().unwrap_or_default());
        let target = mapper.resolve(&bytes.collect::<Vec<_>>());
        let inside = target.and_then(|to| match to.is_folder || known.contains(&to.path) {
            true => Some(to.path),
            false => to.renamed.filter(|path| known.contains(path)),
        });
        file.symlink = inside.filter(|path| *path != file.path);
        if file.symlink.is_none() {
            notes.add(|| {
                let path = quote(&file.path);
                format!("{path}: a symbolic link to nothing in this torrent; it is made an empty file")
            });
        }
    }
}
