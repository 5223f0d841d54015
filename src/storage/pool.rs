//! The open files: few, whatever the torrent holds.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::Arc;

use crate::layout::FileIndex;

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
}

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
    /// that can write is not replaced by one that cannot.
    pub(crate) fn put(&mut self, file: FileIndex, handle: Arc<Handle>) -> Vec<(FileIndex, Arc<Handle>)> {
        self.clock += 1;
        if !handle.writable && self.entries.get(&file).is_some_and(|entry| entry.handle.writable) {
            return Vec::new();
        }
        let entry = PooledFile { handle, used: self.clock, queued: self.clock };
        self.order.push_back((self.clock, file));
        let mut gone: Vec<_> =
            self.entries.insert(file, entry).map(|old| (file, old.handle)).into_iter().collect();
        while self.entries.len() > self.limit {
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

    /// Closes all files.
    pub(crate) fn take_all(&mut self) -> Vec<(FileIndex, Arc<Handle>)> {
        self.entries.drain().map(|(file, entry)| (file, entry.handle)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(writable: bool) -> Arc<Handle> {
        Arc::new(Handle { file: tempfile::tempfile().unwrap(), writable, dev: 0 })
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut pool = FilePool::new(2);
        let [a, b, c] = [0, 1, 2].map(FileIndex);
        assert!(pool.put(a, handle(false)).is_empty());
        assert!(pool.put(b, handle(false)).is_empty());
        assert!(pool.get(a, false).is_some());
        let gone = pool.put(c, handle(false));
        assert_eq!(gone.iter().map(|(file, _)| *file).collect::<Vec<_>>(), [b]);
        assert!(pool.get(b, false).is_none());
    }

    #[test]
    fn what_is_opened_and_closed_again_and_again_leaves_no_trace() {
        let mut pool = FilePool::new(4);
        for n in 0..1000 {
            pool.put(FileIndex(n % 7), handle(false));
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
        pool.put(FileIndex(0), handle(false));
        assert!(pool.get(FileIndex(0), true).is_none());
        pool.put(FileIndex(0), handle(true));
        pool.put(FileIndex(0), handle(false));
        assert!(pool.get(FileIndex(0), true).is_some());
    }

    #[test]
    fn only_what_was_not_used_since_the_last_call_is_idle() {
        let mut pool = FilePool::new(9);
        pool.put(FileIndex(0), handle(false));
        pool.put(FileIndex(1), handle(false));
        assert!(pool.take_idle().is_empty());
        pool.get(FileIndex(1), false);
        assert_eq!(pool.take_idle().len(), 1);
        assert!(pool.get(FileIndex(1), false).is_some());
    }
}
