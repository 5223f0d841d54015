//! `--create` and what goes with it: the options, as people type them, and checked.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use clap::{Args as ClapArgs, ValueEnum, ValueHint};

use crate::cli::options::args::Args;
use crate::metainfo::draft::{DraftDetails, Format};
use crate::metainfo::{MAX_PIECE_LENGTH, PeerAddress};
use crate::text::escape;

/// Bytes in a comment, and in a source, that clients keep.
const MAX_WORDS: usize = 4096;

/// The options of `--create`.
#[derive(ClapArgs, Debug)]
pub struct CreateArgs {
    /// Make a .torrent of a file or folder; prints its magnet link
    ///
    /// All files below a folder are in it, hidden ones too, in the order of their paths; empty folders are left out. Symbolic
    /// links stay links; they must lead to a file or folder in it. The same tree gives the same .torrent, byte for byte. If a
    /// file cannot be read or changes meanwhile, nothing is written (exit 17). --tracker and --webseed are those of
    /// the torrent then, --overwrite is for the .torrent.
    #[arg(
        long,
        value_name = "PATH",
        value_hint = ValueHint::AnyPath,
        conflicts_with_all = ["torrents", "show", "plan", "hashcheck_only", "full_check", "cat", "files", "priority", "save_torrent",
            "peer", "no_webseeds", "events", "on_complete", "on_error"],
        help_heading = "Making torrents"
    )]
    pub create: Option<PathBuf>,

    /// Where the .torrent is written [default: NAME.torrent in this folder]
    ///
    /// `-` is standard output; the magnet link goes to standard error then. A file that is there is only replaced with --overwrite.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Making torrents")]
    pub output: Option<PathBuf>,

    /// Versions of BitTorrent that can read it: v1, v2 or hybrid [default: hybrid]
    ///
    /// Every client reads v1. v2 has a hash tree for each file, so that bad data are found in blocks of 16 KiB, and files of the
    /// same content are seen to be so; libtorrent and the clients built on it read that. hybrid is both, with padding between
    /// the files.
    #[arg(long, value_name = "V", value_enum, hide_possible_values = true, help_heading = "Making torrents")]
    pub format: Option<FormatArg>,

    /// Bytes in a piece, 16K to 256M [default: for 1,000 to 2,000 pieces]
    ///
    /// A power of two. By default the least one, up to 16M, with which there are no more than 2,000 pieces.
    #[arg(long, value_name = "N", value_parser = piece_length, help_heading = "Making torrents")]
    pub piece_length: Option<u32>,

    /// A node of the DHT in the torrent; repeatable
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "private", help_heading = "Making torrents")]
    pub node: Vec<PeerAddress>,

    /// A private torrent: peers are found by its trackers alone
    #[arg(long, help_heading = "Making torrents")]
    pub private: bool,

    /// A comment for people
    #[arg(long, value_name = "TEXT", value_parser = words, help_heading = "Making torrents")]
    pub comment: Option<String>,

    /// A word that makes the info hash another one, as some trackers ask for
    #[arg(long, value_name = "TEXT", value_parser = words, help_heading = "Making torrents")]
    pub source: Option<String>,

    /// Say when it was made, and by which program
    ///
    /// WHEN is a date (2026-11-30), a time in UTC (2026-11-30T12:00:00Z), seconds since 1970 (@1796040000), or now, which is the default. Without
    /// --date the .torrent does not say it, and is the same whenever it is made.
    #[arg(long, value_name = "WHEN", value_parser = date, num_args = 0..=1, default_missing_value = "now",
          help_heading = "Making torrents")]
    pub date: Option<i64>,

    /// With --show, print the magnet link and nothing else
    #[arg(long, requires = "show", conflicts_with = "json", help_heading = "Output")]
    pub magnet: bool,
}

/// `--format`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs)]
pub enum FormatArg {
    V1,
    V2,
    Hybrid,
}

/// What `--create` is to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CreateOptions {
    /// The file or folder.
    pub path: PathBuf,
    /// `--output`; `-` is standard output.
    pub output: Option<PathBuf>,
    /// `--overwrite`.
    pub overwrite: bool,
    /// `--format`.
    pub format: Format,
    /// `--piece-length`, in bytes.
    pub piece_length: Option<u32>,
    /// What the torrent says besides what it shares.
    pub details: DraftDetails,
}

impl CreateOptions {
    /// Checks what the options of `--create` mean together; `None` if it is not asked for.
    pub(crate) fn new(
        args: &Args,
        trackers: &[Vec<String>],
        web_seeds: &[String],
    ) -> anyhow::Result<Option<CreateOptions>> {
        let making = &args.making;
        let Some(path) = &making.create else { return refuse_alone(making).map(|()| None) };
        let is_stdout = making.output.as_ref().is_some_and(|output| output.as_os_str() == "-");
        if is_stdout && args.json {
            bail!("-o - and --json both write to standard output; give a file");
        }
        let date = making.date;
        let node = |node: &PeerAddress| match node {
            PeerAddress::Ip(address) => (address.ip().to_string(), address.port()),
            PeerAddress::Name(host, port) => (host.clone(), *port),
        };
        Ok(Some(CreateOptions {
            path: path.clone(),
            output: making.output.clone(),
            overwrite: args.overwrite,
            format: match making.format {
                Some(FormatArg::V1) => Format::V1,
                Some(FormatArg::V2) => Format::V2,
                None | Some(FormatArg::Hybrid) => Format::Hybrid,
            },
            piece_length: making.piece_length,
            details: DraftDetails {
                trackers: trackers.to_vec(),
                web_seeds: web_seeds.to_vec(),
                nodes: making.node.iter().map(node).collect(),
                private: making.private,
                source: making.source.clone(),
                comment: making.comment.clone(),
                created_by: date.map(|_| concat!("btget/", env!("CARGO_PKG_VERSION")).to_owned()),
                creation_date: date,
            },
        }))
    }
}

