//! `--sequential` and `--cat`: the order of requests as the one who serves them sees it, and what comes out of standard output.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use btget::internals::hash::sha1;
use rustix::process::{Pid, Signal, kill_process};

use support::crafted::{Bench, Item, info};
use support::process::wait_until;

/// A peer that has everything, and notes which piece each request is for.
struct Seeder {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<u32>>>,
}

/// Of which pieces it says that it has them, as a bitfield.
type Has = fn(u32) -> bool;

impl Seeder {
    fn start(bench: &Bench, stream: Vec<u8>, has: Has) -> Seeder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::default());
        let metainfo = bench.metainfo();
        let hash = sha1(&metainfo.info_bytes).0;
        let (length, pieces) = (metainfo.layout.piece_length() as usize, metainfo.layout.num_pieces());
        let noted = Arc::clone(&asked);
        // It ends with the process of the test.
        thread::spawn(move || {
            for link in listener.incoming() {
                let _ = serve(link.unwrap(), hash, &stream, length, pieces, has, &noted);
            }
        });
        Seeder { address, asked }
    }

    fn asked(&self) -> Vec<u32> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut link: TcpStream,
    hash: [u8; 20],
    stream: &[u8],
    length: usize,
    pieces: u32,
    has: Has,
    asked: &Mutex<Vec<u32>>,
) -> std::io::Result<()> {
    let mut hello = [0; 68];
    link.read_exact(&mut hello)?;
    // Of two with one peer id btget would take one for itself, or twice.
    let id = format!("-XX0001-{:012}", link.local_addr()?.port());
    let hello = [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".as_slice(), &hash, id.as_bytes()];
    link.write_all(&hello.concat())?;
    let mut bits = vec![0u8; pieces.div_ceil(8) as usize];
    (0..pieces).filter(|&piece| has(piece)).for_each(|piece| bits[piece as usize / 8] |= 0x80 >> (piece % 8));
    let message = |id: u8, payload: &[u8]| {
        [&(payload.len() as u32 + 1).to_be_bytes(), [id].as_slice(), payload].concat()
    };
    link.write_all(&[message(5, &bits), message(1, &[])].concat())?;
    loop {
        let mut size = [0; 4];
        link.read_exact(&mut size)?;
        let mut body = vec![0; u32::from_be_bytes(size) as usize];
        link.read_exact(&mut body)?;
        if body.first() != Some(&6) {
            continue;
        }
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap()) as usize;
        let (piece, begin, count) = (number(1), number(5), number(9));
        asked.lock().unwrap().push(piece as u32);
        let at = piece * length + begin;
        let payload = [&body[1..9], &stream[at..at + count]].concat();
        link.write_all(&message(7, &payload))?;
    }
}

/// Three files, of which the second is the largest.
fn items() -> Vec<Item> {
    vec![Item::new("a.txt", 100_003), Item::new("film.mkv", 6_000_000), Item::new("z.bin", 300_000)]
}

fn bench() -> (Bench, Vec<u8>) {
    let stream: Vec<u8> = items().iter().flat_map(|item| item.data.clone()).collect();
    (Bench::new(&info(b"t", 64 * 1024, &items(), false), stream.clone()), stream)
}

/// btget with its standard output to be read, or not.
struct Cat {
    child: Child,
    out: Option<ChildStdout>,
}

impl Cat {
    fn start(bench: &Bench, folder: &Path, options: &[&str]) -> Cat {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
        command.args(bench.arguments(folder, options)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take();
        Cat { child, out }
    }

    fn read_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        self.out.take().unwrap().read_to_end(&mut all).unwrap();
        all
    }

