//! What has come: data in order, for the reader, and what waits for a packet before it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::packet::MAX_SELECTIVE_ACK;

/// Bytes that a connection has room for at the beginning.
pub(super) const FIRST_ROOM: usize = 256 << 10;

/// The same under a limit, if that is less, in seconds of its rate: what is not due stays with its sender, and one that is so far away can still use
/// all of it.
const ROOM_SECONDS: f64 = 0.125;

/// By which part of itself the room grows at the most: not twofold, for where it is what limits nobody sees how near the path's own bound is.
const STEP: usize = 2;

/// The same under a limit.
const LIMITED_STEP: usize = 8;

/// If each packet has waited longer than this before the bottleneck, the room stays as it is: all that the path carries comes already, and senders that
/// go by loss would fill the queue until it overflows (RFC 9840 has receivers watch the queue as LEDBAT has senders).
const MAX_QUEUING: Duration = Duration::from_millis(25);

/// What is under way to a reader under a limit while it reads, in round trips: a little more than one, for none is like the other.
const ROUND_TRIPS_UNDER_WAY: f64 = 1.5;

/// A connection has room for so many bytes at the least: some clients never send a packet for which there is not room in whole, and how long packets
/// may be is tried with a full one beside a short one.
const MIN_FIRST_ROOM: usize = 2 << 10;

/// Room for fewer bytes is told as none. It is a full packet of the Internet's usual length: for less a peer would send many short ones (the silly
/// windows of RFC 1122, 4.2.3.3), each with a header and an acknowledgement.
const MIN_WINDOW: usize = 1452;

/// Bytes that a connection has room for at the most: 1 Gbit/s for 130 ms.
const MAX_ROOM: usize = 16 << 20;

/// How far beyond the first packet that is missing others are kept, in packets: a quarter of the numbers that there are.
const MAX_AHEAD: u64 = 1 << 14;

/// The room grows if as many bytes are read in so many round trips.
const ROUND_TRIPS: u32 = 8;

/// The same where no round trip has been measured.
const UNMEASURED: Duration = Duration::from_millis(500);

/// What has become of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// It was the next one: there is more to read, or the end.
    Next,
    /// It waits for others.
    Waits,
    /// It had come before, or there is no room for it.
    Useless,
}

/// What is known of the way that packets come by.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct PathTimes {
    /// The shortest round trip.
    pub least: Option<Duration>,
    /// How long packets to us wait in queues now.
    pub queuing: Option<Duration>,
}

/// The receiving side of a connection.
#[derive(Debug)]
pub(super) struct Receiving {
    /// The number of the next packet in order.
    next: u64,
    /// Data in order that were not read yet.
    inbox: VecDeque<u8>,
    /// Packets beyond a gap, by number.
    waiting: BTreeMap<u64, Vec<u8>>,
    /// Bytes in `waiting`.
    waiting_bytes: usize,
    /// Bytes of `inbox` and `waiting`, at the most; one packet more where the next in order needs it.
    room: usize,
    /// What `room` was at the beginning.
    first_room: usize,
    /// Bytes a second that are read at the most, if they are limited.
    rate: Option<usize>,
    /// The number of the other side's FIN.
    fin: Option<u64>,
    /// Bytes that were read since, to see whether the room is what limits; and the least that packets have waited in queues meanwhile.
    read: usize,
    since: Option<Instant>,
    least_queuing: Option<Duration>,
}

