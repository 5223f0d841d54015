//! Names that a file system refuses, and what stands in their place.
//!
//! FAT, exFAT and NTFS know no `:` and a few more characters. That is found out when a name is looked up or made; from then on
//! all names of the torrent stand with `_` in place of these, in this folder, also in later runs.
//!
//! A name with accents has two forms, composed (NFC) and decomposed (NFD, as macOS makes it), which look alike and are others to most file
//! systems. Where all that is found stands under the other form than the torrent's, that one is used.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use unicode_normalization::UnicodeNormalization;

use super::root::{PathFinder, Root};
use super::{Note, Slot, Storage};
use crate::layout::FileIndex;

/// Files that are looked for under both names before it is decided which names are used here.
const MAX_LOOKED_FOR: usize = 1000;

/// Gives each path that some file systems refuse another one that all take, and that is no other file's.
pub(super) fn give_plain_names(slots: &mut [Slot]) {
    if slots.iter().all(|slot| is_plain(&slot.path)) {
        return;
    }
    let mut taken: HashSet<String> = slots.iter().map(|slot| slot.path.to_lowercase()).collect();
    for (index, slot) in slots.iter_mut().enumerate() {
        if is_plain(&slot.path) {
            continue;
        }
        let mut plain = made_plain(&slot.path);
        if !taken.insert(plain.to_lowercase()) {
            plain = with_number(&plain, index + 1);
            taken.insert(plain.to_lowercase());
        }
        slot.plain = Some(plain.into());
    }
}

/// Gives each path that has another normal form that form, unless it is another file's.
pub(super) fn give_other_forms(slots: &mut [Slot]) {
    if slots.iter().all(|slot| slot.path.is_ascii()) {
        return;
    }
    let taken: HashSet<Box<str>> = slots.iter().map(|slot| slot.path.clone()).collect();
    for slot in slots.iter_mut().filter(|slot| !slot.path.is_ascii()) {
        let composed: String = slot.path.nfc().collect();
        let other = if composed == *slot.path { slot.path.nfd().collect() } else { composed };
        slot.other_form = Some(other.into_boxed_str()).filter(|other| !taken.contains(other));
    }
}

fn is_plain(path: &str) -> bool {
    path.split('/').all(|name| !name.contains(is_refused) && !name.ends_with(['.', ' ']))
}

fn is_refused(character: char) -> bool {
    character < ' ' || r#"\:*?"<>|"#.contains(character)
}

fn made_plain(path: &str) -> String {
    let name = |name: &str| {
        let mut name = name.replace(is_refused, "_");
        let end = name.trim_end_matches(['.', ' ']).len();
        let cut = name.len() - end;
        name.truncate(end);
        name + &"_".repeat(cut)
    };
    path.split('/').map(name).collect::<Vec<_>>().join("/")
}

/// Tells a name apart from another, its extension kept.
fn with_number(path: &str, number: usize) -> String {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    match path[name..].rfind('.').filter(|&dot| dot > 0) {
        Some(dot) => format!("{}~{number}{}", &path[..name + dot], &path[name + dot..]),
        None => format!("{path}~{number}"),
    }
}

impl Storage {
    /// The path of a file below basedir, as it stands on this file system.
    pub(super) fn name<'s>(&'s self, slot: &'s Slot) -> &'s str {
        match (&slot.plain, &slot.other_form) {
            (Some(plain), _) if self.plain_names.load(Ordering::Acquire) => plain,
            (_, Some(other)) if self.other_form.load(Ordering::Acquire) => other,
            _ => &slot.path,
        }
    }

    /// [`Storage::name`] of a file by its number.
    pub(super) fn name_of(&self, file: FileIndex) -> &str {
        self.name(self.slot(file))
    }

    /// The torrent's own folder, if it has one, as it stands on this file system.
    pub(super) fn top(&self) -> Option<&str> {
        let (top, _) = self.name(self.slots.first()?).split_once('/')?;
        Some(top)
    }

    /// Finds out which names are used here, as far as that shows without making one.
    pub(super) fn settle_names(&self, root: &Root) {
        let mut finder = PathFinder::new(root);
        let is_odd = |slot: &&Slot| slot.plain.is_some() || slot.other_form.is_some();
        let (mut plain_is_there, mut other_is_there) = (false, false);
        for slot in self.slots.iter().filter(is_odd).take(MAX_LOOKED_FOR) {
            match finder.find(&slot.path) {
                Ok(_) => return,
                Err(error) if is_refusal(&error) => return self.use_plain_names(),
                Err(_) => {
                    let mut is_there = |path: &Option<Box<str>>| {
                        path.as_deref().is_some_and(|path| finder.find(path).is_ok())
                    };
                    plain_is_there |= is_there(&slot.plain);
                    other_is_there |= is_there(&slot.other_form);
                }
            }
        }
        if plain_is_there {
            self.use_plain_names();
        } else if other_is_there {
            self.other_form.store(true, Ordering::Release);
        }
    }

