//! From messages and blocks to the bytes of a connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use super::link::Link;
use crate::blocks::Run;
use crate::layout::Block;
use crate::mse::Cipher;
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

/// Bytes that are enciphered before it is seen whether the socket takes them.
const MAX_SEALED: usize = 256 << 10;

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

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Chunk::Control(bytes) => bytes,
            Chunk::Blocks(run) => &mut run.bytes,
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
    /// Enciphers what goes out, where it lies.
    cipher: Option<Cipher>,
    /// Bytes behind those that are written which are enciphered: they go next, and in this order.
    sealed: usize,
    /// The same of `ahead`. Not both are there.
    ahead_sealed: usize,
    /// Under a limit, control messages do not wait behind blocks: they stand here, and go between two of them.
    control_first: bool,
    ahead: Vec<u8>,
}

impl MessageWriter {
    /// With `control_first`, control messages overtake blocks that wait.
    pub(super) fn new(control_first: bool, cipher: Option<Cipher>) -> MessageWriter {
        MessageWriter { control_first, cipher, ..MessageWriter::default() }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.ahead.is_empty()
    }

    /// Whether control messages wait that may go now: no block is half written.
    pub(super) fn has_control_to_go(&self) -> bool {
        !self.ahead.is_empty() && self.sealed == 0 && self.rest_of_block() == 0
    }

    /// Bytes of the block that is half written, if one is, that are still to go.
    fn rest_of_block(&self) -> usize {
        let Some(Chunk::Blocks(run)) = self.chunks.front().filter(|_| self.written > 0) else { return 0 };
        let ends = run.places.iter().map(|&(place, block)| place + block.length as usize);
        let end = std::iter::once(0).chain(ends).find(|&end| end >= self.written);
        end.unwrap_or(run.bytes.len()) - self.written
    }

    /// Bytes of control messages that wait.
    pub(super) fn control_backlog(&self) -> usize {
        let control = |chunk: &Chunk| match chunk {
            Chunk::Control(bytes) => bytes.len(),
            Chunk::Blocks(_) => 0,
        };
        self.ahead.len() + self.chunks.iter().map(control).sum::<usize>()
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
        if self.control_first {
            return &mut self.ahead;
        }
        if !matches!(self.chunks.back(), Some(Chunk::Control(_))) {
            self.chunks.push_back(Chunk::Control(Vec::new()));
        }
        match self.chunks.back_mut() {
            Some(Chunk::Control(bytes)) => bytes,
            _ => unreachable!("a control chunk was just pushed"),
        }
    }

    /// One write of at most about `most` bytes; of control messages that go first, of all that there are. Says how many bytes went and how many of them were
    /// payload of blocks that went whole; buffers that are done with go to `done`.
    pub(super) fn write(
        &mut self,
        link: &Link,
        most: usize,
        done: &mut Vec<Run>,
    ) -> io::Result<(usize, u32)> {
        let mut most = most;
        if !self.ahead.is_empty() {
            if self.has_control_to_go() {
                if let Some(cipher) = &mut self.cipher {
                    cipher.apply(&mut self.ahead[self.ahead_sealed..]);
                    self.ahead_sealed = self.ahead.len();
                }
                let sent = link.try_write_vectored(&[IoSlice::new(&self.ahead)])?;
                self.ahead.drain(..sent);
                self.ahead_sealed = self.ahead_sealed.saturating_sub(sent);
                return Ok((sent, 0));
            }
            most = most.min(self.rest_of_block().max(self.sealed));
        }
        if self.cipher.is_some() {
            most = self.seal(most);
        }
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
        self.sealed = self.sealed.saturating_sub(sent);
        Ok((sent, self.advance(sent, done)))
    }

    /// Enciphers about as many bytes as are to go now; what was enciphered before and has not gone goes first. Says how many may go.
    fn seal(&mut self, most: usize) -> usize {
        let Some(cipher) = &mut self.cipher else { return most };
        if self.sealed > 0 {
            return self.sealed;
        }
        let (mut start, mut room) = (self.written, most.min(MAX_SEALED));
        for chunk in self.chunks.iter_mut().take(MAX_GATHERED) {
            let bytes = &mut chunk.bytes_mut()[std::mem::take(&mut start)..];
            let part = bytes.len().min(room);
            cipher.apply(&mut bytes[..part]);
            room -= part;
            self.sealed += part;
        }
        self.sealed
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceIndex;

    #[test]
    fn control_messages_overtake_blocks_that_wait_but_not_one_that_is_half_written() {
        let block = |begin| Block { piece: PieceIndex(1), begin, length: 100 };
        let mut run = Run::default();
        lay_out(&[block(0), block(100)], &mut run);
        let mut writer = MessageWriter::new(true, None);
        writer.push_blocks(run);
        writer.push(&Message::Interested);
        assert!(writer.has_control_to_go(), "nothing is written yet");
        let one = PIECE_HEADER_LENGTH + 100;
        let mut done = Vec::new();
        assert_eq!(writer.advance(50, &mut done), 0);
        assert_eq!((writer.rest_of_block(), writer.has_control_to_go()), (one - 50, false));
        assert_eq!(writer.advance(one - 50, &mut done), 100);
        assert!(writer.has_control_to_go(), "it goes between two blocks");
        writer.advance(1, &mut done);
        assert_eq!(writer.rest_of_block(), one - 1);
        writer.advance(one - 1, &mut done);
        assert!(writer.has_control_to_go() && done.len() == 1);
        // Without a limit all goes in the order in which it was queued.
        let mut writer = MessageWriter::new(false, None);
        writer.push(&Message::Interested);
        assert!(!writer.has_control_to_go() && !writer.is_empty());
    }
}
