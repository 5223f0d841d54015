//! A connection to a web seed: a thread that asks and reads, and a driver on the session's thread that gives it buffers.
//!
//! The buffers are the credit: the thread reads into those that it has been given and no further, and is given more when the limit on downloads
//! and the gate let it. So what is read is bounded, and the server is held by TCP, as peers are. Decides nothing: what an answer means is
//! [`crate::webseed`]'s to say.

mod fetcher;
mod request;
mod server;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep};

use super::{Gate, NetShared};
use crate::blocks::BlockData;
use crate::http::Interrupt;
use crate::layout::{BLOCK_LENGTH, Block};
use crate::webseed::{Job, JobEnd, MAX_BYTES, MAX_CONNECTIONS, WebKey};
use fetcher::{Fetcher, Outbox, Rhythm};
pub(crate) use request::Access;

/// Buffers that a connection has at a time: what is read while the loop is busy otherwise.
const CREDIT: usize = 48;

/// The same under a limit, until the first block of a job has come: what is paid for in advance is not lost to a server that never answers.
const FIRST_CREDIT: usize = 2;

/// A server that has been asked and lets so long go by without a whole block is given up. (One that sends nothing at all is so earlier.) Looked at
/// step by step: while the process is stopped one step passes, and not the whole time.
const MAX_LULL: Duration = Duration::from_secs(60);
const LULL_STEP: Duration = Duration::from_secs(5);

/// Where a turn under the limit is shorter than this, a thread reads no faster than the limit is: a block at a time would take a good part of a second's
/// bytes at once.
const SLOW_TURN: usize = 2048;

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
    /// Its server has said that it knows ranges.
    SaysRanges(WebKey),
    /// Its job has ended.
    Ended(WebKey, JobEnd),
    /// Its server sends next to nothing: it is given up.
    Lull(WebKey),
    /// Its thread has panicked: it brings nothing any more.
    Died(WebKey),
}

impl FromWeb {
    /// The connection that this comes from.
    pub(crate) fn key(&self) -> WebKey {
        match *self {
            FromWeb::Blocks(key, _)
            | FromWeb::Waste(key, _)
            | FromWeb::Ended(key, _)
            | FromWeb::SaysRanges(key)
            | FromWeb::Lull(key)
            | FromWeb::Died(key) => key,
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
    SaysRanges,
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
        gate: Rc<Gate>,
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
            untold.flush_old(Instant::now().into_std());
            is_closed.load(Ordering::Relaxed)
        });
        let turn = shared.download.turn();
        let pace = (turn < SLOW_TURN).then(|| (turn, shared.download.time_of(turn)));
        // All that are asked together: what comes in a second.
        let a_second = shared.download.bytes_a_second();
        let max_ahead = a_second.map_or(MAX_BYTES, |bytes| (bytes / MAX_CONNECTIONS) as u64);
        let fetcher = Fetcher::new(access, interrupt, orders, outbox, Rhythm { pace, max_ahead });
        thread::Builder::new().name("btget-web".to_owned()).spawn(move || fetcher.run())?;
        let driver = WebDriver::new(key, to_thread, gate, shared);
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
    /// The thread has read what was not asked for, and waits for [`ToThread::GoOn`].
    waste_waits: bool,
    /// A block of the job has come.
    has_brought: bool,
    gate: Rc<Gate>,
    shared: Rc<NetShared>,
}

impl WebDriver {
    fn new(
        key: WebKey,
        to_thread: std::sync::mpsc::Sender<ToThread>,
        gate: Rc<Gate>,
        shared: Rc<NetShared>,
    ) -> WebDriver {
        WebDriver {
            key,
            to_thread,
            outstanding: 0,
            wanted: 0,
            waste_waits: false,
            has_brought: false,
            gate,
            shared,
        }
    }

    async fn drive(
        mut self,
        mut jobs: Receiver<Job>,
        mut reports: Receiver<FromThread>,
        to_loop: Sender<FromWeb>,
    ) {
        let (shared, gate) = (self.shared.clone(), self.gate.clone());
        let mut may_read = !shared.download.is_set();
        // Kept from round to round: whoever waits for its turn must not lose its place to a report.
        let turn = shared.download.wait();
        // How long the thread has had buffers and brought nothing.
        let (step, mut lull) = (sleep(LULL_STEP), Duration::ZERO);
        // Under a low limit the thread itself may take longer for a block than a server may.
        let max_lull = MAX_LULL.max(2 * shared.download.time_of(BLOCK_LENGTH as usize));
        tokio::pin!(turn, step);
        loop {
            let is_open = !gate.is_closed();
            while is_open && may_read && self.needs_turn() {
                self.use_turn();
                may_read = !shared.download.is_set();
            }
            let needs = self.needs_turn();
            if !needs && shared.download.is_set() {
                // It gives up its place in the row: one that nobody takes would hold all who come behind it.
                turn.set(shared.download.wait());
            }
            tokio::select! {
                job = jobs.recv() => {
                    // The session has closed it: the thread ends when it sees that.
                    let Some(job) = job else { return self.refund() };
                    (self.wanted, self.has_brought) = (job.blocks.len(), false);
                    lull = Duration::ZERO;
                    step.as_mut().reset(Instant::now() + LULL_STEP);
                    let _ = self.to_thread.send(ToThread::Job(job));
                }
                report = reports.recv() => {
                    let Some(report) = report else {
                        self.refund();
                        let _ = to_loop.send(FromWeb::Died(self.key)).await;
                        return;
                    };
                    let said = self.on_report(report);
                    lull = Duration::ZERO;
                    step.as_mut().reset(Instant::now() + LULL_STEP);
                    // The session may have ended; then nobody needs to know.
                    let _ = to_loop.send(said).await;
                }
                () = &mut step, if self.outstanding > 0 => {
                    lull += LULL_STEP;
                    if lull >= max_lull {
                        self.refund();
                        let _ = to_loop.send(FromWeb::Lull(self.key)).await;
                        return;
                    }
                    step.as_mut().reset(Instant::now() + LULL_STEP);
                }
                () = gate.wait_open(), if !is_open && needs => {}
                () = &mut turn, if !may_read && is_open && needs => {
                    may_read = true;
                    turn.set(shared.download.wait());
                }
            }
        }
    }

