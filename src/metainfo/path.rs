//! From the names in a torrent to paths that are safe on disk.
//!
//! Owns the rules of PRODUCT part 6: the same torrent always gives the same paths, every path stays
//! below the torrent's folder, and no two are the same, not even on a file system that ignores
//! case or normalises Unicode. Never looks at a disk; links that stand in the way there are the
//! business of `storage`.
//!
//! The rules, component by component: empty ones and `.` mean nothing and are dropped; `..` becomes
//! `_`; separators (`/`, `\`), NUL, control, bidi and other unprintable characters become `_`;
//! invalid UTF-8 becomes U+FFFD; what is over 255 bytes is cut, extension kept. A name that is
//! taken, by a file or a folder, gets `~2`, `~3`, ... before its extension; who comes first keeps it.
//! Folders beyond [`MAX_PATH`] or [`MAX_DEPTH`] are left out. Names that Windows reserves stay, with a note.

use std::borrow::Cow;
use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

use super::escape::is_unprintable;
use super::notes::{Notes, quote};

/// Bytes in a component: what Linux, macOS and Windows file systems hold (`NAME_MAX`).
pub(super) const MAX_NAME: usize = 255;

/// Bytes in a path below basedir: half of Linux's `PATH_MAX`, the other half is basedir's.
pub(super) const MAX_PATH: usize = 2048;

/// Components in a path below basedir.
pub(super) const MAX_DEPTH: usize = 100;

/// Folders in a torrent, as many as files: they cost memory here and inodes on disk.
pub(super) const MAX_FOLDERS: usize = 1_000_000;

/// Bytes kept free for `~` and a number when a taken name is changed.
const SUFFIX_ROOM: usize = 8;

/// Longest extension, dot included, that is kept when a name is cut.
const MAX_EXTENSION: usize = 20;

/// There are more than [`MAX_FOLDERS`].
#[derive(Debug)]
pub(super) struct TooManyFolders;

/// Why a component does not stand on disk as it stands in the torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Encoding,
    Characters,
    Dots,
    Empty,
    Length,
    Taken,
}

impl Change {
    fn reason(self) -> &'static str {
        match self {
            Change::Encoding => "not valid UTF-8",
            Change::Characters => "holds characters that cannot be in a file name",
            Change::Dots => "would lead out of the folder",
            Change::Empty => "no name",
            Change::Length => "longer than 255 bytes",
            Change::Taken => "the same name, or one that differs only in case or encoding, is taken",
        }
    }
}

/// Gives the files of one torrent their places, one after another.
#[derive(Debug)]
pub(super) struct Mapper {
    /// The torrent's own folder; the path of the one file of a single-file torrent.
    root: String,
    /// Folder and the name wanted below it -> the folder that stands for it.
    folders: HashMap<Box<[u8]>, Folder>,
    /// Folder and the folded name -> taken, by a file or a folder.
    taken: HashMap<Box<[u8]>, ()>,
    /// Folder and the folded name that suffixes are put to -> the next number to try. Numbers only
    /// rise, so that a million equal names take a million steps and not a million squared.
    numbers: HashMap<Box<[u8]>, u32>,
    /// Reused for the keys of the maps.
    key: Vec<u8>,
}

#[derive(Debug)]
struct Folder {
    id: u32,
    /// Its name on disk, where that is not the wanted one.
    renamed: Option<Box<str>>,
}

impl Mapper {
    /// For a torrent of this `name`.
    pub(super) fn new(name: &[u8], notes: &mut Notes) -> Mapper {
        let (safe, change) = match name {
            b"" | b"." => (Cow::Borrowed("_"), Some(Change::Empty)),
            name => sanitize(name),
        };
        let root = safe.into_owned();
        note(notes, &root, name, change);
        Mapper {
            root,
            folders: HashMap::new(),
            taken: HashMap::new(),
            numbers: HashMap::new(),
            key: Vec::new(),
        }
    }

