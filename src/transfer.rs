//! One torrent's transfer: the swarm of its connected peers, the finder of further ones, and its web seeds.
//!
//! Carries what one has to know of the other, and decides nothing itself. Pure, as both are: [`Transfer::handle`] and its like take
//! what happened and when, [`Transfer::poll`], [`Transfer::poll_finder`] and [`Transfer::poll_web`] say what to do about it, [`Transfer::deadline`] when to
//! ask again though nothing happened.

#[cfg(test)]
mod tests;
mod web;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::blocks::BlockData;
use crate::event::{Severity, State, WantedEvents};
use crate::finder::{DialEnd, Finder, FinderOutput, Need};
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::lobby::Guest;
use crate::swarm::{Input, Output, PeerReport, Swarm};
use crate::webseed::WebSeeds;
pub(crate) use web::WebTask;

/// The transfer of one torrent.
#[derive(Debug)]
pub(crate) struct Transfer {
    swarm: Swarm,
    finder: Finder,
    /// `None`: it has none.
    web_seeds: Option<WebSeeds>,
    /// Places for connections that nobody has, of this torrent or another.
    free_places: usize,
}

impl Transfer {
    /// A transfer without peers and web seeds, in state `Stopped`.
    pub(crate) fn new(swarm: Swarm, finder: Finder) -> Transfer {
        Transfer { swarm, finder, web_seeds: None, free_places: usize::MAX }
    }

    /// The connected peers.
    pub(crate) fn swarm(&self) -> &Swarm {
        &self.swarm
    }

    /// Whom to call.
    pub(crate) fn finder(&self) -> &Finder {
        &self.finder
    }

    /// Whom to call; see [`Transfer::finder`].
    pub(crate) fn finder_mut(&mut self) -> &mut Finder {
        &mut self.finder
    }

    /// Peers that were connected before it was known what there is to transfer, with what they have said since.
    pub(crate) fn welcome(&mut self, now: Instant, guests: Vec<Guest>) {
        for Guest { hello, said } in guests {
            let peer = hello.peer;
            self.handle(now, Input::Connected(hello));
            said.into_iter().for_each(|message| self.handle(now, Input::Message(peer, message)));
        }
    }

    /// From now on, events of at least this severity are told; `None`: none are.
    pub(crate) fn want_events(&mut self, least: Option<Severity>) {
        self.swarm.want_events(WantedEvents(least));
        self.finder.want_events(WantedEvents(least));
        self.web_seeds.iter_mut().for_each(|seeds| seeds.want_events(WantedEvents(least)));
    }

