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
            Problem::NotAValue => "not bencode",
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
pub enum ValueKind {
    Integer,
    String,
    List,
    Dictionary,
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueKind::Integer => "an integer",
            ValueKind::String => "a string",
            ValueKind::List => "a list",
            ValueKind::Dictionary => "a dictionary",
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
    pub fn kind(&self) -> ValueKind {
        match self.span.first() {
            Some(b'i') => ValueKind::Integer,
            Some(b'l') => ValueKind::List,
            Some(b'd') => ValueKind::Dictionary,
            _ => ValueKind::String,
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
            ValueKind::String => split_string(self.span).map(|(string, _)| string),
            ValueKind::Integer | ValueKind::List | ValueKind::Dictionary => None,
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
    /// A place before the first entry, to go from there into the dictionaries inside.
    pub fn cursor(self) -> DictCursor<'a> {
        DictCursor { rest: self.rest }
    }

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

/// A place in dictionaries inside one another, which goes from front to back and passes each byte once, however deep it is. [`Dict`] looks for the
/// end of a value before it gives it, so whoever goes into the values by it reads the innermost once for each level.
#[derive(Clone, Copy, Default, Debug)]
pub struct DictCursor<'a> {
    rest: &'a [u8],
}

impl<'a> DictCursor<'a> {
    /// The next key of the dictionary; `None` at its end, behind which it goes on with the one around it. The value of the key has to be passed, by
    /// one of the other two, before there is a next key.
    pub fn next_key(&mut self) -> Option<&'a [u8]> {
        match split_string(self.rest) {
            Some((key, rest)) => {
                self.rest = rest;
                Some(key)
            }
            None => {
                self.rest = self.rest.strip_prefix(b"e").unwrap_or_default();
                None
            }
        }
    }

    /// Goes into the value of the key, if it is a dictionary; whether it is.
    pub fn enter(&mut self) -> bool {
        let inside = self.rest.strip_prefix(b"d");
        self.rest = inside.unwrap_or(self.rest);
        inside.is_some()
    }

    /// Passes the value of the key, and gives it.
    pub fn value(&mut self) -> Option<Value<'a>> {
        let (value, rest) = decode_prefix(self.rest).ok()?;
        self.rest = rest;
        Some(value)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Tree {
        Integer(i64),
        String(Vec<u8>),
        List(Vec<Tree>),
        /// Keys in any order, and more than once.
        Dictionary(Vec<(Vec<u8>, Tree)>),
    }

