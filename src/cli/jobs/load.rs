//! Reads .torrent files from disk or standard input, and magnet links.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, anyhow};

use crate::cli::options::config::TorrentSource;
use crate::ids::InfoHashes;
use crate::metainfo::{MAX_LENGTH, Magnet, Metainfo};
use crate::text::escape;

/// A torrent and where it came from.
#[derive(Clone)]
pub(crate) struct Loaded {
    /// As the user named it, escaped.
    pub from: String,
    /// The torrent.
    pub metainfo: Metainfo,
    /// The link that it is known by.
    pub link: Option<Box<Magnet>>,
}

/// What a torrent is known by.
#[derive(Clone)]
pub(crate) enum Given {
    /// A .torrent.
    Torrent(Loaded),
    /// A magnet link.
    Magnet(Magnet),
}

impl Given {
    /// Its info hash.
    pub(crate) fn info_hash(&self) -> InfoHashes {
        match self {
            Given::Torrent(torrent) => torrent.metainfo.info_hash,
            Given::Magnet(magnet) => magnet.info_hash,
        }
    }

    /// What it is called, not escaped: a magnet link without a name by its hash.
    pub(crate) fn name(&self) -> String {
        match self {
            Given::Torrent(torrent) => torrent.metainfo.name.clone(),
            Given::Magnet(magnet) => magnet.name_or_hash(),
        }
    }

    /// What it is, if that is known.
    pub(crate) fn metainfo(&self) -> Option<&Metainfo> {
        match self {
            Given::Torrent(torrent) => Some(&torrent.metainfo),
            Given::Magnet(_) => None,
        }
    }

    /// As the user named it, escaped.
    pub(crate) fn from(&self) -> &str {
        match self {
            Given::Torrent(torrent) => &torrent.from,
            Given::Magnet(_) => "the magnet link",
        }
    }

    /// What was changed about names or left out, for people.
    pub(crate) fn notes(&self) -> &[String] {
        match self {
            Given::Torrent(torrent) => &torrent.metainfo.notes,
            Given::Magnet(magnet) => &magnet.notes,
        }
    }
}

/// Reads and checks one torrent, at most [`MAX_LENGTH`] bytes of it. The error is a whole message.
pub(crate) fn load(source: &TorrentSource) -> anyhow::Result<Given> {
    let (from, bytes) = match source {
        TorrentSource::Stdin => ("standard input".to_owned(), read(io::stdin().lock())),
        TorrentSource::Path(path) => {
            (escape(&path.to_string_lossy()).into_owned(), File::open(path).and_then(read))
        }
        TorrentSource::Magnet(link) => {
            return Ok(Given::Magnet(Magnet::parse(link).context("cannot read the magnet link")?));
        }
    };
    let bytes = bytes.map_err(|error| anyhow!("cannot read {from}: {}", remedy(&error, &from)))?;
    let metainfo = Metainfo::parse(&bytes).with_context(|| format!("cannot read {from}"))?;
    Ok(Given::Torrent(Loaded { from, metainfo, link: None }))
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
