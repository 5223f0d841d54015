//! What a connection is to fetch: blocks that follow one another, and the requests that bring them.

use std::ops::Range;

use crate::layout::{Block, FileIndex, PieceIndex};

/// What a request is about, as a web seed has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Item {
    /// A file (BEP 19).
    File(FileIndex),
    /// A piece (BEP 17).
    Piece(PieceIndex),
}

/// How a run of bytes is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// By a `Range` header.
    Range,
    /// Not at all, for the server refuses such headers: the whole is asked for, and these bytes are in it.
    Unranged,
    /// Not at all: it is all that there is.
    Whole,
    /// By the URL (BEP 17): the answer holds these bytes and no others.
    RangeInUrl,
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Get {
    /// What is asked for, with credentials if there are any.
    pub url: String,
    /// Whose bytes these are.
    pub item: Item,
    /// The bytes of it that are wanted.
    pub range: Range<u64>,
    /// How many bytes it has.
    pub size: u64,
    /// How the range is asked for.
    pub manner: Manner,
}

impl Get {
    /// The same bytes from there on, by a range.
    pub(crate) fn rest(&self, from: u64) -> Get {
        Get { range: from..self.range.end, manner: Manner::Range, ..self.clone() }
    }

    /// The same bytes of a server that refuses ranges.
    pub(crate) fn unranged(&self) -> Get {
        Get { manner: Manner::Unranged, ..self.clone() }
    }
}

/// A part of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// So many zeros: a pad file (BEP 47), for which nobody is asked.
    Zeros(u64),
    /// A request, and its bytes.
    Get(Get),
}

/// The same parts, of which no request is for a longer range than `longest`.
pub(crate) fn cut(parts: &[Part], longest: u64) -> Vec<Part> {
    let mut short = Vec::new();
    for part in parts {
        match part {
            Part::Get(get) if get.manner == Manner::Range => {
                let mut from = get.range.start;
                while from < get.range.end {
                    let end = get.range.end.min(from.saturating_add(longest.max(1)));
                    short.push(Part::Get(Get { range: from..end, ..get.clone() }));
                    from = end;
                }
            }
            part => short.push(part.clone()),
        }
    }
    short
}

/// What a connection is to fetch. Blocks and parts are of the same bytes of the torrent's stream, in the same order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Job {
    /// The blocks, each where the one before ends.
    pub blocks: Vec<Block>,
    /// Where their bytes come from.
    pub parts: Vec<Part>,
}

/// How a job has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct JobEnd {
    /// What has kept it from all of its blocks, if anything, and where.
    pub fault: Option<(Option<Item>, Fault)>,
    /// The web seed gives whole files alone: an answer to a range was one.
    pub ignores_ranges: bool,
    /// The body of an answer that goes on: of this file, from this offset.
    pub goes_on_at: Option<(FileIndex, u64)>,
}

impl JobEnd {
    /// The end of a job of which nothing is known besides its fault, if there was one.
    pub(crate) fn with(fault: Option<(Option<Item>, Fault)>) -> JobEnd {
        JobEnd { fault, ignores_ranges: false, goes_on_at: None }
    }
}

/// Why there are no bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It is not there: 404 or 410.
    Missing(String),
    /// What is there is not the torrent's.
    Wrong(String),
    /// It leads in circles, or where nobody is to go.
    Astray(String),
    /// We are not let in: 401 or 403.
    Denied(String),
    /// Not now: 429 or 503, and after how many seconds, if that was said.
    Busy(Option<u64>, String),
    /// It answers, and sends next to nothing.
    Slow(String),
    /// Another answer that brings no bytes.
    Refused(String),
    /// No answer, or one that ends too early: the connection is gone.
    Broken(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_and_nothing_else_is() {
        let get = |range: Range<u64>, manner| {
            Part::Get(Get { url: "u".into(), item: Item::File(FileIndex(0)), range, size: 100, manner })
        };
        let whole = [get(0..100, Manner::Whole), Part::Zeros(50), get(0..40, Manner::RangeInUrl)];
        assert_eq!(cut(&whole, 20), whole);
        let long = [get(10..55, Manner::Range), Part::Zeros(50)];
        let short = [
            get(10..30, Manner::Range),
            get(30..50, Manner::Range),
            get(50..55, Manner::Range),
            Part::Zeros(50),
        ];
        assert_eq!(cut(&long, 20), short);
        assert_eq!(cut(&short, 20), short);
        assert_eq!(cut(&long, u64::MAX), long);
    }
}
