use std::os::unix::fs::FileExt;

use super::super::tests::{lay_out_files, numbers, run};
use super::*;
use crate::check::must_wait;
use crate::storage::tests::{stream, torrent};

/// Beside the program, which is on a disk more often than the folder for what is temporary.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("target").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The system holds on to a page now and then for reasons of its own, so that it is asked to let go again: a check that goes through its memory
/// does so each time.
const TRIES: u32 = 5;

/// The data leave the system's memory, as far as it lets go of them.
fn let_go(files: &[File]) {
    for file in files {
        // What is on its way into memory, because it was asked whether it is there, cannot be let go of.
        let mut all = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut all, 0).unwrap();
        file.sync_all().unwrap();
        crate::storage::forget(file, 0, 0);
    }
}

#[test]
fn what_is_not_in_memory_is_checked_past_the_page_cache_with_the_same_verdicts() {
    const LENGTHS: [u64; 4] = [12_345_678, 300_000, 9 << 20, 4_000_001];
    let names = ["t/a", "t/b", "t/c", "t/d"];
    let data = stream(LENGTHS.iter().sum());
    for piece_length in [128 << 10, 300_001, 1 << 20, 3 << 20, 5 << 20, 9 << 20] {
        let dir = folder();
        let metainfo = torrent(piece_length, &names.into_iter().zip(LENGTHS).collect::<Vec<_>>(), &data);
        let mut rest = &data[..];
        let parts = LENGTHS.map(|length| {
            let (part, later) = rest.split_at(length as usize);
            rest = later;
            part.to_vec()
        });
        lay_out_files(dir.path(), &metainfo, &parts);
        let path = |name| dir.path().join(name);
        let files = names.map(|name| File::options().read(true).write(true).open(path(name)).unwrap());
        let verdicts = || {
            [1, 2, 5].map(|threads| {
                let cold_check = || {
                    let_go(&files);
                    // To ask has the system read the page that was asked for.
                    let is_cold = must_wait(&files[0], 3_000_000);
                    let outcome = run(dir.path(), &metainfo, threads);
                    (must_wait(&files[0], 6_000_000) || !is_cold).then_some(outcome)
                };
                let outcome = (0..TRIES).find_map(|_| cold_check());
                let outcome = outcome.unwrap_or_else(|| panic!("{piece_length} {threads}: it is in memory"));
                [outcome.ok, outcome.corrupt, outcome.missing, outcome.unreadable].map(|set| numbers(&set))
            })
        };
        let all: Vec<u32> = (0..metainfo.layout.num_pieces()).collect();
        for [ok, ..] in verdicts() {
            assert_eq!(ok, all, "{piece_length}");
        }
        // A wrong byte in three places, one file too short and a hole in another.
        for (file, at) in [(0, 5), (0, 12_345_677), (2, 5_000_000)] {
            let mut byte = [0];
            files[file].read_exact_at(&mut byte, at).unwrap();
            files[file].write_all_at(&[byte[0] ^ 4], at).unwrap();
        }
        files[3].set_len(3_999_000).unwrap();
        files[2].set_len(7 << 20).unwrap();
        files[2].set_len(9 << 20).unwrap();
        let [one, two, five] = verdicts();
        // Now in memory, and one file after the other.
        names.iter().for_each(|name| drop(std::fs::read(path(name)).unwrap()));
        let warm = run(dir.path(), &metainfo, 2);
        let warm = [warm.ok, warm.corrupt, warm.missing, warm.unreadable].map(|set| numbers(&set));
        assert!(!warm[1].is_empty() && !warm[2].is_empty());
        assert_eq!([&one, &two, &five], [&warm; 3], "{piece_length}");
    }
}

/// How many pages of the file are in memory.
fn pages_in_memory(file: &File) -> u64 {
    let pages = file.metadata().unwrap().len().div_ceil(PAGE as u64);
    let is_there = |page: &u64| !must_wait(file, page * PAGE as u64);
    crate::storage::read_one_page(file, || (0..pages).filter(is_there).count() as u64)
}

