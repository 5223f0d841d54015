//! Work on a thread of its own, beside the screen on which it is shown.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::cli::Exit;
use crate::cli::jobs::run::{Refusal, no_thread};
use crate::cli::show::screen::Screen;
use crate::client::Status;

/// How long to wait for news while nothing is drawn.
pub(super) const FAR: Duration = Duration::from_secs(3600);

/// Does this `work` on a thread called `name`. Until it is over the screen shows of each torrent, by its number, what `status` gives.
///
/// # Errors
///
/// If there is no thread to be had.
pub(super) fn beside<T: Send>(
    screen: &mut Screen,
    name: &str,
    work: impl FnOnce() -> T + Send,
    status: impl Fn(usize, Instant) -> Option<Status>,
) -> Result<T, Refusal> {
    let (done, ended) = sync_channel::<()>(1);
    thread::scope(|scope| {
        let run = move || {
            // Hung up when it is over, however it ends.
            let _done = done;
            work()
        };
        let worker = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, run);
        let worker = worker.map_err(|error| (Exit::Failure, anyhow!("{}", no_thread(&error))))?;
        loop {
            let now = Instant::now();
            screen.draw(now, |number| status(number, now));
            let wait = screen.deadline().map_or(FAR, |next| next.saturating_duration_since(now));
            if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        Ok(worker.join().expect("such work does not panic"))
    })
}
