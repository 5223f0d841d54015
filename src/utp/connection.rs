//! One connection of uTP (BEP 29): what comes, and what the user of it does. What goes out is in `transmit`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::congestion::Congestion;
use super::delay::Delays;
use super::mtu::PathMtu;
use super::packet::{HEADER_LENGTH, Header, Packet, PacketKind, first_number, unwrap};
use super::receiving::{Arrival, PathTimes, Receiving};
use super::rtt::RoundTrip;
use super::sending::{Acknowledged, Sending};

/// Acknowledgements may be so many packets older than the newest; what is older is not from this connection.
const MAX_OLD_ACK: u64 = 1024;

/// After the user has closed, what waits is sent for so long.
const LINGER: Duration = Duration::from_secs(20);

/// After so long without any packet from a peer that owes an acknowledgement, it is gone.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(40);

/// The same where the peer has said that it has no room: its reader may be busy.
pub(super) const MAX_SILENCE_CLOSED: Duration = Duration::from_secs(180);

/// Before a SYN is sent again; doubles.
pub(super) const FIRST_SYN_TIMEOUT: Duration = Duration::from_secs(3);

/// SYNs that are sent in vain.
pub(super) const MAX_SYNS: u32 = 4;

/// The clock of timestamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireClock {
    /// When it began.
    pub began: Instant,
    /// What it showed then.
    pub offset: u32,
}

impl WireClock {
    /// Microseconds, modulo 2^32.
    pub(super) fn at(self, now: Instant) -> u32 {
        (now.saturating_duration_since(self.began).as_micros() as u32).wrapping_add(self.offset)
    }
}

/// How a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UtpEnd {
    /// The user has closed it, and all was delivered or given up.
    Closed,
    /// The peer has reset it: it knows nothing of it.
    Reset,
    /// The peer does not answer.
    TimedOut,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// We have called, and wait for the answer; when the next SYN goes out, and how many have.
    Calling { next_syn: Instant, syns: u32 },
    /// Both sides have said something.
    Open,
    /// The user has closed it: what waits goes out until then.
    Lingering(Instant),
    /// It is over.
    Ended(UtpEnd),
}

/// Both numbers of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ids {
    /// In packets that come.
    pub receive: u16,
    /// In packets that go.
    pub send: u16,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    pub(super) address: SocketAddr,
    pub(super) ids: Ids,
    pub(super) stage: Stage,
    pub(super) clock: WireClock,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    pub(super) round_trip: RoundTrip,
    pub(super) congestion: Congestion,
    pub(super) mtu: PathMtu,
    /// How long our packets are under way, as the peer says.
    ours: Delays,
    /// How long the peer's packets are under way.
    theirs: Delays,
    /// What the last packet of the peer says of that.
    pub(super) difference: u32,
    /// Bytes that the peer has room for, and the most that it ever had.
    pub(super) peer_window: usize,
    pub(super) widest_window: usize,
    /// Something has come that is to be acknowledged.
    pub(super) needs_ack: bool,
    /// The window that the peer was told of last.
    pub(super) told_window: usize,
    /// A reopened window is told again then, and how long after that once more: nobody acknowledges it.
    pub(super) repeat_window: Option<(Instant, Duration)>,
    pub(super) last_heard: Instant,
    pub(super) last_sent: Instant,
    /// When something was acknowledged last, or sent while nothing was under way.
    pub(super) progress: Instant,
    /// The last packet was sent again since, to learn what is lost.
    pub(super) has_repeated: bool,
    /// The window of the peer is closed, and is tried then; and how long after that once more.
    pub(super) window_probe: Option<(Instant, Duration)>,
    /// The number of our SYN; of a connection that the peer has begun that of its SYN.
    pub(super) syn: u16,
}

impl Connection {
    /// Calls `address`: a SYN goes out at once. The first number is `seq_nr`.
    pub(super) fn call(
        now: Instant,
        address: SocketAddr,
        receive: u16,
        seq_nr: u16,
        clock: WireClock,
    ) -> Connection {
        let ids = Ids { receive, send: receive.wrapping_add(1) };
        let stage = Stage::Calling { next_syn: now, syns: 0 };
        // The SYN has a number, too.
        let first = first_number(seq_nr) + 1;
        Connection::new(now, address, ids, stage, clock, (first, first_number(0)), seq_nr)
    }

    /// Takes a call of `address`, whose SYN had the number `syn`; ours begin with `seq_nr`.
    pub(super) fn answer(
        now: Instant,
        address: SocketAddr,
        connection_id: u16,
        (syn, seq_nr): (u16, u16),
        clock: WireClock,
    ) -> Connection {
        let ids = Ids { receive: connection_id.wrapping_add(1), send: connection_id };
        let numbers = (first_number(seq_nr), first_number(syn) + 1);
        Connection::new(now, address, ids, Stage::Open, clock, numbers, syn)
    }

