//! The session's time: the system's monotonic time without that in which the process did not run.
//!
//! Whoever stops the process (Ctrl-Z, SIGSTOP, a frozen container or virtual machine) stops this time with it: otherwise each
//! deadline would be over when it goes on, though nobody had a chance to keep it, and the peers' data waited in the sockets. All
//! machines get this time as their `now`; only timers of the runtime need the system's. Pure: the system's time is handed in.

use std::time::{Duration, Instant};

/// A turn that ends this much later than it was to begin is taken for a stop, unless the loop was at work.
const MAX_DELAY: Duration = Duration::from_millis(500);

/// After a stop the time stands still for as long as it took, and never for longer than this, so that what waits in the sockets
/// is read before anything is judged.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks at how much processor time the loop has used.
const LOOK: Duration = Duration::from_millis(500);

/// The session's clock.
#[derive(Debug)]
pub(super) struct Clock {
    /// How far the session's time is behind the system's.
    lost: Duration,
    /// What was last told; it never goes back.
    now: Instant,
    /// The system's time when the loop was last known to run.
    mark: Instant,
    /// The system's time until which the loop sleeps, if nothing happens.
    sleeps_until: Instant,
    /// The system's time at the last look, and the processor time that the thread had used.
    look: (Instant, Duration),
}

impl Clock {
    /// A clock that begins now, by the system's time, on a thread that has used so much processor time.
    pub(super) fn new(system: Instant, used: Duration) -> Clock {
        Clock { lost: Duration::ZERO, now: system, mark: system, sleeps_until: system, look: (system, used) }
    }

    /// The session's time as it was last told.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// The system's time at a time of the session.
    pub(super) fn to_system(&self, time: Instant) -> Instant {
        time + self.lost
    }

    /// The loop sleeps until then, by the system's time, unless something happens before.
    pub(super) fn sleep(&mut self, until: Instant) {
        self.sleeps_until = until.max(self.mark);
    }

    /// The loop runs: gives the session's time. `used` gives the processor time that the thread has used, and is rarely asked.
    pub(super) fn run(&mut self, system: Instant, used: impl Fn() -> Duration) -> Instant {
        let delay = system.saturating_duration_since(self.sleeps_until);
        if delay > MAX_DELAY && !self.was_at_work(delay, used()) {
            let stopped = system.saturating_duration_since(self.mark);
            self.lost += stopped + delay.min(MAX_PAUSE);
            self.look = (system, used());
        } else if system.saturating_duration_since(self.look.0) > LOOK {
            self.look = (system, used());
        }
        (self.mark, self.sleeps_until) = (system, system);
        self.now = self.now.max(system.checked_sub(self.lost).unwrap_or(self.now));
        self.now
    }

    /// Whether most of the delay was work of the loop's own.
    fn was_at_work(&self, delay: Duration, used: Duration) -> bool {
        used.saturating_sub(self.look.1) > delay / 2
    }
}

/// Processor time that this thread has used.
pub(super) fn used_by_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A clock, and the system's time and the processor time at hand.
    struct Bench {
        clock: Clock,
        system: Instant,
        used: Duration,
        began: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            let began = Instant::now();
            Bench { clock: Clock::new(began, Duration::ZERO), system: began, used: Duration::ZERO, began }
        }

        /// The loop wakes up after that long, though it would have slept until `planned` at the most.
        fn wakes(&mut self, planned: Duration, after: Duration) -> Duration {
            self.clock.sleep(self.system + planned);
            self.system += after;
            let used = self.used;
            self.clock.run(self.system, || used).duration_since(self.began)
        }
    }

    #[test]
    fn it_runs_with_the_systems_as_long_as_the_loop_does() {
        let mut bench = Bench::new();
        assert_eq!(bench.wakes(SECOND, SECOND / 2), SECOND / 2);
        assert_eq!(bench.wakes(SECOND / 2, SECOND), SECOND * 3 / 2);
        assert_eq!(bench.wakes(SECOND * 100, SECOND * 100), SECOND * 203 / 2);
        assert_eq!(bench.clock.to_system(bench.clock.now()), bench.system);
    }

    #[test]
    fn time_in_which_the_process_was_stopped_is_none_and_for_a_moment_it_stands_still() {
        let mut bench = Bench::new();
        bench.wakes(SECOND, SECOND);
        assert_eq!(bench.wakes(SECOND, SECOND * 3600), SECOND, "nothing that was to happen is due");
        let due = bench.clock.now() + SECOND;
        assert_eq!(bench.clock.to_system(due), bench.system + SECOND * 2);
        assert_eq!(bench.wakes(SECOND * 2, SECOND / 2), SECOND, "the sockets are read");
        assert_eq!(bench.wakes(SECOND * 2, SECOND), SECOND * 3 / 2);
        assert_eq!(bench.wakes(SECOND / 2, SECOND / 2), SECOND * 2);
    }

    #[test]
    fn a_stop_while_the_loop_worked_is_none_either_but_its_own_work_counts() {
        let mut bench = Bench::new();
        assert_eq!(
            bench.wakes(Duration::ZERO, SECOND * 30),
            Duration::ZERO,
            "it did not sleep, and did nothing"
        );
        let mut bench = Bench::new();
        bench.used = SECOND * 25;
        assert_eq!(bench.wakes(Duration::ZERO, SECOND * 30), SECOND * 30, "it was busy");
    }

    #[test]
    fn a_little_delay_is_nothing() {
        let mut bench = Bench::new();
        assert_eq!(bench.wakes(SECOND, SECOND * 14 / 10), SECOND * 14 / 10);
    }

    #[test]
    fn the_processor_time_of_a_thread_grows_with_its_work() {
        let before = used_by_thread();
        let mut sum = 0u64;
        while used_by_thread() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(used_by_thread() > before);
    }
}
