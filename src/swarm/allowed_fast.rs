//! The pieces that a peer may ask for though it is choked (BEP 6, "Allowed Fast Set Generation").

use std::net::IpAddr;

use crate::hash::sha1;
use crate::ids::WireHash;
use crate::layout::PieceIndex;

/// Pieces in the set; BEP 6 suggests 10.
pub(super) const SET_SIZE: usize = 10;

/// The set for a peer at `ip`: the same whenever it comes back, from anywhere in its /24. BEP 6
/// defines it for IPv4 alone; for IPv6 it is empty.
pub(super) fn allowed_fast_set(ip: IpAddr, info_hash: WireHash, num_pieces: u32) -> Vec<PieceIndex> {
    let IpAddr::V4(v4) = ip.to_canonical() else { return Vec::new() };
    let [a, b, c, _] = v4.octets();
    let size = SET_SIZE.min(num_pieces as usize);
    let mut set: Vec<PieceIndex> = Vec::with_capacity(size);
    let mut x = [&[a, b, c, 0][..], &info_hash.0].concat();
    while set.len() < size {
        let digest = sha1(&x);
        for chunk in digest.0.chunks_exact(4) {
            let number = chunk.iter().fold(0u32, |number, &byte| number << 8 | u32::from(byte));
            let piece = PieceIndex(number % num_pieces);
            if set.len() < size && !set.contains(&piece) {
                set.push(piece);
            }
        }
        x = digest.0.to_vec();
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_sets_of_the_bep() {
        let ip = "80.4.4.200".parse().unwrap();
        let set = allowed_fast_set(ip, WireHash([0xaa; 20]), 1313);
        let indices: Vec<u32> = set.iter().map(|piece| piece.0).collect();
        // BEP 6's example lists the first seven and nine of the same sequence.
        assert_eq!(indices[..9], [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
        assert_eq!(allowed_fast_set(ip, WireHash([0xaa; 20]), 3).len(), 3);
    }
}
