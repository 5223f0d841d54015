//! The names of things: which torrent, which connection, whose block.
//!
//! Plain values that are known to all rooms. What a torrent is called on the wire ([`WireHash`]) and which torrent of this
//! process a message is about ([`TorrentId`]) are different questions: a torrent that is removed and added again has the same
//! hashes, and a new id.

use std::fmt;
use std::net::SocketAddr;

use crate::hash::{Sha1, Sha256, read_hex};

/// One torrent in this process, from when it is added until it is removed; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TorrentId(u64);

/// One connection to a peer in this process; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerKey(pub u64);

/// One hash check of a torrent and the transfer that follows it, until the next check; never used again. What was begun
/// in an earlier round is void in a later one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Round(u64);

/// Somebody who reads a file of a torrent while it comes; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReaderKey(u64);

/// Which of the disk's threads see to a torrent: those of its device. The first are always there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DiskLane(pub usize);

/// Gives out the ids of one process, each once.
#[derive(Clone, Debug, Default)]
pub struct Counter(u64);

impl Counter {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    /// An id for a torrent that has just been added.
    pub fn torrent(&mut self) -> TorrentId {
        TorrentId(self.next())
    }

    /// So many ids of torrents.
    #[cfg(test)]
    pub fn torrents<const N: usize>() -> [TorrentId; N] {
        let mut counter = Counter::default();
        [(); N].map(|()| counter.torrent())
    }

    /// An id for a hash check that begins.
    pub fn round(&mut self) -> Round {
        Round(self.next())
    }

    /// A key for a connection that has just been made.
    pub fn peer(&mut self) -> PeerKey {
        PeerKey(self.next())
    }

    /// A key for somebody who begins to read.
    pub fn reader(&mut self) -> ReaderKey {
        ReaderKey(self.next())
    }
}

/// The 20 bytes by which a client calls itself, on the wire and to the tracker. Anything can stand
/// in them, and anyone can copy them: a hint for people, never a proof.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

/// What a torrent is called in 20 bytes: in handshakes (BEP 3), announces, the DHT (BEP 5) and local discovery (BEP 14).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireHash(pub [u8; 20]);

/// What a node of the DHT is called (BEP 5). Torrents are points of the same space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Sha1(self.0))
    }
}

impl fmt::Display for WireHash {
    /// In hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Sha1(self.0).fmt(f)
    }
}

impl fmt::Debug for WireHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for WireHash {
    type Err = InvalidWireHash;

    /// From 40 hexadecimal digits.
    fn from_str(text: &str) -> Result<WireHash, InvalidWireHash> {
        let mut hash = WireHash([0; 20]);
        read_hex(text, &mut hash.0).map(|()| hash).ok_or(InvalidWireHash)
    }
}

/// A text is no [`WireHash`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no 40 hexadecimal digits")]
pub struct InvalidWireHash;

/// The identity of a torrent's content: the hash of its `info` dictionary over the bytes as they stand, SHA-1 in
/// version 1 (BEP 3), SHA-256 in version 2 (BEP 52), both in a hybrid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InfoHashes {
    /// A torrent of version 1.
    V1(Sha1),
    /// A torrent of version 2.
    V2(Sha256),
    /// A torrent that can be read as either version.
    Hybrid(Sha1, Sha256),
}

impl Sha256 {
    /// Nothing but zeros: a leaf of a merkle tree behind the end of its file (BEP 52).
    pub const ZERO: Sha256 = Sha256([0; 32]);

    /// The digest that these 32 bytes are; `None` if they are more or fewer.
    pub fn of_bytes(bytes: &[u8]) -> Option<Sha256> {
        bytes.try_into().ok().map(Sha256)
    }
}

impl InfoHashes {
    /// That of version 1.
    pub fn v1(self) -> Option<Sha1> {
        match self {
            InfoHashes::V1(v1) | InfoHashes::Hybrid(v1, _) => Some(v1),
            InfoHashes::V2(_) => None,
        }
    }

    /// That of version 2.
    pub fn v2(self) -> Option<Sha256> {
        match self {
            InfoHashes::V2(v2) | InfoHashes::Hybrid(_, v2) => Some(v2),
            InfoHashes::V1(_) => None,
        }
    }

    /// Whether a torrent with these hashes is one with those, of which fewer may be known.
    pub fn include(self, known: InfoHashes) -> bool {
        known.v1().is_none_or(|v1| self.v1() == Some(v1)) && known.v2().is_none_or(|v2| self.v2() == Some(v2))
    }

    /// The swarms in which this torrent is found: those of version 2 go by the first 20 bytes of their hash (BEP 52).
    pub fn wire_hashes(self) -> impl Iterator<Item = WireHash> {
        let (first, second) = match self {
            InfoHashes::V1(v1) => (WireHash(v1.0), None),
            InfoHashes::V2(v2) => (truncated(v2), None),
            InfoHashes::Hybrid(v1, v2) => (WireHash(v1.0), Some(truncated(v2))),
        };
        std::iter::once(first).chain(second)
    }

    /// The first of [`InfoHashes::wire_hashes`]: what files of ours are named by.
    pub fn wire(self) -> WireHash {
        match self {
            InfoHashes::V1(v1) | InfoHashes::Hybrid(v1, _) => WireHash(v1.0),
            InfoHashes::V2(v2) => truncated(v2),
        }
    }
}

fn truncated(Sha256(hash): Sha256) -> WireHash {
    WireHash(std::array::from_fn(|at| hash[at]))
}

impl fmt::Display for InfoHashes {
    /// The hash by which people know the torrent: that of version 1, if it has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InfoHashes::V1(v1) | InfoHashes::Hybrid(v1, _) => v1.fmt(f),
            InfoHashes::V2(v2) => v2.fmt(f),
        }
    }
}

impl fmt::Debug for InfoHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Who gave us a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Source {
    /// The peer at this address.
    Peer(SocketAddr),
    /// The web seed of this number, from 0, among those of the torrent.
    Web(u16),
    /// An earlier run of ours left it on the disk, and nobody knows any more where it came from.
    Disk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_is_in_both_swarms_and_known_by_its_first_version() {
        let (v1, v2) = (Sha1([1; 20]), Sha256([2; 32]));
        let wire = |hashes: InfoHashes| hashes.wire_hashes().collect::<Vec<_>>();
        assert_eq!(wire(InfoHashes::V1(v1)), [WireHash([1; 20])]);
        assert_eq!(wire(InfoHashes::V2(v2)), [WireHash([2; 20])]);
        assert_eq!(wire(InfoHashes::Hybrid(v1, v2)), [WireHash([1; 20]), WireHash([2; 20])]);
        assert_eq!(InfoHashes::Hybrid(v1, v2).to_string(), "01".repeat(20));
        assert_eq!(InfoHashes::V2(v2).to_string(), "02".repeat(32));
        assert_eq!(InfoHashes::V2(v2).wire(), WireHash([2; 20]));
        let hybrid = InfoHashes::Hybrid(v1, v2);
        assert!(
            [InfoHashes::V1(v1), InfoHashes::V2(v2), hybrid].into_iter().all(|known| hybrid.include(known))
        );
        assert!(!InfoHashes::V1(v1).include(hybrid) && !hybrid.include(InfoHashes::V1(Sha1([3; 20]))));
    }

    #[test]
    fn no_id_is_given_out_twice() {
        let mut counter = Counter::default();
        assert!(counter.torrent() < counter.torrent());
        assert!(counter.peer() < counter.peer());
        assert!(counter.round() < counter.round());
    }
}
