//! What a handle knows of its torrent without asking the session.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use super::{FileInfo, Status, TorrentOptions};
use crate::layout::FileIndex;
use crate::metainfo::Metainfo;

/// What does not change while a torrent lives, once it is known.
#[derive(Debug)]
pub(super) struct Facts {
    /// What a magnet link calls it.
    name: String,
    pub(super) basedir: PathBuf,
    /// Not before the metadata of a magnet link are there.
    known: OnceLock<KnownFacts>,
    /// The last picture, for when the session has ended. The lock is held for a copy at a time, by
    /// the handles that ask.
    pub(super) last: Mutex<Option<Status>>,
}

/// What is known of a torrent.
#[derive(Debug, Default)]
pub(super) struct KnownFacts {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) piece_length: u32,
    pub(super) pieces: u32,
    pub(super) files: Vec<FileInfo>,
}

impl Facts {
    pub(super) fn new(name: String, options: &TorrentOptions) -> Facts {
        let basedir = std::path::absolute(&options.basedir).unwrap_or_else(|_| options.basedir.clone());
        Facts { name, basedir, known: OnceLock::new(), last: Mutex::new(None) }
    }

    /// What the torrent is, with the weights of its files. Only the first time counts.
    pub(super) fn learn(&self, metainfo: &Metainfo, priorities: &[u32]) {
        let file = |(index, file): (usize, &crate::metainfo::File)| FileInfo {
            path: self.basedir.join(&*file.path),
            length: metainfo.layout.file(FileIndex(index as u32)).length,
            priority: priorities.get(index).copied().unwrap_or(1),
        };
        self.known.get_or_init(|| KnownFacts {
            name: metainfo.name.clone(),
            size: metainfo.layout.total(),
            piece_length: metainfo.layout.piece_length(),
            pieces: metainfo.layout.num_pieces(),
            files: metainfo.files.iter().enumerate().map(file).collect(),
        });
    }

    /// What is known; `None` if that is nothing yet.
    pub(super) fn known(&self) -> Option<&KnownFacts> {
        self.known.get()
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        self.known().map_or(&self.name, |known| &known.name)
    }
}
