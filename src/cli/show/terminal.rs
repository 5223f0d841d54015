//! The terminal as indicatif draws on it: three columns narrower than it is, and written to once for each frame.
//!
//! indicatif ends each line by filling it with spaces, so that the next one begins by itself. But behind the last column the echo
//! of a typed Ctrl-C would begin a further line too, and one line of the frame would stay for good. So lines are ended here, and not filled.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;

/// Columns that stay free: two for the echo of Ctrl-C, and the last one, after which some terminals wrap.
const FREE: u16 = 3;

/// Standard error; what is written waits for [`TermLike::flush`].
#[derive(Debug, Default)]
pub(super) struct Terminal {
    /// Of one frame. indicatif holds a lock of its own around all that it does.
    frame: Mutex<Frame>,
}

#[derive(Debug, Default)]
struct Frame {
    text: String,
    /// The line is at its end, and what follows begins the next one.
    has_line: bool,
}

impl Terminal {
    fn add(&self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        frame.text.write_fmt(text).map_err(io::Error::other)
    }

    fn go(&self, n: usize, direction: char) -> io::Result<()> {
        if n > 0 { self.add(format_args!("\x1b[{n}{direction}")) } else { Ok(()) }
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
        self.add(format_args!("{text}\n"))
    }

    /// A line, or, behind one, the spaces that fill it.
    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        if text.bytes().all(|byte| byte == b' ') {
            frame.has_line = true;
            return Ok(());
        }
        if std::mem::take(&mut frame.has_line) {
            frame.text.push('\n');
        }
        frame.text.push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let frame = std::mem::take(&mut *self.frame.lock().unwrap_or_else(PoisonError::into_inner));
        let mut out = io::stderr().lock();
        out.write_all(frame.text.as_bytes())?;
        out.flush()
    }
}

/// Columns that a line may take.
pub(super) fn width() -> usize {
    usize::from(size().1.saturating_sub(FREE))
}

/// Rows and columns.
fn size() -> (u16, u16) {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.ok().filter(|size| size.ws_col > 0).map_or((24, 80), |size| (size.ws_row, size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_by_a_line_end_and_not_by_spaces() {
        let terminal = Terminal::default();
        for text in ["one", "   ", "two\ntwo", "", "three", "  "] {
            terminal.write_str(text).unwrap();
        }
        assert_eq!(terminal.frame.lock().unwrap().text, "one\ntwo\ntwo\nthree");
    }
}
