//! Makes .torrent files (BEP 3), canonical: for tests, the quick start and those who publish.
//!
//! Owns the encoding and nothing else: the caller reads and hashes the data.

use bendy::encoding::{Encoder, Error, SingleItemEncoder};

use crate::hash::Sha1;

/// What goes into a new .torrent.
#[derive(Clone, Copy, Debug)]
pub struct NewTorrent<'a> {
    /// The name: of the file, or of the folder.
    pub name: &'a str,
    /// What is shared.
    pub content: Content<'a>,
    /// Bytes in a piece; more than 0.
    pub piece_length: u32,
    /// SHA-1 of each piece.
    pub piece_hashes: &'a [Sha1],
    /// Tiers of tracker URLs (BEP 12); the first of all is also `announce`.
    pub trackers: &'a [Vec<String>],
    /// BEP 27.
    pub private: bool,
}

/// What a torrent shares.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// One file of this many bytes.
    File(u64),
    /// Files in a folder: path below it with `/` between the components, and length in bytes.
    Folder(&'a [(&'a str, u64)]),
}

impl NewTorrent<'_> {
    /// The bytes of the .torrent.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder
            .emit_dict(|mut top| {
                if let Some(url) = self.trackers.iter().flatten().next() {
                    top.emit_pair(b"announce", url)?;
                    top.emit_pair(b"announce-list", self.trackers)?;
                }
                top.emit_pair_with(b"info", |info| self.encode_info(info))
            })
            .and_then(|()| encoder.get_output())
            .expect("keys are given in order and nest 5 deep")
    }

    fn encode_info(&self, info: SingleItemEncoder<'_>) -> Result<(), Error> {
        info.emit_dict(|mut info| {
            match self.content {
                Content::File(length) => info.emit_pair(b"length", length)?,
                Content::Folder(files) => info.emit_pair_with(b"files", |list| {
                    list.emit_list(|list| {
                        files.iter().try_for_each(|file| list.emit_with(|item| encode_file(item, *file)))
                    })
                })?,
            }
            info.emit_pair(b"name", self.name)?;
            info.emit_pair(b"piece length", self.piece_length)?;
            info.emit_pair_with(b"pieces", |pieces| {
                let bytes: Vec<u8> = self.piece_hashes.iter().flat_map(|hash| hash.0).collect();
                pieces.emit_bytes(&bytes)
            })?;
            if self.private {
                info.emit_pair(b"private", 1)?;
            }
            Ok(())
        })
    }
}

fn encode_file(file: SingleItemEncoder<'_>, (path, length): (&str, u64)) -> Result<(), Error> {
    file.emit_dict(|mut file| {
        file.emit_pair(b"length", length)?;
        file.emit_pair_with(b"path", |list| {
            list.emit_list(|list| path.split('/').try_for_each(|component| list.emit_str(component)))
        })
    })
}
