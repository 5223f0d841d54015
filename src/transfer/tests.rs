//! Downloads from web seeds in virtual time: servers that answer as a test says, a disk that takes everything at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Transfer, WebTask};
use crate::blocks::BlockData;
use crate::event::{Direction, Kind, Severity, State};
use crate::finder::{Finder, Rules};
use crate::hash::sha1;
use crate::ids::{PeerKey, WireHash};
use crate::layout::{Block, FileIndex, Layout, PieceIndex};
use crate::metainfo::Metainfo;
use crate::swarm::{Hello, Input, Order, Output, Swarm, SwarmConfig};
use crate::webseed::{
    CONNECTIONS, Fault, Get, Item, Job, JobEnd, Manner, Part, Place, SeedKind, SeedUrl, WebKey, WebSeeds,
};
use crate::wire::{Message, PeerId, Reserved};

const MIB: u64 = 1 << 20;

/// How long a part of a job takes, whatever its length.
const TICK: Duration = Duration::from_millis(10);

/// What a server does.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Reply {
    Good,
    /// The bytes are wrong.
    Corrupt,
    Fault(Fault),
    /// So many bytes, then the connection is closed.
    Cut(u64),
    /// The whole file, from its first byte on, whatever was asked for.
    Whole,
}

struct Running {
    job: Job,
    /// Bytes of the job that have come, and the index of the next part.
    came: u64,
    next: usize,
    corrupt: Vec<std::ops::Range<u64>>,
    delivered: usize,
}

type Server = Box<dyn FnMut(Instant, &Get) -> Reply>;

/// A transfer, its servers and its disk.
struct Bench {
    start: Instant,
    now: Instant,
    layout: Arc<Layout>,
    transfer: Transfer,
    server: Server,
    running: BTreeMap<WebKey, Running>,
    open: Vec<WebKey>,
    /// How many there may be.
    places: usize,
    most_open: usize,
    /// Each request: when, by whom, for what.
    log: Vec<(Duration, PeerKey, Get)>,
    told: Vec<(String, String)>,
    asked_of_peer: Vec<Block>,
    failed: u32,
    /// Answers that go on: the file, and the next byte of it.
    bodies: BTreeMap<WebKey, (FileIndex, u64)>,
    /// Bytes of whole files that were sent.
    sent_whole: u64,
}

fn torrent(files: &[u64], piece_length: u32) -> Metainfo {
    let total: u64 = files.iter().sum();
    let pieces = total.div_ceil(u64::from(piece_length));
    let list: String =
        (0..).zip(files).map(|(n, length)| format!("d6:lengthi{length}e4:pathl4:f{n:03}ee")).collect();
    let what = if files.len() == 1 { format!("6:lengthi{total}e") } else { format!("5:filesl{list}e") };
    let head = format!("d4:infod{what}4:name1:n12:piece lengthi{piece_length}e6:pieces{}:", pieces * 20);
    let bytes = [head.as_bytes(), &vec![7; pieces as usize * 20], b"ee"].concat();
    Metainfo::parse(&bytes).unwrap()
}

impl Bench {
    fn new(
        torrent: &Metainfo,
        urls: &[(&str, SeedKind)],
        server: impl FnMut(Instant, &Get) -> Reply + 'static,
    ) -> Bench {
        let start = Instant::now();
        let layout = torrent.layout.clone();
        let config = SwarmConfig {
            peer_id: PeerId([b'x'; 20]),
            max_peers: 10,
            ..SwarmConfig::for_tests(layout.clone())
        };
        let seeds = (1000..).zip(urls).map(|(key, &(url, kind))| {
            (PeerKey(key), SeedUrl { url: url.to_owned(), kind, is_users: false })
        });
        let seeds = WebSeeds::new(WireHash([7; 20]), layout.clone(), torrent.raw_names(), seeds);
        let finder = Finder::new(Vec::new(), Rules::default(), 1);
        let mut transfer = Transfer::new(Swarm::new(start, config), finder);
        transfer.set_web_seeds(seeds);
        transfer.want_events(Some(Severity::Info));
        transfer.handle(start, Input::Enter(State::Started));
        Bench {
            start,
            now: start,
            layout,
            transfer,
            server: Box::new(server),
            running: BTreeMap::new(),
            open: Vec::new(),
            places: usize::MAX,
            most_open: 0,
            log: Vec::new(),
            told: Vec::new(),
            asked_of_peer: Vec::new(),
            failed: 0,
            bodies: BTreeMap::new(),
            sent_whole: 0,
        }
    }