    /// The torrent's own folder, or the path of its one file.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The place of the next file; `quiet` for pad files, which nobody sees.
    pub(super) fn add(
        &mut self,
        components: &[&[u8]],
        quiet: bool,
        notes: &mut Notes,
    ) -> Result<Box<str>, TooManyFolders> {
        let mut path = String::with_capacity(self.root.len() + 64);
        path.push_str(&self.root);
        let mut parent = 0;
        let (name, folders) = split(components);
        for (depth, &component) in folders.enumerate() {
            let (wanted, change) = sanitize(component);
            if depth + 3 > MAX_DEPTH || path.len() + wanted.len() + SUFFIX_ROOM + MAX_NAME + 2 > MAX_PATH {
                if !quiet {
                    notes.add(|| {
                        format!("{}: folders too deep or too long below it are left out", quote(&path))
                    });
                }
                break;
            }
            path.push('/');
            parent = self.enter(parent, &wanted, &mut path, |path, taken| {
                if !quiet {
                    note(notes, path, component, taken.or(change));
                }
            })?;
        }
        let (wanted, change) = match name {
            Some(name) => sanitize(name),
            None => (Cow::Borrowed("_"), Some(Change::Empty)),
        };
        let free = self.claim(parent, &wanted, true);
        path.push('/');
        path.push_str(free.as_deref().unwrap_or(&wanted));
        if !quiet {
            let change = change.or(free.is_some().then_some(Change::Taken));
            note(notes, &path, name.unwrap_or_default(), change);
        }
        Ok(path.into_boxed_str())
    }

    /// Where a symbolic link's target lies, if its components are plain names and lead through
    /// folders of this torrent. Whether a file is there, the caller must see.
    pub(super) fn resolve(&mut self, components: &[&[u8]]) -> Option<Target> {
        let mut path = self.root.clone();
        let mut parent = Some(0);
        for component in components {
            let folder = parent?;
            let (wanted, change) = match *component {
                b"" | b"." => return None,
                component => sanitize(component),
            };
            if matches!(change, Some(Change::Dots | Change::Characters)) {
                return None;
            }
            path.push('/');
            set_key(&mut self.key, folder, &wanted);
            match self.folders.get(self.key.as_slice()) {
                Some(found) => {
                    path.push_str(found.renamed.as_deref().unwrap_or(&wanted));
                    parent = Some(found.id);
                }
                None => {
                    path.push_str(&wanted);
                    parent = None;
                }
            }
        }
        let is_folder = parent.is_some();
        (!components.is_empty()).then(|| Target { path: path.into_boxed_str(), is_folder })
    }

    /// Goes into the folder `wanted` of `parent`, which is made and told (`on_new`) if it is new.
    fn enter(
        &mut self,
        parent: u32,
        wanted: &str,
        path: &mut String,
        on_new: impl FnOnce(&str, Option<Change>),
    ) -> Result<u32, TooManyFolders> {
        set_key(&mut self.key, parent, wanted);
        if let Some(folder) = self.folders.get(self.key.as_slice()) {
            path.push_str(folder.renamed.as_deref().unwrap_or(wanted));
            return Ok(folder.id);
        }
        if self.folders.len() == MAX_FOLDERS {
            return Err(TooManyFolders);
        }
        let renamed = self.claim(parent, wanted, false);
        path.push_str(renamed.as_deref().unwrap_or(wanted));
        on_new(path, renamed.is_some().then_some(Change::Taken));
        // 0 is the torrent's own folder.
        let id = self.folders.len() as u32 + 1;
        set_key(&mut self.key, parent, wanted);
        self.folders.insert(self.key.as_slice().into(), Folder { id, renamed });
        Ok(id)
    }

    /// Takes `wanted` in `parent`, or gives the name that was taken instead.
    fn claim(&mut self, parent: u32, wanted: &str, is_file: bool) -> Option<Box<str>> {
        set_folded_key(&mut self.key, parent, wanted);
        if !self.taken.contains_key(self.key.as_slice()) {
            self.taken.insert(self.key.as_slice().into(), ());
            return None;
        }
        let (stem, extension) = if is_file { split_extension(wanted) } else { (wanted, "") };
        let stem = truncate(stem, MAX_NAME - SUFFIX_ROOM - extension.len());
        set_folded_key(&mut self.key, parent, &format!("{stem}{extension}"));
        let mut number = self.numbers.get(self.key.as_slice()).copied().unwrap_or(2);
        let base: Box<[u8]> = self.key.as_slice().into();
        let free = loop {
            let candidate = format!("{stem}~{number}{extension}");
            number += 1;
            set_folded_key(&mut self.key, parent, &candidate);
            if !self.taken.contains_key(self.key.as_slice()) {
                break candidate;
            }
        };
        self.taken.insert(self.key.as_slice().into(), ());
        self.numbers.insert(base, number);
        Some(free.into_boxed_str())
    }
}

