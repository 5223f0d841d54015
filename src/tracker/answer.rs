//! What a tracker's bencoded answer says (BEP 3, 7, 23, 31). Pure: bytes in, data out.
//!
//! Lenient where the meaning is clear, for trackers differ; bounded, for they lie.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::MAX_PEERS;
use crate::address::canonical;
use crate::bencode::{self, Value};
use crate::compact;
use crate::finder::announce::{AnnounceFailure, Answer, RetryIn};

/// What is said of a refusal without words.
pub(super) const REFUSED: &str = "refused without a reason";

/// Peers of one answer that are looked up by their names; each may take a name server's time-out.
const MAX_NAMES: usize = 8;

/// Characters kept of what a tracker says in words.
const MAX_WORDS: usize = 300;

/// A peer whose address is a host name, as BEP 3 allows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NamedPeer {
    /// The name.
    pub host: String,
    /// Where the peer listens.
    pub port: u16,
}

/// Reads the body of an answer that came with this HTTP status; peers that are named are to be looked up.
///
/// # Errors
///
/// The tracker's `failure reason`, or that the body is no answer.
pub fn parse(body: &[u8], status_code: u16) -> Result<(Answer, Vec<NamedPeer>), AnnounceFailure> {
    let fail = |reason: String| AnnounceFailure::with_status(status_code, reason);
    // What follows the dictionary (a line's end, mostly) does no harm.
    let (value, _) = bencode::decode_prefix(body)
        .map_err(|error| fail(format!("the answer is not a tracker's: {error}")))?;
    if let Some(refusal) = refusal(body, status_code) {
        return Err(refusal);
    }
    let Some(dict) = value.as_dict() else {
        return Err(fail(format!("the answer is not a tracker's: {}, not a dictionary", value.kind())));
    };
    let mut answer = Answer::default();
    let mut peers = Peers::default();
    for (key, value) in dict {
        match key {
            b"warning message" => {
                answer.warning = value.as_bytes().map(to_words).filter(|warning| !warning.is_empty());
            }
            b"interval" => answer.interval = seconds(value),
            b"min interval" => answer.min_interval = seconds(value),
            b"complete" => answer.complete = count(value),
            b"incomplete" => answer.incomplete = count(value),
            b"downloaded" => answer.downloaded = count(value),
            b"tracker id" | b"trackerid" => answer.tracker_id = value.as_bytes().map(<[u8]>::to_vec),
            b"peers" | b"peers6" if !peers.read(key, value) => {
                let key = key.escape_ascii();
                return Err(fail(format!("the answer is not a tracker's: `{key}` is {}", value.kind())));
            }
            _ => {}
        }
    }
    if answer.interval.is_none() && !peers.are_said {
        return Err(fail("the answer is not a tracker's: neither `interval` nor `peers`".to_owned()));
    }
    answer.peers = peers.list;
    Ok((answer, peers.names))
}

/// What the tracker says if it refuses, be it with an HTTP error.
pub(super) fn refusal(body: &[u8], status_code: u16) -> Option<AnnounceFailure> {
    let (value, _) = bencode::decode_prefix(body).ok()?;
    let reason = value.get(b"failure reason")?;
    let reason = reason.as_bytes().map(to_words).filter(|reason| !reason.is_empty());
    let reason = reason.unwrap_or_else(|| REFUSED.to_owned());
    let interval = [b"interval".as_slice(), b"min interval"];
    let interval = interval.into_iter().filter_map(|key| value.get(key).and_then(seconds)).max();
    let retry_in = value.get(b"retry in").and_then(retry).or(interval.map(RetryIn::After));
    Some(AnnounceFailure { reason, status_code, retry_in })
}

/// `Retry-After` of an HTTP answer (RFC 9110): seconds, or a date; `now` is this moment.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<RetryIn> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(RetryIn::After(Duration::from_secs(seconds)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(RetryIn::After(date.duration_since(now).unwrap_or_default()))
}

