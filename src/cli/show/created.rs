//! What `--create` has made, for people and as JSON.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::json::write_json;
use crate::ids::InfoHashes;
use crate::metainfo::draft::{Draft, Format};
use crate::text::{Rate, Size, count, escape};

/// A torrent that was made.
pub(crate) struct Created<'a> {
    pub draft: &'a Draft,
    pub info_hash: InfoHashes,
    pub private: bool,
    /// Where it was written; `None`: to standard output.
    pub target: Option<&'a Path>,
    pub magnet: &'a str,
    /// What people should know of it.
    pub notes: &'a [String],
}

/// Tells people, a line each.
pub(crate) fn told(created: &Created<'_>, elapsed: Duration) -> Vec<String> {
    let draft = created.draft;
    let layout = draft.layout();
    let total = draft.total();
    let format = match draft.format() {
        Format::V1 => "v1",
        Format::V2 => "v2",
        Format::Hybrid => "hybrid",
    };
    let seconds = elapsed.as_secs_f64().max(0.001);
    let mut lines = vec![format!(
        "{}: {format}, {} in {}, {} of {}; {:.1}s, {}",
        escape(draft.name()),
        Size(total),
        count(draft.files().len() as u64, "file"),
        count(layout.num_pieces(), "piece"),
        Size(u64::from(layout.piece_length())),
        seconds,
        Rate((total as f64 / seconds) as u64),
    )];
    match created.info_hash {
        InfoHashes::V1(v1) => lines.push(format!("info hash {v1}")),
        InfoHashes::V2(v2) => lines.push(format!("info hash {v2}")),
        InfoHashes::Hybrid(v1, v2) => {
            lines.push(format!("info hash v1 {v1}"));
            lines.push(format!("info hash v2 {v2}"));
        }
    }
    if let Some(target) = created.target {
        lines.push(format!("written to {}", escape(&target.to_string_lossy())));
    }
    lines
}

/// Writes the one JSON object of `--create --json`, and a line feed. Its keys are a contract, those of `--show --json` where they
/// say the same.
pub(crate) fn show_created_json(created: &Created<'_>, out: &mut impl Write) -> io::Result<()> {
    let draft = created.draft;
    let v2 = match created.info_hash {
        InfoHashes::V1(_) => None,
        InfoHashes::V2(v2) | InfoHashes::Hybrid(_, v2) => Some(v2.to_string()),
    };
    let shown = CreatedJson {
        name: draft.name(),
        info_hash: created.info_hash.to_string(),
        info_hash_v2: v2,
        total_size: draft.total(),
        piece_length: draft.layout().piece_length(),
        num_pieces: draft.layout().num_pieces(),
        num_files: draft.files().len(),
        private: created.private,
        file: created.target.map(|target| target.to_string_lossy().into_owned()),
        magnet: created.magnet,
        notes: created.notes,
    };
    write_json(&shown, out)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct CreatedJson<'a> {
    name: &'a str,
    /// Of version 1 where there is one.
    info_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash_v2: Option<String>,
    total_size: u64,
    piece_length: u32,
    num_pieces: u32,
    /// Without pads.
    num_files: usize,
    private: bool,
    file: Option<String>,
    magnet: &'a str,
    notes: &'a [String],
}
