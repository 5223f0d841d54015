//! Peer ids: ours, and what others' say about their clients (BEP 20).

use std::fmt::Write as _;

pub use crate::ids::PeerId;

impl std::fmt::Debug for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Printable ASCII as it is, all else escaped.
impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Azureus-style ids: `-`, two letters, four characters of version, `-`.
const AZUREUS: &[(&[u8; 2], &str)] = &[
    (b"7T", "aTorrent"),
    (b"AB", "AnyEvent::BitTorrent"),
    (b"AZ", "Vuze"),
    (b"BC", "BitComet"),
    (b"BI", "BiglyBT"),
    (b"BT", "BitTorrent"),
    (b"DE", "Deluge"),
    (b"FD", "Free Download Manager"),
    (b"FL", "Flud"),
    (b"KT", "KTorrent"),
    (b"LR", "LibreTorrent"),
    (b"LT", "libtorrent"),
    (b"NB", "Net::BitTorrent"),
    (b"PI", "PicoTorrent"),
    (b"RB", "rain"),
    (b"SD", "Xunlei"),
    (b"TR", "Transmission"),
    (b"TT", "TuoTu"),
    (b"TX", "Tixati"),
    (b"UM", "\u{b5}Torrent for Mac"),
    (b"UT", "\u{b5}Torrent"),
    (b"UW", "\u{b5}Torrent Web"),
    (b"WW", "WebTorrent"),
    (b"XL", "Xunlei"),
    (b"bg", "btget"),
    (b"lt", "libTorrent (rTorrent)"),
    (b"qB", "qBittorrent"),
    (b"rQ", "rqbit"),
    (b"st", "SharkTorrent"),
];

/// Shadow-style ids: a letter, up to five characters of version, `-`.
const SHADOW: &[(u8, &str)] = &[(b'A', "ABC"), (b'M', "Mainline"), (b'Q', "BTQueue"), (b'T', "BitTornado")];

impl PeerId {
    /// A fresh id of ours: `-bg`, major version, two digits of minor, `S` or `U` (stable or not), `-`,
    /// and 12 random characters.
    pub fn generate(rng: &mut fastrand::Rng) -> PeerId {
        let mut id = [0; 20];
        let (prefix, random) = id.split_at_mut(8);
        prefix.copy_from_slice(&own_prefix(
            env!("CARGO_PKG_VERSION_MAJOR"),
            env!("CARGO_PKG_VERSION_MINOR"),
            env!("CARGO_PKG_VERSION_PRE"),
        ));
        random.fill_with(|| rng.alphanumeric() as u8);
        PeerId(id)
    }

    /// The client's name and version as far as the id tells them; else the id itself, escaped.
    pub fn client_name(&self) -> String {
        self.azureus().or_else(|| self.aria2()).or_else(|| self.shadow()).unwrap_or_else(|| self.to_string())
    }

    /// `-TR3000-xxxxxxxxxxxx`.
    fn azureus(&self) -> Option<String> {
        let (letters, rest) = self.0.strip_prefix(b"-")?.split_first_chunk::<2>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        if !version.iter().all(u8::is_ascii_alphanumeric) || rest[0] != b'-' {
            return None;
        }
        let (_, name) = AZUREUS.iter().find(|(known, _)| *known == letters)?;
        Some(format!("{name} {}", azureus_version(letters, version)?))
    }

    /// `A2-1-36-0-xxxxxxxxxx`: aria2's own style.
    fn aria2(&self) -> Option<String> {
        let mut version = String::from("aria2 ");
        let mut parts = self.0.strip_prefix(b"A2-")?.split(|&byte| byte == b'-');
        for number in 0..3 {
            let part = parts.next()?;
            if part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
                return None;
            }
            let dot = if number == 0 { "" } else { "." };
            write!(version, "{dot}{}", part.escape_ascii()).expect("a string takes what is written");
        }
        Some(version)
    }

    /// `T03I-----xxxxxxxxxxx`, `M7-9-2--xxxxxxxxxxxx`.
    fn shadow(&self) -> Option<String> {
        let (letter, rest) = self.0.split_first()?;
        let (_, name) = SHADOW.iter().find(|(known, _)| known == letter)?;
        if *letter == b'M' {
            let version: Vec<&[u8]> = rest[..6].split(|&byte| byte == b'-').take(3).collect();
            let digits = |part: &&[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            return version.iter().all(digits).then(|| {
                let version: Vec<String> =
                    version.iter().map(|part| part.escape_ascii().to_string()).collect();
                format!("{name} {}", version.join("."))
            });
        }
        let version = rest[..5].split(|&byte| byte == b'-').next()?;
        let padded = rest[version.len()..8].iter().all(|&byte| byte == b'-');
        if version.is_empty() || !padded {
            return None;
        }
        let version: Option<Vec<String>> = version.iter().map(|&digit| shadow_digit(digit)).collect();
        Some(format!("{name} {}", version?.join(".")))
    }
}

