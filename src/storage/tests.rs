use super::*;
use crate::hash;
use crate::hash::Sha1;
use crate::ids::InfoHashes;
use crate::layout::PieceIndex;
use crate::metainfo::samples::Sample;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;

/// A torrent of these files (path, length), with the data that `stream` gives.
pub(crate) fn torrent(piece_length: u32, files: &[(&str, u64)], data: &[u8]) -> Metainfo {
    let file = |&(path, length): &(&str, u64)| File {
        path: path.into(),
        length,
        pad: path.contains(".pad/"),
        executable: path.ends_with(".sh"),
        symlink: None,
    };
    let files: Vec<File> = files.iter().map(file).collect();
    let layout = Layout::new(piece_length, files.iter().map(|file| (file.length, file.pad))).unwrap();
    assert_eq!(layout.total(), data.len() as u64);
    Metainfo {
        info_hash: InfoHashes::V1(Sha1([0xab; 20])),
        all_hashes: InfoHashes::V1(Sha1([0xab; 20])),
        name: "t".into(),
        layout: Arc::new(layout),
        piece_hashes: data.chunks(piece_length as usize).map(hash::sha1).collect(),
        files,
        private: false,
        trackers: Vec::new(),
        nodes: Vec::new(),
        url_list: Vec::new(),
        http_seeds: Vec::new(),
        comment: None,
        created_by: None,
        creation_date: None,
        notes: Vec::new(),
        info_bytes: Arc::new([]),
    }
}

/// `length` bytes that never repeat and are zero where the torrent has pad files.
pub(crate) fn stream(length: u64) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2654435761) >> 13) as u8 | 1).collect()
}

fn storage(metainfo: &Metainfo, dir: &TempDir) -> Storage {
    Storage::new(metainfo, dir.path(), StorageOptions::default())
}

fn without(metainfo: &Metainfo, dir: &TempDir, unwanted: &[usize]) -> Storage {
    let weight = |index| u32::from(!unwanted.contains(&index));
    let priorities = (0..metainfo.files.len()).map(weight).collect();
    Storage::new(metainfo, dir.path(), StorageOptions { priorities, ..Default::default() })
}

fn write(storage: &Storage, offset: u64, data: &[u8]) -> Result<(), StorageError> {
    storage.write_at(offset, &[IoSlice::new(data)])
}

fn read(storage: &Storage, offset: u64, length: u64) -> Result<Vec<u8>, StorageError> {
    let mut data = vec![0xee; length as usize];
    storage.read_at(offset, &mut [IoSliceMut::new(&mut data)]).map(|()| data)
}

fn kind<T: std::fmt::Debug>(result: Result<T, StorageError>) -> StorageErrorKind {
    result.unwrap_err().kind
}

fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        found.push(entry.path().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        }
    }
    found.sort();
    found
}

#[derive(Clone, Debug)]
struct Plan {
    lengths: Vec<(u64, u8)>,
    writes: Vec<(u64, u64, usize)>,
    open_files: usize,
}

