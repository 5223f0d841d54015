//! The behaviour of `Metainfo::parse` as a whole.

use proptest::prelude::*;

use super::create::{Content, NewTorrent};
use super::*;
use crate::text::escape;

fn torrent(content: Content<'_>) -> Vec<u8> {
    let hashes = [Sha1([1; 20]), Sha1([2; 20])];
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

fn folder() -> Vec<u8> {
    torrent(Content::Folder(&[("a", 50), ("b/c", 0), ("b/d", 100)]))
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A .torrent with this `info` (its entries, without `d` and `e`).
fn with_info(entries: &[u8]) -> Vec<u8> {
    join(&[b"d4:infod", entries, b"ee"])
}

/// A .torrent of one piece with this list of files (its items, without `l` and `e`).
fn with_files(items: &[u8]) -> Vec<u8> {
    with_info(&join(&[b"5:filesl", items, b"e4:name1:t12:piece lengthi100e6:pieces20:aaaaaaaaaaaaaaaaaaaa"]))
}

/// A good .torrent with these entries before `info`.
fn with_top(entries: &[u8]) -> Vec<u8> {
    join(&[b"d", entries, b"4:infod6:lengthi1e4:name1:n12:piece lengthi1e6:pieces20:aaaaaaaaaaaaaaaaaaaaee"])
}

fn refusal(bytes: &[u8]) -> String {
    Metainfo::parse(bytes).expect_err(&bytes.escape_ascii().to_string()).to_string()
}

#[test]
fn what_we_make_we_read() {
    let single = Metainfo::parse(&torrent(Content::File(150))).unwrap();
    assert_eq!(single.files.len(), 1);
    assert_eq!(&*single.files[0].path, "name");
    assert_eq!(single.layout.total(), 150);
    assert_eq!(single.piece_hashes.v1().unwrap(), [Sha1([1; 20]), Sha1([2; 20])]);
    let hash = PieceHash::V1 { hash: Sha1([2; 20]), zeros: 0 };
    assert_eq!(single.piece_hash(PieceIndex(1)), Some(hash));
    assert_eq!(single.trackers, [["http://a.example/announce", "udp://b.example:80"]]);
    assert!(single.private);
    assert!(single.notes.is_empty());

    let several = Metainfo::parse(&folder()).unwrap();
    let paths: Vec<_> = several.files.iter().map(|file| (&*file.path, file.length)).collect();
    assert_eq!(paths, [("name/a", 50), ("name/b/c", 0), ("name/b/d", 100)]);
}

#[test]
fn what_we_make_is_canonical() {
    let new = NewTorrent {
        name: "n",
        content: Content::Folder(&[("b/c", 3)]),
        piece_length: 4,
        piece_hashes: &[Sha1([b'h'; 20])],
        trackers: &[vec!["http://t".to_owned()]],
        private: true,
    };
    let expected =
        b"d8:announce8:http://t13:announce-listll8:http://tee4:infod5:filesld6:lengthi3e4:pathl1:b1:ceee\
        4:name1:n12:piece lengthi4e6:pieces20:hhhhhhhhhhhhhhhhhhhh7:privatei1eee";
    assert_eq!(new.encode().escape_ascii().to_string(), expected.escape_ascii().to_string());
    let single = NewTorrent { content: Content::File(3), trackers: &[], private: false, ..new };
    let expected = b"d4:infod6:lengthi3e4:name1:n12:piece lengthi4e6:pieces20:hhhhhhhhhhhhhhhhhhhhee";
    assert_eq!(single.encode().escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn the_info_hash_is_that_of_the_bytes_as_they_stand() {
    // Unsorted, a duplicate, a leading zero: encoded anew, all of it would change.
    let info =
        b"d6:pieces20:aaaaaaaaaaaaaaaaaaaa4:name5:first4:name6:second12:piece lengthi064e6:lengthi7e1:zlee";
    let bytes = join(&[b"d8:url-list0:4:info", info, b"8:announce17:http://x.example/e"]);
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!(torrent.info_hash, InfoHashes::V1(sha1(info)));
    assert_eq!(torrent.info_bytes[..], info[..]);
    assert_eq!((&*torrent.name, torrent.layout.piece_length()), ("first", 64));
    assert_eq!(torrent.trackers, [["http://x.example/"]]);
}

#[test]
fn what_is_not_a_torrent_is_refused_with_what_it_is() {
    let table: &[(&[u8], &str)] = &[
        (b"", "not a .torrent: empty"),
        (b"\x1f\x8b\x08\0", "not a .torrent: compressed by gzip; unpack it first"),
        (
            b"  <!DOCTYPE html>",
            "not a .torrent: a web page; the link needs a log-in, or was not that of the torrent itself",
        ),
        (b"magnet:?xt=urn:btih:", "not a .torrent: holds a magnet link"),
        (b"le", "not a .torrent: does not begin with a dictionary"),
        (b"\xff\xff", "not a .torrent: does not begin with a dictionary"),
    ];
    for (bytes, message) in table {
        assert_eq!(refusal(bytes), *message);
    }
}

#[test]
fn damaged_input_is_refused_with_the_place() {
    let good = folder();
    let table = [
        (&good[..40], "damaged: truncated: ends after 40 bytes inside a value; fetch it again".to_owned()),
        (&b"d1:a".repeat(101), "damaged: nested deeper than 100 at byte 400; fetch it again".to_owned()),
        (b"d4:infoi1x", "damaged: malformed integer at byte 9; fetch it again".to_owned()),
    ];
    for (bytes, message) in table {
        assert_eq!(refusal(bytes), message);
    }
    assert_eq!(refusal(&vec![b'd'; MAX_LENGTH + 1]), "larger than 64 MiB; a .torrent is never that large");
}

#[test]
fn contradictions_are_refused_with_the_key() {
    let table: &[(&[u8], &str)] = &[
        (b"de", "info: missing"),
        (b"d4:infolee", "info: a list, should be a dictionary"),
        (b"d4:infodee", "info.name: missing"),
        (b"d4:infod4:namei1eee", "info.name: an integer, should be a string"),
        (b"d4:infod4:name1:aee", "info.piece length: missing"),
    ];
    for (bytes, message) in table {
        assert_eq!(refusal(bytes), *message);
    }
}

#[test]
fn a_wrong_info_is_refused_with_the_key() {
    let hash = b"aaaaaaaaaaaaaaaaaaaa";
    let pieces = join(&[b"6:pieces20:", hash]);
    let table: &[(&[&[u8]], &str)] = &[
        (&[b"12:piece lengthi0e", &pieces, b"6:lengthi1e"], "info.piece length: 0"),
        (&[b"12:piece lengthi-1e", &pieces, b"6:lengthi1e"], "info.piece length: -1 is negative"),
        (
            &[b"12:piece length2:64", &pieces, b"6:lengthi1e"],
            "info.piece length: a string, should be an integer",
        ),
        (
            &[b"12:piece lengthi268435457e", &pieces, b"6:lengthi1e"],
            "info.piece length: 268435457 bytes; up to 268435456 can be handled",
        ),
        (
            &[b"12:piece lengthi99999999999999999999e", &pieces, b"6:lengthi1e"],
            "info.piece length: does not fit 64 bits",
        ),
        (&[b"12:piece lengthi1e", b"6:lengthi1e"], "info.pieces: missing"),
        (&[b"12:piece lengthi1e6:piecesle6:lengthi1e"], "info.pieces: a list, should be a string"),
        (
            &[b"12:piece lengthi1e6:pieces19:", &hash[1..], b"6:lengthi1e"],
            "info.pieces: 19 bytes, not a multiple of 20",
        ),
        (
            &[b"12:piece lengthi10e", &pieces, b"6:lengthi11e"],
            "info.pieces: 1 hashes, but 11 bytes in pieces of 10 bytes need 2: a contradiction",
        ),
        (
            &[b"12:piece lengthi10e", &pieces, b"6:lengthi0e"],
            "info.pieces: 1 hashes, but 0 bytes in pieces of 10 bytes need 0: a contradiction",
        ),
        (&[b"12:piece lengthi10e", &pieces, b"6:lengthi-5e"], "info.length: -5 is negative"),
        (&[b"12:piece lengthi10e", &pieces, b"6:length1:5"], "info.length: a string, should be an integer"),
        (&[b"12:piece lengthi10e", &pieces], "info: neither length nor files"),
        (
            &[b"12:piece lengthi10e", &pieces, b"6:lengthi1e5:filesle"],
            "info: both length and files: a contradiction",
        ),
        (
            &[b"12:piece lengthi1e", &pieces, b"6:lengthi9223372036854775807e"],
            "info.files: their sizes are too large to be true",
        ),
        (&[b"12:piece lengthi10e", &pieces, b"5:filesle"], "info.files: empty: a torrent of nothing"),
        (&[b"12:piece lengthi10e", &pieces, b"5:filesde"], "info.files: a dictionary, should be a list"),
        (
            &[b"9:file treede12:meta versioni2e12:piece lengthi16384e"],
            "info.file tree: empty: a torrent of nothing",
        ),
    ];
    for (entries, message) in table {
        assert_eq!(refusal(&with_info(&join(&[b"4:name1:n", &entries.concat()]))), *message);
    }
}

#[test]
fn a_wrong_file_is_refused_with_its_place_in_the_list() {
    const GOOD: &[u8] = b"d6:lengthi1e4:pathl1:aee";
    let many = join(&[b"d6:lengthi1e4:pathl", &b"1:a".repeat(1001), b"ee"]);
    let table: &[(&[u8], &str)] = &[
        (b"i1e", "info.files[1]: not a dictionary"),
        (b"de", "info.files[1].length: missing"),
        (b"d6:lengthi-1e4:pathl1:aee", "info.files[1].length: -1 is negative"),
        (b"d6:lengthi1ee", "info.files[1].path: missing"),
        (b"d6:lengthi1e4:path1:ae", "info.files[1].path: a string, should be a list"),
        (b"d6:lengthi1e4:pathli1eee", "info.files[1].path: an integer, should be a string"),
        (b"d6:lengthi1e4:pathlee", "info.files[1].path: empty: a file without a name"),
        (&many, "info.files[1].path: more than 1000 components"),
    ];
    for (file, message) in table {
        assert_eq!(refusal(&with_files(&join(&[GOOD, file]))), *message);
    }
    let huge = b"d6:lengthi9223372036854775807e4:pathl1:bee".repeat(3);
    assert_eq!(refusal(&with_files(&huge)), "info.files: their sizes are too large to be true");
}

#[test]
fn the_bounds_hold_at_their_edge() {
    let pieces = |count: usize| {
        let hashes = vec![b'h'; count * 20];
        let head = format!("4:name1:n6:lengthi{count}e12:piece lengthi1e6:pieces{}:", hashes.len());
        with_info(&join(&[head.as_bytes(), &hashes]))
    };
    assert_eq!(Metainfo::parse(&pieces(MAX_PIECES)).unwrap().layout.num_pieces(), 1 << 21);
    assert_eq!(refusal(&pieces(MAX_PIECES + 1)), "info.pieces: 2097153 pieces; up to 2097152 can be handled");
    let files = b"d6:lengthi0e4:pathl0:ee".repeat(MAX_FILES);
    assert_eq!(refusal(&with_files(&join(&[&files, b"de"]))), "info.files: more than 1000000");
}

#[test]
fn a_torrent_of_no_bytes_has_no_pieces() {
    let torrent =
        Metainfo::parse(&with_info(b"6:lengthi0e4:name1:n12:piece lengthi16384e6:pieces0:")).unwrap();
    assert_eq!((torrent.layout.num_pieces(), torrent.layout.total(), torrent.files.len()), (0, 0, 1));
}

#[test]
fn trackers_are_tiers_of_usable_urls() {
    let trackers = |top: &[u8]| {
        let torrent = Metainfo::parse(&with_top(top)).unwrap();
        (torrent.trackers, torrent.notes)
    };
    // The list wins over `announce` (BEP 12); a tier may be a bare string; doubles and odd ones go.
    let (tiers, notes) = trackers(
        b"8:announce10:http://z/a13:announce-listl\
        l11: HTTP://a/a10:udp://b:80el10:http://a/a5:wss:/e10:https://c/l7:udp://d7:http://ee",
    );
    assert_eq!(tiers, [vec!["http://a/a", "udp://b:80"], vec!["https://c/"]]);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert_eq!(notes[0], "tracker \"wss:/\" left out: not a usable http/https/udp URL");
    assert_eq!(trackers(b"8:announce10:http://z/a13:announce-listllee").0, [["http://z/a"]]);
    assert_eq!(trackers(b"8:announce10:http://z/a13:announce-listi1e").0, [["http://z/a"]]);
    assert_eq!(trackers(b"8:announce0:").0, Vec::<Vec<String>>::new());
    let many: Vec<u8> = (0..1500).flat_map(|n| format!("l18:http://t/{n:04}/abcde").into_bytes()).collect();
    let (tiers, notes) = trackers(&join(&[b"13:announce-listl", &many, b"e"]));
    assert_eq!(
        (tiers.len(), notes),
        (1000, vec!["announce-list: more than 1000 trackers, 500 left out".to_owned()])
    );
}

#[test]
fn urls_that_cannot_work_are_left_out() {
    let accepts = |url: &str| {
        let top = format!("8:announce{}:{url}", url.len());
        Metainfo::parse(&with_top(top.as_bytes())).unwrap().trackers.len() == 1
    };
    let long = format!("http://h/{}", "x".repeat(2040));
    for bad in [
        "http://",
        "http:///a",
        "udp://h",
        "udp://h:0",
        "http://h:99999/",
        "http://h:/",
        "http://a b/",
        "http://h/\nx",
        "http://h/\u{e9}",
        "ftp://h/",
        "javascript:alert(1)",
        "http://[::1/",
        "http://[zz]/",
        "http://a]/",
        "h",
        &long,
    ] {
        assert!(!accepts(bad), "{bad}");
    }
    for good in [
        "http://h",
        "http://h?x=1",
        "HTTPS://h:443/a",
        "udp://h:1/announce",
        "http://[::1]/a",
        "http://[2001:db8::1]:80/",
        "udp://10.0.0.1:6969",
        "http://user:word@h:80/a",
        "http://a_b.example/x%20y",
    ] {
        assert!(accepts(good), "{good}");
    }
}

#[test]
fn the_optional_keys_are_read_or_left_out() {
    let top = b"7:comment3:a\xffb10:created by2:me13:creation datei12e5:nodesll4:hosti80eel4:hosti0eeli1ei1ee4:texte\
        8:url-listl15:http://s/a/x?y=5:ftp:/e";
    let torrent = Metainfo::parse(&with_top(top)).unwrap();
    assert_eq!(torrent.comment.as_deref(), Some("a\u{fffd}b"));
    assert_eq!(torrent.created_by.as_deref(), Some("me"));
    assert_eq!(torrent.creation_date, Some(12));
    assert_eq!(torrent.nodes, [("host".to_owned(), 80)]);
    assert_eq!(torrent.url_list, ["http://s/a/x?y="]);
    let odd = b"7:commenti1e10:created byle13:creation date1:x5:nodesi1e8:url-listd1:ai1ee";
    let torrent = Metainfo::parse(&with_top(odd)).unwrap();
    assert!(torrent.comment.is_none() && torrent.created_by.is_none() && torrent.creation_date.is_none());
    assert!(torrent.nodes.is_empty() && torrent.url_list.is_empty());
    assert!(!torrent.private);
    assert_eq!(Metainfo::parse(&with_top(b"8:url-list10:http://s/a")).unwrap().url_list, ["http://s/a"]);
}

#[test]
fn a_torrent_is_private_unless_it_clearly_is_not() {
    let private = |value: &str| {
        let info = format!("4:name1:n12:piece lengthi1e6:pieces0:6:lengthi0e7:private{value}");
        Metainfo::parse(&with_info(info.as_bytes())).unwrap().private
    };
    assert!(private("i1e") && private("i2e") && private("1:1"));
    assert!(!private("i0e"));
}

#[test]
fn names_in_utf8_win_over_those_in_older_encodings() {
    let torrent = Metainfo::parse(&with_info(
        b"4:name2:\x93\xfa10:name.utf-83:\xe6\x97\xa512:piece lengthi100e6:pieces20:aaaaaaaaaaaaaaaaaaaa\
        5:filesld6:lengthi1e4:pathl1:\x93e10:path.utf-8l3:\xe6\x97\xa5eed6:lengthi1e4:pathl1:ae10:path.utf-8l1:\xffeee",
    ))
    .unwrap();
    let paths: Vec<_> = torrent.files.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, ["\u{65e5}/\u{65e5}", "\u{65e5}/a"]);
    assert_eq!(torrent.name, "\u{65e5}");
}

#[test]
fn a_pad_file_needs_no_path() {
    for path in ["", "4:pathle"] {
        let pad = format!("d4:attr1:p6:lengthi5e{path}e");
        let real = b"d6:lengthi1e4:pathl3:runee";
        let torrent = Metainfo::parse(&with_files(&join(&[real, pad.as_bytes(), pad.as_bytes()]))).unwrap();
        let files: Vec<_> = torrent.files.iter().map(|file| (&*file.path, file.pad)).collect();
        assert_eq!(files, [("t/run", false), ("t/.pad/0", true), ("t/.pad/0~2", true)]);
        assert!(torrent.notes.is_empty(), "{:?}", torrent.notes);
    }
    let real = Metainfo::parse(&with_files(&join(&[b"d6:lengthi1ee"]))).unwrap_err();
    assert_eq!(real.to_string(), "info.files[0].path: missing");
}

#[test]
fn pad_files_take_no_name_from_a_real_one_and_are_not_told() {
    let pad = b"d4:attr1:p6:lengthi5e4:pathl4:.pad1:5ee";
    let torrent = Metainfo::parse(&with_files(&join(&[
        pad,
        b"d6:lengthi1e4:pathl4:.pad1:5ee",
        pad,
        b"d4:attr2:hx6:lengthi1e4:pathl3:runee",
    ])))
    .unwrap();
    let paths: Vec<_> = torrent.files.iter().map(|file| (&*file.path, file.pad, file.executable)).collect();
    let expected = [
        ("t/.pad/5~2", true, false),
        ("t/.pad/5", false, false),
        ("t/.pad/5~3", true, false),
        ("t/run", false, true),
    ];
    assert_eq!(paths, expected);
    assert!(torrent.layout.files().iter().zip(&torrent.files).all(|(extent, file)| extent.pad == file.pad));
    assert!(torrent.notes.is_empty(), "{:?}", torrent.notes);
}

#[test]
fn symbolic_links_lead_to_what_is_in_the_torrent_or_are_left_out() {
    let link = |to: &str| {
        let file = "d6:lengthi1e4:pathl3:Dir4:fileeed6:lengthi0e4:pathl3:dir1:xee";
        let link = format!("d4:attr1:l6:lengthi0e4:pathl4:linke12:symlink pathl{to}ee");
        let torrent = Metainfo::parse(&with_files(&join(&[file.as_bytes(), link.as_bytes()]))).unwrap();
        assert_eq!(
            torrent.files[2].symlink.is_none(),
            torrent.notes.iter().any(|note| note.contains("link"))
        );
        torrent.files[2].symlink.as_deref().map(str::to_owned)
    };
    assert_eq!(link("3:Dir4:file").as_deref(), Some("t/Dir/file"));
    assert_eq!(link("3:Dir").as_deref(), Some("t/Dir"));
    assert_eq!(link("3:dir1:x").as_deref(), Some("t/dir~2/x"), "by the name on disk");
    for outside in [
        "2:..",
        "2:..3:Dir4:file",
        "3:Dir2:..3:Dir",
        "11:/etc/passwd",
        "0:3:etc",
        "1:/",
        "",
        "1:.",
        "4:none",
        "4:link",
        "3:Dir4:file1:x",
        "8:Dir/file",
        "i1e",
        "3:Diri1e",
        "le",
    ] {
        assert_eq!(link(outside), None, "{outside}");
    }
}

#[test]
fn a_link_to_a_file_that_had_to_take_another_name_leads_to_it() {
    let files = "d6:lengthi1e4:pathl1:Aeed6:lengthi0e4:pathl1:aeed6:lengthi0e4:pathl1:Aee";
    for (to, path) in [("1:a", "t/a~2"), ("1:A", "t/A")] {
        let link = format!("d4:attr1:l6:lengthi0e4:pathl4:linke12:symlink pathl{to}ee");
        let torrent = Metainfo::parse(&with_files(&join(&[files.as_bytes(), link.as_bytes()]))).unwrap();
        assert_eq!(torrent.files[3].symlink.as_deref(), Some(path));
    }
}

#[test]
fn a_link_that_has_data_is_a_file() {
    let torrent = Metainfo::parse(&with_files(
        b"d4:attr1:l6:lengthi9e4:pathl4:linke12:symlink pathl1:aeed4:attr1:l4:pathl1:ae12:symlink pathl4:linkee",
    ))
    .unwrap();
    assert_eq!(torrent.files[0].symlink, None);
    assert_eq!((torrent.files[1].symlink.as_deref(), torrent.files[1].length), (Some("t/link"), 0));
}

#[test]
fn a_file_tree_without_its_version_means_nothing_where_version_1_is_whole() {
    let torrent = Metainfo::parse(&with_info(
        b"9:file treed1:nd0:d6:lengthi1eeee6:lengthi1e4:name1:n12:piece lengthi16384e\
        6:pieces20:aaaaaaaaaaaaaaaaaaaa",
    ))
    .unwrap();
    assert_eq!((torrent.layout.total(), torrent.info_hash.v2()), (1, None));
}

/// What the rest of the program relies on, whatever was read.
fn check(torrent: &Metainfo) {
    if let Some(hashes) = torrent.piece_hashes.v1() {
        assert_eq!(hashes.len(), torrent.layout.num_pieces() as usize);
    }
    assert_eq!(torrent.files.len(), torrent.layout.files().len());
    assert!(!torrent.files.is_empty());
    let lengths = torrent.layout.files().iter().map(|extent| extent.length);
    assert!(lengths.eq(torrent.files.iter().map(|file| file.length)));
    let links = torrent.files.iter().filter_map(|file| file.symlink.as_deref());
    for path in torrent.files.iter().map(|file| &*file.path).chain(links) {
        assert!(
            path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255),
            "{path:?}"
        );
        assert_eq!(escape(path), path);
    }
    assert!(torrent.notes.iter().all(|note| escape(note) == note.as_str()));
}

/// A torrent that uses every key.
fn rich() -> Vec<u8> {
    let files = join(&[
        b"d4:attr1:x6:lengthi60e4:pathl1:b1:aee",
        b"d4:attr1:p6:lengthi4e4:pathl4:.pad1:4ee",
        b"d4:attr1:l6:lengthi0e4:pathl1:le12:symlink pathl1:b1:aee",
        b"d6:lengthi30e4:pathl2:..1:aee",
    ]);
    let info = with_files(&files);
    join(&[
        b"d8:announce10:http://z/a13:announce-listll10:http://z/ael10:udp://z:80ee7:comment2:hi13:creation datei5e",
        &info[1..info.len() - 1],
        b"5:nodesll4:hosti80eee8:url-listl10:http://s/aee",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_mutated_torrent_never_panics_and_what_is_accepted_is_sound(
        kind in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3, any::<u8>()), 1..6),
    ) {
        let sample = |hybrid| samples::Sample::new(&[("a", 40_000), ("b/c", 5), ("b/empty", 0)], hybrid).torrent();
        let mut bytes = match kind {
            0 => torrent(Content::File(150)),
            1 => rich(),
            _ => sample(kind == 3),
        };
        prop_assert!(Metainfo::parse(&bytes).is_ok());
        for (at, how, byte) in changes {
            // Half of the new bytes are ones that bencode knows, so that some mutants still parse.
            let byte = if byte < 128 { b"0123456789dlei:-"[usize::from(byte % 16)] } else { byte };
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Ok(torrent) = Metainfo::parse(&bytes) {
            check(&torrent);
        }
    }

    #[test]
    fn no_part_of_a_torrent_is_a_torrent(end in any::<prop::sample::Index>()) {
        let bytes = rich();
        prop_assert!(Metainfo::parse(&bytes[..end.index(bytes.len())]).is_err());
    }
}

#[test]
fn what_stands_behind_the_torrent_is_ignored_and_told_and_what_stands_before_is_refused() {
    let bytes = folder();
    let plain = Metainfo::parse(&bytes).unwrap();
    for (behind, said) in [("\n", "1 byte is behind"), ("\r\n--form--", "10 bytes are behind")] {
        let longer = Metainfo::parse(&[&bytes, behind.as_bytes()].concat()).unwrap();
        assert_eq!((longer.info_hash, longer.notes.len()), (plain.info_hash, plain.notes.len() + 1));
        assert!(longer.notes[0].contains(said), "{:?}", longer.notes);
        assert!(Metainfo::parse(&[behind.as_bytes(), &bytes].concat()).is_err());
    }
}
