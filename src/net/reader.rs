//! From the bytes of a connection to messages and blocks.
//!
//! Blocks are read straight into their buffers: the replies to our requests come one after the other, mostly
//! in the order of the requests, so one scattered read takes `header, block, header, block, …`. Blocks of
//! one length may come in any order. Where something else comes (a have), the bytes are taken out again and
//! go the plain way. A connection that is idle holds no buffer.

use std::collections::{HashSet, VecDeque};
use std::io::{self, IoSliceMut};

use super::NetShared;
use super::link::Link;
use crate::blocks::BlockData;
use crate::layout::Block;
use crate::mse::Cipher;
use crate::wire::{Frame, Limits, Message, PIECE_HEADER_LENGTH, ProtocolError, frame_needs, next_frame};

/// Blocks that one scattered read takes at the most.
const MAX_SCATTERED: usize = 32;

/// Requests that are remembered as unanswered; some are never answered.
const MAX_EXPECTED: usize = 8192;

/// What came.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Any message but a block.
    Message(Message),
    /// A block, whole.
    Block(Block, BlockData),
}

impl Incoming {
    /// Bytes that a block takes on the wire; 0 for other messages.
    pub(super) fn block_bytes(&self) -> usize {
        match self {
            Incoming::Block(block, _) => PIECE_HEADER_LENGTH + block.length as usize,
            Incoming::Message(_) => 0,
        }
    }

    /// The data of a block.
    pub(crate) fn into_data(self) -> Option<BlockData> {
        match self {
            Incoming::Block(_, data) => Some(data),
            Incoming::Message(_) => None,
        }
    }
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The other side closed.
    #[error("closed by the peer")]
    Eof,
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side broke the protocol.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
}

/// A block of which the first bytes are here.
#[derive(Debug)]
struct PartialBlock {
    block: Block,
    data: BlockData,
    filled: usize,
}

/// The receiving side of a connection, from the first message on.
#[derive(Debug)]
pub(super) struct MessageReader {
    limits: Limits,
    /// The beginning of a message; bounded by the limits of its kind.
    carry: Vec<u8>,
    /// How long `carry` is to be before it can hold anything to take out.
    carry_until: usize,
    partial: Option<PartialBlock>,
    /// Requests that were sent and not answered, in order, as far as we know: a prediction, nothing depends
    /// on it. At most [`MAX_EXPECTED`].
    expected: VecDeque<Block>,
    /// The same as a set: who sends what is not expected must not have all of them looked through.
    is_expected: HashSet<Block>,
    /// Deciphers what comes, where it lies.
    cipher: Option<Cipher>,
}

impl MessageReader {
    /// For a connection on which no message has come yet.
    pub(super) fn new(limits: Limits, cipher: Option<Cipher>) -> MessageReader {
        MessageReader {
            limits,
            carry: Vec::new(),
            carry_until: 0,
            partial: None,
            expected: VecDeque::new(),
            is_expected: HashSet::new(),
            cipher,
        }
    }

    /// Takes what was read along with the handshake, and is deciphered already.
    pub(super) fn begin(
        &mut self,
        early: &[u8],
        shared: &NetShared,
        out: &mut Vec<Incoming>,
    ) -> Result<(), ReadError> {
        self.take_plain(early, shared, out)
    }

    /// A request or cancel goes out.
    pub(super) fn on_sent(&mut self, message: &Message) {
        match message {
            Message::Request(block) => {
                if self.expected.len() == MAX_EXPECTED {
                    self.take_expected(0);
                }
                if self.is_expected.insert(*block) {
                    self.expected.push_back(*block);
                }
            }
            Message::Cancel(block) => self.forget(*block),
            _ => {}
        }
    }

    fn forget(&mut self, block: Block) {
        if let Some(at) = self.place_of(block) {
            self.expected.remove(at);
            self.is_expected.remove(&block);
        }
    }

    /// Where it stands among the expected ones.
    fn place_of(&self, block: Block) -> Option<usize> {
        // Nearly always the first.
        if self.expected.front() == Some(&block) {
            return Some(0);
        }
        if !self.is_expected.contains(&block) {
            return None;
        }
        self.expected.iter().position(|&other| other == block)
    }

