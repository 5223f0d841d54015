//! Hashes of the blocks of pieces, for peers that find out who sent them bad ones (BEP 52).

use std::io::IoSliceMut;
use std::time::Instant;

use super::Torrent;
use crate::disk::OnDisk;
use crate::hash::Sha256;
use crate::hash::merkle::block_hashes;
use crate::layout::BLOCK_LENGTH;
use crate::metainfo::PieceHash;
use crate::proofs::PieceRun;
use crate::session::Notice;
use crate::session::context::Context;
use crate::swarm::Input;

/// Bytes that are read at a time: enough blocks to be hashed side by side.
const CHUNK: u32 = 32 * BLOCK_LENGTH;

impl Torrent {
    /// Has pieces read and their blocks hashed, beside the loop.
    pub(super) fn hash_blocks(&mut self, now: Instant, run: PieceRun, context: &mut Context) {
        self.durability.use_files(now);
        let (id, notify, on_disk) = (self.id, context.notify.clone(), self.on_disk.clone());
        // The session may have ended; then nobody needs to know.
        let work = move || drop(notify.send(Notice::Hashed(id, run, read(&on_disk, run))));
        if !context.disk.among_reads(self.on_disk.lane, Box::new(work)) {
            // It cannot keep up: whoever wants the hashes may ask others.
            self.on_hashed(now, run, None);
        }
    }

    /// The hashes of the blocks of these pieces are there, or it is known that they cannot be had.
    pub(crate) fn on_hashed(&mut self, now: Instant, run: PieceRun, hashes: Option<Vec<Sha256>>) {
        self.input(now, Input::BlocksHashed(run, hashes));
    }
}

/// Reads pieces and hashes their blocks; `None` if they cannot be read, or are not right any more: whoever gave such hashes would
/// be taken for a liar.
fn read(on_disk: &OnDisk, run: PieceRun) -> Option<Vec<Sha256>> {
    let layout = &on_disk.metainfo.layout;
    let (mut hashes, mut buffer) = (Vec::new(), Vec::new());
    for piece in run.pieces() {
        let (size, before) = (layout.piece_size(piece), hashes.len());
        for begin in (0..size).step_by(CHUNK as usize) {
            buffer.resize((size - begin).min(CHUNK) as usize, 0);
            let offset = layout.piece_offset(piece) + u64::from(begin);
            on_disk.storage.read_at(offset, &mut [IoSliceMut::new(&mut buffer)]).ok()?;
            hashes.extend(block_hashes(&buffer));
        }
        let hash = on_disk.metainfo.piece_hash(piece)?;
        if matches!(hash, PieceHash::V2 { .. }) && !hash.is_over(&hashes[before..]) {
            return None;
        }
    }
    Some(hashes)
}
