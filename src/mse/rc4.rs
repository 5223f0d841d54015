//! RC4, as fast as one stream of it goes.
//!
//! Each byte of the stream waits for the one before it, so what counts is how long that chain is: the entry that comes next is read before the two of
//! this step are exchanged (and put right where it is one of them), eight bytes of the stream are combined with the data at once, and an entry takes
//! a word: processors pass on what has just been stored sooner when it is one. The `rc4` crate, against which it is tested, takes more than twice
//! the time.

/// Bytes of the stream that are combined with the data at once.
const WORD: usize = 8;

/// The state of a stream.
pub(super) struct Rc4 {
    /// A permutation of all bytes.
    table: [u32; 256],
    /// Where the next step begins; below 256.
    next: usize,
    /// The other entry that the last step exchanged; below 256.
    other: usize,
}

impl Rc4 {
    /// The stream of a key, which has one byte at least.
    pub(super) fn new(key: &[u8]) -> Rc4 {
        let mut table = [0; 256];
        (0..).zip(&mut table).for_each(|(number, entry)| *entry = number);
        let mut other = 0;
        for (at, &byte) in (0..table.len()).zip(key.iter().cycle()) {
            other = (other + table[at] as usize + usize::from(byte)) & 255;
            table.swap(at, other);
        }
        Rc4 { table, next: 1, other: 0 }
    }

    /// Combines the next bytes of the stream with `bytes`.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let Rc4 { table, next, other } = self;
        let (mut at, mut with) = (*next, *other);
        let mut entry = table[at & 255] as usize;
        let mut step = || {
            with = (with + entry) & 255;
            let exchanged = table[with] as usize;
            let behind = (at + 1) & 255;
            let following = table[behind] as usize;
            table[at & 255] = exchanged as u32;
            table[with] = entry as u32;
            let following = if behind == with { entry } else { following };
            let byte = table[(entry + exchanged) & 255] as u8;
            (at, entry) = (behind, following);
            byte
        };
        let (words, rest) = bytes.as_chunks_mut::<WORD>();
        for word in words {
            let mut stream = 0;
            for place in 0..WORD {
                stream |= u64::from(step()) << (8 * place);
            }
            *word = (u64::from_le_bytes(*word) ^ stream).to_le_bytes();
        }
        rest.iter_mut().for_each(|byte| *byte ^= step());
        (*next, *other) = (at, with);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rc4::{KeyInit, StreamCipher};

    use super::*;

    #[test]
    fn the_streams_are_those_of_the_rfc() {
        // RFC 6229, the key of 40 bits: at offsets 0 and 1520.
        let mut bytes = [0; 1536];
        Rc4::new(&[1, 2, 3, 4, 5]).apply(&mut bytes);
        assert_eq!(bytes[..8], [0xb2, 0x39, 0x63, 0x05, 0xf0, 0x3d, 0xc0, 0x27]);
        assert_eq!(bytes[1520..1528], [0x32, 0x94, 0xf7, 0x44, 0xd8, 0xf9, 0x79, 0x05]);
    }

    proptest! {
        #[test]
        fn in_whatever_parts_it_is_the_stream_of_the_crate(
            key in proptest::collection::vec(any::<u8>(), 20),
            parts in proptest::collection::vec(0usize..700, 1..20),
        ) {
            let mut ours = vec![0; parts.iter().sum()];
            let mut theirs = ours.clone();
            let mut cipher = Rc4::new(&key);
            let mut rest = &mut ours[..];
            for part in parts {
                let (now, later) = rest.split_at_mut(part);
                cipher.apply(now);
                rest = later;
            }
            rc4::Rc4::new_from_slice(&key).unwrap().apply_keystream(&mut theirs);
            prop_assert!(ours == theirs);
        }
    }
}
