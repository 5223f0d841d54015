//! Which address we have outside, as others say (BEP 42): nobody alone is believed.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::api::Family;
use crate::address::{Machine, Subnet, is_inner};

/// Votes that are counted: the latest.
const MAX_VOTES: usize = 40;

/// So many must agree, and be two thirds of all that are counted.
const MAJORITY: usize = 8;

/// Who voted: all of a subnet have one vote, of an inner network each machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Voter {
    Subnet(Subnet),
    Machine(Machine),
}

/// The count of the votes.
#[derive(Debug)]
pub(super) struct AddressVote {
    family: Family,
    /// What we take our address to be.
    address: Option<IpAddr>,
    /// Somebody told it who must know.
    is_certain: bool,
    /// The latest vote of each voter, the oldest in front; at most [`MAX_VOTES`].
    votes: VecDeque<(Voter, IpAddr)>,
}

impl AddressVote {
    /// Begins with the address of an earlier run, which the first majority overrules.
    pub(super) fn new(family: Family, address: Option<IpAddr>) -> AddressVote {
        AddressVote { family, address: None, is_certain: false, votes: VecDeque::new() }
            .beginning_with(address)
    }

    fn beginning_with(mut self, address: Option<IpAddr>) -> AddressVote {
        self.address = address.filter(|&ip| self.is_possible(ip));
        self
    }

    /// The address that we take to be ours.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// An address of the world, of our family. Inner addresses tell nothing: ids need not fit them.
    fn is_possible(&self, ip: IpAddr) -> bool {
        self.family.has(ip) && !is_inner(ip)
    }

    /// Counts a vote, or without a voter takes the address as certain; returns whether our address is another one now.
    pub(super) fn hear(&mut self, ip: IpAddr, from: Option<SocketAddr>) -> bool {
        if !self.is_possible(ip) {
            return false;
        }
        let Some(from) = from else {
            self.is_certain = true;
            return self.address.replace(ip) != Some(ip);
        };
        let voter = Subnet::at(from).map_or(Voter::Machine(Machine::at(from)), Voter::Subnet);
        self.votes.retain(|(earlier, _)| *earlier != voter);
        if self.votes.len() == MAX_VOTES {
            self.votes.pop_front();
        }
        self.votes.push_back((voter, ip));
        let agreeing = self.votes.iter().filter(|(_, other)| *other == ip).count();
        let is_elected = agreeing >= MAJORITY && 3 * agreeing >= 2 * self.votes.len();
        is_elected && !self.is_certain && self.address.replace(ip) != Some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote() -> AddressVote {
        AddressVote::new(Family::V4, None)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn voter(subnet: u8) -> Option<SocketAddr> {
        Some(SocketAddr::from(([9, 9, subnet, 1], 1)))
    }

    #[test]
    fn an_address_is_ours_once_enough_subnets_say_so() {
        let mut vote = vote();
        for subnet in 0..7 {
            assert!(!vote.hear(ip("8.8.8.8"), voter(subnet)));
            assert!(!vote.hear(ip("8.8.8.8"), voter(subnet)), "one voter has one vote");
        }
        assert!(vote.hear(ip("8.8.8.8"), voter(7)));
        assert!(!vote.hear(ip("8.8.8.8"), voter(8)), "it is known by now");
        assert_eq!(vote.address(), Some(ip("8.8.8.8")));
    }

    #[test]
    fn a_third_that_lies_changes_nothing_and_a_new_address_is_learnt() {
        let mut vote = vote();
        for subnet in 0..30 {
            let claimed = if subnet % 3 == 0 { "6.6.6.6" } else { "8.8.8.8" };
            vote.hear(ip(claimed), voter(subnet));
        }
        assert_eq!(vote.address(), Some(ip("8.8.8.8")));
        for subnet in 0..40 {
            vote.hear(ip("7.7.7.7"), voter(100 + subnet));
        }
        assert_eq!(vote.address(), Some(ip("7.7.7.7")));
    }

    #[test]
    fn inner_addresses_and_those_of_the_other_family_are_no_votes() {
        let mut vote = vote();
        for subnet in 0..40 {
            for claimed in ["127.0.0.1", "192.168.0.7", "2001:db8::1", "::ffff:8.8.8.8"] {
                assert!(!vote.hear(ip(claimed), voter(subnet)));
            }
        }
        assert!(!vote.hear(ip("10.0.0.1"), None));
        assert_eq!(vote.address(), None);
    }

    #[test]
    fn what_is_certain_is_not_outvoted() {
        let mut vote = vote();
        assert!(vote.hear(ip("8.8.8.8"), None));
        assert!((0..60).all(|subnet| !vote.hear(ip("6.6.6.6"), voter(subnet))));
        assert!(vote.hear(ip("7.7.7.7"), None));
        assert_eq!(vote.address(), Some(ip("7.7.7.7")));
    }
}
