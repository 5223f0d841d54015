//! What one option value may look like.
//!
//! Each parser refuses with what is allowed and an example; clap puts in front what was given and
//! for which option.

use std::ops::Range;
use std::time::Duration;

use crate::bitfield::merged;
use crate::cli::options::select::Selector;
use crate::client::Bind;
use crate::metainfo::PeerAddress;
use anyhow::{Context, anyhow};

/// Ports in the order they are tried, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ports(pub Vec<u16>);

/// Ranges of pieces, end excluded, ascending and apart from one another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PieceSelection(pub Vec<Range<u32>>);

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Amount(pub u64);

/// A length of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dur(pub Duration);

/// A program and its arguments, split into words once and for all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// The program, then its arguments; at least one.
    pub words: Vec<String>,
    /// The command as it was given.
    pub text: String,
}

/// Files and their weight.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// The files that get the weight.
    pub files: Selector,
    /// 0: not wanted.
    pub weight: u32,
}

/// Highest weight of a file: weights are ratios, and a thousand to one already means "first".
pub(crate) const MAX_WEIGHT: u32 = 1_000_000;

/// One `A` or `A-B`, both ends included.
pub(crate) fn range(text: &str, least: u32, most: u32) -> Option<(u32, u32)> {
    let number = |text: &str| {
        // `parse` would take a plus sign.
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| plain && (least..=most).contains(number))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first.trim())?, number(last.trim())?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some((first, last))
}

/// One number.
fn number(text: &str, least: u32, most: u32) -> Option<u32> {
    range(text, least, most).filter(|(first, last)| first == last).map(|(number, _)| number)
}

/// `--port`.
pub(crate) fn ports(text: &str) -> anyhow::Result<Ports> {
    let mut ports = Vec::new();
    let mut seen = vec![false; 65536];
    for part in text.split(',') {
        let (first, last) = range(part.trim(), 0, 65535).ok_or_else(|| {
            anyhow!(
                "{} is no port or range; give ports from 0 to 65535 (0 = the system picks) and ranges, e.g. 6952,6881-6889,0",
                quoted(part)
            )
        })?;
        for port in first..=last {
            if !std::mem::replace(&mut seen[port as usize], true) {
                ports.push(port as u16);
            }
        }
    }
    Ok(Ports(ports))
}

/// `--pieces`.
pub(crate) fn pieces(text: &str) -> anyhow::Result<PieceSelection> {
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let (first, last) = range(part.trim(), 0, u32::MAX - 1).ok_or_else(|| {
            anyhow!(
                "{} is no piece or range; give numbers from 0 and ranges, e.g. 17 or 1-5,34-56",
                quoted(part)
            )
        })?;
        ranges.push(first..last + 1);
    }
    Ok(PieceSelection(merged(ranges)))
}

/// `--max-download-rate`, `--max-upload-rate`.
pub(crate) fn rate(text: &str) -> anyhow::Result<Amount> {
    const ALLOWED: &str =
        "give bytes a second, at least 1K, with K, M or G for 1024, 1024^2 or 1024^3, e.g. 500K or 2.5M";
    let (number, factor) = match text.trim_end_matches(['B', 'b']).trim_end_matches('i') {
        t if t.ends_with(['K', 'k']) => (&t[..t.len() - 1], 1u64 << 10),
        t if t.ends_with(['M', 'm']) => (&t[..t.len() - 1], 1 << 20),
        t if t.ends_with(['G', 'g']) => (&t[..t.len() - 1], 1 << 30),
        t => (t, 1),
    };
    let number = decimal(number.trim()).context(ALLOWED)?;
    let bytes = number * factor as f64;
    match bytes {
        0.0 => Err(anyhow!("0 would move nothing; leave the option out for no limit, or {ALLOWED}")),
        b if (1024.0..1e15).contains(&b) => Ok(Amount(b as u64)),
        _ => Err(anyhow!(ALLOWED)),
    }
}

/// `--seed-time`, `--stall-timeout`: a number of seconds, or numbers with units, largest first.
pub(crate) fn duration(text: &str) -> anyhow::Result<Dur> {
    const ALLOWED: &str = "give seconds, or numbers with s, m, h or d, at least 1 second and at most 10000 days, e.g. 90, 90s, 10m, 1h30m, 2d";
    const UNITS: [(char, u64); 4] = [('d', 86400), ('h', 3600), ('m', 60), ('s', 1)];
    let mut seconds = 0.0;
    let mut rest = text.trim();
    let mut units = &UNITS[..];
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let unit = tail.chars().next().unwrap_or('s');
        let place = units.iter().position(|&(name, _)| name == unit).context(ALLOWED)?;
        seconds += decimal(number).context(ALLOWED)? * units[place].1 as f64;
        units = &units[place + 1..];
        rest = tail.get(unit.len_utf8()..).unwrap_or("");
    }
    if !(1.0..=864e6).contains(&seconds) {
        return Err(anyhow!(ALLOWED));
    }
    Ok(Dur(Duration::from_secs_f64(seconds)))
}

