//! Addresses that the user does not want to deal with: what a block list says, and whether an address stands in one.
//!
//! Owns the ranges. Pure: whoever has opened a list feeds its bytes ([`BlockList`]); who is turned away is decided elsewhere.

mod line;
mod lists;
mod ranges;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub use line::{Line, Range};
pub use lists::{BlockList, ListReport, MAX_LINE, MAX_RANGES, TooManyRanges};
use ranges::Ranges;

/// Refuses peers and nodes of the DHT by their address, before a byte is sent to them: those that call, and those that anybody names.
/// Each refusal of a peer is told as `ip_filter`. Trackers and web seeds are not asked about.
///
/// ```
/// use btget::client::{IpFilter, SessionOptions};
/// use std::net::{IpAddr, Ipv4Addr};
///
/// let first = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 0));
/// let last = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 255));
/// let filter = IpFilter::ranges([first..=last]);
/// let options = SessionOptions { ip_filter: Some(filter), ..SessionOptions::default() };
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct IpFilter(Arc<dyn Fn(IpAddr) -> Option<String> + Send + Sync>);

impl IpFilter {
    /// `rule` gives the reason why an address is refused, or `None`. It is asked on the session's
    /// thread, so it must not block. IPv4 addresses come as such, also from IPv6 sockets.
    pub fn new(rule: impl Fn(IpAddr) -> Option<String> + Send + Sync + 'static) -> IpFilter {
        IpFilter(Arc::new(rule))
    }

    /// Refuses all addresses in these ranges, ends included. A range of which one end is of IPv4 and the other of IPv6, or that
    /// ends before it begins, holds no address.
    pub fn ranges(ranges: impl IntoIterator<Item = RangeInclusive<IpAddr>>) -> IpFilter {
        let mut all = Ranges::default();
        let ranges = ranges.into_iter().filter_map(|range| Range::new(*range.start(), *range.end()));
        ranges.for_each(|range| all.add(range, 0));
        all.make_disjoint();
        IpFilter::new(move |address| {
            let (first, last, _) = all.find(address)?;
            Some(format!("in {first}-{last}"))
        })
    }

    /// Refuses what one of these refuses, for the reason that the first of them gives.
    pub fn any(filters: impl IntoIterator<Item = IpFilter>) -> IpFilter {
        let filters: Vec<IpFilter> = filters.into_iter().collect();
        IpFilter::new(move |address| filters.iter().find_map(|filter| (filter.0)(address)))
    }

    /// Why an address is refused, if it is.
    pub(crate) fn refusal(&self, address: IpAddr) -> Option<String> {
        (self.0)(address.to_canonical())
    }

    /// Whether an address is refused.
    pub fn refuses(&self, address: IpAddr) -> bool {
        self.refusal(address).is_some()
    }
}

impl fmt::Debug for IpFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IpFilter")
    }
}
