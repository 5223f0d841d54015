//! One request of a web seed, as far as the head of its answer; redirects are followed here, so that each is judged.

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use ureq::http::{HeaderMap, HeaderName, Response, Uri, header};
use ureq::{Agent, Body};

use crate::bind::Local;
use crate::http::url::{clean, redirect, take_credentials};
use crate::http::{
    self, Interrupt, LARGE_BUFFER, LeadsInside, MAX_REDIRECTS, Proxies, Reach, Route, location_of,
};
use crate::webseed::{Accepted, Fault, Get, Head, MAX_RETRY_BODY, Manner, judge};

/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;

/// Bytes read of a body that is of no use, so that its connection can be used again.
const MAX_DRAINED: u64 = 16 * 1024;

/// Servers whose connections are kept: that of the seed, and that where it redirects to.
const MAX_AGENTS: usize = 2;

/// URLs of which it is remembered where they redirect to.
const MAX_REMEMBERED: usize = 16;

/// How the servers of web seeds are reached.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// What connections are bound to.
    pub local: Local,
    /// Proxies.
    pub proxies: Proxies,
    /// PEM file of the authorities that sign the servers' certificates, instead of the bundled ones.
    pub ca_file: Option<PathBuf>,
    /// The user has given the URL, so it may lead anywhere; a torrent's leads inside only without a query of its own.
    pub is_users: bool,
    /// The URL has such a query.
    pub has_query: bool,
}

/// A server, and connections to it that are kept.
struct Server {
    scheme: String,
    authority: String,
    reach: Reach,
    agent: Agent,
    reached_inside: Arc<AtomicBool>,
    /// It has answered, so the next request may meet a connection that it has closed meanwhile.
    has_answered: bool,
}

/// Makes the requests of one connection.
pub(super) struct Requests {
    access: Access,
    interrupt: Interrupt,
    /// At most [`MAX_AGENTS`], the last used last.
    servers: VecDeque<Server>,
    /// Where URLs have redirected to, the last [`MAX_REMEMBERED`].
    redirected: VecDeque<(String, Hop)>,
}

/// Where to ask.
#[derive(Clone)]
struct Hop {
    url: String,
    reach: Reach,
    /// Value of the `Authorization` header.
    credentials: Option<String>,
}

impl Requests {
    pub(super) fn new(access: Access, interrupt: Interrupt) -> Requests {
        Requests { access, interrupt, servers: VecDeque::new(), redirected: VecDeque::new() }
    }

