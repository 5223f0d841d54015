//! `--cat`: one file of a torrent goes to standard output, in order, as it comes.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};

use crate::cli::Exit;
use crate::cli::jobs::load::cause;
use crate::cli::show::json;
use crate::client::{Client, Error};

/// Bytes that are read and written at a time, and all that is held of what a slow reader has not taken.
const CHUNK: usize = 256 << 10;

/// How the writing has ended.
pub(super) enum CatEnd {
    /// All is written.
    Written,
    /// Nobody reads any more: who did has all they want.
    Closed,
    /// The torrent has ended before all was there; it says why.
    Stopped,
    /// Something could not be read or written: the exit code, and the whole message.
    Failed(Exit, String),
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CatState {
    NotAskedFor,
    /// It is not known yet which file it is.
    Waiting,
    Writing,
    Written,
    /// Nobody reads any more.
    Closed,
    /// What stopped it is told elsewhere.
    Stopped,
    /// It could not go on, and that is said.
    Failed,
}

/// The writing, from before it is known what to write.
#[derive(Debug)]
pub(super) struct Cat(CatState);

impl Cat {
    /// Nothing is written yet, nor ever unless it `is_asked_for`.
    pub(super) fn new(is_asked_for: bool) -> Cat {
        Cat(if is_asked_for { CatState::Waiting } else { CatState::NotAskedFor })
    }

    /// Begins to write, if that is asked for and it is known which file that is; `tell` hears how it ends, once or twice.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started, or there is no standard output.
    pub(super) fn begin(
        &mut self,
        client: Client,
        tell: impl Fn(CatEnd) + Clone + Send + 'static,
    ) -> io::Result<()> {
        if self.0 != CatState::Waiting || client.metainfo().is_none() {
            return Ok(());
        }
        self.0 = CatState::Writing;
        write(client, tell)
    }

    /// It has ended. What went wrong, if that is to be said: the exit code, and the whole message.
    pub(super) fn on_end(&mut self, end: CatEnd) -> Option<(Exit, String)> {
        // Who has read all goes away, and that is no news.
        if self.0 != CatState::Writing {
            return None;
        }
        let (state, failure) = match end {
            CatEnd::Written => (CatState::Written, None),
            CatEnd::Closed => (CatState::Closed, None),
            CatEnd::Stopped => (CatState::Stopped, None),
            CatEnd::Failed(exit, text) => (CatState::Failed, Some((exit, text))),
        };
        self.0 = state;
        failure
    }

    /// Whether it is under way.
    pub(super) fn is_writing(&self) -> bool {
        self.0 == CatState::Writing
    }

    /// Whether it has ended because nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0 == CatState::Closed
    }

    /// Whether it was what could not go on.
    pub(super) fn has_failed(&self) -> bool {
        self.0 == CatState::Failed
    }

    /// Whether something that somebody waits for has not been written.
    pub(super) fn is_unwritten(&self) -> bool {
        !matches!(self.0, CatState::NotAskedFor | CatState::Written | CatState::Closed)
    }
}

/// Writes the one file that is wanted of a torrent, on a thread of its own.
fn write(client: Client, tell: impl Fn(CatEnd) + Clone + Send + 'static) -> io::Result<()> {
    let mut out = json::stdout()?;
    let watched = out.try_clone()?;
    let tell_of_close = tell.clone();
    let watch = move || {
        if is_closed(&watched) {
            tell_of_close(CatEnd::Closed);
        }
    };
    // While nothing comes nothing is written, and a pipe that nobody reads would not be noticed.
    thread::Builder::new().name("stdout".to_owned()).spawn(watch)?;
    let run = move || tell(copy(&client, &mut out));
    thread::Builder::new().name("cat".to_owned()).spawn(run).map(drop)
}

/// Waits until nobody reads what is written to a pipe or a socket. False if that cannot be known.
fn is_closed(out: &File) -> bool {
    loop {
        let mut watched = [PollFd::new(out, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) if watched[0].revents().contains(PollFlags::NVAL) => return false,
            Ok(_) => return watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn copy(client: &Client, out: &mut File) -> CatEnd {
    let file = client.files().iter().position(|file| file.priority > 0).unwrap_or(0);
    let mut reader = match client.reader(file) {
        Ok(reader) => reader,
        Err(_) => return CatEnd::Stopped,
    };
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => return CatEnd::Written,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.get_ref().is_some_and(|inner| inner.is::<Error>()) => return CatEnd::Stopped,
            Err(error) => return CatEnd::Failed(Exit::Data, error.to_string()),
        };
        match write_waiting(out, &buffer[..length]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return CatEnd::Closed,
            Err(error) => {
                return CatEnd::Failed(
                    Exit::Failure,
                    format!("cannot write to standard output: {}", cause(&error)),
                );
            }
        }
    }
}

/// Writes all of it, also to a pipe that its other end has told not to wait.
fn write_waiting(out: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(&*out, PollFlags::OUT)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
