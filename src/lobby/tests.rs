//! A lobby with peers that are played by hand, in virtual time.

use super::*;
use crate::bitfield::Bitfield;
use crate::finder::announce::{Answer, Token};
use crate::finder::{Origin, Rules};
use crate::hash::merkle::MerkleTree;
use crate::layout::{BLOCK_LENGTH, Block, Layout, PieceIndex};
use crate::metainfo::Metainfo;
use crate::metainfo::samples::Sample;
use crate::proofs::{HashAnswer, HashServer, MAX_OWED_HASHES};
use crate::swarm::{Output, Swarm, SwarmConfig};
use crate::transfer::Transfer;
use crate::wire::HashRange;
use crate::wire::extended::{
    HolepunchMessage, LT_DONTHAVE, MetadataMessage, PexFlags, PexMessage, UT_HOLEPUNCH, UT_PEX,
    encode_dont_have,
};

/// The id under which these peers want messages of `ut_metadata`, and of `ut_pex`.
const THEIR_METADATA: u8 = 9;
const THEIR_PEX: u8 = 8;
const THEIR_HOLEPUNCH: u8 = 7;

/// Ours, as our handshakes say.
const OUR_METADATA: u8 = 1;
const OUR_PEX: u8 = 2;
const OUR_DONT_HAVE: u8 = 3;
const OUR_HOLEPUNCH: u8 = 4;

/// The torrent's own, and one of the user's.
const TRACKER: &str = "http://t.example/a";
const USERS_TRACKER: &str = "http://users.example/a";

const ALL_BITS: Reserved = Reserved::EXTENSION;

struct House {
    lobby: Lobby,
    now: Instant,
    sent: Vec<(PeerKey, Message)>,
    closed: Vec<(PeerKey, String)>,
    verify: Vec<(Ticket, Arc<[u8]>)>,
    layers: Vec<Vec<(Sha256, MerkleTree)>>,
    events: Vec<Kind>,
    dials: Vec<SocketAddr>,
    announces: Vec<Option<&'static str>>,
    /// Which trackers, and the tokens of these announces.
    asked: Vec<String>,
    tokens: Vec<Token>,
    next: u64,
}

fn address(n: u64) -> SocketAddr {
    SocketAddr::from(([203, 0, (113 + n / 250) as u8, (n % 250) as u8], 6881))
}

fn ut_metadata(size: Option<i64>) -> Message {
    handshake(&[(UT_METADATA, THEIR_METADATA), (UT_PEX, THEIR_PEX)], size)
}

fn handshake(extensions: &[(&str, u8)], metadata_size: Option<i64>) -> Message {
    let extensions = extensions.iter().map(|&(name, id)| (name.to_owned(), id)).collect();
    Message::from(&ExtensionHandshake { extensions, metadata_size, ..ExtensionHandshake::default() })
}

fn metadata(message: &MetadataMessage) -> Message {
    Message::Extended { id: OUR_METADATA, payload: message.encode() }
}

fn pex(addresses: impl IntoIterator<Item = u64>) -> Message {
    let added = addresses.into_iter().map(|n| (address(n), PexFlags::default())).collect();
    let message = PexMessage { added, ..PexMessage::default() };
    Message::Extended { id: OUR_PEX, payload: message.encode() }
}

impl House {
    /// Started, with one tracker.
    fn new() -> House {
        House::with(50)
    }

    fn with(max_peers: usize) -> House {
        House::of(max_peers, &[TRACKER])
    }

    /// With these trackers, each in a tier of its own.
    fn of(max_peers: usize, trackers: &[&str]) -> House {
        let now = Instant::now();
        let config = LobbyConfig {
            peer_id: PeerId([b'm'; 20]),
            ports: ListenPorts::unmapped(7000),
            peer_exchange: true,
            holepunch: true,
            max_peers,
        };
        let trackers = trackers.iter().map(|&url| vec![url.to_owned()]).collect();
        let finder = Finder::new(trackers, Rules::default(), 3);
        let mut lobby = Lobby::new(now, config, finder);
        lobby.want_events(Some(Severity::Info));
        let mut house = House {
            lobby,
            now,
            sent: Vec::new(),
            closed: Vec::new(),
            verify: Vec::new(),
            layers: Vec::new(),
            events: Vec::new(),
            dials: Vec::new(),
            announces: Vec::new(),
            asked: Vec::new(),
            tokens: Vec::new(),
            next: 1,
        };
        house.input(Input::Enter(State::Started));
        house
    }

