//! What is sent: data that the writer gave, the packets that they went out in, and which of these are lost.
//!
//! A packet keeps its number and its data for good: it is sent again as it was. Lost is what others have overtaken (as in RFC 8985, by the order
//! of sending and not by numbers, so that a resend that is lost is noticed as well).

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// So many later packets that have come are the sign of a loss.
const FIRST_REORDERING: u64 = 3;

/// The same at the most, on a path that reorders.
const MAX_REORDERING: u64 = 256;

/// Packets that are not acknowledged: a quarter of the numbers that there are.
const MAX_PACKETS: usize = 1 << 14;

/// Data that may always wait.
const MIN_BUFFER: usize = 64 << 10;

/// Data that may wait and be under way at the most: 1 Gbit/s for a quarter of a second.
const MAX_BUFFER: usize = 32 << 20;

/// Where a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whereabouts {
    UnderWay,
    Arrived,
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    /// The place of its data in the stream, and how long they are.
    offset: u64,
    length: usize,
    is_fin: bool,
    whereabouts: Whereabouts,
    /// When it was sent last, and as which of all.
    at: Instant,
    order: u64,
    /// How often.
    times: u32,
    /// It was sent to learn whether one of its length passes.
    is_probe: bool,
}

/// A packet to be sent now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ToSend {
    /// Its number.
    pub number: u64,
    /// Bytes of data.
    pub length: usize,
    /// It is the last one.
    pub is_fin: bool,
    offset: u64,
}

/// What an acknowledgement has brought.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Acknowledged {
    /// Bytes of data that were not known to have arrived.
    pub bytes: usize,
    /// Bytes that were under way before.
    pub under_way: usize,
    /// Whether any packet was not known to have arrived.
    pub is_progress: bool,
    /// How long the newest of them took; `None`: they had been sent more than once.
    pub round_trip: Option<Duration>,
    /// The latest sent of the packets that are lost, in the order of sending.
    pub lost: Option<u64>,
    /// What counted as lost was late.
    pub was_late: bool,
    /// The probe of the path has arrived, or is lost.
    pub probe: Option<bool>,
}

/// The sending side of a connection.
#[derive(Debug)]
pub(super) struct Sending {
    /// Data from the first that is not acknowledged on.
    buffer: VecDeque<u8>,
    /// The place of the first of them in the stream.
    start: u64,
    /// The place of the first that was never sent.
    unsent: u64,
    /// Packets that are not acknowledged, in the order of their numbers; at most [`MAX_PACKETS`].
    packets: VecDeque<Sent>,
    /// The number of the first of them, or of the next one.
    first: u64,
    /// The lost ones, by number.
    lost: BTreeSet<u64>,
    /// Bytes under way.
    under_way: usize,
    /// The next that is sent is so manieth of all.
    next_order: u64,
    /// The latest, in the order of sending, that has arrived.
    newest_arrived: u64,
    /// The highest number that has arrived, plus one.
    arrived_until: u64,
    /// So many later packets that have come are the sign of a loss.
    reordering: u64,
    /// After the data comes the end.
    wants_fin: bool,
    has_fin: bool,
}

impl Sending {
    /// The first packet will have this number.
    pub(super) fn new(first: u64) -> Sending {
        Sending {
            buffer: VecDeque::new(),
            start: 0,
            unsent: 0,
            packets: VecDeque::new(),
            first,
            lost: BTreeSet::new(),
            under_way: 0,
            next_order: 1,
            newest_arrived: 0,
            arrived_until: first,
            reordering: FIRST_REORDERING,
            wants_fin: false,
            has_fin: false,
        }
    }

    /// Bytes that [`Sending::write`] takes now, with a window of so many.
    pub(super) fn room(&self, window: usize) -> usize {
        let limit = (2 * window).clamp(MIN_BUFFER, MAX_BUFFER);
        if self.wants_fin { 0 } else { limit.saturating_sub(self.buffer.len()) }
    }

    /// Takes data as far as there is room.
    pub(super) fn write(&mut self, data: &[u8], window: usize) -> usize {
        let count = data.len().min(self.room(window));
        self.buffer.extend(&data[..count]);
        count
    }

    /// No more is written.
    pub(super) fn finish(&mut self) {
        self.wants_fin = true;
    }

    /// Whether all was acknowledged, the end included.
    pub(super) fn is_done(&self) -> bool {
        self.has_fin && self.packets.is_empty()
    }

