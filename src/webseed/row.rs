//! The row of requests on a connection to a web seed: which are sent before the answers to those in front of them have come (pipelining, RFC 9112
//! section 9.3.2).
//!
//! A path with delay takes its time for each answer that is waited for; requests that are sent ahead share it. Decides, and does no I/O: it is told
//! what is asked and answered. Trusts no server that has not shown what it does with a row.

use std::collections::VecDeque;

use super::job::{Get, Manner, Part};

/// Requests that are sent ahead at the most.
const MAX_AHEAD: usize = 256;

/// Bytes of answers that are under way at the most before a further request is sent: as many as one request for a run of a long file brings.
pub(crate) const MAX_BYTES: u64 = 4 << 20;

/// Bytes of the requests: if they were more than what lies between here and there, each side might wait for the other to read.
const MAX_HEADS: usize = 48 << 10;

/// What a request has besides its URL.
const HEAD: usize = 160;

/// How many more may be sent ahead after each good answer. So a server that goes wrong has been sent no more in vain than it has answered, twice over.
/// Also how many are sent ahead to one that has not shown yet what it does with a row.
const GROWTH: usize = 2;

/// Requests that are sent ahead at the most to a server that has answered twice with what is of no use, until [`MAX_AHEAD`] answers have been good.
const FEW: usize = 8;

/// The requests under way to a server, and what it has shown of how it takes them. Outlives its connections.
#[derive(Debug)]
pub(crate) struct Row {
    /// Bytes of answers that are under way at the most.
    max_bytes: u64,
    /// What has been asked for and not been answered yet, in order.
    waiting: VecDeque<Get>,
    /// Bytes of the answers to these, and of their requests.
    bytes: u64,
    heads: usize,
    /// Requests on this connection, and good answers.
    asked: usize,
    answered: usize,
    /// This connection has stayed open behind a good answer, and stays open behind the next one. The first is not enough: a server may close without
    /// having said so, and what it has sent is lost if a request comes then.
    is_trusted: bool,
    /// Requests could not be sent: what is sent behind them would be taken for the rest of one.
    is_broken: bool,
    /// Requests that may be sent ahead now.
    depth: usize,
    /// The most that they may be, whatever is answered; times that an answer was of no use, and good ones since.
    most: usize,
    faults: u32,
    good: usize,
    /// Some of those that wait were sent ahead.
    is_ahead: bool,
    /// Requests on one connection that the server has been seen to answer, if it has left those behind them without one; 0: it redirects.
    bears: usize,
    /// It has answered with a range.
    knows_ranges: bool,
    /// Requests that went out together, for the first time, and whether all of them have been answered since. Before that no others are sent: were one
    /// lost on the way, the answers to those would be taken for its own.
    first: usize,
    is_proven: bool,
}

impl Row {
    /// A row of which so many bytes of answers may be under way.
    pub(crate) fn new(max_bytes: u64) -> Row {
        Row {
            max_bytes: max_bytes.min(MAX_BYTES),
            waiting: VecDeque::new(),
            bytes: 0,
            heads: 0,
            asked: 0,
            answered: 0,
            is_trusted: false,
            is_broken: false,
            depth: 0,
            most: MAX_AHEAD,
            faults: 0,
            good: 0,
            is_ahead: false,
            bears: usize::MAX,
            knows_ranges: false,
            first: 0,
            is_proven: false,
        }
    }

    /// Whether nothing waits for its answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the next answer is that to this request.
    pub(crate) fn is_next(&self, get: &Get) -> bool {
        self.waiting.front() == Some(get)
    }

    /// Whether nothing more may be sent on this connection.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// There is a new connection. What waited on the one before is not answered any more.
    pub(crate) fn on_connected(&mut self) {
        self.waiting.clear();
        (self.bytes, self.heads, self.asked, self.answered, self.first) = (0, 0, 0, 0, 0);
        (self.is_trusted, self.is_broken, self.is_ahead) = (false, false, false);
    }

