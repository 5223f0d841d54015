use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use proptest::prelude::*;
use tempfile::TempDir;

use super::walk::SourceFile;
use super::*;
use crate::hash::merkle::{block_hashes, root_at};
use crate::hash::sha1;
use crate::layout::PieceIndex;
use crate::metainfo::draft::{Draft, DraftFile, DraftHashes, Format};

fn put(folder: &Path, path: &str, data: &[u8]) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, data).unwrap();
}

fn found(path: &Path) -> Result<SourceTree, Obstacles> {
    walk(path, &|| true)
}

/// The paths of the files, those of links with their targets.
fn listed(tree: &SourceTree) -> Vec<String> {
    let line = |file: &SourceFile| match &file.entry.symlink {
        Some(target) => format!("{} -> {target}", file.entry.path),
        None => file.entry.path.to_string(),
    };
    tree.files.iter().map(line).collect()
}

/// What stands in the way, as `path: kind`, below the folder.
fn refused(folder: &Path) -> Vec<String> {
    let obstacles = found(folder).expect_err("there are obstacles");
    let line = |obstacle: &Obstacle| {
        let path = obstacle.path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
        format!("{path}: {:?}", obstacle.kind)
    };
    obstacles.first.iter().map(line).collect()
}

#[test]
fn every_file_is_found_in_the_order_of_the_torrent_and_empty_folders_are_told() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("set");
    for path in ["b.e", "b/z", "b/a/c", ".hidden/x", "b-", "a", "é"] {
        put(&root, path, b"x");
    }
    put(&root, "empty", b"");
    fs::create_dir_all(root.join("none/at/all")).unwrap();
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = found(&root).unwrap();
    assert_eq!((tree.name.as_str(), tree.is_folder), ("set", true));
    assert_eq!(listed(&tree), [".hidden/x", "a", "b/a/c", "b/z", "b-", "b.e", "empty", "é"]);
    assert_eq!(tree.empty_folders, ["none/at/all"]);
    let executable: Vec<bool> = tree.files.iter().map(|file| file.entry.executable).collect();
    assert_eq!(executable, [false, true, false, false, false, false, false, false]);
    // The order is the draft's.
    let files: Vec<DraftFile> = tree.files.iter().map(|file| file.entry.clone()).collect();
    let draft = Draft::new("set".to_owned(), true, files.clone(), Format::V1, 16384).unwrap();
    assert_eq!(draft.files(), files);
}

#[test]
fn one_file_is_a_torrent_of_its_name_also_behind_a_link() {
    let dir = TempDir::new().unwrap();
    put(dir.path(), "set/file.iso", b"data");
    symlink("set/file.iso", dir.path().join("link")).unwrap();
    symlink("set", dir.path().join("folder")).unwrap();
    for (path, name, is_folder) in [
        ("set/file.iso", "file.iso", false),
        ("link", "link", false),
        ("folder", "folder", true),
        ("folder/", "folder", true),
        ("folder/.", "folder", true),
        ("set/../set/..", dir.path().file_name().unwrap().to_str().unwrap(), true),
    ] {
        let tree = found(&dir.path().join(path)).unwrap();
        assert_eq!((tree.name.as_str(), tree.is_folder), (name, is_folder), "{path}");
    }
    assert!(matches!(found(Path::new("/")).unwrap_err().first[0].kind, ObstacleKind::Nameless));
    let missing = found(&dir.path().join("nothing")).unwrap_err();
    assert!(matches!(missing.first[0].kind, ObstacleKind::Unreadable(_)));
}

