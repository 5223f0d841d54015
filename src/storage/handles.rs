//! The files that this process may have open: one budget for all torrents, and what is done when none are left.

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use rustix::io::Errno;

use super::lock;
use super::pool::FilePool;

/// How often all pools are emptied for somebody: others may be quicker to take what was given up.
const TRIES: u32 = 3;

/// Handles that are open in this process.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// The pools of all torrents. The lock is held to look some up, or to add one; pools are locked after it is let go of.
static POOLS: Mutex<Vec<Weak<Mutex<FilePool>>>> = Mutex::new(Vec::new());

/// An open file. Whoever holds it may read and write without asking the pool again; the file
/// closes when the last holder lets go.
#[derive(Debug)]
pub(crate) struct Handle {
    /// The file.
    pub file: File,
    /// Whether it was opened for writing too.
    pub writable: bool,
    /// The device that it is on.
    pub dev: u64,
    _counted: Counted,
}

impl Handle {
    /// Counts as open until it is dropped.
    pub(super) fn new(file: File, writable: bool, dev: u64) -> Handle {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Handle { file, writable, dev, _counted: Counted(()) }
    }
}

#[derive(Debug)]
struct Counted(());

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A share of the files that this process may have open; at least 1.
pub(crate) fn allowed_files(part: usize) -> usize {
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let allowed = usize::try_from(allowed.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    (allowed / part).max(1)
}

/// How many handles are open beyond the quarter of all that the files of all torrents have together.
pub(super) fn excess() -> usize {
    OPEN.load(Ordering::Relaxed).saturating_sub(allowed_files(4))
}

/// A new pool, which gives up what it holds when somebody finds no handle left.
pub(super) fn pool(limit: usize) -> Arc<Mutex<FilePool>> {
    let pool = Arc::new(Mutex::new(FilePool::new(limit)));
    let mut pools = lock(&POOLS);
    if pools.len() == pools.capacity() {
        pools.retain(|pool| pool.strong_count() > 0);
    }
    pools.push(Arc::downgrade(&pool));
    pool
}

/// Opens something; where the process, or the system, has no handle left, all pools give up theirs for it.
pub(super) fn with_room<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..TRIES {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) => give_up_all(),
            other => return other,
        }
    }
    open()
}

fn give_up_all() {
    let pools: Vec<_> = lock(&POOLS).iter().filter_map(Weak::upgrade).collect();
    for pool in pools {
        let gone = lock(&pool).give_up();
        // Closing is done without the lock.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::FileIndex;

    #[test]
    fn who_finds_no_handle_gets_those_of_all_pools() {
        let pools = [pool(4), pool(4)];
        for pool in &pools {
            let handle = Handle::new(tempfile::tempfile().unwrap(), false, 0);
            lock(pool).put(FileIndex(3), Arc::new(handle), 0);
        }
        let mut tries = 0;
        let found = with_room(|| {
            tries += 1;
            let all_closed = pools.iter().all(|pool| lock(pool).get(FileIndex(3), false).is_none());
            if all_closed { Ok(()) } else { Err(Errno::MFILE) }
        });
        assert_eq!((found, tries), (Ok(()), 2));
        assert!(pools.iter().all(|pool| lock(pool).given_up().eq([FileIndex(3)])));
        assert_eq!(with_room(|| Err::<(), _>(Errno::NFILE)), Err(Errno::NFILE));
        assert_eq!(with_room(|| Err::<(), _>(Errno::ACCESS)), Err(Errno::ACCESS));
    }
}
