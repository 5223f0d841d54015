//! The gate: which addresses may be called at all, whoever told us of them.

use std::net::SocketAddr;

use super::Origin;
use crate::address::{is_callable, is_stand_in};
use crate::filter::IpFilter;

/// The rules of the gate.
#[derive(Clone, Default, Debug)]
pub struct Rules {
    /// The torrent is private (BEP 27): only its trackers may tell us of peers, beside the peers themselves and the user.
    pub private: bool,
    /// The user wants no peer exchange (BEP 11).
    pub no_peer_exchange: bool,
    /// Peers are not met by holes in firewalls (BEP 55): they are not called by uTP.
    pub no_holepunch: bool,
    /// The addresses that the user does not want to deal with.
    pub filter: Option<IpFilter>,
}

/// What the gate says to an address.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// It may be called.
    Admitted,
    /// It cannot be called, or its origin does not count: nothing to tell.
    Ignored,
    /// The filter refuses it, for this reason.
    Filtered(String),
}

impl Rules {
    /// Whether an address may be called that we know from `origin`.
    pub(super) fn admit(&self, address: SocketAddr, origin: Origin) -> Admission {
        let ip = address.ip();
        if !is_callable(address) || (self.private && !origin.counts_in_private()) {
            return Admission::Ignored;
        }
        // Where a name leads that only the proxy knows is nobody's address.
        let filter = self.filter.as_ref().filter(|_| !is_stand_in(address));
        match filter.and_then(|filter| filter.refusal(ip)) {
            Some(rule) => Admission::Filtered(rule),
            None => Admission::Admitted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const ADDRESS: &str = "192.0.2.1:6881";

    #[test]
    fn who_is_known_by_name_alone_is_in_no_list_of_addresses() {
        let mut list = crate::filter::BlockList::new("all".to_owned());
        list.feed(b"::/0\n").unwrap();
        let rules = Rules { filter: Some(list.end().unwrap().0), ..Rules::default() };
        let by_name = crate::address::stand_in(1, 7);
        assert_eq!(rules.admit(by_name, Origin::User), Admission::Admitted);
        let by_address = "[2001:470::1]:7".parse().unwrap();
        assert!(matches!(rules.admit(by_address, Origin::User), Admission::Filtered(_)));
    }

    #[test]
    fn a_private_torrent_hears_of_peers_from_its_trackers_the_peers_and_the_user_alone() {
        let private = Rules { private: true, ..Rules::default() };
        for origin in Origin::ALL {
            let counts = [Origin::Tracker, Origin::Incoming, Origin::User].contains(&origin);
            let expected = if counts { Admission::Admitted } else { Admission::Ignored };
            assert_eq!(private.admit(ADDRESS.parse().unwrap(), origin), expected, "{origin:?}");
            let public = Rules::default().admit(ADDRESS.parse().unwrap(), origin);
            assert_eq!(public, Admission::Admitted, "{origin:?}");
        }
    }

    #[test]
    fn what_cannot_be_called_is_ignored() {
        for bad in ["0.0.0.0:1", "1.2.3.4:0", "224.0.0.1:5", "255.255.255.255:9", "[::]:7", "[ff02::1]:7"] {
            let admission = Rules::default().admit(bad.parse().unwrap(), Origin::User);
            assert_eq!(admission, Admission::Ignored, "{bad}");
        }
    }

    #[test]
    fn the_filter_says_why_and_sees_ipv4_behind_ipv6() {
        let first: IpAddr = [192, 0, 2, 0].into();
        let filter = IpFilter::ranges([first..=[192, 0, 2, 255].into()]);
        let rules = Rules { filter: Some(filter), ..Rules::default() };
        let reason = || Admission::Filtered("in 192.0.2.0-192.0.2.255".into());
        assert_eq!(rules.admit(ADDRESS.parse().unwrap(), Origin::Tracker), reason());
        assert_eq!(rules.admit("[::ffff:192.0.2.9]:1".parse().unwrap(), Origin::User), reason());
        assert_eq!(rules.admit("192.0.3.1:1".parse().unwrap(), Origin::Tracker), Admission::Admitted);
    }
}
