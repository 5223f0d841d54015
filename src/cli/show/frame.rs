//! What stands below the messages: the bars of all torrents, or, where there is no room for all, of the busy ones, and a line
//! for the rest.
//!
//! Pure: pictures of torrents and a size in, lines out.

use std::collections::BTreeMap;

use crate::cli::show::bar::{self, Style, fit, is_one_line};
use crate::client::{Phase, Status};
use crate::text::count;

/// The text of each torrent that is shown, by its number, and the line for the others.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    shown: BTreeMap<usize, String>,
    rest: Option<String>,
}

impl Frame {
    /// Torrents by their number, ascending, on so many columns and rows. Who stood in the frame before stays in it as long as it is
    /// as busy as those that do not.
    pub(crate) fn new(
        torrents: &[(usize, Status)],
        (columns, rows): (usize, usize),
        style: Style,
        before: &Frame,
    ) -> Frame {
        let rows_each = if is_one_line(columns) { 1 } else { 2 };
        let rank = |&&(number, ref status): &&(usize, Status)| {
            (idleness(status), !before.shown.contains_key(&number), number)
        };
        let mut by_rank: Vec<&(usize, Status)> = torrents.iter().collect();
        let mut rest = None;
        if torrents.len() * rows_each > rows {
            by_rank.sort_by_key(rank);
            let others = by_rank.split_off(rows.saturating_sub(1) / rows_each);
            rest = Some(fit(&in_words(&others, !by_rank.is_empty()), columns, style));
        }
        let shown =
            by_rank.into_iter().map(|(number, status)| (*number, bar::render(status, columns, style)));
        Frame { shown: shown.collect(), rest }
    }

    /// The frame without this torrent.
    pub(crate) fn remove(&mut self, number: usize) {
        self.shown.remove(&number);
    }

    /// Its lines.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<&str> = self.shown.values().chain(&self.rest).map(String::as_str).collect();
        lines.join("\n")
    }
}

/// The less is to be seen of a torrent, and to be done about it, the more.
fn idleness(status: &Status) -> u8 {
    match status.phase {
        Phase::Stopped => 7,
        _ if status.error.is_some() => 0,
        Phase::Checking | Phase::Hashing => 1,
        Phase::Fetching => 2,
        Phase::Downloading if status.down_rate > 0 => 1,
        Phase::Downloading => 2,
        Phase::Seeding if status.up_rate > 0 => 3,
        Phase::Paused => 4,
        Phase::Queued => 5,
        Phase::Seeding | Phase::Waiting => 6,
    }
}

/// How many others do what: the busy first.
fn in_words(others: &[&(usize, Status)], are_more: bool) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (_, status) in others {
        let word = bar::state(status).0;
        match counts.iter_mut().find(|(other, _)| *other == word) {
            Some((_, number)) => *number += 1,
            None => counts.push((word, 1)),
        }
    }
    let counts: Vec<String> = counts.into_iter().map(|(word, number)| format!("{number} {word}")).collect();
    let noun = if are_more { "more torrent" } else { "torrent" };
    format!("{}: {}", count(others.len() as u64, noun), counts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::status;
    use proptest::prelude::*;

    const PLAIN: Style = Style { color: false, unicode: true };

    fn torrent(number: usize, phase: Phase, rate: u64) -> (usize, Status) {
        let mut status = status(&format!("torrent-{number}"), 10);
        status.phase = phase;
        (status.down_rate, status.up_rate) = (rate, rate);
        (number, status)
    }

    fn names(frame: &Frame) -> Vec<String> {
        let name = |text: &String| text.split_whitespace().next().unwrap().to_owned();
        frame.shown.values().map(name).collect()
    }

    #[test]
    fn all_are_shown_where_there_is_room() {
        let torrents: Vec<_> = (0..4).map(|number| torrent(number, Phase::Seeding, 0)).collect();
        let frame = Frame::new(&torrents, (80, 8), PLAIN, &Frame::default());
        assert_eq!((frame.text().lines().count(), &frame.rest), (8, &None));
        assert_eq!(names(&frame), ["torrent-0", "torrent-1", "torrent-2", "torrent-3"]);
    }

    #[test]
    fn else_the_busy_ones_in_their_order_and_a_line_for_the_others() {
        let torrents = [
            torrent(0, Phase::Seeding, 0),
            torrent(1, Phase::Queued, 0),
            torrent(2, Phase::Seeding, 9),
            torrent(3, Phase::Downloading, 0),
            torrent(4, Phase::Downloading, 9),
            torrent(5, Phase::Queued, 0),
            torrent(6, Phase::Checking, 0),
        ];
        let frame = Frame::new(&torrents, (80, 7), PLAIN, &Frame::default());
        assert_eq!(names(&frame), ["torrent-3", "torrent-4", "torrent-6"]);
        assert_eq!(frame.text().lines().count(), 7);
        assert_eq!(frame.rest.unwrap().trim_end(), "4 more torrents: 2 seeding, 2 queued");
        let wide = Frame::new(&torrents, (130, 3), PLAIN, &Frame::default());
        assert_eq!(
            (names(&wide), wide.text().lines().count()),
            (vec!["torrent-4".into(), "torrent-6".into()], 3)
        );
    }

    #[test]
    fn an_error_comes_before_all_else() {
        let mut torrents: Vec<_> = (0..9).map(|number| torrent(number, Phase::Downloading, 9)).collect();
        torrents[8].1.phase = Phase::Paused;
        torrents[8].1.error = Some("the disk is full".to_owned());
        let frame = Frame::new(&torrents, (80, 3), PLAIN, &Frame::default());
        assert_eq!(names(&frame), ["torrent-8"]);
    }

    #[test]
    fn among_equals_those_stay_that_are_shown() {
        let mut torrents: Vec<_> = (0..9).map(|number| torrent(number, Phase::Seeding, 0)).collect();
        torrents[7].1.up_rate = 1;
        let before = Frame::new(&torrents, (80, 3), PLAIN, &Frame::default());
        torrents[7].1.up_rate = 0;
        assert_eq!(names(&Frame::new(&torrents, (80, 3), PLAIN, &before)), ["torrent-7"]);
    }

    proptest! {
        #[test]
        fn it_never_takes_more_than_there_is(
            phases in prop::collection::vec((0u8..5, 0u64..2), 0..60), columns in 20usize..250, rows in 1usize..60,
        ) {
            let phase = |n| [Phase::Queued, Phase::Checking, Phase::Downloading, Phase::Seeding, Phase::Paused][usize::from(n)];
            let torrents: Vec<_> =
                phases.iter().enumerate().map(|(number, &(n, rate))| torrent(number, phase(n), rate)).collect();
            let frame = Frame::new(&torrents, (columns, rows), PLAIN, &Frame::default());
            prop_assert!(frame.text().lines().count() <= rows);
            prop_assert_eq!(frame.rest.is_none(), frame.shown.len() == torrents.len());
        }
    }
}
