//! Nodes of a distributed hash table on loopback, for clients to begin with.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use btget::internals::dht::{Dht, DhtConfig, DhtInput, DhtOutput, Family as DhtFamily, SavedTable};

use super::fixture::Family;

/// A node that answers as btget's own does, and notes what it is asked.
pub struct Hub {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// Begins on a port that the system chooses, knowing these others.
    pub fn start(family: Family, others: &[SocketAddr]) -> Hub {
        let socket = UdpSocket::bind((family.loopback(), 0)).unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let (asked, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let config = DhtConfig {
            family: if family == Family::V4 { DhtFamily::V4 } else { DhtFamily::V6 },
            read_only: false,
            port: address.port(),
            bootstrap_wanted: false,
            seed: u64::from(address.port()),
        };
        let mut node = Dht::new(Instant::now(), config, SavedTable::default());
        others.iter().for_each(|&other| node.handle(Instant::now(), DhtInput::Node(other)));
        let (log, end) = (asked.clone(), ended.clone());
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let data = &buffer[..length];
                    log.lock().unwrap().push(data.to_vec());
                    node.handle(Instant::now(), DhtInput::Packet { from, data });
                }
                while let Some(output) = node.poll(Instant::now()) {
                    if let DhtOutput::Send { to, data } = output {
                        let _ = socket.send_to(&data, to);
                    }
                }
            }
        });
        Hub { address, asked, ended, thread: Some(thread) }
    }

    /// All packets that have come.
    pub fn packets(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().clone()
    }

    /// Queries of this kind that have come.
    pub fn queries(&self, kind: &str) -> Vec<Vec<u8>> {
        let query = format!("1:q{}:{kind}", kind.len()).into_bytes();
        let is_it = |packet: &Vec<u8>| packet.windows(query.len()).any(|window| window == query);
        self.packets().into_iter().filter(is_it).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}
