//! How long a datagram may be on the path (RFC 4821): begins with what every path takes, and tries longer ones, each of which carries data and
//! must not be fragmented. No path is asked, so that one which drops ICMP costs a few packets and no more.

use std::net::SocketAddr;

/// Bytes of a UDP datagram that every path takes: 576 of IPv4, 1280 of IPv6, less the headers of IP and UDP.
const FLOOR: [usize; 2] = [576 - 28, 1280 - 48];

/// Bytes of a UDP datagram that Ethernet takes. Others read no longer ones.
const CEILING: [usize; 2] = [1500 - 28, 1500 - 48];

/// Nothing is tried for the sake of so few bytes more.
const STEP: usize = 16;

/// How often a length is tried before it counts as too long: a datagram may also be lost in a queue.
const ATTEMPTS: u8 = 2;

/// What is known of the path.
#[derive(Debug)]
pub(super) struct PathMtu {
    floor: usize,
    /// The longest that is known to pass.
    passes: usize,
    /// The longest that may pass.
    ceiling: usize,
    /// What is tried next.
    next: usize,
    /// The length of the one that is under way.
    under_way: Option<usize>,
    /// How often `next` was lost.
    lost: u8,
}

impl PathMtu {
    /// Of a path to this address of which nothing is known.
    pub(super) fn new(address: SocketAddr) -> PathMtu {
        let family = usize::from(address.ip().to_canonical().is_ipv6());
        let (floor, ceiling) = (FLOOR[family], CEILING[family]);
        PathMtu { floor, passes: floor, ceiling, next: ceiling, under_way: None, lost: 0 }
    }

    /// Bytes of a datagram that passes.
    pub(super) fn passes(&self) -> usize {
        self.passes
    }

    /// The length of a datagram to be tried now, as the probe that is then under way.
    pub(super) fn wants_probe(&self) -> Option<usize> {
        (self.under_way.is_none() && self.ceiling >= self.passes + STEP).then_some(self.next)
    }

    /// A datagram of the length of [`PathMtu::wants_probe`] is sent.
    pub(super) fn on_probe_sent(&mut self) {
        self.under_way = Some(self.next);
    }

    /// The probe has come through.
    pub(super) fn on_probe_passed(&mut self) {
        if let Some(length) = self.under_way.take() {
            self.passes = self.passes.max(length);
            self.choose();
        }
    }

    /// The probe is lost. `is_certain`: for its length, as our own system says.
    pub(super) fn on_probe_lost(&mut self, is_certain: bool) {
        if let Some(length) = self.under_way.take() {
            self.lost += 1;
            if is_certain || self.lost >= ATTEMPTS {
                self.ceiling = (length - 1).max(self.passes);
                self.choose();
            }
        }
    }

    /// Datagrams that passed before do so no more: only what every path takes is sent from now on.
    pub(super) fn on_black_hole(&mut self) {
        if self.passes > self.floor {
            self.ceiling = self.passes - 1;
            self.passes = self.floor;
            self.under_way = None;
            self.choose();
        }
    }

    fn choose(&mut self) {
        self.lost = 0;
        self.next = (self.passes + self.ceiling).div_ceil(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries until nothing is tried any more; gives what passes then, and how many were lost.
    fn explore(mtu: &mut PathMtu, limit: usize, is_certain: bool) -> (usize, usize) {
        let mut lost = 0;
        while let Some(length) = mtu.wants_probe() {
            mtu.on_probe_sent();
            assert_eq!(mtu.wants_probe(), None, "one at a time");
            if length <= limit {
                mtu.on_probe_passed();
            } else {
                mtu.on_probe_lost(is_certain);
                lost += 1;
            }
        }
        (mtu.passes(), lost)
    }

    #[test]
    fn the_longest_that_passes_is_found_with_few_losses() {
        for address in ["192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1"] {
            for is_certain in [false, true] {
                for limit in [548, 1232, 1252, 1372, 1400, 1452, 1472, 9000] {
                    let mut mtu = PathMtu::new(address.parse().unwrap());
                    let (floor, ceiling) = (mtu.passes(), mtu.ceiling);
                    let limit = limit.max(floor);
                    let (passes, lost) = explore(&mut mtu, limit, is_certain);
                    assert!(passes <= limit && passes + STEP > limit.min(ceiling), "{limit}: {passes}");
                    assert!(lost <= 18, "{limit}: {lost}");
                }
            }
        }
    }

    #[test]
    fn after_a_black_hole_it_begins_again_with_what_every_path_takes() {
        let mut mtu = PathMtu::new("192.0.2.1:1".parse().unwrap());
        assert_eq!(explore(&mut mtu, 1472, false), (1472, 0));
        mtu.on_black_hole();
        assert_eq!(mtu.passes(), 548);
        let (passes, _) = explore(&mut mtu, 1300, false);
        assert!(passes > 1280 && passes <= 1300);
    }
}
