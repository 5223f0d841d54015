//! The requests of a web seed's connection, and their answers; redirects are followed here, so that each is judged.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use ureq::http::{HeaderMap, HeaderName, Response, Uri, header};

use super::server::Server;
use crate::bind::Local;
use crate::http::url::{clean, redirect, take_credentials};
use crate::http::{
    self, Interrupt, LARGE_BUFFER, LeadsInside, MAX_REDIRECTS, Proxies, Reach, Route, Way, coding_of,
    length_of, location_of,
};
use crate::webseed::{Accepted, Fault, Get, Head, MAX_RETRY_BODY, Part, Row, judge, refuses_ranges};

/// Bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;

/// Bytes that a connection takes at a time while a limit is low: a head has to fit, with a little of what follows.
const SMALL_BUFFER: usize = MAX_HEAD + (8 << 10);

/// Servers whose connections are kept: that of the seed, and that where it redirects to.
const MAX_SERVERS: usize = 2;

/// URLs of which it is remembered where they redirect to.
const MAX_REMEMBERED: usize = 16;

/// How the servers of web seeds are reached.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// What connections are bound to.
    pub local: Local,
    /// Bytes of a connection's receive buffer, if a limit makes them few.
    pub receive_buffer: Option<u32>,
    /// Proxies.
    pub proxies: Proxies,
    /// PEM file of the authorities that sign the servers' certificates, instead of the bundled ones.
    pub ca_file: Option<PathBuf>,
    /// The user has given the URL, so it may lead anywhere; a torrent's leads inside only without a query of its own.
    pub is_users: bool,
    /// The URL has such a query.
    pub has_query: bool,
}

/// Makes the requests of one connection.
pub(super) struct Requests {
    access: Access,
    interrupt: Interrupt,
    /// Bytes of answers that may be under way.
    max_ahead: u64,
    /// At most [`MAX_SERVERS`], the last used last: it has the answer that is read.
    servers: VecDeque<Server>,
    /// Where URLs have redirected to, the last [`MAX_REMEMBERED`].
    redirected: VecDeque<(String, Hop)>,
    /// The answer that is read comes from the server that was asked first.
    is_direct: bool,
    /// The seed's server has said that it knows ranges.
    says_ranges: bool,
    /// The server has closed the connection in the middle of the answer that was read.
    is_cut: bool,
}

/// Where to ask.
#[derive(Clone)]
struct Hop {
    url: String,
    reach: Reach,
    /// Value of the `Authorization` header.
    credentials: Option<String>,
}

/// What a request says besides what it is for.
pub(super) struct Address {
    pub uri: Uri,
    /// Value of the `Authorization` header.
    pub credentials: Option<String>,
}

impl Address {
    /// That which is asked first.
    pub(super) fn of(get: &Get) -> Result<Address, Fault> {
        let (url, credentials) = take_credentials(&clean(&get.url));
        Ok(Address { uri: parse(&url)?, credentials })
    }
}

impl Requests {
    pub(super) fn new(access: Access, interrupt: Interrupt, max_ahead: u64) -> Requests {
        Requests {
            access,
            interrupt,
            max_ahead,
            servers: VecDeque::new(),
            redirected: VecDeque::new(),
            is_direct: false,
            says_ranges: false,
            is_cut: false,
        }
    }

