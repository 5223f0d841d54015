//! Torrents for the tests of this room.

use std::sync::Arc;

use crate::layout::Layout;
use crate::metainfo::{File, InfoHash, Metainfo};

/// A torrent of files of 100 bytes each, in pieces of 64.
pub fn metainfo(name: &str, paths: &[&str]) -> Metainfo {
    let layout = Layout::new(64, paths.iter().map(|_| (100, false))).unwrap();
    let file = |path: &&str| File {
        path: (*path).into(),
        length: 100,
        pad: false,
        executable: false,
        symlink: None,
    };
    Metainfo {
        info_hash: InfoHash([7; 20]),
        name: name.to_owned(),
        piece_hashes: vec![[0; 20]; layout.num_pieces() as usize].into(),
        layout: Arc::new(layout),
        files: paths.iter().map(file).collect(),
        private: false,
        trackers: Vec::new(),
        nodes: Vec::new(),
        url_list: Vec::new(),
        comment: None,
        created_by: None,
        creation_date: None,
        notes: Vec::new(),
        info_bytes: Arc::from(&b"de"[..]),
    }
}
