use super::*;
use crate::bencode;
use crate::hash::merkle::{block_hashes, file_root, root_at};
use crate::hash::{sha1, sha256};
use crate::ids::InfoHashes;
use crate::metainfo::Metainfo;
use crate::metainfo::create::{Content, NewTorrent};
use proptest::prelude::*;

const FORMATS: [Format; 3] = [Format::V1, Format::V2, Format::Hybrid];

fn file(path: &str, length: u64) -> DraftFile {
    DraftFile { path: path.into(), length, executable: false, symlink: None }
}

/// The hashes of a draft whose files are full of the length of their path.
fn hashed(draft: &Draft) -> DraftHashes {
    let (layout, format) = (draft.layout(), draft.format());
    let mut hashes = DraftHashes::default();
    for piece in (0..layout.num_pieces()).map(PieceIndex) {
        let (mut bytes, mut data) = (Vec::new(), Vec::new());
        for span in layout.spans_of_piece(piece) {
            let length = span.length as usize;
            match draft.member(span.file) {
                Some(member) => {
                    data.extend(vec![draft.files()[member].path.len() as u8; length]);
                    bytes.extend(&data[data.len() - length..]);
                }
                None => bytes.extend(vec![0; length]),
            }
        }
        if format.has_v1() {
            hashes.v1.push(sha1(&bytes));
        }
        if format.has_v2() {
            assert_eq!(draft.data_in(piece) as usize, data.len());
            hashes.v2.push(root_at(&block_hashes(&data), 0, draft.root_height(piece)));
        }
    }
    hashes
}

fn made(name: &str, files: &[DraftFile], format: Format, piece_length: u32) -> Vec<u8> {
    let draft = Draft::new(name.to_owned(), true, files.to_vec(), format, piece_length).unwrap();
    draft.finish(&hashed(&draft), &DraftDetails::default()).unwrap()
}

/// The value that these keys lead to.
fn get<'a>(bytes: &'a [u8], keys: &[&[u8]]) -> bencode::Value<'a> {
    let mut value = bencode::decode(bytes).unwrap();
    for key in keys {
        value = value.as_dict().unwrap().find(|(name, _)| name == key).unwrap().1;
    }
    value
}

#[test]
fn by_default_there_are_a_thousand_to_two_thousand_pieces() {
    for (total, length) in [
        (1, 16 << 10),
        (2000 * (16 << 10), 16 << 10),
        (2000 * (16 << 10) + 1, 32 << 10),
        (4 << 30, 4 << 20),
        (2000 << 24, 16 << 20),
        (u64::MAX, 16 << 20),
    ] {
        assert_eq!(default_piece_length(total), length, "{total}");
        let pieces = total.div_ceil(u64::from(length));
        assert!(length == 16 << 20 || pieces <= 2000 && (length == 16 << 10 || pieces > 1000), "{total}");
    }
}

#[test]
fn what_cannot_be_a_torrent_is_refused() {
    let refused = |files: Vec<DraftFile>, format| {
        Draft::new("x".to_owned(), true, files, format, 16384).map(drop).unwrap_err()
    };
    assert_eq!(refused(vec![], Format::V1), DraftError::NoBytes);
    assert_eq!(refused(vec![file("a", 0), file("b", 0)], Format::Hybrid), DraftError::NoBytes);
    assert_eq!(refused(vec![file("a", u64::MAX), file("b", 1)], Format::V1), DraftError::TooLarge);
    assert_eq!(refused(vec![file("a", u64::MAX)], Format::Hybrid), DraftError::TooLarge);
    assert_eq!(refused(vec![file("a", 1 << 40)], Format::V1), DraftError::TooManyPieces(16384));
    let many = (0..=MAX_FILES).map(|number| file(&number.to_string(), 1)).collect();
    assert_eq!(refused(many, Format::V2), DraftError::TooManyFiles);
}

#[test]
fn pads_do_not_count_as_files() {
    let files: Vec<DraftFile> = (0..=MAX_FILES / 2).map(|number| file(&number.to_string(), 1)).collect();
    for format in FORMATS {
        let draft = Draft::new("x".to_owned(), true, files.clone(), format, 16384).unwrap();
        assert_eq!(draft.files().len(), files.len(), "{format:?}");
    }
}

