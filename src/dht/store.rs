//! The peers that others have announced to this node (BEP 5, BEP 33).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::api::Family;
use crate::compact::write_ip;
use crate::hash::{Sha1, sha1};
use crate::ids::WireHash;

/// Torrents that are kept; the one announced longest ago goes first.
const MAX_TORRENTS: usize = 4096;

/// Peers of a torrent; the one announced longest ago goes first.
const MAX_PEERS: usize = 200;

/// An announce counts for so long. Clients repeat it every half hour at the latest.
const LIFETIME: Duration = Duration::from_secs(45 * 60);

/// Torrents in a sample, and how long it stays the same (BEP 51).
const MAX_SAMPLE: usize = 40;
const SAMPLE_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Small, for there may be 800,000 of them.
#[derive(Clone, Copy, Debug)]
struct StoredPeer {
    /// The first 4 or 16 bytes are its address.
    ip: [u8; 16],
    port: u16,
    is_seed: bool,
    /// In seconds since the store was made.
    announced: u32,
}

#[derive(Debug)]
struct StoredTorrent {
    peers: Vec<StoredPeer>,
    announced: Instant,
}

/// A count of machines that others can add theirs to (BEP 33).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct BloomFilter(pub(super) [u8; 256]);

impl BloomFilter {
    fn insert(&mut self, ip: &[u8]) {
        let Sha1(hash) = sha1(ip);
        for [low, high] in [[hash[0], hash[1]], [hash[2], hash[3]]] {
            let bit = usize::from(u16::from_le_bytes([low, high])) % (8 * self.0.len());
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }
}

/// What is told of a sample of the torrents (BEP 51).
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) hashes: Vec<WireHash>,
    /// How many torrents there are.
    pub(super) total: usize,
    /// After so long another sample is drawn.
    pub(super) interval: Duration,
}

/// Announced peers, by torrent.
#[derive(Debug)]
pub(super) struct PeerStore {
    family: Family,
    started_at: Instant,
    torrents: HashMap<WireHash, StoredTorrent>,
    /// The same, by when they were last announced.
    by_age: BTreeSet<(Instant, WireHash)>,
    sample: Vec<WireHash>,
    sampled_at: Option<Instant>,
}

impl PeerStore {
    pub(super) fn new(now: Instant, family: Family) -> PeerStore {
        PeerStore {
            family,
            started_at: now,
            torrents: HashMap::new(),
            by_age: BTreeSet::new(),
            sample: Vec::new(),
            sampled_at: None,
        }
    }

    fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.started_at).as_secs()).unwrap_or(u32::MAX)
    }

    /// A peer takes part in a torrent. It has one entry there, whatever its port is (BEP 33); its last word counts.
    pub(super) fn announce(&mut self, now: Instant, hash: WireHash, address: SocketAddr, is_seed: bool) {
        if address.port() == 0 || !self.family.has(address.ip()) {
            return;
        }
        self.expire(now);
        let peer = StoredPeer {
            ip: padded(address.ip()),
            port: address.port(),
            is_seed,
            announced: self.seconds(now),
        };
        if !self.torrents.contains_key(&hash) && self.torrents.len() == MAX_TORRENTS {
            self.remove_oldest();
        }
        let fresh = || StoredTorrent { peers: Vec::new(), announced: now };
        let torrent = self.torrents.entry(hash).or_insert_with(fresh);
        self.by_age.remove(&(torrent.announced, hash));
        torrent.announced = now;
        self.by_age.insert((now, hash));
        // On an inner network a machine is told apart by its port, too: several may share an address there.
        let is_inner = crate::address::is_inner(address.ip());
        let same = |other: &StoredPeer| other.ip == peer.ip && (!is_inner || other.port == peer.port);
        torrent.peers.retain(|other| !same(other));
        if torrent.peers.len() == MAX_PEERS {
            torrent.peers.remove(0);
        }
        torrent.peers.push(peer);
    }

    fn remove_oldest(&mut self) {
        if let Some((_, hash)) = self.by_age.pop_first() {
            self.torrents.remove(&hash);
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.by_age.first().is_some_and(|(announced, _)| *announced + LIFETIME <= now) {
            self.remove_oldest();
        }
    }

    /// The peers of a torrent whose announces still count, oldest first.
    fn peers(&self, now: Instant, hash: WireHash) -> impl Iterator<Item = &StoredPeer> {
        let lifetime = LIFETIME.as_secs() as u32;
        let seconds = self.seconds(now);
        let peers = self.torrents.get(&hash).map_or(&[][..], |torrent| &torrent.peers);
        peers.iter().filter(move |peer| seconds < peer.announced.saturating_add(lifetime))
    }

    /// At most `number` peers of a torrent, drawn at random; seeds only if there are not enough others, where `no_seeds` is wanted.
    pub(super) fn draw(
        &self,
        now: Instant,
        hash: WireHash,
        number: usize,
        no_seeds: bool,
        rng: &mut Rng,
    ) -> Vec<SocketAddr> {
        let mut peers: Vec<&StoredPeer> = self.peers(now, hash).collect();
        rng.shuffle(&mut peers);
        if no_seeds {
            peers.sort_by_key(|peer| peer.is_seed);
        }
        let ip = |peer: &StoredPeer| self.family.read_ip(&peer.ip[..self.family.ip_length()]);
        peers
            .into_iter()
            .take(number)
            .filter_map(|peer| Some(SocketAddr::new(ip(peer)?, peer.port)))
            .collect()
    }

    /// The seeds and the other peers of a torrent, counted (BEP 33); `None` if it has none.
    pub(super) fn scrape(&self, now: Instant, hash: WireHash) -> Option<[BloomFilter; 2]> {
        let mut filters = [BloomFilter([0; 256]), BloomFilter([0; 256])];
        let mut is_empty = true;
        for peer in self.peers(now, hash) {
            filters[usize::from(!peer.is_seed)].insert(&peer.ip[..self.family.ip_length()]);
            is_empty = false;
        }
        (!is_empty).then_some(filters)
    }

    /// A sample of the torrents, the same for some time.
    pub(super) fn sample(&mut self, now: Instant, rng: &mut Rng) -> Sample {
        self.expire(now);
        let until = self.sampled_at.map(|at| at + SAMPLE_LIFETIME).filter(|until| now < *until);
        let until = until.unwrap_or_else(|| {
            // Sorted first, so that the draw depends on the seed alone.
            let mut hashes: Vec<WireHash> = self.torrents.keys().copied().collect();
            hashes.sort_unstable();
            rng.shuffle(&mut hashes);
            hashes.truncate(MAX_SAMPLE);
            self.sample = hashes;
            self.sampled_at = Some(now);
            now + SAMPLE_LIFETIME
        });
        Sample { hashes: self.sample.clone(), total: self.torrents.len(), interval: until - now }
    }
}

