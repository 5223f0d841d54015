//! Finds the paths (`a::b::c`, `name!`) and the arrays of bytes (`[u8; 20]`) that a Rust source names, with `use` trees spelled out.
//! It knows tokens, not types: enough to see who is named where, comments and strings aside.

/// A path and the line it stands on, from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub line: usize,
    pub path: String,
}

/// The source up to its test module, which by custom stands last.
pub fn without_tests(source: &str) -> &str {
    let at = ["\n#[cfg(test)]\nmod ", "\n#[cfg(test)]\npub mod ", "\n#[cfg(test)]\npub(crate) mod "];
    let cut = at.iter().filter_map(|mark| {
        let found = source.find(mark)?;
        // A module in a file of its own does not end this one.
        let head = source[found + mark.len()..].lines().next()?;
        head.trim_end().ends_with('{').then_some(found).or_else(|| head.contains('{').then_some(found))
    });
    &source[..cut.min().unwrap_or(source.len())]
}

/// All paths of the source.
pub fn paths(source: &str) -> Vec<Found> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = |n: usize| tokens.get(at + n).map(|token| token.text.as_str());
        if let (Some("["), Some("u8"), Some(";"), Some(length), Some("]")) =
            (next(0), next(1), next(2), next(3), next(4))
        {
            found.push(Found { line: tokens[at].line, path: format!("[u8; {length}]") });
            at += 5;
        } else if tokens[at].text == "use" {
            at = use_tree(&tokens, at + 1, "", &mut found);
        } else {
            at = plain_path(&tokens, at, &mut found);
        }
    }
    found
}

struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Reads `a::b::{c, d::e} as f`, adds each branch, and gives the place after it.
fn use_tree(tokens: &[Token], mut at: usize, prefix: &str, found: &mut Vec<Found>) -> usize {
    let mut path = prefix.to_owned();
    let mut line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, &path, found);
                    if tokens.get(at).is_some_and(|token| token.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "::" => {}
            "as" => at += 1,
            "self" if !path.is_empty() => {}
            _ if token.is_word() => {
                line = token.line;
                path = if path.is_empty() { token.text.clone() } else { format!("{path}::{}", token.text) };
            }
            "*" => {}
            _ => break,
        }
        at += 1;
    }
    found.push(Found { line, path });
    // Whatever ended the branch is for the caller; a stray token at top level is stepped over.
    if prefix.is_empty() { at + 1 } else { at }
}

/// Reads `a::b::c` or `name!` and gives the place after it.
fn plain_path(tokens: &[Token], mut at: usize, found: &mut Vec<Found>) -> usize {
    if !tokens[at].is_word() {
        return at + 1;
    }
    let line = tokens[at].line;
    let mut path = tokens[at].text.clone();
    at += 1;
    while at + 1 < tokens.len() && tokens[at].text == "::" && tokens[at + 1].is_word() {
        path = format!("{path}::{}", tokens[at + 1].text);
        at += 2;
    }
    let is_macro = tokens.get(at).is_some_and(|token| token.text == "!")
        && tokens.get(at + 1).is_some_and(|token| ["(", "[", "{"].contains(&token.text.as_str()));
    if is_macro {
        path.push('!');
    }
    found.push(Found { line, path });
    at
}

/// Words, `::`, and single signs; comments, strings, characters and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        let next = chars.get(at + 1).copied();
        match chars[at] {
            '/' if next == Some('/') => at = position(&chars, at, |c| c == '\n'),
            '/' if next == Some('*') => at = after_block_comment(&chars, at),
            '"' => at = after_string(&chars, at + 1),
            'r' if raw_hashes(&chars, at + 1).is_some() => at = after_raw_string(&chars, at + 1),
            'b' if next == Some('r') && raw_hashes(&chars, at + 2).is_some() => {
                at = after_raw_string(&chars, at + 2);
            }
            '\'' => at = after_quote(&chars, at),
            ':' if next == Some(':') => {
                tokens.push(Token { line, text: "::".to_owned() });
                at += 2;
            }
            c if c.is_alphanumeric() || c == '_' => {
                at = position(&chars, at, |c| !(c.is_alphanumeric() || c == '_'));
                tokens.push(Token { line, text: chars[start..at].iter().collect() });
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.to_string() });
                }
                at += 1;
            }
        }
        line += chars[start..at.min(chars.len())].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

fn position(chars: &[char], from: usize, found: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|&c| found(c)).map_or(chars.len(), |offset| from + offset)
}

fn after_block_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn after_string(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// How many `#` a raw string that begins here has; `None` if none does.
fn raw_hashes(chars: &[char], from: usize) -> Option<usize> {
    let quote = position(chars, from, |c| c != '#');
    (chars.get(quote) == Some(&'"')).then_some(quote - from)
}

fn after_raw_string(chars: &[char], from: usize) -> usize {
    let hashes = raw_hashes(chars, from).unwrap_or(0);
    let mut at = from + hashes + 1;
    while at < chars.len() {
        at = position(chars, at, |c| c == '"') + 1;
        if at + hashes <= chars.len() && chars[at..at + hashes].iter().all(|&c| c == '#') {
            return at + hashes;
        }
    }
    at
}

/// After a character literal, or after the quote of a lifetime.
fn after_quote(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => position(chars, from + 3, |c| c == '\'') + 1,
        (Some(_), Some('\'')) => from + 3,
        _ => from + 1,
    }
}
