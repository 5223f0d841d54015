//! Signals, as values.
//!
//! SIGINT, SIGTERM and SIGHUP stop; the same again ends the process at once. SIGUSR1 pauses,
//! SIGUSR2 starts. All but SIGINT are blocked and waited for, so that none interrupts anything; a
//! blocked SIGXFSZ makes a file-size limit an error of the write (EFBIG) instead of the end.
//! SIGPIPE is ignored by the Rust runtime already. Programs that are started get none of this: the
//! standard library clears their mask. What is ignored at the start stays ignored, as POSIX has it for what a shell starts
//! with `&` or under nohup(1): whoever started us does not want us to hear it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as Number};

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signal {
    /// SIGINT, SIGTERM, SIGHUP, the first time.
    Stop,
    /// SIGUSR1.
    Pause,
    /// SIGUSR2.
    Start,
}

/// A request to stop that follows another so soon is the same one: timeout(1) signals its child and
/// then its child's group, a terminal that closes does as much, and nobody means "at once" by that.
const SAME_REQUEST: Duration = Duration::from_millis(250);

/// Keeps signals that do not stop for [`listen`]; until then, and for good if nobody listens, they do
/// nothing. To be called before any thread is started, as each inherits what is blocked.
pub(super) fn hold() -> io::Result<()> {
    block(&[Number::SIGUSR1, Number::SIGUSR2, Number::SIGXFSZ]).map(drop)
}

/// Listens from now on: `tell` is called from threads of this module, for pauses and starts one at a
/// time. `exit` ends the process; it is called at the second request to stop, whatever `tell` is doing.
pub(super) fn listen(
    exit: impl Fn() + Clone + Send + 'static,
    tell: impl Fn(Signal) + Clone + Send + 'static,
) -> io::Result<()> {
    let stop = tell.clone();
    listen_to_stop(exit, move || stop(Signal::Stop))?;
    wait_for(&heard(&[Number::SIGUSR1, Number::SIGUSR2]), move |number| {
        tell(if number == Number::SIGUSR1 { Signal::Pause } else { Signal::Start })
    })
}

/// As [`listen`], for who has nothing to pause. Opens no socket.
pub(super) fn listen_to_stop(
    exit: impl Fn() + Clone + Send + 'static,
    stop: impl Fn() + Clone + Send + 'static,
) -> io::Result<()> {
    let first: Arc<Mutex<Option<Instant>>> = Arc::default();
    let on_request = move || {
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        match *first {
            None => {
                *first = Some(Instant::now());
                // On a thread of its own, where there is one: this one should be free for the second request.
                let aside = thread::Builder::new().name("btget-stop".to_owned()).spawn(stop.clone());
                if aside.is_err() {
                    stop();
                }
            }
            Some(first) if first.elapsed() < SAME_REQUEST => {}
            Some(_) => exit(),
        }
    };
    let others = heard(&[Number::SIGTERM, Number::SIGHUP]);
    // First: ctrlc starts a thread.
    block(&others)?;
    if !heard(&[Number::SIGINT]).is_empty() {
        ctrlc::set_handler(on_request.clone()).map_err(|error| match error {
            ctrlc::Error::System(error) => error,
            other => io::Error::other(other),
        })?;
    }
    wait_for(&others, move |_| on_request())
}

/// Blocks the signals in this thread and those that it starts.
fn block(numbers: &[Number]) -> io::Result<SigSet> {
    let set: SigSet = numbers.iter().copied().collect();
    set.thread_block()?;
    Ok(set)
}

/// Blocks these signals, and waits for them on a thread.
fn wait_for(numbers: &[Number], tell: impl Fn(Number) + Send + 'static) -> io::Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let set = block(numbers)?;
    let wait = move || {
        while let Ok(number) = set.wait() {
            tell(number);
        }
    };
    thread::Builder::new().name("btget-signals".to_owned()).spawn(wait).map(drop)
}

/// Those of these signals that we were not started to ignore. Elsewhere than on Linux there is no way to see it without
/// `unsafe`.
fn heard(numbers: &[Number]) -> Vec<Number> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    numbers.iter().copied().filter(|&number| !is_ignored(&status, number)).collect()
}

/// Whether proc_pid_status(5) says so: `SigIgn` is a mask of 64 bits in hexadecimal.
fn is_ignored(status: &str, number: Number) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (number as i32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "Name:\tbtget\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(is_ignored(status, Number::SIGHUP));
        assert!(is_ignored(status, Number::SIGPIPE));
        assert!(!is_ignored(status, Number::SIGINT));
        assert!(!is_ignored("", Number::SIGHUP) && !is_ignored("SigIgn:\tx", Number::SIGHUP));
    }
}
