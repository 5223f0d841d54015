//! How TCP connections to peers leave this machine: from what is bound to, and through the user's proxy if there is one; never past either.
//!
//! What stands in the way of all of them keeps all of them waiting, and is no peer's fault: while what is bound to is gone nobody calls; while the
//! proxy does not work one call at a time tries it, with back-off, and the others wait until it does.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;
use std::{fmt, io};

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

mod look;
mod reach;

use super::dial::{DialError, within};
use super::peer_names::PeerNames;
use super::udp::{SYSTEM_BUFFER, forbid_fragments};
use crate::address::is_stand_in;
use crate::bind::Local;
use crate::proxy::{Proxy, ProxyDialogue, ProxyError, ProxyKind, ProxyStep, Target, UDP, relay_address};

/// Until the proxy has taken us, and after that until it has reached a target.
const PROXY_PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts to reach a proxy that does not work: at first, and at the most.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// How often a proxy may be silent, or close, when it is asked to carry packets.
const MAX_REFUSALS: u32 = 3;

/// How long a call waits before it looks again whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);

/// What happens to the proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ProxyNews {
    /// It does not work, for this reason; told once, until it works again.
    Failed(String),
    /// It works again.
    Works,
}

/// The way of TCP connections to peers.
pub(crate) struct Egress {
    local: Local,
    proxy: Option<Proxy>,
    /// What is bound to is gone.
    is_absent: Cell<bool>,
    /// How often it has gone.
    absences: Cell<u64>,
    health: RefCell<Health>,
    /// It has answered since it failed last.
    has_answered: Cell<bool>,
    /// It is being looked at whether it is there.
    is_looking: Cell<bool>,
    /// Something has changed for which calls wait.
    changed: Notify,
    /// The proxy's addresses, and when they were looked up.
    found: RefCell<Option<(Instant, Vec<SocketAddr>)>>,
    /// Peers that the proxy is told by name.
    names: RefCell<PeerNames>,
    /// Bytes of each connection's receive buffer; `None`: as the kernel sees fit.
    receive_buffer: Cell<Option<u32>>,
    tell: Box<dyn Fn(ProxyNews)>,
}

/// Whether the proxy works.
#[derive(Debug, Default)]
struct Health {
    /// Failures since it worked last.
    failures: u32,
    /// When it may be tried again; `None`: it works, as far as is known.
    retry_at: Option<Instant>,
    /// Calls that began before it changed say nothing new when they fail.
    generation: u64,
}

impl Health {
    /// The generation of a call that may go now, or how long it has to wait. If the proxy is not known to work, the next one may go only later.
    fn may_try(&mut self, now: Instant) -> Result<u64, Duration> {
        if let Some(at) = self.retry_at {
            if at > now {
                return Err(at - now);
            }
            self.retry_at = Some(now + self.back_off().max(PROXY_PATIENCE));
        }
        Ok(self.generation)
    }

    fn back_off(&self) -> Duration {
        (FIRST_BACK_OFF * 2u32.pow(self.failures.saturating_sub(1).min(10))).min(MAX_BACK_OFF)
    }

    /// A call of this generation has failed. True if that is news.
    fn failed(&mut self, now: Instant, generation: u64) -> bool {
        if generation != self.generation {
            return false;
        }
        self.generation += 1;
        self.failures += 1;
        self.retry_at = Some(now + self.back_off());
        self.failures == 1
    }

    /// If it is not known to work, the next call that wants something of it may try it.
    fn may_be_tried_at_once(&mut self) {
        self.retry_at = self.retry_at.map(|at| at.min(Instant::now()));
    }

