//! Which URL serves which bytes: BEP 19 has one for each file, BEP 17 one for each piece.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::job::{Get, Item, Manner};
use super::{SeedKind, SeedUrl};
use crate::address;
use crate::bitfield::Bitfield;
use crate::ids::WireHash;
use crate::layout::{Block, FileIndex, Layout, PieceIndex};
use crate::metainfo::RawNames;

/// All but the unreserved characters of RFC 3986: some servers read more than these in a path, a `+` as a space above all.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// The URL of a file with a web seed of BEP 19; `None` if the torrent's names lead nowhere.
///
/// The URL of a torrent of one file is that of the file, unless it ends in a slash: then the name follows. For other torrents the
/// name and the path follow, each component percent-encoded.
pub(super) fn url_of_file(seed: &SeedUrl, names: &RawNames, file: FileIndex) -> Option<String> {
    let base = without_fragment(&seed.url);
    let is_folder = base.ends_with('/');
    if names.is_single() && !is_folder {
        return Some(base.to_owned());
    }
    if !is_named(names, file) {
        return None;
    }
    let mut url = base.to_owned();
    if !is_folder {
        url.push('/');
    }
    for (number, component) in std::iter::once(names.name()).chain(names.path(file)).enumerate() {
        if number > 0 {
            url.push('/');
        }
        let _ = write!(url, "{}", percent_encode(component, RESERVED));
    }
    Some(url)
}

/// Whether the torrent's names lead to a file below a folder: not through components that a server would take for other folders than they are.
fn is_named(names: &RawNames, file: FileIndex) -> bool {
    let path = names.path(file);
    let leads_elsewhere = |component: &[u8]| matches!(component, b"" | b"." | b"..");
    path.is_empty() == names.is_single() && !std::iter::once(names.name()).chain(path).any(leads_elsewhere)
}

/// The pieces of files that no URL of BEP 19 leads to.
pub(super) fn pieces_without_url(layout: &Layout, names: &RawNames) -> Bitfield {
    let mut pieces = Bitfield::new(layout.num_pieces());
    for (file, extent) in (0..).map(FileIndex).zip(layout.files()) {
        if extent.length > 0 && !extent.pad && !is_named(names, file) {
            pieces.extend(layout.pieces_of_file(file).map(PieceIndex));
        }
    }
    pieces
}

/// Whether the URLs of a web seed are made of the torrent's names.
pub(super) fn is_by_name(seed: &SeedUrl, names: &RawNames) -> bool {
    !seed.is_by_piece() && (!names.is_single() || without_fragment(&seed.url).ends_with('/'))
}

/// The request for a run of bytes of one piece, with a web seed of BEP 17.
pub(super) fn get_of_piece(seed: &SeedUrl, info_hash: WireHash, layout: &Layout, bytes: Block) -> Get {
    let mut url = without_fragment(&seed.url).to_owned();
    url.push(if url.contains('?') { '&' } else { '?' });
    let hash = percent_encode(&info_hash.0, RESERVED);
    let _ = write!(url, "info_hash={hash}&piece={}", bytes.piece.0);
    // A server that knows version 1 alone counts the pad behind the last piece of a file (BEP 47) too.
    let size = layout.piece_size(bytes.piece) + layout.zeros_behind(bytes.piece);
    let end = bytes.begin + bytes.length;
    if bytes.length < size {
        let _ = write!(url, "&ranges={}-{}", bytes.begin, end - 1);
    }
    let range = u64::from(bytes.begin)..u64::from(end);
    Get { url, item: Item::Piece(bytes.piece), range, size: u64::from(size), manner: Manner::RangeInUrl }
}

/// The host of a URL, by which connections are counted: an address in one of the ways to write it, a name in lower case.
pub(super) fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let with_port = authority.rsplit('@').next().unwrap_or_default();
    let end = with_port.rfind(']').map_or_else(|| with_port.find(':'), |bracket| Some(bracket + 1));
    let host = &with_port[..end.unwrap_or(with_port.len())];
    let name = || host.trim_end_matches('.').to_ascii_lowercase();
    address::literal(host).map_or_else(name, |ip| ip.to_canonical().to_string())
}

/// Whether a URL has a query of its own.
pub(super) fn has_query(seed: &SeedUrl) -> bool {
    without_fragment(&seed.url).contains('?')
}

fn without_fragment(url: &str) -> &str {
    url.split('#').next().unwrap_or_default()
}

