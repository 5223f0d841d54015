//! A body in chunks (RFC 9112 section 7.1), taken apart as it comes. Pure.
//!
//! ureq's own way of it takes no line longer than 20 bytes, so that a server's extensions of chunks, which are to be ignored, end the answer.

use ureq_proto::Error;

/// Bytes of the line with a chunk's size.
const MAX_LINE: usize = 16 << 10;

/// Bytes of all that comes behind the last chunk.
const MAX_TRAILER: usize = 64 << 10;

/// Reads the data out of chunks; as it is by default, from the beginning of a body.
#[derive(Default, Debug)]
pub struct Dechunker {
    place: Place,
    /// Bytes of the line, or of the trailer, so far.
    length: usize,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// The size of a chunk, of which this is known.
    Size(Option<u64>),
    /// Blanks behind the size.
    Blank(u64),
    /// An extension behind the size, or the rest of it.
    Extension(u64),
    /// So many bytes of data.
    Data(u64),
    /// The end of the line behind the data.
    Gap,
    /// A line of the trailer, or the rest of one.
    Trailer {
        is_begun: bool,
    },
    Ended,
}

impl Default for Place {
    fn default() -> Place {
        Place::Size(None)
    }
}

impl Dechunker {
    /// Takes some of `input`, and puts what is data there; how many bytes of each.
    ///
    /// # Errors
    ///
    /// If these are no chunks.
    pub fn read(&mut self, input: &[u8], into: &mut [u8]) -> Result<(usize, usize), Error> {
        let (mut used, mut came) = (0, 0);
        while let (Some(&next), false) = (input.get(used), self.is_ended()) {
            let Place::Data(left) = self.place else {
                self.take(next)?;
                used += 1;
                continue;
            };
            let count = (input.len() - used).min(into.len() - came);
            let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 {
                break;
            }
            into[came..came + count].copy_from_slice(&input[used..used + count]);
            (used, came) = (used + count, came + count);
            let left = left - count as u64;
            self.place = if left > 0 { Place::Data(left) } else { Place::Gap };
        }
        Ok((used, came))
    }

