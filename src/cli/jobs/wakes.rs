//! What wakes the loop of a transfer: events of the session, signals, and the end of what is written beside it.

use std::sync::mpsc::SyncSender;
use std::thread;

use anyhow::anyhow;

use crate::cli::Exit;
use crate::cli::jobs::cat::CatEnd;
use crate::cli::jobs::run::{Refusal, no_stdout, no_thread};
use crate::cli::options::config::{Config, Verbosity};
use crate::cli::show::json::{self, EventWriter};
use crate::cli::show::say::mark;
use crate::cli::signals::Signal;
use crate::client::{Session, Subscription};
use crate::event::{Event, Kind, Severity};

/// What wakes the loop.
pub(super) enum Wake {
    /// Somebody has sent one.
    Signal(Signal),
    /// Something has happened in the session.
    Event(Box<Event>),
    /// The writing of `--cat` has ended.
    Cat(CatEnd),
    /// The session has ended: no event will come any more.
    Ended,
}

/// What may wait for the loop. More waits in the subscription's own bounded queue.
pub(super) const MAX_WAITING: usize = 64;

/// Has events come to the loop, and to standard output if they are asked for.
pub(super) fn subscribe(
    config: &Config,
    session: &Session,
    wake: SyncSender<Wake>,
) -> Result<Option<EventWriter>, Refusal> {
    let verbosity = config.verbosity;
    let least = if verbosity == Verbosity::Debug { Severity::Debug } else { Severity::Info };
    let subscription = session.subscribe_to(least, move |kind| matters(kind, verbosity));
    forward(subscription.map_err(|error| (Exit::Failure, error.into()))?, wake)
        .map_err(|error| (Exit::Failure, anyhow!(no_thread(&error))))?;
    let Some(asked) = config.json else { return Ok(None) };
    // Summaries are `info`.
    let wanted = move |kind: &Kind| json::wanted(kind, asked);
    let subscription = session
        .subscribe_to(asked.min(Severity::Info), wanted)
        .map_err(|error| (Exit::Failure, error.into()))?;
    let out = json::stdout().map_err(no_stdout)?;
    let writer = EventWriter::spawn(subscription, asked, out).map(Some);
    writer.map_err(|error| (Exit::Failure, anyhow!(no_thread(&error))))
}

/// Passes events on to the loop.
fn forward(subscription: Subscription, wake: SyncSender<Wake>) -> std::io::Result<()> {
    let run = move || {
        for event in subscription.iter() {
            if wake.send(Wake::Event(Box::new(event))).is_err() {
                return;
            }
        }
        // Nobody listens any more only once the outcome is known.
        let _ = wake.send(Wake::Ended);
    };
    thread::Builder::new().name("wakes".to_owned()).spawn(run).map(drop)
}

/// Whether the loop does something with it.
fn matters(kind: &Kind, verbosity: Verbosity) -> bool {
    changes_phase(kind) || matches!(kind, Kind::Summary { .. }) || mark(kind, verbosity).is_some()
}

/// Whether the torrent does something else from now on.
pub(super) fn changes_phase(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::StateChanged { .. }
            | Kind::MetadataReceived { .. }
            | Kind::HashcheckFinished { .. }
            | Kind::Complete { .. }
            | Kind::Seeding { .. }
            | Kind::FileError { .. }
    )
}
