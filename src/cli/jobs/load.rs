//! Reads .torrent files from disk or standard input, and magnet links.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context, anyhow};

use crate::cli::options::config::TorrentSource;
use crate::client::{Download, SessionOptions, download_torrent};
use crate::event::{Unfetched, Verdict};
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
    /// The .torrent as a server has given it.
    pub fetched: Option<Arc<[u8]>>,
}

/// What a torrent is known by.
#[derive(Clone)]
pub(crate) enum Given {
    /// A .torrent.
    Torrent(Box<Loaded>),
    /// A magnet link.
    Magnet(Box<Magnet>),
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

/// Reads and checks one torrent, at most [`MAX_LENGTH`] bytes of it; what is to be fetched is reached as the session would. The error is a
/// whole message.
pub(crate) fn load(
    source: &TorrentSource,
    session: &SessionOptions,
) -> Result<Given, (Verdict, anyhow::Error)> {
    match source {
        TorrentSource::Magnet(link) => {
            let magnet = Magnet::parse(link).context("cannot read the magnet link");
            magnet.map(|magnet| Given::Magnet(Box::new(magnet))).map_err(|error| (Verdict::NotAMagnet, error))
        }
        TorrentSource::Url(url) => fetch(url, &escape(&source.name()), session),
        TorrentSource::Stdin => read_torrent("standard input".to_owned(), read(io::stdin().lock()))
            .map_err(|error| (Verdict::NotATorrent, error)),
        TorrentSource::Path(path) => {
            let from = escape(&path.to_string_lossy()).into_owned();
            read_torrent(from, File::open(path).and_then(read)).map_err(|error| (Verdict::NotATorrent, error))
        }
    }
}

/// Fetches a .torrent; `shown` is its URL as it may be printed.
fn fetch(url: &str, shown: &str, session: &SessionOptions) -> Result<Given, (Verdict, anyhow::Error)> {
    let Download { bytes, is_page } = download_torrent(url, session).map_err(|error| {
        let remedy = match error.kind {
            Unfetched::NotFound | Unfetched::UnknownHost => "check the URL",
            Unfetched::Denied => "log in, and give the .torrent as a file, or user:password@ in the URL",
            _ => "try again, or fetch it by other means",
        };
        let text = format!("cannot fetch {shown}: {}; {remedy}", escape(&error.reason));
        (Verdict::NotFetched(error.kind), anyhow!(text))
    })?;
    let not_one = |error: anyhow::Error| (Verdict::NotATorrent, error);
    let is_html = is_html(&bytes) || (is_page && !bytes.starts_with(b"d"));
    if is_html {
        return Err(not_one(anyhow!(
            "cannot read {shown}: it is a web page (HTML) and no .torrent; look there for the link to the .torrent itself"
        )));
    }
    let metainfo =
        Metainfo::parse(&bytes).with_context(|| format!("cannot read {shown}")).map_err(not_one)?;
    let loaded = Loaded { from: shown.to_owned(), metainfo, link: None, fetched: Some(bytes.into()) };
    Ok(Given::Torrent(Box::new(loaded)))
}

/// Whether it begins as a web page does, with or without a byte order mark, comments not looked into.
fn is_html(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begins =
        |with: &str| bytes.get(..with.len()).is_some_and(|front| front.eq_ignore_ascii_case(with.as_bytes()));
    ["<!doctype html", "<html", "<head", "<body", "<!--", "<?xml"].into_iter().any(begins)
}

fn read_torrent(from: String, bytes: io::Result<Vec<u8>>) -> anyhow::Result<Given> {
    let bytes = bytes.map_err(|error| anyhow!("cannot read {from}: {}", remedy(&error, &from)))?;
    let metainfo = Metainfo::parse(&bytes).with_context(|| format!("cannot read {from}"))?;
    Ok(Given::Torrent(Box::new(Loaded { from, metainfo, link: None, fetched: None })))
}

/// One byte more than is allowed, so that too much is seen as such.
fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn remedy(error: &io::Error, from: &str) -> String {
    match error.kind() {
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
