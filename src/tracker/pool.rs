//! The threads that announce: no more than [`MAX_THREADS`], made when they are needed, gone soon after there is nothing to do.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queue::{MAX_THREADS, Queue, Running, Showing, Turn};
use super::{Interrupt, Options, Request, announce};
use crate::finder::announce::{AnnounceEvent, AnnounceFailure, Answer};

/// A failure that took this long shows that its host lets one wait.
const SILENCE: Duration = Duration::from_secs(3);

/// A thread that has nothing to do stays for so long: while torrents come and go, announces follow one another, and to start a thread and end it
/// costs as much as an announce.
const LINGER: Duration = Duration::from_secs(1);

type Tell = Box<dyn FnOnce(Result<Answer, AnnounceFailure>) + Send>;

/// An announce, and who is told what it came to.
struct Task {
    request: Request,
    options: Options,
    tell: Tell,
}

/// Starts a thread.
type Start = fn(Box<dyn FnOnce() + Send>) -> io::Result<()>;

struct Shared {
    /// Held for a few microseconds at a time, by the loop and by the threads: never while somebody is asked or told.
    queue: Mutex<State>,
    /// There is something to do for a thread that has nothing to do.
    has_work: Condvar,
    /// The pool is gone, so that nobody is told any more.
    is_closed: AtomicBool,
    start: Start,
}

#[derive(Default)]
struct State {
    queue: Queue<Task>,
    /// Threads that run, or are about to.
    threads: usize,
    /// Of these, those that have nothing to do.
    idle: usize,
}

/// Makes announces on threads of its own; see [`super::queue`] for the order. When it is dropped, what waits is forgotten and
/// what is under way ends soon; nobody waits for that.
pub struct AnnouncePool {
    shared: Arc<Shared>,
}

impl fmt::Debug for AnnouncePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnnouncePool")
    }
}

impl Default for AnnouncePool {
    fn default() -> AnnouncePool {
        AnnouncePool::with_threads(start_thread)
    }
}

fn start_thread(run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    std::thread::Builder::new().name("btget-announce".to_owned()).spawn(run).map(drop)
}

impl AnnouncePool {
    fn with_threads(start: Start) -> AnnouncePool {
        let (queue, has_work, is_closed) = (Mutex::default(), Condvar::new(), AtomicBool::new(false));
        AnnouncePool { shared: Arc::new(Shared { queue, has_work, is_closed, start }) }
    }

    /// Has an announce made when it is its turn. `tell` is called once, on another thread or on this one, unless the pool is dropped before;
    /// it must not block. Its [`Options::interrupt`] is the pool's affair.
    pub fn push(
        &self,
        request: Request,
        options: Options,
        tell: impl FnOnce(Result<Answer, AnnounceFailure>) + Send + 'static,
    ) {
        let last = request.event == Some(AnnounceEvent::Stopped);
        let turn = if last { Turn::Last } else { Turn::First };
        let host = host_of(&request.url);
        let task = Task { request, options, tell: Box::new(tell) };
        self.shared.lock().queue.push(Instant::now(), host, turn, task);
        start_threads(&self.shared);
    }
}

impl Drop for AnnouncePool {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        // Forgotten outside of the lock.
        let forgotten = self.shared.lock().queue.drain();
        self.shared.has_work.notify_all();
        drop(forgotten);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the counts would still be of use.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes or starts a thread if there is something for it to do; it wakes or starts the next one.
fn start_threads(shared: &Arc<Shared>) {
    let mut state = shared.lock();
    if !state.queue.has_next() {
        return;
    }
    if state.idle > 0 {
        return shared.has_work.notify_one();
    }
    if state.threads >= MAX_THREADS {
        return;
    }
    state.threads += 1;
    drop(state);
    let for_thread = shared.clone();
    let Err(error) = (shared.start)(Box::new(move || work(&for_thread))) else { return };
    let mut state = shared.lock();
    state.threads -= 1;
    // The other threads will come to it; where there are none, it is tried again with the next announce.
    let given_up = if state.threads == 0 { state.queue.drain() } else { Vec::new() };
    drop(state);
    for task in given_up {
        let reason = format!(
            "cannot start a thread for the announce: {error}; allow more threads (ulimit -u, pids limit)"
        );
        (task.tell)(Err(AnnounceFailure::no_answer(reason)));
    }
}

/// What each thread does until there was nothing to do for some time.
fn work(shared: &Arc<Shared>) {
    while let Some((task, running)) = next_task(shared) {
        start_threads(shared);
        run(shared, task, &running);
    }
}

/// The next announce for this thread, which counts as gone if there is none for too long.
fn next_task(shared: &Shared) -> Option<(Task, Running)> {
    let (mut state, mut is_late) = (shared.lock(), false);
    loop {
        if let Some((job, running)) = state.queue.pop(Instant::now()) {
            return Some((job.work, running));
        }
        if is_late || shared.is_closed.load(Ordering::Relaxed) {
            state.threads -= 1;
            return None;
        }
        state.idle += 1;
        let waited = shared.has_work.wait_timeout(state, LINGER).unwrap_or_else(PoisonError::into_inner);
        (state, is_late) = (waited.0, waited.1.timed_out());
        state.idle -= 1;
    }
}

fn run(shared: &Arc<Shared>, task: Task, running: &Running) {
    let has_given_way = Arc::new(AtomicBool::new(false));
    let options = Options { interrupt: interrupt(shared, running, &has_given_way), ..task.options.clone() };
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| announce(&task.request, &options))).unwrap_or_else(|_| {
        Err(AnnounceFailure::no_answer("the announce panicked, which is a fault of this program"))
    });
    let time = began.elapsed();
    let has_given_way = has_given_way.load(Ordering::Relaxed) && result.is_err();
    let showing = match &result {
        Ok(_) => Showing::Answers,
        Err(failure) if failure.status_code != 0 => Showing::Answers,
        Err(_) if has_given_way || time >= SILENCE => Showing::Silent,
        Err(_) => Showing::Nothing,
    };
    let mut state = shared.lock();
    let now = Instant::now();
    let given_up = state.queue.end(now, running, showing);
    if has_given_way && running.turn() == Turn::First && !shared.is_closed.load(Ordering::Relaxed) {
        state.queue.push(now, running.host().to_owned(), Turn::Second, task);
        drop(state);
    } else {
        drop(state);
        let told = match result {
            Err(_) if has_given_way => Err(AnnounceFailure::no_answer(format!(
                "no answer within {:.1} s, and other trackers waited",
                time.as_secs_f32()
            ))),
            result => result,
        };
        (task.tell)(told);
    }
    for task in given_up {
        let reason = "its host does not answer other announces either";
        (task.tell)(Err(AnnounceFailure::no_answer(reason)));
    }
}

