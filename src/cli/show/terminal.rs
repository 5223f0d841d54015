//! The terminal as indicatif draws on it: three columns narrower than it is, and written to once for each frame.
//!
//! indicatif ends each line by filling it with spaces, so that the next one begins by itself. But behind the last column the echo
//! of a typed Ctrl-C would begin a further line too, and one line of the frame would stay for good. So lines are ended here, and not filled.
//! It takes each line for one row, too; where a terminal was made narrower, it has broken them, and what is to be cleared is more.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::TermLike;
use unicode_width::UnicodeWidthStr;

/// Columns that stay free: two for the echo of Ctrl-C, and the last one, after which some terminals wrap.
const FREE: u16 = 3;

/// Between these, a terminal that can shows nothing half drawn; others pass over them.
const BEGIN_FRAME: &str = "\x1b[?2026h";
const END_FRAME: &str = "\x1b[?2026l";

/// Standard error; what is written waits for [`TermLike::flush`].
#[derive(Clone, Debug, Default)]
pub(super) struct Terminal {
    /// Of one frame. indicatif holds a lock of its own around all that it does.
    frame: Arc<Mutex<Frame>>,
    written: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Frame {
    text: String,
    /// The line is at its end, and what follows begins the next one.
    has_line: bool,
    /// Columns of each line that stands on the terminal, or is written now.
    lines: Vec<usize>,
    /// Columns of the terminal when they were written.
    columns: u16,
    /// All of it was cleared at once, and where the cursor is told to go is no matter.
    is_cleared: bool,
}

impl Frame {
    /// The cursor goes elsewhere, or a line is cleared: `steps` say how. The first of it in a frame that the terminal has
    /// broken into more lines clears all of them.
    fn edit(&mut self, steps: std::fmt::Arguments<'_>, columns: u16) {
        if self.text.is_empty() && !self.is_cleared && columns < self.columns {
            let of_line = |line: &usize| line.div_ceil(usize::from(columns.max(1))).max(1);
            let rows: usize = self.lines.iter().map(of_line).sum();
            if rows > 1 {
                self.text = format!("\x1b[{}A", rows - 1);
            }
            self.text += "\r\x1b[J";
            self.is_cleared = true;
        }
        if !self.is_cleared {
            self.text += &steps.to_string();
        }
    }

    /// A line, or, behind one, the spaces that fill it.
    fn write(&mut self, text: &str, columns: u16) {
        if text.bytes().all(|byte| byte == b' ') {
            self.has_line = true;
            return;
        }
        self.is_cleared = false;
        self.columns = columns;
        if std::mem::take(&mut self.has_line) {
            self.text.push('\n');
        }
        self.lines.extend(text.lines().map(shown_width));
        self.text.push_str(text);
    }

    /// What is to be written for this frame.
    fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        self.has_line = false;
        if text.is_empty() { text } else { format!("{BEGIN_FRAME}{text}{END_FRAME}") }
    }
}

/// Columns of a line without what colours it.
fn shown_width(line: &str) -> usize {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().width();
    let behind =
        |part: &str| part.split_once(|c: char| c.is_ascii_alphabetic()).map_or(0, |(_, text)| text.width());
    first + parts.map(behind).sum::<usize>()
}

impl Terminal {
    /// Columns and rows that a frame may take.
    pub(super) fn room(&self) -> (usize, usize) {
        let (rows, columns) = size();
        (usize::from(columns.saturating_sub(FREE)), usize::from(rows.saturating_sub(1).max(1)))
    }

    /// Bytes written since this was last asked.
    pub(super) fn take_written(&self) -> u64 {
        self.written.swap(0, Ordering::Relaxed)
    }

    fn edit(&self, steps: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.frame().edit(steps, size().1);
        Ok(())
    }

    fn go(&self, n: usize, direction: char) -> io::Result<()> {
        if n > 0 { self.edit(format_args!("\x1b[{n}{direction}")) } else { Ok(()) }
    }

    fn frame(&self) -> std::sync::MutexGuard<'_, Frame> {
        self.frame.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        size().1.saturating_sub(FREE)
    }

    fn height(&self) -> u16 {
        size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        let mut frame = self.frame();
        frame.write(text, size().1);
        frame.text.push('\n');
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.frame().write(text, size().1);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut frame = self.frame();
        frame.edit(format_args!("\r\x1b[2K"), size().1);
        // Nothing is left of it once all of its lines are.
        frame.lines.clear();
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let text = self.frame().take();
        self.written.fetch_add(text.len() as u64, Ordering::Relaxed);
        let mut out = io::stderr().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Rows and columns.
fn size() -> (u16, u16) {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.ok().filter(|size| size.ws_col > 0).map_or((24, 80), |size| (size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(text: &str) -> String {
        format!("{BEGIN_FRAME}{text}{END_FRAME}")
    }

    #[test]
    fn lines_end_by_a_line_end_and_not_by_spaces() {
        let mut frame = Frame::default();
        for text in ["one", "   ", "two\ntwo", "", "three", "  "] {
            frame.write(text, 80);
        }
        assert_eq!(frame.take(), framed("one\ntwo\ntwo\nthree"));
        assert_eq!(frame.take(), "");
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_broken_are_cleared_to_the_first() {
        let mut frame = Frame::default();
        frame.write(&"a".repeat(77), 80);
        frame.write("", 80);
        frame.write(&format!("\x1b[32m{}\x1b[0m", "日".repeat(30)), 80);
        frame.take();
        // 77 columns are 3 rows of 30, and 60 are 2.
        frame.edit(format_args!("\x1b[1A"), 30);
        frame.edit(format_args!("\r\x1b[2K"), 30);
        frame.lines.clear();
        frame.write("b", 30);
        assert_eq!(frame.take(), framed("\x1b[4A\r\x1b[Jb"));
        frame.edit(format_args!("\r\x1b[2K"), 60);
        assert_eq!(frame.take(), framed("\r\x1b[2K"));
    }
}