fn plans() -> impl Strategy<Value = Plan> {
    let lengths = prop::collection::vec((0u64..40_000, 0u8..6), 1..12);
    let writes = prop::collection::vec((0u64..200_000, 1u64..60_000, 1usize..20_000), 1..12);
    (lengths, writes, 1usize..4).prop_map(|(lengths, writes, open_files)| Plan {
        lengths,
        writes,
        open_files,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_written_anywhere_is_read_back_and_lies_in_its_files(plan in plans()) {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = plan.lengths.iter().enumerate().map(|(n, (_, kind))| match kind {
            0 => format!("t/.pad/{n}"),
            1 => format!("t/a/b/{n}"),
            _ => format!("t/{n}"),
        }).collect();
        let files: Vec<(&str, u64)> =
            names.iter().zip(&plan.lengths).map(|(name, (length, _))| (name.as_str(), *length)).collect();
        let total: u64 = files.iter().map(|(_, length)| length).sum();
        let metainfo = torrent(16384, &files, &vec![0; total as usize]);
        let priorities = plan.lengths.iter().map(|(_, kind)| u32::from(*kind != 5)).collect();
        let options = StorageOptions { max_open_files: plan.open_files, priorities, ..Default::default() };
        let storage = Storage::new(&metainfo, dir.path(), options);
        storage.prepare().unwrap();

        let mut model: Vec<Option<u8>> = vec![None; total as usize];
        for (number, (offset, length, chunk)) in plan.writes.into_iter().enumerate() {
            let end = (offset + length).min(total);
            if offset >= end { continue; }
            let data: Vec<u8> = (offset..end).map(|at| (at as usize * 7 + number) as u8).collect();
            let slices: Vec<IoSlice<'_>> = data.chunks(chunk).map(IoSlice::new).collect();
            storage.write_at(offset, &slices).unwrap();
            for (at, byte) in (offset..end).zip(&data) { model[at as usize] = Some(*byte); }
            let mut back = vec![0; data.len()];
            let mut places: Vec<IoSliceMut<'_>> = back.chunks_mut(chunk / 2 + 1).map(IoSliceMut::new).collect();
            storage.read_at(offset, &mut places).unwrap();
            for (index, byte) in back.iter().enumerate() {
                let at = offset + index as u64;
                let pad = metainfo.layout.files().iter().any(|f| f.pad && f.offset <= at && at < f.end());
                prop_assert_eq!(*byte, if pad { 0 } else { data[index] });
            }
            if number % 3 == 2 { storage.sync().unwrap(); storage.close_idle(); }
        }
        storage.sync().unwrap();
        storage.close_all();
        // A byte of an unwanted file is in the part file once it was written, and no other byte is.
        let root = root::Root::open(dir.path()).unwrap();
        let part = part::PartFile::load(&root, metainfo.info_hash.wire(), &metainfo.layout).unwrap();
        let mut kept = vec![None; total as usize];
        for range in part.kept(0..total) {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            part.read(range.start, &mut bytes).unwrap();
            range.zip(bytes).for_each(|(at, byte)| kept[at as usize] = Some(byte));
        }
        for (extent, (_, kind)) in metainfo.layout.files().iter().zip(&plan.lengths) {
            for at in extent.offset as usize..extent.end() as usize {
                let expected = model[at].filter(|_| *kind == 5);
                prop_assert_eq!(kept[at], expected);
            }
        }
        for (file, extent) in metainfo.files.iter().zip(metainfo.layout.files()) {
            let index = metainfo.files.iter().position(|f| f.path == file.path).unwrap();
            let path = dir.path().join(&*file.path);
            if file.pad || plan.lengths[index].1 == 5 {
                prop_assert!(!path.exists());
            } else if let Ok(bytes) = fs::read(path) {
                prop_assert_eq!(bytes.len() as u64, extent.length);
                for (at, byte) in bytes.iter().enumerate() {
                    prop_assert_eq!(*byte, model[extent.offset as usize + at].unwrap_or(0));
                }
            } else {
                prop_assert!(model[extent.offset as usize..extent.end() as usize].iter().all(Option::is_none) && extent.length > 0);
            }
        }
    }
}

#[test]
fn there_is_room_if_the_disk_has_enough_for_all_that_is_missing() {
    let dir = TempDir::new().unwrap();
    let small = torrent(16384, &[("small", 40_000)], &stream(40_000));
    assert!(storage(&small, &dir).has_room());
    let mut enormous = small;
    enormous.layout = Arc::new(Layout::new(1 << 30, [(1 << 61, false)]).unwrap());
    assert!(!storage(&enormous, &dir).has_room());
}

#[test]
fn nothing_is_made_before_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(30_000);
    let metainfo = torrent(16384, &[("t/a", 10_000), ("t/e/empty", 0), ("t/b", 20_000)], &data);
    let storage = Storage::new(&metainfo, &dir.path().join("new/base"), StorageOptions::default());
    assert!(tree(dir.path()).is_empty());
    storage.prepare().unwrap();
    let base = dir.path().join("new/base");
    assert!(base.join("t/e/empty").exists() && !base.join("t/a").exists());
    write(&storage, 0, &data[..5]).unwrap();
    assert_eq!(fs::metadata(base.join("t/a")).unwrap().len(), 10_000);
    assert!(!base.join("t/b").exists());
}

#[test]
fn a_missing_or_short_file_is_an_error_and_never_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(100);
    let metainfo = torrent(64, &[("t/a", 50), ("t/b", 50)], &data);
    let storage = storage(&metainfo, &dir);
    assert_eq!(kind(read(&storage, 0, 10)), StorageErrorKind::Missing);
    fs::create_dir(dir.path().join("t")).unwrap();
    fs::write(dir.path().join("t/a"), &data[..20]).unwrap();
    assert_eq!(read(&storage, 0, 20).unwrap(), &data[..20]);
    assert_eq!(kind(read(&storage, 0, 21)), StorageErrorKind::Short);
}

