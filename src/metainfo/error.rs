//! Why a .torrent is refused, as its user reads it.

use super::MAX_LENGTH;
use crate::bencode;
use crate::bencode::{DecodeError, Value, ValueKind};

/// Why a .torrent is refused. It reads on after `cannot read X.torrent: `.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetainfoError {
    /// Longer than [`MAX_LENGTH`].
    #[error("larger than {} MiB; a .torrent is never that large", MAX_LENGTH >> 20)]
    TooLong,
    /// It does not even begin like a .torrent.
    #[error("not a .torrent: {0}")]
    Foreign(&'static str),
    /// Not one whole bencoded value.
    #[error("damaged: {0}; fetch it again")]
    Bencode(DecodeError),
    /// The value of a key cannot be.
    #[error("{key}: {problem}")]
    Key {
        /// Where: keys joined by `.`, list indices from 0 in brackets (`info.files[3].length`).
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Its text holds the cause already: a `source` beside it would be said twice.
impl From<DecodeError> for MetainfoError {
    fn from(error: DecodeError) -> MetainfoError {
        MetainfoError::Bencode(error)
    }
}

impl MetainfoError {
    pub(super) fn at(key: impl Into<String>, problem: impl Into<String>) -> MetainfoError {
        MetainfoError::Key { key: key.into(), problem: problem.into() }
    }

    pub(super) fn missing(key: impl Into<String>) -> MetainfoError {
        MetainfoError::at(key, "missing")
    }

    /// The same error, when what was read stands below `parent`.
    pub(super) fn inside(self, parent: impl FnOnce() -> String) -> MetainfoError {
        match self {
            MetainfoError::Key { key, problem } => {
                MetainfoError::Key { key: format!("{}.{key}", parent()), problem }
            }
            other @ (MetainfoError::TooLong | MetainfoError::Foreign(_) | MetainfoError::Bencode(_)) => other,
        }
    }
}

/// A length: an integer that is not negative.
pub(super) fn length(key: &str, value: Value<'_>) -> Result<u64, MetainfoError> {
    let number = integer(key, value)?;
    u64::try_from(number).map_err(|_| MetainfoError::at(key, format!("{number} is negative")))
}

/// An integer.
pub(super) fn integer(key: &str, value: Value<'_>) -> Result<i64, MetainfoError> {
    match (value.kind(), value.as_int()) {
        (_, Some(number)) => Ok(number),
        (bencode::ValueKind::Integer, None) => Err(MetainfoError::at(key, "does not fit 64 bits")),
        (kind, None) => Err(unexpected(key, kind, ValueKind::Integer)),
    }
}

/// A string of any bytes.
pub(super) fn string<'a>(key: &str, value: Value<'a>) -> Result<&'a [u8], MetainfoError> {
    value.as_bytes().ok_or_else(|| unexpected(key, value.kind(), ValueKind::String))
}

/// A list.
pub(super) fn list<'a>(key: &str, value: Value<'a>) -> Result<bencode::List<'a>, MetainfoError> {
    value.as_list().ok_or_else(|| unexpected(key, value.kind(), ValueKind::List))
}

/// A dictionary.
pub(super) fn dict<'a>(key: &str, value: Value<'a>) -> Result<bencode::Dict<'a>, MetainfoError> {
    value.as_dict().ok_or_else(|| unexpected(key, value.kind(), ValueKind::Dictionary))
}

fn unexpected(key: &str, is: ValueKind, should: ValueKind) -> MetainfoError {
    MetainfoError::at(key, format!("{is}, should be {should}"))
}
