//! Files, through the binary: which are wanted, the part file, names and links in the way, and what
//! the disk says.
//!
//! Has a main of its own, to report what the machine does not let it do as ignored.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use btget::client::{Client, Order, SessionOptions, TorrentOptions};
use btget::event::{Kind, Severity};
use libtest_mimic::{Arguments, Trial};
use rustix::process::Signal;

use support::crafted::{Bench, Item, end_of, files_in, info, number, string, tree};
use support::process::{PATIENCE, Process, wait_until};
use support::system::{can_mount, can_trace};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    macro_rules! trials {
        ($($needs:expr => $name:ident),* $(,)?) => {
            vec![$(Trial::test(stringify!($name), || { $name(); Ok(()) }).with_ignored_flag(!$needs)),*]
        };
    }
    let trials = trials![
        true => selected_files_come_and_no_others,
        true => files_are_selected_by_glob_and_by_weight_0,
        true => a_selection_of_nothing_is_refused_before_anything_is_made,
        true => bytes_of_unwanted_files_move_in_when_they_are_wanted,
        true => pieces_are_served_and_checked_from_the_part_file,
        true => a_lost_or_damaged_part_file_costs_its_pieces_and_no_more,
        true => a_kill_while_the_part_file_is_in_use_loses_no_verified_piece,
        can_trace() => a_kill_while_bytes_move_in_loses_none,
        true => the_heavy_file_comes_first,
        true => complete_is_all_that_is_wanted_and_seed_is_all_there_is,
        true => what_becomes_wanted_is_fetched_too_and_told,
        true => empty_files_and_links_are_made_and_pad_files_are_not,
        true => a_link_of_the_torrent_never_replaces_anything,
        true => a_missing_empty_file_is_made_though_all_data_are_there,
        true => a_link_in_the_way_never_leads_outside,
        true => a_link_placed_during_the_download_never_leads_outside,
        true => odd_names_are_shown_and_told_once,
        true => a_long_file_keeps_its_tail_until_it_is_written_to,
        true => a_replaced_folder_is_not_filled_and_its_return_is_taken_up,
        can_mount() => a_file_system_mounted_over_the_folder_is_not_filled,
        true => a_torrent_that_begins_paused_makes_nothing_before_it_starts,
        true => full_preallocation_is_refused_on_a_too_small_disk,
        true => a_name_too_long_for_the_file_system_is_told,
        can_trace() => each_error_of_the_disk_has_its_message_and_exit_code,
        can_mount() => a_read_only_file_system_is_told_and_a_whole_torrent_is_seeded_from_it,
        true => a_hundred_thousand_files_need_few_handles,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Five files in pieces of 16 KiB, none of which ends where a piece does.
fn five() -> Bench {
    let items =
        [("a.txt", 40_000), ("b.iso", 30_000), ("sub/c.txt", 50_000), ("sub/d.iso", 2_000), ("e", 70_000)];
    Bench::of(16 << 10, &items.map(|(path, length)| Item::new(path, length)))
}

/// Bytes of the pieces that these files (from 1) overlap.
fn wanted_bytes(bench: &Bench, files: &[usize]) -> u64 {
    let layout = bench.metainfo().layout;
    let piece = u64::from(layout.piece_length());
    let extents: Vec<_> = files.iter().map(|number| layout.files()[number - 1]).collect();
    let pieces = (0..layout.num_pieces()).map(u64::from);
    let wanted = pieces.filter(|index| {
        extents.iter().any(|extent| extent.offset < (index + 1) * piece && index * piece < extent.end())
    });
    wanted.map(|index| piece.min(layout.total() - index * piece)).sum()
}

fn selected_files_come_and_no_others() {
    let bench = five();
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    let (code, story) = bench.run(&folder, &["--files", "2,4", "--no-seed", "--json"]);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &[2, 4]);
    let wanted = wanted_bytes(&bench, &[2, 4]);
    assert!(story.contains(&format!(r#""done":{wanted},"wanted":{wanted},"left":0"#)), "{story}");
    assert!(story.contains(r#""event":"complete""#), "{story}");
    // Those that lie next to them are in the part file, and nowhere else.
    assert!(bench.part_file(&folder).is_some() && files_in(&folder).len() == 3);
    let ours: Vec<_> = bench.tracker.announces().into_iter().skip(1).collect();
    // BEP 3: what the torrent lacks, and only a whole one is a completed download.
    assert_eq!((ours[0].event.as_str(), ours[0].left), ("started", 192_000));
    let last = ours.last().unwrap();
    assert_eq!((last.event.as_str(), last.left), ("stopped", 192_000 - wanted));
    assert!(ours.iter().all(|announce| announce.event != "completed"), "{ours:#?}");
}

fn files_are_selected_by_glob_and_by_weight_0() {
    let bench = five();
    let _seed = bench.seed(&[]);
    let cases: [(&[&str], &[usize]); 4] = [
        (&["--files", "*.txt"], &[1, 3]),
        (&["--files", "sub/*.iso", "--files", "1-2"], &[1, 2, 4]),
        (&["--priority", "*.iso=0", "--priority", "e=0"], &[1, 3]),
        (&["--files", "t/sub", "--priority", "4=0"], &[3]),
    ];
    for (number, (options, files)) in cases.iter().enumerate() {
        let folder = bench.empty_folder(&format!("leech {number}"));
        let (code, story) = bench.run(&folder, &[*options, &["--no-seed"]].concat());
        assert_eq!(code, 0, "{story}");
        bench.assert_just(&folder, files);
    }
}

fn a_selection_of_nothing_is_refused_before_anything_is_made() {
    let bench = five();
    for (options, message) in [
        (["--files", "6"], "there is no file 6"),
        (["--files", "*.mkv"], "matches '*.mkv'"),
        (["--files", "0"], "from 1"),
        (["--priority", "nosuch=3"], "matches 'nosuch'"),
        (["--priority", "1-5=0"], "leave nothing"),
    ] {
        let folder = bench.place("leech");
        let (code, story) = bench.run(&folder, &options);
        assert!(code == 2 && story.contains(message), "{code} {story}");
        assert!(!folder.exists());
    }
    assert_eq!(bench.tracker.connections(), 0);
}

fn bytes_of_unwanted_files_move_in_when_they_are_wanted() {
    let bench = five();
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    // d lies in the last piece of c, and is wanted by nobody at first.
    assert_eq!(bench.run(&folder, &["--files", "3", "--no-seed"]).0, 0);
    bench.assert_just(&folder, &[3]);
    let shared = fs::metadata(bench.part_file(&folder).unwrap()).unwrap().len();
    // All of d is there already: nothing is left to fetch.
    let (code, story) = bench.run(&folder, &["--files", "3-4", "--no-seed"]);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &[3, 4]);
    let rest = fs::metadata(bench.part_file(&folder).unwrap()).unwrap().len();
    assert!(rest < shared, "{rest} {shared}");
    let announces = bench.tracker.announces();
    let second = announces.iter().rposition(|announce| announce.event == "started").unwrap();
    let lacking = 192_000 - wanted_bytes(&bench, &[3, 4]);
    assert_eq!(announces[second].left, lacking, "{announces:#?}");
    // Now everything is wanted, and the part file goes.
    let (code, story) = bench.run(&folder, &["--no-seed"]);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &[1, 2, 3, 4, 5]);
    assert_eq!(files_in(&folder).len(), 5);
    let announces = bench.tracker.announces();
    let third = announces.iter().rposition(|announce| announce.event == "started").unwrap();
    assert_eq!(announces[third].left, lacking, "{announces:#?}");
    assert!(announces.iter().any(|announce| announce.event == "completed" && announce.left == 0));
}

fn pieces_are_served_and_checked_from_the_part_file() {
    let bench = five();
    let seed = bench.seed(&[]);
    let partial = bench.empty_folder("partial");
    assert_eq!(bench.run(&partial, &["--files", "2,4", "--no-seed"]).0, 0);
    seed.terminate();
    assert_eq!(end_of(seed).0, 0);

    // A check of what was selected finds it whole, and touches nothing.
    let before = tree(&partial);
    let check = |options: &[&str]| bench.run(&partial, &[&["--hashcheck-only"], options].concat());
    let (code, story) = check(&["--files", "2,4"]);
    assert_eq!(code, 0, "{story}");
    // What is wanted has to stand in its place: that its bytes are in the part file is not enough.
    let (code, story) = check(&[]);
    assert!(code == 7 && story.contains("3 missing"), "{code} {story}");
    assert_eq!(check(&["--files", "3"]).0, 7);
    assert_eq!(tree(&partial), before);

    // Whoever has selected files serves all the pieces of them.
    let _partial = bench.seed_from(&partial, &["--files", "2,4"]);
    let folder = bench.empty_folder("leech");
    let (code, story) = bench.run(&folder, &["--files", "2,4", "--no-seed"]);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &[2, 4]);
}

fn a_lost_or_damaged_part_file_costs_its_pieces_and_no_more() {
    let bench = five();
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    let options = ["--files", "3", "--no-seed"];
    assert_eq!(bench.run(&folder, &options).0, 0);
    let part = bench.part_file(&folder).unwrap();
    let whole = fs::read(&part).unwrap();
    let left_at_start = || {
        let announces = bench.tracker.announces();
        announces.iter().rfind(|announce| announce.event == "started").unwrap().left
    };
    // c has two pieces in common with its neighbours, one at each end.
    let shared = 2 * (16 << 10);
    let flipped: Vec<u8> = whole.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 100)).collect();
    let others = [Some(Vec::new()), Some(vec![0xff; 100_000]), Some(flipped), None];
    for bytes in others.into_iter().chain([Some(whole[..whole.len() / 2].to_vec())]) {
        match &bytes {
            Some(bytes) => fs::write(&part, bytes).unwrap(),
            None => fs::remove_file(&part).unwrap(),
        }
        let (code, story) = bench.run(&folder, &options);
        assert_eq!(code, 0, "{story}");
        let left = left_at_start() - (192_000 - wanted_bytes(&bench, &[3]));
        assert!(0 < left && left <= shared, "{left}: {bytes:?}");
        bench.assert_just(&folder, &[3]);
        assert_eq!(bench.run(&folder, &["--hashcheck-only", "--files", "3"]).0, 0);
    }
}