#[test]
fn links_inside_the_tree_are_links_one_step_at_a_time() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("set");
    put(&root, "a/b/file", b"x");
    put(&root, "c/other", b"x");
    for (link, target) in [
        ("a/near", "b/file"),
        ("a/b/up", "../../c/other"),
        ("chain", "a/near"),
        ("folder", "a/b"),
        ("through", "folder/file"),
        ("a/dots", "b/../b/./file"),
        ("c/home", "../a/b/.."),
        ("slash", "a/b/"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    symlink(root.join("c/other"), root.join("whole")).unwrap();
    let tree = found(&root).unwrap();
    let links: Vec<String> = listed(&tree).into_iter().filter(|line| line.contains(" -> ")).collect();
    assert_eq!(
        links,
        [
            "a/b/up -> c/other",
            "a/dots -> a/b/file",
            "a/near -> a/b/file",
            "c/home -> a",
            "chain -> a/near",
            "folder -> a/b",
            "slash -> a/b",
            "through -> a/b/file",
            "whole -> c/other",
        ]
    );
}

#[test]
fn what_a_torrent_cannot_hold_is_refused_each_by_its_name() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("set");
    put(&root, "file", b"x");
    put(dir.path(), "outside", b"x");
    fs::create_dir_all(root.join("sub/hollow")).unwrap();
    put(&root, "sub/file", b"x");
    for (link, target) in [
        ("out", "../outside"),
        ("far", "/etc"),
        ("dead", "nothing"),
        ("deeper", "file/nothing"),
        ("round", "round"),
        ("ping", "pong"),
        ("pong", "ping"),
        ("sub/home", ".."),
        ("sub/here", "."),
        ("hollow", "sub/hollow"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff.txt")), b"x").unwrap();
    assert_eq!(
        refused(&root),
        [
            "dead: DeadLink",
            "deeper: DeadLink",
            "far: OutsideLink",
            "out: OutsideLink",
            "ping: LinkLoop",
            "pipe: Special(\"a named pipe\")",
            "pong: LinkLoop",
            "round: LinkLoop",
            "socket: Special(\"a socket\")",
            "sub/here: LinkLoop",
            "sub/home: LinkLoop",
            "\u{fffd}.txt: NotUtf8",
            "hollow: EmptyFolderLink",
        ]
    );
}

#[test]
fn links_that_lead_round_by_one_another_are_refused_and_long_ways_are_not() {
    let dir = TempDir::new().unwrap();
    let with = |name: &str, links: &[(&str, &str)]| {
        let root = dir.path().join(name);
        ["a/file", "b/file", "b/deep/er/file", "c/file"].iter().for_each(|path| put(&root, path, b"x"));
        links.iter().for_each(|(link, target)| symlink(target, root.join(link)).unwrap());
        root
    };
    let two = with("two", &[("a/tob", "../b"), ("b/toa", "../a")]);
    assert_eq!(refused(&two), ["a/tob: LinkLoop"]);
    // By way of a link to a link, and of a folder below a target.
    let three = with("three", &[("a/x", "../c/y"), ("c/y", "../b"), ("b/deep/er/z", "../../../a")]);
    assert_eq!(refused(&three).len(), 1, "{:?}", refused(&three));
    let links = [("a/x", "../b"), ("a/y", "../b"), ("b/z", "../c"), ("b/deep/z", "../../c"), ("w", "a/file")];
    assert_eq!(found(&with("long", &links)).unwrap().files.len(), 9);
    // A name that begins as the folder's does is not below it.
    let near = with("near", &[("a/x", "../b"), ("b.link", "a")]);
    assert!(found(&near).is_ok());
}

#[test]
fn many_obstacles_are_counted_beyond_the_first() {
    let dir = TempDir::new().unwrap();
    for number in 0..MAX_OBSTACLES + 5 {
        symlink("nothing", dir.path().join(format!("{number}"))).unwrap();
    }
    let obstacles = found(dir.path()).unwrap_err();
    assert_eq!((obstacles.first.len(), obstacles.more), (MAX_OBSTACLES, 5));
}

fn draft_of(tree: &SourceTree, format: Format, piece_length: u32) -> Draft {
    let files = tree.files.iter().map(|file| file.entry.clone()).collect();
    Draft::new(tree.name.clone(), tree.is_folder, files, format, piece_length).unwrap()
}

fn hashed(tree: &SourceTree, draft: &Draft, threads: usize) -> Result<HashedTree, Obstacles> {
    Hashing::new(Instant::now(), draft, Arc::default()).run(tree, draft, threads)
}

/// The hashes of a draft, each piece by itself.
fn naive(tree: &SourceTree, draft: &Draft) -> DraftHashes {
    let layout = draft.layout();
    let mut hashes = DraftHashes::default();
    for piece in (0..layout.num_pieces()).map(PieceIndex) {
        let (mut whole, mut data) = (Vec::new(), Vec::new());
        for span in layout.spans_of_piece(piece) {
            let range = span.offset as usize..(span.offset + span.length) as usize;
            match draft.member(span.file) {
                Some(file) => {
                    data.extend(&fs::read(tree.path_of(&draft.files()[file])).unwrap()[range]);
                    whole.extend(&data[data.len() - span.length as usize..]);
                }
                None => whole.resize(whole.len() + range.len(), 0),
            }
        }
        if draft.format().has_v1() {
            hashes.v1.push(sha1(&whole));
        }
        if draft.format().has_v2() {
            hashes.v2.push(root_at(&block_hashes(&data), 0, draft.root_height(piece)));
        }
    }
    hashes
}

#[test]
fn a_file_that_is_not_what_it_was_is_told() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("set");
    let all = ["longer", "shorter", "other", "gone", "same"];
    all.iter().for_each(|path| put(&root, path, &[1; 40_000]));
    let tree = found(&root).unwrap();
    let whole = hashed(&tree, &draft_of(&tree, Format::Hybrid, 16384), 1).unwrap();
    assert!(matches!(whole, HashedTree::Whole(_)));
    assert!(found(&root).unwrap().compare(&tree).is_ok());
    // Another file in its place, of the same length and time.
    let time = fs::metadata(root.join("other")).unwrap().modified().unwrap();
    put(&root, "new", &[2; 40_000]);
    fs::File::options().write(true).open(root.join("new")).unwrap().set_modified(time).unwrap();
    fs::rename(root.join("new"), root.join("other")).unwrap();
    put(&root, "longer", &[1; 40_001]);
    put(&root, "shorter", &[1; 39_999]);
    fs::remove_file(root.join("gone")).unwrap();
    put(&root, "new", b"x");
    let obstacles = found(&root).unwrap().compare(&tree).unwrap_err();
    let told: Vec<String> = obstacles
        .first
        .iter()
        .map(|obstacle| format!("{}: {obstacle}", obstacle.path.file_name().unwrap().to_string_lossy()))
        .collect();
    assert_eq!(
        told,
        [
            "gone: it went away while the files were hashed",
            "longer: it changed while it was hashed",
            "new: it appeared while the files were hashed",
            "other: it changed while it was hashed",
            "shorter: it changed while it was hashed",
        ]
    );
    // Who reads one of these sees it then.
    for path in ["shorter", "gone"] {
        let one = SourceTree {
            files: tree.files.iter().filter(|file| &*file.entry.path == path).cloned().collect(),
            ..tree.clone()
        };
        let obstacles = hashed(&one, &draft_of(&one, Format::V1, 16384), 1).unwrap_err();
        assert!(matches!(obstacles.first[0].kind, ObstacleKind::Changed(_)), "{path}: {obstacles:?}");
    }
}

#[test]
fn it_is_broken_off_when_told() {
    let dir = TempDir::new().unwrap();
    put(dir.path(), "set/file", &[1; 100_000]);
    let tree = found(&dir.path().join("set")).unwrap();
    let draft = draft_of(&tree, Format::V2, 16384);
    let stop = Arc::new(AtomicBool::new(false));
    let hashing = Hashing::new(Instant::now(), &draft, Arc::clone(&stop));
    assert!(matches!(hashing.run(&tree, &draft, 2), Ok(HashedTree::Whole(_))));
    assert_eq!((hashing.progress(Instant::now()).0, hashing.hashed().count()), (100_000, 7));
    stop.store(true, Ordering::Relaxed);
    assert_eq!(hashing.run(&tree, &draft, 2).unwrap(), HashedTree::BrokenOff);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_is_hashed_as_piece_by_piece(
        lengths in prop::collection::vec(prop_oneof![0usize..70_000, Just(16384), Just(0), 300_000usize..700_000], 1..12),
        power in 14u32..21, threads in 1usize..4, seed: u64
    ) {
        prop_assume!(lengths.iter().any(|&length| length > 0));
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("set");
        let mut random = fastrand::Rng::with_seed(seed);
        for (number, &length) in lengths.iter().enumerate() {
            let data: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            put(&root, &format!("{}/{number}", number % 3), &data);
        }
        let tree = found(&root).unwrap();
        for format in [Format::V1, Format::V2, Format::Hybrid] {
            let draft = draft_of(&tree, format, 1 << power);
            let expected = naive(&tree, &draft);
            prop_assert_eq!(hashed(&tree, &draft, threads).unwrap(), HashedTree::Whole(expected));
        }
    }
}
