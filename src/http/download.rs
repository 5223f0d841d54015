//! Fetches a .torrent from a URL that the user has given, over HTTP or HTTPS.
//!
//! Redirects are followed as those of a tracker are: each hop is judged, and all share one deadline.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use ureq::http::{Response, Uri, header};

use super::{
    Interrupt, LARGE_BUFFER, MAX_REDIRECTS, Proxies, Reach, Route, agent, ca_file_from_env, explain, headers,
    location_of, resolve, url,
};
use crate::bind::Local;
use crate::event::Unfetched;

/// The longest that a download takes, all in all.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 << 10;

/// How a .torrent is reached.
#[derive(Clone, Debug)]
pub struct DownloadOptions {
    /// The longest that it takes, name look-ups and redirects and all.
    pub timeout: Duration,
    /// What connections are bound to.
    pub local: Local,
    /// Proxies.
    pub proxies: Proxies,
    /// PEM file of the authorities that sign servers' certificates, instead of the bundled ones (Mozilla's).
    pub ca_file: Option<PathBuf>,
}

impl DownloadOptions {
    /// 30 s, and what the user has set in the environment: proxies, and `SSL_CERT_FILE`.
    pub fn from_env() -> DownloadOptions {
        DownloadOptions {
            timeout: TIMEOUT,
            local: Local::default(),
            proxies: Proxies::from_env(),
            ca_file: ca_file_from_env(),
        }
    }
}

/// One request, and where it may lead.
struct Hop {
    uri: Uri,
    /// The value of an `Authorization` header.
    credentials: Option<String>,
    reach: Reach,
    /// Set once there is a connection to an inner address.
    reached_inside: Arc<AtomicBool>,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct DownloadError {
    /// What went wrong, for programs.
    pub kind: Unfetched,
    /// The same for people: the cause alone.
    pub reason: String,
}

impl DownloadError {
    fn new(kind: Unfetched, reason: impl Into<String>) -> DownloadError {
        DownloadError { kind, reason: reason.into() }
    }
}

/// What is at a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Download {
    /// The body of the answer, inflated.
    pub bytes: Vec<u8>,
    /// It is said to be a page for a browser.
    pub is_page: bool,
}

enum Reply {
    Body(Download),
    Redirect(String),
}

/// Fetches what is at an http or https URL, of any content type, with at most `limit` bytes after inflating; blocks for
/// [`DownloadOptions::timeout`] at the most, name lookups and redirects included.
///
/// # Errors
///
/// Whatever keeps it from the whole of a successful answer.
pub fn download(url: &str, limit: u64, options: &DownloadOptions) -> Result<Download, DownloadError> {
    let (done, answer) = sync_channel(1);
    let (url, patience, late, options) =
        (url.to_owned(), options.timeout, too_late(options), options.clone());
    // A look-up cannot be cut short: the thread is left to itself then.
    let work = move || drop(done.send(follow(&url, limit, &options)));
    let thread = std::thread::Builder::new().name("download".to_owned()).spawn(work);
    thread.map_err(|error| {
        DownloadError::new(Unfetched::Network, format!("cannot start a thread: {error}; allow more of them"))
    })?;
    match answer.recv_timeout(patience) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(DownloadError::new(Unfetched::Network, late))
        }
    }
}

fn follow(url: &str, limit: u64, options: &DownloadOptions) -> Result<Download, DownloadError> {
    let deadline = Instant::now() + options.timeout;
    let (mut url, mut last) = (url::clean(url), None);
    for _ in 0..=MAX_REDIRECTS {
        let hop = next_hop(&url, last.as_ref())?;
        match get(&hop, limit, deadline, options)? {
            Reply::Body(body) => return Ok(body),
            Reply::Redirect(location) => url = url::redirect(&url, &location),
        }
        last = Some(hop);
    }
    Err(DownloadError::new(Unfetched::Redirects, format!("more than {MAX_REDIRECTS} redirects")))
}

/// The request for this URL, be it the user's own or one that the `last` request was redirected to: what is outside does not lead
/// inside.
fn next_hop(url: &str, last: Option<&Hop>) -> Result<Hop, DownloadError> {
    let (url, credentials) = url::take_credentials(url);
    let Some(uri) = url::parse(&url) else {
        return Err(match last {
            None => DownloadError::new(Unfetched::UnknownHost, "the URL is not valid"),
            Some(_) => {
                DownloadError::new(Unfetched::BadAnswer, "redirected to something that is not an http URL")
            }
        });
    };
    let is_inside = |last: &Hop| last.reached_inside.load(Ordering::Relaxed);
    let reach = match last {
        Some(last) if last.reach == Reach::Outside || !is_inside(last) => Reach::Outside,
        _ => Reach::Anywhere,
    };
    Ok(Hop { uri, credentials, reach, reached_inside: Arc::default() })
}

