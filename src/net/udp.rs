//! The UDP sockets of the process: one for each family, at the port on which connections are accepted. The DHT and uTP share them: packets are
//! told apart by their first byte.
//!
//! With a proxy there is no such socket: packets go by what the proxy grants, while it does.
//!
//! Packets of the DHT are not queued for sending: one that the system has no room for is lost, as any packet may be. What comes for it is queued
//! for one reader, and lost beyond that.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover, set_ipv6_v6only,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::lull::{self, Lull};
use super::utp::UtpPort;
use crate::bind::Local;
use crate::proxy::{Target, wrap_datagram};
use crate::utp::is_utp;

/// Bytes of a packet of the DHT that are read: more than any of a path with Ethernet's limit. What is longer is no message.
const MAX_PACKET: usize = 2048;

/// Packets that wait for their reader, each of at most [`MAX_PACKET`] bytes.
pub(crate) const MAX_QUEUED_PACKETS: usize = 256;

/// How long to wait before packets are received again after that has failed.
pub(super) const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Buffers that one call fills at the most, each with packets of one sender that came together, or with one: then of its memory no more is taken
/// than that one needs.
const BUFFERS: usize = 32;

/// Bytes of one of them: as many as packets that came together have at the most.
pub(super) const BUFFER: usize = 64 << 10;

/// Calls before others have their turn.
const TURN: usize = 4;

/// Bytes that the system keeps for us until they are received, if it lets us choose: what comes by uTP in a few milliseconds.
pub(super) const SYSTEM_BUFFER: usize = 4 << 20;

/// Bytes of packets that are handed to the system in one call, each but the last of one length.
pub(super) const MAX_BATCH: usize = 60_000;

/// A packet that has come.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Who sent it, as it claims.
    pub from: SocketAddr,
    /// What it says.
    pub data: Vec<u8>,
}

/// Who reads what comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct UdpReaders {
    /// Packets of the DHT.
    pub dht: Option<mpsc::Sender<Packet>>,
    /// Packets of uTP.
    pub utp: Option<Rc<UtpPort>>,
}

#[derive(Debug)]
struct Bound {
    socket: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
}

/// The sockets, one or two, all at one port.
#[derive(Clone, Debug)]
pub(crate) struct UdpPort(Rc<RefCell<Sockets>>);

#[derive(Debug, Default)]
struct Sockets {
    all: Vec<Rc<Bound>>,
    /// Who gets what comes.
    readers: UdpReaders,
    /// One for each socket that is read.
    tasks: Vec<AbortHandle>,
    /// Packets go by the user's proxy alone.
    is_relayed: bool,
    /// What leads to the proxy, while it carries packets.
    relay: Option<Rc<UdpSocket>>,
    /// The proxy never will.
    is_refused: bool,
}

/// Whether packets can be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carriage {
    Now,
    /// Not as long as the proxy carries none.
    Later,
    /// The proxy refuses to carry any.
    Never,
}

impl UdpPort {
    /// At each of these addresses, which are of different families.
    pub(crate) fn open(addresses: &[SocketAddr], local: &Local) -> io::Result<UdpPort> {
        let sockets = addresses.iter().map(|&address| Ok(Rc::new(open(address, local)?)));
        let all = sockets.collect::<io::Result<_>>()?;
        Ok(UdpPort(Rc::new(RefCell::new(Sockets { all, ..Sockets::default() }))))
    }

    /// Without a socket of its own: packets go by the user's proxy, when it carries them.
    pub(crate) fn relayed() -> UdpPort {
        UdpPort(Rc::new(RefCell::new(Sockets { is_relayed: true, ..Sockets::default() })))
    }

    /// The proxy carries packets from now on, by this socket, or none any more.
    pub(super) fn set_relay(&self, relay: Option<Rc<UdpSocket>>) {
        self.0.borrow_mut().relay = relay;
    }

    /// The proxy will never carry packets.
    pub(super) fn refuse_relay(&self) {
        self.0.borrow_mut().is_refused = true;
    }