    fn input(&mut self, input: Input) {
        self.lobby.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.lobby.poll(self.now) {
            match output {
                LobbyOutput::Send(peer, message) => self.sent.push((peer, message)),
                LobbyOutput::Close(peer, reason) => self.closed.push((peer, reason)),
                LobbyOutput::Verify(ticket, bytes) => self.verify.push((ticket, bytes)),
                LobbyOutput::Layers(layers) => self.layers.push(layers),
                LobbyOutput::Event(kind) => self.events.push(kind),
            }
        }
        while let Some(output) = self.lobby.poll_finder(self.now) {
            match output {
                FinderOutput::Dial(address) => self.dials.push(address),
                FinderOutput::Announce(announce) => {
                    self.announces.push(announce.event.map(|event| event.as_str()));
                    self.asked.push(announce.url);
                    self.tokens.push(announce.token);
                }
                FinderOutput::Event(kind) => self.events.push(kind),
                FinderOutput::Punch(_) | FinderOutput::Filtered(..) | FinderOutput::PrefersEncryption(_) => {}
            }
        }
        let deadline = self.lobby.deadline();
        assert!(deadline.is_none_or(|at| at > self.now), "woken at once, again and again");
        let said = self.lobby.waiting.values().map(|waiting| waiting.said.size()).sum::<usize>();
        assert!(self.lobby.said == said && said <= MAX_SAID, "{said} {}", self.lobby.said);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.lobby.deadline().filter(|&at| at <= end) {
            self.now = at;
            self.drain();
        }
        self.now = end;
    }

    fn hello(&mut self, direction: Direction, reserved: Reserved) -> Hello {
        let peer = PeerKey(self.next);
        self.next += 1;
        let mut address = address(peer.0);
        if direction == Direction::In {
            address.set_port(40_000);
        }
        let mut peer_id = [b'p'; 20];
        peer_id[12..].copy_from_slice(&peer.0.to_be_bytes());
        Hello {
            peer,
            address,
            direction,
            transport: "tcp",
            reserved,
            peer_id: PeerId(peer_id),
            encryption: Default::default(),
            was_greeted: false,
        }
    }

    fn connect_as(&mut self, direction: Direction, reserved: Reserved) -> PeerKey {
        let hello = self.hello(direction, reserved);
        let peer = hello.peer;
        self.input(Input::Connected(hello));
        peer
    }

    /// One that we have called, and that speaks all that we do.
    fn connect(&mut self) -> PeerKey {
        self.connect_as(Direction::Out, ALL_BITS.with(Reserved::FAST))
    }

    fn say(&mut self, peer: PeerKey, message: Message) {
        self.input(Input::Message(peer, message));
    }

    /// What was said to a peer since the last time that anybody asked.
    fn said_to(&mut self, peer: PeerKey) -> Vec<Message> {
        let (its, others) = std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == peer);
        self.sent = others;
        let its: Vec<(PeerKey, Message)> = its;
        its.into_iter().map(|(_, message)| message).collect()
    }

    fn asked_of(&mut self, peer: PeerKey) -> Vec<u32> {
        let asked = |message| match message {
            Message::Extended { id: THEIR_METADATA, payload } => match MetadataMessage::decode(&payload) {
                Ok(Some(MetadataMessage::Request { piece })) => Some(piece),
                _ => None,
            },
            _ => None,
        };
        self.said_to(peer).into_iter().filter_map(asked).collect()
    }

    fn is_closed(&self, peer: PeerKey) -> bool {
        self.closed.iter().any(|(closed, _)| *closed == peer)
    }

    /// A peer gives metadata of one piece.
    fn give(&mut self, peer: PeerKey, bytes: &[u8]) {
        let (total_size, data) = (Some(bytes.len() as i64), bytes.to_vec());
        self.say(peer, metadata(&MetadataMessage::Data { piece: 0, total_size, data }));
    }

    fn become_private(&mut self) {
        self.lobby.become_private(self.now, &[vec![TRACKER.to_owned()]]);
        self.drain();
    }
}

fn their_handshake(message: &Message) -> ExtensionHandshake {
    let Message::Extended { id: 0, payload } = message else { panic!("{message:?}") };
    ExtensionHandshake::decode(payload).unwrap()
}

#[test]
fn a_port_that_a_gateway_maps_is_told_to_whoever_comes_later() {
    let mut house = House::new();
    let mapped = ListenPorts { tcp: Some(7001), udp: Some(7002), ..ListenPorts::unmapped(7000) };
    house.lobby.handle(house.now, Input::Ports(mapped));
    let outside = house.connect();
    assert_eq!(their_handshake(&house.said_to(outside)[1]).port, Some(7001));
}

#[test]
fn each_is_greeted_in_the_words_that_it_knows() {
    let mut house = House::new();
    let all = house.connect();
    let said = house.said_to(all);
    assert_eq!((&said[0], said.len()), (&Message::HaveNone, 2));
    let ours = their_handshake(&said[1]);
    assert_eq!(ours.extensions.len(), 4);
    assert_eq!((ours.port, ours.your_ip), (Some(7000), Some(address(all.0).ip())));
    assert_eq!(ours.metadata_size, None);
    let fast = house.connect_as(Direction::In, Reserved::FAST);
    assert_eq!(house.said_to(fast), [Message::HaveNone]);
    let extended = house.connect_as(Direction::In, Reserved::EXTENSION);
    assert!(matches!(house.said_to(extended)[..], [Message::Extended { id: 0, .. }]));
    let old = house.connect_as(Direction::Out, Reserved::default());
    assert_eq!(house.said_to(old), []);
    // It speaks no extensions, so this is nothing.
    house.say(old, ut_metadata(Some(20)));
    assert_eq!(house.asked_of(old), [0u32; 0]);
    assert_eq!(house.lobby.peers(), 4);
}

