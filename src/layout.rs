//! Where pieces, blocks and files lie in the one byte stream that a torrent describes (BEP 3, 52).
//!
//! Owns the arithmetic between piece indices, blocks, files and offsets, and nothing else: no
//! data, no file names, no I/O.

use std::ops::Range;

/// Bytes in a block, the unit of a request. BEP 3 says that all current implementations use
/// 2^14; peers close connections that ask for more.
pub const BLOCK_LENGTH: u32 = 16 * 1024;

/// Index of a piece, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PieceIndex(pub u32);

/// Index of a file in the order of the torrent, from 0. (What people see is this plus one.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileIndex(pub u32);

/// What a request names: a run of bytes inside one piece.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Block {
    /// The piece.
    pub piece: PieceIndex,
    /// Offset in the piece, in bytes.
    pub begin: u32,
    /// Length in bytes.
    pub length: u32,
}

/// The place of one file in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Offset of its first byte in the stream.
    pub offset: u64,
    /// Length in bytes; may be 0.
    pub length: u64,
    /// A pad file (BEP 47): zeros that need not exist on disk.
    pub pad: bool,
}

impl Extent {
    /// Offset just past its last byte in the stream.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// A run of bytes inside one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The file.
    pub file: FileIndex,
    /// Offset in the file.
    pub offset: u64,
    /// Length in bytes; never 0.
    pub length: u64,
}

/// The shape of a torrent: piece length, total length, and its files in order.
///
/// In version 1 the files touch one another, so a piece may hold bytes of several. In version 2 (BEP 52) each
/// file begins with a piece of its own, so that the last piece of a file is shorter, and behind it is a gap of the
/// stream in which nothing is. A hybrid is laid out so too: its pad files are these gaps.
///
/// Invariants: `piece_length > 0`; the extents ascend, do not overlap, and end at `end`; without gaps they cover
/// `0..end`, with them no piece holds bytes of two; the number of pieces fits `u32`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    piece_length: u32,
    total: u64,
    end: u64,
    gaps: Option<Gaps>,
    files: Vec<Extent>,
}

/// What is behind the end of each file, up to the next piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Gaps {
    /// Whether there is one behind the last file too, for the hashes of version 1.
    behind_last: bool,
}

impl Layout {
    /// Lays the files out one after another: `(length, pad)` for each.
    ///
    /// `None` if `piece_length` is 0, the lengths overflow, or the pieces or files do not fit `u32`.
    pub fn new(piece_length: u32, files: impl IntoIterator<Item = (u64, bool)>) -> Option<Layout> {
        let mut extents = Vec::new();
        let mut offset = 0u64;
        for (length, pad) in files {
            extents.push(Extent { offset, length, pad });
            offset = offset.checked_add(length)?;
        }
        if piece_length == 0
            || u32::try_from(offset.div_ceil(u64::from(piece_length))).is_err()
            || u32::try_from(extents.len()).is_err()
        {
            return None;
        }
        Some(Layout { piece_length, total: offset, end: offset, gaps: None, files: extents })
    }

    /// Lays files of these `lengths` out as version 2 does: each begins with a piece. `pad_behind_last` says of a
    /// hybrid whether its hashes of version 1 go over a pad behind the last file too.
    ///
    /// `None` as of [`Layout::new`].
    pub fn aligned(
        piece_length: u32,
        lengths: impl IntoIterator<Item = u64>,
        pad_behind_last: bool,
    ) -> Option<Layout> {
        let unit = u64::from(piece_length);
        let (mut extents, mut total, mut end) = (Vec::new(), 0u64, 0u64);
        for length in lengths {
            let offset = end.checked_next_multiple_of(unit)?;
            extents.push(Extent { offset, length, pad: false });
            if length > 0 {
                total = total.checked_add(length)?;
                end = offset.checked_add(length)?;
            }
        }
        let fits = u32::try_from(end.div_ceil(unit)).is_ok() && u32::try_from(extents.len()).is_ok();
        let gaps = Some(Gaps { behind_last: pad_behind_last });
        fits.then_some(Layout { piece_length, total, end, gaps, files: extents })
    }