#[test]
fn as_deep_as_a_torrent_of_version_2_is_made_it_can_be_read() {
    for (folders, symlink) in [(94, None), (93, Some("t"))] {
        let of = |folders: usize| {
            let path = format!("{}f", "d/".repeat(folders)).into();
            let length = if symlink.is_some() { 0 } else { 5 };
            let deep = DraftFile { path, length, executable: true, symlink: symlink.map(Into::into) };
            vec![deep, file("t", 5)]
        };
        for format in [Format::V2, Format::Hybrid] {
            let torrent = Metainfo::parse(&made("x", &of(folders), format, 16384)).unwrap();
            assert!(torrent.notes.is_empty(), "{:?}", torrent.notes);
            let refused = Draft::new("x".to_owned(), true, of(folders + 1), format, 16384).map(drop);
            assert!(matches!(refused, Err(DraftError::TooDeep(_))), "{refused:?}");
        }
        made("x", &of(folders + 1), Format::V1, 16384);
    }
}

#[test]
fn a_folder_with_one_file_is_lost_to_version_2_alone() {
    for (paths, format, is_lost) in [
        (&["x"][..], Format::V2, true),
        (&["x"], Format::Hybrid, false),
        (&["x"], Format::V1, false),
        (&["x/y"], Format::V2, false),
        (&["x", "y"], Format::V2, false),
    ] {
        let files = paths.iter().map(|path| file(path, 1)).collect();
        let draft = Draft::new("t".to_owned(), true, files, format, 16384).unwrap();
        assert_eq!(draft.loses_folder(), is_lost, "{paths:?} {format:?}");
    }
}

#[test]
fn files_stand_in_the_order_of_the_components_of_their_paths() {
    let files = ["b.e", "b/z", "a", "b/a/c", "b-", "B", ".h"].map(|path| file(path, 1));
    let draft = Draft::new("t".to_owned(), true, files.to_vec(), Format::Hybrid, 16384).unwrap();
    let order: Vec<&str> = draft.files().iter().map(|file| &*file.path).collect();
    assert_eq!(order, [".h", "B", "a", "b/a/c", "b/z", "b-", "b.e"]);
}

#[test]
fn a_hybrid_has_pads_behind_files_and_version_2_none() {
    let mut files = vec![file("a", 16385), file("b", 32768), file("c", 0), file("d", 5)];
    files.push(DraftFile { symlink: Some("b".into()), ..file("e", 0) });
    let hybrid = Metainfo::parse(&made("t", &files, Format::Hybrid, 32768));
    // What reads hybrids by their version 2 shows no pads.
    if let Ok(hybrid) = hybrid
        && hybrid.files.iter().any(|file| file.pad)
    {
        let pads: Vec<(u64, bool)> = hybrid.files.iter().map(|file| (file.length, file.pad)).collect();
        let expected = [
            (16385, false),
            (16383, true),
            (32768, false),
            (0, false),
            (5, false),
            (32763, true),
            (0, false),
        ];
        assert_eq!(pads, expected);
    }
    let v2 = made("t", &files, Format::V2, 32768);
    let keys: Vec<&[u8]> = get(&v2, &[b"info"]).as_dict().unwrap().map(|(key, _)| key).collect();
    assert_eq!(keys, [&b"file tree"[..], b"meta version", b"name", b"piece length"]);
    let link = get(&v2, &[b"info", b"file tree", b"e", b""]);
    assert_eq!(link.span(), b"d4:attr1:l12:symlink pathl1:bee");
}

#[test]
fn files_of_the_same_content_share_a_layer() {
    let bytes = made("t", &[file("a", 40_000), file("b", 40_000), file("c", 1)], Format::V2, 16384);
    let layers: Vec<_> = get(&bytes, &[b"piece layers"]).as_dict().unwrap().collect();
    let leaves = block_hashes(&vec![1; 40_000]);
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0].0, file_root(&leaves, 0).0);
    assert_eq!(layers[0].1.as_bytes().unwrap(), leaves.iter().flat_map(|leaf| leaf.0).collect::<Vec<_>>());
}

#[test]
fn version_1_is_what_the_maker_of_the_tests_makes() {
    let paths = [("a", 40_000), ("b/c", 5)];
    let files = paths.map(|(path, length)| file(path, length));
    let draft = Draft::new("t".to_owned(), true, files.to_vec(), Format::V1, 32768).unwrap();
    let hashes = hashed(&draft);
    let trackers =
        vec![vec!["http://a/announce".to_owned(), "udp://b:1".to_owned()], vec!["http://c/x".to_owned()]];
    let details = DraftDetails { trackers: trackers.clone(), private: true, ..DraftDetails::default() };
    let other = NewTorrent {
        name: "t",
        content: Content::Folder(&paths),
        piece_length: 32768,
        piece_hashes: &hashes.v1,
        trackers: &trackers,
        private: true,
    };
    assert_eq!(draft.finish(&hashes, &details).unwrap(), other.encode());
}