    /// Asks for what `get` says, and begins to read the answer if it holds that; `following` may be asked for meanwhile.
    pub(super) fn open(&mut self, get: &Get, following: &[Part]) -> Result<Accepted, Fault> {
        if let Some(server) = self.servers.back_mut() {
            server.leave_body();
        }
        (self.is_direct, self.is_cut) = (false, false);
        let known = self.redirected.iter().position(|(from, _)| *from == get.url);
        if let Some((_, hop)) = known.and_then(|at| self.redirected.remove(at))
            && let Ok(accepted) = self.ask(&hop, get).and_then(|head| self.accept(&head, get))
        {
            // As long as it goes well there: mirrors come and go.
            self.remember(&get.url, hop);
            return Ok(accepted);
        }
        let reach = match self.access.is_users {
            true => Reach::Anywhere,
            false if self.access.has_query => Reach::OutsideOnly,
            false => Reach::Anywhere,
        };
        let (url, credentials) = take_credentials(&clean(&get.url));
        let mut hop = Hop { url, reach, credentials };
        let (mut redirects, mut get) = (0, Cow::Borrowed(get));
        while redirects <= MAX_REDIRECTS {
            let head = self.ask(&hop, &get)?;
            let Some(location) = location_of(&head) else {
                let accepted = match self.accept(&head, &get) {
                    // It may be the answer to another one: it is asked for again, alone.
                    Err(Fault::Wrong(_) | Fault::Denied(_)) if self.was_ahead() => continue,
                    Err(_) if refuses_ranges(&get, &parts_of(&head)) => {
                        get = Cow::Owned(get.unranged());
                        continue;
                    }
                    judged => judged?,
                };
                match redirects {
                    // The rest of a part comes first.
                    0 if accepted.end < get.range.end => self.begin_row(&head, &[]),
                    0 => self.begin_row(&head, following),
                    _ => self.remember(&get.url, hop),
                }
                return Ok(accepted);
            };
            redirects += 1;
            if let Some(server) = self.servers.back_mut() {
                server.on_redirect();
            }
            hop = self.redirected_to(&hop, &location)?;
        }
        Err(Fault::Astray(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// The answer that is read now is one of the server that was asked first, to whom the `following` requests go as well.
    fn begin_row(&mut self, head: &Response<()>, following: &[Part]) {
        self.is_direct = true;
        self.says_ranges = self.says_ranges
            || text(head.headers(), header::ACCEPT_RANGES)
                .is_some_and(|unit| unit.trim().eq_ignore_ascii_case("bytes"));
        if let Some(server) = self.servers.back_mut() {
            server.send_ahead(following);
        }
    }

    /// Whether the server that is asked first has said that it knows ranges (RFC 9110 section 14.3).
    pub(super) fn says_ranges(&self) -> bool {
        self.says_ranges
    }

    fn was_ahead(&self) -> bool {
        self.servers.back().is_some_and(Server::was_ahead)
    }

    /// Reads some bytes of the answer: at least one.
    pub(super) fn read(&mut self, into: &mut [u8], following: &[Part]) -> Result<usize, Fault> {
        let Some(server) = self.servers.back_mut() else { return Err(no_answer()) };
        if self.is_direct {
            server.send_ahead(following);
        }
        server.read(into).map_err(|error| {
            self.is_cut = is_of_closing(&error);
            match fault(error) {
                Fault::Broken(reason) if reason == "no answer in time" => {
                    Fault::Broken("nothing more came in time".to_owned())
                }
                other => other,
            }
        })
    }

    /// Whether the server has closed the connection in the middle of the answer that was read, rather than to fall silent.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// All of the answer that is wanted has been read.
    pub(super) fn finish(&mut self) {
        if let Some(server) = self.servers.back_mut() {
            server.finish();
        }
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
        let was_inside = self.server_of(&here, last.reach).is_some_and(Server::is_inside);
        let reach = if is_same_server || was_inside { last.reach } else { Reach::Outside };
        // To the same server alone.
        let credentials = credentials.or_else(|| last.credentials.clone().filter(|_| is_same_server));
        Ok(Hop { url, reach, credentials })
    }

    fn server_of(&self, uri: &Uri, reach: Reach) -> Option<&Server> {
        self.servers.iter().find(|server| server.is_at(uri, reach))
    }

    /// Makes one request, and gives the head of its answer.
    fn ask(&mut self, hop: &Hop, get: &Get) -> Result<Response<()>, Fault> {
        let address = Address { uri: parse(&hop.url)?, credentials: hop.credentials.clone() };
        let mut server = self.take_server(&address.uri, hop.reach)?;
        let result = server.ask(&address, get, &self.interrupt);
        if self.servers.len() == MAX_SERVERS {
            self.servers.pop_front();
        }
        self.servers.push_back(server);
        result.map_err(fault)
    }

    /// Takes the server out of those that are known, or makes it known.
    fn take_server(&mut self, uri: &Uri, reach: Reach) -> Result<Server, Fault> {
        let known = self.servers.iter().position(|server| server.is_at(uri, reach));
        if let Some(server) = known.and_then(|at| self.servers.remove(at)) {
            return Ok(server);
        }
        let reached_inside = Arc::default();
        let route = Route {
            uri,
            reach,
            reached_inside: &reached_inside,
            family: None,
            local: &self.access.local,
            receive_buffer: self.access.receive_buffer,
            proxies: &self.access.proxies,
            ca_file: self.access.ca_file.as_deref(),
            watch: None,
            interrupt: self.interrupt.clone(),
            time: None,
            max_head: MAX_HEAD,
            // What is read and not due yet counts as what waits in the kernel does.
            buffer: if self.access.receive_buffer.is_some() { SMALL_BUFFER } else { LARGE_BUFFER },
        };
        let way = Way::to(route).map_err(Fault::Broken)?;
        Ok(Server::new(uri, reach, way, reached_inside, Row::new(self.max_ahead)))
    }

    /// Whether the answer whose head this is holds what is asked for.
    fn accept(&mut self, head: &Response<()>, get: &Get) -> Result<Accepted, Fault> {
        let Some(server) = self.servers.back_mut() else { return Err(no_answer()) };
        // The status is news enough if the body fails.
        let body = if head.status() == 503 { server.begin_of_body(MAX_RETRY_BODY) } else { Vec::new() };
        let parts = Head { body: &body, ..parts_of(head) };
        let judgement = judge(get, &parts, SystemTime::now());
        match judgement {
            // The only coding that is accepted is gzip.
            Ok(accepted) => server.on_good(get, accepted, parts.coding.is_some()),
            Err(ref fault) => server.on_fault(matches!(fault, Fault::Busy(..))),
        }
        judgement
    }
}

fn parse(url: &str) -> Result<Uri, Fault> {
    http::url::parse(url).ok_or_else(|| Fault::Astray("the URL is not valid".to_owned()))
}

/// The head as far as it matters, without what may stand in the body.
fn parts_of(head: &Response<()>) -> Head<'_> {
    let headers = head.headers();
    Head {
        status: head.status().as_u16(),
        content_range: text(headers, header::CONTENT_RANGE),
        content_length: length_of(headers),
        coding: coding_of(headers),
        retry_after: text(headers, header::RETRY_AFTER),
        body: &[],
    }
}

fn no_answer() -> Fault {
    Fault::Broken("no answer".to_owned())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether this is the end of a connection.
fn is_of_closing(error: &ureq::Error) -> bool {
    let ureq::Error::Io(error) = error else { return false };
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

/// Why there is no answer.
fn fault(error: ureq::Error) -> Fault {
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
    use std::net::TcpListener;

    use super::*;
    use crate::layout::FileIndex;
    use crate::webseed::{Item, Manner};

    #[test]
    fn a_web_seed_outside_leads_nobody_inside_and_its_password_stays_there() {
        let inside = TcpListener::bind("127.0.0.1:0").unwrap();
        inside.set_nonblocking(true).unwrap();
        let url = format!("http://{}/f", inside.local_addr().unwrap());
        let access = Access {
            local: Default::default(),
            receive_buffer: None,
            proxies: Proxies::default(),
            ca_file: None,
            is_users: false,
            has_query: false,
        };
        let mut requests = Requests::new(access, Interrupt::default(), 0);
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