    fn new(
        now: Instant,
        address: SocketAddr,
        ids: Ids,
        stage: Stage,
        clock: WireClock,
        (next_sent, next_received): (u64, u64),
        syn: u16,
    ) -> Connection {
        let mtu = PathMtu::new(address);
        let receiving = Receiving::new(next_received);
        Connection {
            address,
            ids,
            stage,
            clock,
            sending: Sending::new(next_sent),
            told_window: receiving.window(),
            receiving,
            round_trip: RoundTrip::default(),
            congestion: Congestion::new(mtu.passes() - HEADER_LENGTH),
            mtu,
            ours: Delays::default(),
            theirs: Delays::default(),
            difference: 0,
            peer_window: 0,
            widest_window: 0,
            needs_ack: false,
            repeat_window: None,
            last_heard: now,
            last_sent: now,
            progress: now,
            has_repeated: false,
            window_probe: None,
            syn,
        }
    }

    /// For a reader that takes at most so many bytes a second.
    pub(super) fn with_rate(mut self, rate: Option<usize>) -> Connection {
        self.receiving = self.receiving.with_rate(rate);
        self.told_window = self.receiving.window();
        self
    }

    /// The other end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it has ended, if it has.
    pub fn end(&self) -> Option<UtpEnd> {
        match self.stage {
            Stage::Ended(end) => Some(end),
            Stage::Calling { .. } | Stage::Open | Stage::Lingering(_) => None,
        }
    }

    /// Whether the peer has answered.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether [`Connection::read`] has something to say: data, the end, or why there is none.
    pub fn is_readable(&self) -> bool {
        self.receiving.readable() > 0 || self.receiving.is_at_end() || self.end().is_some()
    }

    /// Whether [`Connection::write`] takes enough to be worth a call.
    pub fn is_writable(&self) -> bool {
        const WORTH: usize = 16 << 10;
        self.end().is_some() || (self.is_open() && self.sending.room(self.congestion.window()) >= WORTH)
    }

    /// Takes data that have come, in order. `Some(0)`: the peer has sent its last; `None`: nothing is there now. `spare` is what connections may
    /// have room for in all beyond what each begins with; what this one needs more is taken from it.
    pub fn read(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        spare: &mut usize,
    ) -> Result<Option<usize>, UtpEnd> {
        if self.receiving.readable() > 0 {
            let path = PathTimes { least: self.round_trip.least(), queuing: self.theirs.queuing_of_late() };
            let count = self.receiving.read(now, buffer, path, spare);
            self.tell_reopened_window(now);
            return Ok(Some(count));
        }
        match self.stage {
            _ if self.receiving.is_at_end() => Ok(Some(0)),
            Stage::Ended(end) => Err(end),
            Stage::Calling { .. } | Stage::Open | Stage::Lingering(_) => Ok(None),
        }
    }

    /// A window that was nearly closed is open again.
    fn tell_reopened_window(&mut self, now: Instant) {
        const FIRST_REPETITION: Duration = Duration::from_millis(500);
        let window = self.receiving.window();
        // A reader that goes on as fast as data come is told of by the acknowledgements.
        let was_nearly_closed = self.told_window < window / 4;
        if was_nearly_closed && self.is_open() {
            self.needs_ack = true;
            self.repeat_window = Some((now + FIRST_REPETITION, FIRST_REPETITION * 2));
        }
    }

