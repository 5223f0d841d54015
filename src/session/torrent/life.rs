//! A torrent's way through its life: started and paused, complete, ending, ended.

use std::time::{Duration, Instant};

use super::checks::CheckStage;
use super::{Activity, Torrent};
use crate::event::{Kind, State, Verdict};
use crate::layout::PieceIndex;
use crate::session::context::Context;
use crate::session::selection::{piece_weights, wanted_pieces};
use crate::storage::StorageError;
use crate::swarm::{Input, Order};

/// For how long a complete torrent waits for its data to be safe.
const FAREWELL: Duration = Duration::from_secs(5);

/// For how long an ending torrent waits for its trackers and its data: of the 5 s that are promised, some go by until thousands have ended.
const LAST_WAIT: Duration = Duration::from_millis(4700);

/// Whether a torrent goes on.
#[derive(Debug)]
pub(super) enum Life {
    /// Until the user or a policy ends it.
    Going,
    /// No new work; what is written is finished and synced, the trackers are told.
    Ending(Ending),
    /// It has had its summary.
    Ended {
        /// How it ended.
        verdict: Verdict,
        /// The reason for people.
        reason: String,
        /// Its last save is done.
        saved: bool,
    },
}

/// How a torrent ends.
#[derive(Debug)]
pub(super) struct Ending {
    /// How it ends, unless something goes wrong, or right, before it is over.
    verdict: Verdict,
    /// The reason for people.
    reason: String,
    /// When it is over, whatever is still under way.
    deadline: Instant,
    /// How far its data are safe.
    save: LastSave,
}

/// The last save of an ending torrent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LastSave {
    /// Waits for pieces that are being written, or for the check to be broken off.
    Waiting,
    /// Under way.
    Saving,
    /// What is written is synced, resume data are stored, the files are closed.
    Saved,
}

