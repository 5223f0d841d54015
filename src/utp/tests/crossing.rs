//! Two that call one another at the same time, as they are told to where nobody can call them (BEP 55).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::{UtpEndpoint, UtpKey};

/// Two endpoints whose packets take 20 ms.
struct Pair {
    now: Instant,
    endpoints: [UtpEndpoint; 2],
    under_way: Vec<(Instant, usize, Vec<u8>)>,
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, side as u8 + 1], 6881))
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let now = Instant::now();
        let endpoints = [UtpEndpoint::new(now, seed), UtpEndpoint::new(now, !seed)];
        Pair { now, endpoints, under_way: Vec::new() }
    }

    fn call(&mut self) -> [UtpKey; 2] {
        [0, 1].map(|side| self.endpoints[side].call(self.now, address(1 - side)).unwrap())
    }

    /// How far the numbers of both calls are apart.
    fn distance(&self, calls: [UtpKey; 2]) -> u16 {
        let [one, other] = [0, 1].map(|side| self.endpoints[side].get(calls[side]).unwrap().ids.receive);
        one.wrapping_sub(other)
    }

    /// What is sent in this time and comes. `is_lost` says of each packet by side whether it is lost.
    fn run(&mut self, time: Duration, mut is_lost: impl FnMut(usize) -> bool) {
        let end = self.now + time;
        while self.now < end {
            for side in 0..2 {
                let mut packet = Vec::new();
                while self.endpoints[side].poll_packet(self.now, &mut packet).is_some() {
                    let packet = std::mem::take(&mut packet);
                    if !is_lost(side) {
                        self.under_way.push((self.now + Duration::from_millis(20), 1 - side, packet));
                    }
                }
            }
            self.now += Duration::from_millis(5);
            let now = self.now;
            for (_, to, packet) in self.under_way.extract_if(.., |(due, ..)| *due <= now) {
                self.endpoints[to].on_datagram(now, address(1 - to), &packet);
            }
        }
    }

    /// For each side, what has come on the connections that it has taken.
    fn taken(&mut self) -> [Vec<Vec<u8>>; 2] {
        [0, 1].map(|side| {
            let endpoint = &mut self.endpoints[side];
            let mut all = Vec::new();
            while let Some((key, from)) = endpoint.accept() {
                assert_eq!(from, address(1 - side));
                let mut bytes = [0; 64];
                let count = endpoint.read(self.now, key, &mut bytes).unwrap().unwrap_or(0);
                all.push(bytes[..count].to_vec());
            }
            all
        })
    }

    /// Each side says on its call, if that is open, who it is.
    fn speak(&mut self, calls: [UtpKey; 2]) -> [bool; 2] {
        [0, 1].map(|side| {
            let is_open = self.endpoints[side].get(calls[side]).is_some_and(|call| call.is_open());
            is_open && self.endpoints[side].write(calls[side], &[side as u8; 3]).unwrap() == 3
        })
    }
}

#[test]
fn both_calls_become_connections_that_are_not_mixed_up() {
    let mut pair = Pair::new(7);
    let calls = pair.call();
    pair.run(Duration::from_secs(1), |_| false);
    assert_eq!(pair.speak(calls), [true, true]);
    pair.run(Duration::from_secs(1), |_| false);
    assert_eq!(pair.taken(), [vec![vec![1; 3]], vec![vec![0; 3]]]);
}

#[test]
fn where_the_first_syn_of_one_is_lost_the_other_gets_through() {
    for lost in 0..2 {
        let mut pair = Pair::new(8);
        let calls = pair.call();
        let mut first = true;
        pair.run(Duration::from_secs(1), |side| side == lost && std::mem::take(&mut first));
        let open = pair.speak(calls);
        assert!(open[1 - lost] && !open[lost], "{lost}: {open:?}");
        pair.run(Duration::from_secs(1), |_| false);
        assert_eq!(pair.taken()[lost], [vec![1 - lost as u8; 3]]);
    }
}

#[test]
fn numbers_that_clash_leave_one_connection_at_least() {
    for distance in [0, 1, u16::MAX] {
        let clash = (0..u64::from(u32::MAX)).find_map(|seed| {
            let mut pair = Pair::new(seed);
            let calls = pair.call();
            (pair.distance(calls) == distance).then_some((seed, pair, calls))
        });
        let (seed, mut pair, calls) = clash.unwrap();
        pair.run(Duration::from_secs(1), |_| false);
        let open = pair.speak(calls);
        pair.run(Duration::from_secs(1), |_| false);
        let taken = pair.taken();
        for side in 0..2 {
            let expected = if open[side] { vec![vec![side as u8; 3]] } else { vec![] };
            assert_eq!(taken[1 - side], expected, "seed {seed}, distance {distance}, {open:?}");
        }
        assert!(open.contains(&true), "seed {seed}, distance {distance}");
    }
}
