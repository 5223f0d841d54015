//! Vectored reads and writes that go on after a short one.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};

use rustix::io::Errno;

/// Slices in one call: `IOV_MAX` of Linux, and of every other system we know.
const MAX_SLICES: usize = 1024;

/// Writes everything.
pub(crate) fn write_all(file: &File, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
    let (mut slices, mut offset) = (slices, offset);
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let batch = &slices[..slices.len().min(MAX_SLICES)];
        match rustix::io::pwritev(file, batch, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads until the slices are full or the file ends; returns how many bytes were read.
pub(crate) fn read_full(file: &File, slices: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<u64> {
    let (mut slices, mut done) = (slices, 0);
    IoSliceMut::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let many = slices.len().min(MAX_SLICES);
        match rustix::io::preadv(file, &mut slices[..many], offset + done) {
            Ok(0) => break,
            Ok(count) => {
                done += count as u64;
                IoSliceMut::advance_slices(&mut slices, count);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Walks over the bytes of several slices as if they were one.
#[derive(Debug)]
pub(crate) struct ByteSource<'b> {
    slices: &'b [IoSlice<'b>],
    skip: usize,
}

impl<'b> ByteSource<'b> {
    /// A source at its first byte.
    pub(crate) fn new(slices: &'b [IoSlice<'b>]) -> ByteSource<'b> {
        ByteSource { slices, skip: 0 }
    }

    /// The next `length` bytes; fewer at the end.
    pub(crate) fn take(&mut self, length: u64) -> Vec<&'b [u8]> {
        let mut taken = Vec::new();
        let mut left = length;
        while let (true, Some(first)) = (left > 0, self.slices.first()) {
            let rest = &first[self.skip..];
            let count = left.min(rest.len() as u64) as usize;
            if count > 0 {
                taken.push(&rest[..count]);
            }
            left -= count as u64;
            self.skip += count;
            if self.skip == first.len() {
                self.slices = &self.slices[1..];
                self.skip = 0;
            }
        }
        taken
    }
}

/// The like for reading.
#[derive(Debug)]
pub(crate) struct ByteSink<'b> {
    slices: std::collections::VecDeque<&'b mut [u8]>,
}

impl<'b> ByteSink<'b> {
    /// A sink at its first byte.
    pub(crate) fn new(slices: &'b mut [IoSliceMut<'_>]) -> ByteSink<'b> {
        ByteSink { slices: slices.iter_mut().map(|slice| &mut **slice).collect() }
    }

    /// The places of the next `length` bytes; fewer at the end.
    pub(crate) fn take(&mut self, length: u64) -> Vec<IoSliceMut<'b>> {
        let mut taken = Vec::new();
        let mut left = length;
        while left > 0 {
            let Some(first) = self.slices.pop_front() else { break };
            let count = left.min(first.len() as u64) as usize;
            let (now, later) = first.split_at_mut(count);
            left -= count as u64;
            if !now.is_empty() {
                taken.push(IoSliceMut::new(now));
            }
            if !later.is_empty() {
                self.slices.push_front(later);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_slices_than_a_call_may_have_are_written_and_read() {
        let file = tempfile::tempfile().unwrap();
        let data: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
        let mut slices: Vec<IoSlice<'_>> = data.chunks(2).map(IoSlice::new).collect();
        write_all(&file, &mut slices, 3).unwrap();
        let mut back = vec![0; 5000];
        let mut places: Vec<IoSliceMut<'_>> = back.chunks_mut(2).map(IoSliceMut::new).collect();
        assert_eq!(read_full(&file, &mut places, 3).unwrap(), 5000);
        assert!(back == data);
        let mut more = [0; 10];
        assert_eq!(read_full(&file, &mut [IoSliceMut::new(&mut more)], 5000).unwrap(), 3);
    }
}
