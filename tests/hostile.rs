//! Torrents that mean harm: each is shown, checked and downloaded from a real seeder, and everything
//! below and beside basedir is compared before and after.
//!
//! Has a main of its own: a test for each torrent.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

use support::crafted::{
    Bench, Item, dict, end_of, files_in, hashes, info, list, names, number, string, tree,
};
use support::process::Process;

const PIECE: usize = 1024;

/// A torrent that means harm.
struct Case {
    label: String,
    torrent: Torrent,
}

enum Torrent {
    /// It can be read, and must stay where it belongs: its `info`, and all its data.
    Loads { info: Vec<u8>, stream: Vec<u8> },
    /// An `info` that makes no sense.
    Refused(Vec<u8>),
    /// A file that is no torrent.
    Junk(Vec<u8>),
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Strangers' absolute paths point here; nothing may ever come of it.
    let outside = tempfile::tempdir().unwrap();
    let cases = cases(outside.path());
    assert!(
        cases.len() >= 80
            && cases.iter().map(|case| &case.label).collect::<BTreeSet<_>>().len() == cases.len()
    );
    let trials = cases.into_iter().map(|case| {
        let outside = outside.path().to_owned();
        let name = match &case.torrent {
            Torrent::Loads { .. } => format!("{}_stays_in_its_folder", case.label),
            Torrent::Refused(_) | Torrent::Junk(_) => format!("{}_is_refused", case.label),
        };
        Trial::test(name, move || {
            run(case.torrent);
            assert!(tree(&outside).is_empty());
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn cases(outside: &Path) -> Vec<Case> {
    let mut cases = components(outside);
    cases.extend(clashes());
    cases.extend(top_names(outside));
    cases.extend(links(outside));
    cases.extend(odd_keys());
    cases.extend(nonsense());
    cases.extend(no_torrents());
    cases
}

fn loads(label: &str, name: &[u8], items: &[Item], single: bool) -> Case {
    let stream = items.iter().flat_map(|item| item.data.clone()).collect();
    let info = info(name, PIECE, items, single);
    Case { label: label.to_owned(), torrent: Torrent::Loads { info, stream } }
}

fn item(path: &[&[u8]]) -> Item {
    let path = path.iter().map(|component| component.to_vec()).collect();
    Item { path, ..Item::new("data", 700) }
}

/// One bad path between two good ones.
fn components(outside: &Path) -> Vec<Case> {
    let absolute = outside.join("evil").into_os_string().into_encoded_bytes();
    let (long, longer) = ([b'x'; 300], [b'y'; 10_000]);
    let wide = "\u{6587}".repeat(100);
    let deep = |count: usize| vec![&b"d"[..]; count];
    let up_and_out = [vec![&b".."[..]; 40], vec![b"tmp", b"evil"]].concat();
    let long_folders = [vec![&[b'z'; 255][..]; 30], vec![b"file"]].concat();
    let table: Vec<(&str, Vec<&[u8]>)> = vec![
        ("a_path_up", vec![b"..", b"..", b"evil"]),
        ("a_path_far_up", up_and_out),
        ("a_path_down_and_up", vec![b"a", b"..", b"..", b"evil"]),
        ("a_component_up", vec![b"../../evil"]),
        ("a_component_up_the_windows_way", vec![b"..\\..\\evil"]),
        ("a_component_from_the_root", vec![b"/etc/evil"]),
        ("a_path_from_the_root", vec![b"", b"etc", b"evil"]),
        ("an_absolute_path", vec![&absolute]),
        ("a_drive", vec![b"C:\\evil"]),
        ("a_share", vec![b"\\\\host\\share\\evil"]),
        ("a_nul", vec![b"a\0b"]),
        ("a_nul_at_the_end", vec![b"evil\0.txt"]),
        ("a_line_break", vec![b"a\nwarning: all is well"]),
        ("a_carriage_return", vec![b"a\rb"]),
        ("a_tab", vec![b"a\tb"]),
        ("an_escape_sequence", vec![b"\x1b[2J\x1b]0;evil\x07"]),
        ("a_delete", vec![b"a\x7fb"]),
        ("a_c1_control", vec!["\u{9b}2J".as_bytes()]),
        ("an_override_of_direction", vec!["evil\u{202e}gpj.exe".as_bytes()]),
        ("an_isolate", vec!["\u{2066}evil\u{2069}".as_bytes()]),
        ("a_line_separator", vec!["a\u{2028}b\u{2029}c".as_bytes()]),
        ("a_byte_order_mark", vec!["\u{feff}a".as_bytes()]),
        ("tag_characters", vec!["a\u{e0041}b\u{e007f}".as_bytes()]),
        ("a_zero_width_space", vec!["a\u{200b}b".as_bytes()]),
        ("bytes_that_are_no_text", vec![b"\xff\xfe\xfd"]),
        ("an_overlong_slash", vec![b"..\xc0\xafevil"]),
        ("a_surrogate", vec![b"\xed\xa0\x80"]),
        ("a_cut_character", vec![b"abc\xe2\x80"]),
        ("only_a_dot", vec![b"."]),
        ("only_dots", vec![b".", b".", b"."]),
        ("only_two_dots", vec![b".."]),
        ("no_name", vec![b""]),
        ("no_names", vec![b"", b"", b""]),
        ("a_folder_at_the_end", vec![b"a", b""]),
        ("three_dots", vec![b"..."]),
        ("a_home", vec![b"~", b"evil"]),
        ("a_users_home", vec![b"~root"]),
        ("an_option", vec![b"-rf"]),
        ("a_command", vec![b"$(touch evil)`touch evil`;touch evil"]),
        ("a_variable", vec![b"${HOME}"]),
        ("an_encoded_path_up", vec![b"%2e%2e%2fevil"]),
        ("wide_dots", vec!["\u{ff0e}\u{ff0e}\u{ff0f}evil".as_bytes()]),
        ("a_long_name", vec![&long]),
        ("a_very_long_name", vec![&longer]),
        ("a_long_name_of_wide_characters", vec![wide.as_bytes()]),
        ("a_deep_path", deep(90)),
        ("a_very_deep_path", deep(900)),
        ("long_folders", long_folders),
        ("a_reserved_name", vec![b"con"]),
        ("reserved_folders", vec![b"aux", b"nul.txt"]),
        ("spaces_and_dots_at_the_end", vec![b"a. . "]),
        ("a_stream_of_another_file", vec![b"good 1:evil"]),
        ("wildcards", vec![b"*?<>|\""]),
        ("a_part_file", vec![b".0123456789012345678901234567890123456789.parts"]),
        ("a_path_through_the_system", vec![b"proc", b"self", b"cwd"]),
    ];
    let case = |(label, path): (&str, Vec<&[u8]>)| {
        loads(label, b"t", &[item(&[b"good 1"]), item(&path), item(&[b"good 2"])], false)
    };
    table.into_iter().map(case).collect()
}

/// Names that are one and the same somewhere.
fn clashes() -> Vec<Case> {
    let table: &[(&str, &[&[&[u8]]])] = &[
        ("the_same_path_thrice", &[&[b"a"], &[b"a"], &[b"a"]]),
        ("names_that_differ_in_case", &[&[b"Readme"], &[b"README"], &[b"readme"]]),
        ("folders_that_differ_in_case", &[&[b"d", b"x"], &[b"D", b"x"]]),
        ("names_that_differ_in_form", &[&["\u{e9}".as_bytes()], &["e\u{301}".as_bytes()]]),
        ("names_that_differ_in_what_is_ignored", &[&[b"ab"], &["a\u{200d}b".as_bytes()]]),
        ("sharp_letters", &[&["stra\u{df}e".as_bytes()], &[b"STRASSE"]]),
        ("a_file_where_a_folder_is", &[&[b"a", b"b"], &[b"a"]]),
        ("a_folder_where_a_file_is", &[&[b"a"], &[b"a", b"b"], &[b"a", b"b", b"c"]]),
        ("names_like_those_that_are_given", &[&[b"a"], &[b"a~2"], &[b"a"], &[b"A~2"], &[b"a~3"]]),
        ("names_that_are_the_same_once_mended", &[&[b"a/b"], &[b"a\\b"], &[b"a\0b"], &[b"a_b"]]),
        ("paths_that_are_the_same_once_mended", &[&[b"a", b".", b"b"], &[b"a", b"", b"b"], &[b"a", b"b"]]),
    ];
    let case = |(label, paths): &(&str, &[&[&[u8]]])| {
        loads(label, b"t", &paths.iter().map(|path| item(path)).collect::<Vec<_>>(), false)
    };
    let long = |end: &str| item(&[("x".repeat(300) + end + ".iso").as_bytes()]);
    let cut = loads("long_names_that_are_the_same_once_cut", b"t", &[long("a"), long("b"), long("c")], false);
    table.iter().map(case).chain([cut]).collect()
}

/// Bad names of the torrent itself, as a file and as a folder.
fn top_names(outside: &Path) -> Vec<Case> {
    let absolute = outside.join("evil").into_os_string().into_encoded_bytes();
    let long = [b'x'; 300];
    let table: &[(&str, &[u8])] = &[
        ("that_leads_up", b".."),
        ("that_leads_far_up", b"../../../../evil"),
        ("of_a_dot", b"."),
        ("of_nothing", b""),
        ("of_a_slash", b"/"),
        ("of_a_nul", b"\0"),
        ("from_the_root", &absolute),
        ("with_a_folder", b"folder/evil"),
        ("that_is_long", &long),
        ("that_is_no_text", b"\xff\xfe\x80"),
        ("with_an_escape_sequence", b"\x1b[2Jevil\x1b]0;evil\x07"),
        ("of_the_beside", b"beside"),
    ];
    let cases = table.iter().flat_map(|(label, name)| {
        let items = [item(&[b"a"]), item(&[b"..", b"evil"]), item(&[b"beside"])];
        [
            loads(&format!("a_file_with_a_name_{label}"), name, &items[..1], true),
            loads(&format!("a_folder_with_a_name_{label}"), name, &items, false),
        ]
    });
    cases.collect()
}

fn link(path: &[&[u8]], target: &[&[u8]]) -> Item {
    let symlink = target.iter().map(|component| component.to_vec()).collect();
    Item { attr: "l", symlink, data: Vec::new(), ..item(path) }
}

/// Symbolic links (BEP 47) that lead somewhere else, or seem to.
fn links(outside: &Path) -> Vec<Case> {
    let absolute = outside.to_owned().into_os_string().into_encoded_bytes();
    let a = || item(&[b"a"]);
    let through = |target: &[&[u8]]| vec![link(&[b"d"], target), item(&[b"d", b"evil"]), a()];
    let table: Vec<(&str, Vec<Item>)> = vec![
        ("a_link_up", vec![a(), link(&[b"l"], &[b".."])]),
        ("a_link_to_the_beside", vec![a(), link(&[b"l"], &[b"..", b"beside"])]),
        ("a_link_far_up", vec![a(), link(&[b"s", b"l"], &[b"..", b"..", b"..", b"..", b"etc"])]),
        ("a_link_to_the_root", vec![a(), link(&[b"l"], &[b"/"])]),
        ("a_link_to_an_absolute_path", vec![a(), link(&[b"l"], &[&absolute])]),
        ("a_link_to_the_root_by_an_empty_name", vec![a(), link(&[b"l"], &[b"", b"etc", b"passwd"])]),
        ("a_link_out_and_back", vec![a(), link(&[b"l"], &[b"..", b"t", b"a"])]),
        ("a_link_to_itself", vec![a(), link(&[b"l"], &[b"l"])]),
        ("links_in_a_ring", vec![a(), link(&[b"l"], &[b"m"]), link(&[b"m"], &[b"l"])]),
        ("a_link_to_nothing", vec![a(), link(&[b"l"], &[b"nothing"])]),
        ("a_link_without_a_target", vec![a(), link(&[b"l"], &[])]),
        ("a_link_with_a_nul", vec![a(), link(&[b"l"], &[b"a\0/etc"])]),
        ("a_file_below_a_link_up", through(&[b".."])),
        ("a_file_below_a_link_to_an_absolute_path", through(&[&absolute])),
        ("a_file_below_a_link_to_a_folder", [through(&[b"e"]), vec![item(&[b"e", b"x"])]].concat()),
        ("a_link_with_data", vec![a(), Item { data: vec![7; 50], ..link(&[b"l"], &[b"a"]) }]),
        ("a_link_that_pads", vec![a(), Item { attr: "lp", ..link(&[b"l"], &[b".."]) }]),
        ("a_link_in_a_files_place", vec![a(), link(&[b"a"], &[b".."])]),
        ("padding_with_a_path_up", vec![a(), Item { attr: "p", ..item(&[b"..", b"evil"]) }, item(&[b"b"])]),
        ("padding_in_a_files_place", vec![a(), Item { attr: "p", ..item(&[b"a"]) }, item(&[b"b"])]),
        ("nothing_but_padding", vec![Item { attr: "p", ..item(&[b"a"]) }]),
        ("attributes_that_do_not_exist", vec![Item { attr: "zqh\x1b", ..a() }]),
        ("only_empty_files", vec![Item::new("a", 0), Item::new("../evil", 0), Item::new("b/c", 0)]),
    ];
    // What pads is zeros.
    let zeros = |item: &Item| match item.attr.contains('p') {
        true => Item { data: vec![0; item.data.len()], ..item.clone() },
        false => item.clone(),
    };
    let case = |(label, items): (&str, Vec<Item>)| {
        loads(label, b"t", &items.iter().map(zeros).collect::<Vec<_>>(), false)
    };
    table.into_iter().map(case).collect()
}

/// Keys that say the same in another way, or something else.
fn odd_keys() -> Vec<Case> {
    let data = vec![9; 2000];
    let pieces = || ("pieces", string(&hashes(&data, PIECE)));
    let size = || ("piece length", number(PIECE as u64));
    let path = |components: &[&str]| {
        names(&components.iter().map(|component| component.as_bytes().to_vec()).collect::<Vec<_>>())
    };
    let file = |more: (&'static str, Vec<u8>)| {
        let mut entries = vec![("length", number(2000)), ("path", path(&["a"]))];
        entries.push(more);
        list(&[dict(&entries)])
    };
    let table = [
        (
            "another_path_in_utf_8",
            dict(&[
                ("files", file(("path.utf-8", path(&["..", "..", "evil"])))),
                ("name", string(b"t")),
                size(),
                pieces(),
            ]),
        ),
        (
            "another_name_in_utf_8",
            dict(&[
                ("files", file(("sha1", string(b"x")))),
                ("name", string(b"t")),
                ("name.utf-8", string(b"../evil")),
                size(),
                pieces(),
            ]),
        ),
        (
            "keys_that_nobody_knows",
            dict(&[
                ("length", number(2000)),
                ("name", string(b"t")),
                ("path", path(&["..", "evil"])),
                size(),
                pieces(),
                ("profiles", list(&[list(&[]), dict(&[])])),
                ("symlink path", path(&["..", "evil"])),
            ]),
        ),
    ];
    let case = |(label, info): (&str, Vec<u8>)| Case {
        label: label.to_owned(),
        torrent: Torrent::Loads { info, stream: data.clone() },
    };
    table.into_iter().map(case).collect()
}

/// Each says something that cannot be.
fn nonsense() -> Vec<Case> {
    let name = || ("name", string(b"t"));
    let size = |bytes: &[u8]| ("piece length", bytes.to_vec());
    let pieces = |bytes: usize| ("pieces", string(&vec![7; bytes]));
    let single = |length: &[u8], piece_length: &[u8], hashes: usize| {
        dict(&[("length", length.to_vec()), name(), size(piece_length), pieces(hashes)])
    };
    let file = |length: &[u8], path: Vec<u8>| dict(&[("length", length.to_vec()), ("path", path)]);
    let files = |files: &[Vec<u8>]| dict(&[("files", list(files)), name(), size(b"i1024e"), pieces(20)]);
    let a = || names(&[b"a".to_vec()]);
    let huge = b"i9223372036854775807e";
    let table = vec![
        ("an_empty_path", files(&[file(b"i5e", list(&[]))])),
        ("a_path_of_numbers", files(&[file(b"i5e", list(&[number(1)]))])),
        ("a_path_that_is_no_list", files(&[file(b"i5e", string(b"../evil"))])),
        ("a_path_of_lists", files(&[file(b"i5e", list(&[a()]))])),
        ("a_file_without_a_path", files(&[dict(&[("length", number(5))])])),
        ("a_file_without_a_length", files(&[dict(&[("path", a())])])),
        ("a_file_that_is_no_dictionary", files(&[string(b"a")])),
        ("a_negative_length", files(&[file(b"i-5e", a())])),
        ("a_length_of_text", files(&[file(b"1:5", a())])),
        ("an_endless_length", files(&[file(b"i99999999999999999999999999e", a())])),
        ("lengths_that_wrap_around", files(&[file(huge, a()), file(huge, a()), file(b"i7e", a())])),
        ("no_files", files(&[])),
        ("files_that_are_no_list", dict(&[("files", a_dict()), name(), size(b"i1024e"), pieces(20)])),
        ("more_data_than_hashes", single(b"i5000e", b"i1024e", 20)),
        ("more_hashes_than_data", single(b"i5e", b"i1024e", 40)),
        ("hashes_that_are_cut", single(b"i5e", b"i1024e", 19)),
        ("no_hashes", single(b"i5e", b"i1024e", 0)),
        ("pieces_of_nothing", single(b"i5e", b"i0e", 20)),
        ("pieces_of_less_than_nothing", single(b"i5e", b"i-1024e", 20)),
        ("gigantic_pieces", single(b"i5e", b"i4294967296e", 20)),
        ("a_negative_size", single(b"i-5e", b"i1024e", 20)),
        ("a_file_that_is_a_folder_too", {
            dict(&[("files", list(&[])), ("length", number(5)), name(), size(b"i1024e"), pieces(20)])
        }),
        ("neither_file_nor_folder", dict(&[name(), size(b"i1024e"), pieces(20)])),
        ("a_name_that_is_a_number", {
            dict(&[("length", number(5)), ("name", number(5)), size(b"i1024e"), pieces(20)])
        }),
        ("a_torrent_without_a_name", dict(&[("length", number(5)), size(b"i1024e"), pieces(20)])),
        ("an_info_that_is_a_list", list(&[])),
        ("an_info_that_is_empty", dict(&[])),
    ];
    let case =
        |(label, info): (&str, Vec<u8>)| Case { label: label.to_owned(), torrent: Torrent::Refused(info) };
    table.into_iter().map(case).collect()
}

fn a_dict() -> Vec<u8> {
    dict(&[("a", number(1))])
}

fn no_torrents() -> Vec<Case> {
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("an_empty_torrent", Vec::new()),
        ("a_web_page", b"<!DOCTYPE html><html>404 \x1b[2J</html>".to_vec()),
        ("a_torrent_that_is_cut", b"d4:infod6:lengthi5e4:name1:t12:piece leng".to_vec()),
        ("a_torrent_without_info", b"d8:announce10:http://t/ae".to_vec()),
        ("a_string_without_an_end", b"d4:info99999999999999999999:x".to_vec()),
        ("lists_without_an_end", vec![b'l'; 1 << 20]),
        ("dictionaries_without_an_end", b"d1:a".repeat(1 << 18)),
        ("a_number_without_an_end", [b"d4:infoi", vec![b'9'; 1 << 20].as_slice()].concat()),
        ("zeros", vec![0; 1 << 16]),
    ];
    let case =
        |(label, bytes): (&str, Vec<u8>)| Case { label: label.to_owned(), torrent: Torrent::Junk(bytes) };
    table.into_iter().map(case).collect()
}

fn run(torrent: Torrent) {
    match torrent {
        Torrent::Loads { info, stream } => stays_in_its_folder(&info, stream),
        Torrent::Refused(info) => is_refused(&Bench::new(&info, Vec::new())),
        Torrent::Junk(bytes) => {
            let bench = Bench::new(b"de", Vec::new());
            fs::write(bench.torrent(), bytes).unwrap();
            is_refused(&bench);
        }
    }
}

/// basedir, deep enough for a few steps up to end inside the bench, and files that must stay.
fn make_place(bench: &Bench, label: &str) -> PathBuf {
    let above = bench.place(&format!("{label} 1/2/3"));
    fs::create_dir_all(&above).unwrap();
    for beside in ["beside", "evil", "../evil", "../../evil"] {
        fs::write(above.join(beside), "mine").unwrap();
    }
    above.join("base")
}

fn assert_harmless(story: &str) {
    let harmful = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}'..='\u{2029}')
    };
    assert!(!story.contains(harmful), "{story:?}");
}

/// Runs btget for its output alone.
fn show(bench: &Bench, options: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    end_of(Process::start("btget", command.arg(bench.torrent()).args(options)))
}

fn is_refused(bench: &Bench) {
    let base = make_place(bench, "leech");
    let before = tree(bench.folder.path());
    let runs = [
        show(bench, &["--show"]),
        show(bench, &["--show", "--json"]),
        bench.run(&base, &["--hashcheck-only"]),
        bench.run(&base, &["--no-seed"]),
    ];
    for (code, story) in runs {
        assert_eq!(code, 26, "{story}");
        assert!(story.contains("cannot read "), "{story}");
        assert_harmless(&story);
    }
    assert_eq!(tree(bench.folder.path()), before);
    assert_eq!(bench.tracker.connections(), 0);
}

fn stays_in_its_folder(info: &[u8], stream: Vec<u8>) {
    let bench = Bench::new(info, stream);
    let metainfo = bench.metainfo();
    let on_disk: Vec<usize> =
        (1..=metainfo.files.len()).filter(|number| !metainfo.files[number - 1].pad).collect();
    let path = |number: usize| Path::new(&*metainfo.files[number - 1].path);
    for &number in &on_disk {
        let plain = path(number).components().all(|component| matches!(component, Component::Normal(_)));
        assert!(plain && path(number).file_name().is_some(), "{:?}", path(number));
    }

    // Neither showing nor checking makes anything.
    let base = make_place(&bench, "leech");
    let before = tree(bench.folder.path());
    for options in [&["--show"][..], &["--show", "--json"]] {
        let (code, story) = show(&bench, options);
        assert_eq!(code, 0, "{story}");
        assert_harmless(&story);
    }
    let (code, story) = bench.run(&base, &["--hashcheck-only"]);
    // Of nothing but padding nothing is missing.
    assert_eq!(code, if on_disk.is_empty() { 0 } else { 7 }, "{story}");
    assert_harmless(&story);
    assert_eq!(tree(bench.folder.path()), before);

    // A download makes just the files that were shown.
    let seed_base = make_place(&bench, "seed");
    let full = bench.full_folder("full");
    fs::rename(full, &seed_base).unwrap();
    let mut seed = bench.seed_from(&seed_base, &[]);
    let (code, story) = bench.run(&base, &["--no-seed"]);
    assert_eq!(code, 0, "{story}");
    assert_harmless(&story);
    seed.terminate();
    seed.wait_for_success();
    for &number in &on_disk {
        let (file, place) = (&metainfo.files[number - 1], base.join(path(number)));
        match &file.symlink {
            None => assert!(fs::read(place).unwrap() == bench.data(number), "{:?}", path(number)),
            Some(target) => {
                let leads_to = place.parent().unwrap().join(fs::read_link(&place).unwrap());
                let inside = leads_to.canonicalize().ok();
                let top = base.canonicalize().unwrap().join(path(number).components().next().unwrap());
                assert!(inside.is_none_or(|inside| inside.starts_with(top)), "{target}");
            }
        }
    }
    let mut expected: Vec<_> =
        on_disk.iter().map(|&number| metainfo.files[number - 1].path.as_bytes().to_vec()).collect();
    let mut found = if base.exists() { files_in(&base) } else { Vec::new() };
    expected.sort();
    found.sort();
    assert_eq!(found, expected);

    // Beside and above, all is as it was.
    let mut after = tree(bench.folder.path());
    let ours = [base.clone(), state_of(&base)];
    after.retain(|path, _| !ours.iter().any(|ours| path.starts_with(ours)) && before.contains_key(path));
    assert_eq!(after, before);
    let new: Vec<_> = tree(&bench.place("leech 1")).into_keys().collect();
    let strange = new
        .iter()
        .filter(|path| !before.contains_key(*path) && !ours.iter().any(|ours| path.starts_with(ours)));
    assert_eq!(strange.count(), 0, "{new:#?}");

    // A later run finds the same files.
    let (code, story) = bench.run(&base, &["--hashcheck-only"]);
    assert_eq!(code, 0, "{story}");
}

fn state_of(base: &Path) -> PathBuf {
    let mut state = base.as_os_str().to_owned();
    state.push(".state");
    state.into()
}
