//! Packets by way of the user's SOCKS5 proxy (RFC 1928, 7): the connection that has to stand meanwhile, and what it takes to have it back.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::egress::Egress;
use super::udp::{AFTER_FAILURE, BUFFER, UdpPort, UdpReaders};
use crate::proxy::{Target, unwrap_datagram};

/// Between the end of an association and the next one; doubled as long as each ends at once.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// After so long the proxy is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// An association that stood so long has not ended at once.
const LASTING: Duration = Duration::from_secs(60);

/// Packets that are received before others have their turn.
const TURN: usize = 64;

/// What becomes of the packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RelayNews {
    /// The proxy carries them from now on.
    Carries,
    /// It does not any more, and is asked again.
    Lost,
    /// It carries none, for this reason, for people, and is not asked again.
    Refused(String),
}

/// Has the proxy carry the packets of `port`, unless it refuses to from the beginning. What comes is given to `readers`.
pub(crate) async fn relay(egress: Rc<Egress>, port: UdpPort, readers: UdpReaders, tell: impl Fn(RelayNews)) {
    let (mut back_off, mut has_carried) = (FIRST_BACK_OFF, false);
    loop {
        let absences = egress.absences();
        let (control, relay) = match egress.associate().await {
            Ok(granted) => granted,
            // It can carry them, and will again.
            Err(_) if has_carried => {
                sleep(back_off).await;
                back_off = (2 * back_off).min(MAX_BACK_OFF);
                continue;
            }
            Err(reason) => {
                port.refuse_relay();
                return tell(RelayNews::Refused(reason));
            }
        };
        let began = tokio::time::Instant::now();
        let socket = egress.packet_socket(relay).await;
        if let (Err(error), false, false) = (&socket, has_carried, egress.is_absent()) {
            port.refuse_relay();
            let reason = format!("it takes packets at {relay}, where none can be sent from here: {error}");
            return tell(RelayNews::Refused(reason));
        }
        if let Ok(socket) = socket {
            let socket = Rc::new(socket);
            port.set_relay(Some(socket.clone()));
            has_carried = true;
            tell(RelayNews::Carries);
            tokio::select! {
                () = receive(&socket, &readers) => {}
                () = until_closed(control) => {}
                // The association went by it, and nobody would say so.
                () = egress.until_absent(absences) => {}
            }
            port.set_relay(None);
            tell(RelayNews::Lost);
        }
        back_off = if began.elapsed() >= LASTING { FIRST_BACK_OFF } else { back_off };
        sleep(back_off).await;
        back_off = (2 * back_off).min(MAX_BACK_OFF);
    }
}

/// Never ends by itself.
async fn receive(socket: &UdpSocket, readers: &UdpReaders) {
    let mut buffer = vec![0; BUFFER];
    loop {
        if socket.readable().await.is_err() {
            sleep(AFTER_FAILURE).await;
        }
        let mut is_empty = false;
        for _ in 0..TURN {
            match socket.try_recv(&mut buffer) {
                Ok(length) => {
                    // What comes by name comes from nobody that we could have asked.
                    if let Some((Target::Address(from), data)) = unwrap_datagram(&buffer[..length]) {
                        readers.take(Instant::now(), from, data, data.len());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    is_empty = true;
                    break;
                }
                // What is wrong with a packet that was sent is told here too.
                Err(_) => {
                    readers.end_turn();
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
        readers.end_turn();
        if !is_empty {
            yield_now().await;
        }
    }
}

/// Ends with the association: the proxy closes the connection, or it breaks. What it says on it is nothing to us.
async fn until_closed(mut control: TcpStream) {
    // A proxy whose machine has gone says nothing. Where that cannot be had, all goes on without.
    let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 6).with_retries(3);
    let _ = SockRef::from(&control).set_tcp_keepalive(&keepalive);
    let mut buffer = [0; 64];
    while matches!(control.read(&mut buffer).await, Ok(1..)) {}
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    use super::super::udp::Carriage;
    use super::*;
    use crate::bind::Local;
    use crate::proxy::wrap_datagram;
    use tokio::sync::mpsc;

    /// A proxy that carries one packet for each association, answers it in many ways of which one is right, and ends the association.
    fn proxy() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut control in listener.incoming().flatten() {
                control.read_exact(&mut [0; 3]).unwrap();
                control.write_all(&[5, 0]).unwrap();
                control.read_exact(&mut [0; 10]).unwrap();
                let inside = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                let port = inside.local_addr().unwrap().port().to_be_bytes();
                control.write_all(&[&[5, 0, 0, 1, 0, 0, 0, 0], &port[..]].concat()).unwrap();
                let mut packet = [0; 100];
                let (length, client) = inside.recv_from(&mut packet).unwrap();
                let right = &packet[..length];
                let fragment = [&[0, 0, 1], &right[3..]].concat();
                let reserved = [&[0, 1, 0], &right[3..]].concat();
                let by_name = wrap_datagram(&Target::new("a.example", 7).unwrap(), b"a name");
                let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                stranger.send_to(right, client).unwrap();
                for answer in [&fragment, &reserved, &by_name, &right[..5], right] {
                    inside.send_to(answer, client).unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn an_association_that_ends_is_made_anew_and_what_is_no_answer_is_dropped() {
        let proxy = format!("socks5://{}", proxy()).parse().unwrap();
        let egress = Rc::new(Egress::new(Local::default(), Some(proxy), |_| ()));
        let (port, (reader, mut packets)) = (UdpPort::relayed(), mpsc::channel(8));
        let told = std::cell::RefCell::new(Vec::new());
        let readers = UdpReaders { dht: Some(reader), utp: None };
        let work = relay(egress, port.clone(), readers, |news| told.borrow_mut().push(news));
        let to = SocketAddr::from(([192, 0, 2, 1], 7));
        let ask = async {
            for data in [b"first", b"again"] {
                let packet = loop {
                    port.send(to, data);
                    tokio::select! {
                        packet = packets.recv() => break packet.unwrap(),
                        () = sleep(Duration::from_millis(20)) => {}
                    }
                };
                assert_eq!((packet.from, &packet.data[..]), (to, &data[..]));
                // Of an association that is over, nothing is left to come.
                while port.carriage() == Carriage::Now {
                    sleep(Duration::from_millis(20)).await;
                }
                assert!(packets.try_recv().is_err());
            }
        };
        tokio::select! {
            () = work => panic!("it never refuses"),
            () = ask => {}
        }
        let told = told.into_inner();
        let is_pair = |pair: &[RelayNews]| pair == [RelayNews::Carries, RelayNews::Lost];
        assert!(told.len() >= 4 && told.chunks(2).all(is_pair), "{told:?}");
    }
}
