//! From the names in a torrent to paths that are safe on disk.
//!
//! Owns the rules for names: the same torrent always gives the same paths, every path stays
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

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::byteset::ByteSet;
use super::notes::{ParseNotes, quote};
use crate::text::{is_plain_ascii, is_unprintable};

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
pub(super) struct Mapper<'a> {
    /// The torrent's own folder; the path of the one file of a single-file torrent.
    root: String,
    /// MappedFolder and the name wanted below it -> the folder that stands for it.
    folders: HashMap<Box<[u8]>, MappedFolder>,
    /// MappedFolder and the name wanted below it -> the name on disk of the first file that could not have it.
    renamed_files: HashMap<Box<[u8]>, Box<str>>,
    /// MappedFolder and the folded name of what is there, file or folder.
    taken: ByteSet,
    /// MappedFolder and the folded name that suffixes are put to -> the next number to try. Numbers only
    /// rise, so that a million equal names take a million steps and not a million squared.
    numbers: HashMap<Box<[u8]>, u32>,
    /// The folder of the last file. The next one is often in the same.
    last: MappedPlace<'a>,
    /// Reused for the keys of the maps.
    key: Vec<u8>,
}

#[derive(Debug)]
struct MappedFolder {
    id: u32,
    /// Its name on disk, where that is not the wanted one.
    renamed: Option<Box<str>>,
}

/// A folder that some components led to.
#[derive(Debug)]
struct MappedPlace<'a> {
    components: Vec<&'a [u8]>,
    id: u32,
    /// Below basedir, with a `/` at the end; the buffer that paths are built in.
    path: String,
}

