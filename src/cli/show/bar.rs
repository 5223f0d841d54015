//! The bar of a torrent: its bitfield, drawn.
//!
//! Pure: a picture of a torrent and a width in, text out. Each cell stands for a run of pieces and
//! is filled as high as they are there, so pieces that come rarest first show as a level that
//! rises everywhere.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::client::{NextAsk, Phase, Status};
use crate::text::escape;
use crate::text::{Rate, Short, Size, Time, percent};

/// What the terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Style {
    /// ANSI colours.
    pub color: bool,
    /// Blocks and arrows; else ASCII alone.
    pub unicode: bool,
}

/// From this width on, name, bar and figures stand on one line; below they take two.
const ONE_LINE: usize = 120;
/// Below this width the figures are abbreviated.
const NARROW: usize = 64;
/// Below this width there is room for percent alone.
const TINY: usize = 36;

/// Colours as SGR parameters.
const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "34";
const CYAN: &str = "36";

/// Draws a torrent in at most `width` columns, on one line or two. At least 20 columns are needed
/// to say anything.
pub(crate) fn render(status: &Status, width: usize, style: Style) -> String {
    let width = width.max(20);
    let (word, color) = state(status);
    if is_one_line(width) {
        let name_width = (width / 5).min(48);
        let figures = match &status.error {
            Some(error) => fit(&escape(error), width / 3, style),
            None => format!("{}  {}", figures(status, style), people(status)),
        };
        let bar_width = width.saturating_sub(name_width + 14 + figures.width());
        return format!(
            "{} {} {} {figures}",
            name(status, name_width, style),
            style.paint(color, &format!("{word:<11}")),
            bar(status, bar_width, style),
        );
    }
    let (right, second) = if width < TINY {
        (String::new(), format!("{:>3}%", done_percent(status).floor()))
    } else if width < NARROW {
        (format!(" {}", eta(status)), short_figures(status, style))
    } else {
        (format!("  {}", people(status)), figures(status, style))
    };
    let second = match &status.error {
        Some(error) => fit(&escape(error), width * 2 / 3, style),
        None => second,
    };
    format!(
        "{} {}{right}\n{} {second}",
        name(status, width.saturating_sub(12 + right.width()), style),
        style.paint(color, &format!("{word:>11}")),
        bar(status, width.saturating_sub(second.width() + 1), style),
    )
}

/// The name in so many columns. Terminals do not agree on how many of them a name takes that is more than ASCII, so the cursor is told where
/// it ends.
fn name(status: &Status, width: usize, style: Style) -> String {
    let name = style.shown(&escape(&status.name)).into_owned();
    let end = if name.is_ascii() { String::new() } else { format!("\x1b[{}G", width + 1) };
    style.paint(BOLD, &fit(&name, width, style)) + &end
}

/// Whether a torrent takes one line of so many columns, and not two.
pub(crate) fn is_one_line(width: usize) -> bool {
    width >= ONE_LINE
}

/// The state in a word, and its colour.
pub(crate) fn state(status: &Status) -> (&'static str, &'static str) {
    match status.phase {
        _ if status.error.is_some() => ("error", RED),
        Phase::Fetching => ("metadata", CYAN),
        Phase::Queued => ("queued", DIM),
        Phase::Waiting => ("waiting", DIM),
        Phase::Checking => ("checking", BLUE),
        Phase::Hashing => ("hashing", BLUE),
        Phase::Downloading => ("downloading", CYAN),
        Phase::Seeding => ("seeding", GREEN),
        Phase::Paused => ("paused", YELLOW),
        Phase::Stopped => ("stopped", DIM),
    }
}

/// Percent of what is being done: of the check while it lasts, else of what is wanted.
pub(crate) fn done_percent(status: &Status) -> f64 {
    match (status.check, status.metadata) {
        (_, Some((here, all))) => all.map_or(0.0, |all| percent(here, all)),
        (Some((done, all, _)), _) => percent(done, all),
        (None, None) => percent(status.wanted_bytes.saturating_sub(status.left), status.wanted_bytes),
    }
}

/// Time left of what is being done.
pub(crate) fn time_left(status: &Status) -> Option<Duration> {
    match status.check {
        Some((done, all, rate)) if rate > 0 => {
            Some(Duration::from_secs(all.saturating_sub(done).div_ceil(rate)))
        }
        Some(_) => None,
        None => status.eta,
    }
}