fn a_kill_while_the_part_file_is_in_use_loses_no_verified_piece() {
    let items: Vec<Item> = (0..40).map(|n| Item::new(&format!("f{n:02}"), 48 << 10)).collect();
    let bench = Bench::of(64 << 10, &items);
    let _seed = bench.seed(&["--max-upload-rate", "700K"]);
    let odd: Vec<usize> = (1..=40).step_by(2).collect();
    let list = odd.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let options = ["--files", &list, "--no-seed"];
    let folder = bench.empty_folder("leech");
    let kept = || bench.part_file(&folder).and_then(|path| fs::metadata(path).ok()).map_or(0, |f| f.len());
    for part in [100_000, 300_000] {
        let mut leech = bench.btget(&folder, &options);
        let story = leech.story();
        wait_until("the part file to grow", || story.clone(), || (kept() > part).then_some(()));
        leech.signal(Signal::KILL);
        leech.wait();
    }
    let (code, story) = bench.run(&folder, &options);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &odd);
    let announces = bench.tracker.announces();
    let last = announces.iter().rfind(|announce| announce.event == "started").unwrap();
    // What the part file held belongs to pieces that were whole, but for the last few.
    let unwanted = 40 * (48 << 10) - wanted_bytes(&bench, &odd);
    assert!(last.left - unwanted < wanted_bytes(&bench, &odd) - 400_000, "{announces:#?}");
    assert_eq!(bench.run(&folder, &["--hashcheck-only", "--files", &list]).0, 0);
    let (code, story) = bench.run(&folder, &["--no-seed"]);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &(1..=40).collect::<Vec<_>>());
    assert!(bench.part_file(&folder).is_none());
}

