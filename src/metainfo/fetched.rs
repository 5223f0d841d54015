//! Torrents that are known by their hash first, and by their `info` dictionary later (BEP 9); and the way back to a .torrent.

use std::sync::Arc;

use super::{InfoHashes, Metainfo, MetainfoError, PieceHashes};
use crate::bencode;
use crate::layout::Layout;

/// The shortest piece that there is, for a torrent of which none is known.
const SHORTEST_PIECE: u32 = 16 * 1024;

impl Metainfo {
    /// What is known of a torrent of which nothing but the hash is: it has no file and no piece. `name` is what others call it.
    pub(crate) fn unknown(
        info_hash: InfoHashes,
        name: String,
        trackers: Vec<Vec<String>>,
        url_list: Vec<String>,
    ) -> Metainfo {
        Metainfo {
            info_hash,
            all_hashes: info_hash,
            name,
            layout: Arc::new(Layout::new(SHORTEST_PIECE, []).expect("nothing fits everywhere")),
            piece_hashes: PieceHashes::V1(Arc::new([])),
            files: Vec::new(),
            private: false,
            trackers,
            nodes: Vec::new(),
            url_list,
            http_seeds: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
            notes: Vec::new(),
            info_bytes: Arc::new([]),
        }
    }

    /// Reads metadata: the bytes of an `info` dictionary, and nothing more. Trackers and web seeds it has none.
    ///
    /// # Errors
    ///
    /// As [`Metainfo::parse`].
    pub fn of_info(info: &[u8]) -> Result<Metainfo, MetainfoError> {
        // What stood behind its end would be taken for keys beside it.
        bencode::decode(info)?;
        Metainfo::parse(&[b"d4:info", info, b"e"].concat())
    }

    /// The bytes of a .torrent that says the same; the `info` dictionary stands in it as it is.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = b"d".to_vec();
        if let Some(first) = self.trackers.iter().flatten().next() {
            text(&mut bytes, "announce");
            text(&mut bytes, first);
            text(&mut bytes, "announce-list");
            list(&mut bytes, &self.trackers, |bytes, tier| list(bytes, tier, |bytes, url| text(bytes, url)));
        }
        for (key, value) in [("comment", &self.comment), ("created by", &self.created_by)] {
            if let Some(value) = value {
                text(&mut bytes, key);
                text(&mut bytes, value);
            }
        }
        if let Some(date) = self.creation_date {
            text(&mut bytes, "creation date");
            bytes.extend(format!("i{date}e").bytes());
        }
        if !self.http_seeds.is_empty() {
            text(&mut bytes, "httpseeds");
            list(&mut bytes, &self.http_seeds, |bytes, url| text(bytes, url));
        }
        text(&mut bytes, "info");
        bytes.extend_from_slice(&self.info_bytes);
        if !self.nodes.is_empty() {
            text(&mut bytes, "nodes");
            list(&mut bytes, &self.nodes, |bytes, (host, port)| {
                bytes.push(b'l');
                text(bytes, host);
                bytes.extend(format!("i{port}ee").bytes());
            });
        }
        if let Some(layers) = self.piece_hashes.layers() {
            text(&mut bytes, "piece layers");
            layers.encode(&mut bytes);
        }
        if !self.url_list.is_empty() {
            text(&mut bytes, "url-list");
            list(&mut bytes, &self.url_list, |bytes, url| text(bytes, url));
        }
        bytes.push(b'e');
        bytes
    }
}

/// Appends a byte string.
pub(super) fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(format!("{}:", text.len()).bytes());
    bytes.extend(text.bytes());
}

/// Appends a list.
pub(super) fn list<T>(bytes: &mut Vec<u8>, items: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
    bytes.push(b'l');
    items.iter().for_each(|one| item(bytes, one));
    bytes.push(b'e');
}

#[cfg(test)]
mod tests {
    use super::super::create::{Content, NewTorrent};
    use super::*;
    use crate::hash::{Sha1, sha1};

    fn torrent() -> Metainfo {
        let trackers = [vec!["http://a/announce".to_owned()], vec!["udp://b:1".to_owned()]];
        let bytes = NewTorrent {
            name: "n",
            content: Content::File(20_000),
            piece_length: 16384,
            piece_hashes: &[Sha1([1; 20]), Sha1([2; 20])],
            trackers: &trackers,
            private: true,
        };
        Metainfo::parse(&bytes.encode()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let mut torrent = torrent();
        torrent.url_list = vec!["http://seed/".into()];
        torrent.http_seeds = vec!["http://seed/x.php".into()];
        torrent.nodes = vec![("router.test".into(), 6881)];
        torrent.comment = Some("of a cat".into());
        torrent.created_by = Some("me".into());
        torrent.creation_date = Some(-5);
        let again = Metainfo::parse(&torrent.encode()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{torrent:?}"));
    }

    #[test]
    fn metadata_are_the_torrent_without_its_trackers() {
        let torrent = torrent();
        let fetched = Metainfo::of_info(&torrent.info_bytes).unwrap();
        assert_eq!(InfoHashes::V1(sha1(&torrent.info_bytes)), fetched.info_hash);
        let expected = Metainfo { trackers: Vec::new(), ..torrent.clone() };
        assert_eq!(format!("{fetched:?}"), format!("{expected:?}"));
        let behind = [&torrent.info_bytes, b"8:announce8:http://x".as_slice()].concat();
        assert!(Metainfo::of_info(&behind).is_err());
        assert!(Metainfo::of_info(&torrent.info_bytes[1..]).is_err());
        assert!(Metainfo::of_info(b"").is_err());
    }

    #[test]
    fn of_a_torrent_that_is_a_hash_nothing_is_known() {
        let hash = InfoHashes::V1(Sha1([9; 20]));
        let unknown = Metainfo::unknown(hash, "x".into(), Vec::new(), Vec::new());
        assert_eq!((unknown.layout.num_pieces(), unknown.layout.total(), unknown.files.len()), (0, 0, 0));
    }
}
