//! A machine, its gateways, and the time between them.

use std::net::{IpAddr, SocketAddrV4};

use super::super::api::{DeviceAnswer, DeviceRequest};
use super::super::natpmp::Fields;
use super::super::*;

/// So many milliseconds after the beginning.
pub(super) fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Of 10.N.0.0/16, with its router at 10.N.0.1. Number 1 is 10.0.0.0 too, by another interface.
pub(super) fn network(number: u8) -> Network {
    let second = number.saturating_sub(1);
    let ip = |last| IpAddr::from([10, second, 0, last]);
    Network { local: ip(7), router: Some(ip(1)), interface: number.into() }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speaks {
    Pcp,
    NatPmp,
    Upnp,
}

/// How a gateway answers that it has mapped a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Says {
    Done,
    /// An answer without a body.
    Nothing,
    /// None: the connection breaks.
    Broken,
}

/// A gateway. What it does is changed by its fields.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) ip: Ipv4Addr,
    pub(super) speaks: Speaks,
    /// Nothing is answered.
    pub(super) silent: bool,
    /// A NAT-PMP router says that it does not know PCP, which others need not do.
    pub(super) is_polite: bool,
    /// What it refuses mappings with.
    pub(super) refuses: Option<u16>,
    /// Ports that are another's.
    pub(super) taken: Vec<u16>,
    /// It maps for so long.
    pub(super) seconds: u32,
    /// Leases have to be without end.
    pub(super) endless: bool,
    /// How it answers that it has mapped a second port.
    pub(super) says: Says,
    /// When it began, in seconds from the beginning.
    pub(super) born: u64,
    pub(super) external_ip: Ipv4Addr,
    /// What is mapped: protocol, port outside, seconds.
    pub(super) mappings: Vec<(Protocol, u16, u32)>,
    /// What was removed.
    pub(super) removed: Vec<(Protocol, u16)>,
}

impl Gateway {
    fn new(ip: [u8; 4], speaks: Speaks) -> Gateway {
        Gateway {
            ip: ip.into(),
            speaks,
            silent: false,
            is_polite: true,
            refuses: None,
            taken: Vec::new(),
            seconds: 3600,
            endless: false,
            says: Says::Done,
            born: 0,
            external_ip: [203, 0, 113, 9].into(),
            mappings: Vec::new(),
            removed: Vec::new(),
        }
    }

    pub(super) fn pcp(ip: [u8; 4]) -> Gateway {
        Gateway::new(ip, Speaks::Pcp)
    }

    pub(super) fn nat_pmp(ip: [u8; 4]) -> Gateway {
        Gateway::new(ip, Speaks::NatPmp)
    }

    pub(super) fn upnp(ip: [u8; 4]) -> Gateway {
        Gateway::new(ip, Speaks::Upnp)
    }

    fn map(&mut self, protocol: Protocol, wished: u16, seconds: u32) -> u16 {
        if seconds == 0 {
            self.removed.push((protocol, wished));
            self.mappings.retain(|(mapped, ..)| *mapped != protocol);
            return 0;
        }
        let external = if self.taken.contains(&wished) { wished + 1 } else { wished };
        self.mappings.retain(|(mapped, port, _)| (*mapped, *port) != (protocol, external));
        self.mappings.push((protocol, external, self.seconds));
        external
    }