/// Peers as UDP trackers (BEP 15) and `peers` strings (BEP 23) give them: 6 bytes each.
pub(super) fn compact4(bytes: &[u8]) -> Vec<SocketAddr> {
    let mut peers = Peers::default();
    peers.read_compact4(bytes);
    peers.list
}

/// The same for IPv6 (BEP 7): 18 bytes each.
pub(super) fn compact6(bytes: &[u8]) -> Vec<SocketAddr> {
    let mut peers = Peers::default();
    peers.read_compact6(bytes);
    peers.list
}

/// Addresses, each once, none of port 0 or nowhere, [`MAX_PEERS`] at the most.
#[derive(Default)]
struct Peers {
    list: Vec<SocketAddr>,
    seen: HashSet<SocketAddr>,
    /// Peers without an address, each once; at most [`MAX_NAMES`].
    names: Vec<NamedPeer>,
    /// Whether the answer names peers at all, be it none.
    are_said: bool,
}

impl Peers {
    /// False where the value is of a kind that holds no peers.
    fn read(&mut self, key: &[u8], value: Value<'_>) -> bool {
        self.are_said = true;
        match (value.as_bytes(), value.as_list()) {
            (Some(bytes), _) if key == b"peers6" => self.read_compact6(bytes),
            (Some(bytes), _) => self.read_compact4(bytes),
            (None, Some(list)) => list.take(MAX_PEERS).for_each(|peer| self.read_plain(peer)),
            (None, None) => return false,
        }
        true
    }

    fn read_compact4(&mut self, bytes: &[u8]) {
        compact::list4(bytes).for_each(|address| self.add(address.ip(), address.port()));
    }

    fn read_compact6(&mut self, bytes: &[u8]) {
        compact::list6(bytes).for_each(|address| self.add(address.ip(), address.port()));
    }

    /// BEP 3's dictionary, in which `ip` may be a host name.
    fn read_plain(&mut self, peer: Value<'_>) {
        let host = peer.get(b"ip").and_then(|ip| ip.as_str());
        let port = peer.get(b"port").and_then(|port| port.as_int()).and_then(|port| port.try_into().ok());
        let (Some(host), Some(port)) = (host, port) else { return };
        match host.parse() {
            Ok(ip) => self.add(ip, port),
            Err(_) => self.add_name(host, port),
        }
    }

    fn add_name(&mut self, host: &str, port: u16) {
        let name = NamedPeer { host: host.to_owned(), port };
        if port != 0 && is_host_name(host) && self.names.len() < MAX_NAMES && !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    fn add(&mut self, ip: IpAddr, port: u16) {
        let peer = canonical(SocketAddr::new(ip, port));
        let is_somewhere = port != 0 && !peer.ip().is_unspecified() && !peer.ip().is_multicast();
        if is_somewhere && self.list.len() < MAX_PEERS && self.seen.insert(peer) {
            self.list.push(peer);
        }
    }
}

/// RFC 1035: letters, digits and hyphens in parts of 63 bytes, 253 in all (and the underscores that some have). The last part begins
/// with a letter: others would be odd ways to write an address.
fn is_host_name(host: &str) -> bool {
    let is_part = |part: &str| {
        let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        plain && (1..=63).contains(&part.len())
    };
    let last_is_word =
        host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()));
    host.len() <= 253 && last_is_word && host.split('.').all(is_part)
}

fn seconds(value: Value<'_>) -> Option<Duration> {
    value.as_int().and_then(|seconds| seconds.try_into().ok()).map(Duration::from_secs)
}

fn count(value: Value<'_>) -> Option<u32> {
    value.as_int().and_then(|count| count.try_into().ok())
}

/// Words of a tracker, cut to a bearable length.
pub(super) fn to_words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().chars().take(MAX_WORDS).collect()
}

