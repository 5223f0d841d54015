//! What a magnet link says (BEP 9, 53): which torrent, and where its metadata may be had.
//!
//! Owns the way from a stranger's text to a [`Magnet`], and back. A link that does not say clearly which torrent is
//! meant, or which of its files, is refused; what else is malformed is left out, with a note. Never resolves a name,
//! and never makes a path of one: what the torrent's files are called only its metadata say.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::announce::{MAX_TRACKERS, MAX_URLS, is_host, tracker_url, web_seed_url};
use super::notes::{ParseNotes, quote};
use super::{MAX_FILES, Metainfo};
use crate::bitfield::merged;
use crate::hash::{Sha1, Sha256, read_hex};
use crate::ids::InfoHashes;
use crate::text::without_credentials;

/// Bytes in a magnet link that is read: 64 KiB. One with a hundred trackers has some 8 KiB.
pub const MAX_MAGNET_LENGTH: usize = 64 << 10;

/// Peers (`x.pe`) kept.
const MAX_MAGNET_PEERS: usize = 100;

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// What `xt` must be; for people.
const XT_ALLOWED: &str = "give xt=urn:btih: and 40 hexadecimal digits or 32 characters of base32 (A-Z, 2-7), or xt=urn:btmh:1220 and 64 hexadecimal digits";

/// What `so` must be; for people.
const SO_ALLOWED: &str = "give files counted from 0, and ranges of them, e.g. so=0,2,4-8";

/// Why a magnet link is refused. It reads on after `cannot read the magnet link: `.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MagnetError {
    /// Longer than [`MAX_MAGNET_LENGTH`].
    #[error("longer than {} KiB; a magnet link is never that long", MAX_MAGNET_LENGTH >> 10)]
    TooLong,
    /// It does not begin as magnet links do.
    #[error("does not begin with magnet:?")]
    Foreign,
    /// A parameter cannot be.
    #[error("{part}: {problem}")]
    Part {
        /// Its key: `xt`, `so`.
        part: &'static str,
        /// What is wrong with it, and what is allowed; fit to print.
        problem: String,
    },
}

impl MagnetError {
    fn at(part: &'static str, problem: impl Into<String>) -> MagnetError {
        MagnetError::Part { part, problem: problem.into() }
    }
}

/// Where a peer is called that a link or a user names: `192.0.2.1:6881`, `[2001:db8::1]:6881` or `seed.example.org:6881`.
/// The port is never 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerAddress {
    /// An address as it is.
    Ip(SocketAddr),
    /// The name of a host, which has to be looked up, and a port.
    Name(String, u16),
}

impl PeerAddress {
    /// The address of this host, a name or an IP address without brackets; `None` if it is neither, or the port is 0.
    pub fn from_parts(host: &str, port: u16) -> Option<PeerAddress> {
        match host.parse::<std::net::Ipv6Addr>() {
            Ok(ip) => (port > 0).then(|| PeerAddress::Ip(SocketAddr::new(IpAddr::V6(ip), port))),
            Err(_) => parse_peer_address(&format!("{host}:{port}")),
        }
    }
}

impl FromStr for PeerAddress {
    type Err = InvalidPeerAddress;

    fn from_str(text: &str) -> Result<PeerAddress, InvalidPeerAddress> {
        parse_peer_address(text).ok_or(InvalidPeerAddress)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Ip(address) => address.fmt(f),
            PeerAddress::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A text is no [`PeerAddress`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "give host:port, e.g. 192.0.2.1:6881, [2001:db8::1]:6881 or seed.example.org:6881; ports are 1 to 65535"
)]
pub struct InvalidPeerAddress;

fn parse_peer_address(text: &str) -> Option<PeerAddress> {
    let (host, port) = text.rsplit_once(':')?;
    // `parse` would take a plus sign.
    let plain = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|&port| plain && port > 0)?;
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let ip: std::net::Ipv6Addr = v6.parse().ok()?;
        return Some(PeerAddress::Ip(SocketAddr::new(IpAddr::V6(ip), port)));
    }
    if let Ok(ip) = host.parse::<std::net::Ipv4Addr>() {
        return Some(PeerAddress::Ip(SocketAddr::new(IpAddr::V4(ip), port)));
    }
    // What ends in a number but is no address, `1.2.3` for one, is an address of another kind to resolvers.
    let last = host.trim_end_matches('.').rsplit('.').next()?;
    let is_name = is_host(host) && !host.contains(':') && last.bytes().any(|byte| !byte.is_ascii_digit());
    is_name.then(|| PeerAddress::Name(host.to_owned(), port))
}

