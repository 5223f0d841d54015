//! Checks of torrents of version 2 and hybrids (BEP 52).

use super::tests::{lay_out_files, numbers, report, run, shown};
use super::*;
use crate::event::FileStatus;
use crate::metainfo::samples::Sample;
use std::fs;

/// Pieces of two blocks: three in the first file, one in each of the others.
fn sample(hybrid: bool, layers: bool) -> (Metainfo, Vec<Vec<u8>>) {
    let mut sample =
        Sample::new(&[("a", 70_000), ("b/c", 32_768), ("b/d", 20_000), ("e", 1), ("f", 0)], hybrid);
    sample.layers = layers;
    let data = sample.files.iter().map(|(_, data)| data.clone()).collect();
    (Metainfo::parse(&sample.torrent()).unwrap(), data)
}

#[test]
fn a_flipped_bit_at_each_edge_of_a_block_costs_its_piece_and_its_file_alone() {
    // By SHA-256 alone, by both (of which SHA-256 is taken), and by SHA-1 where no layers are known.
    for (hybrid, layers) in [(false, true), (true, true), (true, false)] {
        let (metainfo, data) = sample(hybrid, layers);
        let dir = tempfile::tempdir().unwrap();
        lay_out_files(dir.path(), &metainfo, &data);
        let whole = run(dir.path(), &metainfo, 2);
        assert!(whole.is_ok(), "{whole:?}");
        let mut first = 0;
        for (file, bytes) in data.iter().enumerate() {
            let path = dir.path().join(&*metainfo.files[file].path);
            let pieces = metainfo.layout.pieces_of_file(FileIndex(file as u32));
            let edges =
                (0..bytes.len()).step_by(16384).flat_map(|at| [at, (at + 16383).min(bytes.len() - 1)]);
            for edge in edges {
                let mut harmed = bytes.clone();
                harmed[edge] ^= 1;
                fs::write(&path, &harmed).unwrap();
                let outcome = run(dir.path(), &metainfo, 2);
                let piece = first + edge as u32 / 32768;
                assert_eq!(numbers(&outcome.corrupt), [piece], "byte {edge} of file {file}");
                assert_eq!(
                    (outcome.ok.count(), outcome.missing.count()),
                    (metainfo.layout.num_pieces() - 1, 0)
                );
                for other in 0..data.len() {
                    let found = report(&outcome, &metainfo, other as u32);
                    let expected = if other == file { FileStatus::Corrupt } else { FileStatus::Ok };
                    assert_eq!(found.status, expected, "file {other}");
                    assert_eq!(shown(&found.shared), "[]", "a piece has bytes of one file alone");
                }
            }
            fs::write(&path, bytes).unwrap();
            first += pieces.len() as u32;
        }
    }
}

#[test]
fn what_is_not_there_or_all_zeros_is_missing_and_not_corrupt() {
    for (hybrid, layers) in [(false, true), (true, false)] {
        let (metainfo, data) = sample(hybrid, layers);
        let dir = tempfile::tempdir().unwrap();
        lay_out_files(dir.path(), &metainfo, &data);
        let path = |file: usize| dir.path().join(&*metainfo.files[file].path);
        fs::write(path(0), &data[0][..40_000]).unwrap();
        fs::write(path(2), vec![0; 20_000]).unwrap();
        fs::remove_file(path(3)).unwrap();
        let outcome = run(dir.path(), &metainfo, 1);
        assert_eq!((numbers(&outcome.ok), numbers(&outcome.missing)), (vec![0, 3], vec![1, 2, 4, 5]));
        let statuses: Vec<_> = (0..5).map(|file| report(&outcome, &metainfo, file).status).collect();
        use FileStatus::{Missing, Ok, Short};
        assert_eq!(statuses, [Short, Ok, Missing, Missing, Ok]);
        assert_eq!(report(&outcome, &metainfo, 0).bytes, [(32_768, 70_000)]);
    }
}

#[test]
fn pieces_larger_than_what_is_read_at_once_are_checked_too() {
    for hybrid in [false, true] {
        let mut sample = Sample::new(&[("a", 5_000_000), ("b", 100_001), ("c", 1 << 20)], hybrid);
        sample.piece_length = 1 << 20;
        let data: Vec<Vec<u8>> = sample.files.iter().map(|(_, data)| data.clone()).collect();
        for layers in [true, false] {
            sample.layers = layers || !hybrid;
            let metainfo = Metainfo::parse(&sample.torrent()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            lay_out_files(dir.path(), &metainfo, &data);
            for threads in 1..=3 {
                assert!(run(dir.path(), &metainfo, threads).is_ok(), "{hybrid} {layers} {threads}");
            }
        }
    }
}
