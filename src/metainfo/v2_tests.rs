//! Torrents of version 2 and hybrids (BEP 52), through `Metainfo::parse`.

use super::samples::{NAME, Sample, root, string};
use super::*;
use crate::hash::merkle::root_at;
use crate::hash::sha256;

/// Files that end with a piece, within one, and within a block; two of the same content; one that is empty.
fn album(hybrid: bool) -> Sample {
    let mut sample = Sample::new(
        &[("a", 100_000), ("b/c", 32_768), ("b/empty", 0), ("b.e", 1), ("z/same", 0), ("z/short", 20_000)],
        hybrid,
    );
    sample.files[4].1 = sample.files[0].1.clone();
    sample
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).position(|window| window == old).expect("it is there");
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}

fn refusal(bytes: &[u8]) -> String {
    Metainfo::parse(bytes).expect_err("it is wrong").to_string()
}

#[test]
fn a_torrent_of_version_2_is_read_whole_and_each_piece_has_its_hash() {
    for (hybrid, pad_behind_last) in [(false, true), (true, true), (true, false)] {
        let sample = Sample { pad_behind_last, ..album(hybrid) };
        let torrent = Metainfo::parse(&sample.torrent()).unwrap();
        let v2 = sha256(&sample.info());
        let expected = if hybrid { InfoHashes::Hybrid(sha1(&sample.info()), v2) } else { InfoHashes::V2(v2) };
        assert_eq!(torrent.info_hash, expected);
        // A folder comes before a file whose name goes on behind the folder's.
        let paths: Vec<_> = torrent.files.iter().map(|file| (&*file.path, file.length)).collect();
        let files = [
            ("name/a", 100_000),
            ("name/b/c", 32_768),
            ("name/b/empty", 0),
            ("name/b.e", 1),
            ("name/z/same", 100_000),
            ("name/z/short", 20_000),
        ];
        assert_eq!(paths, files);
        let layout = &torrent.layout;
        assert_eq!((layout.total(), layout.num_pieces()), (252_769, 11));
        for piece in (0..layout.num_pieces()).map(PieceIndex) {
            let file = layout.file_of_piece(piece).unwrap();
            let begin = layout.piece_offset(piece) - layout.file(file).offset;
            let data = &sample.files[file.0 as usize].1[begin as usize..];
            let data = &data[..layout.piece_size(piece) as usize];
            let leaves: Vec<Sha256> = data.chunks(16384).map(sha256).collect();
            let hash = torrent.piece_hash(piece).unwrap();
            assert!(hash.is_over(&leaves), "{piece:?}");
            assert!(
                !hash.is_over(&leaves[1..]) && !hash.is_over(&[&leaves[..], &[Sha256::ZERO]].concat()[1..])
            );
            if let Some(hashes) = torrent.piece_hashes.v1() {
                let padded = [data, &vec![0; layout.zeros_behind(piece) as usize]].concat();
                assert_eq!(hashes[piece.0 as usize], sha1(&padded), "{piece:?}");
            }
        }
        assert!(torrent.notes.is_empty(), "{:?}", torrent.notes);
    }
}

