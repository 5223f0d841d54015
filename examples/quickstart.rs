//! The main job, for real, on this machine alone: a tracker and a seeder on loopback, `btget` as a
//! child process that downloads 256 MiB with its bars, an independent check of what it made, and
//! then its own `--hashcheck-only`.
//!
//!     cargo run --release --example quickstart [-- MIB]
//!
//! Everything is made in a temporary folder and removed at the end.

#[path = "../tests/support/tracker.rs"]
mod tracker;

use std::error::Error;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use btget::client::{Client, SessionOptions};
use btget::metainfo::create::{Content, NewTorrent};
use btget::metainfo::{Sha1, sha1};
use sha1::Digest as _;

const PIECE_LENGTH: usize = 256 * 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("quickstart: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(256), |mib| mib.parse())?;
    let btget = build()?;
    let folder = std::env::temp_dir().join(format!("btget-quickstart-{}", std::process::id()));
    let result = show(&btget, &folder, mib);
    fs::remove_dir_all(&folder)?;
    result
}

fn show(btget: &Path, folder: &Path, mib: usize) -> Result<(), Box<dyn Error>> {
    let (source, storage, state) = (folder.join("source"), folder.join("storage"), folder.join("state"));
    fs::create_dir_all(&source)?;
    say(&format!("Making {mib} MiB of data, and a tracker and a seeder for it on loopback."));
    let data = source.join("quickstart.bin");
    let hashes = make_data(&data, mib)?;
    let tracker = tracker::Tracker::start();
    let torrent = folder.join("quickstart.torrent");
    fs::write(
        &torrent,
        NewTorrent {
            name: "quickstart.bin",
            content: Content::File((mib << 20) as u64),
            piece_length: PIECE_LENGTH as u32,
            piece_hashes: &hashes,
            trackers: &[vec![tracker.url()]],
            private: true,
        }
        .encode(),
    )?;
    let seeder = Client::builder(&torrent)
        .basedir(&source)
        .session_options(SessionOptions { bind: Some([127, 0, 0, 1].into()), ..Default::default() })
        .build()?;
    if !seeder.wait_complete(Duration::from_secs(60)) {
        return Err("the seeder's own data do not match".into());
    }

    let download = [
        torrent.as_os_str(),
        "--basedir".as_ref(),
        storage.as_os_str(),
        "--state-dir".as_ref(),
        state.as_os_str(),
        "--bind".as_ref(),
        "127.0.0.1".as_ref(),
        "--no-seed".as_ref(),
    ];
    let began = Instant::now();
    expect_success(btget, &download)?;
    let seconds = began.elapsed().as_secs_f64();
    say(&format!("Downloaded, verified and synced in {seconds:.2} s ({:.0} MiB/s).", mib as f64 / seconds));

    let (ours, theirs) = (independent_sha1(&data)?, independent_sha1(&storage.join("quickstart.bin"))?);
    if ours != theirs {
        return Err("the copy differs from the source".into());
    }
    say(&format!("An independent SHA-1 of source and copy agrees: {}.", hex(&ours)));
    expect_success(
        btget,
        &[torrent.as_os_str(), "--basedir".as_ref(), storage.as_os_str(), "--hashcheck-only".as_ref()],
    )
}

/// The real `btget`, built as this example was.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let folder =
        std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no target folder")?.to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // With the example beside it, so that the dependencies have the same features and are there already.
    build.args(["build", "--quiet", "--bin", "btget", "--example", "quickstart", "--manifest-path"]);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    if folder.ends_with("release") {
        build.arg("--release");
    }
    check(build.status()?, "cargo build")?;
    Ok(folder.join("btget"))
}

fn expect_success(btget: &Path, args: &[&std::ffi::OsStr]) -> Result<(), Box<dyn Error>> {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    say(&format!("\n$ btget {}", words.join(" ")));
    check(Command::new(btget).args(args).status()?, "btget")
}

fn check(status: ExitStatus, what: &str) -> Result<(), Box<dyn Error>> {
    if status.success() { Ok(()) } else { Err(format!("{what} ended with {status}").into()) }
}

/// Writes random data and gives the hashes of its pieces.
fn make_data(path: &Path, mib: usize) -> std::io::Result<Vec<Sha1>> {
    let mut random = fastrand::Rng::new();
    let mut file = fs::File::create(path)?;
    let mut piece = vec![0; PIECE_LENGTH];
    (0..(mib << 20) / PIECE_LENGTH)
        .map(|_| {
            random.fill(&mut piece);
            file.write_all(&piece)?;
            Ok(sha1(&piece))
        })
        .collect()
}

/// By the `sha1` crate, a file at a time: nothing of btget's own hashing is in it.
fn independent_sha1(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(fs::File::open(path)?);
    let (mut hasher, mut buffer) = (sha1::Sha1::new(), vec![0; 1 << 20]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_vec()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
