//! Where pieces, blocks and files lie in the one byte stream that a torrent describes (BEP 3).
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
/// Invariants: `piece_length > 0`; the extents touch one another and cover `0..total`; the number
/// of pieces fits `u32`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    piece_length: u32,
    total: u64,
    files: Vec<Extent>,
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
        Some(Layout { piece_length, total: offset, files: extents })
    }

    /// Bytes in each piece but the last.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many pieces there are.
    pub fn num_pieces(&self) -> u32 {
        self.total.div_ceil(u64::from(self.piece_length)) as u32
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

    /// Bytes in `piece`; the last one may be shorter.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let left = self.total - self.piece_offset(piece);
        left.min(u64::from(self.piece_length)) as u32
    }

    /// The pieces with fewer bytes than the others: in a torrent of version 1 the last at most.
    pub fn short_pieces(&self) -> impl Iterator<Item = PieceIndex> {
        let is_short = !self.total.is_multiple_of(u64::from(self.piece_length));
        is_short.then(|| PieceIndex(self.num_pieces() - 1)).into_iter()
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

    /// Whether a request for this run of bytes can be filled: not empty, inside its piece.
    pub fn is_valid_request(&self, block: Block) -> bool {
        self.contains(block.piece)
            && block.length > 0
            && block.begin.checked_add(block.length).is_some_and(|end| end <= self.piece_size(block.piece))
    }

    /// Offset in the stream of the first byte of `block`.
    pub fn block_offset(&self, block: Block) -> u64 {
        self.piece_offset(block.piece) + u64::from(block.begin)
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

    /// The files that hold stream bytes `offset..offset + length`, in order; empty files are left
    /// out. Finds the first by binary search, so a call costs O(log files + spans).
    pub fn spans(&self, offset: u64, length: u64) -> Spans<'_> {
        let end = (offset + length).min(self.total);
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
        (1u32..70_000, prop::collection::vec((0u64..200_000, any::<bool>()), 0..20))
            .prop_map(|(piece_length, files)| Layout::new(piece_length, files).unwrap())
    }

    proptest! {
        #[test]
        fn every_byte_of_every_piece_lies_in_exactly_one_file(layout in layouts()) {
            let mut at = 0u64;
            for index in 0..layout.num_pieces() {
                let piece = PieceIndex(index);
                prop_assert_eq!(layout.piece_offset(piece), at);
                for span in layout.spans_of_piece(piece) {
                    let extent = layout.file(span.file);
                    prop_assert_eq!(extent.offset + span.offset, at);
                    prop_assert!(span.offset + span.length <= extent.length && span.length > 0);
                    prop_assert!(layout.pieces_of_file(span.file).contains(&index));
                    at += span.length;
                }
            }
            prop_assert_eq!(at, layout.total());
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
