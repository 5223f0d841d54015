//! Reading a file of a torrent while it is downloaded.

use std::io::{self, IoSliceMut, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::{Client, Error};
use crate::ids::ReaderKey;
use crate::layout::{Extent, FileIndex, PieceIndex};
use crate::session::{Command, PieceAccess};
use crate::storage::{Storage, StorageError};

/// Reads a file of a torrent in order, each byte as soon as its piece is verified; made by [`Client::reader`].
///
/// A read waits for the piece that it begins in, and gives bytes of no other; of what is there it waits for nothing, be it found
/// by a check that is under way. The pieces from there on are begun before all others, in their order; [`Seek::seek`] takes that
/// window along. Of several readers of a torrent it is with the one that has moved last, and of none once all are dropped.
/// Data are read from the disk: a reader that is slow holds up its window, and keeps nothing in memory.
///
/// While the torrent is paused, a read waits. Its errors are those of the disk, and [`Error::NotWanted`], [`Error::Stopped`],
/// [`Error::Ended`] within the error of [`Read`].
#[derive(Debug)]
pub struct Reader {
    client: Client,
    key: ReaderKey,
    extent: Extent,
    piece_length: u64,
    /// Bytes from the beginning of the file.
    position: u64,
    /// The piece that the session was last told of.
    told: PieceIndex,
    /// A piece that is there, and where it can be read.
    there: Option<(PieceIndex, Arc<Storage>)>,
}

impl Client {
    /// Reads a file while it comes; `file` is its index in [`Client::files`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let data: Vec<u8> = (0..100_000u32).map(|n| (n / 7) as u8).collect();
    /// # let hashes: Vec<_> = data.chunks(16384).map(btget::metainfo::sha1).collect();
    /// # let torrent = btget::metainfo::create::NewTorrent { name: "wanted.bin",
    /// #     content: btget::metainfo::create::Content::File(data.len() as u64), piece_length: 16384,
    /// #     piece_hashes: &hashes, trackers: &[], private: false }.encode();
    /// # std::fs::write(folder.path().join("wanted.torrent"), torrent)?;
    /// # std::fs::create_dir(folder.path().join("seed"))?;
    /// # std::fs::write(folder.path().join("seed/wanted.bin"), &data)?;
    /// use btget::client::{Client, SessionOptions};
    /// use std::io::{Read, Seek, SeekFrom};
    ///
    /// let local = SessionOptions { bind: Some([127, 0, 0, 1].into()), ..SessionOptions::default() };
    /// let seed = Client::builder(folder.path().join("wanted.torrent"))
    ///     .basedir(folder.path().join("seed"))
    ///     .session_options(local.clone())
    ///     .build()?;
    /// let client = Client::builder(folder.path().join("wanted.torrent"))
    ///     .basedir(folder.path().join("here"))
    ///     .session_options(local)
    ///     .build()?;
    /// client.add_peer(([127, 0, 0, 1], seed.port()).into())?;
    ///
    /// let mut reader = client.reader(0)?;
    /// let mut end = Vec::new();
    /// reader.seek(SeekFrom::End(-10))?;
    /// reader.read_to_end(&mut end)?;
    /// assert_eq!(end, data[99_990..]);
    ///
    /// let mut all = Vec::new();
    /// reader.rewind()?;
    /// reader.read_to_end(&mut all)?;
    /// assert_eq!(all, data);
    /// assert!(client.reader(1).is_err(), "there is only one");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is not known yet which there are; if the torrent has been removed or the session has ended.
    pub fn reader(&self, file: usize) -> Result<Reader, Error> {
        let known = self.ask(|_, torrent| torrent.metainfo());
        let known = match known {
            Some(known) => known,
            None if self.commands.ask(Command::List).is_none() => return Err(Error::Ended),
            None => return Err(Error::Removed(self.info_hash)),
        };
        let metainfo = known.ok_or(Error::NoFile { file, files: 0 })?;
        let layout = &metainfo.layout;
        let extent = *layout.files().get(file).ok_or(Error::NoFile { file, files: layout.files().len() })?;
        let index = FileIndex(file as u32);
        let opened = self.commands.ask(|reply| Command::OpenReader(self.id, index, reply));
        let key = opened.ok_or(Error::Ended)?.ok_or(Error::Removed(self.info_hash))?;
        let told = PieceIndex(layout.pieces_of_file(index).start);
        let piece_length = u64::from(layout.piece_length());
        Ok(Reader { client: self.clone(), key, extent, piece_length, position: 0, told, there: None })
    }
}

impl Reader {
    /// Length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.extent.length
    }

    /// The piece that the next byte is in; `None` at the end of the file.
    fn piece(&self) -> Option<PieceIndex> {
        let at = self.extent.offset + self.position;
        (self.position < self.extent.length).then(|| PieceIndex((at / self.piece_length) as u32))
    }

    /// Where a piece can be read, once it is there.
    fn wait_for(&mut self, piece: PieceIndex) -> io::Result<Arc<Storage>> {
        if let Some((there, storage)) = &self.there
            && *there == piece
        {
            return Ok(storage.clone());
        }
        self.told = piece;
        let (id, key) = (self.client.id, self.key);
        let access = self.client.commands.ask(|reply| Command::AwaitPiece(id, key, piece, reply));
        let storage = match access {
            Some(PieceAccess::There(storage)) => storage,
            Some(PieceAccess::NotWanted) => return Err(io::Error::other(Error::NotWanted)),
            Some(PieceAccess::Ended(reason)) => return Err(io::Error::other(Error::Stopped(reason))),
            None => return Err(io::Error::other(Error::Ended)),
        };
        self.there = Some((piece, storage.clone()));
        Ok(storage)
    }

    fn read_from(&mut self, piece: PieceIndex, buffer: &mut [u8]) -> io::Result<Result<usize, StorageError>> {
        let storage = self.wait_for(piece)?;
        let at = self.extent.offset + self.position;
        let of_piece = self.piece_length - at % self.piece_length;
        let length = of_piece.min(self.extent.length - self.position).min(buffer.len() as u64) as usize;
        let read = storage.read_at(at, &mut [IoSliceMut::new(&mut buffer[..length])]);
        Ok(read.map(|()| length))
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.piece().filter(|_| !buffer.is_empty()) else { return Ok(0) };
        let mut read = self.read_from(piece, buffer)?;
        if read.is_err() && self.there.take().is_some() {
            // The files may have been checked anew since the session was asked.
            read = self.read_from(piece, buffer)?;
        }
        let length = read.map_err(|error| {
            self.there = None;
            let kind = error.source.as_ref().map_or(io::ErrorKind::Other, io::Error::kind);
            io::Error::new(kind, error)
        })?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for Reader {
    /// Any place may be sought; beyond the end of the file there is nothing to read.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.extent.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a position before the beginning of the file")
        })?;
        if let Some(piece) = self.piece().filter(|&piece| piece != self.told) {
            self.told = piece;
            let (id, key) = (self.client.id, self.key);
            // Without a session there is no window; the next read says so if that matters.
            let _ = self.client.commands.ask(|reply| Command::MoveReader(id, key, piece, reply));
        }
        Ok(self.position)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.client.commands.close_reader(self.client.id, self.key);
    }
}
