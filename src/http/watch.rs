//! What of a request can be watched: its connections, and how many bytes go over them.
//!
//! Sees lengths, never contents. Of HTTPS these are the lengths inside the encryption.

use std::fmt;
use std::sync::Arc;

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// A step of a request. Redirects and a host's further addresses make several connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A connection stands; of UDP: a socket is ready for its first packet.
    Connected,
    /// So many bytes were sent.
    Wrote(usize),
    /// So many bytes came.
    Read(usize),
    /// The connection is closed.
    Disconnected,
}

/// Who is told of the steps, on the thread that asks.
#[derive(Clone)]
pub struct Watch(Arc<dyn Fn(Step) + Send + Sync>);

impl Watch {
    /// `tell` must not block.
    pub fn new(tell: impl Fn(Step) + Send + Sync + 'static) -> Watch {
        Watch(Arc::new(tell))
    }

    pub(crate) fn tell(&self, step: Step) {
        (self.0)(step);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// The last link of ureq's chain of connectors: passes everything on and counts.
#[derive(Debug)]
pub(super) struct Tap(pub Option<Watch>);

impl<In: Transport> Connector<In> for Tap {
    type Out = Tapped<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Tapped<In>>, Error> {
        Ok(chained.map(|inner| Tapped { inner, line: Line::new(self.0.clone()) }))
    }
}

#[derive(Debug)]
pub(super) struct Tapped<In> {
    inner: In,
    line: Line,
}

impl<In: Transport> Transport for Tapped<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.inner.transmit_output(amount, timeout)?;
        self.line.tell(Step::Wrote(amount));
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let before = self.inner.buffers().input().len();
        let more = self.inner.await_input(timeout)?;
        let came = self.inner.buffers().input().len().saturating_sub(before);
        self.line.tell(Step::Read(came));
        Ok(more)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// One connection, from when it stands until it is dropped.
#[derive(Debug)]
pub(crate) struct Line(Option<Watch>);

impl Line {
    pub(crate) fn new(watch: Option<Watch>) -> Line {
        let line = Line(watch);
        line.tell(Step::Connected);
        line
    }

    /// Nothing read or written is no step.
    pub(crate) fn tell(&self, step: Step) {
        if let Some(watch) = self.0.as_ref().filter(|_| !matches!(step, Step::Wrote(0) | Step::Read(0))) {
            watch.tell(step);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.tell(Step::Disconnected);
    }
}
