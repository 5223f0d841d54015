//! The thread that a session runs on, and the way to ask it.

use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::options::SessionOptions;
use super::{Command, Engine, NotStarted};
use crate::ids::{ReaderKey, TorrentId};
use crate::net::lull::rest;
use crate::wire::PeerId;

/// Asks the session; as many as are wanted may.
#[derive(Clone, Debug)]
pub(crate) struct Commands(UnboundedSender<Command>);

impl Commands {
    /// Gives a command and waits for its reply; `None` if the session has ended.
    pub(crate) fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Option<T> {
        let (reply, answer) = sync_channel(1);
        self.0.send(command(reply)).ok()?;
        answer.recv().ok()
    }

    /// A reader is gone.
    pub(crate) fn close_reader(&self, torrent: TorrentId, reader: ReaderKey) {
        // If the session has ended nobody reads anyway.
        let _ = self.0.send(Command::CloseReader(torrent, reader));
    }

    /// Tells every torrent to stop, and the session to end when they have.
    pub(crate) fn shut_down(&self) {
        // If the session has ended there is nothing to end.
        let _ = self.0.send(Command::Shutdown);
    }
}

/// The session's thread.
#[derive(Debug)]
pub(crate) struct Thread {
    commands: Commands,
    thread: JoinHandle<()>,
}

impl Thread {
    /// Starts the thread and the listener.
    ///
    /// # Errors
    ///
    /// If no port can be listened on or a thread cannot be started.
    pub(crate) fn start(options: SessionOptions) -> Result<(Thread, Started), NotStarted> {
        let (commands, received) = unbounded_channel();
        let (ready, started) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("btget-session".into())
            .spawn(move || run_session(options, received, &ready))
            .map_err(|error| no_thread(&error))?;
        let started = started.recv().map_err(|_| "the session ended as it began".to_owned())??;
        Ok((Thread { commands: Commands(commands), thread }, started))
    }

    /// A way to ask the session, for handles.
    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Stops every torrent and waits until the thread has ended.
    pub(crate) fn end(self) {
        self.commands.shut_down();
        // A panic there has been reported already.
        let _ = self.thread.join();
    }
}

/// What is known of a session once it runs.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    /// Our peer id.
    pub peer_id: PeerId,
    /// The port that is listened on.
    pub port: u16,
    /// Local addresses at which connections are accepted.
    pub listening: Vec<SocketAddr>,
}

/// What is said of a thread of ours that has panicked.
pub(super) fn thread_gone(name: &str) -> String {
    format!("an error in this program has ended its '{name}' thread; report it, and start again")
}

/// Why a thread cannot be started, and what to do about it.
pub(super) fn no_thread(error: &std::io::Error) -> String {
    format!("cannot start a thread: {error}; allow more of them (ulimit -u, or the container's limit)")
}

type Ready = SyncSender<Result<Started, NotStarted>>;

fn run_session(options: SessionOptions, commands: UnboundedReceiver<Command>, ready: &Ready) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().on_thread_park(rest).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(format!("cannot start the network loop: {error}").into()));
            return;
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        // Whoever started the session waits for this, and knows if it never comes.
        match Engine::start(options, commands) {
            Ok(engine) => {
                let _ = ready.send(Ok(Started {
                    peer_id: engine.identity().peer_id,
                    port: engine.identity().ports.local,
                    listening: engine.listening().to_vec(),
                }));
                engine.run().await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    // An announce that hangs is not waited for.
    runtime.shutdown_background();
}
