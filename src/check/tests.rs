use super::*;
use crate::event::FileStatus;
use crate::storage::StorageOptions;
use crate::storage::tests::{stream, torrent};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

/// Writes the data of each file to its place.
pub(super) fn lay_out_files(dir: &Path, metainfo: &Metainfo, data: &[Vec<u8>]) {
    for (file, data) in metainfo.files.iter().zip(data) {
        let path = dir.join(&*file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
    }
}

fn lay_out(dir: &Path, metainfo: &Metainfo, data: &[u8]) {
    for (file, extent) in metainfo.files.iter().zip(metainfo.layout.files()) {
        if !file.pad {
            let path = dir.join(&*file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &data[extent.offset as usize..extent.end() as usize]).unwrap();
        }
    }
}

pub(super) fn run(dir: &Path, metainfo: &Metainfo, threads: usize) -> CheckOutcome {
    let storage = Storage::new(metainfo, dir, StorageOptions::default());
    run_on(&storage, metainfo, threads)
}

fn run_on(storage: &Storage, metainfo: &Metainfo, threads: usize) -> CheckOutcome {
    let all = Bitfield::full(metainfo.layout.num_pieces());
    let options = CheckOptions { pieces: &all, threads, keep_going: &|| true };
    let told = Mutex::new(Bitfield::new(all.len()));
    let outcome = check(storage, metainfo, options, &|piece, _| {
        assert!(told.lock().unwrap().insert(piece), "told twice");
    });
    assert!(outcome.finished && told.into_inner().unwrap().is_full());
    outcome
}

pub(super) fn numbers(set: &Bitfield) -> Vec<u32> {
    set.iter().map(|piece| piece.0).collect()
}

pub(super) fn report(outcome: &CheckOutcome, metainfo: &Metainfo, file: u32) -> FileReport {
    outcome.report(metainfo, FileIndex(file)).unwrap()
}

pub(super) fn shown(pieces: &crate::event::Pieces) -> String {
    serde_json::to_string(pieces).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_finds_what_the_plain_way_finds(
        lengths in prop::collection::vec((0u64..60_000, 0u8..7), 1..14),
        piece_length in prop::sample::select(vec![1024u32, 5000, 16384, 40_000]),
        harm in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<prop::sample::Index>()), 0..4),
        threads in 1usize..4,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = lengths.iter().enumerate()
            .map(|(n, (_, kind))| if *kind == 0 { format!("t/.pad/{n}") } else { format!("t/{n}") }).collect();
        let files: Vec<(&str, u64)> = names.iter().zip(&lengths).map(|(n, l)| (n.as_str(), l.0)).collect();
        let mut data = stream(lengths.iter().map(|(length, _)| length).sum());
        let mut at = 0;
        for (length, kind) in &lengths {
            if *kind == 0 { data[at..at + *length as usize].fill(0); }
            at += *length as usize;
        }
        let metainfo = torrent(piece_length, &files, &data);
        lay_out(dir.path(), &metainfo, &data);

        let layout = metainfo.layout.clone();
        let mut bytes: Vec<Option<u8>> = data.iter().copied().map(Some).collect();
        for (which, what, place) in harm {
            let index = which.index(files.len());
            let extent = layout.files()[index];
            let path = dir.path().join(files[index].0);
            if extent.pad || extent.length == 0 || !path.exists() { continue; }
            let place = place.index(extent.length as usize) as u64;
            let here = (extent.offset + place) as usize;
            match what {
                0 => {
                    fs::remove_file(&path).unwrap();
                    bytes[extent.offset as usize..extent.end() as usize].fill(None);
                }
                1 => {
                    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                    if file.metadata().unwrap().len() <= place { continue; }
                    file.set_len(place).unwrap();
                    bytes[here..extent.end() as usize].fill(None);
                }
                _ => if let Some(byte) = bytes[here] {
                    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                    file.write_all_at(&[!byte], place).unwrap();
                    bytes[here] = Some(!byte);
                }
            }
        }
        let outcome = run(dir.path(), &metainfo, threads);
        for index in 0..layout.num_pieces() {
            let piece = PieceIndex(index);
            let start = layout.piece_offset(piece) as usize;
            let range = start..start + layout.piece_size(piece) as usize;
            let whole: Option<Vec<u8>> = bytes[range.clone()].iter().copied().collect();
            let expected = match whole {
                None => &outcome.missing,
                Some(now) if now == data[range] => &outcome.ok,
                Some(_) => &outcome.corrupt,
            };
            prop_assert!(expected.contains(piece), "piece {}: {:?}", index, outcome);
        }
    }
}

