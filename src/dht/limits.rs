//! How much is sent: by whom it is paid for, and from which budget.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address::is_inner;
use crate::bucket::TokenBucket;

/// A map that remembers what was used last: between one and two times `half` keys, at most.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    pub(super) fn new(half: usize) -> Recent<K, V> {
        Recent { half, young: HashMap::new(), old: HashMap::new() }
    }

    /// The value of a key, made by `make` if it is not remembered.
    pub(super) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let old = self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.entry(key).or_insert_with(|| old.unwrap_or_else(make))
    }

    /// The value of a key, if it is remembered.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }
}

/// Answers that an address gets in a second, and as many at once.
const ANSWERS_BY_ADDRESS: u64 = 10;

/// Bytes of answers in a minute, to all together: what may be sent at once and what is added in a minute are as much.
const ANSWER_BURST: u64 = 128 << 10;
const ANSWER_RATE: u64 = ((1 << 20) - ANSWER_BURST) / 60;

/// Those who have asked us are pinged so often in a second, and so often at once: nobody makes us spend on them what look-ups need.
const PING_RATE: u64 = 10;
const PING_BURST: u64 = 64;

/// How long an address counts as shown to be its owner's.
const PROOF: Duration = Duration::from_secs(10 * 60);

/// Half of the number of addresses that are remembered; see [`Recent`].
const REMEMBERED: usize = 2048;

/// Bytes of an answer to an address that has shown that it is its owner's.
pub(super) const MAX_REPLY: usize = 1400;

/// What may be answered, so that nobody is flooded by us or in our name.
#[derive(Debug)]
pub(super) struct AnswerLimits {
    by_address: Recent<SocketAddr, TokenBucket>,
    all: TokenBucket,
    /// Pings of those who have asked us.
    pings: TokenBucket,
    /// Until when an address is known to be its owner's.
    proven: Recent<SocketAddr, Instant>,
}

impl AnswerLimits {
    pub(super) fn new(now: Instant) -> AnswerLimits {
        AnswerLimits {
            by_address: Recent::new(REMEMBERED),
            all: TokenBucket::new(now, ANSWER_BURST, ANSWER_RATE),
            pings: TokenBucket::new(now, PING_BURST, PING_RATE),
            proven: Recent::new(REMEMBERED),
        }
    }

    /// The address has sent what only somebody who receives there can know.
    pub(super) fn prove(&mut self, now: Instant, address: SocketAddr) {
        *self.proven.entry(address, || now) = now + PROOF;
    }

    /// The most bytes that an answer to this packet may have. Whoever has not shown that the address is theirs gets no more than twice
    /// what came: the sender's address may be forged.
    pub(super) fn reply_limit(&self, now: Instant, address: SocketAddr, query_length: usize) -> usize {
        let is_proven = self.proven.get(&address).is_some_and(|&until| until > now);
        if is_proven { MAX_REPLY } else { MAX_REPLY.min(2 * query_length) }
    }

    /// Whether a query of this address may be looked at.
    pub(super) fn admit(&mut self, now: Instant, address: SocketAddr) -> bool {
        let fresh = || TokenBucket::new(now, ANSWERS_BY_ADDRESS, ANSWERS_BY_ADDRESS);
        self.by_address.entry(household(address), fresh).take(now, 1)
    }

    /// Whether somebody who has asked us may be pinged.
    pub(super) fn admit_ping(&mut self, now: Instant) -> bool {
        self.pings.take(now, 1)
    }

    /// Takes an answer out of the budget of all; `false`: it must not be sent.
    pub(super) fn spend(&mut self, now: Instant, bytes: usize) -> bool {
        self.all.take(now, bytes as u64)
    }
}

/// Who shares an allowance: an address of the world whatever its port, of IPv6 its first half; of inner addresses each port, for
/// many nodes may share one.
fn household(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if is_inner(ip) => address,
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, 0),
        IpAddr::V6(v6) => SocketAddr::new(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_remembered_and_what_is_not_is_forgotten() {
        let mut recent = Recent::new(10);
        for key in 0..1000 {
            *recent.entry(key, || 0) += 1;
            *recent.entry(-1, || 0) += 1;
            if key % 9 == 0 {
                *recent.entry(-2, || 0) += 1;
            }
            assert!(recent.young.len() + recent.old.len() <= 20);
        }
        assert_eq!(recent.get(&-1), Some(&1000));
        assert_eq!(recent.get(&-2), Some(&112));
        assert_eq!(recent.get(&0), None);
    }

    #[test]
    fn an_address_gets_ten_answers_a_second_and_all_together_a_mebibyte_a_minute() {
        let start = Instant::now();
        let mut limits = AnswerLimits::new(start);
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        let ports = (1..=40).map(|port| SocketAddr::new(at("9.9.9.9:1").ip(), port));
        assert_eq!(ports.filter(|&address| limits.admit(start, address)).count(), 10);
        let inner = (1..=40).map(|port| SocketAddr::new(at("127.0.0.1:1").ip(), port));
        assert_eq!(inner.filter(|&address| limits.admit(start, address)).count(), 40);
        let second = start + Duration::from_secs(1);
        assert_eq!((0..40).filter(|_| limits.admit(second, at("9.9.9.9:7"))).count(), 10);
        let mut sent = 0;
        for tenth in 0..600 {
            while limits.spend(start + Duration::from_millis(100 * tenth), 500) {
                sent += 500;
            }
        }
        assert!((1 << 19..=1 << 20).contains(&sent), "{sent}");
    }

    #[test]
    fn who_has_shown_nothing_gets_twice_what_came() {
        let start = Instant::now();
        let mut limits = AnswerLimits::new(start);
        let address = "9.9.9.9:1".parse().unwrap();
        assert_eq!(limits.reply_limit(start, address, 100), 200);
        limits.prove(start, address);
        assert_eq!(limits.reply_limit(start, address, 100), MAX_REPLY);
        assert_eq!(limits.reply_limit(start, "9.9.9.9:2".parse().unwrap(), 100), 200);
        assert_eq!(limits.reply_limit(start + PROOF, address, 100), 200);
    }
}
