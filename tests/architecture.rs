//! The house rules of ARCHITECTURE.md, checked on the sources: which room may know which, what
//! each may take from the system, and how long a file may grow. Tests inside the sources are free.

#[path = "support/rust_paths.rs"]
mod rust_paths;

use std::fs;
use std::path::{Path, PathBuf};

use rust_paths::{Found, paths, without_tests};

/// Lines a source file may have, its tests not counted.
const MAX_LINES: usize = 500;

/// One folder or file of `src/`.
struct Room {
    name: &'static str,
    /// Other rooms that it may name, or parts of them (`swarm::announce`); itself it may always name.
    knows: &'static [&'static str],
    /// What of the system it may use.
    may: &'static [Need],
}

/// What is forbidden where it is not expressly given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    /// tokio: runtime, sockets, timers.
    Tokio,
    /// Files and folders.
    Files,
    /// Sockets of the standard library. (Addresses are plain data and free to all.)
    Sockets,
    /// Reading the clock. (`Instant` as a type is free to all.)
    Clock,
    /// Threads and locks that cross them.
    Threads,
    /// Randomness that is not handed in.
    Chance,
    /// Environment variables, arguments, the current directory.
    Environment,
    /// Standard output and standard error.
    Printing,
    /// Ending the process.
    Exit,
    /// anyhow: errors without a type.
    Anyhow,
    /// Signals.
    Signals,
    /// Naming a type of socket: elsewhere a connection is a `Link`.
    SocketTypes,
    /// Exit codes: elsewhere there is a `Verdict`.
    ExitCodes,
    /// `unsafe`.
    Unsafe,
    /// `[u8; 20]` and `[u8; 32]`: elsewhere hashes and peer ids have types.
    Bytes,
}

use Need::*;