#[test]
fn pieces_larger_than_the_buffers_are_hashed_chunk_by_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream((9 << 20) + 12_345);
    let metainfo = torrent(2 << 20, &[("t/a", 5_000_001), ("t/b", data.len() as u64 - 5_000_001)], &data);
    lay_out(dir.path(), &metainfo, &data);
    let outcome = run(dir.path(), &metainfo, 2);
    assert!(outcome.is_ok() && outcome.ok.is_full());
    let b = fs::OpenOptions::new().write(true).open(dir.path().join("t/b")).unwrap();
    b.write_all_at(b"!", 4_000_000).unwrap();
    assert_eq!(numbers(&run(dir.path(), &metainfo, 1).corrupt), [4]);
    // The same from the disk: out of the page cache with it.
    b.sync_all().unwrap();
    rustix::fs::fadvise(&b, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert_eq!(numbers(&run(dir.path(), &metainfo, 1).corrupt), [4]);
}

#[test]
fn each_fault_of_a_file_is_called_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["t/ok", "t/corrupt", "t/missing", "t/short", "t/long", "t/folder", "t/link", "t/pipe"];
    let files: Vec<(&str, u64)> = names.iter().map(|name| (*name, 4096)).collect();
    let data = stream(8 * 4096);
    let metainfo = torrent(1024, &files, &data);
    lay_out(dir.path(), &metainfo, &data);
    let open = |name: &str| fs::OpenOptions::new().write(true).open(dir.path().join(name)).unwrap();
    open("t/corrupt").write_all_at(&[0; 100], 1000).unwrap();
    open("t/short").set_len(1500).unwrap();
    open("t/long").set_len(5000).unwrap();
    for name in ["t/missing", "t/folder", "t/link", "t/pipe"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    fs::create_dir(dir.path().join("t/folder")).unwrap();
    symlink("ok", dir.path().join("t/link")).unwrap();
    let pipe = rustix::fs::Mode::from_raw_mode(0o600);
    let place = dir.path().join("t/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, place, rustix::fs::FileType::Fifo, pipe, 0).unwrap();

    let outcome = run(dir.path(), &metainfo, 2);
    let reports: Vec<FileReport> = (0..8).map(|file| report(&outcome, &metainfo, file)).collect();
    use FileStatus::*;
    let statuses: Vec<FileStatus> = reports.iter().map(|report| report.status).collect();
    assert_eq!(statuses, [Ok, Corrupt, Missing, Short, Long, Unreadable, Unreadable, Unreadable]);
    assert_eq!((shown(&reports[1].pieces), &reports[1].bytes[..]), (r#"["4-5"]"#.into(), &[(0, 2048)][..]));
    assert_eq!(reports[2].bytes, [(0, 4096)]);
    assert_eq!(reports[3].bytes, [(1024, 4096)]);
    assert_eq!(reports[3].reason.as_deref(), Some("it has 1500 bytes instead of 4096"));
    assert!(reports[4].bytes.is_empty());
    assert_eq!(
        [outcome.ok.count(), outcome.corrupt.count(), outcome.missing.count()],
        [4 + 2 + 1 + 4, 2, 4 + 3]
    );
    assert_eq!(outcome.unreadable.count(), 12);
}

#[test]
fn a_corrupt_piece_that_two_files_share_is_blamed_on_neither_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(3000);
    let metainfo = torrent(1000, &[("t/a", 1500), ("t/b", 1500)], &data);
    lay_out(dir.path(), &metainfo, &data);
    fs::write(dir.path().join("t/a"), [&data[..1400], &[0; 100]].concat()).unwrap();
    let outcome = run(dir.path(), &metainfo, 1);
    for file in [0, 1] {
        let report = report(&outcome, &metainfo, file);
        assert_eq!(report.status, FileStatus::Corrupt);
        assert_eq!(shown(&report.shared), r#"["1"]"#);
        assert!(report.reason.unwrap().contains("cannot be told"));
    }
}

#[test]
fn a_whole_file_beside_a_missing_one_is_ok_and_says_what_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(3000);
    let metainfo = torrent(1000, &[("t/a", 1500), ("t/b", 1500)], &data);
    lay_out(dir.path(), &metainfo, &data);
    fs::remove_file(dir.path().join("t/b")).unwrap();
    let outcome = run(dir.path(), &metainfo, 1);
    let a = report(&outcome, &metainfo, 0);
    assert_eq!(
        (a.status, shown(&a.pieces), shown(&a.shared)),
        (FileStatus::Ok, "[]".into(), r#"["1"]"#.into())
    );
    assert!(a.reason.unwrap().contains("t/b"));
    assert_eq!(report(&outcome, &metainfo, 1).status, FileStatus::Missing);
    assert_eq!(numbers(&outcome.missing), [1, 2]);
}

#[test]
fn what_was_never_written_is_missing_and_not_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = stream(20 << 16);
    data[5 << 16..6 << 16].fill(0);
    let metainfo = torrent(1 << 16, &[("a", data.len() as u64)], &data);
    let file = fs::File::create(dir.path().join("a")).unwrap();
    file.set_len(data.len() as u64).unwrap();
    // Piece 2 whole, piece 3 in part, piece 7 wrong, all else holes; piece 5 is zeros by rights.
    file.write_all_at(&data[2 << 16..3 << 16], 2 << 16).unwrap();
    file.write_all_at(&data[3 << 16..(3 << 16) + 16384], 3 << 16).unwrap();
    file.write_all_at(&[9; 1 << 16], 7 << 16).unwrap();
    let outcome = run(dir.path(), &metainfo, 2);
    if outcome.corrupt.count() > 1 {
        return; // This file system does not tell holes.
    }
    assert_eq!(numbers(&outcome.ok), [2, 5]);
    assert_eq!(numbers(&outcome.corrupt), [7]);
    assert_eq!(outcome.missing.count(), 17);
}

#[test]
fn empty_files_are_looked_for_and_pad_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = stream(2000);
    data[500..1000].fill(0);
    let metainfo = torrent(1000, &[("t/a", 500), ("t/.pad/500", 500), ("t/b", 1000), ("t/empty", 0)], &data);
    lay_out(dir.path(), &metainfo, &data);
    fs::remove_file(dir.path().join("t/empty")).unwrap();
    let outcome = run(dir.path(), &metainfo, 1);
    assert!(outcome.is_ok());
    assert_eq!(outcome.report(&metainfo, FileIndex(1)), None);
    assert_eq!(report(&outcome, &metainfo, 3).status, FileStatus::Missing);
    fs::create_dir(dir.path().join("t/empty")).unwrap();
    let outcome = run(dir.path(), &metainfo, 1);
    assert_eq!(report(&outcome, &metainfo, 3).status, FileStatus::Unreadable);
}

#[test]
fn a_check_can_be_stopped_and_says_what_it_has_done() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(100 << 10);
    let metainfo = torrent(1 << 10, &[("a", 100 << 10)], &data);
    lay_out(dir.path(), &metainfo, &data);
    let storage = Storage::new(&metainfo, dir.path(), StorageOptions::default());
    let told = std::sync::atomic::AtomicU32::new(0);
    let options = CheckOptions {
        pieces: &Bitfield::full(100),
        threads: 1,
        keep_going: &|| told.load(Ordering::Relaxed) < 20,
    };
    let outcome = check(&storage, &metainfo, options, &|_, _| {
        told.fetch_add(1, Ordering::Relaxed);
    });
    assert!(!outcome.finished && !outcome.is_ok());
    assert_eq!(outcome.ok.count(), 32);
    assert_eq!(numbers(&outcome.unchecked(&Bitfield::full(100))), (32..100).collect::<Vec<_>>());
}

