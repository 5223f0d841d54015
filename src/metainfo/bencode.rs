//! Bencode as strangers write it (BEP 3), read without copying.
//!
//! Owns the grammar and its bounds: input is checked once, from front to back, with a depth counter
//! instead of recursion and without any allocation; a [`Value`] is the span of its bytes, and its
//! parts are found by walking that span again. So memory does not depend on what the input
//! claims, and `span` is what an info hash is taken over.
//!
//! Lenient where the meaning is clear: dictionary keys may be unsorted; of duplicate keys the first
//! counts; integers and string lengths may have leading zeros, and `-0` is 0. Integers of any size
//! pass (a later extension may use them), but only those that fit `i64` have a value.
//! Never encodes: what we write is canonical and comes from bendy.

use std::fmt;

/// Deepest nesting of lists and dictionaries that is read. Torrents need 6 (BEP 52 file trees some
/// more); the bound must stay at or below 128, the bits of the scanner's stack.
pub const MAX_DEPTH: u32 = 100;

/// What is wrong with the input, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// Offset of the byte that cannot stand there, from 0; the input's length if it ends too early.
    pub offset: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// See [`DecodeError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The input ends inside a value.
    Truncated,
    /// No value begins with this byte.
    NotAValue,
    /// A dictionary key is not a string.
    KeyNotString,
    /// A dictionary ends after a key.
    KeyWithoutValue,
    /// An integer has no digits, or something that is no digit.
    BadInteger,
    /// The length of a string has something that is no digit, or does not fit.
    BadLength,
    /// More than [`MAX_DEPTH`] lists and dictionaries inside one another.
    TooDeep,
    /// Bytes follow the value.
    Trailing,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.problem {
            Problem::Truncated => {
                return write!(f, "truncated: ends after {} bytes inside a value", self.offset);
            }
            Problem::NotAValue => "no value begins so",
            Problem::KeyNotString => "a dictionary key is not a string",
            Problem::KeyWithoutValue => "a dictionary key has no value",
            Problem::BadInteger => "malformed integer",
            Problem::BadLength => "malformed string length",
            Problem::TooDeep => return write!(f, "nested deeper than {MAX_DEPTH} at byte {}", self.offset),
            Problem::Trailing => "the value ends here, but more bytes follow",
        };
        write!(f, "{what} at byte {}", self.offset)
    }
}

impl std::error::Error for DecodeError {}

/// Reads the one value that `bytes` are.
pub fn decode(bytes: &[u8]) -> Result<Value<'_>, DecodeError> {
    let (value, rest) = decode_prefix(bytes)?;
    match rest.len() {
        0 => Ok(value),
        left => Err(DecodeError { offset: bytes.len() - left, problem: Problem::Trailing }),
    }
}

/// Reads the value at the front of `bytes`; gives it and what follows (BEP 9 puts a piece of
/// metadata after a dictionary).
pub fn decode_prefix(bytes: &[u8]) -> Result<(Value<'_>, &[u8]), DecodeError> {
    let (span, rest) = bytes.split_at(scan(bytes)?);
    Ok((Value { span }, rest))
}

/// The four kinds of value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Integer,
    String,
    List,
    Dictionary,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Integer => "an integer",
            Kind::String => "a string",
            Kind::List => "a list",
            Kind::Dictionary => "a dictionary",
        })
    }
}

/// A well-formed value: a view of its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'a> {
    /// Exactly one value, checked by [`scan`].
    span: &'a [u8],
}

impl<'a> Value<'a> {
    /// The value's bytes as they stand in the input.
    pub fn span(&self) -> &'a [u8] {
        self.span
    }

    /// Which kind of value it is.
    pub fn kind(&self) -> Kind {
        match self.span.first() {
            Some(b'i') => Kind::Integer,
            Some(b'l') => Kind::List,
            Some(b'd') => Kind::Dictionary,
            _ => Kind::String,
        }
    }

    /// The integer, if it is one and fits `i64`.
    pub fn as_int(&self) -> Option<i64> {
        let digits = self.span.strip_prefix(b"i")?.strip_suffix(b"e")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The bytes of the string, if it is one.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self.kind() {
            Kind::String => split_string(self.span).map(|(string, _)| string),
            Kind::Integer | Kind::List | Kind::Dictionary => None,
        }
    }

    /// The string, if it is one and valid UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The items, if it is a list.
    pub fn as_list(&self) -> Option<List<'a>> {
        Some(List { rest: self.span.strip_prefix(b"l")? })
    }

    /// The entries, if it is a dictionary.
    pub fn as_dict(&self) -> Option<Dict<'a>> {
        Some(Dict { rest: self.span.strip_prefix(b"d")? })
    }

    /// The value of `key`, if this is a dictionary that has it; see [`Dict::get`].
    pub fn get(&self, key: &[u8]) -> Option<Value<'a>> {
        self.as_dict()?.get(key)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value(\"{}\")", self.span.escape_ascii())
    }
}

