//! Keeps the lanes of the kernels full: cuts messages of any lengths, in segments of any lengths,
//! into runs of whole blocks, and regroups the messages each time one of them needs it.
//!
//! Owns the state, the odd bytes and the padding of each message; never looks at how a kernel works.

use super::LANES;
use super::digest::{Digest, MessageBlock};
use super::kernel::Kernels;

const BLOCK: usize = size_of::<MessageBlock>();

/// One message's computation between two chunks.
#[derive(Clone, Debug)]
pub(super) struct Lane<D: Digest> {
    state: D::State,
    /// Bytes that make no whole block yet, from the front; two blocks because padding may need both.
    odd: [MessageBlock; 2],
    /// How many of `odd` are there; below 64 but while padding.
    odd_length: usize,
    /// Bytes of the message so far.
    length: u64,
}

impl<D: Digest> Default for Lane<D> {
    fn default() -> Lane<D> {
        Lane { state: D::INITIAL, odd: [[0; BLOCK]; 2], odd_length: 0, length: 0 }
    }
}

impl<D: Digest> Lane<D> {
    /// The digest; of the message, if it was padded.
    pub(super) fn digest(&self) -> D {
        D::from_state(&self.state)
    }

    /// Appends the padding (FIPS 180-4, 5.1.1) to the odd bytes; returns how many blocks that makes.
    fn pad(&mut self) -> usize {
        let blocks = if self.odd_length + 9 <= BLOCK { 1 } else { 2 };
        let odd = &mut self.odd.as_flattened_mut()[..blocks * BLOCK];
        odd[self.odd_length..].fill(0);
        odd[self.odd_length] = 0x80;
        // FIPS 180-4 ends at 2^64 bits, far above any piece.
        odd[blocks * BLOCK - 8..].copy_from_slice(&self.length.wrapping_mul(8).to_be_bytes());
        blocks
    }
}

/// What a lane is to take in: segments, and the padding where they end the message.
#[derive(Debug)]
pub(super) struct Feed<'a, D: Digest> {
    lane: &'a mut Lane<D>,
    /// Blocks of `lane.odd` that go before `segment`.
    ready: std::ops::Range<usize>,
    segment: &'a [u8],
    segments: std::slice::Iter<'a, &'a [u8]>,
    /// Whether the padding is still to come after the segments.
    pads: bool,
}

impl<'a, D: Digest> Feed<'a, D> {
    /// Segments after which the message goes on.
    pub(super) fn more(lane: &'a mut Lane<D>, segments: &'a [&'a [u8]]) -> Feed<'a, D> {
        Feed { lane, ready: 0..0, segment: &[], segments: segments.iter(), pads: false }
    }

    /// Segments that end the message.
    pub(super) fn last(lane: &'a mut Lane<D>, segments: &'a [&'a [u8]]) -> Feed<'a, D> {
        Feed { pads: true, ..Feed::more(lane, segments) }
    }

    /// Bytes to come; before the first [`Feed::prepare`].
    fn length(&self) -> usize {
        self.segments.as_slice().iter().map(|segment| segment.len()).sum()
    }

    /// Makes a run of at least one block, if there is one left.
    fn prepare(&mut self) -> bool {
        loop {
            if !self.ready.is_empty() || self.lane.odd_length == 0 && self.segment.len() >= BLOCK {
                return true;
            } else if !self.segment.is_empty() {
                self.fill_odd();
            } else if let Some(segment) = self.segments.next() {
                self.segment = segment;
                self.lane.length += segment.len() as u64;
            } else if self.pads {
                self.pads = false;
                self.ready = 0..self.lane.pad();
                self.lane.odd_length = 0;
            } else {
                return false;
            }
        }
    }

    /// Completes the odd bytes to a block as far as the segment goes.
    fn fill_odd(&mut self) {
        let odd_length = self.lane.odd_length;
        let (taken, rest) = self.segment.split_at(self.segment.len().min(BLOCK - odd_length));
        self.lane.odd[0][odd_length..odd_length + taken.len()].copy_from_slice(taken);
        self.segment = rest;
        self.lane.odd_length += taken.len();
        if self.lane.odd_length == BLOCK {
            self.lane.odd_length = 0;
            self.ready = 0..1;
        }
    }

    /// The blocks that come next and lie in one run.
    fn run(&self) -> &[MessageBlock] {
        if self.ready.is_empty() { self.segment.as_chunks().0 } else { &self.lane.odd[self.ready.clone()] }
    }

    /// Goes on behind `blocks` blocks of the run, with the state that they led to.
    fn advance(&mut self, state: D::State, blocks: usize) {
        self.lane.state = state;
        if self.ready.is_empty() {
            self.segment = &self.segment[blocks * BLOCK..];
        } else {
            self.ready.start += blocks;
        }
    }
}

/// Feeds all lanes, up to [`LANES`] side by side.
pub(super) fn drive<D: Digest>(kernels: Kernels, mut waiting: Vec<Feed<D>>) {
    // The longest go first (from the end), lest one of them is left to run alone.
    waiting.sort_by_key(Feed::length);
    let mut active: Vec<Feed<D>> = Vec::with_capacity(LANES.min(waiting.len()));
    loop {
        active.retain_mut(Feed::prepare);
        while active.len() < LANES {
            let Some(mut feed) = waiting.pop() else { break };
            if feed.prepare() {
                active.push(feed);
            }
        }
        if active.is_empty() {
            return;
        }
        let mut rest = active.as_mut_slice();
        while !rest.is_empty() {
            let (group, others) = rest.split_at_mut(D::group(kernels, rest.len()));
            advance_group(kernels, group);
            rest = others;
        }
    }
}

/// Takes a group as far as its shortest run goes; each of its feeds has one, and there are no more
/// than [`LANES`].
fn advance_group<D: Digest>(kernels: Kernels, group: &mut [Feed<D>]) {
    let mut states = [D::INITIAL; LANES];
    let mut runs: [&[MessageBlock]; LANES] = [&[]; LANES];
    for ((state, run), feed) in states.iter_mut().zip(&mut runs).zip(group.iter()) {
        (*state, *run) = (feed.lane.state, feed.run());
    }
    let blocks = D::compress(kernels, &mut states[..group.len()], &runs[..group.len()]);
    for (feed, state) in group.iter_mut().zip(states) {
        feed.advance(state, blocks);
    }
}