    /// True if that is news.
    fn works(&mut self) -> bool {
        self.retry_at = None;
        std::mem::take(&mut self.failures) > 0
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("local", &self.local)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// Why a connection through the proxy failed.
enum Failure {
    /// The proxy is to blame: this, for people.
    Proxy(String),
    /// The target is, or is taken to be.
    Target(DialError),
    /// It carries no packets.
    WithoutPackets(ProxyError),
}

impl Egress {
    /// `tell` is told what happens to the proxy; it must not block.
    pub(crate) fn new(local: Local, proxy: Option<Proxy>, tell: impl Fn(ProxyNews) + 'static) -> Egress {
        Egress {
            local,
            proxy,
            is_absent: Cell::new(false),
            absences: Cell::new(0),
            health: RefCell::default(),
            has_answered: Cell::new(false),
            is_looking: Cell::new(false),
            changed: Notify::new(),
            found: RefCell::default(),
            names: RefCell::default(),
            receive_buffer: Cell::new(None),
            tell: Box::new(tell),
        }
    }

    /// Whether what is bound to is gone.
    pub(crate) fn is_absent(&self) -> bool {
        self.is_absent.get()
    }

    /// What is bound to is gone, or back.
    pub(crate) fn set_absent(&self, is_absent: bool) {
        self.is_absent.set(is_absent);
        self.absences.set(self.absences.get() + u64::from(is_absent));
        self.changed.notify_waiters();
    }

    /// Connections have receive buffers of so many bytes from now on; `None`: as the kernel sees fit.
    pub(crate) fn set_receive_buffer(&self, bytes: Option<u32>) {
        self.receive_buffer.set(bytes);
    }

    /// An address that stands for a peer whose name the proxy looks up: one of a prefix for documents (RFC 9637). `None` if there is no
    /// proxy, or the name is none. How many are remembered: see [`PeerNames`].
    pub(crate) fn stand_in(&self, host: &str, port: u16, is_users: bool) -> Option<SocketAddr> {
        self.proxy.as_ref()?;
        Some(self.names.borrow_mut().stand_in(Target::new(host, port)?, is_users))
    }

    /// How long a peer has for each step that may take so long: a proxy's way to it may be long.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        if self.proxy.is_some() { PROXY_PATIENCE.max(patience) } else { patience }
    }

    /// Connects to a peer, which has so much time to take the call; through a proxy at least 10 s, from when the proxy has taken ours. Waits for
    /// as long as nobody can be called, if `is_wanted` holds.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        patience: Duration,
        is_wanted: &Cell<bool>,
    ) -> Result<TcpStream, DialError> {
        let Some(proxy) = &self.proxy else {
            return self.call(patience, is_wanted, async || self.connect_to(address).await).await;
        };
        loop {
            let generation = self.wait_until_open(is_wanted).await?;
            match self.connect_through(proxy, address).await {
                Ok(stream) => return Ok(stream),
                Err(Failure::Target(error)) => return Err(error),
                Err(Failure::WithoutPackets(error)) => return Err(DialError::NotReached(error)),
                Err(Failure::Proxy(reason)) => self.failed(generation, reason).await,
            }
        }
    }

    /// Whether the address stands for a peer of which the proxy alone knows where it is.
    pub(super) fn is_by_name(&self, address: SocketAddr) -> bool {
        self.proxy.is_some() && is_stand_in(address)
    }

    /// Calls a peer, which has so much time to take the call, past the proxy's connections: directly, or by packets that it carries. Waits for as
    /// long as what is bound to is gone.
    pub(super) async fn call<T>(
        &self,
        patience: Duration,
        is_wanted: &Cell<bool>,
        attempt: impl AsyncFn() -> io::Result<T>,
    ) -> Result<T, DialError> {
        loop {
            self.wait_until_present(is_wanted).await?;
            match within(patience, attempt()).await.and_then(|done| done) {
                // It has gone this moment, which is no fault of the peer.
                Err(_) if self.is_gone() => sleep(LOOK).await,
                done => return Ok(done?),
            }
        }
    }

