//! A path between two UDP ports that delays, loses, repeats and reorders packets. What becomes of each is decided by a seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the path does to packets, in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub delay: Duration,
    /// Up to so much more, so that packets overtake one another.
    pub jitter: Duration,
    /// Of a thousand.
    pub lost: u32,
    /// Of a thousand.
    pub repeated: u32,
}

/// Whoever sends to `address` reaches the other end, and gets its answers from there.
pub struct Relay {
    pub address: SocketAddr,
    is_over: Arc<AtomicBool>,
    brought: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    pub fn start(to: SocketAddr, path: Path, seed: u64) -> Relay {
        let front = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
        let (address, is_over) = (front.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (told, brought) = (is_over.clone(), Arc::new(AtomicUsize::new(0)));
        let count = brought.clone();
        let thread = Some(thread::spawn(move || run(&front, to, path, seed, &told, &count)));
        Relay { address, is_over, brought, thread }
    }

    /// Bytes that callers were brought in packets of uTP, headers not counted.
    pub fn brought(&self) -> usize {
        self.brought.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// How often it looks whether packets have come: packets wait so much longer.
const TICK: Duration = Duration::from_millis(1);

/// Bytes that a packet of uTP carries, as far as it is DATA without extensions: type and version are the first byte, and the header has 20.
fn carried(packet: &[u8]) -> usize {
    match packet {
        [0x01, 0, ..] => packet.len().saturating_sub(20),
        _ => 0,
    }
}

fn run(
    front: &UdpSocket,
    to: SocketAddr,
    path: Path,
    seed: u64,
    is_over: &AtomicBool,
    brought: &AtomicUsize,
) {
    front.set_nonblocking(true).unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    // By who calls: the socket that stands for it.
    let mut backs: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut waiting = BinaryHeap::new();
    let (mut count, mut buffer) = (0u64, vec![0; 65_536]);
    while !is_over.load(Ordering::Relaxed) {
        let now = Instant::now();
        let mut put = |caller: SocketAddr, is_back: bool, data: &[u8]| {
            let copies = 1 + u32::from(rng.u32(..1000) < path.repeated);
            for _ in 0..copies {
                if rng.u32(..1000) >= path.lost {
                    count += 1;
                    let due = now + path.delay + path.jitter.mul_f64(rng.f64());
                    waiting.push(Reverse((due, count, caller, is_back, data.to_vec())));
                }
            }
        };
        while let Ok((length, from)) = front.recv_from(&mut buffer) {
            backs.entry(from).or_insert_with(|| {
                let back = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
                back.set_nonblocking(true).unwrap();
                back
            });
            put(from, false, &buffer[..length]);
        }
        for (&caller, back) in &backs {
            while let Ok((length, _)) = back.recv_from(&mut buffer) {
                put(caller, true, &buffer[..length]);
            }
        }
        while waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, _, caller, is_back, data))) = waiting.pop() else { break };
            if is_back {
                brought.fetch_add(carried(&data), Ordering::Relaxed);
            }
            // Who is not there any more does not hear it.
            let _ = if is_back { front.send_to(&data, caller) } else { backs[&caller].send_to(&data, to) };
        }
        thread::sleep(TICK);
    }
}