fn interrupt(shared: &Arc<Shared>, running: &Running, has_given_way: &Arc<AtomicBool>) -> Interrupt {
    let (shared, running, has_given_way) = (shared.clone(), running.clone(), has_given_way.clone());
    Interrupt::new(move || {
        let is_due = shared.is_closed.load(Ordering::Relaxed)
            || has_given_way.load(Ordering::Relaxed)
            || shared.lock().queue.gives_way(Instant::now(), &running);
        has_given_way.fetch_or(is_due, Ordering::Relaxed);
        is_due
    })
}

/// Scheme, host and port of a URL, in lower case: who is asked, whatever for.
fn host_of(url: &str) -> String {
    let url = crate::http::url::take_credentials(url.trim()).0.to_ascii_lowercase();
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    url[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc::channel;

    use super::*;

    fn request(address: SocketAddr) -> Request {
        Request { event: Some(AnnounceEvent::Started), ..Request::to(format!("http://{address}/announce")) }
    }

    #[test]
    fn trackers_that_hang_hold_nobody_else() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (pool, (to_told, told)) = (AnnouncePool::default(), channel());
        // The system takes the calls, and nobody ever answers them.
        let hung: Vec<TcpListener> = (0..2 * MAX_THREADS).map(|_| listen()).collect();
        for listener in hung.iter().chain(vec![&hung[0]; 100]) {
            let to_told = to_told.clone();
            let tell = move |result| drop(to_told.send(("hung", result)));
            pool.push(request(listener.local_addr().unwrap()), Options::default(), tell);
        }
        let good = listen();
        let tell = move |result| drop(to_told.send(("good", result)));
        pool.push(request(good.local_addr().unwrap()), Options::default(), tell);
        std::thread::spawn(move || {
            let (mut stream, _) = good.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nd5:peers0:e").unwrap();
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(("good", Ok(Answer::default()))));
        // Those under way are cut short, those that wait are forgotten.
        drop(pool);
        assert!(told.iter().all(|(name, result)| name == "hung" && result.is_err()));
    }

    #[test]
    fn without_a_thread_an_announce_fails_and_says_why() {
        let pool = AnnouncePool::with_threads(|_| Err(io::ErrorKind::WouldBlock.into()));
        let (to_told, told) = channel();
        pool.push(request("127.0.0.1:1".parse().unwrap()), Options::default(), move |result| {
            drop(to_told.send(result));
        });
        let failure = told.recv().unwrap().unwrap_err();
        assert!(failure.reason.starts_with("cannot start a thread for the announce: "), "{failure:?}");
        assert_eq!(pool.shared.lock().threads, 0);
    }

    #[test]
    fn announces_that_follow_one_another_are_made_by_the_same_thread() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nd5:peers0:e").unwrap();
            }
        });
        let (pool, (to_told, told)) = (AnnouncePool::default(), channel());
        let mut threads = Vec::new();
        for _ in 0..5 {
            let to_told = to_told.clone();
            let tell = move |result| drop(to_told.send((std::thread::current().id(), result)));
            pool.push(request(address), Options::default(), tell);
            let (thread, result) = told.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(result, Ok(Answer::default()));
            threads.push(thread);
            // What it was told comes before it has nothing to do.
            while pool.shared.lock().idle == 0 {
                std::thread::yield_now();
            }
        }
        threads.dedup();
        assert_eq!(threads.len(), 1);
    }

    #[test]
    fn a_host_is_scheme_name_and_port() {
        for (url, host) in [
            ("HTTP://user:pass@Tracker.example:80/a/announce?x", "http://tracker.example:80"),
            ("udp://t:1", "udp://t:1"),
            ("https://t?x=/", "https://t"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }
}