#[test]
fn who_has_answered_by_a_hash_that_turns_out_to_be_the_torrents_speaks_version_2_and_others_are_closed() {
    let (v2, other) = (WireHash([2; 20]), WireHash([3; 20]));
    for known in [Some(v2), None] {
        let mut house = House::new();
        let (plain, upgraded, stranger) = (house.connect(), house.connect(), house.connect());
        house.lobby.answered_by(upgraded, v2);
        house.lobby.answered_by(stranger, other);
        house.lobby.judge_answers(house.now, known);
        house.drain();
        assert!(house.is_closed(stranger) && !house.is_closed(plain));
        assert_eq!(house.is_closed(upgraded), known.is_none());
        let (_, guests) = house.lobby.into_parts();
        let speaks_v2: Vec<_> =
            guests.iter().map(|guest| (guest.hello.peer, guest.hello.reserved.has(Reserved::V2))).collect();
        let expected = [(plain, false)].into_iter().chain(known.map(|_| (upgraded, true)));
        assert_eq!(speaks_v2, expected.collect::<Vec<_>>());
    }
}

#[test]
fn what_peers_say_before_moves_on_with_them() {
    let mut house = House::new();
    let (one, other) = (house.connect(), house.connect_as(Direction::In, Reserved::FAST));
    let bitfield = Message::Bitfield(vec![0x80]);
    let hello = ut_metadata(Some(20));
    for message in [bitfield.clone(), hello.clone(), Message::Unchoke, Message::Have(PieceIndex(5))] {
        house.say(one, message);
    }
    house.say(one, Message::AllowedFast(PieceIndex(2)));
    house.say(other, Message::HaveAll);
    let (_, guests) = house.lobby.into_parts();
    assert!(guests.iter().all(|guest| guest.hello.was_greeted));
    let said: Vec<Vec<Message>> = guests.into_iter().map(|guest| guest.said).collect();
    let of_one = vec![
        bitfield,
        hello,
        Message::Have(PieceIndex(5)),
        Message::AllowedFast(PieceIndex(2)),
        Message::Unchoke,
    ];
    assert_eq!(said, [of_one, vec![Message::HaveAll]]);
}

#[test]
fn what_is_said_is_bounded_and_who_says_most_goes() {
    let mut house = House::with(2000);
    let talkative: Vec<PeerKey> = (0..64).map(|_| house.connect()).collect();
    for &peer in &talkative {
        house.say(peer, Message::Bitfield(vec![0; MAX_SAID / 64]));
    }
    assert!(house.closed.is_empty());
    // An honest one can still say what it has.
    let honest = house.connect();
    house.say(honest, ut_metadata(Some(20)));
    house.say(honest, Message::Bitfield(vec![0xff; 1000]));
    assert!(!house.is_closed(honest) && house.closed.len() == 1, "{:?}", house.closed);
    assert_eq!(house.asked_of(honest), [0]);
    // Nor do many small words fill the memory.
    for _ in 0..400 {
        let peer = house.connect();
        for piece in 0..16_000 {
            house.lobby.handle(house.now, Input::Message(peer, Message::Have(PieceIndex(piece))));
        }
        house.drain();
    }
    assert!(!house.is_closed(honest));
}

#[test]
fn who_tells_of_ever_more_pieces_is_closed() {
    let mut house = House::new();
    let peer = house.connect();
    for piece in 0..20_000 {
        house.say(peer, Message::Have(PieceIndex(piece)));
    }
    assert!(house.is_closed(peer));
    let peer = house.connect();
    for _ in 0..9 {
        house.say(peer, ut_metadata(None));
    }
    assert!(house.is_closed(peer));
    assert_eq!((house.lobby.peers(), house.lobby.said), (0, 0));
}

