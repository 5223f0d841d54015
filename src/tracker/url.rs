//! URLs of announces: what is appended, and where a redirect leads.

use std::fmt::Write;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, percent_encode,
    utf8_percent_encode,
};

use super::Request;
use crate::text;

/// The URL to get for an announce (BEP 3, 7, 23); a query that the tracker's URL has stays in front.
pub(super) fn announce_url(request: &Request) -> String {
    let mut url = clean(&request.url);
    url.push(if url.contains('?') { '&' } else { '?' });
    let _ = write!(url, "info_hash={}", encoded(&request.info_hash.0));
    let _ = write!(url, "&peer_id={}", encoded(&request.peer_id.0));
    let Request { port, uploaded, downloaded, left, numwant, key, .. } = request;
    let _ = write!(url, "&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}");
    let _ = write!(url, "&compact=1&numwant={numwant}&key={key:08x}");
    if let Some(event) = request.event {
        let _ = write!(url, "&event={}", event.as_str());
    }
    if let Some(id) = &request.tracker_id {
        let _ = write!(url, "&trackerid={}", encoded(id));
    }
    url
}

/// The URL without user name and password, and these as the value of an `Authorization` header (RFC 7617); what is percent-encoded
/// in a URL is not in a header.
pub(super) fn take_credentials(url: &str) -> (String, Option<String>) {
    let Some(range) = text::credentials(url) else { return (url.to_owned(), None) };
    let (user, password) = url[range.clone()].split_once(':').unwrap_or((&url[range.clone()], ""));
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let without = [&url[..range.start], &url[range.end + 1..]].concat();
    let header = (pair.len() > 1).then(|| format!("Basic {}", BASE64_STANDARD.encode(pair)));
    (without, header)
}

/// Where `location` leads from `base` (RFC 3986, without `.` and `..`, which servers do not send).
pub(super) fn redirect(base: &str, location: &str) -> String {
    let location = clean(location);
    let Some((scheme, rest)) = base.split_once("://") else { return location };
    let origin_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (origin, path) = rest.split_at(origin_end);
    let path = path.split('?').next().unwrap_or_default();
    let is_absolute = location.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
    if is_absolute {
        location
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{origin}{location}")
    } else if location.starts_with('?') || location.is_empty() {
        format!("{scheme}://{origin}{path}{location}")
    } else {
        let folder = path.rfind('/').map_or("", |slash| &path[..slash]);
        format!("{scheme}://{origin}{folder}/{location}")
    }
}

/// Without fragment and surrounding space; what may not stand in a URL is percent-encoded.
fn clean(url: &str) -> String {
    /// What may not stand in a URL at all (RFC 3986), the percent sign aside: what is encoded stays so.
    const NEVER: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'<')
        .add(b'>')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}');
    let url = url.trim().split('#').next().unwrap_or_default();
    utf8_percent_encode(url, NEVER).to_string()
}

/// Bytes as the value of a query: all but the unreserved characters of RFC 3986 are encoded.
fn encoded(bytes: &[u8]) -> PercentEncode<'_> {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');
    percent_encode(bytes, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finder::announce::AnnounceEvent;
    use crate::ids::WireHash;

    fn request(url: &str) -> Request {
        Request {
            url: url.into(),
            is_users: false,
            info_hash: WireHash(*b"\x00 &=?/%~ABCDEFGHIJ\xfe\xff"),
            peer_id: crate::wire::PeerId(*b"-bg010U-abcdefghijkl"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            event: None,
            numwant: 50,
            key: 0xab,
            tracker_id: None,
        }
    }

    #[test]
    fn the_hash_is_percent_encoded_and_everything_is_said() {
        let url = announce_url(&request("http://t/announce"));
        assert_eq!(
            url,
            "http://t/announce?info_hash=%00%20%26%3D%3F%2F%25~ABCDEFGHIJ%FE%FF&peer_id=-bg010U-abcdefghijkl\
             &port=6881&uploaded=1&downloaded=2&left=3&compact=1&numwant=50&key=000000ab"
        );
    }

    #[test]
    fn event_and_tracker_id_are_said_when_there_are_any() {
        let event = Some(AnnounceEvent::Completed);
        let url = announce_url(&Request { event, tracker_id: Some(b"a b".to_vec()), ..request("http://t/") });
        assert!(url.ends_with("&event=completed&trackerid=a%20b"), "{url}");
    }

    #[test]
    fn a_query_of_the_trackers_own_is_kept() {
        let url = announce_url(&request("http://t/announce?passkey=a%2Fb"));
        assert!(url.starts_with("http://t/announce?passkey=a%2Fb&info_hash="), "{url}");
    }

    #[test]
    fn what_may_not_stand_in_a_url_is_encoded_and_a_fragment_dropped() {
        let url = announce_url(&request(" http://t/ä b#x "));
        assert!(url.starts_with("http://t/%C3%A4%20b?info_hash="), "{url}");
    }

    #[test]
    fn credentials_are_decoded_for_the_header_and_leave_the_url() {
        for (url, without, pair) in [
            ("http://us%40er:p%3Aa%2Fs%25@t:1/announce?x=1", "http://t:1/announce?x=1", Some("us@er:p:a/s%")),
            ("http://user@t/", "http://t/", Some("user:")),
            ("http://:secret@t/", "http://t/", Some(":secret")),
            ("http://a:b:c@t/", "http://t/", Some("a:b:c")),
            ("http://@t/", "http://t/", None),
            ("http://t/a@b", "http://t/a@b", None),
        ] {
            let header = pair.map(|pair| format!("Basic {}", BASE64_STANDARD.encode(pair)));
            assert_eq!(take_credentials(url), (without.to_owned(), header));
        }
    }

    #[test]
    fn a_redirect_is_resolved_against_where_it_came_from() {
        let base = "http://t:1/a/announce?x=http://y";
        for (location, expected) in [
            ("https://u/b?c", "https://u/b?c"),
            ("//u/b", "http://u/b"),
            ("/b?c", "http://t:1/b?c"),
            ("b", "http://t:1/a/b"),
            ("b?u=http://z", "http://t:1/a/b?u=http://z"),
            ("?c", "http://t:1/a/announce?c"),
            ("magnet:?xt=1", "magnet:?xt=1"),
        ] {
            assert_eq!(redirect(base, location), expected);
        }
        assert_eq!(redirect("http://t", "b"), "http://t/b");
    }
}
