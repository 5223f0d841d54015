//! The routers by which this machine reaches the world, as Linux tells them in `/proc/net`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_nametoindex;

/// Flags of a route: it is in use, and leads to a router.
const USED_AND_BY_ROUTER: u32 = 1 | 2;

/// Bytes of a table that are read; a machine that passes on packets for others may have very many routes.
const MAX_TABLE: usize = 1 << 20;

/// A default route.
#[derive(Clone, PartialEq, Eq, Debug)]
struct DefaultRoute {
    interface: String,
    router: IpAddr,
    metric: u32,
}

/// The routers of this family, each with the number of its interface: the one that is used first in front, one for each interface. None if the
/// system does not tell.
pub(super) fn routers(is_ipv4: bool) -> Vec<(u32, IpAddr)> {
    let (path, read): (_, fn(&str) -> Option<DefaultRoute>) = match is_ipv4 {
        true => ("/proc/net/route", route4),
        false => ("/proc/net/ipv6_route", route6),
    };
    let table = fs::read(path).unwrap_or_default();
    let table = String::from_utf8_lossy(&table[..table.len().min(MAX_TABLE)]);
    let mut routers: Vec<(u32, IpAddr)> = Vec::new();
    for route in sorted(&table, read) {
        let Some(number) = if_nametoindex(route.interface.as_str()).ok().filter(|&number| number != 0) else {
            continue;
        };
        if !routers.iter().any(|(known, _)| *known == number) {
            routers.push((number, route.router));
        }
    }
    routers
}

fn sorted(table: &str, read: fn(&str) -> Option<DefaultRoute>) -> Vec<DefaultRoute> {
    let mut routes: Vec<DefaultRoute> = table.lines().filter_map(read).collect();
    routes.sort_by_key(|route| route.metric);
    routes
}

/// A default route in a line of `/proc/net/route`: interface, destination, router, flags, two counts, metric, mask, and more. Addresses are
/// written as numbers of this machine's byte order.
fn route4(line: &str) -> Option<DefaultRoute> {
    let mut fields = line.split_ascii_whitespace();
    let interface = fields.next()?.to_owned();
    let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
    let (destination, router, flags) = (number()?, number()?, number()?);
    let metric = fields.nth(2)?.parse().ok()?;
    let mask = u32::from_str_radix(fields.next()?, 16).ok()?;
    let is_default = destination == 0 && mask == 0;
    let router = Ipv4Addr::from(router.to_ne_bytes()).into();
    let is_used = flags & USED_AND_BY_ROUTER == USED_AND_BY_ROUTER;
    (is_default && is_used).then_some(DefaultRoute { interface, router, metric })
}

/// A default route in a line of `/proc/net/ipv6_route`: destination and its length, source and its length, router, metric, two counts, flags,
/// interface; all numbers are hexadecimal.
fn route6(line: &str) -> Option<DefaultRoute> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [destination, length, _, _, router, metric, _, _, flags, interface] = fields[..] else { return None };
    let address = |text: &str| u128::from_str_radix(text, 16).ok();
    let is_default = address(destination)? == 0 && length == "00";
    let router = Ipv6Addr::from_bits(address(router)?).into();
    let (metric, flags) = (u32::from_str_radix(metric, 16).ok()?, u32::from_str_radix(flags, 16).ok()?);
    let is_used = flags & USED_AND_BY_ROUTER == USED_AND_BY_ROUTER;
    (is_default && is_used).then(|| DefaultRoute { interface: interface.to_owned(), router, metric })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(table: &str, read: fn(&str) -> Option<DefaultRoute>) -> Vec<(String, String)> {
        let routes = sorted(table, read).into_iter();
        routes.map(|route| (route.interface, route.router.to_string())).collect()
    }

    fn pair(interface: &str, router: &str) -> (String, String) {
        (interface.to_owned(), router.to_owned())
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn default_routes_of_ipv4_are_found_the_first_in_front() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
            tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n\
            tun0\t00000000\t0100080A\t0003\t0\t0\t50\t00000080\t0\t0\t0\n\
            odd line\n";
        assert_eq!(found(table, route4), [pair("eth0", "10.0.0.1"), pair("wlan0", "192.168.1.1")]);
    }

    #[test]
    fn default_routes_of_ipv6_are_found() {
        let (zero, router) = ("0".repeat(32), "fe80000000000000021122fffe334455");
        let table = format!(
            "{zero} 00 {zero} 00 {router} 00000400 00000001 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             {zero} 40 {zero} 00 {router} 00000100 00000001 00000000 00000003     eth1\n"
        );
        assert_eq!(found(&table, route6), [pair("eth0", "fe80::211:22ff:fe33:4455")]);
    }
}