/// A parsed magnet link.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Magnet {
    /// `xt`: which torrent.
    pub info_hash: InfoHashes,
    /// `dn`: what the torrent is called until its metadata are there; may hold anything, escape it before printing.
    pub name: Option<String>,
    /// `tr`: tiers of tracker URLs (BEP 12), each of one tracker.
    pub trackers: Vec<Vec<String>>,
    /// `ws`: web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers.
    pub peers: Vec<PeerAddress>,
    /// `so`: the only files wanted (BEP 53), ranges of their numbers from 0, end excluded, ascending and apart from one another;
    /// `None`: all. Files are numbered as [`Metainfo::files`] has them: the pads of version 1 count, those of a hybrid are not among them. There
    /// may be fewer files than it says.
    pub select_only: Option<Vec<Range<u32>>>,
    /// `xl`: bytes in the torrent, as the link has it.
    pub length: Option<u64>,
    /// What was left out, for people, once.
    pub notes: Vec<String>,
}

/// Whether an argument is meant as a magnet link: it begins with `magnet:`, in whatever case.
pub fn is_magnet(argument: impl AsRef<OsStr>) -> bool {
    let bytes = argument.as_ref().as_encoded_bytes();
    bytes.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"magnet:"))
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Magnet, MagnetError> {
        Magnet::parse(text)
    }
}

impl Magnet {
    /// The link to a torrent of which no more than this is known.
    pub fn new(info_hash: InfoHashes) -> Magnet {
        Magnet {
            info_hash,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            select_only: None,
            length: None,
            notes: Vec::new(),
        }
    }

    /// Reads a link. Parameters that we do not know are skipped.
    ///
    /// # Errors
    ///
    /// If it is none, names no torrent that we can fetch, names two, or selects files by what is no number.
    pub fn parse(text: &str) -> Result<Magnet, MagnetError> {
        let text = text.trim();
        if text.len() > MAX_MAGNET_LENGTH {
            return Err(MagnetError::TooLong);
        }
        let query = text.get(7..).filter(|_| is_magnet(text)).and_then(|rest| rest.strip_prefix('?'));
        let query = query.ok_or(MagnetError::Foreign)?;
        let mut topics = Vec::new();
        let mut ranges = Vec::new();
        let mut lists = Lists::default();
        let mut kept = Magnet::new(InfoHashes::V1(Sha1([0; 20])));
        for parameter in query.split('&') {
            // A link that was copied out of the source of a web page.
            let parameter = parameter.strip_prefix("amp;").unwrap_or(parameter);
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if value.is_empty() {
                continue;
            }
            match without_number(key).to_ascii_lowercase().as_str() {
                "xt" => topics.push(decoded(value)),
                "so" => select(&decoded(value), &mut ranges)?,
                // Here alone `+` is a space, as in a form: it stands in names, and in them only.
                "dn" => kept.name = kept.name.or_else(|| Some(decoded(&value.replace('+', " ")))),
                "tr" => lists.add_tracker(&decoded(value)),
                "ws" => lists.add_web_seed(&decoded(value)),
                "x.pe" => lists.add_peer(&decoded(value)),
                "xl" => kept.length = kept.length.or_else(|| decoded(value).parse().ok()),
                _ => {}
            }
        }
        kept.info_hash = torrent(&topics)?;
        kept.select_only = (!ranges.is_empty()).then(|| merged(ranges));
        lists.move_into(&mut kept);
        Ok(kept)
    }

