//! What a driver, its reader and its writer need of a transport.

use std::io::{self, IoSlice, IoSliceMut};

use tokio::net::TcpStream;

use super::utp::UtpStream;
use crate::utp::Transport;

/// A connection to a peer, whatever carries its bytes. Reads and writes never wait: they fail with `WouldBlock`, and
/// [`Link::readable`] and [`Link::writable`] say when to try again.
#[derive(Debug)]
pub(crate) enum Link {
    /// TCP.
    Tcp(TcpStream),
    /// uTP (BEP 29).
    Utp(UtpStream),
}

impl Link {
    /// What carries it.
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Link::Tcp(_) => Transport::Tcp,
            Link::Utp(_) => Transport::Utp,
        }
    }

    /// Small messages go out at once.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Link::Tcp(stream) => stream.set_nodelay(true),
            Link::Utp(_) => Ok(()),
        }
    }

    /// Waits until a read is likely to give something. Safe to be dropped and called again.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Link::Tcp(stream) => stream.readable().await,
            Link::Utp(stream) => {
                stream.readable().await;
                Ok(())
            }
        }
    }

    /// Waits until a write is likely to take something. Safe to be dropped and called again.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Link::Tcp(stream) => stream.writable().await,
            Link::Utp(stream) => {
                stream.writable().await;
                Ok(())
            }
        }
    }

    /// Reads into one buffer. 0: the peer has closed.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Tcp(stream) => stream.try_read(buffer),
            Link::Utp(stream) => stream.try_read_vectored(&mut [IoSliceMut::new(buffer)]),
        }
    }

    /// Reads into several buffers in one call, filling each before the next. 0: the peer has closed.
    pub(crate) fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Link::Tcp(stream) => stream.try_read_vectored(buffers),
            Link::Utp(stream) => stream.try_read_vectored(buffers),
        }
    }

    /// Writes from several buffers in one call.
    pub(crate) fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Link::Tcp(stream) => stream.try_write_vectored(buffers),
            Link::Utp(stream) => stream.try_write_vectored(buffers),
        }
    }

    /// One read, as soon as there is something. 0: the peer has closed.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.readable().await?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writable().await?;
            match self.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
