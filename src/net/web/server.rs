//! A server of a web seed, and the connection to it: what is sent over it, and the answer that is read.
//!
//! Decides nothing: what is sent ahead is [`Row`]'s to say.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use ureq::Error;
use ureq::http::{Request, Response, Uri, header};

use super::request::Address;
use crate::http::{Interrupt, Pipeline, Reach, USER_AGENT, Way};
use crate::webseed::{Accepted, Get, Manner, Part, Row};

/// How long the answer to a request that was sent ahead may keep silent before it is asked for by itself: some servers lose what they have read beyond
/// a request.
const AHEAD_PATIENCE: Duration = Duration::from_secs(10);

/// A server.
pub(super) struct Server {
    scheme: String,
    authority: String,
    reach: Reach,
    way: Way,
    reached_inside: Arc<AtomicBool>,
    connection: Option<Connection>,
    row: Row,
    /// The answer that is read was asked for ahead.
    was_ahead: bool,
    /// Bytes of the answer that are wanted and have not come.
    left: u64,
}

/// A connection, and how the answer on it is read.
enum Connection {
    Plain(Box<Pipeline>),
    /// Its body is packed.
    Gzip(Box<MultiGzDecoder<Box<Pipeline>>>),
}

impl Server {
    /// The server of this URL, which is not connected to yet.
    pub(super) fn new(
        uri: &Uri,
        reach: Reach,
        way: Way,
        reached_inside: Arc<AtomicBool>,
        row: Row,
    ) -> Server {
        let scheme = uri.scheme_str().unwrap_or_default().to_owned();
        let authority = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
        Server {
            scheme,
            authority,
            reach,
            way,
            reached_inside,
            connection: None,
            row,
            was_ahead: false,
            left: 0,
        }
    }

    /// Whether this URL is of the server, and it is reached as far.
    pub(super) fn is_at(&self, uri: &Uri, reach: Reach) -> bool {
        self.reach == reach && self.has(uri)
    }

    fn has(&self, uri: &Uri) -> bool {
        uri.scheme_str() == Some(&self.scheme)
            && uri.authority().is_some_and(|authority| authority.as_str() == self.authority)
    }

    /// Whether the connection leads to an inner address.
    pub(super) fn is_inside(&self) -> bool {
        self.reached_inside.load(Ordering::Relaxed)
    }

    /// Asks for something, if that has not been done ahead; gives the head of the answer.
    pub(super) fn ask(
        &mut self,
        address: &Address,
        get: &Get,
        interrupt: &Interrupt,
    ) -> Result<Response<()>, Error> {
        self.was_ahead = self.row.is_next(get);
        if self.was_ahead {
            let head = self.next_head(Some(AHEAD_PATIENCE));
            if head.is_ok() || interrupt.is_due() {
                return head;
            }
            // It is asked for again, by itself, and so is all that waits behind it.
            self.close();
            self.was_ahead = false;
        }
        if !self.is_idle() || self.row.is_broken() {
            self.close();
        }
        // The server may have closed one that was kept.
        let is_kept = self.connection.is_some();
        let mut head = self.ask_now(address, get);
        if head.is_err() && is_kept && !interrupt.is_due() {
            self.close();
            head = self.ask_now(address, get);
        }
        if head.is_err() {
            self.close();
        }
        head
    }

    fn ask_now(&mut self, address: &Address, get: &Get) -> Result<Response<()>, Error> {
        if self.connection.is_none() {
            self.connection = Some(Connection::Plain(Box::new(Pipeline::connect(&self.way, &address.uri)?)));
            self.row.on_connected();
        }
        let pipeline = self.pipeline()?;
        pipeline.queue(request(address, get)?)?;
        pipeline.send()?;
        self.row.on_asked(get);
        self.next_head(None)
    }

    fn next_head(&mut self, patience: Option<Duration>) -> Result<Response<()>, Error> {
        let head = self.pipeline()?.next_head(patience)?;
        self.row.on_head();
        Ok(head)
    }

    fn pipeline(&mut self) -> Result<&mut Pipeline, Error> {
        match &mut self.connection {
            Some(Connection::Plain(pipeline)) => Ok(pipeline),
            Some(Connection::Gzip(decoder)) => Ok(decoder.get_mut()),
            None => Err(Error::Io(ErrorKind::NotConnected.into())),
        }
    }

    fn is_idle(&mut self) -> bool {
        self.row.is_empty() && self.pipeline().is_ok_and(Pipeline::is_idle)
    }

    /// The first bytes of the body.
    pub(super) fn begin_of_body(&mut self, most: usize) -> Vec<u8> {
        let mut body = Vec::new();
        if let Ok(pipeline) = self.pipeline() {
            pipeline.begin_end();
            let _ = pipeline.take(most as u64).read_to_end(&mut body);
        }
        body
    }

