//! What is remembered of addresses, of so many of them.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Addresses of which something is remembered; of more, the ones that were met last.
const MAX_REMEMBERED: usize = 2000;

/// One thing about each address, e.g. what has worked with it.
#[derive(Debug)]
pub(super) struct Remembered<T> {
    known: HashMap<SocketAddr, T>,
    /// The same addresses, in the order in which they were met first.
    order: VecDeque<SocketAddr>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Remembered<T> {
        Remembered { known: HashMap::new(), order: VecDeque::new() }
    }
}

impl<T: Copy> Remembered<T> {
    /// What is known of an address.
    pub(super) fn get(&self, address: SocketAddr) -> Option<T> {
        self.known.get(&address).copied()
    }

    /// From now on this is known of it.
    pub(super) fn set(&mut self, address: SocketAddr, thing: T) {
        if self.known.insert(address, thing).is_none() {
            self.order.push_back(address);
            if self.order.len() > MAX_REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }

    /// The same, unless something is known already: what others say counts for less.
    pub(super) fn set_if_unknown(&mut self, address: SocketAddr, thing: T) {
        if !self.known.contains_key(&address) {
            self.set(address, thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_so_many_it_is_remembered() {
        let mut remembered = Remembered::default();
        let at = |number: usize| SocketAddr::from(([10, 0, (number / 256) as u8, number as u8], 1));
        (0..=MAX_REMEMBERED).for_each(|number| remembered.set(at(number), 'a'));
        remembered.set(at(1), 'b');
        remembered.set_if_unknown(at(2), 'c');
        assert_eq!((remembered.known.len(), remembered.order.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        assert_eq!([0, 1, 2].map(|number| remembered.get(at(number))), [None, Some('b'), Some('a')]);
    }
}
