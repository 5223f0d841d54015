//! A connection to a web seed: a thread that asks and reads, and a driver on the session's thread that gives it buffers.
//!
//! The buffers are the credit: the thread reads into those that it has been given and no further, and is given more when the limit on downloads
//! and the gate let it. So what is read is bounded, and the server is held by TCP, as peers are. Decides nothing: what an answer means is
//! [`crate::webseed`]'s to say.

mod body;
mod fetcher;
mod request;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::NetShared;
use crate::blocks::BlockData;
use crate::http::Interrupt;
use crate::layout::{BLOCK_LENGTH, Block};
use crate::webseed::{Job, JobEnd, WebKey};
use fetcher::{Fetcher, Outbox};
pub(crate) use request::Access;

/// Buffers that a connection has at a time: what is read while the loop is busy otherwise.
const CREDIT: usize = 48;

/// Reports of a thread that may wait for its driver.
const REPORTS: usize = 4;

/// Jobs that may wait for a connection: it gets the next when one has ended.
const JOBS: usize = 2;

/// From a connection.
#[derive(Debug)]
pub(crate) enum FromWeb {
    /// Blocks of its job, in their order.
    Blocks(WebKey, Vec<(Block, BlockData)>),
    /// So many bytes that were not asked for: the server gives whole files only.
    Waste(WebKey, u64),
    /// Its job has ended.
    Ended(WebKey, JobEnd),
}

impl FromWeb {
    /// The connection that this comes from.
    pub(crate) fn key(&self) -> WebKey {
        match *self {
            FromWeb::Blocks(key, _) | FromWeb::Waste(key, _) | FromWeb::Ended(key, _) => key,
        }
    }
}

/// To the thread. Bounded by use: a job at a time, and [`CREDIT`] buffers.
enum ToThread {
    Job(Job),
    Buffers(Vec<BlockData>),
    /// What has been read and was not asked for is taken notice of.
    GoOn,
}

/// From the thread.
enum FromThread {
    Blocks(Vec<(Block, BlockData)>),
    /// It waits for [`ToThread::GoOn`].
    Waste(u64),
    /// With the buffers that were not needed.
    Ended(JobEnd, Vec<BlockData>),
}

/// The end of a connection that gives it jobs; it is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct WebLink {
    jobs: Sender<Job>,
    closed: Arc<AtomicBool>,
}

impl WebLink {
    /// Starts the thread and the driver of a connection.
    ///
    /// # Errors
    ///
    /// If there is no thread to be had.
    pub(crate) fn open(
        key: WebKey,
        access: Access,
        to_loop: Sender<FromWeb>,
        shared: Rc<NetShared>,
    ) -> io::Result<WebLink> {
        let (to_thread, orders) = std::sync::mpsc::channel();
        let (reports, from_thread) = mpsc::channel(REPORTS);
        let (jobs, from_loop) = mpsc::channel(JOBS);
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = closed.clone();
        let outbox = Outbox::new(reports);
        let untold = outbox.clone();
        let interrupt = Interrupt::new(move || {
            untold.try_flush();
            is_closed.load(Ordering::Relaxed)
        });
        let fetcher = Fetcher::new(access, interrupt, orders, outbox);
        thread::Builder::new().name("btget-web".to_owned()).spawn(move || fetcher.run())?;
        let driver = WebDriver { key, to_thread, outstanding: 0, wanted: 0, shared };
        tokio::task::spawn_local(driver.drive(from_loop, from_thread, to_loop));
        Ok(WebLink { jobs, closed })
    }

    /// Gives the connection its next job. False if it has not ended the one before.
    pub(crate) fn fetch(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }
}

impl Drop for WebLink {
    fn drop(&mut self) {
        // The thread may wait for the server.
        self.closed.store(true, Ordering::Relaxed);
    }
}

struct WebDriver {
    key: WebKey,
    to_thread: std::sync::mpsc::Sender<ToThread>,
    /// Buffers that the thread has.
    outstanding: usize,
    /// Buffers that its job needs besides these.
    wanted: usize,
    shared: Rc<NetShared>,
}

impl WebDriver {
    async fn drive(
        mut self,
        mut jobs: Receiver<Job>,
        mut reports: Receiver<FromThread>,
        to_loop: Sender<FromWeb>,
    ) {
        let shared = self.shared.clone();
        let mut may_read = !shared.download.is_set();
        // Kept from round to round: whoever waits for its turn must not lose its place to a report.
        let turn = shared.download.wait();
        tokio::pin!(turn);
        loop {
            let is_open = !shared.gate.is_closed();
            if is_open && may_read && self.wants() {
                self.grant();
                may_read = !shared.download.is_set();
            }
            let needs = self.wants();
            tokio::select! {
                job = jobs.recv() => {
                    // The session has closed it: the thread ends when it sees that.
                    let Some(job) = job else { return };
                    self.wanted = job.blocks.len();
                    let _ = self.to_thread.send(ToThread::Job(job));
                }
                report = reports.recv() => {
                    let Some(report) = report else { return };
                    let said = self.on_report(report);
                    // The session may have ended; then nobody needs to know.
                    let _ = to_loop.send(said).await;
                }
                () = shared.gate.wait_open(), if !is_open && needs => {}
                () = &mut turn, if !may_read && is_open && needs => {
                    may_read = true;
                    turn.set(shared.download.wait());
                }
            }
        }
    }

    fn wants(&self) -> bool {
        self.wanted > 0 && self.outstanding < CREDIT
    }

    /// Gives the thread as many buffers as it may fill now.
    fn grant(&mut self) {
        let turn = self.shared.download.turn() / BLOCK_LENGTH as usize;
        let count = self.wanted.min(CREDIT - self.outstanding).min(turn.max(1));
        let buffers: Vec<BlockData> = (0..count).map(|_| self.shared.pool.take(BLOCK_LENGTH)).collect();
        self.shared.download.spend(count * BLOCK_LENGTH as usize);
        self.wanted -= count;
        self.outstanding += count;
        // A thread that has died is seen by its reports.
        let _ = self.to_thread.send(ToThread::Buffers(buffers));
    }

    fn on_report(&mut self, report: FromThread) -> FromWeb {
        match report {
            FromThread::Blocks(blocks) => {
                self.outstanding -= blocks.len().min(self.outstanding);
                FromWeb::Blocks(self.key, blocks)
            }
            FromThread::Waste(bytes) => {
                self.shared.download.spend(bytes as usize);
                let _ = self.to_thread.send(ToThread::GoOn);
                FromWeb::Waste(self.key, bytes)
            }
            FromThread::Ended(end, spare) => {
                self.shared.pool.put(spare);
                (self.wanted, self.outstanding) = (0, 0);
                FromWeb::Ended(self.key, end)
            }
        }
    }
}
