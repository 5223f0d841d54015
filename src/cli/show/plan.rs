//! `--plan`: what a transfer would do, for people and as JSON.
//!
//! Everything a stranger wrote is escaped on the way to people; JSON escapes by itself.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::json::write_json;
use super::torrent::{BUFFER, exact, field, hashes};
use crate::cli::Exit;
use crate::client::Plan;
use crate::event::Pieces;
use crate::metainfo::Metainfo;
use crate::text::{Size, count, escape};

/// How the transfer would end as things are: 0 if it can begin.
pub(crate) fn exit_of(plan: &Plan) -> Exit {
    plan.obstacles.first().map_or(Exit::Complete, |(verdict, _)| Exit::from(*verdict))
}

/// Tells people what would be done.
pub(crate) fn show_plan(torrent: &Metainfo, plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    field(&mut out, "name", escape(&torrent.name))?;
    hashes(&mut out, torrent.all_hashes)?;
    let made = if plan.makes_basedir { " (the base folder is made)" } else { "" };
    field(&mut out, "path", format_args!("{}{made}", path(&plan.path)))?;
    let there = exact(plan.wanted_bytes - plan.missing_bytes);
    field(&mut out, "there", format_args!("{there} of {} wanted", exact(plan.wanted_bytes)))?;
    field(&mut out, "missing", exact(plan.missing_bytes))?;
    field(&mut out, "to fetch", exact(plan.bytes_to_fetch))?;
    if !plan.corrupt.is_empty() {
        let (pieces, ranges) = (count(plan.corrupt.count(), "piece"), Pieces(plan.corrupt.ranges()));
        field(&mut out, "corrupt", format_args!("{pieces}, written over: {ranges}"))?;
    }
    let free = plan.room_free.map_or("nobody knows how much is".to_owned(), exact);
    field(&mut out, "room", format_args!("{} needed, {free} free", exact(plan.room_needed)))?;
    if let Some(size) = plan.part_file_size {
        field(&mut out, "part file", format_args!("{}, {}", path(&plan.part_file), exact(size)))?;
    }
    if plan.to_part_file > 0 {
        let adds = exact(plan.to_part_file);
        field(&mut out, "part file", format_args!("{} gets {adds}", path(&plan.part_file)))?;
    }
    for file in &plan.too_long {
        let (size, length) = (file.size, file.length);
        let what = if file.cut { "it is cut" } else { "it keeps its tail" };
        field(
            &mut out,
            "too long",
            format_args!("{}: {size} bytes instead of {length}; {what}", path(&file.path)),
        )?;
    }
    if plan.trackers.is_empty() {
        field(&mut out, "trackers", "none")?;
    }
    for (number, tier) in (1..).zip(&plan.trackers) {
        for url in tier {
            field(&mut out, "tracker", format_args!("tier {number}: {}", escape(url)))?;
        }
    }
    for url in &plan.web_seeds {
        field(&mut out, "web seed", escape(url))?;
    }
    for note in &plan.notes {
        field(&mut out, "note", escape(note))?;
    }
    for (_, reason) in &plan.obstacles {
        field(&mut out, "in the way", escape(reason))?;
    }
    if plan.obstacles.is_empty() {
        let said = if plan.missing_bytes > 0 { "it can begin" } else { "all is there" };
        field(&mut out, "result", said)?;
    } else {
        field(
            &mut out,
            "result",
            format_args!("it cannot come to its end (exit code {})", exit_of(plan).code()),
        )?;
    }
    files(plan, &mut out)?;
    out.flush()
}

