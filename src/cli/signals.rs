//! Signals, as values.
//!
//! SIGINT, SIGTERM and SIGHUP stop; the same again ends the process at once. SIGUSR1 pauses,
//! SIGUSR2 starts. SIGXFSZ is caught so that a file-size limit becomes an error of the write
//! (EFBIG) instead of the end; SIGPIPE is ignored by the Rust runtime already.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal as Number;
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGINT, SIGTERM, SIGHUP, the first time.
    Stop,
    /// SIGUSR1.
    Pause,
    /// SIGUSR2.
    Start,
}

/// Listens from now on: `tell` is called from threads of this module, one signal at a time.
/// `exit` ends the process; it is called at the second request to stop, whatever `tell` is doing.
pub fn listen(exit: fn(i32) -> !, tell: impl Fn(Signal) + Clone + Send + 'static) -> io::Result<()> {
    let stop = tell.clone();
    // Before tokio's: a handler that tokio had put there for the same signal would be lost.
    listen_to_stop(exit, move || stop(Signal::Stop))?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut pause, mut start, mut limit) = {
        let _inside = runtime.enter();
        let kind = |number: Number| signal(SignalKind::from_raw(number.as_raw()));
        (kind(Number::USR1)?, kind(Number::USR2)?, kind(Number::XFSZ)?)
    };
    let wait = async move {
        loop {
            tokio::select! {
                Some(()) = pause.recv() => tell(Signal::Pause),
                Some(()) = start.recv() => tell(Signal::Start),
                // The write that hit the limit reports it.
                Some(()) = limit.recv() => {}
                else => break,
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(())
}

/// As [`listen`], for who has nothing to pause: signals that do not stop are ignored. Opens no socket,
/// as tokio does to wake itself.
pub fn listen_to_stop_only(exit: fn(i32) -> !, stop: impl Fn() + Clone + Send + 'static) -> io::Result<()> {
    let ignored = Arc::new(AtomicBool::new(false));
    for number in [Number::USR1, Number::USR2, Number::XFSZ] {
        signal_hook::flag::register(number.as_raw(), ignored.clone())?;
    }
    listen_to_stop(exit, stop)
}

fn listen_to_stop(exit: fn(i32) -> !, stop: impl Fn() + Clone + Send + 'static) -> io::Result<()> {
    let stopping = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if stopping.swap(true, Ordering::Relaxed) {
            exit(i32::from(Exit::Interrupted.code()));
        }
        // On a thread of its own: this one must be free for the second signal.
        let stop = stop.clone();
        thread::spawn(stop);
    })
    .map_err(io::Error::other)
}
