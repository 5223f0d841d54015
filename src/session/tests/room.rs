//! Who gets a place among the connections when all are taken.

use std::net::{SocketAddr, TcpListener};

use super::*;
use crate::finder::Origin;
use crate::swarm::Input;
use crate::wire::{Handshake, Message, PeerId, Reserved};

/// Between two looks, at the most.
const LOOK: Duration = Duration::from_secs(6);

/// So long a peer may be of no use.
const USELESS: Duration = Duration::from_secs(30);

fn crowded(max_peers: usize, test: impl FnOnce(Bench)) {
    with_options(SessionOptions { max_peers, ..SessionOptions::default() }, test);
}

impl Bench {
    /// A torrent of which everything is missing, and that is ready to be fetched.
    fn leech(&mut self, name: &'static str) -> TorrentId {
        let torrent = self.add_missing(name, 100_000);
        self.run_check(0);
        torrent
    }

    /// A peer that seems to have this address calls, and asks for the torrent. Says whether it is let in.
    fn calls(&mut self, torrent: TorrentId, address: &str) -> bool {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut peer_id = [b'x'; 20];
        peer_id[..8].copy_from_slice(&self.engine.context.rng.u64(..).to_be_bytes());
        let info_hash = self.engine.torrents[&torrent].info_hash().wire();
        let handshake = Handshake { reserved: Reserved::FAST, info_hash, peer_id: PeerId(peer_id) };
        let link = Link::Tcp(tokio::net::TcpStream::from_std(stream).unwrap());
        let address = address.parse().unwrap();
        let (ciphers, early, encryption) = Default::default();
        let established = Established { link, handshake, ciphers, early, encryption };
        self.engine.let_in(self.now, address, established);
        self.engine.end_turn(self.now);
        self.peers(torrent).contains(&address)
    }

    fn peers(&self, torrent: TorrentId) -> Vec<SocketAddr> {
        let swarm = self.engine.torrents[&torrent].swarm().unwrap();
        swarm.peers(self.now).iter().map(|peer| peer.address).collect()
    }

    /// All peers of the torrent have something for us.
    fn all_have_something(&mut self, torrent: TorrentId) {
        let now = self.now;
        let keys: Vec<PeerKey> = self.engine.torrents[&torrent].occupants(now).map(|by| by.peer).collect();
        self.engine.with(torrent, |torrent, _| {
            for peer in keys {
                torrent.input(now, Input::Message(peer, Message::HaveAll));
            }
        });
        self.engine.end_turn(now);
    }

    /// Peers are found that have to be called.
    fn found(&mut self, torrent: TorrentId, addresses: impl IntoIterator<Item = String>) {
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|it| it.parse().unwrap()).collect();
        let now = self.now;
        self.engine.with(torrent, |torrent, _| {
            torrent.with_transfer(|transfer| _ = transfer.finder_mut().found(now, addresses, Origin::User));
        });
        self.engine.end_turn(now);
    }

    fn dialing(&self) -> usize {
        self.engine.context.connections.dialing
    }
}

#[test]
fn one_address_with_many_names_does_not_keep_the_others_out() {
    crowded(50, |mut bench| {
        let torrent = bench.leech("a");
        for port in 0..50 {
            assert!(bench.calls(torrent, &format!("198.51.100.7:{}", 1000 + port)));
        }
        bench.all_have_something(torrent);
        assert!(!bench.calls(torrent, "198.51.100.7:2000"), "it has places enough");
        for n in 0..20 {
            assert!(bench.calls(torrent, &format!("192.0.{n}.1:6881")), "{n}");
        }
        assert_eq!(bench.peers(torrent).len(), 50);
        assert!(bench.told().iter().any(|(_, kind)| {
            matches!(kind, Kind::PeerDisconnect { reason, .. } if reason == "made room for others")
        }));
        // Whom we would call comes first as well.
        bench.found(torrent, ["203.0.113.1:6881".into()]);
        assert_eq!(bench.dialing(), 0, "not at once: somebody who calls us may need the place more");
        bench.pass_time(LOOK);
        assert_eq!(bench.dialing(), 1);
    });
}

#[test]
fn peers_of_no_use_give_their_places_to_those_who_wait() {
    crowded(3, |mut bench| {
        let torrent = bench.leech("a");
        for port in 1..=3 {
            assert!(bench.calls(torrent, &format!("127.0.0.1:{port}")));
        }
        bench.found(torrent, ["127.0.0.1:6881".into(), "127.0.0.1:6882".into()]);
        bench.pass_time(LOOK);
        assert!(!bench.calls(torrent, "127.0.0.1:9"));
        assert_eq!((bench.dialing(), bench.peers(torrent).len()), (0, 3), "they may yet say what they have");
        bench.pass_time(USELESS);
        assert_eq!((bench.dialing(), bench.peers(torrent).len()), (1, 2));
        bench.pass_time(LOOK);
        assert_eq!((bench.dialing(), bench.peers(torrent).len()), (2, 1));
        assert!(bench.calls(torrent, "127.0.0.1:9"));
        assert_eq!(bench.peers(torrent), ["127.0.0.1:9".parse().unwrap()]);
        bench.pass_time(USELESS);
        assert_eq!(bench.peers(torrent).len(), 1, "nobody waits");
    });
}

#[test]
fn who_is_of_use_stays_however_many_wait() {
    crowded(3, |mut bench| {
        let torrent = bench.leech("a");
        (1..=3).for_each(|port| assert!(bench.calls(torrent, &format!("127.0.0.1:{port}"))));
        bench.all_have_something(torrent);
        let peers = bench.peers(torrent);
        bench.found(torrent, (0..100).map(|n| format!("127.0.0.1:{}", 7000 + n)));
        for _ in 0..20 {
            bench.pass_time(LOOK);
            assert!(!bench.calls(torrent, "127.0.0.1:9"));
        }
        assert_eq!((bench.dialing(), bench.peers(torrent)), (0, peers));
    });
}

#[test]
fn a_torrent_that_comes_later_gets_its_share_of_the_places() {
    crowded(20, |mut bench| {
        let first = bench.leech("a");
        (0..20).for_each(|n| assert!(bench.calls(first, &format!("10.0.0.{n}:1"))));
        bench.all_have_something(first);
        let second = bench.leech("b");
        (0..8).for_each(|n| assert!(bench.calls(second, &format!("10.0.1.{n}:1"))));
        bench.all_have_something(second);
        bench.found(second, (0..20).map(|n| format!("127.0.0.1:{}", 7000 + n)));
        (0..15).for_each(|_| bench.pass_time(LOOK));
        assert_eq!(bench.peers(first).len(), 10);
        assert_eq!(bench.peers(second).len() + bench.dialing(), 10);
    });
}

#[test]
fn when_a_place_becomes_free_whoever_waits_is_called_at_once() {
    crowded(2, |mut bench| {
        let torrents = ["a", "b"].map(|name| bench.leech(name));
        for torrent in torrents {
            assert!(bench.calls(torrent, "10.0.0.1:1"));
            bench.all_have_something(torrent);
        }
        bench.found(torrents[0], ["127.0.0.1:7000".into()]);
        bench.pass_time(LOOK);
        assert_eq!(bench.dialing(), 0);
        let (reply, _) = sync_channel(1);
        bench.command(Command::Enter(torrents[1], State::Stopped, reply));
        assert_eq!(bench.dialing(), 1);
    });
}
