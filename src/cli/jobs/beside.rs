//! Work on a thread of its own, beside the screen on which it is shown.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::cli::Exit;
use crate::cli::jobs::run::{Refusal, no_thread};
use crate::cli::show::screen::Screen;
use crate::client::Status;

/// How long to wait for news while nothing is drawn.
const FAR: Duration = Duration::from_secs(3600);

/// News that may wait to be taken; who is slower holds up the work, and misses nothing.
const MAX_WAITING: usize = 1024;

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
    let work = |teller: SyncSender<()>| {
        let _until_it_is_over = teller;
        work()
    };
    beside_telling(screen, name, work, status, |()| Ok(())).map_err(|error| (Exit::Failure, error))
}

/// The same with work that tells of something meanwhile, which `take` is given. Once that fails the news go nowhere: the work has to end by itself.
///
/// # Errors
///
/// If there is no thread to be had, and what `take` says.
pub(super) fn beside_telling<T: Send, News: Send>(
    screen: &mut Screen,
    name: &str,
    work: impl FnOnce(SyncSender<News>) -> T + Send,
    status: impl Fn(usize, Instant) -> Option<Status>,
    mut take: impl FnMut(News) -> anyhow::Result<()>,
) -> anyhow::Result<T> {
    thread::scope(|scope| {
        // Hung up by the work when it is over, however it ends, and by us, if we fail, before its thread is waited for.
        let (teller, told) = sync_channel(MAX_WAITING);
        let worker = thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, || work(teller));
        let worker = worker.map_err(|error| anyhow!("{}", no_thread(&error)))?;
        loop {
            let now = Instant::now();
            screen.draw(now, |number| status(number, now));
            let wait = screen.deadline().map_or(FAR, |next| next.saturating_duration_since(now));
            match told.recv_timeout(wait) {
                Ok(news) => take(news)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(worker.join().expect("such work does not panic"))
    })
}
