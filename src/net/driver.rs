//! The driver of one connection: a task that reads when there is something to read, writes when
//! there is something to write, and hands all of it to the session in batches.

use std::rc::Rc;

use tokio::sync::mpsc::{Receiver, Sender};

use super::link::Link;
use super::reader::MessageReader;
pub(crate) use super::reader::{Incoming, ReadError};
use super::writer::MessageWriter;
pub(crate) use super::writer::lay_out;
use super::{Gate, NetShared};
use crate::blocks::Run;
use crate::ids::PeerKey;
use crate::mse::Ciphers;
use crate::wire::{Limits, Message};

/// Messages that may wait for a connection's driver; a peer that lets more pile up is closed.
pub(crate) const OUTBOX: usize = 16 * 1024;

/// Bytes of messages that may wait for a socket; likewise.
const MAX_CONTROL: usize = 1 << 20;

/// Bytes that a connection reads or writes before others have their turn.
const TURN: usize = 512 * 1024;

/// To a connection.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Any message but a block.
    Message(Message),
    /// Blocks that were read.
    Blocks(Run),
}

/// From a connection.
#[derive(Debug)]
pub(crate) enum FromPeer {
    /// What came in one read.
    Received(PeerKey, Vec<Incoming>),
    /// Payload bytes of blocks that went out, and buffers that are free again.
    Sent(PeerKey, u32, Vec<Run>),
    /// It has ended: one of the two sides closed it.
    Closed(PeerKey, String),
    /// It has ended: the socket failed.
    Failed(PeerKey, String),
    /// It has ended: the peer broke the protocol.
    Unruly(PeerKey, String),
}

impl FromPeer {
    /// The connection that this comes from.
    pub(crate) fn peer(&self) -> PeerKey {
        match *self {
            FromPeer::Received(peer, _)
            | FromPeer::Sent(peer, ..)
            | FromPeer::Closed(peer, _)
            | FromPeer::Failed(peer, _)
            | FromPeer::Unruly(peer, _) => peer,
        }
    }
}

/// What a connection begins with.
#[derive(Debug)]
pub(crate) struct Opening {
    /// What the connection is called from now on.
    pub peer: PeerKey,
    /// What carries its bytes.
    pub link: Link,
    /// What came along with the peer's handshake, deciphered.
    pub early: Vec<u8>,
    /// For all that follows, if it is enciphered.
    pub ciphers: Option<Ciphers>,
    /// Bytes to send before all others: our handshake, if the peer has called us.
    pub first: Vec<u8>,
    /// Bounds of what the peer may send.
    pub limits: Limits,
    /// Nothing is read while it is closed.
    pub gate: Rc<Gate>,
}

/// Drives a connection until either side closes it: the session by dropping its outbox.
pub(crate) async fn drive(
    opening: Opening,
    outbox: Receiver<Outgoing>,
    events: Sender<FromPeer>,
    shared: Rc<NetShared>,
) {
    let peer = opening.peer;
    let (incoming, outgoing) = opening.ciphers.map(|ciphers| (ciphers.incoming, ciphers.outgoing)).unzip();
    let mut writer = MessageWriter::new(shared.upload.is_set(), outgoing);
    writer.push_bytes(&opening.first);
    let reader = MessageReader::new(opening.limits, incoming);
    let Opening { link, early, gate, .. } = opening;
    let mut driver = Driver { peer, link, reader, writer, outbox, events, gate, shared };
    let end = match driver.begin_and_drive(&early).await {
        Ok(()) => FromPeer::Closed(peer, "closed".to_owned()),
        Err(error @ ReadError::Eof) => FromPeer::Closed(peer, error.to_string()),
        Err(error @ ReadError::Io(_)) => FromPeer::Failed(peer, error.to_string()),
        Err(error @ ReadError::Protocol(_)) => FromPeer::Unruly(peer, error.to_string()),
    };
    // The session may have ended; then nobody needs to know.
    let _ = driver.events.send(end).await;
}