    /// Takes data to be sent, as far as there is room. 0: none now.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, UtpEnd> {
        match self.stage {
            Stage::Open => Ok(self.sending.write(data, self.congestion.window())),
            Stage::Ended(end) => Err(end),
            Stage::Calling { .. } => Ok(0),
            Stage::Lingering(_) => Err(UtpEnd::Closed),
        }
    }

    /// The user is done: what waits is sent for a while yet.
    pub fn close(&mut self, now: Instant) {
        match self.stage {
            Stage::Calling { .. } => self.stage = Stage::Ended(UtpEnd::Closed),
            Stage::Open => {
                self.sending.finish();
                self.receiving.discard();
                self.stage = Stage::Lingering(now + LINGER);
            }
            Stage::Lingering(_) | Stage::Ended(_) => {}
        }
    }

    /// A packet of the peer has come that bears the number of this connection.
    pub fn on_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        let header = &packet.header;
        match (self.stage, header.kind) {
            (Stage::Ended(_), _) => {}
            (_, PacketKind::Reset) => self.on_reset(header),
            (Stage::Calling { .. }, PacketKind::State) => self.on_answer(now, header),
            // Its answer to our SYN is lost, and will come again.
            (Stage::Calling { .. }, _) => {}
            // The peer has not seen our answer.
            (_, PacketKind::Syn) => self.needs_ack |= header.seq_nr == self.syn,
            (_, PacketKind::Data | PacketKind::Fin | PacketKind::State) => self.on_numbered(now, packet),
        }
    }

    /// It counts if it knows which packet of ours it is about: one that was sent, and lately.
    fn on_reset(&mut self, header: &Header) {
        let is_known = match self.stage {
            Stage::Calling { .. } => header.ack_nr == self.syn,
            Stage::Open | Stage::Lingering(_) | Stage::Ended(_) => self.acknowledged_by(header).is_some(),
        };
        if is_known {
            self.stage = Stage::Ended(UtpEnd::Reset);
        }
    }

    fn on_answer(&mut self, now: Instant, header: &Header) {
        let Stage::Calling { next_syn, syns } = self.stage else { return };
        if header.ack_nr != self.syn {
            return;
        }
        if syns == 1 {
            let sent = next_syn - FIRST_SYN_TIMEOUT;
            self.round_trip.on_sample(now.saturating_duration_since(sent));
        }
        self.stage = Stage::Open;
        // An answer has the number of the first packet that follows, and not one before it.
        let rate = self.receiving.rate();
        self.receiving = Receiving::new(first_number(header.seq_nr)).with_rate(rate);
        self.progress = now;
        self.on_times(now, header);
        self.on_window(header);
    }

    /// The number up to which a packet acknowledges; `None`: it cannot be from this connection.
    fn acknowledged_by(&self, header: &Header) -> Option<u64> {
        let number = unwrap(header.ack_nr, self.sending.acknowledged());
        let (least, most) = (self.sending.acknowledged() - MAX_OLD_ACK, self.sending.next_number() - 1);
        (least..=most).contains(&number).then_some(number)
    }

    fn on_numbered(&mut self, now: Instant, packet: &Packet<'_>) {
        let header = &packet.header;
        let Some(acknowledged) = self.acknowledged_by(header) else { return };
        self.on_times(now, header);
        if acknowledged >= self.sending.acknowledged() {
            let had_window = self.peer_window;
            self.on_window(header);
            let least = self.round_trip.least();
            let result = self.sending.on_ack(now, acknowledged, packet.selective_ack, least);
            self.on_acknowledged(now, &result);
            if had_window == 0 && self.peer_window > 0 {
                self.progress = now;
            }
        }
        let is_fin = header.kind == PacketKind::Fin;
        if is_fin || header.kind == PacketKind::Data {
            let number = unwrap(header.seq_nr, self.receiving.acknowledged());
            // Each is answered, were it only with what the peer missed of our answers.
            self.needs_ack = true;
            let lingers = matches!(self.stage, Stage::Lingering(_));
            if self.receiving.on_packet(number, packet.payload, is_fin) == Arrival::Next {
                self.repeat_window = None;
                if lingers {
                    self.receiving.discard();
                }
            }
        }
        if matches!(self.stage, Stage::Lingering(_)) && self.sending.is_done() {
            self.stage = Stage::Ended(UtpEnd::Closed);
        }
    }

    fn on_times(&mut self, now: Instant, header: &Header) {
        self.last_heard = now;
        let delay = self.clock.at(now).wrapping_sub(header.timestamp);
        // 0 would say that nothing has come.
        self.difference = delay.max(1);
        let fallen = self.theirs.on_sample(now, delay);
        self.ours.correct_drift(fallen);
        if header.timestamp_difference != 0 {
            self.ours.on_sample(now, header.timestamp_difference);
        }
    }

    fn on_window(&mut self, header: &Header) {
        self.peer_window = header.wnd_size as usize;
        self.widest_window = self.widest_window.max(self.peer_window);
    }

    fn on_acknowledged(&mut self, now: Instant, result: &Acknowledged) {
        if let Some(sample) = result.round_trip {
            self.round_trip.on_sample(sample);
        }
        match result.probe {
            Some(true) => self.mtu.on_probe_passed(),
            Some(false) => self.mtu.on_probe_lost(false),
            None => {}
        }
        if result.is_progress {
            self.round_trip.on_progress();
            (self.progress, self.has_repeated) = (now, false);
        }
        if result.was_late {
            self.congestion.undo_loss();
        }
        let (packet, queuing) = (self.packet_length(), self.ours.queuing());
        if result.bytes > 0 {
            let under_way = result.under_way;
            self.congestion.on_ack(now, result.bytes, under_way, packet, &self.round_trip, queuing);
        }
        if let Some(order) = result.lost {
            let next = self.sending.next_order();
            self.congestion.on_loss(now, order, next, packet, &self.round_trip, queuing);
        }
    }

    /// Bytes of data in a full packet.
    pub(super) fn packet_length(&self) -> usize {
        self.mtu.passes() - HEADER_LENGTH
    }
}
