//! The data of blocks in memory, between the network and the disk; used again and again, so that a
//! download allocates as many buffers as are in use at once.

use std::cell::RefCell;

use crate::layout::{BLOCK_LENGTH, Block};

/// Buffers kept for later; more are given back to the allocator. As many as a fast download has in use at
/// once, 24 MiB.
const MAX_SPARE: usize = 1536;

/// The data of a block.
pub struct BlockData {
    bytes: Box<[u8]>,
    length: u32,
}

impl std::fmt::Debug for BlockData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockData({} bytes)", self.length)
    }
}

impl BlockData {
    /// A zeroed block of `length` bytes; at most [`BLOCK_LENGTH`].
    pub fn new(length: u32) -> BlockData {
        debug_assert!(length <= BLOCK_LENGTH);
        BlockData {
            bytes: vec![0; BLOCK_LENGTH as usize].into_boxed_slice(),
            length: length.min(BLOCK_LENGTH),
        }
    }

    /// A zeroed block in a buffer of its own length: for what nobody asked for, so that a short one
    /// costs no more memory than it brings.
    pub fn exact(length: u32) -> BlockData {
        let length = length.min(BLOCK_LENGTH);
        BlockData { bytes: vec![0; length as usize].into_boxed_slice(), length }
    }

    /// Bytes that the buffer takes in memory.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// From now on the block has so many bytes, as far as its buffer has room.
    pub fn set_length(&mut self, length: u32) {
        self.length = length.min(self.bytes.len() as u32);
    }

    /// The data.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }

    /// The data.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length as usize]
    }
}

/// Blocks in one buffer, as they go over the wire: between them is room for their headers.
#[derive(Debug, Default)]
pub struct Run {
    /// Headers and data.
    pub bytes: Vec<u8>,
    /// Where the data of each block begin in `bytes`, ascending.
    pub places: Vec<(usize, Block)>,
}

/// Spare buffers.
#[derive(Debug, Default)]
pub struct Pool {
    spare: RefCell<Vec<BlockData>>,
}

impl Pool {
    /// A buffer of `length` bytes, with any content.
    pub fn take(&self, length: u32) -> BlockData {
        match self.spare.borrow_mut().pop() {
            Some(mut data) => {
                data.length = length.min(BLOCK_LENGTH);
                data
            }
            None => BlockData::new(length),
        }
    }

    /// Gives the spare buffers back to the allocator.
    pub fn clear(&self) {
        self.spare.take();
    }

    /// Gives buffers back.
    pub fn put(&self, blocks: impl IntoIterator<Item = BlockData>) {
        let mut spare = self.spare.borrow_mut();
        for block in blocks {
            if spare.len() < MAX_SPARE && block.capacity() == BLOCK_LENGTH as usize {
                spare.push(block);
            }
        }
    }
}
