//! One port at one gateway: what is mapped, until when, and what has been told of it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::api::{Mapping, Method, PortMapOutput, Protocol};

/// How long a mapping is to last. One that is left behind by a process that was killed is gone after that.
pub(super) const LEASE: Duration = Duration::from_secs(3600);

/// What a gateway grants beyond this is not believed.
const MAX_LEASE: Duration = Duration::from_secs(24 * 3600);

/// The least time between two renewals, whatever the gateway grants. Some VPN services grant a minute.
pub(super) const LEAST_RENEWAL: Duration = Duration::from_secs(30);

/// After a refusal or silence, the gateway is asked again so much later.
pub(super) const AGAIN: Duration = Duration::from_secs(15 * 60);

/// One port at one gateway.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) protocol: Protocol,
    /// The port outside, while it is mapped.
    pub(super) external: Option<u16>,
    /// The port outside that the gateway may have mapped for us: it was asked to, and has not refused. It has to be removed at the end.
    pub(super) to_remove: Option<u16>,
    /// When the gateway is to be asked for it, first or again.
    pub(super) due: Instant,
    /// When the gateway answered last.
    pub(super) answered: Option<Instant>,
    told: Option<Mapping>,
}

/// Who maps, for what is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gateway {
    pub(super) method: Method,
    pub(super) ip: IpAddr,
    pub(super) is_router: bool,
}

impl Lease {
    pub(super) fn new(now: Instant, protocol: Protocol) -> Lease {
        Lease { protocol, external: None, to_remove: None, due: now, answered: None, told: None }
    }

    /// It is mapped, for `lifetime` (`None`: until it is removed); renewed at two thirds of that. What is to be told, if it is news.
    pub(super) fn grant(
        &mut self,
        now: Instant,
        by: Gateway,
        outside: (Option<IpAddr>, u16),
        lifetime: Option<Duration>,
    ) -> Option<PortMapOutput> {
        let (external_ip, external_port) = outside;
        (self.external, self.to_remove) = (Some(external_port), Some(external_port));
        self.answered = Some(now);
        let lifetime = lifetime.map(|lifetime| lifetime.min(MAX_LEASE));
        self.due = now + (lifetime.unwrap_or(LEASE) * 2 / 3).max(LEAST_RENEWAL);
        let Gateway { method, ip: gateway, is_router } = by;
        let mapping = Mapping {
            protocol: self.protocol,
            method,
            gateway,
            is_router,
            external_ip,
            external_port,
            lifetime,
        };
        // What is left of a lifetime is not the same each time.
        let is_same = self.told.as_ref().is_some_and(|told| Mapping { lifetime, ..told.clone() } == mapping);
        self.told = Some(mapping.clone());
        (!is_same).then_some(PortMapOutput::Mapped(mapping))
    }

    /// It is not mapped; tried again after [`AGAIN`]. What is to be told.
    pub(super) fn refuse(&mut self, now: Instant, by: Gateway, reason: String) -> PortMapOutput {
        self.lose(now);
        self.to_remove = None;
        self.answered = Some(now);
        let (protocol, gateway) = (Some(self.protocol), Some(by.ip));
        PortMapOutput::Failed { protocol, method: by.method, gateway, reason }
    }

    /// Nobody knows whether it is mapped (any more); tried again after [`AGAIN`].
    pub(super) fn lose(&mut self, now: Instant) {
        (self.external, self.told) = (None, None);
        self.due = now + AGAIN;
    }

    /// It is not mapped any more, as was wished.
    pub(super) fn removed(&mut self, now: Instant) {
        *self = Lease::new(now, self.protocol);
    }
}