/// As [`duration`], or 0.
pub(crate) fn duration_or_none(text: &str) -> anyhow::Result<Dur> {
    match text.trim().trim_end_matches(['s', 'm', 'h', 'd']) {
        "0" => Ok(Dur(Duration::ZERO)),
        _ => duration(text),
    }
}

/// `--seed-ratio`.
pub(crate) fn ratio(text: &str) -> anyhow::Result<f64> {
    decimal(text)
        .filter(|ratio| *ratio <= 1e6)
        .context("give a number from 0 to 1000000, e.g. 1.5 to upload half as much again")
}

/// `--on-complete`, `--on-error`.
pub(crate) fn program(text: &str) -> anyhow::Result<Program> {
    match shlex::split(text) {
        Some(words) if words.first().is_some_and(|word| !word.is_empty()) => {
            Ok(Program { words, text: text.to_owned() })
        }
        Some(_) => Err(anyhow!("give a program and its arguments, e.g. 'notify-send done'")),
        None => Err(anyhow!(
            "a quote is not closed; give words as for a shell, e.g. \"notify-send 'it is done'\""
        )),
    }
}

/// `--bind`.
pub(crate) fn bind(text: &str) -> anyhow::Result<Bind> {
    Bind::parse(text).context(
        "give an IPv4 or IPv6 address of this machine, without a port, or the name of a network interface, e.g. 192.0.2.7, 2001:db8::7 or tun0",
    )
}

/// A node of the DHT to begin with; `None` for `none`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap(pub Option<PeerAddress>);

/// `--dht-bootstrap`.
pub(crate) fn bootstrap(text: &str) -> anyhow::Result<Bootstrap> {
    if text == "none" {
        return Ok(Bootstrap(None));
    }
    text.parse().map(|node| Bootstrap(Some(node))).map_err(|_| {
        anyhow!(
            "give host:port, e.g. 192.0.2.1:6881, [2001:db8::1]:6881 or router.example.org:6881, or none; ports are 1 to 65535"
        )
    })
}

/// `--max-peers`.
pub(crate) fn max_peers(text: &str) -> anyhow::Result<usize> {
    number(text, 1, 65535)
        .map(|number| number as usize)
        .context("give a whole number from 1 to 65535, e.g. 200")
}

/// `--max-downloads`.
pub(crate) fn max_downloads(text: &str) -> anyhow::Result<usize> {
    number(text, 1, 65535)
        .map(|number| number as usize)
        .context("give a whole number from 1 to 65535, e.g. 8")
}

/// `--upload-slots`.
pub(crate) fn upload_slots(text: &str) -> anyhow::Result<usize> {
    number(text, 1, 1000).map(|number| number as usize).context("give a whole number from 1 to 1000, e.g. 8")
}

/// `--files`.
pub(crate) fn selector(text: &str) -> anyhow::Result<Selector> {
    Selector::parse(text)
}

/// `--priority`. The last `=` divides: file names may hold others.
pub(crate) fn weighted(text: &str) -> anyhow::Result<Weighted> {
    let (files, weight) = text
        .rsplit_once('=')
        .context("give FILE=N, with a number, a range or a glob as FILE, e.g. 3=10 or '*.nfo=0'")?;
    let weight = number(weight.trim(), 0, MAX_WEIGHT).ok_or_else(|| {
        anyhow!(
            "{} is no weight; give a whole number from 0 (not wanted) to {MAX_WEIGHT}, e.g. 3=10 or '*.nfo=0'",
            quoted(weight)
        )
    })?;
    Ok(Weighted { files: Selector::parse(files)?, weight })
}

/// A plain decimal number, not negative: digits with at most one point. (`f64::from_str` would take
/// `inf`, `nan` and `1e9`.)
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

