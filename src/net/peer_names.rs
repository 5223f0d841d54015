//! Peers that are known by their names alone, for the proxy looks these up: each has an address that stands for it here.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::address::{is_stand_in, stand_in};
use crate::proxy::Target;

/// Names that are remembered, and as many again that the user has given. Of others than the user's first thousand, the one that was named the
/// longest time ago is forgotten for a new one: a tracker may name a thousand that lead nowhere.
pub(super) const MAX_NAMES: usize = 1000;

/// A name, and the address that stands for it.
#[derive(Debug)]
struct Named {
    address: SocketAddr,
    target: Target,
}

/// The names and their addresses.
#[derive(Debug, Default)]
pub(super) struct PeerNames {
    /// Those that the user has given, as far as there is room. At most [`MAX_NAMES`].
    users: Vec<Named>,
    /// The others, the latest at the end. At most [`MAX_NAMES`].
    others: VecDeque<Named>,
    /// The number of the latest address.
    last: u16,
}

impl PeerNames {
    /// The address that stands for a target, which is remembered for good if the user names it.
    pub(super) fn stand_in(&mut self, target: Target, is_users: bool) -> SocketAddr {
        if let Some(known) = self.users.iter().find(|known| known.target == target) {
            return known.address;
        }
        let known = self.others.iter().position(|known| known.target == target);
        let known = known.and_then(|at| self.others.remove(at));
        let port = match &target {
            Target::Address(address) => address.port(),
            Target::Name(_, port) => *port,
        };
        let address = known.map_or_else(|| self.next_address(port), |known| known.address);
        let named = Named { address, target };
        if is_users && self.users.len() < MAX_NAMES {
            self.users.push(named);
            return address;
        }
        if self.others.len() == MAX_NAMES {
            self.others.pop_front();
        }
        self.others.push_back(named);
        address
    }

    /// Whom an address stands for, as far as that is remembered.
    pub(super) fn get(&self, address: SocketAddr) -> Option<&Target> {
        let mut all = self.users.iter().chain(&self.others);
        is_stand_in(address).then(|| all.find(|known| known.address == address))?.map(|known| &known.target)
    }

    /// One that stands for nobody. There are more numbers than names.
    fn next_address(&mut self, port: u16) -> SocketAddr {
        loop {
            self.last = self.last.wrapping_add(1);
            let address = stand_in(self.last, port);
            if self.get(address).is_none() {
                return address;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Target {
        Target::new(&format!("n{number}.example"), 7).unwrap()
    }

    #[test]
    fn a_name_keeps_its_address_and_a_further_one_takes_that_of_nobody() {
        let mut names = PeerNames::default();
        let first = names.stand_in(name(1), false);
        assert_eq!(names.stand_in(name(1), false), first);
        // Also if the user names it too.
        assert_eq!(names.stand_in(name(1), true), first);
        assert_eq!(names.stand_in(name(1), false), first);
        let second = names.stand_in(name(2), false);
        assert_ne!(first, second);
        assert_eq!((names.get(first), names.get(second)), (Some(&name(1)), Some(&name(2))));
    }

    #[test]
    fn a_flood_of_names_forgets_the_oldest_and_none_of_the_users() {
        let mut names = PeerNames::default();
        let users = names.stand_in(name(0), true);
        let oldest = names.stand_in(name(1), false);
        let named_again = names.stand_in(name(2), false);
        // Around the end of all numbers that there are.
        names.last = u16::MAX - 500;
        for number in 3..2000 {
            assert_eq!(names.stand_in(name(2), false), named_again);
            let address = names.stand_in(name(number), false);
            assert!(address != users && address != named_again, "{number}");
        }
        assert_eq!((names.users.len(), names.others.len()), (1, MAX_NAMES));
        assert_eq!((names.get(users), names.get(named_again)), (Some(&name(0)), Some(&name(2))));
        assert_ne!(names.get(oldest), Some(&name(1)));
    }

    #[test]
    fn of_more_names_of_the_user_than_there_is_room_for_the_first_are_remembered_for_good() {
        let mut names = PeerNames::default();
        let first = names.stand_in(name(0), true);
        for number in 1..3 * MAX_NAMES {
            names.stand_in(name(number), true);
        }
        assert_eq!((names.users.len(), names.others.len()), (MAX_NAMES, MAX_NAMES));
        assert_eq!(names.get(first), Some(&name(0)));
    }
}