    /// Does what the transfer says.
    fn perform(&mut self) {
        loop {
            self.transfer.wake_web_seeds();
            let mut idle = true;
            while let Some(task) = self.transfer.poll_web(self.now, |_| match self.open.len() < self.places {
                true => Place::Free,
                false => Place::AllTaken,
            }) {
                idle = false;
                match task {
                    WebTask::Open(key, _) => {
                        self.open.push(key);
                        self.most_open = self.most_open.max(self.open.len());
                    }
                    WebTask::Fetch(key, job) => {
                        assert!(self.open.contains(&key), "fetches over a connection that is not open");
                        let running = Running { job, came: 0, next: 0, corrupt: Vec::new(), delivered: 0 };
                        assert!(self.running.insert(key, running).is_none(), "one job at a time");
                    }
                    WebTask::Close(key) => {
                        self.open.retain(|open| *open != key);
                        self.running.remove(&key);
                        self.bodies.remove(&key);
                    }
                    WebTask::Event(kind) => match *kind {
                        Kind::UrlSeed { url, reason } => self.told.push((url, reason)),
                        other => panic!("{other:?}"),
                    },
                }
            }
            while let Some(output) = self.transfer.poll(self.now) {
                idle = false;
                match output {
                    Output::Verify { piece, blocks, .. } => {
                        let is_good = blocks.iter().all(|block| block.as_slice()[0] == 0);
                        let digests = blocks.iter().map(|block| sha1(block.as_slice())).collect();
                        self.failed += u32::from(!is_good);
                        let input = match is_good {
                            true => Input::Passed { piece, digests },
                            false => Input::Failed { piece, digests, hashes: Vec::new() },
                        };
                        self.transfer.handle(self.now, input);
                    }
                    Output::Send(_, Message::Request(block)) => self.asked_of_peer.push(block),
                    Output::Send(_, Message::Cancel(block)) => {
                        self.asked_of_peer.retain(|other| *other != block)
                    }
                    _ => {}
                }
            }
            if idle {
                break;
            }
        }
    }

    /// The next part of each job that is under way comes, or time passes until something is due.
    fn step(&mut self) {
        self.perform();
        let keys: Vec<WebKey> = self.running.keys().copied().collect();
        self.now = match (keys.is_empty(), self.transfer.deadline()) {
            (true, Some(at)) => at.max(self.now + TICK),
            _ => self.now + TICK,
        };
        for key in keys {
            self.advance(key);
        }
        self.perform();
    }

    fn advance(&mut self, key: WebKey) {
        let Some(running) = self.running.get_mut(&key) else { return };
        let Some(part) = running.job.parts.get(running.next).cloned() else {
            self.running.remove(&key);
            let goes_on_at = self.bodies.get(&key).copied();
            let end = JobEnd { goes_on_at, ignores_ranges: goes_on_at.is_some(), fault: None };
            return self.transfer.on_web_ended(self.now, key, &end);
        };
        running.next += 1;
        let (length, fault) = match part {
            Part::Zeros(length) => (length, None),
            Part::Get(get) => {
                let length = get.range.end - get.range.start;
                self.log.push((self.now - self.start, key.seed, get.clone()));
                match (self.server)(self.now, &get) {
                    Reply::Good => (length, None),
                    Reply::Whole => {
                        let Item::File(file) = get.item else { panic!("{get:?}") };
                        let body =
                            self.bodies.remove(&key).filter(|&(of, at)| of == file && at <= get.range.start);
                        if body.is_none() && get.range.start > 0 {
                            // As the fetcher does, once it has seen the answer.
                            self.running.remove(&key);
                            self.bodies.insert(key, (file, 0));
                            self.transfer.on_web_waste(key, 0);
                            let end =
                                JobEnd { goes_on_at: Some((file, 0)), ignores_ranges: true, fault: None };
                            return self.transfer.on_web_ended(self.now, key, &end);
                        }
                        self.sent_whole += get.range.end - body.map_or(0, |(_, at)| at);
                        self.bodies.insert(key, (file, get.range.end));
                        (length, None)
                    }
                    Reply::Corrupt => {
                        running.corrupt.push(running.came..running.came + length);
                        (length, None)
                    }
                    Reply::Fault(fault) => (0, Some((Some(get.item), fault))),
                    Reply::Cut(most) => {
                        let fault = Fault::Broken("closed".to_owned());
                        (length.min(most), (length > most).then_some((Some(get.item), fault)))
                    }
                }
            }
        };
        running.came += length;
        let (mut at, mut ready) = (0u64, Vec::new());
        for (number, block) in running.job.blocks.iter().enumerate() {
            let range = at..at + u64::from(block.length);
            at = range.end;
            if number >= running.delivered && range.end <= running.came {
                let is_bad = running.corrupt.iter().any(|bad| bad.start < range.end && range.start < bad.end);
                ready.push((*block, is_bad));
            }
        }
        running.delivered += ready.len();
        for (block, is_bad) in ready {
            let mut data = BlockData::new(block.length);
            data.as_mut_slice()[0] = u8::from(is_bad);
            self.transfer.on_web_block(self.now, key, block, data);
        }
        if fault.is_some() {
            self.running.remove(&key);
            let end = JobEnd::with(fault);
            self.transfer.on_web_ended(self.now, key, &end);
        }
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until && !self.transfer.swarm().is_complete() {
            self.step();
        }
    }

