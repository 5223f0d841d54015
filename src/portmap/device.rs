//! A gateway of UPnP: read what it can do, then one call of it after the other.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::api::{DeviceAnswer, DeviceRequest, Method, Network, PortMapOutput, Protocol, SoapCall};
use super::lease::{Gateway, LEASE, Lease};
use super::soap::{Action, Service, SoapAnswer, read_description, read_soap_answer};

/// Ports outside that are tried where one is taken.
const MAX_PORTS: u32 = 5;

/// Ports outside that are drawn where that with the number of our own is taken.
const DRAWN: std::ops::RangeInclusive<u16> = 10_000..=60_000;

/// Error codes of UPnP: the lease may not have an end (725), or the arguments are wrong, by which some mean the same.
const WANT_NO_END: [u16; 2] = [725, 402];

/// The port outside is taken (718); some call any failure an action that failed (501).
const WANT_OTHER_PORT: [u16; 2] = [IS_ANOTHERS, 501];

/// Error code of UPnP: the port outside is mapped to somebody else.
const IS_ANOTHERS: u16 = 718;

/// After the first try to renew that brings no answer the gateway is asked again so much later, and each further time after twice as long.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// So many tries to renew without an answer, and the gateway is given up: an hour's lease has a third of that left then.
const MAX_UNANSWERED: u32 = 4;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    Description,
    /// The address outside, of the service of this index.
    Address(usize),
    /// The mapping of the lease of this index.
    Map(usize, Action),
    Remove(usize),
    /// To take back the mapping of the lease of this index that the gateway does not renew.
    RemoveLeft(usize),
}

/// How far it is known what the gateway can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Unknown,
    /// The service of this index is to be asked for the address outside: it is used if it has one.
    Choosing(usize),
    /// The service of this index is used.
    Chosen(usize),
    /// It is of no use, or not any more; the service of this index may still map for us.
    Useless(Option<usize>),
}

/// A gateway of UPnP.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) network: Network,
    /// The address that has answered the search, and of all that the gateway says the only one that is contacted.
    pub(super) host: Ipv4Addr,
    /// The port and path of its description.
    pub(super) place: (u16, String),
    local: Ipv4Addr,
    port: u16,
    wanted: bool,
    stage: Stage,
    services: Vec<Service>,
    leases: Vec<Wish>,
    external_ip: Option<IpAddr>,
    /// The number of the exchange that is under way.
    under_way: Option<(u64, Ask)>,
}

/// One port, and how it has to be asked for here.
#[derive(Debug)]
struct Wish {
    lease: Lease,
    /// The port outside that is asked for; `None`: as others suggest.
    external: Option<u16>,
    /// Ports that were taken.
    refused: u32,
    /// Tries to renew without an answer, in a row.
    unanswered: u32,
    /// The gateway takes leases without end alone.
    endless: bool,
    /// The port outside that was mapped, and whose renewal the gateway has refused: what it maps still is removed, for nobody is told of it any
    /// more, and it may have no end.
    left: Option<u16>,
}

impl Wish {
    /// The gateway has refused with this error to map a port; if it was mapped before, it may be so still.
    fn leave(&mut self, code: u16) {
        // In a conflict it is another's by now.
        if code != IS_ANOTHERS {
            self.left = self.lease.external.or(self.left);
        }
    }

    /// There was no answer when it was asked for. Whether it is mapped all the same, and is to be renewed a little later.
    fn renews_later(&mut self, now: Instant) -> bool {
        self.unanswered += 1;
        let may = self.lease.external.is_some() && self.unanswered < MAX_UNANSWERED;
        if may {
            self.lease.due = now + RENEW_AGAIN * (1 << (self.unanswered - 1));
        }
        may
    }
}

impl Device {
    pub(super) fn new(
        now: Instant,
        network: Network,
        host: Ipv4Addr,
        place: (u16, String),
        port: u16,
        protocols: &[Protocol],
    ) -> Option<Device> {
        let IpAddr::V4(local) = network.local else { return None };
        let wish = |&protocol: &Protocol| Wish {
            lease: Lease::new(now, protocol),
            external: None,
            refused: 0,
            unanswered: 0,
            endless: false,
            left: None,
        };
        Some(Device {
            network,
            host,
            place,
            local,
            port,
            wanted: true,
            stage: Stage::Unknown,
            services: Vec::new(),
            leases: protocols.iter().map(wish).collect(),
            external_ip: None,
            under_way: None,
        })
    }

    /// From now on all that it has mapped is removed, and nothing else.
    pub(super) fn end(&mut self) {
        self.wanted = false;
    }

    /// Whether it is of no use (any more).
    pub(super) fn is_useless(&self) -> bool {
        matches!(self.stage, Stage::Useless(_))
    }