    /// Bytes in each piece but the last.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Bytes of all files.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Offset just past the last byte in the stream: more than [`Layout::total`] where there are gaps.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How many pieces there are.
    pub fn num_pieces(&self) -> u32 {
        self.end.div_ceil(u64::from(self.piece_length)) as u32
    }

    /// The files in order.
    pub fn files(&self) -> &[Extent] {
        &self.files
    }

    /// The place of one file.
    pub fn file(&self, file: FileIndex) -> Extent {
        self.files[file.0 as usize]
    }

    /// Whether there is such a piece.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        piece.0 < self.num_pieces()
    }

    /// Offset in the stream of the first byte of `piece`.
    pub fn piece_offset(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// Bytes in `piece`; the last one may be shorter, and with gaps the last one of each file. With gaps this finds
    /// the file by binary search.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let offset = self.piece_offset(piece);
        let end = match self.gaps {
            None => self.end,
            Some(_) => self.first_behind(offset).map_or(self.end, |file| self.files[file].end()),
        };
        (end - offset).min(u64::from(self.piece_length)) as u32
    }

    /// Zeros that the SHA-1 of `piece` covers behind its bytes, where version 1 of a hybrid has a pad file (BEP 47).
    pub fn zeros_behind(&self, piece: PieceIndex) -> u32 {
        match self.gaps {
            Some(gaps) if gaps.behind_last || piece.0 + 1 < self.num_pieces() => {
                self.piece_length - self.piece_size(piece)
            }
            _ => 0,
        }
    }

    /// The pieces with fewer bytes than the others, ascending: the last at most, and with gaps the last of each file.
    pub fn short_pieces(&self) -> impl Iterator<Item = PieceIndex> {
        let last = self.gaps.is_none().then_some(self.end);
        let of_files = self.gaps.iter().flat_map(|_| &self.files);
        let ends = of_files.filter(|file| file.length > 0).map(Extent::end).chain(last);
        let length = u64::from(self.piece_length);
        ends.filter(move |end| !end.is_multiple_of(length)).map(move |end| PieceIndex((end / length) as u32))
    }

    /// The one file whose bytes are in `piece`; `None` in a torrent of version 1, and of a piece that is not there.
    pub fn file_of_piece(&self, piece: PieceIndex) -> Option<FileIndex> {
        let file = self.gaps.and_then(|_| self.first_behind(self.piece_offset(piece)))?;
        Some(FileIndex(file as u32))
    }

    /// The first file that ends behind `offset`. With gaps, and at the start of a piece, it is the one that has the piece.
    fn first_behind(&self, offset: u64) -> Option<usize> {
        let file = self.files.partition_point(|file| file.end() <= offset);
        (file < self.files.len()).then_some(file)
    }

    /// How many blocks `piece` has.
    pub fn num_blocks(&self, piece: PieceIndex) -> u32 {
        self.piece_size(piece).div_ceil(BLOCK_LENGTH)
    }

    /// The `number`th block of `piece`, from 0.
    pub fn block(&self, piece: PieceIndex, number: u32) -> Block {
        let begin = number * BLOCK_LENGTH;
        Block { piece, begin, length: (self.piece_size(piece) - begin).min(BLOCK_LENGTH) }
    }

    /// Which of the piece's blocks this is, if it is exactly one of them: on a block border, with
    /// a block's length, inside the torrent.
    pub fn block_number(&self, block: Block) -> Option<u32> {
        let number = block.begin / BLOCK_LENGTH;
        let fits = self.contains(block.piece)
            && block.begin.is_multiple_of(BLOCK_LENGTH)
            && number < self.num_blocks(block.piece)
            && self.block(block.piece, number) == block;
        fits.then_some(number)
    }

    /// Whether a request for this run of bytes can be filled: not empty, inside its piece. Where a piece ends with
    /// its file, a request may reach into the gap behind it, which is zeros: to others it may be a pad file.
    pub fn is_valid_request(&self, block: Block) -> bool {
        if !self.contains(block.piece) || block.length == 0 {
            return false;
        }
        let limit = if self.gaps.is_some() { self.piece_length } else { self.piece_size(block.piece) };
        block.begin.checked_add(block.length).is_some_and(|end| end <= limit)
    }

    /// Offset in the stream of the first byte of `block`.
    pub fn block_offset(&self, block: Block) -> u64 {
        self.piece_offset(block.piece) + u64::from(block.begin)
    }

    /// How many bytes of a block are zeros of pad files.
    pub fn pad_bytes(&self, block: Block) -> u64 {
        let spans = self.spans(self.block_offset(block), u64::from(block.length));
        spans.filter(|span| self.file(span.file).pad).map(|span| span.length).sum()
    }

    /// Pieces that overlap `file`; empty for an empty file.
    pub fn pieces_of_file(&self, file: FileIndex) -> Range<u32> {
        let extent = self.file(file);
        let piece_length = u64::from(self.piece_length);
        let first = (extent.offset / piece_length) as u32;
        if extent.length == 0 {
            return first..first;
        }
        first..extent.end().div_ceil(piece_length) as u32
    }

    /// Bytes of `file` that are in pieces that `are_meant`.
    pub fn bytes_of_file_in(&self, file: FileIndex, are_meant: impl Fn(PieceIndex) -> bool) -> u64 {
        let extent = self.file(file);
        let pieces = self.pieces_of_file(file).map(PieceIndex).filter(|&piece| are_meant(piece));
        let within = |piece| {
            let start = self.piece_offset(piece);
            let end = start + u64::from(self.piece_size(piece));
            end.min(extent.end()) - start.max(extent.offset)
        };
        pieces.map(within).sum()
    }

    /// The files that hold stream bytes `offset..offset + length`, in order; empty files and gaps are left
    /// out. Finds the first by binary search, so a call costs O(log files + spans).
    pub fn spans(&self, offset: u64, length: u64) -> Spans<'_> {
        let end = (offset + length).min(self.end);
        Spans { layout: self, next: self.files.partition_point(|f| f.end() <= offset), offset, end }
    }

    /// [`Layout::spans`] of a whole piece.
    pub fn spans_of_piece(&self, piece: PieceIndex) -> Spans<'_> {
        self.spans(self.piece_offset(piece), u64::from(self.piece_size(piece)))
    }
}

