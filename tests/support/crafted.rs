//! Torrents made byte by byte, so that they may hold what no decent program writes; a bench with a
//! tracker to share them on; pictures of folders to compare.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use btget::internals::hash::sha1;
use btget::metainfo::Metainfo;
use tempfile::TempDir;

use super::process::{PATIENCE, Process};
use super::tracker::{Announce, Tracker};

/// One file of a torrent, as it is written there.
#[derive(Clone, Debug, Default)]
pub struct Item {
    pub path: Vec<Vec<u8>>,
    pub data: Vec<u8>,
    /// BEP 47.
    pub attr: &'static str,
    /// BEP 47.
    pub symlink: Vec<Vec<u8>>,
}

impl Item {
    /// A file at this path (components between `/`), with data that follow from path and length.
    pub fn new(path: &str, length: usize) -> Item {
        let seed = path.bytes().fold(length as u64, |sum, byte| sum.wrapping_mul(131) + u64::from(byte));
        let mut data = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut data);
        Item { path: components(path), data, ..Item::default() }
    }

    /// A pad file.
    pub fn pad(length: usize) -> Item {
        let path = components(&format!(".pad/{length}"));
        Item { path, data: vec![0; length], attr: "p", ..Item::default() }
    }

    /// A symbolic link.
    pub fn link(path: &str, target: &str) -> Item {
        Item { path: components(path), attr: "l", symlink: components(target), ..Item::default() }
    }
}

fn components(path: &str) -> Vec<Vec<u8>> {
    path.split('/').map(|component| component.as_bytes().to_vec()).collect()
}

/// `4:spam`
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

/// `i7e`
pub fn number(number: u64) -> Vec<u8> {
    format!("i{number}e").into_bytes()
}

/// `l...e` of things that are encoded already.
pub fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [b"l", items.concat().as_slice(), b"e"].concat()
}

/// `d...e` of keys and things that are encoded already, in the order given.
pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.iter().flat_map(|(key, value)| [string(key.as_bytes()), value.clone()].concat()).collect();
    [b"d", entries.as_slice(), b"e"].concat()
}

/// A list of names.
pub fn names(components: &[Vec<u8>]) -> Vec<u8> {
    list(&components.iter().map(|component| string(component)).collect::<Vec<_>>())
}

/// The SHA-1 of all pieces of these data.
pub fn hashes(data: &[u8], piece_length: usize) -> Vec<u8> {
    data.chunks(piece_length).flat_map(|piece| sha1(piece).0).collect()
}

/// An `info` of these files; with `single`, of the first one's data alone.
pub fn info(name: &[u8], piece_length: usize, items: &[Item], single: bool) -> Vec<u8> {
    let file = |item: &Item| {
        let mut entries = Vec::new();
        if !item.attr.is_empty() {
            entries.push(("attr", string(item.attr.as_bytes())));
        }
        entries.push(("length", number(item.data.len() as u64)));
        entries.push(("path", names(&item.path)));
        if !item.symlink.is_empty() {
            entries.push(("symlink path", names(&item.symlink)));
        }
        dict(&entries)
    };
    let stream: Vec<u8> = items.iter().flat_map(|item| item.data.clone()).collect();
    let content = match single {
        true => ("length", number(stream.len() as u64)),
        false => ("files", list(&items.iter().map(file).collect::<Vec<_>>())),
    };
    dict(&[
        content,
        ("name", string(name)),
        ("piece length", number(piece_length as u64)),
        ("pieces", string(&hashes(&stream, piece_length))),
    ])
}

/// A torrent, a tracker that it names, and folders for those who share it.
pub struct Bench {
    pub folder: TempDir,
    pub tracker: Tracker,
    stream: Vec<u8>,
}

impl Bench {
    /// Of a torrent with this `info` and these data, one file after another.
    pub fn new(info: &[u8], stream: Vec<u8>) -> Bench {
        Bench::new_in(TempDir::new().unwrap(), info, stream)
    }

    /// [`Bench::new`] in this folder.
    pub fn new_in(folder: TempDir, info: &[u8], stream: Vec<u8>) -> Bench {
        let tracker = Tracker::start();
        let top = [b"d", string(b"announce").as_slice(), &string(tracker.url().as_bytes())].concat();
        let torrent = [&top, string(b"info").as_slice(), info, b"e"].concat();
        fs::write(folder.path().join("test.torrent"), torrent).unwrap();
        Bench { folder, tracker, stream }
    }

    /// Of a well-behaved torrent of these files in a folder `t`.
    pub fn of(piece_length: usize, items: &[Item]) -> Bench {
        let stream = items.iter().flat_map(|item| item.data.clone()).collect();
        Bench::new(&info(b"t", piece_length, items, false), stream)
    }

    /// The .torrent.
    pub fn torrent(&self) -> PathBuf {
        self.folder.path().join("test.torrent")
    }

