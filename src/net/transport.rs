//! How a link to a peer comes to be: by TCP, by uTP, or by whichever answers first.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::dial::{Call, DialError, within};
use super::egress::Egress;
use super::link::Link;
use super::remembered::Remembered;
use super::udp::Carriage;
use super::utp::UtpPort;
use crate::utp::{Transport, TransportPolicy};

/// How long the first transport has for an answer before the other one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long the other one has for an answer where the first was refused: somebody is there, and does not listen.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// How often a call that waits for the proxy to carry packets looks whether it does.
const LOOK: Duration = Duration::from_millis(200);

/// The transports that the user allows.
#[derive(Debug)]
pub(crate) struct Transports {
    policy: TransportPolicy,
    /// The way of calls by TCP out of this machine.
    egress: Rc<Egress>,
    /// Its port, unless it is not used.
    utp: Option<Rc<UtpPort>>,
    /// What addresses speak, as far as is known.
    spoken: RefCell<Remembered<Transport>>,
}

impl Transports {
    /// Calls by TCP go by `egress`, those by uTP from `utp`.
    pub(crate) fn new(policy: TransportPolicy, egress: Rc<Egress>, utp: Option<Rc<UtpPort>>) -> Transports {
        Transports { policy, egress, utp, spoken: RefCell::default() }
    }

    /// Whether peers are called by uTP.
    pub(crate) fn has_utp(&self) -> bool {
        self.utp.is_some() && self.policy.takes(Transport::Utp)
    }

    /// Its port, unless it is not used.
    pub(crate) fn utp(&self) -> Option<&UtpPort> {
        self.utp.as_deref()
    }

    /// By which transport a peer is called first.
    pub(crate) fn first(&self, address: SocketAddr) -> Transport {
        self.order(address).0
    }

    fn order(&self, address: SocketAddr) -> (Transport, Option<Transport>) {
        let carriage = self.utp.as_ref().map_or(Carriage::Now, |utp| utp.carriage());
        match self.policy.order(self.spoken.borrow().get(address)) {
            // Who is called by name answers from an address that nobody here knows.
            (_, Some(_)) if carriage == Carriage::Never || self.egress.is_by_name(address) => {
                (Transport::Tcp, None)
            }
            (_, Some(_)) if carriage == Carriage::Later => (Transport::Tcp, Some(Transport::Utp)),
            order => order,
        }
    }

    /// Others say that a peer speaks uTP: it is called so first, unless it is known what has worked.
    pub(crate) fn speaks_utp(&self, address: SocketAddr) {
        self.spoken.borrow_mut().set_if_unknown(address, Transport::Utp);
    }

    /// A handshake with this peer has come to its end by this transport.
    pub(super) fn has_worked(&self, address: SocketAddr, transport: Transport) {
        self.spoken.borrow_mut().set(address, transport);
    }

    /// Calls a peer, if `is_wanted` holds.
    pub(super) async fn connect(&self, call: Call, is_wanted: &Cell<bool>) -> Result<Link, DialError> {
        let Call { address, patience, only } = call;
        let (first, second) = only.map_or_else(|| self.order(address), |only| (only, None));
        match second {
            // Nothing can be sent: there is no race.
            Some(second) if !self.egress.is_absent() => {
                self.race(address, [first, second], patience, is_wanted).await
            }
            _ => self.connect_by(first, address, (patience, true), is_wanted).await,
        }
    }