    /// Waits until what is bound to is there.
    async fn wait_until_present(&self, is_wanted: &Cell<bool>) -> Result<(), DialError> {
        loop {
            if !is_wanted.get() {
                return Err(DialError::Unwanted("not to be called any more"));
            }
            if !self.is_absent.get() {
                return Ok(());
            }
            let _ = timeout(LOOK, self.changed.notified()).await;
        }
    }

    /// Waits until calls may go; while the proxy does not work, for its turn to try it.
    async fn wait_until_open(&self, is_wanted: &Cell<bool>) -> Result<u64, DialError> {
        loop {
            self.wait_until_present(is_wanted).await?;
            let wait = match self.health.borrow_mut().may_try(Instant::now()) {
                Ok(generation) => return Ok(generation),
                Err(wait) => wait.min(LOOK),
            };
            let _ = timeout(wait, self.changed.notified()).await;
        }
    }

    async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        self.local.bind_to_reach(&socket, address.ip())?;
        // Before it connects: what the other side has been offered is not taken back.
        if let Some(bytes) = self.receive_buffer.get() {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn connect_through(&self, proxy: &Proxy, address: SocketAddr) -> Result<TcpStream, Failure> {
        let target = match self.names.borrow().get(address).cloned() {
            Some(target) => target,
            // The proxy would look for a machine at an address that means nothing to it.
            None if is_stand_in(address) => return Err(Failure::Target(forgotten())),
            None => Target::Address(address),
        };
        let (stream, _) = self.talk(proxy, ProxyDialogue::connect(proxy, &target)).await?;
        Ok(stream)
    }

    /// Has the proxy carry packets, for as long as the connection that this gives stands. Gives where the proxy takes them, too. Waits for as long as
    /// it cannot be asked.
    ///
    /// # Errors
    ///
    /// Why it carries none, for people.
    pub(super) async fn associate(&self) -> Result<(TcpStream, SocketAddr), String> {
        let Some(proxy) = &self.proxy else { return Err("there is no proxy".to_owned()) };
        let mut refusals = 0;
        loop {
            let dialogue = ProxyDialogue::associate(proxy).map_err(|error| error.to_string())?;
            let Ok(generation) = self.wait_until_open(&Cell::new(true)).await else { continue };
            let failed = match self.talk(proxy, dialogue).await {
                Ok((control, named)) => match control.peer_addr() {
                    Ok(address) => return Ok((control, relay_address(&named, address))),
                    Err(error) => error.to_string(),
                },
                Err(Failure::WithoutPackets(error)) => return Err(error.to_string()),
                // There is no target: it does not like the request.
                Err(Failure::Target(error)) => {
                    refusals += 1;
                    if refusals == MAX_REFUSALS {
                        return Err(format!("it does not carry {UDP}: {error}"));
                    }
                    sleep(FIRST_BACK_OFF * refusals).await;
                    continue;
                }
                Err(Failure::Proxy(reason)) => reason,
            };
            self.failed(generation, failed).await;
        }
    }

    /// How often what is bound to has gone.
    pub(super) fn absences(&self) -> u64 {
        self.absences.get()
    }

    /// Waits until what is bound to has gone more often than so; it may be back already, as another one of the same name.
    pub(super) async fn until_absent(&self, before: u64) {
        while self.absences.get() == before {
            self.changed.notified().await;
        }
    }

    /// A socket for packets to the proxy, which hears nobody else.
    pub(super) async fn packet_socket(&self, relay: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(relay), Type::DGRAM, None)?;
        self.local.bind_to_reach(&socket, relay.ip())?;
        socket.set_nonblocking(true)?;
        forbid_fragments(&socket, relay.is_ipv4(), false)?;
        // Where the system allows less, it gives that.
        let _ = socket.set_recv_buffer_size(SYSTEM_BUFFER);
        socket.connect(&relay.into())?;
        UdpSocket::from_std(socket.into())
    }

    /// Whether what is bound to is gone, be it that nobody has noticed yet.
    fn is_gone(&self) -> bool {
        self.is_absent.get() || (self.local.bind().is_some() && self.local.presence().is_none())
    }

