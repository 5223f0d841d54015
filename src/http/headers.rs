//! What headers say of the body behind them.

use ureq::http::{HeaderMap, header};

/// How the body is coded; `None`: not at all. Older servers call gzip `x-gzip` (RFC 9110 section 8.4.1.3).
pub(crate) fn coding_of(headers: &HeaderMap) -> Option<&str> {
    let coding = headers.get(header::CONTENT_ENCODING)?.to_str().ok()?.trim();
    match coding {
        _ if coding.is_empty() || coding.eq_ignore_ascii_case("identity") => None,
        _ if ["gzip", "x-gzip"].iter().any(|gzip| coding.eq_ignore_ascii_case(gzip)) => Some("gzip"),
        other => Some(other),
    }
}

/// The length of the body as it comes, if it is said: `Transfer-Encoding` overrides what stands beside it (RFC 9112 section 6.3).
pub(crate) fn length_of(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use ureq::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(given: &[(HeaderName, &'static str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn gzip_has_several_names_and_identity_none() {
        for (value, expected) in [
            ("gzip", Some("gzip")),
            ("GZip", Some("gzip")),
            (" x-gzip ", Some("gzip")),
            ("X-GZIP", Some("gzip")),
            ("", None),
            ("Identity", None),
            ("br", Some("br")),
        ] {
            assert_eq!(coding_of(&headers(&[(header::CONTENT_ENCODING, value)])), expected, "{value}");
        }
        assert_eq!(coding_of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_length_beside_a_transfer_encoding_means_nothing() {
        let length = (header::CONTENT_LENGTH, "5");
        assert_eq!(length_of(&headers(std::slice::from_ref(&length))), Some(5));
        assert_eq!(length_of(&headers(&[length, (header::TRANSFER_ENCODING, "chunked")])), None);
    }
}
