//! One line of a block list, in any of the formats in which such lists are passed on.
//!
//! - PeerGuardian's text (`p2p`): `name:1.2.3.0-1.2.3.255`; names hold anything, colons and hyphens included.
//! - eMule's `ipfilter.dat`: `001.002.003.000 - 001.002.003.255 , 000 , name`. Numbers are decimal, zeros before them mean nothing; the
//!   second field is a level, above 127 of which the range is allowed.
//! - Ranges (`1.2.3.0-1.2.3.255`), networks (`1.2.3.0/24`, RFC 4632) and single addresses, with a comment behind them or none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Levels up to this one block (eMule).
const MAX_BLOCKING_LEVEL: u32 = 127;

/// Bytes of the longest text of an IPv6 address: `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
const MAX_ADDRESS: usize = 45;

/// Addresses of one family from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Range {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6, but what stands for an IPv4 address.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Range {
    /// `None` if the ends are of different families, or in the wrong order. What IPv6 writes for IPv4 addresses (`::ffff:1.2.3.4`) counts as these.
    pub(super) fn new(first: IpAddr, last: IpAddr) -> Option<Range> {
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Some(Range::V4(first, last)),
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => Some(Range::V6(first, last)),
            _ => None,
        }
    }

    /// The addresses whose first `length` bits are those of `address`.
    fn network(address: IpAddr, length: u32) -> Option<Range> {
        match address {
            IpAddr::V4(v4) => {
                let rest = u32::MAX.checked_shr(length).unwrap_or(0);
                let is_prefix = length <= u32::BITS;
                let (first, last) = (u32::from(v4) & !rest, u32::from(v4) | rest);
                is_prefix.then(|| Range::new(Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into()))?
            }
            IpAddr::V6(v6) => {
                let rest = u128::MAX.checked_shr(length).unwrap_or(0);
                let is_prefix = length <= u128::BITS;
                let (first, last) = (u128::from(v6) & !rest, u128::from(v6) | rest);
                is_prefix.then(|| Range::new(Ipv6Addr::from(first).into(), Ipv6Addr::from(last).into()))?
            }
        }
    }
}

/// What a line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// Nothing: it is empty, or a comment.
    Nothing,
    /// These addresses are refused.
    Blocked(Range),
    /// It blocks nothing, by its level.
    Allowed,
    /// It is none of the formats.
    Bad,
}

impl Line {
    /// Reads a line, without what ends it. Names may be in any encoding.
    pub fn parse(line: &[u8]) -> Line {
        let line = line.trim_ascii();
        if line.is_empty() || is_comment(line) {
            return Line::Nothing;
        }
        if let Some(said) = by_address(line) {
            return said;
        }
        named_range(line).map_or(Line::Bad, Line::Blocked)
    }
}

fn is_comment(text: &[u8]) -> bool {
    text.starts_with(b"#") || text.starts_with(b";") || text.starts_with(b"//")
}

/// What begins with an address: a range, a network or the address alone; behind a comma a level and a name, or a comment.
fn by_address(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|&byte| byte == b',');
    let addresses = without_comment(fields.next()?);
    let range = match (split_once(addresses, b'-'), split_once(addresses, b'/')) {
        (Some((first, last)), _) => Range::new(address(first)?, address(last)?)?,
        (None, Some((network, length))) => Range::network(address(network)?, number(length, 3)?)?,
        (None, None) => {
            let one = address(addresses)?;
            Range::new(one, one)?
        }
    };
    // What is no number is a name already.
    let level = fields.next().and_then(|level| number(level, 9));
    let is_allowed = level.is_some_and(|level| level > MAX_BLOCKING_LEVEL);
    Some(if is_allowed { Line::Allowed } else { Line::Blocked(range) })
}

/// `name:first-last`. As names hold colons and IPv6 addresses do, too, the longest text that makes a range is the first address.
fn named_range(line: &[u8]) -> Option<Range> {
    let hyphen = line.iter().rposition(|&byte| byte == b'-')?;
    let (front, last) = (&line[..hyphen], address(&line[hyphen + 1..])?);
    let front = front.trim_ascii_end();
    let earliest = front.len().saturating_sub(MAX_ADDRESS + 2);
    let colons = (earliest..front.len()).filter(|&at| front[at] == b':');
    colons.filter_map(|at| Range::new(address(&front[at + 1..])?, last)).next()
}

/// What stands before a comment that is set off by a space.
fn without_comment(text: &[u8]) -> &[u8] {
    let comment = (1..text.len()).find(|&at| text[at - 1].is_ascii_whitespace() && is_comment(&text[at..]));
    &text[..comment.unwrap_or(text.len())]
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|&byte| byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

/// A decimal number of so many digits at the most, among spaces or not.
fn number(text: &[u8], most: usize) -> Option<u32> {
    let text = text.trim_ascii();
    if text.is_empty() || text.len() > most {
        return None;
    }
    text.iter()
        .try_fold(0, |number, &byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))
}