    /// Its exit code, and what it has said.
    fn end(mut self) -> (Option<i32>, String) {
        drop(self.out.take());
        let mut said = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        let code = wait_until("the end of btget", String::new, || self.child.try_wait().unwrap()).code();
        errors.read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pieces_are_asked_for_in_order() {
    let (bench, stream) = bench();
    let seeder = Seeder::start(&bench, stream, |_| true);
    let folder = bench.empty_folder("here");
    let peer = seeder.address.to_string();
    let (code, said) = bench.run(&folder, &["--peer", &peer, "--no-seed", "--sequential"]);
    assert_eq!(code, 0, "{said}");
    let asked = seeder.asked();
    assert!(asked.is_sorted() && asked.len() > 300, "{asked:?}");
}

#[test]
fn who_has_nothing_of_the_window_gives_what_it_has() {
    let (bench, stream) = bench();
    let first = Seeder::start(&bench, stream.clone(), |piece| piece < 60);
    let last = Seeder::start(&bench, stream, |piece| piece >= 60);
    let folder = bench.empty_folder("here");
    let peers = [first.address.to_string(), last.address.to_string()];
    let (code, said) =
        bench.run(&folder, &["--peer", &peers[0], "--peer", &peers[1], "--no-seed", "--sequential"]);
    assert_eq!(code, 0, "{said}");
    bench.assert_just(&folder, &[1, 2, 3]);
    assert!(first.asked().is_sorted());
}

#[test]
fn one_file_comes_out_in_order_and_no_other_is_made() {
    let (bench, stream) = bench();
    let seeder = Seeder::start(&bench, stream, |_| true);
    let folder = bench.empty_folder("here");
    let mut cat = Cat::start(&bench, &folder, &["--peer", &seeder.address.to_string(), "--cat", "film.mkv"]);
    assert!(cat.read_all() == bench.data(2), "other bytes than those of the file");
    let (code, said) = cat.end();
    assert_eq!(code, Some(0), "{said}");
    bench.assert_just(&folder, &[2]);
    let asked = seeder.asked();
    assert!(asked.is_sorted() && asked[0] == 1, "{asked:?}");

    // What is there is verified and written, and nobody is asked for anything.
    let mut cat = Cat::start(&bench, &folder, &["--cat", "2", "--full-check"]);
    assert!(cat.read_all() == bench.data(2), "other bytes than those of the file");
    let (code, said) = cat.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(seeder.asked().len(), asked.len());
}

#[test]
fn who_has_read_enough_ends_it_without_a_word() {
    let (bench, stream) = bench();
    let seeder = Seeder::start(&bench, stream, |piece| piece < 30);
    let folder = bench.empty_folder("here");
    let mut cat = Cat::start(&bench, &folder, &["--peer", &seeder.address.to_string(), "--cat", "2", "-q"]);
    let mut byte = [0];
    cat.out.as_mut().unwrap().read_exact(&mut byte).unwrap();
    assert_eq!(byte[0], bench.data(2)[0]);
    // By now nothing more may come, so that nothing is written that would fail.
    let (code, said) = cat.end();
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn a_pipe_that_nobody_reads_ends_it_though_nothing_comes() {
    let (bench, _) = bench();
    let folder = bench.empty_folder("here");
    let (code, said) = Cat::start(&bench, &folder, &["--cat", "2", "-q"]).end();
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_waits_holds_up_no_data() {
    let (bench, stream) = bench();
    let seeder = Seeder::start(&bench, stream, |_| true);
    let folder = bench.empty_folder("here");
    let mut cat = Cat::start(&bench, &folder, &["--peer", &seeder.address.to_string(), "--cat", "2"]);
    let path = bench.path(&folder, 2);
    wait_until("all data", String::new, || {
        fs::read(&path).is_ok_and(|found| found == bench.data(2)).then_some(())
    });
    assert!(cat.child.try_wait().unwrap().is_none(), "it has not written all");
    assert!(cat.read_all() == bench.data(2), "other bytes than those of the file");
    let (code, said) = cat.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_stop_before_all_is_written_is_told_by_the_exit_code() {
    let (bench, stream) = bench();
    for (label, has) in [("all", (|_| true) as Has), ("some", |piece| piece < 40)] {
        let seeder = Seeder::start(&bench, stream.clone(), has);
        let folder = bench.empty_folder(label);
        let mut cat = Cat::start(&bench, &folder, &["--peer", &seeder.address.to_string(), "--cat", "2"]);
        let mut byte = [0];
        cat.out.as_mut().unwrap().read_exact(&mut byte).unwrap();
        if label == "all" {
            let path = bench.path(&folder, 2);
            wait_until("all data", String::new, || {
                fs::read(&path).is_ok_and(|found| found == bench.data(2)).then_some(())
            });
        }
        kill_process(Pid::from_child(&cat.child), Signal::TERM).unwrap();
        let code = wait_until("its end", String::new, || cat.child.try_wait().unwrap()).code();
        assert_eq!(code, Some(7), "{label}");
    }
}

#[test]
fn what_cannot_be_written_is_told_in_one_line() {
    let (bench, stream) = bench();
    let seeder = Seeder::start(&bench, stream, |_| true);
    let folder = bench.empty_folder("here");
    let options = ["--peer", &seeder.address.to_string(), "--cat", "2", "--progress", "none"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    command.args(bench.arguments(&folder, &options));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<&str> =
        said.lines().filter(|line| line.contains("rror") || line.contains("exit code")).collect();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
    assert!(errors.iter().all(|line| line.contains("standard output")), "{said}");
}

#[test]
fn a_pipe_that_is_told_not_to_wait_gets_all_the_same() {
    let (bench, stream) = bench();
    let seeder = Seeder::start(&bench, stream, |_| true);
    let folder = bench.empty_folder("here");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let options = ["--peer", &seeder.address.to_string(), "--cat", "2", "-q"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_btget"));
    let mut child = command.args(bench.arguments(&folder, &options)).stdout(writer).spawn().unwrap();
    drop(command);
    thread::sleep(std::time::Duration::from_millis(300));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert!(read == bench.data(2), "other bytes than those of the file");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_go_together_is_refused() {
    let (bench, _) = bench();
    for (options, reason) in [
        (&["--cat", "2", "--json"][..], "--json"),
        (&["--cat", "2", "--files", "2"], "--files"),
        (&["--cat", "2", "--show"], "--show"),
        (&["--cat", "2", "--hashcheck-only"], "--hashcheck-only"),
        (&["--cat", "1-2"], "means 2 files"),
        (&["--cat", "4"], "there is no file 4"),
        (&["--cat", "*.iso"], "no file of t matches"),
        (&["--cat", "2", "--save-torrent", "-"], "--save-torrent"),
        (&["--cat", "2", "other.torrent"], "--cat is about one torrent"),
        (&["--sequential", "--hashcheck-only"], "--sequential"),
    ] {
        let (code, said) = bench.run(&bench.place("nowhere"), options);
        assert!(code == 2 && said.contains(reason), "{options:?}: {code}: {said}");
        assert!(!bench.place("nowhere").exists());
    }
}