    fn is_complete(&self) -> bool {
        self.transfer.swarm().is_complete()
    }

    fn requests(&self, matches: impl Fn(&Get) -> bool) -> usize {
        self.log.iter().filter(|(_, _, get)| matches(get)).count()
    }

    /// The most requests that began within `time`.
    fn most_within(&self, time: Duration) -> usize {
        let starts = self.log.iter().map(|(at, ..)| *at);
        starts
            .map(|from| self.log.iter().filter(|(at, ..)| *at >= from && *at < from + time).count())
            .max()
            .unwrap_or(0)
    }
}

const FILES: SeedKind = SeedKind::Files;
const HOUR: Duration = Duration::from_secs(3600);

fn refused(status: u16) -> Reply {
    Reply::Fault(Fault::Refused(format!("HTTP status {status}")))
}

fn missing() -> Reply {
    Reply::Fault(Fault::Missing("HTTP status 404".to_owned()))
}

#[test]
fn a_web_seed_alone_is_enough_and_is_asked_for_long_runs_over_few_connections() {
    for piece_length in [16 << 10, 256 << 10, 4 << 20] {
        let torrent = torrent(&[64 * MIB + 12345], piece_length);
        let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], |_, _| Reply::Good);
        bench.run_for(HOUR);
        assert!(bench.is_complete(), "pieces of {piece_length}");
        assert_eq!(bench.log.len(), 17, "runs of 4 MiB");
        let bytes: u64 = bench.log.iter().map(|(_, _, get)| get.range.end - get.range.start).sum();
        assert_eq!(bytes, 64 * MIB + 12345, "nothing is fetched twice");
        assert_eq!(bench.most_open, 4);
        assert_eq!(bench.told, []);
        bench.perform();
        assert!(bench.open.is_empty(), "nothing is left to fetch");
    }
}

#[test]
fn the_files_of_a_run_are_asked_for_one_by_one_and_whole_ones_without_a_range() {
    let torrent = torrent(&[100_000, 3 * MIB, 0, 5 * MIB, 7], 256 << 10);
    let mut bench = Bench::new(&torrent, &[("http://h/", FILES)], |_, _| Reply::Good);
    bench.run_for(HOUR);
    assert!(bench.is_complete());
    let of = |file| bench.log.iter().filter(move |(_, _, get)| get.url == format!("http://h/n/f{file:03}"));
    assert_eq!((of(0).count(), of(1).count(), of(2).count(), of(4).count()), (1, 1, 0, 1));
    assert!(of(0).chain(of(1)).chain(of(4)).all(|(_, _, get)| get.manner == Manner::Whole));
    assert!(
        of(3).count() <= 3 && of(3).all(|(_, _, get)| get.manner == Manner::Range && get.size == 5 * MIB)
    );
}

#[test]
fn a_file_that_is_not_there_is_asked_for_once_and_comes_from_another_seed() {
    let torrent = torrent(&[MIB, MIB, 8 * MIB], 256 << 10);
    let answer = |_, get: &Get| if get.url == "http://a/n/f001" { missing() } else { Reply::Good };
    let mut bench = Bench::new(&torrent, &[("http://a/", FILES), ("http://b/", FILES)], answer);
    bench.run_for(HOUR);
    assert!(bench.is_complete());
    assert!(bench.requests(|get| get.url == "http://a/n/f001") <= 1);
    let answer = |_, get: &Get| if get.url == "http://a/n/f001" { missing() } else { Reply::Good };
    let mut alone = Bench::new(&torrent, &[("http://a/", FILES)], answer);
    alone.run_for(HOUR);
    assert_eq!(alone.transfer.swarm().have().count(), 36, "all but the pieces of that file");
    assert_eq!(alone.requests(|get| get.url == "http://a/n/f001"), 1);
    let told = "HTTP status 404; this file is not asked for there any more";
    assert_eq!(alone.told, [("http://a/n/f001".to_owned(), told.to_owned())]);
}