impl<'a> Mapper<'a> {
    /// For a torrent of this `name`.
    pub(super) fn new(name: &[u8], notes: &mut ParseNotes) -> Mapper<'a> {
        let (safe, change) = match name {
            b"" | b"." => (Cow::Borrowed("_"), Some(Change::Empty)),
            name => sanitize(name),
        };
        let root = safe.into_owned();
        note(notes, &root, name, change);
        Mapper {
            folders: HashMap::new(),
            renamed_files: HashMap::new(),
            taken: ByteSet::default(),
            numbers: HashMap::new(),
            last: MappedPlace { components: Vec::new(), id: 0, path: format!("{root}/") },
            key: Vec::new(),
            root,
        }
    }

    /// The torrent's own folder, or the path of its one file.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The place of the next file; `quiet` for pad files, which nobody sees.
    pub(super) fn add(
        &mut self,
        components: &[&'a [u8]],
        quiet: bool,
        notes: &mut ParseNotes,
    ) -> Result<Box<str>, TooManyFolders> {
        let mut unheard = ParseNotes::default();
        let notes = if quiet { &mut unheard } else { notes };
        let last = components.iter().rposition(means_something);
        self.enter_all(&components[..last.unwrap_or(0)], notes)?;
        let (name, (wanted, change)) = match last.map(|last| components[last]) {
            Some(name) => (name, sanitize(name)),
            None => (&b""[..], (Cow::Borrowed("_"), Some(Change::Empty))),
        };
        let free = self.claim(self.last.id, &wanted, true);
        // Links do not lead to pads.
        if let Some(free) = free.as_ref().filter(|_| !quiet) {
            set_key(&mut self.key, self.last.id, &wanted);
            self.renamed_files.entry(self.key.as_slice().into()).or_insert_with(|| free.clone());
        }
        let folder = self.last.path.len();
        self.last.path.push_str(free.as_deref().unwrap_or(&wanted));
        note(notes, &self.last.path, name, change.or(free.is_some().then_some(Change::Taken)));
        let path = self.last.path.as_str().into();
        self.last.path.truncate(folder);
        Ok(path)
    }

    /// Makes `last` the folder that these components lead to.
    fn enter_all(&mut self, folders: &[&'a [u8]], notes: &mut ParseNotes) -> Result<(), TooManyFolders> {
        if self.last.components == folders {
            return Ok(());
        }
        let mut path = std::mem::take(&mut self.last.path);
        path.truncate(self.root.len() + 1);
        let mut id = 0;
        for (depth, component) in folders.iter().filter(|component| means_something(component)).enumerate() {
            let (wanted, change) = sanitize(component);
            if depth + 3 > MAX_DEPTH || path.len() + wanted.len() + SUFFIX_ROOM + 1 + MAX_NAME > MAX_PATH {
                notes.add(|| format!("{}: folders too deep or too long below it are left out", quote(&path)));
                break;
            }
            id = self.enter(id, &wanted, &mut path, |path, taken| {
                note(notes, path, component, change.or(taken));
            })?;
            path.push('/');
        }
        self.last.components.clear();
        self.last.components.extend_from_slice(folders);
        self.last.id = id;
        self.last.path = path;
        Ok(())
    }

    /// Where a symbolic link's target lies, if its components are plain names and lead through
    /// folders of this torrent. Whether a file is there, the caller must see.
    pub(super) fn resolve(&mut self, components: &[&[u8]]) -> Option<Target> {
        let mut path = self.root.clone();
        let (mut parent, mut renamed) = (Some(0), None);
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
                    let other = self.renamed_files.get(self.key.as_slice());
                    renamed = other.map(|name| format!("{path}{name}").into_boxed_str());
                    path.push_str(&wanted);
                    parent = None;
                }
            }
        }
        let is_folder = parent.is_some();
        (!components.is_empty()).then(|| Target { path: path.into_boxed_str(), is_folder, renamed })
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
        self.folders.insert(self.key.as_slice().into(), MappedFolder { id, renamed });
        Ok(id)
    }

    /// Takes `wanted` in `parent`, or gives the name that was taken instead.
    fn claim(&mut self, parent: u32, wanted: &str, is_file: bool) -> Option<Box<str>> {
        set_folded_key(&mut self.key, parent, wanted);
        if self.taken.insert(&self.key) {
            return None;
        }
        let (stem, extension) = if is_file { split_extension(wanted) } else { (wanted, "") };
        // Names that would be cut to the same candidates share one row of numbers.
        let stem = truncate(stem, MAX_NAME - SUFFIX_ROOM - extension.len());
        set_folded_key(&mut self.key, parent, &format!("{stem}{extension}"));
        let number = self.numbers.entry(self.key.as_slice().into()).or_insert(2);
        loop {
            let candidate = format!("{stem}~{number}{extension}");
            *number += 1;
            set_folded_key(&mut self.key, parent, &candidate);
            if self.taken.insert(&self.key) {
                return Some(candidate.into_boxed_str());
            }
        }
    }
}

/// See [`Mapper::resolve`].
#[derive(Debug)]
pub(super) struct Target {
    /// Below basedir.
    pub(super) path: Box<str>,
    /// Whether it is a folder of this torrent.
    pub(super) is_folder: bool,
    /// Where the file is that wanted this name and got another, since one that is hardly different was taken. It counts if no file is at `path`.
    pub(super) renamed: Option<Box<str>>,
}

/// Empty components and `.` lead nowhere.
fn means_something(component: &&[u8]) -> bool {
    !matches!(*component, b"" | b".")
}

fn note(notes: &mut ParseNotes, path: &str, original: &[u8], change: Option<Change>) {
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
    let mut change = None;
    let mut safe = match std::str::from_utf8(component) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            change = Some(Change::Encoding);
            String::from_utf8_lossy(component)
        }
    };
    let bad = |c: char| matches!(c, '/' | '\\') || is_unprintable(c);
    let separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    let is_plain =
        is_plain_ascii(component) && !component.iter().fold(false, |any, byte| any | separator(byte));
    if !is_plain && safe.contains(bad) {
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

/// Case folded and normalised (NFC): composed, each character in lower, upper and lower case again
/// (this brings together letters of more than two forms: ß, ẞ and ss; s and long s; the sigmas), joiners
/// and selectors that some file systems ignore dropped, composed again.
fn fold(name: &str) -> String {
    let composed = compose(Cow::Borrowed(name));
    let mut folded = String::with_capacity(composed.len());
    for c in composed.chars() {
        match c {
            // Letters without case, which names are full of: CJK, Kana, Hangul.
            '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{fffd}' => folded.push(c),
            '\u{34f}' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' => {}
            c if c.is_ascii() => folded.push(c.to_ascii_lowercase()),
            c => folded.extend(c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase)),
        }
    }
    compose(Cow::Owned(folded)).into_owned()
}