fn a_kill_while_bytes_move_in_loses_none() {
    let bench = five();
    let seed = bench.seed(&[]);
    let first = bench.empty_folder("first");
    assert_eq!(bench.run(&first, &["--files", "3", "--no-seed"]).0, 0);
    seed.terminate();
    assert_eq!(end_of(seed).0, 0);
    // d lies in the part file. Nobody is there to fetch it from again.
    for (number, calls) in
        ["openat2", "pwrite64,pwritev,pwritev2", "fdatasync", "renameat,renameat2", "unlinkat"]
            .iter()
            .enumerate()
    {
        for nth in 1..4 {
            let folder = bench.place(&format!("killed {number} {nth}"));
            assert!(succeeds(Command::new("cp").arg("-r").arg(&first).arg(&folder)));
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
            command.args(["-e", &format!("inject={calls}:signal=KILL:when={nth}")]);
            let options = ["--files", "3-4", "--no-seed", "--stall-timeout", "1s"];
            command.arg(env!("CARGO_BIN_EXE_btget")).args(bench.arguments(&folder, &options));
            Process::start("strace", &mut command).wait();
            let (code, story) = bench.run(&folder, &options);
            assert_eq!(code, 0, "{calls} {nth}: {story}");
            bench.assert_just(&folder, &[3, 4]);
        }
    }
}

