//! A connection to a server on which requests may be sent before the answers to earlier ones have come (pipelining, RFC 9112 section 9.3.2).
//!
//! Owns the connection, the requests that wait for their answers, and the answer that is read; the protocol itself is that which ureq is made
//! of. Never decides what is sent ahead, nor what an answer means; follows no redirects.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use ureq::Error;
use ureq::config::Config;
use ureq::http::{HeaderMap, Request, Response, Uri, Version, header};
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::time::{self, Instant};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport};
use ureq_proto::BodyMode;
use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{Call, RecvBodyResult, RecvResponseResult, SendRequestResult};

use super::agent::{Parts, Route, parts};
use super::chunks::Dechunker;
use super::head;
use super::resolve::SystemResolver;

/// Bytes of requests that are written together at the most. The rest of the output buffer has room for the longest that a URL can make.
const MAX_BATCH: usize = 32 * 1024;

/// How long the end of an answer is waited for of which no more is wanted, and how many bytes may come until then.
const END_PATIENCE: Duration = Duration::from_secs(2);
const MAX_END: usize = 64 * 1024;

/// Runs the chain of connectors.
type Connect = dyn Fn(&ConnectionDetails<'_>) -> Result<Box<dyn Transport>, Error> + Send + Sync;

/// The way to a server, by which connections to it are made.
pub(crate) struct Way {
    config: Config,
    connect: Arc<Connect>,
    resolver: SystemResolver,
}

impl Way {
    /// The way to this server.
    ///
    /// # Errors
    ///
    /// Why there is none, for people.
    pub(crate) fn to(route: Route<'_>) -> Result<Way, String> {
        let Parts { config, connector, resolver } = parts(route)?;
        let connect = move |details: &ConnectionDetails<'_>| {
            let transport = connector.connect(details, None)?.ok_or(Error::ConnectionFailed)?;
            Ok(Box::new(transport) as Box<dyn Transport>)
        };
        Ok(Way { config, connect: Arc::new(connect), resolver })
    }

    fn connect(&self, uri: &Uri) -> Result<Box<dyn Transport>, Error> {
        let addrs = match self.config.proxy() {
            // The proxy looks the name up.
            Some(_) => self.resolver.empty(),
            None => self.resolver.resolve(uri, &self.config, NextTimeout::default())?,
        };
        let details = ConnectionDetails {
            uri,
            addrs,
            config: &self.config,
            request_level: false,
            resolver: &self.resolver,
            now: Instant::now(),
            timeout: NextTimeout::default(),
            current_time: Arc::new(Instant::now),
            run_connector: self.connect.clone(),
            // Nobody shuts it down from another thread: its interrupt is asked.
            register_shutdown: Arc::new(|_| Ok(())),
        };
        let transport = (self.connect)(&details)?;
        match details.needs_tls() && !transport.is_tls() {
            true => Err(Error::TlsRequired),
            false => Ok(transport),
        }
    }
}

/// A connection. After an error it is of no use any more.
pub(crate) struct Pipeline {
    transport: Box<dyn Transport>,
    /// Requests whose answers have not begun, in order. Bounded by who sends them.
    waiting: VecDeque<Call<RecvResponse>>,
    /// Bytes of them that stand in the output buffer.
    unsent: usize,
    /// The body that is read.
    body: Option<Call<RecvBody>>,
    /// It comes in chunks.
    chunks: Option<Dechunker>,
    /// The connection outlasts the answer that last began, as its head says, and the server speaks HTTP/1.1.
    takes_more: bool,
    /// The connection can be used on after the last answer.
    stays_open: bool,
    /// Answers that have come to their end.
    answered: usize,
    /// No more is wanted of the body: until when, and in how many bytes more, it has to end.
    ending: Option<(StdInstant, usize)>,
    max_head: usize,
}