/// In normal form C; what is in it already, as nearly every name is, costs a look at each character.
fn compose(text: Cow<'_, str>) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text,
        IsNormalized::No | IsNormalized::Maybe => Cow::Owned(text.nfc().collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    /// The paths of files below a folder `t`, and the notes.
    fn map(files: &[&[&[u8]]]) -> (Vec<String>, Vec<String>) {
        let mut notes = ParseNotes::default();
        let mut mapper = Mapper::new(b"t", &mut notes);
        let paths = files.iter().map(|file| mapper.add(file, false, &mut notes).unwrap().into()).collect();
        (paths, notes.into_lines())
    }

    fn one(components: &[&[u8]]) -> String {
        map(&[components]).0.remove(0)
    }

    fn name(name: &[u8]) -> String {
        Mapper::new(name, &mut ParseNotes::default()).root().to_owned()
    }

    /// What every path must be, told without the code above.
    fn check(paths: &[String]) {
        let mut seen = HashSet::new();
        let mut folders = HashSet::new();
        for path in paths {
            assert!(path.len() <= MAX_PATH && path.split('/').count() <= MAX_DEPTH, "{path}");
            for part in path.split('/') {
                assert!(!matches!(part, "" | "." | ".."), "{path:?}");
                assert!(part.len() <= 255, "{path:?}");
                let bad =
                    |c: char| c.is_control() || matches!(c, '\\' | '\u{202e}' | '\u{2066}' | '\u{2028}');
                assert!(!part.contains(bad), "{path:?}");
            }
            let folded = path.nfc().collect::<String>().to_lowercase().nfc().collect::<String>();
            let ends = folded.match_indices('/').map(|(end, _)| end);
            folders.extend(ends.map(|end| folded[..end].to_owned()));
            assert!(seen.insert(folded), "{path:?} twice");
        }
        assert!(seen.is_disjoint(&folders), "a file where a folder is: {paths:?}");
    }

    fn components() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => prop::sample::select(vec![
                "a", "A", "b", "a~2", "A~2", "a~3", ".", "..", "", "a.b", "a~2.b", "/", "\\", "a/b", "\0", "\u{e9}",
                "e\u{301}", "E\u{301}", "\u{df}", "SS", "\u{17f}s", "\u{202e}", "_", "_~2", "~", "...", " ", "con",
            ]).prop_map(|name| name.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
            1 => (240usize..300, "[ab\u{e9}]{0,2}").prop_map(|(length, end)| ("x".repeat(length) + &end + ".iso").into_bytes()),
            1 => ".{0,8}".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn no_path_escapes_and_no_two_are_the_same(
            files in prop::collection::vec(prop::collection::vec(components(), 1..5), 1..40),
        ) {
            let files: Vec<Vec<&[u8]>> = files.iter().map(|file| file.iter().map(Vec::as_slice).collect()).collect();
            let files: Vec<&[&[u8]]> = files.iter().map(Vec::as_slice).collect();
            let (paths, notes) = map(&files);
            check(&paths);
            prop_assert!(paths.iter().all(|path| path.starts_with("t/")));
            prop_assert_eq!((paths, notes), map(&files));
        }

        #[test]
        fn a_name_alone_is_one_safe_component(bytes in components()) {
            let path = name(&bytes);
            prop_assert!(!path.contains('/'));
            check(&[path]);
        }
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        let plain: &[&[&[u8]]] = &[
            &[b"a.txt"],
            &[b"b", b"a.txt"],
            &[b"..."],
            &[b"x..y"],
            &["\u{65e5}\u{672c}.mkv".as_bytes()],
            &["\u{1f468}\u{200d}\u{1f469}".as_bytes()],
            &[b"-rf *"],
        ];
        let (paths, notes) = map(plain);
        let expected: Vec<_> =
            plain.iter().map(|file| format!("t/{}", String::from_utf8(file.join(&b'/')).unwrap())).collect();
        assert_eq!(paths, expected);
        assert!(notes.is_empty());
    }

    #[test]
    fn hostile_components_are_mended() {
        let table: &[(&[&[u8]], &str)] = &[
            (&[b"..", b"..", b"etc", b"passwd"], "t/_/_/etc/passwd"),
            (&[b"../../etc/passwd"], "t/.._.._etc_passwd"),
            (&[b"/etc/passwd"], "t/_etc_passwd"),
            (&[b"", b"etc", b"", b"passwd"], "t/etc/passwd"),
            (&[b".", b"a", b"."], "t/a"),
            (&[b"..", b""], "t/_"),
            (&[b""], "t/_"),
            (&[b"."], "t/_"),
            (&[b".."], "t/_"),
            (&[b"C:\\windows\\system32"], "t/C:_windows_system32"),
            (&[b"a\0b"], "t/a_b"),
            (&[b"a\nb\x1b[31m\x7f"], "t/a_b_[31m_"),
            (&["gpj.\u{202e}exe".as_bytes()], "t/gpj._exe"),
            (&["\u{2066}a\u{2029}\u{85}\u{feff}".as_bytes()], "t/_a___"),
            (&[b"\xff\xfe.txt"], "t/\u{fffd}\u{fffd}.txt"),
            (&[b"\xc0\xaf\xc0\xae"], "t/\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (&[b"\xe2\x80"], "t/\u{fffd}"),
        ];
        for (components, expected) in table {
            assert_eq!(&one(components), expected);
        }
    }

    #[test]
    fn hostile_names_of_torrents_are_mended() {
        let table: &[(&[u8], &str)] = &[
            (b"..", "_"),
            (b".", "_"),
            (b"", "_"),
            (b"/", "_"),
            (b"../..", ".._.."),
            (b"/tmp/x", "_tmp_x"),
            (b"\0", "_"),
        ];
        for (hostile, expected) in table {
            assert_eq!(&name(hostile), expected);
        }
    }

    #[test]
    fn long_names_are_cut_between_characters_and_keep_their_extension() {
        assert_eq!(one(&[&[b'x'; 255]]).len(), 2 + 255);
        assert_eq!(one(&[("x".repeat(252) + ".iso").as_bytes()]), format!("t/{}.iso", "x".repeat(251)));
        assert_eq!(
            one(&[("\u{e9}".repeat(200) + ".iso").as_bytes()]),
            format!("t/{}.iso", "\u{e9}".repeat(125))
        );
        let no_extension = format!("a.{}", "b".repeat(300));
        assert_eq!(one(&[no_extension.as_bytes()]), format!("t/a.{}", "b".repeat(253)));
        let same_front = ["p", "q"].map(|end| "x".repeat(300) + end + ".iso");
        let (paths, notes) = map(&[&[same_front[0].as_bytes()], &[same_front[1].as_bytes()]]);
        assert_eq!(paths[0], format!("t/{}.iso", "x".repeat(251)));
        assert_eq!(paths[1], format!("t/{}~2.iso", "x".repeat(243)));
        assert!(notes.len() == 2 && notes[0].ends_with("longer than 255 bytes"), "{notes:?}");
    }

    #[test]
    fn clashing_names_are_told_apart_by_a_number() {
        let files: &[&[&[u8]]] = &[
            &[b"a.txt"],
            &[b"A.TXT"],
            &[b"a.txt"],
            &[b"a~2.txt"],
            &[b"dir", b"f"],
            &[b"DIR", b"f"],
            &[b"dir", b"F"],
            &[b"DIR", b"g"],
            &[b"dir"],
            &[b"a.txt", b"below a file"],
            &["\u{e9}".as_bytes()],
            &["e\u{301}".as_bytes()],
            &["stra\u{df}e".as_bytes()],
            &[b"STRASSE"],
        ];
        let (paths, notes) = map(files);
        let expected = [
            "t/a.txt",
            "t/A~2.TXT",
            "t/a~3.txt",
            "t/a~2~2.txt",
            "t/dir/f",
            "t/DIR~2/f",
            "t/dir/F~2",
            "t/DIR~2/g",
            "t/dir~3",
            "t/a.txt~4/below a file",
            "t/\u{e9}",
            "t/e\u{301}~2",
            "t/stra\u{df}e",
            "t/STRASSE~2",
        ];
        assert_eq!(paths, expected);
        check(&paths);
        assert_eq!(notes.len(), 9, "one for each that was changed: {notes:#?}");
        assert!(notes[0].starts_with("\"t/A~2.TXT\" stands for \"A.TXT\": the same name"), "{notes:?}");
    }

    #[test]
    fn folding_sees_through_case_and_normalisation_of_every_character() {
        for c in (char::MIN..=char::MAX).filter(|c| !c.is_ascii()) {
            let text = c.to_string();
            let folded = fold(&text);
            assert_eq!(folded, fold(&folded), "{c:?} again");
            assert_eq!(folded, fold(&text.to_lowercase()), "{c:?} in lower case");
            assert_eq!(folded, fold(&text.to_uppercase()), "{c:?} in upper case");
            assert_eq!(folded, fold(&text.nfd().collect::<String>()), "{c:?} decomposed");
            assert_eq!(folded, fold(&text.nfc().collect::<String>()), "{c:?} composed");
        }
    }

    #[test]
    fn folders_too_deep_or_too_long_are_left_out() {
        let deep: Vec<&[u8]> = std::iter::repeat_n(&b"d"[..], 500).collect();
        assert_eq!(one(&deep), format!("t/{}d", "d/".repeat(98)));
        let folder = [b'y'; 255];
        let wide: Vec<&[u8]> = std::iter::repeat_n(&folder[..], 20).chain([&b"file"[..]]).collect();
        let (paths, notes) = map(&[&wide, &wide]);
        check(&paths);
        assert!(paths[0].ends_with("yyy/file") && paths[1].ends_with("yyy/file~2"));
        assert!(notes[0].contains("left out"), "{notes:?}");
    }

    #[test]
    fn names_that_windows_reserves_stay_and_are_told() {
        for reserved in ["CON", "nul.txt", "Lpt1.tar.gz", "com9"] {
            let (paths, notes) = map(&[&[reserved.as_bytes()]]);
            assert_eq!(paths[0], format!("t/{reserved}"));
            assert!(notes[0].contains("Windows"), "{notes:?}");
        }
        for free in ["console", "com0", "com10", "nul1", "lpt\u{e9}"] {
            assert_eq!(map(&[&[free.as_bytes()]]).1.len(), 0, "{free}");
        }
    }

    #[test]
    fn notes_are_bounded_and_quote_strangers_with_care() {
        let long = [vec![b'\x1b'; 100_000], vec![b'z'; 10]].concat();
        let parts = [&long[..]];
        let (_, notes) = map(&vec![&parts[..]; 1000]);
        assert_eq!(notes.len(), 51);
        assert_eq!(notes[50], "950 more notes like these");
        assert!(notes.iter().all(|note| note.len() < 2000 && !note.contains('\x1b')), "{}", notes[0]);
    }

    #[test]
    fn a_hundred_thousand_clashing_names_take_linear_time() {
        let names: Vec<String> = (0..100_000).map(|n| format!("{}{:05}", "x".repeat(250), n / 2)).collect();
        let parts: Vec<[&[u8]; 1]> = names.iter().map(|name| [name.as_bytes()]).collect();
        let files: Vec<&[&[u8]]> = parts.iter().map(|part| &part[..]).collect();
        let (paths, _) = map(&files);
        assert_eq!(paths.iter().collect::<HashSet<_>>().len(), 100_000);
    }
}