const ROOMS: &[Room] = &[
    // The pure rooms: values in, values out.
    Room { name: "address", knows: &[], may: &[] },
    Room { name: "layout", knows: &[], may: &[] },
    Room { name: "blocks", knows: &["layout"], may: &[] },
    Room { name: "budget", knows: &["ids"], may: &[] },
    Room { name: "bucket", knows: &[], may: &[] },
    Room { name: "compact", knows: &[], may: &[] },
    Room { name: "pace", knows: &["ids", "layout"], may: &[] },
    Room { name: "text", knows: &[], may: &[] },
    Room { name: "bitfield", knows: &["layout"], may: &[] },
    Room { name: "ids", knows: &["hash"], may: &[Bytes] },
    Room { name: "bencode", knows: &[], may: &[] },
    // The environment may name the kernel (`BTGET_HASH_KERNEL`), to compare them; SIMD needs `unsafe`.
    Room { name: "hash", knows: &[], may: &[Environment, Unsafe, Bytes] },
    Room { name: "metainfo", knows: &["bencode", "bitfield", "hash", "ids", "layout", "text"], may: &[] },
    Room { name: "event", knows: &["bencode", "bitfield", "ids", "layout", "text"], may: &[] },
    Room {
        name: "wire",
        knows: &["bencode", "bitfield", "compact", "hash", "ids", "layout", "text"],
        may: &[],
    },
    Room { name: "fetch", knows: &["bucket", "ids", "wire"], may: &[] },
    Room { name: "proofs", knows: &["bucket", "hash", "ids", "layout", "metainfo", "wire"], may: &[] },
    Room { name: "mse", knows: &["hash", "ids"], may: &[] },
    Room { name: "utp", knows: &[], may: &[] },
    Room { name: "proxy", knows: &[], may: &[] },
    Room {
        name: "dht",
        knows: &["address", "bencode", "bucket", "compact", "filter", "hash", "ids"],
        may: &[],
    },
    Room { name: "portmap", knows: &[], may: &[] },
    Room { name: "filter", knows: &[], may: &[] },
    // Of the wire it knows what peers tell of one another, and of themselves to their neighbours.
    Room {
        name: "finder",
        knows: &["address", "event", "filter", "ids", "text", "wire::extended", "wire::lsd"],
        may: &[],
    },
    // Of the finder it knows the plain words for how a connection ends.
    Room {
        name: "swarm",
        knows: &[
            "address",
            "bitfield",
            "blocks",
            "budget",
            "event",
            "fetch::MetadataServer",
            "finder::Parting",
            "hash",
            "ids",
            "layout",
            "pace",
            "proofs",
            "text",
            "wire",
        ],
        may: &[],
    },
    // Of the swarm they know the words for what happens to a peer, which are the same.
    Room {
        name: "lobby",
        knows: &["address", "event", "fetch", "finder", "hash", "ids", "layout", "proofs", "swarm", "wire"],
        may: &[],
    },
    // Of the swarm it knows how runs are wished for.
    Room {
        name: "webseed",
        knows: &["address", "bitfield", "event", "ids", "layout", "metainfo", "swarm::RunWish", "text"],
        may: &[],
    },
    Room {
        name: "transfer",
        knows: &["blocks", "event", "finder", "ids", "layout", "lobby", "swarm", "webseed"],
        may: &[],
    },
    // The edges. Those of the disk know no peers; those of the network decide nothing.
    // What every socket is bound to; all that open sockets know it.
    Room { name: "bind", knows: &[], may: &[Sockets] },
    Room {
        name: "storage",
        knows: &["bitfield", "event", "hash", "ids", "layout", "metainfo", "text"],
        may: &[Files, Clock, Threads, Chance, Environment],
    },
    Room {
        name: "check",
        knows: &["bitfield", "event", "hash", "layout", "metainfo", "storage", "text"],
        may: &[Files, Clock, Threads],
    },
    // It reads as the check does, by its threads and groups.
    Room {
        name: "create",
        knows: &["bitfield", "check", "hash", "layout", "metainfo", "storage"],
        may: &[Files, Threads],
    },
    Room {
        name: "disk",
        knows: &["bitfield", "blocks", "event", "hash", "ids", "layout", "metainfo", "storage", "text"],
        may: &[Tokio, Files, Clock, Threads],
    },
    // The files that it reads are the system's tables of routes.
    Room {
        name: "net",
        knows: &[
            "address", "bind", "bitfield", "blocks", "event", "hash", "http", "ids", "layout", "metainfo",
            "mse", "pace", "portmap", "proxy", "text", "utp", "webseed", "wire",
        ],
        may: &[Tokio, Files, Sockets, SocketTypes, Clock, Threads],
    },
    // How servers are reached, for whoever asks them. The one file that it reads is that of the certificates that the user trusts.
    Room {
        name: "http",
        knows: &["address", "bind", "event", "proxy", "text"],
        may: &[Files, Sockets, SocketTypes, Clock, Threads, Environment],
    },
    // It carries what the core wants announced, and brings back the answers, as the core's plain values.
    Room {
        name: "tracker",
        knows: &[
            "address",
            "bencode",
            "bind",
            "compact",
            "event",
            "finder::announce",
            "http",
            "ids",
            "metainfo",
            "proxy",
            "text",
            "wire",
        ],
        may: &[Tokio, Sockets, SocketTypes, Clock, Threads, Chance, Environment],
    },
    // The loop that joins them, and its face.
    Room {
        name: "session",
        knows: &[
            "address", "bind", "bitfield", "blocks", "budget", "check", "client", "dht", "disk", "event",
            "fetch", "filter", "finder", "hash", "ids", "layout", "lobby", "metainfo", "mse", "net",
            "portmap", "proofs", "proxy", "storage", "swarm", "text", "tracker", "transfer", "utp",
            "webseed", "wire",
        ],
        may: &[Tokio, Sockets, Clock, Threads, Chance],
    },
    Room {
        name: "client",
        knows: &[
            "bind",
            "bitfield",
            "check",
            "event",
            "filter",
            "http::Download",
            "http::DownloadError",
            "http::DownloadOptions",
            "http::download",
            "ids",
            "layout",
            "metainfo",
            "proxy",
            "session",
            "storage",
            "swarm::Order",
            "text",
            "wire",
        ],
        may: &[Files, Clock, Threads, Chance],
    },
    // What people see. `storage` is named for `Preallocate`, a plain choice.
    Room {
        name: "cli",
        knows: &[
            "bitfield", "check", "client", "create", "event", "ids", "layout", "metainfo", "storage", "text",
        ],
        may: &[Tokio, Files, Clock, Threads, Environment, Printing, Anyhow, Signals, ExitCodes],
    },
    Room { name: "main", knows: &["cli"], may: &[Exit, ExitCodes, Environment] },
    // It opens some rooms to tests, benches and fuzzers.
    Room {
        name: "lib",
        knows: &[
            "address", "bencode", "bind", "bitfield", "blocks", "budget", "cli", "client", "dht", "event",
            "fetch", "filter", "finder", "hash", "http", "ids", "layout", "metainfo", "mse", "pace",
            "portmap", "proofs", "proxy", "storage", "swarm", "text", "tracker", "utp", "wire",
        ],
        may: &[],
    },
];