#[test]
fn only_the_pieces_asked_for_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(10 << 10);
    let metainfo = torrent(1 << 10, &[("a", 10 << 10)], &data);
    lay_out(dir.path(), &metainfo, &data[..]);
    fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap().write_all_at(&[0; 9], 0).unwrap();
    let storage = Storage::new(&metainfo, dir.path(), StorageOptions::default());
    let mut pieces = Bitfield::new(10);
    pieces.insert_range(3..5);
    let options = CheckOptions { pieces: &pieces, threads: 0, keep_going: &|| true };
    let outcome = check(&storage, &metainfo, options, &|_, _| {});
    assert!(outcome.is_ok());
    assert_eq!(numbers(&outcome.ok), [3, 4]);
    assert_eq!(report(&outcome, &metainfo, 0).status, FileStatus::Ok);
}

#[test]
fn bytes_of_an_unwanted_file_are_checked_in_the_part_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(3000);
    let metainfo = torrent(1000, &[("t/a", 1500), ("t/b", 1500)], &data);
    let options = || StorageOptions { priorities: vec![1, 0], ..Default::default() };
    let storage = Storage::new(&metainfo, dir.path(), options());
    storage.write_at(0, &[std::io::IoSlice::new(&data[..2000])]).unwrap();
    let storage = Storage::new(&metainfo, dir.path(), options());
    let outcome = run_on(&storage, &metainfo, 1);
    assert_eq!((numbers(&outcome.ok), numbers(&outcome.missing)), (vec![0, 1], vec![2]));
    assert!(!dir.path().join("t/b").exists());
    assert_eq!(report(&outcome, &metainfo, 0).status, FileStatus::Ok);
    assert_eq!(report(&outcome, &metainfo, 1).status, FileStatus::Missing);
}