    /// Whichever answers first; the call by the other one is dropped.
    async fn race(
        &self,
        address: SocketAddr,
        [first, second]: [Transport; 2],
        patience: Duration,
        is_wanted: &Cell<bool>,
    ) -> Result<Link, DialError> {
        let head_start = HEAD_START.min(patience / 2);
        let one = self.connect_by(first, address, (patience, false), is_wanted);
        tokio::pin!(one);
        match timeout(head_start, &mut one).await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(error)) => {
                let is_refused = matches!(&error, DialError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused);
                let patience = if is_refused { patience.min(AFTER_REFUSAL) } else { patience };
                let other = self.connect_by(second, address, (patience, false), is_wanted).await;
                return other.map_err(|_| error);
            }
            Err(_) => {}
        }
        let other = self.connect_by(second, address, (patience - head_start, false), is_wanted);
        tokio::pin!(other);
        tokio::select! {
            done = &mut one => match done {
                Ok(link) => Ok(link),
                Err(error) => other.await.map_err(|_| error),
            },
            done = &mut other => match done {
                Ok(link) => Ok(link),
                Err(_) => one.await,
            },
        }
    }

    /// `is_only`: there is no other transport, so a proxy that may carry packets yet is waited for longer than the peer.
    async fn connect_by(
        &self,
        transport: Transport,
        address: SocketAddr,
        (patience, is_only): (Duration, bool),
        is_wanted: &Cell<bool>,
    ) -> Result<Link, DialError> {
        match transport {
            Transport::Tcp => self.egress.connect(address, patience, is_wanted).await.map(Link::Tcp),
            Transport::Utp => {
                let Some(utp) = &self.utp else {
                    return Err(io::Error::from(io::ErrorKind::Unsupported).into());
                };
                if self.egress.is_by_name(address) {
                    return Err(unsupported("it is known by its name alone, so it cannot be called by uTP"));
                }
                let carried = wait_until_carried(utp, is_wanted);
                match is_only {
                    true => carried.await?,
                    false => within(patience, carried).await??,
                }
                let call = async || utp.connect(address).await;
                self.egress.call(patience, is_wanted, call).await.map(Link::Utp)
            }
        }
    }
}

async fn wait_until_carried(utp: &UtpPort, is_wanted: &Cell<bool>) -> Result<(), DialError> {
    loop {
        match utp.carriage() {
            Carriage::Now => return Ok(()),
            Carriage::Never => {
                return Err(unsupported("the proxy does not carry UDP, so nobody is called by uTP"));
            }
            Carriage::Later if !is_wanted.get() => {
                return Err(DialError::Unwanted("not to be called any more"));
            }
            Carriage::Later => sleep(LOOK).await,
        }
    }
}