#[test]
fn what_is_read_is_written_as_it_was_and_is_known_without_its_layers() {
    for hybrid in [false, true] {
        let sample = album(hybrid);
        let torrent = Metainfo::parse(&sample.torrent()).unwrap();
        let again = Metainfo::parse(&torrent.encode()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{torrent:?}"));
        let bare = Metainfo::of_info(&sample.info()).unwrap();
        assert_eq!((bare.info_hash, bare.layout.clone()), (torrent.info_hash, torrent.layout.clone()));
        assert_eq!((bare.piece_hashes.are_known(), bare.piece_hashes.are_trees()), (hybrid, false));
        let layers = bare.piece_hashes.layers().unwrap();
        let missing: Vec<FileIndex> = layers.missing(&bare.layout).collect();
        assert_eq!(missing, [FileIndex(0), FileIndex(4)]);
        assert_eq!(bare.piece_hash(PieceIndex(0)).is_some(), hybrid);
    }
}

#[test]
fn one_file_at_the_top_is_a_torrent_of_one_file() {
    for hybrid in [false, true] {
        let torrent = Metainfo::parse(&Sample::new(&[(NAME, 40_000)], hybrid).torrent()).unwrap();
        assert_eq!((torrent.files.len(), &*torrent.files[0].path), (1, "name"));
        assert!(torrent.raw_names().is_single());
        let torrent = Metainfo::parse(&Sample::new(&[("sub/file", 40_000)], hybrid).torrent()).unwrap();
        assert_eq!(&*torrent.files[0].path, "name/sub/file");
        assert_eq!(torrent.raw_names().path(FileIndex(0)), [b"sub".as_slice(), b"file"]);
    }
    let other = Metainfo::parse(&Sample::new(&[("other", 40_000)], false).torrent()).unwrap();
    assert_eq!(&*other.files[0].path, "other", "in version 2 the name is for people alone");
    let listed = Metainfo::parse(&Sample::new(&[("other", 40_000)], true).torrent()).unwrap();
    assert_eq!(&*listed.files[0].path, "name/other", "a folder of one file in version 1");
}

#[test]
fn contradictions_of_version_2_are_refused_with_the_key() {
    let sample = Sample::new(&[("a", 40_000), ("b", 5)], false);
    let good = sample.torrent();
    let replace = |old: &str, new: &str| replaced(&good, old.as_bytes(), new.as_bytes());
    let root_of_a = root(&sample.files[0].1, 1);
    let layers = [b"12:piece layersd32:".as_slice(), &root_of_a.0].concat();
    let table = [
        (
            replace("12:meta versioni2e", "12:meta versioni3e"),
            "info.meta version: 3; torrents of version 1 and 2 can be read; get one of these, or a newer btget",
        ),
        (replace("12:meta versioni2e", "12:meta versioni1e"), "info.meta version: 1, should be 2"),
        (replace("12:meta versioni2e", ""), "info.meta version: missing"),
        (
            replace("12:meta versioni2e", "12:meta version1:2"),
            "info.meta version: a string, should be an integer",
        ),
        (
            replace("12:piece lengthi32768e", "12:piece lengthi32767e"),
            "info.piece length: 32767; in version 2 it is a power of two, and 16384 at least",
        ),
        (
            replace("12:piece lengthi32768e", "12:piece lengthi8192e"),
            "info.piece length: 8192; in version 2 it is a power of two, and 16384 at least",
        ),
        (replace("9:file tree", "9:file trex"), "info.file tree: missing"),
        (replace("11:pieces root", "11:pieces rOot"), "info.file tree[\"a\"].pieces root: missing"),
        (replace("6:lengthi40000e", "6:lEngthi40000e"), "info.file tree[\"a\"].length: missing"),
        (replace("6:lengthi40000e", "6:lengthi-1e"), "info.file tree[\"a\"].length: -1 is negative"),
        (
            replaced(
                &good,
                &[b"32:".as_slice(), &root_of_a.0].concat(),
                b"31:1234567890123456789012345678901",
            ),
            "info.file tree[\"a\"].pieces root: 31 bytes, should be 32",
        ),
        (
            replaced(&good, &[b"32:".as_slice(), &root_of_a.0].concat(), &string(&[0; 32])),
            "info.file tree[\"a\"].pieces root: all zeros, which no file has",
        ),
        (replace("1:ad0:d", "0:d0:d"), "info.file tree[\"\"]: the tree itself is a file"),
        (replace("1:ad0:d", "1:ad1:xde0:d"), "info.file tree[\"a\"]: a file and a folder at once"),
        (replace("ee1:bd0", "e1:xdee1:bd0"), "info.file tree[\"a\"]: a file and a folder at once"),
        (replace("1:ad0:d", "1:ai1e2:aad0:d"), "info.file tree[\"a\"]: not a dictionary"),
        (
            replace("6:lengthi40000e", "4:attr1:p6:lengthi40000e"),
            "info.file tree[\"a\"].attr: a pad file, which has no place in a file tree",
        ),
        (
            replace("12:piece layersd", "12:piece layersi1e1:xd"),
            "piece layers: an integer, should be a dictionary",
        ),
    ];
    for (bytes, message) in table {
        assert_eq!(refusal(&bytes), message, "{}", bytes.escape_ascii());
    }
    let layer = good[good.len() - 66..].to_vec();
    let wrong = [&good[..good.len() - 3], b"?ee"].concat();
    assert_eq!(refusal(&wrong), format!("piece layers[{root_of_a}]: its hashes do not lead to this root"));
    let short = replaced(&good, &[&layers[..], b"64:"].concat(), &[&layers[..], b"63:"].concat());
    let short = [&short[..short.len() - 3], b"ee"].concat();
    assert_eq!(
        refusal(&short),
        format!("piece layers[{root_of_a}]: 63 bytes, but a file of 2 pieces needs 64")
    );
    let number = [&good[..good.len() - layer.len() - 3], b"i7eee"].concat();
    assert_eq!(refusal(&number), format!("piece layers[{root_of_a}]: an integer, should be a string"));
    let empty = b"d4:infod9:file treede12:meta versioni2e4:name1:n12:piece lengthi16384eee";
    assert_eq!(refusal(empty), "info.file tree: empty: a torrent of nothing");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let of = |lengths: &[&str]| {
        let file = |(index, length): (usize, &&str)| {
            let root = String::from_utf8(vec![b'r'; 32]).unwrap();
            format!("1:{index}d0:d6:lengthi{length}e11:pieces root32:{root}ee")
        };
        let files: String = lengths.iter().enumerate().map(file).collect();
        format!("d4:infod9:file treed{files}e12:meta versioni2e4:name1:n12:piece lengthi16384eee")
    };
    let max = i64::MAX.to_string();
    let too_large = "info.file tree: the sizes of its files are too large to be true";
    assert_eq!(refusal(of(&[&max, &max, &max]).as_bytes()), too_large);
    assert_eq!(refusal(of(&[&max]).as_bytes()), too_large);
    let more = "9223372036854775808";
    assert_eq!(refusal(of(&[more]).as_bytes()), "info.file tree[\"0\"].length: does not fit 64 bits");
    let pieces = (MAX_PIECES as u64 * 16384 + 1).to_string();
    assert_eq!(
        refusal(of(&[&pieces]).as_bytes()),
        "info.file tree: 2097153 pieces; up to 2097152 can be handled"
    );
}

#[test]
fn a_tree_that_is_too_deep_is_refused_and_names_are_mended_as_in_version_1() {
    let deep = |levels: usize| {
        let names = "1:dd".repeat(levels);
        let ends = "e".repeat(levels);
        format!(
            "d4:infod9:file treed{names}0:d6:lengthi0ee{ends}e12:meta versioni2e4:name1:n12:piece lengthi16384eee"
        )
    };
    assert_eq!(Metainfo::parse(deep(90).as_bytes()).unwrap().files.len(), 1);
    assert!(refusal(deep(98).as_bytes()).starts_with("damaged: nested deeper than 100"));
    let odd = b"d4:infod9:file treed2:..d3:a/bd0:d6:lengthi0eee1:\xffd0:d6:lengthi0eeee1:Ad0:d6:lengthi0eee\
        1:ad0:d6:lengthi0eeee12:meta versioni2e4:name1:n12:piece lengthi16384eee";
    let torrent = Metainfo::parse(odd).unwrap();
    let paths: Vec<_> = torrent.files.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, ["n/_/a_b", "n/_/\u{fffd}", "n/A", "n/a~2"]);
    assert_eq!(torrent.notes.len(), 4, "{:?}", torrent.notes);
}