    /// What to call the torrent until its metadata are there: as the link does, or by its hash. Escape it before printing.
    pub fn name_or_hash(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.info_hash.to_string())
    }

    /// The link as it is passed on; [`Magnet::parse`] reads it back. Any text in it is percent-encoded.
    pub fn to_uri(&self) -> String {
        self.to_string()
    }
}

impl From<&Metainfo> for Magnet {
    /// The link to a torrent: all its hashes, also if a link named one of them, and its name, length, trackers and web seeds.
    fn from(torrent: &Metainfo) -> Magnet {
        Magnet {
            name: Some(torrent.name.clone()).filter(|name| !name.is_empty()),
            trackers: torrent.trackers.iter().flatten().map(|url| vec![url.clone()]).collect(),
            web_seeds: torrent.url_list.clone(),
            length: Some(torrent.layout.total()),
            ..Magnet::new(torrent.all_hashes)
        }
    }
}

impl fmt::Display for Magnet {
    /// See [`Magnet::to_uri`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info_hash {
            InfoHashes::V1(v1) => write!(f, "magnet:?xt=urn:btih:{v1}")?,
            InfoHashes::V2(v2) => write!(f, "magnet:?xt=urn:btmh:1220{v2}")?,
            InfoHashes::Hybrid(v1, v2) => {
                write!(f, "magnet:?xt=urn:btih:{v1}&xt=urn:btmh:1220{v2}")?;
            }
        }
        let encoded = |text| utf8_percent_encode(text, RESERVED);
        if let Some(name) = &self.name {
            write!(f, "&dn={}", encoded(name))?;
        }
        if let Some(length) = self.length {
            write!(f, "&xl={length}")?;
        }
        self.trackers.iter().flatten().try_for_each(|url| write!(f, "&tr={}", encoded(url)))?;
        self.web_seeds.iter().try_for_each(|url| write!(f, "&ws={}", encoded(url)))?;
        // Colons and brackets may stand in a query, and not all programs decode here.
        self.peers.iter().try_for_each(|peer| write!(f, "&x.pe={peer}"))?;
        let mut key = "&so=";
        for range in self.select_only.iter().flatten() {
            f.write_str(std::mem::replace(&mut key, ","))?;
            match range.end - range.start {
                1 => write!(f, "{}", range.start)?,
                _ => write!(f, "{}-{}", range.start, range.end - 1)?,
            }
        }
        Ok(())
    }
}

/// What may stand in a link many times, as it is collected.
#[derive(Default)]
struct Lists {
    trackers: Vec<String>,
    web_seeds: Vec<String>,
    peers: Vec<PeerAddress>,
    notes: ParseNotes,
    /// How many there were beyond the bounds.
    surplus: usize,
}

impl Lists {
    fn add_tracker(&mut self, url: &str) {
        match tracker_url(url) {
            Some(usable) => self.surplus += add(&mut self.trackers, usable, MAX_TRACKERS),
            None => self.leave_out("tr", url, "no usable http/https/udp URL"),
        }
    }

    fn add_web_seed(&mut self, url: &str) {
        match web_seed_url(url) {
            Some(usable) => self.surplus += add(&mut self.web_seeds, usable, MAX_URLS),
            None => self.leave_out("ws", url, "no usable http/https URL"),
        }
    }

    fn add_peer(&mut self, text: &str) {
        match text.parse() {
            Ok(peer) => self.surplus += add(&mut self.peers, peer, MAX_MAGNET_PEERS),
            Err(InvalidPeerAddress) => self.leave_out("x.pe", text, &InvalidPeerAddress.to_string()),
        }
    }

    fn leave_out(&mut self, key: &str, value: &str, why: &str) {
        self.notes.add(|| format!("{key} {} left out: {why}", quote(&without_credentials(value))));
    }

