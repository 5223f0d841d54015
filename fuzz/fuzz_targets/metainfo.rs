//! Any bytes: parsing ends without a panic, and what is accepted keeps the promises of `Metainfo`.
#![no_main]

use std::collections::HashSet;

use btget::internals::text::escape;
use btget::metainfo::Metainfo;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let torrent = match Metainfo::parse(bytes) {
        Ok(torrent) => torrent,
        Err(error) => {
            let message = error.to_string();
            assert_eq!(escape(&message), message);
            return;
        }
    };
    assert_eq!(torrent.piece_hashes.len(), torrent.layout.num_pieces() as usize);
    assert_eq!(torrent.files.len(), torrent.layout.files().len());
    let mut seen = HashSet::new();
    for file in &torrent.files {
        assert!(seen.insert(file.path.to_lowercase()), "{:?} twice", file.path);
        for path in file.symlink.iter().chain([&file.path]) {
            assert!(path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255));
            assert_eq!(escape(path), **path);
        }
    }
    let mut out = Vec::new();
    btget::internals::cli::show::torrent::show(&torrent, &mut out).expect("writing to memory never fails");
    btget::internals::cli::show::torrent::show_json(&torrent, &mut out).expect("writing to memory never fails");
});
