//! Block lists, as their bytes come.

use super::IpFilter;
use super::line::Line;
use super::ranges::Ranges;

/// Bytes of the longest line that is read; a longer one is bad.
pub const MAX_LINE: usize = 4096;

/// Ranges of one list: 24 MiB of IPv4. The largest lists that are passed on have a quarter of it.
pub const MAX_RANGES: usize = 2 << 20;

/// The list has more than [`MAX_RANGES`].
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_RANGES} ranges")]
pub struct TooManyRanges;

/// What was in a list.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ListReport {
    /// The name that was given to it.
    pub name: String,
    /// Ranges that are refused, before they are joined with others.
    pub blocked: u32,
    /// Lines that allow what they name.
    pub allowed: u32,
    /// Lines that are none of the formats.
    pub bad: u32,
    /// The number of the first of these, from 1.
    pub first_bad: Option<u32>,
}

/// A list that is being read: [`BlockList::feed`] as often as there are bytes, then [`BlockList::end`].
#[derive(Debug)]
pub struct BlockList {
    ranges: Ranges,
    report: ListReport,
    /// The number of the line that is read, from 1.
    line: u32,
    /// What is here of it; at most [`MAX_LINE`] bytes.
    begun: Vec<u8>,
    /// It is longer.
    is_too_long: bool,
    /// The line before ended with a carriage return, to which a line feed may belong.
    is_after_return: bool,
}

impl BlockList {
    /// A list by this name, of which nothing is here yet.
    pub fn new(name: String) -> BlockList {
        let report = ListReport { name, ..ListReport::default() };
        BlockList {
            ranges: Ranges::default(),
            report,
            line: 1,
            begun: Vec::new(),
            is_too_long: false,
            is_after_return: false,
        }
    }

