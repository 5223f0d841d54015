//! Which announce gets the next thread. Pure.
//!
//! Trackers that hang are the rule, not the exception, and each holds a thread for as long as an announce may take. So: a host (scheme, name
//! and port) holds a few threads, one that does not answer a single one; hosts of which no answer is known leave some threads to
//! those that answer; and an announce that waits while others do gives its thread away after a [`share`] of time and comes again, with all its time, on the
//! few threads for such. What goes first: `stopped`, for the process is about to end; then who came first.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Threads of all announces.
pub(super) const MAX_THREADS: usize = 16;

/// Threads for hosts that have not answered yet, or not the last time.
const MAX_UNPROVEN: usize = 12;

/// Threads for announces that have given theirs away before.
const MAX_SECOND: usize = 6;

/// Threads for one host.
const MAX_PER_HOST: usize = 4;

/// Hosts that are remembered although nobody asks them now.
const MAX_HOSTS: usize = 1000;

/// How long an announce keeps its thread though others wait.
const SHARE: Duration = Duration::from_millis(1500);

/// The same of the last one, as 5 s are all that there is at the end.
const LAST_SHARE: Duration = Duration::from_secs(1);

/// What waits this long for a host that then turns out not to answer waits no longer.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// How urgent an announce is; the order is that of the threads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Turn {
    /// It is the last one to this tracker: `stopped`.
    Last,
    /// Any other.
    First,
    /// It has given its thread away before.
    Second,
}

/// An announce that waits for a thread, with what is needed to make it.
#[derive(Debug)]
pub(super) struct Job<T> {
    turn: Turn,
    queued: Instant,
    serial: u64,
    pub work: T,
}

/// An announce that has a thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Running {
    host: String,
    turn: Turn,
    started: Instant,
    /// The host had answered when this began.
    is_proven: bool,
}

impl Running {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn turn(&self) -> Turn {
        self.turn
    }
}

/// What an announce has shown of its host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Showing {
    /// It answers.
    Answers,
    /// It let us wait.
    Silent,
    /// It is not there, and that was clear at once.
    Nothing,
}

#[derive(Debug)]
struct Host<T> {
    /// By [`Turn`], each in order. Bounded by the trackers of all torrents: each has one announce at a time.
    waiting: [VecDeque<Job<T>>; 3],
    running: usize,
    /// What the last announce has shown.
    showing: Showing,
}

/// The announces that wait for a thread, by host; counts those that have one.
#[derive(Debug)]
pub(super) struct Queue<T> {
    hosts: HashMap<String, Host<T>>,
    running: usize,
    running_unproven: usize,
    running_second: usize,
    serial: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { hosts: HashMap::new(), running: 0, running_unproven: 0, running_second: 0, serial: 0 }
    }
}

impl<T> Queue<T> {
    /// An announce waits for a thread from now on.
    pub(super) fn push(&mut self, now: Instant, host: String, turn: Turn, work: T) {
        self.serial += 1;
        let job = Job { turn, queued: now, serial: self.serial, work };
        self.forget_idle_hosts();
        let new = || Host { waiting: Default::default(), running: 0, showing: Showing::Nothing };
        self.hosts.entry(host).or_insert_with(new).waiting[turn as usize].push_back(job);
    }