#[test]
fn twins_and_we_ourselves_are_refused() {
    let mut house = House::new();
    let hello = house.hello(Direction::In, ALL_BITS);
    let first = hello.peer;
    house.input(Input::Connected(hello.clone()));
    // We call it too: of ours and theirs the one is kept that the larger id has opened, and its is.
    let called = Hello { peer: PeerKey(77), address: address(1), direction: Direction::Out, ..hello };
    house.input(Input::Connected(called));
    assert!(house.is_closed(PeerKey(77)) && !house.is_closed(first), "{:?}", house.closed);
    // It is known now where it can be called, and it is not called again as long as it is here.
    house.lobby.finder_mut().found(house.now, [address(1)], Origin::Tracker);
    assert!(house.lobby.is_connected_to(address(1)));

    let own = Hello { peer_id: PeerId([b'm'; 20]), ..house.hello(Direction::Out, ALL_BITS) };
    let (key, where_we_are) = (own.peer, own.address);
    house.input(Input::Connected(own));
    assert!(house.is_closed(key));
    house.lobby.finder_mut().found(house.now, [where_we_are], Origin::Tracker);
    house.dials.clear();
    house.wait(Duration::from_secs(100));
    assert!(!house.dials.contains(&where_we_are), "we do not call ourselves again");
}

#[test]
fn a_twin_that_we_should_have_opened_takes_the_place_of_the_first() {
    let mut house = House::new();
    // Its id is less than ours.
    let hello = Hello { peer_id: PeerId([b'a'; 20]), ..house.hello(Direction::In, ALL_BITS) };
    let first = hello.peer;
    house.input(Input::Connected(hello.clone()));
    house.input(Input::Connected(Hello { peer: PeerKey(77), direction: Direction::Out, ..hello }));
    assert!(house.is_closed(first) && !house.is_closed(PeerKey(77)));
    assert_eq!(house.lobby.peers(), 1);
}

#[test]
fn the_silent_are_closed_and_the_others_hear_that_we_live() {
    let mut house = House::new();
    let (silent, alive) = (house.connect(), house.connect());
    house.sent.clear();
    for _ in 0..4 {
        house.wait(Duration::from_secs(50));
        house.say(alive, Message::KeepAlive);
    }
    assert!(house.is_closed(silent) && !house.is_closed(alive));
    assert!(house.said_to(silent).contains(&Message::KeepAlive));
    assert_eq!(house.said_to(alive), [Message::KeepAlive, Message::KeepAlive]);
}

#[test]
fn nothing_is_asked_while_paused_and_all_go_when_stopped() {
    let mut house = House::new();
    house.input(Input::Enter(State::Paused));
    let peer = house.connect();
    house.say(peer, ut_metadata(Some(20)));
    house.wait(Duration::from_secs(60));
    assert_eq!(house.asked_of(peer), [0u32; 0]);
    house.input(Input::Enter(State::Started));
    assert_eq!(house.asked_of(peer), [0]);
    // What comes while it is paused is not lost.
    house.input(Input::Enter(State::Paused));
    house.give(peer, &[7; 20]);
    assert!(house.verify.is_empty());
    house.input(Input::Enter(State::Started));
    assert_eq!(house.verify.len(), 1);

    house.input(Input::Enter(State::Stopped));
    assert!(house.is_closed(peer) && house.lobby.peers() == 0);
    let late = house.connect();
    assert!(house.is_closed(late));
    house.lobby.finder_mut().found(house.now, [address(300)], Origin::Tracker);
    house.dials.clear();
    house.wait(Duration::from_secs(100));
    assert_eq!(house.dials, []);
    // One that knows of us; this one has not answered.
    assert_eq!(house.announces, [Some("started")]);
}

#[test]
fn a_tracker_that_knows_of_us_is_told_of_the_end() {
    let mut house = House::new();
    let token = house.tokens[0];
    house.lobby.finder_mut().announced(house.now, token, Ok(Answer::default()));
    house.drain();
    house.input(Input::Enter(State::Stopped));
    assert_eq!(house.announces, [Some("started"), Some("stopped")]);
}

#[test]
fn requests_are_rejected_those_for_metadata_within_bounds() {
    let mut house = House::new();
    let (fast, old) = (house.connect(), house.connect_as(Direction::Out, Reserved::EXTENSION));
    house.sent.clear();
    let block = Block { piece: PieceIndex(1), begin: 0, length: BLOCK_LENGTH };
    house.say(fast, Message::Request(block));
    house.say(old, Message::Request(block));
    assert_eq!(house.said_to(fast), [Message::Reject(block)]);
    assert_eq!(house.said_to(old), []);

    // Who does not say under which id it would have the answer gets none.
    let request = metadata(&MetadataMessage::Request { piece: 3 });
    house.say(fast, request.clone());
    assert_eq!(house.said_to(fast), []);
    house.say(fast, handshake(&[(UT_METADATA, THEIR_METADATA)], None));
    house.sent.clear();
    for _ in 0..1000 {
        house.say(fast, request.clone());
    }
    let reject = MetadataMessage::Reject { piece: 3 }.encode();
    let rejects = house.said_to(fast);
    assert!(
        rejects
            .iter()
            .all(|message| *message == Message::Extended { id: THEIR_METADATA, payload: reject.clone() })
    );
    assert!(!rejects.is_empty() && rejects.len() <= 64, "{}", rejects.len());
    assert!(!house.is_closed(fast));
}