    /// What the library reads in it.
    pub fn metainfo(&self) -> Metainfo {
        Metainfo::parse(&fs::read(self.torrent()).unwrap()).unwrap()
    }

    /// A place below the bench.
    pub fn place(&self, label: &str) -> PathBuf {
        self.folder.path().join(label)
    }

    /// A new, empty folder below the bench.
    pub fn empty_folder(&self, label: &str) -> PathBuf {
        let folder = self.place(label);
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// A new folder with all files in it.
    pub fn full_folder(&self, label: &str) -> PathBuf {
        let folder = self.empty_folder(label);
        let metainfo = self.metainfo();
        for (file, extent) in metainfo.files.iter().zip(metainfo.layout.files()) {
            let path = folder.join(&*file.path);
            if file.pad || file.symlink.is_some() {
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &self.stream[extent.offset as usize..extent.end() as usize]).unwrap();
        }
        folder
    }

    /// The data of a file, by its number from 1.
    pub fn data(&self, number: usize) -> &[u8] {
        let extent = self.metainfo().layout.files()[number - 1];
        &self.stream[extent.offset as usize..extent.end() as usize]
    }

    /// Where a file stands in `folder`, by its number from 1.
    pub fn path(&self, folder: &Path, number: usize) -> PathBuf {
        folder.join(&*self.metainfo().files[number - 1].path)
    }

    /// Asserts that of all files just these are below `folder`, by their numbers from 1, and right.
    pub fn assert_just(&self, folder: &Path, numbers: &[usize]) {
        for number in 1..=self.metainfo().files.len() {
            let found = fs::read(self.path(folder, number)).ok();
            let expected = numbers.contains(&number).then(|| self.data(number));
            assert!(found.as_deref() == expected, "file {number}: there: {}", found.is_some());
        }
    }

    /// The part file, if there is one.
    pub fn part_file(&self, folder: &Path) -> Option<PathBuf> {
        let path = folder.join(format!(".{}.parts", self.metainfo().info_hash));
        path.exists().then_some(path)
    }

    /// The arguments of btget on `folder`, with these options besides those that keep it to loopback.
    pub fn arguments(&self, folder: &Path, options: &[&str]) -> Vec<String> {
        let mut state = folder.as_os_str().to_owned();
        state.push(".state");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut arguments = vec![text(&self.torrent()), "--basedir".into(), text(folder)];
        arguments.extend(["--state-dir".into(), text(Path::new(&state))]);
        arguments.extend(["--progress", "none", "--no-lsd", "--bind", "127.0.0.1"].map(String::from));
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        arguments
    }

    /// Starts btget.
    pub fn btget(&self, folder: &Path, options: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
        Process::start("btget", command.args(self.arguments(folder, options)))
    }

    /// Runs btget to its end; its exit code and all that it said.
    pub fn run(&self, folder: &Path, options: &[&str]) -> (i32, String) {
        end_of(self.btget(folder, options))
    }

    /// Starts a seeder on a new, full folder; gives it when the tracker knows it.
    pub fn seed(&self, options: &[&str]) -> Process {
        let folder = self.full_folder("seed");
        self.seed_from(&folder, options)
    }

    /// Starts a seeder on `folder`; gives it when the tracker knows it.
    pub fn seed_from(&self, folder: &Path, options: &[&str]) -> Process {
        let before = self.tracker.announces().len();
        let seed = self.btget(folder, options);
        self.wait_for("the seed's announce", |announces| {
            announces[before..].iter().any(|a| a.event == "started")
        });
        seed
    }

    /// Waits until what was announced is as asked.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&[Announce]) -> bool) {
        let came = self.tracker.wait_for(PATIENCE, is_so);
        assert!(came, "waited {PATIENCE:?} in vain for {what}: {:#?}", self.tracker.announces());
    }
}

/// Waits for the end of a process; its exit code and all that it said.
pub fn end_of(mut process: Process) -> (i32, String) {
    let status = process.wait();
    let story = process.story();
    (status.code().unwrap_or_else(|| panic!("{status}\n{story}")), story)
}

/// Everything below a folder, links not followed: path, and what is there.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let what = if kind.is_dir() {
                folders.push(path.clone());
                "a folder".to_owned()
            } else if kind.is_symlink() {
                format!("a link to {:?}", fs::read_link(&path).unwrap())
            } else {
                let facts = fs::symlink_metadata(&path).unwrap();
                format!("{} bytes, mode {:o}, changed {}", facts.len(), facts.mode(), facts.mtime_nsec())
            };
            found.insert(path, what);
        }
    }
    found
}

/// The paths of a [`tree`] below `folder`, folders left out.
pub fn files_in(folder: &Path) -> Vec<Vec<u8>> {
    let all = tree(folder);
    let files = all.iter().filter(|(_, what)| *what != "a folder");
    files.map(|(path, _)| path.strip_prefix(folder).unwrap().as_os_str().as_bytes().to_vec()).collect()
}
