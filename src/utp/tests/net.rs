//! A network in virtual time: nodes, each with an endpoint and a clock of its own, and links between them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::cubic::Cubic;
use crate::utp::UtpEndpoint;

/// One direction of a path. By default it loses nothing, takes no time, and everything.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    /// Bytes a second; `None`: any number.
    pub rate: Option<f64>,
    /// Bytes that wait before it at the most; more are dropped.
    pub buffer: f64,
    pub delay: Duration,
    /// Up to so much more, by chance.
    pub jitter: Duration,
    /// Packets overtake one another.
    pub reorders: bool,
    pub loss: f64,
    pub duplicates: f64,
    /// Packets of which a time or the window is wrong.
    pub corrupts: f64,
    /// Bytes of the longest IP packet that is not cut.
    pub mtu: usize,
    /// Whatever is sent from then on is lost.
    pub dead_after: Duration,
    pub busy_until: Duration,
    pub last_arrival: Duration,
    /// Bytes that were taken.
    pub carried: f64,
    pub longest_queue: Duration,
}

impl Default for Wire {
    fn default() -> Wire {
        Wire {
            rate: None,
            buffer: f64::INFINITY,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorders: false,
            loss: 0.0,
            duplicates: 0.0,
            corrupts: 0.0,
            mtu: 1500,
            dead_after: Duration::MAX,
            busy_until: Duration::ZERO,
            last_arrival: Duration::ZERO,
            carried: 0.0,
            longest_queue: Duration::ZERO,
        }
    }
}

impl Wire {
    pub(super) fn new(megabits: f64, delay_ms: u64, buffer_ms: u64) -> Wire {
        let rate = megabits * 1e6 / 8.0;
        let buffer = rate * buffer_ms as f64 / 1000.0;
        Wire { rate: Some(rate), buffer, delay: Duration::from_millis(delay_ms), ..Wire::default() }
    }

    /// When a packet of so many bytes arrives that is sent now; `None`: it does not.
    fn carry(&mut self, now: Duration, bytes: f64, rng: &mut fastrand::Rng) -> Option<Duration> {
        if rng.f64() < self.loss || now >= self.dead_after {
            return None;
        }
        let start = now.max(self.busy_until);
        if let Some(rate) = self.rate {
            if (start - now).as_secs_f64() * rate + bytes > self.buffer {
                return None;
            }
            self.longest_queue = self.longest_queue.max(start - now);
            self.busy_until = start + Duration::from_secs_f64(bytes / rate);
        } else {
            self.busy_until = start;
        }
        self.carried += bytes;
        let arrival = self.busy_until + self.delay + self.jitter.mul_f64(rng.f64());
        let arrival = if self.reorders { arrival } else { arrival.max(self.last_arrival) };
        self.last_arrival = arrival;
        Some(arrival)
    }
}

/// What travels.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Load {
    /// A datagram to a node, from another.
    Datagram(usize, usize, Vec<u8>),
    /// A segment of the TCP flow has arrived, or its acknowledgement.
    Segment(u64),
    Acknowledgement(u64),
    /// Something outside is to happen.
    Alarm(u64),
}

pub(super) struct Node {
    pub endpoint: UtpEndpoint,
    pub address: SocketAddr,
    /// How much faster its clock runs, and how far it is ahead.
    pub skew: f64,
    pub ahead: Duration,
}

pub(super) struct Net {
    start: Instant,
    pub now: Duration,
    pub rng: fastrand::Rng,
    pub nodes: Vec<Node>,
    pub wires: Vec<Wire>,
    /// The wire from each node to each other.
    pub routes: Vec<Vec<usize>>,
    pub tcp: Option<Cubic>,
    on_the_way: BinaryHeap<Reverse<(Duration, u64, Load)>>,
    sent: u64,
    buffer: Vec<u8>,
}

impl Net {
    /// So many nodes; all routes use wire 0 from even to odd nodes, and wire 1 back.
    pub(super) fn new(seed: u64, nodes: usize, wires: [Wire; 2]) -> Net {
        let mut rng = fastrand::Rng::with_seed(seed);
        let start = Instant::now();
        let nodes = (0..nodes).map(|number| Node {
            endpoint: UtpEndpoint::new(start, rng.u64(..)),
            address: SocketAddr::from(([10, 0, 0, number as u8], 6881)),
            skew: 1.0,
            ahead: Duration::ZERO,
        });
        let nodes: Vec<Node> = nodes.collect();
        let routes = (0..nodes.len()).map(|from| vec![from % 2; nodes.len()]).collect();
        let on_the_way = BinaryHeap::new();
        let (now, tcp, buffer) = (Duration::ZERO, None, Vec::new());
        Net { start, now, rng, nodes, wires: wires.into(), routes, tcp, on_the_way, sent: 0, buffer }
    }