/// The files that lack something, under the numbers by which they can be chosen.
fn files(plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let wanted = plan.files.iter().filter(|file| file.wanted).count();
    let lacking = || (1..).zip(&plan.files).filter(|(_, file)| file.wanted && file.missing > 0);
    field(out, "files", format_args!("{wanted} wanted, of which {} lack data", lacking().count()))?;
    let digits = plan.files.len().to_string().len();
    for (place, (number, file)) in lacking().enumerate() {
        if place == 0 {
            out.write_all(b"\n")?;
        }
        let (missing, length) = (Size(file.missing), Size(file.length));
        writeln!(out, "{number:>digits$}  {missing:>10} of {length:>10}  {}", path(&file.path))?;
    }
    Ok(())
}

fn path(path: &Path) -> String {
    escape(&path.to_string_lossy()).into_owned()
}

/// Writes the one JSON object of `--plan --json`, and a line feed. Its keys are a contract.
pub(crate) fn show_plan_json(torrent: &Metainfo, plan: &Plan, out: &mut impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let missing = plan.wanted.difference(&plan.have);
    let files = (1..).zip(&plan.files).map(|(number, file)| ShownFile {
        number,
        path: file.path.to_string_lossy(),
        length: file.length,
        wanted: file.wanted,
        missing: file.missing,
    });
    let too_long = plan.too_long.iter().map(|file| ShownLong {
        path: file.path.to_string_lossy(),
        size: file.size,
        length: file.length,
        cut: file.cut,
    });
    let obstacles = plan.obstacles.iter();
    let obstacles =
        obstacles.map(|(verdict, reason)| Obstacle { exit_code: Exit::from(*verdict).code(), reason });
    let shown = Shown {
        name: &torrent.name,
        info_hash: torrent.info_hash.to_string(),
        info_hash_v2: torrent.info_hash.v2().map(|hash| hash.to_string()),
        path: plan.path.to_string_lossy(),
        makes_basedir: plan.makes_basedir,
        total_size: torrent.layout.total(),
        wanted_size: plan.wanted_bytes,
        missing_size: plan.missing_bytes,
        bytes_to_fetch: plan.bytes_to_fetch,
        have: Pieces(plan.have.ranges()),
        missing: Pieces(missing.ranges()),
        corrupt: Pieces(plan.corrupt.ranges()),
        room_needed: plan.room_needed,
        room_free: plan.room_free,
        part_file: PartFile {
            path: plan.part_file.to_string_lossy(),
            size: plan.part_file_size,
            added: plan.to_part_file,
        },
        files: files.collect(),
        too_long: too_long.collect(),
        notes: &plan.notes,
        trackers: &plan.trackers,
        web_seeds: &plan.web_seeds,
        obstacles: obstacles.collect(),
        exit_code: exit_of(plan).code(),
    };
    write_json(&shown, &mut out)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    info_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash_v2: Option<String>,
    path: Cow<'a, str>,
    makes_basedir: bool,
    total_size: u64,
    wanted_size: u64,
    missing_size: u64,
    bytes_to_fetch: u64,
    have: Pieces,
    missing: Pieces,
    corrupt: Pieces,
    room_needed: u64,
    /// `null` if nobody knows.
    room_free: Option<u64>,
    part_file: PartFile<'a>,
    files: Vec<ShownFile<'a>>,
    too_long: Vec<ShownLong<'a>>,
    notes: &'a [String],
    /// Tiers of URLs.
    trackers: &'a [Vec<String>],
    web_seeds: &'a [String],
    obstacles: Vec<Obstacle<'a>>,
    exit_code: u8,
}

#[derive(Serialize)]
struct PartFile<'a> {
    path: Cow<'a, str>,
    /// `null` if it is not there.
    size: Option<u64>,
    added: u64,
}

#[derive(Serialize)]
struct ShownFile<'a> {
    number: usize,
    path: Cow<'a, str>,
    length: u64,
    wanted: bool,
    missing: u64,
}

#[derive(Serialize)]
struct ShownLong<'a> {
    path: Cow<'a, str>,
    size: u64,
    length: u64,
    cut: bool,
}

#[derive(Serialize)]
struct Obstacle<'a> {
    exit_code: u8,
    reason: &'a str,
}