/// Paths that stand for a need: a path that begins with, or ends in, these segments.
const NEEDS: &[(&str, Need)] = &[
    ("tokio::*", Tokio),
    ("std::fs::*", Files),
    ("std::os::unix::fs::*", Files),
    ("rustix::fs::*", Files),
    ("*::File::open", Files),
    ("std::net::TcpStream::*", Sockets),
    ("std::net::TcpListener::*", Sockets),
    ("std::net::UdpSocket::*", Sockets),
    ("std::net::ToSocketAddrs::*", Sockets),
    ("rustix::net::*", Sockets),
    ("ureq::*", Sockets),
    ("*::Instant::now", Clock),
    ("*::SystemTime::now", Clock),
    ("rustix::time::*", Clock),
    ("std::thread::*", Threads),
    ("std::sync::Mutex::*", Threads),
    ("std::sync::RwLock::*", Threads),
    ("std::sync::Condvar::*", Threads),
    ("*::Rng::new", Chance),
    ("fastrand::bool", Chance),
    ("fastrand::shuffle", Chance),
    ("fastrand::u8", Chance),
    ("fastrand::u16", Chance),
    ("fastrand::u32", Chance),
    ("fastrand::u64", Chance),
    ("fastrand::usize", Chance),
    ("std::env::*", Environment),
    ("print!", Printing),
    ("println!", Printing),
    ("eprint!", Printing),
    ("eprintln!", Printing),
    ("dbg!", Printing),
    ("std::io::stdout", Printing),
    ("std::io::stderr", Printing),
    ("std::io::Stdout::*", Printing),
    ("std::io::Stderr::*", Printing),
    ("*::io::stdout", Printing),
    ("*::io::stderr", Printing),
    ("indicatif::*", Printing),
    ("*::process::exit", Exit),
    ("*::process::abort", Exit),
    ("std::process::exit", Exit),
    ("anyhow::*", Anyhow),
    ("ctrlc::*", Signals),
    ("nix::sys::signal::*", Signals),
    ("nix::ifaddrs::*", Sockets),
    ("nix::net::*", Sockets),
    ("nix::sys::socket::*", Sockets),
    ("socket2::*", Sockets),
    ("quinn_udp::*", Sockets),
    ("tokio::signal::*", Signals),
    ("*::TcpStream", SocketTypes),
    ("*::TcpListener", SocketTypes),
    ("*::TcpSocket", SocketTypes),
    ("*::UdpSocket", SocketTypes),
    ("*::exit_code", ExitCodes),
    ("*::ExitCode", ExitCodes),
    ("*::Exit", ExitCodes),
    ("unsafe", Unsafe),
    ("[u8; 20]", Bytes),
    ("[u8; 32]", Bytes),
];

fn matches(pattern: &str, path: &str) -> bool {
    if let Some(prefix) = pattern.strip_suffix("::*") {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    } else if let Some(suffix) = pattern.strip_prefix("*::") {
        path.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
    } else {
        path == pattern
    }
}

/// What is wrong with this path in this room, if anything.
fn fault(room: &Room, path: &str) -> Option<String> {
    let inside = path.strip_prefix("crate::").or_else(|| path.strip_prefix("btget::"));
    if let Some(inside) = inside {
        let other = inside.split("::").next().unwrap_or(inside);
        let is_room = ROOMS.iter().any(|known| known.name == other);
        let is_known = room.knows.iter().any(|known| matches(&format!("{known}::*"), inside));
        if is_room && other != room.name && !is_known {
            return Some(format!("`{}` must not know `{other}` ({path})", room.name));
        }
    }
    let needs = NEEDS.iter().filter(|(pattern, _)| matches(pattern, path));
    let missing = needs.map(|(_, need)| *need).find(|need| !room.may.contains(need));
    missing.map(|need| format!("`{}` must not use {path} ({need:?})", room.name))
}

fn faults_of(room: &Room, file: &str, source: &str) -> Vec<String> {
    let source = without_tests(source);
    let found = paths(source);
    let mut faults: Vec<String> = found
        .iter()
        .filter_map(|Found { line, path }| Some(format!("{file}:{line}: {}", fault(room, path)?)))
        .collect();
    let lines = source.lines().count();
    if lines > MAX_LINES {
        faults.push(format!("{file}:{lines}: {lines} lines without tests, at most {MAX_LINES} are allowed"));
    }
    faults
}

/// The sources below `folder`, without those that are tests alone.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap().to_owned();
        let only_tests = stem == "tests" || stem == "testing" || stem.ends_with("_tests");
        if only_tests {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_room_keeps_to_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 5, "the sources are not where they should be");
    let mut faults = Vec::new();
    for path in files {
        let file = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let name = file["src/".len()..].split(['/', '.']).next().unwrap();
        match ROOMS.iter().find(|room| room.name == name) {
            Some(room) => faults.extend(faults_of(room, &file, &fs::read_to_string(&path).unwrap())),
            None => faults
                .push(format!("{file}:1: `{name}` is a new room: give it rules in tests/architecture.rs")),
        }
    }
    assert!(faults.is_empty(), "the house rules are broken:\n{}", faults.join("\n"));
}

