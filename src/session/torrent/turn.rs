//! A torrent's turn to download: so many do at the same time, the others wait (`session/downloads.rs`).
//!
//! A torrent that waits has no peers and announces nothing, as one that is stopped, though the user wants it to be started.

use std::time::Instant;

use super::{Activity, Torrent};
use crate::event::{Kind, State};
use crate::session::context::Context;
use crate::session::downloads::QUIET;
use crate::swarm::Input;

/// Whether it is a torrent's turn to download.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Turn {
    /// It has not asked yet, or was stopped since.
    #[default]
    NotAsked,
    /// It waits.
    Waiting,
    /// It may download, for as long as it is not stopped.
    Come,
}

impl Torrent {
    /// Whether the torrent is started, and waits for its turn to download.
    pub(super) fn waits_for_turn(&self) -> bool {
        self.turn == Turn::Waiting
    }

    /// Whether it has its turn, be it only for when it is started again.
    pub(crate) fn has_turn(&self) -> bool {
        self.turn == Turn::Come
    }

    /// Whether it asks for its turn once it is known what is on the disk.
    pub(crate) fn will_ask_for_turn(&self) -> bool {
        self.state == State::Started && !self.is_fetching() && !self.options.metadata_only
    }

    /// The state as it is told.
    pub(super) fn shown_state(&self) -> State {
        if self.waits_for_turn() { State::Waiting } else { self.state }
    }

    /// Whether it is to download, or to ask what is to be downloaded.
    fn is_to_download(&self) -> bool {
        self.goes_on()
            && self.state == State::Started
            && match &self.activity {
                Activity::Fetching(_) => !self.options.metadata_only,
                // A check is no download; peers that were asked what the torrent is wait for its end.
                Activity::Checking(check) => check.lobby.is_some(),
                Activity::Running { .. } => !self.is_complete(),
            }
    }

    /// Goes into the state that the user asked for, or waits for its turn to download.
    pub(super) fn enter_asked_state(&mut self, now: Instant, context: &mut Context) {
        if !self.takes_peers() {
            // It is being checked, and asks once that is done.
            return;
        }
        if self.state == State::Started && self.turn != Turn::Come {
            if self.is_to_download() && !context.downloads.ask(now, self.id) {
                return self.wait_for_turn(now, context);
            }
            context.downloads.leave(self.id);
            self.turn = Turn::Come;
        }
        self.last_data = now;
        self.input(now, Input::Enter(self.state));
    }

    fn wait_for_turn(&mut self, now: Instant, context: &mut Context) {
        if std::mem::replace(&mut self.turn, Turn::Waiting) != Turn::Waiting {
            let reason = match context.options.max_downloads {
                0 | 1 => "another torrent downloads".to_owned(),
                max => format!("{max} torrents download"),
            };
            self.tell(context, Kind::StateChanged { from: State::Started, to: State::Waiting, reason });
        }
        // It may have been paused, with peers.
        self.input(now, Input::Enter(State::Stopped));
    }

    /// It is the torrent's turn, or it needs none any more.
    pub(crate) fn begin_turn(&mut self, now: Instant, context: &mut Context) {
        if !self.waits_for_turn() {
            return;
        }
        let reason = if self.is_complete() { "complete" } else { "it is its turn to download" }.to_owned();
        self.tell(context, Kind::StateChanged { from: State::Waiting, to: State::Started, reason });
        context.downloads.leave(self.id);
        self.turn = Turn::Come;
        (self.last_new, self.last_data) = (now, now);
        self.input(now, Input::Enter(State::Started));
        if !self.durability.prepared && self.is_running() {
            self.prepare(context);
        }
    }

    /// It is paused or stopped. Who is only paused keeps its turn; who has waited, or is stopped, asks again when it is started.
    pub(super) fn leave_turn(&mut self, context: &mut Context) {
        context.downloads.leave(self.id);
        if self.waits_for_turn() || self.state == State::Stopped {
            self.turn = Turn::NotAsked;
        }
    }

    /// Until when it counts among those that download, if no data come.
    pub(crate) fn counts_until(&self) -> Option<Instant> {
        (self.turn == Turn::Come && self.is_to_download()).then(|| self.last_data + QUIET)
    }
}
