//! Private torrents (BEP 27), watched on the wire for the whole of their transfer: no peer exchange, no local discovery, no packet of any other
//! kind. A torrent that comes as a magnet link may use all of it, and does, until its metadata are there.
//!
//! The machines are namespaces of our own. The peers are played by this program, run once for each of them in its namespace: they tell of each
//! message that they get.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Arguments;

use btget::internals::wire::extended::{ExtensionHandshake, MetadataMessage, UT_METADATA, UT_PEX};
use btget::internals::wire::{Frame, Handshake, Limits, Message, PeerId, Reserved, next_frame};
use btget::metainfo::{Magnet, Metainfo};

use support::clients::Btget;
use support::events::is;
use support::fixture::Fixture;
use support::networks::{Machine, World, can_have_networks};
use support::process::{Process, wait_until};
use support::system::trial;

/// Set where this program is a peer: the .torrent, the data, whether it has them, the file that is there once metadata may be given, and where
/// to call (nothing: it waits for calls).
const PEER: &str = "BTGET_TEST_PEER";

fn main() -> ExitCode {
    if let Ok(arguments) = std::env::var(PEER) {
        let arguments: Vec<&str> = arguments.split('\n').collect();
        let peer = PlayedPeer {
            metainfo: Metainfo::parse(&fs::read(arguments[0]).unwrap()).unwrap(),
            data: fs::read(arguments[1]).unwrap(),
            has_data: arguments[2] == "true",
            gate: arguments[3].into(),
        };
        peer.run(arguments[4]);
        return ExitCode::SUCCESS;
    }
    let possible = can_have_networks();
    let tests: [(&str, fn()); 2] = [
        ("a_private_torrent_is_silent_from_its_start_to_its_end", from_file),
        ("a_link_that_turns_out_private_is_silent_from_then_on", from_link),
    ];
    let trials = tests.into_iter().map(|(name, run)| trial(name, possible, run)).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The ids under which a played peer wants messages.
const PEX_ID: u8 = 8;
const METADATA_ID: u8 = 9;

/// Where it listens.
const PORT: u16 = 7777;

/// Between two blocks that it gives: the transfer takes far longer than anything that is due in its first seconds.
const PACE: Duration = Duration::from_millis(200);

struct PlayedPeer {
    metainfo: Metainfo,
    data: Vec<u8>,
    has_data: bool,
    gate: PathBuf,
}

impl PlayedPeer {
    fn run(&self, call: &str) {
        // It ends with the test: whoever has started it holds the other end.
        thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        });
        if !call.is_empty() {
            let address: SocketAddr = call.parse().unwrap();
            let mut stream = TcpStream::connect(address).unwrap();
            self.greet(&mut stream);
            self.talk(&mut stream);
            return;
        }
        let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
        println!("listens");
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            self.greet(&mut stream);
            self.talk(&mut stream);
            println!("end");
        }
    }

    fn greet(&self, stream: &mut TcpStream) {
        let mut peer_id = [b'p'; 20];
        fastrand::Rng::new().fill(&mut peer_id[8..]);
        let info_hash = self.metainfo.info_hash.wire();
        let ours = Handshake { reserved: Reserved::EXTENSION, info_hash, peer_id: PeerId(peer_id) };
        stream.write_all(&ours.encode()).unwrap();
        let offered = [(UT_PEX.to_owned(), PEX_ID), (UT_METADATA.to_owned(), METADATA_ID)];
        let ours = ExtensionHandshake {
            extensions: offered.into(),
            metadata_size: self.has_data.then_some(self.metainfo.info_bytes.len() as i64),
            port: Some(PORT),
            ..ExtensionHandshake::default()
        };
        say(stream, &Message::from(&ours));
        if self.has_data {
            let pieces = self.metainfo.layout.num_pieces();
            let full = btget::internals::bitfield::Bitfield::full(pieces);
            say(stream, &Message::Bitfield(full.to_wire()));
        }
    }

    fn talk(&self, stream: &mut TcpStream) -> Option<()> {
        stream.read_exact(&mut [0; 68]).ok()?;
        let (mut bytes, mut their_id, mut asked) = (Vec::new(), 0, Vec::new());
        stream.set_read_timeout(Some(Duration::from_millis(10))).ok()?;
        loop {
            while let Some(Frame::Message(message, length)) =
                next_frame(&bytes, &Limits { num_pieces: None }).ok()?
            {
                bytes.drain(..length);
                match message {
                    Message::Extended { id: 0, payload } => {
                        let theirs = ExtensionHandshake::decode(&payload).ok()?;
                        for (name, id) in &theirs.extensions {
                            println!("handshake {name} {id}");
                            if name == UT_METADATA {
                                their_id = *id;
                            }
                        }
                    }
                    Message::Extended { id: PEX_ID, .. } => println!("pex"),
                    Message::Extended { id: METADATA_ID, payload } => {
                        if let Ok(Some(MetadataMessage::Request { piece })) =
                            MetadataMessage::decode(&payload)
                        {
                            asked.push(piece);
                        }
                    }
                    Message::Interested => say(stream, &Message::Unchoke),
                    Message::Request(block) => {
                        thread::sleep(PACE);
                        let begin =
                            self.metainfo.layout.piece_offset(block.piece) as usize + block.begin as usize;
                        say(stream, &Message::Piece(block));
                        stream.write_all(&self.data[begin..][..block.length as usize]).ok()?;
                    }
                    other => println!("{}", other.name()),
                }
            }
            if self.gate.exists() {
                for piece in asked.drain(..) {
                    let payload = self.answer(piece).encode();
                    say(stream, &Message::Extended { id: their_id, payload });
                }
            }
            let mut some = [0; 4096];
            match stream.read(&mut some) {
                Ok(0) => return None,
                Ok(length) => bytes.extend_from_slice(&some[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
    }

    fn answer(&self, piece: u32) -> MetadataMessage {
        match self.has_data {
            false => MetadataMessage::Reject { piece },
            true => {
                let bytes = self.metainfo.info_bytes.to_vec();
                MetadataMessage::Data { piece, total_size: Some(bytes.len() as i64), data: bytes }
            }
        }
    }
}

/// Whoever hangs up does not hear it.
fn say(stream: &mut TcpStream, message: &Message) {
    let mut bytes = Vec::new();
    message.encode_into(&mut bytes);
    let _ = stream.write_all(&bytes);
}

/// A tracker that nobody answers at.
const NOBODY: &str = "http://127.0.0.1:1/announce";

/// Whoever plays peers; see [`PEER`].
struct Players {
    fixture: Fixture,
    data: PathBuf,
    gate: PathBuf,
}

impl Players {
    fn new() -> Players {
        let fixture = Fixture::private(600_000, NOBODY, 27);
        let (data, gate) = (fixture.full_folder("data").join("private.bin"), fixture.empty_folder("place"));
        Players { fixture, data, gate: gate.join("gate") }
    }

    /// From now on metadata are given.
    fn open_gate(&self) {
        fs::write(&self.gate, "").unwrap();
    }

    /// One on this machine.
    fn start(&self, machine: &Machine, has_data: bool, call: &str) -> Process {
        let paths = [self.fixture.torrent(), self.data.clone(), self.gate.clone()];
        let [torrent, data, gate] = paths.each_ref().map(|path| path.to_str().unwrap());
        let arguments = [torrent, data, &has_data.to_string(), gate, call].join("\n");
        let program = std::env::current_exe().unwrap();
        let mut command = machine.command(program.to_str().unwrap());
        let mut peer = Process::start("a peer", command.env(PEER, arguments));
        if call.is_empty() {
            peer.wait_for_line(&["listens"]);
        }
        peer
    }
}

fn heard(peer: &Process, what: &str) -> usize {
    peer.lines().iter().filter(|line| *line == what).count()
}

/// Where it listens, on the first machine.
fn address_of(btget: &mut Btget) -> String {
    let told = btget.wait_for_event("where it listens", |event| is(event, "listen_success"));
    format!("10.1.0.1:{}", told["port"])
}

fn assert_silent(world: &World, devices: &[&str]) {
    for device in devices {
        assert_eq!(world.other_packets_by(device), Vec::<String>::new());
    }
}

fn from_file() {
    let (world, players) = (World::new(), Players::new());
    players.open_gate();
    let fixture = &players.fixture;
    let seed = players.start(world.machine(2), true, "");
    let other = players.start(world.machine(3), false, "");
    let target = fixture.empty_folder("target");
    let call = ["--no-seed", "--peer", "10.1.0.2:7777", "--peer", "10.1.0.3:7777"];
    // There is no node, but it is asked.
    let options = [&call[..], &["--dht-bootstrap", "10.1.0.2:6881"]].concat();
    let mut leech = world.machine(1).btget(fixture.torrent(), &target, &options);
    let caller = players.start(world.machine(3), false, &address_of(&mut leech));
    leech.wait_for_success();
    fixture.assert_complete(&target);
    for peer in [&seed, &other, &caller] {
        // It has been greeted, and offered other things.
        assert!(heard(peer, "handshake ut_metadata 1") > 0, "{}", peer.story());
        let offers = peer.lines().iter().any(|line| line.starts_with("handshake ut_pex"));
        assert!(!offers && heard(peer, "pex") == 0, "{}", peer.story());
    }
    for device in ["d1", "e1"] {
        assert_eq!(world.sent_by(device), Vec::<String>::new());
    }
    assert_silent(&world, &["d1", "e1"]);
}

fn from_link() {
    let (world, players) = (World::new(), Players::new());
    let fixture = &players.fixture;
    let seed = players.start(world.machine(2), true, "");
    let other = players.start(world.machine(3), false, "");
    let metainfo = Metainfo::parse(&fs::read(fixture.torrent()).unwrap()).unwrap();
    let target = fixture.empty_folder("target");
    let call = ["--no-seed", "--peer", "10.1.0.2:7777", "--peer", "10.1.0.3:7777"];
    // There is no node, but it is asked.
    let options = [&call[..], &["--dht-bootstrap", "10.1.0.2:6881"]].concat();
    let began = Instant::now();
    let mut leech = world.machine(1).btget(Magnet::from(&metainfo).to_string(), &target, &options);
    // There is something to see as long as nobody knows better.
    wait_until("peer exchange", || leech.story(), || (heard(&seed, "pex") > 0).then_some(()));
    world.wait_for_packets("d1", 2);
    // One that is to be told of the others in two seconds, when it is known.
    let address = address_of(&mut leech);
    let early = players.start(world.machine(3), false, &address);
    wait_until("a greeting", || early.story(), || (heard(&early, "handshake ut_pex 2") > 0).then_some(()));
    players.open_gate();
    let was_early = began.elapsed() < Duration::from_secs(4);
    let known = leech.wait_for_event("what it is", |event| is(event, "metadata_received"));
    assert_eq!(known["private"], true);
    let late = players.start(world.machine(3), false, &address);
    wait_until("a greeting", || late.story(), || (heard(&late, "handshake ut_metadata 1") > 0).then_some(()));
    let asked = world.other_packets_by("d1");
    assert!(!asked.is_empty(), "the DHT is asked as long as nobody knows better");
    leech.wait_for_success();
    fixture.assert_complete(&target);
    // Each was told one thing at the most, before; then it was taken back.
    for (peer, most) in [(&seed, 1), (&other, 1), (&early, 0)] {
        assert!(heard(peer, "pex") <= most, "{}", peer.story());
        let lines = peer.lines();
        let taken_back = lines.iter().position(|line| line == "handshake ut_pex 0");
        let after = &lines[taken_back.unwrap_or_else(|| panic!("it goes on\n{}", peer.story()))..];
        assert!(!after.iter().any(|line| line == "pex" || line == "handshake ut_pex 2"), "{}", peer.story());
    }
    assert!(heard(&late, "handshake ut_metadata 1") > 0, "{}", late.story());
    let offers = late.lines().iter().any(|line| line.starts_with("handshake ut_pex"));
    assert!(!offers && heard(&late, "pex") == 0, "{}", late.story());
    // The second packet to each group would have followed 5 s after the first.
    for device in ["d1", "e1"] {
        let sent = world.sent_by(device);
        assert!(sent.len() == 2 || (!was_early && sent.len() == 4), "{device}: {sent:?}");
    }
    assert_eq!(world.other_packets_by("d1"), asked, "the DHT goes on");
    assert_silent(&world, &["e1"]);
}
