//! The UDP sockets of the process: one for each family, at the port on which connections are accepted.
//!
//! Nothing is queued for sending: a packet that the system has no room for is lost, as any packet may be. What comes is queued for one
//! reader, and lost beyond that in the system's own buffer.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt::set_ipv6_v6only;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::bind::Local;
use crate::proxy::{Target, wrap_datagram};

/// Bytes of a packet that are read: more than any of a path with Ethernet's limit. What is longer is cut, and then no message.
pub(super) const MAX_PACKET: usize = 2048;

/// Packets that wait for their reader.
pub(crate) const MAX_QUEUED_PACKETS: usize = 64;

/// How long to wait before packets are received again after that has failed.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A packet that has come.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Who sent it, as it claims.
    pub from: SocketAddr,
    /// What it says.
    pub data: Vec<u8>,
}

/// The sockets, one or two, all at one port.
#[derive(Clone, Debug)]
pub(crate) struct UdpPort(Rc<RefCell<Sockets>>);

#[derive(Debug, Default)]
struct Sockets {
    all: Vec<Rc<UdpSocket>>,
    /// Who gets what comes.
    reader: Option<mpsc::Sender<Packet>>,
    /// One for each socket that is read.
    tasks: Vec<AbortHandle>,
    /// Packets go by the user's proxy alone.
    is_relayed: bool,
    /// What leads to the proxy, while it carries packets.
    relay: Option<Rc<UdpSocket>>,
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

    /// Whether the proxy carries packets now.
    #[cfg(test)]
    pub(super) fn carries(&self) -> bool {
        self.0.borrow().relay.is_some()
    }

    /// Whether packets go by the user's proxy.
    pub(crate) fn is_relayed(&self) -> bool {
        self.0.borrow().is_relayed
    }

    /// Where packets are received; by the user's proxy, any address of IPv4.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        if self.is_relayed() {
            return vec![SocketAddr::from(([0; 4], 0))];
        }
        self.0.borrow().all.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Gives what comes to `reader`, in tasks of this thread, for as long as it is there.
    pub(crate) fn receive(&self, reader: &mpsc::Sender<Packet>) {
        let mut sockets = self.0.borrow_mut();
        sockets.reader = Some(reader.clone());
        let begin = |socket: &Rc<UdpSocket>| {
            let (socket, reader) = (socket.clone(), reader.clone());
            let task = tokio::task::spawn_local(async move {
                let mut buffer = vec![0; MAX_PACKET];
                loop {
                    match socket.recv_from(&mut buffer).await {
                        Ok((length, from)) => {
                            let packet = Packet { from, data: buffer[..length].to_vec() };
                            if reader.send(packet).await.is_err() {
                                return;
                            }
                        }
                        // What is wrong with a packet that was sent is told here too.
                        Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
                    }
                }
            });
            task.abort_handle()
        };
        sockets.tasks = sockets.all.iter().map(begin).collect();
    }

    /// Closes the sockets: nothing is sent or received until there are others.
    pub(crate) fn close(&self) {
        let mut sockets = self.0.borrow_mut();
        sockets.tasks.drain(..).for_each(|task| task.abort());
        sockets.all.clear();
    }

    /// Goes on with the sockets of another one, which nobody reads yet.
    pub(crate) fn replace(&self, other: &UdpPort) {
        self.close();
        self.0.borrow_mut().all = std::mem::take(&mut other.0.borrow_mut().all);
        let reader = self.0.borrow().reader.clone();
        if let Some(reader) = reader {
            self.receive(&reader);
        }
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
        let is_of_family =
            |socket: &&Rc<UdpSocket>| socket.local_addr().is_ok_and(|local| local.is_ipv4() == to.is_ipv4());
        if let Some(socket) = self.0.borrow().all.iter().find(is_of_family) {
            // Past the runtime, which does not know before its first turn that a new socket has room.
            let _ = SockRef::from(&**socket).send_to(data, &to.into());
        }
    }
}

fn open(address: SocketAddr, local: &Local) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    local.bind_at(&socket, address)?;
    UdpSocket::from_std(socket.into())
}

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
                let local = Local::default();
                let open = |addresses: &[SocketAddr]| UdpPort::open(addresses, &local);
                let (a, b) = (open(&[loopback]).unwrap(), open(&[loopback]).unwrap());
                a.receive(&to_a);
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
}