/// The items of a list, in order: an iterator, and cheap to copy. The default is an empty one.
#[derive(Clone, Copy, Default, Debug)]
pub struct List<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        // The closing `e` begins no value, so it ends the walk as an error would.
        let (value, rest) = decode_prefix(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }
}

/// The entries of a dictionary, in the order of the input: an iterator, and cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Dict<'a> {
    rest: &'a [u8],
}

impl<'a> Dict<'a> {
    /// The value of the first entry with this key. Walks the entries, so for many keys of a large
    /// dictionary iterate once instead.
    pub fn get(mut self, key: &[u8]) -> Option<Value<'a>> {
        self.find(|(found, _)| *found == key).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Dict<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let (key, rest) = split_string(self.rest)?;
        let (value, rest) = decode_prefix(rest).ok()?;
        self.rest = rest;
        Some((key, value))
    }
}

/// The string at the front of `bytes`, and what follows it.
fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let body = string_body(bytes, 0).ok()?;
    Some((&bytes[body.clone()], &bytes[body.end..]))
}

/// Length of the value at the front of `bytes`.
fn scan(bytes: &[u8]) -> Result<usize, DecodeError> {
    // One bit for each open list or dictionary, the innermost lowest: set for a dictionary.
    let mut open: u128 = 0;
    let mut depth = 0;
    let mut at = 0;
    loop {
        let fail = |problem| Err(DecodeError { offset: at, problem });
        let in_dict = depth > 0 && open & 1 == 1;
        match bytes.get(at) {
            None => return fail(Problem::Truncated),
            Some(b'e') if depth > 0 => {
                at += 1;
                depth -= 1;
                open >>= 1;
            }
            Some(first) => {
                if in_dict {
                    if !first.is_ascii_digit() {
                        return fail(Problem::KeyNotString);
                    }
                    at = string_body(bytes, at)?.end;
                }
                match bytes.get(at) {
                    None => return Err(DecodeError { offset: at, problem: Problem::Truncated }),
                    Some(b'0'..=b'9') => at = string_body(bytes, at)?.end,
                    Some(b'i') => at = integer_end(bytes, at)?,
                    Some(container @ (b'l' | b'd')) => {
                        if depth == MAX_DEPTH {
                            return Err(DecodeError { offset: at, problem: Problem::TooDeep });
                        }
                        open = open << 1 | u128::from(*container == b'd');
                        depth += 1;
                        at += 1;
                        continue;
                    }
                    Some(b'e') if in_dict => {
                        return Err(DecodeError { offset: at, problem: Problem::KeyWithoutValue });
                    }
                    Some(_) => return Err(DecodeError { offset: at, problem: Problem::NotAValue }),
                }
            }
        }
        if depth == 0 {
            return Ok(at);
        }
    }
}

/// Where the string that begins at `start` has its bytes.
fn string_body(bytes: &[u8], start: usize) -> Result<std::ops::Range<usize>, DecodeError> {
    let mut at = start;
    let mut length = 0usize;
    loop {
        let fail = |problem| Err(DecodeError { offset: at, problem });
        match bytes.get(at) {
            None => return fail(Problem::Truncated),
            Some(digit @ b'0'..=b'9') => {
                let longer = length.checked_mul(10).and_then(|l| l.checked_add(usize::from(digit - b'0')));
                match longer {
                    Some(longer) => length = longer,
                    None => return fail(Problem::BadLength),
                }
            }
            Some(b':') if at > start => break,
            Some(_) => return fail(Problem::BadLength),
        }
        at += 1;
    }
    let body = at + 1;
    match body.checked_add(length) {
        Some(end) if end <= bytes.len() => Ok(body..end),
        _ => Err(DecodeError { offset: bytes.len(), problem: Problem::Truncated }),
    }
}

/// Offset just past the integer whose `i` stands at `start`.
fn integer_end(bytes: &[u8], start: usize) -> Result<usize, DecodeError> {
    let first_digit = start + 1 + usize::from(bytes.get(start + 1) == Some(&b'-'));
    let mut at = first_digit;
    loop {
        match bytes.get(at) {
            None => return Err(DecodeError { offset: at, problem: Problem::Truncated }),
            Some(b'0'..=b'9') => at += 1,
            Some(b'e') if at > first_digit => return Ok(at + 1),
            Some(_) => return Err(DecodeError { offset: at, problem: Problem::BadInteger }),
        }
    }
}
