//! The head of an answer as servers send it, made into one that the parser takes. Pure.
//!
//! ureq's parser refuses lines that are folded, spaces before a colon, headers with an interim answer, and more than 128 headers of any kind.
//! A recipient has to bear the first ones (RFC 9112 section 5), and the last is no bound that a server knows: what bounds a head here is its length.

/// The headers that anybody here reads, ureq included. The others are left out.
const READ: [&str; 9] = [
    "accept-ranges",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "location",
    "retry-after",
    "transfer-encoding",
];

/// A whole head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its bytes as they came, what stands before it and its end included.
    pub used: usize,
    /// What the parser is given instead.
    pub bytes: Vec<u8>,
    status: u16,
}

impl Head {
    /// Whether the answer is yet to come: another head follows at once (1xx, but for 101).
    pub(super) fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// Whether the body behind it comes in chunks.
    pub(super) fn is_chunked(&self) -> bool {
        let is_new = !self.bytes.starts_with(b"HTTP/1.0");
        is_new && !matches!(self.status, 100..=199 | 204 | 304) && self.lines().any(is_of_chunks)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|&byte| byte == b'\n')
    }
}

fn is_of_chunks(line: &[u8]) -> bool {
    let Some((name, value)) = split_at_colon(line) else { return false };
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    name.eq_ignore_ascii_case(b"transfer-encoding") && value.split(|&byte| byte == b',').any(is_chunked)
}

/// The head that `input` begins with; `None`: it is not there in whole yet.
pub fn tidy(input: &[u8]) -> Option<Head> {
    let mut used = blank_lines(input);
    let (mut bytes, mut status) = (Vec::new(), None);
    // A header, with all the lines over which it is folded.
    let mut header: Vec<u8> = Vec::new();
    for line in input[used..].split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n")?;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        used += line.len();
        let Some(status) = status else {
            status = Some(status_of(text));
            bytes.extend([text, b"\r\n"].concat());
            continue;
        };
        let is_fold = text.starts_with(b" ") || text.starts_with(b"\t");
        if is_fold {
            // Behind the first line it says nothing.
            if !header.is_empty() {
                header.extend([b" ", text.trim_ascii()].concat());
            }
            continue;
        }
        bytes.extend(kept(&std::mem::replace(&mut header, text.to_vec()), status));
        if text.is_empty() {
            bytes.extend(b"\r\n");
            return Some(Head { used, bytes, status });
        }
    }
    None
}

/// What the parser is given of a header.
fn kept(header: &[u8], status: u16) -> Vec<u8> {
    match split_at_colon(header) {
        Some((name, value)) if is_read(name) && !(100..200).contains(&status) => {
            [name, b":", value, b"\r\n"].concat()
        }
        Some(_) => Vec::new(),
        None if header.is_empty() => Vec::new(),
        // The parser is to say what it thinks of that.
        None => [header, b"\r\n"].concat(),
    }
}

/// Whether a head may begin with this: what is no HTTP is not to be waited for.
pub(super) fn may_begin(input: &[u8]) -> bool {
    let input = &input[blank_lines(input)..];
    input.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte == expected)
}

