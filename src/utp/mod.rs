//! uTP (BEP 29): connections over UDP that give way to others.
//!
//! Owns packets, connections, and which packet is for which of them ([`UtpEndpoint`]). Pure: no sockets, no clock, no randomness that is not
//! seeded. Knows nothing of what is sent.

mod congestion;
mod connection;
mod delay;
mod endpoint;
mod half_open;
mod mtu;
mod packet;
mod policy;
mod receiving;
mod rtt;
mod sending;
#[cfg(test)]
mod tests;
mod transmit;

pub use connection::{Connection, UtpEnd};
pub use endpoint::{UtpEndpoint, UtpKey, UtpPacket};
pub use packet::{Header, Packet, PacketKind, is_utp};
pub use policy::{Transport, TransportPolicy};
pub use transmit::Outbound;
