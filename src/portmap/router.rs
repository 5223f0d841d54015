//! The router of a network, asked by PCP (RFC 6887) or NAT-PMP (RFC 6886), whichever it speaks.
//!
//! One request is under way at a time. Until the router has answered, requests of the two protocols take turns, PCP first: a router that does not
//! know PCP need not say so.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::api::{Method, Network, PortMapOutput, Protocol};
use super::lease::{Gateway, LEASE, LEAST_RENEWAL, Lease};
use super::natpmp::{self, NAT_PMP_VERSION, NatPmpAbout, NatPmpAnswer};
use super::pcp::{self, Nonce, PcpAnswer, PcpAsk};
use super::tries::{MAX_TRIES, Tries};

/// For how long UPnP waits for a router that has not answered yet: where one answers here, nothing else is needed of it.
const HEAD_START: Duration = Duration::from_secs(1);

/// How often it is sent that a mapping is not needed any more.
const MAX_REMOVAL_TRIES: u32 = 4;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    /// The address outside, by NAT-PMP; PCP tells it with each mapping.
    Address,
    /// The mapping of the lease of this index.
    Map(usize),
    /// The end of that.
    Remove(usize),
}

/// What keeps UPnP from asking the same host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    /// The router has not answered yet, and may do so until then.
    Until(Instant),
    /// It maps.
    Mapped,
}

/// The router of a network.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) network: Network,
    pub(super) ip: IpAddr,
    begun: Instant,
    port: u16,
    wanted: bool,
    /// How it has answered; `None`: not yet.
    method: Option<Method>,
    /// How it answered before it fell silent.
    last_method: Option<Method>,
    leases: Vec<(Lease, Nonce)>,
    external_ip: Option<IpAddr>,
    /// When the address outside is to be asked for by NAT-PMP.
    address_due: Instant,
    under_way: Option<(Ask, Tries)>,
    /// What the router last said of its age, and when.
    epoch: Option<(u32, Instant)>,
}

impl Router {
    /// `None` if the network has none, or one that cannot be asked.
    pub(super) fn new(
        now: Instant,
        network: Network,
        port: u16,
        protocols: &[Protocol],
        rng: &mut fastrand::Rng,
    ) -> Option<Router> {
        let ip = network.router.filter(|ip| ip.is_ipv4() == network.local.is_ipv4())?;
        let lease = |&protocol: &Protocol| {
            let mut nonce = Nonce::default();
            rng.fill(&mut nonce);
            (Lease::new(now, protocol), nonce)
        };
        Some(Router {
            network,
            ip,
            begun: now,
            port,
            wanted: true,
            method: None,
            last_method: None,
            leases: protocols.iter().map(lease).collect(),
            external_ip: None,
            address_due: now,
            under_way: None,
            epoch: None,
        })
    }

