//! The words in which the edges speak with the machine: what it is told, and what it says in return.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// What a mapping lets through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Packets.
    Udp,
}

/// How a gateway is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Port Control Protocol (RFC 6887).
    Pcp,
    /// NAT Port Mapping Protocol (RFC 6886).
    NatPmp,
    /// Internet Gateway Device, version 1 or 2, of UPnP.
    Upnp,
}

impl Method {
    /// Its name in events.
    pub fn name(self) -> &'static str {
        match self {
            Method::Pcp => "pcp",
            Method::NatPmp => "nat-pmp",
            Method::Upnp => "upnp",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Pcp => "PCP",
            Method::NatPmp => "NAT-PMP",
            Method::Upnp => "UPnP",
        })
    }
}

/// A network by which this machine reaches others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// The address of this machine there.
    pub local: IpAddr,
    /// The router by which the rest of the world is reached, of the same family.
    pub router: Option<IpAddr>,
    /// The number of the interface.
    pub interface: u32,
}

/// What a mapping is like that a gateway has made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// What it lets through.
    pub protocol: Protocol,
    /// How the gateway was asked.
    pub method: Method,
    /// The gateway.
    pub gateway: IpAddr,
    /// Whether the gateway is the router of its network, by which all that we send goes anyway.
    pub is_router: bool,
    /// The address outside, if the gateway has told it.
    pub external_ip: Option<IpAddr>,
    /// The port outside.
    pub external_port: u16,
    /// How long it lasts unless it is renewed; `None`: until it is removed.
    pub lifetime: Option<Duration>,
}

/// One request to a UPnP device, by HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceRequest {
    /// The address to send it from.
    pub from: Ipv4Addr,
    /// The host that has answered the search, and a port that it has named.
    pub to: SocketAddrV4,
    /// Path and query: ASCII, begins with `/`, holds nothing that may not stand in a request line.
    pub path: String,
    /// What is asked of it; `None`: its description.
    pub call: Option<SoapCall>,
}

/// A call of an action of a UPnP service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SoapCall {
    /// The value of the header `SOAPAction`.
    pub action: String,
    /// The body, as XML.
    pub body: String,
}

/// What a UPnP device has answered by HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceAnswer {
    /// The status of HTTP.
    pub status: u16,
    /// The body, at most [`super::MAX_DEVICE_ANSWER`] bytes.
    pub body: Vec<u8>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum PortMapInput<'a> {
    /// Whether the ports are to be mapped. Nothing is done before the first `true`; after a `false` all mappings are removed.
    Want(bool),
    /// These are the networks there are; the first [`super::MAX_NETWORKS`] count.
    Networks(&'a [Network]),
    /// The router of a network has sent a packet from the port of PCP and NAT-PMP.
    Packet {
        /// The network.
        network: Network,
        /// All of it.
        data: &'a [u8],
    },
    /// The router of a network has said that nothing listens at its port of PCP and NAT-PMP.
    Unreachable(Network),
    /// Somebody on a network has answered a search for UPnP devices.
    DeviceFound {
        /// The network.
        network: Network,
        /// Who, as the system tells it.
        from: SocketAddrV4,
        /// All of it.
        data: &'a [u8],
    },
    /// A request to a UPnP device has ended.
    Answered {
        /// Its number.
        exchange: u64,
        /// The answer, or why there is none, for people.
        answer: Result<DeviceAnswer, String>,
    },
}

/// What is to be done, or has been found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortMapOutput {
    /// Send this to the router of a network, port [`super::ROUTER_PORT`].
    Send {
        /// The network.
        network: Network,
        /// All of it.
        data: Vec<u8>,
    },
    /// Send this on a network to the group [`super::SSDP_GROUP`], and take answers from now on.
    Search {
        /// The network.
        network: Network,
        /// All of it.
        data: Vec<u8>,
    },
    /// No answer to a search on this network is of interest any more.
    EndSearch(Network),
    /// Ask a UPnP device, and give [`PortMapInput::Answered`] for this number, whatever comes of it.
    Ask {
        /// The number of this exchange; each is used once.
        exchange: u64,
        /// What is asked.
        request: DeviceRequest,
    },
    /// A gateway has mapped a port, or has changed the mapping. A renewal that changes nothing is not told.
    Mapped(Mapping),
    /// A gateway has not mapped a port, or none has been found. Told again only after a success, or with another reason.
    Failed {
        /// What should have been let through; `None`: it did not come to that.
        protocol: Option<Protocol>,
        /// How it was tried.
        method: Method,
        /// The gateway; `None`: none has answered.
        gateway: Option<IpAddr>,
        /// Why, for people; may hold words of strangers.
        reason: String,
    },
}