    /// The announce that is to be made next, if there is a thread for it.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Job<T>, Running)> {
        let (turn, _, name) = self.first(None)?;
        let name = name.to_owned();
        let host = self.hosts.get_mut(&name)?;
        let job = host.waiting[turn as usize].pop_front()?;
        host.running += 1;
        let is_proven = host.showing == Showing::Answers;
        let running = Running { host: name, turn, started: now, is_proven };
        self.running += 1;
        self.running_unproven += usize::from(!is_proven);
        self.running_second += usize::from(turn == Turn::Second);
        Some((job, running))
    }

    /// Whether [`Queue::pop`] would give an announce.
    pub(super) fn has_next(&self) -> bool {
        self.first(None).is_some()
    }

    /// Whether an announce is to give its thread to another one, for another host.
    pub(super) fn gives_way(&self, now: Instant, running: &Running) -> bool {
        let Some((turn, ..)) = self.first(Some(running)) else { return false };
        let share = match (running.turn, turn) {
            (Turn::Last, _) => LAST_SHARE,
            (_, Turn::Last) => Duration::ZERO,
            (Turn::Second, _) => return false,
            (Turn::First, _) => SHARE,
        };
        now.saturating_duration_since(running.started) >= share
    }

    /// An announce has given its thread back. Gives those that need not be made any more: they have waited for the same host, and it does
    /// not answer.
    pub(super) fn end(&mut self, now: Instant, running: &Running, showing: Showing) -> Vec<T> {
        self.running -= 1;
        self.running_unproven -= usize::from(!running.is_proven);
        self.running_second -= usize::from(running.turn == Turn::Second);
        let Some(host) = self.hosts.get_mut(&running.host) else { return Vec::new() };
        host.running -= 1;
        host.showing = showing;
        if showing != Showing::Silent {
            return Vec::new();
        }
        let mut given_up = Vec::new();
        for waiting in &mut host.waiting {
            let is_old = |job: &Job<T>| now.saturating_duration_since(job.queued) >= MAX_WAIT;
            while waiting.front().is_some_and(is_old) {
                given_up.extend(waiting.pop_front().map(|job| job.work));
            }
        }
        given_up
    }

    /// All that wait; nobody waits any more.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let waiting = self.hosts.values_mut().flat_map(|host| host.waiting.iter_mut());
        waiting.flat_map(|jobs| jobs.drain(..)).map(|job| job.work).collect()
    }

    /// What comes first of what may begin now, or might if `without` ended; then nothing for the same host.
    fn first(&self, without: Option<&Running>) -> Option<(Turn, u64, &str)> {
        let freed = |is_freed: fn(&Running) -> bool| usize::from(without.is_some_and(is_freed));
        if self.running - freed(|_| true) >= MAX_THREADS {
            return None;
        }
        let has_room = self.running_unproven - freed(|running| !running.is_proven) < MAX_UNPROVEN;
        let has_second = self.running_second - freed(|running| running.turn == Turn::Second) < MAX_SECOND;
        let fronts = self.hosts.iter().filter_map(|(name, host)| {
            let (is_proven, most) = match host.showing {
                Showing::Answers => (true, MAX_PER_HOST),
                Showing::Nothing => (false, MAX_PER_HOST),
                Showing::Silent => (false, 1),
            };
            let is_other = without.is_none_or(|running| running.host != *name);
            let may_begin = host.running < most && (is_proven || has_room) && is_other;
            let mut fronts = host.waiting.iter().filter_map(VecDeque::front);
            let job = fronts.find(|job| job.turn != Turn::Second || has_second).filter(|_| may_begin)?;
            Some((job.turn, job.serial, name.as_str()))
        });
        fronts.min()
    }

    fn forget_idle_hosts(&mut self) {
        if self.hosts.len() >= MAX_HOSTS {
            self.hosts.retain(|_, host| host.running > 0 || host.waiting.iter().any(|jobs| !jobs.is_empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Virtual time: announces to hosts that answer after a while or never.
    struct Bench {
        now: Instant,
        began: Instant,
        queue: Queue<usize>,
        running: Vec<(usize, Running)>,
        /// Announces that have been made, with when.
        answered: Vec<(String, Duration)>,
        given_up: usize,
        most: usize,
    }

    impl Bench {
        fn new() -> Bench {
            let now = Instant::now();
            let (queue, running, answered) = (Queue::default(), Vec::new(), Vec::new());
            Bench { now, began: now, queue, running, answered, given_up: 0, most: 0 }
        }

        fn push(&mut self, host: &str, turn: Turn) {
            self.queue.push(self.now, host.to_owned(), turn, 0);
        }

        /// A step of 100 ms, as the threads do it: `answers` says which hosts do.
        fn step(&mut self, answers: fn(&str) -> bool) {
            while let Some((job, running)) = self.queue.pop(self.now) {
                self.running.push((job.work, running));
            }
            self.most = self.most.max(self.running.len());
            self.now += Duration::from_millis(100);
            for (tries, running) in std::mem::take(&mut self.running) {
                let time = self.now - running.started;
                if answers(&running.host) {
                    self.answered.push((running.host.clone(), self.now - self.began));
                    assert!(self.queue.end(self.now, &running, Showing::Answers).is_empty());
                } else if time >= Duration::from_secs(30) {
                    self.given_up += 1 + self.queue.end(self.now, &running, Showing::Silent).len();
                } else if self.queue.gives_way(self.now, &running) {
                    self.given_up += self.queue.end(self.now, &running, Showing::Silent).len();
                    match running.turn {
                        Turn::First => self.queue.push(self.now, running.host, Turn::Second, tries + 1),
                        Turn::Last | Turn::Second => self.given_up += 1,
                    }
                } else {
                    self.running.push((tries, running));
                }
            }
        }

        /// When the host has first answered.
        fn run_until_answered(&mut self, host: &str, answers: fn(&str) -> bool) -> Duration {
            for _ in 0..10_000 {
                self.step(answers);
                if let Some((_, at)) = self.answered.iter().find(|(answered, _)| answered == host) {
                    return *at;
                }
            }
            panic!("{host} is never asked");
        }
    }

    fn is_good(host: &str) -> bool {
        host.starts_with("good")
    }

    #[test]
    fn a_host_that_hangs_holds_nobody_else() {
        let mut bench = Bench::new();
        (0..130).for_each(|_| bench.push("hung", Turn::First));
        bench.push("good", Turn::First);
        assert!(bench.run_until_answered("good", is_good) < Duration::from_millis(200));
        assert_eq!(bench.running.len(), MAX_PER_HOST);
    }

    #[test]
    fn many_hosts_that_hang_hold_nobody_else_for_long() {
        let mut bench = Bench::new();
        (0..50).for_each(|number| bench.push(&format!("hung{number}"), Turn::First));
        bench.push("good", Turn::First);
        assert!(bench.run_until_answered("good", is_good) <= Duration::from_secs(8));
        // Once it is known to answer it waits for none of them.
        let asked = bench.now;
        (50..100).for_each(|number| bench.push(&format!("hung{number}"), Turn::First));
        bench.push("good", Turn::First);
        bench.answered.clear();
        let at = bench.began + bench.run_until_answered("good", is_good);
        assert!(at - asked < Duration::from_millis(200));
        assert!(bench.most <= MAX_THREADS);
    }

    #[test]
    fn nobody_gives_way_where_nobody_waits() {
        let mut bench = Bench::new();
        bench.push("slow", Turn::First);
        (0..200).for_each(|_| bench.step(is_good));
        assert_eq!((bench.running.len(), bench.running[0].0), (1, 0));
    }

    #[test]
    fn who_waits_for_a_host_that_does_not_answer_is_told_with_the_first() {
        let mut bench = Bench::new();
        (0..130).for_each(|_| bench.push("hung", Turn::First));
        (0..310).for_each(|_| bench.step(is_good));
        assert_eq!(bench.given_up, 130);
        assert!(bench.running.is_empty() && !bench.queue.has_next());
    }

    #[test]
    fn everybody_gets_an_end_in_bounded_time_and_threads() {
        let mut bench = Bench::new();
        (0..300).for_each(|number| bench.push(&format!("hung{}", number % 100), Turn::First));
        (0..200).for_each(|number| bench.push(&format!("good{}", number % 3), Turn::First));
        (0..10_000).for_each(|_| bench.step(is_good));
        assert_eq!((bench.answered.len(), bench.given_up), (200, 300));
        assert!(bench.most <= MAX_THREADS);
    }

    #[test]
    fn last_words_reach_those_who_listen_within_five_seconds() {
        let mut bench = Bench::new();
        (0..60).for_each(|number| bench.push(&format!("hung{number}"), Turn::First));
        (0..50).for_each(|_| bench.step(is_good));
        bench.answered.clear();
        let stopped = bench.now - bench.began;
        (0..40).for_each(|number| bench.push(&format!("hung{number}"), Turn::Last));
        bench.push("good", Turn::Last);
        assert!(bench.run_until_answered("good", is_good) - stopped < Duration::from_secs(5));
    }

    #[test]
    fn hosts_are_forgotten_when_there_are_too_many() {
        let mut bench = Bench::new();
        for number in 0..5 * MAX_HOSTS {
            bench.push(&format!("good{number}"), Turn::First);
            bench.step(is_good);
        }
        assert!(bench.queue.hosts.len() <= MAX_HOSTS);
    }
}
