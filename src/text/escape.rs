//! Makes what strangers wrote fit to print: nothing that moves the cursor, breaks the line, turns
//! the writing direction or is meant not to be seen reaches a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with each unprintable character (controls, bidirectional controls, line separators, what
/// shows nothing) as `\n`, `\t`, `\r` or `\u{..}`. Everything else stays, the backslash too: the result is for
/// people, not for parsing. What is printable already is borrowed.
pub fn escape(text: &str) -> Cow<'_, str> {
    if is_plain_ascii(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let Some(first) = text.find(is_unprintable) else {
        return Cow::Borrowed(text);
    };
    let mut escaped = String::with_capacity(text.len() + 16);
    escaped.push_str(&text[..first]);
    for c in text[first..].chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if is_unprintable(c) => {
                write!(escaped, "\\u{{{:x}}}", u32::from(c)).expect("writing to a string never fails");
            }
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Whether all of it is printable ASCII: the quick way past [`is_unprintable`] for most names. It looks at
/// every byte without stopping at the first bad one, which the compiler turns into wide steps.
pub fn is_plain_ascii(text: &[u8]) -> bool {
    text.iter().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'))
}

/// Control characters, bidirectional controls, line and paragraph separators, and characters that
/// show nothing and join nothing (so a name could be faked with them). The joiners U+200C and
/// U+200D are needed by scripts and emoji, and stay.
pub fn is_unprintable(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(c,
        '\u{80}'..='\u{9f}'             // C1 controls
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // bidi
        | '\u{2028}' | '\u{2029}'       // line, paragraph separator
        | '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}') // unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed_and_unchanged() {
        for text in ["", "a b.txt", "\u{65e5}\u{672c}\u{8a9e} \\ \u{1f468}\u{200d}\u{1f469}"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn what_could_steer_a_terminal_is_spelled_out() {
        assert_eq!(escape("a\x1b[2Jb\r\n\t\u{7f}"), "a\\u{1b}[2Jb\\r\\n\\t\\u{7f}");
        assert_eq!(escape("gpj.\u{202e}exe\u{2028}\u{9b}31m"), "gpj.\\u{202e}exe\\u{2028}\\u{9b}31m");
        assert!((0u8..32).all(|c| escape(&char::from(c).to_string()).starts_with('\\')));
    }
}