#[test]
fn a_liar_is_closed_and_not_called_back_soon() {
    let mut house = House::new();
    house.lobby.finder_mut().found(house.now, [address(1)], Origin::Tracker);
    house.drain();
    assert_eq!(std::mem::take(&mut house.dials), [address(1)]);
    let liar = house.connect();
    house.say(liar, ut_metadata(Some(20)));
    house.give(liar, &[0; 20]);
    let (ticket, bytes) = house.verify.pop().unwrap();
    assert_eq!(&*bytes, &[0; 20]);
    house.lobby.on_verified(house.now, ticket, false);
    house.drain();
    assert!(house.is_closed(liar));
    let failed = |kind: &&Kind| matches!(kind, Kind::MetadataFailed { .. });
    assert_eq!(house.events.iter().filter(failed).count(), 1);
    // One of which something came would be called again after half a minute.
    house.wait(Duration::from_secs(55));
    assert_eq!(house.dials, []);
    house.wait(Duration::from_secs(10));
    assert_eq!(house.dials, [address(1)]);
}

#[test]
fn what_is_found_is_asked_no_more_and_given_to_others() {
    let mut house = House::new();
    let (giver, taker) = (house.connect(), house.connect());
    house.say(giver, ut_metadata(Some(20)));
    house.give(giver, &[7; 20]);
    let (ticket, _) = house.verify.pop().unwrap();
    house.lobby.on_verified(house.now, ticket, true);
    house.drain();
    house.say(taker, ut_metadata(Some(20)));
    house.sent.clear();
    house.say(taker, metadata(&MetadataMessage::Request { piece: 0 }));
    let data = MetadataMessage::Data { piece: 0, total_size: Some(20), data: vec![7; 20] };
    assert_eq!(house.said_to(taker), [Message::Extended { id: THEIR_METADATA, payload: data.encode() }]);
    house.wait(Duration::from_secs(60));
    assert_eq!(house.asked_of(taker), [0u32; 0]);
    assert_eq!(house.lobby.occupants().filter(|it| it.useless_since.is_some()).count(), 0);
}

#[test]
fn peers_are_introduced_to_one_another_while_it_is_not_known_what_it_is() {
    let mut house = House::new();
    let peers = [house.connect(), house.connect()];
    for peer in peers {
        let extensions = [(UT_PEX, THEIR_PEX), (UT_HOLEPUNCH, THEIR_HOLEPUNCH)];
        house.say(peer, handshake(&extensions, None));
        house.said_to(peer);
    }
    let [one, other] = peers.map(|peer| house.lobby.waiting[&peer].hello.address);
    let payload = HolepunchMessage::Rendezvous(other).encode();
    house.say(peers[0], Message::Extended { id: OUR_HOLEPUNCH, payload });
    for (peer, told) in [(peers[0], other), (peers[1], one)] {
        let payload = HolepunchMessage::Connect(told).encode();
        assert_eq!(house.said_to(peer), [Message::Extended { id: THEIR_HOLEPUNCH, payload }]);
    }
}

#[test]
fn peers_are_told_of_one_another_until_it_is_private() {
    let mut house = House::new();
    let peers: Vec<PeerKey> = (0..3).map(|_| house.connect()).collect();
    for &peer in &peers {
        house.say(peer, ut_metadata(Some(20)));
    }
    house.wait(Duration::from_secs(5));
    let tells = |message: &Message| matches!(message, Message::Extended { id: THEIR_PEX, .. });
    assert!(peers.iter().all(|&peer| house.said_to(peer).iter().any(tells)));
    house.say(peers[0], pex([500]));
    assert_eq!(std::mem::take(&mut house.dials), [address(500)]);
    house.lobby.finder_mut().found(house.now, [address(600)], Origin::User);
    house.drain();
    house.dials.clear();

    house.become_private();
    for &peer in &peers {
        let said = house.said_to(peer);
        let taken_back: Vec<_> = said.iter().flat_map(|it| their_handshake(it).extensions).collect();
        assert_eq!(taken_back, [(UT_HOLEPUNCH.to_owned(), 0), (UT_PEX.to_owned(), 0)]);
    }
    // What the user names counts on.
    house.lobby.dial_ended(house.now, address(600), DialEnd::Failed);
    house.wait(Duration::from_secs(11));
    assert_eq!(std::mem::take(&mut house.dials), [address(600)]);
    peers.iter().for_each(|&peer| house.say(peer, Message::KeepAlive));
    let old = house.connect_as(Direction::Out, Reserved::default());
    house.say(peers[1], pex([501]));
    let newcomer = house.connect();
    let greeting = house.said_to(newcomer);
    let offered =
        [(LT_DONTHAVE, OUR_DONT_HAVE), (UT_METADATA, OUR_METADATA)].map(|(n, id)| (n.to_owned(), id));
    assert_eq!(their_handshake(&greeting[1]).extensions, offered);
    house.say(newcomer, ut_metadata(Some(20)));
    house.say(newcomer, pex([502]));
    house.wait(Duration::from_secs(140));
    assert!(!house.sent.iter().any(|(_, message)| tells(message)), "{:?}", house.sent);
    // That one of the user's has not answered.
    assert!(house.dials.iter().all(|&called| called == address(600)), "{:?}", house.dials);
    assert!(!house.is_closed(old), "{:?}", house.closed);
}

