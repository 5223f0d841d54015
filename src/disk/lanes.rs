//! The threads, and which of them see to which torrent: a disk that is slow, or hangs, holds up its own torrents only.
//!
//! Each device has a lane: threads that write, sync and read for its torrents alone. The threads of the first lane are there from the start, those of
//! others once a torrent is on a further device.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use super::{Done, Read, ReadJob, SyncQueue, Work, WriteJob, read_loop, write_loop};
use crate::ids::DiskLane;
use crate::storage::Device;

/// Devices with threads of their own, which are four each; further ones share those of the last.
pub(crate) const MAX_LANES: usize = 4;

/// Jobs that may wait for each kind of thread. Whoever gives them bounds them further: few bytes of
/// unwritten pieces, little ahead of each peer.
const MAX_JOBS: usize = 8192;

/// Threads of a lane that read for peers: while one waits for a slow disk, another serves from the cache.
const READERS: usize = 2;

/// The threads; they end when this is dropped and their jobs are done.
#[derive(Debug)]
pub(crate) struct Disk {
    /// At least one, at most [`MAX_LANES`].
    lanes: Vec<Lane>,
    /// Whose they are, by the system's number of the device; one entry for each device that a torrent of the session was on.
    devices: BTreeMap<u64, DiskLane>,
    done: UnboundedSender<Done>,
}

/// The threads of one device.
#[derive(Debug)]
struct Lane {
    write: SyncSender<WriteJob>,
    sync: SyncSender<Work>,
    read: SyncSender<ReadJob>,
    threads: Vec<JoinHandle<()>>,
}

/// Tells that a thread has panicked, whatever it was doing.
struct Alarm {
    thread: &'static str,
    done: UnboundedSender<Done>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody listens any more only once the session has ended.
            let _ = self.done.send(Done::Broken { thread: self.thread });
        }
    }
}

impl Lane {
    fn start(done: &UnboundedSender<Done>) -> io::Result<Lane> {
        let (write, writes) = sync_channel(MAX_JOBS);
        let (sync, syncs) = sync_channel::<Work>(MAX_JOBS);
        let (read, reads) = sync_channel::<ReadJob>(MAX_JOBS);
        // The lock is held while one reader waits for the next job, never while it works.
        let reads = Arc::new(Mutex::new(reads));
        let mut threads = vec![
            spawn("write", done, move |done| write_loop(&writes, done))?,
            spawn("sync", done, move |_| syncs.iter().for_each(|work| work()))?,
        ];
        for _ in 0..READERS {
            let reads = reads.clone();
            threads.push(spawn("read", done, move |done| read_loop(&reads, done))?);
        }
        Ok(Lane { write, sync, read, threads })
    }
}

impl Disk {
    /// Starts the threads of the first lane; what they and others did goes to `done`.
    pub(crate) fn start(done: UnboundedSender<Done>) -> io::Result<Disk> {
        Ok(Disk { lanes: vec![Lane::start(&done)?], devices: BTreeMap::new(), done })
    }

    /// The lane of a device, with new threads if it is a further one; of one that is not known, the first. Where there are no more threads to be
    /// had, further devices share those of the last.
    pub(crate) fn lane_of(&mut self, device: Option<Device>) -> DiskLane {
        let Some(device) = device else { return DiskLane::default() };
        if let Some(&lane) = self.devices.get(&device.number) {
            return lane;
        }
        let is_first = self.devices.is_empty();
        if !is_first && self.lanes.len() < MAX_LANES {
            self.lanes.extend(Lane::start(&self.done));
        }
        let lane = DiskLane(self.lanes.len() - 1);
        self.devices.insert(device.number, lane);
        lane
    }

    /// Queues work for the thread that writes. False if too much waits, or if the thread is gone, which is told as
    /// [`Done::Broken`].
    pub(crate) fn write(&self, lane: DiskLane, job: WriteJob) -> bool {
        self.lanes[lane.0].write.try_send(job).is_ok()
    }

    /// Queues work beside the writes. False as in [`Disk::write`].
    pub(crate) fn sync(&self, lane: DiskLane, work: Work) -> bool {
        self.lanes[lane.0].sync.try_send(work).is_ok()
    }

    /// A way to queue work beside the writes from any thread. The threads do not end while there is one.
    pub(crate) fn sync_queue(&self, lane: DiskLane) -> SyncQueue {
        SyncQueue(self.lanes[lane.0].sync.clone())
    }

