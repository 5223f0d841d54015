//! Standard error: messages, and below them the progress of each torrent.
//!
//! Owns the terminal while a transfer runs. Draws only what has changed, and never fails: a
//! terminal that goes away is no reason to stop a transfer.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::options::config::{Config, Progress, Verbosity};
use crate::cli::show::bar::{self, Style};
use crate::cli::show::say::{Mark, plain_line};
use crate::cli::show::terminal::{self, Terminal};
use crate::client::{Phase, Status};

/// Between two drawings while something changes, and, doubled each time nothing has, at the most.
const FRAME: Duration = Duration::from_millis(125);
const SLOWEST_FRAME: Duration = Duration::from_secs(1);
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
    Bars { multi: MultiProgress, bars: Vec<Drawn>, frame: Duration, next: Instant },
    Lines { last: Vec<LastLine>, next: Instant },
    Nothing,
}

struct Drawn {
    bar: ProgressBar,
    text: String,
}

impl Screen {
    /// Takes standard error, for so many torrents. Nothing is drawn yet.
    pub(crate) fn new(config: &Config, torrents: usize, now: Instant) -> Screen {
        let style = Style { color: config.color_stderr, unicode: locale_is_utf8() };
        let show = match config.progress {
            Progress::Bars => {
                // A little faster than our own frames, so that it never swallows one.
                let target = ProgressDrawTarget::term_like_with_hz(Box::new(Terminal::default()), 20);
                let multi = MultiProgress::with_draw_target(target);
                let template = ProgressStyle::with_template("{msg}").expect("the template is valid");
                let add = |_| {
                    let bar = ProgressBar::no_length().with_style(template.clone());
                    Drawn { bar: multi.add(bar), text: String::new() }
                };
                let bars = (0..torrents).map(add).collect();
                Show::Bars { multi, bars, frame: FRAME, next: now }
            }
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
        let printed = match &self.show {
            Show::Bars { multi, .. } => multi.suspend(|| writeln!(std::io::stderr(), "{line}")),
            Show::Lines { .. } | Show::Nothing => writeln!(std::io::stderr(), "{line}"),
        };
        // Nobody is left to tell.
        let _ = printed;
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
            Show::Bars { bars, frame, next, .. } if now >= *next => {
                let width = terminal::width();
                let mut changed = false;
                for (number, drawn) in bars.iter_mut().enumerate() {
                    let Some(status) = status(number) else { continue };
                    changed |= drawn.update(bar::render(&status, width, style));
                }
                *frame = if changed { FRAME } else { (*frame * 2).min(SLOWEST_FRAME) };
                *next = now + *frame;
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
            Show::Bars { frame, next, .. } => (*frame, *next) = (FRAME, now),
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
        match &mut self.show {
            Show::Bars { bars, .. } => bars[number].bar.finish_and_clear(),
            Show::Nothing if !is_news => return,
            Show::Lines { .. } | Show::Nothing => {}
        }
        self.print(line);
    }

    /// Takes away what is drawn of a torrent, for good.
    pub(crate) fn hide(&mut self, number: usize) {
        if let Show::Bars { bars, .. } = &mut self.show {
            bars[number].bar.finish_and_clear();
        }
    }

    /// Takes away all that is drawn, for good.
    pub(crate) fn clear(&mut self) {
        if let Show::Bars { bars, .. } = &mut self.show {
            bars.iter().for_each(|drawn| drawn.bar.finish_and_clear());
        }
    }
}

/// Prints a message where nothing is drawn.
pub(crate) fn message(mark: Mark, text: &str, color: bool) {
    // Nobody is left to tell.
    let _ = writeln!(std::io::stderr(), "{}", marked(mark, text, color));
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

impl Drawn {
    /// Whether it was a change.
    fn update(&mut self, text: String) -> bool {
        let changed = text != self.text && !self.bar.is_finished();
        if changed {
            self.bar.set_message(text.clone());
            self.text = text;
        }
        changed
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
        let is_due = self.printed.is_none_or(|at| now.saturating_duration_since(at) >= STILL);
        if text != self.text || is_due {
            // Nobody is left to tell.
            let _ = writeln!(std::io::stderr(), "{}", style.shown(&text));
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
