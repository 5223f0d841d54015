//! `--show`: what a torrent holds, for people and as JSON.
//!
//! Writes to where it is told, in one pass and without collecting, so 100,000 files cost the time
//! to write them. Everything a stranger wrote is escaped on the way to people; JSON escapes by
//! itself.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, Write};

use serde::{Serialize, Serializer};

use super::json::write_json;
use crate::metainfo::{File, InfoHashes, Metainfo};
use crate::text::{Moment, Size, escape, without_credentials};

/// Bytes gathered before they are written: one system call for some thousand files.
pub(super) const BUFFER: usize = 64 << 10;

/// Tells people what the torrent holds: all its hashes, whichever of them it was asked for by.
pub fn show(torrent: &Metainfo, out: &mut impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let layout = &torrent.layout;
    let piece_length = u64::from(layout.piece_length());
    field(&mut out, "name", escape(&torrent.name))?;
    hashes(&mut out, torrent.all_hashes)?;
    field(&mut out, "size", exact(layout.total()))?;
    field(&mut out, "pieces", format_args!("{} of {}", layout.num_pieces(), exact(piece_length)))?;
    field(&mut out, "private", if torrent.private { "yes: its own trackers alone" } else { "no" })?;
    if torrent.trackers.is_empty() {
        field(&mut out, "trackers", "none")?;
    }
    for (number, tier) in (1..).zip(&torrent.trackers) {
        for url in tier {
            field(&mut out, "tracker", format_args!("tier {number}: {}", escape(&without_credentials(url))))?;
        }
    }
    for url in &torrent.url_list {
        field(&mut out, "web seed", escape(&without_credentials(url)))?;
    }
    for url in &torrent.http_seeds {
        field(&mut out, "http seed", escape(&without_credentials(url)))?;
    }
    for (host, port) in &torrent.nodes {
        field(&mut out, "node", format_args!("{} port {port}", escape(host)))?;
    }
    if let Some(comment) = &torrent.comment {
        field(&mut out, "comment", escape(comment))?;
    }
    if let Some(creator) = &torrent.created_by {
        field(&mut out, "created by", escape(creator))?;
    }
    if let Some(date) = torrent.creation_date {
        field(&mut out, "created", Moment(date))?;
    }
    for note in &torrent.notes {
        field(&mut out, "note", escape(note))?;
    }
    files(&torrent.files, &mut out)?;
    out.flush()
}

/// The info hashes, each with its version where that is not 1 alone.
pub(super) fn hashes(out: &mut impl Write, hashes: InfoHashes) -> io::Result<()> {
    match (hashes.v1(), hashes.v2()) {
        (v1, None) => v1.map_or(Ok(()), |v1| field(out, "info hash", v1)),
        (None, Some(v2)) => field(out, "info hash", format_args!("v2: {v2}")),
        (Some(v1), Some(v2)) => {
            field(out, "info hash", format_args!("v1: {v1}"))?;
            field(out, "", format_args!("v2: {v2}"))
        }
    }
}

pub(super) fn field(out: &mut impl Write, name: &str, value: impl fmt::Display) -> io::Result<()> {
    writeln!(out, "{name:<11} {value}")
}