    /// The answer to `get` is good, and perhaps packed.
    pub(super) fn on_good(&mut self, get: &Get, accepted: Accepted, is_packed: bool) {
        let takes_more = self.pipeline().is_ok_and(|pipeline| pipeline.takes_more());
        self.row.on_good(get.manner, accepted.is_whole, takes_more);
        self.left = accepted.end - get.range.start;
        self.connection = match self.connection.take() {
            Some(Connection::Plain(pipeline)) if is_packed => {
                Some(Connection::Gzip(Box::new(MultiGzDecoder::new(pipeline))))
            }
            connection => connection,
        };
    }

    /// The answer brings nothing; `is_busy`: for too much is asked.
    pub(super) fn on_fault(&mut self, is_busy: bool) {
        self.row.on_fault(is_busy);
        self.drain();
    }

    /// Whether the answer was asked for ahead, so that it may be another request's, if one was lost.
    pub(super) fn was_ahead(&self) -> bool {
        self.was_ahead
    }

    /// The answer leads elsewhere.
    pub(super) fn on_redirect(&mut self) {
        self.row.on_redirect();
        self.drain();
    }

    /// Reads a short body to its end. What was sent ahead is given up: what comes of it would have to be asked for again.
    fn drain(&mut self) {
        if !self.row.is_empty() {
            self.row.on_connected();
            self.connection = None;
            return;
        }
        let is_drained = self.pipeline().is_ok_and(|pipeline| {
            pipeline.begin_end();
            io::copy(pipeline, &mut io::sink()).is_ok()
        });
        match is_drained {
            true => self.finish(),
            false => self.close(),
        }
    }

    /// Sends what may be asked for while the answer is read.
    pub(super) fn send_ahead(&mut self, following: &[Part]) {
        let gets = self.row.send_ahead(self.left, following);
        if gets.is_empty() {
            return;
        }
        let queued = gets.iter().take_while(|get| self.queue(get).is_ok()).count();
        let is_sent = self.pipeline().and_then(Pipeline::send).is_ok();
        if queued < gets.len() || !is_sent {
            // The answers to those before may come nevertheless; who waits for the others sees that they do not.
            self.row.on_not_sent(gets.len() - queued);
        }
    }

    fn queue(&mut self, get: &Get) -> Result<(), Error> {
        let address = Address::of(get).ok().filter(|address| self.has(&address.uri));
        let address = address.ok_or(Error::Io(ErrorKind::InvalidInput.into()))?;
        self.pipeline()?.queue(request(&address, get)?)
    }

    /// Reads some bytes of the answer: at least one.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let result = loop {
            let result = match &mut self.connection {
                Some(Connection::Plain(pipeline)) => pipeline.read(into),
                Some(Connection::Gzip(decoder)) => decoder.read(into),
                None => Err(ErrorKind::NotConnected.into()),
            };
            if !result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted) {
                break result;
            }
        };
        let error = match result {
            Ok(0) => Error::Other("the answer is shorter than it should be".into()),
            Ok(count) => {
                self.left = self.left.saturating_sub(count as u64);
                return Ok(count);
            }
            Err(error) => Error::from(error),
        };
        self.close();
        Err(error)
    }

    /// All of the answer that is wanted has been read: comes to its end, so that the connection can be used again.
    pub(super) fn finish(&mut self) {
        self.left = 0;
        if let Some(Connection::Gzip(decoder)) = &mut self.connection {
            decoder.get_mut().begin_end();
            if !matches!(decoder.read(&mut [0; 16]), Ok(0)) {
                return self.close();
            }
        }
        self.connection = match self.connection.take() {
            Some(Connection::Gzip(decoder)) => Some(Connection::Plain(decoder.into_inner())),
            connection => connection,
        };
        if !self.pipeline().is_ok_and(Pipeline::finish) {
            self.close();
        }
    }

    /// Gives up the answer that is read, if there is one, and all that is behind it.
    pub(super) fn leave_body(&mut self) {
        let has_body = match &self.connection {
            Some(Connection::Plain(pipeline)) => pipeline.has_body(),
            Some(Connection::Gzip(_)) => true,
            None => false,
        };
        if has_body {
            self.row.on_connected();
            self.connection = None;
        }
    }

    /// The connection is of no use any more.
    fn close(&mut self) {
        let answered = match self.connection.take() {
            Some(Connection::Plain(pipeline)) => pipeline.answered(),
            Some(Connection::Gzip(decoder)) => decoder.get_ref().answered(),
            None => 0,
        };
        self.row.on_end(answered);
    }
}

fn request(address: &Address, get: &Get) -> Result<Request<()>, Error> {
    let mut request = Request::get(&address.uri)
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, USER_AGENT);
    if let Some(credentials) = &address.credentials {
        request = request.header(header::AUTHORIZATION, credentials);
    }
    if get.manner == Manner::Range {
        request = request.header(header::RANGE, format!("bytes={}-{}", get.range.start, get.range.end - 1));
    }
    Ok(request.body(())?)
}
