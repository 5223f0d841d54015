//! The UDP sockets of the process: one for each family, at the port on which connections are accepted.
//!
//! Nothing is queued for sending: a packet that the system has no room for is lost, as any packet may be. What comes is queued for one
//! reader, and lost beyond that in the system's own buffer.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt::set_ipv6_v6only;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::bind::Local;

/// Bytes of a packet that are read: more than any of a path with Ethernet's limit. What is longer is cut, and then no message.
const MAX_PACKET: usize = 2048;

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
pub(crate) struct UdpPort {
    sockets: Vec<Rc<UdpSocket>>,
}

impl UdpPort {
    /// At each of these addresses, which are of different families.
    pub(crate) fn open(addresses: &[SocketAddr], local: &Local) -> io::Result<UdpPort> {
        let sockets = addresses.iter().map(|&address| Ok(Rc::new(open(address, local)?)));
        Ok(UdpPort { sockets: sockets.collect::<io::Result<_>>()? })
    }

    /// Where packets are received.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Gives what comes to `reader`, in tasks of this thread, for as long as it is there.
    pub(crate) fn receive(&self, reader: &mpsc::Sender<Packet>) {
        for socket in &self.sockets {
            let (socket, reader) = (socket.clone(), reader.clone());
            tokio::task::spawn_local(async move {
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
        }
    }

    /// Sends a packet, if there is a socket of this family and the system has room for it now.
    pub(crate) fn send(&self, to: SocketAddr, data: &[u8]) {
        let is_of_family =
            |socket: &&Rc<UdpSocket>| socket.local_addr().is_ok_and(|local| local.is_ipv4() == to.is_ipv4());
        if let Some(socket) = self.sockets.iter().find(is_of_family) {
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