    fn wants_buffers(&self) -> bool {
        self.wanted > 0 && self.outstanding < self.credit()
    }

    fn credit(&self) -> usize {
        if self.has_brought || !self.shared.download.is_set() { CREDIT } else { FIRST_CREDIT }
    }

    /// Nothing comes into the buffers that the thread has.
    fn refund(&self) {
        self.shared.download.refund(self.outstanding * BLOCK_LENGTH as usize);
    }

    /// Whether the thread can do nothing, or will not for long, before it is its turn under the limit.
    fn needs_turn(&self) -> bool {
        self.waste_waits || self.wants_buffers()
    }

    /// Lets the thread read on. What it has read without being asked is charged already; it needs no buffers before it goes on.
    fn use_turn(&mut self) {
        if std::mem::take(&mut self.waste_waits) {
            let _ = self.to_thread.send(ToThread::GoOn);
        } else {
            self.grant();
        }
    }

    /// Gives the thread as many buffers as it may fill now.
    fn grant(&mut self) {
        let turn = self.shared.download.turn() / BLOCK_LENGTH as usize;
        let count = self.wanted.min(self.credit() - self.outstanding).min(turn.max(1));
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
                self.has_brought = true;
                // Peers need not be asked for as much.
                let bytes = blocks.iter().map(|(block, _)| block.length as usize).sum();
                self.shared.pace.on_read(bytes, bytes);
                FromWeb::Blocks(self.key, blocks)
            }
            FromThread::Waste(bytes) => {
                self.shared.download.spend(bytes as usize);
                self.shared.pace.on_read(bytes as usize, bytes as usize);
                self.waste_waits = true;
                FromWeb::Waste(self.key, bytes)
            }
            FromThread::SaysRanges => FromWeb::SaysRanges(self.key),
            FromThread::Ended(end, spare) => {
                self.shared.pool.put(spare);
                self.refund();
                (self.wanted, self.outstanding, self.waste_waits) = (0, 0, false);
                FromWeb::Ended(self.key, end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::ids::PeerKey;
    use crate::layout::PieceIndex;
    use crate::webseed::Fault;

    const KEY: WebKey = WebKey { seed: PeerKey(1), number: 0 };
    const RATE: u64 = 100_000;

    /// A driver without its thread, and what it talks to.
    struct Bench {
        shared: Rc<NetShared>,
        jobs: Sender<Job>,
        orders: std::sync::mpsc::Receiver<ToThread>,
        reports: Sender<FromThread>,
        from_web: Receiver<FromWeb>,
    }

    impl Bench {
        /// Drives a connection under a limit of [`RATE`].
        fn start() -> Bench {
            Bench::limited_to(RATE)
        }

        fn limited_to(rate: u64) -> Bench {
            let shared = NetShared::new(Some(rate), None);
            let (to_thread, orders) = std::sync::mpsc::channel();
            let (reports, from_thread) = mpsc::channel(REPORTS);
            let (jobs, from_loop) = mpsc::channel(JOBS);
            let (to_loop, from_web) = mpsc::channel(1024);
            let driver = WebDriver::new(KEY, to_thread, Rc::default(), shared.clone());
            tokio::task::spawn_local(driver.drive(from_loop, from_thread, to_loop));
            Bench { shared, jobs, orders, reports, from_web }
        }

        fn fetch(&self, blocks: u32) {
            let block =
                |number| Block { piece: PieceIndex(0), begin: number * BLOCK_LENGTH, length: BLOCK_LENGTH };
            let job = Job { blocks: (0..blocks).map(block).collect(), parts: Vec::new() };
            self.jobs.try_send(job).unwrap();
        }

        /// Buffers that have been given to the thread since the last call.
        fn buffers(&self) -> Vec<BlockData> {
            let buffers = self.orders.try_iter().filter_map(|order| match order {
                ToThread::Buffers(buffers) => Some(buffers),
                ToThread::Job(_) | ToThread::GoOn => None,
            });
            buffers.flatten().collect()
        }

        async fn end(&self, fault: Option<Fault>, spare: Vec<BlockData>) {
            let fault = fault.map(|fault| (None, fault));
            let end = JobEnd::with(fault);
            assert!(self.reports.send(FromThread::Ended(end, spare)).await.is_ok());
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.unwrap(), test);
    }

    #[test]
    fn a_job_that_ends_while_it_waits_for_its_turn_holds_up_nobody() {
        run(async {
            let bench = Bench::start();
            bench.fetch(200);
            sleep(Duration::from_millis(1)).await;
            bench.end(Some(Fault::Broken("closed".to_owned())), bench.buffers()).await;
            sleep(Duration::from_millis(1)).await;
            let turn = timeout(Duration::from_secs(60), bench.shared.download.wait()).await;
            assert!(turn.is_ok(), "the connection keeps a turn that it does not need");
        });
    }

    #[test]
    fn a_server_that_never_answers_takes_nothing_of_the_limit() {
        run(async {
            let bench = Bench::start();
            let begin = tokio::time::Instant::now();
            for _ in 0..20 {
                bench.fetch(48);
                sleep(Duration::from_secs(1)).await;
                let buffers = bench.buffers();
                assert!(buffers.len() <= FIRST_CREDIT, "{} buffers before any answer", buffers.len());
                bench.end(Some(Fault::Broken("no answer".to_owned())), buffers).await;
            }
            sleep(Duration::from_millis(1)).await;
            let mut others = 0;
            while begin.elapsed() < Duration::from_secs(30) {
                bench.shared.download.wait().await;
                bench.shared.download.spend(bench.shared.download.turn());
                others += bench.shared.download.turn();
            }
            assert!(others > RATE as usize * 9, "{others} bytes in the last 10 s");
        });
    }

    #[test]
    fn a_server_that_sends_less_than_a_block_in_a_minute_is_given_up() {
        run(async {
            let mut bench = Bench::start();
            bench.fetch(20);
            let begin = Instant::now();
            for number in 0..3 {
                // As slow as is borne.
                sleep(MAX_LULL - LULL_STEP).await;
                let block =
                    Block { piece: PieceIndex(0), begin: number * BLOCK_LENGTH, length: BLOCK_LENGTH };
                let data = bench.buffers().pop().unwrap_or_else(|| BlockData::new(BLOCK_LENGTH));
                assert!(bench.reports.send(FromThread::Blocks(vec![(block, data)])).await.is_ok());
                assert!(matches!(bench.from_web.recv().await, Some(FromWeb::Blocks(..))));
            }
            let last = Instant::now();
            assert!(matches!(bench.from_web.recv().await, Some(FromWeb::Lull(KEY))));
            assert!(last.elapsed() >= MAX_LULL && begin.elapsed() < 5 * MAX_LULL);
        });
    }

    #[test]
    fn who_waits_for_a_turn_is_not_given_up_for_it() {
        run(async {
            let mut bench = Bench::start();
            // Far more than the limit allows for minutes.
            bench.shared.download.spend(RATE as usize * 300);
            bench.fetch(20);
            assert!(timeout(4 * MAX_LULL, bench.from_web.recv()).await.is_err());
        });
    }

    #[test]
    fn a_server_is_not_given_up_for_a_limit_by_which_a_block_takes_longer_than_it_may() {
        run(async {
            let mut bench = Bench::limited_to(200);
            bench.fetch(1);
            // So long the thread takes to read it.
            sleep(Duration::from_secs(16_384 / 200 + 1)).await;
            assert!(bench.from_web.try_recv().is_err());
            assert!(timeout(4 * MAX_LULL, bench.from_web.recv()).await.is_ok(), "nothing comes for ever");
        });
    }

    #[test]
    fn a_thread_that_dies_is_told_of() {
        run(async {
            let Bench { reports, mut from_web, jobs: _jobs, .. } = Bench::start();
            drop(reports);
            assert!(matches!(from_web.recv().await, Some(FromWeb::Died(KEY))));
        });
    }

    #[test]
    fn what_is_skipped_of_a_whole_file_keeps_to_the_limit() {
        run(async {
            let mut bench = Bench::start();
            bench.fetch(1);
            sleep(Duration::from_secs(1)).await;
            let begin = tokio::time::Instant::now();
            for _ in 0..20 {
                assert!(bench.reports.send(FromThread::Waste(64 << 10)).await.is_ok());
                while !bench.orders.try_iter().any(|order| matches!(order, ToThread::GoOn)) {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            // What the bucket holds at the start goes at once.
            let least = Duration::from_secs_f64(19.0 * 65536.0 / RATE as f64 - 0.2);
            assert!(begin.elapsed() >= least, "{:?} instead of {least:?}", begin.elapsed());
            assert!(matches!(bench.from_web.try_recv(), Ok(FromWeb::Waste(KEY, 65536))));
        });
    }
}