    /// Takes what happened. Call the two `poll`s until they give `None` afterwards; several inputs may be handled before.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        // BEP 3: only the whole torrent is a completed download, and only a piece that passes completes it.
        let may_complete = matches!(input, Input::Passed { .. }) && !self.swarm.have().is_full();
        // Room for more, pieces to be fetched again, blocks that somebody owed.
        let gives_work = match input {
            Input::Passed { .. }
            | Input::Failed { .. }
            | Input::Lost(_)
            | Input::Memory
            | Input::Closed(_)
            | Input::Enter(_)
            | Input::Want { .. }
            | Input::Order(_)
            | Input::Unruly(_) => true,
            Input::Connected(_)
            | Input::Message(..)
            | Input::Sent(..)
            | Input::BlocksHashed(..)
            | Input::Ports(_) => false,
        };
        match input {
            Input::Enter(state) if state != self.swarm.state() => {
                self.swarm.handle(now, input);
                match state {
                    State::Started | State::Paused => self.finder.start(now),
                    State::Stopped | State::Waiting => self.finder.stop(now),
                }
            }
            Input::Connected(hello) => {
                self.finder.dial_answered(hello.address);
                let is_banned = self.finder.is_banned(now, hello.address);
                self.swarm.on_connected(now, hello, is_banned);
            }
            _ => self.swarm.handle(now, input),
        }
        if gives_work {
            self.web_seeds.iter_mut().for_each(WebSeeds::wake);
        }
        self.pass_on(now);
        if may_complete && self.swarm.have().is_full() {
            self.finder.complete(now);
        }
    }

    /// The data of `block` have come. Gives them back if they are of no use.
    pub(crate) fn on_block(
        &mut self,
        now: Instant,
        peer: PeerKey,
        block: Block,
        data: BlockData,
    ) -> Option<BlockData> {
        let unneeded = self.swarm.on_block(now, peer, block, data);
        self.pass_on(now);
        unneeded
    }

    /// The piece matches its hash and could not be written; see [`Swarm::on_not_written`].
    pub(crate) fn on_not_written(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        blocks: Vec<BlockData>,
    ) -> Option<Vec<BlockData>> {
        self.swarm.on_not_written(now, piece, blocks)
    }

    /// From now on so many peers may have an upload slot.
    pub(crate) fn set_upload_slots(&mut self, now: Instant, slots: usize) {
        self.swarm.set_upload_slots(now, slots);
    }

    /// Gives up all begun pieces; see [`Swarm::take_partial_pieces`].
    pub(crate) fn take_partial_pieces(&mut self) -> BTreeMap<PieceIndex, Vec<Option<BlockData>>> {
        self.swarm.take_partial_pieces()
    }

    /// A call of ours came to nothing.
    pub(crate) fn dial_ended(&mut self, now: Instant, address: SocketAddr, how: DialEnd) {
        self.finder.dial_ended(now, address, how, self.swarm.is_connected_to(address));
    }

    /// The next thing to do about the peers; `None`: nothing before [`Transfer::deadline`] or the next input.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Output> {
        let mut output = self.swarm.poll(now);
        while output.is_none()
            && let Some((peer, message)) = self.finder.poll_exchange(now)
        {
            self.swarm.send_exchange(now, peer, message.extension(), message.encode());
            output = self.swarm.poll(now);
        }
        self.pass_on(now);
        output
    }

    /// From now on, what peers send is read, or left where it is.
    pub(crate) fn set_listening(&mut self, now: Instant, listens: bool) {
        self.swarm.set_listening(now, listens);
    }

    /// The next thing to do about finding more; `None`: nothing before [`Transfer::deadline`] or the next input.
    pub(crate) fn poll_finder(&mut self, now: Instant) -> Option<FinderOutput> {
        self.finder.poll(now, self.need())
    }

    /// From now on there are so many places for connections that nobody has, of this torrent or another: nobody is called
    /// while there is none.
    pub(crate) fn set_free_places(&mut self, free: usize) {
        self.free_places = free;
    }

    /// A peer that would be called at once if there were a place for it.
    pub(crate) fn wants_place(&self, now: Instant) -> Option<SocketAddr> {
        let may_call =
            self.swarm.state() != State::Stopped && self.finder.calls() < self.swarm.calls_allowed();
        self.finder.would_call(now).filter(|_| may_call)
    }

    /// Somebody else gets the place of this connection.
    pub(crate) fn displace(&mut self, now: Instant, peer: PeerKey) {
        self.swarm.displace(now, peer);
        self.pass_on(now);
    }

    /// When to call the two `poll`s though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let machines = [
            self.swarm.deadline(),
            self.finder.deadline(self.need()),
            self.web_seeds.as_ref().and_then(WebSeeds::deadline),
        ];
        machines.into_iter().flatten().min()
    }

    /// How many more peers would help.
    pub(crate) fn need(&self) -> Need {
        match self.swarm.state() {
            State::Stopped | State::Waiting => Need::default(),
            state => {
                let (addresses, is_complete) = (self.swarm.wants_addresses(), self.swarm.is_complete());
                let room = self.swarm.room().min(self.swarm.calls_allowed());
                Need {
                    connections: self.finder.room_for_calls(room, self.free_places),
                    addresses,
                    urgent: addresses && !is_complete && state == State::Started,
                    is_partial_seed: self.swarm.is_partial_seed(),
                }
            }
        }
    }

    /// What has become of connections, from the swarm to the finder.
    fn pass_on(&mut self, now: Instant) {
        for report in self.swarm.take_reports() {
            match report {
                PeerReport::Connected(peer, address, direction) => {
                    self.finder.connected(now, peer, address, direction);
                }
                PeerReport::Refused(address) => self.finder.refused(now, address),
                PeerReport::Own(address) => self.finder.is_own(now, address),
                PeerReport::Listens(peer, address) => self.finder.listens(now, peer, address),
                PeerReport::Wants(peer, wants) => self.finder.wants_exchange(now, peer, wants),
                PeerReport::Tells(peer, address, message) => {
                    if !self.finder.exchanged(now, peer, address, &message) {
                        self.swarm.close_flooding(now, peer);
                    }
                }
                PeerReport::Punches(peer, punches) => self.finder.set_punches(peer, punches),
                PeerReport::Holepunch(peer, message) => self.finder.on_holepunch(now, peer, message),
                PeerReport::Seed(peer, is_seed) => self.finder.set_seed(peer, is_seed),
                PeerReport::AlsoAt(peer, ip) => self.finder.also_at(now, peer, ip),
                PeerReport::Parted(peer, callable, how) => self.finder.parted(now, peer, callable, how),
                PeerReport::CorruptWebSeed(seed, piece) => {
                    self.web_seeds.iter_mut().for_each(|seeds| seeds.on_corrupt(seed, piece));
                }
                PeerReport::Banned(address, pause) => self.finder.ban(now, address, pause),
            }
        }
    }
}
