//! Listening: one port of a list, in IPv4 and IPv6 alike, for connections and, if asked for, for packets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_recv_buffer_size};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::AbortHandle;

use super::link::Link;
use super::udp::UdpPort;
use crate::bind::Local;

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
    /// Where packets are received, at the same addresses.
    pub udp: Option<UdpPort>,
    /// Their port.
    pub port: u16,
}

/// Why none of the ports can be listened on.
#[derive(Debug)]
pub(crate) struct ListenError {
    /// What the system says about the last of them.
    pub error: io::Error,
    /// It is free for connections, but not for packets.
    pub is_udp: bool,
}

impl From<io::Error> for ListenError {
    fn from(error: io::Error) -> ListenError {
        ListenError { error, is_udp: false }
    }
}

impl Listeners {
    /// Where connections are accepted.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// None: nobody can call.
    pub(crate) fn none() -> Listeners {
        Listeners { sockets: Vec::new(), udp: None, port: 0 }
    }

    /// Those who call from now on meet receive buffers of so many bytes.
    pub(crate) fn set_receive_buffer(&self, bytes: u32) {
        // One that cannot be set is as large as the kernel sees fit.
        for socket in &self.sockets {
            let _ = set_socket_recv_buffer_size(socket, bytes as usize);
        }
    }

    /// Accepts connections in tasks of this thread, until `on_accepted` says false or they are aborted.
    pub(crate) fn accept(
        self,
        on_accepted: impl Fn(Link, SocketAddr) -> bool + Clone + 'static,
    ) -> Vec<AbortHandle> {
        let mut tasks = Vec::new();
        for socket in self.sockets {
            let on_accepted = on_accepted.clone();
            let task = tokio::task::spawn_local(async move {
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
            tasks.push(task.abort_handle());
        }
        tasks
    }
}

/// Listens on the first port of `ports` that is free in all families that this machine has, or at
/// what is bound to alone; with `udp`, for packets too. `Err`: the last port's error.
pub(crate) fn listen(ports: &[u16], local: &Local, udp: bool) -> Result<Listeners, ListenError> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no port to listen on").into();
    for &port in ports {
        for _ in 0..if port == 0 { ATTEMPTS } else { 1 } {
            let tcp = listen_at(port, local).map_err(ListenError::from);
            match tcp.and_then(|tcp| with_udp(tcp, local, udp)) {
                Ok(listeners) => return Ok(listeners),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

fn with_udp(sockets: Vec<TcpListener>, local: &Local, udp: bool) -> Result<Listeners, ListenError> {
    let mut listeners = Listeners { sockets, udp: None, port: 0 };
    let addresses = listeners.addresses();
    listeners.port = addresses.first().map_or(0, SocketAddr::port);
    if udp {
        let opened = UdpPort::open(&addresses, local);
        listeners.udp = Some(opened.map_err(|error| ListenError { error, is_udp: true })?);
    }
    Ok(listeners)
}

fn listen_at(port: u16, local: &Local) -> io::Result<Vec<TcpListener>> {
    let open = |ip: IpAddr, port| open(SocketAddr::new(ip, port), local);
    let (v4, v6) = match local.listening_ips()?[..] {
        [v4, v6] => (open(v4, port), v6),
        ref only => return only.iter().map(|&ip| open(ip, port)).collect(),
    };
    let port = match &v4 {
        Ok(socket) => socket.local_addr()?.port(),
        Err(error) if is_no_such_family(error) => port,
        Err(_) => return v4.map(|_| unreachable!("it is an error")),
    };
    let v6 = open(v6, port);
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(vec![v4, v6]),
        (Ok(v4), Err(error)) if is_no_such_family(&error) => Ok(vec![v4]),
        (Err(_), Ok(v6)) => Ok(vec![v6]),
        (_, Err(error)) => Err(error),
    }
}

fn open(address: SocketAddr, local: &Local) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    local.bind_at(&socket, address)?;
    socket.listen(BACKLOG)
}

/// The machine has no IPv6, or no IPv4.
fn is_no_such_family(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(code, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_is_taken_only_if_it_is_free_for_packets_too() {
        let loopback = &Local::from(IpAddr::from([127, 0, 0, 1]));
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap().port();
        let error = listen(&[taken], loopback, true).unwrap_err();
        assert!(error.is_udp && error.error.kind() == io::ErrorKind::AddrInUse, "{error:?}");
        assert_eq!(listen(&[taken], loopback, false).unwrap().port, taken);
        let second = listen(&[taken, 0], loopback, true).unwrap();
        assert_ne!(second.port, taken);
        assert_eq!(second.udp.as_ref().unwrap().addresses(), second.addresses());
    }
}