#[test]
fn a_users_tracker_of_a_link_that_turns_out_private_is_told_of_the_end_and_not_believed() {
    let answer = |peer| Ok(Answer { peers: vec![address(peer)], ..Answer::default() });
    for (is_late, is_early) in [(false, false), (true, false), (true, true)] {
        let mut house = House::of(50, &[TRACKER, USERS_TRACKER]);
        house.wait(Duration::from_secs(5));
        assert_eq!(house.asked, [TRACKER, USERS_TRACKER]);
        let (own, users) = (house.tokens[0], house.tokens[1]);
        if !is_late {
            house.lobby.finder_mut().announced(house.now, users, answer(700));
            house.drain();
            assert_eq!(house.dials, [address(700)]);
        }
        if is_early {
            // Of one family it has named some; while we have places for none of them.
            house.lobby.set_free_places(0);
            house.lobby.finder_mut().found_early(house.now, users, vec![address(704)]);
        }
        house.lobby.finder_mut().found(house.now, [address(600)], Origin::User);
        house.drain();
        house.dials.clear();
        house.become_private();
        house.lobby.set_free_places(50);
        if is_late {
            house.lobby.finder_mut().found_early(house.now, users, vec![address(701)]);
            house.lobby.finder_mut().announced(house.now, users, answer(702));
            house.drain();
        }
        assert_eq!((house.asked.len(), &*house.asked[2]), (3, USERS_TRACKER), "{:?}", house.asked);
        assert_eq!(house.announces, [Some("started"), Some("started"), Some("stopped")]);
        // The own one is believed as before, and has not to be asked again for it.
        house.lobby.finder_mut().found_early(house.now, own, vec![address(800)]);
        house.lobby.finder_mut().announced(house.now, own, answer(801));
        house.lobby.finder_mut().announced(house.now, house.tokens[2], answer(703));
        house.wait(Duration::from_secs(30));
        assert_eq!(house.dials.iter().filter(|&&at| at == address(800) || at == address(801)).count(), 2);
        assert!(house.dials.iter().all(|at| !(700..710).any(|n| *at == address(n))), "{:?}", house.dials);
        house.wait(Duration::from_secs(7200));
        assert!(house.asked[3..].iter().all(|url| url == TRACKER), "{:?}", house.asked);
    }
}

#[test]
fn who_does_not_give_makes_room_when_all_places_are_taken() {
    let mut house = House::with(4);
    let mute = house.connect();
    let refusing = house.connect();
    let silent = house.connect();
    let good = house.connect();
    house.say(mute, Message::HaveNone);
    for peer in [refusing, silent, good] {
        house.say(peer, ut_metadata(Some(40_000)));
    }
    let refused = house.connect();
    assert!(house.is_closed(refused));
    for _ in 0..100 {
        house.wait(Duration::from_secs(1));
        for piece in house.asked_of(refusing) {
            house.say(refusing, metadata(&MetadataMessage::Reject { piece }));
        }
        // It has one piece, and no more yet.
        for piece in house.asked_of(good) {
            let data = vec![1; 16_384];
            match piece {
                0 => house.say(good, metadata(&MetadataMessage::Data { piece, total_size: None, data })),
                _ => house.say(good, Message::KeepAlive),
            }
        }
        for peer in [mute, refusing, silent, good] {
            house.say(peer, Message::KeepAlive);
        }
        if house.lobby.peers() < 4 {
            house.connect();
        }
    }
    assert!([mute, refusing, silent].iter().all(|&peer| house.is_closed(peer)), "{:?}", house.closed);
}

#[test]
fn who_says_nothing_stays_as_long_as_there_is_room() {
    let mut house = House::with(4);
    let peers: Vec<PeerKey> = (0..3).map(|_| house.connect()).collect();
    house.wait(Duration::from_secs(140));
    assert!(peers.iter().all(|&peer| !house.is_closed(peer)));
}

