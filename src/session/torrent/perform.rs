//! Does what a torrent's transfer says, and tells it what became of it.

use std::time::Instant;

use super::{Activity, Torrent};
use crate::blocks::BlockData;
use crate::disk::{Done, Read, Verify, WriteJob};
use crate::event::{Kind, Severity, State};
use crate::finder::{Finder, FinderOutput};
use crate::ids::PeerKey;
use crate::layout::{Block, PieceIndex};
use crate::lobby::LobbyOutput;
use crate::net::driver::{self, Outgoing};
use crate::session::context::Context;
use crate::session::uploads::Demand;
use crate::swarm::{Input, Output, Swarm};
use crate::transfer::Transfer;

/// Bytes that are read for a peer in one go.
const READ_TOGETHER: usize = 512 * 1024;

impl Torrent {
    /// Tells the transfer of something; what it says about it is done when the loop's turn ends.
    pub(in crate::session) fn with_transfer(&mut self, tell: impl FnOnce(&mut Transfer)) {
        if let Activity::Running { transfer, .. } = &mut self.activity {
            tell(transfer);
            self.has_input = true;
        }
    }

    /// Tells those who deal with the connected peers of something, as [`Torrent::with_transfer`].
    pub(in crate::session) fn input(&mut self, now: Instant, input: Input) {
        match self.lobby_mut() {
            Some(lobby) => {
                lobby.handle(now, input);
                self.has_input = true;
            }
            None => self.with_transfer(|transfer| transfer.handle(now, input)),
        }
    }

    /// Tells the finder of something, likewise.
    pub(super) fn with_finder<T>(&mut self, tell: impl FnOnce(&mut Finder) -> T) {
        let finder = match &mut self.activity {
            Activity::Fetching(fetching) => Some(fetching.lobby.finder_mut()),
            Activity::Checking(check) => check.lobby.as_mut().map(|lobby| lobby.finder_mut()),
            Activity::Running { transfer, .. } => Some(transfer.finder_mut()),
        };
        self.has_input |= finder.map(tell).is_some();
    }

    /// The upload slots that its peers have, and want.
    pub(crate) fn upload_demand(&self) -> Demand {
        let (served, waiting) = self.swarm().map(Swarm::upload_demand).unwrap_or_default();
        Demand { served, waiting, max: self.options.upload_slots }
    }

    /// From now on its peers may have so many. Whether that makes a difference to any of them.
    pub(crate) fn set_upload_slots(&mut self, now: Instant, slots: usize) -> bool {
        let Activity::Running { transfer, .. } = &mut self.activity else { return false };
        let swarm = transfer.swarm();
        if swarm.upload_slots() == slots {
            return false;
        }
        let before = swarm.upload_demand();
        transfer.set_upload_slots(now, slots);
        let changes = transfer.swarm().upload_demand() != before;
        self.has_input |= changes;
        changes
    }

    /// There is room in memory for a piece, for which it has waited.
    pub(crate) fn on_memory(&mut self, now: Instant) {
        self.input(now, Input::Memory);
    }

    /// Does all that the transfer has to say.
    pub(super) fn perform(&mut self, now: Instant, context: &mut Context) {
        self.has_input = false;
        self.perform_lobby(now, context);
        self.perform_web(now, context);
        self.perform_swarm(now, context);
        self.perform_finder(now, context);
    }

    fn perform_finder(&mut self, now: Instant, context: &mut Context) {
        while let Some(output) = self.poll_finder(now, context.free_places()) {
            match output {
                FinderOutput::Dial(address) => self.dial(address, context),
                FinderOutput::Punch(address) => self.punch(address, context),
                FinderOutput::Announce(announce) => self.announce(announce, context),
                FinderOutput::Filtered(address, rule) => context.tell_filtered(address, rule),
                FinderOutput::PrefersEncryption(address) => context.dialer.secrecy.prefers(address),
                FinderOutput::Event(kind) => self.tell(context, kind),
            }
        }
    }

    fn poll_finder(&mut self, now: Instant, free_places: usize) -> Option<FinderOutput> {
        if let Some(lobby) = self.lobby_mut() {
            lobby.set_free_places(free_places);
            return lobby.poll_finder(now);
        }
        let transfer = self.transfer_mut()?;
        transfer.set_free_places(free_places);
        transfer.poll_finder(now)
    }

    pub(super) fn perform_lobby(&mut self, now: Instant, context: &mut Context) {
        while let Some(output) = self.lobby_mut().and_then(|lobby| lobby.poll(now)) {
            match output {
                LobbyOutput::Send(peer, message) => {
                    self.send(now, peer, Outgoing::Message(message), context);
                }
                LobbyOutput::Close(peer, reason) => self.close(peer, reason, context),
                LobbyOutput::Verify(ticket, bytes) => self.read_metadata(ticket, bytes, context),
                LobbyOutput::Layers(layers) => self.on_layers(now, layers, context),
                LobbyOutput::Event(kind) => self.tell(context, kind),
            }
        }
    }