    /// The proxy has failed a call of this generation, if it is not that nothing can be sent.
    async fn failed(&self, generation: u64, reason: String) {
        if self.is_gone() {
            sleep(LOOK).await;
        } else if self.health.borrow_mut().failed(Instant::now(), generation) {
            self.has_answered.set(false);
            (self.tell)(ProxyNews::Failed(reason));
        }
    }

    async fn talk(&self, proxy: &Proxy, mut dialogue: ProxyDialogue) -> Result<(TcpStream, Target), Failure> {
        let called = within(PROXY_PATIENCE, self.connect_to_proxy(proxy)).await;
        let mut stream = called
            .and_then(|called| called)
            .map_err(|error| Failure::Proxy(format!("cannot connect to it: {}", io_reason(&error))))?;
        let mut bytes = Vec::new();
        let talk = async {
            loop {
                match dialogue.feed(&bytes)? {
                    ProxyStep::Send(message) => {
                        stream.write_all(&message).await?;
                        bytes.clear();
                    }
                    ProxyStep::Need(most) => {
                        bytes.resize(most, 0);
                        match within(PROXY_PATIENCE, stream.read(&mut bytes)).await?? {
                            0 => return Err(TalkError::Io(io::ErrorKind::UnexpectedEof.into())),
                            count => bytes.truncate(count),
                        }
                    }
                    ProxyStep::Done(named) => return Ok(named),
                }
            }
        };
        let talked = match within(2 * PROXY_PATIENCE, talk).await {
            Ok(talked) => talked,
            Err(late) => Err(TalkError::Io(late)),
        };
        match talked {
            Ok(named) => {
                self.works();
                Ok((stream, named))
            }
            Err(TalkError::Proxy(error @ ProxyError::Unsupported(UDP))) => {
                Err(Failure::WithoutPackets(error))
            }
            Err(TalkError::Proxy(error)) if error.is_of_target() => {
                self.works();
                Err(Failure::Target(DialError::NotReached(error)))
            }
            Err(TalkError::Proxy(error)) => Err(Failure::Proxy(error.to_string())),
            Err(TalkError::Io(error)) => {
                // What it is silent about, or closes for, after it has taken us, is the target. Whether an HTTP proxy has is not known before its
                // answer.
                let has_taken_us = match proxy.kind() {
                    ProxyKind::Socks5 => true,
                    ProxyKind::Http => self.has_answered.get(),
                };
                match dialogue.waits_for_target() && has_taken_us {
                    true => {
                        self.works();
                        Err(Failure::Target(said_of_proxy(&error).into()))
                    }
                    false => Err(Failure::Proxy(io_reason(&error))),
                }
            }
        }
    }

    fn works(&self) {
        self.has_answered.set(true);
        self.tell_if_news_that_it_works();
    }
}

fn forgotten() -> DialError {
    io::Error::new(io::ErrorKind::NotFound, "its name is forgotten: others have been named since").into()
}

enum TalkError {
    Proxy(ProxyError),
    Io(io::Error),
}

impl From<ProxyError> for TalkError {
    fn from(error: ProxyError) -> TalkError {
        TalkError::Proxy(error)
    }
}

impl From<io::Error> for TalkError {
    fn from(error: io::Error) -> TalkError {
        TalkError::Io(error)
    }
}

/// The same error, told as one of the connection to the proxy and not of one to the peer.
fn said_of_proxy(error: &io::Error) -> io::Error {
    let said = match error.kind() {
        io::ErrorKind::TimedOut => format!("the proxy does not answer within {} s", PROXY_PATIENCE.as_secs()),
        io::ErrorKind::UnexpectedEof => "the proxy closed the connection".to_owned(),
        _ => format!("connection to the proxy: {error}"),
    };
    io::Error::new(error.kind(), said)
}

