//! Standard error: messages, and below them the progress of each torrent.
//!
//! Owns the terminal while a transfer runs. Draws only what has changed, and never fails: a
//! terminal that goes away is no reason to stop a transfer.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cli::options::config::{Config, Progress, Verbosity};
use crate::cli::show::bar::Style;
use crate::cli::show::frame::Frame;
use crate::cli::show::say::{Mark, plain_line};
use crate::cli::show::terminal::Terminal;
use crate::client::{Phase, Status};

/// Between two drawings while something changes, and, doubled each time nothing has, at the most.
const FRAME: Duration = Duration::from_millis(125);
const SLOWEST_FRAME: Duration = Duration::from_secs(1);
/// Bytes a second that drawing may take, for those who look on from far away.
const MAX_RATE: u64 = 10 << 10;
/// Between two plain lines.
const LINE: Duration = Duration::from_secs(10);
/// The same while nothing moves.
const STILL: Duration = Duration::from_secs(60);

/// Standard error.
pub(crate) struct Screen {
    style: Style,
    /// Messages begin with the time: a log that says what happens.
    has_times: bool,
    show: Show,
}

enum Show {
    Bars { bars: Bars, pause: Duration, next: Instant },
    Lines { last: Vec<LastLine>, next: Instant },
    Nothing,
}

/// The bars of all torrents, drawn as one.
struct Bars {
    terminal: Terminal,
    drawn: ProgressBar,
    frame: Frame,
    torrents: usize,
    /// Those of which nothing is drawn any more.
    gone: BTreeSet<usize>,
}

impl Screen {
    /// Takes standard error, for so many torrents. Nothing is drawn yet.
    pub(crate) fn new(config: &Config, torrents: usize, now: Instant) -> Screen {
        let style = Style { color: config.color_stderr, unicode: locale_is_utf8() };
        let show = match config.progress {
            Progress::Bars => Show::Bars { bars: Bars::new(torrents), pause: FRAME, next: now },
            Progress::Lines => {
                let last = std::iter::repeat_with(LastLine::default).take(torrents).collect();
                Show::Lines { last, next: now + LINE }
            }
            Progress::None => Show::Nothing,
        };
        let has_times = config.verbosity >= Verbosity::Verbose && !matches!(show, Show::Bars { .. });
        Screen { style, has_times, show }
    }

    /// Prints a message above the progress.
    pub(crate) fn say(&self, mark: Mark, text: &str) {
        let line = marked(mark, text, self.style.color);
        match self.has_times {
            true => self.print(&format!("{} {line}", humantime::format_rfc3339_seconds(SystemTime::now()))),
            false => self.print(&line),
        }
    }

    fn print(&self, line: &str) {
        let line = self.style.shown(line);
        match &self.show {
            Show::Bars { bars, .. } => bars.drawn.suspend(|| write_line(&line)),
            Show::Lines { .. } | Show::Nothing => write_line(&line),
        }
    }

    /// When [`Screen::draw`] has something to do next; `None`: never.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.show {
            Show::Bars { next, .. } | Show::Lines { next, .. } => Some(*next),
            Show::Nothing => None,
        }
    }

    /// Draws what is due. `status` is asked for each torrent only if it is, by its number.
    pub(crate) fn draw(&mut self, now: Instant, mut status: impl FnMut(usize) -> Option<Status>) {
        let style = self.style;
        match &mut self.show {
            Show::Bars { bars, pause, next } if now >= *next => {
                let bytes = bars.draw(status, style);
                *pause = if bytes > 0 { FRAME } else { (*pause * 2).min(SLOWEST_FRAME) };
                let affordable = Duration::from_micros(bytes * 1_000_000 / MAX_RATE);
                *next = now + affordable.max(*pause);
            }
            Show::Lines { last, next } if now >= *next => {
                *next = now + LINE;
                for (number, last) in last.iter_mut().enumerate() {
                    if let Some(status) = status(number) {
                        last.print_if_new(now, &status, style);
                    }
                }
            }
            Show::Bars { .. } | Show::Lines { .. } | Show::Nothing => {}
        }
    }

    /// A torrent has changed what it does: shown at once.
    pub(crate) fn phase_changed(
        &mut self,
        number: usize,
        now: Instant,
        status: impl FnOnce() -> Option<Status>,
    ) {
        match &mut self.show {
            // As soon as there may be a frame: the next one may be due later for its bytes.
            Show::Bars { pause, next, .. } => {
                *next = if *pause > FRAME { now } else { *next };
                *pause = FRAME;
            }
            Show::Lines { last, .. } => {
                // That it has stopped, the message says, and the last line.
                if let Some(status) = status().filter(|status| status.phase != Phase::Stopped) {
                    last[number].print_if_new(now, &status, self.style);
                }
            }
            Show::Nothing => {}
        }
    }

    /// A torrent has ended: its progress gives way to a line that remains. Where no progress is shown, there is one only
    /// if it is news.
    pub(crate) fn finish(&mut self, number: usize, line: &str, is_news: bool) {
        self.hide(number);
        if is_news || !matches!(self.show, Show::Nothing) {
            self.print(line);
        }
    }

    /// Takes away what is drawn of a torrent, for good.
    pub(crate) fn hide(&mut self, number: usize) {
        if let Show::Bars { bars, .. } = &mut self.show {
            bars.hide(number);
        }
    }

    /// Takes away all that is drawn, for good.
    pub(crate) fn clear(&mut self) {
        if let Show::Bars { bars, .. } = &mut self.show {
            bars.drawn.finish_and_clear();
        }
    }
}

