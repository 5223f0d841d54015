//! How many files and sockets this process may have open: as many as the system lets it have, and what it starts as many as itself was
//! started with.

use std::process::Child;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More are of no use to anybody, and what keeps a table of all that are possible would make it too long.
const ENOUGH: u64 = 1 << 16;

/// What was allowed before.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Takes what the system lets this process have: what it has at first is kept low for programs that use select(2).
pub(crate) fn allow_many() {
    let before = getrlimit(Resource::Nofile);
    let most = before.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if before.current.is_some_and(|current| current < most)
        // Where it is refused, there are fewer.
        && setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..before }).is_ok()
    {
        let _ = BEFORE.set(before);
    }
}

/// Has a program that was started just now go by the limit that we were started with.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn as_before(child: &Child) {
    if let Some(before) = BEFORE.get() {
        // It may have ended already.
        let _ = rustix::process::prlimit(
            Some(rustix::process::Pid::from_child(child)),
            Resource::Nofile,
            *before,
        );
    }
}

/// Here nobody else's limits can be set.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn as_before(_: &Child) {}
