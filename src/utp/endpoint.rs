//! All connections at one port: which packet is for which, and who may begin one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connection::{Connection, Stage, UtpEnd, WireClock};
use super::half_open::HalfOpens;
use super::packet::{Header, Packet, PacketKind};
use super::receiving::first_room;

/// Connections that there may be, calls and those that end included; further callers get no answer.
const MAX_CONNECTIONS: usize = 1024;

/// Callers that wait to be taken; further ones are not heard until one is.
const MAX_QUEUED_CALLERS: usize = 64;

/// Connections that the user has closed and that go on sending what waits; of more, the oldest are given up.
const MAX_LINGERING: usize = 128;

/// Answers that wait to be sent to those who have no connection; further ones are not given.
const MAX_ANSWERS: usize = 128;

/// Packets for which there is no connection that are answered in a second: by a RESET, or to a SYN.
const MAX_ANSWERS_A_SECOND: u32 = 1000;

/// Bytes that all connections together may have room for beyond what each begins with.
const SPARE_ROOM: usize = 64 << 20;

/// Packets of one connection before others have their turn.
const TURN: u32 = 64;

/// Names a connection, and never another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UtpKey(u64);

/// A packet that is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UtpPacket {
    /// Where to.
    pub to: SocketAddr,
    /// It may be cut on its way.
    pub may_fragment: bool,
    /// What [`UtpEndpoint::on_too_long`] is told if it is too long for our own network; `None`: it is not long.
    pub long: Option<(UtpKey, u64)>,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    /// When it is looked at next though nothing happens.
    scheduled: Option<Instant>,
    /// It may have something to send.
    is_ready: bool,
    /// Something has happened to it that its user was not told of.
    is_changed: bool,
    /// Its user has closed it.
    is_closed: bool,
    /// Packets that it has sent in this turn.
    turn: u32,
}

/// All connections at one port: see the module's head.
#[derive(Debug)]
pub struct UtpEndpoint {
    clock: WireClock,
    rng: fastrand::Rng,
    entries: BTreeMap<UtpKey, Entry>,
    /// By the other end, and the number that its packets bear.
    by_id: HashMap<(SocketAddr, u16), UtpKey>,
    last_key: u64,
    half_open: HalfOpens,
    /// Callers that are to be taken; at most [`MAX_QUEUED_CALLERS`].
    callers: VecDeque<UtpKey>,
    /// Those with `is_ready`.
    ready: VecDeque<UtpKey>,
    /// Those with `is_changed`.
    changed: VecDeque<UtpKey>,
    /// Those with `scheduled`.
    timers: BTreeSet<(Instant, UtpKey)>,
    /// Those with `is_closed`, the oldest first, and others that are gone; at most [`MAX_LINGERING`].
    lingering: VecDeque<UtpKey>,
    /// At most [`MAX_ANSWERS`].
    answers: VecDeque<(SocketAddr, Header)>,
    /// Since when answers are counted, and how many there were.
    answered: (Instant, u32),
    /// Bytes a second that are read at the most, if they are limited.
    rate: Option<usize>,
    /// What is left of [`SPARE_ROOM`].
    spare: usize,
}

impl UtpEndpoint {
    /// Without any connection. `seed` decides all random choices.
    pub fn new(now: Instant, seed: u64) -> UtpEndpoint {
        let mut rng = fastrand::Rng::with_seed(seed);
        UtpEndpoint {
            clock: WireClock { began: now, offset: rng.u32(..) },
            rng,
            entries: BTreeMap::new(),
            by_id: HashMap::new(),
            last_key: 0,
            half_open: HalfOpens::default(),
            callers: VecDeque::new(),
            ready: VecDeque::new(),
            changed: VecDeque::new(),
            timers: BTreeSet::new(),
            lingering: VecDeque::new(),
            answers: VecDeque::new(),
            answered: (now, 0),
            rate: None,
            spare: SPARE_ROOM,
        }
    }

    /// From all connections together at most so many bytes a second are read: those that begin from now on have room for no more than that needs,
    /// for what is not due is to stay with its sender.
    pub fn set_rate(&mut self, bytes_a_second: usize) {
        self.rate = Some(bytes_a_second);
    }

    /// Calls somebody. `None`: there are too many connections.
    pub fn call(&mut self, now: Instant, address: SocketAddr) -> Option<UtpKey> {
        if self.entries.len() >= MAX_CONNECTIONS {
            return None;
        }
        // Peers know it by the next number.
        let free = |id: &u16| !self.by_id.contains_key(&(address, *id));
        let receive = std::iter::repeat_with(|| self.rng.u16(..)).take(64).find(free)?;
        let connection = Connection::call(now, address, receive, self.rng.u16(..), self.clock);
        Some(self.add(connection))
    }

    /// The next caller.
    pub fn accept(&mut self) -> Option<(UtpKey, SocketAddr)> {
        loop {
            let key = self.callers.pop_front()?;
            if let Some(connection) = self.get(key) {
                return Some((key, connection.address()));
            }
        }
    }

