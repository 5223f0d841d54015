//! Announces over HTTP and HTTPS (BEP 3, 7, 23), with ureq on the caller's thread.
//!
//! Redirects are followed here and not by ureq, so that each hop is judged: its scheme, its proxy, where it leads, and
//! the one deadline.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{Uri, header};

use super::{MAX_BODY, MAX_REDIRECTS, Options, Request, answer, families, names, url};
use crate::finder::announce::{AnnounceEvent, AnnounceFailure, Answer};
use crate::http::url::{parse, redirect, take_credentials};
use crate::http::{self, Family, Reach, Route, location_of, resolve};

/// Bytes of an answer's head.
const MAX_HEAD: usize = 16 * 1024;

/// What a connection has room for each way, if the URL is not a very long one: thousands of torrents announce one after another, and to clear a
/// buffer that holds whole answers would cost as much as the rest of an announce.
const BUFFER: usize = 2 * MAX_HEAD;

/// Bytes read of the body of an error, for its reason.
const MAX_ERROR_BODY: u64 = 16 * 1024;

enum Reply {
    Body { status_code: u16, body: Vec<u8> },
    Redirect(String),
}

/// One request of an announce, of which each redirect makes a further one.
struct Hop {
    uri: Uri,
    /// Value of the `Authorization` header.
    credentials: Option<String>,
    /// Where the request may lead.
    reach: Reach,
    /// Set once there is a connection to an inner address.
    reached_inside: Arc<AtomicBool>,
    /// Only by addresses of this family.
    family: Option<Family>,
}

impl Hop {
    fn scheme(&self) -> &str {
        self.uri.scheme_str().unwrap_or_default()
    }
}

/// See [`super::announce`].
pub(super) fn announce(request: &Request, options: &Options) -> Result<Answer, AnnounceFailure> {
    let deadline = Instant::now() + options.timeout;
    let families = families_of(request, options)?;
    families::over_each(&families, options, |&family| announce_over(family, request, deadline, options))
}

/// The families of addresses to ask the tracker by, each apart; `None`: whatever comes first, for there is but one way to it.
fn families_of(request: &Request, options: &Options) -> Result<Vec<Option<Family>>, AnnounceFailure> {
    let hop = next_hop(&url::announce_url(request), None, request)?;
    let (host, port) = (hop.uri.host().unwrap_or_default(), resolve::port_of(&hop.uri));
    if options.proxies.find(hop.scheme(), host).map_err(AnnounceFailure::no_answer)?.is_proxy()
        || resolve::literal(host).is_some()
    {
        return Ok(vec![None]);
    }
    let addresses = resolve::look_up(host, port, &options.local).map_err(AnnounceFailure::no_answer)?;
    let families = families::reachable(&addresses, &options.local);
    Ok(families.into_iter().map(|(family, _)| Some(family)).collect())
}

fn announce_over(
    family: Option<Family>,
    request: &Request,
    deadline: Instant,
    options: &Options,
) -> Result<Answer, AnnounceFailure> {
    let mut url = url::announce_url(request);
    let mut last: Option<Hop> = None;
    for _ in 0..=MAX_REDIRECTS {
        let hop = Hop { family, ..next_hop(&url, last.as_ref(), request)? };
        match get(&hop, deadline, options)? {
            Reply::Body { status_code, body } => {
                return judge(request, status_code, &body, deadline, options);
            }
            Reply::Redirect(location) => url = redirect(&url, &location),
        }
        last = Some(hop);
    }
    Err(AnnounceFailure::no_answer(format!("more than {MAX_REDIRECTS} redirects")))
}

/// The request for this URL, be it the tracker's own or one that the `last` request was redirected to.
fn next_hop(url: &str, last: Option<&Hop>, request: &Request) -> Result<Hop, AnnounceFailure> {
    let (url, credentials) = take_credentials(url);
    let Some(uri) = parse(&url) else {
        return Err(AnnounceFailure::no_answer(match last {
            None => "the tracker's URL is not valid",
            Some(_) => "redirected to something that is not an http URL",
        }));
    };
    let is_same_server = |last: &Hop| last.uri.authority() == uri.authority();
    let reach = match last {
        None if request.is_users => Reach::Anywhere,
        None => Reach::AnnouncePaths,
        Some(last) if is_same_server(last) => last.reach,
        Some(last) if last.reached_inside.load(Ordering::Relaxed) => Reach::AnnouncePaths,
        Some(_) => Reach::Outside,
    };
    Ok(Hop { uri, credentials, reach, reached_inside: Arc::default(), family: None })
}