/// What a download without a peer waits for.
pub(crate) fn wait_for_peers(status: &Status) -> Option<NextAsk> {
    let waits = matches!(status.phase, Phase::Downloading | Phase::Fetching)
        && status.peers == 0
        && status.web_seeds == 0
        && status.error.is_none();
    status.next_ask.filter(|_| waits)
}

fn eta(status: &Status) -> String {
    format!("{:>7}", time_left(status).map(|time| Time(time).to_string()).unwrap_or_default())
}

/// Peers, seeds, time left; always equally wide up to 999 peers.
fn people(status: &Status) -> String {
    let left = if time_left(status).is_some() { "left" } else { "    " };
    let noun = |number, one, many| if number == 1 { one } else { many };
    format!(
        "{:>3} {} {:>3} {} {} {left}",
        status.peers,
        noun(status.peers, "peer ", "peers"),
        status.seeds,
        noun(status.seeds, "seed ", "seeds"),
        eta(status)
    )
}

/// Percent and rates, always equally wide, so that bars stand below one another.
fn figures(status: &Status, style: Style) -> String {
    let done = format!("{:>5.1}%", done_percent(status));
    let (down, up) = style.arrows();
    let rate = |rate| Rate(rate).to_string();
    match (status.check, wait_for_peers(status)) {
        (Some((_, _, check)), _) => format!("{done}  {:>10} read   {:8}", rate(check), ""),
        (None, None) if let Some((here, Some(all))) = status.metadata => {
            format!("{done}  {:<26}", format!("{} of {}", Size(here), Size(all)))
        }
        (None, Some(wait)) => {
            let text = match (wait, status.dht_nodes) {
                (NextAsk::Never, Some(_)) => "looking in the DHT".to_owned(),
                (_, Some(_)) => "looking: DHT and trackers".to_owned(),
                (NextAsk::In(time), None) => format!("no peers, asks in {}", Time(time)),
                (NextAsk::Now, None) => "no peers, asking a tracker".to_owned(),
                (NextAsk::Never, None) => "no peers, no tracker".to_owned(),
            };
            format!("{done}  {text:<26}")
        }
        (None, None) if status.phase == Phase::Waiting => format!("{done}  {:<26}", "until others are done"),
        (None, None) => {
            format!("{done}  {down} {:>10}  {up} {:>10}", rate(status.down_rate), rate(status.up_rate))
        }
    }
}

/// [`figures`] for narrow terminals, with the number of peers.
fn short_figures(status: &Status, style: Style) -> String {
    let done = format!("{:>3}%", done_percent(status).floor());
    let (down, up) = style.arrows();
    let short = |rate| Short(rate).to_string();
    match status.check {
        Some((_, _, check)) => format!("{done} {:>4}/s {:9}", short(check), ""),
        None => format!(
            "{done} {down}{:>4} {up}{:>4} {:>3}p",
            short(status.down_rate),
            short(status.up_rate),
            status.peers
        ),
    }
}

impl Style {
    fn paint(self, color: &str, text: &str) -> String {
        match self.color && !text.is_empty() {
            true => format!("\x1b[{color}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// As much of a text as the terminal can show.
    pub(crate) fn shown(self, text: &str) -> Cow<'_, str> {
        if self.unicode || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect())
    }

    fn arrows(self) -> (char, char) {
        if self.unicode { ('↓', '↑') } else { ('v', '^') }
    }
}

/// Exactly `width` columns of `text`, where each takes as many as any terminal gives it: filled with spaces, or with its middle
/// left out, since the end of a name often says most.
pub(crate) fn fit(text: &str, width: usize, style: Style) -> String {
    let text = style.shown(text);
    let full = columns(&text);
    if full <= width {
        return text.into_owned() + &" ".repeat(width - full);
    }
    let gap = if style.unicode { "…" } else { "..." };
    let room = width.saturating_sub(columns(gap));
    let head = take(text.chars(), room - room / 3);
    let tail: String = take(text.chars().rev(), room - columns(&head)).chars().rev().collect();
    // What joined the characters on both sides of the gap has nothing to join now.
    let (head, tail) = (head.trim_end_matches(JOINER), tail.trim_start_matches(JOINER));
    let short = format!("{head}{gap}{tail}");
    let missing = width.saturating_sub(columns(&short));
    short + &" ".repeat(missing)
}

/// Makes one of two emoji.
const JOINER: char = '\u{200d}';

/// The most columns that a terminal shows a text in: some draw joined emoji as one, others one after another.
fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(c: char) -> usize {
    match c {
        // What stands before it is drawn as an emoji, two columns wide.
        '\u{fe0f}' => 1,
        _ => c.width().unwrap_or(0),
    }
}

/// As many characters as fit `width` columns.
fn take(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|&c| {
            used += columns_of(c);
            used <= width
        })
        .collect()
}

