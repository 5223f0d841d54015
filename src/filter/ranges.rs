//! Ranges of addresses, and the search for the one that holds an address.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::line::Range;

/// One range: 12 bytes for IPv4, 48 for IPv6.
#[derive(Clone, Copy, Debug)]
struct Span<A> {
    first: A,
    last: A,
    /// Where it stands in its list, from 1.
    line: u32,
}

/// Ranges of both families.
#[derive(Clone, Default, Debug)]
pub(super) struct Ranges {
    v4: Vec<Span<u32>>,
    v6: Vec<Span<u128>>,
}

impl Ranges {
    /// Adds a range, which stands in this line of its list.
    pub(super) fn add(&mut self, range: Range, line: u32) {
        match range {
            Range::V4(first, last) => {
                self.v4.push(Span { first: first.into(), last: last.into(), line });
            }
            Range::V6(first, last) => {
                self.v6.push(Span { first: first.into(), last: last.into(), line });
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Sorts them, and cuts off what others hold already, so that no address is in two. To be called before
    /// [`Ranges::find`], once all are there.
    pub(super) fn make_disjoint(&mut self) {
        make_disjoint(&mut self.v4, |address| address.saturating_add(1));
        make_disjoint(&mut self.v6, |address| address.saturating_add(1));
    }

    /// The range that holds an address: its ends, and its line. Takes as many steps as the number of ranges has binary digits.
    pub(super) fn find(&self, address: IpAddr) -> Option<(IpAddr, IpAddr, u32)> {
        match address {
            IpAddr::V4(v4) => {
                let span = find(&self.v4, v4.into())?;
                Some((Ipv4Addr::from(span.first).into(), Ipv4Addr::from(span.last).into(), span.line))
            }
            IpAddr::V6(v6) => {
                let span = find(&self.v6, v6.into())?;
                Some((Ipv6Addr::from(span.first).into(), Ipv6Addr::from(span.last).into(), span.line))
            }
        }
    }
}

fn make_disjoint<A: Copy + Ord>(spans: &mut Vec<Span<A>>, next: impl Fn(A) -> A) {
    // Of those that begin alike, the longest first: it holds the others.
    spans.sort_unstable_by_key(|span| (span.first, Reverse(span.last), span.line));
    let mut end: Option<A> = None;
    spans.retain_mut(|span| {
        if let Some(end) = end.filter(|end| span.first <= *end) {
            if span.last <= end {
                return false;
            }
            span.first = next(end);
        }
        end = Some(span.last);
        true
    });
    spans.shrink_to_fit();
}

fn find<A: Copy + Ord>(spans: &[Span<A>], address: A) -> Option<&Span<A>> {
    let behind = spans.partition_point(|span| span.first <= address);
    spans[..behind].last().filter(|span| address <= span.last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(address: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, address])
    }

    #[test]
    fn the_ends_of_the_world_are_in_a_range_that_reaches_there() {
        let mut ranges = Ranges::default();
        let all = [("0.0.0.0", "255.255.255.255"), ("1.0.0.0", "255.255.255.255"), ("::", "::1")];
        for (first, last) in all.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap())) {
            ranges.add(Range::new(first, last).unwrap(), 1);
        }
        ranges.add(Range::new("ffff::".parse().unwrap(), IpAddr::from([0xff; 16])).unwrap(), 1);
        ranges.make_disjoint();
        assert_eq!(ranges.len(), 3);
        for inside in ["0.0.0.0", "255.255.255.255", "::", "::1"] {
            assert!(ranges.find(inside.parse().unwrap()).is_some(), "{inside}");
        }
        assert!(ranges.find(IpAddr::from([0xff; 16])).is_some());
        assert!(ranges.find("::2".parse().unwrap()).is_none());
    }

    proptest! {
        #[test]
        fn an_address_is_found_in_a_range_that_was_added_if_one_holds_it(
            given in prop::collection::vec((any::<u8>(), 0u8..40), 0..40),
            asked in any::<u8>(),
        ) {
            let mut ranges = Ranges::default();
            let ends = |&(first, more): &(u8, u8)| (first, first.saturating_add(more));
            for (line, range) in given.iter().enumerate() {
                let (first, last) = ends(range);
                ranges.add(Range::new(v4(first), v4(last)).unwrap(), line as u32);
            }
            ranges.make_disjoint();
            let holds = |range: &(u8, u8)| { let (first, last) = ends(range); (first..=last).contains(&asked) };
            match ranges.find(v4(asked)) {
                None => prop_assert!(!given.iter().any(holds)),
                Some((first, last, line)) => {
                    let (whole_first, whole_last) = ends(&given[line as usize]);
                    prop_assert!(first <= v4(asked) && v4(asked) <= last);
                    prop_assert!(v4(whole_first) <= first && last <= v4(whole_last), "it is of another line");
                }
            }
        }
    }
}