#[test]
fn a_server_that_says_no_is_never_stormed() {
    let torrent = torrent(&[MIB; 200], 256 << 10);
    for (reply, least) in [(missing(), 200), (refused(400), 8), (refused(500), 8)] {
        let answered = reply.clone();
        let mut bench = Bench::new(&torrent, &[("http://h/", FILES)], move |_, _| answered.clone());
        bench.run_for(HOUR);
        assert!(bench.most_within(Duration::from_secs(6)) <= 6, "{reply:?}");
        assert!(bench.log.len() >= least, "{reply:?}: asked {} times in an hour", bench.log.len());
    }
    let one = self::torrent(&[64 * MIB], 256 << 10);
    let mut after = 0;
    let mut bench = Bench::new(&one, &[("http://h/f", FILES)], move |_, _| {
        after += 1;
        if after <= 5 { Reply::Good } else { refused(400) }
    });
    bench.run_for(HOUR);
    assert!(bench.most_within(Duration::from_secs(6)) - 5 <= 6, "while several connections are open");
}

#[test]
fn pauses_after_errors_grow_to_ten_minutes_and_an_answer_ends_them() {
    let torrent = torrent(&[64 * MIB], 256 << 10);
    for error in [refused(500), Reply::Cut(0)] {
        let start = Instant::now();
        let reply = error.clone();
        let answer = move |now: Instant, _: &Get| {
            if now > start + 2 * HOUR { Reply::Good } else { reply.clone() }
        };
        let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], answer);
        bench.run_for(2 * HOUR);
        let times: Vec<u64> = bench.log.iter().map(|(at, ..)| at.as_secs()).collect();
        let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses[..11], [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600], "{error:?}");
        bench.run_for(HOUR);
        assert!(bench.is_complete());
    }
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_says_and_lacks_nothing() {
    let torrent = torrent(&[MIB, 16 * MIB], 256 << 10);
    let mut asked = 0;
    let answer = move |_, _: &Get| {
        asked += 1;
        if asked == 1 {
            Reply::Fault(Fault::Busy(Some(1234), "HTTP status 503".to_owned()))
        } else {
            Reply::Good
        }
    };
    let mut bench = Bench::new(&torrent, &[("http://h/", FILES)], answer);
    bench.run_for(HOUR);
    assert!(bench.is_complete());
    assert!(bench.log[1].0 >= Duration::from_secs(1234));
    assert_eq!(bench.told[0].1, "HTTP status 503: asked again in 1234 s");
}

#[test]
fn who_does_not_let_us_in_is_set_aside() {
    let torrent = torrent(&[MIB, 16 * MIB], 256 << 10);
    let answer = |_, _: &Get| Reply::Fault(Fault::Denied("HTTP status 403".to_owned()));
    let mut bench = Bench::new(&torrent, &[("http://u:secret@h/", FILES)], answer);
    bench.run_for(HOUR);
    assert_eq!(bench.log.len(), 1);
    assert!(!format!("{:?}", bench.told).contains("secret") && bench.told[0].1.contains("set aside"));
    assert!(bench.open.is_empty());
}

#[test]
fn a_connection_that_is_closed_at_any_point_costs_at_most_a_block() {
    let torrent = torrent(&[16 * MIB], 256 << 10);
    for most in [16_384, 16_385, 100_000, 3 * MIB] {
        let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], move |_, _| Reply::Cut(most));
        bench.run_for(HOUR);
        assert!(bench.is_complete(), "{most}");
        let requests = 16 * MIB / (most / 16_384 * 16_384);
        assert!(bench.log.len() as u64 <= 2 * requests + 4, "{most}: {} requests", bench.log.len());
    }
}

