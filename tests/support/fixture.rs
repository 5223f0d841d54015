//! A torrent to test with: random files, the .torrent that describes them, folders that hold all
//! or nothing of it, and a plain comparison of what arrived.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};

use btget::internals::hash::{Sha1, sha1};
use btget::metainfo::create::{Content, NewTorrent};
use tempfile::TempDir;

/// What a torrent is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One file, its last piece and block short.
    Single,
    /// Files in folders: pieces that hold several files, an empty file, names with spaces and
    /// beyond ASCII.
    Multi,
}

/// The family of addresses that a test runs over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The loopback address.
    pub fn loopback(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::from([127, 0, 0, 1]),
            Family::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]),
        }
    }

    /// Whether this machine has it: containers often lack IPv6.
    pub fn is_available(self) -> bool {
        TcpListener::bind((self.loopback(), 0)).is_ok()
    }
}

/// Bytes in a piece.
pub const PIECE_LENGTH: u32 = 64 * 1024;

pub struct Fixture {
    folder: TempDir,
    /// Path below the basedir, and what is in it.
    files: Vec<(String, Vec<u8>)>,
}

impl Fixture {
    /// Makes the files and the .torrent, which names this tracker. The same seed gives the same data.
    pub fn new(shape: Shape, announce: &str, seed: u64) -> Fixture {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut random = |length: usize| -> Vec<u8> {
            let mut data = vec![0; length];
            rng.fill(&mut data);
            data
        };
        let files = match shape {
            Shape::Single => vec![("", random(3 * 1024 * 1024 + 12_345))],
            Shape::Multi => vec![
                ("README", random(777)),
                ("disc 1/01 - \u{f6}ffnung.flac", random(1_000_003)),
                ("disc 1/02.flac", random(64 * 1024)),
                ("disc 2/empty", Vec::new()),
                ("disc 2/03.flac", random(1_500_000)),
                ("disc 2/deep/er/notes.txt", random(1)),
                ("cover.jpg", random(99_999)),
            ],
        };
        Fixture::of(if shape == Shape::Single { "single file.bin" } else { "album" }, files, announce)
    }

    /// One file of this length.
    pub fn single(length: usize, announce: &str, seed: u64) -> Fixture {
        let mut data = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut data);
        Fixture::of("large.bin", vec![("", data)], announce)
    }

    /// These files; a single one has no path.
    pub fn of(name: &'static str, files: Vec<(&str, Vec<u8>)>, announce: &str) -> Fixture {
        Fixture::make(name, files, announce, false)
    }

    /// One file of this length, of a private torrent (BEP 27).
    pub fn private(length: usize, announce: &str, seed: u64) -> Fixture {
        let mut data = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut data);
        Fixture::make("private.bin", vec![("", data)], announce, true)
    }

    fn make(name: &'static str, files: Vec<(&str, Vec<u8>)>, announce: &str, private: bool) -> Fixture {
        let lengths: Vec<(&str, u64)> = files.iter().map(|(path, data)| (*path, data.len() as u64)).collect();
        let content =
            if lengths.len() == 1 { Content::File(lengths[0].1) } else { Content::Folder(&lengths) };
        let stream: Vec<u8> = files.iter().flat_map(|(_, data)| data).copied().collect();
        let hashes: Vec<Sha1> = stream.chunks(PIECE_LENGTH as usize).map(sha1).collect();
        let torrent = NewTorrent {
            name,
            content,
            piece_length: PIECE_LENGTH,
            piece_hashes: &hashes,
            trackers: &[vec![announce.to_owned()]],
            private,
        };
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("test.torrent"), torrent.encode()).unwrap();
        let below = |path: &str| if path.is_empty() { name.to_owned() } else { format!("{name}/{path}") };
        let files = files.into_iter().map(|(path, data)| (below(path), data)).collect();
        Fixture { folder, files }
    }

    /// The .torrent.
    pub fn torrent(&self) -> PathBuf {
        self.folder.path().join("test.torrent")
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|(_, data)| data.len() as u64).sum()
    }

    /// Number of pieces.
    pub fn pieces(&self) -> usize {
        self.size().div_ceil(u64::from(PIECE_LENGTH)) as usize
    }

    /// Which pieces are below this folder as they should be, byte by byte. By itself, without btget.
    pub fn right_pieces(&self, folder: &Path) -> Vec<bool> {
        let mut right = Vec::new();
        for (path, data) in &self.files {
            let found = fs::read(folder.join(path)).unwrap_or_default();
            right.extend(data.iter().enumerate().map(|(at, byte)| found.get(at) == Some(byte)));
        }
        right.chunks(PIECE_LENGTH as usize).map(|piece| piece.iter().all(|right| *right)).collect()
    }

    /// A new, empty folder; gone with the fixture.
    pub fn empty_folder(&self, label: &str) -> PathBuf {
        let folder = self.folder.path().join(label);
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// A new folder with everything in it.
    pub fn full_folder(&self, label: &str) -> PathBuf {
        let folder = self.empty_folder(label);
        for (path, data) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
        folder
    }

    /// Asserts that every file is below this folder, byte by byte.
    pub fn assert_complete(&self, folder: &Path) {
        self.assert_files(folder, |_| true);
    }

    /// As [`Fixture::assert_complete`], but empty files need not be there: not every client makes them.
    pub fn assert_data_complete(&self, folder: &Path) {
        self.assert_files(folder, |data| !data.is_empty());
    }

    /// Asserts that these files are below this folder, byte by byte.
    pub fn assert_there(&self, folder: &Path, paths: &[&str]) {
        for (path, data) in self.files.iter().filter(|(path, _)| paths.contains(&path.as_str())) {
            assert!(fs::read(folder.join(path)).is_ok_and(|found| found == *data), "{path}");
        }
    }

    /// As [`Fixture::assert_there`], and that none of the others are.
    pub fn assert_just(&self, folder: &Path, paths: &[&str]) {
        self.assert_there(folder, paths);
        for (path, _) in self.files.iter().filter(|(path, _)| !paths.contains(&path.as_str())) {
            assert!(!folder.join(path).exists(), "{path}");
        }
    }

    fn assert_files(&self, folder: &Path, is_needed: impl Fn(&[u8]) -> bool) {
        for (path, data) in self.files.iter().filter(|(_, data)| is_needed(data)) {
            let found = fs::read(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(found.len(), data.len(), "{path} has the wrong length");
            let wrong = found.iter().zip(data).position(|(a, b)| a != b);
            assert_eq!(wrong, None, "{path} differs from this byte on");
        }
    }
}