    /// Takes a byte that is no data.
    fn take(&mut self, byte: u8) -> Result<(), Error> {
        let most = if self.is_past_data() { MAX_TRAILER } else { MAX_LINE };
        self.length += 1;
        if self.length > most {
            return Err(Error::ChunkExpectedCrLf);
        }
        self.place = match (self.place, byte) {
            (Place::Size(Some(size)) | Place::Blank(size) | Place::Extension(size), b'\n') => {
                self.length = 0;
                if size > 0 { Place::Data(size) } else { Place::Trailer { is_begun: false } }
            }
            (Place::Extension(size), _) => Place::Extension(size),
            (Place::Size(Some(size)) | Place::Blank(size), b';') => Place::Extension(size),
            (Place::Size(Some(size)) | Place::Blank(size), b' ' | b'\t' | b'\r') => Place::Blank(size),
            (Place::Size(None), b' ' | b'\t') => Place::Size(None),
            (Place::Size(size), _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Error::ChunkLenNotANumber)?;
                let size = size.unwrap_or_default().checked_mul(16).ok_or(Error::ChunkLenNotANumber)?;
                Place::Size(Some(size | u64::from(digit)))
            }
            (Place::Gap, b'\n') => {
                self.length = 0;
                Place::Size(None)
            }
            (Place::Gap, b'\r') => Place::Gap,
            (Place::Trailer { is_begun: false }, b'\n') => Place::Ended,
            (Place::Trailer { .. }, b'\n') => Place::Trailer { is_begun: false },
            (Place::Trailer { is_begun }, b'\r') => Place::Trailer { is_begun },
            (Place::Trailer { .. }, _) => Place::Trailer { is_begun: true },
            (Place::Blank(_) | Place::Gap, _) => return Err(Error::ChunkExpectedCrLf),
            (place @ (Place::Data(_) | Place::Ended), _) => place,
        };
        Ok(())
    }

    /// Whether all of it has come.
    pub fn is_ended(&self) -> bool {
        self.place == Place::Ended
    }

    /// Whether the last chunk has come: some servers close there, before the end.
    pub(super) fn is_past_data(&self) -> bool {
        matches!(self.place, Place::Trailer { .. } | Place::Ended)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of these pieces: the data, the bytes that were taken, and whether that was all.
    fn read<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
        most: usize,
    ) -> Result<(Vec<u8>, usize, bool), Error> {
        let (mut chunks, mut data, mut total) = (Dechunker::default(), Vec::new(), 0);
        let mut into = vec![0; most];
        for piece in pieces {
            let mut rest = piece;
            loop {
                let (used, came) = chunks.read(rest, &mut into)?;
                data.extend(&into[..came]);
                rest = &rest[used..];
                total += used;
                if used == 0 {
                    break;
                }
            }
        }
        Ok((data, total, chunks.is_ended()))
    }

    #[test]
    fn extensions_blanks_and_trailers_are_ignored() {
        let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(MAX_LINE - 10));
        let trailer = format!("5\r\nhello\r\n0\r\n{}\r\n", "X-T: foo\r\n".repeat(6000));
        for good in [
            "5\r\nhello\r\n0\r\n\r\n",
            "000005 ; a=\"b;c\\\"\" ;x\r\nhello\r\n000;last\r\nX-T: foo\r\nX-U: bar\r\n\r\n",
            "2 \r\nhe\r\n3\t;\r\nllo\r\n0 \r\n\r\n",
            "2\nhe\n3\nllo\n0\n\n",
            &long,
            &trailer,
        ] {
            let whole = format!("{good}HTTP/1.1 200");
            let came = read([whole.as_bytes()], 100).unwrap();
            assert_eq!(came, (b"hello".to_vec(), good.len(), true), "{good:.99}");
        }
    }

    #[test]
    fn what_are_no_chunks_is_refused_and_lines_are_bounded() {
        let long = format!("5;{}", "e".repeat(MAX_LINE));
        let trailer = format!("0\r\n{}", "X-T: foo\r\n".repeat(7000));
        for bad in [
            "\r\n",
            ";x\r\n",
            "x",
            "-5\r\n",
            "0x5\r\n",
            "5 5\r\n",
            "1\r\nabc",
            "10000000000000000\r\n",
            &long,
            &trailer,
        ] {
            assert!(read([bad.as_bytes()], 100).is_err(), "{bad:.99}");
        }
    }

    #[test]
    fn the_end_of_the_data_is_seen_before_the_end_of_the_chunks() {
        let mut chunks = Dechunker::default();
        chunks.read(b"1\r\na\r\n0", &mut [0; 9]).unwrap();
        assert!(!chunks.is_past_data());
        chunks.read(b"\r\n", &mut []).unwrap();
        assert!(chunks.is_past_data() && !chunks.is_ended());
    }

    proptest! {
        #[test]
        fn chunks_are_the_same_however_they_come(
            parts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..40), "(;[a-z=\"\\\\;]{0,40})?"), 0..8),
            cuts in proptest::collection::vec(1usize..20, 1..9),
            most in 1usize..50,
            damage in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = Vec::new();
            for (data, extension) in &parts {
                bytes.extend(format!("{:x}{extension}\r\n", data.len()).as_bytes());
                bytes.extend(data);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nX: y\r\n\r\n");
            if let Some((index, byte)) = damage {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            let mut rest = &bytes[..];
            let pieces: Vec<&[u8]> = cuts.iter().cycle().map_while(|&cut| {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                rest = behind;
                (!piece.is_empty()).then_some(piece)
            }).collect();
            let (whole, cut) = (read([&bytes[..]], 1000), read(pieces, most));
            prop_assert_eq!(whole.as_ref().ok(), cut.as_ref().ok());
            if damage.is_none() {
                let data: Vec<u8> = parts.iter().flat_map(|(data, _)| data.clone()).collect();
                prop_assert_eq!(whole.unwrap(), (data, bytes.len(), true));
            }
        }
    }
}
