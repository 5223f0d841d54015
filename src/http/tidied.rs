//! Answers for ureq's agent, whose parser takes less than HTTP allows: their heads are tidied on the way, and their chunks cut anew.
//!
//! For one exchange on a connection. A [`Pipeline`](super::Pipeline) does the same by itself, without a copy of what comes.

use std::time::Instant;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::chunks::Dechunker;
use super::head;

/// A chunk's size as it is said to ureq, and the ends of the data and of the chunks.
const SIZE: usize = "00000000\r\n".len();
const LINE_END: &[u8] = b"\r\n";
const LAST: &[u8] = b"0\r\n\r\n";

/// The last link of an agent's chain of connectors.
#[derive(Debug)]
pub(super) struct Tidy;

impl<In: Transport> Connector<In> for Tidy {
    type Out = Tidied<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Tidied<In>>, Error> {
        let config = details.config;
        Ok(chained.map(|inner| Tidied {
            inner,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            place: Place::Head,
            max_head: config.max_response_header_size(),
        }))
    }
}

#[derive(Debug)]
pub(super) struct Tidied<In> {
    inner: In,
    buffers: LazyBuffers,
    place: Place,
    max_head: usize,
}

/// What comes next.
#[derive(Debug)]
enum Place {
    Head,
    Chunks(Dechunker),
    /// What is passed on as it is.
    Plain,
}

impl<In: Transport> Tidied<In> {
    /// Passes on what has come, as far as that is possible. Whether that was anything.
    fn pass_on(&mut self) -> Result<bool, Error> {
        let (input, into) = (self.inner.buffers().input(), self.buffers.input_append_buf());
        let (used, came) = match &mut self.place {
            Place::Head => match head::tidy(input) {
                Some(head) if head.used > self.max_head || head.bytes.len() > into.len() => {
                    return Err(Error::LargeResponseHeader(head.used, self.max_head));
                }
                Some(head) => {
                    into[..head.bytes.len()].copy_from_slice(&head.bytes);
                    if head.is_chunked() {
                        self.place = Place::Chunks(Dechunker::default());
                    } else if !head.is_interim() {
                        self.place = Place::Plain;
                    }
                    (head.used, head.bytes.len())
                }
                None if input.len() > self.max_head => {
                    return Err(Error::LargeResponseHeader(input.len(), self.max_head));
                }
                None if !head::may_begin(input) => {
                    self.place = Place::Plain;
                    copy(input, into)
                }
                None => (0, 0),
            },
            Place::Chunks(chunks) => {
                let room = into.len().saturating_sub(SIZE + LINE_END.len() + LAST.len());
                let Some(data) = into.get_mut(SIZE..SIZE + room) else { return Ok(false) };
                let (used, count) = chunks.read(input, data)?;
                let mut came = 0;
                if count > 0 {
                    came = SIZE + count + LINE_END.len();
                    into[..SIZE].copy_from_slice(format!("{count:08x}\r\n").as_bytes());
                    into[SIZE + count..came].copy_from_slice(LINE_END);
                }
                if chunks.is_ended() {
                    into[came..came + LAST.len()].copy_from_slice(LAST);
                    came += LAST.len();
                    self.place = Place::Plain;
                }
                (used, came)
            }
            Place::Plain => copy(input, into),
        };
        self.inner.buffers().input_consume(used);
        self.buffers.input_appended(came);
        Ok(came > 0)
    }

    /// Nothing more comes. Whether anything is passed on for that.
    fn end(&mut self) -> bool {
        let into = self.buffers.input_append_buf();
        let (used, came) = match std::mem::replace(&mut self.place, Place::Plain) {
            // Some servers close after the last chunk, before the end of the chunks.
            Place::Chunks(chunks) if chunks.is_past_data() => (0, copy(LAST, into).1),
            Place::Head => copy(self.inner.buffers().input(), into),
            _ => (0, 0),
        };
        self.inner.buffers().input_consume(used);
        self.buffers.input_appended(came);
        came > 0
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> (usize, usize) {
    let count = from.len().min(into.len());
    into[..count].copy_from_slice(&from[..count]);
    (count, count)
}

impl<In: Transport> Transport for Tidied<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        if output.starts_with(b"CONNECT ") {
            // Behind the proxy's answer there is no body, but what goes through the proxy.
            self.place = Place::Plain;
        }
        self.inner.buffers().output()[..amount].copy_from_slice(output);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let until = Instant::now().checked_add(*timeout.after);
        loop {
            if self.buffers.input_append_buf().is_empty() {
                return Ok(false);
            }
            if self.pass_on()? {
                return Ok(true);
            }
            // What comes may be of no use to ureq yet, and the time goes on.
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::Timeout(timeout.reason));
            }
            let after = left.map_or(timeout.after, Into::into);
            if !self.inner.await_input(NextTimeout { after, ..timeout })? {
                return Ok(self.end());
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
