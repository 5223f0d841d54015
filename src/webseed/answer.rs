//! What the head of an answer means (RFC 9110).

use std::time::{Duration, SystemTime};

use super::job::{Fault, Get, Manner};

/// The longest that a web seed may have us wait by `Retry-After`, or by BEP 17.
pub(super) const MAX_RETRY: Duration = Duration::from_secs(3600);

/// Bytes of the body of a 503 that may say for how many seconds not to ask again (BEP 17).
pub(crate) const MAX_RETRY_BODY: usize = 32;

/// Of a part of the range that was asked for, so many bytes at the least are taken for progress. A server may have its bounds (RFC 9110 section
/// 15.3.7), but with fewer there would be a request for each few bytes.
const MIN_PART: u64 = 16 << 10;

/// The head of an answer, as far as it matters.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Head<'a> {
    pub status: u16,
    pub content_range: Option<&'a str>,
    pub content_length: Option<u64>,
    /// `Content-Encoding`, other than `identity`.
    pub coding: Option<&'a str>,
    pub retry_after: Option<&'a str>,
    /// Of a 503: the first [`MAX_RETRY_BODY`] bytes of its body.
    pub body: &'a [u8],
}

/// A body that holds what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Accepted {
    /// So many bytes come before it.
    pub skip: u64,
    /// It is the whole file though a range of it was asked for.
    pub is_whole: bool,
    /// Where what it holds of that ends: before its end if the server gives only a part of a range at a time.
    pub end: u64,
}

/// What an answer to this request means; `now` is this moment, for dates.
pub(crate) fn judge(get: &Get, head: &Head<'_>, now: SystemTime) -> Result<Accepted, Fault> {
    let wanted = get.range.end - get.range.start;
    let exact = Accepted { skip: 0, is_whole: false, end: get.range.end };
    let status = match head.status {
        // What somebody on the way has changed is as good as ours if its length is right (RFC 9110 section 15.3.4): the hash is to say.
        203 if head.content_range.is_some() => 206,
        203 => 200,
        status => status,
    };
    match status {
        200 | 206 if head.coding.is_some_and(|coding| !is_inflated(status, coding)) => {
            let coding = head.coding.unwrap_or_default();
            Err(Fault::Refused(format!("the answer is coded as {coding}, which was not asked for")))
        }
        200 if get.manner == Manner::RangeInUrl => match plain_length(head) {
            Some(length) if length != wanted => {
                Err(Fault::Refused(format!("the answer has {length} bytes, and {wanted} were asked for")))
            }
            _ => Ok(exact),
        },
        200 => match plain_length(head) {
            Some(length) if length != get.size => Err(wrong_size(length, get.size)),
            _ => {
                let is_whole = matches!(get.manner, Manner::Range | Manner::Unranged);
                Ok(Accepted { skip: get.range.start, is_whole, ..exact })
            }
        },
        206 if get.manner == Manner::RangeInUrl => {
            // Of what is not said in a way to rely on; the length tells whether it is that which the URL asks for.
            let of_range = || Some(head.content_range.and_then(content_range)?.length());
            match head.content_length.or_else(of_range) {
                Some(length) if length == wanted => Ok(exact),
                _ => Err(Fault::Refused("the answer is a range, and none was asked for".to_owned())),
            }
        }
        206 => {
            let Some(range) = head.content_range.and_then(content_range) else {
                let given = head.content_range.unwrap_or("none");
                return Err(Fault::Refused(format!("the answer's range is not to be understood: {given}")));
            };
            if let Some(total) = range.total.filter(|&total| total != get.size) {
                return Err(wrong_size(total, get.size));
            }
            let is_exact = (range.first, range.last.checked_add(1)) == (get.range.start, Some(get.range.end));
            if !is_exact && !is_part(get, range) {
                return Err(Fault::Refused(format!(
                    "the answer is bytes {}-{}, and {}-{} were asked for",
                    range.first,
                    range.last,
                    get.range.start,
                    get.range.end - 1
                )));
            }
            match head.content_length.filter(|&length| length != range.length()) {
                Some(length) => {
                    let said = range.length();
                    Err(Fault::Refused(format!("the answer to a range of {said} bytes has {length}")))
                }
                None => Ok(Accepted { end: range.last + 1, ..exact }),
            }
        }
        404 | 410 => Err(Fault::Missing(format!("HTTP status {}", head.status))),
        416 if says_size(get, head.content_range) => {
            Err(Fault::Refused("ranges are refused (HTTP status 416)".to_owned()))
        }
        416 => Err(Fault::Wrong(format!("it is shorter than {} bytes there (HTTP status 416)", get.size))),
        401 | 403 => Err(Fault::Denied(format!("HTTP status {}", head.status))),
        429 | 503 => {
            let by_body = || std::str::from_utf8(head.body).ok()?.trim().parse::<u64>().ok();
            let seconds = head.retry_after.and_then(|value| retry_after(value, now));
            let seconds = seconds.or_else(|| by_body().filter(|_| head.status == 503));
            let seconds = seconds.map(|seconds| seconds.min(MAX_RETRY.as_secs()));
            Err(Fault::Busy(seconds, format!("HTTP status {}", head.status)))
        }
        status => Err(Fault::Refused(format!("HTTP status {status}"))),
    }
}