    /// Whether anything is sent and not acknowledged.
    pub(super) fn is_waiting(&self) -> bool {
        !self.packets.is_empty()
    }

    /// Bytes under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Bytes that were never sent.
    pub(super) fn unsent(&self) -> usize {
        (self.start + self.buffer.len() as u64 - self.unsent) as usize
    }

    /// The number of the next new packet.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    /// The number up to which everything is acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.first - 1
    }

    /// As which of all the next packet is sent.
    pub(super) fn next_order(&self) -> u64 {
        self.next_order
    }

    /// The first packet that is lost.
    pub(super) fn first_lost(&self) -> Option<ToSend> {
        let number = *self.lost.first()?;
        let sent = self.packets.get((number - self.first) as usize)?;
        Some(ToSend { number, length: sent.length, is_fin: sent.is_fin, offset: sent.offset })
    }

    /// A new packet of at most so many bytes of data; the end, if there are no data left.
    pub(super) fn next_new(&self, most: usize) -> Option<ToSend> {
        let length = self.unsent().min(most);
        let is_fin = self.unsent() == 0 && self.wants_fin && !self.has_fin;
        let number = self.next_number();
        let is_something = (length > 0 || is_fin) && self.packets.len() < MAX_PACKETS;
        is_something.then_some(ToSend { number, length, is_fin, offset: self.unsent })
    }

    /// Appends the data of a packet.
    pub(super) fn copy(&self, packet: &ToSend, out: &mut Vec<u8>) {
        let at = (packet.offset - self.start) as usize;
        let (first, second) = self.buffer.as_slices();
        let from_first = first.get(at..).unwrap_or_default();
        let from_first = &from_first[..from_first.len().min(packet.length)];
        out.extend_from_slice(from_first);
        let rest = packet.length - from_first.len();
        let begin = at.saturating_sub(first.len());
        out.extend_from_slice(&second[begin..begin + rest]);
    }

    /// The packet goes out now.
    pub(super) fn on_sent(&mut self, now: Instant, packet: &ToSend, is_probe: bool) {
        let order = self.next_order;
        self.next_order += 1;
        self.under_way += packet.length;
        if packet.number == self.next_number() {
            self.unsent += packet.length as u64;
            self.has_fin |= packet.is_fin;
            let &ToSend { offset, length, is_fin, .. } = packet;
            let whereabouts = Whereabouts::UnderWay;
            self.packets.push_back(Sent {
                offset,
                length,
                is_fin,
                whereabouts,
                at: now,
                order,
                times: 1,
                is_probe,
            });
            return;
        }
        self.lost.remove(&packet.number);
        if let Some(sent) = self.packets.get_mut((packet.number - self.first) as usize) {
            sent.whereabouts = Whereabouts::UnderWay;
            (sent.at, sent.order, sent.is_probe) = (now, order, false);
            sent.times += 1;
        }
    }

    /// Everything up to `number` has arrived, and what the bits say beyond it; `least` is the shortest round trip.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        number: u64,
        bits: &[u8],
        least: Option<Duration>,
    ) -> Acknowledged {
        let mut result = Acknowledged { under_way: self.under_way, ..Acknowledged::default() };
        let mut newest = None;
        while self.first <= number && !self.packets.is_empty() {
            self.arrive(now, 0, least, &mut newest, &mut result);
            if let Some(sent) = self.packets.pop_front() {
                self.buffer.drain(..sent.length);
                self.start += sent.length as u64;
                self.first += 1;
            }
        }
        self.arrived_until = self.arrived_until.max(self.first);
        // The first bit stands for the packet behind the first that is missing.
        for (place, byte) in bits.iter().enumerate().filter(|(_, byte)| **byte != 0) {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                let sacked = number + 2 + (place * 8 + bit) as u64;
                let Some(index) = sacked.checked_sub(self.first).map(|index| index as usize) else {
                    continue;
                };
                if index < self.packets.len() {
                    self.arrive(now, index, least, &mut newest, &mut result);
                    self.arrived_until = self.arrived_until.max(sacked + 1);
                }
            }
        }
        result.round_trip = newest.map(|(_, took)| took);
        if result.is_progress {
            self.find_lost(&mut result);
        }
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * MIN_BUFFER {
            self.buffer = VecDeque::new();
        }
        result
    }

    fn arrive(
        &mut self,
        now: Instant,
        index: usize,
        least: Option<Duration>,
        newest: &mut Option<(u64, Duration)>,
        result: &mut Acknowledged,
    ) {
        let sent = &mut self.packets[index];
        let before = std::mem::replace(&mut sent.whereabouts, Whereabouts::Arrived);
        if before == Whereabouts::Arrived {
            return;
        }
        result.is_progress = true;
        result.bytes += sent.length;
        if sent.is_probe {
            result.probe = Some(true);
        }
        let took = now.saturating_duration_since(sent.at);
        // Sooner than a round trip after it was sent again: the answer is to the first one.
        let is_late =
            before == Whereabouts::Lost || (sent.times > 1 && least.is_some_and(|least| took < least));
        if before == Whereabouts::UnderWay {
            self.under_way -= sent.length;
        } else {
            self.lost.remove(&(self.first + index as u64));
        }
        if is_late {
            result.was_late = true;
            self.reordering = (self.reordering * 2).min(MAX_REORDERING);
            return;
        }
        if sent.times == 1 && newest.is_none_or(|(order, _)| sent.order > order) {
            *newest = Some((sent.order, took));
        }
        self.newest_arrived = self.newest_arrived.max(sent.order);
    }

    fn find_lost(&mut self, result: &mut Acknowledged) {
        let overtaken = (self.arrived_until - self.first) as usize;
        for (index, sent) in self.packets.iter_mut().take(overtaken).enumerate() {
            if sent.whereabouts != Whereabouts::UnderWay || sent.order + self.reordering > self.newest_arrived
            {
                continue;
            }
            sent.whereabouts = Whereabouts::Lost;
            self.under_way -= sent.length;
            self.lost.insert(self.first + index as u64);
            if std::mem::take(&mut sent.is_probe) {
                result.probe = Some(false);
            } else {
                result.lost = result.lost.max(Some(sent.order));
            }
        }
    }

    /// Nothing has been acknowledged for long: what is under way is lost. Says whether the probe of the path was among it.
    pub(super) fn lose_all(&mut self) -> bool {
        let mut had_probe = false;
        for (index, sent) in self.packets.iter_mut().enumerate() {
            if sent.whereabouts == Whereabouts::UnderWay {
                sent.whereabouts = Whereabouts::Lost;
                self.lost.insert(self.first + index as u64);
                had_probe |= std::mem::take(&mut sent.is_probe);
            }
        }
        self.under_way = 0;
        had_probe
    }

    /// The packet of this number never left, for it is too long.
    pub(super) fn lose(&mut self, number: u64) {
        let Some(index) = number.checked_sub(self.first) else { return };
        let Some(sent) = self.packets.get_mut(index as usize) else { return };
        if sent.whereabouts == Whereabouts::UnderWay {
            sent.whereabouts = Whereabouts::Lost;
            sent.is_probe = false;
            self.under_way -= sent.length;
            self.lost.insert(number);
        }
    }

    /// The last packet under way is to be sent again, for what its acknowledgement says of the others.
    pub(super) fn repeat_last(&mut self) -> bool {
        let last = self.packets.iter().rposition(|sent| sent.whereabouts == Whereabouts::UnderWay);
        let Some(index) = last else { return false };
        let is_probe = self.packets[index].is_probe;
        self.lose(self.first + index as u64);
        is_probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Option<Duration> = Some(Duration::from_millis(50));

    struct Sender {
        now: Instant,
        sending: Sending,
    }

    impl Sender {
        /// Sends so many packets of 100 bytes.
        fn with(packets: u8) -> Sender {
            let (now, mut sending) = (Instant::now(), Sending::new(1000));
            for number in 0..packets {
                assert_eq!(sending.write(&[number; 100], 1 << 20), 100);
                let packet = sending.next_new(100).unwrap();
                sending.on_sent(now, &packet, false);
            }
            Sender { now, sending }
        }

        fn ack(&mut self, number: u64, bits: &[u8]) -> Acknowledged {
            self.now += Duration::from_millis(60);
            self.sending.on_ack(self.now, number, bits, LEAST)
        }

        /// Sends what is lost; gives the numbers.
        fn resend(&mut self) -> Vec<u64> {
            let mut numbers = Vec::new();
            while let Some(packet) = self.sending.first_lost() {
                let mut data = Vec::new();
                self.sending.copy(&packet, &mut data);
                assert_eq!(data, [(packet.number - 1000) as u8; 100]);
                self.sending.on_sent(self.now, &packet, false);
                numbers.push(packet.number);
            }
            numbers
        }
    }

    #[test]
    fn what_three_later_ones_have_overtaken_is_lost_and_sent_again() {
        let mut sender = Sender::with(10);
        let none = sender.ack(1001, &[]);
        assert_eq!((none.bytes, none.round_trip, none.lost), (200, Some(Duration::from_millis(60)), None));
        // 1003 and 1004 have come, and 1002 has not.
        assert_eq!(sender.ack(1001, &[0b011, 0, 0, 0]).lost, None);
        assert_eq!(sender.ack(1001, &[0b111, 0, 0, 0]).lost, Some(3));
        assert_eq!(sender.resend(), [1002]);
        // The resend is lost, too: four that were sent after it have come.
        for number in 10..14 {
            sender.sending.write(&[number; 100], 1 << 20);
            let packet = sender.sending.next_new(100).unwrap();
            sender.sending.on_sent(sender.now, &packet, false);
        }
        assert!(sender.ack(1001, &[0xff, 0b1111, 0, 0]).lost.is_some());
        assert_eq!(sender.resend(), [1002]);
        let all = sender.ack(1013, &[]);
        assert!(all.is_progress && all.round_trip.is_none());
        assert_eq!((sender.sending.under_way(), sender.sending.is_waiting()), (0, false));
    }

    #[test]
    fn what_comes_late_makes_it_more_patient() {
        let mut sender = Sender::with(40);
        assert!(sender.ack(999, &[0b111, 0, 0, 0]).lost.is_some());
        let late = sender.ack(1003, &[]);
        assert!(late.was_late && sender.resend().is_empty());
        assert_eq!(sender.ack(1003, &[0b11111, 0, 0, 0]).lost, None);
        assert!(sender.ack(1003, &[0b111111, 0, 0, 0]).lost.is_some());
    }

    #[test]
    fn an_end_comes_after_the_data_and_once() {
        let mut sender = Sender::with(2);
        sender.sending.write(b"rest", 1 << 20);
        sender.sending.finish();
        assert_eq!(sender.sending.write(b"more", 1 << 20), 0);
        let rest = sender.sending.next_new(100).unwrap();
        assert_eq!((rest.length, rest.is_fin), (4, false));
        sender.sending.on_sent(sender.now, &rest, false);
        let fin = sender.sending.next_new(100).unwrap();
        assert_eq!((fin.length, fin.is_fin, fin.number), (0, true, 1003));
        sender.sending.on_sent(sender.now, &fin, false);
        assert_eq!(sender.sending.next_new(100), None);
        sender.ack(1002, &[]);
        assert!(!sender.sending.is_done());
        sender.ack(1003, &[]);
        assert!(sender.sending.is_done());
    }

    #[test]
    fn after_a_timeout_everything_is_sent_again() {
        let mut sender = Sender::with(5);
        sender.ack(1000, &[0b10, 0, 0, 0]);
        sender.sending.lose_all();
        assert_eq!(sender.sending.under_way(), 0);
        assert_eq!(sender.resend(), [1001, 1002, 1004]);
        assert_eq!(sender.sending.under_way(), 300);
        sender.sending.repeat_last();
        assert_eq!(sender.resend(), [1004]);
    }

    #[test]
    fn bits_for_what_was_never_sent_mean_nothing() {
        let mut sender = Sender::with(3);
        let ack = sender.ack(999, &[0xff; 252]);
        assert_eq!((ack.bytes, ack.lost), (200, None));
        assert_eq!(sender.sending.under_way(), 100);
        let again = sender.ack(999, &[0xff; 252]);
        assert!(!again.is_progress && again.lost.is_none());
    }

    #[test]
    fn no_more_is_taken_than_twice_the_window() {
        let mut sending = Sending::new(1000);
        assert_eq!(sending.write(&vec![0; 1 << 20], 1), MIN_BUFFER);
        assert_eq!(sending.write(&vec![0; 1 << 20], 128 << 10), (256 << 10) - MIN_BUFFER);
        assert_eq!(sending.write(&vec![0; 64 << 20], usize::MAX / 2), MAX_BUFFER - (256 << 10));
    }
}