/// BEP 31: minutes, as an integer (some send it as a string), or `never`.
fn retry(value: Value<'_>) -> Option<RetryIn> {
    if value.as_bytes() == Some(b"never") {
        return Some(RetryIn::Never);
    }
    let minutes = value.as_int().or_else(|| value.as_str()?.parse().ok())?;
    let seconds = u64::try_from(minutes).ok()?.saturating_mul(60);
    Some(RetryIn::After(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ok(body: &[u8]) -> Answer {
        parse(body, 200).unwrap().0
    }

    fn err(body: &[u8]) -> AnnounceFailure {
        parse(body, 200).unwrap_err()
    }

    fn addresses(peers: &[&str]) -> Vec<SocketAddr> {
        peers.iter().map(|peer| peer.parse().unwrap()).collect()
    }

    #[test]
    fn a_compact_answer_says_everything() {
        let body = b"d8:completei5e10:downloadedi9e10:incompletei7e8:intervali1800e12:min intervali300e\
            5:peers12:\x01\x02\x03\x04\x1a\xe1\x05\x06\x07\x08\x00\x506:peers618:\
            \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe110:tracker id3:abc15:warning message4:slowe";
        let answer = ok(body);
        assert_eq!(answer.peers, addresses(&["1.2.3.4:6881", "5.6.7.8:80", "[2001:db8::1]:6881"]));
        assert_eq!(answer.interval, Some(Duration::from_secs(1800)));
        assert_eq!(answer.min_interval, Some(Duration::from_secs(300)));
        assert_eq!((answer.complete, answer.incomplete, answer.downloaded), (Some(5), Some(7), Some(9)));
        assert_eq!(answer.tracker_id.as_deref(), Some(&b"abc"[..]));
        assert_eq!(answer.warning.as_deref(), Some("slow"));
    }

    #[test]
    fn plain_peers_are_read_and_nonsense_among_them_passed_over() {
        let body = b"d5:peersld2:ip7:1.2.3.44:porti6881eed2:ip3:::14:porti1eed2:ip9:localhost4:porti1ee\
            d2:ip7:1.2.3.44:porti70000eed2:ip7:1.2.3.44:porti-1eei7edeee";
        assert_eq!(ok(body).peers, addresses(&["1.2.3.4:6881", "[::1]:1"]));
    }

    #[test]
    fn peers_may_have_names_instead_of_addresses_a_few_of_them() {
        let peer = |host: &str, port: u16| format!("d2:ip{}:{host}4:porti{port}ee", host.len());
        let names = |peers: &[String]| {
            let body = format!("d5:peersl{}ee", peers.concat());
            let (answer, names) = parse(body.as_bytes(), 200).unwrap();
            assert_eq!(answer.peers, []);
            names
        };
        let long = format!("{}.example", "a".repeat(64));
        let odd = ["", "a b", "a..b", ".", "2130706433", "0x7f.1", "-", "a/b", "h\u{e9}", "[::1]", &long]
            .map(|host| peer(host, 1));
        assert_eq!(names(&odd), []);
        let expected = NamedPeer { host: "a-b.Example".to_owned(), port: 6881 };
        let good = [peer("a-b.Example", 6881), peer("a-b.Example", 6881), peer("x.example", 0)];
        assert_eq!(names(&good), [expected]);
        let many: Vec<String> = (1..100).map(|port| peer("a.example", port)).collect();
        assert_eq!(names(&many).len(), MAX_NAMES);
    }

    #[test]
    fn addresses_that_lead_nowhere_or_stand_twice_are_dropped() {
        let body = b"d5:peers30:\x01\x02\x03\x04\0\0\x01\x02\x03\x04\0\x01\x01\x02\x03\x04\0\x01\0\0\0\0\0\x01\xe0\0\0\x01\0\x01e";
        assert_eq!(ok(body).peers, addresses(&["1.2.3.4:1"]));
    }

    #[test]
    fn an_ipv4_peer_in_ipv6_clothes_is_an_ipv4_peer() {
        let body = b"d6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x01\x02\x03\x04\0\x01e";
        assert_eq!(ok(body).peers, addresses(&["1.2.3.4:1"]));
    }

    #[test]
    fn a_list_of_peers_beyond_the_bound_is_cut() {
        let mut body = b"d5:peers60000:".to_vec();
        (0..10_000u16).for_each(|i| body.extend([&[1, 1][..], &i.to_be_bytes(), &[0, 1]].concat()));
        body.push(b'e');
        assert_eq!(ok(&body).peers.len(), MAX_PEERS);
    }

    #[test]
    fn a_refusal_says_why_and_when_to_ask_again() {
        let failure = err(b"d14:failure reason4:busy8:retry ini5e5:peers0:e");
        assert_eq!((failure.reason.as_str(), failure.status_code), ("busy", 200));
        assert_eq!(failure.retry_in, Some(RetryIn::After(Duration::from_secs(300))));
        assert_eq!(err(b"d14:failure reason4:gone8:retry in5:nevere").retry_in, Some(RetryIn::Never));
        assert_eq!(err(b"d14:failure reason4:gone8:retry ini-5ee").retry_in, None);
        assert_eq!(err(b"d14:failure reason0:e").reason, "refused without a reason");
    }

    #[test]
    fn an_interval_beside_a_refusal_is_when_to_ask_again() {
        let after = |seconds| Some(RetryIn::After(Duration::from_secs(seconds)));
        assert_eq!(err(b"d14:failure reason1:x8:intervali1800e12:min intervali300ee").retry_in, after(1800));
        assert_eq!(err(b"d14:failure reason1:x12:min intervali7200ee").retry_in, after(7200));
        assert_eq!(err(b"d14:failure reason1:x8:intervali1800e8:retry ini1ee").retry_in, after(60));
        assert_eq!(err(b"d14:failure reason1:x8:intervali-1ee").retry_in, None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = humantime::parse_rfc3339("1994-11-06T08:49:07Z").unwrap();
        let after = |seconds| Some(RetryIn::After(Duration::from_secs(seconds)));
        assert_eq!(retry_after(" 600 ", now), after(600));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), after(30));
        assert_eq!(retry_after("Sunday, 06-Nov-94 08:49:37 GMT", now), after(30));
        assert_eq!(retry_after("Sun Nov  6 08:49:37 1994", now), after(30));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), after(0));
        for odd in ["", "-1", "soon", "Sun, 06 Now 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT", ", "]
        {
            assert_eq!(retry_after(odd, now), None, "{odd}");
        }
    }

    #[test]
    fn words_are_cut_and_may_be_any_bytes() {
        let body = [b"d14:failure reason5000:\xff".as_slice(), &[b'x'; 4999], b"e"].concat();
        assert_eq!(err(&body).reason.chars().count(), MAX_WORDS);
    }

    #[test]
    fn intervals_that_make_no_sense_are_not_said() {
        for interval in ["-1", "99999999999999999999999999", "-99999999999999999999999"] {
            let answer = ok(format!("d8:intervali{interval}e5:peers0:e").as_bytes());
            assert_eq!(answer.interval, None, "{interval}");
        }
        assert_eq!(ok(b"d8:interval3:abc8:completei-1e5:peers0:e").complete, None);
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        for body in [&b""[..], b"<html>", b"le", b"i1e", b"de", b"d5:peersi1ee", b"d5:peers999999999999:e"] {
            let failure = err(body);
            assert!(failure.reason.starts_with("the answer is not a tracker's"), "{}", failure.reason);
        }
    }

    #[test]
    fn unsorted_keys_and_a_line_end_do_no_harm() {
        assert_eq!(ok(b"d5:peers0:8:intervali60ee\r\n").interval, Some(Duration::from_secs(60)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_exceed_its_bounds(body in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok((answer, names)) = parse(&body, 200) {
                prop_assert!(answer.peers.len() <= MAX_PEERS && names.len() <= MAX_NAMES);
            }
        }

        #[test]
        fn no_damage_to_a_good_answer_makes_it_panic(at in 0..150usize, byte: u8) {
            let mut body = b"d8:completei5e8:intervali1800e5:peersld2:ip7:1.2.3.44:porti6881eee6:peers618:\
                \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe18:retry ini5ee".to_vec();
            let at = at % body.len();
            body[at] = byte;
            let _ = parse(&body, 200);
        }
    }
}
