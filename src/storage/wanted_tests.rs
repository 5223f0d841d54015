//! Which files are wanted changes while bytes are written and read.

use std::fs;
use std::io::{IoSlice, IoSliceMut};

use proptest::prelude::*;

use super::tests::torrent;
use super::{Storage, StorageOptions};

const LENGTHS: [u64; 4] = [10_000, 40_000, 3_000, 25_000];
const TOTAL: u64 = 78_000;

#[derive(Clone, Debug)]
enum WantStep {
    Write(u64, u64, u8),
    Want([bool; 4]),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<WantStep>> {
    let step = prop_oneof![
        3 => (0..TOTAL, 1..30_000u64, any::<u8>()).prop_map(|(at, length, byte)| WantStep::Write(at, length, byte)),
        2 => any::<[bool; 4]>().prop_map(WantStep::Want),
        1 => Just(WantStep::Close),
    ];
    prop::collection::vec(step, 1..25)
}

fn weights(wanted: [bool; 4]) -> Vec<u32> {
    wanted.into_iter().map(u32::from).collect()
}

/// Every byte that was written is read back, wherever it lies by now.
fn assert_readable(storage: &Storage, model: &[Option<u8>]) -> Result<(), TestCaseError> {
    let mut start = 0;
    for run in model.chunk_by(|a, b| a.is_some() == b.is_some()) {
        if run[0].is_some() {
            let mut back = vec![0; run.len()];
            storage.read_at(start, &mut [IoSliceMut::new(&mut back)]).unwrap();
            prop_assert!(
                run.iter().zip(&back).all(|(expected, byte)| *expected == Some(*byte)),
                "at {}",
                start
            );
        }
        start += run.len() as u64;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_byte_is_lost_however_often_the_user_changes_his_mind(first in any::<[bool; 4]>(), steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let files = [("t/a", LENGTHS[0]), ("t/b/c", LENGTHS[1]), ("t/d", LENGTHS[2]), ("t/e", LENGTHS[3])];
        let metainfo = torrent(16384, &files, &vec![0; TOTAL as usize]);
        let options = StorageOptions { priorities: weights(first), ..StorageOptions::default() };
        let storage = Storage::new(&metainfo, dir.path(), options);
        storage.prepare().unwrap();
        let mut model: Vec<Option<u8>> = vec![None; TOTAL as usize];
        for step in steps {
            match step {
                WantStep::Write(at, length, byte) => {
                    let end = (at + length).min(TOTAL);
                    let data: Vec<u8> = (at..end).map(|at| byte ^ at as u8).collect();
                    storage.write_at(at, &[IoSlice::new(&data)]).unwrap();
                    (at..end).zip(data).for_each(|(at, byte)| model[at as usize] = Some(byte));
                }
                WantStep::Want(wanted) => storage.set_wanted(&weights(wanted)).unwrap(),
                WantStep::Close => {
                    storage.sync().unwrap();
                    storage.close_all();
                }
            }
            assert_readable(&storage, &model)?;
        }
        storage.set_wanted(&[]).unwrap();
        storage.prepare().unwrap();
        assert_readable(&storage, &model)?;
        storage.sync().unwrap();
        storage.close_all();
        let mut start = 0;
        for (path, length) in files {
            let bytes = fs::read(dir.path().join(path)).unwrap_or_default();
            for (at, byte) in bytes.iter().enumerate() {
                prop_assert_eq!(*byte, model[start + at].unwrap_or(0), "byte {} of {}", at, path);
            }
            let written = (0..length as usize).rev().find(|at| model[start + at].is_some());
            prop_assert!(written.is_none_or(|last| last < bytes.len()));
            start += length as usize;
        }
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert!(names.iter().all(|name| name == "t"), "the part file is gone: {:?}", names);
    }
}
