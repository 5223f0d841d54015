//! What an error of the disk does to a torrent: it pauses, or ends; after a full disk it goes on by itself once there is room.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Torrent;
use crate::event::{Kind, State, Verdict};
use crate::layout::PieceIndex;
use crate::session::Notice;
use crate::session::context::Context;
use crate::session::options::FileErrorAction;
use crate::storage::{StorageError, StorageErrorKind};

/// Between two looks at whether a full disk has room again.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(30);

/// How often that time is doubled at the most, while what looks like room is none (a quota, say): to 16 minutes.
const MAX_DOUBLINGS: u32 = 5;

/// What is remembered of errors of the disk.
#[derive(Debug, Default)]
pub(super) struct ErrorState {
    /// When it is looked at next whether there is room again.
    next_look: Option<Instant>,
    /// Starts since the last new piece that a full disk brought to nothing.
    failed_starts: u32,
    /// How often the torrent was started after an error.
    starts: u64,
    /// Pieces that were under way to the disk at the last of these starts: an error of theirs says nothing new.
    from_before: BTreeSet<PieceIndex>,
}

impl ErrorState {
    /// When [`Torrent::look_for_room`] has something to do though nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_look
    }

    /// What was begun until the next start after an error bears this number.
    pub(super) fn starts(&self) -> u64 {
        self.starts
    }

    /// A piece was written: the disk has room.
    pub(super) fn on_new_piece(&mut self) {
        self.failed_starts = 0;
    }

    /// The disk's threads are done with a piece. Whether they had it already when the torrent was last started.
    pub(super) fn was_from_before(&mut self, piece: PieceIndex) -> bool {
        self.from_before.remove(&piece)
    }

    /// The user, or the room on the disk, starts the torrent again; these pieces are under way to the disk.
    pub(super) fn on_start(&mut self, writing: &BTreeSet<PieceIndex>) {
        self.next_look = None;
        self.starts += 1;
        self.from_before.clone_from(writing);
    }

    /// The user wants it to stay paused.
    pub(super) fn stay_paused(&mut self) {
        self.next_look = None;
    }

    fn wait_for_room(&mut self, now: Instant) {
        self.next_look = Some(now + LOOK_FOR_ROOM * 2u32.pow(self.failed_starts.min(MAX_DOUBLINGS)));
        self.failed_starts += 1;
    }
}

impl Torrent {
    /// The torrent keeps what it has, and is paused until it is started again, or ends, as its options say.
    pub(super) fn on_storage_error(&mut self, now: Instant, error: &StorageError, context: &mut Context) {
        self.durability.on_error(error.kind);
        if self.obstacle.is_some() || self.has_ended() {
            return;
        }
        let reason = error.message(&context.options.remedies);
        self.obstacle = Some((verdict_of(error), reason.clone()));
        let path = error.path.display().to_string();
        self.tell(context, Kind::FileError { path, reason: reason.clone() });
        if self.options.file_error() == FileErrorAction::End {
            return self.begin_end(now, verdict_of(error), reason, context);
        }
        if self.state == State::Started && self.goes_on() {
            self.enter(now, State::Paused, &reason, context);
            // Whoever mends it may have to unmount the disk.
            self.close_files(context);
            if error.is_for_want_of_room() {
                self.errors.wait_for_room(now);
            }
        }
    }

    /// There is no room for what is to be set aside: the torrent ends before it has begun.
    pub(super) fn refuse(&mut self, now: Instant, error: &StorageError, context: &mut Context) {
        self.on_storage_error(now, error, context);
        let reason = error.message(&context.options.remedies);
        self.begin_end(now, verdict_of(error), reason, context);
    }

    /// Looks at whether the disk has room for what is missing, if that is due: beside the writes of other torrents.
    pub(super) fn look_for_room(&mut self, now: Instant, context: &Context) {
        if !self.goes_on() || self.errors.next_look.is_none_or(|at| now < at) {
            return;
        }
        self.errors.next_look = Some(now + LOOK_FOR_ROOM);
        let (id, starts) = (self.id, self.errors.starts);
        let (storage, notify) = (self.on_disk.storage.clone(), context.notify.clone());
        let work = move || {
            if storage.has_room() {
                let _ = notify.send(Notice::Room(id, starts));
            }
        };
        // If too much waits there, the next look does it.
        let _ = context.disk.sync(self.on_disk.lane, Box::new(work));
    }

    /// The disk has room for what is missing. What was looked at before the last start is void.
    pub(crate) fn on_room(&mut self, now: Instant, starts: u64, context: &mut Context) {
        let waits = self.state == State::Paused && self.errors.next_look.is_some();
        if waits && self.errors.starts == starts {
            self.enter(now, State::Started, "the disk has room again", context);
        }
    }
}

/// How a torrent ends that cannot go on because of this failure of the disk.
pub(crate) fn verdict_of(error: &StorageError) -> Verdict {
    match error.kind {
        StorageErrorKind::Full | StorageErrorKind::TooSmall => Verdict::DiskFull,
        StorageErrorKind::Foreign => Verdict::ForeignFile,
        StorageErrorKind::Taken => Verdict::PathTaken,
        _ => Verdict::FileError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_only_looks_as_if_it_had_room_is_tried_less_and_less_often() {
        let (mut errors, now) = (ErrorState::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            errors.wait_for_room(now);
            waits.push(errors.deadline().unwrap().duration_since(now).as_secs());
            errors.on_start(&BTreeSet::new());
            assert_eq!(errors.deadline(), None);
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 960, 960]);
        errors.on_new_piece();
        errors.wait_for_room(now);
        assert_eq!(errors.deadline(), Some(now + LOOK_FOR_ROOM));
    }

    #[test]
    fn an_error_of_what_was_under_way_before_the_last_start_is_known_as_such() {
        let mut errors = ErrorState::default();
        errors.on_start(&[PieceIndex(3), PieceIndex(5)].into());
        assert!(!errors.was_from_before(PieceIndex(4)));
        assert!(errors.was_from_before(PieceIndex(3)));
        assert!(!errors.was_from_before(PieceIndex(3)), "written again after the start");
    }
}