fn get(hop: &Hop, limit: u64, deadline: Instant, options: &DownloadOptions) -> Result<Reply, DownloadError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(DownloadError::new(Unfetched::Network, too_late(options)));
    }
    look_up(hop, options)?;
    let route = Route {
        uri: &hop.uri,
        reach: hop.reach,
        reached_inside: &hop.reached_inside,
        family: None,
        local: &options.local,
        receive_buffer: None,
        proxies: &options.proxies,
        ca_file: options.ca_file.as_deref(),
        watch: None,
        interrupt: Interrupt::default(),
        time: Some(left),
        max_head: MAX_HEAD,
        buffer: LARGE_BUFFER,
    };
    let agent = agent(route).map_err(|reason| DownloadError::new(Unfetched::Network, reason))?;
    let mut request = agent.get(&hop.uri);
    if let Some(credentials) = &hop.credentials {
        request = request.header(header::AUTHORIZATION, credentials);
    }
    let explained = |error: ureq::Error| DownloadError {
        kind: kind_of(&error),
        reason: explain(error).unwrap_or_else(|| too_late(options)),
    };
    let mut response = request.call().map_err(explained)?;
    let status = response.status();
    if let Some(location) = location_of(&response) {
        return Ok(Reply::Redirect(location));
    }
    if !status.is_success() {
        let kind = match status.as_u16() {
            404 | 410 => Unfetched::NotFound,
            401 | 403 | 407 => Unfetched::Denied,
            _ => Unfetched::BadAnswer,
        };
        return Err(DownloadError::new(kind, format!("HTTP status {status}")));
    }
    if headers::length_of(response.headers()).is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    // A coding that is gone by the inflating is not in the headers any more.
    let coding = headers::coding_of(response.headers()).map(str::to_owned);
    let is_page = is_page(&response);
    let body = response.body_mut().as_reader();
    let bytes = match coding.as_deref() {
        None => read(body, limit),
        Some("gzip") => read(MultiGzDecoder::new(body), limit),
        Some(other) => {
            let reason = format!("the answer is packed by {other:?}, which was not asked for");
            return Err(DownloadError::new(Unfetched::BadAnswer, reason));
        }
    };
    let bytes = bytes.map_err(|error| explained(ureq::Error::from(error)))?;
    match bytes.len() as u64 > limit {
        true => Err(too_large(limit)),
        false => Ok(Reply::Body(Download { bytes, is_page })),
    }
}

/// One byte more than is allowed, so that too much is seen as such: a bomb is cut here.
fn read(body: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the answer is said to be HTML.
fn is_page<T>(response: &Response<T>) -> bool {
    let kind =
        response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["text/html", "application/xhtml+xml"].iter().any(|page| kind.eq_ignore_ascii_case(page))
}

fn too_large(limit: u64) -> DownloadError {
    DownloadError::new(Unfetched::BadAnswer, format!("the answer is larger than {} MiB", limit >> 20))
}

fn too_late(options: &DownloadOptions) -> String {
    format!("no complete answer within {} s", options.timeout.as_secs_f32())
}

/// Whether the name of the host is known; a proxy looks up names itself.
fn look_up(hop: &Hop, options: &DownloadOptions) -> Result<(), DownloadError> {
    let (host, port) = (hop.uri.host().unwrap_or_default(), resolve::port_of(&hop.uri));
    let is_proxied = options
        .proxies
        .find(hop.uri.scheme_str().unwrap_or_default(), host)
        .is_ok_and(|detour| detour.is_proxy());
    if is_proxied || resolve::literal(host).is_some() {
        return Ok(());
    }
    let found = resolve::look_up(host, port, &options.local);
    found.map(drop).map_err(|reason| DownloadError::new(Unfetched::UnknownHost, format!("{host}: {reason}")))
}

fn kind_of(error: &ureq::Error) -> Unfetched {
    match error {
        ureq::Error::HostNotFound => Unfetched::UnknownHost,
        ureq::Error::Protocol(_)
        | ureq::Error::Http(_)
        | ureq::Error::LargeResponseHeader(..)
        | ureq::Error::Decompress(..)
        | ureq::Error::BodyExceedsLimit(_) => Unfetched::BadAnswer,
        _ => Unfetched::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_does_not_redirect_inside() {
        let first = next_hop("http://user:word@t.example/x", None).unwrap();
        assert_eq!(first.reach, Reach::Anywhere);
        assert!(first.credentials.is_some());
        let second = next_hop("http://t.example/y", Some(&first)).unwrap();
        assert_eq!(second.reach, Reach::Outside);
        assert!(second.credentials.is_none());
        first.reached_inside.store(true, Ordering::Relaxed);
        let second = next_hop("http://other.example/y", Some(&first)).unwrap();
        assert_eq!(second.reach, Reach::Anywhere);
        let third = next_hop("http://last.example/y", Some(&second)).unwrap();
        assert_eq!(third.reach, Reach::Outside);
        for wrong in ["ftp://t.example/", "http:///x", "file:///etc/passwd"] {
            assert_eq!(next_hop(wrong, Some(&first)).err().unwrap().kind, Unfetched::BadAnswer, "{wrong}");
        }
    }
}