impl Receiving {
    /// The first packet will have this number.
    pub(super) fn new(next: u64) -> Receiving {
        Receiving {
            next,
            inbox: VecDeque::new(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            room: FIRST_ROOM,
            first_room: FIRST_ROOM,
            rate: None,
            fin: None,
            read: 0,
            since: None,
            least_queuing: None,
        }
    }

    /// For a reader that takes at most so many bytes a second. Nothing has come yet.
    pub(super) fn with_rate(self, rate: Option<usize>) -> Receiving {
        let room = first_room(rate);
        Receiving { room, first_room: room, rate, ..self }
    }

    /// Bytes a second that are read at the most, if they are limited.
    pub(super) fn rate(&self) -> Option<usize> {
        self.rate
    }

    /// The number up to which everything has come.
    pub(super) fn acknowledged(&self) -> u64 {
        self.next - 1
    }

    /// A packet with a number of its own has come: DATA, or FIN.
    pub(super) fn on_packet(&mut self, number: u64, payload: &[u8], is_fin: bool) -> Arrival {
        let is_beyond_end = self.fin.is_some_and(|fin| number > fin);
        if number < self.next || number - self.next >= MAX_AHEAD || is_beyond_end {
            return Arrival::Useless;
        }
        if number > self.next {
            let fits = self.inbox.len() + self.waiting_bytes + payload.len() <= self.room;
            if !fits || self.waiting.contains_key(&number) {
                return Arrival::Useless;
            }
            self.note_fin(number, is_fin);
            self.waiting_bytes += payload.len();
            self.waiting.insert(number, payload.to_vec());
            return Arrival::Waits;
        }
        if self.inbox.len() >= self.room && !payload.is_empty() {
            return Arrival::Useless;
        }
        self.note_fin(number, is_fin);
        self.inbox.extend(payload);
        self.next += 1;
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() == self.next) {
            let payload = entry.remove();
            self.waiting_bytes -= payload.len();
            self.inbox.extend(&payload);
            self.next += 1;
        }
        Arrival::Next
    }

    /// What comes behind the end never was sent.
    fn note_fin(&mut self, number: u64, is_fin: bool) {
        if is_fin && self.fin.is_none() {
            self.fin = Some(number);
            for (_, payload) in self.waiting.split_off(&(number + 1)) {
                self.waiting_bytes -= payload.len();
            }
        }
    }

    /// Whether all has come, the end included, and been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.inbox.is_empty() && self.fin.is_some_and(|fin| self.next > fin)
    }

    /// Bytes that can be read.
    pub(super) fn readable(&self) -> usize {
        self.inbox.len()
    }

    /// Bytes that the other side is told there is room for.
    pub(super) fn window(&self) -> usize {
        let free = self.room.saturating_sub(self.inbox.len() + self.waiting_bytes);
        if free < MIN_WINDOW { 0 } else { free }
    }

    /// Takes data. The room may grow by what is `spare`, and takes it from there.
    pub(super) fn read(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        path: PathTimes,
        spare: &mut usize,
    ) -> usize {
        let (first, second) = self.inbox.as_slices();
        let from_first = first.len().min(buffer.len());
        buffer[..from_first].copy_from_slice(&first[..from_first]);
        let from_second = second.len().min(buffer.len() - from_first);
        buffer[from_first..from_first + from_second].copy_from_slice(&second[..from_second]);
        let count = from_first + from_second;
        self.inbox.drain(..count);
        if self.inbox.is_empty() && self.inbox.capacity() > 2 * FIRST_ROOM {
            self.inbox = VecDeque::new();
        }
        self.fit_room(now, count, path, spare);
        count
    }

    /// Nobody reads any more.
    pub(super) fn discard(&mut self) {
        self.inbox = VecDeque::new();
    }

    fn fit_room(&mut self, now: Instant, read: usize, path: PathTimes, spare: &mut usize) {
        let since = *self.since.get_or_insert(now);
        self.read += read;
        self.least_queuing = self.least_queuing.into_iter().chain(path.queuing).min();
        if self.read < self.room {
            return;
        }
        let horizon = path.least.map_or(UNMEASURED, |least| least * ROUND_TRIPS);
        let is_full = self.least_queuing.take().is_some_and(|queuing| queuing > MAX_QUEUING);
        let is_limit = !is_full && now.saturating_duration_since(since) <= horizon;
        // Under a limit little by little, for what it grows by comes beside what is due.
        let step = self.room / if self.rate.is_some() { LIMITED_STEP } else { STEP };
        let more = step.min(self.max_room(path.least).saturating_sub(self.room));
        if is_limit && more <= *spare {
            *spare -= more;
            self.room += more;
        }
        (self.read, self.since) = (0, Some(now));
    }

    /// Bytes that there may be room for: under a limit what is read while a packet comes that was asked for, and that packet.
    fn max_room(&self, least: Option<Duration>) -> usize {
        let seconds = ROUND_TRIPS_UNDER_WAY * least.unwrap_or_default().as_secs_f64();
        let limited = |rate: usize| MIN_WINDOW + (rate as f64 * seconds) as usize;
        self.rate.map_or(MAX_ROOM, |rate| limited(rate).min(MAX_ROOM))
    }

    /// Bytes of room that were taken from what was spare.
    pub(super) fn borrowed(&self) -> usize {
        self.room - self.first_room
    }

    /// Whether a packet is missing before others that have come.
    pub(super) fn has_gap(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes the bits of a selective acknowledgement; empty if there is no gap.
    pub(super) fn selective_ack(&self, bits: &mut Vec<u8>) {
        bits.clear();
        for number in self.waiting.keys() {
            // The first bit stands for the packet behind the first that is missing.
            let place = (number - self.next - 1) as usize;
            if place / 8 >= MAX_SELECTIVE_ACK {
                break;
            }
            if bits.len() <= place / 8 {
                bits.resize((place / 8 + 1).next_multiple_of(4), 0);
            }
            bits[place / 8] |= 1 << (place % 8);
        }
    }
}