#[test]
fn pieces_of_several_files_are_read_past_the_page_cache_too() {
    let mut lengths = vec![3_000_017, 1, 200_003, 4096, 2_999_999, 100_000, 0, 17_000, 300_001, 70_000, 12];
    lengths.extend((0..12).map(|n| 199_000 + 777 * n));
    lengths.push(2_500_000);
    let names: Vec<String> = (0..lengths.len()).map(|n| format!("t/{n}")).collect();
    let named: Vec<_> = names.iter().map(String::as_str).zip(lengths.iter().copied()).collect();
    let data = stream(lengths.iter().sum());
    for piece_length in [16 << 10, 50_001, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 9 << 20] {
        let dir = folder();
        let metainfo = torrent(piece_length, &named, &data);
        let mut rest = &data[..];
        let parts: Vec<Vec<u8>> = lengths
            .iter()
            .map(|&length| {
                let (part, later) = rest.split_at(length as usize);
                rest = later;
                part.to_vec()
            })
            .collect();
        lay_out_files(dir.path(), &metainfo, &parts);
        let path = |name: &String| dir.path().join(name);
        let open = |name| File::options().read(true).write(true).open(path(name)).unwrap();
        let files: Vec<File> = names.iter().map(open).collect();
        let in_memory = || files.iter().map(pages_in_memory).sum::<u64>();
        let_go(&files);
        let knows_direct = crate::storage::open_direct(&files[0]).is_some() && must_wait(&files[0], 0);
        let sets = |outcome: crate::check::CheckOutcome| {
            [outcome.ok, outcome.corrupt, outcome.missing, outcome.unreadable].map(|set| numbers(&set))
        };
        let all: Vec<u32> = (0..metainfo.layout.num_pieces()).collect();
        for threads in [1, 2, 5] {
            let pages = || {
                let_go(&files);
                assert_eq!(sets(run(dir.path(), &metainfo, threads))[0], all, "{piece_length} {threads}");
                in_memory()
            };
            // What is asked whether it is in memory gets there: a page for each run.
            let is_past_the_cache = (0..TRIES).any(|_| pages() < 60 || !knows_direct);
            assert!(is_past_the_cache, "{piece_length} {threads}: {} pages", pages());
        }
        // One wrong byte, one file that is too short and one that is gone.
        files[4].write_all_at(&[0], 1_000_000).unwrap();
        files[0].set_len(2_990_000).unwrap();
        std::fs::remove_file(path(&names[14])).unwrap();
        let cold = [1, 2, 5].map(|threads| {
            let_go(&files);
            sets(run(dir.path(), &metainfo, threads))
        });
        names.iter().for_each(|name| drop(std::fs::read(path(name))));
        let warm = sets(run(dir.path(), &metainfo, 2));
        assert!(!warm[2].is_empty() && (!warm[1].is_empty() || piece_length > 1 << 20));
        assert_eq!(cold, [&warm; 3].map(Clone::clone), "{piece_length}");
    }
}

#[test]
fn what_ends_within_a_page_is_read_to_its_end_and_no_further() {
    let dir = folder();
    let data = stream(20_000);
    std::fs::write(dir.path().join("a"), &data).unwrap();
    let file = File::open(dir.path().join("a")).unwrap();
    file.sync_all().unwrap();
    let Some(direct) = crate::storage::open_direct(&file) else { return };
    let mut buffer = PageBuffer::new(6 * PAGE);
    for (offset, length) in [(0, 20_000), (1, 19_999), (4096, 4096), (5000, 3), (19_999, 1)] {
        let place = read_pages(&direct, offset, buffer.at_page(0), length).unwrap();
        assert_eq!(buffer.at_page(0)[place], data[offset as usize..offset as usize + length]);
    }
    assert_eq!(read_pages(&direct, 0, buffer.at_page(0), 20_001), None);
    assert_eq!(read_pages(&direct, 30_000, buffer.at_page(0), 1), None);
}
