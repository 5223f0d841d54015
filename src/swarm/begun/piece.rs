//! One piece that is begun, block by block.

use std::time::Instant;

use crate::blocks::BlockData;
use crate::ids::{PeerKey, Source};
use crate::swarm::rate::RateMeter;

/// One block of a begun piece.
#[derive(Debug)]
pub(super) enum BlockState {
    Free,
    /// Asked of this peer, and in the end game of those in `BegunPieces::extra` too.
    Requested(PeerKey),
    Here {
        /// Index in `BegunPiece::senders`.
        sender: u32,
        data: BlockData,
    },
}

/// A piece that is begun.
#[derive(Debug)]
pub(super) struct BegunPiece {
    pub(super) blocks: Vec<BlockState>,
    /// Who sent a block of it: by address, for they may be gone when its hash is known.
    pub(super) senders: Vec<Source>,
    pub(super) free: u32,
    pub(super) here: u32,
    /// No free block before this one.
    pub(super) cursor: u32,
    /// When a block of it last came, or it was begun.
    pub(super) touched: Instant,
    /// What the rate of the download owes to it.
    pub(super) rate: RateMeter,
}

impl BlockState {
    pub(super) fn is_free(&self) -> bool {
        matches!(self, BlockState::Free)
    }
}

impl BegunPiece {
    /// One of so many blocks, all of them free.
    pub(super) fn new(now: Instant, count: u32) -> BegunPiece {
        let mut blocks = Vec::new();
        blocks.resize_with(count as usize, || BlockState::Free);
        BegunPiece {
            blocks,
            senders: Vec::new(),
            free: count,
            here: 0,
            cursor: 0,
            touched: now,
            rate: RateMeter::new(),
        }
    }

    /// A block has come that was not here.
    pub(super) fn put(&mut self, now: Instant, number: u32, source: Source, data: BlockData) {
        self.touched = now;
        let known = self.senders.iter().position(|&sender| sender == source);
        let sender = known.unwrap_or_else(|| {
            self.senders.push(source);
            self.senders.len() - 1
        }) as u32;
        self.blocks[number as usize] = BlockState::Here { sender, data };
        self.here += 1;
    }

    /// The number of the first free block.
    pub(super) fn first_free(&self) -> Option<u32> {
        let mut numbers = self.cursor..self.blocks.len() as u32;
        numbers.find(|&number| self.blocks[number as usize].is_free())
    }

    /// How many blocks are asked for and not here.
    pub(super) fn owed(&self) -> u32 {
        self.blocks.len() as u32 - self.free - self.here
    }
}
