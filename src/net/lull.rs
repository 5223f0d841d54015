//! Fewer turns while packets come fast: how long to wait before more are received, so that many of them are there at once.
//!
//! Owns how fast the packets of one socket come, and the rest of this thread's loop. Never holds up what can be done: meanwhile the loop does all that
//! there is to do, and it sleeps only where it would wait anyway.

use std::cell::Cell;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep_until;

/// Packets a second from which on the loop rests. With fewer, hardly any would come together.
const FAST: f64 = 20_000.0;

/// Packets that are to come during a rest; more would not make each of them cheaper.
const PACKETS: f64 = 48.0;

/// How long a rest is at the most: nothing beside the milliseconds that queues before a bottleneck take, and less than a timer's step here.
const MAX_REST: Duration = Duration::from_micros(250);

/// How long packets are counted before it is known how fast they come.
const MEASURED: Duration = Duration::from_millis(2);

/// Bytes that the system takes for a packet of the Internet's usual length.
const BYTES_OF_A_PACKET: usize = 2304;

thread_local! {
    /// Until when this thread's loop may sleep, once it has nothing to do.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };

    /// Woken when it has.
    static RESTED: Rc<Notify> = Rc::default();
}

/// How fast the packets of one socket come.
#[derive(Debug)]
pub(super) struct Lull {
    /// Since when they are counted, and how many have come since.
    since: Option<Instant>,
    count: usize,
    /// Packets a second, before that.
    rate: f64,
    /// Packets that may wait at the end of a rest: a small share of what the system keeps for us.
    most: f64,
}

impl Lull {
    /// For a socket for which the system keeps so many bytes.
    pub(super) fn new(buffer: usize) -> Lull {
        let most = (buffer / BYTES_OF_A_PACKET / 4) as f64;
        Lull { since: None, count: 0, rate: 0.0, most: most.min(PACKETS) }
    }

    /// So many packets have come in a turn. Says when the next one is worth it; `None`: as soon as any are there.
    pub(super) fn next_turn(&mut self, now: Instant, count: usize) -> Option<Instant> {
        let rest = self.rest_after(now, count);
        (!rest.is_zero()).then(|| now + rest)
    }

    fn rest_after(&mut self, now: Instant, count: usize) -> Duration {
        let since = *self.since.get_or_insert(now);
        self.count += count;
        let passed = now.saturating_duration_since(since);
        if passed >= MEASURED {
            self.rate = self.count as f64 / passed.as_secs_f64();
            (self.since, self.count) = (Some(now), 0);
        }
        match self.rate >= FAST {
            true => Duration::from_secs_f64(self.most / self.rate).min(MAX_REST),
            false => Duration::ZERO,
        }
    }
}

/// Waits until then, or a little longer if the loop has other things to do.
pub(super) async fn wait(until: Instant) {
    UNTIL.set(Some(UNTIL.get().map_or(until, |other| other.min(until))));
    let rested = RESTED.with(Rc::clone);
    tokio::select! {
        () = rested.notified() => {}
        // The timer is coarse: for a loop that always has something to do.
        () = sleep_until(until.into()) => {}
    }
}

/// For the moment before the loop waits for events: sleeps until packets are to be received again, if they are not to be before.
pub(crate) fn rest() {
    let Some(until) = UNTIL.take() else { return };
    sleep(until.saturating_duration_since(Instant::now()));
    RESTED.with(|rested| rested.notify_waiters());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last of the rests, after turns of `count` packets, `pause` apart, for 10 ms.
    fn rest_of(lull: &mut Lull, start: Instant, count: usize, pause: Duration) -> Duration {
        let turns = (10_000.0 / pause.as_secs_f64() / 1e6).ceil() as u32;
        (0..turns).map(|turn| lull.rest_after(start + turn * pause, count)).last().unwrap_or_default()
    }

    #[test]
    fn the_loop_rests_while_packets_come_fast_and_no_longer() {
        let (start, mut lull) = (Instant::now(), Lull::new(8 << 20));
        assert_eq!(lull.rest_after(start, 1000), Duration::ZERO, "nothing is known yet");
        let slow = rest_of(&mut lull, start, 1, Duration::from_micros(100));
        assert_eq!(slow, Duration::ZERO);
        let fast = rest_of(&mut lull, start + Duration::from_millis(20), 4, Duration::from_micros(20));
        assert!((200..=250).contains(&fast.as_micros()), "{fast:?}");
        let later = start + Duration::from_secs(1);
        assert_eq!(lull.rest_after(later, 1), Duration::ZERO, "a pause has shown that they do not come fast");
    }

    #[test]
    fn no_more_comes_during_a_rest_than_the_system_has_room_for() {
        let mut lull = Lull::new(208 << 10);
        let rest = rest_of(&mut lull, Instant::now(), 100, Duration::from_micros(100));
        let packets = rest.as_secs_f64() * 1e6;
        assert!(
            !rest.is_zero() && packets * BYTES_OF_A_PACKET as f64 <= f64::from(208 << 10) / 4.0,
            "{rest:?}"
        );
    }

    #[test]
    fn who_waits_goes_on_after_the_rest_and_others_before_it() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(rest).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let others = Rc::new(Cell::new(0));
            let counter = others.clone();
            tokio::task::spawn_local(async move {
                for _ in 0..100 {
                    counter.set(counter.get() + 1);
                    tokio::task::yield_now().await;
                }
            });
            let until = Instant::now() + Duration::from_millis(20);
            wait(until).await;
            assert!(Instant::now() >= until);
            assert_eq!((others.get(), UNTIL.get()), (100, None));
        });
    }
}