    fn on_packet(&mut self, age: u32, packet: &[u8]) -> Option<Vec<u8>> {
        let mut fields = Fields(packet);
        let [version, opcode] = fields.take()?;
        match (self.speaks, version) {
            (Speaks::NatPmp, 2) => {
                self.is_polite.then(|| [&[0, 128 + opcode, 0, 1], &age.to_be_bytes()[..]].concat())
            }
            (Speaks::NatPmp, 0) if opcode == 0 => {
                Some([&[0, 128, 0, 0], &age.to_be_bytes()[..], &self.external_ip.octets()].concat())
            }
            (Speaks::NatPmp, 0) => {
                let _: [u8; 2] = fields.take()?;
                let internal: [u8; 2] = fields.take()?;
                let wished = u16::from_be_bytes(fields.take()?);
                let seconds = u32::from_be_bytes(fields.take()?);
                let protocol = if opcode == 1 { Protocol::Udp } else { Protocol::Tcp };
                let result = self.refuses.unwrap_or(0);
                let external = if result == 0 { self.map(protocol, wished, seconds) } else { 0 };
                let mut answer = vec![0, 128 + opcode];
                answer.extend(result.to_be_bytes());
                answer.extend(age.to_be_bytes());
                answer.extend(internal);
                answer.extend(external.to_be_bytes());
                answer.extend(if seconds == 0 { 0 } else { self.seconds }.to_be_bytes());
                Some(answer)
            }
            (Speaks::Pcp, 2) => {
                let wished = u16::from_be_bytes([packet[42], packet[43]]);
                let seconds = u32::from_be_bytes(packet[4..8].try_into().ok()?);
                let protocol = if packet[36] == 17 { Protocol::Udp } else { Protocol::Tcp };
                let result = self.refuses.unwrap_or(0);
                let external = if result == 0 { self.map(protocol, wished, seconds) } else { 0 };
                let mut answer = packet.to_vec();
                (answer[1], answer[3]) = (0x81, result as u8);
                answer[4..8].copy_from_slice(&if seconds == 0 { 0 } else { self.seconds }.to_be_bytes());
                answer[8..12].copy_from_slice(&age.to_be_bytes());
                answer[12..24].fill(0);
                answer[42..44].copy_from_slice(&external.to_be_bytes());
                answer[56..60].copy_from_slice(&self.external_ip.octets());
                Some(answer)
            }
            _ => None,
        }
    }

    fn on_request(&mut self, request: &DeviceRequest) -> DeviceAnswer {
        let Some(call) = &request.call else {
            return DeviceAnswer { status: 200, body: description("/ctl").into_bytes() };
        };
        let field = |name: &str| {
            let leaf = xml::leaves(xml::Parts::of(&call.body)).find(|(leaf, _)| *leaf == name);
            leaf.map(|(_, text)| text).unwrap_or_default()
        };
        let protocol = if field("NewProtocol") == "UDP" { Protocol::Udp } else { Protocol::Tcp };
        let external: u16 = field("NewExternalPort").parse().unwrap_or(0);
        let action = call.action.trim_end_matches('"').rsplit('#').next().unwrap();
        let refuse = |code: u16| DeviceAnswer {
            status: 500,
            body: format!("<s:Envelope><errorCode>{code}</errorCode></s:Envelope>").into_bytes(),
        };
        let done = |inner: &str| DeviceAnswer {
            status: 200,
            body: format!("<u:{action}Response>{inner}</u:{action}Response>").into_bytes(),
        };
        match action {
            "GetExternalIPAddress" => {
                done(&format!("<NewExternalIPAddress>{}</NewExternalIPAddress>", self.external_ip))
            }
            "AddPortMapping" => {
                let seconds: u32 = field("NewLeaseDuration").parse().unwrap();
                match self.refuses {
                    Some(code) => refuse(code),
                    None if self.endless && seconds != 0 => refuse(725),
                    None if self.taken.contains(&external) => refuse(718),
                    None => {
                        self.mappings.retain(|(mapped, port, _)| (*mapped, *port) != (protocol, external));
                        self.mappings.push((protocol, external, seconds));
                        done("")
                    }
                }
            }
            _ => {
                self.removed.push((protocol, external));
                self.mappings.retain(|(mapped, port, _)| (*mapped, *port) != (protocol, external));
                done("")
            }
        }
    }
}

/// The description of a gateway with a service that is called there.
pub(super) fn description(control: &str) -> String {
    format!(
        "<root><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
         <controlURL>{control}</controlURL></service></serviceList></device></root>"
    )
}

