//! Nodes of the distributed hash table (BEP 5), kept in the state folder for the next session.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::whole;

/// Bytes of a file that are read.
const MAX_NODES_FILE: u64 = 64 << 10;

/// The file, which no other process writes as long as this is there.
#[derive(Debug)]
pub(crate) struct NodesFile {
    path: PathBuf,
    /// Beside the file, for that is replaced; locked.
    _lock: File,
}

impl NodesFile {
    /// `None` if another process has it, or it cannot be had: then nothing is kept.
    pub(crate) fn claim(state_dir: &Path, name: &str) -> Option<NodesFile> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).ok()?;
        let path = state_dir.join(name);
        let lock = path.with_extension("lock");
        // Never waits, should a pipe be in its place.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(nonblocking);
        let lock = options.open(lock).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(NodesFile { path, _lock: lock })
    }

    /// Writes the file anew. It is not synced: after a power cut it may be empty, which the next session has to live with anyway.
    pub(crate) fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.with_extension("new");
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).and_then(
            |mut file| {
                io::Write::write_all(&mut file, bytes)?;
                fs::rename(&new, &self.path)
            },
        )
    }
}

/// What an earlier session has kept; empty if there is nothing that can be read.
pub(crate) fn read(state_dir: &Path, name: &str) -> Vec<u8> {
    whole::read_bounded(&state_dir.join(name), MAX_NODES_FILE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_keeps_nodes_and_all_may_read_them() {
        let dir = tempfile::TempDir::new().unwrap();
        let state_dir = dir.path().join("made/for/it");
        assert!(read(&state_dir, "dht4").is_empty());
        let file = NodesFile::claim(&state_dir, "dht4").unwrap();
        // Another description of the same file stands for another process.
        assert!(NodesFile::claim(&state_dir, "dht4").is_none());
        assert!(NodesFile::claim(&state_dir, "dht6").is_some());
        file.replace(b"first").unwrap();
        file.replace(b"second").unwrap();
        assert_eq!(read(&state_dir, "dht4"), b"second");
        assert_eq!(fs::read_dir(&state_dir).unwrap().count(), 3, "the file and two locks");
        drop(file);
        assert!(NodesFile::claim(&state_dir, "dht4").is_some());
        // A folder stands in the way.
        assert!(NodesFile::claim(&state_dir.join("dht4"), "dht4").is_none());
    }
}