/// Bytes of the empty lines before the first that is not.
fn blank_lines(input: &[u8]) -> usize {
    input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// 0 if there is none, of which the parser will say so.
fn status_of(line: &[u8]) -> u16 {
    let word = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn split_at_colon(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    Some((line[..colon].trim_ascii_end(), &line[colon + 1..]))
}

fn is_read(name: &[u8]) -> bool {
    READ.iter().any(|read| name.eq_ignore_ascii_case(read.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tidied(head: &str) -> String {
        let head = tidy(head.as_bytes()).expect(head);
        String::from_utf8(head.bytes).unwrap()
    }

    #[test]
    fn folded_lines_are_joined_spaces_before_a_colon_go_and_what_nobody_reads_is_left_out() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
            ("\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody", "HTTP/1.1 200 OK\r\n\r\n"),
            (
                "HTTP/1.1 200 OK\nContent-Length: 5\n\nLocation: /\n\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            ),
            ("HTTP/1.1 200\r\nX-A: one\r\n two\r\n\tthree\r\n\r\n", "HTTP/1.1 200\r\n\r\n"),
            (
                "HTTP/1.1 206 P\r\nContent-Range:\r\n  bytes \r\n\t0-1/2\r\nX: y\r\n\r\n",
                "HTTP/1.1 206 P\r\nContent-Range: bytes 0-1/2\r\n\r\n",
            ),
            ("HTTP/1.1 200 OK\r\n odd\r\n \r\nX : y\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
            (
                "HTTP/1.1 200 OK\r\nRETRY-AFTER \t : 5\r\nX: \x01\r\n\r\n",
                "HTTP/1.1 200 OK\r\nRETRY-AFTER: 5\r\n\r\n",
            ),
            ("HTTP/1.1 103 Hints\r\nLocation: /\r\n\r\n", "HTTP/1.1 103 Hints\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", "HTTP/1.1 200 OK\r\nno header\r\n\r\n"),
        ] {
            assert_eq!(tidied(head), expected, "{head:?}");
        }
        let many: String = (0..1000).map(|number| format!("X-{number}: y\r\n")).collect();
        let head = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 1\r\n\r\n");
        assert_eq!(tidied(&head), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
    }

    #[test]
    fn it_is_seen_what_comes_behind() {
        let of = |head: &str| {
            let head = tidy(format!("{head}\r\n\r\n").as_bytes()).unwrap();
            (head.is_interim(), head.is_chunked())
        };
        assert_eq!(of("HTTP/1.1 100 Continue"), (true, false));
        assert_eq!(of("HTTP/1.1 103\r\nTransfer-Encoding: chunked"), (true, false));
        assert_eq!(of("HTTP/1.1 101 Switching\r\nUpgrade: x"), (false, false));
        assert_eq!(of("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked"), (false, true));
        assert_eq!(of("HTTP/1.1 200 OK\r\nTransfer-Encoding : gzip,\r\n chunked "), (false, true));
        assert_eq!(of("HTTP/1.1 200 OK\r\nX: chunked"), (false, false));
        for none in ["HTTP/1.0 200 OK", "HTTP/1.1 204 None", "HTTP/1.1 304 Same"] {
            assert_eq!(of(&format!("{none}\r\nTransfer-Encoding: chunked")), (false, false), "{none}");
        }
    }

    #[test]
    fn what_is_no_http_is_seen_before_the_end_of_a_head() {
        for good in ["", "\r\n", "HT", "\r\nHTTP/1.1 2"] {
            assert!(may_begin(good.as_bytes()) && tidy(good.as_bytes()).is_none(), "{good:?}");
        }
        for bad in ["SSH-2.0", "http/1.1", "HTTP/2", "\r\n<html>"] {
            assert!(!may_begin(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_head_is_the_same_however_it_comes(
            lines in proptest::collection::vec("(HTTP/1.1 200 OK|Content-Length ?: [0-9]|[a-zA-Z:, \t\r]{0,9}|)(\r\n|\n)", 0..9),
        ) {
            let input = lines.concat().into_bytes();
            let end = tidy(&input);
            for cut in 0..input.len() {
                let early = tidy(&input[..cut]);
                match &end {
                    Some(head) if cut >= head.used => prop_assert_eq!(early.as_ref(), Some(head)),
                    _ => prop_assert_eq!(early, None),
                }
            }
            // What has been tidied needs it no more, and is not longer but for the ends of its lines.
            if let Some(head) = end {
                let again = tidy(&head.bytes).unwrap();
                prop_assert_eq!((&again.bytes, again.used), (&head.bytes, head.bytes.len()));
                prop_assert!(head.bytes.len() <= head.used + lines.len());
            }
        }
    }
}