fn quoted(text: &str) -> String {
    format!("'{}'", crate::text::escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn port_lists_keep_their_order_and_name_each_port_once() {
        assert_eq!(ports("6952,6881-6883,0,6882").unwrap().0, [6952, 6881, 6882, 6883, 0]);
        assert_eq!(ports("0").unwrap().0, [0]);
        assert_eq!(ports("0-65535").unwrap().0.len(), 65536);
        for wrong in ["", "65536", "10-5", "6881-", "-1", "x", "1,,2", "+5", "1-2-3"] {
            let message = ports(wrong).unwrap_err().to_string();
            assert!(message.contains("0 to 65535") && message.contains("e.g. 6952"), "{wrong}: {message}");
        }
    }

    #[test]
    fn piece_lists_are_sorted_and_merged() {
        assert_eq!(pieces("17").unwrap().0, [17..18]);
        assert_eq!(pieces("34-56,1-5,6,50-60").unwrap().0, [1..7, 34..61]);
        for wrong in ["", "a", "5-1", "4294967295", "1;2"] {
            assert!(pieces(wrong).unwrap_err().to_string().contains("e.g. 17 or 1-5,34-56"), "{wrong}");
        }
    }

    #[test]
    fn rates_are_1024_based() {
        for (text, bytes) in [
            ("1024", 1024),
            ("500K", 512_000),
            ("2M", 2 << 20),
            ("1.5m", 3 << 19),
            ("1G", 1 << 30),
            ("3MiB", 3 << 20),
        ] {
            assert_eq!(rate(text).unwrap(), Amount(bytes), "{text}");
        }
        for wrong in ["", "K", "-1", "1T", "1e6", "inf", "nan", "10", "1 M x", "99999999999G"] {
            assert!(rate(wrong).unwrap_err().to_string().contains("e.g. 500K"), "{wrong}");
        }
        assert!(rate("0").unwrap_err().to_string().contains("leave the option out"));
    }

    #[test]
    fn durations_have_units() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("10m", 600),
            ("2h", 7200),
            ("1d", 86400),
            ("1h30m", 5400),
            ("1.5h", 5400),
        ] {
            assert_eq!(duration(text).unwrap(), Dur(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "0", "m", "10x", "-5", "5m1h", "1e3", "99999d", "1m2m", "5é"] {
            assert!(duration(wrong).unwrap_err().to_string().contains("1h30m"), "{wrong}");
        }
    }

    #[test]
    fn where_it_makes_sense_a_duration_may_be_none() {
        assert_eq!(duration_or_none("0").unwrap(), Dur(Duration::ZERO));
        assert_eq!(duration_or_none("0s").unwrap(), Dur(Duration::ZERO));
        assert_eq!(duration_or_none("2m").unwrap(), Dur(Duration::from_secs(120)));
        assert!(duration_or_none("0.5s").is_err());
    }

    #[test]
    fn other_numbers_have_bounds() {
        assert_eq!(ratio("1.5").unwrap(), 1.5);
        assert_eq!(ratio("0").unwrap(), 0.0);
        assert!(["inf", "nan", "-1", "", "1e3"].iter().all(|wrong| ratio(wrong).is_err()));
        assert_eq!(max_peers("200").unwrap(), 200);
        assert!(["0", "65536", "1-2", "x"].iter().all(|wrong| max_peers(wrong).is_err()));
        assert_eq!((max_downloads("1").unwrap(), max_downloads("65535").unwrap()), (1, 65535));
        assert!(["0", "65536", "1-2", "-1", ""].iter().all(|wrong| max_downloads(wrong).is_err()));
        assert!(["0", "1001", ""].iter().all(|wrong| upload_slots(wrong).is_err()));
        assert_eq!(bind("[::1]").unwrap(), Bind::from(std::net::Ipv6Addr::LOCALHOST));
        assert_eq!(bind("tun0").unwrap(), Bind::Interface("tun0".to_owned()));
        assert!(["a b", "127.0.0.1:80", ""].iter().all(|wrong| bind(wrong).is_err()));
    }

    #[test]
    fn the_last_equals_sign_divides_file_and_weight() {
        let parsed = weighted("a=b.txt=7").unwrap();
        assert_eq!((parsed.files.to_string(), parsed.weight), ("a=b.txt".to_owned(), 7));
        assert!(["5", "5=", "5=-1", "=3", "5=1000001"].iter().all(|wrong| weighted(wrong).is_err()));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>(), numbers in "[0-9,.=smhdKMG-]{0,12}") {
            for text in [text, numbers] {
                let _ = (ports(&text), pieces(&text), rate(&text), duration(&text), ratio(&text));
                let _ = (bind(&text), max_peers(&text), weighted(&text).is_ok(), selector(&text).is_ok());
            }
        }
    }
}