    /// Whether the ports are to be mapped.
    pub(super) fn want(&mut self, now: Instant, wanted: bool) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        // What is asked for now may be granted though its answer is not waited for.
        self.under_way = None;
        if wanted {
            (self.begun, self.address_due) = (now, now);
            self.leases.iter_mut().for_each(|(lease, _)| lease.due = now);
        }
    }

    /// Whether all that it may have mapped has been removed.
    pub(super) fn has_ended(&self) -> bool {
        !self.wanted && self.leases.iter().all(|(lease, _)| lease.to_remove.is_none())
    }

    /// What is mapped: protocol, and port outside.
    pub(super) fn mapped(&self) -> impl Iterator<Item = (Protocol, u16)> {
        self.leases.iter().filter_map(|(lease, _)| Some((lease.protocol, lease.external?)))
    }

    /// What keeps UPnP from asking the same host.
    pub(super) fn hold(&self) -> Option<Hold> {
        match (self.mapped().next(), self.under_way) {
            (Some(_), _) => Some(Hold::Mapped),
            (None, Some(_)) => Some(Hold::Until(self.begun + HEAD_START)),
            (None, None) => None,
        }
    }

    fn gateway(&self, method: Method) -> Gateway {
        Gateway { method, ip: self.ip, is_router: true }
    }

    /// What is to be asked next, if it is due.
    fn next_ask(&self, now: Instant) -> Option<Ask> {
        let index = |test: &dyn Fn(&Lease) -> bool| self.leases.iter().position(|(lease, _)| test(lease));
        if !self.wanted {
            return index(&|lease| lease.to_remove.is_some()).map(Ask::Remove);
        }
        let map = index(&|lease| lease.due <= now).map(Ask::Map)?;
        // Asked for with a mapping, so that both are told together.
        let asks_address = self.method == Some(Method::NatPmp) && self.address_due <= now;
        Some(if asks_address { Ask::Address } else { map })
    }

    /// When it has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.under_way {
            Some((_, tries)) => Some(tries.next()),
            None if self.wanted => self.leases.iter().map(|(lease, _)| lease.due).min(),
            None => None,
        }
    }

    pub(super) fn poll(&mut self, now: Instant, out: &mut VecDeque<PortMapOutput>) {
        loop {
            if self.under_way.is_none() {
                self.under_way = self.next_ask(now).map(|ask| (ask, Tries::new(now)));
            }
            let Some((ask, mut tries)) = self.under_way.filter(|(_, tries)| tries.next() <= now) else {
                return;
            };
            let most = if matches!(ask, Ask::Remove(_)) { MAX_REMOVAL_TRIES } else { MAX_TRIES };
            if tries.sent() == most {
                self.under_way = None;
                self.on_silence(now, ask, out);
                continue;
            }
            let data = self.packet(ask, tries.sent());
            tries.send(now);
            self.under_way = Some((ask, tries));
            out.push_back(PortMapOutput::Send { network: self.network, data });
            match ask {
                // Nobody has ever answered: one packet, in case that an answer is on its way, and nobody waits for it.
                Ask::Remove(index) if self.method.is_none() => self.on_removed(now, index),
                _ => return,
            }
        }
    }

    /// The packet of a request that has been sent so often before.
    fn packet(&mut self, ask: Ask, sent: u32) -> Vec<u8> {
        let known =
            if matches!(ask, Ask::Remove(_)) { self.method.or(self.last_method) } else { self.method };
        let method = known.unwrap_or(match sent % 2 == 1 && self.ip.is_ipv4() {
            true => Method::NatPmp,
            false => Method::Pcp,
        });
        let (index, seconds) = match ask {
            Ask::Address => return natpmp::ask_address(),
            // Whether it is spoken at all.
            Ask::Map(_) if self.method.is_none() && method == Method::NatPmp => {
                return natpmp::ask_address();
            }
            Ask::Map(index) => (index, LEASE.as_secs() as u32),
            Ask::Remove(index) => (index, 0),
        };
        let wished = self.mapped().next().map_or(self.port, |(_, external)| external);
        let (lease, nonce) = &mut self.leases[index];
        let external = lease.external.unwrap_or(wished);
        if seconds > 0 {
            lease.to_remove = Some(external);
        }
        match method {
            Method::NatPmp => {
                let external = if seconds == 0 { 0 } else { external };
                natpmp::ask_mapping(lease.protocol, self.port, external, seconds)
            }
            _ => PcpAsk {
                client: self.network.local,
                seconds,
                nonce: *nonce,
                protocol: lease.protocol,
                internal: self.port,
                external,
            }
            .encode(),
        }
    }

    /// Nobody has answered.
    fn on_silence(&mut self, now: Instant, ask: Ask, out: &mut VecDeque<PortMapOutput>) {
        match ask {
            Ask::Remove(index) => self.leases[index].0.removed(now),
            Ask::Address | Ask::Map(_) => self.give_up(now, "it does not answer", out),
        }
    }

    /// The router does not take part, or not any more.
    fn give_up(&mut self, now: Instant, reason: &str, out: &mut VecDeque<PortMapOutput>) {
        let guess = if self.ip.is_ipv4() { Method::NatPmp } else { Method::Pcp };
        self.last_method = self.method.or(self.last_method);
        let method = self.method.take().unwrap_or(guess);
        self.under_way = None;
        self.leases.iter_mut().for_each(|(lease, _)| lease.lose(now));
        let (protocol, gateway, reason) = (None, Some(self.ip), reason.to_owned());
        out.push_back(PortMapOutput::Failed { protocol, method, gateway, reason });
    }

    /// The router says that nothing listens there.
    pub(super) fn on_unreachable(&mut self, now: Instant, out: &mut VecDeque<PortMapOutput>) {
        match self.under_way {
            None => {}
            Some((Ask::Remove(index), _)) => {
                self.under_way = None;
                self.leases[index].0.removed(now);
            }
            Some(_) => {
                self.give_up(now, "it does not take part in port mapping", out);
                self.leases.iter_mut().for_each(|(lease, _)| lease.to_remove = None);
            }
        }
    }

    /// A packet has come from the router.
    pub(super) fn on_packet(&mut self, now: Instant, data: &[u8], out: &mut VecDeque<PortMapOutput>) {
        let Some((ask, _)) = self.under_way else { return };
        match data.first() {
            Some(&NAT_PMP_VERSION) if self.ip.is_ipv4() => {
                if let Some(answer) = NatPmpAnswer::decode(data) {
                    self.on_nat_pmp(now, ask, answer, out);
                }
            }
            Some(_) => {
                if let Some(answer) = PcpAnswer::decode(data) {
                    self.on_pcp(now, ask, answer, out);
                }
            }
            None => {}
        }
    }

    fn on_nat_pmp(
        &mut self,
        now: Instant,
        ask: Ask,
        answer: NatPmpAnswer,
        out: &mut VecDeque<PortMapOutput>,
    ) {
        if self.method.is_none() {
            // That it does not know the version of PCP, or the address.
            self.method = Some(Method::NatPmp);
            self.under_way = None;
            // Nothing has been asked of it that it has understood.
            self.leases.iter_mut().for_each(|(lease, _)| lease.to_remove = None);
            if let (0, NatPmpAbout::Address(ip)) = (answer.result, answer.about) {
                self.on_address(now, answer.epoch, ip.into());
            }
            return;
        }
        if self.method != Some(Method::NatPmp) {
            return;
        }
        let NatPmpAnswer { result, epoch, about } = answer;
        let reason = (result != 0).then(|| natpmp::explain(result));
        match (ask, about) {
            (Ask::Address, NatPmpAbout::Address(ip)) if result == 0 => {
                self.under_way = None;
                self.on_address(now, epoch, ip.into());
            }
            (Ask::Address, NatPmpAbout::Address(_)) | (Ask::Address, NatPmpAbout::Other) => {
                // The mappings may be had nevertheless.
                self.under_way = None;
                self.external_ip = None;
                self.address_due = now + LEAST_RENEWAL;
            }
            (Ask::Map(index) | Ask::Remove(index), NatPmpAbout::Mapping { protocol, internal, .. })
                if (protocol, internal) != (self.leases[index].0.protocol, self.port) => {}
            (Ask::Map(index), NatPmpAbout::Mapping { external, seconds, .. }) => {
                let granted = (external, seconds, self.external_ip);
                self.on_mapping(now, index, epoch, reason.map_or(Ok(granted), Err), out);
            }
            (Ask::Map(index), NatPmpAbout::Other) => {
                let reason = reason.unwrap_or_default();
                self.on_mapping(now, index, epoch, Err(reason), out);
            }
            (Ask::Remove(index), NatPmpAbout::Mapping { .. } | NatPmpAbout::Other) => {
                self.on_removed(now, index)
            }
            _ => {}
        }
    }

    fn on_address(&mut self, now: Instant, epoch: u32, ip: IpAddr) {
        self.external_ip = Some(ip).filter(|ip| !ip.is_unspecified());
        self.address_due = now + LEAST_RENEWAL;
        self.on_epoch(now, epoch);
    }

    fn on_pcp(&mut self, now: Instant, ask: Ask, answer: PcpAnswer, out: &mut VecDeque<PortMapOutput>) {
        if self.method == Some(Method::NatPmp) {
            return;
        }
        let (Ask::Map(index) | Ask::Remove(index)) = ask else { return };
        let Some(mapping) = answer.mapping else {
            // It speaks another version of PCP: before the second there was none but NAT-PMP.
            self.under_way = None;
            if self.method.is_none() && self.ip.is_ipv4() {
                self.method = Some(Method::NatPmp);
                self.leases.iter_mut().for_each(|(lease, _)| lease.to_remove = None);
            } else {
                self.give_up(now, &pcp::explain(answer.result), out);
            }
            return;
        };
        let (lease, nonce) = &self.leases[index];
        if (mapping.nonce, mapping.protocol, mapping.internal) != (*nonce, lease.protocol, self.port) {
            return;
        }
        self.method = Some(Method::Pcp);
        match ask {
            Ask::Map(_) if answer.result == 0 => {
                self.external_ip = Some(mapping.external_ip).filter(|ip| !ip.is_unspecified());
                let granted = (mapping.external, answer.seconds, self.external_ip);
                self.on_mapping(now, index, answer.epoch, Ok(granted), out);
            }
            Ask::Map(_) => self.on_mapping(now, index, answer.epoch, Err(pcp::explain(answer.result)), out),
            _ => self.on_removed(now, index),
        }
    }

    /// The router has granted a mapping (port outside, seconds, address outside), or refused it.
    fn on_mapping(
        &mut self,
        now: Instant,
        index: usize,
        epoch: u32,
        granted: Result<(u16, u32, Option<IpAddr>), String>,
        out: &mut VecDeque<PortMapOutput>,
    ) {
        self.under_way = None;
        let by = self.gateway(self.method.unwrap_or(Method::Pcp));
        let (lease, is_granted) = (&mut self.leases[index].0, granted.is_ok());
        let told = match granted {
            Ok((external, seconds, ip)) if external != 0 && seconds != 0 => {
                lease.grant(now, by, (ip, external), Some(Duration::from_secs(seconds.into())))
            }
            Ok(_) => Some(lease.refuse(now, by, "it says that it has mapped nothing".to_owned())),
            Err(reason) => Some(lease.refuse(now, by, reason)),
        };
        out.extend(told);
        // A refusal need not tell it.
        if is_granted {
            self.on_epoch(now, epoch);
        }
    }

    fn on_removed(&mut self, now: Instant, index: usize) {
        self.under_way = None;
        self.leases[index].0.removed(now);
    }

    /// The router says how old it is: if it is younger than it should be, it has forgotten the other mappings (RFC 6886, 3.6; RFC 6887, 8.5).
    fn on_epoch(&mut self, now: Instant, epoch: u32) {
        let has_forgotten = self.epoch.is_some_and(|(last, at)| {
            // Its clock may be an eighth slower than ours.
            let passed = now.saturating_duration_since(at).as_secs();
            u64::from(epoch) + 2 < u64::from(last) + passed - passed / 8
        });
        self.epoch = Some((epoch, now));
        if has_forgotten {
            let is_old = |lease: &&mut Lease| {
                lease.answered.is_some_and(|at| now.saturating_duration_since(at) >= LEAST_RENEWAL)
            };
            self.leases.iter_mut().map(|(lease, _)| lease).filter(is_old).for_each(|lease| lease.due = now);
        }
    }
}

#[cfg(test)]
impl Router {
    /// Has the first mapping renewed now, long after the gateway has answered.
    pub(super) fn make_due(&mut self, now: Instant) {
        self.leases[0].0.due = now;
    }
}