    /// Of those that were to be sent ahead the last ones, so many, were not even begun, and others perhaps not sent in whole.
    pub(crate) fn on_not_sent(&mut self, count: usize) {
        self.is_broken = true;
        let left = self.waiting.len().saturating_sub(count);
        for get in self.waiting.drain(left..) {
            self.bytes -= bytes_of(&get);
            self.heads -= head_of(&get);
        }
    }

    /// A request is sent.
    pub(crate) fn on_asked(&mut self, get: &Get) {
        self.asked += 1;
        self.bytes += bytes_of(get);
        self.heads += head_of(get);
        self.waiting.push_back(get.clone());
    }

    /// The next answer has begun.
    pub(crate) fn on_head(&mut self) {
        if let Some(get) = self.waiting.pop_front() {
            self.bytes -= bytes_of(&get);
            self.heads -= head_of(&get);
        }
        self.is_ahead &= !self.waiting.is_empty();
    }

    /// It is what was asked for, in this manner, or the whole file instead of a range. `takes_more`: the connection stays open behind it.
    pub(crate) fn on_good(&mut self, manner: Manner, is_whole: bool, takes_more: bool) {
        self.is_trusted = takes_more && self.answered > 0;
        self.answered += 1;
        // It answers far more than it once seemed to, one by one at least.
        if self.answered > self.bears.saturating_mul(2) {
            self.bears = self.answered;
        }
        self.is_proven |= self.waiting.is_empty() && self.first > 1;
        self.depth = (self.depth + GROWTH).min(MAX_AHEAD);
        self.good += 1;
        if self.good == MAX_AHEAD {
            (self.good, self.faults, self.most) = (0, 0, (self.most * 2).min(MAX_AHEAD));
        }
        if matches!(manner, Manner::Range | Manner::Unranged) {
            self.knows_ranges = !is_whole;
        }
    }

    /// It brings nothing; `is_busy`: for too much is asked.
    pub(crate) fn on_fault(&mut self, is_busy: bool) {
        let depth = std::mem::take(&mut self.depth);
        (self.good, self.faults) = (0, self.faults + 1);
        if is_busy {
            self.most = self.most.min((depth / 2).max(1));
        } else if self.faults > 1 {
            self.most = self.most.min(FEW);
        }
    }

    /// It leads elsewhere, and so may the others.
    pub(crate) fn on_redirect(&mut self) {
        self.bears = 0;
    }

    /// The connection has come to its end after so many answers. If some were waited for, it is not tried again with more requests than that.
    pub(crate) fn on_end(&mut self, answered: usize) {
        if self.is_ahead {
            self.bears = self.bears.min(answered);
        }
        self.on_connected();
    }

    /// Which of those that follow the answer that is read are to be sent now, while `left` bytes of it have not come. They are taken to be sent.
    pub(crate) fn send_ahead<'a>(&mut self, left: u64, following: &'a [Part]) -> Vec<&'a Get> {
        // Some together, for each time is a system call here and another one there.
        let many = if self.is_proven { self.depth.min(self.most) / 2 } else { 0 };
        let may_send = self.is_trusted && !self.is_broken;
        if !may_send || self.waiting.len() > many || left + self.bytes > self.max_bytes / 2 {
            return Vec::new();
        }
        let gets = following.iter().filter_map(|part| match part {
            Part::Get(get) => Some(get),
            Part::Zeros(_) => None,
        });
        let mut sent = Vec::new();
        for get in gets.skip(self.waiting.len()) {
            if !self.has_room(left) || (get.manner == Manner::Range && !self.knows_ranges) {
                break;
            }
            self.on_asked(get);
            sent.push(get);
        }
        self.first = sent.len();
        self.is_ahead |= !sent.is_empty();
        sent
    }

    /// Whether one more may be sent ahead.
    fn has_room(&self, left: u64) -> bool {
        let most = if self.is_proven { self.most } else { GROWTH };
        self.waiting.len() < self.depth.min(most)
            && self.asked < self.bears
            && left + self.bytes < self.max_bytes
            && self.heads < MAX_HEADS
    }
}