/// Whether an answer refuses the range alone: what is there is as long as it should be. Then it is worth while to ask for the whole.
pub(crate) fn refuses_ranges(get: &Get, head: &Head<'_>) -> bool {
    head.status == 416 && get.manner == Manner::Range && says_size(get, head.content_range)
}

/// Whether the size that is said without a range is that of the file.
fn says_size(get: &Get, content_range: Option<&str>) -> bool {
    let total = content_range.and_then(|value| value.trim().strip_prefix("bytes")?.trim().strip_prefix("*/"));
    total.and_then(|total| total.trim().parse().ok()) == Some(get.size)
}

/// Whether this is a part of the range that is asked for, from its beginning, and worth a request.
fn is_part(get: &Get, range: ContentRange) -> bool {
    let is_inside = range.first == get.range.start && (range.first..get.range.end).contains(&range.last);
    get.manner == Manner::Range && is_inside && range.length() >= MIN_PART
}

/// Whether a body that is coded so comes out as the file: gzip is inflated on the way, but a range of what is packed is none of the file.
fn is_inflated(status: u16, coding: &str) -> bool {
    status == 200 && coding.eq_ignore_ascii_case("gzip")
}

/// The length of the body as it stands, if it is said.
fn plain_length(head: &Head<'_>) -> Option<u64> {
    head.content_length.filter(|_| head.coding.is_none())
}

fn wrong_size(there: u64, size: u64) -> Fault {
    Fault::Wrong(format!("it has {there} bytes there, and {size} in the torrent"))
}

/// A `Content-Range`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ContentRange {
    first: u64,
    last: u64,
    /// `None`: `*`.
    total: Option<u64>,
}

impl ContentRange {
    fn length(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

fn content_range(value: &str) -> Option<ContentRange> {
    let (unit, rest) = value.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number =
        |digits: &str| Some(digits).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
    let total = if total.trim() == "*" { None } else { Some(number(total.trim())?) };
    let range = ContentRange { first: number(first.trim())?, last: number(last.trim())?, total };
    unit.eq_ignore_ascii_case("bytes").then_some(range)
}

/// `Retry-After`: seconds, or a date; in seconds from `now`.
fn retry_after(value: &str, now: SystemTime) -> Option<u64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().unwrap_or(u64::MAX));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let wait = date.duration_since(now).unwrap_or_default();
    // Not a moment before that.
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::FileIndex;
    use crate::webseed::job::Item;

    fn get(manner: Manner) -> Get {
        let range = if manner == Manner::Whole { 0..100 } else { 10..30 };
        Get { url: "http://h/".into(), item: Item::File(FileIndex(0)), range, size: 100, manner }
    }

    fn judged(manner: Manner, head: Head<'_>) -> Result<Accepted, Fault> {
        judge(&get(manner), &head, SystemTime::UNIX_EPOCH)
    }

    fn of_range(content_range: &str) -> Result<Accepted, Fault> {
        judged(Manner::Range, Head { status: 206, content_range: Some(content_range), ..Head::default() })
    }

