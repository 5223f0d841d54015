//! A network in virtual time, in which packets take their time and get lost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::scripted::Scripted;
use super::*;

/// What a node said that is no packet, and what it cost.
#[derive(Default)]
pub(super) struct Record {
    pub(super) peers: Vec<(Instant, WireHash, SocketAddr)>,
    pub(super) looked_up: Vec<(Instant, WireHash, usize, Duration)>,
    pub(super) announced: Vec<(Instant, WireHash, usize)>,
    pub(super) started: Option<Instant>,
    pub(super) bootstraps: Vec<Instant>,
    pub(super) packets_out: usize,
    pub(super) bytes_out: usize,
    pub(super) bytes_in: usize,
    pub(super) packets_in: usize,
    /// Calls because of a deadline.
    pub(super) wake_ups: usize,
    pub(super) most_lookups: usize,
}

pub(super) struct Machine {
    pub(super) dht: Dht,
    pub(super) address: SocketAddr,
    pub(super) record: Record,
    /// Given to it when it asks for bootstrap nodes.
    pub(super) bootstrap: Vec<SocketAddr>,
    wake_at: Option<Instant>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Deliver { to: SocketAddr, from: SocketAddr, data: Vec<u8> },
    Wake(usize),
}

pub(super) struct Sim {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) machines: Vec<Machine>,
    pub(super) scripted: Option<Scripted>,
    by_address: HashMap<SocketAddr, usize>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    number: u64,
    rng: Rng,
    /// Of a hundred packets, how many are lost.
    pub(super) loss: u32,
    /// Milliseconds that a packet takes.
    pub(super) latency: std::ops::Range<u64>,
}

impl Sim {
    pub(super) fn new(seed: u64) -> Sim {
        let start = Instant::now();
        Sim {
            start,
            now: start,
            machines: Vec::new(),
            scripted: None,
            by_address: HashMap::new(),
            events: BinaryHeap::new(),
            number: 0,
            rng: Rng::with_seed(seed),
            loss: 0,
            latency: 1..2,
        }
    }

    pub(super) fn add(
        &mut self,
        address: SocketAddr,
        config: DhtConfig,
        saved: SavedTable,
        bootstrap: &[SocketAddr],
    ) -> usize {
        let dht = Dht::new(self.now, config, saved);
        let index = self.machines.len();
        self.machines.push(Machine {
            dht,
            address,
            record: Record::default(),
            bootstrap: bootstrap.to_vec(),
            wake_at: None,
        });
        self.by_address.insert(address, index);
        self.settle(index);
        index
    }

    pub(super) fn tell(&mut self, index: usize, input: DhtInput<'_>) {
        self.machines[index].dht.handle(self.now, input);
        self.settle(index);
    }

    /// The node is not there any more.
    pub(super) fn remove(&mut self, index: usize) {
        self.by_address.remove(&self.machines[index].address);
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, event)));
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, data: Vec<u8>) {
        if self.rng.u32(..100) >= self.loss {
            let after = Duration::from_millis(self.rng.u64(self.latency.clone()));
            self.push(self.now + after, Event::Deliver { to, from, data });
        }
    }

    /// Does what the node wants done, and notes when it wants to be called again.
    fn settle(&mut self, index: usize) {
        let now = self.now;
        let mut spins = 0;
        while let Some(output) = self.machines[index].dht.poll(now) {
            spins += 1;
            assert!(spins < 10_000, "it never comes to an end");
            let machine = &mut self.machines[index];
            match output {
                DhtOutput::Send { to, data } => {
                    machine.record.packets_out += 1;
                    machine.record.bytes_out += data.len();
                    let from = machine.address;
                    self.send(from, to, data);
                }
                DhtOutput::Peers { hash, peers, .. } => {
                    machine.record.peers.extend(peers.into_iter().map(|peer| (now, hash, peer)));
                }
                DhtOutput::LookedUp { hash, nodes_asked, took, .. } => {
                    machine.record.looked_up.push((now, hash, nodes_asked, took));
                }
                DhtOutput::Announced { hash, nodes } => machine.record.announced.push((now, hash, nodes)),
                DhtOutput::Started { .. } => machine.record.started = Some(now),
                DhtOutput::Bootstrap => {
                    machine.record.bootstraps.push(now);
                    for address in machine.bootstrap.clone() {
                        machine.dht.handle(now, DhtInput::Node(address));
                    }
                }
                DhtOutput::OtherFamily(_) => {}
            }
        }
        let machine = &mut self.machines[index];
        machine.record.most_lookups = machine.record.most_lookups.max(machine.dht.lookups.len());
        let deadline = machine.dht.deadline();
        assert!(deadline.is_none_or(|at| at > now), "nothing can be done now, and yet it wants to be called");
        if let Some(at) = deadline
            && machine.wake_at.is_none_or(|earlier| at < earlier || earlier <= now)
        {
            machine.wake_at = Some(at);
            self.push(at, Event::Wake(index));
        }
    }

    /// One event; `false` if nothing happens before `end`.
    fn step(&mut self, end: Instant) -> bool {
        if self.events.peek().is_none_or(|Reverse((at, ..))| *at > end) {
            self.now = end;
            return false;
        }
        let Some(Reverse((at, _, event))) = self.events.pop() else { return false };
        self.now = at;
        match event {
            Event::Deliver { to, from, data } => match self.by_address.get(&to) {
                Some(&index) => {
                    self.machines[index].record.bytes_in += data.len();
                    self.machines[index].record.packets_in += 1;
                    self.tell(index, DhtInput::Packet { from, data: &data });
                }
                None => {
                    let Some(mut scripted) = self.scripted.take() else { return true };
                    for (from, to, data) in scripted.receive(self.now - self.start, to, from, &data) {
                        self.send(from, to, data);
                    }
                    self.scripted = Some(scripted);
                }
            },
            Event::Wake(index) => {
                let is_there = self.by_address.contains_key(&self.machines[index].address);
                if is_there && self.machines[index].wake_at == Some(at) {
                    self.machines[index].wake_at = None;
                    if self.machines[index].dht.deadline().is_some_and(|deadline| deadline <= at) {
                        self.machines[index].record.wake_ups += 1;
                    }
                    self.settle(index);
                }
            }
        }
        true
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Runs until it is so, at most for `limit`; whether it is.
    pub(super) fn run_until(&mut self, limit: Duration, is_so: impl Fn(&Sim) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if is_so(self) {
                return true;
            }
            if !self.step(end) {
                return is_so(self);
            }
        }
    }
}
