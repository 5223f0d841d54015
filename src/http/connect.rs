//! TCP connections to servers, from the local address that the user wishes, and ureq's way of using them.
//!
//! A host's addresses are tried side by side, each a little after the one before (RFC 8305), so one family that leads nowhere costs
//! next to nothing. ureq's own connector has no local address, and waits for the addresses one after the other.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

use super::reach::{LeadsInside, Reach};
use super::through::ask_proxy;
use super::{Interrupt, MAX_WAIT, resolve};
use crate::address::is_inner;
use crate::bind::Local;
use crate::proxy::{Proxy, ProxyDialogue, Target};

/// How long an address has before the next one is tried beside it (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// How long a thread waits before it asks whether it is needed elsewhere.
pub(super) const SLICE: Duration = Duration::from_millis(200);

/// How long it waits the first time: what is put off until there is time for it is seen to as soon as a server is not that quick.
pub(crate) const FIRST_SLICE: Duration = Duration::from_millis(5);

/// Connects to the first of `addresses` that answers, from what is bound to, with a receive buffer of so many bytes.
///
/// # Errors
///
/// The last error, `TimedOut` if `until` came first, or if the thread is needed elsewhere.
pub(super) fn connect_first(
    addresses: &[SocketAddr],
    local: &Local,
    receive_buffer: Option<u32>,
    until: Instant,
    interrupt: &Interrupt,
) -> io::Result<(TcpStream, SocketAddr)> {
    let mut rest = addresses.iter();
    let mut begun: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut last_error = io::Error::from(ErrorKind::AddrNotAvailable);
    let mut next_begins = Instant::now();
    loop {
        let now = Instant::now();
        if now >= until || interrupt.is_due() {
            return Err(ErrorKind::TimedOut.into());
        }
        if (begun.is_empty() || now >= next_begins)
            && let Some(&address) = rest.next()
        {
            match begin(address, local, receive_buffer) {
                Ok(socket) => begun.push((socket, address)),
                Err(error) => {
                    last_error = error;
                    continue;
                }
            }
            next_begins = now + HEAD_START;
        }
        if begun.is_empty() {
            return Err(last_error);
        }
        let wake_up = if rest.len() > 0 { next_begins.min(until) } else { until };
        let ready = wait_for_any(&begun, interrupt.slice(wake_up.saturating_duration_since(now)))?;
        // From the back, so that the indices hold.
        for index in ready.into_iter().rev() {
            let (socket, address) = begun.remove(index);
            match sockopt::socket_error(&socket)? {
                Ok(()) => {
                    let stream = TcpStream::from(socket);
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay(true)?;
                    return Ok((stream, address));
                }
                Err(error) => {
                    last_error = error.into();
                    next_begins = now;
                }
            }
        }
    }
}

/// A socket that is connecting.
fn begin(address: SocketAddr, local: &Local, receive_buffer: Option<u32>) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    local.bind_to_reach(&socket, address.ip())?;
    // Before it connects: what the other side has been offered is not taken back.
    if let Some(bytes) = receive_buffer {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, bytes as usize)?;
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Which of the sockets have connected or failed, after `time` at the latest.
fn wait_for_any(begun: &[(OwnedFd, SocketAddr)], time: Duration) -> io::Result<Vec<usize>> {
    let mut sockets: Vec<PollFd<'_>> =
        begun.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::OUT)).collect();
    let timeout = Timespec::try_from(time).ok();
    match poll(&mut sockets, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((0..sockets.len()).filter(|&index| !sockets[index].revents().is_empty()).collect())
}