fn get(hop: &Hop, deadline: Instant, options: &Options) -> Result<Reply, AnnounceFailure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(no_time(options.timeout));
    }
    let mut request = agent(hop, left, options)?.get(&hop.uri);
    if let Some(credentials) = &hop.credentials {
        request = request.header(header::AUTHORIZATION, credentials);
    }
    let mut response = request.call().map_err(|error| explain(error, options.timeout))?;
    let status = response.status();
    if let Some(location) = location_of(&response) {
        return Ok(Reply::Redirect(location));
    }
    let status_code = status.as_u16();
    let mut body = Vec::new();
    if !status.is_success() {
        let retry_in = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_in = retry_in.and_then(|value| answer::retry_after(value, SystemTime::now()));
        // The status is news enough if the body fails.
        let _ = response.body_mut().as_reader().take(MAX_ERROR_BODY).read_to_end(&mut body);
        let plain = || AnnounceFailure::with_status(status_code, format!("HTTP status {status}"));
        let failure = answer::refusal(&body, status_code).unwrap_or_else(plain);
        return Err(AnnounceFailure { retry_in: failure.retry_in.or(retry_in), ..failure });
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
fn agent(hop: &Hop, time: Duration, options: &Options) -> Result<ureq::Agent, AnnounceFailure> {
    let route = Route {
        uri: &hop.uri,
        reach: hop.reach,
        reached_inside: &hop.reached_inside,
        family: hop.family,
        local: &options.local,
        receive_buffer: None,
        proxies: &options.proxies,
        ca_file: options.ca_file.as_deref(),
        watch: options.watch.clone(),
        interrupt: options.interrupt.clone(),
        time: Some(time),
        max_head: MAX_HEAD,
        buffer: BUFFER.max(4 * hop.uri.to_string().len()),
    };
    http::agent(route).map_err(AnnounceFailure::no_answer)
}

fn judge(
    request: &Request,
    status_code: u16,
    body: &[u8],
    deadline: Instant,
    options: &Options,
) -> Result<Answer, AnnounceFailure> {
    let result = answer::parse(body, status_code);
    // Many trackers answer a `stopped` with next to nothing, and nothing is needed.
    let may_be_empty = request.event == Some(AnnounceEvent::Stopped);
    if may_be_empty && result.is_err() && answer::refusal(body, status_code).is_none() {
        return Ok(Answer::default());
    }
    let (mut answer, names) = result?;
    match options.proxies.chosen {
        None => names::look_up_peers(&names, deadline, &mut answer.peers),
        // Nothing is looked up past the user's proxy.
        Some(_) => answer.named = names.into_iter().map(|peer| (peer.host, peer.port)).collect(),
    }
    Ok(answer)
}

fn no_time(timeout: Duration) -> AnnounceFailure {
    AnnounceFailure::no_answer(format!("no complete answer within {} s", timeout.as_secs_f32()))
}

/// What went wrong, in a user's words.
fn explain(error: ureq::Error, timeout: Duration) -> AnnounceFailure {
    http::explain(error).map_or_else(|| no_time(timeout), AnnounceFailure::no_answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(is_users: bool) -> Request {
        Request { is_users, ..Request::to("") }
    }

    #[test]
    fn what_the_user_gives_may_lead_anywhere_and_where_it_redirects_to_may_not() {
        let reach =
            |url: &str, last: Option<&Hop>, is_users| next_hop(url, last, &request(is_users)).unwrap().reach;
        assert_eq!(reach("http://t.example/x", None, true), Reach::Anywhere);
        assert_eq!(reach("http://t.example/x", None, false), Reach::AnnouncePaths);
        let hop = |is_users, is_inside: bool| {
            let hop = next_hop("http://t.example/x", None, &request(is_users)).unwrap();
            hop.reached_inside.store(is_inside, Ordering::Relaxed);
            hop
        };
        assert_eq!(reach("http://t.example/y", Some(&hop(true, true)), true), Reach::Anywhere);
        assert_eq!(reach("http://t.example:81/y", Some(&hop(true, true)), true), Reach::AnnouncePaths);
        assert_eq!(reach("http://u.example/y", Some(&hop(true, false)), true), Reach::Outside);
        assert_eq!(reach("http://u.example/y", Some(&hop(false, true)), false), Reach::AnnouncePaths);
        assert_eq!(reach("http://u.example/y", Some(&hop(false, false)), false), Reach::Outside);
    }
}