/// The answer of a gateway that describes itself there.
pub(super) fn ssdp_answer(location: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: {location}\r\n\r\n"
    )
    .into_bytes()
}

/// What a device might answer that knows a little.
pub(super) fn odd_body(rng: &mut fastrand::Rng, noise: &[u8]) -> Vec<u8> {
    match rng.u8(..6) {
        0 => description("/ctl").into_bytes(),
        1 => b"<errorCode>718</errorCode>".to_vec(),
        2 => b"<errorCode>725</errorCode>".to_vec(),
        3 => b"<AddPortMappingResponse/>".to_vec(),
        4 => b"<GetExternalIPAddressResponse/>".to_vec(),
        _ => noise.to_vec(),
    }
}

/// A machine at port 6881, and the gateways that answer it 10 ms after they are asked.
pub(super) struct Bench {
    pub(super) mapper: PortMapper,
    pub(super) gateways: Vec<Gateway>,
    pub(super) start: Instant,
    pub(super) now: Instant,
    /// Everything that was to be done: when, in milliseconds.
    pub(super) outputs: Vec<(u64, PortMapOutput)>,
    /// Answers on their way.
    coming: Vec<(Instant, Answer)>,
    /// Where a device of UPnP says that it describes itself, instead of at itself.
    pub(super) location: Option<String>,
}

enum Answer {
    Packet(Network, Vec<u8>),
    Device(Network, Ipv4Addr, Vec<u8>),
    Exchange(u64, Result<DeviceAnswer, String>),
}

const DELAY: Duration = Duration::from_millis(10);

impl Bench {
    pub(super) fn new(gateways: Vec<Gateway>) -> Bench {
        let now = Instant::now();
        let mapper = PortMapper::new(6881, &[Protocol::Tcp, Protocol::Udp], 7);
        let (outputs, coming) = (Vec::new(), Vec::new());
        Bench { mapper, gateways, start: now, now, outputs, coming, location: None }
    }

    pub(super) fn begin(&mut self, networks: &[Network]) {
        self.mapper.handle(self.now, PortMapInput::Networks(networks));
        self.want(true);
    }

    pub(super) fn want(&mut self, wanted: bool) {
        self.mapper.handle(self.now, PortMapInput::Want(wanted));
    }

    /// Goes on until so long after the beginning; gives what was to be done in that time.
    pub(super) fn run(&mut self, until: Duration) -> Vec<PortMapOutput> {
        let (until, first) = (self.start + until, self.outputs.len());
        loop {
            while let Some(output) = self.mapper.poll(self.now) {
                self.perform(output);
            }
            let answer = self.coming.iter().map(|(due, _)| *due).min();
            let Some(next) =
                answer.into_iter().chain(self.mapper.deadline()).min().filter(|&next| next <= until)
            else {
                self.now = until;
                return self.outputs[first..].iter().map(|(_, output)| output.clone()).collect();
            };
            assert!(next >= self.now, "time goes on");
            self.now = next;
            let due = self.coming.iter().position(|(due, _)| *due <= next);
            match due.map(|at| self.coming.remove(at).1) {
                None => {}
                Some(Answer::Packet(network, data)) => {
                    self.mapper.handle(next, PortMapInput::Packet { network, data: &data });
                }
                Some(Answer::Device(network, ip, data)) => {
                    let from = SocketAddrV4::new(ip, 1900);
                    self.mapper.handle(next, PortMapInput::DeviceFound { network, from, data: &data });
                }
                Some(Answer::Exchange(exchange, answer)) => {
                    self.mapper.handle(next, PortMapInput::Answered { exchange, answer });
                }
            }
        }
    }