fn unsupported(reason: &'static str) -> DialError {
    io::Error::new(io::ErrorKind::Unsupported, reason).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::Local;
    use crate::net::udp::{UdpPort, UdpReaders};
    use std::time::Instant;
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    /// A port of uTP on loopback, and how many callers it has had.
    fn utp_port() -> (Rc<UtpPort>, SocketAddr, Rc<Cell<usize>>) {
        let udp = UdpPort::open(&["127.0.0.1:0".parse().unwrap()], &Local::default()).unwrap();
        let (address, callers) = (udp.addresses()[0], Rc::new(Cell::new(0)));
        let counted = callers.clone();
        let port = UtpPort::start(udp.clone(), 7, move |link, _| {
            counted.set(counted.get() + 1);
            tokio::task::spawn_local(async move {
                let mut buffer = [0; 64];
                while let Ok(1..) = link.read(&mut buffer).await {}
            });
        });
        udp.receive(&UdpReaders { dht: None, utp: Some(port.clone()) });
        (port, address, callers)
    }

    fn transports(policy: TransportPolicy, utp: Option<Rc<UtpPort>>) -> Transports {
        Transports::new(policy, Rc::new(Egress::new(Local::default(), None, |_| ())), utp)
    }

    fn call(address: SocketAddr, patience: Duration) -> Call {
        Call { address, patience, only: None }
    }

    async fn on_local<T>(work: impl Future<Output = T>) -> T {
        LocalSet::new().run_until(work).await
    }

    #[tokio::test]
    async fn where_tcp_is_refused_or_silent_utp_is_tried_and_remembered() {
        on_local(async {
            let ((port, _, _), (_, address, callers)) = (utp_port(), utp_port());
            let transports = transports(TransportPolicy::Both, Some(port));
            let patience = Duration::from_secs(10);
            let link = transports.connect(call(address, patience), &Cell::new(true)).await.unwrap();
            assert_eq!((link.transport(), transports.first(address)), (Transport::Utp, Transport::Tcp));
            link.write_all(b"hello").await.unwrap();
            transports.has_worked(address, Transport::Utp);
            assert_eq!(transports.first(address), Transport::Utp);
            while callers.get() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn tcp_is_first_where_both_would_answer() {
        on_local(async {
            let ((port, _, _), (_, address, callers)) = (utp_port(), utp_port());
            let _listener = TcpListener::bind(address).await.unwrap();
            let transports = transports(TransportPolicy::Both, Some(port));
            let link =
                transports.connect(call(address, Duration::from_secs(10)), &Cell::new(true)).await.unwrap();
            assert_eq!((link.transport(), callers.get()), (Transport::Tcp, 0));
        })
        .await;
    }

    #[tokio::test]
    async fn a_call_that_is_to_go_by_utp_goes_by_nothing_else() {
        on_local(async {
            let ((port, _, _), (_, address, _)) = (utp_port(), utp_port());
            let listener = TcpListener::bind(address).await.unwrap();
            let transports = transports(TransportPolicy::Both, Some(port));
            let call = Call { only: Some(Transport::Utp), ..call(address, Duration::from_secs(10)) };
            let link = transports.connect(call, &Cell::new(true)).await.unwrap();
            let listener = listener.into_std().unwrap();
            assert!(link.transport() == Transport::Utp && listener.accept().is_err());
        })
        .await;
    }

    #[tokio::test]
    async fn what_has_read_packets_is_freed_with_the_session() {
        let (freed, udp_freed) = on_local(async {
            let udp = UdpPort::open(&["127.0.0.1:0".parse().unwrap()], &Local::default()).unwrap();
            let port = UtpPort::start(udp.clone(), 7, |_, _| ());
            udp.receive(&UdpReaders { dht: None, utp: Some(port.clone()) });
            // Its tasks have begun.
            tokio::task::yield_now().await;
            udp.end();
            (Rc::downgrade(&port), udp.addresses().is_empty())
        })
        .await;
        assert!(freed.upgrade().is_none() && udp_freed);
    }

    #[tokio::test]
    async fn where_a_proxy_does_not_carry_packets_or_knows_the_name_alone_tcp_is_used() {
        on_local(async {
            let udp = UdpPort::relayed();
            let port = UtpPort::start(udp.clone(), 7, |_, _| ());
            let proxy = "socks5://192.0.2.1:1".parse().unwrap();
            let egress = Rc::new(Egress::new(Local::default(), Some(proxy), |_| ()));
            let transports = |policy| Transports::new(policy, egress.clone(), Some(port.clone()));
            let (both, utp) = (transports(TransportPolicy::Both), transports(TransportPolicy::Utp));
            let address = "192.0.2.2:2".parse().unwrap();
            both.has_worked(address, Transport::Utp);
            assert_eq!(both.order(address), (Transport::Tcp, Some(Transport::Utp)));
            // Where uTP alone is wanted, calls wait for it as long as they are wanted.
            let is_wanted = Cell::new(false);
            let end = utp.connect(call(address, HEAD_START), &is_wanted).await;
            assert!(matches!(end, Err(DialError::Unwanted(_))));
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            udp.set_relay(Some(Rc::new(socket)));
            assert_eq!(both.order(address), (Transport::Utp, Some(Transport::Tcp)));
            let by_name = egress.stand_in("a.example", 7, true).unwrap();
            assert_eq!(both.order(by_name), (Transport::Tcp, None));
            udp.set_relay(None);
            udp.refuse_relay();
            assert_eq!(both.order(address), (Transport::Tcp, None));
            for address in [address, by_name] {
                let end = utp.connect(call(address, HEAD_START), &Cell::new(true)).await;
                let Err(DialError::Io(error)) = end else { panic!("{end:?}") };
                assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn one_alone_is_used_where_the_user_wants_it() {
        on_local(async {
            let ((port, _, _), (_, address, callers)) = (utp_port(), utp_port());
            let patience = Duration::from_millis(200);
            let tcp = transports(TransportPolicy::Tcp, Some(port.clone()));
            assert!(matches!(
                tcp.connect(call(address, patience), &Cell::new(true)).await,
                Err(DialError::Io(_))
            ));
            assert_eq!(callers.get(), 0);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let utp = transports(TransportPolicy::Utp, Some(port));
            let began = Instant::now();
            assert!(
                utp.connect(call(listener.local_addr().unwrap(), patience), &Cell::new(true)).await.is_err()
            );
            assert!(began.elapsed() < patience * 50 && listener.accept().is_err());
        })
        .await;
    }
}