impl Pipeline {
    /// Connects to the server of this URL.
    ///
    /// # Errors
    ///
    /// What ureq says of connections.
    pub(crate) fn connect(way: &Way, uri: &Uri) -> Result<Pipeline, Error> {
        Ok(Pipeline {
            transport: way.connect(uri)?,
            waiting: VecDeque::new(),
            unsent: 0,
            body: None,
            chunks: None,
            takes_more: false,
            stays_open: true,
            answered: 0,
            ending: None,
            max_head: way.config.max_response_header_size(),
        })
    }

    /// Puts a request without a body behind those that are under way; [`Pipeline::send`] sends it.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn queue(&mut self, request: Request<()>) -> Result<(), Error> {
        if self.unsent > MAX_BATCH {
            self.send()?;
        }
        let mut call = Call::new(request)?.proceed();
        let output = self.transport.buffers().output();
        self.unsent += call.write(&mut output[self.unsent..])?;
        match call.proceed()? {
            Some(SendRequestResult::RecvResponse(call)) => {
                self.waiting.push_back(call);
                Ok(())
            }
            _ => Err(Error::Io(io::Error::new(ErrorKind::InvalidInput, "the request is too long"))),
        }
    }

    /// Sends what has been queued.
    ///
    /// # Errors
    ///
    /// If the connection does not take it.
    pub(crate) fn send(&mut self) -> Result<(), Error> {
        match std::mem::take(&mut self.unsent) {
            0 => Ok(()),
            unsent => self.transport.transmit_output(unsent, NextTimeout::default()),
        }
    }

    /// The head of the next answer. The body of the one before must have been read to its end. `patience`: for the server, when it says nothing;
    /// without it as long as for anything else.
    ///
    /// # Errors
    ///
    /// If there is no answer, or it is not HTTP.
    pub(crate) fn next_head(&mut self, patience: Option<Duration>) -> Result<Response<()>, Error> {
        let after = patience.map_or(time::Duration::NotHappening, time::Duration::from);
        let timeout = NextTimeout { after, ..NextTimeout::default() };
        self.ending = None;
        let mut interim = 0;
        let head = loop {
            let Some(call) = self.waiting.front_mut() else { return Err(gone()) };
            let input = self.transport.buffers().input();
            let (used, head) = match head::tidy(input) {
                // Further answers may stand behind it.
                Some(tidy) => (tidy.used, call.try_response(&tidy.bytes, false)?.1),
                None if head::may_begin(input) => (0, None),
                None => (0, call.try_response(input, false)?.1),
            };
            let length = if used > 0 { used } else { input.len() };
            if length > self.max_head {
                return Err(Error::LargeResponseHeader(length, self.max_head));
            }
            self.transport.buffers().input_consume(used);
            if let Some(head) = head {
                break head;
            }
            interim += used;
            if interim > self.max_head {
                return Err(Error::LargeResponseHeader(interim, self.max_head));
            }
            // It may have been an interim answer (1xx), with the true one behind it.
            if used == 0 && !self.transport.await_input(timeout)? {
                return Err(gone());
            }
        };
        self.takes_more = head.version() == Version::HTTP_11 && !says_close(head.headers());
        match self.waiting.pop_front().and_then(Call::<RecvResponse>::proceed) {
            Some(RecvResponseResult::RecvBody(call)) => {
                self.takes_more &= call.body_mode() != BodyMode::CloseDelimited;
                self.chunks = (call.body_mode() == BodyMode::Chunked).then(Dechunker::default);
                self.body = Some(call);
            }
            Some(RecvResponseResult::Redirect(call)) => self.on_end(call.must_close_connection()),
            Some(RecvResponseResult::Cleanup(call)) => self.on_end(call.must_close_connection()),
            None => return Err(gone()),
        }
        Ok(head)
    }

    /// An answer has come to its end.
    fn on_end(&mut self, must_close: bool) {
        self.body = None;
        self.stays_open = !must_close;
        self.answered += 1;
    }

    /// Reads some bytes of the body; none: it has come to its end.
    fn read_body(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        loop {
            let Some(call) = &mut self.body else { return Ok(0) };
            let is_over = match &self.chunks {
                Some(chunks) => chunks.is_ended(),
                None => call.can_proceed() && call.body_mode() != BodyMode::CloseDelimited,
            };
            if is_over {
                return self.end_body();
            }
            let input = self.transport.buffers().input();
            let (used, came) = match &mut self.chunks {
                Some(chunks) => chunks.read(input, into)?,
                None => call.read(input, into)?,
            };
            self.transport.buffers().input_consume(used);
            if let Some((until, most)) = &mut self.ending {
                *most = most.checked_sub(used).filter(|_| StdInstant::now() < *until).ok_or_else(endless)?;
            }
            if came > 0 {
                return Ok(came);
            }
            if used == 0 && !self.await_more_of_body()? {
                return self.end_body();
            }
        }
    }

    /// Whether more has come, rather than the end of the connection.
    fn await_more_of_body(&mut self) -> Result<bool, Error> {
        let timeout = match self.ending {
            Some((until, _)) => {
                let left = until.saturating_duration_since(StdInstant::now());
                NextTimeout { after: left.into(), ..NextTimeout::default() }
            }
            None => NextTimeout::default(),
        };
        match self.transport.await_input(timeout) {
            // A server may close without a word in TLS, and what ends by that is there.
            Err(Error::Io(error)) => match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {
                    Ok(false)
                }
                _ => Err(Error::Io(error)),
            },
            result => result,
        }
    }

    /// No more comes of the body; 0 if that is its end.
    fn end_body(&mut self) -> Result<usize, Error> {
        let Some(mut call) = self.body.take() else { return Ok(0) };
        let chunks = self.chunks.take();
        // Some servers close after the last chunk, before the end of the chunks.
        let is_cut = chunks.as_ref().is_some_and(|chunks| !chunks.is_ended());
        if chunks.is_some_and(|chunks| chunks.is_past_data()) {
            // It has seen nothing of them.
            call.read(b"0\r\n\r\n", &mut [])?;
        }
        match call.proceed() {
            Some(RecvBodyResult::Redirect(call)) => self.on_end(is_cut || call.must_close_connection()),
            Some(RecvBodyResult::Cleanup(call)) => self.on_end(is_cut || call.must_close_connection()),
            None => {
                self.stays_open = false;
                return Err(gone());
            }
        }
        Ok(0)
    }

    /// No more is wanted of the answer than what it ends with, within bounds.
    pub(crate) fn begin_end(&mut self) {
        self.ending = Some((StdInstant::now() + END_PATIENCE, MAX_END));
    }

    /// Comes to the end of the answer of which all that is wanted has been read. Whether the connection can be used on: not if the answer goes
    /// on, or the server closes after it.
    pub(crate) fn finish(&mut self) -> bool {
        let ends_by_close =
            self.body.as_ref().is_some_and(|call| call.body_mode() == BodyMode::CloseDelimited);
        self.begin_end();
        !ends_by_close && matches!(self.read_body(&mut [0; 16]), Ok(0)) && self.stays_open
    }

    /// Whether nothing is under way, and the server has not closed the connection or said anything unasked.
    pub(crate) fn is_idle(&mut self) -> bool {
        let is_quiet = self.waiting.is_empty() && self.body.is_none();
        is_quiet && self.stays_open && self.transport.buffers().input().is_empty() && self.transport.is_open()
    }

    /// Whether a body is being read.
    pub(crate) fn has_body(&self) -> bool {
        self.body.is_some()
    }

    /// Whether requests may be sent before the end of the answer that last began: its server speaks HTTP/1.1, and does not close behind it.
    pub(crate) fn takes_more(&self) -> bool {
        self.takes_more
    }

    /// Answers that have come to their end.
    pub(crate) fn answered(&self) -> usize {
        self.answered
    }
}

impl Read for Pipeline {
    /// Reads the body of the answer.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read_body(into).map_err(Error::into_io)
    }
}

/// Whether the server closes the connection after the answer with these headers.
fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// What should have ended goes on.
fn endless() -> Error {
    Error::Io(ErrorKind::TimedOut.into())
}

/// The server has closed the connection.
fn gone() -> Error {
    Error::Io(ErrorKind::UnexpectedEof.into())
}