#[test]
fn a_file_of_which_a_piece_is_corrupt_is_not_asked_for_any_more_and_the_data_are_right_in_the_end() {
    let torrent = torrent(&[4 * MIB, 4 * MIB, 24 * MIB], 256 << 10);
    let answer = |_, get: &Get| if get.url == "http://a/n/f001" { Reply::Corrupt } else { Reply::Good };
    let mut bench = Bench::new(&torrent, &[("http://a/", FILES)], answer);
    bench.run_for(HOUR);
    assert_eq!(bench.transfer.swarm().have().count(), 112, "the other two files");
    assert_eq!(bench.requests(|get| get.url == "http://a/n/f001"), 1);
    assert!(bench.told[0].1.starts_with("sent corrupt data of piece 16; this file"), "{:?}", bench.told);
    let answer = |_, get: &Get| if get.url == "http://a/n/f001" { Reply::Corrupt } else { Reply::Good };
    let mut bench = Bench::new(&torrent, &[("http://a/", FILES), ("http://b/", FILES)], answer);
    bench.run_for(HOUR);
    assert!(bench.is_complete());
}

#[test]
fn a_seed_that_lies_about_several_files_is_set_aside() {
    let torrent = torrent(&[MIB; 20], 256 << 10);
    let answer = |_, get: &Get| if get.url.starts_with("http://a/") { Reply::Corrupt } else { Reply::Good };
    let mut bench = Bench::new(&torrent, &[("http://a/", FILES), ("http://b/", FILES)], answer);
    bench.run_for(HOUR);
    assert!(bench.is_complete());
    assert!(bench.told.iter().any(|(url, reason)| url == "http://a/" && reason.contains("set aside")));
    assert!(bench.open.iter().all(|key| key.seed == PeerKey(1001)));
}

#[test]
fn pieces_of_several_files_do_not_make_their_files_suspect() {
    let files = [40_000u64; 100];
    let torrent = torrent(&files, 256 << 10);
    let answer = |_, get: &Get| if get.url == "http://a/n/f050" { Reply::Corrupt } else { Reply::Good };
    let mut bench = Bench::new(&torrent, &[("http://a/", FILES)], answer);
    bench.run_for(HOUR);
    let pieces = bench.layout.num_pieces();
    assert!(bench.transfer.swarm().have().count() >= pieces - 2, "{:?}", bench.told);
    assert!(bench.failed <= 2);
}

#[test]
fn by_bep_17_each_piece_is_a_request_and_parts_of_it_are_ranges() {
    let torrent = torrent(&[8 * MIB], 1 << 20);
    let mut bench = Bench::new(&torrent, &[("http://h/s.php", SeedKind::Pieces)], |_, _| Reply::Good);
    bench.run_for(HOUR);
    assert!(bench.is_complete());
    assert_eq!(bench.log.len(), 8);
    assert!(
        bench.log.iter().all(|(_, _, get)| get.manner == Manner::RangeInUrl && !get.url.contains("ranges"))
    );
    let mut pieces: Vec<Item> = bench.log.iter().map(|(_, _, get)| get.item).collect();
    pieces.sort();
    pieces.dedup();
    assert_eq!(pieces.len(), 8);
}

#[test]
fn by_bep_17_a_piece_that_is_not_there_keeps_no_other_from_being_fetched() {
    let torrent = torrent(&[8 * MIB], 1 << 20);
    let first = Item::Piece(PieceIndex(0));
    let answer = move |_: Instant, get: &Get| if get.item == first { missing() } else { Reply::Good };
    let mut bench = Bench::new(&torrent, &[("http://h/s.php", SeedKind::Pieces)], answer);
    bench.run_for(Duration::from_secs(60));
    assert_eq!(bench.transfer.swarm().have().count(), 7, "{:?}", bench.told);
    let asked = bench.requests(|get| get.item == first);
    assert!((2..10).contains(&asked), "{asked}: now and then");
}

#[test]
fn while_paused_nothing_is_asked_for_and_then_it_goes_on() {
    let torrent = torrent(&[64 * MIB], 256 << 10);
    let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], |_, _| Reply::Good);
    bench.step();
    bench.step();
    for state in [State::Paused, State::Stopped] {
        bench.transfer.handle(bench.now, Input::Enter(state));
        bench.perform();
        assert!(bench.open.is_empty() && bench.running.is_empty(), "{state:?}");
        let before = bench.log.len();
        bench.now += HOUR;
        bench.perform();
        assert_eq!(bench.log.len(), before);
        bench.transfer.handle(bench.now, Input::Enter(State::Started));
        bench.step();
    }
    bench.run_for(HOUR);
    assert!(bench.is_complete());
}

#[test]
fn a_connection_without_anything_to_do_is_closed() {
    let torrent = torrent(&[MIB, MIB], 256 << 10);
    let answer = |_, get: &Get| if get.url == "http://h/n/f001" { missing() } else { Reply::Good };
    let mut bench = Bench::new(&torrent, &[("http://h/", FILES)], answer);
    bench.run_for(Duration::from_secs(60));
    assert!(bench.open.is_empty());
    assert_eq!(bench.transfer.swarm().have().count(), 4);
}