#[test]
fn files_grow_as_they_are_written_without_preallocation() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(10_000);
    let metainfo = torrent(1024, &[("a", 10_000)], &data);
    let options = StorageOptions { preallocate: Preallocate::None, ..Default::default() };
    let storage = Storage::new(&metainfo, dir.path(), options);
    storage.prepare().unwrap();
    write(&storage, 1024, &data[1024..2048]).unwrap();
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().len(), 2048);
}

#[test]
fn full_preallocation_sets_blocks_aside() {
    let dir = tempfile::tempdir().unwrap();
    let metainfo = torrent(1 << 16, &[("t/a", 1 << 20), ("t/b", 5)], &stream((1 << 20) + 5));
    let options = StorageOptions { preallocate: Preallocate::Full, ..Default::default() };
    let storage = Storage::new(&metainfo, dir.path(), options);
    storage.prepare().unwrap();
    let found = fs::metadata(dir.path().join("t/a")).unwrap();
    assert_eq!(found.len(), 1 << 20);
    if storage.take_notes().is_empty() {
        assert!(found.blocks() * 512 >= 1 << 20);
    }
}

#[test]
fn full_preallocation_of_more_than_there_is_makes_nothing_and_says_how_much_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut metainfo = torrent(1 << 16, &[("t/a", 5)], &stream(5));
    metainfo.layout = Arc::new(Layout::new(1 << 30, [(1 << 60, false)]).unwrap());
    let options = StorageOptions { preallocate: Preallocate::Full, ..Default::default() };
    let error = Storage::new(&metainfo, dir.path(), options).prepare().unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::TooSmall);
    assert!(error.to_string().contains("the disk lacks "), "{error}");
    assert!(error.needed.unwrap() > 1 << 59);
    assert!(tree(dir.path()).is_empty());
}

#[test]
fn a_link_in_the_way_never_leads_outside() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = stream(100);
    let metainfo = torrent(64, &[("t/sub/a", 50), ("t/b", 50)], &data);
    fs::create_dir(dir.path().join("t")).unwrap();
    symlink(outside.path(), dir.path().join("t/sub")).unwrap();
    symlink(outside.path().join("b"), dir.path().join("t/b")).unwrap();
    let storage = storage(&metainfo, &dir);
    storage.prepare().unwrap();
    assert_eq!(kind(write(&storage, 0, &data[..10])), StorageErrorKind::NotAFile);
    assert_eq!(kind(write(&storage, 60, &data[..10])), StorageErrorKind::NotAFile);
    assert_eq!(kind(read(&storage, 60, 10)), StorageErrorKind::NotAFile);
    assert!(tree(outside.path()).is_empty());
}

#[test]
fn basedir_itself_may_be_a_link() {
    let (dir, real) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(real.path(), dir.path().join("link")).unwrap();
    let metainfo = torrent(64, &[("t/a", 50)], &stream(50));
    let storage = Storage::new(&metainfo, &dir.path().join("link"), StorageOptions::default());
    write(&storage, 0, &stream(50)).unwrap();
    assert_eq!(fs::read(real.path().join("t/a")).unwrap(), stream(50));
}