    /// Whether a name was refused that another can stand for; it does from now on.
    pub(super) fn has_other_name(&self, file: FileIndex, error: &io::Error) -> bool {
        let can = self.slot(file).plain.is_some() && !self.plain_names.load(Ordering::Acquire);
        if can && is_refusal(error) {
            self.use_plain_names();
        }
        can && is_refusal(error)
    }

    fn use_plain_names(&self) {
        if !self.plain_names.swap(true, Ordering::AcqRel) {
            let count = self.slots.iter().filter(|slot| slot.plain.is_some()).count();
            self.note(Note::NamesReplaced { count: count as u64 });
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::ILSEQ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StorageOptions;
    use crate::storage::tests::{stream, torrent};
    use std::io::IoSliceMut;

    #[test]
    fn what_some_file_systems_refuse_is_replaced_and_told_apart() {
        assert!(is_plain("t/a b.txt") && !is_plain("t/a:b") && !is_plain("t./a") && !is_plain("t/a "));
        assert_eq!(made_plain("t?/Part 1: intro.txt"), "t_/Part 1_ intro.txt");
        assert_eq!(made_plain("ends. ./a\\b"), "ends___/a_b");
        let data = stream(40);
        let files = [("t/a:b.txt", 10), ("t/a_b.txt", 10), ("t/a?b.txt", 10), ("t/c", 10)];
        let storage =
            Storage::new(&torrent(16, &files, &data), std::path::Path::new("."), Default::default());
        let plain: Vec<Option<&str>> = storage.slots.iter().map(|slot| slot.plain.as_deref()).collect();
        assert_eq!(plain, [Some("t/a_b~1.txt"), None, Some("t/a_b~3.txt"), None]);
    }

    #[test]
    fn what_stands_in_the_other_normal_form_is_found_and_written_to() {
        let data = stream(30);
        for (own, other) in [("fre\u{301}d", "fr\u{e9}d"), ("fr\u{e9}d", "fre\u{301}d")] {
            let dir = tempfile::tempdir().unwrap();
            let [one, two] = ["a", "b"].map(|name| format!("{own}/{name}"));
            let metainfo = torrent(16, &[(&one, 20), (&two, 10)], &data);
            let storage = || Storage::new(&metainfo, dir.path(), StorageOptions::default());
            std::fs::create_dir(dir.path().join(other)).unwrap();
            std::fs::write(dir.path().join(other).join("a"), &data[..20]).unwrap();
            let found = storage();
            let mut read = vec![0; 20];
            found.read_at(0, &mut [IoSliceMut::new(&mut read)]).unwrap();
            assert_eq!(
                (read.as_slice(), found.path(FileIndex(1))),
                (&data[..20], dir.path().join(other).join("b"))
            );
            // Its own form comes first.
            std::fs::create_dir(dir.path().join(own)).unwrap();
            std::fs::write(dir.path().join(own).join("a"), &data[..20]).unwrap();
            let own_form = storage();
            own_form.read_at(0, &mut [IoSliceMut::new(&mut read)]).unwrap();
            assert_eq!(own_form.path(FileIndex(0)), dir.path().join(own).join("a"));
        }
    }

    #[test]
    fn what_stands_under_the_other_name_is_found_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = stream(30);
        let metainfo = torrent(16, &[("t:/a:b", 20), ("t:/c", 10)], &data);
        let storage = || Storage::new(&metainfo, dir.path(), StorageOptions::default());
        let read = |storage: &Storage| {
            let mut found = vec![0; 30];
            storage.read_at(0, &mut [IoSliceMut::new(&mut found)]).map(|()| found)
        };
        assert!(read(&storage()).is_err());
        std::fs::create_dir(dir.path().join("t_")).unwrap();
        std::fs::write(dir.path().join("t_/a_b"), &data[..20]).unwrap();
        std::fs::write(dir.path().join("t_/c"), &data[20..]).unwrap();
        let found = storage();
        assert_eq!(read(&found).unwrap(), data);
        assert_eq!(found.path(FileIndex(0)), dir.path().join("t_/a_b"));
        assert_eq!(found.take_notes(), [Note::NamesReplaced { count: 2 }]);
        // Where the file system has taken the right name, that is it.
        std::fs::create_dir(dir.path().join("t:")).unwrap();
        std::fs::write(dir.path().join("t:/a:b"), &data[..20]).unwrap();
        let storage = storage();
        assert!(read(&storage).is_err(), "t:/c is not there");
        assert_eq!(storage.path(FileIndex(0)), dir.path().join("t:/a:b"));
    }
}
