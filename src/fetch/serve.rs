//! Giving metadata to peers that ask for them (BEP 9).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::bucket::TokenBucket;
use crate::ids::PeerKey;
use crate::wire::extended::{MAX_METADATA_SIZE, METADATA_PIECE_LENGTH, MetadataMessage};

/// Pieces a peer gets in a second, beyond the first time that it gets all.
const SERVED_PER_SECOND: u64 = 16;

/// Refusals a peer gets in a second; what it asks beyond is not answered.
const REFUSED_PER_SECOND: u64 = 64;

/// Answers requests for the metadata of one torrent.
///
/// A peer gets as many pieces as there are without delay (16 at least), and 16 a second from then on, which it needs only if it has lost
/// some; the rest of its requests is refused.
#[derive(Debug, Default)]
pub struct MetadataServer {
    metadata: Option<Arc<[u8]>>,
    /// Those that have asked for something; until [`MetadataServer::gone`].
    peers: BTreeMap<PeerKey, Allowance>,
}

/// What a peer may still have.
#[derive(Debug)]
struct Allowance {
    pieces: TokenBucket,
    refusals: TokenBucket,
}

impl MetadataServer {
    /// Without metadata it refuses all requests. So it does with more than [`MAX_METADATA_SIZE`] bytes, which nobody would take.
    pub fn new(metadata: Option<Arc<[u8]>>) -> MetadataServer {
        let mut server = MetadataServer::default();
        metadata.into_iter().for_each(|metadata| server.set(metadata));
        server
    }

    /// The metadata, from now on.
    pub fn set(&mut self, metadata: Arc<[u8]>) {
        self.peers.clear();
        self.metadata = Some(metadata).filter(|metadata| metadata.len() <= MAX_METADATA_SIZE as usize);
    }

    /// The `metadata_size` of our extension handshakes; `None`: there is nothing to have.
    pub fn size(&self) -> Option<i64> {
        self.metadata.as_ref().map(|metadata| metadata.len() as i64)
    }

    /// The connection has ended.
    pub fn gone(&mut self, peer: PeerKey) {
        self.peers.remove(&peer);
    }

    /// The answer to a peer that asks for a piece; `None`: it asks so much that it gets none.
    pub fn on_request(&mut self, now: Instant, peer: PeerKey, piece: u32) -> Option<MetadataMessage> {
        let all = self.metadata.as_ref().map_or(0, |metadata| metadata.len().div_ceil(PIECE) as u64);
        let all = all.max(SERVED_PER_SECOND);
        let allowance = self.peers.entry(peer).or_insert_with(|| Allowance {
            pieces: TokenBucket::beginning_with(now, all, SERVED_PER_SECOND, SERVED_PER_SECOND),
            refusals: TokenBucket::new(now, REFUSED_PER_SECOND, REFUSED_PER_SECOND),
        });
        let data = self.metadata.as_deref().and_then(|metadata| piece_of(metadata, piece));
        if let Some(data) = data
            && allowance.pieces.take(now, 1)
        {
            return Some(MetadataMessage::Data { piece, total_size: self.size(), data: data.to_vec() });
        }
        allowance.refusals.take(now, 1).then_some(MetadataMessage::Reject { piece })
    }
}

const PIECE: usize = METADATA_PIECE_LENGTH as usize;

/// The bytes of a piece, if there is one of this number.
fn piece_of(metadata: &[u8], piece: u32) -> Option<&[u8]> {
    metadata.chunks(PIECE).nth(piece as usize)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn served(answer: Option<MetadataMessage>) -> bool {
        matches!(answer, Some(MetadataMessage::Data { .. }))
    }

    #[test]
    fn any_piece_is_given_whole_and_with_the_size() {
        let metadata: Arc<[u8]> = (0..40_000u32).map(|number| number as u8).collect();
        let (mut server, peer) = (MetadataServer::new(Some(Arc::clone(&metadata))), PeerKey(1));
        assert_eq!(server.size(), Some(40_000));
        for (piece, range) in [(2, 32_768..40_000), (0, 0..16_384), (1, 16_384..32_768), (1, 16_384..32_768)]
        {
            let expected =
                MetadataMessage::Data { piece, total_size: Some(40_000), data: metadata[range].to_vec() };
            assert_eq!(server.on_request(Instant::now(), peer, piece), Some(expected));
        }
        for piece in [3, 1919, u32::MAX] {
            let answer = server.on_request(Instant::now(), peer, piece);
            assert_eq!(answer, Some(MetadataMessage::Reject { piece }));
        }
    }

    #[test]
    fn what_is_not_there_yet_is_refused() {
        let (mut server, peer, now) = (MetadataServer::default(), PeerKey(1), Instant::now());
        assert_eq!(server.size(), None);
        assert_eq!(server.on_request(now, peer, 0), Some(MetadataMessage::Reject { piece: 0 }));
        server.set(vec![1; 20].into());
        assert!(served(server.on_request(now, peer, 0)));
        server.set(vec![1; MAX_METADATA_SIZE as usize + 1].into());
        assert_eq!((server.size(), served(server.on_request(now, peer, 0))), (None, false));
    }

    #[test]
    fn a_flood_gets_16_pieces_and_64_refusals_a_second() {
        let (mut server, start) = (MetadataServer::new(Some(vec![1; 20].into())), Instant::now());
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            let answers: Vec<_> = (0..1000).map(|_| server.on_request(now, PeerKey(1), 0)).collect();
            assert_eq!(answers.iter().filter(|answer| served((*answer).clone())).count(), 16);
            assert_eq!(answers.iter().flatten().count(), 16 + 64);
        }
        assert!(served(server.on_request(start, PeerKey(2), 0)), "others do not pay for it");
        server.gone(PeerKey(1));
        assert_eq!(server.peers.len(), 1);
    }

    #[test]
    fn a_peer_gets_large_metadata_once_without_delay() {
        let (mut server, now) = (MetadataServer::new(Some(vec![1; 100 << 14].into())), Instant::now());
        let given = |server: &mut MetadataServer, now| {
            (0..300).filter(|piece| served(server.on_request(now, PeerKey(1), piece % 100))).count()
        };
        assert_eq!(given(&mut server, now), 100);
        assert_eq!(given(&mut server, now + Duration::from_secs(1)), 16);
    }

    proptest! {
        #[test]
        fn no_second_costs_more_than_the_bound(requests in prop::collection::vec((0u64..300, 0u32..40), 1..400)) {
            let (mut server, mut now) = (MetadataServer::new(Some(vec![1; 30 << 14].into())), Instant::now());
            let mut given = Vec::new();
            for (wait, piece) in requests {
                now += Duration::from_millis(wait);
                if served(server.on_request(now, PeerKey(1), piece)) {
                    given.push(now);
                }
            }
            // All once, and then as much as two seconds that touch may have.
            for &from in given.iter().skip(30) {
                let until = from + Duration::from_secs(1);
                let number = given.iter().skip(30).filter(|at| (from..until).contains(at)).count();
                prop_assert!(number <= 2 * SERVED_PER_SECOND as usize);
            }
        }
    }
}
