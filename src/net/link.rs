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
    /// Small messages go out at once.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Link::Tcp(stream) => stream.set_nodelay(true),
        }
    }

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