#[test]
fn a_file_that_is_too_long_is_cut_when_it_is_written_to_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(100);
    let metainfo = torrent(64, &[("a", 100)], &data);
    fs::write(dir.path().join("a"), vec![9; 150]).unwrap();
    let storage = storage(&metainfo, &dir);
    storage.prepare().unwrap();
    read(&storage, 0, 100).unwrap();
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().len(), 150);
    write(&storage, 0, &data[..64]).unwrap();
    assert_eq!(fs::metadata(dir.path().join("a")).unwrap().len(), 100);
    assert_eq!(storage.take_notes(), [Note::Cut { file: FileIndex(0), from: 150, to: 100 }]);
}

#[test]
fn a_file_removed_during_the_run_is_noticed_and_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(100);
    let metainfo = torrent(64, &[("t/a", 100)], &data);
    let storage = storage(&metainfo, &dir);
    write(&storage, 0, &data[..64]).unwrap();
    fs::remove_file(dir.path().join("t/a")).unwrap();
    for _ in 0..2 {
        assert_eq!(kind(write(&storage, 64, &data[64..])), StorageErrorKind::Vanished);
    }
    assert!(!dir.path().join("t/a").exists());
}

#[test]
fn a_folder_replaced_during_the_run_is_not_filled() {
    for (gone, remake) in [("base", true), ("base", false), ("base/t", true), ("base/t", false)] {
        let dir = tempfile::tempdir().unwrap();
        let data = stream(100);
        let metainfo = torrent(64, &[("t/a", 50), ("t/b", 50)], &data);
        let base = dir.path().join("base");
        let storage = Storage::new(&metainfo, &base, StorageOptions::default());
        storage.prepare().unwrap();
        write(&storage, 0, &data[..50]).unwrap();
        storage.sync().unwrap();
        fs::rename(dir.path().join(gone), dir.path().join("elsewhere")).unwrap();
        if remake {
            fs::create_dir(dir.path().join(gone)).unwrap();
        }
        storage.close_all();
        assert_eq!(kind(write(&storage, 50, &data[50..])), StorageErrorKind::Vanished, "{gone} {remake}");
        assert!(!base.join("t/b").exists());
        assert!(storage.prepare().is_err());
    }
}

#[test]
fn after_an_error_another_folder_is_filled_only_if_it_has_files_of_the_torrent() {
    let data = stream(100);
    let metainfo = torrent(64, &[("t/a", 50), ("t/b", 50)], &data);
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let first = Storage::new(&metainfo, &base, StorageOptions::default());
    first.prepare().unwrap();
    write(&first, 0, &data).unwrap();
    // Its files were removed: what the user says counts.
    fs::remove_dir_all(base.join("t")).unwrap();
    let second = first.renewed(&metainfo, StorageOptions::default());
    second.prepare().unwrap();
    write(&second, 0, &data).unwrap();
    for gone in ["base", "base/t"] {
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(dir.path().join(gone), &elsewhere).unwrap();
        fs::create_dir(dir.path().join(gone)).unwrap();
        let mut last = second.renewed(&metainfo, StorageOptions::default());
        for _ in 0..3 {
            assert_eq!(kind(last.prepare()), StorageErrorKind::Vanished, "{gone}");
            last = last.renewed(&metainfo, StorageOptions::default());
        }
        assert!(tree(&dir.path().join(gone)).is_empty());
        fs::remove_dir(dir.path().join(gone)).unwrap();
        if gone == "base" {
            assert_eq!(kind(last.prepare()), StorageErrorKind::Vanished);
            assert!(!base.exists());
        }
        // The same disk under another number.
        assert!(
            std::process::Command::new("cp")
                .arg("-r")
                .arg(&elsewhere)
                .arg(dir.path().join(gone))
                .status()
                .unwrap()
                .success()
        );
        last.renewed(&metainfo, StorageOptions::default()).prepare().unwrap();
        fs::remove_dir_all(dir.path().join(gone)).unwrap();
        fs::rename(&elsewhere, dir.path().join(gone)).unwrap();
    }
}

