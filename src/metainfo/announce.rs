//! Where a torrent says that peers are found: trackers (BEP 3, 12), web seeds (BEP 19), DHT nodes
//! (BEP 5). All of it is optional, so what is malformed is left out with a note, never fatal.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::notes::{ParseNotes, quote};
use crate::bencode::Value;
use crate::text::without_credentials;

/// Trackers kept, all tiers together; the longest public lists have some hundred.
pub(super) const MAX_TRACKERS: usize = 1000;

/// Web seeds kept.
pub(super) const MAX_URLS: usize = 100;

/// DHT nodes kept.
const MAX_NODES: usize = 100;

/// How trackers are spoken to.
const TRACKER_SCHEMES: &[&str] = &["http", "https", "udp"];

/// How web seeds are spoken to.
const WEB_SEED_SCHEMES: &[&str] = &["http", "https"];

/// Bytes in a URL that is kept: what servers and browsers commonly take.
const MAX_URL: usize = 2048;

/// Tiers of tracker URLs: `announce-list` if it names any (BEP 12), else `announce` alone.
pub(super) fn trackers(
    announce: Option<Value<'_>>,
    announce_list: Option<Value<'_>>,
    notes: &mut ParseNotes,
) -> Vec<Vec<String>> {
    let mut tiers: Vec<Vec<String>> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut left_out = 0;
    for tier in announce_list.and_then(|list| list.as_list()).into_iter().flatten() {
        let mut urls = Vec::new();
        // Some torrents have a plain string where BEP 12 asks for a list.
        let alone = tier.as_bytes().map(|_| tier);
        for url in tier.as_list().into_iter().flatten().chain(alone) {
            match url_of_tracker(url, notes) {
                Some(url) if seen.contains(&url) => {}
                Some(_) if seen.len() == MAX_TRACKERS => left_out += 1,
                Some(url) => {
                    seen.insert(url.clone());
                    urls.push(url);
                }
                None => {}
            }
        }
        if !urls.is_empty() {
            tiers.push(urls);
        }
    }
    if left_out > 0 {
        notes.add(|| format!("announce-list: more than {MAX_TRACKERS} trackers, {left_out} left out"));
    }
    if tiers.is_empty() {
        tiers.extend(announce.and_then(|url| url_of_tracker(url, notes)).map(|url| vec![url]));
    }
    tiers
}

/// `url-list` (BEP 19) or `httpseeds` (BEP 17): a string or a list of them.
pub(super) fn web_seeds(key: &str, value: Option<Value<'_>>, notes: &mut ParseNotes) -> Vec<String> {
    let Some(value) = value else { return Vec::new() };
    let alone = value.as_bytes().map(|_| value);
    let given = value.as_list().into_iter().flatten().chain(alone).filter(|url| url.as_bytes() != Some(b""));
    let mut urls: Vec<String> = Vec::new();
    for value in given {
        match value.as_str().and_then(web_seed_url) {
            Some(url) if urls.contains(&url) => {}
            Some(url) => urls.push(url),
            None => leave_out(value, WEB_SEED_SCHEMES, key, notes),
        }
        if urls.len() == MAX_URLS {
            break;
        }
    }
    urls
}

/// `nodes`: pairs of host and port.
pub(super) fn nodes(value: Option<Value<'_>>) -> Vec<(String, u16)> {
    let pair = |node: Value<'_>| {
        let mut fields = node.as_list()?;
        let host = fields.next()?.as_str().filter(|host| is_host(host))?;
        let port = u16::try_from(fields.next()?.as_int()?).ok().filter(|port| *port > 0)?;
        Some((host.to_owned(), port))
    };
    value.and_then(|nodes| nodes.as_list()).into_iter().flatten().filter_map(pair).take(MAX_NODES).collect()
}

fn url_of_tracker(value: Value<'_>, notes: &mut ParseNotes) -> Option<String> {
    if value.as_bytes() == Some(b"") {
        return None;
    }
    checked_url(value, TRACKER_SCHEMES, "tracker", notes)
}

fn checked_url(value: Value<'_>, schemes: &[&str], what: &str, notes: &mut ParseNotes) -> Option<String> {
    let url = value.as_str().and_then(|url| plausible(url.trim_ascii(), schemes));
    if url.is_none() {
        leave_out(value, schemes, what, notes);
    }
    url
}

fn leave_out(value: Value<'_>, schemes: &[&str], what: &str, notes: &mut ParseNotes) {
    let shown = &value.as_bytes().unwrap_or(value.span());
    let shown = String::from_utf8_lossy(&shown[..shown.len().min(MAX_URL)]);
    let shown = without_credentials(&shown);
    notes.add(|| format!("{what} {} left out: not a usable {} URL", quote(&shown), schemes.join("/")));
}

/// The URL of a tracker as it is used, if `url` could be one: http, https or udp, a host, a port (a must for udp), nothing that does not belong
/// into a URL.
pub fn tracker_url(url: &str) -> Option<String> {
    plausible(url.trim_ascii(), TRACKER_SCHEMES)
}

/// The URL of a web seed as it is used, if `url` could be one: http or https, a host, no space and no control character anywhere. What is
/// not ASCII is percent-encoded, as UTF-8.
pub fn web_seed_url(url: &str) -> Option<String> {
    if url.contains(|char: char| char.is_whitespace() || char.is_control()) {
        return None;
    }
    plausible(&encoded(url), WEB_SEED_SCHEMES)
}

/// Whether a .torrent may be fetched from this URL: http or https, a host. What may not stand in a URL is percent-encoded when it is asked for.
pub fn is_torrent_url(url: &str) -> bool {
    let encoded = encoded(url.trim());
    // Of any length: some are signed, by more than the URL itself.
    plausible(&encoded[..encoded.len().min(MAX_URL)], WEB_SEED_SCHEMES).is_some()
}

/// What is not ASCII, spaces and control characters percent-encoded, as UTF-8.
fn encoded(url: &str) -> String {
    const NEVER: &AsciiSet = &CONTROLS.add(b' ');
    utf8_percent_encode(url, NEVER).to_string()
}

/// The URL, scheme in lower case, if it could be one: a known scheme, a host, a port that is one
/// (a must for udp, BEP 15), printable ASCII all through (RFC 3986), no more than [`MAX_URL`] bytes.
fn plausible(url: &str, schemes: &[&str]) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = schemes.iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_port = authority.rsplit('@').next()?;
    let (host, port) = match host_port.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host_port, None),
    };
    let port_fits = match port {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => *scheme != "udp",
    };
    let printable = url.len() <= MAX_URL && url.bytes().all(|byte| byte.is_ascii_graphic());
    (printable && port_fits && is_host(host)).then(|| format!("{scheme}://{rest}"))
}

/// Letters, digits, `-`, `.`, `_`, or an IPv6 address, in brackets in a URL; RFC 1035's 253 bytes.
pub(super) fn is_host(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare.unwrap_or(host) {
        address if address.contains(':') => address.parse::<std::net::Ipv6Addr>().is_ok(),
        name => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            bare.is_none() && !name.is_empty() && name.len() <= 253 && name.bytes().all(plain)
        }
    }
}
