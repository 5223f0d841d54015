//! Small files that are written and replaced as a whole: there is always one that is whole, whenever the process is killed.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

#[cfg(target_os = "linux")]
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

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

/// Writes a file that a user has asked for, whole or not at all; its folder must be there. Over another one only if `overwrite` says so. What
/// is there and is no file (a pipe, a terminal) gets the bytes as they are.
///
/// # Errors
///
/// `AlreadyExists` if a file is there that is not to be replaced.
pub(crate) fn publish(path: &Path, bytes: &[u8], overwrite: bool) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    if path.file_name().is_none() {
        return Err(Errno::ISDIR.into());
    }
    // Not made of the file's name, which may be as long as a name can be.
    let new = path.with_file_name(format!(".btget-{}.new", std::process::id()));
    let create = || fs::OpenOptions::new().write(true).create_new(true).open(&new);
    let write = || {
        let mut file = match create() {
            // Left by a process that had this number and was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&new)?;
                create()?
            }
            created => created?,
        };
        file.write_all(bytes)?;
        file.sync_all()
    };
    let put = || if overwrite { fs::rename(&new, path) } else { rename_to_free(&new, path) };
    write().and_then(|()| put()).inspect_err(|_| {
        // What could not be finished is of no use; if even this fails, it does no harm.
        let _ = fs::remove_file(&new);
    })
}

/// Renames a file to a name at which nothing is.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        done => return Ok(done?),
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(Errno::EXIST.into());
    }
    fs::rename(from, to)
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_name_as_long_as_a_name_can_be_is_written_and_what_a_killed_process_left_is_no_obstacle() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x".repeat(255));
        fs::write(dir.path().join(format!(".btget-{}.new", std::process::id())), "half").unwrap();
        publish(&path, b"one", false).unwrap();
        publish(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_user_asked_for_is_there_whole_and_over_another_only_if_told() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x.torrent");
        publish(&path, b"one", false).unwrap();
        let refused = publish(&path, b"two", false).unwrap_err();
        assert_eq!(
            (refused.kind(), fs::read(&path).unwrap()),
            (io::ErrorKind::AlreadyExists, b"one".to_vec())
        );
        publish(&path, b"three", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert!(publish(&dir.path().join("not/there"), b"x", true).is_err());
        assert!(publish(dir.path(), b"x", true).is_err());
        let names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["x.torrent"]);
    }
}
