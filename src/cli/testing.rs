//! Torrents for the tests of this room.

use std::sync::Arc;

use crate::client::{Phase, Status};
use crate::event::State;
use crate::hash::Sha1;
use crate::ids::InfoHashes;
use crate::layout::Layout;
use crate::metainfo::{File, Metainfo};

/// A torrent of files of 100 bytes each, in pieces of 64.
pub(super) fn metainfo(name: &str, paths: &[&str]) -> Metainfo {
    let layout = Layout::new(64, paths.iter().map(|_| (100, false))).unwrap();
    let file = |path: &&str| File {
        path: (*path).into(),
        length: 100,
        pad: false,
        executable: false,
        symlink: None,
    };
    Metainfo {
        info_hash: InfoHashes::V1(Sha1([7; 20])),
        all_hashes: InfoHashes::V1(Sha1([7; 20])),
        name: name.to_owned(),
        piece_hashes: vec![Sha1([0; 20]); layout.num_pieces() as usize].into(),
        layout: Arc::new(layout),
        files: paths.iter().map(file).collect(),
        private: false,
        trackers: Vec::new(),
        nodes: Vec::new(),
        url_list: Vec::new(),
        http_seeds: Vec::new(),
        comment: None,
        created_by: None,
        creation_date: None,
        notes: Vec::new(),
        info_bytes: Arc::from(&b"de"[..]),
    }
}

/// A torrent of so many pieces of 1 MiB, downloading, with nothing there yet.
pub(super) fn status(name: &str, pieces: u32) -> Status {
    let (hash, bytes) = (InfoHashes::V1(Sha1([7; 20])), u64::from(pieces) << 20);
    let nothing = Status::with_nothing(hash, name.to_owned(), Phase::Downloading, bytes, pieces);
    Status { state: State::Started, ..nothing }
}