#[test]
fn all_that_is_said_is_read_again() {
    let draft = Draft::new("n".to_owned(), false, vec![file("n", 20_000)], Format::V1, 16384).unwrap();
    let details = DraftDetails {
        trackers: vec![vec!["http://a/announce".to_owned()]],
        web_seeds: vec!["http://seed/".to_owned()],
        nodes: vec![("router.test".to_owned(), 6881)],
        private: true,
        source: Some("S".to_owned()),
        comment: Some("of a cat".to_owned()),
        created_by: Some("me".to_owned()),
        creation_date: Some(7),
    };
    let bytes = draft.finish(&hashed(&draft), &details).unwrap();
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!((torrent.trackers, torrent.url_list), (details.trackers, details.web_seeds));
    assert_eq!((torrent.nodes, torrent.private), (details.nodes, true));
    assert_eq!((torrent.comment, torrent.created_by), (details.comment, details.created_by));
    assert_eq!(torrent.creation_date, Some(7));
    assert_eq!(get(&bytes, &[b"info", b"source"]).as_bytes(), Some(&b"S"[..]));
    // Of one tracker there is no list.
    assert!(!bytes.windows(13).any(|window| window == b"announce-list"));
}

/// Paths as a disk can have them: none leads through another.
fn trees() -> impl Strategy<Value = Vec<DraftFile>> {
    let lengths = prop_oneof![Just(0u64), 0u64..100, Just(16384u64), Just(32768u64), 0u64..200_000];
    let entry = (prop::collection::vec("[a-c.]{1,2}", 0..3), "[a-c. /-]{0,2}", lengths, any::<bool>());
    prop::collection::vec(entry, 1..20).prop_map(|entries| {
        let mut files = std::collections::BTreeMap::new();
        for (folders, name, length, executable) in entries {
            let folders: Vec<String> = folders.into_iter().map(|folder| format!("{folder}d")).collect();
            let path = [folders, vec![format!("{}f", name.replace('/', "_"))]].concat().join("/");
            files.insert(path.clone(), DraftFile { executable, ..file(&path, length) });
        }
        files.into_values().collect()
    })
}

/// All values below a dictionary, with sorted keys and nothing twice.
fn assert_canonical(value: bencode::Value<'_>) {
    if let Some(dict) = value.as_dict() {
        let entries: Vec<_> = dict.collect();
        assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "keys are not ascending: {value:?}");
        entries.iter().for_each(|(_, value)| assert_canonical(*value));
    }
    value.as_list().into_iter().flatten().for_each(assert_canonical);
}

proptest! {
    #[test]
    fn what_is_made_is_canonical_and_does_not_depend_on_the_order_of_the_files(
        files in trees(), power in 14u32..18, seed: u64
    ) {
        prop_assume!(files.iter().any(|file| file.length > 0));
        for format in FORMATS {
            let made_once = made("name", &files, format, 1 << power);
            assert_canonical(bencode::decode(&made_once).unwrap());
            let mut others = files.clone();
            fastrand::Rng::with_seed(seed).shuffle(&mut others);
            prop_assert_eq!(&made("name", &others, format, 1 << power), &made_once);
            let info = get(&made_once, &[b"info"]).span();
            match Metainfo::parse(&made_once).unwrap().info_hash {
                InfoHashes::V1(v1) => prop_assert_eq!(v1, sha1(info)),
                InfoHashes::V2(v2) => prop_assert_eq!(v2, sha256(info)),
                InfoHashes::Hybrid(v1, v2) => prop_assert_eq!((v1, v2), (sha1(info), sha256(info))),
            }
        }
    }

    #[test]
    fn every_file_of_version_2_has_the_root_of_its_own_blocks(files in trees(), power in 14u32..18) {
        prop_assume!(files.iter().any(|file| file.length > 0));
        let bytes = made("name", &files, Format::V2, 1 << power);
        let layers = get(&bytes, &[b"piece layers"]);
        for file in files.iter().filter(|file| file.length > 0) {
            let keys = [&b"info"[..], b"file tree"].into_iter();
            let keys: Vec<&[u8]> = keys.chain(file.path.split('/').map(str::as_bytes)).chain([&b""[..]]).collect();
            let entry = get(&bytes, &keys);
            let value = |key: &[u8]| entry.as_dict().unwrap().find(|(name, _)| *name == key).map(|(_, value)| value);
            let root = file_root(&block_hashes(&vec![file.path.len() as u8; file.length as usize]), 0);
            prop_assert_eq!(value(b"pieces root").unwrap().as_bytes(), Some(&root.0[..]));
            prop_assert_eq!(value(b"length").unwrap().as_int(), Some(file.length as i64));
            prop_assert_eq!(value(b"attr").is_some(), file.executable);
            let has_layer = layers.as_dict().unwrap().any(|(key, _)| key == root.0);
            prop_assert_eq!(has_layer, file.length > 1 << power);
        }
    }
}