/// A peer that has everything and unchokes us.
fn connect_seed(bench: &mut Bench) -> PeerKey {
    let peer = PeerKey(1);
    let hello = Hello {
        peer,
        address: ([10, 0, 0, 1], 6881).into(),
        direction: Direction::Out,
        transport: "tcp",
        reserved: Reserved::FAST,
        peer_id: PeerId([b'p'; 20]),
        encryption: Default::default(),
        was_greeted: false,
    };
    bench.transfer.handle(bench.now, Input::Connected(hello));
    bench.transfer.handle(bench.now, Input::Message(peer, Message::HaveAll));
    bench.transfer.handle(bench.now, Input::Message(peer, Message::Unchoke));
    bench.perform();
    peer
}

/// The peer sends what it was asked for.
fn serve(bench: &mut Bench, peer: PeerKey) {
    for block in std::mem::take(&mut bench.asked_of_peer) {
        bench.transfer.on_block(bench.now, peer, block, BlockData::new(block.length));
    }
    bench.perform();
}

#[test]
fn a_fast_peer_is_not_held_up_by_a_web_seed_that_has_died() {
    let torrent = torrent(&[32 * MIB], 256 << 10);
    let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], |_, _| Reply::Good);
    bench.perform();
    assert_eq!(bench.running.len(), 1, "its first run is under way, and never comes");
    let peer = connect_seed(&mut bench);
    for _ in 0..20_000 {
        bench.now += TICK;
        serve(&mut bench, peer);
        if bench.is_complete() {
            break;
        }
    }
    assert!(bench.is_complete(), "{} pieces", bench.transfer.swarm().have().count());
    assert!(bench.now - bench.start < Duration::from_secs(60));
    assert!(bench.open.is_empty());
}

#[test]
fn a_web_seed_takes_over_what_a_peer_has_been_asked_for_and_does_not_send() {
    let torrent = torrent(&[16 * MIB], 256 << 10);
    let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], |_, _| Reply::Good);
    connect_seed(&mut bench);
    assert!(!bench.asked_of_peer.is_empty(), "and it never answers");
    bench.run_for(Duration::from_secs(120));
    assert!(bench.is_complete(), "{} pieces", bench.transfer.swarm().have().count());
}

#[test]
fn a_peer_and_a_web_seed_share_the_pieces() {
    let torrent = torrent(&[64 * MIB], 256 << 10);
    let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], |_, _| Reply::Good);
    let peer = connect_seed(&mut bench);
    while !bench.is_complete() {
        bench.step();
        serve(&mut bench, peer);
    }
    let from_web: u64 = bench.log.iter().map(|(_, _, get)| get.range.end - get.range.start).sum();
    assert!(from_web > 16 * MIB && from_web < 64 * MIB, "{from_web}");
    assert!(bench.transfer.swarm().totals(bench.now).wasted < 4 * MIB);
}

#[test]
fn in_order_a_web_seed_finishes_the_first_piece_that_a_peer_has_left() {
    let torrent = torrent(&[64 * MIB], 1 << 20);
    let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], |_, _| Reply::Good);
    bench.transfer.handle(bench.now, Input::Order(Order::Sequential));
    bench.transfer.handle(bench.now, Input::Enter(State::Paused));
    let peer = connect_seed(&mut bench);
    bench.transfer.handle(bench.now, Input::Enter(State::Started));
    // The peer is asked before the web seed, and then chokes.
    let mut asked = Vec::new();
    while let Some(output) = bench.transfer.poll(bench.now) {
        if let Output::Send(_, Message::Request(block)) = output {
            asked.push(block);
        }
    }
    assert!(asked.iter().any(|block| block.piece == PieceIndex(0)));
    bench.transfer.handle(bench.now, Input::Message(peer, Message::Choke));
    for block in asked {
        bench.transfer.handle(bench.now, Input::Message(peer, Message::Reject(block)));
    }
    bench.perform();
    let first = bench.running.values().next().expect("a run").job.blocks[0];
    assert_eq!((first.piece, first.begin), (PieceIndex(0), 0));
}

