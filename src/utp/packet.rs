//! Packets of uTP (BEP 29): the header of 20 bytes, its extensions, and the numbers in it that wrap.

/// Bytes of a header without extensions.
pub(super) const HEADER_LENGTH: usize = 20;

/// The version of the protocol that there is.
const VERSION: u8 = 1;

/// The extension that names packets which have come though others before them have not.
const SELECTIVE_ACK: u8 = 1;

/// Bytes of a selective acknowledgement that are sent at the most: the length stands in one byte, and is a multiple of 4.
pub(super) const MAX_SELECTIVE_ACK: usize = 252;

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketKind {
    /// `ST_DATA`: it carries data.
    Data = 0,
    /// `ST_FIN`: the last one with a number of its own.
    Fin = 1,
    /// `ST_STATE`: it acknowledges, and has no number of its own.
    State = 2,
    /// `ST_RESET`: the connection is gone.
    Reset = 3,
    /// `ST_SYN`: the first one.
    Syn = 4,
}

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the packet is for.
    pub kind: PacketKind,
    /// The connection, by the number that its receiver knows it by. Of a SYN: by that of its sender.
    pub connection_id: u16,
    /// When it was sent, in microseconds of a clock that its sender alone knows.
    pub timestamp: u32,
    /// How long the last packet of the other side was under way: the difference of the two clocks, in microseconds. 0: none has come.
    pub timestamp_difference: u32,
    /// Bytes that the sender has room for.
    pub wnd_size: u32,
    /// The packet's number; of a STATE that of the next one.
    pub seq_nr: u16,
    /// The last number up to which everything has come.
    pub ack_nr: u16,
}

/// A packet as it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// What its header says.
    pub header: Header,
    /// A bit for each packet from `ack_nr + 2` on, the lowest of the first byte first: whether it has come. Any length.
    pub selective_ack: &'a [u8],
    /// The data.
    pub payload: &'a [u8],
}

/// Whether a datagram looks like a packet of uTP: its first byte is type and version. Those of the DHT begin with a `d`.
pub fn is_utp(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LENGTH
        && datagram[0] & 0x0f == VERSION
        && datagram[0] >> 4 <= PacketKind::Syn as u8
}

