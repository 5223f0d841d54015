//! URLs of announces.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_encode};

use super::Request;
use crate::http::url::clean;

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
}