fn padded(ip: IpAddr) -> [u8; 16] {
    let mut bytes = Vec::with_capacity(16);
    write_ip(ip, &mut bytes);
    bytes.resize(16, 0);
    bytes.try_into().expect("an address has no more than 16 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: usize) -> WireHash {
        let mut hash = WireHash([0; 20]);
        hash.0[..8].copy_from_slice(&number.to_be_bytes());
        hash
    }

    fn outer(number: usize, port: u16) -> SocketAddr {
        SocketAddr::from(([9, (number >> 16) as u8, (number >> 8) as u8, number as u8], port))
    }

    fn all(store: &PeerStore, now: Instant, number: usize) -> Vec<SocketAddr> {
        let mut peers = store.draw(now, hash(number), 1000, false, &mut Rng::with_seed(1));
        peers.sort();
        peers
    }

    #[test]
    fn an_address_has_one_entry_in_a_torrent_and_port_zero_none() {
        let now = Instant::now();
        let mut store = PeerStore::new(now, Family::V4);
        store.announce(now, hash(1), outer(1, 0), false);
        assert!(all(&store, now, 1).is_empty());
        store.announce(now, hash(1), outer(1, 5), false);
        store.announce(now, hash(1), outer(1, 6), true);
        assert_eq!(all(&store, now, 1), [outer(1, 6)]);
        for port in [1, 2, 2] {
            store.announce(now, hash(2), SocketAddr::from(([127, 0, 0, 1], port)), false);
        }
        assert_eq!(all(&store, now, 2).len(), 2, "many clients share the loopback address");
        store.announce(now, hash(3), "[2001:db8::1]:1".parse().unwrap(), false);
        assert!(all(&store, now, 3).is_empty(), "each family keeps its own (BEP 32)");
    }

    #[test]
    fn the_oldest_go_when_there_is_no_room_and_all_go_in_time() {
        let mut now = Instant::now();
        let mut store = PeerStore::new(now, Family::V4);
        for number in 0..MAX_PEERS + 50 {
            store.announce(now, hash(1), outer(number, 1), false);
        }
        let peers = all(&store, now, 1);
        assert_eq!((peers.len(), peers[0]), (MAX_PEERS, outer(50, 1)));
        for number in 0..MAX_TORRENTS {
            now += Duration::from_millis(10);
            store.announce(now, hash(10 + number), outer(1, 1), false);
        }
        assert!(store.torrents.len() == MAX_TORRENTS && all(&store, now, 1).is_empty());
        store.announce(now + LIFETIME, hash(1), outer(1, 1), false);
        assert_eq!((store.torrents.len(), store.by_age.len()), (1, 1));
        assert!(all(&store, now + 2 * LIFETIME, 1).is_empty());
    }

    #[test]
    fn seeds_are_named_last_to_those_who_want_none() {
        let now = Instant::now();
        let mut store = PeerStore::new(now, Family::V4);
        (0..20).for_each(|number| store.announce(now, hash(1), outer(number, 1), number % 2 == 0));
        let peers = store.draw(now, hash(1), 10, true, &mut Rng::with_seed(1));
        assert!(peers.iter().all(|peer| matches!(peer.ip(), IpAddr::V4(v4) if v4.octets()[3] % 2 == 1)));
    }

    #[test]
    fn the_filter_is_that_of_the_example_in_bep_33() {
        let mut filter = BloomFilter([0; 256]);
        (0..=255).for_each(|last| filter.insert(&[192, 0, 2, last]));
        for last in 0..=0x3e7u16 {
            let [high, low] = last.to_be_bytes();
            filter.insert(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]);
        }
        let expected = "F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAE\
            FE5EEDB1FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B\
            7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24F\
            D8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3\
            FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5\
            BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB57\
            62ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB737FFFFBFD9F6AEFFEEE76B6\
            FD8F72EF";
        let mut bytes = [0; 256];
        crate::hash::read_hex(expected, &mut bytes).unwrap();
        assert_eq!(filter.0, bytes);
    }

    #[test]
    fn a_scrape_counts_seeds_and_others_apart() {
        let now = Instant::now();
        let mut store = PeerStore::new(now, Family::V4);
        assert!(store.scrape(now, hash(1)).is_none());
        store.announce(now, hash(1), outer(1, 1), true);
        let [seeds, others] = store.scrape(now, hash(1)).unwrap();
        assert_eq!(seeds.0.iter().map(|byte| byte.count_ones()).sum::<u32>(), 2);
        assert_eq!(others.0, [0; 256]);
    }

    #[test]
    fn a_sample_stays_the_same_for_its_interval() {
        let now = Instant::now();
        let mut store = PeerStore::new(now, Family::V4);
        let mut rng = Rng::with_seed(1);
        assert!(store.sample(now, &mut rng).hashes.is_empty());
        (0..500).for_each(|number| store.announce(now, hash(number), outer(1, 1), false));
        assert!(store.sample(now, &mut rng).hashes.is_empty());
        let later = now + SAMPLE_LIFETIME;
        let first = store.sample(later, &mut rng);
        assert_eq!((first.hashes.len(), first.total, first.interval), (MAX_SAMPLE, 500, SAMPLE_LIFETIME));
        let again = store.sample(later + Duration::from_secs(60), &mut rng);
        assert_eq!((again.hashes, again.interval), (first.hashes, SAMPLE_LIFETIME - Duration::from_secs(60)));
    }
}
