//! Announces over UDP (BEP 15, and the URL's path by BEP 41), blocking, on a socket made for one announce.
//!
//! The socket is connected, so only the tracker's address is heard; the transaction id tells its answers
//! from forged ones. BEP 15's time-outs (15 s, doubling, for an hour) are those of another age: the whole
//! announce takes 15 s at the most, and the announcer comes back. All addresses of a name are tried within that time, each for a
//! little while first.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ureq::http::Uri;

use super::families::{self, udp_socket};
use super::{Options, Request, answer};
use crate::finder::announce::{AnnounceEvent, AnnounceFailure, Answer};
use crate::http::{Interrupt, Line, Step, ThroughError, ask_proxy, is_to_be_repeated, resolve};
use crate::proxy::{
    MAX_DATAGRAM_HEADER, Proxy, ProxyDialogue, Target, relay_address, unwrap_datagram, wrap_datagram,
};

/// The longest that an announce takes.
const MAX_TIME: Duration = Duration::from_secs(15);

/// Waits for an answer before a packet is sent again; the last one lasts as long as time does.
const RESEND: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// How long each of several addresses is waited for before any is waited for longer.
const FIRST_TRY: Duration = Duration::from_secs(3);

/// BEP 15's magic number.
const PROTOCOL: u64 = 0x0417_2710_1980;

/// Room for the largest answer of which all peers would be kept.
const MAX_PACKET: usize = 20 + 18 * super::MAX_PEERS + MAX_DATAGRAM_HEADER;

/// Bytes of an URL's path that BEP 41 options carry; a longer one is not sent.
const MAX_URL_DATA: usize = 1024;

/// What an answer's first word says.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    Connect = 0,
    Announce = 1,
    Error = 3,
}

/// Why no answer came, or none that helps.
pub(super) enum Trouble {
    Silent(String),
    Refused(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble::Silent(match error.kind() {
            ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        })
    }
}

fn too_short() -> Trouble {
    Trouble::Refused("the tracker's answer is too short".to_owned())
}

/// See [`super::announce`].
pub(super) fn announce(request: &Request, options: &Options) -> Result<Answer, AnnounceFailure> {
    let started = Instant::now();
    let time = options.timeout.min(MAX_TIME);
    let uri: Uri = request
        .url
        .trim()
        .parse()
        .map_err(|_| AnnounceFailure::no_answer("the tracker's URL is not valid"))?;
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
        return Err(AnnounceFailure::no_answer(
            "the tracker's URL is not valid: a udp URL needs a host and a port",
        ));
    };
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    if let Some(proxy) = &options.proxies.chosen {
        let target = Target::new(host, port)
            .ok_or_else(|| AnnounceFailure::no_answer("the tracker's URL is not valid"))?;
        return announce_through(proxy, target, request, path, options, started + time);
    }
    let addresses = resolve::look_up(host, port, &options.local).map_err(AnnounceFailure::no_answer)?;
    families::over_each(&families::reachable(&addresses, &options.local), options, |(_, addresses)| {
        announce_to_any(addresses, request, path, options, started + time)
    })
}

/// All addresses are tried; one that was quiet for a while may be slow, but the others come first.
fn announce_to_any(
    addresses: &[SocketAddr],
    request: &Request,
    path: &str,
    options: &Options,
    deadline: Instant,
) -> Result<Answer, AnnounceFailure> {
    let tries: &[Duration] = if addresses.len() > 1 { &[FIRST_TRY, MAX_TIME] } else { &[MAX_TIME] };
    let mut last = "no answer to udp packets".to_owned();
    for &longest in tries {
        for (index, &address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = (left / (addresses.len() - index) as u32).min(longest);
            if share.is_zero() || options.interrupt.is_due() {
                break;
            }
            match announce_to(address, request, path, options, Instant::now() + share) {
                Ok(answer) => return Ok(answer),
                // Another address of the same tracker would say the same.
                Err(Trouble::Refused(reason)) => return Err(AnnounceFailure::no_answer(reason)),
                Err(Trouble::Silent(reason)) => last = reason,
            }
        }
    }
    Err(AnnounceFailure::no_answer(last))
}