/// What the four characters mean is each client's own custom.
fn azureus_version(letters: &[u8; 2], version: &[u8; 4]) -> Option<String> {
    let [a, b, c, d] = version.map(char::from);
    Some(match letters {
        // Two digits of minor; the last tells stable, beta, or unstable builds.
        b"TR" if a != '0' => match d {
            '0' => format!("{a}.{b}{c}"),
            'Z' | 'X' | 'B' => format!("{a}.{b}{c}+"),
            _ => format!("{a}.{b}{c}.{d}"),
        },
        b"bg" | b"AB" | b"NB" => format!("{a}.{b}{c}"),
        b"BC" => format!("{a}{b}.{c}{d}").trim_start_matches('0').to_owned(),
        b"WW" => format!("{a}{b}.{c}{d}"),
        // Numbers above 9 are written as letters.
        _ => {
            let numbers: Vec<String> = version
                .iter()
                .map(|digit| char::from(*digit).to_digit(36).map(|n| n.to_string()))
                .collect::<Option<_>>()?;
            let shown = if numbers[3] == "0" { &numbers[..3] } else { &numbers[..] };
            shown.join(".")
        }
    })
}

/// 0-9, A-Z, a-z, `.` count from 0 to 62 in Shadow's style.
fn shadow_digit(digit: u8) -> Option<String> {
    let number = match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'a'..=b'z' => digit - b'a' + 36,
        b'.' => 62,
        _ => return None,
    };
    Some(number.to_string())
}

/// `-bg010U-` for 0.1 (read as a decimal fraction: 0.10): major, two digits of minor, stability.
/// Versions below 1 and pre-releases are unstable.
fn own_prefix(major: &str, minor: &str, pre: &str) -> [u8; 8] {
    let digit = |text: &str, at: usize| text.as_bytes().get(at).copied().unwrap_or(b'0');
    let stability = if major == "0" || !pre.is_empty() { b'U' } else { b'S' };
    [b'-', b'b', b'g', digit(major, 0), digit(minor, 0), digit(minor, 1), stability, b'-']
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(id: &[u8]) -> String {
        let mut bytes = *b"xxxxxxxxxxxxxxxxxxxx";
        bytes[..id.len()].copy_from_slice(id);
        PeerId(bytes).client_name()
    }

    #[test]
    fn well_known_clients_are_named() {
        for (id, expected) in [
            (&b"-TR3000-"[..], "Transmission 3.00"),
            (b"-TR300Z-", "Transmission 3.00+"),
            (b"-TR4060-", "Transmission 4.06"),
            (b"-LT20B0-", "libtorrent 2.0.11"),
            (b"-lt0D80-", "libTorrent (rTorrent) 0.13.8"),
            (b"-qB4630-", "qBittorrent 4.6.3"),
            (b"-UT355W-", "\u{b5}Torrent 3.5.5.32"),
            (b"-DE211s-", "Deluge 2.1.1.28"),
            (b"A2-1-36-0-", "aria2 1.36.0"),
            (b"-bg010U-", "btget 0.10"),
            (b"T03I-----", "BitTornado 0.3.18"),
            (b"M7-9-2--", "Mainline 7.9.2"),
            (b"M4-20-8-", "Mainline 4.20.8"),
        ] {
            assert_eq!(name(id), expected);
        }
    }

    #[test]
    fn an_unknown_client_is_shown_escaped() {
        assert_eq!(name(b"-ZZ1234-\x1b[2J\n"), r"-ZZ1234-\x1b[2J\nxxxxxxx");
        assert_eq!(name(b"M\xff\x00"), r"M\xff\x00xxxxxxxxxxxxxxxxx");
        assert_eq!(name(b"-TR\x1b\x1b\x1b0-"), r"-TR\x1b\x1b\x1b0-xxxxxxxxxxxx");
        assert_eq!(name(b"A2-1-\n-0-"), r"A2-1-\n-0-xxxxxxxxxxx");
    }

    #[test]
    fn our_id_tells_our_version() {
        assert_eq!(&own_prefix("0", "1", ""), b"-bg010U-");
        assert_eq!(&own_prefix("1", "23", ""), b"-bg123S-");
        assert_eq!(&own_prefix("2", "0", "rc.1"), b"-bg200U-");
        let id = PeerId::generate(&mut fastrand::Rng::with_seed(1));
        assert!(id.0.starts_with(b"-bg") && id.0[8..].iter().all(u8::is_ascii_alphanumeric));
        assert_ne!(id, PeerId::generate(&mut fastrand::Rng::with_seed(2)));
        assert_eq!(id, PeerId::generate(&mut fastrand::Rng::with_seed(1)));
    }

    proptest! {
        #[test]
        fn no_id_brings_control_characters_to_the_terminal(
            bytes: [u8; 20], style in prop::sample::select(vec!["", "-TR", "A2-", "M", "T", "-qB"]),
        ) {
            let mut id = bytes;
            id[..style.len()].copy_from_slice(style.as_bytes());
            prop_assert!(!PeerId(id).client_name().chars().any(char::is_control));
        }
    }
}
