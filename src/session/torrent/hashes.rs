//! Hashes of the blocks of a piece, for peers that find out who sent them bad ones (BEP 52).

use std::io::IoSliceMut;
use std::time::Instant;

use super::Torrent;
use crate::disk::OnDisk;
use crate::hash::Sha256;
use crate::hash::merkle::block_hashes;
use crate::ids::PeerKey;
use crate::net::driver::Outgoing;
use crate::proofs::WantedBlocks;
use crate::session::Notice;
use crate::session::context::Context;
use crate::wire::Message;

impl Torrent {
    /// Has the blocks of a piece read and hashed for a peer, beside the loop.
    pub(super) fn serve_hashes(
        &mut self,
        now: Instant,
        peer: PeerKey,
        blocks: Box<WantedBlocks>,
        context: &mut Context,
    ) {
        self.durability.use_files(now);
        let (id, notify, on_disk) = (self.id, context.notify.clone(), self.on_disk.clone());
        // The session may have ended; then nobody needs to know.
        let work = move || drop(notify.send(Notice::Hashed(id, peer, answer(&on_disk, *blocks))));
        if !context.disk.among_reads(Box::new(work)) {
            self.on_closed(now, peer, "the disk cannot keep up".into(), context);
        }
    }

    /// The hashes that a peer asked for are there, or that they cannot be had.
    pub(crate) fn on_hashed(&mut self, now: Instant, peer: PeerKey, answer: Message, context: &mut Context) {
        self.send(now, peer, Outgoing::Message(answer), context);
    }
}

/// Reads a piece and hashes its blocks: those behind the end of the file are zeros. What cannot be read is refused.
fn answer(on_disk: &OnDisk, blocks: WantedBlocks) -> Message {
    let WantedBlocks { range, piece, uncles } = blocks;
    let layout = &on_disk.metainfo.layout;
    let mut data = vec![0; layout.piece_size(piece) as usize];
    match on_disk.storage.read_at(layout.piece_offset(piece), &mut [IoSliceMut::new(&mut data)]) {
        Ok(()) => {
            let mut hashes = block_hashes(&data);
            hashes.resize(range.length as usize, Sha256::ZERO);
            hashes.extend(uncles);
            Message::Hashes(range, hashes)
        }
        Err(_) => Message::HashReject(range),
    }
}
