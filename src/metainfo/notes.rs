//! What people are told about a torrent that was read all the same: a bounded list of lines.

use crate::text::escape;

/// ParseNotes kept; a torrent can have a million odd names, nobody reads a million lines.
const MAX_NOTES: usize = 50;

/// Characters of a stranger's text that a note quotes.
const MAX_QUOTE: usize = 120;

/// Collects notes, and counts those beyond [`MAX_NOTES`].
#[derive(Default, Debug)]
pub(super) struct ParseNotes {
    lines: Vec<String>,
    more: usize,
}

impl ParseNotes {
    /// Adds a line; `line` is built only if there is room for it.
    pub(super) fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < MAX_NOTES {
            self.lines.push(line());
        } else {
            self.more += 1;
        }
    }

    /// The lines, with a last one that counts what found no room.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("{} more notes like these", self.more));
        }
        self.lines
    }
}

/// A stranger's text in quotes, escaped, and cut where it is long.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTE) {
        Some((end, _)) => format!("\"{}...\"", escape(&text[..end])),
        None => format!("\"{}\"", escape(text)),
    }
}
