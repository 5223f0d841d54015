//! From messages and blocks to the bytes of a connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::link::Link;
use crate::blocks::Run;
use crate::layout::Block;
use crate::wire::{Message, PIECE_HEADER_LENGTH, piece_header};

/// Chunks that one gathered write takes at the most.
const MAX_GATHERED: usize = 16;

/// Lays blocks out in a buffer that may have been used before, each behind its header. Whatever is in
/// their places is to be overwritten with their data.
pub(crate) fn lay_out(blocks: &[Block], run: &mut Run) {
    let length = blocks.iter().map(|block| PIECE_HEADER_LENGTH + block.length as usize).sum();
    run.bytes.resize(length, 0);
    run.places.clear();
    let mut at = 0;
    for &block in blocks {
        run.bytes[at..at + PIECE_HEADER_LENGTH].copy_from_slice(&piece_header(block));
        run.places.push((at + PIECE_HEADER_LENGTH, block));
        at += PIECE_HEADER_LENGTH + block.length as usize;
    }
}

#[derive(Debug)]
enum Chunk {
    Control(Vec<u8>),
    Blocks(Run),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Control(bytes) => bytes,
            Chunk::Blocks(run) => &run.bytes,
        }
    }
}

/// The sending side of a connection. What it holds is bounded by whoever queues: the swarm hands
/// out few blocks ahead, and a peer whose outbox is full is closed.
#[derive(Debug, Default)]
pub(super) struct MessageWriter {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are written.
    written: usize,
}

impl MessageWriter {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes of control messages that wait.
    pub(super) fn control_backlog(&self) -> usize {
        let control = |chunk: &Chunk| match chunk {
            Chunk::Control(bytes) => bytes.len(),
            Chunk::Blocks(_) => 0,
        };
        self.chunks.iter().map(control).sum()
    }

    /// Queues bytes as they are: the handshake.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        self.control().extend_from_slice(bytes);
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: &Message) {
        message.encode_into(self.control());
    }

    /// Queues blocks.
    pub(super) fn push_blocks(&mut self, run: Run) {
        self.chunks.push_back(Chunk::Blocks(run));
    }

    fn control(&mut self) -> &mut Vec<u8> {
        if !matches!(self.chunks.back(), Some(Chunk::Control(_))) {
            self.chunks.push_back(Chunk::Control(Vec::new()));
        }
        match self.chunks.back_mut() {
            Some(Chunk::Control(bytes)) => bytes,
            _ => unreachable!("a control chunk was just pushed"),
        }
    }

    /// One write of at most about `most` bytes. Says how many bytes went and how many of them were
    /// payload of blocks that went whole; buffers that are done with go to `done`.
    pub(super) fn write(
        &mut self,
        link: &Link,
        most: usize,
        done: &mut Vec<Run>,
    ) -> io::Result<(usize, u32)> {
        let mut slices = [IoSlice::new(&[]); MAX_GATHERED];
        let (mut count, mut room) = (0, most);
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            let bytes = if count == 0 { &chunk.bytes()[self.written..] } else { chunk.bytes() };
            if room == 0 {
                break;
            }
            let part = &bytes[..bytes.len().min(room)];
            *slice = IoSlice::new(part);
            room -= part.len();
            count += 1;
        }
        let sent = link.try_write_vectored(&slices[..count])?;
        Ok((sent, self.advance(sent, done)))
    }

    fn advance(&mut self, mut sent: usize, done: &mut Vec<Run>) -> u32 {
        let mut payload = 0;
        while let Some(chunk) = self.chunks.front() {
            let before = self.written;
            self.written += sent.min(chunk.bytes().len() - before);
            sent -= self.written - before;
            if let Chunk::Blocks(run) = chunk {
                let ends =
                    run.places.iter().map(|&(place, block)| (place + block.length as usize, block.length));
                let reached = ends.filter(|&(end, _)| before < end && end <= self.written);
                payload += reached.map(|(_, length)| length).sum::<u32>();
            }
            if self.written < chunk.bytes().len() {
                break;
            }
            self.written = 0;
            if let Some(Chunk::Blocks(run)) = self.chunks.pop_front() {
                done.push(run);
            }
        }
        payload
    }
}