/// Without `--create` its options would do nothing. (clap passes over what an option requires if that conflicts with a TORRENT.)
fn refuse_alone(making: &CreateArgs) -> anyhow::Result<()> {
    if making.output.is_some() {
        bail!(
            "'-o' says where --create writes a .torrent; for a download give the folder as -d DIR, e.g. btget some.torrent -d ./storage"
        );
    }
    let given = [
        (making.format.is_some(), "--format"),
        (making.piece_length.is_some(), "--piece-length"),
        (!making.node.is_empty(), "--node"),
        (making.private, "--private"),
        (making.comment.is_some(), "--comment"),
        (making.source.is_some(), "--source"),
        (making.date.is_some(), "--date"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(anyhow!(
            "{option} is about making a torrent; say of what, e.g. btget --create ./folder, or leave it out"
        )),
        None => Ok(()),
    }
}

/// `--piece-length`: a power of two, in bytes or with a unit.
fn piece_length(text: &str) -> anyhow::Result<u32> {
    let bare = text.trim_end_matches(['B', 'b']).trim_end_matches('i');
    let (number, factor) = match bare.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&bare[..at], 1u32 << 10),
        Some((at, 'M' | 'm')) => (&bare[..at], 1 << 20),
        _ => (bare, 1),
    };
    // `parse` would take a plus sign.
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = number.parse::<u32>().ok().filter(|_| plain).and_then(|number| number.checked_mul(factor));
    bytes.filter(|bytes| bytes.is_power_of_two() && (16 << 10..=MAX_PIECE_LENGTH).contains(bytes)).ok_or_else(|| {
        anyhow!("give a power of two from 16K to 256M, in bytes or with K or M for 1024 or 1024^2, e.g. 256K, 1M or 1048576")
    })
}

/// `--comment`, `--source`.
fn words(text: &str) -> anyhow::Result<String> {
    match text.len() {
        0 => Err(anyhow!("it is empty; leave the option out, or give some words, e.g. 'of a cat'")),
        1..=MAX_WORDS => Ok(text.to_owned()),
        length => Err(anyhow!("{length} bytes; give {MAX_WORDS} at the most")),
    }
}

/// `--date`, as seconds since 1970.
fn date(text: &str) -> anyhow::Result<i64> {
    const ALLOWED: &str = "give a date, a time in UTC, seconds since 1970 behind @, or now, e.g. 2026-11-30, 2026-11-30T12:00:00Z or @1796040000";
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
    let seconds = match text.strip_prefix('@') {
        Some(number) => {
            let plain = number.bytes().all(|byte| byte.is_ascii_digit());
            number.parse().ok().filter(|_| plain)
        }
        None if text == "now" => seconds(SystemTime::now()),
        None => {
            let day = format!("{text}T00:00:00Z");
            let time = humantime::parse_rfc3339_weak(text).or_else(|_| humantime::parse_rfc3339_weak(&day));
            time.ok().and_then(seconds)
        }
    };
    seconds
        .and_then(|seconds| i64::try_from(seconds).ok())
        .with_context(|| format!("'{}' is no date; {ALLOWED}", escape(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piece_lengths_are_powers_of_two_in_bytes_or_with_a_unit() {
        for (text, bytes) in [
            ("16384", 16384),
            ("16K", 16384),
            ("1m", 1 << 20),
            ("2MiB", 2 << 20),
            ("256M", 1 << 28),
            ("512KB", 1 << 19),
        ] {
            assert_eq!(piece_length(text).unwrap(), bytes, "{text}");
        }
        for wrong in
            ["", "K", "8K", "18", "17K", "512M", "1G", "+16384", "-1", "1.5M", "5é", "é", "9999999M", "16 K"]
        {
            assert!(piece_length(wrong).unwrap_err().to_string().contains("e.g. 256K"), "{wrong}");
        }
    }

    #[test]
    fn dates_are_days_times_and_seconds() {
        for (text, seconds) in [
            ("@0", 0),
            ("@1796040000", 1_796_040_000),
            ("1970-01-02", 86400),
            ("1970-01-01T00:01:00Z", 60),
            ("1970-01-01 00:01:00", 60),
        ] {
            assert_eq!(date(text).unwrap(), seconds, "{text}");
        }
        assert!(date("now").unwrap() > 1_700_000_000);
        for wrong in [
            "",
            "@",
            "@-1",
            "@+1",
            "@1e9",
            "yesterday",
            "1969-12-31",
            "2026-13-01",
            "@99999999999999999999",
            "12:00",
        ] {
            assert!(date(wrong).unwrap_err().to_string().contains("@1796040000"), "{wrong}");
        }
    }

    #[test]
    fn words_are_neither_empty_nor_a_book() {
        assert_eq!(words("of a cat").unwrap(), "of a cat");
        assert!(words("").is_err() && words(&"a".repeat(MAX_WORDS + 1)).is_err());
    }
}