#[test]
fn a_missing_folder_is_all_missing_and_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let metainfo = torrent(1000, &[("t/a", 1500), ("t/b", 1500)], &stream(3000));
    let outcome = run(&dir.path().join("none"), &metainfo, 2);
    assert_eq!(outcome.missing.count(), 3);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn where_there_is_nothing_each_piece_is_missing_but_those_that_need_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = [stream(2500), vec![0; 2500]].concat();
    let one = torrent(1000, &[("a", 2500)], &data[..2500]);
    let outcome = run(dir.path(), &one, 1);
    assert_eq!(numbers(&outcome.missing), [0, 1, 2]);
    assert_eq!(report(&outcome, &one, 0).status, FileStatus::Missing);

    let padded = torrent(1000, &[("t/a", 2500), ("t/empty", 0), ("t/.pad/2500", 2500)], &data);
    let outcome = run(dir.path(), &padded, 2);
    assert_eq!((numbers(&outcome.ok), numbers(&outcome.missing)), (vec![3, 4], vec![0, 1, 2]));
    assert_eq!(report(&outcome, &padded, 1).status, FileStatus::Missing);

    let storage = Storage::new(&one, dir.path(), StorageOptions::default());
    let options = CheckOptions { pieces: &Bitfield::full(3), threads: 1, keep_going: &|| false };
    assert!(!check(&storage, &one, options, &|piece, _| panic!("{piece:?}")).finished);
}

#[test]
fn a_file_that_no_read_came_to_is_looked_for_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(3000);
    let metainfo = torrent(3000, &[("t/a", 1000), ("t/b", 1000), ("t/c", 1000)], &data);
    lay_out(dir.path(), &metainfo, &data);
    fs::remove_file(dir.path().join("t/a")).unwrap();
    fs::remove_file(dir.path().join("t/c")).unwrap();
    let outcome = run(dir.path(), &metainfo, 1);
    let statuses = [0, 1, 2].map(|file| report(&outcome, &metainfo, file).status);
    assert_eq!(statuses, [FileStatus::Missing, FileStatus::Ok, FileStatus::Missing]);
}

#[test]
fn zeros_that_are_wrong_were_never_written_wherever_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = stream(5 * 4096 - 100);
    data[2 * 4096..3 * 4096].fill(0);
    let metainfo = torrent(4096, &[("a", data.len() as u64)], &data);
    // No holes: another client's preallocation. One piece is right, one of the torrent's own is zeros, the rest are not there.
    fs::write(dir.path().join("a"), vec![0; data.len()]).unwrap();
    let a = fs::OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    a.write_all_at(&data[..4096], 0).unwrap();
    let outcome = run(dir.path(), &metainfo, 2);
    assert_eq!((numbers(&outcome.ok), numbers(&outcome.missing)), (vec![0, 2], vec![1, 3, 4]));
    let found = report(&outcome, &metainfo, 0);
    assert_eq!((found.status, shown(&found.pieces)), (FileStatus::Missing, r#"["1","3-4"]"#.into()));
    // One byte that is none is somebody's.
    a.write_all_at(b"!", 3 * 4096 + 7).unwrap();
    a.write_all_at(b"!", 2 * 4096 + 7).unwrap();
    let outcome = run(dir.path(), &metainfo, 2);
    assert_eq!((numbers(&outcome.corrupt), numbers(&outcome.missing)), (vec![2, 3], vec![1, 4]));
}

#[test]
fn a_file_that_is_too_long_is_long_though_parts_of_it_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(4096);
    let metainfo = torrent(1024, &[("t/a", 4096), ("t/empty", 0)], &data);
    lay_out(dir.path(), &metainfo, &data);
    fs::write(dir.path().join("t/a"), [&data[..2048], &[0; 3000]].concat()).unwrap();
    fs::write(dir.path().join("t/empty"), "not empty").unwrap();
    let outcome = run(dir.path(), &metainfo, 1);
    let reports = [0, 1].map(|file| report(&outcome, &metainfo, file));
    assert_eq!(reports.each_ref().map(|report| report.status), [FileStatus::Long; 2]);
    assert_eq!(shown(&reports[0].pieces), r#"["2-3"]"#);
    assert_eq!(reports[0].reason.as_deref(), Some("it has 5048 bytes instead of 4096"));
}