fn files(files: &[File], out: &mut impl Write) -> io::Result<()> {
    field(out, "files", files.len())?;
    writeln!(out)?;
    let digits = files.len().to_string().len();
    for (number, file) in (1..).zip(files) {
        write!(out, "{number:>digits$}  {:>10}  {}", Size(file.length), escape(&file.path))?;
        if file.pad {
            out.write_all(b" (padding, not made)")?;
        }
        if file.executable {
            out.write_all(b" (executable)")?;
        }
        if let Some(target) = &file.symlink {
            write!(out, " -> {}", escape(target))?;
        }
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// A size for people, and to the byte where that says more.
pub(super) fn exact(bytes: u64) -> String {
    match bytes {
        0..1000 => Size(bytes).to_string(),
        _ => format!("{} ({bytes} bytes)", Size(bytes)),
    }
}

/// Writes the one JSON object of `--show --json`, and a line feed. Its keys are a contract;
/// `pad` and `symlink` stand only with the files that are such.
pub fn show_json(torrent: &Metainfo, out: &mut impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let shown = Shown {
        name: &torrent.name,
        info_hash: torrent.all_hashes.to_string(),
        info_hash_v2: torrent.all_hashes.v2().map(|hash| hash.to_string()),
        total_size: torrent.layout.total(),
        piece_length: torrent.layout.piece_length(),
        num_pieces: torrent.layout.num_pieces(),
        num_files: torrent.files.len(),
        private: torrent.private,
        trackers: torrent
            .trackers
            .iter()
            .map(|tier| tier.iter().map(|url| without_credentials(url)).collect())
            .collect(),
        webseeds: torrent.url_list.iter().map(|url| without_credentials(url)).collect(),
        httpseeds: torrent.http_seeds.iter().map(|url| without_credentials(url)).collect(),
        comment: torrent.comment.as_deref(),
        created_by: torrent.created_by.as_deref(),
        creation_date: torrent.creation_date,
        notes: &torrent.notes,
        files: &torrent.files,
    };
    write_json(&shown, &mut out)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    /// Of version 1, where there is one.
    info_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash_v2: Option<String>,
    total_size: u64,
    piece_length: u32,
    num_pieces: u32,
    num_files: usize,
    private: bool,
    /// Tiers of URLs.
    trackers: Vec<Vec<Cow<'a, str>>>,
    /// URLs of BEP 19.
    webseeds: Vec<Cow<'a, str>>,
    /// URLs of BEP 17.
    httpseeds: Vec<Cow<'a, str>>,
    comment: Option<&'a str>,
    created_by: Option<&'a str>,
    creation_date: Option<i64>,
    notes: &'a [String],
    #[serde(serialize_with = "numbered")]
    files: &'a [File],
}

#[derive(Serialize)]
struct ShownFile<'a> {
    number: usize,
    path: &'a str,
    length: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pad: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink: Option<&'a str>,
}

fn numbered<S: Serializer>(files: &[File], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq((1..).zip(files).map(|(number, file)| ShownFile {
        number,
        path: &file.path,
        length: file.length,
        pad: file.pad,
        symlink: file.symlink.as_deref(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Sha1;
    use crate::metainfo::create::{Content, NewTorrent};
    use crate::metainfo::samples::Sample;

    fn shown(json: bool, bytes: &[u8]) -> String {
        let torrent = Metainfo::parse(bytes).unwrap();
        let mut out = Vec::new();
        if json { show_json(&torrent, &mut out) } else { show(&torrent, &mut out) }.unwrap();
        String::from_utf8(out).unwrap()
    }

    fn example() -> Vec<u8> {
        let torrent = NewTorrent {
            name: "album",
            content: Content::Folder(&[("one.flac", 40_000), ("art/cover.png", 0), ("two.flac", 30_000)]),
            piece_length: 65_536,
            piece_hashes: &[Sha1([1; 20]), Sha1([2; 20])],
            trackers: &[vec!["http://a.example/announce".to_owned()], vec!["udp://b.example:80".to_owned()]],
            private: false,
        };
        torrent.encode()
    }

    #[test]
    fn people_see_everything_that_matters() {
        let info_hash = Metainfo::parse(&example()).unwrap().info_hash;
        let expected = format!(
            "name        album\n\
             info hash   {info_hash}\n\
             size        68.4 KiB (70000 bytes)\n\
             pieces      2 of 64.0 KiB (65536 bytes)\n\
             private     no\n\
             tracker     tier 1: http://a.example/announce\n\
             tracker     tier 2: udp://b.example:80\n\
             files       3\n\
             \n\
             1    39.1 KiB  album/one.flac\n\
             2         0 B  album/art/cover.png\n\
             3    29.3 KiB  album/two.flac\n"
        );
        assert_eq!(shown(false, &example()), expected);
    }

    #[test]
    fn a_hybrid_has_both_hashes_by_whichever_it_was_asked_for() {
        let whole = Metainfo::parse(&Sample::new(&[("a", 40_000)], true).torrent()).unwrap();
        let InfoHashes::Hybrid(v1, v2) = whole.info_hash else { panic!("it is a hybrid") };
        for info_hash in [InfoHashes::V1(v1), InfoHashes::V2(v2), whole.info_hash] {
            let torrent = Metainfo { info_hash, ..whole.clone() };
            let mut out = Vec::new();
            show(&torrent, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(
                text.contains(&format!("info hash   v1: {v1}\n            v2: {v2}\n")),
                "{info_hash:?}: {text}"
            );
            let mut out = Vec::new();
            show_json(&torrent, &mut out).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let hashes = (&json["info_hash"], &json["info_hash_v2"]);
            assert_eq!(hashes, (&v1.to_string().into(), &v2.to_string().into()), "{info_hash:?}");
        }
    }

    #[test]
    fn programs_get_the_keys_of_the_contract() {
        let json: serde_json::Value = serde_json::from_str(&shown(true, &example())).unwrap();
        let keys = [
            "name",
            "info_hash",
            "total_size",
            "piece_length",
            "num_pieces",
            "num_files",
            "private",
            "files",
            "trackers",
            "webseeds",
            "httpseeds",
            "comment",
            "created_by",
            "creation_date",
        ];
        assert!(keys.iter().all(|key| json.get(key).is_some()), "{json}");
        assert_eq!(
            json["files"][1],
            serde_json::json!({"number": 2, "path": "album/art/cover.png", "length": 0})
        );
        assert_eq!(
            json["trackers"],
            serde_json::json!([["http://a.example/announce"], ["udp://b.example:80"]])
        );
        assert_eq!(json["total_size"], 70_000);
        assert_eq!(json["info_hash"].as_str().unwrap().len(), 40);
    }

    #[test]
    fn web_seeds_are_shown_without_what_is_secret_in_them() {
        let bytes = example();
        let bytes =
            [&bytes[..bytes.len() - 1], b"8:url-listl17:http://a:b@s/pub/e9:httpseedsl10:http://s/pee"]
                .concat();
        let text = shown(false, &bytes);
        assert!(text.contains("web seed    http://***@s/pub/\nhttp seed   http://s/p\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&shown(true, &bytes)).unwrap();
        assert_eq!(json["webseeds"], serde_json::json!(["http://***@s/pub/"]));
        assert_eq!(json["httpseeds"], serde_json::json!(["http://s/p"]));
    }

    #[test]
    fn nothing_a_stranger_wrote_reaches_a_terminal_raw() {
        let hostile =
            b"d7:comment5:\x1b[2Ja10:created by4:\nB\r\x074:infod6:lengthi1e4:name8:\x1b]0;x\x07\n/\
            12:piece lengthi1e6:pieces20:01234567890123456789ee";
        let text = shown(false, hostile);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
        assert!(text.starts_with("name        \\u{1b}]0;x\\u{7}\\n/\n"), "{text}");
        assert!(text.contains("comment     \\u{1b}[2Ja\ncreated by  \\nB\\r\\u{7}\n"), "{text}");
        assert_eq!(shown(true, hostile).lines().count(), 1);
    }
}