    /// Queues a read. False as in [`Disk::write`].
    pub(crate) fn read(&self, job: Read) -> bool {
        self.lanes[job.torrent.lane.0].read.try_send(ReadJob::Blocks(job)).is_ok()
    }

    /// Queues work among the reads, which is to read. False as in [`Disk::write`].
    pub(crate) fn among_reads(&self, lane: DiskLane, work: Work) -> bool {
        self.lanes[lane.0].read.try_send(ReadJob::Then(work)).is_ok()
    }

    /// Has all threads end once their jobs are done, and waits for those of the lanes that are `awaited`.
    pub(crate) fn finish(self, awaited: impl Fn(DiskLane) -> bool) {
        let all: Vec<Vec<JoinHandle<()>>> = self.lanes.into_iter().map(|lane| lane.threads).collect();
        for (_, threads) in all.into_iter().enumerate().filter(|(number, _)| awaited(DiskLane(*number))) {
            for thread in threads {
                // A thread that panicked has nothing more to finish.
                let _ = thread.join();
            }
        }
    }
}

fn spawn(
    thread: &'static str,
    done: &UnboundedSender<Done>,
    work: impl FnOnce(&UnboundedSender<Done>) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let alarm = Alarm { thread, done: done.clone() };
    std::thread::Builder::new().name(format!("btget-{thread}")).spawn(move || work(&alarm.done))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use tokio::sync::mpsc::unbounded_channel;

    const FIRST: DiskLane = DiskLane(0);

    fn device(number: u64) -> Option<Device> {
        Some(Device { number, seeks: false })
    }

    #[test]
    fn a_thread_that_panics_is_told_of_and_takes_no_more_work() {
        let (done, mut received) = unbounded_channel();
        let disk = Disk::start(done).unwrap();
        assert!(disk.write(FIRST, WriteJob::Then(Box::new(|| panic!("an error of this program")))));
        assert!(matches!(received.blocking_recv(), Some(Done::Broken { thread: "write" })));
        assert!(disk.sync(FIRST, Box::new(|| panic!("another"))));
        assert!(matches!(received.blocking_recv(), Some(Done::Broken { thread: "sync" })));
        while disk.write(FIRST, WriteJob::Then(Box::new(|| {}))) {}
        disk.finish(|_| true);
    }

    #[test]
    fn each_device_has_a_lane_as_far_as_there_are_any_and_one_device_needs_no_further_threads() {
        let (done, _received) = unbounded_channel();
        let mut disk = Disk::start(done).unwrap();
        assert_eq!([None, device(7), device(7), None].map(|device| disk.lane_of(device)), [FIRST; 4]);
        assert_eq!(disk.lanes.len(), 1);
        let numbers = [8, 9, 10, 11, 12, 7, 8, 11];
        let lanes = numbers.map(|number| disk.lane_of(device(number)).0);
        assert_eq!(lanes, [1, 2, 3, 3, 3, 0, 1, 3]);
        assert_eq!(disk.lanes.len(), MAX_LANES);
        disk.finish(|_| true);
    }

    #[test]
    fn a_device_that_hangs_holds_up_no_other_and_is_not_waited_for() {
        let (done, _received) = unbounded_channel();
        let mut disk = Disk::start(done).unwrap();
        let [hung, other] = [1, 2].map(|number| disk.lane_of(device(number)));
        let (thaw, frozen) = sync_channel::<()>(0);
        let frozen = Arc::new(Mutex::new(frozen));
        let (told, hears) = sync_channel(16);
        let hang = || -> Work {
            let (frozen, told) = (frozen.clone(), told.clone());
            Box::new(move || {
                // Until it thaws, which is when nobody is left who could tell so.
                let _ = frozen.lock().unwrap().recv();
                told.send("hung").unwrap();
            })
        };
        let works = || -> Work {
            let told = told.clone();
            Box::new(move || told.send("other").unwrap())
        };
        assert!(disk.write(hung, WriteJob::Then(hang())) && disk.sync(hung, hang()));
        (0..READERS).for_each(|_| assert!(disk.among_reads(hung, hang())));
        assert!(disk.write(other, WriteJob::Then(works())) && disk.sync(other, works()));
        disk.sync_queue(other).push(works());
        assert!(disk.among_reads(other, works()));
        disk.finish(|lane| lane == other);
        assert_eq!(hears.try_iter().collect::<Vec<_>>(), ["other"; 4]);
        drop(thaw);
        for _ in 0..2 + READERS {
            assert_eq!(hears.recv_timeout(Duration::from_secs(60)), Ok("hung"));
        }
    }
}
