//! Announces over HTTP and HTTPS (BEP 3, 7, 23), with ureq on the caller's thread.
//!
//! Redirects are followed here and not by ureq, so that each hop is judged: its scheme, its proxy, and
//! the one deadline.

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::config::IpFamily;
use ureq::http::{Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};

use super::watch::Tap;
use super::{MAX_BODY, MAX_REDIRECTS, Options, Request, answer, proxy, url};
use crate::finder::announce::{AnnounceEvent, AnnounceFailure, Answer};

const USER_AGENT: &str = concat!("btget/", env!("CARGO_PKG_VERSION"));

/// Bytes of an answer's head.
const MAX_HEAD: usize = 16 * 1024;

/// Bytes read of the body of an error, for its reason.
const MAX_ERROR_BODY: u64 = 16 * 1024;

enum Reply {
    Body { status_code: u16, body: Vec<u8> },
    Redirect(String),
}

/// See [`super::announce`].
pub(super) fn announce(request: &Request, options: &Options) -> Result<Answer, AnnounceFailure> {
    let deadline = Instant::now() + options.timeout;
    let mut url = url::announce_url(request);
    let mut came_from: Option<Uri> = None;
    for _ in 0..=MAX_REDIRECTS {
        let uri = check(&url, came_from.as_ref())?;
        match get(&uri, deadline, options)? {
            Reply::Body { status_code, body } => return judge(request, status_code, &body),
            Reply::Redirect(location) => url = url::redirect(&url, &location),
        }
        came_from = Some(uri);
    }
    Err(AnnounceFailure::no_answer(format!("more than {MAX_REDIRECTS} redirects")))
}

/// Whether the URL is one to go to, be it the torrent's or a redirect's.
fn check(url: &str, came_from: Option<&Uri>) -> Result<Uri, AnnounceFailure> {
    let parsed = url.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let is_http = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    let Some(uri) = parsed.filter(is_http) else {
        return Err(AnnounceFailure::no_answer(match came_from {
            None => "the tracker's URL is not valid",
            Some(_) => "redirected to something that is not an http URL",
        }));
    };
    let is_local = |uri: &Uri| uri.host().is_some_and(proxy::is_loopback);
    // A tracker out there is not to make us talk to what listens on this machine.
    if came_from.is_some_and(|from| !is_local(from)) && is_local(&uri) {
        return Err(AnnounceFailure::no_answer("redirected to this machine's loopback"));
    }
    Ok(uri)
}

fn get(uri: &Uri, deadline: Instant, options: &Options) -> Result<Reply, AnnounceFailure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(no_time(options.timeout));
    }
    let agent = agent(uri, left, options)?;
    let mut response = agent.get(uri).call().map_err(|error| explain(error, options.timeout))?;
    let status = response.status();
    if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
        && let Some(location) = response.headers().get(header::LOCATION)
    {
        return Ok(Reply::Redirect(String::from_utf8_lossy(location.as_bytes()).into_owned()));
    }
    let status_code = status.as_u16();
    let mut body = Vec::new();
    if !status.is_success() {
        // The status is news enough if the body fails.
        let _ = response.body_mut().as_reader().take(MAX_ERROR_BODY).read_to_end(&mut body);
        let plain = || AnnounceFailure::with_status(status_code, format!("HTTP status {status}"));
        return Err(answer::refusal(&body, status_code).unwrap_or_else(plain));
    }
    // Counted after inflating: a bomb is cut here.
    let limit = MAX_BODY as u64 + 1;
    let read = response.body_mut().as_reader().take(limit).read_to_end(&mut body);
    read.map_err(|error| {
        let failure = explain(ureq::Error::from(error), options.timeout);
        AnnounceFailure { status_code, ..failure }
    })?;
    if body.len() > MAX_BODY {
        return Err(AnnounceFailure::with_status(status_code, "the answer is larger than 1 MiB"));
    }
    Ok(Reply::Body { status_code, body })
}