#[test]
fn a_server_of_whole_files_alone_sends_each_once_beside_a_peer_that_is_slow() {
    for piece_length in [64 << 10, 1 << 20, 16 << 20] {
        let torrent = torrent(&[20 * MIB, 30 * MIB, 3 * MIB], piece_length);
        let mut bench = Bench::new(&torrent, &[("http://h/", FILES)], |_, _| Reply::Whole);
        let peer = connect_seed(&mut bench);
        assert!(!bench.asked_of_peer.is_empty());
        for step in 0..100_000 {
            bench.step();
            // 32 KiB a second.
            if step % 50 == 0 && !bench.asked_of_peer.is_empty() {
                let block = bench.asked_of_peer.remove(0);
                bench.transfer.on_block(bench.now, peer, block, BlockData::new(block.length));
                bench.perform();
            }
            if bench.is_complete() {
                break;
            }
        }
        assert!(bench.is_complete(), "{} pieces of {piece_length}", bench.transfer.swarm().have().count());
        let sent = bench.sent_whole;
        // What the peer owes may be asked for again, once it has shown how slow it is.
        assert!(sent <= 60 * MIB, "pieces of {piece_length}: {sent} bytes for {}", 53 * MIB);
    }
}

#[test]
fn a_host_without_a_place_keeps_no_other_from_being_asked() {
    let torrent = torrent(&[64 * MIB], 256 << 10);
    let urls = [("http://full/f", FILES), ("http://a/f", FILES), ("http://b/f", FILES)];
    let mut bench = Bench::new(&torrent, &urls, |_, _| Reply::Good);
    let mut opened = Vec::new();
    while let Some(task) = bench.transfer.poll_web(bench.now, |host| match host {
        "full" => Place::HostTaken,
        _ => Place::Free,
    }) {
        if let WebTask::Open(_, opening) = task {
            opened.push(opening.host);
        }
    }
    opened.sort();
    assert_eq!(opened, ["a", "b"]);
}

#[test]
fn seeds_that_do_not_answer_give_their_places_to_one_that_waits() {
    let torrent = torrent(&[64 * MIB], 256 << 10);
    let dead: Vec<String> = (0..6).map(|number| format!("http://dead{number}/f")).collect();
    let mut urls: Vec<(&str, SeedKind)> = dead.iter().map(|url| (&url[..], FILES)).collect();
    urls.push(("http://good/f", FILES));
    let refuses = |_: Instant, get: &Get| match get.url.contains("dead") {
        true => Reply::Fault(Fault::Refused("HTTP status 500".to_owned())),
        false => Reply::Good,
    };
    let mut bench = Bench::new(&torrent, &urls, refuses);
    bench.places = 4;
    bench.run_for(Duration::from_secs(5));
    assert!(bench.is_complete(), "behind seeds that refuse");

    let mut bench = Bench::new(&torrent, &urls, |_, _| Reply::Good);
    bench.places = 4;
    let (begin, good) = (bench.now, PeerKey(1006));
    while !bench.running.keys().any(|key| key.seed == good) {
        assert!(bench.now - begin < Duration::from_secs(20), "behind seeds that are silent");
        bench.perform();
        bench.now += Duration::from_millis(100);
    }
    assert!(bench.now - begin > Duration::from_secs(4), "they have their time");
}

#[test]
fn web_seeds_that_are_silent_keep_no_other_from_being_asked_for_the_last_blocks() {
    let torrent = torrent(&[3 * MIB], 64 << 10);
    let silent: Vec<String> = (0..12).map(|number| format!("http://silent{number}/f")).collect();
    let mut urls: Vec<(&str, SeedKind)> = silent.iter().map(|url| (&url[..], FILES)).collect();
    urls.push(("http://good/f", FILES));
    let mut bench = Bench::new(&torrent, &urls, |_, _| Reply::Good);
    let (begin, good) = (bench.now, PeerKey(1012));
    while !bench.running.keys().any(|key| key.seed == good) {
        assert!(bench.now - begin < Duration::from_secs(20));
        bench.perform();
        bench.now += Duration::from_millis(50);
    }
    bench.running.retain(|key, _| key.seed == good);
    bench.run_for(Duration::from_secs(10));
    assert!(bench.is_complete(), "{} pieces", bench.transfer.swarm().have().count());
}