    /// One read of at most `most` bytes. Says how many came; `WouldBlock` if none.
    pub(super) fn read(
        &mut self,
        link: &Link,
        shared: &NetShared,
        most: usize,
        out: &mut Vec<Incoming>,
    ) -> Result<usize, ReadError> {
        let scattered = self.carry.is_empty() && (self.partial.is_some() || !self.expected.is_empty());
        let count = match scattered {
            true => self.read_scattered(link, shared, most, out)?,
            false => self.read_plain(link, shared, most, out)?,
        };
        if count == 0 { Err(ReadError::Eof) } else { Ok(count) }
    }

    fn read_plain(
        &mut self,
        link: &Link,
        shared: &NetShared,
        most: usize,
        out: &mut Vec<Incoming>,
    ) -> Result<usize, ReadError> {
        let mut scratch = shared.scratch.borrow_mut();
        let most = most.clamp(1, scratch.len());
        let count = link.try_read(&mut scratch[..most])?;
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(&mut scratch[..count]);
        }
        self.feed(&scratch[..count], shared, out)?;
        Ok(count)
    }

    /// These bytes came next. A long message that comes in small parts is gone through and copied once, not with each
    /// part.
    fn feed(&mut self, bytes: &[u8], shared: &NetShared, out: &mut Vec<Incoming>) -> Result<(), ReadError> {
        if self.carry.is_empty() {
            return self.take_plain(bytes, shared, out);
        }
        self.carry.extend_from_slice(bytes);
        if self.carry.len() < self.carry_until {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.carry);
        self.take_plain(&bytes, shared, out)
    }

    fn read_scattered(
        &mut self,
        link: &Link,
        shared: &NetShared,
        most: usize,
        out: &mut Vec<Incoming>,
    ) -> Result<usize, ReadError> {
        let blocks = (most / 16384).clamp(1, MAX_SCATTERED).min(self.expected.len());
        let mut headers = [[0u8; PIECE_HEADER_LENGTH]; MAX_SCATTERED];
        let mut data: Vec<BlockData> =
            self.expected.iter().take(blocks).map(|block| shared.pool.take(block.length)).collect();
        let mut slices: Vec<IoSliceMut<'_>> = Vec::with_capacity(2 * blocks + 1);
        let mut room = most.max(1);
        if let Some(partial) = &mut self.partial {
            push_part(&mut slices, &mut partial.data.as_mut_slice()[partial.filled..], &mut room);
        }
        for (header, data) in headers.iter_mut().zip(&mut data) {
            push_part(&mut slices, header, &mut room);
            push_part(&mut slices, data.as_mut_slice(), &mut room);
        }
        let result = link.try_read_vectored(&mut slices);
        let count = match result {
            Ok(count) => count,
            Err(error) => {
                shared.pool.put(data);
                return Err(error.into());
            }
        };
        if let Some(cipher) = &mut self.cipher {
            decipher(cipher, &mut slices, count);
        }
        let left = self.fill_partial(count, out);
        self.take_scattered(left, &headers, data, shared, out)?;
        Ok(count)
    }

    /// So many bytes came, the first of them for the partial block. Returns how many are behind it.
    fn fill_partial(&mut self, count: usize, out: &mut Vec<Incoming>) -> usize {
        let Some(partial) = &mut self.partial else { return count };
        let taken = count.min(partial.block.length as usize - partial.filled);
        partial.filled += taken;
        if partial.filled == partial.block.length as usize
            && let Some(PartialBlock { block, data, .. }) = self.partial.take()
        {
            out.push(Incoming::Block(block, data));
        }
        count - taken
    }

    /// `left` bytes lie in `headers` and `data` as predicted, or not.
    fn take_scattered(
        &mut self,
        mut left: usize,
        headers: &[[u8; PIECE_HEADER_LENGTH]],
        data: Vec<BlockData>,
        shared: &NetShared,
        out: &mut Vec<Incoming>,
    ) -> Result<(), ReadError> {
        let mut spare = data.into_iter();
        for (first, header) in headers.iter().enumerate() {
            if left == 0 {
                break;
            }
            let Some(data) = spare.next() else { break };
            let whole = left >= PIECE_HEADER_LENGTH;
            let announced = if whole { self.announced_by(header, data.as_slice().len()) } else { None };
            let Some((at, block)) = announced else {
                // Not what was predicted: from here on in one run, and the plain way.
                let mut bytes = Vec::with_capacity(left);
                let rest = std::iter::once(&data).chain(spare.as_slice());
                for (header, data) in headers[first..].iter().zip(rest) {
                    for part in [&header[..], data.as_slice()] {
                        bytes.extend_from_slice(&part[..part.len().min(left - bytes.len())]);
                    }
                }
                shared.pool.put(std::iter::once(data).chain(spare));
                return self.take_plain(&bytes, shared, out);
            };
            self.take_expected(at);
            let filled = (left - PIECE_HEADER_LENGTH).min(block.length as usize);
            left -= PIECE_HEADER_LENGTH + filled;
            if filled == block.length as usize {
                out.push(Incoming::Block(block, data));
            } else {
                self.partial = Some(PartialBlock { block, data, filled });
            }
        }
        shared.pool.put(spare);
        Ok(())
    }

    /// The block that a header announces and its place among the expected ones, if it is one of them and
    /// `length` bytes long.
    fn announced_by(&self, header: &[u8; PIECE_HEADER_LENGTH], length: usize) -> Option<(usize, Block)> {
        match next_frame(header, &self.limits) {
            Ok(Some(Frame::PieceHeader { block, .. })) if block.length as usize == length => {
                Some((self.place_of(block)?, block))
            }
            _ => None,
        }
    }

    /// Takes messages out of a run of bytes; the beginning of a further one is carried over.
    fn take_plain(
        &mut self,
        bytes: &[u8],
        shared: &NetShared,
        out: &mut Vec<Incoming>,
    ) -> Result<(), ReadError> {
        let filled = match &mut self.partial {
            Some(partial) => {
                let rest = &mut partial.data.as_mut_slice()[partial.filled..];
                let count = rest.len().min(bytes.len());
                rest[..count].copy_from_slice(&bytes[..count]);
                count
            }
            None => 0,
        };
        self.fill_partial(filled, out);
        let mut rest = &bytes[filled..];
        while self.partial.is_none() {
            match next_frame(rest, &self.limits)? {
                Some(Frame::Message(message, consumed)) => {
                    if let Message::Reject(block) = &message {
                        self.forget(*block);
                    }
                    rest = &rest[consumed..];
                    // Each is 4 bytes on the wire and ten times that here: one stands for a run of them.
                    let repeats = matches!(message, Message::KeepAlive)
                        && matches!(out.last(), Some(Incoming::Message(Message::KeepAlive)));
                    if !repeats {
                        out.push(Incoming::Message(message));
                    }
                }
                Some(Frame::PieceHeader { block, consumed }) => {
                    rest = &rest[consumed..];
                    let mut data = match self.skip_to(block) {
                        true => shared.pool.take(block.length),
                        false => BlockData::exact(block.length),
                    };
                    let filled = rest.len().min(block.length as usize);
                    data.as_mut_slice()[..filled].copy_from_slice(&rest[..filled]);
                    rest = &rest[filled..];
                    if filled == block.length as usize {
                        out.push(Incoming::Block(block, data));
                    } else {
                        self.partial = Some(PartialBlock { block, data, filled });
                    }
                }
                None => break,
            }
        }
        self.carry.extend_from_slice(rest);
        self.carry_until = frame_needs(rest);
        Ok(())
    }

    /// `block` came. False if it was not expected at all.
    fn skip_to(&mut self, block: Block) -> bool {
        self.place_of(block).inspect(|&at| self.take_expected(at)).is_some()
    }

    /// The one at `at` came; those expected before it may still come, but after the others.
    fn take_expected(&mut self, at: usize) {
        self.expected.rotate_left(at);
        if let Some(block) = self.expected.pop_front() {
            self.is_expected.remove(&block);
        }
    }
}

/// Adds a slice to read into, as far as there is room for so many bytes.
fn push_part<'a>(slices: &mut Vec<IoSliceMut<'a>>, bytes: &'a mut [u8], room: &mut usize) {
    let part = bytes.len().min(*room);
    *room -= part;
    if part > 0 {
        slices.push(IoSliceMut::new(&mut bytes[..part]));
    }
}

/// Deciphers the first `count` bytes of a scattered read.
fn decipher(cipher: &mut Cipher, slices: &mut [IoSliceMut<'_>], mut count: usize) {
    for slice in slices {
        let filled = slice.len().min(count);
        cipher.apply(&mut slice[..filled]);
        count -= filled;
    }
}

#[cfg(test)]
mod tests;