fn announce_to(
    address: SocketAddr,
    request: &Request,
    path: &str,
    options: &Options,
    deadline: Instant,
) -> Result<Answer, Trouble> {
    let socket = udp_socket(address, &options.local)?;
    let is_ipv6 = Cell::new(address.is_ipv6());
    ask(&Exchange::new(socket, None, is_ipv6, deadline, options), request, path)
}

/// Has the user's proxy carry the packets, and look up the tracker's name. The proxy does so as long as the connection to it stands.
fn announce_through(
    proxy: &Proxy,
    target: Target,
    request: &Request,
    path: &str,
    options: &Options,
    deadline: Instant,
) -> Result<Answer, AnnounceFailure> {
    let refused = |reason: ThroughError| AnnounceFailure::no_answer(reason.of(proxy));
    let dialogue = ProxyDialogue::associate(proxy).map_err(|error| refused(error.into()))?;
    let asked = ask_proxy(proxy, dialogue, &options.local, None, deadline, &options.interrupt);
    let (control, named) = asked.map_err(refused)?;
    let opened =
        control.peer_addr().and_then(|proxy| udp_socket(relay_address(&named, proxy), &options.local));
    let socket = opened.map_err(|error| AnnounceFailure::no_answer(error.to_string()))?;
    let exchange = Exchange::new(socket, Some(target), Cell::new(false), deadline, options);
    ask(&exchange, request, path).map_err(|trouble| {
        let (Trouble::Silent(reason) | Trouble::Refused(reason)) = trouble;
        AnnounceFailure::no_answer(reason)
    })
}

fn ask(exchange: &Exchange, request: &Request, path: &str) -> Result<Answer, Trouble> {
    let mut connect = PROTOCOL.to_be_bytes().to_vec();
    let connected = exchange.exchange(&mut connect, Action::Connect)?;
    let connection_id = connected.first_chunk::<8>().ok_or_else(too_short)?;
    let mut packet = connection_id.to_vec();
    packet.extend([0; 8]);
    write_announce(request, path, &mut packet);
    let body = exchange.exchange(&mut packet, Action::Announce)?;
    read_answer(&body, exchange.is_ipv6.get())
}

/// What follows connection id, action and transaction id.
fn write_announce(request: &Request, path: &str, packet: &mut Vec<u8>) {
    packet.extend(request.info_hash.0);
    packet.extend(request.peer_id.0);
    packet.extend(request.downloaded.to_be_bytes());
    packet.extend(request.left.to_be_bytes());
    packet.extend(request.uploaded.to_be_bytes());
    let event: u32 = match request.event {
        // BEP 15 has no number for BEP 21's word.
        None | Some(AnnounceEvent::Paused) => 0,
        Some(AnnounceEvent::Completed) => 1,
        Some(AnnounceEvent::Started) => 2,
        Some(AnnounceEvent::Stopped) => 3,
    };
    packet.extend(event.to_be_bytes());
    // The address is the packet's own.
    packet.extend([0; 4]);
    packet.extend(request.key.to_be_bytes());
    packet.extend(request.numwant.to_be_bytes());
    packet.extend(request.port.to_be_bytes());
    if path.len() > 1 && path.len() <= MAX_URL_DATA {
        for part in path.as_bytes().chunks(255) {
            packet.extend([2, part.len() as u8]);
            packet.extend(part);
        }
    }
}

/// What follows action and transaction id.
pub(super) fn read_answer(body: &[u8], is_ipv6: bool) -> Result<Answer, Trouble> {
    let (head, peers) = body.split_at_checked(12).ok_or_else(too_short)?;
    let words = head.as_chunks::<4>().0;
    // The counts are signed in some trackers; a negative one says nothing.
    let word = |index: usize| u32::try_from(i32::from_be_bytes(words[index])).ok();
    Ok(Answer {
        interval: word(0).map(|seconds| Duration::from_secs(seconds.into())),
        incomplete: word(1),
        complete: word(2),
        peers: if is_ipv6 { answer::compact6(peers) } else { answer::compact4(peers) },
        ..Answer::default()
    })
}

/// Requests and their answers on one socket.
struct Exchange {
    socket: UdpSocket,
    /// Whom the proxy carries them to, if it does.
    target: Option<Target>,
    /// Whether the tracker answers from an IPv6 address; its peers are of the same family then.
    is_ipv6: Cell<bool>,
    deadline: Instant,
    interrupt: Interrupt,
    line: Line,
}