    fn perform(&mut self, output: PortMapOutput) {
        let passed = self.now - self.start;
        self.outputs.push((passed.as_millis() as u64, output.clone()));
        let due = self.now + DELAY;
        match output {
            PortMapOutput::Send { network, data } => {
                let is_its = |gateway: &&mut Gateway| {
                    Some(IpAddr::from(gateway.ip)) == network.router
                        && gateway.speaks != Speaks::Upnp
                        && !gateway.silent
                };
                let gateway = self.gateways.iter_mut().find(is_its);
                let answer = gateway.and_then(|gateway| {
                    let age = passed.as_secs().saturating_sub(gateway.born);
                    gateway.on_packet(age as u32, &data)
                });
                self.coming.extend(answer.map(|data| (due, Answer::Packet(network, data))));
            }
            PortMapOutput::Search { network, .. } => {
                for gateway in self.gateways.iter().filter(|one| one.speaks == Speaks::Upnp && !one.silent) {
                    let own = || format!("http://{}:5000/desc.xml", gateway.ip);
                    let answer = ssdp_answer(&self.location.clone().unwrap_or_else(own));
                    self.coming.push((due, Answer::Device(network, gateway.ip, answer)));
                }
            }
            PortMapOutput::Ask { exchange, request } => {
                let is_its = |one: &&mut Gateway| one.ip == *request.to.ip() && one.speaks == Speaks::Upnp;
                let Some(gateway) = self.gateways.iter_mut().find(is_its) else { return };
                if gateway.silent {
                    let late = self.now + Duration::from_secs(5);
                    return self.coming.push((late, Answer::Exchange(exchange, Err("it hangs".to_owned()))));
                }
                let known = gateway.mappings.len();
                let mut answer = Ok(gateway.on_request(&request));
                if gateway.mappings.len() > known && gateway.mappings.len() == 2 {
                    match gateway.says {
                        Says::Done => {}
                        Says::Nothing => answer = Ok(DeviceAnswer { status: 200, body: Vec::new() }),
                        Says::Broken => answer = Err("it closed the connection".to_owned()),
                    }
                }
                self.coming.push((due, Answer::Exchange(exchange, answer)));
            }
            PortMapOutput::EndSearch(_) | PortMapOutput::Mapped(_) | PortMapOutput::Failed { .. } => {}
        }
    }

    /// The ports outside for connections and packets.
    pub(super) fn ports(&self) -> (Option<u16>, Option<u16>) {
        let ports = self.mapper.mapped_ports();
        assert_eq!(ports.network.is_some(), ports.tcp.is_some());
        (ports.tcp, ports.udp)
    }

    /// What was told to be mapped, sorted.
    pub(super) fn mapped(&self) -> Vec<String> {
        let told = self.outputs.iter().filter_map(|(_, output)| match output {
            PortMapOutput::Mapped(Mapping { protocol, method, external_port, .. }) => {
                Some(format!("{} {protocol:?} {external_port}", method.name()).to_lowercase())
            }
            _ => None,
        });
        let mut told: Vec<String> = told.collect();
        told.sort();
        told
    }

    /// What was told to have failed: method and reason.
    pub(super) fn failures(&self) -> Vec<String> {
        let told = self.outputs.iter().filter_map(|(_, output)| match output {
            PortMapOutput::Failed { method, reason, .. } => Some(format!("{}: {reason}", method.name())),
            _ => None,
        });
        told.collect()
    }

    /// The hosts that were contacted by HTTP, one for each request.
    pub(super) fn asked_hosts(&self) -> Vec<Ipv4Addr> {
        let asked = self.outputs.iter().filter_map(|(_, output)| match output {
            PortMapOutput::Ask { request, .. } => Some(*request.to.ip()),
            _ => None,
        });
        asked.collect()
    }

    /// When packets were sent to routers, in milliseconds, and the first two bytes of each.
    pub(super) fn sent(&self) -> Vec<(u64, [u8; 2])> {
        let sent = self.outputs.iter().filter_map(|(when, output)| match output {
            PortMapOutput::Send { data, .. } => Some((*when, [data[0], data[1]])),
            _ => None,
        });
        sent.collect()
    }
}
