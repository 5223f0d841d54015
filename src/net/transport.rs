//! How a link to a peer comes to be: by TCP, by uTP, or by whichever answers first.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::dial::{Call, DialError};
use super::egress::Egress;
use super::link::Link;
use super::remembered::Remembered;
use super::utp::UtpPort;
use crate::utp::{Transport, TransportPolicy};

/// How long the first transport has for an answer before the other one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(500);

/// How long the other one has for an answer where the first was refused: somebody is there, and does not listen.
const AFTER_REFUSAL: Duration = Duration::from_secs(1);

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

    /// By which transport a peer is called first.
    pub(crate) fn first(&self, address: SocketAddr) -> Transport {
        self.order(address).0
    }

    fn order(&self, address: SocketAddr) -> (Transport, Option<Transport>) {
        self.policy.order(self.spoken.borrow().get(address))
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
            _ => self.connect_by(first, address, patience, is_wanted).await,
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
        let one = self.connect_by(first, address, patience, is_wanted);
        tokio::pin!(one);
        match timeout(head_start, &mut one).await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(error)) => {
                let is_refused = matches!(&error, DialError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused);
                let patience = if is_refused { patience.min(AFTER_REFUSAL) } else { patience };
                let other = self.connect_by(second, address, patience, is_wanted).await;
                return other.map_err(|_| error);
            }
            Err(_) => {}
        }
        let other = self.connect_by(second, address, patience - head_start, is_wanted);
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

    async fn connect_by(
        &self,
        transport: Transport,
        address: SocketAddr,
        patience: Duration,
        is_wanted: &Cell<bool>,
    ) -> Result<Link, DialError> {
        match transport {
            Transport::Tcp => self.egress.connect(address, patience, is_wanted).await.map(Link::Tcp),
            Transport::Utp => {
                let Some(utp) = &self.utp else {
                    return Err(io::Error::from(io::ErrorKind::Unsupported).into());
                };
                let call = async || utp.connect(address).await;
                self.egress.call(patience, is_wanted, call).await.map(Link::Utp)
            }
        }
    }
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