/// What went wrong with the connection to a proxy, for people.
fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => format!("no answer within {} s", PROXY_PATIENCE.as_secs()),
        io::ErrorKind::ConnectionRefused => "connection refused; check that it runs".to_owned(),
        io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::stand_in;

    #[test]
    fn a_proxy_that_fails_is_tried_by_one_call_at_a_time_and_later_and_later() {
        let (mut now, mut health) = (Instant::now(), Health::default());
        assert_eq!((health.may_try(now), health.may_try(now)), (Ok(0), Ok(0)));
        assert!(health.failed(now, 0), "that is news");
        assert!(!health.failed(now, 0), "it had begun before");
        let mut waits = Vec::new();
        for generation in 1..=8 {
            let wait = health.may_try(now).unwrap_err();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(health.may_try(now), Ok(generation));
            assert!(health.may_try(now).is_err(), "one tries it already");
            assert!(!health.failed(now, generation));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(health.works() && !health.works());
        assert_eq!(health.may_try(now), Ok(9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_takes_calls_and_is_silent_is_told_and_no_peer_is_to_blame() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("socks5://{}", silent.local_addr().unwrap()).parse().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let egress = Egress::new(Local::default(), Some(proxy), move |news| drop(tell.send(news)));
        let is_wanted = Cell::new(true);
        let call = egress.connect("192.0.2.1:1".parse().unwrap(), LOOK, &is_wanted);
        tokio::pin!(call);
        let look = async {
            loop {
                if let Ok(news) = told.try_recv() {
                    return news;
                }
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            ended = &mut call => panic!("{ended:?}"),
            news = look => assert_eq!(news, ProxyNews::Failed("no answer within 10 s".to_owned())),
        }
        is_wanted.set(false);
        assert!(matches!(call.await, Err(DialError::Unwanted(_))));
    }

    #[tokio::test]
    async fn a_proxy_that_carries_no_connections_is_told_once_however_often_it_is_tried() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("socks5://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (third, mut tried) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            for mut call in listener.incoming().flatten() {
                call.read_exact(&mut [0; 3]).unwrap();
                call.write_all(&[5, 0]).unwrap();
                call.read_exact(&mut [0; 10]).unwrap();
                call.write_all(&[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
                third.send(()).unwrap();
            }
        });
        let (tell, told) = std::sync::mpsc::channel();
        let egress = Egress::new(Local::default(), Some(proxy), move |news| drop(tell.send(news)));
        let is_wanted = Cell::new(true);
        let thrice = async {
            for _ in 0..3 {
                tried.recv().await.unwrap();
            }
        };
        tokio::select! {
            ended = egress.connect("192.0.2.1:1".parse().unwrap(), LOOK, &is_wanted) => panic!("{ended:?}"),
            () = thrice => {}
        }
        let told: Vec<ProxyNews> = told.try_iter().collect();
        let reason = "it does not carry connections; choose another proxy".to_owned();
        assert_eq!(told, [ProxyNews::Failed(reason)]);
    }

    #[tokio::test]
    async fn a_name_has_one_address_that_stands_for_it_and_without_a_proxy_none() {
        let egress = |proxy: Option<&str>| {
            Egress::new(Local::default(), proxy.map(|url| url.parse().unwrap()), |_| ())
        };
        let with = egress(Some("socks5://p"));
        let first = with.stand_in("a.example", 7, true).unwrap();
        assert!(with.is_by_name(first) && is_stand_in(first));
        assert_eq!(
            (with.stand_in("a\nb", 7, true), egress(None).stand_in("a.example", 7, true)),
            (None, None)
        );
        // One whose name is forgotten is not asked of the proxy by an address that means nothing to it.
        let end = with.connect(stand_in(77, 7), LOOK, &Cell::new(true)).await;
        assert!(matches!(end, Err(DialError::Io(error)) if error.kind() == io::ErrorKind::NotFound));
    }
}