fn complete_is_all_that_is_wanted_and_seed_is_all_there_is() {
    let bench = five();
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    let start = |priorities: &[u32]| {
        let local = SessionOptions { bind: Some([127, 0, 0, 1].into()), ..SessionOptions::default() };
        let priorities = priorities.to_vec();
        let options = TorrentOptions { basedir: folder.clone(), priorities, ..TorrentOptions::default() };
        let builder = Client::builder(bench.torrent()).session_options(local).torrent_options(options);
        builder.build().unwrap()
    };
    let client = start(&[0, 7, 0, 1, 0]);
    assert!(client.wait_complete(PATIENCE));
    assert!(client.complete() && !client.seed() && client.left() == 0);
    assert_eq!(client.files().iter().map(|file| file.priority).collect::<Vec<_>>(), [0, 7, 0, 1, 0]);
    let status = client.status().unwrap();
    assert_eq!(status.wanted_bytes, wanted_bytes(&bench, &[2, 4]));
    assert_eq!(client.wanted().count(), status.have.count());
    drop(client);
    let client = start(&[]);
    assert!(client.wait_complete(PATIENCE));
    assert!(client.complete() && client.seed());
    bench.assert_just(&folder, &[1, 2, 3, 4, 5]);
}

fn what_becomes_wanted_is_fetched_too_and_told() {
    let bench = five();
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    let local = SessionOptions { bind: Some([127, 0, 0, 1].into()), ..SessionOptions::default() };
    let options = TorrentOptions {
        basedir: folder.clone(),
        priorities: vec![0, 7, 0, 1, 0],
        order: Order::Sequential,
        ..TorrentOptions::default()
    };
    let builder = Client::builder(bench.torrent()).session_options(local).torrent_options(options);
    let client = builder.build().unwrap();
    let completes = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = completes.clone();
    client
        .on_event(Severity::Info, move |event| {
            if matches!(event.kind, Kind::Complete { .. }) {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        })
        .unwrap();
    assert!(client.wait_complete(PATIENCE));
    let before = completes.load(std::sync::atomic::Ordering::SeqCst);
    client.pause().unwrap();
    client.set_priorities(vec![1; 5]).unwrap();
    client.set_order(Order::Rarest).unwrap();
    assert!(!client.complete());
    client.start().unwrap();
    assert_eq!(client.files().iter().map(|file| file.priority).collect::<Vec<_>>(), [1; 5]);
    assert!(client.wait_complete(PATIENCE));
    assert!(client.seed());
    let until = std::time::Instant::now() + PATIENCE;
    while completes.load(std::sync::atomic::Ordering::SeqCst) <= before {
        assert!(std::time::Instant::now() < until, "that it is complete again is told");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    client.set_priorities(vec![0, 1, 0, 0, 0]).unwrap();
    assert!(client.complete() && client.seed(), "what is there stays there");
    client.stop().unwrap();
    drop(client);
    bench.assert_just(&folder, &[1, 2, 3, 4, 5]);
}

fn the_heavy_file_comes_first() {
    let items = ["a", "b", "c"].map(|name| Item::new(name, 100 * (16 << 10)));
    let bench = Bench::of(16 << 10, &items);
    let _seed = bench.seed(&["--max-upload-rate", "2M"]);
    let folder = bench.empty_folder("leech");
    let (code, story) = bench.run(&folder, &["--priority", "2=1000", "--no-seed", "--json"]);
    assert_eq!(code, 0, "{story}");
    let passed = story.lines().filter(|line| line.contains(r#""piece_hash_passed""#));
    let index = |line: &str| -> u32 {
        let (_, rest) = line.split_once(r#""index":"#).unwrap();
        rest.split([',', '}']).next().unwrap().parse().unwrap()
    };
    let order: Vec<u32> = passed.map(index).collect();
    assert_eq!(order.len(), 300);
    // The last pieces of one are under way while the first of the others are.
    let before = order.iter().take_while(|piece| (100..200).contains(*piece)).count();
    assert!(before >= 80, "{before}: {order:?}");
}

fn empty_files_and_links_are_made_and_pad_files_are_not() {
    let items = [
        Item::new("a", 10_000),
        Item::pad(6384),
        Item::new("deep/er/empty", 0),
        Item { attr: "x", ..Item::new("run", 500) },
        Item { attr: "x", ..Item::new("empty and executable", 0) },
        Item::link("deep/inside", "a"),
        Item::link("to a folder", "deep/er"),
        Item::link("outside", "../outside"),
        Item::link("nowhere", "no/such/file"),
        Item { attr: "h", ..Item::new(".hidden", 7) },
    ];
    let bench = Bench::of(16 << 10, &items);
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    let (code, story) = bench.run(&folder, &["--no-seed"]);
    assert_eq!(code, 0, "{story}");
    let there = |path: &str| folder.join("t").join(path);
    for (path, target) in [("deep/inside", "../a"), ("to a folder", "deep/er")] {
        assert_eq!(fs::read_link(there(path)).unwrap(), Path::new(target));
    }
    for left_out in ["outside", "nowhere"] {
        let facts = fs::symlink_metadata(there(left_out)).unwrap();
        assert!(facts.is_file() && facts.len() == 0, "{left_out}");
        assert!(story.contains(&format!("\"t/{left_out}\": a symbolic link to nothing in this torrent")));
    }
    let mode = |path: &str| fs::metadata(there(path)).unwrap().permissions().mode();
    for path in ["run", "empty and executable"] {
        assert_ne!(mode(path) & 0o100, 0, "{path}");
    }
    assert_eq!((mode("a") | mode("deep/er/empty")) & 0o111, 0);
    assert!(there(".hidden").exists() && !there(".pad").exists());
    assert_eq!(files_in(&folder).len(), 9, "{:#?}", tree(&folder));
    assert_eq!(bench.run(&folder, &["--hashcheck-only"]).0, 0);
}

fn a_link_of_the_torrent_never_replaces_anything() {
    let bench = Bench::of(16 << 10, &[Item::new("a", 20_000), Item::link("l", "a"), Item::link("m", "a")]);
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    fs::create_dir(folder.join("t")).unwrap();
    fs::write(folder.join("t/l"), "mine").unwrap();
    let (code, story) = bench.run(&folder, &["--no-seed"]);
    assert_eq!(code, 0, "{story}");
    let told = format!("warning: {}: the symbolic link is not made", folder.join("t/l").display());
    assert!(story.contains(&told), "{story}");
    assert_eq!(fs::read(folder.join("t/l")).unwrap(), b"mine");
    assert_eq!(fs::read_link(folder.join("t/m")).unwrap(), Path::new("a"));
}

fn a_missing_empty_file_is_made_though_all_data_are_there() {
    let bench = Bench::of(16 << 10, &[Item::new("a", 20_000), Item::new("sub/empty", 0)]);
    let folder = bench.full_folder("folder");
    fs::remove_dir_all(folder.join("t/sub")).unwrap();
    let (code, story) = bench.run(&folder, &["--hashcheck-only"]);
    assert!(code == 7 && story.contains("missing"), "{code} {story}");
    assert_eq!(bench.run(&folder, &["--no-seed"]).0, 0);
    assert!(folder.join("t/sub/empty").exists());
    assert_eq!(bench.run(&folder, &["--hashcheck-only"]).0, 0);
}

fn a_link_in_the_way_never_leads_outside() {
    let items = [Item::new("a", 40_000), Item::new("sub/b", 40_000), Item::new("empty", 0)];
    let bench = Bench::of(16 << 10, &items);
    let _seed = bench.seed(&[]);
    let outside = bench.empty_folder("outside");
    fs::write(outside.join("a"), "keep me").unwrap();
    let before = tree(&outside);
    for (number, (link, target)) in
        [("t/a", "a"), ("t/a", "nothing"), ("t/sub", ""), ("t/sub/b", "b"), ("t/empty", "empty"), ("t", "")]
            .into_iter()
            .enumerate()
    {
        let folder = bench.empty_folder(&format!("leech {number}"));
        let link = folder.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.join(target), link).unwrap();
        let (code, story) = bench.run(&folder, &["--no-seed", "--stall-timeout", "1s"]);
        assert!(code == 17 && story.contains("is in its place; move it away"), "{number}: {code} {story}");
        assert_eq!(tree(&outside), before);
        let (code, story) = bench.run(&folder, &["--hashcheck-only"]);
        assert_eq!(code, 17, "{story}");
    }
    // So with the part file.
    let folder = bench.empty_folder("leech");
    let name = format!(".{}.parts", bench.metainfo().info_hash);
    symlink(outside.join("parts"), folder.join(name)).unwrap();
    let (code, story) = bench.run(&folder, &["--files", "1", "--no-seed", "--stall-timeout", "1s"]);
    assert!(code == 17 && story.contains("is in its place"), "{code} {story}");
    assert_eq!(tree(&outside), before);
}

fn a_link_placed_during_the_download_never_leads_outside() {
    let items = [Item::new("a", 1 << 20), Item::new("sub/b", 100_000), Item::new("c", 100_000)];
    let bench = Bench::of(16 << 10, &items);
    let _seed = bench.seed(&["--max-upload-rate", "600K"]);
    let outside = bench.empty_folder("outside");
    for (number, link) in ["t/sub", "t/c"].into_iter().enumerate() {
        let folder = bench.empty_folder(&format!("leech {number}"));
        let options = ["--priority", "a=1000", "--no-seed", "--stall-timeout", "2s"];
        let leech = bench.btget(&folder, &options);
        wait_until("the first file", || leech.story(), || folder.join("t/a").exists().then_some(()));
        symlink(outside.join(if link == "t/c" { "c" } else { "" }), folder.join(link)).unwrap();
        let (code, story) = end_of(leech);
        assert!(code == 17 && story.contains("is in its place; move it away"), "{code} {story}");
        assert!(tree(&outside).is_empty());
    }
}

fn odd_names_are_shown_and_told_once() {
    let long = "x".repeat(300) + ".iso";
    let names = ["../up", "a\x1b[2J", "same", "SAME", "con", long.as_str()];
    let items = names.map(|name| Item { path: vec![name.as_bytes().to_vec()], ..Item::new(name, 3000) });
    let bench = Bench::of(16 << 10, &items);
    let shown = bench.run(&bench.place("nowhere"), &["--show"]);
    assert_eq!(shown.0, 0);
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    let (code, story) = bench.run(&folder, &["--no-seed"]);
    assert_eq!(code, 0, "{story}");
    let paths = ["t/.._up", "t/a_[2J", "t/same", "t/SAME~2", "t/con"].map(str::to_owned);
    let paths = paths.into_iter().chain([format!("t/{}.iso", "x".repeat(251))]);
    for (number, path) in (1..).zip(paths) {
        assert!(fs::read(folder.join(&path)).unwrap() == bench.data(number), "{path}");
        assert!(shown.1.contains(&path), "{}", shown.1);
    }
    for note in ["stands for \"../up\"", "stands for \"SAME\"", "cannot be on Windows", "longer than 255"] {
        assert_eq!(story.matches(note).count(), 1, "{note}: {story}");
        assert!(shown.1.contains(note), "{}", shown.1);
    }
    assert!(!story.contains('\x1b') && !shown.1.contains('\x1b'));
}

fn a_long_file_keeps_its_tail_until_it_is_written_to() {
    let bench = Bench::of(16 << 10, &[Item::new("a", 40_000), Item::new("b", 40_000)]);
    let folder = bench.full_folder("leech");
    let [a, b] = [1, 2].map(|number| bench.path(&folder, number));
    for path in [&a, &b] {
        let with_tail = [fs::read(path).unwrap(), b"a tail".to_vec()].concat();
        fs::write(path, with_tail).unwrap();
    }
    // All is there: nothing is written, nothing is cut.
    assert_eq!(bench.run(&folder, &["--no-seed"]).0, 0);
    assert_eq!([&a, &b].map(|path| fs::metadata(path).unwrap().len()), [40_006; 2]);
    // The first piece of a is wrong: a is written to.
    let mut wrong = fs::read(&a).unwrap();
    wrong[5] ^= 1;
    fs::write(&a, wrong).unwrap();
    let _seed = bench.seed(&[]);
    let (code, story) = bench.run(&folder, &["--no-seed", "--full-check"]);
    assert_eq!(code, 0, "{story}");
    assert_eq!([&a, &b].map(|path| fs::metadata(path).unwrap().len()), [40_000, 40_006]);
    let told: Vec<&str> = story.lines().filter(|line| line.contains("40006")).collect();
    assert!(matches!(told[..], [one] if one.starts_with("warning: ") && one.contains("40000")), "{story}");
}

fn a_replaced_folder_is_not_filled_and_its_return_is_taken_up() {
    let items: Vec<Item> = (0..60).map(|n| Item::new(&format!("f{n:02}"), 32 << 10)).collect();
    let bench = Bench::of(64 << 10, &items);
    let _seed = bench.seed(&["--max-upload-rate", "700K"]);
    let folder = bench.empty_folder("leech");
    let mut leech = bench.btget(&folder, &["--no-seed", "--file-error", "pause"]);
    let some = || folder.join("t").read_dir().is_ok_and(|found| found.count() > 5);
    wait_until("some files", || leech.story(), || some().then_some(()));
    // As if its disk were unmounted.
    let elsewhere = bench.place("elsewhere");
    fs::rename(&folder, &elsewhere).unwrap();
    fs::create_dir(&folder).unwrap();
    leech.wait_for_line(&["it was there and is gone"]);
    // Nor is it filled when the user says so without looking.
    leech.signal(Signal::USR2);
    leech.wait_for_line(&["started: "]);
    wait_until(
        "a second refusal",
        || leech.story(),
        || (leech.story().matches("it was there and is gone").count() >= 2).then_some(()),
    );
    assert!(tree(&folder).is_empty());
    fs::remove_dir(&folder).unwrap();
    fs::rename(&elsewhere, &folder).unwrap();
    leech.signal(Signal::USR2);
    let (code, story) = end_of(leech);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &(1..=60).collect::<Vec<_>>());
}

fn a_file_system_mounted_over_the_folder_is_not_filled() {
    let items: Vec<Item> = (0..60).map(|n| Item::new(&format!("f{n:02}"), 32 << 10)).collect();
    let bench = Bench::of(64 << 10, &items);
    let _seed = bench.seed(&["--max-upload-rate", "700K"]);
    let folder = bench.empty_folder("leech");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", env!("CARGO_BIN_EXE_btget")]);
    let options = ["--no-seed", "--file-error", "pause"];
    let mut leech = Process::start("btget", command.args(bench.arguments(&folder, &options)));
    let some = || folder.join("t").read_dir().is_ok_and(|found| found.count() > 5);
    wait_until("some files", || leech.story(), || some().then_some(()));
    let pid = leech.pid().as_raw_nonzero().to_string();
    let inside = |program: &[&str]| {
        let mut command = Command::new("nsenter");
        assert!(
            succeeds(command.args(["--mount", "--target", &pid]).args(program).arg(&folder)),
            "{program:?}"
        );
    };
    inside(&["mount", "-t", "tmpfs", "none"]);
    leech.wait_for_line(&["it was there and is gone"]);
    leech.signal(Signal::USR2);
    wait_until(
        "a second refusal",
        || leech.story(),
        || (leech.story().matches("it was there and is gone").count() >= 2).then_some(()),
    );
    assert!(tree(Path::new(&format!("/proc/{pid}/root{}", folder.display()))).is_empty());
    inside(&["umount"]);
    leech.signal(Signal::USR2);
    let (code, story) = end_of(leech);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &(1..=60).collect::<Vec<_>>());
}

fn a_torrent_that_begins_paused_makes_nothing_before_it_starts() {
    let bench = Bench::of(16 << 10, &[Item::new("a", 40_000), Item::new("empty", 0)]);
    let _seed = bench.seed(&[]);
    let folder = bench.place("leech/below");
    let leech = bench.btget(&folder, &["--state", "paused", "--no-seed"]);
    bench.wait_for("its announce", |announces| announces.len() == 2);
    assert!(!folder.exists());
    leech.signal(Signal::USR2);
    let (code, story) = end_of(leech);
    assert_eq!(code, 0, "{story}");
    bench.assert_just(&folder, &[1, 2]);
}

fn full_preallocation_is_refused_on_a_too_small_disk() {
    // 16 TiB.
    let pieces = 1 << 16;
    let info = [
        b"d6:length".as_slice(),
        &number(pieces << 28),
        b"4:name1:x12:piece length",
        &number(1 << 28),
        b"6:pieces",
        &string(&vec![7; 20 * pieces as usize]),
        b"e",
    ];
    let bench = Bench::new(&info.concat(), Vec::new());
    let folder = bench.empty_folder("leech");
    let (code, story) = bench.run(&folder, &["--preallocate", "full"]);
    assert_eq!(code, 9, "{story}");
    assert!(story.contains("cannot create ") && story.contains("the disk lacks 1"), "{story}");
    assert!(story.contains(" TiB for all of it") && tree(&folder).is_empty(), "{story}");

    let bench = Bench::of(16 << 10, &[Item::new("a", 1 << 20), Item::new("b", 5000)]);
    let _seed = bench.seed(&[]);
    let folder = bench.empty_folder("leech");
    assert_eq!(bench.run(&folder, &["--preallocate", "full", "--no-seed"]).0, 0);
    bench.assert_just(&folder, &[1, 2]);
}

fn a_name_too_long_for_the_file_system_is_told() {
    let bench = five();
    let folder = bench.place(&"x".repeat(300));
    let options = ["--file-error", "exit", "--state-dir", "/nonexistent"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    command
        .arg(bench.torrent())
        .arg("--basedir")
        .arg(&folder)
        .args(["--no-lsd", "--bind", "127.0.0.1"])
        .args(options);
    let (code, story) = end_of(Process::start("btget", &mut command));
    assert!(code == 17 && story.contains("the name is too long for this file system"), "{code} {story}");
}

/// Runs btget below strace, which lets these system calls fail.
fn run_with_fault(bench: &Bench, folder: &Path, calls: &str, fault: &str, options: &[&str]) -> (i32, String) {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:error={fault}")]);
    command.arg(env!("CARGO_BIN_EXE_btget")).args(bench.arguments(folder, options));
    end_of(Process::start("strace", &mut command))
}

fn each_error_of_the_disk_has_its_message_and_exit_code() {
    let bench = five();
    let _seed = bench.seed(&[]);
    let write = "pwrite64,pwritev,pwritev2";
    for (number, (calls, fault, code, cause, remedy)) in [
        (write, "EIO", 17, "Input/output error", "look after the disk"),
        (write, "ENOSPC", 9, "disk full", "free "),
        (write, "EDQUOT", 9, "quota used up", "free "),
        ("mkdirat", "EROFS", 17, "the file system is read-only", "mount it writable"),
        ("mkdirat", "EACCES", 17, "no permission", "allow it to this user"),
        ("mkdirat", "ENAMETOOLONG", 17, "the name is too long for this file system", "choose a shorter"),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = bench.empty_folder(&format!("leech {number}"));
        let options = ["--no-seed", "--json"];
        let (found, story) = run_with_fault(&bench, &folder, calls, fault, &options);
        assert_eq!(found, code, "{fault}: {story}");
        for part in [cause, remedy, r#""severity":"fatal""#, r#""event":"file_error""#, r#""to":"stopped""#] {
            assert!(story.contains(part), "{fault}: {part}: {story}");
        }
        assert!(story.contains(&format!("{}", folder.join("t").display())), "{fault}: {story}");
        // Nothing that was not written counts, and without the fault it goes on.
        let (code, story) = bench.run(&folder, &["--no-seed"]);
        assert_eq!(code, 0, "{story}");
        bench.assert_just(&folder, &[1, 2, 3, 4, 5]);
    }
}

fn a_read_only_file_system_is_told_and_a_whole_torrent_is_seeded_from_it() {
    let bench = Bench::of(16 << 10, &[Item::new("a", 40_000), Item::new("b", 40_000), Item::new("empty", 0)]);
    let _seed = bench.seed(&[]);
    let whole = bench.full_folder("whole");
    fs::remove_file(whole.join("t/empty")).unwrap();
    let half = bench.full_folder("half");
    fs::remove_file(half.join("t/b")).unwrap();
    let run = |folder: &Path| {
        let script = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(folder).arg(env!("CARGO_BIN_EXE_btget"));
        command.args(bench.arguments(folder, &["--no-seed"]));
        end_of(Process::start("unshare", &mut command))
    };
    let before = [tree(&whole), tree(&half)];
    let (code, story) = run(&whole);
    assert!(code == 0 && story.contains("the file system is read-only"), "{code} {story}");
    let (code, story) = run(&half);
    assert!(code == 17 && story.contains("mount it writable and start again"), "{code} {story}");
    assert_eq!([tree(&whole), tree(&half)], before);
}

fn a_hundred_thousand_files_need_few_handles() {
    let items: Vec<Item> =
        (0..100_000).map(|n| Item::new(&format!("{}/{n:05}", n / 1000), 1 + n % 20)).collect();
    // Where files are made in no time, if there is such a place.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let stream = items.iter().flat_map(|item| item.data.clone()).collect();
    let bench = Bench::new_in(folder, &info(b"t", 64 << 10, &items, false), stream);
    let limited = |folder: &Path, options: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -n 256 && exec "$0" "$@""#, env!("CARGO_BIN_EXE_btget")]);
        Process::start("btget", command.args(bench.arguments(folder, options)))
    };
    let _seed = limited(&bench.full_folder("seed"), &[]);
    bench.wait_for("the seed's announce", |announces| announces.iter().any(|a| a.left == 0));
    let folder = bench.empty_folder("leech");
    let (code, story) = end_of(limited(&folder, &["--no-seed"]));
    assert_eq!(code, 0, "{story}");
    let found = files_in(&folder);
    assert_eq!(found.len(), 100_000);
    for number in [1, 777, 50_000, 100_000] {
        assert_eq!(fs::read(bench.path(&folder, number)).unwrap(), bench.data(number));
    }
    let (code, story) = end_of(limited(&folder, &["--hashcheck-only", "-q"]));
    assert_eq!(code, 0, "{story}");
}