/// An address, among spaces or not, an IPv6 one in brackets or not.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = text.trim_ascii();
    if text.contains(&b':') {
        let inside = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]"));
        let text = std::str::from_utf8(inside.unwrap_or(text)).ok()?;
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let mut parts = text.split(|&byte| byte == b'.');
    let mut octets = [0; 4];
    for octet in &mut octets {
        let part = parts.next()?;
        // A part may not hold spaces.
        let digits = part.iter().all(u8::is_ascii_digit);
        *octet = u8::try_from(number(part, 3).filter(|_| digits)?).ok()?;
    }
    parts.next().is_none().then(|| IpAddr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocked(first: &str, last: &str) -> Line {
        Line::Blocked(Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap())
    }

    #[test]
    fn every_format_of_a_range_is_read() {
        let range = blocked("1.2.3.0", "1.2.3.255");
        for line in [
            "Some name:1.2.3.0-1.2.3.255",
            "Name: with: colons - and hyphens:1.2.3.0-1.2.3.255",
            ":1.2.3.0-1.2.3.255",
            "A list, of #1 and 5.6.7.8-9:1.2.3.0 - 1.2.3.255",
            "5.6.7.8-corp:1.2.3.0-1.2.3.255",
            "http://name/:1.2.3.0-1.2.3.255",
            "001.002.003.000 - 001.002.003.255 , 000 , Some - name, Inc.",
            "001.002.003.000-001.002.003.255,127,x",
            "1.2.3.0 - 1.2.3.255 , name and no level",
            "1.2.3.0-1.2.3.255",
            "1.2.3.0/24",
            "1.2.3.77/24 # of a network all",
            " \t1.2.3.0 / 24\r",
            "::ffff:1.2.3.0/120",
            "::ffff:1.2.3.0-1.2.3.255 // mixed",
        ] {
            assert_eq!(Line::parse(line.as_bytes()), range, "{line}");
        }
        assert_eq!(Line::parse(b"caf\xe9 \xff:1.2.3.0-1.2.3.255"), range);
        let one = blocked("10.20.30.40", "10.20.30.40");
        for line in ["10.20.30.40", "010.020.030.040", "10.20.30.40/32", "10.20.30.40 ; x", "10.20.30.40,0,x"]
        {
            assert_eq!(Line::parse(line.as_bytes()), one, "{line}");
        }
    }

    #[test]
    fn addresses_of_ipv6_are_read_in_all_formats() {
        let range = blocked("2001:db8::", "2001:db8::ffff");
        for line in [
            "name:2001:db8::-2001:db8::ffff",
            "beef:2001:db8::-2001:db8::ffff",
            "[2001:db8::]-[2001:db8::ffff]",
            "name:[2001:db8::] - [2001:db8::ffff]",
            "2001:db8::/112",
            "2001:DB8::1234/112 # x",
            "2001:db8:: - 2001:db8::ffff , 100 , name",
        ] {
            assert_eq!(Line::parse(line.as_bytes()), range, "{line}");
        }
        assert_eq!(Line::parse(b"::1"), blocked("::1", "::1"));
        assert_eq!(Line::parse(b"0.0.0.0/0"), blocked("0.0.0.0", "255.255.255.255"));
        assert_eq!(Line::parse(b"::/0"), blocked("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
    }

    #[test]
    fn comments_say_nothing_and_high_levels_allow() {
        for line in ["", "  ", "\r", "# x", ";1.2.3.4", "// 1.2.3.4-1.2.3.5", "  # indented"] {
            assert_eq!(Line::parse(line.as_bytes()), Line::Nothing, "{line}");
        }
        for line in ["1.2.3.4 - 1.2.3.5 , 128 , x", "1.2.3.4-1.2.3.5,255", "1.2.3.4,200,x", "1.2.3.0/24,999"]
        {
            assert_eq!(Line::parse(line.as_bytes()), Line::Allowed, "{line}");
        }
    }

    #[test]
    fn what_is_no_range_is_bad() {
        for line in [
            "nothing",
            "1.2.3",
            "1.2.3.256",
            "1.2.3.4.5",
            "1.2..4",
            "1.2.3.0004",
            "0x1.2.3.4",
            "+1.2.3.4",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/-1",
            "1.2.3.4/1000000000000",
            "::1/129",
            "1.2.3.9-1.2.3.4",
            "name:1.2.3.9-1.2.3.4",
            "name:1.2.3.4-::5",
            "1.2.3.4-2001:db8::1",
            "name:1.2.3.4",
            "name:-1.2.3.4",
            "fe80::1%eth0",
            "1.2.3.4 text without a mark",
            "1.2.3. 4",
            "<html>",
        ] {
            assert_eq!(Line::parse(line.as_bytes()), Line::Bad, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in prop::collection::vec(any::<u8>(), 0..200), text in "[0-9a-f:., /#-]{0,60}") {
            let _ = (Line::parse(&line), Line::parse(text.as_bytes()));
        }

        #[test]
        fn what_is_written_is_read(first in any::<u32>(), last in any::<u32>(), name in r"[^\s#;/-][^\r\n]{0,20}") {
            let (first, last) = (Ipv4Addr::from(first.min(last)), Ipv4Addr::from(first.max(last)));
            let line = format!("{name}:{first}-{last}");
            prop_assert_eq!(Line::parse(line.as_bytes()), Line::Blocked(Range::V4(first, last)));
        }
    }
}
