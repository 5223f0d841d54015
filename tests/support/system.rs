//! What a test may ask of the machine it runs on, and how.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use rustix::process::Pid;

use super::clients::{Btget, is_in_path};

/// A test that needs something of the machine; ignored, not passed, where it is not to be had.
pub fn trial(name: &str, possible: bool, run: impl FnOnce() + Send + 'static) -> Trial {
    let run = move || {
        run();
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(!possible)
}

/// Whether strace is there and may trace.
pub fn can_trace() -> bool {
    is_in_path("strace")
        && Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success())
}

/// Of calls that strace has seen (of files, networks and descriptors): none opens a socket, none changes anything on a disk.
pub fn assert_reads_alone(calls: &str) {
    let sockets = ["socket(", "socketpair(", "connect(", "bind(", "listen(", "sendto(", "accept4("];
    let changes = [
        "O_WRONLY",
        "O_RDWR",
        "O_CREAT",
        "O_TRUNC",
        "mkdir",
        "unlink",
        "rename",
        "ftruncate(",
        "fallocate(",
        "fsync(",
        "fdatasync(",
        "utime",
        "chmod",
        "chown",
        "symlink",
        "mknod",
        "pwrite",
    ];
    for line in calls.lines() {
        let has = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
        assert!(!has(&sockets), "it opens a socket: {line}");
        // The standard library looks whether descriptors 0 to 2 are open, and fills gaps from there.
        let is_own = line.contains("/dev/") || line.contains("/proc/") || line.contains("/sys/");
        assert!(is_own || !has(&changes), "it changes something: {line}");
    }
}

/// Whether we are root and may have mounts of our own.
pub fn can_mount() -> bool {
    is_root()
        && is_in_path("unshare")
        && script("mount -t tmpfs tmpfs /tmp", &[]).status().is_ok_and(|s| s.success())
}

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A shell that has mounts of its own, gone with it. `$1` and so on are the arguments, `$btget` is the program.
pub fn script(text: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", text, "sh"]).args(arguments);
    command.env("btget", Btget::program());
    command
}

/// A shell. `$1` and so on are the arguments, `$btget` is the program.
pub fn shell(text: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", text, "sh"]).args(arguments).env("btget", Btget::program());
    command
}

/// What a tracing parent runs: strace does not pass signals on.
pub fn child_of(pid: Pid) -> Pid {
    let pid = pid.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}