    /// Asks for what `get` says, and gives the body of the answer if it holds that.
    pub(super) fn open(&mut self, get: &Get) -> Result<(Response<Body>, Accepted), Fault> {
        let known = self.redirected.iter().position(|(from, _)| *from == get.url);
        if let Some((_, hop)) = known.and_then(|at| self.redirected.remove(at))
            && let Ok(answer) = self.ask(&hop, get).and_then(|answer| accept(answer, get))
        {
            // As long as it goes well there: mirrors come and go.
            self.remember(&get.url, hop);
            return Ok(answer);
        }
        let reach = match self.access.is_users {
            true => Reach::Anywhere,
            false if self.access.has_query => Reach::OutsideOnly,
            false => Reach::Anywhere,
        };
        let (url, credentials) = take_credentials(&clean(&get.url));
        let mut hop = Hop { url, reach, credentials };
        for redirects in 0..=MAX_REDIRECTS {
            let answer = self.ask(&hop, get)?;
            let Some(location) = location_of(&answer) else {
                let accepted = accept(answer, get)?;
                if redirects > 0 {
                    self.remember(&get.url, hop);
                }
                return Ok(accepted);
            };
            drain(answer);
            hop = self.redirected_to(&hop, &location)?;
        }
        Err(Fault::Astray(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn remember(&mut self, url: &str, hop: Hop) {
        if self.redirected.len() == MAX_REMEMBERED {
            self.redirected.pop_front();
        }
        self.redirected.push_back((url.to_owned(), hop));
    }

    /// Where an answer redirects to, and what may be asked there.
    fn redirected_to(&self, last: &Hop, location: &str) -> Result<Hop, Fault> {
        let target = redirect(&last.url, location);
        let (url, credentials) = take_credentials(&target);
        let here = parse(&last.url)?;
        let there = parse(&url)
            .map_err(|_| Fault::Astray("redirected to something that is not an http URL".to_owned()))?;
        let is_same_server = (here.scheme_str(), here.authority()) == (there.scheme_str(), there.authority());
        let was_inside = self
            .server_of(&here, last.reach)
            .is_some_and(|server| server.reached_inside.load(Ordering::Relaxed));
        let reach = if is_same_server || was_inside { last.reach } else { Reach::Outside };
        // To the same server alone.
        let credentials = credentials.or_else(|| last.credentials.clone().filter(|_| is_same_server));
        Ok(Hop { url, reach, credentials })
    }

    fn server_of(&self, uri: &Uri, reach: Reach) -> Option<&Server> {
        let is_it = |server: &&Server| {
            Some(server.scheme.as_str()) == uri.scheme_str()
                && Some(server.authority.as_str()) == uri.authority().map(|authority| authority.as_str())
                && server.reach == reach
        };
        self.servers.iter().find(is_it)
    }

    /// Makes one request.
    fn ask(&mut self, hop: &Hop, get: &Get) -> Result<Response<Body>, Fault> {
        let uri = parse(&hop.url)?;
        let mut server = self.take_server(&uri, hop.reach)?;
        let mut result = request(&server.agent, &uri, hop, get);
        if result.is_err() && server.has_answered && !self.interrupt.is_due() {
            // It may have closed the connection that was kept.
            drop(server);
            server = self.take_server(&uri, hop.reach)?;
            result = request(&server.agent, &uri, hop, get);
        }
        if result.is_ok() {
            server.has_answered = true;
            if self.servers.len() == MAX_AGENTS {
                self.servers.pop_front();
            }
            self.servers.push_back(server);
        }
        result.map_err(fault)
    }

    /// Takes the server out of those that are known, or makes it known.
    fn take_server(&mut self, uri: &Uri, reach: Reach) -> Result<Server, Fault> {
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let is_it = |server: &Server| {
            server.scheme == scheme && server.authority == authority && server.reach == reach
        };
        if let Some(server) = self.servers.iter().position(is_it).and_then(|at| self.servers.remove(at)) {
            return Ok(server);
        }
        let reached_inside = Arc::default();
        let route = Route {
            uri,
            reach,
            reached_inside: &reached_inside,
            family: None,
            local: &self.access.local,
            proxies: &self.access.proxies,
            ca_file: self.access.ca_file.as_deref(),
            watch: None,
            interrupt: self.interrupt.clone(),
            time: None,
            max_head: MAX_HEAD,
            buffer: LARGE_BUFFER,
            max_idle: 1,
        };
        let agent = http::agent(route).map_err(Fault::Broken)?;
        let (scheme, authority) = (scheme.to_owned(), authority.to_owned());
        Ok(Server { scheme, authority, reach, agent, reached_inside, has_answered: false })
    }
}

fn parse(url: &str) -> Result<Uri, Fault> {
    http::url::parse(url).ok_or_else(|| Fault::Astray("the URL is not valid".to_owned()))
}

fn request(agent: &Agent, uri: &Uri, hop: &Hop, get: &Get) -> Result<Response<Body>, ureq::Error> {
    let mut request = agent.get(uri).header(header::ACCEPT_ENCODING, "identity");
    if let Some(credentials) = &hop.credentials {
        request = request.header(header::AUTHORIZATION, credentials);
    }
    if get.manner == Manner::Range {
        request = request.header(header::RANGE, format!("bytes={}-{}", get.range.start, get.range.end - 1));
    }
    request.call()
}

fn accept(mut answer: Response<Body>, get: &Get) -> Result<(Response<Body>, Accepted), Fault> {
    let mut body = Vec::new();
    if answer.status().as_u16() == 503 {
        // The status is news enough if the body fails.
        let _ = answer.body_mut().as_reader().take(MAX_RETRY_BODY as u64).read_to_end(&mut body);
    }
    let headers = answer.headers();
    let head = Head {
        status: answer.status().as_u16(),
        content_range: text(headers, header::CONTENT_RANGE),
        content_length: text(headers, header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok()),
        coding: text(headers, header::CONTENT_ENCODING)
            .filter(|coding| !coding.eq_ignore_ascii_case("identity")),
        retry_after: text(headers, header::RETRY_AFTER),
        body: &body,
    };
    match judge(get, &head, SystemTime::now()) {
        Ok(accepted) => Ok((answer, accepted)),
        Err(fault) => {
            drain(answer);
            Err(fault)
        }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads a short body to its end.
fn drain(mut answer: Response<Body>) {
    let _ = std::io::copy(&mut answer.body_mut().as_reader().take(MAX_DRAINED), &mut std::io::sink());
}

/// Why there is no answer.
pub(super) fn fault(error: ureq::Error) -> Fault {
    if let ureq::Error::Other(inner) = &error
        && inner.is::<LeadsInside>()
    {
        return Fault::Astray(inner.to_string());
    }
    match http::explain(error) {
        Some(reason) => Fault::Broken(reason),
        None => Fault::Broken("no answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use super::*;
    use crate::layout::FileIndex;
    use crate::webseed::Item;

    #[test]
    fn a_web_seed_outside_leads_nobody_inside_and_its_password_stays_there() {
        let inside = TcpListener::bind("127.0.0.1:0").unwrap();
        inside.set_nonblocking(true).unwrap();
        let url = format!("http://{}/f", inside.local_addr().unwrap());
        let access = Access {
            local: Default::default(),
            proxies: Proxies::default(),
            ca_file: None,
            is_users: false,
            has_query: false,
        };
        let mut requests = Requests::new(access, Interrupt::default());
        // It has been asked, and is not on this machine or its network.
        let outside = Hop {
            url: "http://mirror.example/f".to_owned(),
            reach: Reach::Anywhere,
            credentials: Some("Basic eDp5".to_owned()),
        };
        let uri = parse(&outside.url).unwrap();
        let server = requests.take_server(&uri, outside.reach).unwrap();
        requests.servers.push_back(server);
        let get = Get {
            url: outside.url.clone(),
            item: Item::File(FileIndex(0)),
            range: 0..10,
            size: 10,
            manner: Manner::Whole,
        };
        for location in [
            url.clone(),
            url.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
            url.replace("127.0.0.1", "localhost"),
        ] {
            let hop = requests.redirected_to(&outside, &location).unwrap();
            assert_eq!((hop.reach, &hop.credentials), (Reach::Outside, &None), "{location}");
            let refused = requests.ask(&hop, &get);
            assert!(matches!(refused, Err(Fault::Astray(_))), "{location}: {refused:?}");
        }
        assert_eq!(inside.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "it has been called");
        // To itself it may redirect, with its password.
        let same = requests.redirected_to(&outside, "/g").unwrap();
        assert_eq!((same.reach, same.credentials), (outside.reach, outside.credentials));
    }
}
