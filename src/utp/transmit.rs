//! What a connection sends, and when: packets, and what happens when nothing does.

use std::time::{Duration, Instant};

use super::connection::{
    Connection, FIRST_SYN_TIMEOUT, MAX_SILENCE, MAX_SILENCE_CLOSED, MAX_SYNS, Stage, UtpEnd,
};
use super::packet::{HEADER_LENGTH, Header, PacketKind};
use super::sending::ToSend;

/// Something is sent at least so often: translators of addresses forget who is silent for longer (libutp does the same).
const KEEP_ALIVE: Duration = Duration::from_secs(29);

/// A closed window is tried at least so often.
const MAX_WINDOW_PROBE: Duration = Duration::from_secs(5);

/// Before a closed window is tried first.
const FIRST_WINDOW_PROBE: Duration = Duration::from_millis(500);

/// How long after a window was opened again it is told for the last time.
const MAX_WINDOW_REPETITION: Duration = Duration::from_secs(5);

/// Timeouts in a row after which longer datagrams count as swallowed.
const BLACK_HOLE: u32 = 2;

/// Timeouts in a row before a peer counts as gone.
const MIN_TIMEOUTS: u32 = 3;

/// How a packet is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// It may be cut on its way: it is longer than what is known to pass, and was sent before as it is.
    pub may_fragment: bool,
    /// The number of a packet that is to be given up if it is too long for our own network: see [`Connection::on_too_long`].
    pub number: Option<u64>,
}

