//! Local service discovery (BEP 14): the packets by which clients of one network find one another.
//!
//! Owns their shape. When to send them, and what to believe of them, is for `finder::lsd` to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ids::WireHash;

/// Where packets are sent to: the groups of both families.
pub const LSD_GROUPS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 192, 152, 143)), LSD_PORT),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f)), LSD_PORT),
];

/// The UDP port of both groups.
pub const LSD_PORT: u16 = 6771;

/// Bytes in a packet that is sent, so that it is never cut in pieces.
pub const MAX_LSD_PACKET: usize = 1400;

/// Bytes in a packet that is read.
pub const MAX_LSD_READ: usize = 4096;

/// Torrents that fit into a packet that is sent, whatever its host, port and cookie are.
pub const MAX_LSD_HASHES: usize = 24;

/// Bytes in a cookie of ours, or one that is compared.
pub const MAX_LSD_COOKIE: usize = 64;

/// What a packet says: its sender takes part in the swarms of these torrents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LsdAnnounce {
    /// The TCP port that the sender listens on; never 0.
    pub port: u16,
    /// As decoded: at least one, at most as many as fit into [`MAX_LSD_READ`] bytes.
    pub info_hashes: Vec<WireHash>,
    /// By which the sender knows its own packets; at most [`MAX_LSD_COOKIE`] bytes of visible ASCII.
    pub cookie: Option<String>,
}

impl LsdAnnounce {
    /// The packet that says this to a group. Of the torrents the first [`MAX_LSD_HASHES`] go into it.
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let mut packet = format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n", self.port);
        for hash in self.info_hashes.iter().take(MAX_LSD_HASHES) {
            packet.push_str(&format!("Infohash: {hash}\r\n"));
        }
        if let Some(cookie) = self.cookie.as_ref().filter(|cookie| is_cookie(cookie)) {
            packet.push_str(&format!("cookie: {cookie}\r\n"));
        }
        packet.push_str("\r\n\r\n");
        packet.into_bytes()
    }

    /// Reads a packet; `None` if it is none, or names no port and torrent. Lines that we do not know are skipped, as are
    /// hashes that are none; lines may end without a carriage return.
    pub fn decode(packet: &[u8]) -> Option<LsdAnnounce> {
        let packet = packet.get(..packet.len().min(MAX_LSD_READ))?;
        let mut lines = packet.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let is_search = |line: &[u8]| {
            let mut words = line.split(|byte| byte.is_ascii_whitespace());
            let method = words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"BT-SEARCH"));
            method
                && words
                    .next_back()
                    .is_some_and(|word| word.len() > 5 && word[..5].eq_ignore_ascii_case(b"HTTP/"))
        };
        lines.next().filter(|line| is_search(line))?;
        let (mut port, mut info_hashes, mut cookie) = (None, Vec::new(), None);
        for line in lines {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (key, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            let Ok(value) = std::str::from_utf8(value) else { continue };
            match key.to_ascii_lowercase().as_slice() {
                b"port" => port = port.or_else(|| read_port(value)),
                b"infohash" => info_hashes.extend(value.parse::<WireHash>().ok()),
                b"cookie" => {
                    cookie = cookie.or_else(|| Some(value.to_owned()).filter(|value| is_cookie(value)))
                }
                _ => {}
            }
        }
        let port = port.filter(|_| !info_hashes.is_empty())?;
        Some(LsdAnnounce { port, info_hashes, cookie })
    }
}

fn read_port(text: &str) -> Option<u16> {
    // `parse` would take a plus sign.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| plain && port != 0)
}

fn is_cookie(text: &str) -> bool {
    (1..=MAX_LSD_COOKIE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_packet_is_read_as_it_was_written_and_is_not_too_long(
            port in 1u16..,
            hashes in prop::collection::vec(any::<[u8; 20]>(), 1..=MAX_LSD_HASHES),
            cookie in prop::option::of("[!-~]{1,64}"),
            group in 0usize..2,
        ) {
            let info_hashes = hashes.into_iter().map(WireHash).collect();
            let announce = LsdAnnounce { port, info_hashes, cookie };
            let packet = announce.encode(LSD_GROUPS[group]);
            prop_assert!(packet.len() <= MAX_LSD_PACKET);
            prop_assert_eq!(LsdAnnounce::decode(&packet), Some(announce));
        }

        #[test]
        fn random_packets_never_panic_and_stay_in_bounds(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            text in "BT-SEARCH \\* HTTP/1.1\r?\n((Port|Infohash|cookie|x): ?[0-9a-f]{0,41}\r?\n){0,9}",
        ) {
            let _ = LsdAnnounce::decode(&bytes);
            if let Some(announce) = LsdAnnounce::decode(text.as_bytes()) {
                prop_assert!(announce.port != 0 && !announce.info_hashes.is_empty());
            }
        }
    }

    #[test]
    fn the_packet_is_that_of_bep_14() {
        let announce = LsdAnnounce {
            port: 6881,
            info_hashes: vec![WireHash([0xab; 20]), WireHash([1; 20])],
            cookie: Some("btget-1".into()),
        };
        let expected = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: {}\r\nInfohash: {}\r\n\
             cookie: btget-1\r\n\r\n\r\n",
            "ab".repeat(20),
            "01".repeat(20)
        );
        assert_eq!(announce.encode(LSD_GROUPS[0]), expected.as_bytes());
        let six = String::from_utf8(announce.encode(LSD_GROUPS[1])).unwrap();
        assert!(six.contains("\r\nHost: [ff15::efc0:988f]:6771\r\n"));
    }

    #[test]
    fn what_others_send_is_understood() {
        let hash = "AB".repeat(20);
        for packet in [
            format!(
                "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: {hash}\r\n\r\n\r\n"
            ),
            format!("bt-search * http/1.1\nINFOHASH:{hash}\nport:6881"),
            format!(
                "BT-SEARCH * HTTP/1.0\r\nInfohash: xyz\r\nPort: 0\r\nPort: 6881\r\nx\r\nInfohash: {hash}\r\ncookie: \r\n"
            ),
        ] {
            let expected = LsdAnnounce { port: 6881, info_hashes: vec![WireHash([0xab; 20])], cookie: None };
            assert_eq!(LsdAnnounce::decode(packet.as_bytes()), Some(expected), "{packet}");
        }
    }

    #[test]
    fn what_is_no_announce_is_none() {
        let hash = "ab".repeat(20);
        for packet in [
            String::new(),
            "BT-SEARCH * HTTP/1.1\r\n\r\n".into(),
            format!("BT-SEARCH * HTTP/1.1\r\nInfohash: {hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 65536\r\nInfohash: {hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: +1\r\nInfohash: {hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {hash}0\r\n"),
            format!("M-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {hash}\r\n"),
            format!("BT-SEARCH\r\nPort: 1\r\nInfohash: {hash}\r\n"),
        ] {
            assert_eq!(LsdAnnounce::decode(packet.as_bytes()), None, "{packet}");
        }
    }

    #[test]
    fn a_packet_with_ever_more_hashes_is_read_up_to_the_bound() {
        let hashes = format!("Infohash: {}\r\n", "ab".repeat(20)).repeat(1000);
        let packet = format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n{hashes}");
        let announce = LsdAnnounce::decode(packet.as_bytes()).unwrap();
        assert!(announce.info_hashes.len() <= MAX_LSD_READ / 52);
    }
}
