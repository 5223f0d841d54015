//! A set of short byte strings that grows to millions: all of them lie in one buffer, so each costs
//! no allocation of its own, and the table never looks at them again when it grows. (With a
//! `HashSet<Box<[u8]>>` in its place, a torrent of 100,000 files takes twice the time to parse.)

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::ops::Range;

/// See the module.
#[derive(Default, Debug)]
pub(super) struct ByteSet {
    /// Keyed by chance, so a stranger cannot choose strings that collide.
    state: RandomState,
    /// Hash of a string -> where it lies. Where two have one hash, the later one goes by the next number that
    /// is free; nothing is ever removed, so a search that goes on to a free number finds it.
    places: HashMap<u64, Range<usize>, BuildHasherDefault<Hashed>>,
    buffer: Vec<u8>,
}

impl ByteSet {
    /// Adds `bytes`; whether they were not there yet.
    pub(super) fn insert(&mut self, bytes: &[u8]) -> bool {
        self.insert_at(self.state.hash_one(bytes), bytes)
    }

    fn insert_at(&mut self, mut hash: u64, bytes: &[u8]) -> bool {
        loop {
            match self.places.entry(hash) {
                Entry::Vacant(free) => {
                    let start = self.buffer.len();
                    self.buffer.extend_from_slice(bytes);
                    free.insert(start..self.buffer.len());
                    return true;
                }
                Entry::Occupied(place) if &self.buffer[place.get().clone()] == bytes => return false,
                Entry::Occupied(_) => hash = hash.wrapping_add(1),
            }
        }
    }
}

/// Passes on what is a hash already.
#[derive(Default, Debug)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_string_is_new_once() {
        let mut set = ByteSet::default();
        for round in 0..3 {
            for number in 0..1000u32 {
                assert_eq!(set.insert(&number.to_le_bytes()), round == 0);
            }
            assert_eq!(set.insert(b""), round == 0);
        }
    }

    #[test]
    fn strings_of_one_hash_are_told_apart() {
        let mut set = ByteSet::default();
        for (hash, bytes, new) in
            [(7, "a", true), (8, "b", true), (7, "c", true), (7, "c", false), (8, "b", false)]
        {
            assert_eq!(set.insert_at(hash, bytes.as_bytes()), new, "{bytes}");
        }
        assert!(!set.insert_at(7, b"a"));
    }
}
