//! The open files: few, whatever the torrent holds.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::handles::Handle;
use crate::layout::FileIndex;

/// What a torrent may keep however many files others have open: with fewer, a piece of several small files would open each
/// of them again and again.
const LEAST: usize = 4;

#[derive(Debug)]
struct PooledFile {
    handle: Arc<Handle>,
    used: u64,
    /// Its place in the order of all.
    queued: u64,
}

/// Handles by file, at most `limit` of them; one that was not used for long goes first.
#[derive(Debug)]
pub(crate) struct FilePool {
    entries: HashMap<FileIndex, PooledFile>,
    /// Each file that has a handle, and when that was used; who was used again since then has a second chance. Entries of files that are
    /// closed, or were opened again, are passed over.
    order: VecDeque<(u64, FileIndex)>,
    clock: u64,
    idle_since: u64,
    limit: usize,
    /// Files that were closed for others, of which nobody was told yet.
    given_up: BTreeSet<FileIndex>,
}

impl FilePool {
    /// An empty pool; `limit` is at least 1.
    pub(crate) fn new(limit: usize) -> FilePool {
        FilePool {
            entries: HashMap::new(),
            order: VecDeque::new(),
            clock: 0,
            idle_since: 0,
            limit: limit.max(1),
            given_up: BTreeSet::new(),
        }
    }

    /// The handle of `file`, if it is open and, where asked for, writable.
    pub(crate) fn get(&mut self, file: FileIndex, writable: bool) -> Option<Arc<Handle>> {
        self.clock += 1;
        let entry = self.entries.get_mut(&file).filter(|entry| entry.handle.writable || !writable)?;
        entry.used = self.clock;
        Some(entry.handle.clone())
    }

    /// Keeps a handle; returns what had to go, for the caller to drop outside the lock. A handle
    /// that can write is not replaced by one that cannot. `excess`: how many too many are open in this process.
    pub(crate) fn put(
        &mut self,
        file: FileIndex,
        handle: Arc<Handle>,
        excess: usize,
    ) -> Vec<(FileIndex, Arc<Handle>)> {
        self.clock += 1;
        if !handle.writable && self.entries.get(&file).is_some_and(|entry| entry.handle.writable) {
            return Vec::new();
        }
        let entry = PooledFile { handle, used: self.clock, queued: self.clock };
        self.order.push_back((self.clock, file));
        let mut gone: Vec<_> =
            self.entries.insert(file, entry).map(|old| (file, old.handle)).into_iter().collect();
        while self.entries.len() > self.limit || (self.entries.len() > LEAST && gone.len() < excess) {
            let Some((queued, oldest)) = self.order.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&oldest).filter(|entry| entry.queued == queued) else {
                continue;
            };
            if entry.used > queued {
                entry.queued = entry.used;
                self.order.push_back((entry.used, oldest));
            } else {
                gone.extend(self.entries.remove(&oldest).map(|entry| (oldest, entry.handle)));
            }
        }
        if self.order.len() > 2 * self.limit {
            self.order.retain(|(queued, file)| self.entries.get(file).is_some_and(|it| it.queued == *queued));
        }
        gone
    }

    /// Closes one file.
    pub(crate) fn remove(&mut self, file: FileIndex) -> Option<Arc<Handle>> {
        self.entries.remove(&file).map(|entry| entry.handle)
    }

    /// Lets go of what was not used since the last call.
    pub(crate) fn take_idle(&mut self) -> Vec<(FileIndex, Arc<Handle>)> {
        let before = std::mem::replace(&mut self.idle_since, self.clock);
        self.entries
            .extract_if(|_, entry| entry.used <= before)
            .map(|(file, entry)| (file, entry.handle))
            .collect()
    }

    /// Lets go of what was opened for writing.
    pub(crate) fn take_writable(&mut self) -> Vec<(FileIndex, Arc<Handle>)> {
        let taken = self.entries.extract_if(|_, entry| entry.handle.writable);
        taken.map(|(file, entry)| (file, entry.handle)).collect()
    }

    /// Closes all files for others.
    pub(super) fn give_up(&mut self) -> Vec<(FileIndex, Arc<Handle>)> {
        let gone = self.take_all();
        self.given_up.extend(gone.iter().map(|(file, _)| *file));
        gone
    }

    /// The files that were closed for others since the last call.
    pub(super) fn given_up(&mut self) -> impl Iterator<Item = FileIndex> + use<> {
        std::mem::take(&mut self.given_up).into_iter()
    }

    /// Closes all files.
    pub(crate) fn take_all(&mut self) -> Vec<(FileIndex, Arc<Handle>)> {
        self.entries.drain().map(|(file, entry)| (file, entry.handle)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(writable: bool) -> Arc<Handle> {
        Arc::new(Handle::new(tempfile::tempfile().unwrap(), writable, 0))
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut pool = FilePool::new(2);
        let [a, b, c] = [0, 1, 2].map(FileIndex);
        assert!(pool.put(a, handle(false), 0).is_empty());
        assert!(pool.put(b, handle(false), 0).is_empty());
        assert!(pool.get(a, false).is_some());
        let gone = pool.put(c, handle(false), 0);
        assert_eq!(gone.iter().map(|(file, _)| *file).collect::<Vec<_>>(), [b]);
        assert!(pool.get(b, false).is_none());
    }

    #[test]
    fn what_is_opened_and_closed_again_and_again_leaves_no_trace() {
        let mut pool = FilePool::new(4);
        for n in 0..1000 {
            pool.put(FileIndex(n % 7), handle(false), 0);
            pool.get(FileIndex(n % 3), false);
            if n % 5 == 0 {
                pool.remove(FileIndex(n % 7));
            }
            assert!(pool.entries.len() <= 4 && pool.order.len() <= 9);
        }
    }

    #[test]
    fn a_reader_never_replaces_a_writer() {
        let mut pool = FilePool::new(2);
        pool.put(FileIndex(0), handle(false), 0);
        assert!(pool.get(FileIndex(0), true).is_none());
        pool.put(FileIndex(0), handle(true), 0);
        pool.put(FileIndex(0), handle(false), 0);
        assert!(pool.get(FileIndex(0), true).is_some());
    }

    #[test]
    fn only_what_was_not_used_since_the_last_call_is_idle() {
        let mut pool = FilePool::new(9);
        pool.put(FileIndex(0), handle(false), 0);
        pool.put(FileIndex(1), handle(false), 0);
        assert!(pool.take_idle().is_empty());
        pool.get(FileIndex(1), false);
        assert_eq!(pool.take_idle().len(), 1);
        assert!(pool.get(FileIndex(1), false).is_some());
    }

    #[test]
    fn while_too_many_are_open_each_keeps_few() {
        let mut pool = FilePool::new(9);
        (0..8).for_each(|n| drop(pool.put(FileIndex(n), handle(false), 0)));
        let gone = pool.put(FileIndex(8), handle(false), 2);
        assert_eq!(gone.iter().map(|(file, _)| file.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(pool.put(FileIndex(9), handle(false), 100).len(), 8 - LEAST);
        assert_eq!(pool.put(FileIndex(10), handle(false), 100).len(), 1);
        assert_eq!(pool.entries.len(), LEAST);
    }
}
