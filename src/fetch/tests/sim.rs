//! A swarm in virtual time, of which one client has the metadata.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const CLIENTS: usize = 50;
const LIARS: usize = 20;
/// Clients that go away while they fetch.
const LEAVERS: usize = 10;

/// From one end of a connection to the other.
const LATENCY: Duration = Duration::from_millis(50);

/// How long a hash takes.
const HASHING: Duration = Duration::from_millis(10);

/// The longest that liars can hold up a client that is connected to an honest peer that has the metadata: as long as its requests
/// lie with the silent ([`FETCH_PATIENCE`]), and as long as the places of all candidates are taken by those (6 s at a time, and
/// each time at least eight places are given to others, so twice for all liars and honest neighbours); with a second for the
/// ways of the messages.
const PER_HOP: Duration = Duration::from_secs(5 + 2 * 6 + 1);

#[derive(Debug)]
enum Said {
    Handshake(PeerMetadata),
    Message(MetadataMessage),
    Gone,
    Verdict(Ticket, bool),
    /// Look at the clock.
    Wake,
    /// Go away.
    Leave,
}

/// What a client or a liar is.
struct Node {
    fetch: Fetch,
    server: MetadataServer,
    neighbours: BTreeSet<usize>,
    done: Option<Duration>,
}

struct Sim {
    start: Instant,
    now: Instant,
    /// When, in what order, from whom, to whom.
    queue: BinaryHeap<Reverse<(Instant, usize, usize, usize)>>,
    said: Vec<Option<Said>>,
    nodes: Vec<Node>,
    wanted: Arc<[u8]>,
    gone: BTreeSet<usize>,
    rng: fastrand::Rng,
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = fastrand::Rng::with_seed(seed);
        let wanted: Arc<[u8]> = metadata(100_000).into();
        let total = CLIENTS + LEAVERS + LIARS;
        let node = |which: usize| Node {
            fetch: Fetch::new(),
            server: MetadataServer::new((which == 0).then(|| Arc::clone(&wanted))),
            neighbours: BTreeSet::new(),
            done: (which == 0).then_some(Duration::ZERO),
        };
        let mut nodes: Vec<Node> = (0..total).map(node).collect();
        let mut connect = |one: usize, other: usize| {
            if one != other {
                nodes[one].neighbours.insert(other);
                nodes[other].neighbours.insert(one);
            }
        };
        for client in 0..CLIENTS {
            // A chain, so that it is one swarm without the leavers; and some more.
            connect(client, (client + 1).min(CLIENTS - 1));
            (0..2).for_each(|_| connect(client, rng.usize(..CLIENTS + LEAVERS)));
            (0..8).for_each(|_| connect(client, CLIENTS + LEAVERS + rng.usize(..LIARS)));
        }
        for leaver in CLIENTS..CLIENTS + LEAVERS {
            (0..6).for_each(|_| connect(leaver, rng.usize(..CLIENTS)));
        }
        let start = Instant::now();
        let (queue, said, gone) = (BinaryHeap::new(), Vec::new(), BTreeSet::new());
        let mut sim = Sim { start, now: start, queue, said, nodes, wanted, gone, rng };
        for node in 0..total {
            for other in sim.nodes[node].neighbours.clone() {
                let told = PeerMetadata { offered: true, size: sim.size_told_by(node) };
                sim.say(node, other, LATENCY, Said::Handshake(told));
            }
        }
        for leaver in CLIENTS..CLIENTS + LEAVERS {
            let after = Duration::from_millis(sim.rng.u64(100..3000));
            sim.say(leaver, leaver, after, Said::Leave);
        }
        sim
    }

    fn say(&mut self, from: usize, to: usize, after: Duration, said: Said) {
        self.queue.push(Reverse((self.now + after, self.said.len(), from, to)));
        self.said.push(Some(said));
    }

    fn lie_of(node: usize) -> Option<usize> {
        node.checked_sub(CLIENTS + LEAVERS)
    }

    fn size_told_by(&self, node: usize) -> Option<i64> {
        let right = self.wanted.len() as i64;
        match Sim::lie_of(node).map(|liar| liar % 10) {
            None => self.nodes[node].server.size(),
            Some(2) => Some(31_457_280 - node as i64),
            Some(3) => Some(10_000 + node as i64),
            Some(7) => None,
            Some(9) => Some(0),
            Some(_) => Some(right),
        }
    }

    /// What a liar does when it is asked.
    fn lie(&mut self, liar: usize, to: usize, piece: u32) {
        let size = self.size_told_by(liar).unwrap_or(self.wanted.len() as i64);
        let length = piece_length(size as u32, piece).unwrap_or_default();
        let right = self.wanted.chunks(PIECE).nth(piece as usize).unwrap_or_default().to_vec();
        let data = |total_size, data| {
            Said::Message(MetadataMessage::Data { piece, total_size: Some(total_size), data })
        };
        let (after, said) = match Sim::lie_of(liar).map_or(0, |liar| liar % 10) {
            // Silent.
            0 => return,
            // Wrong all through, or in one piece.
            1 => (LATENCY, data(size, vec![7; length])),
            8 => (LATENCY, data(size, if piece == 3 { vec![7; length] } else { right })),
            // So slowly that it ends only in hours.
            2 => (Duration::from_millis(4900), data(size, vec![7; length])),
            3 => (LATENCY, data(size, vec![7; length])),
            4 => (LATENCY, Said::Message(MetadataMessage::Reject { piece })),
            5 => {
                self.say(liar, to, LATENCY, data(size, right.clone()));
                (LATENCY, data(size, right))
            }
            6 => (LATENCY, data(size, vec![7; length + 1])),
            7 => (LATENCY, data(size + i64::from(piece) + 1, vec![7; PIECE])),
            _ => (LATENCY, Said::Message(MetadataMessage::Reject { piece: piece + 1 })),
        };
        self.say(liar, to, after, said);
    }

    fn part(&mut self, one: usize, other: usize) {
        if self.nodes[one].neighbours.remove(&other) {
            self.nodes[other].neighbours.remove(&one);
            self.say(one, other, LATENCY, Said::Gone);
            self.say(other, one, Duration::ZERO, Said::Gone);
        }
    }

    /// Lets a client hear something, and does what it says then.
    fn deliver(&mut self, from: usize, to: usize, said: Said) {
        let key = PeerKey(from as u64);
        let now = self.now;
        if Sim::lie_of(to).is_some() {
            if let Said::Message(MetadataMessage::Request { piece }) = said {
                self.lie(to, from, piece);
            }
            return;
        }
        if let Said::Leave = said {
            self.gone.insert(to);
            for other in self.nodes[to].neighbours.clone() {
                self.part(to, other);
            }
            return;
        }
        let connected = self.nodes[to].neighbours.contains(&from) || from == to || matches!(said, Said::Gone);
        if self.gone.contains(&to) || !connected {
            return;
        }
        let node = &mut self.nodes[to];
        match said {
            Said::Message(MetadataMessage::Request { piece }) => {
                if let Some(answer) = node.server.on_request(now, key, piece) {
                    self.say(to, from, LATENCY, Said::Message(answer));
                }
            }
            Said::Message(message) => node.fetch.handle(now, FetchInput::Message(key, message)),
            Said::Handshake(told) => node.fetch.handle(now, FetchInput::Handshake(key, told)),
            Said::Gone => node.fetch.handle(now, FetchInput::Gone(key)),
            Said::Verdict(ticket, passed) => node.fetch.handle(now, FetchInput::Verdict(ticket, passed)),
            Said::Wake | Said::Leave => {}
        }
        if self.nodes[to].server.size().is_none() {
            self.perform(to);
        }
    }

    fn perform(&mut self, client: usize) {
        let now = self.now;
        while let Some(output) = self.nodes[client].fetch.poll(now) {
            match output {
                FetchOutput::Request { peer, piece } => {
                    let request = MetadataMessage::Request { piece };
                    self.say(client, peer.0 as usize, LATENCY, Said::Message(request));
                }
                FetchOutput::NotAsked { peer, .. } => assert!(Sim::lie_of(peer.0 as usize).is_some()),
                FetchOutput::Close { peer, why } => {
                    let other = peer.0 as usize;
                    assert!(Sim::lie_of(other).is_some(), "client {client} closes the honest {other}: {why}");
                    self.part(client, other);
                }
                FetchOutput::Verify(ticket, bytes) => {
                    let passed = bytes == self.wanted;
                    self.say(client, client, HASHING, Said::Verdict(ticket, passed));
                }
                FetchOutput::Done(bytes) => {
                    assert_eq!(bytes, self.wanted);
                    self.nodes[client].done = Some(now - self.start);
                    self.nodes[client].server.set(bytes);
                    let told = PeerMetadata { offered: true, size: self.size_told_by(client) };
                    for other in self.nodes[client].neighbours.clone() {
                        self.say(client, other, LATENCY, Said::Handshake(told));
                    }
                }
            }
        }
        if let Some(at) = self.nodes[client].fetch.deadline() {
            assert!(at > now);
            self.say(client, client, at - now, Said::Wake);
        }
    }

    /// Hops from the client that has the metadata, along those that stay.
    fn depths(&self) -> Vec<u32> {
        let mut depths = vec![u32::MAX; CLIENTS];
        depths[0] = 0;
        let mut next = VecDeque::from([0]);
        while let Some(client) = next.pop_front() {
            for &other in self.nodes[client].neighbours.iter().filter(|&&other| other < CLIENTS) {
                if depths[other] == u32::MAX {
                    depths[other] = depths[client] + 1;
                    next.push_back(other);
                }
            }
        }
        depths
    }

    fn run(&mut self, until: Duration) {
        while let Some(Reverse((at, number, from, to))) = self.queue.pop() {
            self.now = at;
            if at - self.start > until || self.nodes[..CLIENTS].iter().all(|client| client.done.is_some()) {
                return;
            }
            if let Some(said) = self.said[number].take() {
                self.deliver(from, to, said);
            }
        }
    }
}

#[test]
fn fifty_clients_get_what_one_has_among_liars_and_leavers() {
    for seed in 0..5 {
        let mut sim = Sim::new(seed);
        let depths = sim.depths();
        let deepest = depths.iter().max().copied().unwrap_or_default();
        sim.run(2 * PER_HOP * deepest + Duration::from_secs(1));
        for (client, depth) in depths.into_iter().enumerate() {
            let bound = 2 * PER_HOP * depth;
            let done = sim.nodes[client].done;
            assert!(
                done.is_some_and(|done| done <= bound),
                "seed {seed}: client {client} at {depth}: {done:?}"
            );
        }
    }
}
