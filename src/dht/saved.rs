//! What a machine keeps from one run to the next.

use std::net::{IpAddr, SocketAddr};

use super::api::{Family, write_node};
use super::node_id::NodeId;
use crate::compact::write_ip;
use crate::hash::{Sha1, sha1};

/// Nodes that are kept: at most so many.
pub(super) const MAX_SAVED_NODES: usize = 300;

/// What a machine knew when it was asked to save: nodes to begin with, and its own name. The default is that of a machine that
/// has never run.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SavedTable {
    /// The network that it was a node of; `None`: it has never run.
    pub(super) family: Option<Family>,
    /// Its own id.
    pub(super) id: Option<NodeId>,
    /// The address that it has outside, as far as it knew.
    pub(super) external: Option<IpAddr>,
    /// Nodes that had answered; at most [`MAX_SAVED_NODES`], of one family.
    pub(super) nodes: Vec<(NodeId, SocketAddr)>,
}

/// With what a saved table begins: a name and the version of its layout.
const MAGIC: &[u8] = b"btget dht 1\n";

/// Bits of the byte behind the magic.
mod flags {
    /// The family: IPv6, or IPv4; neither in a table that says nothing.
    pub(super) const V6: u8 = 1;
    pub(super) const V4: u8 = 8;
    /// The node's own id follows.
    pub(super) const ID: u8 = 2;
    /// The external address follows that.
    pub(super) const EXTERNAL: u8 = 4;
}

impl SavedTable {
    /// Whether it holds no node.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes alone, for a machine that is another node than the one that has saved them.
    #[must_use]
    pub fn without_id(self) -> SavedTable {
        SavedTable { id: None, ..self }
    }

    /// The bytes of a file: the magic, flags, what they announce, the nodes as in `nodes` or `nodes6`, and the SHA-1 of all that.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        bytes.push(
            flag(self.family == Some(Family::V6), flags::V6)
                | flag(self.family == Some(Family::V4), flags::V4)
                | flag(self.id.is_some(), flags::ID)
                | flag(self.external.is_some(), flags::EXTERNAL),
        );
        bytes.extend(self.id.into_iter().flat_map(|id| id.0));
        if let Some(ip) = self.external {
            write_ip(ip, &mut bytes);
        }
        self.nodes.iter().take(MAX_SAVED_NODES).for_each(|node| write_node(node, &mut bytes));
        let checksum = sha1(&bytes);
        bytes.extend(checksum.0);
        bytes
    }

    /// Reads the bytes of a file. What is damaged, of another version or of the other family is as good as nothing: an empty table.
    pub fn decode(bytes: &[u8], family: Family) -> SavedTable {
        let saved = bytes
            .split_last_chunk()
            .filter(|(body, checksum)| sha1(body) == Sha1(**checksum))
            .and_then(|(body, _)| SavedTable::read(body, family));
        saved.unwrap_or_default()
    }

    fn read(body: &[u8], family: Family) -> Option<SavedTable> {
        let (&flags, mut rest) = body.strip_prefix(MAGIC)?.split_first()?;
        let expected = if family == Family::V6 { flags::V6 } else { flags::V4 };
        if flags & (flags::V4 | flags::V6) != expected {
            return None;
        }
        let mut take = |has: bool, length: usize| {
            let (field, after) = rest.split_at_checked(if has { length } else { 0 })?;
            rest = after;
            Some(field)
        };
        let id = NodeId::read(take(flags & flags::ID != 0, NodeId::LENGTH)?);
        let external = family.read_ip(take(flags & flags::EXTERNAL != 0, family.ip_length())?);
        let nodes = rest.chunks_exact(family.node_length()).take(MAX_SAVED_NODES);
        Some(SavedTable {
            family: Some(family),
            id,
            external,
            nodes: nodes.filter_map(|node| family.read_node(node)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(family: Family, nodes: u16) -> SavedTable {
        let ip = |last: u16| match family {
            Family::V4 => IpAddr::from([192, 0, 2, last as u8]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]),
        };
        let node = |at: u16| (NodeId([at as u8; 20]), SocketAddr::new(ip(at), 1000 + at));
        SavedTable {
            family: Some(family),
            id: Some(NodeId([9; 20])),
            external: Some(ip(200)),
            nodes: (0..nodes).map(node).collect(),
        }
    }

    #[test]
    fn what_is_saved_is_read_back_by_its_own_family_only() {
        for family in [Family::V4, Family::V6] {
            let saved = table(family, 30);
            assert_eq!(SavedTable::decode(&saved.encode(), family), saved);
            assert_eq!(SavedTable::decode(&saved.encode(), family.other()), SavedTable::default());
            assert_eq!(SavedTable::decode(&table(family, 900).encode(), family).nodes.len(), MAX_SAVED_NODES);
        }
        let empty = SavedTable::default();
        for family in [Family::V4, Family::V6] {
            assert_eq!(SavedTable::decode(&empty.encode(), family), empty);
            // A node that has not met anybody yet has an id all the same.
            let lonely = SavedTable { external: None, nodes: vec![], ..table(family, 0) };
            assert_eq!(SavedTable::decode(&lonely.encode(), family), lonely);
            assert_eq!(SavedTable::decode(&lonely.encode(), family.other()), empty);
        }
    }

    #[test]
    fn a_damaged_table_is_an_empty_one_wherever_the_damage_is() {
        let bytes = table(Family::V4, 3).encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(SavedTable::decode(&damaged, Family::V4), SavedTable::default(), "byte {at}");
            assert_eq!(SavedTable::decode(&bytes[..at], Family::V4), SavedTable::default(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_under_a_right_checksum_is_read_without_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            has_magic: bool,
        ) {
            if has_magic {
                bytes.splice(0..0, MAGIC.iter().copied());
            }
            let checksum = sha1(&bytes);
            bytes.extend(checksum.0);
            for family in [Family::V4, Family::V6] {
                let saved = SavedTable::decode(&bytes, family);
                prop_assert!(saved.nodes.iter().all(|(_, address)| address.is_ipv6() == (family == Family::V6)));
            }
        }
    }
}
