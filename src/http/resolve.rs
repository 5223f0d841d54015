//! Names to addresses, as the system looks them up.
//!
//! A look-up cannot be cut short: it ends by the resolver's own time-outs, on the thread that needs it. So there are never
//! more of them than requests under way.

use std::net::{SocketAddr, ToSocketAddrs};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::{Family, proxy};
pub(crate) use crate::address::literal;
use crate::bind::{Bind, Local};

/// Addresses of one name that are tried.
pub(crate) const MAX_ADDRESSES: usize = 8;

/// The addresses of a host (an IPv6 one with or without brackets) that can be reached from what is bound to, in the order in which they are to be tried: as
/// the system sorts them, the families in turn (RFC 8305).
///
/// # Errors
///
/// Why there is none, for people.
pub(crate) fn look_up(host: &str, port: u16, local: &Local) -> Result<Vec<SocketAddr>, String> {
    let found = (proxy::bare(host), port).to_socket_addrs().map_err(|error| error.to_string())?;
    let addresses = in_turn(found.filter(|address| local.reaches(address.ip())));
    match (addresses.is_empty(), local.bind()) {
        (false, _) => Ok(addresses),
        (true, None) => Err("the host has no address".to_owned()),
        (true, Some(Bind::Address(ip))) => {
            let family = Family::of(&SocketAddr::new(*ip, 0));
            Err(format!("the host has no {family} address, and nothing else is reached from {ip}"))
        }
        (true, Some(Bind::Interface(name))) => {
            Err(format!("the host has no address that can be reached by the interface {name} as it is now"))
        }
    }
}

/// Each address once, the families in turn, [`MAX_ADDRESSES`] at the most.
pub(crate) fn in_turn(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut sorted: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !sorted.contains(&address) {
            sorted.push(address);
        }
    }
    let starts_with_ipv6 = sorted.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        sorted.into_iter().partition(|address| address.is_ipv6() == starts_with_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let turns = std::iter::from_fn(|| {
        let pair = [first.next(), second.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    turns.flatten().flatten().take(MAX_ADDRESSES).collect()
}

/// The port of an HTTP URL, said or not.
pub(crate) fn port_of(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}

/// The system's look-up for ureq, whose own makes a thread for each and panics where there is none to be had.
#[derive(Debug)]
pub(crate) struct SystemResolver {
    pub local: Local,
    /// The addresses of other families are left out; `None`: of none.
    pub family: Option<Family>,
    /// False where the proxy looks names up: then there is one address, which stands for all and is of no use.
    pub looks_up: bool,
}

impl Resolver for SystemResolver {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        if !self.looks_up {
            let mut one = self.empty();
            one.push(SocketAddr::from(([0; 4], 0)));
            return Ok(one);
        }
        let found = look_up(host, port_of(uri), &self.local).map_err(|reason| Error::Other(reason.into()))?;
        let mut addresses = self.empty();
        let is_of_family = |address: &SocketAddr| self.family.is_none_or(|it| it == Family::of(address));
        found.into_iter().filter(is_of_family).for_each(|address| addresses.push(address));
        match (addresses.is_empty(), self.family) {
            (true, Some(family)) => Err(Error::Other(format!("{host} has no {family} address").into())),
            _ => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| format!("{text}:1").parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns_and_the_number_is_bounded() {
        let system = addresses(&[
            "[2001:db8::1]",
            "[2001:db8::2]",
            "[2001:db8::3]",
            "192.0.2.1",
            "192.0.2.1",
            "192.0.2.2",
        ]);
        let expected =
            addresses(&["[2001:db8::1]", "192.0.2.1", "[2001:db8::2]", "192.0.2.2", "[2001:db8::3]"]);
        assert_eq!(in_turn(system.into_iter()), expected);
        let many = (0..100u8).map(|last| SocketAddr::from(([192, 0, 2, last], 1)));
        assert_eq!(in_turn(many).len(), MAX_ADDRESSES);
    }

    #[test]
    fn only_the_family_of_the_local_address_is_reached_from_it() {
        let local = Local::from(IpAddr::from(std::net::Ipv6Addr::LOCALHOST));
        assert_eq!(look_up("[::1]", 5, &local), Ok(vec!["[::1]:5".parse().unwrap()]));
        let refused = look_up("192.0.2.1", 5, &local).unwrap_err();
        assert_eq!(refused, "the host has no IPv6 address, and nothing else is reached from ::1");
    }

    #[test]
    fn an_address_is_seen_through_however_it_is_written() {
        for host in ["127.0.0.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1"] {
            assert_eq!(literal(host), Some(IpAddr::from([127, 0, 0, 1])), "{host}");
        }
        assert_eq!(literal("[::1]"), Some("::1".parse().unwrap()));
        for (host, ip) in [
            ("10.1.2.3", [10, 1, 2, 3]),
            ("10.66051", [10, 1, 2, 3]),
            ("10.1.515", [10, 1, 2, 3]),
            ("0xA.01.0x2.3.", [10, 1, 2, 3]),
            ("0", [0; 4]),
            ("4294967295", [255; 4]),
            ("127.0xffffff", [127, 255, 255, 255]),
        ] {
            assert_eq!(literal(host), Some(IpAddr::from(ip)), "{host}");
        }
    }

    #[test]
    fn a_name_that_looks_like_an_address_is_a_name() {
        for host in [
            "tracker.7",
            "a.example.1",
            "256.1.1.1",
            "999.999",
            "1.2.3.4.5",
            "4294967296",
            "127.16777216",
            "0x",
            "0x1g",
            "08.1",
            "1..1",
            "1.-1",
            "+1",
            "1.+1",
            "0x+1",
            "",
            ".",
            "1e3",
        ] {
            assert_eq!(literal(host), None, "{host:?}");
        }
    }
}
