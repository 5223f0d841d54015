//! What the weights of files mean for pieces: which are wanted, and how much each weighs.

use crate::bitfield::Bitfield;
use crate::layout::{Extent, FileIndex, Layout};

/// The pieces that are wanted: a piece is if any file that overlaps it is. Where every file is, all
/// are; where one is not, pad files count for nothing.
pub(crate) fn wanted_pieces(layout: &Layout, priorities: &[u32]) -> Bitfield {
    if priorities.iter().all(|&weight| weight > 0) {
        return Bitfield::full(layout.num_pieces());
    }
    let mut wanted = Bitfield::new(layout.num_pieces());
    for (file, weight) in weighted_files(layout, priorities) {
        if weight > 0 {
            wanted.insert_range(layout.pieces_of_file(file));
        }
    }
    wanted
}

/// The weight of each piece: the highest among its files. Empty if all weigh the same.
pub(super) fn piece_weights(layout: &Layout, priorities: &[u32]) -> Vec<u32> {
    let mut weighty = priorities.iter().filter(|&&weight| weight > 0);
    let first = weighty.next();
    if weighty.all(|weight| Some(weight) == first) {
        return Vec::new();
    }
    let mut weights = vec![0; layout.num_pieces() as usize];
    for (file, weight) in weighted_files(layout, priorities) {
        let pieces = layout.pieces_of_file(file);
        for piece in &mut weights[pieces.start as usize..pieces.end as usize] {
            *piece = weight.max(*piece);
        }
    }
    weights
}

fn weighted_files<'a>(
    layout: &'a Layout,
    priorities: &'a [u32],
) -> impl Iterator<Item = (FileIndex, u32)> + 'a {
    let weight = |(index, extent): (usize, &Extent)| {
        let weight = priorities.get(index).copied().unwrap_or(1);
        (!extent.pad).then_some((FileIndex(index as u32), weight))
    };
    layout.files().iter().enumerate().filter_map(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceIndex;

    /// Pieces of 10: a 0-24, b 25-29, a pad 30-39, c 40-44, an empty file, d 45-59.
    fn layout() -> Layout {
        let files = [(25, false), (5, false), (10, true), (5, false), (0, false), (15, false)];
        Layout::new(10, files).unwrap()
    }

    fn wanted(priorities: &[u32]) -> Vec<u32> {
        wanted_pieces(&layout(), priorities).iter().map(|PieceIndex(piece)| piece).collect()
    }

    #[test]
    fn an_unwanted_neighbour_never_clears_a_shared_wanted_piece() {
        for (priorities, pieces) in [
            (&[1, 0, 0, 0, 0, 0][..], &[0, 1, 2][..]),
            (&[0, 1, 0, 0, 0, 0], &[2]),
            (&[0, 1, 1, 1, 0, 0], &[2, 4]),
            (&[0, 0, 1, 0, 1, 1], &[4, 5]),
            (&[1, 1, 0, 1, 1, 1], &[0, 1, 2, 4, 5]),
            (&[0, 0, 0, 0, 1, 0], &[]),
        ] {
            assert_eq!(wanted(priorities), pieces, "{priorities:?}");
        }
    }

    #[test]
    fn all_pieces_are_wanted_where_all_files_are() {
        assert_eq!(wanted(&[]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(wanted(&[1, 9, 1, 1, 1, 1]), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_piece_weighs_what_the_heaviest_of_its_files_does() {
        let weights = |priorities: &[u32]| piece_weights(&layout(), priorities);
        assert_eq!(weights(&[1, 5, 9, 2, 9, 7]), [1, 1, 5, 0, 7, 7]);
        assert_eq!(weights(&[1, 0, 1, 3, 1, 0]), [1, 1, 1, 0, 3, 0]);
        assert!(weights(&[]).is_empty() && weights(&[1, 0, 1, 1, 0, 1]).is_empty());
    }
}
