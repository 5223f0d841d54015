//! What of our own machine and network a torrent may make us ask: an announce, and nothing else.
//!
//! A torrent, or a tracker's redirect, may name any host, port and path; what listens on loopback or on the local network often
//! trusts whoever reaches it. libtorrent calls the defence `ssrf_mitigation`. UDP needs none: the first packet to a tracker is 16
//! bytes in which a torrent chooses nothing, and the next one is sent only to who has answered it as BEP 15 says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a request may lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// To any address: the user has given this URL.
    Anywhere,
    /// To inner addresses only if the path is one of an announce: a torrent has given the URL.
    AnnouncePaths,
    /// To no inner address: a tracker out there redirects to it.
    Outside,
}

impl Reach {
    /// Whether a request for `path` may go to `address`.
    pub(super) fn allows(self, address: IpAddr, path: &str) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::AnnouncePaths => !is_inner(address) || is_announce_path(path),
            Reach::Outside => !is_inner(address),
        }
    }

    /// Why a request was not allowed.
    pub(super) fn refusal(self, address: IpAddr) -> String {
        let place = if address.to_canonical().is_loopback() { "this machine" } else { "the local network" };
        match self {
            Reach::Outside => format!("redirected from outside to {address}, which is inside: {place}"),
            Reach::Anywhere | Reach::AnnouncePaths => format!(
                "the URL leads to {address}, {place}, where nothing is asked for a torrent but a path that ends in /announce; \
                 if it is right, give the tracker yourself"
            ),
        }
    }
}

/// Whether an address is of this machine or of a network that the outside does not reach, in whatever clothes it comes.
pub(super) fn is_inner(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_inner4(address),
        IpAddr::V6(address) => is_inner6(address),
    }
}

/// By the registry of special addresses (RFC 6890): this host, private use, behind a provider's translation (RFC 6598), link-local, loopback,
/// protocol assignments, benchmarks, multicast, reserved.
fn is_inner4(address: Ipv4Addr) -> bool {
    match address.octets() {
        [0 | 10 | 127, ..] | [169, 254, ..] | [192, 168, ..] | [192, 0, 0, _] | [224..=255, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        [172, second, ..] => (16..32).contains(&second),
        [198, second, ..] => (18..20).contains(&second),
        _ => false,
    }
}

fn is_inner6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_inner4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        // Unspecified, loopback, IPv4-compatible and IPv4-mapped ones.
        (0, 0, 0, 0, 0, 0 | 0xffff) => embedded(g, h),
        // Translated: RFC 6052, RFC 8215 (always local), and 6to4.
        (0x64, 0xff9b, 0, 0, 0, 0) => embedded(g, h),
        (0x64, 0xff9b, 1, ..) => true,
        (0x2002, high, low, ..) => embedded(high, low),
        // Unique local, link-local and site-local, multicast.
        _ => (a & 0xfe00) == 0xfc00 || (a & 0xff80) == 0xfe80 || a >= 0xff00,
    }
}

/// Whether the last part of a path begins with `announce`, and nothing before it could be a script or a way round: a web server may
/// hand `/do.cgi/announce` to `do.cgi`.
fn is_announce_path(path: &str) -> bool {
    let Some((folders, last)) = path.rsplit_once('/') else { return false };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    let folders_are_plain = folders.bytes().all(|byte| is_plain(byte) || byte == b'/');
    last.starts_with("announce")
        && folders_are_plain
        && last.bytes().all(|byte| is_plain(byte) || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_addresses_are_known_in_all_their_clothes() {
        for inner in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.1.1",
            "::127.0.0.1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
        ] {
            assert!(is_inner(inner.parse().unwrap()), "{inner}");
        }
        for outside in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "198.20.0.1",
            "9.9.9.9",
            "2001:db8::1",
            "2606:4700::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(!is_inner(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn inside_nothing_but_announces_is_asked_for_a_torrent() {
        let inner = "192.168.1.1".parse().unwrap();
        for path in ["/announce", "/announce.php", "/a1b2c3/announce", "/x/y-z/announce-2"] {
            assert!(Reach::AnnouncePaths.allows(inner, path), "{path}");
        }
        for path in [
            "",
            "/",
            "/reboot",
            "/announce/reboot",
            "/announce/",
            "/do.cgi/announce",
            "/../announce",
            "/a/..;/announce",
            "/%2e%2e/announce",
            "/announce%2f..%2freboot",
            "/xannounce",
            "/Announce",
            "/announce;jsessionid=1",
            "/a:b/announce",
        ] {
            assert!(!Reach::AnnouncePaths.allows(inner, path), "{path}");
            assert!(Reach::Anywhere.allows(inner, path), "{path}");
        }
        assert!(!Reach::Outside.allows(inner, "/announce"));
        assert!(Reach::Outside.allows("1.1.1.1".parse().unwrap(), "/anything"));
    }
}