    #[test]
    fn start_end_and_total_of_a_range_are_checked() {
        let exact = Ok(Accepted { skip: 0, is_whole: false, end: 30 });
        for good in ["bytes 10-29/100", "Bytes 10-29/*", " bytes  10 - 29 / 100 "] {
            assert_eq!(of_range(good), exact, "{good}");
        }
        for odd in [
            "",
            "bytes",
            "bytes 10-29",
            "bytes 10-/100",
            "bytes -29/100",
            "bytes */100",
            "items 10-29/100",
            "bytes +10-29/100",
            "bytes 11-29/100",
            "bytes 10-28/100",
            "bytes 10-30/100",
            "bytes 0-19/100",
            "bytes 10-18446744073709551615/*",
            "bytes 10-99999999999999999999/*",
            "bytes 29-10/100",
        ] {
            assert!(matches!(of_range(odd), Err(Fault::Refused(_))), "{odd}");
        }
        assert!(matches!(of_range("bytes 10-29/101"), Err(Fault::Wrong(_))));
        let none = Head { status: 206, ..Head::default() };
        assert!(matches!(judged(Manner::Range, none), Err(Fault::Refused(_))));
        let long = Head {
            status: 206,
            content_range: Some("bytes 10-29/100"),
            content_length: Some(21),
            ..Head::default()
        };
        assert!(matches!(judged(Manner::Range, long), Err(Fault::Refused(_))));
    }

    #[test]
    fn a_whole_file_is_taken_for_a_range_if_it_has_the_right_length() {
        let whole = |length, coding| Head { status: 200, content_length: length, coding, ..Head::default() };
        let skips = Ok(Accepted { skip: 10, is_whole: true, end: 30 });
        assert_eq!(judged(Manner::Range, whole(Some(100), None)), skips);
        assert_eq!(judged(Manner::Range, whole(None, None)), skips, "chunked");
        assert_eq!(
            judged(Manner::Range, whole(Some(60), Some("GZIP"))),
            skips,
            "the length is of what is packed"
        );
        let all = Ok(Accepted { skip: 0, is_whole: false, end: 100 });
        assert_eq!(judged(Manner::Whole, whole(Some(100), None)), all);
        assert_eq!(judged(Manner::Unranged, whole(Some(100), None)), skips);
        assert!(matches!(judged(Manner::Range, whole(Some(99), None)), Err(Fault::Wrong(_))));
        assert!(matches!(judged(Manner::Whole, whole(Some(101), None)), Err(Fault::Wrong(_))));
        assert!(matches!(judged(Manner::Range, whole(None, Some("br"))), Err(Fault::Refused(_))));
        let packed = Head {
            status: 206,
            content_range: Some("bytes 10-29/100"),
            coding: Some("gzip"),
            ..Head::default()
        };
        assert!(matches!(judged(Manner::Range, packed), Err(Fault::Refused(_))));
    }

    #[test]
    fn an_answer_of_bep_17_holds_the_range_and_nothing_else() {
        let answer = |length| {
            judged(Manner::RangeInUrl, Head { status: 200, content_length: length, ..Head::default() })
        };
        let exact = Ok(Accepted { skip: 0, is_whole: false, end: 30 });
        assert_eq!(answer(Some(20)), exact);
        assert_eq!(answer(None), exact);
        assert!(matches!(answer(Some(100)), Err(Fault::Refused(_))));
        let range = |content_length, content_range| {
            let head = Head { status: 206, content_length, content_range, ..Head::default() };
            judged(Manner::RangeInUrl, head)
        };
        assert_eq!(range(Some(20), None), exact);
        assert_eq!(range(None, Some("bytes 0-19/20")), exact);
        for (length, of) in [(None, None), (Some(21), None), (Some(100), Some("bytes 0-19/20"))] {
            assert!(matches!(range(length, of), Err(Fault::Refused(_))), "{length:?} {of:?}");
        }
    }

