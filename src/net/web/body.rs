//! The body of an answer, read as far as it is wanted.

use std::io::{self, Read};

use ureq::BodyReader;

use super::request::fault;
use crate::webseed::Fault;

/// Why there are no more bytes of a body.
fn ended(error: io::Error) -> Fault {
    match fault(ureq::Error::from(error)) {
        Fault::Broken(reason) if reason == "no answer in time" => {
            Fault::Broken("nothing more came in time".to_owned())
        }
        other => other,
    }
}

/// A body that is being read.
pub(super) struct OpenBody {
    reader: BodyReader<'static>,
}

impl OpenBody {
    pub(super) fn new(body: ureq::Body) -> OpenBody {
        // The length of what is read is bounded by what is asked for.
        OpenBody { reader: body.into_with_config().limit(u64::MAX).reader() }
    }

    /// Reads some bytes: at least one.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            match self.reader.read(into) {
                Ok(0) => return Err(Fault::Broken("the answer is shorter than it should be".to_owned())),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ended(error)),
            }
        }
    }

    /// Comes to its end, so that its connection can be used again; if it goes on, the connection is closed.
    pub(super) fn finish(mut self) {
        let _ = self.reader.read(&mut [0; 16]);
    }
}