struct Driver {
    peer: PeerKey,
    link: Link,
    reader: MessageReader,
    writer: MessageWriter,
    outbox: Receiver<Outgoing>,
    events: Sender<FromPeer>,
    gate: Rc<Gate>,
    shared: Rc<NetShared>,
}

impl Driver {
    async fn begin_and_drive(&mut self, early: &[u8]) -> Result<(), ReadError> {
        let mut batch = Vec::new();
        let begun = self.reader.begin(early, &self.shared, &mut batch);
        self.report(batch).await;
        begun?;
        self.drive().await
    }

    /// Ends with `Ok` when the session has dropped the outbox.
    async fn drive(&mut self) -> Result<(), ReadError> {
        let (shared, gate) = (self.shared.clone(), self.gate.clone());
        let (limits_reads, limits_writes) = (shared.download.is_set(), shared.upload.is_set());
        // It stands in the row for its turn under a limit: only when there is something to read, and room to write. A turn that
        // is taken and not used would be used later, with those of others.
        let (mut waits_to_read, mut waits_to_write) = (false, false);
        // Kept from round to round: whoever waits for its turn must not lose its place to a message.
        let (read_turn, write_turn) = (shared.download.wait(), shared.upload.wait());
        tokio::pin!(read_turn, write_turn);
        loop {
            let open = !gate.is_closed();
            // Requests and the like are charged, and not held up: a download needs them.
            let control_goes = self.writer.has_control_to_go();
            let wants_to_write = !self.writer.is_empty() && !waits_to_write;
            tokio::select! {
                outgoing = self.outbox.recv() => match outgoing {
                    Some(outgoing) => self.queue(outgoing)?,
                    None => return self.write_what_waits(),
                },
                ready = self.link.readable(), if !waits_to_read && open => {
                    ready?;
                    match limits_reads {
                        true => waits_to_read = true,
                        false => self.read().await?,
                    }
                }
                ready = self.link.writable(), if wants_to_write || control_goes => {
                    ready?;
                    match limits_writes && !control_goes {
                        true => waits_to_write = true,
                        false => self.write().await?,
                    }
                }
                () = gate.wait_open(), if !open => {}
                () = &mut read_turn, if waits_to_read && open => {
                    waits_to_read = false;
                    read_turn.set(shared.download.wait());
                    self.read().await?;
                }
                () = &mut write_turn, if waits_to_write => {
                    waits_to_write = false;
                    write_turn.set(shared.upload.wait());
                    self.write().await?;
                }
            }
        }
    }

