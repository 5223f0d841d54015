//! A stream over the simulated network: one side writes what the other expects.

use std::time::Duration;

use super::net::Net;
use crate::utp::{UtpEnd, UtpKey};

/// A reader that takes so many bytes a second, in turns.
pub(super) struct Limited {
    rate: f64,
    tokens: f64,
    filled: Duration,
    /// When it goes on.
    due: Duration,
}

impl Limited {
    pub(super) fn new(rate: usize) -> Limited {
        Limited { rate: rate as f64, tokens: 0.0, filled: Duration::ZERO, due: Duration::ZERO }
    }

    /// Bytes of a turn.
    fn turn(&self) -> f64 {
        (self.rate / 50.0).max(512.0)
    }

    /// Bytes that it takes now. 0: it waits.
    fn now(&mut self, net: &mut Net) -> usize {
        let passed = net.now.saturating_sub(self.filled).as_secs_f64();
        self.filled = net.now;
        self.tokens = (self.tokens + self.rate * passed).min((0.1 * self.rate).max(512.0));
        if self.tokens > 0.0 {
            return self.turn() as usize;
        }
        if net.now >= self.due {
            let wait = Duration::from_secs_f64((self.turn() - self.tokens) / self.rate);
            self.due = net.now + wait;
            net.set_alarm(wait, 0);
        }
        0
    }
}

/// The byte at a place of a stream.
fn byte(seed: u64, at: u64) -> u8 {
    ((at ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// One direction of a connection.
pub(super) struct Flow {
    pub seed: u64,
    pub from: usize,
    pub to: usize,
    /// Bytes in all.
    pub total: u64,
    pub written: u64,
    pub read: u64,
    /// The reader does nothing in between.
    pub stalls: Option<(Duration, Duration)>,
    /// The reader is slow by itself.
    pub limited: Option<Limited>,
    /// `None` until the call is taken.
    pub from_key: Option<UtpKey>,
    /// Likewise.
    pub to_key: Option<UtpKey>,
    /// Why it cannot go on, as the writer and the reader were told.
    pub ends: [Option<UtpEnd>; 2],
}

impl Flow {
    /// Calls, and writes so many bytes.
    pub(super) fn call(net: &mut Net, from: usize, to: usize, total: u64) -> Flow {
        let (time, address) = (net.time_of(from), net.nodes[to].address);
        let from_key = net.nodes[from].endpoint.call(time, address);
        assert!(from_key.is_some());
        let seed = net.rng.u64(..);
        let (written, read, stalls, limited, to_key, ends) = (0, 0, None, None, None, [None; 2]);
        Flow { seed, from, to, total, written, read, stalls, limited, from_key, to_key, ends }
    }

    /// The other direction of the same connection.
    pub(super) fn back(&self, total: u64) -> Flow {
        let (from, to) = (self.to, self.from);
        let (from_key, to_key) = (None, self.from_key);
        let (seed, stalls, limited, ends) = (self.seed ^ 1, None, None, [None; 2]);
        Flow { seed, from, to, total, written: 0, read: 0, stalls, limited, from_key, to_key, ends }
    }

    pub(super) fn is_done(&self) -> bool {
        self.read == self.total
    }

    /// Writes and reads what can be.
    pub(super) fn advance(&mut self, net: &mut Net) {
        if let Some(key) = self.from_key {
            let mut chunk = [0; 4096];
            while self.written < self.total && self.ends[0].is_none() {
                let count = (self.total - self.written).min(chunk.len() as u64) as usize;
                let at = self.written;
                (at..).zip(&mut chunk[..count]).for_each(|(at, place)| *place = byte(self.seed, at));
                match net.nodes[self.from].endpoint.write(key, &chunk[..count]) {
                    Ok(0) => break,
                    Ok(written) => self.written += written as u64,
                    Err(end) => self.ends[0] = Some(end),
                }
            }
        }
        let Some(key) = self.to_key else { return };
        if self.stalls.is_some_and(|(from, until)| (from..until).contains(&net.now)) {
            return;
        }
        let mut chunk = [0; 16384];
        while self.ends[1].is_none() {
            let most = self.limited.as_mut().map_or(chunk.len(), |limited| limited.now(net).min(chunk.len()));
            if most == 0 {
                break;
            }
            let time = net.time_of(self.to);
            match net.nodes[self.to].endpoint.read(time, key, &mut chunk[..most]) {
                Ok(None | Some(0)) => break,
                Ok(Some(count)) => {
                    self.limited.iter_mut().for_each(|limited| limited.tokens -= count as f64);
                    for (at, got) in (self.read..).zip(&chunk[..count]) {
                        assert_eq!(*got, byte(self.seed, at), "wrong data at {at}");
                    }
                    self.read += count as u64;
                    assert!(self.read <= self.total, "more than was written");
                }
                Err(end) => self.ends[1] = Some(end),
            }
        }
    }
}

/// Goes on until then, or until all flows are done or neither side of any can go on.
pub(super) fn run(net: &mut Net, flows: &mut [Flow], until: Duration) {
    let stalls: Vec<Duration> = flows.iter().filter_map(|flow| Some(flow.stalls?.1)).collect();
    stalls.into_iter().for_each(|end| net.set_alarm(end.saturating_sub(net.now), 0));
    loop {
        for node in 0..net.nodes.len() {
            while let Some((key, address)) = net.nodes[node].endpoint.accept() {
                let addresses: Vec<_> = net.nodes.iter().map(|node| node.address).collect();
                for flow in flows.iter_mut() {
                    if flow.to == node && flow.to_key.is_none() && addresses[flow.from] == address {
                        flow.to_key = Some(key);
                    } else if flow.from == node && flow.from_key.is_none() && addresses[flow.to] == address {
                        flow.from_key = Some(key);
                    }
                }
            }
        }
        flows.iter_mut().for_each(|flow| flow.advance(net));
        net.flush();
        while net.nodes.iter_mut().any(|node| node.endpoint.poll_changed().is_some()) {}
        let is_over = |flow: &Flow| flow.is_done() || flow.ends.iter().all(Option::is_some);
        if flows.iter().all(is_over) || net.step(until).is_none() {
            return;
        }
    }
}
