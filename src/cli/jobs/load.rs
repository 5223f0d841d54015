//! Reads .torrent files from disk or standard input.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, anyhow};

use crate::cli::options::config::TorrentSource;
use crate::metainfo::{MAX_LENGTH, Metainfo};
use crate::text::escape;

/// A torrent and where it came from.
pub(crate) struct Loaded {
    /// As the user named it, escaped.
    pub from: String,
    /// The torrent.
    pub metainfo: Metainfo,
}

/// Reads and checks one torrent, at most [`MAX_LENGTH`] bytes of it. The error is a whole message.
pub(crate) fn load(source: &TorrentSource) -> anyhow::Result<Loaded> {
    let from = match source {
        TorrentSource::Stdin => "standard input".to_owned(),
        TorrentSource::Path(path) => escape(&path.to_string_lossy()).into_owned(),
    };
    let bytes = match source {
        TorrentSource::Stdin => read(io::stdin().lock()),
        TorrentSource::Path(path) => File::open(path).and_then(read),
    };
    let bytes = bytes.map_err(|error| anyhow!("cannot read {from}: {}", remedy(&error, &from)))?;
    let metainfo = Metainfo::parse(&bytes).with_context(|| format!("cannot read {from}"))?;
    Ok(Loaded { from, metainfo })
}

/// One byte more than is allowed, so that too much is seen as such.
fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn remedy(error: &io::Error, from: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if from.starts_with("http://") || from.starts_with("https://") => {
            format!("no such file; to fetch it: curl -L {from} | btget -")
        }
        io::ErrorKind::NotFound => "no such file; check the path".to_owned(),
        io::ErrorKind::IsADirectory => {
            format!("it is a folder; give the .torrent file itself, and a folder for the data as -d {from}")
        }
        io::ErrorKind::PermissionDenied => "permission denied; make it readable for this user".to_owned(),
        _ => cause(error),
    }
}

/// The cause alone, in lower case, without the number.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