    /// Takes all that waits in the outbox, and writes it if the socket takes it.
    fn queue(&mut self, first: Outgoing) -> Result<(), ReadError> {
        let mut next = Some(first);
        while let Some(outgoing) = next {
            match outgoing {
                Outgoing::Message(message) => {
                    self.reader.on_sent(&message);
                    self.writer.push(&message);
                }
                Outgoing::Blocks(run) => self.writer.push_blocks(run),
            }
            next = self.outbox.try_recv().ok();
        }
        if self.writer.control_backlog() > MAX_CONTROL {
            return Err(std::io::Error::other("does not take what we send").into());
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), ReadError> {
        let mut turn = TURN.min(self.shared.download.turn());
        while turn > 0 && !self.gate.is_closed() {
            let mut batch = Vec::new();
            match self.reader.read(&self.link, &self.shared, turn, &mut batch) {
                Ok(count) => {
                    self.shared.download.spend(count);
                    if self.shared.pace.is_set() {
                        self.shared.pace.on_read(count, batch.iter().map(Incoming::block_bytes).sum());
                    }
                    turn = turn.saturating_sub(count);
                    self.report(batch).await;
                }
                Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // What came before the error counts.
                    self.report(batch).await;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), ReadError> {
        let mut done = Vec::new();
        let most = self.shared.upload.turn().min(2 * TURN);
        match self.writer.write(&self.link, most, &mut done) {
            Ok((sent, payload)) => {
                self.shared.upload.spend(sent);
                if payload > 0 || !done.is_empty() {
                    let _ = self.events.send(FromPeer::Sent(self.peer, payload, done)).await;
                }
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A last attempt to get out what waits; nothing is waited for.
    fn write_what_waits(&mut self) -> Result<(), ReadError> {
        let _ = self.writer.write(&self.link, usize::MAX, &mut Vec::new());
        Ok(())
    }

    async fn report(&self, batch: Vec<Incoming>) {
        if !batch.is_empty() {
            let _ = self.events.send(FromPeer::Received(self.peer, batch)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Block, PieceIndex};
    use std::cell::Cell;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc::channel;
    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::timeout;

    /// Far longer than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A connection that is driven: what to send by it, its other end, and how many messages came from there.
    async fn connection(peer: u64, shared: &Rc<NetShared>) -> (Sender<Outgoing>, TcpStream, Rc<Cell<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let (outbox, to_send) = channel(OUTBOX);
        let (events, mut told) = channel(16);
        let opening = Opening {
            peer: PeerKey(peer),
            link: Link::Tcp(stream),
            ciphers: None,
            early: Vec::new(),
            first: Vec::new(),
            limits: Limits { num_pieces: None },
            gate: Rc::default(),
        };
        spawn_local(drive(opening, to_send, events, shared.clone()));
        let heard = Rc::new(Cell::new(0));
        let counter = heard.clone();
        spawn_local(async move {
            while let Some(event) = told.recv().await {
                if let FromPeer::Received(_, batch) = event {
                    counter.set(counter.get() + batch.len());
                }
            }
        });
        (outbox, theirs, heard)
    }

    #[test]
    fn who_has_nothing_but_messages_to_send_does_not_hold_the_row_for_the_upload_limit() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            // A turn that is waited for: 60 ms of 1 MB/s are spent in advance.
            let shared = NetShared::new(None, Some(1_000_000));
            shared.upload.spend(60_000);
            let (talks, mut hears, _) = connection(1, &shared).await;
            // In which order a driver looks at its socket and at the row is left to chance.
            for _ in 0..30 {
                talks.send(Outgoing::Message(Message::Interested)).await.unwrap();
                let mut message = [0; 5];
                timeout(PATIENCE, hears.read_exact(&mut message)).await.unwrap().unwrap();
                assert_eq!(message, [0, 0, 0, 1, 2]);
            }
            let (gives, mut takes, _) = connection(2, &shared).await;
            let mut run = Run::default();
            lay_out(&[Block { piece: PieceIndex(0), begin: 0, length: 100 }], &mut run);
            let length = run.bytes.len();
            gives.send(Outgoing::Blocks(run)).await.unwrap();
            let mut block = vec![0; length];
            timeout(PATIENCE, takes.read_exact(&mut block)).await.expect("it has its turn").unwrap();
        });
    }

    #[test]
    fn who_has_nothing_to_read_keeps_no_turn_for_later() {
        const RATE: u64 = 100_000;
        const CONNECTIONS: u64 = 20;
        const MESSAGES: usize = 2000;
        let clock = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        LocalSet::new().block_on(&clock.unwrap(), async {
            let shared = NetShared::new(Some(RATE), None);
            let mut others = Vec::new();
            for number in 0..CONNECTIONS {
                others.push(connection(number, &shared).await);
            }
            // Time enough for everybody to have had a turn.
            tokio::time::sleep(Duration::from_secs(10)).await;
            let begin = tokio::time::Instant::now();
            let mut message = Vec::new();
            Message::Have(PieceIndex(3)).encode_into(&mut message);
            for (_, other, _) in &mut others {
                other.write_all(&message.repeat(MESSAGES)).await.unwrap();
            }
            while others.iter().any(|(.., heard)| heard.get() < MESSAGES) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let bytes = CONNECTIONS * (MESSAGES * message.len()) as u64;
            let least = Duration::from_secs_f64(bytes as f64 / RATE as f64).mul_f64(0.9);
            assert!(begin.elapsed() >= least, "{:?} instead of {least:?}", begin.elapsed());
        });
    }
}