#[test]
fn a_server_that_sends_next_to_nothing_loses_its_run_to_another_and_is_asked_less_and_less_often() {
    let torrent = torrent(&[16 * MIB], 256 << 10);
    let urls = [("http://slow/f", FILES), ("http://good/f", FILES)];
    let mut bench = Bench::new(&torrent, &urls, |_, _| Reply::Good);
    bench.perform();
    let slow = |bench: &Bench| bench.running.keys().copied().find(|key| key.seed == PeerKey(1000));
    let mut runs = Vec::new();
    for _ in 0..4 {
        let key = slow(&bench).expect("it is asked");
        let mut job = bench.running.remove(&key).unwrap().job;
        // It begins well each time.
        let first = job.blocks.remove(0);
        bench.transfer.on_web_block(bench.now, key, first, BlockData::new(first.length));
        runs.extend(job.blocks);
        bench.now += Duration::from_secs(60);
        bench.transfer.on_web_lull(bench.now, key);
        bench.perform();
        assert!(!bench.open.contains(&key) && slow(&bench).is_none());
        bench.now += Duration::from_secs(9);
        bench.perform();
    }
    let reasons = bench.told.iter().filter(|(url, _)| url.contains("slow")).map(|(_, reason)| &reason[..]);
    let pauses = [1, 2, 4, 8].map(|pause| format!("sends next to nothing: asked again in {pause} s"));
    assert!(reasons.eq(pauses.iter().map(|pause| &pause[..])), "{:?}", bench.told);
    // What it never sent comes from the other.
    bench.running.retain(|key, _| key.seed != PeerKey(1000));
    bench.run_for(Duration::from_secs(60));
    assert!(bench.is_complete());
}

#[test]
fn a_server_that_has_once_refused_a_connection_is_tried_with_more_after_a_while() {
    let torrent = torrent(&[512 * MIB], 1 << 20);
    let mut asked = 0;
    let server = move |_: Instant, _: &Get| {
        asked += 1;
        // While the three others bring something.
        if asked == 9 { refused(500) } else { Reply::Good }
    };
    let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], server);
    let (mut soon, mut later) = (0, 0);
    while !bench.is_complete() {
        bench.step();
        match bench.log.len() {
            10..=13 => soon = soon.max(bench.running.len()),
            100.. => later = later.max(bench.running.len()),
            _ => {}
        }
    }
    assert!((1..CONNECTIONS).contains(&soon), "{soon} connections: it was spared for a while");
    assert_eq!(later, CONNECTIONS);
}

#[test]
fn the_zeros_of_pad_files_are_not_counted_as_received() {
    let bytes = b"d4:infod5:filesld6:lengthi100e4:pathl1:aeed4:attr1:p6:lengthi16284e4:pathl4:.pad5:16284eed6:lengthi100e4:pathl1:beee4:name1:n12:piece lengthi16384e6:pieces40:";
    let bytes = [&bytes[..], &[7; 40], b"ee"].concat();
    let torrent = Metainfo::parse(&bytes).unwrap();
    assert_eq!(torrent.layout.total(), 16384 + 100);
    let mut bench = Bench::new(&torrent, &[("http://h/", FILES)], |_, _| Reply::Good);
    bench.run_for(Duration::from_secs(60));
    assert!(bench.is_complete());
    assert_eq!(bench.transfer.swarm().totals(bench.now).downloaded, 200);
}

#[test]
fn in_order_a_web_seed_takes_over_the_urgent_piece_of_a_peer_that_is_slow() {
    let torrent = torrent(&[64 * MIB], 1 << 20);
    let mut bench = Bench::new(&torrent, &[("http://h/f", FILES)], |_, _| Reply::Good);
    bench.transfer.handle(bench.now, Input::Order(Order::Sequential));
    bench.transfer.handle(bench.now, Input::Enter(State::Paused));
    let peer = connect_seed(&mut bench);
    bench.transfer.handle(bench.now, Input::Enter(State::Started));
    let mut asked = Vec::new();
    while let Some(output) = bench.transfer.poll(bench.now) {
        if let Output::Send(_, Message::Request(block)) = output {
            asked.push(block);
        }
    }
    assert!(asked.iter().any(|block| block.piece == PieceIndex(0)));
    // It goes on sending, a block in five seconds, and not those of the first piece.
    let mut others: Vec<Block> = asked.into_iter().filter(|block| block.piece != PieceIndex(0)).collect();
    let begin = bench.now;
    while !bench.transfer.swarm().have().contains(PieceIndex(0)) {
        assert!(bench.now - begin < Duration::from_secs(60), "the first piece is held up");
        let next = bench.now + Duration::from_secs(5);
        while bench.now < next && !bench.transfer.swarm().have().contains(PieceIndex(0)) {
            bench.step();
        }
        if let Some(block) = others.pop() {
            bench.transfer.on_block(bench.now, peer, block, BlockData::new(block.length));
        }
    }
}