/// What a run of pieces looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    /// Nothing of it is wanted, nor there.
    Unwanted,
    /// All that is wanted is there.
    Full,
    /// So many eighths (0 to 7) of what is wanted are there.
    Level {
        /// 0 only if nothing is there.
        eighths: u8,
        /// Some of the missing are requested.
        in_flight: bool,
        /// And these are an eighth of the run at least.
        in_force: bool,
    },
}

/// The bitfield in exactly `width` columns, its two ends included.
fn bar(status: &Status, width: usize, style: Style) -> String {
    let cells = width.saturating_sub(2) as u64;
    let (left, right) = if style.unicode { ("▕", "▏") } else { ("[", "]") };
    let mut text = style.paint(DIM, left);
    let mut run = String::new();
    let mut last = "";
    for index in 0..cells {
        let cell = match status.metadata {
            Some((here, all)) => filled(here, all.unwrap_or(0), index, cells),
            None => cell(status, piece_run(status.have.len(), index, cells)),
        };
        let (symbol, color) = style.symbol(cell);
        if color != last {
            text.push_str(&style.paint(last, &run));
            run.clear();
            last = color;
        }
        run.push(symbol);
    }
    text.push_str(&style.paint(last, &run));
    text + &style.paint(DIM, right)
}

/// The pieces that cell `index` of `cells` stands for: a share of them, or, where there are fewer
/// pieces than cells, the one that lies here.
fn piece_run(pieces: u32, index: u64, cells: u64) -> Range<u32> {
    let at = |index: u64| (index * u64::from(pieces) / cells) as u32;
    let start = at(index);
    start..at(index + 1).max(start + 1)
}

/// Of what has no pieces that are known: the bar fills from the left.
fn filled(here: u64, all: u64, index: u64, cells: u64) -> Cell {
    let eighths = (here * cells * 8).checked_div(all).unwrap_or(0).saturating_sub(index * 8);
    match eighths {
        0..8 => Cell::Level { eighths: eighths as u8, in_flight: false, in_force: false },
        _ => Cell::Full,
    }
}

fn cell(status: &Status, run: Range<u32>) -> Cell {
    let all = run.end.min(status.have.len()).saturating_sub(run.start);
    let wanted = status.wanted.count_in(run.clone());
    let (of, missing) = match wanted {
        // What is there is shown, wanted or not.
        0 => (all, all - status.have.count_in(run.clone())),
        _ => (wanted, status.wanted.count_minus_in(&status.have, run.clone())),
    };
    if missing == 0 {
        return Cell::Full;
    }
    if wanted == 0 && missing == of {
        return Cell::Unwanted;
    }
    let flying = status.in_flight.count_in(run);
    let (there, of) = (u64::from(of - missing), u64::from(of));
    let eighths = ((there * 8 + of / 2) / of).clamp(u64::from(there > 0), 7) as u8;
    Cell::Level { eighths, in_flight: flying > 0, in_force: u64::from(flying) * 8 >= of }
}