impl Exchange {
    fn new(
        socket: UdpSocket,
        target: Option<Target>,
        is_ipv6: Cell<bool>,
        deadline: Instant,
        options: &Options,
    ) -> Exchange {
        let (interrupt, line) = (options.interrupt.clone(), Line::new(options.watch.clone()));
        Exchange { socket, target, is_ipv6, deadline, interrupt, line }
    }

    fn send(&self, packet: &[u8]) -> std::io::Result<usize> {
        match &self.target {
            None => self.socket.send(packet),
            Some(target) => self.socket.send(&wrap_datagram(target, packet)),
        }
    }

    /// What a packet says that has come; `None`: nothing that the tracker could have sent.
    fn open<'p>(&self, packet: &'p [u8]) -> Option<&'p [u8]> {
        if self.target.is_none() {
            return Some(packet);
        }
        let (from, data) = unwrap_datagram(packet)?;
        self.is_ipv6.set(matches!(from, Target::Address(address) if address.is_ipv6()));
        Some(data)
    }

    /// Sends `packet`, with a transaction id of its own, until an answer to it comes; gives what follows
    /// action and transaction id. `packet` begins with the connection id; the rest is added or set here.
    fn exchange(&self, packet: &mut Vec<u8>, action: Action) -> Result<Vec<u8>, Trouble> {
        let transaction = fastrand::u32(..).to_be_bytes();
        packet.resize(packet.len().max(16), 0);
        packet[8..12].copy_from_slice(&(action as u32).to_be_bytes());
        packet[12..16].copy_from_slice(&transaction);
        for wait in RESEND {
            self.send(packet)?;
            self.line.tell(Step::Wrote(packet.len()));
            let until = (Instant::now() + wait).min(self.deadline);
            if let Some(body) = self.receive(transaction, action, until)? {
                return Ok(body);
            }
            if until == self.deadline || self.interrupt.is_due() {
                break;
            }
        }
        Err(Trouble::Silent("no answer to udp packets".to_owned()))
    }

    /// The answer to this transaction if it comes in time; other packets are ignored.
    fn receive(
        &self,
        transaction: [u8; 4],
        action: Action,
        until: Instant,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.interrupt.is_due() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(self.interrupt.slice(left)))?;
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if is_to_be_repeated(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            self.line.tell(Step::Read(length));
            let Some(packet) = self.open(&buffer[..length]) else { continue };
            let Some((head, body)) = packet.split_at_checked(8) else { continue };
            if head[4..] != transaction {
                continue;
            }
            if head[..4] == (action as u32).to_be_bytes() {
                return Ok(Some(body.to_vec()));
            }
            if head[..4] == (Action::Error as u32).to_be_bytes() {
                return Err(Trouble::Refused(match answer::to_words(body) {
                    reason if reason.is_empty() => answer::REFUSED.to_owned(),
                    reason => reason,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers connects and announces until both have come.
    fn tracker() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let is_connect = length == 16;
                let mut answer = u32::from(!is_connect).to_be_bytes().to_vec();
                answer.extend(&packet[12..16]);
                answer.extend(if is_connect { [7; 8].as_slice() } else { &[0; 12] });
                socket.send_to(&answer, from).unwrap();
            }
        });
        address
    }

    #[test]
    fn every_address_of_a_name_is_tried_within_one_deadline() {
        let silent: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let mut addresses: Vec<SocketAddr> =
            silent.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let in_time = |time| Instant::now() + Duration::from_millis(time);
        let ask = |addresses: &[SocketAddr], deadline| {
            announce_to_any(addresses, &Request::to(""), "", &Options::default(), deadline)
        };
        let failure = ask(&addresses, in_time(60)).unwrap_err();
        assert_eq!(failure.reason, "no answer to udp packets");
        addresses.push(tracker());
        let answer = ask(&addresses, in_time(60_000)).unwrap();
        assert_eq!(answer.interval, Some(Duration::ZERO));
        // Each of the silent ones has heard of us in both.
        for socket in silent {
            let mut packet = [0; 100];
            let heard: Vec<usize> = (0..2).map(|_| socket.recv(&mut packet).unwrap()).collect();
            assert_eq!(heard, [16, 16]);
        }
    }
}
