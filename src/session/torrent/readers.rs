//! Those who read a torrent's files while they come: where each of them is, and which piece it waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use super::life::Life;
use super::{Activity, Torrent};
use crate::ids::ReaderKey;
use crate::layout::{FileIndex, Layout, PieceIndex};
use crate::session::context::Context;
use crate::storage::Storage;
use crate::swarm::{Input, Order, window_length};

/// What becomes of the wait for a piece.
#[derive(Debug)]
pub(crate) enum PieceAccess {
    /// It is verified, and can be read here.
    There(Arc<Storage>),
    /// It is not there, and does not come: no file that it is in is wanted.
    NotWanted,
    /// It is not there, and does not come: the torrent has ended, for this reason.
    Ended(String),
}

/// All who read.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// Where each is, the one that has moved last in the end. As many as the user has made.
    places: Vec<ReadingPlace>,
    /// Each reader waits for one piece at the most.
    waiting: Vec<(PieceIndex, SyncSender<PieceAccess>)>,
    /// Whether anybody reads, for the threads of a check: they tell of each piece only if somebody wants to know.
    is_any: Arc<AtomicBool>,
}

/// Where somebody reads.
#[derive(Debug)]
struct ReadingPlace {
    reader: ReaderKey,
    /// The piece that it reads from.
    next: PieceIndex,
    /// The first piece that its file has nothing in.
    end: u32,
}

impl Readers {
    /// The order in which pieces are begun for them: of several, for the one that has moved last.
    fn order(&self, layout: &Layout) -> Option<Order> {
        let place = self.places.last()?;
        let length = window_length(layout).min(place.end.saturating_sub(place.next.0));
        Some(Order::Window { next: place.next, length })
    }

    /// Whether anybody reads; changes with it.
    pub(super) fn is_any(&self) -> Arc<AtomicBool> {
        self.is_any.clone()
    }

    /// Puts a reader at a piece. False if it is there already, and nobody has moved since.
    fn put(&mut self, reader: ReaderKey, next: PieceIndex) -> bool {
        let Some(at) = self.places.iter().position(|place| place.reader == reader) else { return false };
        let is_last = at + 1 == self.places.len();
        let before = std::mem::replace(&mut self.places[at].next, next);
        self.places[at..].rotate_left(1);
        before != next || !is_last
    }
}

impl Torrent {
    /// The order in which pieces are begun: as readers need it, else as the user has it.
    pub(super) fn order(&self) -> Order {
        self.readers.order(self.layout()).unwrap_or(self.options.order)
    }

    /// Somebody is going to read a file from its beginning. `None` if there is no such file, or it is not known which there are.
    pub(crate) fn open_reader(
        &mut self,
        now: Instant,
        file: FileIndex,
        context: &mut Context,
    ) -> Option<ReaderKey> {
        let is_there = (file.0 as usize) < self.layout().files().len();
        let pieces = is_there.then(|| self.layout().pieces_of_file(file))?;
        let reader = context.counter.reader();
        self.readers.places.push(ReadingPlace { reader, next: PieceIndex(pieces.start), end: pieces.end });
        self.readers.is_any.store(true, Ordering::Relaxed);
        self.follow_readers(now);
        Some(reader)
    }

    /// A reader goes on from this piece.
    pub(crate) fn move_reader(&mut self, now: Instant, reader: ReaderKey, piece: PieceIndex) {
        if self.readers.put(reader, piece) {
            self.follow_readers(now);
        }
    }

    /// A reader needs a piece: it is told once that is there, or does not come any more.
    pub(crate) fn await_piece(
        &mut self,
        now: Instant,
        reader: ReaderKey,
        piece: PieceIndex,
        reply: SyncSender<PieceAccess>,
    ) {
        self.move_reader(now, reader, piece);
        if self.layout().contains(piece) {
            self.readers.waiting.push((piece, reply));
        }
    }

    /// A reader is gone.
    pub(crate) fn close_reader(&mut self, now: Instant, reader: ReaderKey) {
        self.readers.places.retain(|place| place.reader != reader);
        self.readers.is_any.store(!self.readers.places.is_empty(), Ordering::Relaxed);
        self.follow_readers(now);
    }

    fn follow_readers(&mut self, now: Instant) {
        let order = self.order();
        self.with_transfer(|transfer| transfer.handle(now, Input::Order(order)));
    }

    /// Tells those who wait what has become of it.
    pub(super) fn answer_readers(&mut self, now: Instant) {
        if self.readers.waiting.is_empty() {
            return;
        }
        for (piece, reply) in std::mem::take(&mut self.readers.waiting) {
            match self.access(piece) {
                Some(access) => {
                    self.durability.use_files(now);
                    // Who has waited may be gone.
                    let _ = reply.send(access);
                }
                None => self.readers.waiting.push((piece, reply)),
            }
        }
    }

    /// What has become of the wait for a piece; `None`: it may still come.
    fn access(&self, piece: PieceIndex) -> Option<PieceAccess> {
        let is_there = match &self.activity {
            Activity::Fetching(_) => false,
            Activity::Checking(check) => check.hash_check.has(piece),
            Activity::Running { transfer, .. } => transfer.swarm().have().contains(piece),
        };
        if is_there {
            return Some(PieceAccess::There(self.on_disk.storage.clone()));
        }
        if let Life::Ended { reason, .. } = &self.life {
            return Some(PieceAccess::Ended(reason.clone()));
        }
        (!self.wanted.contains(piece)).then_some(PieceAccess::NotWanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Counter;

    #[test]
    fn the_window_follows_the_reader_that_has_moved_last_to_the_end_of_its_file() {
        let layout = Layout::new(16 << 20, [(160 << 20, false)]).unwrap();
        let mut counter = Counter::default();
        let (one, other) = (counter.reader(), counter.reader());
        let mut readers = Readers::default();
        let window = |readers: &Readers| match readers.order(&layout) {
            Some(Order::Window { next, length }) => (next.0, length),
            order => panic!("{order:?}"),
        };
        assert_eq!(readers.order(&layout), None);
        let place = |reader, next, end| ReadingPlace { reader, next: PieceIndex(next), end };
        readers.places = vec![place(one, 0, 10), place(other, 5, 8)];
        assert_eq!(window(&readers), (5, 3));
        assert!(readers.put(one, PieceIndex(1)));
        assert_eq!(window(&readers), (1, 4));
        assert!(!readers.put(one, PieceIndex(1)), "it has not moved");
        assert!(readers.put(other, PieceIndex(8)), "it has, after the other");
        assert_eq!(window(&readers), (8, 0));
    }
}
