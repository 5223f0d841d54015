//! The behaviour of `Metainfo::parse` as a whole.

use super::create::{Content, NewTorrent};
use super::*;

fn new(content: Content<'_>) -> Vec<u8> {
    let hashes = [[1; 20], [2; 20]];
    let trackers = [vec!["http://a.example/announce".to_owned(), "udp://b.example:80".to_owned()]];
    let torrent = NewTorrent {
        name: "name",
        content,
        piece_length: 100,
        piece_hashes: &hashes,
        trackers: &trackers,
        private: true,
    };
    torrent.encode()
}

#[test]
fn what_we_make_we_read() {
    let single = Metainfo::parse(&new(Content::File(150))).unwrap();
    assert_eq!(single.files.len(), 1);
    assert_eq!(&*single.files[0].path, "name");
    assert_eq!(single.layout.total(), 150);
    assert_eq!(single.piece_hashes[..], [[1; 20], [2; 20]]);
    assert_eq!(single.trackers, [["http://a.example/announce", "udp://b.example:80"]]);
    assert!(single.private);
    assert!(single.notes.is_empty());

    let several = Metainfo::parse(&new(Content::Folder(&[("a", 50), ("b/c", 0), ("b/d", 100)]))).unwrap();
    let paths: Vec<_> = several.files.iter().map(|file| (&*file.path, file.length)).collect();
    assert_eq!(paths, [("name/a", 50), ("name/b/c", 0), ("name/b/d", 100)]);
}