/// The room of this name.
fn room(name: &str) -> &'static Room {
    ROOMS.iter().find(|room| room.name == name).unwrap()
}

#[test]
fn what_is_forbidden_is_found_with_file_and_line() {
    for (name, source, expected) in [
        ("swarm", "use tokio::time;", "f.rs:1: `swarm` must not use tokio::time (Tokio)"),
        (
            "swarm",
            "\nuse crate::{layout::Block,\n net::Dial};",
            "f.rs:3: `swarm` must not know `net` (crate::net::Dial)",
        ),
        ("wire", "fn f() { std::fs::read(p); }", "f.rs:1: `wire` must not use std::fs::read (Files)"),
        (
            "wire",
            "use std::net::{IpAddr, TcpStream};",
            "f.rs:1: `wire` must not use std::net::TcpStream (Sockets)",
        ),
        ("hash", "fn f() { let t = Instant::now(); }", "f.rs:1: `hash` must not use Instant::now (Clock)"),
        ("net", "fn f() { println!(\"{}\", 1); }", "f.rs:1: `net` must not use println! (Printing)"),
        ("disk", "use crate::wire::Message;", "f.rs:1: `disk` must not know `wire` (crate::wire::Message)"),
        ("cli", "use btget::swarm as s;", "f.rs:1: `cli` must not know `swarm` (btget::swarm)"),
        ("cli", "fn f() { std::process::exit(1) }", "f.rs:1: `cli` must not use std::process::exit (Exit)"),
        (
            "swarm",
            "fn f() -> u32 { fastrand::u32(..) }",
            "f.rs:1: `swarm` must not use fastrand::u32 (Chance)",
        ),
        (
            "session",
            "use tokio::net::TcpStream;",
            "f.rs:1: `session` must not use tokio::net::TcpStream (SocketTypes)",
        ),
        ("swarm", "fn f(s: &UdpSocket) {}", "f.rs:1: `swarm` must not use UdpSocket (SocketTypes)"),
        ("event", "pub struct E { exit_code: u8 }", "f.rs:1: `event` must not use exit_code (ExitCodes)"),
        ("client", "fn f() -> ExitCode {}", "f.rs:1: `client` must not use ExitCode (ExitCodes)"),
        ("wire", "fn f() { unsafe { g() } }", "f.rs:1: `wire` must not use unsafe (Unsafe)"),
        ("tracker", "\nfn f(id: &[u8; 20]) {}", "f.rs:2: `tracker` must not use [u8; 20] (Bytes)"),
        ("storage", "struct S([ u8;32 ]);", "f.rs:1: `storage` must not use [u8; 32] (Bytes)"),
    ] {
        assert_eq!(faults_of(room(name), "f.rs", source), [expected]);
    }
    let long = "fn f() {}\n".repeat(MAX_LINES + 1);
    assert_eq!(faults_of(room("wire"), "f.rs", &long).len(), 1);
}

#[test]
fn what_is_allowed_is_left_alone() {
    for (name, source) in [
        ("wire", "use std::net::{IpAddr, SocketAddr}; use std::time::{Duration, Instant};"),
        ("wire", "// use tokio::net;\n/* std::fs::read /* nested */ */ const A: &str = \"std::fs::read\";"),
        (
            "wire",
            "const A: &str = r#\"println!(\"tokio::x\")\"#; const B: char = '\"'; fn f<'a>(x: &'a u8) {}",
        ),
        ("wire", "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs::File; use crate::net; }"),
        ("swarm", "use crate::{bitfield::Bitfield, layout::{Block, PieceIndex}}; use fastrand::Rng;"),
        ("session", "use crate::{net::Dial, swarm::Swarm}; use tokio::sync::mpsc;"),
        ("tracker", "use crate::finder::announce::{self, Answer};"),
        ("net", "use tokio::net::TcpStream; const A: [u8; 8] = [0; 8];"),
        ("hash", "pub struct Sha1(pub [u8; 20]); fn f() { unsafe {} }"),
        ("event", "const KEYS: &str = \"exit_code\"; // unsafe, TcpStream, [u8; 20]"),
        ("cli", "use crate::client::Session; fn exit_code() {} fn f() { eprintln!(\"x\"); }"),
    ] {
        assert_eq!(faults_of(room(name), "f.rs", source), [""; 0], "{source}");
    }
}