/// Iterator of [`Layout::spans`].
#[derive(Debug)]
pub struct Spans<'a> {
    layout: &'a Layout,
    next: usize,
    offset: u64,
    end: u64,
}

impl Iterator for Spans<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        while self.offset < self.end {
            let extent = self.layout.files.get(self.next)?;
            let file = FileIndex(self.next as u32);
            self.next += 1;
            self.offset = self.offset.max(extent.offset).min(self.end);
            let length = extent.end().min(self.end) - self.offset;
            if length > 0 {
                let span = Span { file, offset: self.offset - extent.offset, length };
                self.offset += length;
                return Some(span);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layouts() -> impl Strategy<Value = Layout> {
        let unaligned = (1u32..70_000, prop::collection::vec((0u64..200_000, any::<bool>()), 0..20))
            .prop_map(|(piece_length, files)| Layout::new(piece_length, files).unwrap());
        prop_oneof![unaligned, aligned()]
    }

    fn aligned() -> impl Strategy<Value = Layout> {
        let lengths = prop::collection::vec(prop_oneof![Just(0), Just(65_536), 0u64..200_000], 0..20);
        (14u32..17, lengths, any::<bool>())
            .prop_map(|(power, lengths, pad)| Layout::aligned(1 << power, lengths, pad).unwrap())
    }

    proptest! {
        #[test]
        fn every_byte_of_every_piece_lies_in_exactly_one_file(layout in layouts()) {
            let mut bytes = 0u64;
            for index in 0..layout.num_pieces() {
                let piece = PieceIndex(index);
                let mut at = layout.piece_offset(piece);
                prop_assert_eq!(at, u64::from(index) * u64::from(layout.piece_length()));
                for span in layout.spans_of_piece(piece) {
                    let extent = layout.file(span.file);
                    prop_assert_eq!(extent.offset + span.offset, at);
                    prop_assert!(span.offset + span.length <= extent.length && span.length > 0);
                    prop_assert!(layout.pieces_of_file(span.file).contains(&index));
                    prop_assert!(layout.file_of_piece(piece).is_none_or(|file| file == span.file));
                    at += span.length;
                }
                prop_assert_eq!(at - layout.piece_offset(piece), u64::from(layout.piece_size(piece)));
                bytes += u64::from(layout.piece_size(piece));
                let is_short = layout.piece_size(piece) < layout.piece_length();
                prop_assert_eq!(layout.short_pieces().any(|short| short == piece), is_short);
            }
            prop_assert_eq!(bytes, layout.total());
            prop_assert_eq!(layout.spans(0, layout.end()).map(|span| span.length).sum::<u64>(), bytes);
        }

        #[test]
        fn with_gaps_a_request_may_reach_to_the_end_of_its_piece(layout in aligned()) {
            let length = layout.piece_length();
            for index in 0..layout.num_pieces() {
                let piece = PieceIndex(index);
                let whole = Block { piece, begin: 0, length };
                prop_assert!(layout.is_valid_request(whole));
                let longer = Block { length: length + 1, ..whole };
                prop_assert!(!layout.is_valid_request(longer));
            }
        }

        #[test]
        fn blocks_tile_each_piece_and_know_their_number(layout in layouts()) {
            for index in 0..layout.num_pieces() {
                let piece = PieceIndex(index);
                let mut begin = 0;
                for number in 0..layout.num_blocks(piece) {
                    let block = layout.block(piece, number);
                    prop_assert_eq!(block.begin, begin);
                    prop_assert_eq!(layout.block_number(block), Some(number));
                    prop_assert!(layout.is_valid_request(block));
                    begin += block.length;
                }
                prop_assert_eq!(begin, layout.piece_size(piece));
            }
        }
    }

    #[test]
    fn contradictory_shapes_are_refused() {
        assert_eq!(Layout::new(0, [(1, false)]), None);
        assert_eq!(Layout::new(1, [(u64::MAX, false), (1, false)]), None);
        assert_eq!(Layout::new(1, [(u64::from(u32::MAX) + 1, false)]), None);
    }

    #[test]
    fn each_file_of_version_2_begins_with_a_piece() {
        let layout = Layout::aligned(16384, [0, 16385, 0, 16384, 1, 0], true).unwrap();
        let offsets: Vec<u64> = layout.files().iter().map(|file| file.offset).collect();
        assert_eq!(offsets, [0, 0, 32768, 32768, 49152, 65536]);
        assert_eq!((layout.total(), layout.end(), layout.num_pieces()), (32770, 49153, 4));
        let sizes: Vec<u32> = (0..4).map(|piece| layout.piece_size(PieceIndex(piece))).collect();
        assert_eq!(sizes, [16384, 1, 16384, 1]);
        let zeros = |layout: &Layout| [0, 1, 2, 3].map(|piece| layout.zeros_behind(PieceIndex(piece)));
        assert_eq!(zeros(&layout), [0, 16383, 0, 16383]);
        let bare = Layout::aligned(16384, [0, 16385, 0, 16384, 1, 0], false).unwrap();
        assert_eq!(zeros(&bare), [0, 16383, 0, 0]);
        assert_eq!(layout.file_of_piece(PieceIndex(1)), Some(FileIndex(1)));
        assert_eq!(layout.file_of_piece(PieceIndex(3)), Some(FileIndex(4)));
        assert_eq!(Layout::aligned(16384, [u64::MAX, 1], true), None);
        assert_eq!(Layout::aligned(16384, [u64::MAX >> 1], true), None);
    }

    #[test]
    fn foreign_blocks_have_no_number() {
        let layout = Layout::new(40_000, [(50_000, false)]).unwrap();
        let block = |piece, begin, length| Block { piece: PieceIndex(piece), begin, length };
        assert_eq!(layout.block_number(block(0, 16384, 16384)), Some(1));
        assert_eq!(layout.block_number(block(0, 32768, 7232)), Some(2));
        for foreign in [block(0, 1, 16384), block(0, 32768, 16384), block(2, 0, 1), block(1, 16384, 1)] {
            assert_eq!(layout.block_number(foreign), None);
        }
        assert!(!layout.is_valid_request(block(0, u32::MAX, 2)));
        assert!(!layout.is_valid_request(block(0, 0, 0)));
    }
}