/// Prints a message where nothing is drawn.
pub(crate) fn message(mark: Mark, text: &str, color: bool) {
    write_line(&marked(mark, text, color));
}

/// Prints a message that nothing may wait for: if whoever reads standard error has left no room for it, it is left out.
/// `is_below_bars`: the cursor may stand at the end of a drawn line.
pub(crate) fn message_if_read(mark: Mark, text: &str, is_below_bars: bool, color: bool) {
    let stderr = std::io::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    let has_room =
        poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(PollFlags::OUT);
    if has_room {
        let begin = if is_below_bars { "\n" } else { "" };
        write_line(&format!("{begin}{}", marked(mark, text, color)));
    }
}

/// In one piece, so that what another program writes to the same terminal stands before or behind it.
fn write_line(line: &str) {
    // Nobody is left to tell.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn marked(mark: Mark, text: &str, color: bool) -> String {
    let paint = |number: &str, word: &str| match color {
        true => format!("\x1b[1;{number}m{word}:\x1b[0m {text}"),
        false => format!("{word}: {text}"),
    };
    match mark {
        Mark::Plain => text.to_owned(),
        Mark::Warning => paint("33", "warning"),
        Mark::Error => paint("31", "error"),
    }
}

impl Bars {
    fn new(torrents: usize) -> Bars {
        let terminal = Terminal::default();
        // Faster than our own frames, so that it never swallows one.
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 100);
        let template = ProgressStyle::with_template("{msg}").expect("the template is valid");
        let drawn = ProgressBar::with_draw_target(None, target).with_style(template);
        Bars { terminal, drawn, frame: Frame::default(), torrents, gone: BTreeSet::new() }
    }

    /// Draws what has changed, and says how many bytes that took.
    fn draw(&mut self, mut status: impl FnMut(usize) -> Option<Status>, style: Style) -> u64 {
        let here = (0..self.torrents).filter(|number| !self.gone.contains(number));
        let torrents: Vec<(usize, Status)> =
            here.filter_map(|number| Some((number, status(number)?))).collect();
        let frame = Frame::new(&torrents, self.terminal.room(), style, &self.frame);
        if frame == self.frame || torrents.is_empty() {
            return 0;
        }
        self.frame = frame;
        self.terminal.take_written();
        self.drawn.set_message(self.frame.text());
        self.terminal.take_written()
    }

    fn hide(&mut self, number: usize) {
        self.gone.insert(number);
        self.frame.remove(number);
        match self.gone.len() >= self.torrents {
            true => self.drawn.finish_and_clear(),
            false => self.drawn.set_message(self.frame.text()),
        }
    }
}

/// The line that was last printed of a torrent.
#[derive(Debug, Default)]
struct LastLine {
    text: String,
    printed: Option<Instant>,
}

impl LastLine {
    /// Prints what a torrent does: if that is news, or for a sign of life. A seed nobody asks anything of says the same for days.
    fn print_if_new(&mut self, now: Instant, status: &Status, style: Style) {
        let text = plain_line(status);
        // Hundreds may wait behind a few: nothing is to be told of them.
        let is_sign_of_life = status.phase != Phase::Waiting;
        let is_due =
            self.printed.is_none_or(|at| is_sign_of_life && now.saturating_duration_since(at) >= STILL);
        if text != self.text || is_due {
            write_line(&style.shown(&text));
            (self.text, self.printed) = (text, Some(now));
        }
    }
}

/// POSIX: the first of these that is set and not empty decides.
fn locale_is_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