    #[test]
    fn a_server_may_give_a_part_of_a_range_but_no_crumbs_of_it() {
        let (from, to, size) = (100_000, 900_000, 1_000_000);
        let get = |manner| Get { range: from..to, size, manner, ..get(Manner::Range) };
        let judged = |manner, first: u64, last: u64, length| {
            let range = format!("bytes {first}-{last}/{size}");
            let head =
                Head { status: 206, content_range: Some(&range), content_length: length, ..Head::default() };
            judge(&get(manner), &head, SystemTime::UNIX_EPOCH)
        };
        for (last, length) in
            [(from + MIN_PART - 1, None), (to - 2, None), (199_999, Some(100_000)), (to - 1, None)]
        {
            let part = Accepted { skip: 0, is_whole: false, end: last + 1 };
            assert_eq!(judged(Manner::Range, from, last, length), Ok(part), "{last}");
        }
        for (first, last, length) in [
            (from, from + MIN_PART - 2, None),
            (from, from - 1, None),
            (from, to, None),
            (from, u64::MAX, None),
            (from + 1, 199_999, None),
            (from - 1, 199_999, None),
            (from, 199_999, Some(800_000)),
        ] {
            let judged = judged(Manner::Range, first, last, length);
            assert!(matches!(judged, Err(Fault::Refused(_))), "{first}-{last} {length:?}");
        }
        for manner in [Manner::Whole, Manner::Unranged] {
            assert!(matches!(judged(manner, from, 199_999, None), Err(Fault::Refused(_))));
        }
    }

    #[test]
    fn what_was_changed_on_the_way_is_taken_as_what_it_is() {
        let head = Head { status: 203, content_length: Some(100), ..Head::default() };
        let end = 30;
        assert_eq!(judged(Manner::Range, head), Ok(Accepted { skip: 10, is_whole: true, end }));
        let range = Head { content_range: Some("bytes 10-29/100"), content_length: Some(20), ..head };
        assert_eq!(judged(Manner::Range, range), Ok(Accepted { skip: 0, is_whole: false, end }));
        assert!(matches!(
            judged(Manner::Range, Head { content_length: Some(99), ..head }),
            Err(Fault::Wrong(_))
        ));
        let packed = Head { coding: Some("gzip"), content_length: Some(60), ..head };
        assert!(judged(Manner::Range, packed).is_ok());
    }

    #[test]
    fn a_server_that_refuses_ranges_is_told_from_one_with_a_shorter_file() {
        for (content_range, is_refusal) in [
            (Some("bytes */100"), true),
            (Some(" bytes  */ 100"), true),
            (Some("bytes */99"), false),
            (Some("bytes */*"), false),
            (Some("bytes 0-9/100"), false),
            (None, false),
        ] {
            let head = Head { status: 416, content_range, ..Head::default() };
            assert_eq!(refuses_ranges(&get(Manner::Range), &head), is_refusal, "{content_range:?}");
            assert!(!refuses_ranges(&get(Manner::Unranged), &head), "asked once");
            let is_wrong = matches!(judged(Manner::Range, head), Err(Fault::Wrong(_)));
            assert_eq!(is_wrong, !is_refusal, "{content_range:?}");
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        let fault = |status| judged(Manner::Range, Head { status, ..Head::default() }).unwrap_err();
        assert!(matches!((fault(404), fault(410)), (Fault::Missing(_), Fault::Missing(_))));
        assert!(matches!((fault(401), fault(403)), (Fault::Denied(_), Fault::Denied(_))));
        assert!(matches!(fault(416), Fault::Wrong(_)));
        for status in [201, 204, 300, 304, 400, 418, 500, 502, 504, 999] {
            assert!(matches!(fault(status), Fault::Refused(_)), "{status}");
        }
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_747);
        let wait = |status, retry_after, body: &[u8]| {
            let head = Head { status, retry_after, body, ..Head::default() };
            match judge(&get(Manner::Range), &head, now) {
                Err(Fault::Busy(seconds, _)) => seconds,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(wait(503, Some(" 20 "), b""), Some(20));
        assert_eq!(wait(429, Some("Sun, 06 Nov 1994 08:49:37 GMT"), b""), Some(30));
        assert_eq!(wait(429, Some("Sun, 06 Nov 1994 08:00:00 GMT"), b""), Some(0));
        let later = now + Duration::from_millis(400);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", later), Some(30), "29.6 s, rounded up");
        assert_eq!(wait(503, Some("99999999999999999999999"), b""), Some(3600));
        assert_eq!(wait(503, Some("-5"), b""), None);
        assert_eq!(wait(503, None, b" 40\n"), Some(40), "BEP 17");
        assert_eq!(wait(429, None, b"40"), None);
        assert_eq!(wait(503, None, b"<html>"), None);
    }
}