impl SeedUrl {
    /// What to do with the answers.
    pub(super) fn is_by_piece(&self) -> bool {
        self.kind == SeedKind::Pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Metainfo;

    fn names(info: &str) -> RawNames {
        let hash = [b"12:piece lengthi16384e6:pieces20:".as_slice(), &[0; 20]].concat();
        let info = [info.as_bytes(), &hash, b"ee"].concat();
        Metainfo::parse(&[b"d4:infod".as_slice(), &info].concat()).unwrap().raw_names()
    }

    fn seed(url: &str, kind: SeedKind) -> SeedUrl {
        SeedUrl { url: url.to_owned(), kind, is_users: false }
    }

    fn url(base: &str, names: &RawNames, file: u32) -> Option<String> {
        url_of_file(&seed(base, SeedKind::Files), names, FileIndex(file))
    }

    #[test]
    fn a_complete_url_is_left_as_it_is_and_a_folder_gets_the_name() {
        let single = names("6:lengthi1e4:name7:a b+c%d");
        for (base, expected) in [
            ("http://h/x%20y.iso?k=v", "http://h/x%20y.iso?k=v"),
            ("http://h/x#part", "http://h/x"),
            ("http://h/pub/", "http://h/pub/a%20b%2Bc%25d"),
            ("http://u:p@h/", "http://u:p@h/a%20b%2Bc%25d"),
        ] {
            assert_eq!(url(base, &single, 0).as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_path_of_a_file_follows_by_component() {
        let several = names(
            "5:filesld6:lengthi1e4:pathl1:d5:\u{e4}?#;eed6:lengthi0e4:pathl2:..1:xeed6:lengthi0e4:pathl3:a/beee4:name2:n&",
        );
        assert_eq!(url("http://h/", &several, 0).as_deref(), Some("http://h/n%26/d/%C3%A4%3F%23%3B"));
        assert_eq!(url("http://h/pub", &several, 0).as_deref(), Some("http://h/pub/n%26/d/%C3%A4%3F%23%3B"));
        assert_eq!(url("http://h/", &several, 1), None, "it would lead elsewhere");
        assert_eq!(url("http://h/", &several, 2).as_deref(), Some("http://h/n%26/a%2Fb"));
        assert_eq!(url("http://h/", &several, 3), None);
    }

    #[test]
    fn a_piece_is_asked_for_by_its_number_and_a_part_of_it_by_its_range() {
        let layout = Layout::new(32768, [(70_000, false)]).unwrap();
        let get = |url: &str, piece, begin, length| {
            let bytes = Block { piece: PieceIndex(piece), begin, length };
            get_of_piece(
                &seed(url, SeedKind::Pieces),
                WireHash(*b"\x9c\xd9i\x8a\xf5Uu\x1a\x91\x86\xae\x06lW\xea!W#5\xe0"),
                &layout,
                bytes,
            )
        };
        let hash = "%9C%D9i%8A%F5Uu%1A%91%86%AE%06lW%EA%21W%235%E0";
        assert_eq!(
            get("http://h/seed.php", 1, 0, 32768).url,
            format!("http://h/seed.php?info_hash={hash}&piece=1")
        );
        let part = get("http://h/seed.php?k=v", 0, 16384, 16384);
        assert_eq!(part.url, format!("http://h/seed.php?k=v&info_hash={hash}&piece=0&ranges=16384-32767"));
        assert_eq!((part.range, part.size), (16384..32768, 32768));
        assert!(get("http://h/s", 2, 0, 4464).url.ends_with("&piece=2"), "the last one is short");
    }

    #[test]
    fn of_a_piece_with_a_pad_behind_its_bytes_these_alone_are_asked_for() {
        let layout = Layout::aligned(32768, [40_000, 20_000, 7], false).unwrap();
        for (piece, length, ranges) in [
            (0, 32768, ""),
            (1, 7232, "&ranges=0-7231"),
            (2, 20_000, "&ranges=0-19999"),
            // There is no pad behind the last file.
            (3, 7, ""),
        ] {
            let bytes = Block { piece: PieceIndex(piece), begin: 0, length };
            let seed = seed("http://h/s", SeedKind::Pieces);
            let get = get_of_piece(&seed, WireHash([b'a'; 20]), &layout, bytes);
            assert_eq!(get.url, format!("http://h/s?info_hash={}&piece={piece}{ranges}", "a".repeat(20)));
            assert_eq!(get.range, 0..u64::from(length));
        }
    }

    #[test]
    fn the_host_is_what_connections_are_counted_by() {
        for url in ["http://u:p@H.example:80/x@y", "https://h.EXAMPLE.?x", "http://h.example:080#x"] {
            assert_eq!(host_of(url), "h.example", "{url}");
        }
        for url in
            ["http://127.1:1/", "https://0x7f.1", "http://[::ffff:127.0.0.1]:7/x", "http://u@127.0.0.1."]
        {
            assert_eq!(host_of(url), "127.0.0.1", "{url}");
        }
        assert_eq!(host_of("https://[::1]?x"), "::1");
    }
}
