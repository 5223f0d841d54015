//! URLs as they are asked for: without credentials, cleaned, redirected.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use ureq::http::Uri;

use crate::text;

/// The URL without user name and password, and these as the value of an `Authorization` header (RFC 7617); what is percent-encoded
/// in a URL is not in a header.
pub(crate) fn take_credentials(url: &str) -> (String, Option<String>) {
    let Some(range) = text::credentials(url) else { return (url.to_owned(), None) };
    let (user, password) = url[range.clone()].split_once(':').unwrap_or((&url[range.clone()], ""));
    let mut pair: Vec<u8> = percent_decode_str(user).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let without = [&url[..range.start], &url[range.end + 1..]].concat();
    let header = (pair.len() > 1).then(|| format!("Basic {}", BASE64_STANDARD.encode(pair)));
    (without, header)
}

/// An http or https URL that names a host.
pub(crate) fn parse(url: &str) -> Option<Uri> {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()))?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    (is_known && has_sane_port(&uri)).then_some(uri)
}

/// Whether the port is none, empty (RFC 3986 section 3.2.3), or one that there is: a wrong one must not become that of the scheme.
fn has_sane_port(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else { return false };
    let host_and_port = authority.as_str().rsplit('@').next().unwrap_or_default();
    match host_and_port.strip_prefix(authority.host()) {
        Some("" | ":") => true,
        Some(_) => authority.port_u16().is_some_and(|port| port > 0),
        None => false,
    }
}

/// Where `location` leads from `base` (RFC 3986 section 5.2).
pub(crate) fn redirect(base: &str, location: &str) -> String {
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
        format!("{scheme}://{origin}{}", without_dots(&location))
    } else if location.starts_with('?') || location.is_empty() {
        format!("{scheme}://{origin}{path}{location}")
    } else {
        let folder = path.rfind('/').map_or("", |slash| &path[..slash]);
        format!("{scheme}://{origin}{}", without_dots(&format!("{folder}/{location}")))
    }
}

/// A path that begins with a slash, and a query perhaps, without the segments `.` and `..` (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    // They stand for folders.
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}{query}", kept.join("/"))
}

/// Without fragment and surrounding space; what may not stand in a URL is percent-encoded.
pub(crate) fn clean(url: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_port_that_there_is_not_is_no_port_of_the_scheme() {
        for good in
            ["http://h/", "http://h:/", "https://u:99999@h:1/", "http://[::1]/", "http://[::1]:65535/"]
        {
            assert!(parse(good).is_some(), "{good}");
        }
        for wrong in
            ["http://h:99999/", "http://h:0/", "https://u:1@h:65536/x", "http://[::1]:70000/", "http://h:x/"]
        {
            assert!(parse(wrong).is_none(), "{wrong}");
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
            ("./b", "http://t:1/a/b"),
            ("../b?c=/../d", "http://t:1/b?c=/../d"),
            ("../../../b/./c", "http://t:1/b/c"),
            ("..", "http://t:1/"),
            (".", "http://t:1/a/"),
            ("/x//y/../z/.", "http://t:1/x//z/"),
            ("/..", "http://t:1/"),
        ] {
            assert_eq!(redirect(base, location), expected);
        }
        assert_eq!(redirect("http://t", "b"), "http://t/b");
    }
}