impl<'a> Packet<'a> {
    /// Reads a datagram. Extensions that are not known are skipped. `None`: it is no packet of uTP, or cut.
    pub fn decode(datagram: &'a [u8]) -> Option<Packet<'a>> {
        if !is_utp(datagram) {
            return None;
        }
        let kind = match datagram[0] >> 4 {
            0 => PacketKind::Data,
            1 => PacketKind::Fin,
            2 => PacketKind::State,
            3 => PacketKind::Reset,
            _ => PacketKind::Syn,
        };
        let two = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
        let four = |at: usize| u32::from(two(at)) << 16 | u32::from(two(at + 2));
        let header = Header {
            kind,
            connection_id: two(2),
            timestamp: four(4),
            timestamp_difference: four(8),
            wnd_size: four(12),
            seq_nr: two(16),
            ack_nr: two(18),
        };
        let (mut extension, mut rest) = (datagram[1], &datagram[HEADER_LENGTH..]);
        let mut selective_ack: &[u8] = &[];
        while extension != 0 {
            let (&[next, length], behind) = rest.split_first_chunk::<2>()?;
            let (body, behind) = behind.split_at_checked(length.into())?;
            if extension == SELECTIVE_ACK {
                selective_ack = body;
            }
            (extension, rest) = (next, behind);
        }
        Some(Packet { header, selective_ack, payload: rest })
    }
}

impl Header {
    /// Appends the header, with a selective acknowledgement if there is one: a multiple of 4 bytes, [`MAX_SELECTIVE_ACK`] at the most.
    pub fn encode_into(&self, selective_ack: &[u8], out: &mut Vec<u8>) {
        let extension = if selective_ack.is_empty() { 0 } else { SELECTIVE_ACK };
        let mut bytes = [0; HEADER_LENGTH];
        bytes[0] = (self.kind as u8) << 4 | VERSION;
        bytes[1] = extension;
        bytes[2..4].copy_from_slice(&self.connection_id.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.timestamp_difference.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.wnd_size.to_be_bytes());
        bytes[16..18].copy_from_slice(&self.seq_nr.to_be_bytes());
        bytes[18..20].copy_from_slice(&self.ack_nr.to_be_bytes());
        out.extend_from_slice(&bytes);
        if extension != 0 {
            out.extend_from_slice(&[0, selective_ack.len() as u8]);
            out.extend_from_slice(selective_ack);
        }
    }
}

/// The number that does not wrap of a packet with this `seq_nr`: the one that is nearest to `near`. Numbers begin at 2^16, so that there is
/// always one before.
pub(super) fn unwrap(seq_nr: u16, near: u64) -> u64 {
    let distance = seq_nr.wrapping_sub(near as u16) as i16;
    near.wrapping_add_signed(distance.into())
}

/// The first number that stands for this `seq_nr`.
pub(super) fn first_number(seq_nr: u16) -> u64 {
    (1 << 16) + u64::from(seq_nr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = PacketKind> {
        use PacketKind::*;
        prop_oneof![Just(Data), Just(Fin), Just(State), Just(Reset), Just(Syn)]
    }

    proptest! {
        #[test]
        fn a_packet_is_read_as_it_was_written(
            kind in kinds(),
            (connection_id, seq_nr, ack_nr) in any::<(u16, u16, u16)>(),
            (timestamp, timestamp_difference, wnd_size) in any::<(u32, u32, u32)>(),
            words in 0usize..=63,
            payload in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let header =
                Header { kind, connection_id, timestamp, timestamp_difference, wnd_size, seq_nr, ack_nr };
            let selective_ack = vec![0x5a; words * 4];
            let mut bytes = Vec::new();
            header.encode_into(&selective_ack, &mut bytes);
            bytes.extend(&payload);
            let read = Packet { header, selective_ack: &selective_ack, payload: &payload };
            prop_assert_eq!(Packet::decode(&bytes), Some(read));
        }

        #[test]
        fn random_bytes_never_panic(first in 0u8..=255, rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [vec![first], rest].concat();
            if let Some(packet) = Packet::decode(&bytes) {
                prop_assert!(is_utp(&bytes));
                prop_assert!(packet.payload.len() + packet.selective_ack.len() + HEADER_LENGTH <= bytes.len());
            }
        }

        #[test]
        fn a_number_is_found_again_by_its_last_16_bits(near in (1u64 << 16)..1 << 40, off in -32768i64..32768) {
            let number = near.wrapping_add_signed(off);
            prop_assert_eq!(unwrap(number as u16, near), number);
        }
    }

    #[test]
    fn a_syn_of_libutp_with_its_extension_bits_is_read() {
        let mut bytes = vec![0x41, 2, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0];
        bytes.extend([0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        let packet = Packet::decode(&bytes).unwrap();
        assert_eq!((packet.header.kind, packet.header.connection_id), (PacketKind::Syn, 0x1234));
        assert_eq!((packet.header.seq_nr, packet.header.wnd_size), (1, 0x10_0000));
        assert!(packet.payload.is_empty() && packet.selective_ack.is_empty());
    }

    #[test]
    fn what_is_cut_or_something_else_is_no_packet() {
        let mut whole = vec![0x21, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 4, 1, 0, 0, 0];
        assert_eq!(Packet::decode(&whole).unwrap().selective_ack, [1, 0, 0, 0]);
        for length in 0..whole.len() {
            assert_eq!(Packet::decode(&whole[..length]), None, "{length}");
        }
        for first in [0x20, 0x22, 0x51, b'd', 0xff] {
            whole[0] = first;
            assert_eq!(Packet::decode(&whole), None, "{first}");
        }
    }
}