    /// Whether packets can be sent now, as far as a proxy has to carry them.
    pub(super) fn carriage(&self) -> Carriage {
        let sockets = self.0.borrow();
        match (sockets.is_relayed, &sockets.relay) {
            (false, _) | (true, Some(_)) => Carriage::Now,
            (true, None) if sockets.is_refused => Carriage::Never,
            (true, None) => Carriage::Later,
        }
    }

    /// Whether packets go by the user's proxy.
    pub(crate) fn is_relayed(&self) -> bool {
        self.0.borrow().is_relayed
    }

    /// Where packets are received; by the user's proxy, any address of either family.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        if self.is_relayed() {
            return vec![SocketAddr::from(([0; 4], 0)), SocketAddr::from(([0; 16], 0))];
        }
        self.0.borrow().all.iter().map(|bound| bound.address).collect()
    }

    /// Gives what comes to its readers, in tasks of this thread, for as long as they are there.
    pub(crate) fn receive(&self, readers: &UdpReaders) {
        let mut sockets = self.0.borrow_mut();
        sockets.readers = readers.clone();
        let begin = |bound: &Rc<Bound>| {
            tokio::task::spawn_local(receive(bound.clone(), readers.clone())).abort_handle()
        };
        sockets.tasks = sockets.all.iter().map(begin).collect();
    }

    /// Closes the sockets: nothing is sent or received until there are others.
    pub(crate) fn close(&self) {
        let mut sockets = self.0.borrow_mut();
        sockets.tasks.drain(..).for_each(|task| task.abort());
        sockets.all.clear();
    }

    /// Closes the sockets for good. Whoever reads what comes holds this port, so it is let go of.
    pub(crate) fn end(&self) {
        self.close();
        let readers = std::mem::take(&mut self.0.borrow_mut().readers);
        drop(readers);
    }

    /// Goes on with the sockets of another one, which nobody reads yet.
    pub(crate) fn replace(&self, other: &UdpPort) {
        self.close();
        self.0.borrow_mut().all = std::mem::take(&mut other.0.borrow_mut().all);
        let readers = self.0.borrow().readers.clone();
        self.receive(&readers);
    }

    /// Sends a packet by the user's proxy, if it carries packets now.
    pub(crate) fn send_through(&self, to: &Target, data: &[u8]) {
        if let Some(relay) = &self.0.borrow().relay {
            let _ = SockRef::from(&**relay).send(&wrap_datagram(to, data));
        }
    }

    /// Sends a packet, if there is a socket of this family and the system has room for it now.
    pub(crate) fn send(&self, to: SocketAddr, data: &[u8]) {
        if self.is_relayed() {
            return self.send_through(&Target::Address(to), data);
        }
        if let Some(bound) = self.bound(to) {
            // Past the runtime, which does not know before its first turn that a new socket has room.
            let _ = SockRef::from(&bound.socket).send_to(data, &to.into());
        }
    }

    fn bound(&self, to: SocketAddr) -> Option<Rc<Bound>> {
        let sockets = self.0.borrow();
        sockets.all.iter().find(|bound| bound.address.is_ipv4() == to.is_ipv4()).cloned()
    }

    /// Packets to this address that one call takes; `None`: there is no socket of its family, or the proxy carries none now.
    pub(super) fn max_segments(&self, to: SocketAddr) -> Option<usize> {
        if self.is_relayed() {
            return (self.carriage() == Carriage::Now).then_some(1);
        }
        Some(self.bound(to)?.state.max_gso_segments())
    }

    /// Sends packets of `segment` bytes, the last of which may be shorter, in one call. `is_probe`: they must not be cut on their way.
    pub(super) fn try_send_batch(
        &self,
        to: SocketAddr,
        contents: &[u8],
        segment: usize,
        is_probe: bool,
    ) -> io::Result<()> {
        if self.is_relayed() {
            return self.try_send_through(to, contents, is_probe);
        }
        let Some(bound) = self.bound(to) else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: (segment < contents.len()).then_some(segment),
            src_ip: None,
        };
        let forbids = is_probe.then_some(bound.address.is_ipv4());
        let attempt = || bound.state.try_send(UdpSockRef::from(&bound.socket), &transmit);
        send_once(&bound.socket, forbids, attempt)
    }

    /// Sends one packet by the user's proxy. What cannot be cut is kept whole on the way to the proxy; how the proxy sends it on is its affair.
    fn try_send_through(&self, to: SocketAddr, data: &[u8], is_probe: bool) -> io::Result<()> {
        let relay = self.0.borrow().relay.clone();
        let Some(relay) = relay else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
        let forbids = match is_probe {
            true => Some(relay.peer_addr()?.is_ipv4()),
            false => None,
        };
        let packet = wrap_datagram(&Target::Address(to), data);
        send_once(&relay, forbids, || SockRef::from(&*relay).send(&packet).map(drop))
    }

    /// Waits until the system is likely to take packets to this address.
    pub(super) async fn writable(&self, to: SocketAddr) {
        let relay = self.0.borrow().relay.clone();
        if let Some(relay) = relay {
            if relay.writable().await.is_err() {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            return;
        }
        if let Some(bound) = self.bound(to)
            && bound.socket.writable().await.is_err()
        {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}

/// Sends what `attempt` does. `forbids`: it must not be cut on its way, by a socket of IPv4 (else of IPv6).
fn send_once(
    socket: &UdpSocket,
    forbids: Option<bool>,
    attempt: impl Fn() -> io::Result<()>,
) -> io::Result<()> {
    if let Some(is_ipv4) = forbids {
        forbid_fragments(socket, is_ipv4, true)?;
    }
    // Past the runtime at first, which does not know before its first turn that a new socket has room; it learns that there is none when it is asked.
    let sent = match attempt() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.try_io(Interest::WRITABLE, attempt),
        done => done,
    };
    if let Some(is_ipv4) = forbids {
        forbid_fragments(socket, is_ipv4, false)?;
    }
    sent
}

/// What a socket sends must not be cut on its way from now on, or may be.
pub(super) fn forbid_fragments(socket: &impl AsFd, is_ipv4: bool, forbid: bool) -> io::Result<()> {
    if is_ipv4 {
        let mode = if forbid { Ipv4PathMtuDiscovery::PROBE } else { Ipv4PathMtuDiscovery::DONT };
        set_ip_mtu_discover(socket, mode)?;
    } else {
        let mode = if forbid { Ipv6PathMtuDiscovery::PROBE } else { Ipv6PathMtuDiscovery::DONT };
        set_ipv6_mtu_discover(socket, mode)?;
        setsockopt(socket, sockopt::Ipv6DontFrag, &forbid)?;
    }
    Ok(())
}

async fn receive(bound: Rc<Bound>, readers: UdpReaders) {
    let mut memory = vec![0; BUFFERS * BUFFER];
    let kept = bound.state.recv_buffer_size(UdpSockRef::from(&bound.socket)).unwrap_or_default();
    let mut lull = Lull::new(kept);
    loop {
        if bound.socket.readable().await.is_err() {
            tokio::time::sleep(AFTER_FAILURE).await;
        }
        let (mut is_empty, mut came) = (false, 0);
        for _ in 0..TURN {
            let (count, result) = receive_once(&bound, &mut memory, &readers);
            came += count;
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_empty = true;
                    break;
                }
                // What is wrong with a packet that was sent is told here too.
                Err(_) => {
                    readers.end_turn();
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        readers.end_turn();
        if readers.dht.as_ref().is_some_and(mpsc::Sender::is_closed) {
            return;
        }
        match (is_empty, lull.next_turn(Instant::now(), came)) {
            // The runtime would go on here as long as there are packets.
            (false, _) => tokio::task::yield_now().await,
            (true, Some(next)) => lull::wait(next).await,
            (true, None) => {}
        }
    }
}

/// One call. Says how many buffers were filled, and `WouldBlock` if no more can be there.
fn receive_once(bound: &Bound, memory: &mut [u8], readers: &UdpReaders) -> (usize, io::Result<()>) {
    let (mut count, mut metas) = (0, [RecvMeta::default(); BUFFERS]);
    let mut parts = memory.chunks_exact_mut(BUFFER);
    let mut buffers: [IoSliceMut<'_>; BUFFERS] =
        std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
    let result = bound.socket.try_io(Interest::READABLE, || {
        count = bound.state.recv(UdpSockRef::from(&bound.socket), &mut buffers, &mut metas)?;
        // Another call would only find that out; a packet that comes from now on is an event of its own.
        if count < BUFFERS { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    let now = Instant::now();
    for (buffer, meta) in memory.chunks_exact(BUFFER).zip(&metas).take(count) {
        readers.take(now, meta.addr, &buffer[..meta.len], meta.stride);
    }
    (count, result)
}

impl UdpReaders {
    /// Packets of one sender have come together, each but the last of `stride` bytes. [`UdpReaders::end_turn`] has to follow.
    pub(super) fn take(&self, now: Instant, from: SocketAddr, bytes: &[u8], stride: usize) {
        for datagram in bytes.chunks(stride.max(1)) {
            if is_utp(datagram) {
                if let Some(utp) = &self.utp {
                    utp.on_datagram(now, from, datagram);
                }
            } else if datagram.len() <= MAX_PACKET
                && let Some(dht) = &self.dht
            {
                let _ = dht.try_send(Packet { from, data: datagram.to_vec() });
            }
        }
    }

    /// No more packets are taken for now.
    pub(super) fn end_turn(&self) {
        if let Some(utp) = &self.utp {
            utp.tell();
        }
    }
}

fn open(address: SocketAddr, local: &Local) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    local.bind_at(&socket, address)?;
    let socket = UdpSocket::from_std(socket.into())?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // Where the system allows less, it gives that.
    let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SYSTEM_BUFFER);
    let address = socket.local_addr()?;
    forbid_fragments(&socket, address.is_ipv4(), false)?;
    say_less(&socket, address.is_ipv4());
    Ok(Bound { socket, state, address })
}

/// The system says nothing of a packet that nobody here asks about: when it came, to which of our addresses, and its type of service. Where it cannot
/// be told so, packets cost a little more.
#[cfg(target_os = "linux")]
fn say_less(socket: &UdpSocket, is_ipv4: bool) {
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
    let _ = match is_ipv4 {
        true => setsockopt(socket, sockopt::Ipv4PacketInfo, &false)
            .and_then(|()| setsockopt(socket, sockopt::IpRecvTos, &false)),
        false => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &false)
            .and_then(|()| setsockopt(socket, sockopt::Ipv6RecvTClass, &false)),
    };
}

#[cfg(not(target_os = "linux"))]
fn say_less(_: &UdpSocket, _: bool) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_go_both_ways_at_one_port() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let (to_a, mut at_a) = mpsc::channel(1);
                let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
                let open = |addresses: &[SocketAddr]| UdpPort::open(addresses, &Local::default());
                let (a, b) = (open(&[loopback]).unwrap(), open(&[loopback]).unwrap());
                a.receive(&UdpReaders { dht: Some(to_a), utp: None });
                b.send(a.addresses()[0], b"first");
                let packet = at_a.recv().await.unwrap();
                assert_eq!((packet.from, &packet.data[..]), (b.addresses()[0], &b"first"[..]));
                // There is no socket of this family.
                b.send("[::1]:9".parse().unwrap(), b"lost");
                let taken = open(&a.addresses()).unwrap_err();
                assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            })
            .await;
    }

    #[tokio::test]
    async fn many_packets_go_in_one_call_and_a_probe_beside_them() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                for loopback in ["127.0.0.1:0", "[::1]:0"] {
                    let open = || UdpPort::open(&[loopback.parse().unwrap()], &Local::default());
                    let Ok(a) = open() else { continue };
                    let b = open().unwrap();
                    let (to_a, mut at_a) = mpsc::channel(16);
                    a.receive(&UdpReaders { dht: Some(to_a), utp: None });
                    let to = a.addresses()[0];
                    let segments = b.max_segments(to).unwrap().min(5);
                    let contents: Vec<u8> =
                        (0..segments).flat_map(|number| [b'd' + number as u8; 700]).collect();
                    b.try_send_batch(to, &contents, 700, false).unwrap();
                    for number in 0..segments {
                        assert_eq!(at_a.recv().await.unwrap().data, [b'd' + number as u8; 700]);
                    }
                    b.try_send_batch(to, &[b'd'; 1400], 1400, true).unwrap();
                    assert_eq!(at_a.recv().await.unwrap().data.len(), 1400);
                }
            })
            .await;
    }
}
