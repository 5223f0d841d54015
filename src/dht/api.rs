//! The words in which the edges speak with the machine: what it is told, and what it says in return.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::node_id::NodeId;
use crate::compact;
use crate::filter::IpFilter;
use crate::ids::WireHash;

/// One of the two networks: nodes of IPv4 and nodes of IPv6 know only their own kind (BEP 32).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// Addresses of four bytes; nodes stand in `nodes`, as 26 bytes each.
    V4,
    /// Addresses of sixteen bytes; nodes stand in `nodes6`, as 38 bytes each.
    V6,
}

impl Family {
    /// Whether the address is one of this family. An IPv4 address in the clothes of an IPv6 address belongs to neither.
    pub fn has(self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => self == Family::V4,
            IpAddr::V6(v6) => self == Family::V6 && v6.to_ipv4_mapped().is_none(),
        }
    }

    /// The other one.
    pub fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    /// Bytes of an address without its port.
    pub(super) fn ip_length(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// Bytes of an address with its port ("compact" in BEP 5 and 32).
    pub(super) fn address_length(self) -> usize {
        self.ip_length() + 2
    }

    /// Bytes of a node in `nodes` or `nodes6`.
    pub(super) fn node_length(self) -> usize {
        NodeId::LENGTH + self.address_length()
    }

    /// Reads an address and its port.
    pub(super) fn read_address(self, bytes: &[u8]) -> Option<SocketAddr> {
        compact::read_address(bytes).filter(|_| bytes.len() == self.address_length())
    }

    /// Reads a node: its id and its address.
    pub(super) fn read_node(self, bytes: &[u8]) -> Option<(NodeId, SocketAddr)> {
        let (id, address) = bytes.split_at_checked(NodeId::LENGTH)?;
        Some((NodeId::read(id)?, self.read_address(address)?))
    }

    /// Reads an address without its port.
    pub(super) fn read_ip(self, bytes: &[u8]) -> Option<IpAddr> {
        compact::read_ip(bytes).filter(|_| bytes.len() == self.ip_length())
    }
}

/// Appends the bytes of a node: its id and its address.
pub(super) fn write_node(&(id, address): &(NodeId, SocketAddr), out: &mut Vec<u8>) {
    out.extend(id.0);
    compact::write_address(address, out);
}

/// What does not change in the life of a machine.
#[derive(Clone, Debug)]
pub struct DhtConfig {
    /// The network that it is a node of.
    pub family: Family,
    /// Others are told not to count on this node (BEP 43): it answers nothing and announces nothing.
    pub read_only: bool,
    /// The port on which this node listens, by TCP and by UDP; told in `announce_peer` unless [`DhtAnnounce`] says another.
    pub port: u16,
    /// Whether [`DhtOutput::Bootstrap`] may be asked for.
    pub bootstrap_wanted: bool,
    /// Seed of every random choice, and of every secret: whoever knows it can forge answers.
    pub seed: u64,
}

/// How much more peers would help a torrent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DhtHurry {
    /// It has nobody to talk to: looked up every minute, less often as look-ups remain without peers.
    Urgent,
    /// It goes on without, but not as well: looked up every 5 minutes, later every 15.
    Some,
    /// It needs none: looked up only where it is announced.
    None,
}

/// How a torrent is announced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DhtAnnounce {
    /// We have everything (BEP 33).
    pub seed: bool,
    /// The port by which the others see our packets is the one to call: that of [`DhtConfig`] may be another outside.
    pub implied_port: bool,
    /// The port outside for connections, where it is another than that of [`DhtConfig`].
    pub port: Option<u16>,
}

/// What is wanted for a torrent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DhtNeed {
    /// How urgently peers are needed.
    pub peers: DhtHurry,
    /// Whether, and how, to announce that we take part; `None` while the metadata are unknown.
    pub announce: Option<DhtAnnounce>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum DhtInput<'a> {
    /// A packet of UDP came in.
    Packet {
        /// Its sender, as the system tells it.
        from: SocketAddr,
        /// All of it.
        data: &'a [u8],
    },
    /// Somebody said that a node may be here: a bootstrap node, the torrent's `nodes`, a message `port` of a peer, or a node
    /// that the other family's machine has heard of.
    Node(SocketAddr),
    /// A torrent is to be looked up from now on, or what is wanted for it has changed.
    Follow {
        /// Under which hash; a hybrid torrent has two.
        hash: WireHash,
        /// What is wanted for it.
        need: DhtNeed,
    },
    /// A torrent is not looked up any more; a look-up of it that is under way ends without a word.
    Unfollow(WireHash),
    /// Somebody said which address we have outside.
    ExternalAddress {
        /// The address.
        ip: IpAddr,
        /// Who says so: a vote. `None`: it is certain (a port mapping).
        from: Option<SocketAddr>,
    },
    /// Good nodes of the other family, as its machine's [`super::Dht::good_nodes`] gives them: they are passed on to those who ask
    /// for both families (BEP 32, `want`). They take the place of those told before. Without them such a wish is met by half.
    OtherFamilyNodes(&'a [(NodeId, SocketAddr)]),
    /// Addresses that are no nodes to us from now on: they are neither asked nor answered, and lose their place in the table.
    Filter(Option<IpFilter>),
}

/// What is to be done, or has been found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DhtOutput {
    /// Send this packet; whether it arrives, the machine finds out by itself.
    Send {
        /// To whom.
        to: SocketAddr,
        /// All of it.
        data: Vec<u8>,
    },
    /// Somebody named peers of a torrent that this look-up has not found yet; or a peer has announced itself to us.
    Peers {
        /// The torrent.
        hash: WireHash,
        /// Who may be called; at most 100, no port is 0.
        peers: Vec<SocketAddr>,
        /// Who named them: a node, or the peer itself.
        from: SocketAddr,
    },
    /// A look-up of a torrent has ended, having been answered by somebody.
    LookedUp {
        /// The torrent.
        hash: WireHash,
        /// How many different peers were named.
        peers: usize,
        /// How many queries it took.
        nodes_asked: usize,
        /// How long it took.
        took: Duration,
    },
    /// The announces after a look-up have ended.
    Announced {
        /// The torrent.
        hash: WireHash,
        /// How many nodes have acknowledged it.
        nodes: usize,
    },
    /// The first good nodes are in the routing table. Told once.
    Started {
        /// How many are good by now.
        nodes: usize,
    },
    /// Nobody answers: look up the bootstrap nodes, and give those that are found as [`DhtInput::Node`]. Asked again, later and later, as
    /// long as nobody answers.
    Bootstrap,
    /// Nodes of the other family that were heard of (BEP 32), for its machine.
    OtherFamily(Vec<SocketAddr>),
}
