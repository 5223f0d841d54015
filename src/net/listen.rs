//! Listening: one port of a list, in IPv4 and IPv6 alike.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};

use super::link::Link;

/// Connections that the kernel keeps until we take them.
const BACKLOG: u32 = 128;

/// How often a port that the system picked for one family is tried for the other.
const ATTEMPTS: usize = 16;

/// How long to wait before connections are accepted again after that has failed.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The listening sockets, one or two, all on one port.
#[derive(Debug)]
pub(crate) struct Listeners {
    sockets: Vec<TcpListener>,
    /// Their port.
    pub port: u16,
}

impl Listeners {
    /// Where connections are accepted.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Accepts connections in tasks of this thread, until `on_accepted` says false.
    pub(crate) fn accept(self, on_accepted: impl Fn(Link, SocketAddr) -> bool + Clone + 'static) {
        for socket in self.sockets {
            let on_accepted = on_accepted.clone();
            tokio::task::spawn_local(async move {
                loop {
                    match socket.accept().await {
                        Ok((stream, address)) => {
                            if !on_accepted(Link::Tcp(stream), address) {
                                return;
                            }
                        }
                        // Out of file handles, or the peer is gone already: others may still come.
                        Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
                    }
                }
            });
        }
    }
}

/// Listens on the first port of `ports` that is free in all families that this machine has, or at
/// `bind` alone. `Err`: the last port's error.
pub(crate) fn listen(ports: &[u16], bind: Option<IpAddr>) -> io::Result<Listeners> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no port to listen on");
    for &port in ports {
        for _ in 0..if port == 0 { ATTEMPTS } else { 1 } {
            match listen_at(port, bind) {
                Ok(listeners) => return Ok(listeners),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

fn listen_at(port: u16, bind: Option<IpAddr>) -> io::Result<Listeners> {
    if let Some(ip) = bind {
        let socket = open(SocketAddr::new(ip, port))?;
        let port = socket.local_addr()?.port();
        return Ok(Listeners { sockets: vec![socket], port });
    }
    let v4 = open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let port = match &v4 {
        Ok(socket) => socket.local_addr()?.port(),
        Err(error) if is_no_such_family(error) => port,
        Err(_) => return v4.map(|_| unreachable!("it is an error")),
    };
    let v6 = open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(Listeners { sockets: vec![v4, v6], port }),
        (Ok(v4), Err(error)) if is_no_such_family(&error) => Ok(Listeners { sockets: vec![v4], port }),
        (Err(_), Ok(v6)) => {
            let port = v6.local_addr()?.port();
            Ok(Listeners { sockets: vec![v6], port })
        }
        (_, Err(error)) => Err(error),
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The machine has no IPv6, or no IPv4.
fn is_no_such_family(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(code, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}
