//! What the system is told of how a file is going to be read. A request, not an order: where it is refused, all goes on without.

use std::fs::File;

/// What is read by this descriptor is read once: it is no reason to forget what others use (Linux 6.3).
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
pub(crate) fn read_once(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::NoReuse);
}

/// What is read by this descriptor is read once. Here the system cannot be told.
#[cfg(any(target_os = "macos", target_os = "ios"))]
pub(crate) fn read_once(_: &File) {}

/// Has the system read no more than what `read` asks for: what lies around it is not wanted.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
pub(crate) fn read_one_page<T>(file: &File, read: impl FnOnce() -> T) -> T {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random);
    let found = read();
    // That takes back what was said of reading once, too.
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Normal);
    read_once(file);
    found
}

/// Has the system read no more than what `read` asks for. Here it cannot be told.
#[cfg(any(target_os = "macos", target_os = "ios"))]
pub(crate) fn read_one_page<T>(_: &File, read: impl FnOnce() -> T) -> T {
    read()
}

/// The same file once more, to be read past the page cache, if the system reads it so: places in memory and in the file, and lengths, have to be
/// whole pages. By what the descriptor is, not by its name, which may be another file's by now.
#[cfg(target_os = "linux")]
pub(crate) fn open_direct(file: &File) -> Option<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).ok()
}

/// The same file once more, to be read past the page cache: not here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open_direct(_: &File) -> Option<File> {
    None
}
