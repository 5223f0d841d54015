//! uTP (BEP 29) at the session's UDP port: the machine's packets go in and out here, and each of its connections is a stream.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::link::Link;
use super::udp::{Carriage, MAX_BATCH, UdpPort};
use crate::utp::{UtpEnd, UtpEndpoint, UtpKey, UtpPacket};

/// How long to sleep if nothing is due.
const FAR: Duration = Duration::from_secs(3600);

/// Batches that are sent before others have their turn.
const TURN: usize = 32;

/// Takes callers.
type OnAccepted = Box<dyn Fn(Link, SocketAddr)>;

/// All connections by uTP at one port.
pub(crate) struct UtpPort {
    endpoint: RefCell<UtpEndpoint>,
    udp: UdpPort,
    /// There may be something to send.
    wake: Notify,
    /// Woken when something has happened to a connection.
    changed: RefCell<HashMap<UtpKey, Rc<Notify>>>,
    /// Packets that are to go in one call.
    batch: RefCell<Batch>,
    on_accepted: OnAccepted,
}

impl fmt::Debug for UtpPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UtpPort").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Packets to one address, each of one length but the last, which may be shorter.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Of the first of them.
    first: Option<UtpPacket>,
    segment: usize,
    count: usize,
    /// No further one fits.
    is_whole: bool,
    /// The packet behind `bytes` that did not fit, and its length.
    next: Option<(UtpPacket, usize)>,
}

impl Batch {
    /// A packet was appended to `bytes`, which had this length before.
    fn add(&mut self, packet: UtpPacket, before: usize, max_segments: usize) {
        let length = self.bytes.len() - before;
        // A packet that must not be cut goes alone.
        let is_alone = packet.long.is_some();
        match &self.first {
            None => {
                (self.first, self.segment, self.count) = (Some(packet), length, 1);
                self.is_whole = is_alone || max_segments <= 1;
            }
            Some(first) if first.to == packet.to && !is_alone && length <= self.segment => {
                self.count += 1;
                let is_full = self.count >= max_segments || self.bytes.len() + self.segment > MAX_BATCH;
                self.is_whole = length < self.segment || is_full;
            }
            Some(_) => {
                self.next = Some((packet, length));
                self.is_whole = true;
            }
        }
    }

    /// What goes now.
    fn contents(&self) -> &[u8] {
        let behind = self.next.map_or(0, |(_, length)| length);
        &self.bytes[..self.bytes.len() - behind]
    }

    /// It has gone; what did not fit is the beginning of the next one. Gives that packet.
    fn advance(&mut self) -> Option<UtpPacket> {
        let sent = self.contents().len();
        self.bytes.drain(..sent);
        (self.first, self.is_whole) = (None, false);
        self.next.take().map(|(packet, _)| packet)
    }
}

impl UtpPort {
    /// At these sockets; callers are given to `on_accepted`. `seed` decides all random choices. Its task is one of this thread.
    pub(crate) fn start(
        udp: UdpPort,
        seed: u64,
        on_accepted: impl Fn(Link, SocketAddr) + 'static,
    ) -> Rc<UtpPort> {
        let port = Rc::new(UtpPort {
            endpoint: RefCell::new(UtpEndpoint::new(Instant::now(), seed)),
            udp,
            wake: Notify::new(),
            changed: RefCell::default(),
            batch: RefCell::default(),
            on_accepted: Box::new(on_accepted),
        });
        tokio::task::spawn_local(run(port.clone()));
        port
    }

    /// Whether calls can be made now, as far as a proxy has to carry their packets.
    pub(super) fn carriage(&self) -> Carriage {
        self.udp.carriage()
    }

    /// Sends what is to be sent and what the system has room for, once: after that nobody does.
    pub(crate) fn flush_last(&self) {
        while let Flushed::Turn = self.flush(Instant::now()) {}
    }

    /// See [`UtpEndpoint::set_rate`].
    pub(crate) fn set_rate(&self, bytes_a_second: usize) {
        self.endpoint.borrow_mut().set_rate(bytes_a_second);
    }

    /// Calls a peer, and waits until it has answered. Who gives up drops the call.
    pub(crate) async fn connect(self: &Rc<Self>, address: SocketAddr) -> io::Result<UtpStream> {
        if self.udp.max_segments(address).is_none() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let key = self.endpoint.borrow_mut().call(Instant::now(), address);
        let stream = self.stream(key.ok_or_else(|| io::Error::other("too many connections by uTP"))?);
        self.wake.notify_one();
        loop {
            let (is_open, end) = {
                let endpoint = self.endpoint.borrow();
                let connection = endpoint.get(stream.key);
                (
                    connection.is_some_and(|connection| connection.is_open()),
                    connection.and_then(|connection| connection.end()),
                )
            };
            match end {
                // Nobody listens there who knows of it.
                Some(UtpEnd::Reset) => return Err(io::ErrorKind::ConnectionRefused.into()),
                Some(end) => return Err(error(end)),
                None if is_open => return Ok(stream),
                None => stream.changed.notified().await,
            }
        }
    }

    fn stream(self: &Rc<Self>, key: UtpKey) -> UtpStream {
        let changed = Rc::new(Notify::new());
        self.changed.borrow_mut().insert(key, changed.clone());
        UtpStream { port: self.clone(), key, changed }
    }

    /// A datagram has come that may be a packet of uTP; [`UtpPort::tell`] has to follow.
    pub(super) fn on_datagram(&self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        self.endpoint.borrow_mut().on_datagram(now, from, datagram);
    }

