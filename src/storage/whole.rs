//! Small files of our own that are replaced as a whole: there is always one that is whole, whenever the process is killed.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Writes a new file in `folder`, which is made if it is missing, syncs it, and renames it to `path`, over what is there. That it has
/// another name now is left to the system to bring to the disk: after a power cut the one before may be there, which is whole too.
pub(super) fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = write_whole(folder, &new, bytes).and_then(|()| fs::rename(&new, path));
    written.inspect_err(|_| {
        // What could not be finished is of no use; if even this fails, it does no harm.
        let _ = fs::remove_file(&new);
    })
}

/// Removes what runs that were killed while they stored had not finished.
pub(super) fn sweep(path: &Path) {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.as_bytes().starts_with(stem.as_bytes()) && name.as_bytes().ends_with(b".new") {
            // If it cannot be removed, it does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The file, unless it is longer than any that we write.
pub(super) fn read_bounded(path: &Path, max: u64) -> Option<Vec<u8>> {
    // Never waits, should a pipe be in its place.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path).ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || found.len() > max {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
