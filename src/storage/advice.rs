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