    /// Wakes those whose connections have changed, and after them whoever sends.
    pub(super) fn tell(self: &Rc<Self>) {
        loop {
            let Some(key) = self.endpoint.borrow_mut().poll_changed() else { break };
            if let Some(changed) = self.changed.borrow().get(&key) {
                changed.notify_waiters();
            }
        }
        loop {
            let Some((key, address)) = self.endpoint.borrow_mut().accept() else { break };
            let stream = self.stream(key);
            (self.on_accepted)(Link::Utp(stream), address);
        }
        self.wake_if_needed();
    }

    fn wake_if_needed(&self) {
        if self.endpoint.borrow().has_ready() {
            self.wake.notify_one();
        }
    }

    /// Sends what is to be sent, at most a turn of it. Says where the system has no room.
    fn flush(&self, now: Instant) -> Flushed {
        let mut batch = self.batch.borrow_mut();
        let batch = &mut *batch;
        for _ in 0..TURN {
            while !batch.is_whole {
                let before = batch.bytes.len();
                let packet = self.endpoint.borrow_mut().poll_packet(now, &mut batch.bytes);
                let Some(packet) = packet else { break };
                batch.add(packet, before, self.udp.max_segments(packet.to).unwrap_or(1));
            }
            let Some(first) = batch.first else { return Flushed::All };
            let is_probe = first.long.is_some() && !first.may_fragment;
            let sent = self.udp.try_send_batch(first.to, batch.contents(), batch.segment, is_probe);
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Flushed::NoRoom(first.to);
                }
                Err(error) if quinn_udp::is_msg_size_err(&error) => {
                    if let Some(long) = first.long {
                        self.endpoint.borrow_mut().on_too_long(long);
                    }
                }
                // Whatever else is wrong, it is lost, as any packet may be.
                Err(_) | Ok(()) => {}
            }
            if let Some(next) = batch.advance() {
                batch.add(next, 0, self.udp.max_segments(next.to).unwrap_or(1));
            }
        }
        Flushed::Turn
    }
}

/// How far sending has come.
enum Flushed {
    /// There is nothing more to send.
    All,
    /// There is more, and others have their turn.
    Turn,
    /// The system takes no more packets to this address for now.
    NoRoom(SocketAddr),
}

/// Sends what the machine wants sent, when it wants it.
async fn run(port: Rc<UtpPort>) {
    loop {
        let flushed = port.flush(Instant::now());
        // Timeouts may have ended connections.
        port.tell();
        match flushed {
            Flushed::All => {
                let due = port.endpoint.borrow().deadline();
                let due = due.unwrap_or_else(|| Instant::now() + FAR);
                tokio::select! {
                    () = port.wake.notified() => {}
                    () = sleep_until(due.into()) => {}
                }
            }
            Flushed::Turn => tokio::task::yield_now().await,
            Flushed::NoRoom(to) => port.udp.writable(to).await,
        }
    }
}

/// A connection by uTP. Dropping it closes it: what was written is sent for a while yet.
#[derive(Debug)]
pub(crate) struct UtpStream {
    port: Rc<UtpPort>,
    key: UtpKey,
    changed: Rc<Notify>,
}

impl UtpStream {
    /// Waits until a read is likely to give something.
    pub(super) async fn readable(&self) {
        self.wait(|endpoint| endpoint.get(self.key).is_none_or(|connection| connection.is_readable())).await;
    }

    /// Waits until a write is likely to take something.
    pub(super) async fn writable(&self) {
        self.wait(|endpoint| endpoint.get(self.key).is_none_or(|connection| connection.is_writable())).await;
    }

    async fn wait(&self, is_so: impl Fn(&UtpEndpoint) -> bool) {
        while !is_so(&self.port.endpoint.borrow()) {
            self.changed.notified().await;
        }
    }

    /// Reads into several buffers, filling each before the next. 0: the peer has closed.
    pub(super) fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let (now, mut count) = (Instant::now(), 0);
        for buffer in buffers.iter_mut().filter(|buffer| !buffer.is_empty()) {
            match self.port.endpoint.borrow_mut().read(now, self.key, buffer) {
                Ok(Some(read)) if read == buffer.len() => count += read,
                Ok(Some(read)) => {
                    count += read;
                    break;
                }
                Ok(None) if count == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                Err(end) if count == 0 => return Err(error(end)),
                Ok(None) | Err(_) => break,
            }
        }
        // A window that is open again has to be told.
        self.port.wake_if_needed();
        Ok(count)
    }

    /// Writes from several buffers.
    pub(super) fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut count = 0;
        for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
            match self.port.endpoint.borrow_mut().write(self.key, buffer) {
                Ok(written) => {
                    count += written;
                    if written < buffer.len() {
                        break;
                    }
                }
                Err(end) if count == 0 => return Err(error(end)),
                Err(_) => break,
            }
        }
        if count == 0 && buffers.iter().any(|buffer| !buffer.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.port.wake_if_needed();
        Ok(count)
    }
}

impl Drop for UtpStream {
    fn drop(&mut self) {
        self.port.changed.borrow_mut().remove(&self.key);
        self.port.endpoint.borrow_mut().close(Instant::now(), self.key);
        self.port.wake.notify_one();
    }
}

fn error(end: UtpEnd) -> io::Error {
    match end {
        UtpEnd::Closed => io::ErrorKind::NotConnected.into(),
        UtpEnd::Reset => io::ErrorKind::ConnectionReset.into(),
        UtpEnd::TimedOut => io::ErrorKind::TimedOut.into(),
    }
}
