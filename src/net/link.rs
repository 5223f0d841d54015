//! What a driver, its reader and its writer need of a transport.

use std::io::{self, IoSlice, IoSliceMut};

use tokio::net::TcpStream;

/// A connection to a peer, whatever carries its bytes. Reads and writes never wait: they fail with `WouldBlock`, and
/// [`Link::readable`] and [`Link::writable`] say when to try again.
#[derive(Debug)]
pub(crate) enum Link {
    /// TCP.
    Tcp(TcpStream),
}

impl Link {
    /// Waits until a read is likely to give something. Safe to be dropped and called again.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Link::Tcp(stream) => stream.readable().await,
        }
    }

    /// Waits until a write is likely to take something. Safe to be dropped and called again.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Link::Tcp(stream) => stream.writable().await,
        }
    }

    /// Reads into one buffer. 0: the peer has closed.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Tcp(stream) => stream.try_read(buffer),
        }
    }

    /// Reads into several buffers in one call, filling each before the next. 0: the peer has closed.
    pub(crate) fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Link::Tcp(stream) => stream.try_read_vectored(buffers),
        }
    }

    /// Writes from several buffers in one call.
    pub(crate) fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Link::Tcp(stream) => stream.try_write_vectored(buffers),
        }
    }
}