fn bytes_of(get: &Get) -> u64 {
    get.range.end - get.range.start
}

fn head_of(get: &Get) -> usize {
    get.url.len() + HEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::FileIndex;
    use crate::webseed::Item;

    const SIZE: u64 = 1000;

    fn parts(count: u32) -> Vec<Part> {
        (0..count).map(|number| part(number, SIZE, Manner::Whole)).collect()
    }

    fn part(number: u32, size: u64, manner: Manner) -> Part {
        let url = format!("http://h/{number}");
        Part::Get(Get { url, item: Item::File(FileIndex(number)), range: 0..size, size, manner })
    }

    fn get(part: &Part) -> &Get {
        match part {
            Part::Get(get) => get,
            Part::Zeros(_) => panic!("no request"),
        }
    }

    /// Takes the answer to the next of `parts`; says how many are sent ahead then.
    fn answer(row: &mut Row, parts: &mut &[Part], takes_more: bool) -> usize {
        let (first, rest) = parts.split_first().unwrap();
        if !row.is_next(get(first)) {
            assert!(row.is_empty(), "another one is under way");
            row.on_asked(get(first));
        }
        row.on_head();
        row.on_good(get(first).manner, false, takes_more);
        *parts = rest;
        row.send_ahead(SIZE, rest).len()
    }

    /// Takes so many good answers; says how many are sent ahead meanwhile.
    fn answers(row: &mut Row, parts: &mut &[Part], count: usize) -> usize {
        (0..count).map(|_| answer(row, parts, true)).sum()
    }

    #[test]
    fn nothing_is_sent_ahead_before_a_good_answer_behind_which_the_connection_stays() {
        let parts = parts(1000);
        let mut row = Row::new(MAX_BYTES);
        row.on_asked(get(&parts[0]));
        assert_eq!(row.send_ahead(0, &parts[1..]), Vec::<&Get>::new());
        row.on_head();
        assert_eq!(row.send_ahead(0, &parts[1..]), Vec::<&Get>::new());
        let mut row = Row::new(MAX_BYTES);
        let mut rest = &parts[..];
        assert!((0..50).all(|_| answer(&mut row, &mut rest, false) == 0), "it closes, or speaks HTTP/1.0");
        assert_eq!(answer(&mut row, &mut rest, true), GROWTH, "it has shown nothing yet");
        row.on_connected();
        assert_eq!(row.send_ahead(0, rest).len(), 0, "a new connection has to show it again");
    }

    #[test]
    fn the_row_grows_with_the_answers_and_is_filled_up_some_at_a_time() {
        let parts = parts(1000);
        let (mut row, mut rest) = (Row::new(MAX_BYTES), &parts[..]);
        let sent: Vec<usize> = (0..400).map(|_| answer(&mut row, &mut rest, true)).collect();
        assert_eq!(sent[..5], [0, 2, 0, 8, 0], "the first two have to be answered before more is sent");
        assert!(sent.iter().sum::<usize>() <= 400 + MAX_AHEAD);
        assert!(sent[200..].iter().all(|&sent| sent == 0 || sent >= 32), "{sent:?}");
    }

    #[test]
    fn bytes_under_way_are_bounded_and_under_a_low_limit_few() {
        for (max, size, most) in [(MAX_BYTES, 200_000, 21), (50_000, 16_384, 3), (1, 16_384, 0)] {
            let parts: Vec<Part> = (0..100).map(|number| part(number, size, Manner::Whole)).collect();
            let (mut row, mut rest) = (Row::new(max), &parts[..]);
            let waiting = (0..40).map(|_| {
                answer(&mut row, &mut rest, true);
                row.waiting.len()
            });
            assert_eq!(waiting.max(), Some(most), "{max}");
            // Near the end of the answer the next one is asked for in any case.
            row.send_ahead(0, rest);
            assert!(!row.is_empty(), "{max}");
        }
        let long = "x".repeat(5000);
        let parts: Vec<Part> = (0..100)
            .map(|number| match part(number, 10, Manner::Whole) {
                Part::Get(get) => Part::Get(Get { url: get.url + &long, ..get }),
                part => part,
            })
            .collect();
        let (mut row, mut rest) = (Row::new(MAX_BYTES), &parts[..]);
        answers(&mut row, &mut rest, 40);
        assert!((1..=10).contains(&row.waiting.len()), "{} long requests", row.waiting.len());
    }

    #[test]
    fn a_server_that_leaves_requests_without_an_answer_is_sent_no_more_on_a_connection() {
        for (bears, later) in [(2, 11), (10, 10)] {
            let parts = parts(1000);
            let (mut row, mut rest) = (Row::new(MAX_BYTES), &parts[..]);
            for _ in 0..5 {
                answers(&mut row, &mut rest, bears);
                row.on_end(bears);
            }
            row.on_connected();
            let ahead = answers(&mut row, &mut rest, 20);
            assert_eq!(ahead, bears - 2, "and behind that one at a time");
            row.on_end(20);
            assert_eq!(row.bears, later, "nothing was lost, and it has been seen to answer more");
        }
    }

    #[test]
    fn after_a_redirect_nothing_is_sent_ahead_and_after_a_fault_it_begins_anew() {
        let parts = parts(1000);
        let (mut row, mut rest) = (Row::new(MAX_BYTES), &parts[..]);
        answers(&mut row, &mut rest, 100);
        row.on_connected();
        row.on_fault(false);
        assert_eq!([(); 2].map(|()| answer(&mut row, &mut rest, true)), [0, 4]);
        row.on_connected();
        row.on_redirect();
        assert_eq!(answers(&mut row, &mut rest, 50), 0);
    }

    #[test]
    fn a_server_that_is_busy_or_has_not_what_it_is_asked_for_is_asked_for_less_ahead() {
        for (faults, most, later) in [(&[true][..], 100, 200), (&[false], 256, 256), (&[false; 2], 8, 16)] {
            let parts = parts(2000);
            let (mut row, mut rest) = (Row::new(MAX_BYTES), &parts[..]);
            answers(&mut row, &mut rest, 100);
            row.on_connected();
            faults.iter().for_each(|&is_busy| row.on_fault(is_busy));
            let mut longest = |count| {
                let waiting = (0..count).map(|_| {
                    answer(&mut row, &mut rest, true);
                    row.waiting.len()
                });
                waiting.max()
            };
            assert_eq!(longest(250), Some(most), "{faults:?}");
            assert_eq!(longest(250), Some(later), "{faults:?}");
        }
    }

    #[test]
    fn nothing_is_sent_behind_what_could_not_be_sent() {
        let parts = parts(100);
        let (mut row, mut rest) = (Row::new(MAX_BYTES), &parts[..]);
        answers(&mut row, &mut rest, 10);
        let waiting = row.waiting.len();
        row.on_not_sent(3);
        assert_eq!((row.waiting.len(), row.is_broken()), (waiting - 3, true));
        assert_eq!(answers(&mut row, &mut rest, 30), 0);
        row.on_connected();
        assert!(answers(&mut row, &mut rest, 2) > 0);
        assert_eq!(row.bytes, row.waiting.len() as u64 * SIZE);
    }

    #[test]
    fn a_range_is_sent_ahead_only_to_a_server_that_has_given_one() {
        let mut parts = parts(4);
        parts.insert(2, Part::Zeros(5));
        parts.push(part(9, SIZE, Manner::Range));
        let mut row = Row::new(MAX_BYTES);
        row.on_asked(get(&parts[0]));
        row.on_head();
        row.is_proven = true;
        (0..9).for_each(|_| row.on_good(Manner::Whole, false, true));
        assert_eq!(row.send_ahead(0, &parts[1..]).len(), 3, "what is not asked for is passed over");
        row.on_good(Manner::Range, true, true);
        assert_eq!(row.send_ahead(0, &parts[1..]).len(), 0);
        row.on_good(Manner::Range, false, true);
        assert_eq!(row.send_ahead(0, &parts[1..]), [get(parts.last().unwrap())]);
    }
}