    /// Whether nobody has asked it for anything yet.
    pub(super) fn is_unasked(&self) -> bool {
        self.stage == Stage::Unknown && self.under_way.is_none()
    }

    /// Whether all that it may have mapped has been removed.
    pub(super) fn has_ended(&self) -> bool {
        let may_map = matches!(self.under_way, Some((_, Ask::Map(..) | Ask::Remove(_) | Ask::RemoveLeft(_))));
        let holds = || self.leases.iter().any(|wish| wish.lease.to_remove.or(wish.left).is_some());
        !self.wanted && !may_map && (self.stage == Stage::Useless(None) || !holds())
    }

    /// What is mapped: protocol, and port outside.
    pub(super) fn mapped(&self) -> impl Iterator<Item = (Protocol, u16)> {
        self.leases.iter().filter_map(|wish| Some((wish.lease.protocol, wish.lease.external?)))
    }

    fn gateway(&self) -> Gateway {
        let ip = IpAddr::V4(self.host);
        Gateway { method: Method::Upnp, ip, is_router: self.network.router == Some(ip) }
    }

    /// When it has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Chosen(_) if self.wanted && self.under_way.is_none() => {
                self.leases.iter().map(|wish| wish.lease.due).min()
            }
            // What is to be done at once is done in the next poll.
            _ => None,
        }
    }

    /// Asks what is to be asked next.
    pub(super) fn poll(&mut self, next_exchange: &mut u64, now: Instant, out: &mut VecDeque<PortMapOutput>) {
        if self.under_way.is_some() {
            return;
        }
        let Some((ask, port, path, call)) = self.next_ask(now) else { return };
        let exchange = *next_exchange;
        *next_exchange += 1;
        self.under_way = Some((exchange, ask));
        let to = SocketAddrV4::new(self.host, port);
        out.push_back(PortMapOutput::Ask {
            exchange,
            request: DeviceRequest { from: self.local, to, path, call },
        });
    }

    fn next_ask(&mut self, now: Instant) -> Option<(Ask, u16, String, Option<SoapCall>)> {
        let (ask, service, action) = match self.stage {
            Stage::Unknown if self.wanted => {
                let (port, path) = self.place.clone();
                return Some((Ask::Description, port, path, None));
            }
            Stage::Choosing(service) if self.wanted => (Ask::Address(service), service, Action::Address),
            Stage::Unknown | Stage::Choosing(_) | Stage::Useless(None) => return None,
            Stage::Useless(_) if self.wanted => return None,
            Stage::Chosen(service) if self.leases.iter().any(|wish| wish.left.is_some()) => {
                let index = self.leases.iter().position(|wish| wish.left.is_some())?;
                let (protocol, external) = (self.leases[index].lease.protocol, self.leases[index].left?);
                (Ask::RemoveLeft(index), service, Action::Remove { protocol, external })
            }
            Stage::Chosen(service) if self.wanted => {
                let suggested = self.mapped().next().map_or(self.port, |(_, external)| external);
                let index = self.leases.iter().position(|wish| wish.lease.due <= now)?;
                let (client, internal) = (self.local, self.port);
                let wish = &mut self.leases[index];
                let external = wish.lease.external.or(wish.external).unwrap_or(suggested);
                wish.lease.to_remove = Some(external);
                let seconds = if wish.endless { 0 } else { LEASE.as_secs() as u32 };
                let protocol = wish.lease.protocol;
                let action = Action::Add { protocol, external, client, internal, seconds };
                (Ask::Map(index, action), service, action)
            }
            Stage::Chosen(service) | Stage::Useless(Some(service)) => {
                let holds = |wish: &Wish| wish.lease.to_remove.is_some();
                let index = self.leases.iter().position(holds)?;
                let lease = &self.leases[index].lease;
                let (protocol, external) = (lease.protocol, lease.to_remove?);
                (Ask::Remove(index), service, Action::Remove { protocol, external })
            }
        };
        let Service { kind, port, path } = self.services.get(service)?.clone();
        Some((ask, port, path, Some(action.call(kind))))
    }

    /// An exchange has ended. False if it is none of this device's.
    pub(super) fn on_answered(
        &mut self,
        now: Instant,
        exchange: u64,
        answer: &Result<DeviceAnswer, String>,
        rng: &mut fastrand::Rng,
        out: &mut VecDeque<PortMapOutput>,
    ) -> bool {
        let Some((_, ask)) = self.under_way.take_if(|(number, _)| *number == exchange) else { return false };
        match (ask, answer) {
            (Ask::Description, Ok(DeviceAnswer { status: 200, body })) => {
                self.services = read_description(body, &self.place);
                self.stage = Stage::Choosing(0);
                if self.services.is_empty() {
                    self.give_up(now, "it does not say where it maps ports".to_owned(), out);
                }
            }
            (Ask::Description, Ok(DeviceAnswer { status, .. })) => {
                self.give_up(now, format!("it does not describe itself: HTTP status {status}"), out);
            }
            (Ask::Description, Err(reason)) => self.give_up(now, reason.clone(), out),
            (Ask::Address(service), answer) => self.on_address(now, service, answer, out),
            (Ask::Map(index, action), Ok(answer)) => {
                self.on_mapping(now, index, action, answer, rng, out);
            }
            (Ask::Map(index, _), Err(reason)) if self.wanted => {
                if !self.leases[index].renews_later(now) {
                    self.give_up(now, reason.clone(), out);
                }
            }
            // It may have done it: that is still to be removed.
            (Ask::Map(index, _), Err(_)) => self.leases[index].lease.lose(now),
            // Nobody waits for one that is silent.
            (Ask::Remove(_) | Ask::RemoveLeft(_), Err(_)) if !self.wanted => {
                self.stage = Stage::Useless(None)
            }
            // It is removed, was not there, or stays until its lease is over.
            (Ask::Remove(index), _) => self.leases[index].lease.removed(now),
            (Ask::RemoveLeft(index), _) => self.leases[index].left = None,
        }
        true
    }

    fn on_address(
        &mut self,
        now: Instant,
        service: usize,
        answer: &Result<DeviceAnswer, String>,
        out: &mut VecDeque<PortMapOutput>,
    ) {
        let answer = match answer {
            Ok(answer) => read_soap_answer(Action::Address, answer),
            Err(reason) => return self.give_up(now, reason.clone(), out),
        };
        self.stage = match answer {
            SoapAnswer::Done(Some(ip)) => {
                self.external_ip = Some(ip.into());
                Stage::Chosen(service)
            }
            // Of several, one that is connected; if none is, it may be one that does not tell.
            _ if service + 1 < self.services.len() => Stage::Choosing(service + 1),
            _ => Stage::Chosen(0),
        };
    }

    fn on_mapping(
        &mut self,
        now: Instant,
        index: usize,
        action: Action,
        answer: &DeviceAnswer,
        rng: &mut fastrand::Rng,
        out: &mut VecDeque<PortMapOutput>,
    ) {
        let Action::Add { external, seconds, .. } = action else { return };
        let (by, ip) = (self.gateway(), self.external_ip);
        let wish = &mut self.leases[index];
        wish.unanswered = 0;
        let told = match read_soap_answer(action, answer) {
            SoapAnswer::Done(_) => {
                wish.refused = 0;
                let lifetime = (seconds > 0).then_some(LEASE);
                wish.lease.grant(now, by, (ip, external), lifetime)
            }
            // What is there at this port is another's, and stays.
            SoapAnswer::Refused(code, _) if WANT_NO_END.contains(&code) && !wish.endless => {
                (wish.endless, wish.lease.to_remove, wish.lease.due) = (true, wish.lease.external, now);
                None
            }
            SoapAnswer::Refused(code, _)
                if WANT_OTHER_PORT.contains(&code) && wish.refused < MAX_PORTS - 1 =>
            {
                wish.leave(code);
                wish.refused += 1;
                wish.external = Some(rng.u16(DRAWN));
                (wish.lease.external, wish.lease.to_remove, wish.lease.due) = (None, None, now);
                None
            }
            refused => {
                if let SoapAnswer::Refused(code, _) = refused {
                    wish.leave(code);
                }
                (wish.refused, wish.external, wish.endless) = (0, None, false);
                let is_refusal = matches!(refused, SoapAnswer::Refused(..));
                let reason = match refused {
                    SoapAnswer::Refused(code, words) if words.is_empty() => {
                        format!("it refuses: error {code}")
                    }
                    SoapAnswer::Refused(code, words) => format!("it refuses: error {code}, {words}"),
                    SoapAnswer::Useless(reason) => reason,
                    SoapAnswer::Done(_) => String::new(),
                };
                // What is no answer is no refusal: it may have mapped it.
                let to_remove = wish.lease.to_remove.filter(|_| !is_refusal);
                let told = wish.lease.refuse(now, by, reason);
                wish.lease.to_remove = to_remove;
                Some(told)
            }
        };
        out.extend(told);
    }

    /// It is of no use, or not any more.
    fn give_up(&mut self, now: Instant, reason: String, out: &mut VecDeque<PortMapOutput>) {
        self.stage = match self.stage {
            Stage::Chosen(service) => Stage::Useless(Some(service)),
            _ => Stage::Useless(None),
        };
        for wish in &mut self.leases {
            wish.lease.lose(now);
            wish.unanswered = 0;
        }
        if self.wanted {
            let (protocol, method, gateway) = (None, Method::Upnp, Some(self.host.into()));
            out.push_back(PortMapOutput::Failed { protocol, method, gateway, reason });
        }
    }
}