/// Makes the TCP connections of ureq's chain.
#[derive(Debug)]
pub(super) struct BoundConnector {
    /// What connections are bound to.
    pub local: Local,
    /// Bytes of the receive buffer, if they are to be few.
    pub receive_buffer: Option<u32>,
    /// The proxy that the user has chosen: it is asked for the server by its name.
    pub proxy: Option<Proxy>,
    /// Where the connection may lead. With a proxy: anywhere, for the user has named it.
    pub reach: Reach,
    /// The path and query that are asked for.
    pub target: String,
    pub interrupt: Interrupt,
    /// Set once there is a connection to an inner address.
    pub reached_inside: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for BoundConnector {
    type Out = Either<In, Socket>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Either<In, Socket>>, Error> {
        // A proxy's connection, made by this connector a moment ago.
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let until = deadline(details.timeout);
        let late_or = |error: io::Error| match error.kind() {
            ErrorKind::TimedOut => Error::Timeout(details.timeout.reason),
            _ => Error::Io(error),
        };
        let socket = |stream| {
            let buffers =
                LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
            let interrupt = self.interrupt.clone();
            Socket { stream, buffers, interrupt, read_time: None, write_time: None }
        };
        if let Some(proxy) = &self.proxy {
            let host = details.uri.host().unwrap_or_default();
            let target = Target::new(host, resolve::port_of(details.uri)).ok_or(Error::HostNotFound)?;
            let dialogue = ProxyDialogue::connect(proxy, &target);
            let (stream, _) =
                ask_proxy(proxy, dialogue, &self.local, self.receive_buffer, until, &self.interrupt)
                    .map_err(|error| error.into_ureq(proxy, late_or))?;
            return Ok(Some(Either::B(socket(stream))));
        }
        // What is looked at here is what is connected to: there is no second look-up that could say something else.
        let is_allowed = |address: &&SocketAddr| self.reach.allows(address.ip(), &self.target);
        let addresses: Vec<SocketAddr> = details.addrs.iter().filter(is_allowed).copied().collect();
        if let (Some(refused), true) = (details.addrs.first(), addresses.is_empty()) {
            return Err(Error::Other(LeadsInside(self.reach.refusal(refused.ip())).into()));
        }
        let connected = connect_first(&addresses, &self.local, self.receive_buffer, until, &self.interrupt);
        let (stream, address) = connected.map_err(late_or)?;
        self.reached_inside.store(is_inner(address.ip()), Ordering::Relaxed);
        Ok(Some(Either::B(socket(stream))))
    }
}

fn deadline(timeout: NextTimeout) -> Instant {
    Instant::now() + (*timeout.after).min(MAX_WAIT)
}

/// A TCP connection as ureq uses it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    buffers: LazyBuffers,
    interrupt: Interrupt,
    /// How long a read waits, if that was set; each change is a system call, and most requests need none.
    read_time: Option<Duration>,
    /// How long a write waits, likewise.
    write_time: Option<Duration>,
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let until = deadline(timeout);
        let mut sent = 0;
        while sent < amount {
            let wait = Some(self.interrupt.next_wait(until, timeout, SLICE)?);
            if self.write_time != wait {
                self.stream.set_write_timeout(wait)?;
                self.write_time = wait;
            }
            match (&self.stream).write(&self.buffers.output()[sent..amount]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(length) => sent += length,
                Err(error) if is_to_be_repeated(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let until = deadline(timeout);
        let mut slice = FIRST_SLICE;
        loop {
            let wait = Some(self.interrupt.next_wait(until, timeout, slice)?);
            slice = SLICE;
            if self.read_time != wait {
                self.stream.set_read_timeout(wait)?;
                self.read_time = wait;
            }
            match (&self.stream).read(self.buffers.input_append_buf()) {
                Ok(length) => {
                    self.buffers.input_appended(length);
                    return Ok(length > 0);
                }
                Err(error) if is_to_be_repeated(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asked of connections that were kept for later: one on which anything waits, an end too, is of no use.
    fn is_open(&mut self) -> bool {
        let peeked = rustix::net::recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(peeked, Err(rustix::io::Errno::AGAIN))
    }
}

impl Interrupt {
    /// The time for the next wait; if it can be broken off, at most `slice`.
    fn next_wait(&self, until: Instant, timeout: NextTimeout, slice: Duration) -> Result<Duration, Error> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.is_due() {
            return Err(Error::Timeout(timeout.reason));
        }
        Ok(self.slice_of(left, slice))
    }
}

/// Whether a read or write has only been waited for long enough to look up.
pub(crate) fn is_to_be_repeated(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpListener};

    use super::*;

    fn connect(addresses: &[SocketAddr], local: &Local) -> io::Result<(TcpStream, SocketAddr)> {
        connect_first(addresses, local, None, Instant::now() + Duration::from_secs(60), &Interrupt::default())
    }

    #[test]
    fn a_connection_comes_from_the_address_that_is_wished() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = IpAddr::from([127, 0, 0, 9]);
        let (_stream, _) = connect(&[listener.local_addr().unwrap()], &bind.into()).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), bind);
    }

    #[test]
    fn addresses_where_nobody_is_do_not_keep_from_those_where_somebody_is() {
        let (listener, local) = (TcpListener::bind("127.0.0.1:0").unwrap(), Local::default());
        let good = listener.local_addr().unwrap();
        // Its queue is full: whoever calls now is neither answered nor refused.
        let silent = Silent::new();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (_stream, address) = connect(&[silent.address, free, good], &local).unwrap();
        assert_eq!(address, good);
        assert_eq!(connect(&[free], &local).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let now = Instant::now();
        let late = connect_first(
            &[silent.address],
            &local,
            None,
            now + Duration::from_millis(50),
            &Interrupt::default(),
        );
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    /// A listener that accepts nobody any more.
    struct Silent {
        address: SocketAddr,
        _queue: (OwnedFd, Vec<OwnedFd>),
    }

    impl Silent {
        fn new() -> Silent {
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            rustix::net::listen(&socket, 0).unwrap();
            let listener = TcpListener::from(socket);
            let address = listener.local_addr().unwrap();
            let callers = (0..4).map(|_| begin(address, &Local::default(), None).unwrap()).collect();
            Silent { address, _queue: (listener.into(), callers) }
        }
    }
}