/// An agent for one exchange: the next one with this tracker is half an hour away.
fn agent(uri: &Uri, time: Duration, options: &Options) -> Result<ureq::Agent, AnnounceFailure> {
    let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
    let config = ureq::Agent::config_builder()
        // ureq's own reading of the environment would send even loopback through a proxy.
        .proxy(options.proxies.find(scheme, host)?)
        .timeout_global(Some(time))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEAD)
        .max_idle_connections(0)
        .ip_family(match options.bind {
            None => IpFamily::Any,
            Some(IpAddr::V4(_)) => IpFamily::Ipv4Only,
            Some(IpAddr::V6(_)) => IpFamily::Ipv6Only,
        })
        .user_agent(USER_AGENT);
    let config = match options.ca_file.as_deref().filter(|_| scheme == "https") {
        Some(path) => config.tls_config(TlsConfig::builder().root_certs(read_roots(path)?).build()),
        None => config,
    };
    let connector = DefaultConnector::default().chain(Tap(options.watch.clone()));
    Ok(ureq::Agent::with_parts(config.build(), connector, DefaultResolver::default()))
}

fn read_roots(path: &Path) -> Result<RootCerts, AnnounceFailure> {
    let trouble = |what: &str| {
        let path = path.display();
        AnnounceFailure::no_answer(format!(
            "cannot use {path} for certificates: {what}; correct SSL_CERT_FILE"
        ))
    };
    let pem = std::fs::read(path).map_err(|error| trouble(&error.to_string()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(trouble("it holds none"));
    }
    Ok(RootCerts::from(certificates))
}

fn judge(request: &Request, status_code: u16, body: &[u8]) -> Result<Answer, AnnounceFailure> {
    let result = answer::parse(body, status_code);
    // Many trackers answer a `stopped` with next to nothing, and nothing is needed.
    let may_be_empty = request.event == Some(AnnounceEvent::Stopped);
    if may_be_empty && result.is_err() && answer::refusal(body, status_code).is_none() {
        return Ok(Answer::default());
    }
    result
}

fn no_time(timeout: Duration) -> AnnounceFailure {
    AnnounceFailure::no_answer(format!("no complete answer within {} s", timeout.as_secs_f32()))
}

/// What went wrong, in a user's words.
fn explain(error: ureq::Error, timeout: Duration) -> AnnounceFailure {
    use std::io::ErrorKind;
    let reason = match error {
        ureq::Error::Timeout(_) => return no_time(timeout),
        ureq::Error::HostNotFound => "the tracker's host has no address that can be used".to_owned(),
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => return no_time(timeout),
            ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset".to_owned(),
            // rustls speaks through the socket's errors.
            ErrorKind::InvalidData => format!("TLS: {error}"),
            ErrorKind::UnexpectedEof => "the connection was closed before the answer was complete".to_owned(),
            _ => error.to_string(),
        },
        ureq::Error::Protocol(error) => format!("the answer is not HTTP: {error}"),
        ureq::Error::LargeResponseHeader(..) => "the answer's head is too large".to_owned(),
        ureq::Error::Rustls(error) => format!("TLS: {error}"),
        ureq::Error::ConnectProxyFailed(reason) => format!("the proxy refused: {reason}"),
        error => error.to_string(),
    };
    AnnounceFailure::no_answer(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_from_out_there_does_not_lead_to_this_machine() {
        let outside: Uri = "http://tracker.example/".parse().unwrap();
        let local: Uri = "http://127.0.0.1/".parse().unwrap();
        for url in ["http://localhost:80/", "http://127.0.0.1/x", "https://[::1]:8080/", "http://0.0.0.0/"] {
            assert!(check(url, Some(&outside)).is_err(), "{url}");
            assert!(check(url, Some(&local)).is_ok(), "{url}");
            assert!(check(url, None).is_ok(), "{url}");
        }
        assert!(check("https://other.example/", Some(&outside)).is_ok());
    }
}