/// The transfer that these peers move into: of four pieces of one block, of which `have` are there.
fn transfer_of(
    house: &mut House,
    have: impl IntoIterator<Item = u32>,
    metadata: &[u8],
) -> (Transfer, Vec<Output>) {
    let layout = Layout::new(BLOCK_LENGTH, [(4 * u64::from(BLOCK_LENGTH), false)]).unwrap();
    let mut there = Bitfield::new(4);
    have.into_iter().for_each(|piece| {
        there.insert(PieceIndex(piece));
    });
    let config = SwarmConfig {
        metadata: metadata.into(),
        peer_exchange: true,
        ports: ListenPorts::unmapped(7000),
        have: there,
        ..SwarmConfig::for_tests(Arc::new(layout))
    };
    let now = house.now;
    let empty = Lobby::new(now, house.lobby.config.clone(), Finder::new(Vec::new(), Rules::default(), 1));
    let (finder, guests) = std::mem::replace(&mut house.lobby, empty).into_parts();
    let mut transfer = Transfer::new(Swarm::new(now, config), finder);
    transfer.want_events(Some(Severity::Info));
    transfer.handle(now, Input::Enter(State::Started));
    transfer.welcome(now, guests);
    let outputs = outputs_of(&mut transfer, now);
    (transfer, outputs)
}

fn outputs_of(transfer: &mut Transfer, now: Instant) -> Vec<Output> {
    std::iter::from_fn(|| transfer.poll(now)).collect()
}

fn sent_to(outputs: &[Output], peer: PeerKey) -> Vec<Message> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Send(to, message) if *to == peer => Some(message.clone()),
        _ => None,
    });
    sent.collect()
}

#[test]
fn guests_are_greeted_once_and_asked_by_what_they_have_said() {
    let mut house = House::new();
    let (giver, old) = (house.connect(), house.connect_as(Direction::Out, Reserved::default()));
    house.say(giver, Message::Bitfield(vec![0x20]));
    house.say(giver, ut_metadata(Some(20)));
    house.say(giver, Message::Unchoke);
    house.say(old, Message::Have(PieceIndex(1)));
    let (transfer, outputs) = transfer_of(&mut house, [], &[7; 20]);
    let said = sent_to(&outputs, giver);
    assert!(!said.contains(&Message::HaveNone), "{said:?}");
    let ours = their_handshake(&said[0]);
    assert_eq!((ours.metadata_size, ours.extensions.len()), (Some(20), 3));
    let block = Block { piece: PieceIndex(2), begin: 0, length: BLOCK_LENGTH };
    assert!(said.contains(&Message::Request(block)), "{said:?}");
    assert_eq!(sent_to(&outputs, old), [Message::Interested]);
    // It has been told of when it came.
    let told = |output: &Output| matches!(output, Output::Event(kind) if matches!(**kind, Kind::PeerHandshakeComplete { .. }));
    assert!(!outputs.iter().any(told));
    assert_eq!(transfer.swarm().room(), 48);
}

#[test]
fn guests_hear_what_a_check_has_found() {
    for (have, bits) in [(vec![1], 0x40), (vec![0, 1, 2, 3], 0xf0)] {
        let mut house = House::new();
        let (fast, old) = (house.connect(), house.connect_as(Direction::In, Reserved::default()));
        let (_, outputs) = transfer_of(&mut house, have, &[7; 20]);
        for peer in [fast, old] {
            let said = sent_to(&outputs, peer);
            assert_eq!(said[0], Message::Bitfield(vec![bits]));
            assert!(!said.iter().any(|it| matches!(it, Message::HaveAll | Message::HaveNone)));
        }
    }
}

#[test]
fn who_has_said_what_cannot_be_is_closed_then() {
    let mut house = House::new();
    let long = house.connect();
    house.say(long, Message::Bitfield(vec![0; 2]));
    let beyond = house.connect();
    house.say(beyond, Message::Have(PieceIndex(4)));
    let old = house.connect_as(Direction::Out, Reserved::default());
    house.say(old, Message::HaveAll);
    let good = house.connect();
    let (_, outputs) = transfer_of(&mut house, [], &[7; 20]);
    let closed =
        outputs.iter().filter_map(|it| if let Output::Close(peer, _) = it { Some(*peer) } else { None });
    assert_eq!(closed.collect::<Vec<_>>(), [long, beyond, old]);
    assert!(!sent_to(&outputs, good).is_empty());
}

#[test]
fn a_guest_is_not_told_of_others_twice_in_a_minute() {
    let mut house = House::new();
    let peers: Vec<PeerKey> = (0..3).map(|_| house.connect()).collect();
    peers.iter().for_each(|&peer| house.say(peer, ut_metadata(Some(20))));
    let tells = |message: &Message| matches!(message, Message::Extended { id: THEIR_PEX, .. });
    house.wait(Duration::from_secs(5));
    assert!(house.said_to(peers[0]).iter().any(tells));
    let (mut transfer, _) = transfer_of(&mut house, [], &[7; 20]);
    let end = house.now + Duration::from_secs(50);
    let mut outputs = Vec::new();
    while let Some(at) = transfer.deadline().filter(|&at| at <= end) {
        outputs.extend(outputs_of(&mut transfer, at));
        while transfer.poll_finder(at).is_some() {}
    }
    assert!(!sent_to(&outputs, peers[0]).iter().any(tells));
}