    pub(super) fn perform_swarm(&mut self, now: Instant, context: &mut Context) {
        let listens = !context.budget.gate(self.on_disk.lane).is_closed();
        self.transfer_mut().into_iter().for_each(|transfer| transfer.set_listening(now, listens));
        let mut serving: Option<(PeerKey, Vec<Block>)> = None;
        while let Some(output) = self.transfer_mut().and_then(|transfer| transfer.poll(now)) {
            if let Output::Serve(peer, block) = output {
                match &mut serving {
                    Some((same, blocks)) if *same == peer && length(blocks) < READ_TOGETHER => {
                        blocks.push(block)
                    }
                    _ => {
                        let before = serving.replace((peer, vec![block]));
                        self.serve(now, before, context);
                    }
                }
                continue;
            }
            // The order among the messages to a peer matters, also with its blocks.
            match output {
                Output::Send(peer, message) => self.send(now, peer, Outgoing::Message(message), context),
                Output::Close(peer, reason) => self.close(peer, reason, context),
                Output::Verify { piece, blocks, digests } => {
                    let job = Verify { torrent: self.on_disk.clone(), piece, blocks, digests };
                    self.hand_to_disk(now, job, context);
                }
                Output::HashBlocks(run) => self.hash_blocks(now, run, context),
                Output::Event(kind) => self.tell(context, *kind),
                Output::Serve(..) => {}
            }
        }
        self.serve(now, serving, context);
    }

    fn close(&self, peer: PeerKey, reason: String, context: &mut Context) {
        if let Some(connection) = context.connections.close(peer) {
            let (address, transport) = (connection.address, connection.transport.name());
            self.tell_if(context, Severity::Info, || Kind::PeerDisconnect { address, transport, reason });
        }
    }

    fn serve(&mut self, now: Instant, blocks: Option<(PeerKey, Vec<Block>)>, context: &mut Context) {
        let Some((peer, blocks)) = blocks else { return };
        self.durability.use_files(now);
        let mut run = context.connections.take_buffer();
        driver::lay_out(&blocks, &mut run);
        if !context.disk.read(Read { torrent: self.on_disk.clone(), peer, run }) {
            self.on_closed(now, peer, "the disk cannot keep up".into(), context);
        }
    }

    fn hand_to_disk(&mut self, now: Instant, job: Verify, context: &mut Context) {
        let piece = job.piece;
        let size = u64::from(self.layout().piece_size(piece));
        if self.durability.begin_write(piece, size) {
            context.budget.take(self.on_disk.lane, size);
        }
        self.durability.use_files(now);
        if !context.disk.write(self.on_disk.lane, WriteJob::Verify(job)) {
            self.end_write(piece, context);
            self.input(now, Input::Lost(piece));
        }
        if self.swarm().is_some_and(|swarm| !swarm.awaits_blocks()) {
            // If there is no room for it, the last pieces wait a moment for more.
            context.disk.write(self.on_disk.lane, WriteJob::Hurry);
        }
    }

    /// A piece does not wait for the disk any more.
    fn end_write(&mut self, piece: PieceIndex, context: &mut Context) {
        let size = u64::from(self.layout().piece_size(piece));
        if self.durability.end_write(piece, size) {
            context.budget.give_back(self.on_disk.lane, size);
        }
    }

    /// What is whole and right waits in memory while the torrent is paused; with `again`, it is tried once more at once.
    fn keep_unwritten(
        &mut self,
        now: Instant,
        piece: PieceIndex,
        buffers: Vec<BlockData>,
        again: bool,
        context: &mut Context,
    ) {
        let mut unused = Some(buffers);
        if again || self.state == State::Paused {
            self.with_transfer(|transfer| {
                unused = unused.take().and_then(|buffers| transfer.on_not_written(now, piece, buffers));
            });
        } else {
            self.input(now, Input::Lost(piece));
        }
        context.connections.shared.pool.put(unused.into_iter().flatten());
    }

    /// What the disk's threads have done.
    pub(crate) fn on_done(&mut self, now: Instant, done: Done, context: &mut Context) {
        match done {
            Done::Passed { piece, digests, buffers, .. } => {
                context.connections.shared.pool.put(buffers);
                self.end_write(piece, context);
                self.errors.was_from_before(piece);
                self.tell_notes(context);
                self.input(now, Input::Passed { piece, digests });
                self.on_new_piece(now, piece, context);
            }
            Done::Failed { piece, digests, hashes, buffers, .. } => {
                context.connections.shared.pool.put(buffers);
                self.end_write(piece, context);
                self.input(now, Input::Failed { piece, digests, hashes });
            }
            Done::NotWritten { piece, error, buffers, .. } => {
                self.end_write(piece, context);
                let is_from_before = self.errors.was_from_before(piece);
                if !is_from_before {
                    self.on_storage_error(now, &error, context);
                }
                self.keep_unwritten(now, piece, buffers, is_from_before, context);
            }
            Done::Read { peer, run, .. } => self.send(now, peer, Outgoing::Blocks(run), context),
            Done::NotRead { peer, error, .. } => {
                let reason = error.message(&context.options.remedies);
                self.on_closed(now, peer, reason, context);
                self.on_storage_error(now, &error, context);
            }
            // No torrent's own: the loop tells all of them.
            Done::Broken { .. } => {}
        }
    }
}

fn length(blocks: &[Block]) -> usize {
    blocks.iter().map(|block| block.length as usize).sum()
}