/// See [`Mapper::resolve`].
#[derive(Debug)]
pub(super) struct Target {
    /// Below basedir.
    pub(super) path: Box<str>,
    /// Whether it is a folder of this torrent.
    pub(super) is_folder: bool,
}

/// The file's name, and its folders from the top; those that mean nothing are left out.
fn split<'c, 'a>(components: &'c [&'a [u8]]) -> (Option<&'a [u8]>, impl Iterator<Item = &'c &'a [u8]>) {
    fn means_something(component: &&[u8]) -> bool {
        !matches!(*component, b"" | b".")
    }
    let last = components.iter().rposition(means_something);
    let folders = components[..last.unwrap_or(0)].iter().filter(|component| means_something(component));
    (last.map(|last| components[last]), folders)
}

fn note(notes: &mut Notes, path: &str, original: &[u8], change: Option<Change>) {
    if let Some(change) = change {
        // No more than a quote shows; a name may be megabytes long.
        let original = String::from_utf8_lossy(&original[..original.len().min(2 * MAX_NAME)]);
        notes.add(|| format!("{} stands for {}: {}", quote(path), quote(&original), change.reason()));
    } else if is_reserved(path.rsplit('/').next().unwrap_or(path)) {
        notes.add(|| format!("{} cannot be on Windows, where the name is reserved", quote(path)));
    }
}

/// One component made safe, and why it had to be changed. The component is not empty and not `.`.
fn sanitize(component: &[u8]) -> (Cow<'_, str>, Option<Change>) {
    if component == b".." {
        return (Cow::Borrowed("_"), Some(Change::Dots));
    }
    let text = String::from_utf8_lossy(component);
    let mut change = matches!(text, Cow::Owned(_)).then_some(Change::Encoding);
    let bad = |c: char| matches!(c, '/' | '\\') || is_unprintable(c);
    let mut safe = text;
    if safe.contains(bad) {
        safe = Cow::Owned(safe.replace(bad, "_"));
        change = Some(Change::Characters);
    }
    if safe.len() > MAX_NAME {
        let (stem, extension) = split_extension(&safe);
        let stem = truncate(stem, MAX_NAME - extension.len());
        safe = Cow::Owned(format!("{stem}{extension}"));
        change = change.or(Some(Change::Length));
    }
    (safe, change)
}

/// Stem and extension (dot included; empty if there is none, or one too long to be one).
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    }
}

/// The longest front of `text` that fits `max` bytes and ends between characters.
fn truncate(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Whether Windows reserves the name, with any extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ');
    match stem.len() {
        3 => ["con", "prn", "aux", "nul"].iter().any(|device| stem.eq_ignore_ascii_case(device)),
        4 => {
            let (device, digit) = stem.as_bytes().split_at(3);
            matches!(digit, [b'1'..=b'9'])
                && [b"com", b"lpt"].iter().any(|reserved| device.eq_ignore_ascii_case(*reserved))
        }
        _ => false,
    }
}

fn set_key(key: &mut Vec<u8>, parent: u32, name: &str) {
    key.clear();
    key.extend_from_slice(&parent.to_le_bytes());
    key.extend_from_slice(name.as_bytes());
}

/// The key under which names meet that some file system takes for the same.
fn set_folded_key(key: &mut Vec<u8>, parent: u32, name: &str) {
    if name.is_ascii() {
        set_key(key, parent, name);
        key[4..].make_ascii_lowercase();
    } else {
        set_key(key, parent, &fold(name));
    }
}

/// Case folded and normalised: canonical decomposition, upper then lower case of each character
/// (which brings together ß and ss, s and long s, the sigmas), joiners and selectors that some file systems ignore
/// dropped, composed again.
fn fold(name: &str) -> String {
    name.nfd()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(|c| !matches!(c, '\u{34f}' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}'))
        .nfd()
        .nfc()
        .collect()
}