    /// What time it is for a node.
    pub(super) fn time_of(&self, node: usize) -> Instant {
        let Node { skew, ahead, .. } = &self.nodes[node];
        self.start + *ahead + self.now.mul_f64(*skew)
    }

    fn due(&self, node: usize) -> Option<Duration> {
        let Node { skew, ahead, endpoint, .. } = &self.nodes[node];
        let due = endpoint.deadline()?.saturating_duration_since(self.start + *ahead).div_f64(*skew);
        // Never the same instant again.
        Some(due.max(self.now) + Duration::from_nanos(1000))
    }

    fn put(&mut self, at: Duration, load: Load) {
        self.sent += 1;
        self.on_the_way.push(Reverse((at, self.sent, load)));
    }

    pub(super) fn set_alarm(&mut self, after: Duration, number: u64) {
        self.put(self.now + after, Load::Alarm(number));
    }

    /// Puts a datagram on its way as if a node had sent it.
    pub(super) fn send(&mut self, from: usize, to: usize, data: &[u8], may_fragment: bool) {
        let wire = self.routes[from][to];
        let bytes = data.len() + 28;
        let wire = &mut self.wires[wire];
        if bytes > wire.mtu && !may_fragment {
            return;
        }
        let copies = 1 + usize::from(self.rng.f64() < wire.duplicates);
        for _ in 0..copies {
            let wire = &mut self.wires[self.routes[from][to]];
            let Some(arrival) = wire.carry(self.now, bytes as f64, &mut self.rng) else { continue };
            let mut data = data.to_vec();
            if self.rng.f64() < wire.corrupts {
                // Times and windows: nothing but the checksum of UDP protects data and numbers.
                let at = self.rng.usize(4..16);
                data[at] ^= 1 << self.rng.u8(..8);
            }
            self.put(arrival, Load::Datagram(to, from, data));
        }
    }

    /// Everything that endpoints have to send goes out.
    pub(super) fn flush(&mut self) {
        for node in 0..self.nodes.len() {
            let time = self.time_of(node);
            loop {
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.clear();
                let packet = self.nodes[node].endpoint.poll_packet(time, &mut buffer);
                self.buffer = buffer;
                let Some(packet) = packet else { break };
                let data = std::mem::take(&mut self.buffer);
                if let Some(to) = self.nodes.iter().position(|other| other.address == packet.to) {
                    self.send(node, to, &data, packet.may_fragment);
                }
                self.buffer = data;
            }
        }
        self.flush_tcp();
    }

    fn flush_tcp(&mut self) {
        while let Some(segment) = self.tcp.as_mut().and_then(|tcp| tcp.next_segment(self.now)) {
            if let Some(arrival) = self.wires[0].carry(self.now, 1500.0, &mut self.rng) {
                self.put(arrival, Load::Segment(segment));
            }
        }
    }

    /// The next thing that happens, unless it is after `until`. Gives the number of an alarm.
    pub(super) fn step(&mut self, until: Duration) -> Option<Option<u64>> {
        let travelling = self.on_the_way.peek().map(|Reverse((at, ..))| *at);
        let due = (0..self.nodes.len()).filter_map(|node| self.due(node)).min();
        let tcp = self.tcp.as_ref().and_then(Cubic::deadline);
        let next = travelling.into_iter().chain(due).chain(tcp).min().filter(|next| *next <= until);
        let Some(next) = next else {
            self.now = until;
            return None;
        };
        self.now = next.max(self.now);
        let mut alarm = None;
        while self.on_the_way.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, load))) = self.on_the_way.pop() else { break };
            match load {
                Load::Datagram(to, from, data) => {
                    let (time, from) = (self.time_of(to), self.nodes[from].address);
                    self.nodes[to].endpoint.on_datagram(time, from, &data);
                }
                Load::Segment(number) => {
                    let arrival = self.wires[1].carry(self.now, 60.0, &mut self.rng);
                    if let Some(arrival) = arrival {
                        self.put(arrival, Load::Acknowledgement(number));
                    }
                }
                Load::Acknowledgement(number) => {
                    if let Some(tcp) = &mut self.tcp {
                        tcp.on_ack(self.now, number);
                    }
                }
                Load::Alarm(number) => {
                    alarm = Some(number);
                    break;
                }
            }
        }
        self.flush();
        Some(alarm)
    }
}