    /// A connection that was not closed.
    pub fn get(&self, key: UtpKey) -> Option<&Connection> {
        self.entries.get(&key).map(|entry| &entry.connection)
    }

    fn add(&mut self, connection: Connection) -> UtpKey {
        let connection = connection.with_rate(self.rate);
        self.last_key += 1;
        let key = UtpKey(self.last_key);
        self.by_id.insert((connection.address, connection.ids.receive), key);
        let entry = Entry {
            connection,
            scheduled: None,
            is_ready: false,
            is_changed: false,
            is_closed: false,
            turn: 0,
        };
        self.entries.insert(key, entry);
        self.touch(key);
        key
    }

    /// It may have something to send, or to tell.
    fn touch(&mut self, key: UtpKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if !std::mem::replace(&mut entry.is_ready, true) {
            self.ready.push_back(key);
        }
    }

    fn change(&mut self, key: UtpKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if !std::mem::replace(&mut entry.is_changed, true) {
            self.changed.push_back(key);
        }
    }

    /// A connection to which something has happened since it was named last: it may have become readable or writable, or have ended.
    pub fn poll_changed(&mut self) -> Option<UtpKey> {
        loop {
            let key = self.changed.pop_front()?;
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.is_changed = false;
                return Some(key);
            }
        }
    }

    /// See [`Connection::read`].
    pub fn read(&mut self, now: Instant, key: UtpKey, buffer: &mut [u8]) -> Result<Option<usize>, UtpEnd> {
        let entry = self.entries.get_mut(&key).ok_or(UtpEnd::Closed)?;
        let result = entry.connection.read(now, buffer, &mut self.spare);
        if entry.connection.needs_ack {
            self.touch(key);
        }
        result
    }

    /// See [`Connection::write`].
    pub fn write(&mut self, key: UtpKey, data: &[u8]) -> Result<usize, UtpEnd> {
        let entry = self.entries.get_mut(&key).ok_or(UtpEnd::Closed)?;
        let result = entry.connection.write(data);
        self.touch(key);
        result
    }

    /// The user is done with it: what was written is sent for a while yet. The name means nothing from now on.
    pub fn close(&mut self, now: Instant, key: UtpKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.is_closed = true;
        entry.connection.close(now);
        self.lingering.push_back(key);
        self.touch(key);
        self.forget_if_over(key);
        if self.lingering.len() > MAX_LINGERING
            && let Some(oldest) = self.lingering.pop_front()
        {
            self.forget(oldest);
        }
    }

    fn forget_if_over(&mut self, key: UtpKey) {
        let Some(entry) = self.entries.get(&key) else { return };
        let Stage::Ended(_) = entry.connection.stage else { return };
        let place = (entry.connection.address, entry.connection.ids.receive);
        if self.by_id.get(&place) == Some(&key) {
            self.by_id.remove(&place);
        }
        if entry.is_closed {
            self.forget(key);
        } else {
            self.change(key);
        }
    }

    fn forget(&mut self, key: UtpKey) {
        let Some(entry) = self.entries.remove(&key) else { return };
        let place = (entry.connection.address, entry.connection.ids.receive);
        if self.by_id.get(&place) == Some(&key) {
            self.by_id.remove(&place);
        }
        if let Some(scheduled) = entry.scheduled {
            self.timers.remove(&(scheduled, key));
        }
        self.spare += entry.connection.receiving.borrowed();
    }

    /// A datagram has come. What is no packet of uTP is ignored.
    pub fn on_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(packet) = Packet::decode(datagram) else { return };
        let id = packet.header.connection_id;
        match packet.header.kind {
            PacketKind::Reset => {
                if let Some(key) = self.named_by_reset(from, id) {
                    self.give(now, key, &packet);
                }
            }
            PacketKind::Syn => match self.by_id.get(&(from, id.wrapping_add(1))) {
                Some(&key) => self.give(now, key, &packet),
                None => self.on_syn(now, from, &packet.header),
            },
            PacketKind::Data | PacketKind::Fin | PacketKind::State => {
                match self.by_id.get(&(from, id)).copied().or_else(|| self.confirm(now, from, &packet.header))
                {
                    Some(key) => self.give(now, key, &packet),
                    None => self.reset(now, from, &packet.header),
                }
            }
        }
    }

    fn give(&mut self, now: Instant, key: UtpKey, packet: &Packet<'_>) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.connection.on_packet(now, packet);
        if !entry.is_changed {
            entry.is_changed = true;
            self.changed.push_back(key);
        }
        if !entry.is_ready {
            entry.is_ready = true;
            self.ready.push_back(key);
        }
        if entry.connection.end().is_some() {
            self.forget_if_over(key);
        }
    }

    /// A RESET bears the number of the packets that it answers, or that of its sender's.
    fn named_by_reset(&self, from: SocketAddr, id: u16) -> Option<UtpKey> {
        let places = [id, id.wrapping_sub(1), id.wrapping_add(1)];
        places.into_iter().filter_map(|receive| self.by_id.get(&(from, receive))).copied().find(|key| {
            self.get(*key)
                .is_some_and(|connection| [connection.ids.receive, connection.ids.send].contains(&id))
        })
    }

    fn on_syn(&mut self, now: Instant, from: SocketAddr, header: &Header) {
        if self.entries.len() >= MAX_CONNECTIONS || self.callers.len() >= MAX_QUEUED_CALLERS {
            return;
        }
        let fresh = self.rng.u16(..);
        let seq_nr = self.half_open.on_syn(now, (from, header.connection_id), header.seq_nr, fresh);
        let answer = Header {
            kind: PacketKind::State,
            connection_id: header.connection_id,
            timestamp: 0,
            timestamp_difference: self.clock.at(now).wrapping_sub(header.timestamp).max(1),
            wnd_size: first_room(self.rate) as u32,
            seq_nr,
            ack_nr: header.seq_nr,
        };
        self.answer(now, from, answer);
    }

    /// The first packet of a caller that has seen our answer makes a connection of its call.
    fn confirm(&mut self, now: Instant, from: SocketAddr, header: &Header) -> Option<UtpKey> {
        let call = (from, header.connection_id.wrapping_sub(1));
        let known = self.half_open.get(now, call)?;
        let is_full = self.entries.len() >= MAX_CONNECTIONS || self.callers.len() >= MAX_QUEUED_CALLERS;
        if header.ack_nr != known.seq_nr.wrapping_sub(1) || is_full {
            return None;
        }
        self.half_open.remove(call);
        let numbers = (known.syn, known.seq_nr);
        let key = self.add(Connection::answer(now, from, call.1, numbers, self.clock));
        self.callers.push_back(key);
        Some(key)
    }

    fn reset(&mut self, now: Instant, from: SocketAddr, header: &Header) {
        // A call that is not confirmed yet may have been answered with another number.
        if self.half_open.get(now, (from, header.connection_id.wrapping_sub(1))).is_some() {
            return;
        }
        // A STATE bears the number of what comes next.
        let is_state = header.kind == PacketKind::State;
        let answer = Header {
            kind: PacketKind::Reset,
            connection_id: header.connection_id,
            timestamp: 0,
            timestamp_difference: 0,
            wnd_size: 0,
            seq_nr: self.rng.u16(..),
            ack_nr: header.seq_nr.wrapping_sub(is_state.into()),
        };
        self.answer(now, from, answer);
    }

    fn answer(&mut self, now: Instant, to: SocketAddr, header: Header) {
        if now.saturating_duration_since(self.answered.0) >= Duration::from_secs(1) {
            self.answered = (now, 0);
        }
        if self.answered.1 < MAX_ANSWERS_A_SECOND && self.answers.len() < MAX_ANSWERS {
            self.answered.1 += 1;
            self.answers.push_back((to, header));
        }
    }

    /// Appends the next packet to `out`, if one is to be sent now.
    pub fn poll_packet(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<UtpPacket> {
        if let Some((to, header)) = self.answers.pop_front() {
            Header { timestamp: self.clock.at(now), ..header }.encode_into(&[], out);
            return Some(UtpPacket { to, may_fragment: false, long: None });
        }
        self.take_due(now);
        while let Some(&key) = self.ready.front() {
            let Some(entry) = self.entries.get_mut(&key) else {
                self.ready.pop_front();
                continue;
            };
            if let Some(outbound) = entry.connection.poll_packet(now, out) {
                let to = entry.connection.address;
                let long = outbound.number.map(|number| (key, number));
                entry.turn += 1;
                if entry.turn == TURN {
                    entry.turn = 0;
                    self.ready.rotate_left(1);
                }
                return Some(UtpPacket { to, may_fragment: outbound.may_fragment, long });
            }
            (entry.is_ready, entry.turn) = (false, 0);
            self.ready.pop_front();
            self.schedule(key);
            self.forget_if_over(key);
        }
        None
    }

    /// Those whose time has come are looked at.
    fn take_due(&mut self, now: Instant) {
        while let Some(&(due, key)) = self.timers.first().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, key));
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.scheduled = None;
            }
            self.touch(key);
        }
    }

    /// A time that has moved further away is left: then it is seen that nothing is due, and when something is.
    fn schedule(&mut self, key: UtpKey) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(deadline) = entry.connection.deadline() else { return };
        if entry.scheduled.is_some_and(|scheduled| scheduled <= deadline) {
            return;
        }
        if let Some(scheduled) = entry.scheduled.replace(deadline) {
            self.timers.remove(&(scheduled, key));
        }
        self.timers.insert((deadline, key));
    }

    /// Our own system says that a packet is too long for the network: what [`UtpPacket::long`] named.
    pub fn on_too_long(&mut self, (key, number): (UtpKey, u64)) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.connection.on_too_long(number);
            self.touch(key);
        }
    }

    /// Whether [`UtpEndpoint::poll_packet`] may have something to send now.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.answers.is_empty()
    }

    /// When [`UtpEndpoint::poll_packet`] has something to do though nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Whether there is no connection at all.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.by_id.is_empty() && self.timers.is_empty()
    }

    /// Calls that are remembered and not confirmed.
    #[cfg(test)]
    pub(super) fn num_half_open(&self) -> usize {
        self.half_open.len()
    }
}