#[test]
fn attributes_of_a_tree_are_those_of_version_1() {
    let bytes = b"d4:infod9:file treed4:linkd0:d4:attr1:l12:symlink pathl3:runeee\
        3:rund0:d4:attr2:hx6:lengthi0eeee12:meta versioni2e4:name1:n12:piece lengthi16384eee";
    let torrent = Metainfo::parse(bytes).unwrap();
    assert!(torrent.files[1].executable);
    assert_eq!(torrent.files[0].symlink.as_deref(), Some("n/run"));
}

#[test]
fn a_hybrid_must_say_the_same_twice() {
    let sample = Sample::new(&[("a", 40_000), ("b", 5), ("empty", 0)], true);
    let good = sample.torrent();
    assert!(Metainfo::parse(&good).is_ok());
    let replace = |old: &str, new: &str| replaced(&good, old.as_bytes(), new.as_bytes());
    let a = "d6:lengthi40000e4:pathl1:aee";
    let pad = "d4:attr1:p6:lengthi25536e4:pathl4:.pad5:25536ee";
    let b = "d6:lengthi5e4:pathl1:bee";
    let contradiction = |text: &str| format!("info.files: {text}: a contradiction");
    let table = [
        (replace(b, "d6:lengthi5e4:pathl1:Bee"), "file 2 is \"B\" in version 1 and \"b\" in version 2"),
        (replace(b, "d6:lengthi6e4:pathl1:bee"), "\"b\" has 6 bytes in version 1 and 5 in version 2"),
        (replace(b, ""), "file 2 is \"empty\" in version 1 and \"b\" in version 2"),
        (
            replace("d6:lengthi0e4:pathl5:emptyee", ""),
            "file 3 is \"empty\" in version 2 and missing in version 1",
        ),
        (
            replace(&format!("{a}{pad}{b}"), &format!("{b}{a}{pad}")),
            "file 1 is \"b\" in version 1 and \"a\" in version 2",
        ),
        (
            replace(b, &format!("{b}d6:lengthi0e4:pathl1:xee")),
            "file 3 is \"x\" in version 1 and \"empty\" in version 2",
        ),
        (replace(pad, ""), "\"name/b\" begins at byte 40000 of version 1 and at byte 65536 of version 2"),
        (replace(b, &format!("{b}{pad}")), "123840 bytes in version 1, but 65541 in version 2"),
    ];
    for (bytes, text) in table {
        assert_eq!(refusal(&bytes), contradiction(text));
    }
    let last = "d6:lengthi0e4:pathl5:emptyee";
    let more = replace(last, &format!("{last}d6:lengthi0e4:pathl1:xee"));
    assert_eq!(refusal(&more), contradiction("\"x\" is in version 1 alone; version 2 has 3"));
    let fewer = {
        let at = good.windows(8).position(|window| window == b"6:pieces").unwrap();
        [&good[..at], b"6:pieces40:", &good[at + 11..at + 51], &good[at + 71..]].concat()
    };
    assert!(refusal(&fewer).starts_with("info.pieces: 2 hashes, but "), "{}", refusal(&fewer));
    let single = Sample::new(&[(NAME, 5)], true).torrent();
    let renamed = replaced(&single, b"4:named0:", b"4:nAmed0:");
    assert_eq!(
        refusal(&renamed),
        "info.name: file 1 is \"name\" in version 1 and \"nAme\" in version 2: a contradiction"
    );
}