#[test]
fn many_files_need_few_handles_and_are_synced_after_they_were_closed() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..300).map(|n| format!("t/{}/{n}", n % 7)).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 10)).collect();
    let data = stream(3000);
    let metainfo = torrent(64, &files, &data);
    let options = StorageOptions { max_open_files: 3, trace: true, ..Default::default() };
    let storage = Storage::new(&metainfo, dir.path(), options);
    write(&storage, 0, &data).unwrap();
    let notes = storage.take_notes();
    let opened = notes.iter().filter(|note| matches!(note, Note::Opened { .. })).count();
    let closed = notes.iter().filter(|note| matches!(note, Note::Closed(_))).count();
    assert_eq!((opened, closed), (300, 297));
    storage.sync().unwrap();
    assert!(lock(&storage.unsynced).files.is_empty());
    assert_eq!(read(&storage, 0, 3000).unwrap(), data);
}

#[test]
fn readers_and_a_writer_share_few_handles() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..40).map(|n| format!("t/{n}")).collect();
    let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    let data = stream(40_000);
    let metainfo = torrent(512, &files, &data);
    let options = StorageOptions { max_open_files: 2, ..Default::default() };
    let storage = Storage::new(&metainfo, dir.path(), options);
    let written = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for offset in (0..40_000).step_by(500) {
                write(&storage, offset, &data[offset as usize..offset as usize + 500]).unwrap();
                written.store(offset + 500, Ordering::Release);
                if offset % 5000 == 0 {
                    storage.sync().unwrap();
                    storage.close_idle();
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while written.load(Ordering::Acquire) < 40_000 {
                    let end = written.load(Ordering::Acquire);
                    assert_eq!(read(&storage, 0, end).unwrap(), &data[..end as usize]);
                }
            });
        }
    });
    assert_eq!(read(&storage, 0, 40_000).unwrap(), data);
}

#[test]
fn a_file_that_is_executable_in_the_torrent_is_made_so() {
    let dir = tempfile::tempdir().unwrap();
    let metainfo = torrent(64, &[("t/run.sh", 5), ("t/text", 5)], &stream(10));
    write(&storage(&metainfo, &dir), 0, &stream(10)).unwrap();
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode();
    assert_ne!(mode("t/run.sh") & 0o100, 0);
    assert_eq!(mode("t/text") & 0o111, 0);
}

#[test]
fn links_of_the_torrent_are_made_and_never_replace_anything() {
    let dir = tempfile::tempdir().unwrap();
    let mut metainfo = torrent(64, &[("t/a", 5), ("t/s/link", 0), ("t/taken", 0)], &stream(5));
    metainfo.files[1].symlink = Some("t/a".into());
    metainfo.files[2].symlink = Some("t/a".into());
    fs::create_dir(dir.path().join("t")).unwrap();
    fs::write(dir.path().join("t/taken"), "mine").unwrap();
    let storage = storage(&metainfo, &dir);
    for _ in 0..2 {
        storage.prepare().unwrap();
        assert_eq!(fs::read_link(dir.path().join("t/s/link")).unwrap(), Path::new("../a"));
        assert_eq!(fs::read(dir.path().join("t/taken")).unwrap(), b"mine");
        assert_eq!(storage.take_notes(), [Note::LinkInTheWay(FileIndex(2))]);
    }
}