    fn encode(tree: &Tree, out: &mut Vec<u8>) {
        let string = |bytes: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(format!("{}:", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
        };
        match tree {
            Tree::Integer(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
            Tree::String(bytes) => string(bytes, out),
            Tree::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| encode(item, out));
                out.push(b'e');
            }
            Tree::Dictionary(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    string(key, out);
                    encode(value, out);
                }
                out.push(b'e');
            }
        }
    }

    fn same(tree: &Tree, value: Value<'_>) -> bool {
        match tree {
            Tree::Integer(number) => value.as_int() == Some(*number) && value.as_bytes().is_none(),
            Tree::String(bytes) => value.as_bytes() == Some(bytes) && value.as_int().is_none(),
            Tree::List(items) => {
                let values: Vec<_> = value.as_list().unwrap().collect();
                values.len() == items.len() && items.iter().zip(values).all(|(tree, value)| same(tree, value))
            }
            Tree::Dictionary(entries) => {
                let found: Vec<_> = value.as_dict().unwrap().collect();
                found.len() == entries.len()
                    && entries.iter().zip(found).all(|((a, tree), (b, value))| a == b && same(tree, value))
                    && entries.iter().all(|(key, _)| {
                        let first = entries.iter().find(|(other, _)| other == key).unwrap();
                        same(&first.1, value.get(key).unwrap())
                    })
            }
        }
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..12);
        let leaf = prop_oneof![any::<i64>().prop_map(Tree::Integer), bytes().prop_map(Tree::String)];
        leaf.prop_recursive(6, 60, 6, move |inner| {
            let key = prop::collection::vec(b'a'..b'd', 0..3);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
                prop::collection::vec((key, inner), 0..6).prop_map(Tree::Dictionary),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_cursor_comes_to_the_keys_and_values_that_dictionaries_have(tree in trees(), goes_in: u64) {
            /// Keys and other values, in order, with the depth of each; and whether a dictionary is gone into.
            fn by_dict(dict: Dict<'_>, depth: u32, goes_in: u64, out: &mut Vec<(u32, Vec<u8>, Vec<u8>)>) {
                for (key, value) in dict {
                    match value.as_dict().filter(|_| goes_in >> (depth % 64) & 1 == 1) {
                        Some(inside) => by_dict(inside, depth + 1, goes_in, out),
                        None => out.push((depth, key.to_vec(), value.span().to_vec())),
                    }
                }
            }
            let mut bytes = b"d1:x".to_vec();
            encode(&tree, &mut bytes);
            bytes.extend(b"1:yi1ee");
            let root = decode(&bytes).unwrap().as_dict().unwrap();
            let mut expected = Vec::new();
            by_dict(root, 0, goes_in, &mut expected);
            let (mut cursor, mut depth, mut found) = (root.cursor(), Some(0u32), Vec::new());
            while let Some(level) = depth {
                match cursor.next_key() {
                    None => depth = level.checked_sub(1),
                    Some(_) if goes_in >> (level % 64) & 1 == 1 && cursor.enter() => depth = Some(level + 1),
                    Some(key) => found.push((level, key.to_vec(), cursor.value().unwrap().span().to_vec())),
                }
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn what_is_encoded_is_read_back(tree in trees(), rest in prop::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = Vec::new();
            encode(&tree, &mut bytes);
            let length = bytes.len();
            prop_assert!(same(&tree, decode(&bytes).unwrap()));
            prop_assert_eq!(decode(&bytes).unwrap().span(), &bytes[..]);
            bytes.extend_from_slice(&rest);
            let (value, left) = decode_prefix(&bytes).unwrap();
            prop_assert_eq!((value.span().len(), left), (length, &rest[..]));
        }

        #[test]
        fn every_truncation_is_found_where_the_input_ends(tree in trees()) {
            let mut bytes = Vec::new();
            encode(&tree, &mut bytes);
            for end in 0..bytes.len() {
                let expected = DecodeError { offset: end, problem: Problem::Truncated };
                prop_assert_eq!(decode(&bytes[..end]), Err(expected));
            }
        }

        #[test]
        fn bytes_that_look_like_bencode_never_panic(bytes in "[0-9dlei:a-]{0,40}") {
            match decode_prefix(bytes.as_bytes()) {
                Ok((value, rest)) => {
                    prop_assert_eq!(value.span().len() + rest.len(), bytes.len());
                    prop_assert!(!value.as_list().into_iter().flatten().any(|item| item.span().is_empty()));
                    let _ = (value.as_int(), value.as_str(), value.as_dict().map(Iterator::count));
                }
                Err(error) => prop_assert!(error.offset <= bytes.len()),
            }
        }
    }

    fn problem(bytes: &[u8]) -> (usize, Problem) {
        let error = decode(bytes).unwrap_err();
        (error.offset, error.problem)
    }

    #[test]
    fn malformed_input_is_refused_at_the_byte_that_is_wrong() {
        let table: &[(&[u8], usize, Problem)] = &[
            (b"", 0, Problem::Truncated),
            (b"x", 0, Problem::NotAValue),
            (b"e", 0, Problem::NotAValue),
            (b"-1:a", 0, Problem::NotAValue),
            (b"lxe", 1, Problem::NotAValue),
            (b"di1e1:ae", 1, Problem::KeyNotString),
            (b"dlee", 1, Problem::KeyNotString),
            (b"d1:ae", 4, Problem::KeyWithoutValue),
            (b"ie", 1, Problem::BadInteger),
            (b"i-e", 2, Problem::BadInteger),
            (b"i+1e", 1, Problem::BadInteger),
            (b"i1.5e", 2, Problem::BadInteger),
            (b"i--1e", 2, Problem::BadInteger),
            (b"1x", 1, Problem::BadLength),
            (b"99999999999999999999999:a", 19, Problem::BadLength),
            (b"18446744073709551615:a", 22, Problem::Truncated),
            (b"5:abc", 5, Problem::Truncated),
            (b"i1ei2e", 3, Problem::Trailing),
            (b"le\n", 2, Problem::Trailing),
        ];
        for (bytes, offset, expected) in table {
            assert_eq!(problem(bytes), (*offset, *expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn nesting_is_bounded_and_costs_no_stack() {
        let nested = |open: &str, depth: usize| [open.repeat(depth), "e".repeat(depth)].concat();
        assert!(decode(nested("l", 100).as_bytes()).is_ok());
        assert_eq!(problem(nested("l", 101).as_bytes()), (100, Problem::TooDeep));
        assert_eq!(problem("d1:a".repeat(1_000_000).as_bytes()), (400, Problem::TooDeep));
        assert_eq!(problem("l".repeat(1_000_000).as_bytes()), (100, Problem::TooDeep));
        let mixed = format!("{}le{}", "ld1:k".repeat(49), "ee".repeat(49));
        assert!(decode(mixed.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_clear_is_read_even_if_it_is_not_canonical() {
        let value = decode(b"d1:bi007e1:ai-0e1:bi8e002:cci99999999999999999999ee").unwrap();
        assert_eq!(value.get(b"b").unwrap().as_int(), Some(7));
        assert_eq!(value.get(b"a").unwrap().as_int(), Some(0));
        let huge = value.get(b"cc").unwrap();
        assert_eq!((huge.kind(), huge.as_int()), (ValueKind::Integer, None));
        assert_eq!(value.get(b"none"), None);
    }
}
