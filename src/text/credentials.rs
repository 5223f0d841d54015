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
}