#[test]
fn an_unwanted_file_is_never_made_and_its_bytes_move_in_when_it_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(300);
    let metainfo = torrent(128, &[("t/a", 100), ("t/b", 100), ("t/c", 100)], &data);
    let storage = without(&metainfo, &dir, &[1]);
    storage.prepare().unwrap();
    write(&storage, 0, &data[..128]).unwrap();
    write(&storage, 128, &data[128..256]).unwrap();
    storage.sync().unwrap();
    assert!(!dir.path().join("t/b").exists());
    assert_eq!(read(&storage, 0, 256).unwrap(), &data[..256]);

    let storage = without(&metainfo, &dir, &[1, 2]);
    storage.prepare().unwrap();
    assert_eq!(read(&storage, 100, 100).unwrap(), &data[100..200]);
    assert!(!dir.path().join("t/b").exists());

    let storage = without(&metainfo, &dir, &[]);
    storage.prepare().unwrap();
    assert_eq!(fs::read(dir.path().join("t/b")).unwrap(), &data[100..200]);
    assert_eq!(tree(dir.path()).len(), 4, "the part file is gone: {:?}", tree(dir.path()));
}

#[test]
fn bytes_of_a_file_that_is_still_unwanted_stay_in_the_part_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(300);
    let metainfo = torrent(300, &[("a", 100), ("b", 100), ("c", 100)], &data);
    let storage = without(&metainfo, &dir, &[0, 1]);
    write(&storage, 0, &data).unwrap();
    let storage = without(&metainfo, &dir, &[0]);
    storage.prepare().unwrap();
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), &data[100..200]);
    assert!(!dir.path().join("a").exists());
    assert_eq!(read(&storage, 0, 300).unwrap(), data);
    // Once moved, the old bytes never come back over newer ones.
    write(&storage, 100, &[1; 100]).unwrap();
    without(&metainfo, &dir, &[0]).prepare().unwrap();
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), [1; 100]);
}

#[test]
fn a_file_of_an_earlier_run_is_read_but_not_written_once_it_is_unwanted() {
    let dir = tempfile::tempdir().unwrap();
    let data = stream(200);
    let metainfo = torrent(128, &[("a", 100), ("b", 100)], &data);
    write(&storage(&metainfo, &dir), 0, &data).unwrap();
    let storage = without(&metainfo, &dir, &[1]);
    assert_eq!(read(&storage, 0, 200).unwrap(), data);
    write(&storage, 90, &[5; 20]).unwrap();
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), &data[100..]);
    assert_eq!(read(&storage, 90, 20).unwrap(), [5; 20]);
    assert_eq!(read(&storage, 110, 90).unwrap(), &data[110..]);
}

#[test]
fn behind_the_end_of_a_file_there_are_zeros_to_be_read_and_nothing_is_written() {
    let sample = Sample::new(&[("a", 40_000), ("b", 20_000), ("c", 0), ("d", 5)], true);
    let metainfo = Metainfo::parse(&sample.torrent()).unwrap();
    let layout = &metainfo.layout;
    // All in files, and one of them unwanted, so that its bytes are in the part file.
    for priorities in [vec![], vec![1, 0, 1, 1]] {
        let dir = tempfile::tempdir().unwrap();
        let options = StorageOptions { priorities: priorities.clone(), ..StorageOptions::default() };
        let storage = Storage::new(&metainfo, dir.path(), options);
        storage.prepare().unwrap();
        for piece in (0..layout.num_pieces()).map(PieceIndex) {
            let file = layout.file_of_piece(piece).unwrap();
            let begin = (layout.piece_offset(piece) - layout.file(file).offset) as usize;
            let data = &sample.files[file.0 as usize].1[begin..][..layout.piece_size(piece) as usize];
            storage.write_at(layout.piece_offset(piece), &[IoSlice::new(data)]).unwrap();
            let mut read = vec![7; layout.piece_length() as usize];
            let (one, other) = read.split_at_mut(16384);
            let places = &mut [IoSliceMut::new(one), IoSliceMut::new(other)];
            storage.read_at(layout.piece_offset(piece), places).unwrap();
            let mut expected = data.to_vec();
            expected.resize(layout.piece_length() as usize, 0);
            assert!(read == expected, "{piece:?} {priorities:?}");
        }
        for (file, (_, data)) in metainfo.files.iter().zip(&sample.files) {
            let found = fs::read(dir.path().join(&*file.path)).unwrap_or_default();
            assert!(found == *data || file.path.ends_with("/b") && !priorities.is_empty(), "{}", file.path);
        }
    }
}
