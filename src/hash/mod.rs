//! SHA-1 (BEP 3's piece hash) and SHA-256 (BEP 52's) as fast as the machine can.
//!
//! Owns the choice between the processor's kernels, the kernels, and the bookkeeping that
//! keeps their lanes full. It takes bytes that are in memory and gives digests; it never does I/O,
//! starts no thread and knows nothing of pieces.
//!
//! One computation is a chain in which every step waits for the one before, so a single
//! message leaves most of a core idle. Hashing up to [`LANES`] messages side by side fills it; see
//! `benches/hash.rs` for what that is worth.
//!
//! The one thing read from outside is the environment variable `BTGET_HASH_KERNEL` (a [`Kernel::name`]),
//! once in the life of the process: it is there for tests and measurements, and hidden from users.

mod digest;
mod kernel;
mod lanes;
pub mod merkle;
#[cfg(target_arch = "x86_64")]
mod x86;

use digest::Digest;
pub use kernel::{Kernel, Kernels, kernel_names};
use lanes::{Feed, Lane, drive};

/// A SHA-1 digest (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha1(pub [u8; 20]);

impl std::fmt::Display for Sha1 {
    /// In hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_hex(f, &self.0)
    }
}

impl AsRef<[u8]> for Sha1 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A SHA-256 digest (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl std::fmt::Display for Sha256 {
    /// In hexadecimal digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_hex(f, &self.0)
    }
}

impl AsRef<[u8]> for Sha256 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

fn write_hex(f: &mut std::fmt::Formatter<'_>, bytes: &[u8]) -> std::fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Fills `bytes` by the hexadecimal digits in `text`, in either case; `None` if they are not exactly as many as it takes.
pub fn read_hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (value(pair[0])? << 4 | value(pair[1])?) as u8;
    }
    Some(())
}

/// How many messages [`sha1_many`] and [`sha256_many`] take at their best.
pub const LANES: usize = 16;

/// SHA-1 of one message.
pub fn sha1(message: &[u8]) -> Sha1 {
    use sha1::Digest as _;
    Sha1(sha1::Sha1::digest(message).into())
}

/// SHA-1 of many messages at once, each given as the segments it is made of, in order; the digests
/// come in the order of the messages.
///
/// Up to [`LANES`] messages are hashed side by side, and the next takes the place of one that
/// ends, so lengths may differ; but the fewer are left, the slower each byte is. Segments may have
/// any length; those that are not multiples of 64 bytes cost a copy of 64 bytes each.
pub fn sha1_many(messages: &[&[&[u8]]]) -> Vec<Sha1> {
    sha1_many_with(Kernels::chosen(), messages)
}

/// [`sha1_many`] by given kernels.
pub fn sha1_many_with(kernels: Kernels, messages: &[&[&[u8]]]) -> Vec<Sha1> {
    many_with(kernels, messages)
}

/// SHA-256 of one message.
pub fn sha256(message: &[u8]) -> Sha256 {
    use sha2::Digest as _;
    Sha256(sha2::Sha256::digest(message).into())
}

/// SHA-256 of many messages at once; as [`sha1_many`].
pub fn sha256_many(messages: &[&[&[u8]]]) -> Vec<Sha256> {
    sha256_many_with(Kernels::chosen(), messages)
}

/// [`sha256_many`] by given kernels.
pub fn sha256_many_with(kernels: Kernels, messages: &[&[&[u8]]]) -> Vec<Sha256> {
    many_with(kernels, messages)
}

/// So many zeros, as the segments of a message.
pub fn zeros(length: usize) -> impl Iterator<Item = &'static [u8]> {
    const ZEROS: &[u8] = &[0; 16 << 10];
    let rest = Some(&ZEROS[..length % ZEROS.len()]).filter(|rest| !rest.is_empty());
    std::iter::repeat_n(ZEROS, length / ZEROS.len()).chain(rest)
}

fn many_with<D: Digest>(kernels: Kernels, messages: &[&[&[u8]]]) -> Vec<D> {
    let mut lanes = vec![Lane::default(); messages.len()];
    drive(
        kernels,
        lanes.iter_mut().zip(messages).map(|(lane, segments)| Feed::last(lane, segments)).collect(),
    );
    lanes.iter().map(Lane::digest).collect()
}

/// [`sha1_many`] for messages too large to be held whole: they are fed chunk by chunk, one message
/// a lane.
///
/// ```
/// let mut hashes = btget::internals::hash::MultiSha1::new(2);
/// hashes.update(&[b"a", b"x"]);
/// hashes.update(&[b"bc", b""]);
/// assert_eq!(hashes.finish(), [btget::metainfo::sha1(b"abc"), btget::metainfo::sha1(b"x")]);
/// ```
#[derive(Clone, Debug)]
pub struct MultiSha1 {
    kernels: Kernels,
    lanes: Vec<Lane<Sha1>>,
}

impl MultiSha1 {
    /// Begins `lanes` messages; more than [`LANES`] are hashed in turns.
    pub fn new(lanes: usize) -> MultiSha1 {
        MultiSha1::new_with(Kernels::chosen(), lanes)
    }

    /// [`MultiSha1::new`] with given kernels.
    pub fn new_with(kernels: Kernels, lanes: usize) -> MultiSha1 {
        MultiSha1 { kernels, lanes: vec![Lane::default(); lanes] }
    }

    /// Takes the next bytes of each message, in the order of the lanes. Chunks may differ in
    /// length and be empty; lanes beyond the last chunk get nothing. Best are long chunks of equal
    /// length, a multiple of 64 bytes.
    ///
    /// # Panics
    ///
    /// If there are more chunks than lanes.
    pub fn update(&mut self, chunks: &[&[u8]]) {
        assert!(chunks.len() <= self.lanes.len(), "{} chunks for {} lanes", chunks.len(), self.lanes.len());
        let feeds = self.lanes.iter_mut().zip(chunks);
        drive(
            self.kernels,
            feeds.map(|(lane, chunk)| Feed::more(lane, std::slice::from_ref(chunk))).collect(),
        );
    }

    /// Ends all messages; the digests come in the order of the lanes. A lane that was fed nothing
    /// gives the digest of the empty message.
    pub fn finish(mut self) -> Vec<Sha1> {
        drive(self.kernels, self.lanes.iter_mut().map(|lane| Feed::last(lane, &[])).collect());
        self.lanes.iter().map(Lane::digest).collect()
    }
}

#[cfg(test)]
mod tests;
