//! Torrents for the tests of this room.

use std::sync::Arc;

use crate::bitfield::Bitfield;
use crate::client::{Phase, Status};
use crate::event::{PeersFound, State};
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
    let bytes = u64::from(pieces) << 20;
    Status {
        info_hash: InfoHashes::V1(Sha1([7; 20])),
        name: name.to_owned(),
        state: State::Started,
        phase: Phase::Downloading,
        total: bytes,
        wanted_bytes: bytes,
        left: bytes,
        downloaded: 0,
        uploaded: 0,
        total_downloaded: 0,
        total_uploaded: 0,
        wasted: 0,
        down_rate: 0,
        up_rate: 0,
        peers: 0,
        seeds: 0,
        eta: None,
        dht_nodes: None,
        peers_found: PeersFound::default(),
        web_seeds: 0,
        next_ask: None,
        have: Bitfield::new(pieces),
        wanted: Bitfield::full(pieces),
        in_flight: Bitfield::new(pieces),
        check: None,
        metadata: None,
        error: None,
        ended: None,
        verdict: crate::event::Verdict::Incomplete,
    }
}
