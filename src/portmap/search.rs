//! The search for UPnP gateways on one network: by two packets at a time, again and again until somebody answers.

use std::collections::VecDeque;
use std::time::Instant;

use super::api::{Method, Network, PortMapOutput};
use super::lease::AGAIN;
use super::ssdp::{SEARCHES, search};
use super::tries::{MAX_TRIES, Tries};

/// How often it is searched though a gateway has been found: another one may not have heard it.
const LEAST_TRIES: u32 = 3;

/// The search on one network.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) network: Network,
    /// `None`: it has ended.
    tries: Option<Tries>,
    /// When the next one begins.
    again: Instant,
    /// A gateway was found, and is of use as far as it is known.
    has_found: bool,
}

impl Search {
    /// `None` on a network of IPv6: UPnP maps ports of IPv4 alone.
    pub(super) fn new(now: Instant, network: Network) -> Option<Search> {
        let begun = Search { network, tries: Some(Tries::new(now)), again: now, has_found: false };
        network.local.is_ipv4().then_some(begun)
    }

    /// Whether answers are of interest.
    pub(super) fn is_on(&self) -> bool {
        self.tries.is_some()
    }

    /// A gateway has been found.
    pub(super) fn on_found(&mut self) {
        self.has_found = true;
    }

    /// No gateway that was found is of use (any more): searched again after [`AGAIN`].
    pub(super) fn search_again(&mut self, now: Instant) {
        if self.tries.is_none() && self.has_found {
            (self.has_found, self.again) = (false, now + AGAIN);
        }
    }

    /// When it has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.tries {
            Some(tries) => Some(tries.next()),
            None => (!self.has_found).then_some(self.again),
        }
    }

    pub(super) fn poll(&mut self, now: Instant, out: &mut VecDeque<PortMapOutput>) {
        if self.tries.is_none() && !self.has_found && self.again <= now {
            self.tries = Some(Tries::new(now));
        }
        let Some(tries) = self.tries.as_mut().filter(|tries| tries.next() <= now) else { return };
        let most = if self.has_found { LEAST_TRIES } else { MAX_TRIES };
        if tries.sent() < most {
            tries.send(now);
            let network = self.network;
            return out
                .extend(SEARCHES.map(|target| PortMapOutput::Search { network, data: search(target) }));
        }
        self.tries = None;
        out.push_back(PortMapOutput::EndSearch(self.network));
        if !self.has_found {
            self.again = now + AGAIN;
            out.push_back(PortMapOutput::Failed {
                protocol: None,
                method: Method::Upnp,
                gateway: None,
                reason: format!("no gateway answers on the network of {}", self.network.local),
            });
        }
    }
}