#[test]
fn a_pad_may_stand_behind_an_empty_file() {
    let good = Sample::new(&[("a", 40_000), ("a0", 0), ("b", 5)], true).torrent();
    let pad = "d4:attr1:p6:lengthi25536e4:pathl4:.pad5:25536ee";
    let empty = "d6:lengthi0e4:pathl2:a0ee";
    let moved = replaced(&good, format!("{pad}{empty}").as_bytes(), format!("{empty}{pad}").as_bytes());
    let torrent = Metainfo::parse(&moved).unwrap();
    assert_eq!(torrent.layout, Metainfo::parse(&good).unwrap().layout);
}

/// A tree of files of 5 bytes with these names, in this order.
fn tree_of(names: &[&str]) -> String {
    let root = "r".repeat(32);
    let file = |name: &&str| format!("{}:{name}d0:d6:lengthi5e11:pieces root32:{root}ee", name.len());
    format!("9:file treed{}e", names.iter().map(file).collect::<String>())
}

/// The torrent of version 2, or the hybrid with a list of the files in this order.
fn ordered(tree: &[&str], list: Option<&[&str]>) -> Vec<u8> {
    let pad = "d4:attr1:p6:lengthi16379ee";
    let entry = |name: &&str| format!("d6:lengthi5e4:pathl{}:{name}ee{pad}", name.len());
    let files =
        list.map_or(String::new(), |list| format!("5:filesl{}e", list.iter().map(entry).collect::<String>()));
    let pieces = list
        .map_or(String::new(), |list| format!("6:pieces{}:{}", 20 * list.len(), "h".repeat(20 * list.len())));
    let tree = tree_of(tree);
    format!("d4:infod{tree}{files}12:meta versioni2e4:name1:n12:piece lengthi16384e{pieces}ee").into_bytes()
}

