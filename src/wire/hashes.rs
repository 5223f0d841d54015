//! Which hashes of a merkle tree a hash request is about, as the messages 21 to 23 name them (BEP 52).

use crate::hash::Sha256;

/// Bytes of a [`HashRange`] on the wire.
pub(super) const HASH_RANGE_LENGTH: usize = 48;

/// Hashes of one layer that are asked for at a time, at the most (BEP 52).
pub const MAX_HASHES: u32 = 512;

/// Layers of which a proof may have a hash: there is no file with a higher tree.
const MAX_UNCLES: u32 = 50;

/// The longest `hashes` message, the byte of its type included.
pub(super) const MAX_HASHES_LENGTH: u32 = 1 + HASH_RANGE_LENGTH as u32 + 32 * (MAX_HASHES + MAX_UNCLES);

/// Hashes of one layer of a file's merkle tree, and of those beside the way up from them. Anything may stand in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HashRange {
    /// The root of the tree.
    pub root: Sha256,
    /// Layers between the leaves and the hashes: 0 for the hashes of blocks.
    pub base: u32,
    /// The number of the first hash in its layer.
    pub index: u32,
    /// How many hashes; by BEP 52 a power of two from 2 on, of which `index` is a multiple.
    pub length: u32,
    /// Layers above `base` of which a hash is wanted, where it does not follow from the others.
    pub proof_layers: u32,
}

impl HashRange {
    /// Whether it may be asked for at all (BEP 52): so many hashes, and from such a place on.
    pub fn is_valid(&self) -> bool {
        (2..=MAX_HASHES).contains(&self.length)
            && self.length.is_power_of_two()
            && self.index.is_multiple_of(self.length)
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend(self.root.0);
        for number in [self.base, self.index, self.length, self.proof_layers] {
            out.extend(number.to_be_bytes());
        }
    }

    /// Reads one; `None` if there are fewer bytes than it takes.
    pub(super) fn decode(bytes: &[u8]) -> Option<HashRange> {
        let (root, numbers) = bytes.split_at_checked(32)?;
        let (numbers, _) = numbers.as_chunks();
        let &[base, index, length, proof_layers] = numbers.first_chunk()?;
        let [base, index, length, proof_layers] = [base, index, length, proof_layers].map(u32::from_be_bytes);
        Some(HashRange { root: Sha256::of_bytes(root)?, base, index, length, proof_layers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_from_2_to_512_at_their_own_places_may_be_asked_for() {
        let range = |index, length| HashRange { root: Sha256::ZERO, base: 0, index, length, proof_layers: 0 };
        for (index, length) in [(0, 2), (2, 2), (512, 512), (6, 2), (u32::MAX - 511, 512)] {
            assert!(range(index, length).is_valid(), "{length} from {index}");
        }
        for (index, length) in [(0, 0), (0, 1), (1, 2), (0, 3), (0, 1024), (256, 512), (0, u32::MAX)] {
            assert!(!range(index, length).is_valid(), "{length} from {index}");
        }
    }
}