/// Bytes that a connection has room for at the beginning, if at most so many a second are read.
pub(super) fn first_room(rate: Option<usize>) -> usize {
    let limited = |rate: usize| ((rate as f64 * ROOM_SECONDS) as usize).clamp(MIN_FIRST_ROOM, FIRST_ROOM);
    rate.map_or(FIRST_ROOM, limited)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(receiving: &mut Receiving) -> Vec<u8> {
        let mut buffer = vec![0; receiving.readable() + 10];
        let count = receiving.read(Instant::now(), &mut buffer, PathTimes::default(), &mut 0);
        buffer.truncate(count);
        buffer
    }

    #[test]
    fn packets_in_any_order_give_the_data_in_order_and_the_end() {
        let mut receiving = Receiving::new(100);
        assert_eq!(receiving.on_packet(102, b"c", false), Arrival::Waits);
        assert_eq!(receiving.on_packet(103, b"", true), Arrival::Waits);
        assert_eq!(receiving.on_packet(104, b"behind the end", false), Arrival::Useless);
        assert_eq!(receiving.on_packet(102, b"x", false), Arrival::Useless);
        assert_eq!(receiving.on_packet(100, b"a", false), Arrival::Next);
        assert_eq!((read_all(&mut receiving), receiving.is_at_end()), (b"a".to_vec(), false));
        assert_eq!(receiving.on_packet(101, b"b", false), Arrival::Next);
        assert_eq!((receiving.acknowledged(), receiving.is_at_end()), (103, false));
        assert_eq!((read_all(&mut receiving), receiving.is_at_end()), (b"bc".to_vec(), true));
        assert_eq!(receiving.on_packet(100, b"a", false), Arrival::Useless);
    }

    #[test]
    fn a_gap_is_told_by_bits_in_multiples_of_four_bytes() {
        let (mut receiving, mut bits) = (Receiving::new(1000), Vec::new());
        receiving.selective_ack(&mut bits);
        assert!(bits.is_empty());
        for number in [1001, 1003, 1009, 1033] {
            receiving.on_packet(number, b"x", false);
        }
        receiving.selective_ack(&mut bits);
        assert_eq!(bits, [0b101, 0b1, 0, 0, 0b1, 0, 0, 0]);
        receiving.on_packet(1000 + 9000, b"x", false);
        receiving.selective_ack(&mut bits);
        assert_eq!(bits.len(), 8);
        (1001..5000).for_each(|number| _ = receiving.on_packet(number, b"x", false));
        receiving.selective_ack(&mut bits);
        assert_eq!(bits, [0xff; MAX_SELECTIVE_ACK]);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_in_numbers() {
        let mut receiving = Receiving::new(100);
        for number in 101..100_000 {
            receiving.on_packet(number, &[7; 100], false);
        }
        assert!(receiving.waiting_bytes <= FIRST_ROOM && receiving.window() < 100);
        assert_eq!(receiving.on_packet(100, &[7; 1400], false), Arrival::Next, "it frees the others");
        let mut receiving = Receiving::new(100);
        (101..100_000).for_each(|number| _ = receiving.on_packet(number, b"", false));
        assert!(receiving.waiting.len() < MAX_AHEAD as usize);
    }

    #[test]
    fn nothing_is_taken_that_nobody_reads() {
        let mut receiving = Receiving::new(100);
        let came =
            (100..1000).filter(|&number| receiving.on_packet(number, &[7; 1000], false) == Arrival::Next);
        assert_eq!(came.count(), FIRST_ROOM.div_ceil(1000));
        assert_eq!(receiving.window(), 0);
        assert_eq!(receiving.on_packet(receiving.acknowledged() + 1, b"", true), Arrival::Next);
        read_all(&mut receiving);
        assert!(receiving.is_at_end());
    }

    #[test]
    fn room_grows_where_it_limits_and_as_far_as_there_is_any() {
        let (start, mut buffer) = (Instant::now(), vec![0; 64 << 10]);
        let mut room_after = |spare: &mut usize, pause: Duration, queuing: u64| {
            let (mut receiving, mut now) = (Receiving::new(100), start);
            let (least, queuing) = (Some(Duration::from_millis(100)), Some(Duration::from_millis(queuing)));
            for number in 100..10_000 {
                receiving.on_packet(number, &[7; 16 << 10], false);
                now += pause;
                while receiving.read(now, &mut buffer, PathTimes { least, queuing }, spare) > 0 {}
            }
            receiving.borrowed() + FIRST_ROOM
        };
        let (fast, slow) = (Duration::from_micros(100), Duration::from_millis(100));
        assert_eq!(room_after(&mut (64 << 20), fast, 10), MAX_ROOM);
        assert_eq!(room_after(&mut (300 << 10), fast, 10), 384 << 10);
        assert_eq!(room_after(&mut (64 << 20), slow, 10), FIRST_ROOM);
        assert_eq!(room_after(&mut (64 << 20), fast, 30), FIRST_ROOM, "the path is full");
    }

    #[test]
    fn under_a_limit_there_is_room_for_what_is_read_within_a_round_trip_and_little_more() {
        let first = [None, Some(1000), Some(100 << 10), Some(50 << 20)].map(first_room);
        assert_eq!(first, [FIRST_ROOM, MIN_FIRST_ROOM, 12_800, FIRST_ROOM]);
        let (mut buffer, mut now) = (vec![0; 64 << 10], Instant::now());
        let mut receiving = Receiving::new(100).with_rate(Some(100 << 10));
        for number in 100..1000 {
            receiving.on_packet(number, &[7; 1400], false);
            now += Duration::from_micros(100);
            let path = PathTimes { least: Some(Duration::from_millis(300)), queuing: None };
            while receiving.read(now, &mut buffer, path, &mut (64 << 20)) > 0 {}
        }
        let room = receiving.borrowed() + 12_800;
        assert!((47_000..=MIN_WINDOW + 46_080).contains(&room), "{room}");
    }

    #[test]
    fn room_for_less_than_a_packet_is_told_as_none() {
        let mut receiving = Receiving::new(100).with_rate(Some(1000));
        assert_eq!(receiving.window(), MIN_FIRST_ROOM);
        assert_eq!(receiving.on_packet(100, &[7; 1000], false), Arrival::Next);
        assert_eq!(receiving.window(), 0);
        let mut some = [0; 300];
        receiving.read(Instant::now(), &mut some, PathTimes::default(), &mut 0);
        assert_eq!(receiving.window(), 0);
        receiving.read(Instant::now(), &mut some, PathTimes::default(), &mut 0);
        assert_eq!(receiving.window(), MIN_FIRST_ROOM - 400);
    }
}