impl Style {
    /// Character and colour of a cell. Without colour a shade shows what is in flight: over an
    /// empty run always, over a level only when it is as much as a level can show.
    fn symbol(self, cell: Cell) -> (char, &'static str) {
        const BLOCKS: [char; 8] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇'];
        const ASCII: [char; 8] = [' ', '.', ':', '-', '=', '+', 'o', '*'];
        let (levels, full, unwanted, shades) = match self.unicode {
            true => (BLOCKS, '█', '·', ['░', '▒']),
            false => (ASCII, '#', '_', ['~', '%']),
        };
        match cell {
            Cell::Unwanted => (unwanted, DIM),
            Cell::Full => (full, GREEN),
            Cell::Level { eighths: 0, in_flight: true, .. } => (shades[0], YELLOW),
            Cell::Level { in_force: true, .. } if !self.color => (shades[1], ""),
            Cell::Level { eighths, in_flight, .. } => {
                (levels[usize::from(eighths)], if in_flight { YELLOW } else { CYAN })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitfield::Bitfield;
    use crate::cli::testing::status;
    use crate::layout::PieceIndex;
    use proptest::prelude::*;

    const PLAIN: Style = Style { color: false, unicode: true };
    const ASCII: Style = Style { color: false, unicode: false };
    const COLOR: Style = Style { color: true, unicode: true };

    fn downloading() -> Status {
        let mut status = status("ubuntu-24.04.1-desktop-amd64.iso", 1600);
        status.have.insert_range(0..400);
        (400..800).step_by(2).for_each(|index| assert!(status.have.insert(PieceIndex(index))));
        status.in_flight.insert_range(800..1000);
        (1400..1600).for_each(|index| assert!(status.wanted.remove(PieceIndex(index))));
        status.wanted_bytes = 1400 << 20;
        status.left = 800 << 20;
        status.down_rate = 12_900_000;
        status.up_rate = 1_300_000;
        (status.peers, status.seeds) = (34, 3);
        status.eta = Some(Duration::from_secs(65));
        status
    }

    #[test]
    fn at_40_columns_it_takes_two_short_lines() {
        let text = render(&downloading(), 40, PLAIN);
        assert_eq!(
            text,
            "ubuntu-24.04.…64.iso downloading   1m 5s\n▕████▄▄▄▄░░    ··▏  42% ↓ 12M ↑1.2M  34p"
        );
    }

    #[test]
    fn at_80_columns_it_takes_two_lines() {
        let text = render(&downloading(), 80, PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "ubuntu-24.04.1-desktop-amd64.iso   downloading   34 peers   3 seeds   1m 5s left"
        );
        assert_eq!(
            lines[1],
            "▕██████████▇▄▄▄▄▄▄▄▄▄▄▒░░░░░           ·····▏  42.8%  ↓ 12.3 MiB/s  ↑ 1.24 MiB/s"
        );
    }

    #[test]
    fn at_200_columns_it_takes_one_line() {
        let text = render(&downloading(), 200, PLAIN);
        assert!(!text.contains('\n'));
        assert_eq!(text.width(), 200);
        assert!(text.starts_with("ubuntu-24.04.1-desktop-amd64.iso         downloading ▕████"), "{text}");
        assert!(
            text.ends_with("··▏  42.8%  ↓ 12.3 MiB/s  ↑ 1.24 MiB/s   34 peers   3 seeds   1m 5s left"),
            "{text}"
        );
    }

    #[test]
    fn ascii_terminals_get_ascii() {
        for width in [40, 80, 200] {
            let mut status = downloading();
            status.name = "日本語.iso".to_owned();
            assert!(render(&status, width, ASCII).is_ascii());
        }
        assert!(render(&downloading(), 40, ASCII).contains("[####====~~    __]"));
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let text = render(&downloading(), 80, COLOR);
        let mut plain = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            plain += before;
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(plain + rest, render(&downloading(), 80, PLAIN).replace('▒', "▂"));
        assert!(text.contains("\x1b[32m███"));
    }

    #[test]
    fn of_metadata_it_shows_how_much_is_there() {
        let line = |metadata| {
            let status = Status { phase: Phase::Fetching, peers: 1, metadata, ..status("a link", 0) };
            let text = render(&status, 80, PLAIN);
            text.lines().nth(1).unwrap().to_owned()
        };
        let empty = " ".repeat(43);
        assert_eq!(line(Some((0, None))), format!("▕{empty}▏   0.0%  ↓      0 B/s  ↑      0 B/s"));
        let half = format!("{}▄{}", "█".repeat(21), " ".repeat(21));
        assert_eq!(
            line(Some((2 << 20, Some(4 << 20)))),
            format!("▕{half}▏  50.0%  2.00 MiB of 4.00 MiB      ")
        );
    }

    #[test]
    fn what_waits_says_for_what() {
        let text = render(&Status { phase: Phase::Waiting, ..status("a", 100) }, 80, PLAIN);
        assert!(text.ends_with("0.0%  until others are done     "), "{text}");
    }

    #[test]
    fn a_check_shows_its_rate_and_time_left() {
        let mut status = status("a", 100);
        status.phase = Phase::Checking;
        status.check = Some((1 << 30, 4 << 30, 1 << 30));
        let text = render(&status, 80, PLAIN);
        assert!(text.contains("checking") && text.contains("25.0%  1.00 GiB/s read"), "{text}");
        assert!(text.contains("3s left"), "{text}");
    }

    #[test]
    fn an_error_is_said_in_place_of_the_figures() {
        let mut status = status("a", 100);
        status.phase = Phase::Paused;
        status.error = Some("cannot write ./a: disk full; free 3 GiB and send SIGUSR2".to_owned());
        for width in [40, 80, 200] {
            let text = render(&status, width, PLAIN);
            assert!(text.contains("error") && text.contains("cannot write"), "{text}");
        }
    }

    #[test]
    fn few_pieces_are_drawn_wide_and_none_as_complete() {
        let mut three = status("a", 3);
        three.have.insert(PieceIndex(1));
        assert_eq!(bar(&three, 11, PLAIN), "▕   ███   ▏");
        assert_eq!(bar(&status("a", 0), 5, PLAIN), "▕███▏");
    }

    #[test]
    fn a_level_is_full_only_when_nothing_wanted_is_missing() {
        let mut many = status("a", 1000);
        many.have = Bitfield::full(1000);
        many.have.remove(PieceIndex(500));
        assert_eq!(bar(&many, 3, PLAIN), "▕▇▏");
        many.wanted.remove(PieceIndex(500));
        assert_eq!(bar(&many, 3, PLAIN), "▕█▏");
        many.have = Bitfield::new(1000);
        many.have.insert(PieceIndex(3));
        assert_eq!(bar(&many, 3, PLAIN), "▕▁▏");
    }

    #[test]
    fn long_names_lose_their_middle_by_display_width() {
        assert_eq!(fit("abc", 5, PLAIN), "abc  ");
        assert_eq!(fit("abcdefghij.iso", 9, PLAIN), "abcdef…so");
        assert_eq!(fit("日本語日本語日本語", 10, PLAIN), "日本語…語 ");
        assert_eq!(fit("日本", 6, ASCII), "??    ");
    }

    #[test]
    fn joined_emoji_take_the_columns_of_all_of_them_and_the_cursor_is_told_where_the_name_ends() {
        let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
        assert_eq!((family.width(), columns(family)), (2, 6));
        assert_eq!((columns("❤\u{fe0f}"), columns("👍🏽"), columns("e\u{301}")), (2, 4, 1));
        let mut status = downloading();
        status.name = family.repeat(20);
        for width in [40, 80, 200] {
            let text = render(&status, width, PLAIN);
            let (name, _) = text.split_once("\x1b[").unwrap();
            let (end, _) = text.split_once("\x1b[").unwrap().1.split_once('G').unwrap();
            assert_eq!(columns(name) + 1, end.parse::<usize>().unwrap(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_terminal_gives_a_text_more_columns_than_we_do(text in any::<String>()) {
            let text = escape(&text);
            prop_assert!(text.width() <= columns(&text), "{text:?}");
        }

        #[test]
        fn no_line_is_wider_than_asked_whatever_the_name(
            name in any::<String>(), width in 20usize..250, pieces in 0u32..5000, have in 0u32..5000,
            peers in 0usize..1000, rate: u64, unicode: bool, error in prop::option::of(".{0,200}"),
        ) {
            let mut status = status(&name, pieces);
            status.have.insert_range(0..have.min(pieces));
            (status.peers, status.seeds, status.down_rate, status.up_rate) = (peers, peers, rate, rate);
            status.left = rate;
            status.error = error;
            let text = render(&status, width, Style { color: false, unicode });
            prop_assert!(text.lines().count() <= 2);
            for line in text.lines() {
                // Only that the name ends, and where.
                let (before, behind) = line.split_once("\x1b[").unwrap_or((line, ""));
                let behind = behind.trim_start_matches(|c: char| c.is_ascii_digit());
                let line = format!("{before}{}", behind.strip_prefix('G').unwrap_or(behind));
                prop_assert!(columns(&line) <= width, "{} > {width}: {line}", columns(&line));
                prop_assert!(line.width() <= width, "{} > {width}: {line}", line.width());
                prop_assert!(!line.contains(char::is_control));
            }
        }
    }
}
