//! What the web seeds and the swarm have to know of each other.

use std::time::Instant;

use super::Transfer;
use crate::blocks::BlockData;
use crate::event::{Kind, State};
use crate::layout::Block;
use crate::webseed::{Job, JobEnd, Opening, Place, WebKey, WebOutput, WebSeeds};

/// Something to be done about the connections to web seeds.
#[derive(Debug)]
pub(crate) enum WebTask {
    /// Open one.
    Open(WebKey, Opening),
    /// Fetch this over it.
    Fetch(WebKey, Job),
    /// Close it.
    Close(WebKey),
    /// Tell this.
    Event(Box<Kind>),
}

impl Transfer {
    /// From now on, data are fetched from these web seeds, too.
    pub(crate) fn set_web_seeds(&mut self, web_seeds: WebSeeds) {
        self.web_seeds = Some(web_seeds);
    }

    /// How many web seeds data are being fetched from.
    pub(crate) fn web_seeds_in_use(&self) -> usize {
        self.web_seeds.as_ref().map_or(0, WebSeeds::in_use)
    }

    /// The next thing to do about the web seeds; `None`: nothing before [`Transfer::deadline`] or the next input. `place_at` says whether a
    /// connection to a host may be opened. What the swarm has to do meanwhile is told by [`Transfer::poll`].
    pub(crate) fn poll_web(&mut self, now: Instant, place_at: impl Fn(&str) -> Place) -> Option<WebTask> {
        let web_seeds = self.web_seeds.as_mut()?;
        web_seeds.set_active(self.swarm.state() == State::Started && !self.swarm.is_complete());
        loop {
            match web_seeds.poll(now, &place_at)? {
                WebOutput::Has(key, number, pieces) => self.swarm.set_web_seed(now, key, number, pieces),
                WebOutput::Leave(key) => self.swarm.remove_web_seed(key),
                WebOutput::Want(key, wish) => {
                    let run = self.swarm.take_run(now, key.seed, wish);
                    web_seeds.on_run(now, key, run);
                }
                WebOutput::GiveBack(key, blocks) => {
                    self.swarm.give_back_run(key, &blocks);
                    web_seeds.wake();
                }
                WebOutput::Open(key, opening) => return Some(WebTask::Open(key, opening)),
                WebOutput::Fetch(key, job) => return Some(WebTask::Fetch(key, job)),
                WebOutput::Close(key) => return Some(WebTask::Close(key)),
                WebOutput::Event(kind) => return Some(WebTask::Event(kind)),
            }
        }
    }

    /// Something has happened, after which web seeds may be asked for more: [`Transfer::poll_web`] looks anew, at once or soon.
    pub(crate) fn wake_web_seeds(&mut self) {
        self.web_seeds.iter_mut().for_each(WebSeeds::wake_soon);
    }

    /// What everything leaves by works again, after it did not.
    pub(crate) fn way_is_back(&mut self) {
        self.web_seeds.iter_mut().for_each(WebSeeds::way_is_back);
    }

    /// The data of `block` have come over a connection to a web seed. Gives them back if they are of no use.
    pub(crate) fn on_web_block(
        &mut self,
        now: Instant,
        key: WebKey,
        block: Block,
        data: BlockData,
    ) -> Option<BlockData> {
        let Some(web_seeds) = &mut self.web_seeds else { return Some(data) };
        if !web_seeds.on_block(key, block) {
            return Some(data);
        }
        let unneeded = self.swarm.on_web_block(now, key.seed, block, data);
        let is_left = web_seeds.left_of(key).next().is_some();
        if unneeded.is_some() && is_left && !self.swarm.awaits_any(key.seed, web_seeds.left_of(key)) {
            // Others were quicker, or it is not wanted any more.
            web_seeds.abandon(key);
        }
        self.pass_on(now);
        unneeded
    }

    /// So many bytes have come over a connection that were not asked for: its web seed gives whole files only.
    pub(crate) fn on_web_waste(&mut self, key: WebKey, bytes: u64) {
        self.web_seeds.iter_mut().for_each(|seeds| seeds.on_ranges_ignored(key));
        self.swarm.on_web_waste(bytes);
    }

    /// The server of a connection has said that it knows ranges.
    pub(crate) fn on_web_ranges(&mut self, key: WebKey) {
        self.web_seeds.iter_mut().for_each(|seeds| seeds.on_ranges_known(key));
    }

    /// The job of a connection to a web seed has ended.
    pub(crate) fn on_web_ended(&mut self, now: Instant, key: WebKey, end: &JobEnd) {
        self.web_seeds.iter_mut().for_each(|seeds| seeds.on_ended(now, key, end));
    }

    /// A connection to a web seed brings nothing any more, by a defect of this program.
    pub(crate) fn on_web_died(&mut self, now: Instant, key: WebKey) {
        self.web_seeds.iter_mut().for_each(|seeds| seeds.on_died(now, key));
    }

    /// The server of a connection sends next to nothing.
    pub(crate) fn on_web_lull(&mut self, now: Instant, key: WebKey) {
        self.web_seeds.iter_mut().for_each(|seeds| seeds.on_lull(now, key));
    }

    /// A connection to a web seed could not be opened.
    pub(crate) fn on_web_not_opened(&mut self, now: Instant, key: WebKey, reason: &str) {
        self.web_seeds.iter_mut().for_each(|seeds| seeds.on_not_opened(now, key, reason));
    }
}
