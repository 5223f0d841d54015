//! What a handle knows of its torrent without asking the session.

use std::path::PathBuf;
use std::sync::Mutex;

use super::{FileInfo, Status, TorrentOptions};
use crate::layout::FileIndex;
use crate::metainfo::Metainfo;

/// What does not change while a torrent lives.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) piece_length: u32,
    pub(super) pieces: u32,
    pub(super) basedir: PathBuf,
    pub(super) files: Vec<FileInfo>,
    /// The last picture, for when the session has ended. The lock is held for a copy at a time, by
    /// the handles that ask.
    pub(super) last: Mutex<Option<Status>>,
}

impl Facts {
    pub(super) fn new(metainfo: &Metainfo, options: &TorrentOptions) -> Facts {
        let basedir = std::path::absolute(&options.basedir).unwrap_or_else(|_| options.basedir.clone());
        let file = |(index, file): (usize, &crate::metainfo::File)| FileInfo {
            path: basedir.join(&*file.path),
            length: metainfo.layout.file(FileIndex(index as u32)).length,
            priority: options.priorities.get(index).copied().unwrap_or(1),
        };
        Facts {
            name: metainfo.name.clone(),
            size: metainfo.layout.total(),
            piece_length: metainfo.layout.piece_length(),
            pieces: metainfo.layout.num_pieces(),
            files: metainfo.files.iter().enumerate().map(file).collect(),
            basedir,
            last: Mutex::new(None),
        }
    }
}