#[test]
fn what_a_guest_has_lost_and_that_it_wants_nothing_count_in_the_swarm() {
    let mut house = House::new();
    let (loser, taker) = (house.connect(), house.connect());
    house.say(loser, Message::HaveAll);
    house.say(loser, Message::Extended { id: OUR_DONT_HAVE, payload: encode_dont_have(PieceIndex(2)) });
    let upload_only = ExtensionHandshake { upload_only: Some(true), ..ExtensionHandshake::default() };
    house.say(taker, Message::from(&upload_only));
    // Nothing that it says is no message of this.
    let odd = house.connect();
    house.say(odd, Message::Extended { id: OUR_DONT_HAVE, payload: vec![1] });
    assert!(house.is_closed(odd));
    let (transfer, _) = transfer_of(&mut house, [], &[7; 20]);
    let pieces: Vec<u32> = transfer.swarm().peers(Instant::now()).iter().map(|peer| peer.pieces).collect();
    assert_eq!(pieces, [3, 0]);

    let mut house = House::new();
    let taker = house.connect();
    house.say(taker, Message::from(&upload_only));
    let (_, outputs) = transfer_of(&mut house, [0, 1, 2, 3], &[7; 20]);
    let closed = |output: &Output| matches!(output, Output::Close(peer, reason) if *peer == taker && reason == "both complete");
    assert!(outputs.iter().any(closed), "{outputs:?}");
}

#[test]
fn piece_layers_are_asked_of_those_who_speak_version_2_and_of_them_alone() {
    let sample = Sample { piece_length: 16384, ..Sample::new(&[("a", 50_000)], false) };
    let whole = Metainfo::parse(&sample.torrent()).unwrap();
    let bare = Metainfo::parse(&Sample { layers: false, ..sample }.torrent()).unwrap();
    let (known, missing) = (whole.piece_hashes.layers().unwrap(), bare.piece_hashes.layers().unwrap());
    let mut house = House::new();
    let v2 = ALL_BITS.with(Reserved::FAST).with(Reserved::V2);
    let liar = house.connect_as(Direction::Out, v2);
    let plain = house.connect();
    house.now += Duration::from_millis(1);
    house.lobby.ask_for_hashes(house.now, HashFetch::new(missing, &bare.layout), bare.info_bytes.clone());
    house.drain();
    let honest = house.connect_as(Direction::Out, v2);
    assert_eq!(house.lobby.progress(), (0, Some(4 * 32)));
    let asked = |house: &mut House, peer| {
        let ranges = house.said_to(peer).into_iter().filter_map(|message| match message {
            Message::HashRequest(range) => Some(range),
            _ => None,
        });
        ranges.collect::<Vec<_>>()
    };
    let [range] = &asked(&mut house, liar)[..] else { panic!("the first is asked") };
    assert_eq!(asked(&mut house, honest), [], "all that is missing has been asked for");
    // What is asked of us meanwhile is refused.
    house.say(honest, Message::HashRequest(range.clone()));
    assert_eq!(house.said_to(honest), [Message::HashReject(range.clone())]);
    house.say(liar, Message::Hashes(range.clone(), vec![Sha256([7; 32]); 4]));
    assert!(house.is_closed(liar) && house.layers.is_empty());
    let [range] = &asked(&mut house, honest)[..] else { panic!("then the second is asked") };
    house.say(plain, Message::Hashes(range.clone(), Vec::new()));
    assert!(house.is_closed(plain), "it does not speak version 2");
    let mut server = HashServer::new(known.clone(), &whole.layout);
    let answer = server.on_request(house.now, honest, range.clone(), |_| true);
    let HashAnswer::Send(answer) = answer else { panic!("{answer:?}") };
    house.say(honest, answer);
    let file = crate::layout::FileIndex(0);
    let expected = (known.root(file).unwrap(), known.tree(file).unwrap().clone());
    assert_eq!(house.layers, [[expected]]);
    assert!(!house.is_closed(honest));
}

#[test]
fn a_guest_may_still_answer_what_it_was_asked_for_and_is_closed_for_more() {
    let mut house = House::new();
    let v2 = ALL_BITS.with(Reserved::FAST).with(Reserved::V2);
    let peer = house.connect_as(Direction::In, v2);
    let (mut transfer, _) = transfer_of(&mut house, [], &[7; 20]);
    let range = HashRange { root: Sha256([1; 32]), base: 0, index: 0, length: 2, proof_layers: 0 };
    for number in 0..=MAX_OWED_HASHES {
        let hashes = Message::Hashes(Box::new(range), vec![Sha256([7; 32]); 2]);
        transfer.handle(house.now, Input::Message(peer, hashes));
        let closes = |output: &Output| matches!(output, Output::Close(of, _) if *of == peer);
        let is_closed = outputs_of(&mut transfer, house.now).iter().any(closes);
        assert_eq!(is_closed, number == MAX_OWED_HASHES, "{number}");
    }
}
