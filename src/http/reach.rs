//! What of our own machine and network a torrent may make us ask: an announce, and nothing else.
//!
//! A torrent, or a tracker's redirect, may name any host, port and path; what listens on loopback or on the local network often
//! trusts whoever reaches it. libtorrent calls the defence `ssrf_mitigation`. UDP needs none: the first packet to a tracker is 16
//! bytes in which a torrent chooses nothing, and the next one is sent only to who has answered it as BEP 15 says.

use std::net::IpAddr;

use crate::address::is_inner;

/// Where a request may lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// To any address: the user has given this URL.
    Anywhere,
    /// To inner addresses only if the path is one of an announce: a torrent has given the URL.
    AnnouncePaths,
    /// To no inner address: the URL of a torrent that says more than a path.
    OutsideOnly,
    /// To no inner address: a server out there redirects to it.
    Outside,
}

impl Reach {
    /// Whether a request for `target`, a path and perhaps a query, may go to `address`.
    pub(crate) fn allows(self, address: IpAddr, target: &str) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::AnnouncePaths => {
                !is_inner(address) || is_announce_path(target.split('?').next().unwrap_or_default())
            }
            Reach::OutsideOnly | Reach::Outside => !is_inner(address),
        }
    }

    /// Why a request was not allowed.
    pub(crate) fn refusal(self, address: IpAddr) -> String {
        let place = if address.to_canonical().is_loopback() { "this machine" } else { "the local network" };
        match self {
            Reach::Outside => format!("redirected from outside to {address}, which is inside: {place}"),
            Reach::OutsideOnly => format!(
                "the URL leads to {address}, {place}, where nothing is asked for a torrent by a URL with a query; if it is right, give it yourself"
            ),
            Reach::Anywhere | Reach::AnnouncePaths => format!(
                "the URL leads to {address}, {place}, where nothing is asked for a torrent but a path that ends in /announce; \
                 if it is right, give the tracker yourself"
            ),
        }
    }
}

/// A request leads inside that may not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LeadsInside(pub String);

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