    fn move_into(mut self, magnet: &mut Magnet) {
        if self.surplus > 0 {
            let surplus = self.surplus;
            self.notes.add(|| {
                format!("{surplus} left out: at most {MAX_TRACKERS} trackers, {MAX_URLS} web seeds and {MAX_MAGNET_PEERS} peers are read")
            });
        }
        magnet.trackers = self.trackers.into_iter().map(|url| vec![url]).collect();
        magnet.web_seeds = self.web_seeds;
        magnet.peers = self.peers;
        magnet.notes = self.notes.into_lines();
    }
}

/// Adds what is not there yet; returns 1 if there is no room for it, else 0.
fn add<T: PartialEq>(list: &mut Vec<T>, item: T, most: usize) -> usize {
    if list.contains(&item) {
        return 0;
    }
    if list.len() == most {
        return 1;
    }
    list.push(item);
    0
}

/// `xt` of `xt.1`: a key that stands several times may be numbered.
fn without_number(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((bare, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => key,
    }
}

/// Percent-decoded, once; what is no UTF-8 then is replaced.
fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// What one `xt` says.
enum Topic {
    V1(Sha1),
    V2(Sha256),
}

/// The one torrent that the `xt` name, by its hash of either version or of both.
fn torrent(topics: &[String]) -> Result<InfoHashes, MagnetError> {
    let (mut v1, mut v2, mut problem) = (None, None, None);
    let two = || MagnetError::at("xt", "names two different torrents; give one link for each");
    for topic in topics {
        match read_topic(topic) {
            Ok(Topic::V1(hash)) if v1.is_some_and(|known| known != hash) => return Err(two()),
            Ok(Topic::V2(hash)) if v2.is_some_and(|known| known != hash) => return Err(two()),
            Ok(Topic::V1(hash)) => v1 = Some(hash),
            Ok(Topic::V2(hash)) => v2 = Some(hash),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    match (v1, v2) {
        (Some(v1), Some(v2)) => Ok(InfoHashes::Hybrid(v1, v2)),
        (Some(v1), None) => Ok(InfoHashes::V1(v1)),
        (None, Some(v2)) => Ok(InfoHashes::V2(v2)),
        (None, None) => {
            Err(MagnetError::at("xt", problem.unwrap_or_else(|| format!("missing; {XT_ALLOWED}"))))
        }
    }
}

/// Reads `urn:btih:..` or `urn:btmh:..`; the error is for people.
fn read_topic(topic: &str) -> Result<Topic, String> {
    let refused = |problem: &str| Err(format!("{} {problem}; {XT_ALLOWED}", quote(topic)));
    let Some((scheme, rest)) = topic.split_once(':') else { return refused("is no URN") };
    let Some((space, hash)) = rest.split_once(':') else { return refused("is no URN") };
    if !scheme.eq_ignore_ascii_case("urn") {
        return refused("is no URN");
    }
    match space.to_ascii_lowercase().as_str() {
        "btih" => {
            let mut v1 = Sha1([0; 20]);
            let read = if hash.len() == 40 { read_hex(hash, &mut v1.0) } else { base32(hash, &mut v1.0) };
            read.map_or_else(|| refused("has no valid info hash"), |()| Ok(Topic::V1(v1)))
        }
        "btmh" => {
            // A multihash: 0x12 is SHA-256, 0x20 its length.
            let digits = hash.strip_prefix("1220");
            let mut v2 = Sha256::ZERO;
            let read = digits.and_then(|digits| read_hex(digits, &mut v2.0));
            read.map_or_else(|| refused("has no valid SHA-256 multihash"), |()| Ok(Topic::V2(v2)))
        }
        _ => refused("is no BitTorrent info hash"),
    }
}

/// Fills `bytes` by exactly as many characters of base32 (RFC 4648, in either case) as say them without padding.
fn base32(text: &str, bytes: &mut [u8]) -> Option<()> {
    let characters = text.as_bytes();
    if characters.len() * 5 != bytes.len() * 8 {
        return None;
    }
    for (five, eight) in bytes.chunks_exact_mut(5).zip(characters.chunks_exact(8)) {
        let mut bits = 0u64;
        for character in eight {
            let value = match character.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                digit @ b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(())
}

/// Adds what an `so` selects, as ranges, end excluded.
fn select(text: &str, ranges: &mut Vec<Range<u32>>) -> Result<(), MagnetError> {
    let number = |text: &str| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|&number| plain && (number as usize) < MAX_FILES)
    };
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => ranges.push(first..last + 1),
            _ => {
                return Err(MagnetError::at(
                    "so",
                    format!("{} is no file or range of files; {SO_ALLOWED}", quote(part)),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Sha256;
    use proptest::prelude::*;

    const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    const BASE32: &str = "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK";

    fn with(more: &str) -> Magnet {
        Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}{more}")).unwrap()
    }

    fn refusal(text: &str) -> String {
        Magnet::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_hash_is_found_wherever_and_however_it_stands() {
        let upper = HEX.to_uppercase();
        let lower32 = BASE32.to_lowercase();
        for text in [
            format!("magnet:?xt=urn:btih:{HEX}"),
            format!("  magnet:?xt=urn:btih:{upper}\n"),
            format!("magnet:?xt=urn:btih:{BASE32}"),
            format!("magnet:?xt=urn:btih:{lower32}"),
            format!("MAGNET:?XT=URN:BTIH:{HEX}"),
            format!("Magnet:?dn=a&xl=3&xt=urn%3Abtih%3A{HEX}&tr="),
            format!("magnet:?dn=a&amp;xt=urn%3abtih%3A{HEX}"),
            format!("magnet:?xt.1=urn:btih:{HEX}"),
            format!("magnet:?xt.1=urn:sha1:{BASE32}&xt.2=urn:btih:{HEX}"),
            format!("magnet:?xt=urn:btih:abc&xt=urn:btih:{HEX}&xt=urn:btih:{BASE32}"),
            format!("magnet:?&&x&=&=y&unknown=%zz&xt=urn:btih:{HEX}&"),
        ] {
            let magnet = Magnet::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(magnet.info_hash.to_string(), HEX, "{text}");
            assert!(matches!(magnet.info_hash, InfoHashes::V1(_)));
            assert!(is_magnet(text.trim()));
        }
    }

    #[test]
    fn a_link_that_names_no_torrent_for_us_says_what_is_allowed() {
        let foreign = "does not begin with magnet:?";
        for text in ["", "magnet", "magnet:", "magnet:xt=1", "http://a/?xt=1", "magn\u{e9}t:?xt=urn:btih:1"] {
            assert_eq!(refusal(text), foreign, "{text}");
        }
        assert_eq!(refusal("magnet:?dn=a"), format!("xt: missing; {XT_ALLOWED}"));
        for (topic, problem) in [
            ("c12fe1", "\"c12fe1\" is no URN"),
            ("urn:sha1:YEX6", "\"urn:sha1:YEX6\" is no BitTorrent info hash"),
            ("urn:btih:c12f%1b", "\"urn:btih:c12f\\u{1b}\" has no valid info hash"),
            ("urn:btmh:1220ab", "\"urn:btmh:1220ab\" has no valid SHA-256 multihash"),
            ("btih:x:y", "\"btih:x:y\" is no URN"),
        ] {
            let text = format!("magnet:?xt={topic}&xt=urn:x:y");
            assert_eq!(refusal(&text), format!("xt: {problem}; {XT_ALLOWED}"));
        }
        for wrong in [&HEX[1..], &format!("{HEX}0"), &BASE32.replace('Y', "1"), &HEX.replace('c', "g")] {
            assert!(refusal(&format!("magnet:?xt=urn:btih:{wrong}")).ends_with(XT_ALLOWED));
        }
        let two = format!("magnet:?xt=urn:btih:{HEX}&xt.1=urn:btih:{}", "00".repeat(20));
        assert_eq!(refusal(&two), "xt: names two different torrents; give one link for each");
        let two = format!("magnet:?xt=urn:btmh:1220{}&xt=urn:btmh:1220{}", "ab".repeat(32), "cd".repeat(32));
        assert_eq!(refusal(&two), "xt: names two different torrents; give one link for each");
    }

    #[test]
    fn a_link_names_a_torrent_by_its_hash_of_version_2_or_by_both() {
        let (v1, v2) = (Sha1([0xcd; 20]), Sha256([0xab; 32]));
        let of_v2 = format!("xt=urn:btmh:1220{}", "ab".repeat(32));
        let of_v1 = format!("xt=urn:btih:{}", "cd".repeat(20));
        for (text, expected) in [
            (of_v2.clone(), InfoHashes::V2(v2)),
            (of_v2.replace("ab", "AB").replace("btmh", "BTMH"), InfoHashes::V2(v2)),
            (format!("xt=urn:btih:abc&{of_v2}"), InfoHashes::V2(v2)),
            (format!("{of_v2}&{of_v1}"), InfoHashes::Hybrid(v1, v2)),
            (format!("{of_v1}&xt.2={}&{of_v1}", &of_v2[3..]), InfoHashes::Hybrid(v1, v2)),
        ] {
            let magnet = Magnet::parse(&format!("magnet:?{text}")).unwrap();
            assert_eq!(magnet.info_hash, expected, "{text}");
            assert_eq!(Magnet::parse(&magnet.to_uri()).unwrap().info_hash, expected);
        }
        for wrong in [
            "1220ab",
            &"ab".repeat(34),
            &format!("1114{}", "ab".repeat(20)),
            &format!("1220{}", "xy".repeat(32)),
        ] {
            assert!(refusal(&format!("magnet:?xt=urn:btmh:{wrong}")).contains("no valid SHA-256 multihash"));
        }
    }

    #[test]
    fn it_is_at_most_64_kib_long() {
        let of = |length: usize| {
            let start = format!("magnet:?xt=urn:btih:{HEX}&dn=");
            let name = "a".repeat(length - start.len());
            start + &name
        };
        assert!(Magnet::parse(&of(65_536)).is_ok());
        assert_eq!(refusal(&of(65_537)), "longer than 64 KiB; a magnet link is never that long");
    }

    #[test]
    fn each_tracker_is_a_tier_and_its_query_stays_as_it_is() {
        let magnet = with(
            "&tr=udp%3A%2F%2Ft.example%3A80%2Fannounce&tr.1=http%3A%2F%2Ft%2Fa%3Fpasskey%3Da%252Fb%2Bc%26d%3De\
             &tr=HTTPS://u/x?y=z+w&tr=udp://t.example:80/announce&tr=wss://v&tr=udp://noport&tr=http://%ff/",
        );
        let tiers: Vec<_> = magnet.trackers.iter().map(|tier| tier.join(" ")).collect();
        assert_eq!(
            tiers,
            ["udp://t.example:80/announce", "http://t/a?passkey=a%2Fb+c&d=e", "https://u/x?y=z+w"]
        );
        assert_eq!(magnet.notes.len(), 3);
        assert_eq!(magnet.notes[0], "tr \"wss://v\" left out: no usable http/https/udp URL");
    }

    #[test]
    fn the_name_is_the_first_and_may_be_anything() {
        assert_eq!(with("&dn=&dn=a+b%2Bc%0A&dn=d").name.as_deref(), Some("a b+c\n"));
        assert_eq!(with("&dn=%e6%97%a5%ff").name.as_deref(), Some("\u{65e5}\u{fffd}"));
        assert_eq!(with("&dn").name, None);
    }

    #[test]
    fn web_seeds_and_the_length_are_read() {
        let magnet = with("&ws=https%3A%2F%2Fw%2Fa%20b&ws=http://w/a%2520b&ws=ftp://w/&xl=10&xl=11");
        assert_eq!((magnet.web_seeds, magnet.length), (vec!["http://w/a%20b".into()], Some(10)));
        assert_eq!(magnet.notes.len(), 2);
        assert_eq!(with("&xl=-1").length, None);
        assert_eq!(with("&xl=99999999999999999999").length, None);
    }

    #[test]
    fn peers_are_addresses_or_names_with_a_port() {
        let magnet = with(
            "&x.pe=192.0.2.1:6881&x.pe=%5B2001%3Adb8%3A%3A1%5D%3A1&x.pe=[::1]:65535&x.pe=seed.example.org%3A80\
             &x.pe=192.0.2.1%3A6881",
        );
        let peers: Vec<_> = magnet.peers.iter().map(PeerAddress::to_string).collect();
        assert_eq!(peers, ["192.0.2.1:6881", "[2001:db8::1]:1", "[::1]:65535", "seed.example.org:80"]);
        assert!(matches!(magnet.peers[..], [.., PeerAddress::Ip(_), PeerAddress::Name(..)]));
        for bad in [
            "",
            "a",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "a:4294967297",
            "a:",
            "1.2.3:1",
            "256.1.1.1:1",
            "::1:1",
            "[::1]",
            "[1.2.3.4]:1",
            "[fe80::1%eth0]:1",
            "a b:1",
            "a/b:1",
            "127.1:1",
            "1.2.3.4.:5",
            "\u{e4}:1",
        ] {
            assert_eq!(bad.parse::<PeerAddress>(), Err(InvalidPeerAddress), "{bad}");
        }
        let notes = with("&x.pe=a%1b:99999").notes;
        assert!(notes[0].starts_with("x.pe \"a\\u{1b}:99999\" left out: give host:port, e.g."), "{notes:?}");
    }

    #[test]
    fn the_selection_is_kept_in_ranges() {
        assert_eq!(with("&so=0,2,4,6-8").select_only, Some(vec![0..1, 2..3, 4..5, 6..9]));
        assert_eq!(with("&so=7-999999%2C0-8&so=3").select_only, Some(vec![0..1_000_000]));
        assert_eq!(with("&so=").select_only, None);
        for bad in
            ["a", "1,", "-", "1-", "-1", "8-6", "1-2-3", "+1", "1000000", "4294967296", "0-4294967295", " 1"]
        {
            let error = refusal(&format!("magnet:?xt=urn:btih:{HEX}&so=0,{bad}"));
            assert!(error.starts_with("so: \"") && error.ends_with(SO_ALLOWED), "{bad}: {error}");
        }
    }

    #[test]
    fn lists_are_bounded() {
        let trackers: String = (0..1500).map(|number| format!("&tr=http://{number}")).collect();
        let peers: String = (0..500).map(|number| format!("&x.pe=a{number}:1")).collect();
        let magnet = with(&(trackers + &peers));
        assert_eq!((magnet.trackers.len(), magnet.peers.len()), (MAX_TRACKERS, MAX_MAGNET_PEERS));
        assert_eq!(magnet.notes.len(), 1);
        assert!(magnet.notes[0].starts_with("900 left out: at most 1000 trackers"), "{}", magnet.notes[0]);
    }

    #[test]
    fn what_is_meant_as_a_link_is_known_by_its_scheme() {
        for text in ["magnet:", "MAGNET:?xt=1", "mAgNeT:nonsense"] {
            assert!(is_magnet(text));
        }
        for text in ["", "magnet", "./magnet:", "magnets:?", "a.torrent", "-"] {
            assert!(!is_magnet(text));
        }
    }

    #[test]
    fn the_link_to_a_torrent_says_what_is_known() {
        let torrent = super::super::create::NewTorrent {
            name: "a & b.iso",
            content: super::super::create::Content::File(5),
            piece_length: 16384,
            piece_hashes: &[crate::hash::sha1(b"abcde")],
            trackers: &[vec!["http://t/a?k=%2F".into(), "udp://u:1".into()]],
            private: false,
        };
        let torrent = Metainfo::parse(&torrent.encode()).unwrap();
        let expected = format!(
            "magnet:?xt=urn:btih:{}&dn=a%20%26%20b.iso&xl=5&tr=http%3A%2F%2Ft%2Fa%3Fk%3D%252F&tr=udp%3A%2F%2Fu%3A1",
            torrent.info_hash
        );
        assert_eq!(Magnet::from(&torrent).to_uri(), expected);
        let sample = super::super::samples::Sample::new(&[("a", 40_000)], true);
        let whole = Metainfo::parse(&sample.torrent()).unwrap();
        let v2 = InfoHashes::V2(whole.info_hash.v2().unwrap());
        let known_by_one = Metainfo { info_hash: v2, ..whole.clone() };
        assert_eq!(Magnet::from(&known_by_one).info_hash, whole.info_hash);
        let both = InfoHashes::Hybrid(Sha1([1; 20]), Sha256([2; 32]));
        let hybrid = Magnet::new(both).to_uri();
        assert_eq!(Magnet::parse(&hybrid).unwrap().info_hash, both);
        assert!(hybrid.contains("&xt=urn:btmh:12200202"));
    }

    fn peers() -> impl Strategy<Value = PeerAddress> {
        prop_oneof![
            (any::<[u8; 4]>(), 1u16..).prop_map(|(ip, port)| PeerAddress::Ip((ip, port).into())),
            (any::<[u8; 16]>(), 1u16..).prop_map(|(ip, port)| PeerAddress::Ip((ip, port).into())),
            ("[a-z0-9.-]{0,9}[a-z]", 1u16..).prop_map(|(name, port)| PeerAddress::Name(name, port)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            hash: [u8; 20],
            name in prop::option::of("\\PC{1,20}"),
            trackers in prop::collection::btree_set("(http|udp)://[a-z]{1,5}:1/[!-~]{0,20}", 0..5),
            web_seeds in prop::collection::btree_set("https://[a-z]{1,5}/[!-~]{0,20}", 0..5),
            peers in prop::collection::btree_set(peers(), 0..5),
            selected in prop::collection::vec((0u32..1000, 1u32..9), 0..6),
            length: Option<u64>,
        ) {
            let mut magnet = Magnet::new(InfoHashes::V1(Sha1(hash)));
            magnet.name = name;
            magnet.trackers = trackers.into_iter().map(|url| vec![url]).collect();
            magnet.web_seeds = web_seeds.into_iter().collect();
            magnet.peers = peers.into_iter().collect();
            let ranges: Vec<_> = selected.into_iter().map(|(first, number)| first..first + number).collect();
            magnet.select_only = (!ranges.is_empty()).then(|| merged(ranges));
            magnet.length = length;
            prop_assert_eq!(Magnet::parse(&magnet.to_uri()), Ok(magnet));
        }

        #[test]
        fn any_text_ends_in_a_link_or_a_message_fit_to_print(text in "(magnet:\\?)?(&?(xt|xt.1|tr|so|x.pe|dn|ws)?=?(urn:btih:)?\\PC{0,50}){0,6}") {
            match Magnet::parse(&text) {
                Ok(magnet) => prop_assert_eq!(Magnet::parse(&magnet.to_uri()).unwrap().to_uri(), magnet.to_uri()),
                Err(error) => {
                    let error = error.to_string();
                    prop_assert_eq!(crate::text::escape(&error), error.as_str());
                }
            }
        }

        #[test]
        fn base32_says_the_same_as_hex(hash: [u8; 20]) {
            const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
            let bit = |at: usize| hash[at / 8] >> (7 - at % 8) & 1;
            let letter = |at: usize| LETTERS[(0..5).fold(0, |value, more| value << 1 | bit(5 * at + more)) as usize];
            let written: String = (0..32).map(|at| char::from(letter(at))).collect();
            let read = Magnet::parse(&format!("magnet:?xt=urn:btih:{written}")).unwrap();
            prop_assert_eq!(read.info_hash, InfoHashes::V1(Sha1(hash)));
        }
    }
}