impl Connection {
    /// Appends the next packet to `out`, if one is to be sent now.
    pub fn poll_packet(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Outbound> {
        self.on_time(now);
        match self.stage {
            Stage::Ended(_) => None,
            Stage::Calling { next_syn, syns } => (now >= next_syn).then(|| self.send_syn(now, syns, out)),
            Stage::Open | Stage::Lingering(_) => {
                if self.needs_ack && self.receiving.has_gap() {
                    return Some(self.send_state(now, out));
                }
                let planned = self.plan(now);
                if let Some((packet, is_probe)) = planned {
                    return Some(self.send(now, &packet, is_probe, out));
                }
                self.needs_ack.then(|| self.send_state(now, out))
            }
        }
    }

    fn send_syn(&mut self, now: Instant, syns: u32, out: &mut Vec<u8>) -> Outbound {
        let next_syn = now + FIRST_SYN_TIMEOUT * 2u32.pow(syns);
        self.stage = Stage::Calling { next_syn, syns: syns + 1 };
        let mut header = self.header(now, PacketKind::Syn, self.syn);
        (header.connection_id, header.ack_nr) = (self.ids.receive, 0);
        header.encode_into(&[], out);
        self.last_sent = now;
        Outbound { may_fragment: false, number: None }
    }

    fn send_state(&mut self, now: Instant, out: &mut Vec<u8>) -> Outbound {
        let mut bits = Vec::new();
        if self.receiving.has_gap() {
            self.receiving.selective_ack(&mut bits);
        }
        let next = self.sending.next_number() as u16;
        self.header(now, PacketKind::State, next).encode_into(&bits, out);
        self.on_packet_sent(now);
        Outbound { may_fragment: false, number: None }
    }

    fn send(&mut self, now: Instant, packet: &ToSend, is_probe: bool, out: &mut Vec<u8>) -> Outbound {
        let kind = if packet.is_fin { PacketKind::Fin } else { PacketKind::Data };
        self.header(now, kind, packet.number as u16).encode_into(&[], out);
        self.sending.copy(packet, out);
        if !self.sending.is_waiting() {
            (self.progress, self.has_repeated) = (now, false);
        }
        self.sending.on_sent(now, packet, is_probe);
        if is_probe {
            self.mtu.on_probe_sent();
        }
        self.on_packet_sent(now);
        let is_long = packet.length > self.packet_length();
        Outbound { may_fragment: is_long && !is_probe, number: is_long.then_some(packet.number) }
    }

    fn on_packet_sent(&mut self, now: Instant) {
        self.last_sent = now;
        self.needs_ack = false;
        self.told_window = self.receiving.window();
    }

    fn header(&self, now: Instant, kind: PacketKind, seq_nr: u16) -> Header {
        Header {
            kind,
            connection_id: self.ids.send,
            timestamp: self.clock.at(now),
            timestamp_difference: self.difference,
            wnd_size: self.receiving.window() as u32,
            seq_nr,
            ack_nr: self.receiving.acknowledged() as u16,
        }
    }

    /// The packet with a number of its own that may go out now, and whether it is to try how long a datagram may be.
    fn plan(&mut self, now: Instant) -> Option<(ToSend, bool)> {
        let under_way = self.sending.under_way();
        if let Some(lost) = self.sending.first_lost() {
            let fits = under_way == 0 || under_way + lost.length <= self.congestion.window();
            return fits.then_some((lost, false));
        }
        let room = self.congestion.window().min(self.peer_window).saturating_sub(under_way);
        let full = self.packet_length();
        if let Some(datagram) = self.mtu.wants_probe() {
            let length = datagram - HEADER_LENGTH;
            if self.sending.unsent() >= length && room >= length && under_way > 0 {
                return self.sending.next_new(length).map(|packet| (packet, true));
            }
        }
        let packet = self.sending.next_new(full)?;
        if packet.length <= room {
            self.window_probe = None;
            return Some((packet, false));
        }
        if self.sending.is_waiting() {
            return None;
        }
        // Nothing comes that could open the window by itself. A part goes where it is worth a packet, for else there would be many short ones (the
        // silly windows of RFC 1122, 4.2.3.4).
        if room > 0 && room >= self.widest_window / 2 {
            self.window_probe = None;
            return self.sending.next_new(room).map(|packet| (packet, false));
        }
        let (due, pause) =
            *self.window_probe.get_or_insert((now + FIRST_WINDOW_PROBE, FIRST_WINDOW_PROBE * 2));
        if now < due {
            return None;
        }
        self.window_probe = Some((now + pause, (pause * 2).min(MAX_WINDOW_PROBE)));
        Some((packet, false))
    }

    /// After how long without progress everything counts as lost.
    fn timeout(&self) -> Duration {
        let timeout = self.round_trip.timeout();
        if self.peer_window == 0 { timeout.min(MAX_WINDOW_PROBE) } else { timeout }
    }

    /// When [`Connection::poll_packet`] has something to do though nothing happens; `None`: it has ended.
    pub fn deadline(&self) -> Option<Instant> {
        let until = match self.stage {
            Stage::Ended(_) => return None,
            Stage::Calling { next_syn, .. } => return Some(next_syn),
            Stage::Open => None,
            Stage::Lingering(until) => Some(until),
        };
        let keep_alive = self.last_sent + KEEP_ALIVE;
        let repetition = self.repeat_window.map(|(due, _)| due);
        let probe = self.window_probe.map(|(due, _)| due).filter(|_| !self.sending.is_waiting());
        let mut deadline = until.into_iter().chain(repetition).chain(probe).fold(keep_alive, Instant::min);
        if self.sending.is_waiting() {
            deadline = deadline.min(self.progress + self.timeout());
            if let Some(due) = self.repetition_due() {
                deadline = deadline.min(due);
            }
        }
        Some(deadline)
    }

    /// When the last packet is sent again to learn what is lost.
    fn repetition_due(&self) -> Option<Instant> {
        let pause = self.round_trip.probe_timeout().filter(|_| !self.has_repeated)?;
        (self.sending.under_way() > 0).then(|| self.progress + pause)
    }

    fn on_time(&mut self, now: Instant) {
        match self.stage {
            Stage::Ended(_) => return,
            Stage::Calling { next_syn, syns } => {
                if syns >= MAX_SYNS && now >= next_syn {
                    self.stage = Stage::Ended(UtpEnd::TimedOut);
                }
                return;
            }
            Stage::Lingering(until) if now >= until => {
                self.stage = Stage::Ended(UtpEnd::Closed);
                return;
            }
            Stage::Lingering(_) | Stage::Open => {}
        }
        if self.sending.is_waiting() {
            if now >= self.progress + self.timeout() {
                self.on_timeout(now);
            } else if self.repetition_due().is_some_and(|due| now >= due) {
                self.has_repeated = true;
                if self.sending.repeat_last() {
                    self.mtu.on_probe_lost(false);
                }
            }
        }
        if let Some((due, pause)) = self.repeat_window
            && now >= due
        {
            self.needs_ack = true;
            self.repeat_window = (pause <= MAX_WINDOW_REPETITION).then_some((now + pause, pause * 2));
        }
        if now >= self.last_sent + KEEP_ALIVE {
            self.needs_ack = true;
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        let patience = if self.peer_window == 0 { MAX_SILENCE_CLOSED } else { MAX_SILENCE };
        // Not at once: where this process was stopped, what the peer has said meanwhile is still to be read.
        if self.round_trip.timeouts() >= MIN_TIMEOUTS && now >= self.last_heard + patience {
            self.stage = Stage::Ended(UtpEnd::TimedOut);
            return;
        }
        (self.progress, self.has_repeated) = (now, true);
        self.round_trip.on_timeout();
        let under_way = self.sending.under_way();
        if self.sending.lose_all() {
            self.mtu.on_probe_lost(false);
        }
        if self.round_trip.timeouts() == BLACK_HOLE {
            self.mtu.on_black_hole();
        }
        if self.peer_window > 0 {
            let next = self.sending.next_order();
            self.congestion.on_timeout(under_way, next, self.packet_length());
        }
    }

    /// Our own system says that this packet is too long for the network; it goes out again, in parts.
    pub fn on_too_long(&mut self, number: u64) {
        self.sending.lose(number);
        self.mtu.on_probe_lost(true);
    }
}
