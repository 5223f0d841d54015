//! User names and passwords in URLs are for whom they are meant, and are not shown.

use std::borrow::Cow;
use std::ops::Range;

/// Where user name and password stand in a URL (RFC 3986, `userinfo`), without the `@` behind them.
pub fn credentials(url: &str) -> Option<Range<usize>> {
    let begin = url.find("://")? + 3;
    let rest = &url[begin..];
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    authority.rfind('@').map(|end| begin..begin + end)
}

/// A URL as it may be shown: with `***` for user name and password.
pub fn without_credentials(url: &str) -> Cow<'_, str> {
    match credentials(url) {
        Some(range) => Cow::Owned(format!("{}***{}", &url[..range.start], &url[range.end..])),
        None => Cow::Borrowed(url),
    }
}

/// What was given for a URL and is none, as it may be shown: whatever stands before its last `@` may be a password, also with characters that end
/// a host's name in a URL.
pub fn without_any_credentials(given: &str) -> Cow<'_, str> {
    let Some(end) = given.rfind('@') else { return Cow::Borrowed(given) };
    let begin = given[..end].find("://").map_or(0, |at| at + 3);
    Cow::Owned(format!("{}***{}", &given[..begin], &given[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_not_shown_and_all_else_is() {
        for (url, shown) in [
            ("http://user:secret@host/announce?passkey=x", "http://***@host/announce?passkey=x"),
            ("https://user@host:80", "https://***@host:80"),
            ("udp://a:b@c@host:1/x@y", "udp://***@host:1/x@y"),
            ("http://@host?a@b", "http://***@host?a@b"),
            ("http://host/u:p@x", "http://host/u:p@x"),
            ("http://host?u:p@x", "http://host?u:p@x"),
            ("http://host#u:p@x", "http://host#u:p@x"),
            ("user:secret@host", "user:secret@host"),
            ("", ""),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn of_what_is_no_url_nothing_is_shown_that_may_be_a_password() {
        for (given, shown) in [
            ("user:secret@host:1080", "***@host:1080"),
            ("socks5:user:secret@h:1", "***@h:1"),
            ("socks5://user:se/cret@h:1", "socks5://***@h:1"),
            ("socks5://user:se?c#r@et@h:1", "socks5://***@h:1"),
            ("user:se://cret@h", "user:se://***@h"),
            ("socks5://host", "socks5://host"),
        ] {
            assert_eq!(without_any_credentials(given), shown);
        }
    }
}