    /// The next bytes of the list.
    ///
    /// # Errors
    ///
    /// If there are too many ranges; the rest need not be fed.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TooManyRanges> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.is_after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|&byte| matches!(byte, b'\n' | b'\r')) else { break };
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            self.is_after_return = bytes[end] == b'\r';
            if self.begun.is_empty() && !self.is_too_long && line.len() <= MAX_LINE {
                self.take(line)?;
            } else {
                self.take_in(line);
                self.take_begun()?;
            }
            bytes = rest;
        }
        self.take_in(bytes);
        Ok(())
    }

    /// The list ends here. The filter refuses what stands in it, and tells in which line.
    ///
    /// # Errors
    ///
    /// As [`BlockList::feed`].
    pub fn end(mut self) -> Result<(IpFilter, ListReport), TooManyRanges> {
        self.take_begun()?;
        self.ranges.make_disjoint();
        let BlockList { ranges, report, .. } = self;
        let name = report.name.clone();
        let filter = IpFilter::new(move |address| {
            let (first, last, line) = ranges.find(address)?;
            Some(format!("in {first}-{last}, line {line} of {name}"))
        });
        Ok((filter, report))
    }

    /// Keeps the beginning of a line, as far as it can be one.
    fn take_in(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.begun.len();
        self.is_too_long |= bytes.len() > room;
        self.begun.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The line that is begun has ended.
    fn take_begun(&mut self) -> Result<(), TooManyRanges> {
        let line = std::mem::take(&mut self.begun);
        let is_too_long = std::mem::take(&mut self.is_too_long);
        // Of a comment it does not matter how long it is.
        let taken = match Line::parse(&line) {
            Line::Nothing => self.take(b""),
            _ if is_too_long => self.take(b"too long"),
            _ => self.take(&line),
        };
        self.begun = line;
        self.begun.clear();
        taken
    }

    fn take(&mut self, line: &[u8]) -> Result<(), TooManyRanges> {
        let number = self.line;
        self.line = number.saturating_add(1);
        // Programs of Windows begin a text with a mark of its encoding.
        let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(line);
        match Line::parse(line) {
            Line::Nothing => {}
            Line::Allowed => self.report.allowed += 1,
            Line::Bad => {
                self.report.bad += 1;
                self.report.first_bad.get_or_insert(number);
            }
            Line::Blocked(_) if self.ranges.len() >= MAX_RANGES => return Err(TooManyRanges),
            Line::Blocked(range) => {
                self.report.blocked += 1;
                self.ranges.add(range, number);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIST: &[u8] = b"\xef\xbb\xbfOne:1.0.0.0-1.0.0.255\r\n\r\n# two\r\n2.0.0.0/8\r\nbad\r\n\
        003.000.000.000 - 003.000.000.255 , 200 , allowed\r\n4.0.0.1\r\n2.0.0.0-2.255.255.255\nworse";

    fn read(parts: &[&[u8]]) -> (IpFilter, ListReport) {
        let mut list = BlockList::new("a.p2p".to_owned());
        parts.iter().for_each(|part| list.feed(part).unwrap());
        list.end().unwrap()
    }

    #[test]
    fn a_list_is_read_to_its_end_and_bad_lines_are_counted() {
        let (filter, report) = read(&[LIST]);
        let expected =
            ListReport { name: "a.p2p".into(), blocked: 4, allowed: 1, bad: 2, first_bad: Some(5) };
        assert_eq!(report, expected);
        let refusal = |address: &str| filter.refusal(address.parse().unwrap());
        assert_eq!(refusal("1.0.0.7").unwrap(), "in 1.0.0.0-1.0.0.255, line 1 of a.p2p");
        assert_eq!(refusal("2.9.9.9").unwrap(), "in 2.0.0.0-2.255.255.255, line 4 of a.p2p");
        assert_eq!(refusal("::ffff:4.0.0.1").unwrap(), "in 4.0.0.1-4.0.0.1, line 7 of a.p2p");
        assert!(["3.0.0.1", "4.0.0.2", "0.255.255.255", "1.0.1.0"].iter().all(|ip| refusal(ip).is_none()));
    }

    #[test]
    fn lines_end_as_any_system_ends_them() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["1.0.0.1", "", "bad", "1.0.0.2", ""].join(end);
            for cut in 0..text.len() {
                let (filter, report) = read(&[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]);
                assert_eq!((report.blocked, report.bad, report.first_bad), (2, 1, Some(3)), "{text:?}");
                let refusal = filter.refusal("1.0.0.2".parse().unwrap());
                assert_eq!(refusal.unwrap(), "in 1.0.0.2-1.0.0.2, line 4 of a.p2p");
            }
        }
    }

    #[test]
    fn a_line_without_end_is_one_bad_line_and_no_memory() {
        let mut list = BlockList::new("endless".to_owned());
        (0..1000).for_each(|_| list.feed(&[b'1'; MAX_LINE]).unwrap());
        assert!(list.begun.len() <= MAX_LINE && list.begun.capacity() <= 2 * MAX_LINE);
        list.feed(b"\n# ").unwrap();
        (0..10).for_each(|_| list.feed(&[b'x'; MAX_LINE]).unwrap());
        list.feed(b"\n5.6.7.8").unwrap();
        let (filter, report) = list.end().unwrap();
        assert_eq!((report.bad, report.first_bad, report.blocked), (1, Some(1), 1));
        let refusal = filter.refusal("5.6.7.8".parse().unwrap());
        assert_eq!(refusal.unwrap(), "in 5.6.7.8-5.6.7.8, line 3 of endless");
    }

    #[test]
    fn more_ranges_than_anybody_has_are_refused() {
        let mut list = BlockList::new("flood".to_owned());
        let flood = b"1.1.1.1\n".repeat(1 << 16);
        let fed = (0..=MAX_RANGES >> 16).try_for_each(|_| list.feed(&flood));
        assert_eq!(fed.unwrap_err().to_string(), "more than 2097152 ranges");
    }

    #[test]
    fn an_address_is_refused_if_one_of_several_lists_has_it() {
        let filter = |line: &str| {
            let mut list = BlockList::new(line.to_owned());
            list.feed(line.as_bytes()).unwrap();
            list.end().unwrap().0
        };
        let any = IpFilter::any(["1.0.0.1", "1.0.0.0/8"].map(filter));
        let refusal = |address: &str| any.refusal(address.parse().unwrap());
        assert_eq!(refusal("1.0.0.1").unwrap(), "in 1.0.0.1-1.0.0.1, line 1 of 1.0.0.1");
        assert_eq!(refusal("1.0.0.2").unwrap(), "in 1.0.0.0-1.255.255.255, line 1 of 1.0.0.0/8");
        assert!(refusal("2.0.0.0").is_none());
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(cuts in prop::collection::vec(0..LIST.len(), 0..9)) {
            let mut cuts = cuts;
            cuts.extend([0, LIST.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &LIST[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&parts).1, read(&[LIST]).1);
        }
    }
}