#[test]
fn a_tree_whose_order_is_open_to_doubt_is_refused_and_one_that_version_1_confirms_is_taken() {
    let paths = |bytes: &[u8]| -> Vec<String> {
        Metainfo::parse(bytes)
            .unwrap()
            .files
            .iter()
            .filter(|file| !file.pad)
            .map(|file| file.path.to_string())
            .collect()
    };
    assert_eq!(paths(&ordered(&["a", "b"], None)), ["n/a", "n/b"]);
    let unsorted = "info.file tree[\"a\"]: out of order, so clients do not agree which piece is whose; get a torrent made anew";
    assert_eq!(refusal(&ordered(&["b", "a"], None)), unsorted);
    assert_eq!(refusal(&ordered(&["c", "a", "b"], None)), unsorted);
    let hybrid = ordered(&["b", "a"], Some(&["b", "a"]));
    assert_eq!(paths(&hybrid), ["n/b", "n/a"]);
    let notes = Metainfo::parse(&hybrid).unwrap().notes;
    assert_eq!(notes, ["file tree[\"a\"]: out of order; the order of version 1 counts"]);
    assert!(refusal(&ordered(&["b", "a"], Some(&["a", "b"]))).ends_with("a contradiction"));
    assert!(refusal(&ordered(&["a", "b"], Some(&["b", "a"]))).ends_with("a contradiction"));
    for list in [None, Some(&["a", "a"] as &[&str])] {
        assert_eq!(refusal(&ordered(&["a", "a"], list)), "info.file tree[\"a\"]: twice in one folder");
    }
}

#[test]
fn the_root_of_an_empty_file_has_the_length_of_a_root() {
    let of = |root: &str| {
        let root = string(root.as_bytes());
        let entry = [b"1:ad0:d6:lengthi0e11:pieces root".as_slice(), &root, b"ee"].concat();
        [b"d4:infod9:file treed", &entry[..], b"e12:meta versioni2e4:name1:n12:piece lengthi16384eee"]
            .concat()
    };
    assert!(Metainfo::parse(&of(&"r".repeat(32))).is_ok());
    assert_eq!(refusal(&of("short")), "info.file tree[\"a\"].pieces root: 5 bytes, should be 32");
}

#[test]
fn two_files_of_one_root_and_different_lengths_are_refused() {
    let of = |lengths: [u32; 2]| {
        let root = "r".repeat(32);
        let file = |name: &str, length| format!("1:{name}d0:d6:lengthi{length}e11:pieces root32:{root}ee");
        let files = file("a", lengths[0]) + &file("b", lengths[1]);
        format!("d4:infod9:file treed{files}e12:meta versioni2e4:name1:n12:piece lengthi16384eee")
    };
    assert!(Metainfo::parse(of([40_000, 40_000]).as_bytes()).is_ok());
    let text = "info.file tree: two of its files have one hash and different lengths";
    assert_eq!(refusal(of([40_000, 5]).as_bytes()), text);
}

#[test]
fn a_layer_of_a_file_of_one_piece_is_that_piece_or_is_refused() {
    let sample = Sample::new(&[("a", 5)], false);
    let good = sample.torrent();
    let root_of_a = root(&sample.files[0].1, 0);
    let raised = root_at(&[root_of_a], 0, 1);
    let with = |layer: &[u8]| {
        let entry = [&string(&root_of_a.0)[..], &string(layer)].concat();
        replaced(&good, b"12:piece layersd", &[&b"12:piece layersd"[..], &entry].concat())
    };
    for layer in [root_of_a, raised] {
        assert!(Metainfo::parse(&with(&layer.0)).unwrap().piece_hashes.are_trees());
    }
    for layer in [&[7; 32][..], &[], &root_of_a.0[..31]] {
        let text = format!("piece layers[{root_of_a}]: not the hash of the one piece that the file has");
        assert_eq!(refusal(&with(layer)), text);
    }
}

#[test]
fn layers_of_no_file_are_passed_over_and_told() {
    let good = Sample::new(&[("a", 100_000)], false).torrent();
    let layers = b"12:piece layersd";
    for (entry, notes) in [
        (&b"32:00000000000000000000000000000000i1e"[..], 1),
        (b"33:0000000000000000000000000000000000:", 1),
        (b"", 0),
    ] {
        let more = replaced(&good, layers, &[layers, entry].concat());
        let torrent = Metainfo::parse(&more).unwrap();
        assert!(torrent.piece_hashes.are_trees());
        assert_eq!(torrent.notes.len(), notes, "{:?}", torrent.notes);
    }
}