impl Torrent {
    /// Whether it has had its summary.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended { .. })
    }

    /// Whether it goes on: it neither ends nor has ended.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.life, Life::Going)
    }

    /// Whether it ends, and what it has is to be written out for a later run.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.life, Life::Ending(_))
    }

    /// Goes into a state, as the user or an error wants it.
    pub(crate) fn enter(&mut self, now: Instant, state: State, reason: &str, context: &mut Context) {
        if state == State::Paused {
            self.errors.stay_paused();
        }
        if self.state == state || !self.goes_on() {
            return;
        }
        let (from, waited) = (self.shown_state(), self.waits_for_turn());
        self.state = state;
        if state == State::Started {
            self.obstacle = None;
            self.last_new = now;
            self.errors.on_start(&self.durability.writing);
        } else {
            self.leave_turn(context);
        }
        self.tell(context, Kind::StateChanged { from, to: state, reason: reason.to_owned() });
        if state == State::Started && self.durability.renew && self.is_running() {
            return self.check_renewed(now, context);
        }
        // Who has waited has no peers, and finds none in a pause.
        if !(waited && state == State::Paused) {
            self.enter_asked_state(now, context);
        }
        if self.waits_for_turn() {
            return;
        }
        if state == State::Started && !self.durability.prepared && self.is_running() {
            self.prepare(context);
        }
        if state == State::Stopped {
            self.perform(now, context);
            if !self.is_fetching() {
                self.save_and_close(context);
            }
        }
    }

    /// A piece was verified and written.
    pub(super) fn on_new_piece(&mut self, now: Instant, piece: PieceIndex, context: &mut Context) {
        self.last_new = now;
        self.errors.on_new_piece();
        self.durability.save_soon(now);
        self.flush(piece, context);
        self.complete_if_all_is_there(now, context);
    }

    /// What the user wants from now on. What is not wanted any more stays where it is.
    pub(crate) fn want(
        &mut self,
        now: Instant,
        priorities: Option<Vec<u32>>,
        order: Option<Order>,
        context: &mut Context,
    ) {
        if !self.goes_on() {
            return;
        }
        self.options.order = order.unwrap_or(self.options.order);
        match (priorities, &mut self.activity) {
            (Some(priorities), Activity::Fetching(fetching)) => fetching.want(priorities),
            (Some(priorities), _) => {
                self.wanted = wanted_pieces(self.layout(), &priorities);
                self.options.priorities = priorities;
                self.set_wanted_files(context);
            }
            (None, _) => {}
        }
        let weights = piece_weights(self.layout(), &self.options.priorities);
        let (wanted, order) = (self.wanted.clone(), self.order());
        self.with_transfer(|transfer| transfer.handle(now, Input::Want { wanted, weights, order }));
        match self.is_complete() {
            true => {
                self.complete_if_all_is_there(now, context);
                if self.waits_for_turn() {
                    self.begin_turn(now, context);
                }
            }
            false => {
                self.last_data = now;
                self.completing_until = None;
                self.was_incomplete = true;
                if self.completed.take().is_some() {
                    self.last_new = now;
                }
            }
        }
    }

    /// Everything wanted may be there now: it is told once it is safe.
    pub(super) fn complete_if_all_is_there(&mut self, now: Instant, context: &mut Context) {
        if self.completed.is_some() || self.completing_until.is_some() || !self.is_complete() {
            return;
        }
        // Seeding needs no spare buffers.
        if !context.downloads.are_others(self.id) {
            context.connections.shared.pool.clear();
        }
        self.completing_until = Some(now + FAREWELL);
        self.make_complete_safe(context);
    }

    /// Everything wanted is there, and safe.
    pub(super) fn tell_complete(&mut self, now: Instant, context: &mut Context) {
        self.completing_until = None;
        if self.completed.is_some() || !self.is_complete() {
            return;
        }
        self.completed = Some(now);
        self.was_incomplete = false;
        // The last piece is told before what it completes.
        self.perform(now, context);
        self.tell_last_progress(now, context);
        let name = self.on_disk.metainfo.name.clone();
        let elapsed = now.saturating_duration_since(self.began).as_secs_f64();
        self.tell(context, Kind::Complete { name: name.clone(), size: self.wanted_bytes(), elapsed });
        if !self.options.no_seed && self.goes_on() {
            self.tell(context, Kind::Seeding { name });
        }
    }

    /// A thread of the disk is gone: nothing can be written, or be known to be written, any more.
    pub(crate) fn on_disk_broken(&mut self, now: Instant, reason: &str, context: &mut Context) {
        let unwritten = self.durability.abandon_writes();
        context.budget.give_back(self.on_disk.lane, unwritten);
        if self.has_ended() {
            return;
        }
        self.obstacle = Some((Verdict::Failed, reason.to_owned()));
        let path = self.on_disk.storage.basedir().display().to_string();
        self.tell(context, Kind::FileError { path, reason: reason.to_owned() });
        self.begin_end(now, Verdict::Failed, reason.to_owned(), context);
        // Whatever was being saved is not.
        self.end_last_save();
    }

    /// Its paths are another's: it ends before anything is read or written.
    pub(crate) fn refuse_to_begin(&mut self, now: Instant, error: &StorageError, context: &mut Context) {
        self.refuse(now, error, context);
        self.end_last_save();
    }

    /// How it would end if it were stopped as it is now, and why.
    pub(super) fn verdict(&self) -> (Verdict, String) {
        let all_known = match &self.activity {
            Activity::Fetching(_) | Activity::Checking(_) => false,
            Activity::Running { unchecked, .. } => unchecked.is_empty(),
        };
        match &self.obstacle {
            Some((verdict, reason)) => (*verdict, reason.clone()),
            None if self.is_complete() => (Verdict::Complete, "complete".into()),
            None if self.is_fetching() => {
                (Verdict::Incomplete, "stopped before the metadata were there".into())
            }
            None if !all_known => (Verdict::Incomplete, "stopped before the check was done".into()),
            None => (Verdict::Incomplete, "stopped with wanted data missing".into()),
        }
    }

    /// Ends it because the user wants so.
    pub(crate) fn stop_for_good(&mut self, now: Instant, context: &mut Context) {
        let (verdict, reason) = self.verdict();
        self.begin_end(now, verdict, reason, context);
    }

    /// No new work; what is written is finished and synced, the trackers are told.
    pub(super) fn begin_end(
        &mut self,
        now: Instant,
        verdict: Verdict,
        reason: String,
        context: &mut Context,
    ) {
        if !self.goes_on() {
            return;
        }
        let mut waits_for_check = false;
        if let Some(check) = self.check_mut() {
            check.hash_check.break_off();
            waits_for_check = check.stage == CheckStage::Waiting;
        }
        let deadline = now + LAST_WAIT;
        self.life =
            Life::Ending(Ending { verdict, reason: reason.clone(), deadline, save: LastSave::Waiting });
        if waits_for_check {
            self.leave_check_queue(now, context);
        }
        let from = self.shown_state();
        self.state = State::Stopped;
        self.leave_turn(context);
        if from != State::Stopped {
            self.tell(context, Kind::StateChanged { from, to: State::Stopped, reason });
        }
        self.input(now, Input::Enter(State::Stopped));
        self.perform(now, context);
    }

    /// Ends it if a policy says so.
    pub(super) fn end_if_due(&mut self, now: Instant, context: &mut Context) {
        if self.completing_until.is_some_and(|until| until <= now) && self.goes_on() {
            // A disk that hangs is not waited for.
            self.tell_complete(now, context);
        }
        if let Some((verdict, reason)) = self.due_to_end(now) {
            self.begin_end(now, verdict, reason, context);
        }
    }

    /// The policies that end a torrent: why it should end now, if it should.
    fn due_to_end(&self, now: Instant) -> Option<(Verdict, String)> {
        if !self.goes_on() {
            return None;
        }
        if let Some(timeout) = self.options.stall_timeout
            && self.may_stall()
            && !self.is_complete()
            && (self.is_running() || self.is_fetching())
            && now.saturating_duration_since(self.last_new) >= timeout
        {
            let what = if self.is_fetching() { "metadata" } else { "new data" };
            let stalled = || (Verdict::Stalled, format!("no {what} for {} s", timeout.as_secs()));
            return Some(self.obstacle.clone().unwrap_or_else(stalled));
        }
        if !self.is_complete() || self.durability.is_writing() || self.state != State::Started {
            return None;
        }
        // Only what is told to be complete is left.
        let completed = self.completed?;
        if self.options.no_seed {
            return Some((Verdict::Complete, "complete".into()));
        }
        let uploaded = self.swarm().map_or(0, |swarm| swarm.totals(now).uploaded);
        if let Some(ratio) = self.options.seed_ratio
            && uploaded as f64 >= ratio * self.wanted_bytes() as f64
        {
            return Some((Verdict::Complete, format!("complete, and uploaded {ratio} times its size")));
        }
        if let Some(time) = self.options.seed_time
            && now.saturating_duration_since(completed) >= time
        {
            return Some((Verdict::Complete, format!("complete, and seeded for {} s", time.as_secs())));
        }
        None
    }

    /// When a policy or an end has something to do though nothing happens.
    pub(super) fn policy_deadline(&self) -> Option<Instant> {
        match &self.life {
            Life::Ended { .. } => return None,
            Life::Ending(ending) => return Some(ending.deadline),
            Life::Going if !self.is_running() && !self.is_fetching() => return None,
            Life::Going => {}
        }
        let policy = match self.is_complete() {
            true if self.completing_until.is_some() => self.completing_until,
            true if self.state != State::Started || self.durability.is_writing() => None,
            true => self.options.seed_time.and_then(|time| Some(self.completed? + time)),
            false => {
                self.options.stall_timeout.filter(|_| self.may_stall()).map(|timeout| self.last_new + timeout)
            }
        };
        [policy, self.durability.deadline(), self.errors.deadline()].into_iter().flatten().min()
    }

    /// Whether time without new data counts: not while the user has paused, but after an error that did.
    fn may_stall(&self) -> bool {
        let is_started = self.state == State::Started && !self.waits_for_turn();
        is_started || (self.state == State::Paused && self.obstacle.is_some())
    }

    /// Begins the last save, unless it has begun.
    pub(crate) fn begin_last_save(&mut self, now: Instant, context: &mut Context) {
        if let Life::Ending(ending) = &mut self.life
            && ending.save == LastSave::Waiting
        {
            ending.save = LastSave::Saving;
            if self.is_fetching() {
                return self.end_last_save();
            }
            // What has been uploaded since hardly matters to who leaves at once.
            match self.options.no_seed && self.durability.is_safe() {
                true => {
                    self.close_files(context);
                    self.end_if_stored();
                }
                false => self.save_last(now, context),
            }
        }
    }

    /// The last save is done, if only after the end.
    pub(super) fn end_last_save(&mut self) {
        match &mut self.life {
            Life::Going => {}
            Life::Ending(ending) => ending.save = LastSave::Saved,
            Life::Ended { saved, .. } => *saved = true,
        }
        self.release_paths();
    }

    /// Who has ended and closed its files writes to none any more.
    fn release_paths(&mut self) {
        if matches!(self.life, Life::Ended { saved: true, .. }) {
            self.claim = None;
        }
    }

    /// Whether the last save is done, so that the disk's threads may be waited for.
    pub(crate) fn is_saved(&self) -> bool {
        match &self.life {
            Life::Going => false,
            Life::Ending(ending) => ending.save == LastSave::Saved,
            Life::Ended { saved, .. } => *saved,
        }
    }

    /// The next step of an end: the last save, and the summary once all is saved and told, or too late.
    pub(super) fn advance_ending(&mut self, now: Instant, context: &mut Context) {
        if !self.is_ending() {
            return;
        }
        // What is verified already is written, and what a check has found is known, before all is saved.
        if !matches!(self.activity, Activity::Checking(_)) && !self.durability.is_writing() {
            self.begin_last_save(now, context);
        }
        let Life::Ending(ending) = &self.life else { return };
        let told = self.finder().is_none_or(|finder| finder.announcer().is_stopped());
        let saved = ending.save == LastSave::Saved;
        if now < ending.deadline && !(saved && told) {
            return;
        }
        // What went wrong, or right, since the end began counts.
        let (verdict, reason) = match ending.verdict == Verdict::Incomplete || self.obstacle.is_some() {
            true => self.verdict(),
            false => (ending.verdict, ending.reason.clone()),
        };
        if verdict == Verdict::Complete {
            self.tell_complete(now, context);
        }
        self.tell_summary(now, verdict, reason.clone(), context);
        self.life = Life::Ended { verdict, reason, saved };
        self.release_paths();
    }

    /// Tells the summary: the last about this torrent.
    fn tell_summary(&self, now: Instant, verdict: Verdict, reason: String, context: &mut Context) {
        let elapsed = now.saturating_duration_since(self.began).as_secs_f64();
        let summary = self.status(now).summary(verdict, reason, elapsed);
        context.subscribers.tell(Some(self.info_hash()), summary);
    }

    /// The user takes it out of the session: the last that it does.
    pub(crate) fn on_removed(mut self, now: Instant, context: &mut Context) {
        self.calls_wanted.set(false);
        let (verdict, reason) = self.verdict();
        self.begin_end(now, verdict, reason.clone(), context);
        self.begin_last_save(now, context);
        self.tell_notes(context);
        let name = self.on_disk.metainfo.name.clone();
        context.subscribers.tell(Some(self.info_hash()), Kind::TorrentRemoved { name });
        if !self.has_ended() {
            self.tell_summary(now, verdict, reason, context);
        }
        let unwritten = self.durability.unwritten();
        context.budget.give_back(self.on_disk.lane, unwritten);
    }
}
